#include "base/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

typedef struct old_config {
    size_t size;
    int required;
    int optional;
} old_config;

typedef struct config {
    size_t size;
    int required;
    int optional;
    int added[4];
} config;

static const config defaults = {.optional = 1, .added = {2, 3, 4, 5}};

static void an_older_caller_gets_defaults(void **state)
{
    (void)state;
    config c = defaults;
    old_config old = {.size = sizeof(old), .required = 7, .optional = 8};
    assert_true(dp_config_read(&c, sizeof(c), &old, offsetof(config, optional)));
    assert_int_equal(c.required, 7);
    assert_int_equal(c.optional, 8);
    assert_memory_equal(c.added, defaults.added, sizeof(c.added));
    /* The least that may come. */
    c = defaults;
    old.size = offsetof(old_config, optional);
    assert_true(dp_config_read(&c, sizeof(c), &old, offsetof(config, optional)));
    assert_int_equal(c.required, 7);
    assert_int_equal(c.optional, 1);
}

static void a_newer_caller_is_cut(void **state)
{
    (void)state;
    struct {
        old_config c;
        int behind;
    } room = {.behind = 9};
    config newer = {.size = sizeof(newer), .required = 7, .optional = 8, .added = {10, 11, 12, 13}};
    assert_true(dp_config_read(&room.c, sizeof(room.c), &newer, offsetof(old_config, optional)));
    assert_int_equal(room.c.optional, 8);
    assert_int_equal(room.behind, 9);
}

static void too_little_is_refused(void **state)
{
    (void)state;
    config c = defaults, given = {.size = offsetof(config, optional) - 1, .required = 7};
    assert_false(DP_CONFIG_READ(&c, &given, config, optional));
    given.size = 0;
    assert_false(
        DP_CONFIG_READ(&c, &given, config, size)); /* nothing is required, but not even the size is there */
    assert_false(DP_CONFIG_READ(&c, NULL, config, optional));
    assert_memory_equal(&c, &defaults, sizeof(c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_older_caller_gets_defaults),
        cmocka_unit_test(a_newer_caller_is_cut),
        cmocka_unit_test(too_little_is_refused),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
