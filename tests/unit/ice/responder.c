/* The STUN server: what it answers, byte for byte; what it is silent to; how much it may be made to send. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/crc.h"
#include "ice/stun.h"
#include <datapeer/stun_server.h>

#include <stdlib.h>
#include <string.h>

/* RFC 5769 §2.1: an ICE agent's check */
static const uint8_t check[] = {
    0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86,
    0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74, 0x65, 0x73,
    0x74, 0x20, 0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff,
    0x80, 0x29, 0x00, 0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36, 0x00, 0x06, 0x00, 0x09,
    0x65, 0x76, 0x74, 0x6a, 0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20, 0x20, 0x00, 0x08, 0x00, 0x14,
    0x9a, 0xea, 0xa7, 0x0c, 0xbf, 0xd8, 0xcb, 0x56, 0x78, 0x1e, 0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49,
    0xc1, 0xb5, 0x71, 0xa2, 0x80, 0x28, 0x00, 0x04, 0xe5, 0x7a, 0x3b, 0xcf};

/* Its transaction id and the addresses of §2.2 and §2.3; the checksums by another program. */
static const uint8_t bare[] = {0x00, 0x01, 0x00, 0x00, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7,
                               0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae};
static const uint8_t bare_answer4[] = {0x01, 0x01, 0x00, 0x0c, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7,
                                       0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae, 0x00, 0x20,
                                       0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43};
static const uint8_t bare_answer6[] = {0x01, 0x01, 0x00, 0x18, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7,
                                       0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae, 0x00, 0x20,
                                       0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5,
                                       0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9};
static const uint8_t marked[] = {0x00, 0x01, 0x00, 0x08, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7,
                                 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
                                 0x80, 0x28, 0x00, 0x04, 0xfd, 0xf6, 0xae, 0x02};
static const uint8_t marked_answer4[] = {0x01, 0x01, 0x00, 0x14, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7,
                                         0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
                                         0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12,
                                         0xa6, 0x43, 0x80, 0x28, 0x00, 0x04, 0x7d, 0x28, 0x1f, 0x59};
static const uint8_t marked_answer6[] = {0x01, 0x01, 0x00, 0x20, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7,
                                         0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae, 0x00, 0x20,
                                         0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5,
                                         0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
                                         0x80, 0x28, 0x00, 0x04, 0x68, 0xd5, 0xc9, 0x50};

enum { RATE = 10, BURST = 5, TOTAL_RATE = 100, TOTAL_BURST = 50 };

static const dp_time start = DP_SECONDS(1000);
static dp_stun_server *server;
static dp_address local, client4, client6;

static int some_random(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    memset(out, 0x5A, len);
    return DP_OK;
}

static dp_stun_server_config unlimited(void)
{
    return (dp_stun_server_config){.size = sizeof(dp_stun_server_config),
                                   .random = {some_random, NULL},
                                   .address_rate = UINT32_MAX,
                                   .total_rate = UINT32_MAX};
}

static void open_server(const dp_stun_server_config *config)
{
    dp_stun_server_free(server);
    server = NULL;
    assert_int_equal(dp_stun_server_new(&server, config), DP_OK);
}

static int setup(void **state)
{
    (void)state;
    const dp_stun_server_config config = unlimited();
    open_server(&config);
    assert_int_equal(dp_address_parse(&local, "192.0.2.9", DP_STUN_SERVER_PORT), DP_OK);
    assert_int_equal(dp_address_parse(&client4, "192.0.2.1", 32853), DP_OK);
    return dp_address_parse(&client6, "2001:db8:1234:5678:11:2233:4455:6677", 32853);
}

static int teardown(void **state)
{
    (void)state;
    dp_stun_server_free(server);
    server = NULL;
    return 0;
}

/* ---- asking ---- */

static uint8_t memory[DP_STUN_MESSAGE_MAX];
static dp_datagram answer;

/* The request is an exact copy on the heap, so that ASan sees each byte too many. */
static bool ask(const uint8_t *data, size_t len, const dp_address *from, dp_time now)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);
    if (len > 0)
        memcpy(copy, data, len);
    answer = (dp_datagram){.data = memory, .capacity = sizeof(memory)};
    bool answered = dp_stun_server_answer(server, &answer, now, copy, len, &local, from);
    free(copy);
    return answered;
}

