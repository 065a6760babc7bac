/* MessagePack heads: the tag byte and what follows it at once. Big-endian (msgpack.org, spec.md):
 *
 *   00-7f        0..127                     ca cb        float32/64     d4-d8        extension of 1, 2, 4, 8, 16 bytes
 *   80-8f de df  map    (4/16/32-bit count) cc cd ce cf  uint8/16/32/64 c7 c8 c9     extension (8/16/32-bit length)
 *   90-9f dc dd  array                      d0 d1 d2 d3  int8/16/32/64  e0-ff        -32..-1
 *   a0-bf d9 da db  text (5/8/16/32-bit length)          c4 c5 c6  bytes (8/16/32-bit length)
 *   c0 c2 c3     null false true            c1           never used
 *
 * An extension's type, a byte, comes before its data; type -1 is a timestamp. */
#ifndef RPC_MSGPACK_H
#define RPC_MSGPACK_H

#include "binarypack.h"

/* DP_OK, TRUNCATED or MALFORMED. An extension is bytes, but for a timestamp: that is read whole. */
int dp_msgpack_read_head(dp_rd *rd, dp_bp_head *head);

#endif
