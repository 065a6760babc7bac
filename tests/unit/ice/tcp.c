/* ICE-TCP (RFC 6544): an agent that connects, one that listens, and the streams between them, cut anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "testnet.h"

enum { PIPES = 24, PIPE_SIZE = 65536 };

typedef struct pipe_end {
    unsigned who; /* whose link it is */
    uint32_t link;
} pipe_end;

/* One TCP connection: what ends[i] has written waits in bytes[i]. */
typedef struct tcp_pipe {
    bool open;
    pipe_end ends[2];
    dp_address addresses[2];
    size_t len[2];
    uint8_t bytes[2][PIPE_SIZE];
} tcp_pipe;

typedef struct world {
    dp_time now;
    dp_ice *ice[2];
    uint64_t seed[2];
    dp_address listener; /* of node 1 */
    bool refuse;         /* no connection is accepted */
    bool mute[2];        /* its candidates don't reach the other */
    size_t piece;        /* bytes that a read gives at most */
    uint16_t next_port;
    tcp_pipe *pipes;
    size_t pipe_count;
    unsigned udp_sent;
    unsigned opened;
    unsigned closed[2]; /* LINK_CLOSE events */
    unsigned accepted;
    dp_ice_state state[2];
    char candidates[2][8][DP_CANDIDATE_TEXT_MAX];
    size_t candidate_count[2];
    char received[2][64];
} world;

static void world_new(world *w, bool tcp)
{
    memset(w, 0, sizeof *w);
    w->now = DP_SECONDS(1000);
    w->piece = PIPE_SIZE;
    w->next_port = 50000;
    w->pipes = calloc(PIPES, sizeof *w->pipes);
    assert_non_null(w->pipes);
    for (unsigned i = 0; i < 2; i++) {
        w->seed[i] = i + 7;
        dp_ice_config config = {.size = sizeof config,
                                .random = {test_random_fn, &w->seed[i]},
                                .role = i == 0 ? DP_ICE_CONTROLLING : DP_ICE_CONTROLLED,
                                .tcp = tcp};
        assert_int_equal(dp_ice_new(&w->ice[i], &config), DP_OK);
    }
    dp_address a = addr("10.0.0.1", 4000);
    dp_address b = addr("10.0.0.2", 4000);
    w->listener = addr("10.0.0.2", 4000); /* the port of the UDP socket, too */
    assert_int_equal(dp_ice_add_local_address(w->ice[0], w->now, &a), DP_OK);
    assert_int_equal(dp_ice_add_local_address(w->ice[1], w->now, &b), DP_OK);
    assert_int_equal(dp_ice_add_local_listener(w->ice[1], w->now, &w->listener), DP_OK);
}

static void world_free(world *w)
{
    dp_ice_free(w->ice[0]);
    dp_ice_free(w->ice[1]);
    free(w->pipes);
}

static tcp_pipe *pipe_of(world *w, unsigned who, uint32_t link, unsigned *side)
{
    for (size_t i = 0; i < w->pipe_count; i++) {
        for (*side = 0; *side < 2; (*side)++) {
            const pipe_end *end = &w->pipes[i].ends[*side];
            if (w->pipes[i].open && end->who == who && end->link == link)
                return &w->pipes[i];
        }
    }
    return NULL;
}

static void connect_link(world *w, unsigned who, const dp_ice_link *link)
{
    w->opened++;
    assert_int_equal(link->transport, DP_ICE_TCP);
    assert_int_equal(link->local.port, 0);
    dp_address from = link->local;
    from.port = w->next_port++;
    uint32_t id = 0;
    if (who == 0 && !w->refuse && dp_address_equal(&link->remote, &w->listener))
        id = dp_ice_link_accepted(w->ice[1], w->now, &w->listener, &from);
    if (id == 0) {
        dp_ice_link_closed(w->ice[who], w->now, link->id);
        return;
    }
    assert_true(w->pipe_count < PIPES);
    w->accepted++;
    tcp_pipe *p = &w->pipes[w->pipe_count++];
    p->open = true;
    p->ends[0] = (pipe_end){who, link->id};
    p->ends[1] = (pipe_end){1, id};
    dp_ice_link_opened(w->ice[who], w->now, link->id);
}

