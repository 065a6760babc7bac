/* PeerServers under load over loopback, ours and npm's in turn: what N idle clients cost in memory and, with their heartbeats,
 * in processor time, and what messages between pairs cost: in a stream, as many as the server or this client can take, and
 * alone, the next of a pair when the one before has come. Processor time is the server's. One JSON object a server.
 *
 *   signal [--clients N] [--seconds S]
 *   signal --redis URL [--seconds S]     messages alone, between clients of two nodes that this Redis joins */
#include "signal_server.h"

enum {
    PAIRS = 8,
    WINDOW = 64, /* messages of one pair that are under way in a stream */
    PAYLOAD = 200,
    HEARTBEAT = 5, /* seconds between those of one client, as in PeerJS */
};

static const char NPM[] = "tests/interop/drivers/npm_peerserver.mjs";
static int clients = 10000;
static double seconds = 5;
static const char *redis;

static program start(bool npm)
{
    char limit[32], options[64];
    snprintf(limit, sizeof(limit), "%d", clients + 100);
    snprintf(options, sizeof(options), "{\"concurrent_limit\":%s}", limit);
    const char *const theirs[] = {"node", NPM, options, NULL};
    const char *const ours[] = {"datapeer",
                                "signal",
                                "--host",
                                "127.0.0.1",
                                "--port",
                                "0",
                                "--concurrent-limit",
                                limit,
                                "--connection-rate",
                                "0",
                                "--message-rate",
                                "0",
                                redis != NULL ? "--redis" : NULL,
                                redis,
                                NULL};
    return start_program(npm ? theirs : ours);
}

/* All clients send their heartbeats, evenly spread; returns the share of a core that the server needs. */
static double heartbeats(const program *server, const int *fds)
{
    uint8_t beat[64];
    size_t len = frame(beat, "{\"type\":\"HEARTBEAT\"}");
    double started = wall(), cpu = cpu_seconds(server->pid);
    for (int sent = 0; sent < clients; sent++) {
        double due = started + (double)sent * HEARTBEAT / clients;
        while (wall() < due)
            usleep(500);
        write_all(fds[sent], beat, len);
    }
    return (cpu_seconds(server->pid) - cpu) / (wall() - started);
}

typedef struct pair {
    int from, to;
    uint8_t messages[WINDOW * 512]; /* all the same */
    size_t in_len, out_len;         /* of one message, as it goes to the server and as it comes from it */
    uint64_t sent, bytes;
} pair;

/* With ids that no other run has: npm's server does not forget one at once, nor Redis what was under way. */
static void join_pair(pair *p, const program *one, const program *two, int i, char run)
{
    char payload[PAYLOAD + 1], text[400], a[32], b[32];
    memset(payload, 'p', PAYLOAD);
    payload[PAYLOAD] = '\0';
    snprintf(a, sizeof(a), "from%d%c%d", (int)getpid(), run, i);
    snprintf(b, sizeof(b), "to%d%c%d", (int)getpid(), run, i);
    p->from = join(one->port, a);
    p->to = join(two->port, b);
    p->sent = p->bytes = 0;
    snprintf(text, sizeof(text), "{\"type\":\"CANDIDATE\",\"dst\":\"%s\",\"payload\":\"%s\"}", b, payload);
    p->in_len = frame(p->messages, text);
    for (size_t k = 1; k < WINDOW; k++)
        memcpy(p->messages + k * p->in_len, p->messages, p->in_len);
    /* {"type":"CANDIDATE","src":"from1s0","dst":"to1s0","payload":"..."} in a frame with a head of 4 bytes */
    p->out_len = 4 + strlen(text) + strlen(",\"src\":\"\"") + strlen(a);
}

typedef struct throughput {
    double per_second, cpu_us; /* of the servers' processor time for one message... */
    double client_cpu_us;      /* ...and of ours, which is the limit if it is the larger one */
} throughput;

static double servers_cpu(const program *one, const program *two)
{
    return cpu_seconds(one->pid) + (two != one ? cpu_seconds(two->pid) : 0);
}

/* One side of each pair sends as long as fewer than `window` of its messages are under way; the length of what comes out
 * tells how many have come. */
