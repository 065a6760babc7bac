/* Messages over max_message_size come in parts. */
#include "parts.h"

#include "base/text.h"

#include <malloc.h>

static size_t heap(void) { return mallinfo2().uordblks + mallinfo2().hblkhd; }

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

/* A part holds a character of text, and a message in parts is larger than one that comes whole. */
static void test_config(void **state)
{
    (void)state;
    static const struct {
        size_t whole;
        uint64_t in_parts;
        int error;
    } cases[] = {
        {1024, 1024, DP_OK},       {1023, DP_UNLIMITED, DP_ERR_INVALID_ARGUMENT}, {1023, 0, DP_OK},
        {WHOLE, WHOLE + 1, DP_OK}, {WHOLE, WHOLE - 1, DP_ERR_INVALID_ARGUMENT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pair p;
        dp_sctp_config config = {.size = sizeof config,
                                 .random = {pair_random_fn, &p},
                                 .max_message_size = cases[i].whole,
                                 .max_size_in_parts = cases[i].in_parts};
        dp_sctp *sctp = NULL;
        assert_int_equal(dp_sctp_new(&sctp, &config), cases[i].error);
        dp_sctp_free(sctp);
    }
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
    if (from != 0 || data[12] != (pair_sends_data ? 0x00 : 0x40) || (data[13] & 4) == 0 || to_drop == 0)
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
        assert_int_equal(saw[0].closed + saw[1].closed, 0);
        if (off) { /* the large message may come first, and then end its channel */
            assert_in_range(saw[1].messages, 60, 61);
            assert_int_equal(saw[1].error, DP_ERR_TOO_LARGE);
        } else {
            assert_int_equal(saw[1].messages, 61);
            check_lens((size_t[]){100000}, 1);
        }
        pair_clear(&p);
    }
}

/* An OPEN comes whole or not at all: the peer hears that there is no such channel. */
static void test_large_open(void **state)
{
    (void)state;
    pair p;
    (void)up_in_parts(&p, 210, true);
    char label[WHOLE + 1];
    memset(label, 'l', WHOLE);
    label[WHOLE] = '\0';
    (void)open_channel(&p, 0, label, true);
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(saw[1].opened, 1);
    assert_int_equal(saw[0].channels_closed, 1);
    label[WHOLE - 12] = '\0';
    (void)open_channel(&p, 0, label, true);
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(saw[1].opened, 2);
    assert_int_equal(saw[0].closed + saw[1].closed, 0);
    pair_clear(&p);
}

/* ---- text --------------------------------------------------------------------------------------- */

/* Characters of one to four bytes, so that parts would end within some. */
static size_t make_text(uint8_t *out, size_t least)
{
    static const char characters[] = "z\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80";
    size_t len = 0;
    while (len < least) {
        memcpy(out + len, characters, sizeof characters - 1);
        len += sizeof characters - 1;
    }
    return len;
}

static uint8_t text[300000];
static size_t text_len;
static uint64_t texts;

static void on_text(pair *p, int end, const dp_sctp_event *event)
{
    if (event->type != DP_SCTP_EVENT_MESSAGE_PART || event->error != DP_OK) {
        on_part(p, end, event);
        return;
    }
    parts.channel = event->channel;
    assert_false(event->binary);
    assert_true(dp_utf8_valid(event->data, event->len));
    assert_in_range(event->len, 1, WHOLE);
    assert_true(texts + event->len <= text_len && memcmp(text + texts, event->data, event->len) == 0);
    texts += event->len;
    parts.whole += event->last;
    if (event->last)
        parts.channel = NULL;
}

static dp_channel *up_for_text(pair *p, uint64_t seed)
{
    dp_channel *channel = up_in_parts(p, seed, true);
    p->on_event = on_text;
    texts = 0;
    text_len = make_text(text, 200000);
    return channel;
}

/* Each part is valid by itself. */
static void test_text(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++) {
        pair p;
        dp_channel *channel = up_for_text(&p, 300 + seed);
        p.loss = (unsigned)seed;
        text_len -= 10 * seed;
        assert_int_equal(dp_channel_send(channel, virtual_now, text, text_len, false, false), DP_OK);
        pair_run(&p, DP_SECONDS(10));
        assert_int_equal(parts.whole, 1);
        assert_int_equal(texts, text_len);
        pair_clear(&p);
    }
}

