/* The client side of TLS 1.2 (RFC 5246) between bytes and bytes: no socket in it. tcp.c brings what arrived with
 * dp_tls_input, and gives the network what dp_tls_output holds after any other call. */
#ifndef NET_TLS_H
#define NET_TLS_H

#include <datapeer/net.h>

typedef struct dp_tls dp_tls;

/* NO_MEMORY, IO (authorities), INVALID_ARGUMENT (server_name). */
int dp_tls_new(dp_tls **out, dp_loop *loop, const dp_tls_options *options);
void dp_tls_free(dp_tls *tls);

/* Borrowed until handshake or read says WOULD_BLOCK: then all of it was consumed. */
void dp_tls_input(dp_tls *tls, const uint8_t *bytes, size_t len);
/* WOULD_BLOCK: more input is needed. Any other error is final; dp_tls_reason tells it. */
int dp_tls_handshake(dp_tls *tls);
/* As above; CLOSED: the peer said goodbye. */
int dp_tls_read(dp_tls *tls, uint8_t *out, size_t capacity, size_t *len);
/* Seals at most one record's worth; taken says how much. */
int dp_tls_write(dp_tls *tls, const uint8_t *data, size_t len, size_t *taken);
/* Says goodbye. */
void dp_tls_goodbye(dp_tls *tls);
const uint8_t *dp_tls_output(const dp_tls *tls, size_t *len);
void dp_tls_sent(dp_tls *tls, size_t len);
/* For people; the name of the server is in it. */
const char *dp_tls_reason(const dp_tls *tls);

/* The loop's list of authorities. */
void dp_tls_authorities_free(dp_loop *loop);

#endif
