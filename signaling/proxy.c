/* HTTP proxies: which one, for whom, and the way through it (CONNECT, RFC 9110 §9.3.6). */
#include "base/crypto.h"
#include "base/mem.h"
#include "http.h"
#include "url.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { REQUEST_MAX = 2048, TARGET_MAX = 300, REASON_MAX = 768 };

/* ---- which one --------------------------------------------------------------------------------------- */

/* RFC 3986 §2.1; what could break a header line is refused. */
static int put_decoded(dp_wr *wr, dp_slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        int c = (unsigned char)text.at[i];
        if (c == '%') {
            int high = i + 2 < text.len ? dp_hex_digit(text.at[i + 1]) : -1;
            int low = high >= 0 ? dp_hex_digit(text.at[i + 2]) : -1;
            if (low < 0)
                return DP_ERR_MALFORMED;
            c = high * 16 + low;
            i += 2;
        }
        if (c < 0x20 || c == 0x7f)
            return DP_ERR_MALFORMED;
        dp_wr_u8(wr, (uint8_t)c);
    }
    return DP_OK;
}

/* "user[:password]" into what RFC 7617 §2 joins, where the user can hold no colon. */
static int take_user(dp_proxy *out, dp_slice text)
{
    dp_wr wr = dp_wr_init((uint8_t *)out->credentials, sizeof(out->credentials));
    dp_slice user = dp_slice_cut(&text, ':');
    int error = put_decoded(&wr, user);
    size_t len = wr.len;
    if (error == DP_OK && memchr(out->credentials, ':', len) != NULL)
        error = DP_ERR_MALFORMED;
    dp_wr_u8(&wr, ':');
    if (error == DP_OK)
        error = put_decoded(&wr, text);
    dp_wr_u8(&wr, 0);
    return error == DP_OK && wr.error ? DP_ERR_MALFORMED : error;
}

int dp_proxy_parse(dp_proxy *out, const char *url)
{
    memset(out, 0, sizeof(*out));
    dp_slice rest = {url, strlen(url)};
    const char *mark = strstr(url, "://");
    if (mark != NULL) {
        dp_slice scheme = {url, (size_t)(mark - url)};
        if (!dp_slice_is_nocase(scheme, "http"))
            return DP_ERR_UNSUPPORTED;
        rest.at = mark + 3;
        rest.len -= scheme.len + 3;
    }
    dp_slice authority = dp_slice_cut(&rest, '/');
    if (rest.len > 0) /* a path makes no sense */
        return DP_ERR_MALFORMED;
    size_t user_len = authority.len;
    while (user_len > 0 && authority.at[user_len - 1] != '@')
        user_len--;
    int error = DP_OK;
    if (user_len > 0) {
        error = take_user(out, (dp_slice){authority.at, user_len - 1});
        authority.at += user_len;
        authority.len -= user_len;
    }
    out->port = 1080; /* as curl has it */
    if (error == DP_OK)
        error = dp_url_take_host(out->host, sizeof(out->host), &authority);
    return error == DP_OK ? dp_url_take_port(&out->port, authority) : error;
}

/* ---- for whom ---------------------------------------------------------------------------------------- */

/* "192.0.2.0/24", "2001:db8::/32", "[::1]", "192.0.2.1" */
static bool address_matches(const dp_address *host, dp_slice entry)
{
    char text[DP_ADDRESS_TEXT_MAX];
    dp_address net;
    dp_slice ip = dp_slice_cut(&entry, '/');
    if (ip.len >= 2 && ip.at[0] == '[' && ip.at[ip.len - 1] == ']')
        ip = (dp_slice){ip.at + 1, ip.len - 2};
    if (dp_slice_copy(text, sizeof(text), ip) != DP_OK || dp_address_parse(&net, text, 0) != DP_OK ||
        net.family != host->family)
        return false;
    uint64_t max = net.family == DP_FAMILY_IPV4 ? 32 : 128, bits = max;
    if (entry.len > 0 && dp_slice_to_u64(&bits, entry, max) != DP_OK)
        return false;
    for (size_t i = 0; i < bits; i++)
        if (((net.ip[i / 8] ^ host->ip[i / 8]) >> (7 - i % 8) & 1) != 0)
            return false;
    return true;
}

static dp_slice without_dots(dp_slice name)
{
    while (name.len > 0 && name.at[0] == '.')
        name = (dp_slice){name.at + 1, name.len - 1};
    if (name.len > 0 && name.at[name.len - 1] == '.')
        name.len--;
    return name;
}

/* The name itself, or one below it. */
static bool name_matches(dp_slice host, dp_slice entry)
{
    entry = without_dots(entry);
    if (entry.len == 0 || entry.len > host.len)
        return false;
    dp_slice end = {host.at + (host.len - entry.len), entry.len};
    for (size_t i = 0; i < entry.len; i++) { /* entry is not terminated */
        char a = entry.at[i], b = end.at[i];
        a = a >= 'A' && a <= 'Z' ? (char)(a + 32) : a;
        b = b >= 'A' && b <= 'Z' ? (char)(b + 32) : b;
        if (a != b)
            return false;
    }
    return entry.len == host.len || end.at[-1] == '.';
}

bool dp_no_proxy(const char *list, const char *host)
{
    dp_address address;
    bool is_address = dp_address_parse(&address, host, 0) == DP_OK;
    dp_slice name = without_dots((dp_slice){host, strlen(host)});
    while (*list != '\0') {
        dp_slice entry = {list, strcspn(list, ", \t")};
        list += entry.len;
        list += strspn(list, ", \t");
        if (dp_slice_is(entry, "*") ||
            (is_address ? address_matches(&address, entry) : name_matches(name, entry)))
            return true;
    }
    return false;
}

