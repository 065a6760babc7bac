/* Two connections and a lossy network between them, in virtual time, from a seed. */
#ifndef TESTS_DTLS_PAIR_H
#define TESTS_DTLS_PAIR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <datapeer/dtls.h>

#define WALL_CLOCK INT64_C(1790000000)

/* splitmix64: good enough for tests, and the same everywhere. */
typedef struct test_random {
    uint64_t state;
} test_random;

static inline uint64_t test_next(test_random *r)
{
    uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static inline int test_fill(void *ctx, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)test_next(ctx);
    return DP_OK;
}

static inline dp_random test_source(test_random *r) { return (dp_random){test_fill, r}; }

enum { CLIENT, SERVER };

#define FLYING_MAX 64

typedef struct flying {
    dp_time arrival;
    int to;
    size_t len;
    uint8_t data[1500];
} flying;

typedef struct side {
    dp_dtls *dtls;
    dp_certificate *certificate;
    bool connected;
    bool closed;
    bool failed;
    int error;
    char message[512];
    size_t data_count;
    uint8_t data[2048]; /* of the last DATA event */
    size_t data_len;
} side;

typedef struct pair pair;
struct pair {
    test_random random;
    dp_time now;
    unsigned loss_percent;
    dp_duration jitter; /* above 0 datagrams overtake one another */
    side side[2];
    flying air[FLYING_MAX];
    size_t air_count;
    size_t sent[2];
    /* Sees each datagram before the network does; may change it; false: it is lost. */
    bool (*tap)(pair *p, int from, uint8_t *data, size_t *len);
    void *tap_ctx;
    size_t tap_count;
};

static inline void pair_config(pair *p, int which, dp_dtls_config *config)
{
    memset(config, 0, sizeof *config);
    config->size = sizeof *config;
    config->random = test_source(&p->random);
    config->role = which == CLIENT ? DP_DTLS_CLIENT : DP_DTLS_SERVER;
    config->certificate = p->side[which].certificate;
}

/* Certificates are made once a program: key generation is slow under the sanitizers. */
static inline dp_certificate *test_certificate(int which)
{
    static dp_certificate *made[3];
    if (which < 0) { /* the end of the program */
        for (int i = 0; i < 3; i++)
            dp_certificate_free(made[i]);
        return NULL;
    }
    if (made[which] == NULL) {
        test_random r = {(uint64_t)which + 77};
        dp_random source = test_source(&r);
        assert_int_equal(dp_certificate_generate(&made[which], &source, WALL_CLOCK), DP_OK);
    }
    return made[which];
}

static inline void pair_expect(pair *p, int which, dp_certificate *certificate)
{
    dp_fingerprint fp;
    dp_certificate_fingerprint(certificate, &fp);
    assert_int_equal(dp_dtls_set_remote_fingerprints(p->side[which].dtls, &fp, 1), DP_OK);
}

static inline void pair_init(pair *p, uint64_t seed)
{
    memset(p, 0, sizeof *p);
    p->random.state = seed;
    p->now = DP_SECONDS(1000);
    for (int i = 0; i < 2; i++) {
        dp_dtls_config config;
        p->side[i].certificate = test_certificate(i);
        pair_config(p, i, &config);
        assert_int_equal(dp_dtls_new(&p->side[i].dtls, &config), DP_OK);
    }
    pair_expect(p, CLIENT, p->side[SERVER].certificate);
    pair_expect(p, SERVER, p->side[CLIENT].certificate);
}

static inline void pair_clear(pair *p)
{
    dp_dtls_free(p->side[0].dtls);
    dp_dtls_free(p->side[1].dtls);
}

