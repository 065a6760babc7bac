/* A real OpenSSL end, driven through a BIO that keeps datagrams apart, over the network and the virtual time of
 * pair.h. OpenSSL's timers read gettimeofday, which virtual_time.h replaces: include this in one .c file of the
 * program. OpenSSL brings its own randomness, so two runs differ in their bytes, not in what is lost. */
#ifndef TESTS_DTLS_OPENSSL_H
#define TESTS_DTLS_OPENSSL_H

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <time.h>

#include "dtls/prefilter.h"
#include "pair.h"
#include "tests/unit/sctp/virtual_time.h"

/* mbedTLS puts the seconds into its hello: virtual ones, or a repetition would differ once in a while. */
__attribute__((visibility("default"))) time_t time(time_t *out)
{
    struct timeval now;
    gettimeofday(&now, NULL);
    if (out != NULL)
        *out = now.tv_sec;
    return now.tv_sec;
}

#define OSSL_QUEUE 64

typedef struct ossl_datagram {
    size_t len;
    uint8_t data[1500];
} ossl_datagram;

typedef struct ossl {
    SSL_CTX *ctx;
    SSL *ssl;
    BIO_METHOD *method;
    ossl_datagram in[OSSL_QUEUE];
    ossl_datagram out[OSSL_QUEUE];
    size_t in_count;
    size_t out_count;
    size_t longest; /* of the datagrams sent */
    bool done;
    unsigned long error; /* of the handshake, as of ERR_get_error */
    int alert;           /* the last one received, level << 8 | description; -1: none */
    char key_log[300];   /* the last line */
    uint8_t data[1500];  /* of the last SSL_read */
    int data_len;        /* its result */
    size_t data_count;   /* reads that gave data */
} ossl;

/* ---- the BIO ------------------------------------------------------------------------------------------ */

static inline int ossl_bio_write(BIO *bio, const char *data, int len)
{
    ossl *o = BIO_get_data(bio);
    assert_true(len > 0 && (size_t)len <= sizeof o->out->data);
    if (o->out_count == OSSL_QUEUE)
        return len; /* lost */
    ossl_datagram *d = &o->out[o->out_count++];
    d->len = (size_t)len;
    memcpy(d->data, data, d->len);
    o->longest = d->len > o->longest ? d->len : o->longest;
    return len;
}

static inline int ossl_bio_read(BIO *bio, char *out, int capacity)
{
    ossl *o = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (o->in_count == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t len = o->in[0].len < (size_t)capacity ? o->in[0].len : (size_t)capacity;
    memcpy(out, o->in[0].data, len);
    memmove(&o->in[0], &o->in[1], --o->in_count * sizeof o->in[0]);
    return (int)len;
}

static inline long ossl_bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH; /* no MTU to ask for: the tests set it */
}

/* ---- life --------------------------------------------------------------------------------------------- */

static inline int ossl_verify(int ok, X509_STORE_CTX *store)
{
    (void)ok;
    (void)store;
    return 1;
}

static inline void ossl_info(const SSL *ssl, int where, int value)
{
    ossl *o = SSL_get_app_data(ssl);
    if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT)
        o->alert = value;
}

static inline void ossl_key_log(const SSL *ssl, const char *line)
{
    ossl *o = SSL_get_app_data(ssl);
    assert_true(strlen(line) < sizeof o->key_log);
    strcpy(o->key_log, line);
}

static inline X509 *ossl_x509(const dp_certificate *certificate)
{
    char pem[2048];
    assert_int_equal(dp_certificate_to_pem(certificate, pem, sizeof pem), DP_OK);
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    assert_non_null(x509);
    BIO_free(bio);
    return x509;
}

static inline void ossl_own(ossl *o, const dp_certificate *certificate)
{
    char pem[2048];
    assert_int_equal(dp_certificate_to_pem(certificate, pem, sizeof pem), DP_OK);
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    X509 *x509 = ossl_x509(certificate);
    assert_int_equal(SSL_use_certificate(o->ssl, x509), 1);
    assert_int_equal(SSL_use_PrivateKey(o->ssl, key), 1);
    X509_free(x509);
    EVP_PKEY_free(key);
    BIO_free(bio);
}

/* So many more certificates behind its own. */
static inline void ossl_chain(ossl *o, int count)
{
    X509 *more = ossl_x509(test_certificate(2));
    for (int i = 0; i < count; i++)
        assert_int_equal(SSL_add1_chain_cert(o->ssl, more), 1);
    X509_free(more);
}

/* which: the role. With the certificate of that side of p; SSL_* calls on o->ssl change the rest. */
static inline ossl *ossl_new(const pair *p, int which)
{
    ossl *o = calloc(1, sizeof *o);
    assert_non_null(o);
    virtual_now = p->now;
    o->alert = -1;
    o->ctx = SSL_CTX_new(which == SERVER ? DTLS_server_method() : DTLS_client_method());
    SSL_CTX_set_keylog_callback(o->ctx, ossl_key_log);
    o->ssl = SSL_new(o->ctx);
    assert_non_null(o->ssl);
    o->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "datagrams");
    BIO_meth_set_write(o->method, ossl_bio_write);
    BIO_meth_set_read(o->method, ossl_bio_read);
    BIO_meth_set_ctrl(o->method, ossl_bio_ctrl);
    BIO *bio = BIO_new(o->method);
    BIO_set_data(bio, o);
    BIO_set_init(bio, 1);
    SSL_set_bio(o->ssl, bio, bio);
    SSL_set_app_data(o->ssl, o);
    SSL_set_info_callback(o->ssl, ossl_info);
    SSL_set_verify(o->ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, ossl_verify);
    SSL_set_options(o->ssl, SSL_OP_NO_QUERY_MTU);
    SSL_set_mtu(o->ssl, 1200);
    ossl_own(o, p->side[which].certificate);
    if (which == SERVER)
        SSL_set_accept_state(o->ssl);
    else
        SSL_set_connect_state(o->ssl);
    return o;
}

