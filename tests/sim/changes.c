/* Networks that change under a connection: links that go and come back, NATs that forget, addresses that move, ICE
 * restarts. Whatever happened, data flows both ways again on one pair, in the time that is given. */
#include "run.h"
#include "two.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A NAT that forgot gives another port: only a filter that looks no further than the address lets that in. With a stricter
 * one it takes a relay, or a restart. */
static const sim_nat_config cone = {.mapping = SIM_ENDPOINT_INDEPENDENT, .filtering = SIM_ADDRESS_DEPENDENT};

static void cut_for_10_seconds(sim_two *two)
{
    two->ports[0]->link.cut_from = two->net.now;
    two->ports[0]->link.cut_to = two->net.now + DP_SECONDS(10);
    sim_run(&two->net, DP_SECONDS(10));
}

static void rebind_a(sim_two *two) { sim_nat_rebind(two->nats[0]); }

static void rebind_b(sim_two *two) { sim_nat_rebind(two->nats[1]); }

static void move_a(sim_two *two)
{
    dp_address old = two->hosts[0]->sockets[0].local;
    dp_address ip = sim_address("192.168.1.77", 0);
    sim_host_add_address(two->hosts[0], two->ports[0], &ip);
    sim_host_remove_address(two->hosts[0], &old);
}

static void move_b_with_a_gap(sim_two *two)
{
    dp_address old = two->hosts[1]->sockets[0].local;
    dp_address ip = sim_address("192.168.2.77", 0);
    sim_host_remove_address(two->hosts[1], &old);
    sim_run(&two->net, DP_SECONDS(3));
    sim_host_add_address(two->hosts[1], two->ports[1], &ip);
}

static void restart_a(sim_two *two) { sim_host_restart(two->hosts[0]); }

static void restart_both(sim_two *two)
{
    sim_host_restart(two->hosts[0]);
    sim_host_restart(two->hosts[1]);
}

static void restart_after_a_move(sim_two *two)
{
    dp_address old = two->hosts[0]->sockets[0].local;
    dp_address ip = sim_address("192.168.1.78", 0);
    sim_host_remove_address(two->hosts[0], &old);
    sim_host_add_address(two->hosts[0], two->ports[0], &ip);
    sim_host_restart(two->hosts[0]);
}

static bool both_completed(void *ctx)
{
    const sim_two *two = ctx;
    return sim_host_ice_state(two->hosts[0]) == DP_ICE_COMPLETED &&
           sim_host_ice_state(two->hosts[1]) == DP_ICE_COMPLETED;
}

/* Also counts how long the ends could not talk: that is what a user feels. */
static bool run(const char *name, void (*change)(sim_two *two), dp_duration within, unsigned loss, bool turn)
{
    sim_two two;
    const char *why = NULL;
    sim_two_config config = {
        .seed = 7,
        .nats = {cone, cone},
        .link = {.delay = DP_MS(9), .loss = loss},
        .servers = {.delay = DP_MS(5)},
        .stun = true,
        .turn = turn,
        .host = {.signal_delay = DP_MS(20)},
    };
    sim_two_init(&two, &config);
    sim_host_start(two.hosts[0]);
    if (sim_settle(&two.net, two.hosts[0], two.hosts[1], &why) != SIM_CONNECTED) {
        fprintf(stderr, "%s: not connected at first: %s\n", name, why != NULL ? why : "failed");
        sim_net_clear(&two.net);
        return false;
    }
    change(&two);
    dp_time start = two.net.now;
    bool back = sim_agree(&two.net, two.hosts[0], two.hosts[1]);
    dp_duration took = two.net.now - start;
    bool settled = sim_run_until(&two.net, DP_SECONDS(60), both_completed, &two);
    if (!back || took > within)
        why = "data did not flow again in time";
    else if (!settled)
        why = "not completed again";
    else if (two.hosts[0]->stray + two.hosts[1]->stray > 0)
        why = "sent from a socket that there is not";
    printf("%-28s %s %2u %% loss: again both ways after %.1f s\n", name, turn ? "TURN," : "     ", loss / 10,
           (double)took / 1e6);
    if (why != NULL)
        fprintf(stderr, "%s, %u per mille lost: %s\n", name, loss, why);
    sim_net_clear(&two.net);
    return why == NULL;
}

/* changes [PART]: only those whose name has it. */
int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*change)(sim_two *two);
        dp_duration within; /* 30 s: an end notices at the latest when consent runs out (RFC 7675) */
    } changes[] = {
        {"cut for 10 s", cut_for_10_seconds, DP_SECONDS(10)},
        {"NAT A forgets", rebind_a, DP_SECONDS(30)},
        {"NAT B forgets", rebind_b, DP_SECONDS(30)},
        {"A moves", move_a, DP_SECONDS(30)},
        {"B moves, 3 s offline", move_b_with_a_gap, DP_SECONDS(30)},
        {"A restarts", restart_a, DP_SECONDS(10)},
        {"both restart at once", restart_both, DP_SECONDS(15)},
        {"A moves and restarts", restart_after_a_move, DP_SECONDS(10)},
    };
    unsigned wrong = 0;
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        for (unsigned loss = 0; loss <= 100 && (argc < 2 || strstr(changes[i].name, argv[1]) != NULL);
             loss += 100) {
            wrong += !run(changes[i].name, changes[i].change, changes[i].within, loss, false);
            wrong += !run(changes[i].name, changes[i].change, changes[i].within, loss, true);
        }
    }
    return wrong > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
