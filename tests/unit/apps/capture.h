/* What is written to standard error, for tests. */
#ifndef TESTS_UNIT_APPS_CAPTURE_H
#define TESTS_UNIT_APPS_CAPTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <unistd.h>

static FILE *captured;
static char captured_text[4096];
static int saved_stderr;

static inline void capture(void)
{
    captured = tmpfile();
    assert_non_null(captured);
    saved_stderr = dup(STDERR_FILENO);
    assert_true(dup2(fileno(captured), STDERR_FILENO) >= 0);
}

/* Ends it; the text stays until the next end. */
static inline const char *end_capture(void)
{
    fflush(stderr);
    assert_true(dup2(saved_stderr, STDERR_FILENO) >= 0);
    close(saved_stderr);
    rewind(captured);
    captured_text[fread(captured_text, 1, sizeof(captured_text) - 1, captured)] = '\0';
    fclose(captured);
    return captured_text;
}

#define captured_is(text) assert_string_equal(end_capture(), text)

#endif
