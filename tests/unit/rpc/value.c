/* Values, and what BinaryPack refuses (docs/bad-inputs.md rows 71, 72, 77, 78). */
#include "rpc/binarypack.h"

#include "failing.h"
#include <math.h>
#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

static int decode(const void *data, size_t len, dp_value **value)
{
    *value = NULL;
    return dp_binarypack_decode(value, data, len);
}

static int decode_error(const char *bytes, size_t len)
{
    dp_value *value;
    int error = decode(bytes, len, &value);
    assert_null(value);
    return error;
}

static void getters_accept_anything(void **state)
{
    (void)state;
    size_t len = 7;
    assert_int_equal(dp_value_get_type(NULL), DP_VALUE_NULL);
    assert_int_equal(dp_value_get_int(NULL, -3), -3);
    assert_null(dp_value_get_string(NULL, &len));
    assert_int_equal(len, 0);
    assert_null(dp_value_get(NULL, "a"));
    assert_null(dp_value_at(NULL, 0));
    assert_null(dp_value_key_at(NULL, 0, NULL));
    assert_int_equal(dp_value_count(dp_value_bool(true)), 0);
    assert_null(dp_value_get_bytes(dp_value_null(), NULL));
    dp_value *d = dp_value_double(3.0);
    assert_int_equal(dp_value_get_int(d, 0), 3);
    assert_int_equal(dp_value_get_uint(d, 0), 3);
    assert_true(dp_value_equal(d, dp_value_int(3)));
    dp_value_free(d);
    d = dp_value_double(0x1p63);
    assert_int_equal(dp_value_get_int(d, -1), -1);
    assert_true(dp_value_get_uint(d, 0) == (uint64_t)1 << 63);
    dp_value_free(d);
    d = dp_value_double((double)NAN);
    assert_int_equal(dp_value_get_int(d, -1), -1);
    assert_true(dp_value_equal(d, d));
    dp_value_free(d);
    assert_null(dp_value_string("\xc0\x80"));
    dp_value *u = dp_value_uint(5);
    assert_int_equal(dp_value_get_type(u), DP_VALUE_INT);
    u = dp_value_uint(UINT64_MAX);
    assert_int_equal(dp_value_get_int(u, -1), -1);
    assert_true(dp_value_get_uint(u, 0) == UINT64_MAX);
    dp_value_free(u);
}

static void maps_replace_in_place_and_find_many_keys(void **state)
{
    (void)state;
    dp_value *map = dp_value_map();
    char key[32];
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 3000; i++) {
            snprintf(key, sizeof(key), "key %d", i);
            assert_int_equal(dp_value_set(map, key, dp_value_int(i * 1000 + round)), DP_OK);
        }
    assert_int_equal(dp_value_count(map), 3000);
    for (int i = 0; i < 3000; i++) {
        snprintf(key, sizeof(key), "key %d", i);
        assert_int_equal(dp_value_get_int(dp_value_get(map, key), -1), i * 1000 + 1);
        assert_string_equal(dp_value_key_at(map, (size_t)i, NULL), key);
    }
    assert_null(dp_value_get(map, "key 3000"));
    dp_value *copy = dp_value_copy(map);
    assert_true(dp_value_equal(map, copy));
    assert_int_equal(dp_value_set(copy, "key 7", dp_value_null()), DP_OK);
    assert_false(dp_value_equal(map, copy));
    dp_value_free(copy);
    dp_value_free(map);
    assert_int_equal(dp_value_set(dp_value_null(), "a", dp_value_int(99999)), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_value_push(NULL, dp_value_int(99999)), DP_ERR_INVALID_ARGUMENT);
    map = dp_value_map();
    assert_int_equal(dp_value_set(map, "\xff", dp_value_int(99999)), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_value_set(map, "a", NULL), DP_ERR_NO_MEMORY);
    assert_int_equal(dp_value_count(map), 0);
    dp_value_free(map);
}

static void any_depth_is_freed(void **state)
{
    (void)state;
    dp_value *value = dp_value_array();
    for (int i = 0; i < 200000; i++) {
        dp_value *outer = i % 2 == 0 ? dp_value_map() : dp_value_array();
        assert_int_equal(i % 2 == 0 ? dp_value_set(outer, "a", value) : dp_value_push(outer, value), DP_OK);
        value = outer;
    }
    uint8_t *packed;
    size_t len;
    assert_int_equal(dp_binarypack_encode(value, &packed, &len), DP_ERR_LIMIT);
    assert_null(dp_value_copy(value));
    assert_false(dp_value_equal(value, value));
    dp_value_free(value);
}

