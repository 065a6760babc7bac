#include "internal.h"

#include "base/config.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "value.h"
#include <string.h>

enum { OWN_LEN = 13 }; /* dp_rpc.own as the text of an id: "01234567-89ab" */

/* RFC 9562 §5.4: UUID version 4. Its first 48 bits were drawn once for the rpc, the rest is new. */
static void write_id(char id[DP_REQUEST_ID_LEN + 1], uint8_t bytes[16], const dp_rpc *rpc)
{
    memcpy(bytes, rpc->own, sizeof(rpc->own));
    bytes[6] = (uint8_t)((bytes[6] & 0x0f) | 0x40);
    bytes[8] = (uint8_t)((bytes[8] & 0x3f) | 0x80);
    char *at = id;
    for (size_t i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        *at++ = "0123456789abcdef"[bytes[i] >> 4];
        *at++ = "0123456789abcdef"[bytes[i] & 15];
    }
    *at = '\0';
}

static int make_id(const dp_rpc *rpc, char id[DP_REQUEST_ID_LEN + 1])
{
    uint8_t bytes[16];
    int error = dp_random_bytes(&rpc->config.random, bytes, sizeof(bytes));
    if (error == DP_OK)
        write_id(id, bytes, rpc);
    return error;
}

static void set_deadline(dp_rpc *rpc, dp_pending *request, dp_time now)
{
    dp_duration timeout = request->owner.timeout;
    request->deadline = timeout > DP_TIME_NEVER - now ? DP_TIME_NEVER : now + timeout;
    if (request->deadline < rpc->earliest)
        rpc->earliest = request->deadline;
}

static void free_request(dp_pending *request)
{
    dp_stream_in_clear(&request->in);
    dp_free(request->collected);
    dp_free(request);
}

static void unlink_request(dp_rpc *rpc, dp_pending *request)
{
    dp_table_remove(&rpc->pending, request->id, DP_REQUEST_ID_LEN);
    *(request->prev != NULL ? &request->prev->next : &rpc->requests) = request->next;
    if (request->next != NULL)
        request->next->prev = request->prev;
    rpc->answers_memory -= request->memory;
}

/* request is unlinked. on_done may do anything, freeing the rpc included. */
static void done(dp_pending *request, int error, const dp_value *context)
{
    request->ended = true;
    if (request->owner.on_done != NULL)
        request->owner.on_done(request->owner.user, error, context);
    if (!request->busy)
        free_request(request);
}

static int check(const dp_rpc *rpc, const dp_request *request)
{
    if (request->action == NULL)
        return DP_ERR_INVALID_ARGUMENT;
    if (rpc->closed)
        return DP_ERR_CLOSED;
    if (rpc->pending.count >= rpc->config.max_pending || rpc->outbox_bytes >= DP_RPC_OUTBOX_SOFT)
        return DP_ERR_WOULD_BLOCK;
    return DP_OK;
}

static int send_request(dp_rpc *rpc, const dp_pending *pending, const char *action, dp_value *body)
{
    dp_value *context = dp_context_new(action, pending->id, body);
    if (context == NULL)
        return DP_ERR_NO_MEMORY;
    int error = dp_rpc_queue_context(rpc, context);
    dp_value_free(context);
    return error;
}

int dp_rpc_request(dp_rpc *rpc, dp_time now, const dp_request *given, char id[DP_REQUEST_ID_LEN + 1])
{
    dp_request read = {0};
    const dp_request *request = &read;
    if (!DP_CONFIG_READ(&read, given, dp_request, body))
        return DP_ERR_INVALID_ARGUMENT;
    dp_value *body = request->body != NULL ? request->body : dp_value_null();
    int error = check(rpc, request);
    dp_pending *pending = error == DP_OK ? dp_calloc(1, sizeof(*pending)) : NULL;
    if (pending == NULL) {
        dp_value_free(body);
        return error != DP_OK ? error : DP_ERR_NO_MEMORY;
    }
    pending->owner = *request;
    pending->owner.body = NULL;
    pending->owner.action = NULL;
    if (pending->owner.timeout == 0)
        pending->owner.timeout = DP_SECONDS(60);
    dp_stream_in_init(&pending->in);
    error = make_id(rpc, pending->id);
    if (error == DP_OK)
        error = dp_table_set(&rpc->pending, pending->id, DP_REQUEST_ID_LEN, pending, NULL);
    if (error == DP_OK) {
        error = send_request(rpc, pending, request->action, body);
        body = NULL;
        if (error != DP_OK)
            dp_table_remove(&rpc->pending, pending->id, DP_REQUEST_ID_LEN);
    }
    dp_value_free(body);
    if (error != DP_OK) {
        free_request(pending);
        return error;
    }
    pending->next = rpc->requests;
    if (pending->next != NULL)
        pending->next->prev = pending;
    rpc->requests = pending;
    set_deadline(rpc, pending, now);
    if (id != NULL)
        memcpy(id, pending->id, sizeof(pending->id));
    return DP_OK;
}

