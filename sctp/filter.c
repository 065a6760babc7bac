#include "filter.h"

#include "base/crc.h"
#include "base/rd.h"

/* RFC 9260 §3.1 and §3.2, common header and chunk:
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
 *    |  Chunk Type   |  Chunk Flags  |         Chunk Length          |  length counts these 4 bytes, not the
 * padding
 *    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *    /           Chunk Value, padded to a multiple of 4              /
 */

enum chunk_type {
    CHUNK_DATA = 0x00,
    CHUNK_INIT = 0x01,
    CHUNK_INIT_ACK = 0x02,
    CHUNK_SACK = 0x03,
    CHUNK_HEARTBEAT = 0x04,
    CHUNK_HEARTBEAT_ACK = 0x05,
    CHUNK_ABORT = 0x06,
    CHUNK_SHUTDOWN = 0x07,
    CHUNK_SHUTDOWN_ACK = 0x08,
    CHUNK_ERROR = 0x09,
    CHUNK_COOKIE_ECHO = 0x0a,
    CHUNK_COOKIE_ACK = 0x0b,
    CHUNK_SHUTDOWN_COMPLETE = 0x0e,
    CHUNK_ASCONF_ACK = 0x80,
    CHUNK_PKTDROP = 0x81,
    CHUNK_RE_CONFIG = 0x82,
    CHUNK_FORWARD_TSN = 0xc0,
    CHUNK_ASCONF = 0xc1,
    CHUNK_I_FORWARD_TSN = 0xc2,
};

/* RFC 6525 §4: usrsctp reads a RE-CONFIG parameter as what its type says, so it must be that long. */
static size_t least_length(uint8_t chunk, uint16_t type)
{
    static const uint8_t re_config[] = {16, 8, 8, 12, 12, 12}; /* types 13 to 18 */
    bool known = chunk == CHUNK_RE_CONFIG && type >= 13 && type < 13 + sizeof re_config;
    return known ? re_config[type - 13] : 4;
}

/* A peer may add outgoing streams of its own (RFC 6525 §4.5), not ours (§4.6): usrsctp would allocate, at its word,
 * up to 65535 of them. A request for none would only make work. */
static bool re_config_allowed(uint16_t type, dp_rd value)
{
    dp_rd_skip(&value, 4);
    return type != 18 && (type != 17 || dp_rd_u16(&value) != 0);
}

/* Type-length-value items: parameters (RFC 9260 §3.2.1) and error causes (§3.3.10) look alike. The last one's
 * padding may be missing: Chromium leaves it out of the chunk length. */
static bool items_sound(dp_rd *rd, uint8_t chunk)
{
    while (dp_rd_left(rd) > 0) {
        uint16_t type = dp_rd_u16(rd);
        size_t len = dp_rd_u16(rd);
        if (rd->error || len < least_length(chunk, type))
            return false;
        dp_rd value = dp_rd_sub(rd, len - 4);
        if (chunk == CHUNK_RE_CONFIG && !re_config_allowed(type, value))
            return false;
        size_t padding = (4 - len % 4) % 4;
        dp_rd_skip(rd, padding < dp_rd_left(rd) ? padding : dp_rd_left(rd));
    }
    return !rd->error;
}

/* INIT and INIT ACK: tag, a_rwnd, streams out and in, initial TSN, parameters. */
static bool init_sound(dp_rd *body, uint8_t type)
{
    uint32_t tag = dp_rd_u32(body);
    dp_rd_skip(body, 4);
    uint16_t out = dp_rd_u16(body);
    uint16_t in = dp_rd_u16(body);
    dp_rd_skip(body, 4);
    return !body->error && tag != 0 && out != 0 && in != 0 && items_sound(body, type);
}

/* Cumulative TSN, a_rwnd, number of gap blocks, number of duplicate TSNs, 4 bytes for each. */
static bool sack_sound(dp_rd *body)
{
    dp_rd_skip(body, 8);
    size_t gaps = dp_rd_u16(body);
    size_t duplicates = dp_rd_u16(body);
    return !body->error && dp_rd_left(body) == 4 * (gaps + duplicates);
}

