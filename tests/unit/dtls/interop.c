/* Against a bare mbedTLS end: the suites, fragmented ClientHellos, certificates that are missing or too many.
 */
#include "mbed.h"

#include "dtls/prefilter.h"

#include <time.h>

/* The seconds that mbedTLS puts into its hellos stand still. */
__attribute__((visibility("default"))) time_t time(time_t *out)
{
    if (out != NULL)
        *out = WALL_CLOCK;
    return WALL_CLOCK;
}

static void start(pair *p, int which) { assert_int_equal(dp_dtls_start(p->side[which].dtls, p->now), DP_OK); }

/* mbedTLS seals and opens the other end of our own record layer, for each suite, in both roles. */
static void carry(int which, int suite, size_t overhead)
{
    pair p;
    pair_init(&p, 50 + (uint64_t)suite);
    mbed *m = mbed_new(!which, 51);
    int suites[] = {suite, 0};
    mbedtls_ssl_conf_ciphersuites(&m->conf, suites);
    mbed_own(m, p.side[!which].certificate);
    mbed_setup(m);
    start(&p, which);
    mbed_exchange(&p, which, m);
    assert_true(m->done);
    assert_true(p.side[which].connected);
    assert_int_equal(mbedtls_ssl_get_ciphersuite_id(mbedtls_ssl_get_ciphersuite(&m->ssl)), suite);

    uint8_t message[1100];
    dp_random source = test_source(&p.random);
    for (size_t len = 1; len <= sizeof message; len = len * 3 + 1) {
        source.fn(source.ctx, message, len);
        assert_int_equal(mbedtls_ssl_write(&m->ssl, message, len), (int)len);
        mbed_exchange(&p, which, m);
        assert_int_equal(p.side[which].data_len, len);
        assert_memory_equal(p.side[which].data, message, len);

        uint8_t datagram[1500];
        uint8_t got[1500];
        size_t sealed = pair_seal(&p, which, datagram, message, len);
        assert_int_equal(sealed, len + overhead);
        mbed_push(m->in, &m->in_count, datagram, sealed);
        assert_int_equal(mbedtls_ssl_read(&m->ssl, got, sizeof got), (int)len);
        assert_memory_equal(got, message, len);
    }
    if (which == CLIENT) {
        dp_dtls_close(p.side[which].dtls, p.now);
        mbed_exchange(&p, which, m);
        uint8_t got[1];
        assert_int_equal(mbedtls_ssl_read(&m->ssl, got, sizeof got), MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY);
    } else {
        assert_int_equal(mbedtls_ssl_close_notify(&m->ssl), 0);
        mbed_exchange(&p, which, m);
        assert_true(p.side[which].closed);
        assert_int_equal(m->in_count, 1); /* our own close_notify as the answer */
    }
    mbed_free(m);
    pair_clear(&p);
}

static void test_each_suite(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        carry(which, MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, 37);
        carry(which, MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, 37);
        carry(which, MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, 29);
    }
}

static void test_fatal_alert(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 55);
    mbed *m = mbed_new(SERVER, 56);
    mbed_own(m, p.side[SERVER].certificate);
    mbed_setup(m);
    start(&p, CLIENT);
    mbed_exchange(&p, CLIENT, m);
    assert_true(p.side[CLIENT].connected);
    mbedtls_ssl_send_alert_message(&m->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL,
                                   MBEDTLS_SSL_ALERT_MSG_INTERNAL_ERROR);
    mbed_exchange(&p, CLIENT, m);
    assert_true(p.side[CLIENT].failed);
    assert_int_equal(p.side[CLIENT].error, DP_ERR_REMOTE);
    assert_non_null(strstr(p.side[CLIENT].message, "80"));
    mbed_free(m);
    pair_clear(&p);
}

static int write_cookie(void *ctx, unsigned char **at, unsigned char *end, const unsigned char *id,
                        size_t id_len)
{
    (void)ctx;
    (void)id;
    (void)id_len;
    assert_true(end - *at >= 6);
    memcpy(*at, "cookie", 6);
    *at += 6;
    return 0;
}

