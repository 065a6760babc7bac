/* The insides of dp_dtls: what its two files share.
 *
 * - dtls.c: the object; what comes in and goes out; sealed records; the end
 * - attempt.c: the handshake, from its start to the keys: attempts, time, which record may touch them */
#ifndef DTLS_INTERNAL_H
#define DTLS_INTERNAL_H

#include "base/log.h"
#include "handshake.h"
#include "reassembly.h"
#include <datapeer/dtls.h>

#define LAYER "dtls"

#define FINGERPRINTS_MAX 8
#define HELLO_RANDOM_LEN 32

struct dp_dtls {
    dp_dtls_config config;
    dp_dtls_state state;
    dp_fingerprint fingerprints[FINGERPRINTS_MAX];
    size_t fingerprint_count;

    dp_time deadline;
    dp_handshake *handshake; /* while CONNECTING */
    unsigned restarts;
    dp_time pause_end;               /* the attempt is over, the next one begins then; NEVER: it goes on */
    uint8_t seed[DP_HANDSHAKE_SEED]; /* of the attempt */
    bool mismatched;         /* a certificate with another fingerprint has come, or too long a chain */
    dp_fingerprint mismatch; /* that fingerprint; length 0: none */
    int progress;
    dp_time progressed;
    bool heard;     /* records that mbedTLS got since then */
    int alert;      /* description of the last unauthenticated alert, -1: none since the last progress */
    int last_alert; /* the same over all attempts, for the error message */
    int last_error; /* what ended the last attempt, mbedTLS's number; 0: nothing yet */
    dp_reassembly reassembly;
    bool hello_known;
    uint8_t hello_random[HELLO_RANDOM_LEN];

    dp_protection protection; /* as soon as the attempt has keys */
    bool have_keys;
    dp_srtp_keys srtp;
    uint8_t last_flight[DP_LAST_FLIGHT_MAX]; /* a server's */
    size_t last_flight_len;
    size_t record_max; /* of the application data in a record */
    dp_queue out;      /* of dp_outgoing */

    uint8_t *in; /* what is left of the datagram */
    size_t in_left;
    dp_time now;

    bool event_connected;
    uint8_t *event_data; /* NULL: none */
    size_t event_data_len;
    bool event_end; /* CLOSED or FAILED, by state */
    int error;
    char message[512];
    uint64_t dropped;
};

/* ---- dtls.c ---- */

void dp_dtls_set_state(dp_dtls *dtls, dp_dtls_state state);
void dp_dtls_drop(dp_dtls *dtls, const char *why);
DP_PRINTF(3, 4)
void dp_dtls_fail(dp_dtls *dtls, int error, const char *format, ...);

/* ---- attempt.c ---- */

/* Of a datagram that came while CONNECTING; bytes is the record with its head. */
void dp_dtls_handshake_record(dp_dtls *dtls, const dp_record *record, const uint8_t *bytes);

#endif
