/* lifetimes COUNT [FIRST]: the lives of SCTP associations of the seeds FIRST, FIRST + 1, ..., on all processors: both ends
 * open channels of all kinds, send messages of up to 256 KiB, close and reuse ids, over a path that loses, delays,
 * reorders and doubles; an end may start late or stop reading for a while. In the end all channels are closed, or an end
 * aborts, or the path falls silent. What the ledger says holds; what is reliable arrives, what is closed closes, a silent
 * peer is noticed, each in a bounded time. */
#include "ends.h"
#include "workers.h"

#define CONNECT_LIMIT DP_SECONDS(60)
#define SETTLE_LIMIT  DP_SECONDS(600) /* until all has arrived, at 30 % loss */
#define SILENCE_LIMIT DP_SECONDS(600) /* heartbeats go every 30 s, and 10 of them have to be lost */
/* From here on so many packets in a row are lost now and then that an association gives up. */
#define LOSS_MAY_END 15

typedef enum kind {
    LOSS_0, /* per direction */
    LOSS_5,
    LOSS_10,
    LOSS_20,
    LOSS_30,
    LOSS_MIXED,  /* 0 to 30 %, each direction its own */
    SLOW_READER, /* an end takes no events for a while; no loss */
    LATE_START,
    KINDS,
} kind;

static const char *const kind_names[] = {"loss 0 %",  "loss 5 %",     "loss 10 %",   "loss 20 %",
                                         "loss 30 %", "loss 0..30 %", "slow reader", "late start"};
static const unsigned shares[KINDS] = {20, 15, 15, 10, 10, 15, 8, 7}; /* of 100 */

typedef enum ending {
    SETTLED,   /* all arrives, then one end closes its channels, and the other's are closed by that */
    CLOSING,   /* both close all at once, wherever they are */
    ABORTED,   /* at any time */
    SILENT,    /* the path is cut */
    VANISHING, /* one end is gone while it has nothing to say */
    ENDINGS,
} ending;

static const char *const ending_names[] = {"settled", "closing", "aborted", "silent", "vanishing"};
static const unsigned ending_shares[ENDINGS] = {50, 20, 20, 8, 2};

typedef struct scene {
    kind kind;
    ending ending;
    unsigned loss[2]; /* per cent, of what that end sends */
    sim_link link;
    unsigned late;
    dp_sctp_config config;
    size_t path_mtu; /* see sim_pair */
    bool interleaves[2];
    sim_habits habits;
    dp_duration start[2];
    unsigned acts[2]; /* how often an end does something */
    dp_duration span; /* in which they do it */
    dp_duration deaf_from, deaf_to;
    unsigned first; /* the end that closes, aborts, vanishes, is deaf */
} scene;

static unsigned draw_share(uint64_t *r, const unsigned *of_100)
{
    unsigned at = sim_below(r, 100);
    unsigned k = 0;
    for (; at >= of_100[k]; k++)
        at -= of_100[k];
    return k;
}

static size_t draw_of(uint64_t *r, const size_t *sizes, unsigned count) { return sizes[sim_below(r, count)]; }

static void draw(scene *s, uint64_t seed)
{
    static const size_t buffers[] = {16384, 65536, 0, 0};
    static const size_t largest[] = {16384, 65536, 0, 0};
    uint64_t r = seed;
    memset(s, 0, sizeof *s);
    s->kind = (kind)draw_share(&r, shares);
    s->ending = (ending)draw_share(&r, ending_shares);
    s->link = (sim_link){.delay = DP_MS(1) + DP_MS(1) * sim_below(&r, 75),
                         .jitter = DP_MS(1) * sim_below(&r, 30),
                         .duplicate = sim_below(&r, 100),
                         .reorder = sim_below(&r, 200),
                         .reorder_delay = DP_MS(1) * sim_below(&r, 40)};
    s->late = sim_below(&r, 50);
    for (unsigned way = 0; way < 2; way++) {
        static const unsigned per_cent[] = {0, 5, 10, 20, 30};
        s->loss[way] = s->kind <= LOSS_30 ? per_cent[s->kind] : s->kind == LOSS_MIXED ? sim_below(&r, 31) : 0;
        s->acts[way] = sim_below(&r, 30);
    }
    s->config.mtu = 600 + sim_below(&r, 800);
    s->config.send_buffer_size = draw_of(&r, buffers, 4);
    s->config.receive_buffer_size = draw_of(&r, buffers, 4);
    s->config.max_message_size = draw_of(&r, largest, 4);
    unsigned worst = s->loss[0] > s->loss[1] ? s->loss[0] : s->loss[1];
    s->habits = (sim_habits){.longest_bits = worst > 10              ? 14
                                             : sim_below(&r, 4) == 0 ? 18
                                                                     : 15,
                             .channels = 1 + sim_below(&r, 12),
                             .in_pairs = sim_below(&r, 2) == 0};
    s->span = DP_MS(100) + DP_MS(1) * sim_below(&r, 3000);
    s->first = sim_below(&r, 2);
    s->start[sim_below(&r, 2)] = DP_MS(1) * sim_below(&r, s->kind == LATE_START ? 5000 : 100);
    if (s->kind == SLOW_READER) {
        s->deaf_from = DP_MS(1) * sim_below(&r, 1000);
        s->deaf_to = s->deaf_from + DP_MS(1) * sim_below(&r, 5000);
    }
    bool may_interleave = getenv("SIM_DATA") == NULL;
    static const size_t paths[] = {0, 0, 1432, 16384};
    s->path_mtu = draw_of(&r, paths, 4);
    for (unsigned end = 0; end < 2; end++)
        s->interleaves[end] = sim_below(&r, 4) != 0 && may_interleave;
}

