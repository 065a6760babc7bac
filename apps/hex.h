/* Bytes and BinaryPack values as hex, and the byte pattern that the interoperability protocol names. */
#ifndef APPS_HEX_H
#define APPS_HEX_H

#include <datapeer/datapeer.h>

dp_value *hex_value(const uint8_t *data, size_t len);
/* NULL for what is no hex. free() it. */
uint8_t *hex_bytes(const dp_value *value, size_t *len);
/* BinaryPack in hex to a value; NULL if it is neither. */
dp_value *packed_value(const dp_value *hex);
dp_value *pack_hex(const dp_value *value);

/* Byte i of the pattern with this seed. */
uint8_t pattern_byte(uint64_t i, uint64_t seed);

#endif
