/* The client of a PeerServer: PeerJS' API.retrieveId and Socket as one state machine.
 *
 *   IDLE -> ID_CONNECTING -> ID_WAITING -+      only if no id is configured or known yet
 *     \                                  v
 *      +---------------------------> CONNECTING -> UPGRADING -> JOINING -> OPEN -> CLOSING
 *
 * and from each of them back to IDLE. Each stream is asked for with CONNECT and given up with DISCONNECT. */
#include "client.h"

#include "base/config.h"
#include "base/crypto.h"
#include "base/log.h"
#include "base/mem.h"
#include "url.h"
#include <stdio.h>
#include <string.h>

enum { TOKEN_LEN = 11 }; /* as Math.random().toString(36).slice(2) */

static const dp_duration PING_INTERVAL = DP_SECONDS(5);
static const dp_duration CONNECT_TIMEOUT = DP_SECONDS(20);
/* On a takeover of our own id PeerServer sends no OPEN (PeerJS then waits for ever). */
static const dp_duration TAKEOVER_WAIT = DP_SECONDS(2);
static const dp_duration CLOSE_TIMEOUT = DP_SECONDS(3);

static const struct {
    const char *name;
    unsigned next; /* bits of the states that may follow; IDLE always may */
} states[STATES] = {
    [IDLE] = {"idle", 1 << ID_CONNECTING | 1 << CONNECTING},
    [ID_CONNECTING] = {"id-connecting", 1 << ID_WAITING},
    [ID_WAITING] = {"id-waiting", 1 << CONNECTING},
    [CONNECTING] = {"connecting", 1 << UPGRADING},
    [UPGRADING] = {"upgrading", 1 << JOINING},
    [JOINING] = {"joining", 1 << OPEN},
    [OPEN] = {"open", 1 << CLOSING},
    [CLOSING] = {"closing", 0},
};

static bool set_state(dp_signaling *s, state next)
{
    if (next != IDLE && (states[s->state].next & 1u << next) == 0) {
        DP_LOG(&s->log, DP_LOG_ERROR, "signaling", "no way from %s to %s", states[s->state].name,
               states[next].name);
        return false;
    }
    DP_LOG(&s->log, DP_LOG_DEBUG, "signaling", "%s -> %s", states[s->state].name, states[next].name);
    s->state = next;
    return true;
}

/* ---- birth and death --------------------------------------------------------------------------- */

static bool word_valid(const char *word)
{
    return word == NULL || dp_peer_id_harmless((dp_slice){word, strlen(word)});
}

static bool config_valid(const dp_signaling_config *config)
{
    const dp_server_url *server = &config->server;
    return config->random.fn != NULL && server->host[0] != '\0' && server->port != 0 &&
           server->path[0] == '/' && word_valid(config->key) && word_valid(config->token) &&
           (config->id == NULL || dp_peer_id_valid(config->id));
}

int dp_signaling_new(dp_signaling **out, const dp_signaling_config *given)
{
    dp_signaling_config read = {0};
    const dp_signaling_config *config = &read;
    if (!DP_CONFIG_READ(&read, given, dp_signaling_config, key) || !config_valid(config))
        return DP_ERR_INVALID_ARGUMENT;
    dp_signaling *s = dp_calloc(1, sizeof(*s));
    if (s == NULL)
        return DP_ERR_NO_MEMORY;
    s->random = config->random;
    s->log = config->log;
    s->server = config->server;
    s->ping_interval = config->ping_interval != 0 ? config->ping_interval : PING_INTERVAL;
    s->connect_timeout = config->connect_timeout != 0 ? config->connect_timeout : CONNECT_TIMEOUT;
    s->deadline = s->takeover_at = s->ping_at = DP_TIME_NEVER;
    dp_http_init(&s->http, false);
    dp_queue_init(&s->outgoing, sizeof(outgoing), MAX_OUTGOING);
    dp_queue_init(&s->incoming, sizeof(dp_message), MAX_EVENTS);
    if (config->id != NULL)
        snprintf(s->id, sizeof(s->id), "%s", config->id);

    char token[TOKEN_LEN + 1];
    int error = dp_random_text(&s->random, token, TOKEN_LEN, "0123456789abcdefghijklmnopqrstuvwxyz");
    s->token = dp_strdup(config->token != NULL ? config->token : token);
    s->was_open = config->token != NULL; /* perhaps by another process, before this one */
    s->key = dp_strdup(config->key != NULL ? config->key : "peerjs");
    if (error == DP_OK && (s->token == NULL || s->key == NULL))
        error = DP_ERR_NO_MEMORY;
    if (error != DP_OK) {
        dp_signaling_free(s);
        return error;
    }
    *out = s;
    return DP_OK;
}

