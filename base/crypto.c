#include "base/crypto.h"

#include "base/mbedtls.h"
#include "base/mem.h"
#include "base/table.h"
#include <errno.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/md.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

static int digest(mbedtls_md_type_t type, uint8_t *out, const void *data, size_t len)
{
    const mbedtls_md_info_t *md = mbedtls_md_info_from_type(type);
    return md != NULL && mbedtls_md(md, data, len, out) == 0 ? DP_OK : DP_ERR_CRYPTO;
}

int dp_md5(uint8_t out[DP_MD5_LEN], const void *data, size_t len)
{
    return digest(MBEDTLS_MD_MD5, out, data, len);
}

int dp_sha1(uint8_t out[DP_SHA1_LEN], const void *data, size_t len)
{
    return digest(MBEDTLS_MD_SHA1, out, data, len);
}

int dp_sha256(uint8_t out[DP_SHA256_LEN], const void *data, size_t len)
{
    return digest(MBEDTLS_MD_SHA256, out, data, len);
}

int dp_hmac_sha1(uint8_t out[DP_SHA1_LEN], const void *key, size_t key_len, const void *data, size_t len)
{
    const mbedtls_md_info_t *md = mbedtls_md_info_from_type(MBEDTLS_MD_SHA1);
    return md != NULL && mbedtls_md_hmac(md, key, key_len, data, len, out) == 0 ? DP_OK : DP_ERR_CRYPTO;
}

struct dp_sha256_hash {
    mbedtls_sha256_context context;
};

int dp_sha256_new(dp_sha256_hash **out)
{
    dp_sha256_hash *hash = dp_calloc(1, sizeof(*hash));
    if (hash == NULL)
        return DP_ERR_NO_MEMORY;
    mbedtls_sha256_init(&hash->context);
    if (DP_MBEDTLS_SHA256_STARTS(&hash->context, 0) != 0) {
        dp_sha256_free(hash);
        return DP_ERR_CRYPTO;
    }
    *out = hash;
    return DP_OK;
}

int dp_sha256_update(dp_sha256_hash *hash, const void *data, size_t len)
{
    return DP_MBEDTLS_SHA256_UPDATE(&hash->context, data, len) == 0 ? DP_OK : DP_ERR_CRYPTO;
}

int dp_sha256_finish(dp_sha256_hash *hash, char hex[65])
{
    uint8_t digest_bytes[DP_SHA256_LEN];
    int result = DP_MBEDTLS_SHA256_FINISH(&hash->context, digest_bytes);
    dp_sha256_free(hash);
    if (result != 0)
        return DP_ERR_CRYPTO;
    for (size_t i = 0; i < sizeof(digest_bytes); i++)
        snprintf(hex + 2 * i, 3, "%02x", digest_bytes[i]);
    return DP_OK;
}

void dp_sha256_free(dp_sha256_hash *hash)
{
    if (hash == NULL)
        return;
    mbedtls_sha256_free(&hash->context);
    dp_free(hash);
}

void dp_base64_encode(char *out, const uint8_t *data, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < len; i += 3) {
        uint32_t group = (uint32_t)data[i] << 16;
        if (i + 1 < len)
            group |= (uint32_t)data[i + 1] << 8;
        if (i + 2 < len)
            group |= data[i + 2];
        *out++ = digits[group >> 18];
        *out++ = digits[(group >> 12) & 63];
        *out++ = i + 1 < len ? digits[(group >> 6) & 63] : '=';
        *out++ = i + 2 < len ? digits[group & 63] : '=';
    }
    *out = '\0';
}

int dp_random_text(const dp_random *random, char *out, size_t len, const char *alphabet)
{
    size_t n = strlen(alphabet);
    /* Bytes from the last, incomplete round of the alphabet are thrown away, else its start would come more
     * often. */
    size_t usable = 256 - 256 % n;
    for (size_t i = 0; i < len;) {
        uint8_t bytes[32];
        int error = dp_random_bytes(random, bytes, sizeof(bytes));
        if (error != DP_OK)
            return error;
        for (size_t k = 0; k < sizeof(bytes) && i < len; k++)
            if (bytes[k] < usable)
                out[i++] = alphabet[bytes[k] % n];
    }
    out[len] = '\0';
    return DP_OK;
}

struct dp_csprng {
    mbedtls_ctr_drbg_context drbg;
};

/* getrandom(2) as mbedTLS's entropy source. */
static int entropy(void *ctx, unsigned char *out, size_t len)
{
    (void)ctx;
    while (len > 0) {
        ssize_t n = getrandom(out, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return MBEDTLS_ERR_CTR_DRBG_ENTROPY_SOURCE_FAILED;
        out += n;
        len -= (size_t)n;
    }
    return 0;
}

static int csprng_fill(void *ctx, uint8_t *out, size_t len)
{
    dp_csprng *csprng = ctx;
    while (len > 0) {
        size_t n = len < MBEDTLS_CTR_DRBG_MAX_REQUEST ? len : MBEDTLS_CTR_DRBG_MAX_REQUEST;
        if (mbedtls_ctr_drbg_random(&csprng->drbg, out, n) != 0)
            return DP_ERR_CRYPTO;
        out += n;
        len -= n;
    }
    return DP_OK;
}

int dp_csprng_new(dp_csprng **out)
{
    static const char personalisation[] = "datapeer";
    dp_csprng *csprng = dp_calloc(1, sizeof(*csprng));
    if (csprng == NULL)
        return DP_ERR_NO_MEMORY;
    mbedtls_ctr_drbg_init(&csprng->drbg);
    if (mbedtls_ctr_drbg_seed(&csprng->drbg, entropy, NULL, (const unsigned char *)personalisation,
                              sizeof(personalisation) - 1) != 0) {
        dp_csprng_free(csprng);
        return DP_ERR_CRYPTO;
    }
    uint64_t secret;
    if (dp_hash_secret() == 0 && csprng_fill(csprng, (uint8_t *)&secret, sizeof(secret)) == DP_OK)
        dp_hash_set_secret(secret);
    *out = csprng;
    return DP_OK;
}

void dp_csprng_free(dp_csprng *csprng)
{
    if (csprng == NULL)
        return;
    mbedtls_ctr_drbg_free(&csprng->drbg);
    dp_free(csprng);
}

dp_random dp_csprng_source(dp_csprng *csprng)
{
    dp_random random = {csprng_fill, csprng};
    return random;
}
