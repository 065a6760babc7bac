/* The server's connections, and time.
 *
 *   HTTP -> ASKING -> JOINED -> CLOSING -> DONE -> FINISHED
 *
 * and from each of them to those on its right, and from ASKING to HTTP. A list for each state is in order of its deadlines, so that the next timeout
 * is that of one of six heads. */
#include "server.h"

#include "base/config.h"
#include "base/log.h"
#include "base/mem.h"
#include "url.h"
#include <string.h>

static const dp_duration CLOSING_TIMEOUT = DP_SECONDS(3);
static const dp_duration SHUTDOWN_TIMEOUT = DP_SECONDS(3);
static const dp_duration ASKING_TIMEOUT = DP_SECONDS(2);

/* ---- lists --------------------------------------------------------------------------------------- */

void dp_list_append(list *to, link *item, dp_time deadline)
{
    item->deadline = deadline;
    item->previous = to->last;
    item->next = NULL;
    if (to->last != NULL)
        to->last->next = item;
    else
        to->first = item;
    to->last = item;
    to->count++;
}

void dp_list_remove(list *from, link *item)
{
    if (item->previous != NULL)
        item->previous->next = item->next;
    else
        from->first = item->next;
    if (item->next != NULL)
        item->next->previous = item->previous;
    else
        from->last = item->previous;
    from->count--;
}

static dp_signal_conn *conn_of(link *item) { return (dp_signal_conn *)item; }

static dp_signal_conn *ready_conn(link *item)
{
    return (dp_signal_conn *)(void *)((char *)item - offsetof(dp_signal_conn, ready_link));
}

/* ---- birth and death ----------------------------------------------------------------------------- */

static dp_duration or_default(dp_duration value, dp_duration fallback)
{
    return value != 0 ? value : fallback;
}
static uint32_t count_or(unsigned value, unsigned fallback) { return value != 0 ? value : fallback; }

static bool word_valid(const char *word)
{
    return word == NULL || (strlen(word) <= TOKEN_MAX && dp_peer_id_harmless((dp_slice){word, strlen(word)}));
}

/* "/", "/myapp", "/a/b/". */
static bool path_valid(const char *path)
{
    if (path == NULL)
        return true;
    size_t len = strlen(path);
    for (size_t i = 0; i < len; i++)
        if (path[i] <= ' ' || path[i] >= 0x7f || strchr("?#%\"<>\\", path[i]) != NULL)
            return false;
    return len > 0 && len <= PATH_MAX_LEN && path[0] == '/' && strstr(path, "//") == NULL;
}

/* The mount path is kept without a slash at its end: "" for the root. */
static int copy_words(dp_signal_server *s, const dp_signal_server_config *config)
{
    const char *path = config->path != NULL ? config->path : "/";
    size_t len = strlen(path);
    s->path = dp_strndup(path, path[len - 1] == '/' ? len - 1 : len);
    s->key = dp_strdup(config->key != NULL ? config->key : "peerjs");
    if (config->access_token != NULL)
        s->access_token = dp_strdup(config->access_token);
    bool failed =
        s->path == NULL || s->key == NULL || (config->access_token != NULL && s->access_token == NULL);
    return failed ? DP_ERR_NO_MEMORY : DP_OK;
}

static void set_defaults(dp_signal_server *s)
{
    dp_signal_server_config *c = &s->config;
    c->path = c->key = c->access_token = NULL; /* the caller's */
    c->concurrent_limit = count_or(c->concurrent_limit, 5000);
    c->alive_timeout = or_default(c->alive_timeout, DP_SECONDS(90));
    c->expire_timeout = or_default(c->expire_timeout, DP_SECONDS(5));
    c->request_timeout = or_default(c->request_timeout, DP_SECONDS(10));
    c->client_buffer = c->client_buffer != 0 ? c->client_buffer : 256 << 10;
    c->total_buffer = c->total_buffer != 0 ? c->total_buffer : 64 << 20;
    s->message_rate = (dp_rate){count_or(c->message_rate, 100), count_or(c->message_burst, 1000)};
}

