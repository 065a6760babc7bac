/* The agent and its TURN servers: an agent that may use relays only, a server of a few lines that signs what it says,
 * and an ordinary peer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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

static bool same_ip(dp_address a, const dp_address *b)
{
    a.port = b->port;
    return dp_address_equal(&a, b);
}

static bool is_permitted(const server *s, const dp_address *peer)
{
    for (size_t i = 0; i < s->permitted_count; i++) {
        if (same_ip(s->permitted[i], peer))
            return true;
    }
    return false;
}

/* To node 0, cut into pieces if it is a stream. */
static void to_client(server *s, uint8_t *data, size_t len)
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

static void reply(server *s, dp_wr *wr, bool sign)
{
    size_t len = 0;
    if (sign)
        dp_stun_write_integrity(wr, s->key, sizeof s->key);
    assert_int_equal(dp_stun_finish(wr, &len), DP_OK);
    to_client(s, wr->start, len);
}

static void relay_out(server *s, const dp_address *peer, const uint8_t *data, size_t len)
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

static void allocate(server *s, const dp_stun_message *m, dp_wr *wr)
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

static void permit(server *s, const dp_stun_message *m, dp_wr *wr)
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

static void refresh(server *s, const dp_stun_message *m, dp_wr *wr)
{
    bool release = m->has_lifetime && m->lifetime == 0;
    s->releases += release;
    dp_stun_write_header(wr, DP_STUN_SUCCESS, m->method, m->transaction);
    dp_stun_write_u32(wr, DP_STUN_LIFETIME, release ? 0 : 600);
    if (!release)
        reply(s, wr, true);
}

static void from_client(server *s, uint8_t *data, size_t len)
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
static void from_peer(server *s, const dp_address *peer, const uint8_t *data, size_t len)
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

static bool route(testnet *net, unsigned from, dp_datagram *d)
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

static void init(testnet *net, server *s, dp_ice_transport transport, bool relay_only)
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

static void begin(testnet *net)
{
    for (unsigned i = 0; i < 2; i++) {
        net_gather(net, i);
        net_credentials(net, i);
    }
}

/* The owner's part: connects what it is asked to. */
static void run(testnet *net, server *s, dp_duration span)
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

static void hang_up(testnet *net, server *s)
{
    s->closed_by_server++;
    s->allocated = false;
    dp_ice_link_closed(net->nodes[0].ice, net->now, net->nodes[0].link.id);
}

/* Returns the headroom. */
static size_t send_data(testnet *net, unsigned i, size_t len)
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

static void assert_state(const testnet *net, unsigned i, dp_ice_state state)
{
    assert_string_equal(dp_ice_state_name(dp_ice_get_state(net->nodes[i].ice)), dp_ice_state_name(state));
}

/* Each link that was opened has ended once: by the owner's word, or by LINK_CLOSE. */
static void assert_links(testnet *net, const server *s, unsigned still_open)
{
    net_run(net, 0);
    assert_int_equal(net->nodes[0].links, s->closed_by_server + net->nodes[0].links_closed + still_open);
}

static void connected(testnet *net, server *s, dp_ice_transport transport, size_t piece)
{
    init(net, s, transport, true);
    if (transport != DP_ICE_UDP)
        s->piece = piece;
    begin(net);
    run(net, s, DP_SECONDS(2));
    assert_true(net_completed(net));
}

/* ---- tests ---- */

