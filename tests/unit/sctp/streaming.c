/* Messages over max_message_size in parts, both ways. */
#include "seen.h"

#include "base/mem.h"

#define WHOLE 16384u /* max_message_size of end 1 */

/* The message in parts that end 1 is in the middle of. */
static struct {
    dp_channel *channel; /* NULL: none */
    uint64_t len;
    int begun, whole, broken, error;
    uint64_t seed, lens[64];
    bool bad, text;
    size_t largest;
} parts;

/* Byte i of a large message: the first tells which one it is; the rest is not periodic in anything that a lost or
 * doubled fragment is a multiple of. */
static uint8_t large(uint64_t seed, uint64_t i)
{
    if (i == 0)
        return (uint8_t)(seed + 'A');
    uint64_t x = (i + seed) * 0x9E3779B97F4A7C15u;
    return parts.text ? (uint8_t)('a' + (x >> 40) % 26) : (uint8_t)(x >> 40);
}

static void on_part(pair *p, int end, const dp_sctp_event *event)
{
    if (event->type != DP_SCTP_EVENT_MESSAGE_PART) {
        if (event->type == DP_SCTP_EVENT_CHANNEL_CLOSED)
            assert_ptr_not_equal(event->channel, parts.channel); /* the last part comes before */
        on_event(p, end, event);
        return;
    }
    assert_int_equal(end, 1);
    if (event->error != DP_OK) {
        assert_true(event->last && event->len == 0);
        assert_ptr_equal(event->channel, parts.channel);
        parts.channel = NULL;
        parts.broken++;
        parts.error = event->error;
        return;
    }
    assert_true(event->len > 0);
    assert_int_equal(event->first, parts.channel == NULL);
    if (event->first) {
        parts.channel = event->channel;
        parts.len = 0;
        parts.seed = event->data[0] - 'A';
        parts.begun++;
    }
    assert_ptr_equal(parts.channel, event->channel);
    for (size_t i = 0; i < event->len; i++)
        parts.bad |= event->data[i] != large(parts.seed, parts.len + i);
    parts.len += event->len;
    if (event->len > parts.largest)
        parts.largest = event->len;
    if (event->last) {
        parts.channel = NULL;
        assert_true(parts.whole < 64);
        parts.whole++;
        parts.lens[parts.seed] = parts.len;
    }
}

/* End 0 sends, end 1 takes parts. */
static dp_channel *up_with(pair *p, uint64_t seed, bool ordered, const dp_sctp_config *config)
{
    memset(saw, 0, sizeof saw);
    memset(&parts, 0, sizeof parts);
    pair_init_with(p, seed, config);
    p->on_event = on_part;
    dp_channel *channel = open_channel(p, 0, "label", ordered);
    for (int i = 0; i < 2; i++)
        assert_int_equal(dp_sctp_start(p->end[i], virtual_now, i == 0, 5000, 0), DP_OK);
    pair_run(p, DP_MS(100));
    assert_int_equal(saw[1].opened, 1);
    return channel;
}

static dp_channel *up_in_parts(pair *p, uint64_t seed, bool ordered)
{
    dp_sctp_config config = {.max_message_size = WHOLE, .max_size_in_parts = DP_UNLIMITED};
    return up_with(p, seed, ordered, &config);
}

static uint8_t *make_large(uint64_t seed, size_t len)
{
    uint8_t *data = (uint8_t *)malloc(len);
    assert_non_null(data);
    for (size_t i = 0; i < len; i++)
        data[i] = large(seed, i);
    return data;
}

static void send_all(dp_channel *channel, const uint8_t *data, size_t len, bool binary)
{
    int error;
    while ((error = dp_channel_send(channel, virtual_now, data, len, binary, false)) == DP_ERR_WOULD_BLOCK)
        pair_run((pair *)dp_channel_user(channel), DP_MS(5));
    assert_int_equal(error, DP_OK);
}

static void send_large(dp_channel *channel, uint64_t seed, size_t len, bool binary)
{
    uint8_t *data = make_large(seed, len);
    send_all(channel, data, len, binary);
    free(data);
}

static int wanted;
static bool all_whole(pair *p)
{
    (void)p;
    return parts.whole >= wanted;
}

static void check_lens(const size_t *lens, int count)
{
    assert_false(parts.bad);
    assert_int_equal(parts.broken, 0);
    assert_int_equal(parts.whole, count);
    for (int i = 0; i < count; i++)
        assert_int_equal(parts.lens[i], lens[i]);
    assert_in_range(parts.largest, 1, WHOLE);
}

