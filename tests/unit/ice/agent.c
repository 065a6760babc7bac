/* Two agents against each other over a network in virtual time. ICE_LOG=1 shows what they do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "testnet.h"

static void assert_history(const node *n, size_t count, const dp_ice_state *states)
{
    assert_int_equal(n->history_count, count);
    for (size_t i = 0; i < count; i++)
        assert_string_equal(dp_ice_state_name(n->history[i]), dp_ice_state_name(states[i]));
}

static void assert_selected(const testnet *net, unsigned i, const char *local, const char *remote)
{
    dp_address l;
    dp_address r;
    char text[DP_ADDRESS_TEXT_MAX];
    assert_true(dp_ice_selected_pair(net->nodes[i].ice, &l, &r));
    assert_string_equal(dp_address_format(&l, text), local);
    assert_string_equal(dp_address_format(&r, text), remote);
    assert_true(dp_ice_is_validated(net->nodes[i].ice, &l, &r));
}

static void connects(void **state)
{
    (void)state;
    testnet net;
    net_pair(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    dp_time start = net.now;
    net_run_until(&net, start + DP_SECONDS(5), net_usable);
    assert_in_range(net.now - start, DP_MS(20), DP_MS(40)); /* two round trips of 20 ms at most */
    net_run_until(&net, start + DP_SECONDS(5), net_completed);
    assert_in_range(net.now - start, DP_MS(40), DP_MS(100));
    net_run(&net, DP_SECONDS(120));
    static const dp_ice_state states[] = {DP_ICE_CHECKING, DP_ICE_CONNECTED, DP_ICE_COMPLETED};
    for (unsigned i = 0; i < 2; i++) {
        assert_history(&net.nodes[i], 3, states);
        assert_int_equal(net.nodes[i].selections, 1);
        assert_true(net.nodes[i].gathering_complete);
        assert_in_range(net.nodes[i].sent, 2 + 2 * 20,
                        8 + 2 * 30); /* consent: a check and an answer each 4-6 s */
    }
    assert_selected(&net, 0, "10.0.0.1:1000", "10.0.0.2:2000");
    assert_selected(&net, 1, "10.0.0.2:2000", "10.0.0.1:1000");
    net_clear(&net);
}

static void loss_and_reordering(void **state)
{
    (void)state;
    dp_duration slowest = 0;
    for (uint64_t seed = 1; seed <= 1000; seed++) {
        testnet net;
        net_init(&net, seed, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
        net.loss = 20;
        net.duplicate = 20;
        net.jitter = DP_MS(200);
        for (unsigned i = 0; i < 2; i++) {
            net_address(&net, i, i == 0 ? "10.0.0.1" : "10.0.0.2", 1000);
            net_address(&net, i, i == 0 ? "2001:db8::1" : "2001:db8::2", 1000);
            net_gather(&net, i);
            net_credentials(&net, i);
        }
        dp_time start = net.now;
        net_run_until(&net, start + DP_SECONDS(25), net_completed);
        if (!net_completed(&net))
            fail_msg("seed %llu didn't connect", (unsigned long long)seed);
        slowest = net.now - start > slowest ? net.now - start : slowest;
        net_clear(&net);
    }
    print_message("20 %% loss, 1000 seeds: slowest completion %llu ms\n",
                  (unsigned long long)(slowest / 1000));
}

static void both_agree_after_loss(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        testnet net;
        net_init(&net, seed, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
        net.loss = 30;
        net.jitter = DP_MS(50);
        for (unsigned i = 0; i < 2; i++) {
            for (uint16_t k = 0; k < 3; k++)
                net_address(&net, i, i == 0 ? "10.0.0.1" : "10.0.0.2", (uint16_t)(1000 + k));
            net_gather(&net, i);
            net_credentials(&net, i);
        }
        net_run_until(&net, net.now + DP_SECONDS(25), net_completed);
        net.loss = 0;
        net_run(&net, DP_SECONDS(40));
        assert_true(net_completed(&net));
        dp_address l[2];
        dp_address r[2];
        for (unsigned i = 0; i < 2; i++)
            assert_true(dp_ice_selected_pair(net.nodes[i].ice, &l[i], &r[i]));
        assert_true(dp_address_equal(&l[0], &r[1]) && dp_address_equal(&l[1], &r[0]));
        net_clear(&net);
    }
}

/* ---- roles ---- */

static void conflict(dp_ice_role role, uint64_t seed, bool equal)
{
    testnet net;
    net_init(&net, seed, role, role);
    if (equal)
        net.nodes[1].ice->tie_breaker = net.nodes[0].ice->tie_breaker;
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 1, "10.0.0.2", 2000);
    for (unsigned i = 0; i < 2; i++) {
        net_gather(&net, i);
        net_credentials(&net, i);
    }
    net_run_until(&net, net.now + DP_SECONDS(20), net_completed);
    assert_true(net_completed(&net));
    net_run(&net, DP_SECONDS(60));
    assert_true(net_completed(&net));
    assert_int_not_equal(dp_ice_get_role(net.nodes[0].ice), dp_ice_get_role(net.nodes[1].ice));
    net_clear(&net);
}

