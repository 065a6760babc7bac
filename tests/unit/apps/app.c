/* What the commands print of others must not steer the terminal. */
#include "capture.h"

#include "apps/app.h"
#include <string.h>

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

static void prints_long_texts_whole(void **state)
{
    (void)state;
    for (size_t len = 500; len < 520; len++) { /* it writes in pieces */
        char text[520], out[521] = "";
        memset(text, 'x', sizeof(text));
        text[100] = '\n';
        text[len - 1] = '.';
        FILE *file = fmemopen(out, sizeof(out), "w");
        assert_non_null(file);
        app_print_safe(file, text, len);
        fclose(file);
        text[100] = '?';
        assert_int_equal(strlen(out), len);
        assert_memory_equal(out, text, len);
    }
}

static void errors_are_safe_too(void **state)
{
    (void)state;
    capture();
    app_error("%s", "the server says \033]0;x\007");
    captured_is("datapeer: the server says ?]0;x?\n");
}

static void warn(app *a, const char *text) { a->log.fn(a->log.ctx, DP_LOG_WARN, "ice", text); }

/* The four newest, each once; what -v has shown already is not told again. */
static void warnings_explain_a_failure(void **state)
{
    (void)state;
    static const char *const all[] = {"one",   "two",  "two",
                                      "three", "four", "not signed by a known authority"};
    for (int verbose = 0; verbose < 2; verbose++) {
        app a = {.verbose = verbose};
        assert_int_equal(app_start(&a), EXIT_OK);
        capture();
        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
            warn(&a, all[i]);
        captured_is(verbose == 0
                        ? ""
                        : "warn ice: one\nwarn ice: two\nwarn ice: two\nwarn ice: three\nwarn ice: four\n"
                          "warn ice: not signed by a known authority\n");
        capture();
        app_explain_failure(&a);
        app_explain_failure(&a);
        captured_is(verbose != 0
                        ? ""
                        : "datapeer: two\ndatapeer: three\ndatapeer: four\n"
                          "datapeer: not signed by a known authority\n"
                          "datapeer: if that server is the right one, give its authority's certificate with "
                          "--turn-ca FILE\n");
        app_finish(&a);
    }
}

static void a_used_up_range_is_named(void **state)
{
    (void)state;
    app a = {.network = {.port_min = 50000, .port_max = 50001}}, any = {0};
    capture();
    bool said = app_explain_ports(&a, DP_ERR_IO), none = app_explain_ports(&any, DP_ERR_IO),
         other = app_explain_ports(&a, DP_ERR_LIMIT);
    captured_is("datapeer: no UDP port from 50000 to 50001 is free: give a wider --port-range\n");
    assert_true(said && !none && !other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prints_no_control_characters), cmocka_unit_test(prints_long_texts_whole),
        cmocka_unit_test(errors_are_safe_too),          cmocka_unit_test(warnings_explain_a_failure),
        cmocka_unit_test(a_used_up_range_is_named),
    };
    return cmocka_run_group_tests_name("app", tests, NULL, NULL);
}
