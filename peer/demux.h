/* Which protocol a datagram belongs to (RFC 7983 §7): its first byte tells.
 *
 *                  +----------------+
 *                  |        [0..3] -+--> STUN
 *                  |      [16..19] -+--> ZRTP
 *      packet -->  |      [20..63] -+--> DTLS
 *                  |      [64..79] -+--> TURN channel
 *                  |    [128..191] -+--> RTP/RTCP
 *                  +----------------+
 */
#ifndef PEER_DEMUX_H
#define PEER_DEMUX_H

#include <stddef.h>
#include <stdint.h>

typedef enum dp_demux_class { DP_DEMUX_OTHER, DP_DEMUX_STUN, DP_DEMUX_DTLS } dp_demux_class;

static inline dp_demux_class dp_demux_classify(const uint8_t *data, size_t len)
{
    if (len == 0)
        return DP_DEMUX_OTHER;
    if (data[0] <= 3)
        return DP_DEMUX_STUN;
    return data[0] >= 20 && data[0] <= 63 ? DP_DEMUX_DTLS : DP_DEMUX_OTHER;
}

#endif
