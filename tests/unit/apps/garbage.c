/* Thousands of connections that bring garbage to a PeerServer, from the address of honest clients: these get every message, and
 * newcomers join; afterwards descriptors and memory are as before. How fast that goes: bench/signal_garbage.c. */
#include "apps/signal_host.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    PAIRS = 4,
    WARM_UP = 500,
    GARBAGE = 5000,
    OPEN = 300, /* at once; the oldest is reset */
    KINDS = 10,
    SLACK = 16384, /* of memory: tables and queues that have grown */
};
#define DEADLINE DP_SECONDS(60)

static dp_loop *loop;
static dp_csprng *csprng;
static signal_host *host;
static uint16_t port;
static size_t live; /* bytes that the library holds */

/* ---- memory and descriptors ---- */

static void *counting_realloc(void *ctx, void *old, size_t size)
{
    (void)ctx;
    size_t *block = old != NULL ? (size_t *)old - 2 : NULL;
    if (block != NULL)
        live -= block[0];
    block = realloc(block, size + 2 * sizeof(size_t));
    if (block == NULL)
        abort();
    block[0] = size;
    live += size;
    return block + 2;
}
static void *counting_alloc(void *ctx, size_t size) { return counting_realloc(ctx, NULL, size); }
static void counting_free(void *ctx, void *block)
{
    (void)ctx;
    live -= ((size_t *)block)[-2];
    free((size_t *)block - 2);
}

