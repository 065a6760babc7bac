/* The inside of a DataConnection, shared by connection.c, connection_out.c (what leaves), negotiate.c (set-up through the PeerServer),
 * restart.c (ICE restarts through it), peer.c and peer_server.c. */
#ifndef PEER_CONNECTION_H
#define PEER_CONNECTION_H

#include "base/log.h"
#include "base/mem.h"
#include "base/queue.h"
#include "peer/runner.h"
#include "peer/server_stream.h"
#include <datapeer/peer.h>

/* The channel is filled up to the high mark, and again when it has fallen to the low one (bytes of
 * bufferedAmount). */
enum { CONNECTION_HIGH_WATER = 1 << 20, CONNECTION_LOW_WATER = 256 << 10 };

typedef enum serialization {
    SERIALIZATION_BINARY,
    SERIALIZATION_JSON,
    SERIALIZATION_RAW,
    SERIALIZATION_MSGPACK,
} serialization;

/* Errors that a call has returned and on_error tells again, as PeerJS does: bits. */
enum { REFUSED_NOT_OPEN = 1, REFUSED_TOO_BIG = 2 };

/* One message's worth of what waits to be sent. */
typedef struct outgoing {
    uint8_t *data; /* owned */
    size_t len;
    bool text; /* PPID 51 instead of 53 */
} outgoing;

typedef enum connection_state {
    CONNECTION_CONNECTING,
    CONNECTION_OPEN,
    CONNECTION_FLUSHING, /* close_flush: sends what waits, then goodbye, and waits for the other side to close
                          */
    CONNECTION_CLOSED,   /* on_close has been or is about to be called */
} connection_state;

struct dp_connection {
    dp_peer *peer;
    dp_connection *next; /* the peer's list */
    runner *runner;
    /* Of a caller: several connections of the same two peers need different ports on one side. */
    mux *own_mux;
    dp_channel *channel;
    bool channel_closed; /* by the other side, or with the whole connection */
    connection_state state;
    dp_connection_handler handler;

    char *remote_id;
    char *id;
    char *label;
    char *metadata;
    char *serialization_name;
    serialization serialization;
    bool reliable;
    bool caller;
    bool offer_waits; /* for the PeerServer to be open */
    bool bad_candidate_told;
    bool pinned; /* remote_fingerprint counts */
    dp_fingerprint remote_fingerprint;

    dp_dechunker *dechunker;
    dp_unpacker *unpacker; /* MsgPack, instead */
    dp_rpc *rpc;
    dp_queue queue;   /* of outgoing */
    size_t queued;    /* bytes in it */
    outgoing current; /* what chunker, or sent, walks through */
    size_t sent;      /* of current: MsgPack is cut anywhere */
    outgoing goodbye; /* of close_flush: goes behind the queue and the rpc's answers */
    dp_chunker chunker;
    uint64_t next_chunk_id;
    bool blocked;      /* a send was refused: on_drain is due */
    dp_timer timer;    /* deadlines: set-up, flush, rpc and dechunker */
    dp_time deadline;  /* of the set-up or the flush */
    size_t flush_left; /* bytes: as long as it changes, a flush has time */
    dp_deferred close_later;
    unsigned refused; /* what tell_later tells */
    dp_deferred tell_later;

    /* restart.c */
    bool knows_restart;   /* the other side understands ICE restarts: its OFFER or ANSWER says so */
    bool restart_offered; /* an offer of ours waits for its answer */
    bool restart_waits;   /* for the PeerServer */
    bool restart_forced;  /* we have lost an address: even if we know another path, the other side may not */
    unsigned restarts;    /* the number of our last offer */
    unsigned restart_tries;
    dp_time path_deadline; /* by when a lost path must be back; else DP_TIME_NEVER */
    dp_time restart_offered_at;
    dp_time restart_allowed_at; /* when the other side may make the next */
    dp_timer restart_timer;
    bool restart_armed;
    dp_ice_state ice_state;
};

typedef struct ice_server_list {
    dp_ice_server servers[DP_PEER_MAX_ICE_SERVERS]; /* with texts of our own */
    size_t count;
} ice_server_list;

