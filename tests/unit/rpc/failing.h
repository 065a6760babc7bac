/* An allocator that fails the n-th allocation and counts what is alive. */
#ifndef TESTS_RPC_FAILING_H
#define TESTS_RPC_FAILING_H

#include <datapeer/base.h>
#include <malloc.h>
#include <stdlib.h>

static struct {
    long fail_at; /* 0: never */
    long count;
    size_t alive; /* bytes */
    size_t peak;
} memory;

static inline void memory_add(void *block)
{
    memory.alive += malloc_usable_size(block);
    if (memory.alive > memory.peak)
        memory.peak = memory.alive;
}

static inline void *failing_realloc(void *ctx, void *old, size_t size)
{
    (void)ctx;
    if (++memory.count == memory.fail_at)
        return NULL;
    memory.alive -= malloc_usable_size(old);
    void *block = realloc(old, size);
    memory_add(block);
    return block;
}

static inline void *failing_alloc(void *ctx, size_t size) { return failing_realloc(ctx, NULL, size); }

static inline void failing_free(void *ctx, void *block)
{
    (void)ctx;
    memory.alive -= malloc_usable_size(block);
    free(block);
}

static inline void memory_start(long fail_at)
{
    static const dp_allocator allocator = {failing_alloc, failing_realloc, failing_free, NULL};
    memory.fail_at = fail_at;
    memory.count = 0;
    memory.alive = 0;
    memory.peak = 0;
    dp_set_allocator(&allocator);
}

static inline void memory_stop(void) { dp_set_allocator(NULL); }

#endif
