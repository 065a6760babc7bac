/* The options of a PeerServer of our own: where they may stand, and what is refused with a reason. */
#include "capture.h"

#include "apps/app.h"
#include <stdlib.h>
#include <string.h>

static int options(app *a, const char *command, const char *const *arguments)
{
    char *argv[32] = {(char *)command};
    int argc = 1;
    for (; arguments[argc - 1] != NULL; argc++)
        argv[argc] = (char *)arguments[argc - 1];
    char **operands;
    int count;
    capture();
    int code = app_options(a, argc, argv, "help", &operands, &count);
    end_capture();
    return code;
}

#define OPTIONS(a, command, ...) options(a, command, (const char *const[]){__VA_ARGS__, NULL})

static void takes_all_of_them(void **state)
{
    (void)state;
    app a;
    assert_int_equal(OPTIONS(&a, "serve", "dir", "--host", "127.0.0.1", "--host", "::1", "--path", "/disk",
                             "--tls-cert", "c", "--tls-key", "k", "--concurrent-limit", "7",
                             "--alive-timeout", "1000", "--expire-timeout", "2000", "--connection-rate", "0",
                             "--message-rate", "9", "--allow-discovery", "--metrics", "--port", "9001"),
                     EXIT_OK);
    const signal_options *o = &a.signal;
    assert_int_equal(o->host_count, 2);
    assert_string_equal(o->hosts[1], "::1");
    assert_string_equal(o->path, "/disk");
    assert_string_equal(o->tls_cert, "c");
    assert_string_equal(o->tls_key, "k");
    assert_true(o->allow_discovery && o->metrics);
    assert_int_equal(o->concurrent_limit, 7);
    assert_int_equal(o->alive_timeout, 1000);
    assert_int_equal(o->expire_timeout, 2000);
    assert_int_equal(o->connection_rate, 0);
    assert_int_equal(o->message_rate, 9);
    assert_false(a.way.named);
    assert_false(o->stun);

    assert_int_equal(OPTIONS(&a, "serve", "dir"), EXIT_OK);
    assert_null(o->given);
    assert_int_equal(o->connection_rate, 50);
    assert_int_equal(o->message_rate, 100);

    assert_int_equal(OPTIONS(&a, "serve", "--stun", "dir"), EXIT_OK); /* no argument of its own */
    assert_true(o->stun);
    assert_int_equal(o->stun_port, 3478);
    assert_int_equal(OPTIONS(&a, "serve", "--stun=3479", "dir"), EXIT_OK);
    assert_int_equal(o->stun_port, 3479);
}

static void refuses_with_a_reason(void **state)
{
    (void)state;
    static const struct {
        const char *command;
        const char *arguments[20];
        const char *reason;
    } wrong[] = {
        {"ls", {"--host", "::1"}, "--host is about a PeerServer of our own, which 'datapeer serve'"},
        {"get", {"--metrics"}, "--metrics is about a PeerServer of our own"},
        {"serve",
         {"--path", "/", "--server", "ws://x/"},
         "--path is about a PeerServer of our own, but ws://x/"},
        {"serve", {"--metrics", "--cloud"}, "is named: give one of them"},
        {"ls", {"--page", "x"}, "--page is about a PeerServer of our own"},
        {"ls", {"--allow-origin", "http://x"}, "--allow-origin is about a PeerServer of our own"},
        {"serve", {"--allow-origin", "nas.example"}, "--allow-origin must be http://HOST[:PORT]"},
        {"serve", {"--allow-origin", "http://x/"}, "without a path"},
        {"serve", {"--allow-origin", "http://"}, "without a path"},
        {"serve", {"--insecure"}, "are about another PeerServer"},
        {"serve", {"--proxy", "none"}, "are about another PeerServer"},
        {"serve", {"--tcp", "--port", "7000"}, "--tcp takes TCP port 7000"},
        {"serve", {"--tls-cert", "c"}, "belong together"},
        {"serve", {"--tls-key", "k"}, "belong together"},
        {"serve",
         {"--concurrent-limit", "0"},
         "--concurrent-limit must be a number from 1 to 1000000, not '0'"},
        {"serve", {"--alive-timeout", "1s"}, "--alive-timeout must be"},
        {"serve", {"--expire-timeout", "-1"}, "--expire-timeout must be"},
        {"serve", {"--connection-rate", ""}, "--connection-rate must be"},
        {"serve", {"--message-rate", "1000001"}, "--message-rate must be"},
        {"serve", {"--stun=65536"}, "--stun must be a number from 0 to 65535"},
        {"serve", {"--stun="}, "--stun must be"},
        {"serve", {"--stun", "--server", "ws://x/"}, "--stun is about a PeerServer of our own"},
        {"get", {"--stun"}, "--stun is about a PeerServer of our own"},
        {"serve",
         {"--host", "1", "--host", "2", "--host", "3", "--host", "4", "--host", "5", "--host", "6", "--host",
          "7", "--host", "8", "--host", "9"},
         "at most 8 addresses"},
    };
    app a;
    assert_int_equal(
        OPTIONS(&a, "serve", "--tcp", "--port", "7000", "--server", "ws://x/", "--proxy", "none"), EXIT_OK);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(options(&a, wrong[i].command, wrong[i].arguments), EXIT_USAGE);
        if (strstr(captured_text, wrong[i].reason) == NULL)
            fail_msg("%s: %s", wrong[i].arguments[0], captured_text);
    }
    setenv("PEER_SERVER_URL", "ws://environment/", 1);
    assert_int_equal(OPTIONS(&a, "serve", "--metrics"), EXIT_USAGE);
    assert_non_null(strstr(captured_text, "but ws://environment/ is named"));
    unsetenv("PEER_SERVER_URL");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_all_of_them),
        cmocka_unit_test(refuses_with_a_reason),
    };
    unsetenv("PEER_SERVER_URL");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
