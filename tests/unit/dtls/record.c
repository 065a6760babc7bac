/* AEAD vectors, record protection, replay window. */
#include "dtls/record.h"

#include "base/text.h"
#include "pair.h"

static size_t unhex(uint8_t *out, const char *hex)
{
    size_t len = strlen(hex) / 2;
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)(dp_hex_digit(hex[2 * i]) << 4 | dp_hex_digit(hex[2 * i + 1]));
    return len;
}

static void vector(dp_aead_cipher cipher, const char *key_hex, const char *nonce_hex, const char *ad_hex,
                   const char *plain_hex, const char *sealed_hex)
{
    uint8_t key[32];
    uint8_t nonce[12];
    uint8_t ad[32];
    uint8_t plain[128];
    uint8_t expected[160];
    uint8_t out[160];
    assert_int_equal(unhex(key, key_hex), dp_aead_key_length(cipher));
    assert_int_equal(unhex(nonce, nonce_hex), 12);
    size_t ad_len = unhex(ad, ad_hex);
    size_t len = unhex(plain, plain_hex);
    assert_int_equal(unhex(expected, sealed_hex), len + DP_AEAD_TAG);
    dp_aead aead;
    assert_int_equal(dp_aead_init(&aead, cipher, key), DP_OK);
    for (int twice = 0; twice < 2; twice++) { /* no state from one record to the next */
        assert_int_equal(dp_aead_seal(&aead, out, nonce, ad, ad_len, plain, len), DP_OK);
        assert_memory_equal(out, expected, len + DP_AEAD_TAG);
        memcpy(out, plain, len); /* in place, too */
        assert_int_equal(dp_aead_seal(&aead, out, nonce, ad, ad_len, out, len), DP_OK);
        assert_memory_equal(out, expected, len + DP_AEAD_TAG);
        assert_true(dp_aead_open(&aead, out, len, nonce, ad, ad_len));
        assert_memory_equal(out, plain, len);
    }
    memcpy(out, expected, len + DP_AEAD_TAG);
    out[len + DP_AEAD_TAG - 1] ^= 1;
    assert_false(dp_aead_open(&aead, out, len, nonce, ad, ad_len));
    memcpy(out, expected, len + DP_AEAD_TAG);
    ad[0] ^= 1;
    assert_false(dp_aead_open(&aead, out, len, nonce, ad, ad_len));
    dp_aead_clear(&aead);
    assert_int_equal(dp_aead_seal(&aead, out, nonce, ad, ad_len, plain, len), DP_ERR_CRYPTO);
}

#define GCM_PLAIN                                                                                            \
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aed" \
    "f5aa0de657"                                                                                             \
    "ba637b39"

/* Cases 4 and 16 of the GCM specification by McGrew and Viega. */
static void test_gcm_vectors(void **state)
{
    (void)state;
    vector(DP_AEAD_AES_128_GCM, "feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
           "feedfacedeadbeeffeedfacedeadbeefabaddad2", GCM_PLAIN,
           "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051"
           "ba30b39"
           "6a0aac973d58e0915bc94fbc3221a5db94fae95ae7121a47");
    vector(DP_AEAD_AES_256_GCM, "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
           "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2", GCM_PLAIN,
           "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c"
           "5f61e63"
           "93ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b");
}

/* RFC 8439 §2.8.2 */
static void test_chacha_vector(void **state)
{
    (void)state;
    vector(DP_AEAD_CHACHA20_POLY1305, "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
           "070000004041424344454647", "50515253c0c1c2c3c4c5c6c7",
           "4c616469657320616e642047656e746c656d656e206f662074686520636c617373206f66202739393a20496620492063"
           "6f756c64206f6666657220796f75206f6e6c79206f6e652074697020666f7220746865206675747572652c2073756e73"
           "637265656e20776f756c642062652069742e",
           "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b"
           "1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
           "3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691");
}

/* Two ends: what one writes the other reads. */
static void protections(dp_protection *a, dp_protection *b, dp_aead_cipher cipher)
{
    dp_record_keys keys = {.cipher = cipher};
    memset(keys.write_key, 1, sizeof keys.write_key);
    memset(keys.read_key, 2, sizeof keys.read_key);
    memset(keys.write_iv, 3, sizeof keys.write_iv);
    memset(keys.read_iv, 4, sizeof keys.read_iv);
    assert_int_equal(dp_protection_init(a, &keys), DP_OK);
    dp_record_keys other = {.cipher = cipher};
    memcpy(other.write_key, keys.read_key, sizeof other.write_key);
    memcpy(other.read_key, keys.write_key, sizeof other.read_key);
    memcpy(other.write_iv, keys.read_iv, sizeof other.write_iv);
    memcpy(other.read_iv, keys.write_iv, sizeof other.read_iv);
    assert_int_equal(dp_protection_init(b, &other), DP_OK);
}

