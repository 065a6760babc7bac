/* PAD (RFC 4820): its receiver discards it and goes on with the rest of the packet, whatever is in it. */
#include "sctp/chunk.h"
#include "sctp/filter.h"
#include "sctp/path.h"

#include "seen.h"

/* An ABORT and a DATA chunk of nobody, as a PAD's content. */
static const uint8_t looks_like_chunks[] = {6, 0, 0, 4, 0, 3, 0, 17, 0,   0, 0, 1,
                                            0, 0, 0, 0, 0, 0, 0, 51, 'x', 0, 0, 0};

static size_t put_pad(uint8_t *at, size_t len)
{
    at[0] = DP_CHUNK_PAD;
    at[1] = 0xff; /* flags: ignored */
    at[2] = (uint8_t)(len >> 8);
    at[3] = (uint8_t)len;
    for (size_t i = 4; i < ((len + 3) & ~(size_t)3); i++)
        at[i] = looks_like_chunks[(i - 4) % sizeof looks_like_chunks];
    return (len + 3) & ~(size_t)3;
}

static bool may_have_more(const uint8_t *data, size_t len)
{
    dp_rd chunks = dp_chunks(data, len);
    dp_chunk chunk;
    while (dp_chunk_next(&chunks, &chunk))
        if (chunk.type == DP_CHUNK_INIT || chunk.type == DP_CHUNK_INIT_ACK)
            return false; /* alone in their packets */
    return len % 4 == 0;
}

/* Before the other chunks and behind them, one or two, of all lengths. */
static void add_pads(pair *p, int from, uint8_t *data, size_t *len)
{
    static size_t next;
    uint8_t rest[2048];
    (void)from;
    if (*len > sizeof rest || !may_have_more(data, *len))
        return;
    size_t rest_len = *len - DP_SCTP_COMMON_HEADER;
    memcpy(rest, data + DP_SCTP_COMMON_HEADER, rest_len);
    size_t at = DP_SCTP_COMMON_HEADER;
    next++;
    if (next % 3 > 0)
        at += put_pad(data + at, 4 + next % 61);
    memcpy(data + at, rest, rest_len);
    at += rest_len;
    if (next % 3 < 2)
        at += put_pad(data + at, 4 + next % 251);
    if (next % 5 == 0)
        at += put_pad(data + at, 4);
    *len = at;
    dp_sctp_checksum_write(data, at);
    p->probes++;
}

static bool all_arrived(pair *p) { return p != NULL && saw[1].messages == 200; }

static void test_discarded(void **state)
{
    (void)state;
    pair p;
    dp_channel *channel = up(&p, 90, true);
    p.on_packet = add_pads;
    p.loss = 5;
    for (size_t i = 1; i <= 200; i++) {
        assert_int_equal(dp_channel_send(channel, virtual_now, make(i * 40), i * 40, true, false), DP_OK);
        pair_run(&p, DP_MS(5));
    }
    assert_true(pair_run_until(&p, all_arrived, DP_SECONDS(10)));
    assert_true(p.probes > 400);
    for (size_t i = 1; i <= 200; i++)
        assert_int_equal(saw[1].lens[i - 1], i * 40);
    assert_int_equal(saw[0].closed + saw[1].closed + saw[0].errors + saw[1].errors, 0);
    pair_clear(&p);
}

/* ---- lengths that do not fit --------------------------------------------------------------------- */

static uint16_t hostile_length;
static bool hostile;

static void end_badly(pair *p, int from, uint8_t *data, size_t *len)
{
    (void)p;
    if (!hostile || from != 0 || !may_have_more(data, *len))
        return;
    (void)put_pad(data + *len, 8);
    data[*len + 2] = (uint8_t)(hostile_length >> 8);
    data[*len + 3] = (uint8_t)hostile_length;
    *len += 8;
    assert_int_equal(dp_sctp_filter(data, *len, 5000, 5000, !pair_sends_data), DP_ERR_MALFORMED);
    dp_sctp_checksum_write(data, *len);
}

/* The whole packet is dropped; it is sent again. */
static void test_hostile_lengths(void **state)
{
    static const uint16_t lengths[] = {0, 1, 2, 3, 13, 16, 1200, 0x7fff, 0xffff};
    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        pair p;
        dp_channel *channel = up(&p, 91, true);
        p.on_packet = end_badly;
        hostile_length = lengths[i];
        hostile = true;
        assert_int_equal(dp_channel_send(channel, virtual_now, make(500), 500, true, false), DP_OK);
        pair_run(&p, DP_SECONDS(2));
        assert_int_equal(saw[1].messages, 0);
        hostile = false;
        pair_run(&p, DP_SECONDS(10));
        assert_int_equal(saw[1].messages, 1);
        assert_int_equal(saw[0].closed + saw[1].closed, 0);
        pair_clear(&p);
    }
}

/* ---- what it tells ------------------------------------------------------------------------------- */

static int some_bytes(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    memset(out, 1, len);
    return DP_OK;
}

static const dp_random some_random = {some_bytes, NULL};

static size_t probe_size(dp_path *path, dp_time now)
{
    const uint8_t *probe;
    size_t len;
    return dp_path_poll_probe(path, now, &probe, &len) ? len : 0;
}

/* Who sends PAD takes more than an Ethernet: once is enough, and an empty one will do. A peer that sends none, or only what
 * looks like one inside another chunk, does not. */
static void test_peer_that_pads(void **state)
{
    uint8_t bytes[64] = {0};
    dp_path path;
    (void)state;
    dp_path_init(&path, 1160);
    bytes[DP_SCTP_COMMON_HEADER] = DP_CHUNK_DATA;
    dp_path_output(&path, bytes, sizeof bytes);
    assert_false(dp_path_change(&path, DP_SECONDS(1), 9000, &some_random));
    assert_int_equal(probe_size(&path, DP_SECONDS(1)), 1432);
    memset(bytes, 0, sizeof bytes);
    bytes[DP_SCTP_COMMON_HEADER + 3] = 8; /* DATA, of length 8 */
    (void)put_pad(bytes + DP_SCTP_COMMON_HEADER + 4, 4);
    assert_false(dp_path_input(&path, DP_SECONDS(2), bytes, DP_SCTP_COMMON_HEADER + 8));
    assert_int_equal(probe_size(&path, DP_SECONDS(2)), 1432);
    (void)put_pad(bytes + DP_SCTP_COMMON_HEADER + 8, 4);
    assert_false(dp_path_input(&path, DP_SECONDS(3), bytes, DP_SCTP_COMMON_HEADER + 12));
    assert_int_equal(probe_size(&path, DP_SECONDS(3)), 9000);
    assert_false(dp_path_input(&path, DP_SECONDS(4), bytes, DP_SCTP_COMMON_HEADER + 12));
    assert_int_equal(probe_size(&path, DP_SECONDS(3)), 0); /* the search does not begin anew */
    dp_path_clear(&path);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_discarded),
        cmocka_unit_test(test_hostile_lengths),
        cmocka_unit_test(test_peer_that_pads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
