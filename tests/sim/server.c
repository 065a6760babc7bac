#include "server.h"

#include "base/rd.h"
#include "ice/stun.h"

#include <mbedtls/md.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALLOCATIONS_MAX     32
#define PERMISSIONS_MAX     128
#define CHANNELS_MAX        64
#define STREAMS_MAX         32
#define ALLOCATION_LIFETIME DP_SECONDS(600)
#define PERMISSION_LIFETIME DP_SECONDS(300)
#define CHANNEL_LIFETIME    DP_SECONDS(600)
#define MD5_LEN             16
#define NONCE_LEN           16

/* RFC 8656 §17, §18 */
enum { ALLOCATE = 3, REFRESH = 4, SEND = 6, DATA = 7, CREATE_PERMISSION = 8, CHANNEL_BIND = 9 };
enum {
    CHANNEL_NUMBER = 0x000C,
    LIFETIME = 0x000D,
    XOR_PEER_ADDRESS = 0x0012,
    DATA_ATTRIBUTE = 0x0013,
    XOR_RELAYED_ADDRESS = 0x0016,
    REQUESTED_ADDRESS_FAMILY = 0x0017,
    REQUESTED_TRANSPORT = 0x0019,
    ADDITIONAL_ADDRESS_FAMILY = 0x8000,
};

typedef struct channel {
    uint16_t number;
    dp_address peer;
    dp_time until;
} channel;

typedef struct permission {
    dp_address ip;
    dp_time until;
} permission;

typedef struct allocation {
    dp_address client; /* these two are the five-tuple */
    dp_address server;
    uint8_t transaction[DP_STUN_TRANSACTION_LEN]; /* of the Allocate: it may come again */
    dp_address relayed[2];
    size_t relayed_count;
    dp_time until;
    permission permissions[PERMISSIONS_MAX];
    size_t permission_count;
    channel channels[CHANNELS_MAX];
    size_t channel_count;
} allocation;

struct sim_stream {
    sim_server *server;
    dp_duration delay;
    sim_stream_fn input;
    void *ctx;
    uint64_t number;
    dp_address client; /* stands for the TCP connection's address */
    bool closed;
    uint8_t buffer[2 * DP_DATAGRAM_MAX];
    size_t len;
};

struct sim_server {
    sim_node node;
    sim_port *port;
    sim_server_config config;
    uint8_t key[MD5_LEN];
    char nonce[NONCE_LEN + 1];
    dp_time nonce_at;
    uint16_t next_port;
    allocation *allocations[ALLOCATIONS_MAX];
    size_t allocation_count;
    sim_stream *streams[STREAMS_MAX];
    size_t stream_count;
};

/* A request or indication being answered. */
typedef struct request {
    sim_server *server;
    const dp_address *client;
    const dp_address *to;
    dp_stun_message message;
    allocation *allocation; /* the client's, or NULL */
} request;

/* ---- attributes ---- */

/* The at-th attribute of the type (before the integrity); rd is over its value. */
static bool attribute(const request *r, uint16_t type, size_t at, dp_rd *value)
{
    dp_rd rd = dp_rd_init(r->message.data, r->message.len);
    dp_rd_skip(&rd, DP_STUN_HEADER_LEN);
    while (dp_rd_left(&rd) >= 4) {
        uint16_t found = dp_rd_u16(&rd);
        size_t len = dp_rd_u16(&rd);
        const uint8_t *bytes = dp_rd_bytes(&rd, len);
        dp_rd_skip(&rd, (4 - len % 4) % 4);
        if (rd.error || found == DP_STUN_MESSAGE_INTEGRITY)
            return false;
        if (found == type && at-- == 0) {
            *value = dp_rd_init(bytes, len);
            return true;
        }
    }
    return false;
}

