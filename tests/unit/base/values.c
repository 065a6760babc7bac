/* Errors, log lines, addresses, fingerprints. */
#include "tests/unit/base/helper.h"

#include "base/log.h"
#include <stdio.h>
#include <wchar.h>

/* ---- errors ---- */

static void test_strerror(void **state)
{
    (void)state;
    const char *unknown = dp_strerror(1);
    assert_string_equal(unknown, "unknown error");
    assert_string_equal(dp_strerror(DP_ERR_REMOTE - 1), unknown);
    for (int a = 0; a >= DP_ERR_REMOTE; a--) {
        assert_string_not_equal(dp_strerror(a), unknown);
        for (int b = 0; b > a; b--)
            assert_string_not_equal(dp_strerror(a), dp_strerror(b));
    }
}

/* ---- log ---- */

static char logged[600];
static int lines;
static dp_log_level logged_level;

static void sink(void *ctx, dp_log_level level, const char *layer, const char *message)
{
    assert_ptr_equal(ctx, &lines);
    assert_string_equal(layer, "test");
    snprintf(logged, sizeof(logged), "%s", message);
    logged_level = level;
    lines++;
}

static void test_log(void **state)
{
    (void)state;
    dp_log log = {sink, &lines, DP_LOG_WARN};
    int evaluated = 0;
    lines = 0;
    DP_LOG(&log, DP_LOG_INFO, "test", "%d", ++evaluated);
    assert_int_equal(lines, 0);
    assert_int_equal(evaluated, 0); /* a line that is off costs nothing */
    DP_LOG(&log, DP_LOG_WARN, "test", "n=%d %s", ++evaluated, "x");
    assert_int_equal(lines, 1);
    assert_string_equal(logged, "n=1 x");
    assert_int_equal(logged_level, DP_LOG_WARN);
    dp_log silent = {NULL, NULL, DP_LOG_DEBUG};
    DP_LOG(&silent, DP_LOG_ERROR, "test", "%d", ++evaluated);
    assert_int_equal(evaluated, 1);
}

/* What a peer sends must not drive the terminal: ESC sequences, also the 8-bit CSI in UTF-8. */
static void test_log_masks_controls(void **state)
{
    (void)state;
    dp_log log = {sink, &lines, DP_LOG_DEBUG};
    DP_LOG(&log, DP_LOG_ERROR, "test", "%s",
           "a\x1b[31mb\r\n\x01\x1f\x7f \xC3\xA4\xC2\xA9 \xC2\x9B"
           "2J\xC2\x80");
    assert_string_equal(logged, "a?[31mb????? \xC3\xA4\xC2\xA9 ??2J??");
    DP_LOG(&log, DP_LOG_ERROR, "test", "%s", "cut short \xC2");
    assert_string_equal(logged, "cut short \xC2");
}

static void test_log_long_and_bad(void **state)
{
    (void)state;
    dp_log log = {sink, &lines, DP_LOG_DEBUG};
    char big[2000];
    memset(big, 'x', sizeof(big));
    big[1999] = '\0';
    DP_LOG(&log, DP_LOG_ERROR, "test", "%s", big);
    assert_int_equal(strlen(logged), 511); /* cut, terminated */
    static const wchar_t no_such_character[] = {0x7FFFFFFF, 0};
    DP_LOG(&log, DP_LOG_ERROR, "test", "%ls", no_such_character); /* printf itself fails */
    assert_string_equal(logged, "");
}

/* ---- addresses ---- */

static void round_trip(const char *ip, uint16_t port, const char *expected, const char *expected_ip)
{
    dp_address address;
    char text[DP_ADDRESS_TEXT_MAX];
    assert_int_equal(dp_address_parse(&address, ip, port), DP_OK);
    assert_string_equal(dp_address_format(&address, text), expected);
    assert_string_equal(dp_address_format_ip(&address, text), expected_ip);
}

