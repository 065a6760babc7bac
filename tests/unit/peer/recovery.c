/* Connections whose path is lost: ICE restarts through the PeerServer, and who may ask for them. */
#include "world.h"

#include "../sctp/virtual_time.h"
#include "peer/connection.h"
#include "peer/pc.h"

/* Time goes by faster than it does, for usrsctp as well. */
#define RUN_UNTIL(condition)                                                                                 \
    do {                                                                                                     \
        for (int rounds_ = 0; !(condition); rounds_++) {                                                     \
            assert_true(rounds_ < 20000);                                                                    \
            skew += DP_MS(10);                                                                               \
            virtual_now = dp_clock_now();                                                                    \
            assert_int_equal(dp_loop_step(loop, 0), DP_OK);                                                  \
        }                                                                                                    \
    } while (0)

static void run(dp_duration time)
{
    dp_time until = dp_clock_now() + time;
    RUN_UNTIL(dp_clock_now() >= until);
}

static void set_address(end *e, const char *ip)
{
    dp_address address;
    assert_int_equal(dp_address_parse(&address, ip, 0), DP_OK);
    dp_network_set_addresses(e->peer->network, &address, 1);
}

static void connect_on_loopback(bool reconnect)
{
    end *ends[] = {&a, &b};
    for (int i = 0; i < 2; i++) {
        dp_peer_config config = config_of(ends[i], i == 0 ? "caller" : "callee");
        config.reconnect = reconnect;
        start_with(ends[i], &config);
        set_address(ends[i], "127.0.0.1");
    }
    call_as("binary", true);
    RUN_UNTIL(a.count[OPEN] == 1 && b.count[OPEN] == 1);
    assert_int_equal(peer_server.offers, 1);
}

static void talk(void)
{
    end *ends[] = {&a, &b};
    for (int i = 0; i < 2; i++) {
        unsigned before = ends[1 - i]->count[DATA];
        dp_value *value = dp_value_int(i + 7);
        assert_int_equal(dp_connection_send(ends[i]->conn, value), DP_OK);
        dp_value_free(value);
        RUN_UNTIL(ends[1 - i]->count[DATA] == before + 1);
    }
    assert_int_equal(a.count[CLOSED] + b.count[CLOSED], 0);
    assert_int_equal(b.count[CONNECTION], 1);
}

/* Both ends are elsewhere at once and their new candidates get lost: only a restart brings them together. */
static void lose_the_path(void)
{
    peer_server.swallow = "CANDIDATE";
    set_address(&a, "127.0.0.2");
    set_address(&b, "127.0.0.3");
}

/* A page's browser hears our checks from the new address. */
static void new_candidates_are_enough_for_one_that_moves(void **state)
{
    (void)state;
    peer_server.peerjs = true;
    connect_on_loopback(false);
    set_address(&b, "127.0.0.3");
    talk();
    set_address(&a, "127.0.0.2");
    talk();
    assert_int_equal(peer_server.offers, 1);
}

/* Without a word the other side would send to the old address until it has heard nothing for 5 s. */
static void who_moves_says_so(void **state)
{
    (void)state;
    connect_on_loopback(false);
    set_address(&b, "127.0.0.3");
    dp_time moved = dp_clock_now();
    talk();
    assert_true(dp_clock_now() - moved < DP_SECONDS(4));
    set_address(&a, "127.0.0.2");
    moved = dp_clock_now();
    talk();
    assert_true(dp_clock_now() - moved < DP_SECONDS(4));
}

static void a_restart_brings_the_path_back(void **state)
{
    (void)state;
    connect_on_loopback(false);
    char id[64];
    snprintf(id, sizeof(id), "%s", dp_connection_id(a.conn));
    lose_the_path();
    RUN_UNTIL(peer_server.answers == 2);
    talk();
    assert_string_equal(dp_connection_id(a.conn), id);
    assert_true(peer_server.offers >= 2 && peer_server.offers <= 4);
    run(DP_SECONDS(40));
    unsigned offers = peer_server.offers;
    talk(); /* and all is quiet again */
    assert_int_equal(peer_server.offers, offers);
}

/* The stream to the PeerServer has gone with the address, too. */
static void a_restart_waits_for_the_server(void **state)
{
    (void)state;
    connect_on_loopback(true);
    unsigned opened = a.count[PEER_OPEN];
    lose_the_path();
    settle();
    assert_int_equal(a.count[DISCONNECTED] + b.count[DISCONNECTED], 2);
    RUN_UNTIL(a.count[PEER_OPEN] > opened);
    RUN_UNTIL(peer_server.answers == 2);
    talk();
}