static size_t xor_address(uint8_t out[20], const dp_address *address, const uint8_t *transaction)
{
    static const uint8_t cookie[4] = {0x21, 0x12, 0xA4, 0x42};
    size_t len = address->family == DP_FAMILY_IPV4 ? 4 : 16;
    out[0] = 0;
    out[1] = address->family == DP_FAMILY_IPV4 ? 1 : 2;
    out[2] = (uint8_t)(address->port >> 8 ^ cookie[0]);
    out[3] = (uint8_t)(address->port ^ cookie[1]);
    for (size_t i = 0; i < len; i++)
        out[4 + i] = address->ip[i] ^ (i < 4 ? cookie[i] : transaction[i - 4]);
    return 4 + len;
}

static bool peer_address(const request *r, size_t at, dp_address *out)
{
    dp_rd value;
    uint8_t plain[20];
    if (!attribute(r, XOR_PEER_ADDRESS, at, &value))
        return false;
    size_t len = dp_rd_left(&value);
    const uint8_t *bytes = dp_rd_bytes(&value, len);
    if (!(len == 8 && bytes[1] == 1) && !(len == 20 && bytes[1] == 2))
        return false;
    dp_address mixed = {.family = len == 8 ? DP_FAMILY_IPV4 : DP_FAMILY_IPV6,
                        .port = (uint16_t)(bytes[2] << 8 | bytes[3])};
    memcpy(mixed.ip, bytes + 4, len - 4);
    xor_address(plain, &mixed, r->message.transaction); /* its own inverse */
    *out = (dp_address){.family = mixed.family, .port = (uint16_t)(plain[2] << 8 | plain[3])};
    memcpy(out->ip, plain + 4, len - 4);
    return true;
}

static void write_address(dp_wr *wr, unsigned type, const dp_address *address, const uint8_t *transaction)
{
    uint8_t value[20];
    size_t len = xor_address(value, address, transaction);
    dp_stun_write_attribute(wr, (dp_stun_attribute)type, value, len);
}

/* ---- to the client ---- */

static void to_stream_client(sim_net *net, sim_event *event)
{
    sim_stream *stream = event->ctx;
    (void)net;
    if (!stream->closed)
        stream->input(stream->ctx, stream->number, event->data, event->len);
}

static sim_stream *stream_of(const sim_server *server, const dp_address *client)
{
    for (size_t i = 0; i < server->stream_count; i++) {
        if (dp_address_equal(&server->streams[i]->client, client))
            return server->streams[i];
    }
    return NULL;
}

/* Cuts the bytes at random places: the other side has to put them together. */
static void in_pieces(sim_stream *stream, sim_event_fn arrive, const uint8_t *data, size_t len)
{
    sim_net *net = stream->server->node.net;
    while (len > 0) {
        size_t piece = sim_below(&net->seed, 4) > 0 ? len : 1 + sim_below(&net->seed, (unsigned)len);
        sim_after(net, stream->delay, arrive, stream, 0, data, piece);
        data += piece;
        len -= piece;
    }
}

static void to_client(sim_server *server, const dp_address *from, const dp_address *client,
                      const uint8_t *data, size_t len)
{
    sim_datagram d = {*from, *client, len, data};
    sim_stream *stream = stream_of(server, client);
    if (stream == NULL) {
        sim_send(server->port, &d);
    } else {
        sim_trace(server->node.net, "stream", &server->node, &d);
        in_pieces(stream, to_stream_client, data, len);
    }
}

/* Finishes and sends an answer; signed if the request was. */
static void answer(const request *r, dp_wr *wr, bool sign)
{
    size_t len = 0;
    if (sign)
        dp_stun_write_integrity(wr, r->server->key, sizeof r->server->key);
    dp_stun_write_fingerprint(wr);
    if (dp_stun_finish(wr, &len) != DP_OK)
        abort();
    to_client(r->server, r->to, r->client, wr->start, len);
}

