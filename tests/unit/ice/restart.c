/* ICE restart (RFC 8445 §9): the old path carries the data until the new session has one. */
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

static void restart(testnet *net, unsigned i)
{
    net->nodes[i].candidate_count = 0;
    net->nodes[i].gathering_complete = false;
    assert_int_equal(dp_ice_restart(net->nodes[i].ice, net->now), DP_OK);
    assert_int_equal(net->nodes[i].ice->transaction_count, 0); /* their pairs are no more */
}

/* One datagram of data; false: node i has no way to the peer. */
static bool send_data(testnet *net, unsigned i)
{
    uint8_t data[64] = {0};
    dp_datagram d = {.data = data, .capacity = sizeof data};
    size_t headroom = 99;
    if (!dp_ice_send_begin(net->nodes[i].ice, &d, &headroom))
        return false;
    assert_int_equal(d.link, 0);
    assert_int_equal(headroom, 0);
    memset(data, 'd', 20);
    d.length = 20;
    dp_ice_send_end(net->nodes[i].ice, &d, headroom);
    assert_int_equal(d.length, 20);
    if (net->tap == NULL || net->tap(net, i, &d))
        net_route(net, i, &d);
    return true;
}

/* Runs and sends data both ways each 10 ms; all must leave. Returns how many went each way. */
static unsigned flow(testnet *net, dp_duration span)
{
    unsigned sent = 0;
    for (dp_time end = net->now + span; net->now < end; net_run(net, DP_MS(10))) {
        assert_true(send_data(net, 0));
        assert_true(send_data(net, 1));
        sent++;
    }
    return sent;
}

static void connected(testnet *net, uint64_t seed, dp_ice_role role)
{
    net_pair(net, seed, role, role == DP_ICE_CONTROLLING ? DP_ICE_CONTROLLED : DP_ICE_CONTROLLING);
    net_run(net, DP_SECONDS(3));
    assert_true(net_completed(net));
}

static void data_flows_throughout(void **state)
{
    (void)state;
    for (unsigned variant = 0; variant < 8; variant++) {
        testnet net;
        unsigned first = variant & 1;
        connected(&net, variant + 1, (variant & 2) != 0 ? DP_ICE_CONTROLLING : DP_ICE_CONTROLLED);
        for (unsigned i = 0; i < 2; i++) {
            net.nodes[i].history_count = 0;
            net.nodes[i].selections = 0;
        }
        unsigned sent = flow(&net, DP_MS(200));
        restart(&net, first); /* the offer */
        sent += flow(&net, DP_MS(300));
        restart(&net, 1 - first); /* arrives */
        net_credentials(&net, 1 - first);
        sent += flow(&net, (variant & 4) != 0 ? DP_SECONDS(20) : DP_MS(300));
        net_credentials(&net, first); /* the answer */
        sent += flow(&net, DP_SECONDS(3));
        net_run(&net, DP_MS(50));
        assert_true(net_completed(&net));
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal(net.nodes[i].payloads, sent);
            assert_int_equal(net.nodes[i].history_count, 2);
            assert_int_equal(net.nodes[i].history[0], DP_ICE_CONNECTED);
            assert_int_equal(net.nodes[i].history[1], DP_ICE_COMPLETED);
            assert_int_equal(net.nodes[i].selections, 1);
        }
        assert_int_not_equal(dp_ice_get_role(net.nodes[0].ice), dp_ice_get_role(net.nodes[1].ice));
        (void)flow(&net, DP_SECONDS(60)); /* and the old path has ended meanwhile */
        for (unsigned i = 0; i < 2; i++) {
            assert_false(dp_ice_previous_alive(net.nodes[i].ice));
            assert_state(&net, i, DP_ICE_COMPLETED);
        }
        net_clear(&net);
    }
}

