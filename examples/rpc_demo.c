/* A storage side to be tested by others: a router with the actions of the interoperability protocol
 * (docs/interop.md).
 *
 *     rpc_demo --id ID --server URL [--key K]
 *
 * Prints {"ready":true,"id":"ID"} once it can be called; ends on SIGTERM or SIGINT. */
#include <datapeer/datapeer.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static dp_loop *loop;

/* Byte i of pattern(len, seed). */
static uint8_t pattern_byte(uint64_t i, uint64_t seed)
{
    uint32_t h = (uint32_t)(i + seed * 7919u) * 0x9E3779B1u;
    return (uint8_t)((h >> 24) ^ (h >> 11));
}

static void echo(void *user, dp_call *call)
{
    (void)user;
    dp_call_reply(call, dp_value_copy(dp_call_body(call)));
}

static void error_action(void *user, dp_call *call)
{
    (void)user;
    dp_call_fail(call, 500, "boom");
}

static void digest(void *user, dp_call *call)
{
    (void)user;
    size_t len;
    char hex[65];
    dp_sha256_hash *hash;
    const uint8_t *data = dp_value_get_bytes(dp_value_get(dp_call_body(call), "data"), &len);
    if (data == NULL) {
        dp_call_fail(call, 400, "body.data must be bytes");
        return;
    }
    int error = dp_sha256_new(&hash);
    if (error == DP_OK) {
        dp_sha256_update(hash, data, len);
        error = dp_sha256_finish(hash, hex);
    }
    dp_value *answer = error == DP_OK ? dp_value_map() : NULL;
    if (answer == NULL || dp_value_set(answer, "length", dp_value_uint(len)) != DP_OK ||
        dp_value_set(answer, "sha256", dp_value_string(hex)) != DP_OK) {
        dp_value_free(answer);
        dp_call_fail(call, 500, "out of memory");
        return;
    }
    dp_call_reply(call, answer);
}

static void bytes(void *user, dp_call *call)
{
    (void)user;
    const dp_value *body = dp_call_body(call);
    uint64_t size = dp_value_get_uint(dp_value_get(body, "size"), 0);
    uint64_t seed = dp_value_get_uint(dp_value_get(body, "seed"), 0);
    uint8_t *data = size <= 256u << 20 ? malloc(size > 0 ? size : 1) : NULL;
    if (data == NULL) {
        dp_call_fail(call, 400, "body.size is too large");
        return;
    }
    for (uint64_t i = 0; i < size; i++)
        data[i] = pattern_byte(i, seed);
    dp_value *answer = dp_value_bytes(data, size);
    free(data);
    if (answer == NULL)
        dp_call_fail(call, 500, "out of memory");
    else
        dp_call_reply(call, answer);
}

/* ---- file: an octet stream ---------------------------------------------------------------------- */

typedef struct generated {
    uint64_t at;
    uint64_t size;
    uint64_t seed;
} generated;

static int generate(void *user, uint8_t *out, size_t capacity, size_t *len)
{
    generated *g = user;
    uint64_t left = g->size - g->at;
    *len = left < capacity ? (size_t)left : capacity;
    for (size_t i = 0; i < *len; i++)
        out[i] = pattern_byte(g->at + i, g->seed);
    g->at += *len;
    return DP_OK;
}

static void end_generated(void *user, int error)
{
    (void)error;
    free(user);
}

static void file(void *user, dp_call *call)
{
    (void)user;
    const dp_value *body = dp_call_body(call);
    generated *g = calloc(1, sizeof(*g));
    if (g == NULL) {
        dp_call_fail(call, 500, "out of memory");
        return;
    }
    g->size = dp_value_get_uint(dp_value_get(body, "size"), 0);
    g->seed = dp_value_get_uint(dp_value_get(body, "seed"), 0);
    size_t piece = (size_t)dp_value_get_uint(dp_value_get(body, "chunk"), 0);
    dp_stream stream = {.size = sizeof(stream),
                        .read = generate,
                        .on_end = end_generated,
                        .user = g,
                        .piece = piece,
                        .total = g->size};
    dp_call_stream(call, &stream);
}

/* ---- slow and close: later ------------------------------------------------------------------------ */

/* A call that is answered, or a connection that is closed, when its time comes; unless the connection ends
 * before. */
typedef struct later {
    dp_timer timer;
    dp_call *call;
} later;

static void drop_later(void *user)
{
    later *l = user;
    dp_timer_stop(&l->timer);
    free(l);
}

