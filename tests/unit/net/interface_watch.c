/* dp_interface_watch in a network namespace of our own, whose links and addresses come and go as we say. */
#include "tests/unit/net/helper.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- this program's recv: what the watch reads is counted, and the kernel may have dropped something ---- */

static size_t reads;
static int recv_errno; /* once */

ssize_t recv(int fd, void *out, size_t len, int flags)
{
    if (recv_errno != 0) {
        errno = recv_errno;
        recv_errno = 0;
        return -1;
    }
    ssize_t n = syscall(SYS_recvfrom, fd, out, len, flags, NULL, NULL);
    reads += n > 0;
    return n;
}

/* ---- asking the kernel for changes ---- */

static int control = -1; /* a netlink socket */

typedef struct request {
    _Alignas(struct nlmsghdr) uint8_t bytes[512];
    size_t len;
} request;

static void *put(request *r, const void *bytes, size_t len)
{
    void *at = r->bytes + r->len;
    assert_true(r->len + NLMSG_ALIGN(len) <= sizeof(r->bytes));
    memcpy(at, bytes, len);
    r->len += NLMSG_ALIGN(len);
    return at;
}

static request begin(uint16_t type, uint16_t flags)
{
    request r = {.len = 0};
    struct nlmsghdr header = {.nlmsg_type = type,
                              .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags)};
    put(&r, &header, sizeof(header));
    return r;
}

/* Returns where it stands, for end_nested. */
static struct rtattr *put_attribute(request *r, unsigned short type, const void *value, size_t len)
{
    struct rtattr attr = {.rta_type = type, .rta_len = (unsigned short)RTA_LENGTH(len)};
    struct rtattr *at = put(r, &attr, sizeof(attr));
    if (len > 0)
        put(r, value, len);
    return at;
}

static void end_nested(const request *r, struct rtattr *nest)
{
    nest->rta_len = (unsigned short)(r->bytes + r->len - (const uint8_t *)nest);
}

/* 0 or the kernel's errno. */
static int ask_kernel(request *r)
{
    ((struct nlmsghdr *)(void *)r->bytes)->nlmsg_len = (uint32_t)r->len;
    assert_int_equal(send(control, r->bytes, r->len, 0), r->len);
    struct {
        struct nlmsghdr header;
        struct nlmsgerr error;
        uint8_t rest[1024];
    } answer;
    assert_true(syscall(SYS_recvfrom, control, &answer, sizeof(answer), 0, NULL, NULL) > 0);
    assert_int_equal(answer.header.nlmsg_type, NLMSG_ERROR);
    return -answer.error.error;
}

static int change_address(uint16_t type, const char *link, const char *ip, uint32_t valid_seconds)
{
    dp_address a;
    assert_int_equal(dp_address_parse(&a, ip, 0), DP_OK);
    size_t len = a.family == DP_FAMILY_IPV4 ? 4 : 16;
    request r = begin(type, type == RTM_NEWADDR ? NLM_F_CREATE | NLM_F_REPLACE : 0);
    struct ifaddrmsg ifa = {.ifa_family = len == 4 ? AF_INET : AF_INET6,
                            .ifa_prefixlen = len == 4 ? 24 : 64,
                            .ifa_flags = IFA_F_NODAD,
                            .ifa_index = if_nametoindex(link)};
    struct ifa_cacheinfo lifetime = {.ifa_prefered = valid_seconds, .ifa_valid = valid_seconds};
    put(&r, &ifa, sizeof(ifa));
    put_attribute(&r, IFA_LOCAL, a.ip, len);
    put_attribute(&r, IFA_ADDRESS, a.ip, len);
    put_attribute(&r, IFA_CACHEINFO, &lifetime, sizeof(lifetime));
    return ask_kernel(&r);
}

static void add(const char *link, const char *ip)
{
    assert_int_equal(change_address(RTM_NEWADDR, link, ip, 3600), 0);
}

