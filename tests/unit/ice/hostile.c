/* Bad-input rows 7-13, 16-19 and 21-23: what a stranger, a broken peer and a hostile peer send. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "testnet.h"

/* What a message to node 0 is made of; zero fields are left out. */
typedef struct forged {
    dp_stun_class class_;
    unsigned method;
    const char *username; /* NULL: the right one */
    const char *key;      /* NULL: the right one; "": no MESSAGE-INTEGRITY */
    const uint8_t *id;
    bool no_priority;
    bool use_candidate;
    uint16_t extra;
    uint64_t controlling;
    uint64_t controlled;
    unsigned error_code;
    bool no_mapped;
} forged;

static const uint8_t some_id[DP_STUN_TRANSACTION_LEN] = "someone else";

static size_t forge(const testnet *net, uint8_t out[DP_DATAGRAM_MAX], const forged *f)
{
    dp_wr wr = dp_wr_init(out, DP_DATAGRAM_MAX);
    const dp_ice *a = net->nodes[0].ice;
    const dp_ice *b = net->nodes[1].ice;
    char username[64];
    size_t len = 0;
    snprintf(username, sizeof username, "%s:%s", a->local_ufrag, b->local_ufrag);
    const char *name = f->username != NULL ? f->username : username;
    const char *key = f->key != NULL ? f->key : f->class_ == DP_STUN_REQUEST ? a->local_pwd : b->local_pwd;
    dp_stun_write_header(&wr, f->class_, f->method != 0 ? f->method : DP_STUN_METHOD_BINDING,
                         f->id != NULL ? f->id : some_id);
    if (f->class_ == DP_STUN_REQUEST) {
        if (name[0] != '\0')
            dp_stun_write_attribute(&wr, DP_STUN_USERNAME, name, strlen(name));
        if (f->controlled == 0)
            dp_stun_write_u64(&wr, DP_STUN_ICE_CONTROLLING, f->controlling);
        else
            dp_stun_write_u64(&wr, DP_STUN_ICE_CONTROLLED, f->controlled);
        if (!f->no_priority)
            dp_stun_write_u32(&wr, DP_STUN_PRIORITY, 1845501695);
        if (f->use_candidate)
            dp_stun_write_attribute(&wr, DP_STUN_USE_CANDIDATE, "", 0);
    } else if (f->class_ == DP_STUN_SUCCESS && !f->no_mapped) {
        dp_stun_write_xor_mapped_address(&wr, &net->nodes[0].addresses[0]);
    }
    if (f->extra != 0)
        dp_stun_write_u32(&wr, (dp_stun_attribute)f->extra, 0);
    if (f->error_code != 0)
        dp_stun_write_error_code(&wr, f->error_code, "");
    if (key[0] != '\0')
        dp_stun_write_integrity(&wr, key, strlen(key));
    dp_stun_write_fingerprint(&wr);
    assert_int_equal(dp_stun_finish(&wr, &len), DP_OK);
    return len;
}

static void inject_from(testnet *net, const forged *f, const dp_address *remote)
{
    uint8_t data[DP_DATAGRAM_MAX];
    size_t len = forge(net, data, f);
    uint8_t *exact = malloc(len);
    memcpy(exact, data, len);
    net_input(net, 0, exact, len, &net->nodes[0].addresses[0], remote);
    free(exact);
}

static void inject(testnet *net, const forged *f) { inject_from(net, f, &net->nodes[1].addresses[0]); }

/* Fetches what node 0 has to send; false: nothing. m borrows a static buffer. */
static bool fetch(testnet *net, dp_stun_message *m)
{
    static uint8_t data[DP_DATAGRAM_MAX];
    dp_datagram d = {.data = data, .capacity = sizeof data};
    if (!dp_ice_poll_transmit(net->nodes[0].ice, net->now, &d))
        return false;
    assert_int_equal(dp_stun_decode(m, data, d.length), DP_OK);
    return true;
}

static dp_ice_stats stats_of(const testnet *net)
{
    dp_ice_stats stats;
    dp_ice_get_stats(net->nodes[0].ice, &stats);
    return stats;
}

/* Node 0 waits, controlled, with no candidates: it sends nothing unless it is asked. */
static void waiting(testnet *net)
{
    net_init(net, 1, DP_ICE_CONTROLLED, DP_ICE_CONTROLLING);
    net_address(net, 0, "10.0.0.1", 1000);
    net_address(net, 1, "10.0.0.2", 2000);
    net_gather(net, 0);
    net_credentials(net, 0);
}

