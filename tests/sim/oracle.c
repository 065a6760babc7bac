#include "oracle.h"

#include <stdlib.h>
#include <string.h>

#define SOCKETS_MAX   8
#define TARGETS_MAX   64
#define PERMITTED_MAX 64
#define ROUNDS        4

typedef struct end_socket {
    sim_port *port;
    dp_address address;
    bool checks; /* its host candidate was gathered: the agent makes checks from it */
    bool relay;  /* lets in only what it has sent to (RFC 8656 §9: permissions are by ip) */
    dp_address permitted[PERMITTED_MAX];
    size_t permitted_count;
} end_socket;

/* An address of the other end to try: signalled, or learnt at one socket. */
typedef struct target {
    dp_address address;
    const end_socket *only; /* NULL: from every socket */
} target;

typedef struct end {
    sim_node node;
    end_socket sockets[SOCKETS_MAX];
    size_t socket_count;
    target targets[TARGETS_MAX];
    size_t target_count;
    dp_address seen; /* a server: where the last datagram came from */
    bool answered;   /* ... or an end: the probe was, from where it was sent to */
    dp_address probed;
    bool generous;
} end;

static bool is_permitted(const end_socket *s, const dp_address *from)
{
    for (size_t i = 0; i < s->permitted_count; i++) {
        if (sim_same_ip(&s->permitted[i], from))
            return true;
    }
    return !s->relay;
}

static void send_from(end_socket *s, const dp_address *to, uint8_t what)
{
    sim_datagram d = {s->address, *to, 1, &what};
    if (s->relay && !is_permitted(s, to) && s->permitted_count < PERMITTED_MAX)
        s->permitted[s->permitted_count++] = *to;
    sim_send(s->port, &d);
}

static void learn(end *e, const dp_address *address, const end_socket *only)
{
    for (size_t i = 0; i < e->target_count; i++) {
        if (dp_address_equal(&e->targets[i].address, address) &&
            (e->targets[i].only == NULL || e->targets[i].only == only))
            return;
    }
    if (e->target_count < TARGETS_MAX)
        e->targets[e->target_count++] = (target){*address, only};
}

static void end_receive(sim_node *node, sim_port *port, const sim_datagram *d)
{
    end *e = (end *)node;
    for (size_t i = 0; i < e->socket_count; i++) {
        end_socket *s = &e->sockets[i];
        if (s->port != port || !dp_address_equal(&s->address, &d->to) || !is_permitted(s, &d->from))
            continue;
        if (d->data[0] == 'a') {
            e->answered |= dp_address_equal(&e->probed, &d->from);
        } else if (s->checks) {
            learn(e, &d->from, e->generous ? NULL : s);
            send_from(s, &d->from, 'a');
        }
    }
}

static void server_receive(sim_node *node, sim_port *port, const sim_datagram *d)
{
    (void)port;
    ((end *)node)->seen = d->from;
}

static void clear(sim_node *node) { free(node); }

static end *end_new(sim_net *net, const char *name,
                    void (*receive)(sim_node *node, sim_port *port, const sim_datagram *d))
{
    end *e = sim_alloc(sizeof *e);
    e->node = (sim_node){.name = name, .receive = receive, .clear = clear};
    sim_node_add(net, &e->node);
    return e;
}

static end_socket *add_socket(end *e, sim_segment *segment, const dp_address *ip)
{
    sim_link perfect = {0};
    end_socket *s = &e->sockets[e->socket_count];
    s->port = sim_attach(&e->node, segment, &perfect);
    s->address = *ip;
    s->address.port = (uint16_t)(40000 + e->socket_count++);
    sim_claim(s->port, ip);
    return s;
}

/* What the server at text sees of the socket becomes a target of the other end. */
static void reflect(sim_net *net, end_socket *s, end *server, const char *text, end *other)
{
    dp_address to = sim_address(text, 3478);
    server->seen = (dp_address){0};
    if (s->address.family != to.family)
        return;
    send_from(s, &to, 'q');
    sim_run(net, DP_MS(1));
    if (server->seen.family != DP_FAMILY_NONE)
        learn(other, &server->seen, NULL);
}

static void gather(sim_net *net, const sim_built *built, const sim_side *side, size_t index,
                   const sim_knowledge *knowledge, end *e, end *other, end *const servers[2])
{
    static const char *const relays[2][2] = {{"198.51.100.101", "2001:db8:51::101"},
                                             {"198.51.100.102", "2001:db8:51::102"}};
    for (size_t k = 0; k < side->access_count; k++) {
        const sim_plug *plug = &built->plugs[index][k];
        for (size_t six = 0; six < 2; six++) {
            const dp_address *ip = six ? &plug->ipv6 : &plug->ipv4;
            if (ip->family == DP_FAMILY_NONE)
                continue;
            end_socket *s = add_socket(e, plug->segment, ip);
            s->checks = knowledge->host[k][six];
            if (s->checks)
                learn(other, &s->address, NULL);
            if (knowledge->reflexive[k][six]) {
                reflect(net, s, servers[0], six ? SIM_STUN6 : SIM_STUN4, other);
                reflect(net, s, servers[1], six ? SIM_TURN6 : SIM_TURN4, other);
            }
        }
    }
    for (size_t six = 0; six < 2; six++) {
        if (!knowledge->relay[six])
            continue;
        dp_address ip = sim_address(relays[index][six], 0);
        end_socket *s = add_socket(e, built->internet, &ip);
        s->relay = s->checks = true;
        learn(other, &s->address, NULL);
    }
}

/* Every socket tries every address of the other end. */
static bool try_all(sim_net *net, end *e)
{
    for (size_t i = 0; i < e->socket_count; i++) {
        end_socket *s = &e->sockets[i];
        for (size_t k = 0; k < e->target_count && s->checks; k++) {
            target t = e->targets[k];
            if (t.address.family != s->address.family || (t.only != NULL && t.only != s))
                continue;
            e->answered = false;
            e->probed = t.address;
            send_from(s, &t.address, 'q');
            sim_run(net, DP_MS(1));
            if (e->answered)
                return true;
        }
    }
    return false;
}

static end *add_server(sim_net *net, sim_segment *internet, const char *name, const char *ipv4,
                       const char *ipv6)
{
    end *server = end_new(net, name, server_receive);
    sim_link perfect = {0};
    sim_port *port = sim_attach(&server->node, internet, &perfect);
    dp_address four = sim_address(ipv4, 0);
    dp_address six = sim_address(ipv6, 0);
    sim_claim(port, &four);
    sim_claim(port, &six);
    return server;
}

bool sim_oracle_connects(const sim_topology *topology, const sim_knowledge knowledge[2], bool generous)
{
    sim_net net;
    sim_built built;
    bool connects = false;
    sim_net_init(&net, topology->seed);
    net.verbose = false;
    sim_topology_build(&built, topology, &net, true);
    end *servers[2] = {add_server(&net, built.internet, "STUN", SIM_STUN4, SIM_STUN6),
                       add_server(&net, built.internet, "TURN", SIM_TURN4, SIM_TURN6)};
    end *ends[2] = {end_new(&net, "A", end_receive), end_new(&net, "B", end_receive)};
    ends[0]->generous = ends[1]->generous = generous;
    for (size_t i = 0; i < 2; i++)
        gather(&net, &built, &topology->sides[i], i, &knowledge[i], ends[i], ends[1 - i], servers);
    for (unsigned round = 0; round < ROUNDS && !connects; round++)
        connects = try_all(&net, ends[0]) || try_all(&net, ends[1]);
    sim_net_clear(&net);
    return connects;
}
