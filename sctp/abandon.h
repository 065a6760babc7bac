/* Messages that may be given up (RFC 3758, RFC 7496), where messages are interleaved. usrsctp 0.9.5.0 would give up with a
 * message whatever left between its fragments (docs/pitfalls.md). So it takes all of them for reliable, and repair.c, which
 * sends again what is lost, does not send these for ever: here is what it knows of them. */
#ifndef SCTP_ABANDON_H
#define SCTP_ABANDON_H

#include "base/wr.h"
#include "copies.h"

typedef struct dp_limited_message {
    uint16_t stream;
    bool unordered;
    bool begun; /* its first fragment has left: these are known */
    bool ended; /* and its last one */
    bool abandoned;
    uint32_t mid;
    uint32_t first, last; /* TSNs, as far as it has left */
    uint32_t retransmits; /* of a fragment, at most */
    dp_time expires;
} dp_limited_message;

/* Numbers of messages: 0 is none. */
typedef struct dp_abandon_stream {
    uint32_t handed; /* the one that usrsctp is being given */
    uint32_t leaves; /* the one whose fragments are leaving */
} dp_abandon_stream;

typedef struct dp_abandon {
    dp_limited_message *ring; /* in the order in which they were begun */
    size_t capacity;          /* a power of two */
    size_t count;
    uint32_t first; /* number of the oldest; it is at that modulo capacity */
    dp_abandon_stream *streams;
    size_t stream_capacity;
    uint32_t skipped;   /* chunks above the cumulative TSN that the peer lacks and does not get */
    uint32_t forwarded; /* it was told to skip up to this TSN, */
    uint32_t reached;   /* and would have been to this one, if there had been room */
    uint32_t acked;
    dp_time told;   /* when */
    unsigned tries; /* how often, without an answer */
} dp_abandon;

void dp_abandon_init(dp_abandon *abandon);
void dp_abandon_clear(dp_abandon *abandon);

/* Part of a message is about to be handed over. *number: the message's. NO_MEMORY. */
int dp_abandon_begin(dp_abandon *abandon, uint32_t *number, uint16_t stream, uint32_t retransmits,
                     dp_time expires);
/* usrsctp has taken nothing of the one that was begun last. */
void dp_abandon_take_back(dp_abandon *abandon, uint16_t stream);
/* All of the stream's message is handed over. */
void dp_abandon_end(dp_abandon *abandon, uint16_t stream);
/* NULL: it is reliable, or settled. */
dp_limited_message *dp_abandon_find(const dp_abandon *abandon, uint32_t number);
/* The PPID that usrsctp is given for the message. Those of data channels have 8 bits. */
uint32_t dp_abandon_ppid(uint32_t ppid, uint32_t number);

/* I-DATA leaves; its PPID becomes the real one. fresh: for the first time. Its message's number. */
uint32_t dp_abandon_output(dp_abandon *abandon, uint8_t *chunk, size_t len, bool fresh);
/* Forgets what the peer has acknowledged all of. */
void dp_abandon_settle(dp_abandon *abandon, uint32_t acked);
/* I-FORWARD-TSN (RFC 8260 §2.3) for the chunks that copies says are ABANDONED. It is due when the peer can skip more than it was told
 * to, or when it has not answered for long; wait: about a round trip. */
bool dp_abandon_is_due(const dp_abandon *abandon, dp_time now, dp_duration wait, const dp_copies *copies);
/* When it is to be told again. acked: the cumulative TSN. */
dp_time dp_abandon_next(const dp_abandon *abandon, dp_duration wait, uint32_t acked);
/* The chunk. Where there is no room for all, another is due when it is answered. */
void dp_abandon_write(dp_abandon *abandon, dp_wr *wr, dp_time now, const dp_copies *copies);

#endif
