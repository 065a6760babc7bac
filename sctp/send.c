/* From messages to usrsctp: channels take turns, weighted by their priority; messages that have outlived their
 * channel's lifetime are dropped. */
#include "internal.h"

#include "base/mem.h"
#include "dcep.h"

#include <string.h>

#define QUEUE_LIMIT  (1u << 20)     /* bufferedAmount over this: WOULD_BLOCK */
#define QUANTUM      4096           /* bytes that a channel of the lowest priority has in a turn */
#define PART_TIMEOUT DP_SECONDS(30) /* for the next part of a message that holds all other channels */
/* Of messages that have begun at a time, where they are interleaved: the peer has to hold them, and Firefox gives the
 * association up when they are more than 5 MB. */
#define BEGUN_BYTES_MAX (2u << 20)

/* ---- queues ------------------------------------------------------------------------------------- */

dp_message *dp_message_new(size_t len)
{
    if (len > SIZE_MAX - sizeof(dp_message))
        return NULL;
    dp_message *message = (dp_message *)dp_alloc(sizeof *message + len);
    if (message != NULL) {
        memset(message, 0, sizeof *message);
        message->len = len;
        message->expires = DP_TIME_NEVER;
    }
    return message;
}

void dp_send_enqueue(dp_channel *channel, dp_message *message)
{
    if (channel->tail == NULL)
        channel->head = message;
    else
        channel->tail->next = message;
    channel->tail = message;
    if (message->counted)
        channel->buffered += message->len - message->sent;
}

static void pop_message(dp_channel *channel)
{
    dp_message *message = channel->head;
    channel->head = message->next;
    if (channel->head == NULL)
        channel->tail = NULL;
    dp_free(message);
}

static void left_buffer(dp_channel *channel, size_t n)
{
    size_t before = channel->buffered;
    channel->buffered -= n;
    if (before > channel->low_threshold && channel->buffered <= channel->low_threshold &&
        channel->state == DP_CHANNEL_OPEN)
        dp_channel_event(channel, DP_PENDING_LOW);
}

static bool interleaves(const dp_sctp *sctp) { return dp_association_interleaves(sctp->association); }

static void begins(dp_channel *channel, const dp_message *message)
{
    dp_sctp *sctp = channel->sctp;
    /* While a message in parts waits for its owner, usrsctp sends nothing else reliably (docs/pitfalls.md). */
    if (!interleaves(sctp) || message->goes_on)
        sctp->current = channel;
    if (channel->begun)
        return;
    channel->begun = true;
    channel->begun_len = message->len;
    sctp->begun_count++;
    sctp->begun_bytes += message->len;
}

static void ends(dp_channel *channel)
{
    dp_sctp *sctp = channel->sctp;
    if (sctp->current == channel)
        sctp->current = NULL;
    if (!channel->begun)
        return;
    channel->begun = false;
    sctp->begun_count--;
    sctp->begun_bytes -= channel->begun_len;
}

/* The last in the queue that cannot be taken back, for usrsctp has the beginning of the message, with which the head of
 * the queue goes on. NULL: all can. */
static dp_message *last_begun(const dp_channel *channel)
{
    dp_message *at = channel->begun ? channel->head : NULL;
    while (at != NULL && at->goes_on && at->next != NULL)
        at = at->next;
    return at;
}

/* kept NULL: all of it. */
static void drop_behind(dp_channel *channel, dp_message *kept)
{
    dp_message *message = kept != NULL ? kept->next : channel->head;
    channel->tail = kept;
    if (kept != NULL)
        kept->next = NULL;
    else
        channel->head = NULL;
    while (message != NULL) {
        dp_message *next = message->next;
        if (message->counted)
            channel->buffered -= message->len - message->sent;
        dp_free(message);
        message = next;
    }
}

/* The owner has begun a message, usrsctp has some of it, and the end is not in the queue. */
static bool end_is_missing(const dp_channel *channel)
{
    return channel->in_message && channel->begun && last_begun(channel) == channel->tail;
}

/* A message that usrsctp has a part of stays: its rest must follow, or nothing else ever leaves. If the owner has not
 * given it, a byte ends it: the peer has closed the channel and takes no notice. */
