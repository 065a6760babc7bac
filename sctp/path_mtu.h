/* Path MTU discovery by probes (RFC 8899; for SCTP its §6.2): which size to try next, and what size new packets may
 * have. Pure: it is told what happens and when. All sizes are those of SCTP packets, common header included.
 *
 *            set_ceiling                 acked, or 3 probes lost: nothing left to try
 *    BASE ---------------> SEARCHING ------------------------------------------------> COMPLETE
 *      ^                    ^     |                                                      |   |
 *      |     next size      +-----+                 after 600 s, if it can be larger     |   |
 *      |                    ^------------------------------------------------------------+   |
 *      +-- set_ceiling (another path) -- black hole: data is not acknowledged any more ------+
 *
 * RFC 8899's ERROR state is missing: the base size is what the DTLS handshake has passed with, and packets may be
 * fragmented by IP below it. */
#ifndef SCTP_PATH_MTU_H
#define SCTP_PATH_MTU_H

#include <datapeer/base.h>

#define DP_PATH_MTU_NONCE 16u

typedef enum dp_path_mtu_state {
    DP_PATH_MTU_BASE, /* no search: the ceiling is not above the base */
    DP_PATH_MTU_SEARCHING,
    DP_PATH_MTU_COMPLETE,
} dp_path_mtu_state;

typedef struct dp_path_mtu {
    dp_path_mtu_state state;
    size_t base;
    size_t ceiling;
    size_t current;                   /* packets may be so large */
    size_t too_large;                 /* the smallest size that has failed, or one that is over the ceiling */
    size_t probed;                    /* the size that is being tried */
    unsigned probes;                  /* of it that were sent */
    dp_time deadline;                 /* of the probe, or of the next search */
    dp_time progress;                 /* when data was last acknowledged, or nothing was under way */
    bool fresh;                       /* probed needs a nonce */
    uint8_t nonce[DP_PATH_MTU_NONCE]; /* one for all probes of a size: a late answer counts, too */
} dp_path_mtu;

void dp_path_mtu_init(dp_path_mtu *p, size_t base);
/* A path begins, whose interface takes packets up to ceiling: back to the base, and the search begins. */
void dp_path_mtu_set_ceiling(dp_path_mtu *p, dp_time now, size_t ceiling);
/* The interface takes more than was told: what has been found stays, and the search begins again, unless a smaller size has
 * failed already. */
void dp_path_mtu_raise_ceiling(dp_path_mtu *p, dp_time now, size_t ceiling);
/* True: a probe of *size bytes is to be sent now, and counts as sent. With *fresh, the owner makes p->nonce first. */
bool dp_path_mtu_poll(dp_path_mtu *p, dp_time now, size_t *size, bool *fresh);
/* The answer to a probe with this nonce. True: it was one of ours, and current is larger than before. */
bool dp_path_mtu_acked(dp_path_mtu *p, dp_time now, const uint8_t *nonce, size_t len);
/* Told often: whether data has been acknowledged since the last time, or none is under way. True: it has not for too
 * long, and current has fallen to the base. */
bool dp_path_mtu_watch(dp_path_mtu *p, dp_time now, bool progress);

#endif
