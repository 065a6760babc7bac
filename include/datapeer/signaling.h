/* Signaling through a PeerServer: HTTP upgrade, WebSocket (RFC 6455) and PeerServer's messages, as PeerJS's
 * Socket and API do it. Sans-IO: the owner opens a TCP (or TLS) stream when asked and moves its bytes.
 *
 * Order of calls: new, start; on CONNECT the owner opens a stream and calls connected (or disconnected with
 * the reason if it fails); then input / handle_timeout, and after each of them poll_transmit and poll_event
 * until both return false; disconnected when the stream ends. On DISCONNECT the owner closes the stream
 * (poll_transmit drained first). */
#ifndef DATAPEER_SIGNALING_H
#define DATAPEER_SIGNALING_H

#include <datapeer/base.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DP_PEER_ID_MAX        256 /* bytes of a peer id, without the NUL */
#define DP_SIGNALING_TEXT_MAX 65536

/* PeerJS's own rule for an id that a client chooses: ^[A-Za-z0-9]+(?:[ _-][A-Za-z0-9]+)*$, at most
 * DP_PEER_ID_MAX bytes. */
DP_API bool dp_peer_id_valid(const char *id);

/* "ws://host:port/path", "http://..." and the secure forms, or "host:port", into parts. MALFORMED. */
typedef struct dp_server_url {
    bool secure;
    char host[256];
    uint16_t port;  /* 80/443 if absent; "host" alone without a scheme: 9000, PeerServer's default */
    char path[256]; /* starts and ends with "/" */
} dp_server_url;
DP_API int dp_server_url_parse(dp_server_url *out, const char *text);

/* ---- HTTP proxies ---------------------------------------------------------------------------------- */

/* "http://[user[:password]@]host[:port]" or the same without the scheme, into parts; %XX in user and password is decoded.
 * MALFORMED; UNSUPPORTED: a proxy of another kind. It holds a password: wipe it after use. */
typedef struct dp_proxy {
    char host[256];
    uint16_t port;         /* 1080 if absent */
    char credentials[256]; /* "user:password", empty: none */
} dp_proxy;
DP_API int dp_proxy_parse(dp_proxy *out, const char *url);

/* True if host is in a list as the environment's no_proxy, as curl reads it: names and the names below them, with or without a
 * dot in front, addresses, networks (192.0.2.0/24, 2001:db8::/32), or *; separated by commas and spaces. */
DP_API bool dp_no_proxy(const char *list, const char *host);

/* The way to host and port through a proxy (CONNECT, RFC 9110 §9.3.6): send the request to the proxy, and give what it answers to
 * input until that is OK: from then on the stream leads to host. */
typedef struct dp_tunnel dp_tunnel;
/* NO_MEMORY, INVALID_ARGUMENT (host is too long). */
DP_API int dp_tunnel_new(dp_tunnel **out, const dp_proxy *proxy, const char *host, uint16_t port);
DP_API void dp_tunnel_free(dp_tunnel *tunnel);
DP_API const uint8_t *dp_tunnel_request(const dp_tunnel *tunnel, size_t *len);
/* WOULD_BLOCK: more is needed; REMOTE: the proxy refuses; MALFORMED, TOO_LARGE, PROTOCOL, NO_MEMORY. */
DP_API int dp_tunnel_input(dp_tunnel *tunnel, const uint8_t *data, size_t len);
/* Why not, for people; after an error of input. Empty: no memory. */
DP_API const char *dp_tunnel_reason(const dp_tunnel *tunnel);

/* ---- the list of peers ----------------------------------------------------------------------------- */

/* PeerJS's listAllPeers: what a stream to the PeerServer is to carry, and what comes back. HTTP/1.0, so that the answer comes whole,
 * with its length or up to the stream's end. */
typedef struct dp_peer_list dp_peer_list;
/* NO_MEMORY, CRYPTO, INVALID_ARGUMENT (key). */
DP_API int dp_peer_list_new(dp_peer_list **out, const dp_server_url *server, const char *key,
                            const dp_random *random);
DP_API void dp_peer_list_free(dp_peer_list *list);
DP_API const uint8_t *dp_peer_list_request(const dp_peer_list *list, size_t *len);
/* WOULD_BLOCK: more is needed; REMOTE: refused; MALFORMED, TOO_LARGE (1 MiB), NO_MEMORY. */
DP_API int dp_peer_list_input(dp_peer_list *list, const uint8_t *data, size_t len);
/* The stream has ended; as input, but never WOULD_BLOCK. */
DP_API int dp_peer_list_end(dp_peer_list *list);
DP_API const char *const *dp_peer_list_ids(const dp_peer_list *list, size_t *count);
/* Why not, for people; after REMOTE. */
DP_API const char *dp_peer_list_reason(const dp_peer_list *list);

/* ---- the client -------------------------------------------------------------------------------------- */

typedef struct dp_signaling dp_signaling;

typedef struct dp_signaling_config {
    size_t size;      /* sizeof(dp_signaling_config) */
    dp_random random; /* required */
    dp_log log;
    dp_server_url server;
    const char *key;             /* NULL: "peerjs" */
    const char *id;              /* NULL: the server is asked for one */
    const char *token;           /* NULL: random */
    dp_duration ping_interval;   /* 0: 5 s */
    dp_duration connect_timeout; /* from CONNECT to OPEN; 0: 20 s */
} dp_signaling_config;

