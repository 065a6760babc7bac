/* Allocation through the hook of dp_set_allocator. Every caller handles NULL. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <datapeer/base.h>

void *dp_alloc(size_t size);                /* uninitialised */
void *dp_calloc(size_t count, size_t size); /* zeroed; NULL also if count * size overflows */
void *dp_realloc(void *old, size_t size);   /* old stays valid if NULL is returned */
char *dp_strndup(const char *text, size_t len);
char *dp_strdup(const char *text);
/* Erases a secret; the compiler cannot drop it. */
void dp_wipe(void *block, size_t size);
/* Time depends on len only. */
bool dp_equal_constant_time(const void *a, const void *b, size_t len);

/* Grows *items (elements of item_size) so that it holds at least needed, doubling; NO_MEMORY leaves it as it
 * was. LIMIT if needed > max. */
int dp_grow(void **items, size_t *capacity, size_t needed, size_t max, size_t item_size);

#endif
