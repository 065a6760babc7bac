/* What the server reads of a message, and what it passes on. */
#include "signaling/server_message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static dp_relay relay;

static int parse(const char *text)
{
    size_t len = strlen(text);
    char *exact = malloc(len + 1); /* at least a byte */
    assert_non_null(exact);
    memcpy(exact, text, len);
    int error = dp_relay_parse(&relay, exact, len);
    if (relay.payload.at != NULL) /* it outlives the copy */
        relay.payload.at = text + (relay.payload.at - exact);
    free(exact);
    return error;
}

static void test_members(void **state)
{
    (void)state;
    assert_int_equal(
        parse(" {\"type\":\"OFFER\",\"payload\":{\"a\":[1,\"}\"]} ,\"dst\":\"bob\",\"src\":\"x\"} \n"),
        DP_OK);
    assert_int_equal(relay.type, RELAY_OFFER);
    assert_string_equal(relay.dst, "bob");
    assert_true(dp_slice_is(relay.payload, "{\"a\":[1,\"}\"]}"));
    assert_int_equal(parse("{\"type\":\"HEARTBEAT\"}"), DP_OK);
    assert_int_equal(relay.type, RELAY_HEARTBEAT);
    assert_null(relay.payload.at);
    assert_int_equal(parse("{\"payload\":null,\"dst\":null}"), DP_OK);
    assert_int_equal(relay.type, RELAY_OTHER);
    assert_string_equal(relay.dst, "");
    assert_true(dp_slice_is(relay.payload, "null"));
    assert_int_equal(parse("{}"), DP_OK);
    static const char *const others[] = {"{\"type\":\"OPEN\"}", "{\"type\":7}", "{\"type\":\"OFFERS\"}",
                                         "{\"Type\":\"OFFER\"}", "{\"type\":\"0123456789abcdefXX\"}"};
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(parse(others[i]), DP_OK);
        assert_int_equal(relay.type, RELAY_OTHER);
    }
}

