/* What leaves by a DataConnection: values are packed in the way of its serialization, queued, cut in pieces, and handed to the
 * channel while that has room. */
#include "peer/connection.h"

#include <string.h>

enum {
    MAX_QUEUED = 16 << 20, /* bytes that send accepts before WOULD_BLOCK */
    MAX_QUEUED_MESSAGES = 65536,
    MSGPACK_PIECE = 32768, /* as PeerJS cuts the stream */
};
#define FLUSH_TIMEOUT DP_SECONDS(10)

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

/* ---- the serialization ---- */

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

/* PeerJS's limit for json, and the other side's. */
static bool fits_json(const dp_connection *conn, size_t len)
{
    return len < DP_CHUNK_SIZE && fits_one_message(conn, len);
}

/* What goes for a value goes for requests and answers, too. */
int dp_connection_rpc_fits(void *user, const dp_value *context)
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

/* ---- from the queue to the channel ---- */

static void report_room(dp_connection *conn)
{
    if (!conn->blocked || conn->queued > MAX_QUEUED / 2)
        return;
    conn->blocked = false;
    if (conn->handler.on_drain != NULL)
        conn->handler.on_drain(conn->handler.user, conn);
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

/* ---- from the user to the queue ---- */

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

/* ---- life ---- */

void dp_connection_init_out(dp_connection *conn)
{
    conn->next_chunk_id = 1;
    conn->tell_later = (dp_deferred){.fn = tell_refused, .user = conn};
    dp_queue_init(&conn->queue, sizeof(outgoing), MAX_QUEUED_MESSAGES);
}

void dp_connection_clear_out(dp_connection *conn)
{
    dp_undefer(&conn->tell_later);
    for (outgoing item; dp_queue_pop(&conn->queue, &item);)
        dp_free(item.data);
    dp_queue_clear(&conn->queue);
    dp_free(conn->current.data);
    dp_free(conn->goodbye.data);
}
