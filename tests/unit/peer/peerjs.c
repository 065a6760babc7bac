/* What a Peer and a DataConnection of PeerJS do beyond the usual life (connection.c): errors, properties, the PeerServer's
 * moods, MsgPack. */
#include "peer/connection.h"

#include "world.h"

static void send_to(const char *id, const char *text) { server_send(server_find(&peer_server, id), text); }

/* ---- the Peer and its server ---- */

static void a_call_waits_for_the_server(void **state)
{
    (void)state;
    start(&b, "callee");
    dp_peer_config config = config_of(&a, NULL); /* the id is not known yet, too */
    assert_int_equal(dp_peer_new(&a.peer, &config), DP_OK);
    assert_false(dp_peer_is_open(a.peer) || dp_peer_is_disconnected(a.peer) || dp_peer_is_destroyed(a.peer));
    call_as("binary", false);
    WAIT(a.count[OPEN] == 1 && b.count[OPEN] == 1);
    assert_true(dp_peer_is_open(a.peer));
    assert_string_equal(dp_connection_remote_id(b.conn), "given-0");
}

static void a_call_that_waited_in_vain_ends(void **state)
{
    (void)state;
    dp_peer_config config = config_of(&a, "caller");
    dp_listener_close(peer_server.listener);
    peer_server.listener = NULL;
    assert_int_equal(dp_peer_new(&a.peer, &config), DP_OK);
    call_as("binary", false);
    WAIT(a.count[CLOSED] == 1 && a.count[DISCONNECTED] == 1);
    assert_int_equal(a.count[FAILED], 1);
    assert_string_equal(a.error_type, "negotiation-failed");
    assert_true(dp_peer_is_disconnected(a.peer));
    assert_false(dp_peer_is_destroyed(a.peer)); /* PeerJS: "network" only disconnects */
    assert_int_equal(a.count[PEER_CLOSED], 0);
}

static void a_call_without_a_server_is_an_error(void **state)
{
    (void)state;
    connect_as("binary");
    dp_peer_disconnect(a.peer);
    assert_true(dp_peer_is_disconnected(a.peer));
    dp_connection *conn;
    assert_int_equal(dp_peer_connect(a.peer, &conn, "callee", NULL), DP_ERR_INVALID_STATE);
    assert_int_equal(a.count[PEER_ERROR], 0); /* never inside a call */
    WAIT(a.count[PEER_ERROR] == 1);
    assert_string_equal(a.error_type, "disconnected");
    WAIT(a.count[DISCONNECTED] == 1);
    assert_true(dp_connection_is_open(a.conn));
    settle();
    assert_int_equal(a.count[PEER_ERROR], 1);
}

static void it_may_reconnect_at_once(void **state)
{
    (void)state;
    start(&a, NULL);
    assert_int_equal(dp_peer_reconnect(a.peer), DP_ERR_INVALID_STATE);
    dp_peer_disconnect(a.peer);
    assert_int_equal(dp_peer_reconnect(a.peer), DP_OK);
    WAIT(a.count[PEER_OPEN] == 2);
    assert_int_equal(a.count[DISCONNECTED], 1);
    assert_string_equal(dp_peer_id(a.peer), "given-0"); /* the same */
    dp_peer_disconnect(a.peer);
    assert_int_equal(dp_peer_reconnect(a.peer), DP_OK);
    dp_peer_disconnect(a.peer); /* the last word counts */
    WAIT(a.count[DISCONNECTED] == 2);
    settle();
    assert_int_equal(a.count[PEER_OPEN], 2);
}

static void refused_before_it_was_open_it_is_over(void **state)
{
    static const char *const refusals[][2] = {
        {"{\"type\":\"ERROR\",\"payload\":{\"msg\":\"Invalid key provided\"}}", "server-error"},
        {"{\"type\":\"INVALID-KEY\"}", "invalid-key"}};
    (void)state;
    start(&b, "caller");
    dp_peer_config config = config_of(&a, "caller");
    assert_int_equal(dp_peer_new(&a.peer, &config), DP_OK);
    WAIT(a.count[PEER_CLOSED] == 1);
    assert_string_equal(a.error_type, "unavailable-id");
    assert_int_equal(a.count[DISCONNECTED], 1);
    assert_true(dp_peer_is_destroyed(a.peer));
    assert_int_equal(dp_peer_reconnect(a.peer), DP_ERR_INVALID_STATE);
    destroy(&a);
    settle();
    assert_int_equal(a.count[PEER_CLOSED], 1);
    /* Who was open before is only disconnected, and lives. */
    for (size_t i = 0; i < 2; i++) {
        send_to("caller", refusals[i][0]);
        WAIT(b.count[DISCONNECTED] == i + 1);
        assert_string_equal(b.error_type, refusals[i][1]);
        assert_int_equal(dp_peer_reconnect(b.peer), DP_OK);
        WAIT(b.count[PEER_OPEN] == i + 2);
    }
    assert_int_equal(b.count[PEER_CLOSED], 0);
    destroy(&b);
    WAIT(b.count[PEER_CLOSED] == 1);
}

