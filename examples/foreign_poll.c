/* The stack under a loop of your own, here poll(2): two peer connections in one process, each with a UDP socket; one sends,
 * the other counts. No dp_loop, no thread, nothing hidden: a dp_pc is a state machine, and this file is all that moves its
 * bytes and tells it the time. foreign_uv.c does the same under libuv. Usage: foreign_poll [MEGABYTES] */
#include <arpa/inet.h>
#include <datapeer/peer_connection.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE = 65536 };

/* One side: a connection, its socket, and a datagram that waits until the socket has room. */
typedef struct end {
    const char *name;
    dp_pc *pc;
    int fd;
    dp_address local;
    uint8_t slot[DP_DATAGRAM_MAX];
    dp_datagram out;
    bool out_waits;
    dp_channel *channel;
    size_t to_send; /* messages */
    size_t received;
    bool over;
} end;

static const uint8_t payload[MESSAGE];

static void check(int error, const char *what)
{
    if (error == DP_OK)
        return;
    fprintf(stderr, "foreign_poll: %s: %s\n", what, dp_strerror(error));
    exit(1);
}

/* Any monotonic clock does, if it is always the same one. */
static dp_time clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return DP_SECONDS(t.tv_sec) + (dp_time)t.tv_nsec / 1000;
}

/* ---- the network: a socket of one address of this machine ---- */

static dp_address address_of(const struct sockaddr_in *in)
{
    dp_address address = {.family = DP_FAMILY_IPV4, .port = ntohs(in->sin_port)};
    memcpy(address.ip, &in->sin_addr, 4);
    return address;
}

static void open_socket(end *e)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(in);
    e->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    bool open = e->fd >= 0 && bind(e->fd, (struct sockaddr *)&in, len) == 0 &&
                getsockname(e->fd, (struct sockaddr *)&in, &len) == 0;
    check(open ? DP_OK : DP_ERR_IO, "a socket");
    e->local = address_of(&in);
    e->out = (dp_datagram){.data = e->slot, .capacity = sizeof(e->slot)};
}

static void receive(end *e, dp_time now)
{
    uint8_t data[65536];
    struct sockaddr_in in = {0};
    socklen_t len = sizeof(in);
    for (ssize_t n; (n = recvfrom(e->fd, data, sizeof(data), 0, (struct sockaddr *)&in, &len)) >= 0;) {
        dp_address remote = address_of(&in);
        dp_pc_input(e->pc, now, data, (size_t)n, &e->local, &remote);
    }
}

/* False: the socket is full, and the datagram has to wait. One that can't be sent for another reason is lost. */
static bool send_out(const end *e)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(e->out.remote.port)};
    memcpy(&in.sin_addr, e->out.remote.ip, 4);
    return sendto(e->fd, e->out.data, e->out.length, 0, (struct sockaddr *)&in, sizeof(in)) >= 0 ||
           errno != EAGAIN;
}

/* While the socket is full nothing more is asked for, so usrsctp's buffer fills up, and then dp_channel_send says
 * WOULD_BLOCK: the kernel slows the sender down. */
static void transmit(end *e, dp_time now)
{
    while (e->out_waits || dp_pc_poll_transmit(e->pc, now, &e->out)) {
        e->out_waits = !send_out(e);
        if (e->out_waits)
            return;
    }
}

/* ---- what the two do ---- */

static void on_event(end *e, dp_time now, const dp_pc_event *event)
{
    switch (event->type) {
    case DP_PC_EVENT_STATE:
        printf("%s: %s\n", e->name, dp_pc_state_name(event->state));
        e->over = event->state == DP_PC_CLOSED || event->state == DP_PC_FAILED;
        break;
    case DP_PC_EVENT_CHANNEL_OPEN:
        printf("%s: channel '%s' is open\n", e->name, dp_channel_label(event->channel));
        e->channel = event->channel;
        break;
    case DP_PC_EVENT_MESSAGE:
        e->received++;
        break;
    case DP_PC_EVENT_CHANNEL_CLOSED:
        e->channel = NULL;
        dp_pc_close(e->pc, now); /* the other side hears of it */
        break;
    default:
        break; /* with STUN, TURN and mDNS there would be more to do: LOCAL_CANDIDATE, LINK_OPEN, RESOLVE... */
    }
}

