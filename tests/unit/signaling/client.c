#include "frames.h"
#include "signaling/handshake.h"
#include <datapeer/signaling.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* One client, its server played by the test, virtual time. */
static dp_signaling *client;
static dp_signaling_event event;
static dp_time now;
static uint8_t sent[200000];
static size_t sent_len;
static frame out;
static char log_text[20000];

static int fake_random(void *ctx, uint8_t *bytes, size_t len)
{
    static uint8_t next = 7;
    (void)ctx;
    for (size_t i = 0; i < len; i++)
        bytes[i] = next = (uint8_t)(next * 5 + 3);
    return DP_OK;
}

static void on_log(void *ctx, dp_log_level level, const char *layer, const char *message)
{
    (void)ctx;
    (void)level;
    assert_string_equal(layer, "signaling");
    strncat(log_text, message, sizeof(log_text) - strlen(log_text) - 1);
}

static dp_signaling_config config(const char *id)
{
    dp_signaling_config c = {.size = sizeof(c),
                             .random = {fake_random, NULL},
                             .log = {on_log, NULL, DP_LOG_DEBUG},
                             .key = "k y",
                             .id = id,
                             .token = "s3cr&t"};
    assert_int_equal(dp_server_url_parse(&c.server, "ws://example.org:9000/my"), DP_OK);
    return c;
}

static void start_with_token(const char *id, const char *token)
{
    dp_signaling_config c = config(id);
    c.token = token;
    now = DP_SECONDS(1000);
    sent_len = 0;
    log_text[0] = '\0';
    assert_int_equal(dp_signaling_new(&client, &c), DP_OK);
    assert_int_equal(dp_signaling_start(client, now), DP_OK);
}

static void start(const char *id) { start_with_token(id, "s3cr&t"); }

static int teardown(void **state)
{
    (void)state;
    dp_signaling_free(client);
    client = NULL;
    return 0;
}

static void drain(void)
{
    size_t n;
    while (dp_signaling_poll_transmit(client, sent + sent_len, 97, &n))
        sent_len += n;
    assert_true(sent_len < sizeof(sent) - 97);
}

static void assert_event(dp_signaling_event_type type)
{
    assert_true(dp_signaling_poll_event(client, &event));
    assert_int_equal(event.type, type);
}

static void assert_no_event(void) { assert_false(dp_signaling_poll_event(client, &event)); }

static void assert_error(const char *type, bool stream_was_up)
{
    assert_event(DP_SIGNALING_EVENT_ERROR);
    assert_string_equal(event.error_type, type);
    assert_true(strlen(event.message) > 0);
    if (stream_was_up)
        assert_event(DP_SIGNALING_EVENT_DISCONNECT);
    assert_event(DP_SIGNALING_EVENT_DISCONNECTED);
    assert_true(strlen(event.message) > 0);
    assert_no_event();
    assert_true(dp_signaling_next_timeout(client) == DP_TIME_NEVER);
}

/* Everything goes in byte by byte, each from memory of its own. */
static void input(const void *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        uint8_t *exact = malloc(1);
        assert_non_null(exact);
        *exact = ((const uint8_t *)data)[i];
        dp_signaling_input(client, now, exact, 1);
        free(exact);
    }
    drain();
}

static void input_text(const char *text) { input(text, strlen(text)); }

static void message(const char *json)
{
    static uint8_t bytes[80000];
    input(bytes, put_frame(bytes, FIN | TEXT, false, json, strlen(json)));
}

/* The request that the client has sent so far. */
static void take_request(char *request, size_t capacity)
{
    drain();
    assert_true(sent_len < capacity);
    memcpy(request, sent, sent_len);
    request[sent_len] = '\0';
    sent_len = 0;
}

static void connect_stream(void)
{
    assert_event(DP_SIGNALING_EVENT_CONNECT);
    assert_string_equal(event.host, "example.org");
    assert_int_equal(event.port, 9000);
    assert_false(event.secure);
    dp_signaling_connected(client, now);
}

