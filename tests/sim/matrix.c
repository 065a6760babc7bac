/* Two ends, each behind a NAT of every kind of mapping and filtering (RFC 4787), with and without a TURN server:
 * who can connect, over what, and how fast. Prints a table; fails if the result is not what theory says.
 *
 *   A 192.168.1.2 --[ NAT A 203.0.113.1 ]-- Internet --[ NAT B 203.0.113.2 ]-- B 192.168.2.2
 *                                              |
 *                           STUN 198.51.100.1, TURN 198.51.100.2 */
#include "nat.h"
#include "run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {"EI", "AD", "APD"};

typedef struct behaviour {
    sim_dependence mapping;
    sim_dependence filtering;
} behaviour;

typedef struct world {
    sim_net net;
    sim_nat *nats[2];
    sim_host *hosts[2];
    sim_server *turn;
} world;

/* ---- theory ---- */

/* Does x's check to y's server-reflexive address come in? That address is of the mapping that y's question to the
 * STUN server made; only if y's mapping is endpoint-independent do y's own checks leave by it too and open the
 * filter. They go to x's server-reflexive address, which is where x's check comes from only if x's mapping is
 * endpoint-independent. Once a check is in, its answer goes back by the same way (see nat.h), and the way is found
 * by both. */
static bool comes_in(behaviour x, behaviour y)
{
    if (y.filtering == SIM_ENDPOINT_INDEPENDENT)
        return true;
    if (y.mapping != SIM_ENDPOINT_INDEPENDENT)
        return false;
    return y.filtering == SIM_ADDRESS_DEPENDENT || x.mapping == SIM_ENDPOINT_INDEPENDENT;
}

static bool direct_is_possible(behaviour a, behaviour b) { return comes_in(a, b) || comes_in(b, a); }

/* ---- the world ---- */

static void add_end(world *w, size_t i, sim_segment *internet, behaviour kind, sim_server *stun_server,
                    bool with_turn, uint64_t seed)
{
    static const char *const outside[] = {"203.0.113.1", "203.0.113.2"};
    static const char *const inside[] = {"192.168.1.2", "192.168.2.2"};
    sim_link near = {.delay = DP_MS(1)};
    sim_link far = {.delay = DP_MS(9)};
    sim_segment *lan = sim_segment_new(&w->net);
    sim_nat_config nat = {
        .mapping = kind.mapping, .filtering = kind.filtering, .preserve_port = seed % 2 == 0};
    dp_address ip = sim_address(outside[i], 0);
    w->nats[i] = sim_nat_new(&w->net, i == 0 ? "NAT A" : "NAT B", &nat, lan, internet, &ip, &near, &far);
    sim_host_config host = {.role = i == 0 ? DP_ICE_CONTROLLING : DP_ICE_CONTROLLED,
                            .seed = seed * 2 + i,
                            .signal_delay = DP_MS(20)};
    w->hosts[i] = sim_host_new(&w->net, i == 0 ? "A" : "B", &host);
    dp_ice_server stun = {.size = sizeof stun, .address = sim_address("198.51.100.1", 3478)};
    sim_host_add_server(w->hosts[i], &stun, stun_server);
    if (with_turn) {
        dp_ice_server turn = {.size = sizeof turn,
                              .turn = true,
                              .address = sim_address("198.51.100.2", 3478),
                              .username = "user",
                              .credential = "secret"};
        sim_host_add_server(w->hosts[i], &turn, w->turn);
    }
    ip = sim_address(inside[i], 0);
    sim_host_add_address(w->hosts[i], sim_host_plug(w->hosts[i], lan, &near), &ip);
}

static void world_init(world *w, behaviour a, behaviour b, bool with_turn, uint64_t seed)
{
    memset(w, 0, sizeof *w);
    sim_net_init(&w->net, seed);
    sim_segment *internet = sim_segment_new(&w->net);
    sim_link link = {.delay = DP_MS(5)};
    sim_server_config stun = {.address = sim_address("198.51.100.1", 3478)};
    sim_server_config turn = {.turn = true,
                              .realm = "sim",
                              .username = "user",
                              .credential = "secret",
                              .address = sim_address("198.51.100.2", 3478)};
    sim_server *stun_server = sim_server_new(&w->net, "STUN", &stun, internet, &link);
    w->turn = sim_server_new(&w->net, "TURN", &turn, internet, &link);
    add_end(w, 0, internet, a, stun_server, with_turn, seed);
    add_end(w, 1, internet, b, stun_server, with_turn, seed);
    sim_host_join(w->hosts[0], w->hosts[1]);
    sim_host_start(w->hosts[0]);
    sim_host_start(w->hosts[1]);
}

/* ---- checks of a pair in use ---- */

static bool signalled(const sim_host *host, const dp_address *address, dp_candidate_type type)
{
    for (size_t i = 0; i < host->candidate_count; i++) {
        if (host->candidates[i].type == type && dp_address_equal(&host->candidates[i].address, address))
            return true;
    }
    return false;
}

