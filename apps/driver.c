/* datapeer peer: PeerJS connections driven by JSON lines (docs/interop.md), so that any other stack can be
 * tested against ours. */
#include "app.h"
#include "hex.h"
#include "lines.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] = "Usage: datapeer peer [--server URL] [--key KEY] [--id ID] [options]\n"
                           "\n"
                           "Connects to the PeerServer, prints {\"ready\":true,\"peer\":\"ID\"}, then reads "
                           "one JSON object a line and answers\n"
                           "each with one line that has the same \"id\". Operations: open, request, upload, "
                           "stream, send, recv, close,\n"
                           "waitclose, state, peers, quit.\n"
                           "\n"
                           "  -v, -vv, -vvv          say more on standard error\n";

enum {
    MAX_CONNECTIONS = 256,
    LARGE_BYTES = 65536, /* recv tells length and hash of bytes over this */
};
#define OPEN_TIMEOUT DP_SECONDS(60)

typedef struct driver driver;
typedef struct link link_; /* "link" alone is unistd.h's */

typedef enum pending_kind {
    PENDING_OPEN,
    PENDING_RECV,
    PENDING_WAITCLOSE,
    PENDING_SEND,
    PENDING_REQUEST,
} pending_kind;

/* A line whose answer comes later. */
typedef struct pending {
    struct pending *next;
    link_ *link;
    dp_value *id;
    pending_kind kind;
    dp_timer timer;
    dp_value *line; /* PENDING_SEND: what waits for room */
    char request_id[DP_REQUEST_ID_LEN + 1];
    dp_sha256_hash *hash; /* stream */
    uint64_t length;
} pending;

typedef struct received {
    struct received *next;
    dp_value *answer; /* the members of recv's answer */
} received;

struct link {
    driver *driver;
    dp_connection *conn; /* NULL once it is closed */
    pending *pending;
    received *first;
    received **last;
    char error[256];
};

struct driver {
    app app;
    lines *input;
    link_ *links[MAX_CONNECTIONS];
    size_t link_count;
    bool ready;
};

/* ---- answers ---- */

static const char *text_of(const dp_value *line, const char *name)
{
    return dp_value_get_string(dp_value_get(line, name), NULL);
}

/* Prints members with the line's id in front; takes members. */
static void answer(const dp_value *id, dp_value *members)
{
    dp_value *line = dp_value_map();
    dp_value_set(line, "id", id != NULL ? dp_value_copy(id) : dp_value_null());
    for (size_t i = 0; i < dp_value_count(members); i++)
        dp_value_set(line, dp_value_key_at(members, i, NULL), dp_value_copy(dp_value_at(members, i)));
    lines_print(line);
    dp_value_free(members);
}

static void answer_error(const dp_value *id, const char *message)
{
    dp_value *members = dp_value_map();
    dp_value_set(members, "error", dp_value_string(message));
    answer(id, members);
}

static void answer_result(const dp_value *id, int error)
{
    if (error == DP_OK)
        answer(id, dp_value_map());
    else if (error == DP_ERR_TOO_LARGE) /* as on_error, which comes later */
        answer_error(id, "message-too-big: it does not fit into one message");
    else
        answer_error(id, dp_strerror(error));
}

/* ---- what waits ---- */

static void on_pending_timeout(void *user);

static pending *add_pending(link_ *l, const dp_value *line, pending_kind kind, dp_duration timeout)
{
    pending *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return NULL;
    p->link = l;
    p->kind = kind;
    p->id = dp_value_copy(dp_value_get(line, "id"));
    p->timer = (dp_timer){.fn = on_pending_timeout, .user = p};
    pending **at = &l->pending;
    while (*at != NULL)
        at = &(*at)->next;
    *at = p;
    if (timeout != DP_TIME_NEVER)
        dp_timer_set(l->driver->app.loop, &p->timer, dp_loop_now(l->driver->app.loop) + timeout);
    return p;
}

static void drop_pending(pending *p)
{
    for (pending **at = &p->link->pending; *at != NULL; at = &(*at)->next)
        if (*at == p) {
            *at = p->next;
            break;
        }
    dp_timer_stop(&p->timer);
    dp_value_free(p->id);
    dp_value_free(p->line);
    dp_sha256_free(p->hash);
    free(p);
}

static pending *find_pending(link_ *l, pending_kind kind)
{
    pending *p = l->pending;
    while (p != NULL && p->kind != kind)
        p = p->next;
    return p;
}

