/* More streams on demand (RFC 6525 §4.5). */
#include "seen.h"

#define RE_CONFIG   0x82
#define ADD_STREAMS 17
/* Streams to begin with, and those of one side. */
#define FIRST 128
#define MINE  (FIRST / 2)

static int requests, with_data;

/* RE-CONFIG with the parameter "add outgoing streams". */
static bool asks_for_streams(const uint8_t *data, size_t len)
{
    return len >= 28 && data[12] == RE_CONFIG && data[16] == 0 && data[17] == ADD_STREAMS;
}

static void count_requests(pair *p, int from, uint8_t *data, size_t *len)
{
    (void)p;
    (void)from;
    requests += asks_for_streams(data, *len);
}

static void drop_requests(pair *p, int from, uint8_t *data, size_t *len)
{
    count_requests(p, from, data, len);
    if (asks_for_streams(data, *len))
        *len = 0;
}

static size_t opened_at(int end) { return (size_t)saw[end].opened; }

static bool all_open(pair *p)
{
    (void)p;
    return opened_at(0) == 1024 && opened_at(1) == 1024;
}

static bool messages_everywhere(pair *p)
{
    (void)p;
    return saw[0].messages >= 511 && saw[1].messages >= 511 + (size_t)with_data;
}

/* Both sides open all that there can be, while a long transfer goes on: usrsctp must not mix its messages up. */
static void test_a_thousand_channels(void **state)
{
    (void)state;
    for (unsigned loss = 0; loss <= 2; loss += 2) {
        pair p;
        dp_channel *bulk = up(&p, 30 + loss, true);
        p.loss = loss;
        p.on_packet = count_requests;
        requests = with_data = 0;
        for (int i = 1; i < 512; i++) {
            open_channel(&p, 0, "mine", i % 2 == 0);
            open_channel(&p, 1, "mine", i % 2 == 0);
            if (i % 16 == 0 && dp_channel_send(bulk, virtual_now, make(BIG), BIG, true, false) == DP_OK)
                with_data++;
            pair_run(&p, DP_MS(1));
        }
        open_channel(&p, 1, "last", true);
        dp_channel *none;
        dp_channel_init init = DP_CHANNEL_INIT("over");
        for (int end = 0; end < 2; end++)
            assert_int_equal(dp_sctp_open_channel(p.end[end], &none, virtual_now, &init), DP_ERR_LIMIT);
        assert_true(with_data > 3);
        assert_true(pair_run_until(&p, all_open, DP_SECONDS(120)));
        assert_true(requests >= 2);
        assert_true(loss > 0 || requests <= 6); /* each side at most three times, if none is lost */
        for (int end = 0; end < 2; end++)
            for (size_t i = end == 0 ? 0 : 1; i < saw[end].n_in; i++)
                assert_int_equal(dp_channel_send(saw[end].in[i], virtual_now, make(i), i, true, false),
                                 DP_OK);
        assert_true(pair_run_until(&p, messages_everywhere, DP_SECONDS(120)));
        assert_int_equal(saw[0].errors + saw[1].errors + saw[0].closed + saw[1].closed, 0);
        pair_clear(&p);
    }
}

static bool all_arrived(pair *p)
{
    (void)p;
    return saw[1].messages == 23 && saw[1].incoming == MINE + 1;
}

static void opened_only(pair *p, int end, const dp_sctp_event *event)
{
    if (event->type == DP_SCTP_EVENT_CHANNEL_OPEN)
        on_event(p, end, event);
}

/* More streams are needed while usrsctp is in the middle of a message and has others behind it. */
static void test_in_the_middle_of_a_message(void **state)
{
    (void)state;
    pair p;
    dp_channel
        *channel[MINE]; /* the long messages are not on the first stream: usrsctp would find back to that */
    channel[0] = up(&p, 35, true);
    for (int i = 1; i < MINE; i++)
        channel[i] = open_channel(&p, 0, "x", true);
    pair_run(&p, DP_SECONDS(1));
    for (int i = 0; i < 3; i++)
        assert_int_equal(dp_channel_send(channel[50], virtual_now, make(BIG), BIG, true, false), DP_OK);
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(dp_channel_send(channel[i], virtual_now, make(i), i, true, false), DP_OK);
    open_channel(&p, 0, "one more", true);
    assert_true(pair_run_until(&p, all_arrived, DP_SECONDS(60)));
    /* The other end needs its own stream to answer on. */
    assert_int_equal(dp_channel_id(saw[1].in[MINE]), FIRST);
    assert_int_equal(dp_channel_send(saw[1].in[MINE], virtual_now, make(4), 4, true, false), DP_OK);
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(saw[0].messages, 1);
    assert_int_equal(saw[0].errors + saw[1].errors + saw[0].closed + saw[1].closed, 0);
    pair_clear(&p);
}

/* A transfer that never pauses must not put the request off. */
static void test_under_load(void **state)
{
    (void)state;
    pair p;
    dp_channel *bulk = up(&p, 36, true);
    p.on_event = opened_only;
    for (int i = 1; i < MINE + 1; i++)
        open_channel(&p, 0, "x", true);
    for (int ms = 0; ms < 2000; ms++) {
        while (dp_channel_send(bulk, virtual_now, make(20000), 20000, true, false) == DP_OK) {
        }
        pair_run(&p, DP_MS(1));
    }
    assert_int_equal(saw[1].incoming, MINE + 1);
    pair_clear(&p);
}

