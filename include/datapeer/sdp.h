/* Session descriptions of data-channel connections: the subset of RFC 8829, 8839, 8841, 8842, 8866 that
 * WebRTC's data-channel peers need. A description is read into, and written from, one plain struct. */
#ifndef DATAPEER_SDP_H
#define DATAPEER_SDP_H

#include <datapeer/base.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DP_SDP_TEXT_MAX         65536 /* longest description that is parsed */
#define DP_SDP_MAX_MEDIA        16
#define DP_SDP_MAX_FINGERPRINTS 8
#define DP_SDP_MAX_CANDIDATES   64

typedef enum dp_sdp_setup { DP_SETUP_NONE, DP_SETUP_ACTPASS, DP_SETUP_ACTIVE, DP_SETUP_PASSIVE } dp_sdp_setup;

/* One m-line. Only the first application section with a data-channel protocol is ours; the others of an offer
 * are answered as rejected (port 0), in their place (RFC 8829 §5.3.1). */
typedef struct dp_sdp_media {
    char kind[16];     /* "application", "audio", ... */
    char protocol[32]; /* "UDP/DTLS/SCTP", "UDP/TLS/RTP/SAVPF", ... */
    char format[32];   /* the first format, needed to write the rejected line */
    char mid[65];      /* empty if absent */
    bool rejected;     /* port 0 */
} dp_sdp_media;

typedef struct dp_sdp {
    uint64_t session_id;
    uint64_t session_version;
    char ufrag[257];
    char pwd[257];
    bool ice_lite;
    bool trickle;           /* a=ice-options:trickle */
    bool end_of_candidates; /* a=end-of-candidates */
    dp_sdp_setup setup;
    dp_fingerprint fingerprints[DP_SDP_MAX_FINGERPRINTS];
    size_t fingerprint_count;
    uint16_t sctp_port;        /* 5000 if absent */
    uint64_t max_message_size; /* 65536 if absent (RFC 8841 §6.1); 0: no limit */
    dp_sdp_media media[DP_SDP_MAX_MEDIA];
    size_t media_count;
    size_t data_index; /* which media is the data channel's (its mid and sdpMLineIndex) */
    /* No a=group:BUNDLE names the data section. An answer copies it from the offer: it must not bundle what
     * the offer did not (RFC 9143 §7.3). False, as in a zeroed struct, writes the group if there is a mid. */
    bool unbundled;
    /* Candidate lines ("candidate:..." without "a="), borrowed from the parsed text, or the writer's
     * caller's. */
    struct {
        const char *at;
        size_t len;
    } candidates[DP_SDP_MAX_CANDIDATES]; /* more are ignored */
    size_t candidate_count;
} dp_sdp;

typedef struct dp_sdp_error {
    unsigned line;     /* 1-based; 0: the description as a whole */
    char message[128]; /* what is wrong and what was expected; contains no text of the peer */
} dp_sdp_error;

/* Parses text[0..len) (LF or CRLF). On failure error says where and why; DP_ERR_MALFORMED, DP_ERR_TOO_LARGE,
 * DP_ERR_UNSUPPORTED (no data-channel section, only SHA-1 fingerprints...). text must outlive
 * out->candidates. */
DP_API int dp_sdp_parse(dp_sdp *out, dp_sdp_error *error, const char *text, size_t len);

/* Writes a description, NUL-terminated (len without it). The section at data_index carries the transport; all
 * others are written rejected. NO_SPACE, INVALID_ARGUMENT. */
DP_API int dp_sdp_write(const dp_sdp *sdp, char *out, size_t capacity, size_t *len);

#ifdef __cplusplus
}
#endif
#endif
