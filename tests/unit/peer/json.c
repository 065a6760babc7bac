/* The json serialization: strict in, exact out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../rpc/failing.h"
#include <datapeer/peer.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int parse(const char *text, dp_value **value) { return dp_value_from_json(value, text, strlen(text)); }

static void assert_round_trip(const char *text, const char *expected)
{
    dp_value *value;
    char *out;
    size_t len;
    assert_int_equal(parse(text, &value), DP_OK);
    assert_int_equal(dp_value_to_json(value, &out, &len), DP_OK);
    assert_string_equal(out, expected);
    assert_int_equal(len, strlen(expected));
    dp_free(out);
    dp_value_free(value);
}

static void reads_and_writes(void **state)
{
    (void)state;
    static const char *const same[] = {
        "null",
        "true",
        "false",
        "0",
        "-1",
        "12345678901",
        "0.5",
        "-1.25e-300",
        "\"\"",
        "\"a\"",
        "[]",
        "{}",
        "[1,[2,{\"a\":null}],\"x\"]",
        "{\"b\":1,\"a\":2}",
        "9007199254740992",
        "0.1",
        "1.7976931348623157e+308",
        "{\"__proto__\":{\"x\":1}}",
        "\"\xc3\xa9\xf0\x9f\x98\x80\"",
        "\"\\\"\\\\\"",
        "\"\\u0001\"",
        "\"\\u0000\"",
        "[\"a\\u0000b\\u0000\",{\"\\u0000k\":\"\\\\\\u0000\\\\u0000\"}]", /* the last is a backslash and text */
    };
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
        assert_round_trip(same[i], same[i]);
    assert_round_trip(" \t\r\n[ 1 , 2 ] \n", "[1,2]");
    assert_round_trip("1.0", "1");
    assert_round_trip("\"\\ud83d\\ude00\\n\\/\"", "\"\xf0\x9f\x98\x80\\n/\"");
    assert_round_trip("{\"a\":1,\"a\":2}", "{\"a\":2}");
    assert_round_trip("\"\\\\u0000\"", "\"\\\\u0000\""); /* a backslash, not an escape of NUL */
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int error;
    } cases[] = {
        {"", DP_ERR_MALFORMED},        {"nul", DP_ERR_MALFORMED},      {"1 2", DP_ERR_MALFORMED},
        {"[1", DP_ERR_MALFORMED},      {"\"\x01\"", DP_ERR_MALFORMED}, {"\"\\u0000\xff\"", DP_ERR_MALFORMED},
        {"1e999", DP_ERR_MALFORMED},   {"\"\xff\"", DP_ERR_MALFORMED}, {"\"\\ud800\"", DP_ERR_MALFORMED},
        {"{\"a\"}", DP_ERR_MALFORMED}, {"[1,]", DP_ERR_MALFORMED},     {"{}x", DP_ERR_MALFORMED},
        {"\"abc", DP_ERR_MALFORMED},   {"\"abc\\", DP_ERR_MALFORMED},  {"]", DP_ERR_MALFORMED}};
    static const char *const malformed[] = {"01",
                                            "1.",
                                            ".5",
                                            "-",
                                            "1e",
                                            "1e+",
                                            "+1",
                                            "- 1",
                                            "0x10",
                                            "1.e5",
                                            "\x0b"
                                            "1",
                                            "\xef\xbb\xbf"
                                            "1",
                                            "NaN",
                                            "Infinity",
                                            "'a'",
                                            "[1 2]",
                                            "nul",
                                            "truefalse"};
    for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
        dp_value *value = NULL;
        if (parse(malformed[i], &value) != DP_ERR_MALFORMED)
            printf("%s\n", malformed[i]);
        assert_int_equal(parse(malformed[i], &value), DP_ERR_MALFORMED);
    }
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        dp_value *value = NULL;
        int error = parse(cases[i].text, &value);
        if (error != cases[i].error)
            printf("%s: %d\n", cases[i].text, error);
        assert_int_equal(error, cases[i].error);
        assert_null(value);
    }
    dp_value *value;
    assert_int_equal(dp_value_from_json(&value, "1\0", 2), DP_ERR_MALFORMED);
}

static void limits_depth_and_size(void **state)
{
    (void)state;
    dp_value *value;
    char *text = malloc(2 << 20);
    assert_non_null(text);
    memset(text, '[', 128);
    memset(text + 128, ']', 128);
    assert_int_equal(dp_value_from_json(&value, text, 256), DP_OK);
    dp_value_free(value);
    memset(text, '[', 1001);
    memset(text + 1001, ']', 1001);
    assert_int_equal(dp_value_from_json(&value, text, 2002), DP_ERR_LIMIT);
    memset(text, 'a', 2 << 20); /* a value of 1 MB in hex, as datapeer peer takes it */
    text[0] = text[(2 << 20) - 1] = '"';
    assert_int_equal(dp_value_from_json(&value, text, 2 << 20), DP_OK);
    dp_value_free(value);
    assert_int_equal(dp_value_from_json(&value, text, (64 << 20) + 1), DP_ERR_TOO_LARGE);
    free(text);
    /* Written values are limited likewise. */
    dp_value *root = dp_value_array();
    for (int i = 0; i < 200; i++) {
        dp_value *outer = dp_value_array();
        assert_int_equal(dp_value_push(outer, root), DP_OK);
        root = outer;
    }
    char *out;
    size_t len;
    assert_int_equal(dp_value_to_json(root, &out, &len), DP_ERR_LIMIT);
    dp_value_free(root);
}

static void writes_what_json_lacks(void **state)
{
    (void)state;
    dp_value *list = dp_value_array();
    char *out;
    size_t len;
    assert_int_equal(dp_value_push(list, dp_value_bytes((const uint8_t *)"\x01\xff", 2)), DP_OK);
    assert_int_equal(dp_value_push(list, dp_value_double(NAN)), DP_OK);
    assert_int_equal(dp_value_push(list, dp_value_double(INFINITY)), DP_OK);
    assert_int_equal(dp_value_push(list, dp_value_uint(UINT64_MAX)), DP_OK);
    assert_int_equal(dp_value_push(list, dp_value_int(INT64_MIN)), DP_OK);
    assert_int_equal(dp_value_push(list, dp_value_string_n("a\0b", 3)), DP_OK);
    assert_int_equal(dp_value_to_json(list, &out, &len), DP_OK);
    assert_string_equal(out, "[[1,255],null,null,18446744073709551615,-9223372036854775808,\"a\\u0000b\"]");
    dp_free(out);
    dp_value_free(list);
}

static void survives_failed_allocations(void **state)
{
    (void)state;
    bool done = false;
    for (long n = 1; !done; n++) {
        assert_true(n < 1000);
        memory_start(n);
        dp_value *value = NULL;
        char *out = NULL;
        size_t len;
        int error = parse("{\"a\":[1,2,3],\"b\":{\"c\":\"text\"}}", &value);
        if (error == DP_OK)
            error = dp_value_to_json(value, &out, &len);
        done = error == DP_OK;
        assert_true(done || error == DP_ERR_NO_MEMORY);
        dp_free(out);
        dp_value_free(value);
        memory_stop();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_and_writes),
        cmocka_unit_test(refuses),
        cmocka_unit_test(limits_depth_and_size),
        cmocka_unit_test(writes_what_json_lacks),
        cmocka_unit_test(survives_failed_allocations),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