/* side has closed it: the other end hears of it. */
static void close_pipe(world *w, tcp_pipe *p, unsigned side)
{
    p->open = false;
    const pipe_end *other = &p->ends[1 - side];
    dp_ice_link_closed(w->ice[other->who], w->now, other->link);
}

static void on_event(world *w, unsigned who, const dp_ice_event *event)
{
    unsigned side;
    tcp_pipe *p;
    switch (event->type) {
    case DP_ICE_EVENT_LOCAL_CANDIDATE:
        (void)snprintf(w->candidates[who][w->candidate_count[who]++], DP_CANDIDATE_TEXT_MAX, "%s",
                       event->candidate);
        if (!w->mute[who])
            assert_int_equal(dp_ice_add_remote_candidate(w->ice[1 - who], w->now, event->candidate), DP_OK);
        break;
    case DP_ICE_EVENT_STATE:
        w->state[who] = event->state;
        break;
    case DP_ICE_EVENT_LINK_OPEN:
        connect_link(w, who, &event->link);
        break;
    case DP_ICE_EVENT_LINK_CLOSE:
        w->closed[who]++;
        p = pipe_of(w, who, event->link.id, &side);
        if (p != NULL)
            close_pipe(w, p, side);
        break;
    default:
        break;
    }
}

static void write_link(world *w, unsigned who, const dp_datagram *d)
{
    unsigned side;
    tcp_pipe *p = pipe_of(w, who, d->link, &side);
    if (p == NULL)
        return;
    assert_true(p->len[side] + d->length <= PIPE_SIZE);
    memcpy(p->bytes[side] + p->len[side], d->data, d->length);
    p->len[side] += d->length;
}

static void read_pipe(world *w, tcp_pipe *p, unsigned side)
{
    const pipe_end *reader = &p->ends[1 - side];
    while (p->open && p->len[side] > 0) {
        dp_ice_payload payload;
        size_t n = p->len[side] < w->piece ? p->len[side] : w->piece;
        uint8_t *exact = malloc(n);
        memcpy(exact, p->bytes[side], n);
        size_t taken = dp_ice_link_input(w->ice[reader->who], w->now, reader->link, exact, n, &payload);
        assert_in_range(taken, 1, n);
        if (payload.len > 0)
            (void)snprintf(w->received[reader->who], sizeof w->received[0], "%.*s", (int)payload.len,
                           (const char *)payload.data);
        free(exact);
        p->len[side] -= taken;
        memmove(p->bytes[side], p->bytes[side] + taken, p->len[side]);
    }
}

/* No UDP datagram arrives anywhere. */
static void pump(world *w)
{
    for (unsigned pass = 0; pass < 12; pass++) {
        unsigned i = pass % 2;
        uint8_t data[DP_DATAGRAM_MAX];
        dp_datagram d = {.data = data, .capacity = sizeof data};
        dp_ice_event event;
        while (dp_ice_poll_event(w->ice[i], &event))
            on_event(w, i, &event);
        while (dp_ice_poll_transmit(w->ice[i], w->now, &d)) {
            if (d.link != 0)
                write_link(w, i, &d);
            else
                w->udp_sent++;
        }
        for (size_t k = 0; k < w->pipe_count; k++) {
            read_pipe(w, &w->pipes[k], 0);
            read_pipe(w, &w->pipes[k], 1);
        }
    }
}

static void run(world *w, dp_duration span)
{
    dp_time end = w->now + span;
    pump(w);
    while (w->now < end) {
        w->now += DP_MS(10);
        for (unsigned i = 0; i < 2; i++) {
            if (dp_ice_next_timeout(w->ice[i]) <= w->now)
                dp_ice_handle_timeout(w->ice[i], w->now);
        }
        pump(w);
    }
}

