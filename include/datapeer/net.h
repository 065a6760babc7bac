/* The only part that makes system calls: a one-thread event loop (epoll) with timers, UDP sockets in batches,
 * TCP streams, signals, interfaces, name resolution and the clocks. It can be driven from a foreign loop
 * through dp_loop_fd. */
#ifndef DATAPEER_NET_H
#define DATAPEER_NET_H

#include <datapeer/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* CLOCK_MONOTONIC. */
DP_API dp_time dp_clock_now(void);
/* Wall clock, seconds since 1970. */
DP_API int64_t dp_clock_unix(void);

/* What is wrong with a file, for people: names it and says what to do about it. */
typedef struct dp_file_error {
    char message[512];
} dp_file_error;

/* ---- loop and timers ---------------------------------------------------------------------------- */

/* Callbacks run only inside dp_loop_step, never inside another call. A callback may close or free any object
 * of the loop, its own included; events of this round for it are dropped. It must not call dp_loop_step or
 * free the loop. */
typedef struct dp_loop dp_loop;

DP_API int dp_loop_new(dp_loop **out);
/* After everything that was opened on it was closed. */
DP_API void dp_loop_free(dp_loop *loop);
/* Waits for and handles events until dp_loop_stop. IO. */
DP_API int dp_loop_run(dp_loop *loop);
/* Ends dp_loop_run after this round, or the next dp_loop_run at once. */
DP_API void dp_loop_stop(dp_loop *loop);
/* One round: waits at most max_wait (0: not at all, DP_TIME_NEVER: as long as needed) and handles what is
 * there. IO; INVALID_STATE inside a callback. */
DP_API int dp_loop_step(dp_loop *loop, dp_duration max_wait);
/* For a foreign loop: becomes readable when dp_loop_step(loop, 0) has something to do... */
DP_API int dp_loop_fd(const dp_loop *loop);
/* ...or when this time is reached. */
DP_API dp_time dp_loop_next_timeout(const dp_loop *loop);
/* The time at which this round began: what state machines are given as now. */
DP_API dp_time dp_loop_now(const dp_loop *loop);

/* A timer lives in its owner's struct; zero-initialised it is off. */
typedef struct dp_timer {
    void (*fn)(void *user);
    void *user;
    dp_time at;
    size_t index; /* the loop's */
    dp_loop *loop;
} dp_timer;

/* Fires once at the given time (in this round or the next if it is past); set again to move it; DP_TIME_NEVER
 * turns it off. NO_MEMORY. */
DP_API int dp_timer_set(dp_loop *loop, dp_timer *timer, dp_time at);
DP_API void dp_timer_stop(dp_timer *timer);

/* Runs fn once before the loop waits again ("later in this round"); for work that must not happen inside a
 * callback. */
typedef struct dp_deferred {
    void (*fn)(void *user);
    void *user;
    struct dp_deferred *next; /* the loop's */
    dp_loop *loop;            /* not NULL while queued */
} dp_deferred;
DP_API void dp_defer(dp_loop *loop, dp_deferred *deferred);
DP_API void dp_undefer(dp_deferred *deferred);

/* A file descriptor of the owner's: fn is called when it can be read / written; an error or hang-up counts as
 * whatever is of interest. Free the watch before the descriptor is closed. IO if epoll can't watch it (a
 * plain file), NO_MEMORY. */
typedef struct dp_watch dp_watch;
enum { DP_READABLE = 1, DP_WRITABLE = 2 };
DP_API int dp_watch_new(dp_watch **out, dp_loop *loop, int fd, int interest,
                        void (*fn)(void *user, int ready), void *user);
DP_API int dp_watch_set(dp_watch *watch, int interest);
DP_API void dp_watch_free(dp_watch *watch); /* does not close fd */

/* fn is called in the loop for SIGINT, SIGTERM...; the signal is blocked meanwhile (signalfd).
 * INVALID_ARGUMENT: no such signal. */
typedef struct dp_signals dp_signals;
DP_API int dp_signals_new(dp_signals **out, dp_loop *loop, const int *signals, size_t count,
                          void (*fn)(void *user, int signal), void *user);