static void malformed_is_dropped(void **state) /* rows 1-6 at the agent's door; stun.c has them one by one */
{
    (void)state;
    testnet net;
    dp_stun_message m;
    waiting(&net);
    uint8_t data[DP_DATAGRAM_MAX];
    forged good = {0};
    size_t len = forge(&net, data, &good);
    data[len - 1] ^= 1;
    net_input(&net, 0, data, len, &net.nodes[0].addresses[0], &net.nodes[1].addresses[0]);
    net_input(&net, 0, data, 19, &net.nodes[0].addresses[0], &net.nodes[1].addresses[0]);
    net_input(&net, 0, data, 0, &net.nodes[0].addresses[0], &net.nodes[1].addresses[0]);
    assert_int_equal(stats_of(&net).dropped_malformed, 3);
    assert_false(fetch(&net, &m));
    data[len - 1] ^= 1; /* on a socket that is none of ours */
    net_input(&net, 0, data, len, &net.nodes[1].addresses[0], &net.nodes[1].addresses[0]);
    dp_address no_port = addr("10.0.0.2", 0);
    inject_from(&net, &good, &no_port); /* from where no answer can go */
    assert_int_equal(stats_of(&net).dropped_unexpected, 2);
    assert_false(fetch(&net, &m));
    net_clear(&net);
}

