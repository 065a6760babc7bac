#include "value.h"

#include "base/mem.h"
#include "base/table.h"
#include "base/text.h"
#include <math.h>
#include <string.h>

enum {
    SMALLEST = -32, /* what BinaryPack writes in one byte */
    LARGEST = 127,
    INDEX_FROM = 16, /* maps with more entries get a hash index */
};

#define SHARED(type_)                                                                                        \
    {                                                                                                        \
        .type = (type_), .shared = true                                                                      \
    }
#define INT1(n)                                                                                              \
    {                                                                                                        \
        .type = DP_VALUE_INT, .shared = true, .as.i = (n)                                                    \
    }
#define INT8(n)                                                                                              \
    INT1(n), INT1((n) + 1), INT1((n) + 2), INT1((n) + 3), INT1((n) + 4), INT1((n) + 5), INT1((n) + 6),       \
        INT1((n) + 7)
#define INT32(n) INT8(n), INT8((n) + 8), INT8((n) + 16), INT8((n) + 24)

static uint8_t empty_text[1];
static const dp_value null_value = SHARED(DP_VALUE_NULL);
static const dp_value false_value = SHARED(DP_VALUE_BOOL);
static const dp_value true_value = {.type = DP_VALUE_BOOL, .shared = true, .as.boolean = true};
static const dp_value empty_string = {.type = DP_VALUE_STRING, .shared = true, .as.data = empty_text};
static const dp_value empty_bytes = {.type = DP_VALUE_BYTES, .shared = true, .as.data = empty_text};
static const dp_value small_ints[] = {INT32(-32), INT32(0), INT32(32), INT32(64), INT32(96)};

/* Constants have nothing that a caller could change: only arrays and maps have setters. */
static dp_value *constant(const dp_value *value) { return (dp_value *)(uintptr_t)value; }

static dp_value *new_node(dp_value_type type, size_t extra)
{
    dp_value *value = dp_alloc(sizeof(*value) + extra);
    if (value != NULL)
        *value = (dp_value){.type = (uint8_t)type};
    return value;
}

dp_value *dp_value_null(void) { return constant(&null_value); }
dp_value *dp_value_bool(bool b) { return constant(b ? &true_value : &false_value); }

dp_value *dp_value_int(int64_t i)
{
    if (i >= SMALLEST && i <= LARGEST)
        return constant(&small_ints[i - SMALLEST]);
    dp_value *value = new_node(DP_VALUE_INT, 0);
    if (value != NULL)
        value->as.i = i;
    return value;
}

dp_value *dp_value_uint(uint64_t u)
{
    if (u <= INT64_MAX)
        return dp_value_int((int64_t)u);
    dp_value *value = new_node(DP_VALUE_UINT, 0);
    if (value != NULL)
        value->as.u = u;
    return value;
}

dp_value *dp_value_double(double d)
{
    dp_value *value = new_node(DP_VALUE_DOUBLE, 0);
    if (value != NULL)
        value->as.d = d;
    return value;
}

static dp_value *new_data(dp_value_type type, const uint8_t *data, size_t len)
{
    if (len == 0)
        return constant(type == DP_VALUE_STRING ? &empty_string : &empty_bytes);
    if (len >= UINT32_MAX) /* the wire has 32-bit lengths */
        return NULL;
    dp_value *value = new_node(type, len + 1);
    if (value == NULL)
        return NULL;
    value->count = (uint32_t)len;
    value->as.data = (uint8_t *)(value + 1);
    memcpy(value->as.data, data, len);
    value->as.data[len] = '\0';
    return value;
}

dp_value *dp_value_text_unchecked(const uint8_t *text, size_t len)
{
    return new_data(DP_VALUE_STRING, text, len);
}

dp_value *dp_value_string_n(const char *text, size_t len)
{
    if (!dp_utf8_valid((const uint8_t *)text, len))
        return NULL;
    return new_data(DP_VALUE_STRING, (const uint8_t *)text, len);
}

dp_value *dp_value_string(const char *text) { return dp_value_string_n(text, strlen(text)); }
dp_value *dp_value_bytes(const uint8_t *data, size_t len) { return new_data(DP_VALUE_BYTES, data, len); }

