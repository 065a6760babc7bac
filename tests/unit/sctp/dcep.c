#include "sctp/dcep.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the headers above */
#include <cmocka.h>

/* Chromium's OPEN for createDataChannel("dc_x", {ordered: false}): docs/peerjs.md §4.6. */
static const uint8_t chromium_open[] = {0x03, 0x80, 0x01, 0x00, 0, 0, 0, 0, 0, 4, 0, 0, 'd', 'c', '_', 'x'};

static void test_open_vector(void **state)
{
    (void)state;
    dp_dcep_type type;
    dp_dcep_open open;
    assert_int_equal(dp_dcep_parse(&type, &open, chromium_open, sizeof chromium_open), DP_OK);
    assert_int_equal(type, DP_DCEP_OPEN);
    assert_int_equal(open.channel_type, DP_DCEP_UNORDERED);
    assert_int_equal(open.priority, 256);
    assert_int_equal(open.reliability, 0);
    assert_true(dp_slice_is(open.label, "dc_x"));
    assert_int_equal(open.protocol.len, 0);

    uint8_t out[sizeof chromium_open];
    size_t len;
    assert_int_equal(dp_dcep_write_open(out, sizeof out, &len, &open), DP_OK);
    assert_int_equal(len, sizeof chromium_open);
    assert_memory_equal(out, chromium_open, len);
    for (size_t i = 0; i < sizeof out; i++)
        assert_int_equal(dp_dcep_write_open(out, i, &len, &open), DP_ERR_NO_SPACE);
}

static void test_every_length(void **state)
{
    (void)state;
    dp_dcep_type type;
    dp_dcep_open open;
    for (size_t i = 0; i < sizeof chromium_open; i++) {
        uint8_t *exact = (uint8_t *)malloc(i + 1); /* so that ASan sees a read past the end */
        memcpy(exact, chromium_open, i);
        assert_int_equal(dp_dcep_parse(&type, &open, exact, i), DP_ERR_MALFORMED);
        free(exact);
    }
    uint8_t longer[sizeof chromium_open + 1] = {0};
    memcpy(longer, chromium_open, sizeof chromium_open);
    assert_int_equal(dp_dcep_parse(&type, &open, longer, sizeof longer), DP_ERR_MALFORMED);
}

static void test_refused(void **state)
{
    (void)state;
    dp_dcep_type type;
    dp_dcep_open open;
    uint8_t bad[sizeof chromium_open];
    memcpy(bad, chromium_open, sizeof bad);
    bad[8] = 0xff; /* row 48: a label longer than the message */
    assert_int_equal(dp_dcep_parse(&type, &open, bad, sizeof bad), DP_ERR_MALFORMED);
    memcpy(bad, chromium_open, sizeof bad);
    bad[1] = 0x03; /* an unassigned channel type */
    assert_int_equal(dp_dcep_parse(&type, &open, bad, sizeof bad), DP_ERR_UNSUPPORTED);
    memcpy(bad, chromium_open, sizeof bad);
    bad[12] = 0xff; /* not UTF-8 */
    assert_int_equal(dp_dcep_parse(&type, &open, bad, sizeof bad), DP_ERR_MALFORMED);
    bad[0] = 0x01;
    assert_int_equal(dp_dcep_parse(&type, &open, bad, sizeof bad), DP_ERR_UNSUPPORTED);
}

/* Lengths in bytes, in code points (aiortc) and in UTF-16 code units (werift); anything else is broken. */
static void test_lengths_in_characters(void **state)
{
    (void)state;
    static const struct {
        const char *label, *protocol;
        unsigned label_len, protocol_len;
        bool fine;
    } cases[] = {
        {"\u00e4\u20ac", "", 5, 0, true},
        {"\u00e4\u20ac", "", 2, 0, true},
        {"\u00e4\u20ac", "", 3, 0, false},
        {"\u00e4\u20ac", "", 4, 0, false},
        {"\u00e4\u20ac", "", 1, 0, false},
        {"\u00e4\u20ac", "", 6, 0, false},
        {"\U0001f600", "", 4, 0, true},
        {"\U0001f600", "", 1, 0, true},
        {"\U0001f600", "", 2, 0, true},
        {"\U0001f600", "", 3, 0, false},
        {"\u00e4", "\u00f6x", 1, 2, true},
        {"\u00e4", "\u00f6x", 2, 3, true},
        {"\u00e4", "\u00f6x", 1, 3, false},
        {"\u00e4", "\u00f6x", 2, 2, false},
        {"x\U0001f600", "\U0001f600", 3, 2, true},
        {"x\U0001f600", "\U0001f600", 2, 1, true},
        {"x\U0001f600", "\U0001f600", 3, 1, false},
        {"", "", 0, 0, true},
        {"", "\u00e4", 0, 1, true},
        {"", "\u00e4", 1, 1, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t label = strlen(cases[i].label), protocol = strlen(cases[i].protocol);
        size_t len = 12 + label + protocol;
        uint8_t *exact = (uint8_t *)calloc(1, len);
        exact[0] = 3;
        exact[9] = (uint8_t)cases[i].label_len;
        exact[11] = (uint8_t)cases[i].protocol_len;
        memcpy(exact + 12, cases[i].label, label);
        memcpy(exact + 12 + label, cases[i].protocol, protocol);
        dp_dcep_type type;
        dp_dcep_open open;
        assert_int_equal(dp_dcep_parse(&type, &open, exact, len), cases[i].fine ? DP_OK : DP_ERR_MALFORMED);
        assert_true(!cases[i].fine || dp_slice_is(open.label, cases[i].label));
        assert_true(!cases[i].fine || dp_slice_is(open.protocol, cases[i].protocol));
        free(exact);
    }
}

static void test_ack(void **state)
{
    (void)state;
    dp_dcep_type type;
    dp_dcep_open open;
    static const uint8_t ack[] = {0x02, 0, 0, 0}; /* pion's; the RFC's is the first byte */
    for (size_t len = 1; len <= sizeof ack; len++) {
        type = DP_DCEP_OPEN;
        assert_int_equal(dp_dcep_parse(&type, &open, ack, len), DP_OK);
        assert_int_equal(type, DP_DCEP_ACK);
    }
    assert_int_equal(dp_dcep_parse(&type, &open, ack, 0), DP_ERR_MALFORMED);
}

static void test_label_limit(void **state)
{
    (void)state;
    static char label[65537];
    static uint8_t out[70000];
    memset(label, 'a', 65536);
    size_t len;
    dp_dcep_open open = {0, 256, 0, {label, 65535}, {"", 0}};
    assert_int_equal(dp_dcep_write_open(out, sizeof out, &len, &open), DP_OK);
    assert_int_equal(len, 12 + 65535);
    open.label.len = 65536;
    assert_int_equal(dp_dcep_write_open(out, sizeof out, &len, &open), DP_ERR_TOO_LARGE);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_vector),
        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_ack),
        cmocka_unit_test(test_lengths_in_characters),
        cmocka_unit_test(test_label_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
