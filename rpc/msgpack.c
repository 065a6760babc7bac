#include "msgpack.h"

#include <math.h>

enum { TIMESTAMP = -1 };
#define SAFE_INTEGER                                                                                         \
    9007199254740991.0 /* Number.MAX_SAFE_INTEGER: what lies beyond is no integer to JavaScript */

/* ---- reading ---- */

static void set_count(dp_bp_head *head, dp_value_type type, uint32_t count)
{
    head->type = type;
    head->count = count;
}

static void set_int(dp_bp_head *head, int64_t i)
{
    head->type = DP_VALUE_INT;
    head->as.i = i;
}

static void set_uint(dp_bp_head *head, uint64_t u)
{
    head->type = u <= INT64_MAX ? DP_VALUE_INT : DP_VALUE_UINT;
    head->as.u = u;
}

/* bytes: 1, 2, 4 or 8. */
static uint64_t read_number(dp_rd *rd, unsigned bytes)
{
    switch (bytes) {
    case 1:
        return dp_rd_u8(rd);
    case 2:
        return dp_rd_u16(rd);
    case 4:
        return dp_rd_u32(rd);
    default:
        return dp_rd_u64(rd);
    }
}

static void read_float(dp_rd *rd, dp_bp_head *head, bool is_double)
{
    uint64_t bits = read_number(rd, is_double ? 8 : 4);
    uint32_t bits32 = (uint32_t)bits;
    float f;
    head->type = DP_VALUE_DOUBLE;
    if (is_double) {
        memcpy(&head->as.d, &bits, sizeof(head->as.d));
    } else {
        memcpy(&f, &bits32, sizeof(f));
        head->as.d = (double)f;
    }
}

static void read_int(dp_rd *rd, dp_bp_head *head, unsigned bytes)
{
    uint64_t u = read_number(rd, bytes);
    uint64_t sign = (uint64_t)1 << (bytes * 8 - 1);
    set_int(head, (int64_t)((u ^ sign) - sign)); /* sign extension */
}

/* 32: seconds; 64: 30 bits of nanoseconds, 34 of seconds; 96: nanoseconds, then signed seconds. */
static int read_timestamp(dp_rd *rd, dp_bp_head *head, uint32_t len)
{
    double seconds, nanoseconds = 0;
    if (len == 4) {
        seconds = (double)dp_rd_u32(rd);
    } else if (len == 8) {
        uint64_t u = dp_rd_u64(rd);
        nanoseconds = (double)(u >> 34);
        seconds = (double)(u & (((uint64_t)1 << 34) - 1));
    } else if (len == 12) {
        nanoseconds = (double)dp_rd_u32(rd);
        seconds = (double)(int64_t)dp_rd_u64(rd);
    } else {
        return DP_ERR_MALFORMED;
    }
    head->type = DP_VALUE_DOUBLE;
    head->as.d = seconds * 1000 + trunc(nanoseconds / 1e6);
    return DP_OK;
}

static int read_extension(dp_rd *rd, dp_bp_head *head, uint32_t len)
{
    if ((int8_t)dp_rd_u8(rd) == TIMESTAMP)
        return read_timestamp(rd, head, len);
    set_count(head, DP_VALUE_BYTES, len);
    return DP_OK;
}

/* The tags c0 to df. */
static int read_long_head(dp_rd *rd, dp_bp_head *head, uint8_t tag)
{
    int error = DP_OK;
    if (tag == 0xc1)
        return DP_ERR_MALFORMED;
    if (tag == 0xc0) {
        head->type = DP_VALUE_NULL;
    } else if (tag <= 0xc3) {
        head->type = DP_VALUE_BOOL;
        head->as.boolean = tag == 0xc3;
    } else if (tag <= 0xc6) {
        set_count(head, DP_VALUE_BYTES, (uint32_t)read_number(rd, 1u << (tag - 0xc4)));
    } else if (tag <= 0xc9) {
        uint32_t len = (uint32_t)read_number(rd, 1u << (tag - 0xc7));
        error = read_extension(rd, head, len);
    } else if (tag <= 0xcb) {
        read_float(rd, head, tag == 0xcb);
    } else if (tag <= 0xcf) {
        set_uint(head, read_number(rd, 1u << (tag - 0xcc)));
    } else if (tag <= 0xd3) {
        read_int(rd, head, 1u << (tag - 0xd0));
    } else if (tag <= 0xd8) {
        error = read_extension(rd, head, 1u << (tag - 0xd4));
    } else if (tag <= 0xdb) {
        set_count(head, DP_VALUE_STRING, (uint32_t)read_number(rd, 1u << (tag - 0xd9)));
    } else {
        set_count(head, tag <= 0xdd ? DP_VALUE_ARRAY : DP_VALUE_MAP,
                  (uint32_t)read_number(rd, tag % 2 == 0 ? 2 : 4));
    }
    return rd->error ? DP_ERR_TRUNCATED : error;
}