/* CONNECT and the 101 answer. */
static void upgrade(void)
{
    char request[4096], key[WS_KEY_LEN + 1], accept[WS_ACCEPT_LEN + 1], answer[512];
    connect_stream();
    take_request(request, sizeof(request));
    const char *at = strstr(request, "Sec-WebSocket-Key: ");
    assert_non_null(at);
    memcpy(key, at + 19, WS_KEY_LEN);
    key[WS_KEY_LEN] = '\0';
    assert_int_equal(dp_ws_accept(accept, key), DP_OK);
    snprintf(answer, sizeof(answer),
             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Accept: %s\r\n\r\n",
             accept);
    input_text(answer);
    assert_no_event();
}

static void open_session(const char *id)
{
    start(id);
    upgrade();
    message("{\"type\":\"OPEN\"}");
    assert_event(DP_SIGNALING_EVENT_OPEN);
    assert_string_equal(event.src, id);
    assert_no_event();
}

static bool sent_frame(void)
{
    drain();
    const uint8_t *at = sent;
    size_t before = sent_len;
    bool taken = take_frame(&out, &at, &sent_len);
    if (taken)
        memmove(sent, sent + (before - sent_len), sent_len);
    return taken;
}

static void assert_sent(const char *text)
{
    assert_true(sent_frame());
    assert_int_equal(out.first, FIN | TEXT);
    assert_true(out.masked);
    assert_string_equal(out.payload, text);
}

static void timeout(void)
{
    dp_time at = dp_signaling_next_timeout(client);
    assert_true(at != DP_TIME_NEVER && at >= now);
    now = at;
    dp_signaling_handle_timeout(client, now);
}

/* ---- asking for an id ---- */

static void test_id_from_the_server(void **state)
{
    (void)state;
    char request[4096];
    start(NULL);
    assert_null(dp_signaling_id(client));
    connect_stream();
    take_request(request, sizeof(request));
    assert_int_equal(strncmp(request, "GET /my/k%20y/id?ts=", 20), 0);
    assert_non_null(
        strstr(request, "&version=1.5.5 HTTP/1.1\r\nHost: example.org:9000\r\nConnection: close\r\n\r\n"));
    input_text("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 36\r\n\r\n"
               "359960f1-6e8d-49a7-868c-cb9291dce39b");
    assert_string_equal(dp_signaling_id(client), "359960f1-6e8d-49a7-868c-cb9291dce39b");
    /* The owner may see the end of the first stream before or after it polls. */
    dp_signaling_disconnected(client, now, "end of file");
    assert_event(DP_SIGNALING_EVENT_DISCONNECT);
    dp_signaling_disconnected(client, now, "end of file");
    assert_event(DP_SIGNALING_EVENT_CONNECT);
    dp_signaling_connected(client, now);
    take_request(request, sizeof(request));
    assert_ptr_equal(strstr(request,
                            "GET /my/peerjs?key=k%20y&id=359960f1-6e8d-49a7-868c-cb9291dce39b&token=s3cr%26t"
                            "&version=1.5.5 HTTP/1.1\r\nHost: example.org:9000\r\nUpgrade: websocket\r\n"
                            "Connection: Upgrade\r\nSec-WebSocket-Key: "),
                     request);
    assert_non_null(strstr(request, "==\r\nSec-WebSocket-Version: 13\r\n\r\n"));
    assert_null(strstr(log_text, "s3cr"));
    assert_null(strstr(log_text, "k y"));
}

static void test_id_until_the_stream_ends(void **state)
{
    (void)state;
    start(NULL);
    connect_stream();
    drain();
    input_text("HTTP/1.0 200 OK\r\n\r\nmy-id");
    assert_no_event();
    dp_signaling_disconnected(client, now, NULL);
    assert_string_equal(dp_signaling_id(client), "my-id");
    assert_event(DP_SIGNALING_EVENT_CONNECT); /* no DISCONNECT: that stream has ended by itself */
}

