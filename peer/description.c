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

/* An event that the owner is to see later. */
static void keep_event(dp_pc *pc, const dp_pc_event *event)
{
    const char *text = event->hostname != NULL ? event->hostname : event->link.name;
    pc_kept_event *kept = dp_queue_push(&pc->kept);
    if (kept == NULL) {
        DP_LOG(&pc->log, DP_LOG_WARN, layer, "an event of ICE is lost: no memory");
        return;
    }
    kept->event = *event;
    snprintf(kept->text, sizeof(kept->text), "%s", text != NULL ? text : "");
}

static void take_known_candidates(dp_pc *pc, dp_time now, known_candidates *known)
{
    dp_ice_event ice;
    while (known->count < DP_SDP_MAX_CANDIDATES && dp_ice_poll_event(pc->ice, &ice)) {
        dp_pc_event event;
        dp_pc_take_ice_event(pc, now, &event, &ice);
        if (event.type != DP_PC_EVENT_LOCAL_CANDIDATE) {
            keep_event(pc, &event);
            continue;
        }
        snprintf(known->lines[known->count++], DP_CANDIDATE_TEXT_MAX, "%s", event.candidate);
        event.type = DP_PC_EVENT_PUBLISH;
        event.candidate = NULL;
        if (event.hostname != NULL)
            keep_event(pc, &event);
    }
}

/* RFC 8829 §5.2.2: the session's id stays, and each description of ours has the next version. */
static int name_session(dp_pc *pc, dp_sdp *sdp)
{
    if (pc->session_version == 0) {
        int error = dp_random_bytes(&pc->random, &pc->session_id, sizeof(pc->session_id));
        if (error != DP_OK)
            return error;
        pc->session_id >>= 1; /* RFC 8829 §5.2.1: 63 bits */
        pc->session_version = 1;
    }
    sdp->session_id = pc->session_id;
    sdp->session_version = ++pc->session_version;
    return DP_OK;
}

