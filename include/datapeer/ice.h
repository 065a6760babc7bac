/* ICE (RFC 8445) with trickle (RFC 8838), TURN (RFC 8656) and consent (RFC 7675): finds a pair of addresses on
 * which two ends can talk, and keeps watch over it. Sans-IO: the owner binds the sockets, tells the agent their
 * addresses and moves the datagrams. One component, one data stream: what a data-channel connection needs. It
 * can be used alone, to carry whatever datagrams its owner likes (examples/ice_chat.c).
 *
 * Order of calls: new, [set_role], add_server*, add_local_address*, gather; set_remote_credentials,
 * add_remote_candidate* at any time; then for ever: input / link_input / handle_timeout, and after each of them
 * poll_transmit and poll_event until both return false. Data for the peer leaves through send_begin and
 * send_end. */
#ifndef DATAPEER_ICE_H
#define DATAPEER_ICE_H

#include <datapeer/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dp_ice dp_ice;

typedef enum dp_ice_role { DP_ICE_CONTROLLED, DP_ICE_CONTROLLING } dp_ice_role;

/* W3C RTCIceConnectionState. */
typedef enum dp_ice_state {
    DP_ICE_NEW,
    DP_ICE_CHECKING,
    DP_ICE_CONNECTED,
    DP_ICE_COMPLETED,
    DP_ICE_DISCONNECTED,
    DP_ICE_FAILED,
    DP_ICE_CLOSED,
} dp_ice_state;

DP_API const char *dp_ice_state_name(dp_ice_state state);

typedef enum dp_candidate_type {
    DP_CANDIDATE_HOST,
    DP_CANDIDATE_SRFLX,
    DP_CANDIDATE_PRFLX,
    DP_CANDIDATE_RELAY,
} dp_candidate_type;

/* Which side of a TCP connection a candidate takes (RFC 6544 §4.5); SO is never made here. */
typedef enum dp_tcptype { DP_TCPTYPE_NONE, DP_TCPTYPE_ACTIVE, DP_TCPTYPE_PASSIVE, DP_TCPTYPE_SO } dp_tcptype;

/* One candidate (RFC 8839 §5.1). If hostname is not empty, address.ip is not known (an mDNS or FQDN
 * candidate: address has only the port). */
typedef struct dp_candidate {
    dp_candidate_type type;
    char foundation[33];
    unsigned component;
    bool tcp; /* transport is TCP; else UDP */
    dp_tcptype tcptype;
    uint32_t priority;
    dp_address address;
    char hostname[256];
    dp_address related; /* raddr/rport, all zero if absent */
    char ufrag[257];    /* the "ufrag" extension, or empty */
} dp_candidate;

#define DP_CANDIDATE_TEXT_MAX 800

/* "candidate:..." with or without "a=" in front and CRLF at the end. Unknown extensions are skipped.
 * DP_ERR_MALFORMED; DP_ERR_UNSUPPORTED for a transport other than UDP and TCP. */
DP_API int dp_candidate_parse(dp_candidate *out, const char *text, size_t len);
/* Writes "candidate:..." (no "a=", no line end), NUL-terminated. DP_ERR_NO_SPACE. */
DP_API int dp_candidate_format(const dp_candidate *candidate, char *out, size_t capacity);

/* ---- servers ---------------------------------------------------------------------------------- */

typedef enum dp_ice_transport { DP_ICE_UDP, DP_ICE_TCP, DP_ICE_TLS } dp_ice_transport;

#define DP_ICE_HOST_MAX       255
#define DP_ICE_CREDENTIAL_MAX 512 /* bytes of a user name or password, RFC 8489 §14.3 */

/* "stun:host", "turn:host:port?transport=tcp", "turns:[2001:db8::1]" (RFC 7064, RFC 7065), taken apart. */
typedef struct dp_ice_url {
    bool turn;
    dp_ice_transport transport; /* turns: is TLS; stuns: and transports that are none of ours: UNSUPPORTED */
    char host[DP_ICE_HOST_MAX + 1]; /* a name or a numeric address, without brackets */
    uint16_t port;                  /* the scheme's default if absent: 3478, 5349 */
} dp_ice_url;

