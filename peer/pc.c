#include "peer/pc.h"

#include "peer/demux.h"
#include <stdio.h>
#include <string.h>

static const char layer[] = "pc";

const char *dp_pc_state_name(dp_pc_state state)
{
    static const char *const names[] = {"new", "connecting", "connected", "disconnected", "failed", "closed"};
    return (unsigned)state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}

/* SCTP packets have to fit, sealed, into what a path of 1,280 bytes (IPv6's least) carries in UDP: browsers
 * keep to 1,200. */
enum { DATAGRAM_SIZE = 1200, SCTP_PACKET_MAX = DATAGRAM_SIZE - DP_DTLS_OVERHEAD - 3 };

int dp_pc_new(dp_pc **out, const dp_pc_config *config)
{
    if (config->size != sizeof(*config) || config->random.fn == NULL || config->certificate == NULL)
        return DP_ERR_INVALID_ARGUMENT;
    dp_pc *pc = dp_calloc(1, sizeof(*pc));
    if (pc == NULL)
        return DP_ERR_NO_MEMORY;
    pc->random = config->random;
    pc->log = config->log;
    pc->certificate = config->certificate;
    pc->max_message_size = config->max_message_size != 0 ? config->max_message_size : DP_PC_MAX_MESSAGE_SIZE;

    dp_ice_config ice = {
        .size = sizeof(ice), .random = pc->random, .log = pc->log, .pacing = config->ice_pacing};
    dp_sctp_config sctp = {.size = sizeof(sctp),
                           .random = pc->random,
                           .log = pc->log,
                           .mtu = SCTP_PACKET_MAX,
                           .max_message_size = pc->max_message_size};
    int error = dp_ice_new(&pc->ice, &ice);
    if (error == DP_OK)
        error = dp_sctp_new(&pc->sctp, &sctp);
    if (error != DP_OK) {
        dp_pc_free(pc);
        return error;
    }
    *out = pc;
    return DP_OK;
}

void dp_pc_free(dp_pc *pc)
{
    if (pc == NULL)
        return;
    if (pc->sctp != NULL)
        dp_sctp_free(pc->sctp);
    if (pc->dtls != NULL)
        dp_dtls_free(pc->dtls);
    if (pc->ice != NULL)
        dp_ice_free(pc->ice);
    dp_free(pc);
}

int dp_pc_add_local_address(dp_pc *pc, const dp_address *local)
{
    return dp_ice_add_local_address(pc->ice, local);
}

int dp_pc_add_stun_server(dp_pc *pc, const dp_address *server)
{
    return dp_ice_add_stun_server(pc->ice, server);
}

int dp_pc_create_channel(dp_pc *pc, dp_channel **out, dp_time now, const dp_channel_init *init)
{
    if (pc->state == DP_PC_CLOSED || pc->state == DP_PC_FAILED)
        return DP_ERR_CLOSED;
    return dp_sctp_open_channel(pc->sctp, out, now, init);
}

void dp_pc_set_error(dp_pc *pc, int error, const char *message)
{
    if (pc->error != DP_OK)
        return;
    pc->error = error;
    snprintf(pc->message, sizeof(pc->message), "%s", message);
}

/* ---- state ------------------------------------------------------------------------------------------- */

static void set_state(dp_pc *pc, dp_pc_state state)
{
    bool ended = pc->state == DP_PC_CLOSED || (pc->state == DP_PC_FAILED && state != DP_PC_CLOSED);
    if (pc->state == state || ended)
        return;
    DP_LOG(&pc->log, DP_LOG_INFO, layer, "%s -> %s", dp_pc_state_name(pc->state), dp_pc_state_name(state));
    pc->state = state;
}

/* The association is lost with its transport: every channel gets its CHANNEL_CLOSED. */
static void end(dp_pc *pc, dp_time now, dp_pc_state state)
{
    set_state(pc, state);
    if (!pc->sctp_ended) {
        pc->sctp_ended = true;
        dp_sctp_abort(pc->sctp, now);
    }
}