static inline void ossl_free(ossl *o)
{
    SSL_free(o->ssl);
    SSL_CTX_free(o->ctx);
    BIO_meth_free(o->method);
    free(o);
}

/* ---- running ------------------------------------------------------------------------------------------ */

/* Handshake, then reading, as far as what is there allows. */
static inline void ossl_step(ossl *o)
{
    ERR_clear_error();
    if (!o->done && o->error == 0) {
        int ret = SSL_do_handshake(o->ssl);
        int want = SSL_get_error(o->ssl, ret);
        o->done = ret == 1;
        if (ret != 1 && want != SSL_ERROR_WANT_READ)
            o->error = ERR_get_error();
    }
    while (o->done) {
        int len = SSL_read(o->ssl, o->data, sizeof o->data);
        if (len <= 0)
            break;
        o->data_len = len;
        o->data_count++;
    }
}

static inline void ossl_inject(ossl *o, const uint8_t *data, size_t len)
{
    assert_true(o->in_count < OSSL_QUEUE && len <= sizeof o->in->data);
    o->in[o->in_count].len = len;
    memcpy(o->in[o->in_count++].data, data, len);
    ossl_step(o);
}

/* Puts on the wire what both ends have to send. p->side[which] is ours. */
static inline void ossl_collect(pair *p, int which, ossl *o)
{
    for (size_t i = 0; i < o->out_count; i++) {
        p->sent[!which]++;
        if (p->tap == NULL || p->tap(p, !which, o->out[i].data, &o->out[i].len))
            pair_put(p, which, o->out[i].data, o->out[i].len);
    }
    o->out_count = 0;
    uint8_t data[1500];
    size_t len = 0;
    while (dp_dtls_poll_transmit(p->side[which].dtls, data, sizeof data, &len)) {
        p->sent[which]++;
        if (p->tap == NULL || p->tap(p, which, data, &len))
            pair_put(p, !which, data, len);
    }
}

static inline dp_time ossl_next_timeout(const pair *p, ossl *o)
{
    struct timeval left;
    virtual_now = p->now;
    if (o->error != 0 || DTLSv1_get_timeout(o->ssl, &left) != 1)
        return DP_TIME_NEVER;
    return p->now + (dp_time)left.tv_sec * 1000000 + (dp_time)left.tv_usec;
}

/* As pair_step: the next arrival or timer of either end; false if nothing will ever happen. */
static inline bool ossl_turn(pair *p, int which, ossl *o)
{
    dp_time ours = dp_dtls_next_timeout(p->side[which].dtls);
    dp_time theirs = ossl_next_timeout(p, o);
    dp_time next = ours < theirs ? ours : theirs;
    size_t first = FLYING_MAX;
    for (size_t i = 0; i < p->air_count; i++)
        if (p->air[i].arrival <= next && (first == FLYING_MAX || p->air[i].arrival < p->air[first].arrival))
            first = i;
    if (first != FLYING_MAX)
        next = p->air[first].arrival;
    if (next == DP_TIME_NEVER)
        return false;
    virtual_now = p->now = next > p->now ? next : p->now;
    if (first != FLYING_MAX) {
        flying f = p->air[first];
        p->air[first] = p->air[--p->air_count];
        if (f.to == which)
            pair_inject(p, which, f.data, f.len);
        else
            ossl_inject(o, f.data, f.len);
    } else if (ours <= theirs) {
        dp_dtls_handle_timeout(p->side[which].dtls, p->now);
        pair_events(p, which);
    } else {
        if (DTLSv1_handle_timeout(o->ssl) < 0) /* it has repeated often enough */
            o->error = ERR_get_error();
        ossl_step(o);
    }
    ossl_collect(p, which, o);
    return true;
}

static inline void ossl_run(pair *p, int which, ossl *o)
{
    for (int i = 0; i < 5000 && ossl_turn(p, which, o); i++) {
    }
}

static inline void ossl_start(pair *p, int which, ossl *o)
{
    virtual_now = p->now;
    assert_int_equal(dp_dtls_start(p->side[which].dtls, p->now), DP_OK);
    ossl_step(o);
    ossl_collect(p, which, o);
}

static inline void ossl_handshake(pair *p, int which, ossl *o)
{
    ossl_start(p, which, o);
    ossl_run(p, which, o);
}

static inline void ossl_connect(pair *p, int which, ossl *o)
{
    ossl_handshake(p, which, o);
    assert_true(p->side[which].connected);
    assert_true(o->done);
}

/* One message in each direction. */
static inline void ossl_echo(pair *p, int which, ossl *o, const void *message, size_t len)
{
    uint8_t datagram[1500];
    size_t before = p->side[which].data_count;
    assert_int_equal(SSL_write(o->ssl, message, (int)len), (int)len);
    ossl_collect(p, which, o);
    ossl_run(p, which, o);
    assert_int_equal(p->side[which].data_count, before + 1);
    assert_int_equal(p->side[which].data_len, len);
    assert_memory_equal(p->side[which].data, message, len);

    before = o->data_count;
    ossl_inject(o, datagram, pair_seal(p, which, datagram, message, len));
    assert_int_equal(o->data_count, before + 1);
    assert_int_equal(o->data_len, (int)len);
    assert_memory_equal(o->data, message, len);
}

#endif
