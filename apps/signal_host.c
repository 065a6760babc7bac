#include "signal_host.h"

#include "lan.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    LISTENERS = 16,
    OWN_ADDRESSES = 32, /* of this machine, to compare with */
    /* Bytes that one stream may hold for the kernel: what a round can bring; all of them together hold no more than a
     * part of it when there are many slow ones. */
    QUEUE_MAX = 256 << 10,
    QUEUE_MAX_CROWDED = 8 << 10,
    CROWDED = 32 << 20,
};

static const dp_duration END_TIMEOUT =
    DP_SECONDS(10); /* as the server's request_timeout, if that is not given */

typedef struct stream {
    struct stream *previous, *next;
    signal_host *host;
    dp_tcp *tcp;
    dp_signal_conn *conn; /* NULL: the server has given it up, and its last bytes leave... */
    dp_time ends_at;      /* ...until then */
    size_t queued;        /* of it in host->queued */
    bool lan_only;        /* as its listener */
} stream;

typedef struct listener {
    signal_host *host;
    dp_listener *socket;
    dp_tls_server *tls;
    bool lan_only;
} listener;

struct signal_host {
    signal_host_config config;
    dp_signal_server *server;
    listener listeners[LISTENERS];
    size_t listener_count;
    stream *streams;
    size_t queued;
    size_t ending; /* streams without a conn */
    dp_timer timer, end_timer;
};

/* ---- streams ----------------------------------------------------------------------------------------- */

static void stream_free(stream *t)
{
    signal_host *host = t->host;
    host->queued -= t->queued;
    host->ending -= t->conn == NULL;
    if (t->previous != NULL)
        t->previous->next = t->next;
    else
        host->streams = t->next;
    if (t->next != NULL)
        t->next->previous = t->previous;
    dp_tcp_close(t->tcp);
    free(t);
}

/* Whoever reads a byte now and then keeps the kernel from giving the stream up. */
static void on_end_timer(void *user)
{
    signal_host *host = user;
    dp_time now = dp_loop_now(host->config.loop);
    dp_time first = DP_TIME_NEVER;
    for (stream *t = host->streams, *next; t != NULL; t = next) {
        next = t->next;
        if (t->conn != NULL)
            continue;
        if (t->ends_at <= now)
            stream_free(t);
        else if (t->ends_at < first)
            first = t->ends_at;
    }
    (void)dp_timer_set(host->config.loop, &host->end_timer, first);
}

static void end_soon(stream *t)
{
    signal_host *host = t->host;
    dp_duration wait = host->config.server.request_timeout;
    t->conn = NULL;
    t->ends_at = dp_loop_now(host->config.loop) + (wait != 0 ? wait : END_TIMEOUT);
    if (host->ending++ == 0)
        (void)dp_timer_set(host->config.loop, &host->end_timer, t->ends_at);
}

static size_t count_queued(stream *t)
{
    size_t now = dp_tcp_queued(t->tcp);
    t->host->queued += now - t->queued;
    t->queued = now;
    return now;
}

static void transmit(signal_host *host, const dp_signal_transmit *out)
{
    stream *t = out->user;
    /* A stream that has failed says so itself, soon. */
    (void)dp_tcp_send(t->tcp, out->data, out->len);
    size_t limit = host->queued > CROWDED ? QUEUE_MAX_CROWDED : QUEUE_MAX;
    if (count_queued(t) > limit)
        dp_signal_server_pause(host->server, out->conn);
}

void signal_host_pump(signal_host *host)
{
    dp_signal_transmit out;
    dp_signal_event event;
    while (dp_signal_server_poll_transmit(host->server, &out))
        transmit(host, &out);
    while (dp_signal_server_poll_event(host->server, &event)) {
        stream *t = event.user;
        if (event.type != DP_SIGNAL_EVENT_CLOSE) {
            if (host->config.on_event != NULL)
                host->config.on_event(host->config.user, &event);
        } else if (dp_tcp_queued(t->tcp) > 0) {
            end_soon(t);
        } else {
            stream_free(t);
        }
    }
    (void)dp_timer_set(host->config.loop, &host->timer, dp_signal_server_next_timeout(host->server));
}

static void on_data(void *user, dp_tcp *tcp, const uint8_t *data, size_t len)
{
    stream *t = user;
    signal_host *host = t->host;
    (void)tcp;
    if (t->conn == NULL)
        return;
    dp_signal_server_input(host->server, t->conn, dp_loop_now(host->config.loop), data, len);
    signal_host_pump(host);
}

static void on_drained(void *user, dp_tcp *tcp)
{
    stream *t = user;
    signal_host *host = t->host;
    (void)tcp;
    if (t->conn == NULL) {
        stream_free(t);
        return;
    }
    if (t->queued == 0)
        return;
    count_queued(t);
    dp_signal_server_resume(host->server, t->conn);
    signal_host_pump(host);
}

static void on_closed(void *user, dp_tcp *tcp, int error, const char *reason)
{
    stream *t = user;
    signal_host *host = t->host;
    (void)tcp;
    (void)error;
    (void)reason;
    dp_signal_conn *conn = t->conn;
    stream_free(t);
    if (conn != NULL)
        dp_signal_server_disconnected(host->server, conn, dp_loop_now(host->config.loop));
    signal_host_pump(host);
}

