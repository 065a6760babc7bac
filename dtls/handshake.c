#include "handshake.h"

#include <mbedtls/ssl.h>
#include <mbedtls/ssl_ciphersuites.h>
#include <string.h>

#include "base/crypto.h"
#include "base/key_log.h"
#include "base/mbedtls.h"
#include "base/mem.h"
#include "certificate.h"

/* Retransmission: 100 ms, doubled up to 2 s, instead of 1 s to 60 s (RFC 6347 §4.2.4.1): ICE has already
 * shown that the path works, and 20 % loss then completes in 1.6 s at the 99th percentile instead of 16 s.
 * mbedTLS gives up when its own maximum is reached; dtls.c has the only deadline, so mbedTLS's is out of
 * reach and the timer is clamped here. */
#define RETRANSMIT_FIRST_MS 100u
#define RETRANSMIT_LAST     DP_SECONDS(2)
#define RETRANSMIT_NEVER_MS UINT32_MAX

/* mbedTLS sends its flight again for each record that looks like the peer's last flight, and anybody can send these: at
 * most so many datagrams within a time, the longest flight four times, and the others are lost. */
#define BURST_MAX  12u
#define BURST_TIME DP_MS(100)

/* RFC 8827 §6.5 leaves the length of a chain open; browsers send one certificate. */
#define CHAIN_MAX 8

#define MESSAGE_SEQ   17 /* in a datagram that begins with a handshake record */
#define RECORD_NUMBER 5  /* where the upper 16 of its 48 bits stand in a record's header */

#define MASTER_SECRET DP_MBEDTLS_MASTER_SECRET
#define RANDOM        DP_MBEDTLS_RANDOM

typedef enum identity {
    IDENTITY_NONE, /* the verify callback did not run: no certificate */
    IDENTITY_MATCH,
    IDENTITY_MISMATCH,
    IDENTITY_CHAIN, /* too many certificates */
} identity;

struct dp_handshake {
    dp_handshake_config config;
    mbedtls_ssl_config conf;
    mbedtls_ssl_context ssl;

    dp_time now;
    bool timer_on;
    dp_time timer_intermediate;
    dp_time timer_final;

    const uint8_t *in; /* the record that mbedTLS has not fetched yet */
    size_t in_len;
    size_t sent;       /* datagrams */
    size_t latest_len; /* the last of them; 0 if it does not fit */
    uint8_t latest[DP_LAST_FLIGHT_MAX];
    dp_time burst_began;
    unsigned burst; /* datagrams since then */
    uint64_t drawn; /* blocks of random bytes */
    bool cookie;    /* a second ClientHello has left, with the cookie of HelloVerifyRequest */

    identity identity;
    dp_fingerprint peer;
    int error;

    dp_mbedtls_export export;
    bool have_secret;
    mbedtls_tls_prf_types prf;
    uint8_t master_secret[MASTER_SECRET];
    uint8_t randoms[2 * RANDOM]; /* server's, client's: the order of the key expansion's seed */
};

/* Only AEAD with forward secrecy; the first is mandatory in RFC 8827 §6.5. */
static const int suites[] = {MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                             MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                             MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, 0};
static const dp_mbedtls_group groups[] = {DP_MBEDTLS_X25519, DP_MBEDTLS_SECP256R1, DP_MBEDTLS_GROUPS_END};

/* RFC 8827 §6.5: the DTLS-SRTP extension is always offered; no media follows here, but some peers insist on
 * it. */
#if defined(MBEDTLS_SSL_DTLS_SRTP)
static const mbedtls_ssl_srtp_profile srtp_profiles[] = {MBEDTLS_TLS_SRTP_AES128_CM_HMAC_SHA1_80,
                                                         MBEDTLS_TLS_SRTP_UNSET};
#endif

/* ---- mbedTLS's callbacks --------------------------------------------------------------------------- */

