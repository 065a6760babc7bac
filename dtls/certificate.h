#ifndef DTLS_CERTIFICATE_H
#define DTLS_CERTIFICATE_H

#include <datapeer/dtls.h>
#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>

struct dp_certificate {
    mbedtls_x509_crt crt;
    mbedtls_pk_context key;     /* of type ECDSA: signs, and keeps its table */
    mbedtls_pk_context eckey;   /* the same of type ECKEY: the only one that mbedTLS writes */
    dp_fingerprint fingerprint; /* SHA-256 */
};

/* The fingerprint of any certificate. DP_ERR_CRYPTO. */
int dp_certificate_hash(dp_fingerprint *out, dp_fingerprint_algorithm algorithm, const mbedtls_x509_crt *crt);

/* Makes it cheaper to verify what this peer signs: gives its key a copy of our key's table, if that is there by now. */
void dp_certificate_lend_table(const dp_certificate *own, mbedtls_x509_crt *peer);

/* mbedTLS's random callback; ctx is a dp_random. */
int dp_mbedtls_random(void *ctx, unsigned char *out, size_t len);

#endif
