#include "signaling/websocket.h"

#include "frames.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static dp_ws *ws;
static frame out;
static uint8_t in[1 << 17];
static size_t in_len;
static unsigned messages;
static char last[DP_SIGNALING_TEXT_MAX + 1];
static size_t last_len;

static int fake_random(void *ctx, uint8_t *bytes, size_t len)
{
    static uint8_t next = 1;
    (void)ctx;
    for (size_t i = 0; i < len; i++)
        bytes[i] = next++;
    return DP_OK;
}
static const dp_random random_source = {fake_random, NULL};

static void on_text(void *ctx, const char *text, size_t len)
{
    (void)ctx;
    messages++;
    last_len = len;
    memcpy(last, text, len);
    last[len] = '\0';
}

static int setup(void **state)
{
    (void)state;
    messages = 0;
    in_len = 0;
    last_len = 0;
    return dp_ws_new(&ws, &random_source, on_text, NULL);
}

static int teardown(void **state)
{
    (void)state;
    dp_ws_free(ws);
    return 0;
}

static void server(unsigned first, const void *payload, size_t len)
{
    in_len += put_frame(in + in_len, first, false, payload, len);
}

/* Feeds what server() queued, in pieces of step bytes. */
static int feed(size_t step)
{
    int result = DP_OK;
    for (size_t at = 0; at < in_len && result == DP_OK; at += step) {
        size_t n = in_len - at < step ? in_len - at : step;
        uint8_t *exact = malloc(n);
        assert_non_null(exact);
        memcpy(exact, in + at, n);
        result = dp_ws_input(ws, exact, n);
        free(exact);
    }
    in_len = 0;
    return result;
}

/* The next frame of the client. */
static bool client_frame(size_t capacity)
{
    static uint8_t bytes[80000];
    static size_t len;
    size_t n;
    while (len + capacity <= sizeof(bytes) && (n = dp_ws_output(ws, bytes + len, capacity)) > 0)
        len += n;
    const uint8_t *at = bytes;
    bool taken = take_frame(&out, &at, &len);
    memmove(bytes, at, len);
    if (!taken)
        len = 0;
    return taken;
}

static void expect_close(int result, unsigned code)
{
    assert_int_equal(feed(1), result);
    assert_true(client_frame(4096));
    assert_int_equal(out.first, FIN | CLOSE);
    assert_true(out.masked);
    assert_int_equal(close_code(&out), code);
    assert_false(client_frame(4096));
    assert_int_equal(messages, 0);
}

static void test_messages(void **state)
{
    (void)state;
    for (size_t step = 1; step < 8; step++) {
        messages = 0;
        server(FIN | TEXT, "hello", 5);
        server(TEXT, "a\xe2\x82", 3); /* a character cut by the frame's end */
        server(FIN | PING, "mid", 3);
        server(0, "", 0);
        server(FIN, "\xac", 1);
        assert_int_equal(feed(step), DP_OK);
        assert_int_equal(messages, 2);
        assert_string_equal(last, "a\xe2\x82\xac");
        assert_true(client_frame(step));
        assert_int_equal(out.first, FIN | PONG);
        assert_string_equal(out.payload, "mid");
        assert_true(out.masked);
        assert_false(client_frame(step));
    }
    server(FIN | TEXT, "", 0);
    assert_int_equal(feed(1), DP_OK);
    assert_int_equal(last_len, 0);
}

static void test_sending(void **state)
{
    (void)state;
    static char text[60000];
    uint8_t mask[4];
    memset(text, 'x', sizeof(text));
    assert_int_equal(dp_ws_send_text(ws, "one", 3), DP_OK);
    assert_int_equal(dp_ws_send_text(ws, text, sizeof(text)), DP_OK);
    assert_int_equal(dp_ws_pending(ws), 2);
    assert_true(client_frame(7));
    assert_int_equal(out.first, FIN | TEXT);
    assert_string_equal(out.payload, "one");
    assert_true(out.masked);
    memcpy(mask, out.mask, sizeof(mask));
    assert_true(client_frame(7));
    assert_int_equal(out.len, sizeof(text));
    assert_memory_equal(out.payload, text, sizeof(text));
    assert_memory_not_equal(out.mask, mask, sizeof(mask)); /* RFC 6455 §5.3: a fresh key */
    assert_int_equal(dp_ws_close(ws, 1000), DP_OK);
    assert_int_equal(dp_ws_send_text(ws, "late", 4), DP_ERR_CLOSED);
    assert_true(client_frame(1));
    assert_int_equal(close_code(&out), 1000);
}

static void test_server_closes(void **state)
{
    (void)state;
    server(FIN | CLOSE, "\x03\xe9gone", 6);
    expect_close(DP_ERR_CLOSED, 1001);
}

static void test_server_closes_without_code(void **state)
{
    (void)state;
    server(FIN | CLOSE, "", 0);
    expect_close(DP_ERR_CLOSED, 0);
}

