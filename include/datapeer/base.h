/* What every layer shares: time, errors, randomness, allocation, logging, addresses, fingerprints.
 *
 * All lengths are bytes. All integers of an API are in host order. Unless a docstring says otherwise,
 * inputs are borrowed for the length of the call, functions are not thread-safe on one object, and
 * different objects may live in different threads (sctp excepted: usrsctp is one per process). */
#ifndef DATAPEER_BASE_H
#define DATAPEER_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define DP_API               __attribute__((visibility("default")))
#define DP_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define DP_MUST_CHECK        __attribute__((warn_unused_result))
#else
#define DP_API
#define DP_PRINTF(fmt, args)
#define DP_MUST_CHECK
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- time ---------------------------------------------------------------------------------- */

/* A point on a monotonic clock, in microseconds. Its zero is the owner's choice. */
typedef uint64_t dp_time;
/* A length of time, in microseconds. */
typedef uint64_t dp_duration;

#define DP_TIME_NEVER UINT64_MAX
#define DP_MS(n)      ((dp_duration)(n)*1000u)
#define DP_SECONDS(n) ((dp_duration)(n)*1000000u)

/* ---- errors -------------------------------------------------------------------------------- */

typedef enum dp_error {
    DP_OK = 0,
    DP_ERR_NO_MEMORY = -1,        /* an allocation failed; the object is as it was before the call */
    DP_ERR_INVALID_ARGUMENT = -2, /* the caller's mistake */
    DP_ERR_INVALID_STATE = -3,    /* the call does not fit the object's state */
    DP_ERR_WOULD_BLOCK = -4,      /* buffers are full (or nothing is there yet): try again later */
    DP_ERR_MALFORMED = -5,        /* the peer's bytes break the protocol's syntax */
    DP_ERR_TRUNCATED = -6,        /* the input ends too early */
    DP_ERR_NO_SPACE = -7,         /* the output buffer is too small */
    DP_ERR_TOO_LARGE = -8,        /* over a size limit (a message, a header, a file) */
    DP_ERR_LIMIT = -9,            /* over a count limit (candidates, channels, requests) */
    DP_ERR_UNSUPPORTED = -10,     /* valid, but not something that datapeer does */
    DP_ERR_NOT_FOUND = -11,
    DP_ERR_EXISTS = -12,
    DP_ERR_TIMEOUT = -13,
    DP_ERR_CLOSED = -14,      /* the connection or channel is closed */
    DP_ERR_CANCELLED = -15,   /* by the owner */
    DP_ERR_PROTOCOL = -16,    /* well-formed bytes at the wrong moment or with a forbidden meaning */
    DP_ERR_AUTH = -17,        /* integrity check, wrong credentials */
    DP_ERR_FINGERPRINT = -18, /* the peer's certificate is not the one that its description names */
    DP_ERR_CRYPTO = -19,      /* the TLS or random library failed */
    DP_ERR_DENIED = -20,      /* a permission is missing, a path leads outside */
    DP_ERR_IO = -21,          /* a system call failed */
    DP_ERR_REMOTE = -22,      /* the peer answered with an error */
} dp_error;

/* A short English phrase for an error code; never NULL, also for numbers that are no code. */
DP_API const char *dp_strerror(int error);

/* ---- randomness ---------------------------------------------------------------------------- */

/* A source of random bytes. fn fills out[0..len) and returns DP_OK, or DP_ERR_CRYPTO. */
typedef struct dp_random {
    int (*fn)(void *ctx, uint8_t *out, size_t len);
    void *ctx;
} dp_random;

typedef struct dp_csprng dp_csprng;

/* The production source: CTR-DRBG (AES-256) seeded from getrandom(2). Free it after all its users. Objects
 * that share one belong to one thread, and a forked child needs a new one: its copy would repeat the parent's
 * bytes. Errors: DP_ERR_NO_MEMORY, DP_ERR_CRYPTO. */
DP_API int dp_csprng_new(dp_csprng **out);
DP_API void dp_csprng_free(dp_csprng *csprng);
DP_API dp_random dp_csprng_source(dp_csprng *csprng);

/* ---- SHA-256 --------------------------------------------------------------------------------- */

typedef struct dp_sha256_hash dp_sha256_hash;

/* For checking what was transferred: new, update*, then finish (which frees it) or free. NO_MEMORY, CRYPTO.
 */
DP_API int dp_sha256_new(dp_sha256_hash **out);
DP_API int dp_sha256_update(dp_sha256_hash *hash, const void *data, size_t len);
/* Writes the hash as 64 lower-case hex digits and a NUL, and frees hash in every case. */
DP_API int dp_sha256_finish(dp_sha256_hash *hash, char hex[65]);
DP_API void dp_sha256_free(dp_sha256_hash *hash);

/* ---- allocation ---------------------------------------------------------------------------- */

/* The allocation hook. realloc(ctx, NULL, n) allocates; free(ctx, NULL) does nothing.
 * All memory of datapeer's own code goes through it; mbedTLS and usrsctp have hooks of their own. */
