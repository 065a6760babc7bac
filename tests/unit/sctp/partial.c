/* Partial reliability, RFC 8831 §6.1: what is given up is given up whole, and nothing else suffers. */
#include "seen.h"

#define DATA_CHUNK      0
#define I_DATA_CHUNK    0x40
#define HEARTBEAT_CHUNK 4
#define RE_CONFIG_CHUNK 130

static dp_channel *open_limited(pair *p, bool ordered, int32_t retransmits, int32_t lifetime)
{
    dp_channel_init init = DP_CHANNEL_INIT("limited");
    init.ordered = ordered;
    init.max_retransmits = retransmits;
    init.max_packet_lifetime = lifetime;
    dp_channel *channel;
    assert_int_equal(dp_sctp_open_channel(p->end[0], &channel, virtual_now, &init), DP_OK);
    return channel;
}

static bool saw_marker(pair *p)
{
    (void)p;
    size_t i = 0;
    while (i < saw[1].messages && saw[1].lens[i] != 17)
        i++;
    return i < saw[1].messages;
}

/* A reliable message behind everything arrives as soon as the path is good again. */
static void check_alive(pair *p, dp_channel *reliable)
{
    p->loss = p->reorder = p->duplicate = 0;
    p->cut[0] = p->cut[1] = false;
    assert_int_equal(dp_channel_send(reliable, virtual_now, make(17), 17, true, false), DP_OK);
    assert_true(pair_run_until(p, saw_marker, DP_SECONDS(30)));
    assert_int_equal(saw[0].closed + saw[1].closed + saw[0].errors + saw[1].errors, 0);
}

/* Single packets, never repeated: some are lost, those that come are in order if the channel is. */
static void test_no_retransmits(void **state)
{
    (void)state;
    for (int ordered = 0; ordered < 2; ordered++) {
        pair p;
        dp_channel *reliable = up(&p, 50, true);
        dp_channel *limited = open_limited(&p, ordered != 0, 0, -1);
        pair_run(&p, DP_MS(100));
        p.loss = 20;
        for (size_t i = 0; i < 500; i++) {
            assert_int_equal(dp_channel_send(limited, virtual_now, make(i + 100), i + 100, true, false),
                             DP_OK);
            pair_run(&p, DP_MS(5));
        }
        pair_run(&p, DP_SECONDS(2));
        assert_in_range(saw[1].messages, 300, 480);
        for (size_t i = 1; ordered && i < saw[1].messages; i++)
            assert_true(saw[1].lens[i] > saw[1].lens[i - 1]);
        assert_int_equal(dp_channel_buffered_amount(limited), 0);
        check_alive(&p, reliable);
        pair_clear(&p);
    }
}

/* During an outage send goes on accepting: what has waited for too long makes room. Afterwards the new comes, not
 * the old. */
static void test_lifetime(void **state)
{
    (void)state;
    pair p;
    dp_channel *reliable = up(&p, 51, true);
    dp_channel *limited = open_limited(&p, false, -1, 100);
    dp_channel_set_buffered_amount_low_threshold(limited, 50000);
    pair_run(&p, DP_MS(100));
    p.cut[1] = true;
    for (int ms = 0; ms < 1500; ms++) {
        int error;
        while ((error = dp_channel_send(limited, virtual_now, make(40000), 40000, true, false)) == DP_OK) {
        }
        assert_int_equal(error, DP_ERR_WOULD_BLOCK);
        pair_run(&p, DP_MS(1));
    }
    pair_run(&p, DP_MS(200));
    assert_in_range(dp_channel_buffered_amount(limited), 0,
                    40000); /* only what usrsctp has the beginning of */
    assert_true(saw[0].low > 0);
    p.cut[1] = false;
    assert_int_equal(dp_channel_send(limited, virtual_now, make(50000), 50000, true, false), DP_OK);
    pair_run(&p, DP_SECONDS(20));
    /* usrsctp looks at what it holds itself, 1 MiB, only after it has sent it once. */
    assert_true(saw[1].messages < 40);
    check_alive(&p, reliable);
    pair_clear(&p);
}