void dp_signaling_free(dp_signaling *s)
{
    if (s == NULL)
        return;
    dp_message message;
    while (dp_queue_pop(&s->incoming, &message))
        dp_message_clear(&message);
    dp_outgoing_drop(s);
    dp_queue_clear(&s->incoming);
    dp_queue_clear(&s->outgoing);
    dp_message_clear(&s->current);
    dp_http_clear(&s->http);
    dp_ws_free(s->ws);
    if (s->token != NULL)
        dp_wipe(s->token, strlen(s->token));
    dp_free(s->token);
    dp_free(s->key);
    dp_wipe(s, sizeof(*s));
    dp_free(s);
}

const char *dp_signaling_id(const dp_signaling *s) { return s->id[0] != '\0' ? s->id : NULL; }

/* ---- the end of a session ---------------------------------------------------------------------- */

static void give_up_stream(dp_signaling *s)
{
    /* A CONNECT that the owner has not seen is simply withdrawn. */
    s->pending &= ~(unsigned)PENDING_CONNECT;
    s->request_len = s->request_sent = 0;
    if (s->stream != STREAM_NONE)
        s->pending |= PENDING_DISCONNECT;
    s->stream = STREAM_NONE;
}

static void finish(dp_signaling *s, const char *reason)
{
    snprintf(s->reason, sizeof(s->reason), "%s", reason);
    give_up_stream(s);
    s->pending |= PENDING_DISCONNECTED;
    s->deadline = s->takeover_at = s->ping_at = DP_TIME_NEVER;
    dp_outgoing_drop(s);
    set_state(s, IDLE);
}

/* type is PeerJS' name of the error. */
static void fail(dp_signaling *s, const char *type, const char *reason, const char *detail)
{
    char text[REASON_MAX];
    int len = snprintf(text, sizeof(text), "%s%s%s", reason, detail != NULL ? ": " : "",
                       detail != NULL ? detail : "");
    /* A cut through a character would leave text that is no UTF-8. */
    if (len >= (int)sizeof(text))
        for (size_t cut = sizeof(text) - 1; cut > 0 && !dp_utf8_valid((const uint8_t *)text, strlen(text));
             cut--)
            text[cut - 1] = '\0';
    DP_LOG(&s->log, DP_LOG_WARN, "signaling", "%s: %s", type, text);
    s->error_type = type;
    s->pending |= PENDING_ERROR;
    finish(s, text);
}

/* ---- requests ---------------------------------------------------------------------------------- */

int dp_signaling_start(dp_signaling *s, dp_time now)
{
    if (s->state != IDLE)
        return DP_ERR_INVALID_STATE;
    dp_ws_free(s->ws);
    s->ws = NULL;
    s->request_len = s->request_sent = 0;
    s->deadline = now + s->connect_timeout;
    s->pending |= PENDING_CONNECT;
    set_state(s, s->id[0] == '\0' ? ID_CONNECTING : CONNECTING);
    return DP_OK;
}

/* What both requests begin with, up to the query. */
static dp_wr begin_request(dp_signaling *s)
{
    dp_wr wr = dp_wr_init(s->request, sizeof(s->request));
    dp_wr_text(&wr, "GET ");
    dp_wr_text(&wr, s->server.path);
    return wr;
}

static int end_request(dp_signaling *s, const dp_wr *wr, bool head_only)
{
    dp_http_clear(&s->http);
    dp_http_init(&s->http, head_only);
    s->request_sent = 0;
    return dp_wr_finish(wr, &s->request_len);
}

/* ts keeps caches from answering. */
static int write_id_request(dp_signaling *s)
{
    char ts[20];
    int error = dp_random_text(&s->random, ts, sizeof(ts) - 1, "0123456789");
    if (error != DP_OK)
        return error;
    dp_wr wr = begin_request(s);
    dp_url_write_escaped(&wr, s->key);
    dp_wr_text(&wr, "/id?ts=");
    dp_wr_text(&wr, ts);
    dp_wr_text(&wr, "&version=1.5.5 HTTP/1.1\r\nHost: ");
    dp_url_write_host(&wr, &s->server);
    dp_wr_text(&wr, "\r\nConnection: close\r\n\r\n");
    return end_request(s, &wr, false);
}

