/* Peer: the PeerServer's stream, and the list of connections. */
#include "peer/connection.h"

#include "base/crypto.h"
#include <stdio.h>
#include <string.h>

static const char layer[] = "peer";

enum { DEFAULT_MAX_CONNECTIONS = 256, MAX_STUN_SERVERS = 8 };
#define TCP_TIMEOUT DP_SECONDS(15)

/* ---- life ---- */

static void pump(void *user);
static void destroy_now(void *user);

static void on_signaling_timer(void *user)
{
    dp_peer *peer = user;
    dp_signaling_handle_timeout(peer->signaling, dp_loop_now(peer->loop));
    pump(peer);
}

static void on_reconnect_timer(void *user)
{
    dp_peer *peer = user;
    if (dp_peer_reconnect(peer) != DP_OK)
        DP_LOG(&peer->log, DP_LOG_WARN, layer, "reconnecting to the PeerServer is not possible now");
}

static int set_up(dp_peer *peer, const dp_peer_config *config)
{
    dp_signaling_config signaling = {.size = sizeof(signaling),
                                     .random = config->random,
                                     .log = config->log,
                                     .key = config->key,
                                     .id = config->id,
                                     .token = config->token};
    int error = dp_server_url_parse(&signaling.server, config->server);
    if (error == DP_OK && signaling.server.secure)
        error = DP_ERR_UNSUPPORTED;
    if (error == DP_OK && config->id != NULL && !dp_peer_id_valid(config->id))
        error = DP_ERR_INVALID_ARGUMENT;
    if (error == DP_OK && peer->certificate == NULL) {
        error = dp_certificate_generate(&peer->own_certificate, &peer->random, dp_clock_unix());
        peer->certificate = peer->own_certificate;
    }
    if (error == DP_OK)
        error = dp_mux_new(&peer->mux, peer->loop, peer->random, config->udp_port, config->include_loopback);
    if (error == DP_OK)
        error = dp_signaling_new(&peer->signaling, &signaling);
    return error;
}

int dp_peer_new(dp_peer **out, const dp_peer_config *config)
{
    if (config->size != sizeof(*config) || config->loop == NULL || config->random.fn == NULL ||
        config->server == NULL || config->stun_server_count > MAX_STUN_SERVERS)
        return DP_ERR_INVALID_ARGUMENT;
    dp_peer *peer = dp_calloc(1, sizeof(*peer));
    if (peer == NULL)
        return DP_ERR_NO_MEMORY;
    peer->loop = config->loop;
    peer->random = config->random;
    peer->log = config->log;
    peer->handler = config->handler;
    peer->certificate = config->certificate;
    peer->reconnect = config->reconnect;
    peer->include_loopback = config->include_loopback;
    peer->max_connections = config->max_connections != 0 ? config->max_connections : DEFAULT_MAX_CONNECTIONS;
    peer->max_value_size = config->max_value_size;
    peer->stun_server_count = config->stun_server_count;
    if (config->stun_server_count > 0)
        memcpy(peer->stun_servers, config->stun_servers,
               config->stun_server_count * sizeof(peer->stun_servers[0]));
    peer->timer = (dp_timer){.fn = on_signaling_timer, .user = peer};
    peer->reconnect_timer = (dp_timer){.fn = on_reconnect_timer, .user = peer};
    peer->pump = (dp_deferred){.fn = pump, .user = peer};
    peer->destroy = (dp_deferred){.fn = destroy_now, .user = peer};
    int error = set_up(peer, config);
    if (error == DP_OK)
        error = dp_peer_reconnect(peer);
    if (error != DP_OK) {
        dp_signaling_free(peer->signaling);
        dp_mux_free(peer->mux);
        dp_certificate_free(peer->own_certificate);
        dp_free(peer);
        return error;
    }
    *out = peer;
    return DP_OK;
}

void dp_peer_destroy(dp_peer *peer)
{
    if (peer == NULL || peer->destroying)
        return;
    peer->destroying = true;
    memset(&peer->handler, 0, sizeof(peer->handler));
    for (dp_connection *conn = peer->connections; conn != NULL; conn = conn->next)
        dp_connection_close(conn);
    dp_peer_disconnect(peer);
    dp_defer(peer->loop, &peer->destroy); /* behind the connections' own ends */
}

static void destroy_now(void *user)
{
    dp_peer *peer = user;
    if (peer->connections != NULL) { /* an on_close made a new one, or its end comes later in this round */
        for (dp_connection *conn = peer->connections; conn != NULL; conn = conn->next)
            dp_connection_close(conn);
        dp_defer(peer->loop, &peer->destroy);
        return;
    }
    dp_timer_stop(&peer->timer);
    dp_timer_stop(&peer->reconnect_timer);
    dp_undefer(&peer->pump);
    if (peer->tcp != NULL)
        dp_tcp_close(peer->tcp);
    dp_signaling_free(peer->signaling);
    dp_mux_free(peer->mux);
    dp_certificate_free(peer->own_certificate);
    dp_free(peer);
}

