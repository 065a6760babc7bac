/* Host names in candidates: the peer's, which the owner resolves, and ours, which hide addresses. And that hiding
 * hides: no text of a candidate may have an address that is not the peer's business. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "testnet.h"

static void waiting(testnet *net)
{
    net_init(net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net_address(net, 0, "10.0.0.1", 1000);
    net_address(net, 0, "2001:db8::1", 1000);
    net_address(net, 1, "10.0.0.2", 2000);
    net_address(net, 1, "2001:db8::2", 2000);
    net->nodes[0].mute_candidates = net->nodes[1].mute_candidates = true;
    for (unsigned i = 0; i < 2; i++) {
        net_gather(net, i);
        net_credentials(net, i);
    }
    net_run(net, 0);
}

static void add_named(const testnet *net, const char *name, unsigned port)
{
    char line[512];
    (void)snprintf(line, sizeof line, "candidate:1 1 udp 2130706431 %s %u typ host", name, port);
    assert_int_equal(dp_ice_add_remote_candidate(net->nodes[0].ice, net->now, line), DP_OK);
}

/* The next RESOLVE event of node 0; NULL: none. */
static const char *asked(testnet *net)
{
    net->nodes[0].resolve[0] = '\0';
    net_run(net, 0);
    return net->nodes[0].resolve[0] != '\0' ? net->nodes[0].resolve : NULL;
}

static void a_name_is_resolved(void **state)
{
    (void)state;
    testnet net;
    waiting(&net);
    add_named(&net, "1234.local", 2000);
    assert_string_equal(asked(&net), "1234.local");
    assert_int_equal(net.nodes[0].resolves, 1);
    assert_int_equal(net.nodes[0].ice->remote_count, 0);
    net_run(&net, DP_SECONDS(3));
    assert_int_equal(net.nodes[0].resolves, 1); /* asked once */
    dp_address found = addr("10.0.0.2", 5353);  /* the port is the candidate's */
    dp_ice_resolved(net.nodes[0].ice, net.now, "other.local", &found, 1);
    assert_int_equal(net.nodes[0].ice->remote_count, 0);
    dp_ice_resolved(net.nodes[0].ice, net.now, "1234.LOCAL", &found, 1);
    assert_int_equal(net.nodes[0].ice->remote_count, 1);
    dp_ice_resolved(net.nodes[0].ice, net.now, "1234.local", &found, 1); /* again */
    assert_int_equal(net.nodes[0].ice->remote_count, 1);
    net_run(&net, DP_SECONDS(2));
    assert_true(net_completed(&net));
    dp_address l;
    dp_address r;
    assert_true(dp_ice_selected_pair(net.nodes[0].ice, &l, &r));
    assert_int_equal(r.port, 2000);
    net_clear(&net);
}

static void several_addresses_of_several_names(void **state)
{
    (void)state;
    testnet net;
    waiting(&net);
    add_named(&net, "a.local", 1);
    add_named(&net, "b.local", 2);
    add_named(&net, "a.local", 3); /* one host, two sockets */
    net_run(&net, 0);
    assert_int_equal(net.nodes[0].resolves, 3);
    add_named(&net, "c.local", 4); /* not told yet when the first answer comes */
    dp_address a[] = {addr("10.0.0.2", 0), addr("2001:db8::2", 0), addr("0.0.0.0", 0),
                      addr("224.0.0.251", 0)};
    dp_ice *ice = net.nodes[0].ice;
    dp_ice_resolved(ice, net.now, "a.local", a, 4);
    assert_int_equal(ice->remote_count, 4);
    assert_int_equal(ice->stats.candidates_skipped, 4); /* multicast, unspecified */
    assert_string_equal(asked(&net), "c.local");
    assert_int_equal(net.nodes[0].resolves, 4);
    dp_ice_resolved(ice, net.now, "c.local", a, 1);
    dp_ice_resolved(ice, net.now, "b.local", a, 1);
    assert_int_equal(ice->remote_count, 6);
    assert_int_equal(ice->unresolved.count, 0);
    assert_null(asked(&net));
    uint16_t sum = 0;
    for (size_t i = 0; i < ice->remote_count; i++)
        sum = (uint16_t)(sum + ice->remotes[i].address.port);
    assert_int_equal(sum, 1 + 1 + 3 + 3 + 4 + 2);
    net_clear(&net);
}

