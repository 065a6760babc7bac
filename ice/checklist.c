/* The check list: candidate pairs, their order and states (RFC 8445 §6.1.2). */
#include "agent.h"

#include "base/mem.h"
#include "candidate.h"

#include <string.h>

static const char *const state_names[] = {
    [DP_ICE_PAIR_FROZEN] = "frozen",           [DP_ICE_PAIR_WAITING] = "waiting",
    [DP_ICE_PAIR_IN_PROGRESS] = "in-progress", [DP_ICE_PAIR_SUCCEEDED] = "succeeded",
    [DP_ICE_PAIR_FAILED] = "failed",
};

void dp_ice_pair_set_state(dp_ice *ice, size_t index, dp_ice_pair_state state)
{
    dp_ice_pair *pair = &ice->pairs[index];
    char local[DP_ADDRESS_TEXT_MAX];
    char remote[DP_ADDRESS_TEXT_MAX];
    if (pair->state == state)
        return;
    DP_ICE_LOG(ice, DP_LOG_DEBUG, "pair %s -> %s: %s -> %s",
               dp_address_format(&ice->locals[pair->local].address, local),
               dp_address_format(&ice->remotes[pair->remote].address, remote), state_names[pair->state],
               state_names[state]);
    pair->state = (uint8_t)state;
}

static uint64_t priority_of(const dp_ice *ice, size_t local, size_t remote)
{
    uint32_t ours = ice->locals[local].priority;
    uint32_t theirs = ice->remotes[remote].priority;
    return ice->role == DP_ICE_CONTROLLING ? dp_candidate_pair_priority(ours, theirs)
                                           : dp_candidate_pair_priority(theirs, ours);
}

void dp_ice_pairs_prioritise(dp_ice *ice)
{
    for (size_t i = 0; i < ice->pair_count; i++)
        ice->pairs[i].priority = priority_of(ice, ice->pairs[i].local, ice->pairs[i].remote);
}

/* RFC 6544 §6.2: who connects goes with who is connected to. */
static bool transports_fit(uint8_t local, uint8_t remote)
{
    return local == DP_TCPTYPE_NONE     ? remote == DP_TCPTYPE_NONE
           : local == DP_TCPTYPE_ACTIVE ? remote == DP_TCPTYPE_PASSIVE
                                        : remote == DP_TCPTYPE_ACTIVE;
}

/* RFC 8445 §6.1.2.2: same family, IPv6 link-local only with its like (and on the same link); so with loopback, which
 * RFC 8445 §5.1.1.1 would not have at all: no peer can make another socket of ours knock at this machine's own doors.
 * What goes through a relay can't be link-local at all. */
static bool can_pair(const dp_ice *ice, size_t base, size_t index)
{
    const dp_address *local = &ice->locals[base].address;
    const dp_address *remote = &ice->remotes[index].address;
    if (!dp_ice_is_base(&ice->locals[base]) || local->family != remote->family ||
        !transports_fit(ice->locals[base].tcp, ice->remotes[index].tcp) ||
        dp_address_is_loopback(local) != dp_address_is_loopback(remote) ||
        (ice->relay_only && ice->locals[base].type != DP_CANDIDATE_RELAY))
        return false;
    if (local->family == DP_FAMILY_IPV4)
        return true;
    return dp_address_is_link_local(local) == dp_address_is_link_local(remote) &&
           (local->scope == 0 || remote->scope == 0 || local->scope == remote->scope);
}

static bool same_foundation(const dp_ice *ice, const dp_ice_pair *a, const dp_ice_pair *b)
{
    return ice->locals[a->local].foundation == ice->locals[b->local].foundation &&
           strcmp(ice->remotes[a->remote].foundation, ice->remotes[b->remote].foundation) == 0;
}

/* RFC 8838 §12: frozen if a pair of the same foundation is being checked, unless one has succeeded already.
 */
static dp_ice_pair_state first_state(const dp_ice *ice, const dp_ice_pair *pair)
{
    bool busy = false;
    for (size_t i = 0; i < ice->pair_count; i++) {
        const dp_ice_pair *other = &ice->pairs[i];
        if (other == pair || !same_foundation(ice, other, pair))
            continue;
        if (other->state == DP_ICE_PAIR_SUCCEEDED)
            return DP_ICE_PAIR_WAITING;
        busy = busy || other->state == DP_ICE_PAIR_WAITING || other->state == DP_ICE_PAIR_IN_PROGRESS;
    }
    return busy ? DP_ICE_PAIR_FROZEN : DP_ICE_PAIR_WAITING;
}

