/* What the commands print of others must not steer the terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "apps/app.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void prints_no_control_characters(void **state)
{
    (void)state;
    static const char text[] = "a\033[31m\x07\x7f\n \xc3\xa9 \xc2\x9b"
                               "31m \xc2\xa0 \xf0\x9f\x98\x80 \xc2";
    char out[64] = "";
    FILE *file = fmemopen(out, sizeof(out), "w");
    assert_non_null(file);
    app_print_safe(file, text, sizeof(text) - 1);
    fclose(file);
    assert_string_equal(out, "a?[31m??? \xc3\xa9 ?31m \xc2\xa0 \xf0\x9f\x98\x80 \xc2");
}

static void errors_are_safe_too(void **state)
{
    (void)state;
    char out[64] = "";
    FILE *file = tmpfile();
    assert_non_null(file);
    int saved = dup(STDERR_FILENO);
    assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
    app_error("%s", "the server says \033]0;x\007");
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    close(saved);
    rewind(file);
    assert_non_null(fgets(out, sizeof(out), file));
    fclose(file);
    assert_string_equal(out, "datapeer: the server says ?]0;x?\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prints_no_control_characters),
        cmocka_unit_test(errors_are_safe_too),
    };
    return cmocka_run_group_tests_name("app", tests, NULL, NULL);
}
