/* datapeer get, in a child process, against a device that lies. */
#include "../peer/server.h"

#include "apps/app.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct lie {
    uint64_t total; /* what is told... */
    size_t sent;    /* ...and what comes */
    int exit_code;
    size_t left;
} lie;

static dp_router *router;

static int read_lie(void *user, uint8_t *out, size_t capacity, size_t *len)
{
    lie *l = user;
    *len = l->left < capacity ? l->left : capacity;
    memset(out, 'x', *len);
    l->left -= *len;
    return DP_OK;
}

static void fs_read(void *user, dp_call *call)
{
    lie *l = user;
    l->left = l->sent;
    dp_stream stream = {.size = sizeof(stream), .read = read_lie, .user = l, .total = l->total};
    assert_int_equal(dp_call_stream(call, &stream), DP_OK);
}

static void on_connection(void *user, dp_peer *peer, dp_connection *conn)
{
    (void)user;
    (void)peer;
    assert_int_equal(dp_connection_use_rpc(conn, router), DP_OK);
}

static void on_open(void *user, dp_peer *peer, const char *id)
{
    (void)peer;
    (void)id;
    *(bool *)user = true;
}

static pid_t start_get(uint16_t port, const char *target)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child > 0)
        return child;
    char url[64], get[] = "get", path[] = "device:file", o[] = "-o", server_option[] = "--server", name[64];
    snprintf(url, sizeof(url), "ws://127.0.0.1:%u/", port);
    snprintf(name, sizeof(name), "%s", target);
    char *argv[] = {get, path, o, name, server_option, url, NULL};
    int null = open("/dev/null", O_WRONLY);
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    _exit(cmd_get(6, argv));
}

static void a_file_that_is_not_whole_does_not_appear(void **state)
{
    (void)state;
    lie lies[] = {{UINT64_MAX, 100000, EXIT_OK, 0},
                  {100000, 100000, EXIT_OK, 0},
                  {100001, 100000, EXIT_REMOTE, 0},
                  {1, 100000, EXIT_REMOTE, 0},
                  {0, 0, EXIT_OK, 0}};
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        char folder[] = "/tmp/datapeer-get-XXXXXX", target[64], url[64];
        dp_loop *loop;
        dp_csprng *csprng;
        dp_peer *peer;
        server peer_server;
        bool open = false;
        assert_non_null(mkdtemp(folder));
        snprintf(target, sizeof(target), "%s/file", folder);
        assert_int_equal(dp_loop_new(&loop), DP_OK);
        assert_int_equal(dp_csprng_new(&csprng), DP_OK);
        assert_int_equal(dp_router_new(&router), DP_OK);
        assert_int_equal(dp_router_register(router, "fs.read", fs_read, &lies[i]), DP_OK);
        server_start(&peer_server, loop);
        uint16_t port = dp_listener_local(peer_server.listener)->port;
        snprintf(url, sizeof(url), "ws://127.0.0.1:%u/", port);
        dp_peer_config config = {
            .size = sizeof(config),
            .loop = loop,
            .random = dp_csprng_source(csprng),
            .server = url,
            .id = "device",
            .include_loopback = true,
            .handler = {.on_open = on_open, .on_connection = on_connection, .user = &open}};
        assert_int_equal(dp_peer_new(&peer, &config), DP_OK);
        while (!open)
            assert_int_equal(dp_loop_step(loop, DP_SECONDS(1)), DP_OK);
        pid_t child = start_get(port, target);
        int status = 0;
        for (pid_t done = 0; done == 0; done = waitpid(child, &status, WNOHANG))
            assert_int_equal(dp_loop_step(loop, DP_MS(20)), DP_OK);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), lies[i].exit_code);
        struct stat st;
        assert_int_equal(stat(target, &st), lies[i].exit_code == EXIT_OK ? 0 : -1);
        if (lies[i].exit_code == EXIT_OK) {
            assert_int_equal(st.st_size, lies[i].sent);
            assert_int_equal(unlink(target), 0);
        }
        assert_int_equal(rmdir(folder), 0); /* nothing else was left either */
        dp_peer_destroy(peer);
        for (int round = 0; round < 8; round++)
            assert_int_equal(dp_loop_step(loop, 0), DP_OK);
        server_stop(&peer_server);
        assert_int_equal(dp_loop_step(loop, 0), DP_OK);
        dp_router_free(router);
        dp_loop_free(loop);
        dp_csprng_free(csprng);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_file_that_is_not_whole_does_not_appear)};
    return cmocka_run_group_tests_name("get", tests, NULL, NULL);
}
