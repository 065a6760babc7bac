/* Requests to the server: its parser, every route, and heads that are hostile. */
#include "signaling/server_request.h"

#include "server_world.h"

static dp_request request;

static int parse(const char *text, size_t step)
{
    size_t len = strlen(text);
    int result = DP_ERR_WOULD_BLOCK;
    dp_request_clear(&request);
    for (size_t at = 0; at < len && result == DP_ERR_WOULD_BLOCK; at += step) {
        size_t n = len - at < step ? len - at : step;
        uint8_t *exact = malloc(n);
        assert_non_null(exact);
        memcpy(exact, text + at, n);
        const uint8_t *from = exact;
        result = dp_request_input(&request, &from, &n);
        free(exact);
    }
    return result;
}

static void expect_parse(const char *text, int result)
{
    for (size_t step = 1; step < 9; step += 3) {
        int got = parse(text, step);
        if (got != result)
            fail_msg("%s instead of %s: %s", dp_strerror(got), dp_strerror(result), text);
    }
}

static int clear(void **state)
{
    (void)state;
    dp_request_clear(&request);
    return 0;
}

static void test_requests(void **state)
{
    (void)state;
    expect_parse("\r\n\r\nGET /a%20b?x=1?&y HTTP/1.1\r\nhost: h\r\n\r\n", DP_OK);
    assert_true(dp_slice_is(request.method, "GET"));
    assert_true(dp_slice_is(request.path, "/a%20b"));
    assert_true(dp_slice_is(request.query, "x=1?&y"));
    assert_true(request.keep_alive);
    assert_false(request.has_body);
    expect_parse("GET / HTTP/1.0\r\n\r\n", DP_OK);
    assert_false(request.keep_alive);
    expect_parse("GET / HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n", DP_OK);
    assert_false(request.keep_alive);
    expect_parse("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n", DP_OK);
    assert_true(request.has_body);
    assert_false(request.keep_alive);
    expect_parse("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", DP_OK);
    assert_true(request.has_body);
    expect_parse("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", DP_OK);
    assert_false(request.has_body);
    expect_parse("GET http://host:80/p?q HTTP/1.1\r\nHost: h\r\n\r\n", DP_OK);
    assert_true(dp_slice_is(request.path, "/p"));
    expect_parse("GET http://host HTTP/1.1\r\nHost: h\r\n\r\n", DP_OK);
    assert_true(dp_slice_is(request.path, "/"));
    expect_parse("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", DP_OK);
}

/* What two servers could read in two ways, and what is no HTTP at all. */
static void test_malformed_requests(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "GET / HTTP/1.1\nHost: h\n\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n X: folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX(y): h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nnothing\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX: \x01\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
        "GET /\t HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /\xc3\xa4 HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /#a HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET x HTTP/1.1\r\nHost: h\r\n\r\n",
        "G\x01T / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /\r\nHost: h\r\n\r\n",
        "\x16\x03\x01 / \r\n\r\n",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        expect_parse(bad[i], DP_ERR_MALFORMED);
    expect_parse("PRI * HTTP/2.0\r\n\r\n", DP_ERR_UNSUPPORTED);
}

static void test_query(void **state)
{
    (void)state;
    char out[8];
    dp_slice q = {"a=1&b=x%2Fy+z&a=2&c&%61a=5&d=%zz%4&n=%00&long=12345678", 54};
    assert_true(dp_query_get(q, "a", out, sizeof(out)));
    assert_string_equal(out, "2");
    assert_true(dp_query_get(q, "b", out, sizeof(out)));
    assert_string_equal(out, "x/y z");
    assert_true(dp_query_get(q, "aa", out, sizeof(out)));
    assert_true(dp_query_get(q, "c", out, sizeof(out)));
    assert_string_equal(out, "");
    assert_true(dp_query_get(q, "d", out, sizeof(out)));
    assert_string_equal(out, "%zz%4");
    assert_false(dp_query_get(q, "n", out, sizeof(out)));
    assert_false(dp_query_get(q, "long", out, sizeof(out)));
    assert_false(dp_query_get(q, "e", out, sizeof(out)));
}

/* ---- the routes ---- */

static void get(stream *t, const char *line, const char *fields)
{
    char text[4096];
    snprintf(text, sizeof(text), "%s HTTP/1.1\r\nHost: h\r\n%s\r\n", line, fields);
    say(t, text);
}

#define OK200 "HTTP/1.1 200 OK\r\n"

