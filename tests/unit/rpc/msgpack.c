/* MessagePack, as a whole and as a stream (docs/bad-inputs.md rows 71, 72, 76 to 78 and 90 for it). The packed forms are those of
 * @msgpack/msgpack 2.8.0, which PeerJS uses, and of the specification for what that never writes. */
#include <datapeer/rpc.h>

#include "failing.h"
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static size_t from_hex(uint8_t *out, const char *hex)
{
    size_t len = 0;
    unsigned byte;
    for (; *hex != '\0'; hex += 2) {
        assert_int_equal(sscanf(hex, "%2x", &byte), 1);
        out[len++] = (uint8_t)byte;
    }
    return len;
}

static dp_value *decode(const char *hex)
{
    uint8_t bytes[512];
    dp_value *value;
    assert_int_equal(dp_msgpack_decode(&value, bytes, from_hex(bytes, hex)), DP_OK);
    return value;
}

static int decode_error(const char *hex)
{
    uint8_t bytes[512];
    dp_value *value;
    int error = dp_msgpack_decode(&value, bytes, from_hex(bytes, hex));
    assert_null(value);
    return error;
}

/* Takes value. Both ways; back: what it reads back as, NULL: itself. */
static void both_ways(dp_value *value, const char *hex, dp_value *back)
{
    uint8_t expected[512], *packed;
    size_t len, expected_len = from_hex(expected, hex);
    assert_int_equal(dp_msgpack_encode(value, &packed, &len), DP_OK);
    assert_int_equal(len, expected_len);
    assert_memory_equal(packed, expected, len);
    dp_value *again = decode(hex);
    assert_true(dp_value_equal(again, back != NULL ? back : value));
    dp_value_free(again);
    dp_free(packed);
    dp_value_free(value);
    dp_value_free(back);
}

static void numbers(void **state)
{
    static const struct {
        int64_t i;
        const char *hex;
    } ints[] = {{0, "00"},
                {127, "7f"},
                {128, "cc80"},
                {255, "ccff"},
                {256, "cd0100"},
                {65535, "cdffff"},
                {65536, "ce00010000"},
                {4294967295, "ceffffffff"},
                {4294967296, "cf0000000100000000"},
                {9007199254740991, "cf001fffffffffffff"},
                {INT64_MAX, "cf7fffffffffffffff"},
                {-1, "ff"},
                {-32, "e0"},
                {-33, "d0df"},
                {-128, "d080"},
                {-129, "d1ff7f"},
                {-32768, "d18000"},
                {-32769, "d2ffff7fff"},
                {-2147483648, "d280000000"},
                {-2147483649, "d3ffffffff7fffffff"},
                {-9007199254740991, "d3ffe0000000000001"},
                {INT64_MIN, "d38000000000000000"}};
    (void)state;
    for (size_t i = 0; i < sizeof(ints) / sizeof(ints[0]); i++)
        both_ways(dp_value_int(ints[i].i), ints[i].hex, NULL);
    both_ways(dp_value_uint(UINT64_MAX), "cfffffffffffffffff", NULL);
    both_ways(dp_value_double(0.5), "cb3fe0000000000000", NULL);
    both_ways(dp_value_double(-1e300), "cbfe37e43c8800759c", NULL);
    both_ways(dp_value_double((double)INFINITY), "cb7ff0000000000000", NULL);
    both_ways(dp_value_double((double)NAN), "cb7ff8000000000000", NULL);
    /* As JavaScript does: what is integral travels as an integer, as far as it is exact. */
    both_ways(dp_value_double(5), "05", dp_value_int(5));
    both_ways(dp_value_double(-4294967296.0), "d3ffffffff00000000", dp_value_int(-4294967296));
    both_ways(dp_value_double(9007199254740992.0), "cb4340000000000000", NULL);
    dp_value *zero = decode("cb0000000000000000"); /* no NaN here, as it is in BinaryPack */
    assert_true(dp_value_get_double(zero, 1) == 0);
    dp_value_free(zero);
    dp_value *f = decode("ca3fc00000");
    assert_true(dp_value_get_double(f, 0) == 1.5);
    dp_value_free(f);
}

