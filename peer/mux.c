/* Which connection is a datagram for?
 *   1. A STUN request names the receiver's ufrag.
 *   2. A STUN response carries the transaction id of a request: whoever waits for it takes it.
 *   3. Anything else comes from an address that ICE has validated: its route tells whose.
 * A request makes a route only where there is none, for its source address may be forged by somebody who is a
 * peer here himself; a response has crossed the path both ways, and may take a route over. */
#include "peer/mux.h"

#include "base/crypto.h"
#include "base/mem.h"
#include "base/table.h"
#include "peer/demux.h"
#include <string.h>

enum {
    MAX_SOCKETS = 16,
    MAX_ROUTES = 128, /* of one connection: more than the 100 pairs that ICE checks */
    PORT_TRIES = 16,
};

typedef struct route_key {
    dp_address remote; /* scope left out */
    uint16_t socket;
} route_key;

typedef struct mux_route {
    struct mux_route *next; /* of the same member */
    mux_member *member;
    route_key key;
} mux_route;

struct mux {
    dp_loop *loop;
    dp_udp *sockets[MAX_SOCKETS];
    size_t socket_count;
    mux_member *members;
    dp_table routes;
};

/* ---- routes ---- */

/* The bytes that are hashed must not depend on padding. */
static route_key key_of(size_t socket, const dp_address *remote)
{
    route_key key;
    memset(&key, 0, sizeof(key));
    key.remote.family = remote->family;
    key.remote.port = remote->port;
    memcpy(key.remote.ip, remote->ip, sizeof(key.remote.ip));
    key.socket = (uint16_t)socket;
    return key;
}

static void drop_route(mux *m, mux_route *route)
{
    for (mux_route **at = &route->member->routes; *at != NULL; at = &(*at)->next)
        if (*at == route) {
            *at = route->next;
            route->member->route_count--;
            break;
        }
    dp_table_remove(&m->routes, &route->key, sizeof(route->key));
    dp_free(route);
}

/* Without memory there is no route, and the datagrams that needed it are dropped: ICE tries again. */
static void add_route(mux *m, mux_member *member, const route_key *key)
{
    mux_route *route = member->route_count < MAX_ROUTES ? dp_calloc(1, sizeof(*route)) : NULL;
    if (route == NULL)
        return;
    route->member = member;
    memcpy(&route->key, key, sizeof(*key));
    if (dp_table_set(&m->routes, &route->key, sizeof(route->key), route, NULL) != DP_OK) {
        dp_free(route);
        return;
    }
    route->next = member->routes;
    member->routes = route;
    member->route_count++;
}

static size_t socket_index(const mux *m, const dp_address *local)
{
    size_t i = 0;
    while (i < m->socket_count && !dp_address_equal(dp_udp_local(m->sockets[i]), local))
        i++;
    return i;
}

/* ---- the way in ---- */

static mux_member *member_by_ufrag(const mux *m, const char *ufrag)
{
    mux_member *member = m->members;
    while (member != NULL && strcmp(dp_pc_local_ufrag(member->pc), ufrag) != 0)
        member = member->next;
    return member;
}

static void give(mux *m, mux_member *member, dp_udp_packet *packet, const dp_address *local)
{
    dp_pc_input(member->pc, dp_loop_now(m->loop), packet->data, packet->len, local, &packet->remote);
    member->touched = true;
}

static mux_member *member_by_transaction(const mux *m, const dp_udp_packet *packet)
{
    mux_member *member = m->members;
    while (member != NULL && !dp_pc_awaits(member->pc, packet->data, packet->len))
        member = member->next;
    return member;
}

static void learn_route(mux *m, mux_member *member, const route_key *key, bool take_over)
{
    mux_route *route = dp_table_get(&m->routes, key, sizeof(*key));
    if (route != NULL && (route->member == member || !take_over))
        return;
    if (route != NULL)
        drop_route(m, route);
    add_route(m, member, key);
}

static void input_stun(mux *m, dp_udp_packet *packet, const dp_address *local, const route_key *key)
{
    char ufrag[DP_ICE_UFRAG_MAX + 1];
    bool request = dp_ice_peek_ufrag(packet->data, packet->len, ufrag);
    mux_member *member = request ? member_by_ufrag(m, ufrag) : member_by_transaction(m, packet);
    if (member == NULL)
        return;
    give(m, member, packet, local);
    if (dp_pc_is_validated(member->pc, local, &packet->remote))
        learn_route(m, member, key, !request);
}

