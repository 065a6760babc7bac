/* A stream of MessagePack values. It has no framing: where a value ends is found by walking its heads, each once, however it
 * is cut. That needs no stack: of a value in a container one knows that it is one of `left` that must still come. */
#include "msgpack.h"

#include "base/mem.h"

enum { KEPT_CAPACITY = 65536 }; /* of an empty buffer */

struct dp_unpacker {
    size_t max_value_size;
    dp_duration timeout;
    dp_time last_input;
    uint8_t *data; /* begins with the oldest value that nobody took */
    size_t start, len, capacity;
    size_t scanned; /* bytes of that value, from start */
    uint64_t skip;  /* bytes of its text or bytes that are passed over as they come */
    uint64_t left;  /* values that complete it; 0: it has not begun, or is whole */
    bool whole;
    int failed;
};

int dp_unpacker_new(dp_unpacker **out, size_t max_value_size, dp_duration timeout)
{
    dp_unpacker *u = dp_calloc(1, sizeof(*u));
    if (u == NULL)
        return DP_ERR_NO_MEMORY;
    u->max_value_size = max_value_size != 0 ? max_value_size : (size_t)64 << 20;
    u->timeout = timeout != 0 ? timeout : DP_SECONDS(60);
    *out = u;
    return DP_OK;
}

void dp_unpacker_free(dp_unpacker *u)
{
    if (u == NULL)
        return;
    dp_free(u->data);
    dp_free(u);
}

int dp_unpacker_input(dp_unpacker *u, dp_time now, const uint8_t *data, size_t len)
{
    if (u->failed != DP_OK)
        return u->failed;
    size_t kept = u->len - u->start;
    if (len > SIZE_MAX / 4 || kept > u->max_value_size)
        return DP_ERR_TOO_LARGE;
    if (u->start > 0)
        memmove(u->data, u->data + u->start, kept);
    u->start = 0;
    u->len = kept;
    if (kept + len > u->capacity) {
        size_t capacity = kept + len > 2 * u->capacity ? kept + len : 2 * u->capacity;
        uint8_t *grown = dp_realloc(u->data, capacity);
        if (grown == NULL)
            return DP_ERR_NO_MEMORY;
        u->data = grown;
        u->capacity = capacity;
    }
    if (len > 0)
        memcpy(u->data + kept, data, len);
    u->len += len;
    u->last_input = now;
    return DP_OK;
}

/* The end of a value's text or bytes as far as it is there. */
static void pass_over(dp_unpacker *u)
{
    size_t there = u->len - u->start - u->scanned;
    size_t n = u->skip < there ? (size_t)u->skip : there;
    u->scanned += n;
    u->skip -= n;
}

/* DP_OK: the value is whole. Each value that is still to come has a byte at least: so a count that cannot be met within the limit
 * is refused before anything is kept for it. */
static int scan(dp_unpacker *u)
{
    dp_bp_head head;
    if (u->whole)
        return DP_OK;
    if (u->left == 0 && u->skip == 0)
        u->left = 1;
    pass_over(u);
    while (u->left > 0 && u->skip == 0) {
        dp_rd rd = dp_rd_init(u->data + u->start + u->scanned, u->len - u->start - u->scanned);
        int error = dp_msgpack_read_head(&rd, &head);
        if (error == DP_ERR_TRUNCATED)
            return DP_ERR_WOULD_BLOCK;
        if (error != DP_OK)
            return DP_ERR_PROTOCOL;
        u->scanned = u->len - u->start - dp_rd_left(&rd);
        u->left--;
        if (head.type == DP_VALUE_STRING || head.type == DP_VALUE_BYTES)
            u->skip = head.count;
        else if (head.type == DP_VALUE_ARRAY || head.type == DP_VALUE_MAP)
            u->left += (uint64_t)head.count * (head.type == DP_VALUE_MAP ? 2 : 1);
        if (u->scanned + u->skip + u->left > u->max_value_size)
            return DP_ERR_TOO_LARGE;
        pass_over(u);
    }
    u->whole = u->left == 0 && u->skip == 0;
    return u->whole ? DP_OK : DP_ERR_WOULD_BLOCK;
}

static void release(dp_unpacker *u)
{
    dp_free(u->data);
    u->data = NULL;
    u->start = u->len = u->capacity = 0;
}

int dp_unpacker_next(dp_unpacker *u, dp_value **out)
{
    *out = NULL;
    if (u->failed != DP_OK)
        return u->failed;
    int error = u->start == u->len ? DP_ERR_WOULD_BLOCK : scan(u);
    if (error == DP_ERR_WOULD_BLOCK)
        return error;
    if (error != DP_OK) {
        u->failed = error;
        release(u);
        return error;
    }
    error = dp_msgpack_decode(out, u->data + u->start, u->scanned);
    if (error == DP_ERR_NO_MEMORY)
        return error; /* it is still there */
    u->start += u->scanned;
    u->scanned = 0;
    u->whole = false;
    if (u->start == u->len && u->capacity > KEPT_CAPACITY)
        release(u);
    return error;
}

dp_time dp_unpacker_next_timeout(const dp_unpacker *u)
{
    return u->failed != DP_OK || u->start == u->len ? DP_TIME_NEVER : u->last_input + u->timeout;
}
