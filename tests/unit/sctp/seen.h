/* What the two ends of a pair have seen, and how most tests begin. For cmocka. */
#ifndef TESTS_SCTP_SEEN_H
#define TESTS_SCTP_SEEN_H

#include "pair.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the headers above */
#include <cmocka.h>

#define MAX_CHANNELS 1024
#define BIG          262144

/* What an end has seen. */
typedef struct seen {
    int connected, opened, incoming, low, errors, channels_closed, closed, error, closed_error;
    dp_channel *in[MAX_CHANNELS]; /* that the other end opened */
    size_t n_in;
    size_t lens[4096];
    int order[4096]; /* channel ids of the messages */
    size_t messages;
    uint64_t bytes;
    bool binary_last;
} seen;

static seen saw[2];

/* The content follows from the length, so a mixed-up message is noticed. ASCII: text must be UTF-8. */
static uint8_t content(size_t len, size_t i) { return (len * 31 + i * 7 + (i >> 8)) & 0x7f; }

static const uint8_t *make(size_t len)
{
    static uint8_t data[BIG + 1];
    for (size_t i = 0; i < len; i++)
        data[i] = content(len, i);
    return data;
}

static void check_content(const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (data[i] != content(len, i))
            fail_msg("byte %zu of %zu is wrong", i, len);
}

static void on_event(pair *p, int end, const dp_sctp_event *event)
{
    (void)p;
    seen *s = &saw[end];
    switch (event->type) {
    case DP_SCTP_EVENT_CONNECTED:
        s->connected++;
        break;
    case DP_SCTP_EVENT_CHANNEL_OPEN:
        s->opened++;
        if (event->incoming) {
            s->incoming++;
            assert_true(s->n_in < MAX_CHANNELS);
            s->in[s->n_in++] = event->channel;
        }
        break;
    case DP_SCTP_EVENT_MESSAGE:
        check_content(event->data, event->len);
        assert_true(s->messages < 4096);
        s->lens[s->messages] = event->len;
        s->order[s->messages++] = dp_channel_id(event->channel);
        s->bytes += event->len;
        s->binary_last = event->binary;
        break;
    case DP_SCTP_EVENT_MESSAGE_PART:
        fail_msg("nobody asked for parts");
        break;
    case DP_SCTP_EVENT_BUFFERED_AMOUNT_LOW:
        s->low++;
        break;
    case DP_SCTP_EVENT_CHANNEL_ERROR:
        s->errors++;
        s->error = event->error;
        break;
    case DP_SCTP_EVENT_CHANNEL_CLOSED:
        s->channels_closed++;
        break;
    case DP_SCTP_EVENT_CLOSED:
        s->closed++;
        s->closed_error = event->error;
        break;
    }
}

static dp_channel *open_channel(pair *p, int end, const char *label, bool ordered)
{
    dp_channel_init init = DP_CHANNEL_INIT(label);
    init.ordered = ordered;
    dp_channel *channel;
    assert_int_equal(dp_sctp_open_channel(p->end[end], &channel, virtual_now, &init), DP_OK);
    return channel;
}

static dp_channel *up(pair *p, uint64_t seed, bool ordered)
{
    memset(saw, 0, sizeof saw);
    pair_init(p, seed);
    p->on_event = on_event;
    dp_channel *channel = open_channel(p, 0, "label", ordered);
    assert_int_equal(dp_channel_id(channel), -1);
    pair_start(p);
    pair_run(p, DP_MS(100));
    assert_int_equal(saw[0].connected, 1);
    assert_int_equal(saw[1].connected, 1);
    assert_int_equal(saw[0].opened, 1);
    assert_int_equal(saw[1].incoming, 1);
    assert_string_equal(dp_channel_label(saw[1].in[0]), "label");
    assert_int_equal(dp_channel_ordered(saw[1].in[0]), ordered);
    assert_int_equal(dp_channel_id(channel), 0);
    return channel;
}

#endif
