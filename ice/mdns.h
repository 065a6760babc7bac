/* The parts of the mDNS object: mdns_ask.c asks, mdns_answer.c answers, mdns.c has the sockets and the way in. */
#ifndef ICE_MDNS_H
#define ICE_MDNS_H

#include "base/queue.h"
#include "dns.h"
#include <datapeer/mdns.h>

enum {
    DP_MDNS_SOCKETS_MAX = 32, /* bits of a uint32_t */
    DP_MDNS_ASKED_MAX = 32,   /* queries in flight */
    DP_MDNS_CACHED_MAX = 64,  /* names; those in flight come on top when they end */
    DP_MDNS_OWN_MAX = 64,     /* bits of a uint64_t */
    DP_MDNS_REPLIES_MAX = 16, /* unicast answers: a second, and waiting */
    DP_MDNS_REPLY_SIZE = 512, /* RFC 1035 §4.2.1: what each legacy resolver takes */
};
#define DP_MDNS_TTL 120u /* seconds; RFC 6762 §10: of records with a host name */

enum { DP_MDNS_FAMILY_A, DP_MDNS_FAMILY_AAAA, DP_MDNS_FAMILIES };

/* A name that is asked for, or whose addresses are remembered. */
typedef struct dp_mdns_remote {
    char name[DP_DNS_NAME_MAX + 1];
    enum { DP_MDNS_ASKING, DP_MDNS_READY, DP_MDNS_CACHED } state; /* READY: poll_result has to tell */
    unsigned rounds;                                              /* that were begun */
    uint32_t unsent[DP_MDNS_FAMILIES]; /* the sockets that this round's question still has to leave on */
    bool settled[DP_MDNS_FAMILIES];    /* answered, or denied */
    dp_time next_at;                   /* ASKING: of the next round, or the end */
    size_t count;
    struct {
        dp_address address;
        dp_time received_at;
        dp_time expires_at;
    } addresses[DP_MDNS_MAX_ADDRESSES];
} dp_mdns_remote;

/* A record that we publish. Once withdrawn it says goodbye where it was heard, then it goes. */
typedef struct dp_mdns_own {
    char name[DP_DNS_NAME_MAX + 1];
    dp_address address;
    bool withdrawn;
    unsigned asked;                       /* during dp_mdns_input */
    uint32_t sent;                        /* the sockets it was multicast on... */
    dp_time sent_at[DP_MDNS_SOCKETS_MAX]; /* ...and when */
    dp_time due[DP_MDNS_SOCKETS_MAX];     /* of its next multicast, or NEVER */
} dp_mdns_own;

typedef struct dp_mdns_reply {
    dp_address local;
    dp_address remote;
    size_t len;
    uint8_t data[DP_MDNS_REPLY_SIZE];
} dp_mdns_reply;

struct dp_mdns {
    dp_random random;
    dp_log log;
    uint32_t sockets; /* which of the addresses are in use */
    dp_address locals[DP_MDNS_SOCKETS_MAX];
    dp_mdns_remote *remote;
    size_t remote_count;
    size_t remote_capacity;
    dp_mdns_own *own;
    size_t own_count;
    size_t own_capacity;
    dp_queue replies; /* of dp_mdns_reply */
    dp_time replies_from;
    size_t replies_since;
};

/* ---- sockets and names (mdns.c) ---- */

bool dp_mdns_in_use(const dp_mdns *mdns, size_t socket);
/* By its address without the port; DP_MDNS_SOCKETS_MAX: there is none. */
size_t dp_mdns_find_socket(const dp_mdns *mdns, const dp_address *local);
/* The group of a socket. */
void dp_mdns_group(dp_address *out, const dp_address *local);
/* Host names (RFC 1123 §2.1, and the underscore that some devices use) under .local. */
bool dp_mdns_name_valid(const char *name);
/* Something that can be connected to: nobody else's multicast, nobody's own loopback. */
bool dp_mdns_address_useful(const dp_address *address);

/* ---- asking (mdns_ask.c) ---- */

void dp_mdns_ask_on(dp_mdns *mdns, size_t socket); /* a new socket */
void dp_mdns_ask_take(dp_mdns *mdns, dp_time now, const dp_dns_record *record, const dp_address *local);
void dp_mdns_ask_timeout(dp_mdns *mdns, dp_time now);
dp_time dp_mdns_ask_next(const dp_mdns *mdns);
bool dp_mdns_ask_write(dp_mdns *mdns, dp_datagram *out);

/* ---- answering (mdns_answer.c) ---- */

void dp_mdns_answer_on(dp_mdns *mdns, dp_time now, size_t socket); /* a new socket */
void dp_mdns_answer_off(dp_mdns *mdns, size_t socket);             /* it is gone */
void dp_mdns_answer_take(dp_mdns *mdns, dp_time now, size_t socket, dp_dns_message *message,
                         const dp_address *remote);
dp_time dp_mdns_answer_next(const dp_mdns *mdns);
bool dp_mdns_answer_write_reply(dp_mdns *mdns, dp_datagram *out);
bool dp_mdns_answer_write(dp_mdns *mdns, dp_time now, dp_datagram *out);

#endif
