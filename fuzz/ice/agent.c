/* The agent: the bytes choose what happens to it next: a datagram of its peer (whole, damaged, again, from
 * elsewhere), a signed message of arbitrary attributes, raw bytes, a candidate, a step of the clock, a call.
 * The peer is a second agent. Afterwards the list's invariants must hold. */
#include "ice/agent.h"

#include <stdlib.h>
#include <string.h>

#include "base/rd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 400
#define KEEP      8 /* datagrams of each side that wait to be delivered */

typedef struct kept {
    uint8_t data[DP_DATAGRAM_MAX];
    size_t len;
    dp_address local;
    dp_address remote;
} kept;

typedef struct world {
    dp_time now;
    uint64_t seed;
    dp_ice *ice[2];
    dp_address addresses[2][2];
    kept kept[2][KEEP];
    size_t kept_count[2];
} world;

static int seeded(void *ctx, uint8_t *out, size_t len)
{
    uint64_t *s = (uint64_t *)ctx;
    for (size_t i = 0; i < len; i++) {
        *s = *s * 6364136223846793005u + 1442695040888963407u;
        out[i] = (uint8_t)(*s >> 56);
    }
    return DP_OK;
}

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check_invariants(const dp_ice *ice, dp_time now)
{
    require(ice->pair_count <= DP_ICE_MAX_PAIRS && ice->transaction_count <= DP_ICE_MAX_TRANSACTIONS);
    require(ice->remote_count <= DP_ICE_MAX_REMOTE + DP_ICE_MAX_PRFLX &&
            ice->prflx_count <= DP_ICE_MAX_PRFLX);
    require(ice->local_count <= DP_ICE_MAX_LOCAL && ice->early_count <= DP_ICE_MAX_EARLY);
    require(ice->active == DP_ICE_NO_PAIR ||
            (ice->active < ice->pair_count && ice->pairs[ice->active].valid));
    require((ice->state == DP_ICE_CONNECTED || ice->state == DP_ICE_COMPLETED ||
             ice->state == DP_ICE_DISCONNECTED) == (ice->active != DP_ICE_NO_PAIR));
    for (size_t i = 0; i < ice->pair_count; i++) {
        const dp_ice_pair *pair = &ice->pairs[i];
        require(pair->local < ice->local_count && pair->remote < ice->remote_count);
        require(!pair->nominated || pair->valid);
        require(!pair->valid || (pair->answered_at <= now && now < pair->answered_at + DP_SECONDS(100000)));
        for (size_t k = 0; k < i; k++)
            require(ice->pairs[k].local != pair->local || ice->pairs[k].remote != pair->remote);
    }
    for (size_t i = 0; i < ice->transaction_count; i++)
        require(ice->transactions[i].purpose == DP_ICE_FOR_GATHERING ||
                ice->transactions[i].pair < ice->pair_count);
}

static void drain(world *w)
{
    for (unsigned i = 0; i < 2; i++) {
        dp_ice_event event;
        while (dp_ice_poll_event(w->ice[i], &event)) {
            if (event.type == DP_ICE_EVENT_LOCAL_CANDIDATE && i == 0)
                (void)dp_ice_add_remote_candidate(w->ice[1], w->now, event.candidate);
        }
        uint8_t data[DP_DATAGRAM_MAX];
        dp_datagram d = {.data = data, .capacity = sizeof data};
        while (dp_ice_poll_transmit(w->ice[i], w->now, &d)) {
            require(d.length <= DP_DATAGRAM_MAX && d.remote.port != 0);
            if (w->kept_count[i] == KEEP) {
                memmove(&w->kept[i][0], &w->kept[i][1], sizeof w->kept[i] - sizeof w->kept[i][0]);
                w->kept_count[i]--;
            }
            kept *k = &w->kept[i][w->kept_count[i]++];
            memcpy(k->data, data, d.length);
            k->len = d.length;
            k->local = d.local;
            k->remote = d.remote;
        }
    }
}

/* Delivers an exact copy, so that ASan sees each byte too many. */
static void input(world *w, unsigned to, const uint8_t *data, size_t len, const dp_address *local,
                  const dp_address *remote)
{
    uint8_t *exact = malloc(len > 0 ? len : 1);
    if (exact == NULL)
        return;
    if (len > 0)
        memcpy(exact, data, len);
    dp_ice_payload payload;
    (void)dp_ice_input(w->ice[to], w->now, exact, len, local, remote, &payload);
    free(exact);
}

