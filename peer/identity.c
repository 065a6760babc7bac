/* A certificate that is kept in a file, so that its fingerprint stays. */
#include <datapeer/peer.h>

#include "base/mem.h"
#include <stdio.h>
#include <string.h>

/* Ours take 800 bytes; one of another program may have a chain behind it. */
enum { PEM_MAX = 16384 };

static int explain(dp_file_error *error, int result, const char *path, const char *pem, size_t len)
{
    const char *what = "holds a private key and a certificate that can't be read or don't belong together";
    if (result == DP_ERR_UNSUPPORTED)
        what = "holds a key that is not of the kind ECDSA P-256";
    else if (len == 0)
        what = "is empty";
    else if (strstr(pem, "PRIVATE KEY-----") == NULL)
        what = "holds no private key (PEM)";
    else if (strstr(pem, "-----BEGIN CERTIFICATE-----") == NULL)
        what = "holds no certificate (PEM)";
    if (result == DP_ERR_UNSUPPORTED || result == DP_ERR_MALFORMED)
        snprintf(error->message, sizeof(error->message),
                 "%.300s %s: move it away, and a new one is made, with another fingerprint", path, what);
    else
        snprintf(error->message, sizeof(error->message), "%.300s: %s", path, dp_strerror(result));
    return result;
}

static int read_certificate(dp_certificate **out, const char *path, dp_file_error *error)
{
    char pem[PEM_MAX + 1];
    size_t len;
    int result = dp_secret_file_read((uint8_t *)pem, PEM_MAX, &len, path, error);
    if (result == DP_OK) {
        pem[len] = '\0';
        result = strlen(pem) == len ? dp_certificate_from_pem(out, pem) : DP_ERR_MALFORMED;
        if (result != DP_OK)
            result = explain(error, result, path, pem, len);
    }
    dp_wipe(pem, sizeof(pem));
    return result;
}

static int make_certificate(dp_certificate **out, const char *path, const dp_random *random,
                            dp_file_error *error)
{
    char pem[PEM_MAX];
    dp_certificate *made = NULL;
    int result = dp_certificate_generate_for(&made, random, dp_clock_unix(), DP_CERTIFICATE_DAYS_MAX);
    if (result == DP_OK)
        result = dp_certificate_to_pem(made, pem, sizeof(pem));
    if (result != DP_OK)
        snprintf(error->message, sizeof(error->message), "no certificate can be made: %s",
                 dp_strerror(result));
    else
        result = dp_secret_file_create(path, pem, strlen(pem), error);
    dp_wipe(pem, sizeof(pem));
    if (result == DP_OK)
        *out = made;
    else
        dp_certificate_free(made);
    return result;
}

int dp_certificate_keep(dp_certificate **out, const char *path, const dp_random *random, dp_file_error *error)
{
    int result = read_certificate(out, path, error);
    if (result != DP_ERR_NOT_FOUND)
        return result;
    result = make_certificate(out, path, random, error);
    if (result == DP_ERR_EXISTS) /* another process was faster */
        result = read_certificate(out, path, error);
    return result;
}