/* Of a member that comes twice the last one counts; names and values may be escaped. */
static void test_escapes(void **state)
{
    (void)state;
    assert_int_equal(
        parse("{\"type\":\"OFFER\",\"t\\u0079pe\":\"LE\\u0041VE\",\"dst\":\"\\ud83d\\ude00\\/\\\"\\u00e4\"}"),
        DP_OK);
    assert_int_equal(relay.type, RELAY_LEAVE);
    assert_string_equal(relay.dst, "\xf0\x9f\x98\x80/\"\xc3\xa4");
    static const char *const bad[] = {
        "{\"dst\":\"\\ud83d\"}",   "{\"dst\":\"\\ude00\"}", "{\"dst\":\"\\ud83d\\u0041\"}",
        "{\"dst\":\"a\\u0000b\"}", "{\"dst\":\"a\\nb\"}",   "{\"dst\":5}",
        "{\"dst\":[\"a\"]}",       "{\"dst\":\"\\u007f\"}",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(parse(bad[i]), DP_ERR_MALFORMED);
}

static void test_ids_are_bounded(void **state)
{
    (void)state;
    char text[400];
    for (int len = 256; len <= 257; len++) {
        snprintf(text, sizeof(text), "{\"dst\":\"%0*d\"}", len, 0);
        assert_int_equal(parse(text), len == 256 ? DP_OK : DP_ERR_MALFORMED);
    }
}

static void test_not_json(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "null",
        "[]",
        "5",
        "\"a\"",
        "{",
        "{}}",
        "{} x",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":1e}",
        "{\"a\":+1}",
        "{\"a\":-}",
        "{\"a\":nul}",
        "{\"a\":tru}",
        "{\"a\":[1,]}",
        "{\"a\":[1 2]}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"",
        "{\"a\":\"\\\"}",
        "{\"a\":'b'}",
        "{\"a\":\"\\u1",
        "{\"a\":NaN}",
        "{\"a\":0x1}",
        "{\"a\":[}",
        "{\"a\":{]}",
        "{'a':1}",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (parse(bad[i]) != DP_ERR_MALFORMED)
            fail_msg("taken: %s", bad[i]);
    static const char *const good[] = {"{\"a\":0}",
                                       "{\"a\":-0.5e+10}",
                                       "{\"a\":1E-2}",
                                       "{\"a\":[ ]}",
                                       "{\"a\":{ } }",
                                       "{\"a\":true,\"b\":false}",
                                       "{\"\":\"\\u0000\\b\"}",
                                       "\t\r\n{ \"a\" : [ 1 , { \"b\" : null } ] } "};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        if (parse(good[i]) != DP_OK)
            fail_msg("refused: %s", good[i]);
}

/* What ends a string or may not be in it, at each place of a long one. */
static void test_long_strings(void **state)
{
    (void)state;
    static const char head[] = "{\"a\":\"";
    static const char plain[] = "0123456789\xC3\xA9 \x7F#!][56789";
    for (int c = 1; c < 128; c++)
        for (size_t at = 0; at < sizeof(plain) - 1; at++) {
            char text[64];
            if (at == 11) /* in the middle of a character */
                continue;
            snprintf(text, sizeof(text), "%s%.*s%c%s\"}", head, (int)at, plain, c, plain + at);
            if (parse(text) != (c < 0x20 || c == '"' || c == '\\' ? DP_ERR_MALFORMED : DP_OK))
                fail_msg("%d at %zu", c, at);
        }
}

/* Row 66. */
static void test_depth(void **state)
{
    (void)state;
    static const int depths[] = {RELAY_DEPTH_MAX - 1, RELAY_DEPTH_MAX, 1000, 14000};
    static char text[150000];
    for (unsigned kinds = 0; kinds < 8; kinds++)
        for (size_t i = 0; i < 4; i++) {
            size_t n = (size_t)snprintf(text, sizeof(text), "{\"payload\":");
            /* Arrays and objects: kinds says of three levels what they are, again and again. */
            for (int level = 0; level < depths[i]; level++)
                n += (size_t)snprintf(text + n, sizeof(text) - n,
                                      (kinds >> level % 3 & 1) != 0 ? "{\"\":0,\"\":" : "[0,");
            text[n++] = '1';
            for (int level = depths[i] - 1; level >= 0; level--)
                text[n++] = (kinds >> level % 3 & 1) != 0 ? '}' : ']';
            memcpy(text + n, "}", 2);
            assert_int_equal(parse(text), i == 0 ? DP_OK : DP_ERR_MALFORMED);
            if (depths[i] >= 1000)
                continue;
            text[n - 2] = text[n - 2] == '}' ? ']' : '}';
            assert_int_equal(parse(text), DP_ERR_MALFORMED);
        }
}

/* What is around a value is known again when something else was in it. */
static void test_nesting(void **state)
{
    (void)state;
    static const char *const good[] = {"{\"a\":[{\"b\":1},[1,2],{\"c\":[{}]},3]}",
                                       "{\"a\":[[],[[],{}],{\"b\":{},\"c\":[]}]}",
                                       "{\"a\":{\"b\":[1],\"c\":{\"d\":2}},\"e\":[[1],{\"f\":1}]}"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        if (parse(good[i]) != DP_OK)
            fail_msg("refused: %s", good[i]);
    static const char *const bad[] = {"{\"a\":[}]}",
                                      "{\"a\":{]}",
                                      "{\"a\":[1}]",
                                      "{\"a\":{\"b\":1]}",
                                      "{\"a\":[{\"b\":1},2:3]}",
                                      "{\"a\":{\"b\":[1],2}}",
                                      "{\"a\":[[1],\"b\":2]}",
                                      "{\"a\":[,1]}",
                                      "{\"a\":[1,]}",
                                      "{\"a\":{\"b\":1,}}",
                                      "{\"a\":[1 2]}",
                                      "{\"a\":[1]]}",
                                      "{\"a\":[[1]}",
                                      "{\"a\":{\"b\"}}",
                                      "{\"a\":{,}}",
                                      "{\"a\":["};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (parse(bad[i]) != DP_ERR_MALFORMED)
            fail_msg("taken: %s", bad[i]);
}

static void test_writing(void **state)
{
    (void)state;
    uint8_t out[256];
    dp_wr wr = dp_wr_init(out, dp_relay_size("a\"\\", "b", (dp_slice){"{ }", 3}));
    dp_relay_write(&wr, RELAY_CANDIDATE, "a\"\\", "b", (dp_slice){"{ }", 3});
    dp_wr_u8(&wr, 0);
    assert_false(wr.error);
    assert_string_equal(out, "{\"type\":\"CANDIDATE\",\"src\":\"a\\\"\\\\\",\"dst\":\"b\",\"payload\":{ }}");
    wr = dp_wr_init(out, sizeof(out));
    dp_relay_write(&wr, RELAY_EXPIRE, "a", "b", (dp_slice){0});
    dp_wr_u8(&wr, 0);
    assert_string_equal(out, "{\"type\":\"EXPIRE\",\"src\":\"a\",\"dst\":\"b\"}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members),         cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_ids_are_bounded), cmocka_unit_test(test_not_json),
        cmocka_unit_test(test_long_strings),    cmocka_unit_test(test_depth),
        cmocka_unit_test(test_nesting),         cmocka_unit_test(test_writing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