static dp_stun_server_stats stats(void)
{
    dp_stun_server_stats n = {.size = sizeof(n)};
    dp_stun_server_get_stats(server, &n);
    return n;
}

static void assert_answer(const uint8_t *expected, size_t len)
{
    assert_int_equal(answer.length, len);
    assert_memory_equal(answer.data, expected, len);
}

static uint8_t message[DP_STUN_MESSAGE_MAX];
static dp_wr wr;

static void begin(dp_stun_class class_, unsigned method)
{
    wr = dp_wr_init(message, sizeof(message));
    dp_stun_write_header(&wr, class_, method, bare + 8);
}

/* Asks with what was written since begin, from client4. */
static bool ask_written(void)
{
    size_t len = 0;
    assert_int_equal(dp_stun_finish(&wr, &len), DP_OK);
    return ask(message, len, &client4, start);
}

/* The answer, which must be to the written request and a whole message. */
static dp_stun_message decoded(void)
{
    dp_stun_message m;
    assert_int_equal(dp_stun_decode(&m, answer.data, answer.length), DP_OK);
    assert_int_equal(m.method, DP_STUN_METHOD_BINDING);
    assert_memory_equal(m.transaction, bare + 8, DP_STUN_TRANSACTION_LEN);
    return m;
}

/* ---- answers ---- */

static void test_the_address_byte_for_byte(void **state)
{
    (void)state;
    assert_true(ask(bare, sizeof(bare), &client4, start));
    assert_answer(bare_answer4, sizeof(bare_answer4));
    assert_true(ask(bare, sizeof(bare), &client6, start));
    assert_answer(bare_answer6, sizeof(bare_answer6));
    assert_int_equal(stats().answered, 2);
}

static void test_fingerprint_for_who_has_sent_one(void **state)
{
    (void)state;
    assert_true(ask(marked, sizeof(marked), &client4, start));
    assert_answer(marked_answer4, sizeof(marked_answer4));
    assert_true(ask(marked, sizeof(marked), &client6, start));
    assert_answer(marked_answer6, sizeof(marked_answer6));
}

static void test_the_answer_leaves_from_where_it_was_asked(void **state)
{
    (void)state;
    assert_true(ask(bare, sizeof(bare), &client4, start));
    assert_true(dp_address_equal(&answer.local, &local));
    assert_true(dp_address_equal(&answer.remote, &client4));
    assert_int_equal(answer.link, 0);
}

/* What the codec knows and a Binding request has no use for is ignored: credentials, ICE's and TURN's attributes. */
static void test_known_but_unexpected_attributes(void **state)
{
    (void)state;
    assert_true(ask(check, sizeof(check), &client4, start));
    dp_stun_message m = decoded();
    assert_int_equal(m.class_, DP_STUN_SUCCESS);
    assert_true(dp_address_equal(&m.mapped, &client4));
    assert_true(m.has_fingerprint);
    assert_int_equal(m.integrity_at, 0);
    begin(DP_STUN_REQUEST, DP_STUN_METHOD_BINDING);
    dp_stun_write_u32(&wr, DP_STUN_LIFETIME, 600);
    dp_stun_write_attribute(&wr, (dp_stun_attribute)0xC001, "unknown, optional", 17);
    assert_true(ask_written());
    assert_int_equal(decoded().class_, DP_STUN_SUCCESS);
    assert_int_equal(stats().answered, 2);
}

static void test_unknown_attributes(void **state)
{
    (void)state;
    for (int fingerprint = 0; fingerprint < 2; fingerprint++) {
        begin(DP_STUN_REQUEST, DP_STUN_METHOD_BINDING);
        dp_stun_write_u32(&wr, (dp_stun_attribute)0x0003, 6); /* CHANGE-REQUEST (RFC 5780) */
        dp_stun_write_attribute(&wr, (dp_stun_attribute)0x7FFF, "", 0);
        dp_stun_write_attribute(&wr, (dp_stun_attribute)0x8000, "", 0);
        if (fingerprint)
            dp_stun_write_fingerprint(&wr);
        assert_true(ask_written());
        dp_stun_message m = decoded();
        assert_int_equal(m.class_, DP_STUN_ERROR);
        assert_int_equal(m.error_code, 420);
        assert_int_equal(m.reported_count, 2);
        assert_int_equal(m.reported[0], 0x0003);
        assert_int_equal(m.reported[1], 0x7FFF);
        assert_int_equal(m.has_fingerprint, fingerprint);
        assert_int_equal(m.mapped.family, DP_FAMILY_NONE);
    }
    assert_int_equal(stats().refused, 2);
    assert_int_equal(stats().answered, 0);
}

