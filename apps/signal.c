#include "app.h"
#include "signal_host.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    "  --path PATH            where it is mounted (default: /)\n"
    "  --key KEY              what clients give as their key (default: $PEER_KEY or peerjs)\n"
    "  --access-token-file F  clients' tokens must begin with the text in F; a file closed to others\n"
    "  --allow-discovery      tell every client the ids of all others\n"
    "  --tls-cert FILE        speak TLS (https, wss) with this certificate chain (PEM)...\n"
    "  --tls-key FILE         ...and its key\n"
    "  --concurrent-limit N   clients at once (default: 5000)\n"
    "  --alive-timeout MS     a client without a heartbeat is dropped after this time (default: 90000)\n"
    "  --expire-timeout MS    messages for an absent peer wait so long (default: 5000)\n"
    "  --connection-rate N    new connections a second from one address (default: 50; 0: no limit)\n"
    "  --message-rate N       messages a second from one connection (default: 100; 0: no limit)\n"
    "  --metrics              tell figures for Prometheus under /metrics\n"
    "  -v, -vv, -vvv          log events on standard error, one line each, and more\n";

enum { HOSTS_MAX = 8, SECRET_MAX = 257 };

typedef struct signal_app {
    app app;
    signal_host *host;
    dp_tls_server *tls;
    const char *hosts[HOSTS_MAX];
    size_t host_count;
    uint64_t port;
    const char *path, *token_file, *tls_cert, *tls_key;
    char access_token[SECRET_MAX];
    uint64_t concurrent_limit, alive_timeout, expire_timeout, connection_rate, message_rate;
    bool allow_discovery, metrics;
} signal_app;

/* ---- options ------------------------------------------------------------------------------------------- */

enum {
    OPTION_HOST = 256,
    OPTION_PORT,
    OPTION_PATH,
    OPTION_KEY,
    OPTION_TOKEN_FILE,
    OPTION_DISCOVERY,
    OPTION_TLS_CERT,
    OPTION_TLS_KEY,
    OPTION_LIMIT,
    OPTION_ALIVE,
    OPTION_EXPIRE,
    OPTION_CONNECTION_RATE,
    OPTION_MESSAGE_RATE,
    OPTION_METRICS,
};