struct dp_peer {
    dp_loop *loop;
    dp_random random;
    dp_log log;
    dp_peer_handler handler;
    dp_signaling *signaling;
    server_stream *stream; /* to the PeerServer */
    dp_server_url server;
    char *key;
    const dp_certificate *certificate;
    dp_certificate *own_certificate;
    dp_key_log key_log;
    ice_server_list ice;
    bool relay_only;
    bool hide_addresses;
    bool ice_tcp;
    bool ice_lite;
    size_t datagram_size;
    bool reconnect;
    network *network;
    mux *mux;
    size_t max_connections;
    size_t max_value_size;
    dp_time refusal_allowed_at; /* restart.c: when we may say again that we have no such connection */
    dp_connection *connections;
    size_t connection_count;
    size_t max_unfinished_size;
    dp_duration max_unfinished_time;
    struct listing *listings; /* list.c */
    dp_queue early;           /* early.c */
    bool open;                /* the PeerServer knows us */
    bool was_open;
    bool wants_to_be_open;
    bool disconnected; /* neither open nor on the way there */
    bool leaving;      /* the socket's orderly end is under way */
    bool start_again;  /* ... and then it is to be opened again */
    bool fatal;        /* what PeerJS destroys itself for, if it never was open */
    bool call_refused; /* "disconnected" is to be told */
    bool destroyed;    /* on_close has been called */
    bool destroying;
    unsigned failures; /* in a row, for the back-off */
    dp_duration reconnect_min;
    dp_duration reconnect_max;
    dp_timer timer; /* signaling's */
    dp_timer reconnect_timer;
    dp_deferred pump;
    dp_deferred destroy;
};

/* connection.c */
int dp_connection_new(dp_connection **out, dp_peer *peer, const char *remote_id, const char *id,
                      const dp_connect_options *options);
/* Ends it: on_close is called and it is freed, later in this round. error_type NULL: no on_error before. */
void dp_connection_end(dp_connection *conn, const char *error_type, const char *message);
/* The later part of dp_connection_end: outside of every callback of the connection's own parts, so that they
 * can be freed. */
void dp_connection_finish(dp_connection *conn);
/* Takes it off the peer's list and frees it at once, calling nobody. */
void dp_connection_free(dp_connection *conn);
void dp_connection_report(dp_connection *conn, const char *type, const char *message);
void dp_connection_on_message(dp_connection *conn, const dp_pc_event *event);
void dp_connection_rearm(dp_connection *conn);

/* connection_out.c */
void dp_connection_init_out(dp_connection *conn);
void dp_connection_clear_out(dp_connection *conn);
void dp_connection_fill(dp_connection *conn);
int dp_connection_rpc_fits(void *user,
                           const dp_value *context); /* dp_rpc_config.fits; user: the connection */

/* negotiate.c */
int dp_negotiate_call(dp_connection *conn);
void dp_negotiate_offer(dp_peer *peer, const dp_signaling_event *event);
void dp_negotiate_answer(dp_peer *peer, const dp_signaling_event *event);
void dp_negotiate_candidate(dp_peer *peer, const char *src, const char *connection_id, const char *candidate);

/* restart.c */
void dp_restart_init(dp_connection *conn);
void dp_restart_on_ice_state(dp_connection *conn, dp_ice_state state);
void dp_restart_on_network(dp_connection *conn); /* our addresses have changed */
void dp_restart_on_server_open(dp_peer *peer);
void dp_restart_offer(dp_peer *peer, const char *src, const dp_signaling_offer *offer);
/* sdp NULL: the other side has no such connection. */
void dp_restart_answer(dp_connection *conn, const char *sdp, unsigned restart);

/* early.c: candidates that are here before their OFFER */
void dp_early_init(dp_peer *peer);
void dp_early_clear(dp_peer *peer);
void dp_early_keep(dp_peer *peer, const char *src, const char *connection_id, const char *candidate);
void dp_early_give(dp_connection *conn); /* those of conn */

/* list.c */
void dp_listings_end(dp_peer *peer); /* with CLOSED */

/* peer.c */
dp_connection *dp_peer_find(dp_peer *peer, const char *remote_id, const char *connection_id);
void dp_peer_report(dp_peer *peer, const char *type, const char *message);
void dp_peer_wake(dp_peer *peer); /* signaling has something to send */
void dp_peer_tell_closed(dp_peer *peer);

/* peer_server.c */
void dp_peer_init_server(dp_peer *peer);
void dp_peer_clear_server(dp_peer *peer);
int dp_peer_set_up_stream(dp_peer *peer, const dp_peer_config *config);
void dp_peer_on_network_change(void *user, bool lost); /* network_config.on_change; user: the peer */

#endif
