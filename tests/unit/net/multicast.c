/* Sockets of a multicast group, on the loopback interface where that will do. */
#include "tests/unit/net/helper.h"

#include "net/udp.h"
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct receiver {
    dp_udp *udp;
    char text[64]; /* the datagrams, one after the other */
    dp_address from;
} receiver;

static void on_packets(void *user, dp_udp *udp, dp_udp_packet *packets, size_t count)
{
    receiver *r = user;
    assert_ptr_equal(udp, r->udp);
    for (size_t i = 0; i < count; i++) {
        strncat(r->text, (const char *)packets[i].data, packets[i].len);
        r->from = packets[i].remote;
    }
}

static dp_address address(const char *ip, uint16_t port, uint32_t scope)
{
    dp_address a;
    assert_int_equal(dp_address_parse(&a, ip, port), DP_OK);
    a.scope = scope;
    return a;
}

static int join(receiver *r, const dp_address *group, const dp_address *local)
{
    dp_udp_handler handler = {.on_packets = on_packets, .user = r};
    memset(r, 0, sizeof(*r));
    return dp_udp_open_multicast(&r->udp, loop, group, local, &handler);
}

static void say(dp_udp *from, const dp_address *to, const char *text)
{
    dp_datagram slot;
    assert_int_equal(dp_udp_slot(loop, &slot), DP_OK);
    slot.length = strlen(text);
    memcpy(slot.data, text, slot.length);
    slot.remote = *to;
    dp_udp_commit(loop, from, &slot);
    dp_udp_flush(loop);
}

/* A port that nobody else uses. */
static uint16_t free_port(void)
{
    dp_udp *udp;
    dp_address any = loopback(0);
    dp_udp_handler handler = {.on_packets = on_packets};
    assert_int_equal(dp_udp_open(&udp, loop, &any, &handler), DP_OK);
    uint16_t port = dp_udp_local(udp)->port;
    dp_udp_close(udp);
    return port;
}

static void shared_and_heard(dp_address group, dp_address local)
{
    receiver a, b;
    assert_int_equal(join(&a, &group, &local), DP_OK);
    assert_int_equal(join(&b, &group, &local), DP_OK);
    local.port = group.port;
    assert_true(dp_address_equal(dp_udp_local(a.udp), &local));
    say(a.udp, &group, "1");
    RUN_UNTIL(a.text[0] != '\0' && b.text[0] != '\0');
    assert_true(dp_address_equal(&b.from, &local));
    dp_udp_close(a.udp);
    say(b.udp, &group, "2");
    RUN_UNTIL(b.text[1] != '\0');
    assert_string_equal(a.text, "1");
    assert_string_equal(b.text, "12");
    dp_udp_close(b.udp);
}

static void test_ipv4(void **state)
{
    (void)state;
    shared_and_heard(address("224.0.0.251", free_port(), 0), loopback(0));
}

/* The first address of another interface than the loopback one, with a zone if it is IPv6; false if there is
 * none. */
static bool other_interface(dp_address *out, dp_family family)
{
    dp_address all[64];
    size_t count;
    assert_int_equal(dp_interfaces(all, 64, &count, false), DP_OK);
    for (size_t i = 0; i < count; i++) {
        *out = all[i];
        if (family == DP_FAMILY_IPV4 ? out->family == family && out->ip[0] != 127 : out->scope != 0)
            return true;
    }
    print_message("only a loopback interface here\n");
    return false;
}

/* On the loopback interface Linux has no route for IPv6 multicast. */
static void test_ipv6(void **state)
{
    (void)state;
    dp_address local;
    if (!other_interface(&local, DP_FAMILY_IPV6))
        skip();
    shared_and_heard(address("ff02::fb", free_port(), local.scope), local);
}

/* Other programs hold the mDNS port with either option. */
static void test_shared_with_others(void **state)
{
    (void)state;
    static const int options[] = {SO_REUSEADDR, SO_REUSEPORT};
    for (size_t i = 0; i < 2; i++) {
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        int on = 1;
        struct sockaddr_in any = {.sin_family = AF_INET};
        socklen_t len = sizeof(any);
        assert_int_equal(setsockopt(fd, SOL_SOCKET, options[i], &on, sizeof(on)), 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&any, len), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&any, &len), 0);
        receiver r;
        dp_address group = address("224.0.0.251", ntohs(any.sin_port), 0);
        dp_address local = loopback(0);
        assert_int_equal(join(&r, &group, &local), DP_OK);
        dp_udp_close(r.udp);
        close(fd);
    }
}

