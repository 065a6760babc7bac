/* The only file that knows usrsctp. It is one per process, is driven from one thread, and calls us back while
 * it holds locks: so its callbacks only queue or set a flag (calling it from the output callback deadlocks).
 */
#include "association.h"

#include "base/crypto.h"
#include "base/mem.h"
#include "base/table.h"
#include "base/wr.h"
#include "chunk.h"
#include "delivery.h"
#include "early.h"
#include "filter.h"
#include "forward.h"
#include "output.h"
#include "path_mtu.h"
#include "repair.h"
#include "sender.h"

#include <string.h>
#include <usrsctp.h>

#define TICK             DP_MS(10) /* a timer re-armed inside a tick waits for the next one, so ticks are short */
#define TICK_MIN_MS      5u /* associations tick out of phase: not more often than this for all of them */
#define IDLE_TICK        DP_MS(200) /* nothing in flight: only heartbeats (30 s) are due */
#define IDLE_AFTER       DP_MS(500) /* longer than the delayed SACK, here and at the peer */
#define SACK_DELAY_MS    20u
#define RTO_INITIAL_MS   500u
#define RTO_MIN_MS       250u  /* over the peer's delayed SACK of 200 ms, else a lone packet is sent twice */
#define RTO_MIN_BULK_MS  2000u /* at most */
#define BULK_ROUND_TRIPS 20u
#define BULK_CHUNKS      32u
#define RTO_MAX_MS       5000u
#define MAX_RETRANSMIT   10u
#define MAX_INIT         8u
#define MAX_CHUNKS_QUEUE 4096u
#define SACK_HEADER      16u
#define NOTICES_MAX      1024u
#define WIDEN_STEP       32768u
#define WIDEN_EVERY      DP_MS(400)
#define WIDE_BUFFER      (1u << 30)
#define UNREAD_MAX       16384u /* chunks: usrsctp spends up to 420 bytes on one, and its window counts payload */
#define OUTPUT_EXTRA     65536u
#define PROBE_HEADERS    (DP_SCTP_COMMON_HEADER + 2 * DP_SCTP_CHUNK_HEADER + DP_PATH_MTU_NONCE)
#define HEARTBEAT_INFO   1u /* RFC 9260 §3.3.5 */
#define FALLS_MAX        32u
#define ORDINARY_MAX     1432u    /* in 1,500 bytes of IPv4, UDP and DTLS */
#define WORTH_REPAIR     DP_MS(2) /* below, usrsctp recovers from a loss in no time */
#define SPAN_MAX         4000u /* TSNs: what usrsctp at the other end can tell apart, less what waits in ours */
#define TRIES_STALLED    3u

/* All of usrsctp's state is global, so is this. */
static struct {
    bool started;
    dp_table associations; /* id to dp_association: what usrsctp takes for an address is a number, never a
                              pointer */
    uint64_t last_id;
    dp_time last_tick;
} stack;

struct dp_association {
    uint64_t id;
    struct socket *socket;
    struct sockaddr_conn remote;
    uint16_t local_port;
    bool registered;
    bool up;
    bool down;
    bool readable;
    bool in_flight; /* sent data may be unacknowledged */
    bool bulk;      /* much is under way, or the rest of it */
    uint32_t rto_min;
    bool partial;   /* messages may be given up */
    dp_time ticked; /* last tick of this association: another's must not put off its own */
    dp_time active_until;
    dp_time now;     /* of the last call that told it */
    size_t fragment; /* the largest that fits into a packet */
    dp_forward forward;
    dp_sender sender;
    dp_repair repair;
    bool measured; /* a round trip */
    dp_early_reset early;
    dp_early_reset
        held; /* our own request: the peer does not have all its data yet, though usrsctp thinks so */
    dp_delivery delivery;
    size_t message_max;  /* usrsctp keeps smaller messages until they are whole, */
    size_t delivery_max; /* and larger ones at most up to this */
    bool delivers;       /* beyond message_max, that is */
    size_t send_buffer;
    dp_time refused_at;
    size_t receive_buffer;
    unsigned notices; /* put into it though it may have been full, since there was nothing to read */
    size_t unread;    /* chunks since usrsctp had nothing to read, at most */
    bool refused;     /* the peer was told that the window is closed, and usrsctp does not know */
    uint8_t sack[DP_SCTP_COMMON_HEADER + SACK_HEADER]; /* usrsctp's last one, gap blocks left out */
    bool has_sack;
    dp_output output;
    dp_random random;
    dp_path_mtu path;
    size_t path_ceiling; /* beyond ORDINARY_MAX only if the peer probes, too */
    bool peer_probes;
    unsigned falls;    /* of the path MTU, see apply_path_mtu */
    uint32_t seen_tsn; /* the newest that was acknowledged when path was last told */
    uint8_t *probe;    /* the last one */
    uint8_t header[8]; /* ports and verification tag of what we send */
    bool has_header;
};

/* ---- the output -------------------------------------------------------------------------------- */

static size_t mtu_of(const dp_association *a)
{
    return DP_SCTP_COMMON_HEADER + DP_SCTP_DATA_HEADER + a->fragment;
}

/* RFC 9260 §3.3.4: length 16, cumulative TSN, a_rwnd, no gap blocks, no duplicates. */
static void keep_sack(dp_association *a, const uint8_t *packet, size_t len)
{
    if (len < sizeof a->sack || packet[DP_SCTP_COMMON_HEADER] != SCTP_SELECTIVE_ACK)
        return;
    memcpy(a->sack, packet, sizeof a->sack);
    memset(a->sack + DP_SCTP_COMMON_HEADER + 1, 0, 2);
    a->sack[DP_SCTP_COMMON_HEADER + 3] = SACK_HEADER;
    memset(a->sack + DP_SCTP_COMMON_HEADER + 12, 0, 4);
    a->has_sack = true;
}

