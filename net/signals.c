#include "net/loop.h"

#include "base/mem.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct dp_signals {
    dp_source source;
    void (*fn)(void *user, int signal);
    void *user;
    sigset_t before; /* the mask that dp_signals_free restores */
};

static void on_signal(dp_source *source, uint32_t events)
{
    (void)events;
    dp_signals *signals = (dp_signals *)source;
    struct signalfd_siginfo info;
    while (!source->closed && read(source->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        signals->fn(signals->user, (int)info.ssi_signo);
}

int dp_signals_new(dp_signals **out, dp_loop *loop, const int *signals, size_t count,
                   void (*fn)(void *user, int signal), void *user)
{
    dp_signals *s = dp_calloc(1, sizeof(*s));
    if (s == NULL)
        return DP_ERR_NO_MEMORY;
    dp_source_init(&s->source, loop, on_signal);
    s->fn = fn;
    s->user = user;
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < count; i++) {
        if (sigaddset(&set, signals[i]) != 0) {
            dp_free(s);
            return DP_ERR_INVALID_ARGUMENT;
        }
    }
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0 || dp_source_set(&s->source, fd, EPOLLIN) != DP_OK) {
        if (fd >= 0)
            close(fd);
        dp_free(s);
        return DP_ERR_IO;
    }
    pthread_sigmask(SIG_BLOCK, &set, &s->before);
    *out = s;
    return DP_OK;
}

void dp_signals_free(dp_signals *signals)
{
    if (signals == NULL)
        return;
    pthread_sigmask(SIG_SETMASK, &signals->before, NULL);
    dp_source_close_fd(&signals->source);
    dp_source_free(&signals->source);
}
