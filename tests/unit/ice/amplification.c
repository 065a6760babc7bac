/* Bad-input rows 18 and 23: candidates may point at somebody who never asked for anything. What an agent sends there
 * has a bound, for all time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "testnet.h"

/* A request is no longer than this with ufrags of the usual length. */
#define REQUEST_MAX 130

typedef struct traffic {
    unsigned requests[256]; /* to 203.0.113.n, and answers */
    unsigned asked;         /* requests to any of them */
    size_t bytes;
    bool deaf; /* nothing arrives at all */
} traffic;

static bool is_victim(const dp_address *a)
{
    return a->family == DP_FAMILY_IPV4 && a->ip[0] == 203 && a->ip[1] == 0 && a->ip[2] == 113;
}

static bool watch(testnet *net, unsigned from, dp_datagram *d)
{
    traffic *t = net->tap_ctx;
    if (from == 0 && is_victim(&d->remote)) {
        t->requests[d->remote.ip[3]]++;
        t->asked += d->data[0] == 0;
        t->bytes += d->length;
    }
    return !t->deaf;
}

static void point_at(testnet *net, unsigned n, unsigned ip, unsigned port)
{
    char line[128];
    snprintf(line, sizeof line, "candidate:%u 1 udp %u 203.0.113.%u %u typ host", n, 2130706431 - n, ip,
             port);
    assert_int_equal(dp_ice_add_remote_candidate(net->nodes[0].ice, net->now, line), DP_OK);
}

static void setup(testnet *net, traffic *t)
{
    *t = (traffic){.deaf = false};
    net_init(net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net->tap = watch;
    net->tap_ctx = t;
    net_address(net, 0, "10.0.0.1", 1000);
    net_address(net, 0, "10.0.1.1", 1000);
    net_address(net, 1, "10.0.0.2", 2000);
    for (unsigned i = 0; i < 2; i++) {
        net_gather(net, i);
        net_credentials(net, i);
    }
}

static unsigned most(const traffic *t)
{
    unsigned most = 0;
    for (unsigned i = 0; i < 256; i++)
        most = t->requests[i] > most ? t->requests[i] : most;
    return most;
}

/* Hours of a path that comes and goes: each time all pairs are tried anew. */
static void come_and_go(testnet *net, traffic *t)
{
    for (unsigned n = 0; n < 400; n++) {
        t->deaf = true;
        net_run(net, DP_SECONDS(20));
        assert_int_equal(dp_ice_get_state(net->nodes[0].ice), DP_ICE_DISCONNECTED);
        t->deaf = false;
        net_run(net, DP_SECONDS(10));
        assert_true(net_completed(net));
        for (unsigned i = 0; i < 2; i++)
            net->nodes[i].history_count = 0;
    }
}

static void many_ports_of_one_victim(void **state)
{
    (void)state;
    testnet net;
    traffic t;
    setup(&net, &t);
    for (unsigned n = 0; n < DP_ICE_MAX_REMOTE - 1; n++)
        point_at(&net, n, 7, 1000 + n);
    net_run(&net, DP_SECONDS(5));
    assert_true(net_completed(&net));
    come_and_go(&net, &t);
    assert_in_range(t.requests[7], 50, DP_ICE_MAX_UNANSWERED);
    assert_true(t.bytes <= DP_ICE_MAX_UNANSWERED * REQUEST_MAX);
    net_clear(&net);
}

static void many_victims(void **state)
{
    (void)state;
    testnet net;
    traffic t;
    setup(&net, &t);
    for (unsigned n = 0; n < DP_ICE_MAX_REMOTE - 1; n++)
        point_at(&net, n, 1 + n, 9);
    net_run(&net, DP_SECONDS(5));
    come_and_go(&net, &t);
    assert_in_range(most(&t), 50, DP_ICE_MAX_UNANSWERED);
    assert_true(t.bytes <= (DP_ICE_MAX_REMOTE - 1) * DP_ICE_MAX_UNANSWERED * REQUEST_MAX);
    net_clear(&net);
}

static dp_time started[8192]; /* of each request of node 0 */
static unsigned started_count;

static bool note(testnet *net, unsigned from, dp_datagram *d)
{
    if (from == 0 && d->data[0] == 0 && started_count < 8192)
        started[started_count++] = net->now;
    return false;
}

/* 20 new requests a second, and about as many repeated (RFC 8445 §14.3): whatever the number of pairs, as they come or
 * all at once. */
static void no_burst(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= DP_ICE_MAX_REMOTE; n += 7) {
        testnet net;
        traffic t;
        setup(&net, &t);
        net.tap = note;
        started_count = 0;
        for (unsigned k = 0; k < n; k++) {
            point_at(&net, k, 1 + k, 9);
            net_run(&net, n % 2 == 0 ? DP_MS(100) : 0);
        }
        net_run(&net, DP_SECONDS(60));
        for (unsigned i = 50; i < started_count; i++)
            assert_true(started[i] - started[i - 50] >= DP_SECONDS(1));
        assert_true(started_count > 10 * n);
        net_clear(&net);
    }
}

