/* The requests: npm's routes and answers, the page's files, metrics, and the WebSocket handshake (RFC 6455 §4.2). */
#include "handshake.h"
#include "server.h"
#include "url.h"

#include "base/crypto.h"
#include "base/mem.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { METRICS_MAX = 8192, OWNERS_METRICS = 8, UUID_LEN = 36, ORIGIN_MAX = 300 };

#define TEXT_PLAIN "text/plain; charset=utf-8"
#define TEXT_HTML  "text/html; charset=utf-8"
#define JSON       "application/json; charset=utf-8"

typedef struct response {
    unsigned status;
    const char *type; /* NULL: no body */
    const void *body;
    size_t len;
    const char *fields; /* more of them, each with its line end, or NULL */
    const dp_signal_file *file;
} response;

static const char *reason_of(unsigned status)
{
    static const struct {
        unsigned status;
        const char *reason;
    } reasons[] = {{200, "OK"},
                   {204, "No Content"},
                   {304, "Not Modified"},
                   {400, "Bad Request"},
                   {401, "Unauthorized"},
                   {403, "Forbidden"},
                   {404, "Not Found"},
                   {405, "Method Not Allowed"},
                   {408, "Request Timeout"},
                   {429, "Too Many Requests"},
                   {431, "Request Header Fields Too Large"},
                   {500, "Internal Server Error"},
                   {503, "Service Unavailable"},
                   {505, "HTTP Version Not Supported"}};
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "";
}

/* ---- answers ----------------------------------------------------------------------------------------- */

static void put_field(dp_wr *wr, const char *name, const char *value)
{
    dp_wr_text(wr, name);
    dp_wr_text(wr, ": ");
    dp_wr_text(wr, value);
    dp_wr_text(wr, "\r\n");
}

static void put_field_slice(dp_wr *wr, const char *name, dp_slice value)
{
    dp_wr_text(wr, name);
    dp_wr_text(wr, ": ");
    dp_wr_bytes(wr, value.at, value.len);
    dp_wr_text(wr, "\r\n");
}

/* Whether the path is the mount path or below it; rest is what follows. As Express does, without regard to case. */
static bool below_mount(const dp_signal_server *s, dp_slice path, dp_slice *rest)
{
    size_t len = strlen(s->path);
    if (path.len < len || !dp_slice_is_nocase((dp_slice){path.at, len}, s->path))
        return false;
    *rest = (dp_slice){path.at + len, path.len - len};
    return rest->len == 0 || rest->at[0] == '/';
}

/* What npm's cors() answers: every origin may read, but without credentials. */
static void put_cors(dp_wr *wr, const dp_request *request, bool preflight)
{
    dp_slice value;
    if (dp_request_field(request, "Origin", &value) > 0 && value.len > 0)
        put_field_slice(wr, "Access-Control-Allow-Origin", value);
    put_field(wr, "Vary", preflight ? "Origin, Access-Control-Request-Headers" : "Origin");
    if (!preflight)
        return;
    put_field(wr, "Access-Control-Allow-Methods", "GET,HEAD,PUT,PATCH,POST,DELETE");
    if (dp_request_field(request, "Access-Control-Request-Headers", &value) > 0 && value.len > 0)
        put_field_slice(wr, "Access-Control-Allow-Headers", value);
}

static void put_file_fields(dp_wr *wr, const dp_signal_file *file)
{
    if (file->etag != NULL)
        put_field(wr, "ETag", file->etag);
    if (file->csp != NULL)
        put_field(wr, "Content-Security-Policy", file->csp);
    put_field(wr, "Cache-Control", "no-cache"); /* ask each time whether it has changed */
    put_field(wr, "X-Content-Type-Options", "nosniff");
    put_field(wr, "Referrer-Policy", "no-referrer");
}

