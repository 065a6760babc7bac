/* What data channels cost on this machine: two processes of ours, over loopback or across two network namespaces with
 * loss, kernel sockets and all. Prints one JSON object a line:
 *
 *   throughput  one way on one reliable, ordered channel: MB/s and processor seconds a GiB, of both ends together and
 *               of each; of_limit is the fraction of what bench/limit reaches, which runs in turn with it
 *   messages    small ones, one way: messages that arrived a second; packets that the sender needs for one
 *   round_trip  of a 64-byte message, one at a time
 *   setup       from making the offer to the open channel
 *   memory      resident bytes an idle connection adds, at each end; the processor time that all of them need
 *   loss        throughput where each datagram, either way, is dropped with this chance (needs root)
 *
 * Each run is two fresh processes. The figures of several runs are medians. Processor time is nearly the same on a
 * busy machine, what passes by the clock is not. */
#include "count.h"
#include "measure.h"
#include "peer/runner.h"
#include <datapeer/datapeer.h>

#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>

enum {
    SDP = 16384,
    LARGEST = 256 << 10,
    LOW = 512 << 10, /* bufferedAmount at which more is handed over */
    WARM_UP_MS = 150,
    SETUPS = 50,
    ROUND_TRIPS_MAX = 1 << 20,
};

static const char what[] = "channels: what data channels cost on this machine, as JSON lines";

static const char *const parts[] = {"throughput", "messages", "round_trip", "setup", "memory", "loss", NULL};

static measure_options options = {.seconds = 1, .runs = 5, .connections = 2000, .parts = parts};

/* ---- one end of a connection ---- */

/* What the far process has received: shared. */
typedef struct counters {
    _Atomic uint64_t bytes;
    _Atomic uint64_t messages;
    _Atomic uint64_t allocations;
} counters;

/* A process with all that its connections have in common. As in a Peer, all who are called share one port. */
typedef struct place {
    dp_loop *loop;
    dp_csprng *csprng;
    dp_random random;
    dp_certificate *certificate;
    network *network;
    mux *mux;
    counters *counters;
    int other; /* socket to the other process */
} place;

typedef struct end {
    place *place;
    runner *runner;
    mux *own_mux; /* of a caller */
    dp_channel *channel;
    bool open;
    bool over;
    bool echoes;
    size_t fill; /* keeps the channel full of messages of this size; 0: sends nothing */
    uint64_t received;
} end;

static uint8_t message[LARGEST];

static void on_message(end *e, const dp_pc_event *event)
{
    e->received++;
    atomic_fetch_add(&e->place->counters->bytes, event->len);
    atomic_fetch_add(&e->place->counters->messages, 1);
    atomic_store(&e->place->counters->allocations, allocations);
    if (e->echoes)
        need(dp_channel_send(event->channel, dp_loop_now(e->place->loop), event->data, event->len, true,
                             false) == DP_OK,
             "an echo");
}

static void on_event(void *user, const dp_pc_event *event)
{
    end *e = user;
    if (event->type == DP_PC_EVENT_CHANNEL_OPEN) {
        e->channel = event->channel;
        e->open = true;
        e->echoes = event->incoming && strcmp(dp_channel_label(event->channel), "echo") == 0;
        dp_channel_set_buffered_amount_low_threshold(e->channel, LOW);
    } else if (event->type == DP_PC_EVENT_MESSAGE) {
        on_message(e, event);
    } else if (event->type == DP_PC_EVENT_STATE &&
               (event->state == DP_PC_CLOSED || event->state == DP_PC_FAILED)) {
        if (event->state == DP_PC_FAILED)
            fprintf(stderr, "channels: a connection has failed: %s\n", event->message);
        e->over = true;
        e->channel = NULL;
    }
}

static void on_fill(void *user)
{
    end *e = user;
    dp_time now = dp_loop_now(e->place->loop);
    if (e->channel == NULL || e->fill == 0)
        return;
    while (dp_channel_send(e->channel, now, message, e->fill, true, false) == DP_OK)
        continue;
}