/* Nobody at all: the first search is shorter than the bound, and ends. */
static void the_first_search(void **state)
{
    (void)state;
    testnet net;
    traffic t;
    setup(&net, &t);
    net.nodes[1].mute_candidates = true;
    t.deaf = true;
    for (unsigned n = 0; n < DP_ICE_MAX_REMOTE; n++)
        point_at(&net, n, 7, 1000 + n);
    net_run(&net, DP_SECONDS(60));
    assert_int_equal(t.requests[7], DP_ICE_MAX_UNANSWERED);
    assert_int_equal(dp_ice_get_state(net.nodes[0].ice), DP_ICE_FAILED);
    net_clear(&net);
}

/* The bound is for those who never answered: a peer with many ports is checked as often as it takes. */
static void who_has_answered_is_free(void **state)
{
    (void)state;
    testnet net;
    traffic t;
    setup(&net, &t);
    for (unsigned n = 0; n < 40; n++) { /* ports of the peer's own host that lead nowhere */
        char line[128];
        snprintf(line, sizeof line, "candidate:9 1 udp %u 10.0.0.2 %u typ host", 1000 - n, 3000 + n);
        assert_int_equal(dp_ice_add_remote_candidate(net.nodes[0].ice, net.now, line), DP_OK);
    }
    net_run(&net, DP_SECONDS(5));
    assert_true(net_completed(&net));
    for (unsigned n = 0; n < 5; n++) {
        t.deaf = true;
        net_run(&net, DP_SECONDS(20));
        t.deaf = false;
        net_run(&net, DP_SECONDS(5));
        assert_true(net_completed(&net));
        net.nodes[0].history_count = net.nodes[1].history_count = 0;
    }
    const dp_ice *ice = net.nodes[0].ice;
    assert_true(ice->stats.requests_sent > 4 * DP_ICE_MAX_UNANSWERED);
    assert_true(dp_ice_remote_may_ask(ice, 0));
    net_clear(&net);
}

/* An authenticated check to node 0 from wherever it is said to come from. */
static void spoof(testnet *net, const dp_address *from)
{
    static uint32_t serial;
    uint8_t id[DP_STUN_TRANSACTION_LEN] = "spoofed";
    uint8_t data[DP_DATAGRAM_MAX];
    char username[DP_ICE_UFRAG_LEN + DP_ICE_REMOTE_UFRAG_MAX + 2];
    size_t len = 0;
    const dp_ice *ice = net->nodes[0].ice;
    dp_wr wr = dp_wr_init(data, sizeof data);
    serial++;
    memcpy(id + 8, &serial, sizeof serial);
    (void)snprintf(username, sizeof username, "%s:%s", ice->local_ufrag, ice->remote_ufrag);
    dp_stun_write_header(&wr, DP_STUN_REQUEST, DP_STUN_METHOD_BINDING, id);
    dp_stun_write_attribute(&wr, DP_STUN_USERNAME, username, strlen(username));
    dp_stun_write_u64(&wr, DP_STUN_ICE_CONTROLLED, 1);
    dp_stun_write_u32(&wr, DP_STUN_PRIORITY, 1845501695);
    dp_stun_write_integrity(&wr, ice->local_pwd, strlen(ice->local_pwd));
    dp_stun_write_fingerprint(&wr);
    assert_int_equal(dp_stun_finish(&wr, &len), DP_OK);
    net_input(net, 0, data, len, &net->nodes[0].addresses[0], from);
    net_pump(net);
}

