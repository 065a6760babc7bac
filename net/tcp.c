#include <datapeer/net.h>

#include "base/mem.h"
#include "net/loop.h"
#include "net/sockaddr.h"
#include "net/tls.h"
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    STREAM_BUFFER = 65536, /* the loop's, for one read */
    READS = 8,             /* of one stream in one round; then the others have their turn */
    OUT_MAX = 1 << 20,     /* queued by dp_tcp_send */
    ADDRESSES = 8,         /* tried for one name */
    REASON_MAX = 448,
    ACCEPTS = 64,           /* of one listener in one round */
    BACKLOG = SOMAXCONN,    /* 4096: a burst of thousands must not cost an honest one a second */
    LOST_AFTER = 30,        /* seconds without a sign of the peer's machine */
    KEEPALIVE_IDLE = 15,    /* seconds of silence before the first probe... */
    KEEPALIVE_INTERVAL = 5, /* ...and between the others */
};
/* While the process is out of descriptors, a waiting connection would make the listener readable without end.
 */
#define ACCEPT_PAUSE DP_MS(100)

typedef enum tcp_state { TCP_CONNECTING, TCP_HANDSHAKE, TCP_OPEN, TCP_FAILED, TCP_REPORTED } tcp_state;

/* What a stream needs until it is open. */
typedef struct opening {
    dp_address local;                /* to connect from; family NONE: any */
    dp_address addresses[ADDRESSES]; /* of the host */
    size_t address_count;
    size_t address_next;
    dp_timer timer;
    dp_tls_waiter waiter; /* of a handshake with a client */
} opening;

/* A server has thousands of them, idle: what is not needed then is not in it, nor is a buffer. */
struct dp_tcp {
    dp_source source;
    dp_tcp_handler handler;
    tcp_state state;
    int error;
    const char *reason; /* static, or that of tls */
    opening *opening;   /* NULL: it is open */
    dp_time deadline;   /* of connecting, TLS included */
    dp_deferred later;  /* writes what is queued, or reports the failure */
    uint8_t *out;       /* out[out_at..out_len) is queued */
    size_t out_at;
    size_t out_len;
    size_t out_capacity;
    dp_tls *tls;   /* NULL: none, or a client's first byte has not come */
    size_t sealed; /* of what is queued: a record of it is with tls, and counts until that has left */
    dp_tls_server *tls_server; /* NULL: ours is the client's side, or there is no TLS */
};

/* ---- life ---- */

static void on_tcp(dp_source *source, uint32_t events);
static void on_later(void *user);
static void on_timeout(void *user);

static dp_tcp *tcp_new(dp_loop *loop, tcp_state state)
{
    if (loop->stream_buffer == NULL)
        loop->stream_buffer = dp_alloc(STREAM_BUFFER);
    dp_tcp *tcp = loop->stream_buffer != NULL ? dp_calloc(1, sizeof(*tcp)) : NULL;
    if (tcp == NULL)
        return NULL;
    dp_source_init(&tcp->source, loop, on_tcp);
    tcp->state = state;
    tcp->deadline = DP_TIME_NEVER;
    tcp->later.fn = on_later;
    tcp->later.user = tcp;
    return tcp;
}

static int begin_opening(dp_tcp *tcp)
{
    if (tcp->opening != NULL)
        return DP_OK;
    tcp->opening = dp_calloc(1, sizeof(*tcp->opening));
    if (tcp->opening == NULL)
        return DP_ERR_NO_MEMORY;
    tcp->opening->timer.fn = on_timeout;
    tcp->opening->timer.user = tcp;
    return DP_OK;
}

static void end_opening(dp_tcp *tcp)
{
    if (tcp->opening == NULL)
        return;
    dp_timer_stop(&tcp->opening->timer);
    if (tcp->tls_server != NULL)
        dp_tls_server_leave(tcp->tls_server, &tcp->opening->waiter);
    dp_free(tcp->opening);
    tcp->opening = NULL;
}

