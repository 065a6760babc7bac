/* Losses on short paths: a transfer must not wait for a timeout of usrsctp's, which takes 250 ms, thousands of round trips. */
#include "pair.h"

#include <setjmp.h>
/* cmocka wants the headers above */
#include <cmocka.h>

#define MESSAGE  65536u
#define MESSAGES 16u /* 1 MiB */

typedef struct transfer {
    dp_channel *channel;
    bool open;
    unsigned sent, received;
} transfer;

static void on_event(pair *p, int end, const dp_sctp_event *event)
{
    transfer *t = (transfer *)p->ctx;
    t->open |= end == 0 && event->type == DP_SCTP_EVENT_CHANNEL_OPEN;
    t->received += end == 1 && event->type == DP_SCTP_EVENT_MESSAGE;
    assert_int_not_equal(event->type, DP_SCTP_EVENT_CLOSED);
}

/* Sends as much as may be, and more than is waited for: behind the last chunk nothing shows that it is lost. */
static bool all_arrived(pair *p)
{
    static const uint8_t message[MESSAGE];
    transfer *t = (transfer *)p->ctx;
    while (t->sent < 2 * MESSAGES &&
           dp_channel_send(t->channel, virtual_now, message, MESSAGE, true, false) == DP_OK)
        t->sent++;
    pair_drain(p);
    return t->received >= MESSAGES;
}

/* Of a transfer after a quiet second, in which the way may have become shorter. */
static dp_duration duration(uint64_t seed, unsigned loss, dp_duration first_delay, dp_duration delay)
{
    pair p;
    transfer t = {0};
    dp_channel_init init = DP_CHANNEL_INIT("bulk");
    pair_init(&p, seed);
    p.on_event = on_event;
    p.ctx = &t;
    p.delay = first_delay;
    assert_int_equal(dp_sctp_open_channel(p.end[0], &t.channel, virtual_now, &init), DP_OK);
    pair_start(&p);
    pair_run(&p, DP_SECONDS(1));
    assert_true(t.open);
    p.delay = delay;
    p.loss = loss;
    dp_time began = virtual_now;
    assert_true(pair_run_until(&p, all_arrived, DP_SECONDS(60)));
    pair_clear(&p);
    return virtual_now - began;
}

static void check(unsigned loss, dp_duration first_delay, dp_duration delay)
{
    dp_duration most = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        dp_duration took = duration(seed, loss, first_delay, delay);
        most = took > most ? took : most;
    }
    print_message("%u %% lost, %u, then %u us one way: at most %u us\n", loss, (unsigned)first_delay,
                  (unsigned)delay, (unsigned)most);
    assert_true(most < DP_MS(30));
}

/* From the first loss on. usrsctp needs a timeout when a retransmission is lost and its window is full, and to come out of
 * fast recovery after its first loss. */
static void test_short_path(void **state)
{
    (void)state;
    check(1, 50, 50);
    check(5, 50, 50);
    check(1, 500, 500);
    check(5, 500, 500);
}

/* The round trips of before make a chunk seem too young to be lost, and nothing else comes: it is looked at again in time. */
static void test_shorter_path(void **state)
{
    (void)state;
    check(1, DP_MS(5), 50);
    check(5, DP_MS(5), 50);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_path),
        cmocka_unit_test(test_shorter_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
