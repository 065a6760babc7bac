#include "output.h"

#include "base/mem.h"
#include "chunk.h"
#include "filter.h"

#include <string.h>

#define INITIAL       4096u
#define LENGTH_SIZE   2u
#define PORTS_AND_TAG 8u

void dp_output_init(dp_output *o, size_t max) { *o = (dp_output){.max = max}; }

void dp_output_clear(dp_output *o)
{
    dp_free(o->bytes);
    dp_output_init(o, o->max);
}

static bool reserve(dp_output *o, size_t more)
{
    if (o->len + more <= o->capacity)
        return true;
    if (o->head > 0) {
        memmove(o->bytes, o->bytes + o->head, o->len - o->head);
        o->len -= o->head;
        o->last -= o->head;
        o->head = 0;
    }
    size_t needed = o->len + more;
    return dp_grow((void **)&o->bytes, &o->capacity, needed < INITIAL ? INITIAL : needed, o->max, 1) == DP_OK;
}

static void write_length(dp_output *o, size_t at, size_t len)
{
    o->bytes[at] = (uint8_t)(len >> 8);
    o->bytes[at + 1] = (uint8_t)len;
}

/* RFC 9260 §6.10: control chunks stand before DATA, INIT and SHUTDOWN COMPLETE alone, ABORT behind no DATA. Only what
 * usrsctp itself puts before DATA all the time may have DATA behind it here. */
static bool may_bundle(const uint8_t *packet, size_t len)
{
    uint8_t first = packet[DP_SCTP_COMMON_HEADER];
    return len % 4 == 0 && (dp_chunk_is_data(first) || first == DP_CHUNK_SACK);
}

static bool bundle(dp_output *o, const uint8_t *packet, size_t len, size_t mtu)
{
    size_t more = len - DP_SCTP_COMMON_HEADER;
    if (!o->bundles || !dp_chunk_is_data(packet[DP_SCTP_COMMON_HEADER]) ||
        memcmp(o->bytes + o->last + LENGTH_SIZE, packet, PORTS_AND_TAG) != 0)
        return false;
    size_t both = o->len - o->last - LENGTH_SIZE + more;
    if (both > mtu || !reserve(o, more))
        return false;
    memcpy(o->bytes + o->len, packet + DP_SCTP_COMMON_HEADER, more);
    o->len += more;
    o->bundles = len % 4 == 0;
    write_length(o, o->last, both);
    return true;
}

void dp_output_add(dp_output *o, const uint8_t *packet, size_t len, size_t mtu)
{
    if ((len > DP_SCTP_COMMON_HEADER && bundle(o, packet, len, mtu)) || !reserve(o, LENGTH_SIZE + len))
        return;
    o->last = o->len;
    write_length(o, o->last, len);
    memcpy(o->bytes + o->last + LENGTH_SIZE, packet, len);
    o->len += LENGTH_SIZE + len;
    o->bundles = len > DP_SCTP_COMMON_HEADER && may_bundle(packet, len);
}

bool dp_output_poll(dp_output *o, const uint8_t **packet, size_t *len)
{
    if (o->head == o->len) {
        o->head = o->len = 0;
        return false;
    }
    uint8_t *at = o->bytes + o->head;
    *len = (size_t)at[0] << 8 | at[1];
    *packet = at + LENGTH_SIZE;
    dp_sctp_checksum_write(at + LENGTH_SIZE, *len);
    o->head += LENGTH_SIZE + *len;
    if (o->head == o->len)
        o->bundles = false; /* the newest is gone */
    return true;
}

void dp_output_shrink(dp_output *o)
{
    if (o->head == o->len)
        dp_output_clear(o);
}