/* Rebinding NATs use up ports: a place is free again after 30 s, not sooner; what works or was signalled stays. */
static void places_are_free_again(void **state)
{
    (void)state;
    testnet net;
    traffic t;
    setup(&net, &t);
    net_run(&net, DP_SECONDS(2));
    assert_true(net_completed(&net));
    dp_ice *ice = net.nodes[0].ice;
    assert_int_equal(dp_ice_add_remote_candidate(ice, net.now, "candidate:1 1 udp 5 10.9.0.1 9 typ prflx"),
                     DP_OK);
    size_t signalled = ice->remote_count;
    for (unsigned n = 0; n < 200; n++) {
        dp_address from = addr("10.3.0.1", (uint16_t)(3000 + n));
        spoof(&net, &from);
        net_run(&net, DP_MS(10));
    }
    assert_int_equal(ice->prflx_count, DP_ICE_MAX_PRFLX);
    assert_int_equal(ice->remote_count, signalled + DP_ICE_MAX_PRFLX);
    dp_address last = addr("10.3.0.1", 3199);
    assert_false(dp_ice_is_validated(ice, &net.nodes[0].addresses[0], &last));
    net_run(&net, DP_SECONDS(27));
    spoof(&net, &last);
    assert_false(dp_ice_is_validated(ice, &net.nodes[0].addresses[0], &last));
    net_run(&net, DP_SECONDS(30));
    for (unsigned n = 0; n < 200; n++) {
        dp_address from = addr("10.3.0.1", (uint16_t)(3500 + n));
        spoof(&net, &from);
        assert_true(dp_ice_is_validated(ice, &net.nodes[0].addresses[0], &from) == (n < DP_ICE_MAX_PRFLX));
    }
    assert_int_equal(ice->remote_count, signalled + DP_ICE_MAX_PRFLX);
    net_run(&net, DP_SECONDS(20));
    assert_true(net_completed(&net));
    dp_address peer = net.nodes[1].addresses[0];
    assert_true(dp_ice_is_validated(ice, &net.nodes[0].addresses[0], &peer));
    unsigned stayed = 0;
    for (size_t i = 0; i < ice->remote_count; i++)
        stayed += ice->remotes[i].address.ip[1] == 9;
    assert_int_equal(stayed, 1);
    net_clear(&net);
}

/* ... which gives no new allowance to spend on the same victim. */
static void spoofed_checks_for_hours(void **state)
{
    (void)state;
    testnet net;
    traffic t;
    setup(&net, &t);
    net_run(&net, DP_SECONDS(2));
    unsigned spoofed = 0;
    for (unsigned n = 0; n < 5000; n++) {
        dp_address from = addr("203.0.113.7", (uint16_t)(1000 + n));
        spoof(&net, &from);
        spoofed++;
        net_run(&net, DP_SECONDS(1));
    }
    assert_true(net_completed(&net));
    /* an answer and a request to each, as to any check, and no more than to others beside */
    assert_true(t.requests[7] <= 2 * spoofed + DP_ICE_MAX_UNANSWERED);
    net_clear(&net);
}

/* ... nor on others: an allowance is a place's, whoever has it after the other. */
static void spoofed_checks_of_many(void **state)
{
    (void)state;
    testnet net;
    traffic t;
    setup(&net, &t);
    net_run(&net, DP_SECONDS(2));
    const unsigned spoofed = 3000;
    for (unsigned n = 0; n < spoofed; n++) {
        char ip[32];
        (void)snprintf(ip, sizeof ip, "203.0.113.%u", n % 250 + 1);
        dp_address from = addr(ip, (uint16_t)(1000 + n));
        spoof(&net, &from);
        net_run(&net, DP_SECONDS(1));
    }
    assert_true(net_completed(&net));
    assert_in_range(t.asked, spoofed / 2, spoofed + DP_ICE_MAX_PRFLX * DP_ICE_MAX_UNANSWERED);
    net_clear(&net);
}

/* The other side's user takes 20 s to answer. Meanwhile its NAT lets nothing through, and has many ports that are
 * tried: all that may be sent there is sent. Then its first check comes. */
