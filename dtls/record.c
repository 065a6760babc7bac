#include "record.h"

#include "base/mem.h"
#include "base/wr.h"

/* Why no nonce is ever used twice. Two parties seal with our write key in epoch 1: mbedTLS (its Finished, again
 * whenever it repeats a flight, and at most an alert) and this file.
 *
 *   AES-GCM            nonce = salt[4] || explicit[8], and both parties put epoch || record number there (RFC 5288 §3)
 *   ChaCha20-Poly1305  nonce = iv[12] XOR (0[4] || epoch || record number)                               (RFC 7905 §2)
 *
 * so a nonce is used twice exactly if a record number is. mbedTLS counts its records of an epoch up from 0, over
 * retransmissions, and is freed when the handshake is over, after 10 minutes at most: it cannot come near
 * 2^32. Ours start at 2^32, grow by one a record, and end at 2^48 - 1, where seal fails. A server that has to repeat
 * its last flight sends the same bytes again (dtls.c), which seals nothing.
 *
 * What the jump does to the peer's replay window: once it has accepted a record of ours, mbedTLS's low numbers are too
 * old for it. That must not matter:
 *   - Close and alerts after the handshake are sealed here, never by mbedTLS.
 *   - The client is done when it has the server's Finished, so the server had the client's: nothing is sent again.
 *   - The server may send data before the client has its last flight, and repeats that flight on demand. A client
 *     cannot accept records of epoch 1 before ChangeCipherSpec has switched its reading to epoch 1, and
 *     ChangeCipherSpec leaves in one datagram with Finished (a unit test holds mbedTLS to that). Hence a client that
 *     moved its window with our data has Finished already and will not ask.
 *
 * A sealed record, GCM (ChaCha20-Poly1305 has no explicit nonce); the header with the plaintext's length is
 * the additional data, as epoch || record number || type || version || length (RFC 5246 §6.2.3.3):
 *
 *  0        13              21                21 + n      37 + n
 * +--------+---------------+------------------+-----------+
 * | header | explicit nonce| ciphertext       | tag       |
 * +--------+---------------+------------------+-----------+
 */

#define EPOCH           1
#define EPOCH_BITS      ((uint64_t)EPOCH << 48) /* above the record number */
#define SALT            4
#define EXPLICIT_NONCE  8
#define ADDITIONAL_DATA 13

int dp_protection_init(dp_protection *protection, const dp_record_keys *keys)
{
    memset(protection, 0, sizeof *protection);
    int err = dp_aead_init(&protection->write, keys->cipher, keys->write_key);
    if (err == DP_OK)
        err = dp_aead_init(&protection->read, keys->cipher, keys->read_key);
    if (err != DP_OK) {
        dp_protection_clear(protection);
        return err;
    }
    memcpy(protection->write_iv, keys->write_iv, sizeof protection->write_iv);
    memcpy(protection->read_iv, keys->read_iv, sizeof protection->read_iv);
    protection->sequence = DP_RECORD_FIRST_SEQUENCE;
    return DP_OK;
}

void dp_protection_clear(dp_protection *protection)
{
    dp_aead_clear(&protection->write);
    dp_aead_clear(&protection->read);
    dp_wipe(protection, sizeof *protection);
}

static size_t explicit_nonce_length(const dp_aead *aead)
{
    return aead->cipher == DP_AEAD_CHACHA20_POLY1305 ? 0 : EXPLICIT_NONCE;
}

/* explicit is the record's nonce field for GCM, epoch || record number for ChaCha20-Poly1305. */
static void make_nonce(uint8_t nonce[DP_AEAD_NONCE], const dp_aead *aead, const uint8_t iv[DP_AEAD_NONCE],
                       const uint8_t explicit[EXPLICIT_NONCE])
{
    memcpy(nonce, iv, DP_AEAD_NONCE);
    if (aead->cipher != DP_AEAD_CHACHA20_POLY1305) {
        memcpy(nonce + SALT, explicit, EXPLICIT_NONCE);
        return;
    }
    for (size_t i = 0; i < EXPLICIT_NONCE; i++)
        nonce[SALT + i] ^= explicit[i];
}

/* Its first eight bytes are epoch || record number. */
static void make_additional_data(uint8_t ad[ADDITIONAL_DATA], uint8_t type, uint16_t version,
                                 uint64_t sequence, size_t len)
{
    dp_wr wr = dp_wr_init(ad, ADDITIONAL_DATA);
    dp_wr_u64(&wr, EPOCH_BITS | sequence);
    dp_wr_u8(&wr, type);
    dp_wr_u16(&wr, version);
    dp_wr_u16(&wr, (uint16_t)len);
}

