/* One UDP port for many peer connections: a socket for each local address, datagrams given to the connection
 * that they are for. */
#ifndef PEER_MUX_H
#define PEER_MUX_H

#include <datapeer/net.h>
#include <datapeer/peer_connection.h>

typedef struct mux mux;

/* A connection on the mux; lives in its owner's struct, zeroed before dp_mux_join. */
typedef struct mux_member {
    dp_pc *pc;
    void (*on_input)(void *user); /* datagrams were given to pc: poll it */
    void (*on_writable)(void *user);
    void *user;
    /* the mux's: */
    struct mux_member *next;
    struct mux_route *routes;
    size_t route_count;
    bool touched;
} mux_member;

/* Binds port on every usable address; IO if one of them refuses. 0: any free port, the same on all addresses;
 * an address on which none of several can be had is then left out. IO if there is no address at all. */
int dp_mux_new(mux **out, dp_loop *loop, dp_random random, uint16_t port, bool include_loopback);
/* After all members have left. */
void dp_mux_free(mux *m);
uint16_t dp_mux_port(const mux *m);
/* Adds the mux's addresses to member->pc as local addresses, and takes it in. LIMIT, NO_MEMORY. */
int dp_mux_join(mux *m, mux_member *member);
void dp_mux_leave(mux *m, mux_member *member);
/* The socket bound to local, NULL if there is none. */
dp_udp *dp_mux_socket(const mux *m, const dp_address *local);

#endif
