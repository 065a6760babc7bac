/* Two ends that serve and ask each other, and a stranger who sends them any value. The bytes are steps:
 *   0: a stranger's value to the server, 1: to the client (u16 length, packed)    2: the client asks (action)
 *   3: one message each way   4: a held call is answered   5: time   6: cancel   7: streams go on   8: close
 */
#include "rpc/binarypack.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HELD = 8, ASKED = 16 };

typedef struct world {
    uint32_t seed;
    dp_rpc *server;
    dp_rpc *client;
    dp_call *held[HELD];
    dp_call *streams[HELD];
    size_t left[HELD];
    char ids[ASKED][DP_REQUEST_ID_LEN + 1];
    bool waiting[ASKED];
    size_t asked;
} world;

typedef struct slot {
    world *world;
    size_t i;
} slot;

static void check(bool ok)
{
    if (!ok)
        abort();
}

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

static void gone(void *user) { *(dp_call **)user = NULL; }

static void hold(void *user, dp_call *call)
{
    world *w = user;
    for (size_t i = 0; i < HELD; i++)
        if (w->held[i] == NULL) {
            w->held[i] = call;
            dp_call_on_gone(call, gone, &w->held[i]);
            return;
        }
    dp_call_fail(call, 429, NULL);
}

static int read_some(void *user, uint8_t *out, size_t capacity, size_t *len)
{
    size_t *left = user;
    if (*left % 3 == 2) {
        --*left;
        return DP_ERR_WOULD_BLOCK;
    }
    if (*left == 7)
        return DP_ERR_IO;
    *len = *left < capacity ? *left : capacity;
    memset(out, 0x5a, *len);
    *left -= *len;
    return DP_OK;
}

static world *the_world; /* on_end gets the size left, which tells the slot */

static void stream_end(void *user, int error)
{
    (void)error;
    the_world->streams[(size_t *)user - the_world->left] = NULL;
}

static void stream(void *user, dp_call *call)
{
    world *w = user;
    for (size_t i = 0; i < HELD; i++)
        if (w->streams[i] == NULL) {
            int64_t size = dp_value_get_int(dp_call_body(call), 50000);
            w->left[i] = (size_t)(size & 0xffff);
            dp_stream s = {sizeof(s), read_some, stream_end, &w->left[i], 0, w->left[i]};
            w->streams[i] = call;
            check(dp_call_stream(call, &s) == DP_OK);
            return;
        }
    dp_call_fail(call, 429, "busy");
}

static void done(void *user, int error, const dp_value *context)
{
    bool *waiting = user;
    check(*waiting); /* once */
    *waiting = false;
    check((context != NULL) == (error == DP_OK || error == DP_ERR_REMOTE));
}

static bool carry(dp_rpc *from, dp_rpc *to, dp_time now)
{
    uint8_t *packed;
    size_t len;
    if (!dp_rpc_poll_transmit(from, now, &packed, &len))
        return false;
    dp_value *value = NULL;
    check(dp_binarypack_decode(&value, packed, len) == DP_OK); /* all that leaves is well-formed */
    dp_free(packed);
    if (dp_rpc_input(to, now, value) != DP_OK)
        dp_value_free(value);
    return true;
}

static void feed(dp_rpc *rpc, dp_time now, dp_rd *rd)
{
    size_t len = dp_rd_u16(rd);
    if (len > dp_rd_left(rd))
        len = dp_rd_left(rd);
    const uint8_t *bytes = dp_rd_bytes(rd, len);
    dp_value *value = NULL;
    if (bytes != NULL && dp_binarypack_decode(&value, bytes, len) == DP_OK &&
        dp_rpc_input(rpc, now, value) != DP_OK)
        dp_value_free(value);
}

static void ask(world *w, dp_time now, uint8_t action)
{
    static const char *const actions[] = {"echo", "hold", "stream", "nonsense"};
    size_t i = w->asked++ % ASKED;
    if (w->waiting[i])
        return;
    dp_request q = {.size = sizeof(q),
                    .action = actions[action % 4],
                    .body = dp_value_int(action * 257),
                    .on_done = done,
                    .user = &w->waiting[i]};
    w->waiting[i] = dp_rpc_request(w->client, now, &q, w->ids[i]) == DP_OK;
}

static void answer(world *w, uint8_t i)
{
    dp_call *call = w->held[i % HELD];
    w->held[i % HELD] = NULL;
    if (call != NULL && i < 128)
        dp_call_reply(call, dp_value_int(i));
    else if (call != NULL)
        dp_call_fail(call, i, "held too long");
}

static void step(world *w, dp_rd *rd, dp_time *now)
{
    switch (dp_rd_u8(rd) % 9) {
    case 0:
        feed(w->server, *now, rd);
        break;
    case 1:
        feed(w->client, *now, rd);
        break;
    case 2:
        ask(w, *now, dp_rd_u8(rd));
        break;
    case 3:
        carry(w->client, w->server, *now);
        carry(w->server, w->client, *now);
        break;
    case 4:
        answer(w, dp_rd_u8(rd));
        break;
    case 5:
        *now += DP_SECONDS(dp_rd_u8(rd));
        dp_rpc_handle_timeout(w->client, *now);
        check(dp_rpc_next_timeout(w->client) > *now);
        break;
    case 6:
        dp_rpc_cancel(w->client, w->ids[dp_rd_u8(rd) % ASKED]);
        break;
    case 7:
        for (size_t i = 0; i < HELD; i++)
            if (w->streams[i] != NULL)
                dp_call_resume(w->streams[i]);
        break;
    default:
        if (dp_rd_u8(rd) == 0)
            dp_rpc_close(w->server, DP_ERR_CLOSED);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    world w = {.seed = 1};
    the_world = &w;
    dp_router *router = NULL;
    check(dp_router_new(&router) == DP_OK);
    check(dp_router_register(router, "echo", echo, &w) == DP_OK &&
          dp_router_register(router, "hold", hold, &w) == DP_OK &&
          dp_router_register(router, "stream", stream, &w) == DP_OK);
    dp_rpc_config config = {.size = sizeof(config), .random = {seeded, &w.seed}, .router = router};
    check(dp_rpc_new(&w.server, &config) == DP_OK);
    config.router = NULL;
    check(dp_rpc_new(&w.client, &config) == DP_OK);
    dp_rd rd = dp_rd_init(data, size);
    dp_time now = 0;
    while (dp_rd_left(&rd) > 0)
        step(&w, &rd, &now);
    for (int i = 0; i < 100000 && (carry(w.client, w.server, now) || carry(w.server, w.client, now)); i++)
        check(i < 99999); /* it comes to rest: no ping-pong */
    dp_rpc_free(w.client);
    dp_rpc_free(w.server);
    for (size_t i = 0; i < ASKED; i++)
        check(!w.waiting[i]);
    for (size_t i = 0; i < HELD; i++)
        check(w.held[i] == NULL && w.streams[i] == NULL);
    dp_router_free(router);
    return 0;
}
