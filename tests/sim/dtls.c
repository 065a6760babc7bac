/* dtls COUNT [FIRST]: complete DTLS connections of the seeds FIRST, FIRST + 1, ..., on all processors: handshake, data,
 * end, over a path that loses, delays, reorders and doubles, with a path MTU and one suite of the three; in some runs
 * an end starts late, records are damaged, or an end expects another certificate. Each end has to connect, or to fail
 * with a reason, within the 30 s of a handshake; whatever arrives was sent, once. Every 50th run is made twice, and has
 * to give one trace. How long it took is summed up by loss. */
#include "net.h"
#include "workers.h"

#include <datapeer/dtls.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_ciphersuites.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What RFC 6347 §4.2.4 is worth here: asserted for the runs at 20 % loss. */
#define P99_AT_20_PERCENT DP_SECONDS(2)

#define HANDSHAKE_LIMIT DP_SECONDS(30) /* the default of dp_dtls_config */
#define LATE_MAX        DP_SECONDS(20) /* a duplicate comes up to so much later */
#define TALK_EVERY      DP_MS(50)
#define MESSAGES_MAX    200
#define MESSAGES_ENOUGH 3 /* received each way */
#define MESSAGE_HEADER  2
#define FAR_DATAGRAMS   40 /* of both, at 600 ms there and back; 5 or 7 would do if nobody were impatient */
/* Runs of a kind, to say something about its share of failures, its 99th percentile. */
#define ENOUGH_FOR_SHARE 150
#define ENOUGH_FOR_P99   1000

enum { CLIENT, SERVER, STRANGER };

static const char *const names[] = {"client", "server"};
static dp_certificate *certificates[3];

/* ---- what a seed means ------------------------------------------------------------------------------------ */

typedef enum kind {
    LOSS_0, /* per direction; these five differ in nothing else */
    LOSS_10,
    LOSS_20,
    LOSS_30,
    LOSS_40,
    LOSS_MIXED, /* 0 to 40 %, each direction its own */
    FAR,        /* 300 ms one way, nothing lost, reordered or doubled: what the timers send too often */
    LATE_START, /* one end begins up to 8 s later */
    DAMAGED,    /* records cut or with a bit flipped */
    DECEIVED,   /* an end expects the certificate of somebody else */
    KINDS,
} kind;

static const char *const kind_names[] = {"loss 0 %",  "loss 10 %",    "loss 20 %",     "loss 30 %",
                                         "loss 40 %", "loss 0..40 %", "300 ms of way", "late start",
                                         "damaged",   "deceived"};
static const unsigned shares[KINDS] = {10, 10, 24, 10, 10, 10, 4, 8, 10, 4}; /* of 100 */
/* Per mille of a kind's runs that have to connect: where nearly half is lost, a handshake may run out of time. */
static const unsigned required[KINDS] = {1000, 1000, 1000, 990, 980, 990, 1000, 980, 950, 0};

typedef struct scene {
    uint64_t seed;
    kind kind;
    unsigned loss[2]; /* per cent, of what that end sends */
    sim_link link;    /* both ways, without loss */
    unsigned late;    /* per mille that come once more, up to LATE_MAX later */
    unsigned damage;  /* per mille */
    size_t mtu;
    int suite;
    dp_duration start[2];
    bool deceived[2];
    dp_duration linger; /* between the data and the end */
    unsigned closer;
} scene;

static kind draw_kind(uint64_t *seed)
{
    unsigned at = sim_below(seed, 100);
    unsigned k = 0;
    for (; at >= shares[k]; k++)
        at -= shares[k];
    return (kind)k;
}

