#include "hex.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

dp_value *hex_value(const uint8_t *data, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    char *text = malloc(2 * len + 1);
    if (text == NULL)
        return NULL;
    for (size_t i = 0; i < len; i++) {
        text[2 * i] = digits[data[i] >> 4];
        text[2 * i + 1] = digits[data[i] & 15];
    }
    dp_value *value = dp_value_string_n(text, 2 * len);
    free(text);
    return value;
}

static int nibble(char c)
{
    const char *digits = "0123456789abcdef";
    const char *at = c == '\0' ? NULL : strchr(digits, tolower((unsigned char)c));
    return at != NULL ? (int)(at - digits) : -1;
}

uint8_t *hex_bytes(const dp_value *value, size_t *len)
{
    size_t n;
    const char *text = dp_value_get_string(value, &n);
    uint8_t *data = text == NULL || n % 2 != 0 ? NULL : malloc(n / 2 + 1);
    for (size_t i = 0; data != NULL && i < n / 2; i++) {
        int high = nibble(text[2 * i]);
        int low = nibble(text[2 * i + 1]);
        if (high < 0 || low < 0) {
            free(data);
            return NULL;
        }
        data[i] = (uint8_t)(high * 16 + low);
    }
    *len = n / 2;
    return data;
}

dp_value *packed_value(const dp_value *hex)
{
    size_t len;
    dp_value *value = NULL;
    uint8_t *data = hex_bytes(hex, &len);
    if (data != NULL && dp_binarypack_decode(&value, data, len) != DP_OK)
        value = NULL;
    free(data);
    return value;
}

dp_value *pack_hex(const dp_value *value)
{
    uint8_t *data;
    size_t len;
    if (dp_binarypack_encode(value, &data, &len) != DP_OK)
        return NULL;
    dp_value *hex = hex_value(data, len);
    dp_free(data);
    return hex;
}

uint8_t pattern_byte(uint64_t i, uint64_t seed)
{
    uint32_t h = (uint32_t)(i + seed * 7919u) * 0x9E3779B1u;
    return (uint8_t)((h >> 24) ^ (h >> 11));
}
