/* UDP in batches over the loopback interface. sendmmsg is interposed, so that the kernel's refusals can be
 * had at will. */
#include "tests/unit/net/helper.h"

#include "net/loop.h"
#include "net/udp.h"
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int refuse_errno;   /* 0: the kernel decides */
static int refuse_fd = -1; /* -1: every socket */
static size_t refusals;
static bool refuse_groups; /* only messages with UDP_SEGMENT */
static size_t messages_sent;
static size_t groups_sent;
static int refuse_whole; /* errno of sendmsg */
static size_t whole_sent;

static int receive_errno; /* once */

/* These take the C library's place in this program. */
int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout)
{
    if (receive_errno != 0) {
        errno = receive_errno;
        receive_errno = 0;
        return -1;
    }
    return (int)syscall(SYS_recvmmsg, fd, messages, count, flags, timeout);
}

/* True: this socket's datagrams leave with DF now, whatever the kernel knows about the path. */
static bool probes(int fd)
{
    int domain, value;
    socklen_t len = sizeof(domain);
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len), 0);
    bool v4 = domain == AF_INET;
    len = sizeof(value);
    assert_int_equal(getsockopt(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER,
                                &value, &len),
                     0);
    assert_true(value == (v4 ? IP_PMTUDISC_DONT : IPV6_PMTUDISC_DONT) ||
                value == (v4 ? IP_PMTUDISC_PROBE : IPV6_PMTUDISC_PROBE));
    return value == (v4 ? IP_PMTUDISC_PROBE : IPV6_PMTUDISC_PROBE);
}

/* What sends the datagrams that are to be whole. */
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    assert_true(probes(fd));
    whole_sent++;
    if (refuse_whole != 0) {
        errno = refuse_whole;
        return -1;
    }
    return syscall(SYS_sendmsg, fd, message, flags);
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    assert_false(probes(fd));
    bool grouped = messages[0].msg_hdr.msg_controllen > 0;
    if (refuse_errno != 0 && (refuse_fd < 0 || refuse_fd == fd) && (grouped || !refuse_groups)) {
        refusals++;
        errno = refuse_errno;
        refuse_errno = errno == EINTR ? 0 : errno; /* interrupted once */
        return -1;
    }
    long n = syscall(SYS_sendmmsg, fd, messages, count, flags);
    for (long i = 0; i < n; i++) {
        messages_sent++;
        groups_sent += messages[i].msg_hdr.msg_controllen > 0;
    }
    return (int)n;
}

static int udp_setup(void **state)
{
    refuse_errno = 0;
    refuse_fd = -1;
    refuse_groups = false;
    refuse_whole = 0;
    messages_sent = groups_sent = refusals = whole_sent = 0;
    return setup(state);
}

/* ---- a stream of numbered datagrams ---- */

enum { DATAGRAMS = 1000 };

typedef struct receiver {
    dp_udp *udp;
    size_t count;
    size_t bytes;
    size_t calls;
    size_t bad;
    size_t writable;
    bool seen[DATAGRAMS];
    uint16_t from;  /* the port they must come from; 0: any */
    dp_udp **close; /* closed by the first packet */
    dp_udp **close_2;
    bool answers;
    size_t left_before; /* messages sent when it was called for the second time */
} receiver;

static uint8_t pattern(size_t number, size_t i) { return (uint8_t)(number * 31 + i * 7 + (i >> 8)); }

static int put(dp_udp *udp, const dp_address *to, size_t number, size_t len);

static void close_slot(dp_udp **udp)
{
    if (udp == NULL || *udp == NULL)
        return;
    dp_udp_close(*udp);
    *udp = NULL;
}