static void connects_through_a_relay(void **state)
{
    (void)state;
    static const size_t pieces[] = {0, 1, 2, 3, 5, 7, 19, 20, 21, 64, DP_DATAGRAM_MAX};
    for (size_t v = 0; v < sizeof pieces / sizeof pieces[0]; v++) {
        testnet net;
        server s;
        dp_ice_transport transport = v == 0 ? DP_ICE_UDP : v % 2 == 1 ? DP_ICE_TCP : DP_ICE_TLS;
        connected(&net, &s, transport, pieces[v]);
        assert_int_equal(net.nodes[0].link.transport, transport);
        assert_string_equal(net.nodes[0].link.name, "turn.example");
        assert_int_equal(s.forbidden, 0); /* the permission is there before the check */
        assert_int_equal(s.channel_count, 1);
        assert_int_equal(net.nodes[0].candidate_count, 1);
        dp_candidate c;
        const char *text = net.nodes[0].candidates[0];
        assert_int_equal(dp_candidate_parse(&c, text, strlen(text)), DP_OK);
        assert_int_equal(c.type, DP_CANDIDATE_RELAY);
        assert_true(dp_address_equal(&c.address, &s.relayed[0]));
        assert_null(strstr(text, "10.0.0.1")); /* our side of the server, nobody's business */
        dp_address l;
        dp_address r;
        assert_true(dp_ice_selected_pair(net.nodes[0].ice, &l, &r));
        assert_true(dp_address_equal(&l, &s.relayed[0]));
        for (size_t len = 1; len <= 200; len++) {
            assert_int_equal(send_data(&net, 0, len), 4);
            (void)send_data(&net, 1, len);
        }
        run(&net, &s, DP_SECONDS(60));
        assert_int_equal(net.nodes[0].payloads, 200);
        assert_int_equal(net.nodes[1].payloads, 200);
        assert_true(net_completed(&net));
        assert_links(&net, &s, 1);
        net_clear(&net);
    }
}

static void data_before_the_channel(void **state)
{
    (void)state;
    testnet net;
    server s;
    connected(&net, &s, DP_ICE_UDP, 0);
    s.channel_count = 0;
    (void)send_data(&net, 1, 10); /* a Data indication */
    assert_int_equal(net.nodes[0].payloads, 1);
    uint8_t lie[] = "data of a stranger";
    dp_address stranger = addr("10.0.0.2", 2001); /* permitted by its IP, and no peer of ours */
    from_peer(&s, &stranger, lie, sizeof lie);
    assert_int_equal(net.nodes[0].payloads, 1);
    net_clear(&net);
}

static void the_link_breaks(void **state)
{
    (void)state;
    for (unsigned garbage = 0; garbage < 2; garbage++) {
        testnet net;
        server s;
        connected(&net, &s, DP_ICE_TCP, 64);
        if (garbage == 1) {
            uint8_t junk[] = {0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4};
            s.allocated = false;
            to_client(&s, junk, sizeof junk);
        } else {
            hang_up(&net, &s);
        }
        assert_state(&net, 0, DP_ICE_DISCONNECTED);
        uint8_t data[8];
        dp_datagram d = {.data = data, .capacity = sizeof data};
        size_t headroom;
        assert_false(dp_ice_send_begin(net.nodes[0].ice, &d, &headroom));
        assert_links(&net, &s, 0);
        s.relayed[0].port = 50001; /* the next one is another one */
        run(&net, &s, DP_MS(900));
        assert_int_equal(net.nodes[0].links, 1);
        run(&net, &s, DP_SECONDS(2));
        assert_int_equal(net.nodes[0].links, 2);
        assert_int_equal(s.allocations, 2);
        run(&net, &s, DP_SECONDS(8));
        assert_true(net_completed(&net));
        assert_int_equal(send_data(&net, 0, 10), 4);
        run(&net, &s, DP_SECONDS(1));
        assert_int_equal(net.nodes[1].payloads, 1);
        assert_links(&net, &s, 1);
        net_clear(&net);
    }
}

/* The server is away for a while: 1, 2, 4, 8, 16 s; then for good. */
static void the_server_is_restarted(void **state)
{
    (void)state;
    for (unsigned back = 0; back < 2; back++) {
        testnet net;
        server s;
        connected(&net, &s, DP_ICE_TCP, 64);
        hang_up(&net, &s);
        s.refuses = true;
        run(&net, &s, DP_SECONDS(14));
        assert_int_equal(net.nodes[0].links, 4); /* after 1, 3, 7 s */
        s.refuses = back == 0;
        run(&net, &s, DP_SECONDS(12)); /* after 15 s */
        assert_int_equal(net.nodes[0].links, 5);
        if (back == 1) {
            assert_true(net_completed(&net));
            assert_links(&net, &s, 1);
        } else {
            run(&net, &s, DP_SECONDS(100));
            assert_int_equal(net.nodes[0].links, 5); /* failed meanwhile */
            assert_state(&net, 0, DP_ICE_FAILED);
            assert_links(&net, &s, 0);
        }
        net_clear(&net);
    }
}