static void test_routes(void **state)
{
    (void)state;
    stream t;
    dp_signal_server_config c = config();
    start(&c);
    assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK);
    get(&t, "GET /peerjs/id?ts=1", "Origin: https://page\r\n");
    expect_answer(&t,
                  OK200 "Access-Control-Allow-Origin: https://page\r\nVary: Origin\r\n"
                        "Content-Type: text/html; charset=utf-8\r\nContent-Length: 36\r\n",
                  "keep-alive\r\n\r\n08090a0b-0c0d-4e0f-9011-121314151617");
    get(&t, "GET /Any/ID/", "");
    expect_answer(&t, OK200 "Vary: Origin\r\n", "\r\n\r\n18191a1b");
    get(&t, "HEAD /peerjs/id", "");
    const char *text = answer(&t);
    assert_non_null(strstr(text, "Content-Length: 36\r\n"));
    assert_string_equal(strstr(text, "\r\n\r\n"), "\r\n\r\n");
    get(&t, "GET /", "");
    expect_answer(&t, OK200, "{\"name\":\"PeerJS Server\",\"description\":");
    get(&t, "GET /peerjs/peers", "");
    expect_answer(&t, "HTTP/1.1 401 Unauthorized\r\n", "\r\n\r\nUnauthorized");
    get(&t, "GET /healthz", "");
    expect_answer(&t, OK200, "\r\n\r\nok\n");
    static const char *const missing[] = {"GET /peerjs",     "GET /peerjs/id/x", "GET //id",
                                          "POST /peerjs/id", "DELETE /",         "GET /metrics",
                                          "GET /favicon.ico"};
    for (size_t i = 0; i < sizeof(missing) / sizeof(missing[0]); i++) {
        get(&t, missing[i], "");
        expect_answer(&t, "HTTP/1.1 404 Not Found\r\n", "nosniff");
        assert_non_null(t.conn);
    }
    get(&t, "OPTIONS /x", "Origin: o\r\nAccess-Control-Request-Headers: a, b\r\n");
    expect_answer(&t,
                  "HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Origin: o\r\n"
                  "Vary: Origin, Access-Control-Request-Headers\r\n"
                  "Access-Control-Allow-Methods: GET,HEAD,PUT,PATCH,POST,DELETE\r\n"
                  "Access-Control-Allow-Headers: a, b\r\n",
                  "");
    get(&t, "GET /", "Connection: close\r\n");
    expect_answer(&t, OK200, "Connection: close\r\n");
    assert_null(t.conn);
    end(&t);
}

static void test_mount_path(void **state)
{
    (void)state;
    stream t;
    dp_signal_server_config c = config();
    c.path = "/myapp/";
    start(&c);
    assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK);
    get(&t, "GET /myapp", "");
    expect_answer(&t, OK200, "PeerJS Server");
    get(&t, "GET /MYAPP/peerjs/id", "");
    expect_answer(&t, OK200, "36");
    static const char *const outside[] = {"GET /", "GET /peerjs/id", "GET /myapps", "GET /myappx/y/id"};
    for (size_t i = 0; i < 4; i++) {
        get(&t, outside[i], "Origin: o\r\n");
        expect_answer(&t, "HTTP/1.1 404 Not Found\r\nContent-Type", "");
    }
    end(&t);
    upgrade(&t, "/myapp/peerjs?key=peerjs&id=a&token=b");
    expect_upgraded(&t);
    expect_text(&t, "{\"type\":\"OPEN\"}");
    end(&t);
    upgrade(&t, "/peerjs?key=peerjs&id=a&token=b");
    expect_answer(&t, "HTTP/1.1 400 Bad Request\r\n", "close");
    end(&t);
}

static void test_discovery(void **state)
{
    (void)state;
    stream t, a, b;
    dp_signal_server_config c = config();
    c.allow_discovery = true;
    start(&c);
    assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK);
    get(&t, "GET /x/peers", "");
    expect_answer(&t, OK200, "\r\n\r\n[]");
    join(&a, "%22q%22", "1");
    get(&t, "GET /x/peers", "");
    expect_answer(&t, OK200, "\r\n\r\n[\"\\\"q\\\"\"]");
    join(&b, "bob", "1");
    get(&t, "GET /x/peers", "");
    expect_answer(&t, OK200, "\"bob\"");
    end(&a);
    end(&b);
    end(&t);
}

static int metrics_of;

