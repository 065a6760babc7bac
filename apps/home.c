#include "home.h"

#include "lan.h"
#include <stdio.h>
#include <string.h>

static const char *mount_of(const home *h)
{
    const char *path = h->app->signal.path;
    return path != NULL && path[0] != '\0' ? path : "/";
}

/* ---- the addresses of the page --------------------------------------------------------------------------- */

/* The page at this host, which is as --host says it, or an address; without a page, the PeerServer alone. */
static void print_link(const home *h, const char *host, uint16_t port, const char *id)
{
    const char *mount = mount_of(h);
    bool brackets = strchr(host, ':') != NULL && host[0] != '[';
    const char *token_file = h->app->access_token[0] != '\0' ? h->app->token_file : NULL;
    printf("%s%s://%s%s%s:%u%s%s", h->page != NULL ? "open http" : "PeerServer ws",
           h->peer_server.tls != NULL ? "s" : "", brackets ? "[" : "", host, brackets ? "]" : "", port, mount,
           mount[strlen(mount) - 1] == '/' ? "" : "/");
    if (h->page != NULL) {
        fputs(token_file != NULL ? "#id=" : "#", stdout);
        for (const char *c = id; *c != '\0'; c++) /* nothing else needs it: see dp_peer_id_valid */
            printf(*c == ' ' ? "%%20" : "%c", *c);
    }
    if (h->page != NULL && token_file != NULL)
        printf("&token=... with the text in %s", token_file);
    putchar('\n');
}

static bool is_any(const dp_address *address)
{
    static const uint8_t any[16];
    return memcmp(address->ip, any, sizeof(any)) == 0;
}

/* Each address of this machine that another one may name and gets answers at; none with a zone, which no browser takes. */
static void print_links_everywhere(const home *h, const dp_address *listening, const char *id)
{
    dp_address own[32];
    char text[DP_ADDRESS_TEXT_MAX];
    size_t count = 0;
    (void)dp_interfaces(own, 32, &count, true);
    for (size_t i = 0; i < count; i++)
        if (own[i].family == listening->family && own[i].scope == 0 && !lan_is_loopback(&own[i]) &&
            (h->app->signal.host_count > 0 || lan_is_private(&own[i])))
            print_link(h, dp_address_format_ip(&own[i], text), listening->port, id);
}

static void print_links(const home *h, const char *id)
{
    const peer_server *p = &h->peer_server;
    bool everywhere = false;
    peer_server_print_stun(p);
    for (size_t i = 0; i < p->listening_count; i++)
        if (is_any(&p->listening[i])) {
            print_links_everywhere(h, &p->listening[i], id);
            everywhere = true;
        } else {
            print_link(h, h->app->signal.hosts[i], p->listening[i].port, id);
        }
    if (everywhere)
        print_link(h, "localhost", p->listening[0].port, id);
    fflush(stdout);
}

/* ---- opening ------------------------------------------------------------------------------------------------ */

/* What the page gets to know: our PeerServer's key, the port of our own STUN server, at whatever host the page was asked
 * from, and the other STUN servers, though no TURN server, which would need our password; that we use one is enough. */
static dp_value *make_config(const app *a)
{
    dp_value *config = dp_value_map();
    dp_value *servers = dp_value_array();
    int error = config != NULL && servers != NULL ? DP_OK : DP_ERR_NO_MEMORY;
    for (size_t i = 0; i < a->network.url_count && error == DP_OK; i++) {
        dp_value *server = strncmp(a->network.urls[i], "stun:", 5) == 0 ? dp_value_map() : NULL;
        if (server == NULL)
            continue;
        error = dp_value_set(server, "urls", dp_value_string(a->network.urls[i]));
        if (error == DP_OK)
            error = dp_value_push(servers, server);
        else
            dp_value_free(server);
    }
    if (error == DP_OK)
        error = dp_value_set(config, "iceServers", servers);
    else
        dp_value_free(servers);
    if (error == DP_OK && a->key != NULL)
        error = dp_value_set(config, "key", dp_value_string(a->key));
    if (error == DP_OK && a->signal.stun)
        error = dp_value_set(config, "stunPort", dp_value_uint(a->signal.stun_port));
    if (error == DP_OK)
        return config;
    dp_value_free(config);
    return NULL;
}

static int open_page(home *h)
{
    const app *a = h->app;
    if (a->page != NULL || page_is_embedded())
        return page_open(&h->page, a->page, mount_of(h), make_config(a)) ? EXIT_OK : EXIT_REMOTE;
    app_error("there is no page in this program, as Node.js and its modules were missing when it was built; "
              "--page DIR takes one from a folder");
    return EXIT_OK;
}

/* We are a client of it as any other is, by TCP on this machine: what a Peer and a PeerServer do to each other is the same
 * everywhere, and tested. */
int home_open(home *h, app *a)
{
    dp_address inside;
    char text[DP_ADDRESS_TEXT_MAX];
    h->app = a;
    int code = open_page(h);
    if (code == EXIT_OK)
        code = peer_server_open(&h->peer_server, a, h->page != NULL ? page_find : NULL, h->page);
    if (code == EXIT_OK)
        code = peer_server_listen_inside(&h->peer_server, &inside);
    if (code != EXIT_OK)
        return code;
    snprintf(h->url, sizeof(h->url), "ws://%s%s", dp_address_format(&inside, text), mount_of(h));
    a->server = h->url;
    h->peer_server.home = true;
    return EXIT_OK;
}

int home_answer(home *h, const char *id)
{
    if (h->app == NULL || h->peer_server.listening_count > 0)
        return EXIT_OK;
    const network_options *net = &h->app->network;
    int code = peer_server_listen(&h->peer_server, net->port_given ? net->port : SIGNAL_PORT);
    if (code == EXIT_OK)
        print_links(h, id);
    return code;
}

void home_close(home *h)
{
    if (h->app == NULL)
        return;
    if (h->peer_server.listening_count > 0)
        peer_server_end(&h->peer_server);
    peer_server_close(&h->peer_server);
    page_free(h->page);
}