static void draw(scene *s, uint64_t seed)
{
    static const int suites[] = {MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                                 MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                                 MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256};
    uint64_t r = seed;
    memset(s, 0, sizeof *s);
    s->seed = seed;
    s->kind = draw_kind(&r);
    s->mtu = 508 + sim_below(&r, 1400 - 508 + 1);
    s->suite = suites[sim_below(&r, 3)];
    s->linger = sim_below(&r, 2) > 0 ? DP_MS(1) * sim_below(&r, 25000) : 0;
    s->closer = sim_below(&r, 2);
    s->start[sim_below(&r, 2)] = sim_below(&r, 2) > 0 ? DP_MS(1) * sim_below(&r, 300) : 0;
    s->link = (sim_link){.delay = DP_MS(1) + DP_MS(1) * sim_below(&r, 75),
                         .jitter = DP_MS(1) * sim_below(&r, 30),
                         .mtu = s->mtu,
                         .duplicate = sim_below(&r, 100),
                         .reorder = sim_below(&r, 200),
                         .reorder_delay = DP_MS(1) * sim_below(&r, 40)};
    s->late = sim_below(&r, 100);
    for (unsigned way = 0; way < 2; way++)
        s->loss[way] = s->kind <= LOSS_40 ? 10 * s->kind : sim_below(&r, 41);
    if (s->kind == FAR) {
        s->link = (sim_link){.delay = DP_MS(300), .mtu = s->mtu};
        s->loss[0] = s->loss[1] = s->late = 0;
    }
    if (s->kind == LATE_START)
        s->start[sim_below(&r, 2)] += DP_MS(1) * sim_below(&r, 8000);
    if (s->kind == DAMAGED)
        s->damage = 1 + sim_below(&r, 100);
    if (s->kind == DECEIVED) {
        unsigned who = 1 + sim_below(&r, 3);
        s->deceived[CLIENT] = (who & 1) != 0;
        s->deceived[SERVER] = (who & 2) != 0;
    }
}

static void print_scene(const scene *s)
{
    printf("seed %llu, %s: loss %u and %u %%, delay %llu + %llu ms, %u per mille doubled, %u late, %u "
           "reordered by "
           "%llu ms, %u damaged,\n  MTU %zu, suite %04x, client starts at %llu ms, server at %llu ms%s%s\n",
           (unsigned long long)s->seed, kind_names[s->kind], s->loss[0], s->loss[1],
           (unsigned long long)s->link.delay / 1000, (unsigned long long)s->link.jitter / 1000,
           s->link.duplicate, s->late, s->link.reorder, (unsigned long long)s->link.reorder_delay / 1000,
           s->damage, s->mtu, (unsigned)s->suite, (unsigned long long)s->start[CLIENT] / 1000,
           (unsigned long long)s->start[SERVER] / 1000, s->deceived[CLIENT] ? ", client deceived" : "",
           s->deceived[SERVER] ? ", server deceived" : "");
}

/* The library offers all three suites; a run is made with one (linked with --wrap). */
void __wrap_mbedtls_ssl_conf_ciphersuites(mbedtls_ssl_config *conf, const int *suites);
void __real_mbedtls_ssl_conf_ciphersuites(mbedtls_ssl_config *conf, const int *suites);
static int only_suite[2];
void __wrap_mbedtls_ssl_conf_ciphersuites(mbedtls_ssl_config *conf, const int *suites)
{
    (void)suites;
    __real_mbedtls_ssl_conf_ciphersuites(conf, only_suite);
}

/* ---- an end ------------------------------------------------------------------------------------------------- */

typedef struct end end;
struct end {
    sim_node node;
    const scene *scene;
    unsigned which;
    end *other;
    uint64_t seed;
    uint64_t random; /* of the library */
    sim_port *out;   /* one segment for each direction */
    dp_address own;
    dp_dtls *dtls;
    dp_time connected; /* 0: not */
    dp_time over;      /* CLOSED or FAILED, by the other end's doing or our own; 0: not */
    char message[512]; /* of a failure */
    unsigned datagrams;
    unsigned sent; /* messages */
    unsigned received;
    bool seen[MESSAGES_MAX];
    const char *why; /* the first thing that must not be */
};

static void wrong(end *e, const char *why)
{
    if (e->why == NULL)
        e->why = why;
}

