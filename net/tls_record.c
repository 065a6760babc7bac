#include "net/tls_record.h"

#include "base/mem.h"
#include "base/wr.h"
#include <mbedtls/chachapoly.h>
#include <mbedtls/gcm.h>

/*  0      1       3        5
 *  +------+-------+--------+----------------+------------+-----+
 *  | type | 03 03 | length | explicit nonce | ciphertext | tag |
 *  +------+-------+--------+----------------+------------+-----+
 *                            8, GCM only                   16      length counts all three
 *
 * The numbers of the records are counted, not sent. An end's Finished was its number 0, so the first one here is 1; GCM's
 * explicit nonce is the number (RFC 5288 §3), as mbedTLS has it for Finished, so none comes twice. */
enum {
    HEADER = 5,
    EXPLICIT_NONCE = 8,
    SALT = 4,
    NONCE = SALT + EXPLICIT_NONCE,
    TAG = 16,
    ADDITIONAL_DATA = 13,
    KEY_MAX = 32,
    VERSION = 0x0303,
    FIRST_NUMBER = 1,
};

typedef struct direction {
    union {
        mbedtls_gcm_context gcm;
        mbedtls_chachapoly_context chacha;
    } u;
    uint8_t iv[NONCE]; /* GCM: the salt alone */
    uint64_t number;   /* of the next record */
} direction;

struct tls_records {
    bool chacha;
    direction in, out;
    uint8_t *partial; /* of a record that has not come whole */
    size_t partial_len, partial_capacity;
};

/* ---- keys -------------------------------------------------------------------------------------------- */

static bool is_chacha(int suite)
{
    return suite == MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 ||
           suite == MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256;
}

static size_t key_length(int suite)
{
    switch (suite) {
    case MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:
    case MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:
        return 16;
    case MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:
    case MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:
        return 32;
    default:
        return is_chacha(suite) ? 32 : 0;
    }
}

static bool set_key(direction *d, bool chacha, const uint8_t *key, size_t key_len, const uint8_t *iv)
{
    memcpy(d->iv, iv, chacha ? NONCE : SALT);
    d->number = FIRST_NUMBER;
    return chacha ? mbedtls_chachapoly_setkey(&d->u.chacha, key) == 0
                  : mbedtls_gcm_setkey(&d->u.gcm, MBEDTLS_CIPHER_ID_AES, key, (unsigned)key_len * 8) == 0;
}

/* §6.3: the client's key, the server's, the client's IV, the server's. */
static bool set_keys(tls_records *r, const tls_secret *secret, int suite, bool server)
{
    uint8_t block[2 * KEY_MAX + 2 * NONCE];
    size_t key_len = key_length(suite);
    size_t iv_len = r->chacha ? NONCE : SALT;
    direction *client_writes = server ? &r->in : &r->out;
    direction *server_writes = server ? &r->out : &r->in;
    const uint8_t *ivs = block + 2 * key_len;
    bool done =
        key_len > 0 &&
        mbedtls_ssl_tls_prf(secret->prf, secret->master, sizeof(secret->master), "key expansion",
                            secret->randoms, sizeof(secret->randoms), block, 2 * (key_len + iv_len)) == 0 &&
        set_key(client_writes, r->chacha, block, key_len, ivs) &&
        set_key(server_writes, r->chacha, block + key_len, key_len, ivs + iv_len);
    dp_wipe(block, sizeof(block));
    return done;
}

static void init_direction(direction *d, bool chacha)
{
    if (chacha)
        mbedtls_chachapoly_init(&d->u.chacha);
    else
        mbedtls_gcm_init(&d->u.gcm);
}

static void free_direction(direction *d, bool chacha)
{
    if (chacha)
        mbedtls_chachapoly_free(&d->u.chacha);
    else
        mbedtls_gcm_free(&d->u.gcm);
}

tls_records *dp_tls_records_new(const tls_secret *secret, int suite, bool server)
{
    tls_records *r = dp_calloc(1, sizeof(*r));
    if (r == NULL)
        return NULL;
    r->chacha = is_chacha(suite);
    init_direction(&r->in, r->chacha);
    init_direction(&r->out, r->chacha);
    if (!set_keys(r, secret, suite, server)) {
        dp_tls_records_free(r);
        return NULL;
    }
    return r;
}

static void drop_partial(tls_records *r)
{
    dp_free(r->partial);
    r->partial = NULL;
    r->partial_len = r->partial_capacity = 0;
}

void dp_tls_records_free(tls_records *r)
{
    if (r == NULL)
        return;
    free_direction(&r->in, r->chacha);
    free_direction(&r->out, r->chacha);
    drop_partial(r);
    dp_wipe(r, sizeof(*r));
    dp_free(r);
}

/* ---- one record -------------------------------------------------------------------------------------- */

static size_t explicit_length(const tls_records *r) { return r->chacha ? 0 : EXPLICIT_NONCE; }

/* RFC 5288 §3; RFC 7905 §2: the IV with the number in its end. */
static void make_nonce(uint8_t nonce[NONCE], const direction *d, bool chacha,
                       const uint8_t explicit[EXPLICIT_NONCE])
{
    memcpy(nonce, d->iv, NONCE);
    for (size_t i = 0; i < EXPLICIT_NONCE; i++)
        nonce[SALT + i] = chacha ? nonce[SALT + i] ^ explicit[i] : explicit[i];
}

