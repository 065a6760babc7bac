/* TLS 1.2 (RFC 5246) between bytes and bytes: no socket in it. tcp.c brings what arrived with dp_tls_input, and gives
 * the network what dp_tls_output holds after any other call. */
#ifndef NET_TLS_H
#define NET_TLS_H

#include <datapeer/net.h>

enum { DP_TLS_PLAIN_MAX = 16384 }; /* of one record (RFC 5246 §6.2.1) */

typedef struct dp_tls dp_tls;

/* The client's side. NO_MEMORY, IO (authorities), INVALID_ARGUMENT (server_name). */
int dp_tls_connect(dp_tls **out, dp_loop *loop, const dp_tls_options *options);
/* The server's. NO_MEMORY. */
int dp_tls_accept(dp_tls **out, dp_tls_server *server);
void dp_tls_free(dp_tls *tls);

/* Borrowed until handshake or read says WOULD_BLOCK: then all of it was consumed. */
void dp_tls_input(dp_tls *tls, const uint8_t *bytes, size_t len);
/* WOULD_BLOCK: more input is needed. Any other error is final; dp_tls_reason tells it. */
int dp_tls_handshake(dp_tls *tls);
/* As above; CLOSED: the peer said goodbye. out has room for DP_TLS_PLAIN_MAX bytes. */
int dp_tls_read(dp_tls *tls, uint8_t *out, size_t *len);
/* Seals at most one record's worth; taken says how much. */
int dp_tls_write(dp_tls *tls, const uint8_t *data, size_t len, size_t *taken);
/* Says goodbye. */
void dp_tls_goodbye(dp_tls *tls);
const uint8_t *dp_tls_output(const dp_tls *tls, size_t *len);
void dp_tls_sent(dp_tls *tls, size_t len);
/* For people; who the peer is stands in it. */
const char *dp_tls_reason(const dp_tls *tls);

/* ---- what streams hold of a dp_tls_server ---- */

dp_tls_server *dp_tls_server_hold(dp_tls_server *server); /* free lets go */
dp_duration dp_tls_server_timeout(const dp_tls_server *server);
/* Whether this address may begin a handshake. */
bool dp_tls_server_admits(dp_tls_server *server, const dp_address *remote, dp_time now);
/* Whether these bytes, the first ones, begin one. */
bool dp_tls_is_handshake(const uint8_t *bytes, size_t len);

/* A stream in its handshake; over max_handshakes the oldest one's drop is called. */
typedef struct dp_tls_waiter {
    struct dp_tls_waiter *next, **at; /* at NULL: not in the list */
    void (*drop)(void *user);
    void *user;
} dp_tls_waiter;
void dp_tls_server_enter(dp_tls_server *server, dp_tls_waiter *waiter);
void dp_tls_server_leave(dp_tls_server *server, dp_tls_waiter *waiter);

#endif
