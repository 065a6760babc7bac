/* Whole peer connections in the simulation, usrsctp and mbedTLS included: through two NATs that let only each other's
 * answers in, and by a relay if that is not enough; links with loss and reordering; messages both ways. Each run is
 * made twice, in processes of their own (usrsctp keeps state for its process), and has to give the same trace. */
#include "run.h"
#include "two.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MESSAGES    40
#define MESSAGE_LEN 9000

typedef struct traffic {
    unsigned sent;
    unsigned received;
    bool wrong;
} traffic;

static void on_event(sim_host *host, const dp_pc_event *event)
{
    traffic *t = host->user;
    if (event->type != DP_PC_EVENT_MESSAGE)
        return;
    t->wrong |= event->len != MESSAGE_LEN || event->data[0] != (uint8_t)t->received;
    t->received++;
}

static void send_some(sim_host *host)
{
    static uint8_t message[MESSAGE_LEN];
    traffic *t = host->user;
    while (host->opened > 0 && t->sent < MESSAGES) {
        memset(message, (int)t->sent, sizeof message);
        if (dp_channel_send(host->channel, host->node.net->now, message, sizeof message, true, false) !=
            DP_OK)
            break;
        t->sent++;
    }
    sim_host_drain(host);
}

static bool all_received(void *ctx)
{
    sim_two *w = ctx;
    bool all = true;
    for (size_t i = 0; i < 2; i++) {
        send_some(w->hosts[i]);
        all = all && ((traffic *)w->hosts[i]->user)->received == MESSAGES;
    }
    return all;
}

/* One run; its trace, or 0: it failed. */
static uint64_t run(uint64_t seed, sim_dependence mapping, unsigned loss)
{
    sim_two w;
    traffic both[2] = {{0}};
    sim_nat_config nat = {.mapping = mapping, .filtering = SIM_ADDRESS_AND_PORT_DEPENDENT};
    sim_two_config config = {
        .seed = seed,
        .nats = {nat, nat},
        .link = {.delay = DP_MS(9),
                 .jitter = DP_MS(4),
                 .loss = loss,
                 .reorder = loss,
                 .reorder_delay = DP_MS(20),
                 .duplicate = loss / 2},
        .servers = {.delay = DP_MS(5)},
        .turn = true,
        .host = {.pc = true, .signal_delay = DP_MS(20)},
    };
    sim_clock_seed(seed);
    sim_two_init(&w, &config);
    for (size_t i = 0; i < 2; i++) {
        w.hosts[i]->user = &both[i];
        w.hosts[i]->on_event = on_event;
    }
    sim_host_start(w.hosts[0]);
    bool done = sim_run_until(&w.net, DP_SECONDS(120), all_received, &w);
    bool relayed = sim_two_relayed(&w);
    const char *why = NULL;
    if (!done)
        why = "not all messages came in time";
    else if (both[0].wrong || both[1].wrong)
        why = "a message is wrong";
    else if (relayed != (mapping == SIM_ADDRESS_AND_PORT_DEPENDENT))
        why = relayed ? "relayed, though there is a direct way" : "direct, though there is no such way";
    if (why != NULL)
        fprintf(stderr, "seed %llu, loss %u: %s (A got %u, B got %u)\n", (unsigned long long)seed, loss, why,
                both[0].received, both[1].received);
    double took = (double)(w.net.now - DP_SECONDS(1000)) / 1e6;
    for (size_t i = 0; i < 2; i++)
        sim_host_close(w.hosts[i]);
    sim_run(&w.net, DP_SECONDS(1));
    printf("%s, loss %u.%u %%: %d kB each way in %.3f s, trace %016llx\n", relayed ? "relayed" : "direct",
           loss / 10, loss % 10, MESSAGES * MESSAGE_LEN / 1000, took, (unsigned long long)w.net.trace);
    uint64_t trace = w.net.trace;
    sim_net_clear(&w.net);
    return why == NULL ? trace : 0;
}

static uint64_t run_apart(uint64_t seed, sim_dependence mapping, unsigned loss)
{
    int ends[2];
    uint64_t trace = 0;
    int status = 0;
    fflush(stdout);
    if (pipe(ends) != 0)
        abort();
    pid_t child = fork();
    if (child == 0) {
        trace = run(seed, mapping, loss);
        bool told = write(ends[1], &trace, sizeof trace) == (ssize_t)sizeof trace;
        exit(told ? EXIT_SUCCESS : EXIT_FAILURE); /* looks for leaks, too */
    }
    close(ends[1]);
    if (read(ends[0], &trace, sizeof trace) != (ssize_t)sizeof trace)
        trace = 0;
    close(ends[0]);
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        return 0;
    return trace;
}

int main(void)
{
    static const unsigned losses[] = {0, 20, 100};
    unsigned wrong = 0;
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned k = 0; k < 2; k++) {
            sim_dependence mapping = k == 0 ? SIM_ENDPOINT_INDEPENDENT : SIM_ADDRESS_AND_PORT_DEPENDENT;
            uint64_t first = run_apart(i + 1, mapping, losses[i]);
            uint64_t again = run_apart(i + 1, mapping, losses[i]);
            if (first != again)
                fprintf(stderr, "the same seed gave another trace\n");
            wrong += first == 0 || first != again;
        }
    }
    return wrong > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
