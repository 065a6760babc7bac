/* Channels: opening, sending in turn, closing by stream reset. */
#include "internal.h"

#include "base/mem.h"
#include "dcep.h"

#include <string.h>

#define QUEUE_LIMIT   (1u << 20)     /* bufferedAmount over this: WOULD_BLOCK */
#define CLOSE_TIMEOUT DP_SECONDS(30) /* for the peer's answer to our reset */
#define RESET_RETRY   DP_MS(200)

/* ---- streams ----------------------------------------------------------------------------------- */

dp_stream *dp_stream_get(dp_sctp *sctp, uint16_t id)
{
    return id < sctp->stream_capacity ? &sctp->streams[id] : NULL;
}

int dp_stream_use(dp_sctp *sctp, dp_stream **out, uint16_t id)
{
    size_t old = sctp->stream_capacity;
    if (id >= sctp->stream_limit)
        return DP_ERR_LIMIT;
    if (id >= old) {
        int error = dp_grow((void **)&sctp->streams, &sctp->stream_capacity, (size_t)id + 1, UINT16_MAX + 1u,
                            sizeof *sctp->streams);
        if (error != DP_OK)
            return error;
        memset(sctp->streams + old, 0, (sctp->stream_capacity - old) * sizeof *sctp->streams);
    }
    *out = &sctp->streams[id];
    return DP_OK;
}

/* The lowest free id of our parity (RFC 8832 §6: the DTLS client uses the even ones). */
static int allocate_id(dp_sctp *sctp, uint16_t *id)
{
    for (uint32_t i = sctp->dtls_client ? 0 : 1; i < sctp->stream_limit; i += 2) {
        dp_stream *stream = dp_stream_get(sctp, (uint16_t)i);
        if (stream == NULL || (stream->channel == NULL && stream->flags == 0)) {
            *id = (uint16_t)i;
            return DP_OK;
        }
    }
    return DP_ERR_LIMIT;
}

static void try_reset(dp_sctp *sctp, uint16_t id, dp_stream *stream)
{
    if (sctp->state == DP_SCTP_UP && dp_association_reset_stream(sctp->association, id) == DP_OK) {
        stream->flags &= ~(unsigned)DP_STREAM_RESET_WANTED;
        stream->flags |= DP_STREAM_RESET_SENT;
    } else {
        stream->flags |= DP_STREAM_RESET_WANTED;
        if (!sctp->resets_wanted)
            sctp->reset_retry = sctp->now + RESET_RETRY;
        sctp->resets_wanted = true;
    }
}

void dp_stream_reset(dp_sctp *sctp, uint16_t id)
{
    dp_stream *stream;
    if (dp_stream_use(sctp, &stream, id) != DP_OK)
        return;
    if ((stream->flags & (DP_STREAM_RESET_WANTED | DP_STREAM_RESET_SENT | DP_STREAM_OUT_DONE)) == 0)
        try_reset(sctp, id, stream);
}

void dp_stream_retry_resets(dp_sctp *sctp)
{
    if (!sctp->resets_wanted || sctp->now < sctp->reset_retry)
        return;
    sctp->resets_wanted = false;
    for (size_t i = 0; i < sctp->stream_capacity; i++)
        if ((sctp->streams[i].flags & DP_STREAM_RESET_WANTED) != 0)
            try_reset(sctp, (uint16_t)i, &sctp->streams[i]);
}

static void check_both_reset(dp_stream *stream)
{
    unsigned both = DP_STREAM_OUT_DONE | DP_STREAM_IN_DONE;
    if ((stream->flags & both) != both)
        return;
    stream->flags = 0;
    if (stream->channel != NULL)
        dp_channel_finish(stream->channel);
}

static void discard_queue(dp_channel *channel);

/* RFC 8831 §6.7: the peer has closed; what we have queued reaches nobody any more, and our direction is reset
 * in turn. */
