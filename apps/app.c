#include "app.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_SERVER "ws://127.0.0.1:9000/"

void app_error(const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    fputs("datapeer: ", stderr);
    app_print_safe(stderr, text, strlen(text));
    fputc('\n', stderr);
}

void app_print_safe(void *file, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        unsigned char next = i + 1 < len ? (unsigned char)text[i + 1] : 0;
        bool c1 = c == 0xc2 && next >= 0x80 && next < 0xa0; /* U+0080 to U+009F: U+009B is another ESC [ */
        fputc(c < 0x20 || c == 0x7f || c1 ? '?' : c, file);
        i += c1;
    }
}

static void log_line(void *ctx, dp_log_level level, const char *layer, const char *message)
{
    static const char *const names[] = {"", "error", "warn", "info", "debug"};
    (void)ctx;
    fprintf(stderr, "%s %s: ", names[level], layer);
    app_print_safe(stderr, message, strlen(message));
    fputc('\n', stderr);
}

static bool parse_port(const char *text, uint16_t *port)
{
    char *end;
    long number = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || number < 0 || number > 65535) {
        app_error("'%s' is no UDP port; it should be a number from 1 to 65535", text);
        return false;
    }
    *port = (uint16_t)number;
    return true;
}

int app_options(app *a, int argc, char **argv, const char *help, char ***operands, int *operand_count)
{
    static const struct option options[] = {
        {"server", required_argument, NULL, 's'},
        {"key", required_argument, NULL, 'k'},
        {"id", required_argument, NULL, 'i'},
        {"output", required_argument, NULL, 'o'},
        {"stun", required_argument, NULL, 'S'},
        {"port", required_argument, NULL, 'p'},
        {"verbose", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    memset(a, 0, sizeof(*a));
    const char *server = getenv("PEER_SERVER_URL");
    const char *key = getenv("PEER_KEY");
    a->server = server != NULL && server[0] != '\0' ? server : DEFAULT_SERVER;
    a->key = key != NULL && key[0] != '\0' ? key : NULL;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "o:vh", options, NULL)) != -1;) {
        switch (c) {
        case 's':
            a->server = optarg;
            break;
        case 'k':
            a->key = optarg;
            break;
        case 'i':
            a->id = optarg;
            break;
        case 'o':
            a->output = optarg;
            break;
        case 'S':
            a->stun = optarg;
            break;
        case 'p':
            if (!parse_port(optarg, &a->port))
                return EXIT_USAGE;
            break;
        case 'v':
            a->verbose++;
            break;
        case 'h':
            fputs(help, stdout);
            return -1;
        default:
            fprintf(stderr, "Try 'datapeer %s --help'.\n", argv[0]);
            return EXIT_USAGE;
        }
    }
    *operands = argv + optind;
    *operand_count = argc - optind;
    return EXIT_OK;
}

static void on_signal(void *user, int number)
{
    app *a = user;
    (void)number;
    a->interrupted = true;
    app_stop(a, EXIT_INTERRUPTED);
}

void app_stop(app *a, int exit_code)
{
    a->exit_code = exit_code;
    dp_loop_stop(a->loop);
}

int app_start(app *a)
{
    static const int stop_signals[] = {SIGINT, SIGTERM, SIGHUP};
    if (a->verbose > 0) {
        a->log.fn = log_line;
        a->log.level = a->verbose == 1 ? DP_LOG_WARN : a->verbose == 2 ? DP_LOG_INFO : DP_LOG_DEBUG;
    }
    int error = dp_loop_new(&a->loop);
    if (error == DP_OK)
        error = dp_csprng_new(&a->csprng);
    if (error == DP_OK)
        error = dp_signals_new(&a->signals, a->loop, stop_signals, 3, on_signal, a);
    if (error != DP_OK) {
        app_error("can't start: %s", dp_strerror(error));
        return EXIT_NETWORK;
    }
    a->random = dp_csprng_source(a->csprng);
    return EXIT_OK;
}

static int resolve_stun(const char *text, dp_address *out, size_t *count)
{
    dp_server_url url;
    int error = dp_server_url_parse(&url, text);
    if (error != DP_OK)
        return error;
    const char *bracket = strchr(text, ']'); /* the colons of an IPv6 address are no port's */
    uint16_t port = strchr(bracket != NULL ? bracket : text, ':') != NULL ? url.port : 3478;
    return dp_resolve(url.host, port, out, 4, count);
}

int app_peer(app *a, const dp_peer_handler *handler, bool reconnect)
{
    dp_address stun[4];
    size_t stun_count = 0;
    if (a->stun != NULL && resolve_stun(a->stun, stun, &stun_count) != DP_OK) {
        app_error("--stun %s can't be resolved; it should look like stun.example.org:3478", a->stun);
        return EXIT_USAGE;
    }
    dp_peer_config config = {.size = sizeof(config),
                             .loop = a->loop,
                             .random = a->random,
                             .log = a->log,
                             .server = a->server,
                             .key = a->key,
                             .id = a->id,
                             .stun_servers = stun,
                             .stun_server_count = stun_count,
                             .reconnect = reconnect,
                             .udp_port = a->port,
                             .include_loopback = true,
                             .handler = *handler};
    int error = dp_peer_new(&a->peer, &config);
    if (error == DP_OK)
        return EXIT_OK;
    if (error == DP_ERR_INVALID_ARGUMENT && a->id != NULL && !dp_peer_id_valid(a->id))
        app_error("'%s' can't be an id: letters and digits, in groups joined by one '-', '_' or space",
                  a->id);
    else if (error == DP_ERR_MALFORMED)
        app_error("'%s' is no server address; it should look like ws://host:9000/", a->server);
    else if (error == DP_ERR_UNSUPPORTED)
        app_error("'%s': secure servers (wss, https) can't be used yet; use ws://", a->server);
    else if (error == DP_ERR_IO && a->port != 0)
        app_error("UDP port %u can't be used: is another program using it? Choose one with --port", a->port);
    else
        app_error("can't start: %s", dp_strerror(error));
    bool usage = error == DP_ERR_INVALID_ARGUMENT || error == DP_ERR_MALFORMED ||
                 error == DP_ERR_UNSUPPORTED || (error == DP_ERR_IO && a->port != 0);
    return usage ? EXIT_USAGE : EXIT_NETWORK;
}

int app_finish(app *a)
{
    if (a->peer != NULL)
        dp_peer_destroy(a->peer);
    /* The goodbyes leave and the objects free themselves in the next rounds. */
    for (int i = 0; i < 8 && a->loop != NULL; i++)
        dp_loop_step(a->loop, 0);
    if (a->signals != NULL)
        dp_signals_free(a->signals);
    if (a->loop != NULL)
        dp_loop_free(a->loop);
    dp_csprng_free(a->csprng);
    return a->exit_code;
}
