/* Interfaces and name resolution. */
#include "tests/unit/net/helper.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- a kernel and a resolver of our own: these take the C library's place while fake or fake_gai is set
 * ---- */

static bool fake;
static _Alignas(struct nlmsghdr) uint8_t dumps[3][16384]; /* addresses, links, nothing more */
static size_t dump_len[3];
static size_t dump_next;
static int recv_errno; /* once */
static bool send_fails;

ssize_t send(int fd, const void *data, size_t len, int flags)
{
    if (fake)
        return send_fails ? -1 : (ssize_t)len;
    return syscall(SYS_sendto, fd, data, len, flags, NULL, 0);
}

ssize_t recv(int fd, void *out, size_t len, int flags)
{
    if (!fake)
        return syscall(SYS_recvfrom, fd, out, len, flags, NULL, NULL);
    if (recv_errno != 0) {
        errno = recv_errno;
        recv_errno = 0;
        return -1;
    }
    assert_true(dump_len[dump_next] <= len);
    memcpy(out, dumps[dump_next], dump_len[dump_next]);
    return (ssize_t)dump_len[dump_next++];
}

static bool fake_gai;
static int gai_result;
static struct addrinfo *gai_list;

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
    assert_true(fake_gai); /* nothing else may come here: it could block */
    assert_string_equal(host, "host.example");
    assert_null(service);
    assert_int_equal(hints->ai_socktype, SOCK_STREAM);
    *out = gai_list;
    return gai_result;
}
void freeaddrinfo(struct addrinfo *list) { assert_ptr_equal(list, gai_list); }

static bool is_loopback(const dp_address *a)
{
    static const uint8_t one[16] = {[15] = 1};
    return a->family == DP_FAMILY_IPV4 ? a->ip[0] == 127 : memcmp(a->ip, one, 16) == 0;
}

static void test_interfaces(void **state)
{
    (void)state;
    dp_address all[64], plain[64];
    size_t n_all, n_plain;
    assert_int_equal(dp_interfaces(all, 64, &n_all, true), DP_OK);
    assert_int_equal(dp_interfaces(plain, 64, &n_plain, false), DP_OK);
    assert_true(n_plain >= 1);
    assert_true(n_all >= n_plain);
    size_t loopbacks = 0;
    bool has_127 = false;
    for (size_t i = 0; i < n_all; i++) {
        loopbacks += is_loopback(&all[i]);
        has_127 |= all[i].family == DP_FAMILY_IPV4 && is_loopback(&all[i]);
        assert_int_equal(all[i].port, 0);
        assert_true(all[i].family == DP_FAMILY_IPV4 || all[i].family == DP_FAMILY_IPV6);
        bool link_local =
            all[i].family == DP_FAMILY_IPV6 && all[i].ip[0] == 0xFE && (all[i].ip[1] & 0xC0) == 0x80;
        assert_int_equal(all[i].scope != 0, link_local);
    }
    assert_true(has_127);
    if (loopbacks < n_all) /* there is something better */
        for (size_t i = 0; i < n_plain; i++)
            assert_false(is_loopback(&plain[i]));
}

/* What is listed can be bound. */
static void test_interfaces_can_be_bound(void **state)
{
    (void)state;
    dp_address all[64];
    size_t n;
    dp_udp_handler handler = {0};
    assert_int_equal(dp_interfaces(all, 64, &n, true), DP_OK);
    for (size_t i = 0; i < n; i++) {
        dp_udp *udp;
        assert_int_equal(dp_udp_open(&udp, loop, &all[i], &handler), DP_OK);
        dp_udp_close(udp);
    }
}

static void test_interfaces_capacity(void **state)
{
    (void)state;
    dp_address one[2];
    size_t n;
    memset(one, 0xEE, sizeof(one));
    assert_int_equal(dp_interfaces(one, 1, &n, true), DP_OK);
    assert_int_equal(n, 1);
    assert_int_equal(one[1].family, 0xEE);
    assert_int_equal(dp_interfaces(one, 0, &n, true), DP_OK);
    assert_int_equal(n, 0);
}