static void on_packets(void *user, dp_udp *udp, dp_udp_packet *packets, size_t count)
{
    receiver *r = user;
    assert_ptr_equal(udp, r->udp);
    assert_true(count > 0);
    r->calls++;
    if (r->calls == 2)
        r->left_before = messages_sent;
    if (r->answers)
        assert_int_equal(put(udp, &packets[0].remote, r->calls, 2), DP_OK);
    for (size_t p = 0; p < count; p++) {
        r->count++;
        r->bytes += packets[p].len;
        if (packets[p].len < 2)
            continue;
        size_t number = (size_t)packets[p].data[0] << 8 | packets[p].data[1];
        bool ok =
            number < DATAGRAMS && !r->seen[number] && (r->from == 0 || packets[p].remote.port == r->from);
        for (size_t i = 2; ok && i < packets[p].len; i++)
            ok = packets[p].data[i] == pattern(number, i);
        if (ok)
            r->seen[number] = true;
        else
            r->bad++;
        memset(packets[p].data, 0xEE, packets[p].len); /* allowed, and must not touch a neighbour */
    }
    close_slot(r->close);
    close_slot(r->close_2);
}

static void on_writable(void *user, dp_udp *udp)
{
    receiver *r = user;
    assert_ptr_equal(udp, r->udp);
    r->writable++;
    close_slot(r->close);
    close_slot(r->close_2);
}

static dp_udp *open_udp(receiver *r, const char *ip)
{
    dp_udp_handler handler = {on_packets, on_writable, r};
    dp_address local;
    memset(r, 0, sizeof(*r));
    assert_int_equal(dp_address_parse(&local, ip, 0), DP_OK);
    assert_int_equal(dp_udp_open(&r->udp, loop, &local, &handler), DP_OK);
    assert_int_not_equal(dp_udp_local(r->udp)->port, 0);
    return r->udp;
}

static int fill(dp_datagram *slot, const dp_address *to, size_t number, size_t len)
{
    int error = dp_udp_slot(loop, slot);
    if (error != DP_OK)
        return error;
    assert_true(slot->capacity >= DP_DATAGRAM_MAX);
    for (size_t i = 0; i < len; i++)
        slot->data[i] = i == 0 ? (uint8_t)(number >> 8) : i == 1 ? (uint8_t)number : pattern(number, i);
    slot->length = len;
    slot->remote = *to;
    return DP_OK;
}

static int put(dp_udp *udp, const dp_address *to, size_t number, size_t len)
{
    dp_datagram slot;
    int error = fill(&slot, to, number, len);
    if (error == DP_OK)
        dp_udp_commit(loop, udp, &slot);
    return error;
}

static size_t mixed_size(size_t number)
{
    static const size_t sizes[] = {1200, 1200, 1200, 1200, 1200, 1200, 700, 2,
                                   1500, 1500, 3,    1200, 1200, 1200, 1201};
    return sizes[number % (sizeof(sizes) / sizeof(sizes[0]))];
}

static void send_mixed(const char *ip, bool gso, bool gro)
{
    static receiver a, b;
    open_udp(&a, ip);
    open_udp(&b, ip);
    dp_udp_set_offload(a.udp, gso && dp_udp_has_gso(a.udp), gro);
    dp_udp_set_offload(b.udp, gso && dp_udp_has_gso(b.udp), gro);
    b.from = dp_udp_local(a.udp)->port;
    size_t bytes = 0;
    for (size_t n = 0; n < DATAGRAMS; n++) {
        size_t len = mixed_size(n);
        bytes += len;
        assert_int_equal(put(a.udp, dp_udp_local(b.udp), n, len), DP_OK);
        if (n % 100 == 99) /* the receiver's buffer may be small (net.core.rmem_max) */
            RUN_UNTIL(b.count == n + 1);
    }
    RUN_UNTIL(b.count == DATAGRAMS);
    assert_int_equal(b.bad, 0);
    assert_int_equal(b.bytes, bytes);
    assert_int_equal(a.count, 0);
    dp_udp_close(a.udp);
    dp_udp_close(b.udp);
}

static void test_mixed_sizes_with_offload(void **state)
{
    (void)state;
    send_mixed("127.0.0.1", true, true);
    if (groups_sent > 0) /* a kernel with UDP_SEGMENT: far fewer messages than datagrams */
        assert_true(messages_sent < DATAGRAMS / 2);
}

