#include "binarypack.h"

#include "base/mem.h"
#include "base/text.h"
#include "value.h"
#include <math.h>

void dp_bp_write_uint(dp_wr *wr, uint64_t u)
{
    if (u <= 127) {
        dp_wr_u8(wr, (uint8_t)u);
    } else if (u <= UINT8_MAX) {
        dp_wr_u8(wr, 0xcc);
        dp_wr_u8(wr, (uint8_t)u);
    } else if (u <= UINT16_MAX) {
        dp_wr_u8(wr, 0xcd);
        dp_wr_u16(wr, (uint16_t)u);
    } else if (u <= UINT32_MAX) {
        dp_wr_u8(wr, 0xce);
        dp_wr_u32(wr, (uint32_t)u);
    } else {
        dp_wr_u8(wr, u <= INT64_MAX ? 0xd3 : 0xcf);
        dp_wr_u64(wr, u);
    }
}

void dp_bp_write_int(dp_wr *wr, int64_t i)
{
    if (i >= 0) {
        dp_bp_write_uint(wr, (uint64_t)i);
    } else if (i >= -32) {
        dp_wr_u8(wr, (uint8_t)(int8_t)i);
    } else if (i >= INT8_MIN) {
        dp_wr_u8(wr, 0xd0);
        dp_wr_u8(wr, (uint8_t)(int8_t)i);
    } else if (i >= INT16_MIN) {
        dp_wr_u8(wr, 0xd1);
        dp_wr_u16(wr, (uint16_t)(int16_t)i);
    } else if (i >= INT32_MIN) {
        dp_wr_u8(wr, 0xd2);
        dp_wr_u32(wr, (uint32_t)(int32_t)i);
    } else {
        /* Not int64: PeerJS's decoder reads negative ones wrongly (-1 as 0). A double is exact to 2^53, as
         * far as JavaScript is. */
        dp_bp_write_double(wr, (double)i);
    }
}

void dp_bp_write_double(dp_wr *wr, double d)
{
    /* Integral values travel as integers; above all zero, which PeerJS reads back as 2^-1023 from a double.
     */
    if (trunc(d) == d && d >= -0x1p31 && d < 0x1p64) {
        if (d < 0)
            dp_bp_write_int(wr, (int64_t)d);
        else
            dp_bp_write_uint(wr, (uint64_t)d);
        return;
    }
    uint64_t bits = 0; /* NaN is written as PeerJS does: all bits zero, which no number has */
    if (!isnan(d))
        memcpy(&bits, &d, sizeof(bits));
    dp_wr_u8(wr, 0xcb);
    dp_wr_u64(wr, bits);
}

void dp_bp_write_count(dp_wr *wr, dp_value_type type, uint32_t count)
{
    static const struct {
        uint8_t tag4, tag16, tag32;
    } tags[] = {
        [DP_VALUE_STRING] = {0xb0, 0xd8, 0xd9},
        [DP_VALUE_BYTES] = {0xa0, 0xda, 0xdb},
        [DP_VALUE_ARRAY] = {0x90, 0xdc, 0xdd},
        [DP_VALUE_MAP] = {0x80, 0xde, 0xdf},
    };
    if (count <= 15) {
        dp_wr_u8(wr, (uint8_t)(tags[type].tag4 | count));
    } else if (count <= UINT16_MAX) {
        dp_wr_u8(wr, tags[type].tag16);
        dp_wr_u16(wr, (uint16_t)count);
    } else {
        dp_wr_u8(wr, tags[type].tag32);
        dp_wr_u32(wr, count);
    }
}

void dp_bp_write_text(dp_wr *wr, const char *text)
{
    size_t len = strlen(text);
    dp_bp_write_count(wr, DP_VALUE_STRING, (uint32_t)len);
    dp_wr_bytes(wr, text, len);
}

/* ---- sink ---- */

const dp_pack_format dp_binarypack_format = {dp_bp_write_int, dp_bp_write_uint, dp_bp_write_double,
                                             dp_bp_write_count, NULL};

void dp_bp_put(dp_bp_sink *sink, const void *data, size_t len)
{
    sink->len += len;
    if (!sink->measuring)
        dp_wr_bytes(&sink->wr, data, len);
}