/* ---- the rules, on made-up interfaces ---- */

static void *put(size_t dump, const void *bytes, size_t len)
{
    uint8_t *at = dumps[dump] + dump_len[dump];
    assert_true(dump_len[dump] + len + 4 <= sizeof(dumps[dump]));
    memset(at, 0, len + 3);
    if (len > 0)
        memcpy(at, bytes, len);
    dump_len[dump] += (len + 3) / 4 * 4;
    return at;
}

static struct nlmsghdr *begin(size_t dump, uint16_t type)
{
    struct nlmsghdr header = {.nlmsg_type = type};
    return put(dump, &header, sizeof(header));
}
static void end(size_t dump, struct nlmsghdr *header)
{
    header->nlmsg_len = (uint32_t)(dumps[dump] + dump_len[dump] - (uint8_t *)header);
}

static void put_attribute(unsigned short type, const void *bytes, size_t len)
{
    struct rtattr attr = {.rta_type = type, .rta_len = (unsigned short)RTA_LENGTH(len)};
    put(0, &attr, sizeof(attr));
    put(0, bytes, len);
}

static void add_address(uint32_t index, const char *ip, uint32_t flags)
{
    dp_address a;
    assert_int_equal(dp_address_parse(&a, ip, 0), DP_OK);
    struct nlmsghdr *header = begin(0, RTM_NEWADDR);
    struct ifaddrmsg ifa = {.ifa_family = a.family == DP_FAMILY_IPV4 ? AF_INET : AF_INET6,
                            .ifa_index = index};
    put(0, &ifa, sizeof(ifa));
    put_attribute(IFA_CACHEINFO, "0123456789abcdef", 16); /* passed over */
    put_attribute(IFA_ADDRESS, a.ip, a.family == DP_FAMILY_IPV4 ? 4 : 16);
    put_attribute(IFA_FLAGS, &flags, sizeof(flags));
    end(0, header);
}

static void add_link(int index, unsigned flags)
{
    struct nlmsghdr *header = begin(1, RTM_NEWLINK);
    struct ifinfomsg link = {.ifi_index = index, .ifi_flags = flags};
    put(1, &link, sizeof(link));
    end(1, header);
}

static void fake_start(void)
{
    fake = true;
    dump_next = 0;
    memset(dump_len, 0, sizeof(dump_len));
}

static void expect(bool include_loopback, const char *expected)
{
    dp_address out[32];
    size_t n;
    char line[1000] = "", text[DP_ADDRESS_TEXT_MAX];
    for (size_t d = 0; d < 2; d++)
        end(d, begin(d, NLMSG_DONE));
    dump_next = 0;
    assert_int_equal(dp_interfaces(out, 32, &n, include_loopback), DP_OK);
    for (size_t i = 0; i < n; i++) {
        strcat(line, i > 0 ? " " : "");
        strcat(line, dp_address_format_ip(&out[i], text));
        assert_int_equal(out[i].port, 0);
    }
    fake = false;
    assert_string_equal(line, expected);
}

