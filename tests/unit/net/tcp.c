/* TCP streams and listeners over the loopback interface. */
#include "tests/unit/net/helper.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static size_t accept_calls;
static int send_errno;        /* EINTR: once */
static size_t send_errno_len; /* only for a send of this length; 0: for all */
static size_t send_step;      /* bytes that one send takes; 0: as many as the kernel does */
static bool send_blocks;      /* every other send finds the kernel full */
static bool send_blocked;

/* Takes the C library's place in this program. */
int accept4(int fd, __SOCKADDR_ARG address, socklen_t *len, int flags)
{
    accept_calls++;
    return (int)syscall(SYS_accept4, fd, address.__sockaddr__, len, flags);
}

static int refuse_watch; /* the next descriptors that are added to the epoll set are refused */

int epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
    if (op == EPOLL_CTL_ADD && refuse_watch > 0) {
        refuse_watch--;
        errno = ENOMEM;
        return -1;
    }
    return (int)syscall(SYS_epoll_ctl, epoll, op, fd, event);
}

static struct {
    int fd, level, name, value;
} options[32]; /* that were set, in this order */
static size_t option_count;

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    if (option_count < sizeof(options) / sizeof(options[0]) && len == sizeof(int)) {
        options[option_count].fd = fd;
        options[option_count].level = level;
        options[option_count].name = name;
        memcpy(&options[option_count++].value, value, sizeof(int));
    }
    return (int)syscall(SYS_setsockopt, fd, level, name, value, len);
}

ssize_t send(int fd, const void *data, size_t len, int flags)
{
    assert_true((flags & MSG_NOSIGNAL) != 0); /* a SIGPIPE would end the program */
    if (send_errno != 0 && (send_errno_len == 0 || send_errno_len == len)) {
        errno = send_errno;
        send_errno = errno == EINTR ? 0 : errno;
        return -1;
    }
    send_blocked = send_blocks && !send_blocked;
    if (send_blocked) {
        errno = EAGAIN;
        return -1;
    }
    return syscall(SYS_sendto, fd, data, send_step > 0 && len > send_step ? send_step : len, flags, NULL, 0);
}

typedef struct end {
    dp_tcp *tcp;
    size_t connected;
    size_t drained;
    size_t closed;
    int error;
    char reason[128];
    size_t bytes;
    size_t bad;
    bool echo;
    bool close_on_data;
    bool close_on_connected;
    bool close_on_drained;
    bool close_on_closed;
    size_t to_send; /* still, by on_drained */
    size_t sent;
    struct end *close_other;
} end;

static end client, server;
static dp_listener *listener;

static uint8_t pattern(size_t i) { return (uint8_t)(i * 7 + (i >> 9)); }

static void close_end(end *e)
{
    dp_tcp_close(e->tcp);
    e->tcp = NULL;
}

static void on_connected(void *user, dp_tcp *tcp)
{
    end *e = user;
    assert_ptr_equal(tcp, e->tcp);
    e->connected++;
    if (e->close_on_connected)
        close_end(e);
}

static void on_data(void *user, dp_tcp *tcp, const uint8_t *data, size_t len)
{
    end *e = user;
    assert_ptr_equal(tcp, e->tcp);
    for (size_t i = 0; i < len; i++)
        e->bad += data[i] != pattern(e->bytes + i);
    e->bytes += len;
    if (e->echo)
        assert_int_equal(dp_tcp_send(tcp, data, len), DP_OK);
    if (e->close_other != NULL && e->close_other->tcp != NULL)
        close_end(e->close_other);
    if (e->close_on_data)
        close_end(e);
}

/* Sends until it would block. */
static void pump(end *e)
{
    uint8_t bytes[5000];
    while (e->to_send > 0) {
        size_t n = e->to_send < sizeof(bytes) ? e->to_send : sizeof(bytes);
        for (size_t i = 0; i < n; i++)
            bytes[i] = pattern(e->sent + i);
        size_t before = dp_tcp_queued(e->tcp);
        int error = dp_tcp_send(e->tcp, bytes, n);
        if (error == DP_ERR_WOULD_BLOCK) {
            assert_int_equal(dp_tcp_queued(e->tcp), before); /* nothing was taken */
            return;
        }
        assert_int_equal(error, DP_OK);
        e->to_send -= n;
        e->sent += n;
    }
}