static void place_open(place *p, const char *address, int other, counters *c)
{
    dp_address bind;
    *p = (place){.other = other, .counters = c};
    need(dp_loop_new(&p->loop) == DP_OK && dp_csprng_new(&p->csprng) == DP_OK, "start");
    p->random = dp_csprng_source(p->csprng);
    need(dp_certificate_generate(&p->certificate, &p->random, dp_clock_unix()) == DP_OK, "a certificate");
    need(dp_address_parse(&bind, address, 0) == DP_OK, "an address");
    network_config on = {.loop = p->loop,
                         .random = p->random,
                         .include_loopback = true,
                         .bind_addresses = &bind,
                         .bind_count = 1};
    need(dp_network_new(&p->network, &on) == DP_OK, "a network");
}

static void end_open(end *e, place *p, mux *m)
{
    runner_config config = {
        .network = p->network,
        .mux = m,
        .pc = {.size = sizeof config.pc, .random = p->random, .certificate = p->certificate},
        .on_event = on_event,
        .on_fill = on_fill,
        .user = e};
    e->place = p;
    need(dp_runner_new(&e->runner, &config) == DP_OK, "a connection");
}

static void end_close(end *e)
{
    dp_runner_free(e->runner);
    dp_mux_free(e->own_mux);
}

static void step(place *p, dp_duration wait) { need(dp_loop_step(p->loop, wait) == DP_OK, "the loop"); }

static void step_until(place *p, dp_time until)
{
    while (dp_loop_now(p->loop) < until)
        step(p, until - dp_loop_now(p->loop));
}

/* ---- the far process: answers whoever calls, counts what comes ---- */

typedef struct answerer {
    place place;
    end **ends;
    size_t count;
} answerer;

/* A connection lives until the caller ends it; then its end is used again. */
static end *free_end(answerer *f)
{
    size_t i = 0;
    while (i < f->count && !f->ends[i]->over)
        i++;
    if (i < f->count) {
        end_close(f->ends[i]);
    } else {
        f->ends = realloc(f->ends, ++f->count * sizeof(end *));
        need(f->ends != NULL && (f->ends[i] = malloc(sizeof(end))) != NULL, "malloc");
    }
    memset(f->ends[i], 0, sizeof(end));
    return f->ends[i];
}

static void on_offer(void *user, int ready)
{
    static char sdp[SDP];
    answerer *f = user;
    size_t len;
    (void)ready;
    ssize_t n = read(f->place.other, sdp, sizeof sdp);
    if (n == 0)
        _exit(0);
    need(n > 0, "an offer");
    end *e = free_end(f);
    end_open(e, &f->place, f->place.mux);
    dp_pc *pc = dp_runner_pc(e->runner);
    dp_time now = dp_loop_now(f->place.loop);
    need(dp_pc_set_remote_description(pc, now, DP_SDP_OFFER, sdp, (size_t)n, NULL) == DP_OK &&
             dp_pc_create_answer(pc, now, sdp, sizeof sdp, &len) == DP_OK &&
             write(f->place.other, sdp, len) == (ssize_t)len,
         "an answer");
    dp_runner_wake(e->runner);
}

_Noreturn static void be_far(const char *address, int other, counters *c)
{
    answerer f = {0};
    dp_watch *watch;
    place_open(&f.place, address, other, c);
    need(dp_mux_new(&f.place.mux, f.place.network, 0) == DP_OK, "a port");
    need(dp_watch_new(&watch, f.place.loop, other, DP_READABLE, on_offer, &f) == DP_OK, "a watch");
    for (;;)
        step(&f.place, DP_TIME_NEVER);
}

/* ---- the near process: calls ---- */

typedef struct pair {
    place place;
    pid_t far;
    counters *far_counters;
    end end;
} pair;

/* A few lines of shell, for which $FAR is the far process and $LOSS the loss in percent. */
static void shell(const char *lines, pid_t far, unsigned percent)
{
    char text[16];
    snprintf(text, sizeof text, "%d", (int)far);
    setenv("FAR", text, true);
    snprintf(text, sizeof text, "%u", percent);
    setenv("LOSS", text, true);
    need(system(lines) == 0, "the network namespaces");
}

/* Each datagram crosses it alone, not as a part of what UDP_SEGMENT sends: or all of that would be lost at once. */
static const char make_veth[] = "set -e\n"
                                "ip link set lo up\n"
                                "ip link add near type veth peer name far netns $FAR\n"
                                "ip address add 10.9.0.1/24 dev near\n"
                                "ip link set near up gso_max_segs 1\n"
                                "nsenter -t $FAR -n ip address add 10.9.0.2/24 dev far\n"
                                "nsenter -t $FAR -n ip link set far up gso_max_segs 1\n";

