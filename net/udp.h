/* What tests and benchmarks may look at and change in a UDP socket. */
#ifndef NET_UDP_H
#define NET_UDP_H

#include <datapeer/net.h>

/* Whether the socket may use UDP_SEGMENT and UDP_GRO: switched on by dp_udp_open where the kernel has them.
 */
void dp_udp_set_offload(dp_udp *udp, bool gso, bool gro);
bool dp_udp_has_gso(const dp_udp *udp);
int dp_udp_fd(const dp_udp *udp);

#endif