static void print_scene(const scene *s, uint64_t seed)
{
    printf(
        "seed %llu, %s, %s by %c: loss %u and %u %%, delay %llu + %llu ms, %u per mille doubled, %u late, %u "
        "reordered by %llu ms,\n  MTU %zu to %zu, buffers %zu and %zu, messages up to %zu and 2^%u, %u "
        "channels%s, "
        "%u and "
        "%u acts in %llu ms, A starts at %llu ms, B at %llu ms, A %s, B %s\n",
        (unsigned long long)seed, kind_names[s->kind], ending_names[s->ending], 'A' + (char)s->first,
        s->loss[0], s->loss[1], (unsigned long long)s->link.delay / 1000,
        (unsigned long long)s->link.jitter / 1000, s->link.duplicate, s->late, s->link.reorder,
        (unsigned long long)s->link.reorder_delay / 1000, s->config.mtu, s->path_mtu,
        s->config.send_buffer_size, s->config.receive_buffer_size, s->config.max_message_size,
        s->habits.longest_bits, s->habits.channels, s->habits.in_pairs ? " and negotiated ones" : "",
        s->acts[0], s->acts[1], (unsigned long long)s->span / 1000, (unsigned long long)s->start[0] / 1000,
        (unsigned long long)s->start[1] / 1000, s->interleaves[0] ? "interleaves" : "does not",
        s->interleaves[1] ? "interleaves" : "does not");
}

/* ---- a run -------------------------------------------------------------------------------------------------- */

typedef struct result {
    sim_result head;
    uint8_t kind;
    bool connected; /* both */
    bool lost;      /* it ended for loss */
    uint32_t took;  /* ms of virtual time */
    uint32_t channels, messages;
    uint64_t bytes;
} result;

typedef struct life {
    sim_pair pair;
    scene scene;
    bool over; /* the owners do nothing any more of their own */
} life;

static void on_start(sim_net *net, sim_event *event)
{
    (void)net;
    sim_end_start(event->ctx);
}

static void on_act(sim_net *net, sim_event *event)
{
    const life *l = (const life *)(const void *)net; /* its first member's first member */
    if (!l->over)
        sim_end_act(event->ctx);
}

static void on_deaf(sim_net *net, sim_event *event)
{
    sim_end *e = event->ctx;
    (void)net;
    e->deaf = event->number != 0;
    sim_end_drain(e);
}

static bool ended(const life *l) { return l->pair.ledger.ended[0] || l->pair.ledger.ended[1]; }

static bool broken(life *l)
{
    if (l->pair.net.steps_at_now > 100000)
        ledger_wrong(&l->pair.ledger, "a busy loop");
    return l->pair.ledger.why != NULL;
}

/* Until done. why: what is wrong if it takes longer than limit; NULL: the ledger tells. */
static void run_until(life *l, bool (*done)(const life *l), dp_duration limit, const char *why)
{
    dp_time until = l->pair.net.now + limit;
    while (!broken(l) && !done(l))
        if (!sim_step(&l->pair.net, until)) {
            ledger_wrong(&l->pair.ledger, why != NULL ? why : ledger_busy(&l->pair.ledger));
            return;
        }
}

static bool connected(const life *l)
{
    return (l->pair.ledger.connected[0] && l->pair.ledger.connected[1]) || ended(l);
}

static bool at_rest(const life *l) { return ended(l) || ledger_busy(&l->pair.ledger) == NULL; }

/* A negotiated channel that is refused for want of streams, as where the request for them is lost for 10 s, ends on one
 * side only. */
static bool left_alone(const ledger *d, const ledger_channel *c)
{
    for (const ledger_channel *other = d->channels; other != NULL; other = other->next)
        if (other->end != c->end && other->id == c->id && other->failed && other->channel == NULL)
            return c->negotiated;
    return false;
}