/* The smaller max_channels of the two holds: a request for twice as many is refused, one for no more than needed is
 * not, until there are none; what there is stays. */
static void test_refused(void **state)
{
    (void)state;
    pair p;
    dp_sctp_config small = {.size = sizeof small, .random = {pair_random_fn, &p}, .max_channels = 200};
    memset(saw, 0, sizeof saw);
    pair_init(&p, 31);
    p.on_event = on_event;
    dp_sctp_free(p.end[1]);
    assert_int_equal(dp_sctp_new(&p.end[1], &small), DP_OK);
    pair_start(&p);
    pair_run(&p, DP_MS(100));
    for (int i = 0; i < 90; i++)
        open_channel(&p, 0, "x", true);
    pair_run(&p, DP_SECONDS(2));
    assert_int_equal(saw[0].opened, 90);
    assert_int_equal(saw[0].errors, 0);
    for (int i = 0; i < 20; i++) /* the first is asked for alone */
        open_channel(&p, 0, "x", true);
    pair_run(&p, DP_SECONDS(2));
    assert_int_equal(saw[0].opened, 91);
    assert_int_equal(saw[0].errors, 19);
    assert_int_equal(saw[0].error, DP_ERR_LIMIT);
    assert_int_equal(saw[0].channels_closed, 19);
    assert_int_equal(saw[1].incoming, 91);
    dp_channel *none;
    dp_channel_init init = DP_CHANNEL_INIT("over");
    assert_int_equal(dp_sctp_open_channel(p.end[0], &none, virtual_now, &init), DP_ERR_LIMIT);
    pair_clear(&p);
}

/* What the owner has asked for is there from the beginning. */
static void test_initial_channels(void **state)
{
    (void)state;
    pair p;
    dp_sctp_config config = {.initial_channels = 601};
    memset(saw, 0, sizeof saw);
    pair_init_with(&p, 37, &config);
    p.on_event = on_event;
    p.on_packet = count_requests;
    requests = 0;
    for (int i = 0; i < 301; i++)
        open_channel(&p, 0, "x", true);
    pair_start(&p);
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(saw[1].incoming, 301);
    assert_int_equal(requests, 0);
    pair_clear(&p);
}

/* A peer that does not answer: the channel fails, the association goes on. */
static void test_unanswered(void **state)
{
    (void)state;
    pair p;
    dp_channel *first = up(&p, 32, true);
    p.on_packet = drop_requests;
    requests = 0;
    for (int i = 1; i < MINE + 1; i++)
        open_channel(&p, 0, "x", true);
    pair_run(&p, DP_SECONDS(9));
    assert_int_equal(saw[0].opened, MINE);
    assert_int_equal(saw[0].errors, 0);
    pair_run(&p, DP_SECONDS(2));
    assert_true(requests > 1);
    assert_int_equal(saw[0].errors, 1);
    assert_int_equal(saw[0].error, DP_ERR_LIMIT);
    assert_int_equal(dp_channel_send(first, virtual_now, make(5), 5, true, false), DP_OK);
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(saw[1].messages, 1);
    assert_int_equal(saw[0].closed, 0);
    pair_clear(&p);
}

/* A channel may be given up while it waits for its stream; its id is free then. */
static void test_closed_while_waiting(void **state)
{
    (void)state;
    pair p;
    up(&p, 33, true);
    for (int i = 1; i < MINE; i++)
        open_channel(&p, 0, "x", true);
    dp_channel *waits = open_channel(&p, 0, "waits", true);
    assert_int_equal(dp_channel_get_state(waits), DP_CHANNEL_CONNECTING);
    assert_int_equal(dp_channel_id(waits), FIRST);
    dp_channel_close(waits, virtual_now);
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(saw[0].channels_closed, 1);
    assert_int_equal(saw[1].incoming, MINE);
    waits = open_channel(&p, 0, "next", true);
    assert_int_equal(dp_channel_id(waits), FIRST);
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(saw[1].incoming, MINE + 1);
    assert_int_equal(saw[0].errors, 0);
    pair_clear(&p);
}

/* A negotiated id far up, known before the association is. */
static void test_negotiated_beyond_the_first(void **state)
{
    (void)state;
    pair p;
    memset(saw, 0, sizeof saw);
    pair_init(&p, 34);
    p.on_event = on_event;
    dp_channel *channel[2];
    dp_channel_init init = DP_CHANNEL_INIT("far");
    init.negotiated = true;
    init.id = 1023;
    for (int end = 0; end < 2; end++)
        assert_int_equal(dp_sctp_open_channel(p.end[end], &channel[end], virtual_now, &init), DP_OK);
    pair_start(&p);
    pair_run(&p, DP_SECONDS(1));
    for (int end = 0; end < 2; end++)
        assert_int_equal(dp_channel_send(channel[end], virtual_now, make(77), 77, true, false), DP_OK);
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(saw[0].messages + saw[1].messages, 2);
    pair_clear(&p);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_the_middle_of_a_message), cmocka_unit_test(test_under_load),
        cmocka_unit_test(test_a_thousand_channels),        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_initial_channels),           cmocka_unit_test(test_unanswered),
        cmocka_unit_test(test_closed_while_waiting),       cmocka_unit_test(test_negotiated_beyond_the_first),
    };
    return PAIR_RUN_BOTH_WAYS(tests);
}
