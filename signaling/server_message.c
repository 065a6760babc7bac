#include "server_message.h"

#include "url.h"
#include <string.h>

static const char *const names[] = {
    [RELAY_HEARTBEAT] = "HEARTBEAT", [RELAY_OFFER] = "OFFER", [RELAY_ANSWER] = "ANSWER",
    [RELAY_CANDIDATE] = "CANDIDATE", [RELAY_LEAVE] = "LEAVE", [RELAY_EXPIRE] = "EXPIRE",
};
enum { NAMES = sizeof(names) / sizeof(names[0]) };

/* ---- RFC 8259, checked in place ---------------------------------------------------------------- */

typedef struct scan {
    const char *at;
    const char *end;
} scan;

static void skip_space(scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
        s->at++;
}

static bool take(scan *s, char c)
{
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

static bool take_word(scan *s, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(s->end - s->at) < n || memcmp(s->at, word, n) != 0)
        return false;
    s->at += n;
    return true;
}

static bool take_digits(scan *s)
{
    const char *start = s->at;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
        s->at++;
    return s->at > start;
}

/* [ "-" ] int [ frac ] [ exp ] (§6) */
static bool take_number(scan *s)
{
    take(s, '-');
    if (!take(s, '0') && !take_digits(s))
        return false;
    if (take(s, '.') && !take_digits(s))
        return false;
    if (take(s, 'e') || take(s, 'E')) {
        if (!take(s, '-'))
            take(s, '+');
        return take_digits(s);
    }
    return true;
}

/* Four hex digits; -1 if they are not there. */
static int take_hex4(scan *s)
{
    int value = 0;
    for (int i = 0; i < 4; i++) {
        int digit = s->at < s->end ? dp_hex_digit(*s->at) : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
        s->at++;
    }
    return value;
}

/* Whether one of eight bytes is below `limit`, at most 0x80. (The others' borrows make no false "no".) */
static uint64_t any_below(uint64_t eight, uint8_t limit)
{
    return (eight - limit * 0x0101010101010101u) & ~eight & 0x8080808080808080u;
}

/* Goes on behind the characters that mean nothing in a string, eight at a time as far as that goes. */
static void skip_plain(scan *s)
{
    uint64_t eight;
    for (; (size_t)(s->end - s->at) >= sizeof(eight); s->at += sizeof(eight)) {
        memcpy(&eight, s->at, sizeof(eight));
        if ((any_below(eight, 0x20) | any_below(eight ^ '"' * 0x0101010101010101u, 1) |
             any_below(eight ^ '\\' * 0x0101010101010101u, 1)) != 0)
            return;
    }
}

/* raw: what stands between the quotation marks (§7). */
static bool take_string(scan *s, dp_slice *raw)
{
    if (!take(s, '"'))
        return false;
    raw->at = s->at;
    for (skip_plain(s); s->at < s->end && *s->at != '"';) {
        if ((unsigned char)*s->at < 0x20)
            return false;
        if (!take(s, '\\')) {
            s->at++;
            continue;
        }
        if (take(s, 'u')) {
            if (take_hex4(s) < 0)
                return false;
        } else if (s->at == s->end || *s->at == '\0' || strchr("\"\\/bfnrt", *s->at++) == NULL) {
            return false;
        }
        skip_plain(s);
    }
    raw->len = (size_t)(s->at - raw->at);
    return take(s, '"');
}

static bool take_scalar(scan *s)
{
    dp_slice ignored;
    switch (*s->at) {
    case '"':
        return take_string(s, &ignored);
    case 't':
        return take_word(s, "true");
    case 'f':
        return take_word(s, "false");
    case 'n':
        return take_word(s, "null");
    default:
        return take_number(s);
    }
}

static bool take_key(scan *s)
{
    dp_slice ignored;
    skip_space(s);
    if (!take_string(s, &ignored))
        return false;
    skip_space(s);
    return take(s, ':');
}

/* The objects and arrays around what is read: a bit each, set for an object. So depth costs no stack. */
typedef struct nest {
    uint8_t objects[RELAY_DEPTH_MAX / 8];
    unsigned depth;
} nest;

