/* A small hash table from byte-string keys to pointers. Keys are copied, values belong to the caller. Open
 * addressing, at most 3/4 full; the seed makes collisions unpredictable for a peer that chooses the keys. */
#ifndef BASE_TABLE_H
#define BASE_TABLE_H

#include <datapeer/base.h>

typedef struct dp_table_entry dp_table_entry;

typedef struct dp_table {
    dp_table_entry *entries;
    size_t capacity; /* 0 or a power of two */
    size_t count;
    size_t tombstones;
    uint64_t seed;
} dp_table;

/* What the process's hash tables mix into their seeds: 0 until the first dp_csprng_new, then random for good.
 */
uint64_t dp_hash_secret(void);
void dp_hash_set_secret(uint64_t secret);

/* Each 8 bytes are mixed with the seed: without knowing it nobody can prepare keys of equal hashes. */
uint64_t dp_hash(uint64_t seed, const void *key, size_t len);

void dp_table_init(dp_table *table, uint64_t seed);
void dp_table_clear(dp_table *table); /* frees keys and entries, not values */
/* Adds or replaces; *old is the replaced value or NULL (old may be NULL). NO_MEMORY: unchanged. */
int dp_table_set(dp_table *table, const void *key, size_t key_len, void *value, void **old);
void *dp_table_get(const dp_table *table, const void *key, size_t key_len); /* NULL if absent */
void *dp_table_remove(dp_table *table, const void *key, size_t key_len);    /* the removed value or NULL */
/* Walks the values: start with *at = 0; NULL at the end. Removing the entry just returned is allowed. */
void *dp_table_next(const dp_table *table, size_t *at);

#endif
