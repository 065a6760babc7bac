/* A channel's life: opening, closing, its events. */
#include "internal.h"

#include "base/config.h"
#include "base/mem.h"
#include "dcep.h"

#include <string.h>

#define CLOSE_TIMEOUT DP_SECONDS(30) /* for the peer's answer to our reset */

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

int dp_channel_new(dp_channel **out, dp_sctp *sctp, const dp_channel_init *init)
{
    if (sctp->channel_count >= sctp->config.max_channels)
        return DP_ERR_LIMIT;
    dp_channel *channel = (dp_channel *)dp_calloc(1, sizeof *channel);
    if (channel == NULL)
        return DP_ERR_NO_MEMORY;
    channel->label = dp_strndup(init->label, init->label_length);
    channel->label_len = init->label_length;
    channel->protocol = dp_strndup(init->protocol, init->protocol_length);
    channel->protocol_len = init->protocol_length;
    if (channel->label == NULL || channel->protocol == NULL) {
        dp_free(channel->label);
        dp_free(channel->protocol);
        dp_free(channel);
        return DP_ERR_NO_MEMORY;
    }
    channel->sctp = sctp;
    channel->id = -1;
    channel->ordered = init->ordered;
    channel->max_retransmits = init->max_retransmits;
    channel->max_packet_lifetime = init->max_packet_lifetime;
    channel->negotiated = init->negotiated;
    channel->priority = init->priority;
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

void dp_channel_free(dp_channel *channel)
{
    dp_sctp *sctp = channel->sctp;
    if (channel->previous != NULL)
        channel->previous->next = channel->next;
    else
        sctp->channels = channel->next;
    if (channel->next != NULL)
        channel->next->previous = channel->previous;
    dp_send_forget(channel);
    dp_free(channel->label);
    dp_free(channel->protocol);
    dp_free(channel);
}

void dp_channel_finish(dp_channel *channel)
{
    dp_sctp *sctp = channel->sctp;
    if (channel->state == DP_CHANNEL_CLOSED)
        return;
    dp_send_unready(channel);
    if (channel->id >= 0 && sctp->streams[channel->id].channel == channel)
        sctp->streams[channel->id].channel = NULL;
    set_state(channel, DP_CHANNEL_CLOSED);
    sctp->channel_count--;
    dp_send_forget(channel);
    channel->pending &= ~(unsigned)DP_PENDING_LOW;
    dp_receive_break(channel, DP_ERR_CLOSED);
    dp_channel_event(channel, DP_PENDING_CLOSED);
}

/* ---- opening ----------------------------------------------------------------------------------- */

/* The OPEN waits in the queue: it leaves first, and data may follow it at once (RFC 8832 §6). */
static int enqueue_open(dp_channel *channel)
{
    dp_dcep_open open = {.priority = (uint16_t)channel->priority,
                         .label = {channel->label, channel->label_len},
                         .protocol = {channel->protocol, channel->protocol_len}};
    if (channel->max_retransmits >= 0) {
        open.channel_type = DP_DCEP_MAX_RETX;
        open.reliability = (uint32_t)channel->max_retransmits;
    } else if (channel->max_packet_lifetime >= 0) {
        open.channel_type = DP_DCEP_MAX_TIME;
        open.reliability = (uint32_t)channel->max_packet_lifetime;
    }
    if (!channel->ordered)
        open.channel_type |= DP_DCEP_UNORDERED;
    dp_message *message = dp_message_new(DP_DCEP_OPEN_HEADER + open.label.len + open.protocol.len);
    if (message == NULL)
        return DP_ERR_NO_MEMORY;
    message->ppid = DP_PPID_DCEP;
    int error = dp_dcep_write_open(message->data, message->len, &message->len, &open);
    if (error != DP_OK) {
        dp_free(message);
        return error;
    }
    dp_send_enqueue(channel, message);
    return DP_OK;
}

static void became_open(dp_channel *channel)
{
    set_state(channel, DP_CHANNEL_OPEN);
    dp_channel_event(channel, DP_PENDING_OPEN);
    dp_channel_wake(channel);
}

static void open_or_wait(dp_channel *channel)
{
    dp_sctp *sctp = channel->sctp;
    if (channel->id >= sctp->streams_out && channel->id >= sctp->stream_limit) {
        dp_channel_fail(channel, DP_ERR_LIMIT);
        return;
    }
    /* The peer may have its stream of a negotiated channel before we have ours, and sends then. */
    if (channel->id < sctp->streams_out || channel->negotiated)
        became_open(channel);
    dp_streams_want(sctp, channel->id);
}

static void forget(dp_channel *channel)
{
    dp_sctp *sctp = channel->sctp;
    if (channel->id >= 0)
        sctp->streams[channel->id].channel = NULL;
    sctp->channel_count--;
    dp_channel_free(channel);
}

static bool priority_valid(dp_channel_priority priority)
{
    return priority == DP_CHANNEL_PRIORITY_VERY_LOW || priority == DP_CHANNEL_PRIORITY_LOW ||
           priority == DP_CHANNEL_PRIORITY_MEDIUM || priority == DP_CHANNEL_PRIORITY_HIGH;
}

/* W3C webrtc-pc §6.1, createDataChannel. */
static bool init_valid(const dp_channel_init *init)
{
    return dp_utf8_valid((const uint8_t *)init->label, init->label_length) &&
           dp_utf8_valid((const uint8_t *)init->protocol, init->protocol_length) &&
           init->max_retransmits >= -1 && init->max_packet_lifetime >= -1 &&
           (init->max_retransmits == -1 || init->max_packet_lifetime == -1) &&
           (!init->negotiated || (init->id >= 0 && init->id < UINT16_MAX)) && priority_valid(init->priority);
}

/* The caller may have been compiled when there were fewer fields. */
static int read_init(dp_channel_init *init, const dp_channel_init *given)
{
    *init = (dp_channel_init)DP_CHANNEL_INIT(NULL);
    if (!DP_CONFIG_READ(init, given, dp_channel_init, max_retransmits))
        return DP_ERR_INVALID_ARGUMENT;
    if (init->label == NULL || (init->protocol == NULL && init->protocol_length > 0))
        return DP_ERR_INVALID_ARGUMENT;
    if (init->protocol == NULL)
        init->protocol = "";
    if (init->label_length == 0)
        init->label_length = strlen(init->label);
    if (init->protocol_length == 0)
        init->protocol_length = strlen(init->protocol);
    if (!init_valid(init))
        return DP_ERR_INVALID_ARGUMENT;
    return init->label_length > UINT16_MAX || init->protocol_length > UINT16_MAX ? DP_ERR_TOO_LARGE : DP_OK;
}

/* Its stream, as far as it can be known by now, and its OPEN. */
static int prepare(dp_channel *channel, const dp_channel_init *init)
{
    int error = DP_OK;
    if (init->negotiated)
        error = dp_stream_assign_id(channel, (uint16_t)init->id);
    else if (channel->sctp->state != DP_SCTP_NEW)
        error = dp_stream_assign(channel);
    channel->acked = init->negotiated; /* there is nothing to wait for */
    return error == DP_OK && !init->negotiated ? enqueue_open(channel) : error;
}

int dp_sctp_open_channel(dp_sctp *sctp, dp_channel **out, dp_time now, const dp_channel_init *given)
{
    dp_channel_init init;
    int error = read_init(&init, given);
    if (error != DP_OK)
        return error;
    if (sctp->state == DP_SCTP_DOWN)
        return DP_ERR_CLOSED;
    sctp->now = now;
    dp_channel *channel;
    error = dp_channel_new(&channel, sctp, &init);
    if (error != DP_OK)
        return error;
    error = prepare(channel, &init);
    if (error != DP_OK) {
        forget(channel);
        return error;
    }
    if (sctp->state == DP_SCTP_UP) {
        open_or_wait(channel);
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
        int error = dp_stream_assign(channel);
        if (error != DP_OK)
            dp_channel_fail(channel, error);
    }
}

void dp_channel_association_up(dp_sctp *sctp)
{
    for (dp_channel *channel = oldest(sctp), *before; channel != NULL; channel = before) {
        before = channel->previous;
        if (channel->state == DP_CHANNEL_CONNECTING)
            open_or_wait(channel);
    }
    dp_channel_pump(sctp);
}

void dp_channel_streams_added(dp_sctp *sctp)
{
    for (dp_channel *channel = oldest(sctp), *before; channel != NULL; channel = before) {
        before = channel->previous;
        if (channel->state == DP_CHANNEL_CONNECTING)
            open_or_wait(channel);
        else if (channel->state != DP_CHANNEL_CLOSED && dp_send_has_more(channel))
            dp_channel_wake(channel);
    }
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
    if (dp_send_unfinished(channel)) {
        dp_sctp_abort(sctp, now);
        return;
    }
    set_state(channel, DP_CHANNEL_CLOSING);
    channel->pending &= ~(unsigned)DP_PENDING_LOW;
    channel->close_deadline = now + CLOSE_TIMEOUT;
    if (dp_send_has_more(channel))
        dp_channel_wake(channel);
    else
        dp_channel_drained(channel);
    dp_channel_pump(sctp);
}

void dp_channel_drained(dp_channel *channel)
{
    if (channel->state == DP_CHANNEL_CLOSING)
        dp_stream_reset(channel->sctp, (uint16_t)channel->id);
}

void dp_channel_closed_by_peer(dp_channel *channel)
{
    dp_send_discard(channel);
    dp_channel_close(channel, channel->sctp->now);
}

void dp_channel_fail(dp_channel *channel, int error)
{
    if (channel->state == DP_CHANNEL_CLOSED || channel->error != DP_OK)
        return;
    channel->error = error;
    dp_channel_event(channel, DP_PENDING_ERROR);
    dp_channel_close(channel, channel->sctp->now);
}

void dp_channel_drop(dp_channel *channel, int error)
{
    if (channel->state == DP_CHANNEL_CLOSED)
        return;
    if (channel->error == DP_OK)
        dp_channel_event(channel, DP_PENDING_ERROR);
    channel->error = error;
    dp_channel_finish(channel);
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
        if (dp_send_has_more(channel)) {
            channel->close_deadline = sctp->now + CLOSE_TIMEOUT;
            continue;
        }
        dp_channel_drained(channel); /* even if it is not its turn yet: what it had to send has expired */
        if (sctp->now >= channel->close_deadline)
            dp_channel_finish(channel);
    }
}

/* ---- what the owner sees ----------------------------------------------------------------------- */

const char *dp_channel_label(const dp_channel *channel) { return channel->label; }
size_t dp_channel_label_length(const dp_channel *channel) { return channel->label_len; }
const char *dp_channel_protocol(const dp_channel *channel) { return channel->protocol; }
size_t dp_channel_protocol_length(const dp_channel *channel) { return channel->protocol_len; }
int dp_channel_id(const dp_channel *channel) { return channel->id; }
bool dp_channel_ordered(const dp_channel *channel) { return channel->ordered; }
int32_t dp_channel_max_retransmits(const dp_channel *channel) { return channel->max_retransmits; }
int32_t dp_channel_max_packet_lifetime(const dp_channel *channel) { return channel->max_packet_lifetime; }
bool dp_channel_negotiated(const dp_channel *channel) { return channel->negotiated; }
dp_channel_priority dp_channel_get_priority(const dp_channel *channel) { return channel->priority; }
dp_channel_state dp_channel_get_state(const dp_channel *channel) { return channel->state; }
void dp_channel_set_user(dp_channel *channel, void *user) { channel->user = user; }
void *dp_channel_user(const dp_channel *channel) { return channel->user; }
