/* A PeerServer as small as a test needs, on the same loop as the peers: relays what they say to each other,
 * and can misbehave. */
#ifndef TESTS_PEER_SERVER_H
#define TESTS_PEER_SERVER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../signaling/frames.h"
#include "signaling/handshake.h"
#include <datapeer/net.h>
#include <stdio.h>
#include <stdlib.h>

enum { SERVER_CLIENTS = 16, SERVER_BUFFER = 1 << 20 };

typedef struct server_client {
    struct server *server;
    dp_tcp *tcp; /* NULL: free */
    char id[64];
    char token[64];
    bool upgraded;
    uint8_t *in;
    size_t in_len;
} server_client;

typedef struct server {
    dp_listener *listener;
    server_client clients[SERVER_CLIENTS];
    const char *swallow; /* messages of these types are not relayed */
    bool peerjs;         /* what only datapeer writes is spoilt on the way */
    unsigned offers;
    unsigned answers;
    unsigned given_ids;
    const char *peers; /* the answer to a request for the list of peers; NULL: none comes */
} server;

static inline void server_drop(server_client *c)
{
    dp_tcp_close(c->tcp);
    free(c->in);
    memset(c, 0, sizeof(*c));
}

static inline server_client *server_find(server *s, const char *id)
{
    for (size_t i = 0; i < SERVER_CLIENTS; i++)
        if (s->clients[i].upgraded && strcmp(s->clients[i].id, id) == 0)
            return &s->clients[i];
    return NULL;
}

static inline void server_send(server_client *c, const char *text)
{
    size_t len = strlen(text);
    uint8_t *bytes = malloc(len + 16);
    assert_non_null(bytes);
    int error = dp_tcp_send(c->tcp, bytes, put_frame(bytes, FIN | TEXT, false, text, len));
    assert_true(error == DP_OK || error == DP_ERR_CLOSED);
    free(bytes);
}

/* The text after key up to the next quote or '&'. */
static inline void server_word(char out[64], const char *text, const char *key)
{
    const char *at = strstr(text, key);
    size_t len = at != NULL ? strcspn(at + strlen(key), "\"& \r") : 0;
    assert_true(len < 64);
    if (len > 0)
        memcpy(out, at + strlen(key), len);
    out[len] = '\0';
}

static inline void server_relay(server_client *from, const char *text)
{
    char type[64], dst[64], relayed[sizeof(((frame *)0)->payload) + 128];
    server *s = from->server;
    server_word(type, text, "\"type\":\"");
    server_word(dst, text, "\"dst\":\"");
    if (strcmp(type, "HEARTBEAT") == 0 || dst[0] == '\0' ||
        (s->swallow != NULL && strstr(s->swallow, type) != NULL))
        return;
    snprintf(relayed, sizeof(relayed), "{\"src\":\"%s\",%s", from->id, text + 1);
    char *feature = strstr(relayed, "ice-restart");
    if (s->peerjs && feature != NULL)
        *feature = 'x';
    s->offers += strcmp(type, "OFFER") == 0;
    s->answers += strcmp(type, "ANSWER") == 0;
    server_client *to = server_find(s, dst);
    if (to != NULL) {
        server_send(to, relayed);
    } else if (strcmp(type, "OFFER") == 0) {
        snprintf(relayed, sizeof(relayed), "{\"type\":\"EXPIRE\",\"src\":\"%s\",\"dst\":\"%s\"}", dst,
                 from->id);
        server_send(from, relayed);
    }
}

/* True if a whole request was there. */
static inline bool server_http(server_client *c)
{
    char answer[512], key[64], id[64], token[64], accept[WS_ACCEPT_LEN + 1];
    c->in[c->in_len] = '\0';
    const char *text = (const char *)c->in;
    const char *end = strstr(text, "\r\n\r\n");
    if (end == NULL)
        return false;
    if (strstr(text, "/id?") != NULL) {
        int len = snprintf(answer, sizeof(answer), "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ngiven-%u",
                           c->server->given_ids++ % 10);
        assert_int_equal(dp_tcp_send(c->tcp, (const uint8_t *)answer, (size_t)len), DP_OK);
    } else if (strstr(text, "/peers?") != NULL) {
        assert_non_null(strstr(text, " HTTP/1.0\r\n"));
        if (c->server->peers != NULL)
            assert_int_equal(dp_tcp_send(c->tcp, (const uint8_t *)c->server->peers, strlen(c->server->peers)),
                             DP_OK);
    } else {
        server_word(key, text, "Sec-WebSocket-Key: ");
        server_word(id, text, "&id=");
        server_word(token, text, "&token=");
        assert_int_equal(dp_ws_accept(accept, key), DP_OK);
        int len = snprintf(answer, sizeof(answer),
                           "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           "Sec-WebSocket-Accept: %s\r\n\r\n",
                           accept);
        assert_int_equal(dp_tcp_send(c->tcp, (const uint8_t *)answer, (size_t)len), DP_OK);
        if (server_find(c->server, id) != NULL) {
            server_send(c, "{\"type\":\"ID-TAKEN\",\"payload\":{\"msg\":\"ID is taken\"}}");
        } else {
            c->upgraded = true;
            memcpy(c->id, id, sizeof(id));
            memcpy(c->token, token, sizeof(token));
            server_send(c, "{\"type\":\"OPEN\"}");
        }
    }
    c->in_len -= (size_t)(end + 4 - text);
    memmove(c->in, end + 4, c->in_len);
    return true;
}

static inline void server_on_data(void *user, dp_tcp *tcp, const uint8_t *data, size_t len)
{
    static frame f;
    server_client *c = user;
    (void)tcp;
    assert_true(c->in_len + len < SERVER_BUFFER);
    memcpy(c->in + c->in_len, data, len);
    c->in_len += len;
    while (!c->upgraded && server_http(c))
        ;
    const uint8_t *at = c->in;
    while (c->upgraded && take_frame(&f, &at, &c->in_len)) {
        assert_true(f.masked);
        if (f.first == (FIN | TEXT))
            server_relay(c, f.payload);
    }
    memmove(c->in, at, c->in_len);
}

static inline void server_on_closed(void *user, dp_tcp *tcp, int error, const char *reason)
{
    (void)tcp;
    (void)error;
    (void)reason;
    server_drop(user);
}

static inline void server_on_accept(void *user, dp_tcp *tcp, const dp_address *remote)
{
    server *s = user;
    (void)remote;
    server_client *c = s->clients;
    while (c < s->clients + SERVER_CLIENTS && c->tcp != NULL)
        c++;
    assert_true(c < s->clients + SERVER_CLIENTS);
    *c = (server_client){.server = s, .tcp = tcp, .in = malloc(SERVER_BUFFER)};
    assert_non_null(c->in);
    dp_tcp_set_handler(tcp, &(dp_tcp_handler){NULL, server_on_data, NULL, server_on_closed, c});
}

static inline void server_start(server *s, dp_loop *loop)
{
    dp_address local;
    memset(s, 0, sizeof(*s));
    assert_int_equal(dp_address_parse(&local, "127.0.0.1", 0), DP_OK);
    assert_int_equal(dp_listener_open(&s->listener, loop, &local, server_on_accept, s), DP_OK);
}

static inline void server_stop(server *s)
{
    dp_listener_close(s->listener);
    for (size_t i = 0; i < SERVER_CLIENTS; i++)
        if (s->clients[i].tcp != NULL)
            server_drop(&s->clients[i]);
}

#endif
