/* PeerJS's Peer and DataConnection on a dp_loop: ids through a PeerServer, one peer connection with one
 * channel a DataConnection, values on it. Names and events are PeerJS's (peerjs 1.5); what differs is said at
 * each function.
 *
 * When the path of an open connection is lost, or the network changes, ICE looks for another one. Towards a peer
 * that is datapeer as well it is restarted with new candidates, which go through the PeerServer; PeerJS would take
 * that for a new connection. If no path is back about 40 s after the loss, the connection ends with an error
 * ("connection-closed").
 *
 * Everything runs in the loop's thread; handlers are called from the loop, never from inside an API call (but
 * for a request that dp_connection_cancel ends). In a handler every function may be called. */
#ifndef DATAPEER_PEER_H
#define DATAPEER_PEER_H

#include <datapeer/base.h>
#include <datapeer/net.h>
#include <datapeer/peer_connection.h>
#include <datapeer/rpc.h>
#include <datapeer/signaling.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dp_peer dp_peer;             /* PeerJS Peer */
typedef struct dp_connection dp_connection; /* PeerJS DataConnection */

/* ---- identity ---------------------------------------------------------------------------------------- */

/* A certificate that lasts: the one in the PEM file, or, if there is no such file, a new one that is kept there (mode
 * 0600, see dp_secret_file_create; of several processes that do so at once all get the same). So this machine keeps
 * its fingerprint, which others may pin; and they can know it again, so a certificate of its own for each purpose
 * keeps these apart. It is made for DP_CERTIFICATE_DAYS_MAX days, and used beyond them: see dp_certificate_expires.
 * error says what is wrong with the file, and what to do. DENIED, TOO_LARGE, IO: as from dp_secret_file_read and
 * dp_secret_file_create; MALFORMED, UNSUPPORTED: as from dp_certificate_from_pem; NO_MEMORY, CRYPTO. */
DP_API int dp_certificate_keep(dp_certificate **out, const char *path, const dp_random *random,
                               dp_file_error *error);

/* ---- Peer -------------------------------------------------------------------------------------------- */

typedef struct dp_peer_handler {
    void (*on_open)(void *user, dp_peer *peer, const char *id); /* again after each reconnection */
    /* Someone calls us. Set a handler on conn here; it is not open yet. NULL: calls are not accepted. */
    void (*on_connection)(void *user, dp_peer *peer, dp_connection *conn);
    void (*on_disconnected)(void *user, dp_peer *peer,
                            const char *reason); /* from the PeerServer; connections live on */
    /* type is PeerJS's; docs/peerjs.md 2.7 says when each comes. */
    void (*on_error)(void *user, dp_peer *peer, const char *type, const char *message);
    /* Once: peer can't be used any more. Either dp_peer_destroy is done with it and frees it now, or the PeerServer refused it
     * before it was ever open (and reconnect is off): then it still has to be destroyed. */
    void (*on_close)(void *user, dp_peer *peer);
    void *user;
} dp_peer_handler; /* each function may be NULL */

#define DP_PEER_MAX_ICE_SERVERS 8

/* The PeerServer that PeerJS's makers run for all who name no other, with the key "peerjs". It is theirs: it may be slow, full
 * or away, and it sees who talks to whom. Used only if it is given as server. */
#define DP_PEER_CLOUD "wss://0.peerjs.com:443/"

