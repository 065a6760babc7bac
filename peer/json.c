/* The json serialization: JSON text to values and back. cJSON parses; what it lets pass is checked before
 * (docs/pitfalls.md). */
#include <datapeer/peer.h>

#include "base/mem.h"
#include "base/text.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_TEXT = 64 << 20, /* as a packed value; what comes from a peer is one message, 256 KiB: cJSON takes
                            about 40 times a text of small numbers */
    MAX_DEPTH = DP_BINARYPACK_MAX_DEPTH,
};

/* ---- text to value ------------------------------------------------------------------------------------ */

static const char *skip_digits(const char *at, const char *end)
{
    while (at < end && *at >= '0' && *at <= '9')
        at++;
    return at;
}

/* RFC 8259 §6. cJSON leaves numbers to strtod, which takes more. Returns the end, NULL if it is none. */
static const char *scan_number(const char *at, const char *end)
{
    if (at < end && *at == '-')
        at++;
    const char *from = at;
    at = skip_digits(at, end);
    if (at == from || (at - from > 1 && *from == '0'))
        return NULL;
    if (at < end && *at == '.') {
        from = at + 1;
        at = skip_digits(from, end);
        if (at == from)
            return NULL;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        from = at + 1 < end && (at[1] == '+' || at[1] == '-') ? at + 2 : at + 1;
        at = skip_digits(from, end);
        if (at == from)
            return NULL;
    }
    return at;
}

/* The end of a string whose quotation mark has been read; NULL if it has none. */
static const char *scan_string(const char *at, const char *end)
{
    for (; at < end && (unsigned char)*at >= 0x20; at++) {
        if (*at == '"')
            return at + 1;
        if (*at == '\\' && ++at == end)
            return NULL;
    }
    return NULL;
}

/* What cJSON would let pass: any depth that it was built with, odd numbers, any control character as a space, a
 * byte order mark. */
static int scan(const char *text, size_t len)
{
    const char *end = text + len;
    size_t depth = 0;
    for (const char *at = text; at < end;) {
        char c = *at;
        if (c == '"') {
            at = scan_string(at + 1, end);
        } else if (c == '-' || (c >= '0' && c <= '9')) {
            at = scan_number(at, end);
        } else if (c == '[' || c == '{') {
            if (++depth > MAX_DEPTH)
                return DP_ERR_LIMIT;
            at++;
        } else if (c == ']' || c == '}') {
            depth -= depth > 0;
            at++;
        } else if (c != '\0' && strchr(" \t\r\n:,aeflnrstu", c) != NULL) { /* true, false, null */
            at++;
        } else {
            return DP_ERR_MALFORMED;
        }
        if (at == NULL)
            return DP_ERR_MALFORMED;
    }
    return DP_OK;
}

/* cJSON cuts a string at \u0000. So it gets NUL_MARK instead, a byte that is nowhere in UTF-8, and give_nuls puts the
 * NULs back. text has been scanned: backslashes are in strings alone. */
#define NUL_ESCAPE "\\u0000"
#define NUL_MARK   0xff

static char *without_nuls(const char *text, size_t *len)
{
    const size_t escape = sizeof(NUL_ESCAPE) - 1;
    char *out = dp_alloc(*len);
    size_t to = 0;
    for (size_t i = 0; out != NULL && i < *len;) {
        if (*len - i >= escape && memcmp(text + i, NUL_ESCAPE, escape) == 0) {
            out[to++] = (char)NUL_MARK;
            i += escape;
            continue;
        }
        if (text[i] == '\\')
            out[to++] = text[i++];
        out[to++] = text[i++];
    }
    *len = to;
    return out;
}

/* The length is told, too. */
static size_t give_nuls(char *text)
{
    size_t len = strlen(text);
    for (char *at = text; (at = memchr(at, NUL_MARK, len - (size_t)(at - text))) != NULL;)
        *at = '\0';
    return len;
}

static dp_value *number(double d)
{
    /* 2^53: beyond it a double names no single integer. */
    return d == floor(d) && fabs(d) <= 9007199254740992.0 ? dp_value_int((int64_t)d) : dp_value_double(d);
}

static int convert(dp_value **out, const cJSON *item)
{
    dp_value *value = NULL;
    int error = DP_OK;
    if (cJSON_IsNumber(item)) {
        if (!isfinite(item->valuedouble))
            return DP_ERR_MALFORMED;
        value = number(item->valuedouble);
    } else if (cJSON_IsString(item)) {
        size_t len = give_nuls(item->valuestring);
        if (!dp_utf8_valid((const uint8_t *)item->valuestring, len))
            return DP_ERR_MALFORMED;
        value = dp_value_string_n(item->valuestring, len);
    } else if (cJSON_IsBool(item)) {
        value = dp_value_bool(cJSON_IsTrue(item) != 0);
    } else if (cJSON_IsNull(item)) {
        value = dp_value_null();
    } else {
        bool array = cJSON_IsArray(item) != 0;
        value = array ? dp_value_array() : dp_value_map();
        for (const cJSON *child = item->child; value != NULL && error == DP_OK && child != NULL;
             child = child->next) {
            dp_value *inner = NULL;
            error = convert(&inner, child);
            if (error == DP_OK)
                error = array ? dp_value_push(value, inner)
                              : dp_value_set_n(value, child->string, give_nuls(child->string), inner);
        }
    }
    if (error != DP_OK) {
        dp_value_free(value);
        return error;
    }
    *out = value;
    return value == NULL ? DP_ERR_NO_MEMORY : DP_OK;
}

