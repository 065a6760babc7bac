/* Links: the agent's own sockets, to TURN servers (relay.c) and to the peer's TCP candidates (tcp.c), and how a
 * datagram gets from a base to the peer. */
#include "agent.h"

#include "base/wr.h"

/* ---- the owner's side ---- */

void dp_ice_link_opened(dp_ice *ice, dp_time now, uint32_t link)
{
    dp_ice_relay *relay = dp_ice_relay_by_link(ice, link);
    dp_ice_stream *stream = dp_ice_stream_by_link(ice, link);
    if (relay != NULL)
        dp_ice_relay_opened(ice, now, relay);
    else if (stream != NULL)
        dp_ice_stream_opened(ice, now, stream);
}

void dp_ice_link_closed(dp_ice *ice, dp_time now, uint32_t link)
{
    dp_ice_relay *relay = dp_ice_relay_by_link(ice, link);
    dp_ice_stream *stream = dp_ice_stream_by_link(ice, link);
    if (relay != NULL)
        dp_ice_relay_closed(ice, now, relay);
    else if (stream != NULL)
        dp_ice_stream_closed(ice, now, stream);
}

size_t dp_ice_link_input(dp_ice *ice, dp_time now, uint32_t link, uint8_t *data, size_t len,
                         dp_ice_payload *payload)
{
    dp_ice_relay *relay = dp_ice_relay_by_link(ice, link);
    dp_ice_stream *stream = dp_ice_stream_by_link(ice, link);
    payload->len = 0;
    if (relay != NULL)
        len = dp_ice_relay_input(ice, now, relay, data, len, payload);
    else if (stream != NULL)
        len = dp_ice_stream_input(ice, now, stream, data, len, payload);
    if (payload->len == 0) /* else it may lie in the link's own memory */
        dp_ice_handle_timeout(ice, now);
    return len;
}

/* A link's end is told only if its beginning was: DP_ICE_MAX_DEAD says why there is room. */
void dp_ice_link_dead(dp_ice *ice, uint32_t link)
{
    if (ice->dead_link_count < DP_ICE_MAX_DEAD)
        ice->dead_links[ice->dead_link_count++] = link;
}

bool dp_ice_links_event(dp_ice *ice, dp_ice_event *event)
{
    if (ice->dead_link_count == 0)
        return dp_ice_relays_event(ice, event) || dp_ice_streams_event(ice, event);
    event->type = DP_ICE_EVENT_LINK_CLOSE;
    event->link.id = ice->dead_links[--ice->dead_link_count];
    return true;
}

/* ---- the way out ---- */

bool dp_ice_carrier(const dp_ice *ice, size_t base, const dp_address *remote, uint32_t *link,
                    size_t *headroom)
{
    const dp_ice_local *local = &ice->locals[base];
    const dp_ice_relay *relay = dp_ice_relay_of(ice, base);
    *link = 0;
    *headroom = 0;
    if (relay != NULL) {
        *link = relay->link;
        *headroom = dp_turn_headroom(relay->turn, remote);
    } else if (local->tcp != DP_TCPTYPE_NONE) {
        const dp_ice_stream *stream = dp_ice_stream_of(ice, base, remote);
        *link = stream != NULL ? stream->link : 0;
        *headroom = DP_FRAME_PREFIX;
        return stream != NULL && stream->open;
    }
    return !local->gone;
}

bool dp_ice_carrier_wrap(dp_ice *ice, size_t base, const dp_address *remote, dp_datagram *out,
                         size_t headroom)
{
    dp_ice_relay *relay = dp_ice_relay_of(ice, base);
    if (relay != NULL)
        return dp_turn_wrap(relay->turn, remote, out, headroom);
    if (out->link == 0)
        return true;
    dp_wr wr = dp_wr_init(out->data, DP_FRAME_PREFIX);
    dp_wr_u16(&wr, (uint16_t)out->length);
    out->length += DP_FRAME_PREFIX;
    return true;
}