/* INIT has no tag, and ABORT's may be the peer's own. */
static void keep_header(dp_association *a, const uint8_t *packet, size_t len)
{
    uint8_t first = len > DP_SCTP_COMMON_HEADER ? packet[DP_SCTP_COMMON_HEADER] : (uint8_t)DP_CHUNK_INIT;
    if (first != DP_CHUNK_DATA && first != DP_CHUNK_SACK && first != DP_CHUNK_COOKIE_ECHO &&
        first != DP_CHUNK_COOKIE_ACK)
        return;
    memcpy(a->header, packet, sizeof a->header);
    a->has_header = true;
}

static bool has_chunk(const uint8_t *packet, size_t len, uint8_t type)
{
    dp_rd chunks = dp_chunks(packet, len);
    dp_chunk chunk;
    while (dp_chunk_next(&chunks, &chunk))
        if (chunk.type == type)
            return true;
    return false;
}

/* usrsctp believes that the peer has what repair.c is still sending: what builds on that waits. FORWARD-TSN would make the
 * peer skip it, a stream reset comes when all is acknowledged (RFC 6525 §5.1.2), SHUTDOWN ACK ends the association; that one
 * usrsctp repeats. A packet that is lost for want of memory is like any other: its DATA is sent again. */
static void leave(dp_association *a, const uint8_t *packet, size_t len, size_t mtu)
{
    uint8_t *cut, *rest;
    if (has_chunk(packet, len, DP_CHUNK_SHUTDOWN_ACK) ||
        dp_repair_hold_forward(&a->repair, &cut, packet, &len) != DP_OK)
        return;
    packet = cut != NULL ? cut : packet;
    size_t rest_len;
    if (dp_early_reset_take(&a->held, &rest, &rest_len, packet, len, a->repair.copies.acked) != DP_OK)
        len = 0; /* lost: usrsctp asks again */
    if (rest != NULL) {
        packet = rest;
        len = rest_len;
    }
    if (len > DP_SCTP_COMMON_HEADER)
        dp_output_add(&a->output, packet, len, mtu);
    dp_free(cut);
    dp_free(rest);
}

/* usrsctp's output callback: queues a copy and takes notes, nothing else. */
static int on_output(void *address, void *packet, size_t len, uint8_t tos, uint8_t set_df)
{
    (void)tos;
    (void)set_df;
    uint64_t id = (uint64_t)(uintptr_t)address;
    dp_association *a = (dp_association *)dp_table_get(&stack.associations, &id, sizeof id);
    if (a == NULL || len < DP_SCTP_COMMON_HEADER || len > UINT16_MAX)
        return 0;
    bool leaves = dp_forward_output(&a->forward, (const uint8_t *)packet, len);
    uint64_t repeated = a->sender.chunks_retransmitted;
    dp_sender_output(&a->sender, a->now, (const uint8_t *)packet, len);
    dp_repair_output(&a->repair, a->now, (const uint8_t *)packet, len);
    keep_sack(a, (const uint8_t *)packet, len);
    keep_header(a, (const uint8_t *)packet, len);
    /* The TSNs of a packet ascend (RFC 9260 §6.10), which those of a repeated chunk behind new ones would not. */
    bool is_new = repeated == a->sender.chunks_retransmitted;
    if (leaves && a->repair.owned > 0 && len > DP_SCTP_COMMON_HEADER)
        leave(a, (const uint8_t *)packet, len, is_new ? mtu_of(a) : 0);
    else if (leaves)
        dp_output_add(&a->output, (const uint8_t *)packet, len, is_new ? mtu_of(a) : 0);
    return 0;
}

bool dp_association_poll_transmit(dp_association *a, const uint8_t **packet, size_t *len)
{
    return dp_output_poll(&a->output, packet, len);
}

/* ---- the stack --------------------------------------------------------------------------------- */

static void stack_start(void)
{
    if (stack.started)
        return;
    stack.started = true;
    usrsctp_tunable_set_sctp_pcbtblsize(1); /* of each socket's table of associations: it has one */
    usrsctp_init_nothreads(0, on_output, NULL);
    usrsctp_enable_crc32c_offload();
    usrsctp_sysctl_set_sctp_blackhole(2); /* no ABORT in answer to packets of no association */
    usrsctp_sysctl_set_sctp_no_csum_on_loopback(0);
    usrsctp_sysctl_set_sctp_asconf_enable(0);
    usrsctp_sysctl_set_sctp_auto_asconf(0);
    usrsctp_sysctl_set_sctp_auth_enable(0);
    usrsctp_sysctl_set_sctp_ecn_enable(0);
    usrsctp_sysctl_set_sctp_pr_enable(1);
    usrsctp_sysctl_set_sctp_nrsack_enable(0);
    usrsctp_sysctl_set_sctp_pktdrop_enable(0);
    usrsctp_sysctl_set_sctp_reconfig_enable(1);
    usrsctp_sysctl_set_sctp_initial_cwnd(10);
    usrsctp_sysctl_set_sctp_use_cwnd_based_maxburst(0); /* it would make the window smaller */
    usrsctp_sysctl_set_sctp_delayed_sack_time_default(SACK_DELAY_MS);
    /* 512 chunks would cap what is in flight at 0.6 MB, whatever the send buffer is; it also bounds how many
     * fragments a peer can leave lying about. */
    usrsctp_sysctl_set_sctp_max_chunks_on_queue(MAX_CHUNKS_QUEUE);
}

static void stack_tick(dp_time now)
{
    if (now <= stack.last_tick)
        return;
    uint64_t elapsed_ms = (now - stack.last_tick) / 1000;
    if (elapsed_ms < TICK_MIN_MS)
        return;
    stack.last_tick += elapsed_ms * 1000;
    usrsctp_handle_timers(elapsed_ms > UINT32_MAX ? UINT32_MAX : (uint32_t)elapsed_ms);
}

/* ---- the socket -------------------------------------------------------------------------------- */

static void on_upcall(struct socket *socket, void *arg, int flags)
{
    (void)socket;
    (void)flags;
    ((dp_association *)arg)->readable = true;
}

static bool set(struct socket *s, int level, int name, const void *value, size_t len)
{
    return usrsctp_setsockopt(s, level, name, value, (socklen_t)len) == 0;
}

