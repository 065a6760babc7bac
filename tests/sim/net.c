#include "net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HASH_START 0xcbf29ce484222325u
#define FNV_PRIME  0x100000001b3u

uint64_t sim_hash(uint64_t hash, const void *data, size_t len)
{
    const uint8_t *p = data;
    for (; len >= sizeof(uint64_t); len -= sizeof(uint64_t), p += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        hash = (hash ^ word) * FNV_PRIME;
        hash ^= hash >> 32;
    }
    for (; len > 0; len--, p++)
        hash = (hash ^ *p) * FNV_PRIME;
    return hash;
}

void *sim_alloc(size_t size)
{
    void *block = calloc(1, size);
    if (block == NULL)
        abort();
    return block;
}

dp_address sim_address(const char *ip, uint16_t port)
{
    dp_address out;
    if (dp_address_parse(&out, ip, port) != DP_OK)
        abort();
    return out;
}

bool sim_same_ip(const dp_address *a, const dp_address *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, sizeof a->ip) == 0;
}

/* ---- events: a binary heap ---- */

static bool before(const sim_event *a, const sim_event *b)
{
    return a->at != b->at ? a->at < b->at : a->serial < b->serial;
}

static void push(sim_net *net, sim_event *event)
{
    event->serial = net->serial++;
    if (net->heap_count == net->heap_capacity) {
        net->heap_capacity = net->heap_capacity == 0 ? 64 : 2 * net->heap_capacity;
        net->heap = realloc(net->heap, net->heap_capacity * sizeof(sim_event *));
        if (net->heap == NULL)
            abort();
    }
    size_t i = net->heap_count++;
    for (; i > 0 && before(event, net->heap[(i - 1) / 2]); i = (i - 1) / 2)
        net->heap[i] = net->heap[(i - 1) / 2];
    net->heap[i] = event;
}

static sim_event *pop(sim_net *net)
{
    sim_event *first = net->heap[0];
    sim_event *last = net->heap[--net->heap_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < net->heap_count && before(net->heap[child + 1], net->heap[child]))
            child++;
        if (child >= net->heap_count || !before(net->heap[child], last))
            break;
        net->heap[i] = net->heap[child];
        i = child;
    }
    net->heap[i] = last;
    return first;
}

static sim_event *event_new(sim_net *net, dp_time at, sim_event_fn run, void *ctx, const void *data,
                            size_t len)
{
    sim_event *event = sim_alloc(sizeof *event + len);
    event->at = at > net->now ? at : net->now;
    event->run = run;
    event->ctx = ctx;
    event->len = len;
    if (len > 0)
        memcpy(event->data, data, len);
    return event;
}

void sim_after(sim_net *net, dp_duration delay, sim_event_fn run, void *ctx, uint64_t number,
               const void *data, size_t len)
{
    sim_event *event = event_new(net, net->now + delay, run, ctx, data, len);
    event->number = number;
    push(net, event);
}

/* ---- the net ---- */

void sim_net_init(sim_net *net, uint64_t seed)
{
    memset(net, 0, sizeof *net);
    net->seed = seed;
    net->now = DP_SECONDS(1000);
    net->trace = HASH_START;
    net->verbose = getenv("SIM_TRACE") != NULL;
    sim_clock = net->now;
}

void sim_net_clear(sim_net *net)
{
    while (net->nodes != NULL) {
        sim_node *node = net->nodes;
        net->nodes = node->next_node;
        node->clear(node);
    }
    while (net->segments != NULL) {
        sim_segment *segment = net->segments;
        net->segments = segment->next_segment;
        while (segment->ports != NULL) {
            sim_port *port = segment->ports;
            segment->ports = port->next_port;
            free(port->claims);
            free(port);
        }
        free(segment);
    }
    while (net->heap_count > 0)
        free(net->heap[--net->heap_count]);
    free(net->heap);
}

sim_segment *sim_segment_new(sim_net *net)
{
    sim_segment *segment = sim_alloc(sizeof *segment);
    segment->net = net;
    segment->next_segment = net->segments;
    net->segments = segment;
    return segment;
}

void sim_node_add(sim_net *net, sim_node *node)
{
    sim_node **end = &net->nodes;
    while (*end != NULL)
        end = &(*end)->next_node;
    *end = node;
    node->net = net;
}

sim_port *sim_attach(sim_node *node, sim_segment *segment, const sim_link *link)
{
    sim_port *port = sim_alloc(sizeof *port);
    port->node = node;
    port->segment = segment;
    port->link = *link;
    port->next_port = segment->ports;
    segment->ports = port;
    return port;
}

void sim_claim(sim_port *port, const dp_address *ip)
{
    port->claims = realloc(port->claims, (port->claim_count + 1) * sizeof *port->claims);
    if (port->claims == NULL)
        abort();
    port->claims[port->claim_count++] = *ip;
}

bool sim_claims(const sim_port *port, const dp_address *ip)
{
    for (size_t i = 0; i < port->claim_count; i++) {
        if (sim_same_ip(&port->claims[i], ip))
            return true;
    }
    return false;
}

void sim_unclaim(sim_port *port, const dp_address *ip)
{
    for (size_t i = 0; i < port->claim_count; i++) {
        if (sim_same_ip(&port->claims[i], ip)) {
            port->claims[i] = port->claims[--port->claim_count];
            return;
        }
    }
}

/* ---- trace ---- */

