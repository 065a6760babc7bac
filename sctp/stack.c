#include "stack.h"

#include "base/table.h"
#include "chunk.h"

#include <string.h>
#include <usrsctp.h>

#define TICK_MIN_MS            5u /* associations tick out of phase: not more often than this for all of them */
#define SACK_DELAY_MS          20u
#define RTO_INITIAL_MS         500u
#define RTO_MAX_MS             5000u
#define MAX_RETRANSMIT         10u
#define MAX_INIT               8u
#define MAX_CHUNKS_QUEUE       4096u
#define INTERLEAVING_SUPPORTED 0x00001206 /* RFC 8260 §4.3.1: not in usrsctp.h */

/* All of usrsctp's state is global, so is this. */
static struct {
    bool started;
    dp_table stacks; /* by id */
    uint64_t last_id;
    dp_time last_tick;
} process;

static int on_output(void *address, void *packet, size_t len, uint8_t tos, uint8_t set_df)
{
    (void)tos;
    (void)set_df;
    uint64_t id = (uint64_t)(uintptr_t)address;
    dp_stack *stack = (dp_stack *)dp_table_get(&process.stacks, &id, sizeof id);
    if (stack != NULL && len >= DP_SCTP_COMMON_HEADER && len <= UINT16_MAX)
        stack->output(stack->ctx, (uint8_t *)packet, len);
    return 0;
}

