/* A PeerServer and up to four streams. Each step of the input is a byte: the upper two bits choose the stream, the lower six
 * what happens:
 *   0 n bytes: n+1 raw bytes arrive         1 n bytes: they arrive in a masked text frame
 *   2 x: it joins with one of 4 ids and 2 tokens, or asks for it wrongly    3 x: a message of one of 8 types to one of 8 ids
 *   4: it ends   5: it takes nothing more   6: it takes all again   7: the next timeout   8: time passes   9: shutdown
 *   10 x: the parser of messages alone is given the rest of the input       11 x: it asks for a resource
 *   12 x n: a message of n * 100 bytes to one of 8 ids
 *   63 x: the cluster, by the lower three bits of x: 0 comes, 1 goes, 2 answers to a claim, 3 tells a letter's fate, 4 returns
 *   one, 5 has a letter (x/8 times 4 bytes), 6 lists who is there, 7 can't be asked any more, or can again
 * The server must keep its promises: CLOSE once, no bytes for a stream that ended or takes nothing, no bytes held in the end. */
#include "signaling/server_message.h"
#include <datapeer/signal_server.h>
#include <datapeer/signaling.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

enum { STREAMS = 4 };

typedef struct stream {
    dp_signal_conn *conn;
    bool holds;
} stream;

/* What the server asked last. */
static struct {
    bool up, refuses;
    uint64_t stamp, ticket;
    char id[DP_PEER_ID_MAX + 1], src[DP_PEER_ID_MAX + 1], dst[DP_PEER_ID_MAX + 1];
} cluster;

static bool remember(char out[DP_PEER_ID_MAX + 1], const char *id)
{
    size_t len = strlen(id);
    CHECK(cluster.up && len > 0 && len <= DP_PEER_ID_MAX && strpbrk(id, "\n\r\x1b\x7f") == NULL);
    memcpy(out, id, len + 1);
    return !cluster.refuses;
}
static bool on_claim(void *ctx, const char *id, const char *proof, uint64_t stamp, bool renew)
{
    (void)ctx;
    CHECK(strlen(proof) == 64 && (renew || stamp > cluster.stamp));
    cluster.stamp = stamp > cluster.stamp ? stamp : cluster.stamp;
    return remember(cluster.id, id);
}
static void on_release(void *ctx, const char *id, uint64_t stamp)
{
    char ignored[DP_PEER_ID_MAX + 1];
    (void)ctx;
    CHECK(stamp != 0);
    (void)remember(ignored, id);
}
static bool on_forward(void *ctx, const char *src, const char *dst, const char *letter, size_t len,
                       dp_signal_absent absent)
{
    (void)ctx;
    CHECK(len <= 70000 && letter[0] >= '0' && letter[0] <= '3' && absent <= DP_SIGNAL_KEEP);
    (void)remember(cluster.src, src);
    return remember(cluster.dst, dst);
}
static bool on_withdraw(void *ctx, const char *dst)
{
    (void)ctx;
    return remember(cluster.dst, dst);
}
static bool on_list(void *ctx, uint64_t ticket)
{
    (void)ctx;
    CHECK(cluster.up);
    cluster.ticket = ticket;
    return !cluster.refuses;
}

typedef struct owner {
    dp_signal_server *server;
    stream streams[STREAMS];
    dp_time now;
    bool shut, done;
} owner;

static uint8_t random_state;
static int fake_random(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    for (size_t i = 0; i < len; i++)
        out[i] = random_state = (uint8_t)(random_state * 5 + 3);
    return DP_OK;
}