static void refuse(const request *r, unsigned code, const char *reason)
{
    uint8_t out[DP_STUN_MESSAGE_MAX];
    dp_wr wr = dp_wr_init(out, sizeof out);
    bool challenge = code == 401 || code == 438;
    dp_stun_write_header(&wr, DP_STUN_ERROR, r->message.method, r->message.transaction);
    dp_stun_write_error_code(&wr, code, reason);
    if (challenge) {
        dp_stun_write_attribute(&wr, DP_STUN_REALM, r->server->config.realm, strlen(r->server->config.realm));
        dp_stun_write_attribute(&wr, DP_STUN_NONCE, r->server->nonce, NONCE_LEN);
    }
    answer(r, &wr, !challenge);
}

static void accept_plain(const request *r, uint32_t lifetime)
{
    uint8_t out[DP_STUN_MESSAGE_MAX];
    dp_wr wr = dp_wr_init(out, sizeof out);
    dp_stun_write_header(&wr, DP_STUN_SUCCESS, r->message.method, r->message.transaction);
    if (r->message.method == REFRESH)
        dp_stun_write_u32(&wr, (dp_stun_attribute)LIFETIME, lifetime);
    answer(r, &wr, true);
}

/* ---- allocations ---- */

static allocation *allocation_of(const sim_server *server, const dp_address *client, const dp_address *to)
{
    for (size_t i = 0; i < server->allocation_count; i++) {
        allocation *a = server->allocations[i];
        if (dp_address_equal(&a->client, client) && dp_address_equal(&a->server, to))
            return a;
    }
    return NULL;
}

static allocation *allocation_relaying(const sim_server *server, const dp_address *relayed)
{
    for (size_t i = 0; i < server->allocation_count; i++) {
        for (size_t k = 0; k < server->allocations[i]->relayed_count; k++) {
            if (dp_address_equal(&server->allocations[i]->relayed[k], relayed))
                return server->allocations[i];
        }
    }
    return NULL;
}

static void allocation_end(sim_server *server, allocation *a)
{
    size_t i = 0;
    while (server->allocations[i] != a)
        i++;
    free(a);
    memmove(&server->allocations[i], &server->allocations[i + 1],
            (--server->allocation_count - i) * sizeof server->allocations[0]);
}

static void expire(sim_server *server)
{
    dp_time now = server->node.net->now;
    for (size_t i = server->allocation_count; i-- > 0;) {
        if (server->allocations[i]->until <= now)
            allocation_end(server, server->allocations[i]);
    }
    if (server->config.nonce_lifetime > 0 && now >= server->nonce_at + server->config.nonce_lifetime) {
        server->nonce_at = now;
        snprintf(server->nonce, sizeof server->nonce, "%016llx",
                 (unsigned long long)sim_random(&server->node.net->seed));
    }
}

static bool permitted(const sim_server *server, const allocation *a, const dp_address *peer)
{
    for (size_t i = 0; i < a->permission_count; i++) {
        if (sim_same_ip(&a->permissions[i].ip, peer) && a->permissions[i].until > server->node.net->now)
            return true;
    }
    return false;
}

static bool permit(const sim_server *server, allocation *a, const dp_address *peer)
{
    dp_time until = server->node.net->now + PERMISSION_LIFETIME;
    for (size_t i = 0; i < a->permission_count; i++) {
        if (sim_same_ip(&a->permissions[i].ip, peer)) {
            a->permissions[i].until = until;
            return true;
        }
    }
    if (a->permission_count == PERMISSIONS_MAX)
        return false;
    a->permissions[a->permission_count++] = (permission){*peer, until};
    return true;
}

static const channel *channel_to(const sim_server *server, const allocation *a, const dp_address *peer)
{
    for (size_t i = 0; i < a->channel_count; i++) {
        if (dp_address_equal(&a->channels[i].peer, peer) && a->channels[i].until > server->node.net->now)
            return &a->channels[i];
    }
    return NULL;
}

static bool serves(const sim_server *server, dp_family family)
{
    return (family == DP_FAMILY_IPV4 ? server->config.address : server->config.address6).family !=
           DP_FAMILY_NONE;
}