/* ---- who is let in ------------------------------------------------------------------------------------- */

const char signal_host_stranger[] = "not of the local network";
const char signal_host_foreign_page[] = "its page is not of the local network";

static bool is_stranger(const dp_address *remote)
{
    dp_address own[OWN_ADDRESSES];
    size_t count = 0;
    if (lan_is_private(remote))
        return false;
    (void)dp_interfaces(own, OWN_ADDRESSES, &count, false);
    return !lan_has(remote, own, count);
}

static void tell_refused(const signal_host *host, const char *reason, const dp_address *remote)
{
    const dp_signal_event event = {
        .type = DP_SIGNAL_EVENT_REFUSED, .id = "", .reason = reason, .remote = *remote};
    if (host->config.on_event != NULL)
        host->config.on_event(host->config.user, &event);
}

/* Any page may have the browser of somebody at home connect to us, whose address is of the local network. */
static bool allow_origin(void *user, const dp_address *remote, const char *origin)
{
    const stream *t = user;
    dp_address own[OWN_ADDRESSES];
    size_t count = 0;
    const signal_host_config *config = &t->host->config;
    if (!t->lan_only)
        return true;
    for (size_t i = 0; i < config->origin_count; i++)
        if (strcasecmp(origin, config->origins[i]) == 0)
            return true;
    (void)dp_interfaces(own, OWN_ADDRESSES, &count, false);
    if (lan_has_origin(origin, own, count))
        return true;
    tell_refused(t->host, signal_host_foreign_page, remote);
    return false;
}

/* ---- accepting ------------------------------------------------------------------------------------------- */

static void on_accept(void *user, dp_tcp *tcp, const dp_address *remote)
{
    const listener *from = user;
    signal_host *host = from->host;
    if (from->lan_only && is_stranger(remote)) {
        dp_tcp_close(tcp);
        tell_refused(host, signal_host_stranger, remote);
        return;
    }
    stream *t = calloc(1, sizeof(*t));
    if (t == NULL ||
        dp_signal_server_accept(&t->conn, host->server, dp_loop_now(host->config.loop), remote, t) != DP_OK) {
        free(t);
        dp_tcp_close(tcp);
        return;
    }
    const dp_tcp_handler handler = {
        .on_data = on_data, .on_drained = on_drained, .on_closed = on_closed, .user = t};
    dp_tcp_set_handler(tcp, &handler);
    t->host = host;
    t->tcp = tcp;
    t->lan_only = from->lan_only;
    t->next = host->streams;
    if (t->next != NULL)
        t->next->previous = t;
    host->streams = t;
    if (from->tls != NULL && dp_tcp_accept_tls(tcp, from->tls) != DP_OK) {
        dp_signal_conn *conn = t->conn;
        stream_free(t);
        dp_signal_server_disconnected(host->server, conn, dp_loop_now(host->config.loop));
    }
    signal_host_pump(host);
}

static void on_timer(void *user)
{
    signal_host *host = user;
    dp_signal_server_handle_timeout(host->server, dp_loop_now(host->config.loop));
    signal_host_pump(host);
}

/* ---- the host ------------------------------------------------------------------------------------------ */

int signal_host_new(signal_host **out, const signal_host_config *config)
{
    signal_host *host = calloc(1, sizeof(*host));
    if (host == NULL)
        return DP_ERR_NO_MEMORY;
    host->config = *config;
    host->timer.fn = on_timer;
    host->timer.user = host;
    host->end_timer = (dp_timer){.fn = on_end_timer, .user = host};
    host->config.server.allow_origin = allow_origin;
    int error = dp_signal_server_new(&host->server, &host->config.server);
    if (error != DP_OK) {
        free(host);
        return error;
    }
    *out = host;
    return DP_OK;
}

int signal_host_listen(signal_host *host, dp_address *local, dp_tls_server *tls, bool lan_only)
{
    if (host->listener_count == LISTENERS)
        return DP_ERR_LIMIT;
    listener *at = &host->listeners[host->listener_count];
    *at = (listener){.host = host, .tls = tls, .lan_only = lan_only};
    int error = dp_listener_open(&at->socket, host->config.loop, local, on_accept, at);
    if (error != DP_OK)
        return error;
    *local = *dp_listener_local(at->socket);
    host->listener_count++;
    return DP_OK;
}

static void stop_listening(signal_host *host)
{
    while (host->listener_count > 0)
        dp_listener_close(host->listeners[--host->listener_count].socket);
}

void signal_host_shutdown(signal_host *host)
{
    stop_listening(host);
    dp_signal_server_shutdown(host->server, dp_clock_now());
    signal_host_pump(host);
}

void signal_host_free(signal_host *host)
{
    if (host == NULL)
        return;
    stop_listening(host);
    dp_timer_stop(&host->timer);
    dp_timer_stop(&host->end_timer);
    for (stream *t = host->streams, *next; t != NULL; t = next) {
        next = t->next;
        stream_free(t);
    }
    dp_signal_server_free(host->server);
    free(host);
}

dp_signal_server *signal_host_server(const signal_host *host) { return host->server; }
