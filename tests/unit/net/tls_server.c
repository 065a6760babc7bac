/* The server's side of TLS, against our client, against bytes that are no TLS, and against openssl s_client. */
#include "tests/unit/net/certificates.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CLIENTS = 10 };

static char folder[64], ca_file[96], chain_file[96], key_file[96];
static certificate ca, middle, good;
static dp_tls_server *server;
static dp_listener *listener;

/* ---- both ends of some streams ---- */

typedef struct end {
    dp_tcp *tcp;
    unsigned connected, closed;
    int error;
    char reason[512];
    uint8_t last;
    size_t bytes;
    bool echo;
    bool then_tls; /* begins TLS when it is connected */
    dp_tls_options options;
} end;

static end clients[CLIENTS], servers[CLIENTS];
static size_t accepted;

static void on_connected(void *user, dp_tcp *tcp)
{
    end *e = user;
    e->connected++;
    if (e->then_tls && e->connected == 1)
        assert_int_equal(dp_tcp_start_tls(tcp, &e->options), DP_OK);
}

static void on_data(void *user, dp_tcp *tcp, const uint8_t *data, size_t len)
{
    end *e = user;
    assert_true(e->connected > 0);
    e->bytes += len;
    e->last = data[len - 1];
    if (e->echo)
        assert_int_equal(dp_tcp_send(tcp, data, len), DP_OK);
}

static void on_closed(void *user, dp_tcp *tcp, int error, const char *reason)
{
    end *e = user;
    e->closed++;
    e->error = error;
    snprintf(e->reason, sizeof(e->reason), "%s", reason);
    dp_tcp_close(tcp);
    e->tcp = NULL;
}

static dp_tcp_handler handler_of(end *e)
{
    return (dp_tcp_handler){on_connected, on_data, NULL, on_closed, e};
}

static void on_accept(void *user, dp_tcp *tcp, const dp_address *remote)
{
    (void)user;
    (void)remote;
    assert_true(accepted < CLIENTS);
    end *e = &servers[accepted++];
    e->tcp = tcp;
    dp_tcp_handler handler = handler_of(e);
    dp_tcp_set_handler(tcp, &handler);
    assert_int_equal(dp_tcp_accept_tls(tcp, server), DP_OK);
    assert_int_equal(dp_tcp_accept_tls(tcp, server), DP_ERR_INVALID_STATE);
}

/* One after the other, so that the ends have the same numbers. */
static end *dial(size_t i)
{
    end *e = &clients[i];
    dp_tcp_handler handler = handler_of(e);
    e->options = (dp_tls_options){.size = sizeof(e->options),
                                  .server_name = "peers.example",
                                  .ca_file = ca_file,
                                  .random = dp_csprng_source(csprng)};
    assert_int_equal(dp_tcp_connect(&e->tcp, loop, "127.0.0.1", dp_listener_local(listener)->port,
                                    DP_SECONDS(20), &handler),
                     DP_OK);
    return e;
}

static void dial_tls(size_t i)
{
    end *e = dial(i);
    assert_int_equal(dp_tcp_start_tls(e->tcp, &e->options), DP_OK);
}

/* Says something that is not the whole of a handshake. */
static void dial_and_say(size_t i, const char *bytes, size_t len)
{
    end *e = dial(i);
    assert_int_equal(dp_tcp_send(e->tcp, (const uint8_t *)bytes, len), DP_OK);
    RUN_UNTIL(accepted > i && dp_tcp_queued(e->tcp) == 0 && e->connected == 1);
}

static void hang_up(end *e)
{
    dp_tcp_close(e->tcp);
    e->tcp = NULL;
}

/* ---- the server's files ---- */

static dp_tls_server_config config_of(void)
{
    return (dp_tls_server_config){.size = sizeof(dp_tls_server_config),
                                  .certificate_file = chain_file,
                                  .key_file = key_file,
                                  .random = dp_csprng_source(csprng)};
}

static void write_key(const certificate *c)
{
    char text[2048];
    assert_int_equal(
        mbedtls_pk_write_key_pem((mbedtls_pk_context *)&c->key, (unsigned char *)text, sizeof(text)), 0);
    unlink(key_file);
    write_file(key_file, text);
    assert_int_equal(chmod(key_file, 0600), 0);
}

static void write_chain(const certificate *const *chain, size_t count)
{
    static char text[32768];
    text[0] = '\0';
    for (size_t i = 0; i < count; i++)
        add_pem(text, sizeof(text), chain[i]);
    write_file(chain_file, text);
}

