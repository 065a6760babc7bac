/* The bounded reader and writer. */
#include "tests/unit/base/helper.h"

#include "base/rd.h"
#include "base/wr.h"

static const uint8_t numbers[] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C,
                                  0x0D, 0x0E, 0x0F, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18};

static void test_read_integers(void **state)
{
    (void)state;
    dp_rd rd = dp_rd_init(numbers, sizeof(numbers));
    assert_int_equal(dp_rd_u8(&rd), 0x01);
    assert_int_equal(dp_rd_u16(&rd), 0x0203);
    assert_int_equal(dp_rd_u24(&rd), 0x040506);
    assert_int_equal(dp_rd_u32(&rd), 0x0708090A);
    assert_int_equal(dp_rd_u48(&rd), 0x0B0C0D0E0F10);
    assert_int_equal(dp_rd_left(&rd), 8);
    assert_true(dp_rd_u64(&rd) == 0x1112131415161718);
    assert_int_equal(dp_rd_left(&rd), 0);
    assert_false(rd.error);
}

static void test_write_integers(void **state)
{
    (void)state;
    uint8_t out[24];
    size_t len = 0;
    dp_wr wr = dp_wr_init(out, sizeof(out));
    dp_wr_u8(&wr, 0x01);
    dp_wr_u16(&wr, 0x0203);
    dp_wr_u24(&wr, 0xFF040506);
    dp_wr_u32(&wr, 0x0708090A);
    dp_wr_u48(&wr, 0xFFFF0B0C0D0E0F10);
    dp_wr_u64(&wr, 0x1112131415161718);
    assert_int_equal(dp_wr_finish(&wr, &len), DP_OK);
    assert_int_equal(len, sizeof(numbers));
    assert_memory_equal(out, numbers, sizeof(numbers));
}

enum { FIELDS = 8 };
static const size_t field_size[FIELDS] = {1, 2, 3, 4, 6, 8, 5, 7};

static uint64_t read_field(dp_rd *rd, size_t field)
{
    switch (field) {
    case 0:
        return dp_rd_u8(rd);
    case 1:
        return dp_rd_u16(rd);
    case 2:
        return dp_rd_u24(rd);
    case 3:
        return dp_rd_u32(rd);
    case 4:
        return dp_rd_u48(rd);
    case 5:
        return dp_rd_u64(rd);
    case 6:
        return dp_rd_bytes(rd, 5) != NULL;
    default:
        dp_rd_skip(rd, 7);
        return 0;
    }
}

static void write_field(dp_wr *wr, size_t field)
{
    switch (field) {
    case 0:
        dp_wr_u8(wr, 0xFF);
        break;
    case 1:
        dp_wr_u16(wr, 0xFFFF);
        break;
    case 2:
        dp_wr_u24(wr, 0xFFFFFF);
        break;
    case 3:
        dp_wr_u32(wr, 0xFFFFFFFF);
        break;
    case 4:
        dp_wr_u48(wr, UINT64_MAX);
        break;
    case 5:
        dp_wr_u64(wr, UINT64_MAX);
        break;
    case 6:
        dp_wr_text(wr, "\xFF\xFF\xFF\xFF\xFF");
        break;
    default:
        dp_wr_bytes(wr, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 7);
        break;
    }
}

/* Each field in an input and into a buffer that are too short by 1 to its size: zeros, a latched error,
 * nothing written. */
static void test_every_field_cut_short(void **state)
{
    (void)state;
    for (size_t field = 0; field < FIELDS; field++) {
        for (size_t have = 0; have < field_size[field]; have++) {
            uint8_t *exact = malloc(have + 1); /* ASan watches the end */
            memset(exact, 0xFF, have);
            dp_rd rd = dp_rd_init(exact, have);
            uint64_t got = read_field(&rd, field);
            assert_true(rd.error);
            assert_int_equal(dp_rd_left(&rd), 0);
            if (have == 0)
                assert_true(got == 0);
            assert_int_equal(dp_rd_u8(&rd), 0); /* latched */
            assert_null(dp_rd_bytes(&rd, 0));

            size_t len = 99;
            memset(exact, 0, have);
            dp_wr wr = dp_wr_init(exact, have);
            write_field(&wr, field);
            assert_int_equal(dp_wr_finish(&wr, &len), DP_ERR_NO_SPACE);
            assert_int_equal(len, 99);
            dp_wr_u8(&wr, 0xFF); /* would fit, but the error is latched */
            for (size_t i = 0; i < have; i++)
                assert_int_equal(exact[i], 0);
            free(exact);
        }
    }
}

