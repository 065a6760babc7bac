/* What the tests of net share: a loop that runs until a condition holds, with a generous deadline. */
#ifndef TESTS_UNIT_NET_HELPER_H
#define TESTS_UNIT_NET_HELPER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <datapeer/net.h>

#define DEADLINE DP_SECONDS(20)

static dp_loop *loop;

static int __attribute__((unused)) setup(void **state)
{
    (void)state;
    return dp_loop_new(&loop);
}
static int __attribute__((unused)) teardown(void **state)
{
    (void)state;
    dp_loop_free(loop);
    return 0;
}

/* Runs the loop until the condition holds; the test fails at the deadline. */
#define RUN_UNTIL(condition)                                                                                 \
    do {                                                                                                     \
        dp_time end_ = dp_clock_now() + DEADLINE;                                                            \
        while (!(condition)) {                                                                               \
            assert_true(dp_clock_now() < end_);                                                              \
            assert_int_equal(dp_loop_step(loop, DP_MS(100)), DP_OK);                                         \
        }                                                                                                    \
    } while (0)

static dp_address __attribute__((unused)) loopback(uint16_t port)
{
    dp_address a;
    assert_int_equal(dp_address_parse(&a, "127.0.0.1", port), DP_OK);
    return a;
}

/* The n-th allocation from now on fails, and all after it; 0: none. */
static long fail_at;
static long allocations;
static void *failing_alloc(void *ctx, size_t size)
{
    (void)ctx;
    return fail_at > 0 && ++allocations >= fail_at ? NULL : malloc(size);
}
static void *failing_realloc(void *ctx, void *old, size_t size)
{
    (void)ctx;
    return fail_at > 0 && ++allocations >= fail_at ? NULL : realloc(old, size);
}
static void failing_free(void *ctx, void *block)
{
    (void)ctx;
    free(block);
}
static void __attribute__((unused)) fail_allocation(long n)
{
    static const dp_allocator failing = {failing_alloc, failing_realloc, failing_free, NULL};
    fail_at = n;
    allocations = 0;
    dp_set_allocator(n > 0 ? &failing : NULL);
}

#endif
