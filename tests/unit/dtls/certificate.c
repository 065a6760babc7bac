#include "dtls/certificate.h"

#include "base/mbedtls.h"
#include "pair.h"

static void test_generate(void **state)
{
    (void)state;
    dp_certificate *a = test_certificate(0);
    assert_true(mbedtls_pk_can_do(&a->key, MBEDTLS_PK_ECDSA));
    assert_int_equal(mbedtls_pk_get_bitlen(&a->key), 256);
    assert_int_equal(a->crt.version, 3);
    assert_int_equal(a->crt.serial.len, 16);
    assert_int_equal(a->crt.serial.p[0] & 0x80, 0);
    char name[64];
    assert_true(mbedtls_x509_dn_gets(name, sizeof name, &a->crt.subject) > 0);
    assert_string_equal(name, "CN=datapeer");
    /* 1790000000 is 2026-09-21 14:13:20 UTC. */
    assert_int_equal(a->crt.valid_from.mon, 9);
    assert_int_equal(a->crt.valid_from.day, 20);
    assert_int_equal(a->crt.valid_from.hour, 14);
    assert_int_equal(a->crt.valid_to.mon, 10);
    assert_int_equal(a->crt.valid_to.day, 21);
    assert_int_equal(a->crt.valid_to.sec, 20);
    /* basicConstraints, cA FALSE: an empty list of extensions would be malformed. */
    assert_true(a->crt.v3_ext.len > 10);
    /* Signed by itself. */
    uint8_t hash[32];
    assert_int_equal(
        mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), a->crt.tbs.p, a->crt.tbs.len, hash), 0);
    assert_int_equal(mbedtls_pk_verify(&a->crt.pk, MBEDTLS_MD_SHA256, hash, sizeof hash,
                                       a->crt.MBEDTLS_PRIVATE(sig).p, a->crt.MBEDTLS_PRIVATE(sig).len),
                     0);

    dp_fingerprint fa;
    dp_fingerprint fb;
    dp_certificate_fingerprint(a, &fa);
    dp_certificate_fingerprint(test_certificate(1), &fb);
    assert_int_equal(fa.algorithm, DP_FINGERPRINT_SHA256);
    assert_int_equal(fa.length, 32);
    assert_memory_not_equal(fa.bytes, fb.bytes, 32);
}

static void test_pem_round_trip(void **state)
{
    (void)state;
    char pem[2048];
    char again[2048];
    dp_certificate *copy = NULL;
    assert_int_equal(dp_certificate_to_pem(test_certificate(0), pem, sizeof pem), DP_OK);
    assert_int_equal(dp_certificate_from_pem(&copy, pem), DP_OK);
    assert_int_equal(dp_certificate_to_pem(copy, again, sizeof again), DP_OK);
    assert_string_equal(pem, again);
    dp_fingerprint a;
    dp_fingerprint b;
    dp_certificate_fingerprint(test_certificate(0), &a);
    dp_certificate_fingerprint(copy, &b);
    assert_memory_equal(a.bytes, b.bytes, 32);
    dp_certificate_free(copy);

    /* Any order. */
    char *certificate = strstr(pem, "-----BEGIN CERTIFICATE");
    assert_non_null(certificate);
    snprintf(again, sizeof again, "%s%.*s", certificate, (int)(certificate - pem), pem);
    assert_int_equal(dp_certificate_from_pem(&copy, again), DP_OK);
    dp_certificate_free(copy);
    for (size_t capacity = 0; capacity <= strlen(pem); capacity += 50)
        assert_int_equal(dp_certificate_to_pem(test_certificate(0), again, capacity), DP_ERR_NO_SPACE);
}

static void test_bad_pem(void **state)
{
    (void)state;
    char pem[2048];
    char other[2048];
    char mixed[4096];
    dp_certificate *copy = NULL;
    assert_int_equal(dp_certificate_to_pem(test_certificate(0), pem, sizeof pem), DP_OK);
    assert_int_equal(dp_certificate_to_pem(test_certificate(1), other, sizeof other), DP_OK);
    assert_int_equal(dp_certificate_from_pem(&copy, ""), DP_ERR_MALFORMED);
    assert_int_equal(dp_certificate_from_pem(&copy, "hello"), DP_ERR_MALFORMED);
    assert_int_equal(dp_certificate_from_pem(&copy, NULL), DP_ERR_INVALID_ARGUMENT);
    char *certificate = strstr(pem, "-----BEGIN CERTIFICATE");
    assert_int_equal(dp_certificate_from_pem(&copy, certificate), DP_ERR_MALFORMED); /* no key */
    snprintf(mixed, sizeof mixed, "%.*s", (int)(certificate - pem), pem);
    assert_int_equal(dp_certificate_from_pem(&copy, mixed), DP_ERR_MALFORMED); /* no certificate */
    snprintf(mixed, sizeof mixed, "%.*s%s", (int)(certificate - pem), pem,
             strstr(other, "-----BEGIN CERTIFICATE"));
    assert_int_equal(dp_certificate_from_pem(&copy, mixed), DP_ERR_MALFORMED); /* of somebody else */
}