/* RFC 6762 §11: what did not come by the group may come from far away. */
static void test_no_unicast(void **state)
{
    (void)state;
    receiver group_end;
    dp_address group = address("224.0.0.251", free_port(), 0);
    dp_address local = loopback(0);
    assert_int_equal(join(&group_end, &group, &local), DP_OK);
    local.port = group.port;
    say(group_end.udp, &local, "unicast ");
    say(group_end.udp, &group, "multicast");
    RUN_UNTIL(group_end.text[0] != '\0');
    assert_string_equal(group_end.text, "multicast");
    dp_udp_close(group_end.udp);
}

static void test_one_interface(void **state)
{
    (void)state;
    dp_address second;
    if (!other_interface(&second, DP_FAMILY_IPV4))
        skip();
    receiver lo, other;
    dp_address group = address("224.0.0.251", free_port(), 0);
    dp_address local = loopback(0);
    assert_int_equal(join(&lo, &group, &local), DP_OK);
    assert_int_equal(join(&other, &group, &second), DP_OK);
    say(lo.udp, &group, "lo");
    RUN_UNTIL(lo.text[0] != '\0');
    say(other.udp, &group, "other");
    RUN_UNTIL(other.text[0] != '\0');
    assert_string_equal(lo.text, "lo");
    assert_string_equal(other.text, "other");
    dp_udp_close(lo.udp);
    dp_udp_close(other.udp);
}

/* RFC 6762 §11: packets of a smaller TTL count as from elsewhere. */
static void test_hops(void **state)
{
    (void)state;
    receiver r;
    dp_address group = address("224.0.0.251", free_port(), 0);
    dp_address local = loopback(0);
    assert_int_equal(join(&r, &group, &local), DP_OK);
    int ttl = 0;
    socklen_t len = sizeof(ttl);
    assert_int_equal(getsockopt(dp_udp_fd(r.udp), IPPROTO_IP, IP_MULTICAST_TTL, &ttl, &len), 0);
    assert_int_equal(ttl, 255);
    dp_udp_close(r.udp);
}

static void test_refused(void **state)
{
    (void)state;
    receiver r;
    dp_address group = address("224.0.0.251", free_port(), 0);
    dp_address local = loopback(0);
    dp_address no_group = address("127.0.0.1", group.port, 0);
    dp_address not_ours = address("203.0.113.1", 0, 0);
    dp_address group6 = address("ff05::fb", group.port, 0); /* of no one link */
    dp_address no_scope = address("::1", 0, 0);
    dp_address none = {0};
    assert_int_equal(join(&r, &no_group, &local), DP_ERR_IO);
    assert_int_equal(join(&r, &group, &not_ours), DP_ERR_IO);
    assert_int_equal(join(&r, &group6, &local), DP_ERR_IO);
    assert_int_equal(join(&r, &group6, &no_scope), DP_ERR_IO);
    assert_int_equal(join(&r, &none, &none), DP_ERR_IO);
}

static void test_no_memory(void **state)
{
    (void)state;
    dp_address group = address("224.0.0.251", free_port(), 0);
    dp_address local = loopback(0);
    dp_loop_free(loop); /* for a new one has its buffers still to allocate */
    assert_int_equal(dp_loop_new(&loop), DP_OK);
    receiver r;
    int err = DP_ERR_NO_MEMORY;
    for (long n = 1; err != DP_OK; n++) {
        fail_allocation(n);
        err = join(&r, &group, &local);
        fail_allocation(0);
        assert_true(err == DP_OK || err == DP_ERR_NO_MEMORY);
    }
    say(r.udp, &group, "1");
    RUN_UNTIL(r.text[0] != '\0');
    dp_udp_close(r.udp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ipv4, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ipv6, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shared_with_others, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_unicast, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_interface, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hops, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
    };
    return cmocka_run_group_tests_name("net/multicast", tests, NULL, NULL);
}
