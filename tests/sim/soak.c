/* soak [HOURS [SEED]]: one association for so many hours of virtual time (24), over a path that loses, delays, reorders
 * and doubles. Every half a minute its owners open channels, send on them and close them for some seconds; in the first
 * hour without a pause, so that what usrsctp and we keep for reuse gets as large as it ever does. From then on the heap
 * has to stay what it is whenever all channels are closed: within 2 %. */
#include "ends.h"

#include <malloc.h>

#define WARM_UP   DP_SECONDS(3600)
#define EVERY     DP_SECONDS(30)
#define TALK      DP_SECONDS(3)
#define ACTS      25
#define TOLERATED 2 /* per cent */

static size_t heap(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static bool rest(sim_pair *p, dp_duration span)
{
    dp_time until = p->net.now + span;
    while (p->ledger.why == NULL && sim_step(&p->net, until)) {
    }
    return p->ledger.why == NULL;
}

static bool any_channel(const ledger *l)
{
    for (const ledger_channel *c = l->channels; c != NULL; c = c->next)
        if (c->channel != NULL)
            return true;
    return false;
}

/* Acts at random moments, then all is closed. */
static bool round_of(sim_pair *p, dp_duration every)
{
    dp_time end = p->net.now + every;
    for (unsigned i = 0; i < ACTS; i++) {
        if (!rest(p, sim_random(&p->seed) % (2 * TALK / ACTS)))
            return false;
        sim_end_act(p->ends[sim_below(&p->seed, 2)]);
    }
    dp_time limit = p->net.now + DP_SECONDS(300);
    while (ledger_busy(&p->ledger) != NULL && p->net.now < limit)
        if (!rest(p, DP_MS(100)))
            return false;
    for (unsigned i = 0; i < 2; i++)
        sim_end_close_all(p->ends[i]);
    while (any_channel(&p->ledger) && p->net.now < limit)
        if (!rest(p, DP_MS(100)))
            return false;
    if (p->net.now >= limit)
        ledger_wrong(&p->ledger, "does not come to rest");
    return rest(p, p->net.now < end ? end - p->net.now : DP_SECONDS(1));
}

static bool soak(sim_pair *p, dp_duration span)
{
    dp_time begin = p->net.now;
    size_t first = 0;
    size_t most = 0;
    size_t last = 0;
    while (p->net.now - begin < span) {
        bool warm = p->net.now - begin >= WARM_UP;
        if (!round_of(p, warm ? EVERY : 0) || p->ledger.ended[0] || p->ledger.ended[1])
            break;
        last = heap();
        if (!warm)
            continue;
        first = first == 0 ? last : first;
        most = last > most ? last : most;
    }
    printf("%.1f hours: %llu channels, %llu messages of %.1f MB, heap %zu to %zu bytes, at most %zu\n",
           (double)(p->net.now - begin) / 3.6e9, (unsigned long long)p->ledger.opened / 2,
           (unsigned long long)p->ledger.arrived, (double)p->ledger.bytes / 1e6, first, last, most);
    if (p->ledger.ended[0] || p->ledger.ended[1])
        ledger_wrong(&p->ledger, "the association has ended");
    if (first == 0) /* no more than an hour, or ASan's allocator, which tells nothing */
        ledger_wrong(&p->ledger, "nothing was measured");
    if (most > first + first * TOLERATED / 100)
        ledger_wrong(&p->ledger, "the heap grows");
    return p->ledger.why == NULL;
}

int main(int argc, char **argv)
{
    static sim_pair p;
    double hours = argc > 1 ? strtod(argv[1], NULL) : 24;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    sim_link link = {.delay = DP_MS(20),
                     .jitter = DP_MS(5),
                     .loss = 20,
                     .duplicate = 10,
                     .reorder = 20,
                     .reorder_delay = DP_MS(20)};
    sim_link links[2] = {link, link};
    dp_sctp_config config = {0};
    sim_pair_init(&p, seed, (dp_sctp_config[]){config, config}, links);
    p.late = 5;
    p.habits = (sim_habits){.longest_bits = 16, .channels = 20};
    for (unsigned i = 0; i < 2; i++)
        sim_end_start(p.ends[i]);
    bool fine = rest(&p, DP_SECONDS(5)) && soak(&p, (dp_duration)(hours * 3600) * DP_SECONDS(1));
    if (!fine)
        fprintf(stderr, "%s: %s\n", argv[0], p.ledger.why != NULL ? p.ledger.why : "does not begin");
    sim_pair_clear(&p);
    return fine ? EXIT_SUCCESS : EXIT_FAILURE;
}
