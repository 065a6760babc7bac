/* The inside of dp_signal_server: server.c (connections, time, what leaves), server_http.c (requests and their answers),
 * server_realm.c (clients, messages, queues for those who are absent), server_cluster.c (what several servers ask and
 * tell each other). */
#ifndef SIGNALING_SERVER_H
#define SIGNALING_SERVER_H

#include "base/queue.h"
#include "base/rate.h"
#include "base/table.h"
#include "server_message.h"
#include "server_request.h"
#include "websocket.h"
#include <datapeer/signal_server.h>

enum {
    TOKEN_MAX = 256,            /* bytes of a client's token and of the key */
    PATH_MAX_LEN = 255,         /* of the mount path */
    TRANSMIT_MAX = 16384,       /* bytes that are given to the owner at once */
    RESPONSE_MAX = 8 << 20,     /* that wait for one HTTP connection */
    HTTP_MAX = 1024,            /* connections that have not joined; one more takes the place of the oldest */
    SPARE_MAX = 4,              /* wslay contexts that are kept for the next message */
    EVENTS_MAX = 1024,          /* log events that the owner has not polled */
    ABSENT_MAX = 4096,          /* queues for absent peers */
    ABSENT_MESSAGES_MAX = 64,   /* in one of them... */
    ABSENT_BYTES_MAX = 1 << 18, /* ...and their bytes */
    EARLY_MAX = 1 << 17,        /* bytes of one connection while the cluster is asked */
};

/* An intrusive list, in order of deadlines: all that is in one list waits for the same length of time. */
typedef struct link {
    struct link *previous, *next;
    dp_time deadline;
} link;
typedef struct list {
    link *first, *last;
    size_t count;
} list;

typedef enum conn_state {
    CONN_HTTP,     /* waits for a request */
    CONN_ASKING,   /* the cluster is asked about it: whether it may join, or who is there */
    CONN_JOINED,   /* a client of the realm, or one that was (LEAVE) */
    CONN_CLOSING,  /* told goodbye; what comes is read and dropped */
    CONN_DONE,     /* only its output is still to leave */
    CONN_FINISHED, /* CLOSE is to be polled */
    CONN_STATES
} conn_state;

/* What came while the cluster was asked: it is read when the answer is there. */
typedef struct dp_early {
    size_t len, capacity;
    uint8_t *bytes;
} dp_early;

struct dp_signal_conn {
    link link; /* first: of the list of its state */
    link ready_link;
    conn_state state;
    bool ready;     /* in the list of those with something to send */
    bool paused;    /* the stream takes no bytes */
    bool websocket; /* not HTTP any more */
    bool deaf;      /* it broke the protocol: nothing more is read */
    bool member;    /* the realm's table has it under its id */
    bool charged;   /* it has cost its address a token of connection_rate... */
    bool served;    /* ...and got something for it */
    void *user;
    dp_address remote;
    dp_bucket messages;
    dp_request *request; /* NULL between requests */
    dp_ws *ws;           /* NULL between messages */
    char *id;            /* id and token, each with its NUL, once it is a client, or asks to be */
    const char *token;
    uint64_t stamp;  /* of its joining, or of what it asks; 0: the cluster knows nothing of it */
    dp_early *early; /* while CONN_ASKING */
    uint8_t *out;    /* out[out_at..out_len) waits for the owner */
    size_t out_at, out_len, out_capacity;
    size_t held; /* bytes of this one in server->buffered */
};

/* What waits for one absent peer. */
typedef struct absent {
    link link; /* first */
    char *dst;
    dp_queue messages; /* absent_message */
    size_t bytes;
} absent;
typedef struct absent_message {
    char *src;   /* and behind its NUL the text */
    size_t len;  /* of the text; 0: the cluster has it */
    size_t size; /* in absent.bytes */
} absent_message;

typedef struct log_event {
    dp_signal_event_type type;
    char *id;
    const char *reason;
    dp_address remote;
} log_event;

struct dp_signal_server {
    dp_signal_server_config config; /* its strings are ours */
    char *path, *key, *access_token;
    dp_rate message_rate;
    dp_rate_table *connection_rate;

    list conns[CONN_STATES]; /* dp_signal_conn by state */
    list ready;              /* dp_signal_conn.ready_link */
    dp_signal_conn *sending; /* whose bytes the owner has been given */
    size_t sending_len;
    bool shutting_down, done_told;
    dp_time shutdown_at;

    dp_table clients;   /* id: dp_signal_conn */
    dp_table absentees; /* id: absent */
    list waiting;       /* absent */
    dp_ws *spare[SPARE_MAX];
    size_t spare_count;
    dp_time now;             /* of the call that is running, for callbacks */
    dp_signal_conn *reading; /* whose input is being read */
    char *text;              /* of one message; DP_SIGNALING_TEXT_MAX bytes */

    size_t buffered;
    dp_queue events; /* log_event */
    log_event current;
    dp_signal_stats stats;

    dp_signal_cluster cluster; /* config.cluster points here, if there is one */
    bool cluster_up;
    uint64_t last_stamp;
    uint64_t list_ticket; /* the cluster is asked who is there; 0: it is not */
};

/* ---- server.c ---- */

/* Each call of the owner begins here. */
void dp_server_begin(dp_signal_server *s, dp_time now);
void dp_list_append(list *to, link *item, dp_time deadline);
void dp_list_remove(list *from, link *item);