/* MALFORMED; UNSUPPORTED for another scheme or transport. */
DP_API int dp_ice_url_parse(dp_ice_url *out, const char *text);

/* A STUN or TURN server. A TURN server that is reached by UDP is asked for server-reflexive candidates, too. */
typedef struct dp_ice_server {
    size_t size; /* sizeof(dp_ice_server) */
    bool turn;
    dp_ice_transport transport; /* to a TURN server; STUN is asked by UDP */
    dp_address address;
    const char *name;     /* TLS: what its certificate must say; NULL: the address */
    const char *username; /* TURN (long-term credentials, RFC 8489 §9.2); UTF-8, SASLprep'd by the caller */
    const char *credential; /* the password */
} dp_ice_server;

/* ---- agent ------------------------------------------------------------------------------------ */

typedef struct dp_ice_config {
    size_t size;      /* sizeof(dp_ice_config) */
    dp_random random; /* required */
    dp_log log;
    dp_ice_role role;
    dp_duration pacing;         /* Ta between new transactions; 0: 50 ms (RFC 8445 §14.2) */
    dp_duration gather_timeout; /* when to stop waiting for servers; 0: 10 s */
    bool lite;           /* RFC 8445 §2.5: answers checks, makes none; for servers with a public address */
    bool relay_only;     /* only relayed candidates, so that the peer never learns an address of ours */
    bool tcp;            /* RFC 6544: also connects to the peer's TCP candidates */
    bool hide_addresses; /* host candidates are signalled as UUID.local (mDNS); see LOCAL_CANDIDATE */
} dp_ice_config;

/* Errors: NO_MEMORY, INVALID_ARGUMENT, CRYPTO (the random source failed). */
DP_API int dp_ice_new(dp_ice **out, const dp_ice_config *config);
DP_API void dp_ice_free(dp_ice *ice);

/* NUL-terminated, valid as long as ice; ufrag 8 and pwd 24 characters of ice-char. */
DP_API const char *dp_ice_local_ufrag(const dp_ice *ice);
DP_API const char *dp_ice_local_pwd(const dp_ice *ice);

/* Before the first check: offerer controlling, answerer controlled (RFC 8445 §6.1.1). */
DP_API void dp_ice_set_role(dp_ice *ice, dp_ice_role role);
DP_API dp_ice_role dp_ice_get_role(const dp_ice *ice);

/* A UDP socket that the owner has bound: becomes a host candidate. After gather, too: then it is a new way out
 * (another network was joined), is signalled, and paired with all that is known of the peer. LIMIT,
 * INVALID_ARGUMENT (no unicast address). */
DP_API int dp_ice_add_local_address(dp_ice *ice, dp_time now, const dp_address *local);
/* The socket is gone, or its address is: what was found through it is given up. NOT_FOUND. */
DP_API int dp_ice_remove_local_address(dp_ice *ice, dp_time now, const dp_address *local);
/* A TCP port that the owner listens on: becomes a passive TCP candidate (RFC 6544). Each stream that is accepted
 * there is told by link_accepted. As above otherwise; remove_local_address is for both. */
DP_API int dp_ice_add_local_listener(dp_ice *ice, dp_time now, const dp_address *local);
/* Before gather; everything is copied. LIMIT, INVALID_ARGUMENT (TURN without credentials, no unicast address),
 * NO_MEMORY. */
DP_API int dp_ice_add_server(dp_ice *ice, const dp_ice_server *server);
/* Emits LOCAL_CANDIDATE events, then GATHERING_COMPLETE. */
DP_API int dp_ice_gather(dp_ice *ice, dp_time now);

/* ICE restart (RFC 8445 §9): new local credentials, candidates gathered and signalled anew; data flows on the
 * old pair until the new session has one. The offerer calls it before it makes the offer, the answerer when an
 * offer has other credentials; both then call set_remote_credentials with the new ones. Also after FAILED.
 * INVALID_STATE before gather or when closed; NO_MEMORY, CRYPTO: all is as it was. */
DP_API int dp_ice_restart(dp_ice *ice, dp_time now);

/* RFC 8839 §5.4: ufrag 4-256, pwd 22-256 ice-chars, else INVALID_ARGUMENT. Checks that came earlier and were
 * queued (a bounded number) are answered now. */
