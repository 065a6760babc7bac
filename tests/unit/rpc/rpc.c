/* Requests, answers and streams between two ends, and against what pages and strangers send
 * (docs/bad-inputs.md rows 79 to 82). */
#include "rpc/internal.h"

#include "rpc/binarypack.h"

#include "failing.h"
#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

/* ---- two ends ---- */

typedef struct source {
    size_t size;
    size_t at;
    int block_every; /* WOULD_BLOCK each n-th time */
    int fail_after;  /* pieces, then DP_ERR_IO; 0: never */
    int reads;
    int ends;
    int error;
    dp_call *call;
    bool resume_inside;
    bool close_inside;
} source;

typedef struct world {
    uint32_t seed;
    dp_router *router;
    dp_rpc *server;
    dp_rpc *client;
    dp_call *held[2048];
    size_t held_count;
    int gone;
    source source;
    size_t piece;
    uint64_t total;
} world;

static int seeded(void *ctx, uint8_t *out, size_t len)
{
    uint32_t *seed = ctx;
    for (size_t i = 0; i < len; i++) {
        *seed = *seed * 1664525 + 1013904223;
        out[i] = (uint8_t)(*seed >> 24);
    }
    return DP_OK;
}

static void echo(void *user, dp_call *call)
{
    (void)user;
    dp_call_reply(call, dp_value_copy(dp_call_body(call)));
}

static void fail_it(void *user, dp_call *call)
{
    (void)user;
    dp_call_fail(call, 507, "boom");
}

static void on_gone(void *user) { ++*(int *)user; }

static void hold_it(void *user, dp_call *call)
{
    world *w = user;
    dp_call_on_gone(call, on_gone, &w->gone);
    w->held[w->held_count++] = call;
}

static void too_deep(void *user, dp_call *call)
{
    (void)user;
    dp_value *value = dp_value_array();
    for (int i = 0; i < DP_BINARYPACK_MAX_DEPTH; i++) {
        dp_value *outer = dp_value_array();
        dp_value_push(outer, value);
        value = outer;
    }
    assert_int_equal(dp_call_reply(call, value), DP_ERR_LIMIT);
}

static uint8_t source_byte(size_t i) { return (uint8_t)(i * 31 + (i >> 9)); }

static int source_read(void *user, uint8_t *out, size_t capacity, size_t *len)
{
    world *w = user;
    source *s = &w->source;
    s->reads++;
    if (s->close_inside)
        dp_rpc_close(w->server, DP_OK);
    if (s->block_every != 0 && s->reads % s->block_every == 0) {
        if (s->resume_inside)
            dp_call_resume(s->call);
        return DP_ERR_WOULD_BLOCK;
    }
    if (s->fail_after != 0 && s->reads > s->fail_after)
        return DP_ERR_IO;
    size_t n = s->size - s->at < capacity ? s->size - s->at : capacity;
    for (size_t i = 0; i < n; i++)
        out[i] = source_byte(s->at + i);
    s->at += n;
    *len = n;
    return DP_OK;
}

static void source_end(void *user, int error)
{
    world *w = user;
    w->source.ends++;
    w->source.error = error;
}

static void stream_it(void *user, dp_call *call)
{
    world *w = user;
    w->source.call = call;
    dp_stream stream = {sizeof(stream), source_read, source_end, w, w->piece, w->total};
    int ends = w->source.ends;
    if (dp_call_stream(call, &stream) != DP_OK) {
        assert_int_equal(w->source.ends, ends + 1);
        return; /* answered 500 */
    }
    assert_int_equal(dp_call_reply(w->source.call, dp_value_int(1000)), DP_ERR_INVALID_STATE);
}

static void start(world *w, size_t max_pending, size_t max_incoming)
{
    memset(w, 0, sizeof(*w));
    w->seed = 1;
    w->total = UINT64_MAX;
    assert_int_equal(dp_router_new(&w->router), DP_OK);
    assert_int_equal(dp_router_register(w->router, "echo", echo, w), DP_OK);
    assert_int_equal(dp_router_register(w->router, "fail", fail_it, w), DP_OK);
    assert_int_equal(dp_router_register(w->router, "hold", hold_it, w), DP_OK);
    assert_int_equal(dp_router_register(w->router, "deep", too_deep, w), DP_OK);
    assert_int_equal(dp_router_register(w->router, "stream", stream_it, w), DP_OK);
    dp_rpc_config config = {.size = sizeof(config),
                            .random = {seeded, &w->seed},
                            .router = w->router,
                            .user = w,
                            .max_incoming = max_incoming};
    assert_int_equal(dp_rpc_new(&w->server, &config), DP_OK);
    config.router = NULL;
    config.max_incoming = 0;
    config.max_pending = max_pending;
    assert_int_equal(dp_rpc_new(&w->client, &config), DP_OK);
}

static void stop(world *w)
{
    dp_rpc_free(w->client);
    dp_rpc_free(w->server);
    dp_router_free(w->router);
}

static dp_value *unpack(uint8_t *packed, size_t len)
{
    dp_value *value = NULL;
    assert_int_equal(dp_binarypack_decode(&value, packed, len), DP_OK);
    dp_free(packed);
    return value;
}

/* One message from a to b; false if there is none. */
static bool carry(dp_rpc *a, dp_rpc *b)
{
    uint8_t *packed;
    size_t len;
    if (!dp_rpc_poll_transmit(a, 0, &packed, &len))
        return false;
    assert_int_equal(dp_rpc_input(b, 0, unpack(packed, len)), DP_OK);
    return true;
}

