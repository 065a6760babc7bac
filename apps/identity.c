#include "identity.h"

#include "app.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

const char identity_help[] =
    "\n"
    "Who is who:\n"
    "  --certificate FILE     our certificate and its private key (PEM); made if it is missing. serve has "
    "one in\n"
    "                         $XDG_STATE_HOME/datapeer or ~/.local/state/datapeer, others one for each run\n"
    "  --ephemeral            a certificate for this run alone: nobody knows us again\n"
    "  --fingerprint 'sha-256 AB:CD:...'\n"
    "                         (ls, get) what the device has to prove, as its serve prints it: so not even "
    "the\n"
    "                         PeerServer can put itself in between\n"
    "  $SSLKEYLOGFILE         a file to which the keys are added, for Wireshark: who reads it reads along\n";

/* ---- options ---- */

bool identity_set_pin(identity_options *o, const char *text)
{
    int error = dp_fingerprint_parse(&o->pin, text, strlen(text));
    o->pinned = error == DP_OK;
    if (error == DP_ERR_UNSUPPORTED)
        app_error("--fingerprint '%s': it begins with none of sha-256, sha-384 and sha-512", text);
    else if (error != DP_OK)
        app_error("--fingerprint '%s': behind the name of the hash there have to be all its bytes", text);
    if (error != DP_OK)
        app_error("it should look like 'sha-256 AB:CD:...', in quotes, as 'datapeer serve' prints it");
    return o->pinned;
}

bool identity_check(const identity_options *o, const char *command)
{
    if (o->pinned && strcmp(command, "ls") != 0 && strcmp(command, "get") != 0)
        app_error("--fingerprint is for 'datapeer ls' and 'get', which call a device that they know");
    else if (o->file != NULL && o->file[0] == '\0')
        app_error("--certificate needs the name of a file");
    else if (o->file != NULL && o->ephemeral)
        app_error("--certificate keeps a certificate, --ephemeral keeps none: choose one of them");
    else
        return true;
    return false;
}

/* ---- the certificate ---- */

/* sudo may leave a user's HOME to root, whose folders in it would shut out that user, from ~/.local as a whole. */
static bool is_usable(const char *folder)
{
    struct stat st;
    return folder != NULL && folder[0] == '/' && (geteuid() != 0 || stat(folder, &st) != 0 || st.st_uid == 0);
}

/* XDG Base Directory Specification: what is to stay over restarts, but is of no worth elsewhere; relative paths do not
 * count. False: there is no home. */
static bool default_file(char *out, size_t capacity)
{
    static const char name[] = "datapeer/certificate.pem";
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int len = 0;
    if (is_usable(state))
        len = snprintf(out, capacity, "%s/%s", state, name);
    else if (is_usable(home))
        len = snprintf(out, capacity, "%s/.local/state/%s", home, name);
    return len > 0 && (size_t)len < capacity;
}

/* Peers know a certificate by its fingerprint: an end of its validity that is past does no harm, and a warning would
 * ask people to give up what others have pinned. */
static void tell_file(const char *path, const dp_certificate *certificate)
{
    char date[32] = "?";
    time_t end = (time_t)dp_certificate_expires(certificate);
    struct tm tm;
    if (gmtime_r(&end, &tm) != NULL)
        strftime(date, sizeof(date), "%Y-%m-%d", &tm);
    app_error("the certificate in %s is valid to %s, and used beyond that", path, date);
}

static bool keep(dp_certificate **out, const char *path, const dp_random *random, bool is_default,
                 bool verbose)
{
    dp_file_error error;
    if (dp_certificate_keep(out, path, random, &error) == DP_OK) {
        if (verbose)
            tell_file(path, *out);
        return true;
    }
    app_error("%s", error.message);
    if (is_default)
        app_error(
            "that is where the certificate is kept; --certificate FILE keeps one elsewhere, --ephemeral "
            "none");
    return false;
}

bool identity_open(dp_certificate **out, const identity_options *o, const dp_random *random, bool lasting,
                   bool verbose)
{
    char path[4096];
    if (o->file != NULL)
        return keep(out, o->file, random, false, verbose);
    if (lasting && !o->ephemeral) {
        if (default_file(path, sizeof(path)))
            return keep(out, path, random, true, verbose);
        app_error("without a HOME of our own the certificate can't be kept, and the next start has another "
                  "fingerprint; --certificate FILE keeps it");
    }
    int error = dp_certificate_generate(out, random, dp_clock_unix());
    if (error != DP_OK)
        app_error("no certificate can be made: %s", dp_strerror(error));
    return error == DP_OK;
}

/* ---- key log ---- */

static void log_key(void *ctx, const char *line)
{
    key_log_file *file = ctx;
    /* In one piece: other programs may add to the same file. */
    size_t len = strlen(line);
    struct iovec pieces[] = {{(void *)line, len}, {"\n", 1}};
    ssize_t written = writev(file->fd, pieces, 2);
    if (written == (ssize_t)len + 1 || file->broken)
        return;
    file->broken = true;
    app_error("a key could not be added to %s (SSLKEYLOGFILE): %s", file->path,
              written < 0 ? strerror(errno) : "there is no room for all of it");
}

dp_key_log key_log_open(key_log_file *file, const char *path)
{
    memset(file, 0, sizeof(*file));
    if (path == NULL)
        return (dp_key_log){0};
    /* O_NONBLOCK: nobody may ever read a FIFO. */
    file->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
    if (file->fd < 0) {
        app_error("keys can't be added to %s (SSLKEYLOGFILE): %s; going on without", path, strerror(errno));
        return (dp_key_log){0};
    }
    /* Whoever reads a FIFO may leave: that makes an error of the next line, and must not end us. */
    signal(SIGPIPE, SIG_IGN);
    file->open = true;
    file->path = path;
    app_error("SSLKEYLOGFILE is set: whoever reads %s can decrypt the connections of this run", path);
    return (dp_key_log){log_key, file};
}

void key_log_close(key_log_file *file)
{
    if (file->open)
        close(file->fd);
    file->open = false;
}
