/* One attempt at a DTLS 1.2 handshake: an mbedTLS context driven by records and virtual time. */
#ifndef DTLS_HANDSHAKE_H
#define DTLS_HANDSHAKE_H

#include <datapeer/dtls.h>

#include "base/queue.h"
#include "record.h"

typedef struct dp_handshake dp_handshake;

/* An item of the queue of datagrams; its item_size is sizeof(dp_outgoing) + mtu. */
typedef struct dp_outgoing {
    size_t length;
    uint8_t data[];
} dp_outgoing;

#define DP_HANDSHAKE_SEED 32

typedef struct dp_handshake_config {
    dp_dtls_role role;
    uint8_t seed[DP_HANDSHAKE_SEED];    /* all random bytes of the attempt come from it */
    const dp_certificate *certificate;  /* borrowed */
    const dp_fingerprint *fingerprints; /* borrowed */
    size_t fingerprint_count;
    size_t mtu;
    dp_queue *out;    /* borrowed */
    uint16_t attempt; /* 0, 1, ...: how many came before it in this connection */
    dp_key_log key_log;
    bool mismatched; /* a wrong certificate came in an attempt before: the next one is told to the peer */
} dp_handshake_config;

/* ChangeCipherSpec and Finished: two record headers, 1 byte and the longest sealed Finished. */
#define DP_LAST_FLIGHT_MAX (2 * DP_RECORD_HEADER + 1 + DP_SEALED_FINISHED_MAX)

typedef enum dp_handshake_result {
    DP_HANDSHAKE_MORE,    /* waits for records or for its timer */
    DP_HANDSHAKE_DONE,    /* the peer proved its fingerprint: dp_handshake_keys */
    DP_HANDSHAKE_DEAD,    /* a record ended it; another attempt may succeed */
    DP_HANDSHAKE_REFUSED, /* the peer is not the one that was announced */
} dp_handshake_result;

int dp_handshake_new(dp_handshake **out, const dp_handshake_config *config);
void dp_handshake_free(dp_handshake *handshake);
/* Feeds one whole record, or none (the start, the timer). After DEAD or REFUSED only the getters and free. */
dp_handshake_result dp_handshake_step(dp_handshake *handshake, dp_time now, const uint8_t *record,
                                      size_t len);
dp_time dp_handshake_next_timeout(const dp_handshake *handshake);
/* Once, as soon as there are keys: with the peer's key exchange, at the latest with DONE. DP_ERR_CRYPTO. Wipe
 * them when they are installed. srtp's profile is NONE if none was agreed on. */
int dp_handshake_keys(dp_handshake *handshake, dp_record_keys *keys, dp_srtp_keys *srtp);
/* After DONE, as server: the datagram with ChangeCipherSpec and Finished. */
const uint8_t *dp_handshake_last_flight(const dp_handshake *handshake, size_t *len);

/* The longest record that the peer takes: a client may ask for 512 to 4,096 bytes (RFC 6066 §4), and mbedTLS agrees. */
size_t dp_handshake_record_max(const dp_handshake *handshake);

/* A client that has sent nothing but its ClientHello. Another attempt from the same seed sends the same ClientHello,
 * and a server takes it for a repetition. (mbedTLS puts the clock's seconds into it: equal within one of them.) Not
 * later: two attempts must not sign two different texts, or seal two different Finished, with the same random bytes.
 * Not with a server that asked for a cookie: it waits for the ClientHello that has it. */
bool dp_handshake_is_repeatable(const dp_handshake *handshake);
/* A certificate with an announced fingerprint has come; what it proves is not checked yet. */
bool dp_handshake_is_identified(const dp_handshake *handshake);
/* A number that changes with each message that the handshake has accepted. */
int dp_handshake_progress(const dp_handshake *handshake);
/* The error that ended it, mbedTLS's own number. */
int dp_handshake_error(const dp_handshake *handshake);
/* After REFUSED: the certificate's fingerprint, or NULL if there was none or the chain was too long. */
const dp_fingerprint *dp_handshake_peer_fingerprint(const dp_handshake *handshake);

#endif
