/* PeerJS's chunk framing, both ways (docs/bad-inputs.md rows 73 to 76). */
#include "rpc/binarypack.h"

#include "failing.h"
#include <setjmp.h>

#include <cmocka.h>

typedef struct message {
    uint8_t bytes[DP_CHUNK_MESSAGE_MAX];
    size_t len;
} message;

/* A chunk message with what the arguments say. */
static message chunk(uint64_t id, uint64_t n, const void *data, size_t len, uint64_t total)
{
    message m;
    dp_wr wr = dp_wr_init(m.bytes, sizeof(m.bytes));
    dp_bp_write_count(&wr, DP_VALUE_MAP, 4);
    dp_bp_write_text(&wr, "__peerData");
    dp_bp_write_uint(&wr, id);
    dp_bp_write_text(&wr, "n");
    dp_bp_write_uint(&wr, n);
    dp_bp_write_text(&wr, "data");
    dp_bp_write_count(&wr, DP_VALUE_BYTES, (uint32_t)len);
    dp_wr_bytes(&wr, data, len);
    dp_bp_write_text(&wr, "total");
    dp_bp_write_uint(&wr, total);
    assert_int_equal(dp_wr_finish(&wr, &m.len), DP_OK);
    return m;
}

static int input(dp_dechunker *d, dp_time now, const message *m, dp_dechunked *what, dp_value **value)
{
    return dp_dechunker_input(d, now, m->bytes, m->len, what, value);
}

/* The message must be kept without a result. */
static void keep(dp_dechunker *d, dp_time now, message m)
{
    dp_dechunked what;
    dp_value *value;
    assert_int_equal(input(d, now, &m, &what, &value), DP_OK);
    assert_int_equal(what, DP_DECHUNKED_NOTHING);
    assert_null(value);
}

static void refuse(dp_dechunker *d, dp_time now, message m, int error)
{
    dp_dechunked what;
    dp_value *value;
    assert_int_equal(input(d, now, &m, &what, &value), error);
    assert_int_equal(what, DP_DECHUNKED_NOTHING);
    assert_null(value);
}

static void complete_int(dp_dechunker *d, dp_time now, message m, int64_t expected)
{
    dp_dechunked what;
    dp_value *value;
    assert_int_equal(input(d, now, &m, &what, &value), DP_OK);
    assert_int_equal(what, DP_DECHUNKED_VALUE);
    assert_int_equal(dp_value_get_int(value, -1), expected);
    dp_value_free(value);
}

static dp_dechunker *new_dechunker(size_t max_value, size_t max_total)
{
    dp_dechunker_config config = {
        .size = sizeof(config), .max_value_size = max_value, .max_total = max_total};
    dp_dechunker *d = NULL;
    assert_int_equal(dp_dechunker_new(&d, &config), DP_OK);
    return d;
}