static void on_drained(void *user, dp_tcp *tcp)
{
    end *e = user;
    assert_ptr_equal(tcp, e->tcp);
    assert_int_equal(dp_tcp_queued(tcp), 0);
    e->drained++;
    if (e->close_on_drained)
        close_end(e);
    else
        pump(e);
}

static void on_closed(void *user, dp_tcp *tcp, int error, const char *reason)
{
    end *e = user;
    assert_ptr_equal(tcp, e->tcp);
    e->closed++;
    e->error = error;
    snprintf(e->reason, sizeof(e->reason), "%s", reason);
    if (e->close_on_closed)
        close_end(e);
}

static dp_tcp_handler handler_of(end *e)
{
    dp_tcp_handler handler = {on_connected, on_data, on_drained, on_closed, e};
    return handler;
}

static void on_accept(void *user, dp_tcp *tcp, const dp_address *remote)
{
    (void)user;
    assert_int_not_equal(remote->port, 0);
    dp_tcp_close(server.tcp);
    server.tcp = tcp;
    server.connected++;
    dp_tcp_handler handler = handler_of(&server);
    dp_tcp_set_handler(tcp, &handler);
}

static int tcp_setup(void **state)
{
    memset(&client, 0, sizeof(client));
    memset(&server, 0, sizeof(server));
    if (setup(state) != 0)
        return -1;
    dp_address local = loopback(0);
    return dp_listener_open(&listener, loop, &local, on_accept, NULL);
}

static int tcp_teardown(void **state)
{
    dp_tcp_close(client.tcp);
    dp_tcp_close(server.tcp);
    dp_listener_close(listener);
    return teardown(state);
}

static void start(const char *host, uint16_t port, dp_duration timeout)
{
    dp_tcp_handler handler = handler_of(&client);
    assert_int_equal(dp_tcp_connect(&client.tcp, loop, host, port, timeout, &handler), DP_OK);
    assert_int_equal(client.connected + client.closed, 0); /* no callback from within the call */
}

static void connect_both(void)
{
    start("127.0.0.1", dp_listener_local(listener)->port, DP_SECONDS(20));
    RUN_UNTIL(client.connected == 1 && server.connected == 1);
}

/* ---- connecting ---- */

static void test_connect_by_name(void **state)
{
    (void)state;
    start("localhost", dp_listener_local(listener)->port, DP_TIME_NEVER);
    uint8_t early[3] = {pattern(0), pattern(1), pattern(2)}; /* queued until it is connected */
    assert_int_equal(dp_tcp_send(client.tcp, early, 3), DP_OK);
    assert_int_equal(dp_tcp_send(client.tcp, NULL, 0), DP_OK);
    RUN_UNTIL(client.connected == 1 && server.bytes == 3);
    assert_int_equal(server.bad, 0);
    RUN_UNTIL(client.drained == 1);
}

static void test_connect_from(void **state)
{
    (void)state;
    dp_address local, from;
    dp_tcp_handler handler = handler_of(&client);
    uint16_t port = dp_listener_local(listener)->port;
    assert_int_equal(dp_address_parse(&from, "127.0.0.9", 7), DP_OK);
    assert_int_equal(
        dp_tcp_connect_from(&client.tcp, loop, &from, "127.0.0.1", port, DP_SECONDS(20), &handler), DP_OK);
    assert_int_equal(dp_tcp_local(client.tcp, &local), DP_ERR_INVALID_STATE);
    RUN_UNTIL(client.connected == 1);
    assert_int_equal(dp_tcp_local(client.tcp, &local), DP_OK);
    assert_int_not_equal(local.port, 7);
    from.port = local.port;
    assert_true(dp_address_equal(&local, &from));
    dp_tcp_close(client.tcp);
    assert_int_equal(dp_address_parse(&from, "::1", 0), DP_OK); /* there is no way from there */
    assert_int_equal(
        dp_tcp_connect_from(&client.tcp, loop, &from, "127.0.0.1", port, DP_SECONDS(20), &handler), DP_OK);
    RUN_UNTIL(client.closed == 1);
    assert_int_equal(client.error, DP_ERR_IO);
}

static uint16_t unused_port(void)
{
    dp_address local = loopback(0);
    dp_listener *l;
    assert_int_equal(dp_listener_open(&l, loop, &local, on_accept, NULL), DP_OK);
    uint16_t port = dp_listener_local(l)->port;
    dp_listener_close(l);
    return port;
}

