/* Records built and opened by an independent implementation, OpenSSL's EVP, per RFC 5288, 7905 and 6347. */
#include <openssl/evp.h>

#include "dtls/record.h"

#include "pair.h"

#define RECORD_CAPACITY (DP_DTLS_RECORD_MAX + DP_DTLS_OVERHEAD)
#define TYPE            DP_RECORD_APPLICATION_DATA

/* One direction of one connection, as OpenSSL keeps it. */
typedef struct evp_end {
    dp_aead_cipher cipher;
    uint8_t key[32];
    uint8_t iv[12]; /* GCM: the first 4 */
} evp_end;

static const EVP_CIPHER *evp_cipher(dp_aead_cipher cipher)
{
    return cipher == DP_AEAD_AES_128_GCM   ? EVP_aes_128_gcm()
           : cipher == DP_AEAD_AES_256_GCM ? EVP_aes_256_gcm()
                                           : EVP_chacha20_poly1305();
}

static void put_number(uint8_t *out, uint64_t number, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)(number >> 8 * (bytes - 1 - i));
}

static size_t explicit_len(dp_aead_cipher cipher) { return cipher == DP_AEAD_CHACHA20_POLY1305 ? 0 : 8; }

/* RFC 5288 §3: salt[4] || explicit[8]. RFC 7905 §2: iv XOR 0[4] || epoch || sequence. */
static void evp_nonce(uint8_t nonce[12], const evp_end *end, const uint8_t explicit[8])
{
    bool gcm = end->cipher != DP_AEAD_CHACHA20_POLY1305;
    memcpy(nonce, end->iv, 12);
    for (size_t i = 0; i < 8; i++)
        nonce[4 + i] = (uint8_t)(gcm ? explicit[i] : nonce[4 + i] ^ explicit[i]);
}

/* RFC 6347 §4.1.2.1: epoch || sequence, type, version, length of the plaintext. */
static void evp_additional_data(uint8_t ad[13], uint64_t sequence, size_t len)
{
    put_number(ad, UINT64_C(1) << 48 | sequence, 8);
    ad[8] = TYPE;
    put_number(ad + 9, 0xfefd, 2);
    put_number(ad + 11, len, 2);
}

/* explicit: GCM's explicit nonce, which is the sender's to choose; NULL: epoch || sequence. */
static size_t evp_seal(uint8_t *out, const evp_end *end, uint64_t sequence, const uint8_t *explicit,
                       const uint8_t *data, size_t len)
{
    uint8_t ad[13];
    uint8_t nonce[12];
    size_t prefix = DP_RECORD_HEADER + explicit_len(end->cipher);
    evp_additional_data(ad, sequence, len);
    explicit = explicit == NULL ? ad : explicit;
    evp_nonce(nonce, end, explicit);
    out[0] = TYPE;
    put_number(out + 1, 0xfefd, 2);
    memcpy(out + 3, ad, 8);
    put_number(out + 11, explicit_len(end->cipher) + len + 16, 2);
    memcpy(out + DP_RECORD_HEADER, explicit, explicit_len(end->cipher));
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0;
    assert_int_equal(EVP_EncryptInit_ex(ctx, evp_cipher(end->cipher), NULL, end->key, nonce), 1);
    assert_int_equal(EVP_EncryptUpdate(ctx, NULL, &n, ad, sizeof ad), 1);
    if (len > 0)
        assert_int_equal(EVP_EncryptUpdate(ctx, out + prefix, &n, data, (int)len), 1);
    assert_int_equal(EVP_EncryptFinal_ex(ctx, out + prefix + len, &n), 1);
    assert_int_equal(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, out + prefix + len), 1);
    EVP_CIPHER_CTX_free(ctx);
    return prefix + len + 16;
}

