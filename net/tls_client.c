/* The client's side of TLS: whom to believe. */
#include "net/tls_inside.h"

#include "base/config.h"
#include "base/mem.h"
#include <stdio.h>
#include <string.h>

enum {
    SAN_DNS_NAME = 0x82, /* RFC 5280 §4.2.1.6: GeneralName [2]... */
    SAN_IP = 0x87,       /* ...and [7], context-specific */
};

/* ---- whose certificate is it? ------------------------------------------------------------------------ */

/* What a certificate says about itself is for a log or a terminal: nothing that could drive one. */
static void describe(tls_client *client, const mbedtls_x509_buf *san)
{
    if (client->certified[0] != '\0')
        return;
    if (san->tag == SAN_IP && (san->len == 4 || san->len == 16)) {
        dp_address address = {.family = san->len == 4 ? DP_FAMILY_IPV4 : DP_FAMILY_IPV6};
        char text[DP_ADDRESS_TEXT_MAX];
        memcpy(address.ip, san->p, san->len);
        snprintf(client->certified, sizeof(client->certified), "%s", dp_address_format_ip(&address, text));
    } else if (san->tag == SAN_DNS_NAME) {
        size_t len = san->len < sizeof(client->certified) ? san->len : sizeof(client->certified) - 1;
        for (size_t i = 0; i < len; i++)
            client->certified[i] = san->p[i] > ' ' && san->p[i] < 0x7F ? (char)san->p[i] : '?';
        client->certified[len] = '\0';
    }
}

/* mbedTLS compares host names (RFC 6125 §6.4). Two things are missing in 2.28: an iPAddress among the names (RFC
 * 9525 §6.5: compared as bytes), and that a common name does not count any more (RFC 9525 §2). */
static void check_names(tls_client *client, const mbedtls_x509_crt *crt, uint32_t *flags)
{
    size_t ip_len = client->ip.family == DP_FAMILY_IPV4 ? 4 : 16;
    bool names = false;
    bool found = false;
    for (const mbedtls_x509_sequence *san = &crt->subject_alt_names; san != NULL && san->buf.p != NULL;
         san = san->next) {
        names = true;
        describe(client, &san->buf);
        found |= san->buf.tag == SAN_IP && san->buf.len == ip_len &&
                 memcmp(san->buf.p, client->ip.ip, ip_len) == 0;
    }
    if (client->ip.family != DP_FAMILY_NONE ? !found : !names)
        *flags |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
}

/* Called for each certificate of the chain, the server's own (depth 0) last; flags are its own. */
static int verify(void *ctx, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    tls_client *client = ctx;
    if ((*flags & MBEDTLS_X509_BADCERT_EXPIRED) != 0)
        client->expired = crt->valid_to;
    if ((*flags & MBEDTLS_X509_BADCERT_FUTURE) != 0)
        client->begins = crt->valid_from;
    if (depth != 0)
        return 0;
    client->self_signed = crt->issuer_raw.len == crt->subject_raw.len &&
                          memcmp(crt->issuer_raw.p, crt->subject_raw.p, crt->subject_raw.len) == 0;
    check_names(client, crt, flags);
    return 0;
}

/* RFC 3339's form of a day; mbedTLS's is UTC. */
static const char *format_day(char out[32], const mbedtls_x509_time *time)
{
    snprintf(out, 32, "%04d-%02d-%02d", time->year, time->mon, time->day);
    return out;
}