static void drain(owner *o)
{
    dp_signal_transmit out;
    dp_signal_event event;
    while (dp_signal_server_poll_transmit(o->server, &out)) {
        const stream *t = out.user;
        CHECK(t->conn == out.conn && !t->holds);
        CHECK(out.len > 0 && out.len <= 16384 && out.data != NULL);
    }
    while (dp_signal_server_poll_event(o->server, &event)) {
        stream *t = event.user;
        CHECK(!o->done ||
              event.type == DP_SIGNAL_EVENT_EXPIRED); /* what was kept lasts longer than streams */
        if (event.type == DP_SIGNAL_EVENT_CLOSE) {
            CHECK(t->conn != NULL);
            *t = (stream){0};
        } else if (event.type == DP_SIGNAL_EVENT_DONE) {
            CHECK(o->shut);
            o->done = true;
        } else {
            CHECK(event.id != NULL);
        }
    }
    dp_signal_stats stats = {.size = sizeof(stats)};
    dp_signal_server_get_stats(o->server, &stats);
    size_t open = 0;
    for (int i = 0; i < STREAMS; i++)
        open += o->streams[i].conn != NULL;
    CHECK(stats.connections == open && stats.clients <= open);
    CHECK(stats.buffered <= 100000);
}

static void give(owner *o, stream *t, const uint8_t *data, size_t len)
{
    if (t->conn != NULL && len > 0)
        dp_signal_server_input(o->server, t->conn, o->now, data, len);
    drain(o);
}

static void connect_stream(owner *o, stream *t)
{
    dp_address remote = {.family = DP_FAMILY_IPV4, .ip = {192, 0, 2, 1}};
    if (t->conn == NULL && dp_signal_server_accept(&t->conn, o->server, o->now, &remote, t) != DP_OK)
        t->conn = NULL;
}

static void ask(owner *o, stream *t, const char *method, const char *target, const char *fields)
{
    char text[512];
    int len = snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\nHost: h\r\n%s\r\n", method, target, fields);
    give(o, t, (const uint8_t *)text, (size_t)len);
}

#define UPGRADE "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
#define KEY     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

static void join(owner *o, stream *t, unsigned choice)
{
    static const char *const wrong[] = {"/peerjs?key=peerjs&token=secret0", "/peerjs?key=peerjs&id=a",
                                        "/peerjs?key=other&id=a&token=secret0",
                                        "/peerjs?key=peerjs&id=a&token=0", "/nowhere"};
    char target[64];
    unsigned kind = choice / 8 % 16;
    if (kind >= 1 && kind <= 5) {
        ask(o, t, "GET", wrong[kind - 1], UPGRADE KEY);
        return;
    }
    snprintf(target, sizeof(target), "/peerjs?key=peerjs&id=%c&token=secret%c", 'a' + choice % 4,
             '0' + choice / 4 % 2);
    ask(o, t, kind == 6 ? "POST" : "GET", target,
        kind == 7 ? UPGRADE "Sec-WebSocket-Key: short\r\n" : UPGRADE KEY);
}

static void fetch(owner *o, stream *t, unsigned choice)
{
    static const char *const paths[] = {"/",        "/peerjs/id", "/peerjs/peers", "/metrics",
                                        "/healthz", "/file",      "/no",           "/%66ile"};
    static const char *const fields[] = {"",
                                         "Authorization: Bearer secret\r\n",
                                         "Authorization: Bearer wrong\r\n",
                                         "Connection: close\r\n",
                                         "If-None-Match: W/\"1\", \"2\"\r\n",
                                         "Content-Length: 5\r\n",
                                         "Origin: http://h\r\n",
                                         "Access-Control-Request-Headers: a\r\n"};
    static const char *const methods[] = {"GET", "HEAD", "OPTIONS", "PUT"};
    ask(o, t, methods[choice / 64 % 4], paths[choice % 8], fields[choice / 8 % 8]);
}

static bool find_file(void *ctx, const char *path, dp_signal_file *file)
{
    (void)ctx;
    *file = (dp_signal_file){
        .body = "content", .len = 7, .type = "text/plain", .etag = "\"1\"", .csp = "default-src 'self'"};
    return strcmp(path, "/file") == 0;
}

/* In one piece: 0 has those that are cut. */
static void text_frame(owner *o, stream *t, const uint8_t *payload, size_t len)
{
    static const uint8_t mask[4] = {1, 2, 3, 4};
    uint8_t *bytes = malloc(len + 8);
    size_t n = 0;
    CHECK(bytes != NULL);
    bytes[n++] = 0x81;
    bytes[n++] = (uint8_t)(0x80 | (len < 126 ? len : 126));
    if (len >= 126) {
        bytes[n++] = (uint8_t)(len >> 8);
        bytes[n++] = (uint8_t)len;
    }
    memcpy(bytes + n, mask, 4);
    for (size_t i = 0; i < len; i++)
        bytes[n + 4 + i] = payload[i] ^ mask[i % 4];
    give(o, t, bytes, n + 4 + len);
    free(bytes);
}

