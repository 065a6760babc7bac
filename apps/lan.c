#include "lan.h"

#include <string.h>
#include <strings.h>

static bool is_private_ipv4(const uint8_t ip[4])
{
    return ip[0] == 127 || ip[0] == 10 || (ip[0] == 172 && ip[1] >= 16 && ip[1] < 32) ||
           (ip[0] == 192 && ip[1] == 168) || (ip[0] == 169 && ip[1] == 254);
}

bool lan_is_loopback(const dp_address *address)
{
    static const uint8_t loopback[16] = {[15] = 1};
    return address->family == DP_FAMILY_IPV4
               ? address->ip[0] == 127
               : address->family == DP_FAMILY_IPV6 && memcmp(address->ip, loopback, sizeof(loopback)) == 0;
}

bool lan_is_private(const dp_address *address)
{
    const uint8_t *ip = address->ip;
    if (address->family == DP_FAMILY_IPV4)
        return is_private_ipv4(ip);
    return lan_is_loopback(address) ||
           (address->family == DP_FAMILY_IPV6 &&
            ((ip[0] & 0xfe) == 0xfc || (ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80)));
}

bool lan_has(const dp_address *address, const dp_address *own, size_t count)
{
    bool found = lan_is_private(address);
    /* RFC 4291 §2.5.4: the network's part of a public address is 64 bits long. IPv4 has no more than 32. */
    for (size_t i = 0; i < count && !found; i++)
        found = address->family == own[i].family && memcmp(address->ip, own[i].ip, 8) == 0;
    return found;
}

/* RFC 6761, RFC 6762, RFC 8375; "internal", "home" and "lan" are kept out of the public DNS, too. */
static bool is_local_name(const char *name)
{
    static const char *const domains[] = {".localhost", ".local", ".home.arpa", ".internal", ".home", ".lan"};
    size_t len = strlen(name);
    bool local = len > 0 && strchr(name, '.') == NULL;
    for (size_t i = 0; i < sizeof(domains) / sizeof(domains[0]); i++) {
        size_t n = strlen(domains[i]);
        local |= len > n && strcasecmp(name + len - n, domains[i]) == 0;
    }
    return local;
}

/* scheme "://" host [":" port]; others, as "null" of a page without an origin, are nobody's. */
bool lan_has_origin(const char *origin, const dp_address *own, size_t count)
{
    char host[256];
    dp_address address;
    const char *at = strstr(origin, "://");
    bool web = at != NULL && (strncmp(origin, "http:", 5) == 0 || strncmp(origin, "https:", 6) == 0);
    if (!web)
        return false;
    at += 3;
    bool brackets = *at == '[';
    at += brackets;
    size_t len = strcspn(at, brackets ? "]" : ":/");
    if (len >= sizeof(host))
        return false;
    memcpy(host, at, len);
    host[len] = '\0';
    if (dp_address_parse(&address, host, 0) == DP_OK)
        return lan_has(&address, own, count);
    return !brackets && is_local_name(host);
}