static void on_pending_timeout(void *user)
{
    pending *p = user;
    link_ *l = p->link;
    bool opening = p->kind == PENDING_OPEN;
    answer_error(p->id, "timeout");
    drop_pending(p);
    if (opening && l->conn != NULL)
        dp_connection_close(l->conn);
}

/* ---- connections ---- */

static void on_open(void *user, dp_connection *conn)
{
    link_ *l = user;
    pending *p = find_pending(l, PENDING_OPEN);
    if (p == NULL)
        return;
    size_t number = 0;
    while (l->driver->links[number] != l)
        number++;
    dp_value *members = dp_value_map();
    dp_value_set(members, "conn", dp_value_uint(number));
    dp_value_set(members, "connectionId", dp_value_string(dp_connection_id(conn)));
    answer(p->id, members);
    drop_pending(p);
}

static void answer_recv(pending *p)
{
    received *r = p->link->first;
    p->link->first = r->next;
    if (r->next == NULL)
        p->link->last = &p->link->first;
    answer(p->id, r->answer);
    free(r);
    drop_pending(p);
}

static dp_value *bytes_members(const uint8_t *data, size_t len)
{
    dp_value *members = dp_value_map();
    char hex[65] = "";
    dp_sha256_hash *hash;
    if (len <= LARGE_BYTES) {
        dp_value_set(members, "bytes", hex_value(data, len));
    } else if (dp_sha256_new(&hash) == DP_OK) {
        dp_sha256_update(hash, data, len);
        dp_sha256_finish(hash, hex);
        dp_value_set(members, "len", dp_value_uint(len));
        dp_value_set(members, "sha256", dp_value_string(hex));
    }
    return members;
}

static dp_value *message_members(dp_connection *conn, dp_message *message)
{
    size_t len;
    if (message->type == DP_MESSAGE_BYTES)
        return bytes_members(message->data, message->len);
    const uint8_t *data = dp_value_get_bytes(message->value, &len);
    if (data != NULL && len > LARGE_BYTES)
        return bytes_members(data, len);
    dp_value *members = dp_value_map();
    if (message->type == DP_MESSAGE_TEXT) {
        dp_value_set(members, "text", dp_value_string_n((const char *)message->data, message->len));
    } else if (strcmp(dp_connection_serialization(conn), "json") == 0) {
        dp_value_set(members, "json", message->value);
        message->value = NULL;
    } else {
        dp_value_set(members, "value", pack_hex(message->value));
    }
    return members;
}

static void on_data(void *user, dp_connection *conn, dp_message *message)
{
    link_ *l = user;
    received *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return;
    r->answer = message_members(conn, message);
    *l->last = r;
    l->last = &r->next;
    pending *p = find_pending(l, PENDING_RECV);
    if (p != NULL)
        answer_recv(p);
}

static bool op_send(link_ *l, const dp_value *line, pending *again);

static void on_drain(void *user, dp_connection *conn)
{
    link_ *l = user;
    (void)conn;
    for (pending *p; (p = find_pending(l, PENDING_SEND)) != NULL;)
        if (!op_send(l, p->line, p))
            break;
}

static void on_error(void *user, dp_connection *conn, const char *type, const char *message)
{
    link_ *l = user;
    (void)conn;
    snprintf(l->error, sizeof(l->error), "%s: %s", type, message);
    app_error("%s", l->error);
}

static void on_close(void *user, dp_connection *conn)
{
    link_ *l = user;
    (void)conn;
    l->conn = NULL;
    /* Requests have ended by themselves before. */
    for (pending *p = l->pending, *next; p != NULL; p = next) {
        next = p->next;
        if (p->kind == PENDING_REQUEST)
            continue;
        if (p->kind == PENDING_WAITCLOSE)
            answer(p->id, dp_value_map());
        else
            answer_error(p->id, l->error[0] != '\0' ? l->error : "connection closed");
        drop_pending(p);
    }
}

/* ---- operations ---- */

static link_ *new_link(driver *d)
{
    if (d->link_count == MAX_CONNECTIONS)
        return NULL;
    link_ *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return NULL;
    l->driver = d;
    l->last = &l->first;
    d->links[d->link_count++] = l;
    return l;
}