static void words(void **state)
{
    char text[300], hex[700];
    (void)state;
    both_ways(dp_value_null(), "c0", NULL);
    both_ways(dp_value_bool(false), "c2", NULL);
    both_ways(dp_value_bool(true), "c3", NULL);
    static const struct {
        size_t len;
        const char *text_head, *bytes_head;
    } lengths[] = {{0, "a0", "c400"}, {31, "bf", "c41f"}, {32, "d920", "c420"}, {255, "d9ff", "c4ff"}};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        size_t len = lengths[i].len;
        memset(text, 'x', sizeof(text));
        int at = snprintf(hex, sizeof(hex), "%s", lengths[i].text_head);
        for (size_t j = 0; j < len; j++)
            at += snprintf(hex + at, sizeof(hex) - (size_t)at, "78");
        both_ways(dp_value_string_n(text, len), hex, NULL);
        at = snprintf(hex, sizeof(hex), "%s", lengths[i].bytes_head);
        for (size_t j = 0; j < len; j++)
            at += snprintf(hex + at, sizeof(hex) - (size_t)at, "78");
        both_ways(dp_value_bytes((const uint8_t *)text, len), hex, NULL);
    }
    assert_int_equal(decode_error("a2c328"), DP_ERR_MALFORMED);
    assert_int_equal(decode_error("c1"), DP_ERR_MALFORMED);
    assert_int_equal(decode_error("0000"), DP_ERR_MALFORMED);
    assert_int_equal(decode_error(""), DP_ERR_TRUNCATED);
}

static void long_heads(void **state)
{
    static const size_t lengths[] = {256, 65535, 65536};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        uint8_t *packed, *data = calloc(1, lengths[i]);
        size_t len, head = lengths[i] <= UINT16_MAX ? 3 : 5;
        dp_value *values[] = {dp_value_bytes(data, lengths[i]), dp_value_array(), dp_value_map()};
        static const uint8_t tags[3][2] = {{0xc5, 0xc6}, {0xdc, 0xdd}, {0xde, 0xdf}};
        for (size_t j = 0; j < lengths[i]; j++) {
            char key[24];
            snprintf(key, sizeof(key), "%zu", j);
            assert_int_equal(dp_value_push(values[1], dp_value_null()), DP_OK);
            assert_int_equal(dp_value_set(values[2], key, dp_value_null()), DP_OK);
        }
        for (size_t j = 0; j < 3; j++) {
            dp_value *again;
            assert_int_equal(dp_msgpack_encode(values[j], &packed, &len), DP_OK);
            assert_int_equal(packed[0], tags[j][head == 5]);
            assert_true(j == 2 || len == head + lengths[i]);
            assert_int_equal(dp_msgpack_decode(&again, packed, len), DP_OK);
            assert_true(dp_value_equal(again, values[j]));
            dp_value_free(again);
            dp_value_free(values[j]);
            dp_free(packed);
        }
        free(data);
    }
}

static void containers(void **state)
{
    (void)state;
    dp_value *map = dp_value_map();
    dp_value *array = dp_value_array();
    assert_int_equal(dp_value_push(array, dp_value_int(1)), DP_OK);
    assert_int_equal(dp_value_push(array, dp_value_null()), DP_OK);
    assert_int_equal(dp_value_set(map, "a", array), DP_OK);
    assert_int_equal(dp_value_set(map, "\xc3\xa9", dp_value_map()), DP_OK);
    both_ways(map, "82a1619201c0a2c3a980", NULL);
    /* A key that is a number; JavaScript's decoder takes it, too. */
    dp_value *value = decode("8105c3");
    assert_true(dp_value_get_bool(dp_value_get(value, "5"), false));
    dp_value_free(value);
    assert_int_equal(decode_error("8190c3"), DP_ERR_MALFORMED);
    assert_int_equal(decode_error("ddffffffff"), DP_ERR_TRUNCATED); /* 4 G items in 5 bytes */
    assert_int_equal(decode_error("dfffffffff"), DP_ERR_TRUNCATED);
    uint8_t deep[DP_BINARYPACK_MAX_DEPTH + 2];
    memset(deep, 0x91, sizeof(deep));
    deep[sizeof(deep) - 1] = 0;
    assert_int_equal(dp_msgpack_decode(&value, deep, sizeof(deep)), DP_ERR_LIMIT);
    assert_int_equal(dp_msgpack_decode(&value, deep + 1, sizeof(deep) - 1), DP_OK);
    dp_value_free(value);
}

