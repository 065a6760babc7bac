/* All that differs between mbedTLS 2.28 and 3.6 for us and our tests: one name each, with both branches. Nothing
 * else asks for the version (scripts/layers). 4.x takes no random callbacks any more and would need more than this. */
#ifndef BASE_MBEDTLS_H
#define BASE_MBEDTLS_H

#include <mbedtls/sha256.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if MBEDTLS_VERSION_NUMBER >= 0x03060000 && MBEDTLS_VERSION_NUMBER < 0x04000000
#define DP_MBEDTLS_3 1
#elif MBEDTLS_VERSION_NUMBER < 0x021C0000 || MBEDTLS_VERSION_NUMBER >= 0x03000000
#error "mbedTLS 2.28 or 3.6 is needed"
#endif

/* 3.x renames the fields of its structs, and MBEDTLS_PRIVATE(field) is the way to those without a getter; 2.28 has
 * neither. */
#ifndef MBEDTLS_PRIVATE
#define MBEDTLS_PRIVATE(field) field
#endif

/* ---- hashes ------------------------------------------------------------------------------------------ */

/* 2.28: "_ret" marks the functions that report errors, beside old ones that do not. 3.x: only the former are left,
 * under the old names. The last parameter of finish is an array in 2.28's declaration and a pointer in 3.x's; a test
 * that defines the function has to say the same (-Warray-parameter). */
#ifdef DP_MBEDTLS_3
#define DP_MBEDTLS_SHA256_STARTS      mbedtls_sha256_starts
#define DP_MBEDTLS_SHA256_UPDATE      mbedtls_sha256_update
#define DP_MBEDTLS_SHA256_FINISH      mbedtls_sha256_finish
#define DP_MBEDTLS_SHA256_OUTPUT(out) unsigned char *out
#else
#define DP_MBEDTLS_SHA256_STARTS      mbedtls_sha256_starts_ret
#define DP_MBEDTLS_SHA256_UPDATE      mbedtls_sha256_update_ret
#define DP_MBEDTLS_SHA256_FINISH      mbedtls_sha256_finish_ret
#define DP_MBEDTLS_SHA256_OUTPUT(out) unsigned char out[32]
#endif

/* ---- keys and certificates --------------------------------------------------------------------------- */

/* PEM text of a private key. 3.x wants random numbers to blind the computation of the public key, where the text has
 * none; 2.28 takes no source and does not blind it. */
static inline int dp_mbedtls_parse_key(mbedtls_pk_context *key, const char *pem,
                                       int (*rng)(void *, unsigned char *, size_t), void *rng_ctx)
{
    const unsigned char *text = (const unsigned char *)pem;
#ifdef DP_MBEDTLS_3
    return mbedtls_pk_parse_key(key, text, strlen(pem) + 1, NULL, 0, rng, rng_ctx);
#else
    (void)rng;
    (void)rng_ctx;
    return mbedtls_pk_parse_key(key, text, strlen(pem) + 1, NULL, 0);
#endif
}

/* 0 if the private key belongs to the public one. 3.x blinds that, too. */
static inline int dp_mbedtls_check_pair(const mbedtls_pk_context *public_key, const mbedtls_pk_context *key,
                                        int (*rng)(void *, unsigned char *, size_t), void *rng_ctx)
{
#ifdef DP_MBEDTLS_3
    return mbedtls_pk_check_pair(public_key, key, rng, rng_ctx);
#else
    (void)rng;
    (void)rng_ctx;
    return mbedtls_pk_check_pair(public_key, key);
#endif
}

/* The serial number of a new certificate, big-endian. 2.28 takes a bignum; 3.4 deprecates that in favour of the bytes,
 * which it takes by a plain pointer and only reads. */
static inline int dp_mbedtls_set_serial(mbedtls_x509write_cert *writer, const uint8_t *serial, size_t len)
{
#ifdef DP_MBEDTLS_3
    return mbedtls_x509write_crt_set_serial_raw(writer, (unsigned char *)serial, len);
#else
    mbedtls_mpi mpi;
    mbedtls_mpi_init(&mpi);
    int ret = mbedtls_mpi_read_binary(&mpi, serial, len);
    if (ret == 0)
        ret = mbedtls_x509write_crt_set_serial(writer, &mpi);
    mbedtls_mpi_free(&mpi);
    return ret;
#endif
}

/* ---- what a handshake may agree on ------------------------------------------------------------------- */

/* Groups of the key exchange. 2.28 numbers them itself ("curves"); 3.x uses the numbers of TLS. */
#ifdef DP_MBEDTLS_3
typedef uint16_t dp_mbedtls_group;
enum {
    DP_MBEDTLS_X25519 = MBEDTLS_SSL_IANA_TLS_GROUP_X25519,
    DP_MBEDTLS_SECP256R1 = MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1,
    DP_MBEDTLS_SECP384R1 = MBEDTLS_SSL_IANA_TLS_GROUP_SECP384R1,
    DP_MBEDTLS_SECP521R1 = MBEDTLS_SSL_IANA_TLS_GROUP_SECP521R1,
    DP_MBEDTLS_GROUPS_END = MBEDTLS_SSL_IANA_TLS_GROUP_NONE,
};
#else
typedef mbedtls_ecp_group_id dp_mbedtls_group;
#define DP_MBEDTLS_X25519     MBEDTLS_ECP_DP_CURVE25519
#define DP_MBEDTLS_SECP256R1  MBEDTLS_ECP_DP_SECP256R1
#define DP_MBEDTLS_SECP384R1  MBEDTLS_ECP_DP_SECP384R1
#define DP_MBEDTLS_SECP521R1  MBEDTLS_ECP_DP_SECP521R1
#define DP_MBEDTLS_GROUPS_END MBEDTLS_ECP_DP_NONE
#endif

