/* Text that came from outside: UTF-8, numbers, slices. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <datapeer/base.h>

/* A borrowed piece of text, not NUL-terminated. */
typedef struct dp_slice {
    const char *at;
    size_t len;
} dp_slice;

bool dp_slice_is(dp_slice slice, const char *text);        /* exactly equal */
bool dp_slice_is_nocase(dp_slice slice, const char *text); /* ASCII case ignored */
/* Cuts the part before the first separator off *rest and returns it; if there is none, returns all of it. */
dp_slice dp_slice_cut(dp_slice *rest, char separator);
/* Decimal digits only, whole slice, <= max: DP_OK; else DP_ERR_MALFORMED. */
int dp_slice_to_u64(uint64_t *out, dp_slice slice, uint64_t max);
/* Copies and terminates. NO_SPACE if len >= capacity; MALFORMED if it contains a NUL. */
int dp_slice_copy(char *out, size_t capacity, dp_slice slice);

/* RFC 3629: no overlong forms, no surrogates, nothing over U+10FFFF. */
bool dp_utf8_valid(const uint8_t *text, size_t len);

/* Value of a hex digit, -1 for anything else. */
int dp_hex_digit(char c);

#endif
