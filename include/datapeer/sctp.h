/* Data channels (RFC 8831, RFC 8832) on an SCTP association (RFC 9260) of usrsctp. Sans-IO; but usrsctp is
 * one per process, so all dp_sctp objects of a process must be used from one thread.
 *
 * Order of calls: new, [open_channel*], start; then input / handle_timeout / send, and after each of them
 * poll_transmit and poll_event until both return false. */
#ifndef DATAPEER_SCTP_H
#define DATAPEER_SCTP_H

#include <datapeer/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dp_sctp dp_sctp;
/* A channel. Valid until the call after the one that gave its CHANNEL_CLOSED event (or dp_sctp_free). */
typedef struct dp_channel dp_channel;

typedef enum dp_channel_state {
    DP_CHANNEL_CONNECTING,
    DP_CHANNEL_OPEN,
    DP_CHANNEL_CLOSING,
    DP_CHANNEL_CLOSED,
} dp_channel_state;

typedef struct dp_sctp_config {
    size_t size;      /* sizeof(dp_sctp_config) */
    dp_random random; /* required */
    dp_log log;
    size_t mtu;                 /* largest SCTP packet, 12-byte common header included, 524 to 16384; 0: 1160.
                                 * See dp_sctp_set_path for larger ones */
    size_t max_message_size;    /* largest message that comes whole; 0: 262144 */
    size_t send_buffer_size;    /* of one association; 0: 4 MiB; see sctp/sctp.c */
    size_t receive_buffer_size; /* of one association; 0: 4 MiB */
    /* Stream ids 0 to max_channels-1 may be used, half of them for each side to open; 0: 1024. An association begins
     * with initial_channels (0: 128) and asks the peer for more when a channel needs them (RFC 6525 §4.5). Peers that
     * announce all ids at once (Chromium, pion) do not answer that: with them initial_channels is the limit. A stream
     * costs 64 bytes out and 40 in. */
    uint16_t max_channels;
    uint16_t initial_channels;
    /* Messages over max_message_size (1024 at least) and up to this come in parts (DP_SCTP_EVENT_MESSAGE_PART), in
     * bounded memory; DP_UNLIMITED: of any size. 0: none comes, and a larger message ends its channel with TOO_LARGE. */
    uint64_t max_size_in_parts;
    /* Messages of several channels share the way fragment by fragment if the peer can do so, too (RFC 8260: this library,
     * Firefox), so that a small one does not wait for a large one's end. true: not offered. */
    bool no_interleaving;
} dp_sctp_config;

#define DP_UNLIMITED UINT64_MAX

DP_API int dp_sctp_new(dp_sctp **out, const dp_sctp_config *config);
/* Aborts silently if the association is up; frees all channels without events. */
DP_API void dp_sctp_free(dp_sctp *sctp);
/* dtls_client decides the parity of our stream ids (even if client, RFC 8832 §6). remote_port: a=sctp-port.
 * remote_max_message_size: from the description, 0 = no limit. Begins the association (both sides do). */
DP_API int dp_sctp_start(dp_sctp *sctp, dp_time now, bool dtls_client, uint16_t remote_port,
                         size_t remote_max_message_size);

DP_API void dp_sctp_input(dp_sctp *sctp, dp_time now, const uint8_t *data, size_t len);
DP_API void dp_sctp_handle_timeout(dp_sctp *sctp, dp_time now);
DP_API dp_time dp_sctp_next_timeout(const dp_sctp *sctp);
/* The next SCTP packet, borrowed until the next call. */
DP_API bool dp_sctp_poll_transmit(dp_sctp *sctp, const uint8_t **data, size_t *len);
/* Path MTU discovery (RFC 8899). set_path: a path to the peer begins, before or after start, on which an SCTP packet of
 * largest bytes fits into the local interface's MTU. Packets fall back to config.mtu, and larger ones are tried by
 * probes; 0: none are. round_trip: of a packet that no data delayed, from ICE's checks; 0: not known. Data's own are often
 * delayed from the first one on, by an owner that fills its channels as soon as they are open. */
DP_API void dp_sctp_set_path(dp_sctp *sctp, dp_time now, size_t largest, dp_duration round_trip);
/* The next probe, borrowed until the next call: it must leave unfragmented (IPv4: with DF), or not at all. Other
 * packets may be fragmented on their way, and should be rather than be lost. */
DP_API bool dp_sctp_poll_probe(dp_sctp *sctp, dp_time now, const uint8_t **data, size_t *len);