static void relay_address(sim_server *server, allocation *a, dp_family family)
{
    dp_address relayed = family == DP_FAMILY_IPV4 ? server->config.address : server->config.address6;
    relayed.port = server->next_port++;
    a->relayed[a->relayed_count++] = relayed;
}

static void answer_allocate(const request *r, const allocation *a)
{
    uint8_t out[DP_STUN_MESSAGE_MAX];
    dp_wr wr = dp_wr_init(out, sizeof out);
    dp_stun_write_header(&wr, DP_STUN_SUCCESS, ALLOCATE, r->message.transaction);
    for (size_t i = 0; i < a->relayed_count; i++)
        write_address(&wr, XOR_RELAYED_ADDRESS, &a->relayed[i], r->message.transaction);
    dp_stun_write_u32(&wr, (dp_stun_attribute)LIFETIME, (uint32_t)(ALLOCATION_LIFETIME / DP_SECONDS(1)));
    dp_stun_write_xor_mapped_address(&wr, r->client);
    answer(r, &wr, true);
}

/* RFC 8656 §7.2 */
static void allocate(request *r)
{
    dp_rd value;
    dp_family family = DP_FAMILY_IPV4;
    if (r->allocation != NULL) {
        if (memcmp(r->allocation->transaction, r->message.transaction, DP_STUN_TRANSACTION_LEN) == 0)
            answer_allocate(r, r->allocation);
        else
            refuse(r, 437, "Allocation Mismatch");
        return;
    }
    if (!attribute(r, REQUESTED_TRANSPORT, 0, &value) || dp_rd_left(&value) != 4) {
        refuse(r, 400, "Bad Request");
        return;
    }
    if (dp_rd_u8(&value) != 17) { /* UDP */
        refuse(r, 442, "Unsupported Transport Protocol");
        return;
    }
    if (attribute(r, REQUESTED_ADDRESS_FAMILY, 0, &value) && dp_rd_u8(&value) == 2)
        family = DP_FAMILY_IPV6;
    if (!serves(r->server, family)) {
        refuse(r, 440, "Address Family not Supported");
        return;
    }
    if (r->server->allocation_count == ALLOCATIONS_MAX) {
        refuse(r, 508, "Insufficient Capacity");
        return;
    }
    allocation *a = sim_alloc(sizeof *a);
    a->client = *r->client;
    a->server = *r->to;
    a->until = r->server->node.net->now + ALLOCATION_LIFETIME;
    memcpy(a->transaction, r->message.transaction, DP_STUN_TRANSACTION_LEN);
    relay_address(r->server, a, family);
    if (family == DP_FAMILY_IPV4 && attribute(r, ADDITIONAL_ADDRESS_FAMILY, 0, &value) &&
        serves(r->server, DP_FAMILY_IPV6))
        relay_address(r->server, a, DP_FAMILY_IPV6);
    r->server->allocations[r->server->allocation_count++] = a;
    answer_allocate(r, a);
}

/* RFC 8656 §8.2 */
static void refresh(request *r)
{
    dp_rd value;
    uint32_t lifetime = (uint32_t)(ALLOCATION_LIFETIME / DP_SECONDS(1));
    if (attribute(r, LIFETIME, 0, &value) && dp_rd_left(&value) == 4 && dp_rd_u32(&value) == 0) {
        allocation_end(r->server, r->allocation);
        lifetime = 0;
    } else {
        r->allocation->until = r->server->node.net->now + ALLOCATION_LIFETIME;
    }
    accept_plain(r, lifetime);
}

static bool relays_family(const allocation *a, dp_family family)
{
    for (size_t i = 0; i < a->relayed_count; i++) {
        if (a->relayed[i].family == family)
            return true;
    }
    return false;
}

