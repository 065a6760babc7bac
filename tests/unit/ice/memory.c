/* Each single allocation of a connection fails once (row 90): a clean error or a lost datagram, nothing
 * leaked, and the connection is made all the same. The same for the random source. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "testnet.h"

static unsigned long countdown; /* the allocation that fails; 0: none */
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

static int failing_random(void *ctx, uint8_t *out, size_t len)
{
    return fails() ? DP_ERR_CRYPTO : test_random_fn(ctx, out, len);
}

/* Returns true if the agents connected. */
static bool connect_once(int (*random)(void *, uint8_t *, size_t), int expected)
{
    testnet net = {.now = DP_SECONDS(1), .delay = DP_MS(10)};
    bool made = true;
    net.packets = calloc(PACKETS_MAX, sizeof *net.packets);
    for (unsigned i = 0; i < 2; i++) {
        net.nodes[i].seed = i + 1;
        dp_ice_config config = {.size = sizeof config,
                                .random = {random, &net.nodes[i].seed},
                                .role = i == 0 ? DP_ICE_CONTROLLING : DP_ICE_CONTROLLED};
        int err = dp_ice_new(&net.nodes[i].ice, &config);
        assert_true(err == DP_OK || err == expected);
        assert_true((err == DP_OK) == (net.nodes[i].ice != NULL));
        made = made && err == DP_OK;
    }
    if (made) {
        net_address(&net, 0, "10.0.0.1", 1000);
        net_address(&net, 1, "10.0.0.2", 2000);
        net.nodes[1].mute_candidates = true; /* a peer-reflexive one too */
        net_gather(&net, 0);
        net_gather(&net, 1);
        dp_ice_event event;
        while (dp_ice_poll_event(net.nodes[0].ice, &event)) {
            if (event.candidate == NULL)
                continue;
            int err = dp_ice_add_remote_candidate(net.nodes[1].ice, net.now, event.candidate); /* held */
            assert_true(err == DP_OK || err == expected);
            if (err != DP_OK)
                assert_int_equal(dp_ice_add_remote_candidate(net.nodes[1].ice, net.now, event.candidate),
                                 DP_OK);
        }
        net_credentials(&net, 1);
        net_run(&net, DP_MS(40)); /* node 0 gets an early check */
        net_credentials(&net, 0);
        net_run(&net, DP_SECONDS(2));
        /* a candidate lost to the failure while it was held is told again, as an owner can't know */
        char line[DP_CANDIDATE_TEXT_MAX] = "candidate:1 1 udp 99 10.0.0.1 1000 typ host";
        assert_int_equal(dp_ice_add_remote_candidate(net.nodes[1].ice, net.now, line), DP_OK);
        net_run(&net, DP_SECONDS(10));
        assert_true(net_completed(&net));
    }
    net_clear(&net);
    return made;
}

static void every_allocation_fails_once(void **state)
{
    (void)state;
    const dp_allocator allocator = {hook_alloc, hook_realloc, hook_free, NULL};
    dp_set_allocator(&allocator);
    countdown = allocations = 0;
    assert_true(connect_once(test_random_fn, DP_OK));
    unsigned long total = allocations;
    assert_in_range(total, 10, 1000);
    for (unsigned long n = 1; n <= total; n++) {
        countdown = n;
        (void)connect_once(test_random_fn, DP_ERR_NO_MEMORY);
    }
    dp_set_allocator(NULL);
    countdown = 0;
}

static void every_random_draw_fails_once(void **state)
{
    (void)state;
    countdown = allocations = 0;
    assert_true(connect_once(failing_random, DP_OK));
    unsigned long total = allocations;
    assert_in_range(total, 10, 1000);
    for (unsigned long n = 1; n <= total; n++) {
        countdown = n;
        (void)connect_once(failing_random, DP_ERR_CRYPTO);
    }
    countdown = 0;
}

static void bad_configurations(void **state)
{
    (void)state;
    dp_ice *ice = NULL;
    dp_ice_config config = {.size = sizeof config};
    assert_int_equal(dp_ice_new(&ice, &config), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_ice_new(&ice, NULL), DP_ERR_INVALID_ARGUMENT);
    config.random.fn = test_random_fn;
    config.size = 3;
    assert_int_equal(dp_ice_new(&ice, &config), DP_ERR_INVALID_ARGUMENT);
    assert_null(ice);
    dp_ice_free(NULL);
    for (int i = DP_ICE_NEW; i <= DP_ICE_CLOSED; i++)
        assert_string_not_equal(dp_ice_state_name((dp_ice_state)i), "unknown");
    assert_string_equal(dp_ice_state_name((dp_ice_state)99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_fails_once),
        cmocka_unit_test(every_random_draw_fails_once),
        cmocka_unit_test(bad_configurations),
    };
    return cmocka_run_group_tests_name("ice/memory", tests, NULL, NULL);
}
