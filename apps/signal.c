#include "peer_server.h"
#include "redis.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static const char help[] =
    "Usage: datapeer signal [--host HOST] [--port N] [options]\n"
    "\n"
    "A PeerServer: gives out ids and passes the messages by which PeerJS pages and datapeer find each "
    "other.\n"
    "Prints where it listens; Ctrl-C tells the clients goodbye and ends it.\n"
    "\n"
    "Example: datapeer signal --port 9000 --path /myapp\n"
    "\n"
    "  --host HOST            address or name to listen on, may be repeated (default: all addresses)\n"
    "  --port N               TCP port (default: 9000; 0: any free one)\n"
    "  --key KEY              what clients give as their key (default: $PEER_KEY or peerjs)\n"
    "  --access-token-file F  clients' tokens must begin with the text in F; a file closed to others\n";
static const char more_help[] =
    "  --redis URL            be one server with all others that name the same Redis:\n"
    "                         redis://[USER@]HOST[:PORT][/DATABASE], rediss:// with TLS\n"
    "  --redis-password-file F\n"
    "                         its password; a file closed to others (default: $REDIS_PASSWORD)\n"
    "  --redis-ca FILE        trust these authorities (PEM) for rediss://, not the system's\n"
    "  -v, -vv, -vvv          log events on standard error, one line each, and more\n";

enum {
    OPTION_PORT = 256,
    OPTION_KEY,
    OPTION_TOKEN_FILE,
    OPTION_REDIS,
    OPTION_REDIS_PASSWORD,
    OPTION_REDIS_CA
};

static const struct option options[] = {
    SIGNAL_OPTION_ROWS,
    {"port", required_argument, NULL, OPTION_PORT},
    {"key", required_argument, NULL, OPTION_KEY},
    {"access-token-file", required_argument, NULL, OPTION_TOKEN_FILE},
    {"redis", required_argument, NULL, OPTION_REDIS},
    {"redis-password-file", required_argument, NULL, OPTION_REDIS_PASSWORD},
    {"redis-ca", required_argument, NULL, OPTION_REDIS_CA},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

typedef struct signal_command {
    app app;
    uint64_t port;
    redis_options redis;
    redis *nodes; /* NULL: no --redis */
} signal_command;

/* False: wrong; what is not printed by getopt is. */
static bool take_option(signal_command *s, int option)
{
    app *a = &s->app;
    switch (option) {
    case OPTION_REDIS:
        s->redis.url = optarg;
        return true;
    case OPTION_REDIS_PASSWORD:
        s->redis.password_file = optarg;
        return true;
    case OPTION_REDIS_CA:
        s->redis.ca_file = optarg;
        return true;
    case OPTION_PORT:
        return signal_options_number(&s->port, optarg, 0, UINT16_MAX, "--port");
    case OPTION_KEY:
        a->key = optarg;
        return true;
    case OPTION_TOKEN_FILE:
        a->token_file = optarg;
        return true;
    case 'v':
        a->verbose++;
        return true;
    default:
        return signal_options_take(&a->signal, option);
    }
}

/* -1: help was asked for. */
static int read_options(signal_command *s, int argc, char **argv)
{
    app *a = &s->app;
    const char *key = getenv("PEER_KEY");
    a->key = key != NULL && key[0] != '\0' ? key : NULL;
    signal_options_init(&a->signal);
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "vh", options, NULL)) != -1;) {
        if (c == 'h') {
            printf("%s%s%s", help, signal_options_help, more_help);
            return -1;
        }
        if (!take_option(s, c)) {
            fprintf(stderr, "Try 'datapeer signal --help'.\n");
            return EXIT_USAGE;
        }
    }
    if (optind != argc) {
        fputs(help, stderr);
        return EXIT_USAGE;
    }
    if (s->redis.url == NULL && (s->redis.password_file != NULL || s->redis.ca_file != NULL)) {
        app_error("--redis-password-file and --redis-ca belong to --redis");
        return EXIT_USAGE;
    }
    return signal_options_check(&a->signal) ? EXIT_OK : EXIT_USAGE;
}

static void print_addresses(const peer_server *p)
{
    char text[DP_ADDRESS_TEXT_MAX];
    for (size_t i = 0; i < p->listening_count; i++)
        printf("listening on %s%s\n", dp_address_format(&p->listening[i], text),
               p->tls != NULL ? " (TLS)" : "");
    peer_server_print_stun(p);
    fflush(stdout);
}

static int open_server(signal_command *s, peer_server *p)
{
    int code = app_start(&s->app);
    if (code == EXIT_OK && s->redis.url != NULL)
        code = redis_open(&s->nodes, &s->app, &s->redis);
    if (code == EXIT_OK) {
        p->cluster = s->nodes != NULL ? redis_cluster(s->nodes) : NULL;
        code = peer_server_open(p, &s->app, NULL, NULL);
    }
    return code == EXIT_OK ? peer_server_listen(p, (uint16_t)s->port) : code;
}

int cmd_signal(int argc, char **argv)
{
    signal_command s = {.port = SIGNAL_PORT};
    peer_server p = {0};
    int code = read_options(&s, argc, argv);
    if (code != EXIT_OK)
        return code < 0 ? EXIT_OK : code;
    code = open_server(&s, &p);
    if (code == EXIT_OK) {
        print_addresses(&p);
        if (s.nodes != NULL)
            redis_start(s.nodes, p.host);
        dp_loop_run(s.app.loop);
        code = s.app.interrupted ? EXIT_OK : s.app.exit_code; /* being ended is how a server ends */
        peer_server_end(&p);
    }
    peer_server_close(&p);
    redis_close(s.nodes);
    s.app.exit_code = code;
    return app_finish(&s.app);
}
