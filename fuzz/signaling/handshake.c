/* A server of any bytes against a client. Each step of the input is an opcode and what it needs:
 *   0 n bytes: n+1 raw bytes arrive    1 n bytes: they arrive in a text frame    2: a correct 101 answer
 * arrives 3: OPEN arrives    4: the next timeout    5: the stream ends    6: start again    7: an offer is
 * sent    8: close After each the owner drains. The client must keep its promises: one DISCONNECTED for each
 * start, no event after it, no bytes but in a stream. */
#include "signaling/handshake.h"
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

static uint8_t random_state;
static int fake_random(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    for (size_t i = 0; i < len; i++)
        out[i] = random_state = (uint8_t)(random_state * 5 + 3);
    return DP_OK;
}

typedef struct owner {
    dp_signaling *client;
    dp_time now;
    bool started, stream;
    char key[WS_KEY_LEN + 1];
} owner;

static void drain(owner *o)
{
    dp_signaling_event event;
    bool more = true;
    while (more) {
        uint8_t out[4096];
        size_t len;
        more = false;
        while (dp_signaling_poll_transmit(o->client, out, sizeof(out) - 1, &len)) {
            CHECK(len > 0 && len < sizeof(out));
            out[len] = '\0';
            const char *key = strstr((char *)out, "Sec-WebSocket-Key: ");
            if (key != NULL)
                memcpy(o->key, key + 19, WS_KEY_LEN);
        }
        while (dp_signaling_poll_event(o->client, &event)) {
            more = true;
            CHECK(o->started);
            switch (event.type) {
            case DP_SIGNALING_EVENT_CONNECT:
                CHECK(!o->stream && event.host != NULL);
                o->stream = true;
                dp_signaling_connected(o->client, o->now);
                break;
            case DP_SIGNALING_EVENT_DISCONNECT:
                CHECK(o->stream);
                o->stream = false;
                break;
            case DP_SIGNALING_EVENT_DISCONNECTED:
                CHECK(!o->stream && event.message != NULL);
                o->started = false;
                break;
            case DP_SIGNALING_EVENT_ERROR:
                CHECK(event.error_type != NULL && event.message != NULL);
                break;
            case DP_SIGNALING_EVENT_OPEN:
                CHECK(o->stream && dp_signaling_id(o->client) != NULL);
                break;
            default:
                CHECK(event.src != NULL && event.src[0] != '\0');
                break;
            }
        }
    }
    CHECK(o->started || dp_signaling_next_timeout(o->client) == DP_TIME_NEVER);
}

static void upgrade(owner *o)
{
    char accept[WS_ACCEPT_LEN + 1], answer[256];
    if (o->key[0] == '\0' || dp_ws_accept(accept, o->key) != DP_OK)
        return;
    int len = snprintf(
        answer, sizeof(answer),
        "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
        accept);
    dp_signaling_input(o->client, o->now, (const uint8_t *)answer, (size_t)len);
}

static void text_frame(owner *o, const uint8_t *payload, size_t len)
{
    uint8_t head[4] = {0x81, 126, (uint8_t)(len >> 8), (uint8_t)len};
    if (len < 126)
        head[1] = (uint8_t)len;
    dp_signaling_input(o->client, o->now, head, len < 126 ? 2 : 4);
    dp_signaling_input(o->client, o->now, payload, len);
}

static void step(owner *o, unsigned opcode, const uint8_t *bytes, size_t len)
{
    static const char open[] = "{\"type\":\"OPEN\"}";
    const dp_signaling_offer offer = {"c", "v=0", "l", "binary", NULL, true, 0};
    dp_time next = dp_signaling_next_timeout(o->client);
    switch (opcode) {
    case 0:
        dp_signaling_input(o->client, o->now, bytes, len);
        break;
    case 1:
        text_frame(o, bytes, len);
        break;
    case 2:
        upgrade(o);
        break;
    case 3:
        text_frame(o, (const uint8_t *)open, sizeof(open) - 1);
        break;
    case 4:
        if (next != DP_TIME_NEVER) {
            o->now = next > o->now ? next : o->now;
            dp_signaling_handle_timeout(o->client, o->now);
            CHECK(dp_signaling_next_timeout(o->client) > o->now);
        }
        break;
    case 5:
        o->stream = false;
        dp_signaling_disconnected(o->client, o->now, "end of file");
        break;
    case 6:
        CHECK((dp_signaling_start(o->client, o->now) == DP_OK) == !o->started);
        o->started = true;
        break;
    case 7:
        (void)dp_signaling_send_offer(o->client, o->now, "alice", &offer);
        break;
    default:
        dp_signaling_close(o->client, o->now);
        break;
    }
    drain(o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    owner o = {.now = DP_SECONDS(1)};
    random_state = 1;
    if (size == 0)
        return 0;
    dp_signaling_config config = {.size = sizeof(config), .random = {fake_random, NULL}};
    config.id = (data[0] & 1) != 0 ? "bob" : NULL;
    CHECK(dp_server_url_parse(&config.server, "ws://h/") == DP_OK);
    if (dp_signaling_new(&o.client, &config) != DP_OK)
        return 0;
    step(&o, 6, NULL, 0);
    for (size_t at = 1; at < size;) {
        unsigned opcode = data[at++] % 9;
        size_t len = 0;
        if (opcode < 2 && at < size) {
            len = (size_t)data[at++] + 1;
            if (len > size - at)
                len = size - at;
        }
        step(&o, opcode, data + at, len);
        at += len;
    }
    dp_signaling_free(o.client);
    return 0;
}
