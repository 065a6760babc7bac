/* What the agent computes about candidates and their addresses (RFC 8445 §5.1). */
#ifndef ICE_CANDIDATE_H
#define ICE_CANDIDATE_H

#include <datapeer/ice.h>

/* RFC 8445 §5.1.2.1. local_preference 0-65535, component 1. */
uint32_t dp_candidate_priority(dp_candidate_type type, unsigned local_preference);
uint32_t dp_candidate_tcp_priority(dp_candidate_type type, unsigned local_preference);
/* RFC 8445 §6.1.2.3: g is the controlling agent's candidate priority, d the controlled one's. */
uint64_t dp_candidate_pair_priority(uint32_t g, uint32_t d);

bool dp_address_is_link_local(const dp_address *address);
bool dp_address_is_loopback(const dp_address *address);
/* False for what no peer can own: port 0, unspecified, multicast, broadcast, reserved, IPv4-mapped IPv6. */
bool dp_address_is_unicast(const dp_address *address);
/* True for one or more ice-char (RFC 8839 §5.1), at least min and at most max of them. */
bool dp_ice_chars_valid(const char *text, size_t len, size_t min, size_t max);

#endif