static void start(world *w)
{
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(dp_ice_gather(w->ice[i], w->now), DP_OK);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(dp_ice_set_remote_credentials(w->ice[i], w->now, dp_ice_local_ufrag(w->ice[1 - i]),
                                                       dp_ice_local_pwd(w->ice[1 - i])),
                         DP_OK);
}

static void say(world *w, unsigned who, const char *text)
{
    uint8_t data[DP_DATAGRAM_MAX];
    dp_datagram d = {.data = data, .capacity = sizeof data};
    size_t headroom;
    assert_true(dp_ice_send_begin(w->ice[who], &d, &headroom));
    assert_true(headroom <= DP_ICE_HEADROOM_MAX);
    memcpy(d.data + headroom, text, strlen(text));
    d.length = strlen(text);
    dp_ice_send_end(w->ice[who], &d, headroom);
    assert_int_not_equal(d.link, 0);
    write_link(w, who, &d);
    pump(w);
    assert_string_equal(w->received[1 - who], text);
}

static void tcp_is_found_where_udp_is_blocked(void **state)
{
    (void)state;
    for (size_t piece = 1; piece <= PIPE_SIZE; piece *= 7) {
        world w;
        world_new(&w, true);
        w.piece = piece;
        start(&w);
        run(&w, DP_SECONDS(3));
        assert_int_equal(w.state[0], DP_ICE_COMPLETED);
        assert_int_equal(w.state[1], DP_ICE_COMPLETED);
        assert_int_equal(w.accepted, 1);
        assert_true(w.udp_sent > 0);
        say(&w, 0, "to the listener");
        say(&w, 1, "and back");
        run(&w, DP_SECONDS(60)); /* consent goes through the stream */
        assert_int_equal(w.state[0], DP_ICE_COMPLETED);
        world_free(&w);
    }
}

static void the_candidates_say_it(void **state)
{
    (void)state;
    world w;
    world_new(&w, true);
    start(&w);
    pump(&w);
    unsigned active = 0;
    unsigned passive = 0;
    for (unsigned i = 0; i < 2; i++) {
        for (size_t k = 0; k < w.candidate_count[i]; k++) {
            dp_candidate c;
            const char *text = w.candidates[i][k];
            assert_int_equal(dp_candidate_parse(&c, text, strlen(text)), DP_OK);
            assert_true(c.tcp == (strstr(text, " tcp ") != NULL));
            active += strstr(text, " 9 typ host tcptype active") != NULL && c.tcptype == DP_TCPTYPE_ACTIVE;
            passive += strstr(text, "10.0.0.2 4000 typ host tcptype passive") != NULL;
            assert_true(c.priority >> 24 == (c.tcp ? 90 : 126));
        }
    }
    assert_int_equal(active, 2); /* one for each IP address */
    assert_int_equal(passive, 1);
    world_free(&w);
}

static void without_the_option_there_is_none(void **state)
{
    (void)state;
    world w;
    world_new(&w, false);
    start(&w);
    run(&w, DP_SECONDS(40));
    assert_int_equal(w.opened, 0);
    assert_int_equal(w.state[0], DP_ICE_FAILED);
    world_free(&w);
}

static void refused_connection_fails_the_pair(void **state)
{
    (void)state;
    world w;
    world_new(&w, true);
    w.refuse = true;
    start(&w);
    run(&w, DP_SECONDS(40));
    assert_int_equal(w.state[0], DP_ICE_FAILED);
    assert_in_range(w.opened, 1, 2); /* not again and again */
    world_free(&w);
}