static void reset_by_peer(dp_sctp *sctp, uint16_t id, dp_stream *stream)
{
    dp_channel *channel = stream->channel;
    dp_receive_drop_stream(sctp, id);
    if (channel == NULL) {
        /* Nobody's stream: only if we are resetting it ourselves there is something to wait for. */
        if (stream->flags != 0)
            stream->flags |= DP_STREAM_IN_DONE;
        return;
    }
    stream->flags |= DP_STREAM_IN_DONE;
    discard_queue(channel);
    dp_channel_close(channel, sctp->now);
}

static void our_reset_done(dp_sctp *sctp, dp_stream *stream, bool failed)
{
    if ((stream->flags & DP_STREAM_RESET_SENT) == 0)
        return;
    stream->flags &= ~(unsigned)DP_STREAM_RESET_SENT;
    if ((stream->flags & DP_STREAM_STALE) != 0) {
        stream->flags &= ~(unsigned)DP_STREAM_STALE;
        if (stream->channel != NULL)
            dp_channel_wake(stream->channel); /* what waited for the previous channel's reset */
    } else if (failed) {
        stream->flags |= DP_STREAM_RESET_WANTED;
        sctp->resets_wanted = true;
        sctp->reset_retry = sctp->now + RESET_RETRY;
    } else {
        stream->flags |= DP_STREAM_OUT_DONE;
    }
}

void dp_stream_was_reset(dp_sctp *sctp, uint16_t id, const dp_association_event *event)
{
    dp_stream *stream = dp_stream_get(sctp, id);
    if (stream == NULL)
        return;
    if (event->reset_outgoing)
        our_reset_done(sctp, stream, event->reset_failed);
    if (event->reset_incoming && !event->reset_failed)
        reset_by_peer(sctp, id, stream);
    check_both_reset(stream);
    dp_channel_pump(sctp);
}

/* ---- life -------------------------------------------------------------------------------------- */

static void set_state(dp_channel *channel, dp_channel_state state)
{
    static const char *const names[] = {"connecting", "open", "closing", "closed"};
    DP_LOG(&channel->sctp->log, DP_LOG_DEBUG, "sctp", "channel %d: %s -> %s", channel->id,
           names[channel->state], names[state]);
    if (state == DP_CHANNEL_CLOSING)
        channel->sctp->closing_count++;
    if (channel->state == DP_CHANNEL_CLOSING)
        channel->sctp->closing_count--;
    channel->state = state;
}

int dp_channel_new(dp_channel **out, dp_sctp *sctp, dp_slice label, dp_slice protocol, bool ordered)
{
    if (sctp->channel_count >= sctp->config.max_channels)
        return DP_ERR_LIMIT;
    dp_channel *channel = (dp_channel *)dp_calloc(1, sizeof *channel);
    if (channel == NULL)
        return DP_ERR_NO_MEMORY;
    channel->label = dp_strndup(label.at, label.len);
    channel->protocol = dp_strndup(protocol.at, protocol.len);
    if (channel->label == NULL || channel->protocol == NULL) {
        dp_free(channel->label);
        dp_free(channel->protocol);
        dp_free(channel);
        return DP_ERR_NO_MEMORY;
    }
    channel->sctp = sctp;
    channel->id = -1;
    channel->ordered = ordered;
    channel->next = sctp->channels;
    if (sctp->channels != NULL)
        sctp->channels->previous = channel;
    sctp->channels = channel;
    sctp->channel_count++;
    *out = channel;
    return DP_OK;
}

void dp_channel_event(dp_channel *channel, unsigned pending)
{
    dp_sctp *sctp = channel->sctp;
    channel->pending |= pending;
    if (channel->has_event)
        return;
    channel->has_event = true;
    channel->next_event = NULL;
    if (sctp->event_tail == NULL)
        sctp->event_head = channel;
    else
        sctp->event_tail->next_event = channel;
    sctp->event_tail = channel;
}

static void pop_message(dp_channel *channel)
{
    dp_message *message = channel->head;
    channel->head = message->next;
    if (channel->head == NULL)
        channel->tail = NULL;
    dp_free(message);
}