int dp_peer_reconnect(dp_peer *peer)
{
    if (peer->destroying)
        return DP_ERR_INVALID_STATE;
    peer->wants_to_be_open = true;
    dp_timer_stop(&peer->reconnect_timer);
    int error = dp_signaling_start(peer->signaling, dp_loop_now(peer->loop));
    dp_peer_wake(peer);
    return error;
}

void dp_peer_disconnect(dp_peer *peer)
{
    peer->wants_to_be_open = false;
    dp_timer_stop(&peer->reconnect_timer);
    dp_signaling_close(peer->signaling, dp_loop_now(peer->loop));
    dp_peer_wake(peer);
}

const char *dp_peer_id(const dp_peer *peer) { return dp_signaling_id(peer->signaling); }
uint16_t dp_peer_udp_port(const dp_peer *peer) { return dp_mux_port(peer->mux); }
size_t dp_peer_connection_count(const dp_peer *peer) { return peer->connection_count; }
void dp_peer_wake(dp_peer *peer) { dp_defer(peer->loop, &peer->pump); }

void dp_peer_report(dp_peer *peer, const char *type, const char *message)
{
    DP_LOG(&peer->log, DP_LOG_WARN, layer, "%s: %s", type, message);
    if (peer->handler.on_error != NULL)
        peer->handler.on_error(peer->handler.user, peer, type, message);
}

dp_connection *dp_peer_find(dp_peer *peer, const char *remote_id, const char *connection_id)
{
    for (dp_connection *conn = peer->connections; conn != NULL; conn = conn->next)
        if (conn->state != CONNECTION_CLOSED && strcmp(conn->id, connection_id) == 0 &&
            strcmp(conn->remote_id, remote_id) == 0)
            return conn;
    return NULL;
}

int dp_peer_connect(dp_peer *peer, dp_connection **out, const char *remote_id,
                    const dp_connect_options *options)
{
    static const dp_connect_options defaults = {.size = sizeof(defaults)};
    static const char prefix[] = "dc_";
    char id[sizeof(prefix) + 11] = "dc_";
    if (options == NULL)
        options = &defaults;
    if (options->size != sizeof(*options) || remote_id == NULL || remote_id[0] == '\0' ||
        strlen(remote_id) > DP_PEER_ID_MAX)
        return DP_ERR_INVALID_ARGUMENT;
    if (!peer->open)
        return DP_ERR_INVALID_STATE;
    int error =
        dp_random_text(&peer->random, id + sizeof(prefix) - 1, 11, "0123456789abcdefghijklmnopqrstuvwxyz");
    dp_connection *conn = NULL;
    if (error == DP_OK)
        error = dp_connection_new(&conn, peer, remote_id, id, options);
    if (error != DP_OK)
        return error;
    error = dp_negotiate_call(conn);
    if (error != DP_OK) {
        dp_connection_free(conn);
        return error;
    }
    *out = conn;
    return DP_OK;
}

/* ---- the stream to the PeerServer ---- */

static void on_tcp_connected(void *user, dp_tcp *tcp)
{
    (void)tcp;
    dp_peer *peer = user;
    dp_signaling_connected(peer->signaling, dp_loop_now(peer->loop));
    pump(peer);
}

static void on_tcp_data(void *user, dp_tcp *tcp, const uint8_t *data, size_t len)
{
    (void)tcp;
    dp_peer *peer = user;
    dp_signaling_input(peer->signaling, dp_loop_now(peer->loop), data, len);
    pump(peer);
}

static void on_tcp_drained(void *user, dp_tcp *tcp)
{
    (void)tcp;
    pump(user);
}

static void close_stream(dp_peer *peer)
{
    if (peer->tcp != NULL)
        dp_tcp_close(peer->tcp);
    peer->tcp = NULL;
}

static void on_tcp_closed(void *user, dp_tcp *tcp, int error, const char *reason)
{
    (void)tcp;
    (void)error;
    dp_peer *peer = user;
    close_stream(peer);
    dp_signaling_disconnected(peer->signaling, dp_loop_now(peer->loop), reason);
    pump(peer);
}

