/* Two of our own connections: loss, reordering, data, closing, identity. */
#include "pair.h"

#include "dtls/certificate.h"
#include "dtls/prefilter.h"

/* ---- handshake over a bad network -------------------------------------------------------------------- */

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
        assert_int_equal(dp_dtls_next_timeout(p.side[from].dtls), DP_TIME_NEVER);
    }
    pair_clear(&p);
}

/* Row 37: every seed completes or fails cleanly, and nearly all complete. */
static void handshakes(unsigned loss, int seeds, int failures_allowed, dp_duration median_max)
{
    int failures = 0;
    dp_duration took[128];
    for (int seed = 0; seed < seeds; seed++) {
        pair p;
        pair_init(&p, (uint64_t)(seed + 1) * 1000 + loss);
        p.loss_percent = loss;
        p.jitter = DP_MS(30);
        dp_time begin = p.now;
        pair_start(&p);
        while (!(p.side[CLIENT].connected && p.side[SERVER].connected) && pair_step(&p)) {
        }
        took[seed] = p.now - begin;
        bool ok = p.side[CLIENT].connected && p.side[SERVER].connected;
        if (!ok) {
            print_message("loss %u %%: seed %d failed: %s%s\n", loss, seed, p.side[CLIENT].message,
                          p.side[SERVER].message);
            assert_true(p.side[CLIENT].failed || p.side[SERVER].failed);
        }
        failures += !ok;
        pair_clear(&p);
    }
    for (int i = 0; i < seeds; i++)
        for (int j = i + 1; j < seeds; j++)
            if (took[j] < took[i]) {
                dp_duration t = took[i];
                took[i] = took[j];
                took[j] = t;
            }
    print_message("loss %2u %%: median %llu ms, worst %llu ms, %d of %d failed\n", loss,
                  (unsigned long long)took[seeds / 2] / 1000, (unsigned long long)took[seeds - 1] / 1000,
                  failures, seeds);
    assert_true(failures <= failures_allowed);
    assert_true(took[seeds / 2] <= median_max);
}

static void test_loss_0(void **state)
{
    (void)state;
    handshakes(0, 10, 0, DP_MS(200));
}

static void test_loss_20(void **state)
{
    (void)state;
    handshakes(20, 50, 0, DP_MS(1500));
}

static void test_loss_40(void **state)
{
    (void)state;
    handshakes(40, 50, 1, DP_SECONDS(8));
}

/* A path that carries only small datagrams; ctx counts what was too large. */
static bool narrow_path(pair *p, int from, uint8_t *data, size_t *len)
{
    (void)from;
    (void)data;
    if (*len <= 548) /* IPv4's guaranteed 576 bytes without IP and UDP headers */
        return true;
    (*(int *)p->tap_ctx)++;
    return false;
}

/* RFC 6347 §4.1.1.1: without an answer the flights are cut smaller. */
static void test_narrow_path(void **state)
{
    (void)state;
    pair p;
    int too_large = 0;
    pair_init(&p, 34);
    p.tap = narrow_path;
    p.tap_ctx = &too_large;
    pair_connect(&p);
    assert_true(too_large > 0);
    pair_clear(&p);
}

typedef struct last_flight {
    int lost; /* so far */
    size_t len;
    uint8_t first[200];
} last_flight;

/* Loses the server's last flight six times. Each must be one datagram with ChangeCipherSpec and Finished
 * (dtls/record.c relies on it), and the same bytes: a record number of epoch 1 (and its nonce) is sealed once. */
static bool lose_last_flight(pair *p, int from, uint8_t *data, size_t *len)
{
    last_flight *l = p->tap_ctx;
    bool change = false;
    bool finished = false;
    dp_rd rd = dp_rd_init(data, *len);
    dp_record record;
    while (from == SERVER && dp_rd_left(&rd) > 0) {
        assert_true(dp_record_read(&record, &rd));
        change |= record.type == DP_RECORD_CHANGE_CIPHER_SPEC;
        if (record.epoch != 1)
            continue;
        finished = true;
        assert_int_equal(record.sequence, 0);
    }
    if (finished && l->len == 0) {
        assert_true(*len <= sizeof l->first);
        memcpy(l->first, data, l->len = *len);
    } else if (finished) {
        assert_int_equal(*len, l->len);
        assert_memory_equal(data, l->first, l->len);
    }
    assert_int_equal(change, finished);
    return !finished || ++l->lost > 6;
}

