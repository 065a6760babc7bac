/* The usual world: two ends, each behind a NAT of its own or straight in the Internet, a STUN and a TURN server.
 *
 *   A 192.168.1.2 --[ NAT A 203.0.113.1 ]-- Internet --[ NAT B 203.0.113.2 ]-- B 192.168.2.2
 *     (without NAT: 203.0.113.1)               |         (without NAT: 203.0.113.2)
 *                           STUN 198.51.100.1, TURN 198.51.100.2 */
#ifndef TESTS_SIM_TWO_H
#define TESTS_SIM_TWO_H

#include "host.h"
#include "nat.h"

typedef struct sim_two_config {
    uint64_t seed;
    bool no_nat[2];
    sim_nat_config nats[2];
    sim_link link;    /* between each end, or its NAT, and the Internet */
    sim_link servers; /* between each server and the Internet */
    bool stun;        /* both ends know the server */
    bool turn;
    sim_host_config host; /* of both; the seeds follow from seed, and A controls */
} sim_two_config;

typedef struct sim_two {
    sim_net net;
    sim_nat *nats[2];
    sim_port *ports[2]; /* the ends' own */
    sim_host *hosts[2];
    sim_server *stun;
    sim_server *turn;
} sim_two;

/* Nothing is started yet. End it by sim_net_clear. */
void sim_two_init(sim_two *two, const sim_two_config *config);
/* A's pair leads over a relay. */
bool sim_two_relayed(const sim_two *two);

#endif
