/* Whether the path still works: the peer's consent to our traffic (RFC 7675), silence, and the search for another
 * path when it comes.
 *
 *   a check each 4-6 s ---answered--> (again)
 *     | the peer's check comes on a pair that was quiet: a check at once, and 1 s for its answer
 *     | no answer for 0.25 s: a check each 0.25 s
 *     | nothing heard for 5 s, and a check waits for 1 s: DISCONNECTED; every pair is tried anew
 *     | (two round trips instead of 1 s, up to 5 s, where they are slow)
 *     |   another pair works: it carries the data, and is nominated if we control
 *     | 30 s without an answer: the pair must not be used; none left and none to be tried: FAILED */
#include "agent.h"

#include "base/crypto.h"

/* RFC 7675 §5.1: 4 to 6 s, drawn anew each time. Without randomness it is 5 s. */
dp_duration dp_ice_consent_interval(const dp_ice *ice)
{
    uint32_t r = UINT32_MAX / 2;
    (void)dp_random_bytes(&ice->random, &r, sizeof r);
    return DP_ICE_CONSENT_MIN + ((uint64_t)r * DP_ICE_CONSENT_SPREAD >> 32);
}

static dp_time consent_end(const dp_ice_pair *pair) { return pair->answered_at + DP_ICE_CONSENT_EXPIRY; }

/* ---- silence ---- */

/* How long an answer may take, for one that works: behind a long queue that can be seconds. */
static dp_duration answer_wait(const dp_ice *ice)
{
    dp_duration wait = 2 * ice->pairs[ice->active].round_trip;
    return wait < DP_ICE_UNANSWERED ? DP_ICE_UNANSWERED : wait < DP_ICE_SILENCE ? wait : DP_ICE_SILENCE;
}

/* When the pair in use will count as silent if nothing comes. */
static dp_time silent_at(const dp_ice *ice)
{
    const dp_ice_pair *pair = &ice->pairs[ice->active];
    if (ice->lite)
        return pair->heard_at + DP_ICE_LITE_SILENCE;
    if (ice->unanswered_since == 0)
        return DP_TIME_NEVER;
    dp_time quiet = ice->doubted ? 0 : pair->heard_at + DP_ICE_SILENCE;
    dp_time asked = ice->unanswered_since + answer_wait(ice);
    return quiet > asked ? quiet : asked;
}

bool dp_ice_is_fresh(const dp_ice *ice, size_t index, dp_time now)
{
    if (index == ice->active)
        return now < silent_at(ice);
    return now < ice->pairs[index].heard_at + DP_ICE_SILENCE;
}

void dp_ice_disconnected(dp_ice *ice, dp_time now)
{
    if (ice->state == DP_ICE_DISCONNECTED)
        return;
    dp_ice_set_state(ice, DP_ICE_DISCONNECTED);
    if (ice->state != DP_ICE_DISCONNECTED)
        return;
    bool silent = ice->active != DP_ICE_NO_PAIR; /* else its socket or its server has ended */
    ice->fail_at = silent ? consent_end(&ice->pairs[ice->active]) : now + DP_ICE_CONSENT_EXPIRY;
    ice->patience_at = ice->fail_at;
    ice->recheck_at = now; /* not here: the caller may be in the middle of the list */
}

/* ---- consent ---- */

/* The peer may still have our consent: what it sends is taken as long as its checks come. */
static void consent_lost(dp_ice *ice, dp_time now, size_t index)
{
    dp_time heard_at = ice->pairs[index].heard_at;
    dp_ice_pair_end(ice, index);
    ice->pairs[index].checked_by_peer = now < heard_at + DP_ICE_CONSENT_EXPIRY;
}

/* RFC 7675 §5.1: 30 s without an answer and a pair must not be used. This goes for those in reserve, too: the
 * next check of the peer triggers ours, and only its answer makes such a pair valid again. With none left the agent
 * fails when its deadline has come: now, unless there are later candidates. */
static void consent_expire(dp_ice *ice, dp_time now)
{
    bool lost = false;
    for (size_t i = 0; i < ice->pair_count; i++) {
        if (!ice->pairs[i].valid || now < consent_end(&ice->pairs[i]))
            continue;
        lost = true;
        if (i == ice->active) /* if it was not seen before, as the peer is heard but does not answer */
            dp_ice_disconnected(ice, now);
        consent_lost(ice, now, i);
    }
    if (lost)
        dp_ice_select(ice, now);
}

static void ask(dp_ice *ice, dp_time now)
{
    /* USE-CANDIDATE again: the peer's own check of the nominated pair may have failed, or it may have several. */
    bool nominated = ice->role == DP_ICE_CONTROLLING && ice->pairs[ice->active].nominated;
    (void)dp_ice_check_start(ice, now, DP_ICE_FOR_CONSENT, ice->active, nominated);
    if (ice->unanswered_since == 0)
        ice->unanswered_since = now;
    ice->consent_at = now + (ice->state == DP_ICE_DISCONNECTED ? DP_ICE_PROBE_SLOW : DP_ICE_PROBE);
}

void dp_ice_consent_answered(dp_ice *ice, dp_time now, const dp_ice_transaction *t)
{
    if (t->pair != ice->active)
        return;
    ice->unanswered_since = 0;
    ice->doubted = false;
    ice->consent_at = now + dp_ice_consent_interval(ice);
}

/* It may have moved (another network, another NAT binding), or only looks after a pair in reserve. To ask costs one
 * check, to wait for silence costs seconds. */
void dp_ice_doubt(dp_ice *ice, dp_time now)
{
    if (ice->state != DP_ICE_COMPLETED || ice->lite || ice->doubted)
        return;
    ice->doubted = true;
    ice->unanswered_since = 0;
    ice->consent_at = now;
}

void dp_ice_consent_step(dp_ice *ice, dp_time now)
{
    consent_expire(ice, now);
    if (ice->active != DP_ICE_NO_PAIR) {
        if (!ice->lite && now >= ice->consent_at)
            ask(ice, now);
        if (now >= silent_at(ice)) {
            dp_ice_pair *pair = &ice->pairs[ice->active];
            if (ice->doubted && now >= DP_ICE_SILENCE) /* stale from now on, however lately it was heard */
                pair->heard_at = now - DP_ICE_SILENCE;
            dp_ice_disconnected(ice, now);
            dp_ice_select(ice, now); /* one in reserve may have been heard of lately */
        }
    }
    if (ice->state == DP_ICE_DISCONNECTED && now >= ice->recheck_at) {
        ice->recheck_at = now + DP_ICE_RECHECK;
        dp_ice_pairs_recheck(ice);
        dp_ice_relays_probe(ice, now);
    }
}

dp_time dp_ice_consent_next(const dp_ice *ice)
{
    dp_time next = ice->state == DP_ICE_DISCONNECTED ? ice->recheck_at : DP_TIME_NEVER;
    for (size_t i = 0; i < ice->pair_count; i++) {
        if (ice->pairs[i].valid && consent_end(&ice->pairs[i]) < next)
            next = consent_end(&ice->pairs[i]);
    }
    if (ice->active == DP_ICE_NO_PAIR)
        return next;
    if (!ice->lite && ice->consent_at < next)
        next = ice->consent_at;
    if (ice->state != DP_ICE_DISCONNECTED && silent_at(ice) < next)
        next = silent_at(ice);
    return next;
}