static void an_answer_that_comes_late(void **state)
{
    (void)state;
    testnet net;
    traffic t = {.deaf = true};
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net.tap = watch;
    net.tap_ctx = &t;
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 0, "10.0.1.1", 1000);
    net_address(&net, 1, "10.0.0.2", 2000);
    net_gather(&net, 0);
    net_gather(&net, 1);
    net_credentials(&net, 0);
    for (unsigned n = 0; n < 10; n++) {
        char line[128];
        snprintf(line, sizeof line, "candidate:9 1 udp %u 10.0.0.2 %u typ host", 1000 - n, 3000 + n);
        assert_int_equal(dp_ice_add_remote_candidate(net.nodes[0].ice, net.now, line), DP_OK);
    }
    net_run(&net, DP_SECONDS(22));
    assert_false(dp_ice_remote_may_ask(net.nodes[0].ice, 0));
    t.deaf = false;
    net_credentials(&net, 1);
    net_run(&net, DP_SECONDS(2));
    assert_true(net_completed(&net));
    net_clear(&net);
}

/* An address that has answered stays one that has, whatever becomes of the port that did. */
static void an_answer_is_not_forgotten(void **state)
{
    (void)state;
    testnet net;
    traffic t;
    setup(&net, &t);
    net_run(&net, DP_SECONDS(2));
    dp_ice *ice = net.nodes[0].ice;
    size_t first = ice->remote_count;
    for (unsigned n = 0; n < DP_ICE_MAX_PRFLX; n++) {
        dp_address from = addr("203.0.113.7", (uint16_t)(1000 + n));
        spoof(&net, &from);
        net_run(&net, DP_MS(10));
    }
    ice->remotes[first].answered = true; /* the oldest */
    net_run(&net, DP_SECONDS(30));
    dp_address from = addr("198.51.100.9", 1000);
    spoof(&net, &from);
    assert_true(dp_address_equal(&ice->remotes[first].address, &from)); /* it took that place */
    for (unsigned n = 0; n < 2 * DP_ICE_MAX_UNANSWERED; n++)
        dp_ice_remote_asked(ice, first + 1);
    assert_true(dp_ice_remote_may_ask(ice, first + 1));
    net_clear(&net);
}

/* The clock of a machine that was just started: nothing is 30 s old yet. */
static void shortly_after_the_start(void **state)
{
    (void)state;
    testnet net;
    traffic t;
    setup(&net, &t);
    net_run(&net, DP_SECONDS(2));
    net.now = DP_SECONDS(5);
    dp_ice *ice = net.nodes[0].ice;
    for (uint16_t n = 0; n < DP_ICE_MAX_PRFLX + 8; n++) {
        dp_address from = addr("10.3.0.1", (uint16_t)(3000 + n));
        spoof(&net, &from);
        assert_true(dp_ice_is_validated(ice, &net.nodes[0].addresses[0], &from) == (n < DP_ICE_MAX_PRFLX));
    }
    net_clear(&net);
}

/* A candidate that is signalled as peer-reflexive was not learnt. Counts don't wrap. */
static void signalled_as_peer_reflexive(void **state)
{
    (void)state;
    testnet net;
    traffic t;
    setup(&net, &t);
    dp_ice *ice = net.nodes[0].ice;
    static const char *const lines[] = {"candidate:1 1 udp 5 10.9.0.1 9 typ prflx raddr 10.9.0.2 rport 9",
                                        "candidate:1 1 udp 6 10.9.0.1 9 typ host",
                                        "candidate:1 1 udp 7 10.9.0.1 9 typ srflx raddr 10.9.0.2 rport 9"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(dp_ice_add_remote_candidate(ice, net.now, lines[i]), DP_OK);
        assert_int_equal(ice->prflx_count, 0);
        assert_int_equal(ice->remote_count, 1);
    }
    net_clear(&net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_ports_of_one_victim),
        cmocka_unit_test(many_victims),
        cmocka_unit_test(no_burst),
        cmocka_unit_test(the_first_search),
        cmocka_unit_test(who_has_answered_is_free),
        cmocka_unit_test(places_are_free_again),
        cmocka_unit_test(spoofed_checks_for_hours),
        cmocka_unit_test(spoofed_checks_of_many),
        cmocka_unit_test(an_answer_that_comes_late),
        cmocka_unit_test(an_answer_is_not_forgotten),
        cmocka_unit_test(shortly_after_the_start),
        cmocka_unit_test(signalled_as_peer_reflexive),
    };
    return cmocka_run_group_tests_name("ice/amplification", tests, NULL, NULL);
}
