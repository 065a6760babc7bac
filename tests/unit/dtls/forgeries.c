/* Somebody who can send from the peer's address, whether or not he sees what passes: what he forges during the handshake
 * and after it costs at most time. */
#include "pair.h"

#include <time.h>

#include "base/wr.h"
#include "dtls/certificate.h"
#include "dtls/prefilter.h"

/* ---- forgeries during the handshake ------------------------------------------------------------------ */

#define CERTIFICATE 11 /* its HandshakeType */

/* A handshake message of one record; returns the datagram's length. */
static size_t message(uint8_t out[1500], uint8_t type, uint8_t message_seq, const uint8_t *body, size_t len)
{
    dp_wr wr = dp_wr_init(out, 1500);
    dp_wr_u8(&wr, DP_RECORD_HANDSHAKE);
    dp_wr_u16(&wr, DP_RECORD_VERSION);
    dp_wr_u16(&wr, 0);
    dp_wr_u48(&wr, 9);
    dp_wr_u16(&wr, (uint16_t)(DP_HANDSHAKE_HEADER + len));
    dp_wr_u8(&wr, type);
    dp_wr_u24(&wr, (uint32_t)len);
    dp_wr_u16(&wr, message_seq);
    dp_wr_u24(&wr, 0);
    dp_wr_u24(&wr, (uint32_t)len);
    dp_wr_bytes(&wr, body, len);
    size_t total = 0;
    assert_int_equal(dp_wr_finish(&wr, &total), DP_OK);
    return total;
}

/* Row 27: forged alerts before each datagram of both sides. */
static bool forge_alerts(pair *p, int from, uint8_t *data, size_t *len)
{
    (void)data;
    (void)len;
    static const uint8_t fatal[] = {21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 99, 0, 2, 2, 40};
    static const uint8_t close[] = {21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 98, 0, 2, 1, 0};
    pair_put(p, !from, fatal, sizeof fatal);
    pair_put(p, !from, close, sizeof close);
    p->tap_count += 2;
    return true;
}

static void test_plaintext_alerts_are_ignored(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 27);
    p.tap = forge_alerts;
    pair_connect(&p);
    assert_int_equal(p.tap_count, dp_dtls_get_dropped(p.side[0].dtls) + dp_dtls_get_dropped(p.side[1].dtls));
    assert_false(p.side[CLIENT].closed || p.side[CLIENT].failed);
    assert_false(p.side[SERVER].closed || p.side[SERVER].failed);
    pair_clear(&p);
}

/* Row 28: beside each datagram a random one and one with the right look. */
static bool forge_garbage(pair *p, int from, uint8_t *data, size_t *len)
{
    uint8_t garbage[1500];
    dp_random source = test_source(&p->random);
    size_t n = 1 + test_next(&p->random) % 200;
    source.fn(source.ctx, garbage, n);
    pair_put(p, !from, garbage, n);
    garbage[0] = (uint8_t)(20 + garbage[0] % 4);
    garbage[1] = 0xfe;
    garbage[2] = 0xfd;
    garbage[3] = 0;
    garbage[4] = garbage[4] & 1;
    if (n > 13) {
        garbage[11] = 0;
        garbage[12] = (uint8_t)(n - 13);
    }
    pair_put(p, !from, garbage, n);
    pair_put(p, !from, data, *len / 2); /* cut short */
    return true;
}

static void test_garbage_is_survived(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        pair p;
        pair_init(&p, 2800 + seed);
        p.tap = forge_garbage;
        p.jitter = DP_MS(20);
        pair_connect(&p);
        pair_clear(&p);
    }
}

/* A record number that leaves all others behind, spoofed before each datagram. */
static bool forge_record_number(pair *p, int from, uint8_t *data, size_t *len)
{
    static const uint8_t forged[] = {
        DP_RECORD_CHANGE_CIPHER_SPEC, 0xfe, 0xfd, 0, 0, 0xff, 0, 0, 0, 0, 9, 0, 1, 1};
    (void)data;
    (void)len;
    if (from == *(const int *)p->tap_ctx)
        pair_inject(p, !from, forged, sizeof forged);
    return true;
}

