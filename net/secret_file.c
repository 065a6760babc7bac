/* Files that hold a secret: read only if nobody else can have read or changed them, made whole or not at all. */
#include <datapeer/net.h>

#include "base/mem.h"
#include "net/file_error.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int dp_file_fail(dp_file_error *error, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error->message, sizeof(error->message), format, args);
    va_end(args);
    return code;
}

/* ---- reading ---- */

/* O_NONBLOCK: nobody may ever write to a FIFO. */
static int open_secret(int *fd, const char *path, dp_file_error *error)
{
    *fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (*fd >= 0)
        return DP_OK;
    switch (errno) {
    case ENOENT:
        return dp_file_fail(error, DP_ERR_NOT_FOUND, PATH_SHOWN ": there is no such file", path);
    case ELOOP:
        return dp_file_fail(error, DP_ERR_DENIED, PATH_SHOWN " is a symbolic link: name the file itself",
                            path);
    case ENXIO:
        return dp_file_fail(error, DP_ERR_DENIED, PATH_SHOWN " is no plain file", path);
    case EACCES:
        return dp_file_fail(error, DP_ERR_DENIED,
                            PATH_SHOWN " can't be read: run as the user who owns it, or chmod 600 it", path);
    default:
        return dp_file_fail(error, DP_ERR_IO, PATH_SHOWN ": %s", path, strerror(errno));
    }
}

static int check(const struct stat *st, size_t capacity, const char *path, dp_file_error *error)
{
    if (S_ISDIR(st->st_mode))
        return dp_file_fail(error, DP_ERR_DENIED, PATH_SHOWN " is a folder: name a file in it", path);
    if (!S_ISREG(st->st_mode))
        return dp_file_fail(error, DP_ERR_DENIED, PATH_SHOWN " is no plain file", path);
    if (st->st_uid != geteuid())
        return dp_file_fail(error, DP_ERR_DENIED,
                            PATH_SHOWN
                            " belongs to another user (%u), who can change it: run as that user, or chown it",
                            path, (unsigned)st->st_uid);
    if ((st->st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return dp_file_fail(error, DP_ERR_DENIED,
                            PATH_SHOWN
                            " is open to other users (mode %03o), and it holds a secret: chmod 600 it",
                            path, (unsigned)st->st_mode & 0777u);
    if (st->st_size < 0 || (uint64_t)st->st_size > capacity)
        return dp_file_fail(error, DP_ERR_TOO_LARGE, PATH_SHOWN " has %lld bytes, and at most %zu make sense",
                            path, (long long)st->st_size, capacity);
    return DP_OK;
}

/* What the descriptor shows is checked, not what the path may show a moment later. */
static int read_checked(int fd, uint8_t *out, size_t capacity, size_t *len, const char *path,
                        dp_file_error *error)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return dp_file_fail(error, DP_ERR_IO, PATH_SHOWN ": %s", path, strerror(errno));
    int result = check(&st, capacity, path, error);
    for (*len = 0; result == DP_OK && *len < capacity;) {
        ssize_t n = read(fd, out + *len, capacity - *len);
        if (n == 0)
            break;
        if (n > 0)
            *len += (size_t)n;
        else if (errno != EINTR)
            result = dp_file_fail(error, DP_ERR_IO, PATH_SHOWN ": %s", path, strerror(errno));
    }
    return result;
}

int dp_secret_file_read(uint8_t *out, size_t capacity, size_t *len, const char *path, dp_file_error *error)
{
    int fd;
    *len = 0;
    int result = open_secret(&fd, path, error);
    if (result != DP_OK)
        return result;
    result = read_checked(fd, out, capacity, len, path, error);
    close(fd);
    return result;
}

/* ---- making ---- */

/* Those of the folders above the file that are missing, for this user alone. */
static int make_folders(char *path, dp_file_error *error)
{
    int result = DP_OK;
    for (char *slash = strchr(path + 1, '/'); result == DP_OK && slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST)
            result = dp_file_fail(error, DP_ERR_IO, "the folder " PATH_SHOWN " can't be made: %s", path,
                                  strerror(errno));
        *slash = '/';
    }
    return result;
}

static bool write_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return true;
}

/* After a power cut the file's name is there as well. */
static void sync_folder(char *path)
{
    char *slash = strrchr(path, '/');
    if (slash != NULL)
        slash[slash == path] = '\0'; /* the root keeps its own */
    int fd = open(slash != NULL ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
}

/* Nobody ever sees a part of the file, and link() gives its name to one process only: the first. */
static int make_file(char *temporary, const char *path, const void *data, size_t len, dp_file_error *error)
{
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return dp_file_fail(error, DP_ERR_IO, PATH_SHOWN " can't be made: %s", path, strerror(errno));
    /* mkostemp's 0600 less the umask. */
    bool made =
        fchmod(fd, 0600) == 0 && write_all(fd, data, len) && fsync(fd) == 0 && link(temporary, path) == 0;
    int reason = errno;
    close(fd);
    (void)unlink(temporary);
    if (made)
        sync_folder(temporary);
    else if (reason == EEXIST)
        return dp_file_fail(error, DP_ERR_EXISTS, PATH_SHOWN " is there already", path);
    else
        return dp_file_fail(error, DP_ERR_IO, PATH_SHOWN " can't be written: %s", path, strerror(reason));
    return DP_OK;
}

int dp_secret_file_create(const char *path, const void *data, size_t len, dp_file_error *error)
{
    size_t capacity = strlen(path) + sizeof(".XXXXXX");
    char *temporary = dp_alloc(capacity);
    if (temporary == NULL)
        return dp_file_fail(error, DP_ERR_NO_MEMORY, "%s", dp_strerror(DP_ERR_NO_MEMORY));
    snprintf(temporary, capacity, "%s.XXXXXX", path);
    int result = make_folders(temporary, error);
    if (result == DP_OK)
        result = make_file(temporary, path, data, len, error);
    dp_free(temporary);
    return result;
}
