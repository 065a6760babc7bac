/* Who is there, and what they tell each other. */
#include "server.h"

#include "base/log.h"
#include "base/mem.h"
#include <string.h>

/* ---- frames ---------------------------------------------------------------------------------------- */

static void send_text(dp_signal_server *s, dp_signal_conn *conn, const char *text, size_t len)
{
    uint8_t head[WS_HEAD_MAX];
    size_t head_len = dp_ws_write_head(head, WS_TEXT, len);
    uint8_t *at = dp_conn_reserve(s, conn, head_len + len);
    if (at == NULL)
        return;
    memcpy(at, head, head_len);
    memcpy(at + head_len, text, len);
}

static void send_literal(dp_signal_server *s, dp_signal_conn *conn, const char *text)
{
    send_text(s, conn, text, strlen(text));
}

bool dp_realm_send(dp_signal_server *s, dp_signal_conn *conn, dp_relay_type type, const char *src,
                   dp_slice payload)
{
    size_t room = WS_HEAD_MAX + dp_relay_size(src, conn->id, payload);
    uint8_t *at = dp_conn_reserve(s, conn, room);
    if (at == NULL)
        return false;
    /* Its length is known when it is written: the head comes then, and the text moves up to it. */
    uint8_t head[WS_HEAD_MAX];
    dp_wr wr = dp_wr_init(at + WS_HEAD_MAX, room - WS_HEAD_MAX);
    dp_relay_write(&wr, type, src, conn->id, payload);
    size_t head_len = dp_ws_write_head(head, WS_TEXT, wr.len);
    memmove(at + head_len, wr.start, wr.len);
    memcpy(at, head, head_len);
    dp_conn_trim(s, conn, room - head_len - wr.len);
    return true;
}

/* ---- messages for those who are absent --------------------------------------------------------------- */

void dp_realm_drop_absent(dp_signal_server *s, absent *queue)
{
    absent_message message;
    while (dp_queue_pop(&queue->messages, &message))
        dp_free(message.src);
    dp_queue_clear(&queue->messages);
    s->buffered -= queue->bytes;
    dp_list_remove(&s->waiting, &queue->link);
    dp_table_remove(&s->absentees, queue->dst, strlen(queue->dst));
    dp_free(queue->dst);
    dp_free(queue);
}

static absent *absent_new(dp_signal_server *s, const char *dst)
{
    absent *queue = s->waiting.count < ABSENT_MAX ? dp_calloc(1, sizeof(*queue)) : NULL;
    if (queue == NULL)
        return NULL;
    dp_queue_init(&queue->messages, sizeof(absent_message), ABSENT_MESSAGES_MAX);
    queue->dst = dp_strdup(dst);
    if (queue->dst == NULL || dp_table_set(&s->absentees, dst, strlen(dst), queue, NULL) != DP_OK) {
        dp_free(queue->dst);
        dp_free(queue);
        return NULL;
    }
    dp_list_append(&s->waiting, &queue->link, s->now + s->config.expire_timeout);
    return queue;
}

bool dp_realm_has_room(const dp_signal_server *s, const char *dst, size_t size)
{
    const absent *queue = dp_table_get(&s->absentees, dst, strlen(dst));
    /* The other half is for those who are here. */
    if (size > ABSENT_BYTES_MAX || s->buffered + size > s->config.total_buffer / 2)
        return false;
    return queue != NULL
               ? queue->messages.count < ABSENT_MESSAGES_MAX && size <= ABSENT_BYTES_MAX - queue->bytes
               : s->waiting.count < ABSENT_MAX;
}

absent_message *dp_realm_keep(dp_signal_server *s, const char *dst, size_t size)
{
    absent *queue = dp_table_get(&s->absentees, dst, strlen(dst));
    if (!dp_realm_has_room(s, dst, size))
        return NULL;
    if (queue == NULL)
        queue = absent_new(s, dst);
    absent_message *message = queue != NULL ? dp_queue_push(&queue->messages) : NULL;
    if (message == NULL)
        return NULL;
    message->size = size;
    queue->bytes += size;
    s->buffered += size;
    return message;
}