DP_API void dp_signals_free(dp_signals *signals);

/* ---- UDP ------------------------------------------------------------------------------------------ */

typedef struct dp_udp dp_udp;

/* One received datagram; data may be changed in place until the callback returns. */
typedef struct dp_udp_packet {
    uint8_t *data;
    size_t len;
    dp_address remote;
    const dp_address *local; /* what it was sent to, until the callback returns */
} dp_udp_packet;

typedef struct dp_udp_handler {
    /* A batch (recvmmsg, UDP_GRO split already). */
    void (*on_packets)(void *user, dp_udp *udp, dp_udp_packet *packets, size_t count);
    /* After WOULD_BLOCK from dp_udp_slot, whoever called it: there is room again. Every socket is told. May
     * be NULL. */
    void (*on_writable)(void *user, dp_udp *udp);
    void *user;
} dp_udp_handler;

/* Binds to local (port 0: any; 0.0.0.0 or ::: all addresses of its family). IO, NO_MEMORY. */
DP_API int dp_udp_open(dp_udp **out, dp_loop *loop, const dp_address *local, const dp_udp_handler *handler);
/* What was committed is sent as far as the kernel takes it. */
DP_API void dp_udp_close(dp_udp *udp);
DP_API const dp_address *dp_udp_local(const dp_udp *udp); /* with the real port */

/* Sending: fill a slot, commit it to a socket, and so on; the loop's one batch is flushed when it is full, at
 * the end of the round and by dp_udp_flush (sendmmsg, UDP_SEGMENT where the kernel has it). Order between
 * slot and commit is free for several sockets: the socket is named at commit. From a socket of all addresses it leaves
 * from slot->local's, if that names one and slot->link is 0; else the kernel chooses. slot->data[0..slot->capacity)
 * is the loop's. */
DP_API int dp_udp_slot(dp_loop *loop, dp_datagram *slot); /* WOULD_BLOCK: the batch is full and its sockets
                                                             take nothing; INVALID_STATE: no socket yet */
/* A datagram that the socket can't send (too long, remote of the other family) is dropped, as is a slot that
 * was committed before. */
DP_API void dp_udp_commit(dp_loop *loop, dp_udp *udp, const dp_datagram *slot);
DP_API void dp_udp_flush(dp_loop *loop);

/* Binds to port of group's family on the interface of local (IPv6: local->scope; IPv4: its address), shared with
 * other programs there (SO_REUSEADDR, SO_REUSEPORT), joins group on it and sends with TTL 255 and loop-back: what
 * mDNS needs. dp_udp_local is local with the port; dp_udp_close leaves the group. IO, NO_MEMORY. */
DP_API int dp_udp_open_multicast(dp_udp **out, dp_loop *loop, const dp_address *group,
                                 const dp_address *local, const dp_udp_handler *handler);

/* ---- TCP ------------------------------------------------------------------------------------------- */

/* A stream whose other end vanishes without a word (no power, no network), or takes no byte of what is sent,
 * is closed with TIMEOUT after about 30 s, also when nothing is being sent (keepalive probes). */
typedef struct dp_tcp dp_tcp;

typedef struct dp_tcp_handler {
    void (*on_connected)(void *user, dp_tcp *tcp);
    void (*on_data)(void *user, dp_tcp *tcp, const uint8_t *data, size_t len);
    void (*on_drained)(void *user, dp_tcp *tcp); /* all that was queued by send has left; may be NULL */
    /* Once; reason is for people. The handler must not use tcp afterwards except to call dp_tcp_close. */
    void (*on_closed)(void *user, dp_tcp *tcp, int error, const char *reason);
    void *user;
} dp_tcp_handler;

/* Connects to host (a name or a numeric address; each address in turn) and port. Errors of connecting arrive
 * by on_closed: NOT_FOUND, TIMEOUT, IO... A name other than "localhost" is resolved in this call, blocking
 * (dp_resolve); a numeric address never blocks. NO_MEMORY. */