static void remove_address(const char *link, const char *ip)
{
    assert_int_equal(change_address(RTM_DELADDR, link, ip, 3600), 0);
}

static void set_up(const char *link, bool up)
{
    request r = begin(RTM_NEWLINK, 0);
    struct ifinfomsg info = {
        .ifi_index = (int)if_nametoindex(link), .ifi_flags = up ? IFF_UP : 0, .ifi_change = IFF_UP};
    put(&r, &info, sizeof(info));
    assert_int_equal(ask_kernel(&r), 0);
}

/* Without the IPv6 address that each link makes up for itself in its own time; false without IPv6. */
static bool no_own_address(const char *link)
{
    request r = begin(RTM_NEWLINK, 0);
    struct ifinfomsg info = {.ifi_index = (int)if_nametoindex(link)};
    uint8_t mode = IN6_ADDR_GEN_MODE_NONE;
    put(&r, &info, sizeof(info));
    struct rtattr *families = put_attribute(&r, IFLA_AF_SPEC, NULL, 0);
    struct rtattr *inet6 = put_attribute(&r, AF_INET6, NULL, 0);
    put_attribute(&r, IFLA_INET6_ADDR_GEN_MODE, &mode, sizeof(mode));
    end_nested(&r, inet6);
    end_nested(&r, families);
    return ask_kernel(&r) == 0;
}

static void set_alias(const char *link, const char *alias)
{
    request r = begin(RTM_NEWLINK, 0);
    struct ifinfomsg info = {.ifi_index = (int)if_nametoindex(link)};
    put(&r, &info, sizeof(info));
    put_attribute(&r, IFLA_IFALIAS, alias, strlen(alias));
    assert_int_equal(ask_kernel(&r), 0);
}

static int add_veth(const char *name, const char *peer)
{
    request r = begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
    struct ifinfomsg info = {.ifi_family = AF_UNSPEC};
    put(&r, &info, sizeof(info));
    put_attribute(&r, IFLA_IFNAME, name, strlen(name) + 1);
    struct rtattr *link_info = put_attribute(&r, IFLA_LINKINFO, NULL, 0);
    put_attribute(&r, IFLA_INFO_KIND, "veth", 4);
    struct rtattr *data = put_attribute(&r, IFLA_INFO_DATA, NULL, 0);
    struct rtattr *other = put_attribute(&r, VETH_INFO_PEER, NULL, 0);
    put(&r, &info, sizeof(info));
    put_attribute(&r, IFLA_IFNAME, peer, strlen(peer) + 1);
    end_nested(&r, other);
    end_nested(&r, data);
    end_nested(&r, link_info);
    return ask_kernel(&r);
}

static void delete_link(const char *link)
{
    request r = begin(RTM_DELLINK, 0);
    struct ifinfomsg info = {.ifi_index = (int)if_nametoindex(link)};
    put(&r, &info, sizeof(info));
    assert_int_equal(ask_kernel(&r), 0);
}

/* ---- the tests ---- */

static const char *unavailable; /* why there is no namespace to play with */
static dp_interface_watch *watch;
static size_t calls;
static bool has_ipv6;
static bool free_in_callback;

static void on_change(void *user)
{
    assert_ptr_equal(user, &calls);
    calls++;
    if (free_in_callback) {
        dp_interface_watch_free(watch);
        watch = NULL;
    }
}

static bool lists(const char *ip)
{
    dp_address all[64], wanted;
    size_t n;
    assert_int_equal(dp_address_parse(&wanted, ip, 0), DP_OK);
    assert_int_equal(dp_interfaces(all, 64, &n, true), DP_OK);
    for (size_t i = 0; i < n; i++)
        if (dp_address_equal(&all[i], &wanted))
            return true;
    return false;
}

