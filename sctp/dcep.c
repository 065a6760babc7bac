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
 * RFC 8832 §5.2, DATA_CHANNEL_ACK: the one byte 0x02. pion sends three zeros behind it; whatever follows says nothing.
 */

/* The bytes of the first count characters; len + 1 if there are not so many. A character over U+FFFF counts as wide.
 * text is valid UTF-8. */
static size_t prefix_of(const uint8_t *text, size_t len, size_t count, size_t wide)
{
    size_t i = 0;
    while (count > 0 && i < len) {
        size_t bytes = text[i] < 0x80 ? 1 : text[i] < 0xe0 ? 2 : text[i] < 0xf0 ? 3 : 4;
        size_t worth = bytes == 4 ? wide : 1;
        if (worth > count)
            break;
        count -= worth;
        i += bytes;
    }
    return count == 0 ? i : len + 1;
}

static bool split(size_t *label, const uint8_t *text, size_t len, const size_t counts[2], size_t wide)
{
    *label = prefix_of(text, len, counts[0], wide);
    return *label <= len && prefix_of(text + *label, len - *label, counts[1], wide) == len - *label;
}

/* The two lengths are bytes (RFC 8832 §5.1). aiortc counts code points there, and werift UTF-16 code units: then more
 * bytes follow than the lengths say, and they hold exactly so many of either. */
static bool read_names(dp_dcep_open *open, dp_rd *rd)
{
    size_t counts[2];
    counts[0] = dp_rd_u16(rd);
    counts[1] = dp_rd_u16(rd);
    size_t len = dp_rd_left(rd), label = counts[0];
    const uint8_t *text = dp_rd_bytes(rd, len);
    if (rd->error || !dp_utf8_valid(text, len))
        return false;
    if (len == counts[0] + counts[1]
            ? !dp_utf8_valid(text, label)
            : !split(&label, text, len, counts, 1) && !split(&label, text, len, counts, 2))
        return false;
    open->label = (dp_slice){(const char *)text, label};
    open->protocol = (dp_slice){(const char *)text + label, len - label};
    return true;
}

static int parse_open(dp_dcep_open *open, dp_rd *rd)
{
    open->channel_type = dp_rd_u8(rd);
    open->priority = dp_rd_u16(rd);
    open->reliability = dp_rd_u32(rd);
    if (!read_names(open, rd))
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
        return DP_OK;
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
