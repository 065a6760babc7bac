#include "net/tls_inside.h"

#include "base/crypto.h"
#include "base/key_log.h"
#include "base/log.h"
#include "base/mem.h"
#include <mbedtls/ctr_drbg.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { OUTPUT_MAX = 65536 }; /* a record, and alerts that the network does not take */

/* ---- what mbedTLS calls ------------------------------------------------------------------------------ */

int dp_tls_give_random(void *ctx, unsigned char *out, size_t len)
{
    tls_random *random = ctx;
    if (dp_random_bytes(&random->source, out, len) == DP_OK)
        return 0;
    random->failed = true;
    return MBEDTLS_ERR_CTR_DRBG_ENTROPY_SOURCE_FAILED;
}

/* Room for more output, which is then written at its end; NULL: no memory. */
static uint8_t *reserve_output(dp_tls *tls, size_t len)
{
    void *out = tls->out;
    if (dp_grow(&out, &tls->out_capacity, tls->out_len + len, OUTPUT_MAX, 1) != DP_OK) {
        tls->output_failed = true;
        return NULL;
    }
    tls->out = out;
    return tls->out + tls->out_len;
}

/* All of it, always: a record that was half sent would have to be finished before anything else. */
static int put_output(void *ctx, const unsigned char *bytes, size_t len)
{
    dp_tls *tls = ctx;
    uint8_t *out = reserve_output(tls, len);
    if (out == NULL)
        return MBEDTLS_ERR_SSL_ALLOC_FAILED;
    memcpy(out, bytes, len);
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

static void on_secret(void *ctx, const uint8_t *master_secret, const uint8_t *client_random,
                      const uint8_t *server_random, mbedtls_tls_prf_types prf)
{
    const tls_keys *keys = ctx;
    tls_secret *secret = &keys->running->handshake->secret;
    memcpy(secret->master, master_secret, sizeof(secret->master));
    memcpy(secret->randoms, server_random, DP_MBEDTLS_RANDOM);
    memcpy(secret->randoms + DP_MBEDTLS_RANDOM, client_random, DP_MBEDTLS_RANDOM);
    secret->prf = prf;
    if (keys->key_log.fn == NULL)
        return;
    DP_LOG(&keys->log, DP_LOG_WARN, "net",
           "the key log is on: whoever reads it can decrypt what goes by TLS");
    dp_key_log_put(&keys->key_log, client_random, master_secret);
}

/* ---- errors ------------------------------------------------------------------------------------------ */

void dp_tls_say(dp_tls *tls, const char *format, ...)
{
    char text[448];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    dp_free(tls->reason);
    tls->reason = dp_strdup(text);
}

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
    if (tls->records != NULL)
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
        dp_tls_say(tls, "closed by the peer");
        return DP_ERR_CLOSED;
    }
    int ours = trouble(tls, ret);
    if (ours != DP_OK) {
        dp_tls_say(tls, "%s", dp_strerror(ours));
        return ours;
    }
    bool alert = ret == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE;
    dp_tls_say(tls, "%s %s (-0x%04x)", tls->name, peers_fault(tls, alert), (unsigned)-ret);
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
    tls->handshake = dp_calloc(1, sizeof(*tls->handshake));
    if (tls->handshake == NULL)
        return DP_ERR_NO_MEMORY;
    mbedtls_ssl_context *ssl = &tls->handshake->ssl;
    mbedtls_ssl_init(ssl);
    if (mbedtls_ssl_setup(ssl, conf) != 0)
        return DP_ERR_NO_MEMORY;
    mbedtls_ssl_set_bio(ssl, tls, put_output, get_input, NULL);
    tls->keys = keys;
    keys->export = (dp_mbedtls_export){on_secret, keys};
    dp_mbedtls_set_export(conf, ssl, &keys->export);
    return DP_OK;
}

static void free_handshake(dp_tls *tls)
{
    if (tls->handshake == NULL)
        return;
    mbedtls_ssl_free(&tls->handshake->ssl);
    dp_wipe(tls->handshake, sizeof(*tls->handshake));
    dp_free(tls->handshake);
    tls->handshake = NULL;
}

void dp_tls_free(dp_tls *tls)
{
    if (tls == NULL)
        return;
    free_handshake(tls);
    dp_tls_records_free(tls->records);
    dp_tls_client_free(tls->client);
    dp_tls_server_free(tls->server);
    dp_free(tls->out);
    dp_free(tls->reason);
    dp_free(tls);
}

/* ---- running ----------------------------------------------------------------------------------------- */

bool dp_tls_is_handshake(const uint8_t *bytes, size_t len)
{
    return len > 0 && bytes[0] == MBEDTLS_SSL_MSG_HANDSHAKE;
}

void dp_tls_input(dp_tls *tls, const uint8_t *bytes, size_t len)
{
    tls->in = bytes;
    tls->in_len = len;
    if (!tls->heard && len > 0) {
        tls->heard = true;
        tls->speaks_tls = dp_tls_is_handshake(bytes, len) || bytes[0] == MBEDTLS_SSL_MSG_ALERT;
    }
}

/* mbedTLS has done its part, and read up to the end of the record of the peer's Finished and not further. (What else may have
 * been in that record is a message of a handshake: such ones are refused anyway.) */