/* Row 60. */
static void test_masked_server_frame(void **state)
{
    (void)state;
    in_len = put_frame(in, FIN | TEXT, true, "hi", 2);
    expect_close(DP_ERR_PROTOCOL, 1002);
}

/* Row 61. */
static void test_long_ping(void **state)
{
    (void)state;
    static const char payload[126];
    server(FIN | PING, payload, 126);
    expect_close(DP_ERR_PROTOCOL, 1002);
}

static void test_longest_ping(void **state)
{
    (void)state;
    static const char payload[125];
    server(FIN | PING, payload, 125);
    assert_int_equal(feed(1), DP_OK);
    assert_true(client_frame(100));
    assert_int_equal(out.len, 125);
}

static void test_fragmented_ping(void **state)
{
    (void)state;
    server(PING, "x", 1);
    expect_close(DP_ERR_PROTOCOL, 1002);
}

static void test_continuation_of_nothing(void **state)
{
    (void)state;
    server(FIN, "x", 1);
    expect_close(DP_ERR_PROTOCOL, 1002);
}

static void test_message_inside_message(void **state)
{
    (void)state;
    server(TEXT, "x", 1);
    server(FIN | TEXT, "y", 1);
    expect_close(DP_ERR_PROTOCOL, 1002);
}

/* Row 62. */
static void test_endless_continuation(void **state)
{
    (void)state;
    static char chunk[60000];
    memset(chunk, 'x', sizeof(chunk));
    int result = DP_OK;
    unsigned frames = 0;
    for (; result == DP_OK && frames < 100; frames++) {
        server(frames == 0 ? TEXT : 0, chunk, sizeof(chunk));
        result = feed(5000);
    }
    assert_int_equal(result, DP_ERR_PROTOCOL);
    assert_int_equal(frames, WS_MESSAGE_MAX / (int)sizeof(chunk) + 1);
    assert_true(client_frame(100));
    assert_int_equal(close_code(&out), 1009);
    assert_int_equal(messages, 0);
}

static void test_endless_empty_continuation(void **state)
{
    (void)state;
    int result = DP_OK;
    server(TEXT, "", 0);
    for (unsigned i = 0; result == DP_OK && i < 200; i++) {
        for (unsigned k = 0; k < 10000; k++)
            server(0, "", 0);
        result = feed(sizeof(in));
    }
    assert_int_equal(result, DP_ERR_PROTOCOL);
    assert_true(client_frame(100));
    assert_int_equal(close_code(&out), 1009);
}

static void test_huge_claim(void **state)
{
    (void)state;
    static const uint8_t head[] = {FIN | TEXT, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 'x'};
    memcpy(in, head, sizeof(head));
    in_len = sizeof(head);
    expect_close(DP_ERR_PROTOCOL, 1009);
}

static void test_too_large_message_is_skipped(void **state)
{
    (void)state;
    static char chunk[50000];
    memset(chunk, 'x', sizeof(chunk));
    server(TEXT, chunk, sizeof(chunk));
    server(FIN, chunk, sizeof(chunk));
    server(FIN | TEXT, "next", 4);
    assert_int_equal(feed(10000), DP_OK);
    assert_int_equal(messages, 1);
    assert_string_equal(last, "next");
    static char largest[DP_SIGNALING_TEXT_MAX];
    memset(largest, 'y', sizeof(largest));
    server(FIN | TEXT, largest, sizeof(largest));
    assert_int_equal(feed(10000), DP_OK);
    assert_int_equal(last_len, sizeof(largest));
    assert_int_equal(messages, 2);
}

static void test_binary_is_dropped(void **state)
{
    (void)state;
    server(FIN | BINARY, "\xff{}", 3);
    assert_int_equal(feed(1), DP_OK);
    assert_int_equal(messages, 0);
    assert_false(client_frame(10));
}

/* Row 63. */
static void test_bad_utf8_across_frames(void **state)
{
    (void)state;
    server(TEXT, "a\xe2", 2);
    server(FIN, "bc", 2);
    expect_close(DP_ERR_PROTOCOL, 1007);
}

static void test_utf8_cut_by_the_end(void **state)
{
    (void)state;
    server(FIN | TEXT, "a\xe2\x82", 3);
    expect_close(DP_ERR_PROTOCOL, 1007);
}

static void test_bad_close_code(void **state)
{
    (void)state;
    server(FIN | CLOSE, "\x03\xed", 2); /* 1005 must not be sent */
    expect_close(DP_ERR_PROTOCOL, 1002);
}

/* Row 64. */
static void test_reserved_bits(void **state)
{
    (void)state;
    for (unsigned bit = 0x10; bit <= 0x40; bit <<= 1) {
        server(FIN | bit | TEXT, "x", 1);
        expect_close(DP_ERR_PROTOCOL, 1002);
        teardown(NULL);
        assert_int_equal(setup(NULL), 0);
    }
}

