/* Many connections on one UDP port, on real sockets of this machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "peer/runner.h"
#include <datapeer/datapeer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAIRS = 20, SDP = 16384 };

typedef struct end {
    runner *runner;
    mux *own_mux;
    dp_channel *channel;
    unsigned opened;
    unsigned closed;
    unsigned number; /* what its messages say */
    unsigned heard;
    bool wrong;
} end;

static dp_loop *loop;
static dp_random source;
static dp_csprng *csprng;
static dp_certificate *certificate;
static network *net;
static mux *shared;
static end ends[PAIRS][2];

static void on_event(void *user, const dp_pc_event *event)
{
    end *e = user;
    if (event->type == DP_PC_EVENT_CHANNEL_OPEN) {
        e->opened++;
        e->channel = event->channel;
        assert_int_equal(dp_channel_send(e->channel, dp_loop_now(loop), (const uint8_t *)&e->number,
                                         sizeof(e->number), true, false),
                         DP_OK);
    } else if (event->type == DP_PC_EVENT_MESSAGE) {
        e->heard++;
        e->wrong |=
            event->len != sizeof(e->number) || memcmp(event->data, &e->number, sizeof(e->number)) != 0;
    } else if (event->type == DP_PC_EVENT_CHANNEL_CLOSED) {
        e->closed++;
        e->channel = NULL;
    }
}

static void on_fill(void *user) { (void)user; }

static void open_end_on(end *e, unsigned number, mux *m)
{
    memset(e, 0, sizeof(*e));
    e->number = number;
    runner_config config = {.network = net,
                            .mux = m,
                            .pc = {.size = sizeof(config.pc), .random = source, .certificate = certificate},
                            .on_event = on_event,
                            .on_fill = on_fill,
                            .user = e};
    assert_int_equal(dp_runner_new(&e->runner, &config), DP_OK);
}

static void open_end(end *e, unsigned number, bool caller)
{
    mux *own = NULL;
    if (caller)
        assert_int_equal(dp_mux_new(&own, net, 0), DP_OK);
    open_end_on(e, number, caller ? own : shared);
    e->own_mux = own;
}

static void close_end(end *e)
{
    dp_runner_free(e->runner);
    dp_mux_free(e->own_mux);
    memset(e, 0, sizeof(*e));
}

static void negotiate(end pair[2])
{
    static char offer[SDP], answer[SDP];
    size_t offer_len, answer_len;
    dp_time now = dp_loop_now(loop);
    dp_channel_init init = DP_CHANNEL_INIT("x");
    dp_pc *caller = dp_runner_pc(pair[0].runner), *callee = dp_runner_pc(pair[1].runner);
    assert_int_equal(dp_pc_create_channel(caller, &pair[0].channel, now, &init), DP_OK);
    assert_int_equal(dp_pc_create_offer(caller, now, offer, SDP, &offer_len), DP_OK);
    assert_int_equal(dp_pc_set_remote_description(callee, now, DP_SDP_OFFER, offer, offer_len, NULL), DP_OK);
    assert_int_equal(dp_pc_create_answer(callee, now, answer, SDP, &answer_len), DP_OK);
    assert_int_equal(dp_pc_set_remote_description(caller, now, DP_SDP_ANSWER, answer, answer_len, NULL),
                     DP_OK);
    dp_runner_wake(pair[0].runner);
    dp_runner_wake(pair[1].runner);
}

static unsigned total(size_t offset)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < PAIRS; i++)
        for (int e = 0; e < 2; e++)
            sum += *(unsigned *)(void *)((char *)&ends[i][e] + offset);
    return sum;
}

#define RUN_UNTIL(condition)                                                                                 \
    do {                                                                                                     \
        dp_time deadline_ = dp_clock_now() + DP_SECONDS(120);                                                \
        while (!(condition) && dp_clock_now() < deadline_)                                                   \
            assert_int_equal(dp_loop_step(loop, DP_MS(100)), DP_OK);                                         \
        assert_true(condition);                                                                              \
    } while (0)

