/* Where Redis is: redis://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE], rediss:// with TLS. */
#ifndef APPS_REDIS_URL_H
#define APPS_REDIS_URL_H

#include <stdbool.h>
#include <stdint.h>

enum { REDIS_WORD_MAX = 256 };

typedef struct redis_url {
    bool tls;
    char user[REDIS_WORD_MAX];     /* empty: the default one */
    char password[REDIS_WORD_MAX]; /* empty: none in it */
    char host[REDIS_WORD_MAX];     /* without brackets */
    uint16_t port;
    char database[12]; /* a number; empty: 0 */
} redis_url;

/* NULL, or what is wrong, for people. */
const char *redis_url_parse(redis_url *out, const char *text);

#endif