/* As many as there may be. */
static size_t owners_metrics(void *ctx, dp_signal_metric *out, size_t capacity)
{
    assert_ptr_equal(ctx, &metrics_of);
    for (size_t i = 0; i < capacity; i++)
        out[i] = (dp_signal_metric){"stun_answered_total", "counter", "Requests answered.", UINT64_MAX - i};
    return capacity;
}

static void test_metrics_of_the_owner(void **state)
{
    (void)state;
    stream t;
    dp_signal_server_config c = config();
    c.metrics = true;
    c.more_metrics = owners_metrics;
    c.metrics_ctx = &metrics_of;
    start(&c);
    assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK);
    get(&t, "GET /metrics", "");
    expect_answer(&t, OK200,
                  "# HELP datapeer_stun_answered_total Requests answered.\n"
                  "# TYPE datapeer_stun_answered_total counter\n"
                  "datapeer_stun_answered_total 18446744073709551608\n");
    end(&t);
}

static void test_metrics_and_access_token(void **state)
{
    (void)state;
    stream t, a;
    dp_signal_server_config c = config();
    c.metrics = true;
    c.allow_discovery = true;
    c.access_token = "s3cret.";
    start(&c);
    assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK);
    static const char *const wrong[] = {"", "Authorization: Bearer s3cret\r\n",
                                        "Authorization: Bearer s3cretX\r\n", "Authorization: s3cret.\r\n"};
    for (size_t i = 0; i < 4; i++) {
        get(&t, "GET /metrics", wrong[i]);
        expect_answer(&t, "HTTP/1.1 401", "");
        get(&t, "GET /peerjs/peers", wrong[i]);
        expect_answer(&t, "HTTP/1.1 401", "");
    }
    join(&a, "a", "s3cret.x");
    get(&t, "GET /metrics", "Authorization: bearer s3cret.\r\n");
    expect_answer(&t, OK200, "# TYPE datapeer_signal_clients gauge\ndatapeer_signal_clients 1\n");
    get(&t, "GET /peerjs/peers", "Authorization: Bearer s3cret.\r\n");
    expect_answer(&t, OK200, "[\"a\"]");
    end(&a);
    static const char *const tokens[] = {"x", "s3cret.", "S3cret.x"};
    for (size_t i = 0; i < 3; i++) {
        char target[128];
        snprintf(target, sizeof(target), "/peerjs?key=peerjs&id=a&token=%s", tokens[i]);
        upgrade(&a, target);
        expect_upgraded(&a);
        expect_text(&a, "{\"type\":\"ERROR\",\"payload\":{\"msg\":\"Invalid token provided\"}}");
        expect_close(&a, 0);
        end(&a);
    }
    end(&t);
}

static bool find_file(void *ctx, const char *path, dp_signal_file *file)
{
    (void)ctx;
    if (strcmp(path, "/ä.html") == 0) {
        *file = (dp_signal_file){"<p>", 3, "text/html", "\"1\"", "default-src 'self'"};
        return true;
    }
    if (strcmp(path, "/bad") == 0) {
        static char csp[4096];
        memset(csp, 'x', sizeof(csp) - 1);
        *file = (dp_signal_file){"", 0, "text/html", NULL, csp};
        return true;
    }
    return false;
}

static void test_files(void **state)
{
    (void)state;
    stream t;
    dp_signal_server_config c = config();
    c.find_file = find_file;
    start(&c);
    assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK);
    get(&t, "GET /%C3%A4.html?x", "Origin: o\r\n");
    expect_answer(&t,
                  OK200 "ETag: \"1\"\r\nContent-Security-Policy: default-src 'self'\r\n"
                        "Cache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\n",
                  "Content-Type: text/html\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n<p>");
    get(&t, "GET /%C3%A4.html", "If-None-Match: \"0\" , W/\"1\"\r\n");
    const char *text = answer(&t);
    assert_memory_equal(text, "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n", 38);
    assert_null(strstr(text, "Content-Length"));
    get(&t, "GET /%C3%A4.html", "If-None-Match: *\r\n");
    expect_answer(&t, "HTTP/1.1 304 Not Modified\r\n", "");
    get(&t, "GET /%C3%A4.html", "If-None-Match: \"2\"\r\n");
    expect_answer(&t, OK200, "<p>");
    get(&t, "HEAD /%C3%A4.html", "");
    text = answer(&t);
    assert_memory_equal(text, OK200 "ETag: \"1\"\r\n", sizeof(OK200) - 1 + 11);
    assert_non_null(strstr(text, "Content-Length: 3\r\n"));
    assert_null(strstr(text, "<p>"));
    get(&t, "HEAD /%C3%A4.html", "If-None-Match: \"1\"\r\n");
    expect_answer(&t, "HTTP/1.1 304 Not Modified\r\n", "");
    get(&t, "POST /%C3%A4.html", "");
    expect_answer(&t, "HTTP/1.1 404", "");
    get(&t, "GET /%C3.html", "");
    expect_answer(&t, "HTTP/1.1 404", "");
    get(&t, "GET /peerjs/id", "");
    expect_answer(&t, OK200, "36");
    get(&t, "GET /bad", "");
    assert_null(t.conn);
    end(&t);
}

