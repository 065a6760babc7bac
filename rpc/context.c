/* The members of a context:
 *
 *   {action, request: {id, body, ...}, response: {headers?: {contentType}, body: {code, data, message}}}
 *
 * Pages in the field fix this shape. What a context has beside it is left as it is and goes back with the
 * answer. */
#include "internal.h"

#include "base/text.h"
#include "value.h"
#include <string.h>

const char dp_context_octet_stream[] = "application/octet-stream";

bool dp_context_is(const dp_value *value)
{
    return dp_value_get_string(dp_value_get(value, "action"), NULL) != NULL &&
           dp_value_get_type(dp_value_get(value, "request")) == DP_VALUE_MAP;
}

const dp_value *dp_context_id(const dp_value *context)
{
    return dp_value_get(dp_value_get(context, "request"), "id");
}

const dp_value *dp_context_body_member(const dp_value *context, const char *name)
{
    return dp_value_get(dp_value_get(dp_value_get(context, "response"), "body"), name);
}

static const dp_value *content_type(const dp_value *context)
{
    return dp_value_get(dp_value_get(dp_value_get(context, "response"), "headers"), "contentType");
}

const dp_value *dp_context_data(const dp_value *context) { return dp_context_body_member(context, "data"); }

static bool is_number(const dp_value *value)
{
    dp_value_type type = dp_value_get_type(value);
    return type == DP_VALUE_INT || type == DP_VALUE_UINT || type == DP_VALUE_DOUBLE;
}

int dp_context_code(const dp_value *context, int fallback)
{
    int64_t code = dp_value_get_int(dp_context_body_member(context, "code"), fallback);
    return code < INT32_MIN || code > INT32_MAX ? fallback : (int)code;
}

const char *dp_context_message(const dp_value *context)
{
    return dp_value_get_string(dp_context_body_member(context, "message"), NULL);
}

bool dp_context_is_answer(const dp_value *context)
{
    const dp_value *code = dp_context_body_member(context, "code");
    return (is_number(code) && dp_value_get_int(code, 0) != 200) ||
           dp_value_get_type(dp_context_data(context)) != DP_VALUE_NULL ||
           dp_value_get_type(content_type(context)) != DP_VALUE_NULL;
}

bool dp_context_is_stream(const dp_value *context)
{
    size_t len;
    const char *type = dp_value_get_string(content_type(context), &len);
    return type != NULL && dp_slice_is((dp_slice){type, len}, dp_context_octet_stream) &&
           dp_value_get_string(dp_value_get(dp_context_data(context), "type"), NULL) != NULL;
}

int dp_context_success_code(const dp_value *context)
{
    int code = dp_context_code(context, 200);
    return code >= 200 && code <= 299 ? code : 200;
}

/* The map under key; an empty one takes the place of anything else. NULL: out of memory. */
static dp_value *submap(dp_value *map, const char *key)
{
    if (dp_value_get_type(dp_value_get(map, key)) != DP_VALUE_MAP &&
        dp_value_set(map, key, dp_value_map()) != DP_OK)
        return NULL;
    return dp_value_get(map, key);
}

int dp_context_set_answer(dp_value *context, int code, const char *message, dp_value *data)
{
    dp_value *response = submap(context, "response");
    dp_value *body = response == NULL ? NULL : submap(response, "body");
    if (body == NULL) {
        dp_value_free(data);
        return DP_ERR_NO_MEMORY;
    }
    if (code == 0)
        code = dp_context_success_code(context);
    if (message == NULL)
        message = dp_context_message(context);
    if (message == NULL || !dp_utf8_valid((const uint8_t *)message, strlen(message)))
        message = "";
    int error = dp_value_set(body, "data", data);
    if (error == DP_OK)
        error = dp_value_set(body, "code", dp_value_int(code));
    /* A copy first: message may be the text that is replaced. */
    dp_value *text = dp_value_string(message);
    int text_error = dp_value_set(body, "message", text);
    return error != DP_OK ? error : text_error;
}

dp_value *dp_context_new(const char *action, const char *id, dp_value *body)
{
    dp_value *context = dp_value_map();
    dp_value *request = dp_value_map();
    dp_value *answer = dp_value_map();
    dp_value *response = dp_value_map();
    /* Each set takes its value, also when it fails: run them all, look once. */
    int errors = dp_value_set(request, "id", dp_value_string(id));
    errors |= dp_value_set(request, "body", body);
    errors |= dp_value_set(answer, "code", dp_value_int(200));
    errors |= dp_value_set(answer, "data", dp_value_null());
    errors |= dp_value_set(answer, "message", dp_value_string(""));
    errors |= dp_value_set(response, "body", answer);
    errors |= dp_value_set(context, "action", dp_value_string(action));
    errors |= dp_value_set(context, "request", request);
    errors |= dp_value_set(context, "response", response);
    if (errors != DP_OK) {
        dp_value_free(context);
        return NULL;
    }
    return context;
}
