/* The line of the NSS key log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/key_log.h"
#include <stdio.h>
#include <string.h>

static void keep(void *ctx, const char *line) { strcat(ctx, line); }

static void a_line_holds_both(void **state)
{
    (void)state;
    uint8_t client_random[DP_KEY_LOG_RANDOM] = {0x00, 0x0f, 0xf0, [31] = 0xff};
    uint8_t master_secret[DP_KEY_LOG_MASTER_SECRET] = {0xab, [47] = 0xcd};
    char got[512] = "", expected[512];
    dp_key_log log = {keep, got};
    dp_key_log_put(&log, client_random, master_secret);
    snprintf(expected, sizeof(expected), "CLIENT_RANDOM 000ff0%056dff ab%092dcd", 0, 0);
    assert_string_equal(got, expected);
    log.fn = NULL;
    dp_key_log_put(&log, client_random, master_secret);
    assert_string_equal(got, expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_line_holds_both)};
    return cmocka_run_group_tests_name("key_log", tests, NULL, NULL);
}
