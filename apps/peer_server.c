#include "peer_server.h"

#include "lan.h"
#include <stdio.h>
#include <sys/resource.h>

/* ---- log ------------------------------------------------------------------------------------------------- */

/* A home's device is not meant for strangers; who wants it to be hears how, once. */
static void tell_stranger(peer_server *p, const dp_address *remote)
{
    char address[DP_ADDRESS_TEXT_MAX];
    if (!p->stranger_told)
        app_error("%s is not of the local network and gets no answer; --host ADDRESS answers everybody there",
                  dp_address_format_ip(remote, address));
    p->stranger_told = true;
}

static void tell_foreign_page(peer_server *p, const dp_address *remote)
{
    char address[DP_ADDRESS_TEXT_MAX];
    if (!p->foreign_page_told)
        app_error("a browser at %s has a page that is not of the local network, which gets no answer; "
                  "--allow-origin answers the pages of one site, --host ADDRESS, if that is no loopback "
                  "address, all",
                  dp_address_format_ip(remote, address));
    p->foreign_page_told = true;
}

/* One line an event: name=value pairs, text in quotation marks. */
static void log_event(const dp_signal_event *event)
{
    static const char *const names[] = {[DP_SIGNAL_EVENT_JOINED] = "joined",
                                        [DP_SIGNAL_EVENT_LEFT] = "left",
                                        [DP_SIGNAL_EVENT_REFUSED] = "refused",
                                        [DP_SIGNAL_EVENT_EXPIRED] = "expired"};
    char address[DP_ADDRESS_TEXT_MAX];
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

static void on_event(void *user, const dp_signal_event *event)
{
    peer_server *p = user;
    if (event->type == DP_SIGNAL_EVENT_DONE)
        dp_loop_stop(p->app->loop);
    else if (p->app->verbose > 0)
        log_event(event);
    else if (event->reason == signal_host_stranger)
        tell_stranger(p, &event->remote);
    else if (event->reason == signal_host_foreign_page)
        tell_foreign_page(p, &event->remote);
}

/* Each client takes a descriptor, and systems start programs with 1,024. */
static void allow_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* ---- opening ------------------------------------------------------------------------------------------------ */

static bool open_tls(peer_server *p)
{
    const app *a = p->app;
    dp_file_error why = {""};
    if (a->signal.tls_cert == NULL)
        return true;
    const dp_tls_server_config config = {.size = sizeof(config),
                                         .certificate_file = a->signal.tls_cert,
                                         .key_file = a->signal.tls_key,
                                         .random = a->random,
                                         .log = a->log,
                                         .key_log = a->key_log,
                                         .handshake_rate = (unsigned)a->signal.connection_rate};
    int error = dp_tls_server_new(&p->tls, &config, &why);
    if (error != DP_OK)
        app_error("%s", why.message[0] != '\0' ? why.message : dp_strerror(error));
    return error == DP_OK;
}

static unsigned rate(uint64_t per_second) { return per_second == 0 ? UINT32_MAX : (unsigned)per_second; }

static int open_stun(peer_server *p)
{
    int error = DP_OK;
    if (p->app->signal.stun)
        error = stun_host_new(&p->stun, p->app->loop, p->app->random);
    p->stun_port = (uint16_t)p->app->signal.stun_port;
    if (error != DP_OK)
        app_error("can't start the STUN server: %s", dp_strerror(error));
    return error;
}

int peer_server_open(peer_server *p, app *a,
                     bool (*find_file)(void *ctx, const char *path, dp_signal_file *file), void *file_ctx)
{
    const signal_options *o = &a->signal;
    p->app = a;
    allow_descriptors();
    if (!open_tls(p))
        return EXIT_REMOTE;
    if (open_stun(p) != DP_OK)
        return EXIT_NETWORK;
    signal_host_config config = {.loop = a->loop,
                                 .on_event = on_event,
                                 .user = p,
                                 .origins = o->origins,
                                 .origin_count = o->origin_count};
    config.server = (dp_signal_server_config){
        .size = sizeof(config.server),
        .random = a->random,
        .log = a->log,
        .path = o->path,
        .key = a->key,
        .access_token = a->access_token[0] != '\0' ? a->access_token : NULL,
        .allow_discovery = o->allow_discovery,
        .metrics = o->metrics,
        .concurrent_limit = (unsigned)o->concurrent_limit,
        .alive_timeout = DP_MS(o->alive_timeout),
        .expire_timeout = DP_MS(o->expire_timeout),
        .connection_rate = rate(o->connection_rate),
        .connection_burst = (unsigned)o->connection_rate * 10,
        .message_rate = rate(o->message_rate),
        .message_burst = (unsigned)o->message_rate * 10,
        .find_file = find_file,
        .file_ctx = file_ctx,
        .more_metrics = p->stun != NULL ? stun_host_metrics : NULL,
        .metrics_ctx = p->stun,
        .cluster = p->cluster,
    };
    int error = signal_host_new(&p->host, &config);
    if (error == DP_ERR_INVALID_ARGUMENT)
        app_error("--path must look like /myapp, and a key or token may have no control characters");
    else if (error != DP_OK)
        app_error("can't start: %s", dp_strerror(error));
    return error == DP_OK ? EXIT_OK : error == DP_ERR_INVALID_ARGUMENT ? EXIT_USAGE : EXIT_NETWORK;
}

/* ---- listening ----------------------------------------------------------------------------------------------- */

/* At the address of the PeerServer. Strangers are always answered: they are whom STUN is for. */
static bool listen_stun(peer_server *p, const dp_address *address)
{
    char text[DP_ADDRESS_TEXT_MAX];
    dp_address local = *address;
    local.port = p->stun_port;
    if (p->stun == NULL)
        return true;
    if (stun_host_listen(p->stun, &local) != DP_OK) {
        app_error(
            "can't listen on %s (UDP): is another program using it? Choose another port with --stun=PORT",
            dp_address_format(&local, text));
        return false;
    }
    p->stun_port = local.port;
    return true;
}

static bool listen_on(peer_server *p, dp_address *address, uint16_t *port)
{
    char text[DP_ADDRESS_TEXT_MAX];
    bool lan_only = p->home && (p->app->signal.host_count == 0 || lan_is_loopback(address));
    address->port = *port;
    if (signal_host_listen(p->host, address, p->tls, lan_only) != DP_OK) {
        app_error("can't listen on %s: is another program using it? Choose another port with --port",
                  dp_address_format(address, text));
        return false;
    }
    *port = address->port; /* of any free one, the other addresses get the same */
    p->listening[p->listening_count++] = *address;
    return listen_stun(p, address);
}

/* All addresses: a machine without IPv6 has only the first. */
static bool listen_everywhere(peer_server *p, uint16_t port)
{
    dp_address ipv4 = {.family = DP_FAMILY_IPV4};
    dp_address ipv6 = {.family = DP_FAMILY_IPV6};
    dp_address probe[16];
    size_t count = 0;
    if (!listen_on(p, &ipv4, &port))
        return false;
    bool has_ipv6 = false;
    if (dp_interfaces(probe, 16, &count, true) == DP_OK)
        for (size_t i = 0; i < count; i++)
            has_ipv6 |= probe[i].family == DP_FAMILY_IPV6;
    return !has_ipv6 || listen_on(p, &ipv6, &port);
}

int peer_server_listen(peer_server *p, uint16_t port)
{
    const signal_options *o = &p->app->signal;
    if (o->host_count == 0)
        return listen_everywhere(p, port) ? EXIT_OK : EXIT_NETWORK;
    for (size_t i = 0; i < o->host_count; i++) {
        dp_address found[2];
        size_t count = 0;
        if (dp_resolve(o->hosts[i], 0, found, 2, &count) != DP_OK || count == 0) {
            app_error("--host %s: no such address of this machine", o->hosts[i]);
            return EXIT_USAGE;
        }
        if (!listen_on(p, &found[0], &port))
            return EXIT_NETWORK;
    }
    return EXIT_OK;
}

void peer_server_print_stun(const peer_server *p)
{
    char text[DP_ADDRESS_TEXT_MAX];
    for (size_t i = 0; p->stun != NULL && i < p->listening_count; i++) {
        dp_address local = p->listening[i];
        local.port = p->stun_port;
        printf("listening on %s (STUN)\n", dp_address_format(&local, text));
    }
}

int peer_server_listen_inside(peer_server *p, dp_address *local)
{
    *local = (dp_address){.family = DP_FAMILY_IPV4, .ip = {127, 0, 0, 1}};
    int error = signal_host_listen(p->host, local, NULL, true);
    if (error != DP_OK)
        app_error("can't listen on 127.0.0.1: %s", dp_strerror(error));
    return error == DP_OK ? EXIT_OK : EXIT_NETWORK;
}

/* ---- the end -------------------------------------------------------------------------------------------------- */

void peer_server_end(peer_server *p)
{
    signal_host_shutdown(p->host);
    dp_loop_run(p->app->loop); /* another Ctrl-C stops it, too */
}

void peer_server_close(peer_server *p)
{
    signal_host_free(p->host);
    stun_host_free(p->stun);
    dp_tls_server_free(p->tls);
    *p = (peer_server){0};
}