static void test_connect_refused(void **state)
{
    (void)state;
    start("127.0.0.1", unused_port(), DP_SECONDS(20));
    RUN_UNTIL(client.closed == 1);
    assert_int_equal(client.error, DP_ERR_IO);
    assert_string_equal(client.reason, strerror(ECONNREFUSED));
    assert_int_equal(dp_tcp_send(client.tcp, (const uint8_t *)"x", 1), DP_ERR_CLOSED);
    for (int i = 0; i < 3; i++)
        assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    assert_int_equal(client.closed, 1);
}

/* "localhost" has two addresses; nobody listens on the first one. */
/* How often the option was set to value, on sockets where the kernel then really has it. */
static size_t option_set(int level, int name, int value)
{
    size_t n = 0;
    for (size_t i = 0; i < option_count; i++) {
        int now = -1;
        socklen_t len = sizeof(now);
        if (options[i].level == level && options[i].name == name && options[i].value == value &&
            getsockopt(options[i].fd, level, name, &now, &len) == 0)
            n += now == value;
    }
    return n;
}

/* Both ends notice within about 30 s that the other machine has vanished, idle or not. */
static void test_silent_death_is_noticed(void **state)
{
    (void)state;
    option_count = 0;
    connect_both();
    assert_int_equal(option_set(IPPROTO_TCP, TCP_USER_TIMEOUT, 30000), 2);
    assert_int_equal(option_set(SOL_SOCKET, SO_KEEPALIVE, 1), 2);
    assert_int_equal(option_set(IPPROTO_TCP, TCP_KEEPIDLE, 15), 2);
    assert_int_equal(option_set(IPPROTO_TCP, TCP_KEEPINTVL, 5), 2);
}

static void test_second_address_is_tried(void **state)
{
    (void)state;
    dp_address local;
    assert_int_equal(dp_address_parse(&local, "::1", 0), DP_OK);
    dp_listener *six;
    if (dp_listener_open(&six, loop, &local, on_accept, NULL) != DP_OK)
        skip(); /* a machine without IPv6 */
    start("localhost", dp_listener_local(six)->port, DP_SECONDS(20));
    RUN_UNTIL(client.connected == 1);
    dp_listener_close(six);
}

static void test_unknown_host(void **state)
{
    (void)state;
    start("no host/at all", 80, DP_SECONDS(20));
    RUN_UNTIL(client.closed == 1);
    assert_int_equal(client.error, DP_ERR_NOT_FOUND);
    dp_tcp_close(client.tcp);
    memset(&client, 0, sizeof(client));
    start("", 80, 0);
    RUN_UNTIL(client.closed == 1);
}

/* A listener whose queue is full drops every further SYN. */
static void test_connect_times_out(void **state)
{
    (void)state;
    int silent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    assert_int_equal(bind(silent, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(silent, 0), 0);
    assert_int_equal(getsockname(silent, (struct sockaddr *)&address, &len), 0);
    int fill[4];
    for (int i = 0; i < 4; i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)!connect(fill[i], (struct sockaddr *)&address, len);
    }
    start("127.0.0.1", ntohs(address.sin_port), DP_MS(30));
    RUN_UNTIL(client.closed == 1);
    assert_int_equal(client.connected, 0);
    assert_int_equal(client.error, DP_ERR_TIMEOUT);
    close(silent);
    for (int i = 0; i < 4; i++)
        close(fill[i]);
}

static void test_closed_before_connected(void **state)
{
    (void)state;
    start("127.0.0.1", unused_port(), DP_SECONDS(20));
    close_end(&client);
    start("127.0.0.1", dp_listener_local(listener)->port, DP_SECONDS(20));
    close_end(&client);
    start("no host/at all", 80, DP_SECONDS(20));
    close_end(&client);
    for (int i = 0; i < 5; i++)
        assert_int_equal(dp_loop_step(loop, DP_MS(1)), DP_OK);
    assert_int_equal(client.connected + client.closed, 0);
    assert_int_equal(dp_loop_next_timeout(loop), DP_TIME_NEVER);
}

/* ---- data ---- */

static void test_large_transfer_with_backpressure(void **state)
{
    (void)state;
    connect_both();
    client.to_send = 20u << 20;
    pump(&client);
    assert_true(client.to_send > 0); /* it did block */
    assert_true(dp_tcp_queued(client.tcp) <= 1u << 20);
    RUN_UNTIL(server.bytes == 20u << 20);
    assert_int_equal(server.bad, 0);
    assert_true(client.drained >= 1);
    RUN_UNTIL(dp_tcp_queued(client.tcp) == 0);
}

