#include "stun_host.h"

#include <stdlib.h>
#include <string.h>

enum { SOCKETS = 8 };

struct stun_host {
    dp_loop *loop;
    dp_stun_server *server;
    dp_udp *sockets[SOCKETS];
    size_t socket_count;
    uint64_t no_room; /* datagrams dropped because the loop's batch was full */
};

static void on_packets(void *user, dp_udp *udp, dp_udp_packet *packets, size_t count)
{
    stun_host *host = user;
    dp_time now = dp_loop_now(host->loop);
    dp_datagram slot;
    for (size_t i = 0; i < count; i++) {
        if (dp_udp_slot(host->loop, &slot) != DP_OK) {
            host->no_room += count - i;
            return;
        }
        if (dp_stun_server_answer(host->server, &slot, now, packets[i].data, packets[i].len, packets[i].local,
                                  &packets[i].remote))
            dp_udp_commit(host->loop, udp, &slot);
    }
}

int stun_host_new(stun_host **out, dp_loop *loop, dp_random random)
{
    const dp_stun_server_config config = {
        .size = sizeof(config), .random = random, .software = "datapeer " DP_VERSION};
    stun_host *host = calloc(1, sizeof(*host));
    if (host == NULL)
        return DP_ERR_NO_MEMORY;
    host->loop = loop;
    int error = dp_stun_server_new(&host->server, &config);
    if (error != DP_OK) {
        free(host);
        return error;
    }
    *out = host;
    return DP_OK;
}

int stun_host_listen(stun_host *host, dp_address *local)
{
    const dp_udp_handler handler = {.on_packets = on_packets, .user = host};
    if (host->socket_count == SOCKETS)
        return DP_ERR_LIMIT;
    dp_udp **at = &host->sockets[host->socket_count];
    int error = dp_udp_open(at, host->loop, local, &handler);
    if (error != DP_OK)
        return error;
    *local = *dp_udp_local(*at);
    host->socket_count++;
    return DP_OK;
}

void stun_host_free(stun_host *host)
{
    if (host == NULL)
        return;
    while (host->socket_count > 0)
        dp_udp_close(host->sockets[--host->socket_count]);
    dp_stun_server_free(host->server);
    free(host);
}

size_t stun_host_metrics(void *ctx, dp_signal_metric *out, size_t capacity)
{
    const stun_host *host = ctx;
    dp_stun_server_stats n = {.size = sizeof(n)};
    dp_stun_server_get_stats(host->server, &n);
    const dp_signal_metric metrics[] = {
        {"stun_answered_total", "counter", "Requests answered with an address.", n.answered},
        {"stun_refused_total", "counter", "Requests answered with an error.", n.refused},
        {"stun_limited_total", "counter", "Requests over a rate.", n.limited},
        {"stun_dropped_total", "counter", "Datagrams dropped: no requests, or no room.",
         n.dropped + host->no_room},
    };
    size_t count = sizeof(metrics) / sizeof(metrics[0]);
    if (count > capacity)
        count = capacity;
    memcpy(out, metrics, count * sizeof(metrics[0]));
    return count;
}
