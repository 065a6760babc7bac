/* A peer connection that runs on a dp_loop: its sockets, its timer, links to TURN servers, mDNS names, network changes.
 * What it carries is <datapeer/peer_connection.h>, which also runs under any other loop (examples/foreign_poll.c).
 *
 * Order of calls: new; then the functions of dp_pc and dp_channel on what dp_pc_loop_pc gives, and dp_pc_loop_wake after
 * those that change something, unless they are called from on_event or on_writable. */
#ifndef DATAPEER_PC_LOOP_H
#define DATAPEER_PC_LOOP_H

#include <datapeer/net.h>
#include <datapeer/peer_connection.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dp_pc_loop dp_pc_loop;

typedef struct dp_pc_loop_config {
    size_t size;     /* sizeof(dp_pc_loop_config) */
    dp_loop *loop;   /* required; borrowed as long as the object lives */
    dp_pc_config pc; /* as for dp_pc_new; what stands behind it moves when that grows: build anew */
    bool include_loopback;
    const dp_address *bind_addresses; /* if there are any, no other address is used; copied */
    size_t bind_count;
    uint16_t port_min; /* both 0: any port */
    uint16_t port_max;
    const char *turn_ca_file; /* PEM; NULL: the system's */
    /* Each event but those that are the loop's own work (LINK_*, RESOLVE, PUBLISH). Everything may be called from it
     * except dp_pc_loop_free. */
    void (*on_event)(void *user, const dp_pc_event *event);
    /* After a round of events, before datagrams leave: the time to send more. May be NULL. */
    void (*on_writable)(void *user);
    void *user;
} dp_pc_loop_config;

/* Opens a UDP port on every address of this machine. INVALID_ARGUMENT, NO_MEMORY, IO, and what dp_pc_new says. */
DP_API int dp_pc_loop_new(dp_pc_loop **out, const dp_pc_loop_config *config);
/* Closes the connection (the peer is told) and frees it. Not from a callback: use dp_defer. */
DP_API void dp_pc_loop_free(dp_pc_loop *run);
DP_API dp_pc *dp_pc_loop_pc(const dp_pc_loop *run);
/* Something was changed from outside: events are given out and datagrams sent later in this round of the loop. */
DP_API void dp_pc_loop_wake(dp_pc_loop *run);

#ifdef __cplusplus
}
#endif
#endif