void dp_send_discard(dp_channel *channel)
{
    channel->ack_due = false;
    drop_behind(channel, last_begun(channel));
    dp_message *end = end_is_missing(channel) ? dp_message_new(1) : NULL;
    if (end != NULL) {
        end->data[0] = 0;
        dp_send_enqueue(channel, end);
    } else if (end_is_missing(channel)) {
        dp_sctp_fail(channel->sctp, DP_ERR_NO_MEMORY);
    }
    channel->in_message = false;
}

bool dp_send_unfinished(dp_channel *channel)
{
    if (!channel->in_message)
        return false;
    if (end_is_missing(channel))
        return true;
    dp_message *kept = NULL;
    for (dp_message *at = channel->head; at != NULL; at = at->next)
        kept = at->goes_on ? kept : at;
    drop_behind(channel, kept);
    channel->in_message = false;
    return false;
}

void dp_send_forget(dp_channel *channel)
{
    while (channel->head != NULL)
        pop_message(channel);
    channel->buffered = 0;
    ends(channel);
}

/* ---- whose turn it is --------------------------------------------------------------------------- */

/* RFC 8831 §6.4: a channel of a higher priority gets more of what there is, and none starves. */
static int share(const dp_channel *channel)
{
    switch (channel->priority) {
    case DP_CHANNEL_PRIORITY_VERY_LOW:
        return QUANTUM;
    case DP_CHANNEL_PRIORITY_LOW:
        return 2 * QUANTUM;
    case DP_CHANNEL_PRIORITY_MEDIUM:
        return 4 * QUANTUM;
    default:
        return 8 * QUANTUM;
    }
}

static void append_ready(dp_channel *channel)
{
    dp_sctp *sctp = channel->sctp;
    channel->ready = true;
    channel->next_ready = NULL;
    if (sctp->ready_tail == NULL)
        sctp->ready_head = channel;
    else
        sctp->ready_tail->next_ready = channel;
    sctp->ready_tail = channel;
}

void dp_channel_wake(dp_channel *channel)
{
    /* An incoming one may be closed by now, because the peer adds no stream for our answer. */
    if (channel->ready || channel->state == DP_CHANNEL_CLOSED || channel->sctp->state != DP_SCTP_UP)
        return;
    channel->credit = share(channel);
    append_ready(channel);
}

static dp_channel *pop_ready(dp_sctp *sctp)
{
    dp_channel *channel = sctp->ready_head;
    sctp->ready_head = channel->next_ready;
    if (sctp->ready_head == NULL)
        sctp->ready_tail = NULL;
    channel->ready = false;
    return channel;
}

void dp_send_unready(dp_channel *channel)
{
    dp_sctp *sctp = channel->sctp;
    dp_channel *previous = NULL;
    if (!channel->ready)
        return;
    dp_channel *at = sctp->ready_head;
    while (at != channel) {
        previous = at;
        at = at->next_ready;
    }
    if (previous == NULL)
        sctp->ready_head = channel->next_ready;
    else
        previous->next_ready = channel->next_ready;
    if (sctp->ready_tail == channel)
        sctp->ready_tail = previous;
    channel->ready = false;
}

/* ---- handing over ------------------------------------------------------------------------------- */

/* A reset in progress closes our direction: usrsctp takes nothing until the peer has answered. */
static bool stream_blocked(const dp_channel *channel)
{
    const dp_sctp *sctp = channel->sctp;
    return channel->id >= sctp->streams_out ||
           (sctp->streams[channel->id].flags & (DP_STREAM_RESET_SENT | DP_STREAM_OUT_DONE)) != 0;
}

/* Or what waits may not go before the end of this message. */
static bool none_waits_behind(const dp_channel *channel)
{
    const dp_sctp *sctp = channel->sctp;
    return !interleaves(sctp) || sctp->current == channel || sctp->ready_head == NULL ||
           (sctp->ready_head == channel && channel->next_ready == NULL);
}

