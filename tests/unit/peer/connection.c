/* Peer and DataConnection: two peers and a PeerServer in one process, on one loop, over loopback. */
#include "world.h"

static dp_value *pattern(size_t len)
{
    uint8_t *data = malloc(len);
    assert_non_null(data);
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i * 7 + (i >> 8));
    dp_value *value = dp_value_bytes(data, len);
    free(data);
    assert_non_null(value);
    return value;
}

/* ---- the usual life ---- */

static void opens_exchanges_closes(void **state)
{
    (void)state;
    start(&a, NULL);
    assert_string_equal(dp_peer_id(a.peer), "given-0");
    start(&b, "callee");
    dp_connect_options options = {.size = sizeof(options), .label = "l", .metadata = "{\"k\":[1]}"};
    call_with(&options);
    assert_false(dp_connection_is_open(a.conn));
    assert_int_equal(dp_connection_send(a.conn, NULL), DP_ERR_INVALID_STATE);
    assert_int_equal(dp_connection_close_flush(a.conn), DP_ERR_INVALID_STATE);
    WAIT(a.count[OPEN] == 1 && b.count[OPEN] == 1);
    assert_int_equal(a.count[FAILED], 1);
    assert_string_equal(a.error_type, "not-open-yet");
    assert_string_equal(dp_connection_remote_id(a.conn), "callee");
    assert_string_equal(dp_connection_remote_id(b.conn), "given-0");
    assert_string_equal(dp_connection_id(a.conn), dp_connection_id(b.conn));
    assert_string_equal(dp_connection_label(b.conn), "l");
    assert_string_equal(dp_connection_metadata(b.conn), "{\"k\":[1]}");
    assert_string_equal(dp_connection_serialization(b.conn), "binary");
    assert_string_equal(dp_connection_state_name(a.conn), "connected");
    assert_false(dp_connection_reliable(b.conn));
    assert_int_equal(dp_peer_connection_count(a.peer), 1);
    b.echo = true;
    dp_value *value = dp_value_map();
    assert_int_equal(dp_value_set(value, "a", dp_value_string("\xc3\xa9")), DP_OK);
    assert_int_equal(dp_value_set(value, "b", dp_value_double(0.5)), DP_OK);
    assert_int_equal(dp_connection_send(a.conn, value), DP_OK);
    WAIT(a.count[DATA] == 1);
    assert_true(dp_value_equal(a.last, value));
    dp_value_free(value);
    dp_connection_close(a.conn);
    assert_int_equal(a.count[CLOSED], 0); /* never inside a call */
    WAIT(a.count[CLOSED] == 1 && b.count[CLOSED] == 1);
    assert_int_equal(dp_peer_connection_count(a.peer), 0);
    assert_int_equal(dp_peer_connection_count(b.peer), 0);
    assert_int_equal(a.count[FAILED] + b.count[FAILED], 1);
}

static void carries_large_values_both_ways(void **state)
{
    (void)state;
    connect_as("binary");
    b.echo = true;
    dp_value *value = pattern(1 << 20);
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(dp_connection_send(a.conn, value), DP_OK);
        assert_true(dp_connection_buffered(a.conn) >= 1 << 20);
    }
    WAIT(a.count[DATA] == 3);
    assert_true(dp_value_equal(a.last, value));
    dp_value_free(value);
    WAIT(dp_connection_buffered(a.conn) == 0);
}

static void carries_json(void **state)
{
    (void)state;
    connect_as("json");
    assert_string_equal(dp_connection_serialization(b.conn), "json");
    b.echo = true;
    static const char text[] = "{\"a\":[1,null,true,\"x\"],\"b\":{\"c\":-1.5}}";
    dp_value *value;
    assert_int_equal(dp_value_from_json(&value, text, strlen(text)), DP_OK);
    assert_int_equal(dp_connection_send(a.conn, value), DP_OK);
    WAIT(a.count[DATA] == 1);
    assert_true(dp_value_equal(a.last, value));
    dp_value_free(value);
    assert_int_equal(dp_connection_send_text(a.conn, "x", 1), DP_ERR_UNSUPPORTED);
    char *letters = malloc(DP_CHUNK_SIZE);
    memset(letters, 'x', DP_CHUNK_SIZE);
    value = dp_value_string_n(letters,
                              DP_CHUNK_SIZE - 3); /* with its quotation marks the longest that PeerJS sends */
    assert_int_equal(dp_connection_send(a.conn, value), DP_OK);
    WAIT(a.count[DATA] == 2);
    dp_value_free(value);
    value = dp_value_string_n(letters, DP_CHUNK_SIZE - 2);
    assert_int_equal(dp_connection_send(a.conn, value), DP_ERR_TOO_LARGE); /* json knows no chunks */
    assert_int_equal(a.count[FAILED], 0);                                  /* never inside a call */
    WAIT(a.count[FAILED] == 1);
    assert_string_equal(a.error_type, "message-too-big");
    assert_true(dp_connection_is_open(a.conn));
    dp_value_free(value);
    free(letters);
}

