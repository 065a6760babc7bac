#include "net/udp.h"

#include "base/mem.h"
#include "net/cmsg.h"
#include "net/loop.h"
#include "net/sockaddr.h"
#include <errno.h>
#include <netinet/udp.h>
#include <string.h>
#include <unistd.h>

enum {
    IN_MESSAGES = 16, /* for one recvmmsg */
    IN_BATCHES = 4,   /* calls of recvmmsg for one socket in one round; then the others have their turn */
    IN_SIZE = 65536,  /* a GRO message is as long as an IP packet can be; only touched pages cost memory */
    IN_PACKETS = 256, /* given to on_packets at once, */
    IN_BYTES = 32768, /* and not many more bytes than this */
    OUT_SLOTS = 128,  /* datagrams that wait in the loop's batch */
    OUT_STRIDE = DP_DATAGRAM_MAX, /* in whole cache lines; only touched pages cost memory */
    OUT_MESSAGES = 64,            /* for one sendmmsg */
    GSO_SEGMENTS = 64,            /* UDP_MAX_SEGMENTS of the kernel's udp.h (later kernels: 128) */
    GSO_LEAST = 1232,             /* fits into every IPv6 link, and into all but odd ones of IPv4 */
    GSO_BYTES = 65000,            /* an IP packet's 65535 less the headers */
    RECEIVE_BUFFER = 4 << 20,
    SEND_BUFFER = 1 << 20,
};

struct dp_udp {
    dp_source source;
    dp_udp_handler handler;
    dp_address local;
    dp_udp *next; /* of the loop */
    dp_udp **link;
    size_t gso_max; /* datagrams up to this size leave together; 0: there is no UDP_SEGMENT */
    bool blocked;   /* the kernel's buffer is full; waits for EPOLLOUT */
    bool wildcard;  /* bound to all addresses: each datagram has its own */
};

/* A datagram that waits in the batch. data moves with it, so a slot's memory belongs to its entry. */
typedef struct out_entry {
    uint8_t *data;
    size_t len;
    dp_udp *udp;
    dp_address local; /* of a wildcard socket's, if it matters */
    dp_address remote;
    bool whole;
} out_entry;

/* Room for the ancillary messages, aligned as struct cmsghdr wants it. */
typedef struct control {
    _Alignas(size_t) uint8_t bytes[CMSG_SPACE(sizeof(int)) + DP_CMSG_LOCAL_SPACE];
} control;

/* The buffers of all UDP sockets of one loop. */
struct dp_udp_io {
    dp_udp *first;
    dp_udp *cursor; /* the next one to be told on_writable */
    bool starved;   /* a caller of dp_udp_slot was refused */
    size_t count;   /* entries of out that wait */
    out_entry out[OUT_SLOTS];
    struct mmsghdr out_messages[OUT_MESSAGES];
    size_t out_group[OUT_MESSAGES]; /* entries in each message */
    struct iovec out_iov[OUT_SLOTS];
    union dp_sockaddr out_names[OUT_MESSAGES];
    control out_control[OUT_MESSAGES];

    struct mmsghdr in_messages[IN_MESSAGES];
    struct iovec in_iov[IN_MESSAGES];
    union dp_sockaddr in_names[IN_MESSAGES];
    dp_address in_locals[IN_MESSAGES];
    control in_control[IN_MESSAGES];
    dp_udp_packet packets[IN_PACKETS];

    uint8_t *in_memory;
    uint8_t *out_memory;
};

/* ---- set-up ---- */

static void on_udp(dp_source *source, uint32_t events);

static int udp_io_new(dp_loop *loop)
{
    struct dp_udp_io *io = dp_calloc(1, sizeof(*io));
    uint8_t *in = dp_alloc((size_t)IN_MESSAGES * IN_SIZE);
    uint8_t *out = dp_alloc((size_t)OUT_SLOTS * OUT_STRIDE);
    if (io == NULL || in == NULL || out == NULL) {
        dp_free(io);
        dp_free(in);
        dp_free(out);
        return DP_ERR_NO_MEMORY;
    }
    io->in_memory = in;
    io->out_memory = out;
    for (size_t i = 0; i < OUT_SLOTS; i++)
        io->out[i].data = out + i * OUT_STRIDE;
    for (size_t i = 0; i < IN_MESSAGES; i++) {
        io->in_iov[i] = (struct iovec){in + i * IN_SIZE, IN_SIZE};
        io->in_messages[i].msg_hdr.msg_iov = &io->in_iov[i];
        io->in_messages[i].msg_hdr.msg_iovlen = 1;
        io->in_messages[i].msg_hdr.msg_name = &io->in_names[i];
        io->in_messages[i].msg_hdr.msg_control = &io->in_control[i];
    }
    loop->udp = io;
    return DP_OK;
}

