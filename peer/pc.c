#include "peer/pc.h"
#include "base/config.h"

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
 * keep to 1,200, and the 4 bytes of a TURN channel fit as well. */
enum {
    DATAGRAM_SIZE = 1200,
    DATAGRAM_SIZE_MIN = 600,
    DATAGRAM_SIZE_MAX = DP_DTLS_RECORD_MAX,
    RECORD_EXTRA = DP_DTLS_OVERHEAD + 3,
    IPV4_UDP = 20 + 8,
    IPV6_UDP = 40 + 8,
};
_Static_assert(DP_DTLS_RECORD_MAX + DP_DTLS_OVERHEAD + DP_ICE_HEADROOM_MAX <= DP_DATAGRAM_MAX,
               "a slot holds every datagram of ours");

/* As text it can be read again: the algorithm is known, and the length is that of its hashes. */
static bool fingerprint_valid(const dp_fingerprint *fp)
{
    char text[DP_FINGERPRINT_TEXT_MAX];
    dp_fingerprint read;
    dp_fingerprint_format(fp, text);
    return dp_fingerprint_parse(&read, text, strlen(text)) == DP_OK;
}

bool dp_pc_datagram_size_valid(size_t size)
{
    return size == 0 || (size >= DATAGRAM_SIZE_MIN && size <= DATAGRAM_SIZE_MAX);
}

int dp_pc_new(dp_pc **out, const dp_pc_config *given)
{
    dp_pc_config read = {0};
    const dp_pc_config *config = &read;
    if (!DP_CONFIG_READ(&read, given, dp_pc_config, remote_fingerprint) || config->random.fn == NULL ||
        config->certificate == NULL ||
        (config->remote_fingerprint != NULL && !fingerprint_valid(config->remote_fingerprint)) ||
        !dp_pc_datagram_size_valid(config->datagram_size))
        return DP_ERR_INVALID_ARGUMENT;
    dp_pc *pc = dp_calloc(1, sizeof(*pc));
    if (pc == NULL)
        return DP_ERR_NO_MEMORY;
    pc->random = config->random;
    pc->log = config->log;
    pc->certificate = config->certificate;
    pc->pinned = config->remote_fingerprint != NULL;
    if (pc->pinned)
        pc->pin = *config->remote_fingerprint;
    pc->key_log = config->key_log;
    pc->max_message_size = config->max_message_size != 0 ? config->max_message_size : DP_PC_MAX_MESSAGE_SIZE;
    pc->max_size_in_parts = config->max_size_in_parts;
    pc->ice_lite = config->ice_lite;
    pc->fixed_size = config->datagram_size;
    dp_queue_init(&pc->kept, sizeof(pc_kept_event), PC_KEPT_MAX);

    dp_ice_config ice = {.size = sizeof(ice),
                         .random = pc->random,
                         .log = pc->log,
                         .pacing = config->ice_pacing,
                         .tcp = config->ice_tcp,
                         .lite = config->ice_lite,
                         .relay_only = config->relay_only,
                         .hide_addresses = config->hide_addresses};
    dp_sctp_config sctp = {.size = sizeof(sctp),
                           .random = pc->random,
                           .log = pc->log,
                           .mtu = (pc->fixed_size != 0 ? pc->fixed_size : DATAGRAM_SIZE) - RECORD_EXTRA,
                           .max_message_size = pc->max_message_size,
                           .max_size_in_parts = pc->max_size_in_parts,
                           .no_interleaving = config->no_interleaving};
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
    dp_queue_clear(&pc->kept);
    dp_free(pc);
}

int dp_pc_add_local_address(dp_pc *pc, dp_time now, const dp_address *local)
{
    return dp_ice_add_local_address(pc->ice, now, local);
}

int dp_pc_add_local_listener(dp_pc *pc, dp_time now, const dp_address *local)
{
    return dp_ice_add_local_listener(pc->ice, now, local);
}

int dp_pc_remove_local_address(dp_pc *pc, dp_time now, const dp_address *local)
{
    return dp_ice_remove_local_address(pc->ice, now, local);
}