static int write_upgrade(dp_signaling *s)
{
    int error = dp_ws_make_key(s->ws_key, &s->random);
    if (error != DP_OK)
        return error;
    dp_wr wr = begin_request(s);
    dp_wr_text(&wr, "peerjs?key=");
    dp_url_write_escaped(&wr, s->key);
    dp_wr_text(&wr, "&id=");
    dp_url_write_escaped(&wr, s->id);
    dp_wr_text(&wr, "&token=");
    dp_url_write_escaped(&wr, s->token);
    dp_wr_text(&wr, "&version=1.5.5 HTTP/1.1\r\n");
    dp_ws_write_fields(&wr, &s->server, s->ws_key);
    return end_request(s, &wr, true);
}

void dp_signaling_connected(dp_signaling *s, dp_time now)
{
    (void)now;
    if (s->stream != STREAM_ASKED)
        return;
    s->stream = STREAM_UP;
    bool for_id = s->state == ID_CONNECTING;
    int error = for_id ? write_id_request(s) : write_upgrade(s);
    if (error != DP_OK)
        fail(s, "socket-error", "the request could not be made", dp_strerror(error));
    else
        set_state(s, for_id ? ID_WAITING : UPGRADING);
}

/* ---- input ------------------------------------------------------------------------------------- */

static const char NO_ID[] = "Could not get an ID from the server";

/* The id comes as the whole body; PeerJS takes it as it is. */
static void take_id(dp_signaling *s)
{
    dp_slice body = {s->http.body, s->http.body_len};
    if (s->http.status != 200 || !dp_peer_id_harmless(body)) {
        fail(s, "server-error", NO_ID, "the answer is no id");
        return;
    }
    (void)dp_slice_copy(s->id, sizeof(s->id), body);
    DP_LOG(&s->log, DP_LOG_INFO, "signaling", "the server gave the id %s", s->id);
    give_up_stream(s);
    s->pending |= PENDING_CONNECT;
    set_state(s, CONNECTING);
}

static void input_id(dp_signaling *s, const uint8_t *data, size_t len)
{
    int result = dp_http_input(&s->http, &data, &len);
    bool has_status = s->http.phase != HTTP_HEAD || result == DP_ERR_TOO_LARGE;
    if (has_status && s->http.status != 0 && s->http.status != 200) {
        char status[32];
        snprintf(status, sizeof(status), "HTTP status %u", s->http.status);
        fail(s, "server-error", NO_ID, status);
    } else if (result == DP_OK) {
        take_id(s);
    } else if (result != DP_ERR_WOULD_BLOCK) {
        fail(s, "server-error", NO_ID, dp_strerror(result));
    }
}

static void become_open(dp_signaling *s, dp_time now)
{
    if (!set_state(s, OPEN))
        return;
    s->was_open = true;
    s->deadline = s->takeover_at = DP_TIME_NEVER;
    s->ping_at = now + s->ping_interval;
    s->pending |= PENDING_OPEN;
}

/* ERROR, ID-TAKEN, INVALID-KEY: PeerJS gives up at once; the server closes anyway. */
static void refused(dp_signaling *s, const dp_message *message)
{
    static const char *const errors[] = {[MESSAGE_ERROR] = "server-error",
                                         [MESSAGE_ID_TAKEN] = "unavailable-id",
                                         [MESSAGE_INVALID_KEY] = "invalid-key"};
    if (s->state != JOINING && s->state != OPEN)
        return;
    dp_ws_close(s->ws, 1000);
    s->was_open = false;
    fail(s, errors[message->type], message->error != NULL ? message->error : "refused by the server", NULL);
}

