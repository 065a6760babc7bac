/* datapeer ls and get: the using side of the net disk. */
#include "app.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char ls_help[] =
    "Usage: datapeer ls ID[:PATH] [--server URL] [options]\n"
    "\n"
    "Lists a folder of the device ID: size, date and name of each entry, folders with a '/'.\n"
    "\n"
    "Example: datapeer ls my-pictures:holidays\n"
    "\n"
    "  -v, -vv, -vvv          say more on standard error\n";

static const char get_help[] =
    "Usage: datapeer get ID:PATH [-o FILE] [--server URL] [options]\n"
    "\n"
    "Downloads a file from the device ID into FILE (default: its own name, here; '-': standard output)\n"
    "and prints its SHA-256. FILE appears only when it is complete.\n"
    "\n"
    "Example: datapeer get my-pictures:holidays/beach.jpg\n"
    "\n"
    "  -o, --output FILE      where to write\n"
    "  -v, -vv, -vvv          say more on standard error\n";

typedef struct client {
    app app;
    char *device; /* the part before ':' */
    const char *path;
    bool get;
    bool asked;
    bool connected;
    bool done;
    int failure; /* the exit code if the connection ends too early */
    /* get: */
    const char *target;
    char *partial; /* the temporary name, NULL once it is renamed */
    int fd;
    int write_errno;
    dp_sha256_hash *hash;
    uint64_t received;
    uint64_t total; /* as the device says; UINT64_MAX: unknown */
    dp_time started;
    dp_time shown;
} client;

/* ---- ls ---- */

static void format_size(char out[16], uint64_t size)
{
    static const char units[] = "BKMGTPE";
    double value = (double)size;
    size_t unit = 0;
    for (; value >= 1000 && unit < sizeof(units) - 2; unit++)
        value /= 1024;
    if (unit == 0)
        snprintf(out, 16, "%llu", (unsigned long long)size);
    else
        snprintf(out, 16, "%.1f%c", value, units[unit]);
}

static void print_entries(const dp_value *context)
{
    const dp_value *entries = dp_value_get(dp_context_data(context), "entries");
    for (size_t i = 0; i < dp_value_count(entries); i++) {
        const dp_value *entry = dp_value_at(entries, i);
        const char *type = dp_value_get_string(dp_value_get(entry, "type"), NULL);
        bool folder = type != NULL && strcmp(type, "directory") == 0;
        time_t mtime = (time_t)(dp_value_get_int(dp_value_get(entry, "mtime"), 0) / 1000);
        char size[16] = "-";
        char date[32] = "?";
        struct tm tm;
        size_t len = 0;
        const char *name = dp_value_get_string(dp_value_get(entry, "name"), &len);
        if (!folder)
            format_size(size, dp_value_get_uint(dp_value_get(entry, "size"), 0));
        if (localtime_r(&mtime, &tm) != NULL)
            strftime(date, sizeof(date), "%Y-%m-%d %H:%M", &tm);
        printf("%8s  %s  ", size, date);
        app_print_safe(stdout, name != NULL ? name : "?", name != NULL ? len : 1);
        puts(folder ? "/" : "");
    }
    if (dp_value_get_bool(dp_value_get(dp_context_data(context), "truncated"), false))
        fputs("datapeer: there are more entries than the device lists\n", stderr);
    int64_t unnamed = dp_value_get_int(dp_value_get(dp_context_data(context), "unnamed"), 0);
    if (unnamed > 0)
        app_error("%lld more have names that are no UTF-8 and can't be reached", (long long)unnamed);
}

/* ---- get ---- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static int open_target(client *c)
{
    c->target = c->app.output != NULL ? c->app.output : base_name(c->path);
    if (c->app.output != NULL && strcmp(c->target, "-") == 0) {
        c->fd = STDOUT_FILENO;
        return EXIT_OK;
    }
    if (c->target[0] == '\0' || strcmp(c->target, ".") == 0 || strcmp(c->target, "..") == 0) {
        app_error("'%s' names no file; give ID:PATH of one, or -o FILE", c->path);
        return EXIT_USAGE;
    }
    struct stat known;
    if (stat(c->target, &known) == 0 && !S_ISREG(known.st_mode)) {
        /* A device or a pipe: written as it is, never replaced by a file. */
        c->fd = open(c->target, O_WRONLY | O_CLOEXEC);
    } else {
        size_t capacity = strlen(c->target) + sizeof(".part-XXXXXX");
        c->partial = malloc(capacity);
        if (c->partial == NULL)
            return EXIT_REMOTE;
        snprintf(c->partial, capacity, "%s.part-XXXXXX", c->target);
        c->fd = mkostemp(c->partial, O_CLOEXEC);
    }
    if (c->fd >= 0)
        return EXIT_OK;
    app_error("can't write to %s: %s", c->target, strerror(errno));
    free(c->partial);
    c->partial = NULL;
    return EXIT_REMOTE;
}