static void free_output(dp_tcp *tcp)
{
    dp_free(tcp->out);
    tcp->out = NULL;
    tcp->out_at = tcp->out_len = tcp->out_capacity = 0;
}

/* The owner hears of it at the end of the round, never inside a call of its own. reason is static, or that of tls. */
static void fail(dp_tcp *tcp, int error, const char *reason)
{
    tcp->state = TCP_FAILED;
    tcp->error = error;
    tcp->reason = reason;
    end_opening(tcp);
    dp_source_close_fd(&tcp->source);
    dp_defer(tcp->source.loop, &tcp->later);
}

/* For the numbers that Linux has, strerror gives texts that are constant. */
static void fail_errno(dp_tcp *tcp, int number)
{
    int error = number == ETIMEDOUT                       ? DP_ERR_TIMEOUT
                : number == EPIPE || number == ECONNRESET ? DP_ERR_CLOSED
                                                          : DP_ERR_IO;
    fail(tcp, error, strerror(number));
}

static void report(dp_tcp *tcp)
{
    char reason[REASON_MAX]; /* the owner may close tcp, and tls with it */
    snprintf(reason, sizeof(reason), "%s", tcp->reason);
    tcp->state = TCP_REPORTED;
    if (tcp->handler.on_closed != NULL)
        tcp->handler.on_closed(tcp->handler.user, tcp, tcp->error, reason);
}

/* ---- what goes to the kernel ---- */

static bool has_unsent(const dp_tcp *tcp)
{
    size_t len = 0;
    if (tcp->tls != NULL)
        (void)dp_tls_output(tcp->tls, &len);
    return len > 0 || (tcp->state == TCP_OPEN && tcp->out_at < tcp->out_len);
}

/* The bytes that leave next: what is queued, or the next record of it. False: there are none, or making the record
 * failed, and so did the stream. */
static bool next_bytes(dp_tcp *tcp, const uint8_t **bytes, size_t *len)
{
    *len = 0;
    if (!has_unsent(tcp))
        return false;
    if (tcp->tls == NULL) {
        *bytes = tcp->out + tcp->out_at;
        *len = tcp->out_len - tcp->out_at;
        return true;
    }
    *bytes = dp_tls_output(tcp->tls, len);
    if (*len > 0)
        return true;
    int error = dp_tls_write(tcp->tls, tcp->out + tcp->out_at, tcp->out_len - tcp->out_at, &tcp->sealed);
    if (error != DP_OK) {
        fail(tcp, error, dp_tls_reason(tcp->tls));
        return false;
    }
    *bytes = dp_tls_output(tcp->tls, len);
    return true;
}

static void sent(dp_tcp *tcp, size_t n)
{
    if (tcp->tls == NULL) {
        tcp->out_at += n;
        return;
    }
    dp_tls_sent(tcp->tls, n);
    size_t waiting;
    (void)dp_tls_output(tcp->tls, &waiting);
    if (waiting == 0) {
        tcp->out_at += tcp->sealed;
        tcp->sealed = 0;
    }
}

static bool give_all(dp_tcp *tcp)
{
    const uint8_t *bytes;
    size_t len;
    while (next_bytes(tcp, &bytes, &len)) {
        ssize_t n = send(tcp->source.fd, bytes, len, MSG_NOSIGNAL);
        if (n < 0)
            return false;
        sent(tcp, (size_t)n);
    }
    return tcp->state == TCP_OPEN;
}

/* As far as the kernel takes it. */
static void give_the_rest(dp_tcp *tcp)
{
    if (give_all(tcp) && tcp->tls != NULL) {
        dp_tls_goodbye(tcp->tls);
        (void)give_all(tcp);
    }
}

void dp_tcp_set_handler(dp_tcp *tcp, const dp_tcp_handler *handler) { tcp->handler = *handler; }