/* How a kept datagram arrives: bits 0-2 which one, 3 stays for a second time, 4 damaged, 5 from another port.
 */
static void deliver(world *w, unsigned from, dp_rd *rd)
{
    uint8_t how = dp_rd_u8(rd);
    if (w->kept_count[from] == 0)
        return;
    size_t index = (how & 7u) % w->kept_count[from];
    kept k = w->kept[from][index];
    if ((how & 8) == 0) {
        memmove(&w->kept[from][index], &w->kept[from][index + 1],
                (w->kept_count[from] - index - 1) * sizeof w->kept[from][0]);
        w->kept_count[from]--;
    }
    if ((how & 16) != 0) {
        size_t at = (size_t)dp_rd_u8(rd) % k.len;
        k.data[at] ^= dp_rd_u8(rd);
    }
    if ((how & 32) != 0)
        k.local.port = (uint16_t)(k.local.port + dp_rd_u8(rd));
    input(w, 1 - from, k.data, k.len, &k.remote, &k.local);
}

/* A message with the peer's right to speak: its attributes are the fuzzer's, the integrity is true. */
static void signed_message(world *w, dp_rd *rd)
{
    uint8_t kind = dp_rd_u8(rd);
    const dp_ice *ice = w->ice[0];
    const dp_ice *peer = w->ice[1];
    uint8_t id[DP_STUN_TRANSACTION_LEN] = {0};
    uint8_t out[DP_DATAGRAM_MAX];
    size_t len = 0;
    dp_wr wr = dp_wr_init(out, sizeof out);
    dp_stun_class class_ = (dp_stun_class)(kind & 3u);
    if (class_ >= DP_STUN_SUCCESS && ice->transaction_count > 0)
        memcpy(id, ice->transactions[kind / 4 % ice->transaction_count].message.transaction, sizeof id);
    dp_stun_write_header(&wr, class_, DP_STUN_METHOD_BINDING, id);
    if (class_ == DP_STUN_REQUEST) {
        char name[2 * DP_ICE_UFRAG_LEN + 1];
        memcpy(name, ice->local_ufrag, DP_ICE_UFRAG_LEN);
        name[DP_ICE_UFRAG_LEN] = ':';
        memcpy(name + DP_ICE_UFRAG_LEN + 1, peer->local_ufrag, DP_ICE_UFRAG_LEN);
        dp_stun_write_attribute(&wr, DP_STUN_USERNAME, name, sizeof name);
        if ((kind & 4) == 0)
            dp_stun_write_u32(&wr, DP_STUN_PRIORITY, dp_rd_u32(rd));
        dp_stun_write_u64(&wr, (kind & 8) != 0 ? DP_STUN_ICE_CONTROLLED : DP_STUN_ICE_CONTROLLING,
                          dp_rd_u64(rd));
        if ((kind & 16) != 0)
            dp_stun_write_attribute(&wr, DP_STUN_USE_CANDIDATE, "", 0);
    } else if (class_ == DP_STUN_SUCCESS) {
        dp_address mapped = w->addresses[0][0];
        mapped.port = dp_rd_u16(rd);
        dp_stun_write_xor_mapped_address(&wr, &mapped);
    } else if (class_ == DP_STUN_ERROR) {
        dp_stun_write_error_code(&wr, 300 + dp_rd_u8(rd), "x");
    }
    if ((kind & 32) != 0) {
        uint16_t type = dp_rd_u16(rd);
        size_t n = dp_rd_left(rd) < 16 ? dp_rd_left(rd) : 16;
        dp_stun_write_attribute(&wr, (dp_stun_attribute)type, dp_rd_bytes(rd, n), n);
    }
    const char *key = class_ == DP_STUN_REQUEST ? ice->local_pwd : peer->local_pwd;
    dp_stun_write_integrity(&wr, key, DP_ICE_PWD_LEN);
    dp_stun_write_fingerprint(&wr);
    dp_address source = w->addresses[1][kind >> 7];
    if ((kind & 64) != 0)
        source.port = dp_rd_u16(rd);
    if (dp_stun_finish(&wr, &len) == DP_OK)
        input(w, 0, out, len, &w->addresses[0][0], &source);
}

static void candidate(world *w, dp_rd *rd)
{
    char text[256];
    size_t n = dp_rd_u8(rd) % sizeof text;
    n = n < dp_rd_left(rd) ? n : dp_rd_left(rd);
    const uint8_t *bytes = dp_rd_bytes(rd, n);
    if (bytes == NULL)
        return;
    memcpy(text, bytes, n);
    text[n] = '\0';
    (void)dp_ice_add_remote_candidate(w->ice[0], w->now, text);
}

