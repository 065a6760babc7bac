/* The options of a PeerServer of our own, which 'datapeer signal' and 'datapeer serve' share. */
#ifndef APPS_SIGNAL_OPTIONS_H
#define APPS_SIGNAL_OPTIONS_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SIGNAL_HOSTS_MAX = 8, SIGNAL_ORIGINS_MAX = 8, SIGNAL_PORT = 9000 };

typedef struct signal_options {
    const char *hosts[SIGNAL_HOSTS_MAX]; /* none: the command's default */
    size_t host_count;
    const char *origins[SIGNAL_ORIGINS_MAX]; /* (serve) pages of these get answers, too */
    size_t origin_count;
    const char *path, *tls_cert, *tls_key; /* NULL: not given, as 0 in each number... */
    uint64_t concurrent_limit, alive_timeout, expire_timeout;
    uint64_t connection_rate, message_rate; /* ...but here 0 is no limit */
    bool allow_discovery, metrics, stun;
    uint64_t stun_port;
    const char *given; /* one of them was, "--host"; else NULL */
} signal_options;

enum {
    SIGNAL_OPTION_HOST = 512, /* apart from those of the commands */
    SIGNAL_OPTION_PATH,
    SIGNAL_OPTION_DISCOVERY,
    SIGNAL_OPTION_TLS_CERT,
    SIGNAL_OPTION_TLS_KEY,
    SIGNAL_OPTION_LIMIT,
    SIGNAL_OPTION_ALIVE,
    SIGNAL_OPTION_EXPIRE,
    SIGNAL_OPTION_CONNECTION_RATE,
    SIGNAL_OPTION_MESSAGE_RATE,
    SIGNAL_OPTION_METRICS,
    SIGNAL_OPTION_STUN,
    SIGNAL_OPTION_END,
};

/* Rows of a command's table for getopt_long. */
#define SIGNAL_OPTION_ROWS                                                                                   \
    {"host", required_argument, NULL, SIGNAL_OPTION_HOST},                                                   \
        {"path", required_argument, NULL, SIGNAL_OPTION_PATH},                                               \
        {"allow-discovery", no_argument, NULL, SIGNAL_OPTION_DISCOVERY},                                     \
        {"tls-cert", required_argument, NULL, SIGNAL_OPTION_TLS_CERT},                                       \
        {"tls-key", required_argument, NULL, SIGNAL_OPTION_TLS_KEY},                                         \
        {"concurrent-limit", required_argument, NULL, SIGNAL_OPTION_LIMIT},                                  \
        {"alive-timeout", required_argument, NULL, SIGNAL_OPTION_ALIVE},                                     \
        {"expire-timeout", required_argument, NULL, SIGNAL_OPTION_EXPIRE},                                   \
        {"connection-rate", required_argument, NULL, SIGNAL_OPTION_CONNECTION_RATE},                         \
        {"message-rate", required_argument, NULL, SIGNAL_OPTION_MESSAGE_RATE},                               \
        {"metrics", no_argument, NULL, SIGNAL_OPTION_METRICS},                                               \
    {                                                                                                        \
        "stun", optional_argument, NULL, SIGNAL_OPTION_STUN                                                  \
    }

/* Their help, but for --host, whose default is the command's. */
extern const char signal_options_help[];

void signal_options_init(signal_options *o);
/* scheme://host[:port], as a browser's Origin field says it. False: wrong, which was printed. */
bool signal_options_add_origin(signal_options *o, const char *origin);
/* What getopt_long gave, with optarg. False: wrong, which was printed, or not one of these. */
bool signal_options_take(signal_options *o, int option);
/* What only all of them together show. False: wrong, and that was printed. */
bool signal_options_check(const signal_options *o);

/* A whole number from min to max. False: it is none, and that was printed; what: "--port". */
bool signal_options_number(uint64_t *out, const char *text, uint64_t min, uint64_t max, const char *what);

#endif
