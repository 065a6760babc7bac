/* Gathering and sockets that come and go: servers, mappings, preferences, networks left and joined. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "testnet.h"

static void assert_state(const testnet *net, unsigned i, dp_ice_state state)
{
    assert_string_equal(dp_ice_state_name(dp_ice_get_state(net->nodes[i].ice)), dp_ice_state_name(state));
}

static void assert_selected(const testnet *net, unsigned i, const char *local, const char *remote)
{
    dp_address l;
    dp_address r;
    char text[DP_ADDRESS_TEXT_MAX];
    assert_true(dp_ice_selected_pair(net->nodes[i].ice, &l, &r));
    assert_string_equal(dp_address_format(&l, text), local);
    assert_string_equal(dp_address_format(&r, text), remote);
}

/* The network forgets the address at once. */
static void leave(testnet *net, unsigned i, unsigned address)
{
    node *n = &net->nodes[i];
    dp_address gone = n->addresses[address];
    n->addresses[address] = n->addresses[--n->address_count];
    assert_int_equal(dp_ice_remove_local_address(n->ice, net->now, &gone), DP_OK);
    assert_int_equal(dp_ice_remove_local_address(n->ice, net->now, &gone), DP_ERR_NOT_FOUND);
}

static dp_candidate parsed(const testnet *net, unsigned i, size_t candidate)
{
    dp_candidate c;
    assert_true(candidate < net->nodes[i].candidate_count);
    const char *text = net->nodes[i].candidates[candidate];
    assert_int_equal(dp_candidate_parse(&c, text, strlen(text)), DP_OK);
    return c;
}

/* ---- sockets ---- */

static void a_new_socket_is_a_way_out(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        testnet net;
        net_pair(&net, 1 + i, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
        net_run(&net, DP_SECONDS(60));
        net.nodes[i].gathering_complete = false;
        net_address(&net, i, "10.0.9.9", 999);
        net_run(&net, DP_SECONDS(1));
        assert_true(net.nodes[i].gathering_complete);
        assert_int_equal(net.nodes[i].candidate_count, 2);
        assert_int_equal(net.nodes[0].ice->pair_count, 2);
        assert_int_equal(net.nodes[1].ice->pair_count, 2);
        leave(&net, i, 0);
        dp_time left = net.now;
        net_run_until(&net, left + DP_SECONDS(9), net_completed); /* the other side has to notice */
        net_run(&net, DP_SECONDS(8));
        assert_true(net_completed(&net));
        assert_selected(&net, i, "10.0.9.9:999", i == 0 ? "10.0.0.2:2000" : "10.0.0.1:1000");
        assert_selected(&net, 1 - i, i == 0 ? "10.0.0.2:2000" : "10.0.0.1:1000", "10.0.9.9:999");
        net_clear(&net);
    }
}

static bool first_is_connected(const testnet *net)
{
    dp_ice_state state = dp_ice_get_state(net->nodes[0].ice);
    return state == DP_ICE_CONNECTED || state == DP_ICE_COMPLETED;
}

/* Removed: the other path is used at once if it has consent, and after a round trip if not. */
static void the_other_path_is_there_at_once(void **state)
{
    (void)state;
    for (unsigned old = 0; old < 2; old++) {
        testnet net;
        net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
        net_address(&net, 0, "10.0.0.1", 1000);
        net_address(&net, 0, "10.0.1.1", 1000);
        net_address(&net, 1, "10.0.0.2", 2000);
        for (unsigned i = 0; i < 2; i++) {
            net_gather(&net, i);
            net_credentials(&net, i);
        }
        net_run(&net, old == 0 ? DP_SECONDS(3) : DP_SECONDS(100));
        assert_selected(&net, 0, "10.0.0.1:1000", "10.0.0.2:2000");
        leave(&net, 0, 0);
        dp_time left = net.now;
        if (old == 1)
            assert_state(&net, 0, DP_ICE_DISCONNECTED);
        else
            assert_selected(&net, 0, "10.0.1.1:1000", "10.0.0.2:2000");
        net_run_until(&net, left + DP_SECONDS(1), first_is_connected);
        assert_true(net.now <= left + DP_MS(30));
        assert_selected(&net, 0, "10.0.1.1:1000", "10.0.0.2:2000");
        net_run(&net, DP_SECONDS(8));
        assert_true(net_completed(&net));
        assert_selected(&net, 1, "10.0.0.2:2000", "10.0.1.1:1000");
        net_clear(&net);
    }
}