static void unauthorized_is_dropped(void **state) /* rows 7, 8, 9 */
{
    (void)state;
    testnet net;
    dp_stun_message m;
    waiting(&net);
    const dp_ice *a = net.nodes[0].ice;
    const dp_ice *b = net.nodes[1].ice;
    char names[6][64];
    snprintf(names[0], 64, "%s:%s", b->local_ufrag, a->local_ufrag);
    snprintf(names[1], 64, "%s:%sx", a->local_ufrag, b->local_ufrag);
    snprintf(names[2], 64, "%s:%.7s", a->local_ufrag, b->local_ufrag);
    snprintf(names[3], 64, "%s:", a->local_ufrag);
    snprintf(names[4], 64, "%s", a->local_ufrag);
    snprintf(names[5], 64, "%s.%s", a->local_ufrag, b->local_ufrag);
    uint64_t dropped = 0;
    for (size_t i = 0; i < 6; i++) {
        inject(&net, &(forged){.username = names[i]});
        assert_int_equal(stats_of(&net).dropped_unauthorized, ++dropped);
    }
    static const forged bad[] = {
        {.username = ""}, {.key = ""}, {.username = "", .key = ""}, {.key = "wrong"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        inject(&net, &bad[i]);
        assert_int_equal(stats_of(&net).dropped_unauthorized, ++dropped);
    }
    inject(&net, &(forged){.key = b->local_pwd}); /* the other password */
    assert_int_equal(stats_of(&net).dropped_unauthorized, ++dropped);
    inject(&net, &(forged){.class_ = DP_STUN_INDICATION});
    inject(&net, &(forged){.method = 3});
    assert_false(fetch(&net, &m));
    assert_int_equal(a->remote_count + a->pair_count, 0);
    assert_false(dp_ice_is_validated(a, &net.nodes[0].addresses[0], &net.nodes[1].addresses[0]));
    inject(&net, &(forged){0}); /* the right one is answered: the tests above fail for the reason given */
    assert_true(fetch(&net, &m));
    assert_int_equal(m.class_, DP_STUN_SUCCESS);
    assert_true(dp_ice_is_validated(a, &net.nodes[0].addresses[0], &net.nodes[1].addresses[0]));
    net_clear(&net);
}

static void refused_requests(void **state) /* row 10 */
{
    (void)state;
    testnet net;
    dp_stun_message m;
    waiting(&net);
    const dp_ice *a = net.nodes[0].ice;
    inject(&net, &(forged){.extra = 0x0026});
    assert_true(fetch(&net, &m));
    assert_int_equal(m.class_, DP_STUN_ERROR);
    assert_int_equal(m.error_code, 420);
    assert_int_equal(m.reported_count, 1);
    assert_int_equal(m.reported[0], 0x0026);
    assert_int_equal(dp_stun_check_integrity(&m, a->local_pwd, strlen(a->local_pwd)), DP_OK);
    inject(&net, &(forged){.no_priority = true});
    assert_true(fetch(&net, &m));
    assert_int_equal(m.error_code, 400);
    assert_int_equal(a->pair_count, 0);
    inject(&net, &(forged){.extra = 0xC057}); /* optional */
    assert_true(fetch(&net, &m));
    assert_int_equal(m.class_, DP_STUN_SUCCESS);
    net_clear(&net);
}

/* Node 0 has sent its check to node 1; its id is copied. */
static void checking(testnet *net, uint8_t id[DP_STUN_TRANSACTION_LEN])
{
    dp_stun_message m;
    net_init(net, 1, DP_ICE_CONTROLLED, DP_ICE_CONTROLLING);
    net_address(net, 0, "10.0.0.1", 1000);
    net_address(net, 1, "10.0.0.2", 2000);
    net_gather(net, 0);
    net_credentials(net, 0);
    assert_int_equal(dp_ice_add_remote_candidate(net->nodes[0].ice, net->now,
                                                 "candidate:1 1 udp 99 10.0.0.2 2000 typ host"),
                     DP_OK);
    assert_true(fetch(net, &m));
    memcpy(id, m.transaction, DP_STUN_TRANSACTION_LEN);
}

static void guessed_answers(void **state) /* row 11, and answers that are not whole */
{
    (void)state;
    testnet net;
    uint8_t id[DP_STUN_TRANSACTION_LEN];
    checking(&net, id);
    const dp_ice_pair *pair = &net.nodes[0].ice->pairs[0];
    inject(&net, &(forged){.class_ = DP_STUN_SUCCESS});
    assert_int_equal(stats_of(&net).dropped_unexpected, 1);
    inject(&net, &(forged){.class_ = DP_STUN_SUCCESS, .id = id, .key = ""});
    inject(&net, &(forged){.class_ = DP_STUN_SUCCESS, .id = id, .key = "wrong"});
    inject(&net, &(forged){.class_ = DP_STUN_ERROR, .id = id, .key = "", .error_code = 487});
    inject(&net, &(forged){.class_ = DP_STUN_ERROR, .id = id, .key = "wrong", .error_code = 400});
    assert_int_equal(stats_of(&net).dropped_unauthorized, 4);
    inject(&net, &(forged){.class_ = DP_STUN_SUCCESS, .id = id, .no_mapped = true});
    assert_int_equal(pair->state, DP_ICE_PAIR_IN_PROGRESS);
    assert_int_equal(dp_ice_get_role(net.nodes[0].ice), DP_ICE_CONTROLLED);
    inject(&net, &(forged){.class_ = DP_STUN_SUCCESS, .id = id});
    assert_int_equal(pair->state, DP_ICE_PAIR_SUCCEEDED);
    net_clear(&net);
}

static void answer_from_elsewhere(void **state) /* row 12 */
{
    (void)state;
    testnet net;
    uint8_t id[DP_STUN_TRANSACTION_LEN];
    checking(&net, id);
    dp_address elsewhere = addr("10.0.0.2", 2001);
    inject_from(&net, &(forged){.class_ = DP_STUN_SUCCESS, .id = id}, &elsewhere);
    assert_int_equal(net.nodes[0].ice->pairs[0].state, DP_ICE_PAIR_FAILED);
    inject(&net, &(forged){.class_ = DP_STUN_SUCCESS, .id = id}); /* the transaction is over */
    assert_int_equal(net.nodes[0].ice->pairs[0].state, DP_ICE_PAIR_FAILED);
    net_clear(&net);
}

/* RFC 8489 §6.3.3, §6.3.4: what must be understood and isn't makes the check fail, whatever the answer says.
 */
static void answer_not_understood(void **state)
{
    (void)state;
    for (int error = 0; error < 2; error++) {
        testnet net;
        uint8_t id[DP_STUN_TRANSACTION_LEN];
        checking(&net, id);
        inject(&net, &(forged){.class_ = error ? DP_STUN_ERROR : DP_STUN_SUCCESS,
                               .id = id,
                               .extra = 0x7FFF,
                               .error_code = error ? 487 : 0});
        assert_int_equal(net.nodes[0].ice->pairs[0].state, DP_ICE_PAIR_FAILED);
        assert_int_equal(dp_ice_get_role(net.nodes[0].ice), DP_ICE_CONTROLLED);
        net_clear(&net);
    }
}

static void answer_twice(void **state) /* row 13 */
{
    (void)state;
    testnet net;
    uint8_t id[DP_STUN_TRANSACTION_LEN];
    checking(&net, id);
    dp_ice *ice = net.nodes[0].ice;
    inject(&net, &(forged){.class_ = DP_STUN_SUCCESS, .id = id});
    dp_time answered_at = ice->pairs[0].answered_at;
    net.now += DP_SECONDS(1);
    inject(&net, &(forged){.class_ = DP_STUN_SUCCESS, .id = id});
    assert_int_equal(ice->pairs[0].answered_at, answered_at); /* an old answer renews no consent */
    assert_int_equal(stats_of(&net).dropped_unexpected, 1);
    assert_int_equal(ice->pair_count, 1);
    net_clear(&net);
}

/* What an owner of many agents asks before it gives an answer to one of them. */
static void awaits_its_own_answers_alone(void **state)
{
    (void)state;
    testnet net;
    uint8_t id[DP_STUN_TRANSACTION_LEN];
    uint8_t answer[DP_DATAGRAM_MAX];
    checking(&net, id);
    const dp_ice *ice = net.nodes[0].ice;
    size_t len = forge(&net, answer, &(forged){.class_ = DP_STUN_SUCCESS, .id = id});
    assert_true(dp_ice_awaits(ice, answer, len));
    assert_false(dp_ice_awaits(ice, answer, DP_STUN_HEADER_LEN - 1));
    assert_false(dp_ice_awaits(net.nodes[1].ice, answer, len));
    inject(&net, &(forged){.class_ = DP_STUN_SUCCESS, .id = id});
    assert_false(dp_ice_awaits(ice, answer, len)); /* it has come */
    len = forge(&net, answer, &(forged){.class_ = DP_STUN_SUCCESS});
    assert_false(dp_ice_awaits(ice, answer, len));
    net_clear(&net);
}

/* RFC 8445 §7.3.1.4: the peer's check replaces ours under way, whose answer still counts. */
static void check_crosses_check(void **state)
{
    (void)state;
    testnet net;
    uint8_t id[DP_STUN_TRANSACTION_LEN];
    checking(&net, id);
    dp_ice *ice = net.nodes[0].ice;
    inject(&net, &(forged){.controlling = 1});
    assert_int_equal(ice->pairs[0].state, DP_ICE_PAIR_WAITING);
    assert_true(ice->transactions[0].cancelled);
    net.now += DP_MS(50);
    dp_ice_handle_timeout(ice, net.now);
    assert_int_equal(ice->pairs[0].state, DP_ICE_PAIR_IN_PROGRESS);
    assert_int_equal(ice->transaction_count, 2);
    inject(&net, &(forged){.class_ = DP_STUN_SUCCESS, .id = id});
    assert_int_equal(ice->pairs[0].state, DP_ICE_PAIR_SUCCEEDED);
    net_clear(&net);
}

/* A browser repeats unanswered checks every 50 to 62 ms, and each one cancels ours: on a path of 3 s the
 * answer to the first must still count. */
static void slow_path_and_busy_peer(void **state)
{
    (void)state;
    testnet net;
    uint8_t id[DP_STUN_TRANSACTION_LEN];
    checking(&net, id);
    dp_ice *ice = net.nodes[0].ice;
    dp_stun_message m;
    for (dp_time end = net.now + DP_SECONDS(6); net.now < end; net.now += DP_MS(50)) {
        inject(&net, &(forged){.controlling = 1});
        while (fetch(&net, &m))
            continue;
    }
    inject(&net, &(forged){.class_ = DP_STUN_SUCCESS, .id = id});
    assert_int_equal(ice->pairs[0].state, DP_ICE_PAIR_SUCCEEDED);
    net_clear(&net);
}

/* Two one-way paths: the peer's checks come, ours get no answer, and together they use up every Ta. The third
 * path, which only we can open, and the STUN server get their turn all the same. */
static void triggered_checks_take_turns(void **state)
{
    (void)state;
    testnet net;
    dp_stun_message m;
    net_init(&net, 1, DP_ICE_CONTROLLED, DP_ICE_CONTROLLING);
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 0, "10.0.1.1", 1000);
    net_address(&net, 0, "10.0.2.1", 1000);
    net_address(&net, 1, "10.0.0.2", 2000);
    dp_address server = addr("192.0.2.1", 3478);
    dp_ice *ice = net.nodes[0].ice;
    net_stun_server(&net, 0, &server);
    net_credentials(&net, 0);
    net_gather(&net, 0);
    assert_int_equal(dp_ice_add_remote_candidate(ice, net.now, "candidate:1 1 udp 9 10.0.0.2 2000 typ host"),
                     DP_OK);
    for (dp_time end = net.now + DP_SECONDS(2); net.now < end; net.now += DP_MS(50)) {
        for (size_t i = 0; i < 2; i++) {
            uint8_t data[DP_DATAGRAM_MAX];
            size_t len = forge(&net, data, &(forged){.controlling = 1});
            net_input(&net, 0, data, len, &net.nodes[0].addresses[i], &net.nodes[1].addresses[0]);
        }
        while (fetch(&net, &m))
            continue;
    }
    int third = dp_ice_pair_find(ice, 2, &net.nodes[1].addresses[0]);
    assert_true(third >= 0);
    assert_int_equal(ice->pairs[third].state, DP_ICE_PAIR_IN_PROGRESS);
    assert_false(dp_ice_gather_pending(ice));
    net_clear(&net);
}

