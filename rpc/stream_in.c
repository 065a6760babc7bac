/* The pieces of an octet stream, put in order.
 *
 * Pages number nothing: what they send counts in the order of arrival, as their own receiver does it. Our
 * senders give each piece its offset; then a piece that overtook others waits for them, and a gap or a
 * repetition is an error instead of a damaged file. */
#include "internal.h"

#include "base/mem.h"
#include "base/text.h"
#include <string.h>

enum { HELD_PIECES = 256, HELD_BYTES = 8 << 20 };

struct dp_stream_in_piece {
    dp_stream_in_piece *next;
    uint64_t offset;
    bool end;
    size_t len;
    uint8_t data[];
};

void dp_stream_in_init(dp_stream_in *in) { *in = (dp_stream_in){.total = UINT64_MAX}; }

void dp_stream_in_clear(dp_stream_in *in)
{
    for (dp_stream_in_piece *piece = in->held, *next; piece != NULL; piece = next) {
        next = piece->next;
        dp_free(piece);
    }
    in->held = NULL;
}

static bool is_type(const dp_value *data, const char *type)
{
    size_t len;
    const char *text = dp_value_get_string(dp_value_get(data, "type"), &len);
    return dp_slice_is((dp_slice){text, len}, type);
}

static int hold(dp_stream_in *in, uint64_t offset, bool end, const uint8_t *bytes, size_t len)
{
    dp_stream_in_piece **at = &in->held;
    while (*at != NULL && (*at)->offset < offset)
        at = &(*at)->next;
    if (*at != NULL && (*at)->offset == offset && !(end ^ (*at)->end))
        return DP_ERR_PROTOCOL;
    if (in->held_count >= HELD_PIECES || len > HELD_BYTES - in->held_bytes)
        return DP_ERR_LIMIT;
    dp_stream_in_piece *piece = dp_alloc(sizeof(*piece) + len);
    if (piece == NULL)
        return DP_ERR_NO_MEMORY;
    piece->offset = offset;
    piece->end = end;
    piece->len = len;
    if (len > 0)
        memcpy(piece->data, bytes, len);
    piece->next = *at;
    *at = piece;
    in->held_count++;
    in->held_bytes += len;
    return DP_OK;
}

static int give(dp_stream_in *in, const uint8_t *bytes, size_t len, dp_stream_in_fn fn, void *ctx)
{
    in->next += len;
    return len == 0 ? DP_OK : fn(ctx, bytes, len, in->total);
}

static int give_held(dp_stream_in *in, dp_stream_in_fn fn, void *ctx, bool *ended)
{
    int error = DP_OK;
    while (in->held != NULL && in->held->offset <= in->next && error == DP_OK && !*ended) {
        dp_stream_in_piece *piece = in->held;
        in->held = piece->next;
        in->held_count--;
        in->held_bytes -= piece->len;
        if (piece->offset < in->next)
            error = DP_ERR_PROTOCOL; /* overlaps what came meanwhile */
        else if (piece->end)
            *ended = true;
        else
            error = give(in, piece->data, piece->len, fn, ctx);
        dp_free(piece);
    }
    return error;
}

static int input_ordered(dp_stream_in *in, uint64_t offset, bool end, const uint8_t *bytes, size_t len,
                         dp_stream_in_fn fn, void *ctx, bool *ended)
{
    if (offset < in->next)
        return DP_ERR_PROTOCOL;
    if (offset > in->next)
        return hold(in, offset, end, bytes, len);
    if (end) {
        *ended = true;
        return in->held != NULL ? DP_ERR_PROTOCOL : DP_OK;
    }
    int error = give(in, bytes, len, fn, ctx);
    return error == DP_OK ? give_held(in, fn, ctx, ended) : error;
}

int dp_stream_in_input(dp_stream_in *in, const dp_value *data, dp_stream_in_fn fn, void *ctx, bool *ended)
{
    const dp_value *chunk = dp_value_get(data, "chunk");
    size_t len;
    const uint8_t *bytes = dp_value_get_bytes(chunk, &len);
    bool start = is_type(data, "start");
    bool end = is_type(data, "end");
    *ended = false;
    if (!start && !end && !is_type(data, "chunk"))
        return DP_ERR_PROTOCOL;
    if (bytes == NULL && !end && dp_value_get_type(chunk) != DP_VALUE_NULL)
        return DP_ERR_PROTOCOL;
    if (bytes == NULL || end) /* pages ignore what 'end' carries */
        len = 0;
    if (start && in->started)
        return DP_ERR_PROTOCOL;
    if (start) {
        in->started = true;
        in->total = dp_value_get_uint(dp_value_get(data, "total"), UINT64_MAX);
    }
    uint64_t offset = dp_value_get_uint(dp_value_get(data, "offset"), UINT64_MAX);
    if (offset != UINT64_MAX)
        return input_ordered(in, offset, end, bytes, len, fn, ctx, ended);
    /* Without offsets a piece before 'start' has overtaken it, and nobody can tell what else has. An 'end'
     * alone is what some senders make of an empty stream. */
    if (!in->started && !end)
        return DP_ERR_PROTOCOL;
    *ended = end;
    return give(in, bytes, len, fn, ctx);
}
