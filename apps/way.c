#include "way.h"

#include "app.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_SERVER "ws://127.0.0.1:9000/"

const char way_help[] =
    "The PeerServer:\n"
    "  --server URL           wss://HOST[:PORT]/PATH, or ws:// without TLS (default: $PEER_SERVER_URL, or\n"
    "                         for serve one of its own, for others " DEFAULT_SERVER ")\n"
    "  --cloud                the one that PeerJS's makers run for everybody\n"
    "  --cafile FILE          certificates (PEM) that may vouch for it, instead of the system's\n"
    "                         (default: $SSL_CERT_FILE)\n"
    "  --insecure             take any certificate: whoever is on the way can read and change all\n"
    "  --proxy URL|none       http://[USER:PASSWORD@]HOST:PORT (default: $https_proxy for wss, $http_proxy\n"
    "                         for ws, $all_proxy; not for the hosts in $no_proxy, nor for this machine)\n";

static const char *from_environment(const char *name)
{
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? text : NULL;
}

/* Those that curl knows, in its order. HTTP_PROXY is missing: a CGI program gets a client's header field by it. */
static const char *proxy_variable(bool secure)
{
    static const char *const for_tls[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", NULL};
    static const char *const plain[] = {"http_proxy", "all_proxy", "ALL_PROXY", NULL};
    const char *const *name = secure ? for_tls : plain;
    while (*name != NULL && from_environment(*name) == NULL)
        name++;
    return *name;
}

static bool needs_no_proxy(const char *host)
{
    const char *list = from_environment("no_proxy");
    list = list != NULL ? list : from_environment("NO_PROXY");
    return dp_no_proxy("localhost, 127.0.0.0/8, ::1", host) || (list != NULL && dp_no_proxy(list, host));
}

/* from: where it was said; what was said may hold a password. */
static bool check_proxy(const char *proxy, const char *from)
{
    dp_proxy parsed;
    int error = dp_proxy_parse(&parsed, proxy);
    memset(&parsed, 0, sizeof(parsed));
    if (error == DP_ERR_UNSUPPORTED)
        app_error("%s: only HTTP proxies can be used (http://HOST:PORT); --proxy none goes without", from);
    else if (error != DP_OK)
        app_error("%s: that is no proxy; it should look like http://[USER:PASSWORD@]HOST:PORT", from);
    return error == DP_OK;
}

static bool find_proxy(way *out, const way_options *o, const dp_server_url *url)
{
    if (o->proxy != NULL) {
        out->proxy = strcmp(o->proxy, "none") != 0 ? o->proxy : NULL;
        return out->proxy == NULL || check_proxy(out->proxy, "--proxy");
    }
    const char *variable = proxy_variable(url->secure);
    if (variable == NULL || needs_no_proxy(url->host))
        return true;
    out->proxy = from_environment(variable);
    return check_proxy(out->proxy, variable);
}

static bool check_ca_file(const char *path)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        app_error("--cafile (or SSL_CERT_FILE) %s: %s", path, strerror(errno));
        return false;
    }
    fclose(file);
    return true;
}

bool way_find(way *out, const way_options *o)
{
    dp_server_url url;
    *out = (way){.server = o->server != NULL ? o->server : from_environment("PEER_SERVER_URL"),
                 .ca_file = o->ca_file != NULL ? o->ca_file : from_environment("SSL_CERT_FILE")};
    if (o->cloud)
        out->server = DP_PEER_CLOUD;
    out->named = out->server != NULL;
    if (!out->named)
        out->server = DEFAULT_SERVER;
    if (o->cloud && o->server != NULL) {
        app_error("--cloud and --server both name a PeerServer: give one of them");
        return false;
    }
    if (o->insecure && o->ca_file != NULL) {
        app_error("--insecure asks for no certificate's authority, so --cafile makes no sense with it");
        return false;
    }
    if (dp_server_url_parse(&url, out->server) != DP_OK) {
        app_error("'%s' is no server address; it should look like wss://host/ or ws://host:9000/",
                  out->server);
        return false;
    }
    if (url.secure && o->insecure)
        app_error(
            "warning: --insecure: nobody checks that %s is that server; whoever is on the way can read and "
            "change what is said to it",
            url.host);
    return (!url.secure || o->insecure || out->ca_file == NULL || check_ca_file(out->ca_file)) &&
           find_proxy(out, o, &url);
}

void way_explain(const char *message)
{
    static const struct {
        const char *part;
        const char *advice;
    } known[] = {
        {"self-signed", "if it is the right server, give its certificate (PEM) with --cafile FILE"},
        {"not signed by a known authority",
         "if it is the right server, give the certificate (PEM) of its authority with --cafile FILE"},
        {" is for ", "name the server as its certificate does, or give it a certificate for this name"},
        {"names no host", "the server needs a certificate with its name in it (subjectAltName)"},
        {"clock is wrong", "compare with 'date'; if that is right, the server needs a new certificate"},
        {"does not speak TLS", "is that the right port? ws:// is for servers without TLS"},
        {"wants a user name", "give them with https_proxy or --proxy, as http://USER:PASSWORD@HOST:PORT"},
        {"the proxy", "is the proxy right? --proxy none goes without, --proxy URL through another one"},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strstr(message, known[i].part) != NULL) {
            app_error("%s", known[i].advice);
            return;
        }
    app_error("is it running? Name another with --server wss://HOST/ or ws://HOST:PORT/");
}
