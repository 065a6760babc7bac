/* Log lines. The arguments are evaluated only if the level is on. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <datapeer/base.h>

void dp_log_write(const dp_log *log, dp_log_level level, const char *layer, const char *format, ...)
    DP_PRINTF(4, 5);

#define DP_LOG(log_, level_, layer_, ...)                                                                    \
    do {                                                                                                     \
        if ((log_)->fn != NULL && (log_)->level >= (level_))                                                 \
            dp_log_write((log_), (level_), (layer_), __VA_ARGS__);                                           \
    } while (0)

#endif
