/* DataConnection: its life, what comes in, and the rpc on it. What goes out: connection_out.c. */
#include "peer/connection.h"

#include <stdio.h>
#include <string.h>

static const char layer[] = "peer";

#define SETUP_TIMEOUT                                                                                        \
    DP_SECONDS(60) /* from the offer to an open channel; ICE and DTLS have 30 s limits of their own */

/* ---- life ---- */

static void on_timer(void *user);
static void finish_later(void *user);

static bool parse_serialization(const char *name, serialization *out)
{
    static const struct {
        const char *name;
        serialization serialization;
    } known[] = {{"binary", SERIALIZATION_BINARY}, {"binary-utf8", SERIALIZATION_BINARY},
                 {"json", SERIALIZATION_JSON},     {"raw", SERIALIZATION_RAW},
                 {"none", SERIALIZATION_RAW},      {"MsgPack", SERIALIZATION_MSGPACK}};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(name, known[i].name) == 0) {
            *out = known[i].serialization;
            return true;
        }
    return false;
}

static int copy_options(dp_connection *conn, const dp_connect_options *options)
{
    const char *name = options->serialization != NULL ? options->serialization : "binary";
    if (!parse_serialization(name, &conn->serialization))
        return DP_ERR_UNSUPPORTED;
    /* What PeerJS puts into the OFFER: "binary" for all of its binary names, and of "raw" it knows one name only. */
    static const char *const told[] = {"binary", "json", "raw", "MsgPack"};
    conn->serialization_name = dp_strdup(told[conn->serialization]);
    conn->label = dp_strdup(options->label != NULL ? options->label : conn->id);
    conn->metadata = options->metadata != NULL ? dp_strdup(options->metadata) : NULL;
    conn->reliable = options->reliable || conn->serialization == SERIALIZATION_MSGPACK;
    conn->pinned = options->remote_fingerprint != NULL;
    if (conn->pinned)
        conn->remote_fingerprint = *options->remote_fingerprint;
    bool failed = conn->serialization_name == NULL || conn->label == NULL ||
                  (options->metadata != NULL && conn->metadata == NULL);
    return failed ? DP_ERR_NO_MEMORY : DP_OK;
}

int dp_connection_new(dp_connection **out, dp_peer *peer, const char *remote_id, const char *id,
                      const dp_connect_options *options)
{
    if (peer->connection_count >= peer->max_connections)
        return DP_ERR_LIMIT;
    dp_connection *conn = dp_calloc(1, sizeof(*conn));
    if (conn == NULL)
        return DP_ERR_NO_MEMORY;
    conn->peer = peer;
    conn->next = peer->connections;
    peer->connections = conn;
    peer->connection_count++;
    conn->timer.fn = on_timer;
    conn->timer.user = conn;
    conn->close_later.fn = finish_later;
    conn->close_later.user = conn;
    dp_connection_init_out(conn);
    dp_restart_init(conn);
    conn->deadline = dp_loop_now(peer->loop) + SETUP_TIMEOUT;
    conn->remote_id = dp_strdup(remote_id);
    conn->id = dp_strdup(id);
    dp_dechunker_config dechunker = {.size = sizeof(dechunker),
                                     .max_value_size = peer->max_value_size,
                                     .max_total = peer->max_unfinished_size,
                                     .timeout = peer->max_unfinished_time};
    int error = conn->remote_id == NULL || conn->id == NULL ? DP_ERR_NO_MEMORY : copy_options(conn, options);
    if (error == DP_OK && conn->serialization == SERIALIZATION_MSGPACK)
        error = dp_unpacker_new(&conn->unpacker, peer->max_value_size, peer->max_unfinished_time);
    else if (error == DP_OK)
        error = dp_dechunker_new(&conn->dechunker, &dechunker);
    if (error != DP_OK) {
        dp_connection_free(conn);
        return error;
    }
    dp_connection_rearm(conn);
    *out = conn;
    return DP_OK;
}

void dp_connection_free(dp_connection *conn)
{
    for (dp_connection **at = &conn->peer->connections; *at != NULL; at = &(*at)->next)
        if (*at == conn) {
            *at = conn->next;
            conn->peer->connection_count--;
            break;
        }
    dp_timer_stop(&conn->timer);
    dp_timer_stop(&conn->restart_timer);
    dp_undefer(&conn->close_later);
    dp_runner_free(conn->runner);
    dp_mux_free(conn->own_mux);
    dp_connection_clear_out(conn);
    dp_dechunker_free(conn->dechunker);
    dp_unpacker_free(conn->unpacker);
    dp_rpc_free(conn->rpc);
    dp_free(conn->remote_id);
    dp_free(conn->id);
    dp_free(conn->label);
    dp_free(conn->metadata);
    dp_free(conn->serialization_name);
    dp_free(conn);
}

void dp_connection_report(dp_connection *conn, const char *type, const char *message)
{
    dp_log_level level = conn->handler.on_error != NULL ? DP_LOG_INFO : DP_LOG_WARN;
    DP_LOG(&conn->peer->log, level, layer, "connection with %s: %s: %s", conn->remote_id, type, message);
    if (conn->handler.on_error != NULL)
        conn->handler.on_error(conn->handler.user, conn, type, message);
}