static void carry_all(world *w)
{
    while (carry(w->client, w->server) || carry(w->server, w->client))
        ;
}

static dp_value *next_message(dp_rpc *rpc)
{
    uint8_t *packed;
    size_t len;
    return dp_rpc_poll_transmit(rpc, 0, &packed, &len) ? unpack(packed, len) : NULL;
}

typedef struct result {
    int calls;
    int error;
    int code;
    int64_t number;
    char message[64];
    size_t len;
    size_t received; /* through on_data */
    uint64_t total;
    bool wrong;
    int data_error; /* what on_data answers */
    dp_rpc *rpc;
    char id[DP_REQUEST_ID_LEN + 1];
    enum { NOTHING, CANCEL, CLOSE, FREE, AGAIN } inside;
} result;

static void on_done(void *user, int error, const dp_value *context);

static void request(dp_rpc *rpc, const char *action, dp_value *body, result *r)
{
    dp_request q = {.size = sizeof(q), .action = action, .body = body, .on_done = on_done, .user = r};
    assert_int_equal(dp_rpc_request(rpc, 0, &q, r->id), DP_OK);
    r->rpc = rpc;
}

static void react(result *r)
{
    switch (r->inside) {
    case CANCEL:
        dp_rpc_cancel(r->rpc, r->id);
        break;
    case CLOSE:
        dp_rpc_close(r->rpc, DP_OK);
        break;
    case FREE:
        dp_rpc_free(r->rpc);
        break;
    case AGAIN:
        r->inside = NOTHING;
        request(r->rpc, "echo", dp_value_int(5), r);
        break;
    default:
        break;
    }
}

static void on_done(void *user, int error, const dp_value *context)
{
    result *r = user;
    r->calls++;
    r->error = error;
    r->code = dp_context_code(context, -1);
    r->number = dp_value_get_int(dp_context_data(context), -1);
    const char *message = dp_context_message(context);
    snprintf(r->message, sizeof(r->message), "%s", message != NULL ? message : "-");
    const uint8_t *bytes = dp_value_get_bytes(dp_context_data(context), &r->len);
    r->wrong |= bytes == NULL && r->len != 0;
    for (size_t i = 0; i < r->len; i++)
        r->wrong |= bytes[i] != source_byte(i);
    assert_true((context == NULL) == (error != DP_OK && error != DP_ERR_REMOTE));
    react(r);
}

static int on_data(void *user, const uint8_t *data, size_t len, uint64_t total)
{
    result *r = user;
    for (size_t i = 0; i < len; i++)
        r->wrong |= data[i] != source_byte(r->received + i);
    r->received += len;
    r->total = total;
    react(r);
    return r->data_error;
}

static void request_stream(dp_rpc *rpc, result *r)
{
    dp_request q = {.size = sizeof(q), .action = "stream", .on_data = on_data, .on_done = on_done, .user = r};
    assert_int_equal(dp_rpc_request(rpc, 0, &q, r->id), DP_OK);
    r->rpc = rpc;
}

/* A context of a page, from parts; response may be NULL. */
static dp_value *context(const char *action, dp_value *id, dp_value *body, dp_value *response)
{
    dp_value *c = dp_value_map();
    dp_value *q = dp_value_map();
    if (id != NULL)
        dp_value_set(q, "id", id);
    dp_value_set(q, "body", body);
    dp_value_set(c, "action", dp_value_string(action));
    dp_value_set(c, "request", q);
    if (response != NULL)
        dp_value_set(c, "response", response);
    return c;
}

/* ---- requests and answers ---- */

static void every_kind_of_answer(void **state)
{
    (void)state;
    world w;
    start(&w, 0, 0);
    result ok = {0}, failed = {0}, unknown = {0}, deep = {0};
    request(w.client, "echo", dp_value_int(77), &ok);
    request(w.client, "fail", NULL, &failed);      /* row 82 */
    request(w.client, "nonsense", NULL, &unknown); /* row 81 */
    request(w.client, "deep", NULL, &deep);
    carry_all(&w);
    assert_int_equal(ok.calls, 1);
    assert_int_equal(ok.error, DP_OK);
    assert_int_equal(ok.code, 200);
    assert_int_equal(ok.number, 77);
    assert_string_equal(ok.message, "");
    assert_int_equal(failed.error, DP_ERR_REMOTE);
    assert_int_equal(failed.code, 507);
    assert_string_equal(failed.message, "boom");
    assert_int_equal(unknown.error, DP_ERR_REMOTE);
    assert_int_equal(unknown.code, 404);
    assert_string_equal(unknown.message, "no such action");
    assert_int_equal(deep.code, 500);
    assert_int_equal(failed.calls + unknown.calls + deep.calls, 3);
    assert_int_equal(strlen(ok.id), 36);
    assert_int_equal(ok.id[14], '4');
    assert_true(strchr("89ab", ok.id[19]) != NULL);
    assert_int_equal(dp_router_unregister(w.router, "echo"), DP_OK);
    assert_int_equal(dp_router_unregister(w.router, "echo"), DP_ERR_NOT_FOUND);
    assert_int_equal(dp_router_register(w.router, "fail", echo, NULL), DP_OK); /* replaces */
    request(w.client, "echo", NULL, &ok);
    request(w.client, "fail", dp_value_int(8), &failed);
    carry_all(&w);
    assert_int_equal(ok.code, 404);
    assert_int_equal(failed.number, 8);
    stop(&w);
}

