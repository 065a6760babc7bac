/* The peer connection's inside, shared by pc.c (the verbs) and description.c (offers and answers). */
#ifndef PEER_PC_H
#define PEER_PC_H

#include "base/log.h"
#include "base/mem.h"
#include "base/queue.h"
#include <datapeer/peer_connection.h>

/* What is remembered of an offer until it is answered, and of our own. */
typedef struct pc_description {
    dp_sdp_media media[DP_SDP_MAX_MEDIA];
    size_t media_count;
    size_t data_index;
    bool unbundled;
} pc_description;

/* W3C RTCSignalingState. After the first negotiation (dtls is not NULL then) it goes round again for each ICE
 * restart. */
typedef enum pc_negotiation {
    PC_NEGOTIATION_NONE,
    PC_HAVE_LOCAL_OFFER,
    PC_HAVE_REMOTE_OFFER,
    PC_NEGOTIATED,
} pc_negotiation;

/* An event that ICE gave while a description was written, kept for poll_event. */
typedef struct pc_kept_event {
    dp_pc_event event;
    char text[DP_ICE_HOST_MAX + 1]; /* what hostname or link.name point at */
} pc_kept_event;
enum { PC_KEPT_MAX = 64 };

struct dp_pc {
    dp_random random;
    dp_log log;
    const dp_certificate *certificate;
    bool pinned;
    dp_fingerprint pin; /* the only certificate that will do, if pinned */
    dp_key_log key_log;
    dp_ice *ice;
    dp_dtls *dtls; /* made once the role is known */
    dp_sctp *sctp;
    size_t max_message_size;
    uint64_t max_size_in_parts;

    pc_negotiation negotiation;
    pc_description description;
    bool dtls_client;
    bool dtls_started;
    dp_fingerprint remote_fingerprints[DP_SDP_MAX_FINGERPRINTS];
    size_t remote_fingerprint_count;
    uint16_t remote_sctp_port;
    uint64_t remote_max_message_size;
    dp_sdp_setup remote_setup;
    char remote_ufrag[DP_ICE_UFRAG_MAX +
                      1]; /* of the session under way: another one in an offer is a restart */
    char remote_pwd[DP_ICE_UFRAG_MAX + 1];
    bool gathered; /* dp_ice_gather was called */
    bool gathering_complete;
    bool restart_due; /* the next offer restarts ICE */
    bool ice_lite;
    size_t fixed_size; /* of datagrams; 0: the path MTU is searched */
    uint64_t session_id;
    uint64_t session_version; /* of our last description */
    dp_queue kept;            /* of pc_kept_event */
    pc_kept_event current;    /* the one that poll_event gave last */

    dp_pc_state state;
    dp_pc_state reported_state;
    dp_ice_state ice_state;
    bool closing; /* close was called: what is queued may still leave */
    bool dtls_close_queued;
    bool sctp_ended;
    bool ice_closed;
    int error;
    char message[512];

    uint64_t packets_sent;
    uint64_t packets_received;
    uint64_t bytes_sent;
    uint64_t bytes_received;
    uint32_t pair_changes;
};

/* Copies an error text for the FAILED event; the first one stays. */
void dp_pc_set_error(dp_pc *pc, int error, const char *message);
/* Turns an event of ICE into one of ours, after what the peer connection itself has to do about it. */
void dp_pc_take_ice_event(dp_pc *pc, dp_time now, dp_pc_event *out, const dp_ice_event *ice);
/* Builds the DTLS end once both descriptions are there. */
int dp_pc_prepare_dtls(dp_pc *pc);

#endif