static void test_id_failures(void **state)
{
    (void)state;
    char large[3000], filler[2000];
    memset(filler, 'x', sizeof(filler) - 1);
    filler[sizeof(filler) - 1] = '\0';
    snprintf(large, sizeof(large), "HTTP/1.1 404 Not Found\r\nContent-Length: 1999\r\n\r\n%s", filler);
    const char *const answers[] = {
        "HTTP/1.1 500 Oops\r\n",
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 12\r\n\r\nUnauthorized",
        large,
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na\r\nb",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na\x01z",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
    };
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        start(NULL);
        connect_stream();
        input_text(answers[i]);
        bool truncated = i == 0 || i + 1 == sizeof(answers) / sizeof(answers[0]);
        if (truncated)
            dp_signaling_disconnected(client, now, NULL);
        assert_error("server-error", !truncated);
        assert_null(dp_signaling_id(client));
        teardown(NULL);
    }
}

/* ---- a session ---- */

static void test_session(void **state)
{
    (void)state;
    open_session("bob");
    message(
        "{\"type\":\"OFFER\",\"src\":\"alice\",\"dst\":\"bob\",\"payload\":{\"sdp\":{\"sdp\":\"v=0\\r\\n\","
        "\"type\":\"offer\"},"
        "\"type\":\"data\",\"connectionId\":\"dc_x\",\"metadata\":[1],\"label\":\"lab\",\"reliable\":true,"
        "\"serialization\":\"binary\"}}");
    message("{\"type\":\"CANDIDATE\",\"src\":\"alice\",\"dst\":\"bob\",\"payload\":{\"candidate\":{"
            "\"candidate\":\"candidate:1\","
            "\"sdpMid\":\"0\",\"sdpMLineIndex\":0,\"usernameFragment\":\"abcd\"},\"type\":\"data\","
            "\"connectionId\":\"dc_x\"}}");
    assert_event(DP_SIGNALING_EVENT_OFFER);
    assert_string_equal(event.src, "alice");
    assert_string_equal(event.offer.connection_id, "dc_x");
    assert_string_equal(event.connection_id, "dc_x");
    assert_string_equal(event.offer.sdp, "v=0\r\n");
    assert_string_equal(event.offer.label, "lab");
    assert_string_equal(event.offer.metadata, "[1]");
    assert_true(event.offer.reliable);
    assert_event(DP_SIGNALING_EVENT_CANDIDATE);
    assert_string_equal(event.candidate, "candidate:1");
    assert_string_equal(event.mid, "0");
    assert_no_event();

    assert_int_equal(dp_signaling_send_answer(client, now, "alice", "dc_x", "v=0", 0), DP_OK);
    assert_int_equal(dp_signaling_send_candidate(client, now, "alice", "dc_x", "candidate:2", "0", 0, "wxyz"),
                     DP_OK);
    assert_sent(
        "{\"type\":\"ANSWER\",\"payload\":{\"sdp\":{\"sdp\":\"v=0\",\"type\":\"answer\"},\"type\":\"data\","
        "\"connectionId\":\"dc_x\",\"features\":[\"ice-restart\"]},\"dst\":\"alice\"}");
    assert_sent(
        "{\"type\":\"CANDIDATE\",\"payload\":{\"candidate\":{\"candidate\":\"candidate:2\",\"sdpMid\":\"0\","
        "\"sdpMLineIndex\":0,\"usernameFragment\":\"wxyz\"},\"type\":\"data\",\"connectionId\":\"dc_x\"},"
        "\"dst\":\"alice\"}");

    dp_signaling_offer offer = {"dc_y", "v=0", "dc_y", "binary", NULL, false, 0};
    assert_int_equal(dp_signaling_send_offer(client, now, "carol", &offer), DP_OK);
    assert_true(sent_frame());
    message("{\"type\":\"ANSWER\",\"src\":\"carol\",\"payload\":{\"sdp\":{\"sdp\":\"v=0\"},\"type\":\"data\","
            "\"connectionId\":\"dc_y\"}}");
    assert_event(DP_SIGNALING_EVENT_ANSWER);
    assert_string_equal(event.sdp, "v=0");
    assert_string_equal(event.connection_id, "dc_y");
    message("{\"type\":\"EXPIRE\",\"src\":\"dave\",\"dst\":\"bob\"}");
    assert_event(DP_SIGNALING_EVENT_EXPIRE);
    assert_string_equal(event.src, "dave");
    message("{\"type\":\"LEAVE\",\"src\":\"alice\",\"dst\":\"bob\"}");
    assert_event(DP_SIGNALING_EVENT_LEAVE);
    assert_string_equal(event.src, "alice");

    /* None of these disturbs the session. */
    message("null");
    message("{\"type\":\"OFFER\",\"src\":\"a\\u0000\"}");
    message(
        "{\"type\":\"OFFER\",\"src\":\"eve\",\"payload\":{\"type\":\"media\",\"connectionId\":\"mc_1\"}}");
    message("{\"type\":\"OPEN\"}");
    message("");
    static char deep[3000];
    memset(deep, '[', 1001);
    message(deep);
    assert_no_event();
    message("{\"type\":\"LEAVE\",\"src\":\"z\"}");
    assert_event(DP_SIGNALING_EVENT_LEAVE);
}

