/* How a path that works is watched: silence, its end, its return, and the change to another one (RFC 7675). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "testnet.h"

static const dp_ice_pair *pair_of(const testnet *net, unsigned i, const char *local, const char *remote)
{
    const dp_ice *ice = net->nodes[i].ice;
    char text[DP_ADDRESS_TEXT_MAX];
    for (size_t k = 0; k < ice->pair_count; k++) {
        const dp_ice_pair *pair = &ice->pairs[k];
        if (strcmp(dp_address_format(&ice->locals[pair->local].address, text), local) == 0 &&
            strcmp(dp_address_format(&ice->remotes[pair->remote].address, text), remote) == 0)
            return pair;
    }
    fail_msg("no pair %s -> %s", local, remote);
    return NULL;
}

static void assert_selected(const testnet *net, unsigned i, const char *local, const char *remote)
{
    const dp_ice *ice = net->nodes[i].ice;
    assert_int_not_equal(ice->active, DP_ICE_NO_PAIR);
    assert_ptr_equal(&ice->pairs[ice->active], pair_of(net, i, local, remote));
}

static void assert_state(const testnet *net, unsigned i, dp_ice_state state)
{
    assert_string_equal(dp_ice_state_name(dp_ice_get_state(net->nodes[i].ice)), dp_ice_state_name(state));
}

/* Node 0 has two addresses: a path through each of them, the first is in use. */
static void two_paths(testnet *net, uint64_t seed, dp_ice_role role)
{
    net_init(net, seed, role, role == DP_ICE_CONTROLLING ? DP_ICE_CONTROLLED : DP_ICE_CONTROLLING);
    net_address(net, 0, "10.0.0.1", 1000);
    net_address(net, 0, "10.0.1.1", 1000);
    net_address(net, 1, "10.0.0.2", 2000);
    for (unsigned i = 0; i < 2; i++) {
        net_gather(net, i);
        net_credentials(net, i);
    }
    net_run(net, DP_SECONDS(3));
    assert_true(net_completed(net));
    assert_selected(net, 1, "10.0.0.2:2000", "10.0.0.1:1000");
}

static bool is_path(const testnet *net, const dp_datagram *d, unsigned address)
{
    const dp_address *of = &net->nodes[0].addresses[address];
    return dp_address_equal(&d->local, of) || dp_address_equal(&d->remote, of);
}

static bool drop_first(testnet *net, unsigned from, dp_datagram *d)
{
    (void)from;
    return !is_path(net, d, 0);
}

static bool drop_second(testnet *net, unsigned from, dp_datagram *d)
{
    (void)from;
    return !is_path(net, d, 1);
}

static bool drop_all(testnet *net, unsigned from, dp_datagram *d)
{
    (void)net;
    (void)from;
    (void)d;
    return false;
}

/* ---- the round trip ---- */

static dp_duration round_trip(const testnet *net, unsigned i)
{
    dp_ice_stats stats;
    dp_ice_get_stats(net->nodes[i].ice, &stats);
    return stats.current_round_trip_time;
}

static unsigned checks_lost;

/* The peer's own checks are lost, and the first of ours: nobody knows which of the two that left the answer is for. */
static bool drop_first_check(testnet *net, unsigned from, dp_datagram *d)
{
    (void)net;
    bool request = d->data[0] == 0 && d->data[1] == 1;
    return !request || (from == 0 && checks_lost++ > 0);
}

static bool has_round_trip(const testnet *net) { return round_trip(net, 0) > 0; }

