/* The options about the network: what is taken, and what is refused with a reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "apps/app.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char said[1024]; /* on standard error during the last call of options */

static int options(app *a, const char *command, const char *const *arguments)
{
    char *argv[32] = {(char *)command};
    int argc = 1;
    for (; arguments[argc - 1] != NULL; argc++)
        argv[argc] = (char *)arguments[argc - 1];
    FILE *file = tmpfile();
    assert_non_null(file);
    fflush(stderr);
    int saved = dup(STDERR_FILENO);
    assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
    char **operands;
    int count;
    int code = app_options(a, argc, argv, "help", &operands, &count);
    fflush(stderr);
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    close(saved);
    rewind(file);
    size_t len = fread(said, 1, sizeof(said) - 1, file);
    said[len] = '\0';
    fclose(file);
    return code;
}

#define OPTIONS(a, command, ...) options(a, command, (const char *const[]){__VA_ARGS__, NULL})

static void takes_all_of_them(void **state)
{
    (void)state;
    app a;
    assert_int_equal(OPTIONS(&a, "serve", "dir", "--ice-server", "stun:192.0.2.1", "--ice-server",
                             "turns:[2001:db8::1]:443", "--turn-user", "1893456000:alice:pass", "--turn-ca",
                             "x.pem", "--relay-only", "--hide-addresses", "--bind", "192.0.2.7", "--bind",
                             "::1", "--port", "4000", "--mtu", "1400"),
                     EXIT_OK);
    const network_options *net = &a.network;
    assert_int_equal(net->url_count, 2);
    assert_string_equal(net->turn_ca, "x.pem");
    assert_true(net->relay_only && net->hide_addresses && !net->lite);
    assert_int_equal(net->bind_count, 2);
    assert_int_equal(net->binds[1].family, DP_FAMILY_IPV6);
    assert_int_equal(net->port, 4000);
    assert_int_equal(net->datagram_size, 1400);
    ice_servers ice;
    assert_true(network_resolve(&ice, net));
    assert_int_equal(ice.count, 2);
    assert_false(ice.servers[0].turn);
    assert_null(ice.servers[0].credential);
    assert_int_equal(ice.servers[0].address.port, 3478);
    assert_true(ice.servers[1].turn && ice.servers[1].transport == DP_ICE_TLS);
    assert_int_equal(ice.servers[1].address.port, 443);
    assert_string_equal(ice.servers[1].name, "2001:db8::1");
    assert_string_equal(ice.servers[1].username, "1893456000:alice");
    assert_string_equal(ice.servers[1].credential, "pass");
    assert_int_equal(OPTIONS(&a, "get", "--port-range", "5000-5000"), EXIT_OK);
    assert_int_equal(a.network.port_min, 5000);
    assert_int_equal(a.network.port_max, 5000);
    assert_int_equal(OPTIONS(&a, "serve", "--lite"), EXIT_OK);
    assert_true(a.network.lite);
}

static void takes_the_user_from_the_environment(void **state)
{
    (void)state;
    app a;
    ice_servers ice;
    assert_int_equal(setenv("TURN_USER", "bob:secret", 1), 0);
    assert_int_equal(OPTIONS(&a, "get", "--ice-server", "turn:192.0.2.1"), EXIT_OK);
    assert_int_equal(unsetenv("TURN_USER"), 0);
    assert_true(network_resolve(&ice, &a.network));
    assert_string_equal(ice.servers[0].username, "bob");
}