/* Lifetime 0: what cannot leave at once never does. */
static void test_lifetime_zero(void **state)
{
    (void)state;
    pair p;
    dp_channel *reliable = up(&p, 52, true);
    dp_channel *limited = open_limited(&p, true, -1, 0);
    pair_run(&p, DP_MS(100));
    assert_int_equal(dp_channel_send(limited, virtual_now, make(30), 30, true, false), DP_OK);
    pair_run(&p, DP_MS(100));
    assert_int_equal(saw[1].messages, 1);
    while (dp_channel_send(reliable, virtual_now, make(60000), 60000, true, false) == DP_OK) {
    }
    p.cut[1] = true;
    pair_run(&p, DP_MS(20)); /* usrsctp takes nothing from anybody */
    assert_int_equal(dp_channel_send(limited, virtual_now, make(31), 31, true, false), DP_OK);
    assert_int_equal(dp_channel_buffered_amount(limited), 31);
    pair_run(&p, DP_MS(200));
    assert_int_equal(dp_channel_buffered_amount(limited), 0);
    p.cut[1] = false;
    pair_run(&p, DP_SECONDS(10));
    for (size_t i = 0; i < saw[1].messages; i++)
        assert_int_not_equal(saw[1].lens[i], 31);
    check_alive(&p, reliable);
    pair_clear(&p);
}

/* Not only when a timer runs out: usrsctp has room again 2 ms later, and that is too late. */
static void test_lifetime_zero_in_between(void **state)
{
    (void)state;
    pair p;
    dp_sctp_config config = {.send_buffer_size = 16384};
    memset(saw, 0, sizeof saw);
    pair_init_with(&p, 54, &config);
    p.on_event = on_event;
    p.delay = DP_MS(1);
    dp_channel *reliable = open_channel(&p, 0, "reliable", true);
    dp_channel *limited = open_limited(&p, true, -1, 0);
    pair_start(&p);
    pair_run(&p, DP_MS(100));
    for (int i = 0; i < 10; i++) {
        assert_int_equal(dp_channel_send(reliable, virtual_now, make(17000), 17000, true, false), DP_OK);
        assert_int_equal(dp_channel_send(limited, virtual_now, make(31), 31, true, false), DP_OK);
        assert_int_equal(dp_channel_buffered_amount(limited), 31);
        pair_run(&p, DP_MS(101)); /* at another place between two ticks each time */
    }
    assert_int_equal(saw[1].messages, 10);
    pair_clear(&p);
}

/* usrsctp repeats a lone packet after 250 ms at the earliest: longer than these live. */
static void test_lifetime_on_the_way(void **state)
{
    (void)state;
    pair p;
    dp_channel *reliable = up(&p, 55, true);
    dp_channel *limited = open_limited(&p, false, -1, 50);
    pair_run(&p, DP_MS(100));
    p.loss = 20;
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(dp_channel_send(limited, virtual_now, make(i + 100), i + 100, true, false), DP_OK);
        pair_run(&p, DP_MS(300));
    }
    assert_in_range(saw[1].messages, 60, 95);
    check_alive(&p, reliable);
    pair_clear(&p);
}

/* The OPEN, and what is sent before its ACK, is reliable and ordered whatever the channel is (RFC 8832 §6). */
static unsigned flags_seen; /* of DATA with 100 bytes: 1 ordered, 2 unordered */
static void watch_flags(pair *p, int from, uint8_t *data, size_t *len)
{
    (void)p;
    size_t header = pair_sends_data ? 16 : 20;
    if (from == 0 && *len == 12 + header + 100 && data[12] == (pair_sends_data ? DATA_CHUNK : I_DATA_CHUNK))
        flags_seen |= (data[13] & 4) != 0 ? 2 : 1;
}

static bool two_messages(pair *p)
{
    (void)p;
    return saw[1].messages == 2;
}

static void test_before_the_ack(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        pair p;
        up(&p, 60 + seed, true);
        p.loss = 50;
        dp_channel *limited = open_limited(&p, false, seed % 2 == 0 ? 0 : -1, seed % 2 == 0 ? -1 : 0);
        for (size_t i = 1; i <= 2; i++)
            assert_int_equal(dp_channel_send(limited, virtual_now, make(i), i, true, false), DP_OK);
        assert_true(pair_run_until(&p, two_messages, DP_SECONDS(60)));
        assert_int_equal(saw[1].lens[0], 1);
        pair_clear(&p);
    }
    pair p;
    up(&p, 80, true);
    p.on_packet = watch_flags;
    dp_channel *limited = open_limited(&p, false, 0, -1);
    pair_drain(&p); /* its OPEN leaves alone */
    flags_seen = 0;
    assert_int_equal(dp_channel_send(limited, virtual_now, make(100), 100, true, false), DP_OK);
    pair_run(&p, DP_MS(100));
    assert_int_equal(flags_seen, 1);
    flags_seen = 0;
    assert_int_equal(dp_channel_send(limited, virtual_now, make(100), 100, true, false), DP_OK);
    pair_run(&p, DP_MS(100));
    assert_int_equal(flags_seen, 2);
    pair_clear(&p);
}

