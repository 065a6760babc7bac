/* What idle clients of `datapeer signal` cost with TLS: memory, and the server's processor time for a handshake. The clients are
 * this library's. One JSON object.
 *
 *   signal_tls [--clients N] */
#include "signal_server.h"
#include <datapeer/datapeer.h>

enum { AT_ONCE = 32 }; /* that are being made */

static dp_loop *loop;
static dp_csprng *csprng;
static program server;
static int clients = 1000, begun, joined;

static void on_connected(void *user, dp_tcp *tcp)
{
    char id[32], text[512];
    (void)user;
    snprintf(id, sizeof(id), "client%d", begun++);
    size_t len = upgrade_request(text, sizeof(text), id);
    need(dp_tcp_send(tcp, (const uint8_t *)text, len) == DP_OK, "send");
}

static void on_data(void *user, dp_tcp *tcp, const uint8_t *data, size_t len)
{
    (void)user;
    (void)tcp;
    static const char end[] = "\"OPEN\"}";
    joined += len >= sizeof(end) - 1 && memcmp(data + len - (sizeof(end) - 1), end, sizeof(end) - 1) == 0;
}

static void on_closed(void *user, dp_tcp *tcp, int error, const char *reason)
{
    (void)user;
    (void)tcp;
    (void)error;
    fprintf(stderr, "%s\n", reason);
    exit(1);
}

static dp_tcp *dial_tls(void)
{
    static const dp_tcp_handler handler = {
        .on_connected = on_connected, .on_data = on_data, .on_closed = on_closed};
    dp_tcp *tcp;
    dp_tls_options options = {.size = sizeof(options),
                              .server_name = "localhost",
                              .insecure = true,
                              .random = dp_csprng_source(csprng)};
    need(dp_tcp_connect(&tcp, loop, "127.0.0.1", server.port, DP_SECONDS(20), &handler) == DP_OK &&
             dp_tcp_start_tls(tcp, &options) == DP_OK,
         "connect");
    return tcp;
}

static void start_server(void)
{
    char folder[] = "/tmp/datapeer-bench-XXXXXX", certificate[64], key[64], limit[32], command[512];
    need(mkdtemp(folder) != NULL, "mkdtemp");
    snprintf(certificate, sizeof(certificate), "%s/cert.pem", folder);
    snprintf(key, sizeof(key), "%s/key.pem", folder);
    snprintf(limit, sizeof(limit), "%d", clients + 100);
    snprintf(
        command, sizeof(command),
        "umask 077; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout %s -out %s "
        "-days 2 -subj /CN=localhost 2>/dev/null",
        key, certificate);
    need(system(command) == 0, "openssl");
    const char *const argv[] = {"datapeer",
                                "signal",
                                "--host",
                                "127.0.0.1",
                                "--port",
                                "0",
                                "--concurrent-limit",
                                limit,
                                "--alive-timeout",
                                "86400000",
                                "--connection-rate",
                                "0",
                                "--tls-cert",
                                certificate,
                                "--tls-key",
                                key,
                                NULL};
    server = start_program(argv);
    unlink(certificate);
    unlink(key);
    rmdir(folder);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"clients", required_argument, NULL, 'c'}, {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == '?')
            return 2;
        clients = atoi(optarg);
    }
    clients = raise_descriptors(clients);
    need(dp_loop_new(&loop) == DP_OK && dp_csprng_new(&csprng) == DP_OK, "the loop");
    start_server();
    double before = 0, cpu = 0;
    dp_tcp **streams = calloc((size_t)clients, sizeof(dp_tcp *));
    need(streams != NULL, "calloc");
    for (int dialled = 0; joined < clients;) {
        if (joined >= AT_ONCE &&
            before == 0) { /* the first ones bring the libraries' pages and the table's memory */
            before = resident_KB(server.pid);
            cpu = cpu_seconds(server.pid);
        }
        while (dialled < clients && dialled - joined < AT_ONCE)
            streams[dialled++] = dial_tls();
        need(dp_loop_step(loop, DP_MS(100)) == DP_OK, "the loop");
    }
    cpu = cpu_seconds(server.pid) - cpu;
    double after = resident_KB(server.pid);
    printf("{\"server\":\"datapeer signal, TLS\",\"clients\":%d,\"rss_MB\":%.1f,\"KB_per_client\":%.2f,"
           "\"cpu_ms_per_join\":%.2f}\n",
           clients, after / 1024, (after - before) / (clients - AT_ONCE), cpu * 1e3 / (clients - AT_ONCE));
    for (int i = 0; i < clients; i++)
        dp_tcp_close(streams[i]);
    free(streams);
    stop_program(&server);
    dp_loop_free(loop);
    dp_csprng_free(csprng);
    return 0;
}
