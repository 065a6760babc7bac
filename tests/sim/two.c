#include "two.h"

#include <string.h>

#define NEAR_DELAY DP_MS(1) /* from an end to its NAT */

static void add_end(sim_two *two, const sim_two_config *config, size_t i, sim_segment *internet)
{
    static const char *const names[2][2] = {{"A", "NAT A"}, {"B", "NAT B"}};
    static const char *const outside[] = {"203.0.113.1", "203.0.113.2"};
    static const char *const inside[] = {"192.168.1.2", "192.168.2.2"};
    sim_link near = {.delay = NEAR_DELAY};
    sim_segment *home = internet;
    dp_address ip = sim_address(outside[i], 0);
    if (!config->no_nat[i]) {
        home = sim_segment_new(&two->net);
        two->nats[i] =
            sim_nat_new(&two->net, names[i][1], &config->nats[i], home, internet, &ip, &near, &config->link);
        ip = sim_address(inside[i], 0);
    }
    sim_host_config host = config->host;
    host.seed = config->seed * 2 + i;
    host.role = i == 0 ? DP_ICE_CONTROLLING : DP_ICE_CONTROLLED;
    two->hosts[i] = sim_host_new(&two->net, names[i][0], &host);
    dp_ice_server stun = {.size = sizeof stun, .address = sim_address("198.51.100.1", 3478)};
    dp_ice_server turn = {.size = sizeof turn,
                          .turn = true,
                          .address = sim_address("198.51.100.2", 3478),
                          .username = "user",
                          .credential = "secret"};
    if (config->stun)
        sim_host_add_server(two->hosts[i], &stun, two->stun);
    if (config->turn)
        sim_host_add_server(two->hosts[i], &turn, two->turn);
    two->ports[i] = sim_host_plug(two->hosts[i], home, config->no_nat[i] ? &config->link : &near);
    sim_host_add_address(two->hosts[i], two->ports[i], &ip);
}

void sim_two_init(sim_two *two, const sim_two_config *config)
{
    memset(two, 0, sizeof *two);
    sim_net_init(&two->net, config->seed);
    sim_segment *internet = sim_segment_new(&two->net);
    sim_server_config stun = {.address = sim_address("198.51.100.1", 3478)};
    sim_server_config turn = {.turn = true,
                              .realm = "sim",
                              .username = "user",
                              .credential = "secret",
                              .address = sim_address("198.51.100.2", 3478)};
    two->stun = sim_server_new(&two->net, "STUN", &stun, internet, &config->servers);
    two->turn = sim_server_new(&two->net, "TURN", &turn, internet, &config->servers);
    add_end(two, config, 0, internet);
    add_end(two, config, 1, internet);
    sim_host_join(two->hosts[0], two->hosts[1]);
}

bool sim_two_relayed(const sim_two *two)
{
    const sim_pair *pair = &two->hosts[0]->selected;
    return pair->local_type == DP_CANDIDATE_RELAY || pair->remote_type == DP_CANDIDATE_RELAY;
}