int dp_signal_server_new(dp_signal_server **out, const dp_signal_server_config *given)
{
    dp_signal_server_config read = {0};
    const dp_signal_server_config *config = &read;
    if (!DP_CONFIG_READ(&read, given, dp_signal_server_config, log) || config->random.fn == NULL ||
        !path_valid(config->path) || !word_valid(config->key) || !word_valid(config->access_token))
        return DP_ERR_INVALID_ARGUMENT;
    dp_signal_server *s = dp_calloc(1, sizeof(*s));
    if (s == NULL)
        return DP_ERR_NO_MEMORY;
    s->config = *config;
    set_defaults(s);
    s->shutdown_at = DP_TIME_NEVER;
    uint64_t seed = 0;
    int error = config->random.fn(config->random.ctx, (uint8_t *)&seed, sizeof(seed));
    dp_table_init(&s->clients, seed);
    dp_table_init(&s->absentees, seed);
    dp_queue_init(&s->events, sizeof(log_event), EVENTS_MAX);
    if (error == DP_OK)
        error = copy_words(s, config);
    if (error == DP_OK)
        error = dp_cluster_init(s, config->cluster);
    s->connection_rate = dp_alloc(sizeof(*s->connection_rate));
    s->text = dp_alloc(DP_SIGNALING_TEXT_MAX);
    if (error == DP_OK && (s->connection_rate == NULL || s->text == NULL))
        error = DP_ERR_NO_MEMORY;
    if (error != DP_OK) {
        dp_signal_server_free(s);
        return error;
    }
    const dp_rate rate = {count_or(config->connection_rate, 50), count_or(config->connection_burst, 500)};
    dp_rate_table_init(s->connection_rate, &rate, seed);
    *out = s;
    return DP_OK;
}

static void drop_output(dp_signal_server *s, dp_signal_conn *conn)
{
    s->buffered -= conn->out_capacity;
    dp_free(conn->out);
    conn->out = NULL;
    conn->out_at = conn->out_len = conn->out_capacity = 0;
    if (s->sending == conn)
        s->sending = NULL;
}

static void conn_free(dp_signal_server *s, dp_signal_conn *conn)
{
    drop_output(s, conn);
    dp_realm_release(s, conn);
    dp_cluster_forget(s, conn);
    if (conn->request != NULL)
        dp_request_clear(conn->request);
    dp_free(conn->request);
    if (conn->ready)
        dp_list_remove(&s->ready, &conn->ready_link);
    dp_list_remove(&s->conns[conn->state], &conn->link);
    dp_free(conn->id);
    dp_free(conn);
}

static void secret_free(char *secret)
{
    if (secret != NULL)
        dp_wipe(secret, strlen(secret));
    dp_free(secret);
}

void dp_signal_server_free(dp_signal_server *s)
{
    if (s == NULL)
        return;
    s->cluster_up = false; /* it may be gone already */
    for (int state = 0; state < CONN_STATES; state++)
        while (s->conns[state].first != NULL)
            conn_free(s, conn_of(s->conns[state].first));
    while (s->waiting.first != NULL)
        dp_realm_drop_absent(s, (absent *)s->waiting.first);
    while (s->spare_count > 0)
        dp_ws_free(s->spare[--s->spare_count]);
    log_event event;
    while (dp_queue_pop(&s->events, &event))
        dp_free(event.id);
    dp_free(s->current.id);
    dp_queue_clear(&s->events);
    dp_table_clear(&s->clients);
    dp_table_clear(&s->absentees);
    dp_free(s->connection_rate);
    dp_free(s->text);
    dp_free(s->path);
    dp_free(s->key);
    secret_free(s->access_token);
    dp_free(s);
}

/* ---- one connection ------------------------------------------------------------------------------ */

void dp_server_tell(dp_signal_server *s, dp_signal_event_type type, const char *id, const char *reason,
                    const dp_signal_conn *conn)
{
    log_event *event = dp_queue_push(&s->events);
    if (event == NULL)
        return;
    event->type = type;
    event->id = id != NULL ? dp_strdup(id) : NULL;
    event->reason = reason;
    if (conn != NULL)
        event->remote = conn->remote;
}

void dp_conn_enter(dp_signal_server *s, dp_signal_conn *conn, conn_state state)
{
    const dp_duration waits[CONN_STATES] = {[CONN_HTTP] = s->config.request_timeout,
                                            [CONN_ASKING] = ASKING_TIMEOUT,
                                            [CONN_JOINED] = s->config.alive_timeout,
                                            [CONN_CLOSING] = CLOSING_TIMEOUT,
                                            [CONN_DONE] = s->config.request_timeout};
    dp_list_remove(&s->conns[conn->state], &conn->link);
    conn->state = state;
    dp_list_append(&s->conns[state], &conn->link,
                   state == CONN_FINISHED ? DP_TIME_NEVER : s->now + waits[state]);
}