static bool no_channels(const life *l)
{
    for (const ledger_channel *c = l->pair.ledger.channels; c != NULL; c = c->next)
        if (c->channel != NULL && !left_alone(&l->pair.ledger, c))
            return ended(l);
    return true;
}

static bool noticed(const life *l)
{
    return l->pair.ledger.ended[!l->scene.first] &&
           (l->scene.ending == VANISHING || l->pair.ledger.ended[l->scene.first]);
}

static void go_on(life *l, dp_duration span)
{
    dp_time until = l->pair.net.now + span;
    while (!broken(l) && sim_step(&l->pair.net, until)) {
    }
}

static void world_init(life *l, uint64_t seed)
{
    draw(&l->scene, seed);
    scene *s = &l->scene;
    sim_link links[2] = {s->link, s->link};
    for (unsigned i = 0; i < 2; i++)
        links[i].loss = 10 * s->loss[i];
    dp_sctp_config configs[2] = {s->config, s->config};
    for (unsigned end = 0; end < 2; end++)
        configs[end].no_interleaving = !s->interleaves[end];
    sim_pair_init(&l->pair, seed, configs, links);
    l->pair.late = s->late;
    l->pair.path_mtu = s->path_mtu;
    l->pair.habits = s->habits;
    for (unsigned i = 0; i < 2; i++) {
        sim_end *e = l->pair.ends[i];
        sim_after(&l->pair.net, s->start[i], on_start, e, 0, NULL, 0);
        if (sim_below(&l->pair.seed, 2) == 0) /* some channels are there before the association is */
            sim_after(&l->pair.net, 0, on_act, e, 0, NULL, 0);
    }
}

/* What both owners do in their time. */
static void live(life *l)
{
    const scene *s = &l->scene;
    for (unsigned i = 0; i < 2; i++) {
        sim_end *e = l->pair.ends[i];
        e->acts = s->acts[i] / 2;
        for (unsigned n = 0; n < s->acts[i]; n++)
            sim_after(&l->pair.net, sim_random(&l->pair.seed) % s->span, on_act, e, 0, NULL, 0);
    }
    if (s->kind == SLOW_READER) {
        sim_after(&l->pair.net, s->deaf_from, on_deaf, l->pair.ends[s->first], 1, NULL, 0);
        sim_after(&l->pair.net, s->deaf_to, on_deaf, l->pair.ends[s->first], 0, NULL, 0);
    }
    bool whole = s->ending == SETTLED || s->ending == VANISHING;
    go_on(l, whole ? s->span : sim_random(&l->pair.seed) % s->span);
    if (whole && s->kind == SLOW_READER)
        go_on(l, s->deaf_to);
}

static void cut(sim_end *e)
{
    sim_port *port = e->out->segment->ports;
    for (; port != NULL; port = port->next_port) {
        port->link.cut_from = e->node.net->now;
        port->link.cut_to = DP_TIME_NEVER;
    }
}

static void stop_acting(life *l)
{
    l->over = true;
    l->pair.ends[0]->acts = l->pair.ends[1]->acts = 0;
}

static void on_close_all(sim_net *net, sim_event *event)
{
    (void)net;
    sim_end_close_all(event->ctx);
}

static void finish(life *l)
{
    sim_end *first = l->pair.ends[l->scene.first];
    sim_end *second = l->pair.ends[!l->scene.first];
    switch (l->scene.ending) {
    case SETTLED:
        run_until(l, at_rest, SETTLE_LIMIT, NULL);
        stop_acting(l);
        sim_end_close_all(first);
        /* And what comes late: where a channel has ended for want of streams, nobody waits for others to open. */
        sim_after(&l->pair.net, SETTLE_LIMIT / 2, on_close_all, first, 0, NULL, 0);
        run_until(l, no_channels, SETTLE_LIMIT, "a channel does not close");
        sim_end_abort(first);
        break;
    case CLOSING:
        stop_acting(l);
        sim_end_close_all(first);
        sim_end_close_all(second);
        run_until(l, no_channels, SETTLE_LIMIT, "a channel does not close");
        sim_end_abort(first);
        break;
    case ABORTED:
        sim_end_abort(first);
        break;
    case VANISHING:
        run_until(l, at_rest, SETTLE_LIMIT, NULL);
        cut(first);
        cut(second);
        sim_end_abort(first);
        run_until(l, noticed, SILENCE_LIMIT, "a peer that is gone is not noticed");
        break;
    default:
        cut(first);
        cut(second);
        run_until(l, noticed, SILENCE_LIMIT, "silence is not noticed");
        break;
    }
}