/* What there is no room for expires at once. */
static void queue_message(dp_signal_server *s, dp_signal_conn *from, dp_relay_type type, const char *dst,
                          dp_slice payload)
{
    size_t src_size = strlen(from->id) + 1;
    size_t size = src_size + dp_relay_size(from->id, dst, payload);
    char *block = dp_alloc(size);
    absent_message *message = block != NULL ? dp_realm_keep(s, dst, size) : NULL;
    if (message == NULL) {
        dp_free(block);
        s->stats.dropped++;
        dp_realm_send(s, from, RELAY_EXPIRE, dst, (dp_slice){0});
        return;
    }
    memcpy(block, from->id, src_size);
    dp_wr wr = dp_wr_init((uint8_t *)block + src_size, size - src_size);
    dp_relay_write(&wr, type, from->id, dst, payload);
    message->src = block;
    message->len = wr.len;
    s->stats.queued++;
}

void dp_realm_tell_expired(dp_signal_server *s, const char *src, const char *dst)
{
    dp_signal_conn *sender = dp_table_get(&s->clients, src, strlen(src));
    if (sender != NULL)
        dp_realm_send(s, sender, RELAY_EXPIRE, dst, (dp_slice){0});
    else
        (void)dp_cluster_forward(s, 0, RELAY_EXPIRE, dst, src, (dp_slice){0});
}

static bool heard_before(const absent *queue, size_t i)
{
    const absent_message *message = dp_queue_at(&queue->messages, i);
    for (size_t k = 0; k < i; k++) {
        const absent_message *earlier = dp_queue_at(&queue->messages, k);
        if (strcmp(earlier->src, message->src) == 0)
            return true;
    }
    return false;
}

void dp_realm_expire(dp_signal_server *s, absent *queue)
{
    bool kept_elsewhere = false;
    for (size_t i = 0; i < queue->messages.count; i++)
        kept_elsewhere |= ((const absent_message *)dp_queue_at(&queue->messages, i))->len == 0;
    bool asked = kept_elsewhere && dp_cluster_withdraw(s, queue->dst);
    for (size_t i = 0; i < queue->messages.count; i++) {
        const absent_message *message = dp_queue_at(&queue->messages, i);
        if (asked && message->len == 0)
            continue;
        s->stats.expired++;
        if (!heard_before(queue, i))
            dp_realm_tell_expired(s, message->src, queue->dst);
    }
    dp_server_tell(s, DP_SIGNAL_EVENT_EXPIRED, queue->dst, NULL, NULL);
    dp_realm_drop_absent(s, queue);
}

static void deliver_queue(dp_signal_server *s, dp_signal_conn *conn)
{
    absent *queue = dp_table_get(&s->absentees, conn->id, strlen(conn->id));
    if (queue == NULL)
        return;
    for (size_t i = 0; i < queue->messages.count; i++) {
        const absent_message *message = dp_queue_at(&queue->messages, i);
        if (message->len == 0) /* comes from the cluster */
            continue;
        send_text(s, conn, message->src + strlen(message->src) + 1, message->len);
        s->stats.relayed++;
    }
    dp_realm_drop_absent(s, queue);
}

/* ---- joining and leaving ----------------------------------------------------------------------------- */

void dp_realm_leave(dp_signal_server *s, dp_signal_conn *conn, const char *reason)
{
    if (!conn->member)
        return;
    conn->member = false;
    dp_table_remove(&s->clients, conn->id, strlen(conn->id));
    dp_cluster_release(s, conn);
    dp_server_tell(s, DP_SIGNAL_EVENT_LEFT, conn->id, reason, conn);
}

void dp_realm_dismiss(dp_signal_server *s, dp_signal_conn *conn, uint16_t code, const char *reason)
{
    uint8_t frame[WS_HEAD_MAX + 2];
    if (conn->state >= CONN_CLOSING)
        return;
    size_t len = dp_ws_write_head(frame, WS_CLOSE, code != 0 ? 2 : 0);
    if (code != 0) {
        frame[len++] = (uint8_t)(code >> 8);
        frame[len++] = (uint8_t)code;
    }
    dp_realm_leave(s, conn, reason);
    dp_conn_put(s, conn, frame, len);
    dp_conn_close(s, conn, true);
}

static void refuse(dp_signal_server *s, dp_signal_conn *conn, const char *message, const char *reason)
{
    s->stats.refused++;
    dp_server_tell(s, DP_SIGNAL_EVENT_REFUSED, NULL, reason, conn);
    send_literal(s, conn, message);
    dp_realm_dismiss(s, conn, 0, reason);
}

static bool same_secret(const char *a, const char *b)
{
    size_t len = strlen(a);
    return len == strlen(b) && dp_equal_constant_time(a, b, len);
}

