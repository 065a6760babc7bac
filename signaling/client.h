/* The inside of dp_signaling, shared by client.c (the state machine) and outgoing.c (what leaves). */
#ifndef SIGNALING_CLIENT_H
#define SIGNALING_CLIENT_H

#include "base/queue.h"
#include "handshake.h"
#include "http.h"
#include "messages.h"
#include "websocket.h"
#include <datapeer/signaling.h>

enum {
    MAX_EVENTS = 4096,   /* messages that one input may bring before the owner polls */
    MAX_OUTGOING = 4096, /* messages */
    MAX_OUTGOING_BYTES = 1 << 20,
    REQUEST_MAX = 4096, /* path, key, id and token at their longest, escaped, and the fields */
    REASON_MAX = 256,
};

typedef enum state {
    IDLE,
    ID_CONNECTING,
    ID_WAITING,
    CONNECTING,
    UPGRADING,
    JOINING,
    OPEN,
    CLOSING,
    STATES
} state;

/* What the owner knows of the stream. */
typedef enum stream { STREAM_NONE, STREAM_ASKED /* CONNECT has been polled */, STREAM_UP } stream;

/* Events that carry no message of a peer are flags, polled in this order; the peers' messages come after
 * OPEN. They need no memory, so the owner always learns of them. */
enum {
    PENDING_OPEN = 1,
    PENDING_ERROR = 2,
    PENDING_DISCONNECT = 4,
    PENDING_DISCONNECTED = 8,
    PENDING_CONNECT = 16,
};

typedef struct outgoing {
    char *text;
    size_t len;
} outgoing;

struct dp_signaling {
    dp_random random;
    dp_log log;
    dp_server_url server;
    char *key;
    char *token;
    char id[DP_PEER_ID_MAX + 1]; /* empty: not known yet */
    dp_duration ping_interval;
    dp_duration connect_timeout;

    state state;
    stream stream;
    bool was_open;    /* the server may still hold a socket with our id and token */
    dp_time deadline; /* of connecting, or of closing */
    dp_time takeover_at;
    dp_time ping_at;

    uint8_t request[REQUEST_MAX];
    size_t request_len, request_sent;
    dp_http http;
    char ws_key[WS_KEY_LEN + 1];
    dp_ws *ws; /* kept after the end until its close frame is taken */
    dp_time input_now;

    dp_queue outgoing; /* outgoing: handed to ws one by one */
    size_t outgoing_bytes;
    bool close_queued; /* while CLOSING: our close frame is on its way */
    dp_queue incoming; /* dp_message */
    unsigned pending;
    dp_message current; /* what the last polled event points into */
    const char *error_type;
    char reason[REASON_MAX];
};

/* Queues a copy. WOULD_BLOCK over the limits, NO_MEMORY. */
int dp_outgoing_push(dp_signaling *signaling, const char *text, size_t len);
void dp_outgoing_drop(dp_signaling *signaling);

#endif
