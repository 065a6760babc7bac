#include "nat.h"

#include <stdlib.h>
#include <string.h>

#define SESSIONS_MAX 256
#define MAPPINGS_MAX 256

typedef struct session {
    dp_address remote;
    dp_time until;
    uint64_t heard; /* the serial of the last datagram from there, 0: none yet */
} session;

typedef struct mapping {
    dp_address inside;
    dp_address outside;
    dp_address first; /* what it was made for: the mapping's dependence */
    dp_time until;
    session sessions[SESSIONS_MAX];
    size_t session_count;
} mapping;

struct sim_nat {
    sim_node node;
    sim_nat_config config;
    sim_port *inside;
    sim_port *outside;
    dp_address outside_ip;
    mapping *mappings[MAPPINGS_MAX];
    size_t mapping_count;
    uint64_t heard;
};

static bool same(const dp_address *a, const dp_address *b, sim_dependence dependence)
{
    switch (dependence) {
    case SIM_ENDPOINT_INDEPENDENT:
        return true;
    case SIM_ADDRESS_DEPENDENT:
        return sim_same_ip(a, b);
    default:
        return dp_address_equal(a, b);
    }
}

/* Has the mapping to do with remote, as far as dependence looks? */
static session *session_find(mapping *m, const dp_address *remote, sim_dependence dependence)
{
    for (size_t i = 0; i < m->session_count; i++) {
        if (same(&m->sessions[i].remote, remote, dependence))
            return &m->sessions[i];
    }
    return NULL;
}

static session *session_note(mapping *m, const dp_address *remote, dp_time until)
{
    session *s = session_find(m, remote, SIM_ADDRESS_AND_PORT_DEPENDENT);
    if (s == NULL) {
        if (m->session_count == SESSIONS_MAX)
            memmove(m->sessions, m->sessions + 1, --m->session_count * sizeof *s);
        s = &m->sessions[m->session_count++];
        *s = (session){.remote = *remote};
    }
    s->until = until > s->until ? until : s->until;
    return s;
}

static void forget(sim_nat *nat, size_t i)
{
    free(nat->mappings[i]);
    memmove(&nat->mappings[i], &nat->mappings[i + 1], (--nat->mapping_count - i) * sizeof nat->mappings[0]);
}

static void expire(sim_nat *nat)
{
    dp_time now = nat->node.net->now;
    for (size_t i = nat->mapping_count; i-- > 0;) {
        mapping *m = nat->mappings[i];
        size_t kept = 0;
        for (size_t k = 0; k < m->session_count; k++) {
            if (m->sessions[k].until > now)
                m->sessions[kept++] = m->sessions[k];
        }
        m->session_count = kept;
        if (m->until <= now)
            forget(nat, i);
    }
}

static mapping *by_outside(const sim_nat *nat, const dp_address *outside)
{
    for (size_t i = 0; i < nat->mapping_count; i++) {
        if (dp_address_equal(&nat->mappings[i]->outside, outside))
            return nat->mappings[i];
    }
    return NULL;
}

static bool translates(const sim_nat *nat, const dp_address *address)
{
    return !nat->config.no_translation && address->family == DP_FAMILY_IPV4;
}

/* The mapping by which remote was last heard, else RFC 4787 §4.1. */
static mapping *by_inside(const sim_nat *nat, const dp_address *inside, const dp_address *remote)
{
    mapping *found = NULL;
    uint64_t heard = 0;
    for (size_t i = 0; i < nat->mapping_count; i++) {
        mapping *m = nat->mappings[i];
        if (!dp_address_equal(&m->inside, inside))
            continue;
        const session *s = session_find(m, remote, SIM_ADDRESS_AND_PORT_DEPENDENT);
        if (s != NULL && s->heard > heard) {
            heard = s->heard;
            found = m;
        } else if (heard == 0 && (!translates(nat, inside) || same(&m->first, remote, nat->config.mapping))) {
            found = m;
        }
    }
    return found;
}

