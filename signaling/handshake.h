/* The opening handshake of a WebSocket client, RFC 6455 §4.1. */
#ifndef SIGNALING_HANDSHAKE_H
#define SIGNALING_HANDSHAKE_H

#include "base/wr.h"
#include "http.h"
#include <datapeer/signaling.h>

enum { WS_KEY_LEN = 24, WS_ACCEPT_LEN = 28 }; /* base64 of 16 and of 20 bytes */

/* A fresh Sec-WebSocket-Key. DP_ERR_CRYPTO. */
int dp_ws_make_key(char key[WS_KEY_LEN + 1], const dp_random *random);
/* Header fields of the request, from Host to the blank line. */
void dp_ws_write_fields(dp_wr *wr, const dp_server_url *url, const char *key);
/* What a server answers to key: base64(SHA-1(key GUID)). DP_ERR_CRYPTO. */
int dp_ws_accept(char accept[WS_ACCEPT_LEN + 1], const char *key);
/* Checks the complete head. On failure *reason is a static text: PROTOCOL, CRYPTO. */
int dp_ws_check_response(const dp_http *http, const char *key, const char **reason);

#endif
