/* Path MTU discovery: the search alone, and between two associations. */
#include "sctp/path_mtu.h"

#include "pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define BASE 1160u

/* ---- the search alone -------------------------------------------------------------------------- */

static dp_path_mtu path;
static dp_time now;
static unsigned probes;

/* The link takes packets up to mtu; until the search stands still. Every size has a nonce of its own. */
static void search(size_t mtu)
{
    size_t size;
    bool fresh;
    while (path.state == DP_PATH_MTU_SEARCHING) {
        if (dp_path_mtu_poll(&path, now, &size, &fresh)) {
            assert_int_equal(size % 4, 0);
            assert_true(size > path.current && size <= path.ceiling);
            probes++;
            if (fresh)
                memset(path.nonce, (int)probes, sizeof path.nonce);
            uint8_t nonce[DP_PATH_MTU_NONCE];
            memcpy(nonce, path.nonce, sizeof nonce);
            if (size <= mtu)
                assert_true(dp_path_mtu_acked(&path, now, nonce, sizeof nonce));
        }
        now += DP_MS(100);
    }
}

static void begin(size_t ceiling)
{
    now = DP_SECONDS(100);
    probes = 0;
    dp_path_mtu_init(&path, BASE);
    dp_path_mtu_set_ceiling(&path, now, ceiling);
}