/* The reserve takes over, but is as dead as the other. */
static void a_dead_reserve_is_seen_through(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 0, "10.0.1.1", 1000);
    net_address(&net, 1, "10.0.0.2", 2000);
    for (unsigned i = 0; i < 2; i++) {
        net_gather(&net, i);
        net_credentials(&net, i);
    }
    net_run(&net, DP_SECONDS(10));
    net.loss = 100;
    net.packet_count = 0;
    leave(&net, 0, 0);
    net_run(&net, DP_MS(1100));
    assert_state(&net, 0, DP_ICE_DISCONNECTED);
    net_run(&net, DP_SECONDS(31));
    assert_state(&net, 0, DP_ICE_FAILED);
    net_clear(&net);
}

/* The only one goes: 30 s for another to come, whatever the peer has said about its candidates. */
static void without_a_socket(void **state)
{
    (void)state;
    for (unsigned comes = 0; comes < 3; comes++) {
        testnet net;
        net_pair(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
        for (unsigned i = 0; i < 2; i++)
            assert_int_equal(dp_ice_add_remote_candidate(net.nodes[i].ice, net.now, ""), DP_OK);
        net_run(&net, DP_SECONDS(60));
        leave(&net, 0, 0);
        assert_state(&net, 0, DP_ICE_DISCONNECTED);
        uint8_t data[8];
        dp_datagram d = {.data = data, .capacity = sizeof data};
        size_t headroom;
        assert_false(dp_ice_send_begin(net.nodes[0].ice, &d, &headroom));
        net_run(&net, DP_SECONDS(20));
        assert_state(&net, 0, DP_ICE_DISCONNECTED);
        if (comes == 0) {
            net_run(&net, DP_MS(9900));
            assert_state(&net, 0, DP_ICE_DISCONNECTED);
            net_run(&net, DP_SECONDS(1));
            assert_state(&net, 0, DP_ICE_FAILED);
        } else {
            dp_time back = net.now; /* the same address, or another one */
            net_address(&net, 0, comes == 1 ? "10.0.0.1" : "10.0.9.9", 1000);
            net_run_until(&net, back + DP_SECONDS(5), first_is_connected);
            assert_true(net.now <= back + DP_MS(30));
            net_run(&net, DP_SECONDS(2));
            assert_true(net_completed(&net));
            assert_selected(&net, 1, "10.0.0.2:2000", comes == 1 ? "10.0.0.1:1000" : "10.0.9.9:1000");
        }
        net_clear(&net);
    }
}

static void the_same_address_returns(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 0, "10.0.1.1", 1000);
    net_gather(&net, 0);
    net_run(&net, DP_SECONDS(1));
    dp_candidate before = parsed(&net, 0, 0);
    leave(&net, 0, 0);
    net_address(&net, 0, "10.0.0.1", 1000);
    net_run(&net, DP_SECONDS(1));
    dp_candidate after = parsed(&net, 0, 2);
    assert_true(dp_address_equal(&before.address, &after.address));
    assert_int_equal(before.priority, after.priority);
    assert_string_equal(before.foundation, after.foundation);
    assert_int_equal(net.nodes[0].ice->local_count, 2); /* its own old place */
    net_clear(&net);
}

/* A traveller: more sockets than there are places, and more pairs of the past than the list holds. Each time there is
 * a way on. */
