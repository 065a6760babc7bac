/* Joins the fragments of one ClientHello into one record.
 *
 * mbedTLS before 3.6.6 refuses a ClientHello in fragments, and browsers always send one (about 1,400 bytes
 * with a post-quantum key share, RFC 6347 §4.2.3). Bounded: one message at a time, 8 KB, a time limit. */
#ifndef DTLS_REASSEMBLY_H
#define DTLS_REASSEMBLY_H

#include "prefilter.h"

#define DP_CLIENT_HELLO_MAX   8192
#define DP_REASSEMBLY_TIMEOUT DP_SECONDS(10)

typedef struct dp_reassembly {
    struct dp_reassembly_message *message; /* NULL while no fragment is held */
} dp_reassembly;

typedef enum dp_reassembly_result {
    DP_REASSEMBLY_MORE,     /* kept (or had it already) */
    DP_REASSEMBLY_COMPLETE, /* *out is the joined record */
    DP_REASSEMBLY_DROPPED,  /* too long, contradicting, out of memory */
} dp_reassembly_result;

/* A zeroed dp_reassembly is ready. */
void dp_reassembly_clear(dp_reassembly *reassembly);
/* record is the one that carried the fragment; its header is the model for the joined record's. On COMPLETE
 * *out (record header, handshake header, message) is valid until the next call. */
dp_reassembly_result dp_reassembly_add(dp_reassembly *reassembly, const uint8_t **out, size_t *out_len,
                                       dp_time now, const dp_record *record, const dp_fragment *fragment);

#endif