static int check_cookie(void *ctx, const unsigned char *cookie, size_t len, const unsigned char *id,
                        size_t id_len)
{
    (void)ctx;
    (void)id;
    (void)id_len;
    return len == 6 && memcmp(cookie, "cookie", 6) == 0 ? 0 : -1;
}

/* RFC 6347 §4.2.1: we ask for no cookie, but some servers do (werift). */
static void test_hello_verify_request(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 53);
    mbed *m = mbed_new(SERVER, 54);
    mbedtls_ssl_conf_dtls_cookies(&m->conf, write_cookie, check_cookie, NULL);
    mbed_own(m, p.side[SERVER].certificate);
    mbed_setup(m);
    assert_int_equal(mbedtls_ssl_set_client_transport_id(&m->ssl, (const uint8_t *)"id", 2), 0);
    start(&p, CLIENT);
    mbed_exchange(&p, CLIENT, m);
    assert_int_equal(m->cookies, 1);
    assert_true(m->done);
    assert_true(p.side[CLIENT].connected);
    mbed_free(m);
    pair_clear(&p);
}

/* The i-th byte of the flight's datagrams; NULL behind the end. */
static uint8_t *flight_byte(mbed *m, size_t i)
{
    for (size_t n = 0; n < m->out_count; n++) {
        if (i < m->out[n].len)
            return &m->out[n].data[i];
        i -= m->out[n].len;
    }
    return NULL;
}

/* The type of the handshake message that the i-th byte of the datagram belongs to; 0: none. */
static int message_at(const mbed_datagram *datagram, size_t i)
{
    dp_rd rd = dp_rd_init(datagram->data, datagram->len);
    dp_record record;
    while (dp_record_read(&record, &rd))
        if (&datagram->data[i] >= record.body && &datagram->data[i] < record.body + record.length)
            return record.body[0];
    return 0;
}

/* Row 28: somebody sees the server's flight and is faster with an altered copy of it (copy), or the network alters it. A
 * server that has its ClientHello takes no other one; so ours repeats the same, and the genuine flight counts. */
static bool survives_alteration(size_t at, bool copy, int *message)
{
    pair p;
    pair_init(&p, 61);
    mbed *m = mbed_new(SERVER, 62);
    mbed_own(m, p.side[SERVER].certificate);
    mbed_setup(m);
    start(&p, CLIENT);
    uint8_t data[1500];
    size_t len = 0;
    assert_true(dp_dtls_poll_transmit(p.side[CLIENT].dtls, data, sizeof data, &len));
    mbed_push(m->in, &m->in_count, data, len);
    mbed_step(m);
    uint8_t *byte = flight_byte(m, at);
    bool connected = false;
    *message = -1;
    if (byte != NULL) {
        size_t n = 0;
        for (size_t i = at; i >= m->out[n].len; i -= m->out[n++].len) {
        }
        *message = message_at(&m->out[n], (size_t)(byte - m->out[n].data));
        *byte ^= 0x10;
        for (n = 0; n < m->out_count; n++)
            pair_inject(&p, CLIENT, m->out[n].data, m->out[n].len);
        *byte ^= 0x10;
        if (!copy)
            m->out_count = 0;
        for (int timers = 0; timers < 3 && !m->done && m->error == 0; timers++) {
            mbed_exchange(&p, CLIENT, m);
            p.now = dp_dtls_next_timeout(p.side[CLIENT].dtls);
            dp_dtls_handle_timeout(p.side[CLIENT].dtls, p.now);
        }
        connected = m->done && p.side[CLIENT].connected;
    }
    mbed_free(m);
    pair_clear(&p);
    return connected;
}

static void test_altered_flight(void **state)
{
    (void)state;
    for (int copy = 0; copy < 2; copy++) {
        int survived = 0;
        int ended = 0;
        int message = 0;
        for (size_t at = 0; message >= 0; at += 7) {
            bool connected = survives_alteration(at, copy, &message);
            bool proved =
                message == 11 || message == 12; /* Certificate by its fingerprint, ServerKeyExchange by it */
            assert_true(connected || !proved);
            survived += message >= 0 && connected;
            ended += message >= 0 && !connected;
        }
        print_message("%d of %d altered flights survived\n", survived, survived + ended);
        assert_true(survived > 8 * ended);
    }
}

