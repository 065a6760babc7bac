/* How much usrsctp's sender may hold. What is handed to it leaves in that order, so whatever waits there delays a small
 * message that comes later; and its slow start ends only with losses, as many as the queue of the narrowest link has room
 * for, from which it takes seconds to recover (sctp/README.md). Both are seen from the packets on their way out and the
 * SACKs on their way in. */
#ifndef SCTP_SENDER_H
#define SCTP_SENDER_H

#include <datapeer/base.h>

#define DP_SENDER_SAMPLES 32u
#define DP_SENDER_RECENT  8u

typedef struct dp_sender {
    bool begun;
    uint32_t sent_tsn; /* the highest that has left */
    uint64_t chunks_sent;
    uint64_t chunks_retransmitted; /* among them */
    uint32_t acked_tsn;            /* the cumulative one */
    size_t largest;                /* payload of a chunk so far */
    size_t unsent;                 /* bytes that usrsctp has and has not sent, at most */
    dp_time progress;              /* something has left or was acknowledged */
    /* Chunks under way whose round trip is timed. */
    struct {
        uint32_t tsn;
        uint32_t in_flight; /* with it */
        dp_time sent;
    } samples[DP_SENDER_SAMPLES];
    size_t first_sample, sample_count;
    dp_duration unloaded; /* round trip of the path without data, as far as it is known */
    dp_duration least;    /* round trip of all time */
    dp_duration recent[DP_SENDER_RECENT];
    size_t recent_count; /* of all time */
    uint32_t round_end;  /* TSN */
    bool slow_start;
    uint32_t window; /* chunks that may be under way */
    uint32_t most;   /* that were when losses were last taken for congestion */
    uint32_t step;   /* growth in the next round above that */
    /* The losses of a period: a round, or MANY chunks. */
    uint64_t lost, delivered; /* before it */
    uint32_t period_end;      /* TSN */
    bool recovering;          /* what was sent before the window was reduced does not count */
    /* usrsctp's last FORWARD-TSN as a packet, until it is acknowledged. */
    uint8_t *forward;
    size_t forward_len, forward_capacity;
    uint32_t forward_tsn;
    dp_time forward_sent;
    bool forward_held; /* it has waited */
} dp_sender;

void dp_sender_init(dp_sender *sender);
void dp_sender_clear(dp_sender *sender);
/* A packet leaves. */
void dp_sender_output(dp_sender *sender, dp_time now, const uint8_t *packet, size_t len);
/* A packet that has passed the filter arrives, and usrsctp sees it next. Returns how many chunks it
 * brings of which something may wait for the owner: DATA and FORWARD-TSN. */
size_t dp_sender_input(dp_sender *sender, dp_time now, const uint8_t *packet, size_t len);
/* Bytes are about to be handed over; so many were not. */
void dp_sender_hand_over(dp_sender *sender, size_t len);
void dp_sender_take_back(dp_sender *sender, size_t len);
/* How many bytes may be handed over now. outstanding: chunks that the peer lacks. */
size_t dp_sender_room(dp_sender *sender, dp_time now, uint32_t outstanding);
/* How many more chunks may be under way. */
uint32_t dp_sender_spare(const dp_sender *sender, uint32_t under_way);
/* What has become of chunks, of all time. */
void dp_sender_report(dp_sender *sender, uint64_t lost, uint64_t delivered, uint32_t outstanding);
/* The round trips of before tell nothing any more. round_trip: one that was measured without data, 0: none. */
void dp_sender_path_changed(dp_sender *sender, dp_duration round_trip);
/* Nothing has come back for a long time. */
void dp_sender_stalled(dp_sender *sender);
/* usrsctp does not repeat a FORWARD-TSN that is lost, unless new data is sent: true if it is time for it. held: it must
 * not leave now, but as soon as it may. The packet is valid until the next call. */
bool dp_sender_repeats(dp_sender *sender, dp_time now, bool held, const uint8_t **packet, size_t *len);
/* Chunks that usrsctp has sent and that it does not know to be acknowledged up to the cumulative TSN. */
uint32_t dp_sender_in_flight(const dp_sender *sender);

#endif
