/* The way to the PeerServer: TCP, a proxy, TLS; and all that stands in it (docs/bad-inputs.md rows 65, 90). */
#include "tests/unit/net/certificates.h"

#include "peer/server_stream.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The library's clock, which a test may push forward: time-outs come at once. */
static dp_duration skew;
dp_time dp_clock_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (dp_time)ts.tv_sec * 1000000u + (dp_time)ts.tv_nsec / 1000u + skew;
}
int64_t dp_clock_unix(void) { return (int64_t)time(NULL); }

/* ---- the other end: the PeerServer, or a proxy and the PeerServer behind it ---- */

typedef struct other {
    dp_tcp *tcp;
    char heard[4096]; /* before TLS */
    size_t heard_len;
    unsigned accepted;
    unsigned closed;
    const char *answers; /* what a proxy says to a whole request; NULL: nothing */
    size_t step;         /* bytes of it that leave together; 0: all */
    bool hangs_up;       /* behind its answer */
    bool tls_behind;     /* what comes behind the answer is TLS */
    bool tls;            /* it is TLS from the first byte on */
    bool echo;
} other;

static char folder[64], ca_file[96], pem_file[96], key_file[96];
static certificate ca, other_ca, good, expired;
static dp_tls_server *tls_server;
static dp_listener *listener;
static other o;

static void other_close(void)
{
    dp_tcp_close(o.tcp);
    o.tcp = NULL;
}

static void answer(void)
{
    size_t len = strlen(o.answers), step = o.step != 0 ? o.step : len;
    for (size_t at = 0; at < len; at += step) {
        assert_int_equal(
            dp_tcp_send(o.tcp, (const uint8_t *)o.answers + at, len - at < step ? len - at : step), DP_OK);
        for (int i = 0; i < 3 && o.step != 0; i++) /* each step in a segment of its own */
            assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    }
    o.answers = NULL;
    if (o.hangs_up)
        other_close();
}

static void other_on_data(void *user, dp_tcp *tcp, const uint8_t *data, size_t len)
{
    (void)user;
    if (o.echo) {
        assert_int_equal(dp_tcp_send(tcp, data, len), DP_OK);
        return;
    }
    assert_true(o.heard_len + len < sizeof(o.heard));
    memcpy(o.heard + o.heard_len, data, len);
    o.heard_len += len;
}

static void other_on_drained(void *user, dp_tcp *tcp)
{
    (void)user;
    if (o.tls_behind && o.answers == NULL) {
        o.tls_behind = false;
        o.echo = true;
        assert_int_equal(dp_tcp_accept_tls(tcp, tls_server), DP_OK);
    }
}

static void other_on_closed(void *user, dp_tcp *tcp, int error, const char *reason)
{
    (void)user;
    (void)tcp;
    (void)error;
    (void)reason;
    o.closed++;
    other_close();
}

static void on_accept(void *user, dp_tcp *tcp, const dp_address *remote)
{
    static const dp_tcp_handler handler = {NULL, other_on_data, other_on_drained, other_on_closed, NULL};
    (void)user;
    (void)remote;
    other_close();
    o.tcp = tcp;
    o.accepted++;
    dp_tcp_set_handler(tcp, &handler);
    if (o.tls && dp_tcp_accept_tls(tcp, tls_server) != DP_OK) /* it lacks memory as well */
        other_close();
}

/* ---- ours ---- */

static server_stream *stream;
static unsigned ups, downs, drains;
static bool down_tls, inside;
static char down_reason[600];
static uint8_t got[100000];
static size_t got_len;

static void on_up(void *user)
{
    (void)user;
    assert_false(inside);
    assert_non_null(dp_server_stream_tcp(stream));
    ups++;
}

static void on_data(void *user, const uint8_t *data, size_t len)
{
    (void)user;
    assert_true(ups > 0 && got_len + len <= sizeof(got));
    memcpy(got + got_len, data, len);
    got_len += len;
}

static void on_drained(void *user)
{
    (void)user;
    assert_true(ups > 0);
    drains++;
}

static void on_down(void *user, bool tls, const char *reason)
{
    (void)user;
    assert_false(inside);
    assert_null(dp_server_stream_tcp(stream));
    assert_true(dp_server_stream_is_closed(stream));
    downs++;
    down_tls = tls;
    snprintf(down_reason, sizeof(down_reason), "%s", reason);
}

