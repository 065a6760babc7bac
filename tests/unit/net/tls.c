/* TLS streams against a real TLS server: mbedTLS's, over an accepted stream of the same loop. Its certificates are
 * made here. */
#include "tests/unit/net/helper.h"

#include <errno.h>

#include <mbedtls/ecp.h>

#include <mbedtls/oid.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- this program's recv and send ---- */

static size_t recv_step; /* bytes that one recv gives; 0: as many as there are */
static size_t send_step; /* bytes that one send takes */
static bool send_blocks; /* every other send finds the kernel full */
static bool send_blocked;
static size_t flip_after; /* the byte that so many bytes precede arrives changed; 0: none */

ssize_t recv(int fd, void *out, size_t len, int flags)
{
    if (recv_step > 0 && len > recv_step)
        len = recv_step;
    ssize_t n = syscall(SYS_recvfrom, fd, out, len, flags, NULL, NULL);
    if (n > 0 && flip_after > 0) {
        if (flip_after <= (size_t)n) {
            ((uint8_t *)out)[flip_after - 1] ^= 1;
            flip_after = 0;
        } else {
            flip_after -= (size_t)n;
        }
    }
    return n;
}

ssize_t send(int fd, const void *data, size_t len, int flags)
{
    assert_true((flags & MSG_NOSIGNAL) != 0);
    send_blocked = send_blocks && !send_blocked;
    if (send_blocked) {
        errno = EAGAIN;
        return -1;
    }
    return syscall(SYS_sendto, fd, data, send_step > 0 && len > send_step ? send_step : len, flags, NULL, 0);
}

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
    mbedtls_mpi serial;
    mbedtls_mpi_init(&serial);
    assert_int_equal(mbedtls_mpi_fill_random(&serial, 15, random_bytes, NULL), 0);
    mbedtls_x509write_cert writer;
    mbedtls_x509write_crt_init(&writer);
    mbedtls_x509write_crt_set_version(&writer, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&writer, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&writer, &out->key);
    mbedtls_x509write_crt_set_issuer_key(&writer, (mbedtls_pk_context *)&signer->key);
    assert_int_equal(mbedtls_x509write_crt_set_subject_name(&writer, out->subject), 0);
    assert_int_equal(mbedtls_x509write_crt_set_issuer_name(&writer, signer->subject), 0);
    assert_int_equal(mbedtls_x509write_crt_set_serial(&writer, &serial), 0);
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
    mbedtls_mpi_free(&serial);
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
    bool close_when_done; /* after the handshake, politely... */
    bool impolite;        /* ...or without close_notify */
    bool echo;
    bool renegotiate;
} tls_server;

static tls_server server;
static dp_listener *listener;
static const certificate *shown; /* the server's certificate */

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
            if (!server.impolite)
                (void)mbedtls_ssl_close_notify(&server.ssl);
            server_close();
            return;
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
    shown = c;
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

/* ---- the client ---- */

static struct {
    dp_tcp *tcp;
    size_t connected, drained, closed, bytes, bad, to_send, sent_bytes;
    int error;
    char reason[512];
    bool close_on_connected, close_on_data, close_on_drained, close_on_closed;
} client;

static void close_client(void)
{
    dp_tcp_close(client.tcp);
    client.tcp = NULL;
}

static void pump_client(void)
{
    uint8_t bytes[5000];
    while (client.to_send > 0) {
        size_t n = client.to_send < sizeof(bytes) ? client.to_send : sizeof(bytes);
        for (size_t i = 0; i < n; i++)
            bytes[i] = pattern(client.sent_bytes + i);
        size_t before = dp_tcp_queued(client.tcp);
        int error = dp_tcp_send(client.tcp, bytes, n);
        assert_true(dp_tcp_queued(client.tcp) <= 1 << 20);
        if (error == DP_ERR_WOULD_BLOCK) {
            assert_int_equal(dp_tcp_queued(client.tcp), before);
            return;
        }
        assert_int_equal(error, DP_OK);
        client.to_send -= n;
        client.sent_bytes += n;
    }
}