static void sent_bytes(dp_channel *channel, size_t n)
{
    size_t before = channel->buffered;
    channel->buffered -= n;
    if (before > channel->low_threshold && channel->buffered <= channel->low_threshold &&
        channel->state == DP_CHANNEL_OPEN)
        dp_channel_event(channel, DP_PENDING_LOW);
}

/* Drops what waits. A message that usrsctp has a part of stays: its rest must follow, or nothing else ever
 * leaves. */
static void discard_queue(dp_channel *channel)
{
    dp_message *message = channel->head;
    if (message != NULL && message->begun) {
        dp_message *first = message;
        message = message->next;
        first->next = NULL;
        channel->tail = first;
        channel->buffered = first->counted ? first->len - first->sent : 0;
    } else {
        channel->head = channel->tail = NULL;
        channel->buffered = 0;
    }
    while (message != NULL) {
        dp_message *next = message->next;
        dp_free(message);
        message = next;
    }
    channel->ack_due = false;
}

static void unlink_ready(dp_channel *channel)
{
    dp_sctp *sctp = channel->sctp;
    dp_channel *previous = NULL;
    for (dp_channel *at = sctp->ready_head; at != NULL; previous = at, at = at->next_ready) {
        if (at != channel)
            continue;
        if (previous == NULL)
            sctp->ready_head = channel->next_ready;
        else
            previous->next_ready = channel->next_ready;
        if (sctp->ready_tail == channel)
            sctp->ready_tail = previous;
        break;
    }
    channel->ready = false;
}

void dp_channel_free(dp_channel *channel)
{
    dp_sctp *sctp = channel->sctp;
    if (channel->previous != NULL)
        channel->previous->next = channel->next;
    else
        sctp->channels = channel->next;
    if (channel->next != NULL)
        channel->next->previous = channel->previous;
    while (channel->head != NULL)
        pop_message(channel);
    dp_free(channel->label);
    dp_free(channel->protocol);
    dp_free(channel);
}

void dp_channel_finish(dp_channel *channel)
{
    dp_sctp *sctp = channel->sctp;
    if (channel->state == DP_CHANNEL_CLOSED)
        return;
    if (channel->ready)
        unlink_ready(channel);
    if (channel->id >= 0 && sctp->streams[channel->id].channel == channel)
        sctp->streams[channel->id].channel = NULL;
    set_state(channel, DP_CHANNEL_CLOSED);
    sctp->channel_count--;
    while (channel->head != NULL)
        pop_message(channel);
    if (sctp->current == channel)
        sctp->current = NULL;
    channel->buffered = 0;
    channel->pending &= ~(unsigned)DP_PENDING_LOW;
    dp_channel_event(channel, DP_PENDING_CLOSED);
}

/* ---- opening ----------------------------------------------------------------------------------- */

static dp_message *message_new(size_t len)
{
    if (len > SIZE_MAX - sizeof(dp_message))
        return NULL;
    dp_message *message = (dp_message *)dp_alloc(sizeof *message + len);
    if (message != NULL) {
        memset(message, 0, sizeof *message);
        message->len = len;
    }
    return message;
}

static void enqueue(dp_channel *channel, dp_message *message)
{
    if (channel->tail == NULL)
        channel->head = message;
    else
        channel->tail->next = message;
    channel->tail = message;
    if (message->counted)
        channel->buffered += message->len - message->sent;
}

void dp_channel_wake(dp_channel *channel)
{
    dp_sctp *sctp = channel->sctp;
    if (channel->ready || sctp->state != DP_SCTP_UP)
        return;
    channel->ready = true;
    channel->next_ready = NULL;
    if (sctp->ready_tail == NULL)
        sctp->ready_head = channel;
    else
        sctp->ready_tail->next_ready = channel;
    sctp->ready_tail = channel;
}

static int assign_id(dp_channel *channel)
{
    uint16_t id;
    dp_stream *stream;
    int error = allocate_id(channel->sctp, &id);
    if (error == DP_OK)
        error = dp_stream_use(channel->sctp, &stream, id);
    if (error != DP_OK)
        return error;
    stream->channel = channel;
    channel->id = id;
    return DP_OK;
}

