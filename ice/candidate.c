#include "candidate.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>

/* ---- priorities and addresses ---- */

uint32_t dp_candidate_priority(dp_candidate_type type, unsigned local_preference)
{
    /* RFC 8445 §5.1.2.2: the recommended type preferences. */
    static const uint32_t type_preference[] = {[DP_CANDIDATE_HOST] = 126,
                                               [DP_CANDIDATE_SRFLX] = 100,
                                               [DP_CANDIDATE_PRFLX] = 110,
                                               [DP_CANDIDATE_RELAY] = 0};
    return type_preference[type] << 24 | (local_preference & 0xFFFFu) << 8 | (256u - 1u);
}

uint32_t dp_candidate_tcp_priority(dp_candidate_type type, unsigned local_preference)
{
    /* RFC 6544 §4.2: below UDP's. All TCP pairs have an active and a passive end, so its direction preference would
     * change nothing. */
    uint32_t type_preference = type == DP_CANDIDATE_HOST ? 90 : 80;
    return type_preference << 24 | (local_preference & 0xFFFFu) << 8 | (256u - 1u);
}

uint64_t dp_candidate_pair_priority(uint32_t g, uint32_t d)
{
    uint64_t low = g < d ? g : d;
    uint64_t high = g < d ? d : g;
    return (low << 32) + 2 * high + (g > d ? 1 : 0);
}

bool dp_address_is_link_local(const dp_address *address)
{
    if (address->family == DP_FAMILY_IPV4)
        return address->ip[0] == 169 && address->ip[1] == 254;
    return address->family == DP_FAMILY_IPV6 && address->ip[0] == 0xFE && (address->ip[1] & 0xC0) == 0x80;
}

bool dp_address_is_loopback(const dp_address *address)
{
    static const uint8_t loopback6[16] = {[15] = 1};
    if (address->family == DP_FAMILY_IPV4)
        return address->ip[0] == 127;
    return address->family == DP_FAMILY_IPV6 && memcmp(address->ip, loopback6, 16) == 0;
}

bool dp_address_is_unicast(const dp_address *address)
{
    static const uint8_t unspecified[16] = {0};
    static const uint8_t mapped4[12] = {[10] = 0xFF, [11] = 0xFF};
    if (address->port == 0)
        return false;
    if (address->family ==
        DP_FAMILY_IPV4) /* 0/8 "this network", 224/4 multicast, 240/4 reserved and broadcast */
        return address->ip[0] != 0 && address->ip[0] < 224;
    return address->family == DP_FAMILY_IPV6 && address->ip[0] != 0xFF &&
           memcmp(address->ip, unspecified, 16) != 0 && memcmp(address->ip, mapped4, 12) != 0;
}

bool dp_ice_chars_valid(const char *text, size_t len, size_t min, size_t max)
{
    if (len < min || len > max)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '+' ||
                  c == '/';
        if (!ok)
            return false;
    }
    return true;
}

/* ---- the candidate attribute, RFC 8839 §5.1
 * -------------------------------------------------------------------
 *
 *   candidate:FOUNDATION COMPONENT TRANSPORT PRIORITY ADDRESS PORT typ TYPE [raddr ADDRESS] [rport PORT]
 * *(NAME VALUE)
 */

static const char *const type_names[] = {
    [DP_CANDIDATE_HOST] = "host",
    [DP_CANDIDATE_SRFLX] = "srflx",
    [DP_CANDIDATE_PRFLX] = "prflx",
    [DP_CANDIDATE_RELAY] = "relay",
};
static const char *const tcptype_names[] = {[DP_TCPTYPE_NONE] = "",
                                            [DP_TCPTYPE_ACTIVE] = "active",
                                            [DP_TCPTYPE_PASSIVE] = "passive",
                                            [DP_TCPTYPE_SO] = "so"};
#define TYPE_COUNT (sizeof type_names / sizeof type_names[0])

