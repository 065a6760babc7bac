/* datapeer pc: one raw peer connection driven by JSON lines (docs/interop.md, part 1), so that any stack can be paired
 * with ours. */
#include "app.h"
#include "lines.h"
#include "pc_stats.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
    "Usage: datapeer pc offer|answer [--trickle] [--mdns] [--max-message-size N]\n"
    "\n"
    "Holds one peer connection. Reads commands as JSON objects, one a line, and prints events in the same "
    "way:\n"
    "open, start, description, candidate, send, echo, sink, close, stats, quit, die, reset. The protocol is "
    "in\n"
    "docs/interop.md, part 1.\n"
    "\n"
    "  --trickle              print the description at once, and candidates as they are found\n"
    "  --mdns                 hide local addresses behind names that mDNS resolves\n"
    "  --max-message-size N   take messages of up to N bytes; 0: of any size; else 262144\n"
    "  -v, -vv, -vvv          say more on standard error\n"
    "\n"
    "Example, which prints an offer:\n"
    "  (printf '%s\\n' '{\"cmd\":\"open\",\"label\":\"x\"}' '{\"cmd\":\"start\"}'; sleep 1) | datapeer pc "
    "offer\n";

enum {
    SDP_CAPACITY = 32768,
    CANDIDATE_SUFFIX = 4096, /* room in it for candidates that were found later */
    BUFFERED_HIGH = 1 << 20,
    BUFFERED_LOW = 1 << 19,
    MAX_MESSAGE = 64 << 20,
    MAX_ECHO = 256 << 20, /* bytes that wait to be echoed */
};

/* Something to do on a channel, in its turn. */
typedef struct job {
    struct job *next;
    enum { JOB_PATTERN, JOB_BYTES, JOB_ECHO, JOB_CLOSE } kind;
    bool binary;
    uint64_t seed;
    uint64_t count;
    uint64_t done;
    size_t len;
    uint8_t data[]; /* of one message */
} job;

/* A label: what was asked for it, and its channel once there is one. */
typedef struct channel {
    struct channel *next;
    dp_channel *dc;
    bool incoming;
    bool ended; /* its channel is closed */
    bool echo;
    uint64_t sink_count;
    uint64_t sunk;
    uint64_t sink_size;
    dp_time sink_first;
    dp_sha256_hash *sink;
    /* The message that comes, which may do so in parts. */
    dp_sha256_hash *hash; /* NULL: it is sunk */
    job *echoed;          /* NULL: it is not to be echoed */
    size_t echo_capacity;
    uint64_t size;
    job *first, **last;
    size_t label_len;
    char label[];
} channel;

typedef struct pc_driver {
    app app;
    lines *input;
    dp_certificate *certificate;
    dp_pc_loop *run;
    bool offerer;
    bool trickle;
    bool mdns;
    uint64_t max_message_size; /* announced; 0: no limit */
    bool opened;               /* an offer can be made */
    channel *channels;
    size_t echo_bytes;
    /* The description that waits for the end of gathering. */
    char *sdp;
    size_t sdp_len;
    dp_sdp_type sdp_type;
    bool gathered;
} pc_driver;

static dp_pc *pc_of(const pc_driver *d) { return dp_pc_loop_pc(d->run); }

static dp_time now_of(const pc_driver *d) { return dp_loop_now(d->app.loop); }

/* ---- lines out ---- */

static dp_value *event(const char *name)
{
    dp_value *line = dp_value_map();
    dp_value_set(line, "ev", dp_value_string(name));
    return line;
}

static dp_value *channel_event(const char *name, const channel *c)
{
    dp_value *line = event(name);
    dp_value_set(line, "label", dp_value_string_n(c->label, c->label_len));
    return line;
}

/* cmd NULL: none. */
static dp_value *error_event(const char *message, const char *cmd)
{
    dp_value *line = event("error");
    dp_value_set(line, "message", dp_value_string(message));
    if (cmd != NULL)
        dp_value_set(line, "cmd", dp_value_string(cmd));
    return line;
}

static void print_error(const char *message, const char *cmd, const channel *c)
{
    dp_value *line = error_event(message, cmd);
    if (c != NULL)
        dp_value_set(line, "label", dp_value_string_n(c->label, c->label_len));
    lines_print(line);
}