static void start(void)
{
    if (process.started)
        return;
    process.started = true;
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

void dp_stack_tick(dp_time now)
{
    if (now <= process.last_tick)
        return;
    uint64_t elapsed_ms = (now - process.last_tick) / 1000;
    if (elapsed_ms < TICK_MIN_MS)
        return;
    process.last_tick += elapsed_ms * 1000;
    usrsctp_handle_timers(elapsed_ms > UINT32_MAX ? UINT32_MAX : (uint32_t)elapsed_ms);
}

/* ---- options ----------------------------------------------------------------------------------- */

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

/* usrsctp's value does not count the common header. */
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

static bool set_timers(struct socket *s)
{
    struct sctp_rtoinfo rto = {SCTP_FUTURE_ASSOC, RTO_INITIAL_MS, RTO_MAX_MS, DP_STACK_RTO_MIN_MS};
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
size_t dp_stack_receive_buffer(const dp_association_config *config)
{
    size_t least = 2 * (config->max_message_size + DP_ASSOCIATION_READ_MIN);
    return config->receive_buffer_size < least ? least : config->receive_buffer_size;
}

static bool set_delivery(struct socket *s, size_t point)
{
    return set_int(s, IPPROTO_SCTP, SCTP_PARTIAL_DELIVERY_POINT, point);
}

/* RFC 8260 §4.3: usrsctp takes it only together with a reader of interleaved messages. None is interleaved where
 * it reads (interleaving.h), so that goes when the association knows. */
static bool offer_interleaving(struct socket *s)
{
    struct sctp_assoc_value on = {SCTP_FUTURE_ASSOC, 1};
    return set_int(s, IPPROTO_SCTP, SCTP_FRAGMENT_INTERLEAVE, 2) &&
           set(s, IPPROTO_SCTP, INTERLEAVING_SUPPORTED, &on, sizeof on);
}

static bool set_options(struct socket *s, const dp_association_config *config)
{
    struct linger linger = {1, 0}; /* close means ABORT, never a lingering shutdown */
    struct sctp_assoc_value reset = {SCTP_FUTURE_ASSOC,
                                     SCTP_ENABLE_RESET_STREAM_REQ | SCTP_ENABLE_CHANGE_ASSOC_REQ};
    struct sctp_initmsg init = {config->streams, config->max_streams, MAX_INIT, RTO_MAX_MS};
    return usrsctp_set_non_blocking(s, 1) == 0 && set(s, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) &&
           set_int(s, SOL_SOCKET, SO_SNDBUF, config->send_buffer_size) &&
           set_int(s, SOL_SOCKET, SO_RCVBUF, dp_stack_receive_buffer(config)) &&
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

bool dp_stack_set_path(dp_stack *stack, size_t mtu)
{
    struct sockaddr_conn remote = conn_address(stack->id, stack->remote_port);
    return stack->socket != NULL && set_path(stack->socket, &remote, mtu);
}

bool dp_stack_set_receive_buffer(dp_stack *stack, size_t size)
{
    return stack->socket != NULL && set_int(stack->socket, SOL_SOCKET, SO_RCVBUF, size);
}

bool dp_stack_set_send_buffer(dp_stack *stack, size_t size)
{
    return stack->socket != NULL && set_int(stack->socket, SOL_SOCKET, SO_SNDBUF, size);
}

bool dp_stack_set_delivery_point(dp_stack *stack, size_t point)
{
    return stack->socket != NULL && set_delivery(stack->socket, point);
}

bool dp_stack_set_rto_min(dp_stack *stack, uint32_t ms)
{
    struct sctp_rtoinfo rto = {SCTP_FUTURE_ASSOC, ms > RTO_INITIAL_MS ? ms : RTO_INITIAL_MS, RTO_MAX_MS, ms};
    return stack->socket != NULL && set(stack->socket, IPPROTO_SCTP, SCTP_RTOINFO, &rto, sizeof rto);
}

bool dp_stack_ask_whether_dry(dp_stack *stack)
{
    return stack->socket != NULL && set_event(stack->socket, SCTP_SENDER_DRY_EVENT);
}

/* ---- the socket -------------------------------------------------------------------------------- */

static void on_upcall(struct socket *socket, void *arg, int flags)
{
    (void)socket;
    (void)flags;
    ((dp_stack *)arg)->readable = true;
}

static int connect_socket(dp_stack *stack, const dp_association_config *config)
{
    struct sockaddr_conn local = conn_address(stack->id, stack->local_port);
    struct sockaddr_conn remote = conn_address(stack->id, stack->remote_port);
    if (!set_options(stack->socket, config) || (config->interleaving && !offer_interleaving(stack->socket)) ||
        usrsctp_set_upcall(stack->socket, on_upcall, stack) != 0 ||
        usrsctp_bind(stack->socket, (struct sockaddr *)&local, sizeof local) != 0)
        return DP_ERR_IO;
    if (usrsctp_connect(stack->socket, (struct sockaddr *)&remote, sizeof remote) != 0 &&
        errno != EINPROGRESS)
        return DP_ERR_IO;
    return set_int(stack->socket, IPPROTO_SCTP, SCTP_FRAGMENT_INTERLEAVE, 1) &&
                   dp_stack_set_path(stack, config->mtu)
               ? DP_OK
               : DP_ERR_IO;
}

int dp_stack_open(dp_stack *stack, dp_time now, const dp_association_config *config, dp_stack_output *output,
                  void *ctx)
{
    start();
    *stack = (dp_stack){.id = ++process.last_id,
                        .local_port = config->local_port,
                        .remote_port = config->remote_port,
                        .output = output,
                        .ctx = ctx};
    if (process.stacks.count == 0)
        process.last_tick = now;
    int error = dp_table_set(&process.stacks, &stack->id, sizeof stack->id, stack, NULL);
    if (error != DP_OK)
        return error;
    usrsctp_register_address((void *)(uintptr_t)stack->id);
    stack->registered = true;
    stack->socket = usrsctp_socket(AF_CONN, SOCK_STREAM, IPPROTO_SCTP, NULL, NULL, 0, NULL);
    return stack->socket == NULL ? DP_ERR_NO_MEMORY : connect_socket(stack, config);
}

/* With linger 0 this sends ABORT with cause 12. SCTP_ABORT to send would leave the association: but usrsctp refuses it
 * like any other message while the send buffer is full or that stream is being reset. */
void dp_stack_close(dp_stack *stack)
{
    if (stack->socket == NULL)
        return;
    usrsctp_set_upcall(stack->socket, NULL, NULL);
    usrsctp_close(stack->socket);
    stack->socket = NULL;
}

void dp_stack_clear(dp_stack *stack)
{
    /* First out of the table: packets of the closing socket find nobody and are dropped. */
    dp_table_remove(&process.stacks, &stack->id, sizeof stack->id);
    dp_stack_close(stack);
    if (stack->registered)
        usrsctp_deregister_address((void *)(uintptr_t)stack->id);
    stack->registered = false;
    if (process.stacks.count == 0)
        dp_table_clear(&process.stacks);
}

/* ---- in and out -------------------------------------------------------------------------------- */

void dp_stack_input(dp_stack *stack, const uint8_t *packet, size_t len)
{
    usrsctp_conninput((void *)(uintptr_t)stack->id, packet, len, 0);
}

int dp_stack_send(dp_stack *stack, size_t *sent, const dp_association_outgoing *how, const uint8_t *data,
                  size_t len, bool last)
{
    static const uint16_t policies[] = {[DP_ASSOCIATION_RELIABLE] = SCTP_PR_SCTP_NONE,
                                        [DP_ASSOCIATION_MAX_RETRANSMITS] = SCTP_PR_SCTP_RTX,
                                        [DP_ASSOCIATION_MAX_LIFETIME] = SCTP_PR_SCTP_TTL};
    struct sctp_sendv_spa info;
    memset(&info, 0, sizeof info);
    info.sendv_flags = SCTP_SEND_SNDINFO_VALID;
    info.sendv_sndinfo.snd_sid = how->stream;
    info.sendv_sndinfo.snd_ppid = htonl(how->ppid);
    info.sendv_sndinfo.snd_flags = (uint16_t)((last ? SCTP_EOR : 0) | (how->unordered ? SCTP_UNORDERED : 0));
    if (how->limit != DP_ASSOCIATION_RELIABLE)
        info.sendv_flags |= SCTP_SEND_PRINFO_VALID;
    info.sendv_prinfo.pr_policy = policies[how->limit];
    info.sendv_prinfo.pr_value = how->limit_value;
    ssize_t n = usrsctp_sendv(stack->socket, data, len, NULL, 0, &info, sizeof info, SCTP_SENDV_SPA, 0);
    *sent = n > 0 ? (size_t)n : 0;
    if (n > 0)
        return DP_OK;
    return n == 0 || errno == EWOULDBLOCK || errno == ENOMEM || errno == ENOBUFS ? DP_ERR_WOULD_BLOCK
                                                                                 : DP_ERR_CLOSED;
}

int dp_stack_reset_stream(dp_stack *stack, uint16_t stream)
{
    union {
        struct sctp_reset_streams request;
        uint8_t bytes[sizeof(struct sctp_reset_streams) + sizeof(uint16_t)];
    } reset;
    memset(&reset, 0, sizeof reset);
    reset.request.srs_flags = SCTP_STREAM_RESET_OUTGOING;
    reset.request.srs_number_streams = 1;
    memcpy(reset.bytes + sizeof reset.request, &stream, sizeof stream);
    if (set(stack->socket, IPPROTO_SCTP, SCTP_RESET_STREAMS, &reset, sizeof reset.bytes))
        return DP_OK;
    return errno == EALREADY || errno == EAGAIN || errno == EBUSY ? DP_ERR_WOULD_BLOCK : DP_ERR_CLOSED;
}

static bool get_status(const dp_stack *stack, struct sctp_status *status)
{
    socklen_t len = sizeof *status;
    memset(status, 0, sizeof *status);
    return stack->socket != NULL &&
           usrsctp_getsockopt(stack->socket, IPPROTO_SCTP, SCTP_STATUS, status, &len) == 0;
}

int dp_stack_add_streams(dp_stack *stack, uint16_t count)
{
    struct sctp_add_streams add = {.sas_outstrms = count};
    struct sctp_status status;
    if (!get_status(stack, &status))
        return DP_ERR_UNSUPPORTED;
    if (status.sstat_unackdata > 0)
        return DP_ERR_WOULD_BLOCK;
    if (set(stack->socket, IPPROTO_SCTP, SCTP_ADD_STREAMS, &add, sizeof add))
        return DP_OK;
    return errno == EALREADY || errno == EBUSY ? DP_ERR_INVALID_STATE : DP_ERR_UNSUPPORTED;
}

uint16_t dp_stack_streams(const dp_stack *stack)
{
    struct sctp_status status;
    return get_status(stack, &status) ? status.sstat_outstrms : 0;
}

bool dp_stack_get_stats(const dp_stack *stack, dp_sctp_stats *out)
{
    struct sctp_status status;
    if (!get_status(stack, &status))
        return false;
    out->smoothed_round_trip_time = DP_MS(status.sstat_primary.spinfo_srtt);
    out->congestion_window = status.sstat_primary.spinfo_cwnd;
    out->receiver_window = status.sstat_rwnd;
    out->mtu = status.sstat_primary.spinfo_mtu + DP_SCTP_COMMON_HEADER;
    return true;
}

/* ---- reading ----------------------------------------------------------------------------------- */

/* RFC 9260 §3.3.7: the ABORT chunk that the notification carries; its first cause tells an orderly end. */
static bool user_initiated(const uint8_t *abort, size_t len)
{
    return len >= 8 && abort[0] == SCTP_ABORT_ASSOCIATION && abort[4] == 0 && abort[5] == 12;
}

static void went_down(dp_association_event *event, int error)
{
    event->type = DP_ASSOCIATION_DOWN;
    event->error = error;
}

static void read_association_change(dp_association_event *event, const uint8_t *data, size_t len)
{
    struct sctp_assoc_change change;
    if (len < sizeof change)
        return;
    memcpy(&change, data, sizeof change);
    switch (change.sac_state) {
    case SCTP_COMM_UP:
        event->type = DP_ASSOCIATION_UP;
        event->streams = change.sac_outbound_streams;
        event->incoming_streams = change.sac_inbound_streams;
        break;
    case SCTP_SHUTDOWN_COMP:
        went_down(event, DP_OK);
        break;
    case SCTP_RESTART: /* a peer that starts over has lost all channels */
    case SCTP_COMM_LOST:
        if (user_initiated(data + sizeof change, len - sizeof change))
            went_down(event, DP_OK);
        else
            went_down(event, len > sizeof change ? DP_ERR_REMOTE : DP_ERR_TIMEOUT);
        break;
    case SCTP_CANT_STR_ASSOC:
        went_down(event, len > sizeof change ? DP_ERR_REMOTE : DP_ERR_TIMEOUT);
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

static void read_notification(dp_association_event *event, const uint8_t *data, size_t len)
{
    struct sctp_tlv header;
    event->type = DP_ASSOCIATION_IGNORED;
    if (len < sizeof header)
        return;
    memcpy(&header, data, sizeof header);
    if (header.sn_length < len)
        len = header.sn_length;
    if (header.sn_type == SCTP_ASSOC_CHANGE)
        read_association_change(event, data, len);
    else if (header.sn_type == SCTP_STREAM_RESET_EVENT)
        read_stream_reset(event, data, len);
    else if (header.sn_type == SCTP_STREAM_CHANGE_EVENT)
        read_stream_change(event, data, len);
    else if (header.sn_type == SCTP_SENDER_DRY_EVENT)
        event->type = DP_ASSOCIATION_DRY;
}

static ssize_t receive(dp_stack *stack, void *buffer, size_t capacity, struct sctp_rcvinfo *info,
                       bool *has_info, int *flags)
{
    struct sockaddr_conn from;
    socklen_t from_len = sizeof from, info_len = sizeof *info;
    unsigned info_type = 0;
    memset(info, 0, sizeof *info);
    ssize_t n = usrsctp_recvv(stack->socket, buffer, capacity, (struct sockaddr *)&from, &from_len, info,
                              &info_len, &info_type, flags);
    *has_info = info_type == SCTP_RECVV_RCVINFO;
    return n;
}

void dp_stack_receive(dp_stack *stack, dp_association_event *event, uint8_t *buffer, size_t capacity)
{
    struct sctp_rcvinfo info;
    bool has_info;
    int flags = 0;
    memset(event, 0, sizeof *event);
    ssize_t n = receive(stack, buffer, capacity, &info, &has_info, &flags);
    if (n < 0 && (errno == EWOULDBLOCK || errno == EINTR))
        return;
    if (n <= 0) {
        went_down(event, n == 0 ? DP_OK : DP_ERR_REMOTE);
        return;
    }
    event->len = (size_t)n;
    if ((flags & MSG_NOTIFICATION) != 0) {
        read_notification(event, buffer, event->len);
        return;
    }
    event->type = has_info ? DP_ASSOCIATION_DATA : DP_ASSOCIATION_IGNORED;
    event->stream = info.rcv_sid;
    event->unordered = (info.rcv_flags & SCTP_UNORDERED) != 0;
    event->complete = (flags & MSG_EOR) != 0;
    event->ppid = ntohl(info.rcv_ppid);
    event->tsn = info.rcv_tsn;
    event->mid = info.rcv_ssn;
}

/* usrsctp marks what it had of such a message when the association ended as its end, and puts a notification behind. */
bool dp_stack_cut_short(dp_stack *stack)
{
    struct sctp_tlv header;
    struct sctp_rcvinfo info;
    bool has_info;
    int flags = MSG_PEEK;
    ssize_t n = receive(stack, &header, sizeof header, &info, &has_info, &flags);
    return n == (ssize_t)sizeof header && (flags & MSG_NOTIFICATION) != 0 &&
           header.sn_type == SCTP_PARTIAL_DELIVERY_EVENT;
}