static inline void pair_events(pair *p, int which)
{
    side *s = &p->side[which];
    dp_dtls_event event;
    while (dp_dtls_poll_event(s->dtls, &event)) {
        switch (event.type) {
        case DP_DTLS_EVENT_CONNECTED:
            s->connected = true;
            break;
        case DP_DTLS_EVENT_DATA:
            assert_true(event.len <= sizeof s->data);
            memcpy(s->data, event.data, event.len);
            s->data_len = event.len;
            s->data_count++;
            break;
        case DP_DTLS_EVENT_CLOSED:
            s->closed = true;
            break;
        case DP_DTLS_EVENT_FAILED:
            s->failed = true;
            s->error = event.error;
            snprintf(s->message, sizeof s->message, "%s", event.message);
            break;
        }
    }
}

/* Hands bytes to a side as one datagram from the network. */
static inline void pair_inject(pair *p, int to, const uint8_t *data, size_t len)
{
    uint8_t copy[1500];
    assert_true(len <= sizeof copy);
    memcpy(copy, data, len);
    dp_dtls_input(p->side[to].dtls, p->now, copy, len);
    pair_events(p, to);
}

static inline void pair_put(pair *p, int to, const uint8_t *data, size_t len)
{
    if (test_next(&p->random) % 100 < p->loss_percent || p->air_count == FLYING_MAX)
        return;
    flying *f = &p->air[p->air_count++];
    f->to = to;
    f->len = len;
    f->arrival = p->now + DP_MS(10) + (p->jitter > 0 ? test_next(&p->random) % p->jitter : 0);
    memcpy(f->data, data, len);
}

static inline void pair_collect(pair *p)
{
    for (int from = 0; from < 2; from++) {
        uint8_t data[1500];
        size_t len = 0;
        while (dp_dtls_poll_transmit(p->side[from].dtls, data, sizeof data, &len)) {
            p->sent[from]++;
            if (p->tap == NULL || p->tap(p, from, data, &len))
                pair_put(p, !from, data, len);
        }
    }
}

/* The next arrival or timer; false if nothing will ever happen. */
static inline bool pair_step(pair *p)
{
    dp_time next = DP_TIME_NEVER;
    size_t first = FLYING_MAX;
    for (int i = 0; i < 2; i++) {
        dp_time t = dp_dtls_next_timeout(p->side[i].dtls);
        next = t < next ? t : next;
    }
    for (size_t i = 0; i < p->air_count; i++)
        if (p->air[i].arrival <= next && (first == FLYING_MAX || p->air[i].arrival < p->air[first].arrival))
            first = i;
    if (first != FLYING_MAX)
        next = p->air[first].arrival;
    if (next == DP_TIME_NEVER)
        return false;
    p->now = next > p->now ? next : p->now;
    if (first != FLYING_MAX) {
        flying f = p->air[first];
        p->air[first] = p->air[--p->air_count];
        pair_inject(p, f.to, f.data, f.len);
    } else {
        for (int i = 0; i < 2; i++) {
            dp_dtls_handle_timeout(p->side[i].dtls, p->now);
            pair_events(p, i);
        }
    }
    pair_collect(p);
    return true;
}

static inline void pair_start(pair *p)
{
    assert_int_equal(dp_dtls_start(p->side[SERVER].dtls, p->now), DP_OK);
    assert_int_equal(dp_dtls_start(p->side[CLIENT].dtls, p->now), DP_OK);
    pair_collect(p);
}

/* Until both have ended one way or the other, and the air is empty. */
static inline void pair_run(pair *p)
{
    for (int i = 0; i < 5000 && pair_step(p); i++) {
    }
}

static inline void pair_connect(pair *p)
{
    pair_start(p);
    pair_run(p);
    assert_true(p->side[CLIENT].connected);
    assert_true(p->side[SERVER].connected);
}

/* Seals at once and returns the datagram's length. */
static inline size_t pair_seal(pair *p, int from, uint8_t out[1500], const void *data, size_t len)
{
    size_t out_len = 0;
    assert_int_equal(dp_dtls_seal(p->side[from].dtls, out, 1500, &out_len, data, len), DP_OK);
    return out_len;
}

#endif