/* The next word; words may be parted by more than one space. An empty slice at the end. */
static dp_slice next_word(dp_slice *rest)
{
    while (rest->len > 0 && rest->at[0] == ' ') {
        rest->at++;
        rest->len--;
    }
    return dp_slice_cut(rest, ' ');
}

static bool hostname_valid(dp_slice text)
{
    if (text.len == 0 || text.len > 255)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                  c == '-' || c == '_';
        if (!ok)
            return false;
    }
    return true;
}

/* A numeric address, or a name when hostname is given. */
static int parse_address(dp_address *out, char *hostname, dp_slice word)
{
    char text[256];
    int err = dp_slice_copy(text, sizeof text, word);
    if (err == DP_OK)
        err = dp_address_parse(out, text, 0);
    if (err == DP_OK)
        return DP_OK;
    memset(out, 0, sizeof *out);
    if (hostname == NULL || memchr(word.at, ':', word.len) != NULL || !hostname_valid(word))
        return DP_ERR_MALFORMED;
    return dp_slice_copy(hostname, sizeof text, word);
}

static int parse_number(uint64_t *out, dp_slice *rest, uint64_t min, uint64_t max)
{
    int err = dp_slice_to_u64(out, next_word(rest), max);
    return err == DP_OK && *out < min ? DP_ERR_MALFORMED : err;
}

static int parse_transport(bool *tcp, dp_slice word)
{
    *tcp = dp_slice_is_nocase(word, "tcp");
    if (*tcp || dp_slice_is_nocase(word, "udp"))
        return DP_OK;
    return word.len == 0 ? DP_ERR_MALFORMED : DP_ERR_UNSUPPORTED;
}

static int parse_type(dp_candidate_type *out, dp_slice word)
{
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        if (dp_slice_is(word, type_names[i])) {
            *out = (dp_candidate_type)i;
            return DP_OK;
        }
    }
    return word.len == 0 ? DP_ERR_MALFORMED : DP_ERR_UNSUPPORTED;
}

static int parse_extension(dp_candidate *out, dp_slice name, dp_slice value)
{
    uint64_t number = 0;
    if (dp_slice_is(name, "raddr")) {
        /* A name or a masked address is fine: raddr is for people who read logs, nothing depends on it. */
        uint16_t port = out->related.port;
        (void)parse_address(&out->related, NULL, value);
        out->related.port = port;
    } else if (dp_slice_is(name, "rport")) {
        if (dp_slice_to_u64(&number, value, UINT16_MAX) != DP_OK)
            return DP_ERR_MALFORMED;
        out->related.port = (uint16_t)number;
    } else if (dp_slice_is(name, "tcptype")) {
        out->tcptype = DP_TCPTYPE_NONE; /* one that is not known is as good as none */
        for (int i = DP_TCPTYPE_ACTIVE; i <= DP_TCPTYPE_SO; i++) {
            if (dp_slice_is_nocase(value, tcptype_names[i]))
                out->tcptype = (dp_tcptype)i;
        }
    } else if (dp_slice_is(name, "ufrag")) {
        if (!dp_ice_chars_valid(value.at, value.len, 1, sizeof out->ufrag - 1))
            return DP_ERR_MALFORMED;
        memset(out->ufrag, 0, sizeof out->ufrag); /* a second one may be shorter */
        return dp_slice_copy(out->ufrag, sizeof out->ufrag, value);
    }
    return DP_OK;
}