static void answer_slow(void *user)
{
    later *l = user;
    dp_call *call = l->call;
    const dp_value *value = dp_value_get(dp_call_body(call), "value");
    free(l);
    dp_call_reply(call, value != NULL ? dp_value_copy(value) : NULL);
}

static void slow(void *user, dp_call *call)
{
    (void)user;
    later *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        dp_call_fail(call, 500, "out of memory");
        return;
    }
    uint64_t ms = dp_value_get_uint(dp_value_get(dp_call_body(call), "ms"), 0);
    l->call = call;
    l->timer.fn = answer_slow;
    l->timer.user = l;
    dp_call_on_gone(call, drop_later, l);
    dp_timer_set(loop, &l->timer, dp_loop_now(loop) + DP_MS(ms < 3600000 ? ms : 3600000));
}

/* One for each connection. */
typedef struct session {
    dp_connection *conn;
    dp_timer close_timer;
    dp_value **held; /* values to send back once there is room */
    dp_message_type *held_types;
    size_t held_count;
    size_t held_capacity;
} session;

static void close_now(void *user)
{
    session *s = user;
    dp_connection_close(s->conn);
}

static session *session_of(dp_call *call);

static void close_action(void *user, dp_call *call)
{
    (void)user;
    session *s = session_of(call);
    dp_call_reply(call, dp_value_string("closing"));
    if (s != NULL)
        dp_timer_set(loop, &s->close_timer, dp_loop_now(loop) + DP_MS(200));
}

/* ---- what is no context comes back ------------------------------------------------------------------ */

static session *sessions[1024];

static session *session_of(dp_call *call)
{
    dp_connection *conn = dp_call_connection(call);
    for (size_t i = 0; i < sizeof(sessions) / sizeof(sessions[0]); i++)
        if (sessions[i] != NULL && sessions[i]->conn == conn)
            return sessions[i];
    return NULL;
}

static int send_back(dp_connection *conn, dp_message_type type, const dp_value *value)
{
    size_t len;
    if (type == DP_MESSAGE_VALUE)
        return dp_connection_send(conn, value);
    if (type == DP_MESSAGE_TEXT) {
        const char *text = dp_value_get_string(value, &len);
        return dp_connection_send_text(conn, text, len);
    }
    const uint8_t *data = dp_value_get_bytes(value, &len);
    return dp_connection_send_bytes(conn, data, len);
}

static void on_drain(void *user, dp_connection *conn)
{
    session *s = user;
    size_t sent = 0;
    while (sent < s->held_count && send_back(conn, s->held_types[sent], s->held[sent]) != DP_ERR_WOULD_BLOCK)
        dp_value_free(s->held[sent++]);
    memmove(s->held, s->held + sent, (s->held_count - sent) * sizeof(*s->held));
    memmove(s->held_types, s->held_types + sent, (s->held_count - sent) * sizeof(*s->held_types));
    s->held_count -= sent;
}

/* Keeps the order: what comes while something is held waits behind it. */
static void hold(session *s, dp_message_type type, dp_value *value)
{
    if (s->held_count == s->held_capacity) {
        size_t capacity = s->held_capacity == 0 ? 16 : s->held_capacity * 2;
        dp_value **held = realloc(s->held, capacity * sizeof(*held));
        if (held != NULL)
            s->held = held;
        dp_message_type *types = realloc(s->held_types, capacity * sizeof(*types));
        if (types != NULL)
            s->held_types = types;
        if (held == NULL || types == NULL || capacity > 65536) {
            dp_value_free(value);
            dp_connection_close(s->conn); /* it sends for ever and never reads */
            return;
        }
        s->held_capacity = capacity;
    }
    s->held_types[s->held_count] = type;
    s->held[s->held_count++] = value;
}

static void on_data(void *user, dp_connection *conn, dp_message *message)
{
    session *s = user;
    dp_value *value = message->value;
    message->value = NULL;
    if (message->type == DP_MESSAGE_TEXT)
        value = dp_value_string_n((const char *)message->data, message->len);
    else if (message->type == DP_MESSAGE_BYTES)
        value = dp_value_bytes(message->data, message->len);
    if (value == NULL)
        return;
    if (s->held_count > 0 || send_back(conn, message->type, value) == DP_ERR_WOULD_BLOCK)
        hold(s, message->type, value);
    else
        dp_value_free(value);
}

