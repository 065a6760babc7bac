/* Sessions whose messages are interleaved (RFC 8260): what leaves, who agrees to it, and what a peer may make of it. */
#include "sctp/chunk.h"

#include "base/wr.h"
#include "sctp/association.h"
#include "sctp/filter.h"
#include "seen.h"

#include <malloc.h>

enum { LAST = 1, FIRST = 2 };

/* What end 0 has sent. */
static struct {
    int data, i_data, forward_tsn, i_forward_tsn;
    bool begun[2048];
    int begun_now, begun_most;
    uint32_t entry_stream, entry_mid; /* of the last I-FORWARD-TSN */
    unsigned times[65536];            /* that a TSN has left */
    uint32_t first_tsn;
} sent;

static void note_fragment(uint8_t flags, dp_rd body)
{
    uint32_t tsn = dp_rd_u32(&body);
    uint16_t stream = dp_rd_u16(&body) % 2048;
    if (sent.i_data++ == 0)
        sent.first_tsn = tsn;
    if (sent.times[(tsn - sent.first_tsn) % 65536]++ > 0)
        return;
    if ((flags & FIRST) != 0)
        sent.begun[stream] = true;
    if ((flags & LAST) != 0)
        sent.begun[stream] = false;
    sent.begun_now += ((flags & FIRST) != 0) - ((flags & LAST) != 0);
    if (sent.begun_now > sent.begun_most)
        sent.begun_most = sent.begun_now;
}

static void watch(pair *p, int from, uint8_t *data, size_t *len)
{
    (void)p;
    dp_rd chunks = dp_chunks(data, *len);
    dp_chunk chunk;
    while (from == 0 && dp_chunk_next(&chunks, &chunk)) {
        sent.data += chunk.type == DP_CHUNK_DATA;
        sent.forward_tsn += chunk.type == DP_CHUNK_FORWARD_TSN;
        if (chunk.type == DP_CHUNK_I_DATA)
            note_fragment(chunk.flags, chunk.value);
        if (chunk.type != DP_CHUNK_I_FORWARD_TSN)
            continue;
        sent.i_forward_tsn++;
        dp_rd_skip(&chunk.value, 4);
        sent.entry_stream = dp_rd_u16(&chunk.value);
        dp_rd_skip(&chunk.value, 2);
        sent.entry_mid = dp_rd_u32(&chunk.value);
    }
}

static dp_channel *begin(pair *p, uint64_t seed)
{
    memset(&sent, 0, sizeof sent);
    dp_channel *channel = up(p, seed, true);
    p->on_packet = watch;
    return channel;
}

/* Both must offer it. */
static void test_negotiation(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        pair p;
        memset(saw, 0, sizeof saw);
        memset(&sent, 0, sizeof sent);
        pair_init(&p, 1);
        for (int end = 0; end < 2; end++) {
            dp_sctp_config config = {.size = sizeof config,
                                     .random = {pair_random_fn, &p},
                                     .no_interleaving = (i >> end & 1) != 0};
            dp_sctp_free(p.end[end]);
            assert_int_equal(dp_sctp_new(&p.end[end], &config), DP_OK);
        }
        p.on_event = on_event;
        p.on_packet = watch;
        dp_channel *channel = open_channel(&p, 0, "x", true);
        pair_start(&p);
        pair_run(&p, DP_MS(100));
        assert_int_equal(dp_channel_send(channel, virtual_now, make(5000), 5000, true, false), DP_OK);
        pair_run(&p, DP_MS(100));
        assert_int_equal(saw[1].messages, 1);
        assert_int_equal(sent.i_data > 0, i == 0);
        assert_int_equal(sent.data > 0, i != 0);
        pair_clear(&p);
    }
}

/* A small message does not wait for the end of large ones, of which as many have begun as may: it is before all. */
static void test_small_overtakes(void **state)
{
    (void)state;
    pair p;
    dp_channel *channels[10];
    dp_channel *small = begin(&p, 2);
    for (int i = 0; i < 10; i++)
        channels[i] = open_channel(&p, 0, "large", true);
    pair_run(&p, DP_MS(100));
    for (int i = 0; i < 10; i++)
        assert_int_equal(dp_channel_send(channels[i], virtual_now, make(BIG), BIG, true, false), DP_OK);
    assert_int_equal(dp_channel_send(small, virtual_now, make(100), 100, true, false), DP_OK);
    pair_run(&p, DP_SECONDS(5));
    assert_int_equal(saw[1].messages, 11);
    assert_int_equal(saw[1].lens[0], 100);
    pair_clear(&p);
}

