/* The URLs of STUN and TURN servers. RFC 7064 §3.1 and RFC 7065 §3.1:
 *   stun(s):host[:port]     turn(s):host[:port][?transport=udp|tcp|...]
 * No user part, no path, no percent-encoding: a host is a name in ASCII, an IPv4 or a bracketed IPv6 address. */
#include <datapeer/ice.h>

#include "base/text.h"

#include <string.h>

#define PORT     3478
#define TLS_PORT 5349

static bool is_name_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* Labels of at least one character, a dot between two; one dot at the end is that of a full name. */
static bool is_name(dp_slice host)
{
    bool in_label = false;
    for (size_t i = 0; i < host.len; i++) {
        if (!is_name_character(host.at[i]) && !(host.at[i] == '.' && in_label))
            return false;
        in_label = host.at[i] != '.';
    }
    return host.len > 0;
}

/* Takes "[...]" or all up to the port's colon off the front of *rest. */
static int take_host(dp_ice_url *out, dp_slice *rest)
{
    bool bracketed = rest->len > 0 && rest->at[0] == '[';
    dp_slice host = *rest;
    if (bracketed) {
        const char *end = memchr(rest->at, ']', rest->len);
        if (end == NULL)
            return DP_ERR_MALFORMED;
        host = (dp_slice){rest->at + 1, (size_t)(end - rest->at) - 1};
        *rest = (dp_slice){end + 1, rest->len - host.len - 2};
    } else {
        const char *end = memchr(rest->at, ':', rest->len);
        host.len = end == NULL ? rest->len : (size_t)(end - rest->at);
        *rest = (dp_slice){rest->at + host.len, rest->len - host.len};
    }
    if (dp_slice_copy(out->host, sizeof out->host, host) != DP_OK)
        return DP_ERR_MALFORMED;
    dp_address ip;
    if (bracketed)
        return dp_address_parse(&ip, out->host, 0) == DP_OK && ip.family == DP_FAMILY_IPV6 ? DP_OK
                                                                                           : DP_ERR_MALFORMED;
    return is_name(host) ? DP_OK : DP_ERR_MALFORMED;
}

static int read_port(dp_ice_url *out, dp_slice rest)
{
    uint64_t port;
    if (rest.len == 0)
        return DP_OK;
    if (rest.at[0] != ':')
        return DP_ERR_MALFORMED;
    rest = (dp_slice){rest.at + 1, rest.len - 1};
    if (dp_slice_to_u64(&port, rest, UINT16_MAX) != DP_OK || port == 0)
        return DP_ERR_MALFORMED;
    out->port = (uint16_t)port;
    return DP_OK;
}

/* "transport=udp" or "transport=tcp"; TLS runs over the latter, over the former it would be DTLS. */
static int read_query(dp_ice_url *out, dp_slice query)
{
    dp_slice key = dp_slice_cut(&query, '=');
    if (!out->turn || !dp_slice_is_nocase(key, "transport") || query.len == 0)
        return DP_ERR_MALFORMED;
    bool tls = out->transport == DP_ICE_TLS;
    if (dp_slice_is_nocase(query, "tcp"))
        out->transport = tls ? DP_ICE_TLS : DP_ICE_TCP;
    else if (!dp_slice_is_nocase(query, "udp") || tls)
        return DP_ERR_UNSUPPORTED;
    return DP_OK;
}

int dp_ice_url_parse(dp_ice_url *out, const char *text)
{
    dp_ice_url url = {.transport = DP_ICE_UDP, .port = PORT};
    const char *colon = strchr(text, ':');
    if (colon == NULL)
        return DP_ERR_MALFORMED;
    dp_slice scheme = {text, (size_t)(colon - text)};
    if (dp_slice_is_nocase(scheme, "turn") || dp_slice_is_nocase(scheme, "turns"))
        url.turn = true;
    else if (!dp_slice_is_nocase(scheme, "stun"))
        return DP_ERR_UNSUPPORTED;
    if (dp_slice_is_nocase(scheme, "turns")) {
        url.transport = DP_ICE_TLS;
        url.port = TLS_PORT;
    }
    const char *mark = strchr(colon + 1, '?');
    dp_slice authority = {colon + 1, mark == NULL ? strlen(colon + 1) : (size_t)(mark - colon) - 1};
    int err = take_host(&url, &authority);
    if (err == DP_OK)
        err = read_port(&url, authority);
    if (err == DP_OK && mark != NULL)
        err = read_query(&url, (dp_slice){mark + 1, strlen(mark + 1)});
    if (err == DP_OK)
        *out = url;
    return err;
}
