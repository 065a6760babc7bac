/* Scripted SACKs: what is sent again, when, and what usrsctp is told. */
#include "sctp/repair.h"

#include "base/mem.h"
#include "base/wr.h"
#include "sctp/chunk.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the headers above */
#include <cmocka.h>

#define FIRST   0xfffffffau /* TSNs wrap */
#define PAYLOAD 1000u
#define TRIP    DP_MS(100)
#define MTU     1164u

static dp_repair repair;
static dp_time now;

static int setup(void **state)
{
    (void)state;
    now = DP_SECONDS(1);
    dp_repair_init(&repair, 1u << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    dp_repair_clear(&repair);
    return 0;
}

/* usrsctp sends a chunk, the n-th, in a packet of its own. */
static void leaves_on(uint16_t stream, uint32_t n)
{
    uint8_t out[2048];
    dp_wr wr = dp_wr_init(out, sizeof out);
    dp_wr_zeros(&wr, DP_SCTP_COMMON_HEADER);
    dp_wr_u16(&wr, 0x0003);
    dp_wr_u16(&wr, DP_SCTP_DATA_HEADER + PAYLOAD);
    dp_wr_u32(&wr, FIRST + n);
    dp_wr_u16(&wr, stream);
    dp_wr_zeros(&wr, 6 + PAYLOAD);
    size_t len = wr.len;
    dp_repair_output(&repair, now, out, &len);
}

static void leave(uint32_t from, uint32_t to)
{
    for (uint32_t n = from; n <= to; n++)
        leaves_on(0, n);
}

static struct {
    bool as_it_was;
    uint32_t cumulative; /* n */
    size_t blocks;
    uint16_t from, to; /* of the first block */
} told;

/* All up to before the n-th, then gap blocks as pairs of offsets. */
static void sack_with(uint32_t n, uint32_t window, size_t blocks, const uint16_t *ends)
{
    uint8_t in[4096];
    dp_wr wr = dp_wr_init(in, sizeof in);
    dp_wr_zeros(&wr, DP_SCTP_COMMON_HEADER);
    dp_wr_u16(&wr, 0x0300);
    dp_wr_u16(&wr, (uint16_t)(16 + 4 * blocks));
    dp_wr_u32(&wr, FIRST + n - 1);
    dp_wr_u32(&wr, window);
    dp_wr_u16(&wr, (uint16_t)blocks);
    dp_wr_u16(&wr, 0);
    for (size_t i = 0; i < 2 * blocks; i++)
        dp_wr_u16(&wr, ends[i]);
    const uint8_t *packet = in;
    size_t len = wr.len;
    assert_true(dp_repair_input(&repair, now, &packet, &len));
    told.as_it_was = packet == in;
    assert_true(len <= wr.len);
    dp_rd rd = dp_rd_init(packet, len);
    dp_rd_skip(&rd, DP_SCTP_COMMON_HEADER + 2);
    assert_int_equal(dp_rd_u16(&rd), len - DP_SCTP_COMMON_HEADER);
    told.cumulative = dp_rd_u32(&rd) + 1 - FIRST;
    assert_int_equal(dp_rd_u32(&rd), window);
    told.blocks = dp_rd_u16(&rd);
    dp_rd_skip(&rd, 2);
    told.from = told.blocks > 0 ? dp_rd_u16(&rd) : 0;
    told.to = told.blocks > 0 ? dp_rd_u16(&rd) : 0;
}

static void sack(uint32_t n) { sack_with(n, 100000, 0, NULL); }
static void sack_gap(uint32_t n, uint16_t from, uint16_t to)
{
    sack_with(n, 100000, 1, (uint16_t[]){from, to});
}

static size_t poll_count; /* packets */
/* The chunks that are sent again, counted; *first: the first of them. */
static size_t again(uint32_t room, uint32_t *first)
{
    const uint8_t *packet;
    size_t len, count = 0;
    poll_count = 0;
    while (dp_repair_poll(&repair, now, room, MTU, &packet, &len)) {
        dp_rd chunks = dp_chunks(packet, len);
        dp_chunk chunk;
        poll_count++;
        while (dp_chunk_next(&chunks, &chunk)) {
            assert_int_equal(chunk.type, DP_CHUNK_DATA);
            assert_int_equal(dp_rd_left(&chunk.value), 12 + PAYLOAD);
            uint32_t tsn = dp_rd_u32(&chunk.value);
            if (count++ == 0 && first != NULL)
                *first = tsn - FIRST;
        }
        room -= room > 0;
    }
    return count;
}

/* Chunks 0 to 19 are under way, a round trip has been measured. */
static void begin(void)
{
    leave(0, 9);
    now += TRIP;
    sack(10);
    leave(10, 29);
    now += TRIP;
}

static void test_loss_is_hidden(void **state)
{
    (void)state;
    uint32_t first;
    begin();
    sack_gap(10, 2, 3); /* 11 and 12: 10 may just be late */
    assert_int_equal(again(100, NULL), 0);
    assert_int_equal(told.cumulative, 10);
    assert_int_equal(told.blocks, 0);
    sack_gap(10, 2, 4);
    assert_int_equal(told.cumulative, 14);
    assert_int_equal(told.blocks, 0);
    assert_int_equal(again(100, &first), 1);
    assert_int_equal(first, 10);
    assert_int_equal(repair.found_lost, 1);
    assert_int_equal(again(100, NULL), 0);
    sack_gap(10, 2, 20); /* once a round trip, whatever arrives that left before */
    assert_int_equal(again(100, NULL), 0);
    assert_int_equal(told.cumulative, 30);
    now += TRIP;
    sack(30);
    assert_true(told.as_it_was);
    assert_int_equal(repair.owned, 0);
    assert_int_equal(dp_repair_next_timeout(&repair), DP_TIME_NEVER);
}

/* Too young to be lost, for the way was longer before: it is looked at again, though nothing else arrives. */
static void test_verdict(void **state)
{
    (void)state;
    uint32_t first;
    begin();
    sack(30);
    leave(30, 33);
    dp_time sent = now;
    now += DP_MS(20);
    sack_gap(30, 2, 4);
    assert_int_equal(again(100, NULL), 0);
    dp_time due = dp_repair_next_timeout(&repair);
    assert_in_range(due, now + 1, sent + TRIP);
    now = due - 1;
    dp_repair_handle_timeout(&repair, now);
    assert_int_equal(again(100, NULL), 0);
    now = due;
    dp_repair_handle_timeout(&repair, now);
    assert_int_equal(again(100, &first), 1);
    assert_int_equal(first, 30);
    assert_false(repair.probing);
    assert_in_range(dp_repair_next_timeout(&repair), now + 1, now + 4 * TRIP);
}

/* RFC 9260 §6.2, §6.7: the SACK of a lone chunk may be late, but not behind a gap. */
static void test_lone_chunk(void **state)
{
    (void)state;
    begin();
    sack(29);
    dp_duration alone = dp_repair_next_timeout(&repair) - now;
    dp_repair_clear(&repair);
    begin();
    sack_gap(28, 2, 2);
    assert_int_equal(alone - (dp_repair_next_timeout(&repair) - now), DP_MS(190));
}

/* A retransmission that is lost is found by what left after it. */
static void test_lost_again(void **state)
{
    (void)state;
    begin();
    sack_gap(10, 2, 20);
    assert_int_equal(again(100, NULL), 1);
    leave(30, 35);
    now += TRIP;
    sack_gap(10, 2, 22); /* 30, 31 */
    assert_int_equal(again(100, NULL), 0);
    sack_gap(10, 2, 23);
    assert_int_equal(again(100, NULL), 1);
    assert_int_equal(repair.repeated, 2);
}

/* A hostile peer acknowledges before anything can have arrived: what left a moment ago is not sent again. */
static void test_no_amplification(void **state)
{
    (void)state;
    begin();
    sack_gap(10, 19, 20);
    assert_int_equal(again(100, NULL), 17);
    leave(30, 60);
    now += DP_MS(1);
    for (uint16_t to = 21; to < 30; to++) {
        sack_gap(10, 19, to);
        assert_true(again(100, NULL) <= 1);
    }
    now += TRIP;
    sack_gap(10, 19, 46);
    assert_int_equal(again(100, NULL), 17);
}

static void test_window(void **state)
{
    (void)state;
    begin();
    sack_gap(10, 10, 20);
    assert_int_equal(repair.lost.count, 9);
    assert_int_equal(again(4, NULL), 4);
    assert_int_equal(dp_repair_in_flight(&repair), 4);
    assert_int_equal(again(0, NULL), 0);
}

/* RFC 8985 §7: nothing arrives any more. The probe's arrival tells of all the others. */
static void test_probe(void **state)
{
    (void)state;
    uint32_t first;
    begin();
    dp_time due = dp_repair_next_timeout(&repair);
    assert_in_range(due, now + 1, now + 4 * TRIP);
    now = due - 1;
    dp_repair_handle_timeout(&repair, now);
    assert_int_equal(again(0, NULL), 0);
    now = due;
    dp_repair_handle_timeout(&repair, now);
    assert_int_equal(again(0, &first), 1); /* also into a window that is full */
    assert_int_equal(first, 10);
    now += TRIP;
    sack(11);
    assert_int_equal(told.cumulative, 30);
    assert_int_equal(again(100, NULL), 19);
}

/* It is what the peer waits for, though that was sent last. */
static void test_probe_is_the_first(void **state)
{
    (void)state;
    uint32_t first;
    begin();
    sack_gap(10, 2, 4);
    assert_int_equal(again(100, NULL), 1);
    now = dp_repair_next_timeout(&repair);
    dp_repair_handle_timeout(&repair, now);
    assert_int_equal(again(0, &first), 1);
    assert_int_equal(first, 10);
}

/* RFC 9260 §8.1: as often as usrsctp would try, but not while the peer says that it has no room. */
static void test_gives_up(void **state)
{
    (void)state;
    for (int closed = 0; closed < 2; closed++) {
        dp_repair_clear(&repair);
        begin();
        for (int i = 0; i < 11; i++) {
            assert_false(repair.failed);
            now = dp_repair_next_timeout(&repair);
            dp_repair_handle_timeout(&repair, now);
            if (i < 10)
                assert_int_equal(again(0, NULL), 1);
            if (closed)
                sack_with(10, 0, 0, NULL);
        }
        assert_int_equal(repair.failed, !closed);
    }
}

/* A short way whose timer is short: the association outlives what it did when usrsctp alone watched it. */
static void test_outage(void **state)
{
    (void)state;
    leave(0, 9);
    now += DP_MS(1);
    sack(10);
    leave(10, 29);
    dp_time cut = now;
    while (!repair.failed) {
        now = dp_repair_next_timeout(&repair);
        dp_repair_handle_timeout(&repair, now);
        (void)again(0, NULL);
    }
    assert_in_range(now - cut, DP_SECONDS(35), DP_SECONDS(45));
}

/* Before the first SACK the peer may not have the association yet. */
static void test_waits_for_an_answer(void **state)
{
    (void)state;
    leave(0, 9);
    assert_int_equal(dp_repair_next_timeout(&repair), DP_TIME_NEVER);
}

/* What may be given up is usrsctp's, and it sees that gap; FORWARD-TSN must not pass what is ours. */
static void test_limited(void **state)
{
    (void)state;
    assert_int_equal(dp_repair_limit(&repair, 9), DP_OK);
    leave(0, 9);
    now += TRIP;
    sack(10);
    leaves_on(9, 10);
    leave(11, 29);
    now += TRIP;
    sack_with(10, 100000, 2, (uint16_t[]){2, 5, 7, 20}); /* 10 and 15 are missing */
    assert_int_equal(again(100, NULL), 1);
    assert_int_equal(told.cumulative, 10);
    assert_int_equal(told.blocks, 1);
    assert_int_equal(told.from, 2);
    assert_int_equal(told.to, 20);
    assert_false(dp_repair_holds(&repair, FIRST + 14));
    assert_true(dp_repair_holds(&repair, FIRST + 15));
    sack(30);
    assert_false(dp_repair_holds(&repair, FIRST + 15));
}

static void *no_alloc(void *ctx, size_t size)
{
    (void)ctx;
    (void)size;
    return NULL;
}
static void *no_realloc(void *ctx, void *old, size_t size)
{
    (void)ctx;
    (void)old;
    (void)size;
    return NULL;
}
static void plain_free(void *ctx, void *block)
{
    (void)ctx;
    free(block);
}
static const dp_allocator nothing = {no_alloc, no_realloc, plain_free, NULL};

/* DATA, FORWARD-TSN, DATA: the peer would skip 10, for which it waits. Without memory the packet is lost, and 10 is not. */
static void test_forward_is_held(void **state)
{
    (void)state;
    uint8_t out[128];
    dp_wr wr = dp_wr_init(out, sizeof out);
    for (int i = 0; i < 3; i++) {
        dp_wr_zeros(&wr, i == 0 ? DP_SCTP_COMMON_HEADER : 0);
        dp_wr_u16(&wr, i == 1 ? DP_CHUNK_FORWARD_TSN << 8 : 0x0003);
        dp_wr_u16(&wr, i == 1 ? 8 : 20);
        dp_wr_u32(&wr, FIRST + (i == 1 ? 10 : 40));
        dp_wr_zeros(&wr, i == 1 ? 0 : 12);
    }
    uint8_t *rest;
    size_t len = wr.len;
    begin();
    assert_int_equal(dp_repair_hold_forward(&repair, &rest, out, &len), DP_OK);
    assert_null(rest);
    sack_gap(10, 2, 20);
    assert_int_equal(dp_repair_hold_forward(&repair, &rest, out, &len), DP_OK);
    assert_int_equal(len, wr.len - 8);
    assert_memory_equal(rest, out, 32);
    assert_memory_equal(rest + 32, out + 40, 20);
    dp_free(rest);
    dp_set_allocator(&nothing);
    len = wr.len;
    assert_int_equal(dp_repair_hold_forward(&repair, &rest, out, &len), DP_ERR_NO_MEMORY);
    dp_set_allocator(NULL);
    assert_null(rest);
}

/* RFC 9260 §6.2.1: usrsctp has forgotten 11 to 13, so they come from here. */
static void test_reneged(void **state)
{
    (void)state;
    begin();
    sack_gap(10, 2, 4);
    assert_int_equal(again(100, NULL), 1);
    assert_int_equal(told.cumulative, 14);
    now += TRIP;
    sack(11); /* it has 10, and nothing else: that left behind 14 to 27, too */
    assert_int_equal(told.cumulative, 28);
    assert_int_equal(again(100, NULL), 3 + 14);
    assert_true(dp_repair_holds(&repair, FIRST + 13));
}

/* Blocks that overlap, descend or were never sent say nothing. */
static void test_bad_blocks(void **state)
{
    (void)state;
    begin();
    sack_with(10, 100000, 2, (uint16_t[]){2, 2, 40, 60});
    sack_with(10, 100000, 1, (uint16_t[]){1, 20});
    sack_with(10, 100000, 1, (uint16_t[]){20, 3});
    sack_with(10, 100000, 2, (uint16_t[]){20, 3, 5, 20});
    sack_with(10, 100000, 1, (uint16_t[]){2, 21});
    assert_int_equal(again(100, NULL), 0);
    assert_int_equal(repair.delivered, 11);
    sack(9000); /* usrsctp aborts at what was never sent */
    assert_true(told.as_it_was);
    assert_int_equal(repair.delivered, 11);
    sack(9); /* old */
    assert_true(told.as_it_was);
}

/* What left when there was no memory for a copy is usrsctp's. */
static void test_no_copy(void **state)
{
    (void)state;
    dp_set_allocator(&nothing);
    leave(0, 9);
    dp_set_allocator(NULL);
    now += TRIP;
    sack_gap(0, 2, 10);
    assert_int_equal(again(100, NULL), 0);
    assert_int_equal(told.cumulative, 0);
    assert_int_equal(told.from, 2);
    assert_int_equal(told.to, 10);
}

/* Nor memory to keep what the peer says: usrsctp sees it. */
static void test_no_slots(void **state)
{
    (void)state;
    dp_set_allocator(&nothing);
    leave(0, 9);
    now += TRIP;
    sack_gap(0, 2, 10);
    assert_true(told.as_it_was);
    dp_set_allocator(NULL);
    sack_gap(0, 2, 10);
    assert_int_equal(told.cumulative, 0);
    assert_int_equal(told.from, 2);
    assert_int_equal(told.to, 10);
}

/* Behind a chunk of which there was no room for a copy usrsctp sees the gaps; its cumulative TSN must not pass that chunk, which
 * could not be sent again if the peer threw it away. */
static void test_no_room_for_a_copy(void **state)
{
    (void)state;
    dp_repair_clear(&repair);
    dp_repair_init(&repair, 1u << 16);
    leave(0, 99); /* 64 have room */
    now += TRIP;
    sack_with(0, 100000, 2, (uint16_t[]){2, 70, 72, 100}); /* 0 and 70 are missing */
    assert_true(repair.copies.held <= 1u << 16);
    uint32_t copied = told.cumulative;
    assert_in_range(copied, 60, 65);
    assert_int_equal(told.blocks, 2);
    assert_int_equal(told.from, 2);
    assert_int_equal(copied - 1 + told.to, 69);
    assert_int_equal(again(100, NULL), 1); /* 70 is usrsctp's */
}

/* RFC 9260 §6.10. */
static void test_packet_ascends(void **state)
{
    (void)state;
    begin();
    sack_gap(10, 2, 20);
    leave(30, 32);
    assert_int_equal(again(100, NULL), 1); /* 10 leaves behind 30 */
    leave(33, 39);
    now += TRIP;
    sack_with(10, 100000, 2, (uint16_t[]){2, 20, 22, 30});
    assert_int_equal(repair.lost.head, FIRST + 30);
    assert_int_equal(repair.lost.tail, FIRST + 10);
    const uint8_t *packet;
    size_t len;
    size_t packets = 0;
    while (dp_repair_poll(&repair, now, 100, 16384, &packet, &len)) {
        dp_rd chunks = dp_chunks(packet, len);
        dp_chunk chunk;
        uint32_t last = FIRST;
        packets++;
        for (bool first = true; dp_chunk_next(&chunks, &chunk); first = false) {
            uint32_t tsn = dp_rd_u32(&chunk.value);
            assert_true(first || dp_tsn_before(last, tsn));
            last = tsn;
        }
    }
    assert_int_equal(packets, 2);
}

/* A late original makes for more patience. */
static void test_reordering(void **state)
{
    (void)state;
    begin();
    sack_gap(10, 2, 4);
    assert_int_equal(again(100, NULL), 1);
    now += DP_MS(1);
    sack(14);
    sack_gap(14, 2, 4);
    assert_int_equal(again(100, NULL), 0);
    sack_gap(14, 2, 7);
    assert_int_equal(again(100, NULL), 1);
}

/* usrsctp sends the only chunk of a message that may be given up, I-DATA: whether it leaves. */
static bool limited_leaves(uint32_t number)
{
    uint8_t out[DP_SCTP_COMMON_HEADER + DP_SCTP_I_DATA_HEADER + 4];
    dp_wr wr = dp_wr_init(out, sizeof out);
    dp_wr_zeros(&wr, DP_SCTP_COMMON_HEADER);
    dp_wr_u16(&wr, DP_CHUNK_I_DATA << 8 | 0x03);
    dp_wr_u16(&wr, DP_SCTP_I_DATA_HEADER + 4);
    dp_wr_u32(&wr, FIRST);
    dp_wr_u16(&wr, 3);
    dp_wr_zeros(&wr, 6);
    dp_wr_u32(&wr, dp_abandon_ppid(53, number));
    dp_wr_zeros(&wr, 4);
    size_t len = wr.len;
    dp_repair_output(&repair, now, out, &len);
    return len == wr.len;
}

/* W3C's maxRetransmits has 16 bits. */
static void test_many_retransmissions(void **state)
{
    static const uint32_t most[] = {0, 1, 255, 256, UINT16_MAX};
    for (size_t i = 0; i < sizeof most / sizeof *most; i++) {
        uint32_t number, times = 0;
        setup(state);
        assert_int_equal(dp_abandon_begin(&repair.abandon, &number, 3, most[i], DP_TIME_NEVER), DP_OK);
        dp_abandon_end(&repair.abandon, 3);
        while (times < 2 * UINT16_MAX && limited_leaves(number))
            times++;
        assert_int_equal(times, 1 + most[i]);
        teardown(state);
    }
}

static void test_memory_is_given_back(void **state)
{
    (void)state;
    begin();
    dp_repair_shrink(&repair);
    assert_non_null(repair.copies.slots);
    sack(30);
    dp_repair_shrink(&repair);
    assert_null(repair.copies.slots);
    assert_null(repair.copies.bytes);
    leave(30, 40);
    now += TRIP;
    sack_gap(30, 2, 11);
    assert_int_equal(again(100, NULL), 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_loss_is_hidden, setup, teardown),
        cmocka_unit_test_setup_teardown(test_verdict, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lone_chunk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lost_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_amplification, setup, teardown),
        cmocka_unit_test_setup_teardown(test_window, setup, teardown),
        cmocka_unit_test_setup_teardown(test_probe, setup, teardown),
        cmocka_unit_test_setup_teardown(test_probe_is_the_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gives_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_outage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_waits_for_an_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limited, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forward_is_held, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reneged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_blocks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_copy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_slots, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_room_for_a_copy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_packet_ascends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reordering, setup, teardown),
        cmocka_unit_test(test_many_retransmissions),
        cmocka_unit_test_setup_teardown(test_memory_is_given_back, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
