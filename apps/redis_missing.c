/* In the place of redis.c where hiredis is missing. */
#include "redis.h"

int redis_open(redis **out, app *a, const redis_options *options)
{
    (void)out;
    (void)a;
    (void)options;
    app_error(
        "this datapeer was built without Redis: install hiredis (Debian: libhiredis-dev) and build it again");
    return EXIT_USAGE;
}

const dp_signal_cluster *redis_cluster(redis *r)
{
    (void)r;
    return NULL;
}

void redis_start(redis *r, signal_host *host)
{
    (void)r;
    (void)host;
}

void redis_close(redis *r) { (void)r; }
