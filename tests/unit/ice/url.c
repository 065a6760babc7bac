/* The URLs of STUN and TURN servers: RFC 7064 §3.3 and RFC 7065 §3.3 (their examples), and what is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <datapeer/ice.h>

#include <stdlib.h>
#include <string.h>

/* Parses an exact copy on the heap, so that ASan sees each byte too many. */
static int parse(dp_ice_url *url, const char *text)
{
    char *copy = strdup(text);
    int err = dp_ice_url_parse(url, copy);
    free(copy);
    return err;
}

static void good_ones(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        dp_ice_url url;
    } rows[] = {
        {"stun:example.org", {false, DP_ICE_UDP, "example.org", 3478}},
        {"stun:example.org:8000", {false, DP_ICE_UDP, "example.org", 8000}},
        {"STUN:192.0.2.1", {false, DP_ICE_UDP, "192.0.2.1", 3478}},
        {"stun:[2001:db8::1]", {false, DP_ICE_UDP, "2001:db8::1", 3478}},
        {"turn:example.org", {true, DP_ICE_UDP, "example.org", 3478}},
        {"turns:example.org", {true, DP_ICE_TLS, "example.org", 5349}},
        {"turn:example.org:8000", {true, DP_ICE_UDP, "example.org", 8000}},
        {"turn:example.org?transport=udp", {true, DP_ICE_UDP, "example.org", 3478}},
        {"turn:example.org?transport=tcp", {true, DP_ICE_TCP, "example.org", 3478}},
        {"Turns:example.org?Transport=TCP", {true, DP_ICE_TLS, "example.org", 5349}},
        {"turn:[2001:db8::1]:1?transport=tcp", {true, DP_ICE_TCP, "2001:db8::1", 1}},
        {"turns:[::ffff:192.0.2.1]:65535", {true, DP_ICE_TLS, "::ffff:192.0.2.1", 65535}},
        {"turn:a_b-c.d.:443", {true, DP_ICE_UDP, "a_b-c.d.", 443}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        dp_ice_url url;
        memset(&url, 0xAA, sizeof url);
        assert_int_equal(parse(&url, rows[i].text), DP_OK);
        assert_int_equal(url.turn, rows[i].url.turn);
        assert_int_equal(url.transport, rows[i].url.transport);
        assert_string_equal(url.host, rows[i].url.host);
        assert_int_equal(url.port, rows[i].url.port);
    }
}

static void bad_ones(void **state)
{
    (void)state;
    static const char *const malformed[] = {
        "",
        "turn",
        "example.org",
        "turn:",
        "turn::3478",
        "turn://example.org",
        "turn:example.org/",
        "turn:user@example.org",
        "turn:example.org:",
        "turn:example.org:0",
        "turn:example.org:65536",
        "turn:example.org:+1",
        "turn:example.org:1 ",
        "turn:example.org:1:2",
        "turn: example.org",
        "turn:example%2Eorg",
        "turn:ex\xC3\xA4mple.org",
        "turn:.example.org",
        "turn:example..org",
        "turn:2001:db8::1",
        "turn:[2001:db8::1",
        "turn:[2001:db8::1]x",
        "turn:[2001:db8::1]3478",
        "turn:[]",
        "turn:[192.0.2.1]",
        "turn:[fe80::1%25eth0]",
        "turn:[2001:db8::1::2]",
        "turn:example.org?",
        "turn:example.org?transport",
        "turn:example.org?transport=",
        "turn:example.org?transports=udp",
        "turn:example.org#x",
        "stun:example.org?transport=udp",
        "stun:example.org?",
    };
    static const char *const unsupported[] = {
        "http:example.org",
        "stuns:example.org",
        "turnx:example.org",
        ":example.org",
        "turn:example.org?transport=sctp",
        "turn:example.org?transport=udp&x=y",
        "turns:example.org?transport=udp",
    };
    dp_ice_url url;
    memset(&url, 0xAA, sizeof url);
    const dp_ice_url before = url;
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++)
        assert_int_equal(parse(&url, malformed[i]), DP_ERR_MALFORMED);
    for (size_t i = 0; i < sizeof unsupported / sizeof unsupported[0]; i++)
        assert_int_equal(parse(&url, unsupported[i]), DP_ERR_UNSUPPORTED);
    assert_memory_equal(&url, &before, sizeof url); /* untouched */
}

static void longest_host(void **state)
{
    (void)state;
    char text[5 + DP_ICE_HOST_MAX + 2] = "turn:";
    dp_ice_url url;
    memset(text + 5, 'a', DP_ICE_HOST_MAX);
    assert_int_equal(parse(&url, text), DP_OK);
    assert_int_equal(strlen(url.host), DP_ICE_HOST_MAX);
    text[5 + DP_ICE_HOST_MAX] = 'a';
    assert_int_equal(parse(&url, text), DP_ERR_MALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_ones),
        cmocka_unit_test(bad_ones),
        cmocka_unit_test(longest_host),
    };
    return cmocka_run_group_tests_name("ice/url", tests, NULL, NULL);
}
