#include "peer/runner.h"

#include "base/mem.h"
#include <string.h>

enum { MAX_SOCKETS = 16 };

struct runner {
    dp_loop *loop;
    dp_pc *pc;
    dp_udp *sockets[MAX_SOCKETS];
    size_t socket_count;
    dp_timer timer;
    dp_deferred wake;
    runner_event_fn on_event;
    runner_fill_fn on_fill;
    void *user;
};

static dp_udp *socket_of(const runner *r, const dp_address *local)
{
    for (size_t i = 0; i < r->socket_count; i++)
        if (dp_address_equal(dp_udp_local(r->sockets[i]), local))
            return r->sockets[i];
    return NULL;
}

/* Fills the loop's batch slot by slot: the state machines write into the memory that sendmmsg reads. */
static void flush(runner *r, dp_time now)
{
    dp_datagram slot;
    while (dp_udp_slot(r->loop, &slot) == DP_OK && dp_pc_poll_transmit(r->pc, now, &slot)) {
        dp_udp *udp = socket_of(r, &slot.local);
        if (udp != NULL)
            dp_udp_commit(r->loop, udp, &slot);
    }
}

static void pump(runner *r)
{
    dp_time now = dp_loop_now(r->loop);
    dp_pc_event event;
    while (dp_pc_poll_event(r->pc, now, &event))
        r->on_event(r->user, &event);
    r->on_fill(r->user);
    flush(r, now);
    dp_timer_set(r->loop, &r->timer, dp_pc_next_timeout(r->pc));
}

static void on_wake(void *user) { pump(user); }

static void on_timer(void *user)
{
    runner *r = user;
    dp_pc_handle_timeout(r->pc, dp_loop_now(r->loop));
    pump(r);
}

static void on_packets(void *user, dp_udp *udp, dp_udp_packet *packets, size_t count)
{
    runner *r = user;
    dp_time now = dp_loop_now(r->loop);
    for (size_t i = 0; i < count; i++)
        dp_pc_input(r->pc, now, packets[i].data, packets[i].len, dp_udp_local(udp), &packets[i].remote);
    pump(r);
}

static void on_writable(void *user, dp_udp *udp)
{
    (void)udp;
    pump(user);
}

static int open_sockets(runner *r, bool include_loopback)
{
    dp_address addresses[MAX_SOCKETS];
    size_t count = 0;
    int error = dp_interfaces(addresses, MAX_SOCKETS, &count, include_loopback);
    if (error != DP_OK)
        return error;
    dp_udp_handler handler = {on_packets, on_writable, r};
    for (size_t i = 0; i < count; i++) {
        /* An address may have gone meanwhile: the others will do. */
        if (dp_udp_open(&r->sockets[r->socket_count], r->loop, &addresses[i], &handler) != DP_OK)
            continue;
        error = dp_pc_add_local_address(r->pc, dp_udp_local(r->sockets[r->socket_count++]));
        if (error != DP_OK)
            return error;
    }
    return r->socket_count > 0 ? DP_OK : DP_ERR_IO;
}

int runner_new(runner **out, const runner_config *config)
{
    runner *r = dp_calloc(1, sizeof(*r));
    if (r == NULL)
        return DP_ERR_NO_MEMORY;
    r->loop = config->loop;
    r->on_event = config->on_event;
    r->on_fill = config->on_fill;
    r->user = config->user;
    r->timer.fn = on_timer;
    r->timer.user = r;
    r->wake.fn = on_wake;
    r->wake.user = r;
    int error = dp_pc_new(&r->pc, &config->pc);
    if (error == DP_OK)
        error = open_sockets(r, config->include_loopback);
    if (error != DP_OK) {
        runner_free(r);
        return error;
    }
    *out = r;
    return DP_OK;
}

void runner_free(runner *r)
{
    if (r == NULL)
        return;
    if (r->pc != NULL) {
        dp_pc_close(r->pc, dp_loop_now(r->loop));
        flush(r, dp_loop_now(r->loop));
        dp_udp_flush(r->loop);
    }
    dp_timer_stop(&r->timer);
    dp_undefer(&r->wake);
    for (size_t i = 0; i < r->socket_count; i++)
        dp_udp_close(r->sockets[i]);
    dp_pc_free(r->pc);
    dp_free(r);
}

dp_pc *runner_pc(const runner *r) { return r->pc; }

void runner_wake(runner *r) { dp_defer(r->loop, &r->wake); }