/* W3C webrtc-pc §4.3.3: the aggregate of the ICE and the DTLS transport's state. */
static void update_state(dp_pc *pc, dp_time now)
{
    dp_dtls_state dtls = pc->dtls != NULL ? dp_dtls_get_state(pc->dtls) : DP_DTLS_NEW;
    if (pc->state == DP_PC_FAILED || pc->state == DP_PC_CLOSED)
        return;
    if (dtls == DP_DTLS_CLOSED) {
        end(pc, now, DP_PC_CLOSED);
    } else if (dtls == DP_DTLS_FAILED) {
        end(pc, now, DP_PC_FAILED);
    } else if (pc->ice_state == DP_ICE_FAILED) {
        dp_pc_set_error(pc, DP_ERR_TIMEOUT, "no network path to the peer works (ICE failed)");
        end(pc, now, DP_PC_FAILED);
    } else if (pc->ice_state == DP_ICE_DISCONNECTED) {
        set_state(pc, DP_PC_DISCONNECTED);
    } else if ((pc->ice_state == DP_ICE_CONNECTED || pc->ice_state == DP_ICE_COMPLETED) &&
               dtls == DP_DTLS_CONNECTED) {
        set_state(pc, DP_PC_CONNECTED);
    } else if (pc->ice_state != DP_ICE_NEW || dtls == DP_DTLS_CONNECTING) {
        set_state(pc, DP_PC_CONNECTING);
    }
}

dp_pc_state dp_pc_get_state(const dp_pc *pc) { return pc->state; }

/* ---- the way in: demux -> ice | dtls -> sctp ---- */

static int start_dtls(dp_pc *pc, dp_time now)
{
    if (pc->dtls_started)
        return DP_OK;
    pc->dtls_started = true;
    int error = dp_dtls_start(pc->dtls, now);
    if (error != DP_OK) {
        dp_pc_set_error(pc, error, "the DTLS handshake could not be started");
        end(pc, now, DP_PC_FAILED);
    }
    return error;
}

static void pump_dtls(dp_pc *pc, dp_time now)
{
    dp_dtls_event event;
    while (pc->dtls != NULL && dp_dtls_poll_event(pc->dtls, &event)) {
        switch (event.type) {
        case DP_DTLS_EVENT_CONNECTED: {
            int error = dp_sctp_start(pc->sctp, now, pc->dtls_client, pc->remote_sctp_port,
                                      (size_t)pc->remote_max_message_size);
            if (error != DP_OK) {
                dp_pc_set_error(pc, error, "the SCTP association could not be started");
                end(pc, now, DP_PC_FAILED);
            }
            break;
        }
        case DP_DTLS_EVENT_DATA:
            dp_sctp_input(pc->sctp, now, event.data, event.len);
            break;
        case DP_DTLS_EVENT_CLOSED:
            break;
        case DP_DTLS_EVENT_FAILED:
            dp_pc_set_error(pc, event.error, event.message);
            break;
        }
    }
    update_state(pc, now);
}

static void input_dtls(dp_pc *pc, dp_time now, uint8_t *data, size_t len, const dp_address *local,
                       const dp_address *remote)
{
    /* docs/pitfalls.md: a handshake can be killed by one spoofed record, so only what ICE has proved to be
     * the peer gets in. Flights may take another pair in each direction, so every valid pair counts, not the
     * selected one alone. */
    if (pc->dtls == NULL || !dp_ice_is_validated(pc->ice, local, remote)) {
        DP_LOG(&pc->log, DP_LOG_DEBUG, layer,
               "dropped a DTLS datagram from an address that ICE has not validated");
        return;
    }
    pc->reply_local = *local;
    pc->reply_remote = *remote;
    if (start_dtls(pc, now) != DP_OK)
        return;
    dp_dtls_input(pc->dtls, now, data, len);
    pump_dtls(pc, now);
}

