/* ICE-TCP (RFC 6544): pairs whose datagrams travel on a TCP stream, each with two bytes of length in front (RFC 4571).
 * Our active candidates connect to the peer's passive ones; our passive ones are the owner's listeners. A pair is
 * checked as by UDP, once its stream is there; a stream's end is the pair's end. */
#include "agent.h"

#include "base/mem.h"

dp_ice_stream *dp_ice_stream_of(const dp_ice *ice, size_t base, const dp_address *remote)
{
    for (size_t i = 0; ice->streams != NULL && i < DP_ICE_MAX_STREAMS; i++) {
        dp_ice_stream *stream = &ice->streams[i];
        if (stream->link != 0 && stream->base == base && dp_address_equal(&stream->remote, remote))
            return stream;
    }
    return NULL;
}

dp_ice_stream *dp_ice_stream_by_link(const dp_ice *ice, uint32_t link)
{
    for (size_t i = 0; ice->streams != NULL && i < DP_ICE_MAX_STREAMS; i++) {
        if (ice->streams[i].link == link && link != 0)
            return &ice->streams[i];
    }
    return NULL;
}

static void drop(dp_ice *ice, dp_ice_stream *stream)
{
    if (!stream->open_due)
        dp_ice_link_dead(ice, stream->link);
    stream->link = 0;
}

/* Whether its other end may be anybody: it was accepted, and no authenticated check has come on it. */
static bool is_stranger(const dp_ice *ice, const dp_ice_stream *stream)
{
    int found = dp_ice_pair_find(ice, stream->base, &stream->remote);
    const dp_ice_pair *pair = found >= 0 ? &ice->pairs[found] : NULL;
    return ice->locals[stream->base].tcp == DP_TCPTYPE_PASSIVE &&
           (pair == NULL || !(pair->valid || pair->checked_by_peer)) &&
           !dp_ice_previous_is(ice, stream->base, &stream->remote);
}

/* A free place, or that of the stranger who has been here longest: whoever knows the ufrag can connect, and must not
 * keep the peer out by saying nothing. The peer's check comes at once. NULL: there is none. */
static dp_ice_stream *place(dp_ice *ice)
{
    dp_ice_stream *oldest = NULL;
    for (size_t i = 0; i < DP_ICE_MAX_STREAMS; i++) {
        dp_ice_stream *stream = &ice->streams[i];
        if (stream->link == 0)
            return stream;
        if (is_stranger(ice, stream) && (oldest == NULL || stream->link < oldest->link))
            oldest = stream;
    }
    if (oldest != NULL)
        drop(ice, oldest);
    return oldest;
}

static dp_ice_stream *add(dp_ice *ice, size_t base, const dp_address *remote)
{
    if (ice->streams == NULL)
        ice->streams = dp_calloc(DP_ICE_MAX_STREAMS, sizeof *ice->streams);
    bool possible = ice->streams != NULL && ice->dead_link_count < DP_ICE_MAX_STREAMS;
    dp_ice_stream *stream = possible ? place(ice) : NULL;
    if (stream == NULL) {
        ice->stats.dropped_limit++;
        return NULL;
    }
    stream->link = ++ice->link_serial;
    stream->base = (uint8_t)base;
    stream->remote = *remote;
    stream->open = stream->open_due = false;
    stream->frames.len = 0;
    return stream;
}

void dp_ice_stream_drop(dp_ice *ice, size_t base, const dp_address *remote)
{
    dp_ice_stream *stream = dp_ice_stream_of(ice, base, remote);
    if (stream != NULL)
        drop(ice, stream);
}

void dp_ice_streams_end(dp_ice *ice, size_t base)
{
    for (size_t i = 0; ice->streams != NULL && i < DP_ICE_MAX_STREAMS; i++) {
        if (ice->streams[i].link != 0 && (ice->streams[i].base == base || base == DP_ICE_ANY))
            drop(ice, &ice->streams[i]);
    }
}

void dp_ice_streams_close(dp_ice *ice) { dp_ice_streams_end(ice, DP_ICE_ANY); }

void dp_ice_streams_forget(dp_ice *ice)
{
    for (size_t i = 0; ice->streams != NULL && i < DP_ICE_MAX_STREAMS; i++) {
        dp_ice_stream *stream = &ice->streams[i];
        if (stream->link != 0 && !dp_ice_previous_is(ice, stream->base, &stream->remote))
            drop(ice, stream);
    }
}