static void start_server(const dp_tls_server_config *config)
{
    dp_file_error error;
    dp_tls_server_free(server);
    server = NULL;
    if (dp_tls_server_new(&server, config, &error) != DP_OK)
        fail_msg("%s", error.message);
}

static int server_setup(void **state)
{
    write_chain((const certificate *[]){&good, &middle}, 2);
    write_key(&good);
    if (setup(state) != 0)
        return -1;
    memset(clients, 0, sizeof(clients));
    memset(servers, 0, sizeof(servers));
    accepted = 0;
    dp_tls_server_config config = config_of();
    start_server(&config);
    dp_address local = loopback(0);
    return dp_listener_open(&listener, loop, &local, on_accept, NULL);
}

static int server_teardown(void **state)
{
    for (size_t i = 0; i < CLIENTS; i++) {
        hang_up(&clients[i]);
        hang_up(&servers[i]);
    }
    dp_listener_close(listener);
    dp_tls_server_free(server);
    server = NULL;
    return teardown(state);
}

/* ---- tests ---- */

static void test_both_ends(void **state)
{
    (void)state;
    static uint8_t bytes[300000];
    dial_tls(0);
    servers[0].echo = true;
    RUN_UNTIL(clients[0].connected == 1 && servers[0].connected == 1);
    assert_int_equal(dp_tcp_send(clients[0].tcp, bytes, sizeof(bytes)), DP_OK);
    RUN_UNTIL(clients[0].bytes == sizeof(bytes));
    assert_true(dp_loop_next_timeout(loop) == DP_TIME_NEVER); /* the deadline is one of the handshake */
    hang_up(&clients[0]);
    RUN_UNTIL(servers[0].closed == 1);
    assert_int_equal(servers[0].error, DP_ERR_CLOSED);
    assert_string_equal(servers[0].reason, "closed by the peer");
    dial_tls(1);
    RUN_UNTIL(clients[1].connected == 1 && servers[1].connected == 1);
    hang_up(&servers[1]);
    RUN_UNTIL(clients[1].closed == 1);
    assert_string_equal(clients[1].reason, "closed by the peer");
}

/* As behind a proxy: TLS on a stream that is connected; on_connected comes twice. */
static void test_tls_later(void **state)
{
    (void)state;
    end *c = dial(0);
    c->then_tls = true;
    servers[0].echo = true;
    RUN_UNTIL(c->connected == 2 && servers[0].connected == 1);
    assert_int_equal(dp_tcp_start_tls(c->tcp, &c->options), DP_ERR_INVALID_STATE);
    assert_int_equal(dp_tcp_send(c->tcp, (const uint8_t *)"x", 1), DP_OK);
    RUN_UNTIL(c->bytes == 1 && c->last == 'x');
    /* Bytes that wait would leave in plaintext or not at all. */
    c = dial(1);
    RUN_UNTIL(c->connected == 1);
    assert_int_equal(dp_tcp_send(c->tcp, (const uint8_t *)"x", 1), DP_OK);
    assert_int_equal(dp_tcp_start_tls(c->tcp, &c->options), DP_ERR_INVALID_STATE);
}

/* The server has to show what leads to an authority; a client that misses it tells so. */
static void test_chain(void **state)
{
    (void)state;
    write_chain((const certificate *[]){&good}, 1);
    dp_tls_server_config config = config_of();
    start_server(&config);
    dial_tls(0);
    RUN_UNTIL(clients[0].closed == 1 && servers[0].closed == 1);
    assert_int_equal(clients[0].error, DP_ERR_AUTH);
    assert_string_equal(clients[0].reason,
                        "the certificate of peers.example is not signed by a known authority");
    assert_int_equal(servers[0].error, DP_ERR_REMOTE);
    assert_non_null(
        strstr(servers[0].reason, "the client broke off with a TLS alert: it may not trust our "));
    assert_int_equal(servers[0].connected, 0);
}

/* Streams keep the certificate that they began with. */
static void test_another_certificate(void **state)
{
    (void)state;
    certificate other;
    dial_tls(0);
    servers[0].echo = servers[1].echo = true;
    RUN_UNTIL(clients[0].connected == 1 && servers[0].connected == 1);
    dial_and_say(1, "\x16", 1); /* began with the old one, too */
    make_certificate(&other, &(recipe){.dns = "other.example", .signer = &ca});
    write_chain((const certificate *[]){&other}, 1);
    write_key(&other);
    dp_tls_server_config config = config_of();
    start_server(&config);
    dial_tls(2);
    RUN_UNTIL(clients[2].closed == 1);
    assert_string_equal(clients[2].reason, "the certificate of peers.example is for other.example");
    assert_int_equal(dp_tcp_send(clients[0].tcp, (const uint8_t *)"x", 1), DP_OK);
    RUN_UNTIL(clients[0].bytes == 1);
    free_certificate(&other);
}