static bool sixty_messages(pair *p)
{
    (void)p;
    return saw[1].messages >= 60;
}

/* The peer has to hold what has begun and not ended. */
static void test_few_begin(void **state)
{
    (void)state;
    pair p;
    dp_channel *channels[20];
    begin(&p, 3);
    for (int i = 0; i < 20; i++)
        channels[i] = open_channel(&p, 0, "large", i % 2 == 0);
    pair_run(&p, DP_MS(100));
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 20; i++)
            assert_int_equal(dp_channel_send(channels[i], virtual_now, make(100000), 100000, true, false),
                             DP_OK);
    assert_true(pair_run_until(&p, sixty_messages, DP_SECONDS(10)));
    assert_int_equal(saw[1].messages, 60);
    assert_int_equal(sent.begun_now, 0);
    assert_in_range(sent.begun_most, 4, DP_ASSOCIATION_BEGUN_MAX);
    pair_clear(&p);
}

static unsigned lose_fragment; /* of the next message: its number, counted from 1 */
static unsigned fragments_left;

static void lose_one(pair *p, int from, uint8_t *data, size_t *len)
{
    watch(p, from, data, len);
    if (from != 0 || data[12] != DP_CHUNK_I_DATA)
        return;
    fragments_left++;
    if (lose_fragment > 0 && --lose_fragment == 0)
        *len = 0;
}

/* One fragment is lost of a message that may not be sent again: nothing of it leaves twice, what had not left does not,
 * and the peer learns which message it was. */
static void test_gives_up(void **state)
{
    (void)state;
    pair p;
    begin(&p, 4);
    dp_channel_init init = DP_CHANNEL_INIT("limited");
    init.max_retransmits = 0;
    dp_channel *limited;
    assert_int_equal(dp_sctp_open_channel(p.end[0], &limited, virtual_now, &init), DP_OK);
    pair_run(&p, DP_SECONDS(2));
    p.delay = DP_MS(20);
    p.on_packet = lose_one;
    lose_fragment = 2;
    fragments_left = 0;
    memset(&sent, 0, sizeof sent);
    assert_int_equal(dp_channel_send(limited, virtual_now, make(BIG), BIG, true, false), DP_OK);
    pair_run(&p, DP_SECONDS(2));
    assert_int_equal(saw[1].messages, 0);
    assert_in_range(fragments_left, 10, 100);
    for (size_t i = 0; i < 65536; i++)
        assert_true(sent.times[i] <= 1);
    assert_true(sent.i_forward_tsn > 0);
    assert_int_equal(sent.entry_stream, dp_channel_id(limited));
    assert_int_equal(sent.entry_mid, 1); /* behind the OPEN */
    assert_int_equal(dp_channel_buffered_amount(limited), 0);
    assert_int_equal(dp_channel_send(limited, virtual_now, make(3000), 3000, true, false), DP_OK);
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(saw[1].messages, 1);
    pair_clear(&p);
}

/* The same with one retransmission, which arrives; and with a lifetime that is over when it would leave. */
static void test_limits(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        pair p;
        begin(&p, 5);
        dp_channel_init init = DP_CHANNEL_INIT("limited");
        init.max_retransmits = i == 0 ? 1 : -1;
        init.max_packet_lifetime = i == 0 ? -1 : i == 1 ? 10 : 1000;
        dp_channel *limited;
        assert_int_equal(dp_sctp_open_channel(p.end[0], &limited, virtual_now, &init), DP_OK);
        pair_run(&p, DP_SECONDS(2));
        p.delay = DP_MS(20);
        p.on_packet = lose_one;
        lose_fragment = 2;
        assert_int_equal(dp_channel_send(limited, virtual_now, make(5000), 5000, true, false), DP_OK);
        pair_run(&p, DP_SECONDS(2));
        assert_int_equal(saw[1].messages, i == 1 ? 0 : 1);
        assert_int_equal(sent.i_forward_tsn > 0, i == 1);
        assert_int_equal(sent.forward_tsn, 0);
        pair_clear(&p);
    }
}

/* usrsctp was full when a message was to begin, and its lifetime is over before there is room: the next one of the channel
 * has its own lifetime, in which its loss is repaired. */
