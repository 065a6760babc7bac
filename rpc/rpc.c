#include "internal.h"

#include "base/config.h"
#include "base/crypto.h"
#include "base/mem.h"
#include <string.h>

int dp_rpc_new(dp_rpc **out, const dp_rpc_config *config)
{
    dp_rpc_config read = {0};
    if (!DP_CONFIG_READ(&read, config, dp_rpc_config, log) || read.random.fn == NULL)
        return DP_ERR_INVALID_ARGUMENT;
    dp_rpc *rpc = dp_calloc(1, sizeof(*rpc));
    if (rpc == NULL)
        return DP_ERR_NO_MEMORY;
    int error = dp_random_bytes(&read.random, rpc->own, sizeof(rpc->own));
    if (error != DP_OK) {
        dp_free(rpc);
        return error;
    }
    rpc->config = read;
    if (rpc->config.max_pending == 0)
        rpc->config.max_pending = 1024;
    if (rpc->config.max_incoming == 0)
        rpc->config.max_incoming = 1024;
    dp_queue_init(&rpc->outbox, sizeof(dp_rpc_packed), DP_RPC_OUTBOX_ITEMS);
    dp_table_init(&rpc->pending, (uintptr_t)rpc);
    rpc->earliest = DP_TIME_NEVER;
    *out = rpc;
    return DP_OK;
}

void *dp_rpc_user(const dp_rpc *rpc) { return rpc->config.user; }

static void destroy(dp_rpc *rpc)
{
    dp_queue_clear(&rpc->outbox);
    dp_table_clear(&rpc->pending);
    dp_free(rpc);
}

void dp_rpc_enter(dp_rpc *rpc) { rpc->depth++; }

void dp_rpc_leave(dp_rpc *rpc)
{
    rpc->depth--;
    if (rpc->depth == 0 && rpc->free_later)
        destroy(rpc);
}

void dp_rpc_close(dp_rpc *rpc, int error)
{
    if (rpc->closed)
        return;
    rpc->closed = true;
    if (error == DP_OK)
        error = DP_ERR_CLOSED;
    for (dp_rpc_packed packed; dp_queue_pop(&rpc->outbox, &packed);)
        dp_free(packed.data);
    rpc->outbox_bytes = 0;
    dp_rpc_enter(rpc);
    dp_rpc_end_all_calls(rpc, error);
    dp_rpc_end_all_requests(rpc, error);
    dp_rpc_leave(rpc);
}

void dp_rpc_free(dp_rpc *rpc)
{
    if (rpc == NULL)
        return;
    dp_rpc_enter(rpc);
    dp_rpc_close(rpc, DP_ERR_CLOSED);
    rpc->free_later = true;
    dp_rpc_leave(rpc);
}

/* ---- in ---- */

int dp_rpc_input(dp_rpc *rpc, dp_time now, dp_value *value)
{
    if (rpc->closed || !dp_context_is(value))
        return DP_ERR_NOT_FOUND;
    const dp_value *id = dp_context_id(value);
    dp_pending *request = dp_rpc_find_request(rpc, id);
    dp_rpc_enter(rpc);
    if (request != NULL) {
        dp_rpc_answer_input(rpc, now, request, value);
        dp_value_free(value);
    } else if (dp_rpc_is_own_id(rpc, id) || dp_context_is_answer(value)) {
        DP_LOG(&rpc->config.log, DP_LOG_DEBUG, "rpc", "an answer that nobody waits for was dropped");
        dp_value_free(value);
    } else {
        dp_rpc_serve(rpc, value);
    }
    dp_rpc_leave(rpc);
    return DP_OK;
}

/* ---- out ---- */

void dp_rpc_ready(dp_rpc *rpc)
{
    if (rpc->config.on_ready != NULL)
        rpc->config.on_ready(rpc->config.user);
}

/* Takes data in every case. */
static int queue_packed(dp_rpc *rpc, uint8_t *data, size_t len)
{
    dp_rpc_packed *slot = rpc->closed ? NULL : dp_queue_push(&rpc->outbox);
    if (slot == NULL) {
        dp_free(data);
        return rpc->closed ? DP_ERR_CLOSED : DP_ERR_NO_MEMORY;
    }
    *slot = (dp_rpc_packed){data, len};
    rpc->outbox_bytes += len;
    dp_rpc_ready(rpc);
    return DP_OK;
}

int dp_rpc_fits(const dp_rpc *rpc, const dp_value *context)
{
    return rpc->config.fits != NULL ? rpc->config.fits(rpc->config.user, context) : DP_OK;
}

int dp_rpc_queue_context(dp_rpc *rpc, const dp_value *context)
{
    uint8_t *packed = NULL;
    size_t len = 0;
    int error = dp_rpc_fits(rpc, context);
    if (error == DP_OK)
        error = dp_binarypack_encode(context, &packed, &len);
    return error == DP_OK ? queue_packed(rpc, packed, len) : error;
}

static bool poll_outbox(dp_rpc *rpc, uint8_t **out, size_t *len)
{
    dp_rpc_packed packed;
    if (!dp_queue_pop(&rpc->outbox, &packed))
        return false;
    rpc->outbox_bytes -= packed.len;
    *out = packed.data;
    *len = packed.len;
    return true;
}

/* Streams and whole messages take turns, the streams among themselves too: nobody waits for the end of a long
 * download. */
bool dp_rpc_poll_transmit(dp_rpc *rpc, dp_time now, uint8_t **out, size_t *len)
{
    (void)now;
    dp_rpc_enter(rpc);
    bool found;
    if (rpc->stream_turn)
        found = dp_rpc_poll_streams(rpc, out, len) || poll_outbox(rpc, out, len);
    else
        found = poll_outbox(rpc, out, len) || dp_rpc_poll_streams(rpc, out, len);
    /* A stream whose read failed has left its answer in the outbox. */
    found = found || poll_outbox(rpc, out, len);
    rpc->stream_turn = !rpc->stream_turn;
    dp_rpc_leave(rpc);
    return found;
}

/* ---- time ---- */

void dp_rpc_handle_timeout(dp_rpc *rpc, dp_time now)
{
    if (rpc->closed || rpc->earliest > now)
        return;
    dp_rpc_enter(rpc);
    dp_rpc_end_expired(rpc, now);
    dp_rpc_leave(rpc);
}

dp_time dp_rpc_next_timeout(const dp_rpc *rpc) { return rpc->closed ? DP_TIME_NEVER : rpc->earliest; }