static stream *asked_about;

static bool allow_origin(void *user, const dp_address *remote, const char *origin)
{
    char ip[DP_ADDRESS_TEXT_MAX];
    asked_about = user;
    assert_string_equal(dp_address_format_ip(remote, ip), "192.0.2.1");
    return strcmp(origin, "http://nas:9000") == 0;
}

/* What the page of another site has a browser ask. */
static void test_origins(void **state)
{
    static const char *const requests[] = {"GET /peerjs/id", "GET /", "OPTIONS /peerjs/id", "POST /",
                                           "GET /peerjs?key=peerjs&id=a&token=t"};
    char endless[600] = "Origin: http://nas:9000";
    char line[1000];
    stream t;
    (void)state;
    dp_signal_server_config c = config();
    c.allow_origin = allow_origin;
    start(&c);
    memset(endless + strlen(endless), '0', 400);
    strcat(endless, "\r\n");
    const char *const foreign[] = {"Origin: https://page.example\r\n",
                                   "Origin: null\r\n",
                                   "Origin:\r\n",
                                   endless,
                                   "Origin: http://nas:9000\r\nOrigin: https://page.example\r\n",
                                   "Origin: http://nas:9000\r\nOrigin: http://nas:9000\r\n"};
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
        for (size_t k = 0; k < sizeof(foreign) / sizeof(foreign[0]); k++) {
            snprintf(line, sizeof(line), "%s%s", foreign[k],
                     i < 4 ? ""
                           : "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
            assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK);
            get(&t, requests[i], line);
            expect_answer(&t, "HTTP/1.1 403 Forbidden\r\n", "Connection: close\r\n");
            assert_null(t.conn);
            end(&t);
        }
    assert_int_equal(joined, 0);
    assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK);
    get(&t, "GET /peerjs/id", "Origin: http://nas:9000\r\n");
    expect_answer(&t, OK200, "Access-Control-Allow-Origin: http://nas:9000\r\n");
    assert_ptr_equal(asked_about, &t);
    get(&t, "GET /peerjs/id", ""); /* no browser's, or its own page's */
    expect_answer(&t, OK200, "");
    end(&t);
}

/* RFC 6455 §4.2.1 */
static void test_bad_upgrades(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"POST /peerjs?id=a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "405"},
        {"GET /peerjs HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
         "Sec-WebSocket-Version: 13\r\n\r\n",
         "400"},
        {"GET /peerjs HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ*==\r\nSec-WebSocket-Version: 13\r\n\r\n",
         "400"},
        {"GET /peerjs HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 12\r\n\r\n",
         "400"},
        {"GET /other HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
         "400"},
        {"GET /peerjs HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: "
         "9\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
         "400"},
        {"GET /peerjs HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\n\r\n", "404"},
    };
    stream t;
    dp_signal_server_config c = config();
    start(&c);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char begins[32];
        assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK);
        say(&t, bad[i][0]);
        snprintf(begins, sizeof(begins), "HTTP/1.1 %s ", bad[i][1]);
        expect_answer(&t, begins, i == 3 ? "Sec-WebSocket-Version: 13\r\n" : "Content-Length");
        end(&t);
    }
    assert_int_equal(joined, 0);
}

/* ---- hostile ---- */

static void test_garbage_is_answered_and_cut(void **state)
{
    (void)state;
    stream t;
    dp_signal_server_config c = config();
    start(&c);
    assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK);
    say(&t, "\x16\x03\x01\x02");
    say(&t, " \r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
    expect_answer(&t, "HTTP/1.1 400 Bad Request\r\n", "Connection: close\r\n");
    assert_null(t.conn);
    assert_int_equal(stats().requests, 0);
    end(&t);
    assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK);
    say(&t, "GET / HTTP/3.0\r\n\r\n");
    expect_answer(&t, "HTTP/1.1 505 ", "");
    end(&t);
}