static const char begin_loss[] = "set -e\n"
                                 "rule='table ip lossy {\n"
                                 "    chain in {\n"
                                 "        type filter hook input priority 0\n"
                                 "        meta l4proto udp numgen random mod 100 < '$LOSS' drop\n"
                                 "    }\n"
                                 "}'\n"
                                 "echo \"$rule\" | nft -f -\n"
                                 "echo \"$rule\" | nsenter -t $FAR -n nft -f -\n";

/* loss: two network namespaces of their own, which end with their processes. Loss itself begins later. */
static void pair_open(pair *p, bool loss)
{
    int fds[2];
    char byte = 0;
    counters *c = shared_memory(2 * sizeof *c);
    need(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0, "socketpair");
    need(!loss || unshare(CLONE_NEWNET) == 0, "a network namespace");
    memset(p, 0, sizeof *p);
    p->far_counters = &c[1];
    p->far = fork_child();
    if (p->far == 0) {
        close(fds[0]);
        need(!loss || unshare(CLONE_NEWNET) == 0, "a network namespace");
        need(write(fds[1], &byte, 1) == 1 && read(fds[1], &byte, 1) == 1, "the near process");
        be_far(loss ? "10.9.0.2" : "127.0.0.1", fds[1], &c[1]);
    }
    close(fds[1]);
    need(read(fds[0], &byte, 1) == 1, "the far process");
    if (loss)
        shell(make_veth, p->far, 0);
    need(write(fds[0], &byte, 1) == 1, "the far process");
    place_open(&p->place, loss ? "10.9.0.1" : "127.0.0.1", fds[0], &c[0]);
}

static void connect_end(end *e, place *p, const dp_channel_init *init)
{
    static char sdp[SDP];
    size_t len;
    memset(e, 0, sizeof *e);
    need(dp_mux_new(&e->own_mux, p->network, 0) == DP_OK, "a port");
    end_open(e, p, e->own_mux);
    dp_pc *pc = dp_runner_pc(e->runner);
    dp_time now = dp_loop_now(p->loop);
    need(dp_pc_create_channel(pc, &e->channel, now, init) == DP_OK &&
             dp_pc_create_offer(pc, now, sdp, sizeof sdp, &len) == DP_OK &&
             write(p->other, sdp, len) == (ssize_t)len,
         "an offer");
    ssize_t n = read(p->other, sdp, sizeof sdp);
    need(n > 0 && dp_pc_set_remote_description(pc, now, DP_SDP_ANSWER, sdp, (size_t)n, NULL) == DP_OK,
         "an answer");
    dp_runner_wake(e->runner);
    dp_time deadline = dp_clock_now() + DP_SECONDS(30);
    while (!e->open) {
        need(dp_clock_now() < deadline && !e->over, "connecting");
        step(p, DP_MS(100));
    }
}

/* ---- one way: throughput, messages, loss ---- */

typedef struct one_way {
    size_t message;
    bool unreliable; /* and unordered */
    unsigned loss;   /* percent */
    /* out: */
    double seconds;
    double messages;
    double sender_cpu;
    double receiver_cpu;
    double sender_allocations;
    double receiver_allocations;
    double packets; /* a message sent, at the sender's end */
} one_way;

static double packets_sent(const end *e)
{
    dp_pc_stats stats = {.size = sizeof stats};
    need(dp_pc_get_stats(dp_runner_pc(e->runner), &stats) == DP_OK, "statistics");
    return (double)stats.packets_sent;
}

static double messages_sent(const end *e)
{
    dp_channel_stats stats;
    dp_channel_get_stats(e->channel, &stats);
    return (double)stats.messages_sent;
}

