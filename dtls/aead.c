#include "aead.h"

#include "base/mem.h"

size_t dp_aead_key_length(dp_aead_cipher cipher) { return cipher == DP_AEAD_AES_128_GCM ? 16 : 32; }

#if defined(DP_AEAD_nettle)

int dp_aead_init(dp_aead *aead, dp_aead_cipher cipher, const uint8_t *key)
{
    aead->cipher = cipher;
    switch (cipher) {
    case DP_AEAD_AES_128_GCM:
        gcm_aes128_set_key(&aead->u.aes128, key);
        return DP_OK;
    case DP_AEAD_AES_256_GCM:
        gcm_aes256_set_key(&aead->u.aes256, key);
        return DP_OK;
    case DP_AEAD_CHACHA20_POLY1305:
        chacha_poly1305_set_key(&aead->u.chacha, key);
        return DP_OK;
    case DP_AEAD_NONE:
        break;
    }
    return DP_ERR_CRYPTO;
}

void dp_aead_clear(dp_aead *aead) { dp_wipe(aead, sizeof *aead); }

int dp_aead_seal(dp_aead *aead, uint8_t *out, const uint8_t nonce[DP_AEAD_NONCE], const uint8_t *ad,
                 size_t ad_len, const uint8_t *data, size_t len)
{
    switch (aead->cipher) {
    case DP_AEAD_AES_128_GCM:
        gcm_aes128_set_iv(&aead->u.aes128, DP_AEAD_NONCE, nonce);
        gcm_aes128_update(&aead->u.aes128, ad_len, ad);
        gcm_aes128_encrypt(&aead->u.aes128, len, out, data);
        gcm_aes128_digest(&aead->u.aes128, DP_AEAD_TAG, out + len);
        return DP_OK;
    case DP_AEAD_AES_256_GCM:
        gcm_aes256_set_iv(&aead->u.aes256, DP_AEAD_NONCE, nonce);
        gcm_aes256_update(&aead->u.aes256, ad_len, ad);
        gcm_aes256_encrypt(&aead->u.aes256, len, out, data);
        gcm_aes256_digest(&aead->u.aes256, DP_AEAD_TAG, out + len);
        return DP_OK;
    case DP_AEAD_CHACHA20_POLY1305:
        chacha_poly1305_set_nonce(&aead->u.chacha, nonce);
        chacha_poly1305_update(&aead->u.chacha, ad_len, ad);
        chacha_poly1305_encrypt(&aead->u.chacha, len, out, data);
        chacha_poly1305_digest(&aead->u.chacha, DP_AEAD_TAG, out + len);
        return DP_OK;
    case DP_AEAD_NONE:
        break;
    }
    return DP_ERR_CRYPTO;
}

bool dp_aead_open(dp_aead *aead, uint8_t *data, size_t len, const uint8_t nonce[DP_AEAD_NONCE],
                  const uint8_t *ad, size_t ad_len)
{
    uint8_t tag[DP_AEAD_TAG];
    switch (aead->cipher) {
    case DP_AEAD_AES_128_GCM:
        gcm_aes128_set_iv(&aead->u.aes128, DP_AEAD_NONCE, nonce);
        gcm_aes128_update(&aead->u.aes128, ad_len, ad);
        gcm_aes128_decrypt(&aead->u.aes128, len, data, data);
        gcm_aes128_digest(&aead->u.aes128, sizeof tag, tag);
        break;
    case DP_AEAD_AES_256_GCM:
        gcm_aes256_set_iv(&aead->u.aes256, DP_AEAD_NONCE, nonce);
        gcm_aes256_update(&aead->u.aes256, ad_len, ad);
        gcm_aes256_decrypt(&aead->u.aes256, len, data, data);
        gcm_aes256_digest(&aead->u.aes256, sizeof tag, tag);
        break;
    case DP_AEAD_CHACHA20_POLY1305:
        chacha_poly1305_set_nonce(&aead->u.chacha, nonce);
        chacha_poly1305_update(&aead->u.chacha, ad_len, ad);
        chacha_poly1305_decrypt(&aead->u.chacha, len, data, data);
        chacha_poly1305_digest(&aead->u.chacha, sizeof tag, tag);
        break;
    case DP_AEAD_NONE:
        return false;
    }
    return dp_equal_constant_time(tag, data + len, sizeof tag);
}

#else

int dp_aead_init(dp_aead *aead, dp_aead_cipher cipher, const uint8_t *key)
{
    int ret = -1;
    aead->cipher = cipher;
    if (cipher == DP_AEAD_CHACHA20_POLY1305) {
        mbedtls_chachapoly_init(&aead->u.chacha);
        ret = mbedtls_chachapoly_setkey(&aead->u.chacha, key);
    } else if (cipher != DP_AEAD_NONE) {
        mbedtls_gcm_init(&aead->u.gcm);
        ret = mbedtls_gcm_setkey(&aead->u.gcm, MBEDTLS_CIPHER_ID_AES, key,
                                 cipher == DP_AEAD_AES_128_GCM ? 128 : 256);
    }
    return ret == 0 ? DP_OK : DP_ERR_CRYPTO;
}

void dp_aead_clear(dp_aead *aead)
{
    if (aead->cipher == DP_AEAD_CHACHA20_POLY1305)
        mbedtls_chachapoly_free(&aead->u.chacha);
    else if (aead->cipher != DP_AEAD_NONE)
        mbedtls_gcm_free(&aead->u.gcm);
    dp_wipe(aead, sizeof *aead);
}

int dp_aead_seal(dp_aead *aead, uint8_t *out, const uint8_t nonce[DP_AEAD_NONCE], const uint8_t *ad,
                 size_t ad_len, const uint8_t *data, size_t len)
{
    int ret = -1;
    if (aead->cipher == DP_AEAD_CHACHA20_POLY1305)
        ret =
            mbedtls_chachapoly_encrypt_and_tag(&aead->u.chacha, len, nonce, ad, ad_len, data, out, out + len);
    else if (aead->cipher != DP_AEAD_NONE)
        ret = mbedtls_gcm_crypt_and_tag(&aead->u.gcm, MBEDTLS_GCM_ENCRYPT, len, nonce, DP_AEAD_NONCE, ad,
                                        ad_len, data, out, DP_AEAD_TAG, out + len);
    return ret == 0 ? DP_OK : DP_ERR_CRYPTO;
}

bool dp_aead_open(dp_aead *aead, uint8_t *data, size_t len, const uint8_t nonce[DP_AEAD_NONCE],
                  const uint8_t *ad, size_t ad_len)
{
    if (aead->cipher == DP_AEAD_CHACHA20_POLY1305)
        return mbedtls_chachapoly_auth_decrypt(&aead->u.chacha, len, nonce, ad, ad_len, data + len, data,
                                               data) == 0;
    if (aead->cipher == DP_AEAD_NONE)
        return false;
    return mbedtls_gcm_auth_decrypt(&aead->u.gcm, len, nonce, DP_AEAD_NONCE, ad, ad_len, data + len,
                                    DP_AEAD_TAG, data, data) == 0;
}

#endif