/* request NULL: it could not be read. */
static void put_head(dp_wr *wr, const dp_signal_server *s, const dp_request *request, const response *r,
                     bool keep_alive)
{
    char line[96];
    dp_slice rest;
    snprintf(line, sizeof(line), "HTTP/1.1 %u %s\r\n", r->status, reason_of(r->status));
    dp_wr_text(wr, line);
    if (r->file != NULL)
        put_file_fields(wr, r->file);
    else if (request != NULL && below_mount(s, request->path, &rest))
        put_cors(wr, request, dp_slice_is(request->method, "OPTIONS"));
    if (r->type != NULL)
        put_field(wr, "Content-Type", r->type);
    if (r->status != 304 && r->status != 204) { /* RFC 9110 §8.6 */
        snprintf(line, sizeof(line), "Content-Length: %zu\r\n", r->len);
        dp_wr_text(wr, line);
    }
    if (r->fields != NULL)
        dp_wr_text(wr, r->fields);
    put_field(wr, "Connection", keep_alive ? "keep-alive" : "close");
    dp_wr_text(wr, "\r\n");
}

/* A connection that goes on waits for its next request; else it ends, and if the request has a body, that is read and
 * dropped, or the other end would never see the answer. */
static void finish(dp_signal_server *s, dp_signal_conn *conn, bool keep_alive, bool linger)
{
    if (conn->state != CONN_HTTP)
        return;
    if (keep_alive && !s->shutting_down)
        dp_conn_enter(s, conn, CONN_HTTP);
    else
        dp_conn_close(s, conn, linger);
}

static void respond(dp_signal_server *s, dp_signal_conn *conn, const dp_request *request, const response *r)
{
    bool keep_alive = request != NULL && request->keep_alive;
    if (r->status < 400 || r->status == 401)
        conn->served = true;
    else
        dp_server_forgive(s, conn);
    bool body = request == NULL || !dp_slice_is(request->method, "HEAD");
    size_t room = 1024 + (request != NULL ? request->len : 0) + (r->file != NULL ? 1024 : 0);
    uint8_t *at = dp_conn_reserve(s, conn, room);
    if (at == NULL)
        return;
    dp_wr wr = dp_wr_init(at, room);
    put_head(&wr, s, request, r, keep_alive);
    if (wr.error) { /* a file with a policy that is too long */
        dp_conn_cut(s, conn, "the head of the answer is too long");
        return;
    }
    dp_conn_trim(s, conn, room - wr.len);
    if (body && r->len > 0)
        dp_conn_put(s, conn, r->body, r->len);
    finish(s, conn, keep_alive, request != NULL && request->has_body);
}

static void respond_text(dp_signal_server *s, dp_signal_conn *conn, const dp_request *request,
                         unsigned status, const char *type, const char *text)
{
    const response r = {.status = status, .type = type, .body = text, .len = strlen(text)};
    respond(s, conn, request, &r);
}

static void respond_status(dp_signal_server *s, dp_signal_conn *conn, const dp_request *request,
                           unsigned status)
{
    respond_text(s, conn, request, status, TEXT_PLAIN, reason_of(status));
}

void dp_http_refuse(dp_signal_server *s, dp_signal_conn *conn, int error)
{
    unsigned status = error == DP_ERR_TOO_LARGE     ? 431
                      : error == DP_ERR_UNSUPPORTED ? 505
                      : error == DP_ERR_TIMEOUT     ? 408
                      : error == DP_ERR_NO_MEMORY   ? 503
                                                    : 400;
    dp_server_tell(s, DP_SIGNAL_EVENT_REFUSED, NULL, reason_of(status), conn);
    respond_status(s, conn, NULL, status);
}

static void not_found(dp_signal_server *s, dp_signal_conn *conn, const dp_request *request)
{
    static const char page[] =
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<title>Error</title>\n</head>\n<body>\n<pre>Not Found</pre>\n</body>\n</html>\n";
    const response r = {.status = 404,
                        .type = TEXT_HTML,
                        .body = page,
                        .len = sizeof(page) - 1,
                        .fields = "Content-Security-Policy: default-src 'none'\r\n"
                                  "X-Content-Type-Options: nosniff\r\n"};
    respond(s, conn, request, &r);
}

/* ---- ids --------------------------------------------------------------------------------------------- */