static void an_unknown_name(void **state)
{
    (void)state;
    testnet net;
    waiting(&net);
    add_named(&net, "nobody.local", 2000);
    (void)asked(&net);
    dp_ice_resolved(net.nodes[0].ice, net.now, "nobody.local", NULL, 0);
    assert_int_equal(net.nodes[0].ice->unresolved.count, 0);
    assert_int_equal(net.nodes[0].ice->stats.candidates_skipped, 1);
    assert_int_equal(net.nodes[0].ice->remote_count, 0);
    net_clear(&net);
}

/* A failure waits for the answer, even if all else has failed and no more will come. */
static void a_name_is_hope(void **state)
{
    (void)state;
    testnet net;
    waiting(&net);
    net.loss = 100;
    assert_int_equal(
        dp_ice_add_remote_candidate(net.nodes[0].ice, net.now, "candidate:1 1 udp 9 10.9.9.9 9 typ host"),
        DP_OK);
    add_named(&net, "slow.local", 2000);
    assert_int_equal(dp_ice_add_remote_candidate(net.nodes[0].ice, net.now, ""), DP_OK);
    net_run(&net, DP_SECONDS(25)); /* that one has failed after 19.5 s */
    assert_int_equal(dp_ice_get_state(net.nodes[0].ice), DP_ICE_CHECKING);
    net.loss = 0;
    dp_address found = addr("10.0.0.2", 0);
    dp_ice_resolved(net.nodes[0].ice, net.now, "slow.local", &found, 1);
    net_run(&net, DP_SECONDS(2));
    assert_true(net_completed(&net));
    net_clear(&net);
}

static void limits(void **state)
{
    (void)state;
    testnet net;
    char name[300];
    waiting(&net);
    dp_ice *ice = net.nodes[0].ice;
    for (unsigned n = 0; n < 1000; n++) {
        (void)snprintf(name, sizeof name, "n%u.local", n);
        add_named(&net, name, 9);
    }
    assert_int_equal(ice->unresolved.count, DP_ICE_MAX_UNRESOLVED);
    assert_int_equal(ice->stats.candidates_skipped, 1000 - DP_ICE_MAX_UNRESOLVED);
    net_run(&net, 0);
    assert_int_equal(net.nodes[0].resolves, DP_ICE_MAX_UNRESOLVED);
    dp_address found[200];
    for (unsigned n = 0; n < 200; n++) {
        (void)snprintf(name, sizeof name, "10.8.0.%u", n + 1);
        found[n] = addr(name, 0);
    }
    dp_ice_resolved(ice, net.now, "n0.local", found, 200); /* a host that says it has 200 */
    assert_int_equal(ice->remote_count, DP_ICE_MAX_REMOTE);
    assert_int_equal(ice->unresolved.count, DP_ICE_MAX_UNRESOLVED - 1);
    memset(name, 'x', 255);
    name[255] = '\0';
    add_named(&net, name, 9);
    assert_string_equal(asked(&net), name);
    net_clear(&net);
}

static void not_asked_for(void **state)
{
    (void)state;
    testnet net;
    waiting(&net);
    dp_ice *ice = net.nodes[0].ice;
    ice->relay_only = true; /* a name leads to an address of the peer's own network */
    add_named(&net, "a.local", 9);
    ice->relay_only = false;
    ice->lite = true;
    add_named(&net, "b.local", 9);
    ice->lite = false;
    assert_int_equal(
        dp_ice_add_remote_candidate(ice, net.now, "candidate:1 1 udp 9 c.local 9 typ host ufrag other"),
        DP_OK);
    assert_int_equal(ice->unresolved.count, 0);
    assert_int_equal(ice->stats.candidates_skipped, 3);
    dp_ice_close(ice);
    add_named(&net, "d.local", 9);
    assert_int_equal(ice->unresolved.count, 0);
    net_clear(&net);
}

