/* One UDP port for many peer connections: a socket for each local address, datagrams given to the connection
 * that they are for. */
#ifndef PEER_MUX_H
#define PEER_MUX_H

#include "peer/accept.h"
#include "peer/network.h"
#include <datapeer/peer_connection.h>

typedef struct mux mux;

/* A connection on the mux; lives in its owner's struct, zeroed before dp_mux_join. */
typedef struct mux_member {
    dp_pc *pc;
    void (*on_input)(void *user); /* datagrams were given to pc: poll it */
    void (*on_writable)(void *user);
    bool (*on_stream)(void *user, const accepted_stream *stream); /* false: not wanted */
    void (*on_changed)(void *user); /* pc's local addresses have changed: poll it */
    void *user;
    /* the mux's: */
    struct mux_member *next;
    struct mux_route *routes;
    size_t route_count;
    struct mux_member *next_touched;
    bool touched;
} mux_member;

/* Binds port on every address of the network; IO if one of them refuses. 0: any free port, of the network's range
 * if it has one, the same on all addresses; an address on which none of several can be had is then left out. IO if
 * no socket at all could be opened though there are addresses. Without any address it waits for one. */
int dp_mux_new(mux **out, network *net, uint16_t port);
/* After all members have left. */
void dp_mux_free(mux *m);
/* 0: there was no address yet, and any port will do. */
uint16_t dp_mux_port(const mux *m);
/* Opens sockets on the network's new addresses, at the mux's port if it is free there, and closes those of addresses
 * that have gone; tells the members. */
void dp_mux_update(mux *m);
mux *dp_mux_next(const mux *m); /* in the network's list */
/* Adds the mux's addresses to member->pc as local addresses, and takes it in. LIMIT, NO_MEMORY. */
int dp_mux_join(mux *m, mux_member *member);
void dp_mux_leave(mux *m, mux_member *member);
/* The socket bound to local, NULL if there is none. */
dp_udp *dp_mux_socket(const mux *m, const dp_address *local);

#endif