/* All pairs refused at once and no more candidates: the peer's own checks may still come for a while (RFC
 * 8863). */
static void refused_checks_need_patience(void **state)
{
    (void)state;
    testnet net;
    uint8_t id[DP_STUN_TRANSACTION_LEN];
    checking(&net, id);
    dp_ice *ice = net.nodes[0].ice;
    dp_time start = net.now;
    assert_int_equal(dp_ice_add_remote_candidate(ice, net.now, ""), DP_OK);
    inject(&net, &(forged){.class_ = DP_STUN_ERROR, .id = id, .error_code = 400});
    assert_int_equal(ice->pairs[0].state, DP_ICE_PAIR_FAILED);
    assert_int_equal(dp_ice_get_state(ice), DP_ICE_CHECKING);
    assert_true(dp_ice_next_timeout(ice) == start + DP_ICE_PATIENCE);
    dp_ice_handle_timeout(ice, start + DP_ICE_PATIENCE);
    assert_int_equal(dp_ice_get_state(ice), DP_ICE_FAILED);
    net_clear(&net);
}

static void conflict_storm(void **state) /* row 16 */
{
    (void)state;
    testnet net;
    uint8_t id[DP_STUN_TRANSACTION_LEN];
    checking(&net, id);
    dp_ice *ice = net.nodes[0].ice;
    uint64_t tie_breaker = ice->tie_breaker;
    for (int i = 0; i < 100; i++)
        inject(&net, &(forged){.class_ = DP_STUN_ERROR, .id = id, .error_code = 487});
    assert_int_equal(dp_ice_get_role(ice), DP_ICE_CONTROLLING);
    assert_true(ice->tie_breaker != tie_breaker);
    assert_int_equal(stats_of(&net).role_conflicts, 1);
    /* A second transaction that still went out in the old role changes nothing either. */
    dp_ice_transaction old = {.purpose = DP_ICE_FOR_CONSENT, .tries_left = 1, .rto = DP_SECONDS(10)};
    old.message.base = 0;
    old.message.remote = net.nodes[1].addresses[0];
    old.message.role = DP_ICE_CONTROLLED;
    assert_true(dp_ice_transaction_start(ice, net.now, &old));
    memcpy(id, ice->transactions[ice->transaction_count - 1].message.transaction, sizeof id);
    inject(&net, &(forged){.class_ = DP_STUN_ERROR, .id = id, .error_code = 487});
    assert_int_equal(dp_ice_get_role(ice), DP_ICE_CONTROLLING);
    net_clear(&net);
}

