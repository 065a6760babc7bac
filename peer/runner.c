#include "peer/runner.h"

#include "base/log.h"
#include "base/mem.h"
#include "peer/links.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char layer[] = "peer";

struct runner {
    network *network;
    dp_loop *loop;
    dp_log log;
    mux *mux;
    mux_member member;
    links links;
    names_user names;
    bool uses_names;
    dp_pc *pc;
    dp_timer timer;
    dp_deferred wake;
    runner_event_fn on_event;
    runner_fill_fn on_fill;
    void (*on_network)(void *user);
    void *user;
};

/* Fills the loop's batch slot by slot: the state machines write into the memory that sendmmsg reads. */
static void flush(runner *r, dp_time now)
{
    dp_datagram slot;
    while (dp_udp_slot(r->loop, &slot) == DP_OK && dp_pc_poll_transmit(r->pc, now, &slot)) {
        dp_udp *udp = slot.link == 0 ? dp_mux_socket(r->mux, &slot.local) : NULL;
        if (slot.link != 0)
            dp_links_send(&r->links, &slot);
        else if (udp != NULL)
            dp_udp_commit(r->loop, udp, &slot);
    }
}

/* ---- names ---- */

static bool is_mdns_name(const char *name)
{
    static const char suffix[] = ".local";
    size_t len = strlen(name);
    return len >= sizeof(suffix) && strcasecmp(name + len - (sizeof(suffix) - 1), suffix) == 0;
}

static names *names_of(runner *r)
{
    names *n = dp_network_names(r->network);
    r->uses_names |= n != NULL;
    return n;
}

static void on_name(void *user, const char *name, const dp_address *addresses, size_t count)
{
    runner *r = user;
    dp_pc_resolved(r->pc, dp_loop_now(r->loop), name, addresses, count);
    dp_runner_wake(r);
}

/* Names under .local alone: asking a name server for a name that a stranger chose would block the loop, and tell
 * others who talks to whom. Browsers put no other names into candidates. */
static void resolve(runner *r, const char *hostname)
{
    char name[DP_ICE_HOST_MAX + 1];
    snprintf(name, sizeof(name), "%s", hostname); /* hostname is the peer connection's */
    names *n = is_mdns_name(name) ? names_of(r) : NULL;
    if (n == NULL || dp_names_ask(n, &r->names, name) != DP_OK)
        dp_pc_resolved(r->pc, dp_loop_now(r->loop), name, NULL, 0);
}

static void publish(runner *r, const char *hostname, const dp_address *address)
{
    names *n = names_of(r);
    int error = n == NULL ? DP_ERR_NO_MEMORY : dp_names_publish(n, &r->names, hostname, address);
    if (error != DP_OK)
        DP_LOG(&r->log, DP_LOG_WARN, layer, "a name that hides an address can't be published: %s",
               dp_strerror(error));
}

/* ---- events ---- */

/* What the runner itself has to do; the rest is the owner's. */
static void take_event(runner *r, const dp_pc_event *event)
{
    switch (event->type) {
    case DP_PC_EVENT_RESOLVE:
        resolve(r, event->hostname);
        break;
    case DP_PC_EVENT_PUBLISH:
        publish(r, event->hostname, &event->local);
        break;
    case DP_PC_EVENT_LINK_OPEN:
        dp_links_open(&r->links, &event->link);
        break;
    case DP_PC_EVENT_LINK_CLOSE:
        flush(r, dp_loop_now(r->loop)); /* what gives an allocation back still leaves by it */
        dp_links_close(&r->links, event->link.id);
        break;
    case DP_PC_EVENT_SELECTED_PAIR:
        dp_pc_set_path_mtu(r->pc, dp_loop_now(r->loop), dp_route_mtu(&event->local, &event->remote));
        r->on_event(r->user, event);
        break;
    case DP_PC_EVENT_LOCAL_CANDIDATE:
        if (event->hostname != NULL)
            publish(r, event->hostname, &event->local);
        r->on_event(r->user, event);
        break;
    default:
        r->on_event(r->user, event);
        break;
    }
}

static void pump(void *user)
{
    runner *r = user;
    dp_time now = dp_loop_now(r->loop);
    dp_pc_event event;
    while (dp_pc_poll_event(r->pc, now, &event))
        take_event(r, &event);
    r->on_fill(r->user);
    flush(r, now);
    dp_timer_set(r->loop, &r->timer, dp_pc_next_timeout(r->pc));
}

static bool on_stream(void *user, const accepted_stream *stream)
{
    runner *r = user;
    return dp_links_accept(&r->links, stream);
}

static void on_changed(void *user)
{
    runner *r = user;
    pump(r); /* the owner knows then what it means for the path */
    if (r->on_network != NULL)
        r->on_network(r->user);
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
    r->network = config->network;
    r->loop = r->network->loop;
    r->log = config->pc.log;
    r->mux = config->mux;
    r->on_event = config->on_event;
    r->on_fill = config->on_fill;
    r->on_network = config->on_network;
    r->user = config->user;
    r->timer = (dp_timer){.fn = on_timer, .user = r};
    r->wake = (dp_deferred){.fn = pump, .user = r};
    r->names = (names_user){.on_result = on_name, .user = r};
    int error = dp_pc_new(&r->pc, &config->pc);
    r->links = (links){.network = r->network, .pc = r->pc, .log = r->log, .pump = pump, .user = r};
    r->member = (mux_member){.pc = r->pc,
                             .on_input = pump,
                             .on_writable = pump,
                             .on_stream = on_stream,
                             .on_changed = on_changed,
                             .user = r};
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
    dp_links_clear(&r->links);
    if (r->uses_names)
        dp_names_leave(dp_network_names(r->network), &r->names);
    dp_pc_free(r->pc);
    dp_free(r);
}

dp_pc *dp_runner_pc(const runner *r) { return r->pc; }

void dp_runner_wake(runner *r) { dp_defer(r->loop, &r->wake); }