static void a_closed_stream_is_connected_anew(void **state)
{
    (void)state;
    world w;
    world_new(&w, true);
    start(&w);
    run(&w, DP_SECONDS(3));
    assert_int_equal(w.state[0], DP_ICE_COMPLETED);
    w.pipes[0].open = false; /* a router has forgotten it: both ends hear of it */
    dp_ice_link_closed(w.ice[0], w.now, w.pipes[0].ends[0].link);
    dp_ice_link_closed(w.ice[1], w.now, w.pipes[0].ends[1].link);
    dp_ice_event event;
    while (dp_ice_poll_event(w.ice[0], &event))
        on_event(&w, 0, &event);
    assert_int_equal(w.state[0], DP_ICE_DISCONNECTED);
    run(&w, DP_SECONDS(6));
    assert_int_equal(w.accepted, 2);
    assert_int_equal(w.state[0], DP_ICE_COMPLETED);
    assert_int_equal(w.state[1], DP_ICE_COMPLETED);
    say(&w, 0, "again");
    world_free(&w);
}

static void garbage_ends_the_stream(void **state)
{
    (void)state;
    world w;
    world_new(&w, true);
    start(&w);
    run(&w, DP_SECONDS(3));
    uint8_t huge[] = {0xFF, 0xFF, 1, 2, 3};
    dp_ice_payload payload;
    assert_int_equal(dp_ice_link_input(w.ice[1], w.now, w.pipes[0].ends[1].link, huge, sizeof huge, &payload),
                     sizeof huge);
    assert_int_equal(payload.len, 0);
    pump(&w);
    assert_int_equal(w.closed[1], 1); /* and the owner is told to close it */
    world_free(&w);
}

static uint32_t accept_stranger(world *w, unsigned index)
{
    dp_address from = addr("10.0.0.66", (uint16_t)(1000 + index));
    uint32_t link = dp_ice_link_accepted(w->ice[1], w->now, &w->listener, &from);
    uint8_t data[] = {0, 4, 20, 21, 22, 23}; /* data, where no check came */
    dp_ice_payload payload = {0};
    if (link != 0)
        (void)dp_ice_link_input(w->ice[1], w->now, link, data, sizeof data, &payload);
    assert_int_equal(payload.len, 0);
    return link;
}

/* A port of the peer's NAT that is another one's now: the new stream has to prove itself, too. */
static void another_stream_from_the_same_address(void **state)
{
    (void)state;
    world w;
    world_new(&w, true);
    start(&w);
    run(&w, DP_SECONDS(3));
    assert_int_equal(w.state[1], DP_ICE_COMPLETED);
    say(&w, 0, "hello");
    dp_address from = addr("10.0.0.1", 50000); /* the first that connect_link gave out */
    uint32_t link = dp_ice_link_accepted(w.ice[1], w.now, &w.listener, &from);
    assert_int_not_equal(link, 0);
    uint8_t data[] = {0, 4, 20, 21, 22, 23};
    dp_ice_payload payload;
    (void)dp_ice_link_input(w.ice[1], w.now, link, data, sizeof data, &payload);
    assert_int_equal(payload.len, 0);
    size_t headroom;
    dp_datagram d = {.data = data, .capacity = sizeof data};
    assert_false(dp_ice_send_begin(w.ice[1], &d, &headroom));
    pump(&w);
    assert_int_equal(w.closed[1], 1); /* the old one */
    run(&w, DP_SECONDS(6));           /* node 0 has heard of its end and has connected again */
    assert_int_equal(w.state[1], DP_ICE_COMPLETED);
    world_free(&w);
}

/* Streams of strangers: they are given to an agent because they name its ufrag, which anybody on the path can read. */
static void strangers_get_no_further(void **state)
{
    (void)state;
    world w;
    world_new(&w, true);
    w.mute[1] = true; /* node 0 does not connect */
    start(&w);
    pump(&w);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_not_equal(accept_stranger(&w, i), 0);
        pump(&w);
        assert_int_equal(w.closed[1], i < DP_ICE_MAX_STREAMS ? 0 : i + 1 - DP_ICE_MAX_STREAMS);
    }
    dp_address elsewhere = addr("10.0.0.3", 4000);
    assert_int_equal(dp_ice_link_accepted(w.ice[1], w.now, &elsewhere, &elsewhere), 0);
    dp_ice_close(w.ice[1]);
    pump(&w);
    assert_int_equal(w.closed[1], 100); /* each once */
    world_free(&w);
}

