#include "certificate.h"

#include <mbedtls/ecdsa.h>
#include <mbedtls/ecp.h>
#include <mbedtls/md.h>
#include <mbedtls/pem.h>
#include <mbedtls/platform.h>
#include <stdio.h>
#include <string.h>

#include "base/crypto.h"
#include "base/mbedtls.h"
#include "base/mem.h"

#define SUBJECT             "CN=datapeer"
#define SERIAL_LEN          16
#define DAY                 INT64_C(86400)
#define TIME_TEXT           48 /* 14 digits; room for what the compiler cannot rule out */
#define LAST_SECOND_OF_9999 INT64_C(253402300799)
#define DAYS_TO_1970        719468 /* from 0000-03-01 */
#define DER_MAX             1024   /* a P-256 certificate with our subject takes about 320 bytes */

int dp_mbedtls_random(void *ctx, unsigned char *out, size_t len)
{
    return dp_random_bytes(ctx, out, len) == DP_OK ? 0 : MBEDTLS_ERR_ECP_RANDOM_FAILED;
}

int dp_certificate_hash(dp_fingerprint *out, dp_fingerprint_algorithm algorithm, const mbedtls_x509_crt *crt)
{
    mbedtls_md_type_t type = algorithm == DP_FINGERPRINT_SHA256   ? MBEDTLS_MD_SHA256
                             : algorithm == DP_FINGERPRINT_SHA384 ? MBEDTLS_MD_SHA384
                             : algorithm == DP_FINGERPRINT_SHA512 ? MBEDTLS_MD_SHA512
                                                                  : MBEDTLS_MD_NONE;
    const mbedtls_md_info_t *info = mbedtls_md_info_from_type(type);
    memset(out, 0, sizeof *out);
    if (info == NULL || mbedtls_md(info, crt->raw.p, crt->raw.len, out->bytes) != 0)
        return DP_ERR_CRYPTO;
    out->algorithm = algorithm;
    out->length = mbedtls_md_get_size(info);
    return DP_OK;
}

static int certificate_new(dp_certificate **out)
{
    dp_certificate *certificate = dp_calloc(1, sizeof *certificate);
    if (certificate == NULL)
        return DP_ERR_NO_MEMORY;
    mbedtls_x509_crt_init(&certificate->crt);
    mbedtls_pk_init(&certificate->key);
    mbedtls_pk_init(&certificate->eckey);
    *out = certificate;
    return DP_OK;
}

void dp_certificate_free(dp_certificate *certificate)
{
    if (certificate == NULL)
        return;
    mbedtls_x509_crt_free(&certificate->crt);
    mbedtls_pk_free(&certificate->key);
    mbedtls_pk_free(&certificate->eckey);
    dp_free(certificate);
}

/* ---- the table of a key ------------------------------------------------------------------------------
 *
 * mbedTLS 2.28 begins a multiplication of the curve's generator with a table of its multiples: half of what a
 * signature costs, a quarter of its verification. It keeps the table in the key's group. But a key of type ECKEY, and
 * it parses no others, is copied for each operation, and its table made anew; with one of type ECDSA it works itself.
 * (3.x has the table as a constant and no T_size.) */

static mbedtls_ecp_group *group_of(const mbedtls_pk_context *key)
{
    return &mbedtls_pk_ec(*key)->MBEDTLS_PRIVATE(grp);
}

static bool copy_as_ecdsa(mbedtls_pk_context *out, const mbedtls_pk_context *eckey)
{
    return mbedtls_pk_setup(out, mbedtls_pk_info_from_type(MBEDTLS_PK_ECDSA)) == 0 &&
           mbedtls_ecdsa_from_keypair(mbedtls_pk_ec(*out), mbedtls_pk_ec(*eckey)) == 0;
}

static bool copy_table(mbedtls_ecp_group *out, const mbedtls_ecp_group *group)
{
    size_t count = group->MBEDTLS_PRIVATE(T_size);
    mbedtls_ecp_point *table = mbedtls_calloc(count, sizeof *table);
    if (table == NULL)
        return false;
    out->MBEDTLS_PRIVATE(T) = table; /* freed with the group */
    out->MBEDTLS_PRIVATE(T_size) = count;
    bool copied = true;
    for (size_t i = 0; i < count; i++) {
        mbedtls_ecp_point_init(&table[i]);
        copied = copied && mbedtls_ecp_copy(&table[i], &group->MBEDTLS_PRIVATE(T)[i]) == 0;
    }
    return copied;
}

void dp_certificate_lend_table(const dp_certificate *own, mbedtls_x509_crt *peer)
{
    const mbedtls_ecp_group *group = group_of(&own->key);
    /* The same curve, so one that a handshake allows: mbedTLS asks that of peers' keys of type ECKEY alone. */
    if (group->MBEDTLS_PRIVATE(T_size) == 0 || mbedtls_pk_get_type(&peer->pk) != MBEDTLS_PK_ECKEY ||
        group_of(&peer->pk)->id != group->id)
        return;
    mbedtls_pk_context copy;
    mbedtls_pk_init(&copy);
    if (copy_as_ecdsa(&copy, &peer->pk) && copy_table(group_of(&copy), group)) {
        mbedtls_pk_free(&peer->pk);
        peer->pk = copy;
    } else {
        mbedtls_pk_free(&copy); /* without, then */
    }
}

