#include "path_mtu.h"

#include <string.h>

#define MAX_PROBES  3u
#define PROBE_TIMER DP_SECONDS(1) /* RFC 8899 §5.1.1: not less */
#define RAISE_TIMER DP_SECONDS(600)
#define BLACK_HOLE  DP_SECONDS(3) /* several retransmission timeouts */

/* MTUs of links and tunnels that are in use; what is between two of them is not worth probes. */
static const uint16_t link_mtus[] = {1280, 1340, 1380, 1400, 1420, 1440, 1460, 1472, 1480,
                                     1492, 1500, 2304, 4352, 7981, 8900, 9000, 12000};
/* From a link's MTU to the size of a packet in it: IPv6, UDP, DTLS. */
#define HEADERS 85u

static size_t packet_size(size_t link) { return (link_mtus[link] - HEADERS) & ~(size_t)3; }

void dp_path_mtu_init(dp_path_mtu *p, size_t base) { *p = (dp_path_mtu){.base = base, .current = base}; }

static void search_ends(dp_path_mtu *p, dp_time now)
{
    p->state = DP_PATH_MTU_COMPLETE;
    p->deadline = now + RAISE_TIMER;
}

static void try_size(dp_path_mtu *p, dp_time now, size_t size)
{
    p->probed = size;
    p->probes = 0;
    p->deadline = now;
    p->fresh = true;
}

/* The middle one of the sizes that are left. */
static void try_next(dp_path_mtu *p, dp_time now)
{
    size_t first = 0, end = sizeof link_mtus / sizeof link_mtus[0];
    while (first < end && packet_size(first) <= p->current)
        first++;
    while (end > first && packet_size(end - 1) >= p->too_large)
        end--;
    if (first == end)
        search_ends(p, now);
    else
        try_size(p, now, packet_size(first + (end - first) / 2));
}

static void search(dp_path_mtu *p, dp_time now)
{
    p->state = p->current < p->ceiling ? DP_PATH_MTU_SEARCHING : DP_PATH_MTU_BASE;
    p->too_large = p->ceiling + 1;
    if (p->state == DP_PATH_MTU_SEARCHING)
        try_size(p, now, p->ceiling); /* most paths take what the interface takes */
}

void dp_path_mtu_set_ceiling(dp_path_mtu *p, dp_time now, size_t ceiling)
{
    p->ceiling = ceiling & ~(size_t)3;
    p->current = p->base;
    p->progress = now;
    search(p, now);
}

void dp_path_mtu_raise_ceiling(dp_path_mtu *p, dp_time now, size_t ceiling)
{
    bool failed = p->too_large <= p->ceiling;
    if (ceiling <= p->ceiling + 3)
        return;
    p->ceiling = ceiling & ~(size_t)3;
    if (!failed)
        search(p, now);
}

bool dp_path_mtu_poll(dp_path_mtu *p, dp_time now, size_t *size, bool *fresh)
{
    if (p->state == DP_PATH_MTU_BASE || now < p->deadline)
        return false;
    if (p->state == DP_PATH_MTU_COMPLETE) {
        search_ends(p, now);
        if (p->current == p->ceiling)
            return false;
        search(p, now);
    } else if (p->probes == MAX_PROBES) {
        p->too_large = p->probed;
        try_next(p, now);
    }
    if (p->state != DP_PATH_MTU_SEARCHING)
        return false;
    *size = p->probed;
    *fresh = p->fresh;
    p->fresh = false;
    p->probes++;
    p->deadline = now + PROBE_TIMER;
    return true;
}

bool dp_path_mtu_acked(dp_path_mtu *p, dp_time now, const uint8_t *nonce, size_t len)
{
    if (p->state != DP_PATH_MTU_SEARCHING || p->probes == 0 || len != sizeof p->nonce ||
        memcmp(nonce, p->nonce, sizeof p->nonce) != 0)
        return false;
    p->current = p->probed;
    p->progress = now;
    if (p->current == p->ceiling)
        search_ends(p, now);
    else
        try_next(p, now);
    return true;
}

bool dp_path_mtu_watch(dp_path_mtu *p, dp_time now, bool progress)
{
    if (progress || p->current == p->base)
        p->progress = now;
    if (now - p->progress < BLACK_HOLE)
        return false;
    p->current = p->base;
    p->progress = now;
    search(p, now);
    return true;
}
