/* Two peer connections joined by a small hostile network in virtual time. Same seed, same run. */
#ifndef TESTS_PEER_PAIR_H
#define TESTS_PEER_PAIR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <datapeer/peer_connection.h>
#include <stdlib.h>
#include <string.h>

#include "../sctp/virtual_time.h"

typedef struct packet {
    struct packet *next;
    dp_time at;
    int to; /* index of the end */
    dp_address from_address;
    dp_address to_address;
    size_t len;
    uint8_t data[DP_DATAGRAM_MAX];
} packet;

typedef struct pair_end {
    dp_pc *pc;
    dp_certificate *certificate;
    dp_address address;
    dp_pc_state state;
    dp_ice_state ice_state;
    dp_channel *channel;
    char error[512];
    unsigned opened;
    unsigned closed;
    unsigned low;
    unsigned channel_errors;
    unsigned messages;
    size_t last_len;
    bool last_binary;
    uint8_t *last; /* the last message, owned */
    unsigned candidates;
    unsigned selected;
    /* Called for each event, and for each message, if set. */
    void (*on_event)(struct pair_end *end, const dp_pc_event *event);
    void (*on_message)(struct pair_end *end, const dp_pc_event *event);
} pair_end;

typedef struct pair {
    pair_end ends[2];
    packet *packets; /* in the order of arrival */
    dp_time now;
    unsigned loss_percent;
    unsigned duplicate_percent;
    dp_duration jitter; /* reorders */
    uint64_t seed;
    uint64_t sent[2];
    uint64_t strays; /* datagrams that went to anybody but the other end */
    bool cut;        /* nothing arrives */
} pair;

static inline uint32_t pair_random(pair *p)
{
    p->seed = p->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(p->seed >> 33);
}

static inline int pair_random_bytes(void *ctx, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)pair_random(ctx);
    return DP_OK;
}

/* flags: what each end's configuration has beside the defaults. */
static inline void pair_new_as(pair *p, uint64_t seed, const dp_pc_config flags[2])
{
    memset(p, 0, sizeof(*p));
    p->seed = seed * 2654435761u + 1;
    p->now = DP_SECONDS(1000);
    virtual_now = p->now;
    for (int i = 0; i < 2; i++) {
        pair_end *end = &p->ends[i];
        dp_random random = {pair_random_bytes, p};
        assert_int_equal(dp_certificate_generate(&end->certificate, &random, 1700000000), DP_OK);
        dp_pc_config config = {.size = sizeof(config),
                               .random = random,
                               .certificate = end->certificate,
                               .ice_lite = flags[i].ice_lite,
                               .relay_only = flags[i].relay_only,
                               .hide_addresses = flags[i].hide_addresses};
        assert_int_equal(dp_pc_new(&end->pc, &config), DP_OK);
        assert_int_equal(
            dp_address_parse(&end->address, i == 0 ? "10.0.0.1" : "10.0.0.2", (uint16_t)(40000 + i)), DP_OK);
        assert_int_equal(dp_pc_add_local_address(end->pc, p->now, &end->address), DP_OK);
    }
}

static inline void pair_new(pair *p, uint64_t seed)
{
    static const dp_pc_config none[2];
    pair_new_as(p, seed, none);
}

static inline void pair_free(pair *p)
{
    for (int i = 0; i < 2; i++) {
        dp_pc_free(p->ends[i].pc);
        dp_certificate_free(p->ends[i].certificate);
        free(p->ends[i].last);
    }
    while (p->packets != NULL) {
        packet *next = p->packets->next;
        free(p->packets);
        p->packets = next;
    }
}

static inline void pair_post(pair *p, int from, const dp_datagram *d)
{
    packet *k = malloc(sizeof(*k));
    assert_non_null(k);
    assert_true(d->length <= sizeof(k->data));
    k->at = p->now + DP_MS(1) + (p->jitter > 0 ? pair_random(p) % p->jitter : 0);
    k->to = 1 - from;
    k->from_address = d->local;
    k->to_address = d->remote;
    k->len = d->length;
    memcpy(k->data, d->data, d->length);
    packet **at = &p->packets;
    while (*at != NULL && (*at)->at <= k->at)
        at = &(*at)->next;
    k->next = *at;
    *at = k;
}

static inline void pair_transmit(pair *p, int from)
{
    uint8_t bytes[DP_DATAGRAM_MAX];
    dp_datagram d = {.data = bytes, .capacity = sizeof(bytes)};
    while (dp_pc_poll_transmit(p->ends[from].pc, p->now, &d)) {
        p->sent[from]++;
        p->strays += !dp_address_equal(&d.remote, &p->ends[1 - from].address);
        if (p->cut || !dp_address_equal(&d.remote, &p->ends[1 - from].address) ||
            pair_random(p) % 100 < p->loss_percent)
            continue;
        pair_post(p, from, &d);
        if (pair_random(p) % 100 < p->duplicate_percent)
            pair_post(p, from, &d);
    }
}

