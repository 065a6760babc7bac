/* One allocation on a TURN server (RFC 8656): a sans-IO client of its own, one for each server and link. The agent
 * (relay.c) owns it. Bytes in are whole frames (frames.h); bytes out are whole datagrams or frames. */
#ifndef ICE_TURN_H
#define ICE_TURN_H

#include "base/log.h"
#include <datapeer/ice.h>

#define DP_TURN_MAX_PEERS   64 /* permissions (by IP) and, separately, channels (by IP and port) */
#define DP_TURN_MAX_RELAYED 2  /* one of each family (RFC 8656 §7.1, ADDITIONAL-ADDRESS-FAMILY) */

typedef struct dp_turn dp_turn;

typedef struct dp_turn_config {
    dp_random random;
    dp_log log;
    bool reliable;          /* TCP, TLS: nothing is retransmitted, ChannelData is padded */
    const char *username;   /* copied */
    const char *credential; /* copied */
    const char *software;   /* NULL: no SOFTWARE attribute */
} dp_turn_config;

typedef enum dp_turn_event_type {
    DP_TURN_EVENT_ALLOCATED,    /* relayed[count], mapped */
    DP_TURN_EVENT_REDIRECTED,   /* alternate: try the same there (300, RFC 8489 §10); this one is over */
    DP_TURN_EVENT_FAILED,       /* code (0: no answer), message: this one is over, also after ALLOCATED */
    DP_TURN_EVENT_PEER_REFUSED, /* peer: the server will not relay to this IP (403...) */
} dp_turn_event_type;

typedef struct dp_turn_event {
    dp_turn_event_type type;
    dp_address relayed[DP_TURN_MAX_RELAYED];
    size_t count;
    dp_address mapped; /* what the server sees of us; family NONE: not told */
    dp_address alternate;
    dp_address peer;
    unsigned code;
    const char *message; /* for the log; valid until the next call */
} dp_turn_event;

/* What a frame of the server held. */
typedef struct dp_turn_data {
    dp_address peer;
    uint8_t *data; /* inside the frame */
    size_t len;
} dp_turn_data;

/* NO_MEMORY, INVALID_ARGUMENT, CRYPTO. Nothing is sent before dp_turn_start. */
int dp_turn_new(dp_turn **out, const dp_turn_config *config);
void dp_turn_free(dp_turn *turn);
/* The link is connected: allocate. */
void dp_turn_start(dp_turn *turn, dp_time now);
/* One frame from the server. True: it held data of a peer that has a permission of ours. */
bool dp_turn_input(dp_turn *turn, dp_time now, uint8_t *frame, size_t len, dp_turn_data *out);
void dp_turn_handle_timeout(dp_turn *turn, dp_time now);
dp_time dp_turn_next_timeout(const dp_turn *turn);
/* The next frame to send into out->data; sets only out->length. */
bool dp_turn_poll_transmit(dp_turn *turn, dp_time now, dp_datagram *out);
bool dp_turn_poll_event(dp_turn *turn, dp_turn_event *event);

/* Wants to hear from peer's IP, and keeps it so: CreatePermission leaves at the next poll_transmit, refreshed every
 * 4 minutes. Again for a known one: nothing. With all places taken the oldest without a channel ends. LIMIT. */
int dp_turn_permit(dp_turn *turn, dp_time now, const dp_address *peer);
/* Binds a channel to peer (ChannelBind, refreshed): its data then costs 4 bytes instead of 36 to 52. A permission is
 * implied. LIMIT: stays with Send indications. */
int dp_turn_bind(dp_turn *turn, dp_time now, const dp_address *peer);
/* Bytes that dp_turn_wrap puts in front of data for peer: 4 with a bound channel, else a Send indication's. */
size_t dp_turn_headroom(const dp_turn *turn, const dp_address *peer);
/* out->data[headroom .. headroom + out->length) is for peer: writes the framing around it and sets out->length to
 * the whole (padding included, where a stream or STUN needs it). False, length 0: no room or no randomness. */
bool dp_turn_wrap(dp_turn *turn, const dp_address *peer, dp_datagram *out, size_t headroom);
/* Nothing comes through any more: asks the server now, by a Refresh, whether the allocation is still there. FAILED
 * follows if it says no (437: it was restarted, or our address changed on the way). */
void dp_turn_probe(dp_turn *turn, dp_time now);
/* Gives the allocation back (Refresh with lifetime 0): the frame leaves at the next poll_transmit, nothing after it. */
void dp_turn_release(dp_turn *turn, dp_time now);

#endif
