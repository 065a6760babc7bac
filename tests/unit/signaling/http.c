#include "signaling/http.h"
#include "signaling/handshake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static dp_http http;

/* Feeds text in pieces of `step` bytes; the result of the last call, and what is left over. */
static int feed(const char *text, size_t step, bool head_only, size_t *left)
{
    size_t len = strlen(text);
    int result = DP_ERR_WOULD_BLOCK;
    dp_http_clear(&http);
    dp_http_init(&http, head_only);
    while (len > 0 && result == DP_ERR_WOULD_BLOCK) {
        size_t n = len < step ? len : step;
        uint8_t *exact = malloc(n);
        assert_non_null(exact);
        memcpy(exact, text, n);
        const uint8_t *at = exact;
        size_t rest = n;
        result = dp_http_input(&http, &at, &rest);
        free(exact);
        text += n - rest;
        len -= n - rest;
    }
    if (left != NULL)
        *left = len;
    return result;
}

static void expect(const char *text, int result)
{
    for (size_t step = 1; step <= 7; step += 3) {
        int got = feed(text, step, false, NULL);
        if (got != result)
            fail_msg("%s instead of %s: %s", dp_strerror(got), dp_strerror(result), text);
    }
}

static void assert_body(const char *body)
{
    assert_int_equal(http.body_len, strlen(body));
    assert_memory_equal(http.body, body, http.body_len);
}

static void test_bodies(void **state)
{
    (void)state;
    expect("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", DP_OK);
    assert_int_equal(http.status, 200);
    assert_body("abc");
    expect("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", DP_ERR_WOULD_BLOCK);
    assert_int_equal(dp_http_end(&http), DP_ERR_TRUNCATED);
    expect("HTTP/1.1 200\ncontent-length:0\n\n", DP_OK);
    expect("HTTP/1.0 200 OK\r\n\r\nabc", DP_ERR_WOULD_BLOCK);
    assert_int_equal(dp_http_end(&http), DP_OK);
    assert_body("abc");
    expect("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", DP_OK);
    expect("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", DP_OK);
    assert_int_equal(http.status, 200);
    assert_body("x");
}

static void test_chunked(void **state)
{
    (void)state;
    expect(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0A;x=y\r\n0123456789\r\n0\r\n\r\n",
        DP_OK);
    assert_body("abc0123456789");
    expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nTrailer: with a long long "
           "long value\r\n\r\n",
           DP_OK);
    assert_body("a");
    expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", DP_ERR_WOULD_BLOCK);
    expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", DP_ERR_MALFORMED);
    expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", DP_ERR_MALFORMED);
    expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", DP_ERR_MALFORMED);
    expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n", DP_ERR_MALFORMED);
    expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", DP_ERR_UNSUPPORTED);
}

static void test_bounds(void **state)
{
    (void)state;
    expect("HTTP/1.1 200 OK\r\nContent-Length: 1025\r\n\r\n", DP_ERR_TOO_LARGE);
    expect("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", DP_ERR_MALFORMED);
    char *text = malloc(3 * HTTP_HEAD_MAX);
    assert_non_null(text);
    size_t n = (size_t)sprintf(text, "HTTP/1.1 200 OK\r\n");
    while (n < 2 * HTTP_HEAD_MAX)
        n += (size_t)sprintf(text + n, "X-Filler: %zu\r\n", n);
    expect(text, DP_ERR_TOO_LARGE);
    assert_true(http.head_len <= HTTP_HEAD_MAX);
    for (n = 0; n < 2 * HTTP_HEAD_MAX;) /* interim responses without end */
        n += (size_t)sprintf(text + n, "HTTP/1.1 103 Early Hints\r\n\r\n");
    expect(text, DP_ERR_TOO_LARGE);
    n = (size_t)sprintf(text, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;");
    memset(text + n, 'x', 2 * HTTP_HEAD_MAX);
    text[n + 2 * HTTP_HEAD_MAX] = '\0';
    expect(text, DP_ERR_TOO_LARGE);
    n = (size_t)sprintf(text, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n");
    memset(text + n, 'x', HTTP_BODY_MAX + 1);
    text[n + HTTP_BODY_MAX + 1] = '\0';
    expect(text, DP_ERR_TOO_LARGE);
    n = (size_t)sprintf(text, "HTTP/1.0 200 OK\r\n\r\n");
    memset(text + n, 'x', HTTP_BODY_MAX + 1);
    text[n + HTTP_BODY_MAX + 1] = '\0';
    expect(text, DP_ERR_TOO_LARGE);
    free(text);
}

static void test_malformed_heads(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "HTTP/2 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 600 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nNo colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\x01\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
        "\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        expect(bad[i], DP_ERR_MALFORMED);
}

/* ---- the WebSocket handshake ---- */

#define KEY    "dGhlIHNhbXBsZSBub25jZQ==" /* RFC 6455 §1.3 */
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

static void test_accept_of_the_rfc(void **state)
{
    (void)state;
    char accept[WS_ACCEPT_LEN + 1];
    assert_int_equal(dp_ws_accept(accept, KEY), DP_OK);
    assert_string_equal(accept, ACCEPT);
}

static int check(const char *head)
{
    const char *reason = NULL;
    size_t left;
    assert_int_equal(feed(head, 5, true, &left), DP_OK);
    int error = dp_ws_check_response(&http, KEY, &reason);
    assert_int_equal(error == DP_OK, reason == NULL);
    return error;
}

/* Row 65. */
static void test_upgrade_answers(void **state)
{
    (void)state;
    assert_int_equal(
        check("HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\n"
              "Sec-WebSocket-Accept:  " ACCEPT " \r\n\r\nfollows"),
        DP_OK);
    static const char *const bad[] = {
        "HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " ACCEPT
        "\r\n\r\n",
        "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " ACCEPT "\r\n\r\n",
        "HTTP/1.1 101 S\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " ACCEPT "\r\n\r\n",
        "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: close\r\nSec-WebSocket-Accept: " ACCEPT
        "\r\n\r\n",
        "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        "S3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " ACCEPT
        "\r\nSec-WebSocket-Accept: " ACCEPT "\r\n\r\n",
        "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " ACCEPT
        "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " ACCEPT
        "\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(check(bad[i]), DP_ERR_PROTOCOL);
}

static void test_head_only_leaves_the_rest(void **state)
{
    (void)state;
    for (size_t step = 1; step < 60; step++) {
        size_t left;
        assert_int_equal(feed("HTTP/1.1 101 S\r\nContent-Length: 9\r\n\r\n\x81\x01", step, true, &left),
                         DP_OK);
        assert_int_equal(left, 2);
    }
}

static int clear(void **state)
{
    (void)state;
    dp_http_clear(&http);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_chunked),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_malformed_heads),
        cmocka_unit_test(test_accept_of_the_rfc),
        cmocka_unit_test(test_upgrade_answers),
        cmocka_unit_test(test_head_only_leaves_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, clear);
}
