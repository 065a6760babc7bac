/* random COUNT [FIRST]: runs of ICE in random surroundings, of the seeds FIRST, FIRST + 1, ... Each has to end as the
 * oracle says, and both ends the same way; every tenth is run twice, and has to give one trace.
 *
 * A run may also fail because checks were lost, all seven of them and all that the peer's ones triggered. That is no
 * fault, but has to be rare, and never without loss. */
#include "oracle.h"
#include "run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct world {
    sim_topology topology;
    sim_net net;
    sim_built built;
    sim_server *stun;
    sim_server *turn;
    sim_host *hosts[2];
} world;

typedef struct result {
    sim_outcome outcome;
    const char *why;
    bool unlucky; /* failed, but by loss */
    bool relayed;
    uint64_t trace;
    uint64_t steps;
} result;

static void add_servers(world *w)
{
    sim_link link = {.delay = DP_MS(5)};
    sim_server_config stun = {.address = sim_address(SIM_STUN4, 3478)};
    sim_server_config turn = {.turn = true,
                              .realm = "sim",
                              .username = "user",
                              .credential = "secret",
                              .nonce_lifetime = w->topology.nonce_lifetime,
                              .address = sim_address(SIM_TURN4, 3478)};
    if (w->topology.servers_ipv6) {
        stun.address6 = sim_address(SIM_STUN6, 3478);
        turn.address6 = sim_address(SIM_TURN6, 3478);
    }
    w->stun = sim_server_new(&w->net, "STUN", &stun, w->built.internet, &link);
    w->turn = sim_server_new(&w->net, "TURN", &turn, w->built.internet, &link);
}

static void tell_servers(world *w, const sim_side *side, sim_host *host)
{
    bool ipv4 = side->accesses[0].ipv4 || (side->access_count > 1 && side->accesses[1].ipv4);
    dp_ice_server stun = {.size = sizeof stun, .address = sim_address(SIM_STUN4, 3478)};
    dp_ice_server turn = {.size = sizeof turn,
                          .turn = true,
                          .transport = side->turn_transport,
                          .address =
                              sim_address(ipv4 || !w->topology.servers_ipv6 ? SIM_TURN4 : SIM_TURN6, 3478),
                          .username = "user",
                          .credential = "secret"};
    if (side->stun) {
        sim_host_add_server(host, &stun, w->stun);
        stun.address = sim_address(SIM_STUN6, 3478);
        if (w->topology.servers_ipv6)
            sim_host_add_server(host, &stun, w->stun);
    }
    if (side->turn)
        sim_host_add_server(host, &turn, w->turn);
}

static void start(sim_net *net, sim_event *event)
{
    (void)net;
    sim_host_start(event->ctx);
}

static void add_end(world *w, size_t i)
{
    const sim_side *side = &w->topology.sides[i];
    sim_host_config config = {.role = side->role,
                              .seed = w->topology.seed * 2 + i,
                              .relay_only = side->relay_only,
                              .signal_delay = side->signal_delay,
                              .signal_jitter = side->signal_jitter,
                              .streams_blocked = side->streams_blocked,
                              .stream_delay = DP_MS(10) + side->accesses[0].link.delay};
    sim_host *host = w->hosts[i] = sim_host_new(&w->net, i == 0 ? "A" : "B", &config);
    tell_servers(w, side, host);
    for (size_t k = 0; k < side->access_count; k++) {
        const sim_plug *plug = &w->built.plugs[i][k];
        sim_port *port = sim_host_plug(host, plug->segment, &side->accesses[k].link);
        if (plug->ipv4.family != DP_FAMILY_NONE)
            sim_host_add_address(host, port, &plug->ipv4);
        if (plug->ipv6.family != DP_FAMILY_NONE)
            sim_host_add_address(host, port, &plug->ipv6);
    }
    sim_after(&w->net, side->start, start, host, 0, NULL, 0);
}

static void world_init(world *w, uint64_t seed)
{
    memset(w, 0, sizeof *w);
    sim_topology_draw(&w->topology, seed);
    sim_net_init(&w->net, seed);
    sim_topology_build(&w->built, &w->topology, &w->net, false);
    add_servers(w);
    add_end(w, 0);
    add_end(w, 1);
    sim_host_join(w->hosts[0], w->hosts[1]);
}

