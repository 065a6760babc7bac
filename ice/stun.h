/* The STUN message codec (RFC 8489), as far as ICE and TURN (RFC 8656) need it. */
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

#define DP_STUN_REALM_MAX   763 /* §14.9, and a nonce's, §14.10 */
#define DP_STUN_RELAYED_MAX 2   /* RFC 8656 §7.3: one of each family */

/* RFC 8489 §18.2, RFC 8656 §17 */
#define DP_STUN_METHOD_BINDING           0x001
#define DP_STUN_METHOD_ALLOCATE          0x003
#define DP_STUN_METHOD_REFRESH           0x004
#define DP_STUN_METHOD_SEND              0x006
#define DP_STUN_METHOD_DATA              0x007
#define DP_STUN_METHOD_CREATE_PERMISSION 0x008
#define DP_STUN_METHOD_CHANNEL_BIND      0x009

typedef enum dp_stun_class {
    DP_STUN_REQUEST = 0,
    DP_STUN_INDICATION = 1,
    DP_STUN_SUCCESS = 2,
    DP_STUN_ERROR = 3,
} dp_stun_class;

/* RFC 8489 §18.3, RFC 8445 §16.1, RFC 8656 §18. Types below 0x8000 are comprehension-required. */
typedef enum dp_stun_attribute {
    DP_STUN_MAPPED_ADDRESS = 0x0001,
    DP_STUN_USERNAME = 0x0006,
    DP_STUN_MESSAGE_INTEGRITY = 0x0008,
    DP_STUN_ERROR_CODE = 0x0009,
    DP_STUN_UNKNOWN_ATTRIBUTES = 0x000A,
    DP_STUN_CHANNEL_NUMBER = 0x000C,
    DP_STUN_LIFETIME = 0x000D,
    DP_STUN_XOR_PEER_ADDRESS = 0x0012,
    DP_STUN_DATA = 0x0013,
    DP_STUN_REALM = 0x0014,
    DP_STUN_NONCE = 0x0015,
    DP_STUN_XOR_RELAYED_ADDRESS = 0x0016,
    DP_STUN_REQUESTED_ADDRESS_FAMILY = 0x0017,
    DP_STUN_REQUESTED_TRANSPORT = 0x0019,
    DP_STUN_XOR_MAPPED_ADDRESS = 0x0020,
    DP_STUN_PRIORITY = 0x0024,
    DP_STUN_USE_CANDIDATE = 0x0025,
    DP_STUN_ADDITIONAL_ADDRESS_FAMILY = 0x8000,
    DP_STUN_ADDRESS_ERROR_CODE = 0x8001,
    DP_STUN_SOFTWARE = 0x8022,
    DP_STUN_ALTERNATE_SERVER = 0x8023,
    DP_STUN_FINGERPRINT = 0x8028,
    DP_STUN_ICE_CONTROLLED = 0x8029,
    DP_STUN_ICE_CONTROLLING = 0x802A,
    DP_STUN_ADDITIONAL_ADDRESS_FAMILY_DRAFT =
        0x8032, /* draft-martinsen-tram-ssodda; coturn knows only this */
} dp_stun_attribute;

/* Values of the address family attributes (RFC 8656 §18.6) */
#define DP_STUN_FAMILY_IPV6 2

#define DP_STUN_CODE_TRY_ALTERNATE       300
#define DP_STUN_CODE_BAD_REQUEST         400
#define DP_STUN_CODE_UNAUTHENTICATED     401
#define DP_STUN_CODE_UNKNOWN_ATTRIBUTE   420
#define DP_STUN_CODE_ALLOCATION_MISMATCH 437
#define DP_STUN_CODE_STALE_NONCE         438
#define DP_STUN_CODE_FAMILY_UNSUPPORTED  440
#define DP_STUN_CODE_WRONG_CREDENTIALS   441
#define DP_STUN_CODE_ROLE_CONFLICT       487

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

    bool has_lifetime;
    uint32_t lifetime;      /* seconds */
    uint16_t channel;       /* CHANNEL-NUMBER, 0 if absent */
    const uint8_t *payload; /* DATA */
    size_t payload_len;
    dp_address peer;                         /* XOR-PEER-ADDRESS, all zero if absent; so with the next two */
    dp_address alternate;                    /* ALTERNATE-SERVER */
    dp_address relayed[DP_STUN_RELAYED_MAX]; /* XOR-RELAYED-ADDRESS; here two count */
    size_t relayed_count;
    unsigned address_error;       /* the code in ADDRESS-ERROR-CODE, 0 if absent */
    uint8_t address_error_family; /* DP_STUN_FAMILY_... */

    uint16_t unknown[DP_STUN_UNKNOWN_MAX]; /* comprehension-required types that this codec does not know */
    size_t unknown_count;
    uint16_t reported[DP_STUN_UNKNOWN_MAX]; /* the types in UNKNOWN-ATTRIBUTES */
    size_t reported_count;
} dp_stun_message;

/* Validates the whole datagram before anything of it is used: lengths, magic cookie, sizes of known
 * attributes, FINGERPRINT (correct and last). Integrity is not checked here. MALFORMED: no STUN message. PROTOCOL: one
 * whose header and FINGERPRINT are right, but not the value of some other attribute: all that it may get is a 400. */
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
/* RFC 8656 §18: CHANNEL-NUMBER and the family attributes are a value in the first bytes and zeros. */
void dp_stun_write_channel_number(dp_wr *wr, uint16_t channel);
void dp_stun_write_family(dp_wr *wr, dp_stun_attribute type, unsigned family);
/* The value is in the buffer already, right behind the attribute's header. */
void dp_stun_write_in_place(dp_wr *wr, dp_stun_attribute type, size_t len);
void dp_stun_write_xor_address(dp_wr *wr, dp_stun_attribute type, const dp_address *address);
void dp_stun_write_xor_mapped_address(dp_wr *wr, const dp_address *address);
void dp_stun_write_error_code(dp_wr *wr, unsigned code, const char *reason);
void dp_stun_write_unknown_attributes(dp_wr *wr, const uint16_t *types, size_t count);
void dp_stun_write_integrity(dp_wr *wr, const void *key, size_t key_len);
void dp_stun_write_fingerprint(dp_wr *wr);
/* DP_OK and the length, or NO_SPACE. */
int dp_stun_finish(dp_wr *wr, size_t *len);

#endif
