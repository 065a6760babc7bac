/* The STUN server on real sockets: it answers from where it was asked, and counts what it can't answer. */
#include "apps/stun_host.h"

#include "tests/unit/net/helper.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool send_buffer_full;

/* Takes the C library's place in this program. */
int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    if (send_buffer_full) {
        errno = EAGAIN;
        return -1;
    }
    return (int)syscall(SYS_sendmmsg, fd, messages, count, flags);
}

static const uint8_t request[] = {0x00, 0x01, 0x00, 0x00, 0x21, 0x12, 0xa4, 0x42, 1,  2,
                                  3,    4,    5,    6,    7,    8,    9,    10,   11, 12};

static stun_host *host;
static dp_csprng *csprng;
static dp_address local;
static int client; /* a socket of its own */

static int open_host(void **state)
{
    send_buffer_full = false;
    assert_int_equal(setup(state), 0);
    assert_int_equal(dp_csprng_new(&csprng), DP_OK);
    assert_int_equal(stun_host_new(&host, loop, dp_csprng_source(csprng)), DP_OK);
    assert_int_equal(dp_address_parse(&local, "0.0.0.0", 0), DP_OK);
    assert_int_equal(stun_host_listen(host, &local), DP_OK);
    assert_int_not_equal(local.port, 0);
    client = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    return bind(client, (struct sockaddr *)&here, sizeof(here));
}

static int close_host(void **state)
{
    stun_host_free(host);
    dp_csprng_free(csprng);
    close(client);
    return teardown(state);
}

static void ask(uint32_t ip, const void *data, size_t len)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(local.port), .sin_addr = {htonl(ip)}};
    assert_int_equal(sendto(client, data, len, 0, (struct sockaddr *)&to, sizeof(to)), len);
}

/* The length of the next answer, 0 if there is none yet, and where it came from. */
static size_t answer(uint8_t out[64], struct sockaddr_in *from)
{
    socklen_t len = sizeof(*from);
    ssize_t n = recvfrom(client, out, 64, 0, (struct sockaddr *)from, &len);
    return n > 0 ? (size_t)n : 0;
}

/* Of answered, refused, limited, dropped. */
static uint64_t counter(size_t n)
{
    dp_signal_metric metrics[4];
    assert_int_equal(stun_host_metrics(host, metrics, 4), 4);
    return metrics[n].value;
}

static uint64_t handled(void) { return counter(0) + counter(1) + counter(2) + counter(3); }

static void assert_counters(uint64_t answered, uint64_t refused, uint64_t limited, uint64_t dropped)
{
    static const char *const names[] = {"stun_answered_total", "stun_refused_total", "stun_limited_total",
                                        "stun_dropped_total"};
    const uint64_t expected[] = {answered, refused, limited, dropped};
    dp_signal_metric metrics[8];
    assert_int_equal(stun_host_metrics(host, metrics, 8), 4);
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(metrics[i].name, names[i]);
        assert_string_equal(metrics[i].type, "counter");
        assert_int_equal(metrics[i].value, expected[i]);
    }
}

static void test_answers_from_where_it_was_asked(void **state)
{
    (void)state;
    struct sockaddr_in own, from = {0};
    socklen_t len = sizeof(own);
    uint8_t out[64];
    assert_int_equal(getsockname(client, (struct sockaddr *)&own, &len), 0);
    for (uint32_t n = 1; n <= 3; n++) {
        size_t got = 0;
        ask(0x7F000000 + n, request, sizeof(request));
        RUN_UNTIL((got = answer(out, &from)) > 0);
        assert_int_equal(got, 32);
        assert_int_equal(ntohl(from.sin_addr.s_addr), 0x7F000000 + n);
        assert_int_equal(ntohs(from.sin_port), local.port);
        assert_memory_equal(out + 4, request + 4, 16);
        assert_int_equal((out[26] << 8 | out[27]) ^ 0x2112, ntohs(own.sin_port));
        assert_int_equal(out[31] ^ 0x42, 1); /* 127.0.0.1 */
    }
    assert_counters(3, 0, 0, 0);
}

static void test_counts_what_it_does_not_answer(void **state)
{
    (void)state;
    struct sockaddr_in from;
    uint8_t out[64], unknown[24] = {0};
    memcpy(unknown, request, sizeof(request));
    unknown[3] = 4;
    unknown[20] = 0x70; /* an attribute without a value */
    ask(INADDR_LOOPBACK, "garbage", 7);
    ask(INADDR_LOOPBACK, unknown, sizeof(unknown));
    RUN_UNTIL(answer(out, &from) > 0);
    assert_int_equal(out[0] << 8 | out[1], 0x0111);
    for (int i = 0; i < 2000; i++) {
        ask(INADDR_LOOPBACK, request, sizeof(request));
        assert_int_equal(dp_loop_step(loop, 0), DP_OK);
    }
    RUN_UNTIL(handled() == 2002);
    assert_true(counter(0) >= 199 && counter(2) > 0); /* burst 200, of which one is gone */
    assert_counters(counter(0), 1, counter(2), 1);
}

static void test_no_room_for_answers(void **state)
{
    (void)state;
    struct sockaddr_in from;
    uint8_t out[64];
    send_buffer_full = true;
    for (int i = 0; i < 190; i++)
        ask(INADDR_LOOPBACK, request, sizeof(request));
    RUN_UNTIL(handled() == 190);
    assert_counters(128, 0, 0, 62); /* what the loop's batch holds */
    send_buffer_full = false;
    int answers = 0;
    RUN_UNTIL((answers += answer(out, &from) > 0) == 128);
}

static void test_addresses_to_listen_on(void **state)
{
    (void)state;
    dp_address taken = local, one;
    assert_int_equal(stun_host_listen(host, &taken), DP_ERR_IO);
    for (int i = 1; i <= 8; i++) {
        assert_int_equal(dp_address_parse(&one, "127.0.0.1", 0), DP_OK);
        assert_int_equal(stun_host_listen(host, &one), i < 8 ? DP_OK : DP_ERR_LIMIT);
    }
    stun_host_free(host);
    assert_int_equal(stun_host_new(&host, loop, dp_csprng_source(csprng)), DP_OK);
    assert_int_equal(stun_host_listen(host, &taken), DP_OK); /* free again */
    stun_host_free(NULL);
    dp_signal_metric metrics[3];
    assert_int_equal(stun_host_metrics(host, metrics, 3), 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_host, close_host)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_answers_from_where_it_was_asked),
        TEST(test_counts_what_it_does_not_answer),
        TEST(test_no_room_for_answers),
        TEST(test_addresses_to_listen_on),
    };
    return cmocka_run_group_tests_name("apps/stun_host", tests, NULL, NULL);
}