void dp_udp_io_free(dp_loop *loop)
{
    if (loop->udp == NULL)
        return;
    dp_free(loop->udp->in_memory);
    dp_free(loop->udp->out_memory);
    dp_free(loop->udp);
    loop->udp = NULL;
}

static bool set_fragments(const dp_udp *udp, int v4, int v6)
{
    bool is_v4 = udp->local.family == DP_FAMILY_IPV4;
    int *value = is_v4 ? &v4 : &v6;
    return setsockopt(udp->source.fd, is_v4 ? IPPROTO_IP : IPPROTO_IPV6,
                      is_v4 ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER, value, sizeof(*value)) == 0;
}

/* What is not a probe may be fragmented, here or by routers. */
static void allow_fragments(const dp_udp *udp)
{
    (void)set_fragments(udp, IP_PMTUDISC_DONT, IPV6_PMTUDISC_DONT);
}

/* The FORCE variants pass the system's maximum but need a capability. */
static void set_buffer(int fd, int force, int plain, int bytes)
{
    if (setsockopt(fd, SOL_SOCKET, force, &bytes, sizeof(bytes)) != 0)
        (void)setsockopt(fd, SOL_SOCKET, plain, &bytes, sizeof(bytes));
}

int dp_udp_adopt(dp_udp **out, dp_loop *loop, int fd, const dp_address *local, const dp_udp_handler *handler)
{
    dp_udp *udp = NULL;
    int err = DP_ERR_NO_MEMORY;
    if (loop->udp != NULL || udp_io_new(loop) == DP_OK)
        udp = dp_calloc(1, sizeof(*udp));
    if (udp != NULL) {
        dp_source_init(&udp->source, loop, on_udp);
        udp->handler = *handler;
        udp->local = *local;
        err = dp_source_set(&udp->source, fd, EPOLLIN);
    }
    if (err != DP_OK) {
        dp_free(udp);
        close(fd);
        return err;
    }
    int segment = 0;
    socklen_t len = sizeof(segment);
    dp_udp_set_offload(udp, getsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &segment, &len) == 0, true);
    allow_fragments(udp);
    udp->next = loop->udp->first;
    udp->link = &loop->udp->first;
    if (udp->next != NULL)
        udp->next->link = &udp->next;
    loop->udp->first = udp;
    *out = udp;
    return DP_OK;
}

static bool is_wildcard(const dp_address *address)
{
    const dp_address any = {.family = address->family};
    return dp_address_same_ip(address, &any);
}

int dp_udp_open(dp_udp **out, dp_loop *loop, const dp_address *local, const dp_udp_handler *handler)
{
    dp_address bound = *local;
    int fd = dp_socket_open(local, SOCK_DGRAM);
    if (fd < 0)
        return DP_ERR_IO;
    if (dp_socket_bind(fd, &bound) != DP_OK) {
        close(fd);
        return DP_ERR_IO;
    }
    bool wildcard = is_wildcard(&bound);
    if (wildcard && dp_cmsg_ask_local(fd, bound.family) != DP_OK) {
        close(fd);
        return DP_ERR_IO;
    }
    set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, RECEIVE_BUFFER);
    set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, SEND_BUFFER);
    int error = dp_udp_adopt(out, loop, fd, &bound, handler);
    if (error == DP_OK)
        (*out)->wildcard = wildcard;
    return error;
}

void dp_udp_set_offload(dp_udp *udp, bool gso, bool gro)
{
    int on = gro;
    udp->gso_max = gso ? GSO_BYTES : 0;
    (void)setsockopt(udp->source.fd, IPPROTO_UDP, UDP_GRO, &on,
                     sizeof(on)); /* without it: one datagram a message */
}

