/* Which connection is a datagram for?
 *   1. A STUN request names the receiver's ufrag.
 *   2. A STUN response carries the transaction id of a request: whoever waits for it takes it.
 *   3. Anything else comes from an address that ICE has validated: its route tells whose.
 * A request makes a route only where there is none, for its source address may be forged by somebody who is a
 * peer here himself; a response has crossed the path both ways, and may take a route over. */
#include "peer/mux.h"

#include "base/crypto.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/table.h"
#include "peer/demux.h"
#include <string.h>

static const char layer[] = "peer";

enum {
    MAX_SOCKETS = NETWORK_MAX_ADDRESSES,
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
    network *network;
    mux *next;                        /* in the network's list */
    dp_udp *sockets[MAX_SOCKETS];     /* NULL: a free place */
    acceptor *acceptors[MAX_SOCKETS]; /* of the same place's address and port; NULL: none */
    uint16_t port;                    /* what was asked for, else the first socket's; 0: none yet */
    mux_member *members;
    mux_member *touched; /* to be polled; empty between two calls */
    dp_table routes;
    mux_route *recent; /* the route of the last datagram that needed one, or NULL */
};

/* ---- who is to be polled ---- */

static void touch(mux *m, mux_member *member)
{
    if (member->touched)
        return;
    member->touched = true;
    member->next_touched = m->touched;
    m->touched = member;
}

static mux_member *take_touched(mux *m)
{
    mux_member *member = m->touched;
    if (member == NULL)
        return NULL;
    m->touched = member->next_touched;
    member->touched = false;
    return member;
}

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
    if (m->recent == route)
        m->recent = NULL;
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

