/* DataConnection: values out (queued, packed, cut in pieces, handed to the channel while it has room) and in.
 */
#include "peer/connection.h"

#include <stdio.h>
#include <string.h>

static const char layer[] = "peer";

enum {
    MAX_QUEUED = 16 << 20, /* bytes that send accepts before WOULD_BLOCK */
    MAX_QUEUED_MESSAGES = 65536,
    MSGPACK_PIECE = 32768, /* as PeerJS cuts the stream */
};
#define SETUP_TIMEOUT                                                                                        \
    DP_SECONDS(60) /* from the offer to an open channel; ICE and DTLS have 30 s limits of their own */
#define FLUSH_TIMEOUT DP_SECONDS(10)

/* ---- life ---- */

static void on_timer(void *user);
static void finish_later(void *user);
static void tell_refused(void *user);

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
    conn->next_chunk_id = 1;
    conn->timer.fn = on_timer;
    conn->timer.user = conn;
    conn->close_later.fn = finish_later;
    conn->close_later.user = conn;
    conn->tell_later = (dp_deferred){.fn = tell_refused, .user = conn};
    dp_restart_init(conn);
    conn->deadline = dp_loop_now(peer->loop) + SETUP_TIMEOUT;
    dp_queue_init(&conn->queue, sizeof(outgoing), MAX_QUEUED_MESSAGES);
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
    dp_undefer(&conn->tell_later);
    dp_runner_free(conn->runner);
    dp_mux_free(conn->own_mux);
    outgoing item;
    while (dp_queue_pop(&conn->queue, &item))
        dp_free(item.data);
    dp_queue_clear(&conn->queue);
    dp_free(conn->current.data);
    dp_free(conn->goodbye.data);
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

/* ---- errors that a call has returned already ---- */

static void tell_refused(void *user)
{
    dp_connection *conn = user;
    unsigned refused = conn->refused;
    conn->refused = 0;
    if (conn->state != CONNECTION_CLOSED && (refused & REFUSED_NOT_OPEN) != 0)
        dp_connection_report(conn, "not-open-yet",
                             "Connection is not open. Wait for on_open before sending messages.");
    if (conn->state != CONNECTION_CLOSED && (refused & REFUSED_TOO_BIG) != 0)
        dp_connection_report(conn, "message-too-big", "Message too big for JSON channel");
}

