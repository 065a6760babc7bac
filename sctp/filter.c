#include "filter.h"

#include "base/crc.h"
#include "chunk.h"

/* RFC 6525 §4: usrsctp reads a RE-CONFIG parameter as what its type says, so it must be that long. */
static size_t least_length(uint8_t chunk, uint16_t type)
{
    static const uint8_t re_config[] = {16, 8, 8, 12, 12, 12}; /* types 13 to 18 */
    bool known = chunk == DP_CHUNK_RE_CONFIG && type >= 13 && type < 13 + sizeof re_config;
    return known ? re_config[type - 13] : 4;
}

/* A peer may add outgoing streams of its own (RFC 6525 §4.5), not ours (§4.6): usrsctp would allocate, at its word,
 * up to 65535 of them. A request for none would only make work. */
static bool re_config_allowed(uint16_t type, dp_rd value)
{
    dp_rd_skip(&value, 4);
    return type != 18 && (type != 17 || dp_rd_u16(&value) != 0);
}

static bool items_sound(dp_rd *items, uint8_t chunk)
{
    uint16_t type;
    dp_rd value;
    while (dp_chunk_item_next(items, &type, &value)) {
        if (dp_rd_left(&value) + 4 < least_length(chunk, type))
            return false;
        if (chunk == DP_CHUNK_RE_CONFIG && !re_config_allowed(type, value))
            return false;
    }
    return !items->error;
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

/* DATA and FORWARD-TSN, or I-DATA and I-FORWARD-TSN: never both. */
static bool is_of_other_mode(uint8_t type, bool interleaving)
{
    bool interleaved = type == DP_CHUNK_I_DATA || type == DP_CHUNK_I_FORWARD_TSN;
    return (dp_chunk_is_data(type) || dp_chunk_is_forward(type)) && interleaved != interleaving;
}

static int body_sound(uint8_t type, dp_rd *body)
{
    size_t len = dp_rd_left(body);
    bool sound = true;
    switch (type) {
    case DP_CHUNK_DATA: /* TSN, stream, SSN, PPID and at least one byte: RFC 9260 §3.3.1 */
        sound = len > 12;
        break;
    case DP_CHUNK_I_DATA: /* TSN, stream, reserved, MID, PPID or FSN, and at least one byte: RFC 8260 §2.1 */
        sound = len > 16;
        break;
    case DP_CHUNK_INIT:
    case DP_CHUNK_INIT_ACK:
        sound = init_sound(body, type);
        break;
    case DP_CHUNK_SACK:
        sound = sack_sound(body);
        break;
    case DP_CHUNK_HEARTBEAT:
    case DP_CHUNK_HEARTBEAT_ACK:
    case DP_CHUNK_RE_CONFIG:
        sound = len >= 4 && items_sound(body, type);
        break;
    case DP_CHUNK_ABORT:
    case DP_CHUNK_ERROR:
        sound = items_sound(body, type);
        break;
    case DP_CHUNK_SHUTDOWN:
        sound = len == 4;
        break;
    case DP_CHUNK_COOKIE_ECHO:
        sound = len > 0;
        break;
    case DP_CHUNK_FORWARD_TSN: /* TSN, then stream and SSN as often as wanted: RFC 3758 §3.2; see forward.c */
        sound = len >= 4 && len % 4 == 0;
        break;
    case DP_CHUNK_I_FORWARD_TSN: /* TSN, then stream, flags and MID: RFC 8260 §2.3.1 */
        sound = len >= 4 && len % 8 == 4;
        break;
    case DP_CHUNK_SHUTDOWN_ACK:
    case DP_CHUNK_COOKIE_ACK:
    case DP_CHUNK_SHUTDOWN_COMPLETE:
        sound = len == 0;
        break;
    case DP_CHUNK_ASCONF:
    case DP_CHUNK_ASCONF_ACK:
    case DP_CHUNK_PKTDROP:
        return DP_ERR_UNSUPPORTED;
    default:
        /* ECN, AUTH and NR-SACK were not negotiated. Types 0x80 and up may be skipped by whoever does
         * not know them (RFC 9260 §3.2), so a newer peer may bundle them with DATA. */
        return type < 0x80 ? DP_ERR_UNSUPPORTED : DP_OK;
    }
    return sound ? DP_OK : DP_ERR_MALFORMED;
}

int dp_sctp_filter(const uint8_t *packet, size_t len, uint16_t local_port, uint16_t remote_port,
                   bool interleaving)
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
    dp_chunk chunk;
    while (dp_chunk_next(&rd, &chunk)) {
        if (is_of_other_mode(chunk.type, interleaving))
            return DP_ERR_UNSUPPORTED;
        int error = body_sound(chunk.type, &chunk.value);
        if (error != DP_OK)
            return error;
        /* RFC 9260 §6.10: these three are never bundled. */
        must_be_alone |= chunk.type == DP_CHUNK_INIT || chunk.type == DP_CHUNK_INIT_ACK ||
                         chunk.type == DP_CHUNK_SHUTDOWN_COMPLETE;
        if (++chunks > 1 && must_be_alone)
            return DP_ERR_PROTOCOL;
    }
    return rd.error ? DP_ERR_MALFORMED : DP_OK;
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
