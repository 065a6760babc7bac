#include "peer/server_stream.h"

#include "base/mem.h"
#include <stdio.h>
#include <string.h>

/* For all of it: the name, TCP, the proxy, TLS. */
#define TIMEOUT DP_SECONDS(15)

typedef enum stream_state {
    STREAM_CLOSED,
    STREAM_CONNECTING, /* TCP, and TLS if no proxy comes first */
    STREAM_ASKING,     /* the proxy has not answered */
    STREAM_SECURING,   /* TLS through the proxy */
    STREAM_UP,
} stream_state;

struct server_stream {
    dp_loop *loop;
    dp_random random;
    dp_log log;
    dp_key_log key_log;
    char *ca_file;
    bool insecure;
    dp_proxy proxy; /* host empty: none */
    server_stream_handler handler;
    char host[256];
    uint16_t port;
    bool secure;
    stream_state state;
    dp_tcp *tcp;
    dp_tunnel *tunnel; /* while ASKING */
    dp_time deadline;
    dp_timer timer;    /* while ASKING; TCP and TLS have theirs */
    dp_deferred later; /* tells of a failure inside a call of the owner's */
    char failure[512];
    bool tls_failed;
};

static bool has_proxy(const server_stream *s) { return s->proxy.host[0] != '\0'; }

/* ---- the end ---- */

static void report(void *user)
{
    server_stream *s = user;
    s->handler.on_down(s->handler.user, s->tls_failed, s->failure);
}

static void fail(server_stream *s, bool tls, const char *reason)
{
    snprintf(s->failure, sizeof(s->failure), "%s", reason);
    s->tls_failed = tls;
    dp_server_stream_close(s);
    dp_defer(s->loop, &s->later);
}

static void on_timeout(void *user)
{
    server_stream *s = user;
    char text[320];
    snprintf(text, sizeof(text), "the proxy %s does not answer", s->proxy.host);
    fail(s, false, text);
}

/* ---- life ---- */

int dp_server_stream_new(server_stream **out, const server_stream_config *config)
{
    server_stream *s = dp_calloc(1, sizeof(*s));
    if (s == NULL)
        return DP_ERR_NO_MEMORY;
    s->loop = config->loop;
    s->random = config->random;
    s->log = config->log;
    s->key_log = config->key_log;
    s->insecure = config->insecure;
    s->handler = config->handler;
    s->timer = (dp_timer){.fn = on_timeout, .user = s};
    s->later = (dp_deferred){.fn = report, .user = s};
    s->ca_file = config->ca_file != NULL ? dp_strdup(config->ca_file) : NULL;
    int error = config->ca_file != NULL && s->ca_file == NULL ? DP_ERR_NO_MEMORY : DP_OK;
    if (error == DP_OK && config->proxy != NULL)
        error = dp_proxy_parse(&s->proxy, config->proxy);
    if (error != DP_OK) {
        dp_server_stream_free(s);
        return error;
    }
    *out = s;
    return DP_OK;
}

int dp_server_stream_new_like(server_stream **out, const server_stream *s,
                              const server_stream_handler *handler)
{
    server_stream_config config = {.loop = s->loop,
                                   .random = s->random,
                                   .log = s->log,
                                   .key_log = s->key_log,
                                   .ca_file = s->ca_file,
                                   .insecure = s->insecure,
                                   .handler = *handler};
    int error = dp_server_stream_new(out, &config);
    if (error == DP_OK)
        (*out)->proxy = s->proxy;
    return error;
}

void dp_server_stream_free(server_stream *s)
{
    if (s == NULL)
        return;
    dp_server_stream_close(s);
    dp_free(s->ca_file);
    dp_wipe(s, sizeof(*s)); /* the proxy's password */
    dp_free(s);
}

void dp_server_stream_close(server_stream *s)
{
    dp_timer_stop(&s->timer);
    dp_undefer(&s->later);
    dp_tunnel_free(s->tunnel);
    s->tunnel = NULL;
    dp_tcp_close(s->tcp);
    s->tcp = NULL;
    s->state = STREAM_CLOSED;
}

dp_tcp *dp_server_stream_tcp(const server_stream *s) { return s->state == STREAM_UP ? s->tcp : NULL; }

bool dp_server_stream_is_closed(const server_stream *s)
{
    return s->state == STREAM_CLOSED && s->later.loop == NULL;
}

/* ---- TLS ---- */

