/* An agent with TURN servers in virtual time: a server of a few lines that signs what it says, an owner that opens the
 * links, and an ordinary peer. What relay.c uses. */
#ifndef TESTS_ICE_RELAY_WORLD_H
#define TESTS_ICE_RELAY_WORLD_H

#include "base/crypto.h"
#include "testnet.h"

/* ---- the server ---- */

#define CHANNELS 8

typedef struct server {
    testnet *net;
    dp_address address;
    dp_address relayed[2];
    size_t relayed_count;
    uint8_t key[DP_MD5_LEN];
    size_t piece;         /* streams: bytes a call */
    unsigned always;      /* answers each Allocate with this error */
    dp_address alternate; /* of a 300 */
    bool forbids;         /* 403 to all peers */
    bool refuses;         /* connections */
    bool mute;
    bool allocated;
    dp_address permitted[CHANNELS];
    size_t permitted_count;
    struct {
        uint16_t number;
        dp_address peer;
    } channels[CHANNELS];
    size_t channel_count;
    unsigned seen; /* LINK_OPEN events */
    unsigned closed_by_server;
    unsigned allocations;
    unsigned releases;
    unsigned indications;  /* data by Send */
    unsigned channel_data; /* data by channel */
    unsigned forbidden;    /* data without permission */
} server;

static inline bool is_permitted(const server *s, const dp_address *peer)
{
    for (size_t i = 0; i < s->permitted_count; i++) {
        if (dp_address_same_ip(&s->permitted[i], peer))
            return true;
    }
    return false;
}

/* To node 0, cut into pieces if it is a stream. */
static inline void to_client(server *s, uint8_t *data, size_t len)
{
    node *n = &s->net->nodes[0];
    size_t piece = s->piece != 0 ? s->piece : len;
    for (size_t at = 0; at < len;) {
        size_t left = len - at < piece ? len - at : piece;
        uint8_t *exact = malloc(left);
        memcpy(exact, data + at, left);
        for (size_t done = 0; done < left;) {
            dp_ice_payload payload;
            size_t taken =
                dp_ice_link_input(n->ice, s->net->now, n->link.id, exact + done, left - done, &payload);
            assert_in_range(taken, 1, left - done);
            done += taken;
            if (payload.len > 0) {
                n->payloads++;
                assert_int_equal(payload.data[0], 'd');
            }
        }
        free(exact);
        at += left;
    }
}

static inline void reply(server *s, dp_wr *wr, bool sign)
{
    size_t len = 0;
    if (sign)
        dp_stun_write_integrity(wr, s->key, sizeof s->key);
    assert_int_equal(dp_stun_finish(wr, &len), DP_OK);
    to_client(s, wr->start, len);
}

static inline void relay_out(server *s, const dp_address *peer, const uint8_t *data, size_t len)
{
    if (!is_permitted(s, peer)) {
        s->forbidden++;
        return;
    }
    for (size_t k = 0; k < s->net->nodes[1].address_count; k++) {
        const dp_address *to = &s->net->nodes[1].addresses[k];
        const dp_address *from = &s->relayed[peer->family == DP_FAMILY_IPV4 ? 0 : 1];
        if (dp_address_equal(peer, to))
            net_push(s->net, 1, to, from, data, len);
    }
}

static inline void allocate(server *s, const dp_stun_message *m, dp_wr *wr)
{
    static const char realm[] = "example.org";
    dp_address mapped = s->net->nodes[0].addresses[0];
    bool known = m->integrity_at != 0 && dp_stun_check_integrity(m, s->key, sizeof s->key) == DP_OK;
    if (!known || s->always != 0) {
        dp_stun_write_header(wr, DP_STUN_ERROR, m->method, m->transaction);
        dp_stun_write_error_code(wr, known ? s->always : DP_STUN_CODE_UNAUTHENTICATED, "no");
        if (!known) {
            dp_stun_write_attribute(wr, DP_STUN_REALM, realm, strlen(realm));
            dp_stun_write_attribute(wr, DP_STUN_NONCE, "nonce-1", 7);
        } else if (s->always == DP_STUN_CODE_TRY_ALTERNATE) {
            dp_stun_write_attribute(wr, DP_STUN_ALTERNATE_SERVER,
                                    (uint8_t[]){0, 1, (uint8_t)(s->alternate.port >> 8),
                                                (uint8_t)s->alternate.port, s->alternate.ip[0],
                                                s->alternate.ip[1], s->alternate.ip[2], s->alternate.ip[3]},
                                    8);
        }
        reply(s, wr, known);
        return;
    }
    s->allocated = true;
    s->allocations++;
    s->permitted_count = s->channel_count = 0;
    dp_stun_write_header(wr, DP_STUN_SUCCESS, m->method, m->transaction);
    for (size_t i = 0; i < s->relayed_count; i++)
        dp_stun_write_xor_address(wr, DP_STUN_XOR_RELAYED_ADDRESS, &s->relayed[i]);
    dp_stun_write_xor_mapped_address(wr, &mapped);
    dp_stun_write_u32(wr, DP_STUN_LIFETIME, 600);
    reply(s, wr, true);
}