/* Row 58: whatever trickles in, the head must be whole in 10 s. */
static void test_slow_head(void **state)
{
    (void)state;
    stream t;
    dp_signal_server_config c = config();
    start(&c);
    assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK);
    say(&t, "GET / HTTP/1.1\r\n");
    for (int i = 0; i < 9; i++) {
        pass(DP_SECONDS(1));
        say(&t, "X");
        assert_non_null(t.conn);
    }
    pass(DP_SECONDS(1));
    expect_answer(&t, "HTTP/1.1 408 Request Timeout\r\n", "close");
    assert_null(t.conn);
    end(&t);
    assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK); /* and one that says nothing */
    pass(DP_SECONDS(10));
    assert_null(t.conn);
    expect_silence(&t);
    end(&t);
}

/* Row 59. */
static void test_endless_head(void **state)
{
    (void)state;
    static char line[1024];
    stream t;
    memset(line, 'x', sizeof(line));
    memcpy(line, "X: ", 3);
    memcpy(line + sizeof(line) - 2, "\r\n", 2);
    dp_signal_server_config c = config();
    start(&c);
    assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK);
    say(&t, "GET / HTTP/1.1\r\nHost: h\r\n");
    for (int i = 0; i < 15; i++)
        input(&t, line, sizeof(line));
    assert_non_null(t.conn);
    expect_silence(&t);
    for (int i = 0; i < 1000; i++)
        input(&t, line, sizeof(line));
    expect_answer(&t, "HTTP/1.1 431 ", "close");
    assert_null(t.conn);
    end(&t);
    assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK); /* many fields, each of them short */
    say(&t, "GET / HTTP/1.1\r\nHost: h\r\n");
    for (int i = 0; i < 100; i++)
        say(&t, "X: y\r\n");
    say(&t, "\r\n");
    expect_answer(&t, "HTTP/1.1 431 ", "close");
    end(&t);
}

static void test_body_is_dropped(void **state)
{
    (void)state;
    stream t;
    dp_signal_server_config c = config();
    start(&c);
    assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK);
    say(&t,
        "POST /peerjs/id HTTP/1.1\r\nHost: h\r\nContent-Length: 30\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
    const char *text = answer(&t);
    assert_memory_equal(text, "HTTP/1.1 404", 12);
    assert_null(strstr(text + 12, "HTTP/1.1"));
    assert_non_null(t.conn); /* it can still read the answer */
    say(&t, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    expect_silence(&t);
    pass(DP_SECONDS(3));
    assert_null(t.conn);
    end(&t);
}

static void test_pipelining_and_pieces(void **state)
{
    (void)state;
    static const char two[] =
        "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\nGET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";
    stream t;
    dp_signal_server_config c = config();
    start(&c);
    for (size_t step = 1; step < sizeof(two); step += 11) {
        assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK);
        for (size_t at = 0; at < sizeof(two) - 1; at += step)
            input(&t, two + at, sizeof(two) - 1 - at < step ? sizeof(two) - 1 - at : step);
        const char *text = answer(&t);
        assert_non_null(strstr(strstr(text, "ok\n") + 3, "ok\n"));
        end(&t);
    }
}

static void test_request_flood(void **state)
{
    (void)state;
    stream t;
    dp_signal_server_config c = config();
    c.message_rate = 1;
    c.message_burst = 5;
    start(&c);
    assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK);
    for (int i = 0; i < 5; i++) {
        get(&t, "GET /healthz", "");
        expect_answer(&t, OK200, "ok");
    }
    get(&t, "GET /healthz", "");
    expect_answer(&t, "HTTP/1.1 429 ", "close");
    assert_null(t.conn);
    end(&t);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, stop)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_requests, clear),
        cmocka_unit_test_teardown(test_malformed_requests, clear),
        cmocka_unit_test(test_query),
        TEST(test_routes),
        TEST(test_mount_path),
        TEST(test_discovery),
        TEST(test_metrics_of_the_owner),
        TEST(test_metrics_and_access_token),
        TEST(test_files),
        TEST(test_origins),
        TEST(test_bad_upgrades),
        TEST(test_garbage_is_answered_and_cut),
        TEST(test_slow_head),
        TEST(test_endless_head),
        TEST(test_body_is_dropped),
        TEST(test_pipelining_and_pieces),
        TEST(test_request_flood),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