/* Known as soon as a check is answered, seconds before the first consent check; not of one that was sent again. */
static void round_trip_is_known_early(void **state)
{
    (void)state;
    for (int repeated = 0; repeated < 2; repeated++) {
        testnet net;
        net_init(&net, 5, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
        net_address(&net, 0, "10.0.0.1", 1000);
        net_address(&net, 1, "10.0.0.2", 2000);
        assert_int_equal(round_trip(&net, 0), 0);
        checks_lost = 0;
        net.tap = repeated ? drop_first_check : NULL;
        for (unsigned i = 0; i < 2; i++) {
            net_gather(&net, i);
            net_credentials(&net, i);
        }
        net_run_until(&net, net.now + DP_SECONDS(2), has_round_trip);
        assert_int_equal(round_trip(&net, 0), 2 * net.delay);
        net_clear(&net);
    }
}

/* ---- silence ---- */

static bool first_is_disconnected(const testnet *net)
{
    return dp_ice_get_state(net->nodes[0].ice) == DP_ICE_DISCONNECTED;
}

static bool first_is_completed(const testnet *net)
{
    return dp_ice_get_state(net->nodes[0].ice) == DP_ICE_COMPLETED;
}

static bool first_is_failed(const testnet *net)
{
    return dp_ice_get_state(net->nodes[0].ice) == DP_ICE_FAILED;
}

static void a_dead_path_is_noticed(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        testnet net;
        net_pair(&net, seed, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
        net_run(&net, DP_SECONDS(20) + seed * DP_MS(137));
        net.packet_count = 0;
        net.loss = 100;
        dp_time dead = net.now;
        net_run(&net, DP_SECONDS(7));
        for (unsigned i = 0; i < 2; i++)
            assert_state(&net, i, DP_ICE_DISCONNECTED);
        net_run_until(&net, dead + DP_SECONDS(60), first_is_failed);
        assert_in_range(net.now - dead, DP_SECONDS(23), DP_SECONDS(30));
        net_clear(&net);
    }
}

/* Not sooner than 5 s after the last sign of life. */
static void silence_takes_five_seconds(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        testnet net;
        net_pair(&net, seed, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
        net_run(&net, DP_SECONDS(10) + seed * DP_MS(137));
        net.packet_count = 0;
        net.loss = 100;
        dp_time heard = net.nodes[0].ice->pairs[net.nodes[0].ice->active].heard_at;
        net_run_until(&net, net.now + DP_SECONDS(10), first_is_disconnected);
        assert_in_range(net.now - heard, DP_SECONDS(5), DP_SECONDS(7));
        net_clear(&net);
    }
}

static unsigned countdown;

static bool drop_one(testnet *net, unsigned from, dp_datagram *d)
{
    (void)net;
    (void)from;
    (void)d;
    return countdown == 0 || --countdown > 0;
}

static void one_lost_datagram_is_no_silence(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 80; n++) {
        testnet net;
        net_pair(&net, n, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
        net_run(&net, DP_SECONDS(5));
        countdown = n;
        net.tap = drop_one;
        net_run(&net, DP_SECONDS(120));
        assert_int_equal(countdown, 0);
        for (unsigned i = 0; i < 2; i++)
            assert_false(net_was(&net, i, DP_ICE_DISCONNECTED));
        net_clear(&net);
    }
}

static void loss_is_no_silence(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        testnet net;
        net_pair(&net, seed, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
        net_run(&net, DP_SECONDS(5));
        net.loss = 3;
        net_run(&net, DP_SECONDS(600));
        for (unsigned i = 0; i < 2; i++)
            assert_false(net_was(&net, i, DP_ICE_DISCONNECTED));
        net_clear(&net);
    }
}

static void back_within_a_second(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        testnet net;
        net_pair(&net, seed, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
        net_run(&net, DP_SECONDS(20));
        net.loss = 100;
        net_run(&net, DP_SECONDS(10) + seed * DP_MS(237));
        assert_state(&net, 0, DP_ICE_DISCONNECTED);
        net.loss = 0;
        dp_time back = net.now;
        net_run_until(&net, back + DP_SECONDS(10), net_completed);
        assert_true(net.now <= back + DP_MS(1020 + 20));
        net_run(&net, DP_SECONDS(60));
        for (unsigned i = 0; i < 2; i++) { /* once only */
            assert_int_equal(net.nodes[i].history_count, 6);
            assert_state(&net, i, DP_ICE_COMPLETED);
        }
        net_clear(&net);
    }
}

/* ---- another path ---- */

static void moves_to_the_other_path(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        testnet net;
        two_paths(&net, seed, seed % 2 == 0 ? DP_ICE_CONTROLLING : DP_ICE_CONTROLLED);
        net_run(&net, DP_SECONDS(60)); /* nothing in reserve has consent any more */
        net.tap = drop_first;
        dp_time dead = net.now;
        net_run(&net, DP_MS(8500));
        assert_true(net_completed(&net));
        assert_selected(&net, 0, "10.0.1.1:1000", "10.0.0.2:2000");
        assert_selected(&net, 1, "10.0.0.2:2000", "10.0.1.1:1000");
        for (unsigned i = 0; i < 2; i++) {
            const dp_ice *ice = net.nodes[i].ice;
            assert_true(ice->pairs[ice->active].nominated);
            assert_false(net_was(&net, i, DP_ICE_FAILED));
        }
        net_run_until(&net, dead + DP_SECONDS(120), NULL); /* and stays there */
        assert_true(net_completed(&net));
        assert_selected(&net, 0, "10.0.1.1:1000", "10.0.0.2:2000");
        net_clear(&net);
    }
}

