/* Record protection after the handshake: epoch 1, AEAD (RFC 6347 §4.1.2, RFC 5288, RFC 7905), with a replay
 * window. */
#ifndef DTLS_RECORD_H
#define DTLS_RECORD_H

#include "aead.h"
#include "prefilter.h"

/* Our first record number in epoch 1; see the head of record.c. */
#define DP_RECORD_FIRST_SEQUENCE (UINT64_C(1) << 32)
#define DP_RECORD_SEQUENCE_END   (UINT64_C(1) << 48)

/* What the handshake hands over: a secret. */
typedef struct dp_record_keys {
    dp_aead_cipher cipher;
    uint8_t write_key[DP_AEAD_KEY_MAX];
    uint8_t read_key[DP_AEAD_KEY_MAX];
    uint8_t write_iv[DP_AEAD_NONCE]; /* GCM: 4 bytes of salt; ChaCha20-Poly1305: all 12 */
    uint8_t read_iv[DP_AEAD_NONCE];
} dp_record_keys;

#define DP_REPLAY_WORDS 4

/* The last 192 to 256 record numbers, a ring of bits. */
typedef struct dp_replay {
    uint64_t next; /* one more than the highest number seen */
    uint64_t bits[DP_REPLAY_WORDS];
} dp_replay;

bool dp_replay_is_new(const dp_replay *replay, uint64_t sequence);
void dp_replay_mark(dp_replay *replay, uint64_t sequence);

typedef struct dp_protection {
    dp_aead write;
    dp_aead read;
    uint8_t write_iv[DP_AEAD_NONCE];
    uint8_t read_iv[DP_AEAD_NONCE];
    uint64_t sequence; /* of the next record that leaves */
    dp_replay replay;
} dp_protection;

int dp_protection_init(dp_protection *protection, const dp_record_keys *keys);
void dp_protection_clear(dp_protection *protection);
/* data to a whole record in out, which does not overlap it. NO_SPACE, TOO_LARGE, LIMIT (the record numbers are
 * used up), CRYPTO. */
int dp_protection_seal(dp_protection *protection, uint8_t *out, size_t capacity, size_t *out_len,
                       uint8_t type, const uint8_t *data, size_t len);
/* Decrypts in place: body is the record's (record->body, writable). False: forged, replayed, too old, too
 * long. */
bool dp_protection_open(dp_protection *protection, uint8_t **plain, size_t *plain_len,
                        const dp_record *record, uint8_t *body);

#endif
