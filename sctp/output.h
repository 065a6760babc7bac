/* The packets that an association has made and nobody has taken yet. What usrsctp makes in one go is put together:
 * it sends each small message at once, in a packet of its own, as SCTP_NODELAY wants it, but nothing leaves before the
 * owner asks for it. So a burst of small messages shares packets, and a lone one does not wait. */
#ifndef SCTP_OUTPUT_H
#define SCTP_OUTPUT_H

#include <datapeer/base.h>

typedef struct dp_output {
    uint8_t *bytes; /* packets, each behind its 2-byte length */
    size_t capacity;
    size_t max;
    size_t head; /* the packet that leaves next */
    size_t len;
    bool bundles; /* the newest packet has not left and may have more DATA behind it: RFC 9260 §6.10 */
    size_t last;  /* that packet */
} dp_output;

void dp_output_init(dp_output *output, size_t max);
void dp_output_clear(dp_output *output);
/* A copy; the checksum is written when it leaves. A packet that finds no room counts as lost by the network.
 * mtu: of a packet to which this one's chunks may be added; 0: it stays alone. */
void dp_output_add(dp_output *output, const uint8_t *packet, size_t len, size_t mtu);
/* The packet is valid until the next call. */
bool dp_output_poll(dp_output *output, const uint8_t **packet, size_t *len);
/* Gives the memory back if nothing waits. */
void dp_output_shrink(dp_output *output);

#endif
