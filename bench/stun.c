/* The STUN server on this machine, over loopback with kernel sockets, asked by another process; JSON lines:
 *
 * - responder: its state machine alone, requests of 20 bytes from many addresses
 * - server: with sockets, answers per second of its processor time (IPv4, IPv6; without limits); the requests come from
 *   as many sockets in turn, so that no two of them, and no two answers, can be one message of the kernel's (GSO, GRO)
 * - flood: its default limits, one address that asks ten times as often as it may, or as fast as this machine can, and
 *   others that ask ten times a second: how many of them are answered, and how soon
 *
 *     bench/stun [seconds] */
#include <datapeer/datapeer.h>

#include "bench/measure.h"

enum {
    ASKERS = 64,
    HONEST = 50,
    HONEST_EACH_MS = 100,
    ADDRESS_LIMIT = 50,
    REQUEST_LEN = 20,
    IN_FLIGHT = 1024,
    SAMPLES = 1 << 16
};

static const uint8_t request[REQUEST_LEN] = {0x00, 0x01, 0x00, 0x00, 0x21, 0x12, 0xa4, 0x42};

/* ---- the server -------------------------------------------------------------------------------------------------- */

typedef struct server {
    dp_loop *loop;
    dp_stun_server *stun;
} server;

static dp_stun_server *make_server(dp_csprng **csprng, bool limited)
{
    dp_stun_server *stun;
    need(dp_csprng_new(csprng) == DP_OK, "random source");
    const dp_stun_server_config config = {.size = sizeof(config),
                                          .random = dp_csprng_source(*csprng),
                                          .address_rate = limited ? 0 : UINT32_MAX,
                                          .total_rate = limited ? 0 : UINT32_MAX};
    need(dp_stun_server_new(&stun, &config) == DP_OK, "server");
    return stun;
}

static void on_requests(void *user, dp_udp *udp, dp_udp_packet *packets, size_t count)
{
    server *s = user;
    dp_datagram slot;
    for (size_t i = 0; i < count && dp_udp_slot(s->loop, &slot) == DP_OK; i++)
        if (dp_stun_server_answer(s->stun, &slot, dp_loop_now(s->loop), packets[i].data, packets[i].len,
                                  packets[i].local, &packets[i].remote))
            dp_udp_commit(s->loop, udp, &slot);
}

/* In a process of its own, on all addresses of ip's family; *port is where. */
static pid_t start_server(const char *ip, bool limited, volatile uint16_t *port)
{
    *port = 0;
    pid_t child = fork_child();
    if (child > 0) {
        while (*port == 0)
            usleep(1000);
        return child;
    }
    server s;
    dp_csprng *csprng;
    dp_address local;
    dp_udp *udp;
    const dp_udp_handler handler = {.on_packets = on_requests, .user = &s};
    s.stun = make_server(&csprng, limited);
    need(dp_loop_new(&s.loop) == DP_OK, "loop");
    need(dp_address_parse(&local, ip, 0) == DP_OK && dp_udp_open(&udp, s.loop, &local, &handler) == DP_OK,
         ip);
    *port = dp_udp_local(udp)->port;
    need(dp_loop_run(s.loop) == DP_OK, "run");
    exit(0);
}