static void show_progress(client *c, bool last)
{
    dp_time now = dp_clock_now();
    if (!isatty(STDERR_FILENO) || (!last && now - c->shown < DP_MS(100)))
        return;
    c->shown = now;
    enum { WIDTH = 30 };
    char got[16], speed[16];
    double seconds = (double)(now - c->started) / 1e6;
    format_size(got, c->received);
    format_size(speed, seconds > 0 ? (uint64_t)((double)c->received / seconds) : 0);
    if (c->total == UINT64_MAX || c->total == 0) {
        fprintf(stderr, "\r%8s  %8s/s ", got, speed);
    } else {
        double part = (double)c->received / (double)c->total;
        part = part > 1 ? 1 : part;
        int filled = (int)(part * (double)WIDTH);
        fprintf(stderr, "\r[%.*s%*s] %3d%%  %8s  %8s/s ", filled, "##############################",
                WIDTH - filled, "", (int)(part * 100), got, speed);
    }
    if (last)
        fputc('\n', stderr);
}

static int on_piece(void *user, const uint8_t *data, size_t len, uint64_t total)
{
    client *c = user;
    for (size_t at = 0; at < len;) {
        ssize_t n = write(c->fd, data + at, len - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            c->write_errno = errno;
            return DP_ERR_IO;
        }
        at += (size_t)n;
    }
    c->received += len;
    c->total = total;
    show_progress(c, false);
    return dp_sha256_update(c->hash, data, len);
}

/* The complete file gets its name: whoever looks never sees a part of it. */
static bool keep_target(client *c)
{
    if (c->partial == NULL)
        return true;
    mode_t mask = umask(0);
    umask(mask);
    bool kept = fchmod(c->fd, 0666 & ~mask) == 0 && fsync(c->fd) == 0 && rename(c->partial, c->target) == 0;
    if (!kept) {
        app_error("can't write to %s: %s", c->target, strerror(errno));
        return false;
    }
    free(c->partial);
    c->partial = NULL;
    return true;
}

static void finish_get(client *c)
{
    char hex[65];
    show_progress(c, true);
    int error = dp_sha256_finish(c->hash, hex);
    c->hash = NULL;
    if (error != DP_OK) {
        app_error("%s", dp_strerror(error));
        app_stop(&c->app, EXIT_REMOTE);
    } else if (c->total != UINT64_MAX && c->received != c->total) {
        app_error("%s: %s: %llu bytes came instead of %llu", c->device, c->path,
                  (unsigned long long)c->received, (unsigned long long)c->total);
        app_stop(&c->app, EXIT_REMOTE);
    } else if (!keep_target(c)) {
        app_stop(&c->app, EXIT_REMOTE);
    } else {
        fprintf(c->fd == STDOUT_FILENO ? stderr : stdout, "%s  %s\n", hex, c->target);
        app_stop(&c->app, EXIT_OK);
    }
}

static void drop_target(client *c)
{
    if (c->fd >= 0 && c->fd != STDOUT_FILENO)
        close(c->fd);
    if (c->partial != NULL)
        unlink(c->partial);
    free(c->partial);
    dp_sha256_free(c->hash);
}

/* ---- the connection ---- */

static void on_done(void *user, int error, const dp_value *context)
{
    client *c = user;
    c->done = true;
    if (error == DP_OK) {
        if (c->get) {
            finish_get(c);
        } else {
            print_entries(context);
            app_stop(&c->app, EXIT_OK);
        }
        return;
    }
    if (c->received > 0 && isatty(STDERR_FILENO))
        fputc('\n', stderr);
    if (c->app.interrupted) /* that is the reason, and known */
        return;
    if (c->write_errno != 0) {
        app_error("can't write to %s: %s", c->target, strerror(c->write_errno));
    } else if (error == DP_ERR_REMOTE) {
        const char *message = dp_context_message(context);
        fprintf(stderr, "datapeer: %s: ", c->device);
        app_print_safe(stderr, c->path, strlen(c->path));
        fputs(": ", stderr);
        app_print_safe(stderr, message != NULL ? message : "refused", message != NULL ? strlen(message) : 7);
        fprintf(stderr, " (%d)\n", dp_context_code(context, 0));
    } else {
        app_error("%s: %s", c->device, dp_strerror(error));
    }
    app_stop(&c->app, error == DP_ERR_CLOSED || error == DP_ERR_TIMEOUT ? EXIT_NETWORK : EXIT_REMOTE);
}

