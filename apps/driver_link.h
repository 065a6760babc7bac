/* One connection of `datapeer peer`: the lines about it that are not answered yet, and what came on it. */
#ifndef APPS_DRIVER_LINK_H
#define APPS_DRIVER_LINK_H

#include "app.h"

typedef struct link link_; /* "link" alone is unistd.h's */

typedef enum pending_kind {
    PENDING_OPEN,
    PENDING_RECV,
    PENDING_WAITCLOSE,
    PENDING_SEND,
    PENDING_REQUEST,
} pending_kind;

/* A line whose answer comes later. */
typedef struct pending {
    struct pending *next;
    link_ *link;
    dp_value *id;
    pending_kind kind;
    dp_timer timer;
    dp_value *line; /* PENDING_SEND: what waits for room */
    char request_id[DP_REQUEST_ID_LEN + 1];
    dp_sha256_hash *hash; /* stream */
    uint64_t length;
} pending;

typedef struct received {
    struct received *next;
    dp_value *answer; /* the members of recv's answer */
} received;

struct link {
    app *app;
    size_t number;       /* conn, in the lines */
    dp_connection *conn; /* NULL once it is closed */
    pending *pending;
    received *first;
    received **last;
    char error[256];
};

/* ---- answers: a line with the id of the one that asked ---- */

void link_answer(const dp_value *id, dp_value *members); /* takes members */
void link_answer_error(const dp_value *id, const char *message);
void link_answer_result(const dp_value *id, int error);

/* ---- a connection ---- */

link_ *link_new(app *owner, size_t number);
void link_free(link_ *l);
dp_connection_handler link_handler(link_ *l);

/* NULL: out of memory. After timeout the answer is an error. */
pending *link_add_pending(link_ *l, const dp_value *line, pending_kind kind, dp_duration timeout);
void link_drop_pending(pending *p);

/* The op send; it is answered, now or when there is room. */
void link_send(link_ *l, const dp_value *line);
/* The oldest message that came answers p. */
void link_answer_recv(pending *p);

#endif
