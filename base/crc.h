/* CRC-32 (IEEE 802.3, for STUN's FINGERPRINT) and CRC-32C (Castagnoli, for SCTP). */
#ifndef BASE_CRC_H
#define BASE_CRC_H

#include <stddef.h>
#include <stdint.h>

uint32_t dp_crc32(const uint8_t *data, size_t len);

/* Continues from crc (0 at the start), so that dp_crc32c(dp_crc32c(0, a), b) is the CRC of a followed by b.
 * Uses SSE4.2 or ARMv8 CRC instructions where the processor has them, a table elsewhere. */
uint32_t dp_crc32c(uint32_t crc, const uint8_t *data, size_t len);
/* The table version, so that tests can compare the two. */
uint32_t dp_crc32c_table(uint32_t crc, const uint8_t *data, size_t len);

#endif