static void test_reserved_opcodes(void **state)
{
    (void)state;
    static const unsigned opcodes[] = {3, 4, 5, 6, 7, 11, 12, 13, 14, 15};
    for (size_t i = 0; i < sizeof(opcodes) / sizeof(opcodes[0]); i++) {
        server(FIN | opcodes[i], "x", 1);
        expect_close(DP_ERR_PROTOCOL, 1002);
        teardown(NULL);
        assert_int_equal(setup(NULL), 0);
    }
}

static void test_flood_of_pings(void **state)
{
    (void)state;
    int result = DP_OK;
    for (unsigned i = 0; i < 3 * WS_MAX_PENDING; i++)
        server(FIN | PING, "", 0);
    result = feed(sizeof(in));
    assert_int_equal(result, DP_ERR_PROTOCOL);
    assert_true(dp_ws_pending(ws) < 2 * WS_MAX_PENDING);
}

/* How many bytes of a frame dp_ws_read_message takes when it lies at the end of a block of memory; the text is in last. */
static size_t take_message(const uint8_t *bytes, size_t len)
{
    uint8_t *exact = malloc(len + 1);
    assert_non_null(exact);
    memcpy(exact + 1, bytes, len);
    size_t used = dp_ws_read_message(last, &last_len, exact + 1, len);
    free(exact);
    return used;
}

static void test_whole_messages(void **state)
{
    (void)state;
    static char text[DP_SIGNALING_TEXT_MAX];
    static uint8_t bytes[DP_SIGNALING_TEXT_MAX + 14];
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (char)(' ' + i % 90);
    for (size_t len = 0; len < sizeof(text); len = len == 150 ? sizeof(text) - 2 : len + 1) {
        size_t n = put_frame(bytes, FIN | TEXT, true, text, len);
        bytes[n] = 0x81; /* of the next frame */
        assert_int_equal(take_message(bytes, n + 1), n);
        assert_int_equal(last_len, len);
        assert_memory_equal(last, text, len);
        assert_int_equal(take_message(bytes, n), n);
        assert_int_equal(take_message(bytes, n - 1), 0);
    }
    for (size_t len = 0; len < 14; len++)
        assert_int_equal(take_message(bytes, len), 0);
    assert_int_equal(take_message(bytes, put_frame(bytes, FIN | TEXT, true, text, sizeof(text))), 0);
}

/* All else is for dp_ws_input. */
static void test_no_whole_messages(void **state)
{
    (void)state;
    uint8_t bytes[256];
    static const unsigned firsts[] = {TEXT,       FIN,         FIN | BINARY,      FIN | 0x40 | TEXT,
                                      FIN | PING, FIN | CLOSE, FIN | 0x20 | TEXT, 0,
                                      0x82,       0xff,        FIN | 0x10 | TEXT};
    for (size_t i = 0; i < sizeof(firsts) / sizeof(firsts[0]); i++)
        assert_int_equal(take_message(bytes, put_frame(bytes, firsts[i], true, "abcdefgh", 8)), 0);
    assert_int_equal(take_message(bytes, put_frame(bytes, FIN | TEXT, true, "abcdefgh", 8)), 14);
    assert_int_equal(take_message(bytes, put_frame(bytes, FIN | TEXT, false, "abcdefghijkl", 12) + 4), 0);
    assert_int_equal(take_message(bytes, put_frame(bytes, FIN | TEXT, true, "abc\xC3(efg", 8)), 0);
    /* not the shortest form */
    static const uint8_t long_form[] = {0x81, 0xfe, 0, 3, 0, 0, 0, 0, 'a', 'b', 'c'};
    static const uint8_t longest_form[] = {0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 'a', 'b', 'c'};
    assert_int_equal(take_message(long_form, sizeof(long_form)), 0);
    assert_int_equal(take_message(longest_form, sizeof(longest_form)), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_messages),
        TEST(test_sending),
        TEST(test_server_closes),
        TEST(test_server_closes_without_code),
        TEST(test_masked_server_frame),
        TEST(test_long_ping),
        TEST(test_longest_ping),
        TEST(test_fragmented_ping),
        TEST(test_continuation_of_nothing),
        TEST(test_message_inside_message),
        TEST(test_endless_continuation),
        TEST(test_endless_empty_continuation),
        TEST(test_huge_claim),
        TEST(test_too_large_message_is_skipped),
        TEST(test_binary_is_dropped),
        TEST(test_bad_utf8_across_frames),
        TEST(test_utf8_cut_by_the_end),
        TEST(test_bad_close_code),
        TEST(test_reserved_bits),
        TEST(test_reserved_opcodes),
        TEST(test_flood_of_pings),
        TEST(test_whole_messages),
        TEST(test_no_whole_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
