#include "stun.h"

#include "base/crc.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "base/rd.h"

#include <string.h>

#define INTEGRITY_ATTRIBUTE_LEN   (4 + DP_SHA1_LEN)
#define FINGERPRINT_ATTRIBUTE_LEN 8
#define FINGERPRINT_XOR           0x5354554eu /* "STUN", RFC 8489 §14.7 */

/* ---- header
 * ----------------------------------------------------------------------------------------------------
 *
 * RFC 8489 §5:
 *    0                   1                   2                   3
 *    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *   |0 0|     STUN Message Type     |         Message Length        |
 *   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *   |                     Magic Cookie = 0x2112A442                 |
 *   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *   |                     Transaction ID (96 bits)                  |
 *   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *
 * The type mixes method M and class C:  0 0 M11..M7 C1 M6 M5 M4 C0 M3..M0
 */

static unsigned type_of(dp_stun_class class_, unsigned method)
{
    unsigned c = (unsigned)class_;
    return (method & 0x000Fu) | (method & 0x0070u) << 1 | (method & 0x0F80u) << 2 | (c & 1u) << 4 |
           (c & 2u) << 7;
}

static int decode_header(dp_stun_message *out, dp_rd *rd)
{
    unsigned type = dp_rd_u16(rd);
    size_t length = dp_rd_u16(rd);
    uint32_t cookie = dp_rd_u32(rd);
    out->transaction = dp_rd_bytes(rd, DP_STUN_TRANSACTION_LEN);
    if (rd->error || (type & 0xC000u) != 0 || cookie != DP_STUN_MAGIC_COOKIE)
        return DP_ERR_MALFORMED;
    if (length % 4 != 0 || length != dp_rd_left(rd))
        return DP_ERR_MALFORMED;
    out->class_ = (dp_stun_class)((type >> 4 & 1u) | (type >> 7 & 2u));
    out->method = (type & 0x000Fu) | (type >> 1 & 0x0070u) | (type >> 2 & 0x0F80u);
    return DP_OK;
}

/* ---- attributes, reading ---- */

/* RFC 8489 §14.2: the port is XORed with the top half of the magic cookie, the address with the cookie
 * followed by the transaction id.
 *   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *   |0 0 0 0 0 0 0 0|    Family     |         X-Port                |
 *   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *   |                X-Address (32 or 128 bits)                     |
 */
static void xor_ip(uint8_t *out, const uint8_t *in, size_t len, const uint8_t *cookie_and_transaction)
{
    for (size_t i = 0; i < len; i++)
        out[i] = in[i] ^ cookie_and_transaction[i];
}

/* The same without the XOR is MAPPED-ADDRESS's format (§14.1). */
static bool read_address(dp_address *out, dp_rd value)
{
    memset(out, 0, sizeof *out);
    dp_rd_skip(&value, 1);
    unsigned family = dp_rd_u8(&value);
    uint16_t port = dp_rd_u16(&value);
    size_t ip_len = family == 1 ? 4 : 16;
    const uint8_t *ip = dp_rd_bytes(&value, ip_len);
    if (value.error || dp_rd_left(&value) != 0 || (family != 1 && family != 2))
        return false;
    out->family = family == 1 ? DP_FAMILY_IPV4 : DP_FAMILY_IPV6;
    out->port = port;
    memcpy(out->ip, ip, ip_len);
    return true;
}

static bool read_xor_address(dp_address *out, dp_rd value, const uint8_t *data)
{
    if (!read_address(out, value))
        return false;
    out->port = (uint16_t)(out->port ^ (DP_STUN_MAGIC_COOKIE >> 16));
    xor_ip(out->ip, out->ip, out->family == DP_FAMILY_IPV4 ? 4 : 16, data + 4);
    return true;
}

/* RFC 8489 §14.8: 21 zero bits, 3 bits class, 8 bits number, reason phrase. */
static bool read_error_code(unsigned *out, dp_rd value)
{
    dp_rd_skip(&value, 2);
    unsigned class_ = dp_rd_u8(&value) & 7u;
    unsigned number = dp_rd_u8(&value);
    *out = class_ * 100 + number;
    return !value.error && class_ >= 3 && class_ <= 6 && number <= 99;
}

static bool read_types(dp_stun_message *out, dp_rd value)
{
    if (dp_rd_left(&value) % 2 != 0)
        return false;
    while (dp_rd_left(&value) > 0) {
        uint16_t type = dp_rd_u16(&value);
        if (out->reported_count < DP_STUN_UNKNOWN_MAX)
            out->reported[out->reported_count++] = type;
    }
    return true;
}

