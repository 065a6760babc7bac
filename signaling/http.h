/* The response side of an HTTP/1.1 client (RFC 9112), as far as PeerServer needs it: one response a
 * connection. */
#ifndef SIGNALING_HTTP_H
#define SIGNALING_HTTP_H

#include "base/text.h"

enum {
    HTTP_HEAD_MAX = 16384, /* status line and header fields, informational responses included */
    HTTP_BODY_MAX = 1024,  /* the only body that is wanted is a peer id */
};

typedef enum dp_http_phase {
    HTTP_HEAD,
    HTTP_BODY,        /* `left` more bytes (Content-Length) */
    HTTP_BODY_TO_END, /* until the stream ends */
    HTTP_CHUNK_SIZE,
    HTTP_CHUNK_DATA, /* `left` more bytes of the chunk */
    HTTP_CHUNK_END,  /* the line end after the data */
    HTTP_TRAILER,
    HTTP_DONE,
} dp_http_phase;

typedef struct dp_http {
    dp_http_phase phase;
    bool head_only; /* an upgrade: what follows the head is not HTTP */
    unsigned status;
    char *head; /* grows with what has come, up to HTTP_HEAD_MAX */
    size_t head_len, head_capacity, head_total;
    uint64_t left;
    char line[32]; /* a chunk-size or trailer line, as far as it matters */
    size_t line_len;
    char body[HTTP_BODY_MAX];
    size_t body_len;
} dp_http;

void dp_http_init(dp_http *http, bool head_only);
void dp_http_clear(dp_http *http);

/* Takes bytes off the front of *data. DP_OK: the response is complete (what is left is not part of it);
 * WOULD_BLOCK: more is needed; MALFORMED, TOO_LARGE, UNSUPPORTED, NO_MEMORY. */
int dp_http_input(dp_http *http, const uint8_t **data, size_t *len);
/* The stream has ended: DP_OK if that completes the response, else TRUNCATED. */
int dp_http_end(dp_http *http);

/* What requests and responses share. A head is the first line and the fields with their line ends, the blank line
 * included. How often a field occurs (value is the first one), and whether a comma-separated one (all its occurrences)
 * holds the token; case does not matter. */
size_t dp_http_head_field(dp_slice head, const char *name, dp_slice *value);
bool dp_http_head_has(dp_slice head, const char *name, const char *token);
/* Cuts off one line, without its end. */
dp_slice dp_http_next_line(dp_slice *rest);
/* field-name ":" OWS field-value OWS. No folding (RFC 9112 §5.2), no space before the colon (§5.1). */
bool dp_http_field_valid(dp_slice line);

/* How often a header field occurs; value is the first one. Only after the head is complete. */
size_t dp_http_field(const dp_http *http, const char *name, dp_slice *value);
/* Whether a comma-separated field (all its occurrences) holds the token; case does not matter. */
bool dp_http_field_has(const dp_http *http, const char *name, const char *token);

#endif
