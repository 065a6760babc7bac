/* PeerServer's messages, JSON text (PeerJS 1.5). */
#ifndef SIGNALING_MESSAGES_H
#define SIGNALING_MESSAGES_H

#include "base/text.h"
#include "base/wr.h"
#include <datapeer/signaling.h>

enum {
    MESSAGE_DEPTH_MAX = 16,
    METADATA_DEPTH_MAX = 512, /* with what is around it; cJSON itself goes to 1000 */
};

typedef enum dp_message_type {
    MESSAGE_IGNORED, /* well-formed, nothing to us: media calls, unknown types */
    MESSAGE_OPEN,
    MESSAGE_ERROR, /* error */
    MESSAGE_ID_TAKEN,
    MESSAGE_INVALID_KEY,
    MESSAGE_LEAVE,  /* src */
    MESSAGE_EXPIRE, /* src */
    MESSAGE_OFFER,
    MESSAGE_ANSWER,
    MESSAGE_CANDIDATE,
} dp_message_type;

/* Strings are NUL-terminated and live in block. */
typedef struct dp_message {
    dp_message_type type;
    const char *src;
    const char *connection_id;
    const char *sdp;
    const char *label;
    const char *serialization;
    const char *metadata;
    bool reliable;
    unsigned restart;
    bool knows_restart;
    const char *candidate;
    const char *mid;
    unsigned mline_index;
    const char *error;
    char *block;
} dp_message;

/* DP_ERR_MALFORMED (*reason is a static text), TOO_LARGE, NO_MEMORY. Clear it afterwards if DP_OK. */
int dp_message_parse(dp_message *out, const char **reason, const char *text, size_t len);
void dp_message_clear(dp_message *message);

/* Whether text is one whole JSON value that parse would accept as metadata. */
bool dp_metadata_valid(const char *text, size_t len);

/* Written as PeerJS 1.5.5 does, keys in its order, ours behind them. Arguments are valid UTF-8. */
void dp_message_write_offer(dp_wr *wr, const char *dst, const dp_signaling_offer *offer);
void dp_message_write_answer(dp_wr *wr, const char *dst, const char *connection_id, const char *sdp,
                             unsigned restart);
void dp_message_write_candidate(dp_wr *wr, const char *dst, const char *connection_id, const char *candidate,
                                const char *mid, unsigned mline_index, const char *ufrag);

#endif
