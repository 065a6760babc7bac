#include "sctp/filter.h"

#include "base/wr.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the headers above */
#include <cmocka.h>

static uint8_t buffer[2048];
static dp_wr wr;

static void packet(void)
{
    wr = dp_wr_init(buffer, sizeof buffer);
    dp_wr_u16(&wr, 5000);
    dp_wr_u16(&wr, 5000);
    dp_wr_u32(&wr, 0x01020304);
    dp_wr_u32(&wr, 0);
}

static void chunk(uint8_t type, size_t length, size_t body)
{
    dp_wr_u8(&wr, type);
    dp_wr_u8(&wr, 0);
    dp_wr_u16(&wr, (uint16_t)length);
    dp_wr_zeros(&wr, body);
}

static int check_as(bool interleaving)
{
    assert_false(wr.error);
    uint8_t *exact = (uint8_t *)malloc(wr.len);
    memcpy(exact, buffer, wr.len);
    int error = dp_sctp_filter(exact, wr.len, 5000, 5000, interleaving);
    free(exact);
    return error;
}

static int check(void) { return check_as(false); }

static void init_chunk(size_t parameters)
{
    chunk(1, 20 + parameters, 0);
    dp_wr_u32(&wr, 1);
    dp_wr_u32(&wr, 5242880);
    dp_wr_u16(&wr, 65535);
    dp_wr_u16(&wr, 65535);
    dp_wr_u32(&wr, 7);
}

/* docs/peerjs.md §4.5: length 30 in a packet of 44, the last parameter's padding outside the length. */
static void test_chromium_init(void **state)
{
    (void)state;
    packet();
    init_chunk(10);
    dp_wr_bytes(&wr, "\xc0\x00\x00\x04\x80\x08\x00\x06\x82\xc0\x00\x00", 12);
    assert_int_equal(wr.len, 44);
    assert_int_equal(check(), DP_OK);
}

/* RFC 6525 §4: each parameter as long as its type needs; what may be added, row 46, is the next test. */
static void test_re_config_lengths(void **state)
{
    (void)state;
    static const uint8_t least[] = {16, 8, 8, 12};
    for (uint16_t type = 13; type <= 16; type++)
        for (uint16_t len = 4; len <= 20; len++) {
            packet();
            chunk(0x82, 4u + len, 0);
            dp_wr_u16(&wr, type);
            dp_wr_u16(&wr, len);
            dp_wr_zeros(&wr, (len + 3u) / 4 * 4 - 4);
            assert_int_equal(check(), len >= least[type - 13] ? DP_OK : DP_ERR_MALFORMED);
        }
}

