#include "clock.h"

#include <dlfcn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

dp_time sim_clock = 1000000;

static uint64_t system_seed = 1;

/* Visible, or the shared libraries do not find them. */
#define INTERPOSED __attribute__((visibility("default")))

void sim_clock_seed(uint64_t seed) { system_seed = seed; }

int sim_random_bytes(void *ctx, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)sim_random(ctx);
    return DP_OK;
}

INTERPOSED int gettimeofday(struct timeval *restrict tv, void *restrict zone);
int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    (void)zone;
    tv->tv_sec = (time_t)(SIM_EPOCH + sim_clock / 1000000);
    tv->tv_usec = (suseconds_t)(sim_clock % 1000000);
    return 0;
}

INTERPOSED time_t time(time_t *out);
time_t time(time_t *out)
{
    time_t now = (time_t)(SIM_EPOCH + sim_clock / 1000000);
    if (out != NULL)
        *out = now;
    return now;
}

/* usrsctp asks for randomness by the raw system call. All others pass through. */
INTERPOSED long syscall(long number, ...);
long syscall(long number, ...)
{
    long arguments[6];
    va_list list;
    va_start(list, number);
    for (size_t i = 0; i < 6; i++)
        arguments[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_getrandom) {
        size_t len = (size_t)arguments[1];
        sim_random_bytes(&system_seed, (uint8_t *)(uintptr_t)arguments[0], len);
        return (long)len;
    }
    long (*real)(long, ...);
    void *found = dlsym(RTLD_NEXT, "syscall");
    memcpy(&real, &found, sizeof real);
    return real(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}
