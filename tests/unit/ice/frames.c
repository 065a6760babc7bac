/* The stream cutter: every cut of a stream gives the same frames; what can't be one ends it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ice/frames.h"

#include <stdlib.h>
#include <string.h>

/* A STUN message of 8 bytes, ChannelData of 5 (padded), of 0, a message without attributes, data of 4. */
static const uint8_t stream[] = {
    0x00, 0x01, 0,    8,    0x21, 0x12, 0xa4, 0x42, 1,   2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
    12,   0x80, 0x22, 0x00, 4,    'd',  'a',  't',  'a',          //
    0x40, 0x00, 0,    5,    'h',  'e',  'l',  'l',  'o', 0, 0, 0, //
    0x4f, 0xff, 0,    0,                                          //
    0x01, 0x13, 0,    0,    0x21, 0x12, 0xa4, 0x42, 1,   2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
    12, //
    0x40, 0x01, 0,    4,    'a',  'b',  'c',  'd',
};
static const struct {
    size_t at;
    size_t len;
} cuts[] = {{0, 28}, {28, 9}, {40, 4}, {44, 20}, {64, 8}};

#define CUTS (sizeof cuts / sizeof cuts[0])

/* Feeds one piece (an exact copy on the heap) and compares what comes out. */
static void feed(dp_frames *frames, const uint8_t *data, size_t len, size_t *found)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);
    size_t at = 0;
    if (len > 0)
        memcpy(copy, data, len);
    while (at < len) {
        bool broken = false;
        size_t frame_len = 0;
        size_t n = dp_frames_take(frames, copy + at, len - at, &frame_len, &broken);
        assert_false(broken);
        assert_in_range(n, 1, len - at);
        at += n;
        if (frame_len == 0)
            continue;
        assert_true(*found < CUTS);
        assert_int_equal(frame_len, cuts[*found].len);
        assert_memory_equal(frames->data, stream + cuts[*found].at, frame_len);
        ++*found;
    }
    free(copy);
}

static void every_cut_gives_the_same_frames(void **state)
{
    (void)state;
    for (size_t first = 0; first <= sizeof stream; first++) {
        dp_frames frames = {.len = 0};
        size_t found = 0;
        feed(&frames, stream, first, &found);
        feed(&frames, stream + first, sizeof stream - first, &found);
        assert_int_equal(found, CUTS);
    }
}

static void byte_at_a_time(void **state)
{
    (void)state;
    dp_frames frames = {.len = 0};
    size_t found = 0;
    for (size_t i = 0; i < sizeof stream; i++) {
        feed(&frames, stream + i, 1, &found);
        size_t whole =
            0; /* a frame comes out with its last byte (of the padding), not before and not later */
        while (whole < CUTS && ((cuts[whole].at + cuts[whole].len + 3) & ~(size_t)3) <= i + 1)
            whole++;
        assert_int_equal(found, whole);
    }
    assert_int_equal(found, CUTS);
}

static bool breaks(const uint8_t *prefix, size_t len)
{
    dp_frames frames = {.len = 0};
    bool broken = false;
    size_t frame_len = 1;
    size_t n = dp_frames_take(&frames, prefix, len, &frame_len, &broken);
    assert_int_equal(frame_len, 0);
    assert_true(n <= len);
    return broken;
}

static void what_is_no_frame_breaks_the_stream(void **state)
{
    (void)state;
    assert_true(breaks((const uint8_t[]){0x80, 0x00, 0, 4}, 4)); /* no STUN: RTP */
    assert_true(breaks((const uint8_t[]){0x50, 0x00, 0, 4}, 4)); /* reserved channel, RFC 8656 §12 */
    assert_true(breaks((const uint8_t[]){0x7f, 0xff, 0, 4}, 4));
    assert_true(breaks((const uint8_t[]){0x01, 0x01, 0, 7}, 4)); /* STUN lengths are multiples of 4 */
    assert_false(breaks((const uint8_t[]){0x50, 0x00, 0}, 3));   /* not known yet */
}

static void longest_frames(void **state)
{
    (void)state;
    assert_false(
        breaks((const uint8_t[]){0x40, 0x00, (DP_FRAME_MAX - 4) >> 8, (DP_FRAME_MAX - 4) & 0xFF}, 4));
    assert_false(
        breaks((const uint8_t[]){0x00, 0x17, (DP_FRAME_MAX - 20) >> 8, (DP_FRAME_MAX - 20) & 0xFF}, 4));
    dp_frames frames = {.len = 0};
    uint8_t data[DP_FRAME_MAX] = {0x40, 0x00, (DP_FRAME_MAX - 4) >> 8, (DP_FRAME_MAX - 4) & 0xFF};
    bool broken = false;
    size_t frame_len;
    assert_int_equal(dp_frames_take(&frames, data, sizeof data, &frame_len, &broken), sizeof data);
    assert_int_equal(frame_len, sizeof data);
    assert_false(broken);
}

/* Whoever shares an IP address with a peer can send such a datagram to our relayed address. It is lost, and nothing
 * else is. */
static void longer_frames_are_skipped(void **state)
{
    (void)state;
    static const struct {
        uint8_t prefix[4];
        size_t len;
    } rows[] = {
        {{0x40, 0x00, (DP_FRAME_MAX - 3) >> 8, (DP_FRAME_MAX - 3) & 0xFF}, DP_FRAME_MAX + 4}, /* padded */
        {{0x40, 0x00, 0xff, 0xff}, 4 + 0x10000},
        {{0x00, 0x17, (DP_FRAME_MAX - 16) >> 8, (DP_FRAME_MAX - 16) & 0xFF}, DP_FRAME_MAX + 4},
        {{0x00, 0x17, 0xff, 0xfc}, 20 + 0xfffc},
    };
    static const size_t pieces[] = {1, 3, 1000, 100000};
    static uint8_t data[2 * 0x10020 + sizeof stream];
    for (size_t i = 0; i < 16; i++) {
        size_t len = 2 * rows[i / 4].len + sizeof stream;
        size_t found = 0;
        dp_frames frames = {.len = 0};
        memset(data, 0x55, sizeof data);
        memcpy(data, rows[i / 4].prefix, 4);
        memcpy(data + rows[i / 4].len, rows[i / 4].prefix, 4);
        memcpy(data + len - sizeof stream, stream, sizeof stream);
        for (size_t at = 0; at < len; at += pieces[i % 4])
            feed(&frames, data + at, len - at < pieces[i % 4] ? len - at : pieces[i % 4], &found);
        assert_int_equal(found, CUTS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_gives_the_same_frames),    cmocka_unit_test(byte_at_a_time),
        cmocka_unit_test(what_is_no_frame_breaks_the_stream), cmocka_unit_test(longest_frames),
        cmocka_unit_test(longer_frames_are_skipped),
    };
    return cmocka_run_group_tests_name("ice/frames", tests, NULL, NULL);
}
