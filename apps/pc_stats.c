#include "pc_stats.h"

static dp_value *milliseconds(dp_duration duration) { return dp_value_double((double)duration / 1000); }

static dp_value *address(const dp_address *a)
{
    char text[DP_ADDRESS_TEXT_MAX];
    return dp_value_string(dp_address_format(a, text));
}

static dp_value *text_or_null(const char *text)
{
    return text != NULL ? dp_value_string(text) : dp_value_null();
}

static dp_value *transport_stats(const dp_pc_stats *s)
{
    dp_value *map = dp_value_map();
    dp_value_set(map, "packetsSent", dp_value_uint(s->packets_sent));
    dp_value_set(map, "packetsReceived", dp_value_uint(s->packets_received));
    dp_value_set(map, "bytesSent", dp_value_uint(s->bytes_sent));
    dp_value_set(map, "bytesReceived", dp_value_uint(s->bytes_received));
    dp_value_set(map, "selectedCandidatePairChanges", dp_value_uint(s->selected_candidate_pair_changes));
    dp_value_set(map, "iceState", dp_value_string(dp_ice_state_name(s->ice_state)));
    dp_value_set(map, "dtlsRole", dp_value_string(s->dtls_role == DP_DTLS_CLIENT ? "client" : "server"));
    dp_value_set(map, "tlsVersion", text_or_null(s->tls_version));
    dp_value_set(map, "dtlsCipher", text_or_null(s->dtls_cipher));
    return map;
}

static dp_value *pair_stats(const dp_pc_stats *s)
{
    dp_value *map = dp_value_map();
    dp_value_set(map, "local", address(&s->local));
    dp_value_set(map, "remote", address(&s->remote));
    dp_value_set(map, "currentRoundTripTime", milliseconds(s->ice.current_round_trip_time));
    dp_value_set(map, "requestsSent", dp_value_uint(s->ice.requests_sent));
    dp_value_set(map, "responsesSent", dp_value_uint(s->ice.responses_sent));
    return map;
}

static dp_value *sctp_stats(const dp_sctp_stats *s)
{
    dp_value *map = dp_value_map();
    dp_value_set(map, "smoothedRoundTripTime", milliseconds(s->smoothed_round_trip_time));
    dp_value_set(map, "congestionWindow", dp_value_uint(s->congestion_window));
    dp_value_set(map, "receiverWindow", dp_value_uint(s->receiver_window));
    dp_value_set(map, "mtu", dp_value_uint(s->mtu));
    dp_value_set(map, "unackData", dp_value_uint(s->unack_data));
    dp_value_set(map, "chunksSent", dp_value_uint(s->chunks_sent));
    dp_value_set(map, "chunksRetransmitted", dp_value_uint(s->chunks_retransmitted));
    dp_value_set(map, "dataChannelsOpened", dp_value_uint(s->data_channels_opened));
    dp_value_set(map, "dataChannelsClosed", dp_value_uint(s->data_channels_closed));
    return map;
}

dp_value *pc_stats(const dp_pc *pc)
{
    dp_pc_stats s = {.size = sizeof(s)};
    dp_value *stats = dp_value_map();
    if (dp_pc_get_stats(pc, &s) != DP_OK) {
        dp_value_free(stats);
        return NULL;
    }
    dp_value_set(stats, "transport", transport_stats(&s));
    dp_value_set(stats, "candidatePair", s.has_selected_pair ? pair_stats(&s) : dp_value_null());
    dp_value_set(stats, "sctpTransport", sctp_stats(&s.sctp));
    return stats;
}

dp_value *pc_stats_channel(const dp_channel *channel)
{
    dp_channel_stats s;
    dp_value *map = dp_value_map();
    dp_channel_get_stats(channel, &s);
    dp_value_set(map, "label",
                 dp_value_string_n(dp_channel_label(channel), dp_channel_label_length(channel)));
    dp_value_set(map, "dataChannelIdentifier", dp_value_int(dp_channel_id(channel)));
    dp_value_set(map, "messagesSent", dp_value_uint(s.messages_sent));
    dp_value_set(map, "bytesSent", dp_value_uint(s.bytes_sent));
    dp_value_set(map, "messagesReceived", dp_value_uint(s.messages_received));
    dp_value_set(map, "bytesReceived", dp_value_uint(s.bytes_received));
    return map;
}