static void carries_raw(void **state)
{
    (void)state;
    connect_as("raw");
    assert_int_equal(dp_connection_use_rpc(a.conn, NULL), DP_ERR_INVALID_STATE);
    assert_int_equal(dp_connection_send(a.conn, NULL), DP_ERR_UNSUPPORTED);
    assert_int_equal(dp_connection_send_text(a.conn, "h\xc3\xa9", 3), DP_OK);
    WAIT(b.count[DATA] == 1);
    assert_int_equal(b.type, DP_MESSAGE_TEXT);
    assert_int_equal(b.len, 3);
    assert_int_equal(dp_connection_send_bytes(b.conn, (const uint8_t *)"\0\1", 2), DP_OK);
    WAIT(a.count[DATA] == 1);
    assert_int_equal(a.type, DP_MESSAGE_BYTES);
    assert_memory_equal(a.bytes, "\0\1", 2);
    assert_int_equal(dp_connection_send_bytes(a.conn, NULL, 0), DP_OK);
    assert_int_equal(dp_connection_send_text(a.conn, "", 0), DP_OK);
    WAIT(b.count[DATA] == 3);
    assert_int_equal(b.len, 0);
    uint8_t *large = calloc(1, 262145);
    assert_int_equal(dp_connection_send_bytes(a.conn, large, 262145), DP_ERR_TOO_LARGE);
    assert_int_equal(dp_connection_send_bytes(a.conn, large, 262144), DP_OK);
    free(large);
    WAIT(b.count[DATA] == 4);
    assert_int_equal(b.len, 262144);
}

/* A PeerJS page calls a method of what it decoded: null throws there. */
static void refuses_a_bare_null(void **state)
{
    const char *serialization = *state;
    connect_as(serialization);
    dp_value *null = dp_value_null();
    assert_int_equal(dp_connection_send(a.conn, null), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_connection_send(a.conn, NULL), DP_ERR_INVALID_ARGUMENT);
    dp_value_free(null);
}

/* ---- closing ---- */

static void flushes_before_it_closes(void **state)
{
    const char *serialization = *state;
    bool json = strcmp(serialization, "json") == 0;
    connect_as(serialization);
    end *ends[] = {&a, &b};
    dp_value *value = pattern(json ? 4000 : 1 << 20);
    for (int i = 0; i < 2; i++) {
        end *from = ends[i], *to = ends[1 - i];
        if (i == 1) {
            call_as(serialization, true);
            WAIT(a.count[OPEN] == 2 && b.count[OPEN] == 2);
        }
        unsigned before = to->count[DATA];
        for (int j = 0; j < 4; j++)
            assert_int_equal(dp_connection_send(from->conn, value), DP_OK);
        assert_int_equal(dp_connection_close_flush(from->conn), DP_OK);
        assert_int_not_equal(dp_connection_send(from->conn, value), DP_OK);
        unsigned closes = (unsigned)i + 1;
        WAIT(a.count[CLOSED] == closes && b.count[CLOSED] == closes);
        assert_int_equal(to->count[DATA], before + 4);
    }
    dp_value_free(value);
    assert_int_equal(a.count[FAILED] + b.count[FAILED], 0);
}

/* On a slow path the queue may take longer than 10 s. */
static void a_flush_that_goes_on_has_time(void **state)
{
    (void)state;
    connect_as("binary");
    dp_value *value = pattern(1 << 20);
    for (int i = 0; i < 16; i++)
        assert_int_equal(dp_connection_send(a.conn, value), DP_OK);
    dp_value_free(value);
    assert_int_equal(dp_connection_close_flush(a.conn), DP_OK);
    for (unsigned i = 1; i <= 4; i++) {
        WAIT(b.count[DATA] >= 3 * i);
        skew += DP_SECONDS(6);
    }
    WAIT(a.count[CLOSED] == 1 && b.count[CLOSED] == 1);
    assert_int_equal(b.count[DATA], 16);
}

/* On raw nobody understands the close message. */
static void a_flush_ends_after_10_s(void **state)
{
    (void)state;
    connect_as("raw");
    assert_int_equal(dp_connection_send_text(a.conn, "last", 4), DP_OK);
    assert_int_equal(dp_connection_close_flush(a.conn), DP_OK);
    WAIT(b.count[DATA] == 2);
    assert_int_equal(a.count[CLOSED], 0);
    skew += DP_SECONDS(10);
    WAIT(a.count[CLOSED] == 1 && b.count[CLOSED] == 1);
    assert_int_equal(a.count[FAILED], 0);
}

/* ---- requests ---- */

static void act_echo(void *user, dp_call *call)
{
    assert_ptr_equal(dp_call_connection(call), ((end *)user)->conn);
    dp_call_reply(call, dp_value_copy(dp_call_body(call)));
    hit(user, CALL);
}

static void act_gone(void *user) { ((end *)user)->held = NULL; }

static void act_hold(void *user, dp_call *call)
{
    end *e = user;
    e->held = call;
    dp_call_on_gone(call, act_gone, e);
    hit(e, CALL);
}

typedef struct source {
    end *end;
    uint64_t left;
} source;

static int read_source(void *user, uint8_t *out, size_t capacity, size_t *len)
{
    source *s = user;
    *len = s->left < capacity ? (size_t)s->left : capacity;
    memset(out, 7, *len);
    s->left -= *len;
    return DP_OK;
}

