/* A TCP port beside a UDP one (RFC 6544): streams are accepted, and their first frame tells whose they are. */
#ifndef PEER_ACCEPT_H
#define PEER_ACCEPT_H

#include <datapeer/net.h>

typedef struct acceptor acceptor;

/* A stream whose first frame has come. */
typedef struct accepted_stream {
    dp_tcp *tcp; /* whoever takes it sets a handler or closes it */
    dp_address local;
    dp_address remote;
    const char *ufrag;   /* that its first request names */
    const uint8_t *data; /* all that came, from the first byte on: in two pieces */
    size_t len;
    const uint8_t *rest;
    size_t rest_len;
} accepted_stream;

/* False: nobody here wants it. */
typedef bool (*accepted_fn)(void *user, const accepted_stream *stream);

/* IO (the port is taken), NO_MEMORY. */
int dp_acceptor_new(acceptor **out, dp_loop *loop, const dp_address *local, accepted_fn fn, void *user);
/* Streams that were given away live on. */
void dp_acceptor_free(acceptor *a);

#endif