/* ---- beginning ---- */

void dp_ice_stream_want(dp_ice *ice, const dp_ice_pair *pair)
{
    dp_address remote = dp_ice_remote_address(ice, pair);
    if (ice->locals[pair->local].tcp != DP_TCPTYPE_ACTIVE ||
        dp_ice_stream_of(ice, pair->local, &remote) != NULL)
        return;
    dp_ice_stream *stream = add(ice, pair->local, &remote);
    if (stream != NULL)
        stream->open_due = true;
}

bool dp_ice_streams_event(dp_ice *ice, dp_ice_event *event)
{
    for (size_t i = 0; ice->streams != NULL && i < DP_ICE_MAX_STREAMS; i++) {
        dp_ice_stream *stream = &ice->streams[i];
        if (stream->link == 0 || !stream->open_due)
            continue;
        stream->open_due = false;
        event->type = DP_ICE_EVENT_LINK_OPEN;
        event->link.id = stream->link;
        event->link.transport = DP_ICE_TCP;
        event->link.local = ice->locals[stream->base].address;
        event->link.local.port = 0;
        event->link.remote = stream->remote;
        return true;
    }
    return false;
}

/* The check that was sent in vain while there was no stream is made anew. */
void dp_ice_stream_opened(dp_ice *ice, dp_time now, dp_ice_stream *stream)
{
    stream->open = true;
    int pair = dp_ice_pair_find(ice, stream->base, &stream->remote);
    if (pair < 0)
        return;
    if (ice->pairs[pair].state == DP_ICE_PAIR_IN_PROGRESS) {
        dp_ice_transactions_drop(ice, (size_t)pair);
        dp_ice_pair_set_state(ice, (size_t)pair, DP_ICE_PAIR_WAITING);
        dp_ice_trigger(ice, (size_t)pair);
    }
    dp_ice_pace(ice, now);
}

/* ---- end ---- */

void dp_ice_stream_closed(dp_ice *ice, dp_time now, dp_ice_stream *stream)
{
    size_t base = stream->base;
    dp_address remote = stream->remote;
    stream->link = 0; /* the owner knows */
    int pair = dp_ice_pair_find(ice, base, &remote);
    if (pair >= 0)
        dp_ice_pair_end(ice, (size_t)pair);
    if (dp_ice_previous_is(ice, base, &remote))
        dp_ice_previous_end(ice, now);
    dp_ice_select(ice, now);
}

/* The same by our own decision: the owner hears of it. */
static void end(dp_ice *ice, dp_time now, dp_ice_stream *stream)
{
    uint32_t link = stream->link;
    dp_ice_stream_closed(ice, now, stream);
    dp_ice_link_dead(ice, link);
}

/* ---- in ---- */

uint32_t dp_ice_link_accepted(dp_ice *ice, dp_time now, const dp_address *local, const dp_address *remote)
{
    int base = dp_ice_alive(ice) ? dp_ice_local_find(ice, local, DP_TCPTYPE_PASSIVE) : -1;
    if (base < 0)
        return 0;
    dp_ice_stream *stream = dp_ice_stream_of(ice, (size_t)base, remote);
    /* An old one whose end the owner has not seen: what was proved, was proved by that one. */
    if (stream != NULL)
        end(ice, now, stream);
    stream = add(ice, (size_t)base, remote);
    if (stream == NULL)
        return 0;
    stream->open = true;
    return stream->link;
}

size_t dp_ice_stream_input(dp_ice *ice, dp_time now, dp_ice_stream *stream, uint8_t *data, size_t len,
                           dp_ice_payload *payload)
{
    size_t frame = 0;
    bool broken = false;
    size_t taken = dp_frames_take_prefixed(&stream->frames, data, len, &frame, &broken);
    if (broken) {
        end(ice, now, stream);
        return len;
    }
    dp_address remote = stream->remote;
    if (frame > 0 && !dp_ice_arrived(ice, now, stream->frames.data + DP_FRAME_PREFIX, frame, stream->base,
                                     &remote, payload))
        payload->len = 0;
    return taken;
}
