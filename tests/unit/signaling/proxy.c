/* HTTP proxies: their URLs, for whom they are not, and what they answer to CONNECT. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include <datapeer/signaling.h>

static void test_urls(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        int error;
        const char *host;
        uint16_t port;
        const char *credentials;
    } cases[] = {
        {"http://proxy.example:3128", DP_OK, "proxy.example", 3128, ""},
        {"HTTP://proxy.example:3128/", DP_OK, "proxy.example", 3128, ""},
        {"proxy.example", DP_OK, "proxy.example", 1080, ""},
        {"http://[2001:db8::1]:8080", DP_OK, "2001:db8::1", 8080, ""},
        {"http://alice:secret@proxy:1", DP_OK, "proxy", 1, "alice:secret"},
        {"alice@proxy:1", DP_OK, "proxy", 1, "alice:"},
        {"http://alice:p@ss:word@proxy:1", DP_OK, "proxy", 1, "alice:p@ss:word"},
        {"http://%61lice:%2f%C3%a9%3A@proxy:1", DP_OK, "proxy", 1, "alice:/\xc3\xa9:"},
        {"http://a%3ab:secret@proxy", DP_ERR_MALFORMED, NULL, 0, NULL},
        {"http://a:b%0d%0aX@proxy", DP_ERR_MALFORMED, NULL, 0, NULL},
        {"http://a:b%00@proxy", DP_ERR_MALFORMED, NULL, 0, NULL},
        {"http://a:b\r\nX@proxy", DP_ERR_MALFORMED, NULL, 0, NULL},
        {"http://a:b%4@proxy", DP_ERR_MALFORMED, NULL, 0, NULL},
        {"http://a:b%zz@proxy", DP_ERR_MALFORMED, NULL, 0, NULL},
        {"http://proxy:0", DP_ERR_MALFORMED, NULL, 0, NULL},
        {"http://proxy:65536", DP_ERR_MALFORMED, NULL, 0, NULL},
        {"http://proxy/path", DP_ERR_MALFORMED, NULL, 0, NULL},
        {"http://", DP_ERR_MALFORMED, NULL, 0, NULL},
        {"", DP_ERR_MALFORMED, NULL, 0, NULL},
        {"http://pro xy", DP_ERR_MALFORMED, NULL, 0, NULL},
        {"https://proxy", DP_ERR_UNSUPPORTED, NULL, 0, NULL},
        {"socks5h://proxy", DP_ERR_UNSUPPORTED, NULL, 0, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        dp_proxy proxy;
        int error = dp_proxy_parse(&proxy, cases[i].url);
        if (error != cases[i].error)
            fail_msg("%s: %d", cases[i].url, error);
        if (error != DP_OK)
            continue;
        assert_string_equal(proxy.host, cases[i].host);
        assert_int_equal(proxy.port, cases[i].port);
        assert_string_equal(proxy.credentials, cases[i].credentials);
    }
    char url[600] = "http://u:";
    memset(url + 9, 'x', 253);
    strcpy(url + 9 + 253, "@proxy");
    dp_proxy proxy;
    assert_int_equal(dp_proxy_parse(&proxy, url), DP_OK); /* 255 and the NUL */
    strcpy(url + 9 + 253, "x@proxy");
    assert_int_equal(dp_proxy_parse(&proxy, url), DP_ERR_MALFORMED);
}

