/* UDP sockets: how another file opens one, and what tests and benchmarks may look at and change. */
#ifndef NET_UDP_H
#define NET_UDP_H

#include <datapeer/net.h>

/* Makes a socket of fd, which is bound to local; fd is closed if it fails. IO, NO_MEMORY. */
int dp_udp_adopt(dp_udp **out, dp_loop *loop, int fd, const dp_address *local, const dp_udp_handler *handler);

/* Whether the socket may use UDP_SEGMENT and UDP_GRO: switched on where the kernel has them. */
void dp_udp_set_offload(dp_udp *udp, bool gso, bool gro);
bool dp_udp_has_gso(const dp_udp *udp);
int dp_udp_fd(const dp_udp *udp);

#endif
