/* TURN servers as seen by the agent: a link to each, the allocation on it (turn.h), its relayed candidates, and the
 * datagrams that go through it (RFC 8445 §5.1.1.2, RFC 8656). */
#include "agent.h"

#include "base/mem.h"
#include "candidate.h"

#include <string.h>

static const char *const transport_names[] = {"UDP", "TCP", "TLS"};

/* ---- life of a link ---- */

dp_ice_relay *dp_ice_relay_by_link(const dp_ice *ice, uint32_t link)
{
    for (size_t i = 0; i < ice->relay_count; i++) {
        if (ice->relays[i].link == link && link != 0)
            return &ice->relays[i];
    }
    return NULL;
}

static void open_link(dp_ice *ice, dp_ice_relay *relay)
{
    relay->state = DP_ICE_RELAY_OPENING;
    relay->link = ++ice->link_serial;
    relay->open_due = true;
    relay->reopen_at = DP_TIME_NEVER;
}

/* Frees what the link carried. The owner hears of its end if it has heard of its beginning. */
static void drop_link(dp_ice *ice, dp_ice_relay *relay)
{
    if (relay->link != 0 && !relay->open_due)
        dp_ice_link_dead(ice, relay->link);
    relay->link = 0;
    relay->open_due = false;
    relay->state = DP_ICE_RELAY_IDLE;
    dp_turn_free(relay->turn);
    relay->turn = NULL;
    dp_free(relay->frames);
    relay->frames = NULL;
}

static bool is_of(const dp_ice_relay *relay, const dp_ice_local *local)
{
    return local->type == DP_CANDIDATE_RELAY && local->server == relay->server;
}

/* All its candidates end, and what was found through them, before any is looked at: there may be two, and neither can
 * do without the link. */
static void end_candidates(dp_ice *ice, const dp_ice_relay *relay)
{
    for (size_t i = 0; i < ice->local_count; i++)
        ice->locals[i].gone = ice->locals[i].gone || is_of(relay, &ice->locals[ice->locals[i].base]);
}

static void end_relay(dp_ice *ice, dp_time now, dp_ice_relay *relay)
{
    drop_link(ice, relay);
    end_candidates(ice, relay);
    for (size_t i = 0; i < ice->local_count; i++) {
        if (is_of(relay, &ice->locals[i]))
            dp_ice_local_end(ice, now, i);
    }
}

/* An allocation that worked is asked for again, after 1, 2, 4... s: a server that was restarted needs a while. */
static void lost(dp_ice *ice, dp_time now, dp_ice_relay *relay, bool again)
{
    end_relay(ice, now, relay);
    bool reopening = relay->reopens > 0;
    if ((!again && !reopening) || relay->reopens == DP_ICE_MAX_REOPENS)
        return;
    relay->reopen_at = now + (DP_SECONDS(1) << relay->reopens);
    relay->reopens++;
}

static bool make_relays(dp_ice *ice)
{
    size_t count = 0;
    for (size_t i = 0; i < ice->server_count; i++)
        count += ice->servers[i].turn;
    if (count == 0 || ice->relays != NULL)
        return count > 0;
    ice->relays = dp_calloc(count, sizeof *ice->relays);
    for (size_t i = 0; ice->relays != NULL && i < ice->server_count; i++) {
        if (ice->servers[i].turn)
            ice->relays[ice->relay_count++] =
                (dp_ice_relay){.server = (uint8_t)i, .reopen_at = DP_TIME_NEVER};
    }
    return ice->relays != NULL;
}

void dp_ice_relays_open(dp_ice *ice)
{
    if (ice->lite || !make_relays(ice))
        return;
    for (size_t i = 0; i < ice->relay_count; i++) {
        dp_ice_relay *relay = &ice->relays[i];
        if (relay->state == DP_ICE_RELAY_CLOSING) /* restarted before the release has left */
            drop_link(ice, relay);
        if (relay->state != DP_ICE_RELAY_IDLE)
            continue;
        relay->address = ice->servers[relay->server].address;
        relay->redirects = relay->reopens = 0;
        open_link(ice, relay);
    }
}

