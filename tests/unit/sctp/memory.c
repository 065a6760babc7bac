/* Our own allocations fail. usrsctp's are left out: it does not survive that (docs/pitfalls.md), and does not use our
 * allocator. */
#include "seen.h"

#include <malloc.h>

static int budget;
static bool no_more;
static size_t live; /* bytes that are allocated */

static void *failing_realloc(void *ctx, void *old, size_t size)
{
    (void)ctx;
    if (budget-- == 0 || no_more)
        return NULL;
    size_t before = malloc_usable_size(old);
    void *block = realloc(old, size);
    live += malloc_usable_size(block) - before;
    return block;
}
static void *failing_alloc(void *ctx, size_t size) { return failing_realloc(ctx, NULL, size); }
static void plain_free(void *ctx, void *block)
{
    (void)ctx;
    live -= malloc_usable_size(block);
    free(block);
}

static const dp_allocator failing = {failing_alloc, failing_realloc, plain_free, NULL};

static dp_channel *try_open(pair *p, int end, int32_t retransmits, int32_t lifetime, int id)
{
    dp_channel_init init = DP_CHANNEL_INIT("x");
    init.max_retransmits = retransmits;
    init.max_packet_lifetime = lifetime;
    init.negotiated = id >= 0;
    init.id = id;
    dp_channel *channel = NULL;
    return dp_sctp_open_channel(p->end[end], &channel, virtual_now, &init) == DP_OK ? channel : NULL;
}

/* Channels of ours are valid until their CHANNEL_CLOSED. */
enum { KEPT = 8 };
static dp_channel *kept[KEPT];
static dp_channel *in_parts; /* has begun a message that is to be ended */
static int parts_seen;

static void keep(dp_channel *channel)
{
    size_t i = 0;
    while (i < KEPT && kept[i] != NULL)
        i++;
    assert_true(i < KEPT);
    kept[i] = channel;
}

static void on_session_event(pair *p, int end, const dp_sctp_event *event)
{
    for (size_t i = 0; event->type == DP_SCTP_EVENT_CHANNEL_CLOSED && i < KEPT; i++)
        if (kept[i] == event->channel) {
            in_parts = in_parts == kept[i] ? NULL : in_parts;
            kept[i] = NULL;
        }
    if (event->type != DP_SCTP_EVENT_MESSAGE_PART)
        on_event(p, end, event);
    parts_seen += event->type == DP_SCTP_EVENT_MESSAGE_PART;
}

static void send_on_all(size_t len)
{
    for (size_t i = 0; i < KEPT; i++)
        if (kept[i] != NULL)
            (void)dp_channel_send(kept[i], virtual_now, make(len + i), len + i, true, false);
}

static void send_part(size_t len, bool last)
{
    if (in_parts != NULL &&
        dp_channel_send_part(in_parts, virtual_now, make(len), len, true, last) == DP_OK && last)
        in_parts = NULL;
}

/* Reliable, limited and (far) negotiated channels, beyond the first streams; messages long and short over a lossy path;
 * closing and opening again. Ends early where there is no memory for an end. */
static bool session(pair *p, bool far)
{
    dp_sctp_config config = {.size = sizeof config,
                             .random = {pair_random_fn, p},
                             .no_interleaving = pair_sends_data,
                             .max_message_size = far ? 0 : 16384,
                             .max_size_in_parts = far ? 0 : DP_UNLIMITED};
    memset(kept, 0, sizeof kept);
    in_parts = NULL;
    for (int i = 0; i < 2; i++)
        if (dp_sctp_new(&p->end[i], &config) != DP_OK)
            return false;
    keep(try_open(p, 0, -1, -1, -1));
    keep(try_open(p, far ? 1 : 0, 0, -1, -1)); /* not far: one end only receives */
    for (int i = 0; i < 2; i++) {
        if (far || i == 0)
            keep(try_open(p, i, -1, 50, far ? 301 : -1));
        if (dp_sctp_start(p->end[i], virtual_now, i == 0, 5000, 262144) != DP_OK)
            return false;
    }
    pair_run(p, DP_MS(500));
    p->loss = 10;
    send_on_all(60000);
    send_on_all(10);
    pair_run(p, DP_MS(300));
    if (kept[1] != NULL)
        dp_channel_close(kept[1], virtual_now);
    pair_run(p, DP_SECONDS(3));
    keep(try_open(p, 0, -1, 50, -1));
    in_parts = far ? NULL : kept[0];
    for (int i = 0; i < 3; i++)
        send_part(10000, false);
    send_on_all(2000);
    pair_run(p, DP_SECONDS(1));
    send_part(10000, true);
    pair_run(p, DP_SECONDS(2));
    return true;
}