static void test_values_that_are_wrong(void **state)
{
    (void)state;
    static const struct {
        dp_stun_attribute type;
        size_t len;
    } wrong[] = {{DP_STUN_PRIORITY, 3},
                 {DP_STUN_USE_CANDIDATE, 1},
                 {DP_STUN_USERNAME, DP_STUN_USERNAME_MAX + 1},
                 {DP_STUN_MESSAGE_INTEGRITY, 0},
                 {DP_STUN_XOR_MAPPED_ADDRESS, 8}};
    static const uint8_t zeros[DP_STUN_USERNAME_MAX + 1] = {0};
    enum { ROWS = sizeof(wrong) / sizeof(wrong[0]) };
    for (size_t i = 0; i < 2 * ROWS; i++) {
        begin(DP_STUN_REQUEST, DP_STUN_METHOD_BINDING);
        dp_stun_write_attribute(&wr, (dp_stun_attribute)0x0003, "", 0); /* 420 is for what can be read */
        dp_stun_write_attribute(&wr, wrong[i / 2].type, zeros, wrong[i / 2].len);
        if (i % 2 == 1)
            dp_stun_write_fingerprint(&wr);
        assert_true(ask_written());
        dp_stun_message m = decoded();
        assert_int_equal(m.class_, DP_STUN_ERROR);
        assert_int_equal(m.error_code, 400);
        assert_int_equal(m.reported_count, 0);
        assert_int_equal(m.has_fingerprint, i % 2 == 1);
    }
    assert_int_equal(stats().refused, 2 * ROWS);
}

/* ---- silence ---- */

static void test_only_binding_requests(void **state)
{
    (void)state;
    uint64_t asked = 0;
    for (unsigned method = 0; method <= 0xFFF; method++) {
        for (int class_ = DP_STUN_REQUEST; class_ <= DP_STUN_ERROR; class_++) {
            begin((dp_stun_class)class_, method);
            bool is_asked = class_ == DP_STUN_REQUEST && method == DP_STUN_METHOD_BINDING;
            asked += is_asked;
            assert_int_equal(ask_written(), is_asked);
        }
    }
    assert_int_equal(asked, 1);
    assert_int_equal(stats().answered, 1);
    assert_int_equal(stats().dropped, 4 * 4096 - 1);
}

/* Nothing that is cut, lengthened or changed in any bit of its header is answered but with the same transaction id. */
static void test_every_truncation_and_flipped_bit(void **state)
{
    (void)state;
    uint8_t copy[sizeof(marked) + 4] = {0};
    for (size_t len = 0; len < sizeof(marked); len++)
        assert_false(ask(marked, len, &client4, start));
    memcpy(copy, marked, sizeof(marked));
    assert_false(ask(copy, sizeof(copy), &client4, start));
    assert_int_equal(stats().dropped, sizeof(marked) + 1);
    for (size_t bit = 0; bit < 8 * sizeof(marked); bit++) {
        memcpy(copy, marked, sizeof(marked));
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        bool answered = ask(copy, sizeof(marked), &client4, start);
        if (answered) /* not FINGERPRINT any more, but some attribute of 4 bytes */
            assert_true(bit / 8 == 20 || bit / 8 == 21);
        else
            assert_true(bit / 8 < 20 || bit / 8 >= 22);
    }
}

static void test_no_magic_cookie(void **state)
{
    (void)state;
    uint8_t classic[sizeof(bare)];
    memcpy(classic, bare, sizeof(bare));
    memset(classic + 4, 0x77, 4); /* RFC 3489: 16 bytes of transaction id */
    assert_false(ask(classic, sizeof(classic), &client4, start));
    assert_int_equal(stats().dropped, 1);
}

static void test_nothing_to_answer_to(void **state)
{
    (void)state;
    dp_address nobody = client4;
    nobody.port = 0;
    assert_false(ask(bare, sizeof(bare), &nobody, start));
    assert_false(ask(NULL, 0, &client4, start));
    assert_int_equal(stats().dropped, 2);
}