static inline void permit(server *s, const dp_stun_message *m, dp_wr *wr)
{
    dp_stun_write_header(wr, s->forbids ? DP_STUN_ERROR : DP_STUN_SUCCESS, m->method, m->transaction);
    if (s->forbids) {
        dp_stun_write_error_code(wr, 403, "no");
    } else if (!is_permitted(s, &m->peer)) {
        assert_true(s->permitted_count < CHANNELS);
        s->permitted[s->permitted_count++] = m->peer;
    }
    if (!s->forbids && m->channel != 0) {
        s->channels[s->channel_count].number = m->channel;
        s->channels[s->channel_count++ % CHANNELS].peer = m->peer;
    }
    reply(s, wr, true);
}

static inline void refresh(server *s, const dp_stun_message *m, dp_wr *wr)
{
    bool release = m->has_lifetime && m->lifetime == 0;
    s->releases += release;
    dp_stun_write_header(wr, DP_STUN_SUCCESS, m->method, m->transaction);
    dp_stun_write_u32(wr, DP_STUN_LIFETIME, release ? 0 : 600);
    if (!release)
        reply(s, wr, true);
}

static inline void from_client(server *s, uint8_t *data, size_t len)
{
    uint8_t out[512];
    dp_wr wr = dp_wr_init(out, sizeof out);
    dp_stun_message m;
    if (s->mute)
        return;
    if (data[0] >= 0x40) {
        uint16_t number = (uint16_t)(data[0] << 8 | data[1]);
        size_t n = (size_t)(data[2] << 8 | data[3]);
        assert_true(n + 4 <= len);
        for (size_t i = 0; i < s->channel_count; i++) {
            if (s->channels[i].number == number) {
                s->channel_data++;
                relay_out(s, &s->channels[i].peer, data + 4, n);
                return;
            }
        }
        fail_msg("channel %x was not bound", number);
    }
    assert_int_equal(dp_stun_decode(&m, data, len), DP_OK);
    if (m.method == DP_STUN_METHOD_ALLOCATE) {
        allocate(s, &m, &wr);
    } else if (m.method == DP_STUN_METHOD_SEND) {
        s->indications++;
        relay_out(s, &m.peer, m.payload, m.payload_len);
    } else {
        assert_int_equal(dp_stun_check_integrity(&m, s->key, sizeof s->key), DP_OK);
        if (m.method == DP_STUN_METHOD_REFRESH)
            refresh(s, &m, &wr);
        else
            permit(s, &m, &wr);
    }
}

/* What the world sends to the relayed address. */
static inline void from_peer(server *s, const dp_address *peer, const uint8_t *data, size_t len)
{
    uint8_t out[DP_DATAGRAM_MAX];
    static const uint8_t id[DP_STUN_TRANSACTION_LEN] = "indication";
    size_t n = 0;
    if (!s->allocated || s->mute || !is_permitted(s, peer))
        return;
    for (size_t i = 0; i < s->channel_count; i++) {
        if (!dp_address_equal(&s->channels[i].peer, peer))
            continue;
        dp_wr wr = dp_wr_init(out, sizeof out);
        dp_wr_u16(&wr, s->channels[i].number);
        dp_wr_u16(&wr, (uint16_t)len);
        dp_wr_bytes(&wr, data, len);
        memset(out + 4 + len, 0, 3);
        to_client(s, out, s->piece != 0 ? (4 + len + 3) / 4 * 4 : 4 + len);
        return;
    }
    dp_wr wr = dp_wr_init(out, sizeof out);
    dp_stun_write_header(&wr, DP_STUN_INDICATION, DP_STUN_METHOD_DATA, id);
    dp_stun_write_xor_address(&wr, DP_STUN_XOR_PEER_ADDRESS, peer);
    dp_stun_write_attribute(&wr, DP_STUN_DATA, data, len);
    assert_int_equal(dp_stun_finish(&wr, &n), DP_OK);
    to_client(s, out, n);
}

