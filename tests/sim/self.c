/* The simulation itself: links, NATs and routing do what their headers say. */
#include "nat.h"

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                  \
            exit(EXIT_FAILURE);                                                                              \
        }                                                                                                    \
    } while (0)

/* A node that counts. */
typedef struct sink {
    sim_node node;
    sim_port *port;
    dp_address address;
    unsigned count;
    unsigned overtaken; /* datagrams that came after a later one */
    uint32_t highest;
    dp_time last;
    dp_address from;
} sink;

static void receive(sim_node *node, sim_port *port, const sim_datagram *d)
{
    sink *s = (sink *)node;
    uint32_t number = (uint32_t)d->data[0] << 8 | d->data[1];
    CHECK(port == s->port && d->to.port == s->address.port);
    s->count++;
    s->overtaken += number < s->highest;
    s->highest = number > s->highest ? number : s->highest;
    s->last = node->net->now;
    s->from = d->from;
}

static void clear(sim_node *node) { free(node); }

static sink *sink_new(sim_net *net, sim_segment *segment, const char *ip, const sim_link *link)
{
    sink *s = sim_alloc(sizeof *s);
    s->node = (sim_node){.name = ip, .receive = receive, .clear = clear};
    s->address = sim_address(ip, 5000);
    sim_node_add(net, &s->node);
    s->port = sim_attach(&s->node, segment, link);
    sim_claim(s->port, &s->address);
    return s;
}

static void say(sink *s, const dp_address *to, uint32_t number, size_t len)
{
    uint8_t data[DP_DATAGRAM_MAX] = {(uint8_t)(number >> 8), (uint8_t)number};
    sim_datagram d = {s->address, *to, len, data};
    sim_send(s->port, &d);
}

/* 1,000 datagrams of 100 bytes, a millisecond apart, over link. */
static sink stream(const sim_link *link, uint64_t seed)
{
    sim_net net;
    sim_link perfect = {0};
    sim_net_init(&net, seed);
    sim_segment *segment = sim_segment_new(&net);
    sink *a = sink_new(&net, segment, "192.0.2.1", link);
    sink *b = sink_new(&net, segment, "192.0.2.2", &perfect);
    for (uint32_t i = 0; i < 1000; i++) {
        say(a, &b->address, i, 100);
        sim_run(&net, DP_MS(1));
    }
    sim_run(&net, DP_SECONDS(10));
    sink out = *b;
    sim_net_clear(&net);
    return out;
}

static void links(void)
{
    sim_link link = {.delay = DP_MS(30)};
    sink s = stream(&link, 1);
    CHECK(s.count == 1000 && s.overtaken == 0 && s.last == DP_SECONDS(1000) + DP_MS(999 + 30));
    link.jitter = DP_MS(20);
    s = stream(&link, 1);
    CHECK(s.count == 1000 && s.overtaken == 0);
    link = (sim_link){.reorder = 100, .reorder_delay = DP_MS(5)};
    s = stream(&link, 1);
    CHECK(s.count == 1000 && s.overtaken > 50 && s.overtaken < 150);
    link = (sim_link){.loss = 300};
    s = stream(&link, 1);
    CHECK(s.count > 640 && s.count < 760);
    link = (sim_link){
        .burst_enter = 20, .burst_leave = 100, .burst_loss = 1000}; /* bad for a sixth of the time */
    s = stream(&link, 1);
    CHECK(s.count > 700 && s.count < 950);
    link = (sim_link){.duplicate = 100};
    s = stream(&link, 1);
    CHECK(s.count > 1050 && s.count < 1150);
    link = (sim_link){.mtu = 100};
    CHECK(stream(&link, 1).count == 1000);
    link.mtu = 99;
    CHECK(stream(&link, 1).count == 0);
    link = (sim_link){.cut_from = DP_SECONDS(1000) + DP_MS(100), .cut_to = DP_SECONDS(1000) + DP_MS(300)};
    CHECK(stream(&link, 1).count == 800);
    link = (sim_link){.rate = 50000}; /* two milliseconds each: the last one leaves at the end of 2 s */
    s = stream(&link, 1);
    CHECK(s.count == 1000 && s.last == DP_SECONDS(1002));
    link.queue = 1000; /* ... or half of them don't fit */
    s = stream(&link, 1);
    CHECK(s.count > 490 && s.count < 530);
}

typedef struct behind {
    sim_net net;
    sim_nat *nat;
    sink *in;
    sink *twin; /* also inside */
    sink *out;
    sink *other; /* another address */
} behind;