/* RFC 9562 §5.4: a random UUID. */
static int make_uuid(const dp_random *random, char uuid[UUID_LEN + 1])
{
    uint8_t b[16];
    int error = dp_random_bytes(random, b, sizeof(b));
    if (error != DP_OK)
        return error;
    b[6] = (uint8_t)((b[6] & 0x0F) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3F) | 0x80);
    snprintf(uuid, UUID_LEN + 1, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
             b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
    return DP_OK;
}

static void serve_id(dp_signal_server *s, dp_signal_conn *conn, const dp_request *request)
{
    char uuid[UUID_LEN + 1];
    do {
        if (make_uuid(&s->config.random, uuid) != DP_OK) {
            respond_status(s, conn, request, 500);
            return;
        }
    } while (dp_table_get(&s->clients, uuid, UUID_LEN) != NULL);
    respond_text(s, conn, request, 200, TEXT_HTML, uuid);
}

/* RFC 6750 §2.1 */
static bool bears_token(const dp_signal_server *s, const dp_request *request)
{
    static const char scheme[] = "Bearer ";
    dp_slice value;
    size_t len = s->access_token != NULL ? strlen(s->access_token) : 0;
    if (len == 0)
        return true;
    return dp_request_field(request, "Authorization", &value) == 1 && value.len == sizeof(scheme) - 1 + len &&
           dp_slice_is_nocase((dp_slice){value.at, sizeof(scheme) - 1}, scheme) &&
           dp_equal_constant_time(value.at + sizeof(scheme) - 1, s->access_token, len);
}

static void respond_peers(dp_signal_server *s, dp_signal_conn *conn, const dp_request *request,
                          const char *const *ids, size_t count)
{
    size_t room = 2;
    for (size_t i = 0; i < count; i++)
        room += 2 * strlen(ids[i]) + 3;
    uint8_t *json = dp_alloc(room);
    if (json == NULL) {
        respond_status(s, conn, request, 503);
        return;
    }
    dp_wr wr = dp_wr_init(json, room);
    dp_wr_u8(&wr, '[');
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            dp_wr_u8(&wr, ',');
        dp_json_write_string(&wr, ids[i]);
    }
    dp_wr_u8(&wr, ']');
    const response r = {.status = 200, .type = JSON, .body = json, .len = wr.len};
    respond(s, conn, request, &r);
    dp_free(json);
}

static void respond_own_peers(dp_signal_server *s, dp_signal_conn *conn, const dp_request *request)
{
    size_t at = 0;
    size_t count = 0;
    const dp_signal_conn *client;
    const char **ids = dp_calloc(s->clients.count + 1, sizeof(*ids));
    if (ids == NULL) {
        respond_status(s, conn, request, 503);
        return;
    }
    while ((client = dp_table_next(&s->clients, &at)) != NULL)
        ids[count++] = client->id;
    respond_peers(s, conn, request, ids, count);
    dp_free(ids);
}

static void serve_peers(dp_signal_server *s, dp_signal_conn *conn, const dp_request *request)
{
    if (!s->config.allow_discovery || !bears_token(s, request))
        respond_status(s, conn, request, 401);
    else if (!dp_cluster_list(s, conn))
        respond_own_peers(s, conn, request);
}

/* The request that waited for the cluster's answer; the connection goes on. */
static dp_request *take_request(dp_signal_server *s, dp_signal_conn *conn)
{
    dp_request *request = conn->request;
    conn->request = NULL;
    dp_conn_enter(s, conn, CONN_HTTP);
    return request;
}

static void request_free(dp_request *request)
{
    dp_request_clear(request);
    dp_free(request);
}

void dp_http_answer_peers(dp_signal_server *s, dp_signal_conn *conn, const char *const *ids, size_t count)
{
    dp_request *request = take_request(s, conn);
    respond_peers(s, conn, request, ids, count);
    request_free(request);
}

void dp_http_answer_own_peers(dp_signal_server *s, dp_signal_conn *conn)
{
    dp_request *request = take_request(s, conn);
    respond_own_peers(s, conn, request);
    request_free(request);
}

/* ---- metrics ----------------------------------------------------------------------------------------- */

