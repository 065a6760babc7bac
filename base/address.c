#include <datapeer/base.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

int dp_address_parse(dp_address *out, const char *ip, uint16_t port)
{
    dp_address address = {.port = port};
    if (inet_pton(AF_INET, ip, address.ip) == 1)
        address.family = DP_FAMILY_IPV4;
    else if (inet_pton(AF_INET6, ip, address.ip) == 1)
        address.family = DP_FAMILY_IPV6;
    else
        return DP_ERR_MALFORMED;
    *out = address;
    return DP_OK;
}

const char *dp_address_format_ip(const dp_address *address, char text[DP_ADDRESS_TEXT_MAX])
{
    int family = address->family == DP_FAMILY_IPV4 ? AF_INET : AF_INET6;
    if (address->family == DP_FAMILY_NONE ||
        inet_ntop(family, address->ip, text, DP_ADDRESS_TEXT_MAX) == NULL)
        snprintf(text, DP_ADDRESS_TEXT_MAX, "none");
    return text;
}

const char *dp_address_format(const dp_address *address, char text[DP_ADDRESS_TEXT_MAX])
{
    char ip[DP_ADDRESS_TEXT_MAX];
    dp_address_format_ip(address, ip);
    bool brackets = address->family == DP_FAMILY_IPV6;
    snprintf(text, DP_ADDRESS_TEXT_MAX, "%s%.45s%s:%u", brackets ? "[" : "", ip, brackets ? "]" : "",
             (unsigned)address->port);
    return text;
}

bool dp_address_equal(const dp_address *a, const dp_address *b)
{
    bool scope_differs = a->scope != 0 && b->scope != 0 && a->scope != b->scope;
    size_t len = a->family == DP_FAMILY_IPV4 ? 4 : 16;
    return a->family == b->family && a->port == b->port && !scope_differs && memcmp(a->ip, b->ip, len) == 0;
}

bool dp_address_same_ip(const dp_address *a, const dp_address *b)
{
    dp_address other = *a;
    other.port = b->port;
    return dp_address_equal(&other, b);
}
