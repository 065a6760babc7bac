/* A whole handshake of two of our ends: processor time of each end, datagrams, and heap, mbedTLS's included; then the
 * time that passes between two processes over UDP on loopback.
 *
 * In memory both ends take turns in one process in virtual time, and a call's time and blocks are those of the end
 * that was called. malloc and its kin are replaced here (glibc's way), so that mbedTLS's blocks are seen. */
#include <arpa/inet.h>
#include <datapeer/dtls.h>
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "dtls/record.h"

#define HANDSHAKES 200
#define WALL_CLOCK INT64_C(1790000000)

enum { CLIENT, SERVER, NOBODY };

static const char *const names[] = {"client", "server"};

/* ---- heap --------------------------------------------------------------------------------------------------- */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void __libc_free(void *block);

typedef struct heap {
    long long bytes; /* as malloc rounds them up */
    long long peak;
    long long blocks;
    unsigned long long allocations;
} heap;

static int caller = NOBODY;
static heap heaps[3];

static void count_block(void *block)
{
    heap *h = &heaps[caller];
    if (block == NULL)
        return;
    h->bytes += (long long)malloc_usable_size(block);
    h->blocks++;
    h->allocations++;
    if (h->bytes > h->peak)
        h->peak = h->bytes;
}

static void forget_block(void *block)
{
    if (block == NULL)
        return;
    heaps[caller].bytes -= (long long)malloc_usable_size(block);
    heaps[caller].blocks--;
}

DP_API void *malloc(size_t size)
{
    void *block = __libc_malloc(size);
    count_block(block);
    return block;
}

DP_API void *calloc(size_t count, size_t size)
{
    void *block = __libc_calloc(count, size);
    count_block(block);
    return block;
}

DP_API void *realloc(void *old, size_t size)
{
    forget_block(old);
    void *block = __libc_realloc(old, size);
    count_block(block);
    return block;
}

DP_API void free(void *block)
{
    forget_block(block);
    __libc_free(block);
}

/* ---- one end ------------------------------------------------------------------------------------------------ */

static dp_random source;
static dp_certificate *certificates[2];

static void require(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "dtls_handshake: %s\n", what);
        exit(1);
    }
}

