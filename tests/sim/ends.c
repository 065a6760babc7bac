#include "ends.h"

#include "chunks.h"

#include <usrsctp.h>

static bool chance(sim_end *e, unsigned per_mille) { return sim_below(&e->pair->seed, 1000) < per_mille; }

/* ---- the path ---------------------------------------------------------------------------------------------- */

static void put(sim_end *e, const uint8_t *data, size_t len)
{
    sim_datagram d = {.from = e->own, .to = e->pair->ends[!e->which]->own, .len = len, .data = data};
    sim_send(e->out, &d);
}

static void put_late(sim_net *net, sim_event *event)
{
    (void)net;
    put(event->ctx, event->data, event->len);
}

/* What happened, without the bytes: usrsctp's cookies tell how many associations there were before. */
static void trace(sim_end *e, const char *way, const uint8_t *data, size_t len)
{
    uint64_t what[] = {e->pair->net.now, e->which, len};
    e->pair->trace = sim_hash(e->pair->trace, what, sizeof what);
    if (!e->pair->net.verbose)
        return;
    char line[64];
    snprintf(line, sizeof line, "%10.6f %-7s %s", (double)(e->pair->net.now - DP_SECONDS(1000)) / 1e6,
             e->node.name, way);
    sim_print_chunks(line, data, len);
}

static bool poll(sim_end *e, const uint8_t **data, size_t *len)
{
    return dp_sctp_poll_transmit(e->sctp, data, len) ||
           dp_sctp_poll_probe(e->sctp, e->pair->net.now, data, len);
}

static void transmit(sim_end *e)
{
    const uint8_t *data;
    size_t len, most = e->pair->mtu > e->pair->path_mtu ? e->pair->mtu : e->pair->path_mtu;
    while (poll(e, &data, &len)) {
        e->datagrams++;
        trace(e, "sends", data, len);
        if (len == 0 || len > most)
            ledger_wrong(&e->pair->ledger, "a packet over the MTU");
        if (chance(e, e->pair->late))
            sim_after(&e->pair->net, sim_random(&e->pair->seed) % SIM_LATE_MAX, put_late, e, 0, data, len);
        put(e, data, len);
    }
}

/* An owner may act upon what has just happened: open again what was closed, answer a message. */
void sim_end_drain(sim_end *e)
{
    do {
        transmit(e);
        if (e->deaf || !ledger_poll(&e->pair->ledger, e->which, e->sctp) || e->acts == 0 || !chance(e, 100))
            break;
        e->acts--;
        sim_end_act(e);
    } while (e->pair->ledger.why == NULL);
    transmit(e);
}

static void receive(sim_node *node, sim_port *port, const sim_datagram *d)
{
    sim_end *e = (sim_end *)node;
    (void)port;
    trace(e, "gets", d->data, d->len);
    dp_sctp_input(e->sctp, node->net->now, d->data, d->len);
    sim_end_drain(e);
}

static dp_time next_timeout(sim_node *node) { return dp_sctp_next_timeout(((sim_end *)node)->sctp); }

static void handle_timeout(sim_node *node)
{
    sim_end *e = (sim_end *)node;
    dp_sctp_handle_timeout(e->sctp, node->net->now);
    sim_end_drain(e);
}

static void clear(sim_node *node)
{
    dp_sctp_free(((sim_end *)node)->sctp);
    free(node);
}

/* ---- the owner --------------------------------------------------------------------------------------------- */

static ledger_channel *choose(sim_end *e, bool own_only)
{
    ledger_channel *chosen = NULL;
    unsigned n = 0;
    for (ledger_channel *c = e->pair->ledger.channels; c != NULL; c = c->next)
        if (c->end == e->which && c->channel != NULL && !c->closing && (!own_only || c->own) &&
            sim_below(&e->pair->seed, ++n) == 0)
            chosen = c;
    return chosen;
}