static size_t expected;
static bool arrived(pair *p)
{
    (void)p;
    return saw[0].messages + saw[1].messages >= expected;
}

/* Each channel that is open carries messages, on a path without loss, and so does a new one. */
static void check_channels(pair *p)
{
    p->loss = 0;
    send_part(1, true); /* if memory was short at the last part */
    pair_run(p, DP_SECONDS(1));
    dp_channel *fresh = try_open(p, 0, -1, -1, -1);
    assert_non_null(fresh);
    keep(fresh);
    pair_run(p, DP_SECONDS(1));
    expected = saw[0].messages + saw[1].messages;
    for (size_t i = 0; i < KEPT; i++)
        if (kept[i] != NULL && !dp_channel_negotiated(kept[i])) { /* the other side's may have failed */
            assert_int_equal(dp_channel_send(kept[i], virtual_now, make(3), 3, true, false), DP_OK);
            expected++;
        }
    assert_true(pair_run_until(p, arrived, DP_SECONDS(10)));
}

/* Row 90: each allocation of a session fails once. Then the association goes on, or it has ended and said why. */
static void each_allocation_fails(bool far)
{
    bool exhausted = true;
    int n = 0;
    for (; exhausted; n++) {
        pair p;
        memset(&p, 0, sizeof p);
        memset(saw, 0, sizeof saw);
        p.seed = 7;
        p.delay = DP_MS(5);
        p.on_event = on_session_event;
        budget = n;
        bool whole = session(&p, far);
        exhausted = budget < 0;
        budget = -1;
        for (int i = 0; i < 2; i++) {
            assert_in_range(saw[i].closed, 0, 1);
            assert_true(saw[i].closed == 0 || saw[i].closed_error == DP_ERR_NO_MEMORY ||
                        saw[1 - i].closed_error == DP_ERR_NO_MEMORY);
        }
        if (whole && saw[0].closed + saw[1].closed == 0)
            check_channels(&p);
        pair_clear(&p);
    }
    assert_in_range(n, 60, 1000);
    assert_true(far || parts_seen > n);
}

static void test_each_allocation_fails(void **state)
{
    (void)state;
    dp_set_allocator(&failing);
    each_allocation_fails(false);
    each_allocation_fails(true);
    dp_set_allocator(NULL);
}

/* No memory for a message that waits in usrsctp, for good: the association ends, and asking for events does.
 */
static void test_no_memory_to_receive(void **state)
{
    (void)state;
    pair p;
    budget = -1;
    dp_set_allocator(&failing);
    dp_channel *channel = up(&p, 17, true);
    p.deaf[1] = true;
    assert_int_equal(dp_channel_send(channel, virtual_now, make(BIG), BIG, true, false), DP_OK);
    pair_run(&p, DP_SECONDS(1));
    no_more = true;
    dp_sctp_event event;
    while (dp_sctp_poll_event(p.end[1], &event))
        on_event(&p, 1, &event);
    no_more = false;
    assert_int_equal(saw[1].messages, 0);
    assert_int_equal(saw[1].closed, 1);
    assert_int_equal(saw[1].closed_error, DP_ERR_NO_MEMORY);
    pair_clear(&p);
    dp_set_allocator(NULL);
}

/* An association that has carried long messages and is idle holds none of their buffers. */
static void test_idle_is_small(void **state)
{
    (void)state;
    pair p;
    budget = -1;
    live = 0;
    dp_set_allocator(&failing);
    dp_channel *channel = up(&p, 18, true);
    for (int i = 0; i < 3; i++)
        assert_int_equal(dp_channel_send(channel, virtual_now, make(BIG), BIG, true, false), DP_OK);
    pair_run(&p, DP_MS(300));
    assert_int_equal(saw[1].messages, 3);
    assert_true(live > BIG);
    pair_run(&p, DP_SECONDS(2));
    assert_true(live < 7000); /* two associations, a channel each; no buffers */
    pair_clear(&p);
    assert_int_equal(live, 0);
    dp_set_allocator(NULL);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_allocation_fails),
        cmocka_unit_test(test_no_memory_to_receive),
        cmocka_unit_test(test_idle_is_small),
    };
    return PAIR_RUN_BOTH_WAYS(tests);
}