/* Nobody who has not asked for it gets parts. */
static void test_off(void **state)
{
    (void)state;
    pair p;
    dp_channel *channel = up(&p, 3, true);
    assert_int_equal(dp_channel_send(channel, virtual_now, make(BIG), BIG, true, false), DP_OK);
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(saw[1].messages, 1);
    pair_clear(&p);
    dp_sctp_config config = {.max_message_size = WHOLE};
    channel = up_with(&p, 4, true, &config);
    send_large(channel, 0, WHOLE + 1, true);
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(saw[1].error, DP_ERR_TOO_LARGE);
    assert_int_equal(parts.begun + (int)saw[1].messages + saw[1].closed, 0);
    pair_clear(&p);
}

/* What is not over the limit comes whole, what is by one byte comes in parts. */
static void test_limit(void **state)
{
    (void)state;
    pair p;
    dp_channel *channel = up_in_parts(&p, 1, true);
    assert_int_equal(dp_channel_send(channel, virtual_now, make(WHOLE), WHOLE, true, false), DP_OK);
    send_large(channel, 0, WHOLE + 1, true);
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(saw[1].messages, 1);
    assert_int_equal(saw[1].lens[0], WHOLE);
    check_lens((size_t[]){WHOLE + 1}, 1);
    assert_int_equal(parts.largest, WHOLE);
    pair_clear(&p);
}

/* All sizes, among them what ends with a part, over a bad network, ordered and not. */
static void test_loss(void **state)
{
    (void)state;
    static const size_t lens[] = {WHOLE + 1, 2 * WHOLE, 100000, 3000000, 4 * WHOLE, 2 * WHOLE + 1, 700001};
    const int count = sizeof lens / sizeof lens[0];
    for (uint64_t seed = 0; seed < 24; seed++) {
        pair p;
        dp_channel *channel = up_in_parts(&p, 100 + seed, seed % 2 == 0);
        dp_channel_set_user(channel, &p);
        p.loss = (unsigned)(seed % 8);
        p.reorder = (unsigned)(seed % 16);
        p.duplicate = (unsigned)(seed % 4);
        wanted = count;
        for (int i = 0; i < count; i++) {
            send_large(channel, (uint64_t)i, lens[i], true);
            send_all(channel, make(5000), 5000, true);
        }
        assert_true(pair_run_until(&p, all_whole, DP_SECONDS(600)));
        pair_run(&p, DP_SECONDS(5));
        assert_int_equal(saw[1].messages, count);
        check_lens(lens, count);
        assert_int_equal(saw[1].closed + saw[0].closed + saw[1].errors, 0);
        pair_clear(&p);
    }
}

static int to_drop;
static uint32_t late; /* the lower of two TSNs that arrive at the third attempt at the earliest */

static void drop_late(pair *p, int from, uint8_t *data, size_t *len)
{
    (void)p;
    uint32_t tsn = (uint32_t)data[16] << 24 | (uint32_t)data[17] << 16 | (uint32_t)data[18] << 8 | data[19];
    if (from != 0 || data[12] != 0 || (data[13] & 4) == 0 || to_drop == 0)
        return;
    if (to_drop == 4)
        late = tsn;
    if (tsn - late > 1)
        return;
    to_drop--;
    *len = 0;
}

/* A message of which nothing has come, behind one that could begin to come in parts: usrsctp would end the association
 * ("Reass 30000004") when it comes. Also when the message is not wanted. */
static void test_late_beginning(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        pair p;
        bool off = i == 1;
        dp_sctp_config config = {.max_message_size = WHOLE, .max_size_in_parts = off ? 0 : DP_UNLIMITED};
        if (i == 2) /* usrsctp begins with half of it in any case */
            config.receive_buffer_size = 3 * WHOLE;
        dp_channel *channel = up_with(&p, 200, false, &config);
        dp_channel *other = open_channel(&p, 0, "other", true);
        dp_channel_set_user(other, &p);
        for (int k = 0; k < 60; k++) /* the window grows */
            send_all(other, make(WHOLE), WHOLE, true);
        pair_run(&p, DP_SECONDS(1));
        p.on_packet = drop_late;
        to_drop = 4;
        assert_int_equal(dp_channel_send(channel, virtual_now, make(1500), 1500, true, false), DP_OK);
        send_large(channel, 0, 100000, true);
        pair_run(&p, DP_SECONDS(5));
        assert_int_equal(to_drop, 0);
        assert_int_equal(saw[1].messages, 61);
        assert_int_equal(saw[0].closed + saw[1].closed, 0);
        if (off)
            assert_int_equal(saw[1].error, DP_ERR_TOO_LARGE);
        else
            check_lens((size_t[]){100000}, 1);
        pair_clear(&p);
    }
}

int main(void)
{
    virtual_now = DP_SECONDS(1000);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_loss),
        cmocka_unit_test(test_late_beginning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