/* https://prometheus.io/docs/instrumenting/exposition_formats/ */
static void put_metric(dp_wr *wr, const char *prefix, const dp_signal_metric *metric)
{
    char lines[256];
    snprintf(lines, sizeof(lines), "# HELP %s%s %s\n# TYPE %s%s %s\n%s%s %" PRIu64 "\n", prefix, metric->name,
             metric->help, prefix, metric->name, metric->type, prefix, metric->name, metric->value);
    dp_wr_text(wr, lines);
}

static void put_owners_metrics(const dp_signal_server *s, dp_wr *wr)
{
    dp_signal_metric metrics[OWNERS_METRICS];
    size_t count = 0;
    if (s->config.more_metrics != NULL)
        count = s->config.more_metrics(s->config.metrics_ctx, metrics, OWNERS_METRICS);
    for (size_t i = 0; i < count; i++)
        put_metric(wr, "datapeer_", &metrics[i]);
}

static void serve_metrics(dp_signal_server *s, dp_signal_conn *conn, const dp_request *request)
{
    if (!bears_token(s, request)) {
        respond_status(s, conn, request, 401);
        return;
    }
    dp_signal_stats n = {.size = sizeof(n)};
    dp_signal_server_get_stats(s, &n);
    const dp_signal_metric metrics[] = {
        {"connections", "gauge", "Streams that are open.", n.connections},
        {"clients", "gauge", "Peers that have joined.", n.clients},
        {"absent_peers", "gauge", "Absent peers for which messages wait.", n.absent},
        {"buffered_bytes", "gauge", "Bytes held for all streams.", n.buffered},
        {"connections_total", "counter", "Streams accepted.", n.accepted},
        {"requests_total", "counter", "HTTP requests, upgrades included.", n.requests},
        {"joined_total", "counter", "Joins of peers.", n.joined},
        {"relayed_messages_total", "counter", "Messages passed on.", n.relayed},
        {"queued_messages_total", "counter", "Messages kept for absent peers.", n.queued},
        {"expired_messages_total", "counter", "Messages whose peer did not come.", n.expired},
        {"dropped_messages_total", "counter", "Messages not understood, or without room.", n.dropped},
        {"heartbeats_total", "counter", "Heartbeats of peers.", n.heartbeats},
        {"received_bytes_total", "counter", "Bytes that came.", n.bytes_in},
        {"sent_bytes_total", "counter", "Bytes that left.", n.bytes_out},
        {"refused_total", "counter", "Connections, requests and joins refused.", n.refused},
        {"cut_total", "counter", "Connections that were slow, silent or noisy.", n.cut},
        {"cluster_up", "gauge", "Whether other nodes can be reached.", n.cluster_up},
        {"cluster_forwarded_total", "counter", "Messages given to other nodes, or left for absent peers.",
         n.forwarded},
        {"cluster_letters_total", "counter", "Messages that came from other nodes.", n.letters},
        {"cluster_garbage_total", "counter", "What came from other nodes and made no sense.", n.garbage},
    };
    char text[METRICS_MAX];
    dp_wr wr = dp_wr_init((uint8_t *)text, sizeof(text));
    for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++)
        put_metric(&wr, "datapeer_signal_", &metrics[i]);
    put_owners_metrics(s, &wr);
    const response r = {
        .status = 200, .type = "text/plain; version=0.0.4; charset=utf-8", .body = text, .len = wr.len};
    respond(s, conn, request, &r);
}

/* ---- files ------------------------------------------------------------------------------------------- */

/* RFC 9110 §13.1.2: one of the tags, "W/" before it does not count; or "*". */
static bool etag_matches(dp_slice tags, const char *etag)
{
    if (dp_slice_is(tags, "*"))
        return true;
    while (tags.len > 0) {
        dp_slice tag = dp_slice_cut(&tags, ',');
        while (tag.len > 0 && (tag.at[0] == ' ' || tag.at[0] == '\t'))
            tag = (dp_slice){tag.at + 1, tag.len - 1};
        while (tag.len > 0 && (tag.at[tag.len - 1] == ' ' || tag.at[tag.len - 1] == '\t'))
            tag.len--;
        if (tag.len > 2 && tag.at[0] == 'W' && tag.at[1] == '/')
            tag = (dp_slice){tag.at + 2, tag.len - 2};
        if (dp_slice_is(tag, etag))
            return true;
    }
    return false;
}

