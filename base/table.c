#include "base/table.h"

#include "base/mem.h"
#include <string.h>

struct dp_table_entry {
    uint8_t *key; /* NULL: free, or a tombstone if dead */
    size_t key_len;
    void *value;
    uint64_t hash;
    bool dead;
};

enum { FIRST_CAPACITY = 16 };

static uint64_t hash_secret;

uint64_t dp_hash_secret(void) { return hash_secret; }
void dp_hash_set_secret(uint64_t secret) { hash_secret = secret; }

void dp_table_init(dp_table *table, uint64_t seed)
{
    memset(table, 0, sizeof(*table));
    table->seed = seed ^ hash_secret;
}

void dp_table_clear(dp_table *table)
{
    for (size_t i = 0; i < table->capacity; i++)
        dp_free(table->entries[i].key);
    dp_free(table->entries);
    *table = (dp_table){.seed = table->seed};
}

static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= 0xD6E8FEB86659FD93u;
    h ^= h >> 32;
    h *= 0xD6E8FEB86659FD93u;
    return h ^ (h >> 32);
}

uint64_t dp_hash(uint64_t seed, const void *key, size_t len)
{
    const uint8_t *at = key;
    uint64_t h = mix(seed ^ len);
    for (; len >= 8; at += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        h = mix(h ^ word) + seed;
    }
    uint64_t tail = 0;
    if (len > 0)
        memcpy(&tail, at, len);
    return mix(h ^ tail);
}

static dp_table_entry *find(const dp_table *table, const void *key, size_t len, uint64_t hash)
{
    if (table->capacity == 0)
        return NULL;
    for (size_t i = hash & (table->capacity - 1);; i = (i + 1) & (table->capacity - 1)) {
        dp_table_entry *e = &table->entries[i];
        if (e->key == NULL && !e->dead)
            return NULL;
        if (e->key != NULL && e->hash == hash && e->key_len == len &&
            (len == 0 || memcmp(e->key, key, len) == 0))
            return e;
    }
}

static dp_table_entry *free_entry(dp_table_entry *entries, size_t capacity, uint64_t hash)
{
    size_t i = hash & (capacity - 1);
    while (entries[i].key != NULL)
        i = (i + 1) & (capacity - 1);
    return &entries[i];
}

static int rehash(dp_table *table)
{
    size_t capacity = FIRST_CAPACITY;
    while (capacity < table->count * 2 + 2)
        capacity *= 2;
    dp_table_entry *entries = dp_calloc(capacity, sizeof(*entries));
    if (entries == NULL)
        return DP_ERR_NO_MEMORY;
    for (size_t i = 0; i < table->capacity; i++)
        if (table->entries[i].key != NULL)
            *free_entry(entries, capacity, table->entries[i].hash) = table->entries[i];
    dp_free(table->entries);
    table->entries = entries;
    table->capacity = capacity;
    table->tombstones = 0;
    return DP_OK;
}

int dp_table_set(dp_table *table, const void *key, size_t key_len, void *value, void **old)
{
    uint64_t hash = dp_hash(table->seed, key, key_len);
    dp_table_entry *e = find(table, key, key_len, hash);
    if (old != NULL)
        *old = e != NULL ? e->value : NULL;
    if (e != NULL) {
        e->value = value;
        return DP_OK;
    }
    uint8_t *copy = dp_alloc(key_len);
    if (copy == NULL)
        return DP_ERR_NO_MEMORY;
    if ((table->count + table->tombstones + 1) * 4 > table->capacity * 3 && rehash(table) != DP_OK) {
        dp_free(copy);
        return DP_ERR_NO_MEMORY;
    }
    if (key_len > 0)
        memcpy(copy, key, key_len);
    e = free_entry(table->entries, table->capacity, hash);
    if (e->dead)
        table->tombstones--;
    *e = (dp_table_entry){.key = copy, .key_len = key_len, .value = value, .hash = hash};
    table->count++;
    return DP_OK;
}

void *dp_table_get(const dp_table *table, const void *key, size_t key_len)
{
    dp_table_entry *e = find(table, key, key_len, dp_hash(table->seed, key, key_len));
    return e != NULL ? e->value : NULL;
}

void *dp_table_remove(dp_table *table, const void *key, size_t key_len)
{
    dp_table_entry *e = find(table, key, key_len, dp_hash(table->seed, key, key_len));
    if (e == NULL)
        return NULL;
    void *value = e->value;
    dp_free(e->key);
    *e = (dp_table_entry){.dead = true};
    table->tombstones++;
    table->count--;
    return value;
}

void *dp_table_next(const dp_table *table, size_t *at)
{
    while (*at < table->capacity) {
        const dp_table_entry *e = &table->entries[(*at)++];
        if (e->key != NULL)
            return e->value;
    }
    return NULL;
}
