/* A tiny network in virtual time for two agents: seeded delay, loss, duplication, reordering; address
 * translation; a STUN server; a tap that may change or drop each datagram. Include after <cmocka.h>. */
#ifndef TESTS_ICE_TESTNET_H
#define TESTS_ICE_TESTNET_H

#include "ice/agent.h"
#include "ice/stun.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PACKETS_MAX 2048
#define HISTORY_MAX 16

typedef struct packet {
    dp_time at;
    unsigned to; /* node */
    dp_address local;
    dp_address remote;
    size_t len;
    uint8_t data[DP_DATAGRAM_MAX];
} packet;

typedef struct node {
    dp_ice *ice;
    uint64_t seed;
    bool mute_candidates; /* its candidates don't reach the other */
    bool dead;            /* takes and sends nothing, its timers don't run */
    dp_address addresses[4];
    size_t address_count;
    dp_address outside[4]; /* what the world sees of addresses[i]; family NONE: the address itself */
    dp_ice_state history[HISTORY_MAX];
    size_t history_count;
    unsigned selections;
    unsigned sent;
    unsigned payloads;
    char resolve[256]; /* the name of the last RESOLVE event */
    unsigned resolves;
    char hostname[256]; /* of the last LOCAL_CANDIDATE event */
    dp_ice_link link;   /* of the last LINK_OPEN event */
    unsigned links;
    unsigned links_closed;
    bool gathering_complete;
    char candidates[DP_ICE_MAX_LOCAL][DP_CANDIDATE_TEXT_MAX];
    size_t candidate_count;
} node;

typedef struct testnet {
    dp_time now;
    uint64_t seed;
    unsigned loss;      /* per cent */
    unsigned duplicate; /* per cent */
    dp_duration delay;
    dp_duration jitter;
    dp_address server;     /* a STUN server, if it has a family */
    uint16_t server_extra; /* type of one more attribute in its answers, 0: none */
    bool (*tap)(struct testnet *net, unsigned from, dp_datagram *datagram); /* false: dropped */
    void *tap_ctx;
    node nodes[2];
    packet *packets;
    size_t packet_count;
} testnet;

static inline uint64_t test_random(uint64_t *seed)
{
    uint64_t z = (*seed += 0x9E3779B97F4A7C15u); /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static inline int test_random_fn(void *ctx, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)test_random((uint64_t *)ctx);
    return DP_OK;
}

static inline void test_log(void *ctx, dp_log_level level, const char *layer, const char *message)
{
    (void)level;
    printf("%c %s: %s\n", *(const char *)ctx, layer, message);
}

static inline dp_address addr(const char *ip, uint16_t port)
{
    dp_address out;
    if (dp_address_parse(&out, ip, port) != DP_OK)
        abort();
    return out;
}

static inline void net_init(testnet *net, uint64_t seed, dp_ice_role a, dp_ice_role b)
{
    static const char names[] = "AB";
    memset(net, 0, sizeof *net);
    net->seed = seed;
    net->now = DP_SECONDS(1000);
    net->delay = DP_MS(10);
    net->packets = calloc(PACKETS_MAX, sizeof *net->packets);
    for (unsigned i = 0; i < 2; i++) {
        net->nodes[i].seed = seed * 2 + i;
        dp_ice_config config = {
            .size = sizeof config, .random = {test_random_fn, &net->nodes[i].seed}, .role = i == 0 ? a : b};
        if (getenv("ICE_LOG") != NULL)
            config.log = (dp_log){test_log, (void *)(uintptr_t)&names[i], DP_LOG_DEBUG};
        assert_int_equal(dp_ice_new(&net->nodes[i].ice, &config), DP_OK);
    }
}

static inline void net_clear(testnet *net)
{
    for (unsigned i = 0; i < 2; i++)
        dp_ice_free(net->nodes[i].ice);
    free(net->packets);
}

static inline void net_address(testnet *net, unsigned i, const char *ip, uint16_t port)
{
    node *n = &net->nodes[i];
    n->addresses[n->address_count] = addr(ip, port);
    assert_int_equal(dp_ice_add_local_address(n->ice, net->now, &n->addresses[n->address_count]), DP_OK);
    n->address_count++;
}

static inline void net_stun_server(testnet *net, unsigned i, const dp_address *address)
{
    dp_ice_server server = {.size = sizeof server, .address = *address};
    assert_int_equal(dp_ice_add_server(net->nodes[i].ice, &server), DP_OK);
}

