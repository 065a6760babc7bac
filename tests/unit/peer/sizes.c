/* All that a program fills in and hands over, whichever version of the headers it was built with (docs/architecture.md, "Code"). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <datapeer/datapeer.h>
#include <stdlib.h>
#include <string.h>

static dp_loop *loop;
static dp_csprng *csprng;
static dp_certificate *certificate;
static dp_file_error file_error;

/* Each makes one object of a configuration, and ends it. */
#define MAKER(name, type, object, make, end)                                                                 \
    static int name(const void *given)                                                                       \
    {                                                                                                        \
        const type *config = given;                                                                          \
        object *made = NULL;                                                                                 \
        int error = make;                                                                                    \
        if (error == DP_OK)                                                                                  \
            end;                                                                                             \
        return error;                                                                                        \
    }

static void end_peer(dp_peer *peer)
{
    dp_peer_destroy(peer);
    for (int i = 0; i < 10; i++)
        assert_int_equal(dp_loop_step(loop, 0), DP_OK);
}

static void on_event(void *user, const dp_pc_event *event)
{
    (void)user;
    (void)event;
}

static int read_nothing(void *user, uint8_t *out, size_t capacity, size_t *len)
{
    (void)user;
    (void)out;
    (void)capacity;
    *len = 0;
    return DP_OK;
}

MAKER(new_rpc, dp_rpc_config, dp_rpc, dp_rpc_new(&made, config), dp_rpc_free(made))
MAKER(new_dechunker, dp_dechunker_config, dp_dechunker, dp_dechunker_new(&made, config),
      dp_dechunker_free(made))
MAKER(new_ice, dp_ice_config, dp_ice, dp_ice_new(&made, config), dp_ice_free(made))
MAKER(new_mdns, dp_mdns_config, dp_mdns, dp_mdns_new(&made, config), dp_mdns_free(made))
MAKER(new_stun_server, dp_stun_server_config, dp_stun_server, dp_stun_server_new(&made, config),
      dp_stun_server_free(made))
MAKER(new_dtls, dp_dtls_config, dp_dtls, dp_dtls_new(&made, config), dp_dtls_free(made))
MAKER(new_sctp, dp_sctp_config, dp_sctp, dp_sctp_new(&made, config), dp_sctp_free(made))
MAKER(new_signaling, dp_signaling_config, dp_signaling, dp_signaling_new(&made, config),
      dp_signaling_free(made))
MAKER(new_signal_server, dp_signal_server_config, dp_signal_server, dp_signal_server_new(&made, config),
      dp_signal_server_free(made))
MAKER(new_pc, dp_pc_config, dp_pc, dp_pc_new(&made, config), dp_pc_free(made))
MAKER(new_pc_loop, dp_pc_loop_config, dp_pc_loop, dp_pc_loop_new(&made, config), dp_pc_loop_free(made))
MAKER(new_peer, dp_peer_config, dp_peer, dp_peer_new(&made, config), end_peer(made))
/* The files are not there: this is told only once the rest is right. */
MAKER(new_tls_server, dp_tls_server_config, dp_tls_server, dp_tls_server_new(&made, config, &file_error),
      dp_tls_server_free(made))

static int open_channel(const void *given)
{
    dp_sctp_config config = {.size = sizeof(config), .random = dp_csprng_source(csprng)};
    dp_sctp *sctp;
    dp_channel *channel;
    assert_int_equal(dp_sctp_new(&sctp, &config), DP_OK);
    int error = dp_sctp_open_channel(sctp, &channel, 0, given);
    dp_sctp_free(sctp);
    return error;
}

static int add_ice_server(const void *given)
{
    dp_ice_config config = {.size = sizeof(config), .random = dp_csprng_source(csprng)};
    dp_ice *ice;
    assert_int_equal(dp_ice_new(&ice, &config), DP_OK);
    int error = dp_ice_add_server(ice, given);
    dp_ice_free(ice);
    return error;
}

static dp_peer_config peer_config(void)
{
    return (dp_peer_config){.size = sizeof(dp_peer_config),
                            .loop = loop,
                            .random = dp_csprng_source(csprng),
                            .certificate = certificate,
                            .include_loopback = true,
                            .server = "ws://127.0.0.1:1/"};
}

static int call(const void *given)
{
    dp_peer_config config = peer_config();
    dp_peer *peer;
    dp_connection *conn;
    assert_int_equal(dp_peer_new(&peer, &config), DP_OK);
    int error = dp_peer_connect(peer, &conn, "somebody", given);
    end_peer(peer);
    return error;
}

