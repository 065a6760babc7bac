/* TLS streams against a real TLS server (tls_helper.h). */
#include "tests/unit/net/tls_helper.h"

#include "base/key_log.h"
#include <errno.h>

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

static uint8_t server_secret[DP_KEY_LOG_MASTER_SECRET], server_saw_random[DP_KEY_LOG_RANDOM];
static void keep_secret(void *ctx, const uint8_t *master_secret, const uint8_t *client_random,
                        const uint8_t *server_random, mbedtls_tls_prf_types prf)
{
    (void)ctx;
    (void)server_random;
    (void)prf;
    memcpy(server_secret, master_secret, sizeof(server_secret));
    memcpy(server_saw_random, client_random, sizeof(server_saw_random));
}

static char logged[256];
static void log_line(void *ctx, const char *line)
{
    (*(unsigned *)ctx)++;
    snprintf(logged, sizeof(logged), "%s", line);
}

/* What the log says is what the server has. */
static void test_logs_its_keys(void **state)
{
    (void)state;
    unsigned lines = 0;
    char expected[256] = "CLIENT_RANDOM ";
    dp_mbedtls_export export = {keep_secret, NULL};
    start_server(&good);
    dp_mbedtls_set_export(&server.conf, &server.ssl, &export);
    dial(DP_SECONDS(20));
    dp_tls_options options = tls_options("turn.example.org");
    options.key_log = (dp_key_log){log_line, &lines};
    assert_int_equal(dp_tcp_start_tls(client.tcp, &options), DP_OK);
    RUN_UNTIL(client.connected == 1 && server.done);
    for (size_t i = 0; i < sizeof(server_saw_random); i++)
        sprintf(expected + strlen(expected), "%02x", server_saw_random[i]);
    strcat(expected, " ");
    for (size_t i = 0; i < sizeof(server_secret); i++)
        sprintf(expected + strlen(expected), "%02x", server_secret[i]);
    assert_int_equal(lines, 1);
    assert_string_equal(logged, expected);
}

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
        {{.ip = "7f00:1::", .signer = &ca}, "127.0.0.1", "the certificate of 127.0.0.1 is for 7f00:1::", ""},
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
         "the certificate of turn.example.org expired on 2001-01-01, or this machine's clock is wrong",
         "turn.example.org"},
        {{.dns = "turn.example.org", .from = "20980101000000", .signer = &ca},
         "turn.example.org",
         "the certificate of turn.example.org is not valid before 2098-01-01, or this machine's clock is "
         "wrong",
         "turn.example.org"},
        {{.dns = "turn.example.org"},
         "turn.example.org",
         "the certificate of turn.example.org is self-signed: no known authority vouches for it",
         "turn.example.org"},
        {{.dns = "turn.example.org", .signer = &other_ca},
         "turn.example.org",
         "the certificate of turn.example.org is not signed by a known authority",
         "turn.example.org"},
        /* Signed by a certificate that is no authority. */
        {{.subject = "impostor", .dns = "turn.example.org", .signer = &good},
         "turn.example.org",
         "the certificate of turn.example.org is not signed by a known authority",
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
    dp_tcp *second;
    static const dp_tcp_handler nothing = {0};
    assert_int_equal(dp_tcp_connect(&second, loop, "127.0.0.1", 9, DP_SECONDS(20), &nothing), DP_OK);
    dp_tls_options options = tls_options("turn.example.org");
    assert_int_equal(dp_tcp_start_tls(second, &options), DP_OK);
    RUN_UNTIL(client.connected == 1);
    dp_tcp_close(second);
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
    char fifo[128];
    snprintf(fifo, sizeof(fifo), "%s/fifo", folder);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    alarm(20); /* nobody writes to it */
    const char *files[] = {"/nonexistent/ca.pem", folder, empty, "/dev/null", fifo};
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        dp_tls_options options = tls_options("turn.example.org");
        options.ca_file = files[i];
        assert_int_equal(dp_tcp_start_tls(client.tcp, &options), DP_ERR_IO);
    }
    alarm(0);
    unlink(empty);
    unlink(fifo);
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
#if defined(MBEDTLS_SSL_PROTO_TLS1_1)
    start_server(&good);
    mbedtls_ssl_conf_max_version(&server.conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_2);
    expect_closed(DP_ERR_REMOTE, "turn.example.org broke off with a TLS alert: it may want another version");