static inline void net_credentials(testnet *net, unsigned i)
{
    const dp_ice *other = net->nodes[1 - i].ice;
    assert_int_equal(dp_ice_set_remote_credentials(net->nodes[i].ice, net->now, dp_ice_local_ufrag(other),
                                                   dp_ice_local_pwd(other)),
                     DP_OK);
}

static inline void net_gather(testnet *net, unsigned i)
{
    assert_int_equal(dp_ice_gather(net->nodes[i].ice, net->now), DP_OK);
}

static inline void net_push(testnet *net, unsigned to, const dp_address *local, const dp_address *remote,
                            const uint8_t *data, size_t len)
{
    if (test_random(&net->seed) % 100 < net->loss)
        return;
    unsigned copies = test_random(&net->seed) % 100 < net->duplicate ? 2 : 1;
    for (unsigned i = 0; i < copies && net->packet_count < PACKETS_MAX; i++) {
        packet *p = &net->packets[net->packet_count++];
        p->at = net->now + net->delay + (net->jitter > 0 ? test_random(&net->seed) % net->jitter : 0);
        p->to = to;
        p->local = *local;
        p->remote = *remote;
        p->len = len;
        memcpy(p->data, data, len);
    }
}

/* What the world sees of a node's socket. */
static inline dp_address net_outside(const testnet *net, unsigned i, const dp_address *inside)
{
    const node *n = &net->nodes[i];
    for (size_t k = 0; k < n->address_count; k++) {
        if (dp_address_equal(&n->addresses[k], inside) && n->outside[k].family != DP_FAMILY_NONE)
            return n->outside[k];
    }
    return *inside;
}

static inline void net_server_answer(testnet *net, unsigned to, const dp_address *inside,
                                     const dp_address *seen, const uint8_t *data, size_t len)
{
    dp_stun_message request;
    uint8_t out[128];
    size_t n = 0;
    if (dp_stun_decode(&request, data, len) != DP_OK)
        return;
    dp_wr wr = dp_wr_init(out, sizeof out);
    dp_stun_write_header(&wr, DP_STUN_SUCCESS, DP_STUN_METHOD_BINDING, request.transaction);
    dp_stun_write_xor_mapped_address(&wr, seen);
    if (net->server_extra != 0)
        dp_stun_write_u32(&wr, (dp_stun_attribute)net->server_extra, 0);
    assert_int_equal(dp_stun_finish(&wr, &n), DP_OK);
    net_push(net, to, inside, &net->server, out, n);
}

static inline void net_route(testnet *net, unsigned from, const dp_datagram *d)
{
    dp_address source = net_outside(net, from, &d->local);
    if (dp_address_equal(&d->remote, &net->server)) {
        net_server_answer(net, from, &d->local, &source, d->data, d->length);
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        for (size_t k = 0; k < net->nodes[i].address_count; k++) {
            dp_address outside = net_outside(net, i, &net->nodes[i].addresses[k]);
            if (i != from && dp_address_equal(&outside, &d->remote))
                net_push(net, i, &net->nodes[i].addresses[k], &source, d->data, d->length);
        }
    }
}

static inline void net_event(testnet *net, unsigned i, const dp_ice_event *event)
{
    node *n = &net->nodes[i];
    switch (event->type) {
    case DP_ICE_EVENT_LOCAL_CANDIDATE:
        assert_true(n->candidate_count < DP_ICE_MAX_LOCAL);
        (void)snprintf(n->hostname, sizeof n->hostname, "%s", event->hostname != NULL ? event->hostname : "");
        memcpy(n->candidates[n->candidate_count++], event->candidate, strlen(event->candidate) + 1);
        if (!n->mute_candidates)
            assert_int_equal(dp_ice_add_remote_candidate(net->nodes[1 - i].ice, net->now, event->candidate),
                             DP_OK);
        break;
    case DP_ICE_EVENT_GATHERING_COMPLETE:
        n->gathering_complete = true;
        break;
    case DP_ICE_EVENT_STATE:
        assert_true(n->history_count < HISTORY_MAX);
        n->history[n->history_count++] = event->state;
        break;
    case DP_ICE_EVENT_SELECTED_PAIR:
        n->selections++;
        break;
    case DP_ICE_EVENT_RESOLVE:
        n->resolves++;
        (void)snprintf(n->resolve, sizeof n->resolve, "%s", event->hostname);
        break;
    case DP_ICE_EVENT_LINK_OPEN:
        n->links++;
        n->link = event->link;
        break;
    case DP_ICE_EVENT_LINK_CLOSE:
        n->links_closed++;
        break;
    }
}

