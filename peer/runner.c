#include "peer/runner.h"

#include "base/mem.h"

struct runner {
    dp_loop *loop;
    mux *mux;
    mux_member member;
    dp_pc *pc;
    dp_timer timer;
    dp_deferred wake;
    runner_event_fn on_event;
    runner_fill_fn on_fill;
    void *user;
};

/* Fills the loop's batch slot by slot: the state machines write into the memory that sendmmsg reads. */
static void flush(runner *r, dp_time now)
{
    dp_datagram slot;
    while (dp_udp_slot(r->loop, &slot) == DP_OK && dp_pc_poll_transmit(r->pc, now, &slot)) {
        dp_udp *udp = dp_mux_socket(r->mux, &slot.local);
        if (udp != NULL)
            dp_udp_commit(r->loop, udp, &slot);
    }
}

static void pump(void *user)
{
    runner *r = user;
    dp_time now = dp_loop_now(r->loop);
    dp_pc_event event;
    while (dp_pc_poll_event(r->pc, now, &event))
        r->on_event(r->user, &event);
    r->on_fill(r->user);
    flush(r, now);
    dp_timer_set(r->loop, &r->timer, dp_pc_next_timeout(r->pc));
}

static void on_timer(void *user)
{
    runner *r = user;
    dp_pc_handle_timeout(r->pc, dp_loop_now(r->loop));
    pump(r);
}

int dp_runner_new(runner **out, const runner_config *config)
{
    runner *r = dp_calloc(1, sizeof(*r));
    if (r == NULL)
        return DP_ERR_NO_MEMORY;
    r->loop = config->loop;
    r->mux = config->mux;
    r->on_event = config->on_event;
    r->on_fill = config->on_fill;
    r->user = config->user;
    r->timer = (dp_timer){.fn = on_timer, .user = r};
    r->wake = (dp_deferred){.fn = pump, .user = r};
    int error = dp_pc_new(&r->pc, &config->pc);
    r->member = (mux_member){.pc = r->pc, .on_input = pump, .on_writable = pump, .user = r};
    if (error == DP_OK)
        error = dp_mux_join(r->mux, &r->member);
    if (error != DP_OK) {
        dp_pc_free(r->pc);
        dp_free(r);
        return error;
    }
    *out = r;
    return DP_OK;
}

void dp_runner_free(runner *r)
{
    if (r == NULL)
        return;
    dp_pc_close(r->pc, dp_loop_now(r->loop));
    flush(r, dp_loop_now(r->loop));
    dp_udp_flush(r->loop); /* the sockets may be closed before the round ends */
    dp_timer_stop(&r->timer);
    dp_undefer(&r->wake);
    dp_mux_leave(r->mux, &r->member);
    dp_pc_free(r->pc);
    dp_free(r);
}

dp_pc *dp_runner_pc(const runner *r) { return r->pc; }

void dp_runner_wake(runner *r) { dp_defer(r->loop, &r->wake); }