/* Long messages given up in the middle, beside reliable ones, on paths of every kind: what comes is whole (on_event
 * looks at each byte), the reliable channel loses nothing, and the limited one closes and opens again. */
static void abandon(uint64_t seed, bool ordered, int32_t retransmits, int32_t lifetime)
{
    static const unsigned losses[] = {1, 10, 30};
    static const size_t lens[] = {1200, 3000, 20000, 100000};
    pair p;
    dp_channel *reliable = up(&p, seed, true);
    dp_channel *limited = open_limited(&p, ordered, retransmits, lifetime);
    pair_run(&p, DP_MS(100));
    p.loss = losses[seed % 3];
    p.reorder = seed % 2 == 0 ? 20 : 0;
    p.duplicate = seed % 5 == 0 ? 5 : 0;
    size_t sure = 0;
    for (size_t i = 0; i < 60; i++) {
        size_t len = lens[(i + seed) % 4] + i;
        (void)dp_channel_send(limited, virtual_now, make(len), len, true, false);
        if (i % 5 == 0) {
            assert_int_equal(dp_channel_send(reliable, virtual_now, make(5000), 5000, true, false), DP_OK);
            sure++;
        }
        pair_run(&p, DP_MS(20));
    }
    check_alive(&p, reliable);
    for (size_t i = 0; i < saw[1].messages; i++)
        sure -= saw[1].lens[i] == 5000;
    assert_int_equal(sure, 0);
    int id = dp_channel_id(limited);
    dp_channel_close(limited, virtual_now);
    pair_run(&p, DP_SECONDS(10));
    assert_int_equal(saw[0].channels_closed, 1);
    assert_int_equal(saw[1].channels_closed, 1);
    limited = open_limited(&p, ordered, retransmits, lifetime);
    assert_int_equal(dp_channel_id(limited), id);
    size_t before = saw[1].messages;
    assert_int_equal(dp_channel_send(limited, virtual_now, make(9), 9, true, false), DP_OK);
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(saw[1].messages, before + 1);
    pair_clear(&p);
}

static void test_abandoned_in_the_middle(void **state)
{
    (void)state;
    static const int32_t limits[][2] = {{0, -1}, {1, -1}, {3, -1}, {-1, 0}, {-1, 50}, {-1, 400}};
    for (uint64_t seed = 0; seed < 60; seed++)
        abandon(100 + seed, seed / 6 % 2 == 0, limits[seed % 6][0], limits[seed % 6][1]);
}

/* Closed while half of a message that is being given up waits: the rest of it goes the same way. */
static void test_closed_with_expired_messages(void **state)
{
    (void)state;
    pair p;
    dp_channel *reliable = up(&p, 53, true);
    dp_channel *limited = open_limited(&p, false, -1, 50);
    pair_run(&p, DP_MS(100));
    p.loss = 30;
    while (dp_channel_send(limited, virtual_now, make(BIG), BIG, true, false) == DP_OK) {
    }
    pair_run(&p, DP_MS(20));
    dp_channel_close(limited, virtual_now);
    check_alive(&p, reliable);
    pair_run(&p, DP_SECONDS(5));
    assert_int_equal(saw[0].channels_closed, 1);
    assert_int_equal(saw[1].channels_closed, 1);
    pair_clear(&p);
}

/* Closed while a long message of another channel goes out, and all that it had to say expires before its turn, if there are no
 * turns within messages: nothing is left to wait for then. (To wait for the turn could take longer than the 30 s after which a close is given up, and the
 * peer never heard of it.) */
static void test_closed_and_expired_before_its_turn(void **state)
{
    (void)state;
    pair p;
    dp_channel *reliable = up(&p, 54, true);
    dp_channel *limited = open_limited(&p, true, -1, 50);
    pair_run(&p, DP_MS(100));
    p.delay = DP_SECONDS(1);
    assert_int_equal(dp_channel_send(reliable, virtual_now, make(BIG), BIG, true, false), DP_OK);
    assert_int_equal(dp_channel_send(limited, virtual_now, make(100), 100, true, false), DP_OK);
    dp_channel_close(limited, virtual_now);
    pair_run(&p, DP_SECONDS(pair_sends_data ? 5 : 15));
    assert_int_equal(saw[0].channels_closed, 1);
    assert_int_equal(saw[1].channels_closed, 1);
    assert_in_range(saw[1].messages, 0, pair_sends_data ? 0 : 2); /* the long one is still on its way */
    p.delay = DP_MS(5);
    check_alive(&p, reliable);
    pair_clear(&p);
}