static void test_echo(void **state)
{
    (void)state;
    connect_both();
    server.echo = true;
    client.to_send = 300000;
    pump(&client);
    RUN_UNTIL(client.bytes == 300000);
    assert_int_equal(client.bad + server.bad, 0);
}

static void test_too_much_at_once(void **state)
{
    (void)state;
    connect_both();
    uint8_t *bytes = calloc(1, (1u << 20) + 1);
    for (size_t i = 0; i < 1u << 20; i++)
        bytes[i] = pattern(i);
    assert_int_equal(dp_tcp_send(client.tcp, bytes, (1u << 20) + 1), DP_ERR_TOO_LARGE);
    assert_int_equal(dp_tcp_send(client.tcp, bytes, 1u << 20), DP_OK);
    assert_int_equal(dp_tcp_send(client.tcp, bytes, 1), DP_ERR_WOULD_BLOCK);
    assert_int_equal(dp_tcp_queued(client.tcp), 1u << 20);
    RUN_UNTIL(server.bytes == 1u << 20);
    assert_int_equal(server.bad, 0);
    free(bytes);
}

/* Sending more while a part has left already: what is queued moves to the front of its buffer. */
static void test_queue_moves_forward(void **state)
{
    (void)state;
    connect_both();
    size_t all = 0;
    send_step = 30011;
    send_blocks = true;
    while (all < 3000000) {
        size_t room = (1u << 20) - dp_tcp_queued(client.tcp);
        client.to_send = room < 50000 ? room : 50000;
        all += client.to_send;
        pump(&client);
        assert_int_equal(client.to_send, 0);
        assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    }
    assert_true(dp_tcp_queued(client.tcp) > 0); /* it never ran empty: the moving was needed */
    RUN_UNTIL(server.bytes == all);
    assert_int_equal(server.bad, 0);
    send_step = 0;
    send_blocks = false;
}

static void test_interrupted_send(void **state)
{
    (void)state;
    connect_both();
    client.to_send = 1000;
    pump(&client);
    send_errno = EINTR;
    send_step = 7;
    RUN_UNTIL(server.bytes == 1000);
    assert_int_equal(server.bad, 0);
    assert_int_equal(client.drained, 1);
    send_step = 0;
}

/* The peer's last words arrive after the round's reading and before our write, which fails. They still reach
 * the owner. */
static void test_last_words_before_a_failed_write(void **state)
{
    (void)state;
    connect_both();
    server.to_send = 10; /* deferred first: written first */
    pump(&server);
    client.to_send = 11;
    pump(&client);
    send_errno = EPIPE;
    send_errno_len = 11;
    RUN_UNTIL(client.closed == 1);
    send_errno = 0;
    send_errno_len = 0;
    assert_int_equal(client.bytes, 10);
    assert_int_equal(client.error, DP_ERR_CLOSED);
}

static void test_close_gives_what_is_queued(void **state)
{
    (void)state;
    connect_both();
    client.to_send = 5000;
    pump(&client);
    close_end(&client);
    RUN_UNTIL(server.closed == 1);
    assert_int_equal(server.bytes, 5000);
    assert_int_equal(server.error, DP_ERR_CLOSED);
    assert_string_equal(server.reason, "closed by the peer");
    assert_int_equal(client.closed, 0);
}

static void test_reset(void **state)
{
    (void)state;
    connect_both();
    client.to_send = 8u << 20; /* more than the server's kernel takes unread: its close is a reset */
    pump(&client);
    server.close_on_data = true;
    RUN_UNTIL(client.closed == 1);
    assert_int_equal(client.error, DP_ERR_CLOSED);
    assert_int_equal(server.closed, 0);
}

/* ---- closing inside callbacks ---- */

static void test_closed_in_each_callback(void **state)
{
    (void)state;
    client.close_on_connected = true;
    start("127.0.0.1", dp_listener_local(listener)->port, DP_SECONDS(20));
    RUN_UNTIL(client.tcp == NULL);
    RUN_UNTIL(server.closed == 1);
    server.close_on_closed = true;

    memset(&client, 0, sizeof(client));
    client.close_on_drained = true;
    client.to_send = 10;
    start("127.0.0.1", dp_listener_local(listener)->port, DP_SECONDS(20));
    pump(&client);
    RUN_UNTIL(client.drained == 1 && client.tcp == NULL);

    memset(&client, 0, sizeof(client));
    client.close_on_closed = true;
    start("127.0.0.1", unused_port(), DP_SECONDS(20));
    RUN_UNTIL(client.tcp == NULL);
    assert_int_equal(client.closed, 1);
}

