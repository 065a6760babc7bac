/* One connection to Redis on the loop: its login, commands out, replies in, in order. hiredis writes the commands and reads
 * the replies; the stream is one of net/, so it never blocks, and TLS is that of the rest. */
#ifndef APPS_REDIS_LINK_H
#define APPS_REDIS_LINK_H

#include "redis_url.h"
#include <datapeer/datapeer.h>
#include <hiredis/hiredis.h>

typedef struct redis_link redis_link;

typedef struct redis_link_config {
    dp_loop *loop;
    dp_random random;
    dp_log log;
    const redis_url *url;         /* must outlive the link */
    const char *address;          /* of url->host, numeric */
    const char *ca_file;          /* for TLS; NULL: the system's authorities */
    void (*on_ready)(void *user); /* logged in */
    /* Valid during the call; the link may be closed in it. */
    void (*on_reply)(void *user, const redisReply *reply);
    /* Once, reason is for people; close it. refused: Redis itself said so. */
    void (*on_lost)(void *user, const char *reason, bool refused);
    void *user;
} redis_link_config;

/* NO_MEMORY. Errors of connecting come by on_lost. */
int redis_link_open(redis_link **out, const redis_link_config *config);
/* False: no memory, or too much waits to be sent: the link is of no use any more. */
bool redis_link_send(redis_link *link, size_t count, const char *const *words, const size_t *lens);
/* What was sent is given to the kernel as far as it takes it. */
void redis_link_close(redis_link *link);

#endif