/* The time between two looks at what has arrived; what is still under way at both evens out. */
static void run_one_way(void *argument)
{
    one_way *x = argument;
    static pair p;
    dp_channel_init init = DP_CHANNEL_INIT("one way");
    if (x->unreliable) {
        init.ordered = false;
        init.max_retransmits = 0;
    }
    count_allocations();
    pair_open(&p, x->loss > 0);
    connect_end(&p.end, &p.place, &init);
    if (x->loss > 0)
        shell(begin_loss, p.far, x->loss);
    p.end.fill = x->message;
    dp_runner_wake(p.end.runner);
    step_until(&p.place, dp_clock_now() + DP_MS(WARM_UP_MS));

    dp_time began = dp_clock_now();
    double near_cpu = cpu_seconds(0), far_cpu = cpu_seconds(p.far);
    uint64_t arrived = atomic_load(&p.far_counters->messages);
    uint64_t far_allocations = atomic_load(&p.far_counters->allocations);
    double packets = packets_sent(&p.end), sent = messages_sent(&p.end);
    allocations = 0;
    step_until(&p.place, began + (dp_time)(options.seconds * 1e6));
    x->seconds = (double)(dp_clock_now() - began) / 1e6;
    x->messages = (double)(atomic_load(&p.far_counters->messages) - arrived);
    x->sender_cpu = cpu_seconds(0) - near_cpu;
    x->receiver_cpu = cpu_seconds(p.far) - far_cpu;
    x->sender_allocations = (double)allocations;
    x->receiver_allocations = (double)(atomic_load(&p.far_counters->allocations) - far_allocations);
    need(!p.end.over && x->messages > 0, "a transfer");
    x->packets = (packets_sent(&p.end) - packets) / (messages_sent(&p.end) - sent);
}

typedef struct runs {
    double rate[MAX_RUNS]; /* MB/s, or messages/s */
    double cpu[MAX_RUNS];  /* s/GiB, or us a message */
    double sender[MAX_RUNS];
    double receiver[MAX_RUNS];
    double limit_rate[MAX_RUNS];
    double limit_cpu[MAX_RUNS];
    double allocations[MAX_RUNS]; /* of both ends a MiB, or a message */
    double packets[MAX_RUNS];     /* a message */
} runs;

/* Takes one run of x, per unit of so many bytes: a GiB, or a message. */
static void take_run(runs *r, unsigned i, one_way *x, bool by_message)
{
    in_a_process(run_one_way, x);
    double bytes = x->messages * (double)x->message;
    double units = by_message ? x->messages / 1e6 : bytes / (1 << 30);
    r->rate[i] = (by_message ? x->messages : bytes / 1e6) / x->seconds;
    r->sender[i] = x->sender_cpu / units;
    r->receiver[i] = x->receiver_cpu / units;
    r->cpu[i] = r->sender[i] + r->receiver[i];
    r->packets[i] = x->packets;
    r->allocations[i] =
        (x->sender_allocations + x->receiver_allocations) / (by_message ? x->messages : bytes / (1 << 20));
}

static void print_one_way(const char *unit, const char *cpu, runs *r)
{
    printf(",\"%s\":%.1f", unit, median_of(r->rate, options.runs));
    printf(",\"%s\":%.2f,\"sender_%s\":%.2f,\"receiver_%s\":%.2f", cpu, median_of(r->cpu, options.runs), cpu,
           median_of(r->sender, options.runs), cpu, median_of(r->receiver, options.runs));
}

/* One run of bench/limit, which stands beside this program. */
static void run_limit(double *MBps, double *cpu)
{
    char path[4096], line[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 64);
    need(n > 0, "/proc/self/exe");
    path[n] = '\0';
    char *name = strrchr(path, '/') + 1;
    snprintf(name, 64, "limit --runs 1 --seconds %g", options.seconds);
    FILE *f = popen(path, "r");
    need(f != NULL && fgets(line, sizeof line, f) != NULL && pclose(f) == 0, "limit");
    const char *found = strstr(line, "\"MBps\":");
    need(found != NULL && sscanf(found, "\"MBps\":%lf,\"cpu_s_per_GiB\":%lf", MBps, cpu) == 2, "limit");
}

