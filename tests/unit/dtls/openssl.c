/* Against a real OpenSSL end: suites and groups, exported keys, certificates of other kinds, what is refused. */
#include "openssl.h"

#include <openssl/rsa.h>

#include "dtls/certificate.h"

/* ---- suites, groups, exported secrets ---------------------------------------------------------------- */

static void keep_line(void *ctx, const char *line)
{
    char *out = ctx;
    assert_true(strlen(line) < 300);
    strcpy(out, line);
}

/* As pair_init, with our key log in *line. */
static void init_with_key_log(pair *p, uint64_t seed, int which, char line[300])
{
    pair_init(p, seed);
    dp_dtls_config config;
    pair_config(p, which, &config);
    config.key_log = (dp_key_log){keep_line, line};
    dp_dtls_free(p->side[which].dtls);
    assert_int_equal(dp_dtls_new(&p->side[which].dtls, &config), DP_OK);
    pair_expect(p, which, p->side[!which].certificate);
}

/* RFC 5764 §4.2: both ends export the same 60 bytes, and each byte is in its place. */
static void assert_srtp_keys(pair *p, int which, ossl *o)
{
    static const char label[] = "EXTRACTOR-dtls_srtp";
    uint8_t block[60];
    dp_srtp_keys keys;
    assert_int_equal(
        SSL_export_keying_material(o->ssl, block, sizeof block, label, sizeof label - 1, NULL, 0, 0), 1);
    assert_int_equal(dp_dtls_srtp_keys(p->side[which].dtls, &keys), DP_OK);
    assert_int_equal(keys.profile, DP_SRTP_AES128_CM_HMAC_SHA1_80);
    bool client = which == CLIENT;
    assert_memory_equal(client ? keys.local_key : keys.remote_key, block, 16);
    assert_memory_equal(client ? keys.remote_key : keys.local_key, block + 16, 16);
    assert_memory_equal(client ? keys.local_salt : keys.remote_salt, block + 32, 14);
    assert_memory_equal(client ? keys.remote_salt : keys.local_salt, block + 46, 14);
}

/* OpenSSL closes when it is the client, we do otherwise. */
static void close_both(pair *p, int which, ossl *o)
{
    if (which == SERVER) {
        assert_int_equal(SSL_shutdown(o->ssl), 0); /* sent, not answered yet */
        ossl_collect(p, which, o);
        ossl_run(p, which, o);
        assert_true(p->side[which].closed);
    } else {
        dp_dtls_close(p->side[which].dtls, p->now);
        ossl_collect(p, which, o);
        ossl_run(p, which, o);
    }
    assert_int_equal(SSL_get_shutdown(o->ssl) & SSL_RECEIVED_SHUTDOWN, SSL_RECEIVED_SHUTDOWN);
    assert_int_equal(dp_dtls_get_state(p->side[which].dtls), DP_DTLS_CLOSED);
}

/* groups: OpenSSL's list, whose first we have to agree on. */
static void carry(int which, const char *suite, const char *groups, int group)
{
    pair p;
    char line[300] = "";
    init_with_key_log(&p, 1, which, line);
    ossl *o = ossl_new(&p, !which);
    assert_int_equal(SSL_set_cipher_list(o->ssl, suite), 1);
    assert_int_equal(SSL_set1_groups_list(o->ssl, groups), 1);
    assert_int_equal(SSL_set_tlsext_use_srtp(o->ssl, "SRTP_AES128_CM_SHA1_80"), 0);
    ossl_connect(&p, which, o);
    assert_string_equal(SSL_get_version(o->ssl), "DTLSv1.2");
    assert_string_equal(SSL_get_cipher_name(o->ssl), suite);
    assert_int_equal(SSL_get_negotiated_group(o->ssl), group);
    assert_int_equal(SSL_get_extms_support(o->ssl), 1);
    assert_int_equal(SSL_get_secure_renegotiation_support(o->ssl), 1);
    assert_srtp_keys(&p, which, o);
    assert_int_equal(strlen(line), strlen("CLIENT_RANDOM ") + 64 + 1 + 96);
    assert_string_equal(line, o->key_log);

    uint8_t message[1100];
    dp_random source = test_source(&p.random);
    for (size_t len = 1; len <= sizeof message; len = len * 3 + 1) {
        source.fn(source.ctx, message, len);
        ossl_echo(&p, which, o, message, len);
    }
    close_both(&p, which, o);
    ossl_free(o);
    pair_clear(&p);
}

