/* Two of our associations against each other in virtual time. */
#include "seen.h"

static const size_t sizes[] = {0, 1, 1159, 1160, 1161, 16300, 65536, BIG, 3, 2};
#define N_SIZES (sizeof sizes / sizeof sizes[0])

static bool all_messages(pair *p)
{
    (void)p;
    return saw[0].messages == N_SIZES && saw[1].messages == N_SIZES;
}

static void exchange(uint64_t seed, bool ordered, unsigned loss, unsigned reorder, unsigned duplicate)
{
    pair p;
    dp_channel *channel[2];
    channel[0] = up(&p, seed, ordered);
    channel[1] = saw[1].in[0];
    p.loss = loss;
    p.reorder = reorder;
    p.duplicate = duplicate;
    for (size_t i = 0; i < N_SIZES; i++)
        for (int end = 0; end < 2; end++)
            assert_int_equal(
                dp_channel_send(channel[end], virtual_now, make(sizes[i]), sizes[i], i % 2 == 0, false),
                DP_OK);
    assert_true(pair_run_until(&p, all_messages, DP_SECONDS(600)));
    for (int end = 0; end < 2; end++) {
        unsigned found = 0;
        for (size_t i = 0; i < N_SIZES; i++) {
            if (ordered)
                assert_int_equal(saw[end].lens[i], sizes[i]);
            for (size_t k = 0; k < N_SIZES; k++)
                if (saw[end].lens[i] == sizes[k])
                    found |= 1u << k;
        }
        assert_int_equal(found, (1u << N_SIZES) - 1);
    }
    assert_true(p.largest <= 1160);
    pair_clear(&p);
}

static void test_exchange(void **state)
{
    (void)state;
    static const unsigned losses[] = {0, 1, 10};
    for (uint64_t i = 0; i < 3; i++)
        for (int ordered = 0; ordered < 2; ordered++) {
            exchange(10 + i, ordered != 0, losses[i], 0, 0);
            exchange(20 + i, ordered != 0, losses[i], 20, 5);
        }
}

/* The association itself comes up over a bad path. */
static bool both_connected(pair *p)
{
    (void)p;
    return saw[0].connected == 1 && saw[1].connected == 1 && saw[1].incoming == 1;
}

static void test_lossy_start(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        pair p;
        memset(saw, 0, sizeof saw);
        pair_init(&p, seed);
        p.on_event = on_event;
        p.loss = 20;
        p.reorder = 30;
        p.duplicate = 10;
        open_channel(&p, 0, "x", false);
        pair_start(&p);
        assert_true(pair_run_until(&p, both_connected, DP_SECONDS(60)));
        pair_clear(&p);
    }
}

static bool hundred(pair *p)
{
    (void)p;
    return saw[1].messages == 100;
}

/* Big messages on two channels and small ones on a third: nothing mixes, nobody starves. */
static void test_big_messages_take_turns(void **state)
{
    (void)state;
    pair p;
    dp_channel *a = up(&p, 3, true);
    dp_channel *b = open_channel(&p, 0, "b", false);
    dp_channel *c = open_channel(&p, 0, "c", true);
    p.loss = 1;
    p.reorder = 5;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(dp_channel_send(a, virtual_now, make(BIG - 1), BIG - 1, true, false), DP_OK);
        assert_int_equal(dp_channel_send(b, virtual_now, make(BIG - 2), BIG - 2, true, false), DP_OK);
    }
    for (int i = 0; i < 90; i++)
        assert_int_equal(dp_channel_send(c, virtual_now, make(100), 100, true, false), DP_OK);
    assert_true(dp_channel_buffered_amount(a) > 0);
    assert_true(pair_run_until(&p, hundred, DP_SECONDS(120)));
    size_t last_small = 0, last_big = 0;
    for (size_t i = 0; i < 100; i++)
        if (saw[1].lens[i] == 100)
            last_small = i;
        else
            last_big = i;
    assert_true(last_big > last_small / 10); /* both kinds came through */
    assert_int_equal(saw[1].bytes, 5 * (BIG - 1 + BIG - 2) + 9000);
    pair_clear(&p);
}

/* Chromium reads the U flag alone; so do we: force_ordered keeps the order on an unordered channel under
 * reordering. */
static void test_force_ordered(void **state)
{
    (void)state;
    pair p;
    dp_channel *a = up(&p, 4, false);
    p.reorder = 50;
    p.loss = 5;
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(dp_channel_send(a, virtual_now, make(i + 1), i + 1, true, true), DP_OK);
    assert_true(pair_run_until(&p, hundred, DP_SECONDS(60)));
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(saw[1].lens[i], i + 1);
    pair_clear(&p);
}