static int start_tls(const void *given)
{
    dp_tcp_handler none = {NULL, NULL, NULL, NULL, NULL};
    dp_tcp *tcp;
    assert_int_equal(dp_tcp_connect(&tcp, loop, "127.0.0.1", 1, DP_SECONDS(1), &none), DP_OK);
    int error = dp_tcp_start_tls(tcp, given);
    dp_tcp_close(tcp);
    return error;
}

static int ask(const void *given)
{
    dp_rpc_config config = {.size = sizeof(config), .random = dp_csprng_source(csprng)};
    dp_rpc *rpc;
    assert_int_equal(dp_rpc_new(&rpc, &config), DP_OK);
    int error = dp_rpc_request(rpc, 0, given, NULL);
    dp_rpc_free(rpc);
    return error;
}

/* given, of which a caller knew known bytes; behind them lie others of its own. */
static int with_size(int (*make)(const void *), const void *given, size_t size, size_t known)
{
    uint8_t *block = malloc(size + 1000);
    assert_non_null(block);
    memset(block, 0xa5, size + 1000);
    memcpy(block, given, known < size ? known : size);
    memcpy(block, &known, sizeof(known));
    int error = make(block);
    free(block);
    return error;
}

/* given is complete; what comes from the first optional field on may be missing. */
static void takes_sizes(int (*make)(const void *), const void *given, size_t size, size_t optional,
                        int expected)
{
    assert_int_equal(make(given), expected);
    assert_int_equal(with_size(make, given, size, optional), expected);
    assert_int_equal(with_size(make, given, size, size + 1000), expected);
    assert_int_equal(with_size(make, given, size, optional - 1), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(with_size(make, given, size, 0), DP_ERR_INVALID_ARGUMENT);
}
#define TAKES_SIZES(make, config, optional, expected)                                                        \
    takes_sizes(make, &(config), sizeof(config),                                                             \
                (size_t)((uint8_t *)&(config).optional - (uint8_t *)&(config)), expected)

static void objects(void **state)
{
    (void)state;
    dp_random random = dp_csprng_source(csprng);
    dp_rpc_config rpc = {.size = sizeof(rpc), .random = random};
    TAKES_SIZES(new_rpc, rpc, log, DP_OK);
    dp_dechunker_config dechunker = {.size = sizeof(dechunker)};
    TAKES_SIZES(new_dechunker, dechunker, max_value_size, DP_OK);
    dp_ice_config ice = {.size = sizeof(ice), .random = random};
    TAKES_SIZES(new_ice, ice, log, DP_OK);
    dp_mdns_config mdns = {.size = sizeof(mdns), .random = random};
    TAKES_SIZES(new_mdns, mdns, log, DP_OK);
    dp_stun_server_config stun = {.size = sizeof(stun), .random = random};
    TAKES_SIZES(new_stun_server, stun, address_rate, DP_OK);
    dp_dtls_config dtls = {
        .size = sizeof(dtls), .random = random, .certificate = certificate, .role = DP_DTLS_CLIENT};
    TAKES_SIZES(new_dtls, dtls, mtu, DP_OK);
    dp_sctp_config sctp = {.size = sizeof(sctp), .random = random};
    TAKES_SIZES(new_sctp, sctp, log, DP_OK);
    dp_signal_server_config server = {.size = sizeof(server), .random = random};
    TAKES_SIZES(new_signal_server, server, log, DP_OK);
    dp_signaling_config signaling = {.size = sizeof(signaling), .random = random};
    assert_int_equal(dp_server_url_parse(&signaling.server, "ws://127.0.0.1:1/"), DP_OK);
    TAKES_SIZES(new_signaling, signaling, key, DP_OK);
}

static void connections(void **state)
{
    (void)state;
    dp_random random = dp_csprng_source(csprng);
    dp_pc_config pc = {.size = sizeof(pc), .random = random, .certificate = certificate};
    TAKES_SIZES(new_pc, pc, remote_fingerprint, DP_OK);
    dp_pc_loop_config run = {
        .size = sizeof(run), .loop = loop, .pc = pc, .include_loopback = true, .on_event = on_event};
    TAKES_SIZES(new_pc_loop, run, on_writable, DP_OK);
    dp_peer_config peer = peer_config();
    TAKES_SIZES(new_peer, peer, key, DP_OK);
    dp_tls_server_config tls = {
        .size = sizeof(tls), .certificate_file = "/nowhere/c", .key_file = "/nowhere/k", .random = random};
    TAKES_SIZES(new_tls_server, tls, log, DP_ERR_NOT_FOUND);
}

static void arguments(void **state)
{
    (void)state;
    dp_channel_init init = DP_CHANNEL_INIT("label");
    TAKES_SIZES(open_channel, init, max_retransmits, DP_OK);
    dp_ice_server server = {.size = sizeof(server)};
    assert_int_equal(dp_address_parse(&server.address, "192.0.2.1", 3478), DP_OK);
    TAKES_SIZES(add_ice_server, server, name, DP_OK);
    dp_connect_options options = {.size = sizeof(options)};
    TAKES_SIZES(call, options, label, DP_OK);
    dp_tls_options tls = {.size = sizeof(tls),
                          .server_name = "localhost",
                          .insecure = true,
                          .random = dp_csprng_source(csprng)};
    TAKES_SIZES(start_tls, tls, log, DP_OK);
    dp_request request = {.size = sizeof(request), .action = "a"};
    TAKES_SIZES(ask, request, body, DP_OK);
}

/* Those of an array lie as far apart as in the program that made it. */
static void arrays_of_ice_servers(void **state)
{
    (void)state;
    static const size_t sizes[] = {offsetof(dp_ice_server, name), sizeof(dp_ice_server),
                                   sizeof(dp_ice_server) + 64};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        _Alignas(dp_ice_server) uint8_t array[3 * (sizeof(dp_ice_server) + 64)];
        memset(array, 0xa5, sizeof(array));
        for (size_t j = 0; j < 3; j++) {
            dp_ice_server server = {.size = sizes[i]};
            assert_int_equal(dp_address_parse(&server.address, "192.0.2.1", (uint16_t)(j + 1)), DP_OK);
            memcpy(array + j * sizes[i], &server, sizes[i] < sizeof(server) ? sizes[i] : sizeof(server));
        }
        dp_peer_config config = peer_config();
        config.ice_servers = (const dp_ice_server *)(const void *)array;
        config.ice_server_count = 3;
        dp_peer *peer;
        assert_int_equal(dp_peer_new(&peer, &config), DP_OK);
        end_peer(peer);
    }
}