static void on_connected(void *user, dp_tcp *tcp)
{
    (void)user;
    assert_ptr_equal(tcp, client.tcp);
    client.connected++;
    if (client.close_on_connected)
        close_client();
}

static void on_data(void *user, dp_tcp *tcp, const uint8_t *data, size_t len)
{
    (void)user;
    assert_ptr_equal(tcp, client.tcp);
    assert_int_equal(client.connected, 1);
    assert_true(len > 0);
    for (size_t i = 0; i < len; i++)
        client.bad += data[i] != pattern(client.bytes + i);
    client.bytes += len;
    if (client.close_on_data)
        close_client();
}

static void on_drained(void *user, dp_tcp *tcp)
{
    (void)user;
    assert_int_equal(client.connected, 1);
    assert_int_equal(dp_tcp_queued(tcp), 0);
    client.drained++;
    if (client.close_on_drained)
        close_client();
    else
        pump_client();
}

static void on_closed(void *user, dp_tcp *tcp, int error, const char *reason)
{
    (void)user;
    assert_ptr_equal(tcp, client.tcp);
    client.closed++;
    client.error = error;
    snprintf(client.reason, sizeof(client.reason), "%s", reason);
    if (client.close_on_closed)
        close_client();
}

static const dp_tcp_handler client_handler = {on_connected, on_data, on_drained, on_closed, NULL};

static dp_tls_options tls_options(const char *name)
{
    dp_tls_options options = {
        .size = sizeof(options), .server_name = name, .ca_file = ca_file, .random = dp_csprng_source(csprng)};
    return options;
}

static void dial(dp_duration timeout)
{
    close_client();
    memset(&client, 0, sizeof(client));
    assert_int_equal(dp_tcp_connect(&client.tcp, loop, "127.0.0.1", dp_listener_local(listener)->port,
                                    timeout, &client_handler),
                     DP_OK);
}

static void start(const char *name)
{
    dial(DP_SECONDS(20));
    dp_tls_options options = tls_options(name);
    assert_int_equal(dp_tcp_start_tls(client.tcp, &options), DP_OK);
    assert_int_equal(client.connected + client.closed, 0);
}

static void connect_both(void)
{
    start_server(&good);
    start("turn.example.org");
    RUN_UNTIL(client.connected == 1 && server.done);
}

static int fd_before;
static int lowest_free(void)
{
    int fd = dup(0);
    close(fd);
    return fd;
}

static int tls_setup(void **state)
{
    fd_before = lowest_free();
    recv_step = send_step = flip_after = 0;
    send_blocks = false;
    memset(&client, 0, sizeof(client));
    write_authority(&ca);
    if (setup(state) != 0)
        return -1;
    dp_address local = loopback(0);
    return dp_listener_open(&listener, loop, &local, on_accept, NULL);
}

static int tls_teardown(void **state)
{
    close_client();
    reset_server();
    dp_listener_close(listener);
    int error = teardown(state);
    assert_int_equal(lowest_free(), fd_before); /* no descriptor stayed open */
    return error;
}

/* ---- the handshake ---- */

static void test_connects(void **state)
{
    (void)state;
    start_server(&good);
    server.echo = true;
    start("turn.example.org");
    uint8_t early[3] = {pattern(0), pattern(1), pattern(2)}; /* waits for the handshake */
    assert_int_equal(dp_tcp_send(client.tcp, early, 3), DP_OK);
    assert_int_equal(dp_tcp_queued(client.tcp), 3);
    RUN_UNTIL(client.bytes == 3);
    assert_int_equal(client.connected, 1);
    assert_int_equal(client.bad + server.bad, 0);
    assert_string_equal(server.sni, "turn.example.org");
    assert_string_equal(mbedtls_ssl_get_version(&server.ssl), "TLSv1.2");
    RUN_UNTIL(client.drained == 1);
    dp_tls_options options = tls_options("turn.example.org");
    assert_int_equal(dp_tcp_start_tls(client.tcp, &options), DP_ERR_INVALID_STATE);
    close_client(); /* says goodbye */
    RUN_UNTIL(server.gone);
    assert_true(server.goodbye);
}

