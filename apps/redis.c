/* One node: two links to Redis, as a connection that subscribes can do nothing else. When either is lost, both are given
 * up, and a new pair is made, with a new name for this node: what it had under the old one is taken over by the same rules as
 * from any other node. */
#include "redis.h"

#include "redis_link.h"
#include "redis_scripts.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    ADDRESSES_MAX = 4, /* of Redis: tried in turn */
    OWNER_LEN = 16,    /* a node's name: the digits of its process, a point, a number */
    NAME_SIZE = OWNER_LEN + 12,
    SPACE_SIZE = 300, /* "datapeer:{KEY}" */
    QUEUE_SLACK_MS = 5000,
    WORDS_MAX = 6,
};

static const dp_duration TICK = DP_SECONDS(5);
static const dp_duration SETUP_TIMEOUT = DP_SECONDS(10);
static const dp_duration RETRY_MIN = DP_MS(200);
static const dp_duration RETRY_MAX = DP_SECONDS(10);

typedef enum state {
    STATE_AWAY,  /* until the timer fires */
    STATE_SETUP, /* the links log in; scripts, channel and name are made known */
    STATE_UP,
} state;

/* A reply that is to come; first in, first out. */
typedef struct pending {
    struct pending *next;
    redis_script script;
    bool load; /* the script is loaded, not run */
    dp_signal_absent absent;
    uint64_t stamp; /* or the ticket */
    size_t len;     /* of the letter */
    char *dst;      /* in text, behind the NUL of the first */
    char text[];    /* id, or src and dst */
} pending;

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

    state state;
    redis_link *commands, *channel;
    bool commands_ready, channel_ready;
    char shas[SCRIPTS][41];
    pending *first, **last;
    bool refresh_due, ping_due; /* asked at the last tick, and not answered yet */
    dp_timer timer;
    dp_deferred deferred; /* sending has failed inside a call of the server */
    dp_duration retry;
    bool was_up, away_told;
};

static dp_time now(const redis *r) { return dp_loop_now(r->app->loop); }

/* ---- commands --------------------------------------------------------------------------------------------- */

static pending *pending_new(redis_script script, const char *first, const char *second)
{
    size_t first_size = strlen(first) + 1;
    size_t second_size = strlen(second) + 1;
    pending *p = calloc(1, sizeof(*p) + first_size + second_size);
    if (p == NULL)
        return NULL;
    p->script = script;
    memcpy(p->text, first, first_size);
    p->dst = p->text + first_size;
    memcpy(p->dst, second, second_size);
    return p;
}

static void pending_push(redis *r, pending *p)
{
    *r->last = p;
    r->last = &p->next;
}

static pending *pending_pop(redis *r)
{
    pending *p = r->first;
    if (p == NULL)
        return NULL;
    r->first = p->next;
    if (r->first == NULL)
        r->last = &r->first;
    return p;
}

/* Runs p's script with these words. False: it can't be sent, and the links are given up soon; p is gone in any case. */
static bool run(redis *r, pending *p, size_t count, const char *const *words, const size_t *lens)
{
    const char *all[3 + 1 + WORDS_MAX] = {"EVALSHA", NULL, "1", r->space};
    size_t all_lens[3 + 1 + WORDS_MAX];
    if (p == NULL)
        return false;
    all[1] = r->shas[p->script];
    for (size_t i = 0; i < 4; i++)
        all_lens[i] = strlen(all[i]);
    for (size_t i = 0; i < count; i++) {
        all[4 + i] = words[i];
        all_lens[4 + i] = lens != NULL && lens[i] != 0 ? lens[i] : strlen(words[i]);
    }
    if (r->commands == NULL || !redis_link_send(r->commands, 4 + count, all, all_lens)) {
        free(p);
        dp_defer(r->app->loop, &r->deferred);
        return false;
    }
    pending_push(r, p);
    return true;
}

static bool run_simple(redis *r, redis_script script, const char *word)
{
    return run(r, pending_new(script, "", ""), word != NULL, &word, NULL);
}

/* ---- what the server asks --------------------------------------------------------------------------------- */

static bool claim(void *ctx, const char *id, const char *proof, uint64_t stamp, bool renew)
{
    redis *r = ctx;
    char since[24];
    pending *p = pending_new(SCRIPT_CLAIM, id, "");
    if (p != NULL)
        p->stamp = stamp;
    snprintf(since, sizeof(since), "%" PRIu64, stamp);
    return run(r, p, 5, (const char *[]){r->name, id, proof, since, renew ? "1" : "0"}, NULL);
}