static dp_channel_init draw_init(sim_end *e)
{
    uint64_t *r = &e->pair->seed;
    dp_channel_init init = DP_CHANNEL_INIT("");
    init.ordered = sim_below(r, 3) > 0;
    init.priority = (dp_channel_priority)(DP_CHANNEL_PRIORITY_VERY_LOW << sim_below(r, 4));
    unsigned limit = sim_below(r, 6);
    if (limit == 0)
        init.max_retransmits = (int32_t)sim_below(r, 4);
    else if (limit == 1)
        init.max_packet_lifetime = (int32_t)sim_below(r, 1000);
    if (sim_below(r, 4) == 0)
        init.protocol = "sim";
    return init;
}

#define FAR_ID 600

/* Both owners have agreed on the id, and open it at the same moment: from 100 on no other channel gets to, from 600 on
 * streams have to be added. */
static void open_negotiated(sim_pair *p, dp_channel_init init)
{
    ledger_channel *sides[2] = {NULL, NULL};
    init.negotiated = true;
    init.id = (int)(sim_below(&p->seed, 8) == 0 ? FAR_ID : 100) + (int)sim_below(&p->seed, 4);
    for (unsigned i = 0; i < 2; i++) {
        int error = ledger_open(&p->ledger, &sides[i], i, p->ends[i]->sctp, p->net.now, init, 0);
        if (error == DP_OK)
            continue;
        p->refused++;
        bool refused =
            error == DP_ERR_LIMIT && init.id >= FAR_ID; /* the peer has not answered in 10 s, once */
        if (error != DP_ERR_EXISTS && error != DP_ERR_CLOSED && !refused)
            ledger_wrong(&p->ledger, "a negotiated channel is refused");
    }
    /* The id is not free yet on the other side. */
    if ((sides[0] == NULL) != (sides[1] == NULL))
        ledger_close(sides[sides[0] == NULL], p->net.now);
}

static void open_channel(sim_end *e)
{
    sim_pair *p = e->pair;
    unsigned n = 0;
    for (const ledger_channel *c = p->ledger.channels; c != NULL; c = c->next)
        n += c->end == e->which && c->own && c->channel != NULL;
    if (n >= p->habits.channels)
        return;
    dp_channel_init init = draw_init(e);
    if (p->habits.in_pairs && chance(e, 150)) {
        open_negotiated(p, init);
        return;
    }
    ledger_channel *c;
    size_t padding = chance(e, 100) ? sim_below(&p->seed, LEDGER_LABEL) : 0;
    int error = ledger_open(&p->ledger, &c, e->which, e->sctp, p->net.now, init, padding);
    if (error == DP_OK)
        return;
    p->refused++;
    if (error != DP_ERR_CLOSED)
        ledger_wrong(&p->ledger, "a channel is refused");
}

/* As many short ones as long ones, whatever the scale. */
static size_t draw_length(sim_end *e)
{
    sim_pair *p = e->pair;
    size_t most = p->largest[!e->which];
    unsigned bits = sim_below(&p->seed, p->habits.longest_bits + 1);
    size_t len = sim_random(&p->seed) % ((size_t)1 << bits);
    if (p->habits.longest_bits == 18 && chance(e, 5))
        len = most;
    return len < most ? len : most;
}

static void send_messages(sim_end *e, ledger_channel *c)
{
    unsigned n = 1 + sim_below(&e->pair->seed, 4);
    for (; n > 0; n--) {
        size_t len = draw_length(e);
        bool binary = chance(e, 500);
        int error = ledger_send(&e->pair->ledger, c, e->pair->net.now, len, binary, chance(e, 100));
        if (error == DP_OK)
            continue;
        e->pair->refused++;
        if (error != DP_ERR_WOULD_BLOCK && error != DP_ERR_INVALID_STATE)
            ledger_wrong(&e->pair->ledger, "a message is refused");
        if (error == DP_ERR_INVALID_STATE && dp_channel_get_state(c->channel) == DP_CHANNEL_OPEN)
            ledger_wrong(&e->pair->ledger, "a message is refused by an open channel");
    }
}

void sim_end_act(sim_end *e)
{
    unsigned what = sim_below(&e->pair->seed, 100);
    ledger_channel *c = choose(e, false);
    if (c == NULL || what < 20)
        open_channel(e);
    else if (what < 88)
        send_messages(e, c);
    else if (c->opened || !c->negotiated) /* the other end would never hear of it */
        ledger_close(c, e->pair->net.now);
    for (unsigned i = 0; i < 2; i++)
        transmit(e->pair->ends[i]);
}

