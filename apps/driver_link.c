#include "driver_link.h"

#include "hex.h"
#include "lines.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LARGE_BYTES = 65536 }; /* recv tells length and hash of bytes over this */

/* ---- answers ---- */

/* Prints members with the line's id in front; takes members. */
void link_answer(const dp_value *id, dp_value *members)
{
    dp_value *line = dp_value_map();
    dp_value_set(line, "id", id != NULL ? dp_value_copy(id) : dp_value_null());
    for (size_t i = 0; i < dp_value_count(members); i++)
        dp_value_set(line, dp_value_key_at(members, i, NULL), dp_value_copy(dp_value_at(members, i)));
    lines_print(line);
    dp_value_free(members);
}

void link_answer_error(const dp_value *id, const char *message)
{
    dp_value *members = dp_value_map();
    dp_value_set(members, "error", dp_value_string(message));
    link_answer(id, members);
}

void link_answer_result(const dp_value *id, int error)
{
    if (error == DP_OK)
        link_answer(id, dp_value_map());
    else if (error == DP_ERR_TOO_LARGE) /* as on_error, which comes later */
        link_answer_error(id, "message-too-big: it does not fit into one message");
    else
        link_answer_error(id, dp_strerror(error));
}

/* ---- what waits ---- */

static void on_pending_timeout(void *user);

pending *link_add_pending(link_ *l, const dp_value *line, pending_kind kind, dp_duration timeout)
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
        dp_timer_set(l->app->loop, &p->timer, dp_loop_now(l->app->loop) + timeout);
    return p;
}

void link_drop_pending(pending *p)
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
    link_answer_error(p->id, "timeout");
    link_drop_pending(p);
    if (opening && l->conn != NULL)
        dp_connection_close(l->conn);
}

/* ---- sending ---- */

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
static bool try_send(link_ *l, const dp_value *line, pending *again)
{
    const dp_value *id = dp_value_get(line, "id");
    int error =
        again == NULL && find_pending(l, PENDING_SEND) != NULL ? DP_ERR_WOULD_BLOCK : send_line(l, line);
    if (error == DP_ERR_WOULD_BLOCK) {
        pending *p = again != NULL ? again : link_add_pending(l, line, PENDING_SEND, DP_TIME_NEVER);
        if (p != NULL && again == NULL)
            p->line = dp_value_copy(line);
        if (p == NULL)
            link_answer_error(id, "out of memory");
        return false;
    }
    link_answer_result(id, error);
    if (again != NULL)
        link_drop_pending(again);
    return true;
}

void link_send(link_ *l, const dp_value *line) { (void)try_send(l, line, NULL); }

/* ---- connections ---- */

static void on_open(void *user, dp_connection *conn)
{
    link_ *l = user;
    pending *p = find_pending(l, PENDING_OPEN);
    if (p == NULL)
        return;
    dp_value *members = dp_value_map();
    dp_value_set(members, "conn", dp_value_uint(l->number));
    dp_value_set(members, "connectionId", dp_value_string(dp_connection_id(conn)));
    link_answer(p->id, members);
    link_drop_pending(p);
}

void link_answer_recv(pending *p)
{
    received *r = p->link->first;
    p->link->first = r->next;
    if (r->next == NULL)
        p->link->last = &p->link->first;
    link_answer(p->id, r->answer);
    free(r);
    link_drop_pending(p);
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
        link_answer_recv(p);
}

static void on_drain(void *user, dp_connection *conn)
{
    link_ *l = user;
    (void)conn;
    for (pending *p; (p = find_pending(l, PENDING_SEND)) != NULL;)
        if (!try_send(l, p->line, p))
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
            link_answer(p->id, dp_value_map());
        else
            link_answer_error(p->id, l->error[0] != '\0' ? l->error : "connection closed");
        link_drop_pending(p);
    }
}

/* ---- life ---- */

link_ *link_new(app *owner, size_t number)
{
    link_ *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return NULL;
    l->app = owner;
    l->number = number;
    l->last = &l->first;
    return l;
}

dp_connection_handler link_handler(link_ *l)
{
    return (dp_connection_handler){on_open, on_data, on_drain, on_close, on_error, NULL, l};
}

void link_free(link_ *l)
{
    for (pending *p = l->pending, *next; p != NULL; p = next) {
        next = p->next;
        link_drop_pending(p);
    }
    for (received *r = l->first, *next; r != NULL; r = next) {
        next = r->next;
        dp_value_free(r->answer);
        free(r);
    }
    free(l);
}
