/* Slices, numbers, UTF-8, hex digits. */
#include "tests/unit/base/helper.h"

#include "base/text.h"

static dp_slice slice(const char *text) { return (dp_slice){text, strlen(text)}; }

static void test_equal(void **state)
{
    (void)state;
    dp_slice nothing = {NULL, 0};
    assert_true(dp_slice_is(slice("abc"), "abc"));
    assert_false(dp_slice_is(slice("abc"), "abd"));
    assert_false(dp_slice_is(slice("abc"), "ab"));
    assert_false(dp_slice_is(slice("ab"), "abc"));
    assert_false(dp_slice_is((dp_slice){"ab\0", 3}, "ab"));
    assert_true(dp_slice_is(nothing, ""));
    assert_true(dp_slice_is_nocase(slice("SHA-256 @[`{"), "sha-256 @[`{"));
    assert_true(dp_slice_is_nocase(slice("az"), "AZ"));
    assert_false(dp_slice_is_nocase(slice("a"), "b"));
    assert_false(dp_slice_is_nocase(slice("@"), "`")); /* 0x20 apart, but no letters */
    assert_false(dp_slice_is_nocase(slice("["), "{"));
    assert_false(dp_slice_is_nocase(slice("a"), "aa"));
    assert_true(dp_slice_is_nocase(nothing, ""));
}

static void test_cut(void **state)
{
    (void)state;
    dp_slice rest = slice("a::bc:");
    assert_true(dp_slice_is(dp_slice_cut(&rest, ':'), "a"));
    assert_true(dp_slice_is(dp_slice_cut(&rest, ':'), ""));
    assert_true(dp_slice_is(dp_slice_cut(&rest, ':'), "bc"));
    assert_int_equal(rest.len, 0);
    assert_true(dp_slice_is(dp_slice_cut(&rest, ':'), ""));
    rest = slice("all");
    assert_true(dp_slice_is(dp_slice_cut(&rest, ':'), "all"));
    assert_int_equal(rest.len, 0);
    rest = (dp_slice){NULL, 0};
    assert_int_equal(dp_slice_cut(&rest, ':').len, 0);
}