static void extensions(void **state)
{
    static const struct {
        const char *hex;
        double ms;
    } times[] = {{"d6ff00000001", 1000},
                 {"d7ff0000000100000002", 4294967298000.0},        /* 34 bits of seconds: 2^32 + 2 */
                 {"d7ff773593fc00000003", 3499},                   /* 499,999,999 ns */
                 {"c70cff1dcd64ffffffffffffffffff", -1000 + 499}}; /* before 1970 */
    (void)state;
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        dp_value *value = decode(times[i].hex);
        assert_true(dp_value_get_double(value, 0) == times[i].ms);
        dp_value_free(value);
    }
    static const char *const bytes[] = {"d40501",     "d5050101",     "d60501010101",
                                        "c7020501ff", "c800020501ff", "c9000000020501ff"};
    for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
        size_t len;
        dp_value *value = decode(bytes[i]);
        assert_non_null(dp_value_get_bytes(value, &len));
        assert_int_equal(len, i < 3 ? (size_t)1 << i : 2);
        dp_value_free(value);
    }
    assert_int_equal(decode_error("d4ff01"), DP_ERR_MALFORMED); /* no such timestamp */
    assert_int_equal(decode_error("d705010101"), DP_ERR_TRUNCATED);
}

/* ---- the stream ---- */

static const char stream_hex[] = "82a1619201c0a2c3a9c403000102"
                                 "00"
                                 "d6ff00000001"
                                 "da0003616263"
                                 "93c0c2cb3fe0000000000000"
                                 "dc0000";
enum { STREAM_VALUES = 6 };

static void feed(dp_unpacker *u, const char *hex, dp_time now)
{
    uint8_t bytes[512];
    assert_int_equal(dp_unpacker_input(u, now, bytes, from_hex(bytes, hex)), DP_OK);
}

static int next_error(dp_unpacker *u)
{
    dp_value *value;
    int error = dp_unpacker_next(u, &value);
    assert_true((error == DP_OK) == (value != NULL));
    dp_value_free(value);
    return error;
}

static void values_come_however_they_are_cut(void **state)
{
    uint8_t bytes[512];
    size_t len = from_hex(bytes, stream_hex);
    dp_value *whole[STREAM_VALUES], *value;
    dp_unpacker *u;
    (void)state;
    assert_int_equal(dp_unpacker_new(&u, 0, 0), DP_OK);
    feed(u, stream_hex, 0);
    for (size_t i = 0; i < STREAM_VALUES; i++)
        assert_int_equal(dp_unpacker_next(u, &whole[i]), DP_OK);
    assert_int_equal(next_error(u), DP_ERR_WOULD_BLOCK);
    for (size_t piece = 1; piece < len; piece++) {
        size_t count = 0;
        for (size_t at = 0; at < len; at += piece) {
            size_t n = len - at < piece ? len - at : piece;
            assert_int_equal(dp_unpacker_input(u, 0, bytes + at, n), DP_OK);
            while (dp_unpacker_next(u, &value) == DP_OK) {
                assert_true(dp_value_equal(value, whole[count++]));
                dp_value_free(value);
            }
        }
        assert_int_equal(count, STREAM_VALUES);
    }
    for (size_t i = 0; i < STREAM_VALUES; i++)
        dp_value_free(whole[i]);
    dp_unpacker_free(u);
}

static void a_value_alone_can_be_bad(void **state)
{
    dp_unpacker *u;
    (void)state;
    assert_int_equal(dp_unpacker_new(&u, 0, 0), DP_OK);
    feed(u, "a2c32805", 0);
    assert_int_equal(next_error(u), DP_ERR_MALFORMED);
    assert_int_equal(next_error(u), DP_OK);
    uint8_t deep[1000];
    memset(deep, 0x91, sizeof(deep));
    deep[sizeof(deep) - 1] = 0;
    assert_int_equal(dp_unpacker_input(u, 0, deep, sizeof(deep)), DP_OK);
    assert_int_equal(next_error(u), DP_ERR_LIMIT);
    assert_int_equal(next_error(u), DP_ERR_WOULD_BLOCK);
    feed(u, "05", 0);
    assert_int_equal(next_error(u), DP_OK);
    dp_unpacker_free(u);
}

