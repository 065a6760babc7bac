/* Two peer connections that negotiate again and again: the bytes choose who offers, answers or restarts, which
 * description arrives where, and what is changed in it on the way; also candidates, datagrams, links, addresses and
 * the clock. Whatever is refused must leave a connection that can go on. */
#include <datapeer/peer_connection.h>

#include <stdlib.h>
#include <string.h>

#include "base/rd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TEXT = 16384, TEXTS = 4, PACKETS = 8, STEPS_MAX = 60 };

typedef struct packet {
    uint8_t data[DP_DATAGRAM_MAX];
    size_t len;
    dp_address local;
    dp_address remote;
} packet;

typedef struct world {
    dp_time now;
    uint64_t seed;
    dp_pc *pc[2];
    dp_address addresses[2][2];
    char texts[TEXTS][TEXT]; /* descriptions that are on their way */
    size_t lens[TEXTS];
    size_t next;
    packet packets[2][PACKETS]; /* of each end */
    size_t packet_count[2];
    uint32_t link[2];
    char hostname[256];
} world;

static int seeded(void *ctx, uint8_t *out, size_t len)
{
    uint64_t *s = ctx;
    for (size_t i = 0; i < len; i++) {
        *s = *s * 6364136223846793005u + 1442695040888963407u;
        out[i] = (uint8_t)(*s >> 56);
    }
    return DP_OK;
}

static void drain(world *w)
{
    for (int e = 0; e < 2; e++) {
        dp_pc_event event;
        while (dp_pc_poll_event(w->pc[e], w->now, &event)) {
            if (event.type == DP_PC_EVENT_LINK_OPEN)
                w->link[e] = event.link.id;
            else if (event.type == DP_PC_EVENT_RESOLVE)
                memcpy(w->hostname, event.hostname, strlen(event.hostname) + 1);
        }
        packet lost;
        packet *p = w->packet_count[e] < PACKETS ? &w->packets[e][w->packet_count[e]] : &lost;
        dp_datagram d = {.data = p->data, .capacity = sizeof(p->data)};
        while (dp_pc_poll_transmit(w->pc[e], w->now, &d)) {
            if (d.length == 0 || d.length > DP_DATAGRAM_MAX)
                abort();
            p->len = d.length;
            p->local = d.local;
            p->remote = d.remote;
            if (p != &lost)
                w->packet_count[e]++;
            p = w->packet_count[e] < PACKETS ? &w->packets[e][w->packet_count[e]] : &lost;
            d = (dp_datagram){.data = p->data, .capacity = sizeof(p->data)};
        }
    }
}

/* All that waits arrives; then comes the next time-out. */
static void run(world *w)
{
    for (int e = 0; e < 2; e++) {
        for (size_t i = 0; i < w->packet_count[e]; i++) {
            packet *p = &w->packets[e][i];
            dp_pc_input(w->pc[1 - e], w->now, p->data, p->len, &p->remote, &p->local);
        }
        w->packet_count[e] = 0;
    }
    drain(w);
    dp_time next = DP_TIME_NEVER;
    for (int e = 0; e < 2; e++)
        next = dp_pc_next_timeout(w->pc[e]) < next ? dp_pc_next_timeout(w->pc[e]) : next;
    if (next != DP_TIME_NEVER && next > w->now)
        w->now = next;
    for (int e = 0; e < 2; e++)
        if (dp_pc_next_timeout(w->pc[e]) <= w->now)
            dp_pc_handle_timeout(w->pc[e], w->now);
}

static void describe(world *w, int e, bool offer)
{
    size_t len, t = w->next;
    int error = offer ? dp_pc_create_offer(w->pc[e], w->now, w->texts[t], TEXT, &len)
                      : dp_pc_create_answer(w->pc[e], w->now, w->texts[t], TEXT, &len);
    w->lens[t] = error == DP_OK ? len : 0;
    w->next = error == DP_OK ? (t + 1) % TEXTS : t;
}

static void deliver(world *w, int e, dp_rd *rd, bool changed)
{
    char text[TEXT];
    size_t t = dp_rd_u8(rd) % TEXTS, len = w->lens[t];
    dp_sdp_error error;
    memcpy(text, w->texts[t], len);
    if (changed && len > 0) {
        size_t at = dp_rd_u16(rd) % len;
        text[at] = (char)dp_rd_u8(rd);
    }
    dp_sdp_type type = dp_rd_u8(rd) % 2 == 0 ? DP_SDP_OFFER : DP_SDP_ANSWER;
    (void)dp_pc_set_remote_description(w->pc[e], w->now, type, text, len, &error);
}