/* With the list full: the place of a pair whose base has ended, else of the lowest on which nothing depends; -1 if
 * there is none below priority. */
static int displace(dp_ice *ice, uint64_t priority)
{
    int lowest = -1;
    for (size_t i = 0; i < ice->pair_count; i++) {
        const dp_ice_pair *pair = &ice->pairs[i];
        bool idle = !pair->valid && !pair->checked_by_peer && pair->triggered == 0 &&
                    pair->state != DP_ICE_PAIR_IN_PROGRESS;
        uint64_t worth = dp_ice_is_base(&ice->locals[pair->local]) ? pair->priority : 0;
        if (idle && worth < priority) {
            lowest = (int)i;
            priority = worth;
        }
    }
    if (lowest >= 0)
        dp_ice_transactions_drop(ice, (size_t)lowest);
    return lowest;
}

static int pair_add(dp_ice *ice, size_t local, size_t remote, bool urgent)
{
    uint64_t priority = priority_of(ice, local, remote);
    int index = (int)ice->pair_count;
    if (ice->pair_count == DP_ICE_MAX_PAIRS) {
        index = displace(ice, urgent ? UINT64_MAX : priority);
        if (index < 0)
            ice->stats.dropped_limit++;
    } else {
        void *items = ice->pairs;
        if (dp_grow(&items, &ice->pair_capacity, ice->pair_count + 1, DP_ICE_MAX_PAIRS, sizeof *ice->pairs) !=
            DP_OK)
            index = -1;
        ice->pairs = (dp_ice_pair *)items;
        ice->pair_count += index >= 0;
    }
    if (index < 0)
        return -1;
    dp_ice_pair *pair = &ice->pairs[index];
    memset(pair, 0, sizeof *pair);
    pair->local = (uint8_t)local;
    pair->remote = (uint8_t)remote;
    pair->priority = priority;
    pair->state = (uint8_t)first_state(ice, pair);
    return index;
}

static int pair_at(const dp_ice *ice, size_t local, size_t remote)
{
    for (size_t i = 0; i < ice->pair_count; i++) {
        if (ice->pairs[i].local == local && ice->pairs[i].remote == remote)
            return (int)i;
    }
    return -1;
}

int dp_ice_pair_get(dp_ice *ice, size_t local, size_t remote)
{
    int known = pair_at(ice, local, remote);
    if (known >= 0)
        return can_pair(ice, local, remote) ? known : -1;
    if (!can_pair(ice, local, remote))
        return -1;
    return pair_add(ice, local, remote, true);
}

static void form(dp_ice *ice, dp_time now, size_t base, size_t remote)
{
    int index = can_pair(ice, base, remote) && pair_at(ice, base, remote) < 0
                    ? pair_add(ice, base, remote, false)
                    : -1;
    if (index < 0)
        return;
    dp_ice_expect_until(ice, now + DP_ICE_LATE);
    /* Before the check, so that it finds the permission in place. */
    dp_ice_permit(ice, now, &ice->pairs[index]);
}

void dp_ice_pairs_form(dp_ice *ice, dp_time now, size_t remote)
{
    for (size_t i = 0; ice->running && i < ice->local_count; i++)
        form(ice, now, i, remote);
}

void dp_ice_pairs_form_base(dp_ice *ice, dp_time now, size_t base)
{
    for (size_t i = 0; ice->running && i < ice->remote_count; i++)
        form(ice, now, base, i);
}

int dp_ice_pair_find(const dp_ice *ice, size_t base, const dp_address *remote)
{
    for (size_t i = 0; i < ice->pair_count; i++) {
        const dp_ice_pair *pair = &ice->pairs[i];
        if (pair->local == base && dp_address_equal(&ice->remotes[pair->remote].address, remote))
            return (int)i;
    }
    return -1;
}

void dp_ice_pair_end(dp_ice *ice, size_t index)
{
    dp_ice_pair *pair = &ice->pairs[index];
    pair->valid = pair->nominated = pair->nominating = pair->nominate = pair->checked_by_peer = false;
    pair->triggered = 0;
    dp_ice_transactions_drop(ice, index);
    dp_ice_pair_set_state(ice, index, DP_ICE_PAIR_FAILED);
    dp_address remote = dp_ice_remote_address(ice, pair);
    dp_ice_stream_drop(ice, pair->local, &remote);
}