static int fill_local(dp_pc *pc, dp_sdp *sdp, known_candidates *known, dp_sdp_setup setup)
{
    int error = name_session(pc, sdp);
    if (error != DP_OK)
        return error;
    snprintf(sdp->ufrag, sizeof(sdp->ufrag), "%s", dp_ice_local_ufrag(pc->ice));
    snprintf(sdp->pwd, sizeof(sdp->pwd), "%s", dp_ice_local_pwd(pc->ice));
    sdp->ice_lite = pc->ice_lite;
    sdp->trickle = true;
    sdp->setup = setup;
    dp_certificate_fingerprint(pc->certificate, &sdp->fingerprints[0]);
    sdp->fingerprint_count = 1;
    sdp->sctp_port = 5000;
    sdp->max_message_size = pc->max_message_size;
    if (pc->max_size_in_parts > 0) /* RFC 8841 §6: 0 is no limit */
        sdp->max_message_size = pc->max_size_in_parts == DP_UNLIMITED ? 0 : pc->max_size_in_parts;
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

/* Once; an ICE restart gathers by itself. */
static int gather(dp_pc *pc, dp_time now)
{
    if (pc->gathered)
        return DP_OK;
    int error = dp_ice_gather(pc->ice, now);
    pc->gathered = error == DP_OK;
    return error;
}

static int restart(dp_pc *pc, dp_time now)
{
    int error = dp_ice_restart(pc->ice, now);
    if (error == DP_OK)
        pc->gathering_complete = false;
    return error;
}

static int write_local(dp_pc *pc, dp_time now, dp_sdp_setup setup, char *out, size_t capacity, size_t *len)
{
    dp_sdp *sdp = dp_calloc(1, sizeof(*sdp));
    known_candidates *known = dp_calloc(1, sizeof(*known));
    int error = sdp == NULL || known == NULL ? DP_ERR_NO_MEMORY : gather(pc, now);
    if (error == DP_OK) {
        take_known_candidates(pc, now, known);
        error = fill_local(pc, sdp, known, setup);
    }
    if (error == DP_OK)
        error = dp_sdp_write(sdp, out, capacity, len);
    dp_free(known);
    dp_free(sdp);
    return error;
}

/* ---- our descriptions ---- */

/* From here on ICE, DTLS and SCTP are set up, and only ICE can be negotiated anew. */
static bool was_negotiated(const dp_pc *pc) { return pc->dtls != NULL; }

static bool is_over(const dp_pc *pc)
{
    return pc->closing || pc->state == DP_PC_FAILED || pc->state == DP_PC_CLOSED;
}

int dp_pc_restart_ice(dp_pc *pc)
{
    if (!was_negotiated(pc) || is_over(pc))
        return DP_ERR_INVALID_STATE;
    pc->restart_due = true;
    return DP_OK;
}

static void begin_offer(dp_pc *pc)
{
    dp_sdp_media *media = &pc->description.media[0];
    *media = (dp_sdp_media){
        .kind = "application", .protocol = "UDP/DTLS/SCTP", .format = "webrtc-datachannel", .mid = "0"};
    pc->description.media_count = 1;
    pc->description.data_index = 0;
    dp_ice_set_role(pc->ice, DP_ICE_CONTROLLING); /* RFC 8445 §6.1.1 */
}

int dp_pc_create_offer(dp_pc *pc, dp_time now, char *out, size_t capacity, size_t *len)
{
    bool first = pc->negotiation == PC_NEGOTIATION_NONE && pc->state == DP_PC_NEW;
    /* While one of ours waits, too: its answer may have been lost, and the new one takes its place. */
    bool again = pc->restart_due && !is_over(pc) && pc->negotiation != PC_HAVE_REMOTE_OFFER;
    if (!first && !again)
        return DP_ERR_INVALID_STATE;
    int error = DP_OK;
    if (first)
        begin_offer(pc);
    else
        error = restart(pc, now); /* the roles stay, RFC 8445 §6.1.1 */
    if (error == DP_OK) /* RFC 8842 §5.2: actpass in later offers, too; the answer keeps the roles */
        error = write_local(pc, now, DP_SETUP_ACTPASS, out, capacity, len);
    if (error == DP_OK) {
        pc->negotiation = PC_HAVE_LOCAL_OFFER;
        pc->restart_due = false;
    }
    return error;
}

int dp_pc_create_answer(dp_pc *pc, dp_time now, char *out, size_t capacity, size_t *len)
{
    if (pc->negotiation != PC_HAVE_REMOTE_OFFER || is_over(pc))
        return DP_ERR_INVALID_STATE;
    /* RFC 8842 §5.3: actpass is answered with active, which saves a round trip; an active offer leaves
     * passive. */
    if (!was_negotiated(pc))
        pc->dtls_client = pc->remote_setup != DP_SETUP_ACTIVE;
    int error =
        write_local(pc, now, pc->dtls_client ? DP_SETUP_ACTIVE : DP_SETUP_PASSIVE, out, capacity, len);
    if (error == DP_OK && !was_negotiated(pc))
        error = dp_pc_prepare_dtls(pc);
    if (error == DP_OK)
        pc->negotiation = PC_NEGOTIATED;
    return error;
}

/* ---- the peer's descriptions ---- */

static int refuse(dp_sdp_error *error, const char *message)
{
    error->line = 0;
    snprintf(error->message, sizeof(error->message), "%s", message);
    return DP_ERR_PROTOCOL;
}

static bool same_fingerprints(const dp_pc *pc, const dp_sdp *sdp)
{
    if (sdp->fingerprint_count != pc->remote_fingerprint_count)
        return false;
    for (size_t i = 0; i < sdp->fingerprint_count; i++) {
        const dp_fingerprint *a = &sdp->fingerprints[i], *b = &pc->remote_fingerprints[i];
        if (a->algorithm != b->algorithm || a->length != b->length ||
            memcmp(a->bytes, b->bytes, a->length) != 0)
            return false;
    }
    return true;
}

static bool same_credentials(const dp_pc *pc, const dp_sdp *sdp)
{
    return strcmp(sdp->ufrag, pc->remote_ufrag) == 0 && strcmp(sdp->pwd, pc->remote_pwd) == 0;
}

/* An offer that comes while ours waits takes its place (RFC 8829 §4.1.10.2: rollback). */
static bool rolls_back(const dp_pc *pc, dp_sdp_type type)
{
    return type == DP_SDP_OFFER && pc->negotiation == PC_HAVE_LOCAL_OFFER;
}

/* A later description moves the same DTLS and SCTP association to other paths. Another certificate, role or
 * section would need new ones (RFC 8842 §5.5), which nobody asks for in earnest. */
static int check_unchanged(const dp_pc *pc, dp_sdp_type type, const dp_sdp *sdp, dp_sdp_error *error)
{
    const dp_sdp_media *ours = &pc->description.media[pc->description.data_index];
    const dp_sdp_media *theirs = &sdp->media[sdp->data_index];
    bool client = sdp->setup == DP_SETUP_ACTIVE, server = sdp->setup == DP_SETUP_PASSIVE;
    if (!same_fingerprints(pc, sdp))
        return refuse(error, "the certificate's fingerprint has changed: that needs a new connection");
    if ((pc->dtls_client && client) || (!pc->dtls_client && server))
        return refuse(error, "a=setup would change the DTLS roles: that needs a new connection");
    if (sdp->data_index != pc->description.data_index || strcmp(theirs->mid, ours->mid) != 0)
        return refuse(error, "the data section's place or a=mid has changed (RFC 8829 section 5.2.2)");
    if (sdp->sctp_port != pc->remote_sctp_port)
        return refuse(error, "a=sctp-port has changed: that needs a new connection");
    if (type == DP_SDP_ANSWER && same_credentials(pc, sdp))
        return refuse(
            error,
            "the answer keeps its ICE credentials, but the offer restarts ICE (RFC 8839 section 4.4.3)");
    if (rolls_back(pc, type) && same_credentials(pc, sdp))
        return refuse(error, "the offer restarts nothing, and an offer of ours that restarts ICE waits");
    return DP_OK;
}

/* Checks what only both descriptions together can show. */
static int check_remote(const dp_pc *pc, dp_sdp_type type, const dp_sdp *sdp, dp_sdp_error *error)
{
    if (type == DP_SDP_ANSWER) {
        if (sdp->setup == DP_SETUP_ACTPASS)
            return refuse(error, "an answer must choose a=setup:active or passive (RFC 8842 section 5.3)");
        if (sdp->media[sdp->data_index].rejected)
            return refuse(error, "the answer rejects the data channels (port 0)");
        if (sdp->media_count != pc->description.media_count || sdp->data_index != pc->description.data_index)
            return refuse(error, "the answer's m-lines are not those of the offer");
    }
    return was_negotiated(pc) ? check_unchanged(pc, type, sdp, error) : DP_OK;
}

static void adopt_remote(dp_pc *pc, dp_sdp_type type, const dp_sdp *sdp)
{
    if (type == DP_SDP_OFFER) {
        memcpy(pc->description.media, sdp->media, sizeof(pc->description.media));
        pc->description.media_count = sdp->media_count;
        pc->description.data_index = sdp->data_index;
        pc->description.unbundled = sdp->unbundled;
    }
    if (was_negotiated(pc))
        return;
    memcpy(pc->remote_fingerprints, sdp->fingerprints, sizeof(pc->remote_fingerprints));
    pc->remote_fingerprint_count = sdp->fingerprint_count;
    pc->remote_sctp_port = sdp->sctp_port;
    pc->remote_max_message_size = sdp->max_message_size;
    pc->remote_setup = sdp->setup;
    if (type == DP_SDP_OFFER)
        dp_ice_set_role(pc->ice, DP_ICE_CONTROLLED);
    else /* RFC 4145 §4: an answer without a=setup means active. */
        pc->dtls_client = sdp->setup == DP_SETUP_PASSIVE;
}

/* RFC 8839 §4.4.1.1.1: other credentials are an ICE restart, and the same ones leave ICE as it is. Our own side of
 * a restart needs new ones, too; an offer of ours that is rolled back has had its own, and the peer may have
 * begun to use them. */
static int apply_credentials(dp_pc *pc, dp_time now, dp_sdp_type type, const dp_sdp *sdp)
{
    int error = DP_OK;
    if (was_negotiated(pc) && same_credentials(pc, sdp))
        return DP_OK;
    if (rolls_back(pc, type) || (type == DP_SDP_OFFER && was_negotiated(pc)))
        error = restart(pc, now);
    if (error == DP_OK && sdp->ice_lite)
        dp_ice_set_remote_lite(pc->ice);
    if (error == DP_OK)
        error = dp_ice_set_remote_credentials(pc->ice, now, sdp->ufrag, sdp->pwd);
    if (error == DP_OK) {
        memcpy(pc->remote_ufrag, sdp->ufrag, sizeof(pc->remote_ufrag));
        memcpy(pc->remote_pwd, sdp->pwd, sizeof(pc->remote_pwd));
    }
    return error;
}

static int apply_candidates(dp_pc *pc, dp_time now, const dp_sdp *sdp)
{
    for (size_t i = 0; i < sdp->candidate_count; i++) {
        char line[DP_CANDIDATE_TEXT_MAX];
        if (sdp->candidates[i].len >= sizeof(line))
            continue;
        memcpy(line, sdp->candidates[i].at, sdp->candidates[i].len);
        line[sdp->candidates[i].len] = '\0';
        if (dp_ice_add_remote_candidate(pc->ice, now, line) != DP_OK)
            DP_LOG(&pc->log, DP_LOG_WARN, layer, "ignored a candidate of the description that can't be read");
    }
    return sdp->end_of_candidates ? dp_ice_add_remote_candidate(pc->ice, now, NULL) : DP_OK;
}

static int apply_remote(dp_pc *pc, dp_time now, dp_sdp_type type, const dp_sdp *sdp)
{
    adopt_remote(pc, type, sdp);
    int error = apply_credentials(pc, now, type, sdp);
    if (error == DP_OK && type == DP_SDP_ANSWER && !was_negotiated(pc))
        error = dp_pc_prepare_dtls(pc);
    if (error != DP_OK)
        return error;
    pc->negotiation = type == DP_SDP_OFFER ? PC_HAVE_REMOTE_OFFER : PC_NEGOTIATED;
    return apply_candidates(pc, now, sdp);
}

int dp_pc_set_remote_description(dp_pc *pc, dp_time now, dp_sdp_type type, const char *text, size_t len,
                                 dp_sdp_error *error)
{
    dp_sdp_error ignored;
    if (error == NULL)
        error = &ignored;
    memset(error, 0, sizeof(*error));
    /* A restart's offer that could not be answered (no memory) gives way to the next: else it would be the last. */
    bool fits = type == DP_SDP_OFFER ? pc->negotiation != PC_HAVE_REMOTE_OFFER || was_negotiated(pc)
                                     : pc->negotiation == PC_HAVE_LOCAL_OFFER;
    if (!fits || is_over(pc)) {
        refuse(error, is_over(pc)            ? "the connection is closed"
                      : type == DP_SDP_OFFER ? "an offer waits for our answer already"
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
    if (pc->negotiation == PC_HAVE_LOCAL_OFFER && was_negotiated(pc))
        return DP_OK; /* of the session that our restart ends: the next one's come behind the answer */
    if (pc->negotiation != PC_HAVE_REMOTE_OFFER && pc->negotiation != PC_NEGOTIATED)
        return DP_ERR_INVALID_STATE;
    return dp_ice_add_remote_candidate(pc->ice, now, candidate);
}

uint64_t dp_pc_remote_max_message_size(const dp_pc *pc) { return pc->remote_max_message_size; }

const char *dp_pc_mid(const dp_pc *pc) { return pc->description.media[pc->description.data_index].mid; }

unsigned dp_pc_mline_index(const dp_pc *pc) { return (unsigned)pc->description.data_index; }

const char *dp_pc_local_ufrag(const dp_pc *pc) { return dp_ice_local_ufrag(pc->ice); }
