/* Streams on a TCP port that have not said yet whose they are: slow ones, many, and what is no STUN. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "peer/accept.h"
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static dp_duration skew;
dp_time dp_clock_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (dp_time)ts.tv_sec * 1000000u + (dp_time)ts.tv_nsec / 1000u + skew;
}
int64_t dp_clock_unix(void) { return (int64_t)time(NULL); }

enum { MANY = 300 };

typedef struct caller {
    dp_tcp *tcp;
    bool connected;
    bool closed;
} caller;

static dp_loop *loop;
static acceptor *port;
static caller callers[MANY];
static bool wanted;
static unsigned taken;
static char taken_ufrag[16];
static size_t taken_len;
static dp_tcp *given;

/* RFC 4571 framing, a Binding request, USERNAME "ours:theirs". */
static const uint8_t check[] = {0,   36,  0,   1,   0,   16,  0x21, 0x12, 0xa4, 0x42, 1,   2, 3,
                                4,   5,   6,   7,   8,   9,   10,   11,   12,   0,    6,   0, 11,
                                'o', 'u', 'r', 's', ':', 't', 'h',  'e',  'i',  'r',  's', 0};

#define WAIT(condition)                                                                                      \
    do {                                                                                                     \
        dp_time wait_deadline = dp_clock_now() + DP_SECONDS(30);                                             \
        while (!(condition)) {                                                                               \
            assert_true(dp_clock_now() < wait_deadline);                                                     \
            assert_int_equal(dp_loop_step(loop, DP_SECONDS(1)), DP_OK);                                      \
        }                                                                                                    \
    } while (0)

static void settle(void)
{
    for (int i = 0; i < 20; i++)
        assert_int_equal(dp_loop_step(loop, 0), DP_OK);
}

static bool on_stream(void *user, const accepted_stream *stream)
{
    (void)user;
    taken++;
    snprintf(taken_ufrag, sizeof(taken_ufrag), "%s", stream->ufrag);
    taken_len = stream->len + stream->rest_len;
    if (wanted)
        given = stream->tcp;
    return wanted;
}

static void on_connected(void *user, dp_tcp *tcp)
{
    (void)tcp;
    ((caller *)user)->connected = true;
}

static void on_data(void *user, dp_tcp *tcp, const uint8_t *data, size_t len)
{
    (void)user;
    (void)tcp;
    (void)data;
    (void)len;
}

static void on_closed(void *user, dp_tcp *tcp, int error, const char *reason)
{
    caller *c = user;
    (void)error;
    (void)reason;
    dp_tcp_close(tcp);
    c->tcp = NULL;
    c->closed = true;
}

static int set_up(void **state)
{
    (void)state;
    dp_address local;
    skew = 0;
    memset(callers, 0, sizeof(callers));
    wanted = true;
    taken = 0;
    given = NULL;
    assert_int_equal(dp_loop_new(&loop), DP_OK);
    for (uint16_t number = 20000; port == NULL; number++) {
        assert_true(number < 21000);
        assert_int_equal(dp_address_parse(&local, "127.0.0.1", number), DP_OK);
        if (dp_acceptor_new(&port, loop, &local, on_stream, &callers) != DP_OK)
            port = NULL;
        else
            *state = (void *)(uintptr_t)number;
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < MANY; i++)
        if (callers[i].tcp != NULL)
            dp_tcp_close(callers[i].tcp);
    if (given != NULL)
        dp_tcp_close(given);
    dp_acceptor_free(port);
    port = NULL;
    dp_loop_free(loop);
    return 0;
}

static void call(void **state, size_t i, const char *from)
{
    dp_address local;
    dp_tcp_handler handler = {on_connected, on_data, NULL, on_closed, &callers[i]};
    assert_int_equal(dp_address_parse(&local, from, 0), DP_OK);
    assert_int_equal(dp_tcp_connect_from(&callers[i].tcp, loop, &local, "127.0.0.1",
                                         (uint16_t)(uintptr_t)*state, DP_SECONDS(20), &handler),
                     DP_OK);
    WAIT(callers[i].connected || callers[i].closed);
    settle();
}

