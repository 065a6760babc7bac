/* Words that go into a request line, and ids that come out of messages. */
#ifndef SIGNALING_URL_H
#define SIGNALING_URL_H

#include "base/text.h"
#include "base/wr.h"
#include <datapeer/signaling.h>

/* An id of somebody else: PeerServer lets clients choose freely, so only what could hurt is refused: no
 * bytes, over DP_PEER_ID_MAX bytes, control characters, NUL, invalid UTF-8. */
bool dp_peer_id_harmless(dp_slice id);

/* Off the front of an authority: a name or IPv4 address, or an IPv6 address in brackets, which are dropped. MALFORMED. */
int dp_url_take_host(char *out, size_t capacity, dp_slice *authority);
/* What is left then: ":port", or nothing, which leaves *out as it is. MALFORMED. */
int dp_url_take_port(uint16_t *out, dp_slice rest);

/* RFC 3986 §2.1: everything but unreserved characters as %XX. */
void dp_url_write_escaped(dp_wr *wr, const char *text);
/* The value of the Host header (RFC 9110 §7.2): brackets around IPv6, no port if it is the scheme's own. */
void dp_url_write_host(dp_wr *wr, const dp_server_url *url);

#endif