static const struct option options[] = {
    {"host", required_argument, NULL, OPTION_HOST},
    {"port", required_argument, NULL, OPTION_PORT},
    {"path", required_argument, NULL, OPTION_PATH},
    {"key", required_argument, NULL, OPTION_KEY},
    {"access-token-file", required_argument, NULL, OPTION_TOKEN_FILE},
    {"allow-discovery", no_argument, NULL, OPTION_DISCOVERY},
    {"tls-cert", required_argument, NULL, OPTION_TLS_CERT},
    {"tls-key", required_argument, NULL, OPTION_TLS_KEY},
    {"concurrent-limit", required_argument, NULL, OPTION_LIMIT},
    {"alive-timeout", required_argument, NULL, OPTION_ALIVE},
    {"expire-timeout", required_argument, NULL, OPTION_EXPIRE},
    {"connection-rate", required_argument, NULL, OPTION_CONNECTION_RATE},
    {"message-rate", required_argument, NULL, OPTION_MESSAGE_RATE},
    {"metrics", no_argument, NULL, OPTION_METRICS},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static bool number(uint64_t *out, const char *text, uint64_t min, uint64_t max, const char *what)
{
    char *end;
    *out = strtoull(text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && *out >= min && *out <= max)
        return true;
    app_error("%s must be a number from %llu to %llu, not '%s'", what, (unsigned long long)min,
              (unsigned long long)max, text);
    return false;
}

/* False: wrong; what is not printed by getopt is. */
static bool take_option(signal_app *s, int option)
{
    switch (option) {
    case OPTION_HOST:
        if (s->host_count == HOSTS_MAX) {
            app_error("at most %d addresses to listen on", HOSTS_MAX);
            return false;
        }
        s->hosts[s->host_count++] = optarg;
        return true;
    case OPTION_PORT:
        return number(&s->port, optarg, 0, UINT16_MAX, "--port");
    case OPTION_PATH:
        s->path = optarg;
        return true;
    case OPTION_KEY:
        s->app.key = optarg;
        return true;
    case OPTION_TOKEN_FILE:
        s->token_file = optarg;
        return true;
    case OPTION_DISCOVERY:
        return s->allow_discovery = true;
    case OPTION_TLS_CERT:
        s->tls_cert = optarg;
        return true;
    case OPTION_TLS_KEY:
        s->tls_key = optarg;
        return true;
    case OPTION_LIMIT:
        return number(&s->concurrent_limit, optarg, 1, 1000000, "--concurrent-limit");
    case OPTION_ALIVE:
        return number(&s->alive_timeout, optarg, 1, 86400000, "--alive-timeout");
    case OPTION_EXPIRE:
        return number(&s->expire_timeout, optarg, 1, 86400000, "--expire-timeout");
    case OPTION_CONNECTION_RATE:
        return number(&s->connection_rate, optarg, 0, 1000000, "--connection-rate");
    case OPTION_MESSAGE_RATE:
        return number(&s->message_rate, optarg, 0, 1000000, "--message-rate");
    case OPTION_METRICS:
        return s->metrics = true;
    case 'v':
        s->app.verbose++;
        return true;
    default:
        return false;
    }
}

/* -1: help was asked for. */
static int read_options(signal_app *s, int argc, char **argv)
{
    const char *key = getenv("PEER_KEY");
    s->app.key = key != NULL && key[0] != '\0' ? key : NULL;
    s->port = 9000;
    s->connection_rate = 50;
    s->message_rate = 100;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "vh", options, NULL)) != -1;) {
        if (c == 'h') {
            fputs(help, stdout);
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
    if ((s->tls_cert == NULL) != (s->tls_key == NULL)) {
        app_error("--tls-cert and --tls-key belong together");
        return EXIT_USAGE;
    }
    return EXIT_OK;
}

/* ---- log ------------------------------------------------------------------------------------------------- */

/* One line an event: name=value pairs, text in quotation marks. */
static void on_event(void *user, const dp_signal_event *event)
{
    static const char *const names[] = {[DP_SIGNAL_EVENT_JOINED] = "joined",
                                        [DP_SIGNAL_EVENT_LEFT] = "left",
                                        [DP_SIGNAL_EVENT_REFUSED] = "refused",
                                        [DP_SIGNAL_EVENT_EXPIRED] = "expired"};
    signal_app *s = user;
    char address[DP_ADDRESS_TEXT_MAX];
    if (event->type == DP_SIGNAL_EVENT_DONE) {
        dp_loop_stop(s->app.loop);
        return;
    }
    if (s->app.verbose == 0)
        return;
    fprintf(stderr, "time=%lld event=%s", (long long)dp_clock_unix(), names[event->type]);
    if (event->id[0] != '\0') {
        fputs(" id=\"", stderr);
        for (const char *c = event->id; *c != '\0'; c++) {
            if (*c == '"' || *c == '\\')
                fputc('\\', stderr);
            fputc(*c, stderr);
        }
        fputc('"', stderr);
    }
    if (event->remote.family != DP_FAMILY_NONE)
        fprintf(stderr, " address=%s", dp_address_format(&event->remote, address));
    if (event->reason != NULL)
        fprintf(stderr, " reason=\"%s\"", event->reason);
    fputc('\n', stderr);
}

/* ---- running ----------------------------------------------------------------------------------------------- */

static bool read_access_token(signal_app *s)
{
    dp_file_error why;
    size_t len = 0;
    if (s->token_file == NULL)
        return true;
    int error = dp_secret_file_read((uint8_t *)s->access_token, SECRET_MAX - 1, &len, s->token_file, &why);
    if (error != DP_OK) {
        app_error("%s", why.message);
        return false;
    }
    s->access_token[strcspn(s->access_token, "\r\n")] = '\0';
    if (s->access_token[0] == '\0')
        app_error("%s: there is no token in it", s->token_file);
    return s->access_token[0] != '\0';
}

static bool open_tls(signal_app *s)
{
    dp_file_error why = {""};
    if (s->tls_cert == NULL)
        return true;
    const dp_tls_server_config config = {.size = sizeof(config),
                                         .certificate_file = s->tls_cert,
                                         .key_file = s->tls_key,
                                         .random = s->app.random,
                                         .log = s->app.log,
                                         .key_log = s->app.key_log};
    int error = dp_tls_server_new(&s->tls, &config, &why);
    if (error != DP_OK)
        app_error("%s", why.message[0] != '\0' ? why.message : dp_strerror(error));
    return error == DP_OK;
}

static unsigned rate(uint64_t per_second) { return per_second == 0 ? UINT32_MAX : (unsigned)per_second; }

static int open_host(signal_app *s)
{
    signal_host_config config = {.loop = s->app.loop, .tls = s->tls, .on_event = on_event, .user = s};
    config.server = (dp_signal_server_config){
        .size = sizeof(config.server),
        .random = s->app.random,
        .log = s->app.log,
        .path = s->path,
        .key = s->app.key,
        .access_token = s->access_token[0] != '\0' ? s->access_token : NULL,
        .allow_discovery = s->allow_discovery,
        .metrics = s->metrics,
        .concurrent_limit = (unsigned)s->concurrent_limit,
        .alive_timeout = DP_MS(s->alive_timeout),
        .expire_timeout = DP_MS(s->expire_timeout),
        .connection_rate = rate(s->connection_rate),
        .connection_burst = (unsigned)s->connection_rate * 10,
        .message_rate = rate(s->message_rate),
        .message_burst = (unsigned)s->message_rate * 10,
    };
    int error = signal_host_new(&s->host, &config);
    if (error == DP_ERR_INVALID_ARGUMENT)
        app_error("--path must look like /myapp, and a key or token may have no control characters");
    else if (error != DP_OK)
        app_error("can't start: %s", dp_strerror(error));
    return error == DP_OK ? EXIT_OK : error == DP_ERR_INVALID_ARGUMENT ? EXIT_USAGE : EXIT_NETWORK;
}

static bool listen_on(signal_app *s, dp_address *address)
{
    char text[DP_ADDRESS_TEXT_MAX];
    address->port = (uint16_t)s->port;
    if (signal_host_listen(s->host, address) != DP_OK) {
        app_error("can't listen on %s: is another program using it?", dp_address_format(address, text));
        return false;
    }
    s->port = address->port; /* of any free one, the other addresses get the same */
    printf("listening on %s%s\n", dp_address_format(address, text), s->tls != NULL ? " (TLS)" : "");
    fflush(stdout);
    return true;
}

/* All addresses: a machine without IPv6 has only the first. */
static bool listen_everywhere(signal_app *s)
{
    dp_address ipv4 = {.family = DP_FAMILY_IPV4};
    dp_address ipv6 = {.family = DP_FAMILY_IPV6};
    dp_address probe[16];
    size_t count = 0;
    if (!listen_on(s, &ipv4))
        return false;
    bool has_ipv6 = false;
    if (dp_interfaces(probe, 16, &count, true) == DP_OK)
        for (size_t i = 0; i < count; i++)
            has_ipv6 |= probe[i].family == DP_FAMILY_IPV6;
    return !has_ipv6 || listen_on(s, &ipv6);
}

static int listen_all(signal_app *s)
{
    if (s->host_count == 0)
        return listen_everywhere(s) ? EXIT_OK : EXIT_NETWORK;
    for (size_t i = 0; i < s->host_count; i++) {
        dp_address found[2];
        size_t count = 0;
        if (dp_resolve(s->hosts[i], 0, found, 2, &count) != DP_OK || count == 0) {
            app_error("--host %s: no such address of this machine", s->hosts[i]);
            return EXIT_USAGE;
        }
        if (!listen_on(s, &found[0]))
            return EXIT_NETWORK;
    }
    return EXIT_OK;
}

static int start(signal_app *s)
{
    int code = app_start(&s->app);
    if (code == EXIT_OK && (!read_access_token(s) || !open_tls(s)))
        code = EXIT_REMOTE;
    if (code == EXIT_OK)
        code = open_host(s);
    if (code == EXIT_OK)
        code = listen_all(s);
    return code;
}

int cmd_signal(int argc, char **argv)
{
    signal_app s = {0};
    int code = read_options(&s, argc, argv);
    if (code != EXIT_OK)
        return code < 0 ? EXIT_OK : code;
    code = start(&s);
    if (code == EXIT_OK) {
        dp_loop_run(s.app.loop);
        signal_host_shutdown(s.host);
        dp_loop_run(s.app.loop); /* until the last client is gone, or another Ctrl-C */
    }
    signal_host_free(s.host);
    s.app.exit_code = code; /* being ended is how a server ends */
    code = app_finish(&s.app);
    dp_tls_server_free(s.tls);
    explicit_bzero(s.access_token, sizeof(s.access_token));
    return code;
}
