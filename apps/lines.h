/* Lines of standard input and output, for the commands that are driven by JSON lines. */
#ifndef APPS_LINES_H
#define APPS_LINES_H

#include <datapeer/datapeer.h>

typedef struct lines lines;

typedef struct lines_config {
    dp_loop *loop;
    void (*on_line)(void *user, const char *text, size_t len); /* not empty, without its end */
    void (*on_end)(void *user, bool too_long); /* of the input, or a line over 64 MiB; the last call */
    void *user;
} lines_config;

/* False: no memory; printed. */
bool lines_open(lines **out, const lines_config *config);
/* Not from its callbacks. */
void lines_close(lines *in);

/* Prints a value as one line of JSON, at once; takes it. NULL: there was no memory for it, and that is told. */
void lines_print(dp_value *line);

#endif