/* ---- the way through it ------------------------------------------------------------------------------ */

struct dp_tunnel {
    char proxy[TARGET_MAX]; /* "host:port", for people */
    char target[TARGET_MAX];
    bool has_credentials;
    uint8_t request[REQUEST_MAX];
    size_t request_len;
    dp_http http;
    char reason[REASON_MAX];
};

static void write_target(char out[TARGET_MAX], const char *host, uint16_t port)
{
    bool ipv6 = strchr(host, ':') != NULL;
    snprintf(out, TARGET_MAX, "%s%s%s:%" PRIu16, ipv6 ? "[" : "", host, ipv6 ? "]" : "", port);
}

int dp_tunnel_new(dp_tunnel **out, const dp_proxy *proxy, const char *host, uint16_t port)
{
    dp_tunnel *t = dp_calloc(1, sizeof(*t));
    if (t == NULL)
        return DP_ERR_NO_MEMORY;
    write_target(t->proxy, proxy->host, proxy->port);
    write_target(t->target, host, port);
    t->has_credentials = proxy->credentials[0] != '\0';
    dp_http_init(&t->http, true);
    dp_wr wr = dp_wr_init(t->request, sizeof(t->request));
    dp_wr_text(&wr, "CONNECT ");
    dp_wr_text(&wr, t->target);
    dp_wr_text(&wr, " HTTP/1.1\r\nHost: ");
    dp_wr_text(&wr, t->target);
    if (t->has_credentials) {
        char basic[(sizeof(proxy->credentials) + 2) / 3 * 4 + 1];
        dp_base64_encode(basic, (const uint8_t *)proxy->credentials, strlen(proxy->credentials));
        dp_wr_text(&wr, "\r\nProxy-Authorization: Basic ");
        dp_wr_text(&wr, basic);
        dp_wipe(basic, sizeof(basic));
    }
    dp_wr_text(&wr, "\r\n\r\n");
    int error = dp_wr_finish(&wr, &t->request_len);
    if (error != DP_OK) {
        dp_tunnel_free(t);
        return DP_ERR_INVALID_ARGUMENT;
    }
    *out = t;
    return DP_OK;
}

void dp_tunnel_free(dp_tunnel *t)
{
    if (t == NULL)
        return;
    dp_http_clear(&t->http);
    dp_wipe(t, sizeof(*t));
    dp_free(t);
}

const uint8_t *dp_tunnel_request(const dp_tunnel *t, size_t *len)
{
    *len = t->request_len;
    return t->request;
}

const char *dp_tunnel_reason(const dp_tunnel *t) { return t->reason; }

static int refused(dp_tunnel *t, const char *what)
{
    snprintf(t->reason, sizeof(t->reason), "the proxy %s %s (HTTP status %u)", t->proxy, what,
             t->http.status);
    return DP_ERR_REMOTE;
}

/* RFC 9110 §11.7.1: challenges, one behind the other, in one field or several; a parameter never looks like one. */
static bool offers_basic(const dp_http *http)
{
    dp_slice rest = {http->head, http->head_len};
    while (rest.len > 0) {
        dp_slice field = dp_slice_cut(&rest, '\n');
        if (!dp_slice_is_nocase(dp_slice_cut(&field, ':'), "Proxy-Authenticate"))
            continue;
        while (field.len > 0) {
            dp_slice challenge = dp_slice_cut(&field, ',');
            while (challenge.len > 0 && challenge.at[0] == ' ')
                challenge = (dp_slice){challenge.at + 1, challenge.len - 1};
            dp_slice scheme = dp_slice_cut(&challenge, ' ');
            if (scheme.len > 0 && scheme.at[scheme.len - 1] == '\r')
                scheme.len--;
            if (dp_slice_is_nocase(scheme, "Basic"))
                return true;
        }
    }
    return false;
}

static int check_status(dp_tunnel *t)
{
    char what[TARGET_MAX + 64];
    unsigned status = t->http.status;
    if (status >= 200 && status < 300)
        return DP_OK;
    if (status == 407 && !offers_basic(&t->http))
        return refused(t, "wants a kind of login that is not known here (only Basic is)");
    if (status == 407)
        return refused(t, t->has_credentials ? "does not take this user name and password"
                                             : "wants a user name and a password");
    const char *verb = status == 403                                       ? "does not let us connect to"
                       : status == 404 || (status >= 502 && status <= 504) ? "can't reach"
                                                                           : "refuses to connect to";
    snprintf(what, sizeof(what), "%s %s", verb, t->target);
    return refused(t, what);
}

int dp_tunnel_input(dp_tunnel *t, const uint8_t *data, size_t len)
{
    int error = dp_http_input(&t->http, &data, &len);
    if (error == DP_ERR_WOULD_BLOCK || error == DP_ERR_NO_MEMORY)
        return error;
    if (error != DP_OK) {
        snprintf(t->reason, sizeof(t->reason), "the answer of the proxy %s %s", t->proxy,
                 error == DP_ERR_TOO_LARGE ? "is too long" : "is not HTTP");
        return error;
    }
    error = check_status(t);
    /* Both TLS and WebSocket begin with the client's words: what is here already is not the server's. */
    if (error == DP_OK && len > 0) {
        snprintf(t->reason, sizeof(t->reason), "the proxy %s sends bytes of its own", t->proxy);
        return DP_ERR_PROTOCOL;
    }
    return error;
}