static void no_server_there(void **state)
{
    (void)state;
    testnet net;
    server s;
    init(&net, &s, DP_ICE_TCP, true);
    s.refuses = true;
    begin(&net);
    run(&net, &s, DP_SECONDS(20));
    assert_true(net.nodes[0].gathering_complete);
    assert_int_equal(net.nodes[0].links, 1); /* what never worked is not tried again */
    assert_links(&net, &s, 0);
    net_clear(&net);
}

static void redirects(void **state)
{
    (void)state;
    for (unsigned ring = 0; ring < 2; ring++) {
        testnet net;
        server s;
        init(&net, &s, DP_ICE_UDP, true);
        s.always = DP_STUN_CODE_TRY_ALTERNATE;
        s.alternate = addr("203.0.113.2", 3479);
        begin(&net);
        net_run(&net, 0);
        assert_int_equal(net.nodes[0].links, 1);
        dp_ice_link_opened(net.nodes[0].ice, net.now, net.nodes[0].link.id);
        s.seen = 1;
        net_run(&net, 0); /* 401, then 300 */
        assert_int_equal(net.nodes[0].links, 2);
        assert_true(dp_address_equal(&net.nodes[0].link.remote, &s.alternate));
        if (ring == 0)
            s.always = 0;
        run(&net, &s, DP_SECONDS(3));
        assert_int_equal(net_completed(&net), ring == 0);
        assert_int_equal(net.nodes[0].links, ring == 0 ? 2 : 1 + DP_ICE_MAX_REDIRECTS);
        assert_true(net.nodes[0].gathering_complete);
        assert_links(&net, &s, ring == 0 ? 1 : 0);
        net_clear(&net);
    }
}

static void a_peer_that_is_refused(void **state)
{
    (void)state;
    testnet net;
    server s;
    init(&net, &s, DP_ICE_UDP, true);
    s.forbids = true;
    begin(&net);
    run(&net, &s, DP_SECONDS(1));
    const dp_ice *ice = net.nodes[0].ice;
    assert_int_equal(ice->pair_count, 1);
    assert_int_equal(ice->pairs[0].state, DP_ICE_PAIR_FAILED);
    assert_int_equal(ice->transaction_count, 0);
    net_clear(&net);
}

/* One allocation, an address of each family: both end with it, and neither is looked at meanwhile. */
static void two_families(void **state)
{
    (void)state;
    testnet net;
    server s;
    init(&net, &s, DP_ICE_UDP, true);
    s.relayed_count = 2;
    net_address(&net, 1, "2001:db8::2", 2000);
    begin(&net);
    run(&net, &s, DP_SECONDS(2));
    assert_true(net_completed(&net));
    dp_ice *ice = net.nodes[0].ice;
    assert_int_equal(ice->pair_count, 2);
    for (size_t i = 0; i < 2; i++) /* each has worked */
        ice->pairs[i].valid = true;
    hang_up(&net, &s);
    assert_int_equal(ice->active, DP_ICE_NO_PAIR);
    run(&net, &s, DP_SECONDS(10));
    assert_true(net_completed(&net));
    assert_int_equal(s.allocations, 2);
    net_clear(&net);
}

static void restart_both(testnet *net)
{
    for (unsigned i = 0; i < 2; i++) {
        net->nodes[i].candidate_count = 0;
        assert_int_equal(dp_ice_restart(net->nodes[i].ice, net->now), DP_OK);
    }
}

/* The allocation outlives the session; data flows. */
static void a_restart_keeps_the_allocation(void **state)
{
    (void)state;
    testnet net;
    server s;
    connected(&net, &s, DP_ICE_TCP, 64);
    restart_both(&net);
    for (unsigned n = 0; n < 20; n++) {
        (void)send_data(&net, 0, 10);
        (void)send_data(&net, 1, 10);
        run(&net, &s, DP_MS(50));
        if (n == 10) {
            net_credentials(&net, 0);
            net_credentials(&net, 1);
        }
    }
    run(&net, &s, DP_SECONDS(1));
    assert_true(net_completed(&net));
    assert_int_equal(net.nodes[0].payloads, 20);
    assert_int_equal(net.nodes[1].payloads, 20);
    assert_int_equal(s.allocations, 1);
    assert_int_equal(net.nodes[0].candidate_count, 1);
    assert_non_null(strstr(net.nodes[0].candidates[0], dp_ice_local_ufrag(net.nodes[0].ice)));
    assert_links(&net, &s, 1);
    net_clear(&net);
}