/* Row 46: the peer may ask for more streams of its own, at least one; never for more of ours. */
static void test_add_streams(void **state)
{
    (void)state;
    static const struct {
        uint16_t type, count;
        int result;
    } cases[] = {
        {17, 1, DP_OK},
        {17, 65535, DP_OK},
        {17, 0, DP_ERR_MALFORMED},
        {18, 1, DP_ERR_MALFORMED},
        {18, 65535, DP_ERR_MALFORMED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (uint16_t len = 8; len <= 12; len += 4) {
            packet();
            chunk(0x82, 4u + len, 0);
            dp_wr_u16(&wr, cases[i].type);
            dp_wr_u16(&wr, len);
            dp_wr_u32(&wr, 7);
            if (len == 12) {
                dp_wr_u16(&wr, cases[i].count);
                dp_wr_u16(&wr, 0);
            }
            assert_int_equal(check(), len == 12 ? cases[i].result : DP_ERR_MALFORMED);
        }
}

/* RFC 8260: its chunks are in the place of the others, or not there. */
static void test_interleaving(void **state)
{
    (void)state;
    static const struct {
        uint8_t type;
        size_t body;
        int data, interleaved; /* what is said of it */
    } cases[] = {
        {0x00, 13, DP_OK, DP_ERR_UNSUPPORTED},
        {0x40, 17, DP_ERR_UNSUPPORTED, DP_OK},
        {0x40, 16, DP_ERR_UNSUPPORTED, DP_ERR_MALFORMED}, /* without data */
        {0x40, 0, DP_ERR_UNSUPPORTED, DP_ERR_MALFORMED},
        {0xc0, 8, DP_OK, DP_ERR_UNSUPPORTED},
        {0xc2, 4, DP_ERR_UNSUPPORTED, DP_OK},
        {0xc2, 12, DP_ERR_UNSUPPORTED, DP_OK},
        {0xc2, 8, DP_ERR_UNSUPPORTED, DP_ERR_MALFORMED},
        {0xc2, 0, DP_ERR_UNSUPPORTED, DP_ERR_MALFORMED},
        {0x06, 0, DP_OK, DP_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        packet();
        chunk(cases[i].type, 4 + cases[i].body, (cases[i].body + 3) & ~(size_t)3);
        assert_int_equal(check_as(false), cases[i].data);
        assert_int_equal(check_as(true), cases[i].interleaved);
    }
}

static void test_lengths(void **state)
{
    (void)state;
    packet();
    assert_int_equal(check(), DP_ERR_MALFORMED); /* no chunk */
    for (size_t i = 0; i < 12; i++)
        assert_int_equal(dp_sctp_filter(buffer, i, 5000, 5000, false), DP_ERR_MALFORMED);
    for (size_t length = 0; length < 4; length++) {
        packet();
        chunk(0x0b, length, 0);
        assert_int_equal(check(), DP_ERR_MALFORMED);
    }
    packet();
    chunk(0, 100, 20); /* longer than the packet */
    assert_int_equal(check(), DP_ERR_MALFORMED);
    packet();
    chunk(0, 16, 12); /* DATA without data */
    assert_int_equal(check(), DP_ERR_MALFORMED);
    packet();
    chunk(0, 17, 13); /* one byte, final padding missing */
    assert_int_equal(check(), DP_OK);
    packet();
    chunk(3, 16, 8);
    dp_wr_u16(&wr, 1); /* SACK that promises a gap block and has none */
    dp_wr_u16(&wr, 0);
    assert_int_equal(check(), DP_ERR_MALFORMED);
}

static void test_ports(void **state)
{
    (void)state;
    packet();
    chunk(0x0b, 4, 0);
    assert_int_equal(check(), DP_OK);
    buffer[0] ^= 1;
    assert_int_equal(check(), DP_ERR_PROTOCOL);
    buffer[0] ^= 1;
    buffer[3] ^= 1;
    assert_int_equal(check(), DP_ERR_PROTOCOL);
}

/* Row 41. */
static void test_init_alone(void **state)
{
    (void)state;
    packet();
    init_chunk(0);
    assert_int_equal(check(), DP_OK);
    chunk(0x0b, 4, 0);
    assert_int_equal(check(), DP_ERR_PROTOCOL);
    packet();
    chunk(0x0b, 4, 0);
    init_chunk(0);
    assert_int_equal(check(), DP_ERR_PROTOCOL);
}

/* Row 42. */
static void test_parameter_lengths(void **state)
{
    (void)state;
    for (uint16_t length = 0; length < 4; length++) {
        packet();
        init_chunk(4);
        dp_wr_u16(&wr, 0xc000);
        dp_wr_u16(&wr, length);
        assert_int_equal(check(), DP_ERR_MALFORMED);
    }
    packet();
    init_chunk(4);
    dp_wr_u16(&wr, 0xc000);
    dp_wr_u16(&wr, 5);
    assert_int_equal(check(), DP_ERR_MALFORMED);
    packet();
    chunk(0x82, 8, 0); /* RE-CONFIG */
    dp_wr_u16(&wr, 13);
    dp_wr_u16(&wr, 0);
    assert_int_equal(check(), DP_ERR_MALFORMED);
    packet();
    chunk(0x06, 8, 0); /* ABORT */
    dp_wr_u16(&wr, 12);
    dp_wr_u16(&wr, 3);
    assert_int_equal(check(), DP_ERR_MALFORMED);
}

/* Row 38 begins with a FORWARD-TSN: forward.c takes it out of the packet, so it never arrives at usrsctp. */
static void test_forward_tsn(void **state)
{
    (void)state;
    for (size_t len = 4; len <= 20; len++) {
        packet();
        chunk(0xc0, len, (len - 4 + 3) / 4 * 4);
        assert_int_equal(check(), len >= 8 && len % 4 == 0 ? DP_OK : DP_ERR_MALFORMED);
    }
}

static void test_not_negotiated(void **state)
{
    (void)state;
    static const uint8_t types[] = {0x0c, 0x0d, 0x0f, 0x10, 0x40, 0x80, 0x81, 0xc1, 0xc2};
    for (size_t i = 0; i < sizeof types; i++) {
        packet();
        chunk(0x00, 17, 16);
        chunk(types[i], 12, 8);
        assert_int_equal(check(), DP_ERR_UNSUPPORTED);
    }
    packet();
    chunk(0xfe, 12, 8); /* unknown, but to be skipped */
    assert_int_equal(check(), DP_OK);
}

static void test_checksum(void **state)
{
    (void)state;
    packet();
    chunk(0x0b, 4, 0);
    dp_sctp_checksum_write(buffer, wr.len);
    assert_true(dp_sctp_checksum_ok(buffer, wr.len));
    for (size_t bit = 0; bit < 8 * wr.len; bit++) {
        buffer[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(dp_sctp_checksum_ok(buffer, wr.len));
        buffer[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_false(dp_sctp_checksum_ok(buffer, 11));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chromium_init), cmocka_unit_test(test_re_config_lengths),
        cmocka_unit_test(test_add_streams),   cmocka_unit_test(test_interleaving),
        cmocka_unit_test(test_lengths),       cmocka_unit_test(test_ports),
        cmocka_unit_test(test_init_alone),    cmocka_unit_test(test_parameter_lengths),
        cmocka_unit_test(test_forward_tsn),   cmocka_unit_test(test_not_negotiated),
        cmocka_unit_test(test_checksum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