/* RFC 5246 §6.2.3.3. It begins with the number. */
static void make_additional_data(uint8_t ad[ADDITIONAL_DATA], uint64_t number, uint8_t type, size_t len)
{
    dp_wr wr = dp_wr_init(ad, ADDITIONAL_DATA);
    dp_wr_u64(&wr, number);
    dp_wr_u8(&wr, type);
    dp_wr_u16(&wr, VERSION);
    dp_wr_u16(&wr, (uint16_t)len);
}

int dp_tls_records_seal(tls_records *r, uint8_t *out, size_t *out_len, uint8_t type, const uint8_t *data,
                        size_t len)
{
    direction *d = &r->out;
    uint8_t ad[ADDITIONAL_DATA];
    uint8_t nonce[NONCE];
    size_t body = explicit_length(r) + len + TAG;
    make_additional_data(ad, d->number++, type, len);
    make_nonce(nonce, d, r->chacha, ad);
    dp_wr wr = dp_wr_init(out, HEADER + body);
    dp_wr_u8(&wr, type);
    dp_wr_u16(&wr, VERSION);
    dp_wr_u16(&wr, (uint16_t)body);
    dp_wr_bytes(&wr, ad, explicit_length(r));
    uint8_t *sealed = dp_wr_reserve(&wr, len + TAG);
    *out_len = wr.len;
    return r->chacha ? mbedtls_chachapoly_encrypt_and_tag(&d->u.chacha, len, nonce, ad, sizeof(ad), data,
                                                          sealed, sealed + len)
                     : mbedtls_gcm_crypt_and_tag(&d->u.gcm, MBEDTLS_GCM_ENCRYPT, len, nonce, NONCE, ad,
                                                 sizeof(ad), data, sealed, TAG, sealed + len);
}

/* len bytes of a whole record, of which measure has said that they can be one. */
static int open_record(tls_records *r, uint8_t *type, uint8_t *plain, size_t *plain_len,
                       const uint8_t *record, size_t len)
{
    direction *d = &r->in;
    uint8_t ad[ADDITIONAL_DATA];
    uint8_t nonce[NONCE];
    const uint8_t *sealed = record + HEADER + explicit_length(r);
    size_t n = len - HEADER - explicit_length(r) - TAG;
    make_additional_data(ad, d->number++, record[0], n);
    make_nonce(nonce, d, r->chacha, r->chacha ? ad : record + HEADER);
    int ret = r->chacha ? mbedtls_chachapoly_auth_decrypt(&d->u.chacha, n, nonce, ad, sizeof(ad), sealed + n,
                                                          sealed, plain)
                        : mbedtls_gcm_auth_decrypt(&d->u.gcm, n, nonce, NONCE, ad, sizeof(ad), sealed + n,
                                                   TAG, sealed, plain);
    *type = record[0];
    *plain_len = n;
    return ret == 0 ? 0 : MBEDTLS_ERR_SSL_INVALID_MAC;
}

/* ---- out of a stream --------------------------------------------------------------------------------- */

/* The length of the record that begins with these bytes; HEADER as long as that has not come. */
static int measure(const tls_records *r, size_t *total, const uint8_t *bytes, size_t len)
{
    *total = HEADER;
    if (len < HEADER)
        return 0;
    unsigned version = (unsigned)bytes[1] << 8 | bytes[2];
    size_t body = (size_t)bytes[3] << 8 | bytes[4];
    if (version != VERSION)
        return MBEDTLS_ERR_SSL_UNEXPECTED_MESSAGE;
    if (body < explicit_length(r) + TAG)
        return MBEDTLS_ERR_SSL_INVALID_MAC;
    if (body > explicit_length(r) + DP_TLS_PLAIN_MAX + TAG)
        return MBEDTLS_ERR_SSL_INVALID_RECORD;
    *total = HEADER + body;
    return 0;
}

static int keep(tls_records *r, size_t total, const uint8_t **in, size_t *in_len)
{
    size_t n = total - r->partial_len < *in_len ? total - r->partial_len : *in_len;
    void *partial = r->partial;
    if (dp_grow(&partial, &r->partial_capacity, r->partial_len + n, total, 1) != DP_OK)
        return MBEDTLS_ERR_SSL_ALLOC_FAILED;
    r->partial = partial;
    memcpy(r->partial + r->partial_len, *in, n);
    r->partial_len += n;
    *in += n;
    *in_len -= n;
    return 0;
}

int dp_tls_records_open(tls_records *r, uint8_t *type, uint8_t plain[DP_TLS_PLAIN_MAX], size_t *len,
                        const uint8_t **in, size_t *in_len)
{
    size_t total = HEADER;
    int ret = r->partial_len == 0 ? measure(r, &total, *in, *in_len) : 0;
    if (ret == 0 && r->partial_len == 0 && total > HEADER && total <= *in_len) {
        ret = open_record(r, type, plain, len, *in, total);
        *in += total;
        *in_len -= total;
        return ret;
    }
    while (ret == 0 && *in_len > 0) {
        ret = measure(r, &total, r->partial, r->partial_len);
        if (ret == 0)
            ret = keep(r, total, in, in_len);
        if (ret == 0 && total > HEADER && r->partial_len == total) {
            ret = open_record(r, type, plain, len, r->partial, total);
            drop_partial(r);
            return ret;
        }
    }
    return ret != 0 ? ret : MBEDTLS_ERR_SSL_WANT_READ;
}
