#include "early.h"

#include "base/mem.h"
#include "chunk.h"

#include <string.h>

/* RFC 6525 §4.1: number of the request, of the answered one, the last TSN, streams. */
static bool waits_for(uint32_t *tsn, dp_rd *parameters, uint32_t cumulative)
{
    uint16_t type;
    dp_rd value;
    while (dp_chunk_item_next(parameters, &type, &value)) {
        dp_rd_skip(&value, 8);
        *tsn = dp_rd_u32(&value);
        if (type == DP_PARAMETER_OUTGOING_RESET && !value.error && dp_tsn_before(cumulative, *tsn))
            return true;
    }
    return false;
}

/* Where the chunk is, with its padding. */
static bool find(size_t *from, size_t *to, uint32_t *tsn, const uint8_t *packet, size_t len,
                 uint32_t cumulative)
{
    dp_rd chunks = dp_chunks(packet, len);
    dp_chunk chunk;
    for (*from = DP_SCTP_COMMON_HEADER; dp_chunk_next(&chunks, &chunk); *from = *to) {
        *to = len - dp_rd_left(&chunks);
        if (chunk.type == DP_CHUNK_RE_CONFIG && waits_for(tsn, &chunk.value, cumulative))
            return true;
    }
    return false;
}

static uint8_t *join(const uint8_t *packet, const uint8_t *at, size_t len)
{
    uint8_t *joined = (uint8_t *)dp_alloc(DP_SCTP_COMMON_HEADER + len);
    if (joined != NULL) {
        memcpy(joined, packet, DP_SCTP_COMMON_HEADER);
        memcpy(joined + DP_SCTP_COMMON_HEADER, at, len);
    }
    return joined;
}

int dp_early_reset_take(dp_early_reset *early, uint8_t **rest, size_t *rest_len, const uint8_t *packet,
                        size_t len, uint32_t cumulative)
{
    size_t from, to;
    uint32_t tsn;
    *rest = NULL;
    if (!find(&from, &to, &tsn, packet, len, cumulative))
        return DP_OK;
    uint8_t *kept = join(packet, packet + from, to - from);
    *rest = (uint8_t *)dp_alloc(len);
    if (kept == NULL || *rest == NULL) {
        dp_free(kept);
        dp_free(*rest);
        *rest = NULL;
        return DP_ERR_NO_MEMORY;
    }
    memcpy(*rest, packet, from);
    memcpy(*rest + from, packet + to, len - to);
    *rest_len = len - (to - from);
    if (*rest_len == DP_SCTP_COMMON_HEADER)
        *rest_len = 0;
    dp_free(early->packet);
    *early = (dp_early_reset){kept, DP_SCTP_COMMON_HEADER + to - from, tsn};
    return DP_OK;
}

uint8_t *dp_early_reset_give(dp_early_reset *early, size_t *len, uint32_t cumulative)
{
    uint8_t *packet = early->packet;
    if (packet == NULL || dp_tsn_before(cumulative, early->tsn))
        return NULL;
    *len = early->len;
    early->packet = NULL;
    return packet;
}

void dp_early_reset_clear(dp_early_reset *early)
{
    dp_free(early->packet);
    early->packet = NULL;
}
