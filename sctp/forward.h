/* The receiving side of partial reliability (RFC 3758): FORWARD-TSN, which usrsctp 0.9.5.0 cannot be trusted with
 * (docs/pitfalls.md). usrsctp never sees one. What the peer has given up is made up for: each TSN that is skipped
 * and missing becomes a DATA chunk of one byte, such that usrsctp sees a sender that loses nothing, and the messages
 * that hold such chunks are dropped when they come out of usrsctp. */
#ifndef SCTP_FORWARD_H
#define SCTP_FORWARD_H

#include <datapeer/base.h>

/* The payload protocol identifier of messages whose beginning is made up. */
#define DP_FORWARD_PPID 0x64700001u

/* A message by its last known chunk. */
typedef struct dp_forward_message {
    bool open; /* its end is still to come */
    bool made; /* its beginning is made up, so its PPID tells */
    bool unordered;
    uint16_t stream;
    uint16_t ssn;
    uint32_t tsn; /* of its first chunk */
} dp_forward_message;

typedef struct dp_forward_chunk {
    uint16_t stream;
    uint16_t ssn;
    uint8_t flags;
} dp_forward_chunk;

typedef struct dp_forward {
    bool supported; /* the peer's INIT says that it knows FORWARD-TSN */
    bool offers;    /* our INIT lists I-DATA (RFC 8260) */
    /* The peer's does, too: all chunks are I-DATA, and usrsctp sees each as a whole unordered message (interleaving.h). */
    bool interleaves;
    /* usrsctp has chosen an INIT or INIT ACK, by its COOKIE ECHO or COOKIE ACK. What comes later does not count: the
     * answer to an INIT that was late (RFC 9260 §5.2.2) names another TSN. */
    bool synced;
    uint16_t streams;        /* that the peer may have */
    uint32_t cumulative;     /* the cumulative TSN that usrsctp has acknowledged */
    dp_forward_message edge; /* the message that the chunk with this TSN belongs to */
    bool edge_made;          /* that chunk is made up */
    /* What has come above it: the chunk with TSN t at t modulo capacity, a power of two. */
    dp_forward_chunk *chunks;
    size_t capacity;
    size_t count;
    bool probing;   /* gap blocks of the next SACK are wanted */
    bool quiet;     /* and the peer needs not see it, for another follows */
    bool truncated; /* there may be more above the highest of them, which is: */
    uint32_t known;
    size_t made;        /* that were handed over, of all time */
    uint16_t *next_ssn; /* of each stream, behind cumulative */
    size_t next_capacity;
    uint32_t *abandoned; /* first TSNs of messages that began in earnest and go on made up */
    size_t abandoned_count;
    size_t abandoned_capacity;
    /* The peer's last request to reset its outgoing streams (RFC 6525 §4.1), done when cumulative gets to reset_tsn. */
    bool reset_pending;
    bool reset_seen;
    uint32_t reset_request;
    uint32_t reset_tsn;
    uint16_t *reset_streams; /* none: all */
    size_t reset_count;
    uint8_t *copy; /* of a packet that is changed */
    size_t copy_capacity;
} dp_forward;

/* usrsctp: takes a packet at once, and its SACKs get to dp_forward_output before it returns. The packet is the
 * callee's to read until then. */
typedef void dp_forward_deliver(void *ctx, const uint8_t *packet, size_t len);

void dp_forward_init(dp_forward *forward, uint16_t streams, bool offers);
void dp_forward_clear(dp_forward *forward);
/* Gives back memory that only traffic needs. */
void dp_forward_shrink(dp_forward *forward);

/* A packet from the peer that has passed the filter; what usrsctp may see of it is delivered. NO_MEMORY; PROTOCOL:
 * a second FORWARD-TSN. As if the packet, or the rest of it, had been lost. */
int dp_forward_input(dp_forward *forward, const uint8_t *packet, size_t len, dp_forward_deliver *deliver,
                     void *ctx);
/* A packet that usrsctp sends. False: it need not leave. */
bool dp_forward_output(dp_forward *forward, const uint8_t *packet, size_t len);
/* A message, or a part of it, has come out of usrsctp: true if it must be dropped. tsn: of the message's first
 * chunk; complete: nothing more of it comes. */
bool dp_forward_drops(dp_forward *forward, uint32_t tsn, uint32_t ppid, bool complete);

#endif
