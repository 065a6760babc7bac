/* Hears from the kernel (rtnetlink(7)) that addresses or links changed. Much of what it says changes nothing for
 * us: the lifetimes that each router advertisement renews, the statistics of a radio. So after a message the
 * list of usable addresses is asked for, and the owner only hears of it if that is another one. */
#include <datapeer/net.h>

#include "base/mem.h"
#include "net/loop.h"
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    KNOWN = 256, /* addresses: as many as dp_interfaces ever finds */
    READS = 64,  /* in one round */
};

struct dp_interface_watch {
    dp_source source;
    void (*fn)(void *user);
    void *user;
    dp_address known[KNOWN];
    size_t count;
};

/* Whether one of the messages says that an address went. It may be back already, then in another network: a
 * laptop that is carried from one 192.168.1.2 to the next. */
static bool tells_of_a_loss(const char *bytes, size_t len)
{
    while (len >= sizeof(struct nlmsghdr)) {
        const struct nlmsghdr *message = (const struct nlmsghdr *)(const void *)bytes;
        if (message->nlmsg_type == RTM_DELADDR)
            return true;
        size_t step = NLMSG_ALIGN(message->nlmsg_len);
        if (step < sizeof(*message) || step >= len)
            break;
        bytes += step;
        len -= step;
    }
    return false;
}

/* Empties the socket as far as its turn goes. True if the owner has to hear of it whatever the list says now. */
static bool read_messages(const dp_interface_watch *watch)
{
    bool lost = false;
    for (int i = 0; i < READS; i++) {
        _Alignas(struct nlmsghdr) char bytes[32768];
        ssize_t n = recv(watch->source.fd, bytes, sizeof(bytes), 0);
        if (n >= 0)
            lost |= tells_of_a_loss(bytes, (size_t)n);
        else if (errno == ENOBUFS) /* they came faster than we read: the kernel dropped some */
            lost = true;
        else if (errno != EINTR)
            break;
    }
    return lost;
}

/* Asks for the list; true if it is another one than before. */
static int ask(dp_interface_watch *watch, bool *changed)
{
    dp_address now[KNOWN];
    size_t count;
    int error = dp_interfaces(now, KNOWN, &count, true);
    if (error != DP_OK)
        return error;
    *changed = count != watch->count;
    for (size_t i = 0; i < count; i++) {
        *changed |= !dp_address_equal(&now[i], &watch->known[i]);
        watch->known[i] = now[i];
    }
    watch->count = count;
    return DP_OK;
}

static void on_messages(dp_source *source, uint32_t events)
{
    (void)events;
    dp_interface_watch *watch = (dp_interface_watch *)source;
    bool lost = read_messages(watch);
    bool changed = true; /* unless we can tell that it is not so */
    (void)ask(watch, &changed);
    if (lost || changed)
        watch->fn(watch->user);
}

static int open_socket(dp_interface_watch *watch)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK,
                                  .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return DP_ERR_IO;
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        dp_source_set(&watch->source, fd, EPOLLIN) != DP_OK) {
        close(fd);
        return DP_ERR_IO;
    }
    return DP_OK;
}

int dp_interface_watch_new(dp_interface_watch **out, dp_loop *loop, void (*fn)(void *user), void *user)
{
    dp_interface_watch *watch = dp_calloc(1, sizeof(*watch));
    if (watch == NULL)
        return DP_ERR_NO_MEMORY;
    dp_source_init(&watch->source, loop, on_messages);
    watch->fn = fn;
    watch->user = user;
    bool changed;
    int error = open_socket(watch);
    if (error == DP_OK) {
        error = ask(watch, &changed); /* after the socket listens: nothing falls between the two */
        if (error != DP_OK)
            dp_source_close_fd(&watch->source);
    }
    if (error != DP_OK) {
        dp_free(watch);
        return error;
    }
    *out = watch;
    return DP_OK;
}

void dp_interface_watch_free(dp_interface_watch *watch)
{
    if (watch == NULL)
        return;
    dp_source_close_fd(&watch->source);
    dp_source_free(&watch->source);
}
