/* UDP over the loopback interface, both ends in one loop: packets and bytes a second with and without GSO and
 * GRO. */
#include "net/udp.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SIZE = 1200, IN_FLIGHT = 512 };

static dp_loop *loop;
static dp_udp *from, *to;
static size_t sent, received;

static void on_packets(void *user, dp_udp *udp, dp_udp_packet *packets, size_t count)
{
    (void)user;
    (void)udp;
    (void)packets;
    received += count;
}

static void fill(void)
{
    dp_datagram slot;
    while (sent - received < IN_FLIGHT && dp_udp_slot(loop, &slot) == DP_OK) {
        memset(slot.data, 0, SIZE);
        slot.length = SIZE;
        slot.remote = *dp_udp_local(to);
        dp_udp_commit(loop, from, &slot);
        sent++;
    }
}

static double cpu_seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

static int run(bool gso, bool gro)
{
    dp_address local;
    dp_udp_handler handler = {.on_packets = on_packets};
    if (dp_loop_new(&loop) != DP_OK || dp_address_parse(&local, "127.0.0.1", 0) != DP_OK ||
        dp_udp_open(&from, loop, &local, &handler) != DP_OK ||
        dp_udp_open(&to, loop, &local, &handler) != DP_OK)
        return 1;
    dp_udp_set_offload(from, gso && dp_udp_has_gso(from), gro);
    dp_udp_set_offload(to, gso && dp_udp_has_gso(to), gro);
    sent = received = 0;
    dp_time start = dp_clock_now();
    double cpu = cpu_seconds();
    dp_time end = start + DP_SECONDS(1);
    while (dp_loop_now(loop) < end) {
        size_t before = received;
        fill();
        if (dp_loop_step(loop, DP_MS(20)) != DP_OK)
            return 1;
        if (received == before && sent - received >= IN_FLIGHT)
            sent = received; /* the kernel dropped some */
    }
    double seconds = (double)(dp_clock_now() - start) / 1e6;
    double bytes = (double)received * SIZE;
    printf("%s GSO, %s GRO: %9.0f packets/s %8.1f MB/s %6.2f CPU s/GiB\n", gso ? "with" : "  no",
           gro ? "with" : "  no", (double)received / seconds, bytes / seconds / 1e6,
           (cpu_seconds() - cpu) / (bytes / (1 << 30)));
    dp_udp_close(from);
    dp_udp_close(to);
    dp_loop_free(loop);
    return 0;
}

int main(void) { return run(false, false) | run(true, false) | run(false, true) | run(true, true); }