/* Only suites that we refuse: fails, bounded. */
static void test_no_common_suite(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 57);
    mbed *m = mbed_new(CLIENT, 58);
    int suites[] = {MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256, 0};
    mbedtls_ssl_conf_ciphersuites(&m->conf, suites);
    mbed_own(m, p.side[CLIENT].certificate);
    mbed_setup(m);
    start(&p, SERVER);
    mbed_exchange(&p, SERVER, m);
    assert_false(p.side[SERVER].connected);
    mbed_free(m);
    pair_clear(&p);
}

/* Row 29: mbedTLS's handshake completes, the connection does not. */
static void test_no_client_certificate(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 29);
    mbed *m = mbed_new(CLIENT, 60);
    mbed_setup(m);
    start(&p, SERVER);
    mbed_exchange(&p, SERVER, m);
    assert_true(m->done);
    assert_true(p.side[SERVER].failed);
    assert_false(p.side[SERVER].connected);
    assert_int_equal(p.side[SERVER].error, DP_ERR_AUTH);
    uint8_t got[1];
    assert_int_equal(mbedtls_ssl_read(&m->ssl, got, sizeof got), MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE);
    mbed_free(m);
    pair_clear(&p);
}

/* Row 32: the leaf is right, but nineteen more follow. */
static void test_long_chain(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        pair p;
        pair_init(&p, 32);
        char pem[2048];
        dp_certificate *chain = NULL;
        assert_int_equal(dp_certificate_to_pem(p.side[!which].certificate, pem, sizeof pem), DP_OK);
        assert_int_equal(dp_certificate_from_pem(&chain, pem), DP_OK);
        const mbedtls_x509_buf *der = &test_certificate(2)->crt.raw;
        for (int i = 0; i < 19; i++)
            assert_int_equal(mbedtls_x509_crt_parse_der(&chain->crt, der->p, der->len), 0);
        mbed *m = mbed_new(!which, 61);
        mbed_own(m, chain);
        mbed_setup(m);
        start(&p, which);
        mbed_exchange(&p, which, m);
        assert_true(p.side[which].failed);
        assert_int_equal(p.side[which].error, DP_ERR_AUTH);
        mbed_free(m);
        dp_certificate_free(chain);
        pair_clear(&p);
    }
}

/* Row 36: who asks for new keys, before the first data or after it, gets no_renegotiation (RFC 8827 §6.5), once. */
static void refuse_renegotiation(int which, bool data_first)
{
    pair p;
    pair_init(&p, 36);
    mbed *m = mbed_new(!which, 62);
    mbed_own(m, p.side[!which].certificate);
    mbedtls_ssl_conf_renegotiation(&m->conf, MBEDTLS_SSL_RENEGOTIATION_ENABLED);
    mbedtls_ssl_conf_legacy_renegotiation(&m->conf, MBEDTLS_SSL_LEGACY_ALLOW_RENEGOTIATION);
    mbed_setup(m);
    start(&p, which);
    mbed_exchange(&p, which, m);
    assert_true(p.side[which].connected);
    if (data_first) {
        assert_int_equal(mbedtls_ssl_write(&m->ssl, (const uint8_t *)"x", 1), 1);
        mbed_exchange(&p, which, m);
    }
    int ret = mbedtls_ssl_renegotiate(&m->ssl);
    assert_int_equal(ret, which == SERVER ? MBEDTLS_ERR_SSL_WANT_READ : 0);
    assert_int_equal(m->out_count, 1);
    uint8_t data[1500];
    size_t len = mbed_pop(m->out, &m->out_count, data, sizeof data);
    pair_inject(&p, which, data, len);
    pair_inject(&p, which, data, len); /* a replay */
    assert_true(dp_dtls_poll_transmit(p.side[which].dtls, data, sizeof data, &len));
    assert_int_equal(data[0], DP_RECORD_ALERT);
    mbed_push(m->in, &m->in_count, data, len);
    assert_false(dp_dtls_poll_transmit(p.side[which].dtls, data, sizeof data, &len));
    assert_int_equal(dp_dtls_get_state(p.side[which].dtls), DP_DTLS_CONNECTED);
    if (which == SERVER)
        assert_int_equal(mbedtls_ssl_renegotiate(&m->ssl), MBEDTLS_ERR_SSL_WAITING_SERVER_HELLO_RENEGO);
    mbed_free(m);
    pair_clear(&p);
}