static void test_last_flight_lost_six_times(void **state)
{
    (void)state;
    pair p;
    last_flight l = {0};
    pair_init(&p, 33);
    p.tap = lose_last_flight;
    p.tap_ctx = &l;
    pair_start(&p);
    while (!p.side[SERVER].connected)
        assert_true(pair_step(&p));
    /* Data of the server moves its record numbers to 2^32 while the client still waits; it must not matter.
     */
    uint8_t early[1500];
    pair_inject(&p, CLIENT, early, pair_seal(&p, SERVER, early, "early", 5));
    assert_int_equal(p.side[CLIENT].data_count, 0);
    pair_run(&p);
    assert_true(p.side[CLIENT].connected);
    assert_int_equal(l.lost, 7);
    uint8_t datagram[1500];
    pair_inject(&p, CLIENT, datagram, pair_seal(&p, SERVER, datagram, "x", 1));
    assert_int_equal(p.side[CLIENT].data_count, 1);
    pair_clear(&p);
}

/* Forged copies of the client's Finished while the server still may have to repeat its last flight: they must
 * not use up its patience. */
static void test_forgeries_before_the_last_flight_arrives(void **state)
{
    (void)state;
    pair p;
    last_flight l = {0};
    pair_init(&p, 35);
    p.tap = lose_last_flight;
    p.tap_ctx = &l;
    pair_start(&p);
    while (!p.side[SERVER].connected)
        assert_true(pair_step(&p));
    uint8_t forged[13 + 8 + 24 + 16] = {DP_RECORD_HANDSHAKE, 0xfe, 0xfd, 0, 1, [12] = 8 + 24 + 16};
    for (unsigned i = 0; i < 1000; i++) {
        forged[9] = (uint8_t)(i >> 8);
        forged[10] = (uint8_t)i;
        pair_inject(&p, SERVER, forged, sizeof forged);
    }
    pair_run(&p);
    assert_true(p.side[CLIENT].connected);
    pair_clear(&p);
}

static bool lose_all(pair *p, int from, uint8_t *data, size_t *len)
{
    (void)p;
    (void)from;
    (void)data;
    (void)len;
    return false;
}

static void test_silence_times_out(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 5);
    p.tap = lose_all;
    dp_time begin = p.now;
    pair_start(&p);
    assert_int_equal(dp_dtls_next_timeout(p.side[CLIENT].dtls), begin + DP_MS(100));
    pair_run(&p);
    for (int i = 0; i < 2; i++) {
        assert_true(p.side[i].failed);
        assert_int_equal(p.side[i].error, DP_ERR_TIMEOUT);
        assert_int_equal(dp_dtls_get_state(p.side[i].dtls), DP_DTLS_FAILED);
    }
    assert_int_equal(p.now, begin + DP_SECONDS(30));
    /* 100, 200, 400, 800, 1600 ms, then every 2 s: 18 or 19 in 30 s. */
    assert_in_range(p.sent[CLIENT], 15, 25);
    pair_clear(&p);
}

/* ---- identity ---------------------------------------------------------------------------------------- */

static void test_wrong_fingerprint(void **state)
{
    (void)state;
    for (int deceived = 0; deceived < 2; deceived++) {
        pair p;
        pair_init(&p, 30);
        pair_expect(&p, deceived, test_certificate(2));
        pair_start(&p);
        pair_run(&p);
        assert_true(p.side[deceived].failed);
        assert_false(p.side[deceived].connected);
        assert_int_equal(p.side[deceived].error, DP_ERR_FINGERPRINT);
        dp_fingerprint fp;
        char text[DP_FINGERPRINT_TEXT_MAX];
        dp_certificate_fingerprint(test_certificate(2), &fp);
        assert_non_null(strstr(p.side[deceived].message, dp_fingerprint_format(&fp, text)));
        dp_certificate_fingerprint(test_certificate(!deceived), &fp);
        assert_non_null(strstr(p.side[deceived].message, dp_fingerprint_format(&fp, text)));
        uint8_t out[100];
        size_t len = 0;
        assert_int_equal(dp_dtls_seal(p.side[deceived].dtls, out, sizeof out, &len, out, 1),
                         DP_ERR_INVALID_STATE);
        pair_clear(&p);
    }
}

