/* The options about the network: STUN and TURN servers, what to hide, addresses and ports. */
#ifndef APPS_NETWORK_H
#define APPS_NETWORK_H

#include <datapeer/datapeer.h>

enum { NETWORK_MAX_BINDS = 16 };

typedef struct network_options {
    const char *urls[DP_PEER_MAX_ICE_SERVERS]; /* --ice-server, as given */
    size_t url_count;
    const char *turn_user; /* --turn-user or TURN_USER: USER:PASSWORD, or NULL */
    const char *turn_ca;
    bool tcp;
    bool relay_only;
    bool hide_addresses;
    bool lite;
    dp_address binds[NETWORK_MAX_BINDS];
    size_t bind_count;
    uint16_t port; /* --port or 0 */
    bool port_given;
    uint16_t port_min;
    uint16_t port_max;
    size_t datagram_size; /* --mtu or 0 */
} network_options;

/* What --ice-server's URLs come to; the texts in servers point into it. */
typedef struct ice_servers {
    dp_ice_server servers[DP_PEER_MAX_ICE_SERVERS];
    size_t count;
    size_t missing; /* URLs whose host was not found */
    dp_ice_url urls[DP_PEER_MAX_ICE_SERVERS];
    char username[DP_ICE_CREDENTIAL_MAX + 1];
    char credential[DP_ICE_CREDENTIAL_MAX + 1];
} ice_servers;

/* The help of these options. */
extern const char network_help[];

/* Each takes one option's text; false: it is wrong, and that was printed. */
bool network_add_server(network_options *o, const char *url);
bool network_add_bind(network_options *o, const char *address);
bool network_set_port(network_options *o, const char *text);
bool network_set_port_range(network_options *o, const char *text);
bool network_set_mtu(size_t *out, const char *text);
/* What only all options together show; command is "serve"... */
bool network_check(const network_options *o, const char *command);

/* Asks for the addresses of all servers (this blocks). One that can't be found is left out with a warning. False:
 * nothing is left that could work; printed. */
bool network_resolve(ice_servers *out, const network_options *o);

#endif