static void test_many_channels_from_both_sides(void **state)
{
    (void)state;
    pair p;
    memset(saw, 0, sizeof saw);
    pair_init(&p, 5);
    p.on_event = on_event;
    p.reorder = 20;
    for (int i = 0; i < 40; i++)
        open_channel(&p, i % 2, "many", i % 3 == 0);
    pair_start(&p);
    pair_run(&p, DP_SECONDS(2));
    for (int end = 0; end < 2; end++) {
        assert_int_equal(saw[end].opened, 40);
        assert_int_equal(saw[end].incoming, 20);
        for (size_t i = 0; i < saw[end].n_in; i++) {
            assert_int_equal(dp_channel_id(saw[end].in[i]) % 2,
                             1 - end); /* the DTLS client, end 0, opens even ids */
            assert_int_equal(dp_channel_send(saw[end].in[i], virtual_now, make(500), 500, true, false),
                             DP_OK);
        }
    }
    pair_run(&p, DP_SECONDS(2));
    assert_int_equal(saw[0].messages, 20);
    assert_int_equal(saw[1].messages, 20);
    pair_clear(&p);
}

/* Row 53. */
static void test_channel_limit(void **state)
{
    (void)state;
    pair p;
    up(&p, 6, true);
    dp_channel_init init = DP_CHANNEL_INIT("x");
    dp_channel *channel;
    int error = DP_OK, count = 1;
    while (count < 10000 && (error = dp_sctp_open_channel(p.end[0], &channel, virtual_now, &init)) == DP_OK)
        count++;
    assert_int_equal(error, DP_ERR_LIMIT);
    assert_int_equal(count, 512);
    pair_clear(&p);
}

static void test_close_and_reopen(void **state)
{
    (void)state;
    for (int who = 0; who < 3; who++) /* our side, the other, both at once */
        for (unsigned loss = 0; loss <= 10; loss += 5) {
            pair p;
            dp_channel *channel = up(&p, 100 + loss, true);
            p.loss = loss;
            p.reorder = loss;
            dp_channel *other = saw[1].in[0];
            assert_int_equal(dp_channel_send(channel, virtual_now, make(30000), 30000, true, false), DP_OK);
            if (who != 1)
                dp_channel_close(channel, virtual_now);
            if (who != 0)
                dp_channel_close(other, virtual_now);
            pair_run(&p, DP_SECONDS(25));
            if (who == 0)
                assert_int_equal(saw[1].messages, 1); /* what was sent before close arrives */
            assert_int_equal(saw[0].channels_closed, 1);
            assert_int_equal(saw[1].channels_closed, 1);
            assert_int_equal(saw[0].errors + saw[1].errors, 0);
            /* Row 45: the id is used again at once, with nothing left of its first life. */
            size_t before = saw[1].messages;
            channel = open_channel(&p, 0, "again", true);
            assert_int_equal(dp_channel_id(channel), 0);
            assert_int_equal(dp_channel_send(channel, virtual_now, make(7), 7, true, false), DP_OK);
            pair_run(&p, DP_SECONDS(25));
            assert_int_equal(saw[1].messages, before + 1);
            assert_int_equal(saw[1].lens[before], 7);
            assert_string_equal(dp_channel_label(saw[1].in[1]), "again");
            pair_clear(&p);
        }
}

/* The opener uses the id again the moment its channel is closed, over and over, on a bad path. */
static pair *churn_pair;
static int churned;
static void churn(pair *p, int end, const dp_sctp_event *event)
{
    if (end == 0 && event->type == DP_SCTP_EVENT_CHANNEL_OPEN)
        dp_channel_close(event->channel, virtual_now);
    if (end == 0 && event->type == DP_SCTP_EVENT_CHANNEL_CLOSED && ++churned < 30)
        open_channel(p, 0, "churn", true);
    if (end == 1 && event->type == DP_SCTP_EVENT_CHANNEL_OPEN)
        saw[1].opened++;
    if (event->type == DP_SCTP_EVENT_CHANNEL_ERROR || event->type == DP_SCTP_EVENT_CLOSED)
        fail_msg("error %d", event->error);
    (void)churn_pair;
}

static bool churn_done(pair *p)
{
    (void)p;
    return churned == 30 && saw[1].opened == 30;
}