/* RFC 8656 §10.2: all of them or none. */
static void create_permission(request *r)
{
    dp_address peer;
    size_t count = 0;
    for (; peer_address(r, count, &peer); count++) {
        if (!relays_family(r->allocation, peer.family)) {
            refuse(r, 443, "Peer Address Family Mismatch");
            return;
        }
    }
    if (count == 0) {
        refuse(r, 400, "Bad Request");
        return;
    }
    for (size_t i = 0; i < count && peer_address(r, i, &peer); i++) {
        if (!permit(r->server, r->allocation, &peer)) {
            refuse(r, 508, "Insufficient Capacity");
            return;
        }
    }
    accept_plain(r, 0);
}

/* RFC 8656 §12.2 */
static void channel_bind(request *r)
{
    allocation *a = r->allocation;
    dp_address peer;
    dp_rd value;
    if (!peer_address(r, 0, &peer) || !attribute(r, CHANNEL_NUMBER, 0, &value) || dp_rd_left(&value) != 4) {
        refuse(r, 400, "Bad Request");
        return;
    }
    uint16_t number = dp_rd_u16(&value);
    channel *c = NULL;
    for (size_t i = 0; i < a->channel_count; i++) {
        bool number_is = a->channels[i].number == number;
        bool peer_is = dp_address_equal(&a->channels[i].peer, &peer);
        if (number_is && peer_is) {
            c = &a->channels[i];
        } else if ((number_is || peer_is) && a->channels[i].until > r->server->node.net->now) {
            refuse(r, 400, "Bad Request");
            return;
        }
    }
    if (number < 0x4000 || number > 0x4FFF || !relays_family(a, peer.family)) {
        refuse(r, number < 0x4000 || number > 0x4FFF ? 400 : 443, "Bad Request");
        return;
    }
    if ((c == NULL && a->channel_count == CHANNELS_MAX) || !permit(r->server, a, &peer)) {
        refuse(r, 508, "Insufficient Capacity");
        return;
    }
    if (c == NULL)
        c = &a->channels[a->channel_count++];
    *c = (channel){number, peer, r->server->node.net->now + CHANNEL_LIFETIME};
    accept_plain(r, 0);
}

/* ---- relaying ---- */

/* From a peer to the client: in a channel if there is one (RFC 8656 §11.3). */
static void relay_in(sim_server *server, const allocation *a, const sim_datagram *d)
{
    uint8_t out[DP_DATAGRAM_MAX + 64];
    dp_wr wr = dp_wr_init(out, sizeof out);
    size_t len = 0;
    if (!permitted(server, a, &d->from)) {
        sim_trace(server->node.net, "no permit", &server->node, d);
        return;
    }
    const channel *c = channel_to(server, a, &d->from);
    if (c != NULL) {
        dp_wr_u16(&wr, c->number);
        dp_wr_u16(&wr, (uint16_t)d->len);
        dp_wr_bytes(&wr, d->data, d->len);
        if (stream_of(server, &a->client) != NULL)
            dp_wr_pad(&wr, 4);
    } else {
        uint8_t transaction[DP_STUN_TRANSACTION_LEN];
        sim_random_bytes(&server->node.net->seed, transaction, sizeof transaction);
        dp_stun_write_header(&wr, DP_STUN_INDICATION, DATA, transaction);
        write_address(&wr, XOR_PEER_ADDRESS, &d->from, transaction);
        dp_stun_write_attribute(&wr, (dp_stun_attribute)DATA_ATTRIBUTE, d->data, d->len);
    }
    if ((c != NULL ? dp_wr_finish(&wr, &len) : dp_stun_finish(&wr, &len)) == DP_OK && len <= DP_DATAGRAM_MAX)
        to_client(server, &a->server, &a->client, out, len);
}

/* From the client to a peer. */
static void relay_out(sim_server *server, const allocation *a, const dp_address *peer, const uint8_t *data,
                      size_t len)
{
    if (!permitted(server, a, peer))
        return;
    for (size_t i = 0; i < a->relayed_count; i++) {
        sim_datagram d = {a->relayed[i], *peer, len, data};
        if (a->relayed[i].family != peer->family)
            continue;
        allocation *other = allocation_relaying(server, peer);
        if (other != NULL)
            relay_in(server, other, &d);
        else
            sim_send(server->port, &d);
        return;
    }
}