void dp_ice_relays_close(dp_ice *ice)
{
    for (size_t i = 0; i < ice->relay_count; i++) {
        dp_ice_relay *relay = &ice->relays[i];
        relay->reopen_at = DP_TIME_NEVER;
        if (relay->state == DP_ICE_RELAY_READY) {
            dp_turn_release(relay->turn, 0); /* it is sent once: the time is of no matter */
            relay->state = DP_ICE_RELAY_CLOSING;
            end_candidates(ice, relay); /* a restart after a failure must not find them */
        } else if (relay->state != DP_ICE_RELAY_CLOSING) {
            drop_link(ice, relay);
        }
    }
}

void dp_ice_relays_free(dp_ice *ice)
{
    for (size_t i = 0; i < ice->relay_count; i++) {
        dp_turn_free(ice->relays[i].turn);
        dp_free(ice->relays[i].frames);
    }
    dp_free(ice->relays);
}

bool dp_ice_relays_pending(const dp_ice *ice)
{
    for (size_t i = 0; i < ice->relay_count; i++) {
        if (ice->relays[i].state == DP_ICE_RELAY_OPENING || ice->relays[i].state == DP_ICE_RELAY_ASKING)
            return true;
    }
    return false;
}

/* ---- what the allocation says ---- */

/* RFC 8445 §5.1.2.1: a relay by UDP before TCP before TLS, in the order of the servers, IPv6 before IPv4. */
static uint32_t preference_of(const dp_ice_relay *relay, dp_ice_transport transport, dp_family family)
{
    static const uint32_t first[] = {[DP_ICE_UDP] = 0xFFFF, [DP_ICE_TCP] = 0x7FFF, [DP_ICE_TLS] = 0x3FFF};
    return first[transport] - 2u * relay->server - (family == DP_FAMILY_IPV4 ? 1 : 0);
}

static void allocated(dp_ice *ice, dp_time now, dp_ice_relay *relay, const dp_turn_event *event)
{
    relay->state = DP_ICE_RELAY_READY;
    relay->reopens = 0;
    for (size_t i = 0; i < event->count; i++) {
        const dp_address *relayed = &event->relayed[i];
        if (!dp_address_is_unicast(relayed))
            continue;
        dp_ice_local local = {.type = DP_CANDIDATE_RELAY,
                              .preference = preference_of(relay, ice->servers[relay->server].transport,
                                                          (dp_family)relayed->family),
                              .server = relay->server,
                              .base = DP_ICE_MAX_LOCAL,
                              .address = *relayed,
                              .related = event->mapped};
        int index = dp_ice_local_add(ice, &local);
        if (index < 0)
            continue;
        dp_ice_pairs_renew(ice, now, (size_t)index, DP_ICE_ANY);
        dp_ice_pairs_form_base(ice, now, (size_t)index);
    }
}

static void peer_refused(dp_ice *ice, const dp_ice_relay *relay, const dp_address *peer)
{
    for (size_t i = 0; i < ice->pair_count; i++) {
        const dp_ice_pair *pair = &ice->pairs[i];
        if (dp_ice_relay_of(ice, pair->local) == relay &&
            dp_address_same_ip(&ice->remotes[pair->remote].address, peer))
            dp_ice_pair_end(ice, i);
    }
}

static void redirected(dp_ice *ice, dp_time now, dp_ice_relay *relay, const dp_address *alternate)
{
    end_relay(ice, now, relay);
    /* RFC 8489 §10: the same transport; a ring of servers must come to an end. */
    if (relay->redirects == DP_ICE_MAX_REDIRECTS || !dp_address_is_unicast(alternate))
        return;
    relay->redirects++;
    relay->address = *alternate;
    open_link(ice, relay);
}

