/* datapeer pc: one raw peer connection driven by JSON lines (docs/interop.md, part 1), so that any stack can be paired
 * with ours. */
#include "app.h"
#include "lines.h"
#include "pc_channel.h"
#include "pc_stats.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
    "Usage: datapeer pc offer|answer [--trickle] [--mdns] [--max-message-size N] [--mtu N] "
    "[--no-interleaving]\n"
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
    "  --mtu N                send datagrams of up to N bytes, 600 to 16384; else as large as the way takes\n"
    "  --no-interleaving      send each message whole before the next begins, and take only such (no RFC "
    "8260)\n"
    "  -v, -vv, -vvv          say more on standard error\n"
    "\n"
    "Example, which prints an offer:\n"
    "  (printf '%s\\n' '{\"cmd\":\"open\",\"label\":\"x\"}' '{\"cmd\":\"start\"}'; sleep 1) | datapeer pc "
    "offer\n";

enum {
    SDP_CAPACITY = 32768,
    CANDIDATE_SUFFIX = 4096, /* room in it for candidates that were found later */
    BUFFERED_LOW = 1 << 19,
    MAX_MESSAGE = 64 << 20,
};

typedef struct pc_driver {
    app app;
    lines *input;
    dp_certificate *certificate;
    dp_pc_loop *run;
    bool offerer;
    bool trickle;
    bool mdns;
    bool no_interleaving;
    size_t datagram_size;      /* --mtu or 0 */
    uint64_t max_message_size; /* announced; 0: no limit */
    bool opened;               /* an offer can be made */
    pc_channels channels;
    /* The description that waits for the end of gathering. */
    char *sdp;
    size_t sdp_len;
    dp_sdp_type sdp_type;
    bool gathered;
} pc_driver;

static dp_pc *pc_of(const pc_driver *d) { return dp_pc_loop_pc(d->run); }

static dp_time now_of(const pc_driver *d) { return dp_loop_now(d->app.loop); }

/* ---- lines out ---- */

static void print_description(pc_driver *d)
{
    dp_value *line = pc_line("description");
    dp_value_set(line, "type", dp_value_string(d->sdp_type == DP_SDP_OFFER ? "offer" : "answer"));
    dp_value_set(line, "sdp", dp_value_string_n(d->sdp, d->sdp_len));
    lines_print(line);
    free(d->sdp);
    d->sdp = NULL;
}

/* text NULL: there are no more. */
static void print_candidate(const pc_driver *d, const char *text)
{
    dp_value *line = pc_line("candidate");
    dp_value_set(line, "candidate", text != NULL ? dp_value_string(text) : dp_value_null());
    dp_value_set(line, "sdpMid", dp_value_string(dp_pc_mid(pc_of(d))));
    dp_value_set(line, "sdpMLineIndex", dp_value_int(dp_pc_mline_index(pc_of(d))));
    lines_print(line);
}

static void on_writable(void *user)
{
    pc_driver *d = user;
    for (pc_channel *c = d->channels.first; c != NULL; c = c->next)
        pc_channel_work(&d->channels, c, now_of(d));
}

/* ---- events of the connection ---- */

