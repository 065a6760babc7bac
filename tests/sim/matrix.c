/* Two ends, each behind a NAT of every kind of mapping and filtering (RFC 4787), with and without a TURN server:
 * who can connect, over what, and how fast. Prints a table; fails if the result is not what theory says.
 */
#include "run.h"
#include "two.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {"EI", "AD", "APD"};

typedef struct behaviour {
    sim_dependence mapping;
    sim_dependence filtering;
} behaviour;

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

static void world_init(sim_two *w, behaviour a, behaviour b, bool with_turn, uint64_t seed)
{
    bool preserve = seed % 2 == 0;
    sim_two_config config = {
        .seed = seed,
        .nats = {{.mapping = a.mapping, .filtering = a.filtering, .preserve_port = preserve},
                 {.mapping = b.mapping, .filtering = b.filtering, .preserve_port = preserve}},
        .link = {.delay = DP_MS(9)},
        .servers = {.delay = DP_MS(5)},
        .stun = true,
        .turn = with_turn,
        .host = {.signal_delay = DP_MS(20)},
    };
    sim_two_init(w, &config);
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
static const char *pair_is_wrong(const sim_two *w, size_t i, bool direct)
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
    sim_two w;
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
                    .relayed = sim_two_relayed(&w)};
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
