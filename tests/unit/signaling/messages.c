#include "signaling/messages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static dp_message message;

static int parse_bytes(const char *text, size_t len)
{
    const char *reason;
    char *exact = malloc(len > 0 ? len : 1);
    assert_non_null(exact);
    memcpy(exact, text, len);
    dp_message_clear(&message);
    int error = dp_message_parse(&message, &reason, exact, len);
    free(exact);
    if (error == DP_ERR_MALFORMED)
        assert_non_null(reason);
    return error;
}

static int parse(const char *text) { return parse_bytes(text, strlen(text)); }

static void ignored(const char *text)
{
    assert_int_equal(parse(text), DP_OK);
    assert_int_equal(message.type, MESSAGE_IGNORED);
}

#define OFFER                                                                                                \
    "{\"type\":\"OFFER\",\"src\":\"alice\",\"dst\":\"bob\",\"payload\":{\"sdp\":{\"sdp\":\"v=0\\r\\n\","     \
    "\"type\":"                                                                                              \
    "\"offer\"},\"type\":\"data\",\"connectionId\":\"dc_x\",\"metadata\":{\"a\":[1, "                        \
    "\"\\u00e9\"]},\"label\":\"l\","                                                                         \
    "\"reliable\":true,\"serialization\":\"json\"}}"

static void test_offer(void **state)
{
    (void)state;
    assert_int_equal(parse(OFFER), DP_OK);
    assert_int_equal(message.type, MESSAGE_OFFER);
    assert_string_equal(message.src, "alice");
    assert_string_equal(message.connection_id, "dc_x");
    assert_string_equal(message.sdp, "v=0\r\n");
    assert_string_equal(message.label, "l");
    assert_string_equal(message.serialization, "json");
    assert_string_equal(message.metadata, "{\"a\":[1, \"\\u00e9\"]}"); /* as it came */
    assert_true(message.reliable);
    assert_int_equal(parse("{\"type\":\"OFFER\",\"src\":\"a\",\"payload\":{\"sdp\":{\"sdp\":\"v\"},"
                           "\"connectionId\":\"c\"}}"),
                     DP_OK);
    assert_string_equal(message.label, "c");
    assert_string_equal(message.serialization, "binary");
    assert_null(message.metadata);
    assert_false(message.reliable);
}

static void test_the_others(void **state)
{
    (void)state;
    assert_int_equal(parse("{\"type\":\"OPEN\"}"), DP_OK);
    assert_int_equal(message.type, MESSAGE_OPEN);
    assert_int_equal(parse(" {\"type\":\"ERROR\",\"payload\":{\"msg\":\"no\"}} \r\n"), DP_OK);
    assert_int_equal(message.type, MESSAGE_ERROR);
    assert_string_equal(message.error, "no");
    assert_int_equal(parse("{\"type\":\"ID-TAKEN\",\"payload\":{\"msg\":\"ID is taken\"}}"), DP_OK);
    assert_int_equal(message.type, MESSAGE_ID_TAKEN);
    assert_int_equal(parse("{\"type\":\"ANSWER\",\"src\":\"a\",\"payload\":{\"sdp\":{\"sdp\":\"v=0\"},"
                           "\"type\":\"data\",\"connectionId\":\"c\"}}"),
                     DP_OK);
    assert_int_equal(message.type, MESSAGE_ANSWER);
    assert_string_equal(message.sdp, "v=0");
    assert_int_equal(
        parse(
            "{\"type\":\"CANDIDATE\",\"src\":\"a\",\"payload\":{\"candidate\":{\"candidate\":\"candidate:1\","
            "\"sdpMid\":\"0\",\"sdpMLineIndex\":3},\"type\":\"data\",\"connectionId\":\"c\"}}"),
        DP_OK);
    assert_int_equal(message.type, MESSAGE_CANDIDATE);
    assert_string_equal(message.candidate, "candidate:1");
    assert_string_equal(message.mid, "0");
    assert_int_equal(message.mline_index, 3);
    assert_int_equal(
        parse("{\"type\":\"CANDIDATE\",\"src\":\"a\",\"payload\":{\"candidate\":{\"candidate\":\"\","
              "\"sdpMid\":null,\"sdpMLineIndex\":-1e99},\"connectionId\":\"c\"}}"),
        DP_OK);
    assert_string_equal(message.mid, "");
    assert_int_equal(message.mline_index, 0);
    assert_int_equal(parse("{\"type\":\"EXPIRE\",\"src\":\"gone\",\"dst\":\"me\"}"), DP_OK);
    assert_int_equal(message.type, MESSAGE_EXPIRE);
    assert_string_equal(message.src, "gone");
    assert_int_equal(parse("{\"type\":\"LEAVE\",\"src\":\"left\"}"), DP_OK);
    assert_int_equal(message.type, MESSAGE_LEAVE);
}

