/* SCTP alone: two associations in memory, one core, real time, 64 KiB messages one way. Prints MB/s (both
 * ends on this core), CRC-32C with and without the processor's instruction, and our own allocations per MiB.
 */
#include "count.h"
#include <datapeer/sctp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/crc.h"

#define MESSAGE (64u * 1024u)

static dp_time now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (dp_time)t.tv_sec * 1000000u + (dp_time)t.tv_nsec / 1000u;
}

/* Processor time of this process, which busy neighbours do not change. */
static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

typedef struct bench {
    dp_sctp *end[2];
    dp_channel *channel;
    uint64_t received;
    uint64_t packets;
    bool open;
} bench;

static void drain(bench *b, int end)
{
    dp_sctp_event event;
    while (dp_sctp_poll_event(b->end[end], &event)) {
        if (event.type == DP_SCTP_EVENT_MESSAGE)
            b->received += event.len;
        if (event.type == DP_SCTP_EVENT_CHANNEL_OPEN && end == 0)
            b->open = true;
    }
}

/* A batch of packets from one end to the other, as a socket would deliver them. */
static bool move(bench *b, int from)
{
    const uint8_t *data;
    size_t len;
    bool any = false;
    dp_time t = now();
    for (int i = 0; i < 64 && dp_sctp_poll_transmit(b->end[from], &data, &len); i++) {
        dp_sctp_input(b->end[1 - from], t, data, len);
        b->packets++;
        any = true;
    }
    drain(b, 1 - from);
    return any;
}

static int run(double seconds, bool unordered, bool interleaving)
{
    bench b;
    memset(&b, 0, sizeof b);
    dp_csprng *csprng = NULL;
    dp_csprng_new(&csprng);
    dp_sctp_config config = {
        .size = sizeof config, .random = dp_csprng_source(csprng), .no_interleaving = !interleaving};
    dp_channel_init init = DP_CHANNEL_INIT("bench");
    init.ordered = !unordered;
    uint8_t *message = (uint8_t *)calloc(1, MESSAGE);
    if (message == NULL || dp_sctp_new(&b.end[0], &config) != DP_OK ||
        dp_sctp_new(&b.end[1], &config) != DP_OK ||
        dp_sctp_open_channel(b.end[0], &b.channel, now(), &init) != DP_OK)
        return 1;
    for (int i = 0; i < 2; i++)
        if (dp_sctp_start(b.end[i], now(), i == 0, 5000, 0) != DP_OK)
            return 1;
    dp_time start = now();
    dp_time end = start + (dp_time)(seconds * 1e6);
    double cpu = cpu_seconds();
    allocations = 0;
    while (now() < end) {
        while (b.open && dp_channel_send(b.channel, now(), message, MESSAGE, true, false) == DP_OK &&
               dp_channel_buffered_amount(b.channel) == 0) {
        }
        move(&b, 0);
        move(&b, 1);
        for (int i = 0; i < 2; i++) {
            if (dp_sctp_next_timeout(b.end[i]) <= now())
                dp_sctp_handle_timeout(b.end[i], now());
            drain(&b, i);
        }
    }
    double took = (double)(now() - start) / 1e6;
    cpu = cpu_seconds() - cpu;
    double mib = (double)b.received / (1024 * 1024);
    printf("%-6s %-9s %6.1f MB/s  %5.2f CPU s/GiB  %7.0f packets/s  %5.2f allocations/MiB\n",
           interleaving ? "I-DATA" : "DATA", unordered ? "unordered" : "ordered",
           (double)b.received / 1e6 / took, cpu / (mib / 1024), (double)b.packets / took,
           (double)allocations / mib);
    dp_sctp_free(b.end[0]);
    dp_sctp_free(b.end[1]);
    dp_csprng_free(csprng);
    free(message);
    return 0;
}

static void crc(const char *name, uint32_t (*fn)(uint32_t, const uint8_t *, size_t))
{
    static uint8_t packet[1160];
    uint32_t sum = 0;
    dp_time start = now();
    uint64_t n = 0;
    for (; now() - start < DP_MS(200); n += 64)
        for (int i = 0; i < 64; i++)
            sum += fn(sum, packet, sizeof packet);
    double seconds = (double)(now() - start) / 1e6;
    printf("CRC-32C %-9s %8.0f MB/s (%u)\n", name, (double)(n * sizeof packet) / 1e6 / seconds,
           (unsigned)(sum & 1));
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 3;
    count_allocations();
    crc("chosen", dp_crc32c);
    crc("table", dp_crc32c_table);
    for (int i = 0; i < 4; i++)
        if (run(seconds, i / 2 == 1, i % 2 == 1) != 0)
            return 1;
    return 0;
}
