#include "net/authorities.h"

#include "base/mem.h"
#include "net/loop.h"
#include <string.h>
#include <sys/stat.h>

enum { FILE_MAX = 16 << 20 }; /* the system's has 0.2 MB */

/* One parsed file of authorities. Reading the system's 140 takes 8 ms and half a megabyte: all streams of a loop
 * share it, and it stays until the loop goes or the file is another one. */
struct dp_tls_authorities {
    struct dp_tls_authorities *next;
    char *path;
    struct stat stat;
    size_t users;
    mbedtls_x509_crt chain;
};
typedef dp_tls_authorities authorities;

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

/* The first one that there is. */
static const char *system_file(struct stat *now)
{
    static const char *const paths[] = {
        "/etc/ssl/certs/ca-certificates.crt",                /* Debian, Arch, Gentoo */
        "/etc/pki/tls/certs/ca-bundle.crt",                  /* Fedora and its kin */
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", /* the same, newer */
        "/etc/ssl/ca-bundle.pem",                            /* openSUSE */
        "/etc/ssl/cert.pem",                                 /* Alpine, OpenWrt, BSDs */
    };
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        if (stat(paths[i], now) == 0)
            return paths[i];
    return NULL;
}

static int read_list(authorities **out, const char *path, const struct stat *now)
{
    authorities *list = dp_calloc(1, sizeof(*list));
    if (list == NULL)
        return DP_ERR_NO_MEMORY;
    mbedtls_x509_crt_init(&list->chain);
    list->path = dp_strdup(path);
    list->stat = *now;
    /* How many of them it does not understand; one of a kind that it does not know must not hinder the others. */
    int ret =
        list->path != NULL ? mbedtls_x509_crt_parse_file(&list->chain, path) : MBEDTLS_ERR_X509_ALLOC_FAILED;
    if (ret < 0) {
        authorities_free(list);
        return ret == MBEDTLS_ERR_X509_ALLOC_FAILED ? DP_ERR_NO_MEMORY : DP_ERR_IO;
    }
    *out = list;
    return DP_OK;
}

int dp_tls_authorities_get(authorities **out, dp_loop *loop, const char *path)
{
    struct stat now;
    if (path == NULL)
        path = system_file(&now);
    else if (stat(path, &now) != 0)
        path = NULL;
    if (path == NULL || !S_ISREG(now.st_mode) || now.st_size > FILE_MAX) /* a FIFO would block */
        return DP_ERR_IO;
    authorities *list = find(loop, path, &now);
    if (list == NULL) {
        int error = read_list(&list, path, &now);
        if (error != DP_OK)
            return error;
        list->next = loop->authorities;
        loop->authorities = list;
    }
    list->users++;
    *out = list;
    return DP_OK;
}

void dp_tls_authorities_put(authorities *list)
{
    if (list != NULL)
        list->users--;
}

mbedtls_x509_crt *dp_tls_authorities_chain(authorities *list) { return &list->chain; }
