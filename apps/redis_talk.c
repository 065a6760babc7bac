/* What a node says to Redis, and hears from it. */
#include "redis_node.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS_MAX = 6 };

typedef redis_pending pending;

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
        redis_lose_soon(r);
        return false;
    }
    pending_push(r, p);
    return true;
}

bool redis_run_simple(redis *r, redis_script script, const char *word)
{
    return run(r, pending_new(script, "", ""), word != NULL, &word, NULL);
}

bool redis_load_scripts(redis *r)
{
    bool sent = true;
    for (int i = 0; sent && i < SCRIPTS; i++) {
        pending *p = pending_new((redis_script)i, "", "");
        const char *words[] = {"SCRIPT", "LOAD", redis_scripts[i]};
        const size_t lens[] = {6, 4, strlen(redis_scripts[i])};
        sent = p != NULL && redis_link_send(r->commands, 3, words, lens);
        if (sent) {
            p->load = true;
            pending_push(r, p);
        } else {
            free(p);
        }
    }
    return sent;
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

void redis_set_hooks(redis *r)
{
    r->cluster.ctx = r;
    r->cluster.claim = claim;
    r->cluster.release = release;
    r->cluster.forward = forward;
    r->cluster.withdraw = withdraw;
    r->cluster.list = list;
}

/* ---- no answers --------------------------------------------------------------------------------------------- */

/* A letter whose fate nobody knows. */
static void fail(redis *r, const pending *p)
{
    if (p->script == SCRIPT_FORWARD && !p->load)
        dp_signal_server_forwarded(r->server, now(r), p->text, p->dst, p->len,
                                   p->absent == DP_SIGNAL_DROP ? DP_SIGNAL_LOST : DP_SIGNAL_RETURNED);
}

void redis_fail_pending(redis *r)
{
    for (pending *p; (p = pending_pop(r)) != NULL; free(p))
        fail(r, p);
}

void redis_drop_pending(redis *r)
{
    for (pending *p; (p = pending_pop(r)) != NULL;)
        free(p);
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
    r->loaded = p->script == SCRIPTS - 1;
    redis_register(r);
    return true;
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
        redis_go_up(r);
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

void redis_on_command_reply(void *user, const redisReply *reply)
{
    redis *r = user;
    pending *p = pending_pop(r);
    if (reply->type == REDIS_REPLY_ERROR) {
        redis_lose(r, reply->str, true);
        if (p != NULL)
            fail(r, p);
    } else if (p == NULL || !take_reply(r, p, reply)) {
        redis_lose(r, "it has forgotten this node", false);
    }
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

void redis_on_channel_reply(void *user, const redisReply *reply)
{
    redis *r = user;
    if (reply->type == REDIS_REPLY_ERROR) {
        redis_lose(r, reply->str, true);
        return;
    }
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2)
        return;
    if (says(reply->element[0], "pong")) {
        r->ping_due = false;
    } else if (says(reply->element[0], "subscribe")) {
        r->subscribed = true;
        redis_register(r);
    } else if (says(reply->element[0], "message") && reply->elements == 3 && is_text(reply->element[2])) {
        take_message(r, reply->element[2]);
    }
    signal_host_pump(r->host);
}