/* Two ends of a cable, both up; everything that comes of that is over before the watch begins. */
static int watch_setup(void **state)
{
    if (unavailable != NULL)
        return 0;
    calls = reads = 0;
    free_in_callback = false;
    assert_int_equal(add_veth("a", "b"), 0);
    has_ipv6 = no_own_address("a") && no_own_address("b");
    set_up("a", true);
    set_up("b", true);
    add("a", "192.0.2.1");
    if (setup(state) != 0)
        return -1;
    RUN_UNTIL(lists("192.0.2.1")); /* it takes the kernel up to a second to see the carrier */
    return dp_interface_watch_new(&watch, loop, on_change, &calls);
}

static int watch_teardown(void **state)
{
    if (unavailable != NULL)
        return 0;
    delete_link("a");
    dp_interface_watch_free(watch);
    watch = NULL;
    return teardown(state);
}

/* What the kernel has said so far is dealt with; returns how often the watch called since. */
static size_t calls_now(void)
{
    size_t before = calls;
    assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    return calls - before;
}

static void test_addresses(void **state)
{
    (void)state;
    if (unavailable != NULL)
        skip();
    (void)calls_now();
    assert_int_equal(calls_now(), 0);
    add("a", "192.0.2.2");
    assert_int_equal(calls_now(), 1);
    assert_true(lists("192.0.2.2"));
    remove_address("a", "192.0.2.2");
    assert_int_equal(calls_now(), 1);
    assert_false(lists("192.0.2.2"));
    assert_int_equal(calls_now(), 0);
}

static void test_ipv6_addresses(void **state)
{
    (void)state;
    if (unavailable != NULL || !has_ipv6)
        skip();
    (void)calls_now();
    calls = 0;
    add("a", "2001:db8::1");
    RUN_UNTIL(calls > 0 && lists("2001:db8::1")); /* it is tentative for a moment */
    calls = 0;
    remove_address("a", "2001:db8::1");
    RUN_UNTIL(calls > 0 && !lists("2001:db8::1"));
}

/* Many changes, one call; and one that is back, in another network perhaps, is a change. */
static void test_changes_of_a_round_are_one(void **state)
{
    (void)state;
    if (unavailable != NULL)
        skip();
    (void)calls_now();
    char ip[32];
    for (int i = 0; i < 50; i++) {
        snprintf(ip, sizeof(ip), "198.51.100.%d", i + 1);
        add("a", ip);
    }
    assert_int_equal(calls_now(), 1);
    assert_int_equal(calls_now(), 0);
    remove_address("a", "198.51.100.50");
    add("a", "198.51.100.50");
    assert_int_equal(calls_now(), 1);
}

static void test_what_changes_nothing(void **state)
{
    (void)state;
    if (unavailable != NULL)
        skip();
    (void)calls_now();
    calls = 0;
    if (has_ipv6) {
        add("a", "2001:db8::1");
        RUN_UNTIL(calls > 0 && lists("2001:db8::1"));
    }
    (void)calls_now();
    reads = 0;
    if (has_ipv6) /* as each router advertisement does it */
        assert_int_equal(change_address(RTM_NEWADDR, "a", "2001:db8::1", 7200), 0);
    assert_int_equal(change_address(RTM_NEWADDR, "a", "192.0.2.1", 7200), 0);
    set_alias("a", "another name");
    set_alias("b", "and here");
    assert_int_equal(calls_now(), 0);
    assert_true(reads >= 3); /* the watch was told */
}

static void test_link_down_and_up(void **state)
{
    (void)state;
    if (unavailable != NULL)
        skip();
    (void)calls_now();
    set_up("a", false);
    assert_int_equal(calls_now(), 1);
    assert_false(lists("192.0.2.1"));
    calls = 0;
    set_up("a", true);
    RUN_UNTIL(lists("192.0.2.1"));
    RUN_UNTIL(calls > 0);
}

/* The other end goes down: "a" stays up, as its owner wants it, but carries nothing. */
static void test_cable_pulled(void **state)
{
    (void)state;
    if (unavailable != NULL)
        skip();
    (void)calls_now();
    calls = 0;
    set_up("b", false);
    RUN_UNTIL(calls > 0 && !lists("192.0.2.1"));
    calls = 0;
    set_up("b", true);
    RUN_UNTIL(calls > 0 && lists("192.0.2.1"));
}

