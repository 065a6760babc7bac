/* Gathering: host candidates from the owner's sockets, server-reflexive ones from STUN servers (RFC 8445
 * §5.1); sockets that come and go. Relayed candidates are relay.c's. */
#include "agent.h"

#include "base/config.h"
#include "base/mem.h"
#include "candidate.h"

#include <stdio.h>
#include <string.h>

bool dp_ice_is_base(const dp_ice_local *local)
{
    return !local->gone && (local->type == DP_CANDIDATE_HOST || local->type == DP_CANDIDATE_RELAY);
}

static bool is_host(const dp_ice_local *local) { return !local->gone && local->type == DP_CANDIDATE_HOST; }

int dp_ice_local_find(const dp_ice *ice, const dp_address *base, dp_tcptype tcp)
{
    for (size_t i = 0; i < ice->local_count; i++) {
        if (is_host(&ice->locals[i]) && ice->locals[i].tcp == tcp &&
            dp_address_equal(&ice->locals[i].address, base))
            return (int)i;
    }
    return -1;
}

/* ---- the list ---- */

/* RFC 8445 §5.1.1.3: equal for the same type, base address (without port) and server. */
static uint32_t foundation_of(dp_ice *ice, const dp_ice_local *local, const dp_address *base)
{
    for (size_t i = 0; i < ice->local_count; i++) {
        const dp_ice_local *other = &ice->locals[i];
        if (other->type == local->type && other->tcp == local->tcp && other->server == local->server &&
            dp_address_same_ip(&ice->locals[other->base].address, base))
            return other->foundation;
    }
    return ++ice->foundation_count;
}

/* A place for local: its own old one, a new one, else that of a candidate that has ended. -1: none. */
static int place_for(const dp_ice *ice, const dp_ice_local *local)
{
    for (size_t i = 0; i < ice->local_count; i++) {
        const dp_ice_local *other = &ice->locals[i];
        if (other->gone && other->type == local->type && other->tcp == local->tcp &&
            dp_address_equal(&other->address, &local->address))
            return (int)i;
    }
    if (ice->local_count < DP_ICE_MAX_LOCAL)
        return (int)ice->local_count;
    int place = -1;
    for (size_t i = 0; i < ice->local_count && (place < 0 || !ice->locals[place].gone); i++) {
        /* Nothing depends on a peer-reflexive one, and a peer can make up any number of them. */
        if (ice->locals[i].gone ||
            (ice->locals[i].type == DP_CANDIDATE_PRFLX && local->type != DP_CANDIDATE_PRFLX))
            place = (int)i;
    }
    return place;
}

static bool is_redundant(const dp_ice *ice, const dp_ice_local *local)
{
    /* RFC 8445 §5.1.3: the same address from the same base is redundant. */
    for (size_t i = 0; i < ice->local_count; i++) {
        const dp_ice_local *other = &ice->locals[i];
        bool self = local->base == DP_ICE_MAX_LOCAL; /* a base: its index is not known yet */
        if (!other->gone && dp_address_equal(&other->address, &local->address) &&
            (self ? other->type == local->type && other->tcp == local->tcp : other->base == local->base))
            return true;
    }
    return false;
}

int dp_ice_local_add(dp_ice *ice, const dp_ice_local *local)
{
    int index = is_redundant(ice, local) ? -1 : place_for(ice, local);
    if (index < 0)
        return -1;
    dp_ice_local added = *local;
    if (added.base == DP_ICE_MAX_LOCAL)
        added.base = (uint8_t)index;
    const dp_address *base = added.base == index ? &added.address : &ice->locals[added.base].address;
    added.foundation = foundation_of(ice, &added, base);
    added.priority = added.tcp != DP_TCPTYPE_NONE ? dp_candidate_tcp_priority(added.type, added.preference)
                                                  : dp_candidate_priority(added.type, added.preference);
    ice->locals[index] = added;
    if ((size_t)index == ice->local_count)
        ice->local_count++;
    return index;
}