static void test_read_nothing(void **state)
{
    (void)state;
    dp_rd rd = dp_rd_init(NULL, 7);
    assert_int_equal(dp_rd_left(&rd), 0);
    assert_non_null(dp_rd_bytes(&rd, 0));
    dp_rd sub = dp_rd_sub(&rd, 0);
    assert_false(rd.error || sub.error);
    assert_int_equal(dp_rd_u8(&rd), 0);
    assert_true(rd.error);
}

static void test_sub_reader(void **state)
{
    (void)state;
    dp_rd rd = dp_rd_init(numbers, 6);
    dp_rd sub = dp_rd_sub(&rd, 2);
    assert_int_equal(dp_rd_left(&rd), 4);
    assert_int_equal(dp_rd_u16(&sub), 0x0102);
    assert_int_equal(dp_rd_u8(&sub), 0); /* its own end, not the outer one's */
    assert_true(sub.error);
    assert_false(rd.error);
    sub = dp_rd_sub(&rd, 5);
    assert_true(sub.error && rd.error);
    sub = dp_rd_sub(&rd, SIZE_MAX);
    assert_true(sub.error);
}

static void test_huge_lengths(void **state)
{
    (void)state;
    uint8_t out[4];
    dp_rd rd = dp_rd_init(numbers, 4);
    dp_rd_u8(&rd);
    assert_null(dp_rd_bytes(&rd, SIZE_MAX));
    dp_wr wr = dp_wr_init(out, 4);
    dp_wr_u8(&wr, 1);
    assert_null(dp_wr_reserve(&wr, SIZE_MAX));
    assert_true(wr.error);
}

static void test_write_into_nothing(void **state)
{
    (void)state;
    size_t len = 1;
    dp_wr wr = dp_wr_init(NULL, 0);
    dp_wr_bytes(&wr, NULL, 0);
    dp_wr_zeros(&wr, 0);
    dp_wr_text(&wr, "");
    dp_wr_pad(&wr, 4);
    assert_int_equal(dp_wr_finish(&wr, &len), DP_OK);
    assert_int_equal(len, 0);
    assert_null(dp_wr_reserve(&wr, 0));
    dp_wr_zeros(&wr, 1);
    assert_int_equal(dp_wr_finish(&wr, &len), DP_ERR_NO_SPACE);
}

static void test_pad_and_patch(void **state)
{
    (void)state;
    uint8_t out[12];
    size_t len;
    memset(out, 0xEE, sizeof(out));
    dp_wr wr = dp_wr_init(out, sizeof(out));
    dp_wr_u8(&wr, 7);
    size_t mark = dp_wr_mark_u16(&wr);
    dp_wr_text(&wr, "ab");
    dp_wr_pad(&wr, 4);
    dp_wr_pad(&wr, 4); /* already there */
    dp_wr_patch_u16(&wr, mark, 0x1234);
    assert_int_equal(dp_wr_finish(&wr, &len), DP_OK);
    assert_int_equal(len, 8);
    assert_memory_equal(out, "\x07\x12\x34\x61\x62\0\0\0\xEE\xEE\xEE\xEE", 12);

    dp_wr_patch_u16(&wr, mark, 65536); /* no silent truncation */
    assert_true(wr.error);
    assert_memory_equal(out + mark, "\x12\x34", 2);

    wr = dp_wr_init(out, 1); /* the mark itself did not fit */
    mark = dp_wr_mark_u16(&wr);
    dp_wr_patch_u16(&wr, mark, 1);
    assert_true(wr.error);
    assert_int_equal(out[0], 7);

    wr = dp_wr_init(out, 2);
    dp_wr_u8(&wr, 1);
    dp_wr_pad(&wr, 4);
    assert_true(wr.error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_integers),
        cmocka_unit_test(test_write_integers),
        cmocka_unit_test(test_every_field_cut_short),
        cmocka_unit_test(test_read_nothing),
        cmocka_unit_test(test_sub_reader),
        cmocka_unit_test(test_huge_lengths),
        cmocka_unit_test(test_write_into_nothing),
        cmocka_unit_test(test_pad_and_patch),
    };
    return cmocka_run_group_tests_name("base/rdwr", tests, NULL, NULL);
}