/* The OPEN waits in the queue: it leaves first, and data may follow it at once (RFC 8832 §6). */
static int enqueue_open(dp_channel *channel)
{
    dp_dcep_open open;
    memset(&open, 0, sizeof open);
    open.channel_type = channel->ordered ? DP_DCEP_RELIABLE : DP_DCEP_RELIABLE | DP_DCEP_UNORDERED;
    open.priority = DP_DCEP_PRIORITY;
    open.label = (dp_slice){channel->label, strlen(channel->label)};
    open.protocol = (dp_slice){channel->protocol, strlen(channel->protocol)};
    dp_message *message = message_new(DP_DCEP_OPEN_HEADER + open.label.len + open.protocol.len);
    if (message == NULL)
        return DP_ERR_NO_MEMORY;
    message->ppid = DP_PPID_DCEP;
    int error = dp_dcep_write_open(message->data, message->len, &message->len, &open);
    if (error != DP_OK) {
        dp_free(message);
        return error;
    }
    enqueue(channel, message);
    return DP_OK;
}

static void became_open(dp_channel *channel)
{
    set_state(channel, DP_CHANNEL_OPEN);
    dp_channel_event(channel, DP_PENDING_OPEN);
    dp_channel_wake(channel);
}

static void forget(dp_channel *channel)
{
    dp_sctp *sctp = channel->sctp;
    if (channel->id >= 0)
        sctp->streams[channel->id].channel = NULL;
    sctp->channel_count--;
    dp_channel_free(channel);
}

static bool init_valid(const dp_channel_init *init)
{
    return init != NULL && init->size >= sizeof *init && init->label != NULL &&
           dp_utf8_valid((const uint8_t *)init->label, strlen(init->label)) &&
           (init->protocol == NULL || dp_utf8_valid((const uint8_t *)init->protocol, strlen(init->protocol)));
}

int dp_sctp_open_channel(dp_sctp *sctp, dp_channel **out, dp_time now, const dp_channel_init *init)
{
    if (!init_valid(init))
        return DP_ERR_INVALID_ARGUMENT;
    dp_slice label = {init->label, strlen(init->label)};
    dp_slice protocol = {init->protocol == NULL ? "" : init->protocol, 0};
    protocol.len = strlen(protocol.at);
    if (label.len > UINT16_MAX || protocol.len > UINT16_MAX)
        return DP_ERR_TOO_LARGE;
    if (sctp->state == DP_SCTP_DOWN)
        return DP_ERR_CLOSED;
    sctp->now = now;
    dp_channel *channel;
    int error = dp_channel_new(&channel, sctp, label, protocol, init->ordered);
    if (error != DP_OK)
        return error;
    if (sctp->state != DP_SCTP_NEW)
        error = assign_id(channel);
    if (error == DP_OK)
        error = enqueue_open(channel);
    if (error != DP_OK) {
        forget(channel);
        return error;
    }
    if (sctp->state == DP_SCTP_UP) {
        became_open(channel);
        dp_channel_pump(sctp);
    }
    *out = channel;
    return DP_OK;
}

/* Oldest first: the list has the newest at its head. */
static dp_channel *oldest(dp_sctp *sctp)
{
    dp_channel *channel = sctp->channels;
    while (channel != NULL && channel->next != NULL)
        channel = channel->next;
    return channel;
}

void dp_channel_assign_all(dp_sctp *sctp)
{
    for (dp_channel *channel = oldest(sctp), *before; channel != NULL; channel = before) {
        before = channel->previous;
        if (channel->state != DP_CHANNEL_CONNECTING || channel->id >= 0)
            continue;
        int error = assign_id(channel);
        if (error != DP_OK)
            dp_channel_fail(channel, error);
    }
}

void dp_channel_association_up(dp_sctp *sctp, uint16_t streams)
{
    if (streams < sctp->stream_limit)
        sctp->stream_limit = streams;
    for (dp_channel *channel = oldest(sctp), *before; channel != NULL; channel = before) {
        before = channel->previous;
        if (channel->state != DP_CHANNEL_CONNECTING)
            continue;
        if (channel->id >= sctp->stream_limit)
            dp_channel_fail(channel, DP_ERR_LIMIT);
        else
            became_open(channel);
    }
    dp_channel_pump(sctp);
}

