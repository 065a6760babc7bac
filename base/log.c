#include "base/log.h"

#include <stdio.h>

void dp_log_write(const dp_log *log, dp_log_level level, const char *layer, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    /* What the network sent may be part of a line: a terminal must not act on it. */
    for (char *c = line; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    log->fn(log->ctx, level, layer, line);
}
