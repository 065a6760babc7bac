#include "binarypack.h"

#include "base/text.h"
#include "value.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static double float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof(f));
    return (double)f;
}

/* PeerJS writes NaN as a double with all bits zero, and zero never as a double. */
static double double_of(uint64_t bits)
{
    double d;
    memcpy(&d, &bits, sizeof(d));
    return bits == 0 ? (double)NAN : d;
}

static void set_uint(dp_bp_head *head, uint64_t u)
{
    head->type = u <= INT64_MAX ? DP_VALUE_INT : DP_VALUE_UINT;
    head->as.u = u;
}

static void set_int(dp_bp_head *head, int64_t i)
{
    head->type = DP_VALUE_INT;
    head->as.i = i;
}

static void set_count(dp_bp_head *head, dp_value_type type, uint32_t count)
{
    head->type = type;
    head->count = count;
}

/* The tags c0 to df, whose heads have their number in the bytes that follow. */
static int read_long_head(dp_rd *rd, dp_bp_head *head, uint8_t tag)
{
    switch (tag) {
    case 0xc0:
        head->type = DP_VALUE_NULL;
        break;
    case 0xc2:
    case 0xc3:
        head->type = DP_VALUE_BOOL;
        head->as.boolean = tag == 0xc3;
        break;
    case 0xca:
        head->type = DP_VALUE_DOUBLE;
        head->as.d = float_of(dp_rd_u32(rd));
        break;
    case 0xcb:
        head->type = DP_VALUE_DOUBLE;
        head->as.d = double_of(dp_rd_u64(rd));
        break;
    case 0xcc:
        set_uint(head, dp_rd_u8(rd));
        break;
    case 0xcd:
        set_uint(head, dp_rd_u16(rd));
        break;
    case 0xce:
        set_uint(head, dp_rd_u32(rd));
        break;
    case 0xcf:
        set_uint(head, dp_rd_u64(rd));
        break;
    case 0xd0:
        set_int(head, (int8_t)dp_rd_u8(rd));
        break;
    case 0xd1:
        set_int(head, (int16_t)dp_rd_u16(rd));
        break;
    case 0xd2:
        set_int(head, (int32_t)dp_rd_u32(rd));
        break;
    case 0xd3:
        set_int(head, (int64_t)dp_rd_u64(rd));
        break;
    case 0xd8:
    case 0xda:
    case 0xdc:
    case 0xde:
    case 0xd9:
    case 0xdb:
    case 0xdd:
    case 0xdf: {
        static const dp_value_type types[] = {DP_VALUE_STRING, DP_VALUE_BYTES, DP_VALUE_ARRAY, DP_VALUE_MAP};
        set_count(head, types[(tag - 0xd8) / 2], tag % 2 == 0 ? dp_rd_u16(rd) : dp_rd_u32(rd));
        break;
    }
    default:
        return DP_ERR_MALFORMED;
    }
    return rd->error ? DP_ERR_TRUNCATED : DP_OK;
}

int dp_bp_read_head(dp_rd *rd, dp_bp_head *head)
{
    uint8_t tag = dp_rd_u8(rd);
    if (rd->error)
        return DP_ERR_TRUNCATED;
    *head = (dp_bp_head){.type = DP_VALUE_NULL};
    if (tag <= 0x7f)
        set_int(head, tag);
    else if (tag <= 0x8f)
        set_count(head, DP_VALUE_MAP, tag & 0x0f);
    else if (tag <= 0x9f)
        set_count(head, DP_VALUE_ARRAY, tag & 0x0f);
    else if (tag <= 0xaf)
        set_count(head, DP_VALUE_BYTES, tag & 0x0f);
    else if (tag <= 0xbf)
        set_count(head, DP_VALUE_STRING, tag & 0x0f);
    else if (tag >= 0xe0)
        set_int(head, (int8_t)tag);
    else
        return read_long_head(rd, head, tag);
    return DP_OK;
}

/* ---- whole values ---- */

typedef struct decoder_state {
    dp_rd rd;
    size_t nodes_left;
    dp_head_reader read_head;
} decoder_state;

static int read_value(decoder_state *decoder, dp_value **out, int depth);

static int count_node(decoder_state *decoder)
{
    if (decoder->nodes_left == 0)
        return DP_ERR_LIMIT;
    decoder->nodes_left--;
    return DP_OK;
}

/* A key that is no text is turned into the text that JavaScript makes of it. Containers and bytes ("[object
 * ArrayBuffer]") can't be meant: no encoder writes them as keys. Returns NULL for them. */
static const char *key_text(const dp_bp_head *head, char text[32])
{
    switch (head->type) {
    case DP_VALUE_NULL:
        return "null";
    case DP_VALUE_BOOL:
        return head->as.boolean ? "true" : "false";
    case DP_VALUE_INT:
        snprintf(text, 32, "%" PRId64, head->as.i);
        return text;
    case DP_VALUE_UINT:
        snprintf(text, 32, "%" PRIu64, head->as.u);
        return text;
    case DP_VALUE_DOUBLE:
        if (isnan(head->as.d))
            return "NaN";
        if (isinf(head->as.d))
            return head->as.d < 0 ? "-Infinity" : "Infinity";
        /* 15 digits come through unharmed, so this is the shortest text if it reads back as the same number.
         * More digits can't be meant either, and looking for the shortest text costs 16 us a key. */
        snprintf(text, 32, "%.15g", head->as.d);
        return strtod(text, NULL) == head->as.d ? text : NULL;
    default:
        return NULL;
    }
}