/* (D)TLS 1.2 and nothing else; signatures over SHA-256, 384 or 512; these groups, best first, up to
 * DP_MBEDTLS_GROUPS_END: the array stays the caller's.
 * 2.28: its versions begin at TLS 1.0; it lists hashes, SHA-224 among its defaults. 3.x: its versions go up to TLS 1.3,
 * whose handshake is another state machine and exports other secrets; it lists signature algorithms, by default SHA-512
 * first. */
static inline void dp_mbedtls_conf_tls12(mbedtls_ssl_config *conf, const dp_mbedtls_group *groups)
{
#ifdef DP_MBEDTLS_3
    /* ECDSA: in TLS 1.2 the numbers name the hash alone, whatever the curve (RFC 8446 §4.2.3). */
    static const uint16_t signatures[] = {MBEDTLS_TLS1_3_SIG_ECDSA_SECP256R1_SHA256,
                                          MBEDTLS_TLS1_3_SIG_RSA_PKCS1_SHA256,
                                          MBEDTLS_TLS1_3_SIG_ECDSA_SECP384R1_SHA384,
                                          MBEDTLS_TLS1_3_SIG_RSA_PKCS1_SHA384,
                                          MBEDTLS_TLS1_3_SIG_ECDSA_SECP521R1_SHA512,
                                          MBEDTLS_TLS1_3_SIG_RSA_PKCS1_SHA512,
                                          MBEDTLS_TLS1_3_SIG_NONE};
    mbedtls_ssl_conf_min_tls_version(conf, MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_max_tls_version(conf, MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_sig_algs(conf, signatures);
    mbedtls_ssl_conf_groups(conf, groups);
#else
    static const int hashes[] = {MBEDTLS_MD_SHA256, MBEDTLS_MD_SHA384, MBEDTLS_MD_SHA512, MBEDTLS_MD_NONE};
    mbedtls_ssl_conf_min_version(conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_max_version(conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_sig_hashes(conf, hashes);
    mbedtls_ssl_conf_curves(conf, groups);
#endif
}

/* ---- the secret of a handshake ----------------------------------------------------------------------- */

#define DP_MBEDTLS_MASTER_SECRET 48
#define DP_MBEDTLS_RANDOM        32

/* Called with the master secret (RFC 5246 §8.1), both hello randoms and the pseudorandom function, when the keys are
 * derived: before Finished, with nothing authenticated yet. */
typedef struct dp_mbedtls_export {
    void (*fn)(void *ctx, const uint8_t *master_secret, const uint8_t *client_random,
               const uint8_t *server_random, mbedtls_tls_prf_types prf);
    void *ctx;
} dp_mbedtls_export;

#ifdef DP_MBEDTLS_3
/* 3.x calls it for other secrets, too, those of TLS 1.3. */
static inline void dp_mbedtls_exported(void *ctx, mbedtls_ssl_key_export_type type,
                                       const unsigned char *secret, size_t secret_len,
                                       const unsigned char client_random[DP_MBEDTLS_RANDOM],
                                       const unsigned char server_random[DP_MBEDTLS_RANDOM],
                                       mbedtls_tls_prf_types prf)
{
    const dp_mbedtls_export *to = ctx;
    if (type == MBEDTLS_SSL_KEY_EXPORT_TLS12_MASTER_SECRET && secret_len == DP_MBEDTLS_MASTER_SECRET)
        to->fn(to->ctx, secret, client_random, server_random, prf);
}
#else
/* 2.28 gives the key block, too, and its result can end the handshake. */
static inline int dp_mbedtls_exported(void *ctx, const unsigned char *secret, const unsigned char *key_block,
                                      size_t mac_len, size_t key_len, size_t iv_len,
                                      const unsigned char client_random[DP_MBEDTLS_RANDOM],
                                      const unsigned char server_random[DP_MBEDTLS_RANDOM],
                                      mbedtls_tls_prf_types prf)
{
    const dp_mbedtls_export *to = ctx;
    (void)key_block;
    (void)mac_len;
    (void)key_len;
    (void)iv_len;
    to->fn(to->ctx, secret, client_random, server_random, prf);
    return 0;
}
#endif

/* 2.28 has the callback in the configuration, 3.x in the context. After mbedtls_ssl_setup with this conf; to stays
 * the caller's. */
static inline void dp_mbedtls_set_export(mbedtls_ssl_config *conf, mbedtls_ssl_context *ssl,
                                         dp_mbedtls_export *to)
{
#ifdef DP_MBEDTLS_3
    (void)conf;
    mbedtls_ssl_set_export_keys_cb(ssl, dp_mbedtls_exported, to);
#else
    (void)ssl;
    mbedtls_ssl_conf_export_keys_ext_cb(conf, dp_mbedtls_exported, to);
#endif
}

#endif