static void test_mixed_sizes_without_offload(void **state)
{
    (void)state;
    send_mixed("127.0.0.1", false, false);
    assert_int_equal(groups_sent, 0);
    assert_int_equal(messages_sent, DATAGRAMS);
}

static void test_mixed_sizes_segmented_for_a_plain_receiver(void **state)
{
    (void)state;
    send_mixed("127.0.0.1", true, false);
}

static void test_mixed_sizes_ipv6(void **state)
{
    (void)state;
    dp_address six;
    dp_udp *probe;
    dp_udp_handler handler = {on_packets, NULL, NULL};
    assert_int_equal(dp_address_parse(&six, "::1", 0), DP_OK);
    if (dp_udp_open(&probe, loop, &six, &handler) != DP_OK)
        skip(); /* a machine without IPv6 */
    dp_udp_close(probe);
    send_mixed("::1", true, true);
}

/* A full batch of equal datagrams: the GRO message carries more of them than on_packets is given at once. */
static void test_equal_sizes_join(void **state)
{
    (void)state;
    static receiver a, b;
    open_udp(&a, "127.0.0.1");
    open_udp(&b, "127.0.0.1");
    for (size_t n = 0; n < 128; n++)
        assert_int_equal(put(a.udp, dp_udp_local(b.udp), n, 100), DP_OK);
    RUN_UNTIL(b.count == 128);
    assert_int_equal(b.bad, 0);
    if (groups_sent > 0)
        assert_int_equal(messages_sent, 2); /* 64 segments each */
    dp_udp_close(a.udp);
    dp_udp_close(b.udp);
}

/* More small datagrams in one recvmmsg than the list of packets holds. */
static void test_many_small_ones_in_one_read(void **state)
{
    (void)state;
    static receiver a, b;
    open_udp(&a, "127.0.0.1");
    open_udp(&b, "127.0.0.1");
    for (size_t n = 0; n < 600; n++)
        assert_int_equal(put(a.udp, dp_udp_local(b.udp), n, 16), DP_OK);
    dp_udp_flush(loop);
    RUN_UNTIL(b.count == 600);
    assert_int_equal(b.bad, 0);
    dp_udp_close(a.udp);
    dp_udp_close(b.udp);
}

/* The answer to the first ones is on its way when the next are given. */
static void test_answer_between(void **state)
{
    (void)state;
    static receiver a, b;
    open_udp(&a, "127.0.0.1");
    open_udp(&b, "127.0.0.1");
    b.answers = true;
    for (size_t n = 0; n < 5; n++)
        assert_int_equal(put(a.udp, dp_udp_local(b.udp), n, 9000), DP_OK);
    dp_udp_flush(loop);
    messages_sent = 0;
    RUN_UNTIL(b.count == 5 && a.count == 2);
    assert_int_equal(b.calls, 2);
    assert_int_equal(b.left_before, 1);
    assert_int_equal(a.bad + b.bad, 0);
    dp_udp_close(a.udp);
    dp_udp_close(b.udp);
}

static void test_empty_and_largest_datagram(void **state)
{
    (void)state;
    static receiver a, b;
    open_udp(&a, "127.0.0.1");
    open_udp(&b, "127.0.0.1");
    assert_int_equal(put(a.udp, dp_udp_local(b.udp), 0, 0), DP_OK);
    assert_int_equal(put(a.udp, dp_udp_local(b.udp), 0, 0), DP_OK);
    assert_int_equal(put(a.udp, dp_udp_local(b.udp), 1, DP_DATAGRAM_MAX), DP_OK);
    RUN_UNTIL(b.count == 3);
    assert_int_equal(b.bytes, DP_DATAGRAM_MAX);
    dp_udp_close(a.udp);
    dp_udp_close(b.udp);
}

static void test_two_sockets_in_one_batch(void **state)
{
    (void)state;
    static receiver a, b, c;
    open_udp(&a, "127.0.0.1");
    open_udp(&b, "127.0.0.1");
    open_udp(&c, "127.0.0.1");
    for (size_t n = 0; n < 120; n++)
        assert_int_equal(put(n % 3 == 0 ? a.udp : b.udp, dp_udp_local(c.udp), n, 50 + n % 2), DP_OK);
    RUN_UNTIL(c.count == 120);
    assert_int_equal(c.bad, 0);
    dp_udp_close(a.udp);
    dp_udp_close(b.udp);
    dp_udp_close(c.udp);
}

