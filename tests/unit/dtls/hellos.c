/* A server of ours meets the ClientHellos that browsers really send, cut and mixed in every way that the network and
 * RFC 6347 §4.2.3 allow. */
#include "hellos.h"

#include "base/wr.h"
#include "dtls/prefilter.h"
#include "dtls/reassembly.h"
#include "pair.h"

enum {
    HEADERS = DP_RECORD_HEADER + DP_HANDSHAKE_HEADER,
    HELLO_MAX = 2000,
    PIECES_MAX = 3 * HELLO_MAX,
    EXTENSION_USE_SRTP = 14,              /* RFC 5764 §4.1.1 */
    EXTENSION_EXTENDED_MASTER_SECRET = 23 /* RFC 7627 §5.1 */
};

/* A range of the message's bytes. */
typedef struct piece {
    size_t from;
    size_t to;
} piece;

typedef struct message {
    uint8_t bytes[HELLO_MAX];
    size_t len;
    piece sent[2]; /* as the browser cut it */
} message;

static message read_hello(const hello *h)
{
    message m = {.len = 0};
    for (size_t i = 0; i < 2; i++) {
        dp_record record;
        dp_fragment fragment;
        dp_rd rd = dp_rd_init(h->flight[i].data, h->flight[i].len);
        assert_true(dp_record_read(&record, &rd));
        assert_int_equal(dp_rd_left(&rd), 0);
        rd = dp_rd_init(record.body, record.length);
        assert_true(dp_fragment_read(&fragment, &rd));
        assert_int_equal(dp_rd_left(&rd), 0);
        assert_int_equal(fragment.type, DP_HANDSHAKE_CLIENT_HELLO);
        assert_int_equal(fragment.offset, m.len);
        assert_true(fragment.length <= HELLO_MAX);
        memcpy(m.bytes + m.len, fragment.body, fragment.body_len);
        m.sent[i] = (piece){m.len, m.len + fragment.body_len};
        m.len += fragment.body_len;
        assert_true(i == 0 ? m.len < fragment.length : m.len == fragment.length);
    }
    return m;
}

/* ---- a server --------------------------------------------------------------------------------------- */

typedef struct server {
    dp_dtls *dtls;
    test_random random;
    dp_time now;
} server;

static server server_new(uint64_t seed)
{
    server s = {.random = {seed}, .now = DP_SECONDS(1000)};
    dp_fingerprint anybody = {.algorithm = DP_FINGERPRINT_SHA256, .length = 32};
    dp_dtls_config config = {
        .size = sizeof config, .role = DP_DTLS_SERVER, .certificate = test_certificate(0)};
    config.random = test_source(&s.random);
    assert_int_equal(dp_dtls_new(&s.dtls, &config), DP_OK);
    assert_int_equal(dp_dtls_set_remote_fingerprints(s.dtls, &anybody, 1), DP_OK);
    assert_int_equal(dp_dtls_start(s.dtls, s.now), DP_OK);
    return s;
}

/* Puts one piece as a record of its own at out; returns its length. */
static size_t write_piece(server *s, uint8_t *out, size_t capacity, const message *m, piece p)
{
    size_t len = p.to - p.from;
    size_t total = 0;
    dp_wr wr = dp_wr_init(out, capacity);
    dp_wr_u8(&wr, DP_RECORD_HANDSHAKE);
    dp_wr_u16(&wr, 0xfeff);
    dp_wr_u16(&wr, 0);
    dp_wr_u48(&wr, test_next(&s->random) % 10000);
    dp_wr_u16(&wr, (uint16_t)(DP_HANDSHAKE_HEADER + len));
    dp_wr_u8(&wr, DP_HANDSHAKE_CLIENT_HELLO);
    dp_wr_u24(&wr, (uint32_t)m->len);
    dp_wr_u16(&wr, 0);
    dp_wr_u24(&wr, (uint32_t)p.from);
    dp_wr_u24(&wr, (uint32_t)len);
    dp_wr_bytes(&wr, m->bytes + p.from, len);
    assert_int_equal(dp_wr_finish(&wr, &total), DP_OK);
    return total;
}

static void input(server *s, const uint8_t *data, size_t len)
{
    uint8_t copy[1500];
    assert_true(len <= sizeof copy);
    memcpy(copy, data, len);
    dp_dtls_input(s->dtls, s->now, copy, len);
}

static void input_piece(server *s, const message *m, piece p)
{
    uint8_t data[1500];
    input(s, data, write_piece(s, data, sizeof data, m, p));
}

