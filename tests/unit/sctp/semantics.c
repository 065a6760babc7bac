/* What a channel is: its options and how they travel, negotiated ids, priorities, closing. */
#include "seen.h"

#include "sctp/dcep.h"

#define DATA_CHUNK 0

/* The PPID of the first DATA chunk in a packet; 0 if it holds none. */
static uint32_t ppid_of(const uint8_t *data, size_t len)
{
    if (len < 28 || data[12] != DATA_CHUNK)
        return 0;
    return (uint32_t)data[24] << 24 | (uint32_t)data[25] << 16 | (uint32_t)data[26] << 8 | data[27];
}

static void start(pair *p, uint64_t seed)
{
    memset(saw, 0, sizeof saw);
    pair_init(p, seed);
    p->on_event = on_event;
    pair_start(p);
    pair_run(p, DP_MS(100));
    assert_int_equal(saw[0].connected + saw[1].connected, 2);
}

static void test_init_is_checked(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 1);
    static const struct {
        int32_t retransmits, lifetime;
        bool negotiated;
        int id;
        int priority, error;
    } cases[] = {
        {-1, -1, false, 0, 256, DP_OK},
        {0, -1, false, 0, 128, DP_OK},
        {-1, 0, false, 0, 512, DP_OK},
        {INT32_MAX, -1, false, 0, 1024, DP_OK},
        {0, 0, false, 0, 256, DP_ERR_INVALID_ARGUMENT},
        {65535, 65535, false, 0, 256, DP_ERR_INVALID_ARGUMENT},
        {-2, -1, false, 0, 256, DP_ERR_INVALID_ARGUMENT},
        {-1, -2, false, 0, 256, DP_ERR_INVALID_ARGUMENT},
        {-1, -1, false, -1, 256, DP_OK}, /* id without negotiated is ignored */
        {-1, -1, false, 70000, 256, DP_OK},
        {-1, -1, true, -1, 256, DP_ERR_INVALID_ARGUMENT},
        {-1, -1, true, 65535, 256, DP_ERR_INVALID_ARGUMENT},
        {-1, -1, true, 1024, 256, DP_ERR_LIMIT},
        {-1, -1, true, 65534, 256, DP_ERR_LIMIT},
        {-1, -1, true, 1023, 256, DP_OK},
        {-1, -1, true, 1023, 256, DP_ERR_EXISTS},
        {-1, -1, false, 0, 0, DP_ERR_INVALID_ARGUMENT},
        {-1, -1, false, 0, 255, DP_ERR_INVALID_ARGUMENT},
    };
    dp_channel *channel;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dp_channel_init init = DP_CHANNEL_INIT("x");
        init.max_retransmits = cases[i].retransmits;
        init.max_packet_lifetime = cases[i].lifetime;
        init.negotiated = cases[i].negotiated;
        init.id = cases[i].id;
        init.priority = (dp_channel_priority)cases[i].priority;
        assert_int_equal(dp_sctp_open_channel(p.end[0], &channel, virtual_now, &init), cases[i].error);
    }
    pair_clear(&p);
}

/* A caller that was compiled with the first version of the struct: nothing behind its end is read. */
static void test_init_of_an_older_caller(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 2);
    dp_channel_init init = DP_CHANNEL_INIT("old");
    init.size = offsetof(dp_channel_init, max_retransmits);
    init.max_retransmits = init.max_packet_lifetime = 77;
    init.negotiated = true;
    dp_channel *channel;
    assert_int_equal(dp_sctp_open_channel(p.end[0], &channel, virtual_now, &init), DP_OK);
    assert_int_equal(dp_channel_max_retransmits(channel), -1);
    assert_int_equal(dp_channel_max_packet_lifetime(channel), -1);
    assert_false(dp_channel_negotiated(channel));
    assert_int_equal(dp_channel_get_priority(channel), DP_CHANNEL_PRIORITY_LOW);
    init.size--;
    assert_int_equal(dp_sctp_open_channel(p.end[0], &channel, virtual_now, &init), DP_ERR_INVALID_ARGUMENT);
    pair_clear(&p);
}

