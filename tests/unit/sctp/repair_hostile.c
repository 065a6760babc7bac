/* A peer that says anything: random SACKs, among which it throws away what it had, acknowledges what has just left, repeats what
 * it said, and shuts down. What repair.c knows of each TSN must fit together at each step. */
#include "sctp/repair.h"

#include "base/mem.h"
#include "base/wr.h"
#include "sctp/chunk.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the headers above */
#include <cmocka.h>

#define FIRST 0xffffff00u /* TSNs wrap */

static dp_repair repair;
static dp_time now;
static uint32_t next; /* TSN */
static uint64_t seed;

static uint32_t any(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % below;
}

/* usrsctp sends some chunks in a packet, new ones or old ones. */
static void leaves(bool old)
{
    uint8_t out[8192];
    dp_wr wr = dp_wr_init(out, sizeof out);
    dp_wr_zeros(&wr, DP_SCTP_COMMON_HEADER);
    next += any(20) == 0 ? any(4) : 0; /* given up before they were sent */
    for (uint32_t i = 1 + any(4); i > 0; i--) {
        size_t len = 1 + any(any(2) == 0 ? 20 : 1200);
        dp_wr_u16(&wr, 0x0003);
        dp_wr_u16(&wr, (uint16_t)(DP_SCTP_DATA_HEADER + len));
        dp_wr_u32(&wr, old ? next - 1 - any(100) : next++);
        dp_wr_u16(&wr, any(5) == 0 ? 9 : 0);
        dp_wr_zeros(&wr, 6 + ((len + 3) & ~(size_t)3));
    }
    size_t len = wr.len;
    dp_repair_output(&repair, now, out, &len);
}

static void says(dp_wr *wr, uint8_t type)
{
    uint32_t under_way = next - 1 - repair.copies.acked;
    uint32_t cumulative = repair.copies.acked + any(4) * any(any(8) == 0 ? under_way + 3 : 3) - any(2);
    if (dp_tsn_before(next - 1, cumulative) && any(50) > 0)
        cumulative = next - 1;
    size_t blocks = type == DP_CHUNK_SACK ? any(6) : 0;
    dp_wr_u16(wr, (uint16_t)(type << 8));
    dp_wr_u16(wr, (uint16_t)(type == DP_CHUNK_SACK ? 16 + 4 * blocks : 8));
    dp_wr_u32(wr, cumulative);
    if (type != DP_CHUNK_SACK)
        return;
    dp_wr_u32(wr, any(3) * 1000);
    dp_wr_u16(wr, (uint16_t)blocks);
    dp_wr_u16(wr, 0);
    uint32_t at = 0;
    for (size_t i = 0; i < blocks; i++) {
        at += any(2 + under_way / 4) + (any(20) > 0 ? 2 : 0);
        dp_wr_u16(wr, (uint16_t)at);
        at += any(2 + under_way / 4);
        dp_wr_u16(wr, (uint16_t)(any(30) > 0 ? at : any(UINT16_MAX)));
    }
}

static void arrives(void)
{
    uint8_t in[512];
    dp_wr wr = dp_wr_init(in, sizeof in);
    dp_wr_zeros(&wr, DP_SCTP_COMMON_HEADER);
    for (uint32_t i = 1 + any(5) / 4; i > 0; i--)
        says(&wr, any(30) == 0 ? DP_CHUNK_SHUTDOWN : DP_CHUNK_SACK);
    uint8_t *exact = (uint8_t *)malloc(wr.len); /* for AddressSanitizer */
    assert_non_null(exact);
    memcpy(exact, in, wr.len);
    const uint8_t *packet = exact;
    size_t len = wr.len;
    if (dp_repair_input(&repair, now, &packet, &len)) {
        assert_true(len <= wr.len);
        dp_rd chunks = dp_chunks(packet, len);
        dp_chunk chunk;
        while (dp_chunk_next(&chunks, &chunk)) {
        }
        assert_false(chunks.error);
    }
    free(exact);
}

