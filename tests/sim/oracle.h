/* What can be known about a topology without ICE: whether any way between two ends exists. Built of the same NATs,
 * but without loss and delay, and of ends that simply try everything until nothing new happens. */
#ifndef TESTS_SIM_ORACLE_H
#define TESTS_SIM_ORACLE_H

#include "host.h"
#include "topology.h"

/* The candidates that an end got together: what a server would have told, had its answer not been lost, is no way. */
typedef struct sim_knowledge {
    bool host[SIM_ACCESSES_MAX][2]; /* [0] IPv4, [1] IPv6 */
    bool reflexive[SIM_ACCESSES_MAX][2];
    bool relay[2];
} sim_knowledge;

/* generous: an address learnt by one socket is tried from all. RFC 8445 §7.3.1.4 doesn't ask for that, but an agent does
 * it whose other sockets (relayed ones) come later. So strict: it has to connect; not even generous: it can't. */
bool sim_oracle_connects(const sim_topology *topology, const sim_knowledge knowledge[2], bool generous);

#endif
