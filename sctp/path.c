#include "path.h"

#include "base/crypto.h"
#include "base/mem.h"
#include "base/wr.h"
#include "chunk.h"
#include "filter.h"

#include <string.h>

#define PROBE_HEADERS  (DP_SCTP_COMMON_HEADER + 2 * DP_SCTP_CHUNK_HEADER + DP_PATH_MTU_NONCE)
#define HEARTBEAT_INFO 1u /* RFC 9260 §3.3.5 */
#define FALLS_MAX      32u
#define ORDINARY_MAX   1432u /* in 1,500 bytes of IPv4, UDP and DTLS */

void dp_path_init(dp_path *p, size_t base)
{
    memset(p, 0, sizeof *p);
    dp_path_mtu_init(&p->mtu, base);
    p->size = base;
}

void dp_path_clear(dp_path *p)
{
    dp_free(p->probe);
    p->probe = NULL;
}

/* INIT has no tag, and ABORT's may be the peer's own. */
void dp_path_output(dp_path *p, const uint8_t *packet, size_t len)
{
    uint8_t first = len > DP_SCTP_COMMON_HEADER ? packet[DP_SCTP_COMMON_HEADER] : (uint8_t)DP_CHUNK_INIT;
    if (!dp_chunk_is_data(first) && first != DP_CHUNK_SACK && first != DP_CHUNK_COOKIE_ECHO &&
        first != DP_CHUNK_COOKIE_ACK)
        return;
    memcpy(p->header, packet, sizeof p->header);
    p->has_header = true;
}

/* A smaller path MTU makes usrsctp look at what it has cut, and send again at once, in IP fragments, what is larger: but
 * only if it is below the smallest that it knows, else that waits for its timeout. So each fall goes 4 bytes below the
 * last. */
static void fall(dp_path *p)
{
    p->falls++;
    p->size = p->mtu.base - 4 * (size_t)p->falls;
}

bool dp_path_change(dp_path *p, dp_time now, size_t ceiling, const dp_random *random)
{
    p->random = *random;
    bool was_raised = p->mtu.current > p->mtu.base;
    p->ceiling = p->falls < FALLS_MAX ? ceiling : 0;
    bool may_take_less = !p->peer_probes && p->ceiling > ORDINARY_MAX;
    dp_path_mtu_set_ceiling(&p->mtu, now, may_take_less ? ORDINARY_MAX : p->ceiling);
    if (was_raised)
        fall(p);
    return was_raised;
}

/* What usrsctp is told does not count: where only small packets pass, it hears that the large ones have, too. */
bool dp_path_watch(dp_path *p, dp_time now, uint32_t acked, bool idle)
{
    bool progress = idle || acked != p->seen_tsn;
    p->seen_tsn = acked;
    if (!dp_path_mtu_watch(&p->mtu, now, progress))
        return false;
    fall(p);
    if (p->falls >= FALLS_MAX) {
        p->ceiling = 0;
        dp_path_mtu_set_ceiling(&p->mtu, now, 0);
    }
    return true;
}

/* RFC 8899 §6.2.1: a HEARTBEAT that PAD (RFC 4820) makes as large as the packets to be. Who does not know PAD skips
 * it. usrsctp takes no HEARTBEAT ACK of another length than its own. */
bool dp_path_poll_probe(dp_path *p, dp_time now, const uint8_t **packet, size_t *len)
{
    bool fresh;
    dp_path_clear(p);
    if (!p->has_header || !dp_path_mtu_poll(&p->mtu, now, len, &fresh))
        return false;
    if (fresh && dp_random_bytes(&p->random, p->mtu.nonce, sizeof p->mtu.nonce) != DP_OK)
        return false;
    p->probe = (uint8_t *)dp_calloc(1, *len);
    if (p->probe == NULL)
        return false;
    dp_wr wr = dp_wr_init(p->probe, *len);
    dp_wr_bytes(&wr, p->header, sizeof p->header);
    dp_wr_u32(&wr, 0);
    dp_wr_u8(&wr, DP_CHUNK_HEARTBEAT);
    dp_wr_u8(&wr, 0);
    dp_wr_u16(&wr, PROBE_HEADERS - DP_SCTP_COMMON_HEADER);
    dp_wr_u16(&wr, HEARTBEAT_INFO);
    dp_wr_u16(&wr, DP_SCTP_CHUNK_HEADER + DP_PATH_MTU_NONCE);
    dp_wr_bytes(&wr, p->mtu.nonce, sizeof p->mtu.nonce);
    dp_wr_u8(&wr, DP_CHUNK_PAD);
    dp_wr_u8(&wr, 0);
    dp_wr_u16(&wr, (uint16_t)(*len - PROBE_HEADERS));
    dp_sctp_checksum_write(p->probe, *len);
    *packet = p->probe;
    return true;
}

/* Larger records than an Ethernet's are poison for some stacks: aiortc 1.4.0 reads 1,500 bytes for each datagram, and what is
 * left of a record delays all that follows. Who sends PAD probes itself takes any size. */
static void saw_probe(dp_path *p, dp_time now)
{
    if (p->peer_probes)
        return;
    p->peer_probes = true;
    if (p->ceiling > ORDINARY_MAX)
        dp_path_mtu_raise_ceiling(&p->mtu, now, p->ceiling);
}

static bool is_probe_answer(dp_path *p, dp_time now, dp_rd info)
{
    uint16_t type;
    dp_rd value;
    return dp_chunk_item_next(&info, &type, &value) && type == HEARTBEAT_INFO &&
           dp_path_mtu_acked(&p->mtu, now, value.at, dp_rd_left(&value));
}

bool dp_path_input(dp_path *p, dp_time now, const uint8_t *packet, size_t len)
{
    dp_rd chunks = dp_chunks(packet, len);
    dp_chunk chunk;
    bool raised = false;
    while (dp_chunk_next(&chunks, &chunk))
        if (chunk.type == DP_CHUNK_PAD)
            saw_probe(p, now);
        else if (chunk.type == DP_CHUNK_HEARTBEAT_ACK)
            raised |= is_probe_answer(p, now, chunk.value);
    if (raised)
        p->size = p->mtu.current;
    return raised;
}
