/* The three AEAD ciphers of our cipher suites. Which library computes them is a build option: nettle (fast)
 * or mbedTLS (nothing else to link). */
#ifndef DTLS_AEAD_H
#define DTLS_AEAD_H

#include <datapeer/base.h>

#if !defined(DP_AEAD_nettle) && !defined(DP_AEAD_mbedtls)
#define DP_AEAD_nettle 1
#endif

#if defined(DP_AEAD_nettle)
#include <nettle/chacha-poly1305.h>
#include <nettle/gcm.h>
#else
#include <mbedtls/chachapoly.h>
#include <mbedtls/gcm.h>
#endif

#define DP_AEAD_NONCE   12
#define DP_AEAD_TAG     16
#define DP_AEAD_KEY_MAX 32

typedef enum dp_aead_cipher {
    DP_AEAD_NONE, /* not initialised */
    DP_AEAD_AES_128_GCM,
    DP_AEAD_AES_256_GCM,
    DP_AEAD_CHACHA20_POLY1305,
} dp_aead_cipher;

/* One key in one direction. */
typedef struct dp_aead {
    dp_aead_cipher cipher;
    union {
#if defined(DP_AEAD_nettle)
        struct gcm_aes128_ctx aes128;
        struct gcm_aes256_ctx aes256;
        struct chacha_poly1305_ctx chacha;
#else
        mbedtls_gcm_context gcm;
        mbedtls_chachapoly_context chacha;
#endif
    } u;
} dp_aead;

/* 16 or 32. */
size_t dp_aead_key_length(dp_aead_cipher cipher);
/* DP_OK, or DP_ERR_CRYPTO. aead is uninitialised or cleared memory. */
int dp_aead_init(dp_aead *aead, dp_aead_cipher cipher, const uint8_t *key);
/* Erases the key. */
void dp_aead_clear(dp_aead *aead);
/* Writes len bytes of ciphertext and the tag to out; out and data are the same or do not overlap. */
int dp_aead_seal(dp_aead *aead, uint8_t *out, const uint8_t nonce[DP_AEAD_NONCE], const uint8_t *ad,
                 size_t ad_len, const uint8_t *data, size_t len);
/* Decrypts data[0..len) in place and checks the tag behind it. If it is false, the content is garbage. */
bool dp_aead_open(dp_aead *aead, uint8_t *data, size_t len, const uint8_t nonce[DP_AEAD_NONCE],
                  const uint8_t *ad, size_t ad_len);

#endif
