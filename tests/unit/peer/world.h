/* Two peers and a PeerServer in one process, on one loop, over loopback; what happens to each peer is counted. */
#ifndef TESTS_PEER_WORLD_H
#define TESTS_PEER_WORLD_H

#include "server.h"

#include <datapeer/datapeer.h>
#include <time.h>

/* The library's clock, which a test may push forward: time-outs come at once. */
static dp_duration skew;
dp_time dp_clock_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (dp_time)ts.tv_sec * 1000000u + (dp_time)ts.tv_nsec / 1000u + skew;
}
int64_t dp_clock_unix(void) { return (int64_t)time(NULL); }

/* ---- the world ---------------------------------------------------------------------------------------- */

typedef enum hook {
    NO_HOOK,
    PEER_OPEN,
    CONNECTION,
    DISCONNECTED,
    PEER_ERROR,
    PEER_CLOSED,
    OPEN,
    DATA,
    DRAIN,
    CLOSED,
    FAILED,
    ICE_STATE,
    CALL,
    PIECE,
    DONE,
    HOOKS
} hook;

typedef enum act { CLOSE_CONNECTION, FLUSH_CONNECTION, DESTROY_PEER, ACTS } act;

typedef struct end {
    dp_peer *peer; /* NULL once destroyed */
    dp_connection *conn;
    dp_router *router;
    bool use_rpc;
    bool echo;
    unsigned count[HOOKS];
    hook hook; /* where act is done */
    act act;
    char ice_state[32];
    char error_type[64];
    char error_message[256];
    dp_value *last; /* of serialization binary and json */
    uint8_t *bytes; /* raw */
    size_t len;
    dp_message_type type;
    int done_error;
    int done_code;
    uint64_t streamed;
    dp_call *held; /* of the action "hold" */
} end;

static dp_loop *loop;
static dp_csprng *csprng;
static server peer_server;
static end a, b; /* a calls b */

#define WAIT(condition)                                                                                      \
    do {                                                                                                     \
        dp_time wait_deadline = dp_clock_now() + DP_SECONDS(30);                                             \
        while (!(condition)) {                                                                               \
            assert_true(dp_clock_now() < wait_deadline);                                                     \
            assert_int_equal(dp_loop_step(loop, DP_SECONDS(1)), DP_OK);                                      \
        }                                                                                                    \
    } while (0)

/* Everything that is on its way between two sockets of this process arrives in a few rounds. */
static inline void settle(void)
{
    for (int i = 0; i < 30; i++)
        assert_int_equal(dp_loop_step(loop, 0), DP_OK);
}

static inline void destroy(end *e)
{
    if (e->peer != NULL)
        dp_peer_destroy(e->peer);
    e->peer = NULL;
}

static inline void hit(end *e, hook where)
{
    e->count[where]++;
    if (e->hook != where)
        return;
    e->hook = NO_HOOK;
    if (e->act == DESTROY_PEER)
        destroy(e);
    else if (e->conn != NULL && e->act == CLOSE_CONNECTION)
        dp_connection_close(e->conn);
    else if (e->conn != NULL)
        (void)dp_connection_close_flush(e->conn);
}

static inline void on_open(void *user, dp_connection *conn)
{
    assert_true(dp_connection_is_open(conn));
    hit(user, OPEN);
}

static inline void on_data(void *user, dp_connection *conn, dp_message *message)
{
    end *e = user;
    dp_value_free(e->last);
    free(e->bytes);
    e->bytes = NULL;
    e->type = message->type;
    e->last = message->value;
    message->value = NULL;
    if (message->type != DP_MESSAGE_VALUE) {
        e->bytes = malloc(message->len + 1);
        assert_non_null(e->bytes);
        memcpy(e->bytes, message->data, message->len);
        e->len = message->len;
    }
    if (e->echo && e->last != NULL)
        assert_int_equal(dp_connection_send(conn, e->last), DP_OK);
    hit(e, DATA);
}

static inline void on_drain(void *user, dp_connection *conn)
{
    (void)conn;
    hit(user, DRAIN);
}

static inline void on_close(void *user, dp_connection *conn)
{
    end *e = user;
    assert_int_equal(dp_connection_send_text(conn, "x", 1) != DP_OK, 1);
    assert_false(dp_connection_is_open(conn));
    hit(e, CLOSED);
    if (e->conn == conn)
        e->conn = NULL;
}