static void test_ignored(void **state)
{
    (void)state;
    ignored("{\"type\":\"HEARTBEAT\"}");
    ignored("{\"type\":\"offer\",\"src\":\"a\"}");
    /* media calls */
    ignored("{\"type\":\"OFFER\",\"src\":\"a\",\"payload\":{\"type\":\"media\",\"connectionId\":\"mc_1\"}}");
    /* cJSON's default look-up would take this for a type */
    assert_int_equal(parse("{\"TYPE\":\"OPEN\"}"), DP_ERR_MALFORMED);
}

static void test_malformed(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "null",
        "7",
        "[]",
        "{}",
        "{\"type\":7}",
        "{\"type\":\"OPEN\"} x",
        "{\"type\":\"OPEN\"}{}",
        "{\"type\":\"OPEN\"",
        "{\"type\":\"OPEN\\u0000X\"}",
        "{\"type\":\"LEAVE\"}",
        "{\"type\":\"LEAVE\",\"src\":7}",
        "{\"type\":\"LEAVE\",\"src\":\"\"}",
        "{\"type\":\"LEAVE\",\"src\":\"a\\u0000b\"}",
        "{\"type\":\"LEAVE\",\"src\":\"a\\nb\"}",
        "{\"type\":\"LEAVE\",\"src\":\"a\\u001b\"}",
        "{\"type\":\"LEAVE\",\"src\":\"\xff\"}",
        "{\"type\":\"OFFER\",\"src\":\"a\"}",
        "{\"type\":\"OFFER\",\"src\":\"a\",\"payload\":null}",
        "{\"type\":\"OFFER\",\"src\":\"a\",\"payload\":{\"connectionId\":\"c\"}}",
        "{\"type\":\"OFFER\",\"src\":\"a\",\"payload\":{\"connectionId\":\"c\",\"sdp\":\"v=0\"}}",
        "{\"type\":\"OFFER\",\"src\":\"a\",\"payload\":{\"connectionId\":\"\",\"sdp\":{\"sdp\":\"v\"}}}",
        "{\"type\":\"ANSWER\",\"src\":\"a\",\"payload\":{\"sdp\":{\"sdp\":\"v\"}}}",
        "{\"type\":\"CANDIDATE\",\"src\":\"a\",\"payload\":{\"connectionId\":\"c\",\"candidate\":\"x\"}}",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (parse(bad[i]) != DP_ERR_MALFORMED)
            fail_msg("accepted: %s", bad[i]);
    assert_int_equal(parse_bytes("{\"type\":\"OPEN\"}\0", 16), DP_ERR_MALFORMED);
    for (size_t n = 0; n < strlen(OFFER); n++)
        assert_int_equal(parse_bytes(OFFER, n), DP_ERR_MALFORMED);
    /* a backslash before the quotation mark, and an escaped backslash before u0000, are told apart */
    assert_int_equal(parse("{\"type\":\"X\\\\u0000\"}"), DP_OK);
    assert_int_equal(parse("{\"type\":\"X\\\"[[[[[[[[[[[[[[[[[[[[[[\"}"), DP_OK);
}

/* Row 66. */
static void test_depth_and_size(void **state)
{
    (void)state;
    char text[4096];
    for (int depth = 14; depth <= 1001; depth = depth < 17 ? depth + 1 : depth + 984) {
        int n = sprintf(text, "{\"type\":\"X\",\"p\":");
        for (int i = 0; i < depth; i++)
            text[n++] = '[';
        for (int i = 0; i < depth; i++)
            text[n++] = ']';
        sprintf(text + n, "}");
        assert_int_equal(parse(text), depth + 1 <= MESSAGE_DEPTH_MAX ? DP_OK : DP_ERR_MALFORMED);
    }
    char *big = malloc(DP_SIGNALING_TEXT_MAX + 1);
    assert_non_null(big);
    memset(big, ' ', DP_SIGNALING_TEXT_MAX + 1);
    memcpy(big, "{\"type\":\"OPEN\"}", 15);
    assert_int_equal(parse_bytes(big, DP_SIGNALING_TEXT_MAX), DP_OK);
    assert_int_equal(parse_bytes(big, DP_SIGNALING_TEXT_MAX + 1), DP_ERR_TOO_LARGE);
    free(big);
}