static void test_one_byte_at_a_time(void **state)
{
    (void)state;
    start_server(&good);
    server.echo = true;
    recv_step = send_step = 1;
    start("turn.example.org");
    client.to_send = 300;
    pump_client();
    RUN_UNTIL(client.bytes == 300);
    assert_int_equal(client.bad + server.bad, 0);
}

typedef struct verdict {
    recipe server;
    const char *name;   /* that the client asks for */
    const char *reason; /* NULL: accepted */
    const char *sni;
} verdict;

static void test_certificates(void **state)
{
    (void)state;
    const verdict table[] = {
        {{.dns = "*.example.org", .signer = &ca}, "turn.example.org", NULL, "turn.example.org"},
        {{.dns = "turn.example.org", .signer = &ca}, "TURN.Example.org.", NULL, "TURN.Example.org"},
        {{.dns = "x.example", .ip = "127.0.0.1", .signer = &ca}, "127.0.0.1", NULL, ""},
        {{.ip = "2001:db8::1", .signer = &ca}, "2001:db8::1", NULL, ""},
        {{.ip = "2001:db8::1", .signer = &ca}, "[2001:db8::1]", NULL, ""},
        {{.ip = "fe80::1", .signer = &ca}, "fe80::1%lo", NULL, ""},
        {{.ip = "127.0.0.2", .signer = &ca},
         "127.0.0.1",
         "the certificate of 127.0.0.1 is for 127.0.0.2",
         ""},
        /* A number among the host names is none (RFC 9525 §6.5), and four bytes are not sixteen. */
        {{.dns = "127.0.0.1", .signer = &ca},
         "127.0.0.1",
         "the certificate of 127.0.0.1 is for 127.0.0.1",
         ""},
        {{.ip = "127.0.0.1", .signer = &ca}, "7f00:1::", "the certificate of 7f00:1:: is for 127.0.0.1", ""},
        {{.dns = "other.example", .signer = &ca},
         "turn.example.org",
         "the certificate of turn.example.org is for other.example",
         "turn.example.org"},
        {{.dns = "*.org", .signer = &ca},
         "turn.example.org",
         "the certificate of turn.example.org is for *.org",
         "turn.example.org"},
        {{.dns = "evil\033[2J\n.example", .signer = &ca},
         "turn.example.org",
         "the certificate of turn.example.org is for evil?[2J?.example",
         "turn.example.org"},
        {{.subject = "turn.example.org", .signer = &ca},
         "turn.example.org",
         "the certificate of turn.example.org names no host that it is for (subjectAltName)",
         "turn.example.org"},
        {{.dns = "turn.example.org", .until = "20010101000000", .signer = &ca},
         "turn.example.org",
         "the certificate of turn.example.org has expired, or this machine's clock is wrong",
         "turn.example.org"},
        {{.dns = "turn.example.org", .from = "20980101000000", .signer = &ca},
         "turn.example.org",
         "the certificate of turn.example.org is not valid yet, or this machine's clock is wrong",
         "turn.example.org"},
        {{.dns = "turn.example.org"},
         "turn.example.org",
         "the certificate of turn.example.org is not signed by a known authority; give ca_file",
         "turn.example.org"},
        {{.dns = "turn.example.org", .signer = &other_ca},
         "turn.example.org",
         "the certificate of turn.example.org is not signed by a known authority; give ca_file",
         "turn.example.org"},
        /* Signed by a certificate that is no authority. */
        {{.dns = "turn.example.org", .signer = &good},
         "turn.example.org",
         "the certificate of turn.example.org is not signed by a known authority; give ca_file",
         "turn.example.org"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        certificate c;
        make_certificate(&c, &table[i].server);
        start_server(&c);
        start(table[i].name);
        RUN_UNTIL(client.connected + client.closed > 0);
        if (table[i].reason != NULL) {
            assert_string_equal(client.reason, table[i].reason);
            assert_int_equal(client.error, DP_ERR_AUTH);
            assert_int_equal(client.connected, 0);
            RUN_UNTIL(server.gone); /* it was told why, too */
            assert_int_equal(server.error, MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE);
        } else {
            assert_string_equal(client.reason, "");
            assert_int_equal(client.connected, 1);
        }
        assert_string_equal(server.sni, table[i].sni);
        close_client();
        reset_server();
        free_certificate(&c);
    }
}

/* The system's authorities did not sign ours. */
static void test_system_authorities(void **state)
{
    (void)state;
    if (access("/etc/ssl/certs/ca-certificates.crt", R_OK) != 0)
        skip(); /* a machine without ca-certificates */
    start_server(&good);
    dial(DP_SECONDS(20));
    dp_tls_options options = tls_options("turn.example.org");
    options.ca_file = NULL;
    assert_int_equal(dp_tcp_start_tls(client.tcp, &options), DP_OK);
    RUN_UNTIL(client.closed == 1);
    assert_int_equal(client.error, DP_ERR_AUTH);
}

/* A new file counts from the next stream on; the streams that began with the old one go on. */
static void test_authorities_change(void **state)
{
    (void)state;
    start_server(&good);
    start("turn.example.org");
    write_authority(&other_ca);
    RUN_UNTIL(client.connected == 1);
    start_server(&good);
    start("turn.example.org");
    RUN_UNTIL(client.closed == 1);
    assert_int_equal(client.error, DP_ERR_AUTH);
    write_authority(&ca);
    connect_both();
}

static void test_bad_options(void **state)
{
    (void)state;
    start_server(&good);
    dial(DP_SECONDS(20));
    char longest[300];
    memset(longest, 'a', sizeof(longest));
    longest[299] = '\0';
    const char *names[] = {NULL, "", ".", "[]", longest};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        dp_tls_options options = tls_options(names[i]);
        assert_int_equal(dp_tcp_start_tls(client.tcp, &options), DP_ERR_INVALID_ARGUMENT);
    }
    char empty[128];
    snprintf(empty, sizeof(empty), "%s/empty", folder);
    FILE *file = fopen(empty, "w");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    const char *files[] = {"/nonexistent/ca.pem", folder, empty, "/dev/null"};
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        dp_tls_options options = tls_options("turn.example.org");
        options.ca_file = files[i];
        assert_int_equal(dp_tcp_start_tls(client.tcp, &options), DP_ERR_IO);
    }
    unlink(empty);
    dp_tls_options options = tls_options("turn.example.org");
    assert_int_equal(dp_tcp_start_tls(client.tcp, &options), DP_OK); /* none of that did harm */
    assert_int_equal(dp_tcp_start_tls(client.tcp, &options), DP_ERR_INVALID_STATE);
    RUN_UNTIL(client.connected == 1);
}