static int refuse(dp_connection *conn, unsigned what, int error)
{
    conn->refused |= what;
    dp_defer(conn->peer->loop, &conn->tell_later);
    return error;
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

/* ---- the way out ---- */

static void report_room(dp_connection *conn)
{
    if (!conn->blocked || conn->queued > MAX_QUEUED / 2)
        return;
    conn->blocked = false;
    if (conn->handler.on_drain != NULL)
        conn->handler.on_drain(conn->handler.user, conn);
}

static bool fits_one_message(const dp_connection *conn, size_t len)
{
    uint64_t max = dp_pc_remote_max_message_size(dp_runner_pc(conn->runner));
    return max == 0 || len <= max;
}

/* In the way of the connection's serialization. */
static int serialize(const dp_connection *conn, const dp_value *value, uint8_t **data, size_t *len)
{
    char *text = NULL;
    int error;
    switch (conn->serialization) {
    case SERIALIZATION_BINARY:
        return dp_binarypack_encode(value, data, len);
    case SERIALIZATION_MSGPACK:
        return dp_msgpack_encode(value, data, len);
    default:
        error = dp_value_to_json(value, &text, len);
        *data = (uint8_t *)text;
        return error;
    }
}

/* What the rpc has packed for binary. */
static bool serialize_again(const dp_connection *conn, outgoing *packed)
{
    dp_value *value = NULL;
    uint8_t *data = NULL;
    size_t len = 0;
    int error = dp_binarypack_decode(&value, packed->data, packed->len);
    if (error == DP_OK)
        error = serialize(conn, value, &data, &len);
    dp_value_free(value);
    dp_free(packed->data);
    *packed = (outgoing){.data = data, .len = len};
    return error == DP_OK;
}

/* An answer or request. One for which there is no memory is left out: whoever waits for it times out, and the connection
 * lives. */
static bool next_of_rpc(dp_connection *conn)
{
    outgoing *out = &conn->current;
    while (conn->rpc != NULL &&
           dp_rpc_poll_transmit(conn->rpc, dp_loop_now(conn->peer->loop), &out->data, &out->len)) {
        if (conn->serialization == SERIALIZATION_BINARY || serialize_again(conn, out))
            return true;
        dp_free(out->data);
        memset(out, 0, sizeof(*out));
        dp_connection_report(conn, "protocol", "a request or answer could not be packed and was left out");
        if (conn->state == CONNECTION_CLOSED)
            break;
    }
    return false;
}

/* The next thing to send becomes current: what the user queued, else the rpc's, else the goodbye. */
static bool next_outgoing(dp_connection *conn)
{
    if (dp_queue_pop(&conn->queue, &conn->current)) {
        conn->queued -= conn->current.len;
        report_room(conn);
    } else if (!next_of_rpc(conn)) {
        if (conn->goodbye.data == NULL)
            return false;
        conn->current = conn->goodbye;
        memset(&conn->goodbye, 0, sizeof(conn->goodbye));
    }
    conn->sent = 0;
    /* An id only where pieces are needed, as PeerJS counts them. */
    bool cut = conn->serialization == SERIALIZATION_BINARY && conn->current.len > DP_CHUNK_SIZE;
    if (cut)
        dp_chunker_init(&conn->chunker, conn->current.data, conn->current.len, conn->next_chunk_id++);
    else
        memset(&conn->chunker, 0, sizeof(conn->chunker));
    return true;
}

static int send_of_stream(dp_connection *conn, dp_time now, bool *last)
{
    uint64_t max = dp_pc_remote_max_message_size(dp_runner_pc(conn->runner));
    size_t left = conn->current.len - conn->sent;
    size_t len = left < MSGPACK_PIECE ? left : MSGPACK_PIECE;
    len = max == 0 || len <= max ? len : (size_t)max;
    int error = dp_channel_send(conn->channel, now, conn->current.data + conn->sent, len, true, true);
    if (error == DP_OK)
        conn->sent += len;
    *last = conn->sent == conn->current.len;
    return error;
}

/* Hands one message of current over. What we send is ordered even on an unordered channel: the receiver
 * follows each message's U flag, and the reference page puts a stream together in the order of arrival
 * (docs/peerjs.md 4.6). */
static int send_piece(dp_connection *conn, bool *last)
{
    dp_time now = dp_loop_now(conn->peer->loop);
    if (conn->serialization == SERIALIZATION_MSGPACK)
        return send_of_stream(conn, now, last);
    if (conn->chunker.data == NULL) {
        *last = true;
        return dp_channel_send(conn->channel, now, conn->current.data, conn->current.len, !conn->current.text,
                               true);
    }
    uint8_t piece[DP_CHUNK_MESSAGE_MAX];
    dp_chunker before = conn->chunker;
    size_t len;
    int error = dp_chunker_next(&conn->chunker, piece, sizeof(piece), &len);
    if (error == DP_OK)
        error = dp_channel_send(conn->channel, now, piece, len, true, true);
    if (error == DP_ERR_WOULD_BLOCK)
        conn->chunker = before;
    *last = dp_chunker_count(&conn->chunker) == 0;
    return error;
}

void dp_connection_fill(dp_connection *conn)
{
    while (conn->channel != NULL && (conn->state == CONNECTION_OPEN || conn->state == CONNECTION_FLUSHING) &&
           dp_channel_buffered_amount(conn->channel) < CONNECTION_HIGH_WATER) {
        if (conn->current.data == NULL && !next_outgoing(conn))
            break;
        if (conn->channel == NULL) /* on_drain closed it */
            break;
        bool last = false;
        int error = send_piece(conn, &last);
        if (error == DP_ERR_WOULD_BLOCK)
            break;
        if (error != DP_OK) {
            /* A value that lost a piece can never arrive: PeerJS closes the connection too. */
            dp_connection_end(conn, "connection-closed", dp_strerror(error));
            break;
        }
        if (last) {
            dp_free(conn->current.data);
            memset(&conn->current, 0, sizeof(conn->current));
        }
    }
    if (conn->state == CONNECTION_FLUSHING && conn->flush_left != dp_connection_buffered(conn)) {
        conn->flush_left = dp_connection_buffered(conn);
        conn->deadline = dp_loop_now(conn->peer->loop) + FLUSH_TIMEOUT;
    }
    dp_connection_rearm(conn);
}

/* Takes data in every case. */
static int enqueue(dp_connection *conn, uint8_t *data, size_t len, bool text)
{
    int error = DP_OK;
    if (conn->state != CONNECTION_OPEN)
        error = conn->state == CONNECTION_CONNECTING ? DP_ERR_INVALID_STATE : DP_ERR_CLOSED;
    else if (conn->queued >= MAX_QUEUED)
        error = DP_ERR_WOULD_BLOCK;
    outgoing *item = error == DP_OK ? dp_queue_push(&conn->queue) : NULL;
    if (error == DP_OK && item == NULL)
        error = conn->queue.count == conn->queue.max ? DP_ERR_WOULD_BLOCK : DP_ERR_NO_MEMORY;
    if (error != DP_OK) {
        conn->blocked = conn->blocked || error == DP_ERR_WOULD_BLOCK;
        dp_free(data);
        return error;
    }
    *item = (outgoing){data, len, text};
    conn->queued += len;
    dp_runner_wake(conn->runner);
    return DP_OK;
}

/* PeerJS's limit for json, and the other side's. */
static bool fits_json(const dp_connection *conn, size_t len)
{
    return len < DP_CHUNK_SIZE && fits_one_message(conn, len);
}

static int check_open(dp_connection *conn)
{
    if (conn->state == CONNECTION_CONNECTING)
        return refuse(conn, REFUSED_NOT_OPEN, DP_ERR_INVALID_STATE);
    return conn->state == CONNECTION_OPEN ? DP_OK : DP_ERR_CLOSED;
}

int dp_connection_send(dp_connection *conn, const dp_value *value)
{
    if (conn->serialization == SERIALIZATION_RAW)
        return DP_ERR_UNSUPPORTED;
    int error = check_open(conn);
    if (error != DP_OK)
        return error;
    if (dp_value_get_type(value) == DP_VALUE_NULL)
        return DP_ERR_INVALID_ARGUMENT;
    uint8_t *data = NULL;
    size_t len = 0;
    error = serialize(conn, value, &data, &len);
    if (error != DP_OK)
        return error;
    if (conn->serialization == SERIALIZATION_JSON && !fits_json(conn, len)) {
        dp_free(data);
        return refuse(conn, REFUSED_TOO_BIG, DP_ERR_TOO_LARGE);
    }
    return enqueue(conn, data, len, false);
}

static int send_raw(dp_connection *conn, const void *data, size_t len, bool text)
{
    if (conn->serialization != SERIALIZATION_RAW)
        return DP_ERR_UNSUPPORTED;
    int error = check_open(conn);
    if (error != DP_OK)
        return error;
    if (!fits_one_message(conn, len))
        return DP_ERR_TOO_LARGE;
    uint8_t *copy = dp_alloc(len);
    if (copy == NULL)
        return DP_ERR_NO_MEMORY;
    if (len > 0)
        memcpy(copy, data, len);
    return enqueue(conn, copy, len, text);
}

int dp_connection_send_text(dp_connection *conn, const char *text, size_t len)
{
    return send_raw(conn, text, len, true);
}

int dp_connection_send_bytes(dp_connection *conn, const uint8_t *data, size_t len)
{
    return send_raw(conn, data, len, false);
}

size_t dp_connection_buffered(const dp_connection *conn)
{
    size_t in_channel = conn->channel != NULL ? dp_channel_buffered_amount(conn->channel) : 0;
    return conn->queued + conn->current.len + in_channel;
}

size_t dp_connection_buffer_size(const dp_connection *conn)
{
    return conn->queue.count + (conn->current.data != NULL);
}

void dp_connection_close(dp_connection *conn) { dp_connection_end(conn, NULL, NULL); }

int dp_connection_close_flush(dp_connection *conn)
{
    if (conn->state != CONNECTION_OPEN)
        return DP_ERR_INVALID_STATE;
    dp_value *type = dp_value_map();
    dp_value *value = dp_value_map();
    uint8_t *data = NULL;
    size_t len = 0;
    int error = dp_value_set(type, "type", dp_value_string("close"));
    int nested = dp_value_set(value, "__peerData", type); /* takes type in every case */
    error = error != DP_OK ? error : nested;
    /* On raw PeerJS sends "[object Object]", which means nothing to anybody: JSON is no worse. */
    if (error == DP_OK)
        error = serialize(conn, value, &data, &len);
    dp_value_free(value);
    if (error != DP_OK)
        return error;
    conn->goodbye = (outgoing){data, len, conn->serialization == SERIALIZATION_RAW};
    conn->state = CONNECTION_FLUSHING;
    conn->flush_left = dp_connection_buffered(conn);
    conn->deadline = dp_loop_now(conn->peer->loop) + FLUSH_TIMEOUT;
    dp_connection_rearm(conn);
    dp_runner_wake(conn->runner);
    return DP_OK;
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

/* What goes for a value goes for requests and answers, too. */
static int rpc_fits(void *user, const dp_value *context)
{
    dp_connection *conn = user;
    uint8_t *data = NULL;
    size_t len = 0;
    int error = serialize(conn, context, &data, &len);
    dp_free(data);
    if (error == DP_OK && conn->serialization == SERIALIZATION_JSON && !fits_json(conn, len))
        error = DP_ERR_TOO_LARGE;
    return error == DP_ERR_TOO_LARGE ? refuse(conn, REFUSED_TOO_BIG, error) : error;
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
                            .fits = conn->serialization != SERIALIZATION_BINARY ? rpc_fits : NULL,
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
