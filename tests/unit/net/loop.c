/* The loop: timers, deferred work, watches, signals, and driving it from outside. */
#include "tests/unit/net/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static bool no_pwait2;
static size_t plain_waits;

/* These take the C library's place: a kernel without epoll_pwait2. */
int epoll_pwait2(int fd, struct epoll_event *events, int max, const struct timespec *timeout,
                 const sigset_t *mask)
{
    if (no_pwait2) {
        errno = ENOSYS;
        return -1;
    }
    return (int)syscall(SYS_epoll_pwait2, fd, events, max, timeout, mask, sizeof(uint64_t));
}
int epoll_wait(int fd, struct epoll_event *events, int max, int timeout)
{
    plain_waits++;
    return (int)syscall(SYS_epoll_pwait, fd, events, max, timeout, NULL, sizeof(uint64_t));
}

/* ---- timers ---- */

enum { TIMERS = 500 };
static dp_timer timers[TIMERS];
static dp_time fired[TIMERS];
static size_t fired_count;

static void note_time(void *user)
{
    dp_timer *timer = user;
    assert_true(timer->at <= dp_loop_now(loop));
    fired[fired_count++] = timer->at;
}

static uint32_t seed;
static uint32_t next_random(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

static void test_timers_fire_in_order(void **state)
{
    (void)state;
    seed = 1;
    fired_count = 0;
    memset(timers, 0, sizeof(timers));
    dp_time base = dp_clock_now();
    for (size_t i = 0; i < TIMERS; i++) {
        timers[i].fn = note_time;
        timers[i].user = &timers[i];
        assert_int_equal(dp_timer_set(loop, &timers[i], base + next_random() % 20000), DP_OK);
    }
    size_t expected = TIMERS;
    for (size_t i = 0; i < TIMERS; i++) {
        if (i % 3 == 0) { /* moved, earlier or later */
            assert_int_equal(dp_timer_set(loop, &timers[i], base + next_random() % 20000), DP_OK);
        } else if (i % 3 == 1) {
            if (i % 2 == 0)
                dp_timer_stop(&timers[i]);
            else
                assert_int_equal(dp_timer_set(loop, &timers[i], DP_TIME_NEVER), DP_OK);
            dp_timer_stop(&timers[i]); /* stopping twice is nothing */
            expected--;
        }
    }
    RUN_UNTIL(fired_count == expected);
    for (size_t i = 1; i < expected; i++)
        assert_true(fired[i - 1] <= fired[i]);
    assert_int_equal(dp_loop_next_timeout(loop), DP_TIME_NEVER);
}

static void test_timers_without_pwait2(void **state)
{
    no_pwait2 = true;
    plain_waits = 0;
    test_timers_fire_in_order(state);
    assert_true(plain_waits > 0);
    assert_true(plain_waits < 1000); /* rounded up to whole milliseconds: no spinning before a timer */
    no_pwait2 = false;
}

static int rearmed;
static bool other_fired;

static void rearm(void *user)
{
    rearmed++;
    assert_int_equal(dp_timer_set(loop, user, 0), DP_OK);
}
static void note_other(void *user)
{
    (void)user;
    other_fired = true;
}

/* A timer that always wants to fire at once must not keep the round from ending, nor the others from firing.
 */
static void test_timer_rearmed_in_its_callback(void **state)
{
    (void)state;
    dp_timer greedy = {.fn = rearm, .user = &greedy};
    dp_timer other = {.fn = note_other};
    rearmed = 0;
    other_fired = false;
    assert_int_equal(dp_timer_set(loop, &greedy, 0), DP_OK);
    assert_int_equal(dp_timer_set(loop, &other, 1), DP_OK);
    assert_int_equal(dp_loop_step(loop, DP_TIME_NEVER), DP_OK);
    assert_int_equal(rearmed, 1);
    assert_true(other_fired);
    RUN_UNTIL(rearmed == 3);
    dp_timer_stop(&greedy);
}

static void stop_both(void *user)
{
    (void)user;
    fired_count++;
    dp_timer_stop(&timers[0]);
    dp_timer_stop(&timers[1]);
}

static void test_timer_stops_another(void **state)
{
    (void)state;
    memset(timers, 0, sizeof(timers));
    fired_count = 0;
    for (int i = 0; i < 2; i++) {
        timers[i].fn = stop_both;
        assert_int_equal(dp_timer_set(loop, &timers[i], 1), DP_OK);
    }
    assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    assert_int_equal(fired_count, 1);
    assert_int_equal(dp_loop_next_timeout(loop), DP_TIME_NEVER);
}

static void test_timer_without_memory(void **state)
{
    (void)state;
    dp_timer timer = {.fn = note_other};
    fail_allocation(1);
    assert_int_equal(dp_timer_set(loop, &timer, 1), DP_ERR_NO_MEMORY);
    fail_allocation(0);
    dp_timer_stop(&timer);
    assert_int_equal(dp_loop_next_timeout(loop), DP_TIME_NEVER);
}

/* ---- deferred work ---- */

static dp_deferred deferred[3];
static char order[16];

static void note_deferred(void *user)
{
    size_t n = strlen(order);
    order[n] = *(const char *)user;
    order[n + 1] = '\0';
}
static void defer_itself(void *user)
{
    note_deferred(user);
    dp_defer(loop, &deferred[0]);
}

static void test_deferred(void **state)
{
    (void)state;
    memset(deferred, 0, sizeof(deferred));
    for (int i = 0; i < 3; i++)
        deferred[i].fn = note_deferred;
    deferred[0].user = "a";
    deferred[1].user = "b";
    deferred[2].user = "c";
    order[0] = '\0';
    for (int i = 0; i < 3; i++) {
        dp_defer(loop, &deferred[i]);
        dp_defer(loop, &deferred[i]); /* once all the same */
    }
    assert_int_equal(dp_loop_next_timeout(loop), 0);
    dp_undefer(&deferred[1]);
    dp_undefer(&deferred[1]);
    assert_int_equal(dp_loop_step(loop, DP_TIME_NEVER), DP_OK);
    assert_string_equal(order, "ac");

    /* The last one taken out: the list's end must follow. */
    order[0] = '\0';
    dp_defer(loop, &deferred[0]);
    dp_defer(loop, &deferred[1]);
    dp_undefer(&deferred[1]);
    dp_defer(loop, &deferred[2]);
    assert_int_equal(dp_loop_step(loop, DP_TIME_NEVER), DP_OK);
    assert_string_equal(order, "ac");

    order[0] = '\0';
    deferred[0].fn = defer_itself;
    dp_defer(loop, &deferred[0]);
    assert_int_equal(dp_loop_step(loop, DP_TIME_NEVER), DP_OK);
    assert_string_equal(order, "a"); /* the round ends */
    assert_int_equal(dp_loop_step(loop, DP_TIME_NEVER), DP_OK);
    assert_string_equal(order, "aa");
    dp_undefer(&deferred[0]);
}

static void nested_step(void *user) { *(int *)user = dp_loop_step(loop, 0); }

static void test_step_inside_callback_is_refused(void **state)
{
    (void)state;
    int result = DP_OK;
    dp_deferred step = {.fn = nested_step, .user = &result};
    dp_defer(loop, &step);
    assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    assert_int_equal(result, DP_ERR_INVALID_STATE);
}

static void stop_loop(void *user)
{
    (void)user;
    dp_loop_stop(loop);
}

static void test_run_and_stop(void **state)
{
    (void)state;
    dp_timer timer = {.fn = stop_loop};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(dp_timer_set(loop, &timer, dp_clock_now() + DP_MS(2)), DP_OK);
        assert_int_equal(dp_loop_run(loop), DP_OK);
        assert_int_equal(dp_loop_next_timeout(loop), DP_TIME_NEVER);
    }
}