/* What has gone is another address than the stream's. */
static void the_stream_stays_with_its_address(void **state)
{
    (void)state;
    connect_on_loopback(true);
    unsigned opened = a.count[PEER_OPEN];
    dp_address both[2];
    assert_int_equal(dp_address_parse(&both[0], "127.0.0.1", 0), DP_OK);
    assert_int_equal(dp_address_parse(&both[1], "127.0.0.2", 0), DP_OK);
    for (int i = 0; i < 300; i++) { /* an interface that comes and goes */
        dp_network_set_addresses(a.peer->network, both, i % 2 == 0 ? 2 : 1);
        if (i % 3 == 0)
            settle();
    }
    talk();
    assert_int_equal(a.count[DISCONNECTED], 0);
    assert_int_equal(a.count[PEER_OPEN], opened);
    assert_int_equal(peer_server.offers, 1);
    set_address(&a, "127.0.0.2"); /* and then stays alone */
    talk();
    RUN_UNTIL(a.count[PEER_OPEN] > opened);
}

static void lost_offers_are_repeated_and_cross(void **state)
{
    (void)state;
    connect_on_loopback(false);
    lose_the_path();
    peer_server.swallow = "OFFER CANDIDATE";
    RUN_UNTIL(a.conn->restart_offered && b.conn->restart_offered);
    settle();
    peer_server.swallow = "CANDIDATE";
    RUN_UNTIL(peer_server.answers == 2); /* the callee rolls back what it had offered */
    talk();
}

/* The caller's offer is lost, and then it needs none: it must not keep the callee from restarting. */
static void a_lost_offer_gives_way(void **state)
{
    (void)state;
    connect_on_loopback(false);
    peer_server.swallow = "OFFER";
    set_address(&a, "127.0.0.2");
    talk();
    run(DP_SECONDS(10));
    assert_true(a.conn->restart_offered);
    peer_server.swallow = NULL;
    set_address(&b, "127.0.0.3");
    dp_time moved = dp_clock_now();
    RUN_UNTIL(peer_server.answers == 2);
    talk();
    assert_true(dp_clock_now() - moved < DP_SECONDS(4));
}

/* The connection is open, and whether it ends is for ICE to say. */
static void an_absent_peer_is_no_error_of_a_restart(void **state)
{
    (void)state;
    connect_on_loopback(false);
    server_drop(server_find(&peer_server, "callee"));
    lose_the_path();
    RUN_UNTIL(a.conn->restarts == 3);
    assert_int_equal(a.count[PEER_ERROR], 0);
    assert_int_equal(a.count[CLOSED], 0);
}

static void nothing_is_signalled_to_peerjs(void **state)
{
    (void)state;
    peer_server.peerjs = true;
    connect_on_loopback(false);
    lose_the_path();
    run(DP_SECONDS(20));
    assert_int_equal(peer_server.offers, 1);
    RUN_UNTIL(a.count[CLOSED] == 1 && b.count[CLOSED] == 1);
}

static void restarts_end_with_the_connection(void **state)
{
    (void)state;
    connect_on_loopback(false);
    lose_the_path();
    peer_server.swallow = "OFFER CANDIDATE";
    RUN_UNTIL(a.conn->restarts == 6);
    run(DP_SECONDS(6));
    assert_true(a.conn == NULL || a.conn->restarts == 6);
    RUN_UNTIL(a.count[CLOSED] == 1 && b.count[CLOSED] == 1);
}

/* Offers and answers arrive, but nothing else does: whoever restarts how often, the end comes, with a reason. */
static void a_lost_path_has_its_time(void **state)
{
    (void)state;
    connect_on_loopback(false);
    dp_network_set_addresses(b.peer->network, NULL, 0);
    dp_time lost = dp_clock_now();
    RUN_UNTIL(a.count[CLOSED] == 1);
    assert_in_range(dp_clock_now() - lost, DP_SECONDS(20), DP_SECONDS(38));
    assert_string_equal(a.error_type, "connection-closed");
    assert_string_equal(a.error_message,
                        "the other side has given the connection up"); /* b's six restarts are over */
    RUN_UNTIL(b.count[CLOSED] == 1);
    assert_in_range(dp_clock_now() - lost, DP_SECONDS(20), DP_SECONDS(42));
    assert_string_equal(b.error_type, "connection-closed");
}