void dp_tcp_close(dp_tcp *tcp)
{
    if (tcp == NULL)
        return;
    if (tcp->state == TCP_OPEN)
        give_the_rest(tcp);
    tcp->state = TCP_REPORTED;
    end_opening(tcp);
    dp_undefer(&tcp->later);
    dp_source_close_fd(&tcp->source);
    dp_tls_free(tcp->tls);
    tcp->tls = NULL;
    dp_tls_server_free(tcp->tls_server);
    tcp->tls_server = NULL;
    free_output(tcp);
    dp_source_free(&tcp->source);
}

/* ---- connecting ---- */

/* Each address gets an equal share of the time that is left, so that a silent first one does not use up all
 * of it. */
static int start_attempt_timer(dp_tcp *tcp)
{
    opening *o = tcp->opening;
    if (tcp->deadline == DP_TIME_NEVER)
        return DP_OK;
    dp_time now = dp_clock_now();
    dp_duration left = tcp->deadline > now ? tcp->deadline - now : 0;
    return dp_timer_set(tcp->source.loop, &o->timer, now + left / (o->address_count - o->address_next + 1));
}

/* 0 or -1 and errno, as connect(2). */
static int begin_connect(const dp_tcp *tcp, int fd, const dp_address *to)
{
    union dp_sockaddr address;
    dp_address local = tcp->opening->local;
    local.port = 0;
    if (local.family != DP_FAMILY_NONE && local.family != to->family) {
        errno = EADDRNOTAVAIL;
        return -1;
    }
    if (local.family != DP_FAMILY_NONE && dp_socket_bind(fd, &local) != DP_OK)
        return -1;
    socklen_t len = dp_sockaddr_from(&address, to);
    return connect(fd, &address.any, len);
}

/* Begins with the next address that does not fail at once; last_errno says why the one before failed. */
static void connect_next(dp_tcp *tcp, int last_errno)
{
    opening *o = tcp->opening;
    dp_timer_stop(&o->timer);
    dp_source_close_fd(&tcp->source);
    while (o->address_next < o->address_count) {
        const dp_address *to = &o->addresses[o->address_next++];
        int fd = dp_socket_open(to, SOCK_STREAM);
        if (fd >= 0 && (begin_connect(tcp, fd, to) == 0 || errno == EINPROGRESS)) {
            if (dp_source_set(&tcp->source, fd, EPOLLOUT) == DP_OK && start_attempt_timer(tcp) == DP_OK)
                return;
            tcp->source.fd = fd;
            dp_source_close_fd(&tcp->source);
            fail(tcp, DP_ERR_NO_MEMORY, dp_strerror(DP_ERR_NO_MEMORY));
            return;
        }
        last_errno = errno;
        if (fd >= 0)
            close(fd);
    }
    fail_errno(tcp, last_errno);
}

static void on_timeout(void *user)
{
    dp_tcp *tcp = user;
    if (tcp->state == TCP_HANDSHAKE)
        fail(tcp, DP_ERR_TIMEOUT, "the TLS handshake took too long");
    else
        connect_next(tcp, ETIMEDOUT);
}

int dp_tcp_connect(dp_tcp **out, dp_loop *loop, const char *host, uint16_t port, dp_duration timeout,
                   const dp_tcp_handler *handler)
{
    return dp_tcp_connect_from(out, loop, NULL, host, port, timeout, handler);
}

int dp_tcp_connect_from(dp_tcp **out, dp_loop *loop, const dp_address *local, const char *host, uint16_t port,
                        dp_duration timeout, const dp_tcp_handler *handler)
{
    dp_tcp *tcp = tcp_new(loop, TCP_CONNECTING);
    if (tcp == NULL || begin_opening(tcp) != DP_OK) {
        dp_free(tcp);
        return DP_ERR_NO_MEMORY;
    }
    tcp->handler = *handler;
    if (local != NULL)
        tcp->opening->local = *local;
    int error = dp_resolve(host, port, tcp->opening->addresses, ADDRESSES, &tcp->opening->address_count);
    dp_time now = dp_clock_now(); /* after resolving, which may have taken its time */
    tcp->deadline = timeout < DP_TIME_NEVER - now ? now + timeout : DP_TIME_NEVER;
    if (error != DP_OK)
        fail(tcp, error, "the host name cannot be resolved");
    else
        connect_next(tcp, 0);
    *out = tcp;
    return DP_OK;
}

