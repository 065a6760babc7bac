/* Sealing and opening records, each alone: our record layer against the same cipher calls of nettle without a
 * record layer, mbedTLS's AES-GCM without one, and mbedTLS's own record layer (two contexts, DTLS 1.2 with a
 * pre-shared key). All take turns in one run, and the best round of each counts.
 *
 * A round seals a batch of records, each into a slot of its own as a batch of datagrams has them, and then opens
 * all of them in place. Warm: the batch fits into the second cache. Cold: it is far larger.
 *
 * Cycles are those of the processor's constant counter (rdtsc, cntvct_el0), whose rate differs from the clock that the
 * core runs at; elsewhere there are none. With AEAD=mbedtls there is no nettle, and its columns are 0. */
#include <mbedtls/gcm.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_ciphersuites.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "count.h"
#include "dtls/record.h"

#if defined(DP_AEAD_nettle)
#include <nettle/nettle-meta.h>
#endif

#define WARM        (64u << 10)
#define COLD        (32u << 20)
#define ROUNDS      100
#define COLD_ROUNDS 3
#define SMALLEST    64
#define KEY         "0123456789abcdef0123456789abcdef"

/* As in a batch of datagrams: each slot begins a cache line, so its ciphertext begins at no round address. */
#define STRIDE(size) (((size) + DP_DTLS_OVERHEAD + 63) / 64 * 64)

static uint8_t *slots;
static uint8_t *texts;
static size_t *lengths; /* of what is in each slot */
static size_t size;     /* of a text */

static uint8_t *slot(size_t i) { return slots + i * STRIDE(size); }
/* usrsctp's packets lie one behind the other in a buffer, each behind two bytes of length. */
static const uint8_t *text(size_t i) { return texts + i * (size + 2) + 2; }

static void require(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "dtls_record: %s\n", what);
        exit(1);
    }
}

static double seconds(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static uint64_t ticks(void)
{
#if defined(__x86_64__)
    return __rdtsc();
#elif defined(__aarch64__)
    uint64_t count;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(count));
    return count;
#else
    return 0;
#endif
}

/* How many ticks a second has. */
static double measure_ticks(void)
{
    double begin = seconds(CLOCK_MONOTONIC);
    uint64_t first = ticks();
    while (seconds(CLOCK_MONOTONIC) - begin < 0.1) {
    }
    uint64_t last = ticks();
    return (double)(last - first) / (seconds(CLOCK_MONOTONIC) - begin);
}

/* ---- ours --------------------------------------------------------------------------------------------------- */

static void ours_init(void *ctx, dp_aead_cipher cipher)
{
    dp_record_keys keys = {.cipher = cipher}; /* the same in both directions: it opens what it seals */
    memcpy(keys.write_key, KEY, sizeof keys.write_key);
    memcpy(keys.read_key, KEY, sizeof keys.read_key);
    require(dp_protection_init(ctx, &keys) == DP_OK, "no keys");
}

static void ours_seal(void *ctx, size_t i)
{
    require(dp_protection_seal(ctx, slot(i), STRIDE(size), &lengths[i], DP_RECORD_APPLICATION_DATA, text(i),
                               size) == DP_OK,
            "ours does not seal");
}

static void ours_open(void *ctx, size_t i)
{
    dp_record record;
    dp_rd rd = dp_rd_init(slot(i), lengths[i]);
    uint8_t *plain = NULL;
    size_t len = 0;
    require(dp_record_read(&record, &rd) &&
                dp_protection_open(ctx, &plain, &len, &record, slot(i) + DP_RECORD_HEADER),
            "ours does not open");
}

/* ---- nettle ------------------------------------------------------------------------------------------------- */

#if defined(DP_AEAD_nettle)

typedef struct raw {
    const struct nettle_aead *aead;
    dp_aead aead_ctx; /* room for any of the three */
    uint64_t count;
} raw;

static void raw_init(void *ctx, dp_aead_cipher cipher)
{
    raw *r = ctx;
    r->aead = cipher == DP_AEAD_AES_128_GCM   ? &nettle_gcm_aes128
              : cipher == DP_AEAD_AES_256_GCM ? &nettle_gcm_aes256
                                              : &nettle_chacha_poly1305;
    r->aead->set_encrypt_key(&r->aead_ctx.u, (const uint8_t *)KEY);
}

