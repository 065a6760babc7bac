/* The receiving side of message interleaving (RFC 8260). usrsctp's own reassembly has a queue for each message that has
 * begun, without a bound, and its I-FORWARD-TSN is as unsafe as its FORWARD-TSN (docs/pitfalls.md). So usrsctp gets to see
 * each I-DATA chunk as a whole, unordered message of its own (forward.c), which it gives out at once; here the messages are
 * put together.
 *
 * A message is given out piece by piece as soon as it is its turn: at once if it is unordered, else when all before it on
 * its stream are out. What comes too early is kept. */
#ifndef SCTP_INTERLEAVING_H
#define SCTP_INTERLEAVING_H

#include "association.h"
#include "base/rd.h"
#include "base/table.h"

/* A chunk's flags do not come out of usrsctp: so the PPID that it sees has them, above 28 bits of the PPID or the fragment's
 * number. */
#define DP_INTERLEAVING_FLAGS_AT 28u
#define DP_INTERLEAVING_REAL     8u          /* it has come from the peer, and was not made up by forward.c */
#define DP_INTERLEAVING_VALUE    0x0fffffffu /* this one: it was higher */

#define DP_INTERLEAVING_PENDING 8192u

typedef struct dp_interleaved_stream {
    uint16_t next;                  /* MID of the next ordered message */
    uint16_t past;                  /* unordered messages before this one were given up */
    bool wiped;                     /* was reset: all of it goes with the next sweep */
    struct dp_interleaved *parting; /* is given out in parts, and all others of the stream wait */
} dp_interleaved_stream;

/* A message that has begun to arrive, and whose last piece was not given out. */
typedef struct dp_interleaved {
    struct dp_interleaved *next; /* in the list of those that can go on */
    uint16_t stream, mid;
    bool unordered;
    bool begun;     /* its first fragment has come, and with it: */
    bool live;      /* it is being given out */
    bool listed;    /* in that list */
    bool abandoned; /* the owner is to learn it */
    bool ends;      /* its last fragment has come */
    uint32_t end;   /* the highest number that has come */
    uint32_t ppid;
    uint64_t given; /* bytes */
    uint32_t fsn;   /* the next one to be given out */
    uint32_t kept;  /* fragments */
    size_t bytes;   /* in them */
} dp_interleaved;

/* What the peer has given up, until all that came before it is read. */
typedef struct dp_interleaving_skip {
    uint32_t to; /* the new cumulative TSN */
    uint16_t stream, mid;
    bool unordered;
} dp_interleaving_skip;

typedef struct dp_interleaving {
    uint16_t stream_limit; /* there are none from here on */
    size_t message_max;    /* longer ones are given out in parts */
    size_t limit;          /* of held */
    dp_interleaved_stream *streams;
    size_t stream_capacity;
    dp_table messages;
    dp_table fragments; /* that are kept */
    size_t live;        /* messages */
    size_t held;        /* bytes of what is kept, with what it costs */
    dp_interleaved *head, *tail;
    dp_interleaving_skip *skips;
    size_t skip_count, skip_capacity;
    bool noted, skipped; /* some have come, and some took effect; up to these TSNs: */
    uint32_t noted_to, skipped_to;
    bool noted_before; /* and before the last that has come */
    uint32_t noted_to_before;
    /* A chunk that is larger than the owner's buffer: the message that its rest belongs to. */
    bool split;
    struct dp_fragment *split_kept; /* NULL: it is given out, */
    bool split_dropped;             /* or dropped */
    dp_association_event split_event;
} dp_interleaving;

void dp_interleaving_init(dp_interleaving *interleaving, uint16_t stream_limit, size_t message_max,
                          size_t limit);
void dp_interleaving_clear(dp_interleaving *interleaving);
/* Gives back memory that only traffic needs. */
void dp_interleaving_shrink(dp_interleaving *interleaving);

/* A fragment has come out of usrsctp as a DATA event: its type becomes IGNORED if it is kept or dropped, else the event
 * tells of the next piece of a message. NO_MEMORY; LIMIT: the peer begins more than can be kept. In both cases the
 * association cannot go on. */
int dp_interleaving_input(dp_interleaving *interleaving, dp_association_event *event, const uint8_t *data);
/* The next piece of what was kept, or that a message was given up: false if nothing can go on. */
bool dp_interleaving_give(dp_interleaving *interleaving, dp_association_event *event, uint8_t *buffer,
                          size_t capacity);
bool dp_interleaving_ready(const dp_interleaving *interleaving);

/* I-FORWARD-TSN (RFC 8260 §2.3.1) behind its header. It takes effect when a chunk was read that forward.c has made up for
 * it, or all that usrsctp has was. *noted: it is news. NO_MEMORY; LIMIT: nothing is read, and too many wait. As if it had
 * been lost. */
int dp_interleaving_forward(dp_interleaving *interleaving, bool *noted, dp_rd body);
/* Nothing was made up for the last one: all that it speaks of has come, or there was no memory. */
void dp_interleaving_take_back(dp_interleaving *interleaving);
void dp_interleaving_made_up(dp_interleaving *interleaving, uint32_t tsn);
void dp_interleaving_all_read(dp_interleaving *interleaving);
/* The peer has reset its stream; or all. The owner knows, so it is not told of messages that have begun. */
void dp_interleaving_reset(dp_interleaving *interleaving, uint16_t stream);
void dp_interleaving_reset_all(dp_interleaving *interleaving);

#endif
