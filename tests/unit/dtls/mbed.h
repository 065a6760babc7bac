/* A bare mbedTLS end, without any of our code around it, to test against. No loss here, so no timers either.
 */
#ifndef TESTS_DTLS_MBED_H
#define TESTS_DTLS_MBED_H

#include <mbedtls/ssl.h>
#include <mbedtls/ssl_ciphersuites.h>

#include "dtls/certificate.h"
#include "pair.h"

#define MBED_QUEUE 16

typedef struct mbed_datagram {
    size_t len;
    uint8_t data[16500];
} mbed_datagram;

typedef struct mbed {
    mbedtls_ssl_config conf;
    mbedtls_ssl_context ssl;
    test_random random;
    dp_random source;
    mbed_datagram in[MBED_QUEUE];
    mbed_datagram out[MBED_QUEUE];
    size_t in_count;
    size_t out_count;
    bool done;
    int error;
    int cookies; /* HelloVerifyRequests sent */
    uint8_t
        renumber; /* added to the record numbers of epoch 0, as if this end had sent so many records before */
} mbed;

static inline void mbed_push(mbed_datagram *queue, size_t *count, const uint8_t *data, size_t len)
{
    assert_true(*count < MBED_QUEUE);
    assert_true(len <= sizeof queue->data);
    queue[*count].len = len;
    memcpy(queue[(*count)++].data, data, len);
}

static inline size_t mbed_pop(mbed_datagram *queue, size_t *count, uint8_t *data, size_t capacity)
{
    size_t len = queue[0].len;
    assert_true(*count > 0 && len <= capacity);
    memcpy(data, queue[0].data, len);
    memmove(&queue[0], &queue[1], --*count * sizeof *queue);
    return len;
}

static inline int mbed_send(void *ctx, const unsigned char *data, size_t len)
{
    mbed *m = ctx;
    mbed_push(m->out, &m->out_count, data, len);
    uint8_t *sent = m->out[m->out_count - 1].data;
    for (size_t at = 0; at + 13 <= len; at += 13 + (size_t)(sent[at + 11] << 8 | sent[at + 12]))
        if (sent[at + 4] == 0)
            sent[at + 10] = (uint8_t)(sent[at + 10] + m->renumber);
    return (int)len;
}

static inline int mbed_receive(void *ctx, unsigned char *out, size_t capacity)
{
    mbed *m = ctx;
    return m->in_count == 0 ? MBEDTLS_ERR_SSL_WANT_READ : (int)mbed_pop(m->in, &m->in_count, out, capacity);
}

static inline void mbed_set_timer(void *ctx, uint32_t a, uint32_t b)
{
    (void)ctx;
    (void)a;
    (void)b;
}

static inline int mbed_get_timer(void *ctx)
{
    (void)ctx;
    return 0;
}

static inline int mbed_verify(void *ctx, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    (void)ctx;
    (void)crt;
    (void)depth;
    *flags = 0;
    return 0;
}

/* Everything but mbedtls_ssl_setup, so that a test can change the configuration first. */
static inline mbed *mbed_new(int which, uint64_t seed)
{
    mbed *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->random.state = seed;
    m->source = test_source(&m->random);
    mbedtls_ssl_config_init(&m->conf);
    mbedtls_ssl_init(&m->ssl);
    assert_int_equal(mbedtls_ssl_config_defaults(&m->conf, which == SERVER, MBEDTLS_SSL_TRANSPORT_DATAGRAM,
                                                 MBEDTLS_SSL_PRESET_DEFAULT),
                     0);
    mbedtls_ssl_conf_rng(&m->conf, dp_mbedtls_random, &m->source);
    mbedtls_ssl_conf_authmode(&m->conf, MBEDTLS_SSL_VERIFY_OPTIONAL);
    mbedtls_ssl_conf_verify(&m->conf, mbed_verify, NULL);
    if (which == SERVER)
        mbedtls_ssl_conf_dtls_cookies(&m->conf, NULL, NULL, NULL);
    return m;
}

static inline void mbed_own(mbed *m, dp_certificate *certificate)
{
    assert_int_equal(mbedtls_ssl_conf_own_cert(&m->conf, &certificate->crt, &certificate->key), 0);
}

static inline void mbed_setup(mbed *m)
{
    assert_int_equal(mbedtls_ssl_setup(&m->ssl, &m->conf), 0);
    mbedtls_ssl_set_bio(&m->ssl, m, mbed_send, mbed_receive, NULL);
    mbedtls_ssl_set_timer_cb(&m->ssl, m, mbed_set_timer, mbed_get_timer);
}

static inline void mbed_free(mbed *m)
{
    mbedtls_ssl_free(&m->ssl);
    mbedtls_ssl_config_free(&m->conf);
    free(m);
}

static inline void mbed_step(mbed *m)
{
    if (m->done || m->error != 0)
        return;
    int ret = mbedtls_ssl_handshake(&m->ssl);
    if (ret == MBEDTLS_ERR_SSL_HELLO_VERIFY_REQUIRED) {
        assert_int_equal(mbedtls_ssl_session_reset(&m->ssl), 0);
        assert_int_equal(mbedtls_ssl_set_client_transport_id(&m->ssl, (const uint8_t *)"id", 2), 0);
        m->cookies++;
    } else if (ret == 0)
        m->done = true;
    else if (ret != MBEDTLS_ERR_SSL_WANT_READ)
        m->error = ret;
}

/* Moves datagrams both ways until none is left. p->side[which] is ours. */
static inline void mbed_exchange(pair *p, int which, mbed *m)
{
    bool moved = true;
    while (moved) {
        uint8_t data[16500];
        size_t len = 0;
        moved = false;
        mbed_step(m);
        while (m->out_count > 0) {
            len = mbed_pop(m->out, &m->out_count, data, sizeof data);
            dp_dtls_input(p->side[which].dtls, p->now, data, len);
            pair_events(p, which);
            moved = true;
        }
        while (dp_dtls_poll_transmit(p->side[which].dtls, data, sizeof data, &len)) {
            mbed_push(m->in, &m->in_count, data, len);
            moved = true;
        }
    }
}

#endif
