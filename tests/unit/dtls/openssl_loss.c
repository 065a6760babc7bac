/* Against a real OpenSSL end over bad networks: small datagrams, loss, copies, reordering, forgeries. */
#include "openssl.h"

/* Protocols of ALPN make a ClientHello as long as a browser's: fragments, in small datagrams. */
static void long_hello(ossl *o)
{
    uint8_t names[4 * 256];
    memset(names, 'x', sizeof names);
    for (size_t i = 0; i < sizeof names; i += 256)
        names[i] = 255;
    assert_int_equal(SSL_set_alpn_protos(o->ssl, names, sizeof names), 0);
}

/* ---- rows 24 and 37: fragments, loss, copies, reordering ---------------------------------------------- */

/* Every fourth datagram twice; the copy's delay is its own. */
static bool copy_some(pair *p, int from, uint8_t *data, size_t *len)
{
    if (test_next(&p->random) % 4 == 0)
        pair_put(p, !from, data, *len);
    return true;
}

typedef struct weather {
    unsigned loss_percent;
    dp_duration jitter;
    bool copies;
} weather;

static void small_datagrams(int which, long mtu, const weather *w, uint64_t seed, int *failures)
{
    pair p;
    pair_init(&p, seed);
    p.loss_percent = w->loss_percent;
    p.jitter = w->jitter;
    p.tap = w->copies ? copy_some : NULL;
    ossl *o = ossl_new(&p, !which);
    SSL_set_mtu(o->ssl, mtu);
    ossl_chain(o, 3); /* a large flight */
    long_hello(o);
    ossl_start(&p, which, o);
    for (int i = 0; i < 5000 && !(p.side[which].connected && o->done) && ossl_turn(&p, which, o); i++) {
    }
    assert_true(o->longest <= (size_t)mtu);
    bool ok = p.side[which].connected && o->done;
    if (!ok) {
        /* Never a silent end: the one who is not connected says why. */
        assert_true(p.side[which].failed || p.side[which].connected);
        assert_true(!p.side[which].failed || strlen(p.side[which].message) > 0);
        print_message("%s, %ld bytes, %u %% loss, seed %llu: %s\n", which == CLIENT ? "client" : "server",
                      mtu, w->loss_percent, (unsigned long long)seed,
                      p.side[which].failed ? p.side[which].message : "OpenSSL did not connect");
    }
    *failures += !ok;
    ossl_free(o);
    pair_clear(&p);
}

/* OpenSSL waits 1 s, 2 s, 4 s...: at 40 % our 30 s are not always enough. */
static void test_small_datagrams(void **state)
{
    (void)state;
    static const struct {
        weather weather;
        int seeds;
        int failures_allowed; /* of four times the seeds */
    } cases[] = {
        {{0, 0, false}, 1, 0},
        {{0, DP_MS(50), true}, 10, 0},
        {{10, DP_MS(50), true}, 10, 0},
        {{40, DP_MS(50), true}, 10, 20},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int failures = 0;
        for (int which = 0; which < 2; which++)
            for (long mtu = 256; mtu <= 576; mtu += 320)
                for (int seed = 0; seed < cases[i].seeds; seed++)
                    small_datagrams(which, mtu, &cases[i].weather, (uint64_t)(seed + 1) * 100 + i, &failures);
        print_message("%u %% loss: %d of %d failed\n", cases[i].weather.loss_percent, failures,
                      cases[i].seeds * 4);
        assert_true(failures <= cases[i].failures_allowed);
    }
}

/* Row 25: to the first fragment of OpenSSL's ClientHello a second one is forged that says something else about the
 * same bytes. The repetition of 1 s later counts. */
static bool contradict(pair *p, int from, uint8_t *data, size_t *len)
{
    if (from != CLIENT || p->tap_count++ > 0)
        return true;
    uint8_t forged[1500];
    assert_int_equal(data[13], DP_HANDSHAKE_CLIENT_HELLO);
    assert_true(*len > 500 && *len < sizeof forged);
    pair_inject(p, SERVER, data, *len);
    memcpy(forged, data, *len);
    forged[10] = 99; /* the record's number */
    forged[*len - 1] ^= 1;
    uint64_t dropped = dp_dtls_get_dropped(p->side[SERVER].dtls);
    pair_inject(p, SERVER, forged, *len);
    assert_int_equal(dp_dtls_get_dropped(p->side[SERVER].dtls), dropped + 1);
    return true;
}

static void test_contradicting_fragments(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 25);
    ossl *o = ossl_new(&p, CLIENT);
    SSL_set_mtu(o->ssl, 576);
    long_hello(o);
    p.tap = contradict;
    ossl_connect(&p, SERVER, o);
    assert_true(p.tap_count > 1);
    ossl_echo(&p, SERVER, o, "hello", 5);
    ossl_free(o);
    pair_clear(&p);
}

/* ---- rows 27 and 28: forgeries to our side ------------------------------------------------------------ */

static bool forge_alert(pair *p, int from, uint8_t *data, size_t *len)
{
    int which = *(const int *)p->tap_ctx;
    (void)data;
    (void)len;
    static const uint8_t fatal[] = {DP_RECORD_ALERT, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 99, 0, 2, 2, 40};
    if (from != which) {
        pair_inject(p, which, fatal, sizeof fatal);
        p->tap_count++;
    }
    return true;
}

static void test_plaintext_alerts_are_ignored(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        pair p;
        pair_init(&p, 27);
        ossl *o = ossl_new(&p, !which);
        p.tap = forge_alert;
        p.tap_ctx = &which;
        ossl_connect(&p, which, o);
        assert_true(p.tap_count > 1);
        assert_int_equal(dp_dtls_get_dropped(p.side[which].dtls), p.tap_count);
        ossl_free(o);
        pair_clear(&p);
    }
}

