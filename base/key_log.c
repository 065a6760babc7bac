#include "base/key_log.h"

#include "base/mem.h"
#include <string.h>

static char *put_hex(char *out, const uint8_t *bytes, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        *out++ = digits[bytes[i] >> 4];
        *out++ = digits[bytes[i] & 15];
    }
    return out;
}

void dp_key_log_put(const dp_key_log *log, const uint8_t client_random[DP_KEY_LOG_RANDOM],
                    const uint8_t master_secret[DP_KEY_LOG_MASTER_SECRET])
{
    static const char label[] = "CLIENT_RANDOM ";
    char line[sizeof(label) + 2 * (size_t)(DP_KEY_LOG_RANDOM + DP_KEY_LOG_MASTER_SECRET) + 1];
    if (log->fn == NULL)
        return;
    memcpy(line, label, sizeof(label) - 1);
    char *at = put_hex(line + sizeof(label) - 1, client_random, DP_KEY_LOG_RANDOM);
    *at++ = ' ';
    at = put_hex(at, master_secret, DP_KEY_LOG_MASTER_SECRET);
    *at = '\0';
    log->fn(log->ctx, line);
    dp_wipe(line, sizeof(line));
}