/* The reserve was heard of a moment ago: it is in use as soon as the other one counts as silent. */
static void a_fresh_reserve_is_used_at_once(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        testnet net;
        two_paths(&net, seed, DP_ICE_CONTROLLED);
        net.tap = drop_first;
        net_run(&net, DP_SECONDS(3));
        dp_ice *ice = net.nodes[0].ice;
        size_t reserve = (size_t)(pair_of(&net, 0, "10.0.1.1:1000", "10.0.0.2:2000") - ice->pairs);
        assert_true(dp_ice_check_start(ice, net.now, DP_ICE_FOR_CHECK, reserve, false));
        net_run(&net, DP_MS(50));
        net.tap = drop_all;
        net_run(&net, DP_SECONDS(4));
        for (unsigned i = 0; i < 2; i++)
            assert_selected(&net, i, i == 0 ? "10.0.1.1:1000" : "10.0.0.2:2000",
                            i == 0 ? "10.0.0.2:2000" : "10.0.1.1:1000");
        net_clear(&net);
    }
}

/* Both paths die, the one in reserve comes back: it is tried anew from time to time. */
static void the_reserve_is_tried_again(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        testnet net;
        two_paths(&net, seed, DP_ICE_CONTROLLING);
        net.tap = drop_all;
        net_run(&net, DP_SECONDS(14) + seed * DP_MS(311));
        assert_state(&net, 0, DP_ICE_DISCONNECTED);
        net.tap = drop_first;
        dp_time back = net.now;
        net_run_until(&net, back + DP_SECONDS(10), net_completed);
        assert_true(net.now <= back + DP_SECONDS(6));
        assert_selected(&net, 0, "10.0.1.1:1000", "10.0.0.2:2000");
        assert_selected(&net, 1, "10.0.0.2:2000", "10.0.1.1:1000");
        net_clear(&net);
    }
}

/* All is dead. Whatever is chosen next, as the lesser evil, has not been heard of either. */
static void a_stale_reserve_is_no_recovery(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        testnet net;
        two_paths(&net, seed, DP_ICE_CONTROLLED);
        for (unsigned n = 0; n < 5; n++) { /* the controlled side looks after the reserve, too */
            const dp_ice_pair *reserve = pair_of(&net, 0, "10.0.1.1:1000", "10.0.0.2:2000");
            assert_true(dp_ice_check_start(net.nodes[0].ice, net.now, DP_ICE_FOR_CHECK,
                                           (size_t)(reserve - net.nodes[0].ice->pairs), false));
            net_run(&net, DP_SECONDS(1) + seed * DP_MS(19));
        }
        net.tap = drop_all;
        for (unsigned i = 0; i < 2; i++)
            net.nodes[i].history_count = 0;
        net_run(&net, DP_SECONDS(8)); /* until then the reserve may count: it was heard of lately */
        assert_state(&net, 0, DP_ICE_DISCONNECTED);
        for (unsigned i = 0; i < 2; i++)
            net.nodes[i].history_count = 0;
        net_run(&net, DP_SECONDS(40));
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal(net.nodes[i].history_count, 1);
            assert_state(&net, i, DP_ICE_FAILED);
        }
        net_clear(&net);
    }
}

