/* An end of the simulation: interfaces, sockets, and what drives them, which is a bare dp_ice or a dp_pc. Two hosts
 * signal through a pipe that keeps everything in order and loses nothing. Reads its struct, but call the functions:
 * they let the agent's output out. */
#ifndef TESTS_SIM_HOST_H
#define TESTS_SIM_HOST_H

#include "net.h"
#include "server.h"

#include <datapeer/peer_connection.h>

#define SIM_SOCKETS_MAX    40
#define SIM_HISTORY_MAX    32
#define SIM_CANDIDATES_MAX 64
#define SIM_SERVERS_MAX    4
#define SIM_LINKS_MAX      24

typedef struct sim_host_config {
    bool pc;          /* else ICE alone */
    dp_ice_role role; /* ICE alone */
    uint64_t seed;    /* of the agent's randomness */
    dp_duration pacing;
    bool relay_only;
    bool hide_addresses;
    dp_duration signal_delay; /* of what it says to the peer */
    dp_duration signal_jitter;
    bool streams_blocked; /* no TCP from here */
    dp_duration stream_delay;
} sim_host_config;

typedef struct sim_socket {
    dp_address local;
    sim_port *port;
    uint32_t link; /* not 0: the agent's own, connected to remote */
    dp_address remote;
    sim_stream *stream; /* instead of datagrams */
} sim_socket;

typedef struct sim_candidate {
    dp_candidate_type type;
    dp_address address;
    dp_address base;
} sim_candidate;

typedef struct sim_pair {
    dp_address local;
    dp_address remote;
    dp_candidate_type local_type;
    dp_candidate_type remote_type;
} sim_pair;

typedef struct sim_host sim_host;

struct sim_host {
    sim_node node;
    sim_host_config config;
    uint64_t seed;
    dp_ice *ice;
    dp_pc *pc;
    dp_certificate *certificate;
    sim_host *peer;
    sim_server *servers[SIM_SERVERS_MAX]; /* for streams, by the order of add_server */
    dp_address server_addresses[SIM_SERVERS_MAX];
    size_t server_count;
    sim_socket sockets[SIM_SOCKETS_MAX];
    size_t socket_count;
    uint16_t next_port;
    /* signalling */
    bool started;
    bool restarting; /* a restart of ours waits for the peer's credentials */
    char remote_ufrag[257];
    dp_time signal_last;
    dp_time described_at; /* both descriptions are known here since; 0: not yet */
    /* what it saw */
    sim_candidate candidates[SIM_CANDIDATES_MAX]; /* signalled, of the present generation */
    size_t candidate_count;
    bool gathered;
    int states[SIM_HISTORY_MAX]; /* dp_ice_state or dp_pc_state */
    size_t state_count;
    sim_pair selected; /* of the last SELECTED_PAIR */
    unsigned selections;
    dp_time usable_at; /* data could be sent since; 0: not yet */
    uint64_t stray;    /* datagrams from a socket that there is not */
    uint64_t sent;     /* datagrams, by whatever way */
    /* ICE alone: the last payload */
    uint64_t arrivals;
    uint64_t arrived;      /* its number */
    uint32_t arrived_link; /* 0: by local and remote */
    dp_address arrived_local;
    dp_address arrived_remote;
    /* dp_pc */
    dp_channel *channel; /* the first that opened */
    unsigned opened;
    void (*on_event)(sim_host *host, const dp_pc_event *event); /* may be NULL */
    void *user;
};

sim_host *sim_host_new(sim_net *net, const char *name, const sim_host_config *config);
void sim_host_join(sim_host *a, sim_host *b); /* they signal to each other */

sim_port *sim_host_plug(sim_host *host, sim_segment *segment, const sim_link *link);
/* Binds a socket to ip and tells the agent; any time. Returns the socket's address. */
dp_address sim_host_add_address(sim_host *host, sim_port *port, const dp_address *ip);
void sim_host_remove_address(sim_host *host, const dp_address *local);
/* Before start. server is where streams to address lead. */
void sim_host_add_server(sim_host *host, const dp_ice_server *config, sim_server *server);

/* ICE alone: gathers and tells the peer its credentials; a dp_pc: makes a channel and offers. A host that hears of
 * its peer before starts by that. */
void sim_host_start(sim_host *host);
void sim_host_restart(sim_host *host); /* ICE restart, signalled */
/* ICE alone: sends a payload with a number on the selected pair. False: there is no way. */
bool sim_host_ping(sim_host *host, uint64_t number);
/* Lets out what the agent has; after calls to ice or pc that a test makes itself. */
void sim_host_drain(sim_host *host);
void sim_host_close(sim_host *host);

dp_ice_state sim_host_ice_state(const sim_host *host);
/* The pair in use now; false: none. */
bool sim_host_pair(const sim_host *host, dp_address *local, dp_address *remote);

#endif