bool dp_udp_has_gso(const dp_udp *udp) { return udp->gso_max > 0; }
int dp_udp_fd(const dp_udp *udp) { return udp->source.fd; }
const dp_address *dp_udp_local(const dp_udp *udp) { return &udp->local; }

static void swap_entries(out_entry *a, out_entry *b)
{
    if (a == b)
        return;
    out_entry t = *a;
    *a = *b;
    *b = t;
}

void dp_udp_close(dp_udp *udp)
{
    if (udp == NULL)
        return;
    dp_loop *loop = udp->source.loop;
    struct dp_udp_io *io = loop->udp;
    dp_udp_flush(loop); /* a last close_notify shall leave */
    size_t kept = 0;
    for (size_t i = 0; i < io->count; i++)
        if (io->out[i].udp != udp)
            swap_entries(&io->out[kept++], &io->out[i]);
    io->count = kept;
    if (io->cursor == udp)
        io->cursor = udp->next;
    *udp->link = udp->next;
    if (udp->next != NULL)
        udp->next->link = udp->link;
    dp_source_close_fd(&udp->source);
    dp_source_free(&udp->source);
}

/* ---- receiving ---- */

/* The size of the datagrams that UDP_GRO joined into this message; 0: it is one datagram. */
static size_t gro_size(struct msghdr *message)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(c), sizeof(size));
            return size > 0 ? (size_t)size : 0;
        }
    }
    return 0;
}

/* Gives the list of packets to the owner; false if that closed the socket. */
static bool give(dp_udp *udp, size_t *count)
{
    if (*count > 0)
        udp->handler.on_packets(udp->handler.user, udp, udp->source.loop->udp->packets, *count);
    *count = 0;
    return !udp->source.closed;
}

/* A full one; what it has caused leaves now. Or two ends that keep each other busy would work in turns, each waiting for the
 * whole batch of the other, and not at the same time. */
static bool give_and_answer(dp_udp *udp, size_t *count, size_t *bytes)
{
    *bytes = 0;
    if (!give(udp, count))
        return false;
    dp_udp_flush(udp->source.loop);
    return true;
}