static void test_renegotiation_is_refused(void **state)
{
    (void)state;
    for (int data_first = 0; data_first < 2; data_first++) {
        refuse_renegotiation(CLIENT, data_first);
        refuse_renegotiation(SERVER, data_first);
    }
}

/* ---- row 24, 25: ClientHello in fragments ---- */

/* Long protocol names make a ClientHello as long as a browser's with its post-quantum key share. */
static const char *const long_names[] = {
    "a-------------------------------------------------------------------------------------------------------"
    "----"
    "-------------------------------------------------------------------------------------------------------",
    "b-------------------------------------------------------------------------------------------------------"
    "----"
    "-------------------------------------------------------------------------------------------------------",
    "c-------------------------------------------------------------------------------------------------------"
    "----"
    "-------------------------------------------------------------------------------------------------------",
    "d-------------------------------------------------------------------------------------------------------"
    "----"
    "-------------------------------------------------------------------------------------------------------",
    "e-------------------------------------------------------------------------------------------------------"
    "----"
    "-------------------------------------------------------------------------------------------------------",
    "f-------------------------------------------------------------------------------------------------------"
    "----"
    "-------------------------------------------------------------------------------------------------------",
    NULL,
};

static mbed *long_client(pair *p, uint64_t seed)
{
    mbed *m = mbed_new(CLIENT, seed);
    const char **names = (const char **)(uintptr_t)long_names;
    assert_int_equal(mbedtls_ssl_conf_alpn_protocols(&m->conf, names), 0);
    mbed_own(m, p->side[CLIENT].certificate);
    mbed_setup(m);
    m->renumber = 16; /* the fragments that the test makes of its first record have the numbers below */
    return m;
}

/* One fragment of the client's ClientHello as a record of its own. */
static size_t cut(uint8_t *out, const uint8_t *hello, size_t hello_len, size_t from, size_t to,
                  uint8_t record_number)
{
    size_t total = hello_len - DP_RECORD_HEADER - DP_HANDSHAKE_HEADER;
    size_t len = to - from;
    assert_true(from < to && to <= total);
    memcpy(out, hello, DP_RECORD_HEADER + DP_HANDSHAKE_HEADER);
    out[10] = record_number;
    out[11] = (uint8_t)((len + DP_HANDSHAKE_HEADER) >> 8);
    out[12] = (uint8_t)(len + DP_HANDSHAKE_HEADER);
    uint8_t *h = out + DP_RECORD_HEADER;
    h[7] = (uint8_t)(from >> 8);
    h[8] = (uint8_t)from;
    h[10] = (uint8_t)(len >> 8);
    h[11] = (uint8_t)len;
    memcpy(h + DP_HANDSHAKE_HEADER, hello + DP_RECORD_HEADER + DP_HANDSHAKE_HEADER + from, len);
    return DP_RECORD_HEADER + DP_HANDSHAKE_HEADER + len;
}

typedef struct piece {
    size_t from;
    size_t to; /* 0: the end */
} piece;

/* Feeds the pieces, each in its datagram or all in one, and completes the handshake. */
static void fragments(const piece *pieces, size_t count, bool one_datagram)
{
    pair p;
    pair_init(&p, 240);
    mbed *m = long_client(&p, 71);
    start(&p, SERVER);
    mbed_step(m);
    uint8_t hello[2000];
    size_t len = mbed_pop(m->out, &m->out_count, hello, sizeof hello);
    assert_true(len > 1300);
    size_t total = len - DP_RECORD_HEADER - DP_HANDSHAKE_HEADER;
    uint8_t datagram[8000];
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        used += cut(datagram + used, hello, len, pieces[i].from, pieces[i].to == 0 ? total : pieces[i].to,
                    (uint8_t)i);
        if (one_datagram && i + 1 < count)
            continue;
        dp_dtls_input(p.side[SERVER].dtls, p.now, datagram, used);
        pair_events(&p, SERVER);
        used = 0;
    }
    mbed_exchange(&p, SERVER, m);
    assert_true(p.side[SERVER].connected);
    assert_true(m->done);
    mbed_free(m);
    pair_clear(&p);
}

