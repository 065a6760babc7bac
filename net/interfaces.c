/* The addresses of this machine, asked by rtnetlink(7): getifaddrs(3) does not tell which IPv6 addresses are
 * temporary, deprecated or still being checked for duplicates. */
#include <datapeer/net.h>

#include "net/sockaddr.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_FOUND = 256 };

typedef struct found {
    dp_address address;
    uint32_t index; /* of the interface */
    uint32_t flags; /* IFA_F_... */
    bool up;        /* and running */
    bool loopback;
} found;

typedef struct found_list {
    found items[MAX_FOUND];
    size_t count;
} found_list;

/* ---- the netlink dump ---- */

static const void *attribute(const struct rtattr *attr, size_t left, unsigned short type, size_t min)
{
    while (left >= sizeof(*attr) && attr->rta_len >= sizeof(*attr) && attr->rta_len <= left) {
        if (attr->rta_type == type && attr->rta_len >= RTA_LENGTH(min))
            return RTA_DATA(attr);
        size_t step = RTA_ALIGN(attr->rta_len);
        if (step > left)
            break;
        left -= step;
        attr = (const struct rtattr *)(const void *)((const char *)attr + step);
    }
    return NULL;
}

static void on_address(found_list *list, const struct nlmsghdr *message)
{
    const struct ifaddrmsg *ifa = NLMSG_DATA(message);
    if (message->nlmsg_len < NLMSG_LENGTH(sizeof(*ifa)) || list->count == MAX_FOUND ||
        (ifa->ifa_family != AF_INET && ifa->ifa_family != AF_INET6))
        return;
    size_t left = message->nlmsg_len - NLMSG_SPACE(sizeof(*ifa));
    const struct rtattr *attrs = IFA_RTA(ifa);
    size_t len = ifa->ifa_family == AF_INET ? 4 : 16;
    /* On a point-to-point link IFA_ADDRESS is the other end. */
    const void *ip = attribute(attrs, left, IFA_LOCAL, len);
    if (ip == NULL)
        ip = attribute(attrs, left, IFA_ADDRESS, len);
    if (ip == NULL)
        return;
    found *f = &list->items[list->count++];
    memset(f, 0, sizeof(*f));
    f->address.family = ifa->ifa_family == AF_INET ? DP_FAMILY_IPV4 : DP_FAMILY_IPV6;
    memcpy(f->address.ip, ip, len);
    f->index = ifa->ifa_index;
    f->flags = ifa->ifa_flags;
    const void *flags = attribute(attrs, left, IFA_FLAGS, sizeof(f->flags));
    if (flags != NULL)
        memcpy(&f->flags, flags, sizeof(f->flags));
}

/* IFF_UP is what the administrator wants and stays when the cable is pulled; IFF_RUNNING is whether the link can
 * carry anything (operstate up, or unknown as with lo and tun: RFC 2863, Linux networking/operstates). */
static void on_link(found_list *list, const struct nlmsghdr *message)
{
    const struct ifinfomsg *link = NLMSG_DATA(message);
    if (message->nlmsg_len < NLMSG_LENGTH(sizeof(*link)))
        return;
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i].index == (uint32_t)link->ifi_index) {
            list->items[i].up = (link->ifi_flags & IFF_UP) != 0 && (link->ifi_flags & IFF_RUNNING) != 0;
            list->items[i].loopback = (link->ifi_flags & IFF_LOOPBACK) != 0;
        }
    }
}

/* One answer of the kernel, several messages; false when it was the last one. */
static bool on_answer(found_list *list, const char *bytes, size_t len)
{
    while (len >= sizeof(struct nlmsghdr)) {
        const struct nlmsghdr *message = (const struct nlmsghdr *)(const void *)bytes;
        if (message->nlmsg_len < sizeof(*message) || message->nlmsg_len > len)
            return false;
        if (message->nlmsg_type == NLMSG_DONE || message->nlmsg_type == NLMSG_ERROR)
            return false;
        if (message->nlmsg_type == RTM_NEWADDR)
            on_address(list, message);
        else if (message->nlmsg_type == RTM_NEWLINK)
            on_link(list, message);
        size_t step = NLMSG_ALIGN(message->nlmsg_len);
        if (step >= len)
            break;
        bytes += step;
        len -= step;
    }
    return true;
}

