#include "dcep.h"

#include "base/rd.h"
#include "base/wr.h"

/* RFC 8832 §5.1, DATA_CHANNEL_OPEN:
 *
 *     0                   1                   2                   3
 *     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *    | Message Type 3|  Channel Type |            Priority           |
 *    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *    |                    Reliability Parameter                      |
 *    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *    |         Label Length          |       Protocol Length         |
 *    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *    /                     Label, then Protocol                      /
 *    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *
 * RFC 8832 §5.2, DATA_CHANNEL_ACK: the one byte 0x02. */

static dp_slice read_text(dp_rd *rd, size_t len)
{
    const uint8_t *bytes = dp_rd_bytes(rd, len);
    if (bytes == NULL || !dp_utf8_valid(bytes, len)) {
        rd->error = true;
        return (dp_slice){"", 0};
    }
    return (dp_slice){(const char *)bytes, len};
}

static int parse_open(dp_dcep_open *open, dp_rd *rd)
{
    open->channel_type = dp_rd_u8(rd);
    open->priority = dp_rd_u16(rd);
    open->reliability = dp_rd_u32(rd);
    size_t label_len = dp_rd_u16(rd);
    size_t protocol_len = dp_rd_u16(rd);
    open->label = read_text(rd, label_len);
    open->protocol = read_text(rd, protocol_len);
    if (rd->error || dp_rd_left(rd) != 0)
        return DP_ERR_MALFORMED;
    if ((open->channel_type & ~DP_DCEP_UNORDERED) > DP_DCEP_MAX_TIME)
        return DP_ERR_UNSUPPORTED;
    return DP_OK;
}

int dp_dcep_parse(dp_dcep_type *type, dp_dcep_open *open, const uint8_t *data, size_t len)
{
    dp_rd rd = dp_rd_init(data, len);
    uint8_t first = dp_rd_u8(&rd);
    if (rd.error)
        return DP_ERR_MALFORMED;
    if (first == DP_DCEP_ACK) {
        *type = DP_DCEP_ACK;
        return dp_rd_left(&rd) == 0 ? DP_OK : DP_ERR_MALFORMED;
    }
    if (first != DP_DCEP_OPEN)
        return DP_ERR_UNSUPPORTED;
    *type = DP_DCEP_OPEN;
    return parse_open(open, &rd);
}

int dp_dcep_write_open(uint8_t *out, size_t capacity, size_t *len, const dp_dcep_open *open)
{
    if (open->label.len > UINT16_MAX || open->protocol.len > UINT16_MAX)
        return DP_ERR_TOO_LARGE;
    dp_wr wr = dp_wr_init(out, capacity);
    dp_wr_u8(&wr, DP_DCEP_OPEN);
    dp_wr_u8(&wr, open->channel_type);
    dp_wr_u16(&wr, open->priority);
    dp_wr_u32(&wr, open->reliability);
    dp_wr_u16(&wr, (uint16_t)open->label.len);
    dp_wr_u16(&wr, (uint16_t)open->protocol.len);
    dp_wr_bytes(&wr, open->label.at, open->label.len);
    dp_wr_bytes(&wr, open->protocol.at, open->protocol.len);
    return dp_wr_finish(&wr, len);
}
