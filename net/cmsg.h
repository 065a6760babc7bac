/* Ancillary messages of datagrams (cmsg(3)), and above all which address of ours one was sent to, and from which one it
 * leaves: what a socket that is bound to all addresses has to say of each (ip(7): IP_PKTINFO; RFC 3542 §6). */
#ifndef NET_CMSG_H
#define NET_CMSG_H

#include <datapeer/base.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* Appends one to message, whose msg_control has room for it and msg_controllen is what is used. */
void dp_cmsg_append(struct msghdr *message, int level, int type, const void *data, size_t len);

/* Room for what dp_cmsg_write_local appends. */
#define DP_CMSG_LOCAL_SPACE CMSG_SPACE(sizeof(struct in6_pktinfo))

/* Has the kernel tell the address of each datagram; IO. */
int dp_cmsg_ask_local(int fd, dp_family family);
/* Changes local, which has the socket's family and port, to the address that message was sent to, if it says so. */
void dp_cmsg_read_local(dp_address *local, struct msghdr *message);
/* The message leaves from local's address. */
void dp_cmsg_write_local(struct msghdr *message, const dp_address *local);

#endif