static void raw_begin(raw *r)
{
    uint8_t nonce[DP_AEAD_NONCE] = {0};
    uint8_t ad[13] = {0};
    memcpy(nonce, &r->count, sizeof r->count);
    r->count++;
    r->aead->set_nonce(&r->aead_ctx.u, nonce);
    r->aead->update(&r->aead_ctx.u, sizeof ad, ad);
}

/* Text and ciphertext begin at addresses that suit nettle best. */
static void raw_seal(void *ctx, size_t i)
{
    raw *r = ctx;
    raw_begin(r);
    r->aead->encrypt(&r->aead_ctx.u, size, slot(i), texts + i * STRIDE(size));
    r->aead->digest(&r->aead_ctx.u, DP_AEAD_TAG, slot(i) + size);
}

static void raw_open(void *ctx, size_t i)
{
    raw *r = ctx;
    uint8_t tag[DP_AEAD_TAG];
    raw_begin(r);
    r->aead->decrypt(&r->aead_ctx.u, size, slot(i), slot(i));
    r->aead->digest(&r->aead_ctx.u, sizeof tag, tag);
}

#endif

/* ---- mbedTLS's GCM ------------------------------------------------------------------------------------------ */

static void gcm_init(void *ctx, dp_aead_cipher cipher)
{
    (void)cipher;
    mbedtls_gcm_init(ctx);
    require(mbedtls_gcm_setkey(ctx, MBEDTLS_CIPHER_ID_AES, (const uint8_t *)KEY, 128) == 0, "no key");
}

static void gcm_nonce(uint8_t nonce[DP_AEAD_NONCE], size_t i)
{
    memset(nonce, 0, DP_AEAD_NONCE);
    memcpy(nonce, &i, sizeof i);
}

static void gcm_seal(void *ctx, size_t i)
{
    uint8_t nonce[DP_AEAD_NONCE];
    static const uint8_t ad[13];
    gcm_nonce(nonce, i);
    require(mbedtls_gcm_crypt_and_tag(ctx, MBEDTLS_GCM_ENCRYPT, size, nonce, sizeof nonce, ad, sizeof ad,
                                      text(i), slot(i), DP_AEAD_TAG, slot(i) + size) == 0,
            "mbedTLS's GCM does not encrypt");
}

static void gcm_open(void *ctx, size_t i)
{
    uint8_t nonce[DP_AEAD_NONCE];
    static const uint8_t ad[13];
    gcm_nonce(nonce, i);
    require(mbedtls_gcm_auth_decrypt(ctx, size, nonce, sizeof nonce, ad, sizeof ad, slot(i) + size,
                                     DP_AEAD_TAG, slot(i), slot(i)) == 0,
            "mbedTLS's GCM does not decrypt");
}

/* ---- mbedTLS's record layer --------------------------------------------------------------------------------- */

typedef struct end {
    mbedtls_ssl_config config;
    mbedtls_ssl_context ssl;
    struct end *peer;
    const uint8_t *in; /* a datagram that waits; NULL: none */
    size_t in_len;
    uint8_t *out; /* where the next datagram goes */
    size_t *out_len;
    uint8_t flight[8][2048]; /* of the handshake */
    size_t flight_len[8];
    size_t flight_count;
} end;

typedef struct two_ends {
    end client;
    end server;
} two_ends;

static int no_random(void *ctx, unsigned char *out, size_t len)
{
    (void)ctx;
    memset(out, 7, len);
    return 0;
}

static int end_send(void *ctx, const unsigned char *data, size_t len)
{
    end *e = ctx;
    if (e->out == NULL) {
        require(e->flight_count < 8 && len <= sizeof e->flight[0], "a long flight");
        memcpy(e->flight[e->flight_count], data, len);
        e->flight_len[e->flight_count++] = len;
    } else {
        memcpy(e->out, data, len);
        *e->out_len = len;
    }
    return (int)len;
}

static int end_receive(void *ctx, unsigned char *out, size_t capacity)
{
    end *e = ctx;
    if (e->in == NULL || e->in_len > capacity)
        return MBEDTLS_ERR_SSL_WANT_READ;
    memcpy(out, e->in, e->in_len);
    e->in = NULL;
    return (int)e->in_len;
}