static void end_source(void *user, int error)
{
    (void)error;
    free(user);
}

static void act_stream(void *user, dp_call *call)
{
    source *s = malloc(sizeof(*s));
    assert_non_null(s);
    *s = (source){user, dp_value_get_uint(dp_call_body(call), 0)};
    dp_stream stream = {
        .size = sizeof(stream), .read = read_source, .on_end = end_source, .user = s, .total = UINT64_MAX};
    assert_int_equal(dp_call_stream(call, &stream), DP_OK);
    hit(user, CALL);
}

static void with_rpc(void)
{
    a.use_rpc = b.use_rpc = true;
    assert_int_equal(dp_router_new(&b.router), DP_OK);
    assert_int_equal(dp_router_register(b.router, "echo", act_echo, &b), DP_OK);
    assert_int_equal(dp_router_register(b.router, "hold", act_hold, &b), DP_OK);
    assert_int_equal(dp_router_register(b.router, "stream", act_stream, &b), DP_OK);
}

static int on_piece(void *user, const uint8_t *data, size_t len, uint64_t total)
{
    end *e = user;
    assert_int_equal(total, UINT64_MAX);
    assert_true(len == 0 || data[0] == 7);
    e->streamed += len;
    hit(e, PIECE);
    return DP_OK;
}

static void on_done(void *user, int error, const dp_value *context)
{
    end *e = user;
    e->done_error = error;
    e->done_code = dp_context_code(context, 0);
    dp_value_free(e->last);
    e->last = dp_context_data(context) != NULL ? dp_value_copy(dp_context_data(context)) : NULL;
    hit(e, DONE);
}

static int ask(const char *action, dp_value *body, char id[DP_REQUEST_ID_LEN + 1])
{
    dp_request request = {.size = sizeof(request),
                          .action = action,
                          .body = body,
                          .on_data = strcmp(action, "stream") == 0 ? on_piece : NULL,
                          .on_done = on_done,
                          .user = &a};
    return dp_connection_request(a.conn, &request, id);
}

static void asks_and_answers(void **state)
{
    const char *serialization = *state;
    with_rpc();
    connect_as(serialization);
    assert_int_equal(ask("echo", dp_value_string("x"), NULL), DP_OK);
    WAIT(a.count[DONE] == 1);
    assert_int_equal(a.done_error, DP_OK);
    assert_string_equal(dp_value_get_string(a.last, NULL), "x");
    assert_int_equal(ask("nothing", NULL, NULL), DP_OK);
    WAIT(a.count[DONE] == 2);
    assert_int_equal(a.done_error, DP_ERR_REMOTE);
    assert_int_equal(a.done_code, 404);
    assert_int_equal(ask("hold", NULL, NULL), DP_OK); /* answered from outside of any callback */
    WAIT(b.count[CALL] == 2);
    settle();
    dp_call_reply(b.held, dp_value_bool(true));
    WAIT(a.count[DONE] == 3);
    assert_true(dp_value_get_bool(a.last, false));
    /* What is no context is the user's. */
    dp_value *value = dp_value_string("plain");
    assert_int_equal(dp_connection_send(a.conn, value), DP_OK);
    WAIT(b.count[DATA] == 1);
    assert_true(dp_value_equal(b.last, value));
    dp_value_free(value);
    /* The connection's end ends the requests. */
    assert_int_equal(ask("hold", NULL, NULL), DP_OK);
    WAIT(b.count[CALL] == 3);
    dp_connection_close(b.conn);
    WAIT(a.count[CLOSED] == 1 && b.count[CLOSED] == 1);
    assert_int_equal(a.count[DONE], 4);
    assert_int_equal(a.done_error, DP_ERR_CLOSED);
    assert_null(b.held);
}

/* json knows no chunks: PeerJS sends less than 16,300 bytes of it, so do we, in requests and answers, too. */
static void a_request_too_big_for_json_is_refused(void **state)
{
    (void)state;
    with_rpc();
    connect_as("json");
    char *letters = malloc(DP_CHUNK_SIZE);
    assert_non_null(letters);
    memset(letters, 'x', DP_CHUNK_SIZE);
    size_t len = DP_CHUNK_SIZE;
    while (ask("echo", dp_value_string_n(letters, len), NULL) == DP_ERR_TOO_LARGE)
        len--;
    assert_int_equal(a.count[FAILED], 0); /* never inside a call */
    WAIT(a.count[FAILED] == 1);
    assert_string_equal(a.error_type, "message-too-big");
    /* Two texts of quotation marks, braces and names, but never twice the letters: the answer has them once more. */
    assert_in_range(len, DP_CHUNK_SIZE - 200, DP_CHUNK_SIZE - 100);
    WAIT(a.count[DONE] == 1);
    assert_int_equal(a.done_error, DP_ERR_REMOTE);
    assert_int_equal(a.done_code, 500);
    assert_int_equal(ask("echo", dp_value_string_n(letters, 8000), NULL), DP_OK);
    WAIT(a.count[DONE] == 2);
    assert_int_equal(a.done_error, DP_OK);
    free(letters);
}

