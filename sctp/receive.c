/* From pieces to messages to events. Nothing is read from usrsctp before the owner asks for an event, so an
 * owner that stops asking closes the peer's window: back-pressure without a queue of our own. */
#include "internal.h"

#include "base/mem.h"
#include "dcep.h"

#include <string.h>

#define PARTIAL_INITIAL 16384u
#define SPARE_KEPT      DP_MS(500) /* after the last message: an idle association holds no buffer */

/* ---- partial messages --------------------------------------------------------------------------- */

static void partial_free(dp_partial *partial)
{
    if (partial == NULL)
        return;
    dp_free(partial->data);
    dp_free(partial);
}

static void recycle(dp_sctp *sctp, dp_partial *partial)
{
    partial->len = 0;
    partial->given = 0;
    partial->discard = partial->ended = false;
    if (sctp->spare == NULL)
        sctp->spare = partial;
    else
        partial_free(partial);
}

void dp_receive_release(dp_sctp *sctp)
{
    if (sctp->delivered != NULL)
        recycle(sctp, sctp->delivered);
    sctp->delivered = NULL;
    dp_partial *partial = sctp->parting;
    if (partial == NULL)
        return;
    partial->len -= sctp->part_len;
    sctp->partial_bytes -= sctp->part_len;
    memmove(partial->data, partial->data + sctp->part_len, partial->len);
    sctp->part_len = 0;
    if (!partial->ended)
        sctp->parting = NULL; /* there is more to read first */
}

void dp_receive_shrink(dp_sctp *sctp)
{
    if (sctp->now < sctp->received_at + SPARE_KEPT)
        return;
    partial_free(sctp->spare);
    sctp->spare = NULL;
}

static dp_partial *take_spare(dp_sctp *sctp)
{
    dp_partial *partial = sctp->spare;
    sctp->spare = NULL;
    return partial != NULL ? partial : (dp_partial *)dp_calloc(1, sizeof(dp_partial));
}

/* Room for one more read behind what is there. */
static bool make_room(dp_sctp *sctp, dp_partial *partial, size_t more)
{
    size_t needed = partial->len + more;
    if (needed <= partial->capacity)
        return true;
    size_t most = sctp->config.max_message_size + (size_t)2 * DP_ASSOCIATION_READ_MIN;
    if (needed < PARTIAL_INITIAL && PARTIAL_INITIAL <= most)
        needed = PARTIAL_INITIAL;
    return dp_grow((void **)&partial->data, &partial->capacity, needed, most, 1) == DP_OK;
}

static dp_partial *find_partial(dp_sctp *sctp, const dp_association_event *event)
{
    dp_partial *at = sctp->partials;
    while (at != NULL &&
           (at->stream != event->stream || at->unordered != event->unordered || at->mid != event->mid))
        at = at->next;
    return at;
}

static void unlink_partial(dp_sctp *sctp, dp_partial *partial)
{
    dp_partial **at = &sctp->partials;
    while (*at != NULL && *at != partial)
        at = &(*at)->next;
    if (*at != NULL)
        *at = partial->next;
    partial->next = NULL;
    sctp->partial_bytes -= partial->len;
    if (sctp->parting == partial) {
        sctp->parting = NULL;
        sctp->part_len = 0;
    }
}

void dp_receive_break(dp_channel *channel, int error)
{
    if (!channel->in_parts)
        return;
    channel->in_parts = false;
    channel->part_error = error;
    dp_channel_event(channel, DP_PENDING_PART);
}

void dp_receive_drop_stream(dp_sctp *sctp, uint16_t id)
{
    for (dp_partial *at = sctp->partials, *next; at != NULL; at = next) {
        next = at->next;
        if (at->stream != id)
            continue;
        unlink_partial(sctp, at);
        recycle(sctp, at);
    }
}

void dp_receive_clear(dp_sctp *sctp)
{
    while (sctp->partials != NULL) {
        dp_partial *partial = sctp->partials;
        unlink_partial(sctp, partial);
        partial_free(partial);
    }
    partial_free(sctp->spare);
    partial_free(sctp->delivered);
    sctp->spare = sctp->delivered = NULL;
}