static void pump(dp_ice *ice, dp_time now, dp_ice_relay *relay)
{
    dp_turn_event event;
    char text[DP_ADDRESS_TEXT_MAX];
    while (relay->turn != NULL && dp_turn_poll_event(relay->turn, &event)) {
        switch (event.type) {
        case DP_TURN_EVENT_ALLOCATED:
            allocated(ice, now, relay, &event);
            break;
        case DP_TURN_EVENT_REDIRECTED:
            redirected(ice, now, relay, &event.alternate);
            break;
        case DP_TURN_EVENT_PEER_REFUSED:
            peer_refused(ice, relay, &event.peer);
            dp_ice_select(ice, now);
            break;
        case DP_TURN_EVENT_FAILED:
            DP_ICE_LOG(ice, DP_LOG_WARN, "TURN server %s (%s): %s", dp_address_format(&relay->address, text),
                       transport_names[ice->servers[relay->server].transport], event.message);
            if (relay->state == DP_ICE_RELAY_CLOSING)
                drop_link(ice, relay);
            else /* 437, RFC 8656 §7.4: another 5-tuple may do */
                lost(ice, now, relay, relay->state == DP_ICE_RELAY_READY || event.code == 437);
            break;
        }
    }
}

/* ---- its link ---- */

void dp_ice_relay_opened(dp_ice *ice, dp_time now, dp_ice_relay *relay)
{
    if (relay->state != DP_ICE_RELAY_OPENING)
        return;
    const dp_ice_server_entry *server = &ice->servers[relay->server];
    bool reliable = server->transport != DP_ICE_UDP;
    dp_turn_config config = {.random = ice->random,
                             .log = ice->log,
                             .reliable = reliable,
                             .username = server->username,
                             .credential = server->credential};
    if (reliable)
        relay->frames = dp_calloc(1, sizeof *relay->frames);
    if ((reliable && relay->frames == NULL) || dp_turn_new(&relay->turn, &config) != DP_OK) {
        DP_ICE_LOG(ice, DP_LOG_WARN, "a TURN server can't be used: out of memory");
        drop_link(ice, relay);
    } else {
        relay->state = DP_ICE_RELAY_ASKING;
        dp_turn_start(relay->turn, now);
    }
    dp_ice_gather_update(ice, now);
}

void dp_ice_relay_closed(dp_ice *ice, dp_time now, dp_ice_relay *relay)
{
    char text[DP_ADDRESS_TEXT_MAX];
    DP_ICE_LOG(ice, DP_LOG_WARN, "the %s link to TURN server %s is closed",
               transport_names[ice->servers[relay->server].transport],
               dp_address_format(&relay->address, text));
    relay->link = 0; /* the owner knows */
    if (relay->state == DP_ICE_RELAY_CLOSING)
        drop_link(ice, relay);
    else
        lost(ice, now, relay, relay->state == DP_ICE_RELAY_READY);
    dp_ice_gather_update(ice, now);
}

/* The relayed candidate that data from peer came to: the one of its family. */
static int base_of(const dp_ice *ice, const dp_ice_relay *relay, const dp_address *peer)
{
    for (size_t i = 0; i < ice->local_count; i++) {
        const dp_ice_local *local = &ice->locals[i];
        if (is_of(relay, local) && !local->gone && local->address.family == peer->family)
            return (int)i;
    }
    return -1;
}

static void frame_arrived(dp_ice *ice, dp_time now, dp_ice_relay *relay, uint8_t *frame, size_t len,
                          dp_ice_payload *payload)
{
    dp_turn_data data;
    bool has_data = dp_turn_input(relay->turn, now, frame, len, &data);
    pump(ice, now, relay);
    int base = has_data && relay->state == DP_ICE_RELAY_READY ? base_of(ice, relay, &data.peer) : -1;
    if (base < 0 || !dp_ice_arrived(ice, now, data.data, data.len, (size_t)base, &data.peer, payload))
        payload->len = 0;
}

