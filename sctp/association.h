/* One SCTP association of usrsctp: packets in and out, user data fragments in and out, stream resets. No
 * channels here. */
#ifndef SCTP_ASSOCIATION_H
#define SCTP_ASSOCIATION_H

#include <datapeer/sctp.h>

typedef struct dp_association dp_association;

typedef struct dp_association_config {
    size_t mtu; /* common header included */
    size_t send_buffer_size;
    size_t receive_buffer_size; /* at least two messages are held, whatever it says */
    size_t max_message_size;
    uint16_t streams;     /* outgoing ones to begin with */
    uint16_t max_streams; /* that the peer may have, at the beginning and by adding some */
    uint16_t local_port;
    uint16_t remote_port;
    bool interleaving; /* RFC 8260, if the peer does so, too */
} dp_association_config;

/* Creates the socket and sends INIT. NO_MEMORY, IO. */
int dp_association_new(dp_association **out, dp_time now, const dp_association_config *config);
/* Sends ABORT with cause 12 (user-initiated, RFC 9260 §3.3.10.12); the packet is in the output. */
void dp_association_abort(dp_association *association);
/* Aborts silently: no packet leaves after this. */
void dp_association_free(dp_association *association);

/* A packet from the peer. A packet that is broken or that we never negotiated is dropped; the reason is
 * returned. */
int dp_association_input(dp_association *association, dp_time now, const uint8_t *packet, size_t len);
/* Drives the timers of all associations of the process. */
void dp_association_tick(dp_association *association, dp_time now);
/* busy: the owner waits for something, a stream reset for instance. */
dp_time dp_association_next_tick(const dp_association *association, bool busy);
bool dp_association_poll_transmit(dp_association *association, const uint8_t **packet, size_t *len);
/* See dp_sctp_set_path and dp_sctp_poll_probe. */
void dp_association_set_path(dp_association *association, dp_time now, size_t ceiling, dp_duration round_trip,
                             const dp_random *random);
bool dp_association_poll_probe(dp_association *association, dp_time now, const uint8_t **packet, size_t *len);

/* How a message leaves. usrsctp keeps what the first part of a message says. */
typedef enum dp_association_limit {
    DP_ASSOCIATION_RELIABLE,
    DP_ASSOCIATION_MAX_RETRANSMITS, /* RFC 7496 §3.2: limit_value retransmissions of a fragment */
    DP_ASSOCIATION_MAX_LIFETIME, /* RFC 3758 §4.2: limit_value ms; usrsctp sends each fragment at least once */
} dp_association_limit;

typedef struct dp_association_outgoing {
    uint16_t stream;
    uint32_t ppid;
    bool unordered;
    bool begun;                 /* usrsctp has the beginning of the message */
    bool may_wait;              /* nothing of another channel waits behind the end of the message */
    dp_association_limit limit; /* without effect if the peer does not know FORWARD-TSN */
    uint32_t limit_value;
} dp_association_outgoing;

/* Hands over the next part of a message. *sent may be less than len: go on with the rest, on this stream
 * and, unless messages are interleaved, before any other, because usrsctp sends nothing else then until the message is
 * complete; it also takes, and drops, the rest of a message that it has abandoned. last: the message
 * ends with data[len). WOULD_BLOCK (nothing taken), CLOSED; CANCELLED: it was given up, and usrsctp
 * has its end. */
int dp_association_send(dp_association *association, size_t *sent, dp_time now,
                        const dp_association_outgoing *how, const uint8_t *data, size_t len, bool last);
/* Messages that an end like ours begins at a time, where they are interleaved: so many of max_message_size fit. */
#define DP_ASSOCIATION_BEGUN_MAX 8u
/* The peer puts interleaved messages together: those of other streams may be handed over in the middle of one. */
bool dp_association_interleaves(const dp_association *association);
/* A message of so many bytes leaves in one chunk. */
size_t dp_association_fragment(const dp_association *association);
/* Resets our direction of a stream once all that was sent on it is acknowledged (RFC 6525 §5.1.2). */
int dp_association_reset_stream(dp_association *association, uint16_t stream);

/* Asks the peer for count more outgoing streams (RFC 6525 §4.5): a STREAMS event follows if it answers. A peer that
 * does not blocks all stream resets meanwhile, so ask only one that is likely to. WOULD_BLOCK: hand over nothing
 * and try again once all is acknowledged; INVALID_STATE: another request is under way, try again; UNSUPPORTED. */
int dp_association_add_streams(dp_association *association, uint16_t count);
/* The outgoing streams that there are; 0 if that is unknown. */
uint16_t dp_association_streams(const dp_association *association);

typedef enum dp_association_event_type {
    DP_ASSOCIATION_NOTHING,
    DP_ASSOCIATION_DATA,
    DP_ASSOCIATION_ABANDONED, /* stream, unordered: the message will not be completed; its data is not to be used */
    DP_ASSOCIATION_UP,        /* streams: what we may use; incoming_streams: what the peer may */
    DP_ASSOCIATION_DOWN,    /* error */
    DP_ASSOCIATION_RESET,   /* which streams, which directions, failed or done */
    DP_ASSOCIATION_STREAMS, /* streams: what we may use from now on; error: the peer refused to add some */
    DP_ASSOCIATION_DRY,     /* all that was sent is acknowledged, or given up */
    DP_ASSOCIATION_IGNORED,
} dp_association_event_type;

typedef struct dp_association_event {
    dp_association_event_type type;
    size_t len; /* DATA */
    uint16_t stream;
    bool unordered;
    uint16_t
        mid; /* 0 without interleaving; with it a stream can have several unordered messages that have begun */
    bool complete; /* the message ends here */
    uint32_t ppid;
    uint32_t tsn;        /* of the message's first fragment */
    uint8_t chunk_flags; /* of an interleaved fragment */
    uint16_t streams;
    uint16_t incoming_streams;
    int error;
    bool reset_incoming;
    bool reset_outgoing;
    bool reset_failed;
    size_t reset_count; /* 0: all streams */
} dp_association_event;

/* Reads the next piece of data or notification. buffer holds the data; capacity at least
 * DP_ASSOCIATION_READ_MIN. */
void dp_association_receive(dp_association *association, dp_association_event *event, uint8_t *buffer,
                            size_t capacity);
#define DP_ASSOCIATION_READ_MIN 4096u
/* Asked after a piece that ends a message over max_message_size: the association has ended in the middle of it. */
bool dp_association_cut_short(dp_association *association);
/* The i-th stream of a RESET event that was read into buffer. */
uint16_t dp_association_reset_at(const uint8_t *buffer, size_t i);

/* The association's own part of them: the rest of out stays. */
void dp_association_get_stats(const dp_association *association, dp_sctp_stats *out);

/* A message is being read whose end has not come: what lies behind it, notifications too, cannot be read before. */
bool dp_association_in_message(const dp_association *association);
/* Some data may be waiting for receive. */
bool dp_association_readable(const dp_association *association);

#endif
