/* A STUN server on the loop: sockets around one dp_stun_server. No line in the log for a packet: it has counters. */
#ifndef APPS_STUN_HOST_H
#define APPS_STUN_HOST_H

#include <datapeer/datapeer.h>

typedef struct stun_host stun_host;

int stun_host_new(stun_host **out, dp_loop *loop, dp_random random);
/* One more address to listen on; local gets its port. LIMIT over 8 of them. */
int stun_host_listen(stun_host *host, dp_address *local);
void stun_host_free(stun_host *host);

/* The counters, as dp_signal_server_config wants them; ctx is the host. */
size_t stun_host_metrics(void *ctx, dp_signal_metric *out, size_t capacity);

#endif
