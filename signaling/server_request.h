/* The request side of an HTTP/1.1 server (RFC 9112): heads only. A request with a body is told apart, but its body is
 * nobody's, and the connection ends with the answer. Stricter than a client's parser: two readings of one request are
 * how requests are smuggled. */
#ifndef SIGNALING_SERVER_REQUEST_H
#define SIGNALING_SERVER_REQUEST_H

#include "base/text.h"

enum {
    REQUEST_HEAD_MAX = 16384,
    REQUEST_FIELDS_MAX = 100,
};

typedef struct dp_request {
    char *head; /* grows with what has come; slices point into it */
    size_t len, capacity;
    dp_slice method;
    dp_slice path;  /* of the target, still escaped */
    dp_slice query; /* behind its "?" */
    bool keep_alive;
    bool has_body;
} dp_request;

/* Zero-initialised it is ready. */
void dp_request_clear(dp_request *request);

/* Takes bytes off the front of *data. DP_OK: the head is complete (what is left is not part of it); WOULD_BLOCK: more
 * is needed; MALFORMED; UNSUPPORTED: another version of HTTP; TOO_LARGE; NO_MEMORY. */
int dp_request_input(dp_request *request, const uint8_t **data, size_t *len);

/* As dp_http_field and dp_http_field_has. */
size_t dp_request_field(const dp_request *request, const char *name, dp_slice *value);
bool dp_request_field_has(const dp_request *request, const char *name, const char *token);

/* The last value of a parameter of the query, as URLSearchParams reads it: "+" is a space, %XX a byte, what is no %XX stays
 * as it is. False: absent, or longer than capacity - 1, or with a NUL in it. */
bool dp_query_get(dp_slice query, const char *name, char *out, size_t capacity);
/* Decodes %XX of a path. False: too long, a NUL, or not UTF-8. */
bool dp_path_decode(dp_slice path, char *out, size_t capacity);

#endif
