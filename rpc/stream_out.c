/* An answer in pieces. Each piece is the whole context again, as pages expect it. What doesn't change is
 * packed once: the order of a map's keys has no meaning, so response.body.data.chunk is put last, and a
 * message is
 *
 *   prefix: the context up to the key "data" | {type, total?, offset, chunk: | the bytes, read straight into
 * place
 *
 * total and offset are ours: pages ignore them, our own receiver notices with them what is missing or out of
 * order. */
#include "internal.h"

#include "base/config.h"
#include "base/mem.h"
#include "base/text.h"
#include "binarypack.h"
#include <string.h>

enum {
    HEAD_MAX = 64,         /* of response.body.data up to the bytes */
    LONG_PIECE = 64 << 10, /* if the context alone fills most of a message */
    PIECE_MAX = 16 << 20,
};

/* ---- the prefix ---- */

static bool is_one_of(const char *key, size_t len, const char *const *names)
{
    for (; *names != NULL; names++)
        if (dp_slice_is((dp_slice){key, len}, *names))
            return true;
    return false;
}

/* The head of a map with `more` members beside those of map that aren't in except, then these members. map
 * may be NULL. */
static int put_members(dp_bp_sink *sink, const dp_value *map, const char *const *except, size_t more,
                       int depth)
{
    size_t count = dp_value_get_type(map) == DP_VALUE_MAP ? dp_value_count(map) : 0;
    size_t len;
    for (size_t i = 0; i < count; i++) {
        const char *key = dp_value_key_at(map, i, &len);
        more += !is_one_of(key, len, except);
    }
    dp_bp_put_count(sink, DP_VALUE_MAP, more);
    int error = DP_OK;
    for (size_t i = 0; i < count && error == DP_OK; i++) {
        const char *key = dp_value_key_at(map, i, &len);
        if (is_one_of(key, len, except))
            continue;
        dp_bp_put_text(sink, key, len);
        error = dp_bp_put_value(sink, dp_value_at(map, i), depth);
    }
    return error;
}

static void put_string(dp_bp_sink *sink, const char *text) { dp_bp_put_text(sink, text, strlen(text)); }

static int fill_prefix(dp_bp_sink *sink, const void *ctx)
{
    static const char *const not_response[] = {"response", NULL};
    static const char *const not_members[] = {"headers", "body", NULL};
    static const char *const not_type[] = {"contentType", NULL};
    static const char *const not_answer[] = {"code", "message", "data", NULL};
    const dp_value *context = ctx;
    const dp_value *response = dp_value_get(context, "response");
    const dp_value *body = dp_value_get(response, "body");

    int error = put_members(sink, context, not_response, 1, 1);
    put_string(sink, "response");
    if (error == DP_OK)
        error = put_members(sink, response, not_members, 2, 2);
    put_string(sink, "headers");
    if (error == DP_OK)
        error = put_members(sink, dp_value_get(response, "headers"), not_type, 1, 3);
    put_string(sink, "contentType");
    put_string(sink, dp_context_octet_stream);
    put_string(sink, "body");
    if (error == DP_OK)
        error = put_members(sink, body, not_answer, 3, 3);
    uint8_t head[DP_BP_HEAD_MAX];
    dp_wr code = dp_wr_init(head, sizeof(head));
    dp_bp_write_int(&code, dp_context_success_code(context));
    put_string(sink, "code");
    dp_bp_put(sink, head, code.len);
    put_string(sink, "message");
    const char *message = dp_context_message(context);
    put_string(sink, message != NULL ? message : "");
    put_string(sink, "data");
    return error;
}

/* The prefix, and how many bytes fit behind it. */
static int prepare(dp_call *call, const dp_stream *stream)
{
    if (call->streaming)
        return DP_ERR_INVALID_STATE;
    if (stream->read == NULL)
        return DP_ERR_INVALID_ARGUMENT;
    if (call->rpc->config.no_streams)
        return DP_ERR_UNSUPPORTED;
    int error = dp_rpc_fits(call->rpc, call->context);
    if (error == DP_OK)
        error = dp_bp_build(&call->prefix, &call->prefix_len, fill_prefix, call->context);
    if (error != DP_OK)
        return error;
    size_t used = call->prefix_len + HEAD_MAX;
    size_t room = used < DP_CHUNK_SIZE ? DP_CHUNK_SIZE - used : 0;
    call->piece = stream->piece != 0 ? stream->piece : room >= DP_CHUNK_SIZE / 2 ? room : LONG_PIECE;
    if (call->piece > PIECE_MAX)
        call->piece = PIECE_MAX;
    call->stream = *stream;
    return DP_OK;
}

int dp_call_stream(dp_call *call, const dp_stream *given)
{
    dp_stream stream = {.total = UINT64_MAX};
    int error =
        DP_CONFIG_READ(&stream, given, dp_stream, piece) ? prepare(call, &stream) : DP_ERR_INVALID_ARGUMENT;
    if (error == DP_OK) {
        call->streaming = true;
        dp_call_resume(call);
        return DP_OK;
    }
    if (error != DP_ERR_INVALID_STATE)
        (void)dp_call_fail(call, 500, dp_strerror(error));
    if (stream.on_end != NULL) /* last: it may close the rpc, which would take the call with it */
        stream.on_end(stream.user, error);
    return error;
}

/* ---- taking turns ---- */

