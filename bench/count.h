/* Counts what our own code allocates (usrsctp and mbedTLS have allocators of their own). */
#ifndef BENCH_COUNT_H
#define BENCH_COUNT_H

#include <datapeer/base.h>
#include <stdlib.h>

static uint64_t allocations;

static void *count_alloc(void *ctx, size_t size)
{
    (void)ctx;
    allocations++;
    return malloc(size);
}

static void *count_realloc(void *ctx, void *old, size_t size)
{
    (void)ctx;
    allocations++;
    return realloc(old, size);
}

static void count_free(void *ctx, void *block)
{
    (void)ctx;
    free(block);
}

/* Call before anything else is called. */
static void count_allocations(void)
{
    dp_set_allocator(&(dp_allocator){count_alloc, count_realloc, count_free, NULL});
}

#endif