/* ---- certificates of our own ------------------------------------------------------------------------- */

/* "YYYYMMDDhhmmss" in UTC, as X.509 counts. Computed here: <time.h> belongs to net/. */
static int format_time(char out[TIME_TEXT], int64_t unix_time)
{
    if (unix_time < 0 || unix_time > LAST_SECOND_OF_9999)
        return DP_ERR_INVALID_ARGUMENT;
    unsigned second = (unsigned)(unix_time % DAY);
    /* Years that begin in March put the leap day last. */
    unsigned days = (unsigned)(unix_time / DAY) + DAYS_TO_1970;
    unsigned era = days / 146097u; /* of 400 years */
    unsigned day_of_era = days % 146097u;
    unsigned year_of_era =
        (day_of_era - day_of_era / 1460u + day_of_era / 36524u - day_of_era / 146096u) / 365u;
    unsigned day_of_year = day_of_era - (365u * year_of_era + year_of_era / 4u - year_of_era / 100u);
    unsigned march_month = (5u * day_of_year + 2u) / 153u;
    unsigned day = day_of_year - (153u * march_month + 2u) / 5u + 1u;
    unsigned month = march_month < 10 ? march_month + 3u : march_month - 9u;
    unsigned year = era * 400u + year_of_era + (month <= 2 ? 1u : 0u);
    int n = snprintf(out, TIME_TEXT, "%04u%02u%02u%02u%02u%02u", year, month, day, second / 3600u,
                     second / 60u % 60u, second % 60u);
    return n == 14 ? DP_OK : DP_ERR_INVALID_ARGUMENT;
}

/* The way back: days since 1970-01-01. */
static int64_t unix_days(int year, int month, int day)
{
    int64_t march_year = month > 2 ? year : year - 1;
    int march_month = month > 2 ? month - 3 : month + 9;
    return march_year * 365 + march_year / 4 - march_year / 100 + march_year / 400 +
           (153 * march_month + 2) / 5 + day - 1 - DAYS_TO_1970;
}

static int write_and_sign(dp_certificate *certificate, dp_random *random, const char *not_before,
                          const char *not_after)
{
    uint8_t serial[SERIAL_LEN];
    if (dp_random_bytes(random, serial, sizeof serial) != DP_OK)
        return DP_ERR_CRYPTO;
    serial[0] = (serial[0] & 0x3f) | 0x40; /* positive, and never shorter (RFC 5280 §4.1.2.2) */

    uint8_t der[DER_MAX];
    mbedtls_x509write_cert writer;
    mbedtls_x509write_crt_init(&writer);
    /* Without any extension mbedTLS writes an empty list of them, which RFC 5280 §4.1 does not allow. */
    mbedtls_x509write_crt_set_version(&writer, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&writer, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&writer, &certificate->eckey);
    mbedtls_x509write_crt_set_issuer_key(&writer, &certificate->key);
    int len = -1;
    if (mbedtls_x509write_crt_set_subject_name(&writer, SUBJECT) == 0 &&
        mbedtls_x509write_crt_set_issuer_name(&writer, SUBJECT) == 0 &&
        dp_mbedtls_set_serial(&writer, serial, sizeof serial) == 0 &&
        mbedtls_x509write_crt_set_validity(&writer, not_before, not_after) == 0 &&
        mbedtls_x509write_crt_set_basic_constraints(&writer, 0, -1) == 0)
        len = mbedtls_x509write_crt_der(&writer, der, sizeof der, dp_mbedtls_random, random);
    mbedtls_x509write_crt_free(&writer);
    /* mbedTLS writes backwards, to the end of the buffer. */
    if (len <= 0 || mbedtls_x509_crt_parse_der(&certificate->crt, der + sizeof der - len, (size_t)len) != 0)
        return DP_ERR_CRYPTO;
    return dp_certificate_hash(&certificate->fingerprint, DP_FINGERPRINT_SHA256, &certificate->crt);
}

