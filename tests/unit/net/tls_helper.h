/* A real TLS server for the tests of TLS streams: mbedTLS's, over an accepted stream of the same loop, with
 * certificates that are made here. */
#ifndef TESTS_UNIT_NET_TLS_HELPER_H
#define TESTS_UNIT_NET_TLS_HELPER_H

#include "tests/unit/net/certificates.h"

#include <mbedtls/ssl.h>
#include <stdio.h>
#include <string.h>

static char folder[64];
static char ca_file[96];
static certificate ca, other_ca, good;

static void write_authority(const certificate *c)
{
    char text[4096] = "";
    add_pem(text, sizeof(text), c);
    write_file(ca_file, text);
}

/* ---- the server ---- */

typedef struct tls_server {
    dp_tcp *tcp;
    mbedtls_ssl_config conf;
    mbedtls_ssl_context ssl;
    bool ready; /* ssl is set up */
    bool done;  /* the handshake is */
    uint8_t in[1 << 21];
    size_t in_len, in_at;
    size_t bytes, bad, to_send, sent_bytes;
    char sni[64];
    bool goodbye; /* the client's close_notify came */
    bool gone;    /* the stream ended */
    int error;    /* mbedTLS's */
    /* what it does */
    const char *says;     /* this instead of TLS */
    bool silent;          /* nothing at all */
    bool close_on_data;   /* hangs up at the first byte */
    bool close_when_done; /* says goodbye after the handshake... */
    bool impolite;        /* ...or hangs up without a word */
    bool echo;
    bool renegotiate;
} tls_server;

static tls_server server;
static dp_listener *listener;

static uint8_t pattern(size_t i) { return (uint8_t)(i * 7 + (i >> 9)); }

static int server_recv(void *ctx, unsigned char *out, size_t len)
{
    (void)ctx;
    size_t left = server.in_len - server.in_at;
    if (left == 0)
        return MBEDTLS_ERR_SSL_WANT_READ;
    len = len < left ? len : left;
    memcpy(out, server.in + server.in_at, len);
    server.in_at += len;
    if (server.in_at == server.in_len)
        server.in_at = server.in_len = 0;
    return (int)len;
}

static int server_send(void *ctx, const unsigned char *data, size_t len)
{
    (void)ctx;
    if (server.tcp == NULL)
        return (int)len;
    int error = dp_tcp_send(server.tcp, data, len);
    if (error == DP_ERR_CLOSED)
        return (int)len;
    return error == DP_ERR_WOULD_BLOCK ? MBEDTLS_ERR_SSL_WANT_WRITE : (int)len;
}

static int on_sni(void *ctx, mbedtls_ssl_context *ssl, const unsigned char *name, size_t len)
{
    (void)ctx;
    (void)ssl;
    snprintf(server.sni, sizeof(server.sni), "%.*s", (int)len, (const char *)name);
    return 0;
}

static void pump_server(void)
{
    uint8_t bytes[4000];
    while (server.to_send > 0) {
        size_t n = server.to_send < sizeof(bytes) ? server.to_send : sizeof(bytes);
        for (size_t i = 0; i < n; i++)
            bytes[i] = pattern(server.sent_bytes + i);
        int ret = mbedtls_ssl_write(&server.ssl, bytes, n);
        if (ret <= 0)
            return;
        server.to_send -= (size_t)ret;
        server.sent_bytes += (size_t)ret;
    }
}

static void server_close(void)
{
    dp_tcp_close(server.tcp);
    server.tcp = NULL;
}

static void run_server(void)
{
    if (!server.done) {
        int ret = mbedtls_ssl_handshake(&server.ssl);
        if (ret == MBEDTLS_ERR_SSL_WANT_READ || ret == MBEDTLS_ERR_SSL_WANT_WRITE)
            return;
        server.error = ret;
        if (ret != 0)
            return;
        server.done = true;
        if (server.renegotiate)
            (void)mbedtls_ssl_renegotiate(&server.ssl);
        if (server.close_when_done) {
            if (server.impolite) {
                server_close();
                return;
            }
            (void)mbedtls_ssl_close_notify(&server.ssl);
        }
    }
    pump_server();
    for (;;) {
        uint8_t bytes[16384];
        int n = mbedtls_ssl_read(&server.ssl, bytes, sizeof(bytes));
        if (n == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY)
            server.goodbye = true;
        else if (n < 0 && n != MBEDTLS_ERR_SSL_WANT_READ)
            server.error = n;
        if (n == MBEDTLS_ERR_SSL_WANT_READ && server.in_at < server.in_len)
            continue;
        if (n <= 0)
            return;
        for (int i = 0; i < n; i++)
            server.bad += bytes[i] != pattern(server.bytes + (size_t)i);
        server.bytes += (size_t)n;
        if (server.echo) {
            server.to_send += (size_t)n;
            pump_server();
        }
    }
}

static void server_on_data(void *user, dp_tcp *tcp, const uint8_t *data, size_t len)
{
    (void)user;
    (void)tcp;
    if (server.silent)
        return;
    if (server.close_on_data) {
        server_close();
        return;
    }
    if (server.says != NULL) {
        assert_int_equal(dp_tcp_send(tcp, (const uint8_t *)server.says, strlen(server.says)), DP_OK);
        server.silent = true;
        return;
    }
    assert_true(server.in_len + len <= sizeof(server.in));
    memcpy(server.in + server.in_len, data, len);
    server.in_len += len;
    run_server();
}

static void server_on_drained(void *user, dp_tcp *tcp)
{
    (void)user;
    (void)tcp;
    if (server.done)
        pump_server();
}

static void server_on_closed(void *user, dp_tcp *tcp, int error, const char *reason)
{
    (void)user;
    (void)tcp;
    (void)error;
    (void)reason;
    server.gone = true;
    server_close();
}

static void on_accept(void *user, dp_tcp *tcp, const dp_address *remote)
{
    (void)user;
    (void)remote;
    static const dp_tcp_handler handler = {NULL, server_on_data, server_on_drained, server_on_closed, NULL};
    assert_null(server.tcp);
    server.tcp = tcp;
    dp_tcp_set_handler(tcp, &handler);
}

static void reset_server(void)
{
    if (server.ready) {
        mbedtls_ssl_free(&server.ssl);
        mbedtls_ssl_config_free(&server.conf);
    }
    dp_tcp_close(server.tcp);
    memset(&server, 0, sizeof(server));
}

/* What a test changes in conf or server, it does after this. */
static void start_server(const certificate *c)
{
    reset_server();
    mbedtls_ssl_config_init(&server.conf);
    mbedtls_ssl_init(&server.ssl);
    server.ready = true;
    assert_int_equal(mbedtls_ssl_config_defaults(&server.conf, MBEDTLS_SSL_IS_SERVER,
                                                 MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT),
                     0);
    mbedtls_ssl_conf_rng(&server.conf, random_bytes, NULL);
    mbedtls_ssl_conf_sni(&server.conf, on_sni, NULL);
    mbedtls_ssl_conf_renegotiation(&server.conf, MBEDTLS_SSL_RENEGOTIATION_ENABLED);
    assert_int_equal(
        mbedtls_ssl_conf_own_cert(&server.conf, (mbedtls_x509_crt *)&c->crt, (mbedtls_pk_context *)&c->key),
        0);
    assert_int_equal(mbedtls_ssl_setup(&server.ssl, &server.conf), 0);
    mbedtls_ssl_set_bio(&server.ssl, NULL, server_send, server_recv, NULL);
}

#endif
