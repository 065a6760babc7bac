#include "frames.h"

#include "base/rd.h"

#include <string.h>

#define PREFIX_LEN      4 /* what tells the length of both kinds */
#define STUN_HEADER_LEN 20
#define PADDED(n)       (((n) + 3) & ~(size_t)3)

/* RFC 8656 §12.4, §12.5: a channel's frame starts with 0b01 and a number of 0x4000-0x4FFF, a STUN message with
 * 0b00. Both have a length in the next two bytes: of the data without the padding, of the message without its
 * header.
 *   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *   |         Channel Number        |            Length             |
 *   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * The length of the frame without padding; 0: neither. */
static size_t length_of(const uint8_t prefix[PREFIX_LEN])
{
    dp_rd rd = dp_rd_init(prefix, PREFIX_LEN);
    unsigned type = dp_rd_u16(&rd);
    size_t length = dp_rd_u16(&rd);
    if (type >= 0x4000 && type <= 0x4FFF)
        return PREFIX_LEN + length;
    return type < 0x4000 && length % 4 == 0 ? STUN_HEADER_LEN + length : 0;
}

/* Takes bytes until want are in hand; false: there are not enough yet. */
static bool fill(dp_frames *frames, size_t want, const uint8_t *data, size_t len, size_t *taken)
{
    size_t n = want - frames->len;
    if (n > len - *taken)
        n = len - *taken;
    if (n > 0)
        memcpy(frames->data + frames->len, data + *taken, n);
    frames->len += n;
    *taken += n;
    return frames->len == want;
}

size_t dp_frames_take(dp_frames *frames, const uint8_t *data, size_t len, size_t *frame_len, bool *broken)
{
    size_t taken = frames->skip < len ? frames->skip : len;
    *frame_len = 0;
    frames->skip -= taken;
    if (frames->len < PREFIX_LEN && !fill(frames, PREFIX_LEN, data, len, &taken))
        return taken;
    size_t length = length_of(frames->data);
    if (length == 0) {
        *broken = true;
        return taken;
    }
    if (PADDED(length) > DP_FRAME_MAX) {
        frames->skip = PADDED(length) - PREFIX_LEN;
        frames->len = 0;
        return taken;
    }
    if (!fill(frames, PADDED(length), data, len, &taken))
        return taken;
    *frame_len = length;
    frames->len = 0;
    return taken;
}

/*   0                   1
 *   0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5
 *  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+---------- ...
 *  |             LENGTH            |  one datagram
 *  +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+---------- ... */
size_t dp_frames_take_prefixed(dp_frames *frames, const uint8_t *data, size_t len, size_t *frame_len,
                               bool *broken)
{
    size_t taken = 0;
    *frame_len = 0;
    if (frames->len < DP_FRAME_PREFIX && !fill(frames, DP_FRAME_PREFIX, data, len, &taken))
        return taken;
    dp_rd rd = dp_rd_init(frames->data, DP_FRAME_PREFIX);
    size_t length = dp_rd_u16(&rd);
    if (DP_FRAME_PREFIX + length > DP_FRAME_MAX) {
        *broken = true;
        return taken;
    }
    if (!fill(frames, DP_FRAME_PREFIX + length, data, len, &taken))
        return taken;
    *frame_len = length;
    frames->len = 0;
    return taken;
}