DP_API int dp_ice_set_remote_credentials(dp_ice *ice, dp_time now, const char *ufrag, const char *pwd);
/* The peer's description says a=ice-lite (RFC 8445 §6.1.1): we control. Before set_remote_credentials. */
DP_API void dp_ice_set_remote_lite(dp_ice *ice);
/* The text of one candidate, NULL or "" for end-of-candidates. A candidate that is no use (component 2, over
 * the cap, another ufrag) is skipped with DP_OK and a log line; one with a host name waits for dp_ice_resolved.
 * MALFORMED if it is no candidate at all. */
DP_API int dp_ice_add_remote_candidate(dp_ice *ice, dp_time now, const char *text);

/* The answer to a RESOLVE event: the addresses of hostname (port and scope of them are ignored), count 0 if it
 * can't be found out. */
DP_API void dp_ice_resolved(dp_ice *ice, dp_time now, const char *hostname, const dp_address *addresses,
                            size_t count);

/* Data of the layer above inside a datagram: borrowed from it, may be changed in place. */
typedef struct dp_ice_payload {
    uint8_t *data;
    size_t len;
} dp_ice_payload;

/* Any datagram that came to the UDP socket bound to local. True: it holds payload, and ICE has proved that the
 * peer sends from there (a valid pair, or one on which an authenticated check of the peer came). Never fails:
 * what is not acceptable is dropped and counted. */
DP_API bool dp_ice_input(dp_ice *ice, dp_time now, uint8_t *data, size_t len, const dp_address *local,
                         const dp_address *remote, dp_ice_payload *payload);
DP_API void dp_ice_handle_timeout(dp_ice *ice, dp_time now);
DP_API dp_time dp_ice_next_timeout(const dp_ice *ice);
/* Writes the next STUN message to send into out; if out->link is not 0 it goes to that link. False: nothing to
 * send. */
DP_API bool dp_ice_poll_transmit(dp_ice *ice, dp_time now, dp_datagram *out);

/* Data for the peer. begin sets out's link, local and remote to the pair in use (see dp_ice_selected_pair; before
 * there is one, a few times to where the peer's data last came from) and tells how many bytes in front a relay or a
 * stream needs; write the data at out->data + *headroom, set out->length to its length without headroom, and call
 * end, which adds the framing (length 0: it can't leave). False: no way to the peer yet. Between the two no other
 * call for this agent. */
DP_API bool dp_ice_send_begin(const dp_ice *ice, dp_datagram *out, size_t *headroom);
DP_API void dp_ice_send_end(dp_ice *ice, dp_datagram *out, size_t headroom);
#define DP_ICE_HEADROOM_MAX 52 /* bytes that begin and end add to a datagram at most */

/* ---- links ------------------------------------------------------------------------------------ */

/* A link is a socket of the agent's own, connected to a TURN server by UDP, TCP or TLS, or to the peer by TCP. The
 * agent asks for it by LINK_OPEN; the owner connects it and calls link_opened, then link_input with what comes
 * (UDP: one datagram a call; streams: any piece). If it can't be opened or ends, the owner calls link_closed; after
 * LINK_CLOSE the owner closes it and calls nothing more. Datagrams of poll_transmit and send_end whose link is not
 * 0 are written to it whole, or dropped whole if it is full. */
typedef struct dp_ice_link {
    uint32_t id; /* never 0, never used twice */
    dp_ice_transport transport;
    dp_address local;  /* bind here (port 0: any), if it has a family */
    dp_address remote; /* connect there */
    const char *name;  /* TLS: the name in the certificate; NULL: the address. As long as the event */
} dp_ice_link;

DP_API void dp_ice_link_opened(dp_ice *ice, dp_time now, uint32_t link);
/* A stream was accepted on the listener local, and its first frame (RFC 4571: two bytes of length, then a STUN
 * request) names this agent, see dp_ice_peek_ufrag: returns the link's id; give it all bytes from the first on. 0:
 * not wanted, close it. */
DP_API uint32_t dp_ice_link_accepted(dp_ice *ice, dp_time now, const dp_address *local,
                                     const dp_address *remote);
/* Takes bytes from the front of data and returns how many; call it until all are taken. payload->len is not 0 if
 * they held data of the peer's. */