static void a_stream_can_be_lost(void **state)
{
    static const char *const lost[] = {"c1", "92c0c1"};
    dp_unpacker *u;
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(dp_unpacker_new(&u, 0, 0), DP_OK);
        feed(u, lost[i], 0);
        assert_int_equal(next_error(u), DP_ERR_PROTOCOL);
        assert_int_equal(next_error(u), DP_ERR_PROTOCOL);
        assert_int_equal(dp_unpacker_input(u, 0, (const uint8_t *)"", 1), DP_ERR_PROTOCOL);
        assert_true(dp_unpacker_next_timeout(u) == DP_TIME_NEVER);
        dp_unpacker_free(u);
    }
}

/* What a value claims costs nothing; what has come of it does, up to the limit. */
static void a_value_has_a_limit(void **state)
{
    static const char *const large[] = {"c600000101", "db00000101", "dd00000101", "df00000081",
                                        "9fdd000000f8"};
    dp_unpacker *u;
    (void)state;
    for (size_t i = 0; i < sizeof(large) / sizeof(large[0]); i++) {
        assert_int_equal(dp_unpacker_new(&u, 256, 0), DP_OK);
        feed(u, large[i], 0);
        assert_int_equal(next_error(u), DP_ERR_TOO_LARGE);
        dp_unpacker_free(u);
    }
    assert_int_equal(dp_unpacker_new(&u, 256, 0), DP_OK);
    uint8_t fits[256] = {0xc5, 0, 253};
    assert_int_equal(dp_unpacker_input(u, 0, fits, 255), DP_OK);
    assert_int_equal(next_error(u), DP_ERR_WOULD_BLOCK);
    assert_int_equal(dp_unpacker_input(u, 0, fits + 255, 1), DP_OK);
    assert_int_equal(next_error(u), DP_OK);
    /* An owner that never takes anything. */
    for (int i = 0; i < 2; i++)
        assert_int_equal(dp_unpacker_input(u, 0, fits, 256), DP_OK);
    assert_int_equal(dp_unpacker_input(u, 0, fits, 256), DP_ERR_TOO_LARGE);
    dp_unpacker_free(u);
    memory_start(0);
    assert_int_equal(dp_unpacker_new(&u, 0, 0), DP_OK);
    size_t before = memory.alive;
    feed(u, "dd03f00000", 0);
    for (int i = 0; i < 1000; i++) {
        feed(u, "dd00000010", 0);
        assert_int_equal(next_error(u), DP_ERR_WOULD_BLOCK);
    }
    assert_true(memory.peak - before < 32768);
    dp_unpacker_free(u);
    assert_int_equal(memory.alive, 0);
    memory_stop();
}

static void an_unfinished_value_has_its_time(void **state)
{
    dp_unpacker *u;
    (void)state;
    assert_int_equal(dp_unpacker_new(&u, 0, DP_SECONDS(7)), DP_OK);
    assert_true(dp_unpacker_next_timeout(u) == DP_TIME_NEVER);
    feed(u, "92", DP_SECONDS(1));
    assert_int_equal(next_error(u), DP_ERR_WOULD_BLOCK);
    assert_true(dp_unpacker_next_timeout(u) == DP_SECONDS(8));
    feed(u, "01", DP_SECONDS(3));
    assert_int_equal(next_error(u), DP_ERR_WOULD_BLOCK);
    assert_true(dp_unpacker_next_timeout(u) == DP_SECONDS(10));
    feed(u, "02", DP_SECONDS(4));
    assert_int_equal(next_error(u), DP_OK);
    assert_true(dp_unpacker_next_timeout(u) == DP_TIME_NEVER);
    dp_unpacker_free(u);
}