static const server_stream_handler handler = {on_up, on_data, on_drained, on_down, NULL};

static server_stream_config config_with(const char *proxy)
{
    return (server_stream_config){.loop = loop,
                                  .random = dp_csprng_source(csprng),
                                  .ca_file = ca_file,
                                  .proxy = proxy,
                                  .handler = handler};
}

static uint16_t port(void) { return dp_listener_local(listener)->port; }

static const char *proxy_url(const char *credentials)
{
    static char url[200];
    snprintf(url, sizeof(url), "http://%s127.0.0.1:%u", credentials, port());
    return url;
}

static void make(const server_stream_config *config)
{
    assert_int_equal(dp_server_stream_new(&stream, config), DP_OK);
}

static void make_with(const char *proxy)
{
    server_stream_config config = config_with(proxy);
    make(&config);
}

static void dial(const char *host, uint16_t to, bool secure)
{
    inside = true;
    dp_server_stream_open(stream, host, to, secure);
    inside = false;
    assert_false(dp_server_stream_is_closed(stream));
    assert_null(dp_server_stream_tcp(stream));
}

static void send_text(const char *text)
{
    assert_int_equal(dp_tcp_send(dp_server_stream_tcp(stream), (const uint8_t *)text, strlen(text)), DP_OK);
}

static void goes_down(bool tls, const char *reason)
{
    RUN_UNTIL(downs == 1);
    assert_non_null(strstr(down_reason, reason));
    assert_int_equal(down_tls, tls);
    for (int i = 0; i < 5; i++)
        assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    assert_int_equal(downs, 1); /* told once */
}

static void echoes(void)
{
    RUN_UNTIL(ups == 1);
    send_text("hello");
    RUN_UNTIL(got_len == 5 && drains > 0);
    assert_memory_equal(got, "hello", 5);
    assert_int_equal(downs, 0);
}

/* ---- TCP alone ---- */

static void carries_bytes(void **state)
{
    (void)state;
    o.echo = true;
    make_with(NULL);
    assert_true(dp_server_stream_is_closed(stream));
    dial("127.0.0.1", port(), false);
    echoes();
    other_close();
    goes_down(false, "closed");
}

/* The PeerServer says its last words and ends its side alone: all of them come, then the end. */
static void a_half_closed_stream_is_closed(void **state)
{
    static uint8_t words[50000];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    (void)state;
    int server = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(server, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(server, 1), 0);
    assert_int_equal(getsockname(server, (struct sockaddr *)&address, &len), 0);
    make_with(NULL);
    dial("127.0.0.1", ntohs(address.sin_port), false);
    RUN_UNTIL(ups == 1);
    int fd = accept(server, NULL, NULL);
    memset(words, 'w', sizeof(words));
    assert_int_equal(send(fd, words, sizeof(words), 0), sizeof(words));
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    goes_down(false, "closed");
    assert_int_equal(got_len, sizeof(words));
    assert_memory_equal(got, words, sizeof(words));
    uint8_t byte;
    assert_int_equal(recv(fd, &byte, 1, 0), 0); /* our side has ended, too */
    close(fd);
    close(server);
}

static void says_why_nobody_answers(void **state)
{
    (void)state;
    uint16_t nobody = port();
    dp_listener_close(listener);
    listener = NULL;
    make_with(NULL);
    dial("127.0.0.1", nobody, false);
    goes_down(false, "refused");
    downs = 0;
    dial("127.0.0.1", nobody, true); /* TCP failed, not TLS */
    goes_down(false, "refused");
    downs = 0;
    dial("no..host", 80, false);
    goes_down(false, "cannot be resolved");
    dp_server_stream_free(stream);
    char url[64];
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", nobody);
    make_with(url);
    downs = 0;
    dial("peers.example", 80, false);
    goes_down(false, "the proxy 127.0.0.1: Connection refused");
}

/* ---- who may be called again ---- */