/* A failure gives the allocation back; a restart asks for a new one. */
static void a_restart_after_failure(void **state)
{
    (void)state;
    testnet net;
    server s;
    connected(&net, &s, DP_ICE_UDP, 0);
    net.loss = 100; /* the peer's path; the server is there */
    run(&net, &s, DP_SECONDS(40));
    for (unsigned i = 0; i < 2; i++)
        assert_state(&net, i, DP_ICE_FAILED);
    assert_int_equal(s.releases, 1);
    assert_links(&net, &s, 0);
    net.loss = 0;
    s.relayed[0].port = 50001;
    restart_both(&net);
    net_credentials(&net, 0);
    net_credentials(&net, 1);
    net_run(&net, 0); /* the peer's candidate is there before the new link */
    assert_int_equal(net.nodes[0].candidate_count, 0);
    run(&net, &s, DP_SECONDS(3));
    assert_true(net_completed(&net));
    assert_int_equal(s.allocations, 2);
    assert_int_equal(net.nodes[0].candidate_count, 1);
    assert_links(&net, &s, 1);
    net_clear(&net);
}

/* The same with nothing polled between the failure and the restart. */
static void a_restart_before_the_release(void **state)
{
    (void)state;
    testnet net;
    server s;
    connected(&net, &s, DP_ICE_TCP, 64);
    net.loss = 100;
    dp_ice *ice = net.nodes[0].ice;
    net.now += DP_SECONDS(40);
    dp_ice_handle_timeout(ice, net.now);
    assert_state(&net, 0, DP_ICE_FAILED);
    net.nodes[0].candidate_count = 0;
    assert_int_equal(dp_ice_restart(ice, net.now), DP_OK);
    s.seen = net.nodes[0].links;
    net.loss = 0;
    run(&net, &s, DP_SECONDS(1));
    assert_int_equal(s.allocations, 2);
    assert_int_equal(net.nodes[0].candidate_count, 1);
    assert_links(&net, &s, 1);
    net_clear(&net);
}

static void closing_gives_it_back(void **state)
{
    (void)state;
    for (unsigned v = 0; v < 3; v++) {
        testnet net;
        server s;
        if (v == 0) {
            connected(&net, &s, DP_ICE_TCP, 64);
        } else {
            init(&net, &s, DP_ICE_TCP, true);
            s.mute = true;
            begin(&net);
            if (v == 1)
                run(&net, &s, DP_MS(10)); /* asking */
            else
                net_run(&net, 0); /* opening */
        }
        dp_ice_close(net.nodes[0].ice);
        uint32_t link = net.nodes[0].link.id;
        net_run(&net, DP_SECONDS(1));
        assert_int_equal(s.releases, v == 0);
        assert_int_equal(net.nodes[0].links, 1);
        assert_int_equal(net.nodes[0].links_closed, 1);
        assert_int_equal(dp_ice_next_timeout(net.nodes[0].ice), DP_TIME_NEVER);
        dp_ice_payload payload;
        uint8_t late[4] = {0};
        dp_ice_link_opened(net.nodes[0].ice, net.now, link); /* too late, and harmless */
        assert_int_equal(dp_ice_link_input(net.nodes[0].ice, net.now, link, late, 4, &payload), 4);
        dp_ice_link_closed(net.nodes[0].ice, net.now, link);
        assert_links(&net, &s, 0);
        net_clear(&net);
    }
}

/* A link that the owner has not heard of needs no end. */
static void closing_before_the_link_was_asked_for(void **state)
{
    (void)state;
    testnet net;
    server s;
    init(&net, &s, DP_ICE_TCP, true);
    net_gather(&net, 0);
    dp_ice_close(net.nodes[0].ice);
    net_run(&net, DP_SECONDS(1));
    assert_int_equal(net.nodes[0].links, 0);
    assert_int_equal(net.nodes[0].links_closed, 0);
    net_clear(&net);
}