size_t dp_ice_relay_input(dp_ice *ice, dp_time now, dp_ice_relay *relay, uint8_t *data, size_t len,
                          dp_ice_payload *payload)
{
    if (relay->turn == NULL)
        return len;
    if (relay->frames == NULL) {
        frame_arrived(ice, now, relay, data, len, payload);
        return len;
    }
    size_t frame = 0;
    bool broken = false;
    len = dp_frames_take(relay->frames, data, len, &frame, &broken);
    if (broken) {
        DP_ICE_LOG(ice, DP_LOG_WARN, "a TURN server sends something that is no TURN");
        lost(ice, now, relay, relay->state == DP_ICE_RELAY_READY);
    } else if (frame > 0) {
        frame_arrived(ice, now, relay, relay->frames->data, frame, payload);
    }
    return len;
}

bool dp_ice_relays_event(dp_ice *ice, dp_ice_event *event)
{
    for (size_t i = 0; i < ice->relay_count; i++) {
        dp_ice_relay *relay = &ice->relays[i];
        if (!relay->open_due)
            continue;
        relay->open_due = false;
        event->type = DP_ICE_EVENT_LINK_OPEN;
        event->link.id = relay->link;
        event->link.transport = ice->servers[relay->server].transport;
        event->link.remote = relay->address;
        event->link.name = ice->servers[relay->server].name;
        return true;
    }
    return false;
}

/* ---- time ---- */

void dp_ice_relays_probe(dp_ice *ice, dp_time now)
{
    for (size_t i = 0; i < ice->relay_count; i++) {
        if (ice->relays[i].state == DP_ICE_RELAY_READY)
            dp_turn_probe(ice->relays[i].turn, now);
    }
}

void dp_ice_relays_timeout(dp_ice *ice, dp_time now)
{
    for (size_t i = 0; i < ice->relay_count; i++) {
        dp_ice_relay *relay = &ice->relays[i];
        if (relay->turn != NULL && dp_turn_next_timeout(relay->turn) <= now)
            dp_turn_handle_timeout(relay->turn, now);
        pump(ice, now, relay);
        if (relay->reopen_at <= now) {
            relay->address = ice->servers[relay->server].address;
            relay->redirects = 0;
            open_link(ice, relay);
        }
    }
}

dp_time dp_ice_relays_next(const dp_ice *ice)
{
    dp_time next = DP_TIME_NEVER;
    for (size_t i = 0; i < ice->relay_count; i++) {
        const dp_ice_relay *relay = &ice->relays[i];
        dp_time at = relay->turn != NULL ? dp_turn_next_timeout(relay->turn) : relay->reopen_at;
        next = at < next ? at : next;
    }
    return next;
}

/* ---- the way out ---- */

bool dp_ice_relays_transmit(dp_ice *ice, dp_time now, dp_datagram *out)
{
    for (size_t i = 0; i < ice->relay_count; i++) {
        dp_ice_relay *relay = &ice->relays[i];
        if (relay->turn != NULL && dp_turn_poll_transmit(relay->turn, now, out)) {
            out->link = relay->link;
            out->remote = relay->address;
            return true;
        }
        if (relay->state == DP_ICE_RELAY_CLOSING) /* the release has left */
            drop_link(ice, relay);
    }
    return false;
}

dp_ice_relay *dp_ice_relay_of(const dp_ice *ice, size_t base)
{
    const dp_ice_local *local = &ice->locals[base];
    for (size_t i = 0; i < ice->relay_count && local->type == DP_CANDIDATE_RELAY && !local->gone; i++) {
        if (ice->relays[i].server == local->server)
            return &ice->relays[i];
    }
    return NULL;
}

void dp_ice_permit(dp_ice *ice, dp_time now, const dp_ice_pair *pair)
{
    dp_ice_relay *relay = dp_ice_relay_of(ice, pair->local);
    if (relay != NULL && dp_turn_permit(relay->turn, now, &ice->remotes[pair->remote].address) != DP_OK)
        ice->stats.dropped_limit++;
}

void dp_ice_bind(dp_ice *ice, dp_time now, const dp_ice_pair *pair)
{
    dp_ice_relay *relay = dp_ice_relay_of(ice, pair->local);
    if (relay != NULL && dp_turn_bind(relay->turn, now, &ice->remotes[pair->remote].address) != DP_OK)
        DP_ICE_LOG(ice, DP_LOG_DEBUG, "no channel for the selected pair: Send indications do it");
}
