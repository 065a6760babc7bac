#include "sctp/sender.h"

#include "base/wr.h"
#include "sctp/filter.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the headers above */
#include <cmocka.h>

#define CHUNK 1000u

static dp_sender sender;
static dp_time now;

static dp_wr packet(uint8_t *out, size_t capacity)
{
    dp_wr wr = dp_wr_init(out, capacity);
    dp_wr_zeros(&wr, DP_SCTP_COMMON_HEADER);
    return wr;
}

/* usrsctp sends a chunk. */
static void leaves(uint32_t tsn, size_t len)
{
    uint8_t out[16384];
    dp_wr wr = packet(out, sizeof out);
    dp_wr_u16(&wr, 0x0003);
    dp_wr_u16(&wr, (uint16_t)(16 + len));
    dp_wr_u32(&wr, tsn);
    dp_wr_zeros(&wr, 8 + len);
    dp_sender_output(&sender, now, out, wr.len);
}

static void sack(uint32_t tsn, uint16_t gaps)
{
    uint8_t in[64];
    dp_wr wr = packet(in, sizeof in);
    dp_wr_u16(&wr, 0x0300);
    dp_wr_u16(&wr, (uint16_t)(16 + 4 * gaps));
    dp_wr_u32(&wr, tsn);
    dp_wr_u32(&wr, 100000);
    dp_wr_u16(&wr, gaps);
    dp_wr_u16(&wr, 0);
    for (uint16_t i = 0; i < gaps; i++)
        dp_wr_u32(&wr, 0x00020002);
    assert_int_equal(dp_sender_input(&sender, now, in, wr.len), 0);
}

static size_t room(void) { return dp_sender_room(&sender, now, dp_sender_in_flight(&sender)); }

static int setup(void **state)
{
    (void)state;
    now = DP_SECONDS(1);
    dp_sender_init(&sender);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    dp_sender_clear(&sender);
    return 0;
}

static void test_unsent_is_bounded(void **state)
{
    (void)state;
    size_t all = room();
    assert_int_equal(all, 32768);
    dp_sender_hand_over(&sender, all);
    leaves(0xffffffff, CHUNK);
    assert_int_equal(room(), CHUNK);
    dp_sender_hand_over(&sender, CHUNK);
    assert_int_equal(room(), 0);
    dp_sender_take_back(&sender, 10);
    assert_int_equal(room(), 10);
    leaves(0xffffffff, CHUNK); /* again: it was sent already */
    assert_int_equal(room(), 10);
    leaves(0, CHUNK);
    assert_int_equal(dp_sender_in_flight(&sender), 2);
    assert_int_equal(room(), CHUNK + 10);
}

/* usrsctp gives up messages and does not say so: what it has seems to be more than it is. */
static void test_given_up(void **state)
{
    (void)state;
    dp_sender_hand_over(&sender, 32768);
    leaves(7, CHUNK);
    dp_sender_hand_over(&sender, CHUNK);
    assert_int_equal(room(), 0);
    now += DP_MS(500);
    assert_int_equal(room(), 32768); /* nothing moves */
    dp_sender_hand_over(&sender, 32768);
    assert_int_equal(room(), 0); /* only now and then */
    sack(9, 0);                  /* two TSNs that never left */
    assert_int_equal(dp_sender_in_flight(&sender), 0);
    assert_int_equal(room(), 32768);
}

/* A sender in slow start, two chunks more for each two that a SACK acknowledges, before a link that takes 200 us a chunk and
 * 100 ms. Returns the most that was under way: 500 chunks fill the link. */
static uint32_t slow_start(void)
{
    static dp_time arrivals[65536];
    uint32_t next = 0, acknowledged = 0, window = 10, most = 0;
    dp_time free_at = now;
    dp_sender_init(&sender);
    for (int i = 0; i < 3000; i++) {
        while (next - acknowledged < window && room() >= CHUNK) {
            dp_sender_hand_over(&sender, CHUNK);
            free_at = (free_at > now ? free_at : now) + 200;
            arrivals[next] = free_at + DP_MS(100);
            leaves(next++, CHUNK);
        }
        if (next - acknowledged > most)
            most = next - acknowledged;
        acknowledged += 2;
        now = arrivals[acknowledged - 1];
        sack(acknowledged - 1, 0);
        window += 2;
    }
    return most;
}

static void test_slow_start_ends(void **state)
{
    (void)state;
    assert_in_range(slow_start(), 500, 1000);
}

