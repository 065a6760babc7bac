/* What must hold inside an agent at any time, whatever has come from the network. */
#ifndef FUZZ_ICE_AGENT_CHECK_H
#define FUZZ_ICE_AGENT_CHECK_H

#include "ice/agent.h"

#include <stdio.h>
#include <stdlib.h>

static inline void failed(const char *file, int line)
{
    (void)fprintf(stderr, "%s: what line %d requires does not hold\n", file, line);
    abort();
}

#define require(condition) ((condition) ? (void)0 : failed(__FILE__, __LINE__))

static inline void check_state(const dp_ice *ice)
{
    bool active = ice->active != DP_ICE_NO_PAIR;
    bool path = active || dp_ice_previous_alive(ice);
    switch (ice->state) {
    case DP_ICE_NEW:
    case DP_ICE_CHECKING:
    case DP_ICE_FAILED:
    case DP_ICE_CLOSED:
        require(!active);
        break;
    case DP_ICE_CONNECTED:
        require(path);
        break;
    case DP_ICE_COMPLETED:
        require(active);
        break;
    case DP_ICE_DISCONNECTED:
        break;
    }
    if (dp_ice_previous_alive(ice))
        require(dp_ice_is_base(&ice->locals[ice->previous->base]));
}

static inline void check_pairs(const dp_ice *ice, dp_time now)
{
    require(ice->active == DP_ICE_NO_PAIR ||
            (ice->active < ice->pair_count && ice->pairs[ice->active].valid));
    uint32_t known[DP_ICE_MAX_LOCAL][3] = {{0}}; /* bits: base and remote */
    for (size_t i = 0; i < ice->pair_count; i++) {
        const dp_ice_pair *pair = &ice->pairs[i];
        require(pair->local < ice->local_count && pair->remote < ice->remote_count);
        require(!pair->nominated || pair->valid);
        require(!pair->valid || !dp_ice_alive(ice) || dp_ice_is_base(&ice->locals[pair->local]));
        require(!pair->valid || (pair->answered_at <= now && now < pair->answered_at + DP_SECONDS(100000)));
        uint32_t *word = &known[pair->local][pair->remote / 32];
        require((*word & 1u << pair->remote % 32) == 0);
        *word |= 1u << pair->remote % 32;
    }
}

static inline void check_transactions(const dp_ice *ice)
{
    for (size_t i = 0; i < ice->transaction_count; i++) {
        const dp_ice_transaction *t = &ice->transactions[i];
        require(dp_ice_is_base(&ice->locals[t->message.base]));
        if (t->purpose != DP_ICE_FOR_CHECK && t->purpose != DP_ICE_FOR_CONSENT)
            continue;
        require(t->pair < ice->pair_count && ice->pairs[t->pair].local == t->message.base);
        dp_address to = dp_ice_remote_address(ice, &ice->pairs[t->pair]);
        require(dp_address_equal(&t->message.remote, &to));
    }
}

static inline void check_candidates(const dp_ice *ice)
{
    size_t learnt = 0;
    for (size_t i = 0; i < ice->remote_count; i++)
        learnt += ice->remotes[i].learnt;
    require(learnt == ice->prflx_count && learnt <= DP_ICE_MAX_PRFLX &&
            ice->remote_count - learnt <= DP_ICE_MAX_REMOTE);
    require(ice->local_count <= DP_ICE_MAX_LOCAL && ice->early_count <= DP_ICE_MAX_EARLY);
    require(ice->resolve_next <= ice->unresolved.count && ice->unresolved.count <= DP_ICE_MAX_UNRESOLVED);
    for (size_t i = 0; i < ice->local_count; i++) {
        const dp_ice_local *local = &ice->locals[i];
        require(local->base < ice->local_count);
        if (local->gone)
            continue;
        require(local->type == DP_CANDIDATE_HOST || local->type == DP_CANDIDATE_RELAY ||
                dp_ice_is_base(&ice->locals[local->base]));
        const dp_ice_relay *relay = dp_ice_relay_of(ice, i);
        require(relay == NULL || (relay->turn != NULL && relay->state == DP_ICE_RELAY_READY));
    }
}

static inline void check_links(const dp_ice *ice)
{
    require(ice->dead_link_count <= DP_ICE_MAX_DEAD);
    for (size_t i = 0; i < ice->relay_count; i++) {
        const dp_ice_relay *relay = &ice->relays[i];
        require((relay->state >= DP_ICE_RELAY_ASKING) == (relay->turn != NULL));
        require((relay->state == DP_ICE_RELAY_IDLE) == (relay->link == 0));
    }
    for (size_t i = 0; ice->streams != NULL && i < DP_ICE_MAX_STREAMS; i++)
        require(ice->streams[i].link == 0 || dp_ice_is_base(&ice->locals[ice->streams[i].base]));
}

static inline void check_invariants(const dp_ice *ice, dp_time now)
{
    require(ice->pair_count <= DP_ICE_MAX_PAIRS && ice->transaction_count <= DP_ICE_MAX_TRANSACTIONS);
    check_state(ice);
    check_pairs(ice, now);
    check_transactions(ice);
    check_candidates(ice);
    check_links(ice);
}

#endif
