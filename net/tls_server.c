/* The server's side of TLS: the certificate that is shown, and how many handshakes may be under way. */
#include "net/tls_inside.h"

#include "base/config.h"
#include "base/crypto.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rate.h"
#include "net/file_error.h"
#include <errno.h>
#include <fcntl.h>
#include <mbedtls/ecdsa.h>
#include <mbedtls/pem.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FILE_MAX = 65536,
    CHAIN_MAX = 8,
    DEFAULT_HANDSHAKES = 512, /* 25 MB */
};
#define DEFAULT_TIMEOUT DP_SECONDS(10)

struct dp_tls_server {
    size_t users; /* the owner and the streams */
    mbedtls_ssl_config conf;
    mbedtls_x509_crt chain;
    mbedtls_pk_context key;
    tls_random random;
    tls_keys keys;
    dp_log log;
    dp_duration handshake_timeout;
    dp_rate_table *rate; /* of handshakes; NULL: any number */
    size_t max_handshakes;
    size_t handshakes;
    dp_tls_waiter *oldest;
    dp_tls_waiter **newest; /* where the next one goes */
};

/* ---- files ------------------------------------------------------------------------------------------- */

/* A key may belong to another user, and the path be a symbolic link: so certbot and Debian's ssl-cert keep them. */
static int check(const struct stat *st, bool secret, const char *path, dp_file_error *error)
{
    if (!S_ISREG(st->st_mode))
        return dp_file_fail(error, DP_ERR_DENIED, PATH_SHOWN " is no plain file", path);
    if (secret && (st->st_mode & S_IRWXO) != 0)
        return dp_file_fail(error, DP_ERR_DENIED,
                            PATH_SHOWN
                            " is open to every user (mode %03o), and it holds a private key: chmod o= it",
                            path, (unsigned)st->st_mode & 0777u);
    if (st->st_size > FILE_MAX)
        return dp_file_fail(error, DP_ERR_TOO_LARGE, PATH_SHOWN " has %lld bytes, and at most %d make sense",
                            path, (long long)st->st_size, FILE_MAX);
    return DP_OK;
}

/* Into text[0..FILE_MAX], with a NUL behind it. */
static int read_open(int fd, char *text, bool secret, const char *path, dp_file_error *error)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return dp_file_fail(error, DP_ERR_IO, PATH_SHOWN ": %s", path, strerror(errno));
    int result = check(&st, secret, path, error);
    size_t len = 0;
    while (result == DP_OK && len < FILE_MAX) {
        ssize_t n = read(fd, text + len, FILE_MAX - len);
        if (n == 0)
            break;
        if (n > 0)
            len += (size_t)n;
        else if (errno != EINTR)
            result = dp_file_fail(error, DP_ERR_IO, PATH_SHOWN ": %s", path, strerror(errno));
    }
    text[len] = '\0';
    return result;
}

static int read_file(char *text, bool secret, const char *path, dp_file_error *error)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC); /* nobody may ever write to a FIFO */
    if (fd < 0)
        return dp_file_fail(error,
                            errno == ENOENT   ? DP_ERR_NOT_FOUND
                            : errno == EACCES ? DP_ERR_DENIED
                                              : DP_ERR_IO,
                            PATH_SHOWN ": %s", path, strerror(errno));
    int result = read_open(fd, text, secret, path, error);
    close(fd);
    return result;
}

static int parse_chain(dp_tls_server *server, const char *text, const char *path, dp_file_error *error)
{
    int ret = mbedtls_x509_crt_parse(&server->chain, (const unsigned char *)text, strlen(text) + 1);
    if (ret == MBEDTLS_ERR_X509_ALLOC_FAILED)
        return dp_file_fail(error, DP_ERR_NO_MEMORY, "%s", dp_strerror(DP_ERR_NO_MEMORY));
    if (ret != 0) /* above 0: so many of them could not be read */
        return dp_file_fail(error, DP_ERR_MALFORMED,
                            PATH_SHOWN " holds no certificates (PEM) that can be read (-0x%04x)", path,
                            ret < 0 ? (unsigned)-ret : 0);
    size_t count = 0;
    for (const mbedtls_x509_crt *crt = &server->chain; crt != NULL; crt = crt->next)
        count++;
    if (count > CHAIN_MAX)
        return dp_file_fail(error, DP_ERR_TOO_LARGE,
                            PATH_SHOWN
                            " holds %zu certificates: the server's and those up to its authority's suffice",
                            path, count);
    if (mbedtls_x509_time_is_past(&server->chain.valid_to))
        DP_LOG(&server->log, DP_LOG_WARN, "net", "the certificate in %s has expired: clients will refuse it",
               path);
    return DP_OK;
}