static void all_is_signalled_anew(void **state)
{
    (void)state;
    testnet net;
    dp_candidate c;
    char ufrag[DP_ICE_UFRAG_LEN + 1];
    char pwd[DP_ICE_PWD_LEN + 1];
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net.server = addr("203.0.113.1", 3478);
    net_address(&net, 0, "10.0.0.1", 1000);
    net.nodes[0].outside[0] = addr("198.51.100.1", 41000);
    net_stun_server(&net, 0, &net.server);
    net_gather(&net, 0);
    net_run(&net, DP_SECONDS(1));
    memcpy(ufrag, dp_ice_local_ufrag(net.nodes[0].ice), sizeof ufrag);
    memcpy(pwd, dp_ice_local_pwd(net.nodes[0].ice), sizeof pwd);
    restart(&net, 0);
    assert_string_not_equal(ufrag, dp_ice_local_ufrag(net.nodes[0].ice));
    assert_string_not_equal(pwd, dp_ice_local_pwd(net.nodes[0].ice));
    assert_state(&net, 0, DP_ICE_NEW);
    net.nodes[0].outside[0] = addr("198.51.100.1", 42000); /* the NAT has another idea now */
    net_run(&net, DP_SECONDS(1));
    assert_true(net.nodes[0].gathering_complete);
    assert_int_equal(net.nodes[0].candidate_count, 2);
    for (unsigned n = 0; n < 2; n++) {
        const char *text = net.nodes[0].candidates[n];
        assert_int_equal(dp_candidate_parse(&c, text, strlen(text)), DP_OK);
        assert_string_equal(c.ufrag, dp_ice_local_ufrag(net.nodes[0].ice));
        assert_int_equal(c.type, n == 0 ? DP_CANDIDATE_HOST : DP_CANDIDATE_SRFLX);
    }
    assert_int_equal(c.address.port, 42000);
    net_clear(&net);
}

/* A description of the session before can still be under way. */
static void old_candidates_are_skipped(void **state)
{
    (void)state;
    testnet net;
    char old[DP_CANDIDATE_TEXT_MAX];
    connected(&net, 1, DP_ICE_CONTROLLING);
    memcpy(old, net.nodes[1].candidates[0], sizeof old);
    restart(&net, 0);
    restart(&net, 1);
    net.nodes[1].mute_candidates = true;
    assert_int_equal(dp_ice_add_remote_candidate(net.nodes[0].ice, net.now, old), DP_OK); /* held */
    net_credentials(&net, 0);
    assert_int_equal(net.nodes[0].ice->remote_count, 0);
    assert_int_equal(dp_ice_add_remote_candidate(net.nodes[0].ice, net.now, old), DP_OK);
    assert_int_equal(net.nodes[0].ice->remote_count, 0);
    assert_int_equal(net.nodes[0].ice->stats.candidates_skipped, 2);
    net_clear(&net);
}

/* ---- the session before ---- */

/* The peer never answers the offer: it is a peer of the old session, and is treated as one. */
static void the_old_session_is_kept_up(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        testnet net;
        connected(&net, 1 + i, DP_ICE_CONTROLLING);
        restart(&net, i);
        unsigned sent = flow(&net, DP_SECONDS(120));
        net_run(&net, DP_MS(50));
        assert_state(&net, i, DP_ICE_CONNECTED);
        assert_state(&net, 1 - i, DP_ICE_COMPLETED);
        assert_int_equal(net.nodes[0].payloads, sent);
        assert_int_equal(net.nodes[1].payloads, sent);
        net_clear(&net);
    }
}

typedef struct secrets {
    char local_ufrag[DP_ICE_UFRAG_LEN + 1];
    char local_pwd[DP_ICE_PWD_LEN + 1];
    char remote_ufrag[DP_ICE_UFRAG_LEN + 1];
} secrets;

static secrets secrets_of(const testnet *net, unsigned i)
{
    secrets s;
    memcpy(s.local_ufrag, net->nodes[i].ice->local_ufrag, sizeof s.local_ufrag);
    memcpy(s.local_pwd, net->nodes[i].ice->local_pwd, sizeof s.local_pwd);
    memcpy(s.remote_ufrag, net->nodes[1 - i].ice->local_ufrag, sizeof s.remote_ufrag);
    return s;
}