static inline bool route(testnet *net, unsigned from, dp_datagram *d)
{
    server *s = net->tap_ctx;
    if (d->link != 0) {
        assert_int_equal(from, 0);
        assert_int_equal(d->link, net->nodes[0].link.id);
        uint8_t copy[DP_DATAGRAM_MAX];
        memcpy(copy, d->data, d->length);
        from_client(s, copy, d->length);
        return false;
    }
    for (size_t i = 0; from == 1 && i < s->relayed_count; i++) {
        if (dp_address_equal(&d->remote, &s->relayed[i])) {
            from_peer(s, &d->local, d->data, d->length);
            return false;
        }
    }
    return true;
}

/* ---- the world ---- */

static inline void init(testnet *net, server *s, dp_ice_transport transport, bool relay_only)
{
    *s = (server){.net = net,
                  .address = addr("203.0.113.1", 3478),
                  .relayed = {addr("203.0.113.50", 50000), addr("2001:db8:50::1", 50000)},
                  .relayed_count = 1,
                  .piece = transport == DP_ICE_UDP ? 0 : DP_DATAGRAM_MAX};
    assert_int_equal(dp_md5(s->key, "joe:example.org:secret", 22), DP_OK);
    net_init(net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    dp_ice_config config = {.size = sizeof config,
                            .random = {test_random_fn, &net->nodes[0].seed},
                            .role = DP_ICE_CONTROLLING,
                            .relay_only = relay_only,
                            .hide_addresses = !relay_only};
    dp_ice_free(net->nodes[0].ice);
    assert_int_equal(dp_ice_new(&net->nodes[0].ice, &config), DP_OK);
    net->tap = route;
    net->tap_ctx = s;
    dp_ice_server entry = {.size = sizeof entry,
                           .turn = true,
                           .transport = transport,
                           .address = s->address,
                           .name = "turn.example",
                           .username = "joe",
                           .credential = "secret"};
    assert_int_equal(dp_ice_add_server(net->nodes[0].ice, &entry), DP_OK);
    net_address(net, 0, "10.0.0.1", 1000);
    net_address(net, 1, "10.0.0.2", 2000);
}

static inline void begin(testnet *net)
{
    for (unsigned i = 0; i < 2; i++) {
        net_gather(net, i);
        net_credentials(net, i);
    }
}

/* The owner's part: connects what it is asked to. */
static inline void run(testnet *net, server *s, dp_duration span)
{
    node *n = &net->nodes[0];
    for (dp_time end = net->now + span;;) {
        net_run(net, 0);
        while (s->seen != n->links) {
            s->seen = n->links;
            if (s->refuses) {
                s->closed_by_server++;
                dp_ice_link_closed(n->ice, net->now, n->link.id);
            } else {
                dp_ice_link_opened(n->ice, net->now, n->link.id);
            }
            net_run(net, 0);
        }
        if (net->now >= end)
            return;
        net_run(net, DP_MS(10));
    }
}

static inline void hang_up(testnet *net, server *s)
{
    s->closed_by_server++;
    s->allocated = false;
    dp_ice_link_closed(net->nodes[0].ice, net->now, net->nodes[0].link.id);
}

/* Returns the headroom. */
static inline size_t send_data(testnet *net, unsigned i, size_t len)
{
    uint8_t data[DP_DATAGRAM_MAX];
    dp_datagram d = {.data = data, .capacity = sizeof data};
    size_t headroom = 99;
    assert_true(dp_ice_send_begin(net->nodes[i].ice, &d, &headroom));
    assert_true(headroom <= DP_ICE_HEADROOM_MAX);
    memset(data, 0xEE, sizeof data);
    memset(data + headroom, 'd', len);
    d.length = len;
    dp_ice_send_end(net->nodes[i].ice, &d, headroom);
    assert_true(d.length >= len + headroom);
    if (net->tap(net, i, &d))
        net_route(net, i, &d);
    return headroom;
}

static inline void assert_state(const testnet *net, unsigned i, dp_ice_state state)
{
    assert_string_equal(dp_ice_state_name(dp_ice_get_state(net->nodes[i].ice)), dp_ice_state_name(state));
}

/* Each link that was opened has ended once: by the owner's word, or by LINK_CLOSE. */
static inline void assert_links(testnet *net, const server *s, unsigned still_open)
{
    net_run(net, 0);
    assert_int_equal(net->nodes[0].links, s->closed_by_server + net->nodes[0].links_closed + still_open);
}

static inline void connected(testnet *net, server *s, dp_ice_transport transport, size_t piece)
{
    init(net, s, transport, true);
    if (transport != DP_ICE_UDP)
        s->piece = piece;
    begin(net);
    run(net, s, DP_SECONDS(2));
    assert_true(net_completed(net));
}

#endif