static void what_was_open_is_closed(void **state)
{
    (void)state;
    o.echo = true;
    make_with(NULL);
    dial("127.0.0.1", port(), false);
    dial("127.0.0.1", port(), false);
    echoes();
    dial("127.0.0.1", port(), false);
    RUN_UNTIL(ups == 2);
    dp_server_stream_close(stream);
    assert_true(dp_server_stream_is_closed(stream));
    RUN_UNTIL(o.closed > 0);
    assert_int_equal(downs, 0);
    /* Nor does a failure tell that was closed before it could. */
    dp_server_stream_free(stream);
    server_stream_config config = config_with(NULL);
    config.ca_file = "/nowhere.pem";
    make(&config);
    dial("127.0.0.1", port(), true);
    goes_down(true, "can be read from /nowhere.pem");
    downs = 0;
    dial("127.0.0.1", port(), true);
    inside = true;
    dp_server_stream_close(stream);
    for (int i = 0; i < 5; i++)
        assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    assert_int_equal(downs, 0);
    inside = false;
}

static void what_a_proxy_url_may_be(void **state)
{
    (void)state;
    server_stream_config config = config_with("socks5://127.0.0.1:1080");
    assert_int_equal(dp_server_stream_new(&stream, &config), DP_ERR_UNSUPPORTED);
    config.proxy = "http://a b";
    assert_int_equal(dp_server_stream_new(&stream, &config), DP_ERR_MALFORMED);
    assert_null(stream);
}

/* ---- through a proxy ---- */

static void goes_through_a_proxy(void **state)
{
    (void)state;
    make_with(proxy_url("me:s%20t@"));
    dial("peers.example", 9000, false);
    RUN_UNTIL(o.heard_len > 4 && memcmp(o.heard + o.heard_len - 4, "\r\n\r\n", 4) == 0);
    assert_string_equal(o.heard, "CONNECT peers.example:9000 HTTP/1.1\r\nHost: peers.example:9000\r\n"
                                 "Proxy-Authorization: Basic bWU6cyB0\r\n\r\n");
    assert_int_equal(ups, 0);
    o.answers = "HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n";
    o.step = 1;
    answer();
    o.echo = true;
    echoes();
    other_close();
    goes_down(false, "closed");
    assert_null(strstr(down_reason, "proxy")); /* it is the PeerServer now */
}

static void another_one_goes_the_same_way(void **state)
{
    (void)state;
    server_stream *first;
    make_with(proxy_url("me:secret@"));
    first = stream;
    assert_int_equal(dp_server_stream_new_like(&stream, first, &handler), DP_OK);
    dp_server_stream_free(first);
    dial("peers.example", 443, true);
    RUN_UNTIL(o.heard_len > 4 && memcmp(o.heard + o.heard_len - 4, "\r\n\r\n", 4) == 0);
    assert_non_null(strstr(o.heard, "Proxy-Authorization: Basic bWU6c2VjcmV0\r\n"));
    o.answers = "HTTP/1.1 200 OK\r\n\r\n";
    o.tls_behind = true;
    answer();
    echoes(); /* the authority's file, too */
}

static void a_proxy_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *answer, *reason;
        bool hangs_up;
    } proxies[] = {
        {"HTTP/1.1 403 Forbidden\r\n\r\n", "does not let us connect to peers.example:80 (HTTP status 403)",
         false},
        {"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\n\r\n", "wants a user name and a password",
         false},
        {"HTTP/1.1 502 Bad Gateway\r\n\r\n", "can't reach peers.example:80", true},
        {"SSH-2.0-x\r\n\r\n", "is not HTTP", false},
        {"HTTP/1.1 200 OK\r\n\r\nmore", "sends bytes of its own", false},
        {"HTTP/1.1 200 O", "the proxy 127.0.0.1: closed", true},
        {"", "the proxy 127.0.0.1: closed", true},
    };
    for (size_t i = 0; i < sizeof(proxies) / sizeof(proxies[0]); i++) {
        make_with(proxy_url(""));
        dial("peers.example", 80, false);
        RUN_UNTIL(o.heard_len > 4 && memcmp(o.heard + o.heard_len - 4, "\r\n\r\n", 4) == 0);
        o.answers = proxies[i].answer;
        o.hangs_up = proxies[i].hangs_up;
        answer();
        goes_down(false, proxies[i].reason);
        assert_int_equal(ups, 0);
        dp_server_stream_free(stream);
        stream = NULL;
        other_close();
        memset(&o, 0, sizeof(o));
        downs = 0;
    }
}