typedef struct dp_peer_config {
    size_t size;      /* sizeof(dp_peer_config) */
    dp_loop *loop;    /* required */
    dp_random random; /* required */
    dp_log log;
    const char *server;                /* "wss://host:port/path" or "ws://...", required; see DP_PEER_CLOUD */
    const char *key;                   /* NULL: "peerjs" */
    const char *id;                    /* NULL: the server gives one */
    const char *token;                 /* NULL: random */
    const dp_certificate *certificate; /* NULL: generated; borrowed */
    dp_key_log key_log;                /* of all connections, and of TLS to TURN servers, for debugging */
    dp_duration ping_interval;         /* between heartbeats; 0: 5 s */

    /* To the PeerServer, whatever the reason; PeerJS itself never does. The first time reconnect_min after a loss, twice as
     * long each time it fails, up to reconnect_max; each by chance down to the half of it, so that those whom a PeerServer
     * lost together do not come back together. */
    bool reconnect;
    dp_duration reconnect_min; /* 0: 1 s */
    dp_duration reconnect_max; /* 0: 30 s */

    /* The way to the PeerServer. The library looks at no environment variable. */
    const char *ca_file; /* PEM: who may vouch for the PeerServer; NULL: the system's authorities; copied */
    bool insecure;       /* take any certificate of it: see dp_tls_options */
    const char *proxy;   /* "http://[user:password@]host:port", see dp_proxy_parse; NULL: none; copied */

    /* The network. Addresses that come and go later are followed. */
    const dp_ice_server *ice_servers; /* STUN and TURN; copied, at most DP_PEER_MAX_ICE_SERVERS */
    size_t ice_server_count;
    const char *turn_ca_file; /* PEM: who may vouch for TURN servers by TLS; NULL: the system's authorities */
    bool ice_tcp;             /* ICE by TCP as well, on TCP ports of the same numbers (RFC 6544) */
    bool relay_only;          /* these three: see dp_ice_config */
    bool hide_addresses;
    bool ice_lite;
    size_t datagram_size;             /* see dp_pc_config; INVALID_ARGUMENT if it is out of range */
    const dp_address *bind_addresses; /* only these are used (ports ignored); copied. None: all */
    size_t bind_count;
    uint16_t udp_port; /* where others reach us, one for all who call (for port forwarding); 0: any free one.
                          Calls of our own use a port each */
    uint16_t
        port_min; /* from which the free ones are taken; both 0: any. A port each for calls of our own: */
    uint16_t port_max;     /* a range that is used up lets dp_peer_connect fail with IO */
    bool include_loopback; /* offer 127.0.0.1 and ::1 as candidates too */

    /* 0: 256. Over it a call takes the place of one that is not open yet, or is ignored. */
    size_t max_connections;
    size_t max_value_size; /* largest packed value that is accepted, 0: 64 MiB */
    /* Of each connection: what is kept of values that are not whole yet, and how long without anything new. */
    size_t max_unfinished_size;      /* 0: 128 MiB */
    dp_duration max_unfinished_time; /* 0: 60 s */
    dp_peer_handler handler;
} dp_peer_config;

/* Binds the UDP port and starts connecting to the PeerServer. Without any address it waits for one.
 * INVALID_ARGUMENT (id, ICE servers, port range), MALFORMED (server, proxy), UNSUPPORTED (a proxy that is not HTTP), IO
 * (the port is taken, or no port of the range is free), NO_MEMORY, CRYPTO. */
DP_API int dp_peer_new(dp_peer **out, const dp_peer_config *config);
/* PeerJS destroy(): closes all connections (their on_close is called) and the socket; frees at the end of the
 * round. Of peer's own handlers on_close alone is called then. */
DP_API void dp_peer_destroy(dp_peer *peer);
/* Other STUN and TURN servers (or time-limited credentials) for the connections that are made from now on.
 * INVALID_ARGUMENT, LIMIT, NO_MEMORY; the old ones stay then. */
DP_API int dp_peer_set_ice_servers(dp_peer *peer, const dp_ice_server *servers, size_t count);
DP_API const char *dp_peer_id(const dp_peer *peer); /* NULL before the server gave one */
/* PeerJS's properties. disconnected is true, too, while a reconnection waits for its time; destroyed, after on_close. */
DP_API bool dp_peer_is_open(const dp_peer *peer);
DP_API bool dp_peer_is_disconnected(const dp_peer *peer);
DP_API bool dp_peer_is_destroyed(const dp_peer *peer);
/* From the PeerServer only: connections live on. on_disconnected follows. */
DP_API void dp_peer_disconnect(dp_peer *peer);
/* With the same id and token, at once. If the PeerServer still takes our old socket for alive, it gives no answer (docs/peerjs.md 1.2):
 * then we are open 2 s later. INVALID_STATE: it is not disconnected, or destroyed. */