static uint8_t chance;
static bool chance_is_fixed;
static int some_random(void *ctx, uint8_t *out, size_t len)
{
    dp_random random = dp_csprng_source(csprng);
    (void)ctx;
    if (!chance_is_fixed)
        return random.fn(random.ctx, out, len);
    memset(out, chance, len);
    return DP_OK;
}

static void lose_the_server(uint8_t with)
{
    unsigned count = a.count[DISCONNECTED];
    chance_is_fixed = true;
    chance = with;
    server_drop(server_find(&peer_server, "caller"));
    WAIT(a.count[DISCONNECTED] == count + 1);
    chance_is_fixed = false;
}

static void reconnections_wait_longer_and_longer_and_by_chance(void **state)
{
    static const unsigned waits[] = {200, 300, 300};
    (void)state;
    chance_is_fixed = false;
    dp_peer_config config = config_of(&a, "caller");
    config.random.fn = some_random;
    config.reconnect = true;
    config.reconnect_min = DP_SECONDS(100);
    config.reconnect_max = DP_SECONDS(300);
    start_with(&a, &config);
    static const struct {
        uint8_t chance;
        unsigned wait;
    } cases[] = {{0x00, 50}, {0xff, 100}, {0x80, 75}};
    for (unsigned i = 0; i < 3; i++) {
        lose_the_server(cases[i].chance);
        skew += DP_SECONDS(cases[i].wait - 1);
        settle();
        assert_int_equal(a.count[PEER_OPEN], i + 1);
        skew += DP_SECONDS(2);
        WAIT(a.count[PEER_OPEN] == i + 2);
    }
    dp_listener_close(peer_server.listener);
    peer_server.listener = NULL;
    lose_the_server(0xff);
    chance_is_fixed = true;
    skew += DP_SECONDS(101);
    WAIT(a.count[DISCONNECTED] == 5);
    for (unsigned i = 0; i < 3; i++) {
        skew += DP_SECONDS(waits[i] - 1);
        settle();
        assert_int_equal(a.count[DISCONNECTED], 5 + i);
        skew += DP_SECONDS(2);
        WAIT(a.count[DISCONNECTED] == 6 + i);
    }
}

/* ---- the list of peers ---- */

static char listed[256];
static int list_error;
static unsigned lists;

static void on_list(void *user, int error, const char *const *ids, size_t count)
{
    assert_ptr_equal(user, &a);
    lists++;
    list_error = error;
    listed[0] = '\0';
    for (size_t i = 0; i < count; i++)
        snprintf(listed + strlen(listed), sizeof(listed) - strlen(listed), "%s ", ids[i]);
}

static void lists_the_peers(void **state)
{
    static const struct {
        const char *answer;
        int error;
        const char *listed;
    } answers[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n[\"a\",\"b-1\"]", DP_OK, "a b-1 "},
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", DP_OK, ""},
        {"HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n[\"a\\u0007\", 5, \"b\", {}]", DP_OK, "b "},
        {"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", DP_ERR_REMOTE, ""},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n", DP_ERR_TOO_LARGE, ""},
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", DP_ERR_MALFORMED, ""},
        {"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n[\"a\"", DP_ERR_MALFORMED, ""},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", DP_ERR_MALFORMED, ""},
        {"nonsense\r\n\r\n", DP_ERR_MALFORMED, ""},
    };
    (void)state;
    start(&a, "caller");
    lists = 0;
    unsigned errors = 0;
    for (unsigned i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        peer_server.peers = answers[i].answer;
        assert_int_equal(dp_peer_list_all_peers(a.peer, on_list, &a), DP_OK);
        assert_int_equal(lists, i);
        WAIT(lists == i + 1);
        assert_int_equal(list_error, answers[i].error);
        assert_string_equal(listed, answers[i].listed);
        errors += answers[i].error != DP_OK;
        assert_int_equal(a.count[PEER_ERROR], errors);
        settle(); /* the server sees the end of the stream */
    }
    assert_string_equal(a.error_type, "server-error");
    assert_true(dp_peer_is_open(a.peer));
    /* No answer, too many, and the end. */
    lists = 0;
    peer_server.peers = NULL;
    assert_int_equal(dp_peer_list_all_peers(a.peer, on_list, &a), DP_OK);
    settle();
    skew += DP_SECONDS(20);
    WAIT(lists == 1);
    assert_int_equal(list_error, DP_ERR_TIMEOUT);
    for (int i = 0; i < 8; i++)
        assert_int_equal(dp_peer_list_all_peers(a.peer, on_list, &a), DP_OK);
    assert_int_equal(dp_peer_list_all_peers(a.peer, on_list, &a), DP_ERR_LIMIT);
    destroy(&a);
    assert_int_equal(lists, 1); /* never inside a call */
    WAIT(lists == 9);
    assert_int_equal(list_error, DP_ERR_CLOSED);
}