/* Whatever is asked for, the other side's channel says the same. */
static void test_options_travel(void **state)
{
    (void)state;
    static const dp_channel_priority priorities[] = {DP_CHANNEL_PRIORITY_VERY_LOW, DP_CHANNEL_PRIORITY_LOW,
                                                     DP_CHANNEL_PRIORITY_MEDIUM, DP_CHANNEL_PRIORITY_HIGH};
    static const int32_t limits[][2] = {{-1, -1},        {0, -1}, {5, -1},   {65535, -1},
                                        {INT32_MAX, -1}, {-1, 0}, {-1, 100}, {-1, INT32_MAX}};
    pair p;
    start(&p, 3);
    for (size_t i = 0; i < 8; i++)
        for (int ordered = 0; ordered < 2; ordered++) {
            dp_channel_init init = DP_CHANNEL_INIT("l\u00e4bel \U0001f600");
            init.protocol = "pr\u00f6to";
            init.ordered = ordered != 0;
            init.max_retransmits = limits[i][0];
            init.max_packet_lifetime = limits[i][1];
            init.priority = priorities[i % 4];
            dp_channel *mine;
            assert_int_equal(dp_sctp_open_channel(p.end[0], &mine, virtual_now, &init), DP_OK);
            pair_run(&p, DP_MS(100));
            const dp_channel *both[2] = {mine, saw[1].in[saw[1].n_in - 1]};
            for (int k = 0; k < 2; k++) {
                assert_string_equal(dp_channel_label(both[k]), init.label);
                assert_string_equal(dp_channel_protocol(both[k]), init.protocol);
                assert_int_equal(dp_channel_id(both[k]), dp_channel_id(mine));
                assert_int_equal(dp_channel_ordered(both[k]), ordered);
                assert_int_equal(dp_channel_max_retransmits(both[k]), limits[i][0]);
                assert_int_equal(dp_channel_max_packet_lifetime(both[k]), limits[i][1]);
                assert_int_equal(dp_channel_get_priority(both[k]), init.priority);
                assert_false(dp_channel_negotiated(both[k]));
            }
        }
    assert_int_equal(saw[1].incoming, 16);
    pair_clear(&p);
}

/* Label and protocol together are more than a message of the usual maximum may be for others; ours take it. */
static void test_longest_names(void **state)
{
    (void)state;
    static char label[65536], protocol[65536];
    pair p;
    start(&p, 4);
    p.loss = 2;
    memset(label, 'l', 65535);
    memset(protocol, 'p', 65535);
    protocol[65535] = '\0';
    memcpy(label + 65532, "\u20ac", 3);
    dp_channel_init init = DP_CHANNEL_INIT(label);
    init.protocol = protocol;
    dp_channel *channel;
    assert_int_equal(dp_sctp_open_channel(p.end[0], &channel, virtual_now, &init), DP_OK);
    assert_int_equal(dp_channel_send(channel, virtual_now, make(9), 9, true, false), DP_OK);
    pair_run(&p, DP_SECONDS(20));
    assert_int_equal(saw[1].incoming, 1);
    assert_string_equal(dp_channel_label(saw[1].in[0]), label);
    assert_string_equal(dp_channel_protocol(saw[1].in[0]), protocol);
    assert_int_equal(saw[1].messages, 1);
    protocol[65535] = 'p';
    static char longer[65537];
    memset(longer, 'p', 65536);
    init.protocol = longer;
    assert_int_equal(dp_sctp_open_channel(p.end[0], &channel, virtual_now, &init), DP_ERR_TOO_LARGE);
    pair_clear(&p);
}

/* JavaScript's strings may hold U+0000, and a channel "a\0b" is not "a". */
static void test_names_with_nul(void **state)
{
    (void)state;
    pair p;
    start(&p, 14);
    dp_channel_init init = DP_CHANNEL_INIT("a\0b");
    init.label_length = 3;
    init.protocol = "\0";
    init.protocol_length = 1;
    dp_channel *mine;
    assert_int_equal(dp_sctp_open_channel(p.end[0], &mine, virtual_now, &init), DP_OK);
    init.label = "a";
    init.label_length = 0;
    init.protocol = NULL;
    assert_int_equal(dp_sctp_open_channel(p.end[0], &mine, virtual_now, &init), DP_ERR_INVALID_ARGUMENT);
    init.protocol_length = 0;
    assert_int_equal(dp_sctp_open_channel(p.end[0], &mine, virtual_now, &init), DP_OK);
    pair_run(&p, DP_MS(100));
    assert_int_equal(dp_channel_label_length(saw[1].in[0]), 3);
    assert_memory_equal(dp_channel_label(saw[1].in[0]), "a\0b", 4);
    assert_int_equal(dp_channel_protocol_length(saw[1].in[0]), 1);
    assert_int_equal(dp_channel_label_length(saw[1].in[1]), 1);
    assert_string_equal(dp_channel_label(saw[1].in[1]), "a");
    assert_int_equal(dp_channel_protocol_length(saw[1].in[1]), 0);
    pair_clear(&p);
}

