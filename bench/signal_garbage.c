/* `datapeer signal` with its default limits under garbage: thousands of connections a second of ten kinds, from the address that
 * honest clients come from, too. Pairs of clients pass messages on all the time, others join and leave. One JSON object: what
 * they see in the quiet, with garbage, and what is left of it.
 *
 *   signal_garbage [--seconds S] [--rate N] */
#include "signal_server.h"

#include <dirent.h>
#include <fcntl.h>

enum {
    PAIRS = 20,
    MESSAGES = 50, /* a second of one pair; 100 are allowed */
    JOINS = 10,    /* newcomers a second */
    SLOTS = 8192,  /* garbage connections that are open */
    LIFE_MS = 500, /* of one, if the server does not end it */
    KINDS = 10,
    SAMPLES = 1 << 20,
};

static double seconds = 5;
static int rate = 12000;
static program server;

/* What the processes tell each other. */
static struct shared {
    uint64_t garbage, garbage_failed;
    uint64_t joins, joins_refused;
    double join_ms_max;
} * shared;

/* ---- garbage ------------------------------------------------------------------------------------------- */

typedef enum kind {
    SILENT,
    HALF_A_LINE,
    HUGE_HEAD,
    BINARY,
    TLS_HELLO,
    WRONG_UPGRADE,
    GARBAGE_FRAMES,
    SLOW,
    RESET,
    HALF_CLOSE,
} kind;

typedef struct slot {
    int fd; /* -1: free */
    kind kind;
    bool spoke;
    double born;
} slot;

static slot slots[SLOTS];
static char huge[20000];

static void finish_slot(slot *s)
{
    const struct linger reset = {1, 0};
    setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(s->fd);
    s->fd = -1;
}

static void say(const slot *s, const void *data, size_t len) { (void)!send(s->fd, data, len, MSG_NOSIGNAL); }

static void speak(slot *s)
{
    static const char binary[] = "\x01\xfe\x00\x80\xff\x7f garbage \x00\x0d\x0a\x0d\x0a\x0d\x0a";
    static const char hello[] = "\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03 and so on, as browsers say it";
    static const char wrong[] =
        "GET /peerjs?key=peerjs&id=g&token=t HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Key: short\r\nSec-WebSocket-Version: 13\r\n\r\n";
    char text[512], id[32];
    s->spoke = true;
    switch (s->kind) {
    case SILENT:
    case RESET:
        break;
    case HALF_A_LINE:
    case SLOW:
    case HALF_CLOSE:
        say(s, "GET /pee", 8);
        if (s->kind == HALF_CLOSE)
            shutdown(s->fd, SHUT_WR);
        break;
    case HUGE_HEAD:
        say(s, huge, sizeof(huge));
        break;
    case BINARY:
        say(s, binary, sizeof(binary));
        break;
    case TLS_HELLO:
        say(s, hello, sizeof(hello));
        break;
    case WRONG_UPGRADE:
        say(s, wrong, sizeof(wrong) - 1);
        break;
    case GARBAGE_FRAMES:
        snprintf(id, sizeof(id), "garbage%d", (int)(s - slots));
        say(s, text, upgrade_request(text, sizeof(text), id));
        say(s, binary, sizeof(binary));
        break;
    }
    if (s->kind == RESET)
        finish_slot(s);
}

static void begin_slot(slot *s, int epoll)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(server.port)};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = s};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *s = (slot){.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0),
                .kind = (kind)(shared->garbage % KINDS),
                .born = wall()};
    need(s->fd >= 0, "socket");
    shared->garbage++;
    int result = connect(s->fd, (struct sockaddr *)&to, sizeof(to));
    if ((result != 0 && errno != EINPROGRESS) || epoll_ctl(epoll, EPOLL_CTL_ADD, s->fd, &event) != 0) {
        shared->garbage_failed++;
        finish_slot(s);
    }
}

static void on_slot(slot *s, uint32_t events)
{
    char bytes[4096];
    ssize_t n = -1;
    if (s->fd < 0)
        return;
    if (!s->spoke && (events & EPOLLOUT) != 0)
        speak(s);
    while (s->fd >= 0 && (events & EPOLLIN) != 0 && (n = recv(s->fd, bytes, sizeof(bytes), 0)) > 0)
        ;
    if (s->fd >= 0 && (n == 0 || (events & (EPOLLERR | EPOLLHUP)) != 0))
        finish_slot(s);
}