static void test_heartbeat(void **state)
{
    (void)state;
    open_session("bob");
    dp_time opened = now;
    for (unsigned i = 1; i <= 5; i++) {
        timeout();
        assert_true(now == opened + i * DP_SECONDS(5));
        assert_sent("{\"type\":\"HEARTBEAT\"}");
        assert_false(sent_frame());
    }
}

static void test_pings_are_answered(void **state)
{
    (void)state;
    uint8_t bytes[64];
    open_session("bob");
    input(bytes, put_frame(bytes, FIN | PING, false, "x", 1));
    assert_true(sent_frame());
    assert_int_equal(out.first, FIN | PONG);
    assert_string_equal(out.payload, "x");
}

static void test_queued_until_open(void **state)
{
    (void)state;
    start("bob");
    assert_int_equal(dp_signaling_send_answer(client, now, "alice", "c", "1", 0), DP_OK);
    upgrade();
    assert_int_equal(dp_signaling_send_answer(client, now, "alice", "c", "2", 0), DP_OK);
    assert_false(sent_frame());
    message("{\"type\":\"OPEN\"}");
    assert_true(sent_frame());
    assert_non_null(strstr(out.payload, "\"sdp\":\"1\""));
    assert_true(sent_frame());
    assert_non_null(strstr(out.payload, "\"sdp\":\"2\""));
}

static void test_queue_is_bounded(void **state)
{
    (void)state;
    static char sdp[60000];
    memset(sdp, 'x', sizeof(sdp) - 1);
    start("bob");
    unsigned n = 0;
    int error;
    while ((error = dp_signaling_send_answer(client, now, "alice", "c", sdp, 0)) == DP_OK && n < 100)
        n++;
    assert_int_equal(error, DP_ERR_WOULD_BLOCK);
    assert_int_equal(n, (1 << 20) / 60000);
    /* DISCONNECTED throws it away. */
    connect_stream();
    dp_signaling_disconnected(client, now, "gone");
    assert_error("network", false);
    assert_int_equal(dp_signaling_send_answer(client, now, "alice", "c", "v", 0), DP_ERR_CLOSED);
}

static void test_arguments(void **state)
{
    (void)state;
    static char large[DP_SIGNALING_TEXT_MAX];
    memset(large, 'x', sizeof(large) - 1);
    open_session("bob");
    dp_signaling_offer offer = {"c", "v", "l", "binary", NULL, false, 0};
    assert_int_equal(dp_signaling_send_answer(client, now, "", "c", "v", 0), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_signaling_send_answer(client, now, "a\n", "c", "v", 0), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_signaling_send_answer(client, now, "a\xff", "c", "v", 0), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_signaling_send_answer(client, now, "a", "", "v", 0), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_signaling_send_answer(client, now, "a", "c", "\xff", 0), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_signaling_send_answer(client, now, "a", "c", large, 0), DP_ERR_TOO_LARGE);
    assert_int_equal(dp_signaling_send_candidate(client, now, "a", "c", "\xff", "", 0, NULL),
                     DP_ERR_INVALID_ARGUMENT);
    offer.metadata = "{\"a\":1},\"type\":\"x\"";
    assert_int_equal(dp_signaling_send_offer(client, now, "a", &offer), DP_ERR_INVALID_ARGUMENT);
    offer.metadata = NULL;
    offer.label = "\xc3";
    assert_int_equal(dp_signaling_send_offer(client, now, "a", &offer), DP_ERR_INVALID_ARGUMENT);
    assert_false(sent_frame());
    assert_int_equal(dp_signaling_start(client, now), DP_ERR_INVALID_STATE);

    dp_signaling *other;
    dp_signaling_config c = config("not-");
    assert_int_equal(dp_signaling_new(&other, &c), DP_ERR_INVALID_ARGUMENT);
    c = config("a");
    c.token = "a\r\nX: y";
    assert_int_equal(dp_signaling_new(&other, &c), DP_ERR_INVALID_ARGUMENT);
    c = config("a");
    c.key = "";
    assert_int_equal(dp_signaling_new(&other, &c), DP_ERR_INVALID_ARGUMENT);
    c = config("a");
    c.size = 8;
    assert_int_equal(dp_signaling_new(&other, &c), DP_ERR_INVALID_ARGUMENT);
    c = config("a");
    c.random.fn = NULL;
    assert_int_equal(dp_signaling_new(&other, &c), DP_ERR_INVALID_ARGUMENT);
}