static void on_close(void *user, dp_connection *conn)
{
    session *s = user;
    (void)conn;
    dp_timer_stop(&s->close_timer);
    for (size_t i = 0; i < s->held_count; i++)
        dp_value_free(s->held[i]);
    free(s->held);
    free(s->held_types);
    for (size_t i = 0; i < sizeof(sessions) / sizeof(sessions[0]); i++)
        if (sessions[i] == s)
            sessions[i] = NULL;
    free(s);
}

static void on_connection(void *user, dp_peer *peer, dp_connection *conn)
{
    (void)peer;
    size_t at = 0;
    while (at < sizeof(sessions) / sizeof(sessions[0]) && sessions[at] != NULL)
        at++;
    session *s = at < sizeof(sessions) / sizeof(sessions[0]) ? calloc(1, sizeof(*s)) : NULL;
    if (s == NULL) {
        dp_connection_close(conn);
        return;
    }
    sessions[at] = s;
    s->conn = conn;
    s->close_timer.fn = close_now;
    s->close_timer.user = s;
    dp_connection_handler handler = {
        .on_data = on_data, .on_drain = on_drain, .on_close = on_close, .user = s};
    dp_connection_set_handler(conn, &handler);
    dp_connection_use_rpc(conn, user); /* on a raw connection there are no contexts: all comes back */
}

/* ---- main -------------------------------------------------------------------------------------------- */

static void on_open(void *user, dp_peer *peer, const char *id)
{
    static bool printed;
    (void)user;
    (void)peer;
    if (!printed)
        printf("{\"ready\":true,\"id\":\"%s\"}\n", id);
    printed = true;
    fflush(stdout);
}

static void on_error(void *user, dp_peer *peer, const char *type, const char *message)
{
    (void)user;
    (void)peer;
    fprintf(stderr, "rpc_demo: %s: %s\n", type, message);
    if (strcmp(type, "unavailable-id") == 0 || strcmp(type, "invalid-key") == 0)
        exit(1);
}

static void on_signal(void *user, int number)
{
    (void)user;
    (void)number;
    dp_loop_stop(loop);
}

static void log_line(void *ctx, dp_log_level level, const char *layer, const char *message)
{
    (void)ctx;
    fprintf(stderr, "%d %s: %s\n", (int)level, layer, message);
}

int main(int argc, char **argv)
{
    static const int ends[] = {SIGINT, SIGTERM};
    dp_csprng *csprng;
    dp_router *router;
    dp_signals *signals;
    dp_peer *peer;
    dp_peer_config config = {.size = sizeof(config), .reconnect = true, .include_loopback = true};
    config.server = getenv("PEER_SERVER_URL");
    config.key = getenv("PEER_KEY");
    const char *level = getenv("RPC_DEMO_LOG");
    if (level != NULL)
        config.log = (dp_log){log_line, NULL, (dp_log_level)strtol(level, NULL, 10)};
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--id") == 0)
            config.id = argv[i + 1];
        else if (strcmp(argv[i], "--server") == 0)
            config.server = argv[i + 1];
        else if (strcmp(argv[i], "--key") == 0)
            config.key = argv[i + 1];
    }
    if (config.server == NULL) {
        fprintf(stderr, "usage: rpc_demo --id ID --server ws://HOST:PORT/ [--key KEY]\n");
        return 2;
    }
    if (dp_loop_new(&loop) != DP_OK || dp_csprng_new(&csprng) != DP_OK || dp_router_new(&router) != DP_OK ||
        dp_signals_new(&signals, loop, ends, 2, on_signal, NULL) != DP_OK) {
        fprintf(stderr, "rpc_demo: can't start\n");
        return 1;
    }
    dp_router_register(router, "echo", echo, NULL);
    dp_router_register(router, "slow", slow, NULL);
    dp_router_register(router, "error", error_action, NULL);
    dp_router_register(router, "digest", digest, NULL);
    dp_router_register(router, "bytes", bytes, NULL);
    dp_router_register(router, "file", file, NULL);
    dp_router_register(router, "close", close_action, NULL);
    config.loop = loop;
    config.random = dp_csprng_source(csprng);
    config.handler = (dp_peer_handler){
        .on_open = on_open, .on_connection = on_connection, .on_error = on_error, .user = router};
    int error = dp_peer_new(&peer, &config);
    if (error != DP_OK) {
        fprintf(stderr, "rpc_demo: %s\n", dp_strerror(error));
        return 1;
    }
    dp_loop_run(loop);
    dp_peer_destroy(peer);
    for (int i = 0; i < 8; i++)
        dp_loop_step(loop, 0);
    dp_signals_free(signals);
    dp_router_free(router);
    dp_loop_free(loop);
    dp_csprng_free(csprng);
    return 0;
}