/* ---- negotiated --------------------------------------------------------------------------------- */

static int dcep_packets, ordered_data;
static void count_dcep(pair *p, int from, uint8_t *data, size_t *len)
{
    (void)p;
    (void)from;
    dcep_packets += ppid_of(data, *len) == DP_PPID_DCEP;
    ordered_data += ppid_of(data, *len) == DP_PPID_BINARY && (data[13] & 4) == 0;
}

static dp_channel *open_negotiated(pair *p, int end, int id, bool ordered)
{
    dp_channel_init init = DP_CHANNEL_INIT("agreed");
    init.negotiated = true;
    init.id = id;
    init.ordered = ordered;
    dp_channel *channel;
    assert_int_equal(dp_sctp_open_channel(p->end[end], &channel, virtual_now, &init), DP_OK);
    assert_int_equal(dp_channel_id(channel), id);
    assert_true(dp_channel_negotiated(channel));
    return channel;
}

/* No DCEP; any parity; before start or after; unordered from the first message on. */
static void test_negotiated(void **state)
{
    (void)state;
    for (int late = 0; late < 2; late++)
        for (int id = 0; id < 2; id++) {
            pair p;
            dp_channel *channel[2];
            memset(saw, 0, sizeof saw);
            pair_init(&p, 5);
            p.on_event = on_event;
            p.on_packet = count_dcep;
            dcep_packets = ordered_data = 0;
            for (int end = 0; !late && end < 2; end++)
                channel[end] = open_negotiated(&p, end, id, false);
            pair_start(&p);
            pair_run(&p, DP_MS(100));
            for (int end = 0; late && end < 2; end++)
                channel[end] = open_negotiated(&p, end, id, false);
            for (int end = 0; end < 2; end++) {
                assert_int_equal(dp_channel_get_state(channel[end]), DP_CHANNEL_OPEN);
                assert_int_equal(dp_channel_send(channel[end], virtual_now, make(100), 100, true, false),
                                 DP_OK);
            }
            pair_run(&p, DP_MS(100));
            assert_int_equal(dcep_packets + ordered_data, 0);
            for (int end = 0; end < 2; end++) {
                assert_int_equal(saw[end].opened, 1);
                assert_int_equal(saw[end].incoming, 0);
                assert_int_equal(saw[end].messages, 1);
            }
            /* Ids that are given out by themselves pass it by. */
            dp_channel *other =
                open_channel(&p, id, "other", true); /* end 0 has the even ones, end 1 the odd */
            assert_int_equal(dp_channel_id(other), id + 2);
            dp_channel_init init = DP_CHANNEL_INIT("taken");
            init.negotiated = true;
            init.id = id + 2;
            assert_int_equal(dp_sctp_open_channel(p.end[id], &other, virtual_now, &init), DP_ERR_EXISTS);
            pair_clear(&p);
        }
}

static void test_negotiated_is_closed(void **state)
{
    (void)state;
    for (int known = 0; known < 2; known++) { /* to the other side, too */
        pair p;
        start(&p, 6);
        for (int round = 0; round < 3; round++) {
            memset(saw, 0, sizeof saw);
            dp_channel *mine = open_negotiated(&p, 0, 5, true);
            if (known)
                open_negotiated(&p, 1, 5, true);
            assert_int_equal(dp_channel_send(mine, virtual_now, make(3), 3, true, false), DP_OK);
            pair_run(&p, DP_MS(50));
            assert_int_equal(saw[1].messages, known);
            dp_channel_close(mine, virtual_now);
            pair_run(&p, DP_SECONDS(1)); /* it is answered, not timed out */
            assert_int_equal(saw[0].channels_closed, 1);
            assert_int_equal(saw[1].channels_closed, known);
            assert_int_equal(saw[0].errors + saw[1].errors, 0);
        }
        uint64_t packets = p.packets;
        pair_run(&p, DP_SECONDS(10));
        assert_true(p.packets - packets < 10); /* nobody answers answers */
        pair_clear(&p);
    }
}

/* The other side's own channel comes in on the stream: neither is what the other thinks. */
static void test_negotiated_on_one_side_only(void **state)
{
    (void)state;
    pair p;
    start(&p, 7);
    open_negotiated(&p, 1, 0, true);
    open_channel(&p, 0, "in band", true); /* its id is 0 */
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(saw[1].errors, 1);
    assert_int_equal(saw[1].error, DP_ERR_PROTOCOL);
    assert_int_equal(saw[0].channels_closed, 1);
    assert_int_equal(saw[1].channels_closed, 1);
    pair_clear(&p);
}