static void test_sizes_found(void **state)
{
    (void)state;
    static const struct {
        size_t ceiling, mtu, found;
        unsigned probes;
    } cases[] = {
        {16384, 16384, 16384, 1}, /* what the interface takes is tried first */
        {1423, 9000, 1420, 1},    /* in whole words */
        {1432, 1416, 1412, 6},    /* 1500 is lost (3), then found among the links: 1400 or so, 1480... */
        {16384, 1432, 1412, 11},  /* a jumbo interface */
        {1432, 1000, BASE, 15},   /* nothing passes */
        {BASE, 9000, BASE, 0},    /* nothing to gain */
        {0, 9000, BASE, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin(cases[i].ceiling);
        search(cases[i].mtu);
        assert_true(path.current <= cases[i].mtu || path.current == BASE);
        assert_int_equal(path.current, cases[i].found);
        assert_int_equal(probes, cases[i].probes);
    }
}

static void test_three_probes_a_second_apart(void **state)
{
    (void)state;
    size_t size;
    bool fresh;
    begin(1432);
    for (int i = 0; i < 3; i++) {
        assert_true(dp_path_mtu_poll(&path, now, &size, &fresh));
        assert_int_equal(size, 1432);
        assert_int_equal(fresh, i == 0);
        assert_false(dp_path_mtu_poll(&path, now + DP_SECONDS(1) - 1, &size, &fresh));
        now += DP_SECONDS(1);
    }
    assert_true(dp_path_mtu_poll(&path, now, &size, &fresh));
    assert_true(size < 1432 && fresh);
}

static void test_forged_answers(void **state)
{
    (void)state;
    size_t size;
    bool fresh;
    uint8_t nonce[DP_PATH_MTU_NONCE] = {0};
    begin(1432);
    assert_false(dp_path_mtu_acked(&path, now, nonce, sizeof nonce)); /* nothing was sent yet */
    assert_true(dp_path_mtu_poll(&path, now, &size, &fresh));
    memset(path.nonce, 7, sizeof path.nonce);
    memset(nonce, 7, sizeof nonce);
    assert_false(dp_path_mtu_acked(&path, now, nonce, sizeof nonce - 1));
    nonce[15] = 8;
    assert_false(dp_path_mtu_acked(&path, now, nonce, sizeof nonce));
    assert_int_equal(path.current, BASE);
    nonce[15] = 7;
    assert_true(dp_path_mtu_acked(&path, now, nonce, sizeof nonce));
    assert_false(dp_path_mtu_acked(&path, now, nonce, sizeof nonce)); /* again */
    assert_int_equal(path.current, 1432);
}

/* A ceiling that rises begins the search again only if that can find more: what has failed goes on failing. */
static void test_raised_ceiling(void **state)
{
    (void)state;
    begin(1432);
    search(9000);
    dp_path_mtu_raise_ceiling(&path, now, 1435); /* no whole word more */
    assert_int_equal(path.state, DP_PATH_MTU_COMPLETE);
    dp_path_mtu_raise_ceiling(&path, now, 8900);
    assert_int_equal(path.state, DP_PATH_MTU_SEARCHING);
    search(9000);
    assert_int_equal(path.current, 8900);

    begin(1432);
    search(1416);
    assert_int_equal(path.current, 1412);
    dp_path_mtu_raise_ceiling(&path, now, 8900);
    assert_int_equal(path.state, DP_PATH_MTU_COMPLETE);

    size_t size;
    bool fresh;
    begin(1432);
    for (int i = 0; i < 4; i++, now += DP_SECONDS(1))
        assert_true(dp_path_mtu_poll(&path, now, &size, &fresh));
    size_t second = size;
    assert_true(second < 1432);
    dp_path_mtu_raise_ceiling(&path, now, 8900);
    assert_true(dp_path_mtu_poll(&path, now, &size, &fresh));
    assert_int_equal(size, second);
}

static void test_raise_timer(void **state)
{
    (void)state;
    size_t size;
    bool fresh;
    begin(1432);
    search(1300);
    assert_int_equal(path.state, DP_PATH_MTU_COMPLETE);
    size_t found = path.current;
    assert_false(dp_path_mtu_poll(&path, now + DP_SECONDS(598), &size, &fresh));
    now += DP_SECONDS(600);
    assert_true(dp_path_mtu_poll(&path, now, &size, &fresh));
    assert_int_equal(size, 1432);
    assert_int_equal(path.current, found);
    memset(path.nonce, 99, sizeof path.nonce);
    uint8_t nonce[DP_PATH_MTU_NONCE];
    memset(nonce, 99, sizeof nonce);
    assert_true(dp_path_mtu_acked(&path, now, nonce, sizeof nonce));
    assert_int_equal(path.current, 1432);
    now += DP_SECONDS(700);
    assert_false(dp_path_mtu_poll(&path, now, &size, &fresh)); /* it can't be larger */
}

static void test_black_hole_and_new_path(void **state)
{
    (void)state;
    begin(1432);
    search(9000);
    assert_false(dp_path_mtu_watch(&path, now, true));
    assert_false(dp_path_mtu_watch(&path, now + DP_SECONDS(3) - 1, false));
    assert_int_equal(path.current, 1432);
    assert_true(dp_path_mtu_watch(&path, now + DP_SECONDS(3), false));
    assert_int_equal(path.current, BASE);
    assert_int_equal(path.state, DP_PATH_MTU_SEARCHING);
    assert_false(dp_path_mtu_watch(&path, now + DP_SECONDS(99), false)); /* at the base there is no hole */
    now += DP_SECONDS(99);
    search(9000);
    assert_int_equal(path.current, 1432);
    dp_path_mtu_set_ceiling(&path, now, 0);
    assert_int_equal(path.current, BASE);
    assert_int_equal(path.state, DP_PATH_MTU_BASE);
}

/* ---- between two associations ------------------------------------------------------------------ */

static size_t opened, received;
static int closed_error;
static bool is_closed;
static dp_channel *channel;

static void on_event(pair *p, int end, const dp_sctp_event *event)
{
    (void)p;
    if (event->type == DP_SCTP_EVENT_CHANNEL_OPEN && end == 0)
        opened++;
    if (event->type == DP_SCTP_EVENT_CLOSED && end == 0) {
        is_closed = true;
        closed_error = event->error;
    }
    if (event->type != DP_SCTP_EVENT_MESSAGE)
        return;
    for (size_t i = 0; i < event->len; i++)
        assert_int_equal(event->data[i], (uint8_t)(received + i % 251));
    received++;
}

static bool is_open(pair *p) { return p != NULL && opened > 0; }

static void start_with(pair *p, size_t ceiling, size_t far_ceiling, size_t path_mtu)
{
    static const dp_channel_init init = DP_CHANNEL_INIT("");
    opened = received = 0;
    is_closed = false;
    pair_init(p, 7);
    p->on_event = on_event;
    p->path_mtu = path_mtu;
    dp_sctp_set_path(p->end[0], virtual_now, ceiling, 0);
    dp_sctp_set_path(p->end[1], virtual_now, far_ceiling, 0);
    assert_int_equal(dp_sctp_open_channel(p->end[0], &channel, virtual_now, &init), DP_OK);
    pair_start(p);
    assert_true(pair_run_until(p, is_open, DP_SECONDS(5)));
}

static void start(pair *p, size_t ceiling, size_t path_mtu) { start_with(p, ceiling, ceiling, path_mtu); }

static size_t handed;

static void hand_over_one(pair *p, size_t len)
{
    static uint8_t data[100000];
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(handed + i % 251);
    assert_int_equal(dp_channel_send(channel, virtual_now, data, len, true, true), DP_OK);
    handed++;
    pair_drain(p);
}

static void hand_over(pair *p, size_t count)
{
    for (size_t n = 0; n < count; n++)
        hand_over_one(p, 100000);
}

static bool all_received(pair *p) { return p != NULL && received == handed; }

static size_t mtu_of(pair *p)
{
    dp_sctp_stats stats;
    dp_sctp_get_stats(p->end[0], &stats);
    return stats.mtu;
}

static void transfer(pair *p, size_t count, dp_duration limit)
{
    p->largest = 0;
    hand_over(p, count);
    assert_true(pair_run_until(p, all_received, limit));
}

static void test_packets_grow(void **state)
{
    (void)state;
    pair p;
    handed = 0;
    start(&p, 16384, 0);
    pair_run(&p, DP_MS(50));
    assert_in_range(p.probes, 2, 4);
    assert_int_equal(mtu_of(&p), 16384);
    transfer(&p, 5, DP_SECONDS(5));
    assert_true(p.largest > 15000 && p.largest <= 16384);
    pair_clear(&p);
}

/* Messages that usrsctp could have whole are cut for the path, too. */
static void test_messages_are_cut_for_the_path(void **state)
{
    static const size_t ceilings[] = {1432, 8920};
    /* What is behind the last whole fragment is cut for the base. */
    static const uint64_t counts[] = {12, 8};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        pair p;
        handed = 0;
        start(&p, ceilings[i], 0);
        pair_run(&p, DP_SECONDS(1));
        assert_int_equal(mtu_of(&p), ceilings[i]);
        dp_sctp_stats before, after;
        dp_sctp_get_stats(p.end[0], &before);
        for (size_t n = 0; n < 30; n++) /* less than fills the window */
            hand_over_one(&p, 16384);
        assert_true(pair_run_until(&p, all_received, DP_SECONDS(5)));
        dp_sctp_get_stats(p.end[0], &after);
        uint64_t chunks = after.chunks_sent - before.chunks_sent;
        assert_int_equal(chunks, 30 * counts[i]);
        pair_clear(&p);
    }
}

