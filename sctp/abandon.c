#include "abandon.h"

#include "base/mem.h"
#include "chunk.h"

#include <string.h>

#define RING_MIN  16u
#define RING_MAX  65536u /* usrsctp holds fewer single bytes than that */
#define PPID_BITS 8u
#define TAG_MASK  0xffffffu
#define ENTRY     8u
#define PPID_AT   16u
#define U_BIT     1u /* of an entry */
#define WAIT_MIN  DP_MS(50)
#define WAIT_MAX  DP_SECONDS(2)
#define TRIES_MAX 6u

enum { LAST = 1, FIRST = 2, UNORDERED = 4 };

void dp_abandon_init(dp_abandon *a)
{
    memset(a, 0, sizeof *a);
    a->first = 1;
}

void dp_abandon_clear(dp_abandon *a)
{
    dp_free(a->ring);
    dp_free(a->streams);
    dp_abandon_init(a);
}

static dp_limited_message *at(const dp_abandon *a, uint32_t number)
{
    return &a->ring[number & (a->capacity - 1)];
}

dp_limited_message *dp_abandon_find(const dp_abandon *a, uint32_t number)
{
    return number == 0 || number - a->first >= a->count ? NULL : at(a, number);
}

static bool reserve(dp_abandon *a)
{
    if (a->count < a->capacity)
        return true;
    size_t capacity = a->capacity == 0 ? RING_MIN : 2 * a->capacity;
    dp_limited_message *ring =
        capacity > RING_MAX ? NULL : (dp_limited_message *)dp_calloc(capacity, sizeof *ring);
    if (ring == NULL)
        return false;
    for (size_t i = 0; i < a->count; i++)
        ring[(a->first + i) & (capacity - 1)] = *at(a, a->first + (uint32_t)i);
    dp_free(a->ring);
    a->ring = ring;
    a->capacity = capacity;
    return true;
}

static dp_abandon_stream *stream_of(dp_abandon *a, uint16_t stream)
{
    size_t had = a->stream_capacity;
    if (stream >= had) {
        if (dp_grow((void **)&a->streams, &a->stream_capacity, stream + 1u, UINT16_MAX + 1u,
                    sizeof *a->streams) != DP_OK)
            return NULL;
        memset(a->streams + had, 0, (a->stream_capacity - had) * sizeof *a->streams);
    }
    return &a->streams[stream];
}

/* ---- handing over -------------------------------------------------------------------------------- */

int dp_abandon_begin(dp_abandon *a, uint32_t *number, uint16_t stream, uint32_t retransmits, dp_time expires)
{
    dp_abandon_stream *s = stream_of(a, stream);
    if (s == NULL || (s->handed == 0 && !reserve(a)))
        return DP_ERR_NO_MEMORY;
    if (s->handed == 0) {
        s->handed = a->first + (uint32_t)a->count++;
        *at(a, s->handed) =
            (dp_limited_message){.stream = stream, .retransmits = retransmits, .expires = expires};
    }
    *number = s->handed;
    return DP_OK;
}

void dp_abandon_take_back(dp_abandon *a, uint16_t stream)
{
    a->count--;
    dp_abandon_end(a, stream);
}

void dp_abandon_end(dp_abandon *a, uint16_t stream)
{
    if (stream < a->stream_capacity)
        a->streams[stream].handed = 0;
}

/* One number in 2^24 does not show: that message is reliable. */
uint32_t dp_abandon_ppid(uint32_t ppid, uint32_t number) { return ppid | (number & TAG_MASK) << PPID_BITS; }

/* ---- leaving ------------------------------------------------------------------------------------- */

static uint32_t take_tag(const dp_abandon *a, uint8_t *ppid)
{
    dp_rd rd = dp_rd_init(ppid, 4);
    uint32_t tag = dp_rd_u32(&rd) >> PPID_BITS;
    memset(ppid, 0, 3);
    return tag == 0 ? 0 : a->first + ((tag - a->first) & TAG_MASK);
}

uint32_t dp_abandon_output(dp_abandon *a, uint8_t *chunk, size_t len, bool fresh)
{
    if (len < DP_SCTP_I_DATA_HEADER)
        return 0;
    uint8_t flags = chunk[1];
    dp_rd rd = dp_rd_init(chunk + DP_SCTP_CHUNK_HEADER, len - DP_SCTP_CHUNK_HEADER);
    uint32_t tsn = dp_rd_u32(&rd);
    uint16_t stream = dp_rd_u16(&rd);
    dp_rd_skip(&rd, 2);
    uint32_t mid = dp_rd_u32(&rd);
    bool known = stream < a->stream_capacity;
    uint32_t number = (flags & FIRST) != 0 ? take_tag(a, chunk + PPID_AT)
                      : known              ? a->streams[stream].leaves
                                           : 0;
    if (!fresh || !known)
        return 0;
    a->streams[stream].leaves = (flags & LAST) != 0 ? 0 : number;
    dp_limited_message *message = dp_abandon_find(a, number);
    if (message == NULL)
        return 0;
    if ((flags & FIRST) != 0) {
        message->begun = true;
        message->unordered = (flags & UNORDERED) != 0;
        message->mid = mid;
        message->first = tsn;
    }
    message->last = tsn;
    message->ended = (flags & LAST) != 0;
    return number;
}

