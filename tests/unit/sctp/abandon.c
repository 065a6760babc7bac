/* Messages that may be given up: which TSNs they have, and what I-FORWARD-TSN (RFC 8260 §2.3) says of them. */
#include "sctp/abandon.h"

#include "base/rd.h"
#include "sctp/chunk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the headers above */
#include <cmocka.h>

#define FIRST_TSN 0xfffffff0u /* wraps soon */
#define WAIT      DP_MS(100)

enum { LAST = 1, FIRST = 2, UNORDERED = 4 };

static dp_abandon abandon;
static dp_copies copies;
static uint32_t tsn;

static int setup(void **state)
{
    (void)state;
    dp_abandon_init(&abandon);
    dp_copies_init(&copies, 0);
    copies.acked = abandon.forwarded = abandon.reached = FIRST_TSN - 1;
    tsn = FIRST_TSN;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    dp_abandon_clear(&abandon);
    dp_copies_clear(&copies);
    return 0;
}

static uint32_t begin(uint16_t stream)
{
    uint32_t number;
    assert_int_equal(dp_abandon_begin(&abandon, &number, stream, 0, DP_TIME_NEVER), DP_OK);
    return number;
}

/* One chunk leaves. ppid: what usrsctp has been given, or the FSN. The message's number. */
static uint32_t leave(uint16_t stream, uint32_t mid, uint8_t flags, uint32_t ppid, uint32_t wanted)
{
    uint8_t chunk[DP_SCTP_I_DATA_HEADER + 4];
    dp_wr wr = dp_wr_init(chunk, sizeof chunk);
    dp_wr_u8(&wr, DP_CHUNK_I_DATA);
    dp_wr_u8(&wr, flags);
    dp_wr_u16(&wr, DP_SCTP_I_DATA_HEADER + 1);
    dp_wr_u32(&wr, tsn);
    dp_wr_u16(&wr, stream);
    dp_wr_u16(&wr, 0);
    dp_wr_u32(&wr, mid);
    dp_wr_u32(&wr, ppid);
    dp_wr_zeros(&wr, 4);
    uint32_t number = dp_abandon_output(&abandon, chunk, DP_SCTP_I_DATA_HEADER + 1, true);
    dp_rd rd = dp_rd_init(chunk + 16, 4);
    assert_int_equal(dp_rd_u32(&rd), wanted);
    assert_true(dp_copies_reserve(&copies, tsn));
    dp_copies_find(&copies, tsn)->flags = DP_COPY_SENT;
    tsn++;
    return number;
}

/* A whole message in one chunk. */
static uint32_t send_whole(uint16_t stream, uint32_t mid, bool unordered)
{
    uint32_t number = begin(stream);
    dp_abandon_end(&abandon, stream);
    uint8_t flags = (uint8_t)(FIRST | LAST | (unordered ? UNORDERED : 0));
    assert_int_equal(leave(stream, mid, flags, dp_abandon_ppid(53, number), 53), number);
    return number;
}

static void give_up(uint32_t number)
{
    dp_limited_message *message = dp_abandon_find(&abandon, number);
    message->abandoned = true;
    for (uint32_t t = message->first; t != message->last + 1; t++) {
        dp_copies_find(&copies, t)->flags |= DP_COPY_ABANDONED;
        abandon.skipped++;
    }
}

static void acknowledge(uint32_t to)
{
    while (copies.acked != to) {
        const dp_copy *copy = dp_copies_find(&copies, copies.acked + 1);
        abandon.skipped -= (copy->flags & DP_COPY_ABANDONED) != 0;
        dp_copies_advance(&copies);
    }
    dp_abandon_settle(&abandon, to);
}

static bool is_due(dp_time now) { return dp_abandon_is_due(&abandon, now, WAIT, &copies); }

/* The chunk as text: how far behind FIRST_TSN, then stream, U and MID of each entry. */
static const char *written(dp_time now, size_t room)
{
    static char text[512];
    uint8_t bytes[512];
    dp_wr wr = dp_wr_init(bytes, room);
    dp_abandon_write(&abandon, &wr, now, &copies);
    assert_false(wr.error);
    assert_int_equal(bytes[0], DP_CHUNK_I_FORWARD_TSN);
    dp_rd rd = dp_rd_init(bytes + 2, wr.len - 2);
    assert_int_equal(dp_rd_u16(&rd), wr.len);
    int at = snprintf(text, sizeof text, "%u", dp_rd_u32(&rd) - FIRST_TSN);
    while (dp_rd_left(&rd) > 0) {
        unsigned stream = dp_rd_u16(&rd), u = dp_rd_u16(&rd), mid = dp_rd_u32(&rd);
        at += snprintf(text + at, sizeof text - (size_t)at, " %u%s:%u", stream, u ? "u" : "", mid);
    }
    return text;
}