#endif
#if defined(MBEDTLS_SSL_PROTO_TLS1_3)
    start_server(&good);
    mbedtls_ssl_conf_min_tls_version(&server.conf, MBEDTLS_SSL_VERSION_TLS1_3);
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

/* The handshake has all the time that connecting left, not an address's share of it. */
static void test_silent_server(void **state)
{
    (void)state;
    start_server(&good);
    server.silent = true;
    dp_time began = dp_clock_now();
    assert_int_equal(dp_tcp_connect(&client.tcp, loop, "localhost", dp_listener_local(listener)->port,
                                    DP_MS(100), &client_handler),
                     DP_OK);
    dp_tls_options options = tls_options("turn.example.org");
    assert_int_equal(dp_tcp_start_tls(client.tcp, &options), DP_OK);
    RUN_UNTIL(client.closed == 1);
    assert_int_equal(client.error, DP_ERR_TIMEOUT);
    assert_string_equal(client.reason, "the TLS handshake took too long");
    assert_true(dp_clock_now() - began >= DP_MS(100));
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
        if (!impolite)
            RUN_UNTIL(server.goodbye); /* answered */
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
    RUN_UNTIL(server.error == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE);
}

static void test_alerts_afterwards(void **state)
{
    (void)state;
    connect_both();
    assert_int_equal(mbedtls_ssl_send_alert_message(&server.ssl, MBEDTLS_SSL_ALERT_LEVEL_WARNING, 90), 0);
    server.to_send = 100;
    pump_server();
    RUN_UNTIL(client.bytes == 100 || client.closed > 0);
    assert_int_equal(client.closed, 0);
    assert_int_equal(mbedtls_ssl_send_alert_message(&server.ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL, 80), 0);
    RUN_UNTIL(client.closed == 1);
    assert_int_equal(client.error, DP_ERR_REMOTE);
    assert_string_equal(client.reason, "turn.example.org broke off with a TLS alert (-0x7780)");
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

/* Records of no bytes (old stacks sent them against attacks on CBC): mbedTLS stops reading at the second one, and
 * what follows it must not be lost. */
static void test_empty_records(void **state)
{
    (void)state;
    start_server(&good);
    start("turn.example.org");
    RUN_UNTIL(client.connected == 1 && server.done);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(mbedtls_ssl_write(&server.ssl, (const uint8_t *)"", 0), 0);
        assert_int_equal(mbedtls_ssl_write(&server.ssl, (const uint8_t *)"", 0), 0);
        server.to_send = 100;
        pump_server();
    }
    RUN_UNTIL(client.bytes == 300 || client.closed > 0);
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
    assert_int_equal(
        n, 6); /* the stream, what only clients have, the list of authorities, its path, the handshake */

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

/* TLS on a stream that is connected, as behind a proxy: what could not begin leaves the stream as it was. */
static void test_later_without_memory(void **state)
{
    (void)state;
    dp_tls_options options = tls_options("turn.example.org");
    options.insecure = true; /* no authorities, which would be read once for all rounds */
    int error = DP_ERR_NO_MEMORY;
    for (long n = 1; error == DP_ERR_NO_MEMORY; n++) {
        start_server(&good);
        server.silent = true;
        dial(DP_SECONDS(20));
        RUN_UNTIL(client.connected == 1 && server.tcp != NULL);
        fail_allocation(n);
        error = dp_tcp_start_tls(client.tcp, &options);
        fail_allocation(0);
        if (error != DP_OK)
            assert_int_equal(dp_tcp_send(client.tcp, (const uint8_t *)"plain", 5), DP_OK);
        close_client();
        RUN_UNTIL(server.gone);
    }
    assert_int_equal(error, DP_OK);
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
        TEST(test_logs_its_keys),
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
        TEST(test_alerts_afterwards),
        TEST(test_no_renegotiation),
        TEST(test_empty_records),
        TEST(test_closed_in_each_callback),
        TEST(test_close_gives_what_is_queued),
        TEST(test_without_memory),
        TEST(test_later_without_memory),
        TEST(test_without_random),
    };
    return cmocka_run_group_tests_name("net/tls", tests, group_setup, group_teardown);
}