static void role_conflicts(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        conflict(DP_ICE_CONTROLLING, seed, false);
        conflict(DP_ICE_CONTROLLED, seed, false);
    }
}

static void equal_tie_breakers(void **state) /* row 15 */
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        conflict(DP_ICE_CONTROLLING, seed, true);
        conflict(DP_ICE_CONTROLLED, seed, true);
    }
}

static void larger_tie_breaker_controls(void **state)
{
    (void)state;
    for (unsigned winner = 0; winner < 2; winner++) {
        testnet net;
        net_pair(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLING);
        net.nodes[winner].ice->tie_breaker = 5;
        net.nodes[1 - winner].ice->tie_breaker = 4;
        net.nodes[1 - winner].mute_candidates = true; /* only its checks are seen by the winner's rule */
        net_run(&net, DP_SECONDS(5));
        assert_true(net_completed(&net));
        assert_int_equal(dp_ice_get_role(net.nodes[winner].ice), DP_ICE_CONTROLLING);
        net_clear(&net);
    }
}

/* ---- candidates ---- */

static void late_trickle(void **state)
{
    (void)state;
    testnet net;
    net_pair(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net.nodes[0].mute_candidates = net.nodes[1].mute_candidates = true;
    net_run(&net, DP_SECONDS(25));
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(dp_ice_get_state(net.nodes[i].ice), DP_ICE_CHECKING);
    assert_int_equal(dp_ice_add_remote_candidate(net.nodes[0].ice, net.now, net.nodes[1].candidates[0]),
                     DP_OK);
    net_run(&net, DP_MS(500));
    assert_true(net_completed(&net));
    net_clear(&net);
}

static void candidates_before_credentials(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 1, "10.0.0.2", 2000);
    net_gather(&net, 0);
    net_gather(&net, 1);
    net_run(&net,
            DP_SECONDS(100)); /* candidates cross; without credentials there is no hurry and no failure */
    assert_int_equal(net.nodes[0].sent + net.nodes[1].sent, 0);
    net_credentials(&net, 0);
    net_credentials(&net, 1);
    net_run(&net, DP_MS(200));
    assert_true(net_completed(&net));
    net_clear(&net);
}

static void credentials_before_gathering(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 1, "10.0.0.2", 2000);
    net_credentials(&net, 0);
    net_credentials(&net, 1);
    net_run(&net, DP_SECONDS(100));
    net_gather(&net, 0);
    net_gather(&net, 1);
    net_run(&net, DP_MS(200));
    assert_true(net_completed(&net));
    net_clear(&net);
}

