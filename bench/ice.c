/* What the ICE agent costs on this machine, over loopback with kernel sockets, two agents to a pair, all in one
 * process and thread:
 *
 * - set-up: from both sides' credentials known to the first pair usable on both sides, median and p90
 * - memory: heap bytes of an agent, new and connected
 * - idle: processor time of many connected agents that only keep consent running
 *
 *     bench/ice [agents [seconds]] */
#include <datapeer/datapeer.h>

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { SETUPS = 50 };

typedef struct end {
    dp_loop *loop;
    dp_ice *ice;
    dp_udp *udp;
    struct end *other;
    dp_timer timer;
    dp_time usable_at;
} end;

static void need(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "ice: %s failed\n", what);
        exit(1);
    }
}

static void pump(end *e)
{
    dp_time now = dp_loop_now(e->loop);
    dp_ice_event event;
    dp_datagram slot;
    while (dp_ice_poll_event(e->ice, &event)) {
        if (event.type == DP_ICE_EVENT_LOCAL_CANDIDATE)
            need(dp_ice_add_remote_candidate(e->other->ice, now, event.candidate) == DP_OK, "candidate");
        else if (event.type == DP_ICE_EVENT_SELECTED_PAIR && e->usable_at == 0)
            e->usable_at = dp_clock_now();
    }
    while (dp_udp_slot(e->loop, &slot) == DP_OK && dp_ice_poll_transmit(e->ice, now, &slot))
        dp_udp_commit(e->loop, e->udp, &slot);
    dp_timer_set(e->loop, &e->timer, dp_ice_next_timeout(e->ice));
}

static void on_timer(void *user)
{
    end *e = user;
    dp_ice_handle_timeout(e->ice, dp_loop_now(e->loop));
    pump(e);
}

static void on_packets(void *user, dp_udp *udp, dp_udp_packet *packets, size_t count)
{
    end *e = user;
    dp_ice_payload payload;
    for (size_t i = 0; i < count; i++)
        (void)dp_ice_input(e->ice, dp_loop_now(e->loop), packets[i].data, packets[i].len, dp_udp_local(udp),
                           &packets[i].remote, &payload);
    pump(e);
}

static void end_open(end *e, dp_loop *loop, dp_random random, dp_ice_role role, end *other)
{
    dp_address local;
    memset(e, 0, sizeof(*e));
    e->loop = loop;
    e->other = other;
    e->timer = (dp_timer){.fn = on_timer, .user = e};
    dp_ice_config config = {.size = sizeof(config), .random = random, .role = role};
    dp_udp_handler handler = {.on_packets = on_packets, .user = e};
    need(dp_address_parse(&local, "127.0.0.1", 0) == DP_OK, "address");
    need(dp_ice_new(&e->ice, &config) == DP_OK, "agent");
    need(dp_udp_open(&e->udp, loop, &local, &handler) == DP_OK, "socket (raise ulimit -n?)");
    need(dp_ice_add_local_address(e->ice, dp_clock_now(), dp_udp_local(e->udp)) == DP_OK, "local address");
}

static void end_close(end *e)
{
    dp_timer_stop(&e->timer);
    dp_udp_close(e->udp);
    dp_ice_free(e->ice);
}

static void pair_open(end pair[2], dp_loop *loop, dp_random random)
{
    for (int i = 0; i < 2; i++)
        end_open(&pair[i], loop, random, i == 0 ? DP_ICE_CONTROLLING : DP_ICE_CONTROLLED, &pair[1 - i]);
}

static void pair_start(end pair[2])
{
    dp_time now = dp_clock_now();
    for (int i = 0; i < 2; i++)
        need(dp_ice_gather(pair[i].ice, now) == DP_OK, "gather");
    for (int i = 0; i < 2; i++)
        need(dp_ice_set_remote_credentials(pair[i].ice, now, dp_ice_local_ufrag(pair[1 - i].ice),
                                           dp_ice_local_pwd(pair[1 - i].ice)) == DP_OK,
             "credentials");
    pump(&pair[0]);
    pump(&pair[1]);
}