static void release(void *ctx, const char *id, uint64_t stamp)
{
    redis *r = ctx;
    char since[24];
    snprintf(since, sizeof(since), "%" PRIu64, stamp);
    (void)run(r, pending_new(SCRIPT_RELEASE, "", ""), 3, (const char *[]){r->name, id, since}, NULL);
}

static bool forward(void *ctx, const char *src, const char *dst, const char *letter, size_t len,
                    dp_signal_absent absent)
{
    redis *r = ctx;
    pending *p = pending_new(SCRIPT_FORWARD, src, dst);
    if (p != NULL) {
        p->absent = absent;
        p->len = len;
    }
    const char *words[] = {r->owner, dst, letter, absent == DP_SIGNAL_KEEP ? "1" : "0", r->queue_ms};
    return run(r, p, 5, words, (const size_t[]){0, 0, len, 0, 0});
}

static bool withdraw(void *ctx, const char *dst)
{
    redis *r = ctx;
    return run(r, pending_new(SCRIPT_WITHDRAW, "", dst), 2, (const char *[]){r->owner, dst}, NULL);
}

static bool list(void *ctx, uint64_t ticket)
{
    redis *r = ctx;
    pending *p = pending_new(SCRIPT_LIST, "", "");
    if (p != NULL)
        p->stamp = ticket;
    return run(r, p, 0, NULL, NULL);
}

/* ---- the links come and go --------------------------------------------------------------------------------- */

static void close_links(redis *r)
{
    redis_link_close(r->commands);
    redis_link_close(r->channel);
    r->commands = r->channel = NULL;
    r->commands_ready = r->channel_ready = false;
    r->refresh_due = r->ping_due = false;
}

/* What has no answer yet gets none. */
static void fail_pending(redis *r)
{
    for (pending *p; (p = pending_pop(r)) != NULL; free(p))
        if (p->script == SCRIPT_FORWARD && !p->load)
            dp_signal_server_forwarded(r->server, now(r), p->text, p->dst, p->len,
                                       p->absent == DP_SIGNAL_DROP ? DP_SIGNAL_LOST : DP_SIGNAL_RETURNED);
}

static void tell_away(redis *r, const char *reason, bool refused)
{
    if (refused && !r->was_up) {
        app_error("Redis at %s refuses us: %s", r->url.host, reason);
        app_stop(r->app, EXIT_REMOTE);
        return;
    }
    if (!r->away_told)
        app_error("Redis at %s is away: %s. Other nodes can't be reached; trying again", r->url.host, reason);
    r->away_told = true;
}

static void lose(redis *r, const char *reason, bool refused)
{
    bool was_up = r->state == STATE_UP;
    tell_away(r, reason, refused); /* the reason may belong to a link */
    if (was_up)
        memcpy(r->old_name, r->name, sizeof(r->name));
    close_links(r);
    r->state = STATE_AWAY;
    if (was_up)
        dp_signal_server_cluster_down(r->server, now(r));
    fail_pending(r);
    (void)dp_timer_set(r->app->loop, &r->timer, now(r) + r->retry);
    r->retry = 2 * r->retry < RETRY_MAX ? 2 * r->retry : RETRY_MAX;
    r->address_at++;
    signal_host_pump(r->host);
}

static void on_lost(void *user, const char *reason, bool refused) { lose(user, reason, refused); }

static void on_deferred(void *user)
{
    redis *r = user;
    if (r->state != STATE_AWAY)
        lose(r, "no more can be sent to it", false);
}

static void go_up(redis *r)
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
        (void)run_simple(r, SCRIPT_FORGET, r->old_name);
    r->old_name[0] = '\0';
}