/* The record has to be the one with this number and this content. */
static void evp_assert_opens(const evp_end *end, uint64_t sequence, uint8_t *record, size_t record_len,
                             const uint8_t *data, size_t len)
{
    uint8_t header[DP_RECORD_HEADER] = {TYPE, 0xfe, 0xfd};
    uint8_t ad[13];
    uint8_t nonce[12];
    static uint8_t plain[DP_DTLS_RECORD_MAX];
    size_t prefix = DP_RECORD_HEADER + explicit_len(end->cipher);
    evp_additional_data(ad, sequence, len);
    assert_int_equal(record_len, prefix + len + 16);
    memcpy(header + 3, ad, 8);
    put_number(header + 11, record_len - DP_RECORD_HEADER, 2);
    assert_memory_equal(record, header, sizeof header);
    evp_nonce(nonce, end, explicit_len(end->cipher) > 0 ? record + DP_RECORD_HEADER : ad);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0;
    assert_int_equal(EVP_DecryptInit_ex(ctx, evp_cipher(end->cipher), NULL, end->key, nonce), 1);
    assert_int_equal(EVP_DecryptUpdate(ctx, NULL, &n, ad, sizeof ad), 1);
    if (len > 0)
        assert_int_equal(EVP_DecryptUpdate(ctx, plain, &n, record + prefix, (int)len), 1);
    assert_int_equal(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, 16, record + prefix + len), 1);
    assert_int_equal(EVP_DecryptFinal_ex(ctx, plain + len, &n), 1);
    assert_memory_equal(plain, data, len);
    EVP_CIPHER_CTX_free(ctx);
}

/* ---- our end ------------------------------------------------------------------------------------------ */

typedef struct ends {
    dp_protection ours;
    evp_end to_us;
    evp_end from_us;
} ends;

static void ends_init(ends *e, dp_aead_cipher cipher, test_random *random)
{
    dp_record_keys keys = {.cipher = cipher};
    size_t key_len = dp_aead_key_length(cipher);
    size_t iv_len = explicit_len(cipher) > 0 ? 4 : 12;
    test_fill(random, keys.write_key, key_len);
    test_fill(random, keys.read_key, key_len);
    test_fill(random, keys.write_iv, iv_len);
    test_fill(random, keys.read_iv, iv_len);
    e->from_us.cipher = e->to_us.cipher = cipher;
    memcpy(e->from_us.key, keys.write_key, sizeof keys.write_key);
    memcpy(e->to_us.key, keys.read_key, sizeof keys.read_key);
    memcpy(e->from_us.iv, keys.write_iv, sizeof keys.write_iv);
    memcpy(e->to_us.iv, keys.read_iv, sizeof keys.read_iv);
    assert_int_equal(dp_protection_init(&e->ours, &keys), DP_OK);
}

/* Opens a copy in place; false: refused, by whichever check. */
static bool opens(ends *e, const uint8_t *bytes, size_t len, const uint8_t *data, size_t data_len)
{
    static uint8_t copy[RECORD_CAPACITY];
    dp_record record;
    uint8_t *plain = NULL;
    size_t plain_len = 0;
    memcpy(copy, bytes, len);
    dp_rd rd = dp_rd_init(copy, len);
    if (!dp_record_read(&record, &rd) ||
        !dp_protection_open(&e->ours, &plain, &plain_len, &record, copy + DP_RECORD_HEADER))
        return false;
    assert_int_equal(plain_len, data_len);
    assert_memory_equal(plain, data, data_len);
    return true;
}

static const size_t lengths[] = {0, 1, 15, 16, 17, 1200, DP_DTLS_RECORD_MAX};
static const uint64_t numbers[] = {
    0, 1, (UINT64_C(1) << 32) - 1, UINT64_C(1) << 32, (UINT64_C(1) << 32) + 1, (UINT64_C(1) << 48) - 2};

static uint8_t data[DP_DTLS_RECORD_MAX];
static uint8_t record[RECORD_CAPACITY];

static void each_cipher(void (*test)(ends *e, test_random *random))
{
    test_random random = {2026};
    test_fill(&random, data, sizeof data);
    for (int cipher = DP_AEAD_AES_128_GCM; cipher <= DP_AEAD_CHACHA20_POLY1305; cipher++)
        for (int keys = 0; keys < 20; keys++) {
            ends e;
            ends_init(&e, (dp_aead_cipher)cipher, &random);
            test(&e, &random);
            dp_protection_clear(&e.ours);
        }
}