static int parse_key(dp_tls_server *server, const char *text, const char *path, const char *certificate_path,
                     dp_file_error *error)
{
    int ret = dp_mbedtls_parse_key(&server->key, text, dp_tls_give_random, &server->random);
    if (ret == MBEDTLS_ERR_PK_PASSWORD_REQUIRED || ret == MBEDTLS_ERR_PK_PASSWORD_MISMATCH)
        return dp_file_fail(error, DP_ERR_MALFORMED,
                            PATH_SHOWN " wants a password: 'openssl pkey' can write the key without one",
                            path);
    if (ret == MBEDTLS_ERR_PK_ALLOC_FAILED)
        return dp_file_fail(error, DP_ERR_NO_MEMORY, "%s", dp_strerror(DP_ERR_NO_MEMORY));
    if (ret != 0)
        return dp_file_fail(error, DP_ERR_MALFORMED,
                            PATH_SHOWN " holds no private key (PEM) that can be read (-0x%04x)", path,
                            (unsigned)-ret);
    if (dp_mbedtls_check_pair(&server->chain.pk, &server->key, dp_tls_give_random, &server->random) != 0)
        return dp_file_fail(error, DP_ERR_MALFORMED,
                            "the key in %.200s is not that of the first certificate in %.200s", path,
                            certificate_path);
    return DP_OK;
}

/* mbedTLS 2.28 makes a table of the generator's multiples anew for each signature with a key of type ECKEY, which is what it
 * parses: half of what the signature costs. A key of type ECDSA keeps it. Without memory the key stays as it is. */
static void keep_table(mbedtls_pk_context *key)
{
    mbedtls_pk_context ecdsa;
    if (mbedtls_pk_get_type(key) != MBEDTLS_PK_ECKEY)
        return;
    mbedtls_pk_init(&ecdsa);
    if (mbedtls_pk_setup(&ecdsa, mbedtls_pk_info_from_type(MBEDTLS_PK_ECDSA)) == 0 &&
        mbedtls_ecdsa_from_keypair(mbedtls_pk_ec(ecdsa), mbedtls_pk_ec(*key)) == 0) {
        mbedtls_pk_free(key);
        *key = ecdsa;
    } else {
        mbedtls_pk_free(&ecdsa);
    }
}

static int load(dp_tls_server *server, const dp_tls_server_config *config, dp_file_error *error)
{
    char *text = dp_alloc(FILE_MAX + 1);
    if (text == NULL)
        return dp_file_fail(error, DP_ERR_NO_MEMORY, "%s", dp_strerror(DP_ERR_NO_MEMORY));
    int result = read_file(text, false, config->certificate_file, error);
    if (result == DP_OK)
        result = parse_chain(server, text, config->certificate_file, error);
    if (result == DP_OK)
        result = read_file(text, true, config->key_file, error);
    if (result == DP_OK)
        result = parse_key(server, text, config->key_file, config->certificate_file, error);
    if (result == DP_OK)
        keep_table(&server->key);
    dp_wipe(text, FILE_MAX + 1);
    dp_free(text);
    return result;
}

/* ---- construction ------------------------------------------------------------------------------------ */

static int configure(dp_tls_server *server, dp_file_error *error)
{
    int result = dp_tls_configure(&server->conf, MBEDTLS_SSL_IS_SERVER, &server->random);
    mbedtls_ssl_conf_authmode(&server->conf, MBEDTLS_SSL_VERIFY_NONE);
    if (result == DP_OK && mbedtls_ssl_conf_own_cert(&server->conf, &server->chain, &server->key) != 0)
        result = DP_ERR_NO_MEMORY;
    return result == DP_OK ? DP_OK : dp_file_fail(error, result, "%s", dp_strerror(result));
}

