/* Stream ids: which are free, resetting them, getting more of them. */
#include "internal.h"

#include "base/mem.h"

#include <string.h>

#define RESET_RETRY  DP_MS(200)
#define GROW_TIMEOUT DP_SECONDS(10) /* for the peer's answer to our wish for more streams */

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
static int lowest_free(dp_sctp *sctp, uint16_t *id)
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

int dp_stream_assign(dp_channel *channel)
{
    uint16_t id;
    int error = lowest_free(channel->sctp, &id);
    return error == DP_OK ? dp_stream_assign_id(channel, id) : error;
}

int dp_stream_assign_id(dp_channel *channel, uint16_t id)
{
    dp_stream *stream;
    int error = dp_stream_use(channel->sctp, &stream, id);
    if (error != DP_OK)
        return error;
    if (stream->channel != NULL || stream->flags != 0)
        return DP_ERR_EXISTS;
    stream->channel = channel;
    channel->id = id;
    return DP_OK;
}

/* ---- resets ------------------------------------------------------------------------------------ */

static void try_reset(dp_sctp *sctp, uint16_t id, dp_stream *stream)
{
    if (sctp->state == DP_SCTP_UP && dp_association_reset_stream(sctp->association, id) == DP_OK) {
        stream->flags &= ~(unsigned)DP_STREAM_RESET_WANTED;
        stream->flags |= DP_STREAM_RESET_SENT;
    } else {
        stream->flags |= DP_STREAM_RESET_WANTED;
    }
    if (!sctp->resets_open)
        sctp->reset_retry = sctp->now + RESET_RETRY;
    sctp->resets_open = true;
}

void dp_stream_reset(dp_sctp *sctp, uint16_t id)
{
    dp_stream *stream;
    if (dp_stream_use(sctp, &stream, id) != DP_OK || (stream->channel == NULL && id >= sctp->streams_out))
        return;
    if ((stream->flags & (DP_STREAM_RESET_WANTED | DP_STREAM_RESET_SENT | DP_STREAM_OUT_DONE)) == 0)
        try_reset(sctp, id, stream);
}

/* What usrsctp has taken is asked for again, too: it looks whether a stream can be reset when the last chunk is acknowledged,
 * and not when it throws away the rest of a message that it has given up (sctp_is_there_unsent_data). It takes no notice while
 * the request is on its way; but once that is answered, it would be a second one: hence not with something left to read. */
void dp_stream_retry_resets(dp_sctp *sctp)
{
    if (!sctp->resets_open || sctp->now < sctp->reset_retry || dp_association_readable(sctp->association) ||
        dp_association_in_message(sctp->association))
        return;
    sctp->resets_open = false;
    for (size_t i = 0; i < sctp->stream_capacity; i++)
        if ((sctp->streams[i].flags & (DP_STREAM_RESET_WANTED | DP_STREAM_RESET_SENT)) != 0)
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

/* RFC 8831 §6.7: the peer has closed; what we have queued reaches nobody any more, and our direction is reset
 * in turn: also that of a channel that only the peer knows (negotiated, or refused here). */
static void reset_by_peer(dp_sctp *sctp, uint16_t id, dp_stream *stream)
{
    bool ours_exists = id < sctp->streams_out;
    dp_receive_drop_stream(sctp, id);
    if (stream->channel == NULL && !ours_exists)
        return;
    stream->flags |= ours_exists ? DP_STREAM_IN_DONE : DP_STREAM_IN_DONE | DP_STREAM_OUT_DONE;
    if (stream->channel == NULL)
        dp_stream_reset(sctp, id);
    else
        dp_channel_closed_by_peer(stream->channel);
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
        sctp->resets_open = true;
        sctp->reset_retry = sctp->now + RESET_RETRY;
    } else {
        stream->flags |= DP_STREAM_OUT_DONE;
    }
}