dp_value *dp_value_bytes_adopt(uint8_t *block, size_t len)
{
    dp_value *value = len >= UINT32_MAX ? NULL : new_node(DP_VALUE_BYTES, 0);
    if (value == NULL) {
        dp_free(block);
        return NULL;
    }
    value->separate = true;
    value->count = (uint32_t)len;
    value->as.data = block;
    return value;
}

dp_value *dp_value_array(void) { return new_node(DP_VALUE_ARRAY, 0); }
dp_value *dp_value_map(void) { return new_node(DP_VALUE_MAP, 0); }
bool dp_value_is_shared(const dp_value *value) { return value->shared; }

static bool is(const dp_value *value, dp_value_type type) { return value != NULL && value->type == type; }

/* ---- freeing ---- */

/* Frees value, or puts it on the list if it has children of its own. */
static void free_or_queue(dp_value *value, dp_value **list)
{
    if (value == NULL || value->shared)
        return;
    if (value->type == DP_VALUE_ARRAY && value->as.items != NULL) {
        value->as.items->next_to_free = *list;
        *list = value;
        return;
    }
    if (value->type == DP_VALUE_MAP && value->as.entries != NULL) {
        value->as.entries->next_to_free = *list;
        *list = value;
        return;
    }
    if (value->separate)
        dp_free(value->as.data);
    dp_free(value);
}

void dp_value_free(dp_value *value)
{
    dp_value *list = NULL;
    free_or_queue(value, &list);
    while (list != NULL) {
        dp_value *container = list;
        if (container->type == DP_VALUE_ARRAY) {
            dp_value_array_items *items = container->as.items;
            list = items->next_to_free;
            for (uint32_t i = 0; i < container->count; i++)
                free_or_queue(items->at[i], &list);
            dp_free(items);
        } else {
            dp_value_map_entries *entries = container->as.entries;
            list = entries->next_to_free;
            for (uint32_t i = 0; i < container->count; i++) {
                dp_free(entries->at[i].key);
                free_or_queue(entries->at[i].value, &list);
            }
            dp_free(entries->at);
            dp_free(entries->index);
            dp_free(entries);
        }
        dp_free(container);
    }
}

/* ---- arrays ---- */

static int array_reserve(dp_value *array)
{
    dp_value_array_items *items = array->as.items;
    size_t capacity = items == NULL ? 0 : items->capacity;
    if (array->count < capacity)
        return DP_OK;
    if (array->count == UINT32_MAX)
        return DP_ERR_LIMIT;
    capacity = capacity == 0 ? 2 : capacity * 2;
    items = dp_realloc(items, sizeof(*items) + capacity * sizeof(items->at[0]));
    if (items == NULL)
        return DP_ERR_NO_MEMORY;
    items->capacity = capacity;
    items->next_to_free = NULL;
    array->as.items = items;
    return DP_OK;
}

int dp_value_push(dp_value *array, dp_value *item)
{
    int error = item == NULL                 ? DP_ERR_NO_MEMORY
                : !is(array, DP_VALUE_ARRAY) ? DP_ERR_INVALID_ARGUMENT
                                             : array_reserve(array);
    if (error != DP_OK) {
        dp_value_free(item);
        return error;
    }
    array->as.items->at[array->count++] = item;
    return DP_OK;
}

/* ---- maps ---- */

/* Keyed with a secret: a peer that chooses the keys doesn't know it, so it can't prepare collisions. */
static uint32_t hash_of(const dp_value_map_entries *entries, const char *key, size_t len)
{
    return (uint32_t)dp_hash(entries->seed, key, len);
}

static bool entry_is(const dp_value_entry *entry, const char *key, size_t len)
{
    return entry->key_len == len && memcmp(entry->key, key, len) == 0;
}

