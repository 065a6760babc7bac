/* A STUN and TURN server (RFC 8489, RFC 8656) of the simulation: over UDP, and over reliable streams that stand for
 * TCP and TLS. It reads what it gets with a reader of its own, so that it can disagree with ice/turn.c. */
#ifndef TESTS_SIM_SERVER_H
#define TESTS_SIM_SERVER_H

#include "net.h"

typedef struct sim_server sim_server;

typedef struct sim_server_config {
    bool turn; /* else only Binding requests are answered */
    const char *realm;
    const char *username;
    const char *credential;
    dp_duration nonce_lifetime; /* then it is stale (438); 0: never */
    /* Where it listens; the relayed addresses are of the same ip. A family NONE is not served. */
    dp_address address;
    dp_address address6;
} sim_server_config;

/* The strings and the segment live as long as the net. */
sim_server *sim_server_new(sim_net *net, const char *name, const sim_server_config *config,
                           sim_segment *segment, const sim_link *link);
/* How many allocations there are now; whether one has address. */
size_t sim_server_allocations(const sim_server *server);
bool sim_server_relays(const sim_server *server, const dp_address *address);

typedef struct sim_stream sim_stream;
typedef void (*sim_stream_fn)(void *ctx, uint64_t number, uint8_t *data, size_t len);

/* Bytes take delay either way and come in order, cut at random places. The stream lives as long as the net. */
sim_stream *sim_stream_open(sim_server *server, dp_duration delay, sim_stream_fn input, void *ctx,
                            uint64_t number);
void sim_stream_send(sim_stream *stream, const uint8_t *data, size_t len);
void sim_stream_close(sim_stream *stream);

#endif