/* RFC 8445 §5.1.2.1: the local preference is unique among the candidates of a type; TCP has type preferences of its own.
 * The next free one from first on, in steps that keep the families apart. */
static uint32_t free_preference(const dp_ice *ice, dp_candidate_type type, bool tcp, uint32_t first)
{
    uint32_t preference = first;
    for (size_t i = 0; i < ice->local_count;) {
        const dp_ice_local *local = &ice->locals[i];
        bool taken = !local->gone && local->type == type && (local->tcp != DP_TCPTYPE_NONE) == tcp &&
                     local->preference == preference;
        preference -= taken ? 2 : 0;
        i = taken ? 0 : i + 1; /* from the start: it may be another one's now */
    }
    return preference;
}

void dp_ice_local_reflexive(dp_ice *ice, dp_candidate_type type, const dp_address *address, size_t base,
                            uint8_t server)
{
    const dp_ice_local *from = &ice->locals[base];
    dp_ice_local local = {.type = type,
                          .preference = free_preference(ice, type, false, from->preference),
                          .server = server,
                          .base = (uint8_t)base,
                          /* RFC 8445 §7.2.5.3.1: peer-reflexive ones are not signalled */
                          .announced = type == DP_CANDIDATE_PRFLX || ice->relay_only,
                          .address = *address,
                          .related = from->address};
    (void)dp_ice_local_add(ice, &local);
}

/* ---- sockets ---- */

/* In the owner's order. RFC 8421 §4: neither family may starve the other, so the first of each lie side by side, IPv6 in
 * front. Addresses that lead nowhere but here come last.
 *   65535, 65533, ... IPv6       65534, 65532, ... IPv4
 *   32767, 32765, ... IPv6       32766, 32764, ... IPv4: loopback, link-local */
static uint32_t preference_of(const dp_ice *ice, const dp_address *address, dp_tcptype tcp)
{
    bool poor = dp_address_is_loopback(address) || dp_address_is_link_local(address);
    uint32_t first = (poor ? 0x7FFFu : 0xFFFFu) - (address->family == DP_FAMILY_IPV4 ? 1 : 0);
    return free_preference(ice, DP_CANDIDATE_HOST, tcp != DP_TCPTYPE_NONE, first);
}

/* The active TCP candidate of an IP address: RFC 6544 §4.5 gives it port 9, as nobody can connect to it. */
static dp_address active_of(const dp_address *address)
{
    dp_address active = *address;
    active.port = 9;
    return active;
}

/* Candidates that the peer must not see or has no use for: with hidden addresses, nobody but this machine could
 * resolve the name of a loopback one. */
static bool is_private(const dp_ice *ice, dp_candidate_type type, const dp_address *address)
{
    return type != DP_CANDIDATE_RELAY &&
           (ice->relay_only || (ice->hide_addresses && dp_address_is_loopback(address)));
}

static int add_host(dp_ice *ice, dp_time now, const dp_address *address, dp_tcptype tcp)
{
    dp_ice_local host = {.type = DP_CANDIDATE_HOST,
                         .preference = preference_of(ice, address, tcp),
                         .tcp = (uint8_t)tcp,
                         .base = DP_ICE_MAX_LOCAL,
                         .announced = is_private(ice, DP_CANDIDATE_HOST, address),
                         .address = *address};
    int index = dp_ice_local_add(ice, &host);
    if (index < 0)
        return DP_ERR_LIMIT;
    dp_ice_pairs_renew(ice, now, (size_t)index, DP_ICE_ANY);
    dp_ice_pairs_form_base(ice, now, (size_t)index);
    return DP_OK;
}

