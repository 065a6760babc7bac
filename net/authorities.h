/* The files of certificates (PEM) that say whom a TLS client believes. */
#ifndef NET_AUTHORITIES_H
#define NET_AUTHORITIES_H

#include <datapeer/net.h>
#include <mbedtls/x509_crt.h>

typedef struct dp_tls_authorities dp_tls_authorities;

/* path NULL: the system's. To be put back. IO: there is none, or it can't be read; NO_MEMORY. */
int dp_tls_authorities_get(dp_tls_authorities **out, dp_loop *loop, const char *path);
void dp_tls_authorities_put(dp_tls_authorities *list);
mbedtls_x509_crt *dp_tls_authorities_chain(dp_tls_authorities *list);
/* The loop's, when it ends. */
void dp_tls_authorities_free(dp_loop *loop);

#endif