static void take_candidate(world *w, int e, dp_rd *rd)
{
    static const char *const candidates[] = {
        NULL,
        "candidate:1 1 udp 2130706431 10.0.0.9 1234 typ host",
        "candidate:2 1 udp 2130706431 1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed.local 1234 typ host",
        "candidate:3 1 tcp 1 10.0.0.9 9 typ host tcptype active",
        "candidate:x",
    };
    (void)dp_pc_add_remote_candidate(w->pc[e], w->now, candidates[dp_rd_u8(rd) % 5]);
}

static void step(world *w, dp_rd *rd)
{
    uint8_t op = dp_rd_u8(rd);
    int e = op & 1;
    uint8_t bytes[64];
    size_t len;
    switch ((op >> 1) % 12) {
    case 0:
        describe(w, e, true);
        break;
    case 1:
        describe(w, e, false);
        break;
    case 2:
        (void)dp_pc_restart_ice(w->pc[e]);
        break;
    case 3:
        deliver(w, e, rd, false);
        break;
    case 4:
        deliver(w, e, rd, true);
        break;
    case 5:
        take_candidate(w, e, rd);
        break;
    case 6:
        (void)dp_pc_remove_local_address(w->pc[e], w->now, &w->addresses[e][dp_rd_u8(rd) % 2]);
        break;
    case 7:
        (void)dp_pc_add_local_address(w->pc[e], w->now, &w->addresses[e][dp_rd_u8(rd) % 2]);
        break;
    case 8:
        len = dp_rd_u8(rd) % sizeof(bytes);
        for (size_t i = 0; i < len; i++)
            bytes[i] = dp_rd_u8(rd);
        if (len % 2 == 0)
            dp_pc_link_opened(w->pc[e], w->now, w->link[e]);
        dp_pc_link_input(w->pc[e], w->now, w->link[e], bytes, len);
        break;
    case 9:
        dp_pc_link_closed(w->pc[e], w->now, w->link[e]);
        break;
    case 10:
        dp_pc_resolved(w->pc[e], w->now, w->hostname, &w->addresses[1 - e][0], dp_rd_u8(rd) % 2);
        break;
    default:
        for (unsigned i = dp_rd_u8(rd) % 32; i > 0; i--)
            run(w);
        break;
    }
    drain(w);
}

static void make_ends(world *w, const dp_certificate *certificate, uint8_t flags)
{
    dp_random random = {seeded, &w->seed};
    for (int e = 0; e < 2; e++) {
        dp_pc_config config = {.size = sizeof(config),
                               .random = random,
                               .certificate = certificate,
                               .ice_lite = flags == 1 + e,
                               .hide_addresses = (flags & 4) != 0};
        dp_ice_server server = {.size = sizeof(server),
                                .turn = true,
                                .transport = DP_ICE_TCP,
                                .username = "u",
                                .credential = "p"};
        dp_channel *channel;
        dp_channel_init init = DP_CHANNEL_INIT("c");
        if (dp_address_parse(&server.address, "10.0.0.99", 3478) != DP_OK ||
            dp_address_parse(&w->addresses[e][0], e == 0 ? "10.0.0.1" : "10.0.0.2", 1000) != DP_OK ||
            dp_address_parse(&w->addresses[e][1], e == 0 ? "10.0.1.1" : "10.0.1.2", 1000) != DP_OK ||
            dp_pc_new(&w->pc[e], &config) != DP_OK || dp_pc_add_ice_server(w->pc[e], &server) != DP_OK ||
            dp_pc_add_local_address(w->pc[e], w->now, &w->addresses[e][0]) != DP_OK ||
            dp_pc_create_channel(w->pc[e], &channel, w->now, &init) != DP_OK)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static dp_certificate *certificate;
    static world w;
    memset(&w, 0, sizeof(w));
    w.now = DP_SECONDS(1000);
    w.seed = 1;
    dp_random random = {seeded, &w.seed};
    if (certificate == NULL && dp_certificate_generate(&certificate, &random, 1700000000) != DP_OK)
        abort();
    w.seed = 1;
    dp_rd rd = dp_rd_init(data, size);
    make_ends(&w, certificate, dp_rd_u8(&rd) % 8);
    for (int i = 0; i < STEPS_MAX && dp_rd_left(&rd) > 0; i++)
        step(&w, &rd);
    dp_pc_close(w.pc[0], w.now);
    drain(&w);
    for (int e = 0; e < 2; e++)
        dp_pc_free(w.pc[e]);
    return 0;
}