static void test_each_suite_and_group(void **state)
{
    (void)state;
    static const char *const suites[] = {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
                                         "ECDHE-ECDSA-CHACHA20-POLY1305"};
    for (int which = 0; which < 2; which++)
        for (size_t s = 0; s < 3; s++) {
            /* RFC 8422 §5.1: the curves of certificates have to be in the list, so X25519 is never alone. */
            carry(which, suites[s], "X25519:P-256", NID_X25519);
            carry(which, suites[s], "P-256", NID_X9_62_prime256v1);
        }
}

/* Left alone, the two agree on what RFC 8827 §6.5 puts first. */
static void test_preferred_suite(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        pair p;
        pair_init(&p, 2);
        ossl *o = ossl_new(&p, !which);
        ossl_connect(&p, which, o);
        assert_string_equal(SSL_get_cipher_name(o->ssl), "ECDHE-ECDSA-AES128-GCM-SHA256");
        assert_int_equal(SSL_get_negotiated_group(o->ssl), NID_X25519);
        ossl_free(o);
        pair_clear(&p);
    }
}

/* RFC 7627 §5.3 lets a peer without the extension in; the exported keys agree all the same. */
static void test_without_extended_master_secret(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        pair p;
        pair_init(&p, 3);
        ossl *o = ossl_new(&p, !which);
        SSL_set_options(o->ssl, SSL_OP_NO_EXTENDED_MASTER_SECRET);
        assert_int_equal(SSL_set_tlsext_use_srtp(o->ssl, "SRTP_AES128_CM_SHA1_80"), 0);
        ossl_connect(&p, which, o);
        assert_int_equal(SSL_get_extms_support(o->ssl), 0);
        assert_srtp_keys(&p, which, o);
        ossl_echo(&p, which, o, "hello", 5);
        ossl_free(o);
        pair_clear(&p);
    }
}

/* profiles: OpenSSL's list, NULL for no extension at all. */
static void agree_on_srtp(int which, const char *profiles, bool agreed)
{
    pair p;
    pair_init(&p, 4);
    dp_srtp_keys keys;
    ossl *o = ossl_new(&p, !which);
    if (profiles != NULL)
        assert_int_equal(SSL_set_tlsext_use_srtp(o->ssl, profiles), 0);
    assert_int_equal(dp_dtls_srtp_keys(p.side[which].dtls, &keys), DP_ERR_INVALID_STATE);
    ossl_connect(&p, which, o);
    const SRTP_PROTECTION_PROFILE *chosen = SSL_get_selected_srtp_profile(o->ssl);
    if (agreed) {
        assert_non_null(chosen);
        assert_int_equal(chosen->id, SRTP_AES128_CM_SHA1_80);
        assert_srtp_keys(&p, which, o);
    } else {
        assert_null(chosen);
        assert_int_equal(dp_dtls_srtp_keys(p.side[which].dtls, &keys), DP_ERR_UNSUPPORTED);
    }
    ossl_echo(&p, which, o, "data", 4);
    dp_dtls_close(p.side[which].dtls, p.now);
    assert_int_equal(dp_dtls_srtp_keys(p.side[which].dtls, &keys), DP_ERR_INVALID_STATE);
    ossl_free(o);
    pair_clear(&p);
}

static void test_srtp_profiles(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        agree_on_srtp(which, NULL, false);
        agree_on_srtp(which, "SRTP_AES128_CM_SHA1_80", true);
        agree_on_srtp(which, "SRTP_AEAD_AES_128_GCM:SRTP_AES128_CM_SHA1_80", true);
        agree_on_srtp(which, "SRTP_AEAD_AES_128_GCM", false);
        agree_on_srtp(which, "SRTP_AES128_CM_SHA1_32",
                      false); /* RFC 5764's other one, which we do not have */
    }
}

