/* mDNS on the real sockets of this machine: one process's names found by another's questions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "peer/names.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

/* The library's clock, which goes as fast as a test likes. */
static dp_duration skew;
dp_time dp_clock_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (dp_time)ts.tv_sec * 1000000u + (dp_time)ts.tv_nsec / 1000u + skew;
}
int64_t dp_clock_unix(void) { return (int64_t)time(NULL); }

static dp_loop *loop;
static dp_csprng *csprng;
static names *here, *there;
static dp_address local,
    secret; /* the loopback interface has multicast, too; its address is never published */

typedef struct asker {
    names_user user;
    unsigned answers;
    size_t count;
    char name[256];
    dp_address address;
} asker;

static void on_result(void *user, const char *name, const dp_address *addresses, size_t count)
{
    asker *a = user;
    a->answers++;
    a->count = count;
    snprintf(a->name, sizeof(a->name), "%s", name);
    if (count > 0)
        a->address = addresses[0];
}

static asker new_asker(void) { return (asker){.user = {.on_result = on_result}}; }

#define RUN_UNTIL(condition)                                                                                 \
    do {                                                                                                     \
        dp_time deadline_ = dp_clock_now() + DP_SECONDS(30);                                                 \
        while (!(condition) && dp_clock_now() < deadline_) {                                                 \
            skew += DP_MS(1);                                                                                \
            assert_int_equal(dp_loop_step(loop, 0), DP_OK);                                                  \
        }                                                                                                    \
        assert_true(condition);                                                                              \
    } while (0)

static int set_up(void **state)
{
    (void)state;
    assert_int_equal(dp_loop_new(&loop), DP_OK);
    assert_int_equal(dp_csprng_new(&csprng), DP_OK);
    assert_int_equal(dp_address_parse(&local, "127.0.0.1", 0), DP_OK);
    assert_int_equal(dp_address_parse(&secret, "10.1.2.3", 0), DP_OK);
    dp_log silent = {0};
    assert_int_equal(dp_names_new(&here, loop, dp_csprng_source(csprng), silent), DP_OK);
    assert_int_equal(dp_names_new(&there, loop, dp_csprng_source(csprng), silent), DP_OK);
    dp_names_update(here, &local, 1);
    dp_names_update(there, &local, 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    dp_names_free(here);
    dp_names_free(there);
    dp_csprng_free(csprng);
    dp_loop_free(loop);
    return 0;
}

static void a_published_name_is_found_until_it_is_withdrawn(void **state)
{
    (void)state;
    static const char name[] = "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed.local";
    asker publisher = new_asker(), a = new_asker(), b = new_asker();
    a.user.user = &a;
    b.user.user = &b;
    assert_int_equal(dp_names_publish(there, &publisher.user, name, &secret), DP_OK);
    assert_int_equal(dp_names_publish(there, &publisher.user, name, &secret), DP_OK); /* once more: nothing */
    assert_int_equal(dp_names_ask(here, &a.user, name), DP_OK);
    assert_int_equal(dp_names_ask(here, &b.user, "1B9D6BCD-bbfd-4b2d-9b5d-ab8dfbbd4bed.local"), DP_OK);
    assert_int_equal(a.answers, 0); /* never inside the call */
    RUN_UNTIL(a.answers == 1 && b.answers == 1);
    assert_string_equal(a.name, name);
    assert_int_equal(a.count, 1);
    assert_true(dp_address_equal(&a.address, &secret));
    dp_names_leave(there, &publisher.user);
    dp_time said_goodbye = dp_clock_now() + DP_SECONDS(3); /* RFC 6762 §10.1: it counts for a second more */
    RUN_UNTIL(dp_clock_now() >= said_goodbye);
    assert_int_equal(dp_names_ask(here, &a.user, name), DP_OK);
    RUN_UNTIL(a.answers == 2);
    assert_int_equal(a.count, 0);
}

static void who_has_left_hears_nothing(void **state)
{
    (void)state;
    static const char name[] = "3b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed.local";
    asker publisher = new_asker(), a = new_asker(), b = new_asker();
    a.user.user = &a;
    b.user.user = &b;
    assert_int_equal(dp_names_publish(there, &publisher.user, name, &secret), DP_OK);
    assert_int_equal(dp_names_ask(here, &a.user, name), DP_OK);
    assert_int_equal(dp_names_ask(here, &b.user, name), DP_OK);
    dp_names_leave(here, &a.user);
    RUN_UNTIL(b.answers == 1);
    assert_int_equal(a.answers, 0);
    assert_int_equal(dp_names_ask(here, &a.user, "example.org"), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_names_publish(there, &publisher.user, "x.local", &local), DP_ERR_INVALID_ARGUMENT);
}

static void works_on_addresses_that_come_later(void **state)
{
    (void)state;
    static const char name[] = "4b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed.local";
    asker publisher = new_asker(), a = new_asker();
    a.user.user = &a;
    dp_names_update(here, NULL, 0);
    assert_int_equal(dp_names_publish(there, &publisher.user, name, &secret), DP_OK);
    dp_names_update(here, &local, 1);
    assert_int_equal(dp_names_ask(here, &a.user, name), DP_OK);
    RUN_UNTIL(a.answers == 1);
    assert_int_equal(a.count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_published_name_is_found_until_it_is_withdrawn, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_has_left_hears_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(works_on_addresses_that_come_later, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("names", tests, NULL, NULL);
}