void dp_stream_was_reset(dp_sctp *sctp, uint16_t id, const dp_association_event *event)
{
    dp_stream *stream;
    if (dp_stream_use(sctp, &stream, id) != DP_OK)
        return;
    if (event->reset_outgoing)
        our_reset_done(sctp, stream, event->reset_failed);
    if (event->reset_incoming && !event->reset_failed)
        reset_by_peer(sctp, id, stream);
    check_both_reset(stream);
    dp_channel_pump(sctp);
}

/* ---- more streams ------------------------------------------------------------------------------ */

void dp_streams_up(dp_sctp *sctp, uint16_t outgoing, uint16_t incoming)
{
    sctp->streams_out = outgoing < sctp->stream_limit ? outgoing : sctp->stream_limit;
    /* A stack that announces all that we allow at once (65,535: Chromium, pion, werift) has no need to add any, and
     * does not answer when it is asked to. Who begins with few, as we do and usrsctp's users, knows how to. */
    if (incoming >= sctp->stream_limit)
        sctp->stream_limit = sctp->streams_out;
}

/* There will not be more. */
static void refused(dp_sctp *sctp)
{
    sctp->streams_wanted = 0;
    sctp->streams_asked = 0;
    sctp->streams_draining = false;
    sctp->stream_limit = sctp->streams_out;
    for (dp_channel *channel = sctp->channels; channel != NULL; channel = channel->next)
        if (channel->id >= sctp->streams_out)
            dp_channel_drop(channel, DP_ERR_LIMIT);
}

void dp_streams_want(dp_sctp *sctp, int id)
{
    if (id < sctp->streams_out || sctp->state != DP_SCTP_UP)
        return;
    if (id >= sctp->streams_wanted)
        sctp->streams_wanted = (uint16_t)(id + 1);
    dp_streams_grow(sctp);
}

void dp_streams_grow(dp_sctp *sctp)
{
    if (sctp->streams_wanted == 0 || sctp->streams_asked != 0)
        return;
    /* Twice as many as before, so that a thousand channels take two requests. */
    uint32_t all = sctp->streams_sparing ? 0 : 2u * sctp->streams_out;
    if (all < sctp->streams_wanted)
        all = sctp->streams_wanted;
    if (all > sctp->stream_limit)
        all = sctp->stream_limit;
    int error = dp_association_add_streams(sctp->association, (uint16_t)(all - sctp->streams_out));
    sctp->streams_draining = error == DP_ERR_WOULD_BLOCK;
    if (error == DP_OK) {
        sctp->streams_asked = (uint16_t)all;
        sctp->streams_deadline = sctp->now + GROW_TIMEOUT;
    } else if (error == DP_ERR_UNSUPPORTED) {
        refused(sctp);
    }
}

void dp_streams_changed(dp_sctp *sctp, uint16_t outgoing, int error)
{
    if (outgoing > sctp->stream_limit)
        outgoing = sctp->stream_limit;
    bool more = outgoing > sctp->streams_out;
    if (sctp->streams_asked == 0 || (!more && error == DP_OK))
        return; /* the peer has added some of its own */
    if (!more && error == DP_ERR_LIMIT && sctp->streams_asked > sctp->streams_wanted) {
        sctp->streams_asked = 0;
        sctp->streams_sparing = true;
        dp_streams_grow(sctp);
        return;
    }
    if (!more) {
        refused(sctp);
        return;
    }
    sctp->streams_asked = 0;
    sctp->streams_out = outgoing;
    if (sctp->streams_wanted <= outgoing)
        sctp->streams_wanted = 0;
    dp_channel_streams_added(sctp);
    dp_channel_pump(sctp);
}

/* usrsctp does not tell of a change when our receive buffer is full. */
void dp_streams_check_deadline(dp_sctp *sctp)
{
    if (sctp->streams_asked != 0 && sctp->now >= sctp->streams_deadline)
        dp_streams_changed(sctp, dp_association_streams(sctp->association), DP_ERR_TIMEOUT);
}