/* ---- sending ----------------------------------------------------------------------------------- */

/* A reset in progress closes our direction: usrsctp takes nothing until the peer has answered. */
static bool stream_blocked(const dp_channel *channel)
{
    const dp_stream *stream = &channel->sctp->streams[channel->id];
    return (stream->flags & (DP_STREAM_RESET_SENT | DP_STREAM_OUT_DONE)) != 0;
}

static int send_message(dp_channel *channel, dp_message *message)
{
    dp_sctp *sctp = channel->sctp;
    while (message->sent < message->len) {
        size_t n = 0;
        dp_association_outgoing how = {
            .stream = (uint16_t)channel->id, .ppid = message->ppid, .unordered = message->unordered};
        int error = dp_association_send(sctp->association, &n, &how, message->data + message->sent,
                                        message->len - message->sent, true);
        if (error != DP_OK)
            return error;
        message->sent += n;
        message->begun = true;
        if (message->counted && channel->buffered >= n)
            sent_bytes(channel, n);
    }
    return DP_OK;
}

static int send_ack(dp_channel *channel)
{
    static const uint8_t ack = DP_DCEP_ACK;
    size_t n = 0;
    dp_association_outgoing how = {.stream = (uint16_t)channel->id, .ppid = DP_PPID_DCEP};
    int error = dp_association_send(channel->sctp->association, &n, &how, &ack, 1, true);
    if (error == DP_OK)
        channel->ack_due = false;
    return error;
}

/* One turn of a channel: its ACK, or its oldest message. */
static int send_turn(dp_channel *channel)
{
    dp_sctp *sctp = channel->sctp;
    if (channel->ack_due)
        return send_ack(channel);
    dp_message *message = channel->head;
    if (message == NULL)
        return DP_OK;
    if (!message->begun && !channel->acked)
        message->unordered = false;
    int error = send_message(channel, message);
    sctp->current = error != DP_OK && message->begun ? channel : NULL;
    if (error == DP_OK)
        pop_message(channel);
    return error;
}

static bool has_more(const dp_channel *channel) { return channel->ack_due || channel->head != NULL; }