static mapping *mapping_new(sim_nat *nat, const dp_address *inside, const dp_address *remote)
{
    if (nat->mapping_count == MAPPINGS_MAX)
        forget(nat, 0);
    mapping *m = sim_alloc(sizeof *m);
    m->inside = m->outside = *inside;
    m->first = *remote;
    if (translates(nat, inside)) {
        m->outside = nat->outside_ip;
        m->outside.port = inside->port;
        while (!nat->config.preserve_port || by_outside(nat, &m->outside) != NULL) {
            m->outside.port = (uint16_t)(1024 + sim_below(&nat->node.net->seed, 64512));
            if (by_outside(nat, &m->outside) == NULL)
                break;
        }
    }
    nat->mappings[nat->mapping_count++] = m;
    return m;
}

static void come_in(sim_nat *nat, const sim_datagram *d)
{
    mapping *m = by_outside(nat, &d->to);
    if (m == NULL || session_find(m, &d->from, nat->config.filtering) == NULL) {
        sim_trace(nat->node.net, m == NULL ? "unmapped" : "filtered", &nat->node, d);
        return;
    }
    session_note(m, &d->from, m->until)->heard = ++nat->heard;
    sim_datagram translated = {d->from, m->inside, d->len, d->data};
    sim_send(nat->inside, &translated);
}

static bool may_leave(const sim_nat *nat, const dp_address *to)
{
    for (size_t i = 0; i < nat->config.allowed_count; i++) {
        const dp_address *allowed = &nat->config.allowed[i];
        if (sim_same_ip(allowed, to) && (allowed->port == 0 || allowed->port == to->port))
            return true;
    }
    return !nat->config.blocked;
}

static void go_out(sim_nat *nat, const sim_datagram *d)
{
    bool hairpin = translates(nat, &d->to) && sim_same_ip(&d->to, &nat->outside_ip);
    if (!may_leave(nat, &d->to) || (hairpin && !nat->config.hairpin)) {
        sim_trace(nat->node.net, "blocked", &nat->node, d);
        return;
    }
    mapping *m = by_inside(nat, &d->from, &d->to);
    if (m == NULL)
        m = mapping_new(nat, &d->from, &d->to);
    m->until = nat->node.net->now + nat->config.timeout;
    session_note(m, &d->to, m->until);
    sim_datagram translated = {m->outside, d->to, d->len, d->data};
    if (hairpin)
        come_in(nat, &translated);
    else
        sim_send(nat->outside, &translated);
}

static void receive(sim_node *node, sim_port *port, const sim_datagram *d)
{
    sim_nat *nat = (sim_nat *)node;
    expire(nat);
    if (port == nat->outside)
        come_in(nat, d);
    else
        go_out(nat, d);
}

void sim_nat_rebind(sim_nat *nat)
{
    while (nat->mapping_count > 0)
        forget(nat, nat->mapping_count - 1);
}

static void clear(sim_node *node)
{
    sim_nat_rebind((sim_nat *)node);
    free(node);
}

sim_nat *sim_nat_new(sim_net *net, const char *name, const sim_nat_config *config, sim_segment *inside,
                     sim_segment *outside, const dp_address *outside_ip, const sim_link *inside_link,
                     const sim_link *outside_link)
{
    sim_nat *nat = sim_alloc(sizeof *nat);
    nat->node = (sim_node){.name = name, .receive = receive, .clear = clear};
    nat->config = *config;
    if (nat->config.timeout == 0)
        nat->config.timeout = DP_SECONDS(120);
    nat->outside_ip = *outside_ip;
    sim_node_add(net, &nat->node);
    nat->inside = sim_attach(&nat->node, inside, inside_link);
    nat->outside = sim_attach(&nat->node, outside, outside_link);
    sim_claim(nat->outside, outside_ip);
    inside->gateway = nat->inside;
    return nat;
}

void sim_nat_route(sim_nat *nat, const dp_address *ip) { sim_claim(nat->outside, ip); }

dp_address sim_nat_inside(const sim_nat *nat, const dp_address *outside)
{
    const mapping *m = by_outside(nat, outside);
    return m != NULL ? m->inside : (dp_address){0};
}

sim_segment *sim_nat_inside_segment(const sim_nat *nat) { return nat->inside->segment; }
