#include <datapeer/net.h>

#include "net/sockaddr.h"
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HOST_MAX = 255 };

/* "192.0.2.1", "2001:db8::1", "[2001:db8::1]", "fe80::1%eth0", "fe80::1%3". */
static int parse_numeric(dp_address *out, const char *host, uint16_t port)
{
    char ip[HOST_MAX + 1];
    size_t len = strlen(host);
    if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
        host++;
        len -= 2;
    }
    if (len > HOST_MAX)
        return DP_ERR_MALFORMED;
    memcpy(ip, host, len);
    ip[len] = '\0';
    char *zone = strchr(ip, '%');
    if (zone != NULL)
        *zone++ = '\0';
    dp_address address;
    int error = dp_address_parse(&address, ip, port);
    if (error != DP_OK || zone == NULL) {
        if (error == DP_OK)
            *out = address;
        return error;
    }
    unsigned long index = if_nametoindex(zone);
    if (index == 0) {
        char *end;
        index = strtoul(zone, &end, 10);
        if (*zone < '0' || *zone > '9' || *end != '\0' || index == 0 || index > UINT32_MAX)
            return DP_ERR_MALFORMED;
    }
    if (address.family != DP_FAMILY_IPV6)
        return DP_ERR_MALFORMED;
    address.scope = (uint32_t)index;
    *out = address;
    return DP_OK;
}

/* RFC 6761 §6.3: localhost and the names below it are the loopback addresses, whatever a name server says. */
static bool is_localhost(const char *host)
{
    static const char name[] = "localhost";
    size_t len = strlen(host);
    if (len > 0 && host[len - 1] == '.')
        len--;
    if (len < sizeof(name) - 1 || strncasecmp(host + len - (sizeof(name) - 1), name, sizeof(name) - 1) != 0)
        return false;
    return len == sizeof(name) - 1 || host[len - sizeof(name)] == '.';
}

static int from_gai(int error)
{
    switch (error) {
    case EAI_NONAME:
    case EAI_NODATA:
    case EAI_ADDRFAMILY:
        return DP_ERR_NOT_FOUND;
    case EAI_MEMORY:
        return DP_ERR_NO_MEMORY;
    case EAI_AGAIN:
        return DP_ERR_TIMEOUT;
    default:
        return DP_ERR_IO;
    }
}

static int ask_system(const char *host, uint16_t port, dp_address *out, size_t capacity, size_t *count)
{
    /* One socket type, or every address comes three times. */
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int error = getaddrinfo(host, NULL, &hints, &list);
    if (error != 0)
        return from_gai(error);
    size_t n = 0;
    for (const struct addrinfo *a = list; a != NULL && n < capacity; a = a->ai_next) {
        union dp_sockaddr address;
        if (a->ai_addrlen > sizeof(address))
            continue;
        memset(&address, 0, sizeof(address));
        memcpy(&address, a->ai_addr, a->ai_addrlen);
        dp_sockaddr_to(&out[n], &address);
        out[n].port = port;
        if (out[n].family != DP_FAMILY_NONE)
            n++;
    }
    freeaddrinfo(list);
    *count = n;
    return n > 0 ? DP_OK : DP_ERR_NOT_FOUND;
}

int dp_resolve(const char *host, uint16_t port, dp_address *out, size_t capacity, size_t *count)
{
    *count = 0;
    size_t len = strlen(host);
    if (capacity == 0 || len == 0 || len > HOST_MAX)
        return DP_ERR_INVALID_ARGUMENT;
    if (parse_numeric(&out[0], host, port) == DP_OK) {
        *count = 1;
        return DP_OK;
    }
    if (is_localhost(host)) {
        (void)dp_address_parse(&out[(*count)++], "127.0.0.1", port);
        if (*count < capacity)
            (void)dp_address_parse(&out[(*count)++], "::1", port);
        return DP_OK;
    }
    /* Not a number and not a name either; getaddrinfo would ask a name server for it. */
    if (strpbrk(host, "[]:%/ ") != NULL)
        return DP_ERR_NOT_FOUND;
    return ask_system(host, port, out, capacity, count);
}