/* The end of a message waits for the rest, for the sake of its size; but no message of another channel waits for that. */
static void test_another_channel_does_not_wait(void **state)
{
    static const dp_channel_init init = DP_CHANNEL_INIT("");
    (void)state;
    if (pair_sends_data)
        return; /* the end must come first */
    pair p;
    dp_channel *small;
    handed = 0;
    start(&p, 1432, 0);
    assert_int_equal(dp_sctp_open_channel(p.end[0], &small, virtual_now, &init), DP_OK);
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(mtu_of(&p), 1432);
    hand_over_one(&p, 16384);
    assert_in_range(dp_channel_buffered_amount(channel), 1, 1432);
    static const uint8_t bytes[] = {1, 2, 3};
    assert_int_equal(dp_channel_send(small, virtual_now, bytes, sizeof bytes, true, true), DP_OK);
    pair_drain(&p);
    assert_int_equal(dp_channel_buffered_amount(small), 0);
    pair_clear(&p);
}

/* Only one that probes itself is sent more than an Ethernet takes. */
static void test_ordinary_peer(void **state)
{
    (void)state;
    pair p;
    handed = 0;
    start_with(&p, 16384, 0, 0);
    pair_run(&p, DP_SECONDS(60));
    assert_int_equal(mtu_of(&p), 1432);
    pair_clear(&p);
}

static void test_packets_stay_without_answers(void **state)
{
    (void)state;
    pair p;
    handed = 0;
    start(&p, 9000, 1160);
    pair_run(&p, DP_SECONDS(60));
    assert_int_equal(mtu_of(&p), BASE);
    transfer(&p, 5, DP_SECONDS(5));
    assert_true(p.largest <= BASE);
    pair_clear(&p);
}