int dp_rpc_cancel(dp_rpc *rpc, const char *id)
{
    dp_pending *request = dp_table_get(&rpc->pending, id, strlen(id));
    if (request == NULL)
        return DP_ERR_NOT_FOUND;
    dp_rpc_enter(rpc);
    unlink_request(rpc, request);
    done(request, DP_ERR_CANCELLED, NULL);
    dp_rpc_leave(rpc);
    return DP_OK;
}

/* ---- answers ---- */

dp_pending *dp_rpc_find_request(const dp_rpc *rpc, const dp_value *id)
{
    size_t len;
    const char *text = dp_value_get_string(id, &len);
    return len == DP_REQUEST_ID_LEN ? dp_table_get(&rpc->pending, text, len) : NULL;
}

bool dp_rpc_is_own_id(const dp_rpc *rpc, const dp_value *id)
{
    uint8_t bytes[16] = {0};
    char own[DP_REQUEST_ID_LEN + 1];
    write_id(own, bytes, rpc);
    size_t len;
    const char *text = dp_value_get_string(id, &len);
    return len == DP_REQUEST_ID_LEN && memcmp(text, own, OWN_LEN) == 0;
}

static int collect(void *ctx, const uint8_t *data, size_t len, uint64_t total)
{
    (void)total;
    dp_pending *request = ctx;
    size_t needed = request->collected_len + len;
    int error =
        dp_grow((void **)&request->collected, &request->collected_capacity, needed, DP_RPC_COLLECT_MAX, 1);
    if (error != DP_OK)
        return error == DP_ERR_LIMIT ? DP_ERR_TOO_LARGE : error;
    if (len > 0)
        memcpy(request->collected + request->collected_len, data, len);
    request->collected_len = needed;
    return DP_OK;
}

static int hand_over(void *ctx, const uint8_t *data, size_t len, uint64_t total)
{
    dp_pending *request = ctx;
    int error = request->owner.on_data(request->owner.user, data, len, total);
    return request->ended ? DP_ERR_CANCELLED : error;
}

static int set_collected(dp_pending *request, dp_value *context)
{
    uint8_t *block = request->collected;
    request->collected = NULL;
    dp_value *bytes =
        block == NULL ? dp_value_bytes(NULL, 0) : dp_value_bytes_adopt(block, request->collected_len);
    return dp_value_set(dp_value_get(dp_value_get(context, "response"), "body"), "data", bytes);
}

/* DP_RPC_COLLECT_MAX for each of a thousand requests would be no limit. */
static int count_memory(dp_rpc *rpc, dp_pending *request)
{
    size_t memory = request->collected_capacity + request->in.held_bytes;
    rpc->answers_memory += memory - request->memory;
    request->memory = memory;
    return rpc->answers_memory > DP_RPC_ANSWERS_MAX ? DP_ERR_LIMIT : DP_OK;
}

static int stream_piece(dp_rpc *rpc, dp_time now, dp_pending *request, dp_value *context, bool *ended)
{
    set_deadline(rpc, request, now);
    request->busy = true;
    bool own = request->owner.on_data != NULL;
    int error =
        dp_stream_in_input(&request->in, dp_context_data(context), own ? hand_over : collect, request, ended);
    request->busy = false;
    if (request->ended)
        return error;
    int limit = count_memory(rpc, request);
    if (error == DP_OK)
        error = limit;
    if (error == DP_OK && *ended && !own)
        error = set_collected(request, context);
    return error;
}

void dp_rpc_answer_input(dp_rpc *rpc, dp_time now, dp_pending *request, dp_value *context)
{
    int code = dp_context_code(context, 200);
    int error = code >= 200 && code <= 299 ? DP_OK : DP_ERR_REMOTE;
    if (error == DP_OK && dp_context_is_stream(context)) {
        bool ended = false;
        error = stream_piece(rpc, now, request, context, &ended);
        if (request->ended) { /* cancelled or closed in its own on_data */
            free_request(request);
            return;
        }
        if (error == DP_OK && !ended)
            return;
    }
    unlink_request(rpc, request);
    done(request, error, error == DP_OK || error == DP_ERR_REMOTE ? context : NULL);
}

/* ---- ends ---- */

/* on_done may add, cancel or close: so those that end leave the lists first, and their own list then belongs
 * to nobody else. */
static void end_those(dp_rpc *rpc, bool all, dp_time now, int error)
{
    dp_pending *ending = NULL;
    rpc->earliest = DP_TIME_NEVER;
    for (dp_pending *request = rpc->requests, *next; request != NULL; request = next) {
        next = request->next;
        if (!all && request->deadline > now) {
            if (request->deadline < rpc->earliest)
                rpc->earliest = request->deadline;
            continue;
        }
        unlink_request(rpc, request);
        request->next = ending;
        ending = request;
    }
    while (ending != NULL) {
        dp_pending *request = ending;
        ending = request->next;
        done(request, error, NULL);
    }
}

void dp_rpc_end_expired(dp_rpc *rpc, dp_time now) { end_those(rpc, false, now, DP_ERR_TIMEOUT); }
void dp_rpc_end_all_requests(dp_rpc *rpc, int error) { end_those(rpc, true, 0, error); }