/* Packets of many small chunks: a SACK for most of what is under way does not make the window smaller. */
static void test_window_of_small_chunks(void **state)
{
    (void)state;
    uint32_t tsn = 1;
    for (int round = 0; round < 4; round++) {
        for (uint32_t end = tsn + 600; tsn != end; tsn++) {
            assert_true(room() >= 100);
            dp_sender_hand_over(&sender, 100);
            leaves(tsn, 100);
        }
        now += DP_MS(1);
        sack(tsn - 201, 0);
    }
}

/* One chunk after the other, each acknowledged after round_trip. */
static uint32_t ping(uint32_t tsn, unsigned times, dp_duration round_trip)
{
    for (unsigned i = 0; i < times; i++) {
        dp_sender_hand_over(&sender, CHUNK);
        leaves(tsn, CHUNK);
        now += round_trip;
        sack(tsn++, 0);
        now += DP_MS(2);
    }
    return tsn;
}

/* How many chunks may be under way, of those that leave at once. */
static uint32_t most_under_way(uint32_t tsn)
{
    uint32_t first = tsn;
    while (tsn - first < 5000 && room() >= CHUNK) {
        dp_sender_hand_over(&sender, CHUNK);
        leaves(tsn++, CHUNK);
    }
    return tsn - first;
}

/* After ten round trips so long, and DP_SENDER_RECENT or so of another path; slow start is over. */
static uint32_t most_after(dp_duration round_trip, unsigned slow)
{
    dp_sender_init(&sender);
    uint32_t tsn = ping(1, 10, round_trip);
    sender.slow_start = false;
    tsn = ping(tsn, slow, DP_MS(16));
    return most_under_way(tsn);
}

static void test_near_path(void **state)
{
    (void)state;
    assert_int_equal(most_after(1, 0), 786); /* 0.8 GB/s for a millisecond */
    assert_int_equal(most_after(999, 0), 786);
    assert_int_equal(most_after(DP_MS(2), 0), 3 * 786);
    assert_int_equal(most_after(DP_MS(16), 0), 5000);
    /* Data flows by another path now: one short round trip may be an accident, or the old one. */
    assert_int_equal(most_after(300, DP_SENDER_RECENT - 1), 786);
    assert_int_equal(most_after(300, DP_SENDER_RECENT), 5000);
}

/* What ICE measured counts from the beginning, and until the path changes. That data needs longer is no delay: the ends need
 * time, too. */
static void test_round_trip_of_the_path(void **state)
{
    (void)state;
    dp_sender_path_changed(&sender, 300);
    uint32_t tsn = ping(1, 10, DP_MS(15));
    assert_int_equal(most_under_way(tsn), 786);
    dp_sender_init(&sender);
    dp_sender_path_changed(&sender, 300);
    dp_sender_path_changed(&sender, 0);
    tsn = ping(1, 10, DP_MS(15));
    assert_int_equal(most_under_way(tsn), 5000);
}

/* Small chunks are many, and large ones not so few that the ends wait for each other. */
static void test_near_path_by_size(void **state)
{
    (void)state;
    dp_sender_path_changed(&sender, 300);
    leaves(1, 100);
    assert_int_equal(dp_sender_spare(&sender, 1), 1535);
    leaves(2, 16000);
    assert_int_equal(dp_sender_spare(&sender, 1), 191);
}

/* RFC 3758 §3.5 F: it is repeated until it is acknowledged. */
static void test_forward_is_repeated(void **state)
{
    (void)state;
    uint8_t out[64];
    const uint8_t *again;
    size_t len;
    leaves(100, CHUNK);
    dp_wr wr = packet(out, sizeof out);
    dp_wr_u32(&wr, 0xc000000c);
    dp_wr_u32(&wr, 101);
    dp_wr_u32(&wr, 0x00010002);
    dp_sender_output(&sender, now, out, wr.len);
    assert_false(dp_sender_repeats(&sender, now + DP_MS(299), false, &again, &len));
    for (int i = 0; i < 3; i++) {
        now += DP_MS(300);
        assert_true(dp_sender_repeats(&sender, now, false, &again, &len));
        assert_int_equal(len, wr.len);
        assert_memory_equal(again, out, len);
        assert_false(dp_sender_repeats(&sender, now, false, &again, &len));
    }
    sack(100, 0);
    now += DP_MS(300);
    assert_true(dp_sender_repeats(&sender, now, false, &again, &len));
    sack(101, 0);
    now += DP_MS(300);
    assert_false(dp_sender_repeats(&sender, now, false, &again, &len));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_unsent_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_given_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_start_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_window_of_small_chunks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_near_path, setup, teardown),
        cmocka_unit_test_setup_teardown(test_near_path_by_size, setup, teardown),
        cmocka_unit_test_setup_teardown(test_round_trip_of_the_path, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forward_is_repeated, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
