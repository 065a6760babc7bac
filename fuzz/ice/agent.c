/* The agent: the bytes choose what happens to it next: a datagram of its peer (whole, damaged, again, from
 * elsewhere), a signed message of arbitrary attributes, raw bytes, a candidate, a step of the clock, a call, a link
 * that opens, speaks or ends. The peer is a second agent; the TURN server says what the bytes want, and signs it.
 * After each step the invariants must hold and the agent must want nothing at this time any more; some inputs are run
 * twice and must give the same datagrams. */
#include "agent_check.h"

#include "base/crypto.h"
#include "base/rd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 400
#define KEEP      8 /* datagrams of each side that wait to be delivered */
#define LINKS     8 /* links of the first agent that are remembered, a ring */

typedef struct kept {
    uint8_t data[DP_DATAGRAM_MAX];
    size_t len;
    dp_address local;
    dp_address remote;
} kept;

typedef struct link {
    uint32_t id; /* 0: it has ended */
    bool has_request;
    unsigned method;
    uint8_t transaction[DP_STUN_TRANSACTION_LEN];
    bool authenticated;
} link;

typedef struct world {
    dp_time now;
    uint64_t seed;
    uint64_t digest; /* of all that the first agent has sent */
    uint8_t key[DP_MD5_LEN];
    link links[LINKS];
    size_t link_count;
    uint32_t last_link;
    char resolve[DP_ICE_HOST_MAX + 1];
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

/* ---- what comes out ---- */

static link *link_of(world *w, uint32_t id)
{
    for (size_t i = 0; i < LINKS; i++) {
        if (w->links[i].id == id && id != 0)
            return &w->links[i];
    }
    return NULL;
}

static void told(world *w, unsigned i, const dp_ice_event *event)
{
    if (event->type == DP_ICE_EVENT_LOCAL_CANDIDATE && i == 0)
        (void)dp_ice_add_remote_candidate(w->ice[1], w->now, event->candidate);
    if (event->type == DP_ICE_EVENT_RESOLVE && i == 0)
        memcpy(w->resolve, event->hostname, strlen(event->hostname) + 1);
    if (i == 0 && event->type == DP_ICE_EVENT_LINK_OPEN) {
        require(event->link.id > w->last_link); /* never used twice */
        w->last_link = event->link.id;
        w->links[w->link_count++ % LINKS] = (link){.id = event->link.id};
    }
    if (i == 0 && event->type == DP_ICE_EVENT_LINK_CLOSE) {
        require(event->link.id <= w->ice[0]->link_serial);
        link *l = link_of(w, event->link.id);
        if (l != NULL) /* else it was accepted, or is too old */
            l->id = 0;
    }
}

static void keep(world *w, unsigned from, const uint8_t *data, size_t len, const dp_address *local,
                 const dp_address *remote)
{
    if (w->kept_count[from] == KEEP) {
        memmove(&w->kept[from][0], &w->kept[from][1], sizeof w->kept[from] - sizeof w->kept[from][0]);
        w->kept_count[from]--;
    }
    kept *k = &w->kept[from][w->kept_count[from]++];
    memcpy(k->data, data, len);
    k->len = len;
    k->local = *local;
    k->remote = *remote;
}

static void forget(world *w, unsigned from, size_t index)
{
    w->kept_count[from]--;
    memmove(&w->kept[from][index], &w->kept[from][index + 1],
            (w->kept_count[from] - index) * sizeof w->kept[from][0]);
}

static dp_address relayed_by(const link *l)
{
    dp_address relayed = {.family = DP_FAMILY_IPV4, .port = 5000, .ip = {10, 0, 0, 9}};
    relayed.port = (uint16_t)(relayed.port + l->id);
    return relayed;
}

/* A request waits for serve; data for the peer goes on its way. */
static void to_link(world *w, const dp_datagram *d)
{
    dp_stun_message m;
    link *l = link_of(w, d->link);
    if (l == NULL || dp_stun_decode(&m, d->data, d->length) != DP_OK)
        return;
    dp_address relayed = relayed_by(l);
    if (m.method == DP_STUN_METHOD_SEND && m.payload_len > 0)
        keep(w, 0, m.payload, m.payload_len, &relayed, &m.peer);
    if (m.class_ != DP_STUN_REQUEST)
        return;
    l->has_request = true;
    l->method = m.method;
    l->authenticated = m.integrity_at != 0;
    memcpy(l->transaction, m.transaction, sizeof l->transaction);
}

static void digest(world *w, const dp_datagram *d)
{
    for (size_t i = 0; i < d->length; i++)
        w->digest = (w->digest ^ d->data[i]) * 0x100000001B3u; /* FNV-1a */
}

static void drain(world *w)
{
    for (unsigned i = 0; i < 2; i++) {
        dp_ice_event event;
        while (dp_ice_poll_event(w->ice[i], &event))
            told(w, i, &event);
        uint8_t data[DP_DATAGRAM_MAX];
        dp_datagram d = {.data = data, .capacity = sizeof data};
        while (dp_ice_poll_transmit(w->ice[i], w->now, &d)) {
            require(d.length <= DP_DATAGRAM_MAX && d.remote.port != 0);
            if (i == 0)
                digest(w, &d);
            if (d.link != 0) {
                to_link(w, &d);
                continue;
            }
            keep(w, i, data, d.length, &d.local, &d.remote);
        }
    }
}

/* ---- what goes in ---- */

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
    if ((how & 8) == 0)
        forget(w, from, index);
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

/* ---- links ---- */

static void link_input(world *w, uint32_t id, const uint8_t *data, size_t len)
{
    uint8_t *exact = malloc(len > 0 ? len : 1);
    unsigned sum = 0;
    if (exact == NULL)
        return;
    if (len > 0)
        memcpy(exact, data, len);
    for (size_t at = 0; at < len;) {
        dp_ice_payload payload;
        size_t taken = dp_ice_link_input(w->ice[0], w->now, id, exact + at, len - at, &payload);
        require(taken > 0 && taken <= len - at);
        at += taken;
        for (size_t i = 0; i < payload.len; i++) /* it must still be there */
            sum += payload.data[i];
    }
    w->digest += sum;
    free(exact);
}

/* The server's answer to the last request on a link: as it should be, or one of a few that should not. */
static void serve(world *w, link *l, uint8_t how)
{
    uint8_t out[256];
    size_t len = 0;
    dp_wr wr = dp_wr_init(out, sizeof out);
    static const dp_address alternate = {.family = DP_FAMILY_IPV4, .port = 3478, .ip = {10, 0, 0, 8}};
    static const uint16_t codes[] = {300, 403, 437, 438, 440, 486, 500, 508};
    dp_address relayed = relayed_by(l);
    dp_address six = {.family = DP_FAMILY_IPV6, .port = 5000, .ip = {0x20, 1, 0xD, 0xB8}};
    bool fails = !l->authenticated || (how & 1) != 0;
    dp_stun_write_header(&wr, fails ? DP_STUN_ERROR : DP_STUN_SUCCESS, l->method, l->transaction);
    if (fails) {
        unsigned code = l->authenticated ? codes[how >> 1 & 7] : DP_STUN_CODE_UNAUTHENTICATED;
        dp_stun_write_error_code(&wr, code, "");
        dp_stun_write_attribute(&wr, DP_STUN_REALM, "r", 1);
        dp_stun_write_attribute(&wr, DP_STUN_NONCE, "nonce", 5);
        if (code == DP_STUN_CODE_TRY_ALTERNATE) {
            const uint8_t value[8] = {0, 1, 0x0D, 0x96, alternate.ip[0], 0, 0, alternate.ip[3]};
            dp_stun_write_attribute(&wr, DP_STUN_ALTERNATE_SERVER, value, sizeof value);
        }
    } else if (l->method == DP_STUN_METHOD_ALLOCATE) {
        dp_stun_write_xor_address(&wr, DP_STUN_XOR_RELAYED_ADDRESS, &relayed);
        if ((how & 2) != 0)
            dp_stun_write_xor_address(&wr, DP_STUN_XOR_RELAYED_ADDRESS, &six);
        dp_stun_write_xor_mapped_address(&wr, &w->addresses[0][0]);
        dp_stun_write_u32(&wr, DP_STUN_LIFETIME, 600);
    } else if (l->method == DP_STUN_METHOD_REFRESH) {
        dp_stun_write_u32(&wr, DP_STUN_LIFETIME, 600);
    }
    if (l->authenticated)
        dp_stun_write_integrity(&wr, w->key, sizeof w->key);
    l->has_request = false;
    if (dp_stun_finish(&wr, &len) == DP_OK)
        link_input(w, l->id, out, len);
}

/* A kept datagram of the peer, through the relay. */
static void through_relay(world *w, uint32_t id, size_t which)
{
    static const uint8_t transaction[DP_STUN_TRANSACTION_LEN] = {1};
    uint8_t out[DP_DATAGRAM_MAX];
    size_t len = 0;
    if (w->kept_count[1] == 0)
        return;
    kept k = w->kept[1][which % w->kept_count[1]];
    forget(w, 1, which % w->kept_count[1]);
    dp_wr wr = dp_wr_init(out, sizeof out);
    dp_stun_write_header(&wr, DP_STUN_INDICATION, DP_STUN_METHOD_DATA, transaction);
    dp_stun_write_xor_address(&wr, DP_STUN_XOR_PEER_ADDRESS, &k.local);
    dp_stun_write_attribute(&wr, DP_STUN_DATA, k.data, k.len);
    if (dp_stun_finish(&wr, &len) == DP_OK)
        link_input(w, id, out, len);
}

static void link_step(world *w, dp_rd *rd)
{
    uint8_t how = dp_rd_u8(rd);
    link *l = &w->links[how >> 5];
    size_t n = dp_rd_left(rd) < 64 ? dp_rd_left(rd) : 64;
    if (l->id == 0)
        return;
    switch (how % 8) {
    case 0:
    case 1:
        dp_ice_link_opened(w->ice[0], w->now, l->id);
        break;
    case 2:
    case 3:
    case 4:
        if (l->has_request)
            serve(w, l, how % 8 == 2 ? dp_rd_u8(rd) : 0);
        break;
    case 5:
        through_relay(w, l->id, dp_rd_u8(rd));
        break;
    case 6:
        link_input(w, l->id, dp_rd_bytes(rd, n), n);
        break;
    default: {
        uint32_t id = l->id;
        l->id = 0;
        dp_ice_link_closed(w->ice[0], w->now, id);
        break;
    }
    }
}

/* ---- the owner's calls ---- */

static void data_out(world *w, uint8_t n)
{
    uint8_t data[512];
    dp_datagram d = {.data = data, .capacity = sizeof data};
    size_t headroom = 0;
    if (!dp_ice_send_begin(w->ice[0], &d, &headroom))
        return;
    require(headroom <= DP_ICE_HEADROOM_MAX && d.remote.family != DP_FAMILY_NONE);
    memset(data + headroom, 0x80, n);
    d.length = n;
    dp_ice_send_end(w->ice[0], &d, headroom);
    require(d.length == 0 || d.length >= n + headroom);
    digest(w, &d);
}

static void sockets(world *w, uint8_t how)
{
    dp_address a = w->addresses[0][how >> 4 & 1];
    a.port = (uint16_t)(a.port + (how >> 5) * 10);
    if ((how & 1) != 0)
        (void)dp_ice_remove_local_address(w->ice[0], w->now, &a);
    else if ((how & 2) != 0)
        (void)dp_ice_add_local_listener(w->ice[0], w->now, &a);
    else
        (void)dp_ice_add_local_address(w->ice[0], w->now, &a);
}

/* Either side; both, with the credentials exchanged at once; or in several steps. */
static void restart(world *w, uint8_t how)
{
    for (unsigned i = 0; i < 2; i++) {
        if ((how & 1u << i) != 0)
            (void)dp_ice_restart(w->ice[i], w->now);
    }
    if ((how & 8) != 0)
        dp_ice_set_remote_lite(w->ice[0]);
    for (unsigned i = 0; i < 2; i++) {
        if ((how & 16u << i) != 0)
            (void)dp_ice_set_remote_credentials(w->ice[i], w->now, dp_ice_local_ufrag(w->ice[1 - i]),
                                                dp_ice_local_pwd(w->ice[1 - i]));
    }
    if ((how & 64) != 0)
        (void)dp_ice_gather(w->ice[1], w->now);
}

static void resolved(world *w, uint8_t how)
{
    dp_address found[4];
    for (unsigned i = 0; i < 4; i++) {
        found[i] = w->addresses[1][i & 1];
        found[i].ip[2] = (uint8_t)(how * i);
    }
    dp_ice_resolved(w->ice[0], w->now, w->resolve, found, how & 3);
}

static void call(world *w, dp_rd *rd, unsigned which)
{
    uint8_t how = dp_rd_u8(rd);
    switch (which) {
    case 12:
        restart(w, how);
        break;
    case 13:
        sockets(w, how);
        break;
    case 14:
        resolved(w, how);
        break;
    case 15:
        data_out(w, how);
        break;
    case 16: {
        uint32_t id = dp_ice_link_accepted(w->ice[0], w->now, &w->addresses[0][how & 1],
                                           &w->addresses[1][how >> 1 & 1]);
        if (id != 0)
            w->links[w->link_count++ % LINKS] = (link){.id = id};
        break;
    }
    default:
        (void)dp_ice_add_remote_candidate(w->ice[0], w->now,
                                          (how & 1) != 0
                                              ? "candidate:2 1 udp 99 a.local 2000 typ host"
                                              : "candidate:3 1 tcp 9 10.0.0.2 2001 typ host tcptype passive");
        break;
    }
}

/* An agent whose timers are run, and whose messages are fetched, comes to rest at each time. */
static void settle(world *w, unsigned i)
{
    for (unsigned n = 0; dp_ice_next_timeout(w->ice[i]) <= w->now; n++) {
        require(n < 16);
        dp_ice_handle_timeout(w->ice[i], w->now);
        drain(w);
    }
}

static void step(world *w, dp_rd *rd)
{
    unsigned which = dp_rd_u8(rd) % 22;
    switch (which) {
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
    case 11: {
        uint8_t how = dp_rd_u8(rd);
        if (how == 0xFF)
            dp_ice_close(w->ice[0]);
        else if (how == 0xFE)
            (void)dp_ice_add_remote_candidate(w->ice[0], w->now, NULL);
        else
            dp_ice_set_role(w->ice[0], (how & 1) != 0 ? DP_ICE_CONTROLLING : DP_ICE_CONTROLLED);
        break;
    }
    case 18:
    case 19:
    case 20:
    case 21:
        link_step(w, rd);
        break;
    default:
        call(w, rd, which);
        break;
    }
    for (unsigned i = 0; i < 2; i++) {
        settle(w, i);
        drain(w);
        check_invariants(w->ice[i], w->now);
    }
}

/* One by UDP, one by TCP. */
static bool add_relays(world *w, uint8_t options)
{
    dp_ice_server server = {.size = sizeof server,
                            .turn = true,
                            .address = {.family = DP_FAMILY_IPV4, .port = 3478, .ip = {10, 0, 0, 7}},
                            .username = "u",
                            .credential = "c"};
    if (dp_md5(w->key, "u:r:c", 5) != DP_OK || dp_ice_add_server(w->ice[0], &server) != DP_OK)
        return false;
    server.transport = DP_ICE_TCP;
    return (options & 16) == 0 || dp_ice_add_server(w->ice[0], &server) == DP_OK;
}

static bool start(world *w, uint8_t options)
{
    static const dp_address base = {.family = DP_FAMILY_IPV4, .port = 1000, .ip = {10, 0, 0, 1}};
    for (unsigned i = 0; i < 2; i++) {
        unsigned kind = i == 0 ? options >> 4 : 0;
        dp_ice_config config = {.size = sizeof config,
                                .random = {seeded, &w->seed},
                                .role = (options >> i & 1) != 0 ? DP_ICE_CONTROLLING : DP_ICE_CONTROLLED,
                                .lite = kind == 1 || kind == 9,
                                .relay_only = kind == 2 || kind == 3,
                                .hide_addresses = kind == 4 || kind == 5 || kind == 3,
                                .tcp = kind >= 8};
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
    if ((options >> 4) % 8 >= 2 && !add_relays(w, options))
        return false;
    if ((options & 8) != 0)
        w->ice[1]->tie_breaker = w->ice[0]->tie_breaker;
    (void)dp_ice_gather(w->ice[1], w->now);
    (void)dp_ice_set_remote_credentials(w->ice[1], w->now, dp_ice_local_ufrag(w->ice[0]),
                                        dp_ice_local_pwd(w->ice[0]));
    return true;
}

static uint64_t run(const uint8_t *data, size_t size)
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
    uint64_t result = w->digest;
    dp_ice_free(w->ice[0]);
    dp_ice_free(w->ice[1]);
    free(w);
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t first = run(data, size);
    if (size % 32 == 0)
        require(run(data, size) == first);
    return 0;
}