static void test_one_of_several_fingerprints(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 31);
    dp_fingerprint fps[2];
    dp_certificate_fingerprint(test_certificate(2), &fps[0]);
    dp_certificate_fingerprint(test_certificate(SERVER), &fps[1]);
    assert_int_equal(dp_dtls_set_remote_fingerprints(p.side[CLIENT].dtls, fps, 2), DP_OK);
    pair_connect(&p);
    assert_int_equal(dp_dtls_set_remote_fingerprints(p.side[CLIENT].dtls, fps, 2), DP_ERR_INVALID_STATE);
    pair_clear(&p);
}

/* RFC 8122 §5: of several hash functions the most secure one has to match. */
static void test_strongest_hash_decides(void **state)
{
    (void)state;
    const mbedtls_x509_crt *crt = &test_certificate(SERVER)->crt;
    for (int right = 0; right < 2; right++) {
        pair p;
        pair_init(&p, 34);
        dp_fingerprint fps[2];
        dp_certificate_fingerprint(test_certificate(right ? 2 : SERVER), &fps[0]);
        assert_int_equal(dp_certificate_hash(&fps[1], DP_FINGERPRINT_SHA512, crt), DP_OK);
        if (!right)
            fps[1].bytes[63] ^= 1;
        assert_int_equal(dp_dtls_set_remote_fingerprints(p.side[CLIENT].dtls, fps, 2), DP_OK);
        pair_start(&p);
        pair_run(&p);
        assert_int_equal(p.side[CLIENT].connected, right);
        if (!right) {
            char text[DP_FINGERPRINT_TEXT_MAX];
            assert_int_equal(p.side[CLIENT].error, DP_ERR_FINGERPRINT);
            assert_non_null(strstr(p.side[CLIENT].message, dp_fingerprint_format(&fps[1], text)));
        }
        pair_clear(&p);
    }
}

/* Row 31: the text form is refused by dp_fingerprint_parse; here what could reach the comparison all the
 * same. */
static void test_fingerprint_list_is_checked(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 32);
    dp_dtls_config config;
    pair_config(&p, CLIENT, &config);
    dp_dtls *dtls = NULL;
    assert_int_equal(dp_dtls_new(&dtls, &config), DP_OK);
    dp_fingerprint fps[9];
    for (int i = 0; i < 9; i++)
        dp_certificate_fingerprint(test_certificate(SERVER), &fps[i]);
    assert_int_equal(dp_dtls_set_remote_fingerprints(dtls, fps, 0), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_dtls_set_remote_fingerprints(dtls, NULL, 1), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_dtls_set_remote_fingerprints(dtls, fps, 9), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_dtls_start(dtls, 0), DP_ERR_INVALID_STATE);
    fps[0].length = 0; /* an empty hash would equal any other */
    assert_int_equal(dp_dtls_set_remote_fingerprints(dtls, fps, 1), DP_ERR_INVALID_ARGUMENT);
    fps[0].length = 20;
    assert_int_equal(dp_dtls_set_remote_fingerprints(dtls, fps, 1), DP_ERR_INVALID_ARGUMENT);
    dp_dtls_free(dtls);
    pair_clear(&p);
}

static void test_config_is_checked(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 32);
    dp_dtls_config good;
    pair_config(&p, CLIENT, &good);
    dp_dtls *dtls = NULL;
    dp_dtls_config bad = good;
    bad.certificate = NULL;
    assert_int_equal(dp_dtls_new(&dtls, &bad), DP_ERR_INVALID_ARGUMENT);
    bad = good;
    bad.random.fn = NULL;
    assert_int_equal(dp_dtls_new(&dtls, &bad), DP_ERR_INVALID_ARGUMENT);
    bad = good;
    bad.mtu = 100;
    assert_int_equal(dp_dtls_new(&dtls, &bad), DP_ERR_INVALID_ARGUMENT);
    bad = good;
    bad.handshake_timeout = DP_TIME_NEVER;
    assert_int_equal(dp_dtls_new(&dtls, &bad), DP_ERR_INVALID_ARGUMENT);
    bad = good;
    bad.size = 8;
    assert_int_equal(dp_dtls_new(&dtls, &bad), DP_ERR_INVALID_ARGUMENT);
    pair_clear(&p);
}

/* ---- the end ---------------------------------------------------------------------------------------- */

