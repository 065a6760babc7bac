/* Candidate lines (RFC 8839 §5.1), priorities and addresses (RFC 8445 §5.1.2, §6.1.2.3). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ice/candidate.h"

#include <stdlib.h>
#include <string.h>

static int parse(dp_candidate *c, const char *text)
{
    size_t len = strlen(text);
    char *exact = malloc(len > 0 ? len : 1); /* no NUL: ASan sees a read past the end */
    memcpy(exact, text, len);
    int err = dp_candidate_parse(c, exact, len);
    free(exact);
    return err;
}

static void chromium_mdns(void **state)
{
    (void)state;
    dp_candidate c;
    assert_int_equal(
        parse(&c,
              "candidate:1317094505 1 udp 2113937151 effba5fa-0000-4000-8000-a41a96797d1a.local 36731 typ "
              "host generation 0 ufrag pD+/ network-cost 999"),
        DP_OK);
    assert_int_equal(c.type, DP_CANDIDATE_HOST);
    assert_string_equal(c.foundation, "1317094505");
    assert_int_equal(c.component, 1);
    assert_false(c.tcp);
    assert_int_equal(c.priority, 2113937151);
    assert_string_equal(c.hostname, "effba5fa-0000-4000-8000-a41a96797d1a.local");
    assert_int_equal(c.address.family, DP_FAMILY_NONE);
    assert_int_equal(c.address.port, 36731);
    assert_string_equal(c.ufrag, "pD+/");
}

static void rfc_example(void **state)
{
    (void)state;
    dp_candidate c;
    char text[DP_ADDRESS_TEXT_MAX];
    assert_int_equal(
        parse(&c,
              "a=candidate:2 1 UDP 1694498815 192.0.2.3 45664 typ srflx raddr 203.0.113.141 rport 8998\r\n"),
        DP_OK);
    assert_int_equal(c.type, DP_CANDIDATE_SRFLX);
    assert_string_equal(dp_address_format(&c.address, text), "192.0.2.3:45664");
    assert_string_equal(dp_address_format(&c.related, text), "203.0.113.141:8998");
    assert_int_equal(
        parse(&c, "candidate:x 2 tcp 1 2001:db8::1 9 typ relay raddr hidden.local rport 7 tcptype active"),
        DP_OK);
    assert_true(c.tcp);
    assert_int_equal(c.component, 2);
    assert_string_equal(dp_address_format(&c.address, text), "[2001:db8::1]:9");
    assert_int_equal(c.related.family, DP_FAMILY_NONE);
    assert_int_equal(c.related.port, 7);
    assert_int_equal(parse(&c, "candidate:x  1 udp 1 10.0.0.1 0 typ  prflx "), DP_OK); /* extra spaces */
}

static void round_trips(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "candidate:1 1 udp 2130706431 10.0.0.1 1000 typ host ufrag abcd",
        "candidate:a+/9 256 tcp 4294967295 2001:db8::5 65535 typ relay raddr 10.1.2.3 rport 99",
        "candidate:7 1 udp 1 x.local 5 typ host",
        "candidate:12345678901234567890123456789012 1 udp 1 1.2.3.4 0 typ prflx rport 4",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        dp_candidate c;
        char out[DP_CANDIDATE_TEXT_MAX];
        assert_int_equal(parse(&c, lines[i]), DP_OK);
        assert_int_equal(dp_candidate_format(&c, out, sizeof out), DP_OK);
        assert_string_equal(out, lines[i]);
        for (size_t n = 0; n <= strlen(lines[i]); n++) {
            char *small = malloc(n > 0 ? n : 1);
            assert_int_equal(dp_candidate_format(&c, small, n), DP_ERR_NO_SPACE);
            free(small);
        }
    }
}

static void longest_line_fits(void **state)
{
    (void)state;
    dp_candidate c = {.type = DP_CANDIDATE_RELAY, .component = 256, .priority = UINT32_MAX};
    char out[DP_CANDIDATE_TEXT_MAX];
    memset(c.foundation, 'f', sizeof c.foundation - 1);
    memset(c.hostname, 'h', sizeof c.hostname - 1);
    memset(c.ufrag, 'u', sizeof c.ufrag - 1);
    c.address.port = 65535;
    c.related = (dp_address){.family = DP_FAMILY_IPV6, .port = 65535, .scope = 7};
    memset(c.related.ip, 0xEE, 16);
    assert_int_equal(dp_candidate_format(&c, out, sizeof out), DP_OK);
    assert_null(strchr(out, '%')); /* a zone stays at home */
}

