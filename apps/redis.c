/* One node: two links to Redis, as a connection that subscribes can do nothing else. When either is lost, both are given
 * up, and a new pair is made, with a new name for this node: what it had under the old one is taken over by the same rules as
 * from any other node. */
#include "redis_node.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { QUEUE_SLACK_MS = 5000 }; /* letters wait longer than their senders ask, so that these hear it */

static const dp_duration TICK = DP_SECONDS(5);
static const dp_duration SETUP_TIMEOUT = DP_SECONDS(10);
static const dp_duration RETRY_MIN = DP_MS(200);
static const dp_duration RETRY_MAX = DP_SECONDS(10);

static dp_time now(const redis *r) { return dp_loop_now(r->app->loop); }

/* ---- the links come and go --------------------------------------------------------------------------------- */

static void close_links(redis *r)
{
    redis_link_close(r->commands);
    redis_link_close(r->channel);
    r->commands = r->channel = NULL;
    r->commands_ready = r->channel_ready = r->loaded = r->subscribed = false;
    r->refresh_due = r->ping_due = false;
}

/* What Redis says no to today, but maybe not tomorrow. */
static bool passes(const char *reason)
{
    static const char *const words[] = {
        "LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "OOM", "TRYAGAIN", "ERR max number of clients"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strncmp(reason, words[i], strlen(words[i])) == 0)
            return true;
    return false;
}

static void tell_away(redis *r, const char *reason, bool refused)
{
    if (refused && !r->was_up && !passes(reason)) {
        app_error("Redis at %s refuses us: %s", r->url.host, reason);
        app_stop(r->app, EXIT_REMOTE);
        return;
    }
    if (!r->away_told)
        app_error("Redis at %s is away: %s. Other nodes can't be reached; trying again", r->url.host, reason);
    r->away_told = true;
}

void redis_lose(redis *r, const char *reason, bool refused)
{
    bool was_up = r->state == STATE_UP;
    tell_away(r, reason, refused); /* the reason may belong to a link */
    if (was_up)
        memcpy(r->old_name, r->name, sizeof(r->name));
    close_links(r);
    r->state = STATE_AWAY;
    if (was_up)
        dp_signal_server_cluster_down(r->server, now(r));
    redis_fail_pending(r);
    (void)dp_timer_set(r->app->loop, &r->timer, now(r) + r->retry);
    r->retry = 2 * r->retry < RETRY_MAX ? 2 * r->retry : RETRY_MAX;
    r->address_at++;
    signal_host_pump(r->host);
}

static void on_lost(void *user, const char *reason, bool refused) { redis_lose(user, reason, refused); }

void redis_lose_soon(redis *r) { dp_defer(r->app->loop, &r->deferred); }

static void on_deferred(void *user)
{
    redis *r = user;
    if (r->state != STATE_AWAY)
        redis_lose(r, "no more can be sent to it", false);
}

void redis_go_up(redis *r)
{
    if (r->away_told)
        app_error("Redis at %s is back", r->url.host);
    r->state = STATE_UP;
    r->was_up = true;
    r->away_told = false;
    r->retry = RETRY_MIN;
    (void)dp_timer_set(r->app->loop, &r->timer, now(r) + TICK);
    dp_signal_server_cluster_up(r->server, now(r));
    /* What has been taken over is not there any more; the rest are clients that have left meanwhile. */
    if (r->old_name[0] != '\0')
        (void)redis_run_simple(r, SCRIPT_FORGET, r->old_name);
    r->old_name[0] = '\0';
}

/* Both links are logged in. The name is made known when its channel is heard, so that nothing is lost there. */
static void set_up(redis *r)
{
    char to[SPACE_SIZE + NAME_SIZE + 8];
    if (!r->commands_ready || !r->channel_ready)
        return;
    snprintf(r->name, sizeof(r->name), "%s.%u", r->owner, r->generation++);
    int to_len = snprintf(to, sizeof(to), "%s:to:%s", r->space, r->name);
    bool sent = redis_link_send(r->channel, 2, (const char *[]){"SUBSCRIBE", to},
                                (const size_t[]){9, (size_t)to_len});
    if (!sent || !redis_load_scripts(r))
        redis_lose_soon(r);
}

void redis_register(redis *r)
{
    if (r->state == STATE_SETUP && r->loaded && r->subscribed)
        (void)redis_run_simple(r, SCRIPT_REGISTER, r->name);
}

static void on_commands_ready(void *user)
{
    redis *r = user;
    r->commands_ready = true;
    set_up(r);
}

static void on_channel_ready(void *user)
{
    redis *r = user;
    r->channel_ready = true;
    set_up(r);
}

/* ---- time ----------------------------------------------------------------------------------------------------- */

static void open_links(redis *r)
{
    redis_link_config config = {.loop = r->app->loop,
                                .random = r->app->random,
                                .log = r->app->log,
                                .url = &r->url,
                                .address = r->addresses[r->address_at % r->address_count],
                                .ca_file = r->ca_file,
                                .on_ready = on_commands_ready,
                                .on_reply = redis_on_command_reply,
                                .on_lost = on_lost,
                                .user = r};
    r->state = STATE_SETUP;
    (void)dp_timer_set(r->app->loop, &r->timer, now(r) + SETUP_TIMEOUT);
    int error = redis_link_open(&r->commands, &config);
    config.on_ready = on_channel_ready;
    config.on_reply = redis_on_channel_reply;
    if (error == DP_OK)
        error = redis_link_open(&r->channel, &config);
    if (error != DP_OK)
        redis_lose(r, dp_strerror(error), false);
}

static void tick(redis *r)
{
    if (r->refresh_due || r->ping_due) {
        redis_lose(r, "it does not answer", false);
        return;
    }
    r->refresh_due = r->ping_due = true;
    (void)dp_timer_set(r->app->loop, &r->timer, now(r) + TICK);
    if (redis_run_simple(r, SCRIPT_REFRESH, r->name) &&
        !redis_link_send(r->channel, 1, (const char *[]){"PING"}, (const size_t[]){4}))
        redis_lose_soon(r);
}

static void on_timer(void *user)
{
    redis *r = user;
    if (r->state == STATE_AWAY)
        open_links(r);
    else if (r->state == STATE_SETUP)
        redis_lose(r, "it does not answer", false);
    else
        tick(r);
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

static bool read_password_file(redis *r, const char *path)
{
    dp_file_error why;
    size_t len = 0;
    char *password = r->url.password;
    if (dp_secret_file_read((uint8_t *)password, REDIS_WORD_MAX - 1, &len, path, &why) != DP_OK) {
        app_error("%s", why.message);
        return false;
    }
    password[len] = '\0';
    password[strcspn(password, "\r\n")] = '\0';
    return true;
}

/* A file's, or the URL's, which everybody on this machine can read, or that of the environment. */
static bool find_password(redis *r, const redis_options *options)
{
    const char *given = getenv("REDIS_PASSWORD");
    if (r->url.password[0] != '\0')
        app_error("a password in --redis can be read by every user of this machine: better in a file, "
                  "--redis-password-file, or in REDIS_PASSWORD");
    if (options->password_file != NULL && !read_password_file(r, options->password_file))
        return false;
    if (r->url.password[0] == '\0' && given != NULL && strlen(given) < REDIS_WORD_MAX)
        memcpy(r->url.password, given, strlen(given) + 1);
    bool lacks = r->url.user[0] != '\0' && r->url.password[0] == '\0';
    if (lacks)
        app_error("--redis names a user, but there is no password: --redis-password-file or REDIS_PASSWORD");
    return !lacks;
}

static bool find_addresses(redis *r)
{
    dp_address found[ADDRESSES_MAX];
    if (dp_resolve(r->url.host, r->url.port, found, ADDRESSES_MAX, &r->address_count) != DP_OK ||
        r->address_count == 0) {
        app_error("--redis: there is no host %s", r->url.host);
        return false;
    }
    for (size_t i = 0; i < r->address_count; i++)
        dp_address_format_ip(&found[i], r->addresses[i]);
    return true;
}

/* Microseconds since 1970. */
static uint64_t wall_clock(void)
{
    struct timespec t = {0};
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static bool name_things(redis *r)
{
    uint8_t random[OWNER_LEN / 2];
    if (r->app->random.fn(r->app->random.ctx, random, sizeof(random)) != DP_OK) {
        app_error("no random numbers");
        return false;
    }
    for (size_t i = 0; i < sizeof(random); i++)
        snprintf(r->owner + 2 * i, 3, "%02x", random[i]);
    uint64_t expire = r->app->signal.expire_timeout != 0 ? r->app->signal.expire_timeout : 5000;
    snprintf(r->queue_ms, sizeof(r->queue_ms), "%" PRIu64, expire + QUEUE_SLACK_MS);
    int len =
        snprintf(r->space, sizeof(r->space), "datapeer:{%s}", r->app->key != NULL ? r->app->key : "peerjs");
    if (len < 0 || (size_t)len >= sizeof(r->space))
        app_error("the key is too long");
    return len > 0 && (size_t)len < sizeof(r->space);
}

int redis_open(redis **out, app *a, const redis_options *options)
{
    redis *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return EXIT_REMOTE;
    r->app = a;
    r->ca_file = options->ca_file;
    r->last = &r->first;
    r->retry = RETRY_MIN;
    r->timer = (dp_timer){.fn = on_timer, .user = r};
    r->deferred = (dp_deferred){.fn = on_deferred, .user = r};
    r->cluster.time_offset = wall_clock() - dp_clock_now();
    redis_set_hooks(r);
    const char *wrong = redis_url_parse(&r->url, options->url);
    if (wrong != NULL)
        app_error("--redis: %s", wrong);
    int code = wrong != NULL                ? EXIT_USAGE
               : !find_password(r, options) ? EXIT_REMOTE
               : !find_addresses(r)         ? EXIT_NETWORK
               : !name_things(r)            ? EXIT_USAGE
                                            : EXIT_OK;
    if (code == EXIT_OK)
        *out = r;
    else
        redis_close(r);
    return code;
}

const dp_signal_cluster *redis_cluster(redis *r) { return &r->cluster; }

void redis_start(redis *r, signal_host *host)
{
    r->host = host;
    r->server = signal_host_server(host);
    open_links(r);
}

void redis_close(redis *r)
{
    if (r == NULL)
        return;
    if (r->state == STATE_UP)
        (void)redis_run_simple(r, SCRIPT_FORGET, r->name);
    dp_timer_stop(&r->timer);
    dp_undefer(&r->deferred);
    close_links(r);
    redis_drop_pending(r);
    explicit_bzero(&r->url, sizeof(r->url));
    free(r);
}