static void test_rules_states(void **state)
{
    (void)state;
    fake_start();
    add_link(1, IFF_UP | IFF_RUNNING | IFF_LOOPBACK);
    add_link(2, IFF_UP | IFF_RUNNING);
    add_link(3, IFF_RUNNING);
    add_link(5, IFF_UP);
    add_address(1, "127.0.0.1", 0);
    add_address(1, "::1", 0);
    add_address(2, "192.0.2.1", 0);
    add_address(3, "192.0.2.2", 0); /* its interface is down */
    add_address(4, "192.0.2.3", 0); /* its interface is gone */
    add_address(5, "192.0.2.4", 0); /* its cable is pulled */
    add_address(2, "2001:db8::1", IFA_F_DEPRECATED);
    add_address(2, "2001:db8::2", IFA_F_TENTATIVE);
    add_address(2, "2001:db8::3", IFA_F_DADFAILED);
    add_address(2, "2001:db8::4", IFA_F_PERMANENT);
    add_address(2, "::ffff:192.0.2.1", 0); /* IPv4-mapped */
    add_address(2, "::192.0.2.1", 0);      /* IPv4-compatible */
    add_address(2, "fec0::1", 0);          /* site-local */
    add_address(2, "fc00::1", 0);          /* unique local: good */
    add_address(2, "fe80::1", 0);
    expect(false, "192.0.2.1 2001:db8::4 fc00::1 fe80::1");
    fake = true;
    expect(true, "192.0.2.1 2001:db8::4 fc00::1 fe80::1 127.0.0.1 ::1");
}

static void test_rules_loopback_only(void **state)
{
    (void)state;
    fake_start();
    add_link(1, IFF_UP | IFF_RUNNING | IFF_LOOPBACK);
    add_address(1, "127.0.0.1", 0);
    add_address(1, "::1", 0);
    expect(false, "127.0.0.1 ::1"); /* nothing else is there */
}

static void test_rules_privacy(void **state)
{
    (void)state;
    fake_start();
    for (int i = 1; i <= 4; i++)
        add_link(i, IFF_UP | IFF_RUNNING);
    add_address(1, "2001:db8:1::a:1:2", IFA_F_TEMPORARY);
    add_address(1, "2001:db8:1::211:22ff:fe33:4455", 0); /* EUI-64 in the same prefix: goes */
    add_address(1, "2001:db8:2::211:22ff:fe33:4455", 0); /* another prefix: stays */
    add_address(1, "2001:db8:1::53", IFA_F_PERMANENT);   /* set by hand: stays */
    add_address(1, "fe80::211:22ff:fe33:4455", 0);       /* goes */
    add_address(2, "2001:db8:1::211:22ff:fe33:4455", 0); /* another interface: stays */
    add_address(2, "fe80::2", 0);                        /* stays */
    add_address(3, "2001:db8:3::5", IFA_F_STABLE_PRIVACY);
    add_address(3, "fe80::3", IFA_F_STABLE_PRIVACY); /* goes */
    add_address(4, "2001:db8:4::1",
                IFA_F_TEMPORARY | IFA_F_DEPRECATED); /* not gathered, so it hides nobody */
    add_address(4, "2001:db8:4::211:22ff:fe33:4455", 0);
    expect(false,
           "2001:db8:1::a:1:2 2001:db8:2:0:211:22ff:fe33:4455 2001:db8:1::53 2001:db8:1:0:211:22ff:fe33:4455 "
           "fe80::2 2001:db8:3::5 2001:db8:4:0:211:22ff:fe33:4455");
}

static void test_rules_point_to_point(void **state)
{
    (void)state;
    fake_start();
    add_link(1, IFF_UP | IFF_RUNNING);
    struct nlmsghdr *header = begin(0, RTM_NEWADDR);
    struct ifaddrmsg ifa = {.ifa_family = AF_INET, .ifa_index = 1};
    put(0, &ifa, sizeof(ifa));
    put_attribute(IFA_ADDRESS, "\x0A\0\0\2", 4); /* the other end */
    put_attribute(IFA_LOCAL, "\x0A\0\0\1", 4);
    end(0, header);
    expect(false, "10.0.0.1");
}

