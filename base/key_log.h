#ifndef BASE_KEY_LOG_H
#define BASE_KEY_LOG_H

#include <datapeer/base.h>

enum { DP_KEY_LOG_RANDOM = 32, DP_KEY_LOG_MASTER_SECRET = 48 }; /* RFC 5246 §7.4.1.2, §8.1 */

/* Gives the line of one handshake of TLS or DTLS 1.2 to the log, if there is one. */
void dp_key_log_put(const dp_key_log *log, const uint8_t client_random[DP_KEY_LOG_RANDOM],
                    const uint8_t master_secret[DP_KEY_LOG_MASTER_SECRET]);

#endif
