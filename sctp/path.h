/* The path under an association: how large its packets may be. path_mtu.h decides what to try and when; here are the
 * probes themselves, what is read of the peer's, and what usrsctp is to be told. Sizes are those of SCTP packets,
 * common header included. */
#ifndef SCTP_PATH_H
#define SCTP_PATH_H

#include "path_mtu.h"

typedef struct dp_path {
    dp_path_mtu mtu;
    size_t size;    /* what usrsctp is to be told */
    size_t ceiling; /* beyond an Ethernet's only if the peer probes, too */
    bool peer_probes;
    unsigned falls;    /* of the size */
    uint32_t seen_tsn; /* the newest that was acknowledged when the path was last watched */
    uint8_t *probe;    /* the last one */
    uint8_t header[8]; /* ports and verification tag of what we send */
    bool has_header;
    dp_random random;
} dp_path;

void dp_path_init(dp_path *path, size_t base);
void dp_path_clear(dp_path *path);

/* These return true if size has changed, so that usrsctp is to be told. */

/* Another path, see dp_sctp_set_path. */
bool dp_path_change(dp_path *path, dp_time now, size_t ceiling, const dp_random *random);
/* A sound packet from the peer. */
bool dp_path_input(dp_path *path, dp_time now, const uint8_t *packet, size_t len);
/* Told often. acked: the newest TSN that the peer has acknowledged; idle: nothing is under way. */
bool dp_path_watch(dp_path *path, dp_time now, uint32_t acked, bool idle);

/* A packet that usrsctp sends. */
void dp_path_output(dp_path *path, const uint8_t *packet, size_t len);
/* True: a probe is to be sent now; it lives until the next call. */
bool dp_path_poll_probe(dp_path *path, dp_time now, const uint8_t **packet, size_t *len);

#endif