/* Both links are logged in: the channel first, so that nothing is sent to it that nobody hears. */
static void set_up(redis *r)
{
    char to[SPACE_SIZE + NAME_SIZE + 8];
    if (!r->commands_ready || !r->channel_ready)
        return;
    snprintf(r->name, sizeof(r->name), "%s.%u", r->owner, r->generation++);
    int to_len = snprintf(to, sizeof(to), "%s:to:%s", r->space, r->name);
    bool sent = redis_link_send(r->channel, 2, (const char *[]){"SUBSCRIBE", to},
                                (const size_t[]){9, (size_t)to_len});
    for (int i = 0; sent && i < SCRIPTS; i++) {
        pending *p = pending_new((redis_script)i, "", "");
        const char *words[] = {"SCRIPT", "LOAD", redis_scripts[i]};
        sent = p != NULL &&
               redis_link_send(r->commands, 3, words, (const size_t[]){6, 4, strlen(redis_scripts[i])});
        if (sent) {
            p->load = true;
            pending_push(r, p);
        } else {
            free(p);
        }
    }
    if (!sent)
        dp_defer(r->app->loop, &r->deferred);
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

/* ---- replies ------------------------------------------------------------------------------------------------ */

static bool is_text(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS;
}

static bool says(const redisReply *reply, const char *word)
{
    return is_text(reply) && reply->len == strlen(word) && memcmp(reply->str, word, reply->len) == 0;
}

/* OWNER "\n" LETTER */
static void take_item(redis *r, const redisReply *item)
{
    size_t skip = OWNER_LEN + 1;
    bool good = is_text(item) && item->len > skip && item->str[OWNER_LEN] == '\n';
    dp_signal_server_letter(r->server, now(r), good ? item->str + skip : "", good ? item->len - skip : 0);
}

static bool take_claim(redis *r, const pending *p, const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0)
        return false;
    const redisReply *verdict = reply->element[0];
    if (says(verdict, "taken"))
        dp_signal_server_claimed(r->server, now(r), p->text, p->stamp, DP_SIGNAL_TAKEN);
    else if (says(verdict, "moved"))
        dp_signal_server_claimed(r->server, now(r), p->text, p->stamp, DP_SIGNAL_MOVED);
    else if (says(verdict, "granted"))
        dp_signal_server_claimed(r->server, now(r), p->text, p->stamp, DP_SIGNAL_GRANTED);
    else
        return false; /* "gone": we have slept too long */
    for (size_t i = 1; i < reply->elements; i++)
        take_item(r, reply->element[i]);
    return true;
}

static bool take_fate(redis *r, const pending *p, const redisReply *reply)
{
    dp_signal_fate fate = says(reply, "sent")           ? DP_SIGNAL_SENT
                          : says(reply, "kept")         ? DP_SIGNAL_KEPT
                          : p->absent == DP_SIGNAL_DROP ? DP_SIGNAL_LOST
                                                        : DP_SIGNAL_RETURNED;
    dp_signal_server_forwarded(r->server, now(r), p->text, p->dst, p->len, fate);
    return true;
}

static bool take_withdrawn(redis *r, const pending *p, const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ARRAY)
        return false;
    for (size_t i = 0; i < reply->elements; i++)
        if (is_text(reply->element[i]))
            dp_signal_server_returned(r->server, now(r), reply->element[i]->str, p->dst);
    return true;
}

static bool take_list(redis *r, const pending *p, const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ARRAY)
        return false;
    const char **ids = calloc(reply->elements + 1, sizeof(*ids));
    size_t count = 0;
    for (size_t i = 0; ids != NULL && i < reply->elements; i++)
        if (is_text(reply->element[i]))
            ids[count++] = reply->element[i]->str;
    dp_signal_server_listed(r->server, now(r), p->stamp, ids, count);
    free(ids);
    return true;
}

static bool take_loaded(redis *r, const pending *p, const redisReply *reply)
{
    if (!is_text(reply) || reply->len != sizeof(r->shas[0]) - 1)
        return false;
    memcpy(r->shas[p->script], reply->str, sizeof(r->shas[0]));
    return p->script != SCRIPTS - 1 || run_simple(r, SCRIPT_REGISTER, r->name);
}

/* False: the reply makes no sense, and the link is not to be trusted any more. */
static bool take_reply(redis *r, const pending *p, const redisReply *reply)
{
    if (p->load)
        return take_loaded(r, p, reply);
    switch (p->script) {
    case SCRIPT_REGISTER:
        if (!says(reply, "ok"))
            return false;
        go_up(r);
        return true;
    case SCRIPT_REFRESH:
        r->refresh_due = false;
        return says(reply, "ok");
    case SCRIPT_CLAIM:
        return take_claim(r, p, reply);
    case SCRIPT_FORWARD:
        return take_fate(r, p, reply);
    case SCRIPT_WITHDRAW:
        return take_withdrawn(r, p, reply);
    case SCRIPT_LIST:
        return take_list(r, p, reply);
    default:
        return says(reply, "ok");
    }
}