static void throughput(one_way *x)
{
    static const size_t sizes[] = {1 << 10, 16 << 10, 64 << 10, 256 << 10};
    static runs r[sizeof sizes / sizeof *sizes];
    size_t count = sizeof sizes / sizeof *sizes;
    double limits[MAX_RUNS], limit_cpu[MAX_RUNS];
    for (unsigned i = 0; i < options.runs; i++) {
        run_limit(&limits[i], &limit_cpu[i]);
        for (size_t s = 0; s < count; s++) {
            *x = (one_way){.message = sizes[s]};
            take_run(&r[s], i, x, false);
        }
    }
    double limit = median_of(limits, options.runs), cpu = median_of(limit_cpu, options.runs);
    printf("{\"bench\":\"limit\",\"MBps\":%.1f,\"cpu_s_per_GiB\":%.2f", limit, cpu);
    print_runs("runs", limits, options.runs);
    printf("}\n");
    for (size_t s = 0; s < count; s++) {
        printf("{\"bench\":\"throughput\",\"message\":%zu", sizes[s]);
        print_one_way("MBps", "cpu_s_per_GiB", &r[s]);
        printf(",\"of_limit\":%.2f,\"limit_of_cpu\":%.2f,\"allocations_per_MiB\":%.1f",
               median_of(r[s].rate, options.runs) / limit, cpu / median_of(r[s].cpu, options.runs),
               median_of(r[s].allocations, options.runs));
        print_runs("runs", r[s].rate, options.runs);
        print_runs("cpu_runs", r[s].cpu, options.runs);
        printf("}\n");
    }
}

static void messages(one_way *x)
{
    static runs r;
    for (int unreliable = 0; unreliable <= 1; unreliable++) {
        for (unsigned i = 0; i < options.runs; i++) {
            *x = (one_way){.message = 100, .unreliable = unreliable};
            take_run(&r, i, x, true);
        }
        printf("{\"bench\":\"messages\",\"message\":100,\"ordered\":%s", unreliable ? "false" : "true");
        if (unreliable)
            printf(",\"max_retransmits\":0");
        print_one_way("per_second", "cpu_us", &r);
        printf(",\"allocations\":%.2f,\"packets\":%.2f", median_of(r.allocations, options.runs),
               median_of(r.packets, options.runs));
        print_runs("runs", r.rate, options.runs);
        printf("}\n");
    }
}

static bool namespaces(void) { return geteuid() == 0 && system("command -v ip nft nsenter >/dev/null") == 0; }

static void loss(one_way *x)
{
    static const unsigned percents[] = {1, 5};
    static runs r;
    if (!namespaces()) {
        printf("{\"bench\":\"loss\",\"skipped\":\"network namespaces need root, ip, nft and nsenter\"}\n");
        return;
    }
    for (size_t p = 0; p < sizeof percents / sizeof *percents; p++) {
        for (unsigned i = 0; i < options.runs; i++) {
            *x = (one_way){.message = 64 << 10, .loss = percents[p]};
            take_run(&r, i, x, false);
        }
        printf("{\"bench\":\"loss\",\"percent\":%u,\"message\":65536", percents[p]);
        print_one_way("MBps", "cpu_s_per_GiB", &r);
        print_runs("runs", r.rate, options.runs);
        printf("}\n");
    }
}

/* ---- round trip, set-up ---- */

typedef struct times {
    double us[ROUND_TRIPS_MAX];
    size_t count;
} times;

static void run_round_trips(void *argument)
{
    times *t = argument;
    static pair p;
    dp_channel_init init = DP_CHANNEL_INIT("echo");
    pair_open(&p, false);
    connect_end(&p.end, &p.place, &init);
    step_until(&p.place, dp_clock_now() + DP_MS(WARM_UP_MS));
    dp_time until = dp_clock_now() + (dp_time)(options.seconds * 1e6);
    uint64_t expected = p.end.received;
    for (dp_time now = dp_clock_now(); now < until && t->count < ROUND_TRIPS_MAX;) {
        dp_time began = now;
        need(dp_channel_send(p.end.channel, now, message, 64, true, false) == DP_OK, "a ping");
        dp_runner_wake(p.end.runner);
        for (expected++; p.end.received < expected && !p.end.over;)
            step(&p.place, DP_MS(100));
        now = dp_clock_now();
        t->us[t->count++] = (double)(now - began);
    }
    need(!p.end.over, "a round trip");
}

static void round_trips(times *t)
{
    t->count = 0;
    for (unsigned i = 0; i < options.runs; i++)
        in_a_process(run_round_trips, t);
    printf("{\"bench\":\"round_trip\",\"message\":64,\"p50_us\":%.0f,\"p99_us\":%.0f,\"count\":%zu}\n",
           percentile(t->us, t->count, 0.5), percentile(t->us, t->count, 0.99), t->count);
}

