/* The stream to the PeerServer: TCP, through an HTTP proxy if there is one, TLS on it if the URL says so. */
#ifndef PEER_SERVER_STREAM_H
#define PEER_SERVER_STREAM_H

#include <datapeer/net.h>
#include <datapeer/signaling.h>

/* Called from the loop, never inside a call of the owner's. */
typedef struct server_stream_handler {
    void (*on_up)(void *user);
    void (*on_data)(void *user, const uint8_t *data, size_t len);
    void (*on_drained)(void *user);
    /* The stream is gone already. tls: TCP was there, but no TLS that can be trusted. */
    void (*on_down)(void *user, bool tls, const char *reason);
    void *user;
} server_stream_handler;

typedef struct server_stream_config {
    dp_loop *loop;
    dp_random random;
    dp_log log;
    dp_key_log key_log;
    const char *ca_file; /* see dp_tls_options; copied */
    bool insecure;
    const char *proxy; /* URL, NULL: none; copied */
    server_stream_handler handler;
} server_stream_config;

typedef struct server_stream server_stream;

/* MALFORMED, UNSUPPORTED: as from dp_proxy_parse; NO_MEMORY. */
int dp_server_stream_new(server_stream **out, const server_stream_config *config);
/* Another one by the same way. NO_MEMORY. */
int dp_server_stream_new_like(server_stream **out, const server_stream *s,
                              const server_stream_handler *handler);
void dp_server_stream_free(server_stream *s);
/* What was open before is closed. */
void dp_server_stream_open(server_stream *s, const char *host, uint16_t port, bool secure);
/* No callback afterwards. */
void dp_server_stream_close(server_stream *s);
/* What is sent goes through; NULL before on_up and after the end. */
dp_tcp *dp_server_stream_tcp(const server_stream *s);
/* Neither up nor on the way there, and on_down has told. */
bool dp_server_stream_is_closed(const server_stream *s);

#endif