static void on_message(void *ctx, const char *text, size_t len)
{
    dp_signaling *s = ctx;
    dp_message message;
    const char *reason;
    if (s->state != JOINING && s->state != OPEN)
        return; /* a refusal came before, or we are leaving */
    int error = dp_message_parse(&message, &reason, text, len);
    if (error != DP_OK) {
        DP_LOG(&s->log, DP_LOG_DEBUG, "signaling", "message dropped: %s",
               error == DP_ERR_NO_MEMORY ? dp_strerror(error) : reason);
        return;
    }
    switch (message.type) {
    case MESSAGE_IGNORED:
        break;
    case MESSAGE_OPEN:
        if (s->state == JOINING)
            become_open(s, s->input_now);
        break;
    case MESSAGE_ERROR:
    case MESSAGE_ID_TAKEN:
    case MESSAGE_INVALID_KEY:
        refused(s, &message);
        break;
    default: /* something was relayed to us: so we are registered, with or without OPEN */
        if (s->state == JOINING)
            become_open(s, s->input_now);
        dp_message *slot = dp_queue_push(&s->incoming);
        if (slot != NULL) {
            *slot = message;
            return;
        }
        DP_LOG(&s->log, DP_LOG_WARN, "signaling", "message dropped: too many at once");
        break;
    }
    dp_message_clear(&message);
}

static void input_frames(dp_signaling *s, const uint8_t *data, size_t len)
{
    int error = dp_ws_input(s->ws, data, len);
    if (error == DP_OK || s->state == IDLE)
        return;
    if (s->state == CLOSING)
        finish(s, "closed");
    else if (error == DP_ERR_CLOSED)
        fail(s, "network", "Lost connection to server", "the server closed the socket");
    else if (error == DP_ERR_PROTOCOL)
        fail(s, "socket-error", "the server broke the WebSocket protocol", NULL);
    else
        fail(s, "socket-error", "receiving failed", dp_strerror(error));
}

static void input_upgrade(dp_signaling *s, dp_time now, const uint8_t *data, size_t len)
{
    const char *reason;
    int error = dp_http_input(&s->http, &data, &len);
    if (error == DP_ERR_WOULD_BLOCK)
        return;
    if (error != DP_OK) {
        fail(s, "socket-error", "the answer to the WebSocket upgrade is not HTTP", dp_strerror(error));
        return;
    }
    if (dp_ws_check_response(&s->http, s->ws_key, &reason) != DP_OK) {
        char status[32];
        snprintf(status, sizeof(status), "HTTP status %u", s->http.status);
        fail(s, "socket-error", reason, s->http.status != 101 ? status : NULL);
        return;
    }
    error = dp_ws_new(&s->ws, &s->random, on_message, s);
    if (error != DP_OK) {
        fail(s, "socket-error", "out of memory", NULL);
        return;
    }
    dp_http_clear(&s->http);
    set_state(s, JOINING);
    if (s->was_open)
        s->takeover_at = now + TAKEOVER_WAIT;
    input_frames(s, data, len);
}

void dp_signaling_input(dp_signaling *s, dp_time now, const uint8_t *data, size_t len)
{
    if (s->stream != STREAM_UP || len == 0)
        return;
    s->input_now = now;
    switch (s->state) {
    case ID_WAITING:
        input_id(s, data, len);
        break;
    case UPGRADING:
        input_upgrade(s, now, data, len);
        break;
    case JOINING:
    case OPEN:
    case CLOSING:
        input_frames(s, data, len);
        break;
    default:
        break;
    }
}

void dp_signaling_disconnected(dp_signaling *s, dp_time now, const char *reason)
{
    (void)now;
    if (s->stream == STREAM_NONE)
        return; /* the end of a stream that was given up already */
    s->stream = STREAM_NONE;
    switch (s->state) {
    case IDLE:
        break;
    case ID_WAITING:
        if (dp_http_end(&s->http) == DP_OK)
            take_id(s);
        else
            fail(s, "server-error", NO_ID, reason != NULL ? reason : "the server closed the connection");
        break;
    case ID_CONNECTING:
    case CONNECTING:
        fail(s, "network", "could not connect to the server", reason);
        break;
    case CLOSING:
        finish(s, "closed");
        break;
    default:
        fail(s, "network", "Lost connection to server", reason);
        break;
    }
}

void dp_signaling_tls_failed(dp_signaling *s, dp_time now, const char *reason)
{
    if (s->state != ID_CONNECTING && s->state != CONNECTING) {
        dp_signaling_disconnected(s, now, reason);
    } else if (s->stream != STREAM_NONE) {
        s->stream = STREAM_NONE;
        fail(s, "ssl-unavailable", "no secure connection to the server", reason);
    }
}

