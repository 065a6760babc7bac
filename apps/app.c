#include "app.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* In pieces: standard error has no buffer, and each write is a system call. */
void app_print_safe(void *file, const char *text, size_t len)
{
    char piece[256];
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        unsigned char next = i + 1 < len ? (unsigned char)text[i + 1] : 0;
        bool c1 = c == 0xc2 && next >= 0x80 && next < 0xa0; /* U+0080 to U+009F: U+009B is another ESC [ */
        piece[n++] = c < 0x20 || c == 0x7f || c1 ? '?' : (char)c;
        i += c1;
        if (n == sizeof(piece) || i + 1 >= len) {
            fwrite(piece, 1, n, file);
            n = 0;
        }
    }
}

/* The newest ones, each once. */
static void keep_warning(app *a, const char *message)
{
    size_t last = APP_WARNINGS - 1;
    for (size_t i = 0; i < a->warning_count; i++)
        if (strncmp(a->warnings[i], message, sizeof(a->warnings[i]) - 1) == 0)
            return;
    if (a->warning_count > last) {
        memmove(a->warnings[0], a->warnings[1], last * sizeof(a->warnings[0]));
        a->warning_count = last;
    }
    snprintf(a->warnings[a->warning_count++], sizeof(a->warnings[0]), "%s", message);
}

void app_explain_failure(app *a)
{
    for (size_t i = 0; i < a->warning_count; i++) {
        app_error("%s", a->warnings[i]);
        if (strstr(a->warnings[i], "not signed by a known authority") != NULL)
            app_error(
                "if that server is the right one, give its authority's certificate with --turn-ca FILE");
    }
    a->warning_count = 0;
}

static void log_line(void *ctx, dp_log_level level, const char *layer, const char *message)
{
    static const char *const names[] = {"", "error", "warn", "info", "debug"};
    app *a = ctx;
    if (a->verbose == 0) {
        keep_warning(a, message);
        return;
    }
    fprintf(stderr, "%s %s: ", names[level], layer);
    app_print_safe(stderr, message, strlen(message));
    fputc('\n', stderr);
}

static const char common_help[] = /* behind way_help */
    "  --key KEY              its key (default: $PEER_KEY or peerjs)\n"
    "  --access-token-file F  the text in F, a file closed to others, is what it lets us in by\n"
    "  --id ID                our own id (default: the server gives one)\n"
    "\n";

static const char serve_help[] =
    "  --host HOST            address or name to listen on, may be repeated, and there everybody gets "
    "answers\n"
    "                         (default: all addresses, but answers for the local network alone)\n"
    "  --allow-origin ORIGIN  answer pages of this site, too, as http://nas.example.org:9000; may be "
    "repeated\n"
    "                         (default: without --host, addresses and names of the local network)\n"
    "  --page DIR             the files of a page, instead of the one in this program\n";

enum {
    OPTION_SERVER = 256,
    OPTION_CLOUD,
    OPTION_CAFILE,
    OPTION_INSECURE,
    OPTION_PROXY,
    OPTION_KEY,
    OPTION_TOKEN_FILE,
    OPTION_ID,
    OPTION_ICE_SERVER,
    OPTION_TURN_USER,
    OPTION_TURN_CA,
    OPTION_TCP,
    OPTION_RELAY_ONLY,
    OPTION_HIDE_ADDRESSES,
    OPTION_BIND,
    OPTION_PORT,
    OPTION_PORT_RANGE,
    OPTION_MTU,
    OPTION_LITE,
    OPTION_CERTIFICATE,
    OPTION_EPHEMERAL,
    OPTION_FINGERPRINT,
    OPTION_PAGE,
    OPTION_ALLOW_ORIGIN,
};