/* A message is known by its number: whoever has the seed can tell what has to be in it. */
static size_t write_message(const scene *s, unsigned from, unsigned number, uint8_t *out)
{
    uint64_t r = s->seed * 2 + from + ((uint64_t)number << 40);
    size_t len = MESSAGE_HEADER + sim_below(&r, (unsigned)s->mtu - DP_DTLS_OVERHEAD - MESSAGE_HEADER);
    sim_random_bytes(&r, out, len);
    out[0] = (uint8_t)(number >> 8);
    out[1] = (uint8_t)number;
    return len;
}

static void check_message(end *e, const uint8_t *data, size_t len)
{
    uint8_t expected[1400];
    unsigned number = len < MESSAGE_HEADER ? MESSAGES_MAX : (unsigned)(data[0] << 8 | data[1]);
    if (e->connected == 0 || e->over != 0)
        wrong(e, "data before the connection or after it");
    if (number >= e->other->sent || write_message(e->scene, !e->which, number, expected) != len ||
        memcmp(expected, data, len) != 0) {
        wrong(e, "data that was not sent");
        return;
    }
    if (e->seen[number])
        wrong(e, "data twice");
    e->seen[number] = true;
    e->received++;
}

static void events(end *e)
{
    dp_dtls_event event;
    while (dp_dtls_poll_event(e->dtls, &event)) {
        if (e->over != 0)
            wrong(e, "an event after the end");
        switch (event.type) {
        case DP_DTLS_EVENT_CONNECTED:
            if (e->connected != 0)
                wrong(e, "connected twice");
            if (e->scene->deceived[e->which])
                wrong(e, "connected with a stranger");
            e->connected = e->node.net->now;
            break;
        case DP_DTLS_EVENT_DATA:
            check_message(e, event.data, event.len);
            break;
        case DP_DTLS_EVENT_CLOSED:
            if (e->other->over == 0)
                wrong(e, "closed, though nobody did");
            e->over = e->node.net->now;
            break;
        case DP_DTLS_EVENT_FAILED:
            if (event.error >= 0 || event.message == NULL || event.message[0] == '\0')
                wrong(e, "failed without a reason");
            if (e->connected != 0)
                wrong(e, "failed after it was connected");
            snprintf(e->message, sizeof e->message, "%s", event.message != NULL ? event.message : "");
            e->over = e->node.net->now;
            break;
        }
    }
}

static void put(end *e, const uint8_t *data, size_t len)
{
    sim_datagram d = {.from = e->own, .to = e->other->own, .len = len, .data = data};
    sim_send(e->out, &d);
}

static void put_late(sim_net *net, sim_event *event)
{
    (void)net;
    put(event->ctx, event->data, event->len);
}

static bool chance(end *e, unsigned per_mille) { return sim_below(&e->seed, 1000) < per_mille; }

static void drain(end *e)
{
    uint8_t data[1500];
    size_t len = 0;
    events(e);
    while (dp_dtls_poll_transmit(e->dtls, data, sizeof data, &len)) {
        e->datagrams++;
        if (len == 0 || len > e->scene->mtu)
            wrong(e, "a datagram over the MTU");
        if (chance(e, e->scene->late))
            sim_after(e->node.net, sim_random(&e->seed) % LATE_MAX, put_late, e, 0, data, len);
        if (chance(e, e->scene->damage)) {
            if (chance(e, 500))
                len = sim_below(&e->seed, (unsigned)len);
            else
                data[sim_below(&e->seed, (unsigned)len)] ^= (uint8_t)(1u << sim_below(&e->seed, 8));
        }
        put(e, data, len);
    }
}

static void receive(sim_node *node, sim_port *port, const sim_datagram *d)
{
    end *e = (end *)node;
    (void)port;
    uint8_t copy[1500]; /* records are opened in place */
    memcpy(copy, d->data, d->len);
    dp_dtls_input(e->dtls, node->net->now, copy, d->len);
    drain(e);
}

static dp_time next_timeout(sim_node *node) { return dp_dtls_next_timeout(((end *)node)->dtls); }

static void handle_timeout(sim_node *node)
{
    dp_dtls_handle_timeout(((end *)node)->dtls, node->net->now);
    drain((end *)node);
}