/* A browser with hidden addresses: one side has no candidate at all and learns the other from its checks. */
static void peer_reflexive_only(void **state)
{
    (void)state;
    for (unsigned blind = 0; blind < 2; blind++) {
        testnet net;
        net_pair(&net, 3, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
        net.nodes[1 - blind].mute_candidates = true;
        dp_time start = net.now;
        net_run_until(&net, start + DP_SECONDS(5), net_usable);
        /* the check, its answer and the triggered check leave with no wait for Ta */
        assert_in_range(net.now - start, DP_MS(30), DP_MS(30));
        net_run(&net, DP_SECONDS(1));
        assert_true(net_completed(&net));
        assert_int_equal(net.nodes[blind].ice->prflx_count, 1);
        /* signalled after all: the same candidate */
        assert_int_equal(
            dp_ice_add_remote_candidate(net.nodes[blind].ice, net.now, net.nodes[1 - blind].candidates[0]),
            DP_OK);
        assert_int_equal(net.nodes[blind].ice->prflx_count, 0);
        assert_int_equal(net.nodes[blind].ice->remote_count, 1);
        assert_int_equal(net.nodes[blind].ice->pair_count, 1);
        assert_int_equal(net.nodes[blind].ice->remotes[0].type, DP_CANDIDATE_HOST);
        net_clear(&net);
    }
}

static void translated_addresses(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLED, DP_ICE_CONTROLLING);
    net.server = addr("203.0.113.1", 3478);
    net.loss = 10;
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 1, "192.168.7.7", 2000);
    net.nodes[0].outside[0] = addr("198.51.100.1", 41000);
    net.nodes[1].outside[0] = addr("198.51.100.2", 42000);
    for (unsigned i = 0; i < 2; i++) {
        net_stun_server(&net, i, &net.server);
        net_gather(&net, i);
        net_credentials(&net, i);
    }
    net_run(&net, DP_SECONDS(15));
    assert_true(net_completed(&net));
    assert_selected(&net, 0, "10.0.0.1:1000", "198.51.100.2:42000");
    assert_selected(&net, 1, "192.168.7.7:2000", "198.51.100.1:41000");
    assert_int_equal(net.nodes[0].candidate_count, 2);
    dp_candidate c;
    char text[DP_ADDRESS_TEXT_MAX];
    assert_int_equal(dp_candidate_parse(&c, net.nodes[0].candidates[1], strlen(net.nodes[0].candidates[1])),
                     DP_OK);
    assert_int_equal(c.type, DP_CANDIDATE_SRFLX);
    assert_string_equal(dp_address_format(&c.address, text), "198.51.100.1:41000");
    assert_string_equal(dp_address_format(&c.related, text), "10.0.0.1:1000");
    assert_string_equal(c.ufrag, dp_ice_local_ufrag(net.nodes[0].ice));
    net_clear(&net);
}

/* Behind a translator that nobody told us of, the answers to our checks do. */
static void local_peer_reflexive(void **state)
{
    (void)state;
    testnet net;
    net_pair(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net.nodes[0].outside[0] = addr("198.51.100.1", 41000);
    net_run(&net, DP_SECONDS(2));
    assert_true(net_completed(&net));
    assert_int_equal(net.nodes[0].ice->local_count, 2);
    assert_int_equal(net.nodes[0].ice->locals[1].type, DP_CANDIDATE_PRFLX);
    assert_int_equal(net.nodes[0].candidate_count, 1); /* not signalled */
    assert_selected(&net, 1, "10.0.0.2:2000", "198.51.100.1:41000");
    net_clear(&net);
}

/* RFC 8489 §6.3.3: a success with an attribute that must be understood and isn't is a failure. */
static void incomprehensible_stun_server(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net.server = addr("203.0.113.1", 3478);
    net.server_extra = 0x7FFF;
    net_address(&net, 0, "10.0.0.1", 1000);
    net.nodes[0].outside[0] = addr("198.51.100.1", 41000);
    net_stun_server(&net, 0, &net.server);
    net_gather(&net, 0);
    net_run(&net, DP_SECONDS(1));
    assert_true(net.nodes[0].gathering_complete);
    assert_int_equal(net.nodes[0].candidate_count, 1);
    net_clear(&net);
}

static void silent_stun_server(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    dp_address server = addr("203.0.113.1", 3478);
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 0, "127.0.0.1", 1000);   /* can't reach it */
    net_address(&net, 0, "2001:db8::1", 1000); /* can't either */
    net_stun_server(&net, 0, &server);
    net_gather(&net, 0);
    net_run(&net, DP_MS(9999));
    assert_false(net.nodes[0].gathering_complete);
    assert_int_equal(net.nodes[0].sent, DP_ICE_GATHER_TRIES);
    net_run(&net, DP_MS(1)); /* the time limit */
    assert_true(net.nodes[0].gathering_complete);
    net_run(&net, DP_SECONDS(2));
    assert_int_equal(dp_ice_next_timeout(net.nodes[0].ice), DP_TIME_NEVER);
    net_clear(&net);
}