/* RFC 5246 §7.4.1.3: one of our suites; and the extensions that WebRTC lives on. */
static void check_server_hello(dp_rd rd)
{
    bool use_srtp = false;
    bool extended_master_secret = false;
    assert_int_equal(dp_rd_u16(&rd), DP_RECORD_VERSION);
    dp_rd_skip(&rd, 32);                      /* random */
    dp_rd_skip(&rd, dp_rd_u8(&rd));           /* session_id */
    assert_int_equal(dp_rd_u16(&rd), 0xc02b); /* TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 */
    assert_int_equal(dp_rd_u8(&rd), 0);       /* no compression */
    dp_rd extensions = dp_rd_sub(&rd, dp_rd_u16(&rd));
    assert_int_equal(dp_rd_left(&rd), 0);
    while (dp_rd_left(&extensions) > 0) {
        uint16_t type = dp_rd_u16(&extensions);
        dp_rd body = dp_rd_sub(&extensions, dp_rd_u16(&extensions));
        if (type == EXTENSION_USE_SRTP) {
            use_srtp = true;
            assert_int_equal(dp_rd_u16(&body), 2);
            assert_int_equal(dp_rd_u16(&body), DP_SRTP_AES128_CM_HMAC_SHA1_80);
        } else if (type == EXTENSION_EXTENDED_MASTER_SECRET) {
            extended_master_secret = true;
        }
    }
    assert_false(extensions.error);
    assert_true(use_srtp);
    assert_true(extended_master_secret);
}

/* Has the server answered since the last call? If so, its flight begins with a right ServerHello. */
static bool answered(server *s)
{
    uint8_t out[1500];
    size_t len = 0;
    size_t datagrams = 0;
    dp_dtls_event event;
    assert_false(dp_dtls_poll_event(s->dtls, &event));
    while (dp_dtls_poll_transmit(s->dtls, out, sizeof out, &len)) {
        if (datagrams++ > 0)
            continue;
        dp_record record;
        dp_fragment fragment;
        dp_rd rd = dp_rd_init(out, len);
        assert_true(dp_record_read(&record, &rd));
        assert_int_equal(record.type, DP_RECORD_HANDSHAKE);
        rd = dp_rd_init(record.body, record.length);
        assert_true(dp_fragment_read(&fragment, &rd));
        assert_int_equal(fragment.type, 2); /* server_hello */
        assert_int_equal(fragment.body_len, fragment.length);
        check_server_hello(dp_rd_init(fragment.body, fragment.body_len));
    }
    return datagrams > 0;
}

static void send_pieces(server *s, const message *m, const piece *pieces, size_t count)
{
    for (size_t i = 0; i < count; i++)
        input_piece(s, m, pieces[i]);
}

/* ---- the tests -------------------------------------------------------------------------------------- */

static void test_as_sent(void **state)
{
    (void)state;
    for (size_t i = 0; i < HELLO_COUNT; i++) {
        const hello *h = &hellos[i];
        message m = read_hello(h);
        print_message("%s: ClientHello of %zu bytes in fragments of %zu and %zu\n", h->browser, m.len,
                      m.sent[0].to - m.sent[0].from, m.sent[1].to - m.sent[1].from);
        assert_true(m.len > 1216 + 100); /* X25519MLKEM768's share alone is 1,216 bytes */
        server s = server_new(i);
        input(&s, h->flight[0].data, h->flight[0].len);
        assert_false(answered(&s));
        input(&s, h->flight[1].data, h->flight[1].len);
        assert_true(answered(&s));
        dp_dtls_free(s.dtls);
    }
}

static void test_reordered_and_doubled(void **state)
{
    (void)state;
    static const size_t orders[][6] = {{1, 0, 2}, {0, 0, 1, 2}, {1, 1, 0, 2}, {1, 1, 1, 0, 2}};
    for (size_t i = 0; i < HELLO_COUNT; i++)
        for (size_t j = 0; j < sizeof orders / sizeof orders[0]; j++) {
            server s = server_new(j);
            for (const size_t *at = orders[j]; *at != 2; at++) {
                assert_false(answered(&s));
                input(&s, hellos[i].flight[*at].data, hellos[i].flight[*at].len);
            }
            assert_true(answered(&s));
            dp_dtls_free(s.dtls);
        }
}

/* Firefox's first cut needs a path that carries 1,408 bytes. Where there is no answer, its fourth flight comes in another
 * cut (1,163 and 298 bytes), which overlaps with what a narrow path has let through of the first. */
static void test_cut_anew_by_firefox(void **state)
{
    (void)state;
    message m = read_hello(&hellos[FIREFOX]);
    const piece anew[] = {{0, 1163}, {1163, m.len}};
    server s = server_new(1);
    input_piece(&s, &m, m.sent[1]);
    input_piece(&s, &m, anew[0]);
    assert_false(answered(&s));
    input_piece(&s, &m, anew[1]);
    assert_true(answered(&s));
    dp_dtls_free(s.dtls);
}

