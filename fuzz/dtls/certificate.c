/* Any text as PEM: an error, or a certificate that is the same after it was written and read again.
 * Input: a byte, and text; if the byte is odd, edits of a good certificate and key instead: u16 position, u8 what to do,
 * u8 a character. */
#include <datapeer/dtls.h>

#include <stdlib.h>
#include <string.h>

#include "base/rd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

#define PEM_MAX 4096

static int fill(void *ctx, uint8_t *out, size_t len)
{
    uint64_t *seed = ctx;
    for (size_t i = 0; i < len; i++) {
        *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        out[i] = (uint8_t)(*seed >> 56);
    }
    return DP_OK;
}

static void check_round_trip(const dp_certificate *certificate)
{
    char first[4 * PEM_MAX];
    char second[4 * PEM_MAX];
    dp_certificate *again = NULL;
    dp_fingerprint a;
    dp_fingerprint b;
    CHECK(dp_certificate_to_pem(certificate, first, 40) == DP_ERR_NO_SPACE);
    CHECK(dp_certificate_to_pem(certificate, first, sizeof first) == DP_OK);
    CHECK(dp_certificate_from_pem(&again, first) == DP_OK);
    CHECK(dp_certificate_to_pem(again, second, sizeof second) == DP_OK);
    CHECK(strcmp(first, second) == 0);
    dp_certificate_fingerprint(certificate, &a);
    dp_certificate_fingerprint(again, &b);
    CHECK(a.algorithm == DP_FINGERPRINT_SHA256 && a.length == 32 && memcmp(&a, &b, sizeof a) == 0);
    dp_certificate_free(again);
}

static void edit(char text[PEM_MAX], dp_rd *rd)
{
    for (int i = 0; i < 16 && dp_rd_left(rd) > 0; i++) {
        size_t len = strlen(text);
        size_t at = dp_rd_u16(rd) % (len + 1);
        unsigned what = dp_rd_u8(rd) % 3;
        char c = (char)dp_rd_u8(rd);
        if (what == 0 && at < len)
            text[at] = c;
        else if (what == 1 && len + 1 < PEM_MAX) {
            memmove(text + at + 1, text + at, len - at + 1);
            text[at] = c;
        } else if (what == 2 && at < len)
            memmove(text + at, text + at + 1, len - at);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char good[PEM_MAX];
    char text[PEM_MAX] = "";
    dp_certificate *certificate = NULL;
    if (good[0] == '\0') {
        uint64_t seed = 1;
        dp_random random = {fill, &seed};
        CHECK(dp_certificate_generate(&certificate, &random, 1790000000) == DP_OK);
        CHECK(dp_certificate_to_pem(certificate, good, sizeof good) == DP_OK);
        check_round_trip(certificate);
        dp_certificate_free(certificate);
        certificate = NULL;
    }
    dp_rd rd = dp_rd_init(data, size);
    if (dp_rd_u8(&rd) & 1) {
        memcpy(text, good, sizeof text);
        edit(text, &rd);
    } else if (size > 0) {
        size_t len = dp_rd_left(&rd) < sizeof text - 1 ? dp_rd_left(&rd) : sizeof text - 1;
        memcpy(text, data + 1, len);
    }
    char *exact = strdup(text);
    CHECK(exact != NULL);
    int err = dp_certificate_from_pem(&certificate, exact);
    CHECK((err == DP_OK) == (certificate != NULL));
    CHECK(err == DP_OK || err == DP_ERR_MALFORMED || err == DP_ERR_UNSUPPORTED);
    free(exact); /* nothing of it is kept */
    if (certificate != NULL)
        check_round_trip(certificate);
    dp_certificate_free(certificate);
    return 0;
}
