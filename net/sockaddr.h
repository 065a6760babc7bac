/* dp_address to and from the kernel's socket addresses. */
#ifndef NET_SOCKADDR_H
#define NET_SOCKADDR_H

#include <datapeer/base.h>
#include <netinet/in.h>
#include <sys/socket.h>

union dp_sockaddr {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* Returns the length that the kernel wants with it. */
socklen_t dp_sockaddr_from(union dp_sockaddr *out, const dp_address *address);
/* Family NONE if it is neither IPv4 nor IPv6. */
void dp_sockaddr_to(dp_address *out, const union dp_sockaddr *from);
/* A non-blocking close-on-exec socket of the address's family; -1 and errno. */
int dp_socket_open(const dp_address *address, int type);
/* Binds and reads back the real port. */
int dp_socket_bind(int fd, dp_address *local);

#endif