/* What no kernel sends: nothing is read beyond the end, nothing made up. */
static void test_rules_odd_messages(void **state)
{
    (void)state;
    fake_start();
    add_link(1, IFF_UP | IFF_RUNNING);
    struct nlmsghdr *header = begin(0, RTM_NEWADDR); /* no body */
    end(0, header);
    header = begin(1, RTM_NEWLINK);
    end(1, header);
    header = begin(0, RTM_NEWADDR); /* a family that is neither */
    struct ifaddrmsg ifa = {.ifa_family = AF_UNIX, .ifa_index = 1};
    put(0, &ifa, sizeof(ifa));
    end(0, header);
    header = begin(
        0, RTM_NEWADDR); /* no address; an address that is too short; an attribute longer than the message */
    ifa.ifa_family = AF_INET6;
    put(0, &ifa, sizeof(ifa));
    put_attribute(IFA_ADDRESS, "abcd", 4);
    struct rtattr attr = {.rta_type = IFA_ADDRESS, .rta_len = 2000};
    put(0, &attr, sizeof(attr));
    end(0, header);
    end(0, begin(0, 4711)); /* another type */
    add_address(1, "192.0.2.1", 0);
    expect(false, "192.0.2.1");

    dp_address out[4];
    size_t n;
    fake_start(); /* a length beyond the end */
    begin(0, RTM_NEWADDR)->nlmsg_len = 5000;
    begin(1, RTM_NEWADDR)->nlmsg_len = 3;
    assert_int_equal(dp_interfaces(out, 4, &n, true), DP_OK);
    assert_int_equal(n, 0);
    fake_start();
    recv_errno = EINTR;
    add_link(1, IFF_UP | IFF_RUNNING);
    add_address(1, "192.0.2.1", 0);
    expect(false, "192.0.2.1");
    fake_start();
    recv_errno = EIO;
    assert_int_equal(dp_interfaces(out, 4, &n, true), DP_ERR_IO);
    send_fails = true;
    assert_int_equal(dp_interfaces(out, 4, &n, true), DP_ERR_IO);
    send_fails = fake = false;
}

static void test_rules_very_many(void **state)
{
    (void)state;
    fake_start();
    add_link(1, IFF_UP | IFF_RUNNING);
    for (int i = 0; i < 200; i++)
        add_address(1, "192.0.2.1", 0);
    dp_address out[32];
    size_t n;
    for (size_t d = 0; d < 2; d++)
        end(d, begin(d, NLMSG_DONE));
    assert_int_equal(dp_interfaces(out, 32, &n, false), DP_OK);
    assert_int_equal(n, 32);
    fake = false;
}

/* ---- names ---- */

static void check(const char *host, const char *expected)
{
    dp_address out[4];
    size_t n;
    char text[DP_ADDRESS_TEXT_MAX];
    assert_int_equal(dp_resolve(host, 80, out, 4, &n), DP_OK);
    assert_string_equal(dp_address_format(&out[0], text), expected);
}

static void test_numeric(void **state)
{
    (void)state;
    check("192.0.2.1", "192.0.2.1:80");
    check("2001:db8::1", "[2001:db8::1]:80");
    check("[2001:db8::1]", "[2001:db8::1]:80");
    dp_address out[1];
    size_t n;
    assert_int_equal(dp_resolve("fe80::1%7", 80, out, 1, &n), DP_OK);
    assert_int_equal(out[0].scope, 7);
    assert_int_equal(dp_resolve("[fe80::1%lo]", 80, out, 1, &n), DP_OK);
    assert_int_equal(out[0].scope, if_nametoindex("lo"));
}

static void test_localhost(void **state)
{
    (void)state;
    dp_address out[2];
    size_t n;
    const char *names[] = {"localhost", "LocalHost", "localhost.", "a.localhost", "x.y.localhost."};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_int_equal(dp_resolve(names[i], 80, out, 2, &n), DP_OK);
        assert_int_equal(n, 2);
        assert_true(is_loopback(&out[0]) && is_loopback(&out[1]));
        assert_int_equal(out[1].port, 80);
    }
    assert_int_equal(dp_resolve("localhost", 80, out, 1, &n), DP_OK);
    assert_int_equal(n, 1);
}