static void run_garbage(void)
{
    struct epoll_event events[256];
    int epoll = epoll_create1(0);
    double started = wall(), ticked = started;
    size_t oldest = 0, next = 0; /* of a ring */
    snprintf(huge, sizeof(huge), "GET / HTTP/1.1\r\nHost: h\r\nA: %0*d", (int)sizeof(huge) - 30, 0);
    for (size_t i = 0; i < SLOTS; i++)
        slots[i].fd = -1;
    for (;;) {
        double now = wall();
        while ((double)shared->garbage < (now - started) * rate && next - oldest < SLOTS)
            begin_slot(&slots[next++ % SLOTS], epoll);
        int n = epoll_wait(epoll, events, 256, 1);
        for (int i = 0; i < n; i++)
            on_slot(events[i].data.ptr, events[i].events);
        for (now = wall(); oldest < next; oldest++) {
            slot *s = &slots[oldest % SLOTS];
            if (s->fd >= 0 && now - s->born < LIFE_MS / 1e3)
                break;
            if (s->fd >= 0)
                finish_slot(s);
        }
        if (now - ticked < 0.05)
            continue;
        ticked = now;
        for (size_t i = oldest; i < next; i++)
            if (slots[i % SLOTS].fd >= 0 && slots[i % SLOTS].kind == SLOW)
                say(&slots[i % SLOTS], "r", 1);
    }
}

/* ---- newcomers ----------------------------------------------------------------------------------------- */

static void run_newcomers(void)
{
    for (int i = 0;; i++) {
        char id[32];
        double started = wall();
        snprintf(id, sizeof(id), "newcomer%d-%d", (int)getpid(), i);
        int fd = try_join(server.port, INADDR_LOOPBACK, id);
        double ms = (wall() - started) * 1e3;
        shared->joins++;
        shared->joins_refused += fd < 0;
        shared->join_ms_max = ms > shared->join_ms_max ? ms : shared->join_ms_max;
        if (fd >= 0)
            close(fd);
        if (ms < 1e3 / JOINS)
            usleep((useconds_t)((1e3 / JOINS - ms) * 1e3));
    }
}

/* ---- pairs --------------------------------------------------------------------------------------------- */

typedef struct pair {
    int from, to;
    char name[16];
    char buffer[4096]; /* what came and is not whole */
    size_t len;
    uint64_t sent, got;
} pair;

static pair pairs[PAIRS];
static double *latencies;
static size_t samples;

static void send_message(pair *p)
{
    uint8_t bytes[256];
    char text[200];
    snprintf(text, sizeof(text), "{\"type\":\"CANDIDATE\",\"dst\":\"to%s\",\"payload\":\"%017.9f\"}", p->name,
             wall());
    write_all(p->from, bytes, frame(bytes, text));
    p->sent++;
}

static void receive(pair *p)
{
    static const char mark[] = "\"payload\":\"";
    ssize_t n = recv(p->to, p->buffer + p->len, sizeof(p->buffer) - 1 - p->len, 0);
    need(n > 0, "an honest client was cut off");
    p->len += (size_t)n;
    p->buffer[p->len] = '\0';
    char *at = p->buffer;
    for (char *end; (end = memmem(at, (size_t)(p->buffer + p->len - at), "\"}", 2)) != NULL; at = end + 2) {
        const char *payload = memmem(at, (size_t)(end - at), mark, sizeof(mark) - 1);
        need(payload != NULL && samples < SAMPLES, "a message");
        latencies[samples++] = wall() - atof(payload + sizeof(mark) - 1);
        p->got++;
    }
    p->len -= (size_t)(at - p->buffer);
    memmove(p->buffer, at, p->len);
}

typedef struct seen {
    double per_second, p50_us, p99_us, core_percent;
    uint64_t lost, joins, joins_refused;
    double join_ms_max;
} seen;

static uint64_t under_way(void)
{
    uint64_t count = 0;
    for (int i = 0; i < PAIRS; i++)
        count += pairs[i].sent - pairs[i].got;
    return count;
}

