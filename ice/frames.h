/* Cuts a byte stream into messages: of TURN over TCP and TLS (RFC 8656 §3.1: STUN messages and padded ChannelData,
 * which tell their own lengths), or of ICE-TCP (RFC 4571: two bytes of length in front of each). */
#ifndef ICE_FRAMES_H
#define ICE_FRAMES_H

#include <datapeer/base.h>

#define DP_FRAME_MAX 1600 /* the longest frame that is taken */

typedef struct dp_frames {
    size_t len;  /* bytes in hand */
    size_t skip; /* bytes of a frame that is too long, still to come */
    uint8_t data[DP_FRAME_MAX];
} dp_frames;

/* Takes bytes from the front of data and returns how many (all, or up to the end of a frame). *frame_len is not 0 if
 * frames->data now begins with a whole frame (its padding left out): use it before the next call. Latches nothing:
 * *broken is set to true if the stream can't be cut any more (no STUN and no channel): close it. A frame that is too
 * long is skipped: it may be data of anybody at an IP address that has a permission. */
size_t dp_frames_take(dp_frames *frames, const uint8_t *data, size_t len, size_t *frame_len, bool *broken);

#define DP_FRAME_PREFIX 2 /* RFC 4571 §2; the frame begins behind it, at frames->data + DP_FRAME_PREFIX */

/* The same for ICE-TCP; *frame_len is the length without the prefix. Empty frames are skipped; one that is too long
 * breaks it: here the peer alone is on the stream. */
size_t dp_frames_take_prefixed(dp_frames *frames, const uint8_t *data, size_t len, size_t *frame_len,
                               bool *broken);

#endif