static int add_socket(dp_ice *ice, dp_time now, const dp_address *address, dp_tcptype tcp)
{
    dp_address active = active_of(address);
    if (!dp_address_is_unicast(address))
        return DP_ERR_INVALID_ARGUMENT;
    if (ice->state == DP_ICE_CLOSED || dp_ice_local_find(ice, address, tcp) >= 0)
        return DP_OK;
    int err = add_host(ice, now, address, tcp);
    if (err != DP_OK)
        return err;
    if (ice->tcp && !ice->lite && dp_ice_local_find(ice, &active, DP_TCPTYPE_ACTIVE) < 0)
        (void)add_host(ice, now, &active, DP_TCPTYPE_ACTIVE); /* no room: the others do without */
    if (!ice->gathering || !dp_ice_alive(ice))
        return DP_OK;
    ice->gathered = ice->gathered_reported = false;
    ice->gather_until = now + ice->gather_timeout;
    dp_ice_relays_open(ice);
    dp_ice_pace(ice, now);
    dp_ice_gather_update(ice, now);
    return DP_OK;
}

int dp_ice_add_local_address(dp_ice *ice, dp_time now, const dp_address *address)
{
    return add_socket(ice, now, address, DP_TCPTYPE_NONE);
}

int dp_ice_add_local_listener(dp_ice *ice, dp_time now, const dp_address *address)
{
    return add_socket(ice, now, address, DP_TCPTYPE_PASSIVE);
}

/* Its place may be another's soon. */
static void forget_messages(dp_ice *ice, size_t base)
{
    dp_ice_outgoing message;
    for (size_t left = ice->outgoing.count; left > 0 && dp_queue_pop(&ice->outgoing, &message); left--) {
        if (message.base != base)
            dp_ice_send(ice, &message);
    }
    for (size_t i = ice->early_count; i-- > 0;) {
        if (ice->early[i].base != base)
            continue;
        dp_free(ice->early[i].data);
        ice->early[i] = ice->early[--ice->early_count];
        ice->early[ice->early_count].data = NULL; /* it has moved */
    }
}

void dp_ice_local_end(dp_ice *ice, dp_time now, size_t base)
{
    forget_messages(ice, base);
    for (size_t i = 0; i < ice->local_count; i++) {
        if (ice->locals[i].base == base)
            ice->locals[i].gone = true;
    }
    for (size_t i = ice->transaction_count; i-- > 0;) {
        if (ice->transactions[i].message.base == base)
            dp_ice_transaction_end(ice, &ice->transactions[i]);
    }
    for (size_t i = 0; i < ice->pair_count; i++) {
        if (ice->pairs[i].local == base)
            dp_ice_pair_end(ice, i);
    }
    dp_ice_streams_end(ice, base); /* those that were no pair's, too */
    if (ice->previous != NULL && ice->previous->alive && ice->previous->base == base)
        dp_ice_previous_end(ice, now);
    dp_ice_select(ice, now);
}

static bool has_ip(const dp_ice *ice, const dp_address *address)
{
    for (size_t i = 0; i < ice->local_count; i++) {
        const dp_ice_local *local = &ice->locals[i];
        if (is_host(local) && local->tcp != DP_TCPTYPE_ACTIVE && dp_address_same_ip(&local->address, address))
            return true;
    }
    return false;
}

int dp_ice_remove_local_address(dp_ice *ice, dp_time now, const dp_address *address)
{
    dp_address active = active_of(address);
    int udp = dp_ice_local_find(ice, address, DP_TCPTYPE_NONE);
    int passive = dp_ice_local_find(ice, address, DP_TCPTYPE_PASSIVE);
    if (udp < 0 && passive < 0)
        return DP_ERR_NOT_FOUND;
    if (udp >= 0)
        dp_ice_local_end(ice, now, (size_t)udp);
    if (passive >= 0)
        dp_ice_local_end(ice, now, (size_t)passive);
    int connecting = has_ip(ice, address) ? -1 : dp_ice_local_find(ice, &active, DP_TCPTYPE_ACTIVE);
    if (connecting >= 0)
        dp_ice_local_end(ice, now, (size_t)connecting);
    dp_ice_gather_update(ice, now);
    return DP_OK;
}

/* ---- servers ---- */

