/* A PeerServer as a state machine: what npm's `peer` 1.x does for PeerJS clients, without sockets. The owner accepts
 * streams and moves their bytes; the server answers HTTP requests, speaks WebSocket and passes messages on.
 *
 * After each call drain dp_signal_server_poll_transmit and dp_signal_server_poll_event, and ask for the next timeout.
 * What a client can see, and where it differs from npm's server: docs/peerserver.md. */
#ifndef DATAPEER_SIGNAL_SERVER_H
#define DATAPEER_SIGNAL_SERVER_H

#include <datapeer/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dp_signal_server dp_signal_server;
typedef struct dp_signal_conn dp_signal_conn;

/* A static file that a GET is answered with. All of it must outlive the server. */
typedef struct dp_signal_file {
    const void *body;
    size_t len;
    const char *type; /* of its content, "text/html; charset=utf-8" */
    const char *etag; /* with its quotation marks, or NULL */
    const char *csp;  /* Content-Security-Policy, or NULL */
} dp_signal_file;

/* ---- several servers as one ------------------------------------------------------------------------------------- */

/* What becomes of a letter whose addressee is on no node. */
typedef enum dp_signal_absent {
    DP_SIGNAL_DROP, /* nothing */
    DP_SIGNAL_TELL, /* its sender gets EXPIRE */
    DP_SIGNAL_KEEP, /* it is left for the addressee; without room for it, as DP_SIGNAL_TELL */
} dp_signal_absent;

/* What joins several servers (nodes) into one: something outside that knows which node has which id, and carries letters.
 * The server calls these functions between dp_signal_server_cluster_up and _down; they must not call it back, the answers
 * come later by the functions below. False: it can't be done now, and the server acts as if it were alone. Strings are
 * borrowed. Rules for the case that nodes can't see one another: signaling/README.md. */
typedef struct dp_signal_cluster {
    void *ctx;
    /* Wall clock minus dp_time: stamps of several nodes can be compared then. */
    uint64_t time_offset;
    /* A client is here, or asks to be, since stamp (microseconds of the wall clock, no two alike at one node). proof is a
     * hash of its token. Whoever has the same proof takes the id over; with renew, which says nothing new, only from
     * somebody who came earlier. Answer: dp_signal_server_claimed. */
    bool (*claim)(void *ctx, const char *id, const char *proof, uint64_t stamp, bool renew);
    void (*release)(void *ctx, const char *id, uint64_t stamp);
    /* A letter for dst, who is not here. Answer: dp_signal_server_forwarded. */
    bool (*forward)(void *ctx, const char *src, const char *dst, const char *letter, size_t len,
                    dp_signal_absent absent);
    /* The letters that this node has left for dst have waited long enough. Answer: dp_signal_server_returned. */
    bool (*withdraw)(void *ctx, const char *dst);
    /* Who is there? Answer: dp_signal_server_listed. */
    bool (*list)(void *ctx, uint64_t ticket);
} dp_signal_cluster;

/* ---- one server ------------------------------------------------------------------------------------------------- */

/* One figure in Prometheus's text format, as "datapeer_" and name. */
typedef struct dp_signal_metric {
    const char *name; /* "stun_answered_total" */
    const char *type; /* "counter", "gauge" */
    const char *help; /* a sentence */
    uint64_t value;
} dp_signal_metric;

/* 0 stands for the default in each number, unless it says otherwise. */
typedef struct dp_signal_server_config {
    size_t size;      /* sizeof(dp_signal_server_config) */
    dp_random random; /* required: ids */
    dp_log log;
    const char *path;          /* where it is mounted; NULL: "/" */
    const char *key;           /* NULL: "peerjs" */
    const char *access_token;  /* clients' tokens must begin with it; NULL: anybody may join */
    bool allow_discovery;      /* {key}/peers tells all ids */
    bool metrics;              /* /metrics (Prometheus); with an access token to its bearer only */
    unsigned concurrent_limit; /* clients; 5000 */
    dp_duration alive_timeout; /* without a HEARTBEAT; 90 s, as browsers let hidden pages run once a minute */
    dp_duration expire_timeout;  /* of messages for an absent peer; 5 s */
    dp_duration request_timeout; /* for a request's head, and for an idle HTTP connection; 10 s */
    /* Connections of one address (IPv6: /64) a second that ask for something and get it; 50; UINT32_MAX: no limit. Those
     * that only bring garbage do not count, so that they cost honest ones behind the same address nothing. */
    unsigned connection_rate;
    unsigned connection_burst; /* 500 */
    unsigned message_rate;     /* messages a second of one connection; 100; UINT32_MAX: no limit */
    unsigned message_burst;    /* 1000 */
    size_t client_buffer;      /* bytes that wait for one client: over it the client is cut, 256 KiB */
    /* Bytes that the server holds for all: over it the client for which the most waits is cut; 64 MiB. Absent peers have
     * half of it at most. */
    size_t total_buffer;
    /* The page, if the server has one: asked first for each GET and HEAD with the decoded path, without its query. */
    bool (*find_file)(void *ctx, const char *path, dp_signal_file *file);
    void *file_ctx;
    const dp_signal_cluster *cluster; /* copied; NULL: this server is alone */
    /* Figures of the owner's for /metrics, beside the server's: fills out[0..capacity), at most 8, and returns how many. */
    size_t (*more_metrics)(void *ctx, dp_signal_metric *out, size_t capacity);
    void *metrics_ctx;
    /* A browser's page asks something, or joins: is it one whose pages may? origin: of its Origin field, "https://page.example"
     * or "null"; user: the stream's. Else it gets 403. Not asked about what brings no such field; NULL: all pages may. */
    bool (*allow_origin)(void *user, const dp_address *remote, const char *origin);
} dp_signal_server_config;

