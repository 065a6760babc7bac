#include "mdns.h"

#include "base/config.h"
#include "base/mem.h"
#include "candidate.h"

#include <string.h>

int dp_mdns_new(dp_mdns **out, const dp_mdns_config *config)
{
    dp_mdns_config read = {0};
    if (!DP_CONFIG_READ(&read, config, dp_mdns_config, log) || read.random.fn == NULL)
        return DP_ERR_INVALID_ARGUMENT;
    dp_mdns *mdns = dp_calloc(1, sizeof *mdns);
    if (mdns == NULL)
        return DP_ERR_NO_MEMORY;
    mdns->random = read.random;
    mdns->log = read.log;
    dp_queue_init(&mdns->replies, sizeof(dp_mdns_reply), DP_MDNS_REPLIES_MAX);
    *out = mdns;
    return DP_OK;
}

void dp_mdns_free(dp_mdns *mdns)
{
    if (mdns == NULL)
        return;
    dp_free(mdns->remote);
    dp_free(mdns->own);
    dp_queue_clear(&mdns->replies);
    dp_free(mdns);
}

/* ---- sockets ---- */

bool dp_mdns_in_use(const dp_mdns *mdns, size_t socket) { return (mdns->sockets >> socket & 1) != 0; }

size_t dp_mdns_find_socket(const dp_mdns *mdns, const dp_address *local)
{
    size_t i = 0;
    while (i < DP_MDNS_SOCKETS_MAX &&
           !(dp_mdns_in_use(mdns, i) && dp_address_same_ip(&mdns->locals[i], local)))
        i++;
    return i;
}

void dp_mdns_group(dp_address *out, const dp_address *local)
{
    static const dp_address group4 = {.family = DP_FAMILY_IPV4, .port = DP_MDNS_PORT, .ip = {224, 0, 0, 251}};
    static const dp_address group6 = {
        .family = DP_FAMILY_IPV6, .port = DP_MDNS_PORT, .ip = {0xFF, 0x02, [15] = 0xFB}};
    *out = local->family == DP_FAMILY_IPV4 ? group4 : group6;
    out->scope = local->scope;
}

int dp_mdns_add_socket(dp_mdns *mdns, dp_time now, const dp_address *local)
{
    if (local->family != DP_FAMILY_IPV4 && local->family != DP_FAMILY_IPV6)
        return DP_ERR_INVALID_ARGUMENT;
    if (dp_mdns_find_socket(mdns, local) < DP_MDNS_SOCKETS_MAX)
        return DP_OK;
    size_t socket = 0;
    while (socket < DP_MDNS_SOCKETS_MAX && dp_mdns_in_use(mdns, socket))
        socket++;
    if (socket == DP_MDNS_SOCKETS_MAX)
        return DP_ERR_LIMIT;
    mdns->locals[socket] = *local;
    mdns->sockets |= 1u << socket;
    dp_mdns_ask_on(mdns, socket);
    dp_mdns_answer_on(mdns, now, socket);
    return DP_OK;
}

void dp_mdns_remove_socket(dp_mdns *mdns, const dp_address *local)
{
    size_t socket = dp_mdns_find_socket(mdns, local);
    if (socket == DP_MDNS_SOCKETS_MAX)
        return;
    mdns->sockets &= ~(1u << socket);
    dp_mdns_answer_off(mdns, socket);
}

/* ---- names ---- */

bool dp_mdns_name_valid(const char *name)
{
    static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    static const char suffix[] = ".local";
    size_t len = strlen(name);
    return len >= sizeof suffix && strspn(name, chars) == len && dp_dns_name_valid(name) &&
           dp_dns_name_equal(name + len - (sizeof suffix - 1), suffix);
}

bool dp_mdns_address_useful(const dp_address *address)
{
    dp_address a = *address;
    a.port = DP_MDNS_PORT; /* records have none */
    return dp_address_is_unicast(&a) && !dp_address_is_loopback(&a);
}

/* ---- the five verbs ---- */

void dp_mdns_input(dp_mdns *mdns, dp_time now, const uint8_t *data, size_t len, const dp_address *local,
                   const dp_address *remote)
{
    size_t socket = dp_mdns_find_socket(mdns, local);
    dp_dns_message message;
    if (socket == DP_MDNS_SOCKETS_MAX || remote->family != local->family || !dp_address_is_unicast(remote) ||
        dp_dns_read_header(&message, data, len) != DP_OK)
        return;
    if (!message.response) {
        dp_mdns_answer_take(mdns, now, socket, &message, remote);
        return;
    }
    /* RFC 6762 §6: from no other port. §11: and from this link, which the group's scope ensures. */
    if (remote->port != DP_MDNS_PORT)
        return;
    dp_dns_record record;
    while (dp_dns_next_record(&message, &record))
        dp_mdns_ask_take(mdns, now, &record, &mdns->locals[socket]);
}

void dp_mdns_handle_timeout(dp_mdns *mdns, dp_time now) { dp_mdns_ask_timeout(mdns, now); }

dp_time dp_mdns_next_timeout(const dp_mdns *mdns)
{
    dp_time ask = dp_mdns_ask_next(mdns);
    dp_time answer = dp_mdns_answer_next(mdns);
    return ask < answer ? ask : answer;
}

bool dp_mdns_poll_transmit(dp_mdns *mdns, dp_time now, dp_datagram *out)
{
    out->link = 0;
    return dp_mdns_answer_write_reply(mdns, out) || dp_mdns_ask_write(mdns, out) ||
           dp_mdns_answer_write(mdns, now, out);
}