static void clear(sim_node *node)
{
    dp_dtls_free(((end *)node)->dtls);
    free(node);
}

static void start(sim_net *net, sim_event *event)
{
    end *e = event->ctx;
    if (dp_dtls_start(e->dtls, net->now) != DP_OK)
        wrong(e, "does not start");
    drain(e);
}

static void log_line(void *ctx, dp_log_level level, const char *layer, const char *message)
{
    const end *e = ctx;
    (void)level;
    fprintf(stderr, "%10.6f %-7s %s: %s\n", (double)(e->node.net->now - DP_SECONDS(1000)) / 1e6, e->node.name,
            layer, message);
}

/* ---- a run -------------------------------------------------------------------------------------------------- */

typedef struct world {
    scene scene;
    sim_net net;
    end *ends[2];
} world;

typedef struct result {
    sim_result head;
    bool connected; /* both */
    uint8_t kind;
    uint16_t datagrams; /* of both */
    uint32_t took;      /* microseconds from the later start */
} result;

static void add_end(world *w, unsigned which)
{
    end *e = w->ends[which] = sim_alloc(sizeof *e);
    e->node = (sim_node){.name = names[which],
                         .receive = receive,
                         .next_timeout = next_timeout,
                         .handle_timeout = handle_timeout,
                         .clear = clear};
    sim_node_add(&w->net, &e->node);
    e->scene = &w->scene;
    e->which = which;
    e->seed = w->scene.seed * 4 + which;
    e->random = w->scene.seed * 4 + 2 + which;
    e->own = sim_address(which == CLIENT ? "192.0.2.1" : "192.0.2.2", 5000);
    dp_dtls_config config = {.size = sizeof config,
                             .random = {sim_random_bytes, &e->random},
                             .role = which == CLIENT ? DP_DTLS_CLIENT : DP_DTLS_SERVER,
                             .certificate = certificates[which],
                             .mtu = w->scene.mtu};
    if (getenv("SIM_LOG") != NULL)
        config.log = (dp_log){log_line, e, DP_LOG_DEBUG};
    dp_fingerprint fingerprint;
    dp_certificate_fingerprint(certificates[w->scene.deceived[which] ? STRANGER : !which], &fingerprint);
    if (dp_dtls_new(&e->dtls, &config) != DP_OK ||
        dp_dtls_set_remote_fingerprints(e->dtls, &fingerprint, 1) != DP_OK)
        abort();
    sim_after(&w->net, w->scene.start[which], start, e, 0, NULL, 0);
}

static void world_init(world *w, uint64_t seed)
{
    draw(&w->scene, seed);
    sim_net_init(&w->net, seed);
    only_suite[0] = w->scene.suite;
    add_end(w, CLIENT);
    add_end(w, SERVER);
    for (unsigned from = 0; from < 2; from++) {
        sim_segment *way = sim_segment_new(&w->net);
        sim_link perfect = {0};
        sim_link link = w->scene.link;
        link.loss = 10 * w->scene.loss[from];
        w->ends[from]->other = w->ends[!from];
        w->ends[from]->out = sim_attach(&w->ends[from]->node, way, &perfect);
        sim_claim(sim_attach(&w->ends[!from]->node, way, &link), &w->ends[!from]->own);
    }
}

static bool settled(const end *e) { return e->connected != 0 || e->over != 0; }

/* A handshake's end. */
static void shake_hands(world *w)
{
    dp_time limit[2];
    for (unsigned i = 0; i < 2; i++)
        limit[i] = w->net.now + w->scene.start[i] + HANDSHAKE_LIMIT;
    while (!(settled(w->ends[0]) && settled(w->ends[1])) && sim_step(&w->net, DP_TIME_NEVER - 1)) {
        for (unsigned i = 0; i < 2; i++) {
            if (!settled(w->ends[i]) && w->net.now > limit[i])
                wrong(w->ends[i], "neither connected nor failed in time");
        }
        if (w->net.steps_at_now > 1000)
            wrong(w->ends[0], "a busy loop");
        if (w->ends[0]->why != NULL || w->ends[1]->why != NULL)
            return;
    }
    for (unsigned i = 0; i < 2; i++) {
        if (!settled(w->ends[i]))
            wrong(w->ends[i], "neither connected nor failed, and no timer");
    }
    /* The server's last flight leaves when it is connected: only that may be lost for good. */
    if (w->ends[CLIENT]->connected != 0 && w->ends[SERVER]->connected == 0)
        wrong(w->ends[CLIENT], "connected without the server");
}