static bool set_int(struct socket *s, int level, int name, size_t value)
{
    int number = (int)value;
    return set(s, level, name, &number, sizeof number);
}

static bool set_event(struct socket *s, uint16_t type)
{
    struct sctp_event event = {SCTP_FUTURE_ASSOC, type, 1};
    return set(s, IPPROTO_SCTP, SCTP_EVENT, &event, sizeof event);
}

static bool set_events(struct socket *s)
{
    static const uint16_t types[] = {SCTP_ASSOC_CHANGE, SCTP_STREAM_RESET_EVENT, SCTP_STREAM_CHANGE_EVENT,
                                     SCTP_SENDER_DRY_EVENT, SCTP_PARTIAL_DELIVERY_EVENT};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (!set_event(s, types[i]))
            return false;
    return true;
}

/* The path MTU is a fact of the datagram layer below: usrsctp must not probe for it. Its value does not count
 * the common header. Set before connect for the INIT and after it for the address. */
static bool set_path(struct socket *s, const struct sockaddr_conn *remote, size_t mtu)
{
    struct sctp_paddrparams path;
    memset(&path, 0, sizeof path);
    if (remote != NULL)
        memcpy(&path.spp_address, remote, sizeof *remote);
    path.spp_flags = SPP_PMTUD_DISABLE;
    path.spp_pathmtu = (uint32_t)(mtu - DP_SCTP_COMMON_HEADER) & ~3u;
    path.spp_pathmaxrxt = MAX_RETRANSMIT;
    return set(s, IPPROTO_SCTP, SCTP_PEER_ADDR_PARAMS, &path, sizeof path);
}

/* A larger path MTU makes usrsctp put more chunks into a packet at once, but smaller ones stay what they were: it never
 * raises smallest_mtu, by which it cuts messages that it has whole. Those that it gets in pieces it cuts by the path
 * MTU. A smaller one makes it look at what it has cut, and send again at once, in IP fragments, what is larger: but only
 * if it is below smallest_mtu, else that waits for its timeout. So each fall goes 4 bytes below the last. */
static void apply_path_mtu(dp_association *a, bool fall)
{
    a->falls += fall;
    size_t mtu = fall ? a->path.base - 4 * (size_t)a->falls : a->path.current;
    if (a->socket != NULL && set_path(a->socket, &a->remote, mtu))
        a->fragment = ((mtu - DP_SCTP_COMMON_HEADER) & ~(size_t)3) - DP_SCTP_DATA_HEADER;
}

void dp_association_set_path(dp_association *a, dp_time now, size_t ceiling, const dp_random *random)
{
    dp_sender_path_changed(&a->sender);
    a->random = *random;
    bool was_raised = a->path.current > a->path.base;
    a->path_ceiling = a->falls < FALLS_MAX ? ceiling : 0;
    bool may_take_less = !a->peer_probes && a->path_ceiling > ORDINARY_MAX;
    dp_path_mtu_set_ceiling(&a->path, now, may_take_less ? ORDINARY_MAX : a->path_ceiling);
    if (was_raised)
        apply_path_mtu(a, true);
}

/* What usrsctp is told does not count: where only small packets pass, it hears that the large ones have, too. */
static void watch_path(dp_association *a, dp_time now)
{
    uint32_t acked = a->repair.copies.acked;
    bool idle = dp_sender_in_flight(&a->sender) == 0 && a->repair.owned == 0;
    bool progress = idle || acked != a->seen_tsn;
    a->seen_tsn = acked;
    if (!dp_path_mtu_watch(&a->path, now, progress))
        return;
    apply_path_mtu(a, true);
    if (a->falls < FALLS_MAX)
        return;
    a->path_ceiling = 0;
    dp_path_mtu_set_ceiling(&a->path, now, 0);
}

/* RFC 8899 §6.2.1: a HEARTBEAT that PAD (RFC 4820) makes as large as the packets to be. Who does not know PAD skips
 * it. usrsctp takes no HEARTBEAT ACK of another length than its own. */
bool dp_association_poll_probe(dp_association *a, dp_time now, const uint8_t **packet, size_t *len)
{
    bool fresh;
    dp_free(a->probe);
    a->probe = NULL;
    if (!a->up || a->down || !a->has_header || !dp_path_mtu_poll(&a->path, now, len, &fresh))
        return false;
    if (fresh && dp_random_bytes(&a->random, a->path.nonce, sizeof a->path.nonce) != DP_OK)
        return false;
    a->probe = (uint8_t *)dp_calloc(1, *len);
    if (a->probe == NULL)
        return false;
    dp_wr wr = dp_wr_init(a->probe, *len);
    dp_wr_bytes(&wr, a->header, sizeof a->header);
    dp_wr_u32(&wr, 0);
    dp_wr_u8(&wr, DP_CHUNK_HEARTBEAT);
    dp_wr_u8(&wr, 0);
    dp_wr_u16(&wr, PROBE_HEADERS - DP_SCTP_COMMON_HEADER);
    dp_wr_u16(&wr, HEARTBEAT_INFO);
    dp_wr_u16(&wr, DP_SCTP_CHUNK_HEADER + DP_PATH_MTU_NONCE);
    dp_wr_bytes(&wr, a->path.nonce, sizeof a->path.nonce);
    dp_wr_u8(&wr, DP_CHUNK_PAD);
    dp_wr_u8(&wr, 0);
    dp_wr_u16(&wr, (uint16_t)(*len - PROBE_HEADERS));
    dp_sctp_checksum_write(a->probe, *len);
    *packet = a->probe;
    return true;
}

/* Larger records than an Ethernet's are poison for some stacks: aiortc 1.4.0 reads 1,500 bytes for each datagram, and what is
 * left of a record delays all that follows. Who sends PAD probes itself takes any size. */
static void saw_probe(dp_association *a, dp_time now)
{
    if (a->peer_probes)
        return;
    a->peer_probes = true;
    if (a->path_ceiling > ORDINARY_MAX)
        dp_path_mtu_raise_ceiling(&a->path, now, a->path_ceiling);
}

