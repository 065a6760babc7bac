/* ICE-lite (RFC 8445 §2.5, §6.1.1, §6.2): a server that answers checks and makes none, and a peer that is one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "testnet.h"

static void assert_state(const testnet *net, unsigned i, dp_ice_state state)
{
    assert_string_equal(dp_ice_state_name(dp_ice_get_state(net->nodes[i].ice)), dp_ice_state_name(state));
}

static unsigned lite_requests;

/* Node 1 is lite: it must never ask. */
static bool no_requests(testnet *net, unsigned from, dp_datagram *d)
{
    dp_stun_message m;
    (void)net;
    if (from == 1 && dp_stun_decode(&m, d->data, d->length) == DP_OK && m.class_ == DP_STUN_REQUEST)
        lite_requests++;
    return true;
}

/* Node 0 is a full agent that thinks it has this role, node 1 a lite one. */
static void full_and_lite(testnet *net, dp_ice_role role, bool told)
{
    net_init(net, 1, role, DP_ICE_CONTROLLED);
    dp_ice_config config = {.size = sizeof config,
                            .random = {test_random_fn, &net->nodes[1].seed},
                            .role = DP_ICE_CONTROLLING, /* it can't */
                            .lite = true};
    dp_ice_free(net->nodes[1].ice);
    assert_int_equal(dp_ice_new(&net->nodes[1].ice, &config), DP_OK);
    net->nodes[1].ice->tie_breaker = UINT64_MAX; /* which must not help it */
    net->server = addr("203.0.113.1", 3478);
    net->tap = no_requests;
    lite_requests = 0;
    net_stun_server(net, 1, &net->server); /* of no use to it */
    net_address(net, 0, "10.0.0.1", 1000);
    net_address(net, 0, "10.0.1.1", 1000);
    net_address(net, 1, "198.51.100.2", 2000);
    if (told)
        dp_ice_set_remote_lite(net->nodes[0].ice);
    for (unsigned i = 0; i < 2; i++) {
        net_gather(net, i);
        net_credentials(net, i);
    }
}

static void connects(void **state)
{
    (void)state;
    for (unsigned variant = 0; variant < 4; variant++) {
        testnet net;
        full_and_lite(&net, (variant & 1) != 0 ? DP_ICE_CONTROLLING : DP_ICE_CONTROLLED, (variant & 2) != 0);
        net_run(&net, DP_SECONDS(2));
        assert_true(net_completed(&net));
        assert_int_equal(dp_ice_get_role(net.nodes[0].ice), DP_ICE_CONTROLLING);
        assert_int_equal(dp_ice_get_role(net.nodes[1].ice), DP_ICE_CONTROLLED);
        /* told by the description, or by a role conflict (RFC 8445 §7.3.1.1) */
        assert_int_equal(net.nodes[1].ice->stats.role_conflicts > 0, variant == 0);
        assert_int_equal(net.nodes[0].candidate_count, 2);
        assert_int_equal(net.nodes[1].candidate_count, 1);
        assert_true(net.nodes[1].gathering_complete);
        net_run(&net, DP_SECONDS(300)); /* the peer's checks are the consent */
        assert_true(net_completed(&net));
        for (unsigned i = 0; i < 2; i++)
            assert_int_equal(net.nodes[i].history_count, 3);
        assert_int_equal(lite_requests, 0);
        assert_int_equal(net.nodes[1].ice->transaction_count, 0);
        net_clear(&net);
    }
}

static bool second_is_disconnected(const testnet *net)
{
    return dp_ice_get_state(net->nodes[1].ice) == DP_ICE_DISCONNECTED;
}

static bool second_is_failed(const testnet *net)
{
    return dp_ice_get_state(net->nodes[1].ice) == DP_ICE_FAILED;
}