/* An attribute of the largest length in a message that is one byte shorter; a message over 1500 bytes. */
static void test_lengths_that_lie(void **state)
{
    (void)state;
    static uint8_t huge[DP_STUN_MESSAGE_MAX + 4];
    begin(DP_STUN_REQUEST, DP_STUN_METHOD_BINDING);
    dp_wr_u32(&wr, 0x8022ffff);
    dp_wr_zeros(&wr, 1000);
    assert_false(ask_written());
    memcpy(huge, bare, sizeof(bare));
    huge[2] = (uint8_t)((sizeof(huge) - 20) >> 8);
    huge[3] = (uint8_t)(sizeof(huge) - 20);
    assert_false(ask(huge, sizeof(huge), &client4, start));
    assert_int_equal(stats().dropped, 2);
}

static void test_too_small_a_buffer(void **state)
{
    (void)state;
    for (size_t capacity = 0; capacity < sizeof(marked_answer6); capacity++) {
        uint8_t *small = malloc(capacity > 0 ? capacity : 1);
        answer = (dp_datagram){.data = small, .capacity = capacity};
        assert_false(dp_stun_server_answer(server, &answer, start, marked, sizeof(marked), &local, &client6));
        free(small);
    }
    assert_int_equal(stats().dropped, sizeof(marked_answer6));
    assert_int_equal(stats().answered, 0);
}

/* ---- amplification ---- */

/* Every kind of answer, to requests of each length: at most 2.2 times as long, and no longer than the request if the name
 * of the software is in it. */
static void test_no_answer_is_much_longer_than_its_request(void **state)
{
    (void)state;
    static const char name[] = "datapeer";
    static const uint8_t zeros[1500] = {0};
    dp_stun_server_config config = unlimited();
    config.software = name;
    open_server(&config);
    size_t named = 0;
    for (size_t padding = 0; padding < 120; padding++) {
        for (int kind = 0; kind < 12; kind++) {
            begin(DP_STUN_REQUEST, DP_STUN_METHOD_BINDING);
            if (kind / 4 == 1)
                dp_stun_write_attribute(&wr, (dp_stun_attribute)0x7000, "", 0);
            if (kind / 4 == 2)
                dp_stun_write_attribute(&wr, DP_STUN_PRIORITY, "", 0);
            if (padding >= 4)
                dp_stun_write_attribute(&wr, (dp_stun_attribute)0xC000, zeros, padding - 4);
            if (kind % 2 == 1)
                dp_stun_write_fingerprint(&wr);
            size_t len = 0;
            assert_int_equal(dp_stun_finish(&wr, &len), DP_OK);
            assert_true(ask(message, len, kind / 2 % 2 == 0 ? &client4 : &client6, start));
            assert_true(10 * answer.length <= 22 * len);
            (void)decoded();
            size_t without = answer.length;
            bool has_name = false;
            for (size_t at = 20; at + 12 <= answer.length; at += 4)
                has_name |= memcmp(answer.data + at,
                                   "\x80\x22\x00\x08"
                                   "datapeer",
                                   12) == 0;
            if (has_name)
                without -= 12;
            named += has_name;
            assert_int_equal(has_name, without + 12 <= len);
        }
    }
    assert_true(named > 0);
}

/* ---- rates ---- */

static dp_stun_server_config limited(void)
{
    dp_stun_server_config config = unlimited();
    config.address_rate = RATE;
    config.address_burst = BURST;
    config.total_rate = TOTAL_RATE;
    config.total_burst = TOTAL_BURST;
    return config;
}

/* How many of count requests are answered. */
static size_t flood(const dp_address *from, size_t count, dp_time now)
{
    size_t answered = 0;
    for (size_t i = 0; i < count; i++)
        answered += ask(bare, sizeof(bare), from, now);
    return answered;
}

static dp_address numbered(unsigned n)
{
    dp_address a = client4;
    a.ip[0] = 10;
    a.ip[1] = (uint8_t)(n >> 16);
    a.ip[2] = (uint8_t)(n >> 8);
    a.ip[3] = (uint8_t)n;
    return a;
}