static int read_key(decoder_state *decoder, const char **key, size_t *len, char text[32])
{
    dp_bp_head head;
    int error = decoder->read_head(&decoder->rd, &head);
    if (error != DP_OK)
        return error;
    if (head.type != DP_VALUE_STRING) {
        *key = key_text(&head, text);
        *len = *key == NULL ? 0 : strlen(*key);
        return *key == NULL ? DP_ERR_MALFORMED : DP_OK;
    }
    *len = head.count;
    *key = (const char *)dp_rd_bytes(&decoder->rd, head.count);
    if (*key == NULL)
        return DP_ERR_TRUNCATED;
    return dp_utf8_valid((const uint8_t *)*key, *len) ? DP_OK : DP_ERR_MALFORMED;
}

static int read_items(decoder_state *decoder, dp_value *array, uint32_t count, int depth)
{
    for (uint32_t i = 0; i < count; i++) {
        dp_value *item = NULL;
        int error = read_value(decoder, &item, depth + 1);
        if (error == DP_OK)
            error = dp_value_push(array, item);
        if (error != DP_OK)
            return error;
    }
    return DP_OK;
}

static int read_entries(decoder_state *decoder, dp_value *map, uint32_t count, int depth)
{
    for (uint32_t i = 0; i < count; i++) {
        char text[32];
        const char *key = NULL;
        size_t len = 0;
        dp_value *item = NULL;
        int error = count_node(decoder); /* for the entry and its key */
        if (error == DP_OK)
            error = read_key(decoder, &key, &len, text);
        if (error == DP_OK)
            error = read_value(decoder, &item, depth + 1);
        if (error == DP_OK)
            error = dp_value_set_unchecked(map, key, len, item);
        if (error != DP_OK)
            return error;
    }
    return DP_OK;
}

/* Items are stored as they are read, never reserved from the count: nested arrays that each claim all the
 * bytes left would else cost memory for every claim. */
static int read_container(decoder_state *decoder, dp_value **out, const dp_bp_head *head, int depth)
{
    if (depth >= DP_BINARYPACK_MAX_DEPTH)
        return DP_ERR_LIMIT;
    size_t smallest = head->type == DP_VALUE_MAP ? 2 : 1; /* bytes of an entry */
    if (head->count > dp_rd_left(&decoder->rd) / smallest)
        return DP_ERR_TRUNCATED;
    dp_value *container = head->type == DP_VALUE_MAP ? dp_value_map() : dp_value_array();
    if (container == NULL)
        return DP_ERR_NO_MEMORY;
    int error = head->type == DP_VALUE_MAP ? read_entries(decoder, container, head->count, depth)
                                           : read_items(decoder, container, head->count, depth);
    if (error != DP_OK) {
        dp_value_free(container);
        return error;
    }
    *out = container;
    return DP_OK;
}

static int read_value(decoder_state *decoder, dp_value **out, int depth)
{
    dp_bp_head head;
    int error = decoder->read_head(&decoder->rd, &head);
    if (error != DP_OK)
        return error;
    const uint8_t *data = NULL;
    switch (head.type) {
    case DP_VALUE_NULL:
        *out = dp_value_null();
        break;
    case DP_VALUE_BOOL:
        *out = dp_value_bool(head.as.boolean);
        break;
    case DP_VALUE_INT:
        *out = dp_value_int(head.as.i);
        break;
    case DP_VALUE_UINT:
        *out = dp_value_uint(head.as.u);
        break;
    case DP_VALUE_DOUBLE:
        *out = dp_value_double(head.as.d);
        break;
    case DP_VALUE_STRING:
    case DP_VALUE_BYTES:
        data = dp_rd_bytes(&decoder->rd, head.count);
        if (data == NULL)
            return DP_ERR_TRUNCATED;
        if (head.type == DP_VALUE_STRING && !dp_utf8_valid(data, head.count))
            return DP_ERR_MALFORMED;
        *out = head.type == DP_VALUE_STRING ? dp_value_text_unchecked(data, head.count)
                                            : dp_value_bytes(data, head.count);
        break;
    case DP_VALUE_ARRAY:
    case DP_VALUE_MAP:
        error = read_container(decoder, out, &head, depth);
        break;
    }
    if (error != DP_OK)
        return error;
    if (*out == NULL)
        return DP_ERR_NO_MEMORY;
    if (!dp_value_is_shared(*out) && count_node(decoder) != DP_OK) {
        dp_value_free(*out);
        *out = NULL;
        return DP_ERR_LIMIT;
    }
    return DP_OK;
}

int dp_decode_tree(dp_value **out, size_t *used, const uint8_t *data, size_t len, dp_head_reader read_head)
{
    decoder_state decoder = {dp_rd_init(data, len), dp_bp_max_nodes(len), read_head};
    *out = NULL;
    int error = read_value(&decoder, out, 0);
    *used = len - dp_rd_left(&decoder.rd);
    return error;
}

int dp_bp_decode_prefix(dp_value **out, size_t *used, const uint8_t *data, size_t len)
{
    return dp_decode_tree(out, used, data, len, dp_bp_read_head);
}

int dp_binarypack_decode(dp_value **out, const uint8_t *data, size_t len)
{
    size_t used;
    int error = dp_bp_decode_prefix(out, &used, data, len);
    if (error == DP_OK && used != len) {
        dp_value_free(*out);
        *out = NULL;
        return DP_ERR_MALFORMED;
    }
    return error;
}
