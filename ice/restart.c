/* ICE restart (RFC 8445 §9): a new session with new credentials; the path of the old one carries data until the new
 * one has a path. What is kept of the old session is its credentials and that one path. */
#include "agent.h"

#include "base/mem.h"

#include <string.h>

/* ---- the path of the session before ---- */

bool dp_ice_previous_alive(const dp_ice *ice) { return ice->previous != NULL && ice->previous->alive; }

bool dp_ice_previous_is(const dp_ice *ice, size_t base, const dp_address *remote)
{
    return dp_ice_previous_alive(ice) && ice->previous->base == base &&
           dp_address_equal(&ice->previous->remote, remote);
}

/* Without a path, old or new, the new session has its time to find one, by what it has tried before, too. */
void dp_ice_previous_end(dp_ice *ice, dp_time now)
{
    dp_ice_previous *old = ice->previous;
    old->alive = false;
    if (dp_ice_pair_find(ice, old->base, &old->remote) < 0) /* else the new session has the stream, too */
        dp_ice_stream_drop(ice, old->base, &old->remote);
    if (ice->active != DP_ICE_NO_PAIR)
        return;
    dp_ice_set_state(ice, DP_ICE_CHECKING);
    dp_ice_expect_until(ice, now + DP_ICE_CHECKING_MAX);
    ice->patience_at = now + DP_ICE_PATIENCE;
    dp_ice_pairs_recheck(ice);
}

/* With no path in use, what was kept before is kept on: two restarts in a row. */
static void keep_path(dp_ice *ice, dp_time now)
{
    if (ice->active == DP_ICE_NO_PAIR)
        return;
    const dp_ice_pair *pair = &ice->pairs[ice->active];
    dp_ice_previous *old = ice->previous;
    old->alive = true;
    old->base = pair->local;
    old->remote = dp_ice_remote_address(ice, pair);
    old->answered_at = pair->answered_at;
    old->heard_at = pair->heard_at;
    old->consent_at = now;
    memcpy(old->local_ufrag, ice->local_ufrag, sizeof old->local_ufrag);
    memcpy(old->local_pwd, ice->local_pwd, sizeof old->local_pwd);
    memcpy(old->remote_ufrag, ice->remote_ufrag, sizeof old->remote_ufrag);
    memcpy(old->remote_pwd, ice->remote_pwd, sizeof old->remote_pwd);
}

/* ---- its checks and ours ---- */

bool dp_ice_previous_request(dp_ice *ice, dp_time now, const dp_stun_message *message, size_t base,
                             const dp_address *remote)
{
    dp_ice_previous *old = ice->previous;
    if (!dp_ice_previous_is(ice, base, remote) ||
        !dp_ice_username_is(message, old->local_ufrag, old->remote_ufrag) ||
        dp_stun_check_integrity(message, old->local_pwd, DP_ICE_PWD_LEN) != DP_OK)
        return false;
    old->heard_at = now;
    if (ice->lite) /* it asks nothing: the peer's checks are its consent */
        old->answered_at = now;
    bool refused = message->unknown_count > 0;
    dp_ice_outgoing answer =
        dp_ice_answer_to(message, refused ? DP_STUN_ERROR : DP_STUN_SUCCESS, base, remote);
    answer.previous = true;
    answer.error_code = refused ? DP_STUN_CODE_UNKNOWN_ATTRIBUTE : 0;
    answer.unknown_count = (uint8_t)message->unknown_count;
    memcpy(answer.unknown, message->unknown, sizeof answer.unknown);
    dp_ice_send(ice, &answer);
    return true;
}

void dp_ice_previous_answered(dp_ice *ice, dp_time now, dp_ice_transaction *transaction,
                              const dp_stun_message *message, size_t base, const dp_address *remote)
{
    dp_ice_previous *old = ice->previous;
    if (!dp_ice_previous_is(ice, base, remote) ||
        dp_stun_check_integrity(message, old->remote_pwd, strlen(old->remote_pwd)) != DP_OK) {
        ice->stats.dropped_unauthorized++;
        return;
    }
    dp_ice_transaction_end(ice, transaction);
    if (message->class_ != DP_STUN_SUCCESS)
        return;
    old->answered_at = old->heard_at = now;
    old->consent_at = now + dp_ice_consent_interval(ice);
}