static bool credential_is_valid(const char *text)
{
    size_t len = text != NULL ? strlen(text) : 0;
    return len > 0 && len <= DP_ICE_CREDENTIAL_MAX;
}

int dp_ice_add_server(dp_ice *ice, const dp_ice_server *given)
{
    dp_ice_server read = {0};
    const dp_ice_server *server = &read;
    if (ice->gathering)
        return DP_ERR_INVALID_STATE;
    if (!DP_CONFIG_READ(&read, given, dp_ice_server, name) || !dp_address_is_unicast(&server->address) ||
        (!server->turn && server->transport != DP_ICE_UDP) ||
        (server->turn &&
         (!credential_is_valid(server->username) || !credential_is_valid(server->credential))))
        return DP_ERR_INVALID_ARGUMENT;
    if (ice->server_count == DP_ICE_MAX_SERVERS)
        return DP_ERR_LIMIT;
    dp_ice_server_entry *entry = &ice->servers[ice->server_count++]; /* freed with the agent, come what may */
    entry->turn = server->turn;
    entry->transport = server->transport;
    entry->address = server->address;
    entry->name = server->name != NULL ? dp_strdup(server->name) : NULL;
    entry->username = server->turn ? dp_strdup(server->username) : NULL;
    entry->credential = server->turn ? dp_strdup(server->credential) : NULL;
    if ((server->name != NULL && entry->name == NULL) ||
        (server->turn && (entry->username == NULL || entry->credential == NULL))) {
        dp_free(entry->name);
        dp_free(entry->username);
        dp_free(entry->credential);
        memset(entry, 0, sizeof *entry);
        ice->server_count--;
        return DP_ERR_NO_MEMORY;
    }
    return DP_OK;
}

static bool can_ask(const dp_ice_local *local, const dp_ice_server_entry *server)
{
    const dp_address *base = &local->address;
    return is_host(local) && local->tcp == DP_TCPTYPE_NONE && server->transport == DP_ICE_UDP &&
           base->family == server->address.family &&
           (!dp_address_is_loopback(base) || dp_address_is_loopback(&server->address)) &&
           dp_address_is_link_local(base) == dp_address_is_link_local(&server->address);
}

/* A socket and a server that fit each other, the one not asked through the other yet. */
static bool gather_find(const dp_ice *ice, size_t *local, size_t *server)
{
    if (!ice->gathering || ice->lite || ice->relay_only)
        return false;
    for (*local = 0; *local < ice->local_count; (*local)++) {
        for (*server = 0; *server < ice->server_count; (*server)++) {
            if ((ice->locals[*local].asked & 1u << *server) == 0 &&
                can_ask(&ice->locals[*local], &ice->servers[*server]))
                return true;
        }
    }
    return false;
}

bool dp_ice_gather_pending(const dp_ice *ice)
{
    size_t local;
    size_t server;
    return gather_find(ice, &local, &server);
}

void dp_ice_gather_step(dp_ice *ice, dp_time now)
{
    size_t local;
    size_t server;
    if (!gather_find(ice, &local, &server))
        return;
    ice->locals[local].asked = (uint8_t)(ice->locals[local].asked | 1u << server);
    dp_ice_transaction what = {.purpose = DP_ICE_FOR_GATHERING,
                               .pair = DP_ICE_NO_PAIR,
                               .server = (uint8_t)server,
                               .tries_left = DP_ICE_GATHER_TRIES,
                               .rto = DP_ICE_RTO,
                               .message = {.class_ = DP_STUN_REQUEST,
                                           .plain = true,
                                           .base = (uint8_t)local,
                                           .remote = ice->servers[server].address}};
    if (!dp_ice_transaction_start(ice, now, &what))
        DP_ICE_LOG(ice, DP_LOG_WARN, "a STUN server could not be asked");
}