static void set_option(const dp_tcp *tcp, int level, int option, int value)
{
    (void)setsockopt(tcp->source.fd, level, option, &value, sizeof(value));
}

static void set_options(const dp_tcp *tcp)
{
    set_option(tcp, IPPROTO_TCP, TCP_NODELAY, 1); /* writes are joined here, a round at a time */
    /* A machine that vanishes sends nothing: left alone, an idle stream would never notice and a busy one
     * after a quarter of an hour. With TCP_USER_TIMEOUT the probes go on until it is over, whatever
     * TCP_KEEPCNT is (tcp(7)). */
    set_option(tcp, IPPROTO_TCP, TCP_USER_TIMEOUT, LOST_AFTER * 1000);
    set_option(tcp, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE);
    set_option(tcp, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL);
    set_option(tcp, SOL_SOCKET, SO_KEEPALIVE, 1);
}

static void set_open(dp_tcp *tcp)
{
    end_opening(tcp);
    tcp->state = TCP_OPEN;
    if (has_unsent(tcp))
        dp_defer(tcp->source.loop, &tcp->later);
    if (tcp->handler.on_connected != NULL)
        tcp->handler.on_connected(tcp->handler.user, tcp);
}

/* The error of tls is final; its last words, an alert, are given to the kernel. */
static void tls_failed(dp_tcp *tcp, int error)
{
    size_t len;
    const uint8_t *bytes = dp_tls_output(tcp->tls, &len);
    if (len > 0)
        (void)!send(tcp->source.fd, bytes, len, MSG_NOSIGNAL);
    fail(tcp, error, dp_tls_reason(tcp->tls));
}

static void handshake(dp_tcp *tcp)
{
    int error = dp_tls_handshake(tcp->tls);
    if (error == DP_OK)
        set_open(tcp);
    else if (error != DP_ERR_WOULD_BLOCK)
        tls_failed(tcp, error);
    else if (has_unsent(tcp))
        dp_defer(tcp->source.loop, &tcp->later);
}

/* until: when the handshake has to be over. */
static int begin_handshake(dp_tcp *tcp, dp_time until)
{
    int error = begin_opening(tcp);
    if (error == DP_OK)
        error = dp_timer_set(tcp->source.loop, &tcp->opening->timer, until);
    if (error == DP_OK)
        tcp->state = TCP_HANDSHAKE;
    else
        end_opening(tcp);
    return error;
}

/* Connected, without TLS, and nothing of what goes in plaintext is left. */
static bool can_begin_tls(const dp_tcp *tcp)
{
    return tcp->state == TCP_OPEN && tcp->tls == NULL && tcp->tls_server == NULL && dp_tcp_queued(tcp) == 0;
}

int dp_tcp_start_tls(dp_tcp *tcp, const dp_tls_options *options)
{
    if (tcp->state == TCP_FAILED) /* of that the owner hears by on_closed */
        return DP_OK;
    bool connected = can_begin_tls(tcp);
    if (!connected && (tcp->state != TCP_CONNECTING || tcp->tls != NULL))
        return DP_ERR_INVALID_STATE;
    int error = dp_tls_connect(&tcp->tls, tcp->source.loop, options);
    if (error != DP_OK || !connected)
        return error;
    error = begin_handshake(tcp, tcp->deadline);
    if (error == DP_OK) {
        handshake(tcp);
    } else { /* open, as before, and without TLS */
        dp_tls_free(tcp->tls);
        tcp->tls = NULL;
    }
    return error;
}

static void drop_handshake(void *user) { fail(user, DP_ERR_LIMIT, "too many TLS handshakes at once"); }