static void test_numbers(void **state)
{
    (void)state;
    uint64_t n = 5;
    assert_int_equal(dp_slice_to_u64(&n, slice("0"), 9), DP_OK);
    assert_true(n == 0);
    assert_int_equal(dp_slice_to_u64(&n, slice("0065535"), 65535), DP_OK);
    assert_true(n == 65535);
    assert_int_equal(dp_slice_to_u64(&n, slice("18446744073709551615"), UINT64_MAX), DP_OK);
    assert_true(n == UINT64_MAX);
    n = 5;
    const char *bad[] = {
        "", "-1", "+1", " 1", "1 ", "1a", "/", ":", "65536", "18446744073709551616", "99999999999999999999"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(dp_slice_to_u64(&n, slice(bad[i]), i < 8 ? UINT64_MAX : 65535), DP_ERR_MALFORMED);
    assert_int_equal(dp_slice_to_u64(&n, slice("18446744073709551616"), UINT64_MAX), DP_ERR_MALFORMED);
    assert_true(n == 5);
}

static void test_copy(void **state)
{
    (void)state;
    char out[4] = "???";
    assert_int_equal(dp_slice_copy(out, 4, slice("abc")), DP_OK);
    assert_string_equal(out, "abc");
    assert_int_equal(dp_slice_copy(out, 4, slice("abcd")), DP_ERR_NO_SPACE);
    assert_int_equal(dp_slice_copy(out, 0, slice("")), DP_ERR_NO_SPACE);
    assert_int_equal(dp_slice_copy(out, 4, (dp_slice){"a\0b", 3}), DP_ERR_MALFORMED);
    assert_string_equal(out, "abc");
    assert_int_equal(dp_slice_copy(out, 4, (dp_slice){NULL, 0}), DP_OK);
    assert_string_equal(out, "");
}

/* ---- UTF-8, against a decoder that works differently: it decodes, then encodes again and compares ---- */

static size_t encode(uint8_t out[4], uint32_t c)
{
    if (c < 0x80)
        return out[0] = (uint8_t)c, 1;
    if (c < 0x800)
        return out[0] = (uint8_t)(0xC0 | c >> 6), out[1] = (uint8_t)(0x80 | (c & 63)), 2;
    if (c < 0x10000)
        return out[0] = (uint8_t)(0xE0 | c >> 12), out[1] = (uint8_t)(0x80 | (c >> 6 & 63)),
               out[2] = (uint8_t)(0x80 | (c & 63)), 3;
    return out[0] = (uint8_t)(0xF0 | c >> 18), out[1] = (uint8_t)(0x80 | (c >> 12 & 63)),
           out[2] = (uint8_t)(0x80 | (c >> 6 & 63)), out[3] = (uint8_t)(0x80 | (c & 63)), 4;
}

static bool naive_valid(const uint8_t *text, size_t len)
{
    for (size_t at = 0; at < len;) {
        size_t n = text[at] < 0x80   ? 1
                   : text[at] < 0xC0 ? 0
                   : text[at] < 0xE0 ? 2
                   : text[at] < 0xF0 ? 3
                   : text[at] < 0xF8 ? 4
                                     : 0;
        if (n == 0 || len - at < n)
            return false;
        uint32_t c = n == 1 ? text[at] : text[at] & (0x7Fu >> n);
        for (size_t i = 1; i < n; i++)
            c = c << 6 | (text[at + i] & 63u);
        uint8_t again[4];
        if ((c >= 0xD800 && c <= 0xDFFF) || c > 0x10FFFF || encode(again, c) != n ||
            memcmp(again, text + at, n) != 0)
            return false;
        at += n;
    }
    return true;
}

static void test_utf8_every_code_point(void **state)
{
    (void)state;
    uint8_t text[4];
    for (uint32_t c = 0; c < 0x110000; c++) {
        bool surrogate = c >= 0xD800 && c <= 0xDFFF;
        size_t n = encode(text, c);
        if (dp_utf8_valid(text, n) == surrogate)
            fail_msg("U+%04X", (unsigned)c);
        for (size_t cut = 1; cut < n; cut++)
            if (dp_utf8_valid(text, cut))
                fail_msg("U+%04X cut to %zu", (unsigned)c, cut);
    }
}

static void test_utf8_every_three_bytes(void **state)
{
    (void)state;
    assert_true(dp_utf8_valid(NULL, 0));
    for (uint32_t bits = 0; bits < 1u << 24;
         bits += 1 + (bits & 1)) { /* all leads and seconds, two thirds of the thirds */
        uint8_t text[3] = {(uint8_t)(bits >> 16), (uint8_t)(bits >> 8), (uint8_t)bits};
        if (text[0] < 0xC0 && text[0] > 1)
            continue; /* a lead like any other of its kind */
        for (size_t n = 1; n <= 3; n++)
            if (dp_utf8_valid(text, n) != naive_valid(text, n))
                fail_msg("%06x, %zu bytes", (unsigned)bits, n);
    }
}

static void test_utf8_four_bytes(void **state)
{
    (void)state;
    /* Edges of every range in every position. */
    static const uint8_t bytes[] = {0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2,
                                    0xDF, 0xE0, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xF8, 0xFF};
    enum { N = sizeof(bytes) };
    for (size_t i = 0; i < (size_t)N * N * N * N; i++) {
        uint8_t text[4] = {bytes[i % N], bytes[i / N % N], bytes[i / N / N % N], bytes[i / N / N / N]};
        if (dp_utf8_valid(text, 4) != naive_valid(text, 4))
            fail_msg("%02x %02x %02x %02x", text[0], text[1], text[2], text[3]);
    }
}

/* In the middle of ASCII, at each place. */
static void test_utf8_in_long_texts(void **state)
{
    (void)state;
    static const char *const characters[] = {"\xC3\xA9", "\xE2\x82\xAC",    "\xC3", "\xA9", "\x80",
                                             "\xFF",     "\xF0\x9F\x98\x80"};
    for (size_t i = 0; i < sizeof(characters) / sizeof(characters[0]); i++)
        for (size_t at = 0; at < 24; at++) {
            uint8_t text[32];
            size_t n = strlen(characters[i]);
            memset(text, 'a', sizeof(text));
            memcpy(text + at, characters[i], n);
            for (size_t len = at + n; len <= sizeof(text); len++)
                assert_int_equal(dp_utf8_valid(text, len), naive_valid(text, len));
        }
}

static void test_hex(void **state)
{
    (void)state;
    static const char digits[] = "0123456789abcdef", upper[] = "0123456789ABCDEF";
    for (int c = 0; c < 256; c++) {
        int expected = -1;
        for (int d = 0; d < 16; d++)
            if (c == digits[d] || c == upper[d])
                expected = d;
        assert_int_equal(dp_hex_digit((char)c), expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_utf8_every_code_point),
        cmocka_unit_test(test_utf8_every_three_bytes),
        cmocka_unit_test(test_utf8_four_bytes),
        cmocka_unit_test(test_utf8_in_long_texts),
        cmocka_unit_test(test_hex),
    };
    return cmocka_run_group_tests_name("base/text", tests, NULL, NULL);
}
