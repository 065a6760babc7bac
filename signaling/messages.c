#include "messages.h"

#include "base/mem.h"
#include "url.h"
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#define RESTART_FEATURE "ice-restart"
enum { RESTART_MAX = 1000000 };

/* ---- reading ----------------------------------------------------------------------------------- */

/* The end of the string whose quotation mark is at at. */
static const char *skip_string(const char *at, const char *end)
{
    for (at++; at < end && *at != '"'; at++)
        at += *at == '\\' && at + 1 < end;
    return at < end ? at + 1 : end;
}

/* The end of the value that begins at at. Of its grammar cJSON judges: here nothing matters but where it ends, and never to
 * read behind end. */
static const char *skip_value(const char *at, const char *end)
{
    unsigned depth = 0;
    while (at < end) {
        char c = *at;
        if (c == '"') {
            at = skip_string(at, end);
        } else {
            depth += c == '{' || c == '[';
            if (depth == 0 && (c == ',' || c == '}' || c == ']'))
                break;
            depth -= c == '}' || c == ']';
            at++;
        }
        if (depth == 0 && (c == '"' || c == '}' || c == ']'))
            break;
    }
    return at;
}

static const char *skip_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n'))
        at++;
    return at;
}

/* The text of a member of the object that is the whole of object; the first of that name, as cJSON finds it. Empty: none. name in
 * quotation marks. */
static dp_slice member_text(dp_slice object, const char *name)
{
    dp_slice found = {NULL, 0};
    if (object.len == 0)
        return found;
    const char *end = object.at + object.len;
    const char *at = skip_space(object.at, end);
    if (at == end || *at != '{')
        return found;
    for (at = skip_space(at + 1, end); at < end && *at == '"'; at = skip_space(at, end)) {
        dp_slice key = {at, (size_t)(skip_string(at, end) - at)};
        at = skip_space(key.at + key.len, end);
        at = skip_space(at + (at < end), end); /* the colon */
        dp_slice value = {at, (size_t)(skip_value(at, end) - at)};
        if (found.at == NULL && dp_slice_is(key, name))
            found = value;
        at = skip_space(value.at + value.len, end);
        if (at == end || *at != ',')
            break;
        at = skip_space(at + 1, end);
    }
    while (found.len > 0 && strchr(" \t\r\n", found.at[found.len - 1]) != NULL)
        found.len--;
    return found;
}

static bool is_in(dp_slice slice, const char *at)
{
    return slice.len > 0 && at >= slice.at && at < slice.at + slice.len;
}

/* What cJSON lets pass: depth up to 1000, invalid UTF-8, and \u0000, at which it cuts the string. metadata is the user's own: it is not
 * taken from cJSON, and may be deep and hold anything. */