/* ---- messages ----------------------------------------------------------------------------------- */

/* Text that is no UTF-8 reaches nobody; as bytes it does. */
static void test_text_is_utf8(void **state)
{
    (void)state;
    pair p;
    dp_channel *channel = up(&p, 8, true);
    static const uint8_t odd[] = {'a', 0xc3};
    p.on_event = NULL;
    assert_int_equal(dp_channel_send(channel, virtual_now, odd, sizeof odd, false, false), DP_OK);
    pair_run(&p, DP_MS(100));
    p.on_event = on_event;
    dp_sctp_event event;
    assert_int_equal(dp_channel_send(channel, virtual_now, odd, sizeof odd, false, false), DP_OK);
    assert_int_equal(dp_channel_send(channel, virtual_now, odd, sizeof odd, true, false), DP_OK);
    assert_int_equal(dp_channel_send(channel, virtual_now, (const uint8_t *)"\u00e4", 2, false, false),
                     DP_OK);
    p.deaf[1] = true;
    pair_run(&p, DP_MS(100));
    assert_true(dp_sctp_poll_event(p.end[1], &event));
    assert_int_equal(event.type, DP_SCTP_EVENT_MESSAGE);
    assert_true(event.binary);
    assert_int_equal(event.len, 2);
    assert_true(dp_sctp_poll_event(p.end[1], &event));
    assert_false(event.binary);
    assert_memory_equal(event.data, "\u00e4", 2);
    assert_false(dp_sctp_poll_event(p.end[1], &event));
    pair_clear(&p);
}

/* ---- priorities --------------------------------------------------------------------------------- */

static uint64_t got[4];
static void count_by_channel(pair *p, int end, const dp_sctp_event *event)
{
    if (end == 1 && event->type == DP_SCTP_EVENT_CHANNEL_OPEN)
        on_event(p, end, event);
    if (end == 1 && event->type == DP_SCTP_EVENT_MESSAGE)
        got[dp_channel_id(event->channel) / 2] += event->len;
}

/* Four channels that always have something to send share 1 : 2 : 4 : 8, whatever the sizes of their messages. */
static void test_priorities(void **state)
{
    (void)state;
    static const size_t sizes[][4] = {
        {1000, 1000, 1000, 1000}, {65536, 65536, 65536, 65536}, {200000, 500, 16384, 300}};
    for (size_t k = 0; k < 3; k++) {
        pair p;
        dp_channel *channel[4];
        dp_sctp_config config = {.send_buffer_size = 65536};
        memset(got, 0, sizeof got);
        pair_init_with(&p, 9, &config);
        p.on_event = count_by_channel;
        pair_start(&p);
        pair_run(&p, DP_MS(100));
        for (int i = 0; i < 4; i++) {
            dp_channel_init init = DP_CHANNEL_INIT("x");
            init.priority = (dp_channel_priority)(128 << i);
            assert_int_equal(dp_sctp_open_channel(p.end[0], &channel[i], virtual_now, &init), DP_OK);
        }
        for (int ms = 0; ms < 6000; ms++) {
            for (int i = 0; i < 4; i++)
                while (dp_channel_send(channel[i], virtual_now, make(sizes[k][i]), sizes[k][i], true,
                                       false) == DP_OK) {
                }
            pair_run(&p, DP_MS(1));
        }
        for (int i = 1; i < 4; i++) {
            double ratio = (double)got[i] / (double)got[i - 1];
            assert_true(ratio > 1.6 && ratio < 2.4);
        }
        pair_clear(&p);
    }
}

/* ---- closing ------------------------------------------------------------------------------------ */

static bool closed_at_1(pair *p)
{
    (void)p;
    return saw[1].channels_closed == 1;
}

/* All that send took arrives before the end. */
static void test_close_with_full_buffers(void **state)
{
    (void)state;
    for (unsigned loss = 0; loss <= 5; loss += 5) {
        pair p;
        dp_channel *channel = up(&p, 10, true);
        p.loss = loss;
        size_t accepted = 0;
        while (dp_channel_send(channel, virtual_now, make(60000), 60000, true, false) == DP_OK)
            accepted++;
        dp_channel_close(channel, virtual_now);
        assert_int_equal(dp_channel_send(channel, virtual_now, make(1), 1, true, false),
                         DP_ERR_INVALID_STATE);
        assert_true(pair_run_until(&p, closed_at_1, DP_SECONDS(60)));
        assert_int_equal(saw[1].messages, accepted);
        pair_run(&p, DP_SECONDS(5));
        assert_int_equal(saw[0].channels_closed, 1);
        pair_clear(&p);
    }
}