/* ---- servers that misbehave ---- */

static void expect_closed(int error, const char *reason)
{
    start("turn.example.org");
    RUN_UNTIL(client.closed == 1);
    assert_int_equal(client.error, error);
    if (strncmp(client.reason, reason, strlen(reason)) != 0)
        assert_string_equal(client.reason, reason);
    assert_int_equal(client.connected, 0);
    assert_int_equal(dp_tcp_send(client.tcp, (const uint8_t *)"x", 1), DP_ERR_CLOSED);
}

static void test_no_tls_there(void **state)
{
    (void)state;
    const char *lines[] = {"HTTP/1.1 400 Bad Request\r\n\r\n", "220 mail.example ESMTP\r\n",
                           "\x80\x80\x80\x80\x80\x80"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        start_server(&good);
        server.says = lines[i];
        expect_closed(DP_ERR_PROTOCOL, "turn.example.org does not speak TLS on this port");
    }
    start_server(&good);
    server.says = "\x16\x03\x03\x7f\xff"; /* a record that is too long */
    expect_closed(DP_ERR_PROTOCOL, "turn.example.org broke the rules of TLS 1.2");
    start_server(&good);
    server.says = "\x15\x03\x03"; /* the beginning of an alert, and then silence */
    start("turn.example.org");
    RUN_UNTIL(server.silent);
}

