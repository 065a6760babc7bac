/* What stands between a peer's packets and usrsctp: its parsers are old and large, so only packets whose
 * skeleton is sound and whose chunks are ones that we negotiated get through. */
#ifndef SCTP_FILTER_H
#define SCTP_FILTER_H

#include "chunk.h"

#define DP_SCTP_LOCAL_PORT 5000u

/* DP_OK if usrsctp may see the packet. MALFORMED: lengths. PROTOCOL: wrong ports, INIT not alone.
 * UNSUPPORTED: a chunk of an extension that was not negotiated, or one in whose place interleaving (RFC 8260) has
 * another: on either, usrsctp would end the association. The checksum is not looked at. */
int dp_sctp_filter(const uint8_t *packet, size_t len, uint16_t local_port, uint16_t remote_port,
                   bool interleaving);

/* CRC-32C with the checksum field taken as zero; len must be at least 12. */
uint32_t dp_sctp_checksum(const uint8_t *packet, size_t len);
void dp_sctp_checksum_write(uint8_t *packet, size_t len);
bool dp_sctp_checksum_ok(const uint8_t *packet, size_t len);

#endif