static void test_forged_record_number(void **state)
{
    (void)state;
    for (int from = 0; from < 2; from++) {
        pair p;
        pair_init(&p, 37);
        p.tap = forge_record_number;
        p.tap_ctx = &from;
        pair_connect(&p);
        assert_int_equal(p.now, DP_SECONDS(1000) + DP_MS(40)); /* as fast as ever */
        pair_clear(&p);
    }
}

/* ChangeCipherSpec and what could be Finished, spoofed before each datagram. */
static bool forge_finished(pair *p, int from, uint8_t *data, size_t *len)
{
    static const uint8_t forged[14 + 13 + 48] = {
        DP_RECORD_CHANGE_CIPHER_SPEC, 0xfe, 0xfd, [9] = 9, [12] = 1, [13] = 1, /* the second record: */
        DP_RECORD_HANDSHAKE,          0xfe, 0xfd, 0,       1,        [26] = 48};
    (void)data;
    (void)len;
    if (from == *(const int *)p->tap_ctx)
        pair_inject(p, !from, forged, sizeof forged);
    return true;
}

static void test_forged_finished(void **state)
{
    (void)state;
    for (int from = 0; from < 2; from++) {
        pair p;
        pair_init(&p, 36);
        p.tap = forge_finished;
        p.tap_ctx = &from;
        pair_connect(&p);
        assert_int_equal(p.now, DP_SECONDS(1000) + DP_MS(40)); /* as fast as ever */
        pair_clear(&p);
    }
}

/* A well-formed ClientHello without a suite that we know, from somebody else: it ends the server's mbedTLS
 * context. The server begins afresh and does not answer with an alert, which would end the real client's
 * handshake. */
static void test_forged_client_hello(void **state)
{
    (void)state;
    uint8_t hello[] = {
        22,      0xfe, 0xfd, 0,        0,        0,        0,        0,        0,        0,        9,       0,
        12 + 42, 1,    0,    0,        42,       0,        0,        0,        0,        0,        0,       0,
        42,      0xfe, 0xfd, [59] = 0, [60] = 0, [61] = 0, [62] = 2, [63] = 0, [64] = 5, [65] = 1, [66] = 0};
    pair p;
    /* Many of them, and the server takes a rest; it goes on all the same. */
    for (int count = 3; count <= 1000; count += 997) {
        pair_init(&p, 280);
        assert_int_equal(dp_dtls_start(p.side[SERVER].dtls, p.now), DP_OK);
        for (int i = 0; i < count; i++) {
            hello[10]++;
            pair_inject(&p, SERVER, hello, sizeof hello);
        }
        assert_int_equal(dp_dtls_start(p.side[CLIENT].dtls, p.now), DP_OK);
        pair_collect(&p);
        assert_int_equal(p.sent[SERVER], 0);
        pair_run(&p);
        assert_true(p.side[CLIENT].connected && p.side[SERVER].connected);
        pair_clear(&p);
    }
}

/* The seconds that mbedTLS puts into its hellos stand still. */
__attribute__((visibility("default"))) time_t time(time_t *out)
{
    if (out != NULL)
        *out = WALL_CLOCK;
    return WALL_CLOCK;
}

/* Breaks the first ServerKeyExchange's signature: the client's context ends. */
static bool break_signature(pair *p, int from, uint8_t *data, size_t *len)
{
    dp_rd rd = dp_rd_init(data, *len);
    dp_record record;
    while (from == SERVER && p->tap_count == 0 && dp_rd_left(&rd) > 0) {
        assert_true(dp_record_read(&record, &rd));
        if (record.epoch == 0 && record.type == DP_RECORD_HANDSHAKE && record.body[0] == 12) {
            data[rd.at - data - 1] ^= 1;
            p->tap_count++;
        }
    }
    return true;
}

