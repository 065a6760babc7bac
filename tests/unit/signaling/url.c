#include "signaling/url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_ids_that_a_client_chooses(void **state)
{
    (void)state;
    assert_true(dp_peer_id_valid("a"));
    assert_true(dp_peer_id_valid("359960f1-6e8d-49a7-868c-cb9291dce39b"));
    assert_true(dp_peer_id_valid("my disk_2 b"));
    static const char *const bad[] = {"",    "-a",  "a-",   "a--b",     "a- b", "_a", "a ",
                                      "a.b", "a/b", "a\nb", "\xc3\xa9", "a\tb", "a_", " "};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(dp_peer_id_valid(bad[i]));
    char longest[DP_PEER_ID_MAX + 2];
    memset(longest, 'x', sizeof(longest));
    longest[DP_PEER_ID_MAX + 1] = '\0';
    assert_false(dp_peer_id_valid(longest));
    longest[DP_PEER_ID_MAX] = '\0';
    assert_true(dp_peer_id_valid(longest));
}

/* Row 67. */
static void test_ids_of_others(void **state)
{
    (void)state;
    assert_true(dp_peer_id_harmless((dp_slice){"--\xc3\xa9--", 6}));
    assert_false(dp_peer_id_harmless((dp_slice){"", 0}));
    assert_false(dp_peer_id_harmless((dp_slice){"a\0b", 3}));
    assert_false(dp_peer_id_harmless((dp_slice){"a\x1b[1m", 5}));
    assert_false(dp_peer_id_harmless((dp_slice){"a\x7f", 2}));
    assert_false(dp_peer_id_harmless((dp_slice){"a\xff", 2}));
    char longer[DP_PEER_ID_MAX + 1];
    memset(longer, 'x', sizeof(longer));
    assert_false(dp_peer_id_harmless((dp_slice){longer, sizeof(longer)}));
    assert_true(dp_peer_id_harmless((dp_slice){longer, sizeof(longer) - 1}));
}

static void test_urls(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *host;
        unsigned port;
        bool secure;
        const char *path;
    } good[] = {
        {"ws://example.org", "example.org", 80, false, "/"},
        {"wss://example.org", "example.org", 443, true, "/"},
        {"HTTP://example.org:8000/", "example.org", 8000, false, "/"},
        {"https://example.org/my%20app/x", "example.org", 443, true, "/my%20app/x/"},
        {"ws://127.0.0.1:9123/myapp/", "127.0.0.1", 9123, false, "/myapp/"},
        {"ws://[2001:db8::1]:9000/", "2001:db8::1", 9000, false, "/"},
        {"[::1]", "::1", 9000, false, "/"},
        {"localhost", "localhost", 9000, false, "/"},
        {"my-host_1:65535/p", "my-host_1", 65535, false, "/p/"},
    };
    dp_server_url url;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(dp_server_url_parse(&url, good[i].text), DP_OK);
        assert_string_equal(url.host, good[i].host);
        assert_int_equal(url.port, good[i].port);
        assert_int_equal(url.secure, good[i].secure);
        assert_string_equal(url.path, good[i].path);
    }
    static const char *const bad[] = {
        "",           "ws://",     "ftp://h/",     "ws://h:0/",        "ws://h:65536/", "ws://h:/",
        "ws://h:8x/", "ws://u@h/", "ws://h/?a=b",  "ws://h/#a",        "ws://h/a b",    "ws://h/\r\nX: y",
        "ws://h\r/",  "ws://[::1", "ws://[::1]x/", "ws://[127.0.0.1]", "ws://[]/",      "ws://h/\xc3\xa9",
        "ws:///path", "://h",      "h:1:2",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(dp_server_url_parse(&url, bad[i]), DP_ERR_MALFORMED);

    char text[600];
    memset(text, 'h', sizeof(text));
    text[256] = '\0';
    assert_int_equal(dp_server_url_parse(&url, text), DP_ERR_MALFORMED);
    text[255] = '\0';
    assert_int_equal(dp_server_url_parse(&url, text), DP_OK);
    text[1] = '/';
    text[255] = 'h';
    text[256] = '\0'; /* "h/" and 254 characters: with both slashes and the NUL one too many */
    assert_int_equal(dp_server_url_parse(&url, text), DP_ERR_MALFORMED);
    text[255] = '\0';
    assert_int_equal(dp_server_url_parse(&url, text), DP_OK);
}

static void test_writing(void **state)
{
    (void)state;
    uint8_t out[64] = {0};
    dp_wr wr = dp_wr_init(out, sizeof(out));
    dp_url_write_escaped(&wr, "aZ9-._~ /?&=%\r\n\xc3\xa9");
    assert_false(wr.error);
    assert_string_equal((char *)out, "aZ9-._~%20%2F%3F%26%3D%25%0D%0A%C3%A9");

    static const char *const hosts[][2] = {{"ws://h", "h"},
                                           {"wss://h:443", "h"},
                                           {"wss://h:80", "h:80"},
                                           {"h", "h:9000"},
                                           {"http://[::1]:81", "[::1]:81"},
                                           {"http://[::1]", "[::1]"}};
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        dp_server_url url;
        memset(out, 0, sizeof(out));
        wr = dp_wr_init(out, sizeof(out));
        assert_int_equal(dp_server_url_parse(&url, hosts[i][0]), DP_OK);
        dp_url_write_host(&wr, &url);
        assert_string_equal((char *)out, hosts[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids_that_a_client_chooses),
        cmocka_unit_test(test_ids_of_others),
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_writing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
