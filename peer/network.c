#include "peer/network.h"

#include "base/log.h"
#include "base/mem.h"
#include "peer/mux.h"
#include <string.h>

static const char layer[] = "peer";

static bool among(const dp_address *addresses, size_t count, const dp_address *address)
{
    size_t i = 0;
    while (i < count && !dp_address_same_ip(&addresses[i], address))
        i++;
    return i < count;
}

bool dp_network_has(const network *n, const dp_address *address)
{
    return among(n->addresses, n->address_count, address);
}

/* The interfaces' addresses, less what the configuration leaves out. */
static int ask_addresses(const network *n, dp_address *out, size_t *count)
{
    size_t all = 0;
    /* Addresses that are named are wanted, loopback or not. */
    int error = dp_interfaces(out, NETWORK_MAX_ADDRESSES, &all, n->include_loopback || n->bind_count > 0);
    *count = 0;
    for (size_t i = 0; error == DP_OK && i < all; i++)
        if (n->bind_count == 0 || among(n->bind, n->bind_count, &out[i]))
            out[(*count)++] = out[i];
    return error;
}

void dp_network_set_addresses(network *n, const dp_address *addresses, size_t count)
{
    bool came = false, lost = false;
    for (size_t i = 0; i < count; i++)
        came |= !among(n->addresses, n->address_count, &addresses[i]);
    for (size_t i = 0; i < n->address_count; i++)
        lost |= !among(addresses, count, &n->addresses[i]);
    n->address_count = count < NETWORK_MAX_ADDRESSES ? count : NETWORK_MAX_ADDRESSES;
    if (n->address_count > 0)
        memmove(n->addresses, addresses, n->address_count * sizeof(n->addresses[0]));
    if (came || lost)
        DP_LOG(&n->log, DP_LOG_INFO, layer, "the network has changed: %zu addresses now", n->address_count);
    /* Also if nothing has changed: a socket that could not be opened may be possible now. */
    for (mux *m = n->muxes; m != NULL; m = dp_mux_next(m))
        dp_mux_update(m);
    if (n->names != NULL)
        dp_names_update(n->names, n->addresses, n->address_count);
    if ((came || lost) && n->on_change != NULL)
        n->on_change(n->user, lost);
}

static void on_interfaces(void *user)
{
    network *n = user;
    dp_address now[NETWORK_MAX_ADDRESSES];
    size_t count;
    if (ask_addresses(n, now, &count) == DP_OK)
        dp_network_set_addresses(n, now, count);
}

static int copy_config(network *n, const network_config *config)
{
    n->loop = config->loop;
    n->random = config->random;
    n->log = config->log;
    n->include_loopback = config->include_loopback;
    n->port_min = config->port_min;
    n->port_max = config->port_max;
    n->tcp = config->tcp;
    n->key_log = config->key_log;
    n->on_change = config->on_change;
    n->user = config->user;
    if (config->turn_ca_file != NULL) {
        n->turn_ca_file = dp_strdup(config->turn_ca_file);
        if (n->turn_ca_file == NULL)
            return DP_ERR_NO_MEMORY;
    }
    if (config->bind_count > 0) {
        n->bind = dp_calloc(config->bind_count, sizeof(*n->bind));
        if (n->bind == NULL)
            return DP_ERR_NO_MEMORY;
        memcpy(n->bind, config->bind_addresses, config->bind_count * sizeof(*n->bind));
        n->bind_count = config->bind_count;
    }
    return DP_OK;
}

static void log_missing(const network *n)
{
    char text[DP_ADDRESS_TEXT_MAX];
    for (size_t i = 0; i < n->bind_count; i++)
        if (!among(n->addresses, n->address_count, &n->bind[i]))
            DP_LOG(&n->log, DP_LOG_WARN, layer, "no interface has the address %s; waiting for it",
                   dp_address_format_ip(&n->bind[i], text));
    if (n->bind_count == 0 && n->address_count == 0)
        DP_LOG(&n->log, DP_LOG_WARN, layer, "there is no network yet; waiting for it");
}

int dp_network_new(network **out, const network_config *config)
{
    network *n = dp_calloc(1, sizeof(*n));
    if (n == NULL)
        return DP_ERR_NO_MEMORY;
    int error = copy_config(n, config);
    if (error == DP_OK)
        error = dp_interface_watch_new(&n->watch, n->loop, on_interfaces, n);
    if (error == DP_OK)
        error = ask_addresses(n, n->addresses, &n->address_count);
    if (error != DP_OK) {
        dp_network_free(n);
        return error;
    }
    log_missing(n);
    *out = n;
    return DP_OK;
}

void dp_network_free(network *n)
{
    if (n == NULL)
        return;
    dp_interface_watch_free(n->watch);
    dp_names_free(n->names);
    dp_free(n->turn_ca_file);
    dp_free(n->bind);
    dp_free(n);
}

names *dp_network_names(network *n)
{
    if (n->names == NULL && dp_names_new(&n->names, n->loop, n->random, n->log) == DP_OK)
        dp_names_update(n->names, n->addresses, n->address_count);
    return n->names;
}