static void test_churn(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 5; seed++) {
        pair p;
        memset(saw, 0, sizeof saw);
        churned = 0;
        pair_init(&p, seed);
        p.on_event = churn;
        p.loss = 10;
        p.reorder = 20;
        open_channel(&p, 0, "churn", true);
        pair_start(&p);
        assert_true(pair_run_until(&p, churn_done, DP_SECONDS(300)));
        pair_clear(&p);
    }
}

/* A receiver that takes nothing stops the sender; what is accepted stays bounded and still arrives. */
static void test_back_pressure(void **state)
{
    (void)state;
    pair p;
    dp_channel *channel = up(&p, 7, true);
    dp_channel_set_buffered_amount_low_threshold(channel, 1000);
    p.deaf[1] = true;
    size_t accepted = 0;
    for (int i = 0; i < 200; i++) {
        int error = dp_channel_send(channel, virtual_now, make(65536), 65536, true, false);
        if (error == DP_OK)
            accepted++;
        else
            assert_int_equal(error, DP_ERR_WOULD_BLOCK);
        pair_run(&p, DP_MS(50));
    }
    /* receive window, of which a part goes for usrsctp's overhead, + what its sender may hold + our queue */
    assert_in_range(accepted * 65536, 3 * 1024 * 1024, 5 * 1024 * 1024 + 2 * 65536);
    assert_in_range(dp_channel_buffered_amount(channel), 1024 * 1024 - 65536, 1024 * 1024 + 65536);
    int low = saw[0].low;
    p.deaf[1] = false;
    pair_run(&p, DP_SECONDS(20));
    assert_int_equal(saw[1].messages, accepted);
    assert_int_equal(saw[0].low, low + 1);
    assert_int_equal(dp_channel_buffered_amount(channel), 0);
    pair_clear(&p);
}

/* A threshold over send's own limit still gets its event after WOULD_BLOCK. */
static void test_high_threshold(void **state)
{
    (void)state;
    pair p;
    dp_channel *channel = up(&p, 19, true);
    dp_channel_set_buffered_amount_low_threshold(channel, SIZE_MAX);
    while (dp_channel_send(channel, virtual_now, make(65536), 65536, true, false) == DP_OK) {
    }
    pair_run(&p, DP_SECONDS(5));
    assert_int_equal(saw[0].low, 1);
    pair_clear(&p);
}

static void test_abort(void **state)
{
    (void)state;
    pair p;
    dp_channel *channel = up(&p, 8, true);
    dp_channel_send(channel, virtual_now, make(BIG), BIG, true,
                    false); /* row 43: a partial message goes with it */
    pair_step(&p, virtual_now + DP_MS(5));
    dp_sctp_abort(p.end[0], virtual_now);
    assert_int_equal(dp_channel_send(channel, virtual_now, make(1), 1, true, false), DP_ERR_INVALID_STATE);
    pair_run(&p, DP_SECONDS(1));
    for (int end = 0; end < 2; end++) {
        assert_int_equal(saw[end].channels_closed, 1);
        assert_int_equal(saw[end].closed, 1);
        assert_int_equal(saw[end].closed_error, DP_OK); /* cause 12 is an orderly end */
        assert_true(dp_sctp_next_timeout(p.end[end]) == DP_TIME_NEVER);
    }
    /* Row 47. */
    uint8_t late[40] = {0};
    dp_sctp_input(p.end[0], virtual_now, late, sizeof late);
    dp_channel_init init = DP_CHANNEL_INIT("late");
    assert_int_equal(dp_sctp_open_channel(p.end[0], &channel, virtual_now, &init), DP_ERR_CLOSED);
    pair_clear(&p);
}

static bool closed_at_0(pair *p)
{
    (void)p;
    return saw[0].closed == 1;
}

static void test_peer_vanishes(void **state)
{
    (void)state;
    pair p;
    dp_channel *channel = up(&p, 9, true);
    p.cut[0] = p.cut[1] = true;
    dp_channel_send(channel, virtual_now, make(100), 100, true, false);
    assert_true(pair_run_until(&p, closed_at_0, DP_SECONDS(120)));
    assert_int_equal(saw[0].closed_error, DP_ERR_TIMEOUT);
    assert_int_equal(saw[0].channels_closed, 1);
    pair_clear(&p);

    memset(saw, 0, sizeof saw); /* and one that was never there */
    pair_init(&p, 10);
    p.on_event = on_event;
    p.cut[0] = p.cut[1] = true;
    open_channel(&p, 0, "x", true);
    pair_start(&p);
    assert_true(pair_run_until(&p, closed_at_0, DP_SECONDS(120)));
    assert_int_equal(saw[0].closed_error, DP_ERR_TIMEOUT);
    pair_clear(&p);
}