static void test_address(void **state)
{
    (void)state;
    round_trip("192.0.2.1", 80, "192.0.2.1:80", "192.0.2.1");
    round_trip("255.255.255.255", 65535, "255.255.255.255:65535", "255.255.255.255");
    round_trip("2001:DB8:0:0::1", 0, "[2001:db8::1]:0", "2001:db8::1");
    round_trip("2001:db8:1111:2222:3333:4444:5555:6666", 65535,
               "[2001:db8:1111:2222:3333:4444:5555:6666]:65535", "2001:db8:1111:2222:3333:4444:5555:6666");
    round_trip("::ffff:192.0.2.128", 1, "[::ffff:192.0.2.128]:1", "::ffff:192.0.2.128");
    dp_address address = {.port = 7};
    char text[DP_ADDRESS_TEXT_MAX];
    const char *bad[] = {"",      "1.2.3",        "1.2.3.4.5", "256.1.1.1", "1.2.3.4 ",
                         "[::1]", "fe80::1%eth0", "a",         "::g",       "1.2.3.4:5"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(dp_address_parse(&address, bad[i], 1), DP_ERR_MALFORMED);
    assert_int_equal(address.port, 7); /* untouched */
    assert_string_equal(dp_address_format(&address, text), "none:7");
    assert_string_equal(dp_address_format_ip(&address, text), "none");
    address.family = 9; /* no family at all */
    dp_address_format(&address, text);
}

static void test_address_equal(void **state)
{
    (void)state;
    dp_address a, b, six;
    assert_int_equal(dp_address_parse(&a, "192.0.2.1", 80), DP_OK);
    b = a;
    assert_true(dp_address_equal(&a, &b));
    b.ip[15] = 1; /* beyond an IPv4 address */
    assert_true(dp_address_equal(&a, &b));
    b.ip[3] = 2;
    assert_false(dp_address_equal(&a, &b));
    b = a;
    b.port = 81;
    assert_false(dp_address_equal(&a, &b));
    assert_int_equal(dp_address_parse(&six, "fe80::1", 80), DP_OK);
    assert_false(dp_address_equal(&a, &six));
    b = six;
    b.scope = 2;
    assert_true(dp_address_equal(&six, &b)); /* one has no scope */
    assert_true(dp_address_equal(&b, &six));
    six.scope = 2;
    assert_true(dp_address_equal(&six, &b));
    six.scope = 3;
    assert_false(dp_address_equal(&six, &b));
    b = six;
    b.ip[15] = 2;
    assert_false(dp_address_equal(&six, &b));
}

/* ---- fingerprints ---- */

static size_t make_fingerprint(char *text, const char *name, size_t bytes)
{
    size_t at = (size_t)sprintf(text, "%s", name);
    for (size_t i = 0; i < bytes; i++)
        at += (size_t)sprintf(text + at, "%c%02X", i == 0 ? ' ' : ':', (unsigned)(i * 37 + 9) & 0xFF);
    return at;
}

static void test_fingerprint(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        dp_fingerprint_algorithm algorithm;
        size_t bytes;
    } cases[] = {{"sha-256", DP_FINGERPRINT_SHA256, 32},
                 {"sha-384", DP_FINGERPRINT_SHA384, 48},
                 {"sha-512", DP_FINGERPRINT_SHA512, 64}};
    for (size_t c = 0; c < 3; c++) {
        char text[DP_FINGERPRINT_TEXT_MAX], again[DP_FINGERPRINT_TEXT_MAX], other[DP_FINGERPRINT_TEXT_MAX];
        dp_fingerprint fp;
        size_t len = make_fingerprint(text, cases[c].name, cases[c].bytes);
        assert_int_equal(dp_fingerprint_parse(&fp, text, len), DP_OK);
        assert_int_equal(fp.algorithm, cases[c].algorithm);
        assert_int_equal(fp.length, cases[c].bytes);
        assert_int_equal(fp.bytes[1], 46);
        assert_string_equal(dp_fingerprint_format(&fp, again), text);
        for (size_t i = 0; i <= len; i++) /* the other case of every letter */
            other[i] = text[i] >= 'A' && text[i] <= 'Z'   ? (char)(text[i] + 32)
                       : text[i] >= 'a' && text[i] <= 'z' ? (char)(text[i] - 32)
                                                          : text[i];
        assert_int_equal(dp_fingerprint_parse(&fp, other, len), DP_OK);
        assert_string_equal(dp_fingerprint_format(&fp, again), text);

        dp_fingerprint before = fp;
        for (size_t cut = 0; cut < len; cut++) { /* every shorter text */
            char *exact = malloc(cut + 1);
            memcpy(exact, text, cut);
            assert_int_not_equal(dp_fingerprint_parse(&fp, exact, cut), DP_OK);
            free(exact);
        }
        assert_int_equal(dp_fingerprint_parse(&fp, text, len + 1), DP_ERR_MALFORMED);
        for (size_t i = strlen(cases[c].name); i < len; i++) { /* every wrong character */
            memcpy(other, text, len + 1);
            other[i] = 'G';
            assert_int_not_equal(dp_fingerprint_parse(&fp, other, len), DP_OK);
        }
        assert_memory_equal(&before, &fp, sizeof(fp));
    }
}

static void test_fingerprint_unsupported(void **state)
{
    (void)state;
    char text[DP_FINGERPRINT_TEXT_MAX];
    dp_fingerprint fp;
    static const char *const names[] = {"sha-1", "md5", "sha-224", "md2", "", "sha-2567"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t len = make_fingerprint(text, names[i], 20);
        assert_int_equal(dp_fingerprint_parse(&fp, text, len), DP_ERR_UNSUPPORTED);
    }
    assert_int_equal(dp_fingerprint_parse(&fp, NULL, 0), DP_ERR_UNSUPPORTED);
    memset(&fp, 0, sizeof(fp));
    assert_string_equal(dp_fingerprint_format(&fp, text), "none");
    fp.algorithm = DP_FINGERPRINT_SHA512;
    fp.length = 255; /* more than there is */
    assert_int_equal(strlen(dp_fingerprint_format(&fp, text)), 7 + 64 * 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strerror),
        cmocka_unit_test(test_log),
        cmocka_unit_test(test_log_masks_controls),
        cmocka_unit_test(test_log_long_and_bad),
        cmocka_unit_test(test_address),
        cmocka_unit_test(test_address_equal),
        cmocka_unit_test(test_fingerprint),
        cmocka_unit_test(test_fingerprint_unsupported),
    };
    return cmocka_run_group_tests_name("base/values", tests, NULL, NULL);
}
