/* ICE restarts (RFC 8445 §9) through the PeerServer: for a path that ICE itself can't mend, because both ends need
 * new candidates. Only towards a peer that has said that it understands them; PeerJS would begin a new connection.
 *
 * Either end may offer. If both do, the caller's offer wins: the callee rolls its own back and answers. Offers are
 * numbered and answers repeat the number, so a late answer is never taken for that of a newer offer. */
#include "peer/connection.h"

#include <string.h>

static const char layer[] = "peer";

enum { MAX_TRIES = 6, SDP_CAPACITY = 16384 };
/* From "disconnected" to the first offer: ICE may find its way back alone. The callee waits longer, so that the two
 * seldom cross. */
#define PATIENCE_CALLER DP_SECONDS(2)
#define PATIENCE_CALLEE DP_SECONDS(3)
#define NETWORK_WAIT    DP_MS(300)    /* after addresses have changed: more changes come along as a rule */
#define SERVER_WAIT     DP_SECONDS(1) /* after the PeerServer is back: what it has kept for us comes first */
#define RETRY           DP_SECONDS(5)
#define MIN_INTERVAL    DP_SECONDS(1) /* between restarts that we let the other side make */
/* From "disconnected", which comes after about 5 s of silence, until the path must be back, whoever restarts. */
#define PATH_TIMEOUT DP_SECONDS(35)
/* From "checking", which an open connection comes to by a restart in vain, after 30 s of silence on the old path. */
#define LAST_TIMEOUT DP_SECONDS(10)

static bool path_is_fine(const dp_connection *conn)
{
    return conn->ice_state == DP_ICE_CONNECTED || conn->ice_state == DP_ICE_COMPLETED;
}

static bool may_restart(const dp_connection *conn)
{
    return conn->knows_restart && (conn->state == CONNECTION_OPEN || conn->state == CONNECTION_FLUSHING);
}

static void arm(dp_connection *conn, dp_duration wait)
{
    conn->restart_armed = true;
    dp_timer_set(conn->peer->loop, &conn->restart_timer, dp_loop_now(conn->peer->loop) + wait);
}

/* ---- our offers ---- */

static int send_offer(dp_connection *conn)
{
    dp_peer *peer = conn->peer;
    dp_pc *pc = dp_runner_pc(conn->runner);
    dp_time now = dp_loop_now(peer->loop);
    size_t len;
    char *sdp = dp_alloc(SDP_CAPACITY);
    int error = sdp == NULL ? DP_ERR_NO_MEMORY : dp_pc_restart_ice(pc);
    if (error == DP_OK)
        error = dp_pc_create_offer(pc, now, sdp, SDP_CAPACITY, &len);
    if (error == DP_OK) {
        dp_signaling_offer offer = {.connection_id = conn->id,
                                    .sdp = sdp,
                                    .label = conn->label,
                                    .serialization = conn->serialization_name,
                                    .reliable = conn->reliable,
                                    .restart = ++conn->restarts};
        conn->restart_offered = true;
        conn->restart_offered_at = now;
        conn->restart_forced = false;
        error = dp_signaling_send_offer(peer->signaling, now, conn->remote_id, &offer);
    }
    dp_free(sdp);
    dp_runner_wake(conn->runner);
    dp_peer_wake(peer);
    return error;
}

static void on_timer(void *user)
{
    dp_connection *conn = user;
    conn->restart_armed = false;
    if (!may_restart(conn) || (path_is_fine(conn) && !conn->restart_forced))
        return;
    if (!conn->peer->open) {
        conn->restart_waits = true; /* for the PeerServer; as long as ICE does not give up */
        return;
    }
    if (conn->restart_tries++ == MAX_TRIES) {
        conn->restart_forced = false;
        if (!path_is_fine(conn))
            dp_connection_end(conn, "connection-closed",
                              conn->restart_offered
                                  ? "the network path is lost, and the other side does not answer"
                                  : "the network path is lost, and no other one was found");
        return;
    }
    int error = send_offer(conn);
    DP_LOG(&conn->peer->log, DP_LOG_INFO, layer, "the path to %s is lost: ICE restart %u%s%s",
           conn->remote_id, conn->restarts, error != DP_OK ? ": " : "",
           error != DP_OK ? dp_strerror(error) : "");
    arm(conn, RETRY);
}

void dp_restart_init(dp_connection *conn)
{
    conn->restart_timer = (dp_timer){.fn = on_timer, .user = conn};
    conn->path_deadline = DP_TIME_NEVER;
}

static void watch_path(dp_connection *conn)
{
    dp_duration time = conn->ice_state == DP_ICE_CHECKING ? LAST_TIMEOUT : PATH_TIMEOUT;
    if (path_is_fine(conn))
        conn->path_deadline = DP_TIME_NEVER;
    else if (conn->state != CONNECTION_CONNECTING && conn->path_deadline == DP_TIME_NEVER)
        conn->path_deadline = dp_loop_now(conn->peer->loop) + time;
    dp_connection_rearm(conn);
}

