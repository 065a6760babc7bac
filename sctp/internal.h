/* What sctp.c (the association's life and its events), receive.c (reassembly and DCEP in) and channel.c
 * (channels, sending, closing) share. */
#ifndef SCTP_INTERNAL_H
#define SCTP_INTERNAL_H

#include <datapeer/sctp.h>

#include "association.h"
#include "base/log.h"
#include "base/text.h"

typedef enum dp_sctp_state {
    DP_SCTP_NEW,
    DP_SCTP_CONNECTING,
    DP_SCTP_UP,
    DP_SCTP_DOWN,
} dp_sctp_state;

/* A message that waits for usrsctp, or the rest of one. */
typedef struct dp_message {
    struct dp_message *next;
    size_t len;
    size_t sent; /* bytes that usrsctp has */
    uint32_t ppid;
    bool begun;
    bool unordered;
    bool counted; /* in bufferedAmount: user data, not DCEP */
    uint8_t data[];
} dp_message;

/* Events wait as bits of the channel, so that no event is ever lost to a failed allocation. Given out in this
 * order. */
enum {
    DP_PENDING_OPEN = 1,
    DP_PENDING_LOW = 2,
    DP_PENDING_ERROR = 4,
    DP_PENDING_CLOSED = 8,
};

struct dp_channel {
    dp_sctp *sctp;
    dp_channel *previous, *next; /* all channels of the association */
    dp_channel *next_ready;      /* channels with something to send, in turn */
    dp_channel *next_event;      /* channels with events */
    bool ready;
    bool has_event;
    unsigned pending; /* DP_PENDING_ */
    dp_channel_state state;
    int id;
    bool ordered;
    bool incoming;
    bool ack_due; /* we owe a DATA_CHANNEL_ACK, which goes before everything else */
    bool acked;   /* the peer has answered: unordered messages may leave unordered (RFC 8832 §6) */
    int error;
    dp_message *head, *tail;
    size_t buffered;
    size_t low_threshold;
    dp_time close_deadline;
    void *user;
    char *label;
    char *protocol;
};

/* What is known of a stream id, also after its channel is gone: an id is free again once both directions are
 * reset (RFC 8832 §6, RFC 8831 §6.7). */
enum {
    DP_STREAM_RESET_WANTED = 1, /* our direction: usrsctp has not taken the request yet */
    DP_STREAM_RESET_SENT = 2,
    DP_STREAM_OUT_DONE = 4,
    DP_STREAM_IN_DONE = 8,
    DP_STREAM_STALE = 16, /* the reset on its way belongs to the stream's previous channel */
};

typedef struct dp_stream {
    dp_channel *channel;
    unsigned flags;
} dp_stream;

/* A message on its way in. Which one a fragment belongs to is told by stream and U flag. */
typedef struct dp_partial {
    struct dp_partial *next;
    uint16_t stream;
    bool unordered;
    bool discard; /* over the limit, or nobody wants it: its bytes are read and forgotten */
    uint32_t ppid;
    uint32_t tsn;
    uint8_t *data;
    size_t len;
    size_t capacity;
} dp_partial;

struct dp_sctp {
    dp_sctp_config config;
    dp_log log;
    dp_sctp_state state;
    bool dtls_client;
    bool connected_pending;
    bool closed_reported;
    int error;
    dp_time now;
    uint16_t remote_port;
    size_t remote_max_message_size;
    dp_association *association;

    dp_channel *channels;
    size_t channel_count;
    size_t closing_count;
    dp_stream *streams;
    size_t stream_capacity;
    uint16_t stream_limit; /* ids from here on do not exist */
    bool resets_wanted;
    dp_time reset_retry;

    dp_channel *ready_head, *ready_tail;
    dp_channel *event_head, *event_tail;
    dp_channel *reap;    /* its CHANNEL_CLOSED was given out: freed by the next call */
    dp_channel *current; /* its first message is half handed over: no other may go before */

    dp_partial *partials;
    size_t partial_bytes;
    dp_partial *spare;     /* empty, keeps its buffer */
    dp_partial *delivered; /* the event that was given out points into it */
    uint64_t dropped;      /* packets and messages */
};

/* channel.c */
dp_stream *dp_stream_get(dp_sctp *sctp, uint16_t id); /* NULL: never used */
int dp_stream_use(dp_sctp *sctp, dp_stream **out, uint16_t id);
/* Asks for a reset of our direction of a stream, now or as soon as usrsctp takes it. */
void dp_stream_reset(dp_sctp *sctp, uint16_t id);
void dp_stream_retry_resets(dp_sctp *sctp);
void dp_stream_was_reset(dp_sctp *sctp, uint16_t id, const dp_association_event *event);

int dp_channel_new(dp_channel **out, dp_sctp *sctp, dp_slice label, dp_slice protocol, bool ordered);
void dp_channel_free(dp_channel *channel);
void dp_channel_event(dp_channel *channel, unsigned pending);
/* CHANNEL_ERROR, then the closing procedure. */
void dp_channel_fail(dp_channel *channel, int error);
/* The end: CHANNEL_CLOSED and nothing after it. */
void dp_channel_finish(dp_channel *channel);
void dp_channel_assign_all(dp_sctp *sctp);
void dp_channel_association_up(dp_sctp *sctp, uint16_t streams);
void dp_channel_check_deadlines(dp_sctp *sctp);
/* Hands over what waits, channel by channel and message by message, until usrsctp is full. */
void dp_channel_pump(dp_sctp *sctp);
void dp_channel_wake(dp_channel *channel);

/* receive.c */
/* Reads until there is a MESSAGE (true) or nothing is left or a channel event came up (false). */
bool dp_receive_poll(dp_sctp *sctp, dp_sctp_event *event);
void dp_receive_release(dp_sctp *sctp); /* what the last event pointed to */
void dp_receive_drop_stream(dp_sctp *sctp, uint16_t id);
void dp_receive_clear(dp_sctp *sctp);

/* sctp.c */
void dp_sctp_went_up(dp_sctp *sctp, uint16_t streams);
void dp_sctp_went_down(dp_sctp *sctp, int error);

#endif
