#include "lan.h"

#include <string.h>

static bool is_private_ipv4(const uint8_t ip[4])
{
    return ip[0] == 127 || ip[0] == 10 || (ip[0] == 172 && ip[1] >= 16 && ip[1] < 32) ||
           (ip[0] == 192 && ip[1] == 168) || (ip[0] == 169 && ip[1] == 254);
}

bool lan_is_private(const dp_address *address)
{
    static const uint8_t loopback[16] = {[15] = 1};
    const uint8_t *ip = address->ip;
    if (address->family == DP_FAMILY_IPV4)
        return is_private_ipv4(ip);
    return address->family == DP_FAMILY_IPV6 && (memcmp(ip, loopback, 16) == 0 || (ip[0] & 0xfe) == 0xfc ||
                                                 (ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80));
}

bool lan_has(const dp_address *address, const dp_address *own, size_t count)
{
    bool found = lan_is_private(address);
    /* RFC 4291 §2.5.4: the network's part of a public address is 64 bits long. IPv4 has no more than 32. */
    for (size_t i = 0; i < count && !found; i++)
        found = address->family == own[i].family && memcmp(address->ip, own[i].ip, 8) == 0;
    return found;
}