/* No handshake of ours can use them. */
static void test_other_keys_are_refused(void **state)
{
    (void)state;
    static const mbedtls_ecp_group_id curves[] = {MBEDTLS_ECP_DP_NONE, MBEDTLS_ECP_DP_SECP384R1,
                                                  MBEDTLS_ECP_DP_SECP256K1};
    test_random r = {3};
    dp_random source = test_source(&r);
    char pem[4096];
    char ours[2048];
    assert_int_equal(dp_certificate_to_pem(test_certificate(0), ours, sizeof ours), DP_OK);
    for (size_t i = 0; i < sizeof curves / sizeof curves[0]; i++) {
        mbedtls_pk_context key;
        mbedtls_pk_init(&key);
        bool rsa = curves[i] == MBEDTLS_ECP_DP_NONE;
        assert_int_equal(
            mbedtls_pk_setup(&key, mbedtls_pk_info_from_type(rsa ? MBEDTLS_PK_RSA : MBEDTLS_PK_ECKEY)), 0);
        assert_int_equal(
            rsa ? mbedtls_rsa_gen_key(mbedtls_pk_rsa(key), dp_mbedtls_random, &source, 1024, 65537)
                : mbedtls_ecp_gen_key(curves[i], mbedtls_pk_ec(key), dp_mbedtls_random, &source),
            0);
        assert_int_equal(mbedtls_pk_write_key_pem(&key, (unsigned char *)pem, sizeof pem), 0);
        mbedtls_pk_free(&key);
        strcat(pem, strstr(ours, "-----BEGIN CERTIFICATE"));
        dp_certificate *copy = NULL;
        assert_int_equal(dp_certificate_from_pem(&copy, pem), DP_ERR_UNSUPPORTED);
    }
}

static void test_validity_dates(void **state)
{
    (void)state;
    static const struct {
        int64_t now; /* valid from a day earlier to 30 days later */
        int from[3];
        int to[3];
    } cases[] = {
        {INT64_C(951782400), {2000, 2, 28}, {2000, 3, 30}},   /* 2000-02-29: a leap year */
        {INT64_C(951868800), {2000, 2, 29}, {2000, 3, 31}},   /* 2000-03-01 */
        {INT64_C(1709164800), {2024, 2, 28}, {2024, 3, 30}},  /* 2024-02-29 */
        {INT64_C(1767225600), {2025, 12, 31}, {2026, 1, 31}}, /* 2026-01-01 */
        {INT64_C(4107542400), {2100, 2, 28}, {2100, 3, 31}},  /* 2100-03-01: no leap year */
    };
    test_random r = {2};
    dp_random source = test_source(&r);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dp_certificate *c = NULL;
        assert_int_equal(dp_certificate_generate(&c, &source, cases[i].now), DP_OK);
        assert_int_equal(c->crt.valid_from.year, cases[i].from[0]);
        assert_int_equal(c->crt.valid_from.mon, cases[i].from[1]);
        assert_int_equal(c->crt.valid_from.day, cases[i].from[2]);
        assert_int_equal(c->crt.valid_to.year, cases[i].to[0]);
        assert_int_equal(c->crt.valid_to.mon, cases[i].to[1]);
        assert_int_equal(c->crt.valid_to.day, cases[i].to[2]);
        assert_int_equal(dp_certificate_expires(c), cases[i].now + 30 * 86400);
        dp_certificate_free(c);
    }
}

static void test_lifetime(void **state)
{
    (void)state;
    static const int64_t day = 86400;
    test_random r = {4};
    dp_random source = test_source(&r);
    dp_certificate *c = NULL;
    for (unsigned days = 0; days <= 366; days += days == 0 || days == 365 ? 1 : 91) {
        int error = dp_certificate_generate_for(&c, &source, WALL_CLOCK, days);
        if (days == 0 || days > DP_CERTIFICATE_DAYS_MAX) {
            assert_int_equal(error, DP_ERR_INVALID_ARGUMENT);
            continue;
        }
        assert_int_equal(error, DP_OK);
        assert_int_equal(dp_certificate_expires(c), WALL_CLOCK + days * day);
        assert_int_equal(c->crt.valid_from.day, 20);
        dp_certificate_free(c);
    }
}

static int no_random(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    memset(out, 0, len);
    return DP_ERR_CRYPTO;
}

static void test_generate_fails_cleanly(void **state)
{
    (void)state;
    dp_certificate *certificate = NULL;
    dp_random broken = {no_random, NULL};
    test_random r = {1};
    dp_random good = test_source(&r);
    assert_int_equal(dp_certificate_generate(&certificate, &broken, WALL_CLOCK), DP_ERR_CRYPTO);
    assert_int_equal(dp_certificate_generate(&certificate, &good, -1), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_certificate_generate(&certificate, &good, INT64_MAX), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_certificate_generate(&certificate, &good, INT64_C(253402300800)),
                     DP_ERR_INVALID_ARGUMENT);
    assert_null(certificate);
    /* A clock that was never set. */
    assert_int_equal(dp_certificate_generate(&certificate, &good, 0), DP_OK);
    dp_certificate_free(certificate);
    dp_certificate_free(NULL);
}