static void candidate_flood(void **state) /* rows 17 and 23 */
{
    (void)state;
    testnet net;
    char line[128];
    net_init(&net, 1, DP_ICE_CONTROLLED, DP_ICE_CONTROLLING);
    net_address(&net, 1, "10.0.0.2", 2000);
    for (uint16_t i = 0; i < 4; i++)
        net_address(&net, 0, "10.0.0.1", (uint16_t)(1000 + i));
    net_gather(&net, 0);
    for (unsigned i = 0; i < 10000; i++) { /* half of them before the credentials */
        if (i == 5000)
            net_credentials(&net, 0);
        snprintf(line, sizeof line, "candidate:1 1 udp %u 10.9.%u.%u 999 typ host", i + 1, i / 256, i % 256);
        assert_int_equal(dp_ice_add_remote_candidate(net.nodes[0].ice, net.now, line), DP_OK);
    }
    dp_ice *ice = net.nodes[0].ice;
    assert_int_equal(ice->remote_count, DP_ICE_MAX_REMOTE);
    assert_int_equal(ice->pair_count, DP_ICE_MAX_PAIRS);
    assert_int_equal(stats_of(&net).candidates_skipped, 10000 - DP_ICE_MAX_REMOTE);
    net_run(&net, DP_SECONDS(1));
    assert_in_range(net.nodes[0].sent, 20, 22); /* one each 50 ms, and the first ones again */
    net_run(&net, DP_SECONDS(60));
    assert_true(net.nodes[0].sent <= DP_ICE_MAX_PAIRS * DP_ICE_TRIES);
    assert_int_equal(dp_ice_get_state(ice), DP_ICE_FAILED);
    net_clear(&net);
}