/* ---- writing: PeerJS 1.5.5, character for character (docs/peerjs.md 1.6) ---- */

static void assert_written(const dp_wr *wr, const char *text)
{
    assert_false(wr->error);
    assert_int_equal(wr->len, strlen(text));
    assert_memory_equal(wr->start, text, wr->len);
}

static void test_writing(void **state)
{
    (void)state;
    uint8_t out[1024];
    dp_signaling_offer offer = {"dc_x", "v=0\r\n\"\\\x01\xc3\xa9", "dc_x", "binary", NULL, false, 0};
    dp_wr wr = dp_wr_init(out, sizeof(out));
    dp_message_write_offer(&wr, "b\"ob", &offer);
    assert_written(
        &wr,
        "{\"type\":\"OFFER\",\"payload\":{\"sdp\":{\"sdp\":\"v=0\\r\\n\\\"\\\\\\u0001\xc3\xa9\",\"type\":"
        "\"offer\"},\"type\":\"data\",\"connectionId\":\"dc_x\",\"label\":\"dc_x\",\"reliable\":false,"
        "\"serialization\":\"binary\",\"features\":[\"ice-restart\"]},\"dst\":\"b\\\"ob\"}");
    offer.metadata = "{\"a\":1}";
    offer.reliable = true;
    offer.sdp = "v";
    offer.restart = 7;
    wr = dp_wr_init(out, sizeof(out));
    dp_message_write_offer(&wr, "bob", &offer);
    assert_written(
        &wr, "{\"type\":\"OFFER\",\"payload\":{\"sdp\":{\"sdp\":\"v\",\"type\":\"offer\"},\"type\":\"data\","
             "\"connectionId\":\"dc_x\",\"metadata\":{\"a\":1},\"label\":\"dc_x\",\"reliable\":true,"
             "\"serialization\":\"binary\",\"features\":[\"ice-restart\"],\"restart\":7},\"dst\":\"bob\"}");
    wr = dp_wr_init(out, sizeof(out));
    dp_message_write_answer(&wr, "bob", "dc_x", "v", 7);
    assert_written(
        &wr,
        "{\"type\":\"ANSWER\",\"payload\":{\"sdp\":{\"sdp\":\"v\",\"type\":\"answer\"},\"type\":\"data\","
        "\"connectionId\":\"dc_x\",\"features\":[\"ice-restart\"],\"restart\":7},\"dst\":\"bob\"}");
    wr = dp_wr_init(out, sizeof(out));
    dp_message_write_answer(&wr, "bob", "dc_x", NULL, 7);
    assert_written(&wr, "{\"type\":\"ANSWER\",\"payload\":{\"type\":\"data\",\"connectionId\":\"dc_x\","
                        "\"features\":[\"ice-restart\"],\"restart\":7},\"dst\":\"bob\"}");
    wr = dp_wr_init(out, sizeof(out));
    dp_message_write_candidate(&wr, "bob", "dc_x", "candidate:1", "0", 0, "abcd");
    assert_written(
        &wr,
        "{\"type\":\"CANDIDATE\",\"payload\":{\"candidate\":{\"candidate\":\"candidate:1\",\"sdpMid\":\"0\","
        "\"sdpMLineIndex\":0,\"usernameFragment\":\"abcd\"},\"type\":\"data\",\"connectionId\":\"dc_x\"},"
        "\"dst\":\"bob\"}");
    wr = dp_wr_init(out, 40);
    dp_message_write_candidate(&wr, "bob", "dc_x", "candidate:1", "0", 0, NULL);
    assert_true(wr.error);
}