static int body_sound(uint8_t type, dp_rd *body)
{
    size_t len = dp_rd_left(body);
    bool sound = true;
    switch (type) {
    case CHUNK_DATA: /* TSN, stream, SSN, PPID and at least one byte: RFC 9260 §3.3.1 */
        sound = len > 12;
        break;
    case CHUNK_INIT:
    case CHUNK_INIT_ACK:
        sound = init_sound(body, type);
        break;
    case CHUNK_SACK:
        sound = sack_sound(body);
        break;
    case CHUNK_HEARTBEAT:
    case CHUNK_HEARTBEAT_ACK:
    case CHUNK_RE_CONFIG:
        sound = len >= 4 && items_sound(body, type);
        break;
    case CHUNK_ABORT:
    case CHUNK_ERROR:
        sound = items_sound(body, type);
        break;
    case CHUNK_SHUTDOWN:
        sound = len == 4;
        break;
    case CHUNK_COOKIE_ECHO:
        sound = len > 0;
        break;
    case CHUNK_FORWARD_TSN: /* TSN, then stream and SSN as often as wanted: RFC 3758 §3.2; see forward.c */
        sound = len >= 4 && len % 4 == 0;
        break;
    case CHUNK_SHUTDOWN_ACK:
    case CHUNK_COOKIE_ACK:
    case CHUNK_SHUTDOWN_COMPLETE:
        sound = len == 0;
        break;
    case CHUNK_ASCONF:
    case CHUNK_ASCONF_ACK:
    case CHUNK_PKTDROP:
    case CHUNK_I_FORWARD_TSN:
        return DP_ERR_UNSUPPORTED;
    default:
        /* ECN, AUTH, NR-SACK and I-DATA were not negotiated. Types 0x80 and up may be skipped by whoever does
         * not know them (RFC 9260 §3.2), so a newer peer may bundle them with DATA. */
        return type < 0x80 ? DP_ERR_UNSUPPORTED : DP_OK;
    }
    return sound ? DP_OK : DP_ERR_MALFORMED;
}

int dp_sctp_filter(const uint8_t *packet, size_t len, uint16_t local_port, uint16_t remote_port)
{
    dp_rd rd = dp_rd_init(packet, len);
    uint16_t source = dp_rd_u16(&rd);
    uint16_t destination = dp_rd_u16(&rd);
    dp_rd_skip(&rd, 8);
    if (rd.error || dp_rd_left(&rd) == 0)
        return DP_ERR_MALFORMED;
    if (source != remote_port || destination != local_port)
        return DP_ERR_PROTOCOL;
    size_t chunks = 0;
    bool must_be_alone = false;
    while (dp_rd_left(&rd) > 0) {
        uint8_t type = dp_rd_u8(&rd);
        dp_rd_skip(&rd, 1);
        size_t length = dp_rd_u16(&rd);
        if (rd.error || length < 4)
            return DP_ERR_MALFORMED;
        dp_rd body = dp_rd_sub(&rd, length - 4);
        if (rd.error)
            return DP_ERR_MALFORMED;
        int error = body_sound(type, &body);
        if (error != DP_OK)
            return error;
        /* RFC 9260 §6.10: these three are never bundled. */
        must_be_alone |= type == CHUNK_INIT || type == CHUNK_INIT_ACK || type == CHUNK_SHUTDOWN_COMPLETE;
        if (++chunks > 1 && must_be_alone)
            return DP_ERR_PROTOCOL;
        size_t padding = (4 - length % 4) % 4;
        dp_rd_skip(&rd, padding < dp_rd_left(&rd) ? padding : dp_rd_left(&rd));
    }
    return DP_OK;
}

uint32_t dp_sctp_checksum(const uint8_t *packet, size_t len)
{
    static const uint8_t zero[4];
    uint32_t crc = dp_crc32c(0, packet, 8);
    crc = dp_crc32c(crc, zero, sizeof zero);
    return dp_crc32c(crc, packet + DP_SCTP_COMMON_HEADER, len - DP_SCTP_COMMON_HEADER);
}

/* RFC 9260 Appendix A: the bit order of CRC-32C makes the low byte go first. */
void dp_sctp_checksum_write(uint8_t *packet, size_t len)
{
    uint32_t crc = dp_sctp_checksum(packet, len);
    for (int i = 0; i < 4; i++)
        packet[8 + i] = (uint8_t)(crc >> (8 * i));
}

bool dp_sctp_checksum_ok(const uint8_t *packet, size_t len)
{
    if (len < DP_SCTP_COMMON_HEADER)
        return false;
    uint32_t field = (uint32_t)packet[8] | (uint32_t)packet[9] << 8 | (uint32_t)packet[10] << 16 |
                     (uint32_t)packet[11] << 24;
    return field == dp_sctp_checksum(packet, len);
}
