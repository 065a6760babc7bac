/* Offers and answers: what the transports need is put into a session description and taken out of one. */
#include "peer/pc.h"

#include "base/crypto.h"
#include <stdio.h>
#include <string.h>

static const char layer[] = "pc";

/* Host candidates are known at once; they travel in the description. */
typedef struct known_candidates {
    char lines[DP_SDP_MAX_CANDIDATES][DP_CANDIDATE_TEXT_MAX];
    size_t count;
} known_candidates;

static void take_known_candidates(dp_pc *pc, known_candidates *known)
{
    dp_ice_event event;
    /* Before checks can run, gathering is all that makes events; a state event would be NEW's. */
    while (known->count < DP_SDP_MAX_CANDIDATES && dp_ice_poll_event(pc->ice, &event)) {
        if (event.type == DP_ICE_EVENT_LOCAL_CANDIDATE)
            snprintf(known->lines[known->count++], DP_CANDIDATE_TEXT_MAX, "%s", event.candidate);
        else if (event.type == DP_ICE_EVENT_GATHERING_COMPLETE)
            pc->gathering_complete = true;
        else if (event.type == DP_ICE_EVENT_STATE)
            pc->ice_state = event.state;
    }
}

static int fill_local(dp_pc *pc, dp_sdp *sdp, known_candidates *known, dp_sdp_setup setup)
{
    int error = dp_random_bytes(&pc->random, &sdp->session_id, sizeof(sdp->session_id));
    if (error != DP_OK)
        return error;
    sdp->session_id >>= 1; /* RFC 8829 §5.2.1: 63 bits */
    sdp->session_version = 2;
    snprintf(sdp->ufrag, sizeof(sdp->ufrag), "%s", dp_ice_local_ufrag(pc->ice));
    snprintf(sdp->pwd, sizeof(sdp->pwd), "%s", dp_ice_local_pwd(pc->ice));
    sdp->trickle = true;
    sdp->setup = setup;
    dp_certificate_fingerprint(pc->certificate, &sdp->fingerprints[0]);
    sdp->fingerprint_count = 1;
    sdp->sctp_port = 5000;
    sdp->max_message_size = pc->max_message_size;
    memcpy(sdp->media, pc->description.media, sizeof(sdp->media));
    sdp->media_count = pc->description.media_count;
    sdp->data_index = pc->description.data_index;
    sdp->unbundled = pc->description.unbundled;
    sdp->end_of_candidates = pc->gathering_complete;
    for (size_t i = 0; i < known->count; i++) {
        sdp->candidates[i].at = known->lines[i];
        sdp->candidates[i].len = strlen(known->lines[i]);
    }
    sdp->candidate_count = known->count;
    return DP_OK;
}

static int write_local(dp_pc *pc, dp_time now, dp_sdp_setup setup, char *out, size_t capacity, size_t *len)
{
    dp_sdp *sdp = dp_calloc(1, sizeof(*sdp));
    known_candidates *known = dp_calloc(1, sizeof(*known));
    int error = sdp == NULL || known == NULL ? DP_ERR_NO_MEMORY : dp_ice_gather(pc->ice, now);
    if (error == DP_OK) {
        take_known_candidates(pc, known);
        error = fill_local(pc, sdp, known, setup);
    }
    if (error == DP_OK)
        error = dp_sdp_write(sdp, out, capacity, len);
    dp_free(known);
    dp_free(sdp);
    return error;
}

int dp_pc_create_offer(dp_pc *pc, dp_time now, char *out, size_t capacity, size_t *len)
{
    if (pc->negotiation != PC_NEGOTIATION_NONE || pc->state != DP_PC_NEW)
        return DP_ERR_INVALID_STATE;
    dp_sdp_media *media = &pc->description.media[0];
    *media = (dp_sdp_media){
        .kind = "application", .protocol = "UDP/DTLS/SCTP", .format = "webrtc-datachannel", .mid = "0"};
    pc->description.media_count = 1;
    pc->description.data_index = 0;
    pc->offerer = true;
    dp_ice_set_role(pc->ice, DP_ICE_CONTROLLING); /* RFC 8445 §6.1.1 */
    int error = write_local(pc, now, DP_SETUP_ACTPASS, out, capacity, len);
    if (error == DP_OK)
        pc->negotiation = PC_HAVE_LOCAL_OFFER;
    return error;
}

int dp_pc_create_answer(dp_pc *pc, dp_time now, char *out, size_t capacity, size_t *len)
{
    if (pc->negotiation != PC_HAVE_REMOTE_OFFER)
        return DP_ERR_INVALID_STATE;
    /* RFC 8842 §5.3: actpass is answered with active, which saves a round trip; an active offer leaves
     * passive. */
    pc->dtls_client = pc->remote_setup != DP_SETUP_ACTIVE;
    int error =
        write_local(pc, now, pc->dtls_client ? DP_SETUP_ACTIVE : DP_SETUP_PASSIVE, out, capacity, len);
    if (error == DP_OK)
        error = dp_pc_prepare_dtls(pc, now);
    if (error == DP_OK)
        pc->negotiation = PC_NEGOTIATED;
    return error;
}

int dp_pc_prepare_dtls(dp_pc *pc, dp_time now)
{
    (void)now;
    dp_dtls_config config = {.size = sizeof(config),
                             .random = pc->random,
                             .log = pc->log,
                             .role = pc->dtls_client ? DP_DTLS_CLIENT : DP_DTLS_SERVER,
                             .certificate = pc->certificate};
    int error = dp_dtls_new(&pc->dtls, &config);
    if (error == DP_OK)
        error =
            dp_dtls_set_remote_fingerprints(pc->dtls, pc->remote_fingerprints, pc->remote_fingerprint_count);
    return error;
}

