#include "url.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool is_alphanumeric(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

bool dp_peer_id_valid(const char *id)
{
    size_t len = 0;
    bool after_separator = true; /* at the start, and after one of " _-", a letter or digit must follow */
    for (; id[len] != '\0'; len++) {
        if (len == DP_PEER_ID_MAX)
            return false;
        bool separator = id[len] == ' ' || id[len] == '_' || id[len] == '-';
        if (separator ? after_separator : !is_alphanumeric(id[len]))
            return false;
        after_separator = separator;
    }
    return !after_separator;
}

bool dp_peer_id_harmless(dp_slice id)
{
    if (id.len == 0 || id.len > DP_PEER_ID_MAX || !dp_utf8_valid((const uint8_t *)id.at, id.len))
        return false;
    for (size_t i = 0; i < id.len; i++)
        if ((unsigned char)id.at[i] < 0x20 || id.at[i] == 0x7f)
            return false;
    return true;
}

/* ---- server URL -------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    bool secure;
} schemes[] = {{"ws", false}, {"http", false}, {"wss", true}, {"https", true}};

/* "scheme://" off the front of *rest; without one, PeerServer's default port is meant. */
static int take_scheme(dp_server_url *out, dp_slice *rest)
{
    const char *mark = strstr(rest->at, "://");
    if (mark == NULL) {
        out->port = 9000;
        return DP_OK;
    }
    dp_slice scheme = {rest->at, (size_t)(mark - rest->at)};
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (!dp_slice_is_nocase(scheme, schemes[i].name))
            continue;
        out->secure = schemes[i].secure;
        out->port = out->secure ? 443 : 80;
        rest->at = mark + 3;
        rest->len -= scheme.len + 3;
        return DP_OK;
    }
    return DP_ERR_MALFORMED;
}

int dp_url_take_host(char *out, size_t capacity, dp_slice *authority)
{
    bool brackets = authority->len > 0 && authority->at[0] == '[';
    dp_slice host;
    if (brackets) {
        dp_slice_cut(authority, '[');
        host = dp_slice_cut(authority, ']');
        if (host.len == 0 || host.at[host.len] != ']' || (authority->len > 0 && authority->at[0] != ':'))
            return DP_ERR_MALFORMED;
        dp_address address;
        if (dp_slice_copy(out, capacity, host) != DP_OK || dp_address_parse(&address, out, 0) != DP_OK ||
            address.family != DP_FAMILY_IPV6)
            return DP_ERR_MALFORMED;
        return DP_OK;
    }
    const char *colon = memchr(authority->at, ':', authority->len);
    host = *authority;
    if (colon != NULL)
        host.len = (size_t)(colon - authority->at);
    authority->at += host.len;
    authority->len -= host.len;
    for (size_t i = 0; i < host.len; i++)
        if (!is_alphanumeric(host.at[i]) && strchr(".-_", host.at[i]) == NULL)
            return DP_ERR_MALFORMED;
    return host.len > 0 && dp_slice_copy(out, capacity, host) == DP_OK ? DP_OK : DP_ERR_MALFORMED;
}

int dp_url_take_port(uint16_t *out, dp_slice rest)
{
    uint64_t port;
    if (rest.len == 0)
        return DP_OK;
    dp_slice number = {rest.at + 1, rest.len - 1};
    if (rest.at[0] != ':' || dp_slice_to_u64(&port, number, UINT16_MAX) != DP_OK || port == 0)
        return DP_ERR_MALFORMED;
    *out = (uint16_t)port;
    return DP_OK;
}

static int take_path(dp_server_url *out, dp_slice rest)
{
    dp_wr wr = dp_wr_init((uint8_t *)out->path, sizeof(out->path));
    dp_wr_u8(&wr, '/');
    for (size_t i = 0; i < rest.len; i++)
        if (rest.at[i] <= 0x20 || rest.at[i] >= 0x7f || strchr("?#\"<>\\^`{|}", rest.at[i]) != NULL)
            return DP_ERR_MALFORMED;
    dp_wr_bytes(&wr, rest.at, rest.len);
    if (rest.len > 0 && rest.at[rest.len - 1] != '/')
        dp_wr_u8(&wr, '/');
    dp_wr_u8(&wr, 0);
    return wr.error ? DP_ERR_MALFORMED : DP_OK;
}

int dp_server_url_parse(dp_server_url *out, const char *text)
{
    memset(out, 0, sizeof(*out));
    dp_slice rest = {text, strlen(text)};
    int error = take_scheme(out, &rest);
    dp_slice authority = dp_slice_cut(&rest, '/');
    if (error == DP_OK)
        error = dp_url_take_host(out->host, sizeof(out->host), &authority);
    if (error == DP_OK)
        error = dp_url_take_port(&out->port, authority);
    return error == DP_OK ? take_path(out, rest) : error;
}

/* ---- writing ----------------------------------------------------------------------------------- */

void dp_url_write_escaped(dp_wr *wr, const char *text)
{
    static const char digits[] = "0123456789ABCDEF";
    for (; *text != '\0'; text++) {
        uint8_t c = (uint8_t)*text;
        if (is_alphanumeric(*text) || strchr("-._~", *text) != NULL) {
            dp_wr_u8(wr, c);
        } else {
            dp_wr_u8(wr, '%');
            dp_wr_u8(wr, (uint8_t)digits[c >> 4]);
            dp_wr_u8(wr, (uint8_t)digits[c & 15]);
        }
    }
}

void dp_url_write_host(dp_wr *wr, const dp_server_url *url)
{
    bool ipv6 = strchr(url->host, ':') != NULL;
    dp_wr_text(wr, ipv6 ? "[" : "");
    dp_wr_text(wr, url->host);
    dp_wr_text(wr, ipv6 ? "]" : "");
    if (url->port != (url->secure ? 443 : 80)) {
        char port[8];
        snprintf(port, sizeof(port), ":%" PRIu16, url->port);
        dp_wr_text(wr, port);
    }
}