static void test_client_begins_again(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 282);
    p.tap = break_signature;
    pair_connect(&p);
    assert_int_equal(p.tap_count, 1);
    /* One round trip more: the next attempt's ClientHello is the same, so the server's flight comes again. */
    assert_int_equal(p.now, DP_SECONDS(1000) + DP_MS(60));
    pair_clear(&p);
}

/* A good ClientHello of somebody else, in front of the client's second flight: the handshake moves, so it goes on. */
static bool forge_good_hello(pair *p, int from, uint8_t *data, size_t *len)
{
    dp_dtls *other = NULL;
    dp_dtls_config config;
    dp_fingerprint fp = {.algorithm = DP_FINGERPRINT_SHA256, .length = 32};
    uint8_t hello[1500];
    size_t hello_len = 0;
    (void)len;
    if (from == SERVER || data[DP_RECORD_HEADER] == DP_HANDSHAKE_CLIENT_HELLO)
        return true;
    p->tap_count++;
    pair_config(p, CLIENT, &config);
    assert_int_equal(dp_dtls_new(&other, &config), DP_OK);
    assert_int_equal(dp_dtls_set_remote_fingerprints(other, &fp, 1), DP_OK);
    assert_int_equal(dp_dtls_start(other, p->now), DP_OK);
    assert_true(dp_dtls_poll_transmit(other, hello, sizeof hello, &hello_len));
    dp_dtls_free(other);
    pair_inject(p, SERVER, hello, hello_len);
    return true;
}

static void test_another_client_hello(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 289);
    p.tap = forge_good_hello;
    pair_connect(&p);
    assert_true(p.tap_count > 0);
    assert_int_equal(p.now, DP_SECONDS(1000) + DP_MS(40)); /* as fast as ever */
    pair_clear(&p);
}

/* The same, but the client is gone, and the new one is the client: soon the server takes it. */
static void test_client_starts_over(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 290);
    pair_start(&p);
    assert_true(pair_step(&p)); /* its ClientHello arrives */
    dp_dtls_free(p.side[CLIENT].dtls);
    dp_dtls_config config;
    pair_config(&p, CLIENT, &config);
    assert_int_equal(dp_dtls_new(&p.side[CLIENT].dtls, &config), DP_OK);
    pair_expect(&p, CLIENT, p.side[SERVER].certificate);
    assert_int_equal(dp_dtls_start(p.side[CLIENT].dtls, p.now), DP_OK);
    pair_collect(&p);
    pair_run(&p);
    assert_true(p.side[CLIENT].connected && p.side[SERVER].connected);
    assert_in_range(p.now, DP_SECONDS(1001), DP_SECONDS(1005));
    pair_clear(&p);
}

/* In front of the first ServerHello, a HelloVerifyRequest whose cookie is longer than it. */
static bool forge_verify_request(pair *p, int from, uint8_t *data, size_t *len)
{
    static const uint8_t body[] = {0xfe, 0xff, 200, 1};
    uint8_t forged[1500];
    (void)data;
    (void)len;
    if (from == SERVER && p->tap_count++ == 0)
        pair_inject(p, CLIENT, forged, message(forged, 3, 0, body, sizeof body));
    return true;
}

/* It ends the attempt, but nobody has asked for a cookie: the next one begins with the same ClientHello. */
static void test_forged_verify_request(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 288);
    p.tap = forge_verify_request;
    pair_connect(&p);
    assert_true(p.tap_count > 0);
    assert_int_equal(p.now, DP_SECONDS(1000) + DP_MS(60));
    pair_clear(&p);
}

/* Breaks the first CertificateVerify: the server's context ends, the client notices from the alert and the
 * silence. */
