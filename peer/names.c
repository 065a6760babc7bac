#include "peer/names.h"

#include "base/log.h"
#include "base/mem.h"
#include <string.h>
#include <strings.h>

static const char layer[] = "mdns";

enum { MAX_SOCKETS = 16 };

/* A question that waits, or a name of ours. */
typedef struct entry {
    struct entry *next;
    names_user *user;
    bool published;
    char name[DP_MDNS_NAME_MAX + 1];
} entry;

typedef struct socket_ {
    dp_udp *udp; /* NULL: free */
    dp_address local;
} socket_;

struct names {
    dp_loop *loop;
    dp_log log;
    dp_mdns *mdns;
    socket_ sockets[MAX_SOCKETS];
    entry *entries;
    dp_timer timer;
    dp_deferred wake;
};

/* ---- moving datagrams and answers ---- */

static void answer(names *n, const dp_mdns_result *result)
{
    entry **at = &n->entries;
    while (*at != NULL) {
        entry *e = *at;
        if (e->published || strcasecmp(e->name, result->name) != 0) {
            at = &e->next;
            continue;
        }
        *at = e->next;
        e->user->on_result(e->user->user, e->name, result->addresses, result->count);
        dp_free(e);
    }
}

static dp_udp *socket_of(const names *n, const dp_address *local)
{
    for (size_t i = 0; i < MAX_SOCKETS; i++)
        if (n->sockets[i].udp != NULL && dp_address_equal(&n->sockets[i].local, local))
            return n->sockets[i].udp;
    return NULL;
}

static void pump(void *user)
{
    names *n = user;
    dp_mdns_result result;
    dp_datagram slot;
    while (dp_mdns_poll_result(n->mdns, &result))
        answer(n, &result);
    while (dp_udp_slot(n->loop, &slot) == DP_OK &&
           dp_mdns_poll_transmit(n->mdns, dp_loop_now(n->loop), &slot)) {
        dp_udp *udp = socket_of(n, &slot.local);
        if (udp != NULL)
            dp_udp_commit(n->loop, udp, &slot);
    }
    dp_timer_set(n->loop, &n->timer, dp_mdns_next_timeout(n->mdns));
}

static void on_timer(void *user)
{
    names *n = user;
    dp_mdns_handle_timeout(n->mdns, dp_loop_now(n->loop));
    pump(n);
}

static void on_packets(void *user, dp_udp *udp, dp_udp_packet *packets, size_t count)
{
    names *n = user;
    size_t s = 0;
    while (n->sockets[s].udp != udp)
        s++;
    for (size_t i = 0; i < count; i++)
        dp_mdns_input(n->mdns, dp_loop_now(n->loop), packets[i].data, packets[i].len, &n->sockets[s].local,
                      &packets[i].remote);
    pump(n);
}

static void on_writable(void *user, dp_udp *udp)
{
    (void)udp;
    pump(user);
}

/* ---- sockets ---- */

static void open_socket(names *n, const dp_address *local)
{
    size_t i = 0;
    while (i < MAX_SOCKETS && n->sockets[i].udp != NULL)
        i++;
    dp_address group;
    bool v4 = local->family == DP_FAMILY_IPV4;
    /* RFC 6762 §3. An IPv6 interface always has a link-local address, and that alone names it. */
    if (i == MAX_SOCKETS || (!v4 && local->scope == 0) ||
        dp_address_parse(&group, v4 ? "224.0.0.251" : "ff02::fb", DP_MDNS_PORT) != DP_OK)
        return;
    dp_udp_handler handler = {on_packets, on_writable, n};
    char text[DP_ADDRESS_TEXT_MAX];
    int error = dp_udp_open_multicast(&n->sockets[i].udp, n->loop, &group, local, &handler);
    if (error == DP_OK) {
        error = dp_mdns_add_socket(n->mdns, dp_loop_now(n->loop), local);
        if (error != DP_OK)
            dp_udp_close(n->sockets[i].udp);
    }
    if (error != DP_OK) {
        n->sockets[i].udp = NULL;
        DP_LOG(&n->log, DP_LOG_INFO, layer, "no multicast on %s: %s", dp_address_format_ip(local, text),
               dp_strerror(error));
        return;
    }
    n->sockets[i].local = *local;
}