/* ---- messages ----------------------------------------------------------------------------------- */

static void refuse(dp_sctp *sctp, uint16_t id, const char *why)
{
    DP_LOG(&sctp->log, DP_LOG_WARN, "sctp", "channel on stream %u refused: %s", id, why);
    sctp->dropped++;
    dp_stream *stream = dp_stream_get(sctp, id);
    if (stream != NULL && stream->channel != NULL)
        dp_channel_fail(stream->channel, DP_ERR_PROTOCOL);
    else
        dp_stream_reset(sctp, id);
}

/* RFC 8832 §6: the peer may use an id of its parity that is free in both directions. It may know so before we
 * do: its OPEN can overtake the answer to our reset, which then still belongs to the channel before. */
static bool free_for_peer(dp_stream *stream)
{
    if (stream->channel == NULL && stream->flags == 0)
        return true;
    unsigned both = DP_STREAM_IN_DONE | DP_STREAM_RESET_SENT;
    if ((stream->flags & both) != both || (stream->flags & DP_STREAM_STALE) != 0)
        return false;
    if (stream->channel != NULL)
        dp_channel_finish(stream->channel);
    stream->flags = DP_STREAM_RESET_SENT | DP_STREAM_STALE;
    return true;
}

/* W3C webrtc-priority §4.1 for the numbers between RFC 8831's; 0 is what aiortc and werift send who know of none. */
static dp_channel_priority nearest_priority(uint16_t number)
{
    if (number == 0)
        return DP_CHANNEL_PRIORITY_LOW;
    if (number <= DP_CHANNEL_PRIORITY_VERY_LOW)
        return DP_CHANNEL_PRIORITY_VERY_LOW;
    if (number <= DP_CHANNEL_PRIORITY_LOW)
        return DP_CHANNEL_PRIORITY_LOW;
    return number <= DP_CHANNEL_PRIORITY_MEDIUM ? DP_CHANNEL_PRIORITY_MEDIUM : DP_CHANNEL_PRIORITY_HIGH;
}

/* The same channel as the peer's. werift writes unordered with retransmits as 0x01, ordered: it receives as ordered
 * then, while each message of its own says itself how it wants to be delivered. */
static dp_channel_init init_of(const dp_dcep_open *open)
{
    dp_channel_init init = DP_CHANNEL_INIT(open->label.at);
    init.label_length = open->label.len;
    init.protocol = open->protocol.at;
    init.protocol_length = open->protocol.len;
    int32_t limit = open->reliability > INT32_MAX ? INT32_MAX : (int32_t)open->reliability;
    unsigned type = open->channel_type & ~DP_DCEP_UNORDERED;
    init.ordered = (open->channel_type & DP_DCEP_UNORDERED) == 0;
    init.max_retransmits = type == DP_DCEP_MAX_RETX ? limit : -1;
    init.max_packet_lifetime = type == DP_DCEP_MAX_TIME ? limit : -1;
    init.priority = nearest_priority(open->priority);
    return init;
}

static void receive_open(dp_sctp *sctp, uint16_t id, const dp_dcep_open *open)
{
    dp_stream *stream;
    if ((id % 2 == 0) == sctp->dtls_client) {
        refuse(sctp, id, "the id has our parity");
        return;
    }
    int error = dp_stream_use(sctp, &stream, id);
    if (error == DP_ERR_NO_MEMORY) {
        dp_sctp_went_down(sctp, error); /* the peer would take the channel for open */
        return;
    }
    if (error != DP_OK) {
        sctp->dropped++;
        return;
    }
    if (!free_for_peer(stream)) {
        refuse(sctp, id, "the stream is in use");
        return;
    }
    dp_channel *channel;
    dp_channel_init init = init_of(open);
    if (dp_channel_new(&channel, sctp, &init) != DP_OK) {
        refuse(sctp, id, "too many channels or no memory");
        return;
    }
    stream->channel = channel;
    channel->id = id;
    channel->incoming = true;
    channel->acked = true;
    channel->ack_due = true;
    channel->state = DP_CHANNEL_OPEN;
    dp_channel_event(channel, DP_PENDING_OPEN);
    dp_streams_want(sctp, id); /* for the answer */
    dp_channel_wake(channel);
    dp_channel_pump(sctp);
}