static bool read_text(const uint8_t **out, size_t *len, dp_rd value, size_t max)
{
    if (dp_rd_left(&value) > max)
        return false;
    *len = dp_rd_left(&value);
    *out = dp_rd_bytes(&value, *len);
    return true;
}

static bool read_tie_breaker(dp_stun_message *out, bool *has, dp_rd value)
{
    if (dp_rd_left(&value) != 8)
        return false;
    if (!out->has_controlled && !out->has_controlling) {
        *has = true;
        out->tie_breaker = dp_rd_u64(&value);
    }
    return true;
}

static void note_unknown(dp_stun_message *out, uint16_t type)
{
    if (type < 0x8000 && out->unknown_count < DP_STUN_UNKNOWN_MAX)
        out->unknown[out->unknown_count++] = type;
}

static bool read_relayed(dp_stun_message *out, dp_rd value)
{
    dp_address address;
    if (!read_xor_address(&address, value, out->data))
        return false;
    if (out->relayed_count < DP_STUN_RELAYED_MAX)
        out->relayed[out->relayed_count++] = address;
    return true;
}

/* RFC 8656 §18.12: 8 bits family, 13 zero bits, then class and number as in ERROR-CODE. */
static bool read_address_error(dp_stun_message *out, dp_rd value)
{
    out->address_error_family = dp_rd_u8(&value);
    dp_rd_skip(&value, 1);
    unsigned class_ = dp_rd_u8(&value) & 7u;
    out->address_error = class_ * 100 + dp_rd_u8(&value);
    return !value.error;
}

/* An attribute of TURN (RFC 8656 §18); all else is unknown. */
static bool read_turn_attribute(dp_stun_message *out, uint16_t type, dp_rd value)
{
    switch (type) {
    case DP_STUN_CHANNEL_NUMBER: /* and two reserved bytes */
        if (out->channel == 0)
            out->channel = dp_rd_u16(&value);
        return !value.error;
    case DP_STUN_LIFETIME:
        if (dp_rd_left(&value) != 4)
            return false;
        if (!out->has_lifetime)
            out->lifetime = dp_rd_u32(&value);
        out->has_lifetime = true;
        return true;
    case DP_STUN_XOR_PEER_ADDRESS:
        return out->peer.family != DP_FAMILY_NONE || read_xor_address(&out->peer, value, out->data);
    case DP_STUN_DATA:
        return out->payload != NULL ||
               read_text(&out->payload, &out->payload_len, value, DP_STUN_MESSAGE_MAX);
    case DP_STUN_XOR_RELAYED_ADDRESS:
        return read_relayed(out, value);
    case DP_STUN_ADDRESS_ERROR_CODE:
        return out->address_error != 0 || read_address_error(out, value);
    case DP_STUN_ALTERNATE_SERVER:
        return out->alternate.family != DP_FAMILY_NONE || read_address(&out->alternate, value);
    case DP_STUN_REQUESTED_ADDRESS_FAMILY: /* what only servers read */
    case DP_STUN_REQUESTED_TRANSPORT:
        return true;
    default:
        note_unknown(out, type);
        return true;
    }
}

/* One attribute before MESSAGE-INTEGRITY. False: its value breaks its format. */
static bool read_attribute(dp_stun_message *out, uint16_t type, dp_rd value)
{
    switch (type) {
    case DP_STUN_USERNAME:
        return out->username != NULL ||
               read_text(&out->username, &out->username_len, value, DP_STUN_USERNAME_MAX);
    case DP_STUN_REALM:
        return out->realm != NULL || read_text(&out->realm, &out->realm_len, value, DP_STUN_REALM_MAX);
    case DP_STUN_NONCE:
        return out->nonce != NULL || read_text(&out->nonce, &out->nonce_len, value, DP_STUN_REALM_MAX);
    case DP_STUN_XOR_MAPPED_ADDRESS:
        return out->mapped.family != DP_FAMILY_NONE || read_xor_address(&out->mapped, value, out->data);
    case DP_STUN_ERROR_CODE:
        return out->error_code != 0 || read_error_code(&out->error_code, value);
    case DP_STUN_UNKNOWN_ATTRIBUTES:
        return out->reported_count > 0 || read_types(out, value);
    case DP_STUN_PRIORITY:
        if (dp_rd_left(&value) != 4)
            return false;
        if (!out->has_priority)
            out->priority = dp_rd_u32(&value);
        out->has_priority = true;
        return true;
    case DP_STUN_USE_CANDIDATE:
        out->use_candidate = true;
        return dp_rd_left(&value) == 0;
    case DP_STUN_ICE_CONTROLLED:
        return read_tie_breaker(out, &out->has_controlled, value);
    case DP_STUN_ICE_CONTROLLING:
        return read_tie_breaker(out, &out->has_controlling, value);
    case DP_STUN_MAPPED_ADDRESS: /* RFC 3489's; understood and not used */
        return true;
    default:
        return read_turn_attribute(out, type, value);
    }
}