static void set_ready(dp_signal_server *s, dp_signal_conn *conn)
{
    if (conn->ready)
        return;
    conn->ready = true;
    dp_list_append(&s->ready, &conn->ready_link, DP_TIME_NEVER);
}

void dp_conn_cut(dp_signal_server *s, dp_signal_conn *conn, const char *reason)
{
    if (conn->state == CONN_FINISHED)
        return;
    dp_realm_leave(s, conn, reason);
    drop_output(s, conn);
    dp_conn_enter(s, conn, CONN_FINISHED);
}

void dp_conn_close(dp_signal_server *s, dp_signal_conn *conn, bool linger)
{
    if (conn->state >= CONN_DONE)
        return;
    if (linger)
        dp_conn_enter(s, conn, CONN_CLOSING);
    else
        dp_conn_enter(s, conn, conn->out_len > conn->out_at ? CONN_DONE : CONN_FINISHED);
}

static void cut_slow(dp_signal_server *s, dp_signal_conn *conn, const char *reason)
{
    s->stats.cut++;
    dp_conn_cut(s, conn, reason);
}

static dp_signal_conn *greediest(const dp_signal_server *s)
{
    dp_signal_conn *most = NULL;
    for (int state = 0; state < CONN_FINISHED; state++)
        for (link *item = s->conns[state].first; item != NULL; item = item->next)
            if (most == NULL || conn_of(item)->out_capacity > most->out_capacity)
                most = conn_of(item);
    return most;
}

bool dp_conn_make_room(dp_signal_server *s, dp_signal_conn *conn, size_t own)
{
    while (s->buffered > s->config.total_buffer && conn->state != CONN_FINISHED) {
        dp_signal_conn *most = greediest(s);
        if (most != conn && most->out_capacity > own)
            cut_slow(s, most, "it reads too slowly");
        else
            cut_slow(s, conn, "the server has no memory for it");
    }
    return conn->state != CONN_FINISHED;
}

uint8_t *dp_conn_reserve(dp_signal_server *s, dp_signal_conn *conn, size_t len)
{
    size_t waiting = conn->out_len - conn->out_at;
    size_t limit = conn->websocket ? s->config.client_buffer : RESPONSE_MAX;
    if (conn->state >= CONN_DONE)
        return NULL;
    if (len > limit || waiting > limit - len) {
        cut_slow(s, conn, "it reads too slowly");
        return NULL;
    }
    if (conn->out_at > 0 && conn->out_len + len > conn->out_capacity) {
        memmove(conn->out, conn->out + conn->out_at, waiting);
        conn->out_at = 0;
        conn->out_len = waiting;
    }
    size_t before = conn->out_capacity;
    void *out = conn->out;
    int error = dp_grow(&out, &conn->out_capacity, conn->out_len + len, limit, 1);
    conn->out = out;
    s->buffered += conn->out_capacity - before;
    if (error != DP_OK)
        cut_slow(s, conn, "the server has no memory for it");
    if (error != DP_OK || !dp_conn_make_room(s, conn, 0))
        return NULL;
    uint8_t *at = conn->out + conn->out_len;
    conn->out_len += len;
    if (!conn->paused)
        set_ready(s, conn);
    return at;
}

void dp_conn_trim(dp_signal_server *s, dp_signal_conn *conn, size_t unused)
{
    (void)s;
    conn->out_len -= unused;
}

void dp_conn_put(dp_signal_server *s, dp_signal_conn *conn, const void *data, size_t len)
{
    uint8_t *at = dp_conn_reserve(s, conn, len);
    if (at != NULL && len > 0)
        memcpy(at, data, len);
}

/* What the owner was given last has been taken. */
static void sent(dp_signal_server *s)
{
    dp_signal_conn *conn = s->sending;
    if (conn == NULL)
        return;
    s->sending = NULL;
    conn->out_at += s->sending_len;
    if (conn->out_at < conn->out_len)
        return;
    drop_output(s, conn);
    if (conn->state == CONN_DONE)
        dp_conn_enter(s, conn, CONN_FINISHED);
}

void dp_server_begin(dp_signal_server *s, dp_time now)
{
    s->now = now;
    sent(s);
}

/* ---- input ----------------------------------------------------------------------------------------- */