typedef struct dp_allocator {
    void *(*alloc)(void *ctx, size_t size);
    void *(*realloc)(void *ctx, void *old, size_t size);
    void (*free)(void *ctx, void *block);
    void *ctx;
} dp_allocator;

/* Replaces the process-wide allocator; NULL restores malloc. Call before anything else is called. */
DP_API void dp_set_allocator(const dp_allocator *allocator);

/* For memory that an API hands over to the caller ("release with dp_free"). */
DP_API void dp_free(void *block);

/* ---- logging ------------------------------------------------------------------------------- */

typedef enum dp_log_level {
    DP_LOG_NONE = 0, /* silent: the default */
    DP_LOG_ERROR,
    DP_LOG_WARN,
    DP_LOG_INFO,
    DP_LOG_DEBUG,
} dp_log_level;

/* A sink for log lines. message has no line end and is valid during the call. layer is "ice", "dtls"...
 * No secret (password, key, token) is ever passed to it. */
typedef struct dp_log {
    void (*fn)(void *ctx, dp_log_level level, const char *layer, const char *message);
    void *ctx;
    dp_log_level level; /* lines above this level are not formatted at all */
} dp_log;

/* ---- key log ------------------------------------------------------------------------------- */

/* Gets the secret of each handshake as a line "CLIENT_RANDOM <client random> <master secret>" in hexadecimal,
 * without a newline: the NSS key log format, with which Wireshark decodes a capture. Whoever has the line reads
 * the whole connection. */
typedef struct dp_key_log {
    void (*fn)(void *ctx, const char *line); /* NULL: off */
    void *ctx;
} dp_key_log;

/* ---- addresses and datagrams --------------------------------------------------------------- */

typedef enum dp_family { DP_FAMILY_NONE = 0, DP_FAMILY_IPV4 = 4, DP_FAMILY_IPV6 = 6 } dp_family;

/* A transport address. IPv4 uses ip[0..4), the rest is zero. An all-zero struct is "no address". */
typedef struct dp_address {
    uint8_t family; /* dp_family */
    uint16_t port;
    uint32_t scope; /* IPv6 zone index of a link-local address, else 0 */
    uint8_t ip[16]; /* network order */
} dp_address;

#define DP_ADDRESS_TEXT_MAX 72 /* the longest text of the two functions below, and more */

/* Numeric text such as "192.0.2.1" or "2001:db8::1" (no brackets, no zone) to an address. DP_ERR_MALFORMED.
 */
DP_API int dp_address_parse(dp_address *out, const char *ip, uint16_t port);
/* Writes "192.0.2.1:80" or "[2001:db8::1]:80" and returns text. */
DP_API const char *dp_address_format(const dp_address *address, char text[DP_ADDRESS_TEXT_MAX]);
/* As above without port and brackets. */
DP_API const char *dp_address_format_ip(const dp_address *address, char text[DP_ADDRESS_TEXT_MAX]);
/* Same family, ip and port (scope only counts if both have one). */
DP_API bool dp_address_equal(const dp_address *a, const dp_address *b);
/* The same without the port. */
DP_API bool dp_address_same_ip(const dp_address *a, const dp_address *b);

/* A slot for one datagram that leaves. The caller owns data[0..capacity); the callee writes it and sets length,
 * and local (which socket) and remote, or link. A capacity of DP_DATAGRAM_MAX is always enough. */
typedef struct dp_datagram {
    uint8_t *data;
    size_t capacity;
    size_t length;
    uint32_t link; /* not 0: it goes to this link (<datapeer/ice.h>), whatever local and remote are */
    dp_address local;
    dp_address remote;
    bool whole; /* must not be fragmented (IPv4: DF), and is rather lost: it finds out the path's MTU */
} dp_datagram;

#define DP_DATAGRAM_MAX 16512 /* the longest DTLS record and what a relay adds */

/* ---- certificate fingerprints (RFC 8122 §5) -------------------------------------------------- */

typedef enum dp_fingerprint_algorithm {
    DP_FINGERPRINT_SHA256 = 1,
    DP_FINGERPRINT_SHA384,
    DP_FINGERPRINT_SHA512,
} dp_fingerprint_algorithm;

typedef struct dp_fingerprint {
    dp_fingerprint_algorithm algorithm;
    uint8_t length; /* 32, 48 or 64 */
    uint8_t bytes[64];
} dp_fingerprint;

#define DP_FINGERPRINT_TEXT_MAX 208 /* "sha-512 " + 64 * "XX:" and the NUL */

/* "sha-256 AB:CD:..." (algorithm in any case, hex in any case, exactly the hash's length).
 * DP_ERR_MALFORMED; DP_ERR_UNSUPPORTED for SHA-1, MD5 and unknown algorithms. */
DP_API int dp_fingerprint_parse(dp_fingerprint *out, const char *text, size_t len);
/* Upper-case hex as RFC 8122 wants it; returns text. */
DP_API const char *dp_fingerprint_format(const dp_fingerprint *fp, char text[DP_FINGERPRINT_TEXT_MAX]);

#ifdef __cplusplus
}
#endif
#endif
