/* A Peer at its PeerServer: the stream there and back again, and what the server says. */
#include "peer/connection.h"

#include "base/crypto.h"
#include <stdio.h>
#include <string.h>

static const char layer[] = "peer";

static void pump(void *user);

/* ---- the stream to the PeerServer ---- */

static void on_stream_up(void *user)
{
    dp_peer *peer = user;
    dp_signaling_connected(peer->signaling, dp_loop_now(peer->loop));
    pump(peer);
}

static void on_stream_data(void *user, const uint8_t *data, size_t len)
{
    dp_peer *peer = user;
    dp_signaling_input(peer->signaling, dp_loop_now(peer->loop), data, len);
    pump(peer);
}

static void on_stream_down(void *user, bool tls, const char *reason)
{
    dp_peer *peer = user;
    dp_time now = dp_loop_now(peer->loop);
    if (tls)
        dp_signaling_tls_failed(peer->signaling, now, reason);
    else
        dp_signaling_disconnected(peer->signaling, now, reason);
    pump(peer);
}

static const server_stream_handler stream_handler = {on_stream_up, on_stream_data, pump, on_stream_down,
                                                     NULL};

int dp_peer_set_up_stream(dp_peer *peer, const dp_peer_config *config)
{
    server_stream_config stream = {.loop = config->loop,
                                   .random = config->random,
                                   .log = config->log,
                                   .key_log = config->key_log,
                                   .ca_file = config->ca_file,
                                   .insecure = config->insecure,
                                   .proxy = config->proxy,
                                   .handler = stream_handler};
    stream.handler.user = peer;
    return dp_server_stream_new(&peer->stream, &stream);
}

static void flush_stream(dp_peer *peer)
{
    uint8_t bytes[4096];
    size_t len;
    dp_tcp *tcp;
    while ((tcp = dp_server_stream_tcp(peer->stream)) != NULL && dp_tcp_queued(tcp) < sizeof(bytes) * 8 &&
           dp_signaling_poll_transmit(peer->signaling, bytes, sizeof(bytes), &len))
        if (dp_tcp_send(tcp, bytes, len) != DP_OK) {
            /* These bytes are lost, and a WebSocket with a hole is worth nothing: begin anew. */
            dp_server_stream_close(peer->stream);
            dp_signaling_disconnected(peer->signaling, dp_loop_now(peer->loop), "the stream takes no more");
            dp_peer_wake(peer);
        }
}

/* ---- what the PeerServer says ---- */

/* Some time of the upper half of what the failures so far have made of it. */
static dp_duration backoff(const dp_peer *peer)
{
    dp_duration wait = peer->reconnect_min;
    uint32_t chance = UINT32_MAX;
    for (unsigned i = 0; i < peer->failures && wait < peer->reconnect_max; i++)
        wait *= 2;
    wait = wait < peer->reconnect_max ? wait : peer->reconnect_max;
    (void)dp_random_bytes(&peer->random, &chance, sizeof(chance)); /* without: the whole time */
    return wait / 2 + (dp_duration)((double)wait / 2 * chance / UINT32_MAX);
}

/* Calls whose offer was never sent. */
static void end_waiting_calls(dp_peer *peer)
{
    for (dp_connection *conn = peer->connections; conn != NULL; conn = conn->next)
        if (conn->offer_waits)
            dp_connection_end(conn, "negotiation-failed", "the PeerServer was not reached");
}

static void on_disconnected(dp_peer *peer, const char *reason)
{
    bool refused = peer->fatal && !peer->was_open && !peer->reconnect;
    peer->open = false;
    peer->fatal = false;
    peer->disconnected = true;
    peer->leaving = false;
    end_waiting_calls(peer);
    DP_LOG(&peer->log, DP_LOG_INFO, layer, "disconnected from the PeerServer: %s",
           reason != NULL ? reason : "");
    if (peer->handler.on_disconnected != NULL)
        peer->handler.on_disconnected(peer->handler.user, peer, reason != NULL ? reason : "closed");
    if (peer->destroying || !peer->disconnected)
        return;
    if (peer->start_again) {
        peer->start_again = false;
        (void)dp_peer_reconnect(peer);
    } else if (refused) { /* as PeerJS: without an id it is good for nothing */
        for (dp_connection *conn = peer->connections; conn != NULL; conn = conn->next)
            dp_connection_close(conn);
        dp_peer_tell_closed(peer);
    } else if (peer->reconnect && peer->wants_to_be_open) {
        dp_timer_set(peer->loop, &peer->reconnect_timer, dp_loop_now(peer->loop) + backoff(peer));
        peer->failures++;
    }
}

