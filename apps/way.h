/* The options about the way to the PeerServer: which one, TLS, the proxy. */
#ifndef APPS_WAY_H
#define APPS_WAY_H

#include <stdbool.h>

typedef struct way_options {
    const char *server; /* --server, or NULL */
    bool cloud;
    const char *ca_file; /* --cafile, or NULL */
    bool insecure;
    const char *proxy; /* --proxy, or NULL */
} way_options;

/* What they come to, with the environment; nothing is copied. */
typedef struct way {
    const char *server;
    bool named;          /* by an option or the environment: not the default */
    const char *ca_file; /* NULL: the system's */
    const char *proxy;   /* NULL: none */
} way;

/* The help of these options. */
extern const char way_help[];

/* False: something is wrong, and that was printed. */
bool way_find(way *out, const way_options *o);
/* The PeerServer can't be reached, and message says why: prints what to do about it. */
void way_explain(const char *message);

#endif