static void says_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *arguments[8];
        const char *said;
    } cases[] = {
        {{"--ice-server", "http://x"}, "should look like stun:HOST"},
        {{"--ice-server", "stun:"}, "can't be read"},
        {{"--ice-server", "turn:h?transport=sctp"}, "no such kind"},
        {{"--ice-server", "turn:h"}, "--turn-user USER:PASSWORD"},
        {{"--turn-user", "alice"}, "USER:PASSWORD"},
        {{"--turn-user", ":secret"}, "USER:PASSWORD"},
        {{"--relay-only"}, "needs a TURN server"},
        {{"--relay-only", "--ice-server", "stun:h"}, "needs a TURN server"},
        {{"--bind", "localhost"}, "no IP address"},
        {{"--bind", "1.2.3"}, "no IP address"},
        {{"--port", "65536"}, "is no port"},
        {{"--port", "-1"}, "is no port"},
        {{"--port", ""}, "is no port"},
        {{"--port-range", "5-4"}, "50000-50100"},
        {{"--port-range", "0-4"}, "50000-50100"},
        {{"--port-range", "5"}, "50000-50100"},
        {{"--port-range", "5-4x"}, "50000-50100"},
        {{"--mtu", "599"}, "600 to 16384"},
        {{"--mtu", "16385"}, "600 to 16384"},
        {{"--mtu", "0"}, "600 to 16384"},
        {{"--mtu", "1200x"}, "600 to 16384"},
        {{"--mtu", "-1200"}, "600 to 16384"},
        {{"--lite"}, "serve"},
        {{"--server", "gopher://x/"}, "no server address"},
        {{"--server", "wss://x/", "--cloud"}, "--cloud and --server"},
        {{"--insecure", "--cafile", "x"}, "makes no sense"},
        {{"--cloud", "--cafile", "/nowhere/ca.pem"}, "/nowhere/ca.pem: No such file"},
        {{"--proxy", "socks5://u:secret@h"}, "--proxy: only HTTP proxies"},
        {{"--proxy", "http://u:secret@h:x"}, "--proxy: that is no proxy"},
    };
    app a;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int code = options(&a, "get", cases[i].arguments);
        if (code != EXIT_USAGE || strstr(said, cases[i].said) == NULL)
            fail_msg("%s %s: %d, %s", cases[i].arguments[0], cases[i].arguments[1], code, said);
        assert_null(strstr(said, "secret"));
    }
    assert_int_equal(
        OPTIONS(&a, "serve", "--lite", "--relay-only", "--ice-server", "turn:h", "--turn-user", "a:b"),
        EXIT_USAGE);
}

static const char *const variables[] = {"http_proxy",  "HTTP_PROXY", "https_proxy",
                                        "HTTPS_PROXY", "all_proxy",  "ALL_PROXY",
                                        "no_proxy",    "NO_PROXY",   "SSL_CERT_FILE"};

static void forget_the_environment(void)
{
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++)
        assert_int_equal(unsetenv(variables[i]), 0);
}