static throughput relay(const program *one, const program *two, uint64_t window)
{
    static pair pairs[PAIRS];
    static uint8_t buffer[1 << 18];
    uint64_t received = 0;
    int epoll = epoll_create1(0);
    for (int i = 0; i < PAIRS; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        join_pair(&pairs[i], one, two, i, window > 1 ? 's' : 'a');
        need(epoll_ctl(epoll, EPOLL_CTL_ADD, pairs[i].to, &event) == 0, "epoll_ctl");
    }
    double started = wall(), cpu = servers_cpu(one, two), ours = cpu_seconds(0);
    while (wall() - started < seconds) {
        struct epoll_event events[PAIRS];
        for (int i = 0; i < PAIRS; i++) {
            pair *p = &pairs[i];
            uint64_t room = window - (p->sent - p->bytes / p->out_len);
            if (room > 0)
                write_all(p->from, p->messages, room * p->in_len);
            p->sent += room;
        }
        int n = epoll_wait(epoll, events, PAIRS, 1000);
        for (int e = 0; e < n; e++) {
            pair *p = &pairs[events[e].data.u32];
            ssize_t got = recv(p->to, buffer, sizeof(buffer), 0);
            need(got > 0, "recv");
            p->bytes += (uint64_t)got;
        }
    }
    double passed = wall() - started;
    cpu = servers_cpu(one, two) - cpu;
    ours = cpu_seconds(0) - ours;
    for (int i = 0; i < PAIRS; i++) {
        received += pairs[i].bytes / pairs[i].out_len;
        close(pairs[i].from);
        close(pairs[i].to);
    }
    close(epoll);
    return (throughput){(double)received / passed, cpu / (double)received * 1e6,
                        ours / (double)received * 1e6};
}

static void measure(bool npm)
{
    program server = start(npm);
    int *fds = calloc((size_t)clients, sizeof(*fds));
    need(fds != NULL, "calloc");
    throughput stream = relay(&server, &server, WINDOW);
    throughput alone = relay(&server, &server, 1);
    double before = resident_KB(server.pid);
    double started = wall();
    for (int i = 0; i < clients; i++) {
        char id[32];
        snprintf(id, sizeof(id), "client%d", i);
        fds[i] = join(server.port, id);
    }
    double joins = clients / (wall() - started);
    double share = heartbeats(&server, fds);
    double after = resident_KB(server.pid);
    printf(
        "{\"server\":\"%s\",\"clients\":%d,\"rss_MB\":%.1f,\"KB_per_client\":%.2f,\"joins_per_s\":%.0f,"
        "\"heartbeats_core_percent\":%.2f,\"messages_per_s\":%.0f,\"cpu_us_per_message\":%.2f,"
        "\"client_cpu_us_per_message\":%.2f,\"lone_messages_per_s\":%.0f,\"cpu_us_per_lone_message\":%.2f}\n",
        npm ? "npm peer" : "datapeer signal", clients, after / 1024, (after - before) / clients, joins,
        share * 100, stream.per_second, stream.cpu_us, stream.client_cpu_us, alone.per_second, alone.cpu_us);
    for (int i = 0; i < clients; i++)
        close(fds[i]);
    free(fds);
    stop_program(&server);
}

/* Waits until the node has found its Redis. */
static void wait_for_cluster(const program *node)
{
    static const char request[] = "GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    char text[1024];
    for (double end = wall() + 10; wall() < end; usleep(20000)) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(node->port)};
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        need(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0, "connect");
        write_all(fd, request, sizeof(request) - 1);
        ssize_t len = recv(fd, text, sizeof(text) - 1, MSG_WAITALL);
        close(fd);
        if (len > 4 && memcmp(text + len - 4, "\nok\n", 4) == 0)
            return;
    }
    fprintf(stderr, "there is no Redis at %s\n", redis);
    exit(1);
}

static void measure_nodes(void)
{
    program one = start(false), two = start(false);
    wait_for_cluster(&one);
    wait_for_cluster(&two);
    throughput stream = relay(&one, &two, WINDOW);
    throughput alone = relay(&one, &two, 1);
    printf("{\"server\":\"two of datapeer signal\",\"messages_per_s\":%.0f,\"cpu_us_per_message\":%.2f,"
           "\"client_cpu_us_per_message\":%.2f,\"lone_messages_per_s\":%.0f,"
           "\"cpu_us_per_lone_message\":%.2f}\n",
           stream.per_second, stream.cpu_us, stream.client_cpu_us, alone.per_second, alone.cpu_us);
    stop_program(&one);
    stop_program(&two);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"clients", required_argument, NULL, 'c'},
                                            {"seconds", required_argument, NULL, 's'},
                                            {"redis", required_argument, NULL, 'r'},
                                            {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == '?')
            return 2;
        if (c == 'c')
            clients = atoi(optarg);
        else if (c == 'r')
            redis = optarg;
        else
            seconds = atof(optarg);
    }
    clients = raise_descriptors(clients);
    if (redis != NULL) {
        measure_nodes();
        return 0;
    }
    measure(false);
    if (access(NPM, R_OK) == 0 && access("tests/interop/node_modules/peer", R_OK) == 0)
        measure(true);
    else
        fprintf(stderr, "npm's server is not here: run scripts/deps, and this in the top folder\n");
    return 0;
}