static void start_tls(server_stream *s)
{
    dp_tls_options options = {.size = sizeof(options),
                              .server_name = s->host,
                              .ca_file = s->ca_file,
                              .insecure = s->insecure,
                              .random = s->random,
                              .log = s->log,
                              .key_log = s->key_log};
    char text[400];
    int error = dp_tcp_start_tls(s->tcp, &options);
    if (error == DP_OK)
        return;
    if (error != DP_ERR_IO)
        snprintf(text, sizeof(text), "%s", dp_strerror(error));
    else if (s->ca_file != NULL)
        snprintf(text, sizeof(text), "no certificates (PEM) can be read from %.300s", s->ca_file);
    else
        snprintf(text, sizeof(text),
                 "this system has no list of authorities (Debian: the package ca-certificates)");
    fail(s, true, text);
}

/* ---- the proxy ---- */

static void ask_proxy(server_stream *s)
{
    s->state = STREAM_ASKING;
    int error = dp_tunnel_new(&s->tunnel, &s->proxy, s->host, s->port);
    if (error == DP_OK)
        error = dp_timer_set(s->loop, &s->timer, s->deadline);
    if (error == DP_OK) {
        size_t len;
        const uint8_t *request = dp_tunnel_request(s->tunnel, &len);
        error = dp_tcp_send(s->tcp, request, len);
    }
    if (error != DP_OK)
        fail(s, false, dp_strerror(error));
}

static void set_up(server_stream *s)
{
    s->state = STREAM_UP;
    s->handler.on_up(s->handler.user);
}

static void proxy_answers(server_stream *s, const uint8_t *data, size_t len)
{
    int error = dp_tunnel_input(s->tunnel, data, len);
    if (error == DP_ERR_WOULD_BLOCK)
        return;
    if (error != DP_OK) {
        const char *reason = dp_tunnel_reason(s->tunnel);
        fail(s, false, reason[0] != '\0' ? reason : dp_strerror(error));
        return;
    }
    dp_timer_stop(&s->timer);
    dp_tunnel_free(s->tunnel);
    s->tunnel = NULL;
    if (!s->secure) {
        set_up(s);
    } else {
        s->state = STREAM_SECURING;
        start_tls(s);
    }
}

/* ---- the stream ---- */

static void on_connected(void *user, dp_tcp *tcp)
{
    server_stream *s = user;
    (void)tcp;
    if (s->state == STREAM_CONNECTING && has_proxy(s))
        ask_proxy(s);
    else
        set_up(s);
}

static void on_data(void *user, dp_tcp *tcp, const uint8_t *data, size_t len)
{
    server_stream *s = user;
    (void)tcp;
    if (s->state == STREAM_ASKING)
        proxy_answers(s, data, len);
    else
        s->handler.on_data(s->handler.user, data, len);
}

static void on_drained(void *user, dp_tcp *tcp)
{
    server_stream *s = user;
    (void)tcp;
    if (s->state == STREAM_UP)
        s->handler.on_drained(s->handler.user);
}

static void on_closed(void *user, dp_tcp *tcp, int error, const char *reason)
{
    server_stream *s = user;
    char text[512];
    (void)tcp;
    bool at_proxy = s->state == STREAM_ASKING || (s->state == STREAM_CONNECTING && has_proxy(s));
    bool tls = error == DP_ERR_AUTH || error == DP_ERR_REMOTE || error == DP_ERR_PROTOCOL;
    if (at_proxy)
        snprintf(text, sizeof(text), "the proxy %s: %.200s", s->proxy.host, reason);
    else
        snprintf(text, sizeof(text), "%s", reason);
    fail(s, tls && s->state != STREAM_UP, text);
}

void dp_server_stream_open(server_stream *s, const char *host, uint16_t port, bool secure)
{
    dp_tcp_handler handler = {on_connected, on_data, on_drained, on_closed, s};
    dp_server_stream_close(s);
    snprintf(s->host, sizeof(s->host), "%s", host);
    s->port = port;
    s->secure = secure;
    s->deadline = dp_clock_now() + TIMEOUT;
    int error = has_proxy(s)
                    ? dp_tcp_connect(&s->tcp, s->loop, s->proxy.host, s->proxy.port, TIMEOUT, &handler)
                    : dp_tcp_connect(&s->tcp, s->loop, s->host, s->port, TIMEOUT, &handler);
    if (error != DP_OK) {
        fail(s, false, dp_strerror(error));
        return;
    }
    s->state = STREAM_CONNECTING;
    if (secure && !has_proxy(s))
        start_tls(s);
}
