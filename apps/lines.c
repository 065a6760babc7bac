#include "lines.h"

#include "app.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_LINE = 64 << 20, READ_MIN = 65536 };

struct lines {
    lines_config config;
    dp_watch *watch; /* NULL: a file, which has no use for it: it can always be read */
    dp_timer timer;  /* reads that one, a piece in each round */
    char *text;
    size_t length;
    size_t capacity;
};

/* seen: bytes at the front that hold no line end. */
static void take_lines(lines *in, size_t seen)
{
    size_t from = 0;
    char *end;
    while ((end = memchr(in->text + seen, '\n', in->length - seen)) != NULL) {
        size_t len = (size_t)(end - (in->text + from));
        if (len > 0)
            in->config.on_line(in->config.user, in->text + from, len);
        from = seen = from + len + 1;
    }
    memmove(in->text, in->text + from, in->length - from);
    in->length -= from;
}

static bool make_room(lines *in)
{
    if (in->capacity - in->length >= READ_MIN)
        return true;
    size_t capacity = in->capacity * 2 + READ_MIN;
    char *grown = capacity <= MAX_LINE ? realloc(in->text, capacity) : NULL;
    if (grown == NULL)
        return false;
    in->text = grown;
    in->capacity = capacity;
    return true;
}

static void end(lines *in, bool too_long)
{
    if (in->watch != NULL)
        dp_watch_set(in->watch, 0);
    dp_timer_stop(&in->timer);
    if (too_long)
        app_error("a line is longer than %d MiB", MAX_LINE >> 20);
    else if (in->length > 0) /* a last line without its end */
        in->config.on_line(in->config.user, in->text, in->length);
    in->config.on_end(in->config.user, too_long);
}

static void on_input(void *user, int ready)
{
    lines *in = user;
    (void)ready;
    if (!make_room(in)) {
        end(in, true);
        return;
    }
    ssize_t n = read(STDIN_FILENO, in->text + in->length, in->capacity - in->length);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        end(in, false);
        return;
    }
    in->length += (size_t)n;
    take_lines(in, in->length - (size_t)n);
}

static void on_round(void *user)
{
    lines *in = user;
    if (dp_timer_set(in->config.loop, &in->timer, dp_loop_now(in->config.loop)) == DP_OK)
        on_input(in, DP_READABLE);
    else
        end(in, false);
}

bool lines_open(lines **out, const lines_config *config)
{
    lines *in = calloc(1, sizeof(*in));
    if (in == NULL) {
        app_error("out of memory");
        return false;
    }
    in->config = *config;
    in->timer = (dp_timer){.fn = on_round, .user = in};
    if (dp_watch_new(&in->watch, config->loop, STDIN_FILENO, DP_READABLE, on_input, in) != DP_OK &&
        dp_timer_set(config->loop, &in->timer, dp_loop_now(config->loop)) != DP_OK) {
        app_error("out of memory");
        free(in);
        return false;
    }
    *out = in;
    return true;
}

void lines_close(lines *in)
{
    if (in == NULL)
        return;
    if (in->watch != NULL)
        dp_watch_free(in->watch);
    dp_timer_stop(&in->timer);
    free(in->text);
    free(in);
}

void lines_print(dp_value *line)
{
    char *text = NULL;
    size_t len;
    if (line != NULL && dp_value_to_json(line, &text, &len) == DP_OK) {
        fwrite(text, 1, len, stdout);
        fputc('\n', stdout);
        fflush(stdout);
    } else {
        app_error("out of memory");
    }
    dp_free(text);
    dp_value_free(line);
}
