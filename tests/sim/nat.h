/* A router between two segments: translation of IPv4 addresses and filtering as RFC 4787 names their kinds. What is
 * not translated (IPv6, or translate off) passes a filter of the same kind: a stateful firewall.
 *
 * RFC 4787 §4.1 says which mapping an outgoing datagram gets. It leaves open what becomes of an answer if a filter that
 * is more open than the mapping let its question in: by §4.1 the answer could leave from another port, and such a NAT
 * would be of no use. This one remembers by which mapping an address was last heard, and answers it by that. */
#ifndef TESTS_SIM_NAT_H
#define TESTS_SIM_NAT_H

#include "net.h"

typedef enum sim_dependence {
    SIM_ENDPOINT_INDEPENDENT,
    SIM_ADDRESS_DEPENDENT,
    SIM_ADDRESS_AND_PORT_DEPENDENT,
} sim_dependence;

#define SIM_NAT_ALLOWED_MAX 4

typedef struct sim_nat_config {
    sim_dependence mapping;
    sim_dependence filtering;
    bool no_translation;
    bool
        preserve_port; /* the outside port is the inside one if it is free, else (or without this) a random one */
    bool hairpin;      /* RFC 4787 §6: the inside can reach itself by outside addresses */
    dp_duration timeout; /* of a mapping that nothing leaves by; 0: 2 minutes */
    /* All that leaves is dropped except to these (by ip; port 0: any). */
    bool blocked;
    dp_address allowed[SIM_NAT_ALLOWED_MAX];
    size_t allowed_count;
} sim_nat_config;

typedef struct sim_nat sim_nat;

/* outside_ip: its IPv4 address on the outside segment. It becomes the inside's gateway. */
sim_nat *sim_nat_new(sim_net *net, const char *name, const sim_nat_config *config, sim_segment *inside,
                     sim_segment *outside, const dp_address *outside_ip, const sim_link *inside_link,
                     const sim_link *outside_link);
/* The outside finds ip here: an address of the inside that is not translated. */
void sim_nat_route(sim_nat *nat, const dp_address *ip);
/* Forgets all mappings and sessions, as after a power cut. */
void sim_nat_rebind(sim_nat *nat);
/* What outside is mapped to; family NONE: nothing. */
dp_address sim_nat_inside(const sim_nat *nat, const dp_address *outside);
sim_segment *sim_nat_inside_segment(const sim_nat *nat);

#endif