/* Each pair sends its messages, evenly spread; those that are under way in the end may take two seconds. */
static seen watch(int epoll)
{
    const double step = 1.0 / (PAIRS * MESSAGES);
    double started = wall(), cpu = cpu_seconds(server.pid), due = started;
    samples = 0;
    shared->joins = shared->joins_refused = 0;
    shared->join_ms_max = 0;
    for (int turn = 0;;) {
        struct epoll_event events[PAIRS];
        double now = wall();
        if (now - started > seconds + 2 || (now - started > seconds && under_way() == 0))
            break;
        for (; due <= now && due - started < seconds; due += step)
            send_message(&pairs[turn++ % PAIRS]);
        int n = epoll_wait(epoll, events, PAIRS, 1);
        for (int i = 0; i < n; i++)
            receive(events[i].data.ptr);
    }
    double passed = wall() - started;
    seen result = {.per_second = (double)samples / passed,
                   .core_percent = (cpu_seconds(server.pid) - cpu) / passed * 100,
                   .lost = under_way(),
                   .joins = shared->joins,
                   .joins_refused = shared->joins_refused,
                   .join_ms_max = shared->join_ms_max};
    result.p50_us = percentile(latencies, samples, 0.5) * 1e6;
    result.p99_us = percentile(latencies, samples, 0.99) * 1e6;
    return result;
}

static void print_seen(const char *name, const seen *s)
{
    printf(",\"%s\":{\"messages_per_s\":%.0f,\"lost\":%llu,\"p50_us\":%.0f,\"p99_us\":%.0f,\"joins\":%llu,"
           "\"joins_refused\":%llu,\"slowest_join_ms\":%.0f,\"server_core_percent\":%.1f}",
           name, s->per_second, (unsigned long long)s->lost, s->p50_us, s->p99_us,
           (unsigned long long)s->joins, (unsigned long long)s->joins_refused, s->join_ms_max,
           s->core_percent);
}

/* ---- what is left -------------------------------------------------------------------------------------- */

static int descriptors(pid_t pid)
{
    char path[64];
    int count = -2; /* "." and ".." */
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    DIR *folder = opendir(path);
    need(folder != NULL, path);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

static void stop_child(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seconds", required_argument, NULL, 's'}, {"rate", required_argument, NULL, 'r'}, {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == '?')
            return 2;
        if (c == 's')
            seconds = atof(optarg);
        else
            rate = atoi(optarg);
    }
    raise_descriptors(SLOTS);
    shared = shared_memory(sizeof(*shared));
    latencies = calloc(SAMPLES, sizeof(*latencies));
    const char *const signal_argv[] = {"datapeer", "signal", "--host", "127.0.0.1", "--port", "0", NULL};
    server = start_program(signal_argv);
    int epoll = epoll_create1(0);
    for (int i = 0; i < PAIRS; i++) {
        char id[32];
        pair *p = &pairs[i];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = p};
        snprintf(p->name, sizeof(p->name), "%d", i);
        snprintf(id, sizeof(id), "from%d", i);
        p->from = join(server.port, id);
        snprintf(id, sizeof(id), "to%d", i);
        p->to = join(server.port, id);
        need(epoll_ctl(epoll, EPOLL_CTL_ADD, p->to, &event) == 0, "epoll_ctl");
    }
    pid_t newcomers = fork_child();
    if (newcomers == 0)
        run_newcomers();
    seen quiet = watch(epoll);
    int fds_before = descriptors(server.pid);
    double rss_before = resident_KB(server.pid);
    pid_t garbage = fork_child();
    double started = wall();
    if (garbage == 0)
        run_garbage();
    seen loud = watch(epoll);
    double per_second = (double)shared->garbage / (wall() - started);
    stop_child(garbage);
    seen after = watch(epoll);
    stop_child(newcomers);
    printf("{\"garbage_per_s\":%.0f,\"garbage_failed\":%llu", per_second,
           (unsigned long long)shared->garbage_failed);
    print_seen("quiet", &quiet);
    print_seen("garbage", &loud);
    print_seen("after", &after);
    printf(",\"descriptors\":[%d,%d],\"rss_MB\":[%.1f,%.1f]}\n", fds_before, descriptors(server.pid),
           rss_before / 1024, resident_KB(server.pid) / 1024);
    stop_program(&server);
    return 0;
}
