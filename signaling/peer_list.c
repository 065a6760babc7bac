/* The list of peers: one request, one answer (docs/peerjs.md 1.1). */
#include "http.h"
#include "url.h"

#include "base/crypto.h"
#include "base/mem.h"
#include "base/wr.h"
#include <cjson/cJSON.h>
#include <datapeer/signaling.h>
#include <stdio.h>
#include <string.h>

enum { REQUEST_MAX = 2048, BODY_MAX = 1 << 20 };

struct dp_peer_list {
    uint8_t request[REQUEST_MAX];
    size_t request_len;
    dp_http http;
    bool has_length;
    uint64_t length;
    char *body;
    size_t body_len, body_capacity;
    cJSON *json;
    const char **ids; /* in json */
    size_t count;
    char reason[160];
};

static bool key_valid(const char *key) { return dp_peer_id_harmless((dp_slice){key, strlen(key)}); }

int dp_peer_list_new(dp_peer_list **out, const dp_server_url *server, const char *key,
                     const dp_random *random)
{
    char ts[20]; /* keeps caches from answering */
    if (!key_valid(key))
        return DP_ERR_INVALID_ARGUMENT;
    int error = dp_random_text(random, ts, sizeof(ts) - 1, "0123456789");
    dp_peer_list *list = error == DP_OK ? dp_calloc(1, sizeof(*list)) : NULL;
    if (list == NULL)
        return error != DP_OK ? error : DP_ERR_NO_MEMORY;
    dp_wr wr = dp_wr_init(list->request, sizeof(list->request));
    dp_wr_text(&wr, "GET ");
    dp_wr_text(&wr, server->path);
    dp_url_write_escaped(&wr, key);
    dp_wr_text(&wr, "/peers?ts=");
    dp_wr_text(&wr, ts);
    dp_wr_text(&wr, "&version=1.5.5 HTTP/1.0\r\nHost: ");
    dp_url_write_host(&wr, server);
    dp_wr_text(&wr, "\r\n\r\n");
    error = dp_wr_finish(&wr, &list->request_len);
    if (error != DP_OK) {
        dp_free(list);
        return DP_ERR_INVALID_ARGUMENT;
    }
    dp_http_init(&list->http, true); /* the body is taken here: dp_http has room for an id alone */
    *out = list;
    return DP_OK;
}

void dp_peer_list_free(dp_peer_list *list)
{
    if (list == NULL)
        return;
    dp_http_clear(&list->http);
    cJSON_Delete(list->json);
    dp_free(list->ids);
    dp_free(list->body);
    dp_free(list);
}

const uint8_t *dp_peer_list_request(const dp_peer_list *list, size_t *len)
{
    *len = list->request_len;
    return list->request;
}

const char *const *dp_peer_list_ids(const dp_peer_list *list, size_t *count)
{
    *count = list->count;
    return list->ids;
}

const char *dp_peer_list_reason(const dp_peer_list *list) { return list->reason; }

static int take_head(dp_peer_list *list)
{
    dp_slice value;
    if (list->http.status != 200) {
        bool hidden = list->http.status == 401;
        snprintf(list->reason, sizeof(list->reason), "HTTP status %u%s", list->http.status,
                 hidden ? ": this PeerServer does not tell who is there (npm's does with allow_discovery)"
                        : "");
        return DP_ERR_REMOTE;
    }
    if (dp_http_field(&list->http, "Transfer-Encoding", &value) > 0)
        return DP_ERR_MALFORMED; /* RFC 9112 §6.1: never in an answer to HTTP/1.0 */
    list->has_length = dp_http_field(&list->http, "Content-Length", &value) > 0;
    if (list->has_length && dp_slice_to_u64(&list->length, value, UINT64_MAX) != DP_OK)
        return DP_ERR_MALFORMED;
    return list->has_length && list->length > BODY_MAX ? DP_ERR_TOO_LARGE : DP_OK;
}

/* Ids that PeerJS could not have, and that may do harm where they are shown, are left out. */
static int take_body(dp_peer_list *list)
{
    const cJSON *item;
    size_t capacity = 0;
    if (!dp_utf8_valid((const uint8_t *)list->body, list->body_len))
        return DP_ERR_MALFORMED;
    list->json = cJSON_ParseWithLength(list->body, list->body_len);
    if (!cJSON_IsArray(list->json))
        return DP_ERR_MALFORMED;
    cJSON_ArrayForEach(item, list->json)
    {
        const char *id = cJSON_GetStringValue(item);
        void *ids = list->ids;
        if (id == NULL || !key_valid(id))
            continue;
        int error = dp_grow(&ids, &capacity, list->count + 1, BODY_MAX, sizeof(*list->ids));
        list->ids = ids;
        if (error != DP_OK)
            return error;
        list->ids[list->count++] = id;
    }
    return DP_OK;
}

int dp_peer_list_input(dp_peer_list *list, const uint8_t *data, size_t len)
{
    if (list->http.phase != HTTP_DONE) {
        int error = dp_http_input(&list->http, &data, &len);
        if (error == DP_OK)
            error = take_head(list);
        if (error != DP_OK)
            return error;
    }
    size_t most = list->has_length ? (size_t)list->length : BODY_MAX + 1;
    len = len < most - list->body_len ? len : most - list->body_len;
    void *body = list->body;
    int error = dp_grow(&body, &list->body_capacity, list->body_len + len + 1, BODY_MAX + 2, 1);
    list->body = body;
    if (error != DP_OK)
        return error;
    if (len > 0)
        memcpy(list->body + list->body_len, data, len);
    list->body_len += len;
    if (list->body_len > BODY_MAX)
        return DP_ERR_TOO_LARGE;
    return list->has_length && list->body_len == list->length ? take_body(list) : DP_ERR_WOULD_BLOCK;
}

int dp_peer_list_end(dp_peer_list *list)
{
    return list->http.phase == HTTP_DONE && !list->has_length ? take_body(list) : DP_ERR_MALFORMED;
}