/* Broken in the first part: nothing of it comes. In a later one, or at the very end: it breaks off. What follows comes. */
static void test_broken_text(void **state)
{
    (void)state;
    for (int where = 0; where < 3; where++) {
        pair p;
        dp_channel *channel = up_for_text(&p, 310);
        size_t len = where == 2 ? text_len - 1 : text_len; /* without the last byte of a character */
        if (where < 2)
            text[where == 0 ? 100 : 100000] = 0xff;
        assert_int_equal(dp_channel_send(channel, virtual_now, text, len, false, false), DP_OK);
        assert_int_equal(dp_channel_send(channel, virtual_now, make(100), 100, false, false), DP_OK);
        pair_run(&p, DP_SECONDS(10));
        assert_int_equal(parts.whole, 0);
        assert_int_equal(parts.broken, where == 0 ? 0 : 1);
        assert_int_equal(parts.error, where == 0 ? DP_OK : DP_ERR_MALFORMED);
        assert_int_equal(saw[1].messages, 1);
        assert_int_equal(saw[1].errors, 0);
        pair_clear(&p);
    }
}

/* What was dropped holds nothing: however many such texts come, there is room for the next message. */
static void test_many_broken_texts(void **state)
{
    (void)state;
    pair p;
    dp_sctp_config config = {
        .max_message_size = WHOLE, .max_size_in_parts = DP_UNLIMITED, .receive_buffer_size = 2 * WHOLE};
    dp_channel *channel = up_with(&p, 320, true, &config);
    dp_channel_set_user(channel, &p);
    memset(text, 0xff, sizeof text);
    for (int i = 0; i < 20; i++)
        send_all(channel, text, 2 * WHOLE, false);
    send_large(channel, 0, 3 * WHOLE, true);
    pair_run(&p, DP_SECONDS(5));
    check_lens((size_t[]){3 * WHOLE}, 1);
    assert_int_equal(saw[1].errors, 0);
    pair_clear(&p);
}

/* ---- messages that break off --------------------------------------------------------------------- */

static bool begun(pair *p)
{
    (void)p;
    return parts.len > 0;
}

/* Until the other side has some of 4 MB. */
static void send_some(pair *p, dp_channel *channel)
{
    send_large(channel, 0, 4000000, true);
    assert_true(pair_run_until(p, begun, DP_SECONDS(5)));
    assert_int_equal(parts.whole, 0);
}

/* What usrsctp has of it when the association ends looks like its end. */
static void test_death(void **state)
{
    (void)state;
    for (int deaf = 0; deaf < 2; deaf++) {
        pair p;
        dp_channel *channel = up_in_parts(&p, 400, true);
        send_some(&p, channel);
        p.deaf[1] = deaf; /* the rest is unread when the end comes */
        pair_run(&p, DP_MS(20));
        p.deaf[1] = false;
        dp_sctp_abort(p.end[0], virtual_now);
        const uint8_t *abort_packet;
        size_t len;
        while (dp_sctp_poll_transmit(p.end[0], &abort_packet, &len))
            dp_sctp_input(p.end[1], virtual_now, abort_packet, len);
        pair_run(&p, DP_MS(100));
        assert_int_equal(parts.whole, 0);
        assert_int_equal(parts.broken, 1);
        assert_int_equal(parts.error, DP_ERR_CLOSED);
        assert_false(parts.bad);
        assert_int_equal(saw[1].closed, 1);
        pair_clear(&p);
    }
}

/* All of it has come before the end: it is whole, also if it is read afterwards. */
static void test_death_behind(void **state)
{
    (void)state;
    pair p;
    dp_channel *channel = up_in_parts(&p, 401, true);
    p.deaf[1] = true;
    send_large(channel, 0, 200000, true);
    pair_run(&p, DP_SECONDS(1));
    dp_sctp_abort(p.end[0], virtual_now);
    pair_run(&p, DP_MS(100));
    assert_int_equal(parts.begun, 0);
    p.deaf[1] = false;
    pair_run(&p, DP_MS(100));
    check_lens((size_t[]){200000}, 1);
    assert_int_equal(saw[1].closed, 1);
    pair_clear(&p);
}