static bool serve_file(dp_signal_server *s, dp_signal_conn *conn, const dp_request *request)
{
    char path[1024];
    dp_signal_file file = {0};
    dp_slice tags;
    if (s->config.find_file == NULL || !dp_path_decode(request->path, path, sizeof(path)) ||
        !s->config.find_file(s->config.file_ctx, path, &file))
        return false;
    response r = {.status = 200, .type = file.type, .body = file.body, .len = file.len, .file = &file};
    if (file.etag != NULL && dp_request_field(request, "If-None-Match", &tags) == 1 &&
        etag_matches(tags, file.etag))
        r = (response){.status = 304, .file = &file};
    respond(s, conn, request, &r);
    return true;
}

/* ---- the WebSocket handshake --------------------------------------------------------------------------- */

/* Base64 of 16 bytes. */
static bool key_valid(dp_slice key)
{
    if (key.len != WS_KEY_LEN || memcmp(key.at + WS_KEY_LEN - 2, "==", 2) != 0)
        return false;
    for (size_t i = 0; i < WS_KEY_LEN - 2; i++) {
        char c = key.at[i];
        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '+' ||
              c == '/'))
            return false;
    }
    return true;
}

static bool is_upgrade(const dp_request *request)
{
    dp_slice value;
    return dp_request_field_has(request, "Connection", "upgrade") &&
           dp_request_field(request, "Upgrade", &value) == 1 && dp_slice_is_nocase(value, "websocket");
}

static void refuse_upgrade(dp_signal_server *s, dp_signal_conn *conn, dp_request *request, unsigned status,
                           const char *text, const char *fields)
{
    request->keep_alive = false;
    const response r = {
        .status = status, .type = TEXT_HTML, .body = text, .len = strlen(text), .fields = fields};
    s->stats.refused++;
    respond(s, conn, request, &r);
}

static void put_upgrade(dp_signal_server *s, dp_signal_conn *conn, const char *accept)
{
    char head[192];
    int len = snprintf(head, sizeof(head),
                       "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       "Sec-WebSocket-Accept: %s\r\n\r\n",
                       accept);
    dp_conn_put(s, conn, head, (size_t)len);
}

/* NULL: missing, empty, or too long or harmful to be one. */
static const char *parameter(const dp_request *request, const char *name, char out[TOKEN_MAX + 1])
{
    bool good = dp_query_get(request->query, name, out, TOKEN_MAX + 1) &&
                dp_peer_id_harmless((dp_slice){out, strlen(out)});
    return good ? out : NULL;
}

static void upgrade(dp_signal_server *s, dp_signal_conn *conn, dp_request *request)
{
    char accept[WS_ACCEPT_LEN + 1];
    char key[WS_KEY_LEN + 1];
    char id[TOKEN_MAX + 1];
    char token[TOKEN_MAX + 1];
    char realm_key[TOKEN_MAX + 1];
    dp_slice value = {0};
    dp_slice rest = {0};
    size_t keys = dp_request_field(request, "Sec-WebSocket-Key", &value);
    if (!dp_slice_is(request->method, "GET")) {
        refuse_upgrade(s, conn, request, 405, "Invalid HTTP method", "Allow: GET\r\n");
        return;
    }
    if (keys != 1 || !key_valid(value)) {
        refuse_upgrade(s, conn, request, 400, "Missing or invalid Sec-WebSocket-Key header", NULL);
        return;
    }
    (void)dp_slice_copy(key, sizeof(key), value);
    if (dp_request_field(request, "Sec-WebSocket-Version", &value) != 1 || !dp_slice_is(value, "13")) {
        refuse_upgrade(s, conn, request, 400, "Missing or invalid Sec-WebSocket-Version header",
                       "Sec-WebSocket-Version: 13\r\n");
        return;
    }
    if (request->has_body || !below_mount(s, request->path, &rest) || !dp_slice_is(rest, "/peerjs") ||
        memcmp(request->path.at, s->path, strlen(s->path)) != 0) {
        refuse_upgrade(s, conn, request, 400, "Bad Request", NULL);
        return;
    }
    if (dp_ws_accept(accept, key) != DP_OK) {
        refuse_upgrade(s, conn, request, 500, "Internal Server Error", NULL);
        return;
    }
    put_upgrade(s, conn, accept);
    if (conn->state != CONN_HTTP)
        return;
    conn->websocket = true;
    dp_realm_join(s, conn, parameter(request, "id", id), parameter(request, "token", token),
                  parameter(request, "key", realm_key));
    dp_wipe(token, sizeof(token));
}