static void test_link_gone(void **state)
{
    (void)state;
    if (unavailable != NULL)
        skip();
    assert_int_equal(add_veth("c", "d"), 0);
    set_up("c", true);
    set_up("d", true);
    add("c", "203.0.113.1");
    RUN_UNTIL(lists("203.0.113.1"));
    (void)calls_now();
    calls = 0;
    delete_link("c");
    RUN_UNTIL(calls > 0);
    assert_false(lists("203.0.113.1"));
}

/* The kernel had more to say than the socket holds. */
static void test_overflow(void **state)
{
    (void)state;
    if (unavailable != NULL)
        skip();
    (void)calls_now();
    set_alias("a", "something"); /* changes nothing, but the socket is readable */
    recv_errno = ENOBUFS;
    assert_int_equal(calls_now(), 1);
    set_alias("a", "something else");
    recv_errno = EINTR;
    assert_int_equal(calls_now(), 0);
    assert_int_equal(recv_errno, 0);
}

/* Whoever can't tell whether something changed says that it did. */
static void test_list_cannot_be_had(void **state)
{
    (void)state;
    if (unavailable != NULL)
        skip();
    (void)calls_now();
    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    set_alias("a", "x");
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    size_t n = calls_now();
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(n, 1);
}

static void test_freed_in_callback(void **state)
{
    (void)state;
    if (unavailable != NULL)
        skip();
    (void)calls_now();
    free_in_callback = true;
    add("a", "192.0.2.2");
    assert_int_equal(calls_now(), 1);
    add("a", "192.0.2.3");
    assert_int_equal(calls_now(), 0);
    dp_interface_watch_free(NULL);
}

static void test_open_errors(void **state)
{
    (void)state;
    dp_interface_watch *none = NULL;
    assert_int_equal(setup(state), 0);
    fail_allocation(1);
    assert_int_equal(dp_interface_watch_new(&none, loop, on_change, &calls), DP_ERR_NO_MEMORY);
    fail_allocation(0);
    /* The first socket, then that for the list, are one too many. */
    struct rlimit before, few;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int next = dup(0);
    close(next);
    few = before;
    for (rlim_t n = 0; n < 2; n++) {
        few.rlim_cur = (rlim_t)next + n;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        int error = dp_interface_watch_new(&none, loop, on_change, &calls);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_int_equal(error, DP_ERR_IO);
        int after = dup(0); /* nothing stayed open */
        close(after);
        assert_int_equal(after, next);
    }
    assert_null(none);
    (void)teardown(state);
}

/* Root gets one as it is, others only inside a user namespace, where the system allows that. */
static void enter_namespace(void)
{
    if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
        unavailable = "no network namespace may be made here";
        return;
    }
    control = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (control < 0 || add_veth("a", "b") != 0) {
        unavailable = "the kernel has no veth";
        return;
    }
    delete_link("a");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, watch_setup, watch_teardown)

int main(void)
{
    enter_namespace();
    if (unavailable != NULL)
        print_message("[  SKIPPED ] net/interface_watch: %s\n", unavailable);
    const struct CMUnitTest tests[] = {
        TEST(test_addresses),
        TEST(test_ipv6_addresses),
        TEST(test_changes_of_a_round_are_one),
        TEST(test_what_changes_nothing),
        TEST(test_link_down_and_up),
        TEST(test_cable_pulled),
        TEST(test_link_gone),
        TEST(test_overflow),
        TEST(test_list_cannot_be_had),
        TEST(test_freed_in_callback),
        cmocka_unit_test(test_open_errors),
    };
    int failed = cmocka_run_group_tests_name("net/interface_watch", tests, NULL, NULL);
    if (control >= 0)
        close(control);
    return failed;
}