static void run_setups(void *argument)
{
    times *t = argument;
    static pair p;
    dp_channel_init init = DP_CHANNEL_INIT("set-up");
    pair_open(&p, false);
    for (int i = 0; i < SETUPS; i++) {
        step(&p.place, 0); /* what dp_loop_now says */
        dp_time began = dp_clock_now();
        connect_end(&p.end, &p.place, &init);
        t->us[t->count++] = (double)(dp_clock_now() - began);
        end_close(&p.end);
    }
}

static void setup(times *t)
{
    t->count = 0;
    for (unsigned i = 0; i < options.runs; i++)
        in_a_process(run_setups, t);
    printf("{\"bench\":\"setup\",\"p50_ms\":%.1f,\"p90_ms\":%.1f,\"count\":%zu}\n",
           percentile(t->us, t->count, 0.5) / 1e3, percentile(t->us, t->count, 0.9) / 1e3, t->count);
}

/* ---- memory ---- */

static double resident(pid_t process)
{
    char path[64];
    long pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", process == 0 ? (int)getpid() : (int)process);
    FILE *f = fopen(path, "r");
    need(f != NULL && fscanf(f, "%*d %ld", &pages) == 1, path);
    fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static int threads(void)
{
    int count = 0;
    char line[256];
    FILE *f = fopen("/proc/self/status", "r");
    need(f != NULL, "/proc/self/status");
    while (fgets(line, sizeof line, f) != NULL && sscanf(line, "Threads: %d", &count) != 1)
        continue;
    fclose(f);
    return count;
}

/* The callers have a socket each. */
static void allow_sockets(void)
{
    struct rlimit limit;
    need(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
    limit.rlim_cur = limit.rlim_max;
    need(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
}

static void run_memory(void *argument)
{
    const unsigned steps[] = {1, 50, 500, options.connections};
    static pair p;
    dp_channel_init init = DP_CHANNEL_INIT("idle");
    (void)argument;
    allow_sockets();
    pair_open(&p, false);
    end *ends = malloc(options.connections * sizeof *ends);
    need(ends != NULL, "malloc");
    memset(ends, 1, options.connections * sizeof *ends); /* resident from now on */
    step_until(&p.place, dp_clock_now() + DP_MS(WARM_UP_MS));
    double near_0 = resident(0), far_0 = resident(p.far);
    unsigned open = 0;
    for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
        if (steps[s] > options.connections || steps[s] == open)
            continue;
        while (open < steps[s])
            connect_end(&ends[open++], &p.place, &init);
        step_until(&p.place,
                   dp_clock_now() + DP_SECONDS(2)); /* what set-up and the first data needed is free */
        double near_KB = (resident(0) - near_0) / open / 1e3, far_KB = (resident(p.far) - far_0) / open / 1e3;
        double near_cpu = cpu_seconds(0), far_cpu = cpu_seconds(p.far);
        dp_time began = dp_clock_now();
        step_until(&p.place, began + DP_SECONDS(2));
        double took = (double)(dp_clock_now() - began) / 1e6;
        printf(
            "{\"bench\":\"memory\",\"connections\":%u,\"pair_KB\":%.1f,\"caller_KB\":%.1f,\"called_KB\":%.1f,"
            "\"caller_idle_cpu\":%.3f,\"called_idle_cpu\":%.3f,\"threads\":%d}\n",
            open, near_KB + far_KB, near_KB, far_KB, (cpu_seconds(0) - near_cpu) / took,
            (cpu_seconds(p.far) - far_cpu) / took, threads());
    }
}

int main(int argc, char **argv)
{
    parse_options(&options, argc, argv, what);
    one_way *x = shared_memory(sizeof *x);
    times *t = shared_memory(sizeof *t);
    if (is_wanted(&options, "throughput"))
        throughput(x);
    if (is_wanted(&options, "messages"))
        messages(x);
    if (is_wanted(&options, "round_trip"))
        round_trips(t);
    if (is_wanted(&options, "setup"))
        setup(t);
    if (is_wanted(&options, "memory"))
        in_a_process(run_memory, NULL);
    if (is_wanted(&options, "loss"))
        loss(x);
    return 0;
}
