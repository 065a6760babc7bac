#include "net/tls.h"

#include "base/crypto.h"
#include "base/key_log.h"
#include "base/log.h"
#include "base/mbedtls.h"
#include "base/mem.h"
#include "net/loop.h"
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
    NAME_MAX_LEN = 253,  /* RFC 1035 §2.3.4, as text */
    OUTPUT_MAX = 65536,  /* a record, and alerts that the network does not take */
    OUTPUT_KEEP = 2048,  /* an idle stream keeps no larger buffer than this */
    RECORD_MAX = 16384,  /* RFC 5246 §6.2.1 */
    SAN_DNS_NAME = 0x82, /* RFC 5280 §4.2.1.6: GeneralName [2]... */
    SAN_IP = 0x87,       /* ...and [7], context-specific */
};
static const char SYSTEM_AUTHORITIES[] = "/etc/ssl/certs/ca-certificates.crt";

/* ---- authorities ------------------------------------------------------------------------------------- */

/* One parsed file of authorities. Reading the system's 140 takes 8 ms and half a megabyte: all streams of a loop
 * share it, and it stays until the loop goes or the file is another one. */
struct dp_tls_authorities {
    struct dp_tls_authorities *next;
    char *path;
    struct stat stat;
    size_t users;
    mbedtls_x509_crt chain;
};
typedef struct dp_tls_authorities authorities;

static void authorities_free(authorities *list)
{
    mbedtls_x509_crt_free(&list->chain);
    dp_free(list->path);
    dp_free(list);
}