/* ---- identity ---------------------------------------------------------------------------------------- */

/* RFC 6347 §4.2.1. "openssl s_server" asks for cookies, too. */
static int make_cookie(SSL *ssl, unsigned char *cookie, unsigned *len)
{
    (void)ssl;
    memcpy(cookie, "cookie", *len = 6);
    return 1;
}

static int check_cookie(SSL *ssl, const unsigned char *cookie, unsigned len)
{
    (void)ssl;
    return len == 6 && memcmp(cookie, "cookie", 6) == 0;
}

static void use_cookies(ossl *o)
{
    SSL_CTX_set_cookie_generate_cb(o->ctx, make_cookie);
    SSL_CTX_set_cookie_verify_cb(o->ctx, check_cookie);
    SSL_set_options(o->ssl, SSL_OP_COOKIE_EXCHANGE);
}

/* Row 30: the error comes soon and names both fingerprints. */
static ossl *mismatch(pair *p, int which, bool cookies, bool (*tap)(pair *, int, uint8_t *, size_t *))
{
    pair_init(p, 30);
    ossl *o = ossl_new(p, !which);
    if (cookies)
        use_cookies(o);
    pair_expect(p, which, test_certificate(2));
    p->tap = tap;
    dp_time begin = p->now;
    ossl_start(p, which, o);
    while (!p->side[which].failed && ossl_turn(p, which, o)) {
    }
    assert_true(p->now - begin < DP_SECONDS(5));
    assert_false(p->side[which].connected);
    assert_int_equal(p->side[which].error, DP_ERR_FINGERPRINT);
    dp_fingerprint fp;
    char text[DP_FINGERPRINT_TEXT_MAX];
    dp_certificate_fingerprint(test_certificate(2), &fp);
    assert_non_null(strstr(p->side[which].message, dp_fingerprint_format(&fp, text)));
    dp_certificate_fingerprint(p->side[!which].certificate, &fp);
    assert_non_null(strstr(p->side[which].message, dp_fingerprint_format(&fp, text)));
    ossl_run(p, which, o);
    assert_false(o->done);
    return o;
}

/* A server's first flight arrives, and nothing more of it. */
static bool fall_silent(pair *p, int from, uint8_t *data, size_t *len)
{
    (void)data;
    (void)len;
    return from == CLIENT || p->now < DP_SECONDS(1000) + DP_MS(20);
}

static void test_wrong_fingerprint(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++)
        for (int cookies = 0; cookies <= (which == CLIENT); cookies++) {
            pair p;
            ossl *o = mismatch(&p, which, cookies, NULL);
            assert_int_equal(o->alert >> 8, SSL3_AL_FATAL); /* it gets to know */
            ossl_free(o);
            pair_clear(&p);
        }
    /* A client looks twice, for the first look might have been at an altered copy; but it does not wait for ever. */
    pair p;
    ossl *o = mismatch(&p, CLIENT, false, fall_silent);
    ossl_free(o);
    pair_clear(&p);
}

/* Row 29. */
static void test_no_client_certificate(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 29);
    ossl *o = ossl_new(&p, CLIENT);
    SSL_certs_clear(o->ssl);
    ossl_handshake(&p, SERVER, o);
    assert_true(p.side[SERVER].failed);
    assert_false(p.side[SERVER].connected);
    assert_int_equal(p.side[SERVER].error, DP_ERR_AUTH);
    assert_int_equal(o->alert, SSL3_AL_FATAL << 8 | SSL_AD_BAD_CERTIFICATE);
    ossl_free(o);
    pair_clear(&p);
}

