/* Our channels against a peer that speaks SCTP well and everything above it badly. */
#include "base/wr.h"
#include "sctp/association.h"
#include "sctp/dcep.h"
#include "sctp/filter.h"
#include "virtual_time.h"

#include <datapeer/sctp.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the headers above */
#include <cmocka.h>

static dp_sctp *good;
static dp_association *evil;
static int opened, errors, error, closed, messages, parts, down, resets, up;
static size_t message_len;
static bool message_binary;
static dp_channel *incoming;
static uint32_t evil_tag, evil_tsn; /* verification tag that good expects, and the hostile side's first TSN */

static int no_random(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    memset(out, 1, len);
    return DP_OK;
}

static void good_events(void)
{
    dp_sctp_event event;
    while (dp_sctp_poll_event(good, &event)) {
        if (event.type == DP_SCTP_EVENT_CHANNEL_OPEN && event.incoming) {
            opened++;
            incoming = event.channel;
        } else if (event.type == DP_SCTP_EVENT_CHANNEL_ERROR) {
            errors++;
            error = event.error;
        } else if (event.type == DP_SCTP_EVENT_CHANNEL_CLOSED) {
            closed++;
        } else if (event.type == DP_SCTP_EVENT_MESSAGE) {
            messages++;
            message_len = event.len;
            message_binary = event.binary;
        } else if (event.type == DP_SCTP_EVENT_MESSAGE_PART) {
            parts++;
        } else if (event.type == DP_SCTP_EVENT_CLOSED) {
            down++;
        }
    }
}

static void evil_events(void)
{
    static uint8_t buffer[65536];
    while (dp_association_readable(evil)) {
        dp_association_event event;
        dp_association_receive(evil, &event, buffer, sizeof buffer);
        up += event.type == DP_ASSOCIATION_UP;
        if (event.type == DP_ASSOCIATION_RESET && event.reset_incoming)
            resets++; /* the peer has reset its direction of a stream */
    }
}

static uint32_t get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void run(dp_duration how_long)
{
    dp_time until = virtual_now + how_long;
    for (; virtual_now < until; virtual_now += DP_MS(1)) {
        const uint8_t *packet;
        size_t len;
        while (dp_sctp_poll_transmit(good, &packet, &len))
            assert_int_equal(dp_association_input(evil, virtual_now, packet, len), DP_OK);
        evil_events();
        while (dp_association_poll_transmit(evil, &packet, &len)) {
            evil_tag = get_u32(packet + 4);
            if (packet[12] == 1 || packet[12] == 2) /* INIT, INIT ACK */
                evil_tsn = get_u32(packet + 28);
            dp_sctp_input(good, virtual_now, packet, len);
        }
        good_events();
        if (dp_sctp_next_timeout(good) <= virtual_now)
            dp_sctp_handle_timeout(good, virtual_now);
    }
}

/* The hostile peer is the DTLS client: its ids are even. */
static int setup_with(uint16_t streams, uint64_t max_size_in_parts)
{
    opened = errors = error = closed = messages = parts = down = resets = up = 0;
    dp_sctp_config config = {
        .size = sizeof config, .random = {no_random, NULL}, .max_size_in_parts = max_size_in_parts};
    dp_association_config raw = {1160, 1 << 20, 1 << 20, 262144, streams, 65535, 5000, 5000, false};
    if (dp_sctp_new(&good, &config) != DP_OK || dp_sctp_start(good, virtual_now, false, 5000, 0) != DP_OK ||
        dp_association_new(&evil, virtual_now, &raw) != DP_OK)
        return -1;
    run(DP_MS(50));
    return up == 1 ? 0 : -1;
}

/* As many stacks do, it announces all that there are. */
static int setup(void **state)
{
    (void)state;
    return setup_with(65535, 0);
}

static int setup_few_streams(void **state)
{
    (void)state;
    return setup_with(16, 0);
}

static int setup_parts(void **state)
{
    (void)state;
    return setup_with(65535, DP_UNLIMITED);
}

static int teardown(void **state)
{
    (void)state;
    dp_sctp_free(good);
    dp_association_free(evil);
    return 0;
}

