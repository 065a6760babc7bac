#include "internal.h"

#include "base/mem.h"
#include "value.h"
#include <string.h>

const dp_value *dp_call_body(const dp_call *call)
{
    return dp_value_get(dp_value_get(call->context, "request"), "body");
}

const char *dp_call_action(const dp_call *call)
{
    return dp_value_get_string(dp_value_get(call->context, "action"), NULL);
}

dp_rpc *dp_call_rpc(const dp_call *call) { return call->rpc; }

void dp_call_on_gone(dp_call *call, void (*fn)(void *user), void *user)
{
    call->on_gone = fn;
    call->on_gone_user = user;
}

void dp_call_free(dp_call *call)
{
    dp_value_free(call->context);
    dp_free(call->prefix);
    dp_free(call);
}

void dp_call_unlink(dp_call *call)
{
    dp_rpc *rpc = call->rpc;
    *(call->prev != NULL ? &call->prev->next : &rpc->calls) = call->next;
    if (call->next != NULL)
        call->next->prev = call->prev;
    rpc->call_count--;
    rpc->calls_memory -= call->memory;
}

/* ---- answering ---- */

int dp_rpc_answer(dp_rpc *rpc, dp_value *context, int code, const char *message, dp_value *data)
{
    int error = dp_context_set_answer(context, code, message, data != NULL ? data : dp_value_null());
    if (error == DP_OK)
        error = dp_rpc_queue_context(rpc, context);
    if (error != DP_OK && error != DP_ERR_CLOSED) {
        /* The answer can't be sent (memory, depth, size): an error is better than silence, first with the
         * request in it. */
        int second = dp_context_set_answer(context, 500, dp_strerror(error), dp_value_null());
        if (second == DP_OK)
            second = dp_rpc_queue_context(rpc, context);
        if (second != DP_OK &&
            dp_value_set(dp_value_get(context, "request"), "body", dp_value_null()) == DP_OK)
            second = dp_rpc_queue_context(rpc, context);
        DP_LOG(&rpc->config.log, DP_LOG_WARN, "rpc", "an answer became %s: %s",
               second == DP_OK ? "a 500" : "nothing", dp_strerror(error));
    }
    dp_value_free(context);
    return error;
}

static int end_call(dp_call *call, int code, const char *message, dp_value *data)
{
    if (call->streaming) {
        dp_value_free(data);
        return DP_ERR_INVALID_STATE;
    }
    dp_rpc *rpc = call->rpc;
    dp_value *context = call->context;
    call->context = NULL;
    dp_call_unlink(call);
    dp_call_free(call);
    return dp_rpc_answer(rpc, context, code, message, data);
}

int dp_call_reply(dp_call *call, dp_value *data) { return end_call(call, 0, NULL, data); }

int dp_call_fail(dp_call *call, int code, const char *message)
{
    return end_call(call, code != 0 ? code : 500, message != NULL ? message : "", NULL);
}

/* ---- serving ---- */

void dp_rpc_serve(dp_rpc *rpc, dp_value *context)
{
    if (rpc->outbox_bytes >= DP_RPC_OUTBOX_HARD || rpc->outbox.count >= DP_RPC_OUTBOX_ITEMS / 2) {
        DP_LOG(&rpc->config.log, DP_LOG_WARN, "rpc",
               "a request was dropped: the peer doesn't take its answers");
        dp_value_free(context);
        return;
    }
    size_t len;
    const char *action = dp_value_get_string(dp_value_get(context, "action"), &len);
    const dp_rpc_handler *handler = dp_router_find(rpc->config.router, action, len);
    if (handler == NULL) {
        (void)dp_rpc_answer(rpc, context, 404, "no such action", NULL);
        return;
    }
    if (rpc->call_count >= rpc->config.max_incoming || rpc->calls_memory >= DP_RPC_CALLS_SOFT ||
        rpc->outbox_bytes >= DP_RPC_OUTBOX_SOFT) {
        (void)dp_rpc_answer(rpc, context, 503, "too many requests at once", NULL);
        return;
    }
    dp_call *call = dp_calloc(1, sizeof(*call));
    if (call == NULL) {
        (void)dp_rpc_answer(rpc, context, 500, dp_strerror(DP_ERR_NO_MEMORY), NULL);
        return;
    }
    call->rpc = rpc;
    call->context = context;
    call->next = rpc->calls;
    if (call->next != NULL)
        call->next->prev = call;
    rpc->calls = call;
    rpc->call_count++;
    call->memory = dp_value_memory(context, 0);
    rpc->calls_memory += call->memory;
    handler->fn(handler->user, call);
}

void dp_rpc_end_all_calls(dp_rpc *rpc, int error)
{
    while (rpc->calls != NULL) {
        dp_call *call = rpc->calls;
        if (call->streaming) {
            dp_call_end_stream(call, error);
            continue;
        }
        dp_call_unlink(call);
        if (call->on_gone != NULL)
            call->on_gone(call->on_gone_user);
        dp_call_free(call);
    }
}