/* However many there are, silent and for ever: the peer gets in, and stays. */
static void strangers_keep_nobody_out(void **state)
{
    (void)state;
    world w;
    world_new(&w, true);
    start(&w);
    for (unsigned i = 0; i < DP_ICE_MAX_STREAMS; i++)
        assert_int_not_equal(accept_stranger(&w, i), 0);
    run(&w, DP_SECONDS(3));
    assert_int_equal(w.state[0], DP_ICE_COMPLETED);
    assert_int_equal(w.state[1], DP_ICE_COMPLETED);
    assert_int_equal(w.accepted, 1);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_not_equal(accept_stranger(&w, 100 + i), 0);
        pump(&w);
    }
    say(&w, 0, "still here");
    say(&w, 1, "so am I");
    for (unsigned k = 0; k < 2; k++)
        assert_int_equal(dp_ice_restart(w.ice[k], w.now), DP_OK);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_not_equal(accept_stranger(&w, 300 + i), 0);
        pump(&w);
    }
    say(&w, 1, "on the path of before");
    world_free(&w);
}

/* Nor do they end the connections that we make. */
static void strangers_end_no_connection_of_ours(void **state)
{
    (void)state;
    world w;
    dp_ice_event event;
    uint32_t ours = 0;
    world_new(&w, true);
    w.mute[0] = w.mute[1] = true;
    start(&w);
    pump(&w);
    assert_int_equal(dp_ice_add_remote_candidate(
                         w.ice[1], w.now, "candidate:1 1 tcp 9 10.0.0.9 5000 typ host tcptype passive"),
                     DP_OK);
    for (unsigned i = 0; i < 100 && ours == 0; i++) {
        w.now += DP_MS(50);
        dp_ice_handle_timeout(w.ice[1], w.now);
        while (dp_ice_poll_event(w.ice[1], &event))
            ours = event.type == DP_ICE_EVENT_LINK_OPEN ? event.link.id : ours;
    }
    assert_int_not_equal(ours, 0);
    dp_ice_link_opened(w.ice[1], w.now, ours);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_not_equal(accept_stranger(&w, i), 0);
        while (dp_ice_poll_event(w.ice[1], &event))
            assert_true(event.type != DP_ICE_EVENT_LINK_CLOSE || event.link.id != ours);
    }
    world_free(&w);
}

/* Accepts and restarts without an event fetched between them: the end of each stream is told all the same. */
static void no_end_is_lost(void **state)
{
    (void)state;
    world w;
    world_new(&w, true);
    start(&w);
    pump(&w);
    unsigned taken = 0;
    unsigned closed = w.closed[1];
    for (unsigned i = 0; i < 100; i++) {
        taken += accept_stranger(&w, i) != 0;
        if (i % 10 == 9)
            assert_int_equal(dp_ice_restart(w.ice[1], w.now), DP_OK);
    }
    dp_ice_close(w.ice[1]);
    pump(&w);
    assert_in_range(taken, DP_ICE_MAX_STREAMS, 2 * DP_ICE_MAX_STREAMS);
    assert_int_equal(w.closed[1] - closed, taken + w.accepted);
    world_free(&w);
}

/* Its streams may be nobody's yet; none must outlive it, and be taken for one of the socket that gets its place. */
static void a_listener_takes_its_streams_along(void **state)
{
    (void)state;
    world w;
    world_new(&w, true);
    w.mute[1] = true;
    start(&w);
    pump(&w);
    for (unsigned i = 0; i < 3; i++)
        assert_int_not_equal(accept_stranger(&w, i), 0);
    assert_int_equal(dp_ice_remove_local_address(w.ice[1], w.now, &w.listener), DP_OK);
    pump(&w);
    assert_int_equal(w.closed[1], 3);
    for (size_t i = 0; i < DP_ICE_MAX_STREAMS; i++)
        assert_int_equal(w.ice[1]->streams[i].link, 0);
    world_free(&w);
}