/* The best pairs stay when the list is full, and a check of the peer finds room. */
static void full_list_keeps_the_best(void **state)
{
    (void)state;
    testnet net;
    char line[128];
    net_init(&net, 1, DP_ICE_CONTROLLED, DP_ICE_CONTROLLING);
    net_address(&net, 1, "10.0.0.2", 2000);
    for (uint16_t i = 0; i < 2; i++)
        net_address(&net, 0, "10.0.0.1", (uint16_t)(1000 + i));
    net_gather(&net, 0);
    net_credentials(&net, 0);
    dp_ice *ice = net.nodes[0].ice;
    for (unsigned i = 0; i < DP_ICE_MAX_REMOTE; i++) {
        snprintf(line, sizeof line, "candidate:1 1 udp %u 10.9.0.%u 999 typ host", i + 1, i);
        assert_int_equal(dp_ice_add_remote_candidate(ice, net.now, line), DP_OK);
    }
    assert_int_equal(ice->pair_count, DP_ICE_MAX_PAIRS);
    dp_address best = addr("10.9.0.63", 999);
    assert_true(dp_ice_pair_find(ice, 0, &best) >= 0);
    inject(&net, &(forged){.controlling = 1});
    assert_int_equal(ice->pair_count, DP_ICE_MAX_PAIRS);
    assert_true(dp_ice_is_validated(ice, &net.nodes[0].addresses[0], &net.nodes[1].addresses[0]));
    net_clear(&net);
}

static void peer_reflexive_flood(void **state) /* row 18 */
{
    (void)state;
    testnet net;
    dp_stun_message m;
    waiting(&net);
    unsigned answers = 0;
    for (uint16_t i = 0; i < 1000; i++) {
        dp_address source = addr("10.3.0.1", (uint16_t)(3000 + i));
        inject_from(&net, &(forged){.controlling = 1}, &source);
        while (fetch(&net, &m))
            answers += m.class_ == DP_STUN_SUCCESS;
    }
    dp_ice *ice = net.nodes[0].ice;
    assert_int_equal(ice->prflx_count, DP_ICE_MAX_PRFLX);
    assert_int_equal(ice->pair_count, DP_ICE_MAX_PRFLX);
    assert_int_equal(answers, DP_ICE_MAX_PRFLX);
    assert_int_equal(stats_of(&net).dropped_limit, 1000 - DP_ICE_MAX_PRFLX);
    dp_address late = addr("10.3.0.1", 3999);
    assert_false(dp_ice_is_validated(ice, &net.nodes[0].addresses[0], &late));
    net_clear(&net);
}

static void useless_candidates(void **state) /* row 19 and the rest */
{
    (void)state;
    static const char *const lines[] = {
        "candidate:1 1 udp 9 224.0.0.251 5353 typ host",
        "candidate:1 1 udp 9 ff02::fb 5353 typ host",
        "candidate:1 1 udp 9 255.255.255.255 9 typ host",
        "candidate:1 1 udp 9 0.0.0.0 9 typ host",
        "candidate:1 1 udp 9 :: 9 typ host",
        "candidate:1 1 udp 9 ::ffff:10.0.0.1 9 typ host",
        "candidate:1 1 udp 9 10.0.0.7 0 typ host",
        "candidate:1 2 udp 9 10.0.0.7 9 typ host",
        "candidate:1 1 tcp 9 10.0.0.7 9 typ host tcptype active",
        "candidate:1 1 sctp 9 10.0.0.7 9 typ host",
        "candidate:1 1 udp 9 10.0.0.7 9 typ host ufrag another",
    };
    testnet net;
    waiting(&net);
    dp_ice *ice = net.nodes[0].ice;
    size_t count = sizeof lines / sizeof lines[0];
    for (size_t i = 0; i < count; i++)
        assert_int_equal(dp_ice_add_remote_candidate(ice, net.now, lines[i]), DP_OK);
    assert_int_equal(stats_of(&net).candidates_skipped, count);
    const char *named = "candidate:1 1 udp 9 effba5fa.local 9 typ host";
    assert_int_equal(dp_ice_add_remote_candidate(ice, net.now, named), DP_OK);
    dp_ice_resolved(ice, net.now, "effba5fa.local", NULL, 0);
    assert_int_equal(stats_of(&net).candidates_skipped, count + 1);
    assert_int_equal(ice->remote_count, 0);
    assert_int_equal(dp_ice_add_remote_candidate(ice, net.now, "nonsense"), DP_ERR_MALFORMED);
    char *huge = malloc(100001);
    memset(huge, ' ', 100000);
    huge[100000] = '\0';
    memcpy(huge, "candidate:1 1 udp 9 10.0.0.7 9 typ host", 39);
    assert_int_equal(dp_ice_add_remote_candidate(ice, net.now, huge), DP_ERR_MALFORMED);
    free(huge);
    net_clear(&net);
}