static void raw(world *w, dp_rd *rd)
{
    size_t n = dp_rd_u8(rd);
    n = n < dp_rd_left(rd) ? n : dp_rd_left(rd);
    const uint8_t *bytes = dp_rd_bytes(rd, n);
    if (bytes != NULL)
        input(w, 0, bytes, n, &w->addresses[0][0], &w->addresses[1][0]);
}

static void step(world *w, dp_rd *rd)
{
    switch (dp_rd_u8(rd) % 12) {
    case 0:
        deliver(w, 0, rd);
        break;
    case 1:
    case 2:
        deliver(w, 1, rd);
        break;
    case 3:
        w->now += (dp_duration)dp_rd_u8(rd) * DP_MS(4);
        break;
    case 4:
        w->now += (dp_duration)dp_rd_u8(rd) * DP_MS(200);
        break;
    case 5:
        signed_message(w, rd);
        break;
    case 6:
        candidate(w, rd);
        break;
    case 7:
        raw(w, rd);
        break;
    case 8:
        (void)dp_ice_set_remote_credentials(w->ice[0], w->now, dp_ice_local_ufrag(w->ice[1]),
                                            dp_ice_local_pwd(w->ice[1]));
        break;
    case 9:
        (void)dp_ice_gather(w->ice[0], w->now);
        break;
    case 10:
        (void)dp_ice_add_remote_candidate(w->ice[0], w->now,
                                          "candidate:1 1 udp 2130706431 10.0.0.2 2000 typ host");
        break;
    default: {
        uint8_t call = dp_rd_u8(rd);
        if (call == 0xFF)
            dp_ice_close(w->ice[0]);
        else if (call == 0xFE)
            (void)dp_ice_add_remote_candidate(w->ice[0], w->now, NULL);
        else
            dp_ice_set_role(w->ice[0], (call & 1) != 0 ? DP_ICE_CONTROLLING : DP_ICE_CONTROLLED);
        break;
    }
    }
    for (unsigned i = 0; i < 2; i++) {
        if (dp_ice_next_timeout(w->ice[i]) <= w->now)
            dp_ice_handle_timeout(w->ice[i], w->now);
        drain(w);
        check_invariants(w->ice[i], w->now);
    }
}

static bool start(world *w, uint8_t options)
{
    static const dp_address base = {.family = DP_FAMILY_IPV4, .port = 1000, .ip = {10, 0, 0, 1}};
    for (unsigned i = 0; i < 2; i++) {
        dp_ice_config config = {.size = sizeof config,
                                .random = {seeded, &w->seed},
                                .role = (options >> i & 1) != 0 ? DP_ICE_CONTROLLING : DP_ICE_CONTROLLED};
        if (dp_ice_new(&w->ice[i], &config) != DP_OK)
            return false;
        for (unsigned k = 0; k < 2; k++) {
            dp_address *a = &w->addresses[i][k];
            *a = base;
            a->ip[3] = (uint8_t)(1 + i);
            a->port = (uint16_t)(1000 * (i + 1) + k);
            (void)dp_ice_add_local_address(w->ice[i], w->now, a);
        }
    }
    if ((options & 4) != 0)
        (void)dp_ice_add_server(
            w->ice[0], &(dp_ice_server){.size = sizeof(dp_ice_server), .address = w->addresses[1][1]});
    if ((options & 8) != 0)
        w->ice[1]->tie_breaker = w->ice[0]->tie_breaker;
    (void)dp_ice_gather(w->ice[1], w->now);
    (void)dp_ice_set_remote_credentials(w->ice[1], w->now, dp_ice_local_ufrag(w->ice[0]),
                                        dp_ice_local_pwd(w->ice[0]));
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    world *w = calloc(1, sizeof *w);
    dp_rd rd = dp_rd_init(data, size);
    if (w == NULL)
        return 0;
    w->now = DP_SECONDS(1);
    w->seed = 1;
    if (start(w, dp_rd_u8(&rd))) {
        for (int i = 0; i < STEPS_MAX && dp_rd_left(&rd) > 0; i++)
            step(w, &rd);
    }
    dp_ice_free(w->ice[0]);
    dp_ice_free(w->ice[1]);
    free(w);
    return 0;
}