/* The path is gone for good, but another socket is found in the last seconds. */
static void late_help_is_waited_for(void **state)
{
    (void)state;
    testnet net;
    net_pair(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net_run(&net, DP_SECONDS(20));
    net.tap = drop_all;
    dp_time dead = net.now;
    net_run(&net, DP_SECONDS(22));
    net_address(&net, 0, "10.0.1.1", 1000);
    net_run(&net, DP_SECONDS(10)); /* 32 s: nobody may send data, and all is not lost */
    assert_true(net.now >= dead + DP_SECONDS(31));
    for (unsigned i = 0; i < 2; i++) {
        assert_state(&net, i, DP_ICE_DISCONNECTED);
        assert_int_equal(net.nodes[i].ice->active, DP_ICE_NO_PAIR);
    }
    net.tap = drop_first;
    net_run(&net, DP_SECONDS(5));
    assert_true(net_completed(&net));
    assert_selected(&net, 1, "10.0.0.2:2000", "10.0.1.1:1000");
    net_clear(&net);
}

/* RFC 8445 §8.1.1, RFC 5245 §8.1.1.2: of several that are nominated the best. */
static void a_better_nomination_wins(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net.tap = drop_first;
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 0, "10.0.1.1", 1000);
    net_address(&net, 1, "10.0.0.2", 2000);
    for (unsigned i = 0; i < 2; i++) {
        net_gather(&net, i);
        net_credentials(&net, i);
    }
    net_run(&net, DP_SECONDS(2));
    assert_selected(&net, 1, "10.0.0.2:2000", "10.0.1.1:1000");
    net.tap = NULL;
    dp_ice *ice = net.nodes[0].ice;
    size_t better = (size_t)(pair_of(&net, 0, "10.0.0.1:1000", "10.0.0.2:2000") - ice->pairs);
    assert_true(dp_ice_check_start(ice, net.now, DP_ICE_FOR_CHECK, better, true));
    net_run(&net, DP_SECONDS(1));
    for (unsigned i = 0; i < 2; i++)
        assert_state(&net, i, DP_ICE_COMPLETED);
    assert_selected(&net, 1, "10.0.0.2:2000", "10.0.0.1:1000");
    assert_selected(&net, 0, "10.0.0.1:1000", "10.0.0.2:2000");
    net_run(&net, DP_SECONDS(60));
    assert_selected(&net, 1, "10.0.0.2:2000", "10.0.0.1:1000");
    assert_false(net_was(&net, 1, DP_ICE_DISCONNECTED));
    net_clear(&net);
}

/* Data must not wait for a nomination, nor for the good candidate's turn among many bad ones: the peer's check brings
 * it forward. */
static void first_usable_pair_is_fast(void **state)
{
    (void)state;
    testnet net;
    char line[128];
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 1, "10.0.0.2", 2000);
    for (unsigned n = 0; n < 40; n++) {
        snprintf(line, sizeof line, "candidate:1 1 udp 2130706431 10.9.0.%u 9 typ host", n);
        assert_int_equal(dp_ice_add_remote_candidate(net.nodes[0].ice, net.now, line), DP_OK);
    }
    for (unsigned i = 0; i < 2; i++) {
        net_gather(&net, i);
        net_credentials(&net, i);
    }
    dp_time start = net.now;
    net_run_until(&net, start + DP_SECONDS(10), net_usable);
    assert_true(net.now <= start + DP_MS(150));
    net_run_until(&net, start + DP_SECONDS(10), net_completed);
    assert_true(net.now <= start + DP_MS(600));
    net_clear(&net);
}

/* The peer looks after a path in reserve: the one in use is asked, answers, and stays. */
static void a_check_elsewhere_is_no_move(void **state)
{
    (void)state;
    testnet net;
    two_paths(&net, 3, DP_ICE_CONTROLLING);
    net_run(&net, DP_SECONDS(6));
    dp_ice *ice = net.nodes[0].ice;
    size_t other = (size_t)(pair_of(&net, 0, "10.0.1.1:1000", "10.0.0.2:2000") - ice->pairs);
    unsigned selections = net.nodes[1].selections;
    for (unsigned i = 0; i < 10; i++) {
        assert_true(dp_ice_check_start(ice, net.now, DP_ICE_FOR_CHECK, other, false));
        net_run(&net, DP_SECONDS(6));
    }
    assert_selected(&net, 1, "10.0.0.2:2000", "10.0.0.1:1000");
    assert_int_equal(net.nodes[1].selections, selections);
    assert_false(net_was(&net, 1, DP_ICE_DISCONNECTED));
    net_clear(&net);
}

/* The peer, controlling, uses another path and the old one still works: it names the one that it means again and
 * again. */