/* RTCPriorityType as DCEP carries it (RFC 8831 §6.4): when several channels have something to send, they share in the
 * proportion 1 : 2 : 4 : 8. */
typedef enum dp_channel_priority {
    DP_CHANNEL_PRIORITY_VERY_LOW = 128,
    DP_CHANNEL_PRIORITY_LOW = 256, /* the default; "normal" in the RFC */
    DP_CHANNEL_PRIORITY_MEDIUM = 512,
    DP_CHANNEL_PRIORITY_HIGH = 1024,
} dp_channel_priority;

/* RTCDataChannelInit. Zero-initialised it is NOT the W3C default: use DP_CHANNEL_INIT. */
typedef struct dp_channel_init {
    size_t size;          /* sizeof(dp_channel_init) */
    const char *label;    /* UTF-8, at most 65,535 bytes */
    const char *protocol; /* likewise; NULL: "" */
    bool ordered;
    /* Partial reliability (RFC 8831 §6.1), at most one of the two: a message is given up after so many
     * retransmissions, or so many ms after send; -1: never. It counts only once the peer has answered the OPEN, and
     * if the peer's SCTP knows FORWARD-TSN (all browsers' does). */
    int32_t max_retransmits;
    int32_t max_packet_lifetime;
    /* Both sides open the channel with the same id (0 to 65534, below max_channels) and the same parameters, which
     * the program has agreed on with the other side; no OPEN is sent. Without it id is ignored. */
    bool negotiated;
    int id;
    dp_channel_priority priority;
    size_t label_length; /* 0: up to the NUL. With a length the text may contain U+0000, as in JavaScript */
    size_t protocol_length;
} dp_channel_init;
#define DP_CHANNEL_INIT(label_)                                                                              \
    {                                                                                                        \
        sizeof(dp_channel_init), (label_), "", true, -1, -1, false, 0, DP_CHANNEL_PRIORITY_LOW, 0, 0         \
    }

/* Creates a channel, before or after start. The stream id is chosen once the parity is known and the DCEP
 * OPEN leaves with the association. CHANNEL_OPEN follows; or CHANNEL_ERROR with LIMIT if the peer has no stream for
 * it. INVALID_ARGUMENT, LIMIT (channels, ids), EXISTS (the negotiated id is in use), NO_MEMORY, TOO_LARGE (label,
 * protocol), CLOSED. */
DP_API int dp_sctp_open_channel(dp_sctp *sctp, dp_channel **out, dp_time now, const dp_channel_init *init);

/* UTF-8. NUL-terminated, but NULs may also be part of it: then the lengths, in bytes, tell the whole. */
DP_API const char *dp_channel_label(const dp_channel *channel);
DP_API size_t dp_channel_label_length(const dp_channel *channel);
DP_API const char *dp_channel_protocol(const dp_channel *channel);
DP_API size_t dp_channel_protocol_length(const dp_channel *channel);
/* The stream id, -1 while none is assigned. */
DP_API int dp_channel_id(const dp_channel *channel);
DP_API bool dp_channel_ordered(const dp_channel *channel);
DP_API int32_t dp_channel_max_retransmits(const dp_channel *channel);
DP_API int32_t dp_channel_max_packet_lifetime(const dp_channel *channel);
DP_API bool dp_channel_negotiated(const dp_channel *channel);
/* Of a channel that the peer opened: the nearest that is not below what it asked for; LOW if it gave none (0). */
DP_API dp_channel_priority dp_channel_get_priority(const dp_channel *channel);
DP_API dp_channel_state dp_channel_get_state(const dp_channel *channel);
DP_API void dp_channel_set_user(dp_channel *channel, void *user);
DP_API void *dp_channel_user(const dp_channel *channel);

/* Hands one whole message over. Text (binary false) must be UTF-8: it is not checked here, and receivers drop what is
 * not. force_ordered: deliver in order even on an unordered channel (the receiver
 * follows each message's U flag). It is accepted whole or not at all. WOULD_BLOCK when buffered_amount is
 * over the limit: try again after BUFFERED_AMOUNT_LOW. TOO_LARGE over the remote's max-message-size.
 * INVALID_STATE unless OPEN. */
DP_API int dp_channel_send(dp_channel *channel, dp_time now, const uint8_t *data, size_t len, bool binary,
                           bool force_ordered);
