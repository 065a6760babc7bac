/* SCTP's packets as a sequence of chunks, and chunks as sequences of items (RFC 9260 §3):
 *
 *     0                   1                   2                   3
 *     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *    |      Source Port Number       |    Destination Port Number    |
 *    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *    |                       Verification Tag                        |
 *    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *    |                Checksum (CRC-32C, low byte first)             |
 *    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *    |  Chunk Type   |  Chunk Flags  |         Chunk Length          |  counts these 4 bytes, not the padding
 *    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *    /           Chunk Value, padded to a multiple of 4              /
 */
#ifndef SCTP_CHUNK_H
#define SCTP_CHUNK_H

#include "base/rd.h"

#define DP_SCTP_COMMON_HEADER 12u
#define DP_SCTP_CHUNK_HEADER  4u
#define DP_SCTP_DATA_HEADER   16u /* with the chunk's: RFC 9260 §3.3.1 */
#define DP_SCTP_I_DATA_HEADER 20u /* RFC 8260 §2.1 */

enum {
    DP_CHUNK_DATA = 0x00,
    DP_CHUNK_INIT = 0x01,
    DP_CHUNK_INIT_ACK = 0x02,
    DP_CHUNK_SACK = 0x03,
    DP_CHUNK_HEARTBEAT = 0x04,
    DP_CHUNK_HEARTBEAT_ACK = 0x05,
    DP_CHUNK_ABORT = 0x06,
    DP_CHUNK_SHUTDOWN = 0x07,
    DP_CHUNK_SHUTDOWN_ACK = 0x08,
    DP_CHUNK_ERROR = 0x09,
    DP_CHUNK_COOKIE_ECHO = 0x0a,
    DP_CHUNK_COOKIE_ACK = 0x0b,
    DP_CHUNK_SHUTDOWN_COMPLETE = 0x0e,
    DP_CHUNK_I_DATA = 0x40,           /* RFC 8260 */
    DP_CHUNK_ASCONF_ACK = 0x80,       /* RFC 5061 */
    DP_CHUNK_PKTDROP = 0x81,          /* draft-stewart-sctp-pktdrprep */
    DP_CHUNK_RE_CONFIG = 0x82,        /* RFC 6525 */
    DP_CHUNK_PAD = 0x84,              /* RFC 4820 */
    DP_CHUNK_FORWARD_TSN = 0xc0,      /* RFC 3758 */
    DP_CHUNK_ASCONF = 0xc1,           /* RFC 5061 */
    DP_CHUNK_I_FORWARD_TSN = 0xc2,    /* RFC 8260 */
    DP_PARAMETER_OUTGOING_RESET = 13, /* RFC 6525 §4.1 */
};

typedef struct dp_chunk {
    uint8_t type;
    uint8_t flags;
    dp_rd value;
} dp_chunk;

/* DATA, or what takes its place where messages are interleaved: both begin with TSN and stream. */
static inline bool dp_chunk_is_data(uint8_t type) { return type == DP_CHUNK_DATA || type == DP_CHUNK_I_DATA; }

/* FORWARD-TSN or its counterpart. Both begin with the new cumulative TSN. */
static inline bool dp_chunk_is_forward(uint8_t type)
{
    return type == DP_CHUNK_FORWARD_TSN || type == DP_CHUNK_I_FORWARD_TSN;
}

/* Of a chunk of user data, the chunk's own included. */
static inline size_t dp_chunk_data_header(uint8_t type)
{
    return type == DP_CHUNK_I_DATA ? DP_SCTP_I_DATA_HEADER : DP_SCTP_DATA_HEADER;
}

/* The chunks of a packet. */
static inline dp_rd dp_chunks(const uint8_t *packet, size_t len)
{
    dp_rd rd = dp_rd_init(packet, len);
    dp_rd_skip(&rd, DP_SCTP_COMMON_HEADER);
    return rd;
}

/* Moves past the next chunk and its padding, of which the packet's end may lack some. False at the end; with
 * chunks->error if the chunk is longer than the packet or shorter than its header. */
bool dp_chunk_next(dp_rd *chunks, dp_chunk *chunk);

/* The same for parameters (RFC 9260 §3.2.1) and error causes (§3.3.10): type, length, value. Chromium leaves the last
 * one's padding out of the chunk's length. */
bool dp_chunk_item_next(dp_rd *items, uint16_t *type, dp_rd *value);

/* RFC 9260 §1.6: serial numbers, as of RFC 1982. */
static inline bool dp_tsn_before(uint32_t a, uint32_t b) { return (int32_t)(a - b) < 0; }

#endif
