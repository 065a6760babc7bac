/* Connectivity checks: when they start, and what the answers to ours mean (RFC 8445 §6.1.4, §7.2). */
#include "agent.h"

#include "base/crypto.h"
#include "candidate.h"

/* ---- starting ---- */

/* RFC 8445 §14.3: grows with the number of checks that compete, so that retransmissions keep the pace too.
 * Frozen pairs count, as they don't wait for others here (dp_ice_pairs_next). */
static dp_duration check_rto(const dp_ice *ice)
{
    size_t busy = ice->pair_count - dp_ice_pairs_count(ice, DP_ICE_PAIR_SUCCEEDED) -
                  dp_ice_pairs_count(ice, DP_ICE_PAIR_FAILED);
    dp_duration rto = ice->pacing * busy;
    return rto < DP_ICE_RTO ? DP_ICE_RTO : rto;
}

bool dp_ice_check_start(dp_ice *ice, dp_time now, dp_ice_purpose purpose, size_t index, bool use_candidate)
{
    const dp_ice_pair *pair = &ice->pairs[index];
    const dp_ice_local *local = &ice->locals[pair->local];
    bool consent = purpose == DP_ICE_FOR_CONSENT; /* RFC 7675 §5.1: never retransmitted */
    dp_ice_transaction what = {
        .purpose = purpose,
        .pair = (uint8_t)index,
        .tries_left = consent ? 1 : DP_ICE_TRIES,
        .rto = consent ? DP_ICE_CONSENT_ANSWER : check_rto(ice),
        .message = {.class_ = DP_STUN_REQUEST,
                    .use_candidate = use_candidate,
                    .role = ice->role,
                    .tie_breaker = ice->tie_breaker,
                    /* RFC 8445 §7.1.1: what a peer-reflexive candidate learnt from this check would have */
                    .priority = local->tcp != DP_TCPTYPE_NONE
                                    ? dp_candidate_tcp_priority(DP_CANDIDATE_PRFLX, local->preference)
                                    : dp_candidate_priority(DP_CANDIDATE_PRFLX, local->preference),
                    .base = pair->local,
                    .remote = dp_ice_remote_address(ice, pair)}};
    return dp_ice_transaction_start(ice, now, &what);
}

/* RFC 8445 §6.1.4.1: first in, first out. */
void dp_ice_trigger(dp_ice *ice, size_t index)
{
    if (ice->pairs[index].triggered == 0)
        ice->pairs[index].triggered = ++ice->triggered_serial;
}

static int triggered_next(const dp_ice *ice)
{
    int first = -1;
    for (size_t i = 0; i < ice->pair_count; i++) {
        if (ice->pairs[i].triggered != 0 &&
            (first < 0 || ice->pairs[i].triggered < ice->pairs[first].triggered))
            first = (int)i;
    }
    return first;
}

bool dp_ice_pace_pending(const dp_ice *ice)
{
    if (ice->lite) /* RFC 8445 §2.5: it answers only */
        return false;
    return dp_ice_gather_pending(ice) || triggered_next(ice) >= 0 || dp_ice_pairs_pending(ice);
}

static void start_pair(dp_ice *ice, dp_time now, size_t index)
{
    dp_ice_pair *pair = &ice->pairs[index];
    bool nominating = pair->nominating;
    pair->triggered = 0;
    if (pair->state == DP_ICE_PAIR_SUCCEEDED && !nominating)
        return;
    bool may_ask = dp_ice_remote_may_ask(ice, pair->remote);
    if (may_ask)
        dp_ice_stream_want(ice, pair);
    bool started = may_ask && dp_ice_check_start(ice, now, DP_ICE_FOR_CHECK, index, nominating);
    if (nominating)
        pair->nominating = started;
    else if (started)
        dp_ice_pair_set_state(ice, index, DP_ICE_PAIR_IN_PROGRESS);
    else if (!may_ask)
        dp_ice_pair_set_state(ice, index, DP_ICE_PAIR_FAILED);
}

/* RFC 8445 §14.2: one new transaction each Ta. After a pause the first one leaves at once. Triggered checks
 * come first (§6.1.4.2), but not twice in a row while others wait: browsers repeat their checks every 62 ms,
 * and two paths on which ours get no answer would use up every Ta. */
void dp_ice_pace(dp_ice *ice, dp_time now)
{
    if (!dp_ice_alive(ice) || now < ice->pace_at || !dp_ice_pace_pending(ice))
        return;
    bool others = dp_ice_gather_pending(ice) || dp_ice_pairs_pending(ice);
    int pair = others && ice->triggered_last ? -1 : triggered_next(ice);
    ice->triggered_last = pair >= 0;
    if (pair < 0 && dp_ice_gather_pending(ice))
        dp_ice_gather_step(ice, now);
    else
        start_pair(ice, now, (size_t)(pair >= 0 ? pair : dp_ice_pairs_next(ice)));
    ice->pace_at = now + ice->pacing;
}

/* ---- answers ---- */