static void say(size_t i, const uint8_t *data, size_t len)
{
    assert_int_equal(dp_tcp_send(callers[i].tcp, data, len), DP_OK);
    settle();
}

static size_t open_count(size_t first, size_t count)
{
    size_t open = 0;
    for (size_t i = first; i < first + count; i++)
        open += callers[i].tcp != NULL;
    return open;
}

static void the_first_frame_tells_whose_it_is(void **state)
{
    call(state, 0, "127.0.0.1");
    for (size_t i = 0; i < sizeof(check); i++) { /* byte by byte */
        assert_int_equal(taken, 0);
        say(0, check + i, 1);
    }
    WAIT(taken == 1);
    assert_string_equal(taken_ufrag, "ours");
    assert_int_equal(taken_len, sizeof(check));
    assert_int_equal(open_count(0, 1), 1);
    uint8_t more[4000] = {0};
    memcpy(more, check, sizeof(check));
    dp_tcp_close(given);
    given = NULL;
    call(state, 1, "127.0.0.1");
    say(1, more, sizeof(more));
    WAIT(taken == 2);
    assert_int_equal(taken_len, sizeof(more)); /* nothing behind the frame is lost */
}

static void what_nobody_wants_is_closed(void **state)
{
    static const uint8_t http[] = "GET / HTTP/1.1\r\n\r\n", empty[2] = {0}, huge[2] = {0xff, 0xff};
    wanted = false;
    const struct {
        const uint8_t *data;
        size_t len;
    } cases[] = {{check, sizeof(check)}, {http, sizeof(http)}, {empty, 2}, {huge, 2}};
    for (size_t i = 0; i < 4; i++) {
        call(state, i, "127.0.0.1");
        say(i, cases[i].data, cases[i].len);
        WAIT(callers[i].closed);
    }
    assert_int_equal(taken, 1);
}

static void slow_ones_have_five_seconds(void **state)
{
    call(state, 0, "127.0.0.1");
    for (int second = 1; second <= 4; second++) {
        skew += DP_SECONDS(1);
        say(0, check + second - 1, 1);
        assert_false(callers[0].closed);
    }
    skew += DP_SECONDS(1) + DP_MS(500);
    WAIT(callers[0].closed);
}

/* A flood from one address takes the places of its own streams. */
static void a_flood_keeps_no_other_address_out(void **state)
{
    for (size_t i = 0; i < 20; i++)
        call(state, i, "127.0.0.2");
    settle();
    assert_int_equal(open_count(0, 20), 16);
    call(state, 20, "127.0.0.3");
    for (size_t i = 21; i < MANY; i++)
        call(state, i, "127.0.0.2");
    settle();
    assert_int_equal(open_count(0, MANY), 16);
    assert_false(callers[20].closed);
    say(20, check, sizeof(check));
    WAIT(taken == 1);
}

/* Out of descriptors nothing spins or breaks, and it goes on when there are some again. */
static void goes_on_after_a_lack_of_descriptors(void **state)
{
    struct rlimit before, few;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    call(state, 0, "127.0.0.2");
    few = before;
    int next = dup(0);
    close(next);
    few.rlim_cur = (rlim_t)next + 1; /* the caller's own, and none for us */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    call(state, 1, "127.0.0.3");
    say(1, check, sizeof(check));
    assert_int_equal(taken, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    WAIT(taken == 1);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_frame_tells_whose_it_is),   TEST(what_nobody_wants_is_closed),
        TEST(slow_ones_have_five_seconds),         TEST(a_flood_keeps_no_other_address_out),
        TEST(goes_on_after_a_lack_of_descriptors),
    };
    return cmocka_run_group_tests_name("accept", tests, NULL, NULL);
}