/* Until the peer has answered its OPEN, a channel is reliable and ordered (RFC 8832 §6). */
static dp_association_outgoing how_to_send(const dp_channel *channel, const dp_message *message)
{
    dp_association_outgoing how = {.stream = (uint16_t)channel->id,
                                   .ppid = message->ppid,
                                   .begun = channel->begun,
                                   .may_wait = none_waits_behind(channel)};
    if (!channel->acked)
        return how;
    how.unordered = message->unordered;
    if (message->expires != DP_TIME_NEVER) {
        dp_time now = channel->sctp->now;
        how.limit = DP_ASSOCIATION_MAX_LIFETIME;
        how.limit_value = message->expires > now ? (uint32_t)((message->expires - now + 999) / 1000) : 0;
    } else if (channel->max_retransmits >= 0) {
        how.limit = DP_ASSOCIATION_MAX_RETRANSMITS;
        how.limit_value = (uint32_t)channel->max_retransmits;
    }
    return how;
}

static void handed_over(dp_channel *channel, const dp_message *message)
{
    if (!message->goes_on) {
        channel->given_up = false;
        ends(channel);
    }
    channel->part_deadline = channel->sctp->now + PART_TIMEOUT;
}

/* How much of the message goes in this turn. */
static size_t piece(const dp_channel *channel, const dp_message *message)
{
    const dp_sctp *sctp = channel->sctp;
    size_t rest = message->len - message->sent;
    if (none_waits_behind(channel))
        return rest;
    size_t fragment = dp_association_fragment(sctp->association);
    size_t most = channel->credit <= 0 ? 0 : ((size_t)channel->credit + fragment - 1) / fragment * fragment;
    return rest < most ? rest : most;
}

/* The message, or one part of it; or, if messages are interleaved, as much of it as the turn allows. */
static int send_message(dp_channel *channel, dp_message *message)
{
    while (message->sent < message->len) {
        dp_association_outgoing how = how_to_send(channel, message);
        size_t n = 0, most = piece(channel, message);
        bool last = most == message->len - message->sent && !message->goes_on;
        if (channel->given_up)
            break;
        if (most == 0)
            return DP_OK;
        int error = dp_association_send(channel->sctp->association, &n, channel->sctp->now, &how,
                                        message->data + message->sent, most, last);
        channel->given_up = error == DP_ERR_CANCELLED;
        if (channel->given_up)
            break;
        if (error != DP_OK)
            return error;
        message->sent += n;
        begins(channel, message);
        channel->credit -= (int64_t)n;
        if (message->counted && channel->buffered >= n)
            left_buffer(channel, n);
    }
    if (message->counted && message->sent < message->len)
        left_buffer(channel, message->len - message->sent);
    message->sent = message->len;
    handed_over(channel, message);
    return DP_OK;
}

static int send_ack(dp_channel *channel)
{
    static const uint8_t ack = DP_DCEP_ACK;
    size_t n = 0;
    dp_association_outgoing how = {.stream = (uint16_t)channel->id, .ppid = DP_PPID_DCEP};
    int error = dp_association_send(channel->sctp->association, &n, channel->sctp->now, &how, &ack, 1, true);
    if (error == DP_OK)
        channel->ack_due = false;
    return error;
}

/* usrsctp looks at a message's lifetime only when it has sent it once. All of a channel's messages live equally long,
 * so the old ones are in front; one that usrsctp has a part of must be completed. */
static void drop_expired(dp_channel *channel)
{
    dp_message *kept = last_begun(channel);
    dp_message **first = kept != NULL ? &kept->next : &channel->head;
    while (*first != NULL && channel->acked && (*first)->expires < channel->sctp->now) {
        dp_message *message = *first;
        *first = message->next;
        if (channel->tail == message)
            channel->tail = kept;
        if (message->counted)
            left_buffer(channel, message->len);
        dp_free(message);
    }
}

/* The ACK of a channel, or its oldest message. */
static int send_next(dp_channel *channel)
{
    if (channel->ack_due)
        return send_ack(channel);
    drop_expired(channel);
    dp_message *message = channel->head;
    if (message == NULL)
        return channel->begun ? DP_ERR_WOULD_BLOCK : DP_OK;
    int error = send_message(channel, message);
    if (error == DP_OK && message->sent == message->len)
        pop_message(channel);
    return error;
}