static void counts_beyond_the_bytes_are_refused(void **state) /* row 71 */
{
    (void)state;
    memory_start(0);
    assert_int_equal(decode_error("\xdd\xff\xff\xff\xff", 5), DP_ERR_TRUNCATED);
    assert_int_equal(decode_error("\xdf\xff\xff\xff\xff", 5), DP_ERR_TRUNCATED);
    assert_int_equal(decode_error("\xd9\xff\xff\xff\xff", 5), DP_ERR_TRUNCATED);
    assert_int_equal(decode_error("\xdb\xff\xff\xff\xff", 5), DP_ERR_TRUNCATED);
    assert_int_equal(decode_error("\x82\x01\x02\x03", 4), DP_ERR_TRUNCATED);
    assert_int_equal(memory.count, 0);
    memory_stop();
}

/* Arrays in arrays that each claim all that is left: what is claimed must not be reserved. */
static void nested_claims_cost_nothing(void **state)
{
    (void)state;
    enum { LEN = 1 << 20 };
    uint8_t *data = calloc(LEN, 1);
    dp_wr wr = dp_wr_init(data, LEN);
    for (int depth = 0; depth < DP_BINARYPACK_MAX_DEPTH; depth++) {
        dp_wr_u8(&wr, 0xdd);
        dp_wr_u32(&wr, (uint32_t)(LEN - wr.len - 4));
    }
    memory_start(0);
    dp_value *value;
    assert_int_equal(decode(data, LEN, &value), DP_ERR_TRUNCATED);
    assert_in_range(memory.peak, 0, 64u * LEN);
    assert_int_equal(memory.alive, 0);
    memory_stop();
    free(data);
}

/* The most expensive message of a kind: repeat fills an array of `count` copies of unit. Returns bytes of
 * memory a byte. */
static double factor(const char *unit, size_t unit_len, size_t count, int expected)
{
    size_t len = 5 + count * unit_len;
    uint8_t *data = malloc(len);
    dp_wr wr = dp_wr_init(data, len);
    dp_wr_u8(&wr, 0xdd);
    dp_wr_u32(&wr, (uint32_t)count);
    for (size_t i = 0; i < count; i++)
        dp_wr_bytes(&wr, unit, unit_len);
    memory_start(0);
    dp_value *value;
    assert_int_equal(decode(data, len, &value), expected);
    double result = (double)memory.peak / (double)len;
    dp_value_free(value);
    assert_int_equal(memory.alive, 0);
    memory_stop();
    free(data);
    return result;
}

static void memory_is_proportional(void **state)
{
    (void)state;
    double ints = factor("\x05", 1, 1 << 20, DP_OK);
    double empties = factor("\x90", 1, 1 << 18, DP_OK);
    double strings = factor("\xb1z", 2, 1 << 18, DP_OK);
    double singles = factor("\x91\x05", 2, 1 << 18, DP_OK);
    double maps = factor("\x81\x05\x05", 3, 1 << 17, DP_OK);
    double large =
        factor("\x90", 1, 4 << 20, DP_ERR_LIMIT); /* more nodes than a message of that size may have */
    print_message("memory per packed byte: small ints %.1f, [] %.1f, \"z\" %.1f, [5] %.1f, {5:5} %.1f; 4 "
                  "MiB of []: %.1f\n",
                  ints, empties, strings, singles, maps, large);
    assert_true(ints <= 16 && empties <= 64 && strings <= 64 && singles <= 64 && maps <= 96 && large <= 24);
}

static void depth_is_limited(void **state) /* row 72 */
{
    (void)state;
    static char data[10001];
    memset(data, '\x91', 10000);
    assert_int_equal(decode_error(data, sizeof(data)), DP_ERR_LIMIT);
    memset(data, '\x81', 10000);
    for (size_t i = 1; i < 10000; i += 2)
        data[i] = 1;
    assert_int_equal(decode_error(data, sizeof(data)), DP_ERR_LIMIT);
    dp_value *value;
    memset(data, '\x91', 10000);
    data[DP_BINARYPACK_MAX_DEPTH] = 0;
    assert_int_equal(decode(data, DP_BINARYPACK_MAX_DEPTH + 1, &value), DP_OK);
    dp_value_free(value);
    data[DP_BINARYPACK_MAX_DEPTH] = '\x91';
    data[DP_BINARYPACK_MAX_DEPTH + 1] = 0;
    assert_int_equal(decode_error(data, DP_BINARYPACK_MAX_DEPTH + 2), DP_ERR_LIMIT);
}

