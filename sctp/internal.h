/* What sctp.c (the association's life and its events), receive.c (reassembly and DCEP in), channel.c (opening and
 * closing), send.c (the queues out) and streams.c (ids) share. */
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
    dp_time expires; /* maxPacketLifeTime is over after this */
    bool goes_on;    /* the next one of the channel belongs to the same message */
    bool unordered;
    bool counted; /* in bufferedAmount: user data, not DCEP */
    uint8_t data[];
} dp_message;

/* Events wait as bits of the channel, so that no event is ever lost to a failed allocation. Given out in this
 * order. */
enum {
    DP_PENDING_OPEN = 1,
    DP_PENDING_LOW = 2,
    DP_PENDING_PART = 4, /* the last one, with an error */
    DP_PENDING_ERROR = 8,
    DP_PENDING_CLOSED = 16,
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
    int32_t max_retransmits;     /* -1: no limit */
    int32_t max_packet_lifetime; /* ms, -1: no limit */
    bool negotiated;
    dp_channel_priority priority;
    bool incoming;
    bool ack_due;  /* we owe a DATA_CHANNEL_ACK, which goes before everything else */
    bool acked;    /* the peer has answered: messages may leave unordered and unreliable (RFC 8832 §6) */
    bool in_parts; /* the first part of a message was given out, the last was not */
    int part_error;
    int error;
    dp_message *head, *tail;
    bool begun;       /* usrsctp has the beginning of a message of it, and not the end */
    size_t begun_len; /* of that message */
    bool given_up;    /* what is left of that message goes to nobody */
    bool in_message;  /* the owner has begun a message in parts */
    bool part_binary;
    uint64_t part_bytes;
    dp_time part_deadline; /* for the next part */
    int64_t credit;        /* bytes that it may still hand over in this turn */
    size_t buffered;
    size_t low_threshold;
    dp_channel_stats stats;
    bool was_open;
    dp_time close_deadline;
    void *user;
    char *label; /* and a NUL behind it */
    size_t label_len;
    char *protocol;
    size_t protocol_len;
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

/* A message on its way in. Which one a fragment belongs to is told by stream, U flag and MID. */
typedef struct dp_partial {
    struct dp_partial *next;
    uint16_t stream;
    bool unordered;
    uint16_t mid;
    bool discard; /* over the limit, or nobody wants it: its bytes are read and forgotten */
    uint32_t ppid;
    uint8_t *data;
    size_t len;
    size_t capacity;
    uint64_t given; /* bytes that were given out, if it is over max_message_size */
    bool ended;     /* all of it has come */
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
    size_t path_ceiling; /* see dp_sctp_set_path */
    dp_duration path_round_trip;
    dp_association *association;

    dp_channel *channels;
    size_t channel_count;
    size_t closing_count;
    dp_stream *streams;
    size_t stream_capacity;
    uint16_t stream_limit;   /* ids from here on do not exist and never will */
    uint16_t streams_out;    /* what usrsctp has of them by now */
    uint16_t streams_wanted; /* a channel waits for this many, 0: none does */
    bool streams_draining;   /* nothing is handed over until usrsctp can ask for them */
    uint16_t streams_asked;  /* the request that is under way is for this many, 0: none is */
    bool streams_sparing;    /* the peer has refused more than what was wanted: not more than that */
    dp_time streams_deadline;
    bool resets_open; /* a stream's is wanted or sent */
    dp_time reset_retry;

    dp_channel *ready_head, *ready_tail;
    dp_channel *event_head, *event_tail;
    dp_channel *reap;    /* its CHANNEL_CLOSED was given out: freed by the next call */
    dp_channel *current; /* has begun a message, and no other may go before the rest */
    size_t begun_count;  /* channels that have begun one */
    size_t begun_bytes;

    dp_partial *partials;
    size_t partial_bytes;
    dp_partial *spare; /* empty, keeps its buffer for a while */
    dp_time received_at;
    dp_partial *delivered; /* the event that was given out points into it */
    dp_partial *parting;   /* or into this one, which has more to give */
    size_t part_len;
    uint64_t dropped; /* packets and messages */
    uint32_t opened;  /* channels whose OPEN event was given out */
    uint32_t closed;  /* and CLOSED, too */
};

/* streams.c */
dp_stream *dp_stream_get(dp_sctp *sctp, uint16_t id); /* NULL: never used */
int dp_stream_use(dp_sctp *sctp, dp_stream **out, uint16_t id);
/* Gives the channel an id: the lowest that is free, or this one. LIMIT, EXISTS, NO_MEMORY. */
int dp_stream_assign(dp_channel *channel);
int dp_stream_assign_id(dp_channel *channel, uint16_t id);
/* Asks for a reset of our direction of a stream, now or as soon as usrsctp takes it. */
void dp_stream_reset(dp_sctp *sctp, uint16_t id);
void dp_stream_retry_resets(dp_sctp *sctp);
void dp_stream_was_reset(dp_sctp *sctp, uint16_t id, const dp_association_event *event);
/* The association has this many streams to begin with. */
void dp_streams_up(dp_sctp *sctp, uint16_t outgoing, uint16_t incoming);
/* Asks the peer for more streams if this one does not exist yet. */
void dp_streams_want(dp_sctp *sctp, int id);
void dp_streams_grow(dp_sctp *sctp); /* goes on with it */
void dp_streams_changed(dp_sctp *sctp, uint16_t outgoing, int error);
void dp_streams_check_deadline(dp_sctp *sctp);

/* channel.c */
/* init's lengths are the lengths, also 0. */
int dp_channel_new(dp_channel **out, dp_sctp *sctp, const dp_channel_init *init);
void dp_channel_free(dp_channel *channel);
void dp_channel_event(dp_channel *channel, unsigned pending);
/* CHANNEL_ERROR, then the closing procedure. */
void dp_channel_fail(dp_channel *channel, int error);
/* CHANNEL_ERROR and the end, where there is no stream to reset. */
void dp_channel_drop(dp_channel *channel, int error);
void dp_channel_closed_by_peer(dp_channel *channel);
/* The end: CHANNEL_CLOSED and nothing after it. */
void dp_channel_finish(dp_channel *channel);
/* All that it had to send is handed over: a channel that closes resets its stream now. */
void dp_channel_drained(dp_channel *channel);
void dp_channel_assign_all(dp_sctp *sctp);
void dp_channel_association_up(dp_sctp *sctp);
void dp_channel_streams_added(dp_sctp *sctp);
void dp_channel_check_deadlines(dp_sctp *sctp);

/* send.c */
dp_message *dp_message_new(size_t len); /* NULL: no memory */
void dp_send_enqueue(dp_channel *channel, dp_message *message);
/* Drops what can still be taken back, or, with the channel, all. */
void dp_send_discard(dp_channel *channel);
void dp_send_forget(dp_channel *channel);
/* Of a message in parts that was begun, drops what can be taken back. True: usrsctp has some, and no end will follow. */
bool dp_send_unfinished(dp_channel *channel);
bool dp_send_has_more(const dp_channel *channel);
void dp_send_unready(dp_channel *channel); /* takes it out of the turns */
void dp_send_expire(dp_sctp *sctp);
/* Hands over what waits, channel by channel and message by message, until usrsctp is full. */
void dp_channel_pump(dp_sctp *sctp);
void dp_channel_wake(dp_channel *channel);

/* receive.c */
/* Reads until there is a MESSAGE (true) or nothing is left or a channel event came up (false). */
bool dp_receive_poll(dp_sctp *sctp, dp_sctp_event *event);
void dp_receive_release(dp_sctp *sctp); /* what the last event pointed to */
void dp_receive_shrink(dp_sctp *sctp);  /* gives back what an idle association does not need */
/* A message that was given out in part will not be completed: the owner is told. */
void dp_receive_break(dp_channel *channel, int error);
void dp_receive_drop_stream(dp_sctp *sctp, uint16_t id);
void dp_receive_clear(dp_sctp *sctp);

/* sctp.c */
void dp_sctp_went_up(dp_sctp *sctp, uint16_t outgoing_streams, uint16_t incoming_streams);
void dp_sctp_went_down(dp_sctp *sctp, int error);
/* The same, and the peer is told. */
void dp_sctp_fail(dp_sctp *sctp, int error);

#endif