int dp_certificate_generate_for(dp_certificate **out, const dp_random *random, int64_t unix_now,
                                unsigned days)
{
    char not_before[TIME_TEXT];
    char not_after[TIME_TEXT];
    if (out == NULL || random == NULL || random->fn == NULL || days == 0 || days > DP_CERTIFICATE_DAYS_MAX ||
        unix_now < 0 || unix_now > LAST_SECOND_OF_9999 ||
        format_time(not_before, unix_now < DAY ? 0 : unix_now - DAY) != DP_OK ||
        format_time(not_after, unix_now + days * DAY) != DP_OK)
        return DP_ERR_INVALID_ARGUMENT;
    dp_certificate *certificate = NULL;
    int err = certificate_new(&certificate);
    if (err != DP_OK)
        return err;
    dp_random source = *random;
    if (mbedtls_pk_setup(&certificate->eckey, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)) != 0 ||
        mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(certificate->eckey), dp_mbedtls_random,
                            &source) != 0 ||
        !copy_as_ecdsa(&certificate->key, &certificate->eckey))
        err = DP_ERR_CRYPTO;
    if (err == DP_OK)
        err = write_and_sign(certificate, &source, not_before, not_after);
    if (err != DP_OK) {
        dp_certificate_free(certificate);
        return err;
    }
    *out = certificate;
    return DP_OK;
}

int dp_certificate_generate(dp_certificate **out, const dp_random *random, int64_t unix_now)
{
    return dp_certificate_generate_for(out, random, unix_now, DP_CERTIFICATE_DAYS);
}

int64_t dp_certificate_expires(const dp_certificate *certificate)
{
    const mbedtls_x509_time *t = &certificate->crt.valid_to;
    int64_t hours = unix_days(t->year, t->mon, t->day) * 24 + t->hour;
    return (hours * 60 + t->min) * 60 + t->sec;
}

static int parse_key(mbedtls_pk_context *key, const char *pem)
{
    dp_csprng *csprng = NULL;
    int err = dp_csprng_new(&csprng);
    if (err != DP_OK)
        return err;
    dp_random random = dp_csprng_source(csprng);
    int ret = dp_mbedtls_parse_key(key, pem, dp_mbedtls_random, &random);
    dp_csprng_free(csprng);
    if (ret != 0)
        return DP_ERR_MALFORMED;
    /* Our suites are ECDHE-ECDSA, and P-256 is the curve that everybody has (RFC 8827 §6.5): with another key no
     * handshake would succeed. */
    return mbedtls_pk_can_do(key, MBEDTLS_PK_ECDSA) &&
                   mbedtls_pk_ec(*key)->MBEDTLS_PRIVATE(grp).id == MBEDTLS_ECP_DP_SECP256R1
               ? DP_OK
               : DP_ERR_UNSUPPORTED;
}

/* The private key belongs to the certificate: compare the public points. */
static bool is_pair(const dp_certificate *certificate)
{
    uint8_t a[256];
    uint8_t b[256];
    int a_len = mbedtls_pk_write_pubkey_der((mbedtls_pk_context *)&certificate->eckey, a, sizeof a);
    int b_len = mbedtls_pk_write_pubkey_der((mbedtls_pk_context *)&certificate->crt.pk, b, sizeof b);
    return a_len > 0 && a_len == b_len &&
           memcmp(a + sizeof a - a_len, b + sizeof b - b_len, (size_t)a_len) == 0;
}

int dp_certificate_from_pem(dp_certificate **out, const char *pem)
{
    if (out == NULL || pem == NULL)
        return DP_ERR_INVALID_ARGUMENT;
    dp_certificate *certificate = NULL;
    int err = certificate_new(&certificate);
    if (err != DP_OK)
        return err;
    err = parse_key(&certificate->eckey, pem);
    if (err == DP_OK &&
        (strstr(pem, "-----BEGIN CERTIFICATE-----") == NULL ||
         mbedtls_x509_crt_parse(&certificate->crt, (const uint8_t *)pem, strlen(pem) + 1) != 0 ||
         !is_pair(certificate)))
        err = DP_ERR_MALFORMED;
    if (err == DP_OK && !copy_as_ecdsa(&certificate->key, &certificate->eckey))
        err = DP_ERR_NO_MEMORY;
    if (err == DP_OK)
        err = dp_certificate_hash(&certificate->fingerprint, DP_FINGERPRINT_SHA256, &certificate->crt);
    if (err != DP_OK) {
        dp_certificate_free(certificate);
        return err;
    }
    *out = certificate;
    return DP_OK;
}

int dp_certificate_to_pem(const dp_certificate *certificate, char *out, size_t capacity)
{
    if (certificate == NULL || out == NULL)
        return DP_ERR_INVALID_ARGUMENT;
    /* mbedTLS only reads the key here, but takes a plain pointer. */
    mbedtls_pk_context *key = (mbedtls_pk_context *)&certificate->eckey;
    if (mbedtls_pk_write_key_pem(key, (unsigned char *)out, capacity) != 0)
        return DP_ERR_NO_SPACE;
    size_t used = strlen(out);
    size_t written = 0;
    if (mbedtls_pem_write_buffer("-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n",
                                 certificate->crt.raw.p, certificate->crt.raw.len,
                                 (unsigned char *)out + used, capacity - used, &written) != 0) {
        dp_wipe(out, capacity);
        return DP_ERR_NO_SPACE;
    }
    return DP_OK;
}

void dp_certificate_fingerprint(const dp_certificate *certificate, dp_fingerprint *out)
{
    *out = certificate->fingerprint;
}