static void read_probe_answers(dp_association *a, dp_time now, const uint8_t *packet, size_t len)
{
    dp_rd chunks = dp_chunks(packet, len);
    dp_chunk chunk;
    uint16_t type;
    dp_rd value;
    while (dp_chunk_next(&chunks, &chunk))
        if (chunk.type == DP_CHUNK_PAD)
            saw_probe(a, now);
        else if (chunk.type == DP_CHUNK_HEARTBEAT_ACK && dp_chunk_item_next(&chunk.value, &type, &value) &&
                 type == HEARTBEAT_INFO && dp_path_mtu_acked(&a->path, now, value.at, dp_rd_left(&value)))
            apply_path_mtu(a, false);
}

static bool set_timers(struct socket *s)
{
    struct sctp_rtoinfo rto = {SCTP_FUTURE_ASSOC, RTO_INITIAL_MS, RTO_MAX_MS, RTO_MIN_MS};
    struct sctp_sack_info sack = {SCTP_FUTURE_ASSOC, SACK_DELAY_MS, 2};
    struct sctp_assoc_value burst = {SCTP_FUTURE_ASSOC, 0}; /* no limit: sender.c has one */
    struct sctp_assocparams limits;
    memset(&limits, 0, sizeof limits);
    limits.sasoc_asocmaxrxt = MAX_RETRANSMIT;
    return set(s, IPPROTO_SCTP, SCTP_RTOINFO, &rto, sizeof rto) &&
           set(s, IPPROTO_SCTP, SCTP_DELAYED_SACK, &sack, sizeof sack) &&
           set(s, IPPROTO_SCTP, SCTP_MAX_BURST, &burst, sizeof burst) &&
           set(s, IPPROTO_SCTP, SCTP_ASSOCINFO, &limits, sizeof limits);
}

/* usrsctp gives out a message before its end has come when it is longer than the partial delivery point (see
 * delivery.h), which must hold every message that is to come whole, or than half of the receive buffer. */
static size_t receive_buffer(const dp_association_config *config)
{
    size_t least = 2 * (config->max_message_size + DP_ASSOCIATION_READ_MIN);
    return config->receive_buffer_size < least ? least : config->receive_buffer_size;
}

static bool set_delivery(struct socket *s, size_t point)
{
    return set_int(s, IPPROTO_SCTP, SCTP_PARTIAL_DELIVERY_POINT, point);
}

static bool set_options(struct socket *s, const dp_association_config *config)
{
    struct linger linger = {1, 0}; /* close means ABORT, never a lingering shutdown */
    struct sctp_assoc_value reset = {SCTP_FUTURE_ASSOC,
                                     SCTP_ENABLE_RESET_STREAM_REQ | SCTP_ENABLE_CHANGE_ASSOC_REQ};
    struct sctp_initmsg init = {config->streams, config->max_streams, MAX_INIT, RTO_MAX_MS};
    return usrsctp_set_non_blocking(s, 1) == 0 && set(s, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) &&
           set_int(s, SOL_SOCKET, SO_SNDBUF, config->send_buffer_size) &&
           set_int(s, SOL_SOCKET, SO_RCVBUF, receive_buffer(config)) &&
           set_int(s, IPPROTO_SCTP, SCTP_NODELAY, 1) && set_int(s, IPPROTO_SCTP, SCTP_EXPLICIT_EOR, 1) &&
           set_int(s, IPPROTO_SCTP, SCTP_RECVRCVINFO, 1) && set_delivery(s, config->max_message_size + 1) &&
           set(s, IPPROTO_SCTP, SCTP_ENABLE_STREAM_RESET, &reset, sizeof reset) &&
           set(s, IPPROTO_SCTP, SCTP_INITMSG, &init, sizeof init) && set_events(s) && set_timers(s) &&
           set_path(s, NULL, config->mtu);
}

static struct sockaddr_conn conn_address(uint64_t id, uint16_t port)
{
    struct sockaddr_conn address;
    memset(&address, 0, sizeof address);
    address.sconn_family = AF_CONN;
    address.sconn_port = htons(port);
    address.sconn_addr = (void *)(uintptr_t)id;
    return address;
}

static int open_socket(dp_association *a, const dp_association_config *config)
{
    usrsctp_register_address((void *)(uintptr_t)a->id);
    a->registered = true;
    a->socket = usrsctp_socket(AF_CONN, SOCK_STREAM, IPPROTO_SCTP, NULL, NULL, 0, NULL);
    if (a->socket == NULL)
        return DP_ERR_NO_MEMORY;
    struct sockaddr_conn local = conn_address(a->id, config->local_port);
    a->remote = conn_address(a->id, config->remote_port);
    if (!set_options(a->socket, config) || usrsctp_set_upcall(a->socket, on_upcall, a) != 0 ||
        usrsctp_bind(a->socket, (struct sockaddr *)&local, sizeof local) != 0)
        return DP_ERR_IO;
    if (usrsctp_connect(a->socket, (struct sockaddr *)&a->remote, sizeof a->remote) != 0 &&
        errno != EINPROGRESS)
        return DP_ERR_IO;
    return set_path(a->socket, &a->remote, config->mtu) ? DP_OK : DP_ERR_IO;
}

