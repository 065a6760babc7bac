#include "delivery.h"

#include "chunk.h"

enum { LAST = 1, FIRST = 2, UNORDERED = 4 };

#define WINDOW 4096u /* usrsctp takes no TSN further above the cumulative one */

bool dp_delivery_safe(const dp_delivery *d, uint32_t cumulative)
{
    return !d->begun || !dp_tsn_before(cumulative + 1, d->first);
}

/* RFC 9260 §3.3.1: TSN, stream, SSN, PPID, payload. */
static void note_data(dp_delivery *d, const dp_chunk *chunk, uint32_t tsn, uint16_t stream, size_t len)
{
    unsigned ends = chunk->flags & (FIRST | LAST);
    bool unordered = (chunk->flags & UNORDERED) != 0;
    if (unordered && ends == FIRST && (!d->begun || dp_tsn_before(d->first, tsn))) {
        d->begun = true;
        d->first = tsn;
    }
    if (!d->known || dp_tsn_before(d->highest, tsn))
        d->highest = tsn;
    d->known = true;
    d->run = (ends & LAST) != 0 ? 0 : d->run + len;
    if (d->in_message && (stream != d->stream || unordered != d->unordered || (ends & FIRST) != 0))
        d->others++;
}

bool dp_delivery_input(dp_delivery *d, const uint8_t *packet, size_t len, uint32_t cumulative, size_t limit)
{
    dp_rd chunks = dp_chunks(packet, len);
    dp_chunk chunk;
    if (d->known && !dp_tsn_before(cumulative, d->highest))
        d->run = 0;
    if (d->begun && !dp_tsn_before(cumulative, d->first))
        d->begun = false; /* TSNs wrap around */
    while (dp_chunk_next(&chunks, &chunk)) {
        if (chunk.type != DP_CHUNK_DATA)
            continue;
        uint32_t tsn = dp_rd_u32(&chunk.value);
        uint16_t stream = dp_rd_u16(&chunk.value);
        dp_rd_skip(&chunk.value, 6);
        if (chunk.value.error || tsn - cumulative - 1 >= WINDOW)
            continue;
        if (d->run >= limit && !dp_delivery_safe(d, cumulative) && dp_tsn_before(d->highest, tsn))
            return false;
        note_data(d, &chunk, tsn, stream, dp_rd_left(&chunk.value));
    }
    return true;
}

void dp_delivery_read(dp_delivery *d, uint16_t stream, bool unordered, bool complete)
{
    if (complete)
        d->others = 0;
    d->in_message = !complete;
    d->stream = stream;
    d->unordered = unordered;
}