static void moves_while_the_old_path_lives(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        testnet net;
        two_paths(&net, seed, DP_ICE_CONTROLLING);
        net_run(&net, DP_SECONDS(10));
        dp_ice *ice = net.nodes[0].ice;
        size_t other = (size_t)(pair_of(&net, 0, "10.0.1.1:1000", "10.0.0.2:2000") - ice->pairs);
        assert_true(dp_ice_check_start(ice, net.now, DP_ICE_FOR_CHECK, other, true));
        net_run(&net, DP_SECONDS(20));
        for (unsigned n = 0; n < 10; n++) { /* and both stay there */
            assert_selected(&net, 0, "10.0.1.1:1000", "10.0.0.2:2000");
            assert_selected(&net, 1, "10.0.0.2:2000", "10.0.1.1:1000");
            assert_true(net_completed(&net));
            net_run(&net, DP_SECONDS(7));
        }
        net_clear(&net);
    }
}

static unsigned namings[2];

static bool count_namings(testnet *net, unsigned from, dp_datagram *d)
{
    dp_stun_message m;
    (void)net;
    namings[from] += dp_stun_decode(&m, d->data, d->length) == DP_OK && m.use_candidate;
    return true;
}

static void the_nomination_is_repeated(void **state)
{
    (void)state;
    testnet net;
    net_pair(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net_run(&net, DP_SECONDS(2));
    net.tap = count_namings;
    namings[0] = namings[1] = 0;
    net_run(&net, DP_SECONDS(60));
    assert_in_range(namings[0], 9, 16); /* with each consent check */
    assert_int_equal(namings[1], 0);
    net_clear(&net);
}

/* The path dies while it is being nominated: the one that takes over is not kept waiting for that. */
static bool drop_the_nominated(testnet *net, unsigned from, dp_datagram *d)
{
    dp_stun_message m;
    bool first = is_path(net, d, 0);
    if (first && from == 0 && dp_stun_decode(&m, d->data, d->length) == DP_OK && m.use_candidate)
        net->tap_ctx = net; /* from now on */
    return !first || net->tap_ctx == NULL;
}

static void a_nomination_that_dies(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net.tap = drop_the_nominated;
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 0, "10.0.1.1", 1000);
    net_address(&net, 1, "10.0.0.2", 2000);
    for (unsigned i = 0; i < 2; i++) {
        net_gather(&net, i);
        net_credentials(&net, i);
    }
    net_run(&net, DP_SECONDS(2));
    assert_selected(&net, 0, "10.0.0.1:1000", "10.0.0.2:2000");
    assert_ptr_equal(net.tap_ctx, &net);
    net_run(&net, DP_SECONDS(7));
    assert_true(net_completed(&net));
    assert_selected(&net, 0, "10.0.1.1:1000", "10.0.0.2:2000");
    assert_selected(&net, 1, "10.0.0.2:2000", "10.0.1.1:1000");
    net_clear(&net);
}

/* The second path is nominated when the first has died, which the controlled side has not noticed yet: it asks, and
 * follows after a second, not after five. */
static void the_controlled_side_follows(void **state)
{
    (void)state;
    testnet net;
    two_paths(&net, 3, DP_ICE_CONTROLLING);
    net_run(&net, DP_SECONDS(6)); /* the second path has become quiet */
    net.tap = drop_first;
    dp_ice *ice = net.nodes[0].ice;
    size_t other = (size_t)(pair_of(&net, 0, "10.0.1.1:1000", "10.0.0.2:2000") - ice->pairs);
    assert_true(dp_ice_check_start(ice, net.now, DP_ICE_FOR_CHECK, other, true));
    net_run(&net, DP_MS(100));
    assert_selected(&net, 0, "10.0.1.1:1000", "10.0.0.2:2000"); /* ours: the last one */
    net_run(&net, DP_MS(1100));
    assert_selected(&net, 1, "10.0.0.2:2000", "10.0.1.1:1000");
    assert_true(net_completed(&net));
    assert_false(net_was(&net, 0, DP_ICE_DISCONNECTED));
    net.tap = drop_second; /* and back again */
    net_run(&net, DP_SECONDS(9));
    assert_selected(&net, 0, "10.0.0.1:1000", "10.0.0.2:2000");
    assert_selected(&net, 1, "10.0.0.2:2000", "10.0.0.1:1000");
    assert_true(first_is_completed(&net));
    net_clear(&net);
}