static void append_ready(dp_call *call)
{
    dp_rpc *rpc = call->rpc;
    call->queued = true;
    call->next_ready = NULL;
    if (rpc->ready_last != NULL)
        rpc->ready_last->next_ready = call;
    else
        rpc->ready_first = call;
    rpc->ready_last = call;
}

void dp_call_resume(dp_call *call)
{
    if (!call->streaming || call->ended || call->queued)
        return;
    if (call->busy) { /* next_piece will see it */
        call->resumed = true;
        return;
    }
    append_ready(call);
    dp_rpc_ready(call->rpc);
}

static dp_call *next_ready(dp_rpc *rpc)
{
    dp_call *call = rpc->ready_first;
    if (call == NULL)
        return NULL;
    rpc->ready_first = call->next_ready;
    if (rpc->ready_first == NULL)
        rpc->ready_last = NULL;
    call->queued = false;
    return call;
}

static void remove_ready(dp_call *call)
{
    dp_rpc *rpc = call->rpc;
    dp_call *before = NULL;
    for (dp_call *c = rpc->ready_first; c != NULL; before = c, c = c->next_ready) {
        if (c != call)
            continue;
        *(before != NULL ? &before->next_ready : &rpc->ready_first) = call->next_ready;
        if (rpc->ready_last == call)
            rpc->ready_last = before;
        call->queued = false;
        return;
    }
}

void dp_call_end_stream(dp_call *call, int error)
{
    if (call->queued)
        remove_ready(call);
    dp_call_unlink(call);
    call->ended = true;
    if (call->stream.on_end != NULL)
        call->stream.on_end(call->stream.user, error);
    if (!call->busy)
        dp_call_free(call);
}

/* ---- pieces ---- */

typedef struct piece_head {
    uint8_t bytes[HEAD_MAX];
    size_t len;
} piece_head;

static piece_head make_head(const dp_call *call, const char *type, size_t piece_len)
{
    piece_head head;
    dp_wr wr = dp_wr_init(head.bytes, sizeof(head.bytes));
    bool total = !call->started && call->stream.total != UINT64_MAX;
    dp_bp_write_count(&wr, DP_VALUE_MAP, total ? 4 : 3);
    dp_bp_write_text(&wr, "type");
    dp_bp_write_text(&wr, type);
    if (total) {
        dp_bp_write_text(&wr, "total");
        dp_bp_write_uint(&wr, call->stream.total);
    }
    dp_bp_write_text(&wr, "offset");
    dp_bp_write_uint(&wr, call->offset);
    dp_bp_write_text(&wr, "chunk");
    dp_bp_write_count(&wr, DP_VALUE_BYTES, (uint32_t)piece_len);
    head.len = wr.len;
    return head;
}

/* Calls the owner's read. CANCELLED: the call is gone. */
static int read_piece(dp_call *call, uint8_t *out, size_t *len)
{
    *len = 0;
    if (call->at_end)
        return DP_OK;
    call->busy = true;
    call->resumed = false;
    int error = call->stream.read(call->stream.user, out, call->piece, len);
    call->busy = false;
    if (call->ended) {
        dp_call_free(call);
        return DP_ERR_CANCELLED;
    }
    if (error == DP_OK && *len > call->piece)
        error = DP_ERR_NO_SPACE;
    if (error == DP_OK && *len == 0)
        call->at_end = true;
    return error;
}

static void fail_stream(dp_call *call, int error)
{
    dp_rpc *rpc = call->rpc;
    dp_value *context = call->context;
    call->context = NULL;
    dp_call_end_stream(call, error);
    (void)dp_rpc_answer(rpc, context, 500, dp_strerror(error), NULL);
}

/* One message of call: DP_OK, WOULD_BLOCK (ask again after dp_call_resume), or another error: the call has
 * ended without one. */
static int next_piece(dp_call *call, uint8_t **out, size_t *len)
{
    const char *type = call->started ? "chunk" : "start";
    piece_head head = make_head(call, type, call->piece);
    /* 'start' and 'end' are as long as 'chunk' or shorter, short pieces have shorter heads. */
    uint8_t *message = dp_alloc(call->prefix_len + head.len + (call->at_end ? 0 : call->piece));
    size_t piece_len = 0;
    int error = message == NULL ? DP_ERR_NO_MEMORY
                                : read_piece(call, message + call->prefix_len + head.len, &piece_len);
    if (error != DP_OK) {
        dp_free(message);
        if (error == DP_ERR_WOULD_BLOCK && call->resumed)
            append_ready(call);
        else if (error != DP_ERR_WOULD_BLOCK && error != DP_ERR_CANCELLED)
            fail_stream(call, error);
        return error;
    }
    bool end = call->started && piece_len == 0;
    piece_head actual = make_head(call, end ? "end" : type, piece_len);
    uint8_t *data = message + call->prefix_len;
    if (actual.len != head.len)
        memmove(data + actual.len, data + head.len, piece_len);
    memcpy(message, call->prefix, call->prefix_len);
    memcpy(data, actual.bytes, actual.len);
    *out = message;
    *len = call->prefix_len + actual.len + piece_len;
    call->started = true;
    call->offset += piece_len;
    if (end)
        dp_call_end_stream(call, DP_OK);
    else
        append_ready(call);
    return DP_OK;
}

/* A source that resumes itself within read is asked again at once: nobody would wake it later. */
bool dp_rpc_poll_streams(dp_rpc *rpc, uint8_t **out, size_t *len)
{
    for (dp_call *call; (call = next_ready(rpc)) != NULL;)
        if (next_piece(call, out, len) == DP_OK)
            return true;
    return false;
}
