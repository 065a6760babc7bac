#include "run.h"

/* An agent gives up 30 s after its checks began, and gathering may take 10 s and signalling some more. */
#define SETTLE_MAX DP_SECONDS(120)
/* A peer whose consent runs out notices in 30 s. */
#define PARTING_MAX DP_SECONDS(60)
#define AGREE_MAX   DP_SECONDS(60)
#define PING_EVERY  DP_MS(700) /* longer than any path's delay: an arrival belongs to the last ping */
/* What two agents with 100 pairs each can do in that time, many times over. */
#define STEPS_MAX     1000000
#define STEPS_AT_ONCE 20000

typedef struct pair_of_hosts {
    sim_host *a;
    sim_host *b;
} pair_of_hosts;

static bool busy(const sim_net *net) { return net->steps > STEPS_MAX || net->steps_at_now > STEPS_AT_ONCE; }

bool sim_run_until(sim_net *net, dp_duration span, bool (*done)(void *ctx), void *ctx)
{
    dp_time until = net->now + span;
    while (!done(ctx)) {
        if (busy(net) || !sim_step(net, until))
            return false;
    }
    return true;
}

static bool failed(const sim_host *host) { return sim_host_ice_state(host) == DP_ICE_FAILED; }
static bool completed(const sim_host *host) { return sim_host_ice_state(host) == DP_ICE_COMPLETED; }

static bool both_done(void *ctx)
{
    const pair_of_hosts *p = ctx;
    return (failed(p->a) || completed(p->a)) && (failed(p->b) || completed(p->b));
}

static bool both_same(void *ctx)
{
    const pair_of_hosts *p = ctx;
    return (failed(p->a) && failed(p->b)) || (completed(p->a) && completed(p->b));
}

/* One datagram from a to b: it has to arrive where b says that its selected pair is. */
static bool ping(sim_net *net, sim_host *a, sim_host *b, uint64_t number)
{
    dp_address local;
    dp_address remote;
    b->arrived = 0;
    if (!sim_host_ping(a, number))
        return false;
    sim_run(net, PING_EVERY);
    if (b->arrived != number || !sim_host_pair(b, &local, &remote))
        return false;
    if (b->arrived_link != 0)
        return b->selected.local_type == DP_CANDIDATE_RELAY;
    return dp_address_equal(&b->arrived_local, &local) && dp_address_equal(&b->arrived_remote, &remote);
}

bool sim_agree(sim_net *net, sim_host *a, sim_host *b)
{
    dp_time until = net->now + AGREE_MAX;
    for (uint64_t number = 1; net->now < until && !busy(net); number++) {
        sim_run(net, PING_EVERY);
        if (ping(net, a, b, 2 * number) && ping(net, b, a, 2 * number + 1))
            return true;
    }
    return false;
}

static bool stuck(const sim_host *host)
{
    return !failed(host) && dp_ice_next_timeout(host->ice) == DP_TIME_NEVER;
}

sim_outcome sim_settle(sim_net *net, sim_host *a, sim_host *b, const char **why)
{
    pair_of_hosts both = {a, b};
    *why = NULL;
    bool done = sim_run_until(net, SETTLE_MAX, both_done, &both);
    if (done)
        sim_run(net, DP_SECONDS(2)); /* late nominations */
    if (busy(net))
        *why = "busy loop";
    else if (stuck(a) || stuck(b))
        *why = "an agent waits for nothing";
    else if (!done)
        *why = "no end in time";
    else if (!sim_run_until(net, PARTING_MAX, both_same, &both))
        *why = "one connected, one failed";
    else if (a->stray + b->stray > 0)
        *why = "sent from a socket that there is not";
    else if (!failed(a) && !sim_agree(net, a, b))
        *why = "no agreement on one pair";
    if (*why != NULL)
        return SIM_BROKEN;
    return failed(a) ? SIM_FAILED : SIM_CONNECTED;
}

dp_duration sim_time_to_usable(const sim_host *a, const sim_host *b)
{
    dp_time described = a->described_at > b->described_at ? a->described_at : b->described_at;
    dp_time usable = a->usable_at > b->usable_at ? a->usable_at : b->usable_at;
    return usable > described ? usable - described : 0;
}
