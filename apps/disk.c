/* Every path is opened with openat2(RESOLVE_BENEATH): the kernel itself keeps the walk under the root,
 * whatever symbolic links are there or are swapped while it walks. */
#include "disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_ENTRIES = 10000 }; /* of one listing; more are left out and "truncated" says so */

struct disk {
    int root;
};

static int open_beneath(const disk *d, const char *path, int flags)
{
    /* O_NONBLOCK: opening a FIFO must not wait for a writer. O_PATH knows no other flags. */
    int all = O_CLOEXEC | ((flags & O_PATH) != 0 ? 0 : O_NOCTTY | O_NONBLOCK);
    struct open_how how = {.flags = (unsigned)(flags | all),
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    for (int tries = 0;; tries++) {
        long fd = syscall(SYS_openat2, d->root, path, &how, sizeof(how));
        /* EAGAIN: something was renamed during the walk and the kernel could not be sure. */
        if (fd >= 0 || errno != EAGAIN || tries == 16)
            return (int)fd;
    }
}

int disk_open(disk **out, const char *root)
{
    disk *d = malloc(sizeof(*d));
    if (d == NULL)
        return DP_ERR_NO_MEMORY;
    d->root = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int error = d->root < 0 ? DP_ERR_IO : DP_OK;
    if (error == DP_OK) {
        int probe = open_beneath(d, ".", O_RDONLY | O_DIRECTORY);
        if (probe < 0)
            error = errno == ENOSYS ? DP_ERR_UNSUPPORTED : DP_ERR_IO;
        else
            close(probe);
    }
    if (error != DP_OK) {
        int saved = errno;
        disk_close(d);
        errno = saved;
        return error;
    }
    *out = d;
    return DP_OK;
}

void disk_close(disk *d)
{
    if (d == NULL)
        return;
    if (d->root >= 0)
        close(d->root);
    free(d);
}

/* ---- paths ---- */

/* The page's path ("", "/", "a/b", "/a/b") as one under the root. NULL and errno if it can't be one. */
static const char *clean_path(const dp_value *body)
{
    size_t len = 0;
    const dp_value *value = dp_value_get(body, "path");
    const char *path = dp_value_get_type(value) == DP_VALUE_NULL ? "" : dp_value_get_string(value, &len);
    if (path == NULL || strlen(path) != len) { /* no string, or a NUL inside */
        errno = EINVAL;
        return NULL;
    }
    if (len >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    while (*path == '/')
        path++;
    /* RESOLVE_BENEATH allows ".." that stays inside; nobody needs it, and refusing it is one thing less to
     * think about. */
    for (const char *at = path; *at != '\0';) {
        size_t n = strcspn(at, "/");
        if (n == 2 && at[0] == '.' && at[1] == '.') {
            errno = EACCES;
            return NULL;
        }
        at += n + strspn(at + n, "/");
    }
    return *path == '\0' ? "." : path;
}

static void fail_errno(dp_call *call, int number)
{
    switch (number) {
    case ENOENT:
    case ENOTDIR:
        dp_call_fail(call, 404, "no such file or folder");
        break;
    case EACCES:
    case EPERM:
    case EXDEV: /* RESOLVE_BENEATH: leads outside */
    case ELOOP:
        dp_call_fail(call, 403, "access denied");
        break;
    case EINVAL:
        dp_call_fail(call, 400, "path must be a text without NUL");
        break;
    case ENAMETOOLONG:
        dp_call_fail(call, 400, "the path is too long");
        break;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        dp_call_fail(call, 503, "the device is busy, try again later");
        break;
    default:
        dp_call_fail(call, 500, strerror(number));
        break;
    }
}

/* ---- fs.stat and fs.list ---- */

static const char *type_name(mode_t mode)
{
    return S_ISREG(mode) ? "file" : S_ISDIR(mode) ? "directory" : "other";
}

static dp_value *describe(const char *name, const struct stat *st)
{
    dp_value *entry = dp_value_map();
    int64_t mtime;
    if (__builtin_mul_overflow(st->st_mtim.tv_sec, INT64_C(1000), &mtime) ||
        __builtin_add_overflow(mtime, st->st_mtim.tv_nsec / 1000000, &mtime))
        mtime = 0; /* tmpfs and others keep any number that a person sets */
    if (entry == NULL)
        return NULL;
    int error = dp_value_set(entry, "name", dp_value_string(name)); /* fails for a name that is no UTF-8 */
    if (error == DP_OK)
        error = dp_value_set(entry, "type", dp_value_string(type_name(st->st_mode)));
    if (error == DP_OK)
        error = dp_value_set(entry, "size", dp_value_int(S_ISREG(st->st_mode) ? (int64_t)st->st_size : 0));
    if (error == DP_OK)
        error = dp_value_set(entry, "mtime", dp_value_int(mtime));
    if (error == DP_OK)
        return entry;
    dp_value_free(entry);
    return NULL;
}

static void fs_stat(void *user, dp_call *call)
{
    const disk *d = user;
    const char *path = clean_path(dp_call_body(call));
    int fd = path == NULL ? -1 : open_beneath(d, path, O_PATH);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        int number = errno;
        if (fd >= 0)
            close(fd);
        fail_errno(call, number);
        return;
    }
    close(fd);
    const char *slash = strrchr(path, '/');
    dp_value *entry = describe(slash != NULL ? slash + 1 : path, &st);
    if (entry == NULL)
        dp_call_fail(call, 500, "the name can't be shown");
    else
        dp_call_reply(call, entry);
}

/* What a symbolic link leads to, if that is inside; else the link itself ("other"). */
static int stat_entry(const disk *d, int folder, const char *path, const char *name, struct stat *st)
{
    if (fstatat(folder, name, st, AT_SYMLINK_NOFOLLOW) != 0)
        return -1;
    if (!S_ISLNK(st->st_mode))
        return 0;
    char full[PATH_MAX];
    int n = snprintf(full, sizeof(full), "%s/%s", path, name);
    int fd = n > 0 && (size_t)n < sizeof(full) ? open_beneath(d, full, O_PATH) : -1;
    if (fd >= 0) {
        struct stat target;
        if (fstat(fd, &target) == 0)
            *st = target;
        close(fd);
    }
    return 0;
}

/* *unnamed: how many have names that no text can hold (no UTF-8). */
static dp_value *list_entries(const disk *d, DIR *dir, const char *path, bool *truncated, int64_t *unnamed)
{
    dp_value *entries = dp_value_array();
    for (struct dirent *item; entries != NULL && (item = readdir(dir)) != NULL;) {
        struct stat st;
        if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0)
            continue;
        if (dp_value_count(entries) == MAX_ENTRIES) {
            *truncated = true;
            break;
        }
        if (stat_entry(d, dirfd(dir), path, item->d_name, &st) != 0)
            continue; /* gone meanwhile */
        dp_value *entry = describe(item->d_name, &st);
        if (entry == NULL) {
            (*unnamed)++;
        } else if (dp_value_push(entries, entry) != DP_OK) {
            dp_value_free(entries);
            return NULL;
        }
    }
    return entries;
}

