/* Several 'datapeer signal' as one PeerServer, by way of Redis: which node has which id, and the messages between them.
 * What stands in Redis, and what happens when it is away: signaling/README.md, "Several nodes". */
#ifndef APPS_REDIS_H
#define APPS_REDIS_H

#include "app.h"
#include "signal_host.h"

typedef struct redis redis;

typedef struct redis_options {
    const char *url;           /* --redis, or NULL */
    const char *password_file; /* --redis-password-file, or NULL */
    const char *ca_file;       /* --redis-ca, or NULL */
} redis_options;

/* EXIT_OK, or prints what is wrong and gives another code. The app was started, and its options for the server are there. */
int redis_open(redis **out, app *a, const redis_options *options);
/* For the server's configuration; belongs to it. */
const dp_signal_cluster *redis_cluster(redis *r);
/* Begins to connect. What Redis refuses at first (a wrong password) ends the loop, with EXIT_REMOTE in app->exit_code; later
 * troubles are told and tried again. */
void redis_start(redis *r, signal_host *host);
/* Says goodbye. Not inside a callback; before or after the host is freed. NULL is allowed. */
void redis_close(redis *r);

#endif