static bool open_record(dp_protection *protection, uint8_t *bytes, size_t len, uint8_t **plain,
                        size_t *plain_len)
{
    dp_record record;
    dp_rd rd = dp_rd_init(bytes, len);
    return dp_record_read(&record, &rd) &&
           dp_protection_open(protection, plain, plain_len, &record, bytes + DP_RECORD_HEADER);
}

static void test_round_trip(void **state)
{
    (void)state;
    for (int cipher = DP_AEAD_AES_128_GCM; cipher <= DP_AEAD_CHACHA20_POLY1305; cipher++) {
        dp_protection a;
        dp_protection b;
        protections(&a, &b, (dp_aead_cipher)cipher);
        uint8_t out[200];
        size_t len = 0;
        assert_int_equal(dp_protection_seal(&a, out, sizeof out, &len, 23, (const uint8_t *)"hello", 5),
                         DP_OK);
        /* The record number, and for GCM the explicit nonce: epoch 1, 2^32. */
        static const uint8_t number[] = {0, 1, 0, 1, 0, 0, 0, 0};
        assert_memory_equal(out + 3, number, 8);
        if (cipher != DP_AEAD_CHACHA20_POLY1305)
            assert_memory_equal(out + 13, number, 8);
        uint8_t *plain = NULL;
        size_t plain_len = 0;
        assert_false(open_record(&a, out, len, &plain, &plain_len)); /* not our own direction */
        assert_int_equal(dp_protection_seal(&a, out, sizeof out, &len, 23, (const uint8_t *)"hello", 5),
                         DP_OK);
        assert_true(open_record(&b, out, len, &plain, &plain_len));
        assert_int_equal(plain_len, 5);
        assert_memory_equal(plain, "hello", 5);
        assert_int_equal(dp_protection_seal(&a, out, sizeof out, &len, 23, out, 0), DP_OK);
        assert_true(open_record(&b, out, len, &plain, &plain_len));
        assert_int_equal(plain_len, 0);
        dp_protection_clear(&a);
        dp_protection_clear(&b);
    }
}

/* RFC 6347 §4.1: the record numbers end, they do not wrap. */
static void test_exhaustion(void **state)
{
    (void)state;
    dp_protection a;
    dp_protection b;
    protections(&a, &b, DP_AEAD_AES_128_GCM);
    a.sequence = DP_RECORD_SEQUENCE_END - 1;
    uint8_t out[200];
    uint8_t *plain = NULL;
    size_t len = 0;
    assert_int_equal(dp_protection_seal(&a, out, sizeof out, &len, 23, (const uint8_t *)"last", 4), DP_OK);
    assert_true(open_record(&b, out, len, &plain, &len));
    assert_int_equal(dp_protection_seal(&a, out, sizeof out, &len, 23, (const uint8_t *)"more", 4),
                     DP_ERR_LIMIT);
    assert_int_equal(dp_protection_seal(&a, out, sizeof out, &len, 23, (const uint8_t *)"more", 4),
                     DP_ERR_LIMIT);
    dp_protection_clear(&a);
    dp_protection_clear(&b);
}

/* Against a model that remembers everything. */
static void test_replay_window(void **state)
{
    (void)state;
    static bool seen[20000];
    memset(seen, 0, sizeof seen);
    dp_replay replay = {0};
    test_random r = {1};
    uint64_t highest = 0;
    for (int i = 0; i < 20000; i++) {
        uint64_t base = (uint64_t)i / 2;
        uint64_t sequence = base + test_next(&r) % (i % 1000 == 0 ? 2000 : 300);
        bool is_new = dp_replay_is_new(&replay, sequence);
        if (seen[sequence])
            assert_false(is_new);
        else if (sequence + 192 > highest)
            assert_true(is_new); /* within the window nothing new is refused */
        if (is_new) {
            dp_replay_mark(&replay, sequence);
            seen[sequence] = true;
            highest = sequence > highest ? sequence : highest;
        }
        assert_false(dp_replay_is_new(&replay, sequence));
    }
    /* A jump over everything forgets nothing that matters. */
    dp_replay_mark(&replay, DP_RECORD_FIRST_SEQUENCE);
    assert_false(dp_replay_is_new(&replay, DP_RECORD_FIRST_SEQUENCE));
    assert_false(dp_replay_is_new(&replay, highest));
    assert_false(dp_replay_is_new(&replay, 0));
    assert_true(dp_replay_is_new(&replay, DP_RECORD_FIRST_SEQUENCE - 191));
    assert_true(dp_replay_is_new(&replay, DP_RECORD_FIRST_SEQUENCE + 1));
    dp_replay_mark(&replay, DP_RECORD_SEQUENCE_END - 1);
    assert_false(dp_replay_is_new(&replay, DP_RECORD_SEQUENCE_END - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gcm_vectors),   cmocka_unit_test(test_chacha_vector),
        cmocka_unit_test(test_round_trip),    cmocka_unit_test(test_exhaustion),
        cmocka_unit_test(test_replay_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