static bool break_verify(pair *p, int from, uint8_t *data, size_t *len)
{
    dp_rd rd = dp_rd_init(data, *len);
    dp_record record;
    while (from == CLIENT && p->tap_count == 0 && dp_rd_left(&rd) > 0) {
        assert_true(dp_record_read(&record, &rd));
        if (record.epoch == 0 && record.type == DP_RECORD_HANDSHAKE && record.body[0] == 15) {
            data[rd.at - data - 1] ^= 1;
            p->tap_count++;
        }
    }
    return true;
}

/* Both ends have signed something in the first attempt: the second one's random bytes are others. ctx has the first
 * hello's random of either end. */
static bool break_verify_and_compare(pair *p, int from, uint8_t *data, size_t *len)
{
    uint8_t(*first)[28] = p->tap_ctx;
    const uint8_t *random = data + DP_RECORD_HEADER + DP_HANDSHAKE_HEADER + 2 + 4; /* behind the seconds */
    if (data[0] == DP_RECORD_HANDSHAKE && data[DP_RECORD_HEADER] == (from == CLIENT ? 1 : 2)) {
        if (p->tap_count == 0)
            memcpy(first[from], random, sizeof first[from]);
        else
            assert_memory_not_equal(first[from], random, sizeof first[from]);
    }
    return break_verify(p, from, data, len);
}

static void test_server_begins_again(void **state)
{
    (void)state;
    uint8_t first[2][28];
    pair p;
    pair_init(&p, 283);
    p.tap = break_verify_and_compare;
    p.tap_ctx = first;
    pair_connect(&p);
    assert_int_equal(p.tap_count, 1);
    pair_clear(&p);
}

/* A stranger's certificate, in front of the client's. */
static bool forge_certificate(pair *p, int from, uint8_t *data, size_t *len)
{
    (void)len;
    if (from == CLIENT && data[DP_RECORD_HEADER] == CERTIFICATE && p->tap_count++ == 0) {
        const mbedtls_x509_buf *der = &test_certificate(2)->crt.raw;
        uint8_t body[1000];
        dp_wr wr = dp_wr_init(body, sizeof body);
        dp_wr_u24(&wr, (uint32_t)der->len + 3);
        dp_wr_u24(&wr, (uint32_t)der->len);
        dp_wr_bytes(&wr, der->p, der->len);
        uint8_t forged[1500];
        pair_inject(p, SERVER, forged, message(forged, CERTIFICATE, 1, body, 6 + der->len));
    }
    return true;
}

/* Anybody can show a certificate: only what it has signed (CertificateVerify) proves that the client is another one than
 * announced. */
static void test_forged_certificate(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 284);
    p.tap = forge_certificate;
    pair_connect(&p);
    pair_clear(&p);
}

/* Those of the server in epoch 0; ctx is the lowest that may come. */
static bool record_numbers_grow(pair *p, int from, uint8_t *data, size_t *len)
{
    uint64_t *next = p->tap_ctx;
    dp_rd rd = dp_rd_init(data, *len);
    dp_record record;
    while (from == SERVER && dp_record_read(&record, &rd) && record.epoch == 0) {
        assert_true(record.sequence >= *next);
        *next = record.sequence + 1;
    }
    return true;
}

/* A message from before the flight asks for the flight again (RFC 6347 §4.2.4), and anybody can send one, ten to a
 * datagram: what we send upon that must not grow with it. */
static void test_flood_of_repetitions(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 285);
    pair_start(&p);
    assert_true(pair_step(&p)); /* the ClientHello arrives */
    size_t flight = p.sent[SERVER];
    assert_true(flight > 0);
    uint8_t flood[1500];
    size_t used = 0;
    for (int i = 0; i < 10; i++) {
        uint8_t one[1500];
        size_t len = message(one, CERTIFICATE, 0, (const uint8_t *)"x", 1);
        memcpy(flood + used, one, len);
        used += len;
    }
    /* Long enough that what it has mbedTLS seal counts more than 65,536 records: those that do leave keep their order. */
    p.tap = record_numbers_grow;
    p.tap_ctx = &(uint64_t){0};
    for (int i = 0; i < 2000; i++) {
        pair_inject(&p, SERVER, flood, used);
        if (i % 10 == 0)
            p.now += DP_MS(20);
        pair_collect(&p);
    }
    assert_in_range(p.sent[SERVER], 2 * flight, 12 * 41); /* 4 s */
    p.tap = NULL; /* the last flight comes with the same number, if need be */
    pair_run(&p);
    assert_true(p.side[CLIENT].connected && p.side[SERVER].connected);
    pair_clear(&p);
}

