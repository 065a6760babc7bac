/* Setting a DataConnection up: OFFER, ANSWER and CANDIDATE go through the PeerServer, the peer connection's
 * events come back. */
#include "peer/connection.h"

#include <stdio.h>
#include <string.h>

static const char layer[] = "peer";

enum { SDP_CAPACITY = 16384 };

static void on_event(void *user, const dp_pc_event *event);

static void on_network(void *user) { dp_restart_on_network(user); }

/* After each round of events: if the channel went with the whole connection, its STATE event has told why. */
static void on_fill(void *user)
{
    dp_connection *conn = user;
    if (conn->channel_closed)
        dp_connection_end(conn, conn->state == CONNECTION_CONNECTING ? "negotiation-failed" : NULL,
                          "the channel was refused by the other side");
    dp_connection_fill(conn);
}

static int start_runner(dp_connection *conn)
{
    dp_peer *peer = conn->peer;
    if (conn->caller) {
        int result = dp_mux_new(&conn->own_mux, peer->network, 0);
        if (result != DP_OK)
            return result;
    }
    runner_config config = {.network = peer->network,
                            .mux = conn->own_mux != NULL ? conn->own_mux : peer->mux,
                            .pc = {.size = sizeof(config.pc),
                                   .random = peer->random,
                                   .log = peer->log,
                                   .certificate = peer->certificate,
                                   .remote_fingerprint = conn->pinned ? &conn->remote_fingerprint : NULL,
                                   .key_log = peer->key_log,
                                   .ice_tcp = peer->ice_tcp,
                                   .relay_only = peer->relay_only,
                                   .hide_addresses = peer->hide_addresses,
                                   .ice_lite = peer->ice_lite,
                                   .datagram_size = peer->datagram_size},
                            .on_event = on_event,
                            .on_fill = on_fill,
                            .on_network = on_network,
                            .user = conn};
    int error = dp_runner_new(&conn->runner, &config);
    for (size_t i = 0; error == DP_OK && i < peer->ice.count; i++)
        error = dp_pc_add_ice_server(dp_runner_pc(conn->runner), &peer->ice.servers[i]);
    return error;
}

/* ---- calling ---- */

int dp_negotiate_call(dp_connection *conn)
{
    dp_peer *peer = conn->peer;
    dp_time now = dp_loop_now(peer->loop);
    conn->caller = true;
    int error = start_runner(conn);
    if (error != DP_OK)
        return error;
    dp_channel_init init = DP_CHANNEL_INIT(conn->label);
    init.ordered = conn->reliable;
    error = dp_pc_create_channel(dp_runner_pc(conn->runner), &conn->channel, now, &init);
    char *sdp = error == DP_OK ? dp_alloc(SDP_CAPACITY) : NULL;
    size_t len;
    if (error == DP_OK)
        error = sdp == NULL ? DP_ERR_NO_MEMORY
                            : dp_pc_create_offer(dp_runner_pc(conn->runner), now, sdp, SDP_CAPACITY, &len);
    if (error == DP_OK) {
        dp_signaling_offer offer = {.connection_id = conn->id,
                                    .sdp = sdp,
                                    .label = conn->label,
                                    .serialization = conn->serialization_name,
                                    .metadata = conn->metadata,
                                    .reliable = conn->reliable};
        error = dp_signaling_send_offer(peer->signaling, now, conn->remote_id, &offer);
        conn->offer_waits = !peer->open;
    }
    dp_free(sdp);
    if (error == DP_OK) {
        dp_runner_wake(conn->runner);
        dp_peer_wake(peer);
    }
    return error;
}

/* ---- being called ---- */

static int answer(dp_connection *conn, const char *offer_sdp)
{
    dp_time now = dp_loop_now(conn->peer->loop);
    dp_sdp_error reason;
    int error = start_runner(conn);
    if (error != DP_OK)
        return error;
    dp_pc *pc = dp_runner_pc(conn->runner);
    error = dp_pc_set_remote_description(pc, now, DP_SDP_OFFER, offer_sdp, strlen(offer_sdp), &reason);
    if (error != DP_OK) {
        DP_LOG(&conn->peer->log, DP_LOG_WARN, layer, "the offer of %s is refused: line %u: %s",
               conn->remote_id, reason.line, reason.message);
        return error;
    }
    char *sdp = dp_alloc(SDP_CAPACITY);
    size_t len;
    error = sdp == NULL ? DP_ERR_NO_MEMORY : dp_pc_create_answer(pc, now, sdp, SDP_CAPACITY, &len);
    if (error == DP_OK)
        error = dp_signaling_send_answer(conn->peer->signaling, now, conn->remote_id, conn->id, sdp, 0);
    dp_free(sdp);
    dp_runner_wake(conn->runner);
    dp_peer_wake(conn->peer);
    return error;
}