/* Between slot and commit the batch may be flushed, by a call or because a socket is closed. */
static void test_flush_before_commit(void **state)
{
    (void)state;
    static receiver a, b;
    open_udp(&a, "127.0.0.1");
    open_udp(&b, "127.0.0.1");
    dp_datagram slot;
    assert_int_equal(put(a.udp, dp_udp_local(b.udp), 0, 100), DP_OK);
    assert_int_equal(fill(&slot, dp_udp_local(b.udp), 1, 100), DP_OK);
    dp_udp_flush(loop);
    dp_udp_commit(loop, a.udp, &slot);
    assert_int_equal(put(a.udp, dp_udp_local(b.udp), 2, 100), DP_OK);
    RUN_UNTIL(b.count == 3);
    assert_int_equal(b.bad, 0);
    dp_udp_close(a.udp);
    dp_udp_close(b.udp);
}

/* A second commit of one slot is a mistake that must not write past the batch. */
static void test_slot_committed_twice(void **state)
{
    (void)state;
    static receiver a, b;
    open_udp(&a, "127.0.0.1");
    open_udp(&b, "127.0.0.1");
    dp_datagram slot;
    for (size_t n = 0; n < 128; n++) {
        assert_int_equal(fill(&slot, dp_udp_local(b.udp), n, 100), DP_OK);
        for (int i = 0; i < 3; i++)
            dp_udp_commit(loop, a.udp, &slot);
    }
    RUN_UNTIL(b.count == 128);
    assert_int_equal(b.bad, 0);
    dp_udp_close(a.udp);
    dp_udp_close(b.udp);
}

/* ---- the kernel refuses ---- */

/* A socket without checksums may not use UDP_SEGMENT: the kernel answers EINVAL, really. */
static void test_kernel_refuses_segmentation(void **state)
{
    (void)state;
    static receiver a, b;
    open_udp(&a, "127.0.0.1");
    open_udp(&b, "127.0.0.1");
    int on = 1;
    assert_int_equal(setsockopt(dp_udp_fd(a.udp), SOL_SOCKET, SO_NO_CHECK, &on, sizeof(on)), 0);
    for (size_t n = 0; n < 50; n++)
        assert_int_equal(put(a.udp, dp_udp_local(b.udp), n, 1000), DP_OK);
    RUN_UNTIL(b.count == 50);
    assert_int_equal(b.bad, 0);
    assert_int_equal(groups_sent, 0);
    assert_false(dp_udp_has_gso(a.udp));
    dp_udp_close(a.udp);
    dp_udp_close(b.udp);
}

static void test_fallback_after(int error)
{
    static receiver a, b;
    open_udp(&a, "127.0.0.1");
    open_udp(&b, "127.0.0.1");
    dp_udp_set_offload(a.udp, true, true);
    refuse_groups = true;
    refuse_errno = error;
    for (size_t n = 0; n < 50; n++)
        assert_int_equal(put(a.udp, dp_udp_local(b.udp), n, 1000), DP_OK);
    RUN_UNTIL(b.count == 50);
    assert_int_equal(b.bad, 0);
    assert_false(dp_udp_has_gso(a.udp));
    dp_udp_close(a.udp);
    dp_udp_close(b.udp);
}
static void test_no_checksum_offload(void **state)
{
    (void)state;
    test_fallback_after(EIO);
}
static void test_segment_over_mtu(void **state)
{
    (void)state;
    test_fallback_after(EMSGSIZE);
}

/* ---- datagrams that must be whole ---- */

static void put_whole(dp_udp *udp, const dp_address *to, size_t number, size_t len)
{
    dp_datagram slot;
    assert_int_equal(fill(&slot, to, number, len), DP_OK);
    assert_false(slot.whole);
    slot.whole = true;
    dp_udp_commit(loop, udp, &slot);
}

