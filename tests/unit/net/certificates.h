/* Certificates that tests of TLS make. */
#ifndef TESTS_UNIT_NET_CERTIFICATES_H
#define TESTS_UNIT_NET_CERTIFICATES_H

#include "tests/unit/net/helper.h"

#include "base/mbedtls.h"

#include <mbedtls/ecp.h>
#include <mbedtls/oid.h>
#include <mbedtls/pem.h>
#include <mbedtls/x509_crt.h>
#include <stdio.h>
#include <string.h>

static dp_csprng *csprng;

static int random_bytes(void *ctx, unsigned char *out, size_t len)
{
    dp_random random = dp_csprng_source(csprng);
    (void)ctx;
    return random.fn(random.ctx, out, len);
}

typedef struct certificate {
    mbedtls_x509_crt crt;
    mbedtls_pk_context key;
    char subject[64];
} certificate;

typedef struct recipe {
    const char *subject; /* NULL: "server" */
    const char *dns;
    const char *ip;
    const char *from, *until;  /* NULL: long ago, and in the far future */
    const certificate *signer; /* NULL: itself */
    bool authority;
} recipe;

static void put_names(mbedtls_x509write_cert *writer, const recipe *r)
{
    uint8_t names[128] = {0x30, 0};
    size_t len = 2;
    if (r->dns != NULL) {
        names[len++] = 0x82;
        names[len++] = (uint8_t)strlen(r->dns);
        memcpy(names + len, r->dns, strlen(r->dns));
        len += strlen(r->dns);
    }
    if (r->ip != NULL) {
        dp_address a;
        assert_int_equal(dp_address_parse(&a, r->ip, 0), DP_OK);
        names[len++] = 0x87;
        names[len] = a.family == DP_FAMILY_IPV4 ? 4 : 16;
        memcpy(names + len + 1, a.ip, names[len]);
        len += 1u + names[len];
    }
    names[1] = (uint8_t)(len - 2);
    if (len > 2)
        assert_int_equal(mbedtls_x509write_crt_set_extension(writer, MBEDTLS_OID_SUBJECT_ALT_NAME,
                                                             MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME),
                                                             0, names, len),
                         0);
}

static void make_certificate(certificate *out, const recipe *r)
{
    mbedtls_x509_crt_init(&out->crt);
    mbedtls_pk_init(&out->key);
    assert_int_equal(mbedtls_pk_setup(&out->key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)), 0);
    assert_int_equal(
        mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(out->key), random_bytes, NULL), 0);
    snprintf(out->subject, sizeof(out->subject), "CN=%s", r->subject != NULL ? r->subject : "server");
    const certificate *signer = r->signer != NULL ? r->signer : out;
    uint8_t serial[15];
    assert_int_equal(random_bytes(NULL, serial, sizeof(serial)), 0);
    serial[0] = (serial[0] & 0x3f) | 0x40; /* positive, and never shorter */
    mbedtls_x509write_cert writer;
    mbedtls_x509write_crt_init(&writer);
    mbedtls_x509write_crt_set_version(&writer, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&writer, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&writer, &out->key);
    mbedtls_x509write_crt_set_issuer_key(&writer, (mbedtls_pk_context *)&signer->key);
    assert_int_equal(mbedtls_x509write_crt_set_subject_name(&writer, out->subject), 0);
    assert_int_equal(mbedtls_x509write_crt_set_issuer_name(&writer, signer->subject), 0);
    assert_int_equal(dp_mbedtls_set_serial(&writer, serial, sizeof(serial)), 0);
    assert_int_equal(mbedtls_x509write_crt_set_validity(&writer, r->from != NULL ? r->from : "20000101000000",
                                                        r->until != NULL ? r->until : "20991231235959"),
                     0);
    assert_int_equal(mbedtls_x509write_crt_set_basic_constraints(&writer, r->authority, -1), 0);
    put_names(&writer, r);
    uint8_t der[2048];
    int len = mbedtls_x509write_crt_der(&writer, der, sizeof(der), random_bytes, NULL);
    assert_true(len > 0);
    assert_int_equal(mbedtls_x509_crt_parse_der(&out->crt, der + sizeof(der) - len, (size_t)len), 0);
    mbedtls_x509write_crt_free(&writer);
}

static void free_certificate(certificate *c)
{
    mbedtls_x509_crt_free(&c->crt);
    mbedtls_pk_free(&c->key);
}

/* PEM text of the certificate, added to out[0..capacity). */
static void add_pem(char *out, size_t capacity, const certificate *c)
{
    size_t at = strlen(out), len;
    assert_int_equal(mbedtls_pem_write_buffer("-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n",
                                              c->crt.raw.p, c->crt.raw.len, (unsigned char *)out + at,
                                              capacity - at, &len),
                     0);
}

/* Under the name at once: a reader sees the old file or the new one. */
static void write_file(const char *path, const char *text)
{
    char part[160];
    snprintf(part, sizeof(part), "%s.new", path);
    FILE *file = fopen(part, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(part, path), 0);
}

#endif