static size_t table_of(const mbedtls_pk_context *key)
{
    return mbedtls_pk_ec(*key)->MBEDTLS_PRIVATE(grp).MBEDTLS_PRIVATE(T_size);
}

/* The size of the table that this mbedTLS makes; 0: it makes none. */
static size_t usual_table(dp_random *source)
{
    mbedtls_pk_context key;
    mbedtls_pk_init(&key);
    assert_int_equal(mbedtls_pk_setup(&key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)), 0);
    assert_int_equal(
        mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(key), dp_mbedtls_random, source), 0);
    size_t count = table_of(&key);
    mbedtls_pk_free(&key);
    return count;
}

/* Ours begins to keep its table with its first signature: of the certificate, or of the first handshake. */
static void test_key_keeps_its_table(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 1);
    size_t usual = usual_table(&(dp_random){test_fill, &p.random});
    char pem[2048];
    dp_certificate *loaded = NULL;
    dp_certificate *made = p.side[CLIENT].certificate;
    assert_int_equal(table_of(&made->key), usual);
    assert_int_equal(dp_certificate_to_pem(made, pem, sizeof pem), DP_OK);
    assert_int_equal(dp_certificate_from_pem(&loaded, pem), DP_OK);
    assert_int_equal(table_of(&loaded->key), 0);

    dp_dtls_config config;
    dp_dtls_free(p.side[CLIENT].dtls);
    p.side[CLIENT].certificate = loaded;
    pair_config(&p, CLIENT, &config);
    assert_int_equal(dp_dtls_new(&p.side[CLIENT].dtls, &config), DP_OK);
    pair_expect(&p, CLIENT, p.side[SERVER].certificate);
    pair_connect(&p);
    assert_int_equal(table_of(&loaded->key), usual);
    pair_clear(&p);
    dp_certificate_free(loaded);
}

static void test_lend_table(void **state)
{
    (void)state;
    test_random r = {5};
    dp_random source = test_source(&r);
    size_t usual = usual_table(&source);
    dp_certificate *own = test_certificate(0);
    dp_certificate *other = test_certificate(1);
    mbedtls_x509_crt peer;
    mbedtls_x509_crt_init(&peer);
    assert_int_equal(mbedtls_x509_crt_parse_der(&peer, other->crt.raw.p, other->crt.raw.len), 0);

    /* Nothing to lend yet. */
    char pem[2048];
    dp_certificate *cold = NULL;
    assert_int_equal(dp_certificate_to_pem(own, pem, sizeof pem), DP_OK);
    assert_int_equal(dp_certificate_from_pem(&cold, pem), DP_OK);
    dp_certificate_lend_table(cold, &peer);
    dp_certificate_free(cold);
    assert_int_equal(mbedtls_pk_get_type(&peer.pk), MBEDTLS_PK_ECKEY);

    for (int twice = 0; twice < 2; twice++)
        dp_certificate_lend_table(own, &peer);
    assert_int_equal(mbedtls_pk_get_type(&peer.pk), usual > 0 ? MBEDTLS_PK_ECDSA : MBEDTLS_PK_ECKEY);
    assert_int_equal(table_of(&peer.pk), usual);
    /* It is the same key, and verifies as before. */
    for (int altered = 0; altered < 2; altered++) {
        uint8_t hash[32];
        assert_int_equal(mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), other->crt.tbs.p,
                                    other->crt.tbs.len, hash),
                         0);
        hash[31] ^= (uint8_t)altered;
        int ret = mbedtls_pk_verify(&peer.pk, MBEDTLS_MD_SHA256, hash, sizeof hash,
                                    other->crt.MBEDTLS_PRIVATE(sig).p, other->crt.MBEDTLS_PRIVATE(sig).len);
        assert_int_equal(ret, altered ? MBEDTLS_ERR_ECP_VERIFY_FAILED : 0);
    }
    mbedtls_x509_crt_free(&peer);

    /* Another curve has other multiples. */
    mbedtls_x509_crt_init(&peer);
    assert_int_equal(mbedtls_pk_setup(&peer.pk, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)), 0);
    assert_int_equal(
        mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256K1, mbedtls_pk_ec(peer.pk), dp_mbedtls_random, &source), 0);
    dp_certificate_lend_table(own, &peer);
    assert_int_equal(mbedtls_pk_get_type(&peer.pk), MBEDTLS_PK_ECKEY);
    mbedtls_x509_crt_free(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generate),
        cmocka_unit_test(test_validity_dates),
        cmocka_unit_test(test_lifetime),
        cmocka_unit_test(test_pem_round_trip),
        cmocka_unit_test(test_bad_pem),
        cmocka_unit_test(test_other_keys_are_refused),
        cmocka_unit_test(test_generate_fails_cleanly),
        cmocka_unit_test(test_key_keeps_its_table),
        cmocka_unit_test(test_lend_table),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_certificate(-1);
    return failed;
}