static void on_server_open(dp_peer *peer)
{
    peer->open = true;
    peer->was_open = true;
    peer->failures = 0;
    for (dp_connection *conn = peer->connections; conn != NULL; conn = conn->next)
        conn->offer_waits = false;
    dp_restart_on_server_open(peer);
    if (peer->handler.on_open != NULL)
        peer->handler.on_open(peer->handler.user, peer, dp_peer_id(peer));
}

static void on_server_error(dp_peer *peer, const char *type, const char *message)
{
    /* PeerJS's abort: everything but a stream that could not be opened, or was lost. */
    peer->fatal = strcmp(type, "network") != 0 && strcmp(type, "ssl-unavailable") != 0;
    dp_peer_report(peer, type, message);
}

static bool stream_is_lost(const dp_peer *peer)
{
    dp_address local;
    const dp_tcp *tcp = dp_server_stream_tcp(peer->stream);
    return tcp == NULL || dp_tcp_local(tcp, &local) != DP_OK || !dp_network_has(peer->network, &local);
}

/* The stream may have gone with its address, and would notice it by itself only after 30 s: too late for what has to
 * go through the PeerServer now. */
void dp_peer_on_network_change(void *user, bool lost)
{
    dp_peer *peer = user;
    if (!peer->reconnect || !peer->wants_to_be_open || peer->destroying)
        return;
    peer->failures = 0;
    if (dp_server_stream_is_closed(peer->stream)) {
        dp_timer_set(peer->loop, &peer->reconnect_timer, dp_loop_now(peer->loop));
    } else if (lost && stream_is_lost(peer)) {
        dp_server_stream_close(peer->stream);
        dp_signaling_disconnected(peer->signaling, dp_loop_now(peer->loop), "the network has changed");
        dp_peer_wake(peer);
    }
}

static void end_connections_with(dp_peer *peer, const char *remote_id, bool only_unopened, const char *type,
                                 const char *message)
{
    for (dp_connection *conn = peer->connections; conn != NULL; conn = conn->next)
        if (strcmp(conn->remote_id, remote_id) == 0 &&
            (!only_unopened || conn->state == CONNECTION_CONNECTING))
            dp_connection_end(conn, type, message);
}

/* An open connection's ICE restart: it is tried again, and the connection is its owner's to end. */
static bool only_restarts_wait(const dp_peer *peer, const char *remote_id)
{
    bool restarts = false;
    for (const dp_connection *conn = peer->connections; conn != NULL; conn = conn->next)
        if (strcmp(conn->remote_id, remote_id) == 0) {
            if (conn->state == CONNECTION_CONNECTING)
                return false;
            restarts |= conn->restart_offered;
        }
    return restarts;
}

static void on_expire(dp_peer *peer, const char *remote_id)
{
    if (only_restarts_wait(peer, remote_id)) {
        DP_LOG(&peer->log, DP_LOG_INFO, layer, "%s is not at the PeerServer now", remote_id);
        return;
    }
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
        dp_server_stream_open(peer->stream, event->host, event->port, event->secure);
        break;
    case DP_SIGNALING_EVENT_DISCONNECT:
        flush_stream(peer);
        dp_server_stream_close(peer->stream);
        break;
    case DP_SIGNALING_EVENT_OPEN:
        on_server_open(peer);
        break;
    case DP_SIGNALING_EVENT_OFFER:
        dp_negotiate_offer(peer, event);
        break;
    case DP_SIGNALING_EVENT_ANSWER:
        dp_negotiate_answer(peer, event);
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
        on_server_error(peer, event->error_type, event->message);
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
    if (peer->call_refused)
        dp_peer_report(peer, "disconnected", "Cannot connect to new Peer after disconnecting from server.");
    peer->call_refused = false;
    flush_stream(peer);
    dp_timer_set(peer->loop, &peer->timer, dp_signaling_next_timeout(peer->signaling));
}

/* ---- time ---- */

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

void dp_peer_init_server(dp_peer *peer)
{
    peer->timer = (dp_timer){.fn = on_signaling_timer, .user = peer};
    peer->reconnect_timer = (dp_timer){.fn = on_reconnect_timer, .user = peer};
    peer->pump = (dp_deferred){.fn = pump, .user = peer};
}

void dp_peer_clear_server(dp_peer *peer)
{
    dp_timer_stop(&peer->timer);
    dp_timer_stop(&peer->reconnect_timer);
    dp_undefer(&peer->pump);
}