void dp_bp_put_count(dp_bp_sink *sink, dp_value_type type, size_t count)
{
    uint8_t head[DP_BP_HEAD_MAX];
    dp_wr wr = dp_wr_init(head, sizeof(head));
    sink->format->write_count(&wr, type, (uint32_t)count);
    dp_bp_put(sink, head, wr.len);
}

void dp_bp_put_text(dp_bp_sink *sink, const char *text, size_t len)
{
    dp_bp_put_count(sink, DP_VALUE_STRING, len);
    dp_bp_put(sink, text, len);
}

static void put_scalar(dp_bp_sink *sink, const dp_value *value)
{
    uint8_t head[DP_BP_HEAD_MAX];
    dp_wr wr = dp_wr_init(head, sizeof(head));
    switch (value->type) {
    case DP_VALUE_BOOL:
        dp_wr_u8(&wr, value->as.boolean ? 0xc3 : 0xc2);
        break;
    case DP_VALUE_INT:
        sink->format->write_int(&wr, value->as.i);
        break;
    case DP_VALUE_UINT:
        sink->format->write_uint(&wr, value->as.u);
        break;
    case DP_VALUE_DOUBLE:
        sink->format->write_double(&wr, value->as.d);
        break;
    default:
        dp_wr_u8(&wr, 0xc0);
        break;
    }
    dp_bp_put(sink, head, wr.len);
}

static bool put_key(dp_bp_sink *sink, const dp_value_entry *entry)
{
    const char *refused = sink->format->refused_key;
    if (refused != NULL && dp_slice_is((dp_slice){entry->key, entry->key_len}, refused))
        return false;
    dp_bp_put_text(sink, entry->key, entry->key_len);
    return true;
}

int dp_bp_put_value(dp_bp_sink *sink, const dp_value *value, int depth)
{
    switch (value->type) {
    case DP_VALUE_STRING:
    case DP_VALUE_BYTES:
        dp_bp_put_count(sink, (dp_value_type)value->type, value->count);
        dp_bp_put(sink, value->as.data, value->count);
        return DP_OK;
    case DP_VALUE_ARRAY:
    case DP_VALUE_MAP:
        break;
    default:
        put_scalar(sink, value);
        return DP_OK;
    }
    if (depth >= DP_BINARYPACK_MAX_DEPTH)
        return DP_ERR_LIMIT;
    dp_bp_put_count(sink, (dp_value_type)value->type, value->count);
    for (uint32_t i = 0; i < value->count; i++) {
        if (value->type == DP_VALUE_MAP && !put_key(sink, &value->as.entries->at[i]))
            return DP_ERR_INVALID_ARGUMENT;
        int error = dp_bp_put_value(sink, dp_value_at(value, i), depth + 1);
        if (error != DP_OK)
            return error;
    }
    return DP_OK;
}

static int build(uint8_t **out, size_t *len, const dp_pack_format *format,
                 int (*fill)(dp_bp_sink *sink, const void *ctx), const void *ctx)
{
    dp_bp_sink sink = {.format = format, .measuring = true};
    int error = fill(&sink, ctx);
    if (error != DP_OK)
        return error;
    if (sink.len > UINT32_MAX)
        return DP_ERR_TOO_LARGE;
    uint8_t *block = dp_alloc(sink.len);
    if (block == NULL)
        return DP_ERR_NO_MEMORY;
    sink = (dp_bp_sink){.format = format, .wr = dp_wr_init(block, sink.len)};
    (void)fill(&sink, ctx); /* it succeeded a moment ago */
    *out = block;
    return dp_wr_finish(&sink.wr, len);
}

int dp_bp_build(uint8_t **out, size_t *len, int (*fill)(dp_bp_sink *sink, const void *ctx), const void *ctx)
{
    return build(out, len, &dp_binarypack_format, fill, ctx);
}

static int fill_value(dp_bp_sink *sink, const void *ctx) { return dp_bp_put_value(sink, ctx, 0); }

int dp_pack_value(uint8_t **out, size_t *len, const dp_value *value, const dp_pack_format *format)
{
    return value != NULL ? build(out, len, format, fill_value, value) : DP_ERR_INVALID_ARGUMENT;
}

int dp_binarypack_encode(const dp_value *value, uint8_t **out, size_t *len)
{
    return dp_pack_value(out, len, value, &dp_binarypack_format);
}
