/* Peer: the PeerServer's stream, and the list of connections. */
#include "peer/connection.h"

#include "base/config.h"
#include "base/crypto.h"
#include <stdio.h>
#include <string.h>

static const char layer[] = "peer";

enum { DEFAULT_MAX_CONNECTIONS = 256 };
#define RECONNECT_MIN DP_SECONDS(1)
#define RECONNECT_MAX DP_SECONDS(30)

/* ---- life ---- */

static void pump(void *user);
static void destroy_now(void *user);
static void tell_closed(dp_peer *peer);

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

static int copy_text(const char **out, const char *text)
{
    *out = text != NULL ? dp_strdup(text) : NULL;
    return text != NULL && *out == NULL ? DP_ERR_NO_MEMORY : DP_OK;
}

static void free_text(const char *text)
{
    if (text != NULL)
        dp_wipe((char *)text, strlen(text)); /* a copy of ours; it may be a password */
    dp_free((char *)text);
}

static void free_ice_servers(ice_server_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free_text(list->servers[i].name);
        free_text(list->servers[i].username);
        free_text(list->servers[i].credential);
    }
    list->count = 0;
}

/* They lie as far apart as the caller's compiler put them. */
static const dp_ice_server *server_at(const dp_ice_server *servers, size_t i)
{
    return (const void *)((const char *)servers + i * servers[0].size);
}

static int copy_ice_servers(ice_server_list *list, const dp_ice_server *servers, size_t count)
{
    int error = DP_OK;
    for (size_t i = 0; error == DP_OK && i < count; i++) {
        dp_ice_server from = {0};
        dp_ice_server *to = &list->servers[list->count++];
        (void)DP_CONFIG_READ(&from, server_at(servers, i), dp_ice_server, name); /* it was tried */
        *to = (dp_ice_server){
            .size = sizeof(*to), .turn = from.turn, .transport = from.transport, .address = from.address};
        error = copy_text(&to->name, from.name);
        if (error == DP_OK)
            error = copy_text(&to->username, from.username);
        if (error == DP_OK)
            error = copy_text(&to->credential, from.credential);
    }
    return error;
}

/* What every connection will be given is tried once, so that mistakes show here and not at the first call. */
static int try_ice_servers(const dp_peer *peer, const dp_ice_server *servers, size_t count)
{
    dp_ice_config config = {.size = sizeof(config), .random = peer->random};
    dp_ice *ice;
    int error = dp_ice_new(&ice, &config);
    if (error != DP_OK)
        return error;
    for (size_t i = 0; error == DP_OK && i < count; i++)
        error = dp_ice_add_server(ice, server_at(servers, i));
    dp_ice_free(ice);
    return error;
}

int dp_peer_set_ice_servers(dp_peer *peer, const dp_ice_server *servers, size_t count)
{
    ice_server_list list = {.count = 0};
    if (count > DP_PEER_MAX_ICE_SERVERS)
        return DP_ERR_INVALID_ARGUMENT;
    int error = try_ice_servers(peer, servers, count);
    if (error == DP_OK)
        error = copy_ice_servers(&list, servers, count);
    if (error != DP_OK) {
        free_ice_servers(&list);
        return error;
    }
    free_ice_servers(&peer->ice);
    peer->ice = list;
    return DP_OK;
}

static void on_network_change(void *user, bool lost);

static int set_up_network(dp_peer *peer, const dp_peer_config *config)
{
    network_config net = {.loop = config->loop,
                          .random = config->random,
                          .log = config->log,
                          .include_loopback = config->include_loopback,
                          .bind_addresses = config->bind_addresses,
                          .bind_count = config->bind_count,
                          .port_min = config->port_min,
                          .port_max = config->port_max,
                          .tcp = config->ice_tcp && !config->relay_only, /* nobody may call there */
                          .turn_ca_file = config->turn_ca_file,
                          .key_log = config->key_log,
                          .on_change = on_network_change,
                          .user = peer};
    int error = dp_peer_set_ice_servers(peer, config->ice_servers, config->ice_server_count);
    if (error == DP_OK)
        error = dp_network_new(&peer->network, &net);
    if (error == DP_OK)
        error = dp_mux_new(&peer->mux, peer->network, config->udp_port);
    return error;
}