/* All of it has 15 s. */
static void a_silent_proxy_is_left(void **state)
{
    (void)state;
    make_with(proxy_url(""));
    dial("peers.example", 80, false);
    RUN_UNTIL(o.heard_len > 0);
    skew += DP_SECONDS(14);
    for (int i = 0; i < 5; i++)
        assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    assert_int_equal(downs, 0);
    skew += DP_SECONDS(1);
    goes_down(false, "the proxy 127.0.0.1 does not answer");
    RUN_UNTIL(o.closed == 1);
}

static void a_silent_server_behind_a_proxy_is_left(void **state)
{
    (void)state;
    make_with(proxy_url(""));
    dial("peers.example", 443, true);
    RUN_UNTIL(o.heard_len > 0);
    skew += DP_SECONDS(10);
    size_t heard = o.heard_len;
    o.answers = "HTTP/1.1 200 OK\r\n\r\n";
    answer();
    RUN_UNTIL(o.heard_len > heard); /* a ClientHello */
    skew += DP_SECONDS(4);
    for (int i = 0; i < 5; i++)
        assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    assert_int_equal(downs, 0);
    skew += DP_SECONDS(1);
    goes_down(false, "the TLS handshake took too long");
}

/* ---- TLS ---- */

static void goes_by_tls(void **state)
{
    (void)state;
    o.tls = o.echo = true;
    make_with(NULL);
    dial("localhost", port(), true); /* not what the certificate says */
    goes_down(true, "the certificate of localhost is for ");
    dp_server_stream_free(stream);
    downs = 0;
    server_stream_config config = config_with(NULL);
    config.insecure = true;
    make(&config);
    dial("localhost", port(), true);
    echoes();
    other_close();
    goes_down(false, "closed");
}

static void serve_with(const certificate *c)
{
    char text[4096] = "";
    unsigned char key[512];
    dp_file_error error;
    add_pem(text, sizeof(text), c);
    write_file(pem_file, text);
    assert_int_equal(mbedtls_pk_write_key_pem((mbedtls_pk_context *)&c->key, key, sizeof(key)), 0);
    write_file(key_file, (const char *)key);
    assert_int_equal(chmod(key_file, 0600), 0);
    dp_tls_server_config config = {.size = sizeof(config),
                                   .certificate_file = pem_file,
                                   .key_file = key_file,
                                   .random = dp_csprng_source(csprng)};
    dp_tls_server_free(tls_server);
    assert_int_equal(dp_tls_server_new(&tls_server, &config, &error), DP_OK);
}

/* Opens a TLS stream behind a proxy to the name that the certificates are for. */
static void dial_tls(const char *authorities)
{
    server_stream_config config = config_with(proxy_url(""));
    config.ca_file = authorities;
    other_close();
    memset(&o, 0, sizeof(o));
    downs = 0;
    make(&config);
    dial("peers.example", 443, true);
    RUN_UNTIL(o.heard_len > 4 && memcmp(o.heard + o.heard_len - 4, "\r\n\r\n", 4) == 0);
    o.answers = "HTTP/1.1 200 OK\r\n\r\n";
    o.tls_behind = true;
    answer();
}

static void says_why_tls_fails(void **state)
{
    char text[4096] = "", wrong[96];
    (void)state;
    snprintf(wrong, sizeof(wrong), "%s/wrong.pem", folder);
    add_pem(text, sizeof(text), &other_ca);
    write_file(wrong, text);
    dial_tls(wrong);
    goes_down(true, "the certificate of peers.example is not signed by a known authority");
    dp_server_stream_free(stream);
    serve_with(&expired);
    dial_tls(ca_file);
    goes_down(true, "the certificate of peers.example expired on 2001-01-01");
    dp_server_stream_free(stream);
    write_file(wrong, "no PEM");
    dial_tls(wrong);
    goes_down(true, "no certificates (PEM) can be read from ");
    dp_server_stream_free(stream);
    stream = NULL;
    assert_int_equal(ups, 0);
}

static void says_that_there_is_no_tls(void **state)
{
    (void)state;
    make_with(NULL);
    dial("127.0.0.1", port(), true);
    RUN_UNTIL(o.heard_len > 0);
    o.answers = "HTTP/1.1 400 Bad Request\r\n\r\n";
    answer();
    goes_down(true, "does not speak TLS on this port");
    /* Hanging up says nothing about TLS. */
    downs = 0;
    o.heard_len = 0;
    dial("127.0.0.1", port(), true);
    RUN_UNTIL(o.heard_len > 0);
    other_close();
    goes_down(false, "closed");
}

