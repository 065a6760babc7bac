/* Many connections on one UDP port, on real sockets of this machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../sctp/virtual_time.h"
#include "peer/runner.h"
#include <datapeer/datapeer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The library's clock, which goes as fast as a test likes. */
static dp_duration skew, step;
dp_time dp_clock_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (dp_time)ts.tv_sec * 1000000u + (dp_time)ts.tv_nsec / 1000u + skew;
}
int64_t dp_clock_unix(void) { return (int64_t)time(NULL); }

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
    unsigned disconnected;
    char candidates[1024]; /* that came after the description */
} end;

static dp_loop *loop;
static dp_random source;
static dp_csprng *csprng;
static dp_certificate *certificate;
static bool by_tcp;        /* descriptions lose their UDP candidates on the way */
static bool caller_hidden; /* offers do */
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
    } else if (event->type == DP_PC_EVENT_STATE) {
        e->disconnected += event->state == DP_PC_DISCONNECTED;
    } else if (event->type == DP_PC_EVENT_LOCAL_CANDIDATE) {
        size_t len = strlen(e->candidates);
        snprintf(e->candidates + len, sizeof(e->candidates) - len, "%s\n", event->candidate);
    }
}

static void on_fill(void *user) { (void)user; }

static void open_end_on(end *e, unsigned number, network *n, mux *m)
{
    memset(e, 0, sizeof(*e));
    e->number = number;
    runner_config config = {
        .network = n,
        .mux = m,
        .pc = {.size = sizeof(config.pc), .random = source, .certificate = certificate, .ice_tcp = n->tcp},
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
    open_end_on(e, number, net, caller ? own : shared);
    e->own_mux = own;
}

static void close_end(end *e)
{
    dp_runner_free(e->runner);
    dp_mux_free(e->own_mux);
    memset(e, 0, sizeof(*e));
}

static void drop_udp(char *sdp, size_t *len, bool drop)
{
    char *at;
    while (drop && (at = strstr(sdp, " 1 udp ")) != NULL) {
        while (strncmp(at, "a=candidate", 11) != 0)
            at--;
        char *next = strchr(at, '\n') + 1;
        memmove(at, next, strlen(next) + 1);
    }
    *len = strlen(sdp);
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
    drop_udp(offer, &offer_len, by_tcp || caller_hidden);
    assert_int_equal(dp_pc_set_remote_description(callee, now, DP_SDP_OFFER, offer, offer_len, NULL), DP_OK);
    assert_int_equal(dp_pc_create_answer(callee, now, answer, SDP, &answer_len), DP_OK);
    drop_udp(answer, &answer_len, by_tcp);
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
        while (!(condition) && dp_clock_now() < deadline_) {                                                 \
            skew += step;                                                                                    \
            virtual_now = dp_clock_now();                                                                    \
            assert_int_equal(dp_loop_step(loop, step > 0 ? 0 : DP_MS(10)), DP_OK);                           \
        }                                                                                                    \
        assert_true(condition);                                                                              \
    } while (0)

static int set_up(void **state)
{
    (void)state;
    step = 0;
    by_tcp = caller_hidden = false;
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

/* ---- addresses that come and go ---- */

static network *network_on(const char *const *texts, uint16_t port_min, uint16_t port_max)
{
    network_config config = {.loop = loop,
                             .random = source,
                             .include_loopback = true,
                             .port_min = port_min,
                             .port_max = port_max,
                             .tcp = by_tcp};
    network *n;
    assert_int_equal(dp_network_new(&n, &config), DP_OK);
    dp_address addresses[4];
    size_t count = 0;
    for (; texts[count] != NULL; count++)
        assert_int_equal(dp_address_parse(&addresses[count], texts[count], 0), DP_OK);
    dp_network_set_addresses(n, addresses, count);
    return n;
}

static void set_addresses(network *n, const char *first, const char *second)
{
    dp_address addresses[2];
    size_t count = 0;
    if (first != NULL)
        assert_int_equal(dp_address_parse(&addresses[count++], first, 0), DP_OK);
    if (second != NULL)
        assert_int_equal(dp_address_parse(&addresses[count++], second, 0), DP_OK);
    dp_network_set_addresses(n, addresses, count);
}

static bool has_socket(const mux *m, const char *ip)
{
    dp_address address;
    assert_int_equal(dp_address_parse(&address, ip, dp_mux_port(m)), DP_OK);
    return dp_mux_socket(m, &address) != NULL;
}

static void say(end *e)
{
    assert_int_equal(dp_channel_send(e->channel, dp_loop_now(loop), (const uint8_t *)&e->number,
                                     sizeof(e->number), true, false),
                     DP_OK);
    dp_runner_wake(e->runner);
}

/* A page that reloads may call again from the address of its last call, whose end here is not freed yet: the new one's answer to
 * our check takes the route over. */
static void a_new_connection_takes_the_route_over(void **state)
{
    (void)state;
    set_addresses(net, "127.0.0.1", NULL); /* one path, so one route */
    open_end(&ends[0][0], 1, true);
    open_end(&ends[0][1], 1, false);
    negotiate(ends[0]);
    RUN_UNTIL(ends[0][0].heard == 1 && ends[0][1].heard == 1);
    mux *port = ends[0][0].own_mux;
    dp_runner_free(ends[0][0].runner); /* ends[0][1] stays, and so does its route */
    open_end_on(&ends[1][0], 2, net, port);
    open_end(&ends[1][1], 2, false);
    /* Only its requests tell where it is, and they come from where a route leads elsewhere. */
    caller_hidden = true;
    negotiate(ends[1]);
    RUN_UNTIL(ends[1][0].heard == 1 && ends[1][1].heard == 1);
    assert_false(ends[1][0].wrong || ends[1][1].wrong);
    close_end(&ends[1][1]);
    close_end(&ends[0][1]);
    ends[1][0].own_mux = port;
    close_end(&ends[1][0]);
    memset(&ends[0][0], 0, sizeof(ends[0][0]));
}

/* A laptop leaves the cable for the radio, and comes back: the connection lives, on the same port. */
static void a_connection_follows_the_addresses(void **state)
{
    (void)state;
    static const char *const first[] = {"127.0.0.1", NULL};
    network *there = network_on(first, 0, 0), *here = network_on(first, 0, 0);
    mux *callers, *callees;
    end *pair = ends[0];
    step = DP_MS(5); /* the other side needs 5 s of silence to give a path up */
    assert_int_equal(dp_mux_new(&callers, there, 0), DP_OK);
    assert_int_equal(dp_mux_new(&callees, here, 0), DP_OK);
    uint16_t port = dp_mux_port(callees);
    open_end_on(&pair[0], 1, there, callers);
    open_end_on(&pair[1], 1, here, callees);
    negotiate(pair);
    RUN_UNTIL(pair[0].heard == 1 && pair[1].heard == 1);
    set_addresses(here, "127.0.0.1", "127.0.0.2");
    assert_true(has_socket(callees, "127.0.0.1") && has_socket(callees, "127.0.0.2"));
    RUN_UNTIL(strstr(pair[1].candidates, "127.0.0.2") != NULL); /* signalled as it comes */
    set_addresses(here, NULL, "127.0.0.2");
    assert_false(has_socket(callees, "127.0.0.1"));
    say(&pair[0]);
    say(&pair[1]);
    RUN_UNTIL(pair[0].heard == 2 && pair[1].heard == 2);
    set_addresses(here, NULL, NULL); /* between two networks there is none */
    assert_int_equal(dp_mux_port(callees), port);
    say(&pair[0]);
    say(&pair[1]);
    set_addresses(here, NULL, "127.0.0.3");
    assert_true(has_socket(callees, "127.0.0.3"));
    RUN_UNTIL(pair[0].heard == 3 && pair[1].heard == 3);
    assert_int_equal(dp_mux_port(callees), port);
    assert_int_equal(pair[0].closed + pair[1].closed, 0);
    close_end(&pair[0]);
    close_end(&pair[1]);
    dp_mux_free(callers);
    dp_mux_free(callees);
    dp_network_free(there);
    dp_network_free(here);
}

/* While the answer to an ICE restart is under way, the peer checks the old path with the old ufrag: it is answered
 * though the port is shared. */
static void a_restart_leaves_the_old_path_alive(void **state)
{
    (void)state;
    static char offer[SDP];
    size_t len;
    end *pair = ends[0];
    step = DP_MS(5);
    open_end(&pair[0], 1, true);
    open_end(&pair[1], 1, false);
    negotiate(pair);
    RUN_UNTIL(pair[0].heard == 1 && pair[1].heard == 1);
    dp_pc *callee = dp_runner_pc(pair[1].runner);
    assert_int_equal(dp_pc_restart_ice(callee), DP_OK);
    assert_int_equal(dp_pc_create_offer(callee, dp_loop_now(loop), offer, SDP, &len), DP_OK);
    dp_runner_wake(pair[1].runner);
    dp_time until = dp_clock_now() + DP_SECONDS(45);
    RUN_UNTIL(dp_clock_now() >= until);
    assert_int_equal(pair[0].disconnected + pair[1].disconnected, 0);
    say(&pair[0]);
    say(&pair[1]);
    RUN_UNTIL(pair[0].heard == 2 && pair[1].heard == 2);
    close_end(&pair[0]);
    close_end(&pair[1]);
}

static void ignore_stream(void *user, dp_tcp *tcp, int error, const char *reason)
{
    bool *closed = user;
    (void)error;
    (void)reason;
    *closed = true;
    dp_tcp_close(tcp);
}

/* Where no UDP gets through: many connections on one TCP port, and strangers who say nothing that makes sense. */
static void streams_find_their_connections(void **state)
{
    (void)state;
    enum { STRANGERS = 40, CONNECTIONS = 5 };
    static const char *const first[] = {"127.0.0.1", NULL};
    by_tcp = true;
    network *there = network_on(first, 0, 0), *here = network_on(first, 0, 0);
    mux *callees;
    assert_int_equal(dp_mux_new(&callees, here, 0), DP_OK);
    dp_tcp *strangers[STRANGERS];
    bool closed[STRANGERS] = {false};
    for (int i = 0; i < STRANGERS; i++) {
        static const uint8_t junk[] = {0, 4, 1, 2, 3, 4, 0xff, 0xff};
        dp_tcp_handler handler = {.on_closed = ignore_stream, .user = &closed[i]};
        assert_int_equal(
            dp_tcp_connect(&strangers[i], loop, "127.0.0.1", dp_mux_port(callees), DP_SECONDS(9), &handler),
            DP_OK);
        if (i % 2 == 0)
            assert_int_equal(dp_tcp_send(strangers[i], junk + i % 4, sizeof(junk) - 4), DP_OK);
    }
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        assert_int_equal(dp_mux_new(&ends[i][0].own_mux, there, 0), DP_OK);
        mux *own = ends[i][0].own_mux;
        open_end_on(&ends[i][0], i, there, own);
        ends[i][0].own_mux = own;
        open_end_on(&ends[i][1], i, here, callees);
        negotiate(ends[i]);
    }
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        RUN_UNTIL(ends[i][0].heard == 1 && ends[i][1].heard == 1);
        assert_false(ends[i][0].wrong || ends[i][1].wrong);
    }
    step = DP_MS(5); /* silent strangers have 5 s */
    for (int i = 0; i < STRANGERS; i++)
        RUN_UNTIL(closed[i]);
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        say(&ends[i][0]);
        say(&ends[i][1]);
        RUN_UNTIL(ends[i][0].heard == 2 && ends[i][1].heard == 2);
        close_end(&ends[i][0]);
        close_end(&ends[i][1]);
    }
    dp_mux_free(callees);
    dp_network_free(there);
    dp_network_free(here);
}

