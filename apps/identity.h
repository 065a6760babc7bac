/* Who we are, who the other side has to be, and who may read along: --certificate, --ephemeral, --fingerprint and
 * SSLKEYLOGFILE. */
#ifndef APPS_IDENTITY_H
#define APPS_IDENTITY_H

#include <datapeer/datapeer.h>

typedef struct identity_options {
    const char *file; /* --certificate or NULL */
    bool ephemeral;
    bool pinned; /* pin is --fingerprint */
    dp_fingerprint pin;
} identity_options;

/* The help of these options. */
extern const char identity_help[];

/* Takes --fingerprint's text; false: it is wrong, and that was printed. */
bool identity_set_pin(identity_options *o, const char *text);
/* What only all options together show; command is "serve"... */
bool identity_check(const identity_options *o, const char *command);

/* The certificate of --certificate; else, if it is to last, the one of the user's state folder; else one for this run
 * alone. Either file is made if it is missing. False: it can't be used; printed. verbose: tells the file. */
bool identity_open(dp_certificate **out, const identity_options *o, const dp_random *random, bool lasting,
                   bool verbose);

/* ---- key log ---- */

typedef struct key_log_file {
    bool open;
    bool broken; /* a line could not be written, which has been told */
    int fd;
    const char *path;
} key_log_file;

/* Lines are added to the file, which is made for this user alone if it is missing; says so, or why it can't be.
 * path NULL: no log. file has to stay as long as the log is used. */
dp_key_log key_log_open(key_log_file *file, const char *path);
void key_log_close(key_log_file *file);

#endif