/* A check to node 0 of the session whose secrets these are. Returns whether it is answered, and how. */
static dp_stun_class check(testnet *net, const secrets *s, const char *remote_ufrag, const char *pwd,
                           uint16_t extra, const dp_address *from)
{
    static const uint8_t id[DP_STUN_TRANSACTION_LEN] = "restart test";
    uint8_t data[DP_DATAGRAM_MAX];
    char username[64];
    size_t len = 0;
    dp_datagram d = {.data = data, .capacity = sizeof data};
    dp_wr wr = dp_wr_init(data, sizeof data);
    (void)snprintf(username, sizeof username, "%s:%s", s->local_ufrag, remote_ufrag);
    dp_stun_write_header(&wr, DP_STUN_REQUEST, DP_STUN_METHOD_BINDING, id);
    dp_stun_write_attribute(&wr, DP_STUN_USERNAME, username, strlen(username));
    dp_stun_write_u64(&wr, DP_STUN_ICE_CONTROLLED, 1);
    dp_stun_write_u32(&wr, DP_STUN_PRIORITY, 1845501695);
    if (extra != 0)
        dp_stun_write_u32(&wr, (dp_stun_attribute)extra, 0);
    dp_stun_write_integrity(&wr, pwd, strlen(pwd));
    dp_stun_write_fingerprint(&wr);
    assert_int_equal(dp_stun_finish(&wr, &len), DP_OK);
    net_input(net, 0, data, len, &net->nodes[0].addresses[0], from);
    while (dp_ice_poll_transmit(net->nodes[0].ice, net->now, &d)) {
        dp_stun_message m;
        assert_int_equal(dp_stun_decode(&m, d.data, d.length), DP_OK);
        if (m.class_ != DP_STUN_REQUEST && memcmp(m.transaction, id, sizeof id) == 0) {
            assert_int_equal(dp_stun_check_integrity(&m, pwd, strlen(pwd)), DP_OK);
            return m.class_;
        }
    }
    return DP_STUN_INDICATION; /* none */
}

static void old_credentials_count_on_the_old_path_alone(void **state)
{
    (void)state;
    testnet net;
    connected(&net, 1, DP_ICE_CONTROLLING);
    secrets s = secrets_of(&net, 0);
    dp_address peer = net.nodes[1].addresses[0];
    dp_address stranger = addr("10.0.0.66", 2000);
    restart(&net, 0);
    net_run(&net, DP_MS(100));
    assert_int_equal(check(&net, &s, s.remote_ufrag, s.local_pwd, 0, &peer), DP_STUN_SUCCESS);
    assert_int_equal(check(&net, &s, s.remote_ufrag, s.local_pwd, 0x7FFF, &peer), DP_STUN_ERROR);
    assert_int_equal(check(&net, &s, s.remote_ufrag, s.local_pwd, 0, &stranger), DP_STUN_INDICATION);
    assert_int_equal(check(&net, &s, "somebody", s.local_pwd, 0, &peer), DP_STUN_INDICATION);
    assert_int_equal(check(&net, &s, s.remote_ufrag, "wrongwrongwrongwrongwron", 0, &peer),
                     DP_STUN_INDICATION);
    assert_int_equal(net.nodes[0].ice->stats.dropped_unauthorized, 3);
    uint8_t data[4] = "data";
    net_input(&net, 0, data, sizeof data, &net.nodes[0].addresses[0], &stranger);
    assert_int_equal(net.nodes[0].payloads, 0);
    net_input(&net, 0, data, sizeof data, &net.nodes[0].addresses[0], &peer);
    assert_int_equal(net.nodes[0].payloads, 1);
    net_clear(&net);
}