static int establish(dp_tls *tls)
{
    mbedtls_ssl_context *ssl = &tls->handshake->ssl;
    int suite = mbedtls_ssl_get_ciphersuite_id(mbedtls_ssl_get_ciphersuite(ssl));
    int fragment_max = mbedtls_ssl_get_max_out_record_payload(ssl);
    if (fragment_max <= 0)
        return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
    tls->fragment_max = (size_t)fragment_max;
    tls->records = dp_tls_records_new(&tls->handshake->secret, suite, tls->client == NULL);
    if (tls->records == NULL)
        return MBEDTLS_ERR_SSL_ALLOC_FAILED;
    DP_LOG(&tls->log, DP_LOG_DEBUG, "net", "TLS with %s: %s", tls->name, mbedtls_ssl_get_ciphersuite(ssl));
    free_handshake(tls);
    return 0;
}

int dp_tls_handshake(dp_tls *tls)
{
    tls->keys->running = tls;
    int ret = mbedtls_ssl_handshake(&tls->handshake->ssl);
    if (ret == 0)
        ret = establish(tls);
    if (ret != 0)
        return failed(tls, ret);
    if (tls->client != NULL && tls->client->insecure)
        DP_LOG(
            &tls->log, DP_LOG_WARN, "net",
            "the certificate of %s is not checked (insecure): whoever is on the way can read and change all",
            tls->name);
    return DP_OK;
}

static int put_record(dp_tls *tls, uint8_t type, const uint8_t *data, size_t len)
{
    size_t sealed = 0;
    uint8_t *out = reserve_output(tls, len + TLS_RECORD_OVERHEAD);
    if (out == NULL)
        return MBEDTLS_ERR_SSL_ALLOC_FAILED;
    int ret = dp_tls_records_seal(tls->records, out, &sealed, type, data, len);
    if (ret == 0)
        tls->out_len += sealed;
    return ret;
}

static void put_alert(dp_tls *tls, uint8_t level, uint8_t description)
{
    (void)put_record(tls, MBEDTLS_SSL_MSG_ALERT, (const uint8_t[]){level, description}, 2);
}

/* RFC 5246 §7.2 */
static int on_alert(dp_tls *tls, const uint8_t *alert, size_t len)
{
    if (len != 2)
        return MBEDTLS_ERR_SSL_UNEXPECTED_MESSAGE;
    if (alert[0] == MBEDTLS_SSL_ALERT_LEVEL_FATAL)
        return MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE;
    if (alert[1] != MBEDTLS_SSL_ALERT_MSG_CLOSE_NOTIFY)
        return 0;        /* a warning */
    dp_tls_goodbye(tls); /* §7.2.1: answered in kind */
    return MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY;
}

/* What is no data. */
static int on_record(dp_tls *tls, uint8_t type, const uint8_t *plain, size_t len)
{
    if (type == MBEDTLS_SSL_MSG_ALERT)
        return on_alert(tls, plain, len);
    if (type != MBEDTLS_SSL_MSG_HANDSHAKE || len == 0)
        return MBEDTLS_ERR_SSL_UNEXPECTED_MESSAGE;
    /* Another handshake is asked for (§7.4.1.1, §7.4.1.2). */
    put_alert(tls, MBEDTLS_SSL_ALERT_LEVEL_WARNING, MBEDTLS_SSL_ALERT_MSG_NO_RENEGOTIATION);
    return tls->output_failed ? MBEDTLS_ERR_SSL_ALLOC_FAILED : 0;
}

/* §7.2.2, for what the peer has done. */
static void tell_peer(dp_tls *tls, int ret)
{
    if (ret == MBEDTLS_ERR_SSL_INVALID_MAC)
        put_alert(tls, MBEDTLS_SSL_ALERT_LEVEL_FATAL, MBEDTLS_SSL_ALERT_MSG_BAD_RECORD_MAC);
    else if (ret == MBEDTLS_ERR_SSL_INVALID_RECORD)
        put_alert(tls, MBEDTLS_SSL_ALERT_LEVEL_FATAL, MBEDTLS_SSL_ALERT_MSG_RECORD_OVERFLOW);
    else if (ret == MBEDTLS_ERR_SSL_UNEXPECTED_MESSAGE)
        put_alert(tls, MBEDTLS_SSL_ALERT_LEVEL_FATAL, MBEDTLS_SSL_ALERT_MSG_UNEXPECTED_MESSAGE);
}

int dp_tls_read(dp_tls *tls, uint8_t *out, size_t *len)
{
    uint8_t type = 0;
    int ret;
    do {
        ret = dp_tls_records_open(tls->records, &type, out, len, &tls->in, &tls->in_len);
        if (ret == 0 && type == MBEDTLS_SSL_MSG_APPLICATION_DATA && *len > 0)
            return DP_OK;
        if (ret == 0 && type != MBEDTLS_SSL_MSG_APPLICATION_DATA)
            ret = on_record(tls, type, out, *len);
    } while (ret == 0);
    tell_peer(tls, ret);
    return failed(tls, ret);
}

int dp_tls_write(dp_tls *tls, const uint8_t *data, size_t len, size_t *taken)
{
    *taken = len < tls->fragment_max ? len : tls->fragment_max;
    int ret = put_record(tls, MBEDTLS_SSL_MSG_APPLICATION_DATA, data, *taken);
    return ret == 0 ? DP_OK : failed(tls, ret);
}

void dp_tls_goodbye(dp_tls *tls)
{
    put_alert(tls, MBEDTLS_SSL_ALERT_LEVEL_WARNING, MBEDTLS_SSL_ALERT_MSG_CLOSE_NOTIFY);
}

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
    dp_free(tls->out);
    tls->out = NULL;
    tls->out_at = tls->out_len = tls->out_capacity = 0;
}

const char *dp_tls_reason(const dp_tls *tls)
{
    return tls->reason != NULL ? tls->reason : dp_strerror(DP_ERR_NO_MEMORY);
}