static void warned(void *ctx, dp_log_level level, const char *layer, const char *message)
{
    (void)layer;
    if (level == DP_LOG_WARN && strstr(message, "is not checked (insecure)") != NULL)
        ++*(unsigned *)ctx;
}

static void test_insecure_client(void **state)
{
    (void)state;
    certificate self;
    unsigned warnings = 0;
    make_certificate(&self, &(recipe){.dns = "other.example", .until = "20010101000000"});
    write_chain((const certificate *[]){&self}, 1);
    write_key(&self);
    dp_tls_server_config config = config_of();
    start_server(&config);
    for (size_t i = 0; i < 2; i++) { /* each time */
        end *c = dial(i);
        c->options.insecure = true;
        c->options.ca_file = "/nowhere/ca.pem"; /* nobody asks it */
        c->options.log = (dp_log){warned, &warnings, DP_LOG_WARN};
        assert_int_equal(dp_tcp_start_tls(c->tcp, &c->options), DP_OK);
        RUN_UNTIL(c->connected == 1);
        assert_int_equal(warnings, i + 1);
    }
    free_certificate(&self);
}

static void test_no_tls(void **state)
{
    (void)state;
    static const char http[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    dial_and_say(0, http, sizeof(http) - 1);
    RUN_UNTIL(servers[0].closed == 1);
    assert_int_equal(servers[0].error, DP_ERR_PROTOCOL);
    assert_non_null(strstr(servers[0].reason, "the client does not speak TLS on this port"));
    /* A record of 65535 bytes, a handshake message of 16 MB: nothing is allocated for what they claim. */
    dial_and_say(1, "\x16\x03\x01\xff\xff\x01", 6);
    RUN_UNTIL(servers[1].closed == 1);
    assert_int_equal(servers[1].error, DP_ERR_PROTOCOL);
    dial_and_say(2, "\x16\x03\x01\x00\x04\x01\xff\xff\xff", 9);
    /* 2.28 refuses it at once, 3.6 when more of it comes than it has room for. */
    static const uint8_t record[5 + 16384] = {0x16, 0x03, 0x01, 0x40, 0x00};
    for (int i = 0; i < 2 && clients[2].tcp != NULL; i++)
        (void)dp_tcp_send(clients[2].tcp, record, sizeof(record));
    RUN_UNTIL(servers[2].closed == 1);
    assert_int_equal(servers[2].error, DP_ERR_PROTOCOL);
    dial_and_say(3, "\x16\x03\x01\x01\x00\x01\x00", 7); /* the beginning of a hello */
    hang_up(&clients[3]);
    RUN_UNTIL(servers[3].closed == 1);
    assert_string_equal(servers[3].reason, "closed by the peer during the TLS handshake");
}

static void test_slow_handshake(void **state)
{
    (void)state;
    dp_tls_server_config config = config_of();
    config.handshake_timeout = DP_MS(100);
    start_server(&config);
    dp_time began = dp_clock_now();
    end *silent = dial(0);
    RUN_UNTIL(silent->connected == 1 && accepted == 1);
    dial_and_say(1, "\x16\x03\x01", 3);
    RUN_UNTIL(servers[0].closed == 1 && servers[1].closed == 1);
    assert_true(dp_clock_now() - began >= DP_MS(100));
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(servers[i].error, DP_ERR_TIMEOUT);
        assert_string_equal(servers[i].reason, "the TLS handshake took too long");
    }
}