void dp_tls_authorities_free(dp_loop *loop)
{
    while (loop->authorities != NULL) {
        authorities *list = loop->authorities;
        loop->authorities = list->next;
        authorities_free(list);
    }
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Finds the list if it still is what the file holds, and drops those that nobody uses. */
static authorities *find(dp_loop *loop, const char *path, const struct stat *now)
{
    authorities **at = &loop->authorities;
    while (*at != NULL) {
        authorities *list = *at;
        if (strcmp(list->path, path) == 0 && same_file(&list->stat, now))
            return list;
        if (list->users == 0) {
            *at = list->next;
            authorities_free(list);
        } else {
            at = &list->next;
        }
    }
    return NULL;
}

static int authorities_get(authorities **out, dp_loop *loop, const char *path)
{
    struct stat now;
    if (stat(path, &now) != 0 || !S_ISREG(now.st_mode)) /* a FIFO would block */
        return DP_ERR_IO;
    authorities *list = find(loop, path, &now);
    if (list == NULL) {
        list = dp_calloc(1, sizeof(*list));
        if (list == NULL)
            return DP_ERR_NO_MEMORY;
        mbedtls_x509_crt_init(&list->chain);
        list->path = dp_strdup(path);
        list->stat = now;
        /* How many of them it does not understand; one of a kind that it does not know must not hinder the
         * others. */
        int ret = list->path != NULL ? mbedtls_x509_crt_parse_file(&list->chain, path)
                                     : MBEDTLS_ERR_X509_ALLOC_FAILED;
        if (ret < 0) {
            authorities_free(list);
            return ret == MBEDTLS_ERR_X509_ALLOC_FAILED ? DP_ERR_NO_MEMORY : DP_ERR_IO;
        }
        list->next = loop->authorities;
        loop->authorities = list;
    }
    list->users++;
    *out = list;
    return DP_OK;
}

/* ---- the stream -------------------------------------------------------------------------------------- */

struct dp_tls {
    mbedtls_ssl_config conf;
    mbedtls_ssl_context ssl;
    authorities *authorities;
    dp_random random;
    dp_log log;
    dp_key_log key_log;
    dp_mbedtls_export keys;
    dp_address ip; /* of the server, if its name is a number */
    char name[NAME_MAX_LEN + 1];
    char certified[64]; /* whom its certificate is for, to tell people */
    const uint8_t *in;
    size_t in_len;
    uint8_t *out; /* out[out_at..out_len) waits for the network */
    size_t out_at;
    size_t out_len;
    size_t out_capacity;
    int trouble;      /* an error that mbedTLS only passes on */
    bool heard;       /* the server's first byte... */
    bool speaks_tls;  /* ...was the start of a record */
    bool established; /* the handshake is over */
    char reason[448];
};

static int give_random(void *ctx, unsigned char *out, size_t len)
{
    dp_tls *tls = ctx;
    if (dp_random_bytes(&tls->random, out, len) == DP_OK)
        return 0;
    tls->trouble = DP_ERR_CRYPTO;
    return MBEDTLS_ERR_CTR_DRBG_ENTROPY_SOURCE_FAILED;
}

/* All of it, always: a record that was half sent would have to be finished before anything else. */
static int put_output(void *ctx, const unsigned char *bytes, size_t len)
{
    dp_tls *tls = ctx;
    void *out = tls->out;
    if (dp_grow(&out, &tls->out_capacity, tls->out_len + len, OUTPUT_MAX, 1) != DP_OK) {
        tls->trouble = DP_ERR_NO_MEMORY;
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

/* ---- whose certificate is it? ------------------------------------------------------------------------ */

/* What a certificate says about itself is for a log or a terminal: nothing that could drive one. */
static void describe(dp_tls *tls, const mbedtls_x509_buf *san)
{
    if (tls->certified[0] != '\0')
        return;
    if (san->tag == SAN_IP && (san->len == 4 || san->len == 16)) {
        dp_address address = {.family = san->len == 4 ? DP_FAMILY_IPV4 : DP_FAMILY_IPV6};
        char text[DP_ADDRESS_TEXT_MAX];
        memcpy(address.ip, san->p, san->len);
        snprintf(tls->certified, sizeof(tls->certified), "%s", dp_address_format_ip(&address, text));
    } else if (san->tag == SAN_DNS_NAME) {
        size_t len = san->len < sizeof(tls->certified) ? san->len : sizeof(tls->certified) - 1;
        for (size_t i = 0; i < len; i++)
            tls->certified[i] = san->p[i] > ' ' && san->p[i] < 0x7F ? (char)san->p[i] : '?';
        tls->certified[len] = '\0';
    }
}

/* mbedTLS compares host names (RFC 6125 §6.4). Two things are missing in 2.28: an iPAddress among the names (RFC
 * 9525 §6.5: compared as bytes), and that a common name does not count any more (RFC 9525 §2). */
static int verify(void *ctx, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    dp_tls *tls = ctx;
    if (depth != 0)
        return 0;
    size_t ip_len = tls->ip.family == DP_FAMILY_IPV4 ? 4 : 16;
    bool names = false;
    bool found = false;
    for (const mbedtls_x509_sequence *san = &crt->subject_alt_names; san != NULL && san->buf.p != NULL;
         san = san->next) {
        names = true;
        describe(tls, &san->buf);
        found |=
            san->buf.tag == SAN_IP && san->buf.len == ip_len && memcmp(san->buf.p, tls->ip.ip, ip_len) == 0;
    }
    if (tls->ip.family != DP_FAMILY_NONE ? !found : !names)
        *flags |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
    return 0;
}

static int certificate_refused(dp_tls *tls)
{
    uint32_t flags = mbedtls_ssl_get_verify_result(&tls->ssl);
    char why[160];
    if ((flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED) != 0)
        snprintf(why, sizeof(why), "is not signed by a known authority");
    else if ((flags & MBEDTLS_X509_BADCERT_CN_MISMATCH) != 0 && tls->certified[0] != '\0')
        snprintf(why, sizeof(why), "is for %s", tls->certified);
    else if ((flags & MBEDTLS_X509_BADCERT_CN_MISMATCH) != 0)
        snprintf(why, sizeof(why), "names no host that it is for (subjectAltName)");
    else if ((flags & MBEDTLS_X509_BADCERT_EXPIRED) != 0)
        snprintf(why, sizeof(why), "has expired, or this machine's clock is wrong");
    else if ((flags & MBEDTLS_X509_BADCERT_FUTURE) != 0)
        snprintf(why, sizeof(why), "is not valid yet, or this machine's clock is wrong");
    else
        snprintf(why, sizeof(why), "is not one for a server, or its key or signature is too weak");
    snprintf(tls->reason, sizeof(tls->reason), "the certificate of %s %s", tls->name, why);
    return DP_ERR_AUTH;
}

/* ---- errors ------------------------------------------------------------------------------------------ */

static int failed(dp_tls *tls, int ret)
{
    if (ret == MBEDTLS_ERR_SSL_WANT_READ)
        return DP_ERR_WOULD_BLOCK;
    if (ret == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED)
        return certificate_refused(tls);
    if (ret == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) {
        snprintf(tls->reason, sizeof(tls->reason), "closed by the peer");
        return DP_ERR_CLOSED;
    }
    int trouble = ret == MBEDTLS_ERR_SSL_ALLOC_FAILED ? DP_ERR_NO_MEMORY : tls->trouble;
    if (trouble != DP_OK) {
        snprintf(tls->reason, sizeof(tls->reason), "%s", dp_strerror(trouble));
        return trouble;
    }
    bool alert = ret == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE;
    const char *why = tls->heard && !tls->speaks_tls ? "does not speak TLS on this port"
                      : alert && tls->established    ? "broke off with a TLS alert"
                      : alert ? "broke off with a TLS alert: it may want another version, another cipher or "
                                "a certificate of ours"
                              : "broke the rules of TLS 1.2";
    snprintf(tls->reason, sizeof(tls->reason), "%s %s (-0x%04x)", tls->name, why, (unsigned)-ret);
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

/* "192.0.2.1", "[2001:db8::1]", "fe80::1%eth0": the address; otherwise a name, whose last dot is not sent (RFC
 * 6066 §3). */
static int set_name(dp_tls *tls, const char *server_name)
{
    size_t len = server_name != NULL ? strlen(server_name) : 0;
    if (len > 0 && server_name[0] == '[') {
        server_name++;
        len = strcspn(server_name, "]");
    } else if (len > 0 && server_name[len - 1] == '.') {
        len--;
    }
    if (len == 0 || len > NAME_MAX_LEN)
        return DP_ERR_INVALID_ARGUMENT;
    memcpy(tls->name, server_name, len);
    char ip[NAME_MAX_LEN + 1] = "";
    memcpy(ip, server_name, len);
    ip[strcspn(ip, "%")] = '\0';
    if (dp_address_parse(&tls->ip, ip, 0) != DP_OK)
        memset(&tls->ip, 0, sizeof(tls->ip));
    return DP_OK;
}

static void log_keys(void *ctx, const uint8_t *master_secret, const uint8_t *client_random,
                     const uint8_t *server_random, mbedtls_tls_prf_types prf)
{
    const dp_tls *tls = ctx;
    (void)server_random;
    (void)prf;
    DP_LOG(&tls->log, DP_LOG_WARN, "net", "the key log is on: whoever reads it can decrypt what %s is told",
           tls->name);
    dp_key_log_put(&tls->key_log, client_random, master_secret);
}

static int configure(dp_tls *tls)
{
    mbedtls_ssl_config *conf = &tls->conf;
    if (mbedtls_ssl_config_defaults(conf, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                    MBEDTLS_SSL_PRESET_DEFAULT) != 0)
        return DP_ERR_NO_MEMORY;
    dp_mbedtls_conf_tls12(conf, groups);
    mbedtls_ssl_conf_rng(conf, give_random, tls);
    mbedtls_ssl_conf_ciphersuites(conf, suites);
    mbedtls_ssl_conf_authmode(conf, MBEDTLS_SSL_VERIFY_REQUIRED);
    mbedtls_ssl_conf_ca_chain(conf, &tls->authorities->chain, NULL);
    mbedtls_ssl_conf_verify(conf, verify, tls);
    mbedtls_ssl_conf_renegotiation(conf, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
    mbedtls_ssl_conf_session_tickets(conf, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
    mbedtls_ssl_conf_extended_master_secret(conf, MBEDTLS_SSL_EXTENDED_MS_ENABLED);
    /* RFC 6066 §3: an address is no server name, and verify compares it. 3.6 verifies no certificate unless it was told
     * a name, if only that there is none. */
    if (mbedtls_ssl_setup(&tls->ssl, conf) != 0 ||
        mbedtls_ssl_set_hostname(&tls->ssl, tls->ip.family == DP_FAMILY_NONE ? tls->name : NULL) != 0)
        return DP_ERR_NO_MEMORY;
    mbedtls_ssl_set_bio(&tls->ssl, tls, put_output, get_input, NULL);
    tls->keys = (dp_mbedtls_export){log_keys, tls};
    if (tls->key_log.fn != NULL)
        dp_mbedtls_set_export(conf, &tls->ssl, &tls->keys);
    return DP_OK;
}

int dp_tls_new(dp_tls **out, dp_loop *loop, const dp_tls_options *options)
{
    dp_tls *tls = dp_calloc(1, sizeof(*tls));
    if (tls == NULL)
        return DP_ERR_NO_MEMORY;
    mbedtls_ssl_config_init(&tls->conf);
    mbedtls_ssl_init(&tls->ssl);
    tls->random = options->random;
    tls->log = options->log;
    tls->key_log = options->key_log;
    int error = set_name(tls, options->server_name);
    if (error == DP_OK)
        error = authorities_get(&tls->authorities, loop,
                                options->ca_file != NULL ? options->ca_file : SYSTEM_AUTHORITIES);
    if (error == DP_OK)
        error = configure(tls);
    if (error != DP_OK) {
        dp_tls_free(tls);
        return error;
    }
    *out = tls;
    return DP_OK;
}

void dp_tls_free(dp_tls *tls)
{
    if (tls == NULL)
        return;
    mbedtls_ssl_free(&tls->ssl);
    mbedtls_ssl_config_free(&tls->conf);
    if (tls->authorities != NULL)
        tls->authorities->users--;
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
