#include "peer/accept.h"

#include "base/mem.h"
#include <datapeer/ice.h>
#include <string.h>

enum {
    MAX_WAITING = 16,  /* streams that have not said yet whose they are; then one goes, see least_wanted */
    FIRST_FRAME = 700, /* a check with user names of 2 * 256 characters, and the two bytes of its length */
};
#define FIRST_FRAME_TIMEOUT DP_SECONDS(5)

typedef struct waiting {
    struct waiting *next; /* the newest first */
    acceptor *owner;
    dp_tcp *tcp;
    dp_address remote;
    dp_timer timer;
    size_t len;
    uint8_t data[FIRST_FRAME];
} waiting;

struct acceptor {
    dp_loop *loop;
    dp_listener *listener;
    dp_address local;
    accepted_fn fn;
    void *user;
    waiting *first;
    size_t count;
};

/* The stream stays open if it was given away. */
static void forget(waiting *w)
{
    waiting **at = &w->owner->first;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    w->owner->count--;
    dp_timer_stop(&w->timer);
    if (w->tcp != NULL)
        dp_tcp_close(w->tcp);
    dp_free(w);
}

static void on_timeout(void *user) { forget(user); }

static void on_closed(void *user, dp_tcp *tcp, int error, const char *reason)
{
    (void)tcp;
    (void)error;
    (void)reason;
    forget(user);
}

/* RFC 4571 §2: two bytes of length in front of each datagram. */
static void on_data(void *user, dp_tcp *tcp, const uint8_t *data, size_t len)
{
    waiting *w = user;
    char ufrag[DP_ICE_UFRAG_MAX + 1];
    size_t n = len < sizeof(w->data) - w->len ? len : sizeof(w->data) - w->len;
    memcpy(w->data + w->len, data, n);
    w->len += n;
    size_t frame = w->len >= 2 ? (size_t)(w->data[0] << 8 | w->data[1]) : 0;
    if (w->len < 2 || (frame > w->len - 2 && frame <= sizeof(w->data) - 2))
        return;
    if (frame <= w->len - 2 && dp_ice_peek_ufrag(w->data + 2, frame, ufrag)) {
        accepted_stream stream = {.tcp = tcp,
                                  .local = w->owner->local,
                                  .remote = w->remote,
                                  .ufrag = ufrag,
                                  .data = w->data,
                                  .len = w->len,
                                  .rest = data + n,
                                  .rest_len = len - n};
        if (w->owner->fn(w->owner->user, &stream))
            w->tcp = NULL;
    }
    forget(w);
}

static bool same_host(const dp_address *a, const dp_address *b)
{
    dp_address other = *b;
    other.port = a->port;
    return dp_address_equal(a, &other);
}

/* Which one gives way to a stream from remote: the oldest from the same host, else the oldest. So a flood keeps no
 * other host out. */
static waiting *least_wanted(const acceptor *a, const dp_address *remote)
{
    waiting *oldest = NULL, *own = NULL;
    for (waiting *w = a->first; w != NULL; w = w->next) {
        oldest = w;
        own = same_host(&w->remote, remote) ? w : own;
    }
    return own != NULL ? own : oldest;
}

static void on_accept(void *user, dp_tcp *tcp, const dp_address *remote)
{
    acceptor *a = user;
    dp_tcp_handler handler = {.on_data = on_data, .on_closed = on_closed};
    waiting *w = dp_calloc(1, sizeof(*w));
    if (w == NULL) {
        dp_tcp_close(tcp);
        return;
    }
    if (a->count == MAX_WAITING)
        forget(least_wanted(a, remote));
    w->owner = a;
    w->tcp = tcp;
    w->remote = *remote;
    w->timer = (dp_timer){.fn = on_timeout, .user = w};
    w->next = a->first;
    a->first = w;
    a->count++;
    handler.user = w;
    dp_tcp_set_handler(tcp, &handler);
    dp_timer_set(a->loop, &w->timer, dp_loop_now(a->loop) + FIRST_FRAME_TIMEOUT);
}

int dp_acceptor_new(acceptor **out, dp_loop *loop, const dp_address *local, accepted_fn fn, void *user)
{
    acceptor *a = dp_calloc(1, sizeof(*a));
    if (a == NULL)
        return DP_ERR_NO_MEMORY;
    *a = (acceptor){.loop = loop, .local = *local, .fn = fn, .user = user};
    int error = dp_listener_open(&a->listener, loop, local, on_accept, a);
    if (error != DP_OK) {
        dp_free(a);
        return error;
    }
    *out = a;
    return DP_OK;
}

void dp_acceptor_free(acceptor *a)
{
    if (a == NULL)
        return;
    while (a->first != NULL)
        forget(a->first);
    dp_listener_close(a->listener);
    dp_free(a);
}