static void open_stream(dp_peer *peer, const char *host, uint16_t port)
{
    dp_tcp_handler handler = {on_tcp_connected, on_tcp_data, on_tcp_drained, on_tcp_closed, peer};
    close_stream(peer);
    int error = dp_tcp_connect(&peer->tcp, peer->loop, host, port, TCP_TIMEOUT, &handler);
    if (error != DP_OK) {
        peer->tcp = NULL;
        dp_signaling_disconnected(peer->signaling, dp_loop_now(peer->loop), dp_strerror(error));
    }
}

static void flush_stream(dp_peer *peer)
{
    uint8_t bytes[4096];
    size_t len;
    while (peer->tcp != NULL && dp_tcp_queued(peer->tcp) < sizeof(bytes) * 8 &&
           dp_signaling_poll_transmit(peer->signaling, bytes, sizeof(bytes), &len))
        if (dp_tcp_send(peer->tcp, bytes, len) != DP_OK) {
            /* These bytes are lost, and a WebSocket with a hole is worth nothing: begin anew. */
            close_stream(peer);
            dp_signaling_disconnected(peer->signaling, dp_loop_now(peer->loop), "the stream takes no more");
            dp_peer_wake(peer);
        }
}

/* ---- what the PeerServer says ---- */

static void on_disconnected(dp_peer *peer, const char *reason)
{
    peer->open = false;
    DP_LOG(&peer->log, DP_LOG_INFO, layer, "disconnected from the PeerServer: %s",
           reason != NULL ? reason : "");
    if (peer->handler.on_disconnected != NULL)
        peer->handler.on_disconnected(peer->handler.user, peer, reason != NULL ? reason : "closed");
    if (!peer->reconnect || !peer->wants_to_be_open || peer->destroying)
        return;
    unsigned shift = peer->failures < 5 ? peer->failures : 5;
    dp_duration wait = DP_SECONDS(1) << shift;
    wait = wait > DP_SECONDS(30) ? DP_SECONDS(30) : wait;
    peer->failures++;
    dp_timer_set(peer->loop, &peer->reconnect_timer, dp_loop_now(peer->loop) + wait);
}

static void end_connections_with(dp_peer *peer, const char *remote_id, bool only_unopened, const char *type,
                                 const char *message)
{
    for (dp_connection *conn = peer->connections; conn != NULL; conn = conn->next)
        if (strcmp(conn->remote_id, remote_id) == 0 &&
            (!only_unopened || conn->state == CONNECTION_CONNECTING))
            dp_connection_end(conn, type, message);
}

static void on_expire(dp_peer *peer, const char *remote_id)
{
    char message[DP_PEER_ID_MAX + 64];
    snprintf(message, sizeof(message), "could not connect to peer %.256s: no such id on the PeerServer",
             remote_id);
    end_connections_with(peer, remote_id, true, "peer-unavailable", message);
    dp_peer_report(peer, "peer-unavailable", message);
}

static void on_signaling_event(dp_peer *peer, const dp_signaling_event *event)
{
    switch (event->type) {
    case DP_SIGNALING_EVENT_CONNECT:
        open_stream(peer, event->host, event->port);
        break;
    case DP_SIGNALING_EVENT_DISCONNECT:
        flush_stream(peer);
        close_stream(peer);
        break;
    case DP_SIGNALING_EVENT_OPEN:
        peer->open = true;
        peer->failures = 0;
        if (peer->handler.on_open != NULL)
            peer->handler.on_open(peer->handler.user, peer, dp_peer_id(peer));
        break;
    case DP_SIGNALING_EVENT_OFFER:
        dp_negotiate_offer(peer, event->src, &event->offer);
        break;
    case DP_SIGNALING_EVENT_ANSWER:
        dp_negotiate_answer(peer, event->src, event->connection_id, event->sdp);
        break;
    case DP_SIGNALING_EVENT_CANDIDATE:
        dp_negotiate_candidate(peer, event->src, event->connection_id, event->candidate);
        break;
    case DP_SIGNALING_EVENT_LEAVE:
        end_connections_with(peer, event->src, false, NULL, NULL);
        break;
    case DP_SIGNALING_EVENT_EXPIRE:
        on_expire(peer, event->src);
        break;
    case DP_SIGNALING_EVENT_ERROR:
        dp_peer_report(peer, event->error_type, event->message);
        break;
    case DP_SIGNALING_EVENT_DISCONNECTED:
        on_disconnected(peer, event->message);
        break;
    }
}

/* Handlers run from here only, and here runs only from the loop: no handler is called from inside an API
 * call. */
static void pump(void *user)
{
    dp_peer *peer = user;
    dp_signaling_event event;
    while (dp_signaling_poll_event(peer->signaling, &event))
        on_signaling_event(peer, &event);
    flush_stream(peer);
    dp_timer_set(peer->loop, &peer->timer, dp_signaling_next_timeout(peer->signaling));
}
