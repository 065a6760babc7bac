/* Runs one dp_pc on a dp_loop: one timer, and the visible loop that moves events to the owner and datagrams
 * to the mux's sockets and the links to TURN servers; mDNS names are resolved and published here, too. */
#ifndef PEER_RUNNER_H
#define PEER_RUNNER_H

#include "peer/mux.h"
#include <datapeer/peer_connection.h>

typedef struct runner runner;

/* Called for each event; sending in it is fine, freeing the runner is not (defer that). */
typedef void (*runner_event_fn)(void *user, const dp_pc_event *event);
/* Called after a round of events, before datagrams leave: the owner hands more data over. */
typedef void (*runner_fill_fn)(void *user);

typedef struct runner_config {
    network *network; /* borrowed, as mux is */
    mux *mux;         /* shared by many */
    dp_pc_config pc;
    runner_event_fn on_event;
    runner_fill_fn on_fill;
    void (*on_network)(void *user); /* our local addresses have changed; may be NULL */
    void *user;
} runner_config;

int dp_runner_new(runner **out, const runner_config *config);
/* Sends what is queued (ABORT, close_notify). */
void dp_runner_free(runner *r);
dp_pc *dp_runner_pc(const runner *r);
/* Something was changed from outside (a send, a description): pump later in this round. */
void dp_runner_wake(runner *r);

#endif
