/* Nomination, and which pair carries the data (RFC 8445 §8.1). Whether it still works is consent.c's. */
#include "agent.h"

/* ---- the pair in use ---- */

/* The peer, controlling, names the pair that it uses with each consent check. It may have named several that work; one
 * that was named long before another is not what it means now. What is named after this time is. */
static dp_time named_since(const dp_ice *ice, dp_time now)
{
    dp_time last = 0;
    for (size_t i = 0; i < ice->pair_count; i++) {
        const dp_ice_pair *pair = &ice->pairs[i];
        if (pair->valid && pair->nominated && pair->named_at > last && dp_ice_is_fresh(ice, i, now))
            last = pair->named_at;
    }
    return last > DP_ICE_NAMED ? last - DP_ICE_NAMED : 0;
}

/* A pair that has gone quiet gives way to one that hasn't, nominated or not: so either side can move. RFC 8445 §8.1.1
 * has one nomination; browsers nominate each pair that works and mean the best (RFC 5245 §8.1.1.2). Each step compares
 * what a pair has by itself, so that the order of the list is of no matter. */
static bool is_better(const dp_ice *ice, size_t x, size_t y, dp_time now, dp_time since)
{
    const dp_ice_pair *a = &ice->pairs[x];
    const dp_ice_pair *b = &ice->pairs[y];
    bool a_fresh = dp_ice_is_fresh(ice, x, now);
    if (a_fresh != dp_ice_is_fresh(ice, y, now))
        return a_fresh;
    if (a->nominated != b->nominated)
        return a->nominated;
    if ((a->named_at >= since) != (b->named_at >= since))
        return a->named_at >= since;
    if (!a_fresh && a->heard_at != b->heard_at)
        return a->heard_at > b->heard_at;
    return a->priority > b->priority;
}

static uint8_t best_valid(const dp_ice *ice, dp_time now)
{
    uint8_t best = DP_ICE_NO_PAIR;
    dp_time since = named_since(ice, now);
    for (size_t i = 0; i < ice->pair_count; i++) {
        if (ice->pairs[i].valid && (best == DP_ICE_NO_PAIR || is_better(ice, i, best, now, since)))
            best = (uint8_t)i;
    }
    return best;
}

static void activate(dp_ice *ice, dp_time now, uint8_t best)
{
    const dp_ice_pair *pair = &ice->pairs[best];
    if (ice->active == DP_ICE_NO_PAIR)
        ice->nominate_at = now + DP_ICE_NOMINATION_WAIT;
    ice->active = best;
    ice->active_reported = false;
    ice->replies_left = 0; /* for good: without consent nothing leaves any more */
    ice->doubted = false;
    for (size_t i = 0; i < ice->pair_count; i++) /* the nomination of another pair under way is overtaken */
        ice->pairs[i].nominating = false;
    ice->unanswered_since = 0; /* it was not asked yet; whether it is fresh shows soon */
    ice->consent_at = pair->answered_at + dp_ice_consent_interval(ice);
    dp_ice_bind(ice, now, pair);
    char local[DP_ADDRESS_TEXT_MAX];
    char remote[DP_ADDRESS_TEXT_MAX];
    dp_address to = dp_ice_remote_address(ice, pair);
    DP_ICE_LOG(ice, DP_LOG_INFO, "sending from %s to %s",
               dp_address_format(&ice->locals[pair->local].address, local), dp_address_format(&to, remote));
}

void dp_ice_select(dp_ice *ice, dp_time now)
{
    if (!dp_ice_alive(ice)) /* pairs that were valid are still there */
        return;
    uint8_t best = best_valid(ice, now);
    if (best == DP_ICE_NO_PAIR) {
        bool lost = ice->active != DP_ICE_NO_PAIR;
        ice->active = DP_ICE_NO_PAIR;
        if (lost)
            dp_ice_disconnected(ice, now);
        return;
    }
    bool fresh = dp_ice_is_fresh(ice, best, now);
    if (best != ice->active)
        activate(ice, now, best);
    if (!fresh)
        return;
    if (ice->state != DP_ICE_COMPLETED)
        dp_ice_set_state(ice, DP_ICE_CONNECTED);
    if (ice->pairs[best].nominated)
        dp_ice_set_state(ice, DP_ICE_COMPLETED);
}

/* ---- nomination ---- */

void dp_ice_nominate(dp_ice *ice, size_t index)
{
    dp_ice_pair *pair = &ice->pairs[index];
    if (ice->role == DP_ICE_CONTROLLING) { /* ours: the last one is the one that we mean */
        for (size_t i = 0; i < ice->pair_count; i++)
            ice->pairs[i].nominated = false;
    }
    pair->nominated = true;
    pair->nominate = false;
    pair->nominating = false;
    /* RFC 8445 §8.1.2: the checks of lesser pairs are no longer repeated. */
    for (size_t i = 0; i < ice->transaction_count; i++) {
        dp_ice_transaction *t = &ice->transactions[i];
        if (t->purpose == DP_ICE_FOR_CHECK && ice->pairs[t->pair].priority < pair->priority)
            t->tries_left = 0;
    }
}

static bool nomination_is_open(const dp_ice *ice)
{
    if (ice->role != DP_ICE_CONTROLLING || ice->active == DP_ICE_NO_PAIR ||
        ice->pairs[ice->active].nominated || ice->state == DP_ICE_DISCONNECTED)
        return false;
    for (size_t i = 0; i < ice->pair_count; i++) {
        if (ice->pairs[i].nominating)
            return false;
    }
    return true;
}

static bool is_relayed(const dp_ice *ice)
{
    const dp_ice_pair *pair = &ice->pairs[ice->active];
    return ice->locals[pair->local].type == DP_CANDIDATE_RELAY ||
           ice->remotes[pair->remote].type == DP_CANDIDATE_RELAY;
}

/* Once a pair is nominated, better ones are no longer looked for: the session would stay on a relay. */
static bool better_may_come(const dp_ice *ice)
{
    bool known = ice->relay_only || (ice->end_of_candidates && ice->gathered);
    return dp_ice_pairs_better_open(ice, ice->pairs[ice->active].priority) || (is_relayed(ice) && !known);
}

static dp_time wait_until(const dp_ice *ice)
{
    return ice->nominate_at + (is_relayed(ice) ? DP_ICE_RELAYED_WAIT : 0);
}

/* Regular nomination (RFC 8445 §8.1.1): of the best valid pair, once no better one can come or enough was
 * waited. */
void dp_ice_nominate_step(dp_ice *ice, dp_time now)
{
    if (!nomination_is_open(ice) || (now < wait_until(ice) && better_may_come(ice)))
        return;
    ice->pairs[ice->active].nominating = true;
    dp_ice_trigger(ice, ice->active);
}

dp_time dp_ice_nominate_next(const dp_ice *ice)
{
    return nomination_is_open(ice) ? wait_until(ice) : DP_TIME_NEVER;
}