static void test_refused_by_alert(void **state)
{
    (void)state;
    start_server(&good);
    static const int old[] = {MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, 0};
    mbedtls_ssl_conf_ciphersuites(&server.conf, old);
    expect_closed(DP_ERR_REMOTE, "turn.example.org broke off with a TLS alert: it may want another version");
#if MBEDTLS_VERSION_NUMBER < 0x03000000
    start_server(&good);
    mbedtls_ssl_conf_max_version(&server.conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_2);
    expect_closed(DP_ERR_REMOTE, "turn.example.org broke off with a TLS alert: it may want another version");
#endif
}

static void test_closes_in_the_handshake(void **state)
{
    (void)state;
    start_server(&good);
    server.close_on_data = true;
    expect_closed(DP_ERR_CLOSED, "closed by the peer during the TLS handshake");
}

static void test_silent_server(void **state)
{
    (void)state;
    start_server(&good);
    server.silent = true;
    dial(DP_MS(50));
    dp_tls_options options = tls_options("turn.example.org");
    assert_int_equal(dp_tcp_start_tls(client.tcp, &options), DP_OK);
    RUN_UNTIL(client.closed == 1);
    assert_int_equal(client.error, DP_ERR_TIMEOUT);
    assert_string_equal(client.reason, "the TLS handshake took too long");
}

/* The time limit is one of connecting. */
static void test_no_limit_afterwards(void **state)
{
    (void)state;
    connect_both();
    assert_true(dp_loop_next_timeout(loop) == DP_TIME_NEVER);
}

static void test_nobody_listens(void **state)
{
    (void)state;
    dp_address local = loopback(0);
    dp_listener *l;
    assert_int_equal(dp_listener_open(&l, loop, &local, on_accept, NULL), DP_OK);
    uint16_t port = dp_listener_local(l)->port;
    dp_listener_close(l);
    assert_int_equal(dp_tcp_connect(&client.tcp, loop, "127.0.0.1", port, DP_SECONDS(20), &client_handler),
                     DP_OK);
    dp_tls_options options = tls_options("turn.example.org");
    assert_int_equal(dp_tcp_start_tls(client.tcp, &options), DP_OK);
    RUN_UNTIL(client.closed == 1);
    assert_int_equal(client.error, DP_ERR_IO);
    close_client();
    /* A connection that failed at once: the owner hears of it later, and of nothing else. */
    assert_int_equal(dp_tcp_connect(&client.tcp, loop, "255.255.255.255", 9, DP_SECONDS(20), &client_handler),
                     DP_OK);
    assert_int_equal(dp_tcp_start_tls(client.tcp, &options), DP_OK);
    RUN_UNTIL(client.closed == 2);
    assert_int_equal(dp_tcp_start_tls(client.tcp, &options), DP_ERR_INVALID_STATE);
}

/* ---- afterwards ---- */

static void test_large_transfer(void **state)
{
    (void)state;
    connect_both();
    client.to_send = server.to_send = 3 << 20;
    pump_client();
    pump_server();
    RUN_UNTIL(client.bytes == 3 << 20 && server.bytes == 3 << 20);
    assert_int_equal(client.bad + server.bad, 0);
    RUN_UNTIL(dp_tcp_queued(client.tcp) == 0);
    assert_true(client.drained > 0);
}

