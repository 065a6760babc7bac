/* The ICE agent: its public interface, what arrives, what time does, and what the owner is told. */
#include "agent.h"

#include "base/config.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "candidate.h"

#include <stdio.h>
#include <string.h>

/* ---- life ---- */

static const char ice_chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int dp_ice_draw_credentials(dp_ice *ice)
{
    char ufrag[DP_ICE_UFRAG_LEN + 1];
    char pwd[DP_ICE_PWD_LEN + 1];
    /* RFC 8445 §5.3: at least 24 random bits of ufrag and 128 of password; here 48 and 144. */
    int err = dp_random_text(&ice->random, ufrag, DP_ICE_UFRAG_LEN, ice_chars);
    if (err == DP_OK)
        err = dp_random_text(&ice->random, pwd, DP_ICE_PWD_LEN, ice_chars);
    if (err != DP_OK)
        return err;
    memcpy(ice->local_ufrag, ufrag, sizeof ufrag);
    memcpy(ice->local_pwd, pwd, sizeof pwd);
    dp_wipe(pwd, sizeof pwd);
    return DP_OK;
}

static int draw_secrets(dp_ice *ice)
{
    int err = dp_ice_draw_credentials(ice);
    if (err == DP_OK)
        err = dp_random_bytes(&ice->random, &ice->tie_breaker, sizeof ice->tie_breaker);
    if (err == DP_OK && ice->hide_addresses)
        err = dp_random_bytes(&ice->random, ice->hide_key, sizeof ice->hide_key);
    return err;
}

int dp_ice_new(dp_ice **out, const dp_ice_config *given)
{
    dp_ice_config read = {0};
    const dp_ice_config *config = &read;
    *out = NULL;
    if (!DP_CONFIG_READ(&read, given, dp_ice_config, log) || config->random.fn == NULL ||
        (config->lite && config->relay_only))
        return DP_ERR_INVALID_ARGUMENT;
    dp_ice *ice = dp_calloc(1, sizeof *ice);
    if (ice == NULL)
        return DP_ERR_NO_MEMORY;
    ice->random = config->random;
    ice->log = config->log;
    ice->role = config->lite ? DP_ICE_CONTROLLED : config->role;
    ice->pacing = config->pacing != 0 ? config->pacing : DP_ICE_PACING;
    ice->gather_timeout = config->gather_timeout != 0 ? config->gather_timeout : DP_ICE_GATHER_TIMEOUT;
    ice->lite = config->lite;
    ice->relay_only = config->relay_only;
    ice->tcp = config->tcp;
    ice->hide_addresses = config->hide_addresses;
    ice->active = DP_ICE_NO_PAIR;
    ice->replies_left = DP_ICE_MAX_REPLIES;
    dp_queue_init(&ice->outgoing, sizeof(dp_ice_outgoing), DP_ICE_MAX_OUTGOING);
    dp_queue_init(&ice->held, sizeof(char *), DP_ICE_MAX_REMOTE);
    dp_queue_init(&ice->unresolved, sizeof(char *), DP_ICE_MAX_UNRESOLVED);
    int err = draw_secrets(ice);
    if (err != DP_OK) {
        dp_ice_free(ice);
        return err;
    }
    *out = ice;
    return DP_OK;
}

/* Forgets all that could lead to a datagram. */
static void fall_silent(dp_ice *ice)
{
    while (dp_queue_pop(&ice->outgoing, NULL))
        continue;
    ice->transaction_count = 0;
    ice->active = DP_ICE_NO_PAIR;
    ice->reply_remote.family = DP_FAMILY_NONE;
    if (ice->previous != NULL)
        ice->previous->alive = false;
    dp_ice_early_clear(ice);
    dp_ice_texts_clear(&ice->held);
    dp_ice_names_clear(ice);
    dp_ice_relays_close(ice);
    dp_ice_streams_close(ice);
}

static void free_servers(dp_ice *ice)
{
    for (size_t i = 0; i < ice->server_count; i++) {
        dp_ice_server_entry *server = &ice->servers[i];
        if (server->credential != NULL)
            dp_wipe(server->credential, strlen(server->credential));
        dp_free(server->name);
        dp_free(server->username);
        dp_free(server->credential);
    }
}

