/* An end that takes messages in parts, and what it has seen of them. For cmocka. */
#ifndef TESTS_SCTP_PARTS_H
#define TESTS_SCTP_PARTS_H

#include "seen.h"

#define WHOLE ((size_t)16384) /* max_message_size of end 1 */

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
static inline uint8_t large(uint64_t seed, uint64_t i)
{
    if (i == 0)
        return (uint8_t)(seed + 'A');
    uint64_t x = (i + seed) * 0x9E3779B97F4A7C15u;
    return parts.text ? (uint8_t)('a' + (x >> 40) % 26) : (uint8_t)(x >> 40);
}

static inline void on_part(pair *p, int end, const dp_sctp_event *event)
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
static inline dp_channel *up_with(pair *p, uint64_t seed, bool ordered, const dp_sctp_config *config)
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

static inline dp_channel *up_in_parts(pair *p, uint64_t seed, bool ordered)
{
    dp_sctp_config config = {.max_message_size = WHOLE, .max_size_in_parts = DP_UNLIMITED};
    return up_with(p, seed, ordered, &config);
}

static inline uint8_t *make_large(uint64_t seed, size_t len)
{
    uint8_t *data = (uint8_t *)malloc(len);
    assert_non_null(data);
    for (size_t i = 0; i < len; i++)
        data[i] = large(seed, i);
    return data;
}

static inline void send_all(dp_channel *channel, const uint8_t *data, size_t len, bool binary)
{
    int error;
    while ((error = dp_channel_send(channel, virtual_now, data, len, binary, false)) == DP_ERR_WOULD_BLOCK)
        pair_run((pair *)dp_channel_user(channel), DP_MS(5));
    assert_int_equal(error, DP_OK);
}

static inline void send_large(dp_channel *channel, uint64_t seed, size_t len, bool binary)
{
    uint8_t *data = make_large(seed, len);
    send_all(channel, data, len, binary);
    free(data);
}

static int wanted;
static inline bool all_whole(pair *p)
{
    (void)p;
    return parts.whole >= wanted;
}

static inline void check_lens(const size_t *lens, int count)
{
    assert_false(parts.bad);
    assert_int_equal(parts.broken, 0);
    assert_int_equal(parts.whole, count);
    for (int i = 0; i < count; i++)
        assert_int_equal(parts.lens[i], lens[i]);
    assert_in_range(parts.largest, 1, WHOLE);
}

static inline void send_part(pair *p, dp_channel *channel, const uint8_t *data, size_t len, bool last)
{
    int error;
    while ((error = dp_channel_send_part(channel, virtual_now, data, len, true, last)) == DP_ERR_WOULD_BLOCK)
        pair_run(p, DP_MS(5));
    assert_int_equal(error, DP_OK);
}

#endif