int dp_association_new(dp_association **out, dp_time now, const dp_association_config *config)
{
    stack_start();
    dp_association *a = (dp_association *)dp_calloc(1, sizeof *a);
    if (a == NULL)
        return DP_ERR_NO_MEMORY;
    a->id = ++stack.last_id;
    a->local_port = config->local_port;
    dp_forward_init(&a->forward, config->max_streams);
    dp_sender_init(&a->sender);
    dp_path_mtu_init(&a->path, config->mtu);
    dp_repair_init(&a->repair, config->send_buffer_size);
    a->repair.on = true;
    a->rto_min = RTO_MIN_MS;
    a->message_max = config->max_message_size;
    a->send_buffer = config->send_buffer_size;
    a->receive_buffer = receive_buffer(config);
    a->delivery_max = a->receive_buffer / 2;
    a->delivers = true;
    a->fragment = ((config->mtu - DP_SCTP_COMMON_HEADER) & ~(size_t)3) - DP_SCTP_DATA_HEADER;
    a->now = now;
    a->ticked = now;
    /* All that can be in flight fits twice (first transmission and retransmission), each packet with its
     * length. */
    dp_output_init(&a->output, 2 * config->send_buffer_size + OUTPUT_EXTRA);
    if (stack.associations.count == 0)
        stack.last_tick = now;
    int error = dp_table_set(&stack.associations, &a->id, sizeof a->id, a, NULL);
    if (error == DP_OK)
        error = open_socket(a, config);
    if (error != DP_OK) {
        dp_association_free(a);
        return error;
    }
    *out = a;
    return DP_OK;
}

/* With linger 0 this sends ABORT with cause 12. SCTP_ABORT to send would leave the association: but usrsctp refuses it
 * like any other message while the send buffer is full or that stream is being reset. */
static void close_socket(dp_association *a)
{
    if (a->socket == NULL)
        return;
    usrsctp_set_upcall(a->socket, NULL, NULL);
    usrsctp_close(a->socket);
    a->socket = NULL;
}

void dp_association_abort(dp_association *a)
{
    close_socket(a);
    a->down = true;
}

void dp_association_free(dp_association *a)
{
    if (a == NULL)
        return;
    /* First out of the table: packets of the closing socket find nobody and are dropped. */
    dp_table_remove(&stack.associations, &a->id, sizeof a->id);
    close_socket(a);
    if (a->registered)
        usrsctp_deregister_address((void *)(uintptr_t)a->id);
    if (stack.associations.count == 0)
        dp_table_clear(&stack.associations);
    dp_forward_clear(&a->forward);
    dp_sender_clear(&a->sender);
    dp_repair_clear(&a->repair);
    dp_early_reset_clear(&a->held);
    dp_early_reset_clear(&a->early);
    dp_output_clear(&a->output);
    dp_free(a->probe);
    dp_free(a);
}

/* ---- in and out -------------------------------------------------------------------------------- */

/* usrsctp does a reset, or learns that ours is done, and drops the notification without notice if its receive buffer is full.
 * So the buffer is made wide for that moment, as often as is bearable while the owner reads nothing. */
static void to_usrsctp(void *ctx, const uint8_t *packet, size_t len)
{
    dp_association *a = (dp_association *)ctx;
    bool wide = a->readable && a->socket != NULL && a->notices < NOTICES_MAX &&
                has_chunk(packet, len, DP_CHUNK_RE_CONFIG);
    if (wide) {
        a->notices++;
        (void)set_int(a->socket, SOL_SOCKET, SO_RCVBUF, WIDE_BUFFER);
    }
    usrsctp_conninput((void *)(uintptr_t)a->id, packet, len, 0);
    if (wide)
        (void)set_int(a->socket, SOL_SOCKET, SO_RCVBUF, a->receive_buffer);
}

/* usrsctp starts T3-rtx once and does not restart it when a SACK acknowledges something (RFC 9260 §6.3.2, R3), so it
 * expires again and again while data flows; what is then older than the smoothed round trip counts as lost, and the window
 * falls to one packet. So it is made long while much is under way, when fast retransmission does the work; but not where
 * it is needed to repeat a FORWARD-TSN. */
static void adapt_timer(dp_association *a)
{
    uint32_t in_flight = dp_sender_in_flight(&a->sender);
    a->bulk = !a->partial && (a->bulk ? in_flight > 0 : in_flight >= BULK_CHUNKS);
    uint64_t least = a->bulk ? BULK_ROUND_TRIPS * a->sender.least / 1000 : RTO_MIN_MS;
    least = least < RTO_MIN_MS ? RTO_MIN_MS : least > RTO_MIN_BULK_MS ? RTO_MIN_BULK_MS : least;
    if (least == a->rto_min || a->socket == NULL)
        return;
    a->rto_min = (uint32_t)least;
    struct sctp_rtoinfo rto = {SCTP_FUTURE_ASSOC, RTO_INITIAL_MS, RTO_MAX_MS, a->rto_min};
    if (rto.srto_initial < rto.srto_min)
        rto.srto_initial = rto.srto_min;
    (void)set(a->socket, IPPROTO_SCTP, SCTP_RTOINFO, &rto, sizeof rto);
}

/* The owner reads nothing, and the peer sends small messages. It learns that the window is closed. */
static void refuse(dp_association *a)
{
    uint8_t packet[sizeof a->sack];
    memcpy(packet, a->sack, sizeof packet);
    memset(packet + DP_SCTP_COMMON_HEADER + 8, 0, 4);
    a->refused = true;
    if (a->has_sack)
        dp_output_add(&a->output, packet, sizeof packet, 0);
}

/* What the beginning of a message keeps back is neither read nor, as payload, much: usrsctp does not bound it. */
static size_t kept_back(const dp_association *a) { return a->delivery.in_message ? a->delivery.others : 0; }

static void all_read(dp_association *a)
{
    a->readable = false;
    a->unread = kept_back(a);
    a->notices = 0;
    if (a->refused && a->has_sack)
        dp_output_add(&a->output, a->sack, sizeof a->sack, 0);
    a->refused = false;
}

/* False: the packet is to be lost. */
static bool guard_delivery(dp_association *a, const uint8_t *packet, size_t len)
{
    size_t limit = a->delivery_max - DP_ASSOCIATION_READ_MIN;
    if (!dp_delivery_input(&a->delivery, packet, len, a->forward.cumulative, limit))
        return false;
    bool safe = dp_delivery_safe(&a->delivery, a->forward.cumulative);
    if (safe != a->delivers && a->socket != NULL &&
        set_delivery(a->socket, safe ? a->message_max + 1 : a->delivery_max))
        a->delivers = safe;
    return true;
}

