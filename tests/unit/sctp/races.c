/* What the simulation of lifetimes and the fuzzer of sessions have found, each in small. */
#include "seen.h"

enum { INIT = 0x01, COOKIE_ECHO = 0x0a, COOKIE_ACK = 0x0b, RE_CONFIG = 0x82, ADD_STREAMS = 17 };

/* The peer hears of the end although nothing can be sent: the send buffer is full, or the first stream is being
 * reset. */
static void test_abort_when_send_is_refused(void **state)
{
    (void)state;
    for (int resetting = 0; resetting < 2; resetting++) {
        pair p;
        dp_channel *channel = up(&p, 41, true);
        if (resetting) {
            dp_channel_close(channel, virtual_now);
            assert_int_equal(dp_channel_get_state(channel), DP_CHANNEL_CLOSING);
        } else {
            while (dp_channel_send(channel, virtual_now, make(BIG), BIG, true, false) == DP_OK) {
            }
        }
        dp_sctp_abort(p.end[0], virtual_now);
        pair_run(&p, DP_SECONDS(1));
        assert_int_equal(saw[1].closed, 1);
        assert_int_equal(saw[1].closed_error, DP_OK);
        pair_clear(&p);
    }
}

static bool lossy;

/* The second end does not get the streams that it asks for. */
static void refuse_second(pair *p, int from, uint8_t *data, size_t *len)
{
    (void)p;
    if (lossy && from == 1 && *len >= 28 && data[12] == RE_CONFIG && data[17] == ADD_STREAMS)
        *len = 0;
}

/* Both sides have opened it; one has its stream and sends, the other still waits for its own. */
static void test_negotiated_receives_before_it_can_send(void **state)
{
    (void)state;
    pair p;
    up(&p, 42, true);
    p.on_packet = refuse_second;
    lossy = true;
    dp_channel *channel[2];
    dp_channel_init init = DP_CHANNEL_INIT("far");
    init.negotiated = true;
    init.id = 600;
    for (int end = 0; end < 2; end++)
        assert_int_equal(dp_sctp_open_channel(p.end[end], &channel[end], virtual_now, &init), DP_OK);
    pair_run(&p, DP_SECONDS(1));
    for (int end = 0; end < 2; end++)
        assert_int_equal(dp_channel_send(channel[end], virtual_now, make(77), 77, true, false), DP_OK);
    pair_run(&p, DP_SECONDS(1));
    assert_int_equal(saw[1].messages, 1);
    assert_int_equal(saw[0].messages, 0);
    lossy = false; /* it asks again */
    pair_run(&p, DP_SECONDS(5));
    assert_int_equal(saw[0].messages, 1);
    pair_clear(&p);
}

static uint8_t first_init[256];
static size_t first_init_len;

static void keep_init(pair *p, int from, uint8_t *data, size_t *len)
{
    (void)p;
    if (from != 0 || data[12] != INIT || first_init_len > 0 || *len > sizeof first_init)
        return;
    memcpy(first_init, data, *len);
    first_init_len = *len;
}

static bool closed_at_both(pair *p)
{
    (void)p;
    return saw[0].channels_closed == 1 && saw[1].channels_closed == 1;
}

/* An INIT that comes once more when the association is up is answered with another TSN (RFC 9260 §5.2.2), which must not
 * be taken for the peer's: its stream resets would seem early for ever. */
static void late_init(uint64_t seed)
{
    pair p;
    memset(saw, 0, sizeof saw);
    first_init_len = 0;
    pair_init(&p, seed);
    p.on_event = on_event;
    p.on_packet = keep_init;
    pair_start(&p);
    pair_run(&p, DP_MS(100));
    assert_int_equal(saw[0].connected + saw[1].connected, 2);
    assert_true(first_init_len > 0);
    dp_sctp_input(p.end[1], virtual_now, first_init, first_init_len);
    pair_run(&p, DP_MS(100));
    dp_channel *channel = open_channel(&p, 1, "x", true);
    pair_run(&p, DP_MS(100));
    assert_int_equal(saw[0].incoming, 1);
    dp_channel_close(channel, virtual_now);
    assert_true(pair_run_until(&p, closed_at_both, DP_SECONDS(2)));
    pair_clear(&p);
}

/* The other TSN is random: one that seems old does no harm. */
static void test_late_init(void **state)
{
    (void)state;
    for (uint64_t seed = 43; seed < 63; seed++)
        late_init(seed);
}

static bool holds_cookie_ack;
static struct {
    uint8_t data[1024];
    size_t len;
} held_cookies[2]; /* COOKIE ECHO, COOKIE ACK */
static unsigned requests;

/* The second end's cookies do not arrive. */
static void hold_cookies(pair *p, int from, uint8_t *data, size_t *len)
{
    (void)p;
    requests += from == 1 && data[12] == RE_CONFIG;
    if (from == 0 || (data[12] != COOKIE_ECHO && (data[12] != COOKIE_ACK || !holds_cookie_ack)))
        return;
    assert_true(*len <= sizeof held_cookies->data);
    memcpy(held_cookies[data[12] == COOKIE_ACK].data, data, *len);
    held_cookies[data[12] == COOKIE_ACK].len = *len;
    *len = 0;
}

static dp_channel *open_far(pair *p, int end)
{
    dp_channel_init init = DP_CHANNEL_INIT("");
    dp_channel *channel;
    init.negotiated = true;
    init.id = 600;
    assert_int_equal(dp_sctp_open_channel(p->end[end], &channel, virtual_now, &init), DP_OK);
    return channel;
}

/* A request to add streams overtakes the COOKIE ECHO of an end that begins, too, and perhaps the COOKIE ACK. usrsctp carries
 * it out, and forgets its number when the COOKIE ECHO comes: it would take no stream reset any more. */
static void early_request(bool before_ack)
{
    pair p;
    memset(saw, 0, sizeof saw);
    memset(held_cookies, 0, sizeof held_cookies);
    requests = 0;
    holds_cookie_ack = before_ack;
    pair_init(&p, 47);
    p.on_event = on_event;
    p.on_packet = hold_cookies;
    (void)open_far(&p, 0);
    dp_channel *channel = open_far(&p, 1);
    pair_start(&p);
    pair_run(&p, DP_MS(40));
    assert_true(requests > 0 && held_cookies[0].len > 0 && (held_cookies[1].len > 0) == before_ack);
    p.on_packet = NULL;
    for (int i = 0; i < 2; i++)
        if (held_cookies[i].len > 0)
            dp_sctp_input(p.end[0], virtual_now, held_cookies[i].data, held_cookies[i].len);
    pair_run(&p, DP_SECONDS(5));
    assert_int_equal(saw[0].connected + saw[1].connected, 2);
    dp_channel_close(channel, virtual_now);
    assert_true(pair_run_until(&p, closed_at_both, DP_SECONDS(5)));
    pair_clear(&p);
}

static void test_early_request(void **state)
{
    (void)state;
    early_request(true);
    early_request(false);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_abort_when_send_is_refused),
        cmocka_unit_test(test_negotiated_receives_before_it_can_send),
        cmocka_unit_test(test_late_init),
        cmocka_unit_test(test_early_request),
    };
    return PAIR_RUN_BOTH_WAYS(tests);
}