void dp_connection_finish(dp_connection *conn)
{
    dp_undefer(&conn->close_later);
    dp_undefer(&conn->tell_later);
    if (conn->rpc != NULL)
        dp_rpc_close(conn->rpc, DP_ERR_CLOSED);
    if (conn->handler.on_close != NULL)
        conn->handler.on_close(conn->handler.user, conn);
    dp_connection_free(conn);
}

static void finish_later(void *user) { dp_connection_finish(user); }

void dp_connection_end(dp_connection *conn, const char *error_type, const char *message)
{
    if (conn->state == CONNECTION_CLOSED)
        return;
    conn->state = CONNECTION_CLOSED;
    conn->channel = NULL;
    dp_timer_stop(&conn->timer);
    dp_timer_stop(&conn->restart_timer);
    if (error_type != NULL)
        dp_connection_report(conn, error_type, message);
    dp_defer(conn->peer->loop, &conn->close_later);
}

/* ---- time ---- */

static dp_time receiver_timeout(const dp_connection *conn)
{
    return conn->unpacker != NULL ? dp_unpacker_next_timeout(conn->unpacker)
                                  : dp_dechunker_next_timeout(conn->dechunker);
}

void dp_connection_rearm(dp_connection *conn)
{
    if (conn->state == CONNECTION_CLOSED)
        return;
    dp_time at = conn->deadline;
    dp_time receiver = receiver_timeout(conn);
    dp_time rpc = conn->rpc != NULL ? dp_rpc_next_timeout(conn->rpc) : DP_TIME_NEVER;
    at = receiver < at ? receiver : at;
    at = rpc < at ? rpc : at;
    at = conn->path_deadline < at ? conn->path_deadline : at;
    if (at != conn->timer.at || conn->timer.loop == NULL)
        dp_timer_set(conn->peer->loop, &conn->timer, at);
}

static void on_timer(void *user)
{
    dp_connection *conn = user;
    dp_time now = dp_loop_now(conn->peer->loop);
    if (conn->dechunker != NULL)
        dp_dechunker_handle_timeout(conn->dechunker, now);
    if (conn->rpc != NULL)
        dp_rpc_handle_timeout(conn->rpc, now);
    if (conn->deadline <= now) {
        bool flushing = conn->state == CONNECTION_FLUSHING;
        dp_connection_end(conn, flushing ? NULL : "negotiation-failed",
                          "no channel was opened within 60 s: is the other side still there?");
        return;
    }
    if (conn->path_deadline <= now) {
        dp_connection_end(conn, "connection-closed",
                          "the network path to the other side was lost for too long");
        return;
    }
    if (conn->unpacker != NULL && dp_unpacker_next_timeout(conn->unpacker) <= now) {
        /* Of a stream without framing nothing can be left out. */
        dp_connection_end(conn, "connection-closed", "the other side began a value and did not go on");
        return;
    }
    dp_connection_rearm(conn);
    if (conn->runner != NULL)
        dp_runner_wake(conn->runner);
}

/* ---- the way in ---- */

static void deliver(dp_connection *conn, dp_message *message)
{
    /* What is no context of the rpc is the user's. */
    if (message->value != NULL && conn->rpc != NULL &&
        dp_rpc_input(conn->rpc, dp_loop_now(conn->peer->loop), message->value) == DP_OK)
        return;
    if (conn->handler.on_data != NULL)
        conn->handler.on_data(conn->handler.user, conn, message);
    dp_value_free(message->value);
}

static void on_binary(dp_connection *conn, const uint8_t *data, size_t len)
{
    dp_dechunked what = DP_DECHUNKED_NOTHING;
    dp_message message = {.type = DP_MESSAGE_VALUE};
    int error =
        dp_dechunker_input(conn->dechunker, dp_loop_now(conn->peer->loop), data, len, &what, &message.value);
    if (error != DP_OK)
        dp_connection_report(conn, "protocol", dp_strerror(error));
    else if (what == DP_DECHUNKED_VALUE)
        deliver(conn, &message);
    else if (what == DP_DECHUNKED_CLOSE)
        dp_connection_end(conn, NULL, NULL);
}

static bool is_close(const dp_value *value)
{
    const char *type = dp_value_get_string(dp_value_get(dp_value_get(value, "__peerData"), "type"), NULL);
    return type != NULL && strcmp(type, "close") == 0;
}

/* A value: the other side's wish to close, or for the user. */
static void take_value(dp_connection *conn, dp_value *value)
{
    dp_message message = {.type = DP_MESSAGE_VALUE, .value = value};
    if (!is_close(value)) {
        deliver(conn, &message);
        return;
    }
    dp_value_free(value);
    dp_connection_end(conn, NULL, NULL);
}