/* ---- candidates and descriptions that can't be used ---- */

static const char sdp[] =
    "v=0\\r\\no=- 1 2 IN IP4 127.0.0.1\\r\\ns=-\\r\\nt=0 0\\r\\nm=application 9 UDP/DTLS/SCTP "
    "webrtc-datachannel\\r\\nc=IN IP4 "
    "0.0.0.0\\r\\na=ice-ufrag:abcd\\r\\na=ice-pwd:abcdefghijklmnopqrstuv\\r\\n"
    "a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:"
    "BB:CC:DD:EE:FF\\r\\na=setup:actpass\\r\\na=mid:0\\r\\na=sctp-port:5000\\r\\n";

static void offer_to_b(const char *id)
{
    char text[4096];
    snprintf(
        text, sizeof(text),
        "{\"type\":\"OFFER\",\"src\":\"mallory\",\"payload\":{\"sdp\":{\"type\":\"offer\",\"sdp\":\"%s\"},"
        "\"type\":\"data\",\"connectionId\":\"%s\",\"label\":\"l\",\"reliable\":false,"
        "\"serialization\":\"binary\"}}",
        sdp, id);
    send_to("callee", text);
}

static void candidate_to_b(const char *id, const char *candidate)
{
    char text[4096];
    snprintf(text, sizeof(text),
             "{\"type\":\"CANDIDATE\",\"src\":\"mallory\",\"payload\":{\"candidate\":{\"candidate\":\"%s\","
             "\"sdpMLineIndex\":0,\"sdpMid\":\"0\"},\"type\":\"data\",\"connectionId\":\"%s\"}}",
             candidate, id);
    send_to("callee", text);
}

static void tells_of_bad_candidates_once(void **state)
{
    (void)state;
    start(&b, "callee");
    offer_to_b("dc_1");
    candidate_to_b("dc_1", "candidate:1 1 udp 2113937151 127.0.0.1 9 typ host");
    candidate_to_b("dc_1", "nonsense");
    candidate_to_b("dc_1", "nonsense");
    WAIT(b.count[PEER_ERROR] == 1);
    assert_string_equal(b.error_type, "webrtc");
    settle();
    assert_int_equal(b.count[PEER_ERROR], 1);
    assert_int_equal(b.count[CLOSED], 0);
}

/* A candidate that can't be used shows that it was kept until its offer came. */
static void candidates_may_come_before_their_offer(void **state)
{
    (void)state;
    start(&b, "callee");
    candidate_to_b("dc_1", "nonsense");
    candidate_to_b("dc_2", "nonsense");
    offer_to_b("dc_1");
    WAIT(b.count[PEER_ERROR] == 1);
    offer_to_b("dc_1"); /* once only */
    WAIT(b.count[CONNECTION] == 2);
    settle();
    assert_int_equal(b.count[PEER_ERROR], 1);
    skew += DP_SECONDS(30);
    settle();
    offer_to_b("dc_2"); /* too late */
    WAIT(b.count[CONNECTION] == 3);
    settle();
    assert_int_equal(b.count[PEER_ERROR], 1);
    candidate_to_b("dc_3", "nonsense");
    for (int i = 0; i < 64; i++) {
        candidate_to_b("dc_4", "nonsense");
        settle();
    }
    offer_to_b("dc_3"); /* it had to give way */
    WAIT(b.count[CONNECTION] == 4);
    settle();
    assert_int_equal(b.count[PEER_ERROR], 1);
}

/* ---- the DataConnection ---- */

