#include "early.h"

#include "base/mem.h"
#include "base/rd.h"
#include "filter.h"

#include <string.h>

enum { CHUNK_RE_CONFIG = 0x82, PARAMETER_OUTGOING_RESET = 13 };

/* RFC 1982: a before b. */
static bool before(uint32_t a, uint32_t b) { return (int32_t)(a - b) < 0; }

/* RFC 6525 §4.1: number of the request, of the answered one, the last TSN, streams. */
static bool waits_for(uint32_t *tsn, dp_rd parameters, uint32_t cumulative)
{
    while (!parameters.error && dp_rd_left(&parameters) > 0) {
        uint16_t type = dp_rd_u16(&parameters);
        size_t len = dp_rd_u16(&parameters);
        dp_rd value = dp_rd_sub(&parameters, len - 4);
        size_t padding = (4 - len % 4) % 4;
        dp_rd_skip(&parameters, padding < dp_rd_left(&parameters) ? padding : dp_rd_left(&parameters));
        dp_rd_skip(&value, 8);
        *tsn = dp_rd_u32(&value);
        if (type == PARAMETER_OUTGOING_RESET && !value.error && before(cumulative, *tsn))
            return true;
    }
    return false;
}

/* Where the chunk is, with its padding. */
static bool find(size_t *from, size_t *to, uint32_t *tsn, const uint8_t *packet, size_t len,
                 uint32_t cumulative)
{
    dp_rd rd = dp_rd_init(packet, len);
    dp_rd_skip(&rd, DP_SCTP_COMMON_HEADER);
    while (!rd.error && dp_rd_left(&rd) > 0) {
        *from = len - dp_rd_left(&rd);
        uint8_t type = dp_rd_u8(&rd);
        dp_rd_skip(&rd, 1);
        size_t length = dp_rd_u16(&rd);
        dp_rd body = dp_rd_sub(&rd, length - 4);
        size_t padding = (4 - length % 4) % 4;
        dp_rd_skip(&rd, padding < dp_rd_left(&rd) ? padding : dp_rd_left(&rd));
        *to = len - dp_rd_left(&rd);
        if (type == CHUNK_RE_CONFIG && waits_for(tsn, body, cumulative))
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
    if (packet == NULL || before(cumulative, early->tsn))
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
