/* A network in virtual time. Nodes (hosts, NATs, servers) are attached to segments by ports; a segment hands a
 * datagram to the port that claims its destination, else to its gateway, else nobody gets it. All delay and loss is
 * on the ports' links. What happens follows from the seed alone: no clock, no address of memory, no hash order.
 *
 *   host A --port--[ LAN A ]--port-- NAT A --port--[ Internet ]--port-- server
 */
#ifndef TESTS_SIM_NET_H
#define TESTS_SIM_NET_H

#include "clock.h"

typedef struct sim_net sim_net;
typedef struct sim_node sim_node;
typedef struct sim_segment sim_segment;
typedef struct sim_port sim_port;
typedef struct sim_event sim_event;

/* How a port is connected to its segment; both directions alike, each with its own queue. */
typedef struct sim_link {
    dp_duration delay;
    dp_duration jitter; /* up to so much more, in order */
    uint64_t rate;      /* bytes per second; 0: no limit */
    size_t queue;       /* bytes that wait for the rate at most; 0: no limit */
    size_t mtu;         /* longer datagrams vanish; 0: no limit */
    /* per mille */
    unsigned loss;
    unsigned duplicate;
    unsigned reorder; /* overtaken by those that are sent up to reorder_delay later */
    dp_duration reorder_delay;
    unsigned burst_enter; /* Gilbert: from the good state to the bad one, at each datagram */
    unsigned burst_leave;
    unsigned burst_loss; /* in the bad state, instead of loss */
    dp_time cut_from;    /* a black hole from here ... */
    dp_time cut_to;      /* ... to here */
} sim_link;

typedef struct sim_datagram {
    dp_address from;
    dp_address to;
    size_t len;
    const uint8_t *data;
} sim_datagram;

/* The head of each kind of node. */
struct sim_node {
    sim_node *next_node;
    sim_net *net;
    const char *name;
    void (*receive)(sim_node *node, sim_port *port, const sim_datagram *datagram);
    dp_time (*next_timeout)(sim_node *node); /* these two may be NULL */
    void (*handle_timeout)(sim_node *node);
    void (*clear)(sim_node *node); /* frees what the node holds, and the node */
};

typedef struct sim_direction {
    dp_time busy_until; /* the rate's queue */
    dp_time last;       /* arrival of the last one: jitter keeps the order */
    bool bad;           /* Gilbert's state */
} sim_direction;

struct sim_port {
    sim_port *next_port; /* of the segment */
    sim_node *node;
    sim_segment *segment;
    sim_link link;
    sim_direction up;
    sim_direction down;
    dp_address *claims;
    size_t claim_count;
};

struct sim_segment {
    sim_segment *next_segment;
    sim_net *net;
    sim_port *ports;
    sim_port *gateway;
};

typedef void (*sim_event_fn)(sim_net *net, sim_event *event);

struct sim_event {
    dp_time at;
    uint64_t serial; /* of equal times the first made is the first to happen */
    sim_event_fn run;
    void *ctx;
    uint64_t number;
    dp_address from;
    dp_address to;
    size_t len;
    uint8_t data[];
};

struct sim_net {
    dp_time now;
    uint64_t seed;
    uint64_t steps;
    uint64_t steps_at_now; /* since time last moved: a busy loop shows here */
    uint64_t trace;        /* hash of all that happened */
    bool verbose;          /* SIM_TRACE is set: all that happens on stderr */
    sim_node *nodes;       /* in the order of creation */
    sim_segment *segments;
    sim_event **heap;
    size_t heap_count;
    size_t heap_capacity;
    uint64_t serial;
};

void sim_net_init(sim_net *net, uint64_t seed);
void sim_net_clear(sim_net *net); /* nodes too */

sim_segment *sim_segment_new(sim_net *net);
void sim_node_add(sim_net *net, sim_node *node);
/* The port lives as long as the net. */
sim_port *sim_attach(sim_node *node, sim_segment *segment, const sim_link *link);
void sim_claim(sim_port *port, const dp_address *ip); /* its port number is ignored */
void sim_unclaim(sim_port *port, const dp_address *ip);
bool sim_claims(const sim_port *port, const dp_address *ip);

void sim_send(sim_port *port, const sim_datagram *datagram);
/* Calls run at now + delay. What ctx points to lives as long as the net; data is copied. */
void sim_after(sim_net *net, dp_duration delay, sim_event_fn run, void *ctx, uint64_t number,
               const void *data, size_t len);

/* Goes on to the next thing that happens; false, and now is until, if there is nothing up to then. */
bool sim_step(sim_net *net, dp_time until);
void sim_run(sim_net *net, dp_duration span);

/* Enters what happened into the trace. */
void sim_trace(sim_net *net, const char *what, const sim_node *node, const sim_datagram *datagram);

uint64_t sim_hash(uint64_t hash, const void *data, size_t len); /* in the manner of FNV-1a, by words */
dp_address sim_address(const char *ip, uint16_t port);
bool sim_same_ip(const dp_address *a, const dp_address *b);
void *sim_alloc(size_t size); /* zeroed; never NULL */

#endif