static void on_msgpack(dp_connection *conn, const uint8_t *data, size_t len)
{
    dp_value *value = NULL;
    int error = dp_unpacker_input(conn->unpacker, dp_loop_now(conn->peer->loop), data, len);
    while (error == DP_OK && (conn->state == CONNECTION_OPEN || conn->state == CONNECTION_FLUSHING)) {
        error = dp_unpacker_next(conn->unpacker, &value);
        if (error == DP_OK) {
            take_value(conn, value);
        } else if (error == DP_ERR_MALFORMED || error == DP_ERR_LIMIT) {
            dp_connection_report(conn, "protocol", dp_strerror(error));
            error = DP_OK;
        }
    }
    if (error != DP_OK && error != DP_ERR_WOULD_BLOCK) /* nothing behind it can be understood */
        dp_connection_end(conn, "connection-closed", dp_strerror(error));
}

static void on_json(dp_connection *conn, const uint8_t *data, size_t len)
{
    dp_value *value = NULL;
    int error = dp_value_from_json(&value, (const char *)data, len);
    if (error != DP_OK)
        dp_connection_report(conn, "protocol", dp_strerror(error));
    else
        take_value(conn, value);
}

void dp_connection_on_message(dp_connection *conn, const dp_pc_event *event)
{
    if (conn->state != CONNECTION_OPEN && conn->state != CONNECTION_FLUSHING)
        return;
    if (conn->serialization == SERIALIZATION_RAW) {
        dp_message message = {.type = event->binary ? DP_MESSAGE_BYTES : DP_MESSAGE_TEXT,
                              .data = event->data,
                              .len = event->len};
        deliver(conn, &message);
    } else if (!event->binary) {
        /* PeerJS delivers the number 0 or throws: nothing that anybody can want. */
        dp_connection_report(conn, "protocol", "a text message on a connection that is not raw was dropped");
    } else if (conn->serialization == SERIALIZATION_BINARY) {
        on_binary(conn, event->data, event->len);
    } else if (conn->serialization == SERIALIZATION_MSGPACK) {
        on_msgpack(conn, event->data, event->len);
    } else {
        on_json(conn, event->data, event->len);
    }
}

/* ---- rpc ---- */

static void on_rpc_ready(void *user)
{
    dp_connection *conn = user;
    if (conn->state == CONNECTION_OPEN || conn->state == CONNECTION_FLUSHING)
        dp_runner_wake(conn->runner);
}

int dp_connection_use_rpc(dp_connection *conn, dp_router *router)
{
    if (conn->rpc != NULL || conn->serialization == SERIALIZATION_RAW || conn->state == CONNECTION_CLOSED)
        return DP_ERR_INVALID_STATE;
    dp_rpc_config config = {.size = sizeof(config),
                            .random = conn->peer->random,
                            .log = conn->peer->log,
                            .router = router,
                            .user = conn,
                            .on_ready = on_rpc_ready,
                            .fits =
                                conn->serialization != SERIALIZATION_BINARY ? dp_connection_rpc_fits : NULL,
                            .no_streams = conn->serialization == SERIALIZATION_JSON};
    return dp_rpc_new(&conn->rpc, &config);
}

dp_connection *dp_call_connection(const dp_call *call) { return dp_rpc_user(dp_call_rpc(call)); }

int dp_connection_request(dp_connection *conn, const dp_request *request, char id[DP_REQUEST_ID_LEN + 1])
{
    int error = DP_OK;
    if (conn->rpc == NULL)
        error = DP_ERR_INVALID_STATE;
    else if (conn->state != CONNECTION_OPEN)
        error = conn->state == CONNECTION_CONNECTING ? DP_ERR_INVALID_STATE : DP_ERR_CLOSED;
    if (error != DP_OK) {
        dp_value_free(request->body);
        return error;
    }
    error = dp_rpc_request(conn->rpc, dp_loop_now(conn->peer->loop), request, id);
    dp_connection_rearm(conn);
    return error;
}

int dp_connection_cancel(dp_connection *conn, const char *id)
{
    return conn->rpc == NULL ? DP_ERR_NOT_FOUND : dp_rpc_cancel(conn->rpc, id);
}

/* ---- getters ---- */

void dp_connection_set_handler(dp_connection *conn, const dp_connection_handler *handler)
{
    conn->handler = *handler;
}
dp_peer *dp_connection_get_peer(const dp_connection *conn) { return conn->peer; }
const char *dp_connection_remote_id(const dp_connection *conn) { return conn->remote_id; }
const char *dp_connection_id(const dp_connection *conn) { return conn->id; }
const char *dp_connection_label(const dp_connection *conn) { return conn->label; }
const char *dp_connection_metadata(const dp_connection *conn) { return conn->metadata; }
const char *dp_connection_serialization(const dp_connection *conn) { return conn->serialization_name; }
bool dp_connection_reliable(const dp_connection *conn) { return conn->reliable; }
bool dp_connection_is_open(const dp_connection *conn) { return conn->state == CONNECTION_OPEN; }
const char *dp_connection_state_name(const dp_connection *conn)
{
    return conn->runner == NULL ? "new" : dp_pc_state_name(dp_pc_get_state(dp_runner_pc(conn->runner)));
}