static void long_message(owner *o, stream *t, unsigned choice, unsigned size)
{
    static char text[30000];
    int len = snprintf(text, sizeof(text), "{\"type\":\"OFFER\",\"dst\":\"%c\",\"payload\":\"%0*d\"}",
                       'a' + choice % 8, (int)size * 100, 0);
    text_frame(o, t, (const uint8_t *)text, (size_t)len);
}

static void message(owner *o, stream *t, unsigned choice)
{
    static const char *const types[] = {"OFFER",  "ANSWER",    "CANDIDATE", "LEAVE",
                                        "EXPIRE", "HEARTBEAT", "OPEN",      "OFFER"};
    char text[128];
    int len = choice / 8 % 8 == 7
                  ? snprintf(text, sizeof(text), "{\"type\":\"%s\"}", types[choice % 8])
                  : snprintf(text, sizeof(text), "{\"type\":\"%s\",\"dst\":\"%c\",\"payload\":[1]}",
                             types[choice % 8], 'a' + choice / 8 % 8);
    text_frame(o, t, (const uint8_t *)text, (size_t)len);
}

static void pass_time(owner *o, bool to_next)
{
    dp_time next = dp_signal_server_next_timeout(o->server);
    if (to_next && next != DP_TIME_NEVER)
        o->now = next > o->now ? next : o->now;
    else
        o->now += DP_MS(700);
    dp_signal_server_handle_timeout(o->server, o->now);
    CHECK(dp_signal_server_next_timeout(o->server) > o->now);
    drain(o);
}

static void parse_message(const uint8_t *data, size_t size)
{
    static dp_relay relay;
    if (!dp_utf8_valid(data, size) || dp_relay_parse(&relay, (const char *)data, size) != DP_OK)
        return;
    CHECK(strlen(relay.dst) <= DP_PEER_ID_MAX);
    if (relay.payload.at == NULL || relay.type == RELAY_OTHER || relay.dst[0] == '\0')
        return;
    /* What is passed on is read as the same. */
    size_t capacity = dp_relay_size("src", relay.dst, relay.payload);
    uint8_t *out = malloc(capacity);
    CHECK(out != NULL);
    dp_wr wr = dp_wr_init(out, capacity);
    dp_relay_write(&wr, relay.type, "src", relay.dst, relay.payload);
    CHECK(!wr.error);
    static dp_relay again;
    CHECK(dp_relay_parse(&again, (const char *)out, wr.len) == DP_OK && again.type == relay.type);
    CHECK(strcmp(again.dst, relay.dst) == 0 && again.payload.len == relay.payload.len);
    CHECK(memcmp(again.payload.at, relay.payload.at, relay.payload.len) == 0);
    free(out);
}

static size_t cluster_says(owner *o, const uint8_t *data, size_t size)
{
    static const char *const ids[] = {"a", "", "b\"", "c\n", "\xff"};
    unsigned x = size > 0 ? data[0] : 0;
    size_t len = size > 0 ? size - 1 : 0;
    len = len < x / 8 * 4 ? len : x / 8 * 4;
    bool asked = cluster.dst[0] != '\0' && cluster.src[0] != '\0';
    if (((x & 7) == 3 || (x & 7) == 4) && !asked)
        return 2;
    switch (x & 7) {
    case 0:
        cluster.up = true;
        dp_signal_server_cluster_up(o->server, o->now);
        break;
    case 1:
        cluster.up = false;
        dp_signal_server_cluster_down(o->server, o->now);
        break;
    case 2:
        dp_signal_server_claimed(o->server, o->now, cluster.id, cluster.stamp - x / 64,
                                 (dp_signal_verdict)(x / 8 % 3));
        break;
    case 3:
        dp_signal_server_forwarded(o->server, o->now, cluster.src, cluster.dst, x * 10,
                                   (dp_signal_fate)(x / 8 % 4));
        break;
    case 4:
        dp_signal_server_returned(o->server, o->now, cluster.src, cluster.dst);
        break;
    case 5:
        dp_signal_server_letter(o->server, o->now, (const char *)data + (size > 0), len);
        return 2 + len;
    case 6:
        dp_signal_server_listed(o->server, o->now, cluster.ticket, ids, x / 8 % 6);
        break;
    default:
        cluster.refuses = !cluster.refuses;
    }
    return size > 0 ? 2 : 1;
}