static void test_longest_words_fit_in_the_request(void **state)
{
    (void)state;
    static char word[DP_PEER_ID_MAX + 1], path[256];
    char request[8192];
    memset(word, ' ', DP_PEER_ID_MAX);
    dp_signaling_config c = config(NULL);
    c.key = c.token = word;
    memset(path, 'p', 255);
    path[0] = path[254] = '/';
    path[255] = '\0';
    memcpy(c.server.path, path, sizeof(path));
    memset(c.server.host, 'h', 255);
    now = 1;
    sent_len = 0;
    assert_int_equal(dp_signaling_new(&client, &c), DP_OK);
    assert_int_equal(dp_signaling_start(client, now), DP_OK);
    assert_event(DP_SIGNALING_EVENT_CONNECT);
    dp_signaling_connected(client, now);
    take_request(request, sizeof(request));
    static char answer[600];
    int n = snprintf(answer, sizeof(answer), "HTTP/1.1 200 OK\r\nContent-Length: 256\r\n\r\n%s", word);
    input(answer, (size_t)n);
    assert_event(DP_SIGNALING_EVENT_DISCONNECT);
    assert_event(DP_SIGNALING_EVENT_CONNECT);
    dp_signaling_connected(client, now);
    take_request(request, sizeof(request));
    assert_non_null(strstr(request, "Sec-WebSocket-Version: 13\r\n\r\n"));
}

/* ---- refusals and ends ---- */

static void test_refusals(void **state)
{
    (void)state;
    static const char *const refusals[][3] = {
        {"{\"type\":\"ID-TAKEN\",\"payload\":{\"msg\":\"ID is taken\"}}", "unavailable-id", "ID is taken"},
        {"{\"type\":\"ERROR\",\"payload\":{\"msg\":\"Invalid key provided\"}}", "server-error",
         "Invalid key provided"},
        {"{\"type\":\"INVALID-KEY\"}", "invalid-key", NULL},
    };
    for (size_t i = 0; i < 3; i++) {
        uint8_t bytes[8];
        start("bob");
        upgrade();
        message(refusals[i][0]);
        input(bytes, put_frame(bytes, FIN | CLOSE, false, "", 0)); /* what the server does next */
        assert_true(sent_frame());
        assert_int_equal(close_code(&out), 1000);
        assert_true(dp_signaling_poll_event(client, &event));
        assert_string_equal(event.error_type, refusals[i][1]);
        if (refusals[i][2] != NULL)
            assert_string_equal(event.message, refusals[i][2]);
        assert_event(DP_SIGNALING_EVENT_DISCONNECT);
        assert_event(DP_SIGNALING_EVENT_DISCONNECTED);
        assert_no_event();
        teardown(NULL);
    }
}

