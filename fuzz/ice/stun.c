/* STUN: whatever decodes must decode equal again from what is written of it; short buffers are refused. */
#include "ice/stun.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int write_again(const dp_stun_message *m, uint8_t *out, size_t capacity, size_t *len)
{
    dp_wr wr = dp_wr_init(out, capacity);
    dp_stun_write_header(&wr, m->class_, m->method, m->transaction);
    if (m->username != NULL)
        dp_stun_write_attribute(&wr, DP_STUN_USERNAME, m->username, m->username_len);
    if (m->has_priority)
        dp_stun_write_u32(&wr, DP_STUN_PRIORITY, m->priority);
    if (m->has_controlled || m->has_controlling)
        dp_stun_write_u64(&wr, m->has_controlled ? DP_STUN_ICE_CONTROLLED : DP_STUN_ICE_CONTROLLING,
                          m->tie_breaker);
    if (m->use_candidate)
        dp_stun_write_attribute(&wr, DP_STUN_USE_CANDIDATE, "", 0);
    if (m->mapped.family != DP_FAMILY_NONE)
        dp_stun_write_xor_mapped_address(&wr, &m->mapped);
    if (m->channel != 0)
        dp_stun_write_channel_number(&wr, m->channel);
    if (m->has_lifetime)
        dp_stun_write_u32(&wr, DP_STUN_LIFETIME, m->lifetime);
    if (m->peer.family != DP_FAMILY_NONE)
        dp_stun_write_xor_address(&wr, DP_STUN_XOR_PEER_ADDRESS, &m->peer);
    for (size_t i = 0; i < m->relayed_count; i++)
        dp_stun_write_xor_address(&wr, DP_STUN_XOR_RELAYED_ADDRESS, &m->relayed[i]);
    if (m->payload != NULL)
        dp_stun_write_attribute(&wr, DP_STUN_DATA, m->payload, m->payload_len);
    if (m->error_code != 0)
        dp_stun_write_error_code(&wr, m->error_code, "reason");
    if (m->reported_count > 0)
        dp_stun_write_unknown_attributes(&wr, m->reported, m->reported_count);
    if (m->integrity_at != 0)
        dp_stun_write_integrity(&wr, "key", 3);
    if (m->has_fingerprint)
        dp_stun_write_fingerprint(&wr);
    return dp_stun_finish(&wr, len);
}

static void require(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dp_stun_message m;
    dp_stun_message again;
    uint8_t out[DP_STUN_MESSAGE_MAX];
    size_t len = 0;
    if (dp_stun_decode(&m, data, size) != DP_OK)
        return 0;
    (void)dp_stun_check_integrity(&m, "VOkJxbRl1RmTxUk/WvJxBt", 22);
    require(write_again(&m, out, sizeof out, &len) == DP_OK);
    require(dp_stun_decode(&again, out, len) == DP_OK);
    require(again.class_ == m.class_ && again.method == m.method && again.priority == m.priority);
    require(again.tie_breaker == m.tie_breaker && again.use_candidate == m.use_candidate);
    require(again.has_controlled == m.has_controlled && again.error_code == m.error_code);
    require(again.username_len == m.username_len && again.has_fingerprint == m.has_fingerprint);
    require(memcmp(&again.mapped, &m.mapped, sizeof m.mapped) == 0);
    require(again.reported_count == m.reported_count);
    require(again.channel == m.channel && again.lifetime == m.lifetime);
    require(again.payload_len == m.payload_len && again.relayed_count == m.relayed_count);
    require(memcmp(&again.peer, &m.peer, sizeof m.peer) == 0);
    require(memcmp(again.relayed, m.relayed, sizeof m.relayed) == 0);
    if (m.integrity_at != 0)
        require(dp_stun_check_integrity(&again, "key", 3) == DP_OK);
    size_t short_by = 1 + (size > 0 ? data[size - 1] % len : 0);
    size_t short_len = 0;
    uint8_t *small = malloc(len);
    if (small != NULL && short_by <= len)
        require(write_again(&m, small, len - short_by, &short_len) == DP_ERR_NO_SPACE);
    free(small);
    return 0;
}
