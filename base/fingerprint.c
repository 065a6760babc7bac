#include <datapeer/base.h>

#include "base/text.h"
#include <stdio.h>

static const struct {
    const char *name; /* IANA "Hash Function Textual Names" */
    dp_fingerprint_algorithm algorithm;
    uint8_t length;
} algorithms[] = {
    {"sha-256", DP_FINGERPRINT_SHA256, 32},
    {"sha-384", DP_FINGERPRINT_SHA384, 48},
    {"sha-512", DP_FINGERPRINT_SHA512, 64},
};
enum { ALGORITHMS = sizeof(algorithms) / sizeof(algorithms[0]) };

int dp_fingerprint_parse(dp_fingerprint *out, const char *text, size_t len)
{
    dp_slice rest = {text, len};
    dp_slice name = dp_slice_cut(&rest, ' ');
    size_t a = 0;
    while (a < ALGORITHMS && !dp_slice_is_nocase(name, algorithms[a].name))
        a++;
    if (a == ALGORITHMS)
        return DP_ERR_UNSUPPORTED;
    dp_fingerprint fp = {.algorithm = algorithms[a].algorithm, .length = algorithms[a].length};
    if (rest.len != (size_t)fp.length * 3 - 1)
        return DP_ERR_MALFORMED;
    for (size_t i = 0; i < fp.length; i++) {
        int high = dp_hex_digit(rest.at[3 * i]);
        int low = dp_hex_digit(rest.at[3 * i + 1]);
        if (high < 0 || low < 0 || (i + 1 < fp.length && rest.at[3 * i + 2] != ':'))
            return DP_ERR_MALFORMED;
        fp.bytes[i] = (uint8_t)(high * 16 + low);
    }
    *out = fp;
    return DP_OK;
}

const char *dp_fingerprint_format(const dp_fingerprint *fp, char text[DP_FINGERPRINT_TEXT_MAX])
{
    const char *name = "none";
    for (size_t a = 0; a < ALGORITHMS; a++)
        if (algorithms[a].algorithm == fp->algorithm)
            name = algorithms[a].name;
    int at = snprintf(text, DP_FINGERPRINT_TEXT_MAX, "%s", name);
    for (size_t i = 0; i < fp->length && i < sizeof(fp->bytes); i++)
        at += snprintf(text + at, DP_FINGERPRINT_TEXT_MAX - (size_t)at, "%c%02X", i == 0 ? ' ' : ':',
                       fp->bytes[i]);
    return text;
}
