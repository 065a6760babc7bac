/* Two of our own connections: loss, reordering, data, closing, identity. */
#include "pair.h"

static void test_connects_and_carries_data(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 1);
    assert_int_equal(dp_dtls_get_state(p.side[CLIENT].dtls), DP_DTLS_NEW);
    pair_connect(&p);
    uint8_t datagram[1500];
    for (int from = 0; from < 2; from++) {
        size_t len = pair_seal(&p, from, datagram, "over the wire", 13);
        assert_true(len <= 13 + DP_DTLS_OVERHEAD);
        pair_inject(&p, !from, datagram, len);
        assert_int_equal(p.side[!from].data_count, 1);
        assert_int_equal(p.side[!from].data_len, 13);
        assert_memory_equal(p.side[!from].data, "over the wire", 13);
    }
    pair_clear(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connects_and_carries_data),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_certificate(-1);
    return failed;
}