/* ---- watches ---- */

static dp_watch *watches[2];
static int pipes[2][2];
static int watch_calls;
static int watch_ready;

static void on_ready(void *user, int ready)
{
    (void)user;
    watch_calls++;
    watch_ready = ready;
}

static void free_both(void *user, int ready)
{
    (void)user;
    (void)ready;
    watch_calls++;
    dp_watch_free(watches[0]);
    dp_watch_free(watches[1]);
}

static void open_pipes(void)
{
    for (int i = 0; i < 2; i++)
        assert_int_equal(pipe2(pipes[i], O_CLOEXEC | O_NONBLOCK), 0);
    watch_calls = 0;
}
static void close_pipes(void)
{
    for (int i = 0; i < 2; i++) {
        close(pipes[i][0]);
        close(pipes[i][1]);
    }
}

static void test_watch(void **state)
{
    (void)state;
    open_pipes();
    assert_int_equal(dp_watch_new(&watches[0], loop, pipes[0][0], DP_READABLE, on_ready, NULL), DP_OK);
    assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    assert_int_equal(watch_calls, 0);
    assert_int_equal(write(pipes[0][1], "x", 1), 1);
    RUN_UNTIL(watch_calls == 1);
    assert_int_equal(watch_ready, DP_READABLE);
    assert_int_equal(dp_watch_set(watches[0], 0), DP_OK); /* no interest: no call, though a byte is there */
    assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    assert_int_equal(watch_calls, 1);
    assert_int_equal(dp_watch_set(watches[0], DP_READABLE), DP_OK);
    RUN_UNTIL(watch_calls == 2);
    assert_int_equal(dp_watch_new(&watches[1], loop, pipes[1][1], DP_WRITABLE, on_ready, NULL), DP_OK);
    dp_watch_free(watches[0]);
    RUN_UNTIL(watch_calls == 3);
    assert_int_equal(watch_ready, DP_WRITABLE);
    close(pipes[1][0]); /* broken pipe: EPOLLERR */
    RUN_UNTIL(watch_calls == 4);
    assert_int_equal(watch_ready, DP_WRITABLE);
    dp_watch_free(watches[1]);
    dp_watch_free(NULL);
    pipes[1][0] = dup(pipes[0][0]);
    close_pipes();
}