/* The answer is of the session before. */
static void a_restart_forgets_names(void **state)
{
    (void)state;
    testnet net;
    waiting(&net);
    dp_ice *ice = net.nodes[0].ice;
    add_named(&net, "a.local", 9);
    add_named(&net, "b.local", 9);
    (void)asked(&net);
    assert_int_equal(dp_ice_restart(ice, net.now), DP_OK);
    assert_int_equal(ice->unresolved.count, 0);
    dp_address found = addr("10.0.0.2", 0);
    dp_ice_resolved(ice, net.now, "a.local", &found, 1);
    assert_int_equal(ice->remote_count, 0);
    add_named(&net, "c.local", 9); /* held */
    assert_null(asked(&net));
    net_credentials(&net, 0);
    assert_string_equal(asked(&net), "c.local");
    net_clear(&net);
}

/* ---- ours ---- */

static void make(testnet *net, uint64_t seed, bool hide, bool relay_only)
{
    net_init(net, seed, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    for (unsigned i = 0; i < 2; i++) {
        dp_ice_config config = {.size = sizeof config,
                                .random = {test_random_fn, &net->nodes[i].seed},
                                .role = i == 0 ? DP_ICE_CONTROLLING : DP_ICE_CONTROLLED,
                                .hide_addresses = hide,
                                .relay_only = relay_only};
        dp_ice_free(net->nodes[i].ice);
        assert_int_equal(dp_ice_new(&net->nodes[i].ice, &config), DP_OK);
    }
}

static dp_candidate parsed(const testnet *net, unsigned i, size_t candidate)
{
    dp_candidate c;
    assert_true(candidate < net->nodes[i].candidate_count);
    const char *text = net->nodes[i].candidates[candidate];
    assert_int_equal(dp_candidate_parse(&c, text, strlen(text)), DP_OK);
    return c;
}

static void hidden_names(void **state)
{
    (void)state;
    testnet net;
    make(&net, 1, true, false);
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 0, "10.0.0.1", 1001);
    net_address(&net, 0, "10.0.1.1", 1000);
    net_address(&net, 1, "10.0.0.1", 3000); /* the same address elsewhere */
    net_gather(&net, 0);
    net_gather(&net, 1);
    net_run(&net, 0);
    dp_candidate c[4] = {parsed(&net, 0, 0), parsed(&net, 0, 1), parsed(&net, 0, 2), parsed(&net, 1, 0)};
    for (size_t i = 0; i < 4; i++) {
        const char *name = c[i].hostname;
        assert_int_equal(strlen(name), DP_ICE_HIDDEN_NAME_LEN);
        assert_string_equal(name + 36, ".local");
        assert_int_equal(strspn(name, "0123456789abcdef-"), 36);
        assert_int_equal(name[14], '4'); /* RFC 9562 §5.4 */
        assert_non_null(strchr("89ab", name[19]));
    }
    for (uint8_t n = 0; n < 100; n++) {
        dp_address a = net.nodes[0].addresses[0];
        char name[DP_ICE_HIDDEN_NAME_LEN + 1];
        a.ip[3] = n;
        assert_int_equal(dp_ice_hidden_name(net.nodes[0].ice, &a, name), DP_OK);
        assert_int_equal(name[14], '4');
        assert_non_null(strchr("89ab", name[19]));
    }
    assert_string_equal(c[0].hostname, c[1].hostname); /* one for an address */
    assert_int_equal(c[0].address.port, 1000);
    assert_int_equal(c[1].address.port, 1001);
    assert_string_not_equal(c[0].hostname, c[2].hostname);
    assert_string_not_equal(c[0].hostname, c[3].hostname); /* nobody can compare agents */
    assert_string_equal(net.nodes[1].hostname, c[3].hostname);
    assert_int_equal(dp_ice_restart(net.nodes[0].ice, net.now), DP_OK);
    net_run(&net, 0);
    assert_string_equal(parsed(&net, 0, 3).hostname, c[0].hostname); /* and stays */
    net_clear(&net);
}