static void malformed_lines(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "",
        "a=",
        "candidate:",
        "candidat:1 1 udp 1 1.2.3.4 5 typ host",
        "candidate: 1 udp 1 1.2.3.4 5 typ host",
        "candidate:1_ 1 udp 1 1.2.3.4 5 typ host",
        "candidate:123456789012345678901234567890123 1 udp 1 1.2.3.4 5 typ host",
        "candidate:1 0 udp 1 1.2.3.4 5 typ host",
        "candidate:1 257 udp 1 1.2.3.4 5 typ host",
        "candidate:1 1 udp 0 1.2.3.4 5 typ host",
        "candidate:1 1 udp 4294967296 1.2.3.4 5 typ host",
        "candidate:1 1 udp -1 1.2.3.4 5 typ host",
        "candidate:1 1 udp 1 1.2.3.4 65536 typ host",
        "candidate:1 1 udp 1 1.2.3.4 5 type host",
        "candidate:1 1 udp 1 1.2.3.4 5 typ",
        "candidate:1 1 udp 1 1.2.3.4 5",
        "candidate:1 1 udp 1 1.2.3.4",
        "candidate:1 1 udp 1",
        "candidate:1 1 udp",
        "candidate:1 1",
        "candidate:1",
        "candidate:1 1 udp 1 1:2:3 5 typ host",
        "candidate:1 1 udp 1 fe80::1%eth0 5 typ host",
        "candidate:1 1 udp 1 a!b 5 typ host",
        "candidate:1 1 udp 1 1.2.3.4 5 typ host lonely",
        "candidate:1 1 udp 1 1.2.3.4 5 typ host rport x",
        "candidate:1 1 udp 1 1.2.3.4 5 typ host rport 65536",
        "candidate:1 1 udp 1 1.2.3.4 5 typ host ufrag a*b",
        "candidate:1 1 udp 1 1.2.3.4 5 typ host\nx",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        dp_candidate c;
        if (parse(&c, lines[i]) != DP_ERR_MALFORMED)
            fail_msg("accepted: %s", lines[i]);
    }
    dp_candidate c;
    assert_int_equal(dp_candidate_parse(&c, "candidate:1 1 udp 1 a\0b 5 typ host", 34), DP_ERR_MALFORMED);
    char long_name[400] = "candidate:1 1 udp 1 ";
    memset(long_name + 20, 'a', 256);
    memcpy(long_name + 276, " 5 typ host", 12);
    assert_int_equal(parse(&c, long_name), DP_ERR_MALFORMED);
    memmove(long_name + 275, long_name + 276, 12);
    assert_int_equal(parse(&c, long_name), DP_OK);
}

static void unsupported_lines(void **state)
{
    (void)state;
    dp_candidate c;
    assert_int_equal(parse(&c, "candidate:1 1 ssltcp 1 1.2.3.4 5 typ host"), DP_ERR_UNSUPPORTED);
    assert_int_equal(parse(&c, "candidate:1 1 udp 1 1.2.3.4 5 typ carrier-pigeon"), DP_ERR_UNSUPPORTED);
}

static void priorities(void **state)
{
    (void)state;
    /* RFC 8445 §5.1.2.1: 2^24 * type + 2^8 * local + (256 - component) */
    assert_int_equal(dp_candidate_priority(DP_CANDIDATE_HOST, 65535), 2130706431);
    assert_int_equal(dp_candidate_priority(DP_CANDIDATE_SRFLX, 65535), 1694498815);
    assert_int_equal(dp_candidate_priority(DP_CANDIDATE_PRFLX, 65535), 1862270975);
    assert_int_equal(dp_candidate_priority(DP_CANDIDATE_RELAY, 65535), 16777215);
    assert_true(dp_candidate_pair_priority(2, 1) == ((uint64_t)1 << 32) + 5);
    assert_true(dp_candidate_pair_priority(1, 2) == ((uint64_t)1 << 32) + 4);
    assert_true(dp_candidate_pair_priority(UINT32_MAX, UINT32_MAX) ==
                ((uint64_t)UINT32_MAX << 32) + 2 * (uint64_t)UINT32_MAX);
}

static void address_classes(void **state)
{
    (void)state;
    static const struct {
        const char *ip;
        bool unicast, link_local, loopback;
    } cases[] = {
        {"0.0.0.0", false, false, false},    {"0.1.2.3", false, false, false},
        {"224.0.0.1", false, false, false},  {"255.255.255.255", false, false, false},
        {"240.0.0.1", false, false, false},  {"223.255.255.255", true, false, false},
        {"127.0.0.1", true, false, true},    {"169.254.1.1", true, true, false},
        {"10.0.0.1", true, false, false},    {"::", false, false, false},
        {"::1", true, false, true},          {"ff02::fb", false, false, false},
        {"fe80::1", true, true, false},      {"febf::1", true, true, false},
        {"fec0::1", true, false, false},     {"::ffff:10.0.0.1", false, false, false},
        {"2001:db8::1", true, false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dp_address a;
        assert_int_equal(dp_address_parse(&a, cases[i].ip, 1), DP_OK);
        assert_int_equal(dp_address_is_unicast(&a), cases[i].unicast);
        assert_int_equal(dp_address_is_link_local(&a), cases[i].link_local);
        assert_int_equal(dp_address_is_loopback(&a), cases[i].loopback);
        a.port = 0;
        assert_false(dp_address_is_unicast(&a));
    }
    dp_address none = {.port = 1};
    assert_false(dp_address_is_unicast(&none));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chromium_mdns),   cmocka_unit_test(rfc_example),
        cmocka_unit_test(round_trips),     cmocka_unit_test(longest_line_fits),
        cmocka_unit_test(malformed_lines), cmocka_unit_test(unsupported_lines),
        cmocka_unit_test(priorities),      cmocka_unit_test(address_classes),
    };
    return cmocka_run_group_tests_name("ice/candidate", tests, NULL, NULL);
}
