#include "net/sockaddr.h"

#include <errno.h>
#include <string.h>

socklen_t dp_sockaddr_from(union dp_sockaddr *out, const dp_address *address)
{
    memset(out, 0, sizeof(*out));
    if (address->family == DP_FAMILY_IPV4) {
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons(address->port);
        memcpy(&out->v4.sin_addr, address->ip, 4);
        return sizeof(out->v4);
    }
    out->v6.sin6_family = AF_INET6;
    out->v6.sin6_port = htons(address->port);
    out->v6.sin6_scope_id = address->scope;
    memcpy(&out->v6.sin6_addr, address->ip, 16);
    return sizeof(out->v6);
}

void dp_sockaddr_to(dp_address *out, const union dp_sockaddr *from)
{
    memset(out, 0, sizeof(*out));
    if (from->any.sa_family == AF_INET) {
        out->family = DP_FAMILY_IPV4;
        out->port = ntohs(from->v4.sin_port);
        memcpy(out->ip, &from->v4.sin_addr, 4);
    } else if (from->any.sa_family == AF_INET6) {
        out->family = DP_FAMILY_IPV6;
        out->port = ntohs(from->v6.sin6_port);
        out->scope = from->v6.sin6_scope_id;
        memcpy(out->ip, &from->v6.sin6_addr, 16);
    }
}

int dp_socket_open(const dp_address *address, int type)
{
    if (address->family != DP_FAMILY_IPV4 && address->family != DP_FAMILY_IPV6) {
        errno = EAFNOSUPPORT;
        return -1;
    }
    int family = address->family == DP_FAMILY_IPV4 ? AF_INET : AF_INET6;
    int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    /* One socket, one family: an IPv4 peer must never appear as ::ffff:192.0.2.1. */
    if (fd >= 0 && family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    return fd;
}

int dp_socket_bind(int fd, dp_address *local)
{
    union dp_sockaddr address;
    socklen_t len = dp_sockaddr_from(&address, local);
    if (bind(fd, &address.any, len) != 0)
        return DP_ERR_IO;
    len = sizeof(address);
    if (getsockname(fd, &address.any, &len) != 0)
        return DP_ERR_IO;
    dp_sockaddr_to(local, &address);
    return DP_OK;
}