/* A record longer than mbedTLS's buffer, of fragments that are fine. */
static void test_longest_record(void **state)
{
    (void)state;
    enum { FRAGMENT = 9000, PART = DP_HANDSHAKE_HEADER + FRAGMENT, LEN = DP_RECORD_HEADER + 2 * PART };
    static uint8_t datagram[LEN] = {DP_RECORD_HANDSHAKE, 0xfe,
                                    0xfd, [11] = 2 * PART >> 8, [12] = 2 * PART & 0xff};
    for (size_t at = DP_RECORD_HEADER; at < LEN; at += PART) {
        datagram[at] = CERTIFICATE;
        datagram[at + 2] = datagram[at + 10] = FRAGMENT >> 8;
        datagram[at + 3] = datagram[at + 11] = FRAGMENT & 0xff;
    }
    pair p;
    pair_init(&p, 291);
    pair_start(&p);
    assert_true(pair_step(&p)); /* the ClientHello arrives */
    for (int i = 0; i < 2; i++)
        dp_dtls_input(p.side[i].dtls, p.now, datagram, sizeof datagram);
    pair_run(&p);
    assert_true(p.side[CLIENT].connected && p.side[SERVER].connected);
    assert_int_equal(p.now, DP_SECONDS(1000) + DP_MS(40));
    pair_clear(&p);
}

/* A ServerHello that fits nothing, a thousand times: each of the first ends an attempt, and brings another ClientHello. */
static void test_flood_of_server_hellos(void **state)
{
    (void)state;
    static const uint8_t hello[38] = {0xfe, 0xfd, [35] = 0xff, 0xff};
    pair p;
    pair_init(&p, 286);
    pair_start(&p);
    uint8_t forged[1500];
    for (int i = 0; i < 1000; i++)
        pair_inject(&p, CLIENT, forged, message(forged, 2, 0, hello, sizeof hello));
    pair_collect(&p);
    assert_int_equal(p.sent[CLIENT], 9);
    pair_run(&p);
    assert_true(p.side[CLIENT].connected && p.side[SERVER].connected);
    pair_clear(&p);
}

/* ---- forgeries after it -------------------------------------------------------------------------------- */

static void test_replay_is_dropped(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 34);
    pair_connect(&p);
    uint8_t records[300][64];
    size_t len = 0;
    for (int i = 0; i < 300; i++) {
        uint8_t datagram[1500];
        len = pair_seal(&p, CLIENT, datagram, "0123456789", 10);
        memcpy(records[i], datagram, len);
    }
    pair_inject(&p, SERVER, records[290], len); /* out of order is fine */
    pair_inject(&p, SERVER, records[291], len);
    pair_inject(&p, SERVER, records[289], len);
    assert_int_equal(p.side[SERVER].data_count, 3);
    for (int i = 289; i <= 291; i++)
        pair_inject(&p, SERVER, records[i], len);
    pair_inject(&p, SERVER, records[0], len); /* too old to know */
    assert_int_equal(p.side[SERVER].data_count, 3);
    for (int i = 289 - 63; i < 289; i++)
        pair_inject(&p, SERVER, records[i], len);
    assert_int_equal(p.side[SERVER].data_count, 3 + 63);
    pair_clear(&p);
}