static void test_rate_of_an_address(void **state)
{
    (void)state;
    const dp_stun_server_config config = limited();
    open_server(&config);
    dp_address other_port = client4;
    other_port.port++;
    assert_int_equal(flood(&client4, BURST + 3, start), BURST);
    assert_false(ask(bare, sizeof(bare), &other_port, start));
    assert_int_equal(stats().limited, 4);
    assert_int_equal(flood(&client6, BURST + 1, start), BURST); /* others are not held up */
    assert_false(ask(bare, sizeof(bare), &client4, start + DP_MS(1000 / RATE) - 1));
    assert_true(ask(bare, sizeof(bare), &client4, start + DP_MS(1000 / RATE)));
    assert_false(ask(bare, sizeof(bare), &client4, start + DP_MS(1000 / RATE)));
    assert_int_equal(flood(&client4, BURST + 1, start + DP_SECONDS(10)), BURST);
    assert_int_equal(stats().answered, 3 * BURST + 1);
    assert_int_equal(stats().dropped, 0);
}

static void test_rate_of_a_network(void **state)
{
    (void)state;
    const dp_stun_server_config config = limited();
    open_server(&config);
    dp_address neighbour = client6;
    neighbour.ip[15]++;
    neighbour.ip[8]++; /* the same /64 */
    dp_address stranger = client6;
    stranger.ip[7]++;
    assert_int_equal(flood(&client6, BURST + 1, start), BURST);
    assert_int_equal(flood(&neighbour, 1, start), 0);
    assert_int_equal(flood(&stranger, BURST + 1, start), BURST);
}

static void test_rate_of_all(void **state)
{
    (void)state;
    const dp_stun_server_config config = limited();
    open_server(&config);
    size_t answered = 0;
    for (unsigned n = 0; n < 1000; n++) {
        dp_address from = numbered(n);
        answered += flood(&from, 1, start);
    }
    assert_int_equal(answered, TOTAL_BURST);
    assert_int_equal(stats().limited, 1000 - TOTAL_BURST);
    assert_true(ask(bare, sizeof(bare), &client4, start + DP_MS(1000 / TOTAL_RATE)));
}

/* Ten times its limit from one address, for ten seconds: everybody else is served as if it were not there. */
static void test_a_flood_holds_up_nobody_else(void **state)
{
    (void)state;
    const dp_stun_server_config config = limited();
    open_server(&config);
    size_t answered = 0;
    for (unsigned ms = 0; ms < 10000; ms++) {
        dp_time now = start + DP_MS(ms);
        answered += flood(&client6, ms % (1000 / RATE / 10) == 0, now);
        if (ms % 20 == 0) { /* 50 a second, half of what all may have */
            dp_address honest = numbered(ms / 20 % 50);
            assert_true(ask(bare, sizeof(bare), &honest, now));
        }
    }
    assert_true(answered >= 10 * RATE && answered <= BURST + 10 * RATE);
    assert_int_equal(stats().limited, 10 * 10 * RATE - answered);
}

/* What is not answered costs nobody a token, and what an address has lost is not lost to all. */
static void test_only_answers_count(void **state)
{
    (void)state;
    dp_stun_server_config config = limited();
    config.total_burst = BURST + 1;
    open_server(&config);
    for (int i = 0; i < 100; i++)
        assert_false(ask(bare, sizeof(bare) - 1, &client4, start));
    assert_int_equal(flood(&client4, 100, start), BURST);
    assert_true(ask(bare, sizeof(bare), &client6, start));
    assert_false(ask(bare, sizeof(bare), &client6, start));
}

static void test_default_rates(void **state)
{
    (void)state;
    dp_stun_server_config config = unlimited();
    config.address_rate = config.total_rate = 0;
    open_server(&config);
    assert_int_equal(flood(&client4, 1000, start), 200);
    size_t answered = 200;
    for (unsigned n = 0; n < 20000; n++) {
        dp_address from = numbered(n);
        answered += flood(&from, 1, start);
    }
    assert_int_equal(answered, 10000);
}

/* ---- life ---- */

static int no_random(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    memset(out, 0, len);
    return DP_ERR_CRYPTO;
}