static bool channel_closed_at_0(pair *p)
{
    (void)p;
    return saw[0].channels_closed == 1;
}

/* A peer that never answers our reset: the channel ends all the same. */
static void test_close_times_out(void **state)
{
    (void)state;
    pair p;
    dp_channel *channel = up(&p, 11, true);
    p.cut[1] = true;
    dp_channel_close(channel, virtual_now);
    assert_true(pair_run_until(&p, channel_closed_at_0, DP_SECONDS(60)));
    pair_clear(&p);
}

/* usrsctp's timers are one for all associations, but no association's own deadlines wait for a quieter
 * neighbour: the owner asks for next_timeout again and again, as an event loop does. */
static void test_busy_neighbour(void **state)
{
    (void)state;
    pair p, busy;
    dp_channel *channel = up(&p, 15, true);
    pair_init(&busy, 16);
    pair_start(&busy);
    p.cut[1] = true;
    dp_channel_close(channel, virtual_now);
    /* usrsctp itself would give the association up after 38 s */
    dp_time until = virtual_now + DP_SECONDS(31);
    for (; virtual_now < until && saw[0].channels_closed == 0; virtual_now += DP_MS(1)) {
        dp_sctp_handle_timeout(busy.end[0], virtual_now);
        if (dp_sctp_next_timeout(p.end[0]) <= virtual_now)
            dp_sctp_handle_timeout(p.end[0], virtual_now);
        pair_drain(&p);
    }
    assert_int_equal(saw[0].channels_closed, 1);
    pair_clear(&p);
    pair_clear(&busy);
}

static void test_limits(void **state)
{
    (void)state;
    pair p;
    dp_channel *channel = up(&p, 12, true);
    assert_int_equal(dp_channel_send(channel, virtual_now, make(BIG), BIG + 1, true, false),
                     DP_ERR_TOO_LARGE);
    assert_int_equal(dp_channel_send(channel, virtual_now, NULL, 1, true, false), DP_ERR_INVALID_ARGUMENT);
    dp_channel *other;
    dp_channel_init init = DP_CHANNEL_INIT("\xff");
    assert_int_equal(dp_sctp_open_channel(p.end[0], &other, virtual_now, &init), DP_ERR_INVALID_ARGUMENT);
    static char label[65537];
    memset(label, 'a', 65536);
    init.label = label;
    assert_int_equal(dp_sctp_open_channel(p.end[0], &other, virtual_now, &init), DP_ERR_TOO_LARGE);
    label[65535] = 0;
    assert_int_equal(dp_sctp_open_channel(p.end[0], &other, virtual_now, &init), DP_OK);
    pair_run(&p, DP_SECONDS(1));
    assert_string_equal(dp_channel_label(saw[1].in[1]), label);
    assert_int_equal(dp_sctp_start(p.end[0], virtual_now, true, 5000, 0), DP_ERR_INVALID_STATE);
    pair_clear(&p);
}

/* Row 44: the receiver's limit is lower than what the sender believes. */
static void test_over_max_message_size(void **state)
{
    (void)state;
    pair p;
    dp_sctp_config config = {.max_message_size = 20000};
    memset(saw, 0, sizeof saw);
    pair_init_with(&p, 13, &config);
    p.on_event = on_event;
    dp_channel *channel = open_channel(&p, 0, "x", true);
    pair_start(&p);
    pair_run(&p, DP_MS(100));
    assert_int_equal(dp_channel_send(channel, virtual_now, make(20000), 20000, true, false), DP_OK);
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(saw[1].messages, 1);
    assert_int_equal(dp_channel_send(channel, virtual_now, make(20001), 20001, true, false), DP_OK);
    pair_run(&p, DP_SECONDS(2));
    assert_int_equal(saw[1].messages, 1);
    assert_int_equal(saw[1].errors, 1);
    assert_int_equal(saw[1].error, DP_ERR_TOO_LARGE);
    assert_int_equal(saw[1].channels_closed, 1);
    assert_int_equal(saw[0].channels_closed, 1);
    pair_clear(&p);
}