/* What PeerJS tells of a description or candidate that the browser refuses. */
static void report_webrtc(dp_peer *peer, const char *src, const char *what, const char *why)
{
    char message[320];
    snprintf(message, sizeof(message), "the %s of %.64s was not accepted: %.200s", what, src, why);
    dp_peer_report(peer, "webrtc", message);
}

/* The connection that gives way to a call of src when there is no room: one that is over but not freed yet,
 * else a call that is not open yet: src's own, else the oldest. So nobody who only calls and never connects
 * keeps others out, and a burst of calls holds no more memory than max_connections of them. */
static dp_connection *least_wanted(const dp_peer *peer, const char *src)
{
    dp_connection *found = NULL;
    bool found_own = false;
    for (dp_connection *conn = peer->connections; conn != NULL; conn = conn->next) {
        if (conn->state == CONNECTION_CLOSED)
            return conn;
        bool own = strcmp(conn->remote_id, src) == 0;
        if (conn->state == CONNECTION_CONNECTING && !conn->caller && (own || !found_own)) {
            found = conn;
            found_own = own;
        }
    }
    return found;
}

/* False if there is none. Its handlers may destroy peer. */
static bool make_room(dp_peer *peer, const char *src)
{
    if (peer->connection_count < peer->max_connections)
        return true;
    dp_connection *conn = least_wanted(peer, src);
    if (conn == NULL)
        return false;
    dp_connection_end(conn, "negotiation-failed", "too many calls at once: a newer one took its place");
    dp_connection_finish(conn);
    return true;
}

void dp_negotiate_offer(dp_peer *peer, const dp_signaling_event *event)
{
    const char *src = event->src;
    const dp_signaling_offer *offer = &event->offer;
    if (offer->restart != 0) {
        dp_restart_offer(peer, src, offer);
        return;
    }
    dp_connection *conn = dp_peer_find(peer, src, offer->connection_id);
    if (conn != NULL) /* PeerJS: the old one is closed first */
        dp_connection_end(conn, NULL, NULL);
    if (!make_room(peer, src)) {
        DP_LOG(&peer->log, DP_LOG_WARN, layer, "a call of %s is ignored: too many connections", src);
        return;
    }
    if (peer->handler.on_connection == NULL) {
        DP_LOG(&peer->log, DP_LOG_INFO, layer, "%s calls, but nobody here takes connections", src);
        return;
    }
    dp_connect_options options = {.size = sizeof(options),
                                  .label = offer->label,
                                  .metadata = offer->metadata,
                                  .serialization = offer->serialization,
                                  .reliable = offer->reliable};
    int error = dp_connection_new(&conn, peer, src, offer->connection_id, &options);
    if (error != DP_OK) {
        report_webrtc(peer, src, "call", dp_strerror(error));
        return;
    }
    conn->knows_restart = event->knows_restart;
    peer->handler.on_connection(peer->handler.user, peer, conn);
    if (conn->state == CONNECTION_CLOSED)
        return;
    error = answer(conn, offer->sdp);
    if (error != DP_OK) {
        dp_connection_end(conn, "negotiation-failed", dp_strerror(error));
        report_webrtc(peer, src, "offer", dp_strerror(error));
        return;
    }
    dp_early_give(conn);
}

/* ---- what comes from the other side through the server ---- */

void dp_negotiate_answer(dp_peer *peer, const dp_signaling_event *event)
{
    const char *src = event->src, *sdp = event->sdp;
    dp_connection *conn = dp_peer_find(peer, src, event->connection_id);
    if (conn == NULL || conn->runner == NULL || (!conn->caller && event->restart == 0)) {
        DP_LOG(&peer->log, DP_LOG_INFO, layer, "an answer of %s to no call of ours is ignored", src);
        return;
    }
    if (event->restart != 0 || conn->restarts > 0) {
        dp_restart_answer(conn, sdp, event->restart);
        return;
    }
    dp_sdp_error reason;
    int error = dp_pc_set_remote_description(dp_runner_pc(conn->runner), dp_loop_now(peer->loop),
                                             DP_SDP_ANSWER, sdp, strlen(sdp), &reason);
    if (error == DP_ERR_INVALID_STATE) {
        DP_LOG(&peer->log, DP_LOG_INFO, layer, "a second answer of %s is ignored", src);
        return;
    }
    if (error != DP_OK) {
        char message[192];
        snprintf(message, sizeof(message), "the answer can't be used: line %u: %s", reason.line,
                 reason.message);
        dp_connection_end(conn, "negotiation-failed", message);
        report_webrtc(peer, src, "answer", message);
        return;
    }
    conn->knows_restart = event->knows_restart;
    dp_runner_wake(conn->runner);
}