static void an_answer_too_big_for_json_is_an_error(void **state)
{
    (void)state;
    with_rpc();
    connect_as("json");
    assert_int_equal(ask("hold", NULL, NULL), DP_OK);
    WAIT(b.count[CALL] == 1);
    assert_int_equal(dp_call_reply(b.held, pattern(200000)), DP_ERR_TOO_LARGE);
    WAIT(b.count[FAILED] == 1 && a.count[DONE] == 1);
    assert_string_equal(b.error_type, "message-too-big");
    assert_int_equal(a.done_error, DP_ERR_REMOTE);
    assert_int_equal(a.done_code, 500);
    assert_int_equal(ask("echo", dp_value_string("x"), NULL), DP_OK);
    WAIT(a.count[DONE] == 2);
    assert_int_equal(a.done_error, DP_OK);
    assert_int_equal(a.count[CLOSED] + b.count[CLOSED], 0);
}

static void act_stream_in_vain(void *user, dp_call *call)
{
    source *s = calloc(1, sizeof(*s));
    assert_non_null(s);
    dp_stream stream = {.size = sizeof(stream), .read = read_source, .on_end = end_source, .user = s};
    assert_int_equal(dp_call_stream(call, &stream), DP_ERR_UNSUPPORTED);
    hit(user, CALL);
}

static void json_carries_no_streams(void **state)
{
    (void)state;
    with_rpc();
    assert_int_equal(dp_router_register(b.router, "vain", act_stream_in_vain, &b), DP_OK);
    connect_as("json");
    assert_int_equal(ask("vain", NULL, NULL), DP_OK);
    WAIT(a.count[DONE] == 1);
    assert_int_equal(a.done_error, DP_ERR_REMOTE);
    assert_int_equal(a.done_code, 500);
}

static dp_value *with_proto(void)
{
    dp_value *value = dp_value_map();
    assert_int_equal(dp_value_set(value, "__proto__", dp_value_int(1)), DP_OK);
    return value;
}