static void close_socket(names *n, socket_ *s)
{
    dp_mdns_remove_socket(n->mdns, &s->local);
    dp_udp_close(s->udp);
    s->udp = NULL;
}

void dp_names_update(names *n, const dp_address *addresses, size_t count)
{
    for (size_t i = 0; i < MAX_SOCKETS; i++) {
        socket_ *s = &n->sockets[i];
        bool there = false;
        for (size_t j = 0; s->udp != NULL && j < count; j++)
            there |= dp_address_equal(&s->local, &addresses[j]);
        if (s->udp != NULL && !there)
            close_socket(n, s);
    }
    for (size_t j = 0; j < count; j++)
        if (socket_of(n, &addresses[j]) == NULL)
            open_socket(n, &addresses[j]);
    dp_defer(n->loop, &n->wake);
}

/* ---- life ---- */

int dp_names_new(names **out, dp_loop *loop, dp_random random, dp_log log)
{
    names *n = dp_calloc(1, sizeof(*n));
    if (n == NULL)
        return DP_ERR_NO_MEMORY;
    n->loop = loop;
    n->log = log;
    n->timer = (dp_timer){.fn = on_timer, .user = n};
    n->wake = (dp_deferred){.fn = pump, .user = n};
    dp_mdns_config config = {.size = sizeof(config), .random = random, .log = log};
    int error = dp_mdns_new(&n->mdns, &config);
    if (error != DP_OK) {
        dp_free(n);
        return error;
    }
    *out = n;
    return DP_OK;
}

void dp_names_free(names *n)
{
    if (n == NULL)
        return;
    pump(n); /* goodbyes of names that were withdrawn in this round */
    for (size_t i = 0; i < MAX_SOCKETS; i++)
        if (n->sockets[i].udp != NULL)
            close_socket(n, &n->sockets[i]);
    for (entry *e = n->entries, *next; e != NULL; e = next) {
        next = e->next;
        dp_free(e);
    }
    dp_timer_stop(&n->timer);
    dp_undefer(&n->wake);
    dp_mdns_free(n->mdns);
    dp_free(n);
}

/* ---- questions and names ---- */

static bool published_already(const names *n, const names_user *user, const char *name)
{
    const entry *e = n->entries;
    while (e != NULL && !(e->published && e->user == user && strcasecmp(e->name, name) == 0))
        e = e->next;
    return e != NULL;
}

static int add_entry(names *n, names_user *user, const char *name, bool published)
{
    size_t len = strlen(name);
    entry *e = len <= DP_MDNS_NAME_MAX ? dp_calloc(1, sizeof(*e)) : NULL;
    if (e == NULL)
        return len <= DP_MDNS_NAME_MAX ? DP_ERR_NO_MEMORY : DP_ERR_INVALID_ARGUMENT;
    e->user = user;
    e->published = published;
    memcpy(e->name, name, len + 1);
    e->next = n->entries;
    n->entries = e;
    dp_defer(n->loop, &n->wake);
    return DP_OK;
}

static void drop_newest(names *n)
{
    entry *e = n->entries;
    n->entries = e->next;
    dp_free(e);
}

int dp_names_ask(names *n, names_user *user, const char *name)
{
    int error = add_entry(n, user, name, false);
    if (error != DP_OK)
        return error;
    error = dp_mdns_query(n->mdns, dp_loop_now(n->loop), name);
    if (error != DP_OK)
        drop_newest(n);
    return error;
}

int dp_names_publish(names *n, names_user *user, const char *name, const dp_address *address)
{
    bool known = published_already(n, user, name);
    int error = known ? DP_OK : add_entry(n, user, name, true);
    if (error != DP_OK)
        return error;
    error = dp_mdns_publish(n->mdns, dp_loop_now(n->loop), name, address);
    if (error != DP_OK && !known)
        drop_newest(n);
    return error;
}

void dp_names_leave(names *n, names_user *user)
{
    entry **at = &n->entries;
    while (*at != NULL) {
        entry *e = *at;
        if (e->user != user) {
            at = &e->next;
            continue;
        }
        *at = e->next;
        if (e->published)
            dp_mdns_withdraw(n->mdns, dp_loop_now(n->loop), e->name);
        dp_free(e);
    }
    dp_defer(n->loop, &n->wake);
}