static void receive_dcep(dp_sctp *sctp, const dp_partial *message)
{
    dp_dcep_type type;
    dp_dcep_open open;
    int error = dp_dcep_parse(&type, &open, message->data, message->len);
    if (error != DP_OK) {
        refuse(sctp, message->stream, dp_strerror(error));
        return;
    }
    if (type == DP_DCEP_OPEN)
        receive_open(sctp, message->stream, &open);
    /* An ACK says what any message says: receive_message has noted it. */
}

/* Browsers give no message to a channel that was closed on this side, and RFC 8832 §6 lets nobody send before
 * OPEN. NULL: nobody wants it. */
static dp_channel *receiver_of(dp_sctp *sctp, const dp_partial *message, bool *binary, bool *empty)
{
    dp_stream *stream = dp_stream_get(sctp, message->stream);
    dp_channel *channel = stream == NULL ? NULL : stream->channel;
    if (channel != NULL)
        channel->acked = true;
    *binary = message->ppid != DP_PPID_TEXT && message->ppid != DP_PPID_TEXT_PARTIAL &&
              message->ppid != DP_PPID_TEXT_EMPTY;
    *empty = message->ppid == DP_PPID_TEXT_EMPTY || message->ppid == DP_PPID_BINARY_EMPTY;
    bool known =
        !*binary || *empty || message->ppid == DP_PPID_BINARY || message->ppid == DP_PPID_BINARY_PARTIAL;
    return channel != NULL && channel->state == DP_CHANNEL_OPEN && known ? channel : NULL;
}

/* Text that is no UTF-8 is dropped, as Chromium does; Firefox puts U+FFFD where it is broken. */
static bool receive_message(dp_sctp *sctp, const dp_partial *message, dp_sctp_event *event)
{
    bool binary, empty;
    dp_channel *channel = receiver_of(sctp, message, &binary, &empty);
    if (message->ppid == DP_PPID_DCEP) {
        receive_dcep(sctp, message);
        return false;
    }
    if (channel == NULL || (!binary && !empty && !dp_utf8_valid(message->data, message->len))) {
        sctp->dropped++;
        return false;
    }
    event->type = DP_SCTP_EVENT_MESSAGE;
    event->channel = channel;
    event->binary = binary;
    event->data = message->data;
    event->len = empty ? 0 : message->len;
    event->first = event->last = true;
    channel->stats.messages_received++;
    channel->stats.bytes_received += event->len;
    return true;
}

/* ---- pieces ------------------------------------------------------------------------------------- */

/* The rest of it is read and forgotten. */
static void discard(dp_sctp *sctp, dp_partial *partial, int error)
{
    dp_stream *stream = dp_stream_get(sctp, partial->stream);
    partial->discard = true;
    sctp->partial_bytes -= partial->len;
    partial->len = partial->capacity = 0;
    dp_free(partial->data);
    partial->data = NULL;
    sctp->dropped++;
    if (stream != NULL && stream->channel != NULL)
        dp_receive_break(stream->channel, error);
}

static void over_limit(dp_sctp *sctp, dp_partial *partial, int error)
{
    dp_stream *stream = dp_stream_get(sctp, partial->stream);
    discard(sctp, partial, error);
    if (stream != NULL && stream->channel != NULL)
        dp_channel_fail(stream->channel, error);
    else if (partial->ppid == DP_PPID_DCEP) /* an OPEN: the peer takes the channel for open */
        dp_stream_reset(sctp, partial->stream);
}

/* The piece lies behind hot's bytes. In place if it continues hot or hot is unused, else copied to where it
 * belongs. NULL: no memory. */