/* It leaves alone and in its place, and only it with DF (see sendmsg, sendmmsg above), though all have one size. */
static void whole_among_others(const char *ip, int refused, size_t arrive)
{
    static receiver a, b;
    open_udp(&a, ip);
    open_udp(&b, ip);
    const dp_address *to = dp_udp_local(b.udp);
    bool gso = dp_udp_has_gso(a.udp);
    refuse_whole = refused;
    for (size_t n = 0; n < 6; n++)
        if (n == 2 || n == 3)
            put_whole(a.udp, to, n, 1000);
        else
            assert_int_equal(put(a.udp, to, n, 1000), DP_OK);
    dp_udp_flush(loop);
    assert_false(dp_udp_io_pending(loop));
    assert_false(probes(dp_udp_fd(a.udp)));
    RUN_UNTIL(b.count == arrive);
    assert_int_equal(b.bad, 0);
    assert_int_equal(b.seen[2], refused == 0);
    assert_int_equal(whole_sent, 2);
    assert_int_equal(groups_sent, gso ? 2 : 0);
    dp_udp_close(a.udp);
    dp_udp_close(b.udp);
}
static void test_whole_ipv4(void **state)
{
    (void)state;
    whole_among_others("127.0.0.1", 0, 6);
}
static void test_whole_ipv6(void **state)
{
    (void)state;
    whole_among_others("::1", 0, 6);
}
static void test_whole_too_large(void **state)
{
    (void)state;
    whole_among_others("127.0.0.1", EMSGSIZE, 4);
}
/* It is lost, too, and nobody waits for room. */
static void test_whole_would_block(void **state)
{
    (void)state;
    whole_among_others("::1", EAGAIN, 4);
}

static void put_group(receiver *a, receiver *b, size_t first)
{
    for (size_t n = first; n < first + 10; n++)
        assert_int_equal(put(a->udp, dp_udp_local(b->udp), n, 1400), DP_OK);
    RUN_UNTIL(b->count == first + 10);
}

/* The interface's MTU fell below what was sent as segments, and rose again: the next probe tells. */
static void test_segments_after_a_whole_one(void **state)
{
    (void)state;
    static receiver a, b;
    open_udp(&a, "127.0.0.1");
    open_udp(&b, "127.0.0.1");
    dp_udp_set_offload(a.udp, true, true);
    refuse_groups = true;
    refuse_errno = EMSGSIZE;
    put_group(&a, &b, 0);
    refuse_errno = 0;
    put_group(&a, &b, 10);
    refuse_whole = EMSGSIZE;
    put_whole(a.udp, dp_udp_local(b.udp), 99, 1400); /* lost */
    put_group(&a, &b, 20);
    refuse_whole = 0;
    put_whole(a.udp, dp_udp_local(b.udp), 30, 1200); /* says nothing */
    put_group(&a, &b, 31);
    assert_int_equal(groups_sent, 0);
    put_whole(a.udp, dp_udp_local(b.udp), 41, 1400);
    put_group(&a, &b, 42);
    assert_int_equal(groups_sent, 1);
    assert_int_equal(b.bad, 0);
    dp_udp_close(a.udp);
    dp_udp_close(b.udp);
}

/* A full socket: the batch keeps its datagrams, slots run out, and once it takes some again every owner hears
 * of it. */
