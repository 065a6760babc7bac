/* Messages that are sent in parts. */
#include "parts.h"

/* Any division makes the same message; what is not over the limit comes whole. */
static void test_send_parts(void **state)
{
    (void)state;
    static const size_t lens[] = {3000000, WHOLE + 1, 500000, 1000000};
    for (uint64_t seed = 0; seed < 8; seed++) {
        pair p;
        dp_channel *channel = up_in_parts(&p, 500 + seed, seed % 2 == 0);
        dp_channel_set_user(channel, &p);
        p.loss = (unsigned)seed;
        for (int i = 0; i < 4; i++) {
            uint8_t *data = make_large((uint64_t)i, lens[i]);
            for (size_t at = 0, n; at < lens[i]; at += n) {
                n = 1 + pair_random(&p) % (pair_random(&p) % 2 == 0 ? 5000 : 200000);
                n = n < lens[i] - at ? n : lens[i] - at;
                send_part(&p, channel, data + at, n, at + n == lens[i]);
                if (pair_random(&p) % 4 == 0)
                    pair_run(&p, DP_MS(20));
            }
            free(data);
            send_part(&p, channel, make(5000), 1, false);
            send_part(&p, channel, make(5000) + 1, 4999, true);
            send_all(channel, make(100), 100, true);
        }
        wanted = 4;
        assert_true(pair_run_until(&p, all_whole, DP_SECONDS(600)));
        pair_run(&p, DP_SECONDS(5));
        check_lens(lens, 4);
        assert_int_equal(saw[1].messages, 8);
        assert_int_equal(dp_channel_buffered_amount(channel), 0);
        assert_int_equal(saw[0].closed + saw[1].closed, 0);
        dp_channel_stats stats;
        dp_channel_get_stats(channel, &stats);
        assert_int_equal(stats.messages_sent, 12);
        assert_int_equal(stats.bytes_sent, 4500000 + WHOLE + 1 + 20400);
        dp_channel_get_stats(saw[1].in[0], &stats);
        assert_int_equal(stats.messages_received, 12);
        assert_int_equal(stats.bytes_received, 4500000 + WHOLE + 1 + 20400);
        pair_clear(&p);
    }
}

/* Other channels wait until the message ends, also one for whose stream the peer has to be asked; then nothing is lost.
 * The first part leaves at once, or in its turn. */
static void test_others_wait(void **state)
{
    (void)state;
    for (int busy = 0; busy < 2; busy++) {
        pair p;
        dp_sctp_config config = {
            .max_message_size = WHOLE, .max_size_in_parts = DP_UNLIMITED, .initial_channels = 4};
        dp_channel *channel = up_with(&p, 510, true, &config);
        dp_channel *other = open_channel(&p, 0, "other", true);
        pair_run(&p, DP_MS(100));
        p.cut[1] = busy;
        for (int i = 0; busy && i < 10; i++)
            assert_int_equal(dp_channel_send(other, virtual_now, make(WHOLE), WHOLE, true, false), DP_OK);
        uint8_t *data = make_large(0, 100000);
        size_t first = busy ? 1000 : 20000;
        send_part(&p, channel, data, first, false);
        assert_int_equal(dp_channel_buffered_amount(channel), busy ? first : 0);
        if (!busy) /* else usrsctp has the second half of one of its messages before the part */
            assert_int_equal(dp_channel_send(other, virtual_now, make(17), 17, true, false), DP_OK);
        p.cut[1] = false;
        for (int i = 0; !busy && i < 4; i++)
            (void)open_channel(&p, 0, "more", true);
        pair_run(&p, DP_SECONDS(5));
        size_t before = saw[1].messages;
        /* What usrsctp had before the part waits there. */
        assert_in_range(dp_channel_buffered_amount(other), busy ? (9 - before) * WHOLE : 17, 10 * WHOLE);
        assert_true(busy ? before < 10 : before == 0);
        assert_int_equal(parts.begun, !busy);
        assert_int_equal(saw[1].opened, 2);
        send_part(&p, channel, data + first, 100000 - first, false);
        pair_run(&p, DP_SECONDS(5));
        send_part(&p, channel, data, 1, true);
        assert_int_equal(dp_channel_buffered_amount(channel), 0);
        free(data);
        pair_run(&p, DP_SECONDS(2));
        assert_int_equal(parts.whole, 1);
        assert_int_equal(parts.lens[0], 100001);
        assert_int_equal(saw[1].messages, busy ? 10 : 1);
        assert_int_equal(saw[1].opened, busy ? 2 : 6);
        pair_clear(&p);
    }
}