DP_API int dp_signaling_new(dp_signaling **out, const dp_signaling_config *config);
DP_API void dp_signaling_free(dp_signaling *signaling);
/* Also after DISCONNECTED, to reconnect with the same id and token. INVALID_STATE while connected. */
DP_API int dp_signaling_start(dp_signaling *signaling, dp_time now);

DP_API void dp_signaling_connected(dp_signaling *signaling, dp_time now);
/* reason may be NULL ("connection refused", ...). */
DP_API void dp_signaling_disconnected(dp_signaling *signaling, dp_time now, const char *reason);
/* Instead of disconnected: the stream came about, but not TLS on it (no TLS there, a certificate that is not valid...). PeerJS
 * calls that "ssl-unavailable". */
DP_API void dp_signaling_tls_failed(dp_signaling *signaling, dp_time now, const char *reason);
DP_API void dp_signaling_input(dp_signaling *signaling, dp_time now, const uint8_t *data, size_t len);
DP_API void dp_signaling_handle_timeout(dp_signaling *signaling, dp_time now);
DP_API dp_time dp_signaling_next_timeout(const dp_signaling *signaling);
/* Copies up to capacity bytes for the stream to out. */
DP_API bool dp_signaling_poll_transmit(dp_signaling *signaling, uint8_t *out, size_t capacity, size_t *len);

/* Our id: the configured one or what the server gave; NULL before that. */
DP_API const char *dp_signaling_id(const dp_signaling *signaling);

/* What an OFFER carries beside its description (docs/peerjs.md 1.6). All strings NUL-terminated; metadata is
 * JSON text or NULL.
 *
 * PeerJS takes an OFFER with a known connection id for a new connection, so an offer that restarts ICE may only go
 * to a peer that understands more: each OFFER and ANSWER of ours has a member "features":["ice-restart"], and those
 * of a restart "restart": its number. PeerServer passes them on, and PeerJS does not look at them. */
typedef struct dp_signaling_offer {
    const char *connection_id;
    const char *sdp;
    const char *label;
    const char *serialization; /* "binary", "json", "raw", ... */
    const char *metadata;
    bool reliable;
    unsigned restart; /* 0: a call; else the number of an ICE restart of an open connection */
} dp_signaling_offer;

/* restart of an answer: that of its offer; sdp NULL then says that we have no such connection. Queued until the socket is open. INVALID_ARGUMENT (an id with control characters, text that is no UTF-8 or
 * JSON), TOO_LARGE, WOULD_BLOCK (over the queue's limit), CLOSED. */
DP_API int dp_signaling_send_offer(dp_signaling *signaling, dp_time now, const char *dst,
                                   const dp_signaling_offer *offer);
DP_API int dp_signaling_send_answer(dp_signaling *signaling, dp_time now, const char *dst,
                                    const char *connection_id, const char *sdp, unsigned restart);
DP_API int dp_signaling_send_candidate(dp_signaling *signaling, dp_time now, const char *dst,
                                       const char *connection_id, const char *candidate, const char *mid,
                                       unsigned mline_index, const char *ufrag);
/* LEAVE and close the socket in an orderly way. DISCONNECTED follows. */
DP_API void dp_signaling_close(dp_signaling *signaling, dp_time now);

typedef enum dp_signaling_event_type {
    DP_SIGNALING_EVENT_CONNECT,    /* open a stream to host, port (TLS if secure) */
    DP_SIGNALING_EVENT_DISCONNECT, /* close the stream */
    DP_SIGNALING_EVENT_OPEN,       /* src: our id; offers can come and go */
    DP_SIGNALING_EVENT_OFFER,      /* src, offer (type "data" only), knows_restart */
    DP_SIGNALING_EVENT_ANSWER, /* src, connection_id, sdp (NULL: see send_answer), restart, knows_restart */
    DP_SIGNALING_EVENT_CANDIDATE,    /* src, connection_id, candidate, mid, mline_index */
    DP_SIGNALING_EVENT_LEAVE,        /* src */
    DP_SIGNALING_EVENT_EXPIRE,       /* src: the peer that could not be reached */
    DP_SIGNALING_EVENT_ERROR,        /* error_type (PeerJS's name), message */
    DP_SIGNALING_EVENT_DISCONNECTED, /* after an error, a close of either side or a lost stream; message */
} dp_signaling_event_type;

typedef struct dp_signaling_event {
    dp_signaling_event_type type;
    const char *host;
    uint16_t port;
    bool secure;
    const char *src;
    dp_signaling_offer offer;
    const char *connection_id;
    const char *sdp;
    unsigned restart;
    bool knows_restart; /* its features name "ice-restart" */
    const char *candidate;
    const char *mid;
    unsigned mline_index;
    const char *error_type; /* "network", "unavailable-id", "invalid-id", "invalid-key", "server-error",
                               "socket-error"... */
    const char *message;
} dp_signaling_event; /* all pointers valid until the next call */

DP_API bool dp_signaling_poll_event(dp_signaling *signaling, dp_signaling_event *event);

#ifdef __cplusplus
}
#endif
#endif
