/* The hash table against a list that is searched from end to end. */
#include "tests/unit/base/helper.h"

#include "base/table.h"

enum { KEYS = 300, OPERATIONS = 60000 };

static void *model[KEYS]; /* value of each key, NULL if absent */
static size_t model_count;
static int values[1000];

/* Keys of 0 to 20 bytes, all different. */
static size_t make_key(uint8_t key[32], size_t n)
{
    size_t len = n < 1 ? 0 : 2 + n % 19;
    memset(key, 'k', len);
    if (len > 0) {
        key[len - 2] = (uint8_t)n;
        key[len - 1] = (uint8_t)(n >> 8);
    }
    return len;
}

static void compare(const dp_table *table)
{
    assert_int_equal(table->count, model_count);
    for (size_t n = 0; n < KEYS; n++) {
        uint8_t key[32];
        size_t len = make_key(key, n);
        assert_ptr_equal(dp_table_get(table, len > 0 ? key : NULL, len), model[n]);
    }
    size_t at = 0, seen = 0;
    while (dp_table_next(table, &at) != NULL)
        seen++;
    assert_int_equal(seen, model_count);
}

static void set(dp_table *table, size_t n, void *value)
{
    uint8_t key[32];
    size_t len = make_key(key, n);
    void *old = values;
    int error = dp_table_set(table, len > 0 ? key : NULL, len, value, next_random() % 2 == 0 ? &old : NULL);
    if (error != DP_OK) {
        assert_int_equal(error, DP_ERR_NO_MEMORY);
        assert_null(model[n]);
        return;
    }
    assert_true(old == values || old == model[n]);
    model_count += model[n] == NULL;
    model[n] = value;
}

static void remove_key(dp_table *table, size_t n)
{
    uint8_t key[32];
    size_t len = make_key(key, n);
    assert_ptr_equal(dp_table_remove(table, key, len), model[n]);
    model_count -= model[n] != NULL;
    model[n] = NULL;
}

static void random_operations(bool failing)
{
    dp_table table;
    memset(model, 0, sizeof(model));
    model_count = 0;
    fail_allocation(0);
    dp_table_init(&table, 0x123456789ABCDEF);
    for (size_t i = 0; i < OPERATIONS; i++) {
        /* Waves: mostly adding, then mostly removing. */
        bool adding = next_random() % 10 < (i / 1500 % 2 == 0 ? 7u : 3u);
        size_t n = next_random() % KEYS;
        if (failing)
            fail_allocation(next_random() % 3 + 1);
        if (adding)
            set(&table, n, &values[1 + i % 999]);
        else
            remove_key(&table, n);
        if (i % 1000 == 0)
            compare(&table);
        assert_true(table.capacity <= 1024);
    }
    compare(&table);
    dp_table_clear(&table);
    assert_int_equal(table.count, 0);
    assert_true(table.seed == 0x123456789ABCDEF);
    assert_int_equal(blocks, 0);
    dp_table_clear(&table);
}

static void test_random_operations(void **state)
{
    (void)state;
    seed = 2;
    random_operations(false);
}

static void test_random_operations_without_memory(void **state)
{
    (void)state;
    seed = 3;
    random_operations(true);
}

static void test_empty(void **state)
{
    (void)state;
    dp_table table;
    size_t at = 0;
    dp_table_init(&table, 1);
    assert_null(dp_table_get(&table, "a", 1));
    assert_null(dp_table_remove(&table, "a", 1));
    assert_null(dp_table_next(&table, &at));
    dp_table_clear(&table);
}

static void test_remove_while_walking(void **state)
{
    (void)state;
    dp_table table;
    fail_allocation(0);
    dp_table_init(&table, 99);
    static size_t numbers[100];
    for (size_t i = 0; i < 100; i++) {
        numbers[i] = i;
        assert_int_equal(dp_table_set(&table, &numbers[i], sizeof(size_t), &numbers[i], NULL), DP_OK);
    }
    size_t at = 0, seen = 0;
    for (size_t *n; (n = dp_table_next(&table, &at)) != NULL; seen++)
        assert_ptr_equal(dp_table_remove(&table, n, sizeof(*n)), n);
    assert_int_equal(seen, 100);
    assert_int_equal(table.count, 0);
    dp_table_clear(&table);
    assert_int_equal(blocks, 0);
}