/* Whatever is still on its way meets two ends that are freed of their channels, or still have to hear of it. */
static void check_end(life *l)
{
    sim_pair *p = &l->pair;
    uint64_t sent[2] = {p->ends[0]->datagrams, p->ends[1]->datagrams};
    stop_acting(l);
    go_on(l, SIM_LATE_MAX + DP_SECONDS(1));
    for (unsigned i = 0; i < 2; i++) {
        if (!p->ledger.ended[i])
            continue;
        if (dp_sctp_next_timeout(p->ends[i]->sctp) != DP_TIME_NEVER)
            ledger_wrong(&p->ledger, "a timer after the end");
        if (i == l->scene.first && p->ends[i]->datagrams != sent[i])
            ledger_wrong(&p->ledger, "sends after the end");
    }
}

/* An association ends because an end says so, or the path loses too much. */
static bool for_loss(life *l)
{
    const ledger *d = &l->pair.ledger;
    bool lossy = l->scene.loss[0] >= LOSS_MAY_END || l->scene.loss[1] >= LOSS_MAY_END;
    for (unsigned i = 0; i < 2; i++)
        if (d->ended[i] && d->error[i] != DP_OK && d->error[i] != DP_ERR_TIMEOUT &&
            d->connected[!i]) /* else the other end has given up its handshake, with an ABORT */
            ledger_wrong(&l->pair.ledger, "the association ends with an error");
    bool lost = ended(l);
    if (lost && !lossy)
        ledger_wrong(&l->pair.ledger, "the association ends though hardly anything is lost");
    return lost;
}

static void tell_run(const life *l, uint64_t seed, const result *out)
{
    print_scene(&l->scene, seed);
    for (unsigned i = 0; i < 2; i++)
        printf("  %c: %s, %llu datagrams\n", 'A' + (char)i, l->pair.ledger.ended[i] ? "ended" : "up",
               (unsigned long long)l->pair.ends[i]->datagrams);
    printf("  %u channels, %u messages of %llu bytes, %.3f s\n", out->channels, out->messages,
           (unsigned long long)out->bytes, out->took / 1e3);
    for (const ledger_channel *c = l->pair.ledger.channels; c != NULL; c = c->next)
        printf("  %c: channel %d%s%s%s%s%s\n", 'A' + (char)c->end, c->id, c->negotiated ? ", negotiated" : "",
               c->reliable ? ", reliable" : "",
               c->channel == NULL ? ", closed"
               : c->closing       ? ", closing"
                                  : "",
               c->twin == NULL ? ", known here only" : "",
               c->first != NULL ? ", has messages on their way" : "");
}

static void run(void *into, uint64_t seed, bool tell)
{
    life l = {.over = false};
    result *out = into;
    world_init(&l, seed);
    *out = (result){.kind = (uint8_t)l.scene.kind};
    run_until(&l, connected, CONNECT_LIMIT, "does not connect");
    out->connected = l.pair.ledger.connected[0] && l.pair.ledger.connected[1];
    live(&l);
    out->lost = for_loss(&l);
    if (!broken(&l) && !out->lost) {
        finish(&l);
        check_end(&l);
    }
    out->channels = (uint32_t)l.pair.ledger.opened;
    out->messages = (uint32_t)l.pair.ledger.arrived;
    out->bytes = l.pair.ledger.bytes;
    out->took = (uint32_t)((l.pair.net.now - DP_SECONDS(1000)) / 1000);
    out->head = (sim_result){.trace = l.pair.trace, .why = l.pair.ledger.why};
    if (tell)
        tell_run(&l, seed, out);
    sim_pair_clear(&l.pair);
}

/* ---- all of them -------------------------------------------------------------------------------------------- */

static void sum_up(const result *results, uint64_t count, kind k)
{
    uint64_t runs = 0, lost = 0, channels = 0, messages = 0, bytes = 0, took = 0;
    uint32_t longest = 0;
    for (uint64_t i = 0; i < count; i++) {
        const result *r = &results[i];
        if (!r->head.done || r->kind != k)
            continue;
        runs++;
        lost += r->lost;
        channels += r->channels;
        messages += r->messages;
        bytes += r->bytes;
        took += r->took;
        longest = r->took > longest ? r->took : longest;
    }
    printf("%-14s %8llu %6llu %9llu %9llu %8.1f %10.1f %9.1f\n", kind_names[k], (unsigned long long)runs,
           (unsigned long long)lost, (unsigned long long)channels, (unsigned long long)messages,
           (double)bytes / 1e6, (double)took / 1e3, longest / 1e3);
}

int main(int argc, char **argv)
{
    sim_work work = {.program = argv[0],
                     .count = argc > 1 ? strtoull(argv[1], NULL, 10) : 5000,
                     .first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1,
                     .result_size = sizeof(result),
                     .run = run};
    void *results;
    unsigned failures = sim_work_all(&work, &results);
    printf("%-14s %8s %6s %9s %9s %8s %10s %9s\n", "", "runs", "lost", "channels", "messages", "MB",
           "virtual s", "longest");
    for (unsigned k = 0; k < KINDS; k++)
        sum_up(results, work.count, (kind)k);
    return failures > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