static void test_refused(void **state)
{
    (void)state;
    pair p;
    memset(saw, 0, sizeof saw);
    pair_init_with(&p, 8, &(dp_sctp_config){.send_buffer_size = 16384});
    p.on_event = on_event;
    dp_channel_init init = DP_CHANNEL_INIT("limited");
    init.max_packet_lifetime = 1000;
    dp_channel *limited;
    assert_int_equal(dp_sctp_open_channel(p.end[0], &limited, virtual_now, &init), DP_OK);
    pair_start(&p);
    pair_run(&p, DP_SECONDS(1));
    p.cut[1] = true;
    for (int i = 0; i < 100; i++)
        assert_int_equal(dp_channel_send(limited, virtual_now, make(512), 512, true, false), DP_OK);
    pair_run(&p, DP_SECONDS(3));
    assert_int_equal(dp_channel_buffered_amount(limited), 0);
    p.cut[1] = false;
    pair_run(&p, DP_SECONDS(10));
    saw[1].messages = 0;
    p.on_packet = lose_one;
    lose_fragment = 1;
    assert_int_equal(dp_channel_send(limited, virtual_now, make(100), 100, true, false), DP_OK);
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(lose_fragment, 0);
    assert_int_equal(saw[1].messages, 1);
    pair_clear(&p);
}

static uint32_t lost_tsn, least_window, last_window;
static bool loses;

static uint32_t word(const uint8_t *at)
{
    dp_rd rd = dp_rd_init(at, 4);
    return dp_rd_u32(&rd);
}

static void lose_a_tsn(pair *p, int from, uint8_t *data, size_t *len)
{
    (void)p;
    if (from == 1 && data[12] == DP_CHUNK_SACK) {
        last_window = word(data + 20);
        least_window = last_window < least_window ? last_window : least_window;
    }
    if (from == 1 || data[12] != DP_CHUNK_I_DATA || !loses)
        return;
    lost_tsn = lost_tsn == 0 ? word(data + 16) : lost_tsn;
    if (word(data + 16) == lost_tsn)
        *len = 0;
}

/* What waits for a fragment is held by us and not by usrsctp, and still the peer's window is less by that. */
static void test_window(void **state)
{
    (void)state;
    pair p;
    dp_channel *channel = begin(&p, 7);
    p.on_packet = lose_a_tsn;
    lost_tsn = 0;
    least_window = UINT32_MAX;
    loses = true;
    for (int k = 0; k < 20; k++) {
        while (dp_channel_send(channel, virtual_now, make(BIG), BIG, true, false) == DP_OK)
            continue;
        pair_run(&p, DP_MS(100));
    }
    assert_in_range(saw[1].messages, 0, 0);
    assert_true(least_window < 3u << 20);
    loses = false;
    pair_run(&p, DP_SECONDS(20));
    assert_true(saw[1].messages > 4);
    assert_true(last_window > (4u << 20) - BIG);
    pair_clear(&p);
}

/* ---- hostile peers ------------------------------------------------------------------------------- */

static size_t heap(void) { return mallinfo2().uordblks + mallinfo2().hblkhd; }

static uint32_t peer_tag, peer_tsn;
static bool aborted;

static void learn(pair *p, int from, uint8_t *data, size_t *len)
{
    (void)p;
    dp_rd rd = dp_rd_init(data, *len);
    dp_rd_skip(&rd, 4);
    uint32_t tag = dp_rd_u32(&rd);
    if (from == 0 && *len > 32 && (data[12] == DP_CHUNK_INIT || data[12] == DP_CHUNK_INIT_ACK)) {
        dp_rd init = dp_rd_init(data + 28, 4);
        peer_tsn = dp_rd_u32(&init);
    }
    if (from == 0 && data[12] != DP_CHUNK_INIT)
        peer_tag = tag;
    aborted |= from == 1 && data[12] == DP_CHUNK_ABORT;
}

static void put_fragment(dp_wr *wr, uint8_t flags, uint16_t stream, uint32_t mid, uint32_t fsn, size_t len)
{
    dp_wr_u8(wr, DP_CHUNK_I_DATA);
    dp_wr_u8(wr, flags);
    dp_wr_u16(wr, (uint16_t)(DP_SCTP_I_DATA_HEADER + len));
    dp_wr_u32(wr, peer_tsn++);
    dp_wr_u16(wr, stream);
    dp_wr_u16(wr, 0);
    dp_wr_u32(wr, mid);
    dp_wr_u32(wr, (flags & FIRST) != 0 ? 53 : fsn);
    dp_wr_zeros(wr, (len + 3) & ~(size_t)3);
}

/* Beginnings on a thousand streams, or what follows them without them, large or small: memory stays bounded, and in the
 * end the association does not go on. */
