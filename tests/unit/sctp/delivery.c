#include "sctp/delivery.h"

#include "base/wr.h"
#include "sctp/chunk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the headers above */
#include <cmocka.h>

enum { LAST = 1, FIRST = 2, MIDDLE = 0, UNORDERED = 4, PAYLOAD = 100, LIMIT = 1000 };

static dp_delivery delivery;
static uint32_t cumulative;

/* Whether a packet with this chunk may go to usrsctp. */
static bool data(uint32_t tsn, uint16_t stream, uint8_t flags)
{
    uint8_t packet[DP_SCTP_COMMON_HEADER + DP_SCTP_DATA_HEADER + PAYLOAD];
    dp_wr wr = dp_wr_init(packet, sizeof packet);
    dp_wr_zeros(&wr, DP_SCTP_COMMON_HEADER);
    dp_wr_u8(&wr, DP_CHUNK_DATA);
    dp_wr_u8(&wr, flags);
    dp_wr_u16(&wr, DP_SCTP_DATA_HEADER + PAYLOAD);
    dp_wr_u32(&wr, tsn);
    dp_wr_u16(&wr, stream);
    dp_wr_zeros(&wr, 6 + PAYLOAD);
    return dp_delivery_input(&delivery, packet, wr.len, cumulative, LIMIT);
}

static bool safe(void) { return dp_delivery_safe(&delivery, cumulative); }

static void begin(uint32_t acknowledged)
{
    delivery = (dp_delivery){0};
    cumulative = acknowledged;
}

/* Only the beginning of an unordered message of several chunks counts, and of several such ones the last. */
static void test_when_it_is_safe(void **state)
{
    (void)state;
    static const uint32_t starts[] = {1000, UINT32_MAX - 5}; /* TSNs wrap around */
    for (size_t i = 0; i < 2; i++) {
        uint32_t tsn = starts[i];
        begin(tsn);
        assert_true(safe());
        assert_true(data(tsn + 3, 1, FIRST));
        assert_true(data(tsn + 5, 1, UNORDERED | FIRST | LAST));
        assert_true(data(tsn + 6, 1, UNORDERED | MIDDLE));
        assert_true(safe());
        assert_true(data(tsn + 8, 1, UNORDERED | FIRST));
        assert_false(safe());
        assert_true(data(tsn + 12, 2, UNORDERED | FIRST));
        assert_true(data(tsn + 10, 3, UNORDERED | FIRST)); /* comes late */
        cumulative = tsn + 10;
        assert_false(safe()); /* tsn + 11 is missing */
        cumulative = tsn + 11;
        assert_true(safe());
    }
}

/* What is behind the cumulative TSN says nothing any more, also when TSNs have gone half way round since. */
static void test_what_is_old(void **state)
{
    (void)state;
    begin(1000);
    assert_true(data(1002, 1, UNORDERED | FIRST));
    cumulative = 1002;
    assert_true(data(1002, 1, UNORDERED | FIRST)); /* again: not above the cumulative TSN */
    assert_true(data(1003, 1, UNORDERED | MIDDLE));
    cumulative += 0x80000000u;
    assert_true(safe());
    assert_true(data(cumulative + 4097, 1, UNORDERED | FIRST)); /* usrsctp does not take it */
    assert_true(safe());
}

/* A message that could pass the limit while it is not safe to begin with it does not grow. */
static void test_limit(void **state)
{
    (void)state;
    begin(1000);
    assert_true(data(1002, 1, UNORDERED | FIRST));
    for (uint32_t i = 1; i < LIMIT / PAYLOAD; i++)
        assert_true(data(1002 + i, 1, UNORDERED | MIDDLE));
    assert_false(data(1012, 1, UNORDERED | MIDDLE));
    assert_true(data(1005, 1, UNORDERED | MIDDLE)); /* has come before */
    assert_true(data(1011, 1, UNORDERED | MIDDLE));
    assert_true(data(1001, 1, UNORDERED | FIRST | LAST)); /* what is missing */
    cumulative = 1011;
    assert_true(data(1012, 1, UNORDERED | MIDDLE));
}

/* An end ends the count, and so does a time when nothing is missing. */
static void test_limit_begins_anew(void **state)
{
    (void)state;
    begin(1000);
    assert_true(data(1002, 1, UNORDERED | FIRST));
    for (uint32_t i = 1; i < 9; i++)
        assert_true(data(1002 + i, 1, UNORDERED | MIDDLE));
    assert_true(data(1011, 1, UNORDERED | LAST));
    assert_true(data(1012, 1, UNORDERED | FIRST));
    assert_true(data(1013, 1, UNORDERED | MIDDLE));
    cumulative = 1013;
    for (uint32_t i = 0; i < 10; i++)
        assert_true(data(1015 + i, 1, i == 0 ? UNORDERED | FIRST : UNORDERED | MIDDLE));
    assert_false(data(1025, 1, UNORDERED | MIDDLE));
}

/* usrsctp may begin with an ordered message at any time. */
static void test_no_limit_if_safe(void **state)
{
    (void)state;
    begin(1000);
    for (uint32_t i = 0; i < 20; i++)
        assert_true(data(1002 + i, 1, i == 0 ? FIRST : MIDDLE));
    assert_true(safe());
}

/* While one message is read, the chunks of others are kept back. */
static void test_others(void **state)
{
    (void)state;
    begin(1000);
    assert_true(data(1001, 1, FIRST | LAST));
    assert_int_equal(delivery.others, 0);
    dp_delivery_read(&delivery, 1, true, false);
    assert_true(data(1002, 1, UNORDERED | MIDDLE));
    assert_true(data(1003, 1, UNORDERED | LAST));
    assert_int_equal(delivery.others, 0);
    assert_true(data(1004, 1, UNORDERED | FIRST)); /* the next one */
    assert_true(data(1005, 1, MIDDLE));            /* ordered */
    assert_true(data(1006, 2, UNORDERED | MIDDLE));
    assert_int_equal(delivery.others, 3);
    dp_delivery_read(&delivery, 1, true, false);
    assert_int_equal(delivery.others, 3);
    dp_delivery_read(&delivery, 1, true, true);
    assert_int_equal(delivery.others, 0);
    assert_false(delivery.in_message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_when_it_is_safe),
        cmocka_unit_test(test_what_is_old),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_limit_begins_anew),
        cmocka_unit_test(test_no_limit_if_safe),
        cmocka_unit_test(test_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