static void ask(dp_ice *ice, dp_time now)
{
    dp_ice_previous *old = ice->previous;
    const dp_ice_local *local = &ice->locals[old->base];
    dp_ice_transaction what = {.purpose = DP_ICE_FOR_PREVIOUS,
                               .pair = DP_ICE_NO_PAIR,
                               .tries_left = 1,
                               .rto = DP_ICE_CONSENT_ANSWER,
                               .message = {.class_ = DP_STUN_REQUEST,
                                           .previous = true,
                                           .role = ice->role,
                                           .tie_breaker = ice->tie_breaker,
                                           .priority = local->priority,
                                           .base = old->base,
                                           .remote = old->remote}};
    (void)dp_ice_transaction_start(ice, now, &what);
    old->consent_at = now + DP_ICE_PROBE_SLOW;
}

/* Once the new session has a path, the old one is only listened to: the peer may change over later. */
static bool in_use(const dp_ice *ice) { return ice->active == DP_ICE_NO_PAIR; }

static dp_time end_of(const dp_ice *ice)
{
    const dp_ice_previous *old = ice->previous;
    return (in_use(ice) ? old->answered_at : old->heard_at) + DP_ICE_CONSENT_EXPIRY;
}

void dp_ice_previous_step(dp_ice *ice, dp_time now)
{
    if (!dp_ice_previous_alive(ice))
        return;
    if (now >= end_of(ice))
        dp_ice_previous_end(ice, now);
    else if (in_use(ice) && !ice->lite && now >= ice->previous->consent_at)
        ask(ice, now);
}

dp_time dp_ice_previous_next(const dp_ice *ice)
{
    if (!dp_ice_previous_alive(ice))
        return DP_TIME_NEVER;
    dp_time next = end_of(ice);
    return in_use(ice) && !ice->lite && ice->previous->consent_at < next ? ice->previous->consent_at : next;
}

/* ---- the new session ---- */

static void forget_session(dp_ice *ice)
{
    while (dp_queue_pop(&ice->outgoing, NULL)) /* their credentials are no longer at hand */
        continue;
    ice->transaction_count = 0;
    ice->pair_count = 0;
    ice->remote_count = ice->prflx_count = 0;
    ice->end_of_candidates = false;
    ice->remote_lite = false;
    ice->remote_ufrag[0] = ice->remote_pwd[0] = '\0';
    ice->active = DP_ICE_NO_PAIR;
    ice->reply_remote.family = DP_FAMILY_NONE;
    ice->unanswered_since = 0;
    ice->running = false;
    dp_ice_early_clear(ice);
    dp_ice_texts_clear(&ice->held);
    dp_ice_names_clear(ice);
    dp_ice_streams_forget(ice);
}

int dp_ice_restart(dp_ice *ice, dp_time now)
{
    if (!ice->gathering || ice->state == DP_ICE_CLOSED)
        return DP_ERR_INVALID_STATE;
    if (ice->previous == NULL)
        ice->previous = dp_calloc(1, sizeof *ice->previous);
    if (ice->previous == NULL)
        return DP_ERR_NO_MEMORY;
    dp_ice_previous before = *ice->previous;
    keep_path(ice, now);
    int err = dp_ice_draw_credentials(ice);
    if (err != DP_OK) {
        *ice->previous = before;
        return err;
    }
    forget_session(ice);
    /* W3C webrtc-pc §5.6.2: completed goes to connected, disconnected to checking. */
    if (ice->state == DP_ICE_COMPLETED)
        dp_ice_set_state(ice, DP_ICE_CONNECTED);
    else if (ice->state != DP_ICE_NEW && ice->state != DP_ICE_CONNECTED)
        dp_ice_set_state(ice, DP_ICE_CHECKING);
    ice->fail_at = now + DP_ICE_CHECKING_MAX;
    ice->patience_at = now + DP_ICE_PATIENCE;
    dp_ice_gather_anew(ice, now);
    dp_ice_gather_update(ice, now);
    return DP_OK;
}