static void on_connection_open(void *user, dp_connection *conn)
{
    client *c = user;
    dp_value *body = dp_value_map();
    int error = body == NULL ? DP_ERR_NO_MEMORY : dp_value_set(body, "path", dp_value_string(c->path));
    if (error != DP_OK) {
        dp_value_free(body);
        app_error("'%s' can't be a path: it is not UTF-8", c->path);
        app_stop(&c->app, EXIT_USAGE);
        return;
    }
    c->connected = true;
    c->started = dp_clock_now();
    dp_request request = {.size = sizeof(request),
                          .action = c->get ? "fs.read" : "fs.list",
                          .body = body,
                          .on_data = c->get ? on_piece : NULL,
                          .on_done = on_done,
                          .user = c};
    error = dp_connection_request(conn, &request, NULL);
    if (error != DP_OK) {
        app_error("%s: %s", c->device, dp_strerror(error));
        app_stop(&c->app, EXIT_NETWORK);
    }
}

static void on_connection_error(void *user, dp_connection *conn, const char *type, const char *message)
{
    client *c = user;
    (void)conn;
    app_error("%s: %s", type, message);
    app_explain_failure(&c->app);
    if (strcmp(type, "wrong-fingerprint") != 0)
        return;
    c->failure = EXIT_IDENTITY;
    if (c->app.identity.pinned)
        app_error("what answers as %s is not what --fingerprint names: it has another certificate now (its "
                  "'datapeer serve' prints the fingerprint), or somebody is in between",
                  c->device);
    else
        app_error("what answers as %s is not what its description names: somebody may be in between",
                  c->device);
}

static void on_connection_close(void *user, dp_connection *conn)
{
    client *c = user;
    (void)conn;
    if (!c->done && !c->app.interrupted)
        app_stop(&c->app, c->failure);
}

static void on_open(void *user, dp_peer *peer, const char *id)
{
    client *c = user;
    (void)id;
    dp_connection *conn;
    dp_connect_options options = {.size = sizeof(options),
                                  .reliable = true,
                                  .remote_fingerprint = c->app.identity.pinned ? &c->app.identity.pin : NULL};
    dp_connection_handler handler = {.on_open = on_connection_open,
                                     .on_close = on_connection_close,
                                     .on_error = on_connection_error,
                                     .user = c};
    if (c->asked)
        return;
    c->asked = true;
    int error = dp_peer_connect(peer, &conn, c->device, &options);
    if (error == DP_OK) {
        dp_connection_set_handler(conn, &handler);
        error = dp_connection_use_rpc(conn, NULL);
    }
    if (error != DP_OK) {
        if (!app_explain_ports(&c->app, error))
            app_error("can't call %s: %s", c->device, dp_strerror(error));
        app_stop(&c->app, EXIT_NETWORK);
    }
}

static void on_peer_error(void *user, dp_peer *peer, const char *type, const char *message)
{
    client *c = user;
    (void)peer;
    if (c->connected) /* the PeerServer may come and go; while the device is there all is well */
        return;
    if (strcmp(type, "peer-unavailable") == 0) { /* the connection's own error has said so */
        app_error("is the device running, and is its id really '%s'?", c->device);
    } else {
        app_error("the PeerServer %s: %s", c->app.server, message);
        way_explain(message);
    }
    app_stop(&c->app, EXIT_NETWORK);
}

static int run(client *c, int argc, char **argv, const char *help)
{
    char **operands;
    int count;
    c->fd = -1;
    c->failure = EXIT_NETWORK;
    c->total = UINT64_MAX;
    int code = app_options(&c->app, argc, argv, help, &operands, &count);
    if (code != EXIT_OK)
        return code < 0 ? EXIT_OK : code;
    char *colon = count == 1 ? strchr(operands[0], ':') : NULL;
    if (count != 1 || operands[0][0] == '\0' || operands[0] == colon || (c->get && colon == NULL)) {
        fputs(help, stderr);
        return EXIT_USAGE;
    }
    c->device = operands[0];
    c->path = colon != NULL ? colon + 1 : "";
    if (colon != NULL)
        *colon = '\0';
    if (c->get) {
        code = open_target(c);
        if (code == EXIT_OK && dp_sha256_new(&c->hash) != DP_OK)
            code = EXIT_REMOTE;
    }
    dp_peer_handler handler = {.on_open = on_open, .on_error = on_peer_error, .user = c};
    if (code == EXIT_OK)
        code = app_start(&c->app);
    if (code == EXIT_OK)
        code = app_peer(&c->app, &handler);
    if (code == EXIT_OK)
        dp_loop_run(c->app.loop);
    else
        c->app.exit_code = code;
    c->done = true;
    code = app_finish(&c->app);
    drop_target(c);
    return code;
}

int cmd_ls(int argc, char **argv)
{
    client c = {0};
    return run(&c, argc, argv, ls_help);
}

int cmd_get(int argc, char **argv)
{
    client c = {.get = true};
    return run(&c, argc, argv, get_help);
}