static void finds_the_way_to_the_server(void **state)
{
    (void)state;
    static const struct {
        const char *environment[3]; /* NAME=VALUE */
        const char *arguments[5];
        const char *proxy;
    } cases[] = {
        {{NULL}, {"--server", "wss://peers.example/"}, NULL},
        {{"https_proxy=http://p:1"}, {"--server", "wss://peers.example/"}, "http://p:1"},
        {{"HTTPS_PROXY=p:1"}, {"--server", "wss://peers.example/"}, "p:1"},
        {{"HTTPS_PROXY=upper", "https_proxy=lower"}, {"--server", "wss://peers.example/"}, "lower"},
        {{"https_proxy=p"}, {"--server", "ws://peers.example/"}, NULL},
        {{"http_proxy=p"}, {"--server", "wss://peers.example/"}, NULL},
        {{"http_proxy=p"}, {"--server", "ws://peers.example/"}, "p"},
        {{"HTTP_PROXY=p"}, {"--server", "ws://peers.example/"}, NULL},
        {{"all_proxy=all", "https_proxy=tls"}, {"--cloud"}, "tls"},
        {{"all_proxy=all", "http_proxy=plain"}, {"--cloud"}, "all"},
        {{"ALL_PROXY=all"}, {"--server", "ws://peers.example/"}, "all"},
        {{"https_proxy=p", "no_proxy=other,.example"}, {"--server", "wss://peers.example/"}, NULL},
        {{"https_proxy=p", "NO_PROXY=*"}, {"--server", "wss://peers.example/"}, NULL},
        {{"https_proxy=p", "no_proxy=other"}, {"--server", "wss://peers.example/"}, "p"},
        {{"all_proxy=p"}, {"--server", "wss://localhost/"}, NULL},
        {{"all_proxy=p"}, {"--server", "ws://127.9.9.9/"}, NULL},
        {{"all_proxy=p"}, {"--server", "wss://[::1]/"}, NULL},
        {{"all_proxy=p"}, {"--server", "wss://127.9.9.9/", "--proxy", "q"}, "q"},
        {{"all_proxy=p", "no_proxy=*"}, {"--cloud", "--proxy", "q"}, "q"},
        {{"all_proxy=p"}, {"--cloud", "--proxy", "none"}, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        app a;
        forget_the_environment();
        for (size_t j = 0; cases[i].environment[j] != NULL; j++)
            assert_int_equal(putenv((char *)cases[i].environment[j]), 0);
        assert_int_equal(options(&a, "ls", cases[i].arguments), EXIT_OK);
        if (cases[i].proxy == NULL ? a.way.proxy != NULL
                                   : a.way.proxy == NULL || strcmp(a.way.proxy, cases[i].proxy) != 0)
            fail_msg("case %zu: %s", i, a.way.proxy != NULL ? a.way.proxy : "none");
    }
    app a;
    forget_the_environment();
    assert_int_equal(setenv("all_proxy", "socks5://u:secret@h", 1), 0);
    assert_int_equal(OPTIONS(&a, "ls", "--cloud"), EXIT_USAGE);
    assert_non_null(strstr(said, "all_proxy: only HTTP proxies"));
    assert_null(strstr(said, "secret"));
    forget_the_environment();
    assert_int_equal(OPTIONS(&a, "ls", "x"), EXIT_OK);
    assert_string_equal(a.server, "ws://127.0.0.1:9000/");
    assert_int_equal(OPTIONS(&a, "ls", "--cloud"), EXIT_OK);
    assert_string_equal(a.server, "wss://0.peerjs.com:443/");
    assert_null(a.way.ca_file);
    assert_string_equal(said, "");
    assert_int_equal(setenv("SSL_CERT_FILE", "/dev/null", 1), 0);
    assert_int_equal(OPTIONS(&a, "ls", "--cloud"), EXIT_OK);
    assert_string_equal(a.way.ca_file, "/dev/null");
    assert_int_equal(OPTIONS(&a, "ls", "--cloud", "--cafile", "/dev/zero"), EXIT_OK);
    assert_string_equal(a.way.ca_file, "/dev/zero");
    forget_the_environment();
    for (int i = 0; i < 2; i++) { /* each time */
        assert_int_equal(OPTIONS(&a, "ls", "--cloud", "--insecure"), EXIT_OK);
        assert_non_null(strstr(said, "warning: --insecure: nobody checks that 0.peerjs.com is that server"));
    }
    assert_int_equal(OPTIONS(&a, "ls", "--insecure"), EXIT_OK); /* ws:// has nothing to check */
    assert_string_equal(said, "");
}

/* A name with many addresses leaves room for the servers behind it; one that can't be found is left out. */
static void shares_the_places(void **state)
{
    (void)state;
    network_options net = {0};
    for (int i = 0; i < DP_PEER_MAX_ICE_SERVERS; i++)
        assert_true(network_add_server(&net, i == 7 ? "stun:192.0.2.7" : "stun:localhost"));
    ice_servers ice;
    assert_true(network_resolve(&ice, &net));
    assert_int_equal(ice.count, DP_PEER_MAX_ICE_SERVERS);
    assert_string_equal(ice.servers[7].name, "192.0.2.7");
    net = (network_options){.urls = {"stun:a b", "stun:192.0.2.7"}, .url_count = 2};
    assert_true(network_resolve(&ice, &net));
    assert_int_equal(ice.count, 1);
    assert_int_equal(ice.missing, 1);
    net = (network_options){.urls = {"turn:a b"}, .url_count = 1, .relay_only = true};
    assert_false(network_resolve(&ice, &net));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_all_of_them),  cmocka_unit_test(takes_the_user_from_the_environment),
        cmocka_unit_test(says_what_is_wrong), cmocka_unit_test(finds_the_way_to_the_server),
        cmocka_unit_test(shares_the_places),
    };
    return cmocka_run_group_tests_name("network options", tests, NULL, NULL);
}
