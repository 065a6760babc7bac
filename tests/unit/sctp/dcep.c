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

static void test_ack(void **state)
{
    (void)state;
    dp_dcep_type type;
    dp_dcep_open open;
    static const uint8_t ack[] = {0x02, 0x00};
    assert_int_equal(dp_dcep_parse(&type, &open, ack, 1), DP_OK);
    assert_int_equal(type, DP_DCEP_ACK);
    assert_int_equal(dp_dcep_parse(&type, &open, ack, 2), DP_ERR_MALFORMED);
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
        cmocka_unit_test(test_open_vector), cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_ack),
        cmocka_unit_test(test_label_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