static dp_value_entry *find(const dp_value *map, const char *key, size_t len, uint32_t hash)
{
    dp_value_map_entries *entries = map->as.entries;
    if (entries == NULL)
        return NULL;
    if (entries->index == NULL) {
        for (uint32_t i = 0; i < map->count; i++)
            if (entry_is(&entries->at[i], key, len))
                return &entries->at[i];
        return NULL;
    }
    for (size_t i = hash & (entries->index_size - 1); entries->index[i] != 0;
         i = (i + 1) & (entries->index_size - 1)) {
        dp_value_entry *entry = &entries->at[entries->index[i] - 1];
        if (entry->hash == hash && entry_is(entry, key, len))
            return entry;
    }
    return NULL;
}

static void index_add(dp_value_map_entries *entries, uint32_t number)
{
    size_t i = entries->at[number].hash & (entries->index_size - 1);
    while (entries->index[i] != 0)
        i = (i + 1) & (entries->index_size - 1);
    entries->index[i] = number + 1;
}

/* Room for one more entry in the list and, from INDEX_FROM on, in an index that stays at most half full. */
static int map_reserve(dp_value *map)
{
    dp_value_map_entries *entries = map->as.entries;
    if (entries == NULL) {
        entries = dp_calloc(1, sizeof(*entries));
        if (entries == NULL)
            return DP_ERR_NO_MEMORY;
        entries->seed = dp_hash(dp_hash_secret(), &entries, sizeof(entries));
        map->as.entries = entries;
    }
    if (map->count >= entries->capacity) {
        size_t capacity = entries->capacity == 0 ? 4 : entries->capacity * 2;
        if (capacity >= UINT32_MAX)
            return DP_ERR_LIMIT;
        dp_value_entry *at = dp_realloc(entries->at, capacity * sizeof(*at));
        if (at == NULL)
            return DP_ERR_NO_MEMORY;
        entries->at = at;
        entries->capacity = capacity;
    }
    if (map->count < INDEX_FROM || (size_t)map->count * 2 < entries->index_size)
        return DP_OK;
    size_t size = entries->index_size == 0 ? (size_t)INDEX_FROM * 4 : entries->index_size * 2;
    uint32_t *index = dp_calloc(size, sizeof(*index));
    if (index == NULL)
        return DP_ERR_NO_MEMORY;
    dp_free(entries->index);
    entries->index = index;
    entries->index_size = size;
    for (uint32_t i = 0; i < map->count; i++) {
        entries->at[i].hash = hash_of(entries, entries->at[i].key, entries->at[i].key_len);
        index_add(entries, i);
    }
    return DP_OK;
}

static int map_set(dp_value *map, const char *key, size_t len, dp_value *item)
{
    if (len >= UINT32_MAX)
        return DP_ERR_TOO_LARGE;
    int error = map_reserve(map);
    if (error != DP_OK)
        return error;
    dp_value_map_entries *entries = map->as.entries;
    uint32_t hash = entries->index == NULL ? 0 : hash_of(entries, key, len);
    dp_value_entry *entry = find(map, key, len, hash);
    if (entry != NULL) {
        dp_value_free(entry->value);
        entry->value = item;
        return DP_OK;
    }
    char *copy = dp_strndup(key, len);
    if (copy == NULL)
        return DP_ERR_NO_MEMORY;
    entries->at[map->count] = (dp_value_entry){copy, item, (uint32_t)len, hash};
    if (entries->index != NULL)
        index_add(entries, map->count);
    map->count++;
    return DP_OK;
}

int dp_value_set_unchecked(dp_value *map, const char *key, size_t key_len, dp_value *item)
{
    int error = item == NULL             ? DP_ERR_NO_MEMORY
                : !is(map, DP_VALUE_MAP) ? DP_ERR_INVALID_ARGUMENT
                                         : map_set(map, key, key_len, item);
    if (error != DP_OK)
        dp_value_free(item);
    return error;
}

int dp_value_set_n(dp_value *map, const char *key, size_t key_len, dp_value *item)
{
    if (!dp_utf8_valid((const uint8_t *)key, key_len)) {
        dp_value_free(item);
        return DP_ERR_INVALID_ARGUMENT;
    }
    return dp_value_set_unchecked(map, key, key_len, item);
}

int dp_value_set(dp_value *map, const char *key, dp_value *item)
{
    return dp_value_set_n(map, key, strlen(key), item);
}

