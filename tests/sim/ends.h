/* Two ends of an SCTP association, each with an owner who opens, sends and closes at random, and the path between them.
 * The ledger tells whether all is as it should be. */
#ifndef TESTS_SIM_ENDS_H
#define TESTS_SIM_ENDS_H

#include "ledger.h"
#include "net.h"

typedef struct sim_pair sim_pair;

typedef struct sim_end {
    sim_node node;
    sim_pair *pair;
    unsigned which;
    sim_port *out; /* one segment for each direction */
    dp_address own;
    dp_sctp *sctp;
    uint64_t random; /* of the library */
    bool deaf;       /* takes no events */
    unsigned acts;   /* that it does unasked, when something happens */
    uint64_t datagrams;
} sim_end;

/* How much an owner does. */
typedef struct sim_habits {
    unsigned longest_bits; /* messages of less than 1 << this many bytes */
    unsigned channels;     /* at once, of those that it opens */
    bool in_pairs;         /* negotiated channels, on both sides at the same moment */
} sim_habits;

struct sim_pair {
    sim_net net;
    ledger ledger;
    sim_end *ends[2];
    uint64_t seed;
    size_t mtu;
    size_t path_mtu;   /* packets up to this are tried; 0: none over mtu are */
    size_t largest[2]; /* message that the end accepts */
    unsigned late;     /* per mille of the datagrams that come once more, up to LATE_MAX later */
    sim_habits habits;
    uint64_t refused; /* calls */
    uint64_t trace;   /* hash of when which end got and sent packets of which lengths */
};

#define SIM_LATE_MAX DP_SECONDS(8)

/* config without random; links: what each end sends over. */
void sim_pair_init(sim_pair *pair, uint64_t seed, const dp_sctp_config configs[2], const sim_link links[2]);
void sim_pair_clear(sim_pair *pair);

void sim_end_start(sim_end *end);
/* Opens, sends or closes. */
void sim_end_act(sim_end *end);
void sim_end_close_all(sim_end *end);
void sim_end_abort(sim_end *end);
void sim_end_drain(sim_end *end);

#endif