/* The receiver closes the channel, or its end is freed. */
static void test_close(void **state)
{
    (void)state;
    pair p;
    dp_channel *channel = up_in_parts(&p, 402, true);
    send_some(&p, channel);
    dp_channel_close(parts.channel, virtual_now);
    uint64_t had = parts.len;
    pair_run(&p, DP_SECONDS(5));
    assert_int_equal(parts.len, had);
    assert_int_equal(parts.broken, 1);
    assert_int_equal(parts.error, DP_ERR_CLOSED);
    assert_int_equal(saw[1].channels_closed, 1);
    assert_int_equal(saw[0].channels_closed, 1);
    assert_int_equal(saw[0].closed + saw[1].closed, 0);
    channel = open_channel(&p, 0, "again", true);
    send_some(&p, channel);
    pair_clear(&p);
}

static bool ends_it;

static void on_part_end(pair *p, int end, const dp_sctp_event *event)
{
    on_part(p, end, event);
    if (event->type != DP_SCTP_EVENT_MESSAGE_PART || !event->first)
        return;
    if (ends_it)
        dp_sctp_abort(p->end[1], virtual_now);
    else
        dp_channel_close(event->channel, virtual_now);
}

/* All of it has come, and its last part waits when the owner ends the channel, or the association. */
static void test_end_before_the_last_part(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        pair p;
        dp_channel *channel = up_in_parts(&p, 405, true);
        p.on_event = on_part_end;
        ends_it = i == 1;
        send_large(channel, 0, WHOLE + 100, true);
        pair_run(&p, DP_SECONDS(1));
        assert_int_equal(parts.begun, 1);
        assert_int_equal(parts.broken, 1);
        assert_int_equal(parts.error, DP_ERR_CLOSED);
        assert_int_equal(saw[1].channels_closed, 1);
        assert_int_equal(saw[1].closed, i);
        dp_sctp_event event;
        assert_false(dp_sctp_poll_event(p.end[1], &event));
        pair_clear(&p);
    }
}

/* Over what is wanted in parts, too. */
static void test_too_large(void **state)
{
    (void)state;
    pair p;
    dp_sctp_config config = {.max_message_size = WHOLE, .max_size_in_parts = 100000};
    dp_channel *channel = up_with(&p, 403, true, &config);
    send_large(channel, 0, 100000, true);
    pair_run(&p, DP_SECONDS(1));
    check_lens((size_t[]){100000}, 1);
    send_large(channel, 1, 100001, true);
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(parts.whole, 1);
    assert_int_equal(parts.broken, 1);
    assert_int_equal(parts.error, DP_ERR_TOO_LARGE);
    assert_int_equal(saw[1].error, DP_ERR_TOO_LARGE);
    assert_int_equal(saw[1].channels_closed, 1);
    assert_int_equal(saw[1].closed, 0);
    pair_clear(&p);
}

/* The sender gives up messages that lose a fragment: some break off, no two are merged. */
static void test_abandoned(void **state)
{
    (void)state;
    for (int ordered = 0; ordered < 2; ordered++) {
        pair p;
        dp_sctp_config config = {.max_message_size = WHOLE, .max_size_in_parts = DP_UNLIMITED};
        (void)up_with(&p, 404, true, &config);
        dp_channel_init init = DP_CHANNEL_INIT("limited");
        init.ordered = ordered;
        init.max_retransmits = 0;
        dp_channel *channel;
        assert_int_equal(dp_sctp_open_channel(p.end[0], &channel, virtual_now, &init), DP_OK);
        dp_channel_set_user(channel, &p);
        pair_run(&p, DP_MS(100));
        p.loss = 1;
        for (uint64_t i = 0; i < 40; i++)
            send_large(channel, i, 100000 + 1000 * i, true);
        pair_run(&p, DP_SECONDS(60));
        p.loss = 0;
        send_large(channel, 41, 50000, true);
        pair_run(&p, DP_SECONDS(10));
        assert_int_equal(parts.lens[41], 50000);
        assert_false(parts.bad);
        assert_null(parts.channel);
        assert_true(parts.whole > 5 && parts.broken > 5);
        assert_int_equal(parts.whole + parts.broken, parts.begun);
        assert_int_equal(parts.error, DP_ERR_CANCELLED);
        for (uint64_t i = 0; i < 40; i++)
            assert_true(parts.lens[i] == 0 || parts.lens[i] == 100000 + 1000 * i);
        assert_int_equal(saw[0].closed + saw[1].closed, 0);
        pair_clear(&p);
    }
}

