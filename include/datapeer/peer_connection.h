/* RTCPeerConnection for data channels (W3C webrtc-pc in C clothing), sans-IO: ICE, DTLS, SCTP and session
 * descriptions put together. The owner binds UDP sockets and moves the datagrams; <datapeer/peer.h> is a
 * ready owner.
 *
 * Order of calls: new, add_local_address*, [create_channel*]; then create_offer, or set_remote_description
 * and create_answer; then for ever: input / handle_timeout, and after each of them, and after each call that
 * changes something, poll_event and poll_transmit until both return false. */
#ifndef DATAPEER_PEER_CONNECTION_H
#define DATAPEER_PEER_CONNECTION_H

#include <datapeer/base.h>
#include <datapeer/dtls.h>
#include <datapeer/ice.h>
#include <datapeer/sctp.h>
#include <datapeer/sdp.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dp_pc dp_pc;

/* W3C RTCPeerConnectionState. */
typedef enum dp_pc_state {
    DP_PC_NEW,
    DP_PC_CONNECTING,
    DP_PC_CONNECTED,
    DP_PC_DISCONNECTED,
    DP_PC_FAILED,
    DP_PC_CLOSED,
} dp_pc_state;

DP_API const char *dp_pc_state_name(dp_pc_state state);

typedef enum dp_sdp_type { DP_SDP_OFFER, DP_SDP_ANSWER } dp_sdp_type;

typedef struct dp_pc_config {
    size_t size;      /* sizeof(dp_pc_config) */
    dp_random random; /* required */
    dp_log log;
    const dp_certificate *certificate; /* required; borrowed as long as the object lives */
    /* A pin: the peer has to prove this one, and what its description says does not count; so whoever carries the
     * descriptions can't stand in the middle. Copied; NULL: one of the description's. */
    const dp_fingerprint *remote_fingerprint;
    dp_key_log key_log;      /* for debugging, see dp_dtls_config */
    size_t max_message_size; /* largest message that comes whole; 0: 262144 */
    /* See dp_sctp_config. The peer is told this as a=max-message-size (0, no limit, for DP_UNLIMITED), or
     * max_message_size if this is 0. Chromium refuses a description that says 4294967295. */
    uint64_t max_size_in_parts;
    dp_duration ice_pacing; /* 0: 50 ms */
    bool ice_tcp;           /* these four: see dp_ice_config (tcp...) */
    bool ice_lite;
    bool relay_only;
    bool hide_addresses;
    /* Largest UDP datagram, without relays' headers, 600 to 16384, always; 0: 1200, and more where dp_pc_set_path_mtu
     * allows it. */
    size_t datagram_size;
    bool no_interleaving; /* see dp_sctp_config */
} dp_pc_config;

/* Whether datagram_size may be this. */
DP_API bool dp_pc_datagram_size_valid(size_t size);

#define DP_PC_MAX_MESSAGE_SIZE 262144

/* Errors: NO_MEMORY, INVALID_ARGUMENT, CRYPTO. */
DP_API int dp_pc_new(dp_pc **out, const dp_pc_config *config);
/* Frees at once, telling the peer nothing: call close and drain poll_transmit before. */
DP_API void dp_pc_free(dp_pc *pc);

/* See dp_ice_add_local_address, dp_ice_remove_local_address: at any time. */
DP_API int dp_pc_add_local_address(dp_pc *pc, dp_time now, const dp_address *local);
DP_API int dp_pc_remove_local_address(dp_pc *pc, dp_time now, const dp_address *local);
/* See dp_ice_add_local_listener. */
DP_API int dp_pc_add_local_listener(dp_pc *pc, dp_time now, const dp_address *local);
/* See dp_ice_add_server. Before the first description. */
DP_API int dp_pc_add_ice_server(dp_pc *pc, const dp_ice_server *server);

/* See dp_sctp_open_channel. */
DP_API int dp_pc_create_channel(dp_pc *pc, dp_channel **out, dp_time now, const dp_channel_init *init);