static void set_no_timer(void *ctx, uint32_t intermediate, uint32_t final)
{
    (void)ctx;
    (void)intermediate;
    (void) final;
}

static int get_no_timer(void *ctx)
{
    (void)ctx;
    return 0;
}

static void end_init(end *e, end *peer, int role)
{
    static const int suites[] = {MBEDTLS_TLS_PSK_WITH_AES_128_GCM_SHA256, 0};
    e->peer = peer;
    mbedtls_ssl_init(&e->ssl);
    mbedtls_ssl_config_init(&e->config);
    require(mbedtls_ssl_config_defaults(&e->config, role, MBEDTLS_SSL_TRANSPORT_DATAGRAM,
                                        MBEDTLS_SSL_PRESET_DEFAULT) == 0 &&
                mbedtls_ssl_conf_psk(&e->config, (const uint8_t *)KEY, 16, (const uint8_t *)"id", 2) == 0,
            "no mbedTLS");
    mbedtls_ssl_conf_rng(&e->config, no_random, NULL);
    mbedtls_ssl_conf_ciphersuites(&e->config, suites);
    if (role == MBEDTLS_SSL_IS_SERVER)
        mbedtls_ssl_conf_dtls_cookies(&e->config, NULL, NULL, NULL);
    require(mbedtls_ssl_setup(&e->ssl, &e->config) == 0, "no mbedTLS context");
    mbedtls_ssl_set_timer_cb(&e->ssl, e, set_no_timer, get_no_timer);
    mbedtls_ssl_set_bio(&e->ssl, e, end_send, end_receive, NULL);
}

/* One step of the handshake with each datagram of the peer's last flight. */
static bool end_step(end *e)
{
    int ret = mbedtls_ssl_handshake(&e->ssl);
    for (size_t i = 0; i < e->peer->flight_count; i++) {
        e->in = e->peer->flight[i];
        e->in_len = e->peer->flight_len[i];
        ret = mbedtls_ssl_handshake(&e->ssl);
    }
    e->peer->flight_count = 0;
    return ret == 0;
}

static void records_init(void *ctx, dp_aead_cipher cipher)
{
    (void)cipher;
    two_ends *t = ctx;
    end_init(&t->client, &t->server, MBEDTLS_SSL_IS_CLIENT);
    end_init(&t->server, &t->client, MBEDTLS_SSL_IS_SERVER);
    bool done = false;
    for (int i = 0; i < 10 && !done; i++) {
        done = end_step(&t->client);
        done = end_step(&t->server) && done;
    }
    require(done, "mbedTLS's handshake does not end");
}

static void records_seal(void *ctx, size_t i)
{
    two_ends *t = ctx;
    t->client.out = slot(i);
    t->client.out_len = &lengths[i];
    require(mbedtls_ssl_write(&t->client.ssl, text(i), size) == (int)size, "mbedTLS does not write");
}

static void records_open(void *ctx, size_t i)
{
    static uint8_t plain[DP_DTLS_RECORD_MAX];
    two_ends *t = ctx;
    t->server.in = slot(i);
    t->server.in_len = lengths[i];
    require(mbedtls_ssl_read(&t->server.ssl, plain, sizeof plain) == (int)size, "mbedTLS does not read");
}

/* ---- the run ------------------------------------------------------------------------------------------------ */

typedef struct contender {
    const char *name; /* NULL: not in this build */
    size_t ctx_size;
    dp_aead_cipher cipher;
    void (*init)(void *ctx, dp_aead_cipher cipher);
    void (*verbs[2])(void *ctx, size_t i); /* seals, opens the i-th record */
    void *ctx;
    double best[2]; /* seconds a record */
} contender;

enum { RAW_128, OURS_128, GCM, RECORDS, RAW_256, OURS_256, RAW_CHACHA, OURS_CHACHA, CONTENDERS };

#define OURS sizeof(dp_protection), .init = ours_init, .verbs = {ours_seal, ours_open}
#define RAW  sizeof(raw), .init = raw_init, .verbs = {raw_seal, raw_open}