static void sends_again(void)
{
    const uint8_t *packet;
    size_t len;
    for (uint32_t room = any(20); dp_repair_poll(&repair, now, room, 1200, &packet, &len); room -= room > 0) {
        dp_rd chunks = dp_chunks(packet, len);
        dp_chunk chunk;
        while (dp_chunk_next(&chunks, &chunk)) {
            assert_int_equal(chunk.type, DP_CHUNK_DATA);
            uint32_t tsn = dp_rd_u32(&chunk.value);
            assert_true(dp_tsn_before(repair.copies.acked, tsn) && dp_tsn_before(tsn, next));
        }
        assert_false(chunks.error);
    }
}

static uint32_t length_of(const dp_repair_list *list, bool lost)
{
    uint32_t tsn = list->head;
    for (uint32_t i = 0; i < list->count; i++) {
        const dp_copy *copy = dp_copies_find(&repair.copies, tsn);
        assert_non_null(copy);
        assert_true(copy->len > 0);
        assert_int_equal((copy->flags & DP_COPY_LOST) != 0, lost);
        assert_int_equal(copy->flags & DP_COPY_ACKED, 0);
        if (i + 1 == list->count)
            assert_int_equal(tsn, list->tail);
        tsn = copy->next;
    }
    return list->count;
}

/* usrsctp is told of nothing that the peer lacks and that could not be sent again. */
static void check(void)
{
    uint32_t owned = 0, listed = 0, lacking = 0;
    assert_false(dp_tsn_before(repair.told, repair.copies.acked));
    for (uint32_t tsn = repair.copies.acked + 1; tsn != next; tsn++) {
        const dp_copy *copy = dp_copies_find(&repair.copies, tsn);
        unsigned flags = copy == NULL ? 0 : copy->flags;
        bool is_copied = copy != NULL && copy->len > 0;
        owned += (flags & DP_COPY_OWNED) != 0;
        lacking += (flags & DP_COPY_ACKED) == 0 && !dp_tsn_before(repair.sent_tsn, tsn);
        listed += is_copied && (flags & DP_COPY_ACKED) == 0 &&
                  ((flags & DP_COPY_OWNED) != 0 || (flags & DP_COPY_LIMITED) == 0);
        assert_true((flags & DP_COPY_OWNED) == 0 || is_copied);
        assert_true((flags & DP_COPY_OWNED) == 0 || (flags & DP_COPY_ACKED) == 0);
        if (!dp_tsn_before(repair.told, tsn))
            assert_true(is_copied && (flags & (DP_COPY_OWNED | DP_COPY_ACKED)) != 0);
    }
    assert_int_equal(owned, repair.owned);
    assert_int_equal(lacking, dp_repair_outstanding(&repair));
    assert_int_equal(length_of(&repair.flight, false) + length_of(&repair.lost, true), listed);
}

static bool short_of_memory;
static void *some_realloc(void *ctx, void *old, size_t size)
{
    (void)ctx;
    return short_of_memory && any(3) == 0 ? NULL : realloc(old, size);
}
static void *some_alloc(void *ctx, size_t size) { return some_realloc(ctx, NULL, size); }
static void plain_free(void *ctx, void *block)
{
    (void)ctx;
    free(block);
}
static const dp_allocator some = {some_alloc, some_realloc, plain_free, NULL};

static void life(uint64_t number)
{
    seed = number;
    now = DP_SECONDS(1);
    next = FIRST;
    short_of_memory = number % 4 == 0;
    dp_repair_init(&repair, number % 3 == 0 ? 65536 : 1u << 20);
    if (dp_repair_limit(&repair, 9) == DP_OK)
        assert_int_equal(repair.limited[1], 2);
    leaves(false);
    for (int i = 0; i < 1500 && !repair.failed; i++) {
        now += any(4) == 0 ? any(DP_MS(50)) : 0;
        if (next - repair.copies.acked < 600 && any(2) == 0)
            leaves(false);
        if (any(20) == 0)
            leaves(true);
        if (any(2) == 0)
            arrives();
        if (dp_tsn_before(next, repair.sent_tsn + 1)) /* acknowledged, though it was never sent */
            next = repair.sent_tsn + 1;
        if (any(3) == 0)
            sends_again();
        dp_repair_handle_timeout(&repair, now);
        if (any(100) == 0)
            dp_repair_shrink(&repair);
        check();
    }
    dp_repair_clear(&repair);
}