/* Sends as long as there is room; what was sent still arrives when the channel is closed. */
static void fill(end *e, dp_time now)
{
    while (e->channel != NULL && e->to_send > 0) {
        if (dp_channel_send(e->channel, now, payload, sizeof(payload), true, false) != DP_OK)
            return; /* WOULD_BLOCK: the next round tries again */
        if (--e->to_send == 0)
            dp_channel_close(e->channel, now);
    }
}

/* Due after each call that may have changed something: all events, then all datagrams. */
static void pump(end *e, dp_time now)
{
    dp_pc_event event;
    while (dp_pc_poll_event(e->pc, now, &event))
        on_event(e, now, &event);
    fill(e, now);
    transmit(e, now);
}

/* ---- the loop ---- */

/* In ms, rounded up: to wake before the time has come would be for nothing. */
static int wait_for(const end ends[2], dp_time now)
{
    dp_time a = dp_pc_next_timeout(ends[0].pc), b = dp_pc_next_timeout(ends[1].pc);
    dp_time at = a < b ? a : b;
    if (at == DP_TIME_NEVER)
        return -1;
    return at <= now ? 0 : (int)((at - now + 999) / 1000);
}

static void run(end ends[2])
{
    for (;;) {
        struct pollfd fds[2];
        dp_time now = clock_now();
        for (int i = 0; i < 2; i++) {
            pump(&ends[i], now);
            short events = ends[i].out_waits ? POLLIN | POLLOUT : POLLIN;
            fds[i] = (struct pollfd){.fd = ends[i].fd, .events = events};
        }
        if (ends[0].over && ends[1].over)
            return;
        if (poll(fds, 2, wait_for(ends, now)) < 0 && errno != EINTR)
            check(DP_ERR_IO, "poll");
        now = clock_now();
        for (int i = 0; i < 2; i++) {
            receive(&ends[i], now);
            if (dp_pc_next_timeout(ends[i].pc) <= now)
                dp_pc_handle_timeout(ends[i].pc, now);
        }
    }
}

/* The descriptions go from hand to hand here; two programs would send them by any way they have. */
static void negotiate(dp_pc *offerer, dp_pc *answerer)
{
    static char sdp[16384];
    size_t len;
    dp_time now = clock_now();
    check(dp_pc_create_offer(offerer, now, sdp, sizeof(sdp), &len), "the offer");
    check(dp_pc_set_remote_description(answerer, now, DP_SDP_OFFER, sdp, len, NULL), "taking the offer");
    check(dp_pc_create_answer(answerer, now, sdp, sizeof(sdp), &len), "the answer");
    check(dp_pc_set_remote_description(offerer, now, DP_SDP_ANSWER, sdp, len, NULL), "taking the answer");
}

int main(int argc, char **argv)
{
    size_t count = (argc > 1 ? strtoul(argv[1], NULL, 10) : 16) * 16; /* 16 messages are 1 MiB */
    end ends[2] = {{.name = "offerer", .to_send = count}, {.name = "answerer"}};
    dp_csprng *csprng;
    dp_certificate *certificate;
    check(dp_csprng_new(&csprng), "the random source");
    dp_random random = dp_csprng_source(csprng);
    check(dp_certificate_generate(&certificate, &random, time(NULL)), "a certificate");
    dp_pc_config config = {.size = sizeof(config), .random = random, .certificate = certificate};
    for (int i = 0; i < 2; i++) {
        open_socket(&ends[i]);
        check(dp_pc_new(&ends[i].pc, &config), "a connection");
        check(dp_pc_add_local_address(ends[i].pc, clock_now(), &ends[i].local), "our address");
    }
    dp_channel_init init = DP_CHANNEL_INIT("data");
    dp_channel *channel;
    check(dp_pc_create_channel(ends[0].pc, &channel, clock_now(), &init), "a channel");
    negotiate(ends[0].pc, ends[1].pc);
    run(ends);
    printf("%zu of %zu messages arrived\n", ends[1].received, count);
    for (int i = 0; i < 2; i++) {
        dp_pc_free(ends[i].pc);
        close(ends[i].fd);
    }
    dp_certificate_free(certificate);
    dp_csprng_free(csprng);
    return ends[1].received == count ? 0 : 1;
}