void dp_pc_input(dp_pc *pc, dp_time now, uint8_t *data, size_t len, const dp_address *local,
                 const dp_address *remote)
{
    if (pc->state == DP_PC_CLOSED || pc->state == DP_PC_FAILED)
        return;
    switch (dp_demux_classify(data, len)) {
    case DP_DEMUX_STUN:
        dp_ice_input(pc->ice, now, data, len, local, remote);
        break;
    case DP_DEMUX_DTLS:
        input_dtls(pc, now, data, len, local, remote);
        break;
    case DP_DEMUX_OTHER:
        break; /* RTP, ZRTP, TURN channels: nobody here speaks them */
    }
}

/* ---- time ---- */

static bool is_over(const dp_pc *pc) { return pc->state == DP_PC_CLOSED || pc->state == DP_PC_FAILED; }

void dp_pc_handle_timeout(dp_pc *pc, dp_time now)
{
    if (is_over(pc))
        return;
    if (dp_ice_next_timeout(pc->ice) <= now)
        dp_ice_handle_timeout(pc->ice, now);
    if (pc->dtls != NULL && dp_dtls_next_timeout(pc->dtls) <= now) {
        dp_dtls_handle_timeout(pc->dtls, now);
        pump_dtls(pc, now);
    }
    if (dp_sctp_next_timeout(pc->sctp) <= now)
        dp_sctp_handle_timeout(pc->sctp, now);
}

static dp_time earlier(dp_time a, dp_time b) { return a < b ? a : b; }

dp_time dp_pc_next_timeout(const dp_pc *pc)
{
    if (is_over(pc))
        return DP_TIME_NEVER;
    dp_time at = dp_ice_next_timeout(pc->ice);
    if (pc->dtls != NULL)
        at = earlier(at, dp_dtls_next_timeout(pc->dtls));
    return earlier(at, dp_sctp_next_timeout(pc->sctp));
}

/* ---- the way out: sctp -> dtls -> datagram ---- */

static bool find_path(const dp_pc *pc, dp_datagram *out)
{
    if (dp_ice_selected_pair(pc->ice, &out->local, &out->remote))
        return true;
    out->local = pc->reply_local;
    out->remote = pc->reply_remote;
    return pc->reply_remote.family != DP_FAMILY_NONE;
}

/* usrsctp's packet is encrypted straight into the slot: the only copy after usrsctp's own. */
static bool transmit_sctp(dp_pc *pc, dp_datagram *out)
{
    const uint8_t *packet;
    size_t len;
    if (pc->dtls == NULL || dp_dtls_get_state(pc->dtls) != DP_DTLS_CONNECTED || !find_path(pc, out))
        return false;
    while (dp_sctp_poll_transmit(pc->sctp, &packet, &len)) {
        int error = dp_dtls_seal(pc->dtls, out->data, out->capacity, &out->length, packet, len);
        if (error == DP_OK)
            return true;
        DP_LOG(&pc->log, DP_LOG_WARN, layer, "an SCTP packet of %zu bytes could not be sealed: %s", len,
               dp_strerror(error));
    }
    return false;
}

static bool transmit_dtls(dp_pc *pc, dp_datagram *out)
{
    return pc->dtls != NULL && find_path(pc, out) &&
           dp_dtls_poll_transmit(pc->dtls, out->data, out->capacity, &out->length);
}

bool dp_pc_poll_transmit(dp_pc *pc, dp_time now, dp_datagram *out)
{
    if (!is_over(pc) && dp_ice_poll_transmit(pc->ice, out))
        return true;
    /* The handshake's last flight goes before the first data; close_notify goes behind the last. */
    if (!pc->closing && transmit_dtls(pc, out))
        return true;
    if (transmit_sctp(pc, out))
        return true;
    if (pc->closing && pc->dtls != NULL && !pc->dtls_close_queued) {
        pc->dtls_close_queued = true;
        dp_dtls_close(pc->dtls, now);
    }
    return transmit_dtls(pc, out);
}

/* ---- events ---- */