/* RFC 8489 §14.7: the CRC covers everything before the attribute; the header's length already counts it. */
static bool fingerprint_is_right(const dp_stun_message *out, size_t at, dp_rd value)
{
    if (dp_rd_left(&value) != 4)
        return false;
    return dp_rd_u32(&value) == (dp_crc32(out->data, at) ^ FINGERPRINT_XOR);
}

/* RFC 8489 §14:
 *   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *   |         Type                  |            Length             |
 *   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *   |                Value (variable), padded to 32 bits         ....
 */
static int decode_attributes(dp_stun_message *out, dp_rd *rd)
{
    int err = DP_OK;
    while (dp_rd_left(rd) > 0) {
        size_t at = out->len - dp_rd_left(rd);
        uint16_t type = dp_rd_u16(rd);
        size_t length = dp_rd_u16(rd);
        dp_rd value = dp_rd_sub(rd, length);
        dp_rd_skip(rd, (4 - length % 4) % 4);
        if (rd->error)
            return DP_ERR_MALFORMED;
        if (type == DP_STUN_FINGERPRINT) {
            if (dp_rd_left(rd) != 0 || !fingerprint_is_right(out, at, value))
                return DP_ERR_MALFORMED;
            out->has_fingerprint = true;
        } else if (out->integrity_at != 0) {
            continue; /* not covered by the integrity check: ignored */
        } else if (type == DP_STUN_MESSAGE_INTEGRITY) {
            if (length == DP_SHA1_LEN)
                out->integrity_at = at;
            else
                err = DP_ERR_PROTOCOL;
        } else if (!read_attribute(out, type, value)) {
            err = DP_ERR_PROTOCOL; /* the rest is looked at all the same: is it a message at all? */
        }
    }
    return err;
}

int dp_stun_decode(dp_stun_message *out, const uint8_t *data, size_t len)
{
    memset(out, 0, sizeof *out);
    if (len < DP_STUN_HEADER_LEN || len > DP_STUN_MESSAGE_MAX)
        return DP_ERR_MALFORMED;
    out->data = data;
    out->len = len;
    dp_rd rd = dp_rd_init(data, len);
    int err = decode_header(out, &rd);
    return err != DP_OK ? err : decode_attributes(out, &rd);
}

/* RFC 8489 §14.5: HMAC-SHA1 over the message up to the attribute, with a header length that ends with it. */
int dp_stun_check_integrity(const dp_stun_message *message, const void *key, size_t key_len)
{
    uint8_t text[DP_STUN_MESSAGE_MAX];
    uint8_t mac[DP_SHA1_LEN];
    size_t at = message->integrity_at;
    if (at == 0)
        return DP_ERR_AUTH;
    dp_wr wr = dp_wr_init(text, sizeof text);
    dp_wr_bytes(&wr, message->data, at);
    dp_wr_patch_u16(&wr, 2, at + INTEGRITY_ATTRIBUTE_LEN - DP_STUN_HEADER_LEN);
    if (wr.error || dp_hmac_sha1(mac, key, key_len, text, at) != DP_OK)
        return DP_ERR_CRYPTO;
    return dp_equal_constant_time(mac, message->data + at + 4, sizeof mac) ? DP_OK : DP_ERR_AUTH;
}

/* ---- writing ---- */

/* The header's length as if the message ended after extra more bytes. */
static void set_length(dp_wr *wr, size_t extra)
{
    dp_wr_patch_u16(wr, 2, wr->len - DP_STUN_HEADER_LEN + extra);
}

void dp_stun_write_header(dp_wr *wr, dp_stun_class class_, unsigned method,
                          const uint8_t transaction[DP_STUN_TRANSACTION_LEN])
{
    dp_wr_u16(wr, (uint16_t)type_of(class_, method));
    dp_wr_u16(wr, 0);
    dp_wr_u32(wr, DP_STUN_MAGIC_COOKIE);
    dp_wr_bytes(wr, transaction, DP_STUN_TRANSACTION_LEN);
}

