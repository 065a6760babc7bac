/* The smallest peer: sends every value back to whoever calls it. A page: new
 * Peer().connect("echo-1").send("hello") */
#include <datapeer/datapeer.h>
#include <stdio.h>

static void on_data(void *user, dp_connection *conn, dp_message *message)
{
    (void)user;
    if (message->type == DP_MESSAGE_VALUE)
        dp_connection_send(conn, message->value);
}

static void on_connection(void *user, dp_peer *peer, dp_connection *conn)
{
    (void)user, (void)peer;
    dp_connection_set_handler(conn, &(dp_connection_handler){.on_data = on_data});
}

int main(int argc, char **argv)
{
    dp_loop *loop;
    dp_csprng *csprng;
    dp_peer *peer;
    if (dp_loop_new(&loop) != DP_OK || dp_csprng_new(&csprng) != DP_OK)
        return 1;
    dp_peer_config config = {.size = sizeof(config),
                             .loop = loop,
                             .random = dp_csprng_source(csprng),
                             .server = argc > 1 ? argv[1] : "ws://127.0.0.1:9000/",
                             .id = "echo-1",
                             .reconnect = true,
                             .handler = {.on_connection = on_connection}};
    int error = dp_peer_new(&peer, &config);
    if (error != DP_OK)
        return fprintf(stderr, "echo: %s\n", dp_strerror(error)), 1;
    return dp_loop_run(loop);
}