static bool ends_with(end *e, const char *message)
{
    return e->count[CLOSED] == 1 && strcmp(e->error_message, message) == 0;
}

/* Nobody answers our offers; the old path, which is dead, would keep ICE waiting for a minute. */
static void a_series_of_restarts_ends(void **state)
{
    (void)state;
    connect_on_loopback(false);
    peer_server.swallow = "OFFER ANSWER";
    dp_network_set_addresses(b.peer->network, NULL, 0);
    dp_time lost = dp_clock_now();
    RUN_UNTIL(ends_with(&a, "the network path is lost, and the other side does not answer"));
    assert_in_range(dp_clock_now() - lost, DP_SECONDS(35), DP_SECONDS(42));
}

/* The other side's restarts can put ours off for ever, but not the end. */
static void restarts_that_are_put_off_end_too(void **state)
{
    (void)state;
    connect_on_loopback(false);
    peer_server.swallow = "OFFER ANSWER";
    dp_network_set_addresses(b.peer->network, NULL, 0);
    dp_time lost = dp_clock_now();
    while (a.conn != NULL) {
        a.conn->restart_tries = 0;
        run(DP_SECONDS(1));
    }
    assert_true(ends_with(&a, "the network path to the other side was lost for too long"));
    assert_in_range(dp_clock_now() - lost, DP_SECONDS(38), DP_SECONDS(45));
}

/* b restarts in vain, and a, who has answered, hears no more of it. */
static void who_has_answered_in_vain_ends_too(void **state)
{
    (void)state;
    connect_on_loopback(false);
    dp_network_set_addresses(b.peer->network, NULL, 0);
    dp_time lost = dp_clock_now();
    RUN_UNTIL(peer_server.answers == 2);
    peer_server.swallow = "OFFER ANSWER";
    RUN_UNTIL(ends_with(&a, "the network path to the other side was lost for too long"));
    assert_in_range(dp_clock_now() - lost, DP_SECONDS(38), DP_SECONDS(45));
}

static dp_dtls *taken;

static void give_back(void *user, dp_connection *conn)
{
    dp_runner_pc(conn->runner)->dtls = taken;
    on_close(user, conn);
}

/* ICE has a path, but SCTP's packets get no answer: its channel closes first, and the reason must not be lost. */
static void a_dead_association_has_a_reason(void **state)
{
    (void)state;
    connect_on_loopback(false);
    dp_pc *pc = dp_runner_pc(b.conn->runner);
    dp_connection_handler handler = handler_of(&b);
    handler.on_close = give_back;
    dp_connection_set_handler(b.conn, &handler);
    taken = pc->dtls;
    pc->dtls = NULL; /* b drops all that is no STUN */
    dp_value *value = dp_value_int(1);
    assert_int_equal(dp_connection_send(a.conn, value), DP_OK);
    dp_value_free(value);
    RUN_UNTIL(a.count[CLOSED] == 1 && b.count[CLOSED] == 1);
    assert_int_equal(a.count[FAILED], 1);
    assert_string_equal(a.error_type, "connection-closed");
    assert_string_equal(a.error_message, "the other side takes no more data (SCTP)");
}

/* The device was started again: it knows the id, but no connection. */
static void who_has_given_up_says_so(void **state)
{
    (void)state;
    connect_on_loopback(false);
    dp_network_set_addresses(b.peer->network, NULL, 0); /* no goodbye gets through */
    dp_connection_close(b.conn);
    RUN_UNTIL(b.count[CLOSED] == 1);
    dp_time gone = dp_clock_now();
    RUN_UNTIL(a.count[CLOSED] == 1);
    assert_true(dp_clock_now() - gone < DP_SECONDS(10));
    assert_string_equal(a.error_type, "connection-closed");
    assert_string_equal(a.error_message, "the other side has given the connection up");
}

/* ---- who may ask ---- */

/* type: "OFFER", to the callee, or "ANSWER", to the caller. */
static void send_description(const char *type, const char *src, const char *id, unsigned number,
                             const char *sdp)
{
    static char text[32768], escaped[16384];
    size_t n = 0;
    for (; *sdp != '\0' && n < sizeof(escaped) - 3; sdp++) {
        if (*sdp == '\r' || *sdp == '\n')
            escaped[n++] = '\\';
        escaped[n++] = *sdp == '\r' ? 'r' : *sdp == '\n' ? 'n' : *sdp;
    }
    escaped[n] = '\0';
    snprintf(text, sizeof(text),
             "{\"type\":\"%s\",\"src\":\"%s\",\"payload\":{\"sdp\":{\"type\":\"x\",\"sdp\":\"%s\"},\"type\":"
             "\"data\",\"connectionId\":\"%s\",\"features\":[\"ice-restart\"],"
             "\"restart\":%u}}",
             type, src, escaped, id, number);
    server_send(server_find(&peer_server, strcmp(type, "OFFER") == 0 ? "callee" : "caller"), text);
}