static void every_size_arrives_in_any_order(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 16296, 16297, 16298, 32597, 32598, 100000, 1000000};
    dp_dechunker *d = NULL;
    assert_int_equal(dp_dechunker_new(&d, NULL), DP_OK);
    uint32_t seed = 1;
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        uint8_t *bytes = calloc(sizes[s] + 1, 1);
        for (size_t i = 0; i < sizes[s]; i++)
            bytes[i] = (uint8_t)(i * 7 + (i >> 8));
        dp_value *sent = dp_value_bytes(bytes, sizes[s]);
        uint8_t *packed;
        size_t len;
        assert_int_equal(dp_binarypack_encode(sent, &packed, &len), DP_OK);
        dp_chunker chunker;
        dp_chunker_init(&chunker, packed, len, s + 1);
        size_t count = dp_chunker_count(&chunker);
        assert_int_equal(count, len <= DP_CHUNK_SIZE ? 1 : (len + DP_CHUNK_SIZE - 1) / DP_CHUNK_SIZE);
        message *messages = calloc(count, sizeof(*messages));
        for (size_t i = 0; i < count; i++)
            assert_int_equal(
                dp_chunker_next(&chunker, messages[i].bytes, DP_CHUNK_MESSAGE_MAX, &messages[i].len), DP_OK);
        assert_int_equal(dp_chunker_count(&chunker), 0);
        size_t none;
        assert_int_equal(dp_chunker_next(&chunker, bytes, 1, &none), DP_ERR_NOT_FOUND);
        assert_int_equal(none, 0);
        for (size_t i = count - 1; i > 0; i--) { /* shuffled */
            seed = seed * 1664525 + 1013904223;
            size_t j = (seed >> 8) % (i + 1);
            message m = messages[i];
            messages[i] = messages[j];
            messages[j] = m;
        }
        for (size_t i = 0; i < count; i++) {
            dp_dechunked what;
            dp_value *value;
            assert_int_equal(input(d, 0, &messages[i], &what, &value), DP_OK);
            assert_int_equal(what, i + 1 < count ? DP_DECHUNKED_NOTHING : DP_DECHUNKED_VALUE);
            if (i + 1 == count)
                assert_true(dp_value_equal(value, sent));
            dp_value_free(value);
        }
        free(messages);
        dp_free(packed);
        dp_value_free(sent);
        free(bytes);
    }
    assert_true(dp_dechunker_next_timeout(d) == DP_TIME_NEVER);
    dp_dechunker_free(d);
}

static void the_wire_is_what_peerjs_writes(void **state)
{
    (void)state;
    static const uint8_t packed[20000] = {0xda, 0x4e, 0x1d};
    dp_chunker chunker;
    uint8_t out[DP_CHUNK_MESSAGE_MAX];
    size_t len;
    dp_chunker_init(&chunker, packed, sizeof(packed), 1);
    assert_int_equal(dp_chunker_next(&chunker, out, 16330, &len), DP_ERR_NO_SPACE);
    assert_int_equal(dp_chunker_count(&chunker), 2);
    assert_int_equal(dp_chunker_next(&chunker, out, 16331, &len), DP_OK);
    assert_int_equal(len, 16331);
    assert_memory_equal(out,
                        "\x84\xba__peerData\x01\xb1n\x00\xb4"
                        "data\xda\x3f\xac",
                        24);
    assert_memory_equal(out + len - 7, "\xb5total\x02", 7);
    assert_int_equal(dp_chunker_next(&chunker, out, sizeof(out), &len), DP_OK);
    assert_int_equal(len, 3731);
    dp_chunker_init(&chunker, packed, sizeof(packed), UINT64_MAX);
    chunker.n = 0;
    chunker.total = SIZE_MAX;
    assert_int_equal(dp_chunker_next(&chunker, out, sizeof(out), &len), DP_OK); /* the longest head */
}

static void other_senders_are_understood(void **state)
{
    (void)state;
    dp_dechunker *d = new_dechunker(0, 0);
    dp_dechunked what;
    dp_value *value;
    /* text ids, an extra member, another order, pieces of other sizes, total = 1 */
    static const char first[] = "\x85\xb5total\x02\xb1n\x01\xb1x\xc0\xba__peerData\xb3"
                                "abc\xb4"
                                "data\xa1\x05";
    assert_int_equal(dp_dechunker_input(d, 0, (const uint8_t *)first, sizeof(first) - 1, &what, &value),
                     DP_OK);
    assert_int_equal(what, DP_DECHUNKED_NOTHING);
    static const char second[] = "\x84\xb5total\x02\xb1n\x00\xba__peerData\xb3"
                                 "abc\xb4"
                                 "data\xa1\xcc";
    assert_int_equal(dp_dechunker_input(d, 0, (const uint8_t *)second, sizeof(second) - 1, &what, &value),
                     DP_OK);
    assert_int_equal(what, DP_DECHUNKED_VALUE);
    assert_int_equal(dp_value_get_int(value, 0), 5);
    dp_value_free(value);
    complete_int(d, 0, chunk(9, 0, "\x07", 1, 1), 7);
    complete_int(d, 0, chunk(9, 0, "\x08", 1, 1), 8); /* the id again */
    /* values of two ids mixed, one with an empty piece */
    keep(d, 0, chunk(1, 1, "", 0, 3));
    keep(d, 0, chunk(2, 0, "\xcc", 1, 2));
    keep(d, 0, chunk(1, 0, "\xcd\x01", 2, 3));
    complete_int(d, 0, chunk(2, 1, "\xff", 1, 2), 255);
    complete_int(d, 0, chunk(1, 2, "\x00", 1, 3), 256);
    /* a false mark is a member like any other */
    message m = chunk(0, 0, "\x07", 1, 1);
    assert_int_equal(input(d, 0, &m, &what, &value), DP_OK);
    assert_int_equal(what, DP_DECHUNKED_VALUE);
    assert_int_equal(dp_value_count(value), 4);
    dp_value_free(value);
    static const char bye[] = "\x81\xba__peerData\x81\xb4type\xb5"
                              "close";
    assert_int_equal(dp_dechunker_input(d, 0, (const uint8_t *)bye, sizeof(bye) - 1, &what, &value), DP_OK);
    assert_int_equal(what, DP_DECHUNKED_CLOSE);
    assert_null(value);
    static const char odd[] = "\x81\xba__peerData\xc3";
    assert_int_equal(dp_dechunker_input(d, 0, (const uint8_t *)odd, sizeof(odd) - 1, &what, &value),
                     DP_ERR_MALFORMED);
    dp_dechunker_free(d);
}

