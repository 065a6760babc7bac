/* The inside of a TLS stream, shared by tls.c (both sides: bytes in, bytes out), tls_client.c (whom to believe) and
 * tls_server.c (what to show). */
#ifndef NET_TLS_INSIDE_H
#define NET_TLS_INSIDE_H

#include "base/mbedtls.h"
#include "net/authorities.h"
#include "net/tls.h"
#include "net/tls_record.h"
#include <mbedtls/ssl.h>

enum { TLS_NAME_MAX = 253 }; /* RFC 1035 §2.3.4, as text */

/* mbedTLS passes errors of its callbacks on as others. */
typedef struct tls_random {
    dp_random source;
    bool failed;
} tls_random;

/* Where the secrets of handshakes go. 2.28 keeps the callback in the configuration, so it lives as long as that. */
typedef struct tls_keys {
    dp_mbedtls_export export;
    dp_tls *running;    /* whose handshake is being run */
    dp_key_log key_log; /* fn NULL: off */
    dp_log log;
} tls_keys;

/* What only a client has. */
typedef struct tls_client {
    mbedtls_ssl_config conf;
    tls_random random;
    tls_keys keys;
    char name[TLS_NAME_MAX + 1]; /* of the server */
    dp_tls_authorities *authorities;
    dp_address ip;                     /* of the server, if its name is a number */
    char certified[64];                /* whom its certificate is for, to tell people... */
    mbedtls_x509_time expired, begins; /* ...and when, if not now */
    bool self_signed;
    bool insecure;
} tls_client;

typedef struct tls_handshake {
    mbedtls_ssl_context ssl;
    tls_secret secret;
} tls_handshake;

struct dp_tls {
    tls_handshake *handshake; /* NULL: it is over... */
    tls_records *records;     /* ...and this is there */
    size_t fragment_max;      /* bytes that may go in one record (RFC 6066 §4) */
    tls_client *client;       /* NULL: ours is the server's side */
    dp_tls_server *server;
    tls_keys *keys;
    tls_random *random;
    const char *name; /* the server's, or "the client" */
    dp_log log;
    const uint8_t *in;
    size_t in_len;
    uint8_t *out; /* out[out_at..out_len) waits for the network */
    size_t out_at;
    size_t out_len;
    size_t out_capacity;
    bool output_failed; /* no memory for it, which mbedTLS only passes on */
    bool heard;         /* the peer's first byte... */
    bool speaks_tls;    /* ...was the start of a record */
    char *reason;       /* NULL: none yet, or no memory for it */
};

/* For mbedTLS; ctx: a tls_random. */
int dp_tls_give_random(void *ctx, unsigned char *out, size_t len);
/* What both sides ask of a configuration. NO_MEMORY. */
int dp_tls_configure(mbedtls_ssl_config *conf, int side, tls_random *random);
/* With a configuration that is complete. NO_MEMORY. */
int dp_tls_set_up(dp_tls *tls, mbedtls_ssl_config *conf, tls_keys *keys);

/* What dp_tls_reason tells. */
void dp_tls_say(dp_tls *tls, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* tls_client.c: why the certificate is refused, into tls->reason; AUTH. */
int dp_tls_refused(dp_tls *tls);
void dp_tls_client_free(tls_client *client);

#endif