static void compare_keys(world *w)
{
    dp_srtp_keys a;
    dp_srtp_keys b;
    if (dp_dtls_srtp_keys(w->ends[0]->dtls, &a) != DP_OK ||
        dp_dtls_srtp_keys(w->ends[1]->dtls, &b) != DP_OK ||
        memcmp(a.local_key, b.remote_key, sizeof a.local_key) != 0 ||
        memcmp(a.remote_key, b.local_key, sizeof a.local_key) != 0 ||
        memcmp(a.local_salt, b.remote_salt, sizeof a.local_salt) != 0)
        wrong(w->ends[0], "the keys differ");
}

static void send_message(end *e)
{
    uint8_t message[1400];
    uint8_t sealed[1500];
    size_t len = write_message(e->scene, e->which, e->sent, message);
    if (dp_dtls_seal(e->dtls, sealed, e->scene->mtu, &len, message, len) != DP_OK) {
        wrong(e, "does not seal");
        return;
    }
    e->sent++;
    if (chance(e, e->scene->late))
        sim_after(e->node.net, sim_random(&e->seed) % LATE_MAX, put_late, e, 0, sealed, len);
    if (chance(e, e->scene->damage))
        sealed[sim_below(&e->seed, (unsigned)len)] ^= (uint8_t)(1u << sim_below(&e->seed, 8));
    put(e, sealed, len);
}

/* Messages both ways until enough have arrived. */
static void talk(world *w)
{
    while (w->ends[0]->received < MESSAGES_ENOUGH || w->ends[1]->received < MESSAGES_ENOUGH) {
        if (w->ends[0]->sent == MESSAGES_MAX) {
            wrong(w->ends[0], "data does not arrive");
            return;
        }
        send_message(w->ends[0]);
        send_message(w->ends[1]);
        sim_run(&w->net, TALK_EVERY);
    }
    sim_run(&w->net, w->scene.linger);
}

static void close_end(end *e)
{
    if (e->over == 0)
        e->over = e->node.net->now;
    dp_dtls_close(e->dtls, e->node.net->now);
    drain(e);
}

static void hang_up(world *w)
{
    unsigned sent[2];
    close_end(w->ends[w->scene.closer]);
    sim_run(&w->net, DP_SECONDS(1));
    close_end(w->ends[!w->scene.closer]);
    sent[0] = w->ends[0]->datagrams;
    sent[1] = w->ends[1]->datagrams;
    sim_run(&w->net, LATE_MAX + DP_SECONDS(1)); /* whatever is still on its way meets two closed ends */
    for (unsigned i = 0; i < 2; i++) {
        if (w->ends[i]->datagrams != sent[i])
            wrong(w->ends[i], "sends after the end");
        if (dp_dtls_next_timeout(w->ends[i]->dtls) != DP_TIME_NEVER)
            wrong(w->ends[i], "a timer after the end");
    }
}

static void tell_run(const world *w, const result *out)
{
    print_scene(&w->scene);
    for (unsigned i = 0; i < 2; i++)
        printf("  %s: %s%s, %u datagrams, %u messages sent, %u received\n", names[i],
               w->ends[i]->connected != 0 ? "connected" : "", w->ends[i]->message, w->ends[i]->datagrams,
               w->ends[i]->sent, w->ends[i]->received);
    printf("  connected after %.3f s\n", (double)out->took / 1e6);
}

