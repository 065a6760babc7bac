/* The STUN message codec (RFC 8489), as far as ICE needs it: the Binding method, short-term integrity. */
#ifndef ICE_STUN_H
#define ICE_STUN_H

#include "base/wr.h"
#include <datapeer/base.h>

#define DP_STUN_HEADER_LEN      20
#define DP_STUN_TRANSACTION_LEN 12
#define DP_STUN_MAGIC_COOKIE    0x2112A442u
/* Longest message that is accepted or written: one datagram that no path has to fragment (RFC 8489 §6.1). */
#define DP_STUN_MESSAGE_MAX  1500
#define DP_STUN_USERNAME_MAX 513 /* RFC 8489 §14.3 */
#define DP_STUN_UNKNOWN_MAX  8   /* unknown attributes that are remembered for the 420 */

#define DP_STUN_METHOD_BINDING 0x001

typedef enum dp_stun_class {
    DP_STUN_REQUEST = 0,
    DP_STUN_INDICATION = 1,
    DP_STUN_SUCCESS = 2,
    DP_STUN_ERROR = 3,
} dp_stun_class;

/* RFC 8489 §18.3, RFC 8445 §16.1. Types below 0x8000 are comprehension-required. */
typedef enum dp_stun_attribute {
    DP_STUN_MAPPED_ADDRESS = 0x0001,
    DP_STUN_USERNAME = 0x0006,
    DP_STUN_MESSAGE_INTEGRITY = 0x0008,
    DP_STUN_ERROR_CODE = 0x0009,
    DP_STUN_UNKNOWN_ATTRIBUTES = 0x000A,
    DP_STUN_REALM = 0x0014,
    DP_STUN_NONCE = 0x0015,
    DP_STUN_XOR_MAPPED_ADDRESS = 0x0020,
    DP_STUN_PRIORITY = 0x0024,
    DP_STUN_USE_CANDIDATE = 0x0025,
    DP_STUN_FINGERPRINT = 0x8028,
    DP_STUN_ICE_CONTROLLED = 0x8029,
    DP_STUN_ICE_CONTROLLING = 0x802A,
} dp_stun_attribute;

#define DP_STUN_CODE_BAD_REQUEST       400
#define DP_STUN_CODE_UNKNOWN_ATTRIBUTE 420
#define DP_STUN_CODE_ROLE_CONFLICT     487

/* A decoded message. Pointers borrow the datagram. Only the first of several attributes of a type counts, and
 * what follows MESSAGE-INTEGRITY does not, except FINGERPRINT (RFC 8489 §14, §14.5). */
typedef struct dp_stun_message {
    const uint8_t *data;
    size_t len;
    dp_stun_class class_;
    unsigned method;
    const uint8_t *transaction; /* DP_STUN_TRANSACTION_LEN bytes */

    const uint8_t *username; /* NULL if absent; so with all pointers */
    size_t username_len;
    const uint8_t *realm;
    size_t realm_len;
    const uint8_t *nonce;
    size_t nonce_len;
    size_t integrity_at; /* offset of MESSAGE-INTEGRITY, 0 if absent */
    bool has_fingerprint;
    bool has_priority;
    bool has_controlled;
    bool has_controlling;
    bool use_candidate;
    uint32_t priority;
    uint64_t tie_breaker; /* of ICE-CONTROLLED or ICE-CONTROLLING */
    dp_address mapped;    /* XOR-MAPPED-ADDRESS, all zero if absent */
    unsigned error_code;  /* 300-699, 0 if absent */

    uint16_t unknown[DP_STUN_UNKNOWN_MAX]; /* comprehension-required types that this codec does not know */
    size_t unknown_count;
    uint16_t reported[DP_STUN_UNKNOWN_MAX]; /* the types in UNKNOWN-ATTRIBUTES */
    size_t reported_count;
} dp_stun_message;

/* Validates the whole datagram before anything of it is used: lengths, magic cookie, sizes of known
 * attributes, FINGERPRINT (correct and last). Integrity is not checked here. MALFORMED. */
int dp_stun_decode(dp_stun_message *out, const uint8_t *data, size_t len);
/* DP_OK if MESSAGE-INTEGRITY is there and right for key; AUTH; CRYPTO. Takes the same time for every wrong
 * value. */
int dp_stun_check_integrity(const dp_stun_message *message, const void *key, size_t key_len);

/* Writing: the writer must be empty at first; then attributes, integrity, fingerprint in this order; then
 * finish. */
void dp_stun_write_header(dp_wr *wr, dp_stun_class class_, unsigned method,
                          const uint8_t transaction[DP_STUN_TRANSACTION_LEN]);
void dp_stun_write_attribute(dp_wr *wr, dp_stun_attribute type, const void *value, size_t len);
void dp_stun_write_u32(dp_wr *wr, dp_stun_attribute type, uint32_t value);
void dp_stun_write_u64(dp_wr *wr, dp_stun_attribute type, uint64_t value);
void dp_stun_write_xor_mapped_address(dp_wr *wr, const dp_address *address);
void dp_stun_write_error_code(dp_wr *wr, unsigned code, const char *reason);
void dp_stun_write_unknown_attributes(dp_wr *wr, const uint16_t *types, size_t count);
void dp_stun_write_integrity(dp_wr *wr, const void *key, size_t key_len);
void dp_stun_write_fingerprint(dp_wr *wr);
/* DP_OK and the length, or NO_SPACE. */
int dp_stun_finish(dp_wr *wr, size_t *len);

#endif
