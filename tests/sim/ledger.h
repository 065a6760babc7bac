/* What two ends of an association have opened, sent and seen, and whether that may be: a message arrives whole, at most
 * once, on the channel that it was sent on; in order, and without gaps, where the channel is ordered and reliable;
 * events come in a legal order. For tests/sim and fuzz/sctp. */
#ifndef TESTS_SIM_LEDGER_H
#define TESTS_SIM_LEDGER_H

#include <datapeer/sctp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEDGER_LONGEST 262144u
#define LEDGER_HEADER  4u /* a message begins with its number, 7 bits a byte: all of it passes for text */
#define LEDGER_LABEL   4096u

typedef struct ledger_message {
    struct ledger_message *next;
    uint32_t number;
    size_t len;
    bool binary;
    bool ordered;
    bool wanted; /* the other side had the channel, too, when it was sent */
} ledger_message;

/* One side of a channel. */
typedef struct ledger_channel ledger_channel;
struct ledger_channel {
    ledger_channel *next;
    dp_channel *channel;  /* NULL once it is closed */
    ledger_channel *twin; /* the other side, once that has been told; NULL for negotiated ones */
    unsigned end;
    uint32_t number; /* the label says it */
    int id;
    bool own; /* this end opened it */
    bool negotiated;
    bool reliable;
    bool opened;
    bool closing; /* by us */
    bool failed;
    ledger_message *first, *last; /* sent and not arrived, in the order of sending */
    size_t sent_in_parts;         /* of the message that was begun, which has this number */
    uint32_t part_number;
    uint8_t *parts; /* what has come of one, NULL: none has begun */
    size_t parts_len;
};

typedef struct ledger {
    ledger_channel *channels;
    uint32_t channel_number;
    uint32_t message_number;
    bool connected[2];
    bool ended[2];
    int error[2];
    bool doubt[2]; /* a channel has ended before all had arrived, as it may if the association has ended */
    bool limited;  /* an end gets no more streams, and forgets what is opened beyond them */
    bool forged;   /* somebody else has spoken for an end: data may be lost, channels may be mixed up */
    bool wild;     /* ... and anything may arrive */
    bool written[65536]; /* ... on this stream */
    uint64_t sent, arrived, bytes, opened;
    const char *why; /* the first thing that must not be */
} ledger;

static void ledger_wrong(ledger *l, const char *why)
{
    if (l->why == NULL)
        l->why = why;
}

static void *ledger_alloc(size_t size)
{
    void *block = calloc(1, size);
    if (block == NULL)
        abort();
    return block;
}

/* ---- messages ---------------------------------------------------------------------------------------------- */

/* Behind the header comes a piece of this, from a place that follows from the number. */
static const uint8_t *ledger_pattern(uint32_t number)
{
    static uint8_t pattern[LEDGER_LONGEST + 4096];
    if (pattern[1] == 0) {
        uint32_t x = 1;
        for (size_t i = 0; i < sizeof pattern; i++) {
            x = x * 1664525 + 1013904223;
            pattern[i] = (uint8_t)(x >> 25);
        }
        pattern[1] = 'x';
    }
    return pattern + number % 4096;
}

static void ledger_write(uint8_t *out, size_t len, uint32_t number)
{
    for (size_t i = 0; i < len && i < LEDGER_HEADER; i++)
        out[i] = (uint8_t)(number >> 7 * i & 0x7f);
    if (len > LEDGER_HEADER)
        memcpy(out + LEDGER_HEADER, ledger_pattern(number), len - LEDGER_HEADER);
}

static bool ledger_is(const ledger_message *m, const uint8_t *data, size_t len, bool binary)
{
    if (m->len != len || m->binary != binary)
        return false;
    for (size_t i = 0; i < len && i < LEDGER_HEADER; i++)
        if (data[i] != (m->number >> 7 * i & 0x7f))
            return false;
    return len <= LEDGER_HEADER ||
           memcmp(data + LEDGER_HEADER, ledger_pattern(m->number), len - LEDGER_HEADER) == 0;
}

/* Where a negotiated channel is not open on the other side yet, messages are lost. */
static bool ledger_wanted(const ledger *l, const ledger_channel *c)
{
    const ledger_channel *other = l->channels;
    while (other != NULL &&
           (other->end == c->end || other->id != dp_channel_id(c->channel) || other->channel == NULL))
        other = other->next;
    return !c->negotiated || other != NULL;
}

static void ledger_note_sent(ledger *l, ledger_channel *c, size_t len, bool binary, bool ordered)
{
    ledger_message *m = (ledger_message *)ledger_alloc(sizeof *m);
    *m = (ledger_message){.number = l->message_number++,
                          .len = len,
                          .binary = binary,
                          .ordered = ordered,
                          .wanted = ledger_wanted(l, c)};
    if (c->last == NULL)
        c->first = m;
    else
        c->last->next = m;
    c->last = m;
    l->sent++;
}