/* A queue of two seconds somewhere, as behind a busy uplink: slow is not silent. Nor is it when the peer looks after its
 * pair in reserve, and we ask. */
static void slow_is_no_silence(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        testnet net;
        two_paths(&net, seed, DP_ICE_CONTROLLING);
        for (net.delay = DP_MS(100); net.delay < DP_SECONDS(1); net.delay += DP_MS(100)) /* it fills */
            net_run(&net, DP_SECONDS(5));
        dp_ice *ice = net.nodes[0].ice;
        size_t other = (size_t)(pair_of(&net, 0, "10.0.1.1:1000", "10.0.0.2:2000") - ice->pairs);
        for (unsigned n = 0; n < 12; n++) {
            if (n >= 6)
                assert_true(dp_ice_check_start(ice, net.now, DP_ICE_FOR_CHECK, other, false));
            net_run(&net, DP_SECONDS(25));
            assert_true(net_completed(&net));
        }
        for (unsigned i = 0; i < 2; i++)
            assert_false(net_was(&net, i, DP_ICE_DISCONNECTED));
        net_clear(&net);
    }
}

/* Three pairs, named 10, 5 and 0 s ago, the better the longer. The first is no longer meant; of the others it is the
 * better one, in whatever order they are listed. */
static void the_order_of_the_list_is_of_no_matter(void **state)
{
    (void)state;
    static const uint8_t orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (unsigned n = 0; n < 6; n++) {
        testnet net;
        net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
        net_address(&net, 0, "10.0.0.1", 1000);
        net_address(&net, 0, "10.0.1.1", 1000);
        net_address(&net, 0, "10.0.2.1", 1000);
        net_address(&net, 1, "10.0.0.2", 2000);
        for (unsigned i = 0; i < 2; i++) {
            net_gather(&net, i);
            net_credentials(&net, i);
        }
        net_run(&net, DP_SECONDS(2));
        dp_ice *ice = net.nodes[1].ice;
        assert_int_equal(ice->pair_count, 3);
        dp_ice_pair was[3];
        memcpy(was, ice->pairs, sizeof was);
        ice->transaction_count = 0;
        ice->active = DP_ICE_NO_PAIR;
        for (unsigned k = 0; k < 3; k++) {
            dp_ice_pair *pair = &ice->pairs[k];
            *pair = was[orders[n][k]];
            unsigned place = ice->remotes[pair->remote].address.ip[2];
            pair->valid = pair->nominated = true;
            pair->heard_at = pair->answered_at = net.now;
            pair->named_at = net.now - DP_SECONDS(10) + place * DP_SECONDS(5);
        }
        dp_ice_select(ice, net.now);
        assert_selected(&net, 1, "10.0.0.2:2000", "10.0.1.1:1000");
        net_clear(&net);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip_is_known_early),
        cmocka_unit_test(a_dead_path_is_noticed),
        cmocka_unit_test(silence_takes_five_seconds),
        cmocka_unit_test(one_lost_datagram_is_no_silence),
        cmocka_unit_test(loss_is_no_silence),
        cmocka_unit_test(back_within_a_second),
        cmocka_unit_test(moves_to_the_other_path),
        cmocka_unit_test(a_fresh_reserve_is_used_at_once),
        cmocka_unit_test(the_reserve_is_tried_again),
        cmocka_unit_test(a_stale_reserve_is_no_recovery),
        cmocka_unit_test(late_help_is_waited_for),
        cmocka_unit_test(a_better_nomination_wins),
        cmocka_unit_test(first_usable_pair_is_fast),
        cmocka_unit_test(a_check_elsewhere_is_no_move),
        cmocka_unit_test(moves_while_the_old_path_lives),
        cmocka_unit_test(the_nomination_is_repeated),
        cmocka_unit_test(a_nomination_that_dies),
        cmocka_unit_test(the_controlled_side_follows),
        cmocka_unit_test(slow_is_no_silence),
        cmocka_unit_test(the_order_of_the_list_is_of_no_matter),
    };
    return cmocka_run_group_tests_name("ice/liveness", tests, NULL, NULL);
}