/* A connection is a burden, too: whoever has never answered is spared it with the checks (amplification.c). */
static void none_is_made_without_a_check(void **state)
{
    (void)state;
    world w;
    world_new(&w, true);
    w.refuse = true;
    start(&w);
    pump(&w);
    assert_true(w.ice[0]->remote_count > 0);
    for (size_t i = 0; i < w.ice[0]->remote_count; i++)
        w.ice[0]->remotes[i].unanswered = DP_ICE_MAX_UNANSWERED;
    run(&w, DP_SECONDS(3));
    assert_int_equal(w.opened, 0);
    world_free(&w);
}

static void a_restart_keeps_the_stream_in_use(void **state)
{
    (void)state;
    world w;
    world_new(&w, true);
    start(&w);
    run(&w, DP_SECONDS(3));
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(dp_ice_restart(w.ice[i], w.now), DP_OK);
    say(&w, 0, "meanwhile");
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(dp_ice_set_remote_credentials(w.ice[i], w.now, dp_ice_local_ufrag(w.ice[1 - i]),
                                                       dp_ice_local_pwd(w.ice[1 - i])),
                         DP_OK);
    run(&w, DP_SECONDS(3));
    assert_int_equal(w.state[0], DP_ICE_COMPLETED);
    assert_int_equal(w.state[1], DP_ICE_COMPLETED);
    say(&w, 1, "afterwards");
    world_free(&w);
}

/* The stream of before is of no use once its path has ended, unless the new session has it, too. */
static void an_old_stream_ends_with_its_path(void **state)
{
    (void)state;
    for (unsigned in_use = 0; in_use < 2; in_use++) {
        world w;
        world_new(&w, true);
        start(&w);
        run(&w, DP_SECONDS(3));
        w.mute[1] = in_use == 0; /* node 0 learns of no TCP port */
        for (unsigned i = 0; i < 2; i++) {
            w.candidate_count[i] = 0;
            assert_int_equal(dp_ice_restart(w.ice[i], w.now), DP_OK);
        }
        for (unsigned i = 0; i < 2; i++)
            assert_int_equal(dp_ice_set_remote_credentials(w.ice[i], w.now, dp_ice_local_ufrag(w.ice[1 - i]),
                                                           dp_ice_local_pwd(w.ice[1 - i])),
                             DP_OK);
        pump(&w);
        assert_true(dp_ice_previous_alive(w.ice[0]));
        dp_ice_previous_end(w.ice[0], w.now);
        pump(&w);
        assert_int_equal(w.closed[0], in_use == 0 ? 1 : 0);
        world_free(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tcp_is_found_where_udp_is_blocked),
        cmocka_unit_test(the_candidates_say_it),
        cmocka_unit_test(without_the_option_there_is_none),
        cmocka_unit_test(refused_connection_fails_the_pair),
        cmocka_unit_test(a_closed_stream_is_connected_anew),
        cmocka_unit_test(garbage_ends_the_stream),
        cmocka_unit_test(another_stream_from_the_same_address),
        cmocka_unit_test(strangers_get_no_further),
        cmocka_unit_test(strangers_keep_nobody_out),
        cmocka_unit_test(strangers_end_no_connection_of_ours),
        cmocka_unit_test(no_end_is_lost),
        cmocka_unit_test(a_listener_takes_its_streams_along),
        cmocka_unit_test(none_is_made_without_a_check),
        cmocka_unit_test(a_restart_keeps_the_stream_in_use),
        cmocka_unit_test(an_old_stream_ends_with_its_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
