/* The machine's ceiling for data channels: the datagrams that SCTP and DTLS make of 64 KiB messages, sealed at one end
 * and opened at the other with the same code (dtls/record.c) and sent with the same batches (net/udp.c), by two
 * processes over loopback, with nothing between: no ICE, no SCTP. What the receiver reports back, one small datagram
 * for each batch that came, keeps the sender from flooding it.
 *
 * One JSON object: MBps counts the bytes of the messages. */
#include "dtls/record.h"
#include "measure.h"
#include "net/udp.h"

#include <stdatomic.h>
#include <sys/socket.h>

enum {
    MESSAGE = 65536,
    /* peer/pc.c's datagrams of 1,200 bytes: without DTLS 1,160 of them are SCTP's, whose packets end at a multiple of
     * four. */
    PACKET = 1160,
    SCTP_HEADERS = 12 + 16, /* common, and of one DATA chunk */
    CHUNK = PACKET - SCTP_HEADERS,
    IN_FLIGHT = 512 << 10, /* bytes */
};

static const char what[] =
    "limit: throughput of sealed datagrams between two processes over loopback, without ICE and SCTP";

typedef struct result {
    double MBps;
    double cpu_s_per_GiB;
} result;

typedef struct end {
    dp_loop *loop;
    dp_udp *udp;
    dp_address remote;
    dp_protection protection;
    _Atomic uint64_t *received; /* shared: bytes of messages, as the receiver counts them */
    uint64_t sent;              /* likewise, as the sender does */
    uint64_t acknowledged;
    size_t at;     /* in the message that is being sent */
    dp_time heard; /* from the receiver */
} end;

static uint8_t message[SCTP_HEADERS + MESSAGE];

static measure_options options = {.seconds = 1, .runs = 5};

static void report(end *e)
{
    dp_datagram slot;
    uint64_t count = atomic_load(e->received);
    if (dp_udp_slot(e->loop, &slot) != DP_OK)
        return;
    memcpy(slot.data, &count, sizeof count);
    slot.length = sizeof count;
    slot.remote = e->remote;
    dp_udp_commit(e->loop, e->udp, &slot);
}

static void on_records(void *user, dp_udp *udp, dp_udp_packet *packets, size_t count)
{
    end *e = user;
    uint64_t bytes = 0;
    (void)udp;
    for (size_t i = 0; i < count; i++) {
        dp_rd rd = dp_rd_init(packets[i].data, packets[i].len);
        dp_record record;
        size_t plain_len;
        uint8_t *plain;
        if (dp_record_read(&record, &rd) &&
            dp_protection_open(&e->protection, &plain, &plain_len, &record, (uint8_t *)record.body))
            bytes += plain_len - SCTP_HEADERS;
    }
    atomic_fetch_add(e->received, bytes);
    e->remote = packets[0].remote;
    report(e);
}

static void on_report(void *user, dp_udp *udp, dp_udp_packet *packets, size_t count)
{
    end *e = user;
    (void)udp;
    if (packets[count - 1].len == sizeof e->acknowledged)
        memcpy(&e->acknowledged, packets[count - 1].data, sizeof e->acknowledged);
    e->heard = dp_loop_now(e->loop);
}

static void fill(end *e)
{
    dp_datagram slot;
    while (e->sent - e->acknowledged < IN_FLIGHT && dp_udp_slot(e->loop, &slot) == DP_OK) {
        size_t piece = MESSAGE - e->at < CHUNK ? MESSAGE - e->at : CHUNK;
        need(dp_protection_seal(&e->protection, slot.data, slot.capacity, &slot.length,
                                DP_RECORD_APPLICATION_DATA, message + e->at, SCTP_HEADERS + piece) == DP_OK,
             "seal");
        slot.remote = e->remote;
        dp_udp_commit(e->loop, e->udp, &slot);
        e->sent += piece;
        e->at = (e->at + piece) % MESSAGE;
    }
}

/* Both ends have both keys: what one writes with the other reads with. */
static void end_open(end *e, bool sender, dp_loop *loop)
{
    dp_address local;
    dp_udp_handler handler = {.on_packets = sender ? on_report : on_records, .user = e};
    dp_record_keys keys = {.cipher = DP_AEAD_AES_128_GCM};
    memset(sender ? keys.write_key : keys.read_key, 1, sizeof keys.write_key);
    e->loop = loop;
    need(dp_protection_init(&e->protection, &keys) == DP_OK, "keys");
    need(dp_address_parse(&local, "127.0.0.1", 0) == DP_OK &&
             dp_udp_open(&e->udp, loop, &local, &handler) == DP_OK,
         "a UDP socket");
}

static void step(end *e) { need(dp_loop_step(e->loop, DP_MS(20)) == DP_OK, "the loop"); }

static void receive(end *e, int address)
{
    dp_loop *loop;
    need(dp_loop_new(&loop) == DP_OK, "a loop");
    end_open(e, false, loop);
    need(write(address, dp_udp_local(e->udp), sizeof(dp_address)) == sizeof(dp_address), "write");
    for (;;)
        step(e);
}

static void transfer(end *e, dp_duration duration)
{
    dp_time end_at = dp_clock_now() + duration;
    dp_loop_step(e->loop, 0);
    e->heard = dp_loop_now(e->loop);
    do {
        fill(e);
        step(e);
        if (dp_loop_now(e->loop) - e->heard > DP_MS(50))
            e->acknowledged = e->sent; /* datagrams were lost */
    } while (dp_loop_now(e->loop) < end_at);
}

static void run(void *argument)
{
    result *out = argument;
    end e = {.received = shared_memory(sizeof(uint64_t))};
    int fds[2];
    dp_loop *loop;
    need(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0, "socketpair");
    pid_t receiver = fork_child();
    if (receiver == 0)
        receive(&e, fds[1]);
    need(read(fds[0], &e.remote, sizeof e.remote) == sizeof e.remote, "read");
    need(dp_loop_new(&loop) == DP_OK, "a loop");
    end_open(&e, true, loop);
    transfer(&e, DP_MS(50));
    double cpu = cpu_seconds(0) + cpu_seconds(receiver);
    uint64_t before = atomic_load(e.received);
    dp_time began = dp_clock_now();
    transfer(&e, (dp_duration)(options.seconds * 1e6));
    double bytes = (double)(atomic_load(e.received) - before);
    double took = (double)(dp_clock_now() - began) / 1e6;
    cpu = cpu_seconds(0) + cpu_seconds(receiver) - cpu;
    *out = (result){bytes / took / 1e6, cpu / (bytes / (1 << 30))};
}

int main(int argc, char **argv)
{
    double MBps[MAX_RUNS], cpu[MAX_RUNS];
    parse_options(&options, argc, argv, what);
    result *out = shared_memory(sizeof *out);
    for (unsigned i = 0; i < options.runs; i++) {
        in_a_process(run, out);
        MBps[i] = out->MBps;
        cpu[i] = out->cpu_s_per_GiB;
    }
    printf("{\"bench\":\"limit\",\"message\":%d,\"MBps\":%.1f,\"cpu_s_per_GiB\":%.2f", MESSAGE,
           median_of(MBps, options.runs), median_of(cpu, options.runs));
    print_runs("runs", MBps, options.runs);
    print_runs("cpu_runs", cpu, options.runs);
    printf("}\n");
    return 0;
}