#define FRAGMENTS(one_datagram, ...)                                                                         \
    do {                                                                                                     \
        const piece pieces_[] = {__VA_ARGS__};                                                               \
        fragments(pieces_, sizeof pieces_ / sizeof pieces_[0], one_datagram);                                \
    } while (0)

static void test_fragments_in_any_shape(void **state)
{
    (void)state;
    FRAGMENTS(false, {0, 1175}, {1175, 0});                                     /* as Chromium */
    FRAGMENTS(true, {0, 1175}, {1175, 0});                                      /* as aiortc */
    FRAGMENTS(false, {1175, 0}, {0, 1175});                                     /* reordered */
    FRAGMENTS(false, {0, 1175}, {0, 1175}, {1175, 0});                          /* doubled */
    FRAGMENTS(false, {0, 1175}, {1175, 0}, {0, 1175}, {1175, 0});               /* all of it twice */
    FRAGMENTS(false, {1175, 0}, {1175, 0}, {0, 1175}, {0, 1175});               /* doubled and reordered */
    FRAGMENTS(false, {0, 800}, {600, 0});                                       /* overlapping */
    FRAGMENTS(false, {600, 1000}, {0, 700}, {100, 200}, {900, 0});              /* contained, on both sides */
    FRAGMENTS(false, {0, 1}, {2, 3}, {1, 2}, {3, 500}, {1000, 0}, {400, 1100}); /* tiny ones */
}

/* Row 25: the forged piece costs the ClientHello, the client's repetition then counts. */
static void test_contradicting_fragments(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 25);
    mbed *m = long_client(&p, 72);
    start(&p, SERVER);
    mbed_step(m);
    uint8_t hello[2000];
    uint8_t datagram[2000];
    uint8_t out[1500];
    size_t out_len = 0;
    size_t len = mbed_pop(m->out, &m->out_count, hello, sizeof hello);
    size_t total = len - DP_RECORD_HEADER - DP_HANDSHAKE_HEADER;
    uint64_t before = dp_dtls_get_dropped(p.side[SERVER].dtls);
    pair_inject(&p, SERVER, datagram, cut(datagram, hello, len, 0, 900, 0));
    size_t forged = cut(datagram, hello, len, 800, total, 1);
    datagram[forged - 500] ^= 1; /* outside the overlap: nobody can tell */
    datagram[DP_RECORD_HEADER + DP_HANDSHAKE_HEADER + 50] ^= 1;
    pair_inject(&p, SERVER, datagram, forged);
    assert_int_equal(dp_dtls_get_dropped(p.side[SERVER].dtls), before + 1);
    /* Had either half been kept, this would complete it. */
    pair_inject(&p, SERVER, datagram, cut(datagram, hello, len, 900, total, 2));
    assert_false(dp_dtls_poll_transmit(p.side[SERVER].dtls, out, sizeof out, &out_len));
    pair_inject(&p, SERVER, datagram, cut(datagram, hello, len, 0, 900, 3));
    mbed_exchange(&p, SERVER, m);
    assert_true(p.side[SERVER].connected);
    mbed_free(m);
    pair_clear(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_suite),
        cmocka_unit_test(test_fatal_alert),
        cmocka_unit_test(test_hello_verify_request),
        cmocka_unit_test(test_altered_flight),
        cmocka_unit_test(test_no_common_suite),
        cmocka_unit_test(test_no_client_certificate),
        cmocka_unit_test(test_long_chain),
        cmocka_unit_test(test_renegotiation_is_refused),
        cmocka_unit_test(test_fragments_in_any_shape),
        cmocka_unit_test(test_contradicting_fragments),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_certificate(-1);
    return failed;
}