void dp_restart_on_ice_state(dp_connection *conn, dp_ice_state state)
{
    conn->ice_state = state;
    watch_path(conn);
    if (path_is_fine(conn)) {
        conn->restart_tries = 0;
        if (conn->restart_forced)
            return;
        conn->restart_waits = false;
        conn->restart_armed = false;
        dp_timer_stop(&conn->restart_timer);
    } else if (!conn->restart_armed) {
        arm(conn, conn->caller ? PATIENCE_CALLER : PATIENCE_CALLEE);
    }
}

/* New addresses are candidates already. But if the address in use has gone, the other side sends to it until it
 * has heard nothing for 5 s, though we may have another path at once: a restart tells it. */
void dp_restart_on_network(dp_connection *conn)
{
    if (!may_restart(conn) || path_is_fine(conn) || conn->restart_tries > 0)
        return;
    conn->restart_forced = true;
    arm(conn, NETWORK_WAIT);
}

void dp_restart_on_server_open(dp_peer *peer)
{
    for (dp_connection *conn = peer->connections; conn != NULL; conn = conn->next)
        if (conn->restart_waits) {
            conn->restart_waits = false;
            arm(conn, SERVER_WAIT);
        }
}

/* ---- the other side's ---- */

static int answer(dp_connection *conn, const dp_signaling_offer *offer)
{
    dp_peer *peer = conn->peer;
    dp_pc *pc = dp_runner_pc(conn->runner);
    dp_time now = dp_loop_now(peer->loop);
    dp_sdp_error reason;
    int error = dp_pc_set_remote_description(pc, now, DP_SDP_OFFER, offer->sdp, strlen(offer->sdp), &reason);
    if (error != DP_OK) {
        DP_LOG(&peer->log, DP_LOG_WARN, layer, "an ICE restart of %s is refused: line %u: %s",
               conn->remote_id, reason.line, reason.message);
        return error;
    }
    conn->restart_offered = false; /* rolled back, if there was one */
    size_t len;
    char *sdp = dp_alloc(SDP_CAPACITY);
    error = sdp == NULL ? DP_ERR_NO_MEMORY : dp_pc_create_answer(pc, now, sdp, SDP_CAPACITY, &len);
    if (error == DP_OK)
        error =
            dp_signaling_send_answer(peer->signaling, now, conn->remote_id, conn->id, sdp, offer->restart);
    dp_free(sdp);
    return error;
}

/* We were restarted, or gave the connection up: the other side need not try any longer. */
static void refuse(dp_peer *peer, const char *src, const dp_signaling_offer *offer)
{
    dp_time now = dp_loop_now(peer->loop);
    if (now < peer->refusal_allowed_at) /* a flood takes no room that answers need */
        return;
    peer->refusal_allowed_at = now + MIN_INTERVAL;
    (void)dp_signaling_send_answer(peer->signaling, now, src, offer->connection_id, NULL, offer->restart);
    dp_peer_wake(peer);
}

void dp_restart_offer(dp_peer *peer, const char *src, const dp_signaling_offer *offer)
{
    dp_connection *conn = dp_peer_find(peer, src, offer->connection_id);
    dp_time now = dp_loop_now(peer->loop);
    if (conn == NULL)
        refuse(peer, src, offer);
    if (conn == NULL || !conn->knows_restart) {
        DP_LOG(&peer->log, DP_LOG_INFO, layer, "an ICE restart of %s for no connection of ours is ignored",
               src);
        return;
    }
    /* One that nobody has answered for so long is lost, and gives way. */
    bool ours_waits = conn->restart_offered && now < conn->restart_offered_at + RETRY;
    if (ours_waits && conn->caller) {
        DP_LOG(&peer->log, DP_LOG_INFO, layer, "an ICE restart of %s is ignored: ours is under way", src);
        return;
    }
    if (now < conn->restart_allowed_at) {
        DP_LOG(&peer->log, DP_LOG_WARN, layer, "an ICE restart of %s is ignored: too soon", src);
        return;
    }
    conn->restart_allowed_at = now + MIN_INTERVAL;
    int error = answer(conn, offer);
    DP_LOG(&peer->log, DP_LOG_INFO, layer, "%s restarts ICE%s%s", src, error != DP_OK ? ": " : "",
           error != DP_OK ? dp_strerror(error) : "");
    if (conn->restart_armed)
        arm(conn, RETRY + PATIENCE_CALLEE); /* theirs has its time before we try */
    dp_runner_wake(conn->runner);
    dp_peer_wake(peer);
}

void dp_restart_answer(dp_connection *conn, const char *sdp, unsigned restart)
{
    dp_sdp_error reason;
    if (!conn->restart_offered || restart != conn->restarts) {
        DP_LOG(&conn->peer->log, DP_LOG_INFO, layer, "a late answer of %s is ignored", conn->remote_id);
        return;
    }
    if (sdp == NULL) {
        dp_connection_end(conn, "connection-closed", "the other side has given the connection up");
        return;
    }
    int error = dp_pc_set_remote_description(dp_runner_pc(conn->runner), dp_loop_now(conn->peer->loop),
                                             DP_SDP_ANSWER, sdp, strlen(sdp), &reason);
    if (error != DP_OK) {
        DP_LOG(&conn->peer->log, DP_LOG_WARN, layer,
               "the answer of %s to an ICE restart is refused: line %u: %s", conn->remote_id, reason.line,
               reason.message);
        return;
    }
    conn->restart_offered = false;
    dp_runner_wake(conn->runner);
}