/* Row 32: only the leaf counts, and there is a limit to what may follow. */
static void test_chains(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        static const struct {
            int more;
            bool connects;
        } cases[] = {{2, true}, {7, true}, {8, false}, {19, false}};
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            pair p;
            pair_init(&p, 32);
            ossl *o = ossl_new(&p, !which);
            ossl_chain(o, cases[i].more);
            ossl_handshake(&p, which, o);
            assert_int_equal(p.side[which].connected, cases[i].connects);
            assert_int_equal(p.side[which].error, cases[i].connects ? DP_OK : DP_ERR_AUTH);
            ossl_free(o);
            pair_clear(&p);
        }
    }
    /* A right certificate behind a wrong leaf does not help. */
    pair p;
    pair_init(&p, 33);
    ossl *o = ossl_new(&p, SERVER);
    pair_expect(&p, CLIENT, test_certificate(2));
    ossl_chain(o, 1);
    ossl_handshake(&p, CLIENT, o);
    assert_int_equal(p.side[CLIENT].error, DP_ERR_FINGERPRINT);
    ossl_free(o);
    pair_clear(&p);
}

/* A self-signed RSA certificate, and its fingerprint. */
static void own_rsa(ossl *o, dp_fingerprint *fp)
{
    EVP_PKEY *key = EVP_RSA_gen(2048);
    X509 *x509 = X509_new();
    assert_non_null(key);
    X509_set_version(x509, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), 7);
    X509_gmtime_adj(X509_getm_notBefore(x509), 0);
    X509_gmtime_adj(X509_getm_notAfter(x509), 86400);
    X509_set_pubkey(x509, key);
    X509_NAME *name = X509_get_subject_name(x509);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"rsa", -1, -1, 0);
    X509_set_issuer_name(x509, name);
    assert_true(X509_sign(x509, key, EVP_sha256()) > 0);
    SSL_certs_clear(o->ssl);
    assert_int_equal(SSL_use_certificate(o->ssl, x509), 1);
    assert_int_equal(SSL_use_PrivateKey(o->ssl, key), 1);
    unsigned len = 0;
    *fp = (dp_fingerprint){.algorithm = DP_FINGERPRINT_SHA256, .length = 32};
    assert_int_equal(X509_digest(x509, EVP_sha256(), fp->bytes, &len), 1);
    X509_free(x509);
    EVP_PKEY_free(key);
}

/* A client may show RSA, which some WebRTC stacks still do. A server that has nothing else shares no suite with
 * us: it says so, and that is in the error. */
static void test_rsa_certificates(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        pair p;
        dp_fingerprint fp;
        pair_init(&p, 34);
        ossl *o = ossl_new(&p, !which);
        own_rsa(o, &fp);
        assert_int_equal(dp_dtls_set_remote_fingerprints(p.side[which].dtls, &fp, 1), DP_OK);
        ossl_handshake(&p, which, o);
        if (which == SERVER) {
            assert_true(p.side[which].connected);
            ossl_echo(&p, which, o, "hello", 5);
        } else {
            assert_int_equal(ERR_GET_REASON(o->error), SSL_R_NO_SHARED_CIPHER);
            assert_true(p.side[which].failed);
            assert_non_null(strstr(p.side[which].message, "alert 40"));
        }
        ossl_free(o);
        pair_clear(&p);
    }
}

/* ---- what is refused ---------------------------------------------------------------------------------- */

static void test_dtls_1_0_is_refused(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        pair p;
        pair_init(&p, 35);
        ossl *o = ossl_new(&p, !which);
        assert_int_equal(SSL_set_cipher_list(o->ssl, "ALL:@SECLEVEL=0"), 1);
        assert_int_equal(SSL_set_min_proto_version(o->ssl, DTLS1_VERSION), 1);
        assert_int_equal(SSL_set_max_proto_version(o->ssl, DTLS1_VERSION), 1);
        ossl_handshake(&p, which, o);
        assert_true(p.side[which].failed);
        assert_false(o->done);
        /* A server of that version knows none of our suites; of a client mbedTLS says "Handshake protocol not
         * within min/max boundaries". */
        assert_non_null(strstr(p.side[which].message, which == CLIENT ? "alert 40" : "-0x6e80"));
        ossl_free(o);
        pair_clear(&p);
    }
}

/* Row 36: as client it asks with a ClientHello, as server with HelloRequest. Refused (RFC 8827 §6.5), it gives up, while
 * mbedTLS goes on with the old keys. */