static dp_partial *place(dp_sctp *sctp, dp_partial *hot, bool hot_is_new, const dp_association_event *event)
{
    dp_partial *partial = find_partial(sctp, event);
    if (partial == NULL) {
        partial = hot_is_new ? hot : take_spare(sctp);
        if (partial == NULL)
            return NULL;
        partial->stream = event->stream;
        partial->unordered = event->unordered;
        partial->mid = event->mid;
        partial->ppid = event->ppid;
        partial->next = sctp->partials;
        sctp->partials = partial;
    }
    if (partial != hot && !partial->discard) {
        if (!make_room(sctp, partial, event->len))
            over_limit(sctp, partial, DP_ERR_NO_MEMORY);
        else
            memcpy(partial->data + partial->len, hot->data + hot->len, event->len);
    }
    return partial;
}

/* Bytes at the end that begin a character of UTF-8 (RFC 3629 §3) whose rest is yet to come. */
static size_t begun_character(const uint8_t *text, size_t len)
{
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        uint8_t byte = text[len - back];
        size_t whole = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
        if ((byte & 0xc0) != 0x80)
            return whole > back ? back : 0;
    }
    return 0;
}

/* The next part, if there is any. Nobody wants a text that is no UTF-8, nor what is too long for an empty message. */
static bool fill_part(dp_sctp *sctp, dp_partial *partial, dp_sctp_event *event)
{
    size_t most = sctp->config.max_message_size;
    size_t n = partial->len < most ? partial->len : most;
    bool last = partial->ended && n == partial->len;
    bool binary, empty;
    dp_channel *channel = receiver_of(sctp, partial, &binary, &empty);
    if (channel == NULL || empty) {
        discard(sctp, partial, DP_ERR_CLOSED);
        return false;
    }
    if (!binary && !last)
        n -= begun_character(partial->data, n);
    if (n == 0)
        return false;
    if (!binary && !dp_utf8_valid(partial->data, n)) {
        discard(sctp, partial, DP_ERR_MALFORMED);
        return false;
    }
    event->type = DP_SCTP_EVENT_MESSAGE_PART;
    event->channel = channel;
    event->binary = binary;
    event->data = partial->data;
    event->len = n;
    event->first = partial->given == 0;
    event->last = last;
    partial->given += n;
    channel->in_parts = !last;
    channel->stats.messages_received += last;
    channel->stats.bytes_received += n;
    return true;
}

/* Of a message over max_message_size. True: event tells of a part. */
static bool give_part(dp_sctp *sctp, dp_partial *partial, dp_sctp_event *event)
{
    bool given = !partial->discard && fill_part(sctp, partial, event);
    if (given && !event->last) {
        sctp->parting = partial;
        sctp->part_len = event->len;
    } else if (partial->ended) {
        unlink_partial(sctp, partial);
        if (given)
            sctp->delivered = partial;
        else
            recycle(sctp, partial);
    }
    return given;
}

static void append(dp_sctp *sctp, dp_partial *partial, const dp_association_event *piece)
{
    uint64_t most = sctp->config.max_message_size;
    partial->ended = piece->complete;
    if (partial->discard)
        return;
    if (sctp->config.max_size_in_parts > 0 && partial->ppid != DP_PPID_DCEP)
        most = sctp->config.max_size_in_parts;
    partial->len += piece->len;
    sctp->partial_bytes += piece->len;
    /* Where messages are interleaved, more have begun at a time. */
    size_t messages = dp_association_interleaves(sctp->association) ? DP_ASSOCIATION_BEGUN_MAX : 1;
    if (partial->given + partial->len > most ||
        sctp->partial_bytes > messages * sctp->config.max_message_size + sctp->config.receive_buffer_size)
        over_limit(sctp, partial, DP_ERR_TOO_LARGE);
}

/* True: event tells of the message, or of a part of it. */
static bool take_piece(dp_sctp *sctp, dp_partial *partial, const dp_association_event *piece,
                       dp_sctp_event *event)
{
    append(sctp, partial, piece);
    if (partial->given > 0 || partial->len > sctp->config.max_message_size) {
        if (partial->ended && !partial->discard && dp_association_cut_short(sctp->association))
            discard(sctp, partial, DP_ERR_CLOSED);
        return give_part(sctp, partial, event);
    }
    if (!partial->ended)
        return false;
    unlink_partial(sctp, partial);
    sctp->delivered = partial;
    if (!partial->discard && receive_message(sctp, partial, event))
        return true;
    dp_receive_release(sctp);
    return false;
}