/* Which fragments belong to which message, when those of three streams leave in turn, one of which is reliable. */
static void test_fragments(void **state)
{
    (void)state;
    uint32_t a = begin(1), b = begin(2);
    assert_int_equal(begin(1), a); /* more of it */
    assert_int_equal(leave(1, 7, FIRST, dp_abandon_ppid(51, a), 51), a);
    assert_int_equal(leave(2, 0, FIRST | UNORDERED, dp_abandon_ppid(53, b), 53), b);
    assert_int_equal(leave(0, 3, FIRST, 50, 50), 0);
    assert_int_equal(leave(1, 7, 0, 1, 1), a);
    assert_int_equal(leave(0, 3, 0, 0x12345678, 0x12345678), 0);
    assert_int_equal(leave(2, 0, LAST | UNORDERED, 1, 1), b);
    assert_int_equal(leave(0, 3, LAST, 2, 2), 0);
    dp_abandon_end(&abandon, 1);
    assert_int_equal(leave(1, 7, LAST, 2, 2), a);
    assert_int_equal(leave(1, 8, FIRST | LAST, 50, 50), 0); /* an ACK */
    assert_int_not_equal(begin(1), a);
    const dp_limited_message *message = dp_abandon_find(&abandon, a);
    assert_true(message->ended && !message->unordered && message->mid == 7);
    assert_int_equal(message->first, FIRST_TSN);
    assert_int_equal(message->last, FIRST_TSN + 7);
    assert_true(dp_abandon_find(&abandon, b)->unordered);
    acknowledge(FIRST_TSN + 6);
    assert_non_null(dp_abandon_find(&abandon, b)); /* behind a */
    acknowledge(FIRST_TSN + 8);
    assert_null(dp_abandon_find(&abandon, a));
    assert_null(dp_abandon_find(&abandon, b));
}

/* 24 bits of the number go with the message. */
static void test_numbers(void **state)
{
    (void)state;
    abandon.first = 0xfffffc;
    for (uint32_t i = 0; i < 10; i++) {
        uint32_t number = begin(1);
        dp_abandon_end(&abandon, 1);
        bool shows = (number & 0xffffff) != 0;
        assert_int_equal(leave(1, i, FIRST | LAST, dp_abandon_ppid(53, number), 53), shows ? number : 0);
    }
    acknowledge(tsn - 1);
    assert_int_equal(abandon.count, 0);
}

static void test_entries(void **state)
{
    (void)state;
    uint32_t numbers[8];
    numbers[0] = send_whole(1, 4, false);
    numbers[1] = send_whole(1, 5, false);
    numbers[2] = send_whole(2, 0, true);
    numbers[3] = send_whole(1, 6, false); /* arrives */
    numbers[4] = send_whole(2, 1, true);  /* arrives, too */
    numbers[5] = send_whole(1, 7, false);
    numbers[6] = send_whole(2, 2, true);
    numbers[7] = send_whole(2, 0, false);
    assert_false(is_due(0));
    for (int i = 0; i < 8; i++)
        if (i != 3 && i != 4)
            give_up(numbers[i]);
    assert_true(is_due(0));
    assert_string_equal(written(0, 512), "2 1:5 2u:0"); /* the next may still arrive */
    for (uint32_t t = FIRST_TSN + 3; t != FIRST_TSN + 5; t++) {
        dp_copies_find(&copies, t)->flags |= DP_COPY_ACKED;
        dp_copies_find(&copies, t)->skip = t + 1;
    }
    assert_true(is_due(0));
    assert_string_equal(written(0, 512), "7 1:5 2u:2 1:7 2:0");
    assert_false(is_due(0));
    acknowledge(FIRST_TSN + 2);
    assert_false(is_due(0));
    acknowledge(FIRST_TSN + 7);
    assert_false(is_due(DP_SECONDS(100)));
}

/* What the peer is past by now stays unsaid, also behind a message that has not left whole. */
static void test_settled(void **state)
{
    (void)state;
    uint32_t unfinished = begin(3);
    (void)leave(3, 0, FIRST, dp_abandon_ppid(53, unfinished), 53);
    uint32_t first = send_whole(1, 4, false), second = send_whole(1, 6, false);
    give_up(first);
    acknowledge(FIRST_TSN + 1);
    assert_non_null(dp_abandon_find(&abandon, first));
    give_up(second);
    assert_string_equal(written(0, 512), "2 1:6");
}

static void test_no_room(void **state)
{
    (void)state;
    uint32_t numbers[5];
    for (uint16_t i = 0; i < 5; i++)
        numbers[i] = send_whole(i, 9, true);
    for (int i = 0; i < 5; i++)
        give_up(numbers[i]);
    assert_string_equal(written(0, 8 + 3 * 8), "2 0u:9 1u:9 2u:9");
    assert_false(is_due(0));
    acknowledge(FIRST_TSN + 2);
    assert_true(is_due(0));
    assert_string_equal(written(0, 8 + 3 * 8), "4 3u:9 4u:9");
}

/* Without an answer, later and later; with one, or news, at once. */
static void test_again(void **state)
{
    (void)state;
    uint32_t a = send_whole(0, 0, false), b = send_whole(0, 1, false);
    give_up(a);
    assert_true(is_due(1000));
    (void)written(1000, 512);
    dp_time now = 1000;
    dp_duration wait = WAIT;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(dp_abandon_next(&abandon, WAIT, copies.acked), now + wait);
        assert_false(is_due(now + wait - 1));
        now += wait;
        assert_true(is_due(now));
        assert_string_equal(written(now, 512), "0 0:0");
        wait *= 2;
    }
    for (int i = 0; i < 10; i++)
        (void)written(now, 512);
    assert_int_equal(dp_abandon_next(&abandon, WAIT, copies.acked), now + DP_SECONDS(2));
    give_up(b);
    assert_true(is_due(now));
    assert_string_equal(written(now, 512), "1 0:1");
    acknowledge(FIRST_TSN);
    assert_int_equal(dp_abandon_next(&abandon, WAIT, copies.acked), now + WAIT);
    acknowledge(FIRST_TSN + 1);
    assert_int_equal(dp_abandon_next(&abandon, WAIT, copies.acked), DP_TIME_NEVER);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_fragments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_entries, setup, teardown),
        cmocka_unit_test_setup_teardown(test_settled, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_again, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
