/* datapeer peer: PeerJS connections driven by JSON lines (docs/interop.md), so that any other stack can be
 * tested against ours. */
#include "app.h"
#include "driver_link.h"
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

enum { MAX_CONNECTIONS = 256 };
#define OPEN_TIMEOUT DP_SECONDS(60)

typedef struct driver {
    app app;
    lines *input;
    link_ *links[MAX_CONNECTIONS];
    size_t link_count;
    bool ready;
} driver;

static const char *text_of(const dp_value *line, const char *name)
{
    return dp_value_get_string(dp_value_get(line, name), NULL);
}

/* ---- operations ---- */

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
        link_answer_error(id, "open needs peer");
        return;
    }
    link_ *l = d->link_count < MAX_CONNECTIONS ? link_new(&d->app, d->link_count) : NULL;
    if (l == NULL) {
        link_answer_error(id, "too many connections");
        return;
    }
    d->links[d->link_count++] = l;
    if (metadata != NULL && dp_value_to_json(metadata, &metadata_text, &len) != DP_OK)
        metadata_text = NULL;
    dp_connect_options options = {.size = sizeof(options),
                                  .label = text_of(line, "label"),
                                  .metadata = metadata_text,
                                  .serialization = text_of(line, "serialization"),
                                  .reliable = dp_value_get_bool(dp_value_get(line, "reliable"), false)};
    dp_connection_handler handler = link_handler(l);
    int error = dp_peer_connect(d->app.peer, &l->conn, peer, &options);
    dp_free(metadata_text);
    if (error != DP_OK) {
        d->links[--d->link_count] = NULL;
        link_free(l);
        link_answer_result(id, error);
        return;
    }
    dp_connection_set_handler(l->conn, &handler);
    if (strcmp(dp_connection_serialization(l->conn), "raw") != 0)
        dp_connection_use_rpc(l->conn, NULL);
    if (link_add_pending(l, line, PENDING_OPEN, OPEN_TIMEOUT) == NULL)
        dp_connection_close(l->conn);
}

static void on_request_done(void *user, int error, const dp_value *context)
{
    pending *p = user;
    if (context == NULL) {
        link_answer_error(p->id, dp_strerror(error));
        link_drop_pending(p);
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
    link_answer(p->id, members);
    link_drop_pending(p);
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
    pending *p =
        action == NULL || body == NULL ? NULL : link_add_pending(l, line, PENDING_REQUEST, DP_TIME_NEVER);
    if (p == NULL || (stream && dp_sha256_new(&p->hash) != DP_OK)) {
        dp_value_free(body);
        link_answer_error(id, action == NULL ? "action is missing" : "body is no BinaryPack in hex");
        if (p != NULL)
            link_drop_pending(p);
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
        link_answer_result(id, error);
        link_drop_pending(p);
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

static dp_duration timeout_of(const dp_value *line)
{
    int64_t ms = dp_value_get_int(dp_value_get(line, "timeout"), 30000);
    return DP_MS(ms > 0 ? ms : 0);
}

static void op_recv(link_ *l, const dp_value *line)
{
    const dp_value *id = dp_value_get(line, "id");
    if (l->conn == NULL && l->first == NULL) {
        link_answer_error(id, "connection closed");
        return;
    }
    pending *p = link_add_pending(l, line, PENDING_RECV, timeout_of(line));
    if (p == NULL)
        link_answer_error(id, "out of memory");
    else if (l->first != NULL)
        link_answer_recv(p);
}

static void op_close(link_ *l, const dp_value *line)
{
    int error = DP_OK;
    if (dp_value_get_bool(dp_value_get(line, "flush"), false)) {
        error = dp_connection_close_flush(l->conn);
        /* Answered once the other side has closed. */
        if (error == DP_OK && link_add_pending(l, line, PENDING_WAITCLOSE, DP_TIME_NEVER) != NULL)
            return;
    } else {
        dp_connection_close(l->conn);
    }
    link_answer_result(dp_value_get(line, "id"), error);
}

static void op_state(link_ *l, const dp_value *line)
{
    dp_value *members = dp_value_map();
    bool open = l->conn != NULL && dp_connection_is_open(l->conn);
    dp_value_set(members, "open", dp_value_bool(open));
    dp_value_set(members, "state",
                 dp_value_string(l->conn != NULL ? dp_connection_state_name(l->conn) : "closed"));
    dp_value_set(members, "buffered", dp_value_uint(l->conn != NULL ? dp_connection_buffered(l->conn) : 0));
    link_answer(dp_value_get(line, "id"), members);
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
        link_answer(id, members);
    } else {
        dp_value_free(members);
        link_answer_error(id, dp_strerror(error));
    }
    dp_value_free(id);
}

static void op_peers(driver *d, const dp_value *line)
{
    dp_value *id = dp_value_copy(dp_value_get(line, "id"));
    int error = dp_peer_list_all_peers(d->app.peer, on_peers, id);
    if (error == DP_OK)
        return;
    link_answer_error(id, dp_strerror(error));
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
            link_answer(id, dp_value_map());
        else if (link_add_pending(l, line, PENDING_WAITCLOSE, timeout_of(line)) == NULL)
            link_answer_error(id, "out of memory");
    } else if (l->conn == NULL) {
        if (strcmp(op, "close") == 0)
            link_answer(id, dp_value_map());
        else
            link_answer_error(id, "connection closed");
    } else if (strcmp(op, "request") == 0) {
        send_request(l, line, request_body(line), false);
    } else if (strcmp(op, "upload") == 0) {
        send_request(l, line, upload_body(line), false);
    } else if (strcmp(op, "stream") == 0) {
        send_request(l, line, request_body(line), true);
    } else if (strcmp(op, "send") == 0) {
        link_send(l, line);
    } else if (strcmp(op, "close") == 0) {
        op_close(l, line);
    } else {
        link_answer_error(id, "unknown op");
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
        link_answer_error(dp_value_get(line, "id"), "op is missing");
    } else if (strcmp(op, "quit") == 0) {
        link_answer(dp_value_get(line, "id"), dp_value_map());
        app_stop(&d->app, EXIT_OK);
    } else if (strcmp(op, "open") == 0) {
        op_open(d, line);
    } else if (strcmp(op, "peers") == 0) {
        op_peers(d, line);
    } else if (number < 0 || (uint64_t)number >= d->link_count) {
        link_answer_error(dp_value_get(line, "id"), "no such conn");
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
    for (size_t i = 0; i < d.link_count; i++)
        link_free(d.links[i]);
    return code;
}