/* Started at boot, before there is a network. */
static void waits_for_the_first_address(void **state)
{
    (void)state;
    static const char *const none[] = {NULL};
    network *n = network_on(none, 0, 0);
    mux *any, *fixed;
    assert_int_equal(dp_mux_new(&any, n, 0), DP_OK);
    assert_int_equal(dp_mux_port(any), 0);
    assert_int_equal(dp_mux_new(&fixed, n, dp_mux_port(shared)), DP_OK);
    open_end_on(&ends[0][0], 1, n, any);
    static char offer[SDP];
    size_t len;
    assert_int_equal(dp_pc_create_offer(dp_runner_pc(ends[0][0].runner), dp_loop_now(loop), offer, SDP, &len),
                     DP_OK);
    assert_null(strstr(offer, "a=candidate"));
    set_addresses(n, "127.0.0.2", NULL);
    assert_true(dp_mux_port(any) != 0 && has_socket(any, "127.0.0.2"));
    assert_true(has_socket(fixed, "127.0.0.2"));
    RUN_UNTIL(strstr(ends[0][0].candidates, "127.0.0.2") != NULL);
    close_end(&ends[0][0]);
    dp_mux_free(any);
    dp_mux_free(fixed);
    dp_network_free(n);
}

/* Somebody else has our port on the new address: another one is better than none. */
static void takes_another_port_where_its_own_is_taken(void **state)
{
    (void)state;
    static const char *const first[] = {"127.0.0.1", NULL};
    network *n = network_on(first, 0, 0);
    mux *m;
    dp_udp *squatter;
    dp_udp_handler handler = {.on_packets = ignore_packets};
    dp_address taken;
    assert_int_equal(dp_mux_new(&m, n, 0), DP_OK);
    assert_int_equal(dp_address_parse(&taken, "127.0.0.2", dp_mux_port(m)), DP_OK);
    assert_int_equal(dp_udp_open(&squatter, loop, &taken, &handler), DP_OK);
    set_addresses(n, "127.0.0.1", "127.0.0.2");
    assert_false(has_socket(m, "127.0.0.2"));
    open_end_on(&ends[0][0], 1, n, m);
    static char offer[SDP];
    size_t len;
    assert_int_equal(dp_pc_create_offer(dp_runner_pc(ends[0][0].runner), dp_loop_now(loop), offer, SDP, &len),
                     DP_OK);
    assert_non_null(strstr(offer, " 127.0.0.2 "));
    close_end(&ends[0][0]);
    dp_udp_close(squatter);
    dp_mux_free(m);
    dp_network_free(n);
}