DP_API int dp_tcp_connect(dp_tcp **out, dp_loop *loop, const char *host, uint16_t port, dp_duration timeout,
                          const dp_tcp_handler *handler);
/* The same from one address of this machine (its port is ignored); NULL: any. */
DP_API int dp_tcp_connect_from(dp_tcp **out, dp_loop *loop, const dp_address *local, const char *host,
                               uint16_t port, dp_duration timeout, const dp_tcp_handler *handler);
/* TLS 1.2 over a stream, as its client; call it right after dp_tcp_connect, or when the stream is connected and all that
 * was sent before has left (behind a proxy's answer to CONNECT). on_connected comes (in the second case: again) when the
 * handshake is done, and from then on sent and received bytes are those inside. on_closed tells what went wrong, beside
 * the errors of TCP: AUTH (the certificate is not valid for server_name), REMOTE (the server broke off with an alert),
 * PROTOCOL (no TLS there, or a record was altered), TIMEOUT (the handshake took too long; the limit of connecting counts),
 * CRYPTO, NO_MEMORY; CLOSED, whose reason says whether the server said goodbye (close_notify). */
typedef struct dp_tls_options {
    size_t size;             /* sizeof(dp_tls_options) */
    const char *server_name; /* a host name (SNI) or a numeric address; required, copied */
    const char *ca_file;     /* PEM, at most 16 MiB; NULL: the system's authorities */
    bool insecure;           /* take any certificate: no protection from who is on the way. Warns each time */
    dp_random random;        /* required */
    dp_log log;
    dp_key_log key_log; /* for debugging; logs a warning when it is on */
} dp_tls_options;
/* NO_MEMORY, INVALID_ARGUMENT (server_name is missing or too long), IO (the file of authorities can't be read),
 * INVALID_STATE (TLS already, or bytes wait to be sent). OK if connecting has failed at once: on_closed tells. */
DP_API int dp_tcp_start_tls(dp_tcp *tcp, const dp_tls_options *options);
/* Queues; bytes are copied. WOULD_BLOCK over 1 MiB queued (nothing was taken; on_drained follows), TOO_LARGE
 * if len alone is over 1 MiB, NO_MEMORY, CLOSED. Also before on_connected. What is sent in one round leaves
 * together at its end. */
DP_API int dp_tcp_send(dp_tcp *tcp, const uint8_t *data, size_t len);
DP_API size_t dp_tcp_queued(const dp_tcp *tcp);
/* The address and port of our end. INVALID_STATE while it is not connected. */
DP_API int dp_tcp_local(const dp_tcp *tcp, dp_address *local);
/* Closes and frees; no callback afterwards. What is queued is given to the kernel as far as it takes it. */
DP_API void dp_tcp_close(dp_tcp *tcp);

/* Out of file descriptors, accepting pauses and goes on by itself. on_accept owns tcp: set a handler or close
 * it. IO, NO_MEMORY. */
typedef struct dp_listener dp_listener;
DP_API int dp_listener_open(dp_listener **out, dp_loop *loop, const dp_address *local,
                            void (*on_accept)(void *user, dp_tcp *tcp, const dp_address *remote), void *user);
DP_API const dp_address *dp_listener_local(const dp_listener *listener);
DP_API void dp_listener_close(dp_listener *listener);
/* For an accepted stream, inside on_accept or before returning to the loop. */
DP_API void dp_tcp_set_handler(dp_tcp *tcp, const dp_tcp_handler *handler);

/* What the server's side of TLS needs: a certificate with its key, shared by all streams that show it. To change the
 * certificate, make a new one, and free the old one: its streams keep it as long as they need it. */
typedef struct dp_tls_server dp_tls_server;

typedef struct dp_tls_server_config {
    size_t size;                  /* sizeof(dp_tls_server_config) */
    const char *certificate_file; /* PEM: the server's own, then those up to its authority's, at most 8 */
    const char *key_file;         /* PEM, no password, closed to others; may be the same file */
    dp_random random;             /* required */
    dp_log log;
    dp_key_log key_log;            /* for debugging; logs a warning when it is on */
    dp_duration handshake_timeout; /* from accepting to the end of the handshake; 0: 10 s */
    size_t max_handshakes;         /* at once; 0: 512. One more takes the place of the oldest */
    /* Handshakes a second that one address (IPv6: /64) may begin, each of which takes milliseconds of the loop; 0: any
     * number. Bytes that are no TLS do not count. */
    unsigned handshake_rate;
    unsigned handshake_burst; /* 0: ten times the rate */
} dp_tls_server_config;

