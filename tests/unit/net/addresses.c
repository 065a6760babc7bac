/* Interfaces and name resolution. */
#include "tests/unit/net/helper.h"

#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool is_loopback(const dp_address *a)
{
    static const uint8_t one[16] = {[15] = 1};
    return a->family == DP_FAMILY_IPV4 ? a->ip[0] == 127 : memcmp(a->ip, one, 16) == 0;
}

static void test_interfaces(void **state)
{
    (void)state;
    dp_address all[64], plain[64];
    size_t n_all, n_plain;
    assert_int_equal(dp_interfaces(all, 64, &n_all, true), DP_OK);
    assert_int_equal(dp_interfaces(plain, 64, &n_plain, false), DP_OK);
    assert_true(n_plain >= 1);
    assert_true(n_all >= n_plain);
    size_t loopbacks = 0;
    bool has_127 = false;
    for (size_t i = 0; i < n_all; i++) {
        loopbacks += is_loopback(&all[i]);
        has_127 |= all[i].family == DP_FAMILY_IPV4 && is_loopback(&all[i]);
        assert_int_equal(all[i].port, 0);
        assert_true(all[i].family == DP_FAMILY_IPV4 || all[i].family == DP_FAMILY_IPV6);
        bool link_local = all[i].family == DP_FAMILY_IPV6 && all[i].ip[0] == 0xFE && (all[i].ip[1] & 0xC0) == 0x80;
        assert_int_equal(all[i].scope != 0, link_local);
    }
    assert_true(has_127);
    if (loopbacks < n_all) /* there is something better */
        for (size_t i = 0; i < n_plain; i++)
            assert_false(is_loopback(&plain[i]));
}

/* What is listed can be bound. */
static void test_interfaces_can_be_bound(void **state)
{
    (void)state;
    dp_address all[64];
    size_t n;
    dp_udp_handler handler = {0};
    assert_int_equal(dp_interfaces(all, 64, &n, true), DP_OK);
    for (size_t i = 0; i < n; i++) {
        dp_udp *udp;
        assert_int_equal(dp_udp_open(&udp, loop, &all[i], &handler), DP_OK);
        dp_udp_close(udp);
    }
}

static void test_interfaces_capacity(void **state)
{
    (void)state;
    dp_address one[2];
    size_t n;
    memset(one, 0xEE, sizeof(one));
    assert_int_equal(dp_interfaces(one, 1, &n, true), DP_OK);
    assert_int_equal(n, 1);
    assert_int_equal(one[1].family, 0xEE);
    assert_int_equal(dp_interfaces(one, 0, &n, true), DP_OK);
    assert_int_equal(n, 0);
}

static void check(const char *host, const char *expected)
{
    dp_address out[4];
    size_t n;
    char text[DP_ADDRESS_TEXT_MAX];
    assert_int_equal(dp_resolve(host, 80, out, 4, &n), DP_OK);
    assert_string_equal(dp_address_format(&out[0], text), expected);
}

static void test_numeric(void **state)
{
    (void)state;
    check("192.0.2.1", "192.0.2.1:80");
    check("2001:db8::1", "[2001:db8::1]:80");
    check("[2001:db8::1]", "[2001:db8::1]:80");
    dp_address out[1];
    size_t n;
    assert_int_equal(dp_resolve("fe80::1%7", 80, out, 1, &n), DP_OK);
    assert_int_equal(out[0].scope, 7);
    assert_int_equal(dp_resolve("[fe80::1%lo]", 80, out, 1, &n), DP_OK);
    assert_int_equal(out[0].scope, if_nametoindex("lo"));
}

static void test_localhost(void **state)
{
    (void)state;
    dp_address out[2];
    size_t n;
    const char *names[] = {"localhost", "LocalHost", "localhost.", "a.localhost", "x.y.localhost."};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_int_equal(dp_resolve(names[i], 80, out, 2, &n), DP_OK);
        assert_int_equal(n, 2);
        assert_true(is_loopback(&out[0]) && is_loopback(&out[1]));
        assert_int_equal(out[1].port, 80);
    }
    assert_int_equal(dp_resolve("localhost", 80, out, 1, &n), DP_OK);
    assert_int_equal(n, 1);
}

static void test_bad_names(void **state)
{
    (void)state;
    const char *names[] = {"fe80::1%",  "fe80::1%0",    "fe80::1%nosuchif", "fe80::1%4294967296", "fe80::1%-1",
                           "1.2.3.4%1", "[192.0.2.1",   "a b",              "a:b",                "http://a",
                           "[]",        "2001:db8::1::"};
    dp_address out[4];
    size_t n;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_int_equal(dp_resolve(names[i], 80, out, 4, &n), DP_ERR_NOT_FOUND);
        assert_int_equal(n, 0);
    }
    char longest[400];
    memset(longest, 'a', sizeof(longest));
    longest[399] = '\0';
    assert_int_equal(dp_resolve(longest, 80, out, 4, &n), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_resolve("", 80, out, 4, &n), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_resolve("localhost", 80, out, 0, &n), DP_ERR_INVALID_ARGUMENT);
}

/* The system's resolver, through a name that is in every hosts file. */
static void test_system_resolver(void **state)
{
    (void)state;
    char name[256];
    dp_address out[4];
    size_t n;
    assert_int_equal(gethostname(name, sizeof(name)), 0);
    int error = dp_resolve(name, 443, out, 4, &n);
    assert_int_equal(error == DP_OK, n > 0);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(out[i].port, 443);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_interfaces),
        cmocka_unit_test_setup_teardown(test_interfaces_can_be_bound, setup, teardown),
        cmocka_unit_test(test_interfaces_capacity),
        cmocka_unit_test(test_numeric),
        cmocka_unit_test(test_localhost),
        cmocka_unit_test(test_bad_names),
        cmocka_unit_test(test_system_resolver),
    };
    return cmocka_run_group_tests_name("net/addresses", tests, NULL, NULL);
}