static int dump(int fd, found_list *list, uint16_t type)
{
    struct {
        struct nlmsghdr header;
        struct rtgenmsg body;
    } request = {
        {.nlmsg_len = sizeof(request), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        {.rtgen_family = AF_UNSPEC}};
    if (send(fd, &request, sizeof(request), 0) != (ssize_t)sizeof(request))
        return DP_ERR_IO;
    for (;;) {
        _Alignas(struct nlmsghdr) char answer[32768]; /* NLMSG_GOODSIZE: no answer to a dump is longer */
        ssize_t n = recv(fd, answer, sizeof(answer), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return DP_ERR_IO;
        if (!on_answer(list, answer, (size_t)n))
            return DP_OK;
    }
}

/* ---- which of them ICE may use ---- */

static bool has_prefix(const uint8_t ip[16], const char *prefix, size_t len)
{
    return memcmp(ip, prefix, len) == 0;
}

static bool is_link_local(const dp_address *a)
{
    return a->family == DP_FAMILY_IPV6 && a->ip[0] == 0xFE && (a->ip[1] & 0xC0) == 0x80;
}

/* RFC 8445 §5.1.1.1: no IPv4-compatible or IPv4-mapped address, no site-local, no deprecated one; and nothing
 * that can't be bound (yet). */
static bool usable(const found *f)
{
    if (!f->up || (f->flags & (IFA_F_DEPRECATED | IFA_F_TENTATIVE | IFA_F_DADFAILED)) != 0)
        return false;
    if (f->address.family == DP_FAMILY_IPV4)
        return true;
    const uint8_t *ip = f->address.ip;
    bool compatible = !f->loopback && has_prefix(ip, "\0\0\0\0\0\0\0\0\0\0\0\0", 12);
    bool mapped = has_prefix(ip, "\0\0\0\0\0\0\0\0\0\0\xFF\xFF", 12);
    bool site_local = ip[0] == 0xFE && (ip[1] & 0xC0) == 0xC0;
    return !compatible && !mapped && !site_local;
}

/* RFC 8445 §5.1.1.1: beside an address that hides where its owner was before (temporary, RFC 8981, or stable
 * per network, RFC 7217), one that carries the hardware address must not be gathered from the same prefix,
 * and no link-local one. */
static bool reveals(const found_list *list, const found *f)
{
    const uint8_t *ip = f->address.ip;
    bool link_local = is_link_local(&f->address);
    bool hardware = ip[11] == 0xFF && ip[12] == 0xFE; /* EUI-64 */
    if (f->address.family != DP_FAMILY_IPV6 || (!link_local && !hardware))
        return false;
    for (size_t i = 0; i < list->count; i++) {
        const found *other = &list->items[i];
        if (other != f && other->index == f->index && other->address.family == DP_FAMILY_IPV6 &&
            usable(other) && !is_link_local(&other->address) &&
            (other->flags & (IFA_F_TEMPORARY | IFA_F_STABLE_PRIVACY)) != 0 &&
            (link_local || memcmp(other->address.ip, ip, 8) == 0))
            return true;
    }
    return false;
}

static size_t select_addresses(const found_list *list, dp_address *out, size_t capacity, bool loopback)
{
    size_t n = 0;
    for (size_t i = 0; i < list->count && n < capacity; i++) {
        const found *f = &list->items[i];
        if (f->loopback != loopback || !usable(f) || reveals(list, f))
            continue;
        out[n] = f->address;
        if (is_link_local(&f->address))
            out[n].scope = f->index;
        n++;
    }
    return n;
}

int dp_interfaces(dp_address *out, size_t capacity, size_t *count, bool include_loopback)
{
    found_list list = {.count = 0};
    *count = 0;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return DP_ERR_IO;
    int error = dump(fd, &list, RTM_GETADDR);
    if (error == DP_OK)
        error = dump(fd, &list, RTM_GETLINK);
    close(fd);
    if (error != DP_OK)
        return error;
    *count = select_addresses(&list, out, capacity, false);
    if (include_loopback || *count == 0)
        *count += select_addresses(&list, out + *count, capacity - *count, true);
    return DP_OK;
}

size_t dp_route_mtu(const dp_address *local, const dp_address *remote)
{
    dp_address from = *local;
    union dp_sockaddr to;
    socklen_t to_len = dp_sockaddr_from(&to, remote);
    bool is_v4 = remote->family == DP_FAMILY_IPV4;
    int mtu = 0;
    socklen_t len = sizeof(mtu);
    int fd = local->family == remote->family ? dp_socket_open(remote, SOCK_DGRAM) : -1;
    if (fd < 0)
        return 0;
    from.port = 0;
    if (dp_socket_bind(fd, &from) != DP_OK || connect(fd, &to.any, to_len) != 0 ||
        getsockopt(fd, is_v4 ? IPPROTO_IP : IPPROTO_IPV6, is_v4 ? IP_MTU : IPV6_MTU, &mtu, &len) != 0 ||
        mtu < 0)
        mtu = 0;
    close(fd);
    return (size_t)mtu;
}
