/* No altered record is ever accepted, each true one is, and once.
 * Input: a byte (modulo 3: the cipher; its top bit: which of the two below), then either the plaintext's length and a
 * mask that is XORed onto a sealed record and continues behind it, or steps of the record number: two bytes each. */
#include "dtls/record.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

#define RECORD_MAX (DP_RECORD_HEADER + 8 + 255 + DP_AEAD_TAG)

/* What the window promises: of the last 192 numbers it knows each, of those before the last 256 none. */
#define WINDOW_MIN (64 * (DP_REPLAY_WORDS - 1))
#define WINDOW_MAX (64 * DP_REPLAY_WORDS)
#define STEPS_MAX  256

static bool accepts(dp_protection *protection, uint8_t *bytes, size_t len, uint8_t **plain, size_t *plain_len)
{
    dp_record record;
    dp_rd rd = dp_rd_init(bytes, len);
    return dp_record_read(&record, &rd) &&
           dp_protection_open(protection, plain, plain_len, &record, bytes + DP_RECORD_HEADER);
}

/* Into a block of exactly the length that it takes; not into one byte less. */
static size_t seal(dp_protection *protection, uint8_t sealed[RECORD_MAX], const uint8_t *plain,
                   size_t plain_len)
{
    size_t explicit_len = protection->write.cipher == DP_AEAD_CHACHA20_POLY1305 ? 0 : 8;
    size_t total = DP_RECORD_HEADER + explicit_len + plain_len + DP_AEAD_TAG;
    size_t len = 0;
    uint8_t *exact = malloc(total);
    CHECK(exact != NULL);
    CHECK(dp_protection_seal(protection, exact, total - 1, &len, DP_RECORD_APPLICATION_DATA, plain,
                             plain_len) == DP_ERR_NO_SPACE);
    int err =
        dp_protection_seal(protection, exact, total, &len, DP_RECORD_APPLICATION_DATA, plain, plain_len);
    CHECK(err == DP_OK && len == total && total <= plain_len + DP_DTLS_OVERHEAD);
    memcpy(sealed, exact, total);
    free(exact);
    return total;
}

static void alter(dp_protection *protection, size_t plain_len, const uint8_t *mask, size_t mask_len)
{
    uint8_t plain_in[255];
    memset(plain_in, 'p', sizeof plain_in);
    uint8_t sealed[RECORD_MAX];
    size_t len = seal(protection, sealed, plain_in, plain_len);
    size_t total = mask_len > len ? mask_len : len;
    uint8_t *bytes = calloc(1, total);
    CHECK(bytes != NULL);
    memcpy(bytes, sealed, len);
    for (size_t i = 0; i < mask_len; i++)
        bytes[i] ^= mask[i];
    bool altered = memcmp(bytes, sealed, len) != 0;

    uint8_t *plain = NULL;
    size_t opened_len = 0;
    bool accepted = accepts(protection, bytes, total, &plain, &opened_len);
    CHECK(accepted == !altered);
    if (accepted) {
        CHECK(opened_len == plain_len);
        CHECK(plain_len == 0 || memcmp(plain, plain_in, plain_len) == 0);
        memcpy(bytes, sealed, len);
        CHECK(!accepts(protection, bytes, total, &plain, &opened_len)); /* a replay */
    } else {
        memcpy(bytes, sealed, len);
        CHECK(accepts(protection, bytes, total, &plain, &opened_len)); /* the forgery has done no harm */
    }
    free(bytes);
}

/* Record numbers in any order, against the plainest model: a list of those that were accepted. */
static void replay(dp_protection *protection, const uint8_t *steps, size_t steps_len)
{
    uint64_t seen[STEPS_MAX];
    size_t seen_count = 0;
    uint64_t highest = 0;
    uint64_t number = DP_RECORD_FIRST_SEQUENCE;
    for (size_t i = 0; i + 1 < steps_len && i / 2 < STEPS_MAX; i += 2) {
        /* Up to 32,640 to the front, or up to 255 back. */
        uint64_t span = steps[i + 1];
        number = (steps[i] & 1) == 0 ? number + (span << steps[i] % 16 / 2)
                 : number > span     ? number - span
                                     : 0;
        bool is_old = false;
        for (size_t k = 0; k < seen_count; k++)
            is_old |= seen[k] == number;

        uint8_t sealed[RECORD_MAX];
        uint8_t *plain = NULL;
        size_t plain_len = 0;
        protection->sequence = number;
        size_t len = seal(protection, sealed, (const uint8_t *)"x", 1);
        CHECK(protection->sequence == number + 1);
        bool accepted = accepts(protection, sealed, len, &plain, &plain_len);
        CHECK(!accepted || (!is_old && plain_len == 1 && plain[0] == 'x'));
        if (seen_count == 0 || number + WINDOW_MIN > highest)
            CHECK(accepted || is_old);
        if (seen_count > 0 && number + WINDOW_MAX <= highest)
            CHECK(!accepted);
        if (!accepted)
            continue;
        seen[seen_count++] = number;
        highest = number > highest ? number : highest;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    dp_record_keys keys = {.cipher = (dp_aead_cipher)(1 + (data[0] & 0x7f) % 3)};
    memset(keys.write_key, 0x11, sizeof keys.write_key);
    memset(keys.read_key, 0x11, sizeof keys.read_key);
    memset(keys.write_iv, 0x22, sizeof keys.write_iv);
    memset(keys.read_iv, 0x22, sizeof keys.read_iv);
    dp_protection protection;
    CHECK(dp_protection_init(&protection, &keys) == DP_OK);
    if ((data[0] & 0x80) != 0)
        replay(&protection, data + 1, size - 1);
    else
        alter(&protection, data[1], data + 2, size - 2);
    dp_protection_clear(&protection);
    return 0;
}