void dp_ice_gather_answered(dp_ice *ice, const dp_ice_transaction *transaction,
                            const dp_stun_message *message)
{
    /* RFC 8489 §6.3.3: a success with something that must be understood and isn't is none. */
    if (message->class_ != DP_STUN_SUCCESS || message->unknown_count > 0 ||
        !dp_address_is_unicast(&message->mapped)) {
        DP_ICE_LOG(ice, DP_LOG_WARN, "a STUN server gave no address (error %u)", message->error_code);
        return;
    }
    for (size_t i = 0; i < ice->local_count; i++) { /* the mapping has changed: the old one leads nowhere */
        dp_ice_local *old = &ice->locals[i];
        if (old->type == DP_CANDIDATE_SRFLX && old->base == transaction->message.base &&
            old->server == transaction->server && !dp_address_equal(&old->address, &message->mapped))
            old->gone = true;
    }
    dp_ice_local_reflexive(ice, DP_CANDIDATE_SRFLX, &message->mapped, transaction->message.base,
                           transaction->server);
}

/* ---- beginning and end ---- */

static bool gather_is_over(const dp_ice *ice, dp_time now)
{
    return now >= ice->gather_until ||
           (!dp_ice_gather_pending(ice) && !dp_ice_transactions_any(ice, DP_ICE_FOR_GATHERING) &&
            !dp_ice_relays_pending(ice));
}

/* The NAT's bindings have to live until the peer's checks come, and may change meanwhile. Servers that were silent
 * are left alone. */
static bool wants_refresh(const dp_ice *ice)
{
    if (!ice->gathered || (ice->active != DP_ICE_NO_PAIR && ice->pairs[ice->active].nominated))
        return false;
    for (size_t i = 0; i < ice->local_count; i++) {
        if (ice->locals[i].type == DP_CANDIDATE_SRFLX && !ice->locals[i].gone)
            return true;
    }
    return false;
}

static void ask_again(dp_ice *ice)
{
    for (size_t i = 0; i < ice->local_count; i++) {
        const dp_ice_local *local = &ice->locals[i];
        if (local->type == DP_CANDIDATE_SRFLX && !local->gone)
            ice->locals[local->base].asked =
                (uint8_t)(ice->locals[local->base].asked & ~(1u << local->server));
    }
}

void dp_ice_gather_update(dp_ice *ice, dp_time now)
{
    if (ice->gathering && !ice->gathered && gather_is_over(ice, now)) {
        ice->gathered = true;
        ice->refresh_at = now + DP_ICE_MAPPING_REFRESH;
        DP_ICE_LOG(ice, DP_LOG_DEBUG, "gathered %zu local candidates", ice->local_count);
    }
    if (wants_refresh(ice) && now >= ice->refresh_at) {
        ice->refresh_at = now + DP_ICE_MAPPING_REFRESH;
        ask_again(ice);
    }
}

dp_time dp_ice_gather_next(const dp_ice *ice)
{
    if (ice->gathering && !ice->gathered)
        return ice->gather_until;
    return wants_refresh(ice) ? ice->refresh_at : DP_TIME_NEVER;
}

void dp_ice_gather_anew(dp_ice *ice, dp_time now)
{
    for (size_t i = 0; i < ice->local_count; i++) {
        dp_ice_local *local = &ice->locals[i];
        local->asked = 0;
        local->announced = is_private(ice, local->type, &local->address);
        if (!dp_ice_is_base(local))
            local->gone = true;
    }
    ice->gathered = ice->gathered_reported = false;
    ice->gather_until = now + ice->gather_timeout;
    dp_ice_relays_open(ice);
}

int dp_ice_gather(dp_ice *ice, dp_time now)
{
    if (ice->gathering || !dp_ice_alive(ice))
        return DP_ERR_INVALID_STATE;
    ice->gathering = true;
    ice->gather_until = now + ice->gather_timeout;
    dp_ice_relays_open(ice);
    dp_ice_begin(ice, now);
    dp_ice_pace(ice, now);
    dp_ice_gather_update(ice, now);
    return DP_OK;
}