/* Both are ready in the same round; the first callback frees both, so there must be no second one. */
static void test_watch_freed_by_another(void **state)
{
    (void)state;
    open_pipes();
    for (int i = 0; i < 2; i++) {
        assert_int_equal(dp_watch_new(&watches[i], loop, pipes[i][0], DP_READABLE, free_both, NULL), DP_OK);
        assert_int_equal(write(pipes[i][1], "x", 1), 1);
    }
    RUN_UNTIL(watch_calls > 0);
    assert_int_equal(watch_calls, 1);
    assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    assert_int_equal(watch_calls, 1);
    close_pipes();
}

static void lose_interest(void *user, int ready)
{
    (void)user;
    (void)ready;
    watch_calls++;
    assert_int_equal(dp_watch_set(watches[0], 0), DP_OK);
    assert_int_equal(dp_watch_set(watches[1], 0), DP_OK);
}

static void test_watch_loses_interest_in_the_same_round(void **state)
{
    (void)state;
    open_pipes();
    for (int i = 0; i < 2; i++) {
        assert_int_equal(dp_watch_new(&watches[i], loop, pipes[i][0], DP_READABLE, lose_interest, NULL),
                         DP_OK);
        assert_int_equal(write(pipes[i][1], "x", 1), 1);
    }
    RUN_UNTIL(watch_calls > 0);
    assert_int_equal(watch_calls, 1);
    for (int i = 0; i < 2; i++)
        dp_watch_free(watches[i]);
    close_pipes();
}

static void test_watch_of_bad_descriptor(void **state)
{
    (void)state;
    assert_int_equal(dp_watch_new(&watches[0], loop, 1 << 20, DP_READABLE, on_ready, NULL), DP_ERR_IO);
    fail_allocation(1);
    assert_int_equal(dp_watch_new(&watches[0], loop, 0, DP_READABLE, on_ready, NULL), DP_ERR_NO_MEMORY);
    dp_loop *none;
    assert_int_equal(dp_loop_new(&none), DP_ERR_NO_MEMORY);
    fail_allocation(0);
    dp_loop_free(NULL);
}