bool dp_send_has_more(const dp_channel *channel) { return channel->ack_due || channel->head != NULL; }

/* A message that has begun goes on, also before streams are added: they are when all of it is acknowledged. */
static bool may_go_on(const dp_channel *channel)
{
    const dp_sctp *sctp = channel->sctp;
    if (stream_blocked(channel) || channel->begun)
        return !stream_blocked(channel);
    if (sctp->streams_draining)
        return false;
    if (channel->ack_due || channel->head == NULL || sctp->begun_count == 0)
        return true;
    size_t len = channel->head->len;
    return len <= dp_association_fragment(sctp->association) ||
           (sctp->begun_count < DP_ASSOCIATION_BEGUN_MAX && sctp->begun_bytes + len <= BEGUN_BYTES_MAX);
}

/* The channel at the head of the list: WOULD_BLOCK if usrsctp is full. *moved: it was not in vain. */
static int take_turn(dp_sctp *sctp, dp_channel *channel, bool *moved)
{
    int64_t credit = channel->credit;
    bool ack_due = channel->ack_due;
    while (dp_send_has_more(channel) && may_go_on(channel) && channel->credit > 0) {
        int error = send_next(channel);
        if (error != DP_OK)
            return error;
    }
    *moved = channel->credit < credit || channel->ack_due != ack_due || credit <= 0;
    pop_ready(sctp);
    if (!dp_send_has_more(channel)) {
        *moved = true;
        dp_channel_drained(channel);
    } else if (!stream_blocked(channel)) {
        channel->credit += *moved ? share(channel) : 0;
        append_ready(channel);
    }
    return DP_OK;
}

/* Deficit round robin (Shreedhar and Varghese 1995), where a turn may overdraw: what a channel takes too much for
 * a big message it waits for in the next turns. */
void dp_channel_pump(dp_sctp *sctp)
{
    while (sctp->current != NULL) {
        dp_channel *channel = sctp->current;
        if (send_next(channel) != DP_OK)
            return;
        dp_channel_wake(channel);
    }
    dp_streams_grow(sctp);
    const dp_channel *waits = NULL; /* since which nobody could go on */
    while (sctp->ready_head != NULL && sctp->ready_head != waits && sctp->current == NULL &&
           sctp->state == DP_SCTP_UP) {
        dp_channel *channel = sctp->ready_head;
        bool moved;
        if (take_turn(sctp, channel, &moved) != DP_OK)
            return;
        if (moved)
            waits = NULL;
        else if (waits == NULL && channel->ready)
            waits = channel;
    }
}

/* Also while usrsctp is full: bufferedAmount falls, and send accepts newer messages. And an owner that does not go on
 * with a message must not hold all channels for ever. */
void dp_send_expire(dp_sctp *sctp)
{
    for (dp_channel *channel = sctp->ready_head; channel != NULL; channel = channel->next_ready)
        drop_expired(channel);
    if (sctp->current != NULL && sctp->current->head == NULL && sctp->now >= sctp->current->part_deadline)
        dp_sctp_fail(sctp, DP_ERR_TIMEOUT);
}

/* ---- send --------------------------------------------------------------------------------------- */

static uint32_t ppid_of(bool binary, bool empty)
{
    if (empty)
        return binary ? DP_PPID_BINARY_EMPTY : DP_PPID_TEXT_EMPTY;
    return binary ? DP_PPID_BINARY : DP_PPID_TEXT;
}

/* before: the bytes of the message that were accepted. */
static int check(const dp_channel *channel, const uint8_t *data, size_t len, uint64_t before)
{
    size_t most = channel->sctp->remote_max_message_size;
    if (channel->state != DP_CHANNEL_OPEN)
        return DP_ERR_INVALID_STATE;
    if (data == NULL && len > 0)
        return DP_ERR_INVALID_ARGUMENT;
    if (most != 0 && len > most - before)
        return DP_ERR_TOO_LARGE;
    return channel->buffered > QUEUE_LIMIT ? DP_ERR_WOULD_BLOCK : DP_OK;
}

