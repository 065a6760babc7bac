#include "http.h"

#include "base/mem.h"
#include <string.h>

void dp_http_init(dp_http *http, bool head_only)
{
    memset(http, 0, sizeof(*http));
    http->head_only = head_only;
}

void dp_http_clear(dp_http *http)
{
    dp_free(http->head);
    dp_http_init(http, http->head_only);
}

/* ---- head -------------------------------------------------------------------------------------- */

static dp_slice trim(dp_slice text)
{
    while (text.len > 0 && (text.at[0] == ' ' || text.at[0] == '\t')) {
        text.at++;
        text.len--;
    }
    while (text.len > 0 && (text.at[text.len - 1] == ' ' || text.at[text.len - 1] == '\t'))
        text.len--;
    return text;
}

dp_slice dp_http_next_line(dp_slice *rest)
{
    dp_slice line = dp_slice_cut(rest, '\n');
    if (line.len > 0 && line.at[line.len - 1] == '\r')
        line.len--;
    return line;
}

/* HTTP-version SP 3DIGIT SP [reason] */
static int parse_status(dp_http *http, dp_slice line)
{
    dp_slice version = dp_slice_cut(&line, ' ');
    dp_slice code = dp_slice_cut(&line, ' ');
    uint64_t status;
    if ((!dp_slice_is(version, "HTTP/1.1") && !dp_slice_is(version, "HTTP/1.0")) || code.len != 3 ||
        dp_slice_to_u64(&status, code, 599) != DP_OK || status < 100)
        return DP_ERR_MALFORMED;
    http->status = (unsigned)status;
    return DP_OK;
}

bool dp_http_field_valid(dp_slice line)
{
    dp_slice value = line;
    dp_slice name = dp_slice_cut(&value, ':');
    if (name.len == 0 || name.len == line.len)
        return false;
    for (size_t i = 0; i < name.len; i++)
        if (name.at[i] <= ' ' || name.at[i] >= 0x7f)
            return false;
    for (size_t i = 0; i < value.len; i++)
        if (((unsigned char)value.at[i] < ' ' && value.at[i] != '\t') || value.at[i] == 0x7f)
            return false;
    return true;
}

size_t dp_http_head_field(dp_slice head, const char *name, dp_slice *value)
{
    size_t count = 0;
    dp_http_next_line(&head);
    while (head.len > 0) {
        dp_slice field = dp_http_next_line(&head);
        if (dp_slice_is_nocase(dp_slice_cut(&field, ':'), name) && count++ == 0)
            *value = trim(field);
    }
    return count;
}

bool dp_http_head_has(dp_slice head, const char *name, const char *token)
{
    dp_http_next_line(&head);
    while (head.len > 0) {
        dp_slice field = dp_http_next_line(&head);
        if (!dp_slice_is_nocase(dp_slice_cut(&field, ':'), name))
            continue;
        while (field.len > 0)
            if (dp_slice_is_nocase(trim(dp_slice_cut(&field, ',')), token))
                return true;
    }
    return false;
}

size_t dp_http_field(const dp_http *http, const char *name, dp_slice *value)
{
    return dp_http_head_field((dp_slice){http->head, http->head_len}, name, value);
}

bool dp_http_field_has(const dp_http *http, const char *name, const char *token)
{
    return dp_http_head_has((dp_slice){http->head, http->head_len}, name, token);
}

/* RFC 9112 §6.3: how the end of the body is known. */
static int choose_body(dp_http *http)
{
    dp_slice value;
    size_t lengths = dp_http_field(http, "Content-Length", &value);
    dp_slice coding;
    size_t codings = dp_http_field(http, "Transfer-Encoding", &coding);
    if (http->head_only || http->status == 101 || http->status == 204 || http->status == 304) {
        http->phase = HTTP_DONE;
        return DP_OK;
    }
    /* Both, or one of them twice, is how responses are smuggled; no server of PeerJS sends it. */
    if (lengths + codings > 1)
        return DP_ERR_MALFORMED;
    if (codings == 1) {
        if (!dp_slice_is_nocase(coding, "chunked"))
            return DP_ERR_UNSUPPORTED;
        http->phase = HTTP_CHUNK_SIZE;
        return DP_ERR_WOULD_BLOCK;
    }
    if (lengths == 0) {
        http->phase = HTTP_BODY_TO_END;
        return DP_ERR_WOULD_BLOCK;
    }
    if (dp_slice_to_u64(&http->left, value, UINT64_MAX) != DP_OK)
        return DP_ERR_MALFORMED;
    if (http->left > HTTP_BODY_MAX)
        return DP_ERR_TOO_LARGE;
    http->phase = http->left == 0 ? HTTP_DONE : HTTP_BODY;
    return http->left == 0 ? DP_OK : DP_ERR_WOULD_BLOCK;
}

