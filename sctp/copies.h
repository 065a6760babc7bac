/* What is known of each TSN from the peer's cumulative one upwards, and a copy of its DATA chunk where there is one. Two
 * rings: one of slots, the slot of TSN t at t modulo the capacity, and one of bytes. */
#ifndef SCTP_COPIES_H
#define SCTP_COPIES_H

#include <datapeer/base.h>

#define DP_COPIES_SLOTS_MAX 8192u /* usrsctp's own limit is 4096, of which what it is told may be ahead */

enum {
    DP_COPY_SENT = 1,       /* the slot tells something */
    DP_COPY_LIMITED = 2,    /* of a message that may be given up */
    DP_COPY_ACKED = 4,      /* the peer has it, though it lies above the cumulative TSN */
    DP_COPY_OWNED = 8,      /* the peer lacks it, and usrsctp is told otherwise */
    DP_COPY_LOST = 16,      /* waits for its retransmission */
    DP_COPY_REPEATED = 32,  /* was sent more than once */
    DP_COPY_ARRIVED = 64,   /* the peer has had it, perhaps before it took that back */
    DP_COPY_ABANDONED = 128 /* the peer is to skip it */
};

typedef struct dp_copy {
    dp_time sent;        /* for the last time */
    uint32_t order;      /* number of the packet that it left in last */
    uint32_t at;         /* of its copy */
    uint32_t prev, next; /* TSNs: its neighbours in a list */
    uint32_t skip;       /* if ACKED: a higher TSN, all before which are as well */
    uint32_t message;    /* that it belongs to, if that may be given up: see abandon.h */
    uint16_t len;        /* of its copy, padding included; 0: there is none */
    uint16_t repeats;    /* how often, 65,535 at most: W3C's maxRetransmits is no larger */
    uint8_t flags;
} dp_copy;

typedef struct dp_copies {
    uint32_t acked; /* the cumulative TSN */
    dp_copy *slots;
    uint32_t capacity; /* a power of two */
    uint8_t *bytes;
    uint32_t bytes_capacity, bytes_max;
    uint32_t first, end; /* where the oldest copy is, where the next one goes */
    uint32_t held;       /* bytes, gaps at the ring's end included */
} dp_copies;

void dp_copies_init(dp_copies *copies, size_t bytes_max);
/* Gives all memory back; the cumulative TSN stays. */
void dp_copies_clear(dp_copies *copies);
/* NULL: outside the ring. What was never put has no flags. */
dp_copy *dp_copies_find(const dp_copies *copies, uint32_t tsn);
/* Room for slots up to this TSN. False: there is none. */
bool dp_copies_reserve(dp_copies *copies, uint32_t tsn);
/* Keeps the chunk, whose slot must be there and whose TSN be the highest; its len stays 0 without room. */
void dp_copies_put(dp_copies *copies, uint32_t tsn, const uint8_t *chunk, size_t len);
const uint8_t *dp_copies_chunk(const dp_copies *copies, const dp_copy *copy);
/* The cumulative TSN moves up by one. */
void dp_copies_advance(dp_copies *copies);
/* From this TSN on, the next one that is not ACKED. */
uint32_t dp_copies_missing(const dp_copies *copies, uint32_t tsn);

#endif