static void op_open(driver *d, const dp_value *line)
{
    const dp_value *id = dp_value_get(line, "id");
    const dp_value *metadata = dp_value_get(line, "metadata");
    const char *peer = text_of(line, "peer");
    char *metadata_text = NULL;
    size_t len;
    if (peer == NULL)
        peer = getenv("PEER_STORAGE_ID");
    if (peer == NULL) {
        answer_error(id, "open needs peer");
        return;
    }
    link_ *l = new_link(d);
    if (l == NULL) {
        answer_error(id, "too many connections");
        return;
    }
    if (metadata != NULL && dp_value_to_json(metadata, &metadata_text, &len) != DP_OK)
        metadata_text = NULL;
    dp_connect_options options = {.size = sizeof(options),
                                  .label = text_of(line, "label"),
                                  .metadata = metadata_text,
                                  .serialization = text_of(line, "serialization"),
                                  .reliable = dp_value_get_bool(dp_value_get(line, "reliable"), false)};
    dp_connection_handler handler = {on_open, on_data, on_drain, on_close, on_error, NULL, l};
    int error = dp_peer_connect(d->app.peer, &l->conn, peer, &options);
    dp_free(metadata_text);
    if (error != DP_OK) {
        d->links[--d->link_count] = NULL;
        free(l);
        answer_result(id, error);
        return;
    }
    dp_connection_set_handler(l->conn, &handler);
    if (strcmp(dp_connection_serialization(l->conn), "raw") != 0)
        dp_connection_use_rpc(l->conn, NULL);
    if (add_pending(l, line, PENDING_OPEN, OPEN_TIMEOUT) == NULL)
        dp_connection_close(l->conn);
}

static void on_request_done(void *user, int error, const dp_value *context)
{
    pending *p = user;
    if (context == NULL) {
        answer_error(p->id, dp_strerror(error));
        drop_pending(p);
        return;
    }
    dp_value *members = dp_value_map();
    dp_value_set(members, "request_id", dp_value_string(p->request_id));
    if (p->hash == NULL) {
        dp_value_set(members, "response", pack_hex(dp_value_get(context, "response")));
    } else {
        char hex[65] = "";
        dp_sha256_finish(p->hash, hex);
        p->hash = NULL;
        dp_value_set(members, "length", dp_value_uint(p->length));
        dp_value_set(members, "sha256", dp_value_string(hex));
        dp_value_set(members, "code", dp_value_int(dp_context_code(context, 0)));
    }
    answer(p->id, members);
    drop_pending(p);
}

static int on_stream_data(void *user, const uint8_t *data, size_t len, uint64_t total)
{
    pending *p = user;
    (void)total;
    p->length += len;
    return dp_sha256_update(p->hash, data, len);
}

static void send_request(link_ *l, const dp_value *line, dp_value *body, bool stream)
{
    const dp_value *id = dp_value_get(line, "id");
    const char *action = text_of(line, "action");
    int64_t timeout = dp_value_get_int(dp_value_get(line, "timeout"), 120000);
    pending *p = action == NULL || body == NULL ? NULL : add_pending(l, line, PENDING_REQUEST, DP_TIME_NEVER);
    if (p == NULL || (stream && dp_sha256_new(&p->hash) != DP_OK)) {
        dp_value_free(body);
        answer_error(id, action == NULL ? "action is missing" : "body is no BinaryPack in hex");
        if (p != NULL)
            drop_pending(p);
        return;
    }
    dp_request request = {.size = sizeof(request),
                          .action = action,
                          .body = body,
                          .timeout = DP_MS(timeout > 0 ? timeout : 1),
                          .on_data = stream ? on_stream_data : NULL,
                          .on_done = on_request_done,
                          .user = p};
    int error = dp_connection_request(l->conn, &request, p->request_id);
    if (error != DP_OK) {
        answer_result(id, error);
        drop_pending(p);
    }
}

static dp_value *request_body(const dp_value *line)
{
    const dp_value *body = dp_value_get(line, "body");
    return body == NULL ? dp_value_null() : packed_value(body);
}

static dp_value *upload_body(const dp_value *line)
{
    uint64_t len = dp_value_get_uint(dp_value_get(line, "len"), 0);
    uint64_t seed = dp_value_get_uint(dp_value_get(line, "seed"), 0);
    uint8_t *data = len <= 256u << 20 ? malloc(len + 1) : NULL;
    if (data == NULL)
        return NULL;
    for (uint64_t i = 0; i < len; i++)
        data[i] = pattern_byte(i, seed);
    dp_value *body = dp_value_map();
    if (body != NULL && dp_value_set(body, "data", dp_value_bytes(data, len)) != DP_OK) {
        dp_value_free(body);
        body = NULL;
    }
    free(data);
    return body;
}