static void send_raw(uint16_t stream, uint32_t ppid, const void *data, size_t len)
{
    size_t sent;
    dp_association_outgoing how = {.stream = stream, .ppid = ppid};
    assert_int_equal(dp_association_send(evil, &sent, virtual_now, &how, (const uint8_t *)data, len, true),
                     DP_OK);
    assert_int_equal(sent, len);
    run(DP_MS(50));
}

/* One packet with these chunks straight from the hostile peer. */
static void send_packet(const uint8_t *chunks, size_t len)
{
    static uint8_t packet[65536];
    dp_wr wr = dp_wr_init(packet, sizeof packet);
    dp_wr_u16(&wr, 5000);
    dp_wr_u16(&wr, 5000);
    dp_wr_u32(&wr, evil_tag);
    dp_wr_u32(&wr, 0);
    dp_wr_bytes(&wr, chunks, len);
    assert_false(wr.error);
    dp_sctp_checksum_write(packet, wr.len);
    dp_sctp_input(good, virtual_now, packet, wr.len);
    good_events();
}

static void send_open(uint16_t stream)
{
    static const uint8_t open[] = {3, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 'x'};
    send_raw(stream, DP_PPID_DCEP, open, sizeof open);
}

/* Row 40: it asked for 65535 streams each way and got 1024; an id beyond them is refused by usrsctp. */
static void test_streams_capped(void **state)
{
    (void)state;
    size_t sent;
    dp_association_outgoing how = {.stream = 1024, .ppid = DP_PPID_TEXT};
    assert_int_equal(dp_association_send(evil, &sent, virtual_now, &how, (const uint8_t *)"x", 1, true),
                     DP_ERR_CLOSED);
    send_open(126);
    assert_int_equal(opened, 1);
    assert_int_equal(dp_channel_id(incoming), 126);
}

/* Row 48. */
static void test_label_over_message(void **state)
{
    (void)state;
    static const uint8_t open[] = {3, 0, 1, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 'x'};
    send_raw(2, DP_PPID_DCEP, open, sizeof open);
    assert_int_equal(opened, 0);
    assert_int_equal(resets, 1);
    send_open(4); /* the association lives on */
    assert_int_equal(opened, 1);
}

/* Row 49. */
static void test_wrong_parity(void **state)
{
    (void)state;
    send_open(3);
    assert_int_equal(opened, 0);
    assert_int_equal(resets, 1);
    assert_int_equal(down, 0);
}

/* Row 50. */
static void test_open_twice(void **state)
{
    (void)state;
    send_open(2);
    assert_int_equal(opened, 1);
    send_open(2);
    assert_int_equal(opened, 1);
    assert_int_equal(errors, 1);
    assert_int_equal(error, DP_ERR_PROTOCOL);
    assert_int_equal(resets, 1);
    assert_int_equal(dp_association_reset_stream(evil, 2), DP_OK);
    run(DP_MS(100));
    assert_int_equal(closed, 1);
}

/* Row 51. */
static void test_data_before_open(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++)
        send_raw(2, DP_PPID_TEXT, "early", 5);
    assert_int_equal(messages, 0);
    send_open(2);
    send_raw(2, DP_PPID_TEXT, "later", 5);
    assert_int_equal(opened, 1);
    assert_int_equal(messages, 1);
}

/* Row 52, and the PPIDs that are known. */
static void test_ppids(void **state)
{
    (void)state;
    static const struct {
        uint32_t ppid;
        bool delivered, binary;
        size_t len;
    } cases[] = {
        {0, false, false, 0},          {49, false, false, 0}, {55, false, false, 0}, {58, false, false, 0},
        {0xffffffff, false, false, 0}, {51, true, false, 3},  {53, true, true, 3},   {52, true, true, 3},
        {54, true, false, 3},          {56, true, false, 0},  {57, true, true, 0},
    };
    send_open(2);
    int expected = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        send_raw(2, cases[i].ppid, "abc", 3);
        expected += cases[i].delivered;
        assert_int_equal(messages, expected);
        if (cases[i].delivered) {
            assert_int_equal(message_binary, cases[i].binary);
            assert_int_equal(message_len, cases[i].len);
        }
    }
    assert_int_equal(errors + closed + down, 0);
}

