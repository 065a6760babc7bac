/* ICE (RFC 8445) with trickle (RFC 8838) over UDP: finds a pair of addresses on which both ends can talk.
 * Sans-IO: the owner binds the sockets, tells the agent their addresses and moves the datagrams.
 * One component, one data stream: what a data-channel connection needs.
 *
 * Order of calls: new, [set_role], add_local_address*, gather; set_remote_credentials, add_remote_candidate*
 * at any time; then for ever: input / handle_timeout, and after each of them poll_transmit and poll_event
 * until both return false. */
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

/* One candidate (RFC 8839 §5.1). If hostname is not empty, address.ip is not known (an mDNS or FQDN
 * candidate: address has only the port). */
typedef struct dp_candidate {
    dp_candidate_type type;
    char foundation[33];
    unsigned component;
    bool tcp; /* transport is TCP; else UDP */
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

typedef struct dp_ice_config {
    size_t size;      /* sizeof(dp_ice_config) */
    dp_random random; /* required */
    dp_log log;
    dp_ice_role role;
    dp_duration pacing; /* Ta between new transactions; 0: 50 ms (RFC 8445 §14.2) */
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

/* A UDP socket that the owner has bound: becomes a host candidate. Before gather. LIMIT. */
DP_API int dp_ice_add_local_address(dp_ice *ice, const dp_address *local);
/* A STUN server for server-reflexive candidates (numeric address). Before gather. LIMIT. */
DP_API int dp_ice_add_stun_server(dp_ice *ice, const dp_address *server);
/* Emits LOCAL_CANDIDATE events, then GATHERING_COMPLETE. */
DP_API int dp_ice_gather(dp_ice *ice, dp_time now);

/* RFC 8839 §5.4: ufrag 4-256, pwd 22-256 ice-chars, else INVALID_ARGUMENT. Checks that came earlier and were
 * queued (a bounded number) are answered now. */
DP_API int dp_ice_set_remote_credentials(dp_ice *ice, dp_time now, const char *ufrag, const char *pwd);
/* The text of one candidate, NULL or "" for end-of-candidates. A candidate that is no use (TCP, component 2,
 * host name, over the cap, another ufrag) is skipped with DP_OK and a log line. MALFORMED if it is no
 * candidate at all. */
DP_API int dp_ice_add_remote_candidate(dp_ice *ice, dp_time now, const char *text);

/* A STUN datagram (first byte 0..3) that came to the socket bound to local from remote. Never fails: what is
 * not acceptable is dropped and counted. */
DP_API void dp_ice_input(dp_ice *ice, dp_time now, const uint8_t *data, size_t len, const dp_address *local,
                         const dp_address *remote);
DP_API void dp_ice_handle_timeout(dp_ice *ice, dp_time now);
DP_API dp_time dp_ice_next_timeout(const dp_ice *ice);
/* Writes the next STUN message to send into out. False: nothing to send. */
DP_API bool dp_ice_poll_transmit(dp_ice *ice, dp_datagram *out);

typedef enum dp_ice_event_type {
    DP_ICE_EVENT_LOCAL_CANDIDATE,    /* candidate */
    DP_ICE_EVENT_GATHERING_COMPLETE, /* no more local candidates */
    DP_ICE_EVENT_STATE,              /* state */
    DP_ICE_EVENT_SELECTED_PAIR,      /* local, remote: from now on send here (may happen again) */
} dp_ice_event_type;

typedef struct dp_ice_event {
    dp_ice_event_type type;
    dp_ice_state state;
    const char *candidate; /* valid until the next call */
    dp_address local;      /* the socket's address (the base) */
    dp_address remote;
} dp_ice_event;

DP_API bool dp_ice_poll_event(dp_ice *ice, dp_ice_event *event);

DP_API dp_ice_state dp_ice_get_state(const dp_ice *ice);
/* The pair to send data on: the nominated one or, before nomination, the best valid one. False: none yet. */
DP_API bool dp_ice_selected_pair(const dp_ice *ice, dp_address *local, dp_address *remote);
/* True if ICE has proved that remote at local is the peer: any valid pair, or one on which an authenticated
 * check of the peer was received. Only then are DTLS datagrams accepted from there. */
DP_API bool dp_ice_is_validated(const dp_ice *ice, const dp_address *local, const dp_address *remote);
/* What happened to the datagrams; counts from the start. */
typedef struct dp_ice_stats {
    uint64_t requests_sent;        /* retransmissions included */
    uint64_t responses_sent;       /* success and error */
    uint64_t dropped_malformed;    /* no STUN message, wrong FINGERPRINT, wrong length */
    uint64_t dropped_unauthorized; /* no or wrong integrity, wrong user name */
    uint64_t dropped_unexpected;   /* no transaction of ours, unknown socket, other methods and classes */
    uint64_t dropped_limit; /* over a cap: early checks, peer-reflexive candidates, pairs, outgoing queue */
    uint64_t candidates_skipped; /* remote candidates that are of no use or over the cap */
    uint64_t role_conflicts;     /* 487 sent or received */
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
