/* Where Redis is, as --redis names it. */
#include "apps/redis_url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void good(const char *text, bool tls, const char *user, const char *password, const char *host,
                 unsigned port, const char *database)
{
    redis_url url;
    const char *wrong = redis_url_parse(&url, text);
    if (wrong != NULL)
        fail_msg("%s: %s", text, wrong);
    assert_int_equal(url.tls, tls);
    assert_string_equal(url.user, user);
    assert_string_equal(url.password, password);
    assert_string_equal(url.host, host);
    assert_int_equal(url.port, port);
    assert_string_equal(url.database, database);
}

static void bad(const char *text)
{
    redis_url url;
    if (redis_url_parse(&url, text) == NULL)
        fail_msg("%s was taken", text);
}

static void parts(void **state)
{
    (void)state;
    good("redis://h", false, "", "", "h", 6379, "");
    good("rediss://h.example:1/", true, "", "", "h.example", 1, "");
    good("redis://127.0.0.1:65535/15", false, "", "", "127.0.0.1", 65535, "15");
    good("redis://[::1]", false, "", "", "::1", 6379, "");
    good("redis://u:p@[fe80::1%25eth0]:7/0", false, "u", "p", "fe80::1%25eth0", 7, "0");
    good("redis://user@h", false, "user", "", "h", 6379, "");
    good("redis://:pass@h", false, "", "pass", "h", 6379, "");
    good("redis://:@h", false, "", "", "h", 6379, "");
    good("redis://a%3ab:p%40%2F%25@h/999999999", false, "a:b", "p@/%", "h", 6379, "999999999");
    good("redis://u:a:b@h", false, "u", "a:b", "h", 6379, "");
}

static void what_is_wrong(void **state)
{
    (void)state;
    static const char *const all[] = {
        "",
        "redis",
        "redis:/h",
        "http://h",
        "Redis://h",
        "redis://",
        "redis:///1",
        "redis://:6379",
        "redis://u:p@",
        "redis://u:p@:1",
        "redis://h:",
        "redis://h:0",
        "redis://h:65536",
        "redis://h:99999999999999999999",
        "redis://h:6379x",
        "redis://h:-1",
        "redis://[::1",
        "redis://[]",
        "redis://[::1]x",
        "redis://[::1]:x",
        "redis://h/x",
        "redis://h/1x",
        "redis://h/1/",
        "redis://h/-1",
        "redis://h/9999999999",
        "redis://h/000000000001",
        "redis://h?db=1",
        "redis://h/1?x",
        "redis://h#1",
        "redis://%@h",
        "redis://%4@h",
        "redis://u:%4g@h",
        "redis://u:%00@h",
        "redis://u:p%@h",
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        bad(all[i]);
}

static void lengths(void **state)
{
    (void)state;
    char word[REDIS_WORD_MAX + 1];
    char text[2 * REDIS_WORD_MAX];
    for (size_t form = 0; form < 3; form++)
        for (size_t len = REDIS_WORD_MAX - 1; len <= REDIS_WORD_MAX; len++) {
            memset(word, 'x', len);
            word[len] = '\0';
            snprintf(text, sizeof(text), "redis://%s%s%s", form == 1 ? ":" : "", word, form < 2 ? "@h" : "");
            redis_url url;
            assert_int_equal(redis_url_parse(&url, text) == NULL, len < REDIS_WORD_MAX);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts),
        cmocka_unit_test(what_is_wrong),
        cmocka_unit_test(lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