/* The whole context comes back, what we don't know of it too, whatever the id is. */
static void the_rest_of_the_context_is_unchanged(void **state)
{
    (void)state;
    static const char *const actions[] = {"echo", "nonsense"};
    world w;
    start(&w, 0, 0);
    for (int i = 0; i < 8; i++) {
        char *longest = calloc(100001, 1);
        memset(longest, 'x', 100000);
        dp_value *ids[] = {dp_value_int(7), dp_value_string(longest), NULL, dp_value_array()};
        free(longest);
        dp_value *id = ids[i % 4];
        for (int j = 0; j < 4; j++)
            if (j != i % 4)
                dp_value_free(ids[j]);
        dp_value *body = dp_value_map();
        dp_value_set(body, "message", dp_value_string("keep"));
        dp_value_set(body, "more", dp_value_bool(true));
        dp_value *response = dp_value_map();
        dp_value_set(response, "body", body);
        dp_value_set(response, "also", dp_value_array());
        dp_value *sent = context(actions[i / 4], id, dp_value_int(-5), response);
        dp_value_set(sent, "extra", dp_value_string("stays"));
        dp_value *expected = dp_value_copy(sent);
        assert_int_equal(dp_rpc_input(w.server, 0, sent), DP_OK);
        dp_value *answer = next_message(w.server);
        body = dp_value_get(dp_value_get(expected, "response"), "body");
        dp_value_set(body, "data", i < 4 ? dp_value_int(-5) : dp_value_null());
        dp_value_set(body, "code", dp_value_int(i < 4 ? 200 : 404));
        if (i >= 4)
            dp_value_set(body, "message", dp_value_string("no such action"));
        assert_true(dp_value_equal(answer, expected));
        dp_value_free(answer);
        dp_value_free(expected);
    }
    /* no response at all, and one that is no map */
    assert_int_equal(dp_rpc_input(w.server, 0, context("echo", NULL, dp_value_int(6), NULL)), DP_OK);
    assert_int_equal(dp_rpc_input(w.server, 0, context("echo", NULL, dp_value_int(6), dp_value_int(3))),
                     DP_OK);
    for (int i = 0; i < 2; i++) {
        dp_value *answer = next_message(w.server);
        assert_int_equal(dp_context_code(answer, 0), 200);
        assert_int_equal(dp_value_get_int(dp_context_data(answer), 0), 6);
        dp_value_free(answer);
    }
    /* what is no context stays with the caller */
    dp_value *no_map = context("echo", NULL, dp_value_null(), NULL);
    dp_value_set(no_map, "request", dp_value_int(1000));
    dp_value *no_action = context("echo", NULL, dp_value_null(), NULL);
    dp_value_set(no_action, "action", dp_value_int(1000));
    dp_value *others[] = {dp_value_null(), dp_value_int(1000), dp_value_map(), no_map, no_action};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(dp_rpc_input(w.server, 0, others[i]), DP_ERR_NOT_FOUND);
        dp_value_free(others[i]);
    }
    assert_null(next_message(w.server));
    stop(&w);
}

static void a_thousand_at_once_in_any_order(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    static world w;
    static result results[COUNT];
    memset(results, 0, sizeof(results));
    start(&w, 0, 0);
    for (int i = 0; i < COUNT; i++)
        request(w.client, "hold", dp_value_int(i), &results[i]);
    carry_all(&w);
    assert_int_equal(w.held_count, COUNT);
    for (size_t left = COUNT; left > 0; left--) {
        w.seed = w.seed * 1664525 + 1013904223;
        size_t i = (w.seed >> 8) % left;
        dp_call *call = w.held[i];
        w.held[i] = w.held[left - 1];
        dp_call_reply(call, dp_value_int(dp_value_get_int(dp_call_body(call), -1) * 2));
    }
    carry_all(&w);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(results[i].calls, 1);
        assert_int_equal(results[i].number, i * 2);
    }
    assert_int_equal(w.gone, 0);
    stop(&w);
}

static void too_many_meet_back_pressure(void **state) /* row 79 */
{
    (void)state;
    world w;
    start(&w, 100, 50);
    result r = {0};
    for (int i = 0; i < 100; i++)
        request(w.client, "hold", NULL, &r);
    dp_request q = {.size = sizeof(q), .action = "hold", .body = dp_value_int(1000)};
    assert_int_equal(dp_rpc_request(w.client, 0, &q, NULL), DP_ERR_WOULD_BLOCK);
    q = (dp_request){.size = sizeof(q), .body = dp_value_int(1000)};
    assert_int_equal(dp_rpc_request(w.client, 0, &q, NULL), DP_ERR_INVALID_ARGUMENT);
    carry_all(&w);
    assert_int_equal(w.held_count, 50);
    assert_int_equal(r.calls, 50);
    assert_int_equal(r.code, 503);
    dp_call_reply(w.held[0], NULL);
    carry_all(&w);
    assert_int_equal(r.calls, 51);
    assert_int_equal(r.code, 200);
    request(w.client, "hold", NULL, &r);
    carry_all(&w);
    assert_int_equal(w.held_count, 51);
    stop(&w);
    assert_int_equal(w.gone, 50);
    assert_int_equal(r.calls, 101);
    assert_int_equal(r.error, DP_ERR_CLOSED);
}

