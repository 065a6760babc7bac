/* What the tests of base share: cmocka, a seeded random source and an allocator that fails when told to. */
#ifndef TESTS_UNIT_BASE_HELPER_H
#define TESTS_UNIT_BASE_HELPER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <datapeer/base.h>
#include <string.h>

static uint64_t seed = 1;
static uint32_t __attribute__((unused)) next_random(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33);
}

static long fail_at;     /* the n-th allocation from now on fails, and all after it; 0: none */
static long allocations; /* since then */
static long blocks;      /* live */
static void *hook_alloc(void *ctx, size_t size)
{
    (void)ctx;
    if (++allocations >= fail_at && fail_at > 0)
        return NULL;
    blocks++;
    return malloc(size);
}
static void *hook_realloc(void *ctx, void *old, size_t size)
{
    (void)ctx;
    if (++allocations >= fail_at && fail_at > 0)
        return NULL;
    blocks += old == NULL;
    return realloc(old, size);
}
static void hook_free(void *ctx, void *block)
{
    (void)ctx;
    blocks--;
    free(block);
}
static void __attribute__((unused)) fail_allocation(long n)
{
    static const dp_allocator allocator = {hook_alloc, hook_realloc, hook_free, NULL};
    fail_at = n;
    allocations = 0;
    dp_set_allocator(&allocator);
}

#endif