/* Who has said nothing takes no place; of the others the oldest goes. */
static void test_too_many_handshakes(void **state)
{
    (void)state;
    dp_tls_server_config config = config_of();
    config.max_handshakes = 2;
    start_server(&config);
    end *silent = dial(0);
    RUN_UNTIL(silent->connected == 1 && accepted == 1);
    for (size_t i = 1; i < 4; i++) {
        dial_and_say(i, "\x16", 1);
        if (i == 3)
            RUN_UNTIL(servers[1].closed == 1);
        /* Until the server has read it, the next one must not overtake. */
        for (int rounds = 0; rounds < 3; rounds++)
            assert_int_equal(dp_loop_step(loop, DP_MS(1)), DP_OK);
    }
    assert_int_equal(servers[1].error, DP_ERR_LIMIT);
    assert_string_equal(servers[1].reason, "too many TLS handshakes at once");
    assert_int_equal(servers[2].closed + servers[3].closed, 0);
    /* One in the middle of the list, and the newest, end by themselves: their places are free. */
    hang_up(&clients[3]);
    RUN_UNTIL(servers[3].closed == 1);
    for (size_t i = 4; i < 7; i++) {
        dial_tls(i);
        RUN_UNTIL(clients[i].connected == 1 && servers[i].connected == 1);
    }
    assert_int_equal(servers[2].closed + servers[0].closed, 0);
    dial_and_say(7, "\x16", 1);
    for (int rounds = 0; rounds < 3; rounds++)
        assert_int_equal(dp_loop_step(loop, DP_MS(1)), DP_OK);
    assert_int_equal(servers[2].closed + servers[0].closed, 0);
    /* The oldest ends by itself: the next one is the oldest then. */
    hang_up(&clients[2]);
    RUN_UNTIL(servers[2].closed == 1);
    dial_and_say(8, "\x16", 1);
    dial_and_say(9, "\x16", 1);
    RUN_UNTIL(servers[7].closed == 1);
    assert_int_equal(servers[7].error, DP_ERR_LIMIT);
    assert_int_equal(servers[8].closed + servers[9].closed, 0);
}

/* Bytes that are no TLS take nothing of what an address may have; a handshake does, whatever becomes of it. */
static void test_rate_of_handshakes(void **state)
{
    (void)state;
    dp_tls_server_config config = config_of();
    config.handshake_rate = 1;
    config.handshake_burst = 3;
    start_server(&config);
    for (size_t i = 0; i < 4; i++)
        dial_and_say(i, "GET / HTTP/1.1\r\n\r\n", 18);
    dial_and_say(4, "\x16", 1);
    for (size_t i = 5; i < 7; i++) {
        dial_tls(i);
        RUN_UNTIL(servers[i].connected == 1);
    }
    dial_tls(7);
    RUN_UNTIL(servers[7].closed == 1);
    assert_int_equal(servers[7].error, DP_ERR_LIMIT);
    assert_string_equal(servers[7].reason, "too many TLS handshakes of one address");
    assert_int_equal(servers[5].closed + servers[6].closed, 0);
}

static void test_without_memory(void **state)
{
    (void)state;
    end *c = dial(0);
    RUN_UNTIL(c->connected == 1 && accepted == 1);
    assert_int_equal(dp_tcp_send(c->tcp, (const uint8_t *)"\x16", 1), DP_OK);
    RUN_UNTIL(dp_tcp_queued(c->tcp) == 0);
    fail_allocation(1); /* the stream's own; mbedTLS has no hook */
    RUN_UNTIL(servers[0].closed == 1);
    fail_allocation(0);
    assert_int_equal(servers[0].error, DP_ERR_NO_MEMORY);
    dp_tls_server_config config = config_of();
    config.handshake_rate = 50;
    dp_file_error error;
    dp_tls_server *made = NULL;
    int result = DP_ERR_NO_MEMORY;
    long n = 0;
    while (result == DP_ERR_NO_MEMORY) {
        fail_allocation(++n);
        result = dp_tls_server_new(&made, &config, &error);
        fail_allocation(0);
    }
    assert_int_equal(result, DP_OK);
    assert_int_equal(n, 4); /* the object, the rates, the text of a file */
    dp_tls_server_free(made);
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
    dp_tls_server_config config = config_of();
    config.random.fn = NULL;
    dp_file_error error;
    dp_tls_server *none = NULL;
    assert_int_equal(dp_tls_server_new(&none, &config, &error), DP_ERR_INVALID_ARGUMENT);
    assert_null(none);
    config.random.fn = no_random;
    if (dp_tls_server_new(&none, &config, &error) == DP_OK) { /* 3.6 needs some to read the key */
        dp_tls_server_free(server);
        server = none;
        dial_tls(0);
        RUN_UNTIL(servers[0].closed == 1);
        assert_int_equal(servers[0].error, DP_ERR_CRYPTO);
    }
}

/* ---- files ---- */

static const char encrypted[] = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
                                "MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg=\n"
                                "-----END ENCRYPTED PRIVATE KEY-----\n";