/* More streams are asked for when usrsctp has sent all that it has. If the last of it is a message that it gives up, nothing
 * tells of that: what is left of it goes after the last SACK. */
static void test_streams_after_giving_up(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        pair p;
        up(&p, 200 + seed, true);
        dp_channel *limited = open_limited(&p, seed % 2 == 0, 0, -1);
        pair_run(&p, DP_MS(100));
        p.loss = 5;
        assert_int_equal(dp_channel_send(limited, virtual_now, make(100000), 100000, true, false), DP_OK);
        dp_channel_init init = DP_CHANNEL_INIT("far");
        init.negotiated = true;
        init.id = 600;
        dp_channel *far[2];
        for (int i = 0; i < 2; i++)
            assert_int_equal(dp_sctp_open_channel(p.end[i], &far[i], virtual_now, &init), DP_OK);
        pair_run(&p, DP_SECONDS(5));
        check_alive(&p, far[0]);
        pair_clear(&p);
    }
}

static void lose_most(pair *p, int from, uint8_t *data, size_t *len)
{
    (void)p;
    if (from == 0 && (data[12] == DATA_CHUNK || data[12] == I_DATA_CHUNK || data[12] == HEARTBEAT_CHUNK ||
                      data[12] == RE_CONFIG_CHUNK))
        *len = 0;
}

/* Many retransmissions, and the path counts as unreachable: then the rest of a message that is given up stays where it is as long
 * as another stream's reset is on its way, and usrsctp throws it away without a look at the reset that waits for it. */
static void test_reset_after_giving_up(void **state)
{
    (void)state;
    pair p;
    dp_channel *other = up(&p, 300, true);
    dp_channel *limited = open_limited(&p, true, 11, -1);
    dp_channel *talk = open_channel(&p, 1, "talk", true);
    pair_run(&p, DP_MS(100));
    p.on_packet = lose_most;
    assert_int_equal(dp_channel_send(limited, virtual_now, make(30000), 30000, true, false), DP_OK);
    dp_channel_close(limited, virtual_now);
    dp_channel_close(other, virtual_now);
    for (int i = 0; i < 100;
         i++) { /* that the peer is there is heard all the time, else the association would end */
        assert_int_equal(dp_channel_send(talk, virtual_now, make(1), 1, true, false), DP_OK);
        pair_run(&p, DP_SECONDS(1));
        if (i == 70)
            p.on_packet = NULL;
    }
    assert_int_equal(saw[1].closed, 0);
    assert_int_equal(saw[1].channels_closed, 2);
    pair_clear(&p);
}

/* An owner may let the clock of an association run on that it has aborted. */
static void test_no_forward_tsn_after_the_end(void **state)
{
    (void)state;
    pair p;
    up(&p, 60, true);
    dp_channel *limited = open_limited(&p, true, 0, -1);
    pair_run(&p, DP_MS(100));
    p.cut[0] = p.cut[1] = true;
    assert_int_equal(dp_channel_send(limited, virtual_now, make(100), 100, true, false), DP_OK);
    pair_run(&p, DP_SECONDS(2));
    uint64_t packets = p.packets;
    pair_run(&p, DP_SECONDS(4));
    assert_true(p.packets > packets); /* it is repeated */
    dp_sctp_abort(p.end[0], virtual_now);
    pair_drain(&p);
    packets = p.packets;
    virtual_now += DP_SECONDS(1);
    dp_sctp_handle_timeout(p.end[0], virtual_now);
    pair_drain(&p);
    assert_int_equal(p.packets, packets);
    pair_clear(&p);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_retransmits),
        cmocka_unit_test(test_lifetime),
        cmocka_unit_test(test_lifetime_zero),
        cmocka_unit_test(test_lifetime_zero_in_between),
        cmocka_unit_test(test_lifetime_on_the_way),
        cmocka_unit_test(test_before_the_ack),
        cmocka_unit_test(test_abandoned_in_the_middle),
        cmocka_unit_test(test_closed_with_expired_messages),
        cmocka_unit_test(test_closed_and_expired_before_its_turn),
        cmocka_unit_test(test_streams_after_giving_up),
        cmocka_unit_test(test_reset_after_giving_up),
        cmocka_unit_test(test_no_forward_tsn_after_the_end),
    };
    return PAIR_RUN_BOTH_WAYS(tests);
}