static void test_lives(void **state)
{
    (void)state;
    dp_set_allocator(&some);
    for (uint64_t number = 1; number <= 60; number++)
        life(number);
    dp_set_allocator(NULL);
}

/* ---- a peer that wants much sent for little --------------------------------------------------------- */

#define CHUNKS 1000u
#define ROOM   16u /* what sender.c leaves a peer that loses everything */

static void leaves_n(uint32_t count)
{
    for (; count > 0; count--) {
        uint8_t out[1100];
        dp_wr wr = dp_wr_init(out, sizeof out);
        dp_wr_zeros(&wr, DP_SCTP_COMMON_HEADER);
        dp_wr_u16(&wr, 0x0003);
        dp_wr_u16(&wr, DP_SCTP_DATA_HEADER + 1000);
        dp_wr_u32(&wr, next++);
        dp_wr_zeros(&wr, 1008);
        size_t len = wr.len;
        dp_repair_output(&repair, now, out, &len);
    }
}

/* Up to a TSN, and from one to another: 0, 0 for none. */
static void says_to_have(uint32_t cumulative, uint32_t from, uint32_t to)
{
    uint8_t in[64];
    dp_wr wr = dp_wr_init(in, sizeof in);
    dp_wr_zeros(&wr, DP_SCTP_COMMON_HEADER);
    dp_wr_u16(&wr, 0x0300);
    dp_wr_u16(&wr, to == 0 ? 16 : 20);
    dp_wr_u32(&wr, cumulative);
    dp_wr_u32(&wr, 100000);
    dp_wr_u32(&wr, to == 0 ? 0 : 0x10000);
    if (to != 0) {
        dp_wr_u16(&wr, (uint16_t)(from - cumulative));
        dp_wr_u16(&wr, (uint16_t)(to - cumulative));
    }
    const uint8_t *packet = in;
    size_t len = wr.len;
    assert_true(dp_repair_input(&repair, now, &packet, &len));
}

static uint32_t last_tsn(const uint8_t *packet, size_t len)
{
    dp_rd chunks = dp_chunks(packet, len);
    dp_chunk chunk;
    uint32_t tsn = 0;
    while (dp_chunk_next(&chunks, &chunk))
        tsn = dp_rd_u32(&chunk.value);
    return tsn;
}

/* Returns the TSN that has left last. */
static uint32_t sends_again_all(void)
{
    const uint8_t *packet;
    size_t len;
    uint32_t last = next - 1;
    for (uint32_t room = ROOM; dp_repair_poll(&repair, now, room, 1200, &packet, &len); room -= room > 0)
        last = last_tsn(packet, len);
    return last;
}

/* All that it has left comes at once, so that a round trip takes no time. */
static void begin_forging(void)
{
    now = DP_SECONDS(1);
    next = 1;
    dp_repair_init(&repair, 4u << 20);
    for (int i = 0; i < 20; i++) {
        leaves_n(1);
        says_to_have(next - 1, 0, 0);
    }
    leaves_n(CHUNKS);
}

static void check_bounded(void)
{
    print_message("%u of %u chunks sent again\n", (unsigned)repair.repeated, CHUNKS);
    assert_in_range(repair.repeated, 1, 64 + 2 * (CHUNKS + 20));
    dp_repair_clear(&repair);
}

/* Each SACK has only what was sent last, so that all the rest seems to be lost. */
static void test_everything_is_lost(void **state)
{
    (void)state;
    begin_forging();
    uint32_t last = next - 1;
    for (uint32_t i = 0; i < CHUNKS; i++) {
        says_to_have(20, last, last);
        last = sends_again_all();
        now++;
    }
    check_bounded();
}

/* It has all but one, throws it away, has it again. */
static void test_thrown_away_again_and_again(void **state)
{
    (void)state;
    begin_forging();
    for (uint32_t tsn = 20; tsn + 3 < next; tsn++) {
        says_to_have(tsn, tsn + 2, next - 1);
        (void)sends_again_all();
        says_to_have(tsn + 1, 0, 0);
        (void)sends_again_all();
        now++;
    }
    check_bounded();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lives),
        cmocka_unit_test(test_everything_is_lost),
        cmocka_unit_test(test_thrown_away_again_and_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