static bool token_admits(const dp_signal_server *s, const char *token)
{
    size_t len = s->access_token != NULL ? strlen(s->access_token) : 0;
    return len == 0 || (strlen(token) > len && dp_equal_constant_time(token, s->access_token, len));
}

static int remember(dp_signal_conn *conn, const char *id, const char *token)
{
    size_t id_size = strlen(id) + 1;
    size_t token_size = strlen(token) + 1;
    char *block = dp_alloc(id_size + token_size);
    if (block == NULL)
        return DP_ERR_NO_MEMORY;
    memcpy(block, id, id_size);
    memcpy(block + id_size, token, token_size);
    conn->id = block;
    conn->token = block + id_size;
    return DP_OK;
}

#define ERROR_MESSAGE(msg) "{\"type\":\"ERROR\",\"payload\":{\"msg\":\"" msg "\"}}"

void dp_realm_refuse_taken(dp_signal_server *s, dp_signal_conn *conn)
{
    refuse(s, conn, "{\"type\":\"ID-TAKEN\",\"payload\":{\"msg\":\"ID is taken\"}}", "the id is taken");
}

static bool is_full(const dp_signal_server *s)
{
    return s->clients.count + s->conns[CONN_ASKING].count >= s->config.concurrent_limit;
}

void dp_realm_admit(dp_signal_server *s, dp_signal_conn *conn)
{
    dp_signal_conn *holder = dp_table_get(&s->clients, conn->id, strlen(conn->id));
    if (holder != NULL && !same_secret(conn->token, holder->token)) {
        dp_realm_refuse_taken(s, conn);
        return;
    }
    if (holder != NULL)
        dp_realm_dismiss(s, holder, 1000, "it comes by another connection");
    if (conn->state == CONN_FINISHED) /* that took its room */
        return;
    if (dp_table_set(&s->clients, conn->id, strlen(conn->id), conn, NULL) != DP_OK) {
        dp_conn_cut(s, conn, dp_strerror(DP_ERR_NO_MEMORY));
        return;
    }
    conn->member = true;
    s->stats.joined++;
    dp_conn_enter(s, conn, CONN_JOINED);
    dp_server_tell(s, DP_SIGNAL_EVENT_JOINED, conn->id, NULL, conn);
    send_literal(s, conn, "{\"type\":\"OPEN\"}");
    deliver_queue(s, conn);
}

void dp_realm_join(dp_signal_server *s, dp_signal_conn *conn, const char *id, const char *token,
                   const char *key)
{
    dp_conn_enter(s, conn, CONN_JOINED);
    if (id == NULL || token == NULL || key == NULL) {
        dp_server_forgive(s, conn);
        refuse(s, conn, ERROR_MESSAGE("No id, token, or key supplied to websocket server"),
               "no id, token or key, or one that can't be");
        return;
    }
    if (!same_secret(key, s->key)) {
        refuse(s, conn, ERROR_MESSAGE("Invalid key provided"), "another key");
        return;
    }
    if (!token_admits(s, token)) {
        refuse(s, conn, ERROR_MESSAGE("Invalid token provided"), "no access token");
        return;
    }
    const dp_signal_conn *holder = dp_table_get(&s->clients, id, strlen(id));
    if (holder == NULL && is_full(s)) {
        refuse(s, conn, ERROR_MESSAGE("Server has reached its concurrent user limit"), "the server is full");
        return;
    }
    if (remember(conn, id, token) != DP_OK) {
        dp_conn_cut(s, conn, dp_strerror(DP_ERR_NO_MEMORY));
        return;
    }
    bool taken = holder != NULL && !same_secret(token, holder->token);
    bool asked = !taken && dp_cluster_claim(s, conn);
    if (asked && holder == NULL)
        dp_cluster_wait(s, conn);
    else
        dp_realm_admit(s, conn);
}

/* ---- messages ---------------------------------------------------------------------------------------- */

static void route(dp_signal_server *s, dp_signal_conn *conn, const dp_relay *relay)
{
    if (relay->dst[0] == '\0') {
        if (relay->type == RELAY_LEAVE)
            dp_realm_leave(s, conn, "it said LEAVE");
        else
            s->stats.dropped++;
        return;
    }
    dp_signal_conn *to = dp_table_get(&s->clients, relay->dst, strlen(relay->dst));
    if (to == NULL && dp_cluster_forward(s, 0, relay->type, conn->id, relay->dst, relay->payload))
        return;
    if (to != NULL && dp_realm_send(s, to, relay->type, conn->id, relay->payload))
        s->stats.relayed++;
    else if (relay->type == RELAY_LEAVE || relay->type == RELAY_EXPIRE || !conn->member)
        s->stats.dropped++;
    else
        queue_message(s, conn, relay->type, relay->dst, relay->payload);
}