static int parse(dp_value **out, const char *text, size_t len)
{
    const char *end = NULL;
    cJSON *root = cJSON_ParseWithLengthOpts(text, len, &end, false);
    if (root == NULL)
        return DP_ERR_MALFORMED;
    while (end < text + len && (*end == ' ' || *end == '\t' || *end == '\r' || *end == '\n'))
        end++;
    int error = end != text + len ? DP_ERR_MALFORMED : convert(out, root);
    cJSON_Delete(root);
    return error;
}

int dp_value_from_json(dp_value **out, const char *text, size_t len)
{
    if (len > MAX_TEXT)
        return DP_ERR_TOO_LARGE;
    if (!dp_utf8_valid((const uint8_t *)text, len))
        return DP_ERR_MALFORMED;
    int error = scan(text, len);
    if (error != DP_OK)
        return error;
    if (memmem(text, len, NUL_ESCAPE, sizeof(NUL_ESCAPE) - 1) == NULL)
        return parse(out, text, len);
    char *copy = without_nuls(text, &len);
    error = copy == NULL ? DP_ERR_NO_MEMORY : parse(out, copy, len);
    dp_free(copy);
    return error;
}

/* ---- value to text ---- */

typedef struct writer {
    uint8_t *data;
    size_t len;
    size_t capacity;
    int error;
} writer;

static void put(writer *w, const void *data, size_t len)
{
    void *items = w->data;
    if (w->error == DP_OK)
        w->error = len > SIZE_MAX - w->len - 1 ? DP_ERR_NO_MEMORY
                                               : dp_grow(&items, &w->capacity, w->len + len + 1, SIZE_MAX, 1);
    w->data = items;
    if (w->error != DP_OK || len == 0)
        return;
    memcpy(w->data + w->len, data, len);
    w->len += len;
}

static void put_text(writer *w, const char *text) { put(w, text, strlen(text)); }

static void put_string(writer *w, const char *text, size_t len)
{
    put(w, "\"", 1);
    size_t from = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        /* The short forms as JSON.stringify: what comes from it must not grow on the way back. */
        static const char letters[] = "btnufr"; /* of U+0008 to U+000D */
        char escape[8];
        if (c == '"' || c == '\\')
            snprintf(escape, sizeof(escape), "\\%c", c);
        else if (c >= '\b' && c <= '\r' && c != '\v')
            snprintf(escape, sizeof(escape), "\\%c", letters[c - '\b']);
        else
            snprintf(escape, sizeof(escape), "\\u%04x", c);
        put(w, text + from, i - from);
        put_text(w, escape);
        from = i + 1;
    }
    put(w, text + from, len - from);
    put(w, "\"", 1);
}

static void put_double(writer *w, double d)
{
    char text[32];
    if (!isfinite(d)) { /* as JSON.stringify */
        put_text(w, "null");
        return;
    }
    /* The shortest form that reads back equal. */
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(text, sizeof(text), "%.*g", precision, d);
        if (strtod(text, NULL) == d)
            break;
    }
    put_text(w, text);
}

static void put_scalar(writer *w, const dp_value *value)
{
    char text[32];
    size_t len;
    const char *string;
    switch (dp_value_get_type(value)) {
    case DP_VALUE_BOOL:
        put_text(w, dp_value_get_bool(value, false) ? "true" : "false");
        break;
    case DP_VALUE_INT:
        snprintf(text, sizeof(text), "%lld", (long long)dp_value_get_int(value, 0));
        put_text(w, text);
        break;
    case DP_VALUE_UINT:
        snprintf(text, sizeof(text), "%llu", (unsigned long long)dp_value_get_uint(value, 0));
        put_text(w, text);
        break;
    case DP_VALUE_DOUBLE:
        put_double(w, dp_value_get_double(value, 0));
        break;
    case DP_VALUE_STRING:
        string = dp_value_get_string(value, &len);
        put_string(w, string, len);
        break;
    default:
        put_text(w, "null");
        break;
    }
}

static void put_bytes(writer *w, const dp_value *value)
{
    size_t len;
    const uint8_t *bytes = dp_value_get_bytes(value, &len);
    put(w, "[", 1);
    for (size_t i = 0; i < len; i++) {
        char text[8];
        snprintf(text, sizeof(text), "%s%u", i > 0 ? "," : "", bytes[i]);
        put_text(w, text);
    }
    put(w, "]", 1);
}

static void put_value(writer *w, const dp_value *value, size_t depth)
{
    dp_value_type type = dp_value_get_type(value);
    if (type == DP_VALUE_BYTES) {
        put_bytes(w, value);
        return;
    }
    if (type != DP_VALUE_ARRAY && type != DP_VALUE_MAP) {
        put_scalar(w, value);
        return;
    }
    if (depth == MAX_DEPTH) {
        w->error = w->error != DP_OK ? w->error : DP_ERR_LIMIT;
        return;
    }
    put(w, type == DP_VALUE_ARRAY ? "[" : "{", 1);
    for (size_t i = 0; i < dp_value_count(value) && w->error == DP_OK; i++) {
        if (i > 0)
            put(w, ",", 1);
        if (type == DP_VALUE_MAP) {
            size_t len;
            const char *key = dp_value_key_at(value, i, &len);
            put_string(w, key, len);
            put(w, ":", 1);
        }
        put_value(w, dp_value_at(value, i), depth + 1);
    }
    put(w, type == DP_VALUE_ARRAY ? "]" : "}", 1);
}

int dp_value_to_json(const dp_value *value, char **text, size_t *len)
{
    writer w = {0};
    put_value(&w, value, 0);
    if (w.error != DP_OK) {
        dp_free(w.data);
        return w.error;
    }
    w.data[w.len] = '\0'; /* put always leaves room for it */
    *text = (char *)w.data;
    *len = w.len;
    return DP_OK;
}
