#include "page.h"

#include "app.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Only what comes from here: no script, style or picture of another place, none in the page's own text, and no
 * connection but to this PeerServer; data channels are not the policy's business. */
static const char policy[] = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
                             "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
                             "frame-ancestors 'none'";

typedef struct entry {
    char *path; /* as it is asked for: "/disk/app.js" */
    const char *body;
    char *own; /* the body, if it is to be freed */
    size_t len;
    const char *type;
    char etag[67]; /* SHA-256 in quotation marks */
} entry;

struct page {
    size_t mount_len;
    char *mount;                       /* ends with its slash */
    entry entries[PAGE_FILES_MAX + 1]; /* config.json is one more */
    size_t count;
};

static const char *type_of(const char *name)
{
    static const struct {
        const char *extension, *type;
    } types[] = {
        {".html", "text/html; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".mjs", "text/javascript; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".json", "application/json; charset=utf-8"},
        {".txt", "text/plain; charset=utf-8"},
        {".svg", "image/svg+xml"},
        {".png", "image/png"},
        {".jpg", "image/jpeg"},
        {".ico", "image/x-icon"},
        {".webp", "image/webp"},
        {".woff2", "font/woff2"},
        {".webmanifest", "application/manifest+json"},
    };
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot != NULL && i < sizeof(types) / sizeof(types[0]); i++)
        if (strcmp(dot, types[i].extension) == 0)
            return types[i].type;
    return "application/octet-stream";
}

/* ---- entries --------------------------------------------------------------------------------------- */

static int make_etag(char etag[67], const char *body, size_t len)
{
    dp_sha256_hash *hash;
    char hex[65];
    int error = dp_sha256_new(&hash);
    if (error == DP_OK && (error = dp_sha256_update(hash, body, len)) != DP_OK)
        dp_sha256_free(hash);
    if (error == DP_OK)
        error = dp_sha256_finish(hash, hex);
    if (error == DP_OK)
        snprintf(etag, 67, "\"%s\"", hex);
    return error;
}

/* own: body is the page's from now on, also after an error. */
static int add(page *p, const char *name, const char *body, char *own, size_t len)
{
    entry *e = &p->entries[p->count];
    size_t size = p->mount_len + strlen(name) + 1;
    *e = (entry){.path = malloc(size), .body = body, .own = own, .len = len, .type = type_of(name)};
    p->count++; /* page_free does the rest */
    if (e->path == NULL)
        return DP_ERR_NO_MEMORY;
    snprintf(e->path, size, "%s%s", p->mount, name);
    return make_etag(e->etag, body, len);
}

static const entry *find(const page *p, const char *path)
{
    for (size_t i = 0; i < p->count; i++)
        if (strcmp(path, p->entries[i].path) == 0)
            return &p->entries[i];
    return NULL;
}

bool page_find(void *ctx, const char *path, dp_signal_file *file)
{
    const page *p = ctx;
    const entry *e = strcmp(path, p->mount) == 0 ? &p->entries[0] : find(p, path);
    if (e == NULL)
        return false;
    *file = (dp_signal_file){.body = e->body, .len = e->len, .type = e->type, .etag = e->etag, .csp = policy};
    return true;
}

/* ---- a folder's files ---------------------------------------------------------------------------------- */

static bool fail(const char *folder, const char *name, const char *why)
{
    app_error("--page %s%s%s: %s", folder, name[0] != '\0' ? "/" : "", name, why);
    return false;
}

/* All of a file that fstat has measured; one that changes meanwhile is read as it is. NULL: errno. */
static char *read_all(int fd, size_t *len)
{
    char *body = malloc(PAGE_FILE_MAX + 1);
    ssize_t n = 1;
    for (*len = 0; body != NULL && *len <= PAGE_FILE_MAX && n > 0; *len += n > 0 ? (size_t)n : 0)
        n = read(fd, body + *len, PAGE_FILE_MAX + 1 - *len);
    if (n < 0 || (body != NULL && *len > PAGE_FILE_MAX)) {
        int number = n < 0 ? errno : EFBIG;
        free(body);
        errno = number;
        return NULL;
    }
    char *fitting = body != NULL ? realloc(body, *len + 1) : NULL;
    return fitting != NULL ? fitting : body;
}

