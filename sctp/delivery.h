/* When usrsctp 0.9.5.0 may begin to give out a message whose end has not come ("partial delivery", sctp_indata.c). It
 * may do so with an ordered message. All unordered messages of a stream share one queue, sorted by TSN; if it has begun
 * to give out one of them, and the beginning of one with a lower TSN comes late, it ends the association ("Reass
 * 30000004"). So it must not begin while a TSN is missing below the beginning of an unordered message; until then what
 * such messages may hold is bounded. */
#ifndef SCTP_DELIVERY_H
#define SCTP_DELIVERY_H

#include <datapeer/base.h>

typedef struct dp_delivery {
    bool begun;       /* an unordered message of several chunks has begun */
    uint32_t first;   /* the highest TSN of such a beginning */
    bool known;       /* data has come */
    uint32_t highest; /* the highest TSN that has come */
    size_t run;       /* bytes since a message ended, or since none was missing */
    bool in_message;  /* the owner reads a message whose end has not come */
    bool unordered;   /* that message: */
    uint16_t stream;
    size_t others; /* chunks of other messages since then */
} dp_delivery;

/* A packet from the peer is about to go to usrsctp, which has acknowledged all up to cumulative. False: it has to be
 * lost, for a message could become longer than limit, where usrsctp begins in any case. */
bool dp_delivery_input(dp_delivery *delivery, const uint8_t *packet, size_t len, uint32_t cumulative,
                       size_t limit);
/* Whether usrsctp may begin to give out a message in part now. */
bool dp_delivery_safe(const dp_delivery *delivery, uint32_t cumulative);
/* The owner has read a piece. While it is in_message, usrsctp keeps back the chunks of others: a peer that sends one
 * message after the other has no more of them than what overtakes, others counts them. */
void dp_delivery_read(dp_delivery *delivery, uint16_t stream, bool unordered, bool complete);

#endif
