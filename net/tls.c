#include "net/tls_inside.h"

#include "base/crypto.h"
#include "base/key_log.h"
#include "base/log.h"
#include "base/mem.h"
#include <mbedtls/ctr_drbg.h>
#include <stdio.h>
#include <string.h>

enum {
    OUTPUT_MAX = 65536, /* a record, and alerts that the network does not take */
    OUTPUT_KEEP = 2048, /* an idle stream keeps no larger buffer than this */
    RECORD_MAX = 16384, /* RFC 5246 §6.2.1 */
};

/* ---- what mbedTLS calls ------------------------------------------------------------------------------ */

int dp_tls_give_random(void *ctx, unsigned char *out, size_t len)
{
    tls_random *random = ctx;
    if (dp_random_bytes(&random->source, out, len) == DP_OK)
        return 0;
    random->failed = true;
    return MBEDTLS_ERR_CTR_DRBG_ENTROPY_SOURCE_FAILED;
}

/* All of it, always: a record that was half sent would have to be finished before anything else. */
static int put_output(void *ctx, const unsigned char *bytes, size_t len)
{
    dp_tls *tls = ctx;
    void *out = tls->out;
    if (dp_grow(&out, &tls->out_capacity, tls->out_len + len, OUTPUT_MAX, 1) != DP_OK) {
        tls->output_failed = true;
        return MBEDTLS_ERR_SSL_ALLOC_FAILED;
    }
    tls->out = out;
    memcpy(tls->out + tls->out_len, bytes, len);
    tls->out_len += len;
    return (int)len;
}

static int get_input(void *ctx, unsigned char *out, size_t len)
{
    dp_tls *tls = ctx;
    if (tls->in_len == 0)
        return MBEDTLS_ERR_SSL_WANT_READ;
    if (len > tls->in_len)
        len = tls->in_len;
    memcpy(out, tls->in, len);
    tls->in += len;
    tls->in_len -= len;
    return (int)len;
}

static void log_keys(void *ctx, const uint8_t *master_secret, const uint8_t *client_random,
                     const uint8_t *server_random, mbedtls_tls_prf_types prf)
{
    const tls_keys *keys = ctx;
    (void)server_random;
    (void)prf;
    DP_LOG(&keys->log, DP_LOG_WARN, "net",
           "the key log is on: whoever reads it can decrypt what goes by TLS");
    dp_key_log_put(&keys->key_log, client_random, master_secret);
}

/* ---- errors ------------------------------------------------------------------------------------------ */

static int trouble(const dp_tls *tls, int ret)
{
    return ret == MBEDTLS_ERR_SSL_ALLOC_FAILED || tls->output_failed ? DP_ERR_NO_MEMORY
           : tls->random->failed                                     ? DP_ERR_CRYPTO
                                                                     : DP_OK;
}

static const char *peers_fault(const dp_tls *tls, bool alert)
{
    if (tls->heard && !tls->speaks_tls)
        return "does not speak TLS on this port";
    if (!alert)
        return "broke the rules of TLS 1.2";
    if (tls->established)
        return "broke off with a TLS alert";
    return tls->client != NULL
               ? "broke off with a TLS alert: it may want another version, another cipher or a "
                 "certificate of ours"
               : "broke off with a TLS alert: it may not trust our certificate";
}

static int failed(dp_tls *tls, int ret)
{
    if (ret == MBEDTLS_ERR_SSL_WANT_READ)
        return DP_ERR_WOULD_BLOCK;
    if (ret == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED && tls->client != NULL)
        return dp_tls_refused(tls);
    if (ret == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) {
        snprintf(tls->reason, sizeof(tls->reason), "closed by the peer");
        return DP_ERR_CLOSED;
    }
    int ours = trouble(tls, ret);
    if (ours != DP_OK) {
        snprintf(tls->reason, sizeof(tls->reason), "%s", dp_strerror(ours));
        return ours;
    }
    bool alert = ret == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE;
    snprintf(tls->reason, sizeof(tls->reason), "%s %s (-0x%04x)", tls->name, peers_fault(tls, alert),
             (unsigned)-ret);
    return alert ? DP_ERR_REMOTE : DP_ERR_PROTOCOL;
}

/* ---- construction ------------------------------------------------------------------------------------ */

/* ECDHE and AEAD alone (RFC 9325 §4.2). */
static const int suites[] = {MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                             MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                             MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                             MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
                             MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                             MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
                             0};
static const dp_mbedtls_group groups[] = {DP_MBEDTLS_X25519, DP_MBEDTLS_SECP256R1, DP_MBEDTLS_SECP384R1,
                                          DP_MBEDTLS_SECP521R1, DP_MBEDTLS_GROUPS_END};

