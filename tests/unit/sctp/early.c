#include "sctp/early.h"

#include "base/mem.h"
#include "base/wr.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the headers above */
#include <cmocka.h>

static uint8_t packet[256];
static dp_wr wr;

static void header(void)
{
    wr = dp_wr_init(packet, sizeof packet);
    dp_wr_zeros(&wr, 12);
}

static void chunk(uint8_t type, size_t body)
{
    dp_wr_u8(&wr, type);
    dp_wr_u8(&wr, 0);
    dp_wr_u16(&wr, (uint16_t)(4 + body));
    for (size_t i = 0; i < body; i++)
        dp_wr_u8(&wr, type);
}

/* A response, and a request that names a TSN. */
static void re_config(uint32_t tsn)
{
    dp_wr_u8(&wr, 0x82);
    dp_wr_u8(&wr, 0);
    dp_wr_u16(&wr, 4 + 12 + 18);
    dp_wr_u16(&wr, 16);
    dp_wr_u16(&wr, 12);
    dp_wr_zeros(&wr, 8);
    dp_wr_u16(&wr, 13);
    dp_wr_u16(&wr, 18);
    dp_wr_zeros(&wr, 8);
    dp_wr_u32(&wr, tsn);
    dp_wr_u16(&wr, 7);
    dp_wr_u16(&wr, 0); /* padding */
}

static void test_taken_and_given(void **state)
{
    (void)state;
    dp_early_reset early = {0};
    uint8_t *rest;
    size_t rest_len = 99, len;
    header();
    chunk(3, 12);
    re_config(5);
    chunk(0, 16);
    uint8_t whole[256];
    memcpy(whole, packet, wr.len);
    /* Nothing is missing up to 5, across the end of the number space, too. */
    assert_int_equal(dp_early_reset_take(&early, &rest, &rest_len, packet, wr.len, 5), DP_OK);
    assert_null(rest);
    assert_null(dp_early_reset_give(&early, &len, 5));
    assert_int_equal(dp_early_reset_take(&early, &rest, &rest_len, packet, wr.len, 0xfffffff0), DP_OK);
    assert_non_null(rest);
    assert_int_equal(rest_len, wr.len - 36);
    assert_memory_equal(rest, whole, 28);
    assert_memory_equal(rest + 28, whole + 28 + 36, 20);
    dp_free(rest);
    assert_null(dp_early_reset_give(&early, &len, 4));
    uint8_t *given = dp_early_reset_give(&early, &len, 5);
    assert_non_null(given);
    assert_int_equal(len, 12 + 36);
    assert_memory_equal(given + 12, whole + 28, 36);
    dp_free(given);
    assert_null(dp_early_reset_give(&early, &len, 5));
}

/* The peer repeats it, alone: one is kept, nothing is left over. */
static void test_repeated(void **state)
{
    (void)state;
    dp_early_reset early = {0};
    uint8_t *rest;
    size_t rest_len, len;
    header();
    re_config(9);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(dp_early_reset_take(&early, &rest, &rest_len, packet, wr.len, 1), DP_OK);
        assert_int_equal(rest_len, 0);
        dp_free(rest);
    }
    assert_null(dp_early_reset_give(&early, &len, 8));
    dp_early_reset_clear(&early);
    assert_null(dp_early_reset_give(&early, &len, 9));
}

static int budget;
static void *failing_alloc(void *ctx, size_t size)
{
    (void)ctx;
    return budget-- == 0 ? NULL : malloc(size);
}
static void *failing_realloc(void *ctx, void *old, size_t size)
{
    (void)ctx;
    return realloc(old, size);
}
static void plain_free(void *ctx, void *block)
{
    (void)ctx;
    free(block);
}

static void test_no_memory(void **state)
{
    (void)state;
    static const dp_allocator failing = {failing_alloc, failing_realloc, plain_free, NULL};
    dp_set_allocator(&failing);
    for (int n = 0; n < 2; n++) {
        dp_early_reset early = {0};
        uint8_t *rest;
        size_t rest_len, len;
        header();
        re_config(9);
        budget = n;
        assert_int_equal(dp_early_reset_take(&early, &rest, &rest_len, packet, wr.len, 1), DP_ERR_NO_MEMORY);
        assert_null(rest);
        assert_null(dp_early_reset_give(&early, &len, 9));
    }
    dp_set_allocator(NULL);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken_and_given),
        cmocka_unit_test(test_repeated),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
