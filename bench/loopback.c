/* What a connection costs on this machine: two processes of ours over loopback, kernel sockets and all.
 *
 * - throughput: one reliable channel, 64 KiB messages, one way: MB/s, and processor seconds of both ends a
 * GiB
 * - set-up: from the offer to an open channel, two processes; and both ends on one core
 * - memory: resident bytes of a connected pair, both ends in one process
 *
 *     bench/loopback [seconds [pairs]] */
#include "count.h"
#include "peer/runner.h"
#include <datapeer/datapeer.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MESSAGE = 65536, SDP = 16384 };

static void need(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "loopback: %s failed\n", what);
        exit(1);
    }
}

typedef struct end {
    dp_loop *loop;
    runner *runner;
    mux *own_mux;
    dp_channel *channel;
    bool open;
    bool over;
    bool sending;
    uint64_t bytes;
    dp_time stop_at;
} end;

static uint8_t message[MESSAGE];

static void on_event(void *user, const dp_pc_event *event)
{
    end *e = user;
    if (event->type == DP_PC_EVENT_CHANNEL_OPEN) {
        e->channel = event->channel;
        e->open = true;
        dp_channel_set_buffered_amount_low_threshold(e->channel, 512 << 10);
    } else if (event->type == DP_PC_EVENT_MESSAGE) {
        e->bytes += event->len;
    } else if (event->type == DP_PC_EVENT_STATE &&
               (event->state == DP_PC_CLOSED || event->state == DP_PC_FAILED)) {
        e->over = true;
        e->channel = NULL;
    }
}

static void on_fill(void *user)
{
    end *e = user;
    dp_time now = dp_loop_now(e->loop);
    if (!e->sending || e->channel == NULL)
        return;
    if (now >= e->stop_at) {
        e->over = dp_channel_buffered_amount(e->channel) == 0;
        return;
    }
    while (dp_channel_send(e->channel, now, message, sizeof(message), true, false) == DP_OK)
        e->bytes += sizeof(message);
}

/* As a Peer does it: all who are called share one port, callers have one each. */
static network *net;
static mux *shared_mux;

static void end_new(end *e, bool caller, dp_loop *loop, dp_random random, const dp_certificate *certificate)
{
    memset(e, 0, sizeof(*e));
    e->loop = loop;
    mux **m = caller ? &e->own_mux : &shared_mux;
    if (net == NULL) {
        network_config on = {.loop = loop, .random = random, .include_loopback = true};
        need(dp_network_new(&net, &on) == DP_OK, "dp_network_new");
    }
    if (*m == NULL)
        need(dp_mux_new(m, net, 0) == DP_OK, "dp_mux_new");
    runner_config config = {.network = net,
                            .mux = *m,
                            .pc = {.size = sizeof(config.pc), .random = random, .certificate = certificate},
                            .on_event = on_event,
                            .on_fill = on_fill,
                            .user = e};
    need(dp_runner_new(&e->runner, &config) == DP_OK, "dp_runner_new");
}

static void end_free(end *e)
{
    dp_runner_free(e->runner);
    dp_mux_free(e->own_mux);
}

static size_t offer(end *e, char *sdp)
{
    size_t len;
    dp_channel_init init = DP_CHANNEL_INIT("bench");
    need(dp_pc_create_channel(dp_runner_pc(e->runner), &e->channel, dp_loop_now(e->loop), &init) == DP_OK,
         "create_channel");
    need(dp_pc_create_offer(dp_runner_pc(e->runner), dp_loop_now(e->loop), sdp, SDP, &len) == DP_OK,
         "create_offer");
    return len;
}

static size_t answer(end *e, const char *offered, size_t offered_len, char *sdp)
{
    size_t len;
    dp_pc *pc = dp_runner_pc(e->runner);
    need(dp_pc_set_remote_description(pc, dp_loop_now(e->loop), DP_SDP_OFFER, offered, offered_len, NULL) ==
             DP_OK,
         "offer");
    need(dp_pc_create_answer(pc, dp_loop_now(e->loop), sdp, SDP, &len) == DP_OK, "create_answer");
    dp_runner_wake(e->runner);
    return len;
}

static void accept_answer(end *e, const char *sdp, size_t len)
{
    need(dp_pc_set_remote_description(dp_runner_pc(e->runner), dp_loop_now(e->loop), DP_SDP_ANSWER, sdp, len,
                                      NULL) == DP_OK,
         "answer");
    dp_runner_wake(e->runner);
}

