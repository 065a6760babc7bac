/* This machine's network as all connections of a peer share it: which addresses there are, now and later, the ports
 * that may be used, and mDNS. Muxes stand on it; it must outlive them. */
#ifndef PEER_NETWORK_H
#define PEER_NETWORK_H

#include "peer/names.h"
#include <datapeer/net.h>

enum { NETWORK_MAX_ADDRESSES = 16 };

typedef struct network {
    dp_loop *loop;
    dp_random random;
    dp_log log;
    bool include_loopback;
    dp_address *bind; /* if there are any, no other address is used */
    size_t bind_count;
    uint16_t port_min; /* both 0: any port */
    uint16_t port_max;
    bool tcp;
    char *turn_ca_file;
    dp_key_log key_log;
    void (*on_change)(void *user, bool lost);
    void *user;

    dp_address addresses[NETWORK_MAX_ADDRESSES];
    size_t address_count;
    dp_interface_watch *watch;
    struct mux *muxes;
    names *names; /* made when the first name is asked for or published */
} network;

typedef struct network_config {
    dp_loop *loop;
    dp_random random;
    dp_log log;
    bool include_loopback;
    const dp_address *bind_addresses; /* copied, as turn_ca_file is */
    size_t bind_count;
    uint16_t port_min;
    uint16_t port_max;
    bool tcp; /* a TCP port beside each UDP port */
    const char *turn_ca_file;
    dp_key_log key_log; /* of TLS to TURN servers */
    /* Addresses came or, if lost is true, went, and the muxes know it already. May be NULL. */
    void (*on_change)(void *user, bool lost);
    void *user;
} network_config;

/* Watches the interfaces from now on. IO, NO_MEMORY. */
int dp_network_new(network **out, const network_config *config);
/* True if address, whatever its port, is one of addresses. */
bool dp_network_has(const network *n, const dp_address *address);
/* After all muxes. */
void dp_network_free(network *n);
/* What the watch calls: the muxes and mDNS open sockets on new addresses and close those of old ones. */
void dp_network_set_addresses(network *n, const dp_address *addresses, size_t count);
/* NULL: no memory. */
names *dp_network_names(network *n);

#endif