static void impossible_pieces_are_refused(void **state) /* row 73 */
{
    (void)state;
    dp_dechunker *d = new_dechunker(0, 0);
    refuse(d, 0, chunk(1, 2, "\x01", 1, 2), DP_ERR_PROTOCOL);
    refuse(d, 0, chunk(1, 0, "\x01", 1, 0), DP_ERR_PROTOCOL);
    refuse(d, 0, chunk(1, 0, "\x01", 1, (uint64_t)1 << 31), DP_ERR_TOO_LARGE);
    refuse(d, 0, chunk(1, INT64_MAX - 1, "\x01", 1, INT64_MAX), DP_ERR_TOO_LARGE);
    assert_true(dp_dechunker_next_timeout(d) == DP_TIME_NEVER); /* nothing was begun */
    keep(d, 0, chunk(1, 0, "\xcc", 1, 2));
    refuse(d, 0, chunk(1, 1, "\x01", 1, 3), DP_ERR_PROTOCOL);
    complete_int(d, 0, chunk(1, 1, "\x01", 1, 2), 1);
    /* A claim costs nothing: a thousand values of 64 Mi pieces each, of which one byte came. */
    memory_start(0);
    dp_dechunker *e = new_dechunker(0, 0);
    for (uint64_t id = 1; id <= 1000; id++)
        keep(e, 0, chunk(id, 67108863, "\x01", 1, 67108864));
    assert_in_range(memory.peak, 0, 4000000);
    dp_dechunker_free(e);
    assert_int_equal(memory.alive, 0);
    memory_stop();
    dp_dechunker_free(d);
}

static void a_piece_twice_counts_once(void **state) /* row 74 */
{
    (void)state;
    dp_dechunker *d = new_dechunker(0, 0);
    keep(d, 0, chunk(1, 0, "\xcc", 1, 2));
    keep(d, 0, chunk(1, 0, "\xcc", 1, 2));
    keep(d, 0, chunk(1, 0, "\x00", 1, 2));
    complete_int(d, 0, chunk(1, 1, "\x2a", 1, 2), 42);
    dp_dechunker_free(d);
}

static void a_chunk_in_a_chunk_is_refused(void **state) /* row 75 */
{
    (void)state;
    dp_dechunker *d = new_dechunker(0, 0);
    message inner = chunk(5, 0, "\x01", 1, 1);
    refuse(d, 0, chunk(1, 0, inner.bytes, inner.len, 1), DP_ERR_PROTOCOL);
    refuse(d, 0, chunk(1, 0, "\x01\x02", 2, 1), DP_ERR_MALFORMED);
    assert_true(dp_dechunker_next_timeout(d) == DP_TIME_NEVER);
    dp_dechunker_free(d);
}