/* RFC 8831 §6.6: nobody reads the byte of an empty message; one of many bytes does not come in parts, nor does one of a PPID
 * that nobody knows. */
static void test_ppids_in_parts(void **state)
{
    (void)state;
    static const struct {
        uint32_t ppid;
        bool delivered;
    } cases[] = {{0, false}, {56, false}, {57, false}, {58, false}, {53, true}};
    static uint8_t piece[30000];
    send_open(2);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int k = 1; k <= 12; k++) {
            size_t sent;
            dp_association_outgoing how = {.stream = 2, .ppid = cases[i].ppid};
            assert_int_equal(
                dp_association_send(evil, &sent, virtual_now, &how, piece, sizeof piece, k == 12), DP_OK);
            assert_int_equal(sent, sizeof piece);
            run(DP_MS(50));
        }
        assert_int_equal(parts > 0, cases[i].delivered);
    }
    assert_int_equal(messages + errors + closed + down, 0);
}

/* Row 44: a message that never ends. */
static void test_endless_message(void **state)
{
    (void)state;
    static uint8_t piece[65536];
    send_open(2);
    for (int i = 0; i < 40 && errors == 0; i++) {
        size_t sent;
        dp_association_outgoing how = {.stream = 2, .ppid = DP_PPID_BINARY};
        (void)dp_association_send(evil, &sent, virtual_now, &how, piece, sizeof piece, false);
        run(DP_MS(50));
    }
    assert_int_equal(errors, 1);
    assert_int_equal(error, DP_ERR_TOO_LARGE);
    assert_int_equal(resets, 1);
    assert_int_equal(messages, 0);
}

static void test_peer_resets_and_reopens(void **state)
{
    (void)state;
    for (int i = 1; i <= 5; i++) {
        send_open(2);
        assert_int_equal(opened, i);
        assert_int_equal(dp_channel_send(incoming, virtual_now, (const uint8_t *)"x", 1, false, false),
                         DP_OK);
        assert_int_equal(dp_association_reset_stream(evil, 2), DP_OK);
        run(DP_MS(100));
        assert_int_equal(closed, i);
        assert_int_equal(resets, i);
    }
}

/* What the OPEN says is what the channel is. werift says 0x01 for unordered with retransmits, and sends unordered. */
static void test_open_is_read(void **state)
{
    (void)state;
    static const struct {
        uint8_t type;
        uint16_t priority;
        uint32_t reliability;
        bool ordered;
        int32_t retransmits, lifetime;
        dp_channel_priority as;
    } cases[] = {
        {0x00, 0, 99, true, -1, -1, DP_CHANNEL_PRIORITY_LOW},
        {0x80, 1, 0, false, -1, -1, DP_CHANNEL_PRIORITY_VERY_LOW},
        {0x01, 128, 3, true, 3, -1, DP_CHANNEL_PRIORITY_VERY_LOW},
        {0x81, 129, 0, false, 0, -1, DP_CHANNEL_PRIORITY_LOW},
        {0x02, 256, 0, true, -1, 0, DP_CHANNEL_PRIORITY_LOW},
        {0x82, 257, 5000, false, -1, 5000, DP_CHANNEL_PRIORITY_MEDIUM},
        {0x81, 513, 0xffffffff, false, INT32_MAX, -1, DP_CHANNEL_PRIORITY_HIGH},
        {0x82, 65535, 0x80000000, false, -1, INT32_MAX, DP_CHANNEL_PRIORITY_HIGH},
    };
    for (int i = 0; i < 8; i++) {
        uint8_t open[12];
        dp_wr wr = dp_wr_init(open, sizeof open);
        dp_wr_u8(&wr, 3);
        dp_wr_u8(&wr, cases[i].type);
        dp_wr_u16(&wr, cases[i].priority);
        dp_wr_u32(&wr, cases[i].reliability);
        dp_wr_u32(&wr, 0);
        send_raw((uint16_t)(2 * i), DP_PPID_DCEP, open, sizeof open);
        assert_int_equal(opened, i + 1);
        assert_int_equal(dp_channel_ordered(incoming), cases[i].ordered);
        assert_int_equal(dp_channel_max_retransmits(incoming), cases[i].retransmits);
        assert_int_equal(dp_channel_max_packet_lifetime(incoming), cases[i].lifetime);
        assert_int_equal(dp_channel_get_priority(incoming), cases[i].as);
        size_t sent;
        dp_association_outgoing how = {
            .stream = (uint16_t)(2 * i), .ppid = DP_PPID_BINARY, .unordered = true};
        assert_int_equal(dp_association_send(evil, &sent, virtual_now, &how, (const uint8_t *)"x", 1, true),
                         DP_OK);
        run(DP_MS(50));
        assert_int_equal(messages, i + 1);
    }
}