/* W3C restartIce: the next create_offer begins an ICE restart; data flows on the old path meanwhile. INVALID_STATE
 * before the connection was negotiated, or when it has failed or is closed. */
DP_API int dp_pc_restart_ice(dp_pc *pc);
/* createOffer and setLocalDescription in one: writes the text and begins to gather. Candidates that are known
 * at once (host) are in the text; later ones come as events. INVALID_STATE if there is a description already
 * and no restart is due, NO_SPACE (16 KiB is enough). */
DP_API int dp_pc_create_offer(dp_pc *pc, dp_time now, char *out, size_t capacity, size_t *len);
/* The same for an answer, after set_remote_description with an offer. */
DP_API int dp_pc_create_answer(dp_pc *pc, dp_time now, char *out, size_t capacity, size_t *len);
/* An offer on a connection that was negotiated is answered with the same parameters, or, if its ufrag and
 * password are other ones, restarts ICE; one that comes while an offer of ours waits rolls that back.
 * error (may be NULL) gets the line and the reason of a description that is refused; the connection is then
 * as before. */
DP_API int dp_pc_set_remote_description(dp_pc *pc, dp_time now, dp_sdp_type type, const char *sdp, size_t len,
                                        dp_sdp_error *error);
/* "candidate:..."; NULL or "": the peer has no more. INVALID_STATE before the remote description. */
DP_API int dp_pc_add_remote_candidate(dp_pc *pc, dp_time now, const char *candidate);

/* The peer's max-message-size; 0: no limit. */
DP_API uint64_t dp_pc_remote_max_message_size(const dp_pc *pc);
/* mid and m-line index of the data section, for candidates that leave. */
DP_API const char *dp_pc_mid(const dp_pc *pc);
DP_API unsigned dp_pc_mline_index(const dp_pc *pc);
DP_API const char *dp_pc_local_ufrag(const dp_pc *pc);

/* See dp_ice_link_opened and its neighbours, dp_ice_resolved. */
DP_API uint32_t dp_pc_link_accepted(dp_pc *pc, dp_time now, const dp_address *local,
                                    const dp_address *remote);
DP_API void dp_pc_link_opened(dp_pc *pc, dp_time now, uint32_t link);
DP_API void dp_pc_link_input(dp_pc *pc, dp_time now, uint32_t link, uint8_t *data, size_t len);
DP_API void dp_pc_link_closed(dp_pc *pc, dp_time now, uint32_t link);
DP_API void dp_pc_resolved(dp_pc *pc, dp_time now, const char *hostname, const dp_address *addresses,
                           size_t count);

/* A datagram that came to the socket bound to local. data is changed in place. */
DP_API void dp_pc_input(dp_pc *pc, dp_time now, uint8_t *data, size_t len, const dp_address *local,
                        const dp_address *remote);
DP_API void dp_pc_handle_timeout(dp_pc *pc, dp_time now);
DP_API dp_time dp_pc_next_timeout(const dp_pc *pc);
/* After SELECTED_PAIR, and only then: the MTU of the way from event->local to event->remote as far as this machine knows
 * it (dp_route_mtu), or 0. Larger datagrams are tried by probes (RFC 8899) up to it; without this call they stay at
 * 1200 bytes. Relays and TCP do so anyway. Datagrams of dp_pc_poll_transmit that are to be whole must leave with DF;
 * all others without: an owner that cannot do so does not call this, for a probe that came in fragments proves nothing. */
DP_API void dp_pc_set_path_mtu(dp_pc *pc, dp_time now, size_t mtu);
/* The next datagram, into a slot of DP_DATAGRAM_MAX bytes or more (nothing is written into a smaller one). */
DP_API bool dp_pc_poll_transmit(dp_pc *pc, dp_time now, dp_datagram *out);

/* For an owner that serves many connections on one socket: dp_ice_awaits and dp_ice_is_validated of this one.
 */
DP_API bool dp_pc_awaits(const dp_pc *pc, const uint8_t *data, size_t len);
DP_API bool dp_pc_is_validated(const dp_pc *pc, const dp_address *local, const dp_address *remote);