/* A peer that asks and never takes its answers costs a bounded amount of memory. */
static void answers_not_taken_are_bounded(void **state)
{
    (void)state;
    world w;
    memory_start(0);
    start(&w, 0, 0);
    static uint8_t mebi[1 << 20];
    for (int i = 0; i < 300; i++)
        assert_int_equal(
            dp_rpc_input(w.server, 0, context("echo", NULL, dp_value_bytes(mebi, sizeof(mebi)), NULL)),
            DP_OK);
    assert_in_range(memory.peak, 64u << 20, 160u << 20);
    for (int i = 0; i < 100000; i++)
        assert_int_equal(dp_rpc_input(w.server, 0, context("x", NULL, dp_value_null(), NULL)), DP_OK);
    assert_in_range(memory.peak, 64u << 20, 200u << 20);
    int busy = 0;
    for (dp_value *answer; (answer = next_message(w.server)) != NULL; dp_value_free(answer))
        busy += dp_context_code(answer, 0) == 503;
    assert_in_range(busy, 1, 299);
    stop(&w);
    assert_int_equal(memory.alive, 0);
    memory_stop();
}

/* Requests that wait for their answers, and octet streams that are collected: what a peer can make us keep is
 * bounded as a whole, not only for each. */
static void what_waits_is_bounded(void **state)
{
    (void)state;
    world w;
    start(&w, 0, 0);
    uint8_t *big = calloc(1, 20 << 20);
    for (int i = 0; i < 6; i++) {
        dp_value *body = dp_value_bytes(big, 20 << 20);
        assert_int_equal(dp_rpc_input(w.server, 0, context("hold", dp_value_int(i), body, NULL)), DP_OK);
    }
    assert_int_equal(w.held_count, 4); /* the last one went over 64 MiB */
    for (int i = 0; i < 2; i++) {
        dp_value *refused = next_message(w.server);
        assert_int_equal(dp_context_code(refused, 0), 503);
        dp_value_free(refused);
    }
    dp_call_reply(w.held[1], NULL);
    dp_value_free(next_message(w.server));
    assert_int_equal(dp_rpc_input(w.server, 0, context("hold", NULL, dp_value_null(), NULL)), DP_OK);
    assert_int_equal(w.held_count, 5);

    result r[5] = {{0}};
    for (int i = 0; i < 5; i++) {
        request(w.client, "x", NULL, &r[i]);
        dp_value *answer = next_message(w.client);
        dp_value *data = dp_value_map();
        dp_value_set(data, "type", dp_value_string("start"));
        dp_value_set(data, "chunk", dp_value_bytes(big, 20 << 20));
        if (i == 4) /* held back: its beginning is missing */
            dp_value_set(data, "offset", dp_value_int(1));
        dp_value *headers = dp_value_map();
        dp_value_set(headers, "contentType", dp_value_string(dp_context_octet_stream));
        dp_value_set(dp_value_get(answer, "response"), "headers", headers);
        dp_value_set(dp_value_get(dp_value_get(answer, "response"), "body"), "data", data);
        assert_int_equal(dp_rpc_input(w.client, 0, dp_value_copy(answer)), DP_OK);
        dp_value_set(data, "type", dp_value_string("chunk"));
        dp_value_set(data, "chunk", dp_value_bytes(big, 12 << 20));
        assert_int_equal(dp_rpc_input(w.client, 0, answer), DP_OK);
    }
    int refused = 0;
    for (int i = 0; i < 5; i++)
        refused += r[i].error == DP_ERR_LIMIT;
    assert_int_equal(refused, 2); /* the fourth for all together, the fifth for itself */
    free(big);
    stop(&w);
    for (int i = 0; i < 5; i++)
        assert_int_equal(r[i].calls, 1);
}

static void strays_are_ignored(void **state) /* row 80 */
{
    (void)state;
    world w;
    start(&w, 0, 0);
    /* answers that nobody waits for: between two routers they must not go to and fro */
    for (int i = 0; i < 3; i++) {
        dp_value *body = dp_value_map();
        dp_value_set(body, "code", dp_value_int(i == 0 ? 404 : 200));
        dp_value_set(body, "data", i == 1 ? dp_value_int(5) : dp_value_null());
        dp_value *headers = dp_value_map();
        dp_value_set(headers, "contentType",
                     i == 2 ? dp_value_string("application/octet-stream") : dp_value_null());
        dp_value *response = dp_value_map();
        dp_value_set(response, "body", body);
        dp_value_set(response, "headers", headers);
        assert_int_equal(
            dp_rpc_input(w.server, 0, context("echo", dp_value_string("?"), dp_value_null(), response)),
            DP_OK);
        assert_null(next_message(w.server));
    }
    /* an answer that comes twice, and one after its request has ended */
    result r = {0};
    request(w.client, "echo", NULL, &r);
    assert_true(carry(w.client, w.server));
    dp_value *answer = next_message(w.server);
    assert_int_equal(dp_rpc_input(w.client, 0, dp_value_copy(answer)), DP_OK);
    assert_int_equal(r.calls, 1);
    assert_int_equal(dp_rpc_input(w.client, 0, answer), DP_OK);
    assert_int_equal(r.calls, 1);
    assert_null(next_message(w.client)); /* not a request that would be answered 404 */
    request(w.client, "echo", NULL, &r);
    assert_int_equal(dp_rpc_cancel(w.client, r.id), DP_OK);
    assert_int_equal(dp_rpc_cancel(w.client, r.id), DP_ERR_NOT_FOUND);
    assert_int_equal(r.error, DP_ERR_CANCELLED);
    carry_all(&w);
    assert_int_equal(r.calls, 2);
    assert_null(next_message(w.client));
    /* and one that comes when a thousand others have ended: it looks just as the request did */
    request(w.server, "echo", NULL, &r);
    dp_value *late = next_message(w.server);
    dp_rpc_cancel(w.server, r.id);
    for (int i = 0; i < 1000; i++) {
        request(w.server, "echo", NULL, &r);
        dp_rpc_cancel(w.server, r.id);
        dp_value_free(next_message(w.server));
    }
    assert_int_equal(dp_rpc_input(w.server, 0, late), DP_OK);
    assert_null(next_message(w.server));
    /* the client has no router: a request to it is answered 404, once */
    result back = {0};
    request(w.server, "echo", NULL, &back);
    carry_all(&w);
    assert_int_equal(back.code, 404);
    stop(&w);
}