static void run_until_usable(dp_loop *loop, const end pair[2])
{
    dp_time deadline = dp_clock_now() + DP_SECONDS(10);
    while (pair[0].usable_at == 0 || pair[1].usable_at == 0) {
        need(dp_clock_now() < deadline, "connecting within 10 s");
        need(dp_loop_step(loop, DP_MS(100)) == DP_OK, "loop");
    }
}

static int compare(const void *a, const void *b)
{
    dp_duration x = *(const dp_duration *)a;
    dp_duration y = *(const dp_duration *)b;
    return x < y ? -1 : x > y;
}

static void bench_setup(dp_loop *loop, dp_random random)
{
    dp_duration times[SETUPS];
    for (int i = 0; i < SETUPS; i++) {
        end pair[2];
        pair_open(pair, loop, random);
        dp_loop_step(loop, 0);
        dp_time start = dp_clock_now();
        pair_start(pair);
        run_until_usable(loop, pair);
        dp_time last = pair[0].usable_at > pair[1].usable_at ? pair[0].usable_at : pair[1].usable_at;
        times[i] = last - start;
        end_close(&pair[0]);
        end_close(&pair[1]);
        dp_loop_step(loop, 0);
    }
    qsort(times, SETUPS, sizeof(times[0]), compare);
    printf("set-up: median %.2f ms, p90 %.2f ms (%d times)\n", (double)times[SETUPS / 2] / 1e3,
           (double)times[SETUPS * 9 / 10] / 1e3, SETUPS);
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void bench_many(dp_loop *loop, dp_random random, size_t agents, unsigned seconds)
{
    size_t pairs = agents / 2;
    end(*ends)[2] = calloc(pairs, sizeof(*ends));
    need(pairs > 0 && ends != NULL, "memory");
    size_t before = mallinfo2().uordblks;
    dp_ice *lone;
    dp_ice_config config = {.size = sizeof(config), .random = random};
    need(dp_ice_new(&lone, &config) == DP_OK, "agent");
    printf("memory: a new agent %zu bytes", mallinfo2().uordblks - before);
    dp_ice_free(lone);
    for (size_t i = 0; i < pairs; i++)
        pair_open(ends[i], loop, random);
    size_t opened = mallinfo2().uordblks;
    for (size_t i = 0; i < pairs; i++) {
        pair_start(ends[i]);
        run_until_usable(loop, ends[i]);
    }
    for (int i = 0; i < 5; i++) /* until all are nominated */
        dp_loop_step(loop, DP_MS(100));
    printf(", a connected one %zu more\n", (mallinfo2().uordblks - opened) / (2 * pairs));
    double cpu = cpu_seconds();
    dp_time start = dp_clock_now();
    while (dp_clock_now() < start + DP_SECONDS(seconds))
        dp_loop_step(loop, DP_MS(100));
    cpu = cpu_seconds() - cpu;
    size_t connected = 0;
    for (size_t i = 0; i < pairs; i++)
        connected += dp_ice_get_state(ends[i][0].ice) == DP_ICE_COMPLETED;
    need(connected == pairs, "staying connected");
    printf("idle: %zu agents with consent running use %.2f %% of a core (%u s)\n", 2 * pairs,
           100 * cpu / seconds, seconds);
    for (size_t i = 0; i < pairs; i++) {
        end_close(&ends[i][0]);
        end_close(&ends[i][1]);
    }
    free(ends);
}

int main(int argc, char **argv)
{
    size_t agents = argc > 1 ? (size_t)atol(argv[1]) : 1000;
    unsigned seconds = argc > 2 ? (unsigned)atol(argv[2]) : 20;
    dp_csprng *csprng;
    dp_loop *loop;
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    need(dp_csprng_new(&csprng) == DP_OK && dp_loop_new(&loop) == DP_OK && seconds > 0, "starting");
    bench_setup(loop, dp_csprng_source(csprng));
    bench_many(loop, dp_csprng_source(csprng), agents, seconds);
    dp_loop_step(loop, 0);
    dp_loop_free(loop);
    dp_csprng_free(csprng);
    return 0;
}