/* Sends are dp_channel_send, closes dp_channel_close of <datapeer/sctp.h>. */

/* Tells the peer (ABORT, close_notify) and goes to CLOSED; every channel gets its CHANNEL_CLOSED. */
DP_API void dp_pc_close(dp_pc *pc, dp_time now);

typedef enum dp_pc_event_type {
    DP_PC_EVENT_STATE,           /* state; for FAILED: error, message */
    DP_PC_EVENT_ICE_STATE,       /* ice_state */
    DP_PC_EVENT_LOCAL_CANDIDATE, /* candidate: send it to the peer; hostname, local: see dp_ice_event */
    DP_PC_EVENT_GATHERING_COMPLETE,
    DP_PC_EVENT_SELECTED_PAIR, /* local, remote, local_type, remote_type */
    DP_PC_EVENT_RESOLVE,       /* hostname: dp_pc_resolved is due */
    DP_PC_EVENT_PUBLISH,       /* hostname, local: publish it by mDNS (its candidate was in a description) */
    DP_PC_EVENT_LINK_OPEN,     /* link */
    DP_PC_EVENT_LINK_CLOSE,    /* link.id */
    DP_PC_EVENT_CHANNEL_OPEN,  /* channel, incoming */
    DP_PC_EVENT_MESSAGE,       /* channel, data, len, binary */
    DP_PC_EVENT_MESSAGE_PART, /* channel, data, len, binary, first, last, error: see DP_SCTP_EVENT_MESSAGE_PART */
    DP_PC_EVENT_BUFFERED_AMOUNT_LOW, /* channel */
    DP_PC_EVENT_CHANNEL_ERROR,       /* channel, error */
    DP_PC_EVENT_CHANNEL_CLOSED,      /* channel, invalid after the next call */
} dp_pc_event_type;

typedef struct dp_pc_event {
    dp_pc_event_type type;
    dp_pc_state state;
    dp_ice_state ice_state;
    const char *candidate; /* texts are valid until the next call */
    const char *hostname;
    dp_address local;
    dp_address remote;
    dp_candidate_type local_type;
    dp_candidate_type remote_type;
    dp_ice_link link;
    dp_channel *channel;
    bool incoming;
    bool binary;
    const uint8_t *data; /* valid until the next call */
    size_t len;
    bool first;
    bool last;
    int error;
    const char *message;
} dp_pc_event;

/* Figures of the connection; names and meanings are those of W3C webrtc-stats. What is not known yet is 0 or NULL. */
typedef struct dp_pc_stats {
    size_t size; /* sizeof(dp_pc_stats), set by the caller */
    /* RTCTransportStats: DTLS datagrams, without ICE's own. */
    uint64_t packets_sent;
    uint64_t packets_received;
    uint64_t bytes_sent;
    uint64_t bytes_received;
    uint32_t selected_candidate_pair_changes;
    dp_dtls_state dtls_state;
    dp_dtls_role dtls_role;  /* once both descriptions are there */
    const char *tls_version; /* "FEFD": DTLS 1.2 */
    const char *dtls_cipher; /* IANA's name */
    uint16_t srtp_profile;   /* dp_srtp_profile */
    /* RTCIceTransport, RTCIceCandidatePairStats of the selected pair. */
    dp_ice_state ice_state;
    bool has_selected_pair;
    dp_address local;
    dp_address remote;
    dp_ice_stats ice;
    /* RTCPeerConnectionStats, RTCSctpTransportStats. */
    dp_sctp_stats sctp;
} dp_pc_stats;

/* INVALID_ARGUMENT if out->size is not one that this library knows. A channel's own: dp_channel_get_stats. */
DP_API int dp_pc_get_stats(const dp_pc *pc, dp_pc_stats *out);

DP_API bool dp_pc_poll_event(dp_pc *pc, dp_time now, dp_pc_event *event);
DP_API dp_pc_state dp_pc_get_state(const dp_pc *pc);

#ifdef __cplusplus
}
#endif
#endif