void dp_negotiate_candidate(dp_peer *peer, const char *src, const char *connection_id, const char *candidate)
{
    dp_connection *conn = dp_peer_find(peer, src, connection_id);
    if (conn == NULL) {
        dp_early_keep(peer, src, connection_id, candidate);
        return;
    }
    if (conn->runner == NULL)
        return;
    int error = dp_pc_add_remote_candidate(dp_runner_pc(conn->runner), dp_loop_now(peer->loop), candidate);
    dp_runner_wake(conn->runner);
    if (error == DP_OK)
        return;
    DP_LOG(&peer->log, DP_LOG_WARN, layer, "a candidate of %s is ignored: %s", src, dp_strerror(error));
    if (error != DP_ERR_MALFORMED || conn->bad_candidate_told)
        return;
    conn->bad_candidate_told = true; /* once: the other side may have many */
    report_webrtc(peer, src, "candidate", dp_strerror(error));
}

/* ---- what the peer connection tells ---- */

static void on_open(dp_connection *conn, const dp_pc_event *event)
{
    if (conn->state != CONNECTION_CONNECTING)
        return;
    if (event->incoming) {
        if (conn->caller || conn->channel != NULL)
            return; /* PeerJS knows one channel a connection, made by the caller; others lie idle */
        conn->channel = event->channel;
    }
    dp_channel_set_buffered_amount_low_threshold(conn->channel, CONNECTION_LOW_WATER);
    conn->state = CONNECTION_OPEN;
    conn->deadline = DP_TIME_NEVER;
    if (conn->handler.on_open != NULL)
        conn->handler.on_open(conn->handler.user, conn);
}

static void on_state(dp_connection *conn, const dp_pc_event *event)
{
    bool opened = conn->state != CONNECTION_CONNECTING;
    if (event->state == DP_PC_FAILED && event->error == DP_ERR_FINGERPRINT)
        dp_connection_end(conn, "wrong-fingerprint", event->message);
    else if (event->state == DP_PC_FAILED)
        dp_connection_end(conn, opened ? "connection-closed" : "negotiation-failed", event->message);
    else if (event->state == DP_PC_CLOSED)
        dp_connection_end(conn, opened ? NULL : "negotiation-failed",
                          "closed by the other side before it was open");
}

static void send_candidate(dp_connection *conn, const char *candidate)
{
    const dp_pc *pc = dp_runner_pc(conn->runner);
    int error = dp_signaling_send_candidate(conn->peer->signaling, dp_loop_now(conn->peer->loop),
                                            conn->remote_id, conn->id, candidate, dp_pc_mid(pc),
                                            dp_pc_mline_index(pc), dp_pc_local_ufrag(pc));
    if (error != DP_OK)
        DP_LOG(&conn->peer->log, DP_LOG_WARN, layer, "a candidate could not be sent: %s", dp_strerror(error));
    dp_peer_wake(conn->peer);
}

static void on_event(void *user, const dp_pc_event *event)
{
    dp_connection *conn = user;
    if (conn->state == CONNECTION_CLOSED)
        return;
    bool ours = event->channel != NULL && event->channel == conn->channel;
    switch (event->type) {
    case DP_PC_EVENT_LOCAL_CANDIDATE:
        send_candidate(conn, event->candidate);
        break;
    case DP_PC_EVENT_CHANNEL_OPEN:
        on_open(conn, event);
        break;
    case DP_PC_EVENT_MESSAGE:
        if (ours)
            dp_connection_on_message(conn, event);
        break;
    case DP_PC_EVENT_CHANNEL_ERROR:
        if (ours)
            dp_connection_report(conn, "protocol", dp_strerror(event->error));
        break;
    case DP_PC_EVENT_CHANNEL_CLOSED:
        conn->channel_closed |= ours;
        conn->channel = ours ? NULL : conn->channel;
        break;
    case DP_PC_EVENT_STATE:
        on_state(conn, event);
        break;
    case DP_PC_EVENT_ICE_STATE:
        dp_restart_on_ice_state(conn, event->ice_state);
        if (conn->state != CONNECTION_CLOSED && conn->handler.on_ice_state != NULL)
            conn->handler.on_ice_state(conn->handler.user, conn, dp_ice_state_name(event->ice_state));
        break;
    case DP_PC_EVENT_GATHERING_COMPLETE: /* PeerJS has no message for the end of candidates */
    case DP_PC_EVENT_SELECTED_PAIR:
    case DP_PC_EVENT_MESSAGE_PART:        /* not asked for */
    case DP_PC_EVENT_BUFFERED_AMOUNT_LOW: /* dp_connection_fill runs after each round */
    case DP_PC_EVENT_RESOLVE:             /* these are the runner's */
    case DP_PC_EVENT_PUBLISH:
    case DP_PC_EVENT_LINK_OPEN:
    case DP_PC_EVENT_LINK_CLOSE:
        break;
    }
}