/* Row 77, here and as @msgpack/msgpack has it: there this key ends the reader. */
static void proto_is_read_but_not_written(void **state)
{
    uint8_t *packed = NULL;
    size_t len;
    (void)state;
    dp_value *value = decode("9181a95f5f70726f746f5f5f01");
    assert_int_equal(dp_value_get_int(dp_value_get(dp_value_at(value, 0), "__proto__"), 0), 1);
    assert_int_equal(dp_msgpack_encode(value, &packed, &len), DP_ERR_INVALID_ARGUMENT);
    assert_null(packed);
    assert_int_equal(dp_binarypack_encode(value, &packed, &len), DP_OK);
    dp_free(packed);
    dp_value_free(value);
    value = dp_value_map();
    assert_int_equal(dp_value_set(value, "__proto", dp_value_string("__proto__")), DP_OK);
    assert_int_equal(dp_value_set(value, "__proto__x", dp_value_null()), DP_OK);
    assert_int_equal(dp_msgpack_encode(value, &packed, &len), DP_OK);
    dp_free(packed);
    dp_value_free(value);
}

/* A large value in many pieces is walked once, and its memory is given back. */
static void a_large_value_in_pieces(void **state)
{
    enum { LEN = 8 << 20, PIECE = 1000 };
    uint8_t *data = malloc(LEN), *packed;
    size_t len;
    dp_unpacker *u;
    (void)state;
    for (size_t i = 0; i < LEN; i++)
        data[i] = (uint8_t)(i * 7 + (i >> 8));
    dp_value *value = dp_value_bytes(data, LEN), *got = NULL;
    assert_int_equal(dp_msgpack_encode(value, &packed, &len), DP_OK);
    memory_start(0);
    assert_int_equal(dp_unpacker_new(&u, 0, 0), DP_OK);
    size_t before = memory.alive;
    for (size_t at = 0; at < len; at += PIECE) {
        assert_null(got);
        assert_int_equal(dp_unpacker_input(u, 0, packed + at, len - at < PIECE ? len - at : PIECE), DP_OK);
        int error = dp_unpacker_next(u, &got);
        assert_int_equal(error, at + PIECE >= len ? DP_OK : DP_ERR_WOULD_BLOCK);
    }
    assert_true(dp_value_equal(got, value));
    dp_value_free(got);
    assert_int_equal(memory.alive, before);
    dp_unpacker_free(u);
    memory_stop();
    dp_value_free(value);
    dp_free(packed);
    free(data);
}

/* Row 90. A value that could not be made for want of memory comes when there is some. */
static void without_memory_nothing_is_lost(void **state)
{
    (void)state;
    for (long fail_at = 1;; fail_at++) {
        dp_unpacker *u = NULL;
        uint8_t bytes[512];
        size_t len = from_hex(bytes, stream_hex);
        unsigned count = 0, failures = 0;
        memory_start(fail_at);
        int error = dp_unpacker_new(&u, 0, 0);
        if (error != DP_OK)
            assert_int_equal(dp_unpacker_new(&u, 0, 0), DP_OK);
        failures += error != DP_OK;
        error = dp_unpacker_input(u, 0, bytes, len);
        if (error != DP_OK)
            assert_int_equal(dp_unpacker_input(u, 0, bytes, len), DP_OK);
        failures += error != DP_OK;
        while ((error = next_error(u)) != DP_ERR_WOULD_BLOCK) {
            assert_true(error == DP_OK || error == DP_ERR_NO_MEMORY);
            count += error == DP_OK;
            failures += error != DP_OK;
        }
        assert_int_equal(count, STREAM_VALUES);
        dp_unpacker_free(u);
        assert_int_equal(memory.alive, 0);
        memory_stop();
        if (failures == 0)
            break;
        assert_int_equal(failures, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(proto_is_read_but_not_written),
        cmocka_unit_test(numbers),
        cmocka_unit_test(words),
        cmocka_unit_test(long_heads),
        cmocka_unit_test(containers),
        cmocka_unit_test(extensions),
        cmocka_unit_test(values_come_however_they_are_cut),
        cmocka_unit_test(a_value_alone_can_be_bad),
        cmocka_unit_test(a_stream_can_be_lost),
        cmocka_unit_test(a_value_has_a_limit),
        cmocka_unit_test(an_unfinished_value_has_its_time),
        cmocka_unit_test(a_large_value_in_pieces),
        cmocka_unit_test(without_memory_nothing_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
