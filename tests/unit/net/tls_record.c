/* Records after a TLS handshake, our two ends against each other: what comes in pieces, altered, out of order. That others
 * understand them is tested in tls.c (mbedTLS) and tls_server.c (OpenSSL). */
#include "net/tls_record.h"

#include "tests/unit/net/helper.h"
#include <string.h>

static const int suites[] = {MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                             MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                             MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                             MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
                             MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                             MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256};
enum { SUITES = sizeof(suites) / sizeof(suites[0]), DATA = MBEDTLS_SSL_MSG_APPLICATION_DATA };

static tls_records *client, *server;
static uint8_t wire[3 * (DP_TLS_PLAIN_MAX + TLS_RECORD_OVERHEAD)];
static size_t wire_len;
static uint8_t plain[DP_TLS_PLAIN_MAX];
static size_t plain_len;
static uint8_t type;

static tls_secret secret(void)
{
    tls_secret s = {.prf = MBEDTLS_SSL_TLS_PRF_SHA256};
    memset(s.master, 7, sizeof(s.master));
    memset(s.randoms, 9, sizeof(s.randoms));
    return s;
}

static void start(int suite)
{
    const tls_secret s = secret();
    dp_tls_records_free(client);
    dp_tls_records_free(server);
    client = dp_tls_records_new(&s, suite, false);
    server = dp_tls_records_new(&s, suite, true);
    assert_non_null(client);
    assert_non_null(server);
    wire_len = 0;
}

static int stop(void **state)
{
    (void)state;
    dp_tls_records_free(client);
    dp_tls_records_free(server);
    client = server = NULL;
    return 0;
}

static uint8_t byte_at(size_t i) { return (uint8_t)(i * 5 + (i >> 8)); }

static void seal(tls_records *from, uint8_t kind, size_t len)
{
    static uint8_t data[DP_TLS_PLAIN_MAX];
    size_t n;
    for (size_t i = 0; i < len; i++)
        data[i] = byte_at(i);
    assert_int_equal(dp_tls_records_seal(from, wire + wire_len, &n, kind, data, len), 0);
    assert_in_range(n, len + 21, len + TLS_RECORD_OVERHEAD);
    wire_len += n;
}

/* Gives bytes that end where their memory ends; what is left of them must be nothing, or behind a whole record. */
static int open_bytes(tls_records *to, const uint8_t *bytes, size_t len, size_t *left)
{
    uint8_t *exact = malloc(len);
    assert_non_null(exact);
    memcpy(exact, bytes, len);
    const uint8_t *at = exact;
    *left = len;
    int ret = dp_tls_records_open(to, &type, plain, &plain_len, &at, left);
    assert_ptr_equal(at, exact + len - *left);
    free(exact);
    if (ret == MBEDTLS_ERR_SSL_WANT_READ)
        assert_int_equal(*left, 0);
    return ret;
}

static void expect_plain(size_t len)
{
    assert_int_equal(plain_len, len);
    for (size_t i = 0; i < len; i++)
        if (plain[i] != byte_at(i))
            fail_msg("byte %zu of %zu", i, len);
}

/* ---- tests ---- */

static void test_both_ways(void **state)
{
    (void)state;
    static const size_t lens[] = {0, 1, 15, 16, 17, 1000, DP_TLS_PLAIN_MAX - 1, DP_TLS_PLAIN_MAX};
    for (size_t suite = 0; suite < SUITES; suite++) {
        start(suites[suite]);
        for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
            for (int back = 0; back < 2; back++) {
                size_t left;
                wire_len = 0;
                seal(back ? server : client, (uint8_t)(20 + i % 4), lens[i]);
                assert_int_equal(open_bytes(back ? client : server, wire, wire_len, &left), 0);
                assert_int_equal(left, 0);
                assert_int_equal(type, 20 + i % 4);
                expect_plain(lens[i]);
            }
    }
}

/* Three records, in pieces of each length. */
static void test_pieces(void **state)
{
    (void)state;
    for (size_t suite = 0; suite < SUITES; suite += 2)
        for (size_t step = 1; step < 600; step++) {
            size_t records = 0;
            start(suites[suite]);
            for (size_t i = 0; i < 3; i++)
                seal(client, DATA, 150 + i);
            for (size_t at = 0; at < wire_len; at += step) {
                size_t left = wire_len - at < step ? wire_len - at : step;
                size_t end = at + left;
                while (left > 0) {
                    int ret = open_bytes(server, wire + end - left, left, &left);
                    if (ret == MBEDTLS_ERR_SSL_WANT_READ)
                        break;
                    assert_int_equal(ret, 0);
                    expect_plain(150 + records++);
                }
            }
            assert_int_equal(records, 3);
        }
}