static bool give_messages(dp_udp *udp, size_t messages)
{
    struct dp_udp_io *io = udp->source.loop->udp;
    size_t count = 0, bytes = 0;
    for (size_t m = 0; m < messages; m++) {
        struct msghdr *message = &io->in_messages[m].msg_hdr;
        size_t len = io->in_messages[m].msg_len;
        size_t size = gro_size(message);
        if ((message->msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
            continue;
        if (size == 0 || size > len)
            size = len;
        dp_address remote;
        dp_sockaddr_to(&remote, &io->in_names[m]);
        dp_address *local = &udp->local;
        if (udp->wildcard) {
            local = &io->in_locals[m];
            *local = udp->local;
            dp_cmsg_read_local(local, message);
        }
        uint8_t *data = io->in_iov[m].iov_base;
        for (size_t at = 0; at == 0 || at < len; at += size) {
            io->packets[count++] =
                (dp_udp_packet){data + at, len - at < size ? len - at : size, remote, local};
            bytes += size;
            if ((count == IN_PACKETS || bytes >= IN_BYTES) && !give_and_answer(udp, &count, &bytes))
                return false;
            if (size == 0)
                break;
        }
    }
    return give(udp, &count);
}

static void receive(dp_udp *udp)
{
    struct dp_udp_io *io = udp->source.loop->udp;
    for (int batch = 0; batch < IN_BATCHES; batch++) {
        for (size_t i = 0; i < IN_MESSAGES; i++) {
            io->in_messages[i].msg_hdr.msg_namelen = sizeof(io->in_names[i]);
            io->in_messages[i].msg_hdr.msg_controllen = sizeof(io->in_control[i]);
        }
        int n = recvmmsg(udp->source.fd, io->in_messages, IN_MESSAGES, MSG_DONTWAIT, NULL);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n < 0)
            continue; /* EINTR, or an ICMP error about one remote: it says nothing about the others */
        if (!give_messages(udp, (size_t)n) || n < IN_MESSAGES)
            return;
    }
}

static void on_udp(dp_source *source, uint32_t events)
{
    dp_udp *udp = (dp_udp *)source;
    if ((events & EPOLLOUT) != 0) {
        udp->blocked = false;
        (void)dp_source_set(source, source->fd, EPOLLIN);
        dp_udp_flush(source->loop);
    }
    if ((events & EPOLLERR) != 0) {
        int error;
        socklen_t len = sizeof(error);
        (void)getsockopt(source->fd, SOL_SOCKET, SO_ERROR, &error, &len); /* reading clears it */
    }
    if ((events & EPOLLIN) != 0)
        receive(udp);
}

/* ---- sending ---- */

int dp_udp_slot(dp_loop *loop, dp_datagram *slot)
{
    struct dp_udp_io *io = loop->udp;
    if (io == NULL)
        return DP_ERR_INVALID_STATE;
    if (io->count == OUT_SLOTS)
        dp_udp_flush(loop);
    if (io->count == OUT_SLOTS) {
        io->starved = true;
        return DP_ERR_WOULD_BLOCK;
    }
    memset(slot, 0, sizeof(*slot));
    slot->data = io->out[io->count].data;
    slot->capacity = DP_DATAGRAM_MAX;
    return DP_OK;
}

void dp_udp_commit(dp_loop *loop, dp_udp *udp, const dp_datagram *slot)
{
    struct dp_udp_io *io = loop->udp;
    /* The kernel would refuse the wrong family too; here it can't take a whole group with it. */
    if (slot->length > slot->capacity || slot->remote.family != udp->local.family)
        return;
    /* The slot is the first that is free, unless the batch was flushed meanwhile; committed twice, it is not
     * free any more. */
    size_t i = io->count;
    while (i < OUT_SLOTS && io->out[i].data != slot->data)
        i++;
    if (i == OUT_SLOTS)
        return;
    out_entry *entry = &io->out[io->count++];
    swap_entries(entry, &io->out[i]);
    entry->len = slot->length;
    entry->udp = udp;
    bool named = udp->wildcard && slot->link == 0; /* a link's local may be the relay's, not ours */
    entry->local = named ? slot->local : (dp_address){.family = DP_FAMILY_NONE};
    entry->remote = slot->remote;
    entry->whole = slot->whole;
}

/* The number of entries from first on that can leave as one UDP_SEGMENT message: from one address to one remote, one size,
 * the last one may be shorter (udp(7)). */
static size_t group_size(const out_entry *first, const out_entry *end, size_t gso_max)
{
    size_t n = 1;
    size_t bytes = first->len;
    if (first->len > gso_max || first->len == 0)
        return n;
    while (first + n < end && n < GSO_SEGMENTS && first[n - 1].len == first->len &&
           first[n].len <= first->len && first[n].len > 0 && !first[n].whole &&
           bytes + first[n].len <= GSO_BYTES && dp_address_equal(&first[n].remote, &first->remote) &&
           (!first->udp->wildcard || dp_address_same_ip(&first[n].local, &first->local)))
        bytes += first[n++].len;
    return n;
}

/* Message number m: n entries from first on, their bytes in iov. */
static struct msghdr *fill_message(struct dp_udp_io *io, size_t m, const out_entry *first, size_t n,
                                   struct iovec *iov)
{
    struct msghdr *message = &io->out_messages[m].msg_hdr;
    memset(message, 0, sizeof(*message));
    message->msg_name = &io->out_names[m];
    message->msg_namelen = dp_sockaddr_from(&io->out_names[m], &first->remote);
    message->msg_iov = iov;
    message->msg_iovlen = n;
    message->msg_control = &io->out_control[m];
    for (size_t i = 0; i < n; i++)
        iov[i] = (struct iovec){first[i].data, first[i].len};
    if (n > 1) {
        uint16_t size = (uint16_t)first->len;
        dp_cmsg_append(message, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size));
    }
    if (first->local.family != DP_FAMILY_NONE)
        dp_cmsg_write_local(message, &first->local);
    return message;
}

