#include "peer/links.h"

#include "base/log.h"
#include "base/mem.h"
#include <stdio.h>
#include <string.h>

static const char layer[] = "peer";

/* What may wait in a stream before frames are dropped. As a router's queue it should not be much longer than the
 * path: what it holds is delay. */
enum { STREAM_QUEUE_MAX = 256 << 10 };
#define CONNECT_TIMEOUT DP_SECONDS(8) /* less than ICE waits for its candidates */

typedef struct link_socket {
    struct link_socket *next;
    links *owner;
    uint32_t id;
    bool has_name; /* a server's */
    dp_address remote;
    dp_udp *udp; /* one of the two */
    dp_tcp *tcp;
} link_socket;

static dp_time now_of(const link_socket *s) { return dp_loop_now(s->owner->network->loop); }

static link_socket *find(const links *l, uint32_t id)
{
    link_socket *s = l->first;
    while (s != NULL && s->id != id)
        s = s->next;
    return s;
}

static void close_socket(link_socket *s)
{
    link_socket **at = &s->owner->first;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    if (s->udp != NULL)
        dp_udp_close(s->udp);
    if (s->tcp != NULL)
        dp_tcp_close(s->tcp);
    dp_free(s);
}

static void fail(link_socket *s, const char *reason)
{
    links *l = s->owner;
    uint32_t id = s->id;
    dp_time now = now_of(s);
    char text[DP_ADDRESS_TEXT_MAX];
    /* Most of the addresses that a peer offers for TCP lead nowhere: that is what ICE is for. */
    DP_LOG(&l->log, s->has_name ? DP_LOG_WARN : DP_LOG_INFO, layer, "the link to %s: %s",
           dp_address_format(&s->remote, text), reason);
    close_socket(s);
    dp_pc_link_closed(l->pc, now, id);
}

/* Where the socket is bound: what ICE wants or, if only some addresses may be used, one of those. False: there is
 * none. */
static bool local_of(const link_socket *s, const dp_ice_link *link, dp_address *out)
{
    const network *n = s->owner->network;
    *out = link->local;
    if (link->local.family != DP_FAMILY_NONE || n->bind_count == 0)
        return true;
    size_t i = 0;
    while (i < n->address_count && n->addresses[i].family != link->remote.family)
        i++;
    if (i == n->address_count)
        return false;
    *out = n->addresses[i];
    out->port = 0;
    return true;
}

/* ---- UDP ---- */

static void on_packets(void *user, dp_udp *udp, dp_udp_packet *packets, size_t count)
{
    link_socket *s = user;
    links *l = s->owner;
    (void)udp;
    for (size_t i = 0; i < count; i++)
        if (dp_address_equal(&packets[i].remote, &s->remote))
            dp_pc_link_input(l->pc, now_of(s), s->id, packets[i].data, packets[i].len);
    l->pump(l->user);
}

static void on_writable(void *user, dp_udp *udp)
{
    link_socket *s = user;
    (void)udp;
    s->owner->pump(s->owner->user);
}

static int open_udp(link_socket *s, const dp_ice_link *link, dp_address local)
{
    dp_udp_handler handler = {on_packets, on_writable, s};
    if (local.family == DP_FAMILY_NONE)
        local.family = link->remote.family; /* the wildcard address */
    return dp_udp_open(&s->udp, s->owner->network->loop, &local, &handler);
}

/* ---- TCP and TLS ---- */

static void on_connected(void *user, dp_tcp *tcp)
{
    link_socket *s = user;
    links *l = s->owner;
    (void)tcp;
    dp_pc_link_opened(l->pc, now_of(s), s->id);
    l->pump(l->user);
}

static void take_data(link_socket *s, const uint8_t *data, size_t len)
{
    links *l = s->owner;
    uint8_t piece[4096]; /* what is inside is decrypted in place, and data is the stream's */
    while (len > 0) {
        size_t n = len < sizeof(piece) ? len : sizeof(piece);
        memcpy(piece, data, n);
        dp_pc_link_input(l->pc, now_of(s), s->id, piece, n);
        data += n;
        len -= n;
    }
}