/* What the end's agent has gathered. */
static sim_knowledge knowledge_of(const world *w, size_t i)
{
    sim_knowledge out = {0};
    const sim_host *host = w->hosts[i];
    for (size_t c = 0; c < host->candidate_count; c++) {
        const sim_candidate *candidate = &host->candidates[c];
        size_t six = candidate->address.family == DP_FAMILY_IPV6;
        if (candidate->type == DP_CANDIDATE_RELAY)
            out.relay[six] = true;
        for (size_t k = 0; k < w->topology.sides[i].access_count; k++) {
            const sim_plug *plug = &w->built.plugs[i][k];
            if (sim_same_ip(&candidate->base, six ? &plug->ipv6 : &plug->ipv4)) {
                out.host[k][six] |= candidate->type == DP_CANDIDATE_HOST;
                out.reflexive[k][six] |= candidate->type == DP_CANDIDATE_SRFLX;
            }
        }
    }
    return out;
}

static void run(result *out, uint64_t seed)
{
    world w;
    memset(out, 0, sizeof *out);
    world_init(&w, seed);
    out->outcome = sim_settle(&w.net, w.hosts[0], w.hosts[1], &out->why);
    out->trace = w.net.trace;
    out->steps = w.net.steps;
    out->relayed = w.hosts[0]->selected.local_type == DP_CANDIDATE_RELAY ||
                   w.hosts[0]->selected.remote_type == DP_CANDIDATE_RELAY;
    if (out->outcome != SIM_BROKEN) {
        sim_knowledge knowledge[2] = {knowledge_of(&w, 0), knowledge_of(&w, 1)};
        bool possible = sim_oracle_connects(&w.topology, knowledge, false);
        out->unlucky = out->outcome == SIM_FAILED && possible && w.topology.loss > 0;
        if (out->outcome == SIM_FAILED && possible && !out->unlucky)
            out->why = "both failed, though there is a way and nothing is lost";
        if (out->outcome == SIM_CONNECTED && !possible && !sim_oracle_connects(&w.topology, knowledge, true))
            out->why = "connected, though the oracle knows no way";
    }
    sim_net_clear(&w.net);
}

int main(int argc, char **argv)
{
    uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 2000;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    uint64_t connected = 0;
    uint64_t relayed = 0;
    uint64_t unlucky = 0;
    uint64_t hopeless = 0;
    uint64_t wrong = 0;
    uint64_t steps = 0;
    for (uint64_t seed = first; seed < first + count; seed++) {
        result r;
        result again;
        run(&r, seed);
        if (seed % 10 == 0) {
            run(&again, seed);
            if (r.trace != again.trace)
                r.why = "the same seed gave another trace";
        }
        connected += r.outcome == SIM_CONNECTED;
        relayed += r.outcome == SIM_CONNECTED && r.relayed;
        unlucky += r.unlucky;
        hopeless += r.outcome == SIM_FAILED && r.why == NULL && !r.unlucky;
        steps += r.steps;
        if (r.why != NULL || count == 1) {
            sim_topology topology;
            sim_topology_draw(&topology, seed);
            sim_topology_print(&topology);
            printf("  %s: %s\n  again: SIM_TRACE=1 SIM_LOG=1 %s 1 %llu\n",
                   r.outcome == SIM_CONNECTED ? "connected" : "not connected",
                   r.why != NULL ? r.why : (r.unlucky ? "lost too much" : "as expected"), argv[0],
                   (unsigned long long)seed);
            wrong += r.why != NULL;
        }
    }
    printf("%llu random runs from seed %llu: %llu connected (%llu relayed), %llu had no way, %llu lost too "
           "much, "
           "%llu wrong; %llu steps\n",
           (unsigned long long)count, (unsigned long long)first, (unsigned long long)connected,
           (unsigned long long)relayed, (unsigned long long)hopeless, (unsigned long long)unlucky,
           (unsigned long long)wrong, (unsigned long long)steps);
    return wrong > 0 || unlucky > 1 + count / 200 ? EXIT_FAILURE : EXIT_SUCCESS;
}
