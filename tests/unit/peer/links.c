/* Links: from which address they leave, and whose datagrams they take. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/crypto.h"
#include "peer/links.h"
#include <string.h>

static dp_loop *loop;
static dp_csprng *csprng;
static dp_certificate *certificate;
static dp_pc *pc;
static network *net;
static links l;
static dp_listener *listener;
static dp_udp *udp;
static dp_address caller; /* who has reached the listener or the UDP socket */

static void on_accept(void *user, dp_tcp *tcp, const dp_address *remote)
{
    (void)user;
    caller = *remote;
    dp_tcp_close(tcp);
}

static void on_packets(void *user, dp_udp *socket, dp_udp_packet *packets, size_t count)
{
    (void)user;
    (void)socket;
    assert_int_equal(count, 1);
    caller = packets[0].remote;
}

static void pump(void *user) { (void)user; }

static dp_address address_of(const char *ip)
{
    dp_address address;
    assert_int_equal(dp_address_parse(&address, ip, 0), DP_OK);
    return address;
}

static int set_up(void **state)
{
    (void)state;
    dp_address bound[] = {address_of("127.0.0.5"), address_of("127.0.0.6")}, server = address_of("127.0.0.1");
    assert_int_equal(dp_loop_new(&loop), DP_OK);
    assert_int_equal(dp_csprng_new(&csprng), DP_OK);
    dp_random random = dp_csprng_source(csprng);
    assert_int_equal(dp_certificate_generate(&certificate, &random, dp_clock_unix()), DP_OK);
    dp_pc_config config = {.size = sizeof(config), .random = random, .certificate = certificate};
    assert_int_equal(dp_pc_new(&pc, &config), DP_OK);
    network_config nc = {.loop = loop, .random = random, .bind_addresses = bound, .bind_count = 2};
    assert_int_equal(dp_network_new(&net, &nc), DP_OK);
    dp_network_set_addresses(net, bound, 2);
    l = (links){.network = net, .pc = pc, .pump = pump};
    assert_int_equal(dp_listener_open(&listener, loop, &server, on_accept, NULL), DP_OK);
    dp_udp_handler handler = {on_packets, NULL, NULL};
    assert_int_equal(dp_udp_open(&udp, loop, &server, &handler), DP_OK);
    memset(&caller, 0, sizeof(caller));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    dp_links_clear(&l);
    dp_udp_close(udp);
    dp_listener_close(listener);
    dp_network_free(net);
    dp_pc_free(pc);
    dp_certificate_free(certificate);
    dp_csprng_free(csprng);
    dp_loop_free(loop);
    return 0;
}

static void open_link(uint32_t id, dp_ice_transport transport, const char *local)
{
    dp_ice_link link = {.id = id,
                        .transport = transport,
                        .remote =
                            transport == DP_ICE_UDP ? *dp_udp_local(udp) : *dp_listener_local(listener)};
    if (local != NULL)
        link.local = address_of(local);
    dp_links_open(&l, &link);
    assert_non_null(l.first);
    if (transport == DP_ICE_UDP) {
        dp_datagram slot;
        assert_int_equal(dp_udp_slot(loop, &slot), DP_OK);
        slot.link = id;
        slot.length = 1;
        slot.data[0] = 'x';
        dp_links_send(&l, &slot);
    }
}

static void comes_from(const char *ip)
{
    dp_time deadline = dp_clock_now() + DP_SECONDS(30);
    while (caller.family == DP_FAMILY_NONE) {
        assert_true(dp_clock_now() < deadline);
        assert_int_equal(dp_loop_step(loop, DP_SECONDS(1)), DP_OK);
    }
    char text[DP_ADDRESS_TEXT_MAX];
    dp_address_format_ip(&caller, text);
    assert_string_equal(text, ip);
    memset(&caller, 0, sizeof(caller));
    dp_links_clear(&l);
}

/* --bind: a TURN server must not learn another address either. */
static void leave_from_an_address_that_may_be_used(void **state)
{
    (void)state;
    open_link(1, DP_ICE_UDP, NULL);
    comes_from("127.0.0.5");
    open_link(2, DP_ICE_TCP, NULL);
    comes_from("127.0.0.5");
    dp_ice_link v6 = {.id = 3, .transport = DP_ICE_TCP, .remote = address_of("::1")};
    dp_links_open(&l, &v6);
    assert_null(l.first);
}

/* RFC 6544 §4.5: an active candidate is the address that it names. */
static void leave_from_where_ice_wants(void **state)
{
    (void)state;
    open_link(1, DP_ICE_UDP, "127.0.0.6");
    comes_from("127.0.0.6");
    open_link(2, DP_ICE_TCP, "127.0.0.6");
    comes_from("127.0.0.6");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(leave_from_an_address_that_may_be_used),
        TEST(leave_from_where_ice_wants),
    };
    return cmocka_run_group_tests_name("links", tests, NULL, NULL);
}