void dp_ice_free(dp_ice *ice)
{
    if (ice == NULL)
        return;
    fall_silent(ice);
    dp_ice_relays_free(ice);
    dp_free(ice->streams);
    free_servers(ice);
    if (ice->previous != NULL)
        dp_wipe(ice->previous, sizeof *ice->previous);
    dp_free(ice->previous);
    dp_queue_clear(&ice->outgoing);
    dp_free(ice->remotes);
    dp_free(ice->pairs);
    dp_free(ice->transactions);
    dp_wipe(ice, sizeof *ice);
    dp_free(ice);
}

void dp_ice_close(dp_ice *ice) { dp_ice_set_state(ice, DP_ICE_CLOSED); }

const char *dp_ice_local_ufrag(const dp_ice *ice) { return ice->local_ufrag; }
const char *dp_ice_local_pwd(const dp_ice *ice) { return ice->local_pwd; }

void dp_ice_set_role(dp_ice *ice, dp_ice_role role)
{
    if (ice->state == DP_ICE_NEW && !ice->lite && !ice->remote_lite)
        ice->role = role;
}

dp_ice_role dp_ice_get_role(const dp_ice *ice) { return ice->role; }
void dp_ice_get_stats(const dp_ice *ice, dp_ice_stats *out)
{
    *out = ice->stats;
    out->current_round_trip_time = ice->active == DP_ICE_NO_PAIR ? 0 : ice->pairs[ice->active].round_trip;
}

/* ---- state ---- */

static const char *const state_names[] = {
    [DP_ICE_NEW] = "new",
    [DP_ICE_CHECKING] = "checking",
    [DP_ICE_CONNECTED] = "connected",
    [DP_ICE_COMPLETED] = "completed",
    [DP_ICE_DISCONNECTED] = "disconnected",
    [DP_ICE_FAILED] = "failed",
    [DP_ICE_CLOSED] = "closed",
};

const char *dp_ice_state_name(dp_ice_state state)
{
    size_t count = sizeof state_names / sizeof state_names[0];
    return (size_t)state < count ? state_names[state] : "unknown";
}

dp_ice_state dp_ice_get_state(const dp_ice *ice) { return ice->state; }

bool dp_ice_alive(const dp_ice *ice) { return ice->state != DP_ICE_FAILED && ice->state != DP_ICE_CLOSED; }

/* Which states may follow which: bit n of the entry is state n. */
static bool may_follow(dp_ice_state from, dp_ice_state to)
{
#define BIT(state) (1u << (state))
    static const unsigned next[] = {
        [DP_ICE_NEW] = BIT(DP_ICE_CHECKING) | BIT(DP_ICE_CLOSED),
        [DP_ICE_CHECKING] = BIT(DP_ICE_CONNECTED) | BIT(DP_ICE_FAILED) | BIT(DP_ICE_CLOSED),
        /* back to checking, or from completed to connected: by a restart */
        [DP_ICE_CONNECTED] = BIT(DP_ICE_COMPLETED) | BIT(DP_ICE_DISCONNECTED) | BIT(DP_ICE_CHECKING) |
                             BIT(DP_ICE_FAILED) | BIT(DP_ICE_CLOSED),
        [DP_ICE_COMPLETED] =
            BIT(DP_ICE_CONNECTED) | BIT(DP_ICE_DISCONNECTED) | BIT(DP_ICE_FAILED) | BIT(DP_ICE_CLOSED),
        [DP_ICE_DISCONNECTED] =
            BIT(DP_ICE_CONNECTED) | BIT(DP_ICE_CHECKING) | BIT(DP_ICE_FAILED) | BIT(DP_ICE_CLOSED),
        [DP_ICE_FAILED] = BIT(DP_ICE_CHECKING) | BIT(DP_ICE_CLOSED),
        [DP_ICE_CLOSED] = 0,
    };
    return (next[from] & BIT(to)) != 0;
#undef BIT
}

void dp_ice_set_state(dp_ice *ice, dp_ice_state state)
{
    if (state == ice->state || !may_follow(ice->state, state))
        return;
    DP_ICE_LOG(ice, DP_LOG_INFO, "%s -> %s", state_names[ice->state], state_names[state]);
    ice->state = state;
    if (ice->state_count == DP_ICE_MAX_STATES) { /* an owner that never asks loses the oldest */
        memmove(ice->states, ice->states + 1, sizeof ice->states - sizeof ice->states[0]);
        ice->state_count--;
    }
    ice->states[ice->state_count++] = state;
    if (!dp_ice_alive(ice))
        fall_silent(ice);
}

