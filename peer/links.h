/* The sockets that ICE asks for to reach TURN servers, or the peer by TCP (dp_ice_link), on net/'s loop: one
 * connection's own. */
#ifndef PEER_LINKS_H
#define PEER_LINKS_H

#include "peer/accept.h"
#include "peer/network.h"
#include <datapeer/peer_connection.h>

typedef struct links {
    network *network;
    dp_pc *pc;
    dp_log log;
    void (*pump)(void *user); /* something was given to pc: poll it */
    void *user;
    struct link_socket *first;
} links;

/* Opens what a LINK_OPEN event asks for; if that fails pc hears of it. */
void dp_links_open(links *l, const dp_ice_link *link);
/* Takes a stream over that was accepted for pc; false: pc does not want it. */
bool dp_links_accept(links *l, const accepted_stream *stream);
void dp_links_close(links *l, uint32_t id);
void dp_links_clear(links *l);
/* Sends what poll_transmit wrote into a slot of the loop, if slot->link is one of ours. */
void dp_links_send(links *l, dp_datagram *slot);

#endif