/* ---- a foreign loop ---- */

static void test_foreign_loop(void **state)
{
    (void)state;
    open_pipes();
    struct pollfd fd = {.fd = dp_loop_fd(loop), .events = POLLIN};
    assert_int_equal(dp_watch_new(&watches[0], loop, pipes[0][0], DP_READABLE, on_ready, NULL), DP_OK);
    assert_int_equal(poll(&fd, 1, 0), 0);
    assert_int_equal(write(pipes[0][1], "x", 1), 1);
    assert_int_equal(poll(&fd, 1, 20000), 1);
    assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    assert_int_equal(watch_calls, 1);
    dp_watch_free(watches[0]);
    assert_int_equal(poll(&fd, 1, 0), 0);

    dp_timer timer = {.fn = note_other};
    other_fired = false;
    assert_int_equal(dp_timer_set(loop, &timer, dp_clock_now() + DP_MS(5)), DP_OK);
    dp_time end = dp_clock_now() + DEADLINE;
    while (!other_fired && dp_clock_now() < end) {
        dp_time now = dp_clock_now();
        dp_time next = dp_loop_next_timeout(loop);
        assert_int_not_equal(next, DP_TIME_NEVER);
        poll(&fd, 1, next > now ? (int)((next - now) / 1000 + 1) : 0);
        assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    }
    assert_true(other_fired);
    close_pipes();
}

/* ---- signals ---- */

static int signal_seen;
static dp_signals *signals;

static void on_signal(void *user, int signal)
{
    (void)user;
    signal_seen = signal;
}
static void on_signal_free(void *user, int signal)
{
    (void)user;
    signal_seen = signal;
    dp_signals_free(signals);
}

static void test_signals(void **state)
{
    (void)state;
    sigset_t before, after;
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    int list[] = {SIGUSR1, SIGTERM};
    assert_int_equal(dp_signals_new(&signals, loop, list, 2, on_signal, NULL), DP_OK);
    signal_seen = 0;
    kill(getpid(), SIGUSR1);
    RUN_UNTIL(signal_seen == SIGUSR1);
    kill(getpid(), SIGTERM);
    RUN_UNTIL(signal_seen == SIGTERM);
    dp_signals_free(signals);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    assert_int_equal(sigismember(&before, SIGTERM), sigismember(&after, SIGTERM));

    assert_int_equal(dp_signals_new(&signals, loop, list, 2, on_signal_free, NULL), DP_OK);
    signal_seen = 0;
    kill(getpid(), SIGUSR1);
    RUN_UNTIL(signal_seen == SIGUSR1);
    dp_signals_free(NULL);

    int bad = 4711;
    assert_int_equal(dp_signals_new(&signals, loop, &bad, 1, on_signal, NULL), DP_ERR_INVALID_ARGUMENT);
    fail_allocation(1);
    assert_int_equal(dp_signals_new(&signals, loop, list, 2, on_signal, NULL), DP_ERR_NO_MEMORY);
    fail_allocation(0);
}

static void test_clocks(void **state)
{
    (void)state;
    dp_time a = dp_clock_now();
    assert_true(dp_clock_now() >= a);
    assert_true(dp_clock_unix() > 1700000000);
    assert_true(dp_loop_now(loop) <= dp_clock_now());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_timers_fire_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timers_without_pwait2, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer_rearmed_in_its_callback, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer_stops_another, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer_without_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deferred, setup, teardown),
        cmocka_unit_test_setup_teardown(test_step_inside_callback_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_run_and_stop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watch_freed_by_another, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watch_loses_interest_in_the_same_round, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watch_of_bad_descriptor, setup, teardown),
        cmocka_unit_test_setup_teardown(test_foreign_loop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_signals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_clocks, setup, teardown),
    };
    return cmocka_run_group_tests_name("net/loop", tests, NULL, NULL);
}
