/* Big beside small: the round trip of a 64-byte message on one channel while another transfers 256 MB, on a simulated
 * link of 100 Mbit/s and 40 ms whose queue drops nothing, in virtual time, with interleaved messages (RFC 8260) and
 * without. Prints JSON lines: the transfer's rate, the ping's delay over the 40 ms.
 *   sctp_ping [megabytes [send buffer in bytes [Mbit/s]]] */
#include <datapeer/sctp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#define MBIT        125000u /* bytes/s */
#define ONE_WAY     DP_MS(20)
#define QUEUE       2000000u
#define PING_EVERY  DP_MS(50)
#define HEADERS     65u /* IP, UDP, DTLS around an SCTP packet */
#define MAX_PINGS   4096
#define MAX_PAYLOAD 2048

static dp_time clock_us = 1000000;

/* usrsctp's clock: visible, or libusrsctp does not find it. */
__attribute__((visibility("default"))) int gettimeofday(struct timeval *restrict tv, void *restrict zone);
int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    (void)zone;
    tv->tv_sec = (time_t)(1700000000 + clock_us / 1000000);
    tv->tv_usec = (suseconds_t)(clock_us % 1000000);
    return 0;
}

typedef struct packet {
    struct packet *next;
    dp_time due;
    size_t len;
    uint8_t data[MAX_PAYLOAD];
} packet;

typedef struct end {
    dp_sctp *sctp;
    dp_channel *bulk, *ping;
    packet *first, *last; /* on their way to it */
    dp_time link_free;    /* the link to it is busy until then */
} end;

static end ends[2];
static uint64_t rate = 100 * MBIT;
static uint64_t received, dropped;
static dp_time ping_sent;
static double delays[MAX_PINGS];
static size_t pings;

static int no_random(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    memset(out, 1, len);
    return DP_OK;
}

static void need(bool fine, const char *what)
{
    if (fine)
        return;
    fprintf(stderr, "sctp_ping: %s\n", what);
    exit(1);
}

static void carry(int from)
{
    const uint8_t *data;
    size_t len;
    end *to = &ends[1 - from];
    while (dp_sctp_poll_transmit(ends[from].sctp, &data, &len)) {
        dp_time begin = to->link_free > clock_us ? to->link_free : clock_us;
        if ((begin - clock_us) * rate / 1000000 > QUEUE) {
            dropped++;
            continue;
        }
        packet *p = (packet *)malloc(sizeof *p);
        need(p != NULL && len <= MAX_PAYLOAD, "no memory");
        to->link_free = begin + (len + HEADERS) * 1000000 / rate;
        *p = (packet){.due = to->link_free + ONE_WAY, .len = len};
        memcpy(p->data, data, len);
        if (to->first == NULL)
            to->first = p;
        else
            to->last->next = p;
        to->last = p;
    }
}

static void take_message(int at, const dp_sctp_event *event)
{
    if (event->len > 64) {
        received += event->len;
    } else if (at == 1) {
        need(dp_channel_send(event->channel, clock_us, event->data, event->len, true, false) == DP_OK,
             "echo");
    } else {
        if (pings < MAX_PINGS)
            delays[pings++] = (double)(clock_us - ping_sent) / 1000 - 40;
        ping_sent = 0;
    }
}

static void drain(int at)
{
    dp_sctp_event event;
    carry(at);
    while (dp_sctp_poll_event(ends[at].sctp, &event)) {
        need(event.type != DP_SCTP_EVENT_CLOSED, "closed");
        if (event.type == DP_SCTP_EVENT_MESSAGE)
            take_message(at, &event);
    }
    carry(at);
}

