/* CRC-32 and CRC-32C: known values, and the processor's instruction against the table. */
#include "tests/unit/base/helper.h"

#include "base/crc.h"

static const uint8_t check[] = "123456789";

static void test_known_values(void **state)
{
    (void)state;
    assert_int_equal(dp_crc32(check, 9), 0xCBF43926);
    assert_int_equal(dp_crc32c(0, check, 9), 0xE3069283);
    assert_int_equal(dp_crc32c_table(0, check, 9), 0xE3069283);
    assert_int_equal(dp_crc32(NULL, 0), 0);
    assert_int_equal(dp_crc32c(0, NULL, 0), 0);
}

/* RFC 3720 appendix B.4 (iSCSI uses the same CRC; the bytes of the digest are in network order there). */
static void test_rfc3720_vectors(void **state)
{
    (void)state;
    uint8_t bytes[32];
    memset(bytes, 0, 32);
    assert_int_equal(dp_crc32c(0, bytes, 32), 0x8A9136AA);
    memset(bytes, 0xFF, 32);
    assert_int_equal(dp_crc32c(0, bytes, 32), 0x62A8AB43);
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t)i;
    assert_int_equal(dp_crc32c(0, bytes, 32), 0x46DD794E);
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t)(31 - i);
    assert_int_equal(dp_crc32c(0, bytes, 32), 0x113FDB5C);
}

static void test_hardware_equals_table(void **state)
{
    (void)state;
    static uint8_t bytes[2048 + 16];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)next_random();
    for (size_t offset = 0; offset < 16; offset++) {
        for (size_t len = 0; len <= 900; len++) /* 384 bytes and more are taken in three parts */
            if (dp_crc32c(7, bytes + offset, len) != dp_crc32c_table(7, bytes + offset, len))
                fail_msg("offset %zu, length %zu", offset, len);
        assert_int_equal(dp_crc32c(0, bytes + offset, 2048), dp_crc32c_table(0, bytes + offset, 2048));
    }
}

static void test_pieces(void **state)
{
    (void)state;
    for (size_t cut = 0; cut <= 9; cut++)
        assert_int_equal(dp_crc32c(dp_crc32c(0, check, cut), check + cut, 9 - cut), 0xE3069283);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_values),
        cmocka_unit_test(test_rfc3720_vectors),
        cmocka_unit_test(test_hardware_equals_table),
        cmocka_unit_test(test_pieces),
    };
    return cmocka_run_group_tests_name("base/crc", tests, NULL, NULL);
}