static int send_line(link_ *l, const dp_value *line)
{
    size_t len;
    const char *text = dp_value_get_string(dp_value_get(line, "text"), &len);
    if (text != NULL)
        return dp_connection_send_text(l->conn, text, len);
    if (dp_value_get(line, "json") != NULL)
        return dp_connection_send(l->conn, dp_value_get(line, "json"));
    if (dp_value_get(line, "bytes") != NULL) {
        uint8_t *data = hex_bytes(dp_value_get(line, "bytes"), &len);
        int error = data == NULL ? DP_ERR_MALFORMED : dp_connection_send_bytes(l->conn, data, len);
        free(data);
        return error;
    }
    dp_value *value = packed_value(dp_value_get(line, "value"));
    int error = value == NULL ? DP_ERR_MALFORMED : dp_connection_send(l->conn, value);
    dp_value_free(value);
    return error;
}

/* again: the same line's earlier try, which found no room. False: it waits. */
static bool op_send(link_ *l, const dp_value *line, pending *again)
{
    const dp_value *id = dp_value_get(line, "id");
    int error =
        again == NULL && find_pending(l, PENDING_SEND) != NULL ? DP_ERR_WOULD_BLOCK : send_line(l, line);
    if (error == DP_ERR_WOULD_BLOCK) {
        pending *p = again != NULL ? again : add_pending(l, line, PENDING_SEND, DP_TIME_NEVER);
        if (p != NULL && again == NULL)
            p->line = dp_value_copy(line);
        if (p == NULL)
            answer_error(id, "out of memory");
        return false;
    }
    answer_result(id, error);
    if (again != NULL)
        drop_pending(again);
    return true;
}

static dp_duration timeout_of(const dp_value *line)
{
    int64_t ms = dp_value_get_int(dp_value_get(line, "timeout"), 30000);
    return DP_MS(ms > 0 ? ms : 0);
}

static void op_recv(link_ *l, const dp_value *line)
{
    const dp_value *id = dp_value_get(line, "id");
    if (l->conn == NULL && l->first == NULL) {
        answer_error(id, "connection closed");
        return;
    }
    pending *p = add_pending(l, line, PENDING_RECV, timeout_of(line));
    if (p == NULL)
        answer_error(id, "out of memory");
    else if (l->first != NULL)
        answer_recv(p);
}

static void op_close(link_ *l, const dp_value *line)
{
    int error = DP_OK;
    if (dp_value_get_bool(dp_value_get(line, "flush"), false)) {
        error = dp_connection_close_flush(l->conn);
        /* Answered once the other side has closed. */
        if (error == DP_OK && add_pending(l, line, PENDING_WAITCLOSE, DP_TIME_NEVER) != NULL)
            return;
    } else {
        dp_connection_close(l->conn);
    }
    answer_result(dp_value_get(line, "id"), error);
}

static void op_state(link_ *l, const dp_value *line)
{
    dp_value *members = dp_value_map();
    bool open = l->conn != NULL && dp_connection_is_open(l->conn);
    dp_value_set(members, "open", dp_value_bool(open));
    dp_value_set(members, "state",
                 dp_value_string(l->conn != NULL ? dp_connection_state_name(l->conn) : "closed"));
    dp_value_set(members, "buffered", dp_value_uint(l->conn != NULL ? dp_connection_buffered(l->conn) : 0));
    answer(dp_value_get(line, "id"), members);
}

static void on_peers(void *user, int error, const char *const *ids, size_t count)
{
    dp_value *id = user;
    dp_value *members = dp_value_map();
    dp_value *peers = dp_value_array();
    for (size_t i = 0; i < count; i++)
        dp_value_push(peers, dp_value_string(ids[i]));
    dp_value_set(members, "peers", peers);
    if (error == DP_OK) {
        answer(id, members);
    } else {
        dp_value_free(members);
        answer_error(id, dp_strerror(error));
    }
    dp_value_free(id);
}

static void op_peers(driver *d, const dp_value *line)
{
    dp_value *id = dp_value_copy(dp_value_get(line, "id"));
    int error = dp_peer_list_all_peers(d->app.peer, on_peers, id);
    if (error == DP_OK)
        return;
    answer_error(id, dp_strerror(error));
    dp_value_free(id);
}