static void time_outs(void **state)
{
    (void)state;
    world w;
    start(&w, 0, 0);
    result a = {0}, b = {0}, never = {0};
    assert_true(dp_rpc_next_timeout(w.client) == DP_TIME_NEVER);
    dp_request q = {
        .size = sizeof(q), .action = "hold", .on_done = on_done, .user = &a, .timeout = DP_SECONDS(5)};
    assert_int_equal(dp_rpc_request(w.client, DP_SECONDS(10), &q, a.id), DP_OK);
    q.timeout = 0;
    q.user = &b;
    assert_int_equal(dp_rpc_request(w.client, DP_SECONDS(10), &q, b.id), DP_OK);
    q.timeout = DP_TIME_NEVER;
    q.user = &never;
    assert_int_equal(dp_rpc_request(w.client, DP_SECONDS(10), &q, never.id), DP_OK);
    assert_true(dp_rpc_next_timeout(w.client) == DP_SECONDS(15));
    dp_rpc_handle_timeout(w.client, DP_SECONDS(15) - 1);
    assert_int_equal(a.calls, 0);
    a.rpc = w.client;
    a.inside = AGAIN; /* a new request from within on_done */
    dp_rpc_handle_timeout(w.client, DP_SECONDS(15));
    assert_int_equal(a.calls, 1);
    assert_int_equal(a.error, DP_ERR_TIMEOUT);
    assert_true(dp_rpc_next_timeout(w.client) == DP_SECONDS(60)); /* that one, asked at 0 */
    dp_rpc_cancel(w.client, a.id);
    dp_rpc_handle_timeout(w.client, DP_SECONDS(70));
    assert_int_equal(b.error, DP_ERR_TIMEOUT);
    assert_true(dp_rpc_next_timeout(w.client) == DP_TIME_NEVER);
    carry_all(&w);
    dp_call_reply(w.held[0], NULL); /* late */
    carry_all(&w);
    assert_int_equal(b.calls, 1);
    dp_rpc_close(w.client, DP_ERR_TIMEOUT);
    assert_int_equal(never.calls, 1);
    assert_int_equal(never.error, DP_ERR_TIMEOUT);
    q.body = dp_value_int(1000);
    assert_int_equal(dp_rpc_request(w.client, 0, &q, NULL), DP_ERR_CLOSED);
    stop(&w);
    assert_int_equal(never.calls, 1);
}

static void callbacks_may_do_anything(void **state)
{
    (void)state;
    for (unsigned inside = CANCEL; inside <= AGAIN; inside++) {
        for (int streaming = 0; streaming < 2; streaming++) {
            world w;
            start(&w, 0, 0);
            w.source.size = 100000;
            result r = {.inside = inside};
            if (inside == AGAIN && streaming)
                r.inside = NOTHING;
            if (streaming)
                request_stream(w.client, &r);
            else
                request(w.client, "echo", NULL, &r);
            result other = {0};
            request(w.client, "hold", NULL, &other);
            assert_true(carry(w.client, w.server));
            assert_true(carry(w.server, w.client));
            if (inside == FREE)
                w.client = NULL;
            if (inside == CLOSE || inside == FREE)
                assert_int_equal(other.error, DP_ERR_CLOSED);
            else
                carry_all(&w);
            assert_int_equal(r.calls, inside == AGAIN && !streaming ? 2 : 1);
            if (streaming && inside != AGAIN)
                assert_int_equal(r.error, inside == CANCEL ? DP_ERR_CANCELLED : DP_ERR_CLOSED);
            stop(&w);
        }
    }
}

/* ---- streams ---- */

static void close_server(void *user, int error)
{
    (void)error;
    dp_rpc_free(((world *)user)->server);
    ((world *)user)->server = NULL;
}

/* A stream that can't begin, long after the request came: its on_end may free the rpc. */
static void a_stream_that_fails_at_once_may_close(void **state)
{
    (void)state;
    world w;
    start(&w, 0, 0);
    result r = {0};
    request(w.client, "hold", NULL, &r);
    assert_true(carry(w.client, w.server));
    dp_stream stream = {.size = sizeof(stream), .on_end = close_server, .user = &w};
    assert_int_equal(dp_call_stream(w.held[0], &stream), DP_ERR_INVALID_ARGUMENT);
    assert_null(w.server);
    assert_int_equal(w.gone, 0);
    stop(&w);
}

static void streams_of_every_size(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 15, 16, 16299, 16300, 16301, 65536, 65537, 1000000};
    static const size_t pieces[] = {0, 1000, 16300, 70000};
    for (size_t p = 0; p < 4; p++)
        for (size_t s = 0; s < 10; s++)
            for (int own = 0; own < 2; own++) {
                world w;
                start(&w, 0, 0);
                w.source.size = sizes[s];
                w.piece = pieces[p];
                w.total = s % 2 == 0 ? sizes[s] : UINT64_MAX;
                result r = {0};
                if (own)
                    request_stream(w.client, &r);
                else
                    request(w.client, "stream", NULL, &r);
                carry_all(&w);
                assert_int_equal(r.calls, 1);
                assert_int_equal(r.error, DP_OK);
                assert_int_equal(own ? r.received : r.len, sizes[s]);
                assert_false(r.wrong);
                if (own && sizes[s] > 0)
                    assert_true(r.total == w.total);
                assert_int_equal(w.source.ends, 1);
                assert_int_equal(w.source.error, DP_OK);
                stop(&w);
            }
}