static void put_data(dp_wr *wr, uint8_t flags, uint32_t tsn, uint16_t stream, size_t len)
{
    dp_wr_u8(wr, 0);
    dp_wr_u8(wr, flags); /* 4: unordered, 2: first, 1: last fragment */
    dp_wr_u16(wr, (uint16_t)(16 + len));
    dp_wr_u32(wr, tsn);
    dp_wr_u16(wr, stream);
    dp_wr_u16(wr, 0);
    dp_wr_u32(wr, DP_PPID_BINARY);
    for (size_t i = 0; i < (len + 3) / 4 * 4; i++)
        dp_wr_u8(wr, 'x');
}

/* Time passes, and the hostile side's usrsctp does not see what it has not caused. */
static void only_good(dp_duration how_long)
{
    const uint8_t *packet;
    size_t len;
    for (dp_time until = virtual_now + how_long; virtual_now < until; virtual_now += DP_MS(1)) {
        if (dp_sctp_next_timeout(good) <= virtual_now)
            dp_sctp_handle_timeout(good, virtual_now);
        while (dp_sctp_poll_transmit(good, &packet, &len)) {
        }
        good_events();
    }
}

static void put_reset(dp_wr *wr, uint32_t last_tsn, uint16_t stream)
{
    dp_wr_u8(wr, 0x82); /* RE-CONFIG */
    dp_wr_u8(wr, 0);
    dp_wr_u16(wr, 4 + 18);
    dp_wr_u16(wr, 13); /* outgoing SSN reset: request number, answered one, last TSN, streams */
    dp_wr_u16(wr, 18);
    dp_wr_u32(wr, evil_tsn);
    dp_wr_u32(wr, 0);
    dp_wr_u32(wr, last_tsn);
    dp_wr_u16(wr, stream);
    dp_wr_u16(wr, 0);
}

/* pion and Chromium send their reset while data is in flight (RFC 6525 §5.2.2), alone or with some of it: the data still
 * counts, and the reset is carried out behind it. */
static void test_reset_before_the_data(void **state)
{
    for (int bundled = 0; bundled < 2; bundled++) {
        teardown(state);
        assert_int_equal(setup(state), 0);
        uint8_t chunks[64];
        send_open(2); /* the first TSN */
        dp_wr wr = dp_wr_init(chunks, sizeof chunks);
        put_reset(&wr, evil_tsn + 2, 2);
        if (bundled)
            put_data(&wr, 3 | 4, evil_tsn + 2, 2, 5);
        send_packet(chunks, wr.len);
        assert_int_equal(dp_channel_get_state(incoming), DP_CHANNEL_OPEN);
        for (uint32_t tsn = evil_tsn + (bundled ? 1 : 2); tsn > evil_tsn; tsn--) { /* the later one first */
            wr = dp_wr_init(chunks, sizeof chunks);
            put_data(&wr, 3 | 4, tsn, 2, 5);
            send_packet(chunks, wr.len);
        }
        assert_int_equal(messages, 2);
        only_good(DP_MS(50)); /* a SACK may be late */
        assert_int_equal(dp_channel_get_state(incoming), DP_CHANNEL_CLOSING);
        assert_int_equal(errors + down, 0);
    }
}

