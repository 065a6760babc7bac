#include "net/loop.h"

#include "base/mem.h"
#include "net/authorities.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

enum {
    EVENTS = 64, /* a round; the rest comes in the next one */
    MAX_TIMERS = 1 << 24,
};

int dp_loop_new(dp_loop **out)
{
    dp_loop *loop = dp_calloc(1, sizeof(*loop));
    if (loop == NULL)
        return DP_ERR_NO_MEMORY;
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll < 0) {
        dp_free(loop);
        return DP_ERR_IO;
    }
    loop->deferred_last = &loop->deferred_first;
    loop->now = dp_clock_now();
    *out = loop;
    return DP_OK;
}

static void bury(dp_loop *loop)
{
    while (loop->dead != NULL) {
        dp_source *source = loop->dead;
        loop->dead = source->next_dead;
        dp_free(source);
    }
}

void dp_loop_free(dp_loop *loop)
{
    if (loop == NULL)
        return;
    bury(loop);
    dp_udp_io_free(loop);
    dp_tls_authorities_free(loop);
    dp_free(loop->stream_buffer);
    dp_free(loop->timers);
    close(loop->epoll);
    dp_free(loop);
}

void dp_loop_stop(dp_loop *loop) { loop->stopped = true; }
int dp_loop_fd(const dp_loop *loop) { return loop->epoll; }
dp_time dp_loop_now(const dp_loop *loop) { return loop->now; }

dp_time dp_loop_next_timeout(const dp_loop *loop)
{
    if (loop->deferred_count > 0 || dp_udp_io_pending(loop))
        return 0;
    return loop->timer_count > 0 ? loop->timers[0]->at : DP_TIME_NEVER;
}

/* ---- timers ---- */

static void place(dp_loop *loop, size_t i, dp_timer *timer)
{
    loop->timers[i] = timer;
    timer->index = i + 1; /* 0 is off */
}

static void sift_up(dp_loop *loop, size_t i, dp_timer *timer)
{
    while (i > 0 && loop->timers[(i - 1) / 2]->at > timer->at) {
        place(loop, i, loop->timers[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(loop, i, timer);
}

static void sift_down(dp_loop *loop, size_t i, dp_timer *timer)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < loop->timer_count && loop->timers[child + 1]->at < loop->timers[child]->at)
            child++;
        if (child >= loop->timer_count || loop->timers[child]->at >= timer->at)
            break;
        place(loop, i, loop->timers[child]);
        i = child;
    }
    place(loop, i, timer);
}

int dp_timer_set(dp_loop *loop, dp_timer *timer, dp_time at)
{
    if (at == DP_TIME_NEVER) {
        dp_timer_stop(timer);
        return DP_OK;
    }
    /* A timer that sets itself again to a time that is past waits for the next round: the others and the
     * sockets have their turn. */
    if (loop->firing && at <= loop->now)
        at = loop->now + 1;
    if (timer->index == 0) {
        void *timers = loop->timers;
        int error =
            dp_grow(&timers, &loop->timer_capacity, loop->timer_count + 1, MAX_TIMERS, sizeof(dp_timer *));
        if (error != DP_OK)
            return DP_ERR_NO_MEMORY;
        loop->timers = timers;
        timer->loop = loop;
        timer->at = at;
        sift_up(loop, loop->timer_count++, timer);
        return DP_OK;
    }
    bool earlier = at < timer->at;
    timer->at = at;
    if (earlier)
        sift_up(loop, timer->index - 1, timer);
    else
        sift_down(loop, timer->index - 1, timer);
    return DP_OK;
}

void dp_timer_stop(dp_timer *timer)
{
    if (timer->index == 0)
        return;
    dp_loop *loop = timer->loop;
    size_t hole = timer->index - 1;
    dp_timer *last = loop->timers[--loop->timer_count];
    timer->index = 0;
    if (last == timer)
        return;
    if (hole > 0 && loop->timers[(hole - 1) / 2]->at > last->at)
        sift_up(loop, hole, last);
    else
        sift_down(loop, hole, last);
}

static void fire_timers(dp_loop *loop)
{
    loop->firing = true;
    while (loop->timer_count > 0 && loop->timers[0]->at <= loop->now) {
        dp_timer *timer = loop->timers[0];
        dp_timer_stop(timer);
        timer->fn(timer->user);
    }
    loop->firing = false;
}

/* ---- deferred work ---- */

void dp_defer(dp_loop *loop, dp_deferred *deferred)
{
    if (deferred->loop != NULL)
        return;
    deferred->loop = loop;
    deferred->next = NULL;
    *loop->deferred_last = deferred;
    loop->deferred_last = &deferred->next;
    loop->deferred_count++;
}

void dp_undefer(dp_deferred *deferred)
{
    dp_loop *loop = deferred->loop;
    if (loop == NULL)
        return;
    dp_deferred **at = &loop->deferred_first;
    while (*at != deferred)
        at = &(*at)->next;
    *at = deferred->next;
    if (loop->deferred_last == &deferred->next)
        loop->deferred_last = at;
    deferred->loop = NULL;
    loop->deferred_count--;
}

/* What the callbacks defer anew runs in the next round, which then does not wait: two that defer each other
 * cannot keep the sockets from being read. */
static void run_deferred(dp_loop *loop)
{
    for (size_t n = loop->deferred_count; n > 0 && loop->deferred_first != NULL; n--) {
        dp_deferred *deferred = loop->deferred_first;
        dp_undefer(deferred);
        deferred->fn(deferred->user);
    }
}

/* ---- sources ---- */

void dp_source_init(dp_source *source, dp_loop *loop, void (*fn)(dp_source *source, uint32_t events))
{
    memset(source, 0, sizeof(*source));
    source->fn = fn;
    source->loop = loop;
    source->fd = -1;
}

