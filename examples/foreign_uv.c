/* The stack under libuv: two peer connections in one process, each with a UDP handle; one sends, the other counts. As in
 * foreign_poll.c, a dp_pc is a state machine, and this file moves its bytes and tells it the time. libuv's part: datagrams
 * and timers only change state machines; a prepare handle, which runs before the loop waits, takes out what has come of it.
 * Usage: foreign_uv [MEGABYTES] */
#include <arpa/inet.h>
#include <datapeer/peer_connection.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uv.h>

enum { MESSAGE = 65536 };

/* One side: a connection, its handles, and a datagram that libuv keeps until the socket has room. */
typedef struct end {
    const char *name;
    dp_pc *pc;
    uv_udp_t udp;
    uv_timer_t timer;
    dp_address local;
    uint8_t slot[DP_DATAGRAM_MAX];
    uv_udp_send_t request;
    bool out_waits;
    dp_channel *channel;
    size_t to_send; /* messages */
    size_t received;
    bool over;
} end;

static const uint8_t payload[MESSAGE];
static end ends[2] = {{.name = "offerer"}, {.name = "answerer"}};

static void check(int error, const char *what)
{
    if (error == DP_OK)
        return;
    fprintf(stderr, "foreign_uv: %s: %s\n", what, dp_strerror(error));
    exit(1);
}

static void check_uv(int error, const char *what)
{
    if (error == 0)
        return;
    fprintf(stderr, "foreign_uv: %s: %s\n", what, uv_strerror(error));
    exit(1);
}

/* Any monotonic clock does, if it is always the same one; uv_now's milliseconds are too coarse. */
static dp_time clock_now(void) { return uv_hrtime() / 1000; }

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
        break;
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

/* ---- the network ---- */

static dp_address address_of(const struct sockaddr *from)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)from;
    dp_address address = {.family = DP_FAMILY_IPV4, .port = ntohs(in->sin_port)};
    memcpy(address.ip, &in->sin_addr, 4);
    return address;
}

static void on_room(uv_udp_send_t *request, int status)
{
    end *e = request->data;
    (void)status; /* a datagram may be lost */
    e->out_waits = false;
}

/* While libuv keeps a datagram nothing more is asked for, so usrsctp's buffer fills up, and then dp_channel_send says
 * WOULD_BLOCK: the kernel slows the sender down. */
static void transmit(end *e, dp_time now)
{
    dp_datagram out = {.data = e->slot, .capacity = sizeof(e->slot)};
    while (!e->out_waits && dp_pc_poll_transmit(e->pc, now, &out)) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(out.remote.port)};
        memcpy(&in.sin_addr, out.remote.ip, 4);
        uv_buf_t buffer = uv_buf_init((char *)out.data, (unsigned)out.length);
        const struct sockaddr *to = (const struct sockaddr *)&in;
        if (uv_udp_try_send(&e->udp, &buffer, 1, to) == UV_EAGAIN)
            e->out_waits = uv_udp_send(&e->request, &e->udp, &buffer, 1, to, on_room) == 0;
    }
}

static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    static char data[65536];
    (void)handle, (void)suggested;
    *buffer = uv_buf_init(data, sizeof(data));
}

static void on_datagram(uv_udp_t *udp, ssize_t len, const uv_buf_t *buffer, const struct sockaddr *from,
                        unsigned flags)
{
    end *e = udp->data;
    (void)flags;
    if (len < 0 || from == NULL)
        return; /* an error, or nothing more to read for now */
    dp_address remote = address_of(from);
    dp_pc_input(e->pc, clock_now(), (uint8_t *)buffer->base, (size_t)len, &e->local, &remote);
}

static void open_socket(end *e)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int len = sizeof(in);
    e->udp.data = e->request.data = e;
    check_uv(uv_udp_init(uv_default_loop(), &e->udp), "a socket");
    check_uv(uv_udp_bind(&e->udp, (const struct sockaddr *)&in, 0), "binding");
    check_uv(uv_udp_getsockname(&e->udp, (struct sockaddr *)&in, &len), "our port");
    check_uv(uv_udp_recv_start(&e->udp, on_allocate, on_datagram), "receiving");
    e->local = address_of((const struct sockaddr *)&in);
}

/* ---- the loop ---- */

static void on_timer(uv_timer_t *timer)
{
    end *e = timer->data;
    dp_pc_handle_timeout(e->pc, clock_now());
}

/* In ms, rounded up: to wake before the time has come would be for nothing. */
static void set_timer(end *e, dp_time now)
{
    dp_time at = dp_pc_next_timeout(e->pc);
    if (at == DP_TIME_NEVER)
        uv_timer_stop(&e->timer);
    else
        uv_timer_start(&e->timer, on_timer, at <= now ? 0 : (at - now + 999) / 1000, 0);
}

/* All events, then all datagrams. */
static void on_prepare(uv_prepare_t *prepare)
{
    dp_time now = clock_now();
    for (int i = 0; i < 2; i++) {
        dp_pc_event event;
        while (dp_pc_poll_event(ends[i].pc, now, &event))
            on_event(&ends[i], now, &event);
        fill(&ends[i], now);
        transmit(&ends[i], now);
        set_timer(&ends[i], now);
    }
    if (ends[0].over && ends[1].over)
        uv_stop(prepare->loop);
}

static void close_handle(uv_handle_t *handle, void *unused)
{
    (void)unused;
    uv_close(handle, NULL);
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
    uv_loop_t *loop = uv_default_loop();
    uv_prepare_t prepare;
    dp_csprng *csprng;
    dp_certificate *certificate;
    size_t count = (argc > 1 ? strtoul(argv[1], NULL, 10) : 16) * 16; /* 16 messages are 1 MiB */
    ends[0].to_send = count;
    check(dp_csprng_new(&csprng), "the random source");
    dp_random random = dp_csprng_source(csprng);
    check(dp_certificate_generate(&certificate, &random, time(NULL)), "a certificate");
    dp_pc_config config = {.size = sizeof(config), .random = random, .certificate = certificate};
    for (int i = 0; i < 2; i++) {
        open_socket(&ends[i]);
        ends[i].timer.data = &ends[i];
        check_uv(uv_timer_init(loop, &ends[i].timer), "a timer");
        check(dp_pc_new(&ends[i].pc, &config), "a connection");
        check(dp_pc_add_local_address(ends[i].pc, clock_now(), &ends[i].local), "our address");
    }
    dp_channel_init init = DP_CHANNEL_INIT("data");
    dp_channel *channel;
    check(dp_pc_create_channel(ends[0].pc, &channel, clock_now(), &init), "a channel");
    negotiate(ends[0].pc, ends[1].pc);
    check_uv(uv_prepare_init(loop, &prepare), "a prepare handle");
    check_uv(uv_prepare_start(&prepare, on_prepare), "a prepare handle");
    uv_run(loop, UV_RUN_DEFAULT);
    printf("%zu of %zu messages arrived\n", ends[1].received, count);
    for (int i = 0; i < 2; i++)
        dp_pc_free(ends[i].pc);
    dp_certificate_free(certificate);
    dp_csprng_free(csprng);
    uv_walk(loop, close_handle, NULL);
    uv_run(loop, UV_RUN_DEFAULT); /* the handles close */
    uv_loop_close(loop);
    return ends[1].received == count ? 0 : 1;
}