/* What a page sees: whole contexts, start with the first bytes, an empty end; none longer than a message
 * without chunks. */
static void the_wire_of_a_stream(void **state)
{
    (void)state;
    world w;
    start(&w, 0, 0);
    w.source.size = 40000;
    w.total = 40000;
    result r = {0};
    request(w.client, "stream", dp_value_string("body"), &r);
    dp_value *asked = next_message(w.client);
    dp_value_set(dp_value_get(asked, "response"), "extra", dp_value_int(1));
    dp_value *headers = dp_value_map();
    dp_value_set(headers, "contentType", dp_value_null());
    dp_value_set(headers, "other", dp_value_int(2));
    dp_value_set(dp_value_get(asked, "response"), "headers", headers);
    dp_value *expected = dp_value_copy(asked);
    dp_value_set(dp_value_get(dp_value_get(expected, "response"), "headers"), "contentType",
                 dp_value_string("application/octet-stream"));
    assert_int_equal(dp_rpc_input(w.server, 0, asked), DP_OK);
    static const char *const types[] = {"start", "chunk", "chunk", "end"};
    size_t sum = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t *packed;
        size_t len;
        assert_true(dp_rpc_poll_transmit(w.server, 0, &packed, &len));
        assert_in_range(len, 1, DP_CHUNK_SIZE);
        dp_value *piece = unpack(packed, len);
        const dp_value *data = dp_context_data(piece);
        size_t bytes;
        assert_string_equal(dp_value_get_string(dp_value_get(data, "type"), NULL), types[i]);
        assert_non_null(dp_value_get_bytes(dp_value_get(data, "chunk"), &bytes));
        assert_true((i == 3) == (bytes == 0));
        assert_int_equal(dp_value_get_int(dp_value_get(data, "offset"), -1), (int64_t)sum);
        assert_int_equal(dp_value_get_int(dp_value_get(data, "total"), -1), i == 0 ? 40000 : -1);
        sum += bytes;
        dp_value_set(dp_value_get(dp_value_get(piece, "response"), "body"), "data", dp_value_null());
        assert_true(dp_value_equal(piece, expected));
        dp_value_free(piece);
    }
    assert_int_equal(sum, 40000);
    assert_null(next_message(w.server));
    dp_value_free(expected);
    stop(&w);
}

static void a_blocked_stream_waits(void **state)
{
    (void)state;
    for (int inside = 0; inside < 2; inside++) {
        world w;
        start(&w, 0, 0);
        w.source = (source){.size = 100000, .block_every = 2, .resume_inside = inside != 0};
        result r = {0};
        request_stream(w.client, &r);
        for (int i = 0; i < 100 && r.calls == 0; i++) {
            carry_all(&w);
            int reads = w.source.reads;
            assert_null(next_message(w.server)); /* and isn't asked again */
            assert_int_equal(w.source.reads, reads);
            if (r.calls == 0 && !inside)
                dp_call_resume(w.source.call);
        }
        assert_int_equal(r.error, DP_OK);
        assert_int_equal(r.received, 100000);
        assert_false(r.wrong);
        stop(&w);
    }
}

static void a_failing_source_is_an_error_not_an_end(void **state)
{
    (void)state;
    for (int after = 1; after < 4; after++) {
        world w;
        start(&w, 0, 0);
        w.source = (source){.size = 1000000, .fail_after = after};
        result r = {0};
        request_stream(w.client, &r);
        carry_all(&w);
        assert_int_equal(r.calls, 1);
        assert_int_equal(r.error, DP_ERR_REMOTE);
        assert_int_equal(r.code, 500);
        assert_string_equal(r.message, dp_strerror(DP_ERR_IO));
        assert_int_equal(w.source.error, DP_ERR_IO);
        assert_int_equal(w.source.ends, 1);
        stop(&w);
    }
}

static void streams_end_with_the_connection(void **state)
{
    (void)state;
    for (int inside = 0; inside < 2; inside++) {
        world w;
        start(&w, 0, 0);
        w.source = (source){.size = 1000000};
        result r = {0};
        request_stream(w.client, &r);
        carry(w.client, w.server);
        carry(w.server, w.client);
        w.source.close_inside = inside != 0;
        if (!inside)
            dp_rpc_close(w.server, DP_OK);
        assert_null(next_message(w.server));
        assert_int_equal(w.source.ends, 1);
        assert_int_equal(w.source.error, DP_ERR_CLOSED);
        dp_rpc_close(w.client, DP_OK);
        assert_int_equal(r.error, DP_ERR_CLOSED);
        stop(&w);
        assert_int_equal(w.source.ends, 1);
    }
}

static void small_requests_overtake_a_long_stream(void **state)
{
    (void)state;
    static world w;
    static result small[100];
    memset(small, 0, sizeof(small));
    start(&w, 0, 0);
    w.source.size = 50000000;
    result r = {0};
    request_stream(w.client, &r);
    while (carry(w.client, w.server))
        ;
    for (int i = 0; i < 100; i++)
        request(w.client, "echo", dp_value_int(i), &small[i]);
    while (carry(w.client, w.server))
        ;
    for (int i = 0; i < 200; i++)
        assert_true(carry(w.server, w.client));
    for (int i = 0; i < 100; i++)
        assert_int_equal(small[i].calls, 1);
    assert_in_range(r.received, 99 * 15000, 101 * 16300);
    dp_rpc_cancel(w.client, r.id);
    stop(&w);
}

