/* Two dp_sctp objects and the network between them, in virtual time: delay, loss, reordering, duplication. */
#ifndef TESTS_SCTP_PAIR_H
#define TESTS_SCTP_PAIR_H

#include <datapeer/sctp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "virtual_time.h"

typedef struct packet {
    struct packet *next;
    dp_time due;
    int to;
    size_t len;
    uint8_t data[];
} packet;

/* Messages are not interleaved (RFC 8260): all is DATA, and usrsctp puts it together. */
static bool pair_sends_data;

typedef struct pair {
    dp_sctp *end[2];
    packet *flying;
    packet *last; /* of them, if there is one */
    uint64_t seed;
    unsigned loss, duplicate, reorder; /* percent */
    dp_duration delay;
    bool cut[2];  /* nothing arrives at end i */
    bool deaf[2]; /* end i polls no events */
    uint64_t packets, bytes;
    size_t largest;
    size_t path_mtu;   /* larger probes are lost; 0: none are */
    bool no_fragments; /* and so are larger packets */
    uint64_t probes;
    void (*on_event)(struct pair *pair, int end, const dp_sctp_event *event);
    void (*on_packet)(struct pair *pair, int from, uint8_t *data,
                      size_t *len); /* may change it; len 0 drops it */
    void *ctx;
} pair;

static uint32_t pair_random(pair *p)
{
    p->seed = p->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(p->seed >> 33);
}

static int pair_random_fn(void *ctx, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)pair_random((pair *)ctx);
    return DP_OK;
}

static void pair_put(pair *p, int to, const uint8_t *data, size_t len, dp_time due)
{
    packet *item = (packet *)malloc(sizeof *item + len);
    if (item == NULL)
        abort();
    item->due = due;
    item->to = to;
    item->len = len;
    memcpy(item->data, data, len);
    packet **at = p->flying != NULL && p->last->due <= due ? &p->last->next : &p->flying;
    while (*at != NULL && (*at)->due <= due)
        at = &(*at)->next;
    item->next = *at;
    *at = item;
    if (item->next == NULL)
        p->last = item;
}

static void pair_probe(pair *p, int from)
{
    const uint8_t *data;
    size_t len;
    while (dp_sctp_poll_probe(p->end[from], virtual_now, &data, &len)) {
        p->probes++;
        if (!p->cut[1 - from] && (p->path_mtu == 0 || len <= p->path_mtu))
            pair_put(p, 1 - from, data, len, virtual_now + p->delay);
    }
}

static void pair_transmit(pair *p, int from)
{
    const uint8_t *data;
    size_t len;
    while (dp_sctp_poll_transmit(p->end[from], &data, &len)) {
        uint8_t copy[16384];
        p->packets++;
        p->bytes += len;
        if (len > p->largest)
            p->largest = len;
        if (len > sizeof copy)
            abort();
        memcpy(copy, data, len);
        if (p->on_packet != NULL)
            p->on_packet(p, from, copy, &len);
        if (p->no_fragments && p->path_mtu != 0 && len > p->path_mtu)
            continue;
        if (len == 0 || p->cut[1 - from] || pair_random(p) % 100 < p->loss)
            continue;
        dp_time due = virtual_now + p->delay;
        if (pair_random(p) % 100 < p->reorder)
            due += p->delay / 2 + pair_random(p) % (p->delay + 1);
        pair_put(p, 1 - from, copy, len, due);
        if (pair_random(p) % 100 < p->duplicate)
            pair_put(p, 1 - from, copy, len, due + p->delay);
    }
    pair_probe(p, from);
}

/* Everything that can happen at this instant. */
static void pair_drain(pair *p)
{
    for (int i = 0; i < 2; i++) {
        dp_sctp_event event;
        if (p->end[i] == NULL)
            continue;
        pair_transmit(p, i);
        while (p->end[i] != NULL && !p->deaf[i] && dp_sctp_poll_event(p->end[i], &event))
            if (p->on_event != NULL)
                p->on_event(p, i, &event);
        if (p->end[i] != NULL)
            pair_transmit(p, i);
    }
}

/* Jumps to the next packet or timer; false if there is none before until. */
static bool pair_step(pair *p, dp_time until)
{
    dp_time next = p->flying == NULL ? DP_TIME_NEVER : p->flying->due;
    for (int i = 0; i < 2; i++)
        if (p->end[i] != NULL && dp_sctp_next_timeout(p->end[i]) < next)
            next = dp_sctp_next_timeout(p->end[i]);
    if (next > until) {
        virtual_now = until;
        return false;
    }
    if (next > virtual_now)
        virtual_now = next;
    while (p->flying != NULL && p->flying->due <= virtual_now) {
        packet *item = p->flying;
        p->flying = item->next;
        if (p->end[item->to] != NULL) {
            dp_sctp_input(p->end[item->to], virtual_now, item->data, item->len);
            pair_drain(p);
        }
        free(item);
    }
    for (int i = 0; i < 2; i++)
        if (p->end[i] != NULL && dp_sctp_next_timeout(p->end[i]) <= virtual_now)
            dp_sctp_handle_timeout(p->end[i], virtual_now);
    pair_drain(p);
    return true;
}

static void pair_run(pair *p, dp_duration how_long)
{
    dp_time until = virtual_now + how_long;
    pair_drain(p);
    while (pair_step(p, until)) {
    }
}

/* Until done() or the time is up. */
static bool pair_run_until(pair *p, bool (*done)(pair *p), dp_duration limit)
{
    dp_time until = virtual_now + limit;
    pair_drain(p);
    while (!done(p))
        if (!pair_step(p, until))
            return false;
    return true;
}

static void pair_init_with(pair *p, uint64_t seed, const dp_sctp_config *config)
{
    memset(p, 0, sizeof *p);
    p->seed = seed;
    p->delay = DP_MS(5);
    for (int i = 0; i < 2; i++) {
        dp_sctp_config c = *config;
        c.size = sizeof c;
        c.random = (dp_random){pair_random_fn, p};
        c.no_interleaving |= pair_sends_data;
        if (dp_sctp_new(&p->end[i], &c) != DP_OK)
            abort();
    }
}

static void pair_init(pair *p, uint64_t seed)
{
    dp_sctp_config config;
    memset(&config, 0, sizeof config);
    pair_init_with(p, seed, &config);
}

static void pair_start(pair *p)
{
    for (int i = 0; i < 2; i++)
        if (dp_sctp_start(p->end[i], virtual_now, i == 0, 5000, 262144) != DP_OK)
            abort();
}

/* The tests, with interleaved messages and without. 0: all have passed. */
#define PAIR_RUN_BOTH_WAYS(tests)                                                                            \
    ((pair_sends_data = false, cmocka_run_group_tests_name("I-DATA", tests, NULL, NULL)) != 0 ||             \
     (pair_sends_data = true, cmocka_run_group_tests_name("DATA", tests, NULL, NULL)) != 0)

static void pair_clear(pair *p)
{
    for (int i = 0; i < 2; i++)
        dp_sctp_free(p->end[i]);
    while (p->flying != NULL) {
        packet *next = p->flying->next;
        free(p->flying);
        p->flying = next;
    }
}

#endif
