/* What may reach mbedTLS. During the handshake nothing is authenticated, and one bad record ends an mbedTLS
 * context, so records are checked here first. */
#ifndef DTLS_PREFILTER_H
#define DTLS_PREFILTER_H

#include <datapeer/dtls.h>

#include "base/rd.h"

#define DP_RECORD_VERSION   0xfefd /* DTLS 1.2 */
#define DP_RECORD_HEADER    13
#define DP_HANDSHAKE_HEADER 12
/* RFC 6347 §4.1.1 through RFC 5246 §6.2.3: plaintext and at most 2048 bytes of expansion. */
#define DP_RECORD_BODY_MAX (DP_DTLS_RECORD_MAX + 2048)
/* Finished is 12 bytes behind its header, sealed with any AEAD of ours. */
#define DP_SEALED_FINISHED_MIN (DP_HANDSHAKE_HEADER + 12 + 16)
#define DP_SEALED_FINISHED_MAX (DP_SEALED_FINISHED_MIN + 8)

enum {
    DP_RECORD_CHANGE_CIPHER_SPEC = 20,
    DP_RECORD_ALERT = 21,
    DP_RECORD_HANDSHAKE = 22,
    DP_RECORD_APPLICATION_DATA = 23,
};

enum { DP_ALERT_WARNING = 1, DP_ALERT_FATAL = 2 };
enum { DP_ALERT_CLOSE_NOTIFY = 0, DP_ALERT_HANDSHAKE_FAILURE = 40, DP_ALERT_NO_RENEGOTIATION = 100 };

enum {
    DP_HANDSHAKE_HELLO_REQUEST = 0,
    DP_HANDSHAKE_CLIENT_HELLO = 1,
    DP_HANDSHAKE_FINISHED = 20,
};

typedef struct dp_record {
    uint8_t type;
    uint16_t version;
    uint16_t epoch;
    uint64_t sequence; /* 48 bits */
    const uint8_t *body;
    size_t length;
} dp_record;

/* Takes the next record off a datagram. False: the rest of the datagram is not DTLS 1.x, drop it. */
bool dp_record_read(dp_record *out, dp_rd *rd);

typedef struct dp_fragment {
    uint8_t type;
    uint32_t length; /* of the whole message */
    uint16_t message_seq;
    uint32_t offset;
    const uint8_t *body;
    size_t body_len;
} dp_fragment;

/* Takes the next handshake fragment off a plaintext record's body; false if it is malformed or too long. */
bool dp_fragment_read(dp_fragment *out, dp_rd *rd);

typedef enum dp_verdict {
    DP_VERDICT_DROP,
    DP_VERDICT_PASS,         /* mbedTLS may see it */
    DP_VERDICT_CLIENT_HELLO, /* plaintext fragments of a ClientHello, nothing else: to the reassembler */
    DP_VERDICT_ALERT,        /* an unauthenticated alert: drop, but remember it for the error message */
} dp_verdict;

/* Judges a record that came before our side of the handshake is done. role is ours. */
dp_verdict dp_prefilter(const dp_record *record, dp_dtls_role role);

#endif