static void test_renegotiation_is_refused(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        pair p;
        pair_init(&p, 36);
        ossl *o = ossl_new(&p, !which);
        ossl_connect(&p, which, o);
        ossl_echo(&p, which, o, "before", 6);
        assert_int_equal(SSL_renegotiate(o->ssl), 1);
        (void)SSL_do_handshake(o->ssl);
        assert_true(o->out_count > 0);
        ossl_collect(&p, which, o);
        for (int i = 0; i < 10; i++)
            (void)ossl_turn(&p, which, o); /* the question and some of its repetitions */
        assert_int_equal(o->alert, SSL3_AL_WARNING << 8 | SSL_AD_NO_RENEGOTIATION);
        assert_int_equal(p.side[which].error, DP_ERR_REMOTE);
        assert_non_null(strstr(p.side[which].message, "alert 40"));
        ossl_free(o);
        pair_clear(&p);
    }
}

/* RFC 5077 and session ids: a session of before would skip the certificates, so there is none. */
static void test_no_resumption(void **state)
{
    (void)state;
    SSL_SESSION *session = NULL;
    for (int again = 0; again < 2; again++) {
        pair p;
        pair_init(&p, 370 + (uint64_t)again); /* or our server would pick the same session id twice */
        ossl *o = ossl_new(&p, CLIENT);
        if (again) {
            assert_true(SSL_SESSION_is_resumable(session));
            assert_int_equal(SSL_set_session(o->ssl, session), 1);
        }
        ossl_connect(&p, SERVER, o);
        assert_false(SSL_session_reused(o->ssl));
        assert_false(SSL_SESSION_has_ticket(SSL_get_session(o->ssl)));
        (void)SSL_shutdown(o->ssl); /* or OpenSSL would not offer it again */
        SSL_SESSION_free(session);
        session = SSL_get1_session(o->ssl);
        ossl_free(o);
        pair_clear(&p);
    }
    SSL_SESSION_free(session);
}

/* RFC 6066 §4: mbedTLS agrees to shorter records; OpenSSL would end the connection for a longer one. */
static void test_max_fragment_length(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 38);
    ossl *o = ossl_new(&p, CLIENT);
    assert_int_equal(SSL_set_tlsext_max_fragment_length(o->ssl, TLSEXT_max_fragment_length_512), 1);
    ossl_connect(&p, SERVER, o);
    static const uint8_t message[513];
    uint8_t datagram[1500];
    size_t len = 0;
    ossl_inject(o, datagram, pair_seal(&p, SERVER, datagram, message, 512));
    assert_int_equal(o->data_len, 512);
    dp_dtls *server = p.side[SERVER].dtls;
    assert_int_equal(dp_dtls_seal(server, datagram, sizeof datagram, &len, message, 513), DP_ERR_TOO_LARGE);
    ossl_free(o);
    pair_clear(&p);
}

/* ---- cookies ------------------------------------------------------------------------------------------ */

/* RFC 6347 §4.2.1: one more round trip. */
static void test_hello_verify_request(void **state)
{
    (void)state;
    dp_time took[2];
    for (int cookies = 0; cookies < 2; cookies++) {
        pair p;
        pair_init(&p, 39);
        ossl *o = ossl_new(&p, SERVER);
        if (cookies)
            use_cookies(o);
        dp_time begin = p.now;
        ossl_connect(&p, CLIENT, o);
        took[cookies] = p.now - begin;
        ossl_echo(&p, CLIENT, o, "hello", 5);
        ossl_free(o);
        pair_clear(&p);
    }
    assert_int_equal(took[1], took[0] + DP_MS(20));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_suite_and_group),
        cmocka_unit_test(test_preferred_suite),
        cmocka_unit_test(test_without_extended_master_secret),
        cmocka_unit_test(test_srtp_profiles),
        cmocka_unit_test(test_wrong_fingerprint),
        cmocka_unit_test(test_no_client_certificate),
        cmocka_unit_test(test_chains),
        cmocka_unit_test(test_rsa_certificates),
        cmocka_unit_test(test_dtls_1_0_is_refused),
        cmocka_unit_test(test_renegotiation_is_refused),
        cmocka_unit_test(test_no_resumption),
        cmocka_unit_test(test_max_fragment_length),
        cmocka_unit_test(test_hello_verify_request),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_certificate(-1);
    return failed;
}
