/* Inside the loop: what every object with a file descriptor is built on. */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include <datapeer/net.h>
#include <sys/epoll.h>

/* One file descriptor in the epoll set. It is the first member of its object, and the object's memory is
 * released through it: an object may be freed by any callback, its own included, while events for it are
 * still waiting in the round's list. So dp_source_free only marks it, and the memory goes at the end of the
 * round. After a callback, look at closed. */
typedef struct dp_source {
    void (*fn)(struct dp_source *source, uint32_t events);
    dp_loop *loop;
    struct dp_source *next_dead;
    int fd;
    uint32_t events; /* what epoll watches; 0: not in the set */
    bool closed;
} dp_source;

void dp_source_init(dp_source *source, dp_loop *loop, void (*fn)(dp_source *source, uint32_t events));
/* Watches fd (a new one, or more or fewer events); 0 takes it out of the set. IO. */
int dp_source_set(dp_source *source, int fd, uint32_t events);
/* Takes the descriptor out of the set and closes it. */
void dp_source_close_fd(dp_source *source);
/* Releases the object that begins with source: at once, or at the end of the round. */
void dp_source_free(dp_source *source);

struct dp_udp_io;

struct dp_loop {
    int epoll;
    bool in_round;
    bool firing; /* timers are being called */
    bool stopped;
    bool no_pwait2; /* a kernel or a sandbox without epoll_pwait2 */
    dp_time now;
    dp_timer **timers; /* a binary heap, the earliest first */
    size_t timer_count;
    size_t timer_capacity;
    dp_deferred *deferred_first;
    dp_deferred **deferred_last;
    size_t deferred_count;
    dp_source *dead;
    struct dp_udp_io *udp;                  /* allocated with the first UDP socket */
    uint8_t *stream_buffer;                 /* allocated with the first TCP stream; STREAM_BUFFER bytes */
    struct dp_tls_authorities *authorities; /* net/authorities.c: read for the first TLS stream */
};

/* net/udp.c. Work of the loop's UDP batch that needs no event: something to flush, or owners to tell about
 * room. */
bool dp_udp_io_pending(const dp_loop *loop);
void dp_udp_io_run(dp_loop *loop);
void dp_udp_io_free(dp_loop *loop);

#endif
