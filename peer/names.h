/* mDNS on net/'s loop, one for all connections of a peer: sockets on all interfaces, questions, and names of our own. */
#ifndef PEER_NAMES_H
#define PEER_NAMES_H

#include <datapeer/mdns.h>
#include <datapeer/net.h>

typedef struct names names;

/* A connection that asks or publishes; lives in its owner's struct. */
typedef struct names_user {
    /* Later, from the loop. count 0: nobody answered. Must not call names. */
    void (*on_result)(void *user, const char *name, const dp_address *addresses, size_t count);
    void *user;
} names_user;

int dp_names_new(names **out, dp_loop *loop, dp_random random, dp_log log);
void dp_names_free(names *n);
/* Opens sockets on addresses that are new, closes those of others. */
void dp_names_update(names *n, const dp_address *addresses, size_t count);
/* on_result follows. Errors: see dp_mdns_query. */
int dp_names_ask(names *n, names_user *user, const char *name);
int dp_names_publish(names *n, names_user *user, const char *name, const dp_address *address);
/* Withdraws what user has published, and answers it no more. */
void dp_names_leave(names *n, names_user *user);

#endif