static bool take_ice_event(dp_pc *pc, dp_time now, dp_pc_event *event)
{
    dp_ice_event ice;
    while (dp_ice_poll_event(pc->ice, &ice)) {
        switch (ice.type) {
        case DP_ICE_EVENT_LOCAL_CANDIDATE:
            event->type = DP_PC_EVENT_LOCAL_CANDIDATE;
            event->candidate = ice.candidate;
            return true;
        case DP_ICE_EVENT_GATHERING_COMPLETE:
            pc->gathering_complete = true;
            event->type = DP_PC_EVENT_GATHERING_COMPLETE;
            return true;
        case DP_ICE_EVENT_STATE:
            pc->ice_state = ice.state;
            update_state(pc, now);
            event->type = DP_PC_EVENT_ICE_STATE;
            event->ice_state = ice.state;
            return true;
        case DP_ICE_EVENT_SELECTED_PAIR:
            if (pc->dtls != NULL && start_dtls(pc, now) == DP_OK)
                pump_dtls(pc, now);
            event->type = DP_PC_EVENT_SELECTED_PAIR;
            event->local = ice.local;
            event->remote = ice.remote;
            return true;
        }
    }
    return false;
}

static bool take_sctp_event(dp_pc *pc, dp_pc_event *event)
{
    static const dp_pc_event_type types[] = {
        [DP_SCTP_EVENT_CHANNEL_OPEN] = DP_PC_EVENT_CHANNEL_OPEN,
        [DP_SCTP_EVENT_MESSAGE] = DP_PC_EVENT_MESSAGE,
        [DP_SCTP_EVENT_BUFFERED_AMOUNT_LOW] = DP_PC_EVENT_BUFFERED_AMOUNT_LOW,
        [DP_SCTP_EVENT_CHANNEL_ERROR] = DP_PC_EVENT_CHANNEL_ERROR,
        [DP_SCTP_EVENT_CHANNEL_CLOSED] = DP_PC_EVENT_CHANNEL_CLOSED,
    };
    dp_sctp_event sctp;
    while (dp_sctp_poll_event(pc->sctp, &sctp)) {
        if (sctp.type == DP_SCTP_EVENT_CONNECTED)
            continue;
        if (sctp.type == DP_SCTP_EVENT_CLOSED) {
            /* Browsers ABORT when their connection closes. No new association can be made on this DTLS
             * connection (RFC 8831 §6.2 has one for its life), so the connection is over. */
            pc->sctp_ended = true;
            if (sctp.error != DP_OK)
                dp_pc_set_error(pc, sctp.error, "the SCTP association failed");
            if (!is_over(pc)) {
                pc->closing = true;
                set_state(pc, sctp.error == DP_OK ? DP_PC_CLOSED : DP_PC_FAILED);
            }
            continue;
        }
        event->type = types[sctp.type];
        event->channel = sctp.channel;
        event->incoming = sctp.incoming;
        event->binary = sctp.binary;
        event->data = sctp.data;
        event->len = sctp.len;
        event->error = sctp.error;
        return true;
    }
    return false;
}

bool dp_pc_poll_event(dp_pc *pc, dp_time now, dp_pc_event *event)
{
    memset(event, 0, sizeof(*event));
    /* Channels that the connection's end closes are told before the end itself. */
    if (take_ice_event(pc, now, event) || take_sctp_event(pc, event))
        return true;
    if (pc->reported_state != pc->state) {
        pc->reported_state = pc->state;
        event->type = DP_PC_EVENT_STATE;
        event->state = pc->state;
        event->error = pc->error;
        event->message = pc->error != DP_OK ? pc->message : "";
        return true;
    }
    return false;
}

bool dp_pc_awaits(const dp_pc *pc, const uint8_t *data, size_t len)
{
    return dp_ice_awaits(pc->ice, data, len);
}

bool dp_pc_is_validated(const dp_pc *pc, const dp_address *local, const dp_address *remote)
{
    return dp_ice_is_validated(pc->ice, local, remote);
}

void dp_pc_close(dp_pc *pc, dp_time now)
{
    if (pc->state == DP_PC_CLOSED)
        return;
    pc->closing = true;
    end(pc, now, DP_PC_CLOSED);
}
