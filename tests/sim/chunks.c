#include "chunks.h"

#include "sctp/chunk.h"

#include <stdio.h>

static void print_data(uint8_t flags, dp_rd value)
{
    uint32_t tsn = dp_rd_u32(&value);
    unsigned stream = dp_rd_u16(&value);
    unsigned ssn = dp_rd_u16(&value);
    dp_rd_skip(&value, 4);
    fprintf(stderr, " DATA(%08x %u:%u %s%s%s %zu)", tsn, stream, ssn, (flags & 4) != 0 ? "U" : "",
            (flags & 2) != 0 ? "B" : "", (flags & 1) != 0 ? "E" : "", dp_rd_left(&value));
}

static void print_sack(dp_rd value)
{
    uint32_t tsn = dp_rd_u32(&value);
    uint32_t window = dp_rd_u32(&value);
    unsigned blocks = dp_rd_u16(&value);
    dp_rd_skip(&value, 2);
    fprintf(stderr, " SACK(%08x window %u", tsn, window);
    for (; blocks > 0 && dp_rd_left(&value) >= 4; blocks--) {
        uint32_t from = tsn + dp_rd_u16(&value);
        fprintf(stderr, " %08x-%08x", from, tsn + dp_rd_u16(&value));
    }
    fprintf(stderr, ")");
}

static void print_forward_tsn(dp_rd value)
{
    fprintf(stderr, " FORWARD-TSN(%08x", dp_rd_u32(&value));
    while (dp_rd_left(&value) >= 4) {
        unsigned stream = dp_rd_u16(&value);
        fprintf(stderr, " %u:%u", stream, (unsigned)dp_rd_u16(&value));
    }
    fprintf(stderr, ")");
}

/* RFC 6525 §4: all parameters are numbers of 32 bits, but for the streams of a reset. */
static void print_re_config(dp_rd value)
{
    uint16_t type;
    dp_rd item;
    fprintf(stderr, " RE-CONFIG(");
    while (dp_chunk_item_next(&value, &type, &item)) {
        fprintf(stderr, "%u", type);
        for (int i = 0; dp_rd_left(&item) >= 4 && i < 3; i++)
            fprintf(stderr, " %08x", dp_rd_u32(&item));
        while (dp_rd_left(&item) >= 2)
            fprintf(stderr, " %u", (unsigned)dp_rd_u16(&item));
    }
    fprintf(stderr, ")");
}

void sim_print_chunks(const char *what, const uint8_t *packet, size_t len)
{
    static const char *const names[] = {[DP_CHUNK_INIT] = "INIT",
                                        [DP_CHUNK_INIT_ACK] = "INIT-ACK",
                                        [DP_CHUNK_HEARTBEAT] = "HEARTBEAT",
                                        [DP_CHUNK_HEARTBEAT_ACK] = "HEARTBEAT-ACK",
                                        [DP_CHUNK_ABORT] = "ABORT",
                                        [DP_CHUNK_ERROR] = "ERROR",
                                        [DP_CHUNK_COOKIE_ECHO] = "COOKIE-ECHO",
                                        [DP_CHUNK_COOKIE_ACK] = "COOKIE-ACK"};
    dp_rd chunks = dp_chunks(packet, len);
    dp_chunk chunk;
    fprintf(stderr, "%s", what);
    while (dp_chunk_next(&chunks, &chunk)) {
        if (chunk.type == DP_CHUNK_DATA)
            print_data(chunk.flags, chunk.value);
        else if (chunk.type == DP_CHUNK_SACK)
            print_sack(chunk.value);
        else if (chunk.type == DP_CHUNK_FORWARD_TSN)
            print_forward_tsn(chunk.value);
        else if (chunk.type == DP_CHUNK_RE_CONFIG)
            print_re_config(chunk.value);
        else if (chunk.type < sizeof names / sizeof names[0] && names[chunk.type] != NULL)
            fprintf(stderr, " %s", names[chunk.type]);
        else
            fprintf(stderr, " type %u", chunk.type);
    }
    fprintf(stderr, "\n");
}
