/* The tree behind dp_value, for the codec. Everything else uses the public getters.
 *
 * A node is 16 bytes; text and bytes follow it in the same block. Nodes never move, so a pointer to an item
 * stays valid until its tree is freed or the item is replaced. Small numbers, null, booleans and empty text
 * are shared constants: what takes one byte on the wire costs no node. */
#ifndef RPC_VALUE_H
#define RPC_VALUE_H

#include <datapeer/rpc.h>

typedef struct dp_value_array_items {
    struct dp_value *next_to_free; /* lets dp_value_free walk any depth without a stack */
    size_t capacity;
    dp_value *at[];
} dp_value_array_items;

typedef struct dp_value_entry {
    char *key; /* NUL-terminated */
    dp_value *value;
    uint32_t key_len;
    uint32_t hash;
} dp_value_entry;

typedef struct dp_value_map_entries {
    struct dp_value *next_to_free;
    dp_value_entry *at;
    size_t capacity;
    uint32_t *index; /* NULL for small maps; else open addressing: entry number + 1, 0 is free */
    size_t index_size;
    uint64_t seed;
} dp_value_map_entries;

struct dp_value {
    uint8_t type;
    bool shared;    /* one of the constants: never freed */
    bool separate;  /* data is a block of its own */
    uint32_t count; /* length of text and bytes, items, entries */
    union {
        bool boolean;
        int64_t i;
        uint64_t u;
        double d;
        uint8_t *data;
        dp_value_array_items *items;   /* NULL: empty */
        dp_value_map_entries *entries; /* NULL: empty */
    } as;
};

/* Text that is known to be UTF-8. */
dp_value *dp_value_text_unchecked(const uint8_t *text, size_t len);
/* Takes over a block of dp_alloc, in every case. */
dp_value *dp_value_bytes_adopt(uint8_t *block, size_t len);
/* As dp_value_set_n for a key that is known to be UTF-8. */
int dp_value_set_unchecked(dp_value *map, const char *key, size_t key_len, dp_value *item);
/* True for the nodes that cost an allocation of their own. */
bool dp_value_is_shared(const dp_value *value);
/* Bytes that the tree takes, about; what is more than DP_BINARYPACK_MAX_DEPTH below is left out. */
size_t dp_value_memory(const dp_value *value, int depth);
dp_value *dp_value_get_n(const dp_value *map, const char *key, size_t key_len);

#endif