static void host_candidate_lines(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net_address(&net, 0, "127.0.0.1", 1000);
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 0, "10.0.0.1", 1001);
    net_address(&net, 0, "fe80::1", 1000);
    assert_int_equal(dp_ice_add_local_address(net.nodes[0].ice, net.now, &net.nodes[0].addresses[0]),
                     DP_OK); /* again */
    dp_address bad = addr("0.0.0.0", 1000);
    assert_int_equal(dp_ice_add_local_address(net.nodes[0].ice, net.now, &bad), DP_ERR_INVALID_ARGUMENT);
    net_gather(&net, 0);
    assert_int_equal(dp_ice_gather(net.nodes[0].ice, net.now), DP_ERR_INVALID_STATE);
    net_run(&net, 0);
    assert_int_equal(net.nodes[0].candidate_count, 4);
    dp_candidate c[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(
            dp_candidate_parse(&c[i], net.nodes[0].candidates[i], strlen(net.nodes[0].candidates[i])), DP_OK);
    assert_true(c[1].priority > c[2].priority && c[2].priority > c[3].priority &&
                c[3].priority > c[0].priority);
    assert_string_equal(c[1].foundation, c[2].foundation); /* same IP address */
    assert_string_not_equal(c[0].foundation, c[1].foundation);
    net_clear(&net);
}

static void link_local_needs_its_like(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    dp_address local = addr("fe80::1", 1000);
    local.scope = 3;
    assert_int_equal(dp_ice_add_local_address(net.nodes[0].ice, net.now, &local), DP_OK);
    net_address(&net, 1, "fe80::2", 2000);
    net_gather(&net, 0);
    net_credentials(&net, 0);
    dp_ice *ice = net.nodes[0].ice;
    assert_int_equal(
        dp_ice_add_remote_candidate(ice, net.now, "candidate:1 1 udp 9 2001:db8::2 2000 typ host"), DP_OK);
    assert_int_equal(dp_ice_add_remote_candidate(ice, net.now, "candidate:1 1 udp 9 10.0.0.2 2000 typ host"),
                     DP_OK);
    assert_int_equal(ice->pair_count, 0);
    assert_int_equal(dp_ice_add_remote_candidate(ice, net.now, "candidate:1 1 udp 9 fe80::2 2000 typ host"),
                     DP_OK);
    assert_int_equal(ice->pair_count, 1);
    uint8_t data[DP_DATAGRAM_MAX];
    dp_datagram d = {.data = data, .capacity = sizeof data};
    assert_true(dp_ice_poll_transmit(ice, net.now, &d));
    assert_int_equal(d.remote.scope, 3); /* else the kernel would not know the link */
    net_clear(&net);
}

/* ---- nomination ---- */

static bool drop_first_address(testnet *net, unsigned from, dp_datagram *d)
{
    (void)from;
    return !dp_address_equal(&d->local, &net->nodes[0].addresses[0]) &&
           !dp_address_equal(&d->remote, &net->nodes[0].addresses[0]);
}

/* The best pair never works: the controlling side waits for it no longer than DP_ICE_NOMINATION_WAIT. */
static void nomination_does_not_wait_for_dead_pairs(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net.tap = drop_first_address;
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 0, "10.0.1.1", 1000);
    net_address(&net, 1, "10.0.0.2", 2000);
    for (unsigned i = 0; i < 2; i++) {
        net_gather(&net, i);
        net_credentials(&net, i);
    }
    dp_time start = net.now;
    net_run_until(&net, start + DP_SECONDS(5), net_completed);
    assert_true(net_completed(&net));
    assert_in_range(net.now - start, DP_MS(150), DP_MS(350));
    assert_selected(&net, 0, "10.0.1.1:1000", "10.0.0.2:2000");
    net_clear(&net);
}