static void fs_list(void *user, dp_call *call)
{
    const disk *d = user;
    const char *path = clean_path(dp_call_body(call));
    int fd = path == NULL ? -1 : open_beneath(d, path, O_RDONLY | O_DIRECTORY);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        int number = errno;
        if (fd >= 0)
            close(fd);
        fail_errno(call, number);
        return;
    }
    bool truncated = false;
    int64_t unnamed = 0;
    dp_value *answer = dp_value_map();
    int error = answer == NULL
                    ? DP_ERR_NO_MEMORY
                    : dp_value_set(answer, "path", dp_value_string(strcmp(path, ".") == 0 ? "" : path));
    if (error == DP_OK)
        error = dp_value_set(answer, "entries", list_entries(d, dir, path, &truncated, &unnamed));
    if (error == DP_OK && truncated)
        error = dp_value_set(answer, "truncated", dp_value_bool(true));
    if (error == DP_OK && unnamed > 0)
        error = dp_value_set(answer, "unnamed", dp_value_int(unnamed));
    closedir(dir);
    if (error != DP_OK) {
        dp_value_free(answer);
        dp_call_fail(call, 500, dp_strerror(error));
    } else {
        dp_call_reply(call, answer);
    }
}

/* ---- fs.read ---- */

typedef struct reading {
    int fd;
    uint64_t at;
    uint64_t left;
} reading;

