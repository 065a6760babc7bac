/* DTLS 1.2 (RFC 6347) as WebRTC uses it (RFC 8827, RFC 8842): mutual self-signed certificates, known by
 * fingerprint. mbedTLS does the handshake; afterwards application records are sealed and opened here with
 * nettle. Sans-IO.
 *
 * A certificate may be used by many connections, all in one thread (mbedTLS caches points of the curve in its
 * key).
 *
 * Order of calls: new, set_remote_fingerprints, start; then input / handle_timeout, and after each of them
 * poll_event and poll_transmit until both return false; seal for application data once CONNECTED.
 * examples/dtls_cat.c is all of it under poll(2). */
#ifndef DATAPEER_DTLS_H
#define DATAPEER_DTLS_H

#include <datapeer/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dp_certificate dp_certificate;

/* How long browsers let a certificate be valid (W3C webrtc-pc, generateCertificate). */
#define DP_CERTIFICATE_DAYS     30  /* unless they are asked for more... */
#define DP_CERTIFICATE_DAYS_MAX 365 /* ...and at most */

/* A fresh ECDSA P-256 key with a self-signed certificate. unix_now: wall clock in seconds, for its validity
 * (one day back to 30 days ahead). Errors: NO_MEMORY, CRYPTO, INVALID_ARGUMENT. */
DP_API int dp_certificate_generate(dp_certificate **out, const dp_random *random, int64_t unix_now);
/* The same, valid for 1 to DP_CERTIFICATE_DAYS_MAX days ahead. */
DP_API int dp_certificate_generate_for(dp_certificate **out, const dp_random *random, int64_t unix_now,
                                       unsigned days);
/* PEM text of a private key and a certificate, in any order (NUL-terminated). MALFORMED: one is missing or can't be
 * read, or they do not belong together; UNSUPPORTED: a key of another kind than ECDSA P-256; NO_MEMORY. */
DP_API int dp_certificate_from_pem(dp_certificate **out, const char *pem);
/* Private key and certificate as NUL-terminated PEM: a secret. NO_SPACE. */
DP_API int dp_certificate_to_pem(const dp_certificate *certificate, char *out, size_t capacity);
/* The end of its validity, in seconds since 1970. The other side knows us by the fingerprint and does not look at
 * dates (RFC 8827 §6.5), nor does datapeer: it is a hint to make a new one, if being known anew is no harm. */
DP_API int64_t dp_certificate_expires(const dp_certificate *certificate);
DP_API void dp_certificate_free(dp_certificate *certificate);
/* SHA-256 of the DER certificate. */
DP_API void dp_certificate_fingerprint(const dp_certificate *certificate, dp_fingerprint *out);

typedef struct dp_dtls dp_dtls;

typedef enum dp_dtls_role { DP_DTLS_CLIENT, DP_DTLS_SERVER } dp_dtls_role;

typedef enum dp_dtls_state {
    DP_DTLS_NEW,
    DP_DTLS_CONNECTING,
    DP_DTLS_CONNECTED,
    DP_DTLS_CLOSED,
    DP_DTLS_FAILED,
} dp_dtls_state;

typedef struct dp_dtls_config {
    size_t size;      /* sizeof(dp_dtls_config) */
    dp_random random; /* required */
    dp_log log;
    dp_dtls_role role;
    const dp_certificate *certificate; /* required; borrowed as long as the object lives */
    size_t mtu;                        /* largest datagram of the handshake; 0: 1200 */
    dp_duration handshake_timeout;     /* 0: 30 s, at most 10 min; then FAILED with DP_ERR_TIMEOUT */
    dp_key_log key_log;                /* for debugging; logs a warning when it is on */
} dp_dtls_config;

#define DP_DTLS_OVERHEAD   37    /* most that seal adds: 13 header + 8 explicit nonce + 16 tag */
#define DP_DTLS_RECORD_MAX 16384 /* largest application record */

DP_API int dp_dtls_new(dp_dtls **out, const dp_dtls_config *config);
DP_API void dp_dtls_free(dp_dtls *dtls);
/* At least one, at most 8; the certificate has to match one of those with the strongest hash (RFC 8122 §5).
 * Before start. INVALID_ARGUMENT, INVALID_STATE. */
