/* The server's side of RFC 6455 framing, written by hand so that it can also be wrong. */
#ifndef TESTS_SIGNALING_FRAMES_H
#define TESTS_SIGNALING_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10, FIN = 0x80 };

/* first: FIN, reserved bits and opcode. Returns the frame's length. */
static inline size_t put_frame(uint8_t *out, unsigned first, bool masked, const void *payload, size_t len)
{
    size_t n = 0;
    uint8_t mask_bit = masked ? 0x80 : 0;
    out[n++] = (uint8_t)first;
    if (len < 126) {
        out[n++] = (uint8_t)(mask_bit | len);
    } else if (len <= 0xffff) {
        out[n++] = mask_bit | 126;
        out[n++] = (uint8_t)(len >> 8);
        out[n++] = (uint8_t)len;
    } else {
        out[n++] = mask_bit | 127;
        for (int i = 7; i >= 0; i--)
            out[n++] = (uint8_t)((uint64_t)len >> (8 * i));
    }
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    for (int i = 0; i < 4 && masked; i++)
        out[n++] = mask[i];
    for (size_t i = 0; i < len; i++)
        out[n++] = ((const uint8_t *)payload)[i] ^ (masked ? mask[i % 4] : 0);
    return n;
}

typedef struct frame {
    unsigned first;
    bool masked;
    uint8_t mask[4];
    char payload[70000]; /* unmasked, NUL-terminated */
    size_t len;
} frame;

/* Takes one whole frame off the front of *data; false if there is none. */
static inline bool take_frame(frame *out, const uint8_t **data, size_t *len)
{
    const uint8_t *at = *data;
    size_t head = 2;
    if (*len < head)
        return false;
    uint64_t size = at[1] & 0x7f;
    out->first = at[0];
    out->masked = (at[1] & 0x80) != 0;
    size_t extended = size == 126 ? 2 : size == 127 ? 8 : 0;
    if (*len < head + extended)
        return false;
    if (extended > 0)
        size = 0;
    for (size_t i = 0; i < extended; i++)
        size = size << 8 | at[head + i];
    head += extended;
    if (out->masked) {
        if (*len < head + 4)
            return false;
        memcpy(out->mask, at + head, 4);
        head += 4;
    }
    if (size >= sizeof(out->payload) || *len - head < size)
        return false;
    out->len = (size_t)size;
    for (size_t i = 0; i < out->len; i++)
        out->payload[i] = (char)(at[head + i] ^ (out->masked ? out->mask[i % 4] : 0));
    out->payload[out->len] = '\0';
    *data += head + out->len;
    *len -= head + out->len;
    return true;
}

/* The status code of a close frame, 0 if it has none. */
static inline unsigned close_code(const frame *f)
{
    return f->len < 2 ? 0 : (unsigned)((uint8_t)f->payload[0] << 8 | (uint8_t)f->payload[1]);
}

#endif