/* error says what is wrong with a file, and what to do. NOT_FOUND; DENIED: it can't be read, or others can read the key;
 * TOO_LARGE; MALFORMED: not PEM, not a certificate, the key of another one; IO; NO_MEMORY, CRYPTO, INVALID_ARGUMENT. */
DP_API int dp_tls_server_new(dp_tls_server **out, const dp_tls_server_config *config, dp_file_error *error);
DP_API void dp_tls_server_free(dp_tls_server *server);

/* TLS 1.2 over a stream that was just accepted, as its server; inside on_accept. on_connected comes when the handshake is
 * done; sent and received bytes are those inside. on_closed, beside the errors of TCP: PROTOCOL (no TLS came), REMOTE
 * (the client broke off: it may not trust the certificate), TIMEOUT, LIMIT (its place was taken, see max_handshakes; too many of its address, see handshake_rate),
 * CRYPTO, NO_MEMORY. A stream that has sent nothing yet costs no memory of TLS. INVALID_STATE: it is not new. */
DP_API int dp_tcp_accept_tls(dp_tcp *tcp, dp_tls_server *server);

/* ---- interfaces ------------------------------------------------------------------------------------- */

/* The addresses of this machine that ICE may use: interfaces that are up; loopback only if include_loopback
 * or nothing else is there; no IPv4-mapped, site-local or deprecated ones (RFC 8445 §5.1.1.1). Port 0, scope
 * set for link-local. At most capacity of them. IO. */
DP_API int dp_interfaces(dp_address *out, size_t capacity, size_t *count, bool include_loopback);

/* The MTU of the way from local to remote, IP header included, as the kernel knows it: the interface's, or what routers
 * have told. 0: it can't be found out. */
DP_API size_t dp_route_mtu(const dp_address *local, const dp_address *remote);

/* Calls fn in the loop, at most once a round, after an address or a link of this machine came, went or changed
 * (rtnetlink): ask dp_interfaces what there is now. IO, NO_MEMORY. */
typedef struct dp_interface_watch dp_interface_watch;
DP_API int dp_interface_watch_new(dp_interface_watch **out, dp_loop *loop, void (*fn)(void *user),
                                  void *user);
DP_API void dp_interface_watch_free(dp_interface_watch *watch);

/* A numeric address (IPv6 also in brackets or with %zone), "localhost", or a name resolved (blocking,
 * getaddrinfo). At most capacity addresses. NOT_FOUND, TIMEOUT, IO, NO_MEMORY; INVALID_ARGUMENT for an empty
 * or overlong name or no capacity. */
DP_API int dp_resolve(const char *host, uint16_t port, dp_address *out, size_t capacity, size_t *count);

/* ---- files that hold secrets ------------------------------------------------------------------------- */

/* Reads a file into out[0..capacity), all of it, if nobody else can have read or changed it: a plain file (no
 * symbolic link either) that belongs to this process's user and is closed to group and others (chmod 600). out is to be
 * wiped after use, also after an error. NOT_FOUND; DENIED: not such a file, or it can't be read; TOO_LARGE; IO. */
DP_API int dp_secret_file_read(uint8_t *out, size_t capacity, size_t *len, const char *path,
                               dp_file_error *error);
/* Makes the file with mode 0600, whole or not at all, and the folders above it with 0700 where they are missing.
 * EXISTS: there is one, which stays; of several processes that make it at the same time, one gets OK and the others
 * this. IO (the disk is full, may not be written...), NO_MEMORY. */
DP_API int dp_secret_file_create(const char *path, const void *data, size_t len, dp_file_error *error);

#ifdef __cplusplus
}
#endif
#endif