void dp_signaling_close(dp_signaling *s, dp_time now)
{
    if (s->state == IDLE || s->state == CLOSING)
        return;
    if (s->state != OPEN) {
        finish(s, "closed");
        return;
    }
    s->was_open = false; /* after LEAVE the server has forgotten us */
    static const char leave[] = "{\"type\":\"LEAVE\"}";
    (void)dp_outgoing_push(s, leave, sizeof(leave) - 1);
    s->close_queued = false; /* poll_transmit does it when the queue is empty */
    s->ping_at = DP_TIME_NEVER;
    s->deadline = now + CLOSE_TIMEOUT;
    set_state(s, CLOSING);
}

/* ---- time -------------------------------------------------------------------------------------- */

dp_time dp_signaling_next_timeout(const dp_signaling *s)
{
    dp_time next = s->deadline < s->takeover_at ? s->deadline : s->takeover_at;
    return s->ping_at < next ? s->ping_at : next;
}

static void deadline_passed(dp_signaling *s)
{
    if (s->state == CLOSING)
        finish(s, "closed");
    else if (s->state == ID_CONNECTING || s->state == ID_WAITING)
        fail(s, "server-error", NO_ID, "timed out");
    else
        fail(s, "network", "connecting to the server timed out", states[s->state].name);
}

void dp_signaling_handle_timeout(dp_signaling *s, dp_time now)
{
    if (now >= s->takeover_at) {
        s->takeover_at = DP_TIME_NEVER;
        if (s->state == JOINING)
            become_open(s, now);
    }
    if (now >= s->deadline) {
        deadline_passed(s);
        return;
    }
    if (now >= s->ping_at) {
        /* Over the limit there is no use in one more: the server counts the others' absence, not this one's.
         */
        static const char heartbeat[] = "{\"type\":\"HEARTBEAT\"}";
        (void)dp_outgoing_push(s, heartbeat, sizeof(heartbeat) - 1);
        s->ping_at = now + s->ping_interval;
    }
}

/* ---- events ------------------------------------------------------------------------------------ */

static bool take(dp_signaling *s, unsigned flag)
{
    bool set = (s->pending & flag) != 0;
    s->pending &= ~flag;
    return set;
}

static void message_event(dp_signaling_event *event, const dp_message *message)
{
    static const dp_signaling_event_type types[] = {[MESSAGE_LEAVE] = DP_SIGNALING_EVENT_LEAVE,
                                                    [MESSAGE_EXPIRE] = DP_SIGNALING_EVENT_EXPIRE,
                                                    [MESSAGE_OFFER] = DP_SIGNALING_EVENT_OFFER,
                                                    [MESSAGE_ANSWER] = DP_SIGNALING_EVENT_ANSWER,
                                                    [MESSAGE_CANDIDATE] = DP_SIGNALING_EVENT_CANDIDATE};
    event->type = types[message->type];
    event->src = message->src;
    event->connection_id = message->connection_id;
    event->sdp = message->sdp;
    event->candidate = message->candidate;
    event->mid = message->mid;
    event->mline_index = message->mline_index;
    event->offer = (dp_signaling_offer){.connection_id = message->connection_id,
                                        .sdp = message->sdp,
                                        .label = message->label,
                                        .serialization = message->serialization,
                                        .metadata = message->metadata,
                                        .reliable = message->reliable,
                                        .restart = message->restart};
    event->restart = message->restart;
    event->knows_restart = message->knows_restart;
}

bool dp_signaling_poll_event(dp_signaling *s, dp_signaling_event *event)
{
    memset(event, 0, sizeof(*event));
    dp_message_clear(&s->current);
    if (take(s, PENDING_OPEN)) {
        event->type = DP_SIGNALING_EVENT_OPEN;
        event->src = s->id;
    } else if (dp_queue_pop(&s->incoming, &s->current)) {
        message_event(event, &s->current);
    } else if (take(s, PENDING_ERROR)) {
        event->type = DP_SIGNALING_EVENT_ERROR;
        event->error_type = s->error_type;
        event->message = s->reason;
    } else if (take(s, PENDING_DISCONNECT)) {
        event->type = DP_SIGNALING_EVENT_DISCONNECT;
    } else if (take(s, PENDING_DISCONNECTED)) {
        event->type = DP_SIGNALING_EVENT_DISCONNECTED;
        event->message = s->reason;
    } else if (take(s, PENDING_CONNECT)) {
        event->type = DP_SIGNALING_EVENT_CONNECT;
        event->host = s->server.host;
        event->port = s->server.port;
        event->secure = s->server.secure;
        s->stream = STREAM_ASKED;
    } else {
        return false;
    }
    return true;
}