void dp_ice_pairs_renew(dp_ice *ice, dp_time now, size_t base, size_t remote)
{
    for (size_t i = 0; i < ice->pair_count; i++) {
        dp_ice_pair *pair = &ice->pairs[i];
        if ((base != DP_ICE_ANY && pair->local != base) || (remote != DP_ICE_ANY && pair->remote != remote))
            continue;
        dp_ice_pair_end(ice, i);
        if (!can_pair(ice, pair->local, pair->remote))
            continue;
        pair->heard_at = pair->answered_at = 0;
        pair->priority = priority_of(ice, pair->local, pair->remote);
        dp_ice_pair_set_state(ice, i, first_state(ice, pair));
        dp_ice_permit(ice, now, pair);
    }
}

void dp_ice_pairs_recheck(dp_ice *ice)
{
    for (size_t i = 0; i < ice->pair_count; i++) {
        const dp_ice_pair *pair = &ice->pairs[i];
        bool done = pair->state == DP_ICE_PAIR_FAILED || pair->state == DP_ICE_PAIR_SUCCEEDED;
        if (done && i != ice->active && can_pair(ice, pair->local, pair->remote))
            dp_ice_pair_set_state(ice, i, DP_ICE_PAIR_WAITING);
    }
}

/* RFC 8445 §7.2.5.3.3 */
void dp_ice_pairs_unfreeze_like(dp_ice *ice, size_t index)
{
    for (size_t i = 0; i < ice->pair_count; i++) {
        if (ice->pairs[i].state == DP_ICE_PAIR_FROZEN &&
            same_foundation(ice, &ice->pairs[i], &ice->pairs[index]))
            dp_ice_pair_set_state(ice, i, DP_ICE_PAIR_WAITING);
    }
}

/* Of the pairs that are not in the triggered-check queue. */
static int best_in(const dp_ice *ice, dp_ice_pair_state state)
{
    int best = -1;
    for (size_t i = 0; i < ice->pair_count; i++) {
        const dp_ice_pair *pair = &ice->pairs[i];
        if (pair->state == state && pair->triggered == 0 &&
            (best < 0 || pair->priority > ice->pairs[best].priority))
            best = (int)i;
    }
    return best;
}

/* RFC 8445 §8.1.2: once a pair is nominated, the rest of the list is left alone, unless that pair has gone
 * quiet. */
static bool list_is_done(const dp_ice *ice)
{
    return ice->active != DP_ICE_NO_PAIR && ice->pairs[ice->active].nominated &&
           ice->state != DP_ICE_DISCONNECTED;
}

/* RFC 8445 §6.1.4.2: the best waiting pair, else the best frozen one. Step 2 of it would hold frozen pairs
 * back while one of their foundation is in progress; with one component that saves nothing, and costs up to
 * 19 s with a peer that gives all its candidates one foundation. Here freezing decides the order only. */
int dp_ice_pairs_next(dp_ice *ice)
{
    if (list_is_done(ice))
        return -1;
    int best = best_in(ice, DP_ICE_PAIR_WAITING);
    return best >= 0 ? best : best_in(ice, DP_ICE_PAIR_FROZEN);
}

bool dp_ice_pairs_pending(const dp_ice *ice)
{
    return !list_is_done(ice) &&
           (best_in(ice, DP_ICE_PAIR_WAITING) >= 0 || best_in(ice, DP_ICE_PAIR_FROZEN) >= 0);
}

bool dp_ice_pairs_better_open(const dp_ice *ice, uint64_t priority)
{
    for (size_t i = 0; i < ice->pair_count; i++) {
        if (ice->pairs[i].priority > priority && ice->pairs[i].state < DP_ICE_PAIR_SUCCEEDED)
            return true;
    }
    return false;
}

size_t dp_ice_pairs_count(const dp_ice *ice, dp_ice_pair_state state)
{
    size_t n = 0;
    for (size_t i = 0; i < ice->pair_count; i++)
        n += ice->pairs[i].state == state;
    return n;
}

bool dp_ice_pairs_all_failed(const dp_ice *ice)
{
    return ice->pair_count > 0 && dp_ice_pairs_count(ice, DP_ICE_PAIR_FAILED) == ice->pair_count;
}
