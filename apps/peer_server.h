/* The PeerServer of 'datapeer signal' and 'datapeer serve', as its options want it: TLS, addresses, limits, its log. */
#ifndef APPS_PEER_SERVER_H
#define APPS_PEER_SERVER_H

#include "app.h"
#include "signal_host.h"
#include "stun_host.h"

typedef struct peer_server {
    app *app;
    signal_host *host;
    dp_tls_server *tls;
    const dp_signal_cluster *cluster; /* set before peer_server_open: NULL: this one alone */
    bool home; /* set before peer_server_listen: for the local network alone, unless --host is for others */
    dp_address listening[SIGNAL_HOSTS_MAX]; /* as --host says, or all addresses of IPv4, and of IPv6 */
    size_t listening_count;
    stun_host *stun; /* NULL: there is none; else it listens at the same addresses */
    uint16_t stun_port;
    bool stranger_told, foreign_page_told;
} peer_server;

/* These give EXIT_OK, or print what is wrong and give another code. Options: app->signal, app->key, app->access_token. */

/* The app was started. find_file and file_ctx are dp_signal_server_config's. */
int peer_server_open(peer_server *p, app *a,
                     bool (*find_file)(void *ctx, const char *path, dp_signal_file *file), void *file_ctx);
/* port 0: any free one, the same for all addresses. */
int peer_server_listen(peer_server *p, uint16_t port);
/* Tells where the STUN server listens, if there is one. */
void peer_server_print_stun(const peer_server *p);
/* For this process itself: on a loopback address, without TLS. */
int peer_server_listen_inside(peer_server *p, dp_address *local);
/* Tells the clients goodbye and runs the loop until they are gone, or it is stopped. */
void peer_server_end(peer_server *p);
/* Also one that was not opened. */
void peer_server_close(peer_server *p);

#endif