void dp_abandon_settle(dp_abandon *a, uint32_t acked)
{
    if (acked != a->acked)
        a->tries = 0;
    a->acked = acked;
    if (dp_tsn_before(a->forwarded, acked))
        a->forwarded = acked;
    if (dp_tsn_before(a->reached, acked))
        a->reached = acked;
    while (a->count > 0) {
        const dp_limited_message *oldest = at(a, a->first);
        bool shows = (a->first & TAG_MASK) != 0;
        if (shows && (!oldest->ended || dp_tsn_before(acked, oldest->last)))
            return;
        a->first++;
        a->count--;
    }
}

/* ---- I-FORWARD-TSN ------------------------------------------------------------------------------- */

/* The last entry of the same stream and kind. */
static uint8_t *find_entry(const dp_wr *wr, size_t from, const uint8_t *entry)
{
    for (size_t i = wr->len; i > from; i -= ENTRY)
        if (memcmp(wr->start + i - ENTRY, entry, 4) == 0)
            return wr->start + i - ENTRY;
    return NULL;
}

/* A higher MID says more. But an ordered message may lie between the two that the peer has whole: Firefox gives out what is
 * whole up to an entry, and throws away what lies before it. */
static bool replaces(const uint8_t *entry, const dp_limited_message *message)
{
    dp_rd rd = dp_rd_init(entry, ENTRY);
    dp_rd_skip(&rd, 4);
    return message->unordered || dp_rd_u32(&rd) + 1 == message->mid;
}

/* *to: becomes less where there is no room. */
static void write_entries(const dp_abandon *a, dp_wr *wr, uint32_t acked, uint32_t *to)
{
    size_t from = wr->len;
    for (size_t i = 0; i < a->count; i++) {
        const dp_limited_message *message = at(a, a->first + (uint32_t)i);
        if (!message->begun || !message->abandoned || dp_tsn_before(*to, message->first) ||
            !dp_tsn_before(acked, message->last))
            continue;
        uint8_t bytes[ENTRY];
        dp_wr entry = dp_wr_init(bytes, sizeof bytes);
        dp_wr_u16(&entry, message->stream);
        dp_wr_u16(&entry, message->unordered ? U_BIT : 0);
        dp_wr_u32(&entry, message->mid);
        uint8_t *same = find_entry(wr, from, bytes);
        if (same != NULL && replaces(same, message))
            memcpy(same, bytes, sizeof bytes);
        else if (wr->capacity - wr->len >= ENTRY)
            dp_wr_bytes(wr, bytes, sizeof bytes);
        else if (dp_tsn_before(acked, message->first - 1))
            *to = message->first - 1;
    }
}

/* How far the peer may skip. */
static uint32_t reach(const dp_abandon *a, const dp_copies *copies)
{
    uint32_t to = copies->acked;
    uint32_t tsn = to;
    for (uint32_t count = a->skipped; count > 0; count--) {
        tsn = dp_copies_missing(copies, tsn + 1);
        const dp_copy *copy = dp_copies_find(copies, tsn);
        if (copy == NULL || (copy->flags & DP_COPY_ABANDONED) == 0)
            return to;
        to = tsn;
    }
    return to;
}

dp_time dp_abandon_next(const dp_abandon *a, dp_duration wait, uint32_t acked)
{
    dp_duration length = (wait < WAIT_MIN ? WAIT_MIN : wait) << (a->tries < TRIES_MAX ? a->tries : TRIES_MAX);
    if (!dp_tsn_before(acked, a->forwarded))
        return DP_TIME_NEVER;
    return a->told + (length < WAIT_MAX ? length : WAIT_MAX);
}

bool dp_abandon_is_due(const dp_abandon *a, dp_time now, dp_duration wait, const dp_copies *copies)
{
    uint32_t to = a->skipped > 0 ? reach(a, copies) : copies->acked;
    bool told = !dp_tsn_before(a->reached, to) && dp_tsn_before(copies->acked, a->forwarded);
    return to != copies->acked && (!told || now >= dp_abandon_next(a, wait, copies->acked));
}

void dp_abandon_write(dp_abandon *a, dp_wr *wr, dp_time now, const dp_copies *copies)
{
    uint32_t to = reach(a, copies);
    size_t at = wr->len;
    a->tries += !dp_tsn_before(a->reached, to) && dp_tsn_before(copies->acked, a->forwarded);
    a->reached = to;
    dp_wr_u16(wr, DP_CHUNK_I_FORWARD_TSN << 8);
    size_t length = dp_wr_mark_u16(wr);
    size_t tsn = wr->len;
    dp_wr_u32(wr, 0);
    write_entries(a, wr, copies->acked, &to);
    dp_wr_patch_u16(wr, length, wr->len - at);
    dp_wr new_cumulative = dp_wr_init(wr->start + tsn, 4);
    dp_wr_u32(&new_cumulative, to);
    a->forwarded = to;
    a->told = now;
}