/* INVALID_ARGUMENT, NO_MEMORY, CRYPTO. */
DP_API int dp_signal_server_new(dp_signal_server **out, const dp_signal_server_config *config);
/* Also with connections: no CLOSE comes for them. */
DP_API void dp_signal_server_free(dp_signal_server *server);

/* A stream was accepted; user comes back in its transmits and events. Of 1,024 that have not joined the oldest makes room.
 * CLOSED: shutting down; NO_MEMORY. */
DP_API int dp_signal_server_accept(dp_signal_conn **out, dp_signal_server *server, dp_time now,
                                   const dp_address *remote, void *user);
DP_API void dp_signal_server_input(dp_signal_server *server, dp_signal_conn *conn, dp_time now,
                                   const uint8_t *data, size_t len);
/* The stream has ended: conn is gone. */
DP_API void dp_signal_server_disconnected(dp_signal_server *server, dp_signal_conn *conn, dp_time now);
/* The stream takes no bytes for now; until dp_signal_server_resume they are kept here, up to client_buffer. */
DP_API void dp_signal_server_pause(dp_signal_server *server, dp_signal_conn *conn);
DP_API void dp_signal_server_resume(dp_signal_server *server, dp_signal_conn *conn);
DP_API void dp_signal_server_handle_timeout(dp_signal_server *server, dp_time now);
DP_API dp_time dp_signal_server_next_timeout(const dp_signal_server *server);
/* Tells all clients goodbye (1001) and accepts no more; DONE comes when they are gone, after 3 s at the latest. */
DP_API void dp_signal_server_shutdown(dp_signal_server *server, dp_time now);

typedef struct dp_signal_transmit {
    dp_signal_conn *conn;
    void *user;
    const uint8_t *data; /* at most 16 KiB, valid until the next call */
    size_t len;
} dp_signal_transmit;
DP_API bool dp_signal_server_poll_transmit(dp_signal_server *server, dp_signal_transmit *out);

typedef enum dp_signal_event_type {
    DP_SIGNAL_EVENT_CLOSE,   /* user: close the stream after what was transmitted; conn is gone */
    DP_SIGNAL_EVENT_JOINED,  /* id, remote */
    DP_SIGNAL_EVENT_LEFT,    /* id, remote, reason */
    DP_SIGNAL_EVENT_REFUSED, /* remote, reason */
    DP_SIGNAL_EVENT_EXPIRED, /* id: who was not there */
    DP_SIGNAL_EVENT_DONE,    /* the shutdown is over */
} dp_signal_event_type;

typedef struct dp_signal_event {
    dp_signal_event_type type;
    void *user;
    const char *id;     /* chosen by a stranger: free of control characters, no more */
    const char *reason; /* static */
    dp_address remote;
} dp_signal_event; /* pointers are valid until the next call */
/* All but CLOSE and DONE are for a log: of those that are not polled only the first 1024 are kept. */
DP_API bool dp_signal_server_poll_event(dp_signal_server *server, dp_signal_event *event);

typedef struct dp_signal_stats {
    size_t size; /* sizeof(dp_signal_stats), set by the caller */
    size_t connections, clients, absent;
    size_t buffered; /* bytes held for all */
    uint64_t accepted, requests, joined;
    uint64_t relayed, queued, expired, dropped, heartbeats;
    uint64_t bytes_in, bytes_out;
    uint64_t refused; /* connections over the rate, requests and joins refused */
    uint64_t cut;     /* slow readers, silent and noisy clients */
    bool cluster_up;
    uint64_t forwarded; /* letters to other nodes, or left for absent peers there */
    uint64_t letters;   /* from other nodes */
    uint64_t garbage;   /* what came from other nodes and made no sense */
} dp_signal_stats;
DP_API void dp_signal_server_get_stats(const dp_signal_server *server, dp_signal_stats *out);

/* ---- what the cluster says: only with config.cluster -------------------------------------------------------------- */

/* It can be asked from now on; all clients that are here are claimed (renew). */
DP_API void dp_signal_server_cluster_up(dp_signal_server *server, dp_time now);
/* It can't be asked any more; who waits for an answer is served as if this server were alone. */
DP_API void dp_signal_server_cluster_down(dp_signal_server *server, dp_time now);

typedef enum dp_signal_verdict {
    DP_SIGNAL_GRANTED,
    DP_SIGNAL_TAKEN, /* by somebody with another token */
    DP_SIGNAL_MOVED, /* the same peer has joined elsewhere since; may come at any time */
} dp_signal_verdict;
DP_API void dp_signal_server_claimed(dp_signal_server *server, dp_time now, const char *id, uint64_t stamp,
                                     dp_signal_verdict verdict);

typedef enum dp_signal_fate {
    DP_SIGNAL_SENT,     /* a node has it */
    DP_SIGNAL_KEPT,     /* it waits for dst */
    DP_SIGNAL_RETURNED, /* dst is not there: src is told */
    DP_SIGNAL_LOST,     /* dst is not there: src is not told */
} dp_signal_fate;
/* len: of the letter. */
DP_API void dp_signal_server_forwarded(dp_signal_server *server, dp_time now, const char *src,
                                       const char *dst, size_t len, dp_signal_fate fate);
/* One or more letters of src have waited for dst in vain. */
DP_API void dp_signal_server_returned(dp_signal_server *server, dp_time now, const char *src,
                                      const char *dst);
/* A letter from another node, or one that was left here: checked as what a client sends. */
DP_API void dp_signal_server_letter(dp_signal_server *server, dp_time now, const char *letter, size_t len);
DP_API void dp_signal_server_listed(dp_signal_server *server, dp_time now, uint64_t ticket,
                                    const char *const *ids, size_t count);

#ifdef __cplusplus
}
#endif
#endif
