#include "peer_server.h"

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
    "  -v, -vv, -vvv          log events on standard error, one line each, and more\n";

enum { OPTION_PORT = 256, OPTION_KEY, OPTION_TOKEN_FILE };

static const struct option options[] = {
    SIGNAL_OPTION_ROWS,
    {"port", required_argument, NULL, OPTION_PORT},
    {"key", required_argument, NULL, OPTION_KEY},
    {"access-token-file", required_argument, NULL, OPTION_TOKEN_FILE},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

/* False: wrong; what is not printed by getopt is. */
static bool take_option(app *a, uint64_t *port, int option)
{
    switch (option) {
    case OPTION_PORT:
        return signal_options_number(port, optarg, 0, UINT16_MAX, "--port");
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
static int read_options(app *a, uint64_t *port, int argc, char **argv)
{
    const char *key = getenv("PEER_KEY");
    a->key = key != NULL && key[0] != '\0' ? key : NULL;
    signal_options_init(&a->signal);
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "vh", options, NULL)) != -1;) {
        if (c == 'h') {
            printf("%s%s%s", help, signal_options_help, more_help);
            return -1;
        }
        if (!take_option(a, port, c)) {
            fprintf(stderr, "Try 'datapeer signal --help'.\n");
            return EXIT_USAGE;
        }
    }
    if (optind != argc) {
        fputs(help, stderr);
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

int cmd_signal(int argc, char **argv)
{
    app a = {0};
    peer_server p = {0};
    uint64_t port = 9000;
    int code = read_options(&a, &port, argc, argv);
    if (code != EXIT_OK)
        return code < 0 ? EXIT_OK : code;
    code = app_start(&a);
    if (code == EXIT_OK)
        code = peer_server_open(&p, &a, NULL, NULL);
    if (code == EXIT_OK)
        code = peer_server_listen(&p, (uint16_t)port);
    if (code == EXIT_OK) {
        print_addresses(&p);
        dp_loop_run(a.loop);
        peer_server_end(&p);
    }
    peer_server_close(&p);
    a.exit_code = code; /* being ended is how a server ends */
    return app_finish(&a);
}