static inline int ledger_send(ledger *l, ledger_channel *c, dp_time now, size_t len, bool binary,
                              bool force_ordered)
{
    static uint8_t data[LEDGER_LONGEST];
    /* Short ones look alike: which of them has come cannot be told where only some are ordered. */
    bool ordered = dp_channel_ordered(c->channel) || (force_ordered && len >= LEDGER_HEADER);
    ledger_write(data, len, l->message_number);
    int error = dp_channel_send(c->channel, now, data, len, binary, force_ordered);
    if (error == DP_OK)
        ledger_note_sent(l, c, len, binary, ordered);
    return error;
}

/* It counts as sent with its last part. */
static inline int ledger_send_part(ledger *l, ledger_channel *c, dp_time now, size_t len, bool last)
{
    static uint8_t data[LEDGER_LONGEST];
    if (len > LEDGER_LONGEST - c->sent_in_parts)
        return DP_ERR_TOO_LARGE;
    if (c->sent_in_parts == 0)
        c->part_number = l->message_number++;
    ledger_write(data, c->sent_in_parts + len, c->part_number);
    int error = dp_channel_send_part(c->channel, now, data + c->sent_in_parts, len, true, last);
    if (error != DP_OK)
        return error;
    c->sent_in_parts += len;
    if (last) {
        ledger_note_sent(l, c, c->sent_in_parts, true, dp_channel_ordered(c->channel));
        c->last->number = c->part_number;
        c->sent_in_parts = 0;
    }
    return DP_OK;
}

static void ledger_forget_messages(ledger_channel *c)
{
    while (c->first != NULL) {
        ledger_message *next = c->first->next;
        free(c->first);
        c->first = next;
    }
    c->last = NULL;
}

/* Takes the message out of what is on its way. False: nothing like it is. */
static bool ledger_take(ledger *l, ledger_channel *from, const dp_sctp_event *event)
{
    ledger_message *m = from->first;
    while (m != NULL && !ledger_is(m, event->data, event->len, event->binary))
        m = m->next;
    if (m == NULL)
        return false;
    /* Short ones look alike: if this one may be lost, it may as well have been the next. */
    ledger_message *like = m->wanted ? NULL : m->next;
    while (like != NULL && !(like->wanted && ledger_is(like, event->data, event->len, event->binary)))
        like = like->next;
    if (like != NULL)
        like->wanted = false;
    /* What was to come before it: of an unreliable channel it is given up now. */
    bool ordered = m->ordered;
    ledger_message *last = NULL;
    for (ledger_message **at = &from->first; *at != NULL;) {
        ledger_message *one = *at;
        if (one != m && !(m != NULL && ordered && one->ordered)) {
            last = one;
            at = &one->next;
            continue;
        }
        if (one == m)
            m = NULL;
        else if (from->reliable && one->wanted && !l->forged)
            ledger_wrong(l, "out of order");
        *at = one->next;
        free(one);
    }
    from->last = last;
    return true;
}

/* Who believes a reset that somebody else has made up ends the message that he has begun by a byte (send.c), and the peer
 * reads it. */
static bool ledger_is_torn(const ledger_channel *from, const dp_sctp_event *event)
{
    ledger_message begun = {.number = from->part_number, .len = event->len - 1, .binary = event->binary};
    return event->len > 0 && begun.len <= from->sent_in_parts && from->sent_in_parts > 0 &&
           event->data[begun.len] == 0 && ledger_is(&begun, event->data, begun.len, event->binary);
}

static void ledger_arrive(ledger *l, ledger_channel *c, const dp_sctp_event *event)
{
    l->arrived++;
    l->bytes += event->len;
    if (!c->opened)
        ledger_wrong(l, "a message before the channel is open");
    if (c->closing)
        ledger_wrong(l, "a message after close");
    if (l->wild || l->written[c->id])
        return;
    if (c->twin != NULL && ledger_take(l, c->twin, event))
        return;
    if (c->twin == NULL || l->forged)
        for (ledger_channel *other = l->channels; other != NULL; other = other->next)
            if (other->end != c->end && other->id == c->id &&
                (ledger_take(l, other, event) || (l->forged && ledger_is_torn(other, event))))
                return;
    ledger_wrong(l, "a message that was not sent on this channel, or twice, or not like this");
}