/* RFC 8656 §12.4: number, length, data. */
static void channel_data(sim_server *server, const allocation *a, const uint8_t *data, size_t len)
{
    dp_rd rd = dp_rd_init(data, len);
    uint16_t number = dp_rd_u16(&rd);
    size_t data_len = dp_rd_u16(&rd);
    const uint8_t *bytes = dp_rd_bytes(&rd, data_len);
    for (size_t i = 0; !rd.error && i < a->channel_count; i++) {
        if (a->channels[i].number == number && a->channels[i].until > server->node.net->now) {
            dp_address peer = a->channels[i].peer;
            relay_out(server, a, &peer, bytes, data_len);
            return;
        }
    }
}

/* ---- input ---- */

/* RFC 8489 §9.2.4 */
static bool authentic(const request *r)
{
    const dp_stun_message *m = &r->message;
    const sim_server_config *config = &r->server->config;
    if (m->integrity_at == 0 || m->username == NULL || m->username_len != strlen(config->username) ||
        memcmp(m->username, config->username, m->username_len) != 0 ||
        dp_stun_check_integrity(m, r->server->key, sizeof r->server->key) != DP_OK) {
        refuse(r, 401, "Unauthorized");
        return false;
    }
    if (m->nonce_len != NONCE_LEN || memcmp(m->nonce, r->server->nonce, NONCE_LEN) != 0) {
        refuse(r, 438, "Stale Nonce");
        return false;
    }
    return true;
}

static void turn_request(request *r)
{
    if (!authentic(r))
        return;
    if (r->message.method == ALLOCATE)
        allocate(r);
    else if (r->allocation == NULL)
        refuse(r, 437, "Allocation Mismatch");
    else if (r->message.method == REFRESH)
        refresh(r);
    else if (r->message.method == CREATE_PERMISSION)
        create_permission(r);
    else if (r->message.method == CHANNEL_BIND)
        channel_bind(r);
}

static void binding(const request *r)
{
    uint8_t out[128];
    dp_wr wr = dp_wr_init(out, sizeof out);
    dp_stun_write_header(&wr, DP_STUN_SUCCESS, DP_STUN_METHOD_BINDING, r->message.transaction);
    dp_stun_write_xor_mapped_address(&wr, r->client);
    answer(r, &wr, false);
}

static void send_indication(const request *r)
{
    dp_address peer;
    dp_rd value;
    if (!peer_address(r, 0, &peer) || !attribute(r, DATA_ATTRIBUTE, 0, &value))
        return;
    size_t len = dp_rd_left(&value);
    relay_out(r->server, r->allocation, &peer, dp_rd_bytes(&value, len), len);
}

static void client_frame(sim_server *server, const dp_address *client, const dp_address *to,
                         const uint8_t *data, size_t len)
{
    request r = {
        .server = server, .client = client, .to = to, .allocation = allocation_of(server, client, to)};
    if (len > 0 && data[0] >= 0x40) {
        if (r.allocation != NULL)
            channel_data(server, r.allocation, data, len);
        return;
    }
    if (dp_stun_decode(&r.message, data, len) != DP_OK)
        return;
    if (r.message.class_ == DP_STUN_REQUEST && r.message.method == DP_STUN_METHOD_BINDING)
        binding(&r);
    else if (r.message.class_ == DP_STUN_REQUEST && server->config.turn)
        turn_request(&r);
    else if (r.message.class_ == DP_STUN_INDICATION && r.message.method == SEND && r.allocation != NULL)
        send_indication(&r);
}

static void receive(sim_node *node, sim_port *port, const sim_datagram *d)
{
    sim_server *server = (sim_server *)node;
    (void)port;
    expire(server);
    const allocation *a = allocation_relaying(server, &d->to);
    if (a != NULL)
        relay_in(server, a, d);
    else if (dp_address_equal(&d->to, &server->config.address) ||
             dp_address_equal(&d->to, &server->config.address6))
        client_frame(server, &d->from, &d->to, d->data, d->len);
}

