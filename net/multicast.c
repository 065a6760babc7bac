/* Sockets of a multicast group, bound to the group itself: the kernel then delivers only what was sent to it.
 * For a link-local group such as mDNS's, routers don't forward that, so whatever arrives comes from this link,
 * whoever it says to be from (RFC 6762 §11). */
#include "net/sockaddr.h"
#include "net/udp.h"

#include <unistd.h>

#define HOPS 255 /* RFC 6762 §11 */

/* Not in <netinet/in.h> of every C library; the kernel's <linux/in6.h> can't be included beside it. */
#ifndef IPV6_MULTICAST_ALL
#define IPV6_MULTICAST_ALL 29
#endif

static bool set(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof(value)) == 0;
}

static bool join4(int fd, const union dp_sockaddr *group, const union dp_sockaddr *local)
{
    struct ip_mreqn where = {group->v4.sin_addr, local->v4.sin_addr, 0};
    return setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &where, sizeof(where)) == 0 &&
           setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &where, sizeof(where)) == 0 &&
           /* Else it also gets what other sockets of this machine have joined on other interfaces. */
           set(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0) && set(fd, IPPROTO_IP, IP_MULTICAST_TTL, HOPS) &&
           set(fd, IPPROTO_IP, IP_MULTICAST_LOOP, 1);
}

static bool join6(int fd, const union dp_sockaddr *group, uint32_t interface)
{
    struct ipv6_mreq where = {group->v6.sin6_addr, interface};
    return setsockopt(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &where, sizeof(where)) == 0 &&
           set(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, (int)interface) &&
           set(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0) && set(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, HOPS) &&
           set(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 1);
}

int dp_udp_open_multicast(dp_udp **out, dp_loop *loop, const dp_address *group, const dp_address *local,
                          const dp_udp_handler *handler)
{
    dp_address bound = *group;
    dp_address named = *local;
    union dp_sockaddr group_name, local_name;
    if (group->family != local->family || (local->family == DP_FAMILY_IPV6 && local->scope == 0))
        return DP_ERR_IO;
    bound.scope = local->scope;
    named.port = group->port;
    (void)dp_sockaddr_from(&group_name, group);
    (void)dp_sockaddr_from(&local_name, local);
    int fd = dp_socket_open(group, SOCK_DGRAM);
    if (fd < 0)
        return DP_ERR_IO;
    /* Other programs want the port too, with one of these or both. */
    if (!set(fd, SOL_SOCKET, SO_REUSEADDR, 1) || !set(fd, SOL_SOCKET, SO_REUSEPORT, 1) ||
        dp_socket_bind(fd, &bound) != DP_OK ||
        !(group->family == DP_FAMILY_IPV4 ? join4(fd, &group_name, &local_name)
                                          : join6(fd, &group_name, local->scope))) {
        close(fd);
        return DP_ERR_IO;
    }
    return dp_udp_adopt(out, loop, fd, &named, handler);
}