/* A relay is there early, and the direct way a second later: the peer's NAT opens, or its candidate comes only then. The
 * relay carries the data meanwhile, and is not what the session ends up with. If there is no other way, it is. */
static void nomination_waits_for_more_than_a_relay(void **state)
{
    (void)state;
    for (unsigned variant = 0; variant < 3; variant++) {
        testnet net;
        net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
        net_address(&net, 0, "10.0.0.1", 1000);
        net_address(&net, 1, "10.0.0.2", 2000);
        net_address(&net, 1, "10.0.1.2", 2000);
        net.nodes[0].mute_candidates = net.nodes[1].mute_candidates = true;
        for (unsigned i = 0; i < 2; i++) {
            net_gather(&net, i);
            net_credentials(&net, i);
        }
        dp_ice *ice = net.nodes[0].ice;
        static const char direct[] = "candidate:2 1 udp 2130706431 10.0.1.2 2000 typ host";
        assert_int_equal(
            dp_ice_add_remote_candidate(ice, net.now, "candidate:1 1 udp 16777215 10.0.0.2 2000 typ relay"),
            DP_OK);
        if (variant == 2) /* nothing else will come */
            assert_int_equal(dp_ice_add_remote_candidate(ice, net.now, ""), DP_OK);
        dp_time start = net.now;
        net_run(&net, DP_SECONDS(1));
        assert_selected(&net, 0, "10.0.0.1:1000", "10.0.0.2:2000");
        assert_true((dp_ice_get_state(ice) == DP_ICE_COMPLETED) == (variant == 2));
        if (variant == 0)
            assert_int_equal(dp_ice_add_remote_candidate(ice, net.now, direct), DP_OK);
        net_run_until(&net, start + DP_SECONDS(5), net_completed);
        assert_true(net_completed(&net));
        assert_true(net.now - start < DP_MS(2300));
        assert_selected(&net, 0, "10.0.0.1:1000", variant == 0 ? "10.0.1.2:2000" : "10.0.0.2:2000");
        net_clear(&net);
    }
}

/* A browser puts USE-CANDIDATE into its first checks: emulated by a tap that can sign as node 0. */
static bool nominate_all(testnet *net, unsigned from, dp_datagram *d)
{
    dp_stun_message m;
    assert_int_equal(dp_stun_decode(&m, d->data, d->length), DP_OK);
    if (from != 0 || m.class_ != DP_STUN_REQUEST)
        return true;
    dp_ice_outgoing message = {.class_ = DP_STUN_REQUEST,
                               .role = DP_ICE_CONTROLLING,
                               .use_candidate = true,
                               .priority = m.priority,
                               .tie_breaker = m.tie_breaker,
                               .base =
                                   (uint8_t)dp_ice_local_find(net->nodes[0].ice, &d->local, DP_TCPTYPE_NONE),
                               .remote = d->remote};
    memcpy(message.transaction, m.transaction, sizeof message.transaction);
    return dp_ice_write(net->nodes[0].ice, &message, d);
}

static void aggressive_nomination(void **state)
{
    (void)state;
    testnet net;
    net_pair(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net.tap = nominate_all;
    net_run(&net, DP_MS(45));
    assert_int_equal(dp_ice_get_state(net.nodes[0].ice),
                     DP_ICE_CONNECTED); /* its own nomination is not out yet */
    assert_int_equal(dp_ice_get_state(net.nodes[1].ice), DP_ICE_COMPLETED); /* by the first check */
    net_clear(&net);
}

static void best_of_the_nominated_wins(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net.tap = nominate_all;
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 0, "169.254.0.1", 1000); /* of lesser priority, nominated last */
    net_address(&net, 1, "10.0.0.2", 2000);
    for (unsigned i = 0; i < 2; i++) {
        net_gather(&net, i);
        net_credentials(&net, i);
    }
    net_run(&net, DP_SECONDS(1));
    int again = dp_ice_pair_find(net.nodes[0].ice, 1, &net.nodes[1].addresses[0]);
    assert_true(again >= 0);
    assert_true(dp_ice_check_start(net.nodes[0].ice, net.now, DP_ICE_FOR_CHECK, (size_t)again, true));
    net_run(&net, DP_SECONDS(1));
    int lesser = dp_ice_pair_find(net.nodes[1].ice, 0, &net.nodes[0].addresses[1]);
    assert_true(lesser >= 0 && net.nodes[1].ice->pairs[lesser].nominated);
    assert_selected(&net, 1, "10.0.0.2:2000", "10.0.0.1:1000");
    net_clear(&net);
}

