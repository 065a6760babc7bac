#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static void *system_alloc(void *ctx, size_t size)
{
    (void)ctx;
    return malloc(size);
}
static void *system_realloc(void *ctx, void *old, size_t size)
{
    (void)ctx;
    return realloc(old, size);
}
static void system_free(void *ctx, void *block)
{
    (void)ctx;
    free(block);
}

static const dp_allocator system_allocator = {system_alloc, system_realloc, system_free, NULL};
static dp_allocator hook = {system_alloc, system_realloc, system_free, NULL};

void dp_set_allocator(const dp_allocator *allocator)
{
    hook = allocator != NULL ? *allocator : system_allocator;
}

/* A zero-sized block is one byte: NULL always means failure. */
void *dp_alloc(size_t size) { return hook.alloc(hook.ctx, size > 0 ? size : 1); }

void *dp_calloc(size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    void *block = dp_alloc(total);
    if (block != NULL)
        memset(block, 0, total);
    return block;
}

void *dp_realloc(void *old, size_t size) { return hook.realloc(hook.ctx, old, size > 0 ? size : 1); }

void dp_free(void *block)
{
    if (block != NULL)
        hook.free(hook.ctx, block);
}

char *dp_strndup(const char *text, size_t len)
{
    if (len == SIZE_MAX)
        return NULL;
    char *copy = dp_alloc(len + 1);
    if (copy != NULL) {
        if (len > 0)
            memcpy(copy, text, len);
        copy[len] = '\0';
    }
    return copy;
}

char *dp_strdup(const char *text) { return dp_strndup(text, strlen(text)); }

void dp_wipe(void *block, size_t size)
{
    if (size > 0)
        explicit_bzero(block, size);
}

bool dp_equal_constant_time(const void *a, const void *b, size_t len)
{
    const volatile uint8_t *x = a;
    const volatile uint8_t *y = b;
    uint8_t difference = 0;
    for (size_t i = 0; i < len; i++)
        difference |= (uint8_t)(x[i] ^ y[i]);
    return difference == 0;
}

int dp_grow(void **items, size_t *capacity, size_t needed, size_t max, size_t item_size)
{
    if (needed > max)
        return DP_ERR_LIMIT;
    if (needed <= *capacity)
        return DP_OK;
    size_t wanted = *capacity < 8 ? 8 : *capacity > SIZE_MAX / 2 ? SIZE_MAX : *capacity * 2;
    if (wanted < needed)
        wanted = needed;
    if (wanted > max)
        wanted = max;
    size_t bytes;
    if (__builtin_mul_overflow(wanted, item_size, &bytes))
        return DP_ERR_NO_MEMORY;
    void *grown = dp_realloc(*items, bytes);
    if (grown == NULL)
        return DP_ERR_NO_MEMORY;
    *items = grown;
    *capacity = wanted;
    return DP_OK;
}
