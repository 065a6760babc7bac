#include "pc_channel.h"

#include "app.h"
#include "lines.h"

#include <stdlib.h>
#include <string.h>

enum {
    BUFFERED_HIGH = 1 << 20,
    MAX_ECHO = 256 << 20, /* bytes that wait to be echoed */
};

dp_value *pc_line(const char *event)
{
    dp_value *line = dp_value_map();
    dp_value_set(line, "ev", dp_value_string(event));
    return line;
}

dp_value *pc_channel_line(const char *event, const pc_channel *c)
{
    dp_value *line = pc_line(event);
    dp_value_set(line, "label", dp_value_string_n(c->label, c->label_len));
    return line;
}

void pc_print_error(const char *message, const char *cmd, const pc_channel *c)
{
    dp_value *line = pc_line("error");
    dp_value_set(line, "message", dp_value_string(message));
    if (cmd != NULL)
        dp_value_set(line, "cmd", dp_value_string(cmd));
    if (c != NULL)
        dp_value_set(line, "label", dp_value_string_n(c->label, c->label_len));
    lines_print(line);
}

static dp_value *limit(int32_t value) { return value < 0 ? dp_value_null() : dp_value_int(value); }

void pc_print_open(const pc_channel *c)
{
    dp_value *line = pc_channel_line("open", c);
    dp_value_set(line, "id", dp_value_int(dp_channel_id(c->dc)));
    dp_value_set(line, "ordered", dp_value_bool(dp_channel_ordered(c->dc)));
    dp_value_set(line, "maxRetransmits", limit(dp_channel_max_retransmits(c->dc)));
    dp_value_set(line, "maxPacketLifeTime", limit(dp_channel_max_packet_lifetime(c->dc)));
    dp_value_set(line, "protocol",
                 dp_value_string_n(dp_channel_protocol(c->dc), dp_channel_protocol_length(c->dc)));
    dp_value_set(line, "negotiated", dp_value_bool(dp_channel_negotiated(c->dc)));
    dp_value_set(line, "incoming", dp_value_bool(c->incoming));
    lines_print(line);
}

pc_channel *pc_channel_of(pc_channels *all, const char *label, size_t len)
{
    for (pc_channel *c = all->first; c != NULL; c = c->next)
        if (c->label_len == len && memcmp(c->label, label, len) == 0)
            return c;
    pc_channel *c = calloc(1, sizeof(*c) + len + 1);
    if (c == NULL) {
        app_error("out of memory");
        return NULL;
    }
    memcpy(c->label, label, len);
    c->label_len = len;
    c->last = &c->first;
    c->next = all->first;
    all->first = c;
    return c;
}

void pc_channel_push(pc_channel *c, pc_job *job)
{
    *c->last = job;
    c->last = &job->next;
}

static void pop_job(pc_channels *all, pc_channel *c)
{
    pc_job *j = c->first;
    if (j->kind == JOB_ECHO)
        all->echo_bytes -= j->len;
    c->first = j->next;
    if (c->first == NULL)
        c->last = &c->first;
    free(j);
}

static void fill_pattern(uint8_t *out, size_t len, uint64_t seed, bool text)
{
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)(seed * 131 + i * 7 + (i >> 8));
        out[i] = text ? (uint8_t)(65 + byte % 26) : byte;
    }
}

static void print_sent(const pc_channel *c, uint64_t count)
{
    dp_value *line = pc_channel_line("sent", c);
    dp_value_set(line, "count", dp_value_uint(count));
    lines_print(line);
}

static bool send_one(pc_channel *c, pc_job *j, dp_time now)
{
    if (j->kind == JOB_PATTERN)
        fill_pattern(j->data, j->len, j->seed + j->done, !j->binary);
    int error = dp_channel_send(c->dc, now, j->data, j->len, j->binary, false);
    if (error == DP_ERR_WOULD_BLOCK)
        return false;
    bool is_echo = j->kind == JOB_ECHO;
    j->done = error == DP_OK ? j->done + 1 : j->count;
    /* Whoever closes a channel does not want the echoes that would still come. */
    if (error != DP_OK && !(is_echo && error == DP_ERR_INVALID_STATE))
        pc_print_error(dp_strerror(error), is_echo ? "echo" : "send", c);
    else if (j->done == j->count && !is_echo)
        print_sent(c, j->count);
    return true;
}

void pc_channel_work(pc_channels *all, pc_channel *c, dp_time now)
{
    while (c->first != NULL && c->dc != NULL) {
        pc_job *j = c->first;
        if (j->kind == JOB_CLOSE) {
            dp_channel_close(c->dc, now);
        } else {
            if (dp_channel_buffered_amount(c->dc) > BUFFERED_HIGH || !send_one(c, j, now))
                return;
            if (j->done < j->count)
                continue;
        }
        pop_job(all, c);
    }
}

