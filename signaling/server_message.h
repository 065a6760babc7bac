/* A client's message as the server sees it: who it is for, and a payload that is nobody's business here. The text is
 * checked whole, for what is passed on must be JSON, but no tree is built: the payload stays where it is. */
#ifndef SIGNALING_SERVER_MESSAGE_H
#define SIGNALING_SERVER_MESSAGE_H

#include "base/text.h"
#include "base/wr.h"
#include <datapeer/signaling.h>

enum { RELAY_DEPTH_MAX = 512 }; /* of the whole message: what our client takes (METADATA_DEPTH_MAX) */

typedef enum dp_relay_type {
    RELAY_OTHER, /* unknown, missing, or not for clients to send */
    RELAY_HEARTBEAT,
    RELAY_OFFER,
    RELAY_ANSWER,
    RELAY_CANDIDATE,
    RELAY_LEAVE,
    RELAY_EXPIRE,
} dp_relay_type;

typedef struct dp_relay {
    dp_relay_type type;
    char dst[DP_PEER_ID_MAX + 1]; /* empty: none */
    dp_slice payload;             /* JSON text within the message; at is NULL if there is none */
} dp_relay;

/* text is UTF-8. MALFORMED: no JSON, too deep, not an object, or a dst that no client can have. */
int dp_relay_parse(dp_relay *out, const char *text, size_t len);

/* {"type":..,"src":..,"dst":..,"payload":..}, in npm's order. */
void dp_relay_write(dp_wr *wr, dp_relay_type type, const char *src, const char *dst, dp_slice payload);
/* At most this long. */
size_t dp_relay_size(const char *src, const char *dst, dp_slice payload);

/* Whether text is one JSON value that can be a payload. */
bool dp_relay_payload_valid(const char *text, size_t len);

/* As a JSON string; text is UTF-8 without control characters. */
void dp_json_write_string(dp_wr *wr, const char *text);

#endif