static void send_restart(const char *src, const char *id, unsigned number, const char *sdp)
{
    send_description("OFFER", src, id, number, sdp);
}

/* An answer that was under way when a newer offer left. */
static void late_answers_are_told_apart(void **state)
{
    (void)state;
    static char text[16384];
    size_t len;
    connect_on_loopback(false);
    lose_the_path();
    peer_server.swallow = "OFFER CANDIDATE";
    RUN_UNTIL(a.conn->restarts == 2);
    dp_pc *pc = dp_runner_pc(b.conn->runner); /* an offer with another a=setup is as good as an answer */
    assert_int_equal(dp_pc_restart_ice(pc), DP_OK);
    assert_int_equal(dp_pc_create_offer(pc, dp_loop_now(loop), text, sizeof(text), &len), DP_OK);
    char *setup = strstr(text, "actpass");
    memmove(setup + 6, setup + 7, strlen(setup + 7) + 1);
    memcpy(setup, "active", 6);
    send_description("ANSWER", "callee", dp_connection_id(a.conn), 1, text);
    settle();
    assert_true(a.conn->restart_offered);
    send_description("ANSWER", "callee", dp_connection_id(a.conn), 2, text);
    settle();
    assert_false(a.conn->restart_offered);
}

static void strangers_restart_nothing(void **state)
{
    (void)state;
    static char offer[16384];
    size_t len;
    connect_on_loopback(false);
    dp_pc *pc = dp_runner_pc(a.conn->runner);
    assert_int_equal(dp_pc_restart_ice(pc), DP_OK);
    assert_int_equal(dp_pc_create_offer(pc, dp_loop_now(loop), offer, sizeof(offer), &len), DP_OK);
    char ufrag[64];
    snprintf(ufrag, sizeof(ufrag), "%s", dp_pc_local_ufrag(dp_runner_pc(b.conn->runner)));
    send_restart("mallory", dp_connection_id(a.conn), 1, offer); /* not the one that we talk to */
    send_restart("caller", "dc_other", 1, offer);                /* makes no connection, either */
    settle();
    char *digit = strstr(offer, "sha-256 ") + strlen("sha-256 ");
    char was = *digit;
    *digit =
        was == '0' ? '1' : '0'; /* the PeerServer itself, or who has stolen the id: another certificate */
    send_restart("caller", dp_connection_id(a.conn), 1, offer);
    settle();
    assert_int_equal(peer_server.answers, 2); /* the second says no, and once a second is enough */
    assert_string_equal(dp_pc_local_ufrag(dp_runner_pc(b.conn->runner)), ufrag);
    talk();
    *digit = was;
    run(DP_SECONDS(1));
    for (unsigned i = 2; i < 50; i++) /* a flood of good ones */
        send_restart("caller", dp_connection_id(a.conn), i, offer);
    settle();
    assert_int_equal(peer_server.answers, 3);
    assert_string_not_equal(dp_pc_local_ufrag(dp_runner_pc(b.conn->runner)), ufrag);
    talk();
    assert_int_equal(dp_peer_connection_count(b.peer), 1);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(new_candidates_are_enough_for_one_that_moves),
        TEST(who_moves_says_so),
        TEST(a_restart_brings_the_path_back),
        TEST(a_restart_waits_for_the_server),
        TEST(the_stream_stays_with_its_address),
        TEST(a_lost_path_has_its_time),
        TEST(a_series_of_restarts_ends),
        TEST(restarts_that_are_put_off_end_too),
        TEST(who_has_answered_in_vain_ends_too),
        TEST(a_dead_association_has_a_reason),
        TEST(who_has_given_up_says_so),
        TEST(lost_offers_are_repeated_and_cross),
        TEST(a_lost_offer_gives_way),
        TEST(an_absent_peer_is_no_error_of_a_restart),
        TEST(nothing_is_signalled_to_peerjs),
        TEST(restarts_end_with_the_connection),
        TEST(late_answers_are_told_apart),
        TEST(strangers_restart_nothing),
    };
    return cmocka_run_group_tests_name("recovery", tests, NULL, NULL);
}