static const server_stream_handler stream_handler;

static int set_up_stream(dp_peer *peer, const dp_peer_config *config)
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

static int set_up(dp_peer *peer, const dp_peer_config *config)
{
    dp_signaling_config signaling = {.size = sizeof(signaling),
                                     .random = config->random,
                                     .log = config->log,
                                     .key = config->key,
                                     .id = config->id,
                                     .token = config->token,
                                     .ping_interval = config->ping_interval};
    int error = dp_server_url_parse(&signaling.server, config->server);
    peer->server = signaling.server;
    if (error == DP_OK && (peer->key = dp_strdup(config->key != NULL ? config->key : "peerjs")) == NULL)
        error = DP_ERR_NO_MEMORY;
    if (error == DP_OK)
        error = set_up_stream(peer, config);
    if (error == DP_OK && config->id != NULL && !dp_peer_id_valid(config->id))
        error = DP_ERR_INVALID_ARGUMENT;
    if (error == DP_OK && peer->certificate == NULL) {
        error = dp_certificate_generate(&peer->own_certificate, &peer->random, dp_clock_unix());
        peer->certificate = peer->own_certificate;
    }
    if (error == DP_OK)
        error = set_up_network(peer, config);
    if (error == DP_OK)
        error = dp_signaling_new(&peer->signaling, &signaling);
    return error;
}

static bool config_valid(const dp_peer_config *config)
{
    return config->loop != NULL && config->random.fn != NULL && config->server != NULL &&
           config->ice_server_count <= DP_PEER_MAX_ICE_SERVERS &&
           config->bind_count <= NETWORK_MAX_ADDRESSES && config->port_min <= config->port_max &&
           (config->port_min != 0 || config->port_max == 0) &&
           dp_pc_datagram_size_valid(config->datagram_size);
}

static void free_parts(dp_peer *peer)
{
    dp_server_stream_free(peer->stream);
    dp_signaling_free(peer->signaling);
    dp_mux_free(peer->mux);
    dp_network_free(peer->network);
    dp_early_clear(peer);
    dp_certificate_free(peer->own_certificate);
    free_ice_servers(&peer->ice);
    dp_free(peer->key);
    dp_free(peer);
}