/* SHA-256 of the seed and a counter. */
static int draw_random(void *ctx, unsigned char *out, size_t len)
{
    dp_handshake *h = ctx;
    uint8_t input[DP_HANDSHAKE_SEED + sizeof h->drawn];
    uint8_t block[DP_SHA256_LEN];
    int err = DP_OK;
    memcpy(input, h->config.seed, DP_HANDSHAKE_SEED);
    for (size_t n = 0; len > 0 && err == DP_OK; out += n, len -= n) {
        memcpy(input + DP_HANDSHAKE_SEED, &h->drawn, sizeof h->drawn);
        h->drawn++;
        err = dp_sha256(block, input, sizeof input);
        n = len < sizeof block ? len : sizeof block;
        memcpy(out, block, n);
    }
    dp_wipe(input, sizeof input);
    dp_wipe(block, sizeof block);
    return err == DP_OK ? 0 : MBEDTLS_ERR_ECP_RANDOM_FAILED;
}

/* Each attempt counts its plaintext records from 0, and the peer takes a number that it has seen for a replay (RFC 6347
 * §4.1.2.6): so an attempt's are 2^32 higher than those of the attempt before. No tag covers the number in epoch 0. */
static void renumber(const dp_handshake *h, uint8_t *datagram, size_t len)
{
    dp_record record;
    dp_rd rd = dp_rd_init(datagram, len);
    for (size_t at = 0; dp_record_read(&record, &rd); at += DP_RECORD_HEADER + record.length)
        if (record.epoch == 0) {
            datagram[at + RECORD_NUMBER] = (uint8_t)(h->config.attempt >> 8);
            datagram[at + RECORD_NUMBER + 1] = (uint8_t)h->config.attempt;
        }
}

static bool is_wrong(const dp_handshake *h)
{
    return h->identity == IDENTITY_MISMATCH || h->identity == IDENTITY_CHAIN;
}

/* No alert while the peer need not know that the attempt has failed. A server's, as long as it has sent nothing else:
 * what failed was its first ClientHello, perhaps a forged one, and the alert would end the real client's handshake. A
 * client's, as long as it can send the same ClientHello again. */
static bool keep_quiet(const dp_handshake *h)
{
    if (is_wrong(h) && h->config.mismatched)
        return false;
    return h->config.role == DP_DTLS_SERVER ? h->sent == 0 : dp_handshake_is_repeatable(h);
}

static bool exceeds_burst(dp_handshake *h)
{
    if (h->now - h->burst_began >= BURST_TIME) {
        h->burst_began = h->now;
        h->burst = 0;
    }
    return ++h->burst > BURST_MAX;
}

static int send_datagram(void *ctx, const unsigned char *data, size_t len)
{
    dp_handshake *h = ctx;
    bool alert = len > 0 && data[0] == DP_RECORD_ALERT;
    if (alert && keep_quiet(h))
        return (int)len;
    h->cookie |= len > MESSAGE_SEQ + 1 && data[0] == DP_RECORD_HANDSHAKE &&
                 data[DP_RECORD_HEADER] == DP_HANDSHAKE_CLIENT_HELLO && data[MESSAGE_SEQ + 1] > 0;
    h->sent++;
    h->latest_len = len <= sizeof h->latest ? len : 0;
    memcpy(h->latest, data, h->latest_len);
    renumber(h, h->latest, h->latest_len);
    dp_outgoing *item = len > h->config.mtu || exceeds_burst(h) ? NULL : dp_queue_push(h->config.out);
    if (item != NULL) {
        item->length = len;
        memcpy(item->data, data, len);
        renumber(h, item->data, len);
    }
    return (int)len; /* what finds no room is lost: retransmission repairs it */
}

static int receive_record(void *ctx, unsigned char *out, size_t capacity)
{
    dp_handshake *h = ctx;
    if (h->in == NULL)
        return MBEDTLS_ERR_SSL_WANT_READ;
    const uint8_t *in = h->in;
    h->in = NULL;
    if (h->in_len > capacity)
        return MBEDTLS_ERR_SSL_WANT_READ;
    memcpy(out, in, h->in_len);
    return (int)h->in_len;
}