/* The queue is empty: a channel that closes resets its stream now. */
static void drained(dp_channel *channel)
{
    if (channel->state == DP_CHANNEL_CLOSING)
        dp_stream_reset(channel->sctp, (uint16_t)channel->id);
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

void dp_channel_pump(dp_sctp *sctp)
{
    if (sctp->current != NULL) {
        dp_channel *channel = sctp->current;
        if (send_turn(channel) != DP_OK)
            return;
        dp_channel_wake(channel);
    }
    while (sctp->ready_head != NULL && sctp->state == DP_SCTP_UP) {
        dp_channel *channel = sctp->ready_head;
        if (has_more(channel) && !stream_blocked(channel) && send_turn(channel) != DP_OK)
            return;
        pop_ready(sctp);
        if (!has_more(channel))
            drained(channel);
        else if (!stream_blocked(channel))
            dp_channel_wake(channel);
    }
}

/* The usual case: nothing waits, so usrsctp reads the caller's own bytes. The block for what may be left over
 * is there before the first byte is handed over, because a message that has begun cannot be taken back. */
int dp_channel_send(dp_channel *channel, dp_time now, const uint8_t *data, size_t len, bool binary,
                    bool force_ordered)
{
    static const uint8_t zero = 0;
    dp_sctp *sctp = channel->sctp;
    if (channel->state != DP_CHANNEL_OPEN)
        return DP_ERR_INVALID_STATE;
    if (data == NULL && len > 0)
        return DP_ERR_INVALID_ARGUMENT;
    if (sctp->remote_max_message_size != 0 && len > sctp->remote_max_message_size)
        return DP_ERR_TOO_LARGE;
    if (channel->buffered > QUEUE_LIMIT)
        return DP_ERR_WOULD_BLOCK;
    sctp->now = now;
    bool empty = len == 0;
    dp_message *message = message_new(empty ? 1 : len);
    if (message == NULL)
        return DP_ERR_NO_MEMORY;
    if (empty)
        message->ppid = binary ? DP_PPID_BINARY_EMPTY : DP_PPID_TEXT_EMPTY;
    else
        message->ppid = binary ? DP_PPID_BINARY : DP_PPID_TEXT;
    message->unordered = !channel->ordered && !force_ordered;
    message->counted = !empty;
    const uint8_t *bytes = empty ? &zero : data;
    if (sctp->ready_head == NULL && sctp->current == NULL && channel->head == NULL &&
        !stream_blocked(channel)) {
        message->unordered = message->unordered && channel->acked;
        dp_association_outgoing how = {
            .stream = (uint16_t)channel->id, .ppid = message->ppid, .unordered = message->unordered};
        (void)dp_association_send(sctp->association, &message->sent, &how, bytes, message->len, true);
        message->begun = message->sent > 0;
        if (message->sent == message->len) {
            dp_free(message);
            return DP_OK;
        }
        if (message->begun)
            sctp->current = channel;
    }
    memcpy(message->data + message->sent, bytes + message->sent, message->len - message->sent);
    enqueue(channel, message);
    dp_channel_wake(channel);
    return DP_OK;
}

size_t dp_channel_buffered_amount(const dp_channel *channel) { return channel->buffered; }

void dp_channel_set_buffered_amount_low_threshold(dp_channel *channel, size_t bytes)
{
    /* Not over the limit of send, or the event that WOULD_BLOCK promises would never come. */
    channel->low_threshold = bytes < QUEUE_LIMIT ? bytes : QUEUE_LIMIT;
}

/* ---- closing ----------------------------------------------------------------------------------- */

void dp_channel_close(dp_channel *channel, dp_time now)
{
    dp_sctp *sctp = channel->sctp;
    sctp->now = now;
    if (channel->state == DP_CHANNEL_CLOSED || channel->state == DP_CHANNEL_CLOSING)
        return;
    if (channel->state == DP_CHANNEL_CONNECTING) {
        dp_channel_finish(channel); /* the peer has never heard of it */
        return;
    }
    set_state(channel, DP_CHANNEL_CLOSING);
    channel->pending &= ~(unsigned)DP_PENDING_LOW;
    channel->close_deadline = now + CLOSE_TIMEOUT;
    if (has_more(channel))
        dp_channel_wake(channel);
    else
        drained(channel);
    dp_channel_pump(sctp);
}

void dp_channel_fail(dp_channel *channel, int error)
{
    if (channel->state == DP_CHANNEL_CLOSED || channel->error != DP_OK)
        return;
    channel->error = error;
    dp_channel_event(channel, DP_PENDING_ERROR);
    dp_channel_close(channel, channel->sctp->now);
}

/* What the owner queued may take long to leave over a slow path; only a peer that does not answer is given
 * up. */
void dp_channel_check_deadlines(dp_sctp *sctp)
{
    if (sctp->closing_count == 0)
        return;
    for (dp_channel *channel = sctp->channels, *next; channel != NULL; channel = next) {
        next = channel->next;
        if (channel->state != DP_CHANNEL_CLOSING)
            continue;
        if (has_more(channel))
            channel->close_deadline = sctp->now + CLOSE_TIMEOUT;
        else if (sctp->now >= channel->close_deadline)
            dp_channel_finish(channel);
    }
}

/* ---- what the owner sees ----------------------------------------------------------------------- */

const char *dp_channel_label(const dp_channel *channel) { return channel->label; }
const char *dp_channel_protocol(const dp_channel *channel) { return channel->protocol; }
int dp_channel_id(const dp_channel *channel) { return channel->id; }
bool dp_channel_ordered(const dp_channel *channel) { return channel->ordered; }
dp_channel_state dp_channel_get_state(const dp_channel *channel) { return channel->state; }
void dp_channel_set_user(dp_channel *channel, void *user) { channel->user = user; }
void *dp_channel_user(const dp_channel *channel) { return channel->user; }
