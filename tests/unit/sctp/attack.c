/* One end of a connected pair against somebody who speaks for the other: chunks with the right verification tag and
 * TSN. Rows 38, 43 and 47. */
#include "base/wr.h"
#include "sctp/filter.h"
#include "seen.h"

#include <malloc.h>

enum { DATA = 0x00, SACK = 0x03, ABORT = 0x06, FORWARD_TSN = 0xc0, LAST = 1, FIRST = 2, UNORDERED = 4 };

#define BINARY   53
#define FRAGMENT 1100u

static uint32_t tag, tsn;     /* of the next packet and DATA chunk to end 0 */
static uint32_t acknowledged; /* by end 0 */

static uint32_t get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void listen_in(pair *p, int from, uint8_t *data, size_t *len)
{
    (void)p;
    if (from == 0 && data[12] == SACK)
        acknowledged = get_u32(data + 16);
    if (from != 1)
        return;
    tag = get_u32(data + 4);
    for (size_t at = 12; at + 4 <= *len; at += (((size_t)data[at + 2] << 8 | data[at + 3]) + 3) & ~(size_t)3)
        if (data[at] == DATA)
            tsn = get_u32(data + at + 4) + 1;
}

static bool message_at_0(pair *p)
{
    (void)p;
    return saw[0].messages == 1;
}

/* The channel is end 0's, on stream 0. End 1 says something on it, and hears nothing from then on. */
static void begin(pair *p, uint64_t seed)
{
    up(p, seed, false);
    p->on_packet = listen_in;
    assert_int_equal(dp_channel_send(saw[1].in[0], virtual_now, make(9), 9, true, false), DP_OK);
    assert_true(pair_run_until(p, message_at_0, DP_SECONDS(1)));
    saw[0].messages = 0;
    p->cut[1] = true;
}

static dp_wr packet_to_0(uint8_t *bytes, size_t capacity)
{
    dp_wr wr = dp_wr_init(bytes, capacity);
    dp_wr_u16(&wr, 5000);
    dp_wr_u16(&wr, 5000);
    dp_wr_u32(&wr, tag);
    dp_wr_u32(&wr, 0);
    return wr;
}

static void give(pair *p, uint8_t *bytes, const dp_wr *wr)
{
    assert_false(wr->error);
    dp_sctp_checksum_write(bytes, wr->len);
    dp_sctp_input(p->end[0], virtual_now, bytes, wr->len);
    pair_drain(p);
}

static void send_data(pair *p, uint8_t flags, uint32_t at, const uint8_t *data, size_t len)
{
    uint8_t bytes[1400];
    dp_wr wr = packet_to_0(bytes, sizeof bytes);
    dp_wr_u8(&wr, DATA);
    dp_wr_u8(&wr, flags);
    dp_wr_u16(&wr, (uint16_t)(16 + len));
    dp_wr_u32(&wr, at);
    dp_wr_u16(&wr, 0);
    dp_wr_u16(&wr, 1); /* the DATA_CHANNEL_ACK had 0 */
    dp_wr_u32(&wr, BINARY);
    dp_wr_bytes(&wr, data, len);
    dp_wr_zeros(&wr, (4 - len % 4) % 4);
    give(p, bytes, &wr);
}

static void send_chunk(pair *p, uint8_t type, const uint32_t *value)
{
    uint8_t bytes[32];
    dp_wr wr = packet_to_0(bytes, sizeof bytes);
    dp_wr_u8(&wr, type);
    dp_wr_u8(&wr, 0);
    dp_wr_u16(&wr, value == NULL ? 4 : 8);
    if (value != NULL)
        dp_wr_u32(&wr, *value);
    give(p, bytes, &wr);
}

/* Row 38: over 64 KiB of an unordered message, a gap, more of it, then a FORWARD-TSN over all of it: that blocked usrsctp
 * for ever. Nothing is left of the message, and the next one is whole. */
static void test_forward_tsn_behind_a_gap(void **state)
{
    (void)state;
    enum { BEFORE = 64, BEHIND = 10 };
    pair p;
    begin(&p, 51);
    uint32_t first = tsn;
    for (uint32_t i = 0; i <= BEFORE + BEHIND; i++)
        if (i != BEFORE)
            send_data(&p, UNORDERED | (i == 0 ? FIRST : 0), first + i, make(FRAGMENT), FRAGMENT);
    uint32_t to = first + BEFORE + BEHIND + 1; /* its end was lost */
    send_chunk(&p, FORWARD_TSN, &to);
    assert_int_equal(saw[0].messages, 0);
    send_data(&p, UNORDERED | FIRST | LAST, to + 1, make(77), 77);
    assert_int_equal(saw[0].messages, 1);
    assert_int_equal(saw[0].lens[0], 77);
    pair_run(&p, DP_MS(50));
    assert_int_equal(acknowledged, to + 1);
    assert_int_equal(saw[0].closed + saw[0].errors, 0);
    pair_clear(&p);
}

static size_t heap(void) { return mallinfo2().uordblks + mallinfo2().hblkhd; }

/* Row 43: ABORT in the middle of a message, which is freed with the association. Row 47: what comes then is ignored. */
static void test_abort_in_a_message(void **state)
{
    (void)state;
    pair p;
    begin(&p, 52);
    pair_run(&p, DP_SECONDS(2));
    size_t before = heap();
    for (uint32_t i = 0; i < 200; i++)
        send_data(&p, i == 0 ? FIRST : 0, tsn + i, make(FRAGMENT), FRAGMENT);
    bool counts = before > 0; /* ASan's allocator tells nothing */
    assert_true(!counts || heap() > before + 200 * FRAGMENT);
    send_chunk(&p, ABORT, NULL);
    assert_int_equal(saw[0].messages, 0);
    assert_int_equal(saw[0].channels_closed, 1);
    assert_int_equal(saw[0].closed, 1);
    assert_int_equal(saw[0].closed_error, DP_ERR_REMOTE);
    assert_true(dp_sctp_next_timeout(p.end[0]) == DP_TIME_NEVER);
    uint64_t packets = p.packets;
    send_data(&p, LAST, tsn + 200, make(FRAGMENT), FRAGMENT);
    assert_int_equal(p.packets, packets);
    assert_int_equal(saw[0].messages, 0);
    assert_true(!counts || heap() < before + 20000);
    pair_clear(&p);
}

/* Both write DATA themselves. */
int main(void)
{
    pair_sends_data = true;
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_tsn_behind_a_gap),
        cmocka_unit_test(test_abort_in_a_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