static void test_would_block(void **state)
{
    (void)state;
    static receiver a, b;
    open_udp(&a, "127.0.0.1");
    open_udp(&b, "127.0.0.1");
    refuse_errno = EAGAIN;
    size_t accepted = 0;
    while (put(a.udp, dp_udp_local(b.udp), accepted, 10) == DP_OK)
        accepted++;
    assert_true(accepted >= 64);
    assert_true(accepted < DATAGRAMS);
    dp_datagram slot;
    assert_int_equal(dp_udp_slot(loop, &slot), DP_ERR_WOULD_BLOCK);
    dp_udp_flush(loop);
    assert_int_equal(refusals, 1); /* the kernel is not asked again before it says that there is room */
    for (int i = 0; i < 3; i++)
        assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    assert_int_equal(a.writable, 0);
    refuse_errno = 0;
    RUN_UNTIL(a.writable == 1 && b.writable == 1);
    assert_int_equal(dp_udp_slot(loop, &slot), DP_OK);
    RUN_UNTIL(b.count == accepted);
    assert_int_equal(b.bad, 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    assert_int_equal(a.writable, 1); /* once per refusal */
    dp_udp_close(a.udp);
    dp_udp_close(b.udp);
}

/* While one socket is full, the other one's datagrams leave, in order, whatever lies between them. */
static void test_full_socket_does_not_hold_up_the_other(void **state)
{
    (void)state;
    static receiver a, b, c;
    open_udp(&a, "127.0.0.1");
    open_udp(&b, "127.0.0.1");
    open_udp(&c, "127.0.0.1");
    refuse_errno = EAGAIN;
    refuse_fd = dp_udp_fd(a.udp);
    for (size_t n = 0; n < 60; n++)
        assert_int_equal(put(n % 3 == 0 ? b.udp : a.udp, dp_udp_local(c.udp), n, 20 + n), DP_OK);
    RUN_UNTIL(c.count == 20);
    for (size_t n = 0; n < 60; n++)
        assert_int_equal(c.seen[n], n % 3 == 0);
    refuse_errno = 0;
    RUN_UNTIL(c.count == 60);
    assert_int_equal(c.bad, 0);
    dp_udp_close(a.udp);
    dp_udp_close(b.udp);
    dp_udp_close(c.udp);
}

/* Closing the full socket makes room; whoever was refused hears of it though no socket becomes writable. */
static void test_closing_the_full_socket_makes_room(void **state)
{
    (void)state;
    static receiver a, b;
    open_udp(&a, "127.0.0.1");
    open_udp(&b, "127.0.0.1");
    refuse_errno = EAGAIN;
    refuse_fd = dp_udp_fd(a.udp);
    while (put(a.udp, dp_udp_local(b.udp), 1, 10) == DP_OK)
        continue;
    assert_int_equal(put(b.udp, dp_udp_local(b.udp), 1, 10), DP_ERR_WOULD_BLOCK);
    dp_udp_close(a.udp);
    assert_int_equal(dp_loop_next_timeout(loop), 0);
    RUN_UNTIL(b.writable == 1);
    assert_int_equal(b.count, 0);
    dp_udp_close(b.udp);
}

static void test_closed_while_told_of_room(void **state)
{
    (void)state;
    static receiver r[3];
    for (int i = 0; i < 3; i++)
        open_udp(&r[i], "127.0.0.1");
    for (int i = 0; i < 3; i++) {
        r[i].close = &r[(i + 1) % 3].udp; /* whichever is called first closes both others */
        r[i].close_2 = &r[(i + 2) % 3].udp;
    }
    refuse_errno = EAGAIN;
    while (put(r[0].udp, dp_udp_local(r[1].udp), 1, 10) == DP_OK)
        continue;
    refuse_errno = 0;
    RUN_UNTIL(r[0].writable + r[1].writable + r[2].writable > 0);
    assert_int_equal(r[0].writable + r[1].writable + r[2].writable, 1);
    for (int i = 0; i < 3; i++)
        dp_udp_close(r[i].udp);
}

/* An unreachable remote costs its own datagrams only. */
static void test_one_bad_remote(void **state)
{
    (void)state;
    static receiver a, b;
    open_udp(&a, "127.0.0.1");
    open_udp(&b, "127.0.0.1");
    dp_address port_0 = loopback(0); /* EINVAL */
    dp_address six;
    assert_int_equal(dp_address_parse(&six, "::1", 9), DP_OK); /* the wrong family: not even queued */
    assert_int_equal(put(a.udp, &six, 1, 100), DP_OK);
    assert_int_equal(dp_loop_next_timeout(loop), DP_TIME_NEVER);
    for (size_t n = 0; n < 30; n++) {
        assert_int_equal(put(a.udp, &port_0, 1, 100), DP_OK);
        assert_int_equal(put(a.udp, dp_udp_local(b.udp), n, 100), DP_OK);
        assert_int_equal(put(a.udp, &six, 1, 100), DP_OK);
    }
    RUN_UNTIL(b.count == 30);
    assert_int_equal(b.bad, 0);
    refuse_errno = EPERM; /* a firewall */
    assert_int_equal(put(a.udp, dp_udp_local(b.udp), 40, 100), DP_OK);
    dp_udp_flush(loop);
    refuse_errno = 0;
    assert_int_equal(put(a.udp, dp_udp_local(b.udp), 41, 100), DP_OK);
    RUN_UNTIL(b.count == 31);
    assert_true(b.seen[41]);
    dp_udp_close(a.udp);
    dp_udp_close(b.udp);
}

/* ICMP port unreachable from a port that nobody has: the socket goes on. */
static void test_connection_refused_is_ignored(void **state)
{
    (void)state;
    static receiver a, b;
    open_udp(&a, "127.0.0.1");
    open_udp(&b, "127.0.0.1");
    int on = 1; /* makes the kernel report ICMP errors on this unconnected socket */
    assert_int_equal(setsockopt(dp_udp_fd(a.udp), IPPROTO_IP, IP_RECVERR, &on, sizeof(on)), 0);
    dp_address gone = *dp_udp_local(b.udp);
    dp_udp_close(b.udp);
    for (size_t n = 0; n < 5; n++) {
        assert_int_equal(put(a.udp, &gone, n, 100), DP_OK);
        dp_udp_flush(loop);
    }
    open_udp(&b, "127.0.0.1");
    assert_int_equal(put(a.udp, dp_udp_local(b.udp), 7, 100), DP_OK);
    assert_int_equal(put(a.udp, dp_udp_local(b.udp), 8, 100), DP_OK);
    assert_int_equal(put(b.udp, dp_udp_local(a.udp), 9, 100), DP_OK);
    RUN_UNTIL(b.seen[8] && a.seen[9]);
    dp_udp_close(a.udp);
    dp_udp_close(b.udp);
}

static void test_interrupted(void **state)
{
    (void)state;
    static const int errors[] = {EINTR, ECONNREFUSED, EAGAIN};
    static receiver a, b;
    open_udp(&a, "127.0.0.1");
    open_udp(&b, "127.0.0.1");
    for (size_t n = 0; n < 3; n++) {
        refuse_errno = EINTR;
        receive_errno = errors[n];
        assert_int_equal(put(a.udp, dp_udp_local(b.udp), n, 100), DP_OK);
        RUN_UNTIL(b.count == n + 1);
        assert_int_equal(receive_errno, 0);
    }
    assert_int_equal(b.bad, 0);
    dp_udp_close(a.udp);
    dp_udp_close(b.udp);
}

/* A socket that closes takes only its own waiting datagrams out of the batch. */
static void test_closing_keeps_the_others_datagrams(void **state)
{
    (void)state;
    static receiver a, b, c;
    open_udp(&a, "127.0.0.1");
    open_udp(&b, "127.0.0.1");
    open_udp(&c, "127.0.0.1");
    refuse_errno = EAGAIN;
    for (size_t n = 0; n < 60; n++)
        assert_int_equal(put(n % 3 == 0 ? b.udp : a.udp, dp_udp_local(c.udp), n, 20 + n), DP_OK);
    assert_int_equal(dp_loop_next_timeout(loop), 0); /* there is something to flush */
    dp_udp_close(a.udp);
    refuse_errno = 0;
    RUN_UNTIL(c.count == 20);
    assert_int_equal(c.bad, 0);
    for (size_t n = 0; n < 60; n++)
        assert_int_equal(c.seen[n], n % 3 == 0);
    dp_udp_close(b.udp);
    dp_udp_close(c.udp);
}

/* ---- closing inside callbacks ---- */

static void test_closed_in_its_own_callback(void **state)
{
    (void)state;
    static receiver a, b;
    open_udp(&a, "127.0.0.1");
    open_udp(&b, "127.0.0.1");
    b.close = &b.udp;
    for (size_t n = 0; n < 900; n++) /* several lists of packets and several reads */
        assert_int_equal(put(a.udp, dp_udp_local(b.udp), n, 4), DP_OK);
    RUN_UNTIL(b.udp == NULL);
    assert_int_equal(b.calls, 1);
    dp_udp_close(a.udp);
    dp_udp_close(NULL);
}

static void test_closed_by_the_other_one(void **state)
{
    (void)state;
    static receiver a, b;
    open_udp(&a, "127.0.0.1");
    open_udp(&b, "127.0.0.1");
    a.close = &b.udp;
    b.close = &a.udp;
    assert_int_equal(put(a.udp, dp_udp_local(b.udp), 1, 4), DP_OK);
    assert_int_equal(put(b.udp, dp_udp_local(a.udp), 2, 4), DP_OK);
    dp_udp_flush(loop);
    RUN_UNTIL(a.calls + b.calls > 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    assert_int_equal(a.calls + b.calls, 1);
    dp_udp_close(a.udp);
    dp_udp_close(b.udp);
}

static void test_last_words(void **state)
{
    (void)state;
    static receiver a, b;
    open_udp(&a, "127.0.0.1");
    open_udp(&b, "127.0.0.1");
    assert_int_equal(put(a.udp, dp_udp_local(b.udp), 5, 100), DP_OK);
    dp_udp_close(a.udp); /* what it had committed still leaves */
    RUN_UNTIL(b.seen[5]);
    dp_udp_close(b.udp);
}

/* ---- opening ---- */

static void test_open_errors(void **state)
{
    (void)state;
    static receiver a;
    dp_datagram slot;
    assert_int_equal(dp_udp_slot(loop, &slot), DP_ERR_INVALID_STATE);
    dp_udp_flush(loop);
    dp_udp_handler handler = {on_packets, NULL, NULL};
    dp_address any = loopback(0);
    dp_udp *udp;
    for (long n = 1; n <= 4; n++) {
        fail_allocation(n);
        assert_int_equal(dp_udp_open(&udp, loop, &any, &handler), DP_ERR_NO_MEMORY);
        fail_allocation(0);
    }
    open_udp(&a, "127.0.0.1");
    assert_int_equal(dp_udp_open(&udp, loop, dp_udp_local(a.udp), &handler), DP_ERR_IO); /* in use */
    dp_address none = {0};
    assert_int_equal(dp_udp_open(&udp, loop, &none, &handler), DP_ERR_IO);
    dp_udp_close(a.udp);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, udp_setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_mixed_sizes_with_offload),
        TEST(test_mixed_sizes_without_offload),
        TEST(test_mixed_sizes_segmented_for_a_plain_receiver),
        TEST(test_mixed_sizes_ipv6),
        TEST(test_equal_sizes_join),
        TEST(test_many_small_ones_in_one_read),
        TEST(test_answer_between),
        TEST(test_empty_and_largest_datagram),
        TEST(test_two_sockets_in_one_batch),
        TEST(test_flush_before_commit),
        TEST(test_slot_committed_twice),
        TEST(test_kernel_refuses_segmentation),
        TEST(test_no_checksum_offload),
        TEST(test_segment_over_mtu),
        TEST(test_whole_ipv4),
        TEST(test_whole_ipv6),
        TEST(test_whole_too_large),
        TEST(test_whole_would_block),
        TEST(test_segments_after_a_whole_one),
        TEST(test_would_block),
        TEST(test_full_socket_does_not_hold_up_the_other),
        TEST(test_closing_the_full_socket_makes_room),
        TEST(test_closed_while_told_of_room),
        TEST(test_one_bad_remote),
        TEST(test_connection_refused_is_ignored),
        TEST(test_interrupted),
        TEST(test_closing_keeps_the_others_datagrams),
        TEST(test_closed_in_its_own_callback),
        TEST(test_closed_by_the_other_one),
        TEST(test_last_words),
        TEST(test_open_errors),
    };
    return cmocka_run_group_tests_name("net/udp", tests, NULL, NULL);
}