int dp_signal_server_accept(dp_signal_conn **out, dp_signal_server *s, dp_time now, const dp_address *remote,
                            void *user)
{
    dp_server_begin(s, now);
    if (s->shutting_down)
        return DP_ERR_CLOSED;
    dp_signal_conn *conn = dp_calloc(1, sizeof(*conn));
    if (conn == NULL)
        return DP_ERR_NO_MEMORY;
    if (s->conns[CONN_HTTP].count >= HTTP_MAX)
        cut_slow(s, conn_of(s->conns[CONN_HTTP].first), "its place was needed");
    conn->user = user;
    conn->remote = *remote;
    conn->state = CONN_HTTP;
    dp_list_append(&s->conns[CONN_HTTP], &conn->link, now + s->config.request_timeout);
    s->stats.accepted++;
    *out = conn;
    return DP_OK;
}

bool dp_server_admit(dp_signal_server *s, dp_signal_conn *conn)
{
    if (!conn->charged && !dp_rate_table_take(s->connection_rate, &conn->remote, s->now)) {
        s->stats.refused++;
        return false;
    }
    conn->charged = true;
    return true;
}

void dp_server_forgive(dp_signal_server *s, dp_signal_conn *conn)
{
    if (conn->charged && !conn->served)
        dp_rate_table_give(s->connection_rate, &conn->remote);
    conn->charged = conn->served;
}

/* One request, if it is complete. */
static void input_http(dp_signal_server *s, dp_signal_conn *conn, const uint8_t **data, size_t *len)
{
    if (conn->request == NULL) {
        conn->request = dp_calloc(1, sizeof(*conn->request));
        if (conn->request == NULL) {
            dp_conn_cut(s, conn, dp_strerror(DP_ERR_NO_MEMORY));
            return;
        }
    }
    dp_request *request = conn->request;
    int result = dp_request_input(request, data, len);
    if (result == DP_ERR_WOULD_BLOCK)
        return;
    conn->request = NULL;
    if (result == DP_OK) {
        s->stats.requests++;
        dp_http_serve(s, conn, request);
    } else {
        s->stats.refused++;
        dp_http_refuse(s, conn, result);
    }
    if (conn->state == CONN_ASKING && !conn->websocket) {
        conn->request = request;
        return;
    }
    dp_request_clear(request);
    dp_free(request);
}

void dp_conn_take(dp_signal_server *s, dp_signal_conn *conn, const uint8_t *data, size_t len)
{
    while (len > 0 && conn->state == CONN_HTTP)
        input_http(s, conn, &data, &len);
    if (len > 0 && conn->state == CONN_ASKING)
        dp_cluster_hold(s, conn, data, len);
    else if (len > 0 && conn->websocket)
        dp_realm_input(s, conn, data, len);
}

void dp_signal_server_input(dp_signal_server *s, dp_signal_conn *conn, dp_time now, const uint8_t *data,
                            size_t len)
{
    dp_server_begin(s, now);
    s->stats.bytes_in += len;
    dp_conn_take(s, conn, data, len);
}

void dp_signal_server_disconnected(dp_signal_server *s, dp_signal_conn *conn, dp_time now)
{
    dp_server_begin(s, now);
    dp_realm_leave(s, conn, "its connection was lost");
    conn_free(s, conn);
}

void dp_signal_server_pause(dp_signal_server *s, dp_signal_conn *conn)
{
    sent(s);
    conn->paused = true;
    if (conn->ready)
        dp_list_remove(&s->ready, &conn->ready_link);
    conn->ready = false;
}

void dp_signal_server_resume(dp_signal_server *s, dp_signal_conn *conn)
{
    sent(s);
    conn->paused = false;
    if (conn->out_len > conn->out_at)
        set_ready(s, conn);
}

/* ---- time ------------------------------------------------------------------------------------------ */

static void expire_conn(dp_signal_server *s, dp_signal_conn *conn)
{
    switch (conn->state) {
    case CONN_HTTP:
        if (conn->request != NULL) { /* 408, if it has begun one (RFC 9110 §15.5.9) */
            s->stats.cut++;
            dp_http_refuse(s, conn, DP_ERR_TIMEOUT);
        } else {
            dp_conn_close(s, conn, false);
        }
        break;
    case CONN_ASKING:
        dp_cluster_give_up(s, conn);
        break;
    case CONN_JOINED:
        s->stats.cut++;
        dp_realm_dismiss(s, conn, 0, "it sent no heartbeat");
        break;
    default:
        dp_conn_cut(s, conn, "it does not close");
        break;
    }
}