DP_API int dp_peer_reconnect(dp_peer *peer);
/* PeerJS listAllPeers: the ids that the PeerServer knows, if it tells (npm's: with allow_discovery). fn is called once, from the loop:
 * error DP_OK, or REMOTE (refused), TIMEOUT, IO, MALFORMED, TOO_LARGE (over 1 MiB), CLOSED (peer was destroyed), NO_MEMORY. ids is
 * valid within fn. A failure is also told to on_error, as "server-error"; other than in PeerJS, peer stays what it is.
 * INVALID_STATE, LIMIT (8 at once), NO_MEMORY: fn is not called. */
typedef void (*dp_peer_list_fn)(void *user, int error, const char *const *ids, size_t count);
DP_API int dp_peer_list_all_peers(dp_peer *peer, dp_peer_list_fn fn, void *user);
DP_API uint16_t dp_peer_udp_port(const dp_peer *peer); /* 0: there was no address yet */
DP_API size_t dp_peer_connection_count(const dp_peer *peer);

/* ---- DataConnection ------------------------------------------------------------------------------------ */

typedef enum dp_message_type {
    DP_MESSAGE_VALUE, /* serialization binary, json and MsgPack: value */
    DP_MESSAGE_TEXT,  /* serialization raw: data (UTF-8) */
    DP_MESSAGE_BYTES, /* serialization raw: data */
} dp_message_type;

typedef struct dp_message {
    dp_message_type type;
    dp_value *value; /* take it by setting it to NULL; else it is freed after the handler */
    const uint8_t *data;
    size_t len;
} dp_message;

typedef struct dp_connection_handler {
    void (*on_open)(void *user, dp_connection *conn);
    void (*on_data)(void *user, dp_connection *conn, dp_message *message);
    void (*on_drain)(void *user, dp_connection *conn); /* after WOULD_BLOCK: there is room again */
    /* Exactly once, also if it never opened (PeerJS: only after open). conn is freed afterwards. */
    void (*on_close)(void *user, dp_connection *conn);
    /* type is PeerJS's: "negotiation-failed", "connection-closed", "not-open-yet", "message-too-big"; or "protocol": what came can't be
     * understood and was dropped; or "wrong-fingerprint": the other side's certificate is not the one that is pinned or,
     * without a pin, that its description names. */
    void (*on_error)(void *user, dp_connection *conn, const char *type, const char *message);
    /* PeerJS's iceStateChanged; state is the W3C's iceConnectionState: "checking", "connected", "disconnected", ... */
    void (*on_ice_state)(void *user, dp_connection *conn, const char *state);
    void *user;
} dp_connection_handler; /* each function may be NULL */

typedef struct dp_connect_options {
    size_t size;          /* sizeof(dp_connect_options) */
    const char *label;    /* NULL: the connection id */
    const char *metadata; /* JSON text or NULL */
    /* NULL: "binary"; "binary-utf8", "json", "raw" (or "none", its old name), or "MsgPack", which PeerJS's MsgPackPeer alone speaks, and
     * nothing else. */
    const char *serialization;
    bool reliable; /* ordered channel; false as in PeerJS: unordered (what we send is delivered in order all
                      the same). MsgPack always has one */
    /* A pin: the other side has to prove this one, whatever the PeerServer says. NULL: the PeerServer is trusted to
     * pass descriptions on as they are. See dp_pc_config. */
    const dp_fingerprint *remote_fingerprint;
} dp_connect_options;

/* options NULL: the defaults. Before peer is open the call waits for that. INVALID_STATE: peer is disconnected; on_error
 * ("disconnected") follows. INVALID_ARGUMENT, UNSUPPORTED (serialization), LIMIT, TOO_LARGE (metadata: 60 KB), NO_MEMORY. */