int dp_tls_configure(mbedtls_ssl_config *conf, int side, tls_random *random)
{
    if (mbedtls_ssl_config_defaults(conf, side, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT) !=
        0)
        return DP_ERR_NO_MEMORY;
    dp_mbedtls_conf_tls12(conf, groups);
    mbedtls_ssl_conf_rng(conf, dp_tls_give_random, random);
    mbedtls_ssl_conf_ciphersuites(conf, suites);
    mbedtls_ssl_conf_renegotiation(conf, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
    mbedtls_ssl_conf_session_tickets(conf, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
    mbedtls_ssl_conf_extended_master_secret(conf, MBEDTLS_SSL_EXTENDED_MS_ENABLED);
    return DP_OK;
}

int dp_tls_set_up(dp_tls *tls, mbedtls_ssl_config *conf, tls_keys *keys)
{
    if (mbedtls_ssl_setup(&tls->ssl, conf) != 0)
        return DP_ERR_NO_MEMORY;
    mbedtls_ssl_set_bio(&tls->ssl, tls, put_output, get_input, NULL);
    keys->export = (dp_mbedtls_export){log_keys, keys};
    if (keys->key_log.fn != NULL)
        dp_mbedtls_set_export(conf, &tls->ssl, &keys->export);
    return DP_OK;
}

void dp_tls_free(dp_tls *tls)
{
    if (tls == NULL)
        return;
    mbedtls_ssl_free(&tls->ssl);
    dp_tls_client_free(tls->client);
    dp_tls_server_free(tls->server);
    dp_free(tls->out);
    dp_wipe(tls, sizeof(*tls));
    dp_free(tls);
}

/* ---- running ----------------------------------------------------------------------------------------- */

void dp_tls_input(dp_tls *tls, const uint8_t *bytes, size_t len)
{
    tls->in = bytes;
    tls->in_len = len;
    if (!tls->heard && len > 0) {
        tls->heard = true;
        tls->speaks_tls = bytes[0] == MBEDTLS_SSL_MSG_HANDSHAKE || bytes[0] == MBEDTLS_SSL_MSG_ALERT;
    }
}

int dp_tls_handshake(dp_tls *tls)
{
    int ret = mbedtls_ssl_handshake(&tls->ssl);
    if (ret != 0)
        return failed(tls, ret);
    tls->established = true;
    DP_LOG(&tls->log, DP_LOG_DEBUG, "net", "TLS with %s: %s", tls->name,
           mbedtls_ssl_get_ciphersuite(&tls->ssl));
    if (tls->client != NULL && tls->client->insecure)
        DP_LOG(
            &tls->log, DP_LOG_WARN, "net",
            "the certificate of %s is not checked (insecure): whoever is on the way can read and change all",
            tls->name);
    return DP_OK;
}

int dp_tls_read(dp_tls *tls, uint8_t *out, size_t capacity, size_t *len)
{
    int n;
    do { /* after a message that was no data, and after empty ones, it wants to be called again, though there is more */
        n = mbedtls_ssl_read(&tls->ssl, out, capacity);
    } while ((n == MBEDTLS_ERR_SSL_WANT_READ || n == 0) && tls->in_len > 0);
    if (n > 0) {
        *len = (size_t)n;
        return DP_OK;
    }
    if (n == 0) /* an end without a word comes from the socket alone */
        return DP_ERR_WOULD_BLOCK;
    if (n == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY)
        dp_tls_goodbye(tls); /* RFC 5246 §7.2.1: answered in kind */
    return failed(tls, n);
}

int dp_tls_write(dp_tls *tls, const uint8_t *data, size_t len, size_t *taken)
{
    int n = mbedtls_ssl_write(&tls->ssl, data, len < RECORD_MAX ? len : RECORD_MAX);
    if (n < 0)
        return failed(tls, n);
    *taken = (size_t)n;
    return DP_OK;
}

void dp_tls_goodbye(dp_tls *tls) { (void)mbedtls_ssl_close_notify(&tls->ssl); }

const uint8_t *dp_tls_output(const dp_tls *tls, size_t *len)
{
    *len = tls->out_len - tls->out_at;
    return *len > 0 ? tls->out + tls->out_at : NULL;
}

void dp_tls_sent(dp_tls *tls, size_t len)
{
    tls->out_at += len;
    if (tls->out_at < tls->out_len)
        return;
    tls->out_at = tls->out_len = 0;
    if (tls->out_capacity > OUTPUT_KEEP) {
        dp_free(tls->out);
        tls->out = NULL;
        tls->out_capacity = 0;
    }
}

const char *dp_tls_reason(const dp_tls *tls) { return tls->reason; }
