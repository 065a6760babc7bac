/* A real TLS server for the tests of TLS streams: mbedTLS's, over an accepted stream of the same loop, with
 * certificates that are made here. */
#ifndef TESTS_UNIT_NET_TLS_HELPER_H
#define TESTS_UNIT_NET_TLS_HELPER_H

#include "tests/unit/net/helper.h"

#include "base/mbedtls.h"

#include <mbedtls/ecp.h>
#include <mbedtls/oid.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>
#include <stdio.h>
#include <string.h>

/* ---- certificates ---- */

static dp_csprng *csprng;

static int random_bytes(void *ctx, unsigned char *out, size_t len)
{
    dp_random random = dp_csprng_source(csprng);
    (void)ctx;
    return random.fn(random.ctx, out, len);
}

typedef struct certificate {
    mbedtls_x509_crt crt;
    mbedtls_pk_context key;
    char subject[64];
} certificate;

typedef struct recipe {
    const char *subject; /* NULL: "server" */
    const char *dns;
    const char *ip;
    const char *from, *until;  /* NULL: long ago, and in the far future */
    const certificate *signer; /* NULL: itself */
    bool authority;
} recipe;

static void put_names(mbedtls_x509write_cert *writer, const recipe *r)
{
    uint8_t names[128] = {0x30, 0};
    size_t len = 2;
    if (r->dns != NULL) {
        names[len++] = 0x82;
        names[len++] = (uint8_t)strlen(r->dns);
        memcpy(names + len, r->dns, strlen(r->dns));
        len += strlen(r->dns);
    }
    if (r->ip != NULL) {
        dp_address a;
        assert_int_equal(dp_address_parse(&a, r->ip, 0), DP_OK);
        names[len++] = 0x87;
        names[len] = a.family == DP_FAMILY_IPV4 ? 4 : 16;
        memcpy(names + len + 1, a.ip, names[len]);
        len += 1u + names[len];
    }
    names[1] = (uint8_t)(len - 2);
    if (len > 2)
        assert_int_equal(mbedtls_x509write_crt_set_extension(writer, MBEDTLS_OID_SUBJECT_ALT_NAME,
                                                             MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME),
                                                             0, names, len),
                         0);
}

static void make_certificate(certificate *out, const recipe *r)
{
    mbedtls_x509_crt_init(&out->crt);
    mbedtls_pk_init(&out->key);
    assert_int_equal(mbedtls_pk_setup(&out->key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)), 0);
    assert_int_equal(
        mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(out->key), random_bytes, NULL), 0);
    snprintf(out->subject, sizeof(out->subject), "CN=%s", r->subject != NULL ? r->subject : "server");
    const certificate *signer = r->signer != NULL ? r->signer : out;
    uint8_t serial[15];
    assert_int_equal(random_bytes(NULL, serial, sizeof(serial)), 0);
    serial[0] = (serial[0] & 0x3f) | 0x40; /* positive, and never shorter */
    mbedtls_x509write_cert writer;
    mbedtls_x509write_crt_init(&writer);
    mbedtls_x509write_crt_set_version(&writer, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&writer, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&writer, &out->key);
    mbedtls_x509write_crt_set_issuer_key(&writer, (mbedtls_pk_context *)&signer->key);
    assert_int_equal(mbedtls_x509write_crt_set_subject_name(&writer, out->subject), 0);
    assert_int_equal(mbedtls_x509write_crt_set_issuer_name(&writer, signer->subject), 0);
    assert_int_equal(dp_mbedtls_set_serial(&writer, serial, sizeof(serial)), 0);
    assert_int_equal(mbedtls_x509write_crt_set_validity(&writer, r->from != NULL ? r->from : "20000101000000",
                                                        r->until != NULL ? r->until : "20991231235959"),
                     0);
    assert_int_equal(mbedtls_x509write_crt_set_basic_constraints(&writer, r->authority, -1), 0);
    put_names(&writer, r);
    uint8_t der[2048];
    int len = mbedtls_x509write_crt_der(&writer, der, sizeof(der), random_bytes, NULL);
    assert_true(len > 0);
    assert_int_equal(mbedtls_x509_crt_parse_der(&out->crt, der + sizeof(der) - len, (size_t)len), 0);
    mbedtls_x509write_crt_free(&writer);
}

static void free_certificate(certificate *c)
{
    mbedtls_x509_crt_free(&c->crt);
    mbedtls_pk_free(&c->key);
}

static char folder[64];
static char ca_file[96];
static certificate ca, other_ca, good;

/* As PEM, under the name at once: a reader sees the old file or the new one. */
static void write_authority(const certificate *c)
{
    char text[4096] = "-----BEGIN CERTIFICATE-----\n", part[128];
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = strlen(text);
    const uint8_t *der = c->crt.raw.p;
    for (size_t i = 0, column = 0; i < c->crt.raw.len; i += 3) {
        size_t left = c->crt.raw.len - i;
        uint32_t group = (uint32_t)der[i] << 16 | (left > 1 ? (uint32_t)der[i + 1] << 8 : 0) |
                         (left > 2 ? der[i + 2] : 0u);
        text[n++] = digits[group >> 18];
        text[n++] = digits[group >> 12 & 63];
        text[n++] = left > 1 ? digits[group >> 6 & 63] : '=';
        text[n++] = left > 2 ? digits[group & 63] : '=';
        if (++column % 16 == 0)
            text[n++] = '\n';
    }
    n += (size_t)snprintf(text + n, sizeof(text) - n, "\n-----END CERTIFICATE-----\n");
    snprintf(part, sizeof(part), "%s.new", ca_file);
    FILE *file = fopen(part, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(part, ca_file), 0);
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