DP_API int dp_peer_connect(dp_peer *peer, dp_connection **out, const char *remote_id,
                           const dp_connect_options *options);
DP_API void dp_connection_set_handler(dp_connection *conn, const dp_connection_handler *handler);

DP_API dp_peer *dp_connection_get_peer(const dp_connection *conn);
DP_API const char *dp_connection_remote_id(const dp_connection *conn);
DP_API const char *dp_connection_id(const dp_connection *conn);
DP_API const char *dp_connection_label(const dp_connection *conn);
DP_API const char *dp_connection_metadata(const dp_connection *conn); /* JSON text or NULL */
DP_API const char *dp_connection_serialization(const dp_connection *conn);
DP_API bool dp_connection_reliable(const dp_connection *conn);
DP_API bool dp_connection_is_open(const dp_connection *conn);
DP_API const char *dp_connection_state_name(const dp_connection *conn); /* of the peer connection */

/* Sends on connections of serialization binary, json and MsgPack. value is borrowed. A bare null is refused
 * (INVALID_ARGUMENT): a PeerJS page cannot receive it. WOULD_BLOCK over 16 MiB queued (nothing was taken;
 * on_drain follows). INVALID_STATE: on_error ("not-open-yet") follows. TOO_LARGE: json knows no chunks, and as in PeerJS its text is
 * shorter than DP_CHUNK_SIZE; on_error ("message-too-big") follows. UNSUPPORTED, CLOSED. */
DP_API int dp_connection_send(dp_connection *conn, const dp_value *value);
/* Serialization raw. TOO_LARGE over the peer's max-message-size. */
DP_API int dp_connection_send_text(dp_connection *conn, const char *text, size_t len);
DP_API int dp_connection_send_bytes(dp_connection *conn, const uint8_t *data, size_t len);
/* Bytes queued here and in the channel. */
DP_API size_t dp_connection_buffered(const dp_connection *conn);
/* PeerJS bufferSize: values and messages that wait here, because 1 MiB waits in the channel (PeerJS: 8 MiB). */
DP_API size_t dp_connection_buffer_size(const dp_connection *conn);
/* At once; what is queued is lost (as in PeerJS). on_close follows. */
DP_API void dp_connection_close(dp_connection *conn);
/* PeerJS close({flush: true}): everything queued, answers and streams of the rpc included, then a close
 * message; the other side closes. After 10 s without progress or without that, we do. INVALID_STATE if it is
 * not open, NO_MEMORY. */
DP_API int dp_connection_close_flush(dp_connection *conn);

/* ---- requests on a connection ---- */

/* Makes conn speak the context protocol: contexts that come are served by router (may be NULL) or answer
 * requests; they don't reach on_data any more. Once, before open or in on_connection. */
DP_API int dp_connection_use_rpc(dp_connection *conn, dp_router *router);
/* dp_rpc_request on it. INVALID_STATE without dp_connection_use_rpc; TOO_LARGE for json of 16,300 bytes or more, the
 * context around the body included: on_error tells, too, as for dp_connection_send. An answer over it becomes a 500. */
DP_API int dp_connection_request(dp_connection *conn, const dp_request *request,
                                 char id[DP_REQUEST_ID_LEN + 1]);
DP_API int dp_connection_cancel(dp_connection *conn, const char *id); /* on_done within; NOT_FOUND */
/* The connection that a call came on. */
DP_API dp_connection *dp_call_connection(const dp_call *call);

/* ---- JSON ---- */

/* Strict JSON text to a value and back. Numbers that are integers become DP_VALUE_INT; bytes are written as
 * arrays of numbers (as JSON.stringify of a plain array). MALFORMED, LIMIT (depth 128), TOO_LARGE (over
 * 64 MiB), NO_MEMORY. *text: dp_free. */
DP_API int dp_value_from_json(dp_value **out, const char *text, size_t len);
DP_API int dp_value_to_json(const dp_value *value, char **text, size_t *len);

#ifdef __cplusplus
}
#endif
#endif