/* Each bit of a record counts: after its header has been understood it is a wrong tag. */
static void test_altered(void **state)
{
    (void)state;
    for (size_t suite = 0; suite < SUITES; suite += 2)
        for (size_t bit = 0;; bit++) {
            size_t left;
            start(suites[suite]);
            seal(client, DATA, 20);
            if (bit == wire_len * 8)
                break;
            wire[bit / 8] ^= (uint8_t)(1u << bit % 8);
            int ret = open_bytes(server, wire, wire_len, &left);
            if (bit / 8 == 1 || bit / 8 == 2)
                assert_int_equal(ret, MBEDTLS_ERR_SSL_UNEXPECTED_MESSAGE); /* the version */
            else if (bit / 8 == 3)
                assert_true(ret == MBEDTLS_ERR_SSL_WANT_READ || ret == MBEDTLS_ERR_SSL_INVALID_RECORD);
            else if (bit / 8 == 4)
                assert_true(ret == MBEDTLS_ERR_SSL_WANT_READ || ret == MBEDTLS_ERR_SSL_INVALID_MAC);
            else
                assert_int_equal(ret, MBEDTLS_ERR_SSL_INVALID_MAC);
        }
}

/* A record that is lost, comes twice, or goes back to who sent it. */
static void test_order(void **state)
{
    (void)state;
    size_t left;
    for (size_t suite = 0; suite < SUITES; suite += 2) {
        start(suites[suite]);
        seal(client, DATA, 10);
        size_t first = wire_len;
        seal(client, DATA, 10);
        assert_int_equal(open_bytes(server, wire + first, wire_len - first, &left),
                         MBEDTLS_ERR_SSL_INVALID_MAC);
        start(suites[suite]);
        seal(client, DATA, 10);
        assert_int_equal(open_bytes(server, wire, wire_len, &left), 0);
        assert_int_equal(open_bytes(server, wire, wire_len, &left), MBEDTLS_ERR_SSL_INVALID_MAC);
        start(suites[suite]);
        seal(client, DATA, 10);
        assert_int_equal(open_bytes(client, wire, wire_len, &left), MBEDTLS_ERR_SSL_INVALID_MAC);
    }
}

/* GCM's explicit nonces: 1, 2, ... in either direction; Finished had 0. */
static void test_nonces(void **state)
{
    (void)state;
    start(suites[0]);
    for (uint8_t number = 1; number < 4; number++) {
        const uint8_t nonce[8] = {0, 0, 0, 0, 0, 0, 0, number};
        wire_len = 0;
        seal(client, DATA, 1);
        assert_memory_equal(wire + 5, nonce, 8);
        wire_len = 0;
        seal(server, DATA, 1);
        assert_memory_equal(wire + 5, nonce, 8);
    }
}

static void test_lengths(void **state)
{
    (void)state;
    static const size_t bodies[] = {0,     1,     15,    16,    17,    23,    24,    25,
                                    16399, 16400, 16401, 16407, 16408, 16409, 20000, 65535};
    for (size_t suite = 0; suite < SUITES; suite += 2)
        for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
            size_t body = bodies[i];
            size_t left;
            size_t least = suite == 4 ? 16 : 24; /* the tag; GCM has its nonce before it */
            const uint8_t head[] = {DATA, 3, 3, (uint8_t)(body >> 8), (uint8_t)body};
            start(suites[suite]);
            int expected = body < least                      ? MBEDTLS_ERR_SSL_INVALID_MAC
                           : body > DP_TLS_PLAIN_MAX + least ? MBEDTLS_ERR_SSL_INVALID_RECORD
                                                             : MBEDTLS_ERR_SSL_WANT_READ;
            assert_int_equal(open_bytes(server, head, sizeof(head), &left), expected);
        }
}

static void test_no_suite(void **state)
{
    (void)state;
    const tls_secret s = secret();
    assert_null(dp_tls_records_new(&s, MBEDTLS_TLS_RSA_WITH_AES_128_CBC_SHA, true));
    assert_null(dp_tls_records_new(&s, 0, true));
}

static void test_without_memory(void **state)
{
    (void)state;
    const tls_secret s = secret();
    size_t left;
    fail_allocation(1);
    assert_null(dp_tls_records_new(&s, suites[0], true));
    fail_allocation(0);
    start(suites[0]);
    seal(client, DATA, 100);
    fail_allocation(1);
    assert_int_equal(open_bytes(server, wire, wire_len - 1, &left), MBEDTLS_ERR_SSL_ALLOC_FAILED);
    assert_int_equal(open_bytes(server, wire, wire_len, &left), 0); /* a whole record needs none */
    fail_allocation(0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, stop)
    const struct CMUnitTest tests[] = {
        TEST(test_both_ways), TEST(test_pieces),  TEST(test_altered),  TEST(test_order),
        TEST(test_nonces),    TEST(test_lengths), TEST(test_no_suite), TEST(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