static const struct option options[] = {
    {"server", required_argument, NULL, OPTION_SERVER},
    {"cloud", no_argument, NULL, OPTION_CLOUD},
    {"cafile", required_argument, NULL, OPTION_CAFILE},
    {"insecure", no_argument, NULL, OPTION_INSECURE},
    {"proxy", required_argument, NULL, OPTION_PROXY},
    {"key", required_argument, NULL, OPTION_KEY},
    {"access-token-file", required_argument, NULL, OPTION_TOKEN_FILE},
    {"id", required_argument, NULL, OPTION_ID},
    {"output", required_argument, NULL, 'o'},
    {"ice-server", required_argument, NULL, OPTION_ICE_SERVER},
    {"turn-user", required_argument, NULL, OPTION_TURN_USER},
    {"turn-ca", required_argument, NULL, OPTION_TURN_CA},
    {"tcp", no_argument, NULL, OPTION_TCP},
    {"relay-only", no_argument, NULL, OPTION_RELAY_ONLY},
    {"hide-addresses", no_argument, NULL, OPTION_HIDE_ADDRESSES},
    {"bind", required_argument, NULL, OPTION_BIND},
    {"port", required_argument, NULL, OPTION_PORT},
    {"port-range", required_argument, NULL, OPTION_PORT_RANGE},
    {"mtu", required_argument, NULL, OPTION_MTU},
    {"lite", no_argument, NULL, OPTION_LITE},
    {"certificate", required_argument, NULL, OPTION_CERTIFICATE},
    {"ephemeral", no_argument, NULL, OPTION_EPHEMERAL},
    {"fingerprint", required_argument, NULL, OPTION_FINGERPRINT},
    {"page", required_argument, NULL, OPTION_PAGE},
    {"allow-origin", required_argument, NULL, OPTION_ALLOW_ORIGIN},
    SIGNAL_OPTION_ROWS,
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static const char *from_environment(const char *name)
{
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? text : NULL;
}

/* False: wrong, and that was printed. */
static bool take_option(app *a, int option)
{
    network_options *net = &a->network;
    switch (option) {
    case OPTION_SERVER:
        a->way_options.server = optarg;
        return true;
    case OPTION_CLOUD:
        return a->way_options.cloud = true;
    case OPTION_CAFILE:
        a->way_options.ca_file = optarg;
        return true;
    case OPTION_INSECURE:
        return a->way_options.insecure = true;
    case OPTION_PROXY:
        a->way_options.proxy = optarg;
        return true;
    case OPTION_KEY:
        a->key = optarg;
        return true;
    case OPTION_TOKEN_FILE:
        a->token_file = optarg;
        return true;
    case OPTION_ID:
        a->id = optarg;
        return true;
    case 'o':
        a->output = optarg;
        return true;
    case 'v':
        a->verbose++;
        return true;
    case OPTION_ICE_SERVER:
        return network_add_server(net, optarg);
    case OPTION_TURN_USER:
        net->turn_user = optarg;
        return true;
    case OPTION_TURN_CA:
        net->turn_ca = optarg;
        return true;
    case OPTION_TCP:
        return net->tcp = true;
    case OPTION_RELAY_ONLY:
        return net->relay_only = true;
    case OPTION_HIDE_ADDRESSES:
        return net->hide_addresses = true;
    case OPTION_BIND:
        return network_add_bind(net, optarg);
    case OPTION_PORT:
        return network_set_port(net, optarg);
    case OPTION_PORT_RANGE:
        return network_set_port_range(net, optarg);
    case OPTION_MTU:
        return network_set_mtu(&net->datagram_size, optarg);
    case OPTION_LITE:
        return net->lite = true;
    case OPTION_CERTIFICATE:
        a->identity.file = optarg;
        return true;
    case OPTION_EPHEMERAL:
        return a->identity.ephemeral = true;
    case OPTION_FINGERPRINT:
        return identity_set_pin(&a->identity, optarg);
    case OPTION_PAGE:
        a->page = optarg;
        return true;
    case OPTION_ALLOW_ORIGIN:
        return signal_options_add_origin(&a->signal, optarg);
    default:
        return signal_options_take(&a->signal, option);
    }
}

static bool check_signal(const app *a, const char *command)
{
    const way_options *o = &a->way_options;
    const char *given = a->page != NULL              ? "page"
                        : a->signal.origin_count > 0 ? "allow-origin"
                                                     : a->signal.given;
    bool serve = strcmp(command, "serve") == 0;
    bool own = serve && !a->way.named;
    if (given != NULL && !serve)
        app_error("--%s is about a PeerServer of our own, which 'datapeer serve' and 'signal' have", given);
    else if (given != NULL && !own)
        app_error("--%s is about a PeerServer of our own, but %s is named: give one of them", given,
                  a->server);
    else if (own && (o->ca_file != NULL || o->insecure || o->proxy != NULL))
        app_error("--cafile, --insecure and --proxy are about another PeerServer: name it with --server");
    else if (own && a->network.tcp && a->network.port != 0)
        app_error("--tcp takes TCP port %u for the connections, and the page would need it, too: leave out "
                  "--port, or run 'datapeer signal' beside this and name it with --server",
                  a->network.port);
    else
        return signal_options_check(&a->signal);
    return false;
}

int app_options(app *a, int argc, char **argv, const char *help, char ***operands, int *operand_count)
{
    memset(a, 0, sizeof(*a));
    a->key = from_environment("PEER_KEY");
    a->network.turn_user = from_environment("TURN_USER");
    signal_options_init(&a->signal);
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "o:vh", options, NULL)) != -1;) {
        if (c == 'h') {
            printf("%s\n%s%s%s%s", help, way_help, common_help, network_help, identity_help);
            if (strcmp(argv[0], "serve") == 0)
                printf("\nThe PeerServer of our own, if no other is named:\n%s%s", serve_help,
                       signal_options_help);
            return -1;
        }
        if (!take_option(a, c)) {
            fprintf(stderr, "Try 'datapeer %s --help'.\n", argv[0]);
            return EXIT_USAGE;
        }
    }
    *operands = argv + optind;
    *operand_count = argc - optind;
    bool good = way_find(&a->way, &a->way_options) && network_check(&a->network, argv[0]) &&
                identity_check(&a->identity, argv[0]);
    a->server = a->way.server;
    return good && check_signal(a, argv[0]) ? EXIT_OK : EXIT_USAGE;
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