/* A peer can't make a socket on the network knock at this machine's own doors. */
static void loopback_pairs_with_loopback_alone(void **state)
{
    (void)state;
    testnet net;
    net_init(&net, 1, DP_ICE_CONTROLLED, DP_ICE_CONTROLLING);
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 0, "127.0.0.1", 1000);
    net_gather(&net, 0);
    net_credentials(&net, 0);
    dp_ice *ice = net.nodes[0].ice;
    static const char *const lines[] = {"candidate:1 1 udp 9 127.0.0.1 22 typ host",
                                        "candidate:2 1 udp 9 10.0.0.2 2000 typ host"};
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(dp_ice_add_remote_candidate(ice, net.now, lines[i]), DP_OK);
    dp_address door = addr("127.0.0.1", 22);
    dp_address peer = addr("10.0.0.2", 2000);
    assert_int_equal(ice->pair_count, 2);
    assert_true(dp_ice_pair_find(ice, 1, &door) >= 0);
    assert_true(dp_ice_pair_find(ice, 0, &peer) >= 0);
    net_clear(&net);
}

static void bad_credentials(void **state)
{
    (void)state;
    testnet net;
    char text[300];
    net_init(&net, 1, DP_ICE_CONTROLLED, DP_ICE_CONTROLLING);
    dp_ice *ice = net.nodes[0].ice;
    static const char pwd[] = "DQUpIZ/BoPbosowgeeF8+w";
    assert_int_equal(dp_ice_set_remote_credentials(ice, 0, "abc", pwd), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_ice_set_remote_credentials(ice, 0, "ab:d", pwd), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_ice_set_remote_credentials(ice, 0, "abcd", pwd + 1), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_ice_set_remote_credentials(ice, 0, NULL, pwd), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_ice_set_remote_credentials(ice, 0, "abcd", NULL), DP_ERR_INVALID_ARGUMENT);
    memset(text, 'a', sizeof text);
    text[257] = '\0';
    assert_int_equal(dp_ice_set_remote_credentials(ice, 0, text, pwd), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_ice_set_remote_credentials(ice, 0, "abcd", text), DP_ERR_INVALID_ARGUMENT);
    text[256] = '\0';
    assert_int_equal(dp_ice_set_remote_credentials(ice, 0, text, text), DP_OK);
    assert_int_equal(dp_ice_set_remote_credentials(ice, 0, text, text), DP_OK);
    assert_int_equal(dp_ice_set_remote_credentials(ice, 0, "abcd", pwd), DP_ERR_INVALID_STATE);
    /* the longest user name fits into a message */
    net_address(&net, 0, "10.0.0.1", 1000);
    net_gather(&net, 0);
    assert_int_equal(dp_ice_add_remote_candidate(ice, 0, "candidate:1 1 udp 9 10.0.0.7 9 typ host"), DP_OK);
    dp_stun_message m;
    assert_true(fetch(&net, &m));
    assert_int_equal(m.username_len, 256 + 1 + DP_ICE_UFRAG_LEN);
    net_clear(&net);
}

/* Row 21: neither a stranger's datagrams nor the peer's own checks renew consent; only answers to ours do. */
static void spoofed_traffic_is_no_consent(void **state)
{
    (void)state;
    testnet net;
    uint8_t id[DP_STUN_TRANSACTION_LEN];
    checking(&net, id);
    dp_ice *ice = net.nodes[0].ice;
    inject(&net, &(forged){.class_ = DP_STUN_SUCCESS, .id = id});
    dp_time answered_at = ice->pairs[0].answered_at;
    while (net.now < answered_at + DP_MS(29900)) {
        net.now += DP_MS(100);
        inject(&net, &(forged){.class_ = DP_STUN_SUCCESS});
        inject(&net, &(forged){.class_ = DP_STUN_SUCCESS, .id = id});
        inject(&net, &(forged){.key = "wrong", .controlling = 1});
        inject(&net, &(forged){.controlling = 1});
        inject(&net, &(forged){.class_ = DP_STUN_INDICATION});
    }
    assert_int_equal(ice->pairs[0].answered_at, answered_at);
    assert_int_equal(dp_ice_get_state(ice), DP_ICE_CONNECTED);
    net.now += DP_MS(100);
    dp_ice_handle_timeout(ice, net.now);
    assert_int_equal(dp_ice_get_state(ice), DP_ICE_FAILED);
    net_clear(&net);
}