static void keeps_to_its_range_and_addresses(void **state)
{
    (void)state;
    enum { RANGE = 3 };
    static const char *const two[] = {"127.0.0.1", "127.0.0.2", NULL};
    unsigned made = 0;
    for (uint16_t from = 42000; made < RANGE && from < 43000; from = (uint16_t)(from + 10)) {
        network *n = network_on(two, from, from + RANGE - 1);
        mux *muxes[RANGE], *more;
        made = 0; /* somebody may have a port of this range: then the next range */
        while (made < RANGE && dp_mux_new(&muxes[made], n, 0) == DP_OK &&
               has_socket(muxes[made], "127.0.0.2"))
            made++;
        for (unsigned i = 0; made == RANGE && i < RANGE; i++) {
            uint16_t port = dp_mux_port(muxes[i]);
            assert_true(port >= from && port < from + RANGE);
            assert_true(port != dp_mux_port(muxes[(i + 1) % RANGE]));
        }
        if (made == RANGE)
            assert_int_equal(dp_mux_new(&more, n, 0), DP_ERR_IO);
        while (n->muxes != NULL)
            dp_mux_free(n->muxes);
        dp_network_free(n);
    }
    assert_int_equal(made, RANGE);

    dp_address only, elsewhere;
    assert_int_equal(dp_address_parse(&only, "127.0.0.1", 9), DP_OK);
    assert_int_equal(dp_address_parse(&elsewhere, "192.0.2.1", 0), DP_OK);
    network_config config = {.loop = loop, .random = source, .bind_addresses = &only, .bind_count = 1};
    network *n;
    assert_int_equal(dp_network_new(&n, &config), DP_OK);
    assert_int_equal(n->address_count, 1);
    assert_int_equal(n->addresses[0].ip[0], 127);
    dp_network_free(n);
    config.bind_addresses = &elsewhere;
    assert_int_equal(dp_network_new(&n, &config), DP_OK);
    assert_int_equal(n->address_count, 0);
    dp_network_free(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_connection_hears_its_own_peer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_new_connection_takes_the_route_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(strangers_get_no_route, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_taken_port_is_an_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_connection_follows_the_addresses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_restart_leaves_the_old_path_alive, set_up, tear_down),
        cmocka_unit_test_setup_teardown(streams_find_their_connections, set_up, tear_down),
        cmocka_unit_test_setup_teardown(waits_for_the_first_address, set_up, tear_down),
        cmocka_unit_test_setup_teardown(takes_another_port_where_its_own_is_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keeps_to_its_range_and_addresses, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("mux", tests, NULL, NULL);
}