dp_value *dp_value_get_n(const dp_value *map, const char *key, size_t key_len)
{
    if (!is(map, DP_VALUE_MAP) || map->as.entries == NULL)
        return NULL;
    uint32_t hash = map->as.entries->index == NULL ? 0 : hash_of(map->as.entries, key, key_len);
    dp_value_entry *entry = find(map, key, key_len, hash);
    return entry == NULL ? NULL : entry->value;
}

dp_value *dp_value_get(const dp_value *map, const char *key) { return dp_value_get_n(map, key, strlen(key)); }

/* ---- getters ---- */

dp_value_type dp_value_get_type(const dp_value *value)
{
    return value == NULL ? DP_VALUE_NULL : (dp_value_type)value->type;
}

bool dp_value_get_bool(const dp_value *value, bool fallback)
{
    return is(value, DP_VALUE_BOOL) ? value->as.boolean : fallback;
}

int64_t dp_value_get_int(const dp_value *value, int64_t fallback)
{
    if (is(value, DP_VALUE_INT))
        return value->as.i;
    /* The bounds are exact doubles; NaN fails both comparisons. */
    /* cppcheck-suppress incorrectLogicOperator ; it cannot read hexadecimal floats */
    if (is(value, DP_VALUE_DOUBLE) && value->as.d >= -0x1p63 && value->as.d < 0x1p63 &&
        trunc(value->as.d) == value->as.d)
        return (int64_t)value->as.d;
    return fallback;
}

uint64_t dp_value_get_uint(const dp_value *value, uint64_t fallback)
{
    if (is(value, DP_VALUE_UINT))
        return value->as.u;
    if (is(value, DP_VALUE_INT) && value->as.i >= 0)
        return (uint64_t)value->as.i;
    if (is(value, DP_VALUE_DOUBLE) && value->as.d >= 0 && value->as.d < 0x1p64 &&
        trunc(value->as.d) == value->as.d)
        return (uint64_t)value->as.d;
    return fallback;
}

double dp_value_get_double(const dp_value *value, double fallback)
{
    switch (value == NULL ? DP_VALUE_NULL : value->type) {
    case DP_VALUE_INT:
        return (double)value->as.i;
    case DP_VALUE_UINT:
        return (double)value->as.u;
    case DP_VALUE_DOUBLE:
        return value->as.d;
    default:
        return fallback;
    }
}

static const uint8_t *get_data(const dp_value *value, dp_value_type type, size_t *len)
{
    bool ok = is(value, type);
    if (len != NULL)
        *len = ok ? value->count : 0;
    return ok ? value->as.data : NULL;
}

const char *dp_value_get_string(const dp_value *value, size_t *len)
{
    return (const char *)get_data(value, DP_VALUE_STRING, len);
}

const uint8_t *dp_value_get_bytes(const dp_value *value, size_t *len)
{
    return get_data(value, DP_VALUE_BYTES, len);
}

size_t dp_value_count(const dp_value *value)
{
    return is(value, DP_VALUE_ARRAY) || is(value, DP_VALUE_MAP) ? value->count : 0;
}

dp_value *dp_value_at(const dp_value *value, size_t index)
{
    if (index >= dp_value_count(value))
        return NULL;
    return value->type == DP_VALUE_ARRAY ? value->as.items->at[index] : value->as.entries->at[index].value;
}

const char *dp_value_key_at(const dp_value *map, size_t index, size_t *len)
{
    bool ok = is(map, DP_VALUE_MAP) && index < map->count;
    if (len != NULL)
        *len = ok ? map->as.entries->at[index].key_len : 0;
    return ok ? map->as.entries->at[index].key : NULL;
}

/* ---- whole trees ---- */

enum { BLOCK = 16 }; /* what the allocator adds to each */