static bool in_object(const nest *n)
{
    return (n->objects[(n->depth - 1) / 8] >> (n->depth - 1) % 8 & 1) != 0;
}

static bool enter(nest *n, bool object)
{
    if (n->depth == RELAY_DEPTH_MAX - 1) /* the message itself is one */
        return false;
    unsigned bit = 1u << n->depth % 8;
    uint8_t *byte = &n->objects[n->depth++ / 8];
    *byte = (uint8_t)(object ? *byte | bit : *byte & ~bit);
    return true;
}

/* Behind a value: closes what ends here. False unless another value follows, or none is missing. */
static bool take_ends(scan *s, nest *n)
{
    for (; n->depth > 0; n->depth--) {
        skip_space(s);
        if (take(s, ','))
            return !in_object(n) || take_key(s);
        if (!take(s, in_object(n) ? '}' : ']'))
            return false;
    }
    return true;
}

static bool take_value(scan *s)
{
    nest n = {.depth = 0};
    do {
        skip_space(s);
        if (s->at == s->end)
            return false;
        if (*s->at == '{' || *s->at == '[') {
            bool object = *s->at++ == '{';
            if (!enter(&n, object))
                return false;
            skip_space(s);
            if (s->at < s->end && *s->at != (object ? '}' : ']')) {
                if (object && !take_key(s))
                    return false;
                continue;
            }
        } else if (!take_scalar(s)) {
            return false;
        }
        if (!take_ends(s, &n))
            return false;
    } while (n.depth > 0);
    return true;
}

/* ---- strings that matter ----------------------------------------------------------------------- */

static void put_utf8(dp_wr *wr, unsigned c)
{
    if (c < 0x80) {
        dp_wr_u8(wr, (uint8_t)c);
        return;
    }
    unsigned tail = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint8_t marks[] = {0, 0xC0, 0xE0, 0xF0};
    dp_wr_u8(wr, (uint8_t)(marks[tail] | c >> 6 * tail));
    while (tail-- > 0)
        dp_wr_u8(wr, (uint8_t)(0x80 | (c >> 6 * tail & 0x3F)));
}

/* After "\u": a code point, maybe in two halves (RFC 8259 §7). A half alone is none. */
static bool unescape_u(scan *s, dp_wr *wr)
{
    unsigned c = (unsigned)take_hex4(s);
    if (c >= 0xD800 && c < 0xDC00) {
        int low = take_word(s, "\\u") ? take_hex4(s) : -1;
        if (low < 0xDC00 || low > 0xDFFF)
            return false;
        c = 0x10000 + ((c - 0xD800) << 10) + ((unsigned)low - 0xDC00);
    } else if (c >= 0xDC00 && c < 0xE000) {
        return false;
    }
    put_utf8(wr, c);
    return true;
}

/* After a backslash. */
static bool unescape_one(scan *s, dp_wr *wr)
{
    static const char codes[] = "bfnrt";
    static const char meanings[] = "\b\f\n\r\t";
    char c = *s->at++;
    if (c == 'u')
        return unescape_u(s, wr);
    const char *code = strchr(codes, c);
    dp_wr_u8(wr, (uint8_t)(code != NULL ? meanings[code - codes] : c));
    return true;
}

/* Of a string that take_string has checked. False: too long, or not Unicode. */
static bool unescape(dp_slice raw, char *out, size_t capacity, size_t *len)
{
    dp_wr wr = dp_wr_init((uint8_t *)out, capacity - 1);
    scan s = {raw.at, raw.at + raw.len};
    while (s.at < s.end && !wr.error) {
        const char *backslash = memchr(s.at, '\\', (size_t)(s.end - s.at));
        size_t plain = (size_t)((backslash != NULL ? backslash : s.end) - s.at);
        dp_wr_bytes(&wr, s.at, plain);
        s.at += plain;
        if (take(&s, '\\') && !unescape_one(&s, &wr))
            return false;
    }
    out[wr.len] = '\0';
    *len = wr.len;
    return !wr.error;
}

/* ---- messages ---------------------------------------------------------------------------------- */

typedef struct member {
    bool present;
    bool string;
    dp_slice raw; /* of a string what is between the quotation marks */
} member;

typedef struct members {
    member type, dst, payload;
} members;