/* Records leave in pieces, whatever is queued meanwhile. */
static void test_slow_kernel(void **state)
{
    (void)state;
    connect_both();
    send_blocks = true;
    send_step = 1000;
    client.to_send = 200000;
    while (client.to_send > 0) {
        uint8_t bytes[777];
        size_t n = client.to_send < sizeof(bytes) ? client.to_send : sizeof(bytes);
        for (size_t i = 0; i < n; i++)
            bytes[i] = pattern(client.sent_bytes + i);
        assert_int_equal(dp_tcp_send(client.tcp, bytes, n), DP_OK);
        client.to_send -= n;
        client.sent_bytes += n;
        assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    }
    RUN_UNTIL(server.bytes == 200000);
    assert_int_equal(server.bad, 0);
}

/* What the kernel does not take counts until it has left, as the record that it is in. */
static void test_queued_counts_what_waits(void **state)
{
    (void)state;
    connect_both();
    RUN_UNTIL(dp_loop_next_timeout(loop) == DP_TIME_NEVER);
    send_step = 100;
    send_blocks = true;
    send_blocked = true; /* the next one goes through, and then every other one */
    uint8_t bytes[1000] = {0};
    assert_int_equal(dp_tcp_send(client.tcp, bytes, sizeof(bytes)), DP_OK);
    assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    assert_int_equal(dp_tcp_queued(client.tcp), sizeof(bytes));
    assert_int_equal(client.drained, 0);
    RUN_UNTIL(client.drained == 1);
}

static void test_end_of_stream(void **state)
{
    (void)state;
    for (int impolite = 0; impolite < 2; impolite++) {
        start_server(&good);
        server.close_when_done = true;
        server.impolite = impolite;
        start("turn.example.org");
        RUN_UNTIL(client.closed == 1);
        assert_int_equal(client.connected, 1);
        assert_int_equal(client.error, DP_ERR_CLOSED);
        assert_string_equal(client.reason, impolite ? "closed by the peer without a TLS close_notify"
                                                    : "closed by the peer");
    }
}

static void test_altered_on_the_way(void **state)
{
    (void)state;
    connect_both();
    flip_after = 20; /* in the record's body */
    server.to_send = 100;
    pump_server();
    RUN_UNTIL(client.closed == 1);
    assert_int_equal(client.error, DP_ERR_PROTOCOL);
    assert_int_equal(client.bytes, 0);
}

/* The request is declined, and all goes on. */
static void test_no_renegotiation(void **state)
{
    (void)state;
    start_server(&good);
    server.renegotiate = true;
    server.echo = true;
    start("turn.example.org");
    client.to_send = 100;
    pump_client();
    RUN_UNTIL(client.bytes == 100 || client.closed > 0);
    /* A warning of its own, and data behind it in one piece: mbedTLS stops reading between the two. */
    assert_int_equal(mbedtls_ssl_send_alert_message(&server.ssl, MBEDTLS_SSL_ALERT_LEVEL_WARNING,
                                                    MBEDTLS_SSL_ALERT_MSG_NO_RENEGOTIATION),
                     0);
    server.to_send += 100;
    pump_server();
    RUN_UNTIL(client.bytes == 200 || client.closed > 0);
    assert_int_equal(client.closed, 0);
    assert_int_equal(client.bad, 0);
}

static void test_closed_in_each_callback(void **state)
{
    (void)state;
    for (int which = 0; which < 4; which++) {
        start_server(&good);
        server.echo = true;
        server.close_when_done = which == 3;
        start("turn.example.org");
        client.close_on_connected = which == 0;
        client.close_on_data = which == 1;
        client.close_on_drained = which == 2;
        client.close_on_closed = which == 3;
        client.to_send = 50000;
        pump_client();
        RUN_UNTIL(client.tcp == NULL);
        if (which < 3)
            RUN_UNTIL(server.gone);
    }
    for (int rounds = 0; rounds < 6; rounds++) { /* at any moment of the handshake */
        start_server(&good);
        start("turn.example.org");
        for (int i = 0; i < rounds; i++)
            assert_int_equal(dp_loop_step(loop, DP_MS(20)), DP_OK);
        close_client();
        for (int i = 0; i < 3; i++)
            assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    }
}