int dp_peer_new(dp_peer **out, const dp_peer_config *given)
{
    dp_peer_config read = {0};
    const dp_peer_config *config = &read;
    if (!DP_CONFIG_READ(&read, given, dp_peer_config, key) || !config_valid(config))
        return DP_ERR_INVALID_ARGUMENT;
    dp_peer *peer = dp_calloc(1, sizeof(*peer));
    if (peer == NULL)
        return DP_ERR_NO_MEMORY;
    peer->loop = config->loop;
    peer->random = config->random;
    peer->log = config->log;
    peer->handler = config->handler;
    peer->certificate = config->certificate;
    peer->key_log = config->key_log;
    peer->reconnect = config->reconnect;
    peer->reconnect_min = config->reconnect_min != 0 ? config->reconnect_min : RECONNECT_MIN;
    peer->reconnect_max = config->reconnect_max != 0 ? config->reconnect_max : RECONNECT_MAX;
    peer->relay_only = config->relay_only;
    peer->hide_addresses = config->hide_addresses;
    peer->ice_tcp = config->ice_tcp;
    peer->ice_lite = config->ice_lite;
    peer->datagram_size = config->datagram_size;
    peer->max_connections = config->max_connections != 0 ? config->max_connections : DEFAULT_MAX_CONNECTIONS;
    peer->max_value_size = config->max_value_size;
    peer->max_unfinished_size = config->max_unfinished_size;
    peer->max_unfinished_time = config->max_unfinished_time;
    dp_early_init(peer);
    peer->timer = (dp_timer){.fn = on_signaling_timer, .user = peer};
    peer->reconnect_timer = (dp_timer){.fn = on_reconnect_timer, .user = peer};
    peer->pump = (dp_deferred){.fn = pump, .user = peer};
    peer->destroy = (dp_deferred){.fn = destroy_now, .user = peer};
    int error = set_up(peer, config);
    peer->disconnected = true;
    if (error == DP_OK)
        error = dp_peer_reconnect(peer);
    if (error != DP_OK) {
        free_parts(peer);
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
    peer->handler = (dp_peer_handler){.on_close = peer->handler.on_close, .user = peer->handler.user};
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
    dp_listings_end(peer);
    dp_timer_stop(&peer->timer);
    dp_timer_stop(&peer->reconnect_timer);
    dp_undefer(&peer->pump);
    tell_closed(peer);
    free_parts(peer);
}

static void tell_closed(dp_peer *peer)
{
    if (!peer->destroyed && peer->handler.on_close != NULL)
        peer->handler.on_close(peer->handler.user, peer);
    peer->destroyed = true;
}

int dp_peer_reconnect(dp_peer *peer)
{
    if (peer->destroying || peer->destroyed || !peer->disconnected)
        return DP_ERR_INVALID_STATE;
    peer->wants_to_be_open = true;
    dp_timer_stop(&peer->reconnect_timer);
    if (peer->leaving) { /* its end is answered first */
        peer->start_again = true;
        return DP_OK;
    }
    int error = dp_signaling_start(peer->signaling, dp_loop_now(peer->loop));
    peer->disconnected = error != DP_OK;
    dp_peer_wake(peer);
    return error;
}

void dp_peer_disconnect(dp_peer *peer)
{
    peer->wants_to_be_open = false;
    peer->start_again = false;
    peer->leaving |= !peer->disconnected;
    peer->disconnected = true;
    peer->open = false;
    dp_timer_stop(&peer->reconnect_timer);
    dp_signaling_close(peer->signaling, dp_loop_now(peer->loop));
    dp_peer_wake(peer);
}

bool dp_peer_is_open(const dp_peer *peer) { return peer->open; }
bool dp_peer_is_disconnected(const dp_peer *peer) { return peer->disconnected; }
bool dp_peer_is_destroyed(const dp_peer *peer) { return peer->destroyed; }
const char *dp_peer_id(const dp_peer *peer) { return dp_signaling_id(peer->signaling); }
uint16_t dp_peer_udp_port(const dp_peer *peer) { return dp_mux_port(peer->mux); }
size_t dp_peer_connection_count(const dp_peer *peer) { return peer->connection_count; }
void dp_peer_wake(dp_peer *peer) { dp_defer(peer->loop, &peer->pump); }

void dp_peer_report(dp_peer *peer, const char *type, const char *message)
{
    DP_LOG(&peer->log, peer->handler.on_error != NULL ? DP_LOG_INFO : DP_LOG_WARN, layer, "%s: %s", type,
           message);
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
    dp_connect_options read = {.size = sizeof(read)};
    static const char prefix[] = "dc_";
    char id[sizeof(prefix) + 11] = "dc_";
    if ((options != NULL && !DP_CONFIG_READ(&read, options, dp_connect_options, label)) ||
        remote_id == NULL || remote_id[0] == '\0' || strlen(remote_id) > DP_PEER_ID_MAX)
        return DP_ERR_INVALID_ARGUMENT;
    if (peer->disconnected || peer->destroying) {
        peer->call_refused = true;
        dp_peer_wake(peer);
        return DP_ERR_INVALID_STATE;
    }
    int error =
        dp_random_text(&peer->random, id + sizeof(prefix) - 1, 11, "0123456789abcdefghijklmnopqrstuvwxyz");
    dp_connection *conn = NULL;
    if (error == DP_OK)
        error = dp_connection_new(&conn, peer, remote_id, id, &read);
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
        tell_closed(peer);
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
static void on_network_change(void *user, bool lost)
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