static void proto_is_an_ordinary_key(void **state) /* row 77 */
{
    (void)state;
    dp_value *value;
    assert_int_equal(decode("\x82\xb9__proto__\x01\xb9__proto__\x02", 23, &value), DP_OK);
    assert_int_equal(dp_value_count(value), 1);
    assert_int_equal(dp_value_get_int(dp_value_get(value, "__proto__"), 0), 2);
    dp_value_free(value);
    assert_int_equal(
        decode("\x83\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a\x01\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x02\xcb"
               "\x00\x00\x00\x00\x00\x00\x00\x00\x03",
               31, &value),
        DP_OK);
    assert_int_equal(dp_value_get_int(dp_value_get(value, "0.1"), 0), 1);
    assert_int_equal(dp_value_get_int(dp_value_get(value, "18446744073709551615"), 0), 2);
    assert_int_equal(dp_value_get_int(dp_value_get(value, "NaN"), 0), 3);
    /* 0.30000000000000004: its text costs too much to find for what nobody sends */
    assert_int_equal(decode_error("\x81\xcb\x3f\xd3\x33\x33\x33\x33\x33\x34\x01", 11), DP_ERR_MALFORMED);
    dp_value_free(value);
}

static void check_double(double d, const char *packed, size_t packed_len)
{
    dp_value *value = dp_value_double(d);
    uint8_t *out = NULL;
    size_t len = 0;
    assert_int_equal(dp_binarypack_encode(value, &out, &len), DP_OK);
    assert_int_equal(len, packed_len);
    assert_memory_equal(out, packed, len);
    dp_value *again;
    assert_int_equal(decode(out, len, &again), DP_OK);
    assert_true(dp_value_equal(value, again));
    dp_value_free(again);
    dp_free(out);
    dp_value_free(value);
}

static void odd_numbers_are_defined(void **state) /* row 78 */
{
    (void)state;
    check_double((double)NAN, "\xcb\x00\x00\x00\x00\x00\x00\x00\x00", 9);
    check_double((double)INFINITY, "\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00", 9);
    check_double((double)-INFINITY, "\xcb\xff\xf0\x00\x00\x00\x00\x00\x00", 9);
    check_double(0x1p64, "\xcb\x43\xf0\x00\x00\x00\x00\x00\x00", 9);
    check_double(0x1p63, "\xcf\x80\x00\x00\x00\x00\x00\x00\x00", 9);
    check_double(0.0, "\x00", 1);
    check_double(-0.0, "\x00", 1);
    check_double(-0x1p31, "\xd2\x80\x00\x00\x00", 5);
    check_double(-0x1p31 - 1, "\xcb\xc1\xe0\x00\x00\x00\x20\x00\x00", 9);
}

static void failed_allocations_leave_nothing(void **state)
{
    (void)state;
    static const char packed[] = "\x84\xb1"
                                 "a\x93\xb5hello\xa5world\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xb1"
                                 "b\x81\x05\x90\xb1"
                                 "c\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xb1"
                                 "d\xc0";
    for (long n = 1;; n++) {
        memory_start(n);
        dp_value *value;
        int error = decode(packed, sizeof(packed) - 1, &value);
        uint8_t *again = NULL;
        size_t len = 0;
        if (error == DP_OK)
            error = dp_binarypack_encode(value, &again, &len);
        if (error == DP_OK) {
            dp_value *copy = dp_value_copy(value);
            assert_true(copy == NULL || dp_value_equal(copy, value));
            error = copy == NULL ? DP_ERR_NO_MEMORY : DP_OK;
            dp_value_free(copy);
        }
        dp_free(again);
        dp_value_free(value);
        assert_int_equal(memory.alive, 0);
        memory_stop();
        if (error == DP_OK)
            break;
        assert_int_equal(error, DP_ERR_NO_MEMORY);
        assert_in_range(n, 1, 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(getters_accept_anything),
        cmocka_unit_test(maps_replace_in_place_and_find_many_keys),
        cmocka_unit_test(any_depth_is_freed),
        cmocka_unit_test(counts_beyond_the_bytes_are_refused),
        cmocka_unit_test(nested_claims_cost_nothing),
        cmocka_unit_test(memory_is_proportional),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(proto_is_an_ordinary_key),
        cmocka_unit_test(odd_numbers_are_defined),
        cmocka_unit_test(failed_allocations_leave_nothing),
    };
    return cmocka_run_group_tests_name("rpc/value", tests, NULL, NULL);
}