/* Nothing waits before it. */
static bool at_once(const dp_channel *channel)
{
    const dp_sctp *sctp = channel->sctp;
    bool its_turn = sctp->current == channel ||
                    (sctp->current == NULL && sctp->ready_head == NULL && !sctp->streams_draining);
    return its_turn && channel->head == NULL && !stream_blocked(channel);
}

/* The usual case: nothing waits, so usrsctp reads the caller's own bytes. The block for what may be left over
 * is there before the first byte is handed over, because a message that has begun cannot be taken back. */
static void hand_over(dp_channel *channel, dp_message *message, const uint8_t *bytes)
{
    dp_sctp *sctp = channel->sctp;
    if (at_once(channel)) {
        dp_association_outgoing how = how_to_send(channel, message);
        int error = channel->given_up ? DP_ERR_CANCELLED
                                      : dp_association_send(sctp->association, &message->sent, sctp->now,
                                                            &how, bytes, message->len, !message->goes_on);
        channel->given_up = error == DP_ERR_CANCELLED;
        if (message->sent > 0)
            begins(channel, message);
        if (message->sent == message->len) {
            handed_over(channel, message);
            dp_free(message);
            return;
        }
    }
    memcpy(message->data + message->sent, bytes + message->sent, message->len - message->sent);
    bool newly = !channel->ready;
    dp_send_enqueue(channel, message);
    dp_channel_wake(channel);
    if (newly && channel->ready && sctp->ready_head != channel && interleaves(sctp))
        dp_channel_pump(
            sctp); /* the end of another channel's message may wait for more of its size to leave */
}

int dp_channel_send(dp_channel *channel, dp_time now, const uint8_t *data, size_t len, bool binary,
                    bool force_ordered)
{
    static const uint8_t zero = 0;
    int error = channel->in_message ? DP_ERR_INVALID_STATE : check(channel, data, len, 0);
    if (error != DP_OK)
        return error;
    channel->sctp->now = now;
    bool empty = len == 0;
    dp_message *message = dp_message_new(empty ? 1 : len);
    if (message == NULL)
        return DP_ERR_NO_MEMORY;
    message->ppid = ppid_of(binary, empty);
    channel->stats.messages_sent++;
    channel->stats.bytes_sent += len;
    message->unordered = !channel->ordered && !force_ordered;
    message->counted = !empty;
    if (channel->max_packet_lifetime >= 0)
        message->expires = now + DP_MS(channel->max_packet_lifetime);
    hand_over(channel, message, empty ? &zero : data);
    return DP_OK;
}

int dp_channel_send_part(dp_channel *channel, dp_time now, const uint8_t *data, size_t len, bool binary,
                         bool last)
{
    uint64_t before = channel->in_message ? channel->part_bytes : 0;
    if (len == 0 || (channel->in_message && binary != channel->part_binary))
        return DP_ERR_INVALID_ARGUMENT;
    int error = check(channel, data, len, before);
    if (error != DP_OK)
        return error;
    dp_message *part = dp_message_new(len);
    if (part == NULL)
        return DP_ERR_NO_MEMORY;
    channel->sctp->now = now;
    part->ppid = ppid_of(binary, false);
    part->unordered = !channel->ordered;
    part->counted = true;
    part->goes_on = !last;
    channel->in_message = !last;
    channel->part_binary = binary;
    channel->part_bytes = before + len;
    channel->stats.messages_sent += last;
    channel->stats.bytes_sent += len;
    hand_over(channel, part, data);
    dp_channel_pump(channel->sctp); /* others may have waited for the last part */
    return DP_OK;
}

size_t dp_channel_buffered_amount(const dp_channel *channel) { return channel->buffered; }

void dp_channel_get_stats(const dp_channel *channel, dp_channel_stats *out) { *out = channel->stats; }

void dp_channel_set_buffered_amount_low_threshold(dp_channel *channel, size_t bytes)
{
    /* Not over the limit of send, or the event that WOULD_BLOCK promises would never come. */
    channel->low_threshold = bytes < QUEUE_LIMIT ? bytes : QUEUE_LIMIT;
}