static inline void keep_error(end *e, const char *type, const char *message)
{
    snprintf(e->error_type, sizeof(e->error_type), "%s", type);
    snprintf(e->error_message, sizeof(e->error_message), "%s", message);
}

static inline void on_error(void *user, dp_connection *conn, const char *type, const char *message)
{
    (void)conn;
    keep_error(user, type, message);
    hit(user, FAILED);
}

static inline void on_ice_state(void *user, dp_connection *conn, const char *state)
{
    end *e = user;
    (void)conn;
    snprintf(e->ice_state, sizeof(e->ice_state), "%s", state);
    hit(e, ICE_STATE);
}

static inline dp_connection_handler handler_of(end *e)
{
    return (dp_connection_handler){on_open, on_data, on_drain, on_close, on_error, on_ice_state, e};
}

static inline void on_peer_open(void *user, dp_peer *peer, const char *id)
{
    assert_string_equal(id, dp_peer_id(peer));
    hit(user, PEER_OPEN);
}

static inline void on_connection(void *user, dp_peer *peer, dp_connection *conn)
{
    end *e = user;
    dp_connection_handler handler = handler_of(e);
    assert_ptr_equal(dp_connection_get_peer(conn), peer);
    e->conn = conn;
    dp_connection_set_handler(conn, &handler);
    if (e->use_rpc)
        assert_int_equal(dp_connection_use_rpc(conn, e->router), DP_OK);
    hit(e, CONNECTION);
}

static inline void on_disconnected(void *user, dp_peer *peer, const char *reason)
{
    (void)peer;
    assert_non_null(reason);
    hit(user, DISCONNECTED);
}

static inline void on_peer_error(void *user, dp_peer *peer, const char *type, const char *message)
{
    (void)peer;
    keep_error(user, type, message);
    hit(user, PEER_ERROR);
}

static inline void on_peer_close(void *user, dp_peer *peer)
{
    (void)peer;
    hit(user, PEER_CLOSED);
}

static inline dp_peer_config config_of(end *e, const char *id)
{
    static char url[64];
    snprintf(url, sizeof(url), "ws://127.0.0.1:%u/", dp_listener_local(peer_server.listener)->port);
    return (dp_peer_config){
        .size = sizeof(dp_peer_config),
        .loop = loop,
        .random = dp_csprng_source(csprng),
        .server = url,
        .id = id,
        .include_loopback = true,
        .handler = {on_peer_open, on_connection, on_disconnected, on_peer_error, on_peer_close, e}};
}

static inline void start_with(end *e, const dp_peer_config *config)
{
    assert_int_equal(dp_peer_new(&e->peer, config), DP_OK);
    assert_int_equal(e->count[PEER_OPEN], 0); /* never inside a call */
    WAIT(e->count[PEER_OPEN] == 1);
}

static inline void start(end *e, const char *id)
{
    dp_peer_config config = config_of(e, id);
    start_with(e, &config);
}

static inline int set_up(void **state)
{
    (void)state;
    memset(&a, 0, sizeof(a));
    memset(&b, 0, sizeof(b));
    skew = 0;
    assert_int_equal(dp_loop_new(&loop), DP_OK);
    assert_int_equal(dp_csprng_new(&csprng), DP_OK);
    server_start(&peer_server, loop);
    return 0;
}

static inline void clear_end(end *e)
{
    destroy(e);
    settle();
    dp_router_free(e->router);
    dp_value_free(e->last);
    free(e->bytes);
}

static inline int tear_down(void **state)
{
    (void)state;
    clear_end(&a);
    clear_end(&b);
    server_stop(&peer_server);
    settle();
    dp_loop_free(loop);
    dp_csprng_free(csprng);
    return 0;
}

static inline void call_with(const dp_connect_options *options)
{
    dp_connection_handler handler = handler_of(&a);
    assert_int_equal(dp_peer_connect(a.peer, &a.conn, "callee", options), DP_OK);
    dp_connection_set_handler(a.conn, &handler);
    if (a.use_rpc)
        assert_int_equal(dp_connection_use_rpc(a.conn, a.router), DP_OK);
}

static inline void call_as(const char *kind, bool reliable)
{
    dp_connect_options options = {.size = sizeof(options), .serialization = kind, .reliable = reliable};
    call_with(&options);
}

static inline void connect_as(const char *kind)
{
    start(&a, "caller");
    start(&b, "callee");
    call_as(kind, false);
    WAIT(a.count[OPEN] == 1 && b.count[OPEN] == 1);
}

#endif