/* The path changes in the middle of a transfer to one that takes less. */
static void change(bool no_fragments, bool told)
{
    pair p;
    handed = 0;
    start(&p, 8920, 0);
    pair_run(&p, DP_MS(50));
    hand_over(&p, 8);
    pair_run(&p, DP_MS(8));
    assert_true(p.largest > 8000);
    p.path_mtu = 1340;
    p.no_fragments = no_fragments;
    if (told)
        dp_sctp_set_path(p.end[0], virtual_now, 1420, 0);
    if (no_fragments) {
        pair_run(&p, DP_SECONDS(4));
        assert_true(mtu_of(&p) <= BASE);
        p.no_fragments = false; /* what was cut for the old path needs them */
    }
    transfer(&p, 2, DP_SECONDS(30));
    pair_run(&p, DP_SECONDS(30));
    if (told || no_fragments) {
        assert_true(mtu_of(&p) > 1250 && mtu_of(&p) <= 1340);
        transfer(&p, 3, DP_SECONDS(30));
        assert_true(p.largest <= 1340);
    }
    pair_clear(&p);
}

static void test_another_path(void **state)
{
    (void)state;
    change(false, true);
}

static void test_black_hole(void **state)
{
    (void)state;
    change(true, false);
}

/* Small packets pass all the time, and usrsctp is told that the large one has, too. */
static void test_black_hole_for_large_ones(void **state)
{
    (void)state;
    pair p;
    handed = 0;
    start(&p, 8920, 0);
    pair_run(&p, DP_MS(50));
    transfer(&p, 1, DP_SECONDS(5));
    p.path_mtu = 1340;
    p.no_fragments = true;
    hand_over_one(&p, 5000);
    for (int i = 0; i < 200; i++) {
        hand_over_one(&p, 10);
        pair_run(&p, DP_MS(20));
    }
    assert_true(mtu_of(&p) <= BASE);
    p.no_fragments = false;
    assert_true(pair_run_until(&p, all_received, DP_SECONDS(10)));
    pair_clear(&p);
}

/* What was cut for the old path can never arrive: ten timeouts and 35 s later that is the end. */
static void test_no_way_for_large_ones(void **state)
{
    (void)state;
    pair p;
    handed = 0;
    start(&p, 8920, 0);
    pair_run(&p, DP_MS(50));
    transfer(&p, 1, DP_SECONDS(5));
    p.path_mtu = 1340;
    p.no_fragments = true;
    hand_over(&p, 1);
    pair_run(&p, DP_SECONDS(34));
    assert_false(is_closed);
    pair_run(&p, DP_SECONDS(26));
    assert_true(is_closed);
    assert_int_equal(closed_error, DP_ERR_TIMEOUT);
    pair_clear(&p);
}

/* Every fall is one more, and after so many the size stays. */
static void test_many_falls(void **state)
{
    (void)state;
    pair p;
    handed = 0;
    start(&p, 1420, 0);
    for (int i = 0; i < 50; i++) {
        pair_run(&p, DP_MS(300));
        transfer(&p, 1, DP_SECONDS(5));
        hand_over(&p, 1);
        dp_sctp_set_path(p.end[0], virtual_now, 1420, 0);
    }
    transfer(&p, 1, DP_SECONDS(5));
    assert_true(mtu_of(&p) < BASE && mtu_of(&p) > BASE - 200);
    pair_clear(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_found),
        cmocka_unit_test(test_three_probes_a_second_apart),
        cmocka_unit_test(test_forged_answers),
        cmocka_unit_test(test_raised_ceiling),
        cmocka_unit_test(test_raise_timer),
        cmocka_unit_test(test_black_hole_and_new_path),
        cmocka_unit_test(test_packets_grow),
        cmocka_unit_test(test_messages_are_cut_for_the_path),
        cmocka_unit_test(test_another_channel_does_not_wait),
        cmocka_unit_test(test_ordinary_peer),
        cmocka_unit_test(test_packets_stay_without_answers),
        cmocka_unit_test(test_another_path),
        cmocka_unit_test(test_black_hole),
        cmocka_unit_test(test_black_hole_for_large_ones),
        cmocka_unit_test(test_no_way_for_large_ones),
        cmocka_unit_test(test_many_falls),
    };
    return PAIR_RUN_BOTH_WAYS(tests);
}