static void knows_the_names_of_serializations(void **state)
{
    static const char *const known[][2] = {
        {NULL, "binary"}, {"binary-utf8", "binary"}, {"none", "raw"}, {"raw", "raw"}, {"MsgPack", "MsgPack"}};
    (void)state;
    start(&a, "caller");
    start(&b, "callee");
    for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        call_as(known[i][0], false);
        WAIT(a.count[OPEN] == i + 1 && b.count[OPEN] == i + 1);
        assert_string_equal(dp_connection_serialization(a.conn), known[i][1]);
        assert_string_equal(dp_connection_serialization(b.conn), known[i][1]);
        assert_int_equal(dp_connection_reliable(b.conn), strcmp(known[i][1], "MsgPack") == 0);
    }
    assert_int_equal(dp_peer_connection_count(b.peer), 5); /* several between the same two */
    dp_connect_options options = {.size = sizeof(options), .serialization = "msgpack"};
    dp_connection *conn;
    assert_int_equal(dp_peer_connect(a.peer, &conn, "callee", &options), DP_ERR_UNSUPPORTED);
}

static void tells_ice_states(void **state)
{
    (void)state;
    connect_as("binary");
    assert_true(a.count[ICE_STATE] >= 2);
    WAIT(strcmp(a.ice_state, "completed") == 0 || strcmp(a.ice_state, "connected") == 0);
}

static dp_value *zeros_of(size_t len)
{
    uint8_t *data = calloc(1, len);
    dp_value *value = dp_value_bytes(data, len);
    free(data);
    return value;
}