static const char *prescan(const char *text, size_t len, dp_slice metadata)
{
    if (!dp_utf8_valid((const uint8_t *)text, len))
        return "not UTF-8";
    unsigned depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool own = is_in(metadata, text + i);
        if (c == '\0')
            return "a NUL byte";
        if (in_string && (unsigned char)c < 0x20)
            return "a control character in a string";
        if (in_string && c == '\\') {
            if (!own && len - i >= 6 && memcmp(text + i, "\\u0000", 6) == 0)
                return "an escaped NUL";
            i++; /* the escaped character cannot end the string */
        } else if (c == '"') {
            in_string = !in_string;
        } else if (!in_string && (c == '{' || c == '[')) {
            if (++depth > (own ? METADATA_DEPTH_MAX : MESSAGE_DEPTH_MAX))
                return "nested too deeply";
        } else if (!in_string && (c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return NULL;
}

/* The whole text as one value, NULL and a reason otherwise. */
static cJSON *parse_json(const char **reason, const char *text, size_t len, dp_slice metadata)
{
    const char *end = NULL;
    *reason = prescan(text, len, metadata);
    if (*reason != NULL)
        return NULL;
    cJSON *root = cJSON_ParseWithLengthOpts(text, len, &end, false);
    *reason = "not JSON";
    if (root == NULL)
        return NULL;
    while (end < text + len && strchr(" \t\r\n", *end) != NULL)
        end++;
    if (end == text + len) {
        *reason = NULL;
        return root;
    }
    *reason = "something follows the JSON value";
    cJSON_Delete(root);
    return NULL;
}

bool dp_metadata_valid(const char *text, size_t len)
{
    const char *reason;
    cJSON *root = parse_json(&reason, text, len, (dp_slice){text, len});
    cJSON_Delete(root);
    return root != NULL;
}

static const cJSON *member(const cJSON *object, const char *name)
{
    return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, name) : NULL;
}

/* NULL if absent or not a string. */
static const char *text_of(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(member(object, name));
}

static const char *text_or(const cJSON *object, const char *name, const char *fallback)
{
    const char *text = text_of(object, name);
    return text != NULL ? text : fallback;
}

/* Moves all strings into one block, so that the JSON tree, 40 times the text, can go. */
static int keep(dp_message *out)
{
    const char **fields[] = {&out->src,      &out->connection_id, &out->sdp, &out->label, &out->serialization,
                             &out->metadata, &out->candidate,     &out->mid, &out->error};
    enum { FIELDS = sizeof(fields) / sizeof(fields[0]) };
    size_t total = 0;
    for (size_t i = 0; i < FIELDS; i++)
        if (*fields[i] != NULL)
            total += strlen(*fields[i]) + 1;
    out->block = dp_alloc(total);
    if (out->block == NULL)
        return DP_ERR_NO_MEMORY;
    char *at = out->block;
    for (size_t i = 0; i < FIELDS; i++) {
        if (*fields[i] == NULL)
            continue;
        size_t size = strlen(*fields[i]) + 1;
        memcpy(at, *fields[i], size);
        *fields[i] = at;
        at += size;
    }
    return DP_OK;
}

/* Our own members, which PeerJS lacks: see dp_signaling_offer. */
static void read_extensions(dp_message *out, const cJSON *payload)
{
    const cJSON *restart = member(payload, "restart");
    const cJSON *feature;
    if (cJSON_IsNumber(restart) && restart->valuedouble >= 1 && restart->valuedouble <= (double)RESTART_MAX)
        out->restart = (unsigned)restart->valuedouble;
    cJSON_ArrayForEach(feature, member(payload, "features"))
    {
        const char *name = cJSON_GetStringValue(feature);
        out->knows_restart |= name != NULL && strcmp(name, RESTART_FEATURE) == 0;
    }
}

static const char *read_offer(dp_message *out, const cJSON *payload)
{
    read_extensions(out, payload);
    out->sdp = text_of(member(payload, "sdp"), "sdp");
    /* PeerJS' own receiver has no defaults for these; older clients left some of them out. */
    out->label = text_or(payload, "label", out->connection_id);
    out->serialization = text_or(payload, "serialization", "binary");
    out->reliable = cJSON_IsTrue(member(payload, "reliable"));
    return out->sdp == NULL ? "an OFFER without a description" : NULL;
}

static const char *read_answer(dp_message *out, const cJSON *payload)
{
    read_extensions(out, payload);
    out->sdp = text_of(member(payload, "sdp"), "sdp");
    return out->sdp == NULL && out->restart == 0 ? "an ANSWER without a description" : NULL;
}

static const char *read_candidate(dp_message *out, const cJSON *payload)
{
    const cJSON *init = member(payload, "candidate");
    const cJSON *index = member(init, "sdpMLineIndex");
    out->candidate = text_of(init, "candidate");
    out->mid = text_or(init, "sdpMid", "");
    if (cJSON_IsNumber(index) && index->valuedouble >= 0 && index->valuedouble <= UINT16_MAX)
        out->mline_index = (unsigned)index->valuedouble;
    return out->candidate == NULL ? "a CANDIDATE without a candidate" : NULL;
}

static const struct {
    const char *name;
    dp_message_type type;
    bool from_peer; /* has a src */
    const char *(*read)(dp_message *out, const cJSON *payload);
} types[] = {
    {"OPEN", MESSAGE_OPEN, false, NULL},
    {"ERROR", MESSAGE_ERROR, false, NULL},
    {"ID-TAKEN", MESSAGE_ID_TAKEN, false, NULL},
    {"INVALID-KEY", MESSAGE_INVALID_KEY, false, NULL},
    {"LEAVE", MESSAGE_LEAVE, true, NULL},
    {"EXPIRE", MESSAGE_EXPIRE, true, NULL},
    {"OFFER", MESSAGE_OFFER, true, read_offer},
    {"ANSWER", MESSAGE_ANSWER, true, read_answer},
    {"CANDIDATE", MESSAGE_CANDIDATE, true, read_candidate},
};
enum { TYPES = sizeof(types) / sizeof(types[0]) };

/* NULL: fine (also if it is nothing to us). */
static const char *read_message(dp_message *out, const cJSON *root)
{
    const char *name = text_of(root, "type");
    const cJSON *payload = member(root, "payload");
    size_t t = 0;
    if (name == NULL)
        return "no type";
    while (t < TYPES && strcmp(types[t].name, name) != 0)
        t++;
    if (t == TYPES)
        return NULL;
    if (types[t].from_peer) {
        const char *src = text_of(root, "src");
        if (src == NULL || !dp_peer_id_harmless((dp_slice){src, strlen(src)}))
            return "no src, or one with control characters";
        out->src = src;
    }
    if (types[t].read != NULL) {
        /* Only data connections are answered. "type" is left out by nobody but costs nothing to allow. */
        if (strcmp(text_or(payload, "type", "data"), "data") != 0)
            return NULL;
        out->connection_id = text_of(payload, "connectionId");
        if (out->connection_id == NULL || out->connection_id[0] == '\0')
            return "no connectionId";
        const char *reason = types[t].read(out, payload);
        if (reason != NULL)
            return reason;
    }
    out->error = text_of(payload, "msg");
    out->type = types[t].type;
    return NULL;
}

int dp_message_parse(dp_message *out, const char **reason, const char *text, size_t len)
{
    memset(out, 0, sizeof(*out));
    *reason = "over 65536 bytes long";
    if (len > DP_SIGNALING_TEXT_MAX)
        return DP_ERR_TOO_LARGE;
    dp_slice own = member_text(member_text((dp_slice){text, len}, "\"payload\""), "\"metadata\"");
    cJSON *root = parse_json(reason, text, len, own);
    if (root == NULL)
        return DP_ERR_MALFORMED;
    int error = DP_ERR_MALFORMED;
    char *metadata = NULL;
    *reason = read_message(out, root);
    if (*reason == NULL) {
        bool has = out->type == MESSAGE_OFFER && own.len > 0;
        if (has)
            metadata = dp_strndup(own.at, own.len);
        out->metadata = metadata;
        error = !has || metadata != NULL ? keep(out) : DP_ERR_NO_MEMORY;
    }
    dp_free(metadata);
    cJSON_Delete(root);
    if (error != DP_OK)
        memset(out, 0, sizeof(*out));
    return error;
}

void dp_message_clear(dp_message *message)
{
    dp_free(message->block);
    memset(message, 0, sizeof(*message));
}

/* ---- writing ----------------------------------------------------------------------------------- */

/* RFC 8259 §7: quotation mark, reverse solidus and control characters must be escaped. */
static void write_string(dp_wr *wr, const char *text)
{
    dp_wr_u8(wr, '"');
    for (; *text != '\0'; text++) {
        uint8_t c = (uint8_t)*text;
        char escape[8];
        if (c >= 0x20 && c != '"' && c != '\\') {
            dp_wr_u8(wr, c);
            continue;
        }
        if (c == '"' || c == '\\')
            snprintf(escape, sizeof(escape), "\\%c", c);
        else if (c == '\r' || c == '\n')
            snprintf(escape, sizeof(escape), "\\%c", c == '\r' ? 'r' : 'n');
        else
            snprintf(escape, sizeof(escape), "\\u%04x", c);
        dp_wr_text(wr, escape);
    }
    dp_wr_u8(wr, '"');
}

static void write_member(dp_wr *wr, const char *name, const char *text)
{
    dp_wr_text(wr, ",\"");
    dp_wr_text(wr, name);
    dp_wr_text(wr, "\":");
    write_string(wr, text);
}

static void write_description(dp_wr *wr, const char *type, const char *sdp, const char *connection_id)
{
    dp_wr_u8(wr, '{');
    if (sdp != NULL) {
        dp_wr_text(wr, "\"sdp\":{\"sdp\":");
        write_string(wr, sdp);
        write_member(wr, "type", type);
        dp_wr_text(wr, "},");
    }
    dp_wr_text(wr, "\"type\":\"data\"");
    write_member(wr, "connectionId", connection_id);
}

static void write_extensions(dp_wr *wr, unsigned restart)
{
    char number[32];
    dp_wr_text(wr, ",\"features\":[\"" RESTART_FEATURE "\"]");
    if (restart == 0)
        return;
    snprintf(number, sizeof(number), ",\"restart\":%u", restart);
    dp_wr_text(wr, number);
}

static void write_end(dp_wr *wr, const char *dst)
{
    dp_wr_u8(wr, '}');
    write_member(wr, "dst", dst);
    dp_wr_u8(wr, '}');
}

void dp_message_write_offer(dp_wr *wr, const char *dst, const dp_signaling_offer *offer)
{
    dp_wr_text(wr, "{\"type\":\"OFFER\",\"payload\":");
    write_description(wr, "offer", offer->sdp, offer->connection_id);
    if (offer->metadata != NULL) {
        dp_wr_text(wr, ",\"metadata\":");
        dp_wr_text(wr, offer->metadata);
    }
    write_member(wr, "label", offer->label);
    dp_wr_text(wr, offer->reliable ? ",\"reliable\":true" : ",\"reliable\":false");
    write_member(wr, "serialization", offer->serialization);
    write_extensions(wr, offer->restart);
    write_end(wr, dst);
}

void dp_message_write_answer(dp_wr *wr, const char *dst, const char *connection_id, const char *sdp,
                             unsigned restart)
{
    dp_wr_text(wr, "{\"type\":\"ANSWER\",\"payload\":");
    write_description(wr, "answer", sdp, connection_id);
    write_extensions(wr, restart);
    write_end(wr, dst);
}

void dp_message_write_candidate(dp_wr *wr, const char *dst, const char *connection_id, const char *candidate,
                                const char *mid, unsigned mline_index, const char *ufrag)
{
    char index[32];
    dp_wr_text(wr, "{\"type\":\"CANDIDATE\",\"payload\":{\"candidate\":{\"candidate\":");
    write_string(wr, candidate);
    write_member(wr, "sdpMid", mid);
    snprintf(index, sizeof(index), ",\"sdpMLineIndex\":%u", mline_index);
    dp_wr_text(wr, index);
    if (ufrag != NULL)
        write_member(wr, "usernameFragment", ufrag);
    dp_wr_text(wr, "},\"type\":\"data\"");
    write_member(wr, "connectionId", connection_id);
    write_end(wr, dst);
}