/* Without a NAT the server sees the host's own address: it must not be told with the relayed one. */
static void hidden_addresses_stay_hidden(void **state)
{
    (void)state;
    testnet net;
    server s;
    init(&net, &s, DP_ICE_UDP, false);
    begin(&net);
    run(&net, &s, DP_SECONDS(2));
    assert_int_equal(net.nodes[0].candidate_count, 2);
    for (unsigned n = 0; n < 2; n++)
        assert_null(strstr(net.nodes[0].candidates[n], "10.0.0.1"));
    net_clear(&net);
}

/* Calls for links that never were. */
static void links_of_nobody(void **state)
{
    (void)state;
    testnet net;
    server s;
    dp_ice_payload payload;
    uint8_t data[20] = {0};
    connected(&net, &s, DP_ICE_TCP, 64);
    static const uint32_t ids[] = {0, 7, UINT32_MAX};
    for (size_t i = 0; i < 3; i++) {
        dp_ice_link_opened(net.nodes[0].ice, net.now, ids[i]);
        assert_int_equal(dp_ice_link_input(net.nodes[0].ice, net.now, ids[i], data, sizeof data, &payload),
                         20);
        assert_int_equal(payload.len, 0);
        dp_ice_link_closed(net.nodes[0].ice, net.now, ids[i]);
    }
    dp_ice_link_opened(net.nodes[0].ice, net.now, net.nodes[0].link.id); /* again */
    run(&net, &s, DP_SECONDS(1));
    assert_true(net_completed(&net));
    assert_int_equal(s.allocations, 1);
    assert_links(&net, &s, 1);
    net_clear(&net);
}

/* ---- failures ---- */

static unsigned long countdown;
static unsigned long allocations;

static bool fails(void)
{
    allocations++;
    return countdown > 0 && --countdown == 0;
}
static void *hook_alloc(void *ctx, size_t size)
{
    (void)ctx;
    return fails() ? NULL : malloc(size);
}
static void *hook_realloc(void *ctx, void *old, size_t size)
{
    (void)ctx;
    return fails() ? NULL : realloc(old, size);
}
static void hook_free(void *ctx, void *block)
{
    (void)ctx;
    free(block);
}

/* A lost allocation costs the relay at most; nothing leaks, gathering ends. */
static void every_allocation_fails_once(void **state)
{
    (void)state;
    const dp_allocator allocator = {hook_alloc, hook_realloc, hook_free, NULL};
    unsigned long total = 1;
    size_t made = 0;
    for (unsigned long n = 0; n <= total; n++) {
        testnet net;
        server s;
        init(&net, &s, DP_ICE_TCP, true);
        net.nodes[0].mute_candidates = true;
        dp_set_allocator(&allocator);
        allocations = 0;
        countdown = n;
        net_gather(&net, 0);
        run(&net, &s, DP_SECONDS(12));
        assert_true(net.nodes[0].gathering_complete);
        made += net.nodes[0].candidate_count;
        if (n == 0)
            total = allocations;
        dp_ice_close(net.nodes[0].ice);
        net_run(&net, 0);
        assert_links(&net, &s, 0);
        dp_set_allocator(NULL);
        net_clear(&net);
    }
    assert_in_range(total, 4, 100);
    assert_in_range(made, 1, total);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connects_through_a_relay),
        cmocka_unit_test(data_before_the_channel),
        cmocka_unit_test(the_link_breaks),
        cmocka_unit_test(the_server_is_restarted),
        cmocka_unit_test(no_server_there),
        cmocka_unit_test(redirects),
        cmocka_unit_test(a_peer_that_is_refused),
        cmocka_unit_test(two_families),
        cmocka_unit_test(a_restart_keeps_the_allocation),
        cmocka_unit_test(a_restart_after_failure),
        cmocka_unit_test(a_restart_before_the_release),
        cmocka_unit_test(closing_gives_it_back),
        cmocka_unit_test(closing_before_the_link_was_asked_for),
        cmocka_unit_test(hidden_addresses_stay_hidden),
        cmocka_unit_test(links_of_nobody),
        cmocka_unit_test(every_allocation_fails_once),
    };
    return cmocka_run_group_tests_name("ice/relay", tests, NULL, NULL);
}