/* A MsgPackPeer that reads this key never reads anything again (docs/peerjs.md 2.2). */
static void proto_is_not_sent_as_msgpack(void **state)
{
    (void)state;
    with_rpc();
    connect_as("MsgPack");
    dp_value *value = with_proto();
    assert_int_equal(dp_connection_send(a.conn, value), DP_ERR_INVALID_ARGUMENT);
    dp_value_free(value);
    assert_int_equal(ask("echo", with_proto(), NULL), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(ask("hold", NULL, NULL), DP_OK);
    WAIT(b.count[CALL] == 1);
    assert_int_equal(dp_call_reply(b.held, with_proto()), DP_ERR_INVALID_ARGUMENT);
    WAIT(a.count[DONE] == 1);
    assert_int_equal(a.done_error, DP_ERR_REMOTE);
    assert_int_equal(a.done_code, 500);
    assert_int_equal(ask("stream", dp_value_uint(100000), NULL), DP_OK);
    WAIT(a.count[DONE] == 2);
    assert_int_equal(a.done_error, DP_OK);
    assert_int_equal(a.streamed, 100000);
}

static void streams(void **state)
{
    (void)state;
    with_rpc();
    connect_as("binary");
    assert_int_equal(ask("stream", dp_value_uint(5 << 20), NULL), DP_OK);
    WAIT(a.count[DONE] == 1);
    assert_int_equal(a.done_error, DP_OK);
    assert_int_equal(a.streamed, 5 << 20);
}

static void requests_need_a_connection(void **state)
{
    (void)state;
    start(&a, "caller");
    start(&b, "callee");
    call_as("binary", false);
    assert_int_equal(ask("echo", dp_value_null(), NULL), DP_ERR_INVALID_STATE); /* no rpc */
    assert_int_equal(dp_connection_cancel(a.conn, "x"), DP_ERR_NOT_FOUND);
    assert_int_equal(dp_connection_use_rpc(a.conn, NULL), DP_OK);
    assert_int_equal(dp_connection_use_rpc(a.conn, NULL), DP_ERR_INVALID_STATE);
    assert_int_equal(ask("echo", dp_value_null(), NULL), DP_ERR_INVALID_STATE); /* not open */
    dp_connection_close(a.conn);
    assert_int_equal(ask("echo", dp_value_null(), NULL), DP_ERR_CLOSED);
    WAIT(a.count[CLOSED] == 1);
    assert_int_equal(a.count[DONE], 0);
}

/* The answer and the goodbye: what was answered before close_flush belongs to "everything queued". */
static void act_last_words(void *user, dp_call *call)
{
    (void)user;
    dp_connection *conn = dp_call_connection(call);
    bool json = strcmp(dp_connection_serialization(conn), "json") == 0;
    assert_int_equal(dp_call_reply(call, pattern(json ? 4000 : 50000)), DP_OK);
    assert_int_equal(dp_connection_close_flush(conn), DP_OK);
}

static void a_flush_takes_answers_along(void **state)
{
    const char *serialization = *state;
    with_rpc();
    assert_int_equal(dp_router_register(b.router, "last words", act_last_words, &b), DP_OK);
    connect_as(serialization);
    assert_int_equal(ask("last words", NULL, NULL), DP_OK);
    WAIT(a.count[CLOSED] == 1 && b.count[CLOSED] == 1);
    assert_int_equal(a.count[DONE], 1);
    assert_int_equal(a.done_error, DP_OK);
}

/* ---- back-pressure ---- */

static void blocks_and_drains(void **state)
{
    (void)state;
    connect_as("binary");
    dp_value *value = pattern(1 << 20);
    unsigned sent = 0;
    while (dp_connection_send(a.conn, value) == DP_OK)
        sent++;
    assert_int_equal(sent, 16);
    assert_int_equal(dp_connection_send(a.conn, value), DP_ERR_WOULD_BLOCK);
    assert_int_equal(a.count[DRAIN], 0);
    assert_true(dp_connection_buffered(a.conn) >= 16 << 20);
    WAIT(a.count[DRAIN] == 1);
    assert_int_equal(dp_connection_send(a.conn, value), DP_OK);
    WAIT(b.count[DATA] == sent + 1);
    assert_int_equal(a.count[DRAIN], 1);
    dp_value_free(value);
}

/* ---- closing and destroying anywhere ---- */

/* What happens where, until both connections are gone. */
static void disturb(end *who, hook where, act what)
{
    void *none = NULL;
    set_up(&none);
    with_rpc();
    who->hook = where;
    who->act = what;
    dp_peer_config config = config_of(&a, "caller");
    assert_int_equal(dp_peer_new(&a.peer, &config), DP_OK);
    config = config_of(&b, "callee");
    assert_int_equal(dp_peer_new(&b.peer, &config), DP_OK);
    WAIT(a.count[PEER_OPEN] == 1 && b.count[PEER_OPEN] == 1);
    if (a.peer != NULL) {
        call_as("binary", false);
        WAIT(who->count[where] > 0 || (a.count[OPEN] == 1 && b.count[OPEN] == 1) || a.count[CLOSED] == 1);
    }
    if (a.conn != NULL && dp_connection_is_open(a.conn)) {
        dp_value *value = pattern(1 << 20);
        assert_int_equal(ask("echo", dp_value_copy(value), NULL), DP_OK);
        assert_int_equal(ask("stream", dp_value_uint(1 << 20), NULL), DP_OK);
        assert_int_equal(ask("hold", NULL, NULL), DP_OK);
        while (dp_connection_send(a.conn, value) == DP_OK)
            ;
        dp_value_free(value);
        WAIT(who->count[where] > 0 || (b.count[DATA] >= 16 && a.count[DRAIN] == 1 && a.count[DONE] == 2));
    }
    if (a.conn != NULL && who->hook == NO_HOOK && a.count[OPEN] == 1 && b.count[OPEN] == 1)
        WAIT(a.count[CLOSED] == 1 && b.count[CLOSED] == 1); /* the other side hears of it */
    if (who->hook != NO_HOOK && a.conn != NULL && where == CLOSED) {
        dp_connection_close(who == &a ? a.conn : b.conn);
        WAIT(a.count[CLOSED] == 1 && b.count[CLOSED] == 1);
    }
    unsigned called = a.conn != NULL || a.count[CLOSED] > 0;
    tear_down(&none);
    assert_int_equal(a.count[CLOSED], called);
    assert_int_equal(b.count[CLOSED], b.count[CONNECTION]);
    assert_int_equal(who->hook, NO_HOOK);
    assert_null(b.held);
}

static void may_end_in_every_callback(void **state)
{
    (void)state;
    static const hook callers[] = {PEER_OPEN, OPEN, DRAIN, CLOSED, PIECE, DONE};
    static const hook callees[] = {PEER_OPEN, CONNECTION, OPEN, DATA, CALL, CLOSED};
    for (act what = 0; what < ACTS; what++)
        for (size_t i = 0; i < 6; i++) {
            disturb(&a, callers[i], what);
            disturb(&b, callees[i], what);
        }
}

static void may_be_destroyed_in_an_error(void **state)
{
    (void)state;
    start(&a, "caller");
    a.hook = FAILED;
    a.act = DESTROY_PEER;
    call_as("binary", false); /* nobody there: EXPIRE */
    WAIT(a.count[CLOSED] == 1);
    assert_int_equal(a.count[PEER_ERROR], 0); /* destroyed peers say nothing more */
    settle();
    memset(a.count, 0, sizeof(a.count));
    start(&a, "caller");
    a.hook = PEER_ERROR;
    call_as("binary", false);
    WAIT(a.count[CLOSED] == 1);
    settle();
    memset(a.count, 0, sizeof(a.count));
    start(&a, "caller");
    a.hook = DISCONNECTED;
    server_drop(server_find(&peer_server, "caller"));
    WAIT(a.count[DISCONNECTED] == 1);
    assert_null(a.peer);
    assert_int_equal(a.count[PEER_ERROR], 1);
}

/* ---- what the PeerServer can do ---- */

static void tells_of_absent_peers(void **state)
{
    (void)state;
    start(&a, "caller");
    call_as("binary", false);
    WAIT(a.count[CLOSED] == 1);
    assert_int_equal(a.count[FAILED], 1);
    assert_int_equal(a.count[PEER_ERROR], 1);
    assert_string_equal(a.error_type, "peer-unavailable");
    assert_int_equal(dp_peer_connection_count(a.peer), 0);
}

static void gives_up_after_60_s(void **state)
{
    (void)state;
    start(&a, "caller");
    start(&b, "callee");
    peer_server.swallow = "ANSWER";
    call_as("binary", false);
    WAIT(peer_server.offers == 1);
    settle();
    skew += DP_SECONDS(60);
    WAIT(a.count[CLOSED] == 1 && b.count[CLOSED] == 1);
    assert_string_equal(a.error_type, "negotiation-failed");
    assert_string_equal(b.error_type, "negotiation-failed");
}

static void leaves_when_the_other_side_leaves(void **state)
{
    (void)state;
    connect_as("binary");
    server_send(server_find(&peer_server, "caller"), "{\"type\":\"LEAVE\",\"src\":\"somebody else\"}");
    server_send(server_find(&peer_server, "caller"), "{\"type\":\"LEAVE\",\"src\":\"callee\"}");
    WAIT(a.count[CLOSED] == 1 && b.count[CLOSED] == 1);
}

static void says_that_an_id_is_taken(void **state)
{
    (void)state;
    start(&a, "caller");
    dp_peer_config config = config_of(&b, "caller");
    assert_int_equal(dp_peer_new(&b.peer, &config), DP_OK);
    WAIT(b.count[DISCONNECTED] == 1);
    assert_string_equal(b.error_type, "unavailable-id");
    assert_int_equal(b.count[PEER_OPEN], 0);
    dp_connection *conn;
    assert_int_equal(dp_peer_connect(b.peer, &conn, "caller", NULL), DP_ERR_INVALID_STATE);
}

static void comes_back_to_the_server(void **state)
{
    (void)state;
    dp_peer_config config = config_of(&a, "caller");
    config.reconnect = true;
    start_with(&a, &config);
    start(&b, "callee");
    call_as("binary", false);
    WAIT(a.count[OPEN] == 1 && b.count[OPEN] == 1);
    server_drop(server_find(&peer_server, "caller"));
    WAIT(a.count[DISCONNECTED] == 1);
    assert_int_equal(a.count[PEER_ERROR], 1);
    dp_connection *conn;
    assert_int_equal(dp_peer_connect(a.peer, &conn, "callee", NULL), DP_ERR_INVALID_STATE);
    b.echo = true; /* the connection lives on */
    dp_value *value = dp_value_int(1);
    assert_int_equal(dp_connection_send(a.conn, value), DP_OK);
    dp_value_free(value);
    WAIT(a.count[DATA] == 1);
    skew += DP_SECONDS(1);
    WAIT(a.count[PEER_OPEN] == 2);
    dp_connection_close(a.conn);
    WAIT(a.count[CLOSED] == 1 && b.count[CLOSED] == 1);
    call_as("binary", false);
    WAIT(a.count[OPEN] == 2);
    dp_peer_disconnect(a.peer);
    WAIT(a.count[DISCONNECTED] == 2);
    skew += DP_SECONDS(5);
    settle();
    assert_int_equal(a.count[PEER_OPEN], 2); /* what was asked for stays */
    assert_int_equal(dp_peer_reconnect(a.peer), DP_OK);
    WAIT(a.count[PEER_OPEN] == 3);
    assert_int_equal(dp_peer_reconnect(a.peer), DP_ERR_INVALID_STATE);
}

/* ---- what the other side can say ---- */

static void send_offer_to_b(const char *id, const char *serialization, const char *sdp)
{
    char text[8192];
    snprintf(text, sizeof(text),
             "{\"type\":\"OFFER\",\"src\":\"mallory\",\"dst\":\"callee\",\"payload\":{\"sdp\":{\"type\":"
             "\"offer\",\"sdp\":\"%s\"},\"type\":\"data\",\"connectionId\":\"%s\",\"label\":\"l\","
             "\"reliable\":false,\"serialization\":\"%s\"}}",
             sdp, id, serialization);
    server_send(server_find(&peer_server, "callee"), text);
}

static const char good_sdp[] =
    "v=0\\r\\no=- 1 2 IN IP4 127.0.0.1\\r\\ns=-\\r\\nt=0 0\\r\\nm=application 9 UDP/DTLS/SCTP "
    "webrtc-datachannel\\r\\nc=IN IP4 "
    "0.0.0.0\\r\\na=ice-ufrag:abcd\\r\\na=ice-pwd:abcdefghijklmnopqrstuv\\r\\n"
    "a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:"
    "BB:CC:DD:EE:FF\\r\\na=setup:actpass\\r\\na=mid:0\\r\\na=sctp-port:5000\\r\\n";

static void survives_bad_offers(void **state)
{
    (void)state;
    start(&b, "callee");
    send_offer_to_b("dc_1", "msgpack", good_sdp);
    WAIT(b.count[PEER_ERROR] == 1);
    assert_string_equal(b.error_type, "webrtc");
    assert_int_equal(b.count[CONNECTION], 0);
    send_offer_to_b("dc_2", "binary", "v=0\\r\\nnonsense\\r\\n");
    WAIT(b.count[CLOSED] == 1);
    assert_int_equal(b.count[CONNECTION], 1);
    assert_int_equal(b.count[FAILED], 1);
    assert_int_equal(b.count[PEER_ERROR], 2);
    assert_string_equal(b.error_type, "webrtc");
    /* Answers and candidates to no call of ours. */
    server_send(server_find(&peer_server, "callee"),
                "{\"type\":\"ANSWER\",\"src\":\"mallory\",\"payload\":{\"sdp\":{\"type\":\"answer\",\"sdp\":"
                "\"v=0\"},\"type\":\"data\",\"connectionId\":\"dc_9\"}}");
    server_send(server_find(&peer_server, "callee"),
                "{\"type\":\"CANDIDATE\",\"src\":\"mallory\",\"payload\":{\"candidate\":{\"candidate\":"
                "\"candidate:x\",\"sdpMLineIndex\":0,\"sdpMid\":\"0\"},\"type\":\"data\",\"connectionId\":"
                "\"dc_9\"}}");
    /* The same id again replaces the connection that it named. */
    send_offer_to_b("dc_3", "binary", good_sdp);
    send_offer_to_b("dc_3", "binary", good_sdp);
    WAIT(b.count[CONNECTION] == 3 && b.count[CLOSED] == 2);
    settle();
    assert_int_equal(dp_peer_connection_count(b.peer), 1);
}

static void limits_its_connections(void **state)
{
    (void)state;
    dp_peer_config config = config_of(&b, "callee");
    config.max_connections = 3;
    start_with(&b, &config);
    for (int i = 0; i < 10; i++) {
        char id[16];
        snprintf(id, sizeof(id), "dc_%d", i);
        send_offer_to_b(id, "binary", good_sdp);
    }
    WAIT(b.count[CONNECTION] == 10);
    settle();
    assert_int_equal(b.count[CLOSED], 7);
    assert_int_equal(dp_peer_connection_count(b.peer), 3);
    assert_string_equal(dp_connection_id(b.conn), "dc_9");
    skew += DP_SECONDS(60);
    WAIT(b.count[CLOSED] == 10);
    assert_int_equal(dp_peer_connection_count(b.peer), 0);
    assert_int_equal(b.count[PEER_ERROR], 0);
}

static void may_be_destroyed_while_making_room(void **state)
{
    (void)state;
    static const hook hooks[] = {FAILED, CLOSED};
    for (int i = 0; i < 2; i++) {
        dp_peer_config config = config_of(&b, "callee");
        config.max_connections = 1;
        memset(b.count, 0, sizeof(b.count));
        start_with(&b, &config);
        b.hook = hooks[i];
        b.act = DESTROY_PEER;
        send_offer_to_b("dc_1", "binary", good_sdp);
        send_offer_to_b("dc_2", "binary", good_sdp);
        WAIT(b.count[CLOSED] == 1);
        settle();
        assert_int_equal(b.count[CONNECTION], 1);
        assert_null(b.peer);
    }
}

/* What is open stays; over it offers are ignored, without an error each. */
static void ignores_offers_when_all_are_open(void **state)
{
    (void)state;
    start(&a, "caller");
    dp_peer_config config = config_of(&b, "callee");
    config.max_connections = 1;
    start_with(&b, &config);
    call_as("binary", false);
    WAIT(a.count[OPEN] == 1 && b.count[OPEN] == 1);
    for (int i = 0; i < 10; i++)
        send_offer_to_b("dc_1", "binary", good_sdp);
    settle();
    assert_int_equal(b.count[CONNECTION], 1);
    assert_int_equal(b.count[PEER_ERROR], 0);
    assert_true(dp_connection_is_open(a.conn));
}

/* One flooder's half-open connections must not keep everybody else out. */
static void a_flooder_keeps_nobody_out(void **state)
{
    (void)state;
    dp_peer_config config = config_of(&b, "callee");
    config.max_connections = 8;
    start_with(&b, &config);
    for (int i = 0; i < 20; i++) {
        char id[16];
        snprintf(id, sizeof(id), "dc_%d", i);
        send_offer_to_b(id, "binary", good_sdp);
    }
    WAIT(b.count[CONNECTION] >= 1);
    settle();
    start(&a, "caller");
    call_as("binary", false);
    WAIT(peer_server.offers == 1);
    settle();
    for (int i = 20; i < 40; i++) {
        char id[16];
        snprintf(id, sizeof(id), "dc_%d", i);
        send_offer_to_b(id, "binary", good_sdp);
    }
    WAIT(a.count[OPEN] == 1);
}

static void takes_no_calls_without_a_handler(void **state)
{
    (void)state;
    start(&a, "caller");
    dp_peer_config config = config_of(&b, "callee");
    config.handler.on_connection = NULL;
    start_with(&b, &config);
    call_as("binary", false);
    WAIT(peer_server.offers == 1);
    settle();
    assert_int_equal(dp_peer_connection_count(b.peer), 0);
}

static void refuses_misuse(void **state)
{
    (void)state;
    start(&a, "caller");
    dp_connection *conn = NULL;
    dp_connect_options options = {.size = sizeof(options), .serialization = "msgpack"};
    assert_int_equal(dp_peer_connect(a.peer, &conn, "callee", &options), DP_ERR_UNSUPPORTED);
    assert_int_equal(dp_peer_connect(a.peer, &conn, "", NULL), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_peer_connect(a.peer, &conn, "a\nb", NULL), DP_ERR_INVALID_ARGUMENT);
    options = (dp_connect_options){.size = sizeof(options), .metadata = "{nonsense"};
    assert_int_equal(dp_peer_connect(a.peer, &conn, "callee", &options), DP_ERR_INVALID_ARGUMENT);
    char *label = malloc(70001);
    assert_non_null(label);
    memset(label, 'l', 70000);
    label[70000] = '\0';
    options = (dp_connect_options){.size = sizeof(options), .label = label};
    assert_int_not_equal(dp_peer_connect(a.peer, &conn, "callee", &options), DP_OK);
    free(label);
    assert_int_equal(dp_peer_connection_count(a.peer), 0);
    assert_null(conn);
    dp_ice_server servers[9] = {{.size = sizeof(dp_ice_server)}};
    assert_int_equal(dp_address_parse(&servers[0].address, "192.0.2.1", 3478), DP_OK);
    for (int i = 1; i < 9; i++)
        servers[i] = servers[0];
    assert_int_equal(dp_peer_set_ice_servers(a.peer, servers, 8), DP_OK);
    assert_int_equal(dp_peer_set_ice_servers(a.peer, servers, 9), DP_ERR_INVALID_ARGUMENT);
    servers[1].turn = true; /* without credentials */
    assert_int_equal(dp_peer_set_ice_servers(a.peer, servers, 2), DP_ERR_INVALID_ARGUMENT);
    servers[1].username = servers[1].credential = "x";
    assert_int_equal(dp_peer_set_ice_servers(a.peer, servers, 2), DP_OK);
    dp_peer *peer = NULL;
    dp_peer_config config = config_of(&b, "not valid!");
    assert_int_equal(dp_peer_new(&peer, &config), DP_ERR_INVALID_ARGUMENT);
    config = config_of(&b, NULL);
    config.port_max = 5;
    assert_int_equal(dp_peer_new(&peer, &config), DP_ERR_INVALID_ARGUMENT);
    config.port_min = 6;
    assert_int_equal(dp_peer_new(&peer, &config), DP_ERR_INVALID_ARGUMENT);
    config = config_of(&b, NULL);
    config.datagram_size = 599; /* not only when somebody calls */
    assert_int_equal(dp_peer_new(&peer, &config), DP_ERR_INVALID_ARGUMENT);
    config = config_of(&b, NULL);
    servers[1].credential = NULL;
    config.ice_servers = servers;
    config.ice_server_count = 2;
    assert_int_equal(dp_peer_new(&peer, &config), DP_ERR_INVALID_ARGUMENT);
    config = config_of(&b, NULL);
    config.proxy = "socks5://127.0.0.1";
    assert_int_equal(dp_peer_new(&peer, &config), DP_ERR_UNSUPPORTED);
    config.proxy = "http://127.0.0.1:x";
    assert_int_equal(dp_peer_new(&peer, &config), DP_ERR_MALFORMED);
    config.proxy = NULL;
    config.server = "gopher://x/";
    assert_int_equal(dp_peer_new(&peer, &config), DP_ERR_MALFORMED);
    assert_null(peer);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

static char binary[] = "binary", json[] = "json";
static int set_up_binary(void **state)
{
    *state = binary;
    return set_up(state);
}
static int set_up_json(void **state)
{
    *state = json;
    return set_up(state);
}
#define TEST_BOTH(function)                                                                                  \
    cmocka_unit_test_setup_teardown(function, set_up_binary, tear_down),                                     \
        cmocka_unit_test_setup_teardown(function, set_up_json, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(opens_exchanges_closes),
        TEST(carries_large_values_both_ways),
        TEST(carries_json),
        TEST(carries_raw),
        TEST_BOTH(refuses_a_bare_null),
        TEST_BOTH(flushes_before_it_closes),
        TEST(a_flush_ends_after_10_s),
        TEST(a_flush_that_goes_on_has_time),
        TEST_BOTH(asks_and_answers),
        TEST(a_request_too_big_for_json_is_refused),
        TEST(an_answer_too_big_for_json_is_an_error),
        TEST(json_carries_no_streams),
        TEST(proto_is_not_sent_as_msgpack),
        TEST(streams),
        TEST(requests_need_a_connection),
        TEST_BOTH(a_flush_takes_answers_along),
        TEST(blocks_and_drains),
        cmocka_unit_test(may_end_in_every_callback),
        TEST(may_be_destroyed_in_an_error),
        TEST(tells_of_absent_peers),
        TEST(gives_up_after_60_s),
        TEST(leaves_when_the_other_side_leaves),
        TEST(says_that_an_id_is_taken),
        TEST(comes_back_to_the_server),
        TEST(survives_bad_offers),
        TEST(limits_its_connections),
        TEST(may_be_destroyed_while_making_room),
        TEST(ignores_offers_when_all_are_open),
        TEST(a_flooder_keeps_nobody_out),
        TEST(takes_no_calls_without_a_handler),
        TEST(refuses_misuse),
    };
    return cmocka_run_group_tests_name("connection", tests, NULL, NULL);
}
