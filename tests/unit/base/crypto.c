/* Hashes and HMAC with published vectors, base64, random bytes. getrandom and the entry points of mbedTLS are
 * interposed, so that their failures can be had at will. */
#include "tests/unit/base/helper.h"

#include "base/crypto.h"

#include "base/mbedtls.h"
#include "base/table.h"
#include <dlfcn.h>
#include <errno.h>
#include <mbedtls/md.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- failures ---- */

static bool no_digest;   /* mbedTLS built without it */
static bool bad_digest;  /* there, but it fails */
static bool no_sha256;   /* an accelerator that fails */
static int random_errno; /* of getrandom; EINTR: once; -1: it returns 0 */
static size_t random_step = SIZE_MAX;

const mbedtls_md_info_t *mbedtls_md_info_from_type(mbedtls_md_type_t type)
{
    const mbedtls_md_info_t *(*real)(mbedtls_md_type_t);
    *(void **)&real = dlsym(RTLD_NEXT, "mbedtls_md_info_from_type");
    return no_digest ? NULL : real(type);
}

int mbedtls_md(const mbedtls_md_info_t *md, const unsigned char *data, size_t len, unsigned char *out)
{
    int (*real)(const mbedtls_md_info_t *, const unsigned char *, size_t, unsigned char *);
    *(void **)&real = dlsym(RTLD_NEXT, "mbedtls_md");
    return bad_digest ? -1 : real(md, data, len, out);
}

int mbedtls_md_hmac(const mbedtls_md_info_t *md, const unsigned char *key, size_t key_len,
                    const unsigned char *data, size_t len, unsigned char *out)
{
    int (*real)(const mbedtls_md_info_t *, const unsigned char *, size_t, const unsigned char *, size_t,
                unsigned char *);
    *(void **)&real = dlsym(RTLD_NEXT, "mbedtls_md_hmac");
    return bad_digest ? -1 : real(md, key, key_len, data, len, out);
}

#define STRING(name)  STRING_(name) /* of what the macro name stands for */
#define STRING_(name) #name

int DP_MBEDTLS_SHA256_STARTS(mbedtls_sha256_context *ctx, int is224)
{
    int (*real)(mbedtls_sha256_context *, int);
    *(void **)&real = dlsym(RTLD_NEXT, STRING(DP_MBEDTLS_SHA256_STARTS));
    return no_sha256 ? -1 : real(ctx, is224);
}

int DP_MBEDTLS_SHA256_UPDATE(mbedtls_sha256_context *ctx, const unsigned char *data, size_t len)
{
    int (*real)(mbedtls_sha256_context *, const unsigned char *, size_t);
    *(void **)&real = dlsym(RTLD_NEXT, STRING(DP_MBEDTLS_SHA256_UPDATE));
    return no_sha256 ? -1 : real(ctx, data, len);
}

int DP_MBEDTLS_SHA256_FINISH(mbedtls_sha256_context *ctx, DP_MBEDTLS_SHA256_OUTPUT(out))
{
    int (*real)(mbedtls_sha256_context *, unsigned char *);
    *(void **)&real = dlsym(RTLD_NEXT, STRING(DP_MBEDTLS_SHA256_FINISH));
    return no_sha256 ? -1 : real(ctx, out);
}

ssize_t getrandom(void *out, size_t len, unsigned flags)
{
    int error = random_errno;
    if (error == EINTR)
        random_errno = 0;
    if (error != 0) {
        errno = error;
        return error == -1 ? 0 : -1;
    }
    return syscall(SYS_getrandom, out, len < random_step ? len : random_step, flags);
}

/* ---- hashes ---- */