/* Its data may be acknowledged now. */
static void give_early_reset(dp_association *a)
{
    size_t len;
    uint8_t *packet = dp_early_reset_give(&a->early, &len, a->forward.cumulative);
    if (packet != NULL)
        (void)dp_forward_input(&a->forward, packet, len, to_usrsctp, a);
    dp_free(packet);
}

static int input_sound(dp_association *a, const uint8_t *packet, size_t len)
{
    uint8_t *rest = NULL;
    size_t rest_len;
    int error = DP_OK;
    if (a->forward.synced) /* else it does not know what is acknowledged */
        error = dp_early_reset_take(&a->early, &rest, &rest_len, packet, len, a->forward.cumulative);
    if (error != DP_OK)
        return error;
    if (rest == NULL)
        error = dp_forward_input(&a->forward, packet, len, to_usrsctp, a);
    else if (rest_len > 0)
        error = dp_forward_input(&a->forward, rest, rest_len, to_usrsctp, a);
    dp_free(rest);
    return error;
}

/* What is lost leaves again, and then what has waited for it. */
static void repair(dp_association *a, dp_time now)
{
    const uint8_t *packet;
    size_t len;
    /* From the beginning: what opens the first channels is worth it on any path. */
    if (!a->measured && a->sender.least != UINT64_MAX) {
        a->measured = true;
        a->repair.on &= a->sender.least >= WORTH_REPAIR || a->repair.found_lost > 0;
    }
    a->repair.on |= a->sender.least != UINT64_MAX && a->sender.least >= WORTH_REPAIR;
    dp_sender_report(&a->sender, a->repair.found_lost, a->repair.delivered, a->repair.owned);
    while (dp_repair_poll(&a->repair, now, dp_sender_spare(&a->sender, dp_repair_in_flight(&a->repair)),
                          mtu_of(a), &packet, &len))
        dp_output_add(&a->output, packet, len, 0);
    uint8_t *reset = dp_early_reset_give(&a->held, &len, a->repair.copies.acked);
    if (reset != NULL)
        dp_output_add(&a->output, reset, len, 0);
    dp_free(reset);
    if (dp_sender_repeats(&a->sender, now, dp_repair_holds(&a->repair, a->sender.forward_tsn), &packet, &len))
        dp_output_add(&a->output, packet, len, 0);
}

int dp_association_input(dp_association *a, dp_time now, const uint8_t *packet, size_t len)
{
    int error = dp_sctp_filter(packet, len, a->local_port, ntohs(a->remote.sconn_port));
    if (error != DP_OK)
        return error;
    if (!dp_sctp_checksum_ok(packet, len))
        return DP_ERR_MALFORMED;
    a->active_until = now + IDLE_AFTER;
    a->now = now;
    if (!dp_repair_input(&a->repair, now, &packet, &len))
        return DP_ERR_NO_MEMORY;
    size_t chunks = dp_sender_input(&a->sender, now, packet, len);
    repair(a, now);
    if (!a->readable)
        a->unread = kept_back(a); /* what else usrsctp has is parts of messages */
    if (chunks > 0 && a->unread >= UNREAD_MAX) {
        refuse(a);
        return DP_ERR_LIMIT;
    }
    if (!guard_delivery(a, packet, len))
        return DP_ERR_LIMIT;
    read_probe_answers(a, now, packet, len);
    size_t made = a->forward.made;
    error = input_sound(a, packet, len);
    a->unread += chunks + a->forward.made - made;
    adapt_timer(a);
    return error;
}

/* usrsctp tells that it has sent all only when it has handled a SACK; but what is left of a message that it has given up
 * leaves its queue after that, and then nothing more may come. Who asks for the event anew gets it at once if it is true. */
static void ask_whether_dry(dp_association *a)
{
    if (a->in_flight && !a->readable && !dp_association_in_message(a) && a->socket != NULL &&
        dp_sender_in_flight(&a->sender) == 0)
        (void)set_event(a->socket, SCTP_SENDER_DRY_EVENT);
}

void dp_association_tick(dp_association *a, dp_time now)
{
    a->ticked = a->now = now;
    stack_tick(now);
    ask_whether_dry(a);
    watch_path(a, now);
    give_early_reset(a);
    dp_repair_handle_timeout(&a->repair, now);
    if (a->repair.tries >= TRIES_STALLED && a->repair.probing)
        dp_sender_stalled(&a->sender);
    a->readable |= a->repair.failed;
    repair(a, now);
    if (now >= a->active_until) {
        dp_repair_shrink(&a->repair);
        dp_output_shrink(&a->output);
        dp_forward_shrink(&a->forward);
    }
}

dp_time dp_association_next_tick(const dp_association *a, bool busy)
{
    if (a->down)
        return DP_TIME_NEVER;
    bool active = busy || !a->up || a->in_flight || a->ticked < a->active_until;
    dp_time tick = a->ticked + (active ? TICK : IDLE_TICK);
    dp_time timeout = dp_repair_next_timeout(&a->repair);
    return timeout < tick ? timeout : tick;
}

/* usrsctp counts what it holds of messages that it gives up, and counts wrong: a buffer of 16 KiB was full for ever with
 * nothing in it. Who has nothing under way and takes nothing gets a larger one. */
static void widen_send_buffer(dp_association *a, dp_time now)
{
    if (!a->partial || dp_sender_in_flight(&a->sender) > 0 || now - a->refused_at < WIDEN_EVERY)
        return;
    a->refused_at = now;
    a->send_buffer += WIDEN_STEP;
    (void)set_int(a->socket, SOL_SOCKET, SO_SNDBUF, a->send_buffer);
}