void dp_signal_server_handle_timeout(dp_signal_server *s, dp_time now)
{
    dp_server_begin(s, now);
    for (int state = 0; state < CONN_FINISHED; state++)
        while (s->conns[state].first != NULL &&
               (s->conns[state].first->deadline <= now || now >= s->shutdown_at)) {
            dp_signal_conn *conn = conn_of(s->conns[state].first);
            if (now >= s->shutdown_at)
                dp_conn_cut(s, conn, "the server ends");
            else
                expire_conn(s, conn);
        }
    while (s->waiting.first != NULL && s->waiting.first->deadline <= now)
        dp_realm_expire(s, (absent *)s->waiting.first);
    if (now >= s->shutdown_at)
        s->shutdown_at = DP_TIME_NEVER;
}

dp_time dp_signal_server_next_timeout(const dp_signal_server *s)
{
    dp_time next = s->shutdown_at;
    for (int state = 0; state < CONN_FINISHED; state++)
        if (s->conns[state].first != NULL && s->conns[state].first->deadline < next)
            next = s->conns[state].first->deadline;
    if (s->waiting.first != NULL && s->waiting.first->deadline < next)
        next = s->waiting.first->deadline;
    return next;
}

void dp_signal_server_shutdown(dp_signal_server *s, dp_time now)
{
    dp_server_begin(s, now);
    if (s->shutting_down)
        return;
    s->shutting_down = true;
    s->shutdown_at = now + SHUTDOWN_TIMEOUT;
    while (s->conns[CONN_ASKING].first != NULL)
        dp_cluster_give_up(s, conn_of(s->conns[CONN_ASKING].first));
    while (s->conns[CONN_JOINED].first != NULL)
        dp_realm_dismiss(s, conn_of(s->conns[CONN_JOINED].first), 1001, "the server ends");
    while (s->conns[CONN_HTTP].first != NULL)
        dp_conn_close(s, conn_of(s->conns[CONN_HTTP].first), false);
}

/* ---- output ---------------------------------------------------------------------------------------- */

bool dp_signal_server_poll_transmit(dp_signal_server *s, dp_signal_transmit *out)
{
    sent(s);
    while (s->ready.first != NULL) {
        dp_signal_conn *conn = ready_conn(s->ready.first);
        size_t len = conn->out_len - conn->out_at;
        dp_list_remove(&s->ready, &conn->ready_link);
        conn->ready = false;
        if (len == 0)
            continue;
        if (len > TRANSMIT_MAX) { /* the others have their turn first */
            len = TRANSMIT_MAX;
            set_ready(s, conn);
        }
        s->sending = conn;
        s->sending_len = len;
        s->stats.bytes_out += len;
        *out = (dp_signal_transmit){conn, conn->user, conn->out + conn->out_at, len};
        return true;
    }
    return false;
}

bool dp_signal_server_poll_event(dp_signal_server *s, dp_signal_event *event)
{
    sent(s);
    memset(event, 0, sizeof(*event));
    dp_free(s->current.id);
    s->current.id = NULL;
    if (dp_queue_pop(&s->events, &s->current)) {
        event->type = s->current.type;
        event->id = s->current.id != NULL ? s->current.id : "";
        event->reason = s->current.reason;
        event->remote = s->current.remote;
        return true;
    }
    if (s->conns[CONN_FINISHED].first != NULL) {
        dp_signal_conn *conn = conn_of(s->conns[CONN_FINISHED].first);
        event->type = DP_SIGNAL_EVENT_CLOSE;
        event->user = conn->user;
        event->remote = conn->remote;
        conn_free(s, conn);
        return true;
    }
    size_t left = 0;
    for (int state = 0; state < CONN_STATES; state++)
        left += s->conns[state].count;
    if (s->shutting_down && !s->done_told && left == 0) {
        s->done_told = true;
        event->type = DP_SIGNAL_EVENT_DONE;
        return true;
    }
    return false;
}

void dp_signal_server_get_stats(const dp_signal_server *s, dp_signal_stats *out)
{
    dp_signal_stats now = s->stats;
    now.size = out->size;
    for (int state = 0; state < CONN_STATES; state++)
        now.connections += s->conns[state].count;
    now.clients = s->clients.count;
    now.absent = s->absentees.count;
    now.buffered = s->buffered;
    now.cluster_up = s->cluster_up;
    memcpy(out, &now, out->size < sizeof(now) ? out->size : sizeof(now));
}