static void hex(char *out, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

static void check_sha1(const char *text, size_t len, const char *expected)
{
    uint8_t out[DP_SHA1_LEN];
    char digits[2 * DP_SHA1_LEN + 1];
    assert_int_equal(dp_sha1(out, text, len), DP_OK);
    hex(digits, out, sizeof(out));
    assert_string_equal(digits, expected);
}

static void check_sha256(const char *text, size_t len, const char *expected)
{
    uint8_t out[DP_SHA256_LEN];
    char digits[2 * DP_SHA256_LEN + 1];
    assert_int_equal(dp_sha256(out, text, len), DP_OK);
    hex(digits, out, sizeof(out));
    assert_string_equal(digits, expected);
    dp_sha256_hash *hash;
    assert_int_equal(dp_sha256_new(&hash), DP_OK);
    for (size_t i = 0; i < len; i++) /* byte by byte */
        assert_int_equal(dp_sha256_update(hash, text + i, 1), DP_OK);
    assert_int_equal(dp_sha256_finish(hash, digits), DP_OK);
    assert_string_equal(digits, expected);
}

/* The examples of FIPS 180 (NIST's "SHA Examples"). */
static void test_hashes(void **state)
{
    (void)state;
    static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    check_sha1("", 0, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    check_sha1("abc", 3, "a9993e364706816aba3e25717850c26c9cd0d89d");
    check_sha1(two_blocks, 56, "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    check_sha256("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    check_sha256("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    check_sha256(two_blocks, 56, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    char *million = malloc(1000000);
    memset(million, 'a', 1000000);
    uint8_t out[DP_SHA1_LEN];
    char digits[2 * DP_SHA1_LEN + 1];
    assert_int_equal(dp_sha1(out, million, 1000000), DP_OK);
    hex(digits, out, sizeof(out));
    assert_string_equal(digits, "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
    free(million);
}

/* RFC 2202 §3. */
static void test_hmac_sha1(void **state)
{
    (void)state;
    uint8_t many_aa[80], counting[25], dd[50], cd[50], b0[20], c0[20];
    memset(many_aa, 0xAA, sizeof(many_aa));
    memset(dd, 0xDD, sizeof(dd));
    memset(cd, 0xCD, sizeof(cd));
    memset(b0, 0x0B, sizeof(b0));
    memset(c0, 0x0C, sizeof(c0));
    for (size_t i = 0; i < sizeof(counting); i++)
        counting[i] = (uint8_t)(i + 1);
    const struct {
        const void *key;
        size_t key_len;
        const void *data;
        size_t len;
        const char *expected;
    } cases[] = {
        {b0, 20, "Hi There", 8, "b617318655057264e28bc0b6fb378c8ef146be00"},
        {"Jefe", 4, "what do ya want for nothing?", 28, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
        {many_aa, 20, dd, 50, "125d7342b9ac11cd91a39af48aa17b4f63f175d3"},
        {counting, 25, cd, 50, "4c9007f4026250c6bc8414f9bf50c86c2d7235da"},
        {c0, 20, "Test With Truncation", 20, "4c1a03424b55e07fe7f27be1d58bb9324a9a5a04"},
        {many_aa, 80, "Test Using Larger Than Block-Size Key - Hash Key First", 54,
         "aa4ae5e15272d00e95705637ce8a3b55ed402112"},
        {many_aa, 80, "Test Using Larger Than Block-Size Key and Larger Than One Block-Size Data", 73,
         "e8e99d0f45237d786d6bbaa7965c7808bbff1a91"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t out[DP_SHA1_LEN];
        char digits[2 * DP_SHA1_LEN + 1];
        assert_int_equal(dp_hmac_sha1(out, cases[i].key, cases[i].key_len, cases[i].data, cases[i].len),
                         DP_OK);
        hex(digits, out, sizeof(out));
        assert_string_equal(digits, cases[i].expected);
    }
}

static void test_library_fails(void **state)
{
    (void)state;
    uint8_t out[DP_SHA256_LEN];
    no_digest = true;
    assert_int_equal(dp_sha1(out, "abc", 3), DP_ERR_CRYPTO);
    assert_int_equal(dp_sha256(out, "abc", 3), DP_ERR_CRYPTO);
    assert_int_equal(dp_hmac_sha1(out, "k", 1, "abc", 3), DP_ERR_CRYPTO);
    no_digest = false;
    bad_digest = true;
    assert_int_equal(dp_sha1(out, "abc", 3), DP_ERR_CRYPTO);
    assert_int_equal(dp_hmac_sha1(out, "k", 1, "abc", 3), DP_ERR_CRYPTO);
    bad_digest = false;
    dp_sha256_hash *hash;
    char digits[65];
    fail_allocation(1);
    assert_int_equal(dp_sha256_new(&hash), DP_ERR_NO_MEMORY);
    fail_allocation(0);
    dp_sha256_free(NULL);
    assert_int_equal(dp_sha256_new(&hash), DP_OK);
    dp_sha256_free(hash); /* given up half-way */
    assert_int_equal(dp_sha256_new(&hash), DP_OK);
    no_sha256 = true;
    assert_int_equal(dp_sha256_update(hash, "a", 1), DP_ERR_CRYPTO);
    assert_int_equal(dp_sha256_finish(hash, digits), DP_ERR_CRYPTO);
    assert_int_equal(dp_sha256_new(&hash), DP_ERR_CRYPTO);
    no_sha256 = false;
    assert_int_equal(blocks, 0);
}

/* RFC 4648 §10. */
static void test_base64(void **state)
{
    (void)state;
    static const char *const expected[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
    char out[16];
    for (size_t len = 0; len <= 6; len++) {
        dp_base64_encode(out, (const uint8_t *)"foobar", len);
        assert_string_equal(out, expected[len]);
    }
    static const uint8_t high[] = {0xFB, 0xFF, 0xBF, 0xFF, 0xFE};
    dp_base64_encode(out, high, sizeof(high));
    assert_string_equal(out, "+/+///4=");
}

/* ---- random ---- */

static void test_csprng(void **state)
{
    (void)state;
    dp_csprng *csprng;
    fail_allocation(0);
    random_errno = EINTR; /* tried again */
    random_step = 5;      /* short answers are put together */
    assert_int_equal(dp_csprng_new(&csprng), DP_OK);
    uint64_t secret = dp_hash_secret(); /* drawn once for the process */
    assert_true(secret != 0);
    dp_csprng_free(csprng);
    assert_int_equal(dp_csprng_new(&csprng), DP_OK);
    assert_true(dp_hash_secret() == secret);
    random_step = SIZE_MAX;
    dp_random random = dp_csprng_source(csprng);
    static uint8_t big[5000], again[5000]; /* more than mbedTLS gives at once */
    assert_int_equal(dp_random_bytes(&random, big, sizeof(big)), DP_OK);
    assert_int_equal(dp_random_bytes(&random, again, sizeof(again)), DP_OK);
    assert_memory_not_equal(big, again, sizeof(big));
    assert_memory_not_equal(big + 4900, again, 100);
    size_t ones = 0;
    for (size_t i = 0; i < sizeof(big); i++)
        ones += (size_t)__builtin_popcount(big[i]);
    assert_in_range(ones, 19000, 21000); /* 20,000 +- 10 standard deviations: the tail was filled too */
    assert_int_equal(dp_random_bytes(&random, NULL, 0), DP_OK);
    dp_csprng_free(csprng);
    dp_csprng_free(NULL);
    assert_int_equal(blocks, 0);
}

static void test_csprng_fails(void **state)
{
    (void)state;
    dp_csprng *csprng;
    fail_allocation(1);
    assert_int_equal(dp_csprng_new(&csprng), DP_ERR_NO_MEMORY);
    fail_allocation(0);
    random_errno = ENOSYS;
    assert_int_equal(dp_csprng_new(&csprng), DP_ERR_CRYPTO);
    random_errno = -1;
    assert_int_equal(dp_csprng_new(&csprng), DP_ERR_CRYPTO);
    assert_int_equal(blocks, 0);

    /* The generator asks for fresh entropy after 10,000 requests. */
    random_errno = 0;
    assert_int_equal(dp_csprng_new(&csprng), DP_OK);
    dp_random random = dp_csprng_source(csprng);
    random_errno = ENOSYS;
    int error = DP_OK;
    uint8_t byte;
    for (int i = 0; i < 20000 && error == DP_OK; i++)
        error = dp_random_bytes(&random, &byte, 1);
    assert_int_equal(error, DP_ERR_CRYPTO);
    char text[9];
    assert_int_equal(dp_random_text(&random, text, 8, "ab"), DP_ERR_CRYPTO);
    random_errno = 0;
    assert_int_equal(dp_random_bytes(&random, &byte, 1), DP_OK); /* it recovers */
    dp_csprng_free(csprng);
}

/* Every byte value equally often: what dp_random_text makes of it must be exactly even. */
static int every_byte(void *ctx, uint8_t *out, size_t len)
{
    uint8_t *next = ctx;
    for (size_t i = 0; i < len; i++)
        out[i] = (*next)++;
    return DP_OK;
}

static void test_random_text_is_even(void **state)
{
    (void)state;
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/";
    for (size_t n = 1; n <= 64; n++) {
        uint8_t next = 0;
        dp_random random = {every_byte, &next};
        char letters[65] = "";
        memcpy(letters, alphabet, n);
        size_t len = 2 * (256 - 256 % n); /* what two rounds of bytes give */
        char out[513];
        memset(out, '?', sizeof(out));
        assert_int_equal(dp_random_text(&random, out, len, letters), DP_OK);
        assert_int_equal(strlen(out), len);
        size_t counts[256] = {0};
        for (size_t i = 0; i < len; i++)
            counts[(unsigned char)out[i]]++;
        for (size_t i = 0; i < n; i++)
            assert_int_equal(counts[(unsigned char)letters[i]], len / n);
    }
    char none[1] = "?";
    dp_random random = {every_byte, none};
    assert_int_equal(dp_random_text(&random, none, 0, "ab"), DP_OK);
    assert_int_equal(none[0], '\0');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hashes),
        cmocka_unit_test(test_hmac_sha1),
        cmocka_unit_test(test_library_fails),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_csprng),
        cmocka_unit_test(test_csprng_fails),
        cmocka_unit_test(test_random_text_is_even),
    };
    return cmocka_run_group_tests_name("base/crypto", tests, NULL, NULL);
}