static void on_channel_open(pc_driver *d, const dp_pc_event *e)
{
    pc_channel *c = dp_channel_user(e->channel);
    if (c == NULL) {
        c = pc_channel_of(&d->channels, dp_channel_label(e->channel), dp_channel_label_length(e->channel));
        if (c == NULL)
            return;
        c->dc = e->channel;
        c->incoming = true;
        dp_channel_set_user(c->dc, c);
        dp_channel_set_buffered_amount_low_threshold(c->dc, BUFFERED_LOW);
    }
    pc_print_open(c);
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
    pc_channel *c = e->channel != NULL ? dp_channel_user(e->channel) : NULL;
    dp_value *line;
    switch (e->type) {
    case DP_PC_EVENT_STATE:
        line = pc_line("state");
        dp_value_set(line, "state", dp_value_string(dp_pc_state_name(e->state)));
        lines_print(line);
        if (e->state == DP_PC_FAILED) /* an error event would end a case that waits for this state */
            app_error("the connection failed: %s", e->message);
        break;
    case DP_PC_EVENT_ICE_STATE:
        line = pc_line("ice");
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
        if (c != NULL)
            pc_channel_message(&d->channels, c, now_of(d), e);
        break;
    case DP_PC_EVENT_CHANNEL_ERROR:
        if (c != NULL)
            pc_print_error(dp_strerror(e->error), NULL, c);
        break;
    case DP_PC_EVENT_CHANNEL_CLOSED:
        if (c == NULL)
            break;
        c->dc = NULL;
        c->ended = true;
        pc_channel_forget(&d->channels, c);
        lines_print(pc_channel_line("closed", c));
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

static int create_channel(pc_driver *d, dp_channel **out, const dp_value *line, const pc_channel *c)
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

static void cmd_open(pc_driver *d, const dp_value *line, pc_channel *c)
{
    if (c->dc != NULL) {
        pc_print_error("the label is in use", "open", c);
        return;
    }
    dp_channel *dc;
    int error = create_channel(d, &dc, line, c);
    if (error != DP_OK) {
        pc_print_error(dp_strerror(error), "open", c);
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
        pc_print_error(dp_strerror(error), cmd, NULL);
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
        pc_print_error("the answerer waits for an offer", "start", NULL);
    else if (!d->opened)
        pc_print_error("open a channel first", "start", NULL);
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
        pc_print_error("type and sdp are needed", "description", NULL);
        return;
    }
    bool offer = strcmp(type, "offer") == 0;
    if (!offer && strcmp(type, "answer") != 0) {
        pc_print_error("type is neither offer nor answer", "description", NULL);
        return;
    }
    int error = dp_pc_set_remote_description(pc_of(d), now_of(d), offer ? DP_SDP_OFFER : DP_SDP_ANSWER, sdp,
                                             len, &why);
    if (error != DP_OK) {
        char text[256];
        snprintf(text, sizeof(text), "line %u: %s", (unsigned)why.line, why.message);
        pc_print_error(why.line > 0 ? text : dp_strerror(error), "description", NULL);
    } else if (offer) {
        make_description(d, DP_SDP_ANSWER, "description");
    }
}

static void cmd_candidate(pc_driver *d, const dp_value *line)
{
    int error = dp_pc_add_remote_candidate(pc_of(d), now_of(d), text_of(line, "candidate"));
    if (error != DP_OK)
        pc_print_error(dp_strerror(error), "candidate", NULL);
}

static void cmd_send(const dp_value *line, pc_channel *c)
{
    size_t len;
    const char *text = dp_value_get_string(dp_value_get(line, "text"), &len);
    uint64_t count = dp_value_get_uint(dp_value_get(line, "count"), 1);
    if (text == NULL)
        len = (size_t)dp_value_get_uint(dp_value_get(line, "size"), 0);
    pc_job *j = c->dc != NULL && count > 0 && len <= MAX_MESSAGE ? calloc(1, sizeof(*j) + len) : NULL;
    if (j == NULL) {
        pc_print_error(c->dc == NULL ? c->ended ? "the channel is closed" : "no such channel"
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
    pc_channel_push(c, j);
}

static void cmd_sink(const dp_value *line, pc_channel *c)
{
    dp_sha256_free(c->sink);
    c->sink = NULL;
    c->sunk = 0;
    c->sink_size = 0;
    c->sink_count = dp_value_get_uint(dp_value_get(line, "count"), 1);
    if (c->sink_count == 0) {
        pc_print_error("count is 0", "sink", c);
        return;
    }
    if (dp_sha256_new(&c->sink) != DP_OK)
        app_error("out of memory");
    lines_print(pc_channel_line("armed", c));
}

static void cmd_close(pc_channel *c)
{
    if (c->dc == NULL && c->ended)
        return; /* the other side was faster */
    pc_job *j = c->dc != NULL ? calloc(1, sizeof(*j)) : NULL;
    if (j == NULL) {
        pc_print_error("no such channel", "close", c);
        return;
    }
    j->kind = JOB_CLOSE;
    pc_channel_push(c, j);
}

static void cmd_stats(const pc_driver *d)
{
    dp_value *channels = dp_value_array();
    for (const pc_channel *c = d->channels.first; c != NULL; c = c->next)
        if (c->dc != NULL)
            dp_value_push(channels, pc_stats_channel(c->dc));
    dp_value *stats = pc_stats(pc_of(d));
    dp_value_set(stats, "dataChannels", channels);
    dp_value *line = pc_line("stats");
    dp_value_set(line, "stats", stats);
    lines_print(line);
}

static void on_channel_command(pc_driver *d, const char *cmd, const dp_value *line)
{
    size_t len;
    const char *label = dp_value_get_string(dp_value_get(line, "label"), &len);
    pc_channel *c = label != NULL ? pc_channel_of(&d->channels, label, len) : NULL;
    if (c == NULL) {
        pc_print_error(label == NULL ? "label is missing" : "out of memory", cmd, NULL);
    } else if (strcmp(cmd, "open") == 0) {
        cmd_open(d, line, c);
    } else if (strcmp(cmd, "send") == 0) {
        cmd_send(line, c);
    } else if (strcmp(cmd, "echo") == 0) {
        c->echo = true;
        lines_print(pc_channel_line("armed", c));
    } else if (strcmp(cmd, "sink") == 0) {
        cmd_sink(line, c);
    } else if (strcmp(cmd, "close") == 0) {
        cmd_close(c);
    } else {
        pc_print_error("unknown command", cmd, NULL);
    }
}

/* ---- the connection ---- */

static void clear(pc_driver *d)
{
    dp_pc_loop_free(d->run);
    d->run = NULL;
    pc_channels_free(&d->channels);
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
                                       .datagram_size = d->datagram_size,
                                       .no_interleaving = d->no_interleaving,
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
    dp_value *line = pc_line("ready");
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
                                            {"mtu", required_argument, NULL, 'u'},
                                            {"no-interleaving", no_argument, NULL, 'i'},
                                            {"verbose", no_argument, NULL, 'v'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "vh", options, NULL)) != -1;) {
        if (c == 'h') {
            fputs(help, stdout);
            return -1;
        }
        if (c == '?' || (c == 's' && !take_size(&d->max_message_size, optarg)) ||
            (c == 'u' && !network_set_mtu(&d->datagram_size, optarg))) {
            fputs("Try 'datapeer pc --help'.\n", stderr);
            return EXIT_USAGE;
        }
        d->trickle |= c == 't';
        d->mdns |= c == 'm';
        d->no_interleaving |= c == 'i';
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
