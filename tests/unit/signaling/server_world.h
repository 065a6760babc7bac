/* A dp_signal_server with streams in memory: what the tests of requests, realm and limits share. */
#ifndef TESTS_SIGNALING_SERVER_WORLD_H
#define TESTS_SIGNALING_SERVER_WORLD_H

#include "frames.h"
#include <datapeer/signal_server.h>
#include <datapeer/signaling.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

typedef struct stream {
    dp_signal_conn *conn; /* NULL: ended */
    bool holds;           /* takes no bytes */
    uint8_t *got;
    size_t got_len, got_at;
} stream;

static dp_signal_server *server;
static dp_time now;
static char last_reason[64]; /* of LEFT and REFUSED */
static unsigned joined, left, refused, expired, done;
static uint8_t random_state;

static int counting_random(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    for (size_t i = 0; i < len; i++)
        out[i] = random_state++;
    return DP_OK;
}

static dp_signal_server_config config(void)
{
    random_state = 0;
    now = DP_SECONDS(100);
    joined = left = refused = expired = done = 0;
    last_reason[0] = '\0';
    return (dp_signal_server_config){.size = sizeof(dp_signal_server_config),
                                     .random = {counting_random, NULL}};
}

static inline void start(const dp_signal_server_config *c)
{
    assert_int_equal(dp_signal_server_new(&server, c), DP_OK);
}

static void drain(void)
{
    dp_signal_transmit out;
    dp_signal_event event;
    while (dp_signal_server_poll_transmit(server, &out)) {
        stream *t = out.user;
        assert_ptr_equal(t->conn, out.conn);
        assert_false(t->holds);
        assert_in_range(out.len, 1, 16384);
        uint8_t *got = realloc(t->got, t->got_len + out.len);
        assert_non_null(got);
        memcpy(got + t->got_len, out.data, out.len);
        t->got = got;
        t->got_len += out.len;
    }
    while (dp_signal_server_poll_event(server, &event)) {
        stream *t = event.user;
        switch (event.type) {
        case DP_SIGNAL_EVENT_CLOSE:
            assert_non_null(t->conn);
            t->conn = NULL;
            break;
        case DP_SIGNAL_EVENT_JOINED:
            joined++;
            break;
        case DP_SIGNAL_EVENT_LEFT:
        case DP_SIGNAL_EVENT_REFUSED:
            event.type == DP_SIGNAL_EVENT_LEFT ? left++ : refused++;
            snprintf(last_reason, sizeof(last_reason), "%s", event.reason);
            break;
        case DP_SIGNAL_EVENT_EXPIRED:
            expired++;
            break;
        case DP_SIGNAL_EVENT_DONE:
            done++;
            break;
        }
    }
}

static int open_from(stream *t, const char *ip)
{
    dp_address remote;
    memset(t, 0, sizeof(*t));
    assert_int_equal(dp_address_parse(&remote, ip, 1234), DP_OK);
    int error = dp_signal_server_accept(&t->conn, server, now, &remote, t);
    drain();
    return error;
}

/* As one piece, of exactly its length, so that ASan sees a read beyond it. */
static void input(stream *t, const void *data, size_t len)
{
    if (t->conn == NULL || len == 0)
        return;
    uint8_t *exact = malloc(len);
    assert_non_null(exact);
    memcpy(exact, data, len);
    dp_signal_server_input(server, t->conn, now, exact, len);
    free(exact);
    drain();
}
static void say(stream *t, const char *text) { input(t, text, strlen(text)); }

static void end(stream *t)
{
    if (t->conn != NULL)
        dp_signal_server_disconnected(server, t->conn, now);
    free(t->got);
    memset(t, 0, sizeof(*t));
    drain();
}

static inline void pass(dp_duration time)
{
    dp_time until = now + time;
    for (dp_time next; (next = dp_signal_server_next_timeout(server)) <= until;) {
        now = next > now ? next : now;
        dp_signal_server_handle_timeout(server, now);
        assert_true(dp_signal_server_next_timeout(server) > now);
        drain();
    }
    now = until;
}

/* What came and was not looked at yet, as text. */
static const char *answer(stream *t)
{
    static char text[100000];
    size_t len = t->got_len - t->got_at;
    assert_true(len < sizeof(text));
    if (len > 0)
        memcpy(text, t->got + t->got_at, len);
    text[len] = '\0';
    t->got_at = t->got_len;
    return text;
}

static inline void expect_answer(stream *t, const char *begins, const char *contains)
{
    const char *text = answer(t);
    if (strncmp(text, begins, strlen(begins)) != 0 || strstr(text, contains) == NULL)
        fail_msg("not '%s' with '%s': %s", begins, contains, text);
}

#define WS_HEADERS                                                                                           \
    " HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"                      \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

static inline void upgrade(stream *t, const char *target)
{
    char text[2048];
    assert_int_equal(open_from(t, "192.0.2.1"), DP_OK);
    snprintf(text, sizeof(text), "GET %s" WS_HEADERS, target);
    say(t, text);
}

static inline void expect_upgraded(stream *t)
{
    static const char head[] =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    size_t len = sizeof(head) - 1;
    assert_true(t->got_len - t->got_at >= len);
    assert_memory_equal(t->got + t->got_at, head, len);
    t->got_at += len;
}

/* The next frame; false: there is none. */
static inline bool next_frame(stream *t, frame *out)
{
    const uint8_t *at = t->got + t->got_at;
    size_t len = t->got_len - t->got_at;
    if (len == 0 || !take_frame(out, &at, &len))
        return false;
    assert_false(out->masked);
    t->got_at = t->got_len - len;
    return true;
}

static inline void expect_text(stream *t, const char *text)
{
    static frame f;
    assert_true(next_frame(t, &f));
    assert_int_equal(f.first, FIN | TEXT);
    assert_string_equal(f.payload, text);
}
static inline void expect_close(stream *t, unsigned code)
{
    static frame f;
    assert_true(next_frame(t, &f));
    assert_int_equal(f.first, FIN | CLOSE);
    assert_int_equal(close_code(&f), code);
    assert_false(next_frame(t, &f));
}
static inline void expect_silence(stream *t) { assert_int_equal(t->got_at, t->got_len); }

static inline void send_text(stream *t, const char *text)
{
    size_t len = strlen(text);
    uint8_t *bytes = malloc(len + 16);
    assert_non_null(bytes);
    input(t, bytes, put_frame(bytes, FIN | TEXT, true, text, len));
    free(bytes);
}

static inline void join(stream *t, const char *id, const char *token)
{
    char target[512];
    snprintf(target, sizeof(target), "/peerjs?key=peerjs&id=%s&token=%s&version=1.5.5", id, token);
    upgrade(t, target);
    expect_upgraded(t);
    expect_text(t, "{\"type\":\"OPEN\"}");
}

static inline dp_signal_stats stats(void)
{
    dp_signal_stats s = {.size = sizeof(s)};
    dp_signal_server_get_stats(server, &s);
    return s;
}

static inline int stop(void **state)
{
    (void)state;
    dp_signal_server_free(server);
    server = NULL;
    return 0;
}

#endif