/* From COMPONENT to TYPE. */
static int parse_fields(dp_candidate *out, dp_slice *rest)
{
    uint64_t component = 0;
    uint64_t priority = 0;
    uint64_t port = 0;
    int err = parse_number(&component, rest, 1, 256);
    if (err == DP_OK)
        err = parse_transport(&out->tcp, next_word(rest));
    if (err == DP_OK)
        err = parse_number(&priority, rest, 1, UINT32_MAX);
    if (err == DP_OK)
        err = parse_address(&out->address, out->hostname, next_word(rest));
    if (err == DP_OK)
        err = parse_number(&port, rest, 0, UINT16_MAX);
    if (err == DP_OK && !dp_slice_is(next_word(rest), "typ"))
        err = DP_ERR_MALFORMED;
    if (err == DP_OK)
        err = parse_type(&out->type, next_word(rest));
    out->component = (unsigned)component;
    out->priority = (uint32_t)priority;
    out->address.port = (uint16_t)port;
    return err;
}

static bool skip_prefix(dp_slice *rest, const char *prefix)
{
    size_t n = strlen(prefix);
    if (rest->len < n || memcmp(rest->at, prefix, n) != 0)
        return false;
    rest->at += n;
    rest->len -= n;
    return true;
}

static bool has_control_characters(dp_slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.at[i] < 0x20 || text.at[i] == 0x7F)
            return true;
    }
    return false;
}

int dp_candidate_parse(dp_candidate *out, const char *text, size_t len)
{
    dp_slice rest = {text, len};
    memset(out, 0, sizeof *out);
    while (rest.len > 0 && (rest.at[rest.len - 1] == '\n' || rest.at[rest.len - 1] == '\r'))
        rest.len--;
    (void)skip_prefix(&rest, "a=");
    if (has_control_characters(rest) || !skip_prefix(&rest, "candidate:"))
        return DP_ERR_MALFORMED;
    dp_slice foundation = dp_slice_cut(&rest, ' ');
    if (!dp_ice_chars_valid(foundation.at, foundation.len, 1, sizeof out->foundation - 1))
        return DP_ERR_MALFORMED;
    int err = dp_slice_copy(out->foundation, sizeof out->foundation, foundation);
    if (err == DP_OK)
        err = parse_fields(out, &rest);
    while (err == DP_OK) {
        dp_slice name = next_word(&rest);
        dp_slice value = next_word(&rest);
        if (name.len == 0)
            return DP_OK;
        err = value.len == 0 ? DP_ERR_MALFORMED : parse_extension(out, name, value);
    }
    return err;
}

/* Appends to out; *at stays <= capacity, and equal to it once something did not fit. */
DP_PRINTF(4, 5) static void append(char *out, size_t capacity, size_t *at, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = *at < capacity ? vsnprintf(out + *at, capacity - *at, format, args) : -1;
    va_end(args);
    *at = n < 0 || (size_t)n >= capacity - *at ? capacity : *at + (size_t)n;
}

int dp_candidate_format(const dp_candidate *candidate, char *out, size_t capacity)
{
    char ip[DP_ADDRESS_TEXT_MAX];
    size_t at = 0;
    /* A zone is a matter of this machine alone: never on the wire. */
    dp_address address = candidate->address;
    dp_address related = candidate->related;
    address.scope = 0;
    related.scope = 0;
    const char *host =
        candidate->hostname[0] != '\0' ? candidate->hostname : dp_address_format_ip(&address, ip);
    append(out, capacity, &at, "candidate:%s %u %s %lu %s %u typ %s", candidate->foundation,
           candidate->component, candidate->tcp ? "tcp" : "udp", (unsigned long)candidate->priority, host,
           address.port, type_names[candidate->type]);
    if (related.family != DP_FAMILY_NONE)
        append(out, capacity, &at, " raddr %s", dp_address_format_ip(&related, ip));
    if (related.family != DP_FAMILY_NONE || related.port != 0)
        append(out, capacity, &at, " rport %u", related.port);
    if (candidate->tcptype != DP_TCPTYPE_NONE)
        append(out, capacity, &at, " tcptype %s", tcptype_names[candidate->tcptype]);
    if (candidate->ufrag[0] != '\0')
        append(out, capacity, &at, " ufrag %s", candidate->ufrag);
    return at < capacity ? DP_OK : DP_ERR_NO_SPACE;
}