static bool read_access_token(app *a)
{
    dp_file_error why;
    size_t len = 0;
    if (a->token_file == NULL)
        return true;
    int error = dp_secret_file_read((uint8_t *)a->access_token, ACCESS_TOKEN_MAX, &len, a->token_file, &why);
    if (error != DP_OK) {
        app_error("%s", why.message);
        return false;
    }
    a->access_token[len] = '\0';
    a->access_token[strcspn(a->access_token, "\r\n")] = '\0';
    if (a->access_token[0] == '\0')
        app_error("%s: there is no token in it", a->token_file);
    return a->access_token[0] != '\0';
}

int app_start(app *a)
{
    static const int stop_signals[] = {SIGINT, SIGTERM, SIGHUP};
    a->log = (dp_log){.fn = log_line,
                      .ctx = a,
                      .level = a->verbose < 2    ? DP_LOG_WARN
                               : a->verbose == 2 ? DP_LOG_INFO
                                                 : DP_LOG_DEBUG};
    if (!read_access_token(a))
        return EXIT_REMOTE;
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
    a->key_log = key_log_open(&a->key_log_file, from_environment("SSLKEYLOGFILE"));
    return EXIT_OK;
}

bool app_explain_ports(const app *a, int error)
{
    const network_options *net = &a->network;
    if (error != DP_ERR_IO || net->port_min == 0)
        return false;
    app_error("no UDP port from %u to %u is free: give a wider --port-range", net->port_min, net->port_max);
    return true;
}

static void explain(const app *a, int error)
{
    const network_options *net = &a->network;
    if (error == DP_ERR_INVALID_ARGUMENT && a->id != NULL && !dp_peer_id_valid(a->id))
        app_error("'%s' can't be an id: letters and digits, in groups joined by one '-', '_' or space",
                  a->id);
    else if (error == DP_ERR_INVALID_ARGUMENT)
        app_error("an ICE server can't be used: is its address one of a single machine?");
    else if (error == DP_ERR_IO && net->port != 0)
        app_error("UDP port %u can't be used: is another program using it? Choose one with --port",
                  net->port);
    else if (!app_explain_ports(a, error))
        app_error("can't start: %s", dp_strerror(error));
}