static member *member_named(members *all, dp_slice key)
{
    char name[16];
    size_t len;
    if (!unescape(key, name, sizeof(name), &len))
        return NULL;
    dp_slice text = {name, len};
    return dp_slice_is(text, "type")      ? &all->type
           : dp_slice_is(text, "dst")     ? &all->dst
           : dp_slice_is(text, "payload") ? &all->payload
                                          : NULL;
}

/* Of a member that comes twice the last one counts, as in JavaScript. */
static bool take_members(scan *s, members *all)
{
    skip_space(s);
    if (!take(s, '{'))
        return false;
    skip_space(s);
    if (take(s, '}'))
        return true;
    do {
        dp_slice key;
        skip_space(s);
        if (!take_string(s, &key))
            return false;
        skip_space(s);
        if (!take(s, ':'))
            return false;
        skip_space(s);
        const char *start = s->at;
        if (!take_value(s))
            return false;
        member *m = member_named(all, key);
        if (m != NULL) {
            m->present = true;
            m->raw = (dp_slice){start, (size_t)(s->at - start)};
            m->string = *start == '"';
        }
        skip_space(s);
    } while (take(s, ','));
    return take(s, '}');
}

static dp_slice inside(dp_slice quoted) { return (dp_slice){quoted.at + 1, quoted.len - 2}; }

static dp_relay_type type_of(const member *m)
{
    char name[16];
    size_t len;
    if (!m->string || !unescape(inside(m->raw), name, sizeof(name), &len))
        return RELAY_OTHER;
    for (size_t i = RELAY_HEARTBEAT; i < NAMES; i++)
        if (dp_slice_is((dp_slice){name, len}, names[i]))
            return (dp_relay_type)i;
    return RELAY_OTHER;
}

int dp_relay_parse(dp_relay *out, const char *text, size_t len)
{
    memset(out, 0, sizeof(*out));
    scan s = {text, text + len};
    members all = {0};
    if (!take_members(&s, &all))
        return DP_ERR_MALFORMED;
    skip_space(&s);
    if (s.at != s.end)
        return DP_ERR_MALFORMED;
    out->type = type_of(&all.type);
    if (all.payload.present)
        out->payload = all.payload.raw;
    bool none = !all.dst.present || dp_slice_is(all.dst.raw, "null") || dp_slice_is(all.dst.raw, "\"\"");
    if (none)
        return DP_OK;
    size_t dst_len;
    if (!all.dst.string || !unescape(inside(all.dst.raw), out->dst, sizeof(out->dst), &dst_len) ||
        !dp_peer_id_harmless((dp_slice){out->dst, dst_len}))
        return DP_ERR_MALFORMED;
    return DP_OK;
}

bool dp_relay_payload_valid(const char *text, size_t len)
{
    scan s = {text, text + len};
    if (!take_value(&s))
        return false;
    skip_space(&s);
    return s.at == s.end;
}

void dp_json_write_string(dp_wr *wr, const char *text)
{
    dp_wr_u8(wr, '"');
    for (;;) {
        size_t plain = strcspn(text, "\"\\");
        dp_wr_bytes(wr, text, plain);
        text += plain;
        if (*text == '\0')
            break;
        dp_wr_u8(wr, '\\');
        dp_wr_u8(wr, (uint8_t)*text++);
    }
    dp_wr_u8(wr, '"');
}

size_t dp_relay_size(const char *src, const char *dst, dp_slice payload)
{
    return 64 + 2 * (strlen(src) + strlen(dst)) + payload.len;
}

void dp_relay_write(dp_wr *wr, dp_relay_type type, const char *src, const char *dst, dp_slice payload)
{
    dp_wr_text(wr, "{\"type\":\"");
    dp_wr_text(wr, names[type]);
    dp_wr_text(wr, "\",\"src\":");
    dp_json_write_string(wr, src);
    dp_wr_text(wr, ",\"dst\":");
    dp_json_write_string(wr, dst);
    if (payload.at != NULL) {
        dp_wr_text(wr, ",\"payload\":");
        dp_wr_bytes(wr, payload.at, payload.len);
    }
    dp_wr_u8(wr, '}');
}