static void opens_all(ends *e, test_random *random)
{
    for (size_t n = 0; n < sizeof numbers / sizeof numbers[0]; n++)
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            uint8_t explicit[8];
            test_fill(random, explicit, sizeof explicit);
            memset(&e->ours.replay, 0, sizeof e->ours.replay); /* the same numbers once more */
            size_t len = evp_seal(record, &e->to_us, numbers[n], NULL, data, lengths[i]);
            assert_true(opens(e, record, len, data, lengths[i]));
            assert_false(opens(e, record, len, data, lengths[i])); /* a replay */
            memset(&e->ours.replay, 0, sizeof e->ours.replay);
            if (e->to_us.cipher != DP_AEAD_CHACHA20_POLY1305) {
                len = evp_seal(record, &e->to_us, numbers[n], explicit, data, lengths[i]);
                assert_true(opens(e, record, len, data, lengths[i]));
            }
        }
}

static void test_opens_records_of_openssl(void **state)
{
    (void)state;
    each_cipher(opens_all);
}

static void seals_all(ends *e, test_random *random)
{
    (void)random;
    size_t len = 0;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        assert_int_equal(dp_protection_seal(&e->ours, record, sizeof record, &len, TYPE, data, lengths[i]),
                         DP_OK);
        evp_assert_opens(&e->from_us, DP_RECORD_FIRST_SEQUENCE + i, record, len, data, lengths[i]);
    }
    e->ours.sequence = DP_RECORD_SEQUENCE_END - 2;
    for (uint64_t last = 2; last > 0; last--) {
        assert_int_equal(dp_protection_seal(&e->ours, record, sizeof record, &len, TYPE, data, 100), DP_OK);
        evp_assert_opens(&e->from_us, DP_RECORD_SEQUENCE_END - last, record, len, data, 100);
    }
}

static void test_openssl_opens_our_records(void **state)
{
    (void)state;
    each_cipher(seals_all);
}

/* Every bit of header, nonce, body and tag in turn; then the record itself is still welcome. */
static void refuses_altered(ends *e, test_random *random)
{
    static const size_t some_lengths[] = {0, 1, 17, 60};
    uint64_t sequence = test_next(random) % DP_RECORD_SEQUENCE_END;
    for (size_t i = 0; i < sizeof some_lengths / sizeof some_lengths[0]; i++) {
        size_t len = evp_seal(record, &e->to_us, sequence, NULL, data, some_lengths[i]);
        memset(&e->ours.replay, 0, sizeof e->ours.replay);
        for (size_t bit = 0; bit < len * 8; bit++) {
            record[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_false(opens(e, record, len, data, some_lengths[i]));
            record[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        for (size_t cut = 0; cut < len; cut++)
            assert_false(opens(e, record, cut, data, some_lengths[i]));
        assert_true(opens(e, record, len, data, some_lengths[i]));
    }
}

static void test_altered_records_are_refused(void **state)
{
    (void)state;
    each_cipher(refuses_altered);
}

/* One byte more than a record may have, with a right tag. */
static void refuses_too_long(ends *e, test_random *random)
{
    (void)random;
    static uint8_t long_data[DP_DTLS_RECORD_MAX + 1];
    static uint8_t long_record[RECORD_CAPACITY + 1];
    dp_record parsed;
    uint8_t *plain = NULL;
    size_t plain_len = 0;
    size_t len = evp_seal(long_record, &e->to_us, 5, NULL, long_data, sizeof long_data);
    dp_rd rd = dp_rd_init(long_record, len);
    assert_true(dp_record_read(&parsed, &rd));
    assert_false(dp_protection_open(&e->ours, &plain, &plain_len, &parsed, long_record + DP_RECORD_HEADER));
    assert_true(dp_replay_is_new(&e->ours.replay, 5));
}

static void test_too_long_records_are_refused(void **state)
{
    (void)state;
    each_cipher(refuses_too_long);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opens_records_of_openssl),
        cmocka_unit_test(test_openssl_opens_our_records),
        cmocka_unit_test(test_altered_records_are_refused),
        cmocka_unit_test(test_too_long_records_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
