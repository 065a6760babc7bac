#include "base/text.h"

#include <string.h>

bool dp_slice_is(dp_slice slice, const char *text)
{
    return slice.len == strlen(text) && (slice.len == 0 || memcmp(slice.at, text, slice.len) == 0);
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

bool dp_slice_is_nocase(dp_slice slice, const char *text)
{
    if (slice.len != strlen(text))
        return false;
    for (size_t i = 0; i < slice.len; i++)
        if (lower(slice.at[i]) != lower(text[i]))
            return false;
    return true;
}

dp_slice dp_slice_cut(dp_slice *rest, char separator)
{
    const char *found = rest->len > 0 ? memchr(rest->at, separator, rest->len) : NULL;
    dp_slice part = *rest;
    if (found == NULL) {
        if (rest->len > 0) /* else at may be NULL, to which not even 0 may be added */
            rest->at += rest->len;
        rest->len = 0;
        return part;
    }
    part.len = (size_t)(found - rest->at);
    rest->at = found + 1;
    rest->len -= part.len + 1;
    return part;
}

int dp_slice_to_u64(uint64_t *out, dp_slice slice, uint64_t max)
{
    uint64_t value = 0;
    if (slice.len == 0)
        return DP_ERR_MALFORMED;
    for (size_t i = 0; i < slice.len; i++) {
        if (slice.at[i] < '0' || slice.at[i] > '9')
            return DP_ERR_MALFORMED;
        uint64_t digit = (uint64_t)(slice.at[i] - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return DP_ERR_MALFORMED;
        value = value * 10 + digit;
    }
    if (value > max)
        return DP_ERR_MALFORMED;
    *out = value;
    return DP_OK;
}

int dp_slice_copy(char *out, size_t capacity, dp_slice slice)
{
    if (slice.len >= capacity)
        return DP_ERR_NO_SPACE;
    if (slice.len > 0) {
        if (memchr(slice.at, '\0', slice.len) != NULL)
            return DP_ERR_MALFORMED;
        memcpy(out, slice.at, slice.len);
    }
    out[slice.len] = '\0';
    return DP_OK;
}

bool dp_utf8_valid(const uint8_t *text, size_t len)
{
    size_t i = 0;
    while (i < len) {
        uint64_t eight;
        if (len - i >= sizeof(eight)) { /* of ASCII, at once */
            memcpy(&eight, text + i, sizeof(eight));
            if ((eight & 0x8080808080808080u) == 0) {
                i += sizeof(eight);
                continue;
            }
        }
        uint8_t lead = text[i++];
        if (lead < 0x80)
            continue;
        size_t more;
        uint8_t low = 0x80, high = 0xBF; /* allowed range of the second byte (RFC 3629 §4) */
        if (lead >= 0xC2 && lead <= 0xDF) {
            more = 1;
        } else if (lead >= 0xE0 && lead <= 0xEF) {
            more = 2;
            low = lead == 0xE0 ? 0xA0 : 0x80;
            high = lead == 0xED ? 0x9F : 0xBF;
        } else if (lead >= 0xF0 && lead <= 0xF4) {
            more = 3;
            low = lead == 0xF0 ? 0x90 : 0x80;
            high = lead == 0xF4 ? 0x8F : 0xBF;
        } else {
            return false;
        }
        if (len - i < more || text[i] < low || text[i] > high)
            return false;
        for (size_t k = 1; k < more; k++)
            if ((text[i + k] & 0xC0) != 0x80)
                return false;
        i += more;
    }
    return true;
}

int dp_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}
