/* Who is of the home's own network. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "apps/lan.h"

static dp_address parse(const char *text)
{
    dp_address address;
    assert_int_equal(dp_address_parse(&address, text, 0), DP_OK);
    return address;
}

static void knows_the_private_addresses(void **state)
{
    (void)state;
    /* The first and the last of each network, and what lies beside it. */
    static const struct {
        const char *first, *last, *before, *behind;
    } networks[] = {
        {"127.0.0.0", "127.255.255.255", "126.255.255.255", "128.0.0.0"},
        {"10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"},
        {"172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0"},
        {"192.168.0.0", "192.168.255.255", "192.167.255.255", "192.169.0.0"},
        {"169.254.0.0", "169.254.255.255", "169.253.255.255", "169.255.0.0"},
        {"::1", "::1", "::", "::2"},
        {"fc00::", "fdff:ffff::", "fbff:ffff::", "fe00::"},
        {"fe80::", "febf:ffff::", "fe7f:ffff::", "fec0::"},
    };
    for (size_t i = 0; i < sizeof(networks) / sizeof(networks[0]); i++) {
        const dp_address first = parse(networks[i].first), last = parse(networks[i].last);
        const dp_address before = parse(networks[i].before), behind = parse(networks[i].behind);
        assert_true(lan_is_private(&first) && lan_is_private(&last));
        assert_false(lan_is_private(&before) || lan_is_private(&behind));
    }
    assert_false(lan_is_private(&(dp_address){0}));
}

static void knows_public_neighbours(void **state)
{
    (void)state;
    const dp_address own[] = {parse("192.0.2.1"), parse("2001:db8:1:2::7")};
    const dp_address neighbour = parse("2001:db8:1:2:ffff::1"), stranger = parse("2001:db8:1:3::7");
    const dp_address home = parse("192.168.1.1");
    /* Its first bytes are those of ours, in an address of the other family. */
    const dp_address lookalike = parse("c000:201::1");
    assert_true(lan_has(&neighbour, own, 2));
    assert_false(lan_has(&neighbour, own, 1));
    assert_false(lan_has(&stranger, own, 2));
    assert_false(lan_has(&lookalike, own, 2));
    assert_true(lan_has(&home, NULL, 0));
    assert_true(lan_has(&own[0], own, 1));
    assert_false(lan_has(&own[0], own, 0));
}

static void knows_pages_by_their_origin(void **state)
{
    (void)state;
    static const char *const pages[] = {
        "http://192.168.1.5:9000",  "https://10.0.0.1",      "http://localhost:8080",
        "http://127.0.0.1",         "http://[::1]:9000",     "http://[fd00::1]",
        "http://nas:9000",          "http://NAS.Local:9000", "http://disk.localhost:9000",
        "http://nas.home.arpa",     "http://nas.lan",        "http://192.0.2.1:9000",
        "http://[2001:db8:1:2::9]", "http://disk.internal:1"};
    static const char *const foreign[] = {"null",
                                          "",
                                          "://",
                                          "http://",
                                          "file://",
                                          "http://evil.example:9000",
                                          "https://evil.example",
                                          "http://192.168.1.5.evil.example",
                                          "http://evil.example/192.168.1.5",
                                          "http://evil.localx",
                                          "http://local.evil.example",
                                          "http://198.51.100.1:9000",
                                          "http://[2001:db8:9::1]",
                                          "http://[nas]",
                                          "http://.local",
                                          "http://evil.example.",
                                          "http://nas.fritz.box",
                                          "chrome-extension://abcdef",
                                          "httpx://localhost"};
    const dp_address own[] = {parse("192.0.2.1"), parse("2001:db8:1:2::7")};
    char endless[400] = "http://";
    memset(endless + 7, 'a', sizeof(endless) - 8);
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
        if (!lan_has_origin(pages[i], own, 2))
            fail_msg("%s is foreign", pages[i]);
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++)
        if (lan_has_origin(foreign[i], own, 2))
            fail_msg("%s is let in", foreign[i]);
    assert_false(lan_has_origin(endless, own, 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_the_private_addresses),
        cmocka_unit_test(knows_public_neighbours),
        cmocka_unit_test(knows_pages_by_their_origin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