static void on_link_op(link_ *l, const char *op, const dp_value *line)
{
    const dp_value *id = dp_value_get(line, "id");
    if (strcmp(op, "recv") == 0) {
        op_recv(l, line);
    } else if (strcmp(op, "state") == 0) {
        op_state(l, line);
    } else if (strcmp(op, "waitclose") == 0) {
        if (l->conn == NULL)
            answer(id, dp_value_map());
        else if (add_pending(l, line, PENDING_WAITCLOSE, timeout_of(line)) == NULL)
            answer_error(id, "out of memory");
    } else if (l->conn == NULL) {
        if (strcmp(op, "close") == 0)
            answer(id, dp_value_map());
        else
            answer_error(id, "connection closed");
    } else if (strcmp(op, "request") == 0) {
        send_request(l, line, request_body(line), false);
    } else if (strcmp(op, "upload") == 0) {
        send_request(l, line, upload_body(line), false);
    } else if (strcmp(op, "stream") == 0) {
        send_request(l, line, request_body(line), true);
    } else if (strcmp(op, "send") == 0) {
        op_send(l, line, NULL);
    } else if (strcmp(op, "close") == 0) {
        op_close(l, line);
    } else {
        answer_error(id, "unknown op");
    }
}

static void on_line(void *user, const char *text, size_t len)
{
    driver *d = user;
    dp_value *line = NULL;
    int error = dp_value_from_json(&line, text, len);
    if (error != DP_OK || dp_value_get_type(line) != DP_VALUE_MAP) {
        app_error("ignored a line that is no JSON object");
        dp_value_free(line);
        return;
    }
    const char *op = text_of(line, "op");
    int64_t number = dp_value_get_int(dp_value_get(line, "conn"), -1);
    if (op == NULL) {
        answer_error(dp_value_get(line, "id"), "op is missing");
    } else if (strcmp(op, "quit") == 0) {
        answer(dp_value_get(line, "id"), dp_value_map());
        app_stop(&d->app, EXIT_OK);
    } else if (strcmp(op, "open") == 0) {
        op_open(d, line);
    } else if (strcmp(op, "peers") == 0) {
        op_peers(d, line);
    } else if (number < 0 || (uint64_t)number >= d->link_count) {
        answer_error(dp_value_get(line, "id"), "no such conn");
    } else {
        on_link_op(d->links[number], op, line);
    }
    dp_value_free(line);
}

static void on_input_end(void *user, bool too_long)
{
    driver *d = user;
    app_stop(&d->app, too_long ? EXIT_USAGE : EXIT_OK);
}

static void on_peer_open(void *user, dp_peer *peer, const char *id)
{
    driver *d = user;
    (void)peer;
    if (d->ready)
        return;
    d->ready = true;
    dp_value *line = dp_value_map();
    char *text = NULL;
    size_t len;
    dp_value_set(line, "ready", dp_value_bool(true));
    dp_value_set(line, "peer", dp_value_string(id));
    if (line != NULL && dp_value_to_json(line, &text, &len) == DP_OK)
        puts(text);
    fflush(stdout);
    dp_free(text);
    dp_value_free(line);
    lines_config config = {.loop = d->app.loop, .on_line = on_line, .on_end = on_input_end, .user = d};
    if (!lines_open(&d->input, &config))
        app_stop(&d->app, EXIT_USAGE);
}

static void on_peer_error(void *user, dp_peer *peer, const char *type, const char *message)
{
    driver *d = user;
    (void)peer;
    app_error("%s: %s", type, message);
    if (!d->ready)
        app_stop(&d->app, EXIT_NETWORK);
}

static void free_links(driver *d)
{
    for (size_t i = 0; i < d->link_count; i++) {
        link_ *l = d->links[i];
        for (pending *p = l->pending, *next; p != NULL; p = next) {
            next = p->next;
            drop_pending(p);
        }
        for (received *r = l->first, *next; r != NULL; r = next) {
            next = r->next;
            dp_value_free(r->answer);
            free(r);
        }
        free(l);
    }
}

int cmd_peer(int argc, char **argv)
{
    driver d = {0};
    char **operands;
    int count;
    int code = app_options(&d.app, argc, argv, help, &operands, &count);
    if (code != EXIT_OK)
        return code < 0 ? EXIT_OK : code;
    if (count != 0) {
        fputs(help, stderr);
        return EXIT_USAGE;
    }
    dp_peer_handler handler = {.on_open = on_peer_open, .on_error = on_peer_error, .user = &d};
    code = app_start(&d.app);
    if (code == EXIT_OK)
        code = app_peer(&d.app, &handler);
    if (code == EXIT_OK)
        dp_loop_run(d.app.loop);
    else
        d.app.exit_code = code;
    lines_close(d.input);
    for (size_t i = 0; i < d.link_count; i++)
        if (d.links[i]->conn != NULL)
            dp_connection_close(d.links[i]->conn);
    code = app_finish(&d.app);
    free_links(&d);
    return code;
}