int dp_msgpack_read_head(dp_rd *rd, dp_bp_head *head)
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
    else if (tag <= 0xbf)
        set_count(head, DP_VALUE_STRING, tag & 0x1f);
    else if (tag >= 0xe0)
        set_int(head, (int8_t)tag);
    else
        return read_long_head(rd, head, tag);
    return DP_OK;
}

int dp_msgpack_decode(dp_value **out, const uint8_t *data, size_t len)
{
    size_t used;
    int error = dp_decode_tree(out, &used, data, len, dp_msgpack_read_head);
    if (error == DP_OK && used != len) {
        dp_value_free(*out);
        *out = NULL;
        return DP_ERR_MALFORMED;
    }
    return error;
}

/* ---- writing: the shortest form, as PeerJS's encoder chooses it ---- */

/* Up to 32 bits as in BinaryPack. */
static void write_uint(dp_wr *wr, uint64_t u)
{
    if (u <= UINT32_MAX) {
        dp_bp_write_uint(wr, u);
    } else {
        dp_wr_u8(wr, 0xcf);
        dp_wr_u64(wr, u);
    }
}

static void write_int(dp_wr *wr, int64_t i)
{
    if (i >= 0) {
        write_uint(wr, (uint64_t)i);
    } else if (i >= INT32_MIN) {
        dp_bp_write_int(wr, i);
    } else {
        dp_wr_u8(wr, 0xd3);
        dp_wr_u64(wr, (uint64_t)i);
    }
}

static void write_double(dp_wr *wr, double d)
{
    uint64_t bits;
    if (trunc(d) == d && fabs(d) <= SAFE_INTEGER) {
        write_int(wr, (int64_t)d);
        return;
    }
    memcpy(&bits, &d, sizeof(bits));
    dp_wr_u8(wr, 0xcb);
    dp_wr_u64(wr, bits);
}

static void write_count(dp_wr *wr, dp_value_type type, uint32_t count)
{
    /* tag8 0: there is none. most: what fits into the short tag. */
    static const struct {
        uint8_t short_tag, most, tag8, tag16, tag32;
    } tags[] = {
        [DP_VALUE_STRING] = {0xa0, 31, 0xd9, 0xda, 0xdb},
        [DP_VALUE_BYTES] = {0, 0, 0xc4, 0xc5, 0xc6},
        [DP_VALUE_ARRAY] = {0x90, 15, 0, 0xdc, 0xdd},
        [DP_VALUE_MAP] = {0x80, 15, 0, 0xde, 0xdf},
    };
    if (tags[type].short_tag != 0 && count <= tags[type].most) {
        dp_wr_u8(wr, (uint8_t)(tags[type].short_tag | count));
    } else if (tags[type].tag8 != 0 && count <= UINT8_MAX) {
        dp_wr_u8(wr, tags[type].tag8);
        dp_wr_u8(wr, (uint8_t)count);
    } else if (count <= UINT16_MAX) {
        dp_wr_u8(wr, tags[type].tag16);
        dp_wr_u16(wr, (uint16_t)count);
    } else {
        dp_wr_u8(wr, tags[type].tag32);
        dp_wr_u32(wr, count);
    }
}

int dp_msgpack_encode(const dp_value *value, uint8_t **out, size_t *len)
{
    /* At this key @msgpack/msgpack throws, and PeerJS's reader ends for good (docs/peerjs.md 2.2). */
    static const dp_pack_format format = {write_int, write_uint, write_double, write_count, "__proto__"};
    return dp_pack_value(out, len, value, &format);
}