static void step(dp_time until)
{
    for (; clock_us < until; clock_us += 100) {
        for (int i = 0; i < 2; i++) {
            while (ends[i].first != NULL && ends[i].first->due <= clock_us) {
                packet *p = ends[i].first;
                ends[i].first = p->next;
                dp_sctp_input(ends[i].sctp, clock_us, p->data, p->len);
                free(p);
                drain(i);
            }
            if (dp_sctp_next_timeout(ends[i].sctp) <= clock_us)
                dp_sctp_handle_timeout(ends[i].sctp, clock_us);
            drain(i);
        }
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void run(size_t message, uint64_t total, size_t send_buffer, dp_channel_priority priority,
                bool interleaving)
{
    dp_sctp_config config = {.size = sizeof config,
                             .random = {no_random, NULL},
                             .send_buffer_size = send_buffer,
                             .receive_buffer_size = 4u << 20,
                             .no_interleaving = !interleaving};
    static uint8_t data[262144];
    memset(ends, 0, sizeof ends);
    received = dropped = pings = 0;
    ping_sent = 0;
    for (int i = 0; i < 2; i++)
        need(dp_sctp_new(&ends[i].sctp, &config) == DP_OK, "new");
    dp_channel_init init = DP_CHANNEL_INIT("bulk");
    need(dp_sctp_open_channel(ends[0].sctp, &ends[0].bulk, clock_us, &init) == DP_OK, "open");
    init.priority = priority;
    need(dp_sctp_open_channel(ends[0].sctp, &ends[0].ping, clock_us, &init) == DP_OK, "open");
    for (int i = 0; i < 2; i++)
        need(dp_sctp_start(ends[i].sctp, clock_us, i == 0, 5000, 262144) == DP_OK, "start");
    step(clock_us + DP_SECONDS(1));
    dp_time start = clock_us, next_ping = start + DP_SECONDS(2);
    uint64_t sent = 0;
    while (received < total) {
        while (sent < total && dp_channel_buffered_amount(ends[0].bulk) < 262144 &&
               dp_channel_send(ends[0].bulk, clock_us, data, message, true, false) == DP_OK)
            sent += message;
        if (clock_us >= next_ping && ping_sent == 0 && sent < total) {
            ping_sent = clock_us;
            next_ping = clock_us + PING_EVERY;
            need(dp_channel_send(ends[0].ping, clock_us, data, 64, true, false) == DP_OK, "ping");
        }
        step(clock_us + 500);
    }
    double seconds = (double)(clock_us - start) / 1e6;
    need(pings > 0, "too short for a ping");
    qsort(delays, pings, sizeof delays[0], by_value);
    printf(
        "{\"bench\":\"sctp_ping\",\"interleaving\":%s,\"message\":%zu,\"send_buffer\":%zu,\"priority\":%d,"
        "\"mbit_s\":%.1f,"
        "\"of_link\":%.2f,\"pings\":%zu,\"p50_ms\":%.1f,\"p99_ms\":%.1f,\"max_ms\":%.1f,\"dropped\":%llu}\n",
        interleaving ? "true" : "false", message, send_buffer, (int)priority,
        (double)total * 8 / 1e6 / seconds, (double)total / seconds / (double)rate, pings, delays[pings / 2],
        delays[pings * 99 / 100], delays[pings - 1], (unsigned long long)dropped);
    for (int i = 0; i < 2; i++) {
        dp_sctp_free(ends[i].sctp);
        while (ends[i].first != NULL) {
            packet *p = ends[i].first;
            ends[i].first = p->next;
            free(p);
        }
    }
}

int main(int argc, char **argv)
{
    uint64_t total = (argc > 1 ? strtoull(argv[1], NULL, 10) : 256) * 1000000;
    size_t send_buffer = argc > 2 ? strtoull(argv[2], NULL, 10) : 1u << 20;
    static const size_t messages[] = {16384, 65536, 262144};
    if (argc > 3)
        rate = strtoull(argv[3], NULL, 10) * MBIT;
    for (int interleaving = 0; interleaving < 2; interleaving++) {
        for (size_t i = 0; i < 3; i++)
            run(messages[i], total, send_buffer, DP_CHANNEL_PRIORITY_LOW, interleaving);
        run(65536, total, send_buffer, DP_CHANNEL_PRIORITY_HIGH, interleaving);
    }
    return 0;
}
