/* Which addresses are those of a home's own network: what 'datapeer serve' answers unless it is told otherwise. */
#ifndef APPS_LAN_H
#define APPS_LAN_H

#include <datapeer/base.h>

bool lan_is_loopback(const dp_address *address);
/* Private (RFC 1918, RFC 4193), link-local, loopback. */
bool lan_is_private(const dp_address *address);
/* Those, own[0..count), and the public IPv6 addresses that share a prefix of 64 bits with one of them. */
bool lan_has(const dp_address *address, const dp_address *own, size_t count);
/* Whether a page of this Origin (RFC 6454 §7) comes from such an address, or from a name that no stranger can have: one
 * without a dot, or of a domain that the public DNS does not delegate. (Any other could lead here, too, if its owner has it
 * name our address, so the name that we are asked by says nothing.) */
bool lan_has_origin(const char *origin, const dp_address *own, size_t count);

#endif