DP_API int dp_dtls_set_remote_fingerprints(dp_dtls *dtls, const dp_fingerprint *fingerprints, size_t count);
/* Begins the handshake (the client's first flight becomes available for poll_transmit). INVALID_STATE without
 * fingerprints or a second time; NO_MEMORY, CRYPTO: may be tried again. */
DP_API int dp_dtls_start(dp_dtls *dtls, dp_time now);

/* A datagram from an address that ICE has validated. data is decrypted in place and must stay until the
 * events are drained. Bad records are dropped and counted. */
DP_API void dp_dtls_input(dp_dtls *dtls, dp_time now, uint8_t *data, size_t len);
DP_API void dp_dtls_handle_timeout(dp_dtls *dtls, dp_time now);
DP_API dp_time dp_dtls_next_timeout(const dp_dtls *dtls);
/* The next handshake or alert datagram, written to out. capacity >= mtu. */
DP_API bool dp_dtls_poll_transmit(dp_dtls *dtls, uint8_t *out, size_t capacity, size_t *len);

/* Encrypts one application record from data into out (out of place, no overlap). INVALID_STATE before
 * CONNECTED or after close, NO_SPACE; TOO_LARGE, for the format or for a client that asked for smaller records; LIMIT after 2^48 - 2^32 records, and the connection has
 * failed then. */
DP_API int dp_dtls_seal(dp_dtls *dtls, uint8_t *out, size_t capacity, size_t *out_len, const uint8_t *data,
                        size_t len);

typedef enum dp_dtls_event_type {
    DP_DTLS_EVENT_CONNECTED, /* the peer proved its fingerprint */
    DP_DTLS_EVENT_DATA,      /* data, len: one application record, inside the datagram given to input */
    DP_DTLS_EVENT_CLOSED,    /* close_notify came */
    DP_DTLS_EVENT_FAILED,    /* error, message */
} dp_dtls_event_type;

typedef struct dp_dtls_event {
    dp_dtls_event_type type;
    uint8_t *data; /* valid until the next call */
    size_t len;
    int error;           /* dp_error */
    const char *message; /* what happened and, for a fingerprint mismatch, both fingerprints */
} dp_dtls_event;

/* The cipher suite by its IANA name, from CONNECTED until the end; else NULL. */
DP_API const char *dp_dtls_cipher_suite(const dp_dtls *dtls);

/* The protection profiles of SRTP by their IANA numbers. */
typedef enum dp_srtp_profile {
    DP_SRTP_NONE = 0,
    DP_SRTP_AES128_CM_HMAC_SHA1_80 = 1, /* RFC 5764 §4.1.2 */
} dp_srtp_profile;

/* Master keys and salts (RFC 3711 §3.2.1): "local" protects what this end sends. A secret. */
typedef struct dp_srtp_keys {
    dp_srtp_profile profile;
    uint8_t local_key[16];
    uint8_t local_salt[14];
    uint8_t remote_key[16];
    uint8_t remote_salt[14];
} dp_srtp_keys;

/* The keys for media beside this connection (RFC 5764 §4.2), for an owner that brings its own SRTP. From CONNECTED
 * until the end. INVALID_STATE; UNSUPPORTED if the peer does not have the use_srtp extension or the profile. */
DP_API int dp_dtls_srtp_keys(const dp_dtls *dtls, dp_srtp_keys *out);

DP_API bool dp_dtls_poll_event(dp_dtls *dtls, dp_dtls_event *event);
DP_API dp_dtls_state dp_dtls_get_state(const dp_dtls *dtls);
/* Records and datagrams dropped so far: garbage, forgeries, replays, alerts that nobody signed. */
DP_API uint64_t dp_dtls_get_dropped(const dp_dtls *dtls);
/* Queues close_notify for poll_transmit and goes to CLOSED. */
DP_API void dp_dtls_close(dp_dtls *dtls, dp_time now);

#ifdef __cplusplus
}
#endif
#endif
