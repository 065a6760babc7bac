#ifndef DTLS_CERTIFICATE_H
#define DTLS_CERTIFICATE_H

#include <datapeer/dtls.h>
#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>

struct dp_certificate {
    mbedtls_x509_crt crt;
    mbedtls_pk_context key;
    dp_fingerprint fingerprint; /* SHA-256 */
};

/* The fingerprint of any certificate. DP_ERR_CRYPTO. */
int dp_certificate_hash(dp_fingerprint *out, dp_fingerprint_algorithm algorithm, const mbedtls_x509_crt *crt);

/* mbedTLS's random callback; ctx is a dp_random. */
int dp_mbedtls_random(void *ctx, unsigned char *out, size_t len);

#endif
