/* The inside of a node: redis.c (links, time, opening) and redis_talk.c (what is asked, what is answered). */
#ifndef APPS_REDIS_NODE_H
#define APPS_REDIS_NODE_H

#include "redis.h"
#include "redis_link.h"
#include "redis_scripts.h"

enum {
    ADDRESSES_MAX = 4, /* of Redis: tried in turn */
    OWNER_LEN = 16,    /* a node's name: the digits of its process, a point, a number */
    NAME_SIZE = OWNER_LEN + 12,
    SPACE_SIZE = 300, /* "datapeer:{KEY}" */
};

typedef enum redis_state {
    STATE_AWAY,  /* until the timer fires */
    STATE_SETUP, /* the links log in; scripts, channel and name are made known */
    STATE_UP,
} redis_state;

/* A reply that is to come; first in, first out. */
typedef struct redis_pending {
    struct redis_pending *next;
    redis_script script;
    bool load; /* the script is loaded, not run */
    dp_signal_absent absent;
    uint64_t stamp; /* or the ticket */
    size_t len;     /* of the letter */
    char *dst;      /* in text, behind the NUL of the first */
    char text[];    /* id, or src and dst */
} redis_pending;

struct redis {
    app *app;
    signal_host *host;
    dp_signal_server *server;
    dp_signal_cluster cluster;

    redis_url url;
    const char *ca_file;
    char addresses[ADDRESSES_MAX][DP_ADDRESS_TEXT_MAX];
    size_t address_count, address_at;
    char space[SPACE_SIZE];
    char queue_ms[24]; /* how long letters are kept */
    char owner[OWNER_LEN + 1];
    char name[NAME_SIZE], old_name[NAME_SIZE]; /* old: before the links were lost; empty: none */
    unsigned generation;

    redis_state state;
    redis_link *commands, *channel;
    bool commands_ready, channel_ready; /* logged in */
    bool loaded, subscribed;
    char shas[SCRIPTS][41];
    redis_pending *first, **last;
    bool refresh_due, ping_due; /* asked at the last tick, and not answered yet */
    dp_timer timer;
    dp_deferred deferred; /* sending has failed inside a call of the server */
    dp_duration retry;
    bool was_up, away_told;
};

/* ---- redis.c ---- */

/* Both links are of no use any more; reason may belong to one of them. */
void redis_lose(redis *r, const char *reason, bool refused);
/* Soon, for sending has failed inside a call of the server. */
void redis_lose_soon(redis *r);
/* The scripts are there, or the channel is heard. */
void redis_register(redis *r);
/* The name is known. */
void redis_go_up(redis *r);

/* ---- redis_talk.c ---- */

void redis_set_hooks(redis *r);
/* False: it can't be sent, and the links are given up soon. */
bool redis_load_scripts(redis *r);
/* A script with at most one argument, or NULL. */
bool redis_run_simple(redis *r, redis_script script, const char *word);
void redis_on_command_reply(void *user, const redisReply *reply);
void redis_on_channel_reply(void *user, const redisReply *reply);
/* What has no answer yet gets none. */
void redis_fail_pending(redis *r);
void redis_drop_pending(redis *r);

#endif
