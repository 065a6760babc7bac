/* Peer: its life, the list of connections. What it has to do with the PeerServer: peer_server.c. */
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

static void destroy_now(void *user);

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
                          .on_change = dp_peer_on_network_change,
                          .user = peer};
    int error = dp_peer_set_ice_servers(peer, config->ice_servers, config->ice_server_count);
    if (error == DP_OK)
        error = dp_network_new(&peer->network, &net);
    if (error == DP_OK)
        error = dp_mux_new(&peer->mux, peer->network, config->udp_port);
    return error;
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
        error = dp_peer_set_up_stream(peer, config);
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
    dp_peer_init_server(peer);
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
    dp_peer_clear_server(peer);
    dp_peer_tell_closed(peer);
    free_parts(peer);
}

void dp_peer_tell_closed(dp_peer *peer)
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