static int read_piece(void *user, uint8_t *out, size_t capacity, size_t *len)
{
    reading *r = user;
    size_t want = r->left < capacity ? (size_t)r->left : capacity;
    ssize_t n = want == 0 ? 0 : pread(r->fd, out, want, (off_t)r->at);
    if (n < 0)
        return errno == EINTR ? read_piece(user, out, capacity, len) : DP_ERR_IO;
    if (n == 0 && want > 0)
        return DP_ERR_TRUNCATED; /* the file became shorter: an error at the reader, no false end */
    r->at += (uint64_t)n;
    r->left -= (uint64_t)n;
    *len = (size_t)n;
    return DP_OK;
}

static void end_reading(void *user, int error)
{
    reading *r = user;
    (void)error;
    close(r->fd);
    free(r);
}

/* A whole number >= 0 from the body, or the fallback if it is absent; false for anything else. */
static bool whole_number(const dp_value *body, const char *name, uint64_t fallback, uint64_t *out)
{
    const dp_value *value = dp_value_get(body, name);
    *out = fallback;
    if (dp_value_get_type(value) == DP_VALUE_NULL)
        return true;
    int64_t n = dp_value_get_int(value, -1);
    *out = (uint64_t)n;
    return n >= 0;
}

static void fs_read(void *user, dp_call *call)
{
    const disk *d = user;
    const dp_value *body = dp_call_body(call);
    uint64_t offset, length;
    if (!whole_number(body, "offset", 0, &offset) || !whole_number(body, "length", INT64_MAX, &length)) {
        dp_call_fail(call, 400, "offset and length must be whole numbers from 0 on");
        return;
    }
    const char *path = clean_path(body);
    int fd = path == NULL ? -1 : open_beneath(d, path, O_RDONLY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        int number = errno;
        if (fd >= 0)
            close(fd);
        fail_errno(call, number == ENXIO ? EACCES : number); /* ENXIO: a socket, a FIFO */
        return;
    }
    uint64_t size = (uint64_t)st.st_size;
    reading *r = NULL;
    if (!S_ISREG(st.st_mode))
        dp_call_fail(call, 403, S_ISDIR(st.st_mode) ? "this is a folder" : "only files can be read");
    else if (offset > size)
        dp_call_fail(call, 416, "offset is past the end of the file");
    else if ((r = malloc(sizeof(*r))) == NULL)
        dp_call_fail(call, 503, dp_strerror(DP_ERR_NO_MEMORY));
    if (r == NULL) {
        close(fd);
        return;
    }
    *r = (reading){fd, offset, length < size - offset ? length : size - offset};
    dp_stream stream = {
        .size = sizeof(stream), .read = read_piece, .on_end = end_reading, .user = r, .total = r->left};
    dp_call_stream(call, &stream);
}

int disk_register(disk *d, dp_router *router)
{
    int error = dp_router_register(router, "fs.list", fs_list, d);
    if (error == DP_OK)
        error = dp_router_register(router, "fs.stat", fs_stat, d);
    return error == DP_OK ? dp_router_register(router, "fs.read", fs_read, d) : error;
}