static void set_timer(void *ctx, uint32_t intermediate_ms, uint32_t final_ms)
{
    dp_handshake *h = ctx;
    dp_duration final = DP_MS(final_ms);
    dp_duration intermediate = DP_MS(intermediate_ms);
    h->timer_on = final_ms != 0;
    h->timer_final = h->now + (final > RETRANSMIT_LAST ? RETRANSMIT_LAST : final);
    h->timer_intermediate = h->now + (intermediate > RETRANSMIT_LAST ? RETRANSMIT_LAST : intermediate);
}

static int get_timer(void *ctx)
{
    const dp_handshake *h = ctx;
    if (!h->timer_on)
        return -1;
    return h->now >= h->timer_final ? 2 : h->now >= h->timer_intermediate ? 1 : 0;
}

/* The one place that decides who the peer is (RFC 8827 §6.5, RFC 8122 §6.2): the leaf's hash equals a
 * fingerprint of the description. All other complaints (self-signed, dates, our wrong clock) do not matter
 * then. A returned error is fatal also under VERIFY_OPTIONAL; flags alone are not.
 * Anybody can send a certificate. A client signs all messages with its key (CertificateVerify), its own among them, so a
 * server waits for that (dp_handshake_step) and does not mistake a forged one for the client's. What a server signs
 * (ServerKeyExchange) says nothing of its certificate: the client of a wrong one ends at once, and dtls.c looks twice. */
static int verify(void *ctx, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    dp_handshake *h = ctx;
    if (depth > 0)
        return 0;
    int wrong = h->config.role == DP_DTLS_SERVER ? 0 : MBEDTLS_ERR_X509_FATAL_ERROR;
    size_t chain = 0;
    for (const mbedtls_x509_crt *c = crt; c != NULL; c = c->next)
        chain++;
    if (chain > CHAIN_MAX) {
        h->identity = IDENTITY_CHAIN;
        return wrong;
    }
    h->identity = IDENTITY_MISMATCH;
    for (size_t i = 0; i < h->config.fingerprint_count; i++) {
        const dp_fingerprint *expected = &h->config.fingerprints[i];
        dp_fingerprint actual;
        if (dp_certificate_hash(&actual, expected->algorithm, crt) != DP_OK)
            continue;
        if (i == 0)
            h->peer = actual; /* for the error message: the same algorithm as the first of the description */
        if (actual.length == expected->length &&
            dp_equal_constant_time(actual.bytes, expected->bytes, actual.length))
            h->identity = IDENTITY_MATCH;
    }
    if (h->identity != IDENTITY_MATCH)
        return wrong;
    dp_certificate_lend_table(h->config.certificate, crt);
    *flags = 0;
    return 0;
}

static void keep_secret(void *ctx, const uint8_t *secret, const uint8_t *client_random,
                        const uint8_t *server_random, mbedtls_tls_prf_types prf)
{
    dp_handshake *h = ctx;
    memcpy(h->master_secret, secret, MASTER_SECRET);
    memcpy(h->randoms, server_random, RANDOM);
    memcpy(h->randoms + RANDOM, client_random, RANDOM);
    h->prf = prf;
    h->have_secret = true;
    dp_key_log_put(&h->config.key_log, client_random, secret);
}

/* ---- construction ------------------------------------------------------------------------------------ */