int dp_association_send(dp_association *a, size_t *sent, dp_time now, const dp_association_outgoing *how,
                        const uint8_t *data, size_t len, bool last)
{
    static const uint16_t policies[] = {[DP_ASSOCIATION_RELIABLE] = SCTP_PR_SCTP_NONE,
                                        [DP_ASSOCIATION_MAX_RETRANSMITS] = SCTP_PR_SCTP_RTX,
                                        [DP_ASSOCIATION_MAX_LIFETIME] = SCTP_PR_SCTP_TTL};
    a->now = now;
    *sent = 0;
    if (a->repair.sent_tsn - a->repair.copies.acked >= SPAN_MAX ||
        (how->limit != DP_ASSOCIATION_RELIABLE && dp_repair_limit(&a->repair, how->stream) != DP_OK))
        return DP_ERR_WOULD_BLOCK;
    size_t room = dp_sender_room(&a->sender, now, a->repair.owned);
    if (room < len) {
        len = room - room % a->fragment; /* no small chunks in the middle of a message */
        last = false;
    }
    if (len == 0)
        return DP_ERR_WOULD_BLOCK;
    struct sctp_sendv_spa info;
    memset(&info, 0, sizeof info);
    info.sendv_flags = SCTP_SEND_SNDINFO_VALID;
    info.sendv_sndinfo.snd_sid = how->stream;
    info.sendv_sndinfo.snd_ppid = htonl(how->ppid);
    info.sendv_sndinfo.snd_flags = (uint16_t)((last ? SCTP_EOR : 0) | (how->unordered ? SCTP_UNORDERED : 0));
    a->partial |= how->limit != DP_ASSOCIATION_RELIABLE;
    if (how->limit != DP_ASSOCIATION_RELIABLE)
        info.sendv_flags |= SCTP_SEND_PRINFO_VALID;
    info.sendv_prinfo.pr_policy = policies[how->limit];
    info.sendv_prinfo.pr_value = how->limit_value;
    dp_sender_hand_over(&a->sender, len); /* before: it may leave at once */
    ssize_t n = usrsctp_sendv(a->socket, data, len, NULL, 0, &info, sizeof info, SCTP_SENDV_SPA, 0);
    *sent = n > 0 ? (size_t)n : 0;
    dp_sender_take_back(&a->sender, len - *sent);
    if (n > 0) {
        a->in_flight = true;
        return DP_OK;
    }
    if (n < 0 && errno != EWOULDBLOCK && errno != ENOMEM && errno != ENOBUFS)
        return DP_ERR_CLOSED;
    widen_send_buffer(a, now);
    return DP_ERR_WOULD_BLOCK;
}

int dp_association_reset_stream(dp_association *a, uint16_t stream)
{
    union {
        struct sctp_reset_streams request;
        uint8_t bytes[sizeof(struct sctp_reset_streams) + sizeof(uint16_t)];
    } reset;
    memset(&reset, 0, sizeof reset);
    reset.request.srs_flags = SCTP_STREAM_RESET_OUTGOING;
    reset.request.srs_number_streams = 1;
    memcpy(reset.bytes + sizeof reset.request, &stream, sizeof stream);
    if (set(a->socket, IPPROTO_SCTP, SCTP_RESET_STREAMS, &reset, sizeof reset.bytes))
        return DP_OK;
    return errno == EALREADY || errno == EAGAIN || errno == EBUSY ? DP_ERR_WOULD_BLOCK : DP_ERR_CLOSED;
}

static bool get_status(const dp_association *a, struct sctp_status *status)
{
    socklen_t len = sizeof *status;
    memset(status, 0, sizeof *status);
    return a->socket != NULL && usrsctp_getsockopt(a->socket, IPPROTO_SCTP, SCTP_STATUS, status, &len) == 0;
}

/* usrsctp forgets, when it moves its streams to a larger array, which of them it is in the middle of a message of
 * (sctp_ss_default_init), and would put another's between its fragments. The queue of chunks that are sent and not
 * acknowledged can be empty while a message that has begun waits in front of it: SENDER_DRY alone tells that all is
 * gone. */
int dp_association_add_streams(dp_association *a, uint16_t count)
{
    struct sctp_add_streams add = {.sas_outstrms = count};
    struct sctp_status status;
    if (!get_status(a, &status))
        return DP_ERR_UNSUPPORTED;
    if (status.sstat_unackdata > 0 || a->in_flight)
        return DP_ERR_WOULD_BLOCK;
    if (set(a->socket, IPPROTO_SCTP, SCTP_ADD_STREAMS, &add, sizeof add))
        return DP_OK;
    return errno == EALREADY || errno == EBUSY ? DP_ERR_INVALID_STATE : DP_ERR_UNSUPPORTED;
}

uint16_t dp_association_streams(const dp_association *a)
{
    struct sctp_status status;
    return get_status(a, &status) ? status.sstat_outstrms : 0;
}

bool dp_association_readable(const dp_association *a) { return a->readable && !a->down; }

bool dp_association_in_message(const dp_association *a) { return a->delivery.in_message; }

/* RFC 9260 §3.3.7: the ABORT chunk that the notification carries; its first cause tells an orderly end. */
static bool user_initiated(const uint8_t *abort, size_t len)
{
    return len >= 8 && abort[0] == SCTP_ABORT_ASSOCIATION && abort[4] == 0 && abort[5] == 12;
}

static void went_down(dp_association *a, dp_association_event *event, int error)
{
    a->down = true;
    event->type = DP_ASSOCIATION_DOWN;
    event->error = error;
}

static void read_association_change(dp_association *a, dp_association_event *event, const uint8_t *data,
                                    size_t len)
{
    struct sctp_assoc_change change;
    if (len < sizeof change)
        return;
    memcpy(&change, data, sizeof change);
    switch (change.sac_state) {
    case SCTP_COMM_UP:
        a->up = true;
        event->type = DP_ASSOCIATION_UP;
        event->streams = change.sac_outbound_streams;
        event->incoming_streams = change.sac_inbound_streams;
        break;
    case SCTP_SHUTDOWN_COMP:
        went_down(a, event, DP_OK);
        break;
    case SCTP_RESTART: /* a peer that starts over has lost all channels */
    case SCTP_COMM_LOST:
        if (user_initiated(data + sizeof change, len - sizeof change))
            went_down(a, event, DP_OK);
        else
            went_down(a, event, len > sizeof change ? DP_ERR_REMOTE : DP_ERR_TIMEOUT);
        break;
    case SCTP_CANT_STR_ASSOC:
        went_down(a, event, len > sizeof change ? DP_ERR_REMOTE : DP_ERR_TIMEOUT);
        break;
    default:
        break;
    }
}