static void on_text(void *ctx, const char *text, size_t len)
{
    dp_signal_server *s = ctx;
    dp_signal_conn *conn = s->reading;
    dp_relay relay;
    if (conn->state != CONN_JOINED || !conn->member)
        return;
    if (!dp_bucket_take(&conn->messages, &s->message_rate, s->now)) {
        s->stats.cut++;
        dp_realm_dismiss(s, conn, 1008, "it sends too many messages");
    } else if (dp_relay_parse(&relay, text, len) != DP_OK || relay.type == RELAY_OTHER) {
        s->stats.dropped++;
    } else if (relay.type == RELAY_HEARTBEAT) {
        conn->served = true;
        s->stats.heartbeats++;
        dp_conn_enter(s, conn, CONN_JOINED);
    } else {
        conn->served = true;
        route(s, conn, &relay);
    }
}

/* ---- reading ----------------------------------------------------------------------------------------- */

static int take_ws(dp_signal_server *s, dp_signal_conn *conn)
{
    if (conn->ws != NULL)
        return DP_OK;
    if (s->spare_count > 0)
        conn->ws = s->spare[--s->spare_count];
    else if (dp_ws_new_server(&conn->ws) != DP_OK)
        return DP_ERR_NO_MEMORY;
    dp_ws_assign(conn->ws, on_text, s);
    return DP_OK;
}

void dp_realm_release(dp_signal_server *s, dp_signal_conn *conn)
{
    if (conn->ws == NULL)
        return;
    s->buffered -= conn->held;
    conn->held = 0;
    if (s->spare_count < SPARE_MAX && dp_ws_idle(conn->ws))
        s->spare[s->spare_count++] = conn->ws;
    else
        dp_ws_free(conn->ws);
    conn->ws = NULL;
}

/* Pongs, and the close frame that answers one or tells of an error. After our own close frame nothing more may follow
 * (RFC 6455 §5.5.1). */
static void send_control(dp_signal_server *s, dp_signal_conn *conn)
{
    uint8_t bytes[256];
    size_t len;
    while ((len = dp_ws_output(conn->ws, bytes, sizeof(bytes))) > 0)
        if (conn->state == CONN_JOINED)
            dp_conn_put(s, conn, bytes, len);
}

static void account(dp_signal_server *s, dp_signal_conn *conn)
{
    size_t held = dp_ws_held(conn->ws);
    s->buffered += held - conn->held;
    conn->held = held;
    (void)dp_conn_make_room(s, conn, held);
}

/* The rest of a frame, or as much of it as is there; returns how many bytes that is. */
static size_t read_part(dp_signal_server *s, dp_signal_conn *conn, const uint8_t *data, size_t len)
{
    if (take_ws(s, conn) != DP_OK) {
        dp_conn_cut(s, conn, dp_strerror(DP_ERR_NO_MEMORY));
        return len;
    }
    size_t missing = dp_ws_missing(conn->ws);
    if (len > missing)
        len = missing;
    int result = dp_ws_input(conn->ws, data, len);
    send_control(s, conn);
    if (result == DP_ERR_CLOSED || result == DP_ERR_PROTOCOL) {
        conn->deaf = true;
        if (result == DP_ERR_PROTOCOL && conn->member)
            dp_server_forgive(s, conn);
        dp_realm_leave(s, conn, result == DP_ERR_CLOSED ? "it closed" : "it broke the protocol");
        dp_conn_close(s, conn, result == DP_ERR_PROTOCOL);
    } else if (result != DP_OK) {
        dp_conn_cut(s, conn, dp_strerror(result));
    } else if (!dp_ws_idle(conn->ws)) {
        account(s, conn);
        return len;
    }
    dp_realm_release(s, conn);
    return len;
}

void dp_realm_input(dp_signal_server *s, dp_signal_conn *conn, const uint8_t *data, size_t len)
{
    s->reading = conn;
    while (len > 0 && conn->state <= CONN_CLOSING && !conn->deaf) {
        size_t text_len;
        size_t used = conn->ws == NULL ? dp_ws_read_message(s->text, &text_len, data, len) : 0;
        if (used > 0)
            on_text(s, s->text, text_len);
        else
            used = read_part(s, conn, data, len);
        data += used;
        len -= used;
    }
    s->reading = NULL;
}