static void hidden_ends_find_each_other(void **state)
{
    (void)state;
    testnet net;
    make(&net, 1, true, false);
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 1, "10.0.0.2", 2000);
    for (unsigned i = 0; i < 2; i++) {
        net_gather(&net, i);
        net_credentials(&net, i);
    }
    net_run(&net, 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_string_equal(net.nodes[i].resolve, net.nodes[1 - i].hostname);
        dp_ice_resolved(net.nodes[i].ice, net.now, net.nodes[i].resolve, &net.nodes[1 - i].addresses[0], 1);
    }
    net_run(&net, DP_SECONDS(1));
    assert_true(net_completed(&net));
    net_clear(&net);
}

/* All that is ever told to the peer, scanned for addresses of ours. */
static void assert_no_leak(const testnet *net, const char *const *secrets, size_t count)
{
    for (size_t n = 0; n < net->nodes[0].candidate_count; n++) {
        for (size_t k = 0; k < count; k++) {
            if (strstr(net->nodes[0].candidates[n], secrets[k]) != NULL)
                fail_msg("%s in %s", secrets[k], net->nodes[0].candidates[n]);
        }
    }
}

static void nothing_leaks(void **state)
{
    (void)state;
    static const char *const secrets[] = {"10.0.0.1", "10.0.7.7", "2001:db8::1", "198.51.100.1"};
    for (unsigned variant = 0; variant < 4; variant++) {
        bool relay_only = (variant & 1) != 0;
        bool nat = (variant & 2) != 0;
        testnet net;
        make(&net, 1, !relay_only, relay_only);
        net.server = addr("203.0.113.1", 3478);
        net_address(&net, 0, "10.0.0.1", 1000);
        net_address(&net, 0, "2001:db8::1", 1000);
        net_address(&net, 1, "10.0.0.2", 2000);
        if (nat)
            net.nodes[0].outside[0] = addr("198.51.100.1", 41000);
        net_stun_server(&net, 0, &net.server);
        for (unsigned i = 0; i < 2; i++) {
            net_gather(&net, i);
            net_credentials(&net, i);
        }
        net_run(&net, DP_SECONDS(20)); /* gathered, and the mapping refreshed */
        net_address(&net, 0, "10.0.7.7", 1000);
        net_run(&net, DP_SECONDS(20));
        assert_int_equal(dp_ice_restart(net.nodes[0].ice, net.now), DP_OK);
        net_run(&net, DP_SECONDS(5));
        /* the reflexive address is what hide_addresses leaves to be seen */
        assert_no_leak(&net, secrets, relay_only ? 4 : 3);
        assert_int_equal(net.nodes[0].candidate_count, relay_only ? 0 : 2 + 1 + 3 + (nat ? 2 : 0));
        if (relay_only) /* nor by a check or an answer */
            assert_int_equal(net.nodes[0].sent, 0);
        net_clear(&net);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_is_resolved),
        cmocka_unit_test(several_addresses_of_several_names),
        cmocka_unit_test(an_unknown_name),
        cmocka_unit_test(a_name_is_hope),
        cmocka_unit_test(limits),
        cmocka_unit_test(not_asked_for),
        cmocka_unit_test(a_restart_forgets_names),
        cmocka_unit_test(hidden_names),
        cmocka_unit_test(hidden_ends_find_each_other),
        cmocka_unit_test(nothing_leaks),
    };
    return cmocka_run_group_tests_name("ice/names", tests, NULL, NULL);
}