/* What only we write; anything else in its place is as good as nothing. */
static void test_restart(void **state)
{
    (void)state;
    static const struct {
        const char *members;
        bool knows;
        unsigned restart;
    } cases[] = {
        {"", false, 0},
        {",\"features\":[\"ice-restart\"]", true, 0},
        {",\"features\":[1,null,\"x\",\"ice-restart\"],\"restart\":3", true, 3},
        {",\"features\":\"ice-restart\",\"restart\":true", false, 0},
        {",\"features\":{},\"restart\":-1", false, 0},
        {",\"features\":[[\"ice-restart\"]],\"restart\":1e300", false, 0},
        {",\"restart\":0.5", false, 0},
    };
    static const char *const types[] = {"OFFER", "ANSWER"};
    for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
        char text[512];
        snprintf(
            text, sizeof(text),
            "{\"type\":\"%s\",\"src\":\"a\",\"payload\":{\"sdp\":{\"sdp\":\"v\"},\"connectionId\":\"c\"%s}}",
            types[i % 2], cases[i / 2].members);
        assert_int_equal(parse(text), DP_OK);
        assert_int_equal(message.knows_restart, cases[i / 2].knows);
        assert_int_equal(message.restart, cases[i / 2].restart);
    }
    static const char refusal[] =
        "{\"type\":\"ANSWER\",\"src\":\"a\",\"payload\":{\"connectionId\":\"c\",\"restart\":7}}";
    assert_int_equal(parse(refusal), DP_OK);
    assert_null(message.sdp);
    assert_int_equal(message.restart, 7);
}

static int parse_metadata(const char *metadata, const char *more)
{
    char text[4096];
    snprintf(text, sizeof(text),
             "{\"type\":\"OFFER\",\"src\":\"a\",\"payload\":{\"sdp\":{\"sdp\":\"v\",\"metadata\":1},"
             "\"connectionId\":\"c\", \"metadata\" : %s , \"label\":\"%s\"}}",
             metadata, more);
    return parse(text);
}

static void test_metadata(void **state)
{
    static const char *const kinds[] = {"0",           "-1.50e+3", "true",
                                        "null",        "\"\"",     "\"}\\\"],{\"",
                                        "\"\\u0000\"", "[]",       "{\"a\": {\"metadata\":[1, 2]}}"};
    (void)state;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        assert_int_equal(parse_metadata(kinds[i], "l"), DP_OK);
        assert_string_equal(message.metadata, kinds[i]);
        assert_string_equal(message.label, "l");
        assert_int_equal(parse_metadata(kinds[i], "\\u0000"),
                         DP_ERR_MALFORMED); /* elsewhere it stays forbidden */
    }
    static const char *const bad[] = {"",    "}",        "[",        "\"",  "\"\\", "{\"a\"}",
                                      "nul", "\"\x01\"", "\"\xff\"", "1 2", "[}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(parse_metadata(bad[i], "l"), DP_ERR_MALFORMED);
    for (int depth = 509; depth <= 511; depth++) {
        char deep[2048];
        memset(deep, '[', (size_t)depth);
        memset(deep + depth, ']', (size_t)depth);
        deep[2 * depth] = '\0';
        assert_int_equal(parse_metadata(deep, "l"),
                         depth + 2 <= METADATA_DEPTH_MAX ? DP_OK : DP_ERR_MALFORMED);
    }
    /* Of two the first counts; and only the payload's own. */
    assert_int_equal(parse_metadata("1,\"metadata\":2", "l"), DP_OK);
    assert_string_equal(message.metadata, "1");
    assert_int_equal(
        parse("{\"metadata\":1,\"type\":\"OFFER\",\"src\":\"a\",\"payload\":{\"sdp\":{\"sdp\":\"v\"},"
              "\"connectionId\":\"c\"}}"),
        DP_OK);
    assert_null(message.metadata);
}

static void test_json_valid(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "{", "1 2", "'a'", "\"\xff\"", "\"\n\"", "{\"a\":1},\"type\":\"x\""};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(dp_metadata_valid(bad[i], strlen(bad[i])));
    assert_true(dp_metadata_valid(" {\"a\": null} ", 13));
    assert_true(dp_metadata_valid("\"\"", 2));
    assert_true(dp_metadata_valid("\"\\u0000\"", 8));
}

static int clear(void **state)
{
    (void)state;
    dp_message_clear(&message);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offer),          cmocka_unit_test(test_the_others),
        cmocka_unit_test(test_ignored),        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_depth_and_size), cmocka_unit_test(test_writing),
        cmocka_unit_test(test_metadata),       cmocka_unit_test(test_restart),
        cmocka_unit_test(test_json_valid),     cmocka_unit_test(test_restart),
    };
    return cmocka_run_group_tests(tests, NULL, clear);
}