static void ledger_part(ledger *l, ledger_channel *c, const dp_sctp_event *event)
{
    if (event->first != (c->parts == NULL && event->error == DP_OK))
        ledger_wrong(l, "a part that does not begin, or begins twice");
    if (event->error == DP_OK && (event->len == 0 || c->parts_len + event->len > LEDGER_LONGEST))
        ledger_wrong(l, "an empty part, or too many");
    if (event->error == DP_OK && c->closing)
        ledger_wrong(l, "a part after close");
    if (event->error != DP_OK && (!event->last || c->parts == NULL))
        ledger_wrong(l, "an error that ends no message");
    if (c->parts == NULL)
        c->parts = (uint8_t *)ledger_alloc(LEDGER_LONGEST);
    if (l->why == NULL && event->error == DP_OK) {
        memcpy(c->parts + c->parts_len, event->data, event->len);
        c->parts_len += event->len;
    }
    if (!event->last)
        return;
    if (event->error == DP_OK) {
        dp_sctp_event whole = *event;
        whole.data = c->parts;
        whole.len = c->parts_len;
        ledger_arrive(l, c, &whole);
    }
    free(c->parts);
    c->parts = NULL;
    c->parts_len = 0;
}

/* ---- channels ---------------------------------------------------------------------------------------------- */

static ledger_channel *ledger_add(ledger *l, unsigned end, dp_channel *channel)
{
    ledger_channel *c = (ledger_channel *)ledger_alloc(sizeof *c);
    c->channel = channel;
    c->end = end;
    c->id = dp_channel_id(channel);
    c->reliable = dp_channel_max_retransmits(channel) < 0 && dp_channel_max_packet_lifetime(channel) < 0;
    c->next = l->channels;
    l->channels = c;
    dp_channel_set_user(channel, c);
    return c;
}

/* init's label is ours; padding: to its length. */
static inline int ledger_open(ledger *l, ledger_channel **out, unsigned end, dp_sctp *sctp, dp_time now,
                              dp_channel_init init, size_t padding)
{
    char label[LEDGER_LABEL + 16];
    int len = snprintf(label, sizeof label, "%u ", l->channel_number);
    memset(label + len, 'x', padding < LEDGER_LABEL ? padding : LEDGER_LABEL);
    label[(size_t)len + (padding < LEDGER_LABEL ? padding : LEDGER_LABEL)] = '\0';
    init.label = label;
    dp_channel *channel;
    int error = dp_sctp_open_channel(sctp, &channel, now, &init);
    if (error != DP_OK)
        return error;
    *out = ledger_add(l, end, channel);
    (*out)->own = true;
    (*out)->negotiated = init.negotiated;
    (*out)->number = l->channel_number++;
    return DP_OK;
}

static inline void ledger_close(ledger_channel *c, dp_time now)
{
    c->closing = true;
    dp_channel_close(c->channel, now);
}

static inline void ledger_abort(ledger *l, unsigned end, dp_sctp *sctp, dp_time now)
{
    for (ledger_channel *c = l->channels; c != NULL; c = c->next)
        c->closing |= c->end == end;
    dp_sctp_abort(sctp, now);
}

static void ledger_remove(ledger *l, ledger_channel *c)
{
    ledger_channel **at = &l->channels;
    for (; *at != NULL && *at != c; at = &(*at)->next) {
    }
    if (*at == c)
        *at = c->next;
    for (ledger_channel *other = l->channels; other != NULL; other = other->next)
        if (other->twin == c)
            other->twin = NULL;
    ledger_forget_messages(c);
    free(c->parts);
    free(c);
}

static bool ledger_alike(const dp_channel *a, const dp_channel *b)
{
    return dp_channel_id(a) == dp_channel_id(b) && dp_channel_ordered(a) == dp_channel_ordered(b) &&
           dp_channel_max_retransmits(a) == dp_channel_max_retransmits(b) &&
           dp_channel_max_packet_lifetime(a) == dp_channel_max_packet_lifetime(b) &&
           dp_channel_get_priority(a) == dp_channel_get_priority(b) &&
           dp_channel_label_length(a) == dp_channel_label_length(b) &&
           strcmp(dp_channel_protocol(a), dp_channel_protocol(b)) == 0;
}

/* The peer's OPEN has come. */
static void ledger_incoming(ledger *l, unsigned end, dp_channel *channel)
{
    ledger_channel *c = ledger_add(l, end, channel);
    c->opened = true;
    if (l->wild || l->written[c->id])
        return;
    uint32_t number = (uint32_t)strtoul(dp_channel_label(channel), NULL, 10);
    ledger_channel *twin = l->channels;
    while (twin != NULL &&
           (twin->end == end || twin->number != number || twin->twin != NULL || twin->id != c->id))
        twin = twin->next;
    c->number = number;
    c->twin = twin;
    if (twin == NULL && !l->forged)
        ledger_wrong(l, "a channel that the other end did not open, or twice");
    if (twin == NULL)
        return;
    twin->twin = c;
    if (twin->channel != NULL && !ledger_alike(twin->channel, channel))
        ledger_wrong(l, "a channel unlike the one that was opened");
}