static int configure(dp_handshake *h)
{
    mbedtls_ssl_config *conf = &h->conf;
    bool server = h->config.role == DP_DTLS_SERVER;
    /* mbedTLS only reads certificate and key, but takes plain pointers. */
    dp_certificate *own = (dp_certificate *)h->config.certificate;
    if (mbedtls_ssl_config_defaults(conf, server ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT,
                                    MBEDTLS_SSL_TRANSPORT_DATAGRAM, MBEDTLS_SSL_PRESET_DEFAULT) != 0 ||
        mbedtls_ssl_conf_own_cert(conf, &own->crt, &own->key) != 0)
        return DP_ERR_NO_MEMORY;
    dp_mbedtls_conf_tls12(conf, groups);
    mbedtls_ssl_conf_rng(conf, draw_random, h);
    mbedtls_ssl_conf_ciphersuites(conf, suites);
    mbedtls_ssl_conf_authmode(conf, MBEDTLS_SSL_VERIFY_OPTIONAL); /* a server asks for a certificate, too */
    mbedtls_ssl_conf_verify(conf, verify, h);
    mbedtls_ssl_conf_renegotiation(conf, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
    mbedtls_ssl_conf_session_tickets(conf, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
    mbedtls_ssl_conf_extended_master_secret(conf, MBEDTLS_SSL_EXTENDED_MS_ENABLED);
    mbedtls_ssl_conf_handshake_timeout(conf, RETRANSMIT_FIRST_MS, RETRANSMIT_NEVER_MS);
    mbedtls_ssl_conf_dtls_badmac_limit(conf, 0);
    /* It would move its window for unauthenticated records, too: one spoofed record with a high number, and
     * all genuine ones are replays. Messages have numbers of their own; sealed records are checked in dtls.c.
     */
    mbedtls_ssl_conf_dtls_anti_replay(conf, MBEDTLS_SSL_ANTI_REPLAY_DISABLED);
    /* ICE has proved the peer's address; the default callback would fail the handshake. */
    if (server)
        mbedtls_ssl_conf_dtls_cookies(conf, NULL, NULL, NULL);
#if defined(MBEDTLS_SSL_DTLS_SRTP)
    if (mbedtls_ssl_conf_dtls_srtp_protection_profiles(conf, srtp_profiles) != 0)
        return DP_ERR_CRYPTO;
#endif
    return DP_OK;
}

int dp_handshake_new(dp_handshake **out, const dp_handshake_config *config)
{
    dp_handshake *h = dp_calloc(1, sizeof *h);
    if (h == NULL)
        return DP_ERR_NO_MEMORY;
    h->config = *config;
    mbedtls_ssl_config_init(&h->conf);
    mbedtls_ssl_init(&h->ssl);
    int err = configure(h);
    if (err == DP_OK && mbedtls_ssl_setup(&h->ssl, &h->conf) != 0)
        err = DP_ERR_NO_MEMORY;
    if (err != DP_OK) {
        dp_handshake_free(h);
        return err;
    }
    h->export = (dp_mbedtls_export){keep_secret, h};
    dp_mbedtls_set_export(&h->conf, &h->ssl, &h->export);
    mbedtls_ssl_set_mtu(&h->ssl, (uint16_t)config->mtu);
    mbedtls_ssl_set_bio(&h->ssl, h, send_datagram, receive_record, NULL);
    mbedtls_ssl_set_timer_cb(&h->ssl, h, set_timer, get_timer);
    *out = h;
    return DP_OK;
}

void dp_handshake_free(dp_handshake *h)
{
    if (h == NULL)
        return;
    mbedtls_ssl_free(&h->ssl);
    mbedtls_ssl_config_free(&h->conf);
    dp_wipe(h, sizeof *h);
    dp_free(h);
}

/* ---- running ----------------------------------------------------------------------------------------- */

static bool wants_more(int ret)
{
    return ret == MBEDTLS_ERR_SSL_WANT_READ || ret == MBEDTLS_ERR_SSL_WANT_WRITE;
}

static dp_handshake_result refuse(dp_handshake *h)
{
    (void)mbedtls_ssl_send_alert_message(&h->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL,
                                         MBEDTLS_SSL_ALERT_MSG_BAD_CERT);
    return DP_HANDSHAKE_REFUSED;
}

/* docs/pitfalls.md of mbedTLS: a client without a certificate never runs the verify callback, and the
 * handshake completes. */
static dp_handshake_result finish(dp_handshake *h)
{
    bool match = h->identity == IDENTITY_MATCH && mbedtls_ssl_get_peer_cert(&h->ssl) != NULL;
    return match ? DP_HANDSHAKE_DONE : refuse(h);
}

dp_handshake_result dp_handshake_step(dp_handshake *h, dp_time now, const uint8_t *record, size_t len)
{
    h->now = now;
    h->in = record;
    h->in_len = len;
    int ret = mbedtls_ssl_handshake(&h->ssl);
    /* A timer that has run out makes it return before it has looked for the record. */
    if (wants_more(ret) && h->in != NULL)
        ret = mbedtls_ssl_handshake(&h->ssl);
    h->in = NULL;
    if (ret == 0)
        return finish(h);
    if (wants_more(ret)) {
        bool proved = h->ssl.MBEDTLS_PRIVATE(state) > MBEDTLS_SSL_CERTIFICATE_VERIFY;
        return is_wrong(h) && proved ? refuse(h) : DP_HANDSHAKE_MORE;
    }
    h->error = ret;
    return is_wrong(h) && h->config.role == DP_DTLS_CLIENT ? DP_HANDSHAKE_REFUSED : DP_HANDSHAKE_DEAD;
}

const uint8_t *dp_handshake_last_flight(const dp_handshake *h, size_t *len)
{
    *len = h->latest_len;
    return h->latest;
}

dp_time dp_handshake_next_timeout(const dp_handshake *h)
{
    return h->timer_on ? h->timer_final : DP_TIME_NEVER;
}

/* The getters know it only after the handshake. */
static const mbedtls_ssl_session *session_of(const dp_handshake *h)
{
    const mbedtls_ssl_session *negotiated = h->ssl.MBEDTLS_PRIVATE(session_negotiate);
    return negotiated != NULL ? negotiated : h->ssl.MBEDTLS_PRIVATE(session);
}

size_t dp_handshake_record_max(const dp_handshake *h)
{
#if defined(MBEDTLS_SSL_MAX_FRAGMENT_LENGTH)
    unsigned code = session_of(h)->MBEDTLS_PRIVATE(mfl_code);
    if (code != MBEDTLS_SSL_MAX_FRAG_LEN_NONE)
        return (size_t)256 << code;
#endif
    return DP_DTLS_RECORD_MAX;
}

static dp_aead_cipher negotiated_cipher(const dp_handshake *h)
{
    switch (session_of(h)->MBEDTLS_PRIVATE(ciphersuite)) {
    case MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:
        return DP_AEAD_AES_128_GCM;
    case MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:
        return DP_AEAD_AES_256_GCM;
    case MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256:
        return DP_AEAD_CHACHA20_POLY1305;
    default:
        return DP_AEAD_NONE;
    }
}

static dp_srtp_profile negotiated_profile(const mbedtls_ssl_context *ssl)
{
#if defined(MBEDTLS_SSL_DTLS_SRTP)
    mbedtls_dtls_srtp_info info;
    mbedtls_ssl_get_dtls_srtp_negotiation_result(ssl, &info);
    if (info.MBEDTLS_PRIVATE(chosen_dtls_srtp_profile) == MBEDTLS_TLS_SRTP_AES128_CM_HMAC_SHA1_80)
        return DP_SRTP_AES128_CM_HMAC_SHA1_80;
#else
    (void)ssl;
#endif
    return DP_SRTP_NONE;
}

/* RFC 5246 §6.3: client_write_key, server_write_key, client_write_IV, server_write_IV (no MAC keys with
 * AEAD). */
static int derive_record_keys(const dp_handshake *h, dp_record_keys *keys)
{
    size_t key_len = dp_aead_key_length(keys->cipher);
    size_t iv_len = keys->cipher == DP_AEAD_CHACHA20_POLY1305 ? DP_AEAD_NONCE : 4;
    uint8_t block[2 * DP_AEAD_KEY_MAX + 2 * DP_AEAD_NONCE];
    int ret = mbedtls_ssl_tls_prf(h->prf, h->master_secret, MASTER_SECRET, "key expansion", h->randoms,
                                  sizeof h->randoms, block, 2 * key_len + 2 * iv_len);
    if (ret == 0) {
        bool client = h->config.role == DP_DTLS_CLIENT;
        const uint8_t *ivs = block + 2 * key_len;
        memcpy(keys->write_key, client ? block : block + key_len, key_len);
        memcpy(keys->read_key, client ? block + key_len : block, key_len);
        memcpy(keys->write_iv, client ? ivs : ivs + iv_len, iv_len);
        memcpy(keys->read_iv, client ? ivs + iv_len : ivs, iv_len);
    }
    dp_wipe(block, sizeof block);
    return ret == 0 ? DP_OK : DP_ERR_CRYPTO;
}

/* RFC 5764 §4.2: client_write_SRTP_master_key, server's key, client's salt, server's salt, from the exporter of
 * RFC 5705 §4, whose seed is the client's random, then the server's. */
static int derive_srtp_keys(const dp_handshake *h, dp_srtp_keys *srtp)
{
    enum { KEY = sizeof srtp->local_key, SALT = sizeof srtp->local_salt };
    uint8_t seed[2 * RANDOM];
    uint8_t block[2 * KEY + 2 * SALT];
    memcpy(seed, h->randoms + RANDOM, RANDOM);
    memcpy(seed + RANDOM, h->randoms, RANDOM);
    int ret = mbedtls_ssl_tls_prf(h->prf, h->master_secret, MASTER_SECRET, "EXTRACTOR-dtls_srtp", seed,
                                  sizeof seed, block, sizeof block);
    if (ret == 0) {
        bool client = h->config.role == DP_DTLS_CLIENT;
        const uint8_t *salts = block + (size_t)2 * KEY;
        memcpy(srtp->local_key, client ? block : block + KEY, KEY);
        memcpy(srtp->remote_key, client ? block + KEY : block, KEY);
        memcpy(srtp->local_salt, client ? salts : salts + SALT, SALT);
        memcpy(srtp->remote_salt, client ? salts + SALT : salts, SALT);
    }
    dp_wipe(block, sizeof block);
    return ret == 0 ? DP_OK : DP_ERR_CRYPTO;
}

int dp_handshake_keys(dp_handshake *h, dp_record_keys *keys, dp_srtp_keys *srtp)
{
    memset(keys, 0, sizeof *keys);
    memset(srtp, 0, sizeof *srtp);
    if (h->have_secret)
        keys->cipher = negotiated_cipher(h);
    if (keys->cipher == DP_AEAD_NONE)
        return DP_ERR_CRYPTO;
    int err = derive_record_keys(h, keys);
    srtp->profile = negotiated_profile(&h->ssl);
    if (err == DP_OK && srtp->profile != DP_SRTP_NONE)
        err = derive_srtp_keys(h, srtp);
    dp_wipe(h->master_secret, sizeof h->master_secret);
    h->have_secret = false;
    return err;
}

bool dp_handshake_is_repeatable(const dp_handshake *h)
{
    return h->config.role == DP_DTLS_CLIENT && !h->cookie &&
           h->ssl.MBEDTLS_PRIVATE(state) <= MBEDTLS_SSL_SERVER_HELLO_DONE;
}

bool dp_handshake_is_identified(const dp_handshake *h) { return h->identity == IDENTITY_MATCH; }

int dp_handshake_progress(const dp_handshake *h) { return h->ssl.MBEDTLS_PRIVATE(state); }

int dp_handshake_error(const dp_handshake *h) { return h->error; }

const dp_fingerprint *dp_handshake_peer_fingerprint(const dp_handshake *h)
{
    return h->identity == IDENTITY_MISMATCH ? &h->peer : NULL;
}
