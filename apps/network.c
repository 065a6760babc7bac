#include "network.h"

#include "app.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char network_help[] =
    "The way through the network:\n"
    "  --ice-server URL       a server that helps two networks to meet; may be given 8 times\n"
    "                           stun:HOST[:PORT]                   tells us our public address\n"
    "                           turn:HOST[:PORT][?transport=tcp]   relays where nothing else works\n"
    "                           turns:HOST[:PORT]                  the same, looking like HTTPS to a "
    "firewall\n"
    "  --turn-user USER:PASSWORD  for all TURN servers (better: $TURN_USER, which no process list shows)\n"
    "  --turn-ca FILE         certificates (PEM) that turns: trusts instead of the system's\n"
    "  --tcp                  try TCP between the two as well, on ports of the same numbers\n"
    "  --relay-only           use TURN alone: the other side never learns an address of ours\n"
    "  --hide-addresses       tell our local addresses as mDNS names, as browsers do\n"
    "  --bind ADDRESS         use this local address and no other; may be given 16 times\n"
    "  --port N               our UDP port for all who call us (default: any free one); (serve) TCP port of\n"
    "                         the page and the PeerServer, too (default: 9000)\n"
    "  --port-range A-B       take free ports from this range\n"
    "  --mtu N                send datagrams of up to N bytes, 600 to 16384; else as large as the way "
    "takes\n";

/* ---- one option each ---- */

bool network_add_server(network_options *o, const char *url)
{
    dp_ice_url parsed;
    if (o->url_count == DP_PEER_MAX_ICE_SERVERS) {
        app_error("more than %d times --ice-server", DP_PEER_MAX_ICE_SERVERS);
        return false;
    }
    int error = dp_ice_url_parse(&parsed, url);
    if (error != DP_OK) {
        app_error("--ice-server %s: %s; it should look like stun:HOST[:PORT], "
                  "turn:HOST[:PORT][?transport=tcp] or turns:HOST[:PORT]",
                  url, error == DP_ERR_UNSUPPORTED ? "no such kind of server is known" : "can't be read");
        return false;
    }
    o->urls[o->url_count++] = url;
    return true;
}

bool network_add_bind(network_options *o, const char *text)
{
    dp_address *address = &o->binds[o->bind_count];
    size_t count = 0;
    if (o->bind_count == NETWORK_MAX_BINDS) {
        app_error("more than %d times --bind", NETWORK_MAX_BINDS);
        return false;
    }
    int error = dp_address_parse(address, text, 0);
    if (error != DP_OK && strchr(text, '%') != NULL) /* fe80::1%eth0 */
        error = dp_resolve(text, 0, address, 1, &count);
    if (error != DP_OK) {
        app_error("--bind %s: that is no IP address; 'ip address' lists those of this machine", text);
        return false;
    }
    o->bind_count++;
    return true;
}

static bool parse_port(const char *text, size_t len, long least, uint16_t *port)
{
    char digits[6] = "", *end;
    if (len == 0 || len >= sizeof(digits) || text[0] < '0' || text[0] > '9')
        return false;
    memcpy(digits, text, len);
    long number = strtol(digits, &end, 10);
    *port = (uint16_t)number;
    return *end == '\0' && number >= least && number <= 65535;
}

bool network_set_port(network_options *o, const char *text)
{
    o->port_given = true;
    if (parse_port(text, strlen(text), 0, &o->port))
        return true;
    app_error("'%s' is no port; it should be a number from 1 to 65535", text);
    return false;
}

bool network_set_port_range(network_options *o, const char *text)
{
    const char *dash = strchr(text, '-');
    if (dash != NULL && parse_port(text, (size_t)(dash - text), 1, &o->port_min) &&
        parse_port(dash + 1, strlen(dash + 1), 1, &o->port_max) && o->port_min <= o->port_max)
        return true;
    app_error("--port-range %s: it should look like 50000-50100", text);
    return false;
}

bool network_set_mtu(size_t *out, const char *text)
{
    char *end;
    errno = 0;
    unsigned long size = strtoul(text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && size != 0 &&
        dp_pc_datagram_size_valid(size)) {
        *out = size;
        return true;
    }
    app_error("--mtu %s: it should be a number of bytes from 600 to 16384", text);
    return false;
}

/* ---- all of them ---- */

static bool any_turn(const network_options *o)
{
    dp_ice_url url;
    for (size_t i = 0; i < o->url_count; i++)
        if (dp_ice_url_parse(&url, o->urls[i]) == DP_OK && url.turn)
            return true;
    return false;
}

/* The last colon: user names of TURN's time-limited credentials hold one themselves ("1893456000:alice"). */
static bool split_user(const char *text, ice_servers *out)
{
    const char *colon = text != NULL ? strrchr(text, ':') : NULL;
    if (colon == NULL || colon == text || (size_t)(colon - text) >= sizeof(out->username) ||
        strlen(colon + 1) >= sizeof(out->credential))
        return false;
    snprintf(out->username, sizeof(out->username), "%.*s", (int)(colon - text), text);
    snprintf(out->credential, sizeof(out->credential), "%s", colon + 1);
    return true;
}

bool network_check(const network_options *o, const char *command)
{
    ice_servers ignored;
    bool turn = any_turn(o);
    bool user = split_user(o->turn_user, &ignored);
    if (o->lite && strcmp(command, "serve") != 0)
        app_error("--lite is for 'datapeer serve' alone: somebody has to look for the way");
    else if (o->lite && o->relay_only)
        app_error("--lite is for servers with a public address, --relay-only for those who hide theirs");
    else if (o->turn_user != NULL && !user)
        app_error("--turn-user (or TURN_USER) should look like USER:PASSWORD");
    else if (turn && !user)
        app_error("a TURN server wants to know who we are: give --turn-user USER:PASSWORD, or set TURN_USER");
    else if (o->relay_only && !turn)
        app_error("--relay-only needs a TURN server: --ice-server turn:HOST");
    else
        return true;
    return false;
}

bool network_resolve(ice_servers *out, const network_options *o)
{
    memset(out, 0, sizeof(*out));
    (void)split_user(o->turn_user, out);
    bool turn = false;
    for (size_t i = 0; i < o->url_count; i++) {
        dp_address addresses[DP_PEER_MAX_ICE_SERVERS];
        size_t count = 0;
        /* All addresses of each, as long as every later one gets a place. */
        size_t room = DP_PEER_MAX_ICE_SERVERS - out->count - (o->url_count - i - 1);
        dp_ice_url *url = &out->urls[i];
        int error = dp_ice_url_parse(url, o->urls[i]);
        if (error == DP_OK)
            error = dp_resolve(url->host, url->port, addresses, room, &count);
        out->missing += error != DP_OK;
        if (error != DP_OK)
            app_error("--ice-server %s can't be found (%s): going on without it", o->urls[i],
                      dp_strerror(error));
        for (size_t j = 0; j < count; j++) {
            turn |= url->turn;
            out->servers[out->count++] = (dp_ice_server){.size = sizeof(dp_ice_server),
                                                         .turn = url->turn,
                                                         .transport = url->transport,
                                                         .address = addresses[j],
                                                         .name = url->host,
                                                         .username = url->turn ? out->username : NULL,
                                                         .credential = url->turn ? out->credential : NULL};
        }
    }
    if (o->relay_only && !turn)
        app_error("--relay-only, and no TURN server can be found: there is no way to anybody");
    return !o->relay_only || turn;
}
