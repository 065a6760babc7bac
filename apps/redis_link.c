#include "redis_link.h"

#include <stdlib.h>
#include <string.h>

enum {
    OUT_MAX = 32 << 20, /* bytes that wait to be sent: the claims of 100,000 clients */
    IN_MAX = 32 << 20,  /* of one reply: as many ids */
    CHUNK = 64 << 10,   /* bytes that are given to the stream at once */
};

static const dp_duration CONNECT_TIMEOUT = DP_SECONDS(5);

struct redis_link {
    redis_link_config config;
    dp_tcp *tcp;
    redisReader *reader;
    size_t reply_len; /* bytes that came of the reply that is not whole yet */
    uint8_t *out; /* out[out_at..out_len) did not fit into the stream */
    size_t out_at, out_len, out_capacity;
    unsigned login_replies; /* that are to come before on_ready */
    bool ready;
    bool reading;
    bool closed; /* while reading: freed behind it */
};

/* ---- out ------------------------------------------------------------------------------------------------ */

/* False: the stream has failed, which it says itself. */
static bool flush(redis_link *link)
{
    while (link->out_at < link->out_len) {
        size_t len = link->out_len - link->out_at;
        len = len < CHUNK ? len : CHUNK;
        int error = dp_tcp_send(link->tcp, link->out + link->out_at, len);
        if (error == DP_ERR_WOULD_BLOCK)
            return true;
        if (error != DP_OK)
            return false;
        link->out_at += len;
    }
    link->out_at = link->out_len = 0;
    if (link->out_capacity > CHUNK) {
        free(link->out);
        link->out = NULL;
        link->out_capacity = 0;
    }
    return true;
}

static bool append(redis_link *link, const char *data, size_t len)
{
    if (link->out_at > 0) {
        memmove(link->out, link->out + link->out_at, link->out_len - link->out_at);
        link->out_len -= link->out_at;
        link->out_at = 0;
    }
    if (len > OUT_MAX - link->out_len)
        return false;
    if (link->out_len + len > link->out_capacity) {
        size_t capacity = 2 * (link->out_len + len);
        uint8_t *grown = realloc(link->out, capacity);
        if (grown == NULL)
            return false;
        link->out = grown;
        link->out_capacity = capacity;
    }
    memcpy(link->out + link->out_len, data, len);
    link->out_len += len;
    return true;
}

bool redis_link_send(redis_link *link, size_t count, const char *const *words, const size_t *lens)
{
    char *command = NULL;
    const char **argv = (const char **)words; /* hiredis only reads them */
    long long len = redisFormatCommandArgv(&command, (int)count, argv, lens);
    if (len < 0)
        return false;
    bool direct = link->out_len == 0 && dp_tcp_send(link->tcp, (uint8_t *)command, (size_t)len) == DP_OK;
    bool taken = direct || append(link, command, (size_t)len);
    redisFreeCommand(command);
    return taken;
}

static bool send_words(redis_link *link, size_t count, const char *const *words)
{
    size_t lens[3];
    for (size_t i = 0; i < count; i++)
        lens[i] = strlen(words[i]);
    return redis_link_send(link, count, words, lens);
}

/* ---- in ------------------------------------------------------------------------------------------------- */

static void lose(redis_link *link, const char *reason, bool refused)
{
    link->config.on_lost(link->config.user, reason, refused);
}

static void take_login_reply(redis_link *link, const redisReply *reply)
{
    if (reply->type == REDIS_REPLY_ERROR) {
        lose(link, reply->str, true);
    } else if (--link->login_replies == 0) {
        link->ready = true;
        link->config.on_ready(link->config.user);
    }
}

static void read_replies(redis_link *link)
{
    void *reply = NULL;
    while (!link->closed) {
        if (redisReaderGetReply(link->reader, &reply) != REDIS_OK) {
            lose(link, link->reader->errstr, false);
            return;
        }
        if (reply == NULL)
            break;
        link->reply_len = link->reader->len - link->reader->pos;
        if (link->ready)
            link->config.on_reply(link->config.user, reply);
        else
            take_login_reply(link, reply);
        freeReplyObject(reply);
    }
    if (!link->closed && link->reply_len > IN_MAX)
        lose(link, "its reply is too long", false);
}

static void link_free(redis_link *link)
{
    redisReaderFree(link->reader);
    free(link->out);
    free(link);
}

static void on_data(void *user, dp_tcp *tcp, const uint8_t *data, size_t len)
{
    redis_link *link = user;
    (void)tcp;
    link->reading = true;
    link->reply_len += len;
    if (redisReaderFeed(link->reader, (const char *)data, len) != REDIS_OK)
        lose(link, "no memory for its reply", false);
    else
        read_replies(link);
    link->reading = false;
    if (link->closed)
        link_free(link);
}

/* ---- the stream ------------------------------------------------------------------------------------------ */

static void on_connected(void *user, dp_tcp *tcp)
{
    redis_link *link = user;
    const redis_url *url = link->config.url;
    (void)tcp;
    bool sent = true;
    if (url->password[0] != '\0') { /* Redis before version 6 knows no users */
        const char *full[] = {"AUTH", url->user, url->password};
        const char *plain[] = {"AUTH", url->password};
        sent = url->user[0] != '\0' ? send_words(link, 3, full) : send_words(link, 2, plain);
        link->login_replies++;
    }
    if (url->database[0] != '\0') {
        sent = sent && send_words(link, 2, (const char *[]){"SELECT", url->database});
        link->login_replies++;
    }
    /* Whether a login is needed is known before anything else is asked. */
    sent = sent && send_words(link, 1, (const char *[]){"PING"});
    link->login_replies++;
    if (!sent)
        lose(link, "no memory", false);
}

static void on_drained(void *user, dp_tcp *tcp)
{
    (void)tcp;
    (void)flush(user);
}

static void on_closed(void *user, dp_tcp *tcp, int error, const char *reason)
{
    redis_link *link = user;
    (void)tcp;
    (void)error;
    lose(link, reason, false);
}

int redis_link_open(redis_link **out, const redis_link_config *config)
{
    redis_link *link = calloc(1, sizeof(*link));
    redisReader *reader = redisReaderCreate();
    if (link == NULL || reader == NULL) {
        if (reader != NULL)
            redisReaderFree(reader);
        free(link);
        return DP_ERR_NO_MEMORY;
    }
    link->config = *config;
    link->reader = reader;
    const dp_tcp_handler handler = {.on_connected = on_connected,
                                    .on_data = on_data,
                                    .on_drained = on_drained,
                                    .on_closed = on_closed,
                                    .user = link};
    int error = dp_tcp_connect(&link->tcp, config->loop, config->address, config->url->port, CONNECT_TIMEOUT,
                               &handler);
    if (error == DP_OK && config->url->tls) {
        const dp_tls_options tls = {.size = sizeof(tls),
                                    .server_name = config->url->host,
                                    .ca_file = config->ca_file,
                                    .random = config->random,
                                    .log = config->log};
        error = dp_tcp_start_tls(link->tcp, &tls);
        if (error != DP_OK)
            dp_tcp_close(link->tcp);
    }
    if (error != DP_OK) {
        link_free(link);
        return error;
    }
    *out = link;
    return DP_OK;
}

void redis_link_close(redis_link *link)
{
    if (link == NULL)
        return;
    (void)flush(link);
    dp_tcp_close(link->tcp);
    link->closed = true;
    if (!link->reading)
        link_free(link);
}
