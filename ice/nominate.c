/* Nomination, the pair in use, and the peer's consent to it (RFC 8445 §8.1, RFC 7675). */
#include "agent.h"

#include "base/crypto.h"

/* ---- the pair in use ---- */

static bool is_fresh(const dp_ice_pair *pair, dp_time now) { return now < pair->heard_at + DP_ICE_SILENCE; }

/* RFC 8445 §8.1.1 has one nomination; browsers nominate each pair that works and mean the best (RFC 5245
 * §8.1.1.2). A nominated pair that has gone quiet gives way to one that hasn't: so the peer can move. */
static bool is_better(const dp_ice_pair *a, const dp_ice_pair *b, dp_time now)
{
    if (a->nominated != b->nominated)
        return a->nominated;
    bool a_fresh = is_fresh(a, now);
    if (a_fresh != is_fresh(b, now))
        return a_fresh;
    if (!a_fresh && a->heard_at != b->heard_at)
        return a->heard_at > b->heard_at;
    return a->priority > b->priority;
}

static uint8_t best_valid(const dp_ice *ice, dp_time now)
{
    uint8_t best = DP_ICE_NO_PAIR;
    for (size_t i = 0; i < ice->pair_count; i++) {
        if (ice->pairs[i].valid &&
            (best == DP_ICE_NO_PAIR || is_better(&ice->pairs[i], &ice->pairs[best], now)))
            best = (uint8_t)i;
    }
    return best;
}

/* RFC 7675 §5.1: 4 to 6 s, drawn anew each time. Without randomness it is 5 s. */
static dp_duration consent_interval(const dp_ice *ice)
{
    uint32_t r = UINT32_MAX / 2;
    (void)dp_random_bytes(&ice->random, &r, sizeof r);
    return DP_ICE_CONSENT_MIN + ((uint64_t)r * DP_ICE_CONSENT_SPREAD >> 32);
}

static void activate(dp_ice *ice, dp_time now, uint8_t best)
{
    if (ice->active == DP_ICE_NO_PAIR)
        ice->nominate_at = now + DP_ICE_NOMINATION_WAIT;
    ice->active = best;
    ice->active_reported = false;
    ice->consent_at = ice->pairs[best].answered_at + consent_interval(ice);
    char local[DP_ADDRESS_TEXT_MAX];
    char remote[DP_ADDRESS_TEXT_MAX];
    dp_address to = dp_ice_remote_address(ice, &ice->pairs[best]);
    DP_ICE_LOG(ice, DP_LOG_INFO, "sending from %s to %s",
               dp_address_format(&ice->locals[ice->pairs[best].local].base, local),
               dp_address_format(&to, remote));
}

void dp_ice_select(dp_ice *ice, dp_time now)
{
    uint8_t best = best_valid(ice, now);
    if (best == DP_ICE_NO_PAIR) {
        ice->active = DP_ICE_NO_PAIR;
        return;
    }
    if (best != ice->active)
        activate(ice, now, best);
    if (!is_fresh(&ice->pairs[best], now))
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
    if (ice->role != DP_ICE_CONTROLLING || ice->active == DP_ICE_NO_PAIR || ice->pairs[ice->active].nominated)
        return false;
    for (size_t i = 0; i < ice->pair_count; i++) {
        if (ice->pairs[i].nominating)
            return false;
    }
    return true;
}

/* Regular nomination (RFC 8445 §8.1.1): of the best valid pair, once no better one can come or enough was
 * waited. */
void dp_ice_nominate_step(dp_ice *ice, dp_time now)
{
    if (!nomination_is_open(ice))
        return;
    if (now < ice->nominate_at && dp_ice_pairs_better_open(ice, ice->pairs[ice->active].priority))
        return;
    ice->pairs[ice->active].nominating = true;
    dp_ice_trigger(ice, ice->active);
}

/* ---- consent ---- */

static dp_time consent_end(const dp_ice_pair *pair) { return pair->answered_at + DP_ICE_CONSENT_EXPIRY; }

/* The peer may still have our consent: what it sends is taken as long as its checks come. */
static void consent_lost(dp_ice *ice, dp_time now, size_t index)
{
    dp_ice_pair *pair = &ice->pairs[index];
    pair->valid = false;
    pair->nominated = false;
    pair->nominating = false;
    pair->triggered = 0;
    pair->checked_by_peer = now < pair->heard_at + DP_ICE_CONSENT_EXPIRY;
    dp_ice_transactions_drop(ice, index);
    dp_ice_pair_set_state(ice, index, DP_ICE_PAIR_FAILED);
}

/* RFC 7675 §5.1: 30 s without an answer and a pair must not be used. This goes for those in reserve, too: the
 * next check of the peer triggers ours, and only its answer makes such a pair valid again. */
static void consent_expire(dp_ice *ice, dp_time now)
{
    bool lost = false;
    for (size_t i = 0; i < ice->pair_count; i++) {
        if (ice->pairs[i].valid && now >= consent_end(&ice->pairs[i])) {
            consent_lost(ice, now, i);
            lost = true;
        }
    }
    if (!lost)
        return;
    dp_ice_select(ice, now);
    if (ice->active == DP_ICE_NO_PAIR) {
        DP_ICE_LOG(ice, DP_LOG_INFO, "consent lost: the peer is silent");
        dp_ice_set_state(ice, DP_ICE_FAILED);
    }
}

void dp_ice_consent_step(dp_ice *ice, dp_time now)
{
    consent_expire(ice, now);
    if (ice->active == DP_ICE_NO_PAIR)
        return;
    if (now >= ice->consent_at) {
        (void)dp_ice_check_start(ice, now, DP_ICE_FOR_CONSENT, ice->active, false);
        ice->consent_at = now + consent_interval(ice);
    }
    if (!is_fresh(&ice->pairs[ice->active], now))
        dp_ice_set_state(ice, DP_ICE_DISCONNECTED);
}

dp_time dp_ice_nominate_next(const dp_ice *ice)
{
    if (ice->active == DP_ICE_NO_PAIR)
        return DP_TIME_NEVER;
    const dp_ice_pair *pair = &ice->pairs[ice->active];
    dp_time next = ice->consent_at;
    for (size_t i = 0; i < ice->pair_count; i++) {
        if (ice->pairs[i].valid && consent_end(&ice->pairs[i]) < next)
            next = consent_end(&ice->pairs[i]);
    }
    if (ice->state != DP_ICE_DISCONNECTED && pair->heard_at + DP_ICE_SILENCE < next)
        next = pair->heard_at + DP_ICE_SILENCE;
    if (nomination_is_open(ice) && ice->nominate_at < next)
        next = ice->nominate_at;
    return next;
}
