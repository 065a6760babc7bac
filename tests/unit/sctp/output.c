#include "sctp/output.h"

#include "base/mem.h"
#include "base/wr.h"
#include "sctp/chunk.h"
#include "sctp/filter.h"

#include "pair.h" /* behind chunk.h, which knows no other packet */

#include <setjmp.h>
/* cmocka wants the headers above */
#include <cmocka.h>

enum { MTU = 200, PACKET_MAX = 4096 };

static uint8_t made[PACKET_MAX];
static dp_wr wr;

static void header(uint8_t tag)
{
    static const uint8_t ports[] = {0x13, 0x88, 0x13, 0x88, 0, 0, 0};
    wr = dp_wr_init(made, sizeof made);
    dp_wr_bytes(&wr, ports, sizeof ports);
    dp_wr_u8(&wr, tag);
    dp_wr_zeros(&wr, 4);
}

static void chunk(uint8_t type, size_t len)
{
    dp_wr_u8(&wr, type);
    dp_wr_u8(&wr, 3);
    dp_wr_u16(&wr, (uint16_t)len);
    for (size_t i = 4; i < len; i++)
        dp_wr_u8(&wr, (uint8_t)i);
}

static void add(dp_output *output, uint8_t type, size_t len, size_t mtu)
{
    header(1);
    chunk(type, len);
    dp_output_add(output, made, wr.len, mtu);
}

/* The next packet holds these chunks: type, length, ..., 0 at the end. */
static void expect(dp_output *output, const size_t *chunks)
{
    const uint8_t *at;
    size_t len;
    assert_true(dp_output_poll(output, &at, &len));
    assert_true(dp_sctp_checksum_ok(at, len));
    dp_rd rd = dp_chunks(at, len);
    dp_chunk found;
    while (dp_chunk_next(&rd, &found)) {
        assert_int_equal(found.type, chunks[0]);
        assert_int_equal(dp_rd_left(&found.value) + 4, chunks[1]);
        assert_true(chunks[1] < 6 || dp_rd_u16(&found.value) == 0x0405);
        chunks += 2;
    }
    assert_false(rd.error);
    assert_int_equal(chunks[1], 0);
}
#define EXPECT(output, ...) expect(output, (const size_t[]){__VA_ARGS__, 0, 0})

static void expect_nothing(dp_output *output)
{
    const uint8_t *at;
    size_t len;
    assert_false(dp_output_poll(output, &at, &len));
}

static void test_data_shares_a_packet(void **state)
{
    (void)state;
    dp_output output;
    dp_output_init(&output, 65536);
    for (int i = 0; i < 5; i++)
        add(&output, DP_CHUNK_DATA, 92, MTU);
    add(&output, DP_CHUNK_DATA, 4, MTU); /* 12 + 92 + 4 */
    add(&output, DP_CHUNK_DATA, 92, MTU);
    add(&output, DP_CHUNK_DATA, 4, MTU); /* 200 */
    EXPECT(&output, 0, 92, 0, 92);
    EXPECT(&output, 0, 92, 0, 92);
    EXPECT(&output, 0, 92, 0, 4, 0, 92);
    add(&output, DP_CHUNK_DATA, 92, MTU);
    EXPECT(&output, 0, 4, 0, 92);
    expect_nothing(&output);
    dp_output_clear(&output);
}

static void test_what_stays_alone(void **state)
{
    (void)state;
    static const uint8_t alone[] = {DP_CHUNK_INIT,        DP_CHUNK_INIT_ACK,          DP_CHUNK_ABORT,
                                    DP_CHUNK_SHUTDOWN,    DP_CHUNK_SHUTDOWN_COMPLETE, DP_CHUNK_COOKIE_ECHO,
                                    DP_CHUNK_FORWARD_TSN, DP_CHUNK_RE_CONFIG};
    dp_output output;
    dp_output_init(&output, 65536);
    for (size_t i = 0; i < sizeof alone; i++) {
        add(&output, DP_CHUNK_DATA, 20, MTU);
        add(&output, alone[i], 20, MTU); /* control chunks never behind DATA */
        add(&output, DP_CHUNK_DATA, 20, MTU);
        EXPECT(&output, 0, 20);
        EXPECT(&output, alone[i], 20);
        EXPECT(&output, 0, 20);
    }
    add(&output, DP_CHUNK_SACK, 16, MTU);
    add(&output, DP_CHUNK_DATA, 20, MTU);
    add(&output, DP_CHUNK_SACK, 16, MTU);
    add(&output, DP_CHUNK_SACK, 16, MTU);
    EXPECT(&output, DP_CHUNK_SACK, 16, 0, 20);
    EXPECT(&output, DP_CHUNK_SACK, 16);
    EXPECT(&output, DP_CHUNK_SACK, 16);

    add(&output, DP_CHUNK_DATA, 20, MTU);
    add(&output, DP_CHUNK_DATA, 24, 0); /* its owner says so */
    header(2);                          /* another verification tag: the peer has restarted */
    chunk(DP_CHUNK_DATA, 28);
    dp_output_add(&output, made, wr.len, MTU);
    EXPECT(&output, 0, 20);
    EXPECT(&output, 0, 24);
    EXPECT(&output, 0, 28);

    add(&output, DP_CHUNK_DATA, 21, MTU); /* without padding nothing can follow */
    add(&output, DP_CHUNK_DATA, 24, MTU);
    add(&output, DP_CHUNK_DATA, 21, MTU);
    add(&output, DP_CHUNK_DATA, 24, MTU);
    EXPECT(&output, 0, 21);
    EXPECT(&output, 0, 24, 0, 21);
    EXPECT(&output, 0, 24);
    expect_nothing(&output);
    dp_output_clear(&output);
}