void sim_end_close_all(sim_end *e)
{
    for (ledger_channel *c = e->pair->ledger.channels; c != NULL; c = c->next)
        if (c->end == e->which && c->channel != NULL && !c->closing)
            ledger_close(c, e->pair->net.now);
    sim_end_drain(e);
}

void sim_end_abort(sim_end *e)
{
    ledger_abort(&e->pair->ledger, e->which, e->sctp, e->pair->net.now);
    sim_end_drain(e);
}

void sim_end_start(sim_end *e)
{
    dp_sctp_set_path(e->sctp, e->pair->net.now, e->pair->path_mtu, 0);
    if (dp_sctp_start(e->sctp, e->pair->net.now, e->which == 0, 5000, e->pair->largest[!e->which]) != DP_OK)
        ledger_wrong(&e->pair->ledger, "does not start");
    sim_end_drain(e);
}

/* ---- both -------------------------------------------------------------------------------------------------- */

static void log_line(void *ctx, dp_log_level level, const char *layer, const char *message)
{
    const sim_end *e = ctx;
    (void)level;
    fprintf(stderr, "%10.6f %s %s: %s\n", (double)(e->pair->net.now - DP_SECONDS(1000)) / 1e6, e->node.name,
            layer, message);
}

static void add_end(sim_pair *p, unsigned which, const dp_sctp_config *given)
{
    static const char *const names[] = {"A", "B"};
    sim_end *e = p->ends[which] = sim_alloc(sizeof *e);
    e->node = (sim_node){.name = names[which],
                         .receive = receive,
                         .next_timeout = next_timeout,
                         .handle_timeout = handle_timeout,
                         .clear = clear};
    sim_node_add(&p->net, &e->node);
    e->pair = p;
    e->which = which;
    e->random = p->seed + which;
    e->own = sim_address(which == 0 ? "192.0.2.1" : "192.0.2.2", 5000);
    dp_sctp_config config = *given;
    config.size = sizeof config;
    config.random = (dp_random){sim_random_bytes, &e->random};
    if (getenv("SIM_LOG") != NULL)
        config.log = (dp_log){log_line, e, DP_LOG_DEBUG};
    if (dp_sctp_new(&e->sctp, &config) != DP_OK)
        abort();
    p->largest[which] = config.max_message_size != 0 ? config.max_message_size : LEDGER_LONGEST;
}

/* In the process's first run usrsctp takes random bytes to start with; and it would not use a verification tag again
 * that a run before has used. */
static void start_usrsctp(const dp_sctp_config *given)
{
    static bool started;
    static uint64_t seed;
    dp_sctp_config config = *given;
    dp_sctp *sctp;
    config.size = sizeof config;
    config.random = (dp_random){sim_random_bytes, &seed};
    if (!started && dp_sctp_new(&sctp, &config) == DP_OK) {
        started = dp_sctp_start(sctp, sim_clock, true, 5000, 0) == DP_OK;
        dp_sctp_free(sctp);
        usrsctp_sysctl_set_sctp_vtag_time_wait(0);
    }
}

void sim_pair_init(sim_pair *p, uint64_t seed, const dp_sctp_config configs[2], const sim_link links[2])
{
    memset(p, 0, sizeof *p);
    start_usrsctp(configs);
    sim_clock_seed(seed);
    sim_net_init(&p->net, seed);
    p->seed = seed;
    p->mtu = configs->mtu != 0 ? configs->mtu : 1160;
    add_end(p, 0, &configs[0]);
    add_end(p, 1, &configs[1]);
    for (unsigned from = 0; from < 2; from++) {
        sim_segment *way = sim_segment_new(&p->net);
        sim_link perfect = {0};
        p->ends[from]->out = sim_attach(&p->ends[from]->node, way, &perfect);
        sim_claim(sim_attach(&p->ends[!from]->node, way, &links[from]), &p->ends[!from]->own);
    }
}

void sim_pair_clear(sim_pair *p)
{
    sim_net_clear(&p->net);
    ledger_clear(&p->ledger);
}