static void flood(uint8_t flags, size_t len, size_t most)
{
    pair p;
    memset(saw, 0, sizeof saw);
    aborted = false;
    pair_init_with(&p, 6, &(dp_sctp_config){.max_channels = 1024, .initial_channels = 1024});
    p.on_event = on_event;
    p.on_packet = learn;
    pair_start(&p);
    pair_run(&p, DP_SECONDS(1));
    dp_sctp_free(p.end[0]); /* from here on it is this */
    p.end[0] = NULL;
    size_t before = heap(), largest = 0;
    for (uint32_t i = 0; i < 40000 && saw[1].closed == 0; i++) {
        uint8_t bytes[1300];
        dp_wr wr = dp_wr_init(bytes, sizeof bytes);
        dp_wr_u32(&wr, 5000u << 16 | 5000u);
        dp_wr_u32(&wr, peer_tag);
        dp_wr_u32(&wr, 0);
        while (wr.len + DP_SCTP_I_DATA_HEADER + len + 3 < sizeof bytes && wr.len < 1000)
            put_fragment(&wr, flags, (uint16_t)(peer_tsn % 1024), i / 1024 + 1, i + 1, len);
        dp_sctp_checksum_write(bytes, wr.len);
        dp_sctp_input(p.end[1], virtual_now, bytes, wr.len);
        pair_drain(&p);
        largest = heap() > largest ? heap() : largest;
        virtual_now += DP_MS(1);
        dp_sctp_handle_timeout(p.end[1], virtual_now);
    }
    assert_int_equal(saw[1].closed, 1);
    assert_int_equal(saw[1].closed_error, DP_ERR_LIMIT);
    assert_true(aborted);
    print_message("flags %u, %zu bytes: %zu bytes of memory\n", flags, len, largest - before);
    assert_true(before == 0 || largest < before + most);
    pair_clear(&p);
}

/* Messages that go on for ever, one stream after the other: what is too long is not kept, nor is its buffer. */
static void test_endless(void **state)
{
    (void)state;
    pair p;
    memset(saw, 0, sizeof saw);
    pair_init_with(&p, 9, &(dp_sctp_config){.max_channels = 1024, .initial_channels = 1024});
    p.on_event = on_event;
    p.on_packet = learn;
    pair_start(&p);
    pair_run(&p, DP_SECONDS(1));
    dp_sctp_free(p.end[0]);
    p.end[0] = NULL;
    size_t before = heap(), largest = 0;
    for (uint32_t i = 0; i < 60 * 250; i++) {
        uint8_t bytes[1300];
        dp_wr wr = dp_wr_init(bytes, sizeof bytes);
        dp_wr_u32(&wr, 5000u << 16 | 5000u);
        dp_wr_u32(&wr, peer_tag);
        dp_wr_u32(&wr, 0);
        put_fragment(&wr, i % 250 == 0 ? FIRST : 0, (uint16_t)(i / 250), 0, i % 250, 1140);
        dp_sctp_checksum_write(bytes, wr.len);
        dp_sctp_input(p.end[1], virtual_now, bytes, wr.len);
        pair_drain(&p);
        largest = heap() > largest ? heap() : largest;
        virtual_now += DP_MS(1);
        dp_sctp_handle_timeout(p.end[1], virtual_now);
    }
    assert_int_equal(saw[1].closed, 0);
    print_message("%zu bytes of memory\n", largest - before);
    assert_true(before == 0 || largest < before + (4u << 20));
    pair_clear(&p);
}

static void to_end_1(pair *p, void (*write)(dp_wr *wr))
{
    uint8_t bytes[1300];
    dp_wr wr = dp_wr_init(bytes, sizeof bytes);
    dp_wr_u32(&wr, 5000u << 16 | 5000u);
    dp_wr_u32(&wr, peer_tag);
    dp_wr_u32(&wr, 0);
    write(&wr);
    dp_sctp_checksum_write(bytes, wr.len);
    dp_sctp_input(p->end[1], virtual_now, bytes, wr.len);
    pair_drain(p);
}

static uint32_t request;

/* A message begins on stream 1, and one begins and ends on stream 3. */
static void write_messages(dp_wr *wr)
{
    put_fragment(wr, FIRST, 1, 1, 0, 10);
    put_fragment(wr, FIRST, 3, 1, 0, 10);
    put_fragment(wr, LAST, 3, 1, 1, 10);
}

