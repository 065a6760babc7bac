/* SCTP over a long pipe, in virtual time: two of our ends, a link with a rate, a delay, a drop-tail queue and random loss.
 * One channel moves 64 KiB messages as fast as it may, another sends 64 bytes, one message at a time, and gets them back. Prints what
 * part of the link's rate is payload, and the round trip of the small ones.
 *
 * sctp_pipe [Mbit/s] [round trip in ms] [loss in %] [queue in units of rate * round trip] [seconds] [first seed] [seeds];
 * without arguments, a table. With several seeds: how the part of the rate is spread over their runs, and which seed had the
 * least; the seconds then count from the open channel. Runs alike every time. */
#include <datapeer/sctp.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#define MESSAGE  65536u
#define OVERHEAD 65u /* of a packet: IPv4 20, UDP 8, DTLS 1.2 with AES-GCM 37 */
#define PINGS    4096
#define SLOTS    16384
#define SEEDS    10000

static dp_time clock_us = 1000000;

/* usrsctp's clock. Visible, or libusrsctp does not find it. */
__attribute__((visibility("default"))) int gettimeofday(struct timeval *restrict tv, void *restrict zone);
int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    (void)zone;
    tv->tv_sec = (time_t)(1700000000 + clock_us / 1000000);
    tv->tv_usec = (suseconds_t)(clock_us % 1000000);
    return 0;
}

typedef struct packet {
    dp_time due;
    size_t len;
    uint8_t *data;
} packet;

/* One direction. */
typedef struct pipe_way {
    packet packets[SLOTS]; /* under way, in order */
    size_t head, count;
    dp_time free_at; /* the last packet has left the queue */
    uint64_t sent, lost, dropped;
} pipe_way;

typedef struct world {
    double rate; /* bytes per us */
    dp_duration delay;
    double loss, queue_us;
    uint64_t seed;
    pipe_way ways[2];
    dp_sctp *end[2];
    dp_channel *bulk, *ping;
    bool bulk_open, ping_open, ping_under_way;
    uint64_t received;
    double pings[PINGS]; /* ms */
    size_t ping_count;
    double most_queued_us;
} world;

static double random_unit(world *w)
{
    w->seed = w->seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(w->seed >> 11) / 9007199254740992.0;
}

static int random_fn(void *ctx, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)(random_unit((world *)ctx) * 256);
    return DP_OK;
}

static void transmit(world *w, int from)
{
    pipe_way *way = &w->ways[from];
    const uint8_t *data;
    size_t len;
    while (dp_sctp_poll_transmit(w->end[from], &data, &len)) {
        dp_time start = way->free_at > clock_us ? way->free_at : clock_us;
        double queued = (double)(start - clock_us);
        way->sent++;
        if (queued > w->most_queued_us)
            w->most_queued_us = queued;
        if (queued > w->queue_us || way->count == SLOTS) {
            way->dropped++;
            continue;
        }
        way->free_at = start + (dp_time)((double)(len + OVERHEAD) / w->rate);
        if (random_unit(w) < w->loss) {
            way->lost++;
            continue;
        }
        packet *p = &way->packets[(way->head + way->count++) % SLOTS];
        p->due = way->free_at + w->delay;
        p->len = len;
        p->data = (uint8_t *)malloc(len);
        if (p->data == NULL)
            abort();
        memcpy(p->data, data, len);
    }
}

static void events(world *w, int end)
{
    dp_sctp_event event;
    while (dp_sctp_poll_event(w->end[end], &event)) {
        if (event.type == DP_SCTP_EVENT_CLOSED)
            abort();
        if (event.type == DP_SCTP_EVENT_CHANNEL_OPEN && end == 0) {
            w->bulk_open |= event.channel == w->bulk;
            w->ping_open |= event.channel == w->ping;
        }
        if (event.type != DP_SCTP_EVENT_MESSAGE)
            continue;
        if (event.len == MESSAGE) {
            w->received += event.len;
        } else if (end == 1) {
            uint8_t copy[64];
            memcpy(copy, event.data, sizeof copy);
            (void)dp_channel_send(event.channel, clock_us, copy, sizeof copy, true, false);
        } else if (w->ping_count < PINGS) {
            dp_time sent_at;
            memcpy(&sent_at, event.data, sizeof sent_at);
            w->ping_under_way = false;
            w->pings[w->ping_count++] = (double)(clock_us - sent_at) / 1000;
        }
    }
}

static void fill(world *w)
{
    static uint8_t message[MESSAGE];
    while (w->bulk_open && dp_channel_buffered_amount(w->bulk) < MESSAGE &&
           dp_channel_send(w->bulk, clock_us, message, MESSAGE, true, false) == DP_OK) {
    }
}

static void settle(world *w)
{
    fill(w);
    for (int i = 0; i < 2; i++) {
        events(w, i);
        transmit(w, i);
    }
}

/* Jumps to the next thing that happens. */
static void step(world *w, dp_time until)
{
    dp_time next = until;
    for (int i = 0; i < 2; i++) {
        if (w->ways[i].count > 0 && w->ways[i].packets[w->ways[i].head].due < next)
            next = w->ways[i].packets[w->ways[i].head].due;
        if (dp_sctp_next_timeout(w->end[i]) < next)
            next = dp_sctp_next_timeout(w->end[i]);
    }
    if (next > clock_us)
        clock_us = next;
    for (int i = 0; i < 2; i++) {
        pipe_way *way = &w->ways[i];
        while (way->count > 0 && way->packets[way->head].due <= clock_us) {
            packet *p = &way->packets[way->head];
            dp_sctp_input(w->end[1 - i], clock_us, p->data, p->len);
            free(p->data);
            way->head = (way->head + 1) % SLOTS;
            way->count--;
            settle(w);
        }
        if (dp_sctp_next_timeout(w->end[i]) <= clock_us)
            dp_sctp_handle_timeout(w->end[i], clock_us);
    }
    settle(w);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *values, size_t count, double q)
{
    if (count == 0)
        return NAN;
    qsort(values, count, sizeof *values, compare);
    return values[(size_t)((double)(count - 1) * q)];
}