static void test_bad_names(void **state)
{
    (void)state;
    const char *names[] = {"fe80::1%",           "fe80::1%0",  "fe80::1%nosuchif",
                           "fe80::1%4294967296", "fe80::1%-1", "1.2.3.4%1",
                           "[192.0.2.1",         "a b",        "a:b",
                           "http://a",           "[]",         "2001:db8::1::"};
    dp_address out[4];
    size_t n;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_int_equal(dp_resolve(names[i], 80, out, 4, &n), DP_ERR_NOT_FOUND);
        assert_int_equal(n, 0);
    }
    char longest[400];
    memset(longest, 'a', sizeof(longest));
    longest[399] = '\0';
    assert_int_equal(dp_resolve(longest, 80, out, 4, &n), DP_ERR_INVALID_ARGUMENT);
    char brackets[258] = "[";
    memset(brackets + 1, 'a', 254);
    brackets[255] = ']';
    assert_int_equal(dp_resolve(brackets, 80, out, 4, &n), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_resolve("", 80, out, 4, &n), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_resolve("localhost", 80, out, 0, &n), DP_ERR_INVALID_ARGUMENT);
}

static void test_system_resolver(void **state)
{
    (void)state;
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0xC0000201)};
    struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT, .sin6_scope_id = 3};
    struct sockaddr other = {.sa_family = AF_UNIX};
    struct addrinfo list[4] = {
        {.ai_addr = &other, .ai_addrlen = sizeof(other), .ai_next = &list[1]},
        {.ai_addr = &other, .ai_addrlen = 4000, .ai_next = &list[2]},
        {.ai_addr = (struct sockaddr *)&v6, .ai_addrlen = sizeof(v6), .ai_next = &list[3]},
        {.ai_addr = (struct sockaddr *)&v4, .ai_addrlen = sizeof(v4)},
    };
    dp_address out[4];
    size_t n;
    fake_gai = true;
    gai_list = list;
    gai_result = 0;
    assert_int_equal(dp_resolve("host.example", 443, out, 4, &n), DP_OK);
    assert_int_equal(n, 2);
    assert_int_equal(out[0].family, DP_FAMILY_IPV6);
    assert_int_equal(out[0].scope, 3);
    assert_int_equal(out[1].family, DP_FAMILY_IPV4);
    assert_int_equal(out[1].ip[3], 1);
    assert_int_equal(out[0].port, 443);
    assert_int_equal(out[1].port, 443);
    assert_int_equal(dp_resolve("host.example", 443, out, 1, &n), DP_OK);
    assert_int_equal(n, 1);
    list[1].ai_next = NULL;
    assert_int_equal(dp_resolve("host.example", 443, out, 4, &n), DP_ERR_NOT_FOUND);
    static const int errors[][2] = {{EAI_NONAME, DP_ERR_NOT_FOUND},
                                    {EAI_NODATA, DP_ERR_NOT_FOUND},
                                    {EAI_AGAIN, DP_ERR_TIMEOUT},
                                    {EAI_MEMORY, DP_ERR_NO_MEMORY},
                                    {EAI_FAIL, DP_ERR_IO}};
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        gai_result = errors[i][0];
        assert_int_equal(dp_resolve("host.example", 443, out, 4, &n), errors[i][1]);
    }
    fake_gai = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_interfaces),
        cmocka_unit_test_setup_teardown(test_interfaces_can_be_bound, setup, teardown),
        cmocka_unit_test(test_interfaces_capacity),
        cmocka_unit_test(test_rules_states),
        cmocka_unit_test(test_rules_loopback_only),
        cmocka_unit_test(test_rules_privacy),
        cmocka_unit_test(test_rules_point_to_point),
        cmocka_unit_test(test_rules_odd_messages),
        cmocka_unit_test(test_rules_very_many),
        cmocka_unit_test(test_numeric),
        cmocka_unit_test(test_localhost),
        cmocka_unit_test(test_bad_names),
        cmocka_unit_test(test_system_resolver),
    };
    return cmocka_run_group_tests_name("net/addresses", tests, NULL, NULL);
}
