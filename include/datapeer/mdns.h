/* Multicast DNS (RFC 6762) as far as WebRTC's hidden addresses need it: one-shot queries for .local names, answers
 * for names of our own. Sans-IO; one object serves all connections of a process.
 *
 * The owner binds a socket to port 5353 on each interface and each family, joins the group there
 * (dp_udp_open_multicast), adds it with add_socket, moves the datagrams, and after each call that changes
 * something polls until both polls return false. */
#ifndef DATAPEER_MDNS_H
#define DATAPEER_MDNS_H

#include <datapeer/base.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DP_MDNS_PORT     5353
#define DP_MDNS_NAME_MAX 255 /* characters of a name, "x.local" */

typedef struct dp_mdns dp_mdns;

typedef struct dp_mdns_config {
    size_t size;      /* sizeof(dp_mdns_config) */
    dp_random random; /* required */
    dp_log log;
} dp_mdns_config;

/* NO_MEMORY, INVALID_ARGUMENT. */
DP_API int dp_mdns_new(dp_mdns **out, const dp_mdns_config *config);
DP_API void dp_mdns_free(dp_mdns *mdns);

/* A socket, named by its interface's own address (scope set for IPv6 link-local). LIMIT, NO_MEMORY. */
DP_API int dp_mdns_add_socket(dp_mdns *mdns, dp_time now, const dp_address *local);
DP_API void dp_mdns_remove_socket(dp_mdns *mdns, const dp_address *local);

/* Asks for the addresses of name on all sockets; RESULT follows, at once if it is cached. A name that is asked
 * for already is not asked for twice. INVALID_ARGUMENT (not under .local, malformed), LIMIT, NO_MEMORY. */
DP_API int dp_mdns_query(dp_mdns *mdns, dp_time now, const char *name);
/* Answers queries for name with address, on the socket of address's interface (add_socket) or, if it is none of
 * them, on all. LIMIT, INVALID_ARGUMENT, NO_MEMORY. */
DP_API int dp_mdns_publish(dp_mdns *mdns, dp_time now, const char *name, const dp_address *address);
/* NOT_FOUND. */
DP_API int dp_mdns_withdraw(dp_mdns *mdns, dp_time now, const char *name);

DP_API void dp_mdns_input(dp_mdns *mdns, dp_time now, const uint8_t *data, size_t len,
                          const dp_address *local, const dp_address *remote);
DP_API void dp_mdns_handle_timeout(dp_mdns *mdns, dp_time now);
DP_API dp_time dp_mdns_next_timeout(const dp_mdns *mdns);
/* out->local: which socket; out->remote: the group, or whoever asked. */
DP_API bool dp_mdns_poll_transmit(dp_mdns *mdns, dp_time now, dp_datagram *out);

#define DP_MDNS_MAX_ADDRESSES 8

/* The end of a query. */
typedef struct dp_mdns_result {
    char name[DP_MDNS_NAME_MAX + 1];
    dp_address addresses[DP_MDNS_MAX_ADDRESSES]; /* port 0; scope set for link-local ones */
    size_t count;                                /* 0: nobody answered in time */
} dp_mdns_result;

DP_API bool dp_mdns_poll_result(dp_mdns *mdns, dp_mdns_result *out);

#ifdef __cplusplus
}
#endif
#endif