/* Row 92 in small, and an idle association: it needs few wake-ups and lives on. */
static void test_idle(void **state)
{
    (void)state;
    pair p;
    dp_channel *channel = up(&p, 14, true);
    pair_run(&p, DP_SECONDS(2));
    uint64_t packets = p.packets;
    dp_time start = virtual_now;
    int steps = 0;
    while (pair_step(&p, start + DP_SECONDS(60)))
        steps++;
    assert_true(steps < 800); /* two ends, 5 a second each, and the heartbeats */
    assert_true(p.packets - packets < 20);
    assert_int_equal(dp_channel_send(channel, virtual_now, make(9), 9, true, false), DP_OK);
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(saw[1].messages, 1);
    pair_clear(&p);
}

static void test_freed_in_any_order(void **state)
{
    (void)state;
    enum { COUNT = 50 };
    pair p[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        pair_init(&p[i], i);
        open_channel(&p[i], 0, "x", true);
        pair_start(&p[i]);
        pair_run(&p[i], DP_MS(100));
    }
    for (size_t i = 0; i < COUNT; i++) {
        size_t at = i * 7 % COUNT;
        dp_sctp_free(p[at].end[i % 2]);
        p[at].end[i % 2] = NULL;
        pair_run(&p[(at + 1) % COUNT], DP_MS(20));
    }
    for (size_t i = 0; i < COUNT; i++)
        pair_clear(&p[i]);
}

/* A chunk must be smaller than what usrsctp may hold, or a message waits for ever. */
static void test_large_packets(void **state)
{
    (void)state;
    dp_sctp_config config = {.size = sizeof config, .random = {pair_random_fn, NULL}, .mtu = 16385};
    dp_sctp *none;
    assert_int_equal(dp_sctp_new(&none, &config), DP_ERR_INVALID_ARGUMENT);
    config.mtu = 16384;
    memset(saw, 0, sizeof saw);
    pair p;
    pair_init_with(&p, 77, &config);
    p.on_event = on_event;
    pair_start(&p);
    dp_channel *channel = open_channel(&p, 0, "label", true);
    pair_run(&p, DP_MS(100));
    assert_int_equal(dp_channel_send(channel, virtual_now, make(BIG), BIG, true, false), DP_OK);
    pair_run(&p, DP_SECONDS(2));
    assert_int_equal(saw[1].messages, 1);
    assert_int_equal(p.largest, 16384);
    pair_clear(&p);
}

static bool big_at_1(pair *p)
{
    (void)p;
    return saw[1].bytes >= (uint64_t)20 * BIG;
}

/* How long some megabytes take over a long path, after so many small messages that come now and then. */
static dp_duration bulk_after(int small)
{
    pair p;
    memset(saw, 0, sizeof saw);
    pair_init(&p, 78);
    p.on_event = on_event;
    p.delay = DP_MS(50);
    pair_start(&p);
    dp_channel *channel = open_channel(&p, 0, "label", true);
    pair_run(&p, DP_SECONDS(1));
    for (int i = 0; i < small; i++) {
        assert_int_equal(dp_channel_send(channel, virtual_now, make(10), 10, true, false), DP_OK);
        pair_run(&p, DP_MS(1130));
    }
    saw[1].bytes = 0;
    dp_time start = virtual_now;
    for (int i = 0; i < 20;) {
        int error = dp_channel_send(channel, virtual_now, make(BIG), BIG, true, false);
        if (error == DP_OK)
            i++;
        else
            assert_true(pair_step(&p, virtual_now + DP_SECONDS(1)));
    }
    assert_true(pair_run_until(&p, big_at_1, DP_SECONDS(60)));
    pair_clear(&p);
    return virtual_now - start;
}

/* The stack may have slept for long before a message comes: that is no delay of the path. */
static void test_bulk_after_idleness(void **state)
{
    (void)state;
    dp_duration fresh = bulk_after(0), late = bulk_after(20);
    assert_true(late < fresh + fresh / 4);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exchange),
        cmocka_unit_test(test_lossy_start),
        cmocka_unit_test(test_big_messages_take_turns),
        cmocka_unit_test(test_force_ordered),
        cmocka_unit_test(test_many_channels_from_both_sides),
        cmocka_unit_test(test_channel_limit),
        cmocka_unit_test(test_close_and_reopen),
        cmocka_unit_test(test_churn),
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_high_threshold),
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_peer_vanishes),
        cmocka_unit_test(test_close_times_out),
        cmocka_unit_test(test_busy_neighbour),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_bulk_after_idleness),
        cmocka_unit_test(test_large_packets),
        cmocka_unit_test(test_over_max_message_size),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_freed_in_any_order),
    };
    return PAIR_RUN_BOTH_WAYS(tests);
}
