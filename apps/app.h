/* What every subcommand needs: options, log, loop, random source, signals, and one Peer. */
#ifndef APPS_APP_H
#define APPS_APP_H

#include "identity.h"
#include "network.h"
#include "signal_options.h"
#include "way.h"
#include <datapeer/datapeer.h>

enum {
    EXIT_OK = 0,
    EXIT_REMOTE = 1, /* the other side said no, or a local file can't be used */
    EXIT_USAGE = 2,
    EXIT_NETWORK = 3,  /* the PeerServer or the other side can't be reached */
    EXIT_IDENTITY = 4, /* the other side is not who it should be */
    EXIT_INTERRUPTED = 130,
};

enum {
    APP_WARNINGS = 4,
    ACCESS_TOKEN_MAX = 200, /* bytes: a PeerServer takes tokens of 256, which begin with it */
};

typedef struct app {
    way_options way_options;
    way way;
    const char *server;                      /* the way's */
    const char *key;                         /* --key, PEER_KEY, or NULL */
    const char *token_file;                  /* --access-token-file or NULL */
    char access_token[ACCESS_TOKEN_MAX + 1]; /* what is in it; or "" */
    signal_options signal;                   /* serve and signal */
    const char *id;                          /* --id or NULL */
    const char *output;                      /* -o or NULL */
    const char *page;                        /* --page or NULL (serve) */
    network_options network;
    identity_options identity;
    bool lasting;           /* keeps its certificate, unless an option says other; set before app_peer */
    size_t missing_servers; /* of them: their names were not found when we started */
    int verbose;
    dp_loop *loop;
    dp_csprng *csprng;
    dp_random random;
    dp_log log;
    dp_signals *signals;
    dp_certificate *certificate;
    dp_key_log key_log;
    key_log_file key_log_file;
    dp_peer *peer;
    char warnings[APP_WARNINGS][512]; /* without -v: what the library has warned of, not yet told */
    size_t warning_count;
    int exit_code;
    bool interrupted;
} app;

/* Reads the options (all subcommands know the same ones); *operands is what is left. Prints its own errors:
 * EXIT_USAGE. --help is answered and gives -1. */
int app_options(app *a, int argc, char **argv, const char *help, char ***operands, int *operand_count);
/* Access token, loop, random source, key log, SIGINT, SIGTERM and SIGHUP (which stop the loop). EXIT_OK or prints and
 * gives another code. */
int app_start(app *a);
/* A Peer with the options' PeerServer, key, id, network and certificate. It comes back to a PeerServer that was lost. */
int app_peer(app *a, const dp_peer_handler *handler);
/* The PeerServer is reached at last: STUN and TURN servers that could not be found at the start, before there was a
 * network, are looked for again. */
void app_find_servers(app *a);
/* Ends the peer in an orderly way. */
void app_leave(app *a);
/* That, and frees everything; returns the exit code. */
int app_finish(app *a);
/* Ends the loop with this exit code. */
void app_stop(app *a, int exit_code);

/* "datapeer: ..." on standard error; what came from outside may be in it (see below). */
void app_error(const char *format, ...) DP_PRINTF(1, 2);

/* If error comes of a --port-range that is used up, says so; else false. */
bool app_explain_ports(const app *a, int error);

/* A connection has failed: tells what the library has warned of before, which may be why (a relay that refuses us...),
 * unless -v has told it already. */
void app_explain_failure(app *a);

/* Prints text from outside with control characters replaced. */
void app_print_safe(void *file, const char *text, size_t len);

int cmd_serve(int argc, char **argv);
int cmd_ls(int argc, char **argv);
int cmd_get(int argc, char **argv);
int cmd_peer(int argc, char **argv);
int cmd_pc(int argc, char **argv);
int cmd_signal(int argc, char **argv);

#endif
