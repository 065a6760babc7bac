/* Hashes, HMAC and the CSPRNG: the one object of base that calls mbedTLS. */
#ifndef BASE_CRYPTO_H
#define BASE_CRYPTO_H

#include <datapeer/base.h>

#define DP_MD5_LEN    16
#define DP_SHA1_LEN   20
#define DP_SHA256_LEN 32

/* DP_OK or DP_ERR_CRYPTO. */
int dp_md5(uint8_t out[DP_MD5_LEN], const void *data,
           size_t len); /* only for what RFC 8489 §9.2.2 makes of it */
int dp_sha1(uint8_t out[DP_SHA1_LEN], const void *data, size_t len);
int dp_sha256(uint8_t out[DP_SHA256_LEN], const void *data, size_t len);
int dp_hmac_sha1(uint8_t out[DP_SHA1_LEN], const void *key, size_t key_len, const void *data, size_t len);

/* out must hold 4 * ceil(len / 3) + 1 characters. Always NUL-terminated. */
void dp_base64_encode(char *out, const uint8_t *data, size_t len);

static inline int dp_random_bytes(const dp_random *random, void *out, size_t len)
{
    return random->fn(random->ctx, (uint8_t *)out, len);
}
/* len characters drawn evenly from alphabet (at most 256 characters) and a NUL. */
int dp_random_text(const dp_random *random, char *out, size_t len, const char *alphabet);

#endif