/* Row 65. */
static void test_wrong_accept(void **state)
{
    (void)state;
    start("bob");
    connect_stream();
    drain();
    input_text("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
    assert_event(DP_SIGNALING_EVENT_ERROR);
    assert_string_equal(event.error_type, "socket-error");
    assert_non_null(strstr(event.message, "Sec-WebSocket-Accept"));
    assert_event(DP_SIGNALING_EVENT_DISCONNECT);
    assert_event(DP_SIGNALING_EVENT_DISCONNECTED);
    assert_no_event();
}

static void test_upgrade_refused(void **state)
{
    (void)state;
    start("bob");
    connect_stream();
    drain();
    input_text("HTTP/1.1 400 Bad Request\r\n\r\n");
    assert_event(DP_SIGNALING_EVENT_ERROR);
    assert_non_null(strstr(event.message, "400"));
}

static void test_protocol_error(void **state)
{
    (void)state;
    uint8_t bytes[64];
    open_session("bob");
    input(bytes, put_frame(bytes, FIN | TEXT, true, "{}", 2));
    assert_true(sent_frame());
    assert_int_equal(close_code(&out), 1002);
    assert_error("socket-error", true);
    assert_int_equal(dp_signaling_send_answer(client, now, "a", "c", "v", 0), DP_ERR_CLOSED);
}

static void test_server_closes(void **state)
{
    (void)state;
    uint8_t bytes[64];
    open_session("bob");
    message("{\"type\":\"LEAVE\",\"src\":\"alice\"}");
    input(bytes, put_frame(bytes, FIN | CLOSE, false, "", 0));
    assert_true(sent_frame()); /* the answer goes out although the session is over */
    assert_int_equal(out.first, FIN | CLOSE);
    assert_event(DP_SIGNALING_EVENT_LEAVE); /* what came before is not lost */
    assert_error("network", true);
}

static void test_stream_lost(void **state)
{
    (void)state;
    open_session("bob");
    dp_signaling_disconnected(client, now, "connection reset");
    assert_error("network", false);
    dp_signaling_disconnected(client, now, "again");
    input_text("late bytes");
    assert_no_event();
}

static void test_connect_fails(void **state)
{
    (void)state;
    start("bob");
    assert_event(DP_SIGNALING_EVENT_CONNECT);
    dp_signaling_disconnected(client, now, "connection refused");
    assert_event(DP_SIGNALING_EVENT_ERROR);
    assert_string_equal(event.error_type, "network");
    assert_non_null(strstr(event.message, "connection refused"));
}

/* ---- time ---- */

/* Row 58: a server that keeps the header going at a byte a second. */
static void test_slow_header(void **state)
{
    (void)state;
    static const char *const ids[] = {"bob", NULL};
    for (size_t i = 0; i < 2; i++) {
        start(ids[i]);
        dp_time started = now;
        connect_stream();
        drain();
        static const char head[] = "HTTP/1.1 200 OK\r\nX-Slow: 0123456789";
        for (size_t k = 0; dp_signaling_next_timeout(client) > now; k++) {
            input(head + k, 1);
            now += DP_SECONDS(1);
        }
        assert_true(now == started + DP_SECONDS(20));
        dp_signaling_handle_timeout(client, now);
        assert_error(ids[i] == NULL ? "server-error" : "network", true);
        teardown(NULL);
    }
}

static void test_connect_timeout(void **state)
{
    (void)state;
    start("bob");
    assert_event(DP_SIGNALING_EVENT_CONNECT);
    dp_signaling_handle_timeout(client, now); /* nothing is due */
    assert_no_event();
    timeout();
    assert_error("network", true);
    dp_signaling_connected(client, now); /* too late: the stream was given up */
    drain();
    assert_int_equal(sent_len, 0);
}

static void test_no_open(void **state)
{
    (void)state;
    start_with_token("bob", NULL);
    dp_time started = now;
    upgrade();
    timeout();
    assert_true(now == started + DP_SECONDS(20));
    assert_error("network", true);
}

/* A token of the owner's may be that of an earlier process, whose socket the server still holds. */
static void test_known_token_takes_over(void **state)
{
    (void)state;
    start("bob");
    dp_time started = now;
    upgrade();
    timeout();
    assert_true(now == started + DP_SECONDS(2));
    assert_event(DP_SIGNALING_EVENT_OPEN);
}

/* docs/peerjs.md 1.2, rule 4: the server still holds our old socket and says nothing. */
static void test_reconnect_takes_over(void **state)
{
    (void)state;
    open_session("bob");
    dp_signaling_disconnected(client, now, "reset");
    assert_error("network", false);
    now += DP_SECONDS(7);
    dp_time started = now;
    assert_int_equal(dp_signaling_start(client, now), DP_OK);
    upgrade();
    timeout();
    assert_true(now == started + DP_SECONDS(2));
    assert_event(DP_SIGNALING_EVENT_OPEN);
    timeout();
    assert_true(now == started + DP_SECONDS(7));
    assert_sent("{\"type\":\"HEARTBEAT\"}");
}

static void test_relayed_message_proves_takeover(void **state)
{
    (void)state;
    open_session("bob");
    dp_signaling_disconnected(client, now, "reset");
    assert_error("network", false);
    assert_int_equal(dp_signaling_start(client, now), DP_OK);
    upgrade();
    message("{\"type\":\"LEAVE\",\"src\":\"alice\"}");
    assert_event(DP_SIGNALING_EVENT_OPEN);
    assert_event(DP_SIGNALING_EVENT_LEAVE);
}

static void test_reconnect_with_open(void **state)
{
    (void)state;
    open_session("bob");
    dp_signaling_disconnected(client, now, "reset");
    assert_int_equal(dp_signaling_start(client, now), DP_OK); /* without having polled */
    assert_event(DP_SIGNALING_EVENT_ERROR);
    assert_event(DP_SIGNALING_EVENT_DISCONNECTED);
    upgrade();
    message("{\"type\":\"OPEN\"}");
    assert_event(DP_SIGNALING_EVENT_OPEN);
    assert_no_event();
}

/* ---- leaving ---- */

static void test_close(void **state)
{
    (void)state;
    uint8_t bytes[8];
    char sdp[1000]; /* many calls of poll_transmit long: the close frame must not overtake it */
    memset(sdp, 'v', sizeof(sdp) - 1);
    sdp[sizeof(sdp) - 1] = '\0';
    open_session("bob");
    assert_int_equal(dp_signaling_send_answer(client, now, "alice", "c", sdp, 0), DP_OK);
    assert_int_equal(dp_signaling_send_answer(client, now, "carol", "c", sdp, 0), DP_OK);
    dp_signaling_close(client, now);
    dp_signaling_close(client, now);
    assert_int_equal(dp_signaling_send_answer(client, now, "alice", "c", "v", 0), DP_ERR_CLOSED);
    assert_true(sent_frame());
    assert_non_null(strstr(out.payload, "alice"));
    assert_true(sent_frame());
    assert_non_null(strstr(out.payload, "carol"));
    assert_sent("{\"type\":\"LEAVE\"}");
    assert_true(sent_frame());
    assert_int_equal(close_code(&out), 1000);
    assert_no_event();
    input(bytes, put_frame(bytes, FIN | CLOSE, false, "\x03\xe8", 2));
    assert_event(DP_SIGNALING_EVENT_DISCONNECT);
    assert_event(DP_SIGNALING_EVENT_DISCONNECTED);
    assert_no_event();
}

static void test_close_of_a_deaf_server(void **state)
{
    (void)state;
    open_session("bob");
    dp_time closed = now;
    dp_signaling_close(client, now);
    timeout();
    assert_true(now == closed + DP_SECONDS(3));
    assert_event(DP_SIGNALING_EVENT_DISCONNECT);
    assert_event(DP_SIGNALING_EVENT_DISCONNECTED);
    assert_no_event();
}

static void test_close_before_open(void **state)
{
    (void)state;
    start("bob");
    dp_signaling_close(client, now); /* CONNECT was not polled: there is no stream to give up */
    assert_event(DP_SIGNALING_EVENT_DISCONNECTED);
    assert_no_event();
    assert_int_equal(dp_signaling_start(client, now), DP_OK);
    connect_stream();
    dp_signaling_close(client, now);
    assert_event(DP_SIGNALING_EVENT_DISCONNECT);
    assert_event(DP_SIGNALING_EVENT_DISCONNECTED);
    drain();
    assert_int_equal(sent_len, 0);
}

/* ---- memory ---- */

static unsigned long countdown, live;

static void *failing_alloc(void *ctx, size_t size)
{
    (void)ctx;
    if (countdown > 0 && --countdown == 0)
        return NULL;
    void *block = malloc(size);
    live += block != NULL;
    return block;
}
static void *failing_realloc(void *ctx, void *old, size_t size)
{
    (void)ctx;
    if (countdown > 0 && --countdown == 0)
        return NULL;
    void *block = realloc(old, size);
    live += block != NULL && old == NULL;
    return block;
}
static void failing_free(void *ctx, void *block)
{
    (void)ctx;
    live -= block != NULL;
    free(block);
}

/* As test_session in short, tolerating every outcome but a crash, a leak or silence. */
static void run_session(void)
{
    dp_signaling_config c = config(NULL);
    dp_signaling_offer offer = {"c", "v", "l", "binary", "1", false, 0};
    uint8_t bytes[256];
    static char accept[WS_ACCEPT_LEN + 1], answer[300];
    sent_len = 0;
    if (dp_signaling_new(&client, &c) != DP_OK)
        return;
    assert_int_equal(dp_signaling_start(client, now), DP_OK);
    bool ended = false;
    for (unsigned step = 0; step < 8 && !ended; step++) {
        drain();
        while (dp_signaling_poll_event(client, &event)) {
            if (event.type == DP_SIGNALING_EVENT_CONNECT)
                dp_signaling_connected(client, now);
            ended = ended || event.type == DP_SIGNALING_EVENT_DISCONNECTED;
        }
        drain();
        sent[sent_len] = '\0';
        char *key = strstr((char *)sent, "Sec-WebSocket-Key: ");
        if (key != NULL) {
            key[19 + WS_KEY_LEN] = '\0';
            assert_int_equal(dp_ws_accept(accept, key + 19), DP_OK);
            sent_len = 0;
            snprintf(answer, sizeof(answer),
                     "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
                     "%s\r\n\r\n",
                     accept);
            input_text(answer);
            message("{\"type\":\"OPEN\"}");
            message("{\"type\":\"LEAVE\",\"src\":\"alice\"}");
            (void)dp_signaling_send_offer(client, now, "alice", &offer);
        } else if (step == 0) {
            sent_len = 0;
            input_text("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nme");
        } else if (step == 4) {
            dp_signaling_close(client, now);
        } else if (step == 5) {
            input(bytes, put_frame(bytes, FIN | CLOSE, false, "", 0));
        }
    }
    assert_true(ended);
}

/* Row 90, for what is ours; wslay and cJSON use malloc. */
static void test_nth_allocation_fails(void **state)
{
    (void)state;
    static const dp_allocator failing = {failing_alloc, failing_realloc, failing_free, NULL};
    dp_set_allocator(&failing);
    now = 5;
    unsigned long n = 0;
    do {
        countdown = ++n;
        live = 0;
        run_session();
        teardown(NULL);
        assert_int_equal(live, 0);
    } while (countdown == 0 && n < 1000);
    countdown = 0;
    dp_set_allocator(NULL);
    assert_in_range(n, 15, 999);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_id_from_the_server),
        TEST(test_id_until_the_stream_ends),
        TEST(test_id_failures),
        TEST(test_session),
        TEST(test_heartbeat),
        TEST(test_pings_are_answered),
        TEST(test_queued_until_open),
        TEST(test_queue_is_bounded),
        TEST(test_arguments),
        TEST(test_longest_words_fit_in_the_request),
        TEST(test_refusals),
        TEST(test_wrong_accept),
        TEST(test_upgrade_refused),
        TEST(test_protocol_error),
        TEST(test_server_closes),
        TEST(test_stream_lost),
        TEST(test_connect_fails),
        TEST(test_slow_header),
        TEST(test_connect_timeout),
        TEST(test_no_open),
        TEST(test_known_token_takes_over),
        TEST(test_reconnect_takes_over),
        TEST(test_relayed_message_proves_takeover),
        TEST(test_reconnect_with_open),
        TEST(test_close),
        TEST(test_close_of_a_deaf_server),
        TEST(test_close_before_open),
        TEST(test_nth_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