static void begin_attribute(dp_wr *wr, dp_stun_attribute type, size_t len)
{
    dp_wr_u16(wr, (uint16_t)type);
    size_t mark = dp_wr_mark_u16(wr);
    dp_wr_patch_u16(wr, mark, len);
}

void dp_stun_write_attribute(dp_wr *wr, dp_stun_attribute type, const void *value, size_t len)
{
    begin_attribute(wr, type, len);
    dp_wr_bytes(wr, value, len);
    dp_wr_pad(wr, 4);
}

void dp_stun_write_u32(dp_wr *wr, dp_stun_attribute type, uint32_t value)
{
    begin_attribute(wr, type, 4);
    dp_wr_u32(wr, value);
}

void dp_stun_write_u64(dp_wr *wr, dp_stun_attribute type, uint64_t value)
{
    begin_attribute(wr, type, 8);
    dp_wr_u64(wr, value);
}

void dp_stun_write_channel_number(dp_wr *wr, uint16_t channel)
{
    dp_stun_write_u32(wr, DP_STUN_CHANNEL_NUMBER, (uint32_t)channel << 16);
}

void dp_stun_write_family(dp_wr *wr, dp_stun_attribute type, unsigned family)
{
    dp_stun_write_u32(wr, type, (uint32_t)family << 24);
}

void dp_stun_write_in_place(dp_wr *wr, dp_stun_attribute type, size_t len)
{
    begin_attribute(wr, type, len);
    (void)dp_wr_reserve(wr, len);
    dp_wr_pad(wr, 4);
}

void dp_stun_write_xor_mapped_address(dp_wr *wr, const dp_address *address)
{
    dp_stun_write_xor_address(wr, DP_STUN_XOR_MAPPED_ADDRESS, address);
}

void dp_stun_write_xor_address(dp_wr *wr, dp_stun_attribute type, const dp_address *address)
{
    size_t ip_len = address->family == DP_FAMILY_IPV4 ? 4 : 16;
    begin_attribute(wr, type, 4 + ip_len);
    dp_wr_u8(wr, 0);
    dp_wr_u8(wr, address->family == DP_FAMILY_IPV4 ? 1 : 2);
    dp_wr_u16(wr, (uint16_t)(address->port ^ (DP_STUN_MAGIC_COOKIE >> 16)));
    uint8_t *ip = dp_wr_reserve(wr, ip_len);
    if (ip != NULL)
        xor_ip(ip, address->ip, ip_len, wr->start + 4);
}

void dp_stun_write_error_code(dp_wr *wr, unsigned code, const char *reason)
{
    size_t len = strlen(reason);
    begin_attribute(wr, DP_STUN_ERROR_CODE, 4 + len);
    dp_wr_u16(wr, 0);
    dp_wr_u8(wr, (uint8_t)(code / 100));
    dp_wr_u8(wr, (uint8_t)(code % 100));
    dp_wr_bytes(wr, reason, len);
    dp_wr_pad(wr, 4);
}

void dp_stun_write_unknown_attributes(dp_wr *wr, const uint16_t *types, size_t count)
{
    begin_attribute(wr, DP_STUN_UNKNOWN_ATTRIBUTES, 2 * count);
    for (size_t i = 0; i < count; i++)
        dp_wr_u16(wr, types[i]);
    dp_wr_pad(wr, 4);
}

void dp_stun_write_integrity(dp_wr *wr, const void *key, size_t key_len)
{
    size_t covered = wr->len;
    uint8_t mac[DP_SHA1_LEN];
    set_length(wr, INTEGRITY_ATTRIBUTE_LEN);
    if (wr->error || dp_hmac_sha1(mac, key, key_len, wr->start, covered) != DP_OK) {
        wr->error = true;
        return;
    }
    dp_stun_write_attribute(wr, DP_STUN_MESSAGE_INTEGRITY, mac, sizeof mac);
}

void dp_stun_write_fingerprint(dp_wr *wr)
{
    set_length(wr, FINGERPRINT_ATTRIBUTE_LEN);
    if (!wr->error)
        dp_stun_write_u32(wr, DP_STUN_FINGERPRINT, dp_crc32(wr->start, wr->len) ^ FINGERPRINT_XOR);
}

int dp_stun_finish(dp_wr *wr, size_t *len)
{
    set_length(wr, 0);
    return dp_wr_finish(wr, len);
}