static inline void pair_event(pair_end *end, const dp_pc_event *event)
{
    if (end->on_event != NULL)
        end->on_event(end, event);
    switch (event->type) {
    case DP_PC_EVENT_SELECTED_PAIR:
        end->selected++;
        break;
    case DP_PC_EVENT_STATE:
        end->state = event->state;
        strncpy(end->error, event->message, sizeof(end->error) - 1);
        break;
    case DP_PC_EVENT_ICE_STATE:
        end->ice_state = event->ice_state;
        break;
    case DP_PC_EVENT_LOCAL_CANDIDATE:
        end->candidates++;
        break;
    case DP_PC_EVENT_CHANNEL_OPEN:
        end->opened++;
        if (end->channel == NULL)
            end->channel = event->channel;
        break;
    case DP_PC_EVENT_MESSAGE:
        end->messages++;
        end->last_len = event->len;
        end->last_binary = event->binary;
        free(end->last);
        end->last = malloc(event->len + 1);
        assert_non_null(end->last);
        memcpy(end->last, event->data, event->len);
        if (end->on_message != NULL)
            end->on_message(end, event);
        break;
    case DP_PC_EVENT_BUFFERED_AMOUNT_LOW:
        end->low++;
        break;
    case DP_PC_EVENT_CHANNEL_ERROR:
        end->channel_errors++;
        break;
    case DP_PC_EVENT_CHANNEL_CLOSED:
        end->closed++;
        if (end->channel == event->channel)
            end->channel = NULL;
        break;
    default:
        break;
    }
}

static inline void pair_drain(pair *p)
{
    for (int i = 0; i < 2; i++) {
        dp_pc_event event;
        while (dp_pc_poll_event(p->ends[i].pc, p->now, &event))
            pair_event(&p->ends[i], &event);
        pair_transmit(p, i);
    }
}

/* Goes on to the next thing that happens; false if there is none before the deadline. */
static inline bool pair_step(pair *p, dp_time deadline)
{
    pair_drain(p);
    dp_time next = p->packets != NULL ? p->packets->at : DP_TIME_NEVER;
    for (int i = 0; i < 2; i++) {
        dp_time timeout = dp_pc_next_timeout(p->ends[i].pc);
        next = timeout < next ? timeout : next;
    }
    if (next > deadline)
        return false;
    p->now = next > p->now ? next : p->now;
    virtual_now = p->now;
    while (p->packets != NULL && p->packets->at <= p->now) {
        packet *k = p->packets;
        p->packets = k->next;
        if (!p->cut)
            dp_pc_input(p->ends[k->to].pc, p->now, k->data, k->len, &k->to_address, &k->from_address);
        free(k);
    }
    for (int i = 0; i < 2; i++)
        if (dp_pc_next_timeout(p->ends[i].pc) <= p->now)
            dp_pc_handle_timeout(p->ends[i].pc, p->now);
    pair_drain(p);
    return true;
}

#define PAIR_RUN_UNTIL(p, condition, limit)                                                                  \
    do {                                                                                                     \
        dp_time deadline_ = (p)->now + (limit);                                                              \
        while (!(condition) && pair_step((p), deadline_)) {                                                  \
        }                                                                                                    \
        assert_true(condition);                                                                              \
    } while (0)

static inline void pair_run(pair *p, dp_duration time)
{
    dp_time deadline = p->now + time;
    while (pair_step(p, deadline)) {
    }
    p->now = deadline;
    virtual_now = p->now;
}

/* Offer and answer; a channel "test" made by the offerer, end 0. */
static inline void pair_negotiate(pair *p, bool ordered)
{
    char offer[16384], answer[16384];
    size_t offer_len, answer_len;
    dp_sdp_error error;
    dp_channel_init init = DP_CHANNEL_INIT("test");
    init.ordered = ordered;
    assert_int_equal(dp_pc_create_channel(p->ends[0].pc, &p->ends[0].channel, p->now, &init), DP_OK);
    assert_int_equal(dp_pc_create_offer(p->ends[0].pc, p->now, offer, sizeof(offer), &offer_len), DP_OK);
    assert_int_equal(
        dp_pc_set_remote_description(p->ends[1].pc, p->now, DP_SDP_OFFER, offer, offer_len, &error), DP_OK);
    assert_int_equal(dp_pc_create_answer(p->ends[1].pc, p->now, answer, sizeof(answer), &answer_len), DP_OK);
    assert_int_equal(
        dp_pc_set_remote_description(p->ends[0].pc, p->now, DP_SDP_ANSWER, answer, answer_len, &error),
        DP_OK);
}

static inline void pair_connect(pair *p)
{
    pair_negotiate(p, true);
    PAIR_RUN_UNTIL(p, p->ends[0].opened == 1 && p->ends[1].opened == 1, DP_SECONDS(60));
}

#endif
