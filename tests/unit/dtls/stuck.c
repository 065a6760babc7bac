/* A client that holds half a message of a server that has begun again: the rest never comes. */
#include "pair.h"

#include "dtls/prefilter.h"

/* The first datagram of 508 bytes ends in the middle of ServerKeyExchange, whose length the signature decides. */
static size_t signature_length(const uint8_t *flight, size_t len)
{
    dp_rd rd = dp_rd_init(flight, len);
    dp_record record;
    while (dp_rd_left(&rd) > 0 && dp_record_read(&record, &rd)) {
        dp_rd body = dp_rd_init(record.body, record.length);
        dp_fragment fragment;
        while (dp_rd_left(&body) > 0 && dp_fragment_read(&fragment, &body))
            if (fragment.type == 12 && fragment.body_len < fragment.length)
                return fragment.length;
    }
    return 0;
}

/* A server of another seed has the client's ClientHello; the first datagram of its flight, to out. */
static size_t begin_server(pair *p, uint64_t seed, const uint8_t *hello, size_t hello_len, uint8_t out[1500])
{
    uint8_t copy[1500];
    size_t len = 0;
    dp_dtls_config config;
    dp_dtls_free(p->side[SERVER].dtls);
    p->random.state = seed;
    pair_config(p, SERVER, &config);
    config.mtu = 508;
    assert_int_equal(dp_dtls_new(&p->side[SERVER].dtls, &config), DP_OK);
    pair_expect(p, SERVER, p->side[CLIENT].certificate);
    assert_int_equal(dp_dtls_start(p->side[SERVER].dtls, p->now), DP_OK);
    memcpy(copy, hello, hello_len);
    dp_dtls_input(p->side[SERVER].dtls, p->now, copy, hello_len);
    assert_true(dp_dtls_poll_transmit(p->side[SERVER].dtls, out, 1500, &len));
    return len;
}

static void test_half_a_message_of_another_attempt(void **state)
{
    (void)state;
    pair p;
    uint8_t hello[1500];
    uint8_t flight[1500];
    size_t hello_len = 0;
    pair_init(&p, 60);
    assert_int_equal(dp_dtls_start(p.side[CLIENT].dtls, p.now), DP_OK);
    assert_true(dp_dtls_poll_transmit(p.side[CLIENT].dtls, hello, sizeof hello, &hello_len));
    size_t len = begin_server(&p, 1, hello, hello_len, flight);
    size_t length = signature_length(flight, len);
    assert_true(length > 0);
    pair_inject(&p, CLIENT, flight, len);
    uint64_t seed = 2;
    do {
        len = begin_server(&p, seed++, hello, hello_len, flight);
    } while (signature_length(flight, len) == length);
    pair_put(&p, CLIENT, flight, len);
    pair_collect(&p);
    pair_run(&p);
    assert_true(p.side[CLIENT].connected && p.side[SERVER].connected);
    pair_clear(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_half_a_message_of_another_attempt),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_certificate(-1);
    return failed;
}