/* What end i says of its pair against what the NATs and the relay know. NULL: all true. */
static const char *pair_is_wrong(const world *w, size_t i, bool direct)
{
    const sim_host *host = w->hosts[i];
    const sim_host *peer = w->hosts[1 - i];
    const sim_pair *pair = &host->selected;
    bool relayed = sim_server_relays(w->turn, &pair->local);
    if (relayed != (pair->local_type == DP_CANDIDATE_RELAY))
        return "the local type is not what the relay knows";
    if (!relayed && !dp_address_equal(&pair->local, &host->sockets[0].local))
        return "the local address is no socket";
    bool remote_relayed = sim_server_relays(w->turn, &pair->remote);
    if (direct && (relayed || remote_relayed))
        return "relayed, though there is a direct way";
    if (!direct && !relayed && !remote_relayed)
        return "direct, though there is no such way";
    if (remote_relayed != (pair->remote_type == DP_CANDIDATE_RELAY))
        return "the remote type is not what the relay knows";
    if (remote_relayed)
        return NULL;
    dp_address inside = sim_nat_inside(w->nats[1 - i], &pair->remote);
    if (!dp_address_equal(&inside, &peer->sockets[0].local))
        return "the remote address does not lead to the peer";
    dp_candidate_type type =
        signalled(peer, &pair->remote, DP_CANDIDATE_SRFLX) ? DP_CANDIDATE_SRFLX : DP_CANDIDATE_PRFLX;
    return pair->remote_type == type ? NULL : "the remote type is wrong";
}

/* ---- runs ---- */

typedef struct result {
    sim_outcome outcome;
    dp_duration time;
    uint64_t trace;
    dp_candidate_type remote_types[2];
    bool relayed;
} result;

static bool run(result *out, behaviour a, behaviour b, bool with_turn, uint64_t seed)
{
    world w;
    const char *why;
    bool direct = direct_is_possible(a, b);
    world_init(&w, a, b, with_turn, seed);
    sim_outcome outcome = sim_settle(&w.net, w.hosts[0], w.hosts[1], &why);
    if (outcome != SIM_BROKEN && (outcome == SIM_CONNECTED) != (direct || with_turn))
        why =
            outcome == SIM_CONNECTED ? "connected, though there is no way" : "failed, though there is a way";
    for (size_t i = 0; i < 2 && outcome == SIM_CONNECTED && why == NULL; i++)
        why = pair_is_wrong(&w, i, direct);
    if (why != NULL)
        fprintf(stderr, "NAT A %s/%s, NAT B %s/%s, %s: %s\n", names[a.mapping], names[a.filtering],
                names[b.mapping], names[b.filtering], with_turn ? "TURN" : "no TURN", why);
    *out = (result){.outcome = outcome,
                    .time = sim_time_to_usable(w.hosts[0], w.hosts[1]),
                    .trace = w.net.trace,
                    .remote_types = {w.hosts[0]->selected.remote_type, w.hosts[1]->selected.remote_type},
                    .relayed = w.hosts[0]->selected.local_type == DP_CANDIDATE_RELAY ||
                               w.hosts[0]->selected.remote_type == DP_CANDIDATE_RELAY};
    sim_net_clear(&w.net);
    return why == NULL;
}

static const char *describe(const result *r, char text[32])
{
    if (r->outcome != SIM_CONNECTED)
        return "-";
    const char *way = r->relayed ? "relay" : "srflx";
    if (!r->relayed && (r->remote_types[0] == DP_CANDIDATE_PRFLX || r->remote_types[1] == DP_CANDIDATE_PRFLX))
        way = "prflx";
    snprintf(text, 32, "%s %u", way, (unsigned)(r->time / 1000));
    return text;
}

static behaviour kind(unsigned i) { return (behaviour){(sim_dependence)(i / 3), (sim_dependence)(i % 3)}; }

static unsigned table(bool with_turn)
{
    unsigned wrong = 0;
    printf("\n%s TURN: the way found and ms to the first usable pair (mapping/filtering)\n%-8s",
           with_turn ? "With" : "Without", "A \\ B");
    for (unsigned b = 0; b < 9; b++)
        printf(" %3s/%-6s", names[kind(b).mapping], names[kind(b).filtering]);
    for (unsigned a = 0; a < 9; a++) {
        printf("\n%3s/%-4s", names[kind(a).mapping], names[kind(a).filtering]);
        for (unsigned b = 0; b < 9; b++) {
            result first;
            result again;
            char text[32];
            wrong += !run(&first, kind(a), kind(b), with_turn, 9 * a + b);
            wrong += !run(&again, kind(a), kind(b), with_turn, 9 * a + b);
            if (first.trace != again.trace) {
                fprintf(stderr, "the same seed gave another run\n");
                wrong++;
            }
            printf(" %-10s", describe(&first, text));
        }
    }
    putchar('\n');
    return wrong;
}

int main(void)
{
    printf("NAT matrix, one way 20 ms between the ends, 15 ms to the servers\n");
    unsigned wrong = table(false) + table(true);
    return wrong > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