int dp_protection_seal(dp_protection *protection, uint8_t *out, size_t capacity, size_t *out_len,
                       uint8_t type, const uint8_t *data, size_t len)
{
    size_t explicit_len = explicit_nonce_length(&protection->write);
    if (len > DP_DTLS_RECORD_MAX)
        return DP_ERR_TOO_LARGE;
    size_t total = DP_RECORD_HEADER + explicit_len + len + DP_AEAD_TAG;
    if (capacity < total)
        return DP_ERR_NO_SPACE;
    if (protection->sequence >= DP_RECORD_SEQUENCE_END)
        return DP_ERR_LIMIT;
    uint64_t sequence = protection->sequence++;

    uint8_t ad[ADDITIONAL_DATA];
    make_additional_data(ad, type, DP_RECORD_VERSION, sequence, len);
    uint8_t nonce[DP_AEAD_NONCE];
    make_nonce(nonce, &protection->write, protection->write_iv, ad);

    dp_wr wr = dp_wr_init(out, capacity);
    dp_wr_u8(&wr, type);
    dp_wr_u16(&wr, DP_RECORD_VERSION);
    dp_wr_u64(&wr, EPOCH_BITS | sequence);
    dp_wr_u16(&wr, (uint16_t)(total - DP_RECORD_HEADER));
    dp_wr_bytes(&wr, ad, explicit_len);
    uint8_t *sealed = dp_wr_reserve(&wr, len + DP_AEAD_TAG);
    if (sealed == NULL)
        return DP_ERR_NO_SPACE;
    *out_len = total;
    return dp_aead_seal(&protection->write, sealed, nonce, ad, sizeof ad, data, len);
}

bool dp_protection_open(dp_protection *protection, uint8_t **plain, size_t *plain_len,
                        const dp_record *record, uint8_t *body)
{
    size_t explicit_len = explicit_nonce_length(&protection->read);
    if (record->epoch != EPOCH || record->version != DP_RECORD_VERSION ||
        record->length < explicit_len + DP_AEAD_TAG)
        return false;
    size_t len = record->length - explicit_len - DP_AEAD_TAG;
    if (len > DP_DTLS_RECORD_MAX || !dp_replay_is_new(&protection->replay, record->sequence))
        return false;

    uint8_t ad[ADDITIONAL_DATA];
    make_additional_data(ad, record->type, record->version, record->sequence, len);
    uint8_t nonce[DP_AEAD_NONCE];
    make_nonce(nonce, &protection->read, protection->read_iv, explicit_len > 0 ? body : ad);
    if (!dp_aead_open(&protection->read, body + explicit_len, len, nonce, ad, sizeof ad))
        return false;
    /* RFC 6347 §4.1.2.6: the window moves only for a record whose tag is right. */
    dp_replay_mark(&protection->replay, record->sequence);
    *plain = body + explicit_len;
    *plain_len = len;
    return true;
}

/* ---- replay window ------------------------------------------------------------------------------- */

#define WORD_OF(sequence) ((sequence) / 64 % DP_REPLAY_WORDS)
#define BIT_OF(sequence)  (UINT64_C(1) << (sequence) % 64)

bool dp_replay_is_new(const dp_replay *replay, uint64_t sequence)
{
    if (sequence >= replay->next)
        return true;
    uint64_t newest_word = (replay->next - 1) / 64;
    if (sequence / 64 + DP_REPLAY_WORDS <= newest_word)
        return false; /* too old: its word is in use for newer numbers */
    return (replay->bits[WORD_OF(sequence)] & BIT_OF(sequence)) == 0;
}

void dp_replay_mark(dp_replay *replay, uint64_t sequence)
{
    if (sequence >= replay->next) {
        uint64_t word = replay->next == 0 ? 0 : (replay->next - 1) / 64;
        uint64_t steps = sequence / 64 - word;
        for (uint64_t i = 1; i <= steps && i <= DP_REPLAY_WORDS; i++)
            replay->bits[(word + i) % DP_REPLAY_WORDS] = 0;
        replay->next = sequence + 1;
    }
    replay->bits[WORD_OF(sequence)] |= BIT_OF(sequence);
}
