/* Gathering: host candidates from the owner's sockets, server-reflexive ones from STUN servers (RFC 8445
 * §5.1). */
#include "agent.h"

#include "candidate.h"

#include <stdio.h>
#include <string.h>

int dp_ice_local_find(const dp_ice *ice, const dp_address *base)
{
    for (size_t i = 0; i < ice->host_count; i++) {
        if (dp_address_equal(&ice->locals[i].base, base))
            return (int)i;
    }
    return -1;
}

/* RFC 8445 §5.1.1.3: equal for the same type, base address (without port) and STUN server. */
static uint32_t foundation_of(dp_ice *ice, const dp_ice_local *local)
{
    dp_address base = local->base;
    for (size_t i = 0; i < ice->local_count; i++) {
        const dp_ice_local *other = &ice->locals[i];
        base.port = other->base.port;
        if (other->type == local->type && other->server == local->server &&
            dp_address_equal(&other->base, &base))
            return other->foundation;
    }
    return ++ice->foundation_count;
}

/* RFC 8445 §5.1.2.1: unique for each base, in the owner's order; loopback and link-local addresses come last.
 */
static uint32_t preference_of(const dp_address *base, size_t index)
{
    bool poor = dp_address_is_loopback(base) || dp_address_is_link_local(base);
    return (poor ? 0x7FFFu : 0xFFFFu) - (uint32_t)index;
}

static bool add(dp_ice *ice, const dp_ice_local *local)
{
    if (ice->local_count == DP_ICE_MAX_LOCAL)
        return false;
    /* RFC 8445 §5.1.3: the same address from the same base is redundant. */
    for (size_t i = 0; i < ice->local_count; i++) {
        if (dp_address_equal(&ice->locals[i].address, &local->address) &&
            dp_address_equal(&ice->locals[i].base, &local->base))
            return false;
    }
    dp_ice_local *slot = &ice->locals[ice->local_count];
    *slot = *local;
    slot->foundation = foundation_of(ice, local);
    slot->priority = dp_candidate_priority(local->type, local->preference);
    ice->local_count++;
    return true;
}

bool dp_ice_local_add(dp_ice *ice, dp_candidate_type type, const dp_address *address, size_t base,
                      uint8_t server)
{
    dp_ice_local local = {.type = type,
                          .preference = ice->locals[base].preference,
                          .server = server,
                          .announced = type == DP_CANDIDATE_PRFLX, /* RFC 8445 §7.2.5.3.1: not signalled */
                          .address = *address,
                          .base = ice->locals[base].base};
    return add(ice, &local);
}

int dp_ice_add_local_address(dp_ice *ice, const dp_address *local)
{
    if (ice->gathering)
        return DP_ERR_INVALID_STATE;
    if (!dp_address_is_unicast(local))
        return DP_ERR_INVALID_ARGUMENT;
    if (dp_ice_local_find(ice, local) >= 0)
        return DP_OK;
    dp_ice_local host = {.type = DP_CANDIDATE_HOST,
                         .preference = preference_of(local, ice->local_count),
                         .address = *local,
                         .base = *local};
    if (!add(ice, &host))
        return DP_ERR_LIMIT;
    ice->host_count = ice->local_count;
    return DP_OK;
}

int dp_ice_add_stun_server(dp_ice *ice, const dp_address *server)
{
    if (ice->gathering)
        return DP_ERR_INVALID_STATE;
    if (!dp_address_is_unicast(server))
        return DP_ERR_INVALID_ARGUMENT;
    if (ice->server_count == DP_ICE_MAX_SERVERS)
        return DP_ERR_LIMIT;
    ice->servers[ice->server_count++] = *server;
    return DP_OK;
}

static bool can_ask(const dp_address *base, const dp_address *server)
{
    return base->family == server->family &&
           (!dp_address_is_loopback(base) || dp_address_is_loopback(server)) &&
           dp_address_is_link_local(base) == dp_address_is_link_local(server);
}

/* Moves gather_next to a socket and a server that fit each other; false at the end. */
static bool gather_find(const dp_ice *ice, size_t *at)
{
    size_t end = ice->gathering ? ice->host_count * ice->server_count : 0;
    for (; *at < end; (*at)++) {
        if (can_ask(&ice->locals[*at / ice->server_count].base, &ice->servers[*at % ice->server_count]))
            return true;
    }
    return false;
}

bool dp_ice_gather_pending(const dp_ice *ice)
{
    size_t at = ice->gather_next;
    return gather_find(ice, &at);
}

void dp_ice_gather_step(dp_ice *ice, dp_time now)
{
    if (!gather_find(ice, &ice->gather_next))
        return;
    size_t local = ice->gather_next / ice->server_count;
    size_t server = ice->gather_next % ice->server_count;
    dp_ice_transaction what = {.purpose = DP_ICE_FOR_GATHERING,
                               .pair = DP_ICE_NO_PAIR,
                               .local = (uint8_t)local,
                               .server = (uint8_t)server,
                               .tries_left = DP_ICE_GATHER_TRIES,
                               .rto = DP_ICE_RTO,
                               .message = {.class_ = DP_STUN_REQUEST,
                                           .plain = true,
                                           .local = ice->locals[local].base,
                                           .remote = ice->servers[server]}};
    if (!dp_ice_transaction_start(ice, now, &what))
        DP_ICE_LOG(ice, DP_LOG_WARN, "a STUN server could not be asked");
    ice->gather_next++;
}

void dp_ice_gather_answered(dp_ice *ice, const dp_ice_transaction *transaction,
                            const dp_stun_message *message)
{
    /* RFC 8489 §6.3.3: a success with something that must be understood and isn't is none. */
    if (message->class_ == DP_STUN_SUCCESS && message->unknown_count == 0 &&
        dp_address_is_unicast(&message->mapped))
        (void)dp_ice_local_add(ice, DP_CANDIDATE_SRFLX, &message->mapped, transaction->local,
                               transaction->server);
    else
        DP_ICE_LOG(ice, DP_LOG_WARN, "a STUN server gave no address (error %u)", message->error_code);
}

void dp_ice_gather_update(dp_ice *ice)
{
    if (ice->gathering && !ice->gathered && !dp_ice_gather_pending(ice) &&
        !dp_ice_transactions_any(ice, DP_ICE_FOR_GATHERING)) {
        ice->gathered = true;
        DP_ICE_LOG(ice, DP_LOG_DEBUG, "gathered %zu local candidates", ice->local_count);
    }
}

int dp_ice_gather(dp_ice *ice, dp_time now)
{
    if (ice->gathering || !dp_ice_alive(ice))
        return DP_ERR_INVALID_STATE;
    ice->gathering = true;
    dp_ice_begin(ice, now);
    dp_ice_pace(ice, now);
    dp_ice_gather_update(ice);
    return DP_OK;
}