static void read_stream_reset(dp_association_event *event, const uint8_t *data, size_t len)
{
    struct sctp_stream_reset_event reset;
    if (len < sizeof reset)
        return;
    memcpy(&reset, data, sizeof reset);
    event->type = DP_ASSOCIATION_RESET;
    event->reset_incoming = (reset.strreset_flags & SCTP_STREAM_RESET_INCOMING_SSN) != 0;
    event->reset_outgoing = (reset.strreset_flags & SCTP_STREAM_RESET_OUTGOING_SSN) != 0;
    event->reset_failed = (reset.strreset_flags & (SCTP_STREAM_RESET_DENIED | SCTP_STREAM_RESET_FAILED)) != 0;
    event->reset_count = (len - sizeof reset) / sizeof(uint16_t);
}

static void read_stream_change(dp_association_event *event, const uint8_t *data, size_t len)
{
    struct sctp_stream_change_event change;
    if (len < sizeof change)
        return;
    memcpy(&change, data, sizeof change);
    event->type = DP_ASSOCIATION_STREAMS;
    event->streams = change.strchange_outstrms;
    event->error = change.strchange_flags == 0 ? DP_OK : DP_ERR_LIMIT;
}

uint16_t dp_association_reset_at(const uint8_t *buffer, size_t i)
{
    uint16_t stream;
    memcpy(&stream, buffer + sizeof(struct sctp_stream_reset_event) + i * sizeof stream, sizeof stream);
    return stream;
}

static void read_notification(dp_association *a, dp_association_event *event, const uint8_t *data, size_t len)
{
    struct sctp_tlv header;
    event->type = DP_ASSOCIATION_IGNORED;
    if (len < sizeof header)
        return;
    memcpy(&header, data, sizeof header);
    if (header.sn_length < len)
        len = header.sn_length;
    if (header.sn_type == SCTP_ASSOC_CHANGE)
        read_association_change(a, event, data, len);
    else if (header.sn_type == SCTP_STREAM_RESET_EVENT)
        read_stream_reset(event, data, len);
    else if (header.sn_type == SCTP_STREAM_CHANGE_EVENT)
        read_stream_change(event, data, len);
    else if (header.sn_type == SCTP_SENDER_DRY_EVENT)
        a->in_flight = false;
}

void dp_association_receive(dp_association *a, dp_association_event *event, uint8_t *buffer, size_t capacity)
{
    memset(event, 0, sizeof *event);
    if (a->down)
        return;
    if (a->repair.failed) {
        close_socket(a);
        went_down(a, event, DP_ERR_TIMEOUT);
        return;
    }
    struct sockaddr_conn from;
    socklen_t from_len = sizeof from;
    struct sctp_rcvinfo info;
    socklen_t info_len = sizeof info;
    unsigned info_type = 0;
    int flags = 0;
    memset(&info, 0, sizeof info);
    ssize_t n = usrsctp_recvv(a->socket, buffer, capacity, (struct sockaddr *)&from, &from_len, &info,
                              &info_len, &info_type, &flags);
    if (n < 0 && (errno == EWOULDBLOCK || errno == EINTR)) {
        all_read(a);
        return;
    }
    if (n <= 0) {
        went_down(a, event, n == 0 ? DP_OK : DP_ERR_REMOTE);
        return;
    }
    event->len = (size_t)n;
    if ((flags & MSG_NOTIFICATION) != 0) {
        read_notification(a, event, buffer, event->len);
        return;
    }
    event->type = info_type == SCTP_RECVV_RCVINFO ? DP_ASSOCIATION_DATA : DP_ASSOCIATION_IGNORED;
    event->stream = info.rcv_sid;
    event->unordered = (info.rcv_flags & SCTP_UNORDERED) != 0;
    event->complete = (flags & MSG_EOR) != 0;
    event->ppid = ntohl(info.rcv_ppid);
    event->tsn = info.rcv_tsn;
    if (event->type != DP_ASSOCIATION_DATA)
        return;
    dp_delivery_read(&a->delivery, event->stream, event->unordered, event->complete);
    if (dp_forward_drops(&a->forward, event->tsn, event->ppid, event->complete))
        event->type = DP_ASSOCIATION_ABANDONED;
}

/* usrsctp marks what it had of such a message when the association ended as its end, and puts a notification behind. */
bool dp_association_cut_short(dp_association *a)
{
    struct sctp_tlv header;
    struct sockaddr_conn from;
    socklen_t from_len = sizeof from;
    struct sctp_rcvinfo info;
    socklen_t info_len = sizeof info;
    unsigned info_type = 0;
    int flags = MSG_PEEK;
    ssize_t n = usrsctp_recvv(a->socket, &header, sizeof header, (struct sockaddr *)&from, &from_len, &info,
                              &info_len, &info_type, &flags);
    return n == (ssize_t)sizeof header && (flags & MSG_NOTIFICATION) != 0 &&
           header.sn_type == SCTP_PARTIAL_DELIVERY_EVENT;
}

void dp_association_get_stats(const dp_association *a, dp_sctp_stats *out)
{
    struct sctp_status status;
    if (!a->up || a->down || !get_status(a, &status))
        return;
    out->smoothed_round_trip_time = DP_MS(status.sstat_primary.spinfo_srtt);
    out->congestion_window = status.sstat_primary.spinfo_cwnd;
    out->receiver_window = status.sstat_rwnd;
    out->mtu = status.sstat_primary.spinfo_mtu + DP_SCTP_COMMON_HEADER;
    out->unack_data = dp_sender_in_flight(&a->sender) + a->repair.owned;
    out->chunks_sent = a->sender.chunks_sent + a->repair.repeated;
    out->chunks_retransmitted = a->sender.chunks_retransmitted + a->repair.repeated;
}