int dp_pc_add_ice_server(dp_pc *pc, const dp_ice_server *server)
{
    return pc->gathered ? DP_ERR_INVALID_STATE : dp_ice_add_server(pc->ice, server);
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

/* ---- the way in: ice -> demux -> dtls -> sctp ---- */

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
            uint64_t most = pc->remote_max_message_size < SIZE_MAX ? pc->remote_max_message_size : SIZE_MAX;
            int error = dp_sctp_start(pc->sctp, now, pc->dtls_client, pc->remote_sctp_port, (size_t)most);
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

int dp_pc_prepare_dtls(dp_pc *pc)
{
    dp_dtls_config config = {.size = sizeof(config),
                             .random = pc->random,
                             .log = pc->log,
                             .role = pc->dtls_client ? DP_DTLS_CLIENT : DP_DTLS_SERVER,
                             .certificate = pc->certificate,
                             .key_log = pc->key_log};
    int error = dp_dtls_new(&pc->dtls, &config);
    if (error == DP_OK)
        error = dp_dtls_set_remote_fingerprints(pc->dtls, pc->pinned ? &pc->pin : pc->remote_fingerprints,
                                                pc->pinned ? 1 : pc->remote_fingerprint_count);
    return error;
}

/* docs/pitfalls.md: a handshake can be killed by one spoofed record, so only what ICE has proved to come from the
 * peer gets here. Flights may take another pair in each direction, so every valid pair counts, not the selected
 * one alone. */
static void input_payload(dp_pc *pc, dp_time now, const dp_ice_payload *payload)
{
    /* All else that RFC 7983 knows (RTP, ZRTP) is nothing that anybody here speaks. */
    if (dp_demux_classify(payload->data, payload->len) != DP_DEMUX_DTLS || pc->dtls == NULL)
        return;
    if (start_dtls(pc, now) != DP_OK)
        return;
    pc->packets_received++;
    pc->bytes_received += payload->len;
    dp_dtls_input(pc->dtls, now, payload->data, payload->len);
    pump_dtls(pc, now);
}

static bool is_over(const dp_pc *pc) { return pc->state == DP_PC_CLOSED || pc->state == DP_PC_FAILED; }

void dp_pc_input(dp_pc *pc, dp_time now, uint8_t *data, size_t len, const dp_address *local,
                 const dp_address *remote)
{
    dp_ice_payload payload;
    if (!is_over(pc) && dp_ice_input(pc->ice, now, data, len, local, remote, &payload))
        input_payload(pc, now, &payload);
}

uint32_t dp_pc_link_accepted(dp_pc *pc, dp_time now, const dp_address *local, const dp_address *remote)
{
    return is_over(pc) ? 0 : dp_ice_link_accepted(pc->ice, now, local, remote);
}

void dp_pc_link_opened(dp_pc *pc, dp_time now, uint32_t link) { dp_ice_link_opened(pc->ice, now, link); }

void dp_pc_link_closed(dp_pc *pc, dp_time now, uint32_t link) { dp_ice_link_closed(pc->ice, now, link); }

void dp_pc_link_input(dp_pc *pc, dp_time now, uint32_t link, uint8_t *data, size_t len)
{
    while (len > 0 && !is_over(pc)) {
        dp_ice_payload payload = {0};
        size_t taken = dp_ice_link_input(pc->ice, now, link, data, len, &payload);
        if (payload.len > 0)
            input_payload(pc, now, &payload);
        if (taken == 0 || taken > len)
            break; /* the link is none of ICE's any more */
        data += taken;
        len -= taken;
    }
}

void dp_pc_resolved(dp_pc *pc, dp_time now, const char *hostname, const dp_address *addresses, size_t count)
{
    dp_ice_resolved(pc->ice, now, hostname, addresses, count);
}

/* ---- time ---- */

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

/* ---- the way out: sctp -> dtls -> ice -> datagram ---- */

/* False: ICE has no way to the peer any more. */
static bool send_payload(dp_pc *pc, dp_datagram *out, size_t headroom)
{
    size_t len = out->length;
    dp_ice_send_end(pc->ice, out, headroom);
    if (out->length == 0)
        return false;
    pc->packets_sent++;
    pc->bytes_sent += len;
    return true;
}

/* usrsctp's packet is encrypted straight into the slot, behind what a relay puts in front of it: the only copy
 * after usrsctp's own. False: nothing to send, or no way to the peer. */
static bool transmit_sctp(dp_pc *pc, dp_datagram *out)
{
    const uint8_t *packet;
    size_t len, headroom;
    while (pc->dtls != NULL && dp_dtls_get_state(pc->dtls) == DP_DTLS_CONNECTED &&
           dp_ice_send_begin(pc->ice, out, &headroom) && dp_sctp_poll_transmit(pc->sctp, &packet, &len)) {
        int error =
            dp_dtls_seal(pc->dtls, out->data + headroom, out->capacity - headroom, &out->length, packet, len);
        if (error != DP_OK) {
            DP_LOG(&pc->log, DP_LOG_WARN, layer, "an SCTP packet of %zu bytes could not be sealed: %s", len,
                   dp_strerror(error));
            continue;
        }
        if (send_payload(pc, out, headroom))
            return true;
    }
    return false;
}

/* A probe that can't leave is one that is lost. */
static bool transmit_probe(dp_pc *pc, dp_time now, dp_datagram *out)
{
    const uint8_t *packet;
    size_t len, headroom;
    if (pc->dtls == NULL || dp_dtls_get_state(pc->dtls) != DP_DTLS_CONNECTED ||
        !dp_ice_send_begin(pc->ice, out, &headroom) || !dp_sctp_poll_probe(pc->sctp, now, &packet, &len) ||
        dp_dtls_seal(pc->dtls, out->data + headroom, out->capacity - headroom, &out->length, packet, len) !=
            DP_OK)
        return false;
    out->whole = true;
    return send_payload(pc, out, headroom);
}

static void set_path(dp_pc *pc, dp_time now, size_t largest)
{
    dp_ice_stats stats;
    dp_ice_get_stats(pc->ice, &stats);
    dp_sctp_set_path(pc->sctp, now, largest, stats.current_round_trip_time);
}

void dp_pc_set_path_mtu(dp_pc *pc, dp_time now, size_t mtu)
{
    uint8_t unused[DP_ICE_HEADROOM_MAX];
    dp_datagram way = {.data = unused, .capacity = sizeof unused};
    size_t headroom;
    size_t largest = 0;
    if (pc->fixed_size == 0 && dp_ice_send_begin(pc->ice, &way, &headroom) && way.link == 0) {
        size_t headers =
            (way.remote.family == DP_FAMILY_IPV6 ? IPV6_UDP : IPV4_UDP) + headroom + DP_DTLS_OVERHEAD;
        largest = mtu > headers ? mtu - headers : 0;
    }
    set_path(pc, now, largest);
}

static bool transmit_dtls(dp_pc *pc, dp_datagram *out)
{
    size_t headroom;
    while (pc->dtls != NULL && dp_ice_send_begin(pc->ice, out, &headroom) &&
           dp_dtls_poll_transmit(pc->dtls, out->data + headroom, out->capacity - headroom, &out->length)) {
        if (send_payload(pc, out, headroom))
            return true;
    }
    return false;
}

/* close_notify goes behind the last data, and behind it what ICE gives back (allocations on relays). */
static bool transmit_last(dp_pc *pc, dp_time now, dp_datagram *out)
{
    if (pc->closing && pc->dtls != NULL && !pc->dtls_close_queued) {
        pc->dtls_close_queued = true;
        dp_dtls_close(pc->dtls, now);
    }
    if (transmit_dtls(pc, out))
        return true;
    if (!pc->ice_closed) {
        pc->ice_closed = true;
        dp_ice_close(pc->ice);
    }
    return dp_ice_poll_transmit(pc->ice, now, out);
}

bool dp_pc_poll_transmit(dp_pc *pc, dp_time now, dp_datagram *out)
{
    if (out->capacity < DP_DATAGRAM_MAX)
        return false;
    out->link = 0;
    out->whole = false;
    if (!is_over(pc) && dp_ice_poll_transmit(pc->ice, now, out))
        return true;
    /* The handshake's last flight goes before the first data. */
    if (!pc->closing && transmit_dtls(pc, out))
        return true;
    if (transmit_sctp(pc, out) || (!is_over(pc) && transmit_probe(pc, now, out)))
        return true;
    return is_over(pc) && transmit_last(pc, now, out);
}

/* ---- events ---- */

static void log_selected_pair(const dp_pc *pc, const dp_ice_event *ice)
{
    static const char *const types[] = {"host", "srflx", "prflx", "relay"};
    char local[DP_ADDRESS_TEXT_MAX], remote[DP_ADDRESS_TEXT_MAX];
    DP_LOG(&pc->log, DP_LOG_INFO, layer, "selected pair: %s %s -> %s %s", types[ice->local_type],
           dp_address_format(&ice->local, local), types[ice->remote_type],
           dp_address_format(&ice->remote, remote));
}

void dp_pc_take_ice_event(dp_pc *pc, dp_time now, dp_pc_event *out, const dp_ice_event *ice)
{
    static const dp_pc_event_type types[] = {
        [DP_ICE_EVENT_LOCAL_CANDIDATE] = DP_PC_EVENT_LOCAL_CANDIDATE,
        [DP_ICE_EVENT_GATHERING_COMPLETE] = DP_PC_EVENT_GATHERING_COMPLETE,
        [DP_ICE_EVENT_STATE] = DP_PC_EVENT_ICE_STATE,
        [DP_ICE_EVENT_SELECTED_PAIR] = DP_PC_EVENT_SELECTED_PAIR,
        [DP_ICE_EVENT_RESOLVE] = DP_PC_EVENT_RESOLVE,
        [DP_ICE_EVENT_LINK_OPEN] = DP_PC_EVENT_LINK_OPEN,
        [DP_ICE_EVENT_LINK_CLOSE] = DP_PC_EVENT_LINK_CLOSE,
    };
    *out = (dp_pc_event){.type = types[ice->type],
                         .ice_state = ice->state,
                         .candidate = ice->candidate,
                         .hostname = ice->hostname,
                         .local = ice->local,
                         .remote = ice->remote,
                         .local_type = ice->local_type,
                         .remote_type = ice->remote_type,
                         .link = ice->link};
    if (ice->type == DP_ICE_EVENT_GATHERING_COMPLETE) {
        pc->gathering_complete = true;
    } else if (ice->type == DP_ICE_EVENT_STATE) {
        pc->ice_state = ice->state;
        update_state(pc, now);
    } else if (ice->type == DP_ICE_EVENT_SELECTED_PAIR) {
        pc->pair_changes++;
        set_path(pc, now, 0);
        log_selected_pair(pc, ice);
        if (pc->dtls != NULL && start_dtls(pc, now) == DP_OK)
            pump_dtls(pc, now);
    }
}

static bool take_kept_event(dp_pc *pc, dp_pc_event *event)
{
    if (!dp_queue_pop(&pc->kept, &pc->current))
        return false;
    if (pc->kept.count == 0)
        dp_queue_clear(&pc->kept); /* there are no more before the next description, and they are large */
    *event = pc->current.event;
    event->hostname = event->hostname != NULL ? pc->current.text : NULL;
    event->link.name = event->link.name != NULL ? pc->current.text : NULL;
    return true;
}

static bool take_ice_event(dp_pc *pc, dp_time now, dp_pc_event *event)
{
    dp_ice_event ice;
    if (!dp_ice_poll_event(pc->ice, &ice))
        return false;
    dp_pc_take_ice_event(pc, now, event, &ice);
    return true;
}

static bool take_sctp_event(dp_pc *pc, dp_pc_event *event)
{
    static const dp_pc_event_type types[] = {
        [DP_SCTP_EVENT_CHANNEL_OPEN] = DP_PC_EVENT_CHANNEL_OPEN,
        [DP_SCTP_EVENT_MESSAGE] = DP_PC_EVENT_MESSAGE,
        [DP_SCTP_EVENT_MESSAGE_PART] = DP_PC_EVENT_MESSAGE_PART,
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
                dp_pc_set_error(pc, sctp.error,
                                sctp.error == DP_ERR_TIMEOUT ? "the other side takes no more data (SCTP)"
                                                             : "the SCTP association failed");
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
        event->first = sctp.first;
        event->last = sctp.last;
        event->error = sctp.error;
        return true;
    }
    return false;
}

bool dp_pc_poll_event(dp_pc *pc, dp_time now, dp_pc_event *event)
{
    memset(event, 0, sizeof(*event));
    /* Channels that the connection's end closes are told before the end itself. */
    if (take_kept_event(pc, event) || take_ice_event(pc, now, event) || take_sctp_event(pc, event))
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

int dp_pc_get_stats(const dp_pc *pc, dp_pc_stats *out)
{
    if (out->size != sizeof *out)
        return DP_ERR_INVALID_ARGUMENT;
    memset(out, 0, sizeof *out);
    out->size = sizeof *out;
    out->packets_sent = pc->packets_sent;
    out->packets_received = pc->packets_received;
    out->bytes_sent = pc->bytes_sent;
    out->bytes_received = pc->bytes_received;
    out->selected_candidate_pair_changes = pc->pair_changes;
    out->ice_state = pc->ice_state;
    out->has_selected_pair = dp_ice_selected_pair(pc->ice, &out->local, &out->remote);
    dp_ice_get_stats(pc->ice, &out->ice);
    dp_sctp_get_stats(pc->sctp, &out->sctp);
    if (pc->dtls == NULL)
        return DP_OK;
    dp_srtp_keys srtp;
    out->dtls_state = dp_dtls_get_state(pc->dtls);
    out->dtls_role = pc->dtls_client ? DP_DTLS_CLIENT : DP_DTLS_SERVER;
    out->dtls_cipher = dp_dtls_cipher_suite(pc->dtls);
    out->tls_version = out->dtls_cipher != NULL ? "FEFD" : NULL;
    if (dp_dtls_srtp_keys(pc->dtls, &srtp) == DP_OK)
        out->srtp_profile = (uint16_t)srtp.profile;
    dp_wipe(&srtp, sizeof srtp);
    return DP_OK;
}
