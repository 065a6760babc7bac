#include "redis_url.h"

#include <stdlib.h>
#include <string.h>

static int hex(char c)
{
    static const char digits[] = "0123456789abcdef";
    char lower = (char)(c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);
    const char *at = c != '\0' ? strchr(digits, lower) : NULL;
    return at != NULL ? (int)(at - digits) : -1;
}

/* Copies with %XX decoded (RFC 3986 §2.1). False: too long, a broken escape, or a NUL. */
static bool decode(char out[REDIS_WORD_MAX], const char *text, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++, n++) {
        if (n == REDIS_WORD_MAX - 1)
            return false;
        out[n] = text[i];
        if (text[i] != '%')
            continue;
        int value = len - i > 2 && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0
                        ? hex(text[i + 1]) * 16 + hex(text[i + 2])
                        : 0;
        if (value == 0)
            return false;
        out[n] = (char)value;
        i += 2;
    }
    out[n] = '\0';
    return true;
}

/* Digits alone, and at most max. */
static bool number(const char *text, size_t len, unsigned long max)
{
    unsigned long value = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || value > max)
            return false;
        value = value * 10 + (unsigned long)(text[i] - '0');
    }
    return len > 0 && value <= max;
}

/* USER, USER:PASSWORD or :PASSWORD */
static const char *take_credentials(redis_url *out, const char *text, size_t len)
{
    const char *colon = memchr(text, ':', len);
    size_t user_len = colon != NULL ? (size_t)(colon - text) : len;
    size_t skip = colon != NULL ? user_len + 1 : len;
    if (!decode(out->user, text, user_len) || !decode(out->password, text + skip, len - skip))
        return "the user or password in it is too long, or a % is not followed by two hex digits";
    return NULL;
}

/* HOST[:PORT], the host of IPv6 in brackets. */
static const char *take_host(redis_url *out, const char *text, size_t len)
{
    bool brackets = len > 0 && text[0] == '[';
    const char *end = brackets ? memchr(text, ']', len) : NULL;
    const char *host = brackets ? text + 1 : text;
    if (brackets && end == NULL)
        return "a ']' is missing in it";
    const char *rest = brackets ? end + 1 : memchr(text, ':', len);
    const char *stop = text + len;
    end = brackets ? end : rest != NULL ? rest : stop;
    if (end == host || (size_t)(end - host) >= sizeof(out->host))
        return "it names no host";
    memcpy(out->host, host, (size_t)(end - host));
    if (rest == NULL || rest == stop)
        return NULL;
    if (*rest != ':' || !number(rest + 1, (size_t)(stop - rest - 1), UINT16_MAX))
        return "its port is no number up to 65535";
    out->port = (uint16_t)strtoul(rest + 1, NULL, 10);
    return out->port != 0 ? NULL : "its port is 0";
}

const char *redis_url_parse(redis_url *out, const char *text)
{
    memset(out, 0, sizeof(*out));
    out->port = 6379;
    out->tls = strncmp(text, "rediss://", 9) == 0;
    if (!out->tls && strncmp(text, "redis://", 8) != 0)
        return "it must begin with redis:// or rediss://";
    text += out->tls ? 9 : 8;
    size_t len = strcspn(text, "/?#");
    const char *at = memchr(text, '@', len);
    const char *wrong = at != NULL ? take_credentials(out, text, (size_t)(at - text)) : NULL;
    size_t skip = at != NULL ? (size_t)(at - text) + 1 : 0;
    if (wrong == NULL)
        wrong = take_host(out, text + skip, len - skip);
    if (wrong != NULL || text[len] == '\0' || strcmp(text + len, "/") == 0)
        return wrong;
    const char *database = text + len + 1;
    if (text[len] != '/' || !number(database, strlen(database), 999999999))
        return "behind the host only / and the number of a database may follow";
    if (strlen(database) >= sizeof(out->database))
        return "the number of its database is too long";
    memcpy(out->database, database, strlen(database) + 1);
    return NULL;
}
