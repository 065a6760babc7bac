#include "base/rate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void test_bucket(void **state)
{
    (void)state;
    const dp_rate rate = {10, 3};
    dp_bucket bucket = {0};
    dp_time now = DP_SECONDS(5);
    for (int i = 0; i < 3; i++)
        assert_true(dp_bucket_take(&bucket, &rate, now));
    assert_false(dp_bucket_take(&bucket, &rate, now));
    assert_false(dp_bucket_take(&bucket, &rate, now + DP_MS(100) - 1));
    assert_true(dp_bucket_take(&bucket, &rate, now + DP_MS(100)));
    assert_false(dp_bucket_take(&bucket, &rate, now + DP_MS(100)));
    now += DP_SECONDS(1000); /* it does not overflow */
    for (int i = 0; i < 3; i++)
        assert_true(dp_bucket_take(&bucket, &rate, now));
    assert_false(dp_bucket_take(&bucket, &rate, now));
    dp_bucket_give(&bucket, &rate);
    assert_true(dp_bucket_take(&bucket, &rate, now));
    assert_false(dp_bucket_take(&bucket, &rate, now));
    for (int i = 0; i < 5; i++) /* never more than its depth */
        dp_bucket_give(&bucket, &rate);
    for (int i = 0; i < 3; i++)
        assert_true(dp_bucket_take(&bucket, &rate, now));
    assert_false(dp_bucket_take(&bucket, &rate, now));
    bucket = (dp_bucket){0};
    dp_bucket_give(&bucket, &rate);
    assert_true(dp_bucket_take(&bucket, &rate, now));
    const dp_rate free_for_all = {DP_RATE_UNLIMITED, 0};
    assert_true(dp_bucket_take(&bucket, &free_for_all, now));
    const dp_rate nobody = {0, 0};
    bucket = (dp_bucket){0};
    assert_false(dp_bucket_take(&bucket, &nobody, now));
}

static dp_address address(const char *ip)
{
    dp_address a;
    assert_int_equal(dp_address_parse(&a, ip, 1), DP_OK);
    return a;
}

static void test_addresses(void **state)
{
    (void)state;
    static dp_rate_table table;
    const dp_rate rate = {1, 2};
    dp_rate_table_init(&table, &rate, 7);
    static const char *const ips[] = {"192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1"};
    for (int i = 0; i < 4; i++) {
        dp_address a = address(ips[i]);
        assert_true(dp_rate_table_take(&table, &a, 5));
        a.port++;
        assert_true(dp_rate_table_take(&table, &a, 5));
        assert_false(dp_rate_table_take(&table, &a, 5));
        dp_rate_table_give(&table, &a);
        assert_true(dp_rate_table_take(&table, &a, 5));
        assert_false(dp_rate_table_take(&table, &a, 5));
    }
    dp_address stranger = address("192.0.2.99");
    dp_rate_table_give(&table, &stranger);
    dp_address neighbour = address("2001:db8::ffff:1");
    assert_false(dp_rate_table_take(&table, &neighbour, 5));
}

/* Many addresses push out the one that asks least, not the one that is being held back. */
static void test_crowd(void **state)
{
    (void)state;
    static dp_rate_table table;
    const dp_rate rate = {1, 1000};
    dp_rate_table_init(&table, &rate, 7);
    dp_address greedy = address("192.0.2.1");
    while (dp_rate_table_take(&table, &greedy, 5)) {
    }
    dp_address other = address("10.0.0.0");
    for (unsigned i = 0; i < 100000; i++) {
        other.ip[1] = (uint8_t)(i >> 16);
        other.ip[2] = (uint8_t)(i >> 8);
        other.ip[3] = (uint8_t)i;
        assert_true(dp_rate_table_take(&table, &other, 5));
    }
    assert_false(dp_rate_table_take(&table, &greedy, 5));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bucket),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_crowd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
