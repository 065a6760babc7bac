/* What our ClientHello offers (RFC 5246 §7.4.1.2): the same with each version of mbedTLS, whatever its defaults. */
#include "pair.h"

#include "base/rd.h"
#include "dtls/record.h"

enum {
    SUPPORTED_GROUPS = 10,
    SIGNATURE_ALGORITHMS = 13,
    USE_SRTP = 14,
    EXTENDED_MASTER_SECRET = 23,
    EXTENSIONS = 64, /* all that TLS had when TLS 1.3 was new lie below */
};

static const uint16_t suites[] = {
    0xc02b, /* TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 */
    0xc02c, /* TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 */
    0xcca9, /* TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 */
    0x00ff, /* TLS_EMPTY_RENEGOTIATION_INFO_SCSV: no renegotiation */
};
static const uint16_t groups[] = {29, 23}; /* x25519, secp256r1 */
/* ECDSA and RSA with SHA-256, SHA-384, SHA-512: the hash of our own certificate first. */
static const uint16_t signatures[] = {0x0403, 0x0401, 0x0503, 0x0501, 0x0603, 0x0601};

/* A list of numbers behind its length, and nothing else. */
static void expect_list(dp_rd *rd, const uint16_t *numbers, size_t count)
{
    assert_int_equal(dp_rd_u16(rd), 2 * count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(dp_rd_u16(rd), numbers[i]);
}

static void expect_extension(dp_rd extensions[EXTENSIONS], int type, const uint16_t *numbers, size_t count)
{
    expect_list(&extensions[type], numbers, count);
    assert_int_equal(dp_rd_left(&extensions[type]), 0);
    assert_false(extensions[type].error);
}

static void test_client_hello(void **state)
{
    (void)state;
    static const unsigned expected[] = {SUPPORTED_GROUPS,
                                        11 /* ec_point_formats */,
                                        SIGNATURE_ALGORITHMS,
                                        USE_SRTP,
                                        22 /* encrypt_then_mac: moot with AEAD */,
                                        EXTENDED_MASTER_SECRET};
    pair p;
    uint8_t data[1500];
    size_t len = 0;
    pair_init(&p, 1);
    assert_int_equal(dp_dtls_start(p.side[CLIENT].dtls, p.now), DP_OK);
    assert_true(dp_dtls_poll_transmit(p.side[CLIENT].dtls, data, sizeof data, &len));

    dp_rd rd = dp_rd_init(data, len);
    assert_int_equal(dp_rd_u8(&rd), DP_RECORD_HANDSHAKE);
    dp_rd_skip(&rd, DP_RECORD_HEADER - 1);
    assert_int_equal(dp_rd_u8(&rd), DP_HANDSHAKE_CLIENT_HELLO);
    dp_rd_skip(&rd, DP_HANDSHAKE_HEADER - 1);
    assert_int_equal(dp_rd_u16(&rd), DP_RECORD_VERSION); /* DTLS 1.2 */
    dp_rd_skip(&rd, 32);                                 /* random */
    assert_int_equal(dp_rd_u8(&rd), 0); /* session_id: nothing to resume, nothing to disguise */
    assert_int_equal(dp_rd_u8(&rd), 0); /* cookie */
    expect_list(&rd, suites, sizeof suites / sizeof *suites);
    assert_int_equal(dp_rd_u16(&rd), 0x0100); /* compression: none */

    /* Above all no supported_versions, key_share or session_ticket. */
    dp_rd extensions[EXTENSIONS] = {{0}};
    uint64_t seen = 0;
    uint64_t wanted = 0;
    dp_rd all = dp_rd_sub(&rd, dp_rd_u16(&rd));
    assert_int_equal(dp_rd_left(&rd), 0);
    while (dp_rd_left(&all) > 0) {
        uint16_t type = dp_rd_u16(&all);
        assert_true(type < EXTENSIONS);
        extensions[type] = dp_rd_sub(&all, dp_rd_u16(&all));
        seen |= UINT64_C(1) << type;
    }
    assert_false(all.error);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        wanted |= UINT64_C(1) << expected[i];
    assert_int_equal(seen, wanted);
    expect_extension(extensions, SUPPORTED_GROUPS, groups, sizeof groups / sizeof *groups);
    expect_extension(extensions, SIGNATURE_ALGORITHMS, signatures, sizeof signatures / sizeof *signatures);
    pair_clear(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_client_hello)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_certificate(-1);
    return failed;
}