static size_t step(owner *o, const uint8_t *data, size_t size)
{
    stream *t = &o->streams[data[0] >> 6];
    unsigned what = (data[0] & 0x3f) % 13;
    unsigned argument = size > 1 ? data[1] : 0;
    size_t used = size > 1 ? 2 : 1;
    size_t len = argument + 1 < size - used ? argument + 1 : size - used;
    if ((data[0] & 0x3f) == 0x3f) {
        used = cluster_says(o, data + 1, size - 1);
        drain(o);
        return used;
    }
    connect_stream(o, t);
    switch (what) {
    case 0:
        give(o, t, data + used, len);
        return used + len;
    case 1:
        text_frame(o, t, data + used, len);
        return used + len;
    case 2:
        join(o, t, argument);
        return used;
    case 3:
        message(o, t, argument);
        return used;
    case 4:
        if (t->conn != NULL)
            dp_signal_server_disconnected(o->server, t->conn, o->now);
        *t = (stream){0};
        break;
    case 5:
    case 6:
        t->holds = what == 5 && t->conn != NULL;
        if (t->conn != NULL && t->holds)
            dp_signal_server_pause(o->server, t->conn);
        else if (t->conn != NULL)
            dp_signal_server_resume(o->server, t->conn);
        break;
    case 7:
    case 8:
        pass_time(o, what == 7);
        break;
    case 9:
        o->shut = true;
        dp_signal_server_shutdown(o->server, o->now);
        break;
    case 11:
        fetch(o, t, argument);
        return used;
    case 12:
        long_message(o, t, argument, size > 2 ? data[2] : 0);
        return size > 2 ? 3 : used;
    default:
        parse_message(data + 1, size - 1);
        return size;
    }
    drain(o);
    return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    owner o = {.now = DP_SECONDS(1)};
    random_state = 1;
    memset(&cluster, 0, sizeof(cluster));
    const dp_signal_cluster hooks = {.time_offset = 5,
                                     .claim = on_claim,
                                     .release = on_release,
                                     .forward = on_forward,
                                     .withdraw = on_withdraw,
                                     .list = on_list};
    dp_signal_server_config config = {.size = sizeof(config),
                                      .random = {fake_random, NULL},
                                      .allow_discovery = true,
                                      .metrics = true,
                                      .cluster = &hooks,
                                      .access_token = "secret",
                                      .concurrent_limit = 3,
                                      .connection_rate = 1,
                                      .connection_burst = 20,
                                      .message_rate = 10,
                                      .message_burst = 20,
                                      .client_buffer = 50000,
                                      .total_buffer = 100000,
                                      .find_file = find_file};
    if (dp_signal_server_new(&o.server, &config) != DP_OK)
        return 0;
    while (size > 0) {
        size_t used = step(&o, data, size);
        data += used;
        size -= used;
    }
    for (int i = 0; i < STREAMS; i++)
        if (o.streams[i].conn != NULL)
            dp_signal_server_disconnected(o.server, o.streams[i].conn, o.now);
    memset(o.streams, 0, sizeof(o.streams));
    o.now += DP_SECONDS(10);
    dp_signal_server_handle_timeout(o.server, o.now);
    drain(&o);
    dp_signal_stats stats = {.size = sizeof(stats)};
    dp_signal_server_get_stats(o.server, &stats);
    CHECK(stats.buffered == 0 && stats.absent == 0);
    dp_signal_server_free(o.server);
    return 0;
}
