/* Records of TLS between two ends, over a stream that cuts and may alter them. Each step of the input is two bytes:
 *   0 n: one end seals a record of n * 67 bytes   1 n: the other is given the next n + 1 bytes that are under way
 *   2 n: the next byte under way is altered       3 n: raw bytes follow: n of them go behind what is under way
 * What is read is what was sealed, in the same order; nothing that was altered is; all that is given is taken. */
#include "net/tls_record.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

enum { WIRE = 1 << 17, RECORDS = 64 };

static struct line {
    tls_records *from, *to;
    uint8_t bytes[WIRE];
    size_t at, len;
    size_t lens[RECORDS]; /* of what was sealed */
    size_t ends[RECORDS]; /* in bytes */
    size_t sealed, opened;
    size_t altered; /* where; SIZE_MAX: nowhere */
} line;

static uint8_t pattern(size_t record, size_t i) { return (uint8_t)(record * 31 + i * 7); }

static void seal(size_t len)
{
    static uint8_t plain[DP_TLS_PLAIN_MAX];
    size_t n = 0;
    if (line.sealed == RECORDS || line.altered != SIZE_MAX || WIRE - line.len < len + TLS_RECORD_OVERHEAD)
        return;
    for (size_t i = 0; i < len; i++)
        plain[i] = pattern(line.sealed, i);
    CHECK(dp_tls_records_seal(line.from, line.bytes + line.len, &n, (uint8_t)(20 + len % 4), plain, len) ==
          0);
    CHECK(n > len && n <= len + TLS_RECORD_OVERHEAD);
    line.len += n;
    line.lens[line.sealed] = len;
    line.ends[line.sealed++] = line.len;
}

static void check_opened(uint8_t type, const uint8_t *plain, size_t len)
{
    CHECK(line.opened < line.sealed && len == line.lens[line.opened] && type == 20 + len % 4);
    CHECK(line.ends[line.opened] <= line.altered);
    for (size_t i = 0; i < len; i++)
        CHECK(plain[i] == pattern(line.opened, i));
    line.opened++;
}

/* False: the stream is broken, and it was altered. */
static bool give(size_t n)
{
    static uint8_t plain[DP_TLS_PLAIN_MAX];
    size_t left = n < line.len - line.at ? n : line.len - line.at;
    uint8_t *exact = malloc(left + 1);
    CHECK(exact != NULL);
    memcpy(exact, line.bytes + line.at, left);
    line.at += left;
    const uint8_t *in = exact;
    int ret = 0;
    while (ret == 0) {
        uint8_t type;
        size_t len;
        ret = dp_tls_records_open(line.to, &type, plain, &len, &in, &left);
        if (ret == 0)
            check_opened(type, plain, len);
    }
    free(exact);
    CHECK(ret != MBEDTLS_ERR_SSL_WANT_READ || left == 0);
    CHECK(ret == MBEDTLS_ERR_SSL_WANT_READ || line.altered < line.at);
    return ret == MBEDTLS_ERR_SSL_WANT_READ;
}

static void alter(uint8_t with)
{
    if (line.at == line.len || with == 0 || line.altered == line.at) /* twice might undo it */
        return;
    line.bytes[line.at] ^= with;
    line.altered = line.at < line.altered ? line.at : line.altered;
}

static size_t put_raw(const uint8_t *data, size_t size)
{
    size_t n = size < WIRE - line.len ? size : WIRE - line.len;
    if (n > 0)
        line.altered = line.len < line.altered ? line.len : line.altered;
    memcpy(line.bytes + line.len, data, n);
    line.len += n;
    return size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int suites[] = {MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                                 MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256};
    const tls_secret secret = {.prf = MBEDTLS_SSL_TLS_PRF_SHA256};
    if (size == 0)
        return 0;
    int suite = suites[data[0] % 2];
    line = (struct line){.altered = SIZE_MAX};
    line.from = dp_tls_records_new(&secret, suite, false);
    line.to = dp_tls_records_new(&secret, suite, true);
    CHECK(line.from != NULL && line.to != NULL);
    bool works = true;
    for (data++, size--; size >= 2 && works;) {
        uint8_t what = data[0] % 4, n = data[1];
        data += 2;
        size -= 2;
        if (what == 0) {
            seal((size_t)n * 67 < DP_TLS_PLAIN_MAX ? (size_t)n * 67 : DP_TLS_PLAIN_MAX);
        } else if (what == 1) {
            works = give((size_t)n + 1);
        } else if (what == 2) {
            alter(n);
        } else {
            size_t used = put_raw(data, n < size ? n : size);
            data += used;
            size -= used;
        }
    }
    if (works && line.altered == SIZE_MAX) {
        CHECK(give(WIRE));
        CHECK(line.opened == line.sealed);
    }
    dp_tls_records_free(line.from);
    dp_tls_records_free(line.to);
    return 0;
}
