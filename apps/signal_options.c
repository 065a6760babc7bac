#include "signal_options.h"

#include "app.h"
#include <stdlib.h>
#include <string.h>

const char signal_options_help[] =
    "  --path PATH            where it is mounted (default: /)\n"
    "  --allow-discovery      tell every client the ids of all others\n"
    "  --tls-cert FILE        speak TLS (https, wss) with this certificate chain (PEM)...\n"
    "  --tls-key FILE         ...and its key\n"
    "  --concurrent-limit N   clients at once (default: 5000)\n"
    "  --alive-timeout MS     a client without a heartbeat is dropped after this time (default: 90000)\n"
    "  --expire-timeout MS    messages for an absent peer wait so long (default: 5000)\n"
    "  --connection-rate N    connections a second from one address that are answered (default: 50; 0: no "
    "limit)\n"
    "  --message-rate N       messages a second from one connection (default: 100; 0: no limit)\n"
    "  --metrics              tell figures for Prometheus under /metrics\n"
    "  --stun[=PORT]          be a STUN server, too: tell everybody which public address it asks from\n"
    "                         (UDP port, default: 3478)\n";

static const struct option rows[] = {SIGNAL_OPTION_ROWS, {0}};

void signal_options_init(signal_options *o)
{
    *o = (signal_options){.connection_rate = 50, .message_rate = 100};
}

bool signal_options_number(uint64_t *out, const char *text, uint64_t min, uint64_t max, const char *what)
{
    char *end;
    *out = strtoull(text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && *out >= min && *out <= max)
        return true;
    app_error("%s must be a number from %llu to %llu, not '%s'", what, (unsigned long long)min,
              (unsigned long long)max, text);
    return false;
}

static const char *name_of(int option)
{
    const struct option *row = rows;
    while (row->name != NULL && row->val != option)
        row++;
    return row->name;
}

bool signal_options_add_origin(signal_options *o, const char *origin)
{
    const char *host = strncmp(origin, "http://", 7) == 0    ? origin + 7
                       : strncmp(origin, "https://", 8) == 0 ? origin + 8
                                                             : "";
    if (host[0] == '\0' || strpbrk(host, "/?#@") != NULL) {
        app_error(
            "--allow-origin must be http://HOST[:PORT] or https://HOST[:PORT], without a path, not '%s'",
            origin);
        return false;
    }
    if (o->origin_count == SIGNAL_ORIGINS_MAX) {
        app_error("at most %d origins", SIGNAL_ORIGINS_MAX);
        return false;
    }
    o->origins[o->origin_count++] = origin;
    return true;
}

bool signal_options_take(signal_options *o, int option)
{
    const char *name = name_of(option);
    if (name == NULL)
        return false;
    o->given = name;
    switch (option) {
    case SIGNAL_OPTION_HOST:
        if (o->host_count == SIGNAL_HOSTS_MAX) {
            app_error("at most %d addresses to listen on", SIGNAL_HOSTS_MAX);
            return false;
        }
        o->hosts[o->host_count++] = optarg;
        return true;
    case SIGNAL_OPTION_PATH:
        o->path = optarg;
        return true;
    case SIGNAL_OPTION_DISCOVERY:
        return o->allow_discovery = true;
    case SIGNAL_OPTION_TLS_CERT:
        o->tls_cert = optarg;
        return true;
    case SIGNAL_OPTION_TLS_KEY:
        o->tls_key = optarg;
        return true;
    case SIGNAL_OPTION_LIMIT:
        return signal_options_number(&o->concurrent_limit, optarg, 1, 1000000, "--concurrent-limit");
    case SIGNAL_OPTION_ALIVE:
        return signal_options_number(&o->alive_timeout, optarg, 1, 86400000, "--alive-timeout");
    case SIGNAL_OPTION_EXPIRE:
        return signal_options_number(&o->expire_timeout, optarg, 1, 86400000, "--expire-timeout");
    case SIGNAL_OPTION_CONNECTION_RATE:
        return signal_options_number(&o->connection_rate, optarg, 0, 1000000, "--connection-rate");
    case SIGNAL_OPTION_MESSAGE_RATE:
        return signal_options_number(&o->message_rate, optarg, 0, 1000000, "--message-rate");
    case SIGNAL_OPTION_STUN:
        o->stun = true;
        o->stun_port = DP_STUN_SERVER_PORT;
        return optarg == NULL || signal_options_number(&o->stun_port, optarg, 0, UINT16_MAX, "--stun");
    default:
        return o->metrics = true;
    }
}

bool signal_options_check(const signal_options *o)
{
    bool both = (o->tls_cert == NULL) == (o->tls_key == NULL);
    if (!both)
        app_error("--tls-cert and --tls-key belong together");
    return both;
}