static int refuse(dp_sdp_error *error, const char *message)
{
    error->line = 0;
    snprintf(error->message, sizeof(error->message), "%s", message);
    return DP_ERR_PROTOCOL;
}

/* Checks what only both descriptions together can show. */
static int check_remote(dp_pc *pc, dp_sdp_type type, const dp_sdp *sdp, dp_sdp_error *error)
{
    if (type == DP_SDP_OFFER)
        return sdp->setup == DP_SETUP_PASSIVE || sdp->setup == DP_SETUP_ACTIVE ||
                       sdp->setup == DP_SETUP_ACTPASS || sdp->setup == DP_SETUP_NONE
                   ? DP_OK
                   : refuse(error, "the offer's a=setup is unknown");
    if (sdp->setup == DP_SETUP_ACTPASS)
        return refuse(error, "an answer must choose a=setup:active or passive (RFC 8842 section 5.3)");
    const dp_sdp_media *media = &sdp->media[sdp->data_index];
    if (media->rejected)
        return refuse(error, "the answer rejects the data channels (port 0)");
    if (sdp->media_count != pc->description.media_count || sdp->data_index != pc->description.data_index)
        return refuse(error, "the answer's m-lines are not those of the offer");
    return DP_OK;
}

static void adopt_remote(dp_pc *pc, dp_sdp_type type, const dp_sdp *sdp)
{
    memcpy(pc->remote_fingerprints, sdp->fingerprints, sizeof(pc->remote_fingerprints));
    pc->remote_fingerprint_count = sdp->fingerprint_count;
    pc->remote_sctp_port = sdp->sctp_port;
    pc->remote_max_message_size = sdp->max_message_size;
    pc->remote_setup = sdp->setup;
    if (type == DP_SDP_OFFER) {
        memcpy(pc->description.media, sdp->media, sizeof(pc->description.media));
        pc->description.media_count = sdp->media_count;
        pc->description.data_index = sdp->data_index;
        pc->description.unbundled = sdp->unbundled;
        dp_ice_set_role(pc->ice, sdp->ice_lite ? DP_ICE_CONTROLLING : DP_ICE_CONTROLLED);
    } else {
        /* RFC 4145 §4: an answer without a=setup means active. */
        pc->dtls_client = sdp->setup == DP_SETUP_PASSIVE;
    }
}

static int apply_remote(dp_pc *pc, dp_time now, dp_sdp_type type, const dp_sdp *sdp)
{
    adopt_remote(pc, type, sdp);
    int error = dp_ice_set_remote_credentials(pc->ice, now, sdp->ufrag, sdp->pwd);
    if (error == DP_OK && type == DP_SDP_ANSWER)
        error = dp_pc_prepare_dtls(pc, now);
    if (error != DP_OK)
        return error;
    pc->negotiation = type == DP_SDP_OFFER ? PC_HAVE_REMOTE_OFFER : PC_NEGOTIATED;
    for (size_t i = 0; i < sdp->candidate_count; i++) {
        char line[DP_CANDIDATE_TEXT_MAX];
        if (sdp->candidates[i].len >= sizeof(line))
            continue;
        memcpy(line, sdp->candidates[i].at, sdp->candidates[i].len);
        line[sdp->candidates[i].len] = '\0';
        if (dp_ice_add_remote_candidate(pc->ice, now, line) != DP_OK)
            DP_LOG(&pc->log, DP_LOG_WARN, layer, "ignored a candidate of the description that can't be read");
    }
    if (sdp->end_of_candidates)
        error = dp_ice_add_remote_candidate(pc->ice, now, NULL);
    return error;
}

int dp_pc_set_remote_description(dp_pc *pc, dp_time now, dp_sdp_type type, const char *text, size_t len,
                                 dp_sdp_error *error)
{
    dp_sdp_error ignored;
    if (error == NULL)
        error = &ignored;
    memset(error, 0, sizeof(*error));
    if (pc->negotiation != (type == DP_SDP_OFFER ? PC_NEGOTIATION_NONE : PC_HAVE_LOCAL_OFFER) ||
        pc->closing) {
        refuse(error, type == DP_SDP_OFFER ? "there is a description already"
                                           : "no offer of ours waits for an answer");
        return DP_ERR_INVALID_STATE;
    }
    dp_sdp *sdp = dp_calloc(1, sizeof(*sdp));
    if (sdp == NULL)
        return DP_ERR_NO_MEMORY;
    int result = dp_sdp_parse(sdp, error, text, len);
    if (result == DP_OK)
        result = check_remote(pc, type, sdp, error);
    if (result == DP_OK)
        result = apply_remote(pc, now, type, sdp);
    dp_free(sdp);
    return result;
}

int dp_pc_add_remote_candidate(dp_pc *pc, dp_time now, const char *candidate)
{
    if (pc->negotiation != PC_HAVE_REMOTE_OFFER && pc->negotiation != PC_NEGOTIATED)
        return DP_ERR_INVALID_STATE;
    return dp_ice_add_remote_candidate(pc->ice, now, candidate);
}

uint64_t dp_pc_remote_max_message_size(const dp_pc *pc) { return pc->remote_max_message_size; }

const char *dp_pc_mid(const dp_pc *pc) { return pc->description.media[pc->description.data_index].mid; }

unsigned dp_pc_mline_index(const dp_pc *pc) { return (unsigned)pc->description.data_index; }

const char *dp_pc_local_ufrag(const dp_pc *pc) { return dp_ice_local_ufrag(pc->ice); }