static void the_receiver_may_stop(void **state)
{
    (void)state;
    world w;
    start(&w, 0, 0);
    w.source.size = 100000;
    result r = {.data_error = DP_ERR_IO};
    request_stream(w.client, &r);
    carry_all(&w); /* the pieces that still come are ignored */
    assert_int_equal(r.calls, 1);
    assert_int_equal(r.error, DP_ERR_IO);
    assert_null(next_message(w.client));
    stop(&w);
}

static void count_ready(void *user) { ++*(int *)user; }

/* Whoever answers late wakes the loop; what happens within poll does not. */
static void late_answers_wake_the_owner(void **state)
{
    (void)state;
    world w;
    start(&w, 0, 0);
    int ready = 0;
    w.server->config.user = &ready;
    w.server->config.on_ready = count_ready;
    result r = {0}, s = {0};
    request(w.client, "hold", NULL, &r);
    carry_all(&w);
    assert_int_equal(ready, 0);
    dp_call_reply(w.held[0], NULL);
    assert_int_equal(ready, 1);
    carry_all(&w);
    w.source = (source){.size = 30000, .block_every = 2};
    request_stream(w.client, &s);
    carry_all(&w);
    assert_int_equal(ready, 2);
    dp_call_resume(w.source.call);
    dp_call_resume(w.source.call);
    assert_int_equal(ready, 3);
    carry_all(&w);
    assert_int_equal(ready, 3);
    dp_call_resume(w.source.call);
    carry_all(&w);
    assert_int_equal(s.error, DP_OK);
    assert_int_equal(s.received, 30000);
    stop(&w);
}

static void each_piece_puts_the_time_out_off(void **state)
{
    (void)state;
    world w;
    start(&w, 0, 0);
    w.source.size = 40000;
    result r = {0};
    request_stream(w.client, &r);
    carry(w.client, w.server);
    dp_value *piece = next_message(w.server);
    assert_int_equal(dp_rpc_input(w.client, DP_SECONDS(50), piece), DP_OK);
    dp_rpc_handle_timeout(w.client, DP_SECONDS(60));
    assert_int_equal(r.calls, 0);
    assert_true(dp_rpc_next_timeout(w.client) == DP_SECONDS(110));
    dp_rpc_handle_timeout(w.client, DP_SECONDS(110));
    assert_int_equal(r.error, DP_ERR_TIMEOUT);
    stop(&w);
}

static int lie(void *user, uint8_t *out, size_t capacity, size_t *len)
{
    (void)user;
    (void)out;
    *len = capacity + 1;
    return DP_OK;
}

static void lie_about_the_length(void *user, dp_call *call)
{
    dp_stream stream = {sizeof(stream), lie, source_end, user, 0, UINT64_MAX};
    assert_int_equal(dp_call_stream(call, &stream), DP_OK);
}

static void a_source_that_lies_is_an_error(void **state)
{
    (void)state;
    world w;
    start(&w, 0, 0);
    assert_int_equal(dp_router_register(w.router, "stream", lie_about_the_length, &w), DP_OK);
    result r = {0};
    request_stream(w.client, &r);
    carry_all(&w);
    assert_int_equal(r.code, 500);
    assert_int_equal(w.source.error, DP_ERR_NO_SPACE);
    stop(&w);
}

/* ---- pieces in odd orders ---- */

typedef struct piece {
    const char *type;
    const char *bytes;
    int offset; /* -1: none, as pages send it */
} piece;

static int append(void *ctx, const uint8_t *data, size_t len, uint64_t total)
{
    (void)total;
    char *out = ctx;
    size_t at = strlen(out);
    memcpy(out + at, data, len);
    out[at + len] = '\0';
    return DP_OK;
}

static int feed(const piece *pieces, size_t count, char *out, bool *ended)
{
    dp_stream_in in;
    dp_stream_in_init(&in);
    int error = DP_OK;
    *ended = false;
    out[0] = '\0';
    for (size_t i = 0; i < count && error == DP_OK; i++) {
        assert_false(*ended);
        dp_value *data = dp_value_map();
        dp_value_set(data, "type", dp_value_string(pieces[i].type));
        if (pieces[i].bytes != NULL)
            dp_value_set(data, "chunk",
                         dp_value_bytes((const uint8_t *)pieces[i].bytes, strlen(pieces[i].bytes)));
        if (pieces[i].offset >= 0)
            dp_value_set(data, "offset", dp_value_int(pieces[i].offset));
        error = dp_stream_in_input(&in, data, append, out, ended);
        dp_value_free(data);
    }
    dp_stream_in_clear(&in);
    return error;
}

#define FEED(...)                                                                                            \
    feed((const piece[]){__VA_ARGS__}, sizeof((const piece[]){__VA_ARGS__}) / sizeof(piece), out, &ended)