static double cpu_seconds(int who)
{
    struct rusage u;
    getrusage(who, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void wait_for(end *e, const bool *flag)
{
    dp_time deadline = dp_clock_now() + DP_SECONDS(60);
    while (!*flag) {
        need(dp_clock_now() < deadline, "connecting");
        dp_loop_step(e->loop, DP_MS(100));
    }
}

/* The receiving process: answers, counts, and writes what it counted when the sender closes. */
static void receiver(int pipe)
{
    static char offered[SDP], sdp[SDP];
    dp_loop *loop;
    dp_csprng *csprng = NULL;
    dp_certificate *certificate;
    end e;
    need(dp_loop_new(&loop) == DP_OK && dp_csprng_new(&csprng) == DP_OK, "start");
    dp_random random = dp_csprng_source(csprng);
    need(dp_certificate_generate(&certificate, &random, dp_clock_unix()) == DP_OK, "certificate");
    end_new(&e, false, loop, random, certificate);
    ssize_t n = read(pipe, offered, sizeof(offered));
    need(n > 0, "read");
    size_t len = answer(&e, offered, (size_t)n, sdp);
    need(write(pipe, sdp, len) == (ssize_t)len, "write");
    allocations = 0;
    while (!e.over)
        dp_loop_step(loop, DP_MS(100));
    uint64_t report[2] = {e.bytes, allocations};
    need(write(pipe, report, sizeof(report)) == sizeof(report), "write");
    _exit(0);
}

static void throughput(dp_loop *loop, dp_random random, const dp_certificate *certificate, unsigned seconds)
{
    static char sdp[SDP];
    int pipes[2];
    need(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pipes) == 0, "socketpair");
    pid_t child = fork();
    if (child == 0)
        receiver(pipes[1]);
    end e;
    end_new(&e, true, loop, random, certificate);
    size_t len = offer(&e, sdp);
    need(write(pipes[0], sdp, len) == (ssize_t)len, "write");
    ssize_t n = read(pipes[0], sdp, sizeof(sdp));
    need(n > 0, "read");
    accept_answer(&e, sdp, (size_t)n);
    wait_for(&e, &e.open);
    double cpu = cpu_seconds(RUSAGE_SELF);
    dp_time began = dp_clock_now();
    e.stop_at = began + DP_SECONDS(seconds);
    e.sending = true;
    allocations = 0;
    dp_runner_wake(e.runner);
    while (!e.over)
        dp_loop_step(loop, DP_MS(10));
    double took = (double)(dp_clock_now() - began) / 1e6;
    cpu = cpu_seconds(RUSAGE_SELF) - cpu;
    uint64_t sent_allocations = allocations;
    end_free(&e);
    uint64_t report[2] = {0, 0};
    need(read(pipes[0], report, sizeof(report)) == sizeof(report), "read");
    uint64_t arrived = report[0];
    waitpid(child, NULL, 0);
    cpu += cpu_seconds(RUSAGE_CHILDREN);
    double gib = (double)arrived / (1u << 30);
    double mib = (double)arrived / (1u << 20);
    printf("throughput %.0f MB/s, %.2f CPU s/GiB (both ends), %.1f MB sent, %.1f MB arrived\n",
           (double)arrived / took / 1e6, cpu / gib, (double)e.bytes / 1e6, (double)arrived / 1e6);
    printf("allocations of ours a MiB: %.1f sending, %.1f receiving\n", (double)sent_allocations / mib,
           (double)report[1] / mib);
}

static void connect_pair(end pair[2], dp_loop *loop, dp_random random, const dp_certificate *certificate)
{
    static char offered[SDP], sdp[SDP];
    for (int i = 0; i < 2; i++)
        end_new(&pair[i], i == 0, loop, random, certificate);
    size_t offered_len = offer(&pair[0], offered);
    size_t len = answer(&pair[1], offered, offered_len, sdp);
    accept_answer(&pair[0], sdp, len);
    wait_for(&pair[0], &pair[0].open);
    wait_for(&pair[1], &pair[1].open);
}

static long resident(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    need(f != NULL && fscanf(f, "%*d %ld", &pages) == 1, "statm");
    fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

static int compare(const void *a, const void *b)
{
    dp_time x = *(const dp_time *)a, y = *(const dp_time *)b;
    return x < y ? -1 : x > y;
}

/* The answering process: one connection after the other, each ended by the caller. */
static void answerer(int pipe)
{
    static char offered[SDP], sdp[SDP];
    dp_loop *loop;
    dp_csprng *csprng = NULL;
    dp_certificate *certificate;
    need(dp_loop_new(&loop) == DP_OK && dp_csprng_new(&csprng) == DP_OK, "start");
    dp_random random = dp_csprng_source(csprng);
    need(dp_certificate_generate(&certificate, &random, dp_clock_unix()) == DP_OK, "certificate");
    net = NULL; /* the other process's, with its loop */
    shared_mux = NULL;
    for (ssize_t n; (n = read(pipe, offered, sizeof(offered))) > 0;) {
        end e;
        end_new(&e, false, loop, random, certificate);
        dp_loop_step(loop, 0); /* what dp_loop_now says */
        size_t len = answer(&e, offered, (size_t)n, sdp);
        need(write(pipe, sdp, len) == (ssize_t)len, "write");
        while (!e.over)
            dp_loop_step(loop, DP_MS(100));
        end_free(&e);
    }
    _exit(0);
}

/* From the offer, made here, to the open channel, a process and a processor for each side. */
static void setup(dp_loop *loop, dp_random random, const dp_certificate *certificate, unsigned times)
{
    static char sdp[SDP];
    int pipes[2];
    dp_time *took = calloc(times, sizeof(*took));
    need(took != NULL && socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pipes) == 0, "socketpair");
    pid_t child = fork();
    if (child == 0) {
        close(pipes[0]);
        answerer(pipes[1]);
    }
    close(pipes[1]);
    for (unsigned i = 0; i < times; i++) {
        end e;
        dp_loop_step(loop, 0);
        dp_time began = dp_clock_now();
        end_new(&e, true, loop, random, certificate);
        size_t len = offer(&e, sdp);
        need(write(pipes[0], sdp, len) == (ssize_t)len, "write");
        ssize_t n = read(pipes[0], sdp, sizeof(sdp));
        need(n > 0, "read");
        accept_answer(&e, sdp, (size_t)n);
        wait_for(&e, &e.open);
        took[i] = dp_clock_now() - began;
        end_free(&e);
    }
    close(pipes[0]);
    waitpid(child, NULL, 0);
    qsort(took, times, sizeof(*took), compare);
    printf("set-up median %.1f ms, p90 %.1f ms (a process for each end, %u times)\n",
           (double)took[times / 2] / 1e3, (double)took[times * 9 / 10] / 1e3, times);
    free(took);
}

static void many(dp_loop *loop, dp_random random, const dp_certificate *certificate, unsigned pairs)
{
    end(*list)[2] = calloc(pairs, sizeof(*list));
    dp_time *times = calloc(pairs, sizeof(*times));
    need(list != NULL && times != NULL, "calloc");
    end warm[2];
    connect_pair(warm, loop, random, certificate);
    long before = resident();
    for (unsigned i = 0; i < pairs; i++) {
        dp_time began = dp_clock_now();
        connect_pair(list[i], loop, random, certificate);
        times[i] = dp_clock_now() - began;
    }
    long after = resident();
    qsort(times, pairs, sizeof(*times), compare);
    printf("set-up median %.1f ms (both ends on one core, %u pairs)\n", (double)times[pairs / 2] / 1e3,
           pairs);
    printf("memory %.0f KB a connected pair (both ends)\n", (double)(after - before) / pairs / 1e3);
    for (unsigned i = 0; i < pairs; i++)
        for (int e = 0; e < 2; e++)
            end_free(&list[i][e]);
    for (int e = 0; e < 2; e++)
        end_free(&warm[e]);
    free(list);
    free(times);
}

int main(int argc, char **argv)
{
    dp_loop *loop;
    dp_csprng *csprng = NULL;
    dp_certificate *certificate;
    count_allocations();
    need(dp_loop_new(&loop) == DP_OK && dp_csprng_new(&csprng) == DP_OK, "start");
    dp_random random = dp_csprng_source(csprng);
    need(dp_certificate_generate(&certificate, &random, dp_clock_unix()) == DP_OK, "certificate");
    throughput(loop, random, certificate, argc > 1 ? (unsigned)atoi(argv[1]) : 5);
    setup(loop, random, certificate, 50);
    many(loop, random, certificate, argc > 2 ? (unsigned)atoi(argv[2]) : 100);
    dp_mux_free(shared_mux);
    dp_network_free(net);
    dp_certificate_free(certificate);
    dp_csprng_free(csprng);
    dp_loop_free(loop);
    return 0;
}
