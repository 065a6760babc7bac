/* Data Channel Establishment Protocol, RFC 8832: the codec. */
#ifndef SCTP_DCEP_H
#define SCTP_DCEP_H

#include "base/text.h"

/* SCTP payload protocol identifiers, RFC 8831 §8 and RFC 8832 §8.1. */
#define DP_PPID_DCEP           50u
#define DP_PPID_TEXT           51u
#define DP_PPID_BINARY_PARTIAL 52u /* deprecated; delivered as binary, as browsers do */
#define DP_PPID_BINARY         53u
#define DP_PPID_TEXT_PARTIAL   54u /* deprecated; delivered as text */
#define DP_PPID_TEXT_EMPTY                                                                                   \
    56u /* one ignored byte stands for "" because SCTP cannot carry an empty message                         \
         */
#define DP_PPID_BINARY_EMPTY 57u

typedef enum dp_dcep_type { DP_DCEP_ACK = 0x02, DP_DCEP_OPEN = 0x03 } dp_dcep_type;

/* Bit 7 of the channel type: unordered. The rest says how reliable the channel is (RFC 8832 §5.1). */
#define DP_DCEP_UNORDERED   0x80u
#define DP_DCEP_RELIABLE    0x00u
#define DP_DCEP_MAX_RETX    0x01u
#define DP_DCEP_MAX_TIME    0x02u
#define DP_DCEP_OPEN_HEADER 12u

typedef struct dp_dcep_open {
    uint8_t channel_type;
    uint16_t priority;
    uint32_t reliability;
    dp_slice label; /* borrowed from the input; UTF-8 */
    dp_slice protocol;
} dp_dcep_open;

/* Decodes any DCEP message; open is filled for DP_DCEP_OPEN only. MALFORMED (lengths, UTF-8), UNSUPPORTED
 * (type). Label and protocol lengths that count characters are understood where they cannot be bytes. */
int dp_dcep_parse(dp_dcep_type *type, dp_dcep_open *open, const uint8_t *data, size_t len);
/* NO_SPACE; TOO_LARGE if label or protocol is over 65535 bytes. */
int dp_dcep_write_open(uint8_t *out, size_t capacity, size_t *len, const dp_dcep_open *open);

#endif