/* ---- time ---- */

static bool exhausted(const dp_ice *ice)
{
    return ice->end_of_candidates && ice->gathered && ice->unresolved.count == 0 &&
           dp_ice_pairs_all_failed(ice);
}

/* Searching: for the first path, after a restart, or after the last one was lost. */
static bool has_deadline(const dp_ice *ice)
{
    return ice->active == DP_ICE_NO_PAIR && !dp_ice_previous_alive(ice) && ice->state != DP_ICE_NEW;
}

/* RFC 8863: not because the list is empty or exhausted, as long as a check of the peer may bring a new pair.
 */
static void deadline_step(dp_ice *ice, dp_time now)
{
    if (!has_deadline(ice))
        return;
    if (now >= ice->fail_at || (now >= ice->patience_at && exhausted(ice)))
        dp_ice_set_state(ice, DP_ICE_FAILED);
}

void dp_ice_handle_timeout(dp_ice *ice, dp_time now)
{
    if (!dp_ice_alive(ice))
        return;
    dp_ice_transactions_timeout(ice, now);
    dp_ice_relays_timeout(ice, now);
    dp_ice_consent_step(ice, now);
    dp_ice_previous_step(ice, now);
    deadline_step(ice, now);
    if (!dp_ice_alive(ice))
        return;
    dp_ice_nominate_step(ice, now);
    dp_ice_pace(ice, now);
    dp_ice_gather_update(ice, now);
}

static dp_time earlier(dp_time a, dp_time b) { return a < b ? a : b; }

dp_time dp_ice_next_timeout(const dp_ice *ice)
{
    if (!dp_ice_alive(ice))
        return DP_TIME_NEVER;
    dp_time next = earlier(dp_ice_transactions_next(ice), dp_ice_nominate_next(ice));
    next = earlier(next, earlier(dp_ice_consent_next(ice), dp_ice_previous_next(ice)));
    next = earlier(next, earlier(dp_ice_relays_next(ice), dp_ice_gather_next(ice)));
    if (dp_ice_pace_pending(ice))
        next = earlier(next, ice->pace_at);
    if (has_deadline(ice))
        next = earlier(next, exhausted(ice) ? earlier(ice->patience_at, ice->fail_at) : ice->fail_at);
    return next;
}

/* ---- datagrams ---- */

static void answered(dp_ice *ice, dp_time now, const dp_stun_message *message, size_t base,
                     const dp_address *remote)
{
    dp_ice_transaction *t = dp_ice_transaction_find(ice, message->transaction);
    if (t == NULL) {
        ice->stats.dropped_unexpected++;
    } else if (t->purpose == DP_ICE_FOR_GATHERING) {
        if (!dp_address_equal(&t->message.remote, remote) || t->message.base != base) {
            ice->stats.dropped_unexpected++;
            return;
        }
        dp_ice_gather_answered(ice, t, message);
        dp_ice_transaction_end(ice, t);
    } else if (t->purpose == DP_ICE_FOR_PREVIOUS) {
        dp_ice_previous_answered(ice, now, t, message, base, remote);
    } else if (dp_stun_check_integrity(message, ice->remote_pwd, strlen(ice->remote_pwd)) != DP_OK) {
        ice->stats.dropped_unauthorized++;
    } else {
        dp_ice_check_answered(ice, now, t, message, base, remote);
    }
}

static void stun_arrived(dp_ice *ice, dp_time now, const uint8_t *data, size_t len, size_t base,
                         const dp_address *remote)
{
    dp_stun_message message;
    if (dp_stun_decode(&message, data, len) != DP_OK) {
        ice->stats.dropped_malformed++;
        return;
    }
    if (message.method != DP_STUN_METHOD_BINDING || !dp_address_is_unicast(remote)) {
        ice->stats.dropped_unexpected++;
        return;
    }
    if (message.class_ == DP_STUN_REQUEST)
        dp_ice_request(ice, now, &message, base, remote);
    else if (message.class_ != DP_STUN_INDICATION) /* an indication asks for nothing and proves nothing */
        answered(ice, now, &message, base, remote);
    dp_ice_handle_timeout(ice, now);
}