int dp_tcp_accept_tls(dp_tcp *tcp, dp_tls_server *server)
{
    if (!can_begin_tls(tcp))
        return DP_ERR_INVALID_STATE;
    int error = begin_handshake(tcp, dp_clock_now() + dp_tls_server_timeout(server));
    if (error != DP_OK)
        return error;
    tcp->tls_server = dp_tls_server_hold(server);
    tcp->opening->waiter = (dp_tls_waiter){.drop = drop_handshake, .user = tcp};
    return DP_OK;
}

static void on_connect_result(dp_tcp *tcp)
{
    int error = 0;
    socklen_t len = sizeof(error);
    if (getsockopt(tcp->source.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0) {
        connect_next(tcp, error != 0 ? error : errno);
        return;
    }
    if (dp_source_set(&tcp->source, tcp->source.fd, EPOLLIN) != DP_OK) {
        fail_errno(tcp, errno);
        return;
    }
    set_options(tcp);
    if (tcp->tls == NULL) {
        set_open(tcp);
        return;
    }
    if (begin_handshake(tcp, tcp->deadline) != DP_OK)
        fail(tcp, DP_ERR_NO_MEMORY, dp_strerror(DP_ERR_NO_MEMORY));
    else
        handshake(tcp);
}

/* ---- reading and writing ---- */

static bool is_connected(const dp_tcp *tcp)
{
    return !tcp->source.closed && (tcp->state == TCP_OPEN || tcp->state == TCP_HANDSHAKE);
}

static void deliver(dp_tcp *tcp, const uint8_t *data, size_t len)
{
    if (tcp->handler.on_data != NULL)
        tcp->handler.on_data(tcp->handler.user, tcp, data, len);
}

static bool may_begin(dp_tcp *tcp)
{
    union dp_sockaddr address;
    dp_address remote;
    socklen_t len = sizeof(address);
    if (getpeername(tcp->source.fd, &address.any, &len) != 0)
        return false; /* it is gone already */
    dp_sockaddr_to(&remote, &address);
    return dp_tls_server_admits(tcp->tls_server, &remote, tcp->source.loop->now);
}

/* A client speaks: from now on it costs memory, and its place among the handshakes. */
static bool first_bytes(dp_tcp *tcp, const uint8_t *bytes, size_t len)
{
    if (dp_tls_is_handshake(bytes, len) && !may_begin(tcp)) {
        fail(tcp, DP_ERR_LIMIT, "too many TLS handshakes of one address");
        return false;
    }
    int error = dp_tls_accept(&tcp->tls, tcp->tls_server);
    if (error == DP_OK)
        dp_tls_server_enter(tcp->tls_server, &tcp->opening->waiter);
    else
        fail(tcp, error, dp_strerror(error));
    return error == DP_OK;
}

/* Until all that arrived is used up, or the owner closed the stream. */
static void unseal(dp_tcp *tcp, const uint8_t *bytes, size_t len)
{
    if (tcp->tls == NULL && !first_bytes(tcp, bytes, len))
        return;
    dp_tls_input(tcp->tls, bytes, len);
    if (tcp->state == TCP_HANDSHAKE)
        handshake(tcp);
    while (!tcp->source.closed && tcp->state == TCP_OPEN) {
        uint8_t plain[DP_TLS_PLAIN_MAX];
        size_t n = 0;
        int error = dp_tls_read(tcp->tls, plain, &n);
        if (error == DP_OK) {
            deliver(tcp, plain, n);
        } else if (error != DP_ERR_WOULD_BLOCK) {
            tls_failed(tcp, error);
        } else {
            if (has_unsent(tcp)) /* an answer of its own */
                dp_defer(tcp->source.loop, &tcp->later);
            return;
        }
    }
}

/* Without close_notify anybody on the way could have cut the stream short. What runs here (WebSocket, STUN) tells
 * the ends of its messages itself, so it is not another error, but it is told (RFC 5246 §7.2.1). */
static const char *end_reason(const dp_tcp *tcp)
{
    return tcp->state == TCP_HANDSHAKE ? "closed by the peer during the TLS handshake"
           : tcp->tls == NULL          ? "closed by the peer"
                                       : "closed by the peer without a TLS close_notify";
}

static void read_some(dp_tcp *tcp)
{
    uint8_t *buffer = tcp->source.loop->stream_buffer;
    for (int i = 0; i < READS && is_connected(tcp); i++) {
        ssize_t n = recv(tcp->source.fd, buffer, STREAM_BUFFER, 0);
        if (n > 0) {
            if (tcp->tls != NULL || tcp->tls_server != NULL)
                unseal(tcp, buffer, (size_t)n);
            else
                deliver(tcp, buffer, (size_t)n);
            if (n < STREAM_BUFFER)
                return;
        } else if (n == 0) {
            fail(tcp, DP_ERR_CLOSED, end_reason(tcp));
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno != EINTR) {
            fail_errno(tcp, errno);
        }
    }
}

static void write_failed(dp_tcp *tcp, int number)
{
    /* The peer may have said why before it closed. */
    read_some(tcp);
    if (is_connected(tcp))
        fail_errno(tcp, number);
}

static void write_some(dp_tcp *tcp)
{
    bool drains = tcp->out_at < tcp->out_len; /* not just words of TLS itself */
    const uint8_t *bytes;
    size_t len;
    while (next_bytes(tcp, &bytes, &len)) {
        ssize_t n = send(tcp->source.fd, bytes, len, MSG_NOSIGNAL);
        if (n >= 0) {
            sent(tcp, (size_t)n);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            (void)dp_source_set(&tcp->source, tcp->source.fd, EPOLLIN | EPOLLOUT);
            return;
        } else if (errno != EINTR) {
            write_failed(tcp, errno);
            return;
        }
    }
    if (!is_connected(tcp))
        return;
    (void)dp_source_set(&tcp->source, tcp->source.fd, EPOLLIN);
    if (!drains || tcp->out_at < tcp->out_len)
        return;
    free_output(tcp);
    if (tcp->handler.on_drained != NULL)
        tcp->handler.on_drained(tcp->handler.user, tcp);
}

static void on_later(void *user)
{
    dp_tcp *tcp = user;
    if (tcp->state == TCP_FAILED)
        report(tcp);
    else if (is_connected(tcp) && has_unsent(tcp))
        write_some(tcp);
}

static void on_tcp(dp_source *source, uint32_t events)
{
    dp_tcp *tcp = (dp_tcp *)source;
    if (tcp->state == TCP_CONNECTING) {
        on_connect_result(tcp);
        return;
    }
    if ((events & ~(uint32_t)EPOLLOUT) != 0)
        read_some(tcp);
    if ((events & EPOLLOUT) != 0 && is_connected(tcp) && has_unsent(tcp))
        write_some(tcp);
}

int dp_tcp_local(const dp_tcp *tcp, dp_address *local)
{
    union dp_sockaddr address;
    socklen_t len = sizeof(address);
    if (tcp->state != TCP_OPEN || getsockname(tcp->source.fd, &address.any, &len) != 0)
        return DP_ERR_INVALID_STATE;
    dp_sockaddr_to(local, &address);
    return DP_OK;
}

size_t dp_tcp_queued(const dp_tcp *tcp) { return tcp->out_len - tcp->out_at; }

int dp_tcp_send(dp_tcp *tcp, const uint8_t *data, size_t len)
{
    if (tcp->state == TCP_FAILED || tcp->state == TCP_REPORTED)
        return DP_ERR_CLOSED;
    if (len > OUT_MAX)
        return DP_ERR_TOO_LARGE;
    if (len > OUT_MAX - dp_tcp_queued(tcp))
        return DP_ERR_WOULD_BLOCK;
    if (len == 0)
        return DP_OK;
    if (tcp->out_at > 0 && tcp->out_len + len > tcp->out_capacity) {
        tcp->out_len -= tcp->out_at;
        memmove(tcp->out, tcp->out + tcp->out_at, tcp->out_len);
        tcp->out_at = 0;
    }
    void *out = tcp->out;
    int error = dp_grow(&out, &tcp->out_capacity, tcp->out_len + len, OUT_MAX, 1);
    if (error != DP_OK)
        return error;
    tcp->out = out;
    memcpy(tcp->out + tcp->out_len, data, len);
    tcp->out_len += len;
    /* Several sends of a round leave together; while the kernel is full, EPOLLOUT does it. */
    if (tcp->state == TCP_OPEN && (tcp->source.events & EPOLLOUT) == 0)
        dp_defer(tcp->source.loop, &tcp->later);
    return DP_OK;
}

/* ---- listening ---- */

struct dp_listener {
    dp_source source;
    dp_address local;
    dp_timer pause;
    void (*on_accept)(void *user, dp_tcp *tcp, const dp_address *remote);
    void *user;
};

static void accepted(dp_listener *listener, int fd, const union dp_sockaddr *from)
{
    dp_tcp *tcp = tcp_new(listener->source.loop, TCP_OPEN);
    if (tcp == NULL || dp_source_set(&tcp->source, fd, EPOLLIN) != DP_OK) {
        close(fd);
        dp_free(tcp);
        return;
    }
    set_options(tcp);
    dp_address remote;
    dp_sockaddr_to(&remote, from);
    listener->on_accept(listener->user, tcp, &remote);
}

static void pause_accepting(dp_listener *listener)
{
    dp_loop *loop = listener->source.loop;
    if (dp_timer_set(loop, &listener->pause, loop->now + ACCEPT_PAUSE) == DP_OK)
        (void)dp_source_set(&listener->source, listener->source.fd, 0);
}

static void resume(void *user)
{
    dp_listener *listener = user;
    if (dp_source_set(&listener->source, listener->source.fd, EPOLLIN) != DP_OK)
        pause_accepting(listener);
}

static void on_listener(dp_source *source, uint32_t events)
{
    (void)events;
    dp_listener *listener = (dp_listener *)source;
    for (int i = 0; i < ACCEPTS && !source->closed; i++) {
        union dp_sockaddr from;
        socklen_t len = sizeof(from);
        int fd = accept4(source->fd, &from.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            accepted(listener, fd, &from);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pause_accepting(listener);
            return;
        }
        /* Anything else is the new connection's own trouble (accept(2)): go on with the next one. */
    }
}

int dp_listener_open(dp_listener **out, dp_loop *loop, const dp_address *local,
                     void (*on_accept)(void *user, dp_tcp *tcp, const dp_address *remote), void *user)
{
    dp_listener *listener = dp_calloc(1, sizeof(*listener));
    if (listener == NULL)
        return DP_ERR_NO_MEMORY;
    dp_source_init(&listener->source, loop, on_listener);
    listener->local = *local;
    listener->on_accept = on_accept;
    listener->user = user;
    listener->pause.fn = resume;
    listener->pause.user = listener;
    int on = 1;
    int fd = dp_socket_open(local, SOCK_STREAM);
    /* Else a restarted server waits until the old connections have left TIME_WAIT. */
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        dp_socket_bind(fd, &listener->local) != DP_OK || listen(fd, BACKLOG) != 0 ||
        dp_source_set(&listener->source, fd, EPOLLIN) != DP_OK) {
        if (fd >= 0)
            close(fd);
        dp_free(listener);
        return DP_ERR_IO;
    }
    *out = listener;
    return DP_OK;
}

const dp_address *dp_listener_local(const dp_listener *listener) { return &listener->local; }

void dp_listener_close(dp_listener *listener)
{
    if (listener == NULL)
        return;
    dp_timer_stop(&listener->pause);
    dp_source_close_fd(&listener->source);
    dp_source_free(&listener->source);
}