/* dp_call_stream alone has a default that is not zero. */
static void act(void *user, dp_call *call)
{
    size_t *size = user;
    dp_stream stream = {.size = *size, .read = read_nothing};
    int expected = *size < offsetof(dp_stream, piece) ? DP_ERR_INVALID_ARGUMENT : DP_OK;
    stream.total = 0xa5; /* not known to whom piece was the first optional field */
    assert_int_equal(dp_call_stream(call, &stream), expected);
}

static void streams(void **state)
{
    (void)state;
    static const size_t sizes[] = {offsetof(dp_stream, piece), offsetof(dp_stream, piece) - 1, 0};
    for (size_t i = 0; i < 3; i++) {
        size_t size = sizes[i];
        dp_router *router;
        dp_rpc *rpc;
        uint8_t *data;
        size_t len;
        assert_int_equal(dp_router_new(&router), DP_OK);
        assert_int_equal(dp_router_register(router, "a", act, &size), DP_OK);
        dp_rpc_config config = {.size = sizeof(config), .random = dp_csprng_source(csprng), .router = router};
        assert_int_equal(dp_rpc_new(&rpc, &config), DP_OK);
        dp_value *context;
        static const char text[] = "{\"action\":\"a\",\"request\":{\"id\":\"1\",\"body\":null}}";
        assert_int_equal(dp_value_from_json(&context, text, strlen(text)), DP_OK);
        assert_int_equal(dp_rpc_input(rpc, 0, context), DP_OK);
        assert_true(dp_rpc_poll_transmit(rpc, 0, &data, &len));
        dp_value *answer;
        assert_int_equal(dp_binarypack_decode(&answer, data, len), DP_OK);
        assert_int_equal(dp_context_code(answer, 0), i == 0 ? 200 : 500);
        assert_null(dp_value_get(dp_context_data(answer), "total")); /* unknown */
        dp_value_free(answer);
        dp_free(data);
        dp_rpc_free(rpc);
        dp_router_free(router);
    }
}

static int set_up(void **state)
{
    (void)state;
    if (dp_loop_new(&loop) != DP_OK || dp_csprng_new(&csprng) != DP_OK)
        return -1;
    dp_random random = dp_csprng_source(csprng);
    return dp_certificate_generate(&certificate, &random, 1700000000);
}

static int tear_down(void **state)
{
    (void)state;
    dp_certificate_free(certificate);
    dp_csprng_free(csprng);
    dp_loop_free(loop);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects), cmocka_unit_test(connections),           cmocka_unit_test(arguments),
        cmocka_unit_test(streams), cmocka_unit_test(arrays_of_ice_servers),
    };
    return cmocka_run_group_tests_name("sizes", tests, set_up, tear_down);
}
