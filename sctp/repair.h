/* Repairs losses between usrsctp and the wire. usrsctp halves its window at each loss, so at 1 % of a link with 100 ms it
 * comes to a hundredth of the rate (sctp/README.md). So it gets to see none that can be mended here: we keep a copy of each
 * DATA chunk that leaves, read the peer's SACKs, send again what is lost, and change the SACK that usrsctp sees such that it
 * says that the peer has it. What losses mean for how much may be under way is decided by sender.c.
 *
 * Losses are found in the manner of RACK-TLP (RFC 8985): what was sent earlier than what has arrived is lost, also if it was
 * a retransmission; when nothing arrives, a probe is sent. */
#ifndef SCTP_REPAIR_H
#define SCTP_REPAIR_H

#include "abandon.h"
#include "copies.h"

typedef struct dp_repair_list {
    uint32_t head, tail; /* TSNs */
    uint32_t count;
} dp_repair_list;

typedef struct dp_repair {
    bool begun;    /* DATA has left */
    bool answered; /* and a SACK has come: the association is up at the peer */
    bool failed;   /* the peer has not taken for too long what usrsctp believes it has */
    uint32_t sent_tsn;
    uint32_t told;    /* the cumulative TSN that usrsctp is told */
    uint32_t highest; /* TSN that is ACKED */
    dp_copies copies;
    dp_repair_list flight; /* what may be owned and is under way, in the order in which it left */
    dp_repair_list lost;
    uint32_t owned;
    uint32_t gap_acked; /* above the cumulative TSN */
    dp_abandon abandon;
    /* Packets are counted as they leave. */
    uint32_t order;
    uint32_t newest;  /* of those that have arrived */
    uint32_t reorder; /* one that left so much later shows that an earlier one is lost */
    bool measured;
    dp_duration least, smoothed, variation; /* round trips */
    dp_time base;                           /* of the timer */
    dp_time verdict; /* when it is known whether the oldest is lost; NEVER: when more has arrived */
    dp_time heard;   /* something has arrived, or the peer has no room */
    unsigned backoff;
    unsigned tries; /* how often the timer has expired without an answer */
    bool probing;   /* one packet is due, whatever the window says */
    /* Chunks, of all time. */
    uint64_t found_lost, delivered, repeated;
    uint32_t credit;   /* so many more may be sent again */
    uint8_t header[8]; /* ports and tag */
    uint8_t *limited;  /* a bit for each stream that has had messages which may be given up */
    size_t limited_capacity;
    uint8_t *shown; /* the packet that usrsctp is to see */
    size_t shown_capacity;
    uint8_t *packet; /* that leaves */
    size_t packet_capacity;
} dp_repair;

void dp_repair_init(dp_repair *repair, size_t bytes_max);
void dp_repair_clear(dp_repair *repair);
/* Gives back memory that only traffic needs. */
void dp_repair_shrink(dp_repair *repair);
/* Messages of this stream may be given up from now on (RFC 3758): usrsctp looks after their losses. NO_MEMORY. */
int dp_repair_limit(dp_repair *repair, uint16_t stream);

/* usrsctp sends a packet. *len becomes what is to leave of it: the chunks of messages that were given up are not. */
void dp_repair_output(dp_repair *repair, dp_time now, uint8_t *packet, size_t *len);
/* A packet arrives. *packet and *len become what usrsctp is to see: valid until the next call. False: it is to be lost, for
 * lack of memory. */
bool dp_repair_input(dp_repair *repair, dp_time now, const uint8_t **packet, size_t *len);
/* The peer lacks something up to this TSN that usrsctp believes it has: whatever makes it pass that TSN must wait. */
bool dp_repair_holds(const dp_repair *repair, uint32_t tsn);
/* *rest: what may leave of a packet with a FORWARD-TSN that must wait, to be freed, and *len its length; NULL: all may.
 * NO_MEMORY: nothing may. */
int dp_repair_hold_forward(const dp_repair *repair, uint8_t **rest, const uint8_t *packet, size_t *len);

/* I-FORWARD-TSN (RFC 8260 §2.3) for what was given up, when it is time for one. The packet is valid until the next call, its
 * checksum not written. */
bool dp_repair_poll_forward(dp_repair *repair, dp_time now, size_t mtu, const uint8_t **packet, size_t *len);
/* usrsctp believes that the peer has what it lacks. */
bool dp_repair_is_ahead(const dp_repair *repair);

dp_time dp_repair_next_timeout(const dp_repair *repair);
void dp_repair_handle_timeout(dp_repair *repair, dp_time now);
/* Chunks that have left and that the peer lacks; the second without those that wait for their retransmission. */
uint32_t dp_repair_outstanding(const dp_repair *repair);
uint32_t dp_repair_in_flight(const dp_repair *repair);
/* The next retransmission: false if there is none, or no room for it. room: chunks; *len: at most mtu, unless a chunk alone
 * is longer. The packet is valid until the next call, its checksum not written. */
bool dp_repair_poll(dp_repair *repair, dp_time now, uint32_t room, size_t mtu, const uint8_t **packet,
                    size_t *len);

#endif