/* The path in use dies: the controlling side nominates another one, the controlled side follows. */
static void both_move_to_a_living_pair(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 0, "10.0.1.1", 1000);
    net_address(&net, 1, "10.0.0.2", 2000);
    for (unsigned i = 0; i < 2; i++) {
        net_gather(&net, i);
        net_credentials(&net, i);
    }
    net.tap = nominate_all;
    net_run(&net, DP_SECONDS(3));
    assert_selected(&net, 1, "10.0.0.2:2000", "10.0.0.1:1000");
    net.tap = drop_first_address;
    net_run(&net, DP_SECONDS(8));
    assert_selected(&net, 0, "10.0.1.1:1000", "10.0.0.2:2000");
    assert_selected(&net, 1, "10.0.0.2:2000", "10.0.1.1:1000");
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(dp_ice_get_state(net.nodes[i].ice), DP_ICE_COMPLETED);
        assert_true(net_was(&net, i, DP_ICE_DISCONNECTED));
    }
    net_clear(&net);
}

/* Two paths, both tried; the first is in use. Node 0 checks the second one from time to time, as browsers do.
 */
static void two_paths(testnet *net, dp_ice_role role)
{
    net_init(net, 1, role, role == DP_ICE_CONTROLLING ? DP_ICE_CONTROLLED : DP_ICE_CONTROLLING);
    net_address(net, 0, "10.0.0.1", 1000);
    net_address(net, 0, "10.0.1.1", 1000);
    net_address(net, 1, "10.0.0.2", 2000);
    for (unsigned i = 0; i < 2; i++) {
        net_gather(net, i);
        net_credentials(net, i);
    }
    net_run(net, DP_SECONDS(3));
    assert_selected(net, 1, "10.0.0.2:2000", "10.0.0.1:1000");
}

static void check_second_path(testnet *net, bool use_candidate)
{
    dp_ice *ice = net->nodes[0].ice;
    int pair = dp_ice_pair_find(ice, 1, &net->nodes[1].addresses[0]);
    assert_true(pair >= 0);
    assert_true(dp_ice_check_start(ice, net->now, DP_ICE_FOR_CHECK, (size_t)pair, use_candidate));
}

/* The nomination comes once. That the pair has no consent any more must not lose it. */
static void nominates_a_pair_long_unused(void **state)
{
    (void)state;
    testnet net;
    two_paths(&net, DP_ICE_CONTROLLING);
    net_run(&net, DP_SECONDS(60));
    dp_ice *ice = net.nodes[1].ice;
    int pair = dp_ice_pair_find(ice, 0, &net.nodes[0].addresses[1]);
    assert_true(pair >= 0 && !ice->pairs[pair].valid);
    net.tap = drop_first_address;
    net_run(&net, DP_SECONDS(8));
    check_second_path(&net, true);
    net_run(&net, DP_SECONDS(1));
    assert_selected(&net, 1, "10.0.0.2:2000", "10.0.1.1:1000");
    net_clear(&net);
}

/* The path in use dies; the peer, who doesn't nominate, is still there on the other one. */
static void reserve_keeps_consent(void **state)
{
    (void)state;
    testnet net;
    two_paths(&net, DP_ICE_CONTROLLED);
    for (unsigned i = 0; i < 40; i++) {
        if (i == 20)
            net.tap = drop_first_address;
        check_second_path(&net, false);
        net_run(&net, DP_MS(2500));
        assert_true(
            dp_ice_is_validated(net.nodes[1].ice, &net.nodes[1].addresses[0], &net.nodes[0].addresses[1]));
    }
    assert_int_equal(dp_ice_get_state(net.nodes[1].ice), DP_ICE_COMPLETED);
    assert_selected(&net, 1, "10.0.0.2:2000", "10.0.1.1:1000");
    net_clear(&net);
}

