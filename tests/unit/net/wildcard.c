/* UDP sockets bound to all addresses: which one a datagram came to, and that answers leave from there. On Linux all of
 * 127.0.0.0/8 is this machine. */
#include "tests/unit/net/helper.h"

#include "net/udp.h"
#include <string.h>

enum { ADDRESSES = 4, EACH = 40 };

/* What has come to a socket: from or to 127.0.0.n. */
typedef struct end {
    dp_udp *udp;
    dp_address last_from, last_to;
    size_t count;
    size_t from[ADDRESSES];
    bool answers; /* each datagram, from the address that it came to */
} end;

static dp_address address(const char *ip, uint16_t port)
{
    dp_address a;
    assert_int_equal(dp_address_parse(&a, ip, port), DP_OK);
    return a;
}

static dp_address numbered(unsigned n, uint16_t port)
{
    dp_address a = address("127.0.0.0", port);
    a.ip[3] = (uint8_t)n;
    return a;
}

static void put(end *e, const dp_address *local, const dp_address *to, size_t len, bool whole)
{
    dp_datagram slot;
    assert_int_equal(dp_udp_slot(loop, &slot), DP_OK);
    memset(slot.data, 7, len);
    slot.length = len;
    slot.local = *local;
    slot.remote = *to;
    slot.whole = whole;
    dp_udp_commit(loop, e->udp, &slot);
}

static void on_packets(void *user, dp_udp *udp, dp_udp_packet *packets, size_t count)
{
    end *e = user;
    assert_ptr_equal(udp, e->udp);
    for (size_t i = 0; i < count; i++) {
        e->count++;
        e->last_from = packets[i].remote;
        e->last_to = *packets[i].local;
        if (packets[i].remote.ip[3] < ADDRESSES)
            e->from[packets[i].remote.ip[3]]++;
        if (e->answers)
            put(e, packets[i].local, &packets[i].remote, packets[i].len, false);
    }
}

static void open_end(end *e, const char *ip)
{
    const dp_udp_handler handler = {.on_packets = on_packets, .user = e};
    const dp_address local = address(ip, 0);
    memset(e, 0, sizeof(*e));
    assert_int_equal(dp_udp_open(&e->udp, loop, &local, &handler), DP_OK);
}

static uint16_t port_of(const end *e) { return dp_udp_local(e->udp)->port; }

static void close_both(end *a, end *b)
{
    dp_udp_close(a->udp);
    dp_udp_close(b->udp);
}

static void test_answers_leave_from_where_it_was_asked(void **state)
{
    (void)state;
    static end server, client;
    open_end(&server, "0.0.0.0");
    open_end(&client, "127.0.0.1");
    server.answers = true;
    for (unsigned n = 1; n < ADDRESSES; n++) {
        const dp_address asked = numbered(n, port_of(&server));
        put(&client, dp_udp_local(client.udp), &asked, 20, false);
        RUN_UNTIL(client.count == n);
        assert_true(dp_address_equal(&server.last_to, &asked));
        assert_true(dp_address_equal(&client.last_from, &asked));
        assert_true(dp_address_equal(&client.last_to, dp_udp_local(client.udp)));
    }
    close_both(&server, &client);
}

/* Many at once: equal ones to one remote leave as one message (GSO), but only those from one address. */
static void test_one_batch_from_several_addresses(void **state)
{
    (void)state;
    static end server, client;
    open_end(&server, "0.0.0.0");
    open_end(&client, "127.0.0.1");
    for (int round = 0; round < EACH; round++) {
        for (unsigned n = 1; n < ADDRESSES; n++) {
            const dp_address from = numbered(round < EACH / 2 ? n : 2, 9);
            put(&server, &from, dp_udp_local(client.udp), 100, false);
        }
    }
    RUN_UNTIL(client.count == EACH * (ADDRESSES - 1));
    assert_int_equal(client.from[1], EACH / 2);
    assert_int_equal(client.from[2], EACH / 2 + EACH / 2 * (ADDRESSES - 1));
    assert_int_equal(client.from[3], EACH / 2);
    assert_int_equal(client.last_from.port, port_of(&server)); /* the port is the socket's */
    close_both(&server, &client);
}