/* The same for a message in parts of any size, at least one byte each, that last ends; binary is the same for all. It
 * may be as large as the remote's max-message-size allows; TOO_LARGE beyond that, and the message can't be ended then.
 * In between, send on this channel is an INVALID_STATE, and all other channels wait: SCTP sends one message after the
 * other. So the owner has 30 s for each part, counted from when nothing is buffered any more; then the association
 * ends with TIMEOUT. dp_channel_close in the middle ends it, too, unless nothing of the message has left: nothing else
 * keeps the peer from taking the beginning for the whole. A lifetime (max_packet_lifetime) does not count. */
DP_API int dp_channel_send_part(dp_channel *channel, dp_time now, const uint8_t *data, size_t len,
                                bool binary, bool last);
/* Bytes of messages accepted by send and not yet handed to the wire (W3C bufferedAmount). An empty message has none: any
 * number of them may wait. */
DP_API size_t dp_channel_buffered_amount(const dp_channel *channel);
/* BUFFERED_AMOUNT_LOW fires when buffered_amount falls to this or below; default 0, at most 1 MiB (the
 * limit of send). */
DP_API void dp_channel_set_buffered_amount_low_threshold(dp_channel *channel, size_t bytes);
/* What was sent still arrives, then the stream is reset (RFC 8831 §6.7); CHANNEL_CLOSED follows. */
DP_API void dp_channel_close(dp_channel *channel, dp_time now);

/* RTCDataChannelStats: messages of the user, and their bytes, since the channel is there. */
typedef struct dp_channel_stats {
    uint64_t messages_sent; /* accepted by send */
    uint64_t bytes_sent;
    uint64_t messages_received; /* given out as events */
    uint64_t bytes_received;
} dp_channel_stats;
DP_API void dp_channel_get_stats(const dp_channel *channel, dp_channel_stats *out);

/* RTCSctpTransportStats of webrtc-stats, and counts. All 0 before the association is up. */
typedef struct dp_sctp_stats {
    dp_duration smoothed_round_trip_time;
    size_t congestion_window; /* bytes */
    size_t receiver_window;   /* bytes: what the peer says that it can take */
    size_t mtu;               /* largest packet, common header included */
    uint32_t unack_data;      /* DATA chunks that are under way */
    uint64_t chunks_sent;     /* DATA chunks, retransmissions included */
    uint64_t chunks_retransmitted;
    uint32_t data_channels_opened; /* RTCPeerConnectionStats: so many have ever been open */
    uint32_t data_channels_closed; /* and so many of them are no longer */
} dp_sctp_stats;
DP_API void dp_sctp_get_stats(const dp_sctp *sctp, dp_sctp_stats *out);

/* Ends the association at once with ABORT (a packet for poll_transmit), as browsers do. CHANNEL_CLOSED for
 * every channel, then CLOSED. */
DP_API void dp_sctp_abort(dp_sctp *sctp, dp_time now);

typedef enum dp_sctp_event_type {
    DP_SCTP_EVENT_CONNECTED,
    DP_SCTP_EVENT_CHANNEL_OPEN, /* channel, incoming */
    DP_SCTP_EVENT_MESSAGE,      /* channel, data, len, binary; text is valid UTF-8 */
    /* channel, data, len, binary, first, last: the next part, at most max_message_size bytes, of a message over
     * max_message_size; each part of a text is valid UTF-8. Other channels' messages come in between only if their
     * sender mixes them. After a first part there is always a last one, before CHANNEL_CLOSED at the latest. With an
     * error (then len is 0) what came is not the whole message, and no more of it comes: CANCELLED, the sender has given
     * it up; MALFORMED, the text is not UTF-8; TOO_LARGE, over max_size_in_parts; CLOSED, the channel or the
     * association has ended. */
    DP_SCTP_EVENT_MESSAGE_PART,
    DP_SCTP_EVENT_BUFFERED_AMOUNT_LOW, /* channel */
    DP_SCTP_EVENT_CHANNEL_ERROR,       /* channel, error; CHANNEL_CLOSED follows */
    DP_SCTP_EVENT_CHANNEL_CLOSED,      /* channel */
    DP_SCTP_EVENT_CLOSED,              /* error: DP_OK if by us or an orderly peer, else the reason */
} dp_sctp_event_type;

typedef struct dp_sctp_event {
    dp_sctp_event_type type;
    dp_channel *channel;
    bool incoming; /* CHANNEL_OPEN: the peer opened it */
    bool binary;
    const uint8_t *data; /* valid until the next call */
    size_t len;
    int error;
    bool first;
    bool last;
} dp_sctp_event;

DP_API bool dp_sctp_poll_event(dp_sctp *sctp, dp_sctp_event *event);

#ifdef __cplusplus
}
#endif
#endif