typedef struct link_config {
    double mbit, rtt_ms, loss, queue, seconds;
} link_config;

static world w;

static void start(const link_config *c, uint64_t seed)
{
    memset(&w, 0, sizeof w);
    w.rate = c->mbit / 8;
    w.delay = (dp_duration)(c->rtt_ms * 500);
    w.loss = c->loss / 100;
    w.queue_us = c->rtt_ms * 1000 * c->queue;
    w.seed = seed;
    dp_sctp_config config = {.size = sizeof config, .random = {random_fn, &w}};
    dp_channel_init init = DP_CHANNEL_INIT("pipe");
    for (int i = 0; i < 2; i++)
        if (dp_sctp_new(&w.end[i], &config) != DP_OK)
            abort();
    if (dp_sctp_open_channel(w.end[0], &w.bulk, clock_us, &init) != DP_OK ||
        dp_sctp_open_channel(w.end[0], &w.ping, clock_us, &init) != DP_OK)
        abort();
    for (int i = 0; i < 2; i++)
        if (dp_sctp_start(w.end[i], clock_us, i == 0, 5000, 0) != DP_OK)
            abort();
}

static void transfer(dp_time end)
{
    for (dp_time next_ping = clock_us; clock_us < end;) {
        if (clock_us >= next_ping) {
            uint8_t message[64] = {0};
            memcpy(message, &clock_us, sizeof clock_us);
            if (w.ping_open && !w.ping_under_way)
                w.ping_under_way =
                    dp_channel_send(w.ping, clock_us, message, sizeof message, true, false) == DP_OK;
            next_ping += DP_MS(50);
        }
        step(&w, next_ping < end ? next_ping : end);
    }
}

static void finish(void)
{
    for (int i = 0; i < 2; i++) {
        dp_sctp_free(w.end[i]);
        for (; w.ways[i].count > 0; w.ways[i].count--, w.ways[i].head = (w.ways[i].head + 1) % SLOTS)
            free(w.ways[i].packets[w.ways[i].head].data);
    }
    clock_us += DP_SECONDS(60);
}

static double part_of(const link_config *c) { return (double)w.received / 1e6 / c->seconds / (c->mbit / 8); }

static void run(const link_config *c)
{
    start(c, 1);
    transfer(clock_us + (dp_time)(c->seconds * 1e6));
    printf("{\"mbit\": %g, \"rtt_ms\": %g, \"loss_percent\": %g, \"queue_bdp\": %g, \"seconds\": %g, "
           "\"fraction\": %.3f, "
           "\"packets\": %llu, \"lost\": %llu, \"queue_drops\": %llu, \"queue_most_ms\": %.0f, "
           "\"ping_p50_ms\": %.0f, \"ping_p99_ms\": %.0f}\n",
           c->mbit, c->rtt_ms, c->loss, c->queue, c->seconds, part_of(c), (unsigned long long)w.ways[0].sent,
           (unsigned long long)w.ways[0].lost, (unsigned long long)w.ways[0].dropped, w.most_queued_us / 1000,
           quantile(w.pings, w.ping_count, 0.5), quantile(w.pings, w.ping_count, 0.99));
    fflush(stdout);
    finish();
}

/* Loss begins with the transfer: a handshake that loses a packet waits for half a second and more. */
static void run_seeds(const link_config *c, uint64_t first, size_t count)
{
    static double parts[SEEDS];
    uint64_t worst = first;
    double least = 2;
    for (size_t i = 0; i < count; i++) {
        start(c, first + i);
        w.loss = 0;
        while (!w.bulk_open || !w.ping_open)
            transfer(clock_us + DP_MS(1));
        w.loss = c->loss / 100;
        w.received = 0;
        transfer(clock_us + (dp_time)(c->seconds * 1e6));
        parts[i] = part_of(c);
        worst = parts[i] < least ? first + i : worst;
        least = parts[i] < least ? parts[i] : least;
        finish();
    }
    printf("{\"mbit\": %g, \"rtt_ms\": %g, \"loss_percent\": %g, \"queue_bdp\": %g, \"seconds\": %g, "
           "\"seeds\": %zu, \"least\": %.3f, \"p1\": %.3f, \"p10\": %.3f, \"p50\": %.3f, \"worst_seed\": "
           "%llu}\n",
           c->mbit, c->rtt_ms, c->loss, c->queue, c->seconds, count, least, quantile(parts, count, 0.01),
           quantile(parts, count, 0.1), quantile(parts, count, 0.5), (unsigned long long)worst);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        double v[7] = {100, 100, 0, 1, 30, 1, 1};
        for (int i = 1; i < argc && i <= 7; i++)
            v[i - 1] = atof(argv[i]);
        link_config c = {v[0], v[1], v[2], v[3], v[4]};
        if (argc > 6)
            run_seeds(&c, (uint64_t)v[5], v[6] < SEEDS ? (size_t)v[6] : SEEDS);
        else
            run(&c);
        return 0;
    }
    static const double losses[] = {0, 0.1, 1};
    for (size_t i = 0; i < 3; i++)
        run(&(link_config){100, 100, losses[i], 1, 30});
    run(&(link_config){10, 40, 0, 1, 30});
    run(&(link_config){100, 40, 0, 1, 30});
    return 0;
}
