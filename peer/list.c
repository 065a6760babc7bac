/* Lists of the PeerServer's peers, each by a stream of its own. */
#include "peer/connection.h"

#include <stdio.h>

enum { MAX_LISTINGS = 8 };
#define TIMEOUT DP_SECONDS(20)

typedef struct listing {
    struct listing *next;
    dp_peer *peer;
    dp_peer_list *list;
    server_stream *stream;
    dp_peer_list_fn fn;
    void *user;
    dp_timer timer;
} listing;

static void drop(listing *l)
{
    listing **at = &l->peer->listings;
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    dp_timer_stop(&l->timer);
    dp_server_stream_free(l->stream);
    dp_peer_list_free(l->list);
    dp_free(l);
}

/* reason may be NULL. */
static void finish(listing *l, int error, const char *reason)
{
    dp_peer *peer = l->peer;
    size_t count = 0;
    const char *const *ids = error == DP_OK ? dp_peer_list_ids(l->list, &count) : NULL;
    char message[320];
    snprintf(message, sizeof(message), "Could not get list peers from the server. %s",
             reason != NULL && reason[0] != '\0' ? reason : dp_strerror(error));
    dp_timer_stop(&l->timer);
    dp_server_stream_close(l->stream);
    l->fn(l->user, error, ids, count);
    drop(l);
    if (error != DP_OK && error != DP_ERR_CLOSED)
        dp_peer_report(peer, "server-error", message);
}

static void on_timeout(void *user) { finish(user, DP_ERR_TIMEOUT, NULL); }

static void on_up(void *user)
{
    listing *l = user;
    size_t len;
    const uint8_t *request = dp_peer_list_request(l->list, &len);
    int error = dp_tcp_send(dp_server_stream_tcp(l->stream), request, len);
    if (error != DP_OK)
        finish(l, error, NULL);
}

static void on_data(void *user, const uint8_t *data, size_t len)
{
    listing *l = user;
    int error = dp_peer_list_input(l->list, data, len);
    if (error != DP_ERR_WOULD_BLOCK)
        finish(l, error, dp_peer_list_reason(l->list));
}

static void on_drained(void *user) { (void)user; }

static void on_down(void *user, bool tls, const char *reason)
{
    listing *l = user;
    (void)tls;
    int error = dp_peer_list_end(l->list);
    finish(l, error == DP_ERR_MALFORMED ? DP_ERR_IO : error, reason);
}

int dp_peer_list_all_peers(dp_peer *peer, dp_peer_list_fn fn, void *user)
{
    server_stream_handler handler = {on_up, on_data, on_drained, on_down, NULL};
    size_t count = 0;
    for (const listing *l = peer->listings; l != NULL; l = l->next)
        count++;
    if (peer->destroying || peer->destroyed || count == MAX_LISTINGS)
        return count == MAX_LISTINGS ? DP_ERR_LIMIT : DP_ERR_INVALID_STATE;
    listing *l = dp_calloc(1, sizeof(*l));
    if (l == NULL)
        return DP_ERR_NO_MEMORY;
    *l = (listing){.next = peer->listings, .peer = peer, .fn = fn, .user = user};
    l->timer = (dp_timer){.fn = on_timeout, .user = l};
    peer->listings = l;
    handler.user = l;
    int error = dp_peer_list_new(&l->list, &peer->server, peer->key, &peer->random);
    if (error == DP_OK)
        error = dp_server_stream_new_like(&l->stream, peer->stream, &handler);
    if (error == DP_OK)
        error = dp_timer_set(peer->loop, &l->timer, dp_loop_now(peer->loop) + TIMEOUT);
    if (error != DP_OK) {
        drop(l);
        return error;
    }
    dp_server_stream_open(l->stream, peer->server.host, peer->server.port, peer->server.secure);
    return DP_OK;
}

void dp_listings_end(dp_peer *peer)
{
    while (peer->listings != NULL)
        finish(peer->listings, DP_ERR_CLOSED, NULL);
}