static void on_data(void *user, dp_tcp *tcp, const uint8_t *data, size_t len)
{
    link_socket *s = user;
    links *l = s->owner;
    (void)tcp;
    take_data(s, data, len);
    l->pump(l->user);
}

static void on_closed(void *user, dp_tcp *tcp, int error, const char *reason)
{
    link_socket *s = user;
    links *l = s->owner;
    (void)tcp;
    fail(s, reason != NULL ? reason : dp_strerror(error));
    l->pump(l->user);
}

static int open_stream(link_socket *s, const dp_ice_link *link, const dp_address *local)
{
    links *l = s->owner;
    char ip[DP_ADDRESS_TEXT_MAX], host[DP_ADDRESS_TEXT_MAX + 16];
    dp_tcp_handler handler = {on_connected, on_data, NULL, on_closed, s};
    dp_address_format_ip(&link->remote, ip);
    if (link->remote.scope != 0)
        snprintf(host, sizeof(host), "%s%%%u", ip, (unsigned)link->remote.scope);
    else
        snprintf(host, sizeof(host), "%s", ip);
    int error = dp_tcp_connect_from(&s->tcp, l->network->loop, local, host, link->remote.port,
                                    CONNECT_TIMEOUT, &handler);
    if (error != DP_OK || link->transport != DP_ICE_TLS)
        return error;
    dp_tls_options options = {.size = sizeof(options),
                              .server_name = link->name != NULL ? link->name : ip,
                              .ca_file = l->network->turn_ca_file,
                              .random = l->network->random,
                              .log = l->log,
                              .key_log = l->network->key_log};
    return dp_tcp_start_tls(s->tcp, &options);
}

/* ---- all of them ---- */

/* NULL: no memory, and pc knows it. */
static link_socket *add(links *l, uint32_t id, const dp_address *remote)
{
    link_socket *s = dp_calloc(1, sizeof(*s));
    if (s == NULL) {
        dp_pc_link_closed(l->pc, dp_loop_now(l->network->loop), id);
        return NULL;
    }
    s->owner = l;
    s->id = id;
    s->remote = *remote;
    s->next = l->first;
    l->first = s;
    return s;
}

bool dp_links_accept(links *l, const accepted_stream *stream)
{
    dp_time now = dp_loop_now(l->network->loop);
    uint32_t id = dp_pc_link_accepted(l->pc, now, &stream->local, &stream->remote);
    link_socket *s = id != 0 ? add(l, id, &stream->remote) : NULL;
    if (s == NULL)
        return false;
    dp_tcp_handler handler = {on_connected, on_data, NULL, on_closed, s};
    s->tcp = stream->tcp;
    dp_tcp_set_handler(s->tcp, &handler);
    take_data(s, stream->data, stream->len);
    take_data(s, stream->rest, stream->rest_len);
    l->pump(l->user);
    return true;
}

void dp_links_open(links *l, const dp_ice_link *link)
{
    link_socket *s = add(l, link->id, &link->remote);
    if (s == NULL)
        return;
    s->has_name = link->name != NULL;
    dp_address local;
    if (!local_of(s, link, &local)) {
        fail(s, "none of the addresses that may be used is of its family");
        return;
    }
    int error = link->transport == DP_ICE_UDP ? open_udp(s, link, local) : open_stream(s, link, &local);
    if (error != DP_OK)
        fail(s, dp_strerror(error));
    else if (s->udp != NULL)
        dp_pc_link_opened(l->pc, now_of(s), s->id);
}

void dp_links_close(links *l, uint32_t id)
{
    link_socket *s = find(l, id);
    if (s != NULL)
        close_socket(s);
}

void dp_links_clear(links *l)
{
    while (l->first != NULL)
        close_socket(l->first);
}

void dp_links_send(links *l, dp_datagram *slot)
{
    link_socket *s = find(l, slot->link);
    if (s == NULL)
        return;
    if (s->udp != NULL) {
        slot->remote = s->remote;
        dp_udp_commit(l->network->loop, s->udp, slot);
    } else if (dp_tcp_queued(s->tcp) + slot->length <= STREAM_QUEUE_MAX) {
        (void)dp_tcp_send(s->tcp, slot->data, slot->length); /* one that is closed tells on_closed */
    }
}