static void test_no_proxy(void **state)
{
    (void)state;
    static const struct {
        const char *list;
        const char *host;
        bool expected;
    } cases[] = {
        {"*", "anything.example", true},
        {"a, *", "192.0.2.1", true},
        {"", "x", false},
        {" , ,", "x", false},
        {".", "x", false},
        {"example.org", "example.org", true},
        {"example.org", "EXAMPLE.org", true},
        {"example.org", "peers.example.org", true},
        {".example.org", "peers.example.org", true},
        {".example.org", "example.org", true},
        {"example.org.", "peers.example.org", true},
        {"example.org", "peers.example.org.", true},
        {"example.org", "badexample.org", false},
        {"example.org", "example.org.evil", false},
        {"peers.example.org", "example.org", false},
        {"*.example.org", "peers.example.org", false}, /* as curl: no patterns */
        {"a,b c\td", "d", true},
        {"a,b c\td", "c", true},
        {"192.0.2.1", "192.0.2.1", true},
        {"192.0.2.1", "192.0.2.10", false},
        {"2.1", "192.0.2.1", false}, /* no suffix of an address */
        {"192.0.2.0/24", "192.0.2.255", true},
        {"192.0.2.0/24", "192.0.3.0", false},
        {"192.0.2.128/25", "192.0.2.127", false},
        {"192.0.2.128/25", "192.0.2.129", true},
        {"0.0.0.0/0", "203.0.113.7", true},
        {"0.0.0.0/0", "2001:db8::1", false},
        {"192.0.2.0/33", "192.0.2.0", false},
        {"192.0.2.0/x", "192.0.2.0", false},
        {"192.0.2.1/32", "192.0.2.1", true},
        {"192.0.2.1/32", "192.0.2.0", false},
        {"2001:db8::/32", "2001:db8:ffff::1", true},
        {"2001:db8::/32", "2001:db9::", false},
        {"[::1]", "::1", true},
        {"::1", "0:0:0:0:0:0:0:1", true},
        {"192.0.2.0/24", "host.192.0.2.0", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (dp_no_proxy(cases[i].list, cases[i].host) != cases[i].expected)
            fail_msg("%s and %s", cases[i].list, cases[i].host);
}

static dp_tunnel *tunnel_to(const char *url, const char *host, uint16_t port)
{
    dp_proxy proxy;
    dp_tunnel *t;
    assert_int_equal(dp_proxy_parse(&proxy, url), DP_OK);
    assert_int_equal(dp_tunnel_new(&t, &proxy, host, port), DP_OK);
    return t;
}

static void test_requests(void **state)
{
    (void)state;
    static const struct {
        const char *proxy, *host, *request;
    } cases[] = {
        {"http://p", "peers.example",
         "CONNECT peers.example:443 HTTP/1.1\r\nHost: peers.example:443\r\n\r\n"},
        {"http://Aladdin:open%20sesame@p", "2001:db8::1", /* RFC 7617 §2 */
         "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n"
         "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"},
    };
    for (size_t i = 0; i < 2; i++) {
        dp_tunnel *t = tunnel_to(cases[i].proxy, cases[i].host, 443);
        size_t len;
        const uint8_t *request = dp_tunnel_request(t, &len);
        assert_int_equal(len, strlen(cases[i].request));
        assert_memory_equal(request, cases[i].request, len);
        dp_tunnel_free(t);
    }
    /* The longest of everything fits. */
    dp_proxy proxy = {.port = 65535};
    char host[256];
    memset(host, 'h', 255);
    host[255] = '\0';
    memset(proxy.host, 'p', 255);
    memset(proxy.credentials, 'c', 255);
    dp_tunnel *t;
    assert_int_equal(dp_tunnel_new(&t, &proxy, host, 65535), DP_OK);
    assert_int_equal(dp_tunnel_input(t, (const uint8_t *)"HTTP/1.1 403 \r\n\r\n", 17), DP_ERR_REMOTE);
    assert_non_null(strstr(dp_tunnel_reason(t), "h:65535 (HTTP status 403)"));
    dp_tunnel_free(t);
}

static void test_answers(void **state)
{
    (void)state;
    static const struct {
        const char *answer;
        int error;
        const char *reason;
    } cases[] = {
        {"HTTP/1.1 200 Connection established\r\n\r\n", DP_OK, ""},
        {"HTTP/1.0 200\r\n\r\n", DP_OK, ""},
        /* RFC 9110 §9.3.6: any 2xx, and these two mean nothing in it. */
        {"HTTP/1.1 204 x\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n", DP_OK, ""},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", DP_OK, ""},
        {"HTTP/1.1 200 OK\r\n\r\nx", DP_ERR_PROTOCOL, "the proxy p:1080 sends bytes of its own"},
        {"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"a, b\"\r\n\r\n", DP_ERR_REMOTE,
         "the proxy p:1080 wants a user name and a password (HTTP status 407)"},
        {"HTTP/1.1 407 x\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate, basic\r\n\r\n",
         DP_ERR_REMOTE, "the proxy p:1080 wants a user name and a password (HTTP status 407)"},
        {"HTTP/1.1 407 x\r\nProxy-Authenticate: NTLM\r\nX: Basic\r\n\r\n", DP_ERR_REMOTE,
         "the proxy p:1080 wants a kind of login that is not known here (only Basic is) (HTTP status 407)"},
        {"HTTP/1.1 403 no\r\n\r\n", DP_ERR_REMOTE,
         "the proxy p:1080 does not let us connect to peers.example:443 (HTTP status 403)"},
        {"HTTP/1.1 502 no\r\n\r\n", DP_ERR_REMOTE,
         "the proxy p:1080 can't reach peers.example:443 (HTTP status 502)"},
        {"HTTP/1.1 101 Switching\r\n\r\n", DP_ERR_REMOTE,
         "the proxy p:1080 refuses to connect to peers.example:443 (HTTP status 101)"},
        {"HTTP/1.1 302 \x1b[2J\r\nLocation: http://evil/\r\n\r\n", DP_ERR_REMOTE,
         "the proxy p:1080 refuses to connect to peers.example:443 (HTTP status 302)"},
        {"SSH-2.0-x\r\n\r\n", DP_ERR_MALFORMED, "the answer of the proxy p:1080 is not HTTP"},
        {"HTTP/1.1 200 OK\r\nbad field\r\n\r\n", DP_ERR_MALFORMED,
         "the answer of the proxy p:1080 is not HTTP"},
        {"HTTP/1.1 200 OK\r\n", DP_ERR_WOULD_BLOCK, ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int bytewise = 0; bytewise < 2; bytewise++) {
            dp_tunnel *t = tunnel_to("http://p", "peers.example", 443);
            const uint8_t *answer = (const uint8_t *)cases[i].answer;
            size_t len = strlen(cases[i].answer);
            int error = DP_ERR_WOULD_BLOCK;
            if (!bytewise)
                error = dp_tunnel_input(t, answer, len);
            for (size_t j = 0; bytewise && j < len && error == DP_ERR_WOULD_BLOCK; j++)
                error = dp_tunnel_input(t, answer + j, 1);
            /* A byte behind the head that comes by itself is for who reads the stream then. */
            if (!(bytewise && cases[i].error == DP_ERR_PROTOCOL)) {
                assert_int_equal(error, cases[i].error);
                assert_string_equal(dp_tunnel_reason(t), cases[i].reason);
            }
            dp_tunnel_free(t);
        }
    }
    dp_tunnel *t = tunnel_to("http://a:secret@p", "peers.example", 443);
    static const char again[] = "HTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\n\r\n";
    assert_int_equal(dp_tunnel_input(t, (const uint8_t *)again, sizeof(again) - 1), DP_ERR_REMOTE);
    assert_string_equal(dp_tunnel_reason(t), "the proxy p:1080 does not take this user name and password "
                                             "(HTTP status 407)");
    dp_tunnel_free(t);
}

/* A head without end, in one line, in fields, in interim answers: 16 KiB are read, and no more kept. */
static void test_endless_answers(void **state)
{
    (void)state;
    static const char *const parts[] = {"HTTP/1.1 200 aaaaaaaaaaaaaaaa", "X: y\r\n",
                                        "HTTP/1.1 100 Continue\r\n\r\n"};
    static const char *const first[] = {"", "HTTP/1.1 200 OK\r\n", ""};
    for (size_t i = 0; i < 3; i++) {
        dp_tunnel *t = tunnel_to("http://p", "peers.example", 443);
        size_t sent = strlen(first[i]);
        int error = dp_tunnel_input(t, (const uint8_t *)first[i], sent);
        while (error == DP_ERR_WOULD_BLOCK && sent < 100000) {
            error = dp_tunnel_input(t, (const uint8_t *)parts[i], strlen(parts[i]));
            sent += strlen(parts[i]);
        }
        assert_int_equal(error, DP_ERR_TOO_LARGE);
        assert_true(sent < 17000);
        assert_string_equal(dp_tunnel_reason(t), "the answer of the proxy p:1080 is too long");
        dp_tunnel_free(t);
    }
}

static long fail_at, allocations;
static void *failing_alloc(void *ctx, size_t size)
{
    (void)ctx;
    return ++allocations >= fail_at ? NULL : malloc(size);
}
static void *failing_realloc(void *ctx, void *old, size_t size)
{
    (void)ctx;
    return ++allocations >= fail_at ? NULL : realloc(old, size);
}
static void plain_free(void *ctx, void *block)
{
    (void)ctx;
    free(block);
}

static void test_without_memory(void **state)
{
    (void)state;
    static const dp_allocator failing = {failing_alloc, failing_realloc, plain_free, NULL};
    static const char answer[] = "HTTP/1.1 200 OK\r\n\r\n";
    dp_proxy proxy;
    assert_int_equal(dp_proxy_parse(&proxy, "p"), DP_OK);
    int error = DP_ERR_NO_MEMORY;
    for (fail_at = 1; error == DP_ERR_NO_MEMORY; fail_at++) {
        dp_tunnel *t;
        allocations = 0;
        dp_set_allocator(&failing);
        error = dp_tunnel_new(&t, &proxy, "h", 1);
        if (error == DP_OK) {
            error = dp_tunnel_input(t, (const uint8_t *)answer, sizeof(answer) - 1);
            assert_string_equal(dp_tunnel_reason(t), "");
            dp_tunnel_free(t);
        }
        dp_set_allocator(NULL);
    }
    assert_int_equal(error, DP_OK);
    assert_true(fail_at > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_no_proxy),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_endless_answers),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests_name("signaling/proxy", tests, NULL, NULL);
}