static void many_over_time(void **state)
{
    (void)state;
    testnet net;
    char text[64];
    net_pair(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    for (unsigned n = 0; n < 9; n++) { /* nine more candidates of the peer's that lead nowhere */
        snprintf(text, sizeof text, "candidate:1 1 udp 2130706431 10.9.0.%u 9 typ host", n);
        assert_int_equal(dp_ice_add_remote_candidate(net.nodes[0].ice, net.now, text), DP_OK);
    }
    net_run(&net, DP_SECONDS(3));
    assert_true(net_completed(&net));
    net.nodes[0].mute_candidates = true; /* else the peer's checks make room */
    for (unsigned n = 1; n <= 60; n++) {
        dp_ice *ice = net.nodes[0].ice;
        snprintf(text, sizeof text, "10.1.0.%u", n);
        leave(&net, 0, 0);
        net_run(&net, DP_MS(100));
        net_address(&net, 0, text, 1000);
        net_run(&net, DP_SECONDS(9));
        for (unsigned i = 0; i < 2; i++) {
            if (dp_ice_get_state(net.nodes[i].ice) != DP_ICE_COMPLETED)
                fail_msg("node %u lost at the %u-th network", i, n);
            net.nodes[i].history_count = net.nodes[i].candidate_count = 0;
        }
        assert_true(ice->local_count <= DP_ICE_MAX_LOCAL && ice->pair_count <= DP_ICE_MAX_PAIRS);
        snprintf(text, sizeof text, "10.1.0.%u:1000", n);
        assert_selected(&net, 0, text, "10.0.0.2:2000");
        assert_selected(&net, 1, "10.0.0.2:2000", text);
    }
    net_clear(&net);
}

static void places_are_limited(void **state)
{
    (void)state;
    testnet net;
    net_pair(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net_run(&net, DP_SECONDS(1));
    dp_ice *ice = net.nodes[0].ice;
    for (uint16_t n = 1; n < DP_ICE_MAX_LOCAL; n++) {
        dp_address a = addr("10.0.0.1", (uint16_t)(1000 + n));
        assert_int_equal(dp_ice_add_local_address(ice, net.now, &a), DP_OK);
        assert_int_equal(dp_ice_add_local_address(ice, net.now, &a), DP_OK); /* again */
    }
    dp_address a = addr("10.0.0.1", 999);
    assert_int_equal(dp_ice_add_local_address(ice, net.now, &a), DP_ERR_LIMIT);
    assert_int_equal(ice->local_count, DP_ICE_MAX_LOCAL);
    dp_address gone = addr("10.0.0.1", 1007);
    assert_int_equal(dp_ice_remove_local_address(ice, net.now, &gone), DP_OK);
    assert_int_equal(dp_ice_add_local_address(ice, net.now, &a), DP_OK);
    uint32_t seen[DP_ICE_MAX_LOCAL];
    for (size_t i = 0; i < ice->local_count; i++) { /* RFC 8445 §5.1.2.1 */
        seen[i] = ice->locals[i].priority;
        for (size_t k = 0; k < i; k++)
            assert_int_not_equal(seen[i], seen[k]);
    }
    net_clear(&net);
}

/* The peer tells another address with each answer: it can't use up the places. */
static bool lie(testnet *net, unsigned from, dp_datagram *d)
{
    dp_stun_message m;
    static uint16_t port = 10000;
    if (from != 1 || dp_stun_decode(&m, d->data, d->length) != DP_OK || m.class_ != DP_STUN_SUCCESS)
        return true;
    dp_address mapped = addr("198.51.100.66", port++);
    const char *pwd = dp_ice_local_pwd(net->nodes[1].ice);
    dp_wr wr = dp_wr_init(d->data, d->capacity);
    uint8_t id[DP_STUN_TRANSACTION_LEN];
    memcpy(id, m.transaction, sizeof id);
    dp_stun_write_header(&wr, DP_STUN_SUCCESS, DP_STUN_METHOD_BINDING, id);
    dp_stun_write_xor_mapped_address(&wr, &mapped);
    dp_stun_write_integrity(&wr, pwd, strlen(pwd));
    dp_stun_write_fingerprint(&wr);
    assert_int_equal(dp_stun_finish(&wr, &d->length), DP_OK);
    return true;
}

static void a_peer_that_lies_about_addresses(void **state)
{
    (void)state;
    testnet net;
    net_pair(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net.tap = lie;
    net_run(&net, DP_SECONDS(1));
    dp_ice *ice = net.nodes[0].ice;
    for (unsigned n = 0; n < 100; n++) {
        assert_true(dp_ice_check_start(ice, net.now, DP_ICE_FOR_CHECK, ice->active, false));
        net_run(&net, DP_MS(100));
    }
    assert_int_equal(ice->local_count, DP_ICE_MAX_LOCAL);
    net_address(&net, 0, "10.0.9.9", 999);
    net_run(&net, DP_SECONDS(1));
    assert_int_equal(net.nodes[0].candidate_count, 2);
    assert_true(net_completed(&net));
    net_clear(&net);
}

/* What was to leave from a socket must not leave from its successor. */
static void nothing_leaves_from_the_wrong_socket(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    for (uint16_t n = 0; n < DP_ICE_MAX_LOCAL; n++) {
        dp_address a = addr("10.0.0.1", (uint16_t)(1000 + n));
        assert_int_equal(dp_ice_add_local_address(net.nodes[0].ice, net.now, &a), DP_OK);
    }
    net_address(&net, 1, "10.0.0.2", 2000);
    net_gather(&net, 0);
    net_gather(&net, 1);
    net_credentials(&net, 0);
    dp_ice *ice = net.nodes[0].ice;
    assert_int_equal(
        dp_ice_add_remote_candidate(ice, net.now, "candidate:1 1 udp 2130706431 10.0.0.2 2000 typ host"),
        DP_OK);
    assert_int_equal(ice->outgoing.count, 1); /* the first check, not fetched yet */
    dp_address gone = addr("10.0.0.1", 1000);
    dp_address next = addr("10.0.9.9", 1000);
    assert_int_equal(dp_ice_remove_local_address(ice, net.now, &gone), DP_OK);
    assert_int_equal(dp_ice_add_local_address(ice, net.now, &next), DP_OK);
    uint8_t data[DP_DATAGRAM_MAX];
    dp_datagram d = {.data = data, .capacity = sizeof data};
    while (dp_ice_poll_transmit(ice, net.now, &d)) {
        const dp_ice_transaction *t = dp_ice_transaction_find(ice, data + 8);
        assert_non_null(t);
        assert_true(dp_address_equal(&ice->locals[t->message.base].address, &d.local));
    }
    net_clear(&net);
}

/* Sockets are removed after the agent was closed, as owners do: no other path is taken. */
static void none_is_taken_after_the_end(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 0, "10.0.1.1", 1000);
    net_address(&net, 1, "10.0.0.2", 2000);
    for (unsigned i = 0; i < 2; i++) {
        net_gather(&net, i);
        net_credentials(&net, i);
    }
    net_run(&net, DP_SECONDS(3));
    dp_ice_close(net.nodes[0].ice);
    leave(&net, 0, 0);
    uint8_t data[8];
    dp_datagram d = {.data = data, .capacity = sizeof data};
    size_t headroom;
    assert_false(dp_ice_send_begin(net.nodes[0].ice, &d, &headroom));
    assert_int_equal(dp_ice_add_local_address(net.nodes[0].ice, net.now, &net.nodes[0].addresses[0]), DP_OK);
    assert_int_equal(dp_ice_next_timeout(net.nodes[0].ice), DP_TIME_NEVER);
    net_clear(&net);
}

/* A check that waits for the credentials goes with its socket. */
static void early_checks_go_with_their_socket(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 0, "10.0.1.1", 1000);
    net_address(&net, 1, "10.0.0.2", 2000);
    net_gather(&net, 0);
    net_gather(&net, 1);
    net_credentials(&net, 1);
    net_run(&net, DP_SECONDS(1));
    dp_ice *ice = net.nodes[0].ice;
    assert_int_equal(ice->early_count, 2);
    leave(&net, 0, 0);
    assert_int_equal(ice->early_count, 1);
    net_address(&net, 0, "10.0.2.1", 1000);
    net_run(&net, DP_SECONDS(3)); /* checked through the new one, too */
    assert_int_equal(ice->early_count, 2);
    net_credentials(&net, 0);
    net_run(&net, DP_SECONDS(2));
    assert_true(net_completed(&net));
    net_clear(&net);
}

/* Nobody waits for an answer to a socket that is gone. */
static void gathering_ends_with_the_last_socket(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    dp_address silent = addr("203.0.113.2", 3478);
    net_address(&net, 0, "10.0.0.1", 1000);
    net_stun_server(&net, 0, &silent);
    net_gather(&net, 0);
    net_run(&net, DP_SECONDS(1));
    assert_false(net.nodes[0].gathering_complete);
    leave(&net, 0, 0);
    net_run(&net, 0);
    assert_true(net.nodes[0].gathering_complete);
    assert_int_equal(net.nodes[0].ice->transaction_count, 0);
    net_clear(&net);
}

static bool drop_answers(testnet *net, unsigned from, dp_datagram *d)
{
    dp_stun_message m;
    (void)net;
    return from == 0 || dp_stun_decode(&m, d->data, d->length) != DP_OK || m.class_ == DP_STUN_REQUEST;
}

/* Before there is a pair, data goes to where the peer's came from. That ends with the socket, even if it returns. */
static void the_way_back_goes_with_its_socket(void **state)
{
    (void)state;
    testnet net;
    uint8_t data[4] = "data";
    dp_datagram d = {.data = data, .capacity = sizeof data};
    size_t headroom;
    net_pair(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net.tap = drop_answers;
    net_run(&net, DP_SECONDS(1));
    dp_ice *ice = net.nodes[0].ice;
    assert_int_equal(ice->active, DP_ICE_NO_PAIR);
    assert_false(dp_ice_send_begin(ice, &d, &headroom));
    net_input(&net, 0, data, sizeof data, &net.nodes[0].addresses[0], &net.nodes[1].addresses[0]);
    assert_int_equal(net.nodes[0].payloads, 1);
    assert_true(dp_ice_send_begin(ice, &d, &headroom));
    assert_true(dp_address_equal(&d.remote, &net.nodes[1].addresses[0]));
    leave(&net, 0, 0);
    assert_false(dp_ice_send_begin(ice, &d, &headroom));
    net_address(&net, 0, "10.0.0.1", 1000);
    assert_false(dp_ice_send_begin(ice, &d, &headroom)); /* nothing of the peer came to this one yet */
    net_clear(&net);
}

/* Nobody has consented to what goes that way, and the source of both its check and its data may be forged. */
static void the_way_back_is_short(void **state)
{
    (void)state;
    testnet net;
    uint8_t data[4] = "data";
    uint8_t room[64];
    dp_datagram d = {.data = room, .capacity = sizeof room};
    size_t headroom;
    net_pair(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net.tap = drop_answers;
    net_run(&net, DP_SECONDS(1));
    dp_ice *ice = net.nodes[0].ice;
    assert_int_equal(ice->active, DP_ICE_NO_PAIR);
    unsigned sent = 0;
    for (unsigned n = 0; n < 100; n++) {
        net_input(&net, 0, data, sizeof data, &net.nodes[0].addresses[0], &net.nodes[1].addresses[0]);
        if (!dp_ice_send_begin(ice, &d, &headroom))
            continue;
        d.length = 20;
        dp_ice_send_end(ice, &d, headroom);
        sent++;
    }
    assert_int_equal(sent, DP_ICE_MAX_REPLIES);
    net.tap = NULL;
    net_run(&net, DP_SECONDS(5));
    assert_true(net_completed(&net));
    assert_true(dp_ice_send_begin(ice, &d, &headroom));
    net_clear(&net);
}

/* RFC 7675 §5.1. After a restart the peer is heard, and sends data, but answers no more: neither on the path of before,
 * which ends, nor on a new one. */
static void no_data_after_consent(void **state)
{
    (void)state;
    testnet net;
    uint8_t data[4] = "data";
    uint8_t room[64];
    dp_datagram d = {.data = room, .capacity = sizeof room};
    size_t headroom;
    net_pair(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net_run(&net, DP_SECONDS(3));
    assert_true(net_completed(&net));
    net.tap = drop_answers;
    for (unsigned i = 0; i < 2; i++) {
        net.nodes[i].candidate_count = 0;
        assert_int_equal(dp_ice_restart(net.nodes[i].ice, net.now), DP_OK);
    }
    net_credentials(&net, 0);
    net_credentials(&net, 1);
    dp_ice *ice = net.nodes[0].ice;
    for (unsigned n = 0; n < 40; n++) {
        net_run(&net, DP_SECONDS(1));
        net_input(&net, 0, data, sizeof data, &net.nodes[0].addresses[0], &net.nodes[1].addresses[0]);
        assert_true(dp_ice_send_begin(ice, &d, &headroom) == dp_ice_previous_alive(ice));
    }
    assert_state(&net, 0, DP_ICE_CHECKING);
    assert_int_equal(net.nodes[0].payloads, 40); /* what comes is taken: the peer has our consent */
    net_clear(&net);
}

/* ---- servers ---- */

static void several_servers(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net.server = addr("203.0.113.1", 3478);
    dp_address silent = addr("203.0.113.2", 3478);
    dp_address other_family = addr("2001:db8::53", 3478);
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 0, "2001:db8::1", 1000);
    net.nodes[0].outside[0] = addr("198.51.100.1", 41000);
    net_stun_server(&net, 0, &silent);
    net_stun_server(&net, 0, &net.server);
    net_stun_server(&net, 0, &other_family);
    net_gather(&net, 0);
    net_run(&net, DP_SECONDS(1));
    assert_int_equal(net.nodes[0].candidate_count, 3);
    assert_int_equal(parsed(&net, 0, 2).type, DP_CANDIDATE_SRFLX);
    assert_false(net.nodes[0].gathering_complete); /* two are silent */
    net_run(&net, DP_SECONDS(9));
    assert_true(net.nodes[0].gathering_complete);
    for (unsigned n = 3; n < DP_ICE_MAX_SERVERS; n++)
        assert_int_equal(dp_ice_add_server(net.nodes[0].ice, &(dp_ice_server){.size = sizeof(dp_ice_server),
                                                                              .address = silent}),
                         DP_ERR_INVALID_STATE);
    net_clear(&net);
}

static void bad_servers(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    dp_ice *ice = net.nodes[0].ice;
    char longer[DP_ICE_CREDENTIAL_MAX + 2];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    dp_ice_server good = {.size = sizeof good,
                          .turn = true,
                          .transport = DP_ICE_TLS,
                          .address = addr("203.0.113.1", 5349),
                          .name = "turn.example",
                          .username = "u",
                          .credential = "c"};
    dp_ice_server bad[] = {good, good, good, good, good, good, good};
    bad[0].size = offsetof(dp_ice_server, name) - 1;
    bad[1].address = addr("0.0.0.0", 1);
    bad[2].username = NULL;
    bad[3].credential = "";
    bad[4].username = longer;
    bad[5].turn = false; /* STUN by TLS */
    bad[6].address.port = 0;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(dp_ice_add_server(ice, &bad[i]), DP_ERR_INVALID_ARGUMENT);
    for (unsigned i = 0; i < DP_ICE_MAX_SERVERS; i++)
        assert_int_equal(dp_ice_add_server(ice, &good), DP_OK);
    assert_int_equal(dp_ice_add_server(ice, &good), DP_ERR_LIMIT);
    net_clear(&net);
}

static void the_time_limit_is_the_owners(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net.nodes[0].ice->gather_timeout = DP_MS(700);
    dp_address silent = addr("203.0.113.2", 3478);
    net_address(&net, 0, "10.0.0.1", 1000);
    net_stun_server(&net, 0, &silent);
    net_gather(&net, 0);
    net_run(&net, DP_MS(699));
    assert_false(net.nodes[0].gathering_complete);
    net_run(&net, DP_MS(1));
    assert_true(net.nodes[0].gathering_complete);
    net_clear(&net);
}

/* Requests of node 0 to the server. */
static unsigned to_server;

static bool count_server(testnet *net, unsigned from, dp_datagram *d)
{
    to_server += from == 0 && dp_address_equal(&d->remote, &net->server);
    return true;
}

static void the_mapping_is_kept_alive(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net.server = addr("203.0.113.1", 3478);
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 1, "10.0.0.2", 2000);
    net.nodes[0].outside[0] = addr("198.51.100.1", 41000);
    net_stun_server(&net, 0, &net.server);
    to_server = 0;
    net.tap = count_server;
    net_gather(&net, 0);
    net_gather(&net, 1);
    net_run(&net, DP_SECONDS(1));
    assert_int_equal(to_server, 1);
    net_run(&net, DP_SECONDS(149)); /* RFC 8445 §11: each 15 s */
    assert_in_range(to_server, 10, 11);
    assert_int_equal(net.nodes[0].candidate_count, 2);
    /* the NAT forgets: the new address is a candidate, and the old ones take no place */
    for (uint16_t n = 1; n <= 50; n++) {
        net.nodes[0].outside[0].port = (uint16_t)(41000 + n);
        net.nodes[0].candidate_count = 0;
        net_run(&net, DP_SECONDS(15));
        assert_int_equal(net.nodes[0].candidate_count, 1);
        assert_int_equal(parsed(&net, 0, 0).address.port, 41000 + n);
        assert_int_equal(parsed(&net, 0, 0).type, DP_CANDIDATE_SRFLX);
    }
    net_address(&net, 0, "10.0.9.9", 1000);
    leave(&net, 0, 1);
    net_credentials(&net, 0);
    net_credentials(&net, 1);
    net_run(&net, DP_SECONDS(1));
    assert_true(net_completed(&net));
    unsigned before = to_server;
    net_run(&net, DP_SECONDS(100)); /* nominated: consent keeps it alive */
    assert_int_equal(to_server, before);
    net_clear(&net);
}

/* ---- preferences ---- */

static void preferences(void **state)
{
    (void)state;
    static const struct {
        const char *ip;
        uint32_t preference;
    } table[] = {{"10.0.0.1", 65534}, {"2001:db8::1", 65535}, {"127.0.0.1", 32766},
                 {"10.0.1.1", 65532}, {"fe80::1", 32767},     {"2001:db8::2", 65533},
                 {"::1", 32765},      {"169.254.1.1", 32764}, {"10.0.2.1", 65530}};
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        dp_address a = addr(table[i].ip, 1000);
        assert_int_equal(dp_ice_add_local_address(net.nodes[0].ice, net.now, &a), DP_OK);
    }
    net_gather(&net, 0);
    net_run(&net, 0);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        assert_int_equal(parsed(&net, 0, i).priority, (126u << 24) + (table[i].preference << 8) + 255);
    net_clear(&net);
}

/* RFC 8445 §5.1.2.1: no two candidates of a type have one, and so one priority: behind a NAT that maps anew for each
 * server; with a TCP port beside the address that connects. */
static void preferences_are_unique(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    dp_ice *ice = net.nodes[0].ice;
    ice->tcp = true;
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 0, "10.0.1.1", 1000);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(dp_ice_add_local_listener(ice, net.now, &net.nodes[0].addresses[i]), DP_OK);
    net_gather(&net, 0);
    for (unsigned server = 0; server < 3; server++) {
        for (unsigned base = 0; base < 2; base++) {
            dp_address mapped = addr("203.0.113.1", (uint16_t)(1000 + 10 * base + server));
            int index = dp_ice_local_find(ice, &net.nodes[0].addresses[base], DP_TCPTYPE_NONE);
            dp_ice_local_reflexive(ice, DP_CANDIDATE_SRFLX, &mapped, (size_t)index, (uint8_t)server);
        }
    }
    net_run(&net, 0);
    assert_int_equal(net.nodes[0].candidate_count, 12);
    for (size_t i = 0; i < net.nodes[0].candidate_count; i++) {
        for (size_t k = 0; k < i; k++)
            assert_int_not_equal(parsed(&net, 0, i).priority, parsed(&net, 0, k).priority);
    }
    net_clear(&net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_socket_is_a_way_out),
        cmocka_unit_test(the_other_path_is_there_at_once),
        cmocka_unit_test(a_dead_reserve_is_seen_through),
        cmocka_unit_test(without_a_socket),
        cmocka_unit_test(the_same_address_returns),
        cmocka_unit_test(many_over_time),
        cmocka_unit_test(places_are_limited),
        cmocka_unit_test(a_peer_that_lies_about_addresses),
        cmocka_unit_test(nothing_leaves_from_the_wrong_socket),
        cmocka_unit_test(none_is_taken_after_the_end),
        cmocka_unit_test(early_checks_go_with_their_socket),
        cmocka_unit_test(gathering_ends_with_the_last_socket),
        cmocka_unit_test(the_way_back_goes_with_its_socket),
        cmocka_unit_test(the_way_back_is_short),
        cmocka_unit_test(no_data_after_consent),
        cmocka_unit_test(several_servers),
        cmocka_unit_test(bad_servers),
        cmocka_unit_test(the_time_limit_is_the_owners),
        cmocka_unit_test(the_mapping_is_kept_alive),
        cmocka_unit_test(preferences),
        cmocka_unit_test(preferences_are_unique),
    };
    return cmocka_run_group_tests_name("ice/sockets", tests, NULL, NULL);
}
