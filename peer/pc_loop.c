/* The public way to run one dp_pc on a dp_loop: a network, a mux and a runner of its own. */
#include <datapeer/pc_loop.h>

#include <string.h>

#include "base/config.h"
#include "base/mem.h"
#include "peer/runner.h"

struct dp_pc_loop {
    network *network;
    mux *mux;
    runner *runner;
    void (*on_writable)(void *user);
    void (*on_event)(void *user, const dp_pc_event *event);
    void *user;
};

static void on_event(void *user, const dp_pc_event *event)
{
    dp_pc_loop *run = user;
    run->on_event(run->user, event);
}

static void on_fill(void *user)
{
    dp_pc_loop *run = user;
    if (run->on_writable != NULL)
        run->on_writable(run->user);
}

static int open_network(dp_pc_loop *run, const dp_pc_loop_config *config)
{
    network_config on = {.loop = config->loop,
                         .random = config->pc.random,
                         .log = config->pc.log,
                         .include_loopback = config->include_loopback,
                         .bind_addresses = config->bind_addresses,
                         .bind_count = config->bind_count,
                         .port_min = config->port_min,
                         .port_max = config->port_max,
                         .tcp = config->pc.ice_tcp,
                         .turn_ca_file = config->turn_ca_file};
    int error = dp_network_new(&run->network, &on);
    return error != DP_OK ? error : dp_mux_new(&run->mux, run->network, 0);
}

int dp_pc_loop_new(dp_pc_loop **out, const dp_pc_loop_config *given)
{
    dp_pc_loop_config read = {0};
    const dp_pc_loop_config *config = &read;
    if (out == NULL || !DP_CONFIG_READ(&read, given, dp_pc_loop_config, on_writable) ||
        config->loop == NULL || config->on_event == NULL)
        return DP_ERR_INVALID_ARGUMENT;
    dp_pc_loop *run = dp_calloc(1, sizeof *run);
    if (run == NULL)
        return DP_ERR_NO_MEMORY;
    run->on_event = config->on_event;
    run->on_writable = config->on_writable;
    run->user = config->user;
    int error = open_network(run, config);
    if (error == DP_OK) {
        runner_config runs = {.network = run->network,
                              .mux = run->mux,
                              .pc = config->pc,
                              .on_event = on_event,
                              .on_fill = on_fill,
                              .user = run};
        error = dp_runner_new(&run->runner, &runs);
    }
    if (error != DP_OK) {
        dp_pc_loop_free(run);
        return error;
    }
    *out = run;
    return DP_OK;
}

void dp_pc_loop_free(dp_pc_loop *run)
{
    if (run == NULL)
        return;
    dp_runner_free(run->runner);
    dp_mux_free(run->mux);
    dp_network_free(run->network);
    dp_free(run);
}

dp_pc *dp_pc_loop_pc(const dp_pc_loop *run) { return dp_runner_pc(run->runner); }

void dp_pc_loop_wake(dp_pc_loop *run) { dp_runner_wake(run->runner); }