static void stop_server(pid_t child)
{
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

/* ---- those who ask ------------------------------------------------------------------------------------------------ */

typedef struct client {
    dp_udp *udp;
    uint64_t asked, answered;
    dp_time asked_at;
    bool waits;
} client;

static dp_loop *loop;
static dp_address asked;        /* the server */
static double samples[SAMPLES]; /* microseconds until the answer */
static size_t sample_count;

static void on_answers(void *user, dp_udp *udp, dp_udp_packet *packets, size_t count)
{
    client *c = user;
    (void)udp;
    (void)packets;
    c->answered += count;
    if (c->waits && sample_count < SAMPLES)
        samples[sample_count++] = (double)(dp_clock_now() - c->asked_at);
    c->waits = false;
}

static void open_client(client *c, const char *ip)
{
    const dp_udp_handler handler = {.on_packets = on_answers, .user = c};
    dp_address local;
    memset(c, 0, sizeof(*c));
    need(dp_address_parse(&local, ip, 0) == DP_OK && dp_udp_open(&c->udp, loop, &local, &handler) == DP_OK,
         ip);
}

static bool ask(client *c)
{
    dp_datagram slot;
    if (dp_udp_slot(loop, &slot) != DP_OK)
        return false;
    memcpy(slot.data, request, sizeof(request));
    slot.length = sizeof(request);
    slot.remote = asked;
    dp_udp_commit(loop, c->udp, &slot);
    c->asked++;
    return true;
}

/* ---- the measurements ------------------------------------------------------------------------------------------------ */

static void bench_responder(unsigned seconds)
{
    uint8_t out[64];
    dp_csprng *csprng;
    dp_stun_server *stun = make_server(&csprng, true);
    dp_address local = {.family = DP_FAMILY_IPV4, .port = 3478, .ip = {192, 0, 2, 1}};
    dp_address from = {.family = DP_FAMILY_IPV4, .port = 40000, .ip = {10}};
    uint64_t count = 0;
    double start = cpu_seconds(0), used;
    do {
        for (int i = 0; i < 10000; i++, count++) {
            dp_datagram slot = {.data = out, .capacity = sizeof(out)};
            from.ip[1] = (uint8_t)(count >> 8); /* 65,536 addresses, a full table */
            from.ip[2] = (uint8_t)count;
            /* The clock runs so fast that nobody is over a limit. */
            (void)dp_stun_server_answer(stun, &slot, DP_SECONDS(1) + count * 1000, request, sizeof(request),
                                        &local, &from);
        }
        used = cpu_seconds(0) - start;
    } while (used < seconds);
    dp_stun_server_stats n = {.size = sizeof(n)};
    dp_stun_server_get_stats(stun, &n);
    printf("{\"bench\":\"stun\",\"part\":\"responder\",\"requests\":%llu,\"answered\":%llu,\"per_core_s\":%."
           "0f}\n",
           (unsigned long long)count, (unsigned long long)n.answered, (double)count / used);
    dp_stun_server_free(stun);
    dp_csprng_free(csprng);
}

/* Asks from all of them in turn and waits for the answers, again and again. Returns how many came. */
static uint64_t ask_in_turn(client askers[ASKERS], dp_time end)
{
    uint64_t asked_of_all = 0, answered = 0;
    while (dp_clock_now() < end) {
        uint64_t before = answered;
        for (size_t i = asked_of_all % ASKERS; asked_of_all - answered < IN_FLIGHT && ask(&askers[i]);
             i = (i + 1) % ASKERS)
            asked_of_all++;
        need(dp_loop_step(loop, DP_MS(20)) == DP_OK, "step");
        answered = 0;
        for (size_t i = 0; i < ASKERS; i++)
            answered += askers[i].answered;
        if (answered == before && asked_of_all - answered >= IN_FLIGHT)
            asked_of_all = answered; /* the kernel dropped some */
    }
    return answered;
}

static void bench_server(const char *any, const char *ip, unsigned seconds, volatile uint16_t *port)
{
    static client askers[ASKERS];
    pid_t child = start_server(any, false, port);
    need(dp_loop_new(&loop) == DP_OK && dp_address_parse(&asked, ip, *port) == DP_OK, "loop");
    for (size_t i = 0; i < ASKERS; i++)
        open_client(&askers[i], ip);
    double cpu = cpu_seconds(child);
    dp_time start = dp_clock_now();
    uint64_t answers = ask_in_turn(askers, start + DP_SECONDS(seconds));
    printf("{\"bench\":\"stun\",\"part\":\"server\",\"ip\":\"%s\",\"answers\":%llu,\"per_s\":%.0f,\"per_core_"
           "s\":%.0f}\n",
           ip, (unsigned long long)answers, (double)answers / ((double)(dp_clock_now() - start) / 1e6),
           (double)answers / (cpu_seconds(child) - cpu));
    for (size_t i = 0; i < ASKERS; i++)
        dp_udp_close(askers[i].udp);
    dp_loop_free(loop);
    stop_server(child);
}

/* The flooder asks flood_rate times a second, the honest clients each once in HONEST_EACH_MS. */
static void ask_for(client *flooder, client honest[HONEST], unsigned flood_rate, unsigned seconds)
{
    dp_time start = dp_clock_now(), now = start;
    uint64_t turns = 0;
    for (; now < start + DP_SECONDS(seconds); now = dp_clock_now()) {
        uint64_t due = (uint64_t)((double)(now - start) * flood_rate / 1e6);
        for (int i = 0; flooder->asked < due && i < 64 && ask(flooder); i++)
            continue;
        if (now - start >= turns * DP_MS(HONEST_EACH_MS) / HONEST) {
            client *c = &honest[turns++ % HONEST];
            c->asked_at = now;
            c->waits = ask(c);
        }
        need(dp_loop_step(loop, flooder->asked < due ? 0 : DP_MS(1)) == DP_OK, "step");
    }
    for (dp_time end = now + DP_MS(200); dp_clock_now() < end;) /* the last answers */
        need(dp_loop_step(loop, DP_MS(10)) == DP_OK, "step");
}

static void bench_flood(unsigned flood_rate, unsigned seconds, volatile uint16_t *port)
{
    static client honest[HONEST];
    client flooder;
    pid_t child = start_server("0.0.0.0", true, port);
    need(dp_loop_new(&loop) == DP_OK && dp_address_parse(&asked, "127.0.0.1", *port) == DP_OK, "loop");
    open_client(&flooder, "127.0.0.2");
    for (int i = 0; i < HONEST; i++) {
        char ip[32];
        snprintf(ip, sizeof(ip), "127.0.1.%d", i + 1);
        open_client(&honest[i], ip);
    }
    sample_count = 0;
    double cpu = cpu_seconds(child);
    ask_for(&flooder, honest, flood_rate, seconds);
    cpu = cpu_seconds(child) - cpu;
    uint64_t asked_honestly = 0, answered_honestly = 0;
    for (int i = 0; i < HONEST; i++) {
        asked_honestly += honest[i].asked;
        answered_honestly += honest[i].answered;
        dp_udp_close(honest[i].udp);
    }
    need(sample_count > 0, "an answer");
    printf("{\"bench\":\"stun\",\"part\":\"flood\",\"flood_per_s\":%.0f,\"flood_answered_per_s\":%.1f,"
           "\"honest_asked\":%llu,\"honest_answered\":%llu,\"median_us\":%.0f,\"p99_us\":%.0f,\"server_cpu\":"
           "%.3f}\n",
           (double)flooder.asked / seconds, (double)flooder.answered / seconds,
           (unsigned long long)asked_honestly, (unsigned long long)answered_honestly,
           percentile(samples, sample_count, 0.5), percentile(samples, sample_count, 0.99), cpu / seconds);
    dp_udp_close(flooder.udp);
    dp_loop_free(loop);
    stop_server(child);
}

int main(int argc, char **argv)
{
    unsigned seconds = argc > 1 ? (unsigned)atoi(argv[1]) : 3;
    volatile uint16_t *port = shared_memory(sizeof(*port));
    need(seconds > 0, "seconds");
    bench_responder(seconds);
    bench_server("0.0.0.0", "127.0.0.1", seconds, port);
    bench_server("::", "::1", seconds, port);
    bench_flood(0, seconds, port);
    bench_flood(10 * ADDRESS_LIMIT, seconds, port);
    bench_flood(1000000, seconds, port);
    return 0;
}