/* ---- routes ------------------------------------------------------------------------------------------ */

/* "/KEY/NAME" or "/KEY/NAME/" with any key: npm does not look at it. */
static bool is_route(dp_slice rest, const char *name)
{
    if (rest.len < 2 || rest.at[0] != '/')
        return false;
    dp_slice tail = {rest.at + 1, rest.len - 1};
    dp_slice key = dp_slice_cut(&tail, '/');
    dp_slice word = dp_slice_cut(&tail, '/');
    return key.len > 0 && tail.len == 0 && dp_slice_is_nocase(word, name);
}

static void serve_get(dp_signal_server *s, dp_signal_conn *conn, const dp_request *request)
{
    static const char about[] =
        "{\"name\":\"PeerJS Server\",\"description\":\"A server side element to broker connections between "
        "PeerJS clients.\",\"website\":\"https://peerjs.com/\"}";
    dp_slice rest = {0};
    if (serve_file(s, conn, request))
        return;
    bool below = below_mount(s, request->path, &rest);
    if (dp_slice_is(request->path, "/healthz"))
        respond_text(s, conn, request, s->shutting_down ? 503 : 200, TEXT_PLAIN,
                     s->config.cluster == NULL || s->cluster_up ? "ok\n"
                                                                : "ok, but no other node can be reached\n");
    else if (s->config.metrics && dp_slice_is(request->path, "/metrics"))
        serve_metrics(s, conn, request);
    else if (below && (rest.len == 0 || dp_slice_is(rest, "/")))
        respond_text(s, conn, request, 200, JSON, about);
    else if (below && is_route(rest, "id"))
        serve_id(s, conn, request);
    else if (below && is_route(rest, "peers"))
        serve_peers(s, conn, request);
    else
        not_found(s, conn, request);
}

/* RFC 6455 §10.2: a browser lets any page connect to any WebSocket, and tells whose page it is. */
static bool allows_origin(const dp_signal_server *s, const dp_signal_conn *conn, const dp_request *request)
{
    char origin[ORIGIN_MAX + 1];
    dp_slice value;
    size_t count = s->config.allow_origin != NULL ? dp_request_field(request, "Origin", &value) : 0;
    return count == 0 || (count == 1 && dp_slice_copy(origin, sizeof(origin), value) == DP_OK &&
                          s->config.allow_origin(conn->user, &conn->remote, origin));
}

void dp_http_serve(dp_signal_server *s, dp_signal_conn *conn, dp_request *request)
{
    dp_slice rest;
    if (!dp_bucket_take(&conn->messages, &s->message_rate, s->now) || !dp_server_admit(s, conn)) {
        request->keep_alive = false;
        respond_status(s, conn, request, 429);
    } else if (!allows_origin(s, conn, request)) {
        s->stats.refused++;
        request->keep_alive = false;
        respond_status(s, conn, request, 403);
    } else if (is_upgrade(request)) {
        upgrade(s, conn, request);
    } else if (dp_slice_is(request->method, "GET") || dp_slice_is(request->method, "HEAD")) {
        serve_get(s, conn, request);
    } else if (dp_slice_is(request->method, "OPTIONS") && below_mount(s, request->path, &rest)) {
        const response r = {.status = 204};
        respond(s, conn, request, &r);
    } else {
        not_found(s, conn, request);
    }
}