static void forget_echo(pc_channels *all, pc_channel *c)
{
    if (c->echoed != NULL)
        all->echo_bytes -= c->echoed->len;
    free(c->echoed);
    c->echoed = NULL;
}

static void forget_message(pc_channels *all, pc_channel *c)
{
    dp_sha256_free(c->hash);
    c->hash = NULL;
    forget_echo(all, c);
}

void pc_channel_forget(pc_channels *all, pc_channel *c)
{
    while (c->first != NULL)
        pop_job(all, c);
    forget_message(all, c);
    dp_sha256_free(c->sink);
    c->sink = NULL;
}

/* "" if there is no memory, printed. hash is used up. */
static void finish_hash(dp_sha256_hash *hash, char hex[65])
{
    hex[0] = '\0';
    if (hash == NULL || dp_sha256_finish(hash, hex) != DP_OK)
        app_error("out of memory");
}

static void swallow(pc_channel *c, dp_time now, const dp_pc_event *e)
{
    if (c->sunk == 0 && e->first)
        c->sink_first = now;
    c->sink_size += e->len;
    dp_sha256_update(c->sink, e->data, e->len);
    c->sunk += e->last;
    if (c->sunk < c->sink_count)
        return;
    char hex[65];
    finish_hash(c->sink, hex);
    c->sink = NULL;
    dp_value *line = pc_channel_line("sunk", c);
    dp_value_set(line, "count", dp_value_uint(c->sunk));
    dp_value_set(line, "size", dp_value_uint(c->sink_size));
    dp_value_set(line, "sha256", dp_value_string(hex));
    dp_value_set(line, "ms", dp_value_uint((now - c->sink_first) / 1000));
    lines_print(line);
}

static void print_message(pc_channel *c, const dp_pc_event *e)
{
    char hex[65];
    dp_sha256_update(c->hash, e->data, e->len);
    if (!e->last)
        return;
    finish_hash(c->hash, hex);
    c->hash = NULL;
    dp_value *line = pc_channel_line("message", c);
    dp_value_set(line, "binary", dp_value_bool(e->binary));
    dp_value_set(line, "size", dp_value_uint(c->size));
    dp_value_set(line, "sha256", dp_value_string(hex));
    lines_print(line);
}

/* What came of it and this part. False: there is no room. */
static bool collect(pc_channels *all, pc_channel *c, const dp_pc_event *e)
{
    size_t have = c->echoed != NULL ? c->echoed->len : 0;
    if (all->echo_bytes + e->len > MAX_ECHO)
        return false;
    if (c->echoed == NULL || have + e->len > c->echo_capacity) {
        size_t capacity = e->last ? have + e->len : 2 * (have + e->len);
        pc_job *grown = realloc(c->echoed, sizeof(*grown) + capacity);
        if (grown == NULL)
            return false;
        if (c->echoed == NULL)
            *grown = (pc_job){.kind = JOB_ECHO, .binary = e->binary, .count = 1};
        c->echoed = grown;
        c->echo_capacity = capacity;
    }
    if (e->len > 0)
        memcpy(c->echoed->data + have, e->data, e->len);
    c->echoed->len += e->len;
    all->echo_bytes += e->len;
    return true;
}

static void echo(pc_channels *all, pc_channel *c, const dp_pc_event *e)
{
    if (!collect(all, c, e)) {
        forget_echo(all, c);
        pc_print_error("too much waits to be echoed", "echo", c);
    } else if (e->last) {
        pc_channel_push(c, c->echoed);
        c->echoed = NULL;
    }
}

void pc_channel_message(pc_channels *all, pc_channel *c, dp_time now, const dp_pc_event *e)
{
    if (e->error != DP_OK) {
        forget_message(all, c);
        return;
    }
    if (e->first) {
        c->size = 0;
        if (c->sink == NULL && dp_sha256_new(&c->hash) != DP_OK)
            app_error("out of memory");
    }
    c->size += e->len;
    if (c->hash != NULL)
        print_message(c, e);
    else if (c->sink != NULL)
        swallow(c, now, e);
    if (c->echoed != NULL || (c->echo && e->first))
        echo(all, c, e);
}

void pc_channels_free(pc_channels *all)
{
    while (all->first != NULL) {
        pc_channel *c = all->first;
        all->first = c->next;
        pc_channel_forget(all, c);
        free(c);
    }
}