/* The peer moves to the new path when it likes: what it sends on the old one counts until it is silent there. */
static void data_on_the_old_path_counts(void **state)
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
    secrets s = secrets_of(&net, 0);
    dp_address old = net.nodes[0].addresses[0]; /* the selected one */
    dp_address peer = net.nodes[1].addresses[0];
    restart(&net, 0);
    restart(&net, 1);
    net.nodes[0].mute_candidates = net.nodes[1].mute_candidates = true;
    net_run(&net, 0);
    for (unsigned i = 0; i < 2; i++)
        net_credentials(&net, i);
    assert_int_equal(dp_ice_add_remote_candidate(net.nodes[1].ice, net.now, net.nodes[0].candidates[1]),
                     DP_OK);
    net_run(&net, DP_SECONDS(1));
    assert_true(net_completed(&net)); /* by the other path */
    dp_address l;
    dp_address r;
    assert_true(dp_ice_selected_pair(net.nodes[0].ice, &l, &r));
    assert_true(dp_address_equal(&l, &net.nodes[0].addresses[1]));
    uint8_t data[4] = "data";
    net_input(&net, 0, data, sizeof data, &old, &peer);
    assert_int_equal(net.nodes[0].payloads, 1);
    assert_true(dp_ice_is_validated(net.nodes[0].ice, &old, &peer));
    for (unsigned n = 0; n < 10; n++) { /* its checks of the old session keep the path */
        assert_int_equal(check(&net, &s, s.remote_ufrag, s.local_pwd, 0, &peer), DP_STUN_SUCCESS);
        net_run(&net, DP_SECONDS(6));
    }
    assert_true(dp_ice_is_validated(net.nodes[0].ice, &old, &peer));
    net_run(&net, DP_SECONDS(31)); /* no check of the old session any more */
    net_input(&net, 0, data, sizeof data, &old, &peer);
    assert_int_equal(net.nodes[0].payloads, 1);
    assert_true(net_completed(&net));
    net_clear(&net);
}

/* ---- when ---- */

static void early_checks_of_the_new_session(void **state)
{
    (void)state;
    testnet net;
    connected(&net, 1, DP_ICE_CONTROLLED);
    restart(&net, 0);
    restart(&net, 1);
    net_credentials(&net, 1);
    net_run(&net, DP_SECONDS(2)); /* node 1 checks; node 0 does not know it yet */
    assert_int_equal(net.nodes[0].ice->early_count, 1);
    dp_time answer = net.now;
    net_credentials(&net, 0);
    net_run_until(&net, answer + DP_SECONDS(5), net_completed);
    assert_true(net.now <= answer + DP_MS(200));
    net_clear(&net);
}

static void in_each_state(void **state)
{
    (void)state;
    for (unsigned variant = 0; variant < 4; variant++) {
        testnet net;
        bool failed = (variant & 1) != 0;
        connected(&net, 1 + variant, DP_ICE_CONTROLLING);
        net.loss = 100;
        net_run(&net, failed ? DP_SECONDS(40) : DP_SECONDS(10));
        for (unsigned i = 0; i < 2; i++)
            assert_state(&net, i, failed ? DP_ICE_FAILED : DP_ICE_DISCONNECTED);
        restart(&net, variant / 2);
        restart(&net, 1 - variant / 2);
        for (unsigned i = 0; i < 2; i++)
            assert_state(&net, i, DP_ICE_CHECKING);
        net.loss = 0;
        net_run(&net, DP_MS(100)); /* candidates before credentials */
        net_credentials(&net, 0);
        net_credentials(&net, 1);
        net_run(&net, DP_SECONDS(5));
        assert_true(net_completed(&net));
        net_run(&net, DP_SECONDS(100));
        assert_true(net_completed(&net));
        net_clear(&net);
    }
}