/* Before each datagram of OpenSSL: random bytes, a record around them, half of the datagram. */
static bool forge_garbage(pair *p, int from, uint8_t *data, size_t *len)
{
    int which = *(const int *)p->tap_ctx;
    if (from == which)
        return true;
    uint8_t garbage[200];
    dp_random source = test_source(&p->random);
    source.fn(source.ctx, garbage, sizeof garbage);
    pair_inject(p, which, garbage, sizeof garbage);
    const uint8_t header[DP_RECORD_HEADER] = {
        [0] = (uint8_t)(20 + garbage[0] % 4), 0xfe, 0xfd, 0, garbage[1] & 1,
        [12] = sizeof garbage - sizeof header};
    memcpy(garbage, header, sizeof header);
    pair_inject(p, which, garbage, sizeof garbage);
    pair_inject(p, which, data, *len / 2);
    p->tap_count++;
    return true;
}

static void test_garbage_is_survived(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++)
        for (uint64_t seed = 0; seed < 10; seed++) {
            pair p;
            pair_init(&p, 2800 + seed);
            ossl *o = ossl_new(&p, !which);
            p.tap = forge_garbage;
            p.tap_ctx = &which;
            ossl_connect(&p, which, o);
            assert_true(p.tap_count > 1);
            ossl_free(o);
            pair_clear(&p);
        }
}

/* ---- row 33: the last flight -------------------------------------------------------------------------- */

/* Loses what the server seals before anybody has data: its Finished, six times. */
static bool lose_last_flight(pair *p, int from, uint8_t *data, size_t *len)
{
    dp_rd rd = dp_rd_init(data, *len);
    dp_record record;
    while (from == SERVER && dp_rd_left(&rd) > 0) {
        assert_true(dp_record_read(&record, &rd));
        if (record.epoch == 1)
            return p->tap_count++ >= 6;
    }
    return true;
}

static void test_last_flight_lost_six_times(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        pair p;
        pair_init(&p, 33);
        ossl *o = ossl_new(&p, !which);
        p.tap = lose_last_flight;
        ossl_connect(&p, which, o);
        assert_int_equal(p.tap_count, 7);
        p.tap = NULL;
        ossl_echo(&p, which, o, "hello", 5);
        ossl_free(o);
        pair_clear(&p);
    }
}

/* ---- rows 34 and 35: afterwards ----------------------------------------------------------------------- */

typedef struct recording {
    size_t count;
    ossl_datagram datagrams[16];
} recording;

static bool record_openssl(pair *p, int from, uint8_t *data, size_t *len)
{
    recording *r = p->tap_ctx;
    (void)from;
    assert_true(r->count < 16);
    r->datagrams[r->count].len = *len;
    memcpy(r->datagrams[r->count++].data, data, *len);
    return true;
}

/* All that OpenSSL has ever sent, twice more, in both directions of time. */
static void test_replay_is_dropped(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        pair p;
        recording r = {0};
        pair_init(&p, 34);
        ossl *o = ossl_new(&p, !which);
        ossl_connect(&p, which, o);
        p.tap = record_openssl;
        p.tap_ctx = &r;
        for (int i = 0; i < 10; i++) {
            assert_int_equal(SSL_write(o->ssl, "once", 4), 4);
            ossl_collect(&p, which, o);
        }
        ossl_run(&p, which, o);
        assert_int_equal(r.count, 10);
        assert_int_equal(p.side[which].data_count, 10);
        uint64_t dropped = dp_dtls_get_dropped(p.side[which].dtls);
        for (size_t i = 0; i < 20; i++) {
            ossl_datagram *again = &r.datagrams[i < 10 ? i : 19 - i];
            pair_inject(&p, which, again->data, again->len);
        }
        assert_int_equal(p.side[which].data_count, 10);
        assert_int_equal(dp_dtls_get_dropped(p.side[which].dtls), dropped + 20);
        ossl_free(o);
        pair_clear(&p);
    }
}

static void test_plaintext_after_the_handshake(void **state)
{
    (void)state;
    static const uint8_t records[][18] = {
        {DP_RECORD_APPLICATION_DATA, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 99, 0, 5, 'h', 'e', 'l', 'l', 'o'},
        {DP_RECORD_ALERT, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 99, 0, 2, 2, 40},
        {DP_RECORD_ALERT, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 99, 0, 2, 1, 0},
        {DP_RECORD_CHANGE_CIPHER_SPEC, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 99, 0, 1, 1},
    };
    for (int which = 0; which < 2; which++) {
        pair p;
        pair_init(&p, 35);
        ossl *o = ossl_new(&p, !which);
        ossl_connect(&p, which, o);
        for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) {
            uint64_t dropped = dp_dtls_get_dropped(p.side[which].dtls);
            pair_inject(&p, which, records[i], DP_RECORD_HEADER + records[i][12]);
            assert_int_equal(dp_dtls_get_dropped(p.side[which].dtls), dropped + 1);
        }
        assert_int_equal(p.side[which].data_count, 0);
        ossl_echo(&p, which, o, "sealed", 6);
        ossl_free(o);
        pair_clear(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_datagrams),
        cmocka_unit_test(test_contradicting_fragments),
        cmocka_unit_test(test_plaintext_alerts_are_ignored),
        cmocka_unit_test(test_garbage_is_survived),
        cmocka_unit_test(test_last_flight_lost_six_times),
        cmocka_unit_test(test_replay_is_dropped),
        cmocka_unit_test(test_plaintext_after_the_handshake),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_certificate(-1);
    return failed;
}