/* ---- streams ---- */

/* Length of the frame at the front, 0 if it is not whole. */
static size_t stream_frame(const sim_stream *stream)
{
    if (stream->len < 4)
        return 0;
    size_t len = (size_t)(stream->buffer[2] << 8 | stream->buffer[3]);
    len = stream->buffer[0] >= 0x40 ? 4 + len + (4 - len % 4) % 4 : DP_STUN_HEADER_LEN + len;
    return len <= stream->len ? len : 0;
}

static void to_stream_server(sim_net *net, sim_event *event)
{
    sim_stream *stream = event->ctx;
    (void)net;
    if (event->len > sizeof stream->buffer - stream->len)
        abort(); /* no frame of ours is so long */
    memcpy(stream->buffer + stream->len, event->data, event->len);
    stream->len += event->len;
    expire(stream->server);
    for (size_t len; (len = stream_frame(stream)) > 0;) {
        client_frame(stream->server, &stream->client, &stream->server->config.address, stream->buffer, len);
        memmove(stream->buffer, stream->buffer + len, stream->len -= len);
    }
}

sim_stream *sim_stream_open(sim_server *server, dp_duration delay, sim_stream_fn input, void *ctx,
                            uint64_t number)
{
    if (server->stream_count == STREAMS_MAX)
        return NULL;
    sim_stream *stream = sim_alloc(sizeof *stream);
    stream->server = server;
    stream->delay = delay;
    stream->input = input;
    stream->ctx = ctx;
    stream->number = number;
    stream->client = sim_address("100.127.255.255", (uint16_t)(1024 + server->stream_count));
    server->streams[server->stream_count++] = stream;
    return stream;
}

void sim_stream_send(sim_stream *stream, const uint8_t *data, size_t len)
{
    sim_datagram d = {stream->client, stream->server->config.address, len, data};
    sim_trace(stream->server->node.net, "stream", &stream->server->node, &d);
    in_pieces(stream, to_stream_server, data, len);
}

void sim_stream_close(sim_stream *stream)
{
    allocation *a = allocation_of(stream->server, &stream->client, &stream->server->config.address);
    stream->closed = true;
    if (a != NULL)
        allocation_end(stream->server, a); /* RFC 8656 §7: gone with its connection */
}

/* ---- life ---- */

static void clear(sim_node *node)
{
    sim_server *server = (sim_server *)node;
    while (server->allocation_count > 0)
        free(server->allocations[--server->allocation_count]);
    while (server->stream_count > 0)
        free(server->streams[--server->stream_count]);
    free(server);
}

sim_server *sim_server_new(sim_net *net, const char *name, const sim_server_config *config,
                           sim_segment *segment, const sim_link *link)
{
    sim_server *server = sim_alloc(sizeof *server);
    server->node = (sim_node){.name = name, .receive = receive, .clear = clear};
    server->config = *config;
    server->next_port = 49152;
    sim_node_add(net, &server->node);
    server->port = sim_attach(&server->node, segment, link);
    if (serves(server, DP_FAMILY_IPV4))
        sim_claim(server->port, &config->address);
    if (serves(server, DP_FAMILY_IPV6))
        sim_claim(server->port, &config->address6);
    server->nonce_at = net->now;
    snprintf(server->nonce, sizeof server->nonce, "%016llx", (unsigned long long)sim_random(&net->seed));
    if (config->turn) { /* RFC 8489 §9.2.2 */
        char text[512];
        int len =
            snprintf(text, sizeof text, "%s:%s:%s", config->username, config->realm, config->credential);
        if (mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_MD5), (const uint8_t *)text, (size_t)len,
                       server->key) != 0)
            abort();
    }
    return server;
}

size_t sim_server_allocations(const sim_server *server) { return server->allocation_count; }

bool sim_server_relays(const sim_server *server, const dp_address *address)
{
    return allocation_relaying(server, address) != NULL;
}
