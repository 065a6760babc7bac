/* usrsctp reads gettimeofday: this definition in the test program takes its place, so that SCTP runs in
 * virtual time. Include it in one .c file of the program. */
#ifndef TESTS_SCTP_VIRTUAL_TIME_H
#define TESTS_SCTP_VIRTUAL_TIME_H

#include <datapeer/base.h>
#include <sys/time.h>

static dp_time virtual_now = 1000000;

/* Visible, or libusrsctp does not find it. */
__attribute__((visibility("default"))) int gettimeofday(struct timeval *restrict tv, void *restrict zone);
int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    (void)zone;
    tv->tv_sec = (time_t)(1700000000 + virtual_now / 1000000);
    tv->tv_usec = (suseconds_t)(virtual_now % 1000000);
    return 0;
}

#endif
