#include <datapeer/net.h>

#include <time.h>

/* The monotonic clock does not jump when somebody sets the wall clock, so no timeout depends on the date. */
dp_time dp_clock_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (dp_time)ts.tv_sec * 1000000u + (dp_time)ts.tv_nsec / 1000u;
}

int64_t dp_clock_unix(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return ts.tv_sec;
}