static void run(void *into, uint64_t seed, bool tell)
{
    world w;
    result *out = into;
    world_init(&w, seed);
    shake_hands(&w);
    *out = (result){.kind = (uint8_t)w.scene.kind};
    out->connected = w.ends[0]->connected != 0 && w.ends[1]->connected != 0;
    out->datagrams = (uint16_t)(w.ends[0]->datagrams + w.ends[1]->datagrams);
    if (out->connected) {
        dp_duration later = w.scene.start[w.scene.start[1] > w.scene.start[0]];
        out->took = (uint32_t)(w.net.now - DP_SECONDS(1000) - later);
        compare_keys(&w);
        if (w.scene.kind == FAR && out->datagrams > FAR_DATAGRAMS)
            wrong(w.ends[0], "too many datagrams: the ends answer each other's repetitions");
        talk(&w);
    }
    if (w.ends[0]->why == NULL && w.ends[1]->why == NULL) /* a busy loop would go on there */
        hang_up(&w);
    out->head.trace = w.net.trace;
    out->head.why = w.ends[0]->why != NULL ? w.ends[0]->why : w.ends[1]->why;
    if (tell)
        tell_run(&w, out);
    sim_net_clear(&w.net);
}

/* ---- all of them -------------------------------------------------------------------------------------------- */

static void clear_certificates(void)
{
    for (unsigned i = 0; i < 3; i++)
        dp_certificate_free(certificates[i]);
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Prints the table's row of a kind; false if too few connected, or too late. */
static bool sum_up(const result *results, uint64_t count, kind k, uint32_t *times)
{
    uint64_t runs = 0;
    uint64_t connected = 0;
    uint64_t datagrams = 0;
    unsigned most = 0;
    for (uint64_t i = 0; i < count; i++) {
        const result *r = &results[i];
        runs += r->head.done && r->kind == k;
        if (!r->connected || r->kind != k)
            continue;
        times[connected++] = r->took;
        datagrams += r->datagrams;
        most = r->datagrams > most ? r->datagrams : most;
    }
    printf("%-14s %8llu %9llu", kind_names[k], (unsigned long long)runs, (unsigned long long)connected);
    if (connected == 0) {
        printf("\n");
        return runs < ENOUGH_FOR_SHARE || required[k] == 0;
    }
    qsort(times, connected, sizeof *times, compare);
    uint32_t p99 = times[connected * 99 / 100];
    printf(" %8.3f %8.3f %8.3f %8.3f %9.1f %5u\n", times[connected / 2] / 1e6,
           times[connected * 9 / 10] / 1e6, p99 / 1e6, times[connected - 1] / 1e6,
           (double)datagrams / (double)connected, most);
    bool slow = k == LOSS_20 && runs >= ENOUGH_FOR_P99 && p99 >= P99_AT_20_PERCENT;
    return !slow && (runs < ENOUGH_FOR_SHARE || connected * 1000 >= runs * required[k]);
}

int main(int argc, char **argv)
{
    sim_work work = {.program = argv[0],
                     .count = argc > 1 ? strtoull(argv[1], NULL, 10) : 5000,
                     .first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1,
                     .result_size = sizeof(result),
                     .run = run,
                     .clear = clear_certificates};
    uint64_t seed = 1;
    dp_random random = {sim_random_bytes, &seed};
    for (unsigned i = 0; i < 3; i++) {
        if (dp_certificate_generate(&certificates[i], &random, SIM_EPOCH) != DP_OK)
            return EXIT_FAILURE;
    }
    void *results;
    unsigned failures = sim_work_all(&work, &results);
    uint32_t *times = sim_alloc((work.count + 1) * sizeof *times);
    printf("%-14s %8s %9s %8s %8s %8s %8s %9s %5s\n", "", "runs", "connected", "median s", "p90", "p99",
           "longest", "datagrams", "most");
    for (unsigned k = 0; k < KINDS; k++) {
        if (sum_up(results, work.count, (kind)k, times))
            continue;
        fprintf(stderr, "%s: too few connected, or too late\n", kind_names[k]);
        failures++;
    }
    free(times);
    clear_certificates();
    return failures > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