static dp_value *limit(int32_t value) { return value < 0 ? dp_value_null() : dp_value_int(value); }

static void print_open(const channel *c)
{
    dp_value *line = channel_event("open", c);
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

static void print_description(pc_driver *d)
{
    dp_value *line = event("description");
    dp_value_set(line, "type", dp_value_string(d->sdp_type == DP_SDP_OFFER ? "offer" : "answer"));
    dp_value_set(line, "sdp", dp_value_string_n(d->sdp, d->sdp_len));
    lines_print(line);
    free(d->sdp);
    d->sdp = NULL;
}

/* text NULL: there are no more. */
static void print_candidate(const pc_driver *d, const char *text)
{
    dp_value *line = event("candidate");
    dp_value_set(line, "candidate", text != NULL ? dp_value_string(text) : dp_value_null());
    dp_value_set(line, "sdpMid", dp_value_string(dp_pc_mid(pc_of(d))));
    dp_value_set(line, "sdpMLineIndex", dp_value_int(dp_pc_mline_index(pc_of(d))));
    lines_print(line);
}

/* ---- channels ---- */

/* The label's channel, made if there is none. NULL: no memory, printed. */
static channel *channel_of(pc_driver *d, const char *label, size_t len)
{
    for (channel *c = d->channels; c != NULL; c = c->next)
        if (c->label_len == len && memcmp(c->label, label, len) == 0)
            return c;
    channel *c = calloc(1, sizeof(*c) + len + 1);
    if (c == NULL) {
        app_error("out of memory");
        return NULL;
    }
    memcpy(c->label, label, len);
    c->label_len = len;
    c->last = &c->first;
    c->next = d->channels;
    d->channels = c;
    return c;
}

static void push_job(channel *c, job *j)
{
    *c->last = j;
    c->last = &j->next;
}

static void pop_job(pc_driver *d, channel *c)
{
    job *j = c->first;
    if (j->kind == JOB_ECHO)
        d->echo_bytes -= j->len;
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

static void print_sent(const channel *c, uint64_t count)
{
    dp_value *line = channel_event("sent", c);
    dp_value_set(line, "count", dp_value_uint(count));
    lines_print(line);
}

static bool send_one(pc_driver *d, channel *c, job *j)
{
    if (j->kind == JOB_PATTERN)
        fill_pattern(j->data, j->len, j->seed + j->done, !j->binary);
    int error = dp_channel_send(c->dc, now_of(d), j->data, j->len, j->binary, false);
    if (error == DP_ERR_WOULD_BLOCK)
        return false;
    bool is_echo = j->kind == JOB_ECHO;
    j->done = error == DP_OK ? j->done + 1 : j->count;
    /* Whoever closes a channel does not want the echoes that would still come. */
    if (error != DP_OK && !(is_echo && error == DP_ERR_INVALID_STATE))
        print_error(dp_strerror(error), is_echo ? "echo" : "send", c);
    else if (j->done == j->count && !is_echo)
        print_sent(c, j->count);
    return true;
}

/* Hands over what there is room for. */
static void work(pc_driver *d, channel *c)
{
    while (c->first != NULL && c->dc != NULL) {
        job *j = c->first;
        if (j->kind == JOB_CLOSE) {
            dp_channel_close(c->dc, now_of(d));
        } else {
            if (dp_channel_buffered_amount(c->dc) > BUFFERED_HIGH || !send_one(d, c, j))
                return;
            if (j->done < j->count)
                continue;
        }
        pop_job(d, c);
    }
}

static void on_writable(void *user)
{
    pc_driver *d = user;
    for (channel *c = d->channels; c != NULL; c = c->next)
        work(d, c);
}

static void forget_echo(pc_driver *d, channel *c)
{
    if (c->echoed != NULL)
        d->echo_bytes -= c->echoed->len;
    free(c->echoed);
    c->echoed = NULL;
}

static void forget_message(pc_driver *d, channel *c)
{
    dp_sha256_free(c->hash);
    c->hash = NULL;
    forget_echo(d, c);
}

static void forget_channel(pc_driver *d, channel *c)
{
    while (c->first != NULL)
        pop_job(d, c);
    forget_message(d, c);
    dp_sha256_free(c->sink);
    c->sink = NULL;
}

/* ---- events of the connection ---- */

static void on_channel_open(pc_driver *d, const dp_pc_event *e)
{
    channel *c = dp_channel_user(e->channel);
    if (c == NULL) {
        c = channel_of(d, dp_channel_label(e->channel), dp_channel_label_length(e->channel));
        if (c == NULL)
            return;
        c->dc = e->channel;
        c->incoming = true;
        dp_channel_set_user(c->dc, c);
        dp_channel_set_buffered_amount_low_threshold(c->dc, BUFFERED_LOW);
    }
    print_open(c);
}

/* "" if there is no memory, printed. hash is used up. */
static void finish_hash(dp_sha256_hash *hash, char hex[65])
{
    hex[0] = '\0';
    if (hash == NULL || dp_sha256_finish(hash, hex) != DP_OK)
        app_error("out of memory");
}

static void swallow(pc_driver *d, channel *c, const dp_pc_event *e)
{
    if (c->sunk == 0 && e->first)
        c->sink_first = now_of(d);
    c->sink_size += e->len;
    dp_sha256_update(c->sink, e->data, e->len);
    c->sunk += e->last;
    if (c->sunk < c->sink_count)
        return;
    char hex[65];
    finish_hash(c->sink, hex);
    c->sink = NULL;
    dp_value *line = channel_event("sunk", c);
    dp_value_set(line, "count", dp_value_uint(c->sunk));
    dp_value_set(line, "size", dp_value_uint(c->sink_size));
    dp_value_set(line, "sha256", dp_value_string(hex));
    dp_value_set(line, "ms", dp_value_uint((now_of(d) - c->sink_first) / 1000));
    lines_print(line);
}

static void print_message(channel *c, const dp_pc_event *e)
{
    char hex[65];
    dp_sha256_update(c->hash, e->data, e->len);
    if (!e->last)
        return;
    finish_hash(c->hash, hex);
    c->hash = NULL;
    dp_value *line = channel_event("message", c);
    dp_value_set(line, "binary", dp_value_bool(e->binary));
    dp_value_set(line, "size", dp_value_uint(c->size));
    dp_value_set(line, "sha256", dp_value_string(hex));
    lines_print(line);
}

/* What came of it and this part. False: there is no room. */
static bool collect(pc_driver *d, channel *c, const dp_pc_event *e)
{
    size_t have = c->echoed != NULL ? c->echoed->len : 0;
    if (d->echo_bytes + e->len > MAX_ECHO)
        return false;
    if (c->echoed == NULL || have + e->len > c->echo_capacity) {
        size_t capacity = e->last ? have + e->len : 2 * (have + e->len);
        job *grown = realloc(c->echoed, sizeof(*grown) + capacity);
        if (grown == NULL)
            return false;
        if (c->echoed == NULL)
            *grown = (job){.kind = JOB_ECHO, .binary = e->binary, .count = 1};
        c->echoed = grown;
        c->echo_capacity = capacity;
    }
    if (e->len > 0)
        memcpy(c->echoed->data + have, e->data, e->len);
    c->echoed->len += e->len;
    d->echo_bytes += e->len;
    return true;
}

static void echo(pc_driver *d, channel *c, const dp_pc_event *e)
{
    if (!collect(d, c, e)) {
        forget_echo(d, c);
        print_error("too much waits to be echoed", "echo", c);
    } else if (e->last) {
        push_job(c, c->echoed);
        c->echoed = NULL;
    }
}

/* A whole message, or a part of one. */
static void on_message(pc_driver *d, const dp_pc_event *e)
{
    channel *c = dp_channel_user(e->channel);
    if (c == NULL)
        return;
    if (e->error != DP_OK) {
        forget_message(d, c);
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
        swallow(d, c, e);
    if (c->echoed != NULL || (c->echo && e->first))
        echo(d, c, e);
}

/* Without --trickle, candidates that were found after the description was made stand at the end of it: the data
 * section is its last. */
static void add_candidate(pc_driver *d, const char *text)
{
    size_t room = SDP_CAPACITY + CANDIDATE_SUFFIX - d->sdp_len;
    int n = snprintf(d->sdp + d->sdp_len, room, "a=%s\r\n", text);
    if (n > 0 && (size_t)n < room)
        d->sdp_len += (size_t)n;
    d->sdp[d->sdp_len] = '\0';
}

static void on_gathered(pc_driver *d)
{
    d->gathered = true;
    if (d->trickle) {
        print_candidate(d, NULL);
    } else if (d->sdp != NULL) {
        if (strstr(d->sdp, "a=end-of-candidates") == NULL)
            add_candidate(d, "end-of-candidates");
        print_description(d);
    }
}

static void on_candidate(pc_driver *d, const char *candidate)
{
    if (d->trickle)
        print_candidate(d, candidate);
    else if (d->sdp != NULL)
        add_candidate(d, candidate);
}

static void on_event(void *user, const dp_pc_event *e)
{
    pc_driver *d = user;
    channel *c = e->channel != NULL ? dp_channel_user(e->channel) : NULL;
    dp_value *line;
    switch (e->type) {
    case DP_PC_EVENT_STATE:
        line = event("state");
        dp_value_set(line, "state", dp_value_string(dp_pc_state_name(e->state)));
        lines_print(line);
        if (e->state == DP_PC_FAILED) /* an error event would end a case that waits for this state */
            app_error("the connection failed: %s", e->message);
        break;
    case DP_PC_EVENT_ICE_STATE:
        line = event("ice");
        dp_value_set(line, "state", dp_value_string(dp_ice_state_name(e->ice_state)));
        lines_print(line);
        break;
    case DP_PC_EVENT_LOCAL_CANDIDATE:
        on_candidate(d, e->candidate);
        break;
    case DP_PC_EVENT_GATHERING_COMPLETE:
        on_gathered(d);
        break;
    case DP_PC_EVENT_CHANNEL_OPEN:
        on_channel_open(d, e);
        break;
    case DP_PC_EVENT_MESSAGE:
    case DP_PC_EVENT_MESSAGE_PART:
        on_message(d, e);
        break;
    case DP_PC_EVENT_CHANNEL_ERROR:
        if (c != NULL)
            print_error(dp_strerror(e->error), NULL, c);
        break;
    case DP_PC_EVENT_CHANNEL_CLOSED:
        if (c == NULL)
            break;
        c->dc = NULL;
        c->ended = true;
        forget_channel(d, c);
        lines_print(channel_event("closed", c));
        break;
    default:
        break; /* BUFFERED_AMOUNT_LOW: on_writable comes after every round */
    }
}

/* ---- commands ---- */

static const char *text_of(const dp_value *line, const char *name)
{
    return dp_value_get_string(dp_value_get(line, name), NULL);
}

/* W3C: unsigned short, null for none. False: it is something else. */
static bool take_number(int32_t *out, const dp_value *line, const char *name)
{
    const dp_value *value = dp_value_get(line, name);
    int64_t number = dp_value_get_int(value, -1);
    *out = -1;
    if (value == NULL || dp_value_get_type(value) == DP_VALUE_NULL)
        return true;
    *out = (int32_t)number;
    return number >= 0 && number <= 65535;
}

static int create_channel(pc_driver *d, dp_channel **out, const dp_value *line, const channel *c)
{
    dp_channel_init init = DP_CHANNEL_INIT(c->label);
    init.label_length = c->label_len;
    init.protocol = dp_value_get_string(dp_value_get(line, "protocol"), &init.protocol_length);
    init.ordered = dp_value_get_bool(dp_value_get(line, "ordered"), true);
    init.negotiated = dp_value_get_bool(dp_value_get(line, "negotiated"), false);
    int32_t id;
    if (!take_number(&init.max_retransmits, line, "maxRetransmits") ||
        !take_number(&init.max_packet_lifetime, line, "maxPacketLifeTime") ||
        (!take_number(&id, line, "id") && init.negotiated))
        return DP_ERR_INVALID_ARGUMENT;
    init.id = id;
    return dp_pc_create_channel(pc_of(d), out, now_of(d), &init);
}

static void cmd_open(pc_driver *d, const dp_value *line, channel *c)
{
    if (c->dc != NULL) {
        print_error("the label is in use", "open", c);
        return;
    }
    dp_channel *dc;
    int error = create_channel(d, &dc, line, c);
    if (error != DP_OK) {
        print_error(dp_strerror(error), "open", c);
        return;
    }
    c->dc = dc;
    c->incoming = false;
    d->opened = true;
    dp_channel_set_user(dc, c);
    dp_channel_set_buffered_amount_low_threshold(dc, BUFFERED_LOW);
}

static void make_description(pc_driver *d, dp_sdp_type type, const char *cmd)
{
    free(d->sdp);
    d->sdp = malloc(SDP_CAPACITY + CANDIDATE_SUFFIX);
    if (d->sdp == NULL) {
        app_error("out of memory");
        return;
    }
    d->sdp_type = type;
    int error = type == DP_SDP_OFFER
                    ? dp_pc_create_offer(pc_of(d), now_of(d), d->sdp, SDP_CAPACITY, &d->sdp_len)
                    : dp_pc_create_answer(pc_of(d), now_of(d), d->sdp, SDP_CAPACITY, &d->sdp_len);
    if (error != DP_OK) {
        print_error(dp_strerror(error), cmd, NULL);
        free(d->sdp);
        d->sdp = NULL;
        return;
    }
    d->sdp[d->sdp_len] = '\0';
    if (d->trickle || d->gathered)
        print_description(d);
}

static void cmd_start(pc_driver *d)
{
    if (!d->offerer)
        print_error("the answerer waits for an offer", "start", NULL);
    else if (!d->opened)
        print_error("open a channel first", "start", NULL);
    else
        make_description(d, DP_SDP_OFFER, "start");
}

static void cmd_description(pc_driver *d, const dp_value *line)
{
    const char *type = text_of(line, "type");
    size_t len;
    const char *sdp = dp_value_get_string(dp_value_get(line, "sdp"), &len);
    dp_sdp_error why = {0};
    if (type == NULL || sdp == NULL) {
        print_error("type and sdp are needed", "description", NULL);
        return;
    }
    bool offer = strcmp(type, "offer") == 0;
    if (!offer && strcmp(type, "answer") != 0) {
        print_error("type is neither offer nor answer", "description", NULL);
        return;
    }
    int error = dp_pc_set_remote_description(pc_of(d), now_of(d), offer ? DP_SDP_OFFER : DP_SDP_ANSWER, sdp,
                                             len, &why);
    if (error != DP_OK) {
        char text[256];
        snprintf(text, sizeof(text), "line %u: %s", (unsigned)why.line, why.message);
        print_error(why.line > 0 ? text : dp_strerror(error), "description", NULL);
    } else if (offer) {
        make_description(d, DP_SDP_ANSWER, "description");
    }
}

static void cmd_candidate(pc_driver *d, const dp_value *line)
{
    int error = dp_pc_add_remote_candidate(pc_of(d), now_of(d), text_of(line, "candidate"));
    if (error != DP_OK)
        print_error(dp_strerror(error), "candidate", NULL);
}

static void cmd_send(const dp_value *line, channel *c)
{
    size_t len;
    const char *text = dp_value_get_string(dp_value_get(line, "text"), &len);
    uint64_t count = dp_value_get_uint(dp_value_get(line, "count"), 1);
    if (text == NULL)
        len = (size_t)dp_value_get_uint(dp_value_get(line, "size"), 0);
    job *j = c->dc != NULL && count > 0 && len <= MAX_MESSAGE ? calloc(1, sizeof(*j) + len) : NULL;
    if (j == NULL) {
        print_error(c->dc == NULL ? c->ended ? "the channel is closed" : "no such channel"
                    : count == 0  ? "count is 0"
                                  : "the size is too large",
                    "send", c);
        return;
    }
    j->kind = text != NULL ? JOB_BYTES : JOB_PATTERN;
    j->binary = text == NULL && dp_value_get_bool(dp_value_get(line, "binary"), true);
    j->seed = dp_value_get_uint(dp_value_get(line, "seed"), 0);
    j->count = count;
    j->len = len;
    if (text != NULL && len > 0)
        memcpy(j->data, text, len);
    push_job(c, j);
}

static void cmd_sink(const dp_value *line, channel *c)
{
    dp_sha256_free(c->sink);
    c->sink = NULL;
    c->sunk = 0;
    c->sink_size = 0;
    c->sink_count = dp_value_get_uint(dp_value_get(line, "count"), 1);
    if (c->sink_count == 0) {
        print_error("count is 0", "sink", c);
        return;
    }
    if (dp_sha256_new(&c->sink) != DP_OK)
        app_error("out of memory");
    lines_print(channel_event("armed", c));
}

static void cmd_close(channel *c)
{
    if (c->dc == NULL && c->ended)
        return; /* the other side was faster */
    job *j = c->dc != NULL ? calloc(1, sizeof(*j)) : NULL;
    if (j == NULL) {
        print_error("no such channel", "close", c);
        return;
    }
    j->kind = JOB_CLOSE;
    push_job(c, j);
}

static void cmd_stats(const pc_driver *d)
{
    dp_value *channels = dp_value_array();
    for (const channel *c = d->channels; c != NULL; c = c->next)
        if (c->dc != NULL)
            dp_value_push(channels, pc_stats_channel(c->dc));
    dp_value *stats = pc_stats(pc_of(d));
    dp_value_set(stats, "dataChannels", channels);
    dp_value *line = event("stats");
    dp_value_set(line, "stats", stats);
    lines_print(line);
}

static void on_channel_command(pc_driver *d, const char *cmd, const dp_value *line)
{
    size_t len;
    const char *label = dp_value_get_string(dp_value_get(line, "label"), &len);
    channel *c = label != NULL ? channel_of(d, label, len) : NULL;
    if (c == NULL) {
        print_error(label == NULL ? "label is missing" : "out of memory", cmd, NULL);
    } else if (strcmp(cmd, "open") == 0) {
        cmd_open(d, line, c);
    } else if (strcmp(cmd, "send") == 0) {
        cmd_send(line, c);
    } else if (strcmp(cmd, "echo") == 0) {
        c->echo = true;
        lines_print(channel_event("armed", c));
    } else if (strcmp(cmd, "sink") == 0) {
        cmd_sink(line, c);
    } else if (strcmp(cmd, "close") == 0) {
        cmd_close(c);
    } else {
        print_error("unknown command", cmd, NULL);
    }
}

/* ---- the connection ---- */

static void clear(pc_driver *d)
{
    dp_pc_loop_free(d->run);
    d->run = NULL;
    for (channel *c = d->channels, *next; c != NULL; c = next) {
        next = c->next;
        forget_channel(d, c);
        free(c);
    }
    d->channels = NULL;
    free(d->sdp);
    d->sdp = NULL;
    d->gathered = d->opened = false;
}

static bool begin(pc_driver *d)
{
    dp_pc_loop_config config = {.size = sizeof(config),
                                .loop = d->app.loop,
                                .pc = {.size = sizeof(config.pc),
                                       .random = d->app.random,
                                       .log = d->app.log,
                                       .certificate = d->certificate,
                                       .hide_addresses = d->mdns,
                                       .key_log = d->app.key_log},
                                .on_event = on_event,
                                .on_writable = on_writable,
                                .user = d};
    uint64_t most = d->max_message_size;
    if (most > 0 && most <= DP_PC_MAX_MESSAGE_SIZE)
        config.pc.max_message_size = (size_t)most;
    else
        config.pc.max_size_in_parts = most == 0 ? DP_UNLIMITED : most;
    int error = dp_pc_loop_new(&d->run, &config);
    if (error != DP_OK) {
        app_error("the connection can't be made: %s", dp_strerror(error));
        return false;
    }
    dp_value *line = event("ready");
    dp_value_set(line, "impl", dp_value_string("datapeer " DP_VERSION));
    dp_value_set(line, "reset", dp_value_bool(true));
    lines_print(line);
    return true;
}

static void cmd_reset(pc_driver *d, const dp_value *line)
{
    const char *role = text_of(line, "role");
    d->offerer = role == NULL || strcmp(role, "answer") != 0;
    d->trickle = dp_value_get_bool(dp_value_get(line, "trickle"), false);
    clear(d);
    if (!begin(d))
        app_stop(&d->app, EXIT_NETWORK);
}

/* ---- lines in ---- */

static void on_line(void *user, const char *text, size_t len)
{
    pc_driver *d = user;
    dp_value *line = NULL;
    const char *cmd = NULL;
    if (dp_value_from_json(&line, text, len) == DP_OK)
        cmd = text_of(line, "cmd");
    if (cmd == NULL || d->run == NULL) {
        app_error("ignored a line that is no command");
    } else if (strcmp(cmd, "start") == 0) {
        cmd_start(d);
    } else if (strcmp(cmd, "description") == 0) {
        cmd_description(d, line);
    } else if (strcmp(cmd, "candidate") == 0) {
        cmd_candidate(d, line);
    } else if (strcmp(cmd, "quit") == 0) {
        app_stop(&d->app, EXIT_OK);
    } else if (strcmp(cmd, "die") == 0) {
        _exit(EXIT_OK); /* no goodbye to the other side */
    } else if (strcmp(cmd, "reset") == 0) {
        cmd_reset(d, line);
    } else if (strcmp(cmd, "stats") == 0) {
        cmd_stats(d);
    } else {
        on_channel_command(d, cmd, line);
    }
    dp_value_free(line);
    if (d->run != NULL)
        dp_pc_loop_wake(d->run);
}

static void on_input_end(void *user, bool too_long)
{
    pc_driver *d = user;
    app_stop(&d->app, too_long ? EXIT_USAGE : EXIT_OK);
}

/* ---- life ---- */

static bool take_size(uint64_t *out, const char *text)
{
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    bool good = *text >= '0' && *text <= '9' && *end == '\0' && errno == 0;
    if (!good)
        app_error("--max-message-size takes a number of bytes, not '%s'", text);
    return good;
}

/* EXIT_OK; -1: helped. */
static int take_arguments(pc_driver *d, int argc, char **argv)
{
    static const struct option options[] = {{"trickle", no_argument, NULL, 't'},
                                            {"mdns", no_argument, NULL, 'm'},
                                            {"max-message-size", required_argument, NULL, 's'},
                                            {"verbose", no_argument, NULL, 'v'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "vh", options, NULL)) != -1;) {
        if (c == 'h') {
            fputs(help, stdout);
            return -1;
        }
        if (c == '?' || (c == 's' && !take_size(&d->max_message_size, optarg))) {
            fputs("Try 'datapeer pc --help'.\n", stderr);
            return EXIT_USAGE;
        }
        d->trickle |= c == 't';
        d->mdns |= c == 'm';
        d->app.verbose += c == 'v';
    }
    d->offerer = optind + 1 == argc && strcmp(argv[optind], "offer") == 0;
    if (!d->offerer && (optind + 1 != argc || strcmp(argv[optind], "answer") != 0)) {
        fputs(help, stderr);
        return EXIT_USAGE;
    }
    return EXIT_OK;
}

int cmd_pc(int argc, char **argv)
{
    pc_driver d = {.max_message_size = DP_PC_MAX_MESSAGE_SIZE};
    int code = take_arguments(&d, argc, argv);
    if (code != EXIT_OK)
        return code < 0 ? EXIT_OK : code;
    code = app_start(&d.app);
    if (code == EXIT_OK && dp_certificate_generate(&d.certificate, &d.app.random, dp_clock_unix()) != DP_OK)
        code = EXIT_NETWORK;
    if (code == EXIT_OK && !begin(&d))
        code = EXIT_NETWORK;
    lines_config config = {.loop = d.app.loop, .on_line = on_line, .on_end = on_input_end, .user = &d};
    if (code == EXIT_OK && !lines_open(&d.input, &config))
        code = EXIT_USAGE;
    if (code == EXIT_OK)
        dp_loop_run(d.app.loop);
    else
        d.app.exit_code = code;
    lines_close(d.input);
    clear(&d);
    dp_certificate_free(d.certificate);
    return app_finish(&d.app);
}
