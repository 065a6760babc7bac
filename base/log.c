#include "base/log.h"

#include <stdio.h>

void dp_log_write(const dp_log *log, dp_log_level level, const char *layer, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    if (vsnprintf(line, sizeof(line), format, args) < 0)
        line[0] = '\0';
    va_end(args);
    /* What the network sent may be part of a line: a terminal must not act on it. C2 80..9F are the controls
     * of the second set in UTF-8. */
    for (unsigned char *c = (unsigned char *)line; *c != '\0'; c++) {
        bool control = c[0] == 0xC2 && c[1] >= 0x80 && c[1] <= 0x9F;
        if (control)
            *c++ = '?'; /* both bytes, or the rest would be no UTF-8 */
        if (control || *c < 0x20 || *c == 0x7F)
            *c = '?';
    }
    log->fn(log->ctx, level, layer, line);
}