static void before_the_first_session_is_up(void **state)
{
    (void)state;
    testnet net;
    net_pair(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    net_run(&net, DP_MS(5)); /* checks are on their way */
    for (unsigned i = 0; i < 2; i++)
        restart(&net, i);
    for (unsigned i = 0; i < 2; i++)
        net_credentials(&net, i);
    net_run(&net, DP_SECONDS(2));
    assert_true(net_completed(&net));
    net_clear(&net);
}

static void twice_in_a_row(void **state)
{
    (void)state;
    for (unsigned variant = 0; variant < 2; variant++) {
        testnet net;
        connected(&net, 1, DP_ICE_CONTROLLING);
        unsigned sent = flow(&net, DP_MS(100));
        restart(&net, 0);
        sent += flow(&net, DP_MS(100));
        if (variant == 1) { /* the first one has begun on both sides */
            restart(&net, 1);
            net_credentials(&net, 1);
            sent += flow(&net, DP_MS(100));
        }
        restart(&net, 0);
        sent += flow(&net, DP_MS(100));
        restart(&net, 1);
        net_credentials(&net, 1);
        sent += flow(&net, DP_MS(100));
        net_credentials(&net, 0);
        sent += flow(&net, DP_SECONDS(40));
        net_run(&net, DP_MS(50));
        assert_true(net_completed(&net));
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal(net.nodes[i].payloads, sent);
            assert_false(net_was(&net, i, DP_ICE_DISCONNECTED));
        }
        net_clear(&net);
    }
}

/* ---- the old path dies ---- */

static void the_old_path_dies_meanwhile(void **state)
{
    (void)state;
    for (unsigned lives = 0; lives < 2; lives++) {
        testnet net;
        connected(&net, 1, DP_ICE_CONTROLLING);
        restart(&net, 0);
        restart(&net, 1);
        net.loss = 100;
        net_run(&net, DP_SECONDS(31));
        for (unsigned i = 0; i < 2; i++) {
            uint8_t data[8];
            dp_datagram d = {.data = data, .capacity = sizeof data};
            size_t headroom;
            assert_state(&net, i, DP_ICE_CHECKING);
            assert_false(dp_ice_send_begin(net.nodes[i].ice, &d, &headroom)); /* no consent */
        }
        if (lives == 1) {
            net.loss = 0;
            net_credentials(&net, 0);
            net_credentials(&net, 1);
            net_run(&net, DP_SECONDS(2));
            assert_true(net_completed(&net));
        } else {
            net_run(&net, DP_SECONDS(22));
            assert_state(&net, 0, DP_ICE_CHECKING);
            net_run(&net, DP_SECONDS(8));
            for (unsigned i = 0; i < 2; i++)
                assert_state(&net, i, DP_ICE_FAILED);
        }
        net_clear(&net);
    }
}

/* Checks of the new session find nothing for a while, and have all failed when the old path goes: they are made
 * again. */
static bool new_session_only;

static bool one_session(testnet *net, unsigned from, dp_datagram *d)
{
    dp_stun_message m;
    (void)net;
    (void)from;
    if (dp_stun_decode(&m, d->data, d->length) != DP_OK)
        return true;
    const dp_ice_previous *old = net->nodes[from].ice->previous;
    bool ours =
        old != NULL && (dp_stun_check_integrity(&m, old->remote_pwd, strlen(old->remote_pwd)) == DP_OK ||
                        dp_stun_check_integrity(&m, old->local_pwd, strlen(old->local_pwd)) == DP_OK);
    return ours != new_session_only;
}

static void failed_checks_are_made_again(void **state)
{
    (void)state;
    testnet net;
    connected(&net, 1, DP_ICE_CONTROLLING);
    new_session_only = false;
    net.tap = one_session;
    for (unsigned i = 0; i < 2; i++) {
        restart(&net, i);
        assert_int_equal(dp_ice_add_remote_candidate(net.nodes[i].ice, net.now, ""), DP_OK);
    }
    for (unsigned i = 0; i < 2; i++)
        net_credentials(&net, i);
    (void)flow(&net, DP_SECONDS(40));
    for (unsigned i = 0; i < 2; i++) {
        assert_state(&net, i, DP_ICE_CONNECTED);
        assert_true(dp_ice_pairs_all_failed(net.nodes[i].ice));
        net.nodes[i].history_count = 0;
    }
    new_session_only = true; /* and data is lost, too */
    net_run(&net, DP_SECONDS(35));
    assert_true(net_was(&net, 0, DP_ICE_CHECKING) ||
                net_was(&net, 1, DP_ICE_CHECKING)); /* one wakes the other */
    assert_true(net_completed(&net));
    net_clear(&net);
}

