/* Random surroundings of two ends: how many networks each is in, behind which NATs, with which servers, over how bad
 * links. Drawn from a seed first, then built, so that the oracle can build the same with ends of its own. */
#ifndef TESTS_SIM_TOPOLOGY_H
#define TESTS_SIM_TOPOLOGY_H

#include "nat.h"
#include "server.h"

#include <datapeer/ice.h>

#define SIM_ACCESSES_MAX 2
#define SIM_DEPTH_MAX    2

/* One network that an end is in. */
typedef struct sim_access {
    unsigned depth; /* NATs between it and the Internet; nats[0] is the one at home */
    sim_nat_config nats[SIM_DEPTH_MAX];
    bool ipv4;
    bool ipv6;
    sim_link link;   /* the end's, with all the trouble */
    dp_duration far; /* delay of the outermost link */
} sim_access;

typedef enum sim_sharing {
    SIM_APART,
    SIM_SAME_LAN,       /* the first accesses are one network */
    SIM_SAME_OUTER_NAT, /* ... or only the provider's NAT is one */
} sim_sharing;

typedef struct sim_side {
    sim_access accesses[SIM_ACCESSES_MAX];
    size_t access_count;
    bool stun;
    bool turn;
    dp_ice_transport turn_transport;
    bool streams_blocked; /* no TCP */
    bool relay_only;
    dp_ice_role role;
    dp_duration start; /* after the beginning */
    dp_duration signal_delay;
    dp_duration signal_jitter;
} sim_side;

typedef struct sim_topology {
    uint64_t seed;
    unsigned loss; /* per mille, of the worse end's link, one way */
    bool servers_ipv6;
    dp_duration nonce_lifetime;
    sim_sharing sharing;
    sim_side sides[2];
} sim_topology;

void sim_topology_draw(sim_topology *out, uint64_t seed);
void sim_topology_print(const sim_topology *topology);

/* Where an end plugs in, and what its address there is. */
typedef struct sim_plug {
    sim_segment *segment;
    dp_address ipv4; /* family NONE: none */
    dp_address ipv6;
} sim_plug;

typedef struct sim_built {
    sim_segment *internet;
    sim_plug plugs[2][SIM_ACCESSES_MAX];
    sim_nat *nats[2][SIM_ACCESSES_MAX][SIM_DEPTH_MAX];
} sim_built;

#define SIM_STUN4 "198.51.100.1"
#define SIM_STUN6 "2001:db8:51::1"
#define SIM_TURN4 "198.51.100.2"
#define SIM_TURN6 "2001:db8:51::2"

/* Segments and NATs. perfect: no delay beyond the least, no loss. */
void sim_topology_build(sim_built *out, const sim_topology *topology, sim_net *net, bool perfect);

#endif