static int finish_head(dp_http *http)
{
    dp_slice rest = {http->head, http->head_len};
    int error = parse_status(http, dp_http_next_line(&rest));
    if (error != DP_OK)
        return error;
    while (rest.len > 0) {
        dp_slice line = dp_http_next_line(&rest);
        if (line.len > 0 && !dp_http_field_valid(line))
            return DP_ERR_MALFORMED;
    }
    /* RFC 9110 §15.2: interim responses may come before the real one. head_total still counts their bytes. */
    if (http->status < 200 && http->status != 101) {
        http->head_len = 0;
        return DP_ERR_WOULD_BLOCK;
    }
    return choose_body(http);
}

static int head_byte(dp_http *http, char c)
{
    if (http->head_total++ == HTTP_HEAD_MAX)
        return DP_ERR_TOO_LARGE;
    void *head = http->head;
    int error = dp_grow(&head, &http->head_capacity, http->head_len + 1, HTTP_HEAD_MAX, 1);
    http->head = head;
    if (error != DP_OK)
        return error;
    http->head[http->head_len++] = c;
    const char *end = http->head + http->head_len;
    bool blank_line = c == '\n' && ((http->head_len >= 2 && end[-2] == '\n') ||
                                    (http->head_len >= 3 && end[-2] == '\r' && end[-3] == '\n'));
    return blank_line ? finish_head(http) : DP_ERR_WOULD_BLOCK;
}

/* ---- body -------------------------------------------------------------------------------------- */

static int body_byte(dp_http *http, char c)
{
    if (http->body_len == HTTP_BODY_MAX)
        return DP_ERR_TOO_LARGE;
    http->body[http->body_len++] = c;
    return DP_ERR_WOULD_BLOCK;
}

/* chunk-size [;extensions], in hex */
static int chunk_size(dp_http *http)
{
    dp_slice line = {http->line, http->line_len};
    dp_slice digits = trim(dp_slice_cut(&line, ';'));
    http->left = 0;
    if (digits.len == 0 || digits.len > 8)
        return DP_ERR_MALFORMED;
    for (size_t i = 0; i < digits.len; i++) {
        int digit = dp_hex_digit(digits.at[i]);
        if (digit < 0)
            return DP_ERR_MALFORMED;
        http->left = http->left * 16 + (unsigned)digit;
    }
    http->phase = http->left > 0 ? HTTP_CHUNK_DATA : HTTP_TRAILER;
    return DP_ERR_WOULD_BLOCK;
}

/* RFC 9112 §7.1: lines between the data of the chunks. */
static int chunk_line_byte(dp_http *http, char c)
{
    if (http->head_total++ == HTTP_HEAD_MAX)
        return DP_ERR_TOO_LARGE;
    if (c != '\n') {
        if (http->line_len < sizeof(http->line))
            http->line[http->line_len++] = c;
        return DP_ERR_WOULD_BLOCK;
    }
    if (http->line_len > 0 && http->line[http->line_len - 1] == '\r')
        http->line_len--;
    int result = DP_ERR_WOULD_BLOCK;
    if (http->phase == HTTP_CHUNK_SIZE) {
        result = chunk_size(http);
    } else if (http->phase == HTTP_CHUNK_END) {
        http->phase = HTTP_CHUNK_SIZE;
        result = http->line_len == 0 ? DP_ERR_WOULD_BLOCK : DP_ERR_MALFORMED;
    } else if (http->line_len == 0) { /* the blank line after the trailer */
        http->phase = HTTP_DONE;
        result = DP_OK;
    }
    http->line_len = 0;
    return result;
}

static int input_byte(dp_http *http, char c)
{
    int result;
    switch (http->phase) {
    case HTTP_HEAD:
        return head_byte(http, c);
    case HTTP_BODY:
    case HTTP_CHUNK_DATA:
        result = body_byte(http, c);
        if (result != DP_ERR_WOULD_BLOCK || --http->left > 0)
            return result;
        if (http->phase == HTTP_CHUNK_DATA) {
            http->phase = HTTP_CHUNK_END;
            return result;
        }
        http->phase = HTTP_DONE;
        return DP_OK;
    case HTTP_BODY_TO_END:
        return body_byte(http, c);
    case HTTP_CHUNK_SIZE:
    case HTTP_CHUNK_END:
    case HTTP_TRAILER:
        return chunk_line_byte(http, c);
    case HTTP_DONE:
        break;
    }
    return DP_OK;
}

int dp_http_input(dp_http *http, const uint8_t **data, size_t *len)
{
    while (*len > 0 && http->phase != HTTP_DONE) {
        char c = (char)**data;
        ++*data;
        --*len;
        int result = input_byte(http, c);
        if (result != DP_ERR_WOULD_BLOCK)
            return result;
    }
    return http->phase == HTTP_DONE ? DP_OK : DP_ERR_WOULD_BLOCK;
}

int dp_http_end(dp_http *http)
{
    if (http->phase == HTTP_BODY_TO_END)
        http->phase = HTTP_DONE;
    return http->phase == HTTP_DONE ? DP_OK : DP_ERR_TRUNCATED;
}