void dp_ice_switch_role(dp_ice *ice, dp_ice_role role)
{
    ice->role = role;
    for (size_t i = 0; i < ice->pair_count; i++)
        ice->pairs[i].nominating = false;
    dp_ice_pairs_prioritise(ice);
    DP_ICE_LOG(ice, DP_LOG_INFO, "role conflict: now %s",
               role == DP_ICE_CONTROLLING ? "controlling" : "controlled");
}

/* RFC 8445 §7.2.5.1. The role of the request decides, so that many 487s switch once. A new tie-breaker, so
 * that two agents that drew the same one part. */
static void role_conflict(dp_ice *ice, const dp_ice_transaction *t)
{
    ice->stats.role_conflicts++;
    if (t->message.role == ice->role) {
        (void)dp_random_bytes(&ice->random, &ice->tie_breaker, sizeof ice->tie_breaker);
        dp_ice_switch_role(ice, ice->role == DP_ICE_CONTROLLING ? DP_ICE_CONTROLLED : DP_ICE_CONTROLLING);
    }
    if (t->purpose == DP_ICE_FOR_CHECK && ice->pairs[t->pair].state != DP_ICE_PAIR_SUCCEEDED) {
        dp_ice_pair_set_state(ice, t->pair, DP_ICE_PAIR_WAITING);
        dp_ice_trigger(ice, t->pair);
    }
}

/* RFC 8445 §7.2.5.2.1 and timeouts. A pair that works doesn't fail by a check: consent decides about it. */
void dp_ice_check_failed(dp_ice *ice, size_t index)
{
    dp_ice_pair *pair = &ice->pairs[index];
    pair->nominating = false;
    if (pair->state != DP_ICE_PAIR_IN_PROGRESS)
        return;
    dp_ice_pair_set_state(ice, index, DP_ICE_PAIR_FAILED);
    dp_address remote = dp_ice_remote_address(ice, pair);
    if (!pair->valid)
        dp_ice_stream_drop(ice, pair->local, &remote);
}

/* RFC 8445 §7.2.5.3.1: a mapped address that is none of ours is a peer-reflexive candidate. It is listed, and
 * never paired: checks leave from its base, for which the pair is there. */
static void learn_local(dp_ice *ice, const dp_ice_pair *pair, const dp_address *mapped)
{
    for (size_t i = 0; i < ice->local_count; i++) {
        if (!ice->locals[i].gone && dp_address_equal(&ice->locals[i].address, mapped))
            return;
    }
    dp_ice_local_reflexive(ice, DP_CANDIDATE_PRFLX, mapped, pair->local, 0);
}

static void succeeded(dp_ice *ice, dp_time now, const dp_ice_transaction *t, const dp_address *mapped)
{
    size_t index = t->pair;
    dp_ice_pair *pair = &ice->pairs[index];
    pair->answered_at = now;
    pair->heard_at = now;
    if (t->sent_at != 0)
        pair->round_trip = now - t->sent_at;
    dp_ice_remote_answered(ice, pair->remote);
    dp_ice_consent_answered(ice, now, t);
    if (t->purpose == DP_ICE_FOR_CONSENT)
        return;
    learn_local(ice, pair, mapped);
    dp_ice_pair_set_state(ice, index, DP_ICE_PAIR_SUCCEEDED);
    dp_ice_pairs_unfreeze_like(ice, index);
    pair->valid = true;
    if (!pair->nominating)
        pair->triggered = 0;
    /* RFC 8445 §7.2.5.3.4: ours was the nomination, or the peer's came before the pair was valid. */
    bool ours = t->message.use_candidate && ice->role == DP_ICE_CONTROLLING;
    if (ours || (pair->nominate && ice->role == DP_ICE_CONTROLLED))
        dp_ice_nominate(ice, index);
}

void dp_ice_check_answered(dp_ice *ice, dp_time now, dp_ice_transaction *transaction,
                           const dp_stun_message *message, size_t base, const dp_address *remote)
{
    dp_ice_transaction t = *transaction;
    /* RFC 8489 §6.3.3, §6.3.4: else the transaction has failed. */
    bool understood = message->unknown_count == 0;
    bool symmetric = t.message.base == base && dp_address_equal(&t.message.remote, remote);
    if (symmetric && message->class_ == DP_STUN_SUCCESS && message->mapped.family == DP_FAMILY_NONE) {
        ice->stats.dropped_malformed++;
        return;
    }
    dp_ice_transaction_end(ice, transaction);
    if (!symmetric) {
        ice->stats.dropped_unexpected++;
        if (t.purpose == DP_ICE_FOR_CHECK && !t.cancelled)
            dp_ice_check_failed(ice, t.pair);
    } else if (understood && message->class_ == DP_STUN_SUCCESS) {
        succeeded(ice, now, &t, &message->mapped);
        if (!ice->pairs[t.pair].nominating) /* a late answer must not end the nomination under way */
            dp_ice_transactions_cancel(ice, now, t.pair);
    } else if (understood && message->error_code == DP_STUN_CODE_ROLE_CONFLICT) {
        role_conflict(ice, &t);
    } else if (t.purpose == DP_ICE_FOR_CHECK && !t.cancelled) {
        DP_ICE_LOG(ice, DP_LOG_INFO, "a check was refused: error %u", message->error_code);
        dp_ice_check_failed(ice, t.pair);
    }
    dp_ice_select(ice, now);
}