/* A packet that has left is not made longer, also where the memory behind it moves. */
static void test_what_has_left(void **state)
{
    (void)state;
    dp_output output;
    dp_output_init(&output, 65536);
    add(&output, DP_CHUNK_DATA, 20, MTU);
    EXPECT(&output, 0, 20);
    add(&output, DP_CHUNK_DATA, 24, MTU);
    EXPECT(&output, 0, 24);
    expect_nothing(&output);

    add(&output, DP_CHUNK_DATA, 3000, 3100);
    add(&output, DP_CHUNK_DATA, 1000, 3100);
    assert_int_equal(output.capacity, 4096);
    EXPECT(&output, 0, 3000);
    add(&output, DP_CHUNK_DATA, 1000, 3100); /* moves the newest packet to the front first */
    assert_int_equal(output.capacity, 4096);
    add(&output, DP_CHUNK_DATA, 1060, 3100);
    add(&output, DP_CHUNK_DATA, 24, 3100);
    EXPECT(&output, 0, 1000, 0, 1000, 0, 1060, 0, 24);
    expect_nothing(&output);
    dp_output_clear(&output);
}

static void test_full_and_given_back(void **state)
{
    (void)state;
    dp_output output;
    dp_output_init(&output, 70000);
    for (int i = 0; i < 100; i++)
        add(&output, DP_CHUNK_DATA, 1000, i % 2 == 0 ? 0 : 2100);
    assert_true(output.len <= 70000);
    dp_output_shrink(&output);
    assert_non_null(output.bytes); /* not what waits */
    for (int i = 0; i < 34; i++)
        EXPECT(&output, 0, 1000, 0, 1000);
    const uint8_t *at;
    size_t len;
    while (dp_output_poll(&output, &at, &len))
        assert_true(dp_sctp_checksum_ok(at, len));
    dp_output_shrink(&output);
    assert_null(output.bytes);
    add(&output, DP_CHUNK_DATA, 20, MTU);
    EXPECT(&output, 0, 20);
    dp_output_clear(&output);
}

/* ---- an association ----------------------------------------------------------------------------- */

static dp_channel *channel;
static unsigned arrived;

static void on_event(pair *p, int end, const dp_sctp_event *event)
{
    (void)p;
    if (event->type == DP_SCTP_EVENT_CHANNEL_OPEN && end == 0)
        channel = event->channel;
    if (event->type == DP_SCTP_EVENT_MESSAGE) {
        assert_int_equal(event->len, 100);
        assert_int_equal(event->data[0], arrived++);
    }
}

static void check_tsns(pair *p, int from, uint8_t *data, size_t *len)
{
    dp_rd rd = dp_chunks(data, *len);
    dp_chunk found;
    bool first = true;
    uint32_t before = 0;
    (void)p;
    (void)from;
    while (dp_chunk_next(&rd, &found)) {
        if (!dp_chunk_is_data(found.type))
            continue;
        uint32_t tsn = dp_rd_u32(&found.value);
        assert_true(first || dp_tsn_before(before, tsn));
        before = tsn;
        first = false;
    }
}

static bool is_open(pair *p)
{
    (void)p;
    return channel != NULL;
}

static void open_channel(pair *p)
{
    dp_channel *created;
    dp_channel_init init = DP_CHANNEL_INIT("burst");
    channel = NULL;
    arrived = 0;
    pair_init(p, 1);
    p->on_event = on_event;
    p->on_packet = check_tsns;
    assert_int_equal(dp_sctp_open_channel(p->end[0], &created, virtual_now, &init), DP_OK);
    pair_start(p);
    assert_true(pair_run_until(p, is_open, DP_SECONDS(1)));
}

static void send_some(unsigned first, unsigned count)
{
    uint8_t message[100] = {0};
    for (unsigned i = first; i < first + count; i++) {
        message[0] = (uint8_t)i;
        assert_int_equal(dp_channel_send(channel, virtual_now, message, sizeof message, true, false), DP_OK);
    }
}

/* Messages of one burst share packets; each keeps its bounds and its order. */
static void test_a_burst(void **state)
{
    (void)state;
    pair p;
    open_channel(&p);
    uint64_t before = p.packets;
    send_some(0, 100);
    pair_drain(&p);
    assert_in_range(p.packets - before, 5, 12); /* nine messages fit into one */
    assert_true(p.largest <= 1160);
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(arrived, 100);
    pair_clear(&p);
}

/* RFC 9260 §6.10: the TSNs of a packet ascend. What is lost is repeated behind new messages that wait to leave: they do
 * not share a packet. */
static void test_a_burst_and_losses(void **state)
{
    (void)state;
    pair p;
    open_channel(&p);
    for (unsigned i = 0; i < 200; i += 2) {
        p.loss = 30;
        send_some(i, 1);
        pair_drain(&p);
        send_some(i + 1, 1); /* waits when the SACK of the one before comes */
        pair_step(&p, virtual_now + DP_SECONDS(1));
    }
    p.loss = 0;
    pair_run(&p, DP_SECONDS(60));
    assert_int_equal(arrived, 200);
    dp_sctp_stats stats;
    dp_sctp_get_stats(p.end[0], &stats);
    assert_true(stats.chunks_retransmitted > 0);
    pair_clear(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data_shares_a_packet),
        cmocka_unit_test(test_what_stays_alone),
        cmocka_unit_test(test_what_has_left),
        cmocka_unit_test(test_full_and_given_back),
        cmocka_unit_test(test_a_burst),
        cmocka_unit_test(test_a_burst_and_losses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