/* RFC 6525 §4.1: streams 1, 3, 5 and 7. */
static void write_reset(dp_wr *wr)
{
    dp_wr_u32(wr, 0x82u << 24 | 28);
    dp_wr_u32(wr, 13u << 16 | 24);
    dp_wr_u32(wr, request);
    dp_wr_u32(wr, 0);
    dp_wr_u32(wr, peer_tsn - 1);
    dp_wr_u32(wr, 1u << 16 | 3);
    dp_wr_u32(wr, 5u << 16 | 7);
}

/* Streams are reset, on the first of which a message has begun: ASan sees if the list is read when that is freed. */
static void test_reset_of_begun(void **state)
{
    (void)state;
    pair p;
    memset(saw, 0, sizeof saw);
    pair_init_with(&p, 10, &(dp_sctp_config){0});
    p.on_event = on_event;
    p.on_packet = learn;
    dp_channel *channels[4];
    for (int i = 0; i < 4; i++)
        channels[i] = open_channel(&p, 1, "x", true);
    pair_start(&p);
    pair_run(&p, DP_SECONDS(1));
    for (int i = 0; i < 4; i++)
        assert_int_equal(dp_channel_id(channels[i]), 2 * i + 1);
    dp_sctp_free(p.end[0]);
    p.end[0] = NULL;
    p.on_event = NULL;
    request = peer_tsn;
    peer_tsn += 4; /* the ACKs */
    to_end_1(&p, write_messages);
    to_end_1(&p, write_reset);
    pair_run(&p, DP_MS(100));
    for (int i = 0; i < 4; i++)
        assert_int_equal(dp_channel_get_state(channels[i]), DP_CHANNEL_CLOSING);
    pair_clear(&p);
}

/* The worst mix: as much as an owner keeps of messages that are given out, each a little over 128 KiB, for which its buffer has
 * doubled; and behind that as much as is kept for later. Each of the two has the same bound. */
static void test_worst_mix(void **state)
{
    (void)state;
    enum { LIVE = 47, EACH = 116, LEN = 1140 }; /* 6.2 of 6.3 MB */
    pair p;
    memset(saw, 0, sizeof saw);
    pair_init_with(&p, 11, &(dp_sctp_config){.max_channels = 1024, .initial_channels = 1024});
    p.on_event = on_event;
    p.on_packet = learn;
    pair_start(&p);
    pair_run(&p, DP_SECONDS(1));
    dp_sctp_free(p.end[0]);
    p.end[0] = NULL;
    size_t before = heap(), largest = 0, live = 0;
    for (uint32_t i = 0; i < 40000 && saw[1].closed == 0; i++) {
        bool lives = i < LIVE * EACH;
        uint8_t bytes[1300];
        dp_wr wr = dp_wr_init(bytes, sizeof bytes);
        dp_wr_u32(&wr, 5000u << 16 | 5000u);
        dp_wr_u32(&wr, peer_tag);
        dp_wr_u32(&wr, 0);
        if (lives)
            put_fragment(&wr, i < LIVE ? FIRST : 0, (uint16_t)(i % LIVE), 0, i / LIVE, LEN);
        else
            put_fragment(&wr, 0, (uint16_t)(LIVE + i % 512), 1, i, LEN);
        dp_sctp_checksum_write(bytes, wr.len);
        dp_sctp_input(p.end[1], virtual_now, bytes, wr.len);
        pair_drain(&p);
        largest = heap() > largest ? heap() : largest;
        live = lives ? largest - before : live;
        virtual_now += DP_MS(1);
        dp_sctp_handle_timeout(p.end[1], virtual_now);
    }
    assert_int_equal(saw[1].closed, 1);
    assert_int_equal(saw[1].closed_error, DP_ERR_LIMIT);
    print_message("%zu bytes of memory, %zu of them given out\n", largest - before, live);
    assert_true(before == 0 || (live > 11u << 20 && largest < before + (20u << 20)));
    pair_clear(&p);
}

static void test_floods(void **state)
{
    (void)state;
    flood(FIRST, 1140, 10u << 20);
    flood(0, 1140, 10u << 20);
    flood(0, 1, 10u << 20);
    flood(4 | FIRST, 1, 10u << 20);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_negotiation), cmocka_unit_test(test_small_overtakes),
        cmocka_unit_test(test_few_begin),   cmocka_unit_test(test_gives_up),
        cmocka_unit_test(test_limits),      cmocka_unit_test(test_window),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_floods),
        cmocka_unit_test(test_endless),     cmocka_unit_test(test_reset_of_begun),
        cmocka_unit_test(test_worst_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
