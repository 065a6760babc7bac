/* How long ICE takes: from both descriptions known at both ends to the first pair that data can be sent on at both,
 * median and 90th percentile of 50 runs in virtual time. A offers, B answers; candidates trickle. */
#include "run.h"
#include "two.h"

#include <stdio.h>
#include <stdlib.h>

#define RUNS 50

static int compare(const void *a, const void *b)
{
    dp_duration x = *(const dp_duration *)a;
    dp_duration y = *(const dp_duration *)b;
    return (x > y) - (x < y);
}

static bool usable(void *ctx)
{
    const sim_two *two = ctx;
    return two->hosts[0]->usable_at != 0 && two->hosts[1]->usable_at != 0;
}

static bool measure(const char *name, const sim_two_config *config, bool relayed)
{
    dp_duration times[RUNS];
    for (uint64_t i = 0; i < RUNS; i++) {
        sim_two two;
        sim_two_config c = *config;
        c.seed = i + 1;
        sim_two_init(&two, &c);
        sim_host_start(two.hosts[0]);
        bool done = sim_run_until(&two.net, DP_SECONDS(10), usable, &two) && sim_two_relayed(&two) == relayed;
        times[i] = sim_time_to_usable(two.hosts[0], two.hosts[1]);
        sim_net_clear(&two.net);
        if (!done) {
            fprintf(stderr, "%s: not connected as it should be, seed %u\n", name, (unsigned)i + 1);
            return false;
        }
    }
    qsort(times, RUNS, sizeof times[0], compare);
    printf("%-58s median %7.2f ms, p90 %7.2f ms\n", name, (double)times[RUNS / 2] / 1e3,
           (double)times[RUNS * 9 / 10] / 1e3);
    return true;
}

int main(void)
{
    sim_nat_config cone = {.mapping = SIM_ENDPOINT_INDEPENDENT, .filtering = SIM_ADDRESS_AND_PORT_DEPENDENT};
    sim_nat_config symmetric = {.mapping = SIM_ADDRESS_AND_PORT_DEPENDENT,
                                .filtering = SIM_ADDRESS_AND_PORT_DEPENDENT};
    /* 40 ms there and back between the ends: 10 ms for each side's way to the Internet, of which NATs take one. */
    sim_link far = {.delay = DP_MS(9), .jitter = DP_MS(2)};
    sim_two_config loopback = {.no_nat = {true, true}};
    sim_two_config open = {.no_nat = {true, true},
                           .link = far,
                           .stun = true,
                           .host = {.signal_delay = DP_MS(20), .signal_jitter = DP_MS(20)}};
    sim_two_config one_nat = open;
    sim_two_config two_nats = open;
    sim_two_config relay = open;
    one_nat.no_nat[0] = two_nats.no_nat[0] = two_nats.no_nat[1] = relay.no_nat[0] = relay.no_nat[1] = false;
    one_nat.nats[0] = two_nats.nats[0] = two_nats.nats[1] = cone;
    relay.nats[0] = relay.nats[1] = symmetric;
    relay.turn = true;
    bool good = measure("no delay", &loopback, false) && measure("40 ms round trip, no NAT", &open, false) &&
                measure("40 ms round trip, one NAT (EI/APD), STUN", &one_nat, false) &&
                measure("40 ms round trip, two NATs (EI/APD), STUN", &two_nats, false) &&
                measure("40 ms round trip, two NATs (APD/APD), relay by UDP", &relay, true);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