/* Opened and closed at once, in every state of the association. */
static void test_close_while_opening(void **state)
{
    (void)state;
    for (int when = 0; when < 3; when++) {
        pair p;
        memset(saw, 0, sizeof saw);
        pair_init(&p, 11);
        p.on_event = on_event;
        if (when == 0)
            dp_channel_close(open_channel(&p, 0, "short", true), virtual_now);
        pair_start(&p);
        if (when == 1)
            dp_channel_close(open_channel(&p, 0, "short", true), virtual_now);
        pair_run(&p, DP_MS(100));
        if (when == 2)
            dp_channel_close(open_channel(&p, 0, "short", true), virtual_now);
        pair_run(&p, DP_SECONDS(1));
        assert_int_equal(saw[0].channels_closed, 1);
        assert_int_equal(saw[1].incoming, when == 2); /* the OPEN was on its way */
        assert_int_equal(saw[1].channels_closed, when == 2);
        dp_channel *again = open_channel(&p, 0, "again", true);
        assert_int_equal(dp_channel_id(again), 0);
        pair_run(&p, DP_SECONDS(1));
        assert_string_equal(dp_channel_label(saw[1].in[saw[1].n_in - 1]), "again");
        assert_int_equal(saw[0].errors + saw[1].errors, 0);
        pair_clear(&p);
    }
}

/* Both sides open before, during and after the association comes up, all at once, on a bad path. */
static void test_open_at_any_time(void **state)
{
    (void)state;
    pair p;
    memset(saw, 0, sizeof saw);
    pair_init(&p, 12);
    p.on_event = on_event;
    p.loss = 10;
    p.reorder = 20;
    open_channel(&p, 0, "x", true);
    open_channel(&p, 1, "x", true);
    pair_start(&p);
    for (int i = 0; i < 40; i++) {
        open_channel(&p, 0, "x", i % 2 == 0);
        open_channel(&p, 1, "x", i % 2 == 0);
        pair_run(&p, DP_MS(2));
    }
    pair_run(&p, DP_SECONDS(20));
    for (int end = 0; end < 2; end++) {
        assert_int_equal(saw[end].opened, 82);
        assert_int_equal(saw[end].incoming, 41);
    }
    pair_clear(&p);
}

/* The other end reads nothing, and its buffer is full to the last bytes, when a channel is closed by either: it learns of that
 * when it reads again. */
static void test_closed_into_a_full_buffer(void **state)
{
    (void)state;
    for (int by = 0; by < 2; by++) {
        pair p;
        dp_sctp_config config = {.receive_buffer_size = 16384, .max_message_size = 16384};
        memset(saw, 0, sizeof saw);
        pair_init_with(&p, 70, &config);
        p.on_event = on_event;
        pair_start(&p);
        dp_channel *busy = open_channel(&p, 0, "busy", true);
        dp_channel *other = open_channel(&p, 0, "other", true);
        pair_run(&p, DP_MS(100));
        p.deaf[1] = true;
        for (int i = 0; i < 41; i++) { /* two messages and the largest notifications: 40,960 bytes */
            size_t len = i < 40 ? 1000 : 955;
            assert_int_equal(dp_channel_send(busy, virtual_now, make(len), len, true, false), DP_OK);
        }
        pair_run(&p, DP_SECONDS(20)); /* with a packet now and then that asks for the window */
        dp_channel_close(by == 0 ? other : saw[1].in[1], virtual_now);
        pair_run(&p, DP_SECONDS(5));
        p.deaf[1] = false;
        pair_run(&p, DP_SECONDS(5));
        assert_int_equal(saw[1].messages, 41);
        assert_int_equal(saw[0].channels_closed, 1);
        assert_int_equal(saw[1].channels_closed, 1);
        pair_clear(&p);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init_is_checked),
        cmocka_unit_test(test_init_of_an_older_caller),
        cmocka_unit_test(test_options_travel),
        cmocka_unit_test(test_longest_names),
        cmocka_unit_test(test_names_with_nul),
        cmocka_unit_test(test_negotiated),
        cmocka_unit_test(test_negotiated_is_closed),
        cmocka_unit_test(test_negotiated_on_one_side_only),
        cmocka_unit_test(test_text_is_utf8),
        cmocka_unit_test(test_priorities),
        cmocka_unit_test(test_close_with_full_buffers),
        cmocka_unit_test(test_close_while_opening),
        cmocka_unit_test(test_open_at_any_time),
        cmocka_unit_test(test_closed_into_a_full_buffer),
    };
    return PAIR_RUN_BOTH_WAYS(tests);
}