/* Both ends have data waiting in the same round; whichever is called first closes the other one. */
static void test_closed_by_the_other_end(void **state)
{
    (void)state;
    connect_both();
    client.close_other = &server;
    server.close_other = &client;
    client.to_send = server.to_send = 10;
    pump(&client);
    pump(&server);
    RUN_UNTIL(client.bytes + server.bytes > 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    assert_int_equal(client.bytes + server.bytes, 10);
}

static void on_accept_close_all(void *user, dp_tcp *tcp, const dp_address *remote)
{
    (void)remote;
    dp_listener **l = user;
    server.connected++;
    dp_tcp_close(tcp);
    dp_listener_close(*l);
    *l = NULL;
}

static void test_listener_closed_in_on_accept(void **state)
{
    (void)state;
    static dp_listener *own;
    dp_address local = loopback(0);
    assert_int_equal(dp_listener_open(&own, loop, &local, on_accept_close_all, &own), DP_OK);
    uint16_t port = dp_listener_local(own)->port;
    end second = {0};
    dp_tcp_handler handler = handler_of(&second);
    start("127.0.0.1", port, DP_SECONDS(20));
    assert_int_equal(dp_tcp_connect(&second.tcp, loop, "127.0.0.1", port, DP_SECONDS(20), &handler), DP_OK);
    RUN_UNTIL(client.closed == 1 && second.closed == 1);
    assert_int_equal(server.connected, 1);
    assert_null(own);
    dp_tcp_close(second.tcp);
    dp_listener_close(NULL);
    dp_tcp_close(NULL);
}

static void on_accept_ignore(void *user, dp_tcp *tcp, const dp_address *remote)
{
    (void)remote;
    *(dp_tcp **)user = tcp;
}

/* A stream without a handler is odd, but no crash. */
static void test_no_handler(void **state)
{
    (void)state;
    dp_tcp *ignored = NULL;
    dp_listener *own;
    dp_address local = loopback(0);
    assert_int_equal(dp_listener_open(&own, loop, &local, on_accept_ignore, &ignored), DP_OK);
    start("127.0.0.1", dp_listener_local(own)->port, DP_SECONDS(20));
    client.to_send = 10;
    pump(&client);
    RUN_UNTIL(ignored != NULL && client.drained == 1);
    assert_int_equal(dp_tcp_send(ignored, (const uint8_t *)"x", 1), DP_OK);
    RUN_UNTIL(client.bytes == 1);
    close_end(&client);
    for (int i = 0; i < 3; i++)
        assert_int_equal(dp_loop_step(loop, DP_MS(1)), DP_OK);
    dp_tcp_close(ignored);
    dp_listener_close(own);
}

/* ---- row 91: out of file descriptors ---- */

static void test_accepting_pauses_without_descriptors(void **state)
{
    (void)state;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    start("127.0.0.1", dp_listener_local(listener)->port, DP_SECONDS(20));
    /* Descriptors are given out from below: with this limit there is none left. */
    int lowest = dup(0);
    close(lowest);
    struct rlimit none = {(rlim_t)lowest, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    accept_calls = 0;
    RUN_UNTIL(accept_calls == 1);
    for (int i = 0; i < 50; i++)
        assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    assert_in_range(accept_calls, 1, 3); /* no spinning */
    assert_int_equal(server.connected, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    refuse_watch = 1; /* out of kernel memory too, at the moment of going on */
    RUN_UNTIL(server.connected == 1 && client.connected == 1);
}

static void test_connecting_without_descriptors(void **state)
{
    (void)state;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int lowest = dup(0);
    close(lowest);
    struct rlimit none = {(rlim_t)lowest, before.rlim_max};
    dp_loop *other_loop;
    dp_listener *l;
    dp_udp *udp;
    dp_udp_handler udp_handler = {0};
    dp_signals *signals;
    int number = SIGUSR1;
    dp_address list[1], local = loopback(0);
    size_t count;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int errors[] = {dp_loop_new(&other_loop), dp_listener_open(&l, loop, &local, on_accept, NULL),
                    dp_udp_open(&udp, loop, &local, &udp_handler),
                    dp_signals_new(&signals, loop, &number, 1, NULL, NULL),
                    dp_interfaces(list, 1, &count, true)};
    start("localhost", 9, DP_SECONDS(20));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        assert_int_equal(errors[i], DP_ERR_IO);
    RUN_UNTIL(client.closed == 1);
    assert_int_equal(client.error, DP_ERR_IO);
    assert_string_equal(client.reason, strerror(EMFILE));
}

/* No route to it: connect(2) itself fails. */
static void test_connect_fails_at_once(void **state)
{
    (void)state;
    start("255.255.255.255", 9, DP_SECONDS(20));
    RUN_UNTIL(client.closed == 1);
    assert_int_equal(client.error, DP_ERR_IO);
}

/* The connection is dropped, the listener goes on. */
static void test_accept_without_memory(void **state)
{
    (void)state;
    start("127.0.0.1", dp_listener_local(listener)->port, DP_SECONDS(20));
    fail_allocation(1);
    accept_calls = 0;
    RUN_UNTIL(accept_calls > 0);
    fail_allocation(0);
    RUN_UNTIL(client.closed == 1);
    assert_int_equal(server.connected, 0);
    close_end(&client);
    memset(&client, 0, sizeof(client));
    connect_both();
}

static void test_open_errors(void **state)
{
    (void)state;
    dp_listener *l;
    assert_int_equal(dp_listener_open(&l, loop, dp_listener_local(listener), on_accept, NULL), DP_ERR_IO);
    dp_address none = {0};
    assert_int_equal(dp_listener_open(&l, loop, &none, on_accept, NULL), DP_ERR_IO);
    dp_tcp *tcp;
    dp_tcp_handler handler = handler_of(&client);
    uint16_t port = dp_listener_local(listener)->port;
    static const long nth[] = {1, 2, 2}; /* the loop's buffer, once; the stream; what it needs to connect */
    for (size_t i = 0; i < sizeof(nth) / sizeof(nth[0]); i++) {
        fail_allocation(nth[i]);
        assert_int_equal(dp_tcp_connect(&tcp, loop, "127.0.0.1", port, DP_SECONDS(20), &handler),
                         DP_ERR_NO_MEMORY);
        fail_allocation(0);
    }
    fail_allocation(3); /* the timer: told by on_closed */
    int error = dp_tcp_connect(&client.tcp, loop, "127.0.0.1", port, DP_SECONDS(20), &handler);
    fail_allocation(0);
    assert_int_equal(error, DP_OK);
    RUN_UNTIL(client.closed == 1);
    assert_int_equal(client.error, DP_ERR_NO_MEMORY);
    fail_allocation(1);
    assert_int_equal(dp_listener_open(&l, loop, &none, on_accept, NULL), DP_ERR_NO_MEMORY);
    fail_allocation(0);
}

static void test_send_without_memory(void **state)
{
    (void)state;
    connect_both();
    fail_allocation(1);
    assert_int_equal(dp_tcp_send(client.tcp, (const uint8_t *)"\0\7\16", 3), DP_ERR_NO_MEMORY);
    fail_allocation(0);
    assert_int_equal(dp_tcp_queued(client.tcp), 0);
    assert_int_equal(dp_tcp_send(client.tcp, (const uint8_t *)"\0\7\16", 3), DP_OK);
    RUN_UNTIL(server.bytes == 3);
    assert_int_equal(server.bad, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, tcp_setup, tcp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_connect_by_name),
        TEST(test_connect_from),
        TEST(test_connect_refused),
        TEST(test_silent_death_is_noticed),
        TEST(test_second_address_is_tried),
        TEST(test_unknown_host),
        TEST(test_connect_times_out),
        TEST(test_closed_before_connected),
        TEST(test_large_transfer_with_backpressure),
        TEST(test_echo),
        TEST(test_too_much_at_once),
        TEST(test_queue_moves_forward),
        TEST(test_interrupted_send),
        TEST(test_last_words_before_a_failed_write),
        TEST(test_close_gives_what_is_queued),
        TEST(test_reset),
        TEST(test_closed_in_each_callback),
        TEST(test_closed_by_the_other_end),
        TEST(test_listener_closed_in_on_accept),
        TEST(test_no_handler),
        TEST(test_accepting_pauses_without_descriptors),
        TEST(test_connecting_without_descriptors),
        TEST(test_connect_fails_at_once),
        TEST(test_accept_without_memory),
        TEST(test_open_errors),
        TEST(test_send_without_memory),
    };
    return cmocka_run_group_tests_name("net/tcp", tests, NULL, NULL);
}
