/* The peer connection's inside, shared by pc.c (the verbs) and description.c (offers and answers). */
#ifndef PEER_PC_H
#define PEER_PC_H

#include "base/log.h"
#include "base/mem.h"
#include <datapeer/peer_connection.h>

/* What is remembered of an offer until it is answered, and of our own. */
typedef struct pc_description {
    dp_sdp_media media[DP_SDP_MAX_MEDIA];
    size_t media_count;
    size_t data_index;
    bool unbundled;
} pc_description;

typedef enum pc_negotiation {
    PC_NEGOTIATION_NONE,
    PC_HAVE_LOCAL_OFFER,
    PC_HAVE_REMOTE_OFFER,
    PC_NEGOTIATED,
} pc_negotiation;

struct dp_pc {
    dp_random random;
    dp_log log;
    const dp_certificate *certificate;
    dp_ice *ice;
    dp_dtls *dtls; /* made once the role is known */
    dp_sctp *sctp;
    size_t max_message_size;

    pc_negotiation negotiation;
    pc_description description;
    bool offerer;
    bool dtls_client;
    bool dtls_started;
    dp_fingerprint remote_fingerprints[DP_SDP_MAX_FINGERPRINTS];
    size_t remote_fingerprint_count;
    uint16_t remote_sctp_port;
    uint64_t remote_max_message_size;
    dp_sdp_setup remote_setup;
    bool gathering_complete;

    /* Where DTLS goes while ICE has selected no pair: back to where it came from. */
    dp_address reply_local;
    dp_address reply_remote;

    dp_pc_state state;
    dp_pc_state reported_state;
    dp_ice_state ice_state;
    bool closing; /* close was called: what is queued may still leave */
    bool dtls_close_queued;
    bool sctp_ended;
    int error;
    char message[512];
};

/* Copies an error text for the FAILED event; the first one stays. */
void dp_pc_set_error(dp_pc *pc, int error, const char *message);
/* Builds the DTLS end once both descriptions are there. */
int dp_pc_prepare_dtls(dp_pc *pc, dp_time now);

#endif