/* ---- row 90 ---- */

/* Every allocation fails once, and all after it: the stream is up or down in the end, and nothing is lost. */
static void without_memory(const char *proxy, bool secure)
{
    unsigned refused = 0, failed = 0;
    ups = 0;
    for (long n = 1; ups == 0; n++) {
        server_stream_config config = config_with(proxy);
        assert_true(n < 2000);
        memset(&o, 0, sizeof(o));
        o.tls = secure && proxy == NULL;
        downs = 0;
        fail_allocation(n);
        int error = dp_server_stream_new(&stream, &config);
        if (error != DP_OK) {
            fail_allocation(0);
            assert_int_equal(error, DP_ERR_NO_MEMORY);
            assert_null(stream);
            refused++;
            continue;
        }
        inside = true;
        dp_server_stream_open(stream, "127.0.0.1", port(), secure);
        inside = false;
        RUN_UNTIL(ups + downs > 0 || o.heard_len > 0 || fail_at == 0);
        if (downs == 0 && ups == 0 && proxy != NULL) {
            fail_allocation(0); /* the proxy is not to suffer */
            o.answers = "HTTP/1.1 200 OK\r\n\r\n";
            o.tls_behind = secure;
            answer();
        }
        RUN_UNTIL(ups + downs > 0);
        fail_allocation(0);
        failed += downs;
        dp_server_stream_free(stream);
        stream = NULL;
        other_close();
    }
    assert_int_equal(refused, 2); /* itself, the name of the authorities' file */
    assert_true(failed > 0);
}

static void survives_without_memory(void **state)
{
    (void)state;
    without_memory(NULL, false);
    without_memory(NULL, true);
    without_memory(proxy_url(""), false);
}

/* ---- the frame ---- */

static int set_up_all(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/datapeer-server-stream-XXXXXX");
    if (mkdtemp(folder) == NULL || dp_csprng_new(&csprng) != DP_OK)
        return -1;
    snprintf(ca_file, sizeof(ca_file), "%s/ca.pem", folder);
    snprintf(pem_file, sizeof(pem_file), "%s/server.pem", folder);
    snprintf(key_file, sizeof(key_file), "%s/key.pem", folder);
    make_certificate(&ca, &(recipe){.subject = "authority", .authority = true});
    make_certificate(&other_ca, &(recipe){.subject = "another", .authority = true});
    make_certificate(&good, &(recipe){.dns = "peers.example", .ip = "127.0.0.1", .signer = &ca});
    make_certificate(&expired, &(recipe){.dns = "peers.example", .signer = &ca, .until = "20010101000000"});
    char text[4096] = "";
    add_pem(text, sizeof(text), &ca);
    write_file(ca_file, text);
    return 0;
}

static int tear_down_all(void **state)
{
    char command[96];
    (void)state;
    free_certificate(&ca);
    free_certificate(&other_ca);
    free_certificate(&good);
    free_certificate(&expired);
    dp_csprng_free(csprng);
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

static int set_up(void **state)
{
    (void)state;
    dp_address local = loopback(0);
    memset(&o, 0, sizeof(o));
    ups = downs = drains = 0;
    got_len = 0;
    stream = NULL;
    tls_server = NULL;
    if (dp_loop_new(&loop) != DP_OK || dp_listener_open(&listener, loop, &local, on_accept, NULL) != DP_OK)
        return -1;
    serve_with(&good);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    dp_server_stream_free(stream);
    other_close();
    dp_listener_close(listener);
    dp_tls_server_free(tls_server);
    dp_loop_free(loop);
    return 0;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(carries_bytes),
        TEST(a_half_closed_stream_is_closed),
        TEST(says_why_nobody_answers),
        TEST(what_was_open_is_closed),
        TEST(what_a_proxy_url_may_be),
        TEST(goes_through_a_proxy),
        TEST(another_one_goes_the_same_way),
        TEST(a_proxy_refuses),
        TEST(a_silent_proxy_is_left),
        TEST(a_silent_server_behind_a_proxy_is_left),
        TEST(goes_by_tls),
        TEST(says_why_tls_fails),
        TEST(says_that_there_is_no_tls),
        TEST(survives_without_memory),
    };
    return cmocka_run_group_tests_name("server_stream", tests, set_up_all, tear_down_all);
}