static void its_socket_goes(void **state)
{
    (void)state;
    testnet net;
    connected(&net, 1, DP_ICE_CONTROLLING);
    restart(&net, 0);
    dp_address gone = net.nodes[0].addresses[0];
    assert_int_equal(dp_ice_remove_local_address(net.nodes[0].ice, net.now, &gone), DP_OK);
    assert_state(&net, 0, DP_ICE_CHECKING);
    net.nodes[0].address_count = 0;
    net_run(&net, DP_SECONDS(1));
    net_address(&net, 0, "10.0.1.1", 1000);
    restart(&net, 1);
    for (unsigned i = 0; i < 2; i++)
        net_credentials(&net, i);
    net_run(&net, DP_SECONDS(2));
    assert_true(net_completed(&net));
    net_clear(&net);
}

/* The checks of the new session have failed, and then the socket of the old path goes: there is time for another. */
static void its_socket_goes_late(void **state)
{
    (void)state;
    testnet net;
    connected(&net, 1, DP_ICE_CONTROLLING);
    new_session_only = false;
    net.tap = one_session;
    for (unsigned i = 0; i < 2; i++) {
        restart(&net, i);
        assert_int_equal(dp_ice_add_remote_candidate(net.nodes[i].ice, net.now, ""), DP_OK);
    }
    for (unsigned i = 0; i < 2; i++)
        net_credentials(&net, i);
    net_run(&net, DP_SECONDS(40));
    dp_address gone = net.nodes[0].addresses[0];
    net.nodes[0].address_count = 0;
    assert_int_equal(dp_ice_remove_local_address(net.nodes[0].ice, net.now, &gone), DP_OK);
    net_run(&net, DP_SECONDS(10));
    assert_state(&net, 0, DP_ICE_CHECKING);
    net.tap = NULL;
    net_address(&net, 0, "10.0.1.1", 1000);
    net_run(&net, DP_SECONDS(2));
    assert_true(net_completed(&net));
    net_clear(&net);
}

/* ---- failures ---- */

static bool no_luck;

static int moody_random(void *ctx, uint8_t *out, size_t len)
{
    return no_luck ? DP_ERR_CRYPTO : test_random_fn(ctx, out, len);
}

static void *no_memory(void *ctx, size_t size)
{
    (void)ctx;
    (void)size;
    return NULL;
}
static void *no_more_memory(void *ctx, void *block, size_t size)
{
    (void)ctx;
    (void)block;
    (void)size;
    return NULL;
}
static void give_back(void *ctx, void *block)
{
    (void)ctx;
    free(block);
}

/* Nothing has changed then. */
static void a_restart_that_can_not_be(void **state)
{
    (void)state;
    const dp_allocator allocator = {no_memory, no_more_memory, give_back, NULL};
    testnet net;
    connected(&net, 1, DP_ICE_CONTROLLING);
    dp_ice *ice = net.nodes[0].ice;
    char ufrag[DP_ICE_UFRAG_LEN + 1];
    memcpy(ufrag, ice->local_ufrag, sizeof ufrag);
    dp_set_allocator(&allocator);
    int err = dp_ice_restart(ice, net.now);
    dp_set_allocator(NULL);
    assert_int_equal(err, DP_ERR_NO_MEMORY);
    ice->random.fn = moody_random;
    no_luck = true;
    assert_int_equal(dp_ice_restart(ice, net.now), DP_ERR_CRYPTO);
    no_luck = false;
    assert_string_equal(dp_ice_local_ufrag(ice), ufrag);
    assert_false(dp_ice_previous_alive(ice));
    unsigned sent = flow(&net, DP_SECONDS(40));
    net_run(&net, DP_MS(50));
    assert_true(net_completed(&net));
    assert_int_equal(net.nodes[1].payloads, sent);
    dp_ice_close(ice);
    assert_int_equal(dp_ice_restart(ice, net.now), DP_ERR_INVALID_STATE);
    net_clear(&net);
    net_init(&net, 1, DP_ICE_CONTROLLING, DP_ICE_CONTROLLED);
    assert_int_equal(dp_ice_restart(net.nodes[0].ice, net.now), DP_ERR_INVALID_STATE);
    net_clear(&net);
}

