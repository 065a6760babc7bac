/* Partial reliability between two of our ends, usrsctp's sender against forward.c, while packets are lost, repeated and
 * out of order: what arrives was sent, whole and once; reliable channels beside lose nothing. */
#include "pair.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the headers above */
#include <cmocka.h>

#define KINDS    6
#define BIG      262144u
#define MESSAGES 4096

static const struct {
    bool ordered;
    int32_t retransmits, lifetime;
} kinds[KINDS] = {{true, -1, -1}, {false, -1, -1}, {true, 0, -1},
                  {false, 0, -1}, {true, -1, 60},  {false, 2, -1}};

typedef struct direction {
    dp_channel *channel[KINDS];
    bool open[KINDS];
    uint32_t sent[KINDS], arrived[KINDS], next[KINDS];
    uint32_t lens[KINDS][MESSAGES];
    uint8_t seen[KINDS][MESSAGES];
} direction;

static direction ways[2]; /* by the end that sends */
static int down, timeouts, errors;

static uint8_t content(size_t kind, uint32_t number, size_t i)
{
    return (uint8_t)(kind * 59 + number * 31 + i * 7 + (i >> 8));
}

static bool reliable(size_t kind) { return kinds[kind].retransmits < 0 && kinds[kind].lifetime < 0; }

/* The first 5 bytes tell kind and number, shorter messages do not exist. */
static void arrived(int from, const uint8_t *data, size_t len)
{
    direction *way = &ways[from];
    assert_true(len >= 5 && data[0] < KINDS);
    size_t kind = data[0];
    uint32_t number = (uint32_t)data[1] << 24 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 8 | data[4];
    assert_true(number < way->sent[kind]);
    assert_int_equal(len, way->lens[kind][number]);
    assert_int_equal(way->seen[kind][number]++, 0);
    for (size_t i = 5; i < len; i++)
        if (data[i] != content(kind, number, i))
            fail_msg("kind %zu, message %u of %zu bytes is wrong at %zu", kind, number, len, i);
    if (kinds[kind].ordered) {
        assert_true(number >= way->next[kind]);
        way->next[kind] = number + 1;
    }
    way->arrived[kind]++;
}

static void on_event(pair *p, int end, const dp_sctp_event *event)
{
    (void)p;
    if (event->type == DP_SCTP_EVENT_MESSAGE) {
        arrived(1 - end, event->data, event->len);
    } else if (event->type == DP_SCTP_EVENT_CHANNEL_OPEN) {
        for (size_t i = 0; i < KINDS; i++)
            ways[end].open[i] |= ways[end].channel[i] == event->channel;
    }
    errors += event->type == DP_SCTP_EVENT_CHANNEL_ERROR;
    if (event->type == DP_SCTP_EVENT_CLOSED) {
        down++;
        timeouts += event->error == DP_ERR_TIMEOUT;
    }
}

static void send_one(int end, size_t kind, uint32_t len)
{
    static uint8_t data[BIG];
    direction *way = &ways[end];
    uint32_t number = way->sent[kind];
    if (!way->open[kind] || number == MESSAGES)
        return;
    uint8_t head[5] = {(uint8_t)kind, 0, 0, (uint8_t)(number >> 8), (uint8_t)number};
    memcpy(data, head, 5);
    for (size_t i = 5; i < len; i++)
        data[i] = content(kind, number, i);
    way->lens[kind][number] = len;
    way->sent[kind]++;
    if (dp_channel_send(way->channel[kind], virtual_now, data, len, true, false) != DP_OK)
        way->sent[kind]--;
}

static bool all_reliable_arrived(pair *p)
{
    (void)p;
    if (down != 0)
        return true;
    for (int end = 0; end < 2; end++)
        for (size_t kind = 0; kind < KINDS; kind++)
            if (reliable(kind) && ways[end].arrived[kind] != ways[end].sent[kind])
                return false;
    return true;
}

/* False: ten retransmissions in a row were lost, or their SACKs, and the association timed out. */
static bool run(uint64_t seed, unsigned loss, uint32_t *sent, uint32_t *lost)
{
    pair p;
    memset(ways, 0, sizeof ways);
    down = timeouts = errors = 0;
    pair_init(&p, seed);
    p.on_event = on_event;
    for (int end = 0; end < 2; end++)
        for (size_t kind = 0; kind < KINDS; kind++) {
            dp_channel_init init = DP_CHANNEL_INIT("x");
            init.ordered = kinds[kind].ordered;
            init.max_retransmits = kinds[kind].retransmits;
            init.max_packet_lifetime = kinds[kind].lifetime;
            assert_int_equal(dp_sctp_open_channel(p.end[end], &ways[end].channel[kind], virtual_now, &init),
                             DP_OK);
        }
    pair_start(&p);
    pair_run(&p, DP_SECONDS(1));
    p.loss = loss;
    p.duplicate = seed % 3 == 0 ? 5 : 0;
    p.reorder = seed % 2 == 0 ? 20 : 0;
    for (int i = 0; i < 400 && down == 0; i++) {
        static const uint32_t sizes[] = {5, 100, 1131, 1132, 1200, 5000, 20000, 65536};
        send_one((int)(pair_random(&p) % 2), pair_random(&p) % KINDS,
                 pair_random(&p) % 100 == 0 ? BIG : sizes[pair_random(&p) % 8]);
        if (i % 4 == 0)
            pair_run(&p, DP_MS(pair_random(&p) % 20));
    }
    bool arrived_all = pair_run_until(&p, all_reliable_arrived, DP_SECONDS(3600));
    if (timeouts > 0 && loss >= 20) {
        pair_clear(&p);
        return false;
    }
    if (!arrived_all || down != 0 || errors != 0)
        fail_msg("seed %llu, %u %% loss: %s", (unsigned long long)seed, loss, down != 0 ? "ended" : "stuck");
    /* Nothing is left behind that would hold up what comes after it. */
    p.loss = p.duplicate = p.reorder = 0;
    pair_run(&p, DP_SECONDS(60));
    for (int end = 0; end < 2; end++)
        for (size_t kind = 0; kind < KINDS; kind++) {
            *sent += ways[end].sent[kind];
            *lost += ways[end].sent[kind] - ways[end].arrived[kind];
            uint32_t before = ways[end].arrived[kind];
            uint32_t number = ways[end].sent[kind];
            send_one(end, kind, 5);
            pair_run(&p, DP_SECONDS(5));
            if (ways[end].sent[kind] != number + 1 || ways[end].arrived[kind] != before + 1)
                fail_msg("seed %llu, %u %% loss: kind %zu is stuck", (unsigned long long)seed, loss, kind);
        }
    assert_int_equal(down + errors, 0);
    pair_clear(&p);
    return true;
}

static void test_loss(void **state)
{
    (void)state;
    static const unsigned losses[] = {0, 1, 5, 10, 20, 30};
    for (size_t i = 0; i < sizeof losses / sizeof losses[0]; i++) {
        uint32_t sent = 0, lost = 0;
        int runs = 0;
        for (uint64_t seed = 1; seed <= 4; seed++)
            runs += run(seed + 100 * i, losses[i], &sent, &lost);
        print_message("%2u %% loss: %u of %u messages given up\n", losses[i], lost, sent);
        assert_true(runs > 0);
        assert_true(losses[i] < 5 || lost > 0);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss),
    };
    return PAIR_RUN_BOTH_WAYS(tests);
}