int dp_source_set(dp_source *source, int fd, uint32_t events)
{
    if (fd == source->fd && events == source->events)
        return DP_OK;
    struct epoll_event event = {.events = events, .data = {.ptr = source}};
    int op = events == 0 ? EPOLL_CTL_DEL : source->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    source->fd = fd;
    if (op == EPOLL_CTL_DEL && source->events == 0)
        return DP_OK;
    if (epoll_ctl(source->loop->epoll, op, fd, &event) != 0)
        return DP_ERR_IO;
    source->events = events;
    return DP_OK;
}

void dp_source_close_fd(dp_source *source)
{
    if (source->fd < 0)
        return;
    /* Explicitly, because a child process may hold a copy of the descriptor: close alone would leave it in
     * the set. */
    (void)dp_source_set(source, source->fd, 0);
    close(source->fd);
    source->fd = -1;
    source->events = 0;
}

void dp_source_free(dp_source *source)
{
    if (!source->loop->in_round) {
        dp_free(source);
        return;
    }
    source->closed = true;
    source->next_dead = source->loop->dead;
    source->loop->dead = source;
}

/* ---- the round ---- */

static int wait_events(dp_loop *loop, struct epoll_event events[EVENTS], dp_duration wait)
{
    if (!loop->no_pwait2) {
        struct timespec ts = {(time_t)(wait / 1000000u), (long)(wait % 1000000u) * 1000};
        int n = epoll_pwait2(loop->epoll, events, EVENTS, wait == DP_TIME_NEVER ? NULL : &ts, NULL);
        if (n >= 0 || (errno != ENOSYS && errno != EPERM))
            return n;
        loop->no_pwait2 = true;
    }
    /* Rounded up, or the last millisecond before a timer would be spent spinning. */
    dp_duration ms = wait == DP_TIME_NEVER ? 0 : wait / 1000u + (wait % 1000u != 0);
    int timeout = wait == DP_TIME_NEVER ? -1 : ms > INT32_MAX ? INT32_MAX : (int)ms;
    return epoll_wait(loop->epoll, events, EVENTS, timeout);
}

static dp_duration wait_time(const dp_loop *loop, dp_duration max_wait)
{
    dp_time next = dp_loop_next_timeout(loop);
    if (max_wait == 0 || next == DP_TIME_NEVER)
        return max_wait;
    dp_time now = dp_clock_now();
    dp_duration wait = next > now ? next - now : 0;
    return wait < max_wait ? wait : max_wait;
}

static void dispatch(const struct epoll_event *event)
{
    dp_source *source = event->data.ptr;
    /* An earlier callback of this round may have freed the object or lost interest. */
    uint32_t events = event->events & (source->events | EPOLLERR | EPOLLHUP);
    if (!source->closed && source->events != 0 && events != 0)
        source->fn(source, events);
}

int dp_loop_step(dp_loop *loop, dp_duration max_wait)
{
    if (loop->in_round)
        return DP_ERR_INVALID_STATE;
    dp_udp_flush(loop);
    struct epoll_event events[EVENTS];
    int n = wait_events(loop, events, wait_time(loop, max_wait));
    if (n < 0 && errno != EINTR)
        return DP_ERR_IO;
    loop->in_round = true;
    loop->now = dp_clock_now();
    /* Before the timers: an acknowledgement that has arrived already makes a retransmission unnecessary. */
    for (int i = 0; i < n; i++)
        dispatch(&events[i]);
    fire_timers(loop);
    run_deferred(loop);
    dp_udp_io_run(loop);
    loop->in_round = false;
    bury(loop);
    return DP_OK;
}

int dp_loop_run(dp_loop *loop)
{
    int error = DP_OK;
    while (!loop->stopped && error == DP_OK)
        error = dp_loop_step(loop, DP_TIME_NEVER);
    loop->stopped = false;
    return error;
}

/* ---- watches of foreign descriptors ---- */

struct dp_watch {
    dp_source source;
    void (*fn)(void *user, int ready);
    void *user;
    int interest;
};

static void on_watch(dp_source *source, uint32_t events)
{
    dp_watch *watch = (dp_watch *)source;
    int ready = ((events & EPOLLIN) != 0 ? DP_READABLE : 0) | ((events & EPOLLOUT) != 0 ? DP_WRITABLE : 0);
    /* The owner finds the error or the end by reading or writing. */
    if ((events & (EPOLLERR | EPOLLHUP)) != 0)
        ready |= watch->interest;
    watch->fn(watch->user, ready);
}

int dp_watch_new(dp_watch **out, dp_loop *loop, int fd, int interest, void (*fn)(void *user, int ready),
                 void *user)
{
    dp_watch *watch = dp_calloc(1, sizeof(*watch));
    if (watch == NULL)
        return DP_ERR_NO_MEMORY;
    dp_source_init(&watch->source, loop, on_watch);
    watch->source.fd = fd;
    watch->fn = fn;
    watch->user = user;
    int error = dp_watch_set(watch, interest);
    if (error != DP_OK) {
        dp_free(watch);
        return error;
    }
    *out = watch;
    return DP_OK;
}

int dp_watch_set(dp_watch *watch, int interest)
{
    uint32_t events = ((interest & DP_READABLE) != 0 ? (uint32_t)EPOLLIN : 0) |
                      ((interest & DP_WRITABLE) != 0 ? (uint32_t)EPOLLOUT : 0);
    watch->interest = interest;
    return dp_source_set(&watch->source, watch->source.fd, events);
}

void dp_watch_free(dp_watch *watch)
{
    if (watch == NULL)
        return;
    (void)dp_source_set(&watch->source, watch->source.fd, 0);
    dp_source_free(&watch->source);
}