/* Fills out_messages from the entries [at, end) of one socket; returns how many messages. */
static size_t build_messages(struct dp_udp_io *io, size_t gso_max, size_t at, size_t end)
{
    size_t messages = 0;
    struct iovec *iov = io->out_iov;
    while (at < end && messages < OUT_MESSAGES && !io->out[at].whole) {
        const out_entry *first = &io->out[at];
        size_t n = group_size(first, io->out + end, gso_max);
        (void)fill_message(io, messages, first, n, iov);
        io->out_group[messages++] = n;
        iov += n;
        at += n;
    }
    return messages;
}

/* Lost if it does not fit, whatever the kernel believes to know about the path. One that leaves shows that segments of
 * its size may do so again. */
static void send_whole(struct dp_udp_io *io, dp_udp *udp, const out_entry *entry)
{
    const struct msghdr *message = fill_message(io, 0, entry, 1, io->out_iov);
    bool left = set_fragments(udp, IP_PMTUDISC_PROBE, IPV6_PMTUDISC_PROBE) &&
                sendmsg(udp->source.fd, message, MSG_DONTWAIT) >= 0;
    if (left && udp->gso_max == GSO_LEAST && entry->len > GSO_LEAST)
        udp->gso_max = GSO_BYTES;
    allow_fragments(udp);
}

/* Sends the entries [at, end), all of one socket, as far as it takes them; returns how many are done. */
static size_t send_entries(struct dp_udp_io *io, dp_udp *udp, size_t at, size_t end)
{
    size_t first = at;
    bool retried = false;
    while (at < end) {
        if (io->out[at].whole) {
            send_whole(io, udp, &io->out[at++]);
            continue;
        }
        size_t messages = build_messages(io, udp->gso_max, at, end);
        int n = sendmmsg(udp->source.fd, io->out_messages, (unsigned)messages, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            udp->blocked = true;
            (void)dp_source_set(&udp->source, udp->source.fd, EPOLLIN | EPOLLOUT);
            break;
        }
        if (n < 0 && errno == ECONNREFUSED && !retried) {
            retried = true; /* an ICMP error about an earlier datagram; these have not been tried yet */
            continue;
        }
        if (n < 0 && io->out_group[0] > 1 && (errno == EINVAL || errno == EIO || errno == EMSGSIZE)) {
            /* The way to this remote has no checksum offload (EIO), or its MTU is below the segment size. */
            size_t len = io->out[at].len;
            udp->gso_max = len > GSO_LEAST ? GSO_LEAST : 0;
            continue;
        }
        if (n <= 0)
            n = 1; /* unreachable, forbidden, out of buffers...: the datagram is lost, as in any network */
        for (int i = 0; i < n; i++)
            at += io->out_group[i];
    }
    return at - first;
}

void dp_udp_flush(dp_loop *loop)
{
    struct dp_udp_io *io = loop->udp;
    if (io == NULL)
        return;
    size_t kept = 0;
    for (size_t at = 0; at < io->count;) {
        dp_udp *udp = io->out[at].udp;
        size_t end = at;
        while (end < io->count && io->out[end].udp == udp)
            end++;
        if (!udp->blocked)
            at += send_entries(io, udp, at, end);
        while (at < end)
            swap_entries(&io->out[kept++], &io->out[at++]);
    }
    io->count = kept;
}

bool dp_udp_io_pending(const dp_loop *loop)
{
    const struct dp_udp_io *io = loop->udp;
    if (io == NULL)
        return false;
    if (io->starved && io->count < OUT_SLOTS)
        return true;
    for (size_t i = 0; i < io->count; i++)
        if (!io->out[i].udp->blocked)
            return true;
    return false;
}

/* The end of a round: sends, and tells every owner about room if somebody was refused (dp_udp_slot does not
 * know for which socket). */
void dp_udp_io_run(dp_loop *loop)
{
    struct dp_udp_io *io = loop->udp;
    dp_udp_flush(loop);
    if (io == NULL || !io->starved || io->count == OUT_SLOTS)
        return;
    io->starved = false;
    io->cursor = io->first;
    while (io->cursor != NULL) {
        dp_udp *udp = io->cursor;
        io->cursor = udp->next;
        if (udp->handler.on_writable != NULL)
            udp->handler.on_writable(udp->handler.user, udp);
    }
    dp_udp_flush(loop);
}