static void input(mux *m, size_t socket, dp_udp_packet *packet)
{
    const dp_address *local = dp_udp_local(m->sockets[socket]);
    route_key key = key_of(socket, &packet->remote);
    if (dp_demux_classify(packet->data, packet->len) == DP_DEMUX_STUN) {
        input_stun(m, packet, local, &key);
        return;
    }
    mux_route *route = dp_table_get(&m->routes, &key, sizeof(key));
    if (route != NULL)
        give(m, route->member, packet, local);
}

static void on_packets(void *user, dp_udp *udp, dp_udp_packet *packets, size_t count)
{
    mux *m = user;
    size_t socket = 0;
    while (m->sockets[socket] != udp)
        socket++;
    for (size_t i = 0; i < count; i++)
        input(m, socket, &packets[i]);
    for (mux_member *member = m->members, *next; member != NULL; member = next) {
        next = member->next; /* on_input never frees: connections end in a deferred call */
        if (member->touched) {
            member->touched = false;
            member->on_input(member->user);
        }
    }
}

static void on_writable(void *user, dp_udp *udp)
{
    mux *m = user;
    (void)udp;
    for (mux_member *member = m->members; member != NULL; member = member->next)
        member->on_writable(member->user);
}

/* ---- life ---- */

static void close_sockets(mux *m)
{
    while (m->socket_count > 0)
        dp_udp_close(m->sockets[--m->socket_count]);
}

/* All addresses at one port; the first socket's if port is 0. */
static int open_sockets(mux *m, uint16_t port, bool all, const dp_address *addresses, size_t count)
{
    dp_udp_handler handler = {on_packets, on_writable, m};
    for (size_t i = 0; i < count; i++) {
        dp_address local = addresses[i];
        local.port = port != 0 || m->socket_count == 0 ? port : dp_mux_port(m);
        int error = dp_udp_open(&m->sockets[m->socket_count], m->loop, &local, &handler);
        if (error == DP_OK) {
            m->socket_count++;
        } else if (all) {
            close_sockets(m);
            return error;
        }
    }
    return m->socket_count > 0 ? DP_OK : DP_ERR_IO;
}

int dp_mux_new(mux **out, dp_loop *loop, dp_random random, uint16_t port, bool include_loopback)
{
    dp_address addresses[MAX_SOCKETS];
    size_t count = 0;
    uint64_t seed;
    int error = dp_interfaces(addresses, MAX_SOCKETS, &count, include_loopback);
    if (error == DP_OK)
        error = count == 0 ? DP_ERR_IO : dp_random_bytes(&random, &seed, sizeof(seed));
    if (error != DP_OK)
        return error;
    mux *m = dp_calloc(1, sizeof(*m));
    if (m == NULL)
        return DP_ERR_NO_MEMORY;
    m->loop = loop;
    dp_table_init(&m->routes, seed);
    error = open_sockets(m, port, true, addresses, count);
    for (int tries = 1; error != DP_OK && port == 0 && tries < PORT_TRIES; tries++)
        error = open_sockets(m, port, tries + 1 < PORT_TRIES, addresses, count);
    if (error != DP_OK) {
        dp_mux_free(m);
        return error;
    }
    *out = m;
    return DP_OK;
}

void dp_mux_free(mux *m)
{
    if (m == NULL)
        return;
    close_sockets(m);
    dp_table_clear(&m->routes);
    dp_free(m);
}

uint16_t dp_mux_port(const mux *m) { return dp_udp_local(m->sockets[0])->port; }

int dp_mux_join(mux *m, mux_member *member)
{
    for (size_t i = 0; i < m->socket_count; i++) {
        int error = dp_pc_add_local_address(member->pc, dp_udp_local(m->sockets[i]));
        if (error != DP_OK)
            return error;
    }
    member->next = m->members;
    m->members = member;
    return DP_OK;
}

void dp_mux_leave(mux *m, mux_member *member)
{
    for (mux_member **at = &m->members; *at != NULL; at = &(*at)->next)
        if (*at == member) {
            *at = member->next;
            break;
        }
    while (member->routes != NULL)
        drop_route(m, member->routes);
}

dp_udp *dp_mux_socket(const mux *m, const dp_address *local)
{
    size_t i = socket_index(m, local);
    return i < m->socket_count ? m->sockets[i] : NULL;
}