static void the_peer_is_gone(void **state)
{
    (void)state;
    testnet net;
    full_and_lite(&net, DP_ICE_CONTROLLING, true);
    net_run(&net, DP_SECONDS(33));
    net.packet_count = 0;
    net.loss = 100;
    dp_time dead = net.now;
    dp_time heard = net.nodes[1].ice->pairs[net.nodes[1].ice->active].heard_at;
    net_run_until(&net, dead + DP_SECONDS(10), second_is_disconnected);
    assert_int_equal(net.now, heard + DP_ICE_LITE_SILENCE);
    net_run(&net, DP_SECONDS(10));
    net.loss = 0; /* back */
    net_run(&net, DP_SECONDS(2));
    assert_true(net_completed(&net));
    net_run(&net, DP_SECONDS(20));
    net.nodes[0].dead = true;
    dead = net.now;
    net_run_until(&net, dead + DP_SECONDS(60), second_is_failed);
    assert_in_range(net.now - dead, DP_SECONDS(23), DP_SECONDS(30));
    assert_int_equal(lite_requests, 0);
    net_clear(&net);
}

/* The peer moves: the lite side follows its nomination. */
static bool drop_first(testnet *net, unsigned from, dp_datagram *d)
{
    (void)from;
    return !dp_address_equal(&d->local, &net->nodes[0].addresses[0]) &&
           !dp_address_equal(&d->remote, &net->nodes[0].addresses[0]);
}

static void follows_the_peer(void **state)
{
    (void)state;
    testnet net;
    full_and_lite(&net, DP_ICE_CONTROLLING, true);
    net_run(&net, DP_SECONDS(20));
    net.tap = drop_first;
    net_run(&net, DP_SECONDS(9));
    assert_true(net_completed(&net));
    dp_address l;
    dp_address r;
    assert_true(dp_ice_selected_pair(net.nodes[1].ice, &l, &r));
    assert_true(dp_address_equal(&r, &net.nodes[0].addresses[1]));
    assert_false(net_was(&net, 1, DP_ICE_FAILED));
    net_clear(&net);
}

static void restarts(void **state)
{
    (void)state;
    testnet net;
    full_and_lite(&net, DP_ICE_CONTROLLING, true);
    net_run(&net, DP_SECONDS(3));
    assert_int_equal(dp_ice_restart(net.nodes[1].ice, net.now), DP_OK);
    net_run(&net, DP_SECONDS(100)); /* the peer does not know: its checks of the old session keep the path */
    assert_true(dp_ice_previous_alive(net.nodes[1].ice));
    assert_state(&net, 1, DP_ICE_CONNECTED);
    assert_state(&net, 0, DP_ICE_COMPLETED);
    assert_int_equal(dp_ice_restart(net.nodes[0].ice, net.now), DP_OK);
    dp_ice_set_remote_lite(net.nodes[0].ice);
    net_run(&net, 0);
    net_credentials(&net, 0);
    net_credentials(&net, 1);
    assert_int_equal(net.nodes[1].candidate_count, 2); /* the second one came when nobody knew its session */
    assert_int_equal(dp_ice_add_remote_candidate(net.nodes[0].ice, net.now, net.nodes[1].candidates[1]),
                     DP_OK);
    net_run(&net, DP_SECONDS(2));
    assert_true(net_completed(&net));
    assert_int_equal(lite_requests, 0);
    net_clear(&net);
}

static void nonsense(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLED, DP_ICE_CONTROLLED);
    dp_ice *ice = NULL;
    dp_ice_config config = {.size = sizeof config,
                            .random = {test_random_fn, &net.nodes[0].seed},
                            .lite = true,
                            .relay_only = true}; /* it can't allocate */
    assert_int_equal(dp_ice_new(&ice, &config), DP_ERR_INVALID_ARGUMENT);
    net_clear(&net);
    full_and_lite(&net, DP_ICE_CONTROLLING, true);
    dp_ice_set_role(net.nodes[1].ice, DP_ICE_CONTROLLING);
    assert_int_equal(dp_ice_get_role(net.nodes[1].ice), DP_ICE_CONTROLLED);
    dp_ice_set_role(net.nodes[0].ice, DP_ICE_CONTROLLED);
    assert_int_equal(dp_ice_get_role(net.nodes[0].ice), DP_ICE_CONTROLLING);
    net_clear(&net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connects), cmocka_unit_test(the_peer_is_gone), cmocka_unit_test(follows_the_peer),
        cmocka_unit_test(restarts), cmocka_unit_test(nonsense),
    };
    return cmocka_run_group_tests_name("ice/lite", tests, NULL, NULL);
}