static uint64_t hash_address(uint64_t hash, const dp_address *address)
{
    uint8_t bytes[19] = {address->family, (uint8_t)(address->port >> 8), (uint8_t)address->port};
    memcpy(bytes + 3, address->ip, 16);
    return sim_hash(hash, bytes, sizeof bytes);
}

void sim_trace(sim_net *net, const char *what, const sim_node *node, const sim_datagram *d)
{
    uint64_t content = sim_hash(HASH_START, d->data, d->len);
    uint64_t numbers[3] = {net->now, d->len, content};
    net->trace = sim_hash(net->trace, what, strlen(what));
    net->trace = sim_hash(net->trace, numbers, sizeof numbers);
    net->trace = hash_address(hash_address(net->trace, &d->from), &d->to);
    if (!net->verbose)
        return;
    char from[DP_ADDRESS_TEXT_MAX];
    char to[DP_ADDRESS_TEXT_MAX];
    fprintf(stderr, "%10.6f %-7s %-10s %s -> %s %zu bytes %016llx\n",
            (double)(net->now - DP_SECONDS(1000)) / 1e6, node->name, what, dp_address_format(&d->from, from),
            dp_address_format(&d->to, to), d->len, (unsigned long long)content);
}

/* ---- datagrams ---- */

static bool chance(sim_net *net, unsigned per_mille)
{
    return per_mille > 0 && sim_below(&net->seed, 1000) < per_mille;
}

static bool lost(sim_net *net, const sim_link *link, sim_direction *direction)
{
    if (link->burst_enter > 0) {
        bool change = chance(net, direction->bad ? link->burst_leave : link->burst_enter);
        direction->bad ^= change;
    }
    return chance(net, direction->bad ? link->burst_loss : link->loss);
}

/* One way over a link: pushes what arrives at its other end. */
static void cross(sim_port *port, sim_direction *direction, const sim_datagram *d, sim_event_fn arrive)
{
    const sim_link *link = &port->link;
    sim_net *net = port->node->net;
    const char *dropped = NULL;
    dp_time start = direction->busy_until > net->now ? direction->busy_until : net->now;
    if (net->now >= link->cut_from && net->now < link->cut_to)
        dropped = "cut";
    else if (link->mtu > 0 && d->len > link->mtu)
        dropped = "too long";
    else if (link->rate > 0 && link->queue > 0 &&
             (start - net->now) * link->rate / DP_SECONDS(1) > link->queue)
        dropped = "queue full";
    else if (lost(net, link, direction))
        dropped = "lost";
    if (dropped != NULL) {
        sim_trace(net, dropped, port->node, d);
        return;
    }
    if (link->rate > 0)
        direction->busy_until = start + DP_SECONDS(1) * d->len / link->rate;
    for (unsigned copies = chance(net, link->duplicate) ? 2 : 1; copies > 0; copies--) {
        dp_time at = (link->rate > 0 ? direction->busy_until : net->now) + link->delay;
        at += link->jitter > 0 ? sim_random(&net->seed) % link->jitter : 0;
        if (chance(net, link->reorder))
            at += link->reorder_delay;
        else
            direction->last = at = at > direction->last ? at : direction->last;
        sim_event *event = event_new(net, at, arrive, port, d->data, d->len);
        event->from = d->from;
        event->to = d->to;
        push(net, event);
    }
}

static void arrive_at_node(sim_net *net, sim_event *event)
{
    sim_port *port = event->ctx;
    sim_datagram d = {event->from, event->to, event->len, event->data};
    sim_trace(net, "in", port->node, &d);
    port->node->receive(port->node, port, &d);
}

static void arrive_at_segment(sim_net *net, sim_event *event)
{
    sim_port *from = event->ctx;
    sim_datagram d = {event->from, event->to, event->len, event->data};
    sim_port *to = from->segment->ports;
    while (to != NULL && !sim_claims(to, &d.to))
        to = to->next_port;
    if (to == NULL)
        to = from->segment->gateway;
    if (to == NULL || to == from)
        sim_trace(net, "no route", from->node, &d);
    else
        cross(to, &to->down, &d, arrive_at_node);
}

void sim_send(sim_port *port, const sim_datagram *datagram)
{
    sim_trace(port->node->net, "out", port->node, datagram);
    cross(port, &port->up, datagram, arrive_at_segment);
}

/* ---- time ---- */

static sim_node *next_node(const sim_net *net, dp_time *at)
{
    sim_node *first = NULL;
    *at = DP_TIME_NEVER;
    for (sim_node *node = net->nodes; node != NULL; node = node->next_node) {
        dp_time t = node->next_timeout != NULL ? node->next_timeout(node) : DP_TIME_NEVER;
        if (t < *at) {
            *at = t;
            first = node;
        }
    }
    return first;
}

bool sim_step(sim_net *net, dp_time until)
{
    dp_time timeout;
    sim_node *node = next_node(net, &timeout);
    dp_time event = net->heap_count > 0 ? net->heap[0]->at : DP_TIME_NEVER;
    dp_time next = event < timeout ? event : timeout;
    if (next > until) {
        net->now = sim_clock = until > net->now ? until : net->now;
        return false;
    }
    if (next > net->now) {
        net->now = sim_clock = next;
        net->steps_at_now = 0;
    }
    net->steps++;
    net->steps_at_now++;
    if (event <= timeout) {
        sim_event *e = pop(net);
        e->run(net, e);
        free(e);
    } else {
        node->handle_timeout(node);
    }
    return true;
}

void sim_run(sim_net *net, dp_duration span)
{
    dp_time until = net->now + span;
    while (sim_step(net, until)) {
    }
}
