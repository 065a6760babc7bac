/* Runs one dp_pc on a dp_loop: a UDP socket for each local address, one timer, and the visible loop that moves events to the
 * owner and datagrams to the sockets. */
#ifndef PEER_RUNNER_H
#define PEER_RUNNER_H

#include <datapeer/net.h>
#include <datapeer/peer_connection.h>

typedef struct runner runner;

/* Called for each event; sending in it is fine, freeing the runner is not (defer that). */
typedef void (*runner_event_fn)(void *user, const dp_pc_event *event);
/* Called after a round of events, before datagrams leave: the owner hands more data over. */
typedef void (*runner_fill_fn)(void *user);

typedef struct runner_config {
    dp_loop *loop;
    dp_pc_config pc;
    bool include_loopback;
    runner_event_fn on_event;
    runner_fill_fn on_fill;
    void *user;
} runner_config;

/* Binds the sockets. IO if there is no usable address. */
int runner_new(runner **out, const runner_config *config);
/* Sends what is queued (ABORT, close_notify) and closes the sockets. */
void runner_free(runner *r);
dp_pc *runner_pc(const runner *r);
/* Something was changed from outside (a send, a description): pump later in this round. */
void runner_wake(runner *r);

#endif
