/* BinaryPack heads: the tag byte and what follows it at once. Big-endian, MessagePack's numbers and
 * containers, but text and bytes have their tags exchanged:
 *
 *   00-7f        0..127                     ca        float32       d0 d1 d2 d3  int8/16/32/64
 *   80-8f de df  map    (4/16/32-bit count) cb        float64       e0-ff        -32..-1
 *   90-9f dc dd  array                      cc cd ce  uint8/16/32
 *   a0-af da db  bytes  (length)            cf        uint64        c1 c4-c9 d4-d7: never sent
 *   b0-bf d8 d9  text   (bytes of UTF-8)    c0 c2 c3  null false true
 */
#ifndef RPC_BINARYPACK_H
#define RPC_BINARYPACK_H

#include "base/rd.h"
#include "base/wr.h"
#include <datapeer/rpc.h>

typedef struct dp_bp_head {
    dp_value_type type;
    uint32_t count; /* bytes, items or entries that follow */
    union {
        bool boolean;
        int64_t i;
        uint64_t u;
        double d;
    } as;
} dp_bp_head;

/* DP_OK, TRUNCATED or MALFORMED (a tag that no encoder writes). */
typedef int (*dp_head_reader)(dp_rd *rd, dp_bp_head *head);
int dp_bp_read_head(dp_rd *rd, dp_bp_head *head);

#define DP_BP_HEAD_MAX 9

/* Each writes one head, in the shortest form. */
void dp_bp_write_int(dp_wr *wr, int64_t i);
void dp_bp_write_uint(dp_wr *wr, uint64_t u);
void dp_bp_write_double(dp_wr *wr, double d);
void dp_bp_write_count(dp_wr *wr, dp_value_type type, uint32_t count); /* STRING, BYTES, ARRAY, MAP */
void dp_bp_write_text(dp_wr *wr, const char *text);                    /* head and text */

/* How one of the two formats writes what it does in its own way; null and booleans are the same in both. */
typedef struct dp_pack_format {
    void (*write_int)(dp_wr *wr, int64_t i);
    void (*write_uint)(dp_wr *wr, uint64_t u);
    void (*write_double)(dp_wr *wr, double d);
    void (*write_count)(dp_wr *wr, dp_value_type type, uint32_t count);
    const char *refused_key; /* which the other side cannot bear; NULL: none */
} dp_pack_format;
extern const dp_pack_format dp_binarypack_format;

/* Where packed bytes go. The same code runs twice: once to measure, once to write into a block of exactly
 * that size. */
typedef struct dp_bp_sink {
    const dp_pack_format *format;
    dp_wr wr; /* unused while measuring */
    bool measuring;
    size_t len;
} dp_bp_sink;

void dp_bp_put(dp_bp_sink *sink, const void *data, size_t len);
void dp_bp_put_count(dp_bp_sink *sink, dp_value_type type, size_t count);
void dp_bp_put_text(dp_bp_sink *sink, const char *text, size_t len);
/* depth: how many containers value is in. DP_OK, LIMIT or INVALID_ARGUMENT (the refused key). */
int dp_bp_put_value(dp_bp_sink *sink, const dp_value *value, int depth);

/* Measures, allocates and writes what fill puts. */
int dp_bp_build(uint8_t **out, size_t *len, int (*fill)(dp_bp_sink *sink, const void *ctx), const void *ctx);

/* A whole value in another format. */
int dp_pack_value(uint8_t **out, size_t *len, const dp_value *value, const dp_pack_format *format);

/* As dp_binarypack_decode, but what follows the value is left alone: *used tells where it begins. */
int dp_bp_decode_prefix(dp_value **out, size_t *used, const uint8_t *data, size_t len);
/* The same with heads of another format. */
int dp_decode_tree(dp_value **out, size_t *used, const uint8_t *data, size_t len, dp_head_reader read_head);

/* How many allocated nodes a packed value of len bytes may hold: every node of a small message, but a
 * fraction of a large one, which no sensible sender exceeds. A node costs at most 64 bytes (a map's entry
 * with its key). */
static inline size_t dp_bp_max_nodes(size_t len) { return ((size_t)1 << 20) + len / 16; }

#endif