static bool is_peer(const dp_ice *ice, size_t base, const dp_address *remote)
{
    if (ice->active != DP_ICE_NO_PAIR && ice->pairs[ice->active].local == base && /* nearly all data */
        dp_address_equal(&ice->remotes[ice->pairs[ice->active].remote].address, remote))
        return true;
    int pair = dp_ice_pair_find(ice, base, remote);
    return (pair >= 0 && (ice->pairs[pair].valid || ice->pairs[pair].checked_by_peer)) ||
           dp_ice_previous_is(ice, base, remote);
}

bool dp_ice_arrived(dp_ice *ice, dp_time now, uint8_t *data, size_t len, size_t base,
                    const dp_address *remote, dp_ice_payload *payload)
{
    /* RFC 7983 §7: the first byte of STUN is 0 to 3. Nothing else that comes on this path begins so. */
    if (len == 0 || data[0] <= 3) {
        stun_arrived(ice, now, data, len, base, remote);
        return false;
    }
    if (!is_peer(ice, base, remote)) {
        ice->stats.dropped_unexpected++;
        return false;
    }
    ice->reply_base = (uint8_t)base;
    ice->reply_remote = *remote;
    payload->data = data;
    payload->len = len;
    return true;
}

bool dp_ice_input(dp_ice *ice, dp_time now, uint8_t *data, size_t len, const dp_address *local,
                  const dp_address *remote, dp_ice_payload *payload)
{
    payload->len = 0;
    if (!dp_ice_alive(ice))
        return false;
    int base = dp_ice_local_find(ice, local, DP_TCPTYPE_NONE);
    if (base >= 0)
        return dp_ice_arrived(ice, now, data, len, (size_t)base, remote, payload);
    ice->stats.dropped_unexpected++;
    return false;
}

bool dp_ice_poll_transmit(dp_ice *ice, dp_time now, dp_datagram *out)
{
    dp_ice_outgoing message;
    out->link = 0;
    if (dp_ice_relays_transmit(ice, now, out)) /* permissions before what needs them */
        return true;
    while (dp_queue_pop(&ice->outgoing, &message)) {
        if (!dp_ice_write(ice, &message, out))
            continue; /* lost, as on the network */
        if (message.class_ == DP_STUN_REQUEST)
            ice->stats.requests_sent++;
        else
            ice->stats.responses_sent++;
        return true;
    }
    return false;
}

/* By where the peer's data came from, for want of a pair. */
static bool is_reply(const dp_ice *ice)
{
    return ice->active == DP_ICE_NO_PAIR && !dp_ice_previous_alive(ice);
}

/* Where data leaves now. */
static bool path(const dp_ice *ice, size_t *base, dp_address *remote)
{
    if (ice->active != DP_ICE_NO_PAIR) {
        *base = ice->pairs[ice->active].local;
        *remote = dp_ice_remote_address(ice, &ice->pairs[ice->active]);
    } else if (dp_ice_previous_alive(ice)) {
        *base = ice->previous->base;
        *remote = ice->previous->remote;
    } else {
        *base = ice->reply_base;
        *remote = ice->reply_remote;
        if (ice->replies_left == 0 || !is_peer(ice, *base, remote)) /* or not any more */
            return false;
    }
    return remote->family != DP_FAMILY_NONE && dp_ice_is_base(&ice->locals[*base]);
}

bool dp_ice_send_begin(const dp_ice *ice, dp_datagram *out, size_t *headroom)
{
    size_t base;
    if (!path(ice, &base, &out->remote))
        return false;
    out->local = ice->locals[base].address;
    return dp_ice_carrier(ice, base, &out->remote, &out->link, headroom);
}

void dp_ice_send_end(dp_ice *ice, dp_datagram *out, size_t headroom)
{
    size_t base;
    dp_address remote;
    if (out->link != 0 &&
        (!path(ice, &base, &remote) || !dp_ice_carrier_wrap(ice, base, &remote, out, headroom)))
        out->length = 0;
    if (is_reply(ice) && ice->replies_left > 0)
        ice->replies_left--;
}

/* ---- events ---- */

/* Addresses that the peer must not learn (RFC 8839 §5.1): the base behind a reflexive address, and our own address
 * behind a relay, which without a NAT is the base's, too. */