static contender contenders[CONTENDERS] = {
#if defined(DP_AEAD_nettle)
    [RAW_128] = {"nettle AES-128-GCM", RAW, .cipher = DP_AEAD_AES_128_GCM},
    [RAW_256] = {"nettle AES-256-GCM", RAW, .cipher = DP_AEAD_AES_256_GCM},
    [RAW_CHACHA] = {"nettle ChaCha20-Poly1305", RAW, .cipher = DP_AEAD_CHACHA20_POLY1305},
#endif
    [OURS_128] = {"ours AES-128-GCM", OURS, .cipher = DP_AEAD_AES_128_GCM},
    [OURS_256] = {"ours AES-256-GCM", OURS, .cipher = DP_AEAD_AES_256_GCM},
    [OURS_CHACHA] = {"ours ChaCha20-Poly1305", OURS, .cipher = DP_AEAD_CHACHA20_POLY1305},
    [GCM] = {"mbedTLS AES-128-GCM", sizeof(mbedtls_gcm_context), .init = gcm_init,
             .verbs = {gcm_seal, gcm_open}},
    [RECORDS] = {"mbedTLS's record layer", sizeof(two_ends), .init = records_init,
                 .verbs = {records_seal, records_open}},
};

/* What the row is compared with: nettle with the same cipher. */
static const contender *raw_of(size_t c)
{
    return &contenders[c >= RAW_CHACHA ? RAW_CHACHA : c >= RAW_256 ? RAW_256 : RAW_128];
}

/* Best CPU seconds a record of each, in rounds of `bytes`. */
static void compete(size_t bytes, int rounds)
{
    size_t count = bytes / STRIDE(size);
    for (int round = 0; round < rounds; round++) {
        for (contender *c = contenders; c < contenders + CONTENDERS; c++) {
            for (int verb = 0; c->name != NULL && verb < 2; verb++) {
                double begin = seconds(CLOCK_THREAD_CPUTIME_ID);
                for (size_t i = 0; i < count; i++)
                    c->verbs[verb](c->ctx, i);
                double took = (seconds(CLOCK_THREAD_CPUTIME_ID) - begin) / (double)count;
                if (round == 0 || took < c->best[verb])
                    c->best[verb] = took;
            }
        }
    }
}

static void measure(size_t text_size, const char *what, size_t bytes, int rounds, double tick_rate)
{
    size = text_size;
    compete(bytes, rounds);
    printf("\n%5zu bytes, %s           seal: GB/s    c/B  /nettle  /mbedTLS    open: GB/s    c/B  /nettle  "
           "/mbedTLS\n",
           size, what);
    for (size_t i = 0; i < CONTENDERS; i++) {
        const contender *c = &contenders[i];
        if (c->name == NULL)
            continue;
        printf("%-25s", c->name);
        for (int verb = 0; verb < 2; verb++)
            printf("     %10.2f %6.2f %8.2f %9.1f", (double)size / c->best[verb] / 1e9,
                   c->best[verb] * tick_rate / (double)size, raw_of(i)->best[verb] / c->best[verb],
                   contenders[RECORDS].best[verb] / c->best[verb]);
        printf("\n");
    }
}

int main(void)
{
    count_allocations();
    slots = aligned_alloc(64, COLD);
    texts = aligned_alloc(64, COLD);
    lengths = calloc(COLD / STRIDE(SMALLEST), sizeof *lengths);
    require(slots != NULL && texts != NULL && lengths != NULL, "no memory");
    memset(slots, 1, COLD);
    memset(texts, 2, COLD);
    for (contender *c = contenders; c < contenders + CONTENDERS; c++) {
        if (c->name == NULL)
            continue;
        c->ctx = calloc(1, c->ctx_size);
        require(c->ctx != NULL, "no memory");
        c->init(c->ctx, c->cipher);
    }
    double tick_rate = measure_ticks();
    allocations = 0;
    printf("one core; c/B: cycles of a counter of %.0f MHz a byte; /nettle: speed by nettle's with that "
           "cipher;\n"
           "/mbedTLS: speed by that of mbedTLS's record layer\n",
           tick_rate / 1e6);
    measure(SMALLEST, "warm", WARM, ROUNDS, tick_rate);
    measure(1200, "warm", WARM, ROUNDS, tick_rate);
    measure(DP_DTLS_RECORD_MAX, "warm", WARM, ROUNDS, tick_rate);
    measure(1200, "cold", COLD, COLD_ROUNDS, tick_rate);
    printf("\nallocations of ours meanwhile: %llu\n", (unsigned long long)allocations);
    return 0;
}
