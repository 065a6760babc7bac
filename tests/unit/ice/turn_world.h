/* A TURN client and a server made of a few lines, in virtual time: what turn.c and turn_peers.c share. */
#ifndef TESTS_ICE_TURN_WORLD_H
#define TESTS_ICE_TURN_WORLD_H

#include "base/crypto.h"
#include "ice/stun.h"
#include "ice/turn.h"

#include <stdlib.h>
#include <string.h>

/* ---- the world ---- */

typedef struct world {
    dp_turn *turn;
    dp_time now;
    uint64_t seed;
    unsigned long draws_left; /* of the random source; 0: it never fails */
    uint8_t frame[DP_DATAGRAM_MAX];
    size_t len;
    dp_stun_message m; /* the last frame of the client */
    uint8_t key[DP_MD5_LEN];
} world;

static inline int random_fn(void *ctx, uint8_t *out, size_t len)
{
    world *w = ctx;
    if (w->draws_left > 0 && --w->draws_left == 0) {
        w->draws_left = 1;
        return DP_ERR_CRYPTO;
    }
    for (size_t i = 0; i < len; i++) {
        w->seed = w->seed * 6364136223846793005u + 1442695040888963407u;
        out[i] = (uint8_t)(w->seed >> 56);
    }
    return DP_OK;
}

static inline void open_world(world *w, bool reliable)
{
    memset(w, 0, sizeof *w);
    w->now = DP_SECONDS(1000);
    w->seed = 1;
    dp_turn_config config = {
        .random = {random_fn, w}, .reliable = reliable, .username = "joe", .credential = "secret"};
    assert_int_equal(dp_turn_new(&w->turn, &config), DP_OK);
    assert_int_equal(dp_md5(w->key, "joe:example.org:secret", 22), DP_OK);
    assert_int_equal(dp_turn_next_timeout(w->turn), DP_TIME_NEVER);
}

/* The next frame of the client; decoded if it is STUN. */
static inline bool next(world *w)
{
    dp_datagram out = {.data = w->frame, .capacity = sizeof w->frame};
    if (!dp_turn_poll_transmit(w->turn, w->now, &out))
        return false;
    w->len = out.length;
    assert_int_equal(dp_stun_decode(&w->m, w->frame, w->len), DP_OK);
    return true;
}

static inline void next_is(world *w, unsigned method)
{
    assert_true(next(w));
    assert_int_equal(w->m.class_, DP_STUN_REQUEST);
    assert_int_equal(w->m.method, method);
}

static inline void quiet(world *w)
{
    assert_false(next(w));
    assert_true(dp_turn_next_timeout(w->turn) > w->now);
}

/* Lets time pass, timers on their way; the client must not want to send anything before the end of it. */
static inline void pass(world *w, dp_duration duration)
{
    dp_time end = w->now + duration;
    while (dp_turn_next_timeout(w->turn) <= end) {
        w->now = dp_turn_next_timeout(w->turn);
        dp_turn_handle_timeout(w->turn, w->now);
        if (w->now < end)
            quiet(w);
        else
            return;
    }
    w->now = end;
}

/* ---- the server ---- */

typedef struct answer {
    uint8_t data[DP_DATAGRAM_MAX];
    dp_wr wr;
} answer;

static inline void begin(world *w, answer *a, dp_stun_class class_)
{
    a->wr = dp_wr_init(a->data, sizeof a->data);
    dp_stun_write_header(&a->wr, class_, w->m.method, w->m.transaction);
}

/* Feeds an exact copy on the heap. */
static inline bool feed(world *w, const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);
    dp_turn_data out;
    if (len > 0)
        memcpy(copy, data, len);
    bool has_data = dp_turn_input(w->turn, w->now, copy, len, &out);
    if (has_data)
        assert_true(out.len > 0 && out.data >= copy && out.data + out.len <= copy + len);
    free(copy);
    return has_data;
}

static inline void finish(world *w, answer *a, bool sign)
{
    size_t len = 0;
    if (sign)
        dp_stun_write_integrity(&a->wr, w->key, sizeof w->key);
    assert_int_equal(dp_stun_finish(&a->wr, &len), DP_OK);
    assert_false(feed(w, a->data, len));
}

static inline void error(world *w, unsigned code, const char *nonce, bool sign)
{
    answer a;
    begin(w, &a, DP_STUN_ERROR);
    dp_stun_write_error_code(&a.wr, code, "no");
    if (nonce != NULL) {
        dp_stun_write_attribute(&a.wr, DP_STUN_REALM, "example.org", 11);
        dp_stun_write_attribute(&a.wr, DP_STUN_NONCE, nonce, strlen(nonce));
    }
    finish(w, &a, sign);
}

static inline void success(world *w, bool sign)
{
    answer a;
    begin(w, &a, DP_STUN_SUCCESS);
    finish(w, &a, sign);
}

static inline void refreshed(world *w, uint32_t lifetime)
{
    answer a;
    begin(w, &a, DP_STUN_SUCCESS);
    dp_stun_write_u32(&a.wr, DP_STUN_LIFETIME, lifetime);
    finish(w, &a, true);
}

static inline dp_address address(const char *ip, uint16_t port)
{
    dp_address out;
    assert_int_equal(dp_address_parse(&out, ip, port), DP_OK);
    return out;
}

static inline void grant_with(world *w, uint32_t lifetime, bool sign)
{
    answer a;
    dp_address four = address("192.0.2.1", 50000);
    dp_address again = address("192.0.2.1", 50002);
    dp_address mapped = address("198.51.100.7", 1234);
    begin(w, &a, DP_STUN_SUCCESS);
    dp_stun_write_xor_address(&a.wr, DP_STUN_XOR_RELAYED_ADDRESS, &four);
    dp_stun_write_xor_address(&a.wr, DP_STUN_XOR_RELAYED_ADDRESS, &again);
    dp_stun_write_xor_mapped_address(&a.wr, &mapped);
    dp_stun_write_u32(&a.wr, DP_STUN_LIFETIME, lifetime);
    finish(w, &a, sign);
}

static inline void event_is(world *w, dp_turn_event_type type, unsigned code, dp_turn_event *event)
{
    assert_true(dp_turn_poll_event(w->turn, event));
    assert_int_equal(event->type, type);
    assert_int_equal(event->code, code);
}

static inline void no_event(world *w)
{
    dp_turn_event event;
    assert_false(dp_turn_poll_event(w->turn, &event));
}

/* FAILED with code and a text; nothing is sent, wanted or told after it. */
static inline void failed(world *w, unsigned code)
{
    dp_turn_event event;
    event_is(w, DP_TURN_EVENT_FAILED, code, &event);
    assert_true(strlen(event.message) > 10);
    no_event(w);
    assert_int_equal(dp_turn_next_timeout(w->turn), DP_TIME_NEVER);
    dp_turn_handle_timeout(w->turn, w->now);
    assert_false(next(w));
    dp_turn_free(w->turn);
}

/* The first Allocate is refused with 401, the second one (in w->m) waits for its answer. */
static inline void authenticate(world *w)
{
    dp_turn_start(w->turn, w->now);
    next_is(w, DP_STUN_METHOD_ALLOCATE);
    error(w, 401, "nonce-1", false);
    next_is(w, DP_STUN_METHOD_ALLOCATE);
}

static inline void allocate(world *w, bool reliable)
{
    dp_turn_event event;
    open_world(w, reliable);
    authenticate(w);
    grant_with(w, 600, true);
    event_is(w, DP_TURN_EVENT_ALLOCATED, 0, &event);
    quiet(w);
}

#endif