static inline void net_pump(testnet *net)
{
    for (unsigned pass = 0; pass < 4; pass++) { /* the events of one may give the other something to send */
        unsigned i = pass % 2;
        uint8_t data[DP_DATAGRAM_MAX];
        dp_datagram d = {.data = data, .capacity = sizeof data};
        dp_ice_event event;
        while (dp_ice_poll_event(net->nodes[i].ice, &event))
            net_event(net, i, &event);
        while (dp_ice_poll_transmit(net->nodes[i].ice, net->now, &d)) {
            if (net->nodes[i].dead)
                continue;
            net->nodes[i].sent++;
            if (net->tap == NULL || net->tap(net, i, &d))
                net_route(net, i, &d);
        }
    }
}

/* Data that is accepted is counted. */
static inline void net_input(testnet *net, unsigned i, uint8_t *data, size_t len, const dp_address *local,
                             const dp_address *remote)
{
    dp_ice_payload payload;
    net->nodes[i].payloads += dp_ice_input(net->nodes[i].ice, net->now, data, len, local, remote, &payload);
}

static inline void net_deliver(testnet *net)
{
    for (size_t k = 0; k < net->packet_count;) {
        packet p = net->packets[k];
        if (p.at > net->now) {
            k++;
            continue;
        }
        net->packets[k] = net->packets[--net->packet_count]; /* swapped: reorders too */
        if (!net->nodes[p.to].dead)
            net_input(net, p.to, p.data, p.len, &p.local, &p.remote);
    }
}

static inline dp_time net_next(const testnet *net)
{
    dp_time next = DP_TIME_NEVER;
    for (unsigned i = 0; i < 2; i++) {
        dp_time t = net->nodes[i].dead ? DP_TIME_NEVER : dp_ice_next_timeout(net->nodes[i].ice);
        next = t < next ? t : next;
    }
    for (size_t k = 0; k < net->packet_count; k++)
        next = net->packets[k].at < next ? net->packets[k].at : next;
    return next;
}

/* Runs until the time is until, or done() is true. A step that doesn't advance time 100,000 times is a busy
 * loop. */
static inline void net_run_until(testnet *net, dp_time until, bool (*done)(const testnet *net))
{
    net_pump(net);
    for (unsigned idle = 0; idle < 100000; idle++) {
        if (done != NULL && done(net))
            return;
        dp_time next = net_next(net);
        if (next > until) {
            net->now = until;
            return;
        }
        if (next > net->now) {
            net->now = next;
            idle = 0;
        }
        net_deliver(net);
        for (unsigned i = 0; i < 2; i++) {
            if (!net->nodes[i].dead && dp_ice_next_timeout(net->nodes[i].ice) <= net->now)
                dp_ice_handle_timeout(net->nodes[i].ice, net->now);
        }
        net_pump(net);
    }
    fail_msg("busy loop");
}

static inline void net_run(testnet *net, dp_duration span) { net_run_until(net, net->now + span, NULL); }

static inline bool net_completed(const testnet *net)
{
    return dp_ice_get_state(net->nodes[0].ice) == DP_ICE_COMPLETED &&
           dp_ice_get_state(net->nodes[1].ice) == DP_ICE_COMPLETED;
}

/* Was node i ever in that state? */
static inline bool net_was(const testnet *net, unsigned i, dp_ice_state state)
{
    for (size_t k = 0; k < net->nodes[i].history_count; k++) {
        if (net->nodes[i].history[k] == state)
            return true;
    }
    return false;
}

static inline bool net_usable(const testnet *net)
{
    dp_address l;
    dp_address r;
    return dp_ice_selected_pair(net->nodes[0].ice, &l, &r) && dp_ice_selected_pair(net->nodes[1].ice, &l, &r);
}

/* Two agents with an address each, credentials and candidates exchanged as they come. */
static inline void net_pair(testnet *net, uint64_t seed, dp_ice_role a, dp_ice_role b)
{
    net_init(net, seed, a, b);
    net_address(net, 0, "10.0.0.1", 1000);
    net_address(net, 1, "10.0.0.2", 2000);
    for (unsigned i = 0; i < 2; i++) {
        net_gather(net, i);
        net_credentials(net, i);
    }
}

#endif