static void test_whole_datagrams_too(void **state)
{
    (void)state;
    static end server, client;
    open_end(&server, "0.0.0.0");
    open_end(&client, "127.0.0.1");
    const dp_address from = numbered(3, 0);
    put(&server, &from, dp_udp_local(client.udp), 1200, true);
    RUN_UNTIL(client.count == 1);
    assert_int_equal(client.from[3], 1);
    close_both(&server, &client);
}

/* Who names none, or that of all, or one of the other family, leaves it to the kernel. */
static void test_no_address_named(void **state)
{
    (void)state;
    static end server, client;
    open_end(&server, "0.0.0.0");
    open_end(&client, "127.0.0.1");
    const dp_address none = {0}, six = address("::1", 0);
    put(&server, &none, dp_udp_local(client.udp), 10, false);
    put(&server, dp_udp_local(server.udp), dp_udp_local(client.udp), 10, false);
    put(&server, &six, dp_udp_local(client.udp), 10, false);
    RUN_UNTIL(client.count == 3);
    assert_int_equal(client.from[1], 3);
    close_both(&server, &client);
}

/* What goes to a link (<datapeer/ice.h>) leaves by its socket, whatever its local is: a relayed address, for one. */
static void test_a_datagram_of_a_link(void **state)
{
    (void)state;
    static end server, client;
    dp_datagram slot;
    open_end(&server, "0.0.0.0");
    open_end(&client, "127.0.0.1");
    assert_int_equal(dp_udp_slot(loop, &slot), DP_OK);
    slot.length = 10;
    slot.link = 1;
    slot.local = address("192.0.2.77", 0);
    slot.remote = *dp_udp_local(client.udp);
    dp_udp_commit(loop, server.udp, &slot);
    RUN_UNTIL(client.count == 1);
    assert_int_equal(client.from[1], 1);
    close_both(&server, &client);
}

/* An address that is not ours costs that datagram only. */
static void test_a_strange_address_named(void **state)
{
    (void)state;
    static end server, client;
    open_end(&server, "0.0.0.0");
    open_end(&client, "127.0.0.1");
    const dp_address strange = address("192.0.2.77", 0), ours = numbered(2, 0);
    put(&server, &strange, dp_udp_local(client.udp), 10, false);
    put(&server, &ours, dp_udp_local(client.udp), 10, false);
    RUN_UNTIL(client.count == 1);
    assert_int_equal(client.from[2], 1);
    close_both(&server, &client);
}

/* A socket of one address sends from there, whatever is named. */
static void test_a_socket_of_one_address(void **state)
{
    (void)state;
    static end server, client;
    open_end(&server, "127.0.0.2");
    open_end(&client, "127.0.0.1");
    const dp_address other = numbered(3, 0);
    put(&server, &other, dp_udp_local(client.udp), 10, false);
    RUN_UNTIL(client.count == 1);
    assert_int_equal(client.from[2], 1);
    close_both(&server, &client);
}

static void test_ipv6(void **state)
{
    (void)state;
    static end server, client;
    const dp_udp_handler handler = {.on_packets = on_packets, .user = &client};
    const dp_address six = address("::1", 0);
    memset(&client, 0, sizeof(client));
    if (dp_udp_open(&client.udp, loop, &six, &handler) != DP_OK)
        skip(); /* a machine without IPv6 */
    open_end(&server, "::");
    server.answers = true;
    const dp_address asked = address("::1", port_of(&server));
    for (int i = 0; i < EACH; i++) /* GRO and the address are told together */
        put(&client, dp_udp_local(client.udp), &asked, 20, false);
    RUN_UNTIL(client.count == EACH);
    assert_true(dp_address_equal(&server.last_to, &asked));
    assert_int_equal(server.last_to.scope, 0);
    assert_true(dp_address_equal(&client.last_from, &asked));
    close_both(&server, &client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_answers_leave_from_where_it_was_asked),
        TEST(test_one_batch_from_several_addresses),
        TEST(test_whole_datagrams_too),
        TEST(test_no_address_named),
        TEST(test_a_datagram_of_a_link),
        TEST(test_a_strange_address_named),
        TEST(test_a_socket_of_one_address),
        TEST(test_ipv6),
    };
    return cmocka_run_group_tests_name("net/wildcard", tests, NULL, NULL);
}