static void ledger_closed(ledger *l, ledger_channel *c, const dp_sctp_event *event)
{
    ledger_channel *twin = c->twin;
    if (c->parts != NULL)
        ledger_wrong(l, "closed within a message");
    if (twin != NULL && twin->reliable && twin->first != NULL && !c->closing && !c->failed &&
        event->error == DP_OK && !l->forged)
        l->doubt[c->end] = true;
    c->channel = NULL;
    if (twin == NULL) /* a message of a negotiated channel, or the OPEN, may still be on its way */
        return;
    ledger_forget_messages(twin);
    if (twin->channel == NULL) {
        ledger_remove(l, twin);
        ledger_remove(l, c);
    }
}

/* ---- events ------------------------------------------------------------------------------------------------ */

static void ledger_channel_event(ledger *l, unsigned end, const dp_sctp_event *event)
{
    if (event->type == DP_SCTP_EVENT_CHANNEL_OPEN && event->incoming) {
        ledger_incoming(l, end, event->channel);
        l->opened++;
        return;
    }
    ledger_channel *c = (ledger_channel *)dp_channel_user(event->channel);
    if (c == NULL || c->channel != event->channel || c->end != end) {
        ledger_wrong(l, "an event of an unknown channel");
        return;
    }
    c->id = dp_channel_id(event->channel);
    switch (event->type) {
    case DP_SCTP_EVENT_CHANNEL_OPEN:
        if (c->opened)
            ledger_wrong(l, "open twice");
        c->opened = true;
        l->opened++;
        break;
    case DP_SCTP_EVENT_MESSAGE:
        ledger_arrive(l, c, event);
        break;
    case DP_SCTP_EVENT_MESSAGE_PART:
        ledger_part(l, c, event);
        break;
    case DP_SCTP_EVENT_CHANNEL_ERROR:
        if (c->failed)
            ledger_wrong(l, "an error twice");
        if (!l->forged && !l->wild && event->error != DP_ERR_LIMIT)
            ledger_wrong(l, "an error of a channel");
        c->failed = true;
        l->limited |= event->error == DP_ERR_LIMIT;
        break;
    case DP_SCTP_EVENT_CHANNEL_CLOSED:
        ledger_closed(l, c, event);
        break;
    default:
        if (!c->opened || c->closing)
            ledger_wrong(l, "an event of a channel that is not open");
        break;
    }
}

static void ledger_event(ledger *l, unsigned end, const dp_sctp_event *event)
{
    if (l->ended[end])
        ledger_wrong(l, "an event after the end");
    if (event->type == DP_SCTP_EVENT_CONNECTED) {
        if (l->connected[end])
            ledger_wrong(l, "connected twice");
        l->connected[end] = true;
    } else if (event->type == DP_SCTP_EVENT_CLOSED) {
        for (ledger_channel *c = l->channels; c != NULL; c = c->next)
            if (c->end == end && c->channel != NULL)
                ledger_wrong(l, "the association ends before a channel does");
        l->ended[end] = true;
        l->error[end] = event->error;
        l->doubt[end] = false;
    } else {
        if (event->channel == NULL) {
            ledger_wrong(l, "an event without its channel");
            return;
        }
        ledger_channel_event(l, end, event);
    }
}

/* All events of the end: true if there were any. */
static inline bool ledger_poll(ledger *l, unsigned end, dp_sctp *sctp)
{
    dp_sctp_event event;
    bool any = false;
    for (; dp_sctp_poll_event(sctp, &event); any = true)
        ledger_event(l, end, &event);
    if (l->doubt[end])
        ledger_wrong(l, "closed before all had arrived");
    return any;
}

/* What has yet to happen, here or there. NULL: all is at rest. */
static inline const char *ledger_busy(const ledger *l)
{
    for (const ledger_channel *c = l->channels; c != NULL; c = c->next) {
        if (c->channel != NULL && (!c->opened || (c->twin == NULL && !c->negotiated && !l->limited)))
            return "a channel does not open";
        bool twin_closed = c->twin != NULL && c->twin->channel == NULL && !l->limited;
        if (c->channel != NULL && (c->closing || twin_closed))
            return "a channel that was closed does not end";
        if (c->reliable && !c->failed && c->first != NULL && c->twin != NULL && c->twin->channel != NULL &&
            !c->twin->closing)
            return "what was sent does not arrive";
    }
    return NULL;
}

static inline void ledger_clear(ledger *l)
{
    while (l->channels != NULL)
        ledger_remove(l, l->channels);
}

#endif