int dp_tls_refused(dp_tls *tls)
{
    const tls_client *client = tls->client;
    uint32_t flags = mbedtls_ssl_get_verify_result(&tls->handshake->ssl);
    char why[160], day[32];
    if ((flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED) != 0 && client->self_signed)
        snprintf(why, sizeof(why), "is self-signed: no known authority vouches for it");
    else if ((flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED) != 0)
        snprintf(why, sizeof(why), "is not signed by a known authority");
    else if ((flags & MBEDTLS_X509_BADCERT_CN_MISMATCH) != 0 && client->certified[0] != '\0')
        snprintf(why, sizeof(why), "is for %s", client->certified);
    else if ((flags & MBEDTLS_X509_BADCERT_CN_MISMATCH) != 0)
        snprintf(why, sizeof(why), "names no host that it is for (subjectAltName)");
    else if ((flags & MBEDTLS_X509_BADCERT_EXPIRED) != 0)
        snprintf(why, sizeof(why), "expired on %s, or this machine's clock is wrong",
                 format_day(day, &client->expired));
    else if ((flags & MBEDTLS_X509_BADCERT_FUTURE) != 0)
        snprintf(why, sizeof(why), "is not valid before %s, or this machine's clock is wrong",
                 format_day(day, &client->begins));
    else
        snprintf(why, sizeof(why), "is not one for a server, or its key or signature is too weak");
    dp_tls_say(tls, "the certificate of %s %s", tls->name, why);
    return DP_ERR_AUTH;
}

/* ---- construction ------------------------------------------------------------------------------------ */

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
    if (len == 0 || len > TLS_NAME_MAX)
        return DP_ERR_INVALID_ARGUMENT;
    memcpy(tls->client->name, server_name, len);
    tls->name = tls->client->name;
    char ip[TLS_NAME_MAX + 1] = "";
    memcpy(ip, server_name, len);
    ip[strcspn(ip, "%")] = '\0';
    dp_address *address = &tls->client->ip;
    if (dp_address_parse(address, ip, 0) != DP_OK)
        memset(address, 0, sizeof(*address));
    return DP_OK;
}

static int configure(dp_tls *tls)
{
    tls_client *client = tls->client;
    mbedtls_ssl_config *conf = &client->conf;
    int error = dp_tls_configure(conf, MBEDTLS_SSL_IS_CLIENT, &client->random);
    if (error != DP_OK)
        return error;
    mbedtls_ssl_conf_authmode(conf, client->insecure ? MBEDTLS_SSL_VERIFY_NONE : MBEDTLS_SSL_VERIFY_REQUIRED);
    if (!client->insecure)
        mbedtls_ssl_conf_ca_chain(conf, dp_tls_authorities_chain(client->authorities), NULL);
    mbedtls_ssl_conf_verify(conf, verify, client);
    error = dp_tls_set_up(tls, conf, &client->keys);
    if (error != DP_OK)
        return error;
    /* RFC 6066 §3: an address is no server name, and verify compares it. 3.6 verifies no certificate unless it was told
     * a name, if only that there is none. */
    if (mbedtls_ssl_set_hostname(&tls->handshake->ssl,
                                 client->ip.family == DP_FAMILY_NONE ? tls->name : NULL) != 0)
        return DP_ERR_NO_MEMORY;
    return DP_OK;
}

int dp_tls_connect(dp_tls **out, dp_loop *loop, const dp_tls_options *given)
{
    dp_tls_options read = {0};
    const dp_tls_options *options = &read;
    if (!DP_CONFIG_READ(&read, given, dp_tls_options, log))
        return DP_ERR_INVALID_ARGUMENT;
    dp_tls *tls = dp_calloc(1, sizeof(*tls));
    tls_client *client = dp_calloc(1, sizeof(*client));
    if (tls == NULL || client == NULL) {
        dp_free(tls);
        dp_free(client);
        return DP_ERR_NO_MEMORY;
    }
    mbedtls_ssl_config_init(&client->conf);
    client->random.source = options->random;
    client->insecure = options->insecure;
    tls->client = client;
    tls->random = &client->random;
    tls->log = options->log;
    client->keys.key_log = options->key_log;
    client->keys.log = options->log;
    int error = set_name(tls, options->server_name);
    if (error == DP_OK && !client->insecure)
        error = dp_tls_authorities_get(&client->authorities, loop, options->ca_file);
    if (error == DP_OK)
        error = configure(tls);
    if (error != DP_OK) {
        dp_tls_free(tls);
        return error;
    }
    *out = tls;
    return DP_OK;
}

void dp_tls_client_free(tls_client *client)
{
    if (client == NULL)
        return;
    mbedtls_ssl_config_free(&client->conf);
    dp_tls_authorities_put(client->authorities);
    dp_free(client);
}
