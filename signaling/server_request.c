#include "server_request.h"

#include "base/mem.h"
#include "http.h"
#include <string.h>

void dp_request_clear(dp_request *request)
{
    dp_free(request->head);
    memset(request, 0, sizeof(*request));
}

static dp_slice head_of(const dp_request *request) { return (dp_slice){request->head, request->len}; }

size_t dp_request_field(const dp_request *request, const char *name, dp_slice *value)
{
    return dp_http_head_field(head_of(request), name, value);
}

bool dp_request_field_has(const dp_request *request, const char *name, const char *token)
{
    return dp_http_head_has(head_of(request), name, token);
}

/* ---- the request line -------------------------------------------------------------------------- */

/* RFC 9110 §5.6.2 */
static bool is_token(dp_slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        bool alphanumeric = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        if (!alphanumeric && (c == '\0' || strchr("!#$%&'*+-.^_`|~", c) == NULL))
            return false;
    }
    return text.len > 0;
}

/* RFC 9112 §3.2.2: "http://host/path" is understood, too; what stands before the path does not count. */
static dp_slice skip_authority(dp_slice target)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < 2; i++) {
        size_t n = strlen(schemes[i]);
        dp_slice head = {target.at, n};
        if (target.len < n || !dp_slice_is_nocase(head, schemes[i]))
            continue;
        while (n < target.len && target.at[n] != '/' && target.at[n] != '?')
            n++;
        if (n == target.len || target.at[n] == '?')
            return (dp_slice){"/", 1};
        return (dp_slice){target.at + n, target.len - n};
    }
    return target;
}

static int parse_target(dp_request *request, dp_slice target)
{
    for (size_t i = 0; i < target.len; i++)
        if (target.at[i] <= ' ' || target.at[i] >= 0x7f || target.at[i] == '#')
            return DP_ERR_MALFORMED;
    target = skip_authority(target);
    if (target.len == 0 || (target.at[0] != '/' && !dp_slice_is(target, "*")))
        return DP_ERR_MALFORMED;
    request->query = target;
    request->path = dp_slice_cut(&request->query, '?');
    return DP_OK;
}

/* method SP request-target SP HTTP-version */
static int parse_line(dp_request *request, dp_slice line, bool *http_1_0)
{
    request->method = dp_slice_cut(&line, ' ');
    dp_slice target = dp_slice_cut(&line, ' ');
    *http_1_0 = dp_slice_is(line, "HTTP/1.0");
    if (!is_token(request->method))
        return DP_ERR_MALFORMED;
    if (!*http_1_0 && !dp_slice_is(line, "HTTP/1.1")) {
        bool another = line.len == 8 && memcmp(line.at, "HTTP/", 5) == 0;
        return another ? DP_ERR_UNSUPPORTED : DP_ERR_MALFORMED;
    }
    return parse_target(request, target);
}

/* ---- the fields -------------------------------------------------------------------------------- */

static int check_fields(dp_slice rest)
{
    unsigned count = 0;
    dp_http_next_line(&rest);
    while (rest.len > 0) {
        dp_slice line = dp_http_next_line(&rest);
        dp_slice name = line;
        name = dp_slice_cut(&name, ':');
        if (line.len == 0)
            continue;
        if (++count > REQUEST_FIELDS_MAX)
            return DP_ERR_TOO_LARGE;
        if (!dp_http_field_valid(line) || !is_token(name))
            return DP_ERR_MALFORMED;
    }
    return DP_OK;
}

/* RFC 9112 §6: whether a body follows. One length that is a number, or one coding, never both. */
static int check_body(dp_request *request, bool http_1_0)
{
    dp_slice length;
    dp_slice coding;
    uint64_t n = 0;
    size_t lengths = dp_request_field(request, "Content-Length", &length);
    size_t codings = dp_request_field(request, "Transfer-Encoding", &coding);
    if (lengths + codings > 1 || (codings == 1 && (http_1_0 || !dp_slice_is_nocase(coding, "chunked"))) ||
        (lengths == 1 && dp_slice_to_u64(&n, length, UINT64_MAX) != DP_OK))
        return DP_ERR_MALFORMED;
    request->has_body = codings == 1 || n > 0;
    return DP_OK;
}

static int finish_head(dp_request *request)
{
    bool http_1_0;
    dp_slice rest = head_of(request);
    dp_slice host;
    int error = parse_line(request, dp_http_next_line(&rest), &http_1_0);
    if (error == DP_OK)
        error = check_fields(head_of(request));
    if (error == DP_OK)
        error = check_body(request, http_1_0);
    if (error != DP_OK)
        return error;
    /* RFC 9112 §3.2 */
    size_t hosts = dp_request_field(request, "Host", &host);
    if (hosts > 1 || (hosts == 0 && !http_1_0))
        return DP_ERR_MALFORMED;
    request->keep_alive =
        !http_1_0 && !request->has_body && !dp_request_field_has(request, "Connection", "close");
    return DP_OK;
}

static int head_byte(dp_request *request, char c)
{
    if (request->len == REQUEST_HEAD_MAX)
        return DP_ERR_TOO_LARGE;
    void *head = request->head;
    int error = dp_grow(&head, &request->capacity, request->len + 1, REQUEST_HEAD_MAX, 1);
    request->head = head;
    if (error != DP_OK)
        return error;
    /* RFC 9112 §2.2: a CR stands before a LF and nowhere else, and no LF without it. */
    bool after_cr = request->len > 0 && request->head[request->len - 1] == '\r';
    if (after_cr != (c == '\n') || c == '\0')
        return DP_ERR_MALFORMED;
    request->head[request->len++] = c;
    if (c != '\n')
        return DP_ERR_WOULD_BLOCK;
    if (request->len == 2) { /* empty lines before the request line (§2.2) */
        request->len = 0;
        return DP_ERR_WOULD_BLOCK;
    }
    bool blank_line = request->len >= 4 && memcmp(request->head + request->len - 4, "\r\n\r\n", 4) == 0;
    return blank_line ? finish_head(request) : DP_ERR_WOULD_BLOCK;
}

int dp_request_input(dp_request *request, const uint8_t **data, size_t *len)
{
    int result = DP_ERR_WOULD_BLOCK;
    while (*len > 0 && result == DP_ERR_WOULD_BLOCK) {
        result = head_byte(request, (char)**data);
        ++*data;
        --*len;
    }
    return result;
}

/* ---- escapes ----------------------------------------------------------------------------------- */

static bool decode(dp_slice text, bool plus, char *out, size_t capacity)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        int high = c == '%' && text.len - i > 2 ? dp_hex_digit(text.at[i + 1]) : -1;
        int low = high >= 0 ? dp_hex_digit(text.at[i + 2]) : -1;
        if (low >= 0) {
            c = (char)(high * 16 + low);
            i += 2;
        } else if (plus && c == '+') {
            c = ' ';
        }
        if (n + 1 >= capacity || c == '\0')
            return false;
        out[n++] = c;
    }
    out[n] = '\0';
    return true;
}

bool dp_query_get(dp_slice query, const char *name, char *out, size_t capacity)
{
    bool found = false;
    while (query.len > 0) {
        char key[16];
        dp_slice value = dp_slice_cut(&query, '&');
        dp_slice raw = dp_slice_cut(&value, '=');
        if (decode(raw, true, key, sizeof(key)) && strcmp(key, name) == 0)
            found = decode(value, true, out, capacity);
    }
    return found;
}

bool dp_path_decode(dp_slice path, char *out, size_t capacity)
{
    return decode(path, false, out, capacity) && dp_utf8_valid((const uint8_t *)out, strlen(out));
}