/* Room for len bytes at the end of the output, to be filled now; NULL: over the limit or no memory, and conn is cut. */
uint8_t *dp_conn_reserve(dp_signal_server *s, dp_signal_conn *conn, size_t len);
void dp_conn_put(dp_signal_server *s, dp_signal_conn *conn, const void *data, size_t len);
/* The end of what was reserved was not needed. */
void dp_conn_trim(dp_signal_server *s, dp_signal_conn *conn, size_t unused);
/* Bytes of the stream, by the state that it is in. */
void dp_conn_take(dp_signal_server *s, dp_signal_conn *conn, const uint8_t *data, size_t len);
/* All streams together may hold too much now: as long as they do, the one for which the most waits is cut, and not whoever
 * happens to need room. own: bytes that conn holds itself, beside its output. False: conn was cut. */
bool dp_conn_make_room(dp_signal_server *s, dp_signal_conn *conn, size_t own);
/* The stream ends when the output has left; with linger not before the other end has closed it, or 3 s have passed. */
void dp_conn_close(dp_signal_server *s, dp_signal_conn *conn, bool linger);
/* conn asks for something: the first time that costs its address a token. False: there is none. */
bool dp_server_admit(dp_signal_server *s, dp_signal_conn *conn);
/* Garbage came, and conn ends: unless it was served before, the token is for honest ones behind the same address. Not to be
 * called where a secret may have been guessed at. */
void dp_server_forgive(dp_signal_server *s, dp_signal_conn *conn);
/* The stream ends now. reason is static. */
void dp_conn_cut(dp_signal_server *s, dp_signal_conn *conn, const char *reason);
void dp_conn_enter(dp_signal_server *s, dp_signal_conn *conn, conn_state state);
void dp_server_tell(dp_signal_server *s, dp_signal_event_type type, const char *id, const char *reason,
                    const dp_signal_conn *conn);

/* ---- server_http.c ---- */

/* A request is complete: answers it, or makes conn a WebSocket. */
void dp_http_serve(dp_signal_server *s, dp_signal_conn *conn, dp_request *request);
/* Answers what could not be read as a request, and closes. */
void dp_http_refuse(dp_signal_server *s, dp_signal_conn *conn, int error);
/* Answers conn->request, for which the cluster was asked. */
void dp_http_answer_peers(dp_signal_server *s, dp_signal_conn *conn, const char *const *ids, size_t count);
/* ...with those who are here. */
void dp_http_answer_own_peers(dp_signal_server *s, dp_signal_conn *conn);

/* ---- server_realm.c ---- */

/* conn has become a WebSocket with these parameters; NULL: missing. */
void dp_realm_join(dp_signal_server *s, dp_signal_conn *conn, const char *id, const char *token,
                   const char *key);
/* Makes it a client, now that nothing is known against it; unless somebody else here has its id. */
void dp_realm_admit(dp_signal_server *s, dp_signal_conn *conn);
/* ID-TAKEN, and goodbye. */
void dp_realm_refuse_taken(dp_signal_server *s, dp_signal_conn *conn);
void dp_realm_input(dp_signal_server *s, dp_signal_conn *conn, const uint8_t *data, size_t len);
/* conn is not a client any more. */
void dp_realm_leave(dp_signal_server *s, dp_signal_conn *conn, const char *reason);
/* Says goodbye with this close code, 0: none. */
/* (Not if it is closing already.) */
void dp_realm_dismiss(dp_signal_server *s, dp_signal_conn *conn, uint16_t code, const char *reason);
void dp_realm_expire(dp_signal_server *s, absent *queue);
void dp_realm_drop_absent(dp_signal_server *s, absent *queue);
/* Whether size more bytes may be kept for dst. */
bool dp_realm_has_room(const dp_signal_server *s, const char *dst, size_t size);
/* One more message of this size is kept for dst; the caller fills in the rest. NULL: no room. */
absent_message *dp_realm_keep(dp_signal_server *s, const char *dst, size_t size);
/* src's message to dst has expired. */
void dp_realm_tell_expired(dp_signal_server *s, const char *src, const char *dst);
/* Gives the wslay object back. */
void dp_realm_release(dp_signal_server *s, dp_signal_conn *conn);
/* A message for a client. False: conn could not take it, and is cut. */
bool dp_realm_send(dp_signal_server *s, dp_signal_conn *conn, dp_relay_type type, const char *src,
                   dp_slice payload);

/* ---- server_cluster.c: all that asks is false if there is no cluster, or it can't be reached ---- */

int dp_cluster_init(dp_signal_server *s, const dp_signal_cluster *cluster);
/* Tells that conn joins, or asks whether it may. */
bool dp_cluster_claim(dp_signal_server *s, dp_signal_conn *conn);
/* conn's claim, if it has one, is not needed any more. */
void dp_cluster_release(dp_signal_server *s, dp_signal_conn *conn);
/* conn waits for the answer. */
void dp_cluster_wait(dp_signal_server *s, dp_signal_conn *conn);
bool dp_cluster_list(dp_signal_server *s, dp_signal_conn *conn);
bool dp_cluster_withdraw(dp_signal_server *s, const char *dst);
/* A message for somebody who is not here; hops: how many nodes have passed it on. */
bool dp_cluster_forward(dp_signal_server *s, unsigned hops, dp_relay_type type, const char *src,
                        const char *dst, dp_slice payload);
/* Bytes came while the cluster is asked. */
void dp_cluster_hold(dp_signal_server *s, dp_signal_conn *conn, const uint8_t *data, size_t len);
/* No answer has come: as if there were no cluster. */
void dp_cluster_give_up(dp_signal_server *s, dp_signal_conn *conn);
/* conn ends, whatever was asked for it. */
void dp_cluster_forget(dp_signal_server *s, dp_signal_conn *conn);

#endif
