/* Allocation through the hook, growing arrays, secrets. */
#include "tests/unit/base/helper.h"

#include "base/mem.h"

static void test_hook(void **state)
{
    (void)state;
    fail_allocation(0);
    void *a = dp_alloc(0); /* one byte: NULL always means failure */
    assert_non_null(a);
    a = dp_realloc(a, 0);
    assert_non_null(a);
    a = dp_realloc(a, 100);
    void *b = dp_realloc(NULL, 5);
    assert_int_equal(blocks, 2);
    dp_free(a);
    dp_free(b);
    dp_free(NULL);
    assert_int_equal(blocks, 0);
    dp_set_allocator(NULL);
    a = dp_alloc(1);
    a = dp_realloc(a, 10);
    assert_non_null(a);
    dp_free(a);
    assert_int_equal(blocks, 0);
}

static void test_zeroed(void **state)
{
    (void)state;
    fail_allocation(0);
    uint8_t *a = dp_calloc(10, 3);
    for (size_t i = 0; i < 30; i++)
        assert_int_equal(a[i], 0);
    dp_free(a);
    a = dp_calloc(0, 3);
    assert_non_null(a);
    dp_free(a);
    assert_null(dp_calloc(SIZE_MAX / 2, 3));
    assert_null(dp_calloc(3, SIZE_MAX / 2));
    fail_allocation(1);
    assert_null(dp_calloc(1, 1));
}

static void test_strings(void **state)
{
    (void)state;
    fail_allocation(0);
    char *a = dp_strndup("hello", 2);
    char *b = dp_strdup("hello");
    char *c = dp_strndup(NULL, 0);
    assert_string_equal(a, "he");
    assert_string_equal(b, "hello");
    assert_string_equal(c, "");
    dp_free(a);
    dp_free(b);
    dp_free(c);
    assert_null(dp_strndup("x", SIZE_MAX));
    fail_allocation(1);
    assert_null(dp_strdup("x"));
}

static void test_secrets(void **state)
{
    (void)state;
    uint8_t a[4] = {1, 2, 3, 4}, b[4] = {1, 2, 3, 4};
    assert_true(dp_equal_constant_time(a, b, 4));
    assert_true(dp_equal_constant_time(NULL, NULL, 0));
    for (size_t i = 0; i < 4; i++) {
        for (int bit = 0; bit < 8; bit++) {
            b[i] ^= (uint8_t)(1 << bit);
            assert_false(dp_equal_constant_time(a, b, 4));
            b[i] = a[i];
        }
    }
    dp_wipe(a, 3);
    assert_memory_equal(a, "\0\0\0\4", 4);
    dp_wipe(NULL, 0);
}

static void test_grow(void **state)
{
    (void)state;
    void *items = NULL;
    size_t capacity = 0;
    fail_allocation(0);
    assert_int_equal(dp_grow(&items, &capacity, 0, 100, 4), DP_OK);
    assert_null(items);
    assert_int_equal(dp_grow(&items, &capacity, 1, 100, 4), DP_OK);
    assert_int_equal(capacity, 8);
    assert_int_equal(dp_grow(&items, &capacity, 9, 100, 4), DP_OK);
    assert_int_equal(capacity, 16);
    assert_int_equal(dp_grow(&items, &capacity, 50, 100, 4), DP_OK);
    assert_int_equal(capacity, 50);
    assert_int_equal(dp_grow(&items, &capacity, 51, 60, 4), DP_OK);
    assert_int_equal(capacity, 60); /* never beyond the limit */
    assert_int_equal(dp_grow(&items, &capacity, 61, 60, 4), DP_ERR_LIMIT);
    fail_allocation(1);
    assert_int_equal(dp_grow(&items, &capacity, 61, 100, 4), DP_ERR_NO_MEMORY);
    assert_int_equal(capacity, 60);
    fail_allocation(0);
    assert_int_equal(dp_grow(&items, &capacity, SIZE_MAX / 2, SIZE_MAX, 4), DP_ERR_NO_MEMORY);
    dp_free(items);
    items = NULL;
    capacity = SIZE_MAX / 2 + 1; /* doubling would overflow */
    assert_int_equal(dp_grow(&items, &capacity, SIZE_MAX / 2 + 2, SIZE_MAX, 4), DP_ERR_NO_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hook),    cmocka_unit_test(test_zeroed), cmocka_unit_test(test_strings),
        cmocka_unit_test(test_secrets), cmocka_unit_test(test_grow),
    };
    return cmocka_run_group_tests_name("base/mem", tests, NULL, NULL);
}