/* It has all the streams that there can be and does not answer when asked for more: so it is not asked. */
static void test_peer_that_adds_none(void **state)
{
    (void)state;
    dp_channel_init init = DP_CHANNEL_INIT("x");
    dp_channel *channel;
    for (int i = 0; i < 64; i++)
        assert_int_equal(dp_sctp_open_channel(good, &channel, virtual_now, &init), DP_OK);
    assert_int_equal(dp_sctp_open_channel(good, &channel, virtual_now, &init), DP_ERR_LIMIT);
    run(DP_MS(100));
    send_open(128); /* we could not answer */
    assert_int_equal(opened, 0);
    send_open(126);
    assert_int_equal(opened, 1);
    assert_int_equal(errors + down, 0);
}

static size_t heap(void) { return mallinfo2().uordblks + mallinfo2().hblkhd; }

/* Row 46: the peer adds streams until it is refused, and goes on asking. */
static void test_add_streams_flood(void **state)
{
    (void)state;
    size_t before = heap();
    for (int i = 0; i < 3000; i++) {
        (void)dp_association_add_streams(evil, i % 50 == 0 ? 40 : 1);
        run(DP_MS(2));
    }
    assert_int_equal(dp_association_streams(evil), 1024);
    assert_true(heap() - before < 200000); /* ours 40 KB, its own 64 KB */
    send_open(2);
    assert_int_equal(opened, 1);
    assert_int_equal(errors + down, 0);
}

/* Row 39: one-byte fragments that nothing completes, alone, bundled, and each behind a chunk that fills its
 * packet. usrsctp queues 4096 at most, but keeps the whole packet of each in the last case. */
static void test_tiny_fragments(void **state)
{
    static const struct {
        size_t fill, per_packet, most;
    } cases[] = {{0, 1, 2500000}, {0, 50, 2500000}, {1100, 1, 11500000}};
    static uint8_t chunks[1148];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        teardown(state);
        assert_int_equal(setup(state), 0);
        size_t before = heap();
        uint32_t tsn = evil_tsn + 1; /* the first is missing */
        for (size_t n = 0; n < 10000; n += cases[i].per_packet) {
            dp_wr wr = dp_wr_init(chunks, sizeof chunks);
            if (cases[i].fill > 0)
                put_data(&wr, 3, evil_tsn - 1, 2, cases[i].fill); /* an old TSN: ignored */
            for (size_t k = 0; k < cases[i].per_packet; k++)
                put_data(&wr, 0, tsn++, 2, 1);
            send_packet(chunks, wr.len);
        }
        assert_true(heap() - before < cases[i].most);
    }
}

/* The beginning of a message over the limit keeps back whatever else the peer sends: that is bounded, although the owner
 * has read all that there is to read. */
static void test_kept_back(void **state)
{
    (void)state;
    static uint8_t chunks[1148];
    uint32_t tsn = evil_tsn;
    for (size_t n = 0; n < 262144 + 1148; n += 1100) {
        dp_wr wr = dp_wr_init(chunks, sizeof chunks);
        put_data(&wr, n == 0 ? 2 : 0, tsn++, 0, 1100);
        send_packet(chunks, wr.len);
    }
    size_t before = heap();
    for (size_t n = 0; n < 100000; n += 50) {
        dp_wr wr = dp_wr_init(chunks, sizeof chunks);
        for (size_t k = 0; k < 50; k++)
            put_data(&wr, 7, tsn++, 2, 1);
        send_packet(chunks, wr.len);
    }
    assert_true(heap() - before < 16000000); /* 100,000 are 42 MB */
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_streams_capped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_label_over_message, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_parity, setup, teardown),
        cmocka_unit_test_setup_teardown(test_open_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(test_data_before_open, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ppids, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ppids_in_parts, setup_parts, teardown),
        cmocka_unit_test_setup_teardown(test_endless_message, setup, teardown),
        cmocka_unit_test_setup_teardown(test_peer_resets_and_reopens, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tiny_fragments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kept_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_open_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset_before_the_data, setup, teardown),
        cmocka_unit_test_setup_teardown(test_peer_that_adds_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_add_streams_flood, setup_few_streams, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