DP_API size_t dp_ice_link_input(dp_ice *ice, dp_time now, uint32_t link, uint8_t *data, size_t len,
                                dp_ice_payload *payload);
DP_API void dp_ice_link_closed(dp_ice *ice, dp_time now, uint32_t link);

/* ---- events ----------------------------------------------------------------------------------- */

typedef enum dp_ice_event_type {
    /* candidate; local: the socket's address. hostname, if not NULL: publish it by mDNS as local's address. */
    DP_ICE_EVENT_LOCAL_CANDIDATE,
    DP_ICE_EVENT_GATHERING_COMPLETE, /* no more local candidates, unless a new socket or a slow server adds some */
    DP_ICE_EVENT_STATE,              /* state */
    DP_ICE_EVENT_SELECTED_PAIR,      /* local, remote, local_type, remote_type; may happen again */
    DP_ICE_EVENT_RESOLVE,            /* hostname: find its addresses, then dp_ice_resolved */
    DP_ICE_EVENT_LINK_OPEN,          /* link */
    DP_ICE_EVENT_LINK_CLOSE,         /* link.id */
} dp_ice_event_type;

typedef struct dp_ice_event {
    dp_ice_event_type type;
    dp_ice_state state;
    const char *candidate; /* texts are valid until the next call */
    const char *hostname;
    dp_address local; /* the base: the socket's address, or the relayed one */
    dp_address remote;
    dp_candidate_type local_type; /* host (also if a NAT translates it) or relay */
    dp_candidate_type remote_type;
    dp_ice_link link;
} dp_ice_event;

DP_API bool dp_ice_poll_event(dp_ice *ice, dp_ice_event *event);
/* Only LOCAL_CANDIDATE and GATHERING_COMPLETE: for an owner that puts what is known so far into a description. */
DP_API bool dp_ice_poll_candidate(dp_ice *ice, dp_ice_event *event);

DP_API dp_ice_state dp_ice_get_state(const dp_ice *ice);
/* The pair to send data on: the nominated one or, before nomination, the best valid one. local is a socket's
 * address or a relayed one. False: none yet. */
DP_API bool dp_ice_selected_pair(const dp_ice *ice, dp_address *local, dp_address *remote);
/* True if ICE has proved that remote at the UDP socket local is the peer: see dp_ice_input. */
DP_API bool dp_ice_is_validated(const dp_ice *ice, const dp_address *local, const dp_address *remote);
/* What happened to the datagrams; counts from the start. */
typedef struct dp_ice_stats {
    uint64_t requests_sent;        /* retransmissions included */
    uint64_t responses_sent;       /* success and error */
    uint64_t dropped_malformed;    /* no STUN message, wrong FINGERPRINT, wrong length */
    uint64_t dropped_unauthorized; /* no or wrong integrity, wrong user name */
    uint64_t dropped_unexpected;   /* no transaction of ours, unknown socket, other methods and classes */
    uint64_t dropped_limit; /* over a cap: early checks, peer-reflexive candidates, pairs, outgoing queue */
    uint64_t candidates_skipped;         /* remote candidates that are of no use or over the cap */
    uint64_t role_conflicts;             /* 487 sent or received */
    dp_duration current_round_trip_time; /* of the selected pair's last check that was sent once; 0: none */
} dp_ice_stats;

DP_API void dp_ice_get_stats(const dp_ice *ice, dp_ice_stats *out);

/* State CLOSED: nothing is sent or accepted any more. */
DP_API void dp_ice_close(dp_ice *ice);

#define DP_ICE_UFRAG_MAX 256

/* For an owner that serves many agents on one socket: the ufrag of the agent that a STUN request is for (the
 * part of USERNAME before the colon), unauthenticated. False if data is no request with one. */
DP_API bool dp_ice_peek_ufrag(const uint8_t *data, size_t len, char ufrag[DP_ICE_UFRAG_MAX + 1]);
/* True if data carries the transaction id of a request that ice has sent and still waits for: its answer, as
 * far as can be told before it is decoded. */
DP_API bool dp_ice_awaits(const dp_ice *ice, const uint8_t *data, size_t len);

#ifdef __cplusplus
}
#endif
#endif