static void hide_related(const dp_ice *ice, dp_candidate *candidate)
{
    bool hide = ice->hide_addresses || (candidate->type == DP_CANDIDATE_RELAY && ice->relay_only);
    if (!hide || candidate->related.family == DP_FAMILY_NONE)
        return;
    memset(candidate->related.ip, 0, sizeof candidate->related.ip);
    candidate->related.port = 9;
}

static bool format_local(dp_ice *ice, const dp_ice_local *local, dp_ice_event *event)
{
    dp_candidate candidate = {.type = local->type,
                              .component = 1,
                              .tcp = local->tcp != DP_TCPTYPE_NONE,
                              .tcptype = (dp_tcptype)local->tcp,
                              .priority = local->priority,
                              .address = local->address,
                              .related = local->related};
    (void)snprintf(candidate.foundation, sizeof candidate.foundation, "%lu",
                   (unsigned long)local->foundation);
    memcpy(candidate.ufrag, ice->local_ufrag, sizeof ice->local_ufrag);
    hide_related(ice, &candidate);
    if (local->type == DP_CANDIDATE_HOST && ice->hide_addresses) {
        if (dp_ice_hidden_name(ice, &local->address, ice->hostname) != DP_OK)
            return false;
        memcpy(candidate.hostname, ice->hostname, DP_ICE_HIDDEN_NAME_LEN + 1);
        event->hostname = ice->hostname;
    }
    event->type = DP_ICE_EVENT_LOCAL_CANDIDATE;
    event->candidate = ice->text;
    event->local = ice->locals[local->base].address;
    return dp_candidate_format(&candidate, ice->text, sizeof ice->text) == DP_OK;
}

static bool poll_local(dp_ice *ice, dp_ice_event *event)
{
    for (size_t i = 0; ice->gathering && i < ice->local_count; i++) {
        if (ice->locals[i].announced || ice->locals[i].gone)
            continue;
        ice->locals[i].announced = true;
        if (format_local(ice, &ice->locals[i], event))
            return true;
    }
    return false;
}

bool dp_ice_poll_candidate(dp_ice *ice, dp_ice_event *event)
{
    memset(event, 0, sizeof *event);
    event->state = ice->state;
    if (!dp_ice_alive(ice))
        return false;
    if (poll_local(ice, event))
        return true;
    if (!ice->gathered || ice->gathered_reported)
        return false;
    ice->gathered_reported = true;
    event->type = DP_ICE_EVENT_GATHERING_COMPLETE;
    return true;
}

static bool poll_selected(dp_ice *ice, dp_ice_event *event)
{
    if (ice->active == DP_ICE_NO_PAIR || ice->active_reported)
        return false;
    const dp_ice_pair *pair = &ice->pairs[ice->active];
    ice->active_reported = true;
    event->type = DP_ICE_EVENT_SELECTED_PAIR;
    event->local_type = ice->locals[pair->local].type;
    event->remote_type = ice->remotes[pair->remote].type;
    return dp_ice_selected_pair(ice, &event->local, &event->remote);
}

bool dp_ice_poll_event(dp_ice *ice, dp_ice_event *event)
{
    if (dp_ice_poll_candidate(ice, event) || dp_ice_links_event(ice, event) ||
        dp_ice_names_event(ice, event) || poll_selected(ice, event))
        return true;
    if (ice->state_count > 0) {
        event->type = DP_ICE_EVENT_STATE;
        event->state = ice->states[0];
        memmove(ice->states, ice->states + 1, sizeof ice->states - sizeof ice->states[0]);
        ice->state_count--;
        return true;
    }
    return false;
}

/* ---- pairs ---- */

bool dp_ice_selected_pair(const dp_ice *ice, dp_address *local, dp_address *remote)
{
    if (ice->active == DP_ICE_NO_PAIR)
        return false;
    *local = ice->locals[ice->pairs[ice->active].local].address;
    *remote = dp_ice_remote_address(ice, &ice->pairs[ice->active]);
    return true;
}

bool dp_ice_is_validated(const dp_ice *ice, const dp_address *local, const dp_address *remote)
{
    int base = dp_ice_alive(ice) ? dp_ice_local_find(ice, local, DP_TCPTYPE_NONE) : -1;
    return base >= 0 && is_peer(ice, (size_t)base, remote);
}