/* The peer has given the message up (RFC 3758): usrsctp was made to believe that it has all of it. */
static void abandoned(dp_sctp *sctp, const dp_association_event *event)
{
    dp_partial *partial = find_partial(sctp, event);
    if (partial == NULL)
        return;
    discard(sctp, partial, DP_ERR_CANCELLED);
    unlink_partial(sctp, partial);
    recycle(sctp, partial);
}

static void streams_reset(dp_sctp *sctp, const dp_association_event *event, const uint8_t *buffer)
{
    if (event->reset_count == 0) {
        for (size_t i = 0; i < sctp->stream_capacity; i++)
            dp_stream_was_reset(sctp, (uint16_t)i, event);
        return;
    }
    uint16_t *ids = (uint16_t *)dp_alloc(event->reset_count * sizeof *ids);
    if (ids == NULL) {
        dp_sctp_went_down(sctp, DP_ERR_NO_MEMORY);
        return;
    }
    /* The list may lie behind the beginning of a message, which is freed with its stream. */
    for (size_t i = 0; i < event->reset_count; i++)
        ids[i] = dp_association_reset_at(buffer, i);
    for (size_t i = 0; i < event->reset_count; i++)
        dp_stream_was_reset(sctp, ids[i], event);
    dp_free(ids);
}

static void notified(dp_sctp *sctp, const dp_association_event *event, const uint8_t *buffer)
{
    switch (event->type) {
    case DP_ASSOCIATION_UP:
        dp_sctp_went_up(sctp, event->streams, event->incoming_streams);
        break;
    case DP_ASSOCIATION_STREAMS:
        dp_streams_changed(sctp, event->streams, event->error);
        break;
    case DP_ASSOCIATION_DOWN:
        dp_sctp_went_down(sctp, event->error);
        break;
    case DP_ASSOCIATION_RESET:
        streams_reset(sctp, event, buffer);
        break;
    case DP_ASSOCIATION_ABANDONED:
        abandoned(sctp, event);
        break;
    default:
        break;
    }
}

/* The newest unfinished message is the one that most likely goes on, so the next piece is read right behind
 * it. */
static bool read_one(dp_sctp *sctp, dp_sctp_event *event)
{
    dp_partial *hot = sctp->partials;
    bool is_new = hot == NULL || !make_room(sctp, hot, DP_ASSOCIATION_READ_MIN);
    if (is_new) {
        hot = take_spare(sctp);
        if (hot == NULL || !make_room(sctp, hot, DP_ASSOCIATION_READ_MIN)) {
            partial_free(hot);
            dp_sctp_went_down(sctp,
                              DP_ERR_NO_MEMORY); /* what usrsctp holds can neither be read nor skipped */
            return false;
        }
    }
    sctp->received_at = sctp->now;
    dp_association_event piece;
    uint8_t *tail = hot->data + hot->len;
    dp_association_receive(sctp->association, &piece, tail, hot->capacity - hot->len);
    bool complete = false;
    dp_partial *partial = NULL;
    if (piece.type != DP_ASSOCIATION_DATA)
        notified(sctp, &piece, tail);
    else if ((partial = place(sctp, hot, is_new, &piece)) == NULL)
        dp_sctp_went_down(sctp, DP_ERR_NO_MEMORY); /* the rest must not pass for the whole message */
    if (is_new && partial != hot)
        recycle(sctp, hot);
    if (partial != NULL)
        complete = take_piece(sctp, partial, &piece, event);
    return complete;
}

bool dp_receive_poll(dp_sctp *sctp, dp_sctp_event *event)
{
    while (sctp->event_head == NULL && !sctp->connected_pending && sctp->state != DP_SCTP_DOWN &&
           sctp->association != NULL) {
        if (sctp->parting != NULL ? give_part(sctp, sctp->parting, event)
                                  : dp_association_readable(sctp->association) && read_one(sctp, event))
            return true;
        if (sctp->parting == NULL && !dp_association_readable(sctp->association))
            break;
    }
    return false;
}