static void on_command_reply(void *user, const redisReply *reply)
{
    redis *r = user;
    pending *p = pending_pop(r);
    if (reply->type == REDIS_REPLY_ERROR)
        lose(r, reply->str, true);
    else if (p == NULL || !take_reply(r, p, reply))
        lose(r, "it has forgotten this node", false);
    else
        signal_host_pump(r->host);
    free(p);
}

/* STAMP " " ID */
static bool take_moved(redis *r, const char *text)
{
    char *end;
    uint64_t stamp = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != ' ')
        return false;
    dp_signal_server_claimed(r->server, now(r), end + 1, stamp, DP_SIGNAL_MOVED);
    return true;
}

/* Whoever may speak to Redis may publish here. */
static void take_message(redis *r, const redisReply *message)
{
    if (message->len > 0 && message->str[0] == 'M' && take_moved(r, message->str + 1))
        return;
    bool letter = message->len > 0 && message->str[0] == 'L';
    dp_signal_server_letter(r->server, now(r), letter ? message->str + 1 : "", letter ? message->len - 1 : 0);
}

static void on_channel_reply(void *user, const redisReply *reply)
{
    redis *r = user;
    if (reply->type == REDIS_REPLY_ERROR) {
        lose(r, reply->str, true);
        return;
    }
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2)
        return;
    if (says(reply->element[0], "pong"))
        r->ping_due = false;
    else if (says(reply->element[0], "message") && reply->elements == 3 && is_text(reply->element[2]))
        take_message(r, reply->element[2]);
    signal_host_pump(r->host);
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
                                .on_reply = on_command_reply,
                                .on_lost = on_lost,
                                .user = r};
    r->state = STATE_SETUP;
    (void)dp_timer_set(r->app->loop, &r->timer, now(r) + SETUP_TIMEOUT);
    int error = redis_link_open(&r->commands, &config);
    config.on_ready = on_channel_ready;
    config.on_reply = on_channel_reply;
    if (error == DP_OK)
        error = redis_link_open(&r->channel, &config);
    if (error != DP_OK)
        lose(r, dp_strerror(error), false);
}

static void tick(redis *r)
{
    if (r->refresh_due || r->ping_due) {
        lose(r, "it does not answer", false);
        return;
    }
    r->refresh_due = r->ping_due = true;
    (void)dp_timer_set(r->app->loop, &r->timer, now(r) + TICK);
    if (run_simple(r, SCRIPT_REFRESH, r->name) &&
        !redis_link_send(r->channel, 1, (const char *[]){"PING"}, (const size_t[]){4}))
        dp_defer(r->app->loop, &r->deferred);
}

static void on_timer(void *user)
{
    redis *r = user;
    if (r->state == STATE_AWAY)
        open_links(r);
    else if (r->state == STATE_SETUP)
        lose(r, "it does not answer", false);
    else
        tick(r);
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

/* The option's file, the environment, or the URL, which everybody on this machine can read. */
static bool find_password(redis *r, const redis_options *options)
{
    dp_file_error why;
    size_t len = 0;
    const char *given = getenv("REDIS_PASSWORD");
    if (r->url.password[0] != '\0')
        app_error("a password in --redis can be read by every user of this machine: better in a file, "
                  "--redis-password-file, or in REDIS_PASSWORD");
    if (options->password_file == NULL) {
        if (given != NULL && strlen(given) < REDIS_WORD_MAX)
            memcpy(r->url.password, given, strlen(given) + 1);
        return true;
    }
    if (dp_secret_file_read((uint8_t *)r->url.password, REDIS_WORD_MAX - 1, &len, options->password_file,
                            &why) != DP_OK) {
        app_error("%s", why.message);
        return false;
    }
    r->url.password[len] = '\0';
    r->url.password[strcspn(r->url.password, "\r\n")] = '\0';
    return true;
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
    r->cluster = (dp_signal_cluster){.ctx = r,
                                     .time_offset = wall_clock() - dp_clock_now(),
                                     .claim = claim,
                                     .release = release,
                                     .forward = forward,
                                     .withdraw = withdraw,
                                     .list = list};
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
        (void)run_simple(r, SCRIPT_FORGET, r->name);
    dp_timer_stop(&r->timer);
    dp_undefer(&r->deferred);
    close_links(r);
    for (pending *p; (p = pending_pop(r)) != NULL;)
        free(p);
    explicit_bzero(&r->url, sizeof(r->url));
    free(r);
}
