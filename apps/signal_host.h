/* A PeerServer on the loop: listeners, streams, timer and log around one dp_signal_server. */
#ifndef APPS_SIGNAL_HOST_H
#define APPS_SIGNAL_HOST_H

#include <datapeer/datapeer.h>

typedef struct signal_host signal_host;

typedef struct signal_host_config {
    dp_loop *loop;
    dp_signal_server_config server;
    void (*on_event)(void *user, const dp_signal_event *event); /* all but CLOSE; may be NULL */
    void *user;
    const char *const *origins; /* whose pages get answers everywhere; they stay the caller's */
    size_t origin_count;
} signal_host_config;

int signal_host_new(signal_host **out, const signal_host_config *config);
/* One more address to listen on; local gets its port. tls: NULL: none; stays the caller's. lan_only: whoever is not of
 * the local network (lan.h) is refused, with signal_host_stranger as the event's reason, and so are browsers whose page
 * comes from elsewhere, with signal_host_foreign_page. */
int signal_host_listen(signal_host *host, dp_address *local, dp_tls_server *tls, bool lan_only);
extern const char signal_host_stranger[], signal_host_foreign_page[];
/* Tells the clients goodbye and accepts no more; DP_SIGNAL_EVENT_DONE follows. */
void signal_host_shutdown(signal_host *host);
/* Also without a shutdown. Not inside a callback. */
void signal_host_free(signal_host *host);
/* For what the cluster says: dp_signal_server_claimed and its like, and then signal_host_pump. */
dp_signal_server *signal_host_server(const signal_host *host);
void signal_host_pump(signal_host *host);

#endif