static void test_close_gives_what_is_queued(void **state)
{
    (void)state;
    connect_both();
    client.to_send = 40000;
    pump_client();
    close_client();
    RUN_UNTIL(server.gone);
    assert_int_equal(server.bytes, 40000);
    assert_int_equal(server.bad, 0);
    assert_true(server.goodbye);
}

/* mbedTLS has allocations of its own, which Debian's build gives no hook for: these are ours. */
static void test_without_memory(void **state)
{
    (void)state;
    dp_tls_options options = tls_options("turn.example.org");
    dial(DP_SECONDS(20));
    int error = DP_ERR_NO_MEMORY;
    long n = 0;
    while (error == DP_ERR_NO_MEMORY) {
        fail_allocation(++n);
        error = dp_tcp_start_tls(client.tcp, &options);
        fail_allocation(0);
    }
    assert_int_equal(error, DP_OK);
    assert_int_equal(n, 4); /* the stream, the list of authorities, its path */

    start_server(&good);
    start("turn.example.org");
    fail_allocation(1); /* the time limit, or the first flight */
    while (client.closed == 0)
        assert_int_equal(dp_loop_step(loop, DP_MS(100)), DP_OK);
    fail_allocation(0);
    assert_int_equal(client.error, DP_ERR_NO_MEMORY);

    connect_both();
    uint8_t bytes[10000] = {0};
    assert_int_equal(dp_tcp_send(client.tcp, bytes, sizeof(bytes)), DP_OK);
    fail_allocation(1);
    RUN_UNTIL(client.closed == 1);
    fail_allocation(0);
    assert_int_equal(client.error, DP_ERR_NO_MEMORY);
}

static int no_random(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    (void)out;
    (void)len;
    return DP_ERR_CRYPTO;
}

static void test_without_random(void **state)
{
    (void)state;
    start_server(&good);
    dial(DP_SECONDS(20));
    dp_tls_options options = tls_options("turn.example.org");
    options.random.fn = no_random;
    assert_int_equal(dp_tcp_start_tls(client.tcp, &options), DP_OK);
    RUN_UNTIL(client.closed == 1);
    assert_int_equal(client.error, DP_ERR_CRYPTO);
}

static int group_setup(void **state)
{
    (void)state;
    if (dp_csprng_new(&csprng) != DP_OK)
        return -1;
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof(folder), "%s/datapeer-tls-XXXXXX",
             tmp != NULL && strlen(tmp) < 30 ? tmp : "/tmp");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(ca_file, sizeof(ca_file), "%s/ca.pem", folder);
    make_certificate(&ca, &(recipe){.subject = "authority", .authority = true});
    make_certificate(&other_ca, &(recipe){.subject = "another", .authority = true});
    make_certificate(&good, &(recipe){.dns = "turn.example.org", .signer = &ca});
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    free_certificate(&good);
    free_certificate(&other_ca);
    free_certificate(&ca);
    dp_csprng_free(csprng);
    unlink(ca_file);
    return rmdir(folder);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, tls_setup, tls_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_connects),
        TEST(test_one_byte_at_a_time),
        TEST(test_certificates),
        TEST(test_system_authorities),
        TEST(test_authorities_change),
        TEST(test_bad_options),
        TEST(test_no_tls_there),
        TEST(test_refused_by_alert),
        TEST(test_closes_in_the_handshake),
        TEST(test_silent_server),
        TEST(test_no_limit_afterwards),
        TEST(test_nobody_listens),
        TEST(test_large_transfer),
        TEST(test_slow_kernel),
        TEST(test_queued_counts_what_waits),
        TEST(test_end_of_stream),
        TEST(test_altered_on_the_way),
        TEST(test_no_renegotiation),
        TEST(test_closed_in_each_callback),
        TEST(test_close_gives_what_is_queued),
        TEST(test_without_memory),
        TEST(test_without_random),
    };
    return cmocka_run_group_tests_name("net/tls", tests, group_setup, group_teardown);
}