size_t dp_value_memory(const dp_value *value, int depth)
{
    if (value->shared || depth > DP_BINARYPACK_MAX_DEPTH)
        return 0;
    size_t bytes = sizeof(*value) + BLOCK;
    if (value->type == DP_VALUE_STRING || value->type == DP_VALUE_BYTES)
        return bytes + value->count;
    if (dp_value_count(value) == 0)
        return bytes;
    if (value->type == DP_VALUE_ARRAY)
        bytes += sizeof(*value->as.items) + value->as.items->capacity * sizeof(dp_value *) + BLOCK;
    else
        bytes += sizeof(*value->as.entries) + value->as.entries->capacity * sizeof(dp_value_entry) +
                 value->as.entries->index_size * sizeof(uint32_t) + 3 * (size_t)BLOCK;
    for (size_t i = 0; i < dp_value_count(value); i++) {
        bytes += dp_value_memory(dp_value_at(value, i), depth + 1);
        if (value->type == DP_VALUE_MAP)
            bytes += value->as.entries->at[i].key_len + BLOCK;
    }
    return bytes;
}

static dp_value *copy(const dp_value *value, int depth)
{
    if (value->shared)
        return constant(value);
    if (value->type == DP_VALUE_STRING || value->type == DP_VALUE_BYTES)
        return new_data((dp_value_type)value->type, value->as.data, value->count);
    dp_value *result = new_node((dp_value_type)value->type, 0);
    if (result == NULL || (value->type != DP_VALUE_ARRAY && value->type != DP_VALUE_MAP)) {
        if (result != NULL)
            *result = *value;
        return result;
    }
    int error = value->count > 0 && depth >= DP_BINARYPACK_MAX_DEPTH ? DP_ERR_LIMIT : DP_OK;
    for (uint32_t i = 0; i < value->count && error == DP_OK; i++) {
        if (value->type == DP_VALUE_ARRAY) {
            error = dp_value_push(result, copy(value->as.items->at[i], depth + 1));
        } else {
            const dp_value_entry *entry = &value->as.entries->at[i];
            error = dp_value_set_unchecked(result, entry->key, entry->key_len, copy(entry->value, depth + 1));
        }
    }
    if (error != DP_OK) {
        dp_value_free(result);
        return NULL;
    }
    return result;
}

dp_value *dp_value_copy(const dp_value *value) { return value == NULL ? NULL : copy(value, 0); }

static bool is_number(const dp_value *value)
{
    return value->type == DP_VALUE_INT || value->type == DP_VALUE_UINT || value->type == DP_VALUE_DOUBLE;
}

/* JavaScript has one kind of number, so 1 and 1.0 are equal here; unlike there, NaN equals NaN. */
static bool numbers_equal(const dp_value *a, const dp_value *b)
{
    if (a->type == b->type && a->type != DP_VALUE_DOUBLE)
        return a->as.u == b->as.u;
    if (a->type != DP_VALUE_DOUBLE && b->type != DP_VALUE_DOUBLE)
        return false; /* INT and UINT have disjoint ranges */
    double x = dp_value_get_double(a, 0);
    double y = dp_value_get_double(b, 0);
    return x == y || (isnan(x) && isnan(y));
}

static bool equal(const dp_value *a, const dp_value *b, int depth)
{
    if (is_number(a) && is_number(b))
        return numbers_equal(a, b);
    if (a->type != b->type || a->count != b->count)
        return false;
    switch (a->type) {
    case DP_VALUE_BOOL:
        return a->as.boolean == b->as.boolean;
    case DP_VALUE_STRING:
    case DP_VALUE_BYTES:
        return memcmp(a->as.data, b->as.data, a->count) == 0;
    case DP_VALUE_ARRAY:
    case DP_VALUE_MAP:
        break;
    default:
        return true;
    }
    if (a->count > 0 && depth >= DP_BINARYPACK_MAX_DEPTH)
        return false;
    for (uint32_t i = 0; i < a->count; i++) {
        if (a->type == DP_VALUE_ARRAY) {
            if (!equal(a->as.items->at[i], b->as.items->at[i], depth + 1))
                return false;
        } else {
            const dp_value_entry *entry = &a->as.entries->at[i];
            const dp_value *other = dp_value_get_n(b, entry->key, entry->key_len);
            if (other == NULL || !equal(entry->value, other, depth + 1))
                return false;
        }
    }
    return true;
}

bool dp_value_equal(const dp_value *a, const dp_value *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    return equal(a, b, 0);
}