static unsigned long countdown;
static unsigned long allocations;

static bool fails(void)
{
    allocations++;
    return countdown > 0 && --countdown == 0;
}
static void *hook_alloc(void *ctx, size_t size)
{
    (void)ctx;
    return fails() ? NULL : malloc(size);
}
static void *hook_realloc(void *ctx, void *old, size_t size)
{
    (void)ctx;
    return fails() ? NULL : realloc(old, size);
}

/* The n-th allocation from the restart on fails. The data flows all the same. */
static void every_allocation_fails_once(void **state)
{
    (void)state;
    const dp_allocator allocator = {hook_alloc, hook_realloc, give_back, NULL};
    unsigned long total = 1;
    for (unsigned long n = 0; n <= total; n++) {
        testnet net;
        connected(&net, 1, DP_ICE_CONTROLLING);
        net.nodes[1].mute_candidates = true; /* one is peer-reflexive, and its check is early */
        dp_set_allocator(&allocator);
        allocations = 0;
        countdown = n;
        for (unsigned i = 0; i < 2; i++) {
            int err = dp_ice_restart(net.nodes[i].ice, net.now);
            assert_true(err == DP_OK || (n > 0 && err == DP_ERR_NO_MEMORY));
            if (err != DP_OK)
                restart(&net, i);
        }
        dp_ice_event event;
        while (dp_ice_poll_event(net.nodes[0].ice, &event)) {
            if (event.candidate != NULL &&
                dp_ice_add_remote_candidate(net.nodes[1].ice, net.now, event.candidate) != DP_OK)
                assert_int_equal(dp_ice_add_remote_candidate(net.nodes[1].ice, net.now, event.candidate),
                                 DP_OK);
        }
        net_credentials(&net, 1);
        unsigned sent = flow(&net, DP_MS(100));
        net_credentials(&net, 0);
        sent += flow(&net, DP_SECONDS(1));
        assert_int_equal(dp_ice_add_remote_candidate(net.nodes[1].ice, net.now,
                                                     "candidate:1 1 udp 99 10.0.0.1 1000 typ host"),
                         DP_OK);
        sent += flow(&net, DP_SECONDS(10));
        net_run(&net, DP_MS(50));
        assert_true(net_completed(&net));
        assert_int_equal(net.nodes[0].payloads, sent);
        assert_int_equal(net.nodes[1].payloads, sent);
        if (n == 0)
            total = allocations;
        dp_set_allocator(NULL);
        net_clear(&net);
    }
    assert_in_range(total, 4, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_flows_throughout),
        cmocka_unit_test(all_is_signalled_anew),
        cmocka_unit_test(old_candidates_are_skipped),
        cmocka_unit_test(the_old_session_is_kept_up),
        cmocka_unit_test(old_credentials_count_on_the_old_path_alone),
        cmocka_unit_test(data_on_the_old_path_counts),
        cmocka_unit_test(early_checks_of_the_new_session),
        cmocka_unit_test(in_each_state),
        cmocka_unit_test(before_the_first_session_is_up),
        cmocka_unit_test(twice_in_a_row),
        cmocka_unit_test(the_old_path_dies_meanwhile),
        cmocka_unit_test(failed_checks_are_made_again),
        cmocka_unit_test(its_socket_goes),
        cmocka_unit_test(its_socket_goes_late),
        cmocka_unit_test(a_restart_that_can_not_be),
        cmocka_unit_test(every_allocation_fails_once),
    };
    return cmocka_run_group_tests_name("ice/restart", tests, NULL, NULL);
}