static void counts_what_waits(void **state)
{
    (void)state;
    connect_as("binary");
    dp_value *value = zeros_of(1 << 20);
    assert_int_equal(dp_connection_buffer_size(a.conn), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(dp_connection_send(a.conn, value), DP_OK);
    assert_int_equal(dp_connection_buffer_size(a.conn), 5);
    WAIT(b.count[DATA] == 5);
    WAIT(dp_connection_buffer_size(a.conn) == 0);
    dp_value_free(value);
}

static void both_may_call_at_once(void **state)
{
    (void)state;
    start(&a, "caller");
    start(&b, "callee");
    call_as("binary", false);
    dp_connection *called_by_a = a.conn, *back;
    dp_connection_handler handler = handler_of(&b);
    assert_int_equal(dp_peer_connect(b.peer, &back, "caller", NULL), DP_OK);
    dp_connection_set_handler(back, &handler);
    WAIT(a.count[OPEN] == 2 && b.count[OPEN] == 2);
    assert_int_equal(a.count[CONNECTION], 1);
    assert_int_equal(b.count[CONNECTION], 1);
    assert_string_not_equal(dp_connection_id(called_by_a), dp_connection_id(back));
    assert_int_equal(dp_peer_connection_count(a.peer), 2);
    assert_int_equal(a.count[CLOSED] + b.count[CLOSED], 0);
}

/* ---- MsgPack ---- */

static dp_value *large_map(void)
{
    uint8_t *data = malloc(300000);
    for (size_t i = 0; i < 300000; i++)
        data[i] = (uint8_t)(i * 7 + (i >> 8));
    dp_value *map = dp_value_map();
    assert_int_equal(dp_value_set(map, "data", dp_value_bytes(data, 300000)), DP_OK);
    assert_int_equal(dp_value_set(map, "n", dp_value_int(-4294967297)), DP_OK);
    free(data);
    return map;
}

static void carries_msgpack(void **state)
{
    (void)state;
    connect_as("MsgPack");
    b.echo = true;
    dp_value *value = large_map(), *null = dp_value_null();
    for (int i = 0; i < 3; i++)
        assert_int_equal(dp_connection_send(a.conn, value), DP_OK);
    WAIT(a.count[DATA] == 3);
    assert_true(dp_value_equal(a.last, value));
    assert_int_equal(dp_connection_send(a.conn, null), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_connection_send_text(a.conn, "x", 1), DP_ERR_UNSUPPORTED);
    assert_int_equal(dp_connection_send(a.conn, value), DP_OK);
    assert_int_equal(dp_connection_close_flush(a.conn), DP_OK);
    WAIT(a.count[CLOSED] == 1 && b.count[CLOSED] == 1);
    assert_int_equal(b.count[DATA], 4);
    assert_int_equal(a.count[FAILED] + b.count[FAILED], 0);
    dp_value_free(null);
    dp_value_free(value);
}

static void echo_action(void *user, dp_call *call)
{
    (void)user;
    dp_call_reply(call, dp_value_copy(dp_call_body(call)));
}

static void on_echo(void *user, int error, const dp_value *context)
{
    end *e = user;
    e->done_error = error;
    dp_value_free(e->last);
    e->last = error == DP_OK ? dp_value_copy(dp_context_data(context)) : NULL;
    hit(e, DONE);
}

static void requests_go_by_msgpack(void **state)
{
    (void)state;
    a.use_rpc = b.use_rpc = true;
    assert_int_equal(dp_router_new(&b.router), DP_OK);
    assert_int_equal(dp_router_register(b.router, "echo", echo_action, NULL), DP_OK);
    connect_as("MsgPack");
    dp_value *value = large_map();
    dp_request request = {.size = sizeof(request),
                          .action = "echo",
                          .body = dp_value_copy(value),
                          .on_done = on_echo,
                          .user = &a};
    assert_int_equal(dp_connection_request(a.conn, &request, NULL), DP_OK);
    WAIT(a.count[DONE] == 1);
    assert_int_equal(a.done_error, DP_OK);
    assert_true(dp_value_equal(a.last, value));
    dp_value_free(value);
}

static void send_bytes(const char *bytes, size_t len, bool binary)
{
    assert_int_equal(
        dp_channel_send(a.conn->channel, dp_loop_now(loop), (const uint8_t *)bytes, len, binary, true),
        DP_OK);
    dp_runner_wake(a.conn->runner);
}

static void bad_msgpack_ends_the_connection(void **state)
{
    (void)state;
    connect_as("MsgPack");
    send_bytes("text", 4, false); /* left out */
    WAIT(b.count[FAILED] == 1);
    assert_string_equal(b.error_type, "protocol");
    send_bytes("\xa1\xff\x05", 3, true); /* a string that is no UTF-8, and a value behind it */
    WAIT(b.count[DATA] == 1);
    assert_int_equal(b.count[FAILED], 2);
    assert_int_equal(dp_value_get_int(b.last, 0), 5);
    send_bytes("\xc1", 1, true);
    WAIT(b.count[CLOSED] == 1);
    assert_string_equal(b.error_type, "connection-closed");
    WAIT(a.count[CLOSED] == 1);
}

static void half_a_value_has_its_time(void **state)
{
    (void)state;
    dp_peer_config config = config_of(&b, "callee");
    config.max_unfinished_time = DP_SECONDS(7);
    start_with(&b, &config);
    start(&a, "caller");
    call_as("MsgPack", false);
    WAIT(a.count[OPEN] == 1 && b.count[OPEN] == 1);
    send_bytes("\x05\x92\x01", 3, true);
    WAIT(b.count[DATA] == 1);
    skew += DP_SECONDS(6);
    settle();
    assert_int_equal(b.count[CLOSED], 0);
    skew += DP_SECONDS(1);
    WAIT(b.count[CLOSED] == 1 && a.count[CLOSED] == 1);
    assert_string_equal(b.error_type, "connection-closed");
}

static void values_have_a_limit(void **state)
{
    (void)state;
    dp_peer_config config = config_of(&b, "callee");
    config.max_value_size = 100000;
    start_with(&b, &config);
    start(&a, "caller");
    dp_value *value = large_map(), *small = dp_value_int(1);
    call_as("binary", false);
    WAIT(a.count[OPEN] == 1 && b.count[OPEN] == 1);
    assert_int_equal(dp_connection_send(a.conn, value), DP_OK);
    assert_int_equal(dp_connection_send(a.conn, small), DP_OK);
    WAIT(b.count[DATA] == 1); /* in chunks the large one can be left out */
    assert_true(b.count[FAILED] > 0);
    assert_string_equal(b.error_type, "protocol");
    call_as("MsgPack", false);
    WAIT(a.count[OPEN] == 2 && b.count[OPEN] == 2);
    assert_int_equal(dp_connection_send(a.conn, value), DP_OK);
    WAIT(b.count[CLOSED] == 1);
    assert_string_equal(b.error_type, "connection-closed");
    dp_value_free(value);
    dp_value_free(small);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_call_waits_for_the_server),
        TEST(a_call_that_waited_in_vain_ends),
        TEST(a_call_without_a_server_is_an_error),
        TEST(it_may_reconnect_at_once),
        TEST(refused_before_it_was_open_it_is_over),
        TEST(reconnections_wait_longer_and_longer_and_by_chance),
        TEST(lists_the_peers),
        TEST(tells_of_bad_candidates_once),
        TEST(candidates_may_come_before_their_offer),
        TEST(knows_the_names_of_serializations),
        TEST(tells_ice_states),
        TEST(counts_what_waits),
        TEST(both_may_call_at_once),
        TEST(carries_msgpack),
        TEST(requests_go_by_msgpack),
        TEST(bad_msgpack_ends_the_connection),
        TEST(half_a_value_has_its_time),
        TEST(values_have_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