static void early_checks(void **state) /* row 22 */
{
    (void)state;
    testnet net;
    dp_stun_message m;
    net_init(&net, 1, DP_ICE_CONTROLLED, DP_ICE_CONTROLLING);
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 1, "10.0.0.2", 2000);
    net_gather(&net, 0);
    dp_ice *ice = net.nodes[0].ice;
    inject(&net, &(forged){.key = "wrong"}); /* a stranger takes no place */
    assert_int_equal(ice->early_count, 0);
    for (uint16_t i = 0; i < 1000; i++) {
        dp_address source = addr("10.0.0.2", (uint16_t)(2000 + i % 100));
        inject_from(&net, &(forged){.controlling = 1}, &source);
    }
    assert_int_equal(ice->early_count, DP_ICE_MAX_EARLY);
    inject(&net, &(forged){.controlling = 1, .id = (const uint8_t *)"the last one"});
    assert_int_equal(ice->early_count, DP_ICE_MAX_EARLY);
    assert_false(fetch(&net, &m));
    net_credentials(&net, 0);
    assert_int_equal(ice->early_count, 0);
    unsigned answers = 0;
    unsigned checks = 0;
    while (fetch(&net, &m)) {
        if (answers == 0)
            assert_memory_equal(m.transaction, "the last one", DP_STUN_TRANSACTION_LEN);
        answers += m.class_ == DP_STUN_SUCCESS;
        checks += m.class_ == DP_STUN_REQUEST;
    }
    assert_int_equal(answers, DP_ICE_MAX_EARLY);
    assert_int_equal(checks, 1); /* the first triggered check, at once */
    net_clear(&net);
}

/* Requests of the wrong remote ufrag that came early are seen through once it is known. */
static void early_checks_of_another(void **state)
{
    (void)state;
    testnet net;
    dp_stun_message m;
    net_init(&net, 1, DP_ICE_CONTROLLED, DP_ICE_CONTROLLING);
    net_address(&net, 0, "10.0.0.1", 1000);
    net_address(&net, 1, "10.0.0.2", 2000);
    net_gather(&net, 0);
    char name[64];
    snprintf(name, sizeof name, "%s:abcd", dp_ice_local_ufrag(net.nodes[0].ice));
    inject(&net, &(forged){.username = name});
    net_credentials(&net, 0);
    assert_false(fetch(&net, &m));
    assert_int_equal(stats_of(&net).dropped_unauthorized, 1);
    net_clear(&net);
}

/* An owner who doesn't fetch: bounded, no crash. */
static void nobody_fetches(void **state)
{
    (void)state;
    testnet net;
    dp_stun_message m;
    waiting(&net);
    for (int i = 0; i < 1000; i++)
        inject(&net, &(forged){.controlling = 1});
    unsigned n = 0;
    while (fetch(&net, &m))
        n++;
    assert_int_equal(n, DP_ICE_MAX_OUTGOING);
    net_clear(&net);
}

/* A peer that checks each 50 ms and never answers: old checks of ours give way. */
static void deaf_peer(void **state)
{
    (void)state;
    testnet net;
    dp_stun_message m;
    waiting(&net);
    dp_ice *ice = net.nodes[0].ice;
    for (int i = 0; i < 2000; i++) {
        dp_address source = addr("10.3.0.1", (uint16_t)(3000 + i % 30));
        net.now += DP_MS(10);
        inject_from(&net, &(forged){.controlling = 1}, &source);
        while (fetch(&net, &m))
            continue;
        assert_true(ice->transaction_count <= DP_ICE_MAX_TRANSACTIONS);
    }
    assert_int_equal(dp_ice_get_state(ice), DP_ICE_CHECKING);
    net_clear(&net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_is_dropped),
        cmocka_unit_test(unauthorized_is_dropped),
        cmocka_unit_test(refused_requests),
        cmocka_unit_test(guessed_answers),
        cmocka_unit_test(answer_from_elsewhere),
        cmocka_unit_test(answer_not_understood),
        cmocka_unit_test(answer_twice),
        cmocka_unit_test(awaits_its_own_answers_alone),
        cmocka_unit_test(check_crosses_check),
        cmocka_unit_test(slow_path_and_busy_peer),
        cmocka_unit_test(triggered_checks_take_turns),
        cmocka_unit_test(refused_checks_need_patience),
        cmocka_unit_test(conflict_storm),
        cmocka_unit_test(candidate_flood),
        cmocka_unit_test(full_list_keeps_the_best),
        cmocka_unit_test(peer_reflexive_flood),
        cmocka_unit_test(useless_candidates),
        cmocka_unit_test(loopback_pairs_with_loopback_alone),
        cmocka_unit_test(bad_credentials),
        cmocka_unit_test(spoofed_traffic_is_no_consent),
        cmocka_unit_test(early_checks),
        cmocka_unit_test(early_checks_of_another),
        cmocka_unit_test(nobody_fetches),
        cmocka_unit_test(deaf_peer),
    };
    return cmocka_run_group_tests_name("ice/hostile", tests, NULL, NULL);
}