static int limit_rate(dp_tls_server *server, const dp_tls_server_config *config, dp_file_error *error)
{
    if (config->handshake_rate == 0)
        return DP_OK;
    uint64_t seed = 0;
    int result = dp_random_bytes(&config->random, (uint8_t *)&seed, sizeof(seed));
    if (result == DP_OK && (server->rate = dp_alloc(sizeof(*server->rate))) == NULL)
        result = DP_ERR_NO_MEMORY;
    if (result != DP_OK)
        return dp_file_fail(error, result, "%s", dp_strerror(result));
    const dp_rate rate = {config->handshake_rate, config->handshake_burst != 0 ? config->handshake_burst
                                                                               : config->handshake_rate * 10};
    dp_rate_table_init(server->rate, &rate, seed);
    return DP_OK;
}

int dp_tls_server_new(dp_tls_server **out, const dp_tls_server_config *given, dp_file_error *error)
{
    dp_tls_server_config read = {0};
    const dp_tls_server_config *config = &read;
    if (!DP_CONFIG_READ(&read, given, dp_tls_server_config, log) || config->certificate_file == NULL ||
        config->key_file == NULL || config->random.fn == NULL)
        return dp_file_fail(error, DP_ERR_INVALID_ARGUMENT, "%s", dp_strerror(DP_ERR_INVALID_ARGUMENT));
    dp_tls_server *server = dp_calloc(1, sizeof(*server));
    if (server == NULL)
        return dp_file_fail(error, DP_ERR_NO_MEMORY, "%s", dp_strerror(DP_ERR_NO_MEMORY));
    mbedtls_ssl_config_init(&server->conf);
    mbedtls_x509_crt_init(&server->chain);
    mbedtls_pk_init(&server->key);
    server->users = 1;
    server->random.source = config->random;
    server->keys = (tls_keys){.key_log = config->key_log, .log = config->log};
    server->log = config->log;
    server->handshake_timeout = config->handshake_timeout != 0 ? config->handshake_timeout : DEFAULT_TIMEOUT;
    server->max_handshakes = config->max_handshakes != 0 ? config->max_handshakes : DEFAULT_HANDSHAKES;
    server->newest = &server->oldest;
    int result = limit_rate(server, config, error);
    if (result == DP_OK)
        result = load(server, config, error);
    if (result == DP_OK)
        result = configure(server, error);
    if (result != DP_OK) {
        dp_tls_server_free(server);
        return result;
    }
    *out = server;
    return DP_OK;
}

void dp_tls_server_free(dp_tls_server *server)
{
    if (server == NULL || --server->users > 0)
        return;
    mbedtls_ssl_config_free(&server->conf);
    mbedtls_x509_crt_free(&server->chain);
    mbedtls_pk_free(&server->key);
    dp_free(server->rate);
    dp_free(server);
}

dp_tls_server *dp_tls_server_hold(dp_tls_server *server)
{
    server->users++;
    return server;
}

dp_duration dp_tls_server_timeout(const dp_tls_server *server) { return server->handshake_timeout; }

bool dp_tls_server_admits(dp_tls_server *server, const dp_address *remote, dp_time now)
{
    return server->rate == NULL || dp_rate_table_take(server->rate, remote, now);
}

int dp_tls_accept(dp_tls **out, dp_tls_server *server)
{
    dp_tls *tls = dp_calloc(1, sizeof(*tls));
    if (tls == NULL)
        return DP_ERR_NO_MEMORY;
    tls->server = dp_tls_server_hold(server);
    tls->random = &server->random;
    tls->log = server->log;
    tls->name = "the client";
    int error = dp_tls_set_up(tls, &server->conf, &server->keys);
    if (error != DP_OK) {
        dp_tls_free(tls);
        return error;
    }
    *out = tls;
    return DP_OK;
}

/* ---- handshakes under way ---------------------------------------------------------------------------- */

void dp_tls_server_enter(dp_tls_server *server, dp_tls_waiter *waiter)
{
    if (server->handshakes == server->max_handshakes) {
        dp_tls_waiter *oldest = server->oldest;
        dp_tls_server_leave(server, oldest);
        oldest->drop(oldest->user);
    }
    waiter->next = NULL;
    waiter->at = server->newest;
    *server->newest = waiter;
    server->newest = &waiter->next;
    server->handshakes++;
}

void dp_tls_server_leave(dp_tls_server *server, dp_tls_waiter *waiter)
{
    if (waiter->at == NULL)
        return;
    *waiter->at = waiter->next;
    if (waiter->next != NULL)
        waiter->next->at = waiter->at;
    else
        server->newest = waiter->at;
    waiter->at = NULL;
    server->handshakes--;
}