/* The owner closes the channel in the middle: the peer must not take the beginning for the whole. */
static void test_close_in_the_middle(void **state)
{
    (void)state;
    for (int left = 0; left < 2; left++) {
        pair p;
        dp_channel *channel = up_in_parts(&p, 520, true);
        dp_channel *other = open_channel(&p, 0, "other", true);
        pair_run(&p, DP_MS(100));
        if (!left) { /* behind other messages, it can still be taken back */
            p.cut[1] = true;
            for (int i = 0; i < 10; i++)
                assert_int_equal(dp_channel_send(channel, virtual_now, make(WHOLE), WHOLE, true, false),
                                 DP_OK);
        }
        uint8_t *data = make_large(0, 50000);
        send_part(&p, channel, data, 25000, false);
        send_part(&p, channel, data + 25000, 25000, false);
        free(data);
        pair_run(&p, DP_MS(100));
        p.cut[1] = false;
        dp_channel_close(channel, virtual_now);
        pair_run(&p, DP_SECONDS(20));
        assert_int_equal(parts.whole, 0);
        assert_int_equal(saw[1].closed, left);
        assert_int_equal(saw[0].closed, left);
        assert_int_equal(parts.broken, left);
        assert_int_equal(saw[1].messages, left ? 0 : 10);
        if (!left) {
            assert_int_equal(saw[1].channels_closed, 1);
            assert_int_equal(dp_channel_send(other, virtual_now, make(17), 17, true, false), DP_OK);
            pair_run(&p, DP_SECONDS(1));
            assert_int_equal(saw[1].messages, 11);
        }
        pair_clear(&p);
    }
}

/* The peer closes the channel meanwhile: the message that nobody wants is ended, and the others go on. */
static void test_closed_in_the_middle(void **state)
{
    (void)state;
    for (int queued = 0; queued < 2; queued++) {
        pair p;
        dp_channel *channel = up_in_parts(&p, 530, true);
        dp_channel *other = open_channel(&p, 0, "other", true);
        pair_run(&p, DP_MS(100));
        static uint8_t data[900000];
        send_part(&p, channel, data, queued ? sizeof data : 1000, false);
        if (!queued)
            pair_run(&p, DP_MS(100));
        dp_channel_close(saw[1].in[0], virtual_now);
        pair_run(&p, DP_SECONDS(5));
        assert_int_equal(saw[0].channels_closed, 1);
        assert_int_equal(saw[1].channels_closed, 1);
        assert_int_equal(dp_channel_send(other, virtual_now, make(17), 17, true, false), DP_OK);
        pair_run(&p, DP_SECONDS(1));
        assert_int_equal(saw[1].messages, 1);
        assert_int_equal(saw[0].closed + saw[1].closed, 0);
        pair_clear(&p);
    }
}

/* An owner that does not go on holds the other channels for 30 s, not longer. */
static void test_owner_stops(void **state)
{
    (void)state;
    pair p;
    dp_channel *channel = up_in_parts(&p, 540, true);
    for (int i = 0; i < 3; i++) {
        send_part(&p, channel, make(10), 10, false);
        pair_run(&p, DP_SECONDS(29));
    }
    assert_int_equal(saw[0].closed, 0);
    pair_run(&p, DP_SECONDS(2));
    assert_int_equal(saw[0].closed, 1);
    assert_int_equal(saw[0].closed_error, DP_ERR_TIMEOUT);
    assert_int_equal(saw[1].closed, 1);
    assert_int_equal(saw[1].messages, 0);
    pair_clear(&p);
}

static void test_part_errors(void **state)
{
    (void)state;
    pair p;
    memset(&parts, 0, sizeof parts);
    dp_channel *channel = up(&p, 550, true); /* 262144 bytes are allowed */
    dp_channel *other = open_channel(&p, 0, "other", true);
    pair_run(&p, DP_MS(100));
    assert_int_equal(dp_channel_send_part(channel, virtual_now, make(1), 0, true, true),
                     DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_channel_send_part(channel, virtual_now, NULL, 1, true, true),
                     DP_ERR_INVALID_ARGUMENT);
    static uint8_t data[BIG];
    memcpy(data, make(BIG), BIG);
    assert_int_equal(dp_channel_send_part(channel, virtual_now, data, BIG - 1, true, false), DP_OK);
    assert_int_equal(dp_channel_send_part(channel, virtual_now, data, 1, false, true),
                     DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_channel_send_part(channel, virtual_now, data, 2, true, true), DP_ERR_TOO_LARGE);
    assert_int_equal(dp_channel_send(channel, virtual_now, data, 1, true, false), DP_ERR_INVALID_STATE);
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(dp_channel_send(other, virtual_now, make(17), 17, true, false), DP_OK);
    assert_int_equal(dp_channel_buffered_amount(other), 17);
    assert_int_equal(dp_channel_send_part(channel, virtual_now, data + BIG - 1, 1, true, true), DP_OK);
    assert_int_equal(dp_channel_buffered_amount(other), 0); /* not only at the next tick */
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(saw[1].messages, 2);
    assert_int_equal(saw[1].lens[0], BIG);
    dp_channel_close(channel, virtual_now);
    assert_int_equal(dp_channel_send_part(channel, virtual_now, make(1), 1, true, true),
                     DP_ERR_INVALID_STATE);
    pair_clear(&p);
}

int main(void)
{
    virtual_now = DP_SECONDS(1000);
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_send_parts),          cmocka_unit_test(test_others_wait),
        cmocka_unit_test(test_close_in_the_middle), cmocka_unit_test(test_closed_in_the_middle),
        cmocka_unit_test(test_owner_stops),         cmocka_unit_test(test_part_errors),
    };
    return PAIR_RUN_BOTH_WAYS(tests);
}