/* Plain files only: no link leads elsewhere, no FIFO makes us wait. */
static bool add_file(page *p, const char *folder, int dir, const char *name)
{
    struct stat st;
    size_t len;
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 && errno == ELOOP)
        return true;
    if (fd < 0)
        return fail(folder, name, strerror(errno));
    bool plain = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    char *body = plain ? read_all(fd, &len) : NULL;
    int number = errno;
    close(fd);
    if (plain && body == NULL)
        return fail(folder, name, strerror(number));
    int error = plain ? add(p, name, body, body, len) : DP_OK;
    return error == DP_OK || fail(folder, name, dp_strerror(error));
}

static bool read_folder(page *p, const char *folder)
{
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return fail(folder, "", strerror(errno));
    bool good = add_file(p, folder, dirfd(dir), "index.html") &&
                (p->count == 1 || fail(folder, "", "index.html is no plain file"));
    for (const struct dirent *item; good && (item = readdir(dir)) != NULL;) {
        bool wanted = item->d_name[0] != '.' && strcmp(item->d_name, "index.html") != 0 &&
                      strcmp(item->d_name, "config.json") != 0;
        if (wanted && p->count == PAGE_FILES_MAX)
            good = fail(folder, "", "a page has at most 64 files");
        else if (wanted)
            good = add_file(p, folder, dirfd(dir), item->d_name);
    }
    closedir(dir);
    return good;
}

/* ---- the page ------------------------------------------------------------------------------------------- */

bool page_is_embedded(void) { return page_files[0].name != NULL; }

static int add_embedded(page *p)
{
    int error = DP_OK;
    for (const page_file *f = page_files; f->name != NULL && error == DP_OK; f++)
        error = add(p, f->name, f->body, NULL, (size_t)(f->end - f->body));
    return error;
}

static int add_config(page *p, const dp_value *config)
{
    char *text = NULL;
    size_t len = 0;
    int error = dp_value_to_json(config, &text, &len);
    char *own = error == DP_OK ? strndup(text, len) : NULL;
    dp_free(text);
    if (error == DP_OK && own == NULL)
        error = DP_ERR_NO_MEMORY;
    return error == DP_OK ? add(p, "config.json", own, own, len) : error;
}

static page *page_new(const char *mount)
{
    page *p = calloc(1, sizeof(*p));
    size_t len = strlen(mount);
    bool slash = len > 0 && mount[len - 1] == '/';
    if (p == NULL)
        return NULL;
    p->mount_len = len + !slash;
    p->mount = malloc(p->mount_len + 1);
    if (p->mount == NULL) {
        free(p);
        return NULL;
    }
    snprintf(p->mount, p->mount_len + 1, "%s%s", mount, slash ? "" : "/");
    return p;
}

bool page_open(page **out, const char *folder, const char *mount, dp_value *config)
{
    page *p = config != NULL ? page_new(mount) : NULL;
    int error = p == NULL ? DP_ERR_NO_MEMORY : folder == NULL ? add_embedded(p) : DP_OK;
    bool told = error == DP_OK && folder != NULL && !read_folder(p, folder);
    if (error == DP_OK && !told)
        error = add_config(p, config);
    dp_value_free(config);
    if (error != DP_OK)
        app_error("the page can't be made ready: %s", dp_strerror(error));
    if (error != DP_OK || told) {
        page_free(p);
        return false;
    }
    *out = p;
    return true;
}

void page_free(page *p)
{
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->count; i++) {
        free(p->entries[i].path);
        free(p->entries[i].own);
    }
    free(p->mount);
    free(p);
}