static size_t descriptors(void)
{
    size_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

/* ---- sockets ---- */

static void step(void) { assert_int_equal(dp_loop_step(loop, 0), DP_OK); }

#define RUN_UNTIL(condition)                                                                                 \
    do {                                                                                                     \
        dp_time end_ = dp_clock_now() + DEADLINE;                                                            \
        while (!(condition)) {                                                                               \
            assert_true(dp_clock_now() < end_);                                                              \
            assert_int_equal(dp_loop_step(loop, DP_MS(5)), DP_OK);                                           \
        }                                                                                                    \
    } while (0)

/* The kernel connects it before it is accepted. */
static int dial(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

/* The server may have closed it by now. */
static void say(int fd, const void *data, size_t len) { (void)!send(fd, data, len, MSG_NOSIGNAL); }

static void reset(int fd)
{
    const struct linger now = {1, 0};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    close(fd);
}

static void ask_to_join(int fd, const char *id)
{
    char text[512];
    int len = snprintf(text, sizeof(text),
                       "GET /peerjs?key=peerjs&id=%s&token=t HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n"
                       "Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                       "Sec-WebSocket-Version: 13\r\n\r\n",
                       id);
    say(fd, text, (size_t)len);
}

/* Appends what came to text, which has room for size bytes; false: the server has closed. */
static bool hear(int fd, char *text, size_t size)
{
    size_t len = strlen(text);
    ssize_t n = recv(fd, text + len, size - 1 - len, 0);
    if (n > 0)
        text[len + (size_t)n] = '\0';
    return n > 0 || (n < 0 && errno == EAGAIN);
}

static int join(const char *id)
{
    char text[1024] = "";
    int fd = dial();
    ask_to_join(fd, id);
    RUN_UNTIL(!hear(fd, text, sizeof(text)) || strstr(text, "\"OPEN\"}") != NULL);
    if (strstr(text, "\"OPEN\"}") == NULL)
        fail_msg("%s does not get in: %s", id, text);
    return fd;
}

/* ---- garbage ---- */

static const char binary[] = "\x01\xfe\x00\x80\xff\x7f garbage \x00\x0d\x0a\x0d\x0a\x0d\x0a";

static int garbage(unsigned n)
{
    static const char wrong[] =
        "GET /peerjs?key=peerjs&id=g&token=t HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Key: short\r\nSec-WebSocket-Version: 13\r\n\r\n";
    static char huge[20000];
    char id[32];
    int fd = dial();
    switch (n % KINDS) {
    case 0: /* silent */
        break;
    case 1: /* half a request line */
    case 2: /* slow: goes on a byte at a time */
        say(fd, "GET /pee", 8);
        break;
    case 3:
        snprintf(huge, sizeof(huge), "GET / HTTP/1.1\r\nHost: h\r\nA: %0*d", (int)sizeof(huge) - 30, 0);
        say(fd, huge, sizeof(huge));
        break;
    case 4:
        say(fd, binary, sizeof(binary));
        break;
    case 5:
        say(fd, "\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03", 11); /* ClientHello */
        break;
    case 6:
        say(fd, wrong, sizeof(wrong) - 1);
        break;
    case 7: /* joins, and then no frames */
        snprintf(id, sizeof(id), "garbage%u", n);
        ask_to_join(fd, id);
        say(fd, binary, sizeof(binary));
        break;
    case 8:
        reset(fd);
        return -1;
    default: /* closes its half and waits */
        say(fd, "GET /pee", 8);
        shutdown(fd, SHUT_WR);
        break;
    }
    return fd;
}

/* ---- honest clients ---- */

typedef struct pair {
    int from, to;
    unsigned sent, got;
    char text[8192]; /* what came and is not read */
} pair;

static pair pairs[PAIRS];

static void send_message(pair *p)
{
    char text[128];
    uint8_t bytes[160] = {0x81, 0, 0, 0, 0, 0}; /* a mask of zeros */
    int len = snprintf(text, sizeof(text), "{\"type\":\"CANDIDATE\",\"dst\":\"to%d\",\"payload\":\"<%u>\"}",
                       (int)(p - pairs), p->sent++);
    assert_in_range(len, 1, 125);
    bytes[1] = (uint8_t)(0x80 | len);
    memcpy(bytes + 6, text, (size_t)len);
    assert_int_equal(send(p->from, bytes, (size_t)len + 6, MSG_NOSIGNAL), len + 6);
}

/* In order, and nothing is left out. */
static void receive(pair *p)
{
    char expected[32], *at;
    assert_true(hear(p->to, p->text, sizeof(p->text)));
    char *from = p->text; /* heads of frames hold no NUL: their lengths are over 0 and below 126 */
    while (snprintf(expected, sizeof(expected), "\"<%u>\"}", p->got), (at = strstr(from, expected)) != NULL) {
        from = at + strlen(expected);
        p->got++;
    }
    memmove(p->text, from, strlen(from) + 1);
}

static bool all_got(void)
{
    bool all = true;
    for (int i = 0; i < PAIRS; i++) {
        receive(&pairs[i]);
        all = all && pairs[i].got == pairs[i].sent;
    }
    return all;
}

static void newcomer(unsigned n)
{
    char id[32];
    snprintf(id, sizeof(id), "newcomer%u", n);
    close(join(id));
}

/* ---- the test ---- */

static size_t connections(void)
{
    dp_signal_stats stats = {.size = sizeof(stats)};
    dp_signal_server_get_stats(signal_host_server(host), &stats);
    return stats.connections;
}

static void throw_garbage(unsigned count)
{
    static int open[OPEN];
    for (int i = 0; i < OPEN; i++)
        open[i] = -1;
    for (unsigned n = 0; n < count; n++) {
        int *place = &open[n % OPEN];
        if (*place >= 0)
            reset(*place);
        *place = garbage(n);
        if (open[n / 2 % OPEN] >= 0 && n / 2 % KINDS == 2)
            say(open[n / 2 % OPEN], "r", 1);
        if (n % 10 == 0)
            for (int i = 0; i < PAIRS; i++)
                send_message(&pairs[i]);
        if (n % 100 == 0)
            newcomer(n);
        step();
        (void)all_got();
    }
    for (int i = 0; i < OPEN; i++)
        if (open[i] >= 0)
            reset(open[i]);
    RUN_UNTIL(all_got() && connections() == 2 * PAIRS);
}

static void test_garbage(void **state)
{
    (void)state;
    for (int i = 0; i < PAIRS; i++) {
        char id[16];
        snprintf(id, sizeof(id), "from%d", i);
        pairs[i].from = join(id);
        snprintf(id, sizeof(id), "to%d", i);
        pairs[i].to = join(id);
    }
    throw_garbage(WARM_UP);
    size_t descriptors_before = descriptors();
    size_t live_before = live;
    throw_garbage(GARBAGE);
    assert_int_equal(descriptors(), descriptors_before);
    if (live > live_before + SLACK)
        fail_msg("%zu bytes, %zu before", live, live_before);
    for (int i = 0; i < PAIRS; i++) {
        assert_int_equal(pairs[i].got, (GARBAGE + WARM_UP) / 10);
        close(pairs[i].from);
        close(pairs[i].to);
    }
}

/* Reads as little as keeps the kernel from giving up. The server cuts it, but what it was given is still to leave. */
static void test_trickle(void **state)
{
    (void)state;
    static const char request[] = "GET /large HTTP/1.1\r\nHost: h\r\n\r\n";
    char drop[64];
    size_t before = descriptors();
    int fd = dial();
    say(fd, request, sizeof(request) - 1);
    RUN_UNTIL(recv(fd, drop, sizeof(drop), 0) > 0);
    assert_int_equal(descriptors(), before + 2);
    RUN_UNTIL(((void)!recv(fd, drop, sizeof(drop), 0), descriptors() == before + 1));
    close(fd);
}

static bool find_file(void *ctx, const char *path, dp_signal_file *file)
{
    static const char body[7 << 20];
    (void)ctx;
    *file = (dp_signal_file){.body = body, .len = sizeof(body), .type = "text/plain"};
    return strcmp(path, "/large") == 0;
}

static int setup(void **state)
{
    dp_set_allocator(&(dp_allocator){counting_alloc, counting_realloc, counting_free, NULL});
    dp_address local = {.family = DP_FAMILY_IPV4, .ip = {127, 0, 0, 1}};
    if (dp_loop_new(&loop) != DP_OK || dp_csprng_new(&csprng) != DP_OK)
        return -1;
    /* Enough for the honest ones alone. */
    const signal_host_config config = {.loop = loop,
                                       .server = {.size = sizeof(config.server),
                                                  .random = dp_csprng_source(csprng),
                                                  .request_timeout = *state != NULL ? DP_MS(100) : 0,
                                                  .find_file = find_file,
                                                  .connection_rate = 1,
                                                  .connection_burst = 100}};
    if (signal_host_new(&host, &config) != DP_OK || signal_host_listen(host, &local, NULL, false) != DP_OK)
        return -1;
    port = local.port;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    signal_host_free(host);
    dp_csprng_free(csprng);
    dp_loop_free(loop);
    return live == 0 ? 0 : -1;
}

int main(void)
{
    static bool hasty = true;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_garbage, setup, teardown),
        cmocka_unit_test_prestate_setup_teardown(test_trickle, setup, teardown, &hasty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