static void test_altered_records_are_dropped(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 35);
    pair_connect(&p);
    uint8_t datagram[1500];
    size_t len = pair_seal(&p, CLIENT, datagram, "payload", 7);
    for (size_t i = 0; i < len; i++)
        for (int bit = 0; bit < 8; bit++) {
            datagram[i] ^= (uint8_t)(1 << bit);
            pair_inject(&p, SERVER, datagram, len);
            datagram[i] ^= (uint8_t)(1 << bit);
        }
    for (size_t i = 0; i < len; i++)
        pair_inject(&p, SERVER, datagram, i);
    assert_int_equal(p.side[SERVER].data_count, 0);
    assert_false(p.side[SERVER].failed || p.side[SERVER].closed);
    pair_inject(&p, SERVER, datagram, len);
    assert_int_equal(p.side[SERVER].data_count, 1);
    pair_clear(&p);
}

static void test_plaintext_after_the_handshake(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 35);
    pair_connect(&p);
    static const uint8_t data[] = {23, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 99, 0, 5, 'h', 'e', 'l', 'l', 'o'};
    static const uint8_t alert[] = {21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 99, 0, 2, 2, 40};
    for (int to = 0; to < 2; to++) {
        uint64_t before = dp_dtls_get_dropped(p.side[to].dtls);
        pair_inject(&p, to, data, sizeof data);
        pair_inject(&p, to, alert, sizeof alert);
        assert_int_equal(dp_dtls_get_dropped(p.side[to].dtls), before + 2);
        assert_int_equal(p.side[to].data_count, 0);
        assert_false(p.side[to].failed || p.side[to].closed);
    }
    pair_clear(&p);
}

static void test_several_records_in_a_datagram(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 36);
    pair_connect(&p);
    uint8_t datagram[1500];
    size_t len = 0;
    static const char *const texts[] = {"one", "two", "three"};
    for (int i = 0; i < 3; i++) {
        size_t n = 0;
        assert_int_equal(dp_dtls_seal(p.side[SERVER].dtls, datagram + len, sizeof datagram - len, &n,
                                      (const uint8_t *)texts[i], strlen(texts[i])),
                         DP_OK);
        if (i == 1)
            datagram[len + n - 1] ^= 1; /* a forged one in the middle does not hide the others */
        len += n;
    }
    dp_dtls_input(p.side[CLIENT].dtls, p.now, datagram, len);
    dp_dtls_event event;
    assert_true(dp_dtls_poll_event(p.side[CLIENT].dtls, &event));
    assert_int_equal(event.type, DP_DTLS_EVENT_DATA);
    assert_int_equal(event.len, 3);
    assert_memory_equal(event.data, "one", 3);
    assert_true(event.data > datagram && event.data < datagram + len); /* no copy */
    assert_true(dp_dtls_poll_event(p.side[CLIENT].dtls, &event));
    assert_memory_equal(event.data, "three", 5);
    assert_false(dp_dtls_poll_event(p.side[CLIENT].dtls, &event));
    pair_clear(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plaintext_alerts_are_ignored),
        cmocka_unit_test(test_garbage_is_survived),
        cmocka_unit_test(test_forged_record_number),
        cmocka_unit_test(test_forged_finished),
        cmocka_unit_test(test_forged_client_hello),
        cmocka_unit_test(test_client_begins_again),
        cmocka_unit_test(test_another_client_hello),
        cmocka_unit_test(test_client_starts_over),
        cmocka_unit_test(test_forged_verify_request),
        cmocka_unit_test(test_server_begins_again),
        cmocka_unit_test(test_forged_certificate),
        cmocka_unit_test(test_flood_of_repetitions),
        cmocka_unit_test(test_longest_record),
        cmocka_unit_test(test_flood_of_server_hellos),
        cmocka_unit_test(test_replay_is_dropped),
        cmocka_unit_test(test_altered_records_are_dropped),
        cmocka_unit_test(test_plaintext_after_the_handshake),
        cmocka_unit_test(test_several_records_in_a_datagram),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_certificate(-1);
    return failed;
}