/* ---- failure and consent ---- */

static void fails_when_nothing_works(void **state)
{
    (void)state;
    testnet net;
    net_pair(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net.loss = 100;
    net_run(&net, DP_SECONDS(29));
    assert_int_equal(dp_ice_get_state(net.nodes[0].ice), DP_ICE_CHECKING);
    assert_int_equal(net.nodes[0].sent, DP_ICE_TRIES);
    net_run(&net, DP_SECONDS(2));
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(dp_ice_get_state(net.nodes[i].ice), DP_ICE_FAILED);
        assert_int_equal(dp_ice_next_timeout(net.nodes[i].ice), DP_TIME_NEVER);
    }
    net_clear(&net);
}

static void fails_sooner_after_the_last_candidate(void **state)
{
    (void)state;
    testnet net;
    net_pair(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net.loss = 100;
    assert_int_equal(dp_ice_add_remote_candidate(net.nodes[0].ice, net.now, ""), DP_OK);
    assert_int_equal(dp_ice_add_remote_candidate(net.nodes[1].ice, net.now, NULL), DP_OK);
    net_run(&net, DP_SECONDS(19)); /* the last try is at 15.5 s and waits 4 s */
    assert_int_equal(dp_ice_get_state(net.nodes[0].ice), DP_ICE_CHECKING);
    net_run(&net, DP_SECONDS(1));
    assert_int_equal(dp_ice_get_state(net.nodes[0].ice), DP_ICE_FAILED);
    net_clear(&net);
}

/* No candidate at all and no more to come, as a browser with hidden addresses says it: its checks may still
 * arrive. */
static void end_of_candidates_alone_is_no_failure(void **state)
{
    (void)state;
    testnet net;
    net_pair(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net.nodes[0].mute_candidates = net.nodes[1].mute_candidates = true;
    assert_int_equal(dp_ice_add_remote_candidate(net.nodes[0].ice, net.now, ""), DP_OK);
    net_run(&net, DP_SECONDS(28));
    assert_int_equal(dp_ice_get_state(net.nodes[0].ice), DP_ICE_CHECKING);
    net_run(&net, DP_SECONDS(3));
    assert_int_equal(dp_ice_get_state(net.nodes[0].ice), DP_ICE_FAILED);
    net_clear(&net);
}

static void consent_expires(void **state) /* row 20 */
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        testnet net;
        net_pair(&net, seed, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
        net_run(&net, DP_SECONDS(20) + seed * DP_MS(300));
        net.nodes[0].dead = true; /* a closed tab says nothing */
        net_run(&net, DP_SECONDS(7));
        assert_int_equal(dp_ice_get_state(net.nodes[1].ice), DP_ICE_DISCONNECTED);
        net_run(
            &net,
            DP_SECONDS(16)); /* not too early: 30 s after an answer that is at most 6 s older than the end */
        assert_int_equal(dp_ice_get_state(net.nodes[1].ice), DP_ICE_DISCONNECTED);
        net_run(&net, DP_SECONDS(7));
        static const dp_ice_state states[] = {DP_ICE_CHECKING, DP_ICE_CONNECTED, DP_ICE_COMPLETED,
                                              DP_ICE_DISCONNECTED, DP_ICE_FAILED};
        assert_history(&net.nodes[1], 5, states);
        dp_address l;
        dp_address r;
        assert_false(dp_ice_selected_pair(net.nodes[1].ice, &l, &r));
        assert_false(
            dp_ice_is_validated(net.nodes[1].ice, &net.nodes[1].addresses[0], &net.nodes[0].addresses[0]));
        unsigned sent = net.nodes[1].sent;
        net.nodes[0].dead = false; /* back from the dead: too late */
        net_run(&net, DP_SECONDS(60));
        assert_int_equal(net.nodes[1].sent, sent);
        net_clear(&net);
    }
}

static void short_silence_is_survived(void **state)
{
    (void)state;
    testnet net;
    net_pair(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net_run(&net, DP_SECONDS(20));
    net.loss = 100;
    net_run(&net, DP_SECONDS(15));
    net.loss = 0;
    net_run(&net, DP_SECONDS(8));
    static const dp_ice_state states[] = {DP_ICE_CHECKING,     DP_ICE_CONNECTED, DP_ICE_COMPLETED,
                                          DP_ICE_DISCONNECTED, DP_ICE_CONNECTED, DP_ICE_COMPLETED};
    assert_history(&net.nodes[0], 6, states);
    assert_history(&net.nodes[1], 6, states);
    net_clear(&net);
}

static void lossy_consent_holds(void **state)
{
    (void)state;
    testnet net;
    net_pair(&net, 4, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net_run(&net, DP_SECONDS(5));
    net.loss = 10;
    for (int i = 0; i < 60; i++) {
        net_run(&net, DP_SECONDS(60));
        net.nodes[0].history_count = net.nodes[1].history_count = 0;
    }
    assert_true(dp_ice_alive(net.nodes[0].ice) && dp_ice_alive(net.nodes[1].ice));
    net_clear(&net);
}

static void closed_is_silent(void **state)
{
    (void)state;
    testnet net;
    net_pair(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net_run(&net, DP_SECONDS(5));
    dp_ice *ice = net.nodes[0].ice;
    dp_ice_close(ice);
    dp_ice_event event;
    assert_true(dp_ice_poll_event(ice, &event));
    assert_int_equal(event.type, DP_ICE_EVENT_STATE);
    assert_int_equal(event.state, DP_ICE_CLOSED);
    unsigned sent = net.nodes[0].sent;
    net_run(&net, DP_SECONDS(40));
    assert_int_equal(net.nodes[0].sent, sent);
    assert_int_equal(dp_ice_next_timeout(ice), DP_TIME_NEVER);
    assert_int_equal(dp_ice_add_remote_candidate(ice, net.now, net.nodes[1].candidates[0]), DP_OK);
    assert_false(dp_ice_poll_event(ice, &event));
    assert_int_equal(dp_ice_get_state(net.nodes[1].ice), DP_ICE_FAILED); /* the other one notices */
    net_clear(&net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connects),
        cmocka_unit_test(loss_and_reordering),
        cmocka_unit_test(both_agree_after_loss),
        cmocka_unit_test(role_conflicts),
        cmocka_unit_test(equal_tie_breakers),
        cmocka_unit_test(larger_tie_breaker_controls),
        cmocka_unit_test(late_trickle),
        cmocka_unit_test(candidates_before_credentials),
        cmocka_unit_test(credentials_before_gathering),
        cmocka_unit_test(peer_reflexive_only),
        cmocka_unit_test(translated_addresses),
        cmocka_unit_test(local_peer_reflexive),
        cmocka_unit_test(incomprehensible_stun_server),
        cmocka_unit_test(silent_stun_server),
        cmocka_unit_test(host_candidate_lines),
        cmocka_unit_test(link_local_needs_its_like),
        cmocka_unit_test(nomination_does_not_wait_for_dead_pairs),
        cmocka_unit_test(nomination_waits_for_more_than_a_relay),
        cmocka_unit_test(aggressive_nomination),
        cmocka_unit_test(best_of_the_nominated_wins),
        cmocka_unit_test(both_move_to_a_living_pair),
        cmocka_unit_test(nominates_a_pair_long_unused),
        cmocka_unit_test(reserve_keeps_consent),
        cmocka_unit_test(fails_when_nothing_works),
        cmocka_unit_test(fails_sooner_after_the_last_candidate),
        cmocka_unit_test(end_of_candidates_alone_is_no_failure),
        cmocka_unit_test(consent_expires),
        cmocka_unit_test(short_silence_is_survived),
        cmocka_unit_test(lossy_consent_holds),
        cmocka_unit_test(closed_is_silent),
    };
    return cmocka_run_group_tests_name("ice/agent", tests, NULL, NULL);
}