static void test_close_notify(void **state)
{
    (void)state;
    for (int from = 0; from < 2; from++) {
        pair p;
        pair_init(&p, 40);
        pair_connect(&p);
        dp_dtls_close(p.side[from].dtls, p.now);
        assert_int_equal(dp_dtls_get_state(p.side[from].dtls), DP_DTLS_CLOSED);
        pair_collect(&p);
        pair_run(&p);
        assert_true(p.side[!from].closed);
        assert_false(p.side[from].closed); /* the owner knows */
        assert_int_equal(dp_dtls_get_state(p.side[!from].dtls), DP_DTLS_CLOSED);
        for (int i = 0; i < 2; i++) {
            uint8_t out[100];
            size_t len = 0;
            assert_int_equal(dp_dtls_seal(p.side[i].dtls, out, sizeof out, &len, (const uint8_t *)"x", 1),
                             DP_ERR_INVALID_STATE);
            assert_int_equal(dp_dtls_next_timeout(p.side[i].dtls), DP_TIME_NEVER);
            dp_dtls_close(p.side[i].dtls, p.now); /* twice is harmless */
        }
        pair_clear(&p);
    }
}

static void test_close_before_the_handshake(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 41);
    dp_dtls_close(p.side[SERVER].dtls, p.now);
    assert_int_equal(dp_dtls_start(p.side[SERVER].dtls, p.now), DP_ERR_INVALID_STATE);
    assert_int_equal(dp_dtls_start(p.side[CLIENT].dtls, p.now), DP_OK);
    assert_int_equal(dp_dtls_start(p.side[CLIENT].dtls, p.now), DP_ERR_INVALID_STATE);
    dp_dtls_close(p.side[CLIENT].dtls, p.now);
    pair_collect(&p);
    pair_run(&p);
    assert_false(p.side[CLIENT].connected || p.side[SERVER].connected);
    pair_clear(&p);
}

static void test_seal_limits(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 42);
    uint8_t *big = calloc(1, DP_DTLS_RECORD_MAX + 100);
    uint8_t *data = calloc(1, DP_DTLS_RECORD_MAX + 1);
    assert_non_null(big);
    assert_non_null(data);
    size_t len = 0;
    dp_dtls *dtls = p.side[CLIENT].dtls;
    assert_int_equal(dp_dtls_seal(dtls, big, 100, &len, data, 1), DP_ERR_INVALID_STATE);
    pair_connect(&p);
    assert_int_equal(dp_dtls_seal(dtls, big, 50 + DP_DTLS_OVERHEAD - 1, &len, data, 50), DP_ERR_NO_SPACE);
    assert_int_equal(dp_dtls_seal(dtls, big, 50 + DP_DTLS_OVERHEAD, &len, data, 50), DP_OK);
    assert_int_equal(len, 50 + DP_DTLS_OVERHEAD);
    size_t capacity = DP_DTLS_RECORD_MAX + 100;
    assert_int_equal(dp_dtls_seal(dtls, big, capacity, &len, data, DP_DTLS_RECORD_MAX + 1), DP_ERR_TOO_LARGE);
    assert_int_equal(dp_dtls_seal(dtls, big, capacity, &len, data, DP_DTLS_RECORD_MAX), DP_OK);
    dp_dtls_input(p.side[SERVER].dtls, p.now, big, len);
    dp_dtls_event event;
    assert_true(dp_dtls_poll_event(p.side[SERVER].dtls, &event));
    assert_int_equal(event.len, DP_DTLS_RECORD_MAX);
    free(big);
    free(data);
    pair_clear(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connects_and_carries_data),
        cmocka_unit_test(test_loss_0),
        cmocka_unit_test(test_loss_20),
        cmocka_unit_test(test_loss_40),
        cmocka_unit_test(test_narrow_path),
        cmocka_unit_test(test_last_flight_lost_six_times),
        cmocka_unit_test(test_forgeries_before_the_last_flight_arrives),
        cmocka_unit_test(test_silence_times_out),
        cmocka_unit_test(test_wrong_fingerprint),
        cmocka_unit_test(test_one_of_several_fingerprints),
        cmocka_unit_test(test_strongest_hash_decides),
        cmocka_unit_test(test_fingerprint_list_is_checked),
        cmocka_unit_test(test_config_is_checked),
        cmocka_unit_test(test_close_notify),
        cmocka_unit_test(test_close_before_the_handshake),
        cmocka_unit_test(test_seal_limits),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_certificate(-1);
    return failed;
}