/* Few keys that come and go for ever: the tombstones are swept, the table does not grow. */
static void test_tombstones_do_not_accumulate(void **state)
{
    (void)state;
    dp_table table;
    dp_table_init(&table, 5);
    for (uint32_t i = 0; i < 10000; i++) {
        assert_int_equal(dp_table_set(&table, &i, sizeof(i), values, NULL), DP_OK);
        if (i >= 4) {
            uint32_t old = i - 4;
            assert_ptr_equal(dp_table_remove(&table, &old, sizeof(old)), values);
        }
        assert_true(table.count + table.tombstones < table.capacity);
    }
    assert_int_equal(table.capacity, 16);
    dp_table_clear(&table);
}

/* The seed decides where keys land, else a peer could choose keys that collide. */
static void test_seed_matters(void **state)
{
    (void)state;
    void *orders[2][16];
    for (uint64_t s = 0; s < 2; s++) {
        dp_table table;
        size_t at = 0;
        dp_table_init(&table, s * 0x9E3779B97F4A7C15u + 1);
        for (size_t i = 0; i < 10; i++)
            assert_int_equal(dp_table_set(&table, &i, sizeof(i), &values[i], NULL), DP_OK);
        for (size_t i = 0; i < 10; i++)
            orders[s][i] = dp_table_next(&table, &at);
        dp_table_clear(&table);
    }
    assert_memory_not_equal(orders[0], orders[1], 10 * sizeof(void *));
}

/* ---- equal hashes, made with the seed in hand (the seed is what keeps a peer from it) ---- */

/* The table's mixing step backwards: shifting by half the width undoes itself, the factor has an inverse
 * modulo 2^64. */
static uint64_t unmix(uint64_t h)
{
    uint64_t inverse = 1;
    for (int i = 0; i < 6; i++) /* Newton: each step doubles the number of right bits */
        inverse *= 2 - 0xD6E8FEB86659FD93u * inverse;
    h ^= h >> 32;
    h *= inverse;
    h ^= h >> 32;
    h *= inverse;
    return h ^ (h >> 32);
}
static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= 0xD6E8FEB86659FD93u;
    h ^= h >> 32;
    h *= 0xD6E8FEB86659FD93u;
    return h ^ (h >> 32);
}

static void test_equal_hashes(void **state)
{
    (void)state;
    const uint64_t s = 42, wanted = 0x1234;
    struct {
        uint64_t words[2];
        size_t len;
    } keys[3] = {{{7, 0}, 16}, {{8, 0}, 16}, {{0, 0}, 8}};
    for (size_t k = 0; k < 3; k++) {
        uint64_t h = mix(s ^ keys[k].len);
        if (keys[k].len == 16)
            h = mix(h ^ keys[k].words[0]) + s;
        keys[k].words[keys[k].len / 8 - 1] = unmix(unmix(wanted) - s) ^ h;
    }
    dp_table table;
    dp_table_init(&table, s);
    for (size_t k = 0; k < 3; k++)
        assert_int_equal(dp_table_set(&table, keys[k].words, keys[k].len, &values[k], NULL), DP_OK);
    for (size_t i = 0; i < 3; i++) { /* they do sit side by side */
        size_t at = wanted % table.capacity + i;
        assert_ptr_equal(dp_table_next(&table, &at), &values[i]);
        assert_int_equal(at, wanted % table.capacity + i + 1);
    }
    for (size_t k = 0; k < 3; k++)
        assert_ptr_equal(dp_table_get(&table, keys[k].words, keys[k].len), &values[k]);
    assert_ptr_equal(dp_table_remove(&table, keys[1].words, 16), &values[1]);
    assert_ptr_equal(dp_table_get(&table, keys[2].words, 8), &values[2]); /* found behind the tombstone */
    assert_null(dp_table_get(&table, keys[1].words, 16));
    dp_table_clear(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations),
        cmocka_unit_test(test_random_operations_without_memory),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_remove_while_walking),
        cmocka_unit_test(test_tombstones_do_not_accumulate),
        cmocka_unit_test(test_seed_matters),
        cmocka_unit_test(test_equal_hashes),
    };
    return cmocka_run_group_tests_name("base/table", tests, NULL, NULL);
}