static void refused(int code, const char *message)
{
    dp_tls_server_config config = config_of();
    dp_tls_server *none = NULL;
    dp_file_error error = {""};
    int result = dp_tls_server_new(&none, &config, &error);
    if (result != code || strstr(error.message, message) == NULL)
        fail_msg("%d %s, not %d %s", result, error.message, code, message);
    assert_null(none);
}

static void test_bad_files(void **state)
{
    (void)state;
    static char large[70000];
    char text[96];
    unlink(chain_file);
    refused(DP_ERR_NOT_FOUND, "chain.pem: No such file");
    assert_int_equal(mkdir(chain_file, 0700), 0);
    refused(DP_ERR_DENIED, "chain.pem is no plain file");
    assert_int_equal(rmdir(chain_file), 0);
    assert_int_equal(mkfifo(chain_file, 0600), 0);
    refused(DP_ERR_DENIED, "chain.pem is no plain file");
    unlink(chain_file);
    write_file(chain_file, "");
    refused(DP_ERR_MALFORMED, "chain.pem holds no certificates");
    write_file(chain_file, "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    refused(DP_ERR_MALFORMED, "chain.pem holds no certificates");
    memset(large, '\n', sizeof(large) - 1);
    write_file(chain_file, large);
    refused(DP_ERR_TOO_LARGE, "at most 65536 make sense");
    const certificate *nine[9];
    for (size_t i = 0; i < 9; i++)
        nine[i] = &good;
    write_chain(nine, 9);
    refused(DP_ERR_TOO_LARGE, "chain.pem holds 9 certificates");
    write_chain(nine, 8);

    assert_int_equal(chmod(key_file, 0604), 0);
    refused(DP_ERR_DENIED,
            "key.pem is open to every user (mode 604), and it holds a private key: chmod o= it");
    assert_int_equal(chmod(key_file, 0640), 0); /* Debian's group ssl-cert */
    write_key(&ca);
    refused(DP_ERR_MALFORMED, "is not that of the first certificate in ");
    unlink(key_file);
    refused(DP_ERR_NOT_FOUND, "key.pem: No such file");
    mode_t mask = umask(0077);
    write_file(key_file, encrypted);
    refused(DP_ERR_MALFORMED, "key.pem wants a password");
    write_file(key_file, "garbage");
    refused(DP_ERR_MALFORMED, "key.pem holds no private key");
    umask(mask);
    write_key(&good);
    snprintf(text, sizeof(text), "%s/link.pem", folder); /* as certbot has it */
    assert_int_equal(symlink(key_file, text), 0);
    dp_tls_server_config config = config_of();
    config.key_file = text;
    start_server(&config);
    unlink(text);
}

static unsigned expired_warnings;
static void on_expired(void *ctx, dp_log_level level, const char *layer, const char *message)
{
    (void)ctx;
    (void)layer;
    expired_warnings +=
        level == DP_LOG_WARN && strstr(message, "has expired: clients will refuse it") != NULL;
}

static void test_warns_of_an_old_certificate(void **state)
{
    (void)state;
    certificate old;
    make_certificate(&old, &(recipe){.dns = "peers.example", .until = "20010101000000", .signer = &ca});
    dp_tls_server_config config = config_of();
    config.log = (dp_log){on_expired, NULL, DP_LOG_WARN};
    expired_warnings = 0;
    start_server(&config);
    assert_int_equal(expired_warnings, 0);
    write_chain((const certificate *[]){&old}, 1);
    write_key(&old);
    start_server(&config);
    assert_int_equal(expired_warnings, 1);
    free_certificate(&old);
}

/* ---- openssl s_client ---- */

static char output[16384];
static size_t output_len;
static bool output_ended;
static void on_output(void *user, int ready)
{
    (void)ready;
    ssize_t n = read(*(int *)user, output + output_len, sizeof(output) - 1 - output_len);
    output_ended = n <= 0;
    output_len += n > 0 ? (size_t)n : 0;
    output[output_len] = '\0';
}

/* Says a line of 3,000 bytes, in records of at most 2,048 (a whole flight of mbedTLS is not cut for less), and hears it. */
static void run_s_client(const char *authority, const char *cipher)
{
    int in[2], out[2];
    char line[3001], hears[32];
    char address[32];
    snprintf(address, sizeof(address), "127.0.0.1:%u", dp_listener_local(listener)->port);
    assert_int_equal(pipe(in) + pipe(out), 0);
    output[output_len = 0] = 0;
    output_ended = false;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(out[1], 2);
        for (int fd = 3; fd < 64; fd++)
            close(fd);
        execlp("openssl", "openssl", "s_client", "-connect", address, "-servername", "peers.example",
               "-verify_hostname", "peers.example", "-CAfile", authority, "-verify_return_error", "-cipher",
               cipher, "-maxfraglen", "2048", NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    dp_watch *watch;
    assert_int_equal(dp_watch_new(&watch, loop, out[0], DP_READABLE, on_output, &out[0]), DP_OK);
    memset(line, 'x', sizeof(line));
    memcpy(line, "to and fro", 10);
    snprintf(hears, sizeof(hears), "the last of it");
    memcpy(line + sizeof(line) - 1 - strlen(hears), hears, strlen(hears));
    line[sizeof(line) - 1] = '\n';
    assert_int_equal(write(in[1], line, sizeof(line)), sizeof(line));
    RUN_UNTIL(output_ended || strstr(output, hears) != NULL);
    close(in[1]); /* it says goodbye */
    RUN_UNTIL(output_ended);
    dp_watch_free(watch);
    close(out[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (strstr(output, "to and fro") == NULL || strstr(output, hears) == NULL ||
        strstr(output, cipher) == NULL || strstr(output, "Verification: OK") == NULL ||
        strstr(output, "TLSv1.2") == NULL)
        fail_msg("openssl s_client: %s", output + (output_len > 700 ? output_len - 700 : 0));
}

static void test_openssl(void **state)
{
    (void)state;
    char command[512];
    if (system("openssl version >/dev/null 2>&1") != 0)
        skip();
    for (size_t i = 0; i < CLIENTS; i++)
        servers[i].echo = true;
    run_s_client(ca_file, "ECDHE-ECDSA-AES128-GCM-SHA256");
    RUN_UNTIL(servers[0].closed == 1);
    assert_string_equal(servers[0].reason, "closed by the peer");
    run_s_client(ca_file, "ECDHE-ECDSA-AES256-GCM-SHA384");
    run_s_client(ca_file, "ECDHE-ECDSA-CHACHA20-POLY1305");
    /* A key of the other kind, made by another program. */
    snprintf(command, sizeof(command),
             "umask 077; openssl req -x509 -newkey rsa:2048 -nodes -keyout %s -out %s -days 2 -subj /CN=x "
             "-addext subjectAltName=DNS:peers.example 2>/dev/null",
             key_file, chain_file);
    unlink(key_file);
    assert_int_equal(system(command), 0);
    dp_tls_server_config config = config_of();
    start_server(&config);
    run_s_client(chain_file, "ECDHE-RSA-AES128-GCM-SHA256");
    run_s_client(chain_file, "ECDHE-RSA-AES256-GCM-SHA384");
    run_s_client(chain_file, "ECDHE-RSA-CHACHA20-POLY1305");
}

static int group_setup(void **state)
{
    (void)state;
    if (dp_csprng_new(&csprng) != DP_OK)
        return -1;
    signal(SIGPIPE, SIG_IGN);
    snprintf(folder, sizeof(folder), "/tmp/datapeer-tls-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(ca_file, sizeof(ca_file), "%s/ca.pem", folder);
    snprintf(chain_file, sizeof(chain_file), "%s/chain.pem", folder);
    snprintf(key_file, sizeof(key_file), "%s/key.pem", folder);
    make_certificate(&ca, &(recipe){.subject = "authority", .authority = true});
    make_certificate(&middle, &(recipe){.subject = "middle", .authority = true, .signer = &ca});
    make_certificate(&good, &(recipe){.dns = "peers.example", .signer = &middle});
    char text[4096] = "";
    add_pem(text, sizeof(text), &ca);
    write_file(ca_file, text);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    free_certificate(&good);
    free_certificate(&middle);
    free_certificate(&ca);
    dp_csprng_free(csprng);
    unlink(ca_file);
    unlink(chain_file);
    unlink(key_file);
    return rmdir(folder);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, server_setup, server_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_both_ends),
        TEST(test_tls_later),
        TEST(test_chain),
        TEST(test_another_certificate),
        TEST(test_insecure_client),
        TEST(test_no_tls),
        TEST(test_slow_handshake),
        TEST(test_too_many_handshakes),
        TEST(test_rate_of_handshakes),
        TEST(test_without_memory),
        TEST(test_without_random),
        TEST(test_bad_files),
        TEST(test_warns_of_an_old_certificate),
        TEST(test_openssl),
    };
    return cmocka_run_group_tests_name("net/tls_server", tests, group_setup, group_teardown);
}