static void unfinished_values_are_dropped(void **state) /* row 76 */
{
    (void)state;
    static const uint8_t zeros[10001];
    dp_dechunker *d = new_dechunker(30000, 50000);
    assert_true(dp_dechunker_next_timeout(d) == DP_TIME_NEVER);
    keep(d, DP_SECONDS(1), chunk(1, 0, zeros, 10000, 9));
    keep(d, DP_SECONDS(2), chunk(2, 0, "\xcc", 1, 2));
    assert_true(dp_dechunker_next_timeout(d) == DP_SECONDS(61));
    keep(d, DP_SECONDS(3), chunk(1, 1, zeros, 10000, 9));
    assert_true(dp_dechunker_next_timeout(d) == DP_SECONDS(62));
    refuse(d, DP_SECONDS(4), chunk(1, 2, zeros, 10001, 9), DP_ERR_TOO_LARGE);
    refuse(d, DP_SECONDS(5), chunk(1, 3, "\x00", 1, 9), DP_ERR_TOO_LARGE); /* the rest of it too */
    keep(d, DP_SECONDS(5), chunk(3, 0, zeros, 10000, 9));
    keep(d, DP_SECONDS(5), chunk(3, 1, zeros, 10000, 9));
    keep(d, DP_SECONDS(5), chunk(4, 0, zeros, 10000, 9));
    keep(d, DP_SECONDS(5), chunk(4, 1, zeros, 10000, 9));
    refuse(d, DP_SECONDS(5), chunk(5, 0, zeros, 10000, 9), DP_ERR_LIMIT);
    complete_int(d, DP_SECONDS(6), chunk(2, 1, "\x05", 1, 2), 5);
    dp_dechunker_handle_timeout(d, DP_SECONDS(64) + 999999);
    assert_true(dp_dechunker_next_timeout(d) == DP_SECONDS(65));
    dp_dechunker_handle_timeout(d, DP_SECONDS(65));
    assert_true(dp_dechunker_next_timeout(d) == DP_TIME_NEVER);
    complete_int(d, DP_SECONDS(66), chunk(1, 0, "\x05", 1, 1), 5); /* begun anew */
    refuse(d, DP_SECONDS(66), chunk(1, 0, "\xcd", 1, 30001), DP_ERR_TOO_LARGE);
    static uint8_t large[30001];
    dp_dechunked what;
    dp_value *value;
    assert_int_equal(dp_dechunker_input(d, 0, large, sizeof(large), &what, &value), DP_ERR_TOO_LARGE);
    dp_dechunker_free(d);
}

static void failed_allocations_leave_nothing(void **state)
{
    (void)state;
    message messages[] = {chunk(1, 1, "\x05", 1, 2), chunk(2, 0, "\xcc", 1, 2), chunk(1, 0, "\xcc", 1, 2)};
    for (long n = 1;; n++) {
        memory_start(n);
        dp_dechunker *d = NULL;
        int error = dp_dechunker_new(&d, NULL);
        for (size_t i = 0; i < 3 && error == DP_OK; i++) {
            dp_dechunked what;
            dp_value *value;
            error = input(d, 0, &messages[i], &what, &value);
            dp_value_free(value);
        }
        dp_dechunker_free(d);
        assert_int_equal(memory.alive, 0);
        memory_stop();
        if (error == DP_OK)
            break;
        assert_int_equal(error, DP_ERR_NO_MEMORY);
        assert_in_range(n, 1, 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_arrives_in_any_order), cmocka_unit_test(the_wire_is_what_peerjs_writes),
        cmocka_unit_test(other_senders_are_understood),    cmocka_unit_test(impossible_pieces_are_refused),
        cmocka_unit_test(a_piece_twice_counts_once),       cmocka_unit_test(a_chunk_in_a_chunk_is_refused),
        cmocka_unit_test(unfinished_values_are_dropped),   cmocka_unit_test(failed_allocations_leave_nothing),
    };
    return cmocka_run_group_tests_name("rpc/chunks", tests, NULL, NULL);
}