static int re_configs;

static void count_re_configs(pair *p, int from, uint8_t *data, size_t *len)
{
    (void)p;
    (void)len;
    re_configs += from == 1 && data[12] == 0x82;
}

/* While the sender pauses, the receiver's notifications are kept back: it must not take that for their loss, and ask again
 * and again for what is long done. */
static void test_pause(void **state)
{
    (void)state;
    pair p;
    dp_channel *channel = up_in_parts(&p, 620, true);
    dp_channel *own = open_channel(&p, 1, "own", true);
    pair_run(&p, DP_MS(100));
    uint8_t *data = make_large(0, 100000);
    send_part(&p, channel, data, 50000, false);
    pair_run(&p, DP_SECONDS(1));
    size_t before = heap();
    re_configs = 0;
    p.on_packet = count_re_configs;
    assert_int_equal(dp_channel_send(own, virtual_now, make(17), 17, true, false), DP_OK);
    dp_channel_close(own, virtual_now);
    pair_run(&p, DP_SECONDS(20));
    assert_in_range(re_configs, 1, 2); /* its request, and the answer to the other's */
    assert_true(heap() < before + 100000);
    send_part(&p, channel, data + 50000, 50000, true);
    pair_run(&p, DP_SECONDS(2));
    check_lens((size_t[]){100000}, 1);
    assert_int_equal(saw[1].channels_closed, 1);
    free(data);
    pair_clear(&p);
}

/* ---- memory -------------------------------------------------------------------------------------- */

/* 64 MiB whose end is not in sight. */
static void test_endless(void **state)
{
    (void)state;
    pair p;
    dp_channel *channel = up_in_parts(&p, 600, true);
    static uint8_t piece[65536];
    size_t before = heap(), most = 0;
    for (uint64_t at = 0; at < 64u << 20; at += sizeof piece) {
        for (size_t i = 0; i < sizeof piece; i++)
            piece[i] = large(0, at + i);
        send_part(&p, channel, piece, sizeof piece, false);
        most = heap() > most ? heap() : most;
    }
    pair_run(&p, DP_SECONDS(5));
    assert_in_range(parts.len, 60u << 20, 64u << 20);
    assert_int_equal(parts.begun, 1);
    assert_false(parts.bad);
    assert_true(most - before < 20u << 20); /* the buffers of both ends, and a copy of what is under way */
    pair_clear(&p);
}

/* An owner that does not ask gets nothing, and holds the sender up. */
static void test_back_pressure(void **state)
{
    (void)state;
    for (int ordered = 0; ordered < 2; ordered++) {
        pair p;
        dp_sctp_config config = {.max_message_size = WHOLE,
                                 .max_size_in_parts = DP_UNLIMITED,
                                 .send_buffer_size = 1u << 20,
                                 .receive_buffer_size = 1u << 20};
        dp_channel *channel = up_with(&p, 601, ordered, &config);
        static uint8_t piece[65536];
        uint64_t at = 0;
        size_t before = heap();
        for (int ms = 0; ms < 20000; ms++) {
            p.deaf[1] = parts.len > 0;
            for (size_t i = 0; i < sizeof piece; i++)
                piece[i] = large(0, at + i);
            if (dp_channel_send_part(channel, virtual_now, piece, sizeof piece, true, false) == DP_OK)
                at += sizeof piece;
            pair_run(&p, DP_MS(1));
        }
        assert_in_range(at, 1u << 20, 5u << 20);
        assert_true(heap() - before < 8u << 20);
        p.deaf[1] = false;
        send_part(&p, channel, make(1), 1, true);
        pair_run(&p, DP_SECONDS(10));
        assert_int_equal(parts.lens[0], at + 1);
        pair_clear(&p);
    }
}

int main(void)
{
    virtual_now = DP_SECONDS(1000);
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_loss),
        cmocka_unit_test(test_late_beginning),
        cmocka_unit_test(test_large_open),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_broken_text),
        cmocka_unit_test(test_death),
        cmocka_unit_test(test_death_behind),
        cmocka_unit_test(test_close),
        cmocka_unit_test(test_end_before_the_last_part),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_abandoned),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_endless),
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_many_broken_texts),
    };
    return PAIR_RUN_BOTH_WAYS(tests);
}
