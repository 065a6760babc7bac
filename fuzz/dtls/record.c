/* No altered record is ever accepted, and each true one is.
 * Input: cipher, plaintext length, then a mask that is XORed onto a sealed record (and continues behind it).
 */
#include "dtls/record.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

static bool accepts(dp_protection *protection, uint8_t *bytes, size_t len, uint8_t **plain, size_t *plain_len)
{
    dp_record record;
    dp_rd rd = dp_rd_init(bytes, len);
    return dp_record_read(&record, &rd) &&
           dp_protection_open(protection, plain, plain_len, &record, bytes + DP_RECORD_HEADER);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    dp_record_keys keys = {.cipher = (dp_aead_cipher)(1 + data[0] % 3)};
    memset(keys.write_key, 0x11, sizeof keys.write_key);
    memset(keys.read_key, 0x11, sizeof keys.read_key);
    memset(keys.write_iv, 0x22, sizeof keys.write_iv);
    memset(keys.read_iv, 0x22, sizeof keys.read_iv);
    dp_protection protection;
    CHECK(dp_protection_init(&protection, &keys) == DP_OK);

    uint8_t plain_in[255];
    memset(plain_in, 'p', sizeof plain_in);
    uint8_t sealed[DP_RECORD_HEADER + 8 + 255 + DP_AEAD_TAG];
    size_t len = 0;
    CHECK(dp_protection_seal(&protection, sealed, sizeof sealed, &len, DP_RECORD_APPLICATION_DATA, plain_in,
                             data[1]) == DP_OK);

    const uint8_t *mask = data + 2;
    size_t mask_len = size - 2;
    size_t total = mask_len > len ? mask_len : len;
    uint8_t *bytes = calloc(1, total);
    CHECK(bytes != NULL);
    memcpy(bytes, sealed, len);
    for (size_t i = 0; i < mask_len; i++)
        bytes[i] ^= mask[i];
    bool altered = memcmp(bytes, sealed, len) != 0;

    uint8_t *plain = NULL;
    size_t plain_len = 0;
    bool accepted = accepts(&protection, bytes, total, &plain, &plain_len);
    CHECK(accepted == !altered);
    if (accepted) {
        CHECK(plain_len == data[1]);
        CHECK(plain_len == 0 || memcmp(plain, plain_in, plain_len) == 0);
        memcpy(bytes, sealed, len);
        CHECK(!accepts(&protection, bytes, total, &plain, &plain_len)); /* a replay */
    } else {
        memcpy(bytes, sealed, len);
        CHECK(accepts(&protection, bytes, total, &plain, &plain_len)); /* the forgery has done no harm */
    }
    free(bytes);
    dp_protection_clear(&protection);
    return 0;
}
