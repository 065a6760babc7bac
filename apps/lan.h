/* Which addresses are those of a home's own network: what 'datapeer serve' answers unless it is told otherwise. */
#ifndef APPS_LAN_H
#define APPS_LAN_H

#include <datapeer/base.h>

/* Private (RFC 1918, RFC 4193), link-local, loopback. */
bool lan_is_private(const dp_address *address);
/* Those, own[0..count), and the public IPv6 addresses that share a prefix of 64 bits with one of them. */
bool lan_has(const dp_address *address, const dp_address *own, size_t count);

#endif
