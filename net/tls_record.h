/* The records of a TLS 1.2 stream after its handshake (RFC 5246 §6.2, RFC 5288, RFC 7905). mbedTLS's context takes 36 KB, most of
 * it two buffers, and a server has thousands of idle clients: so it goes when the handshake is over, and with its keys
 * 1.5 KB are left. A record that comes in pieces is kept meanwhile. mbedTLS's ciphers do the work. */
#ifndef NET_TLS_RECORD_H
#define NET_TLS_RECORD_H

#include "base/mbedtls.h"
#include "net/tls.h"

enum { TLS_RECORD_OVERHEAD = 29 }; /* header, explicit nonce and tag, at most */

/* What a handshake leaves behind. */
typedef struct tls_secret {
    uint8_t master[DP_MBEDTLS_MASTER_SECRET];
    uint8_t
        randoms[2 * DP_MBEDTLS_RANDOM]; /* the server's, the client's: the seed of the key expansion (§6.3) */
    mbedtls_tls_prf_types prf;
} tls_secret;

typedef struct tls_records tls_records;

/* suite is one of dp_tls_configure's. NULL: no memory, or the keys cannot be made. */
tls_records *dp_tls_records_new(const tls_secret *secret, int suite, bool server);
void dp_tls_records_free(tls_records *records);

/* len <= DP_TLS_PLAIN_MAX; out has room for TLS_RECORD_OVERHEAD more. 0 or an error of mbedTLS. */
int dp_tls_records_seal(tls_records *records, uint8_t *out, size_t *out_len, uint8_t type,
                        const uint8_t *data, size_t len);
/* Takes one record, or as much of it as is there, off the front of *in. 0, or errors of mbedTLS: WANT_READ: all was taken
 * and more is needed; UNEXPECTED_MESSAGE, INVALID_RECORD (too long) and INVALID_MAC, after which nothing more may be read;
 * ALLOC_FAILED. */
int dp_tls_records_open(tls_records *records, uint8_t *type, uint8_t plain[DP_TLS_PLAIN_MAX], size_t *len,
                        const uint8_t **in, size_t *in_len);

#endif