/* Cuts all of m into pieces of at most max bytes that overlap by up to as much again, some of them twice, and mixes
 * them. */
static size_t cut(test_random *r, piece pieces[PIECES_MAX], const message *m, size_t max)
{
    size_t count = 0;
    for (size_t at = 0; at < m->len;) {
        size_t len = 1 + test_next(r) % max;
        size_t before = test_next(r) % (max + 1) / 2;
        piece p = {at > before ? at - before : 0, at + len < m->len ? at + len : m->len};
        at = p.to;
        for (size_t copies = test_next(r) % 4 == 0 ? 2 : 1; copies > 0; copies--) {
            assert_true(count < PIECES_MAX);
            pieces[count++] = p;
        }
    }
    for (size_t i = count; i > 1; i--) {
        size_t j = test_next(r) % i;
        piece p = pieces[i - 1];
        pieces[i - 1] = pieces[j];
        pieces[j] = p;
    }
    return count;
}

/* The answer comes with the datagram that completes the message: not before, and not without it. */
static void send_recut(const message *m, uint64_t seed, size_t max)
{
    static piece pieces[PIECES_MAX];
    bool have[HELLO_MAX] = {false};
    size_t missing = m->len;
    server s = server_new(seed);
    size_t count = cut(&s.random, pieces, m, max);
    for (size_t i = 0; i < count && missing > 0;) {
        uint8_t data[1500]; /* some records a datagram */
        size_t len = 0;
        do {
            for (size_t at = pieces[i].from; at < pieces[i].to; at++) {
                missing -= !have[at];
                have[at] = true;
            }
            len += write_piece(&s, data + len, sizeof data - len, m, pieces[i++]);
        } while (i < count && missing > 0 && test_next(&s.random) % 3 == 0 &&
                 len + HEADERS + pieces[i].to - pieces[i].from <= sizeof data);
        input(&s, data, len);
        assert_int_equal(answered(&s), missing == 0);
    }
    assert_int_equal(missing, 0);
    dp_dtls_free(s.dtls);
}

static void test_recut(void **state)
{
    (void)state;
    static const size_t maxima[] = {1, 2, 3, 10, 50, 200, 500, 900};
    for (size_t i = 0; i < HELLO_COUNT; i++) {
        message m = read_hello(&hellos[i]);
        for (size_t j = 0; j < sizeof maxima / sizeof maxima[0]; j++)
            for (uint64_t seed = 0; seed < 5; seed++)
                send_recut(&m, seed, maxima[j]);
    }
}

/* All but the bytes of gap comes at first, gap after waiting; then all of it once more. */
static void send_with_gap(const message *m, piece gap, dp_duration waiting, bool kept)
{
    piece rest[] = {{0, gap.from / 2},
                    {gap.from / 2, gap.from},
                    {gap.to, (gap.to + m->len) / 2},
                    {(gap.to + m->len) / 2, m->len}};
    server s = server_new(gap.from);
    for (int i = 0; i < 4; i++)
        if (rest[i].from < rest[i].to)
            input_piece(&s, m, rest[i]);
    assert_false(answered(&s));
    s.now += waiting;
    dp_dtls_handle_timeout(s.dtls, s.now);
    assert_false(answered(&s));
    input_piece(&s, m, gap);
    assert_int_equal(answered(&s), kept);
    if (!kept) {
        send_pieces(&s, m, m->sent, 2);
        assert_true(answered(&s));
    }
    dp_dtls_free(s.dtls);
}

/* Without a part there is no answer; after 10 s what had come is forgotten. */
static void test_missing(void **state)
{
    (void)state;
    for (size_t i = 0; i < HELLO_COUNT; i++) {
        message m = read_hello(&hellos[i]);
        const piece gaps[] = {m.sent[0], m.sent[1], {0, 1}, {m.len / 2, m.len / 2 + 1}, {m.len - 1, m.len}};
        for (size_t j = 0; j < sizeof gaps / sizeof gaps[0]; j++) {
            send_with_gap(&m, gaps[j], DP_REASSEMBLY_TIMEOUT, true);
            send_with_gap(&m, gaps[j], DP_REASSEMBLY_TIMEOUT + 1, false);
        }
    }
    assert_int_equal(DP_REASSEMBLY_TIMEOUT, DP_SECONDS(10));
}

static int free_certificates(void **state)
{
    (void)state;
    test_certificate(-1);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_sent),
        cmocka_unit_test(test_reordered_and_doubled),
        cmocka_unit_test(test_cut_anew_by_firefox),
        cmocka_unit_test(test_recut),
        cmocka_unit_test(test_missing),
    };
    return cmocka_run_group_tests(tests, NULL, free_certificates);
}