static int set_up(void **state)
{
    (void)state;
    assert_int_equal(dp_loop_new(&loop), DP_OK);
    assert_int_equal(dp_csprng_new(&csprng), DP_OK);
    source = dp_csprng_source(csprng);
    assert_int_equal(dp_certificate_generate(&certificate, &source, dp_clock_unix()), DP_OK);
    network_config config = {.loop = loop, .random = source, .include_loopback = true};
    assert_int_equal(dp_network_new(&net, &config), DP_OK);
    assert_int_equal(dp_mux_new(&shared, net, 0), DP_OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    dp_mux_free(shared);
    dp_network_free(net);
    dp_certificate_free(certificate);
    dp_csprng_free(csprng);
    dp_loop_free(loop);
    return 0;
}

/* All connect at once over the shared port; each hears its own peer and nobody else. */
static void each_connection_hears_its_own_peer(void **state)
{
    (void)state;
    for (unsigned i = 0; i < PAIRS; i++)
        for (int e = 0; e < 2; e++)
            open_end(&ends[i][e], i, e == 0);
    for (unsigned i = 0; i < PAIRS; i++)
        negotiate(ends[i]);
    RUN_UNTIL(total(offsetof(end, heard)) == 2 * PAIRS);
    for (unsigned i = 0; i < PAIRS; i++)
        for (int e = 0; e < 2; e++)
            assert_false(ends[i][e].wrong);
    /* One that ends leaves the others alone. */
    close_end(&ends[0][0]);
    RUN_UNTIL(ends[0][1].closed == 1);
    close_end(&ends[0][1]);
    for (unsigned i = 1; i < PAIRS; i++)
        for (int e = 0; e < 2; e++)
            assert_int_equal(dp_channel_send(ends[i][e].channel, dp_loop_now(loop), (const uint8_t *)&i,
                                             sizeof(i), true, false),
                             DP_OK);
    for (unsigned i = 1; i < PAIRS; i++)
        for (int e = 0; e < 2; e++)
            dp_runner_wake(ends[i][e].runner);
    RUN_UNTIL(total(offsetof(end, heard)) == 4 * (PAIRS - 1));
    for (unsigned i = 1; i < PAIRS; i++)
        for (int e = 0; e < 2; e++) {
            assert_false(ends[i][e].wrong);
            close_end(&ends[i][e]);
        }
}

/* A page that reloads may call again from the address of its last call, whose end here is not freed yet: the new one's answer to
 * our check takes the route over. */
static void a_new_connection_takes_the_route_over(void **state)
{
    (void)state;
    open_end(&ends[0][0], 1, true);
    open_end(&ends[0][1], 1, false);
    negotiate(ends[0]);
    RUN_UNTIL(ends[0][0].heard == 1 && ends[0][1].heard == 1);
    mux *port = ends[0][0].own_mux;
    dp_runner_free(ends[0][0].runner); /* ends[0][1] stays, and so does its route */
    open_end_on(&ends[1][0], 2, port);
    open_end(&ends[1][1], 2, false);
    negotiate(ends[1]);
    RUN_UNTIL(ends[1][0].heard == 1 && ends[1][1].heard == 1);
    assert_false(ends[1][0].wrong || ends[1][1].wrong);
    close_end(&ends[1][1]);
    close_end(&ends[0][1]);
    ends[1][0].own_mux = port;
    close_end(&ends[1][0]);
    memset(&ends[0][0], 0, sizeof(ends[0][0]));
}

static void ignore_packets(void *user, dp_udp *udp, dp_udp_packet *packets, size_t count)
{
    (void)user;
    (void)udp;
    (void)packets;
    (void)count;
}

/* A stranger who floods the port with everything but a good check gets no route, and breaks nothing. */
static void strangers_get_no_route(void **state)
{
    (void)state;
    dp_udp *stranger;
    dp_udp_handler handler = {.on_packets = ignore_packets};
    dp_address here, port;
    assert_int_equal(dp_address_parse(&here, "127.0.0.1", 0), DP_OK);
    assert_int_equal(dp_address_parse(&port, "127.0.0.1", dp_mux_port(shared)), DP_OK);
    assert_non_null(dp_mux_socket(shared, &port));
    assert_int_equal(dp_udp_open(&stranger, loop, &here, &handler), DP_OK);
    open_end(&ends[0][0], 7, true);
    open_end(&ends[0][1], 7, false);
    negotiate(ends[0]);
    for (int i = 0; i < 500; i++) {
        dp_datagram slot;
        if (dp_udp_slot(loop, &slot) != DP_OK)
            break;
        slot.length = 64;
        slot.remote = port;
        assert_int_equal(source.fn(source.ctx, slot.data, slot.length), DP_OK);
        slot.data[0] = (uint8_t)(i % 3 == 0 ? 1 : i % 3 == 1 ? 0 : 22);
        dp_udp_commit(loop, stranger, &slot);
        assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    }
    RUN_UNTIL(ends[0][0].heard == 1 && ends[0][1].heard == 1);
    assert_false(ends[0][0].wrong || ends[0][1].wrong);
    close_end(&ends[0][0]);
    close_end(&ends[0][1]);
    dp_udp_close(stranger);
}

static void a_taken_port_is_an_error(void **state)
{
    (void)state;
    mux *second;
    assert_int_equal(dp_mux_new(&second, net, dp_mux_port(shared)), DP_ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_connection_hears_its_own_peer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_new_connection_takes_the_route_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(strangers_get_no_route, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_taken_port_is_an_error, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("mux", tests, NULL, NULL);
}