static void pieces_in_any_order(void **state)
{
    (void)state;
    char out[256];
    bool ended;
    /* as pages send them */
    assert_int_equal(FEED({"start", "ab", -1}, {"chunk", "cd", -1}, {"end", "zz", -1}), DP_OK);
    assert_true(ended);
    assert_string_equal(out, "abcd");
    assert_int_equal(FEED({"end", NULL, -1}), DP_OK);
    assert_true(ended);
    assert_int_equal(FEED({"start", NULL, -1}, {"end", NULL, -1}), DP_OK);
    assert_true(ended);
    assert_int_equal(FEED({"chunk", "cd", -1}), DP_ERR_PROTOCOL);
    assert_int_equal(FEED({"start", "a", -1}, {"start", "a", -1}), DP_ERR_PROTOCOL);
    assert_int_equal(FEED({"begin", "a", -1}), DP_ERR_PROTOCOL);
    /* with offsets */
    assert_int_equal(FEED({"end", "", 6}, {"chunk", "ef", 4}, {"chunk", "cd", 2}, {"start", "ab", 0}), DP_OK);
    assert_true(ended);
    assert_string_equal(out, "abcdef");
    assert_int_equal(FEED({"chunk", "cd", 2}, {"start", "ab", 0}), DP_OK);
    assert_false(ended);
    assert_string_equal(out, "abcd");
    assert_int_equal(FEED({"start", "ab", 0}, {"chunk", "cd", 1}), DP_ERR_PROTOCOL);
    assert_int_equal(FEED({"start", "ab", 0}, {"chunk", "cd", 3}, {"chunk", "xy", 2}), DP_ERR_PROTOCOL);
    assert_int_equal(FEED({"start", "ab", 0}, {"chunk", "cd", 3}, {"chunk", "cd", 3}), DP_ERR_PROTOCOL);
    assert_int_equal(FEED({"start", "ab", 0}, {"chunk", "cd", 3}, {"end", "", 2}), DP_ERR_PROTOCOL);
    /* a gap doesn't fill memory */
    dp_stream_in in;
    dp_stream_in_init(&in);
    int error = DP_OK;
    int64_t i = 0;
    for (; i < 100000 && error == DP_OK; i++) {
        dp_value *data = dp_value_map();
        dp_value_set(data, "type", dp_value_string("chunk"));
        dp_value_set(data, "chunk", dp_value_bytes((const uint8_t *)"x", 1));
        dp_value_set(data, "offset", dp_value_int(1 + i));
        error = dp_stream_in_input(&in, data, append, out, &ended);
        dp_value_free(data);
    }
    assert_int_equal(error, DP_ERR_LIMIT);
    assert_in_range(i, 1, 1000);
    dp_stream_in_clear(&in);
}

/* ---- memory ---- */

static void failed_allocations_leave_nothing(void **state)
{
    (void)state;
    static const char *const actions[] = {"echo", "hold", "stream", "nonsense"};
    long longest = 0;
    for (int a = 0; a < 4; a++)
        for (long n = 1;; n++) {
            static world w;
            memory_start(0);
            start(&w, 0, 0);
            w.source.size = 20000;
            memory.count = 0;
            memory.fail_at = n;
            result r = {0};
            dp_request q = {.size = sizeof(q), .action = actions[a], .on_done = on_done, .user = &r};
            int error = dp_rpc_request(w.client, 0, &q, r.id);
            uint8_t *packed;
            size_t len;
            dp_value *value;
            for (int i = 0; i < 8; i++) {
                dp_rpc *from = i % 2 == 0 ? w.client : w.server;
                dp_rpc *to = i % 2 == 0 ? w.server : w.client;
                while (dp_rpc_poll_transmit(from, 0, &packed, &len)) {
                    if (dp_binarypack_decode(&value, packed, len) == DP_OK)
                        dp_rpc_input(to, 0, value);
                    dp_free(packed);
                }
                if (w.held_count == 1 && i == 0) {
                    dp_call_reply(w.held[0], dp_value_int(1000));
                    w.held_count = 0;
                }
            }
            bool failed = memory.count >= n;
            memory.fail_at = 0;
            stop(&w);
            assert_int_equal(r.calls, error == DP_OK ? 1 : 0);
            assert_int_equal(w.source.ends, w.source.call != NULL ? 1 : 0);
            assert_int_equal(memory.alive, 0);
            memory_stop();
            longest = n > longest ? n : longest;
            if (!failed)
                break;
        }
    assert_in_range(longest, 20, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_answer),
        cmocka_unit_test(the_rest_of_the_context_is_unchanged),
        cmocka_unit_test(a_thousand_at_once_in_any_order),
        cmocka_unit_test(too_many_meet_back_pressure),
        cmocka_unit_test(answers_not_taken_are_bounded),
        cmocka_unit_test(what_waits_is_bounded),
        cmocka_unit_test(strays_are_ignored),
        cmocka_unit_test(time_outs),
        cmocka_unit_test(callbacks_may_do_anything),
        cmocka_unit_test(a_stream_that_fails_at_once_may_close),
        cmocka_unit_test(streams_of_every_size),
        cmocka_unit_test(the_wire_of_a_stream),
        cmocka_unit_test(a_blocked_stream_waits),
        cmocka_unit_test(a_failing_source_is_an_error_not_an_end),
        cmocka_unit_test(streams_end_with_the_connection),
        cmocka_unit_test(small_requests_overtake_a_long_stream),
        cmocka_unit_test(the_receiver_may_stop),
        cmocka_unit_test(each_piece_puts_the_time_out_off),
        cmocka_unit_test(a_source_that_lies_is_an_error),
        cmocka_unit_test(late_answers_wake_the_owner),
        cmocka_unit_test(pieces_in_any_order),
        cmocka_unit_test(failed_allocations_leave_nothing),
    };
    return cmocka_run_group_tests_name("rpc/rpc", tests, NULL, NULL);
}