static void drop_routes_of_socket(mux *m, size_t socket)
{
    for (mux_member *member = m->members; member != NULL; member = member->next)
        for (mux_route *route = member->routes, *next; route != NULL; route = next) {
            next = route->next;
            if (route->key.socket == socket)
                drop_route(m, route);
        }
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
    dp_pc_input(member->pc, dp_loop_now(m->network->loop), packet->data, packet->len, local, &packet->remote);
    touch(m, member);
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

/* Nearly all of it keeps paths alive that have a route: only what begins a path is looked for among all members. */
static mux_member *member_of_stun(const mux *m, const dp_udp_packet *packet, const route_key *key,
                                  bool request, const char *ufrag)
{
    const mux_route *route = dp_table_get(&m->routes, key, sizeof(*key));
    mux_member *likely = route != NULL ? route->member : NULL;
    if (!request)
        return likely != NULL && dp_pc_awaits(likely->pc, packet->data, packet->len)
                   ? likely
                   : member_by_transaction(m, packet);
    if (likely != NULL && strcmp(dp_pc_local_ufrag(likely->pc), ufrag) == 0)
        return likely;
    mux_member *named = member_by_ufrag(m, ufrag);
    /* After an ICE restart the peer still checks the old path, with the old ufrag. */
    return named != NULL ? named : likely;
}

static void input_stun(mux *m, dp_udp_packet *packet, const dp_address *local, const route_key *key)
{
    char ufrag[DP_ICE_UFRAG_MAX + 1];
    bool request = dp_ice_peek_ufrag(packet->data, packet->len, ufrag);
    mux_member *member = member_of_stun(m, packet, key, request, ufrag);
    if (member == NULL)
        return;
    give(m, member, packet, local);
    if (dp_pc_is_validated(member->pc, local, &packet->remote))
        learn_route(m, member, key, !request);
}

/* Datagrams come in runs from one address. */
static mux_route *route_of(mux *m, const route_key *key)
{
    if (m->recent == NULL || m->recent->key.socket != key->socket ||
        !dp_address_equal(&m->recent->key.remote, &key->remote))
        m->recent = dp_table_get(&m->routes, key, sizeof(*key));
    return m->recent;
}

static void input(mux *m, size_t socket, dp_udp_packet *packet)
{
    const dp_address *local = dp_udp_local(m->sockets[socket]);
    route_key key = key_of(socket, &packet->remote);
    if (dp_demux_classify(packet->data, packet->len) == DP_DEMUX_STUN) {
        input_stun(m, packet, local, &key);
        return;
    }
    mux_route *route = route_of(m, &key);
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
    /* on_input never frees: connections end in a deferred call */
    for (mux_member *member; (member = take_touched(m)) != NULL;)
        member->on_input(member->user);
}

static void on_writable(void *user, dp_udp *udp)
{
    mux *m = user;
    (void)udp;
    for (mux_member *member = m->members; member != NULL; member = member->next)
        member->on_writable(member->user);
}

static bool on_stream(void *user, const accepted_stream *stream)
{
    mux *m = user;
    mux_member *member = member_by_ufrag(m, stream->ufrag);
    return member != NULL && member->on_stream(member->user, stream);
}

/* ---- sockets ---- */

static dp_udp_handler handler_of(mux *m) { return (dp_udp_handler){on_packets, on_writable, m}; }

static size_t socket_count(const mux *m)
{
    size_t count = 0;
    for (size_t i = 0; i < MAX_SOCKETS; i++)
        count += m->sockets[i] != NULL;
    return count;
}

static void close_socket(mux *m, size_t i)
{
    dp_acceptor_free(m->acceptors[i]);
    m->acceptors[i] = NULL;
    dp_udp_close(m->sockets[i]);
    m->sockets[i] = NULL;
}

static void close_sockets(mux *m)
{
    for (size_t i = 0; i < MAX_SOCKETS; i++)
        if (m->sockets[i] != NULL)
            close_socket(m, i);
}

/* The socket on address, whatever its port; MAX_SOCKETS if there is none. */
static size_t socket_on(const mux *m, const dp_address *address)
{
    size_t i = 0;
    for (; i < MAX_SOCKETS; i++) {
        dp_address wanted = *address;
        if (m->sockets[i] == NULL)
            continue;
        wanted.port = dp_udp_local(m->sockets[i])->port;
        if (dp_address_equal(dp_udp_local(m->sockets[i]), &wanted))
            break;
    }
    return i;
}

/* port 0: the kernel chooses. */
static int open_socket(mux *m, const dp_address *address, uint16_t port, dp_udp **out)
{
    size_t i = 0;
    while (i < MAX_SOCKETS && m->sockets[i] != NULL)
        i++;
    if (i == MAX_SOCKETS)
        return DP_ERR_LIMIT;
    dp_address local = *address;
    dp_udp_handler handler = handler_of(m);
    local.port = port;
    int error = dp_udp_open(&m->sockets[i], m->network->loop, &local, &handler);
    *out = error == DP_OK ? m->sockets[i] : NULL;
    if (error != DP_OK) {
        m->sockets[i] = NULL;
        return error;
    }
    char text[DP_ADDRESS_TEXT_MAX];
    const dp_address *bound = dp_udp_local(*out);
    if (m->network->tcp &&
        dp_acceptor_new(&m->acceptors[i], m->network->loop, bound, on_stream, m) != DP_OK) {
        m->acceptors[i] = NULL;
        DP_LOG(&m->network->log, DP_LOG_WARN, layer, "nobody can reach us by TCP at %s: the port is taken",
               dp_address_format(bound, text));
    }
    return DP_OK;
}

/* All of the network's addresses at one port; the first socket's if port is 0. */
static int open_sockets(mux *m, uint16_t port, bool all)
{
    for (size_t i = 0; i < m->network->address_count; i++) {
        dp_udp *udp;
        int error = open_socket(m, &m->network->addresses[i], port, &udp);
        if (error == DP_OK) {
            port = dp_udp_local(udp)->port;
        } else if (all || error == DP_ERR_NO_MEMORY) {
            close_sockets(m);
            return error;
        }
    }
    if (socket_count(m) == 0)
        return DP_ERR_IO;
    m->port = port;
    return DP_OK;
}

/* Ports to try, from anywhere in the network's range; without a range it is the kernel that chooses, a few times. */
typedef struct port_tries {
    const network *network;
    unsigned start;
    unsigned count;
    unsigned done;
} port_tries;

static int begin_tries(port_tries *tries, const network *net)
{
    uint16_t random;
    int error = dp_random_bytes(&net->random, &random, sizeof(random));
    bool range = net->port_min != 0;
    unsigned count = range ? (unsigned)net->port_max - net->port_min + 1u : (unsigned)PORT_TRIES;
    *tries = (port_tries){.network = net, .start = error == DP_OK ? random % count : 0, .count = count};
    return error;
}

static bool next_try(port_tries *tries, uint16_t *port)
{
    if (tries->done == tries->count)
        return false;
    unsigned offset = (tries->start + tries->done++) % tries->count;
    *port = tries->network->port_min != 0 ? (uint16_t)(tries->network->port_min + offset) : 0;
    return true;
}

static int choose_port(mux *m)
{
    int error = DP_ERR_IO;
    for (int all = 1; all >= 0; all--) {
        port_tries tries;
        uint16_t port;
        error = begin_tries(&tries, m->network);
        if (error != DP_OK)
            return error;
        error = DP_ERR_IO;
        while (error == DP_ERR_IO && next_try(&tries, &port))
            error = open_sockets(m, port, all == 1);
        if (error != DP_ERR_IO)
            return error;
    }
    return error;
}

/* The i-th socket, and the TCP port beside it, become local addresses of pc. */
static int give_socket(const mux *m, size_t i, dp_pc *pc)
{
    dp_time now = dp_loop_now(m->network->loop);
    int error = dp_pc_add_local_address(pc, now, dp_udp_local(m->sockets[i]));
    if (error == DP_OK && m->acceptors[i] != NULL)
        error = dp_pc_add_local_listener(pc, now, dp_udp_local(m->sockets[i]));
    return error;
}

/* ---- addresses that come and go ---- */

static void remove_socket(mux *m, size_t i)
{
    dp_address local = *dp_udp_local(m->sockets[i]);
    drop_routes_of_socket(m, i);
    close_socket(m, i);
    for (mux_member *member = m->members; member != NULL; member = member->next) {
        (void)dp_pc_remove_local_address(member->pc, dp_loop_now(m->network->loop), &local);
        touch(m, member);
    }
}

static void add_socket(mux *m, const dp_address *address)
{
    char text[DP_ADDRESS_TEXT_MAX];
    dp_udp *udp = NULL;
    port_tries tries;
    uint16_t port;
    int error = m->port != 0 ? open_socket(m, address, m->port, &udp) : DP_ERR_IO;
    if (error == DP_ERR_IO && begin_tries(&tries, m->network) == DP_OK)
        while (error == DP_ERR_IO && next_try(&tries, &port))
            error = open_socket(m, address, port, &udp);
    if (error != DP_OK) {
        DP_LOG(&m->network->log, DP_LOG_WARN, layer, "no UDP port can be had on %s: %s",
               dp_address_format_ip(address, text), dp_strerror(error));
        return;
    }
    m->port = m->port != 0 ? m->port : dp_udp_local(udp)->port;
    for (mux_member *member = m->members; member != NULL; member = member->next) {
        if (give_socket(m, socket_on(m, address), member->pc) != DP_OK)
            DP_LOG(&m->network->log, DP_LOG_WARN, layer, "a connection has too many addresses for %s",
                   dp_address_format_ip(address, text));
        touch(m, member);
    }
}

void dp_mux_update(mux *m)
{
    const network *net = m->network;
    bool kept[MAX_SOCKETS] = {false};
    for (size_t i = 0; i < net->address_count; i++) {
        size_t s = socket_on(m, &net->addresses[i]);
        if (s < MAX_SOCKETS)
            kept[s] = true;
    }
    for (size_t i = 0; i < MAX_SOCKETS; i++)
        if (m->sockets[i] != NULL && !kept[i])
            remove_socket(m, i);
    for (size_t i = 0; i < net->address_count; i++)
        if (socket_on(m, &net->addresses[i]) == MAX_SOCKETS)
            add_socket(m, &net->addresses[i]);
    for (mux_member *member; (member = take_touched(m)) != NULL;)
        member->on_changed(member->user);
}

/* ---- life ---- */

int dp_mux_new(mux **out, network *net, uint16_t port)
{
    uint64_t seed;
    int error = dp_random_bytes(&net->random, &seed, sizeof(seed));
    if (error != DP_OK)
        return error;
    mux *m = dp_calloc(1, sizeof(*m));
    if (m == NULL)
        return DP_ERR_NO_MEMORY;
    m->network = net;
    m->port = port;
    dp_table_init(&m->routes, seed);
    if (net->address_count > 0)
        error = port != 0 ? open_sockets(m, port, true) : choose_port(m);
    m->next = net->muxes;
    net->muxes = m;
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
    mux **at = &m->network->muxes;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    close_sockets(m);
    dp_table_clear(&m->routes);
    dp_free(m);
}

uint16_t dp_mux_port(const mux *m) { return m->port; }

mux *dp_mux_next(const mux *m) { return m->next; }

int dp_mux_join(mux *m, mux_member *member)
{
    for (size_t i = 0; i < MAX_SOCKETS; i++) {
        int error = m->sockets[i] == NULL ? DP_OK : give_socket(m, i, member->pc);
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
    for (size_t i = 0; i < MAX_SOCKETS; i++)
        if (m->sockets[i] != NULL && dp_address_equal(dp_udp_local(m->sockets[i]), local))
            return m->sockets[i];
    return NULL;
}