enum { OWN_TOKEN = 16 };

/* The access token, and something that only we know: all who have the former could pass for us otherwise. NULL: any
 * token will do. */
static const char *make_token(const app *a, char token[ACCESS_TOKEN_MAX + 2 * OWN_TOKEN + 1])
{
    uint8_t own[OWN_TOKEN];
    size_t len = strlen(a->access_token);
    if (len == 0 || a->random.fn(a->random.ctx, own, sizeof(own)) != DP_OK)
        return NULL;
    memcpy(token, a->access_token, len);
    for (size_t i = 0; i < sizeof(own); i++)
        snprintf(token + len + 2 * i, 3, "%02x", own[i]);
    return token;
}

int app_peer(app *a, const dp_peer_handler *handler)
{
    const network_options *net = &a->network;
    char token[ACCESS_TOKEN_MAX + 2 * OWN_TOKEN + 1];
    ice_servers ice;
    if (!identity_open(&a->certificate, &a->identity, &a->random, a->lasting, a->verbose > 0))
        return EXIT_REMOTE;
    if (!network_resolve(&ice, net))
        return EXIT_NETWORK;
    dp_peer_config config = {.size = sizeof(config),
                             .loop = a->loop,
                             .random = a->random,
                             .log = a->log,
                             .server = a->server,
                             .key = a->key,
                             .id = a->id,
                             .token = make_token(a, token),
                             .certificate = a->certificate,
                             .key_log = a->key_log,
                             .reconnect = true,
                             .ca_file = a->way.ca_file,
                             .insecure = a->way_options.insecure,
                             .proxy = a->way.proxy,
                             .ice_servers = ice.servers,
                             .ice_server_count = ice.count,
                             .turn_ca_file = net->turn_ca,
                             .ice_tcp = net->tcp,
                             .relay_only = net->relay_only,
                             .hide_addresses = net->hide_addresses,
                             .ice_lite = net->lite,
                             .bind_addresses = net->binds,
                             .bind_count = net->bind_count,
                             .udp_port = net->port,
                             .port_min = net->port_min,
                             .port_max = net->port_max,
                             .datagram_size = net->datagram_size,
                             .handler = *handler};
    a->missing_servers = ice.missing;
    int error = dp_peer_new(&a->peer, &config);
    if (error == DP_OK)
        return EXIT_OK;
    explain(a, error);
    bool usage =
        error == DP_ERR_INVALID_ARGUMENT || (error == DP_ERR_IO && (net->port != 0 || net->port_min != 0));
    return usage ? EXIT_USAGE : EXIT_NETWORK;
}

void app_find_servers(app *a)
{
    ice_servers ice;
    size_t missing = a->missing_servers;
    if (missing == 0 || !network_resolve(&ice, &a->network))
        return;
    a->missing_servers = ice.missing;
    if (ice.missing < missing && dp_peer_set_ice_servers(a->peer, ice.servers, ice.count) == DP_OK)
        app_error("the other servers of --ice-server have been found now");
}

void app_leave(app *a)
{
    if (a->peer != NULL)
        dp_peer_destroy(a->peer);
    a->peer = NULL;
    /* The goodbyes leave and the objects free themselves in the next rounds. */
    for (int i = 0; i < 8 && a->loop != NULL; i++)
        dp_loop_step(a->loop, 0);
}

int app_finish(app *a)
{
    app_leave(a);
    if (a->signals != NULL)
        dp_signals_free(a->signals);
    if (a->loop != NULL)
        dp_loop_free(a->loop);
    dp_certificate_free(a->certificate);
    key_log_close(&a->key_log_file);
    dp_csprng_free(a->csprng);
    explicit_bzero(a->access_token, sizeof(a->access_token));
    return a->exit_code;
}