static double seconds(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static dp_dtls *end_new(int which, dp_time now)
{
    dp_dtls_config config = {.size = sizeof config,
                             .random = source,
                             .role = which == CLIENT ? DP_DTLS_CLIENT : DP_DTLS_SERVER,
                             .certificate = certificates[which]};
    dp_fingerprint fingerprint;
    dp_certificate_fingerprint(certificates[!which], &fingerprint);
    dp_dtls *dtls = NULL;
    require(dp_dtls_new(&dtls, &config) == DP_OK &&
                dp_dtls_set_remote_fingerprints(dtls, &fingerprint, 1) == DP_OK &&
                dp_dtls_start(dtls, now) == DP_OK,
            "an end does not start");
    return dtls;
}

static void drain_events(dp_dtls *dtls)
{
    dp_dtls_event event;
    while (dp_dtls_poll_event(dtls, &event))
        require(event.type == DP_DTLS_EVENT_CONNECTED, "the handshake failed");
}

/* ---- in memory ---------------------------------------------------------------------------------------------- */

typedef struct end {
    dp_dtls *dtls;
    double cpu; /* seconds */
    unsigned datagrams;
    size_t bytes;
} end;

typedef struct run {
    end ends[2];
} run;

static double enter(int which)
{
    caller = which;
    return seconds(CLOCK_THREAD_CPUTIME_ID);
}

static void leave(end *e, double since)
{
    e->cpu += seconds(CLOCK_THREAD_CPUTIME_ID) - since;
    caller = NOBODY;
}

/* Hands all that `from` has to send to the other end. */
static bool deliver(run *r, int from, dp_time now)
{
    end *sender = &r->ends[from];
    end *receiver = &r->ends[!from];
    bool any = false;
    for (;;) {
        uint8_t datagram[DP_DATAGRAM_MAX];
        size_t len = 0;
        double since = enter(from);
        bool more = dp_dtls_poll_transmit(sender->dtls, datagram, sizeof datagram, &len);
        leave(sender, since);
        if (!more)
            return any;
        any = true;
        sender->datagrams++;
        sender->bytes += len;
        since = enter(!from);
        dp_dtls_input(receiver->dtls, now, datagram, len);
        drain_events(receiver->dtls);
        leave(receiver, since);
    }
}

static run handshake(void)
{
    run r = {0};
    dp_time now = DP_SECONDS(1); /* stands still: no retransmission */
    for (int i = 0; i < 2; i++) {
        double since = enter(i);
        r.ends[i].dtls = end_new(i, now);
        leave(&r.ends[i], since);
    }
    while (deliver(&r, CLIENT, now) || deliver(&r, SERVER, now)) {
    }
    for (int i = 0; i < 2; i++)
        require(dp_dtls_get_state(r.ends[i].dtls) == DP_DTLS_CONNECTED, "the handshake does not end");
    return r;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* In milliseconds. */
static void print_times(const char *what, double *values)
{
    qsort(values, HANDSHAKES, sizeof *values, by_value);
    printf("%s: median %.2f ms, best %.2f ms\n", what, values[HANDSHAKES / 2] * 1e3, values[0] * 1e3);
}

static void in_memory(void)
{
    static double cpu[3][HANDSHAKES];
    run last = {0};
    for (int i = 0; i < HANDSHAKES; i++) {
        memset(heaps, 0, sizeof heaps);
        last = handshake();
        for (int which = 0; which < 2; which++)
            cpu[which][i] = last.ends[which].cpu;
        cpu[NOBODY][i] = cpu[CLIENT][i] + cpu[SERVER][i];
        if (i == HANDSHAKES - 1)
            break;
        for (int which = 0; which < 2; which++) {
            caller = which;
            dp_dtls_free(last.ends[which].dtls);
        }
        caller = NOBODY;
    }
    print_times("processor time of the client", cpu[CLIENT]);
    print_times("processor time of the server", cpu[SERVER]);
    print_times("processor time of both", cpu[NOBODY]);
    for (int which = 0; which < 2; which++) {
        const heap *h = &heaps[which];
        printf("%s: %u datagrams, %zu bytes; heap %.1f KB at most, %.1f KB in %lld blocks once connected; "
               "%llu allocations\n",
               names[which], last.ends[which].datagrams, last.ends[which].bytes, (double)h->peak / 1e3,
               (double)h->bytes / 1e3, h->blocks, h->allocations);
        caller = which;
        dp_dtls_free(last.ends[which].dtls);
        require(h->blocks == 0, "blocks are lost");
    }
    caller = NOBODY;
    printf("of the heap once connected, keys and replay window: %zu bytes, whatever the cipher\n",
           sizeof(dp_protection));
}

/* ---- over UDP ----------------------------------------------------------------------------------------------- */

static dp_time monotonic(void) { return (dp_time)(seconds(CLOCK_MONOTONIC) * 1e6); }

static void send_all(dp_dtls *dtls, int fd)
{
    uint8_t datagram[DP_DATAGRAM_MAX];
    size_t len = 0;
    while (dp_dtls_poll_transmit(dtls, datagram, sizeof datagram, &len))
        (void)!send(fd, datagram, len, 0);
}

/* Seconds from creation to CONNECTED. */
static double connect_over(int fd, int which)
{
    double begin = seconds(CLOCK_MONOTONIC);
    dp_dtls *dtls = end_new(which, monotonic());
    send_all(dtls, fd);
    while (dp_dtls_get_state(dtls) != DP_DTLS_CONNECTED) {
        dp_time now = monotonic();
        dp_time timeout = dp_dtls_next_timeout(dtls);
        int wait_ms = timeout == DP_TIME_NEVER ? -1 : timeout <= now ? 0 : (int)((timeout - now) / 1000 + 1);
        uint8_t datagram[DP_DATAGRAM_MAX];
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        if (poll(&readable, 1, wait_ms) > 0) {
            ssize_t len = recv(fd, datagram, sizeof datagram, 0);
            if (len > 0)
                dp_dtls_input(dtls, monotonic(), datagram, (size_t)len);
        } else {
            dp_dtls_handle_timeout(dtls, monotonic());
        }
        drain_events(dtls);
        send_all(dtls, fd);
    }
    double took = seconds(CLOCK_MONOTONIC) - begin;
    dp_dtls_free(dtls);
    return took;
}

static void over_udp(void)
{
    static double wall[HANDSHAKES];
    int fds[2];
    struct sockaddr_in addresses[2];
    for (int i = 0; i < 2; i++) {
        addresses[i] = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof addresses[i];
        fds[i] = socket(AF_INET, SOCK_DGRAM, 0);
        require(fds[i] >= 0 && bind(fds[i], (struct sockaddr *)&addresses[i], len) == 0 &&
                    getsockname(fds[i], (struct sockaddr *)&addresses[i], &len) == 0,
                "no socket");
    }
    for (int i = 0; i < 2; i++)
        require(connect(fds[i], (struct sockaddr *)&addresses[!i], sizeof addresses[i]) == 0, "no socket");
    (void)fflush(stdout);
    pid_t child = fork();
    require(child >= 0, "no second process");
    for (int i = 0; i < HANDSHAKES; i++)
        wall[i] = connect_over(fds[child == 0 ? SERVER : CLIENT], child == 0 ? SERVER : CLIENT);
    if (child == 0)
        _exit(0);
    require(waitpid(child, NULL, 0) == child, "the second process is lost");
    print_times("two processes over UDP on loopback, until the client is connected", wall);
}

int main(void)
{
    dp_csprng *csprng = NULL;
    require(dp_csprng_new(&csprng) == DP_OK, "no random source");
    source = dp_csprng_source(csprng);
    for (int i = 0; i < 2; i++)
        require(dp_certificate_generate(&certificates[i], &source, WALL_CLOCK) == DP_OK, "no certificate");
    in_memory();
    over_udp();
    for (int i = 0; i < 2; i++)
        dp_certificate_free(certificates[i]);
    dp_csprng_free(csprng);
    return 0;
}