static void test_configurations_that_are_refused(void **state)
{
    (void)state;
    static const char name[] =
        "a name of 128 bytes: one more than RFC 8489 section 14.14 allows for the value, "
        "whoever may have written it, ...................";
    assert_int_equal(strlen(name), 128);
    dp_stun_server *none = NULL;
    dp_stun_server_config config = unlimited();
    assert_int_equal(dp_stun_server_new(NULL, &config), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_stun_server_new(&none, NULL), DP_ERR_INVALID_ARGUMENT);
    config.size = sizeof(size_t);
    assert_int_equal(dp_stun_server_new(&none, &config), DP_ERR_INVALID_ARGUMENT);
    config = unlimited();
    config.random.fn = NULL;
    assert_int_equal(dp_stun_server_new(&none, &config), DP_ERR_INVALID_ARGUMENT);
    config = unlimited();
    config.software = name;
    assert_int_equal(dp_stun_server_new(&none, &config), DP_ERR_INVALID_ARGUMENT);
    config.software = name + 1;
    open_server(&config);
    config.random.fn = no_random;
    assert_int_equal(dp_stun_server_new(&none, &config), DP_ERR_CRYPTO);
    assert_null(none);
    dp_stun_server_free(NULL);
}

/* Callers that were compiled before a field was added. */
static void test_older_callers(void **state)
{
    (void)state;
    dp_stun_server_config config = limited();
    config.software = (const char *)1; /* not there for them */
    config.size = offsetof(dp_stun_server_config, total_rate);
    open_server(&config);
    assert_int_equal(flood(&client4, BURST + 1, start), BURST);
    struct {
        size_t size;
        uint64_t answered;
        uint64_t canary;
    } old = {.size = 2 * sizeof(uint64_t), .canary = 7};
    dp_stun_server_get_stats(server, (dp_stun_server_stats *)&old);
    assert_int_equal(old.answered, BURST);
    assert_int_equal(old.size, 2 * sizeof(uint64_t));
    assert_int_equal(old.canary, 7);
}

static size_t allocated;
static bool out_of_memory;
static void *counting_alloc(void *ctx, size_t size)
{
    (void)ctx;
    allocated += size;
    return out_of_memory ? NULL : malloc(size);
}
static void *counting_realloc(void *ctx, void *old, size_t size)
{
    (void)ctx;
    allocated += size;
    return out_of_memory ? NULL : realloc(old, size);
}
static void plain_free(void *ctx, void *block)
{
    (void)ctx;
    free(block);
}

static void test_memory_is_taken_once(void **state)
{
    (void)state;
    static const dp_allocator counting = {counting_alloc, counting_realloc, plain_free, NULL};
    dp_stun_server_config config = limited();
    dp_stun_server *none = NULL;
    dp_set_allocator(&counting);
    out_of_memory = true;
    int error = dp_stun_server_new(&none, &config);
    out_of_memory = false;
    allocated = 0;
    open_server(&config);
    size_t at_first = allocated;
    for (unsigned n = 0; n < 100000; n++) {
        dp_address from = numbered(n);
        (void)ask(bare, sizeof(bare), &from, start + n);
    }
    dp_set_allocator(NULL);
    assert_int_equal(error, DP_ERR_NO_MEMORY);
    assert_null(none);
    assert_true(at_first > 0 && at_first < 70000);
    assert_int_equal(allocated, at_first);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_address_byte_for_byte),
        TEST(test_fingerprint_for_who_has_sent_one),
        TEST(test_the_answer_leaves_from_where_it_was_asked),
        TEST(test_known_but_unexpected_attributes),
        TEST(test_unknown_attributes),
        TEST(test_values_that_are_wrong),
        TEST(test_only_binding_requests),
        TEST(test_every_truncation_and_flipped_bit),
        TEST(test_no_magic_cookie),
        TEST(test_nothing_to_answer_to),
        TEST(test_lengths_that_lie),
        TEST(test_too_small_a_buffer),
        TEST(test_no_answer_is_much_longer_than_its_request),
        TEST(test_rate_of_an_address),
        TEST(test_rate_of_a_network),
        TEST(test_rate_of_all),
        TEST(test_a_flood_holds_up_nobody_else),
        TEST(test_only_answers_count),
        TEST(test_default_rates),
        TEST(test_configurations_that_are_refused),
        TEST(test_older_callers),
        TEST(test_memory_is_taken_once),
    };
    return cmocka_run_group_tests_name("ice/responder", tests, NULL, NULL);
}