static void behind_init(behind *b, const sim_nat_config *config)
{
    sim_link perfect = {0};
    dp_address ip = sim_address("203.0.113.1", 0);
    sim_net_init(&b->net, 1);
    sim_segment *outside = sim_segment_new(&b->net);
    sim_segment *inside = sim_segment_new(&b->net);
    b->nat = sim_nat_new(&b->net, "NAT", config, inside, outside, &ip, &perfect, &perfect);
    b->in = sink_new(&b->net, inside, "10.0.0.1", &perfect);
    b->twin = sink_new(&b->net, inside, "10.0.0.2", &perfect);
    b->out = sink_new(&b->net, outside, "192.0.2.1", &perfect);
    b->other = sink_new(&b->net, outside, "192.0.2.2", &perfect);
}

static unsigned gets(behind *b, sink *from, const dp_address *to, const sink *at)
{
    unsigned before = at->count;
    say(from, to, 0, 100);
    sim_run(&b->net, DP_MS(1));
    return at->count - before;
}

static void nats(void)
{
    behind b;
    sim_nat_config config = {.filtering = SIM_ADDRESS_AND_PORT_DEPENDENT, .preserve_port = true};
    behind_init(&b, &config);
    CHECK(gets(&b, b.in, &b.out->address, b.out) == 1 && b.out->from.port == 5000);
    dp_address first = b.out->from;
    CHECK(gets(&b, b.twin, &b.out->address, b.out) == 1 && b.out->from.port != 5000);
    dp_address second = b.out->from;
    CHECK(gets(&b, b.out, &first, b.in) == 1 && gets(&b, b.out, &second, b.twin) == 1);
    CHECK(gets(&b, b.other, &first, b.in) == 0); /* nobody asked it */
    CHECK(gets(&b, b.in, &second, b.twin) == 0); /* no hairpin */
    CHECK(gets(&b, b.in, &b.other->address, b.other) == 1 && b.other->from.port == 5000);
    CHECK(gets(&b, b.other, &first, b.in) == 1);
    CHECK(gets(&b, b.out, &b.in->address, b.in) == 0); /* no route */
    sim_run(&b.net, DP_SECONDS(119));
    CHECK(gets(&b, b.out, &first, b.in) == 1); /* does not keep it alive */
    sim_run(&b.net, DP_SECONDS(1));
    CHECK(gets(&b, b.out, &first, b.in) == 0);
    CHECK(gets(&b, b.in, &b.out->address, b.out) == 1 && gets(&b, b.out, &first, b.in) == 1);
    sim_nat_rebind(b.nat);
    CHECK(gets(&b, b.out, &first, b.in) == 0);
    sim_net_clear(&b.net);

    config = (sim_nat_config){
        .mapping = SIM_ADDRESS_DEPENDENT, .filtering = SIM_ADDRESS_DEPENDENT, .hairpin = true};
    behind_init(&b, &config);
    CHECK(gets(&b, b.in, &b.out->address, b.out) == 1);
    first = b.out->from;
    dp_address elsewhere = b.out->address;
    elsewhere.port = 5000; /* another port of the same address is let in */
    b.out->address.port = 6000;
    CHECK(gets(&b, b.out, &first, b.in) == 1 && gets(&b, b.other, &first, b.in) == 0);
    b.out->address = elsewhere;
    CHECK(gets(&b, b.in, &b.other->address, b.other) == 1 && b.other->from.port != first.port);
    sim_net_clear(&b.net);

    config = (sim_nat_config){.filtering = SIM_ADDRESS_DEPENDENT, .hairpin = true};
    behind_init(&b, &config);
    CHECK(gets(&b, b.in, &b.out->address, b.out) == 1);
    first = b.out->from;
    CHECK(gets(&b, b.twin, &b.out->address, b.out) == 1);
    second = b.out->from; /* hairpin finds it, and is filtered as from outside */
    CHECK(gets(&b, b.in, &second, b.twin) == 0 && gets(&b, b.twin, &first, b.in) == 1);
    CHECK(gets(&b, b.in, &second, b.twin) == 1 && dp_address_equal(&b.twin->from, &first));
    sim_net_clear(&b.net);

    config =
        (sim_nat_config){.blocked = true, .allowed = {sim_address("192.0.2.1", 5000)}, .allowed_count = 1};
    behind_init(&b, &config);
    CHECK(gets(&b, b.in, &b.out->address, b.out) == 1 && gets(&b, b.in, &b.other->address, b.other) == 0);
    first = b.out->from;
    CHECK(gets(&b, b.other, &first, b.in) == 1); /* endpoint-independent filtering */
    sim_net_clear(&b.net);
}

int main(void)
{
    links();
    nats();
    return EXIT_SUCCESS;
}
