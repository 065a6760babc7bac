/* The life of a TURN allocation (RFC 8656 §6 to §8), and what servers and others on the way do wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "turn_world.h"

static void allocates_with_long_term_credentials(void **state)
{
    (void)state;
    world w;
    dp_turn_event event;
    open_world(&w, false);
    assert_false(next(&w)); /* nothing before start */
    dp_turn_start(w.turn, w.now);
    next_is(&w, DP_STUN_METHOD_ALLOCATE);
    assert_true(w.m.username == NULL && w.m.realm == NULL && w.m.nonce == NULL && w.m.integrity_at == 0);
    uint8_t first[DP_STUN_TRANSACTION_LEN];
    memcpy(first, w.m.transaction, sizeof first);
    quiet(&w);
    error(&w, 401, "nonce-1", false);
    next_is(&w, DP_STUN_METHOD_ALLOCATE);
    assert_memory_not_equal(first, w.m.transaction, sizeof first);
    assert_int_equal(w.m.username_len, 3);
    assert_memory_equal(w.m.username, "joe", 3);
    assert_memory_equal(w.m.realm, "example.org", 11);
    assert_int_equal(w.m.nonce_len, 7);
    assert_memory_equal(w.m.nonce, "nonce-1", 7);
    assert_int_equal(dp_stun_check_integrity(&w.m, w.key, sizeof w.key), DP_OK);
    no_event(&w);
    answer a;
    dp_address relayed[] = {address("192.0.2.1", 50000), address("2001:db8::1", 50001)};
    dp_address mapped = address("198.51.100.7", 1234);
    begin(&w, &a, DP_STUN_SUCCESS);
    for (size_t i = 0; i < 2; i++)
        dp_stun_write_xor_address(&a.wr, DP_STUN_XOR_RELAYED_ADDRESS, &relayed[i]);
    dp_stun_write_xor_mapped_address(&a.wr, &mapped);
    dp_stun_write_u32(&a.wr, DP_STUN_LIFETIME, 600);
    finish(&w, &a, true);
    event_is(&w, DP_TURN_EVENT_ALLOCATED, 0, &event);
    assert_int_equal(event.count, 2);
    for (size_t i = 0; i < 2; i++)
        assert_true(dp_address_equal(&event.relayed[i], &relayed[i]));
    assert_true(dp_address_equal(&event.mapped, &mapped));
    no_event(&w);
    quiet(&w);
    dp_turn_free(w.turn);
}

/* coturn answers so if it has no IPv6: 0.0.0.0:0 as the second one. Two of a family count once. */
static void unusable_relayed_addresses_are_left_out(void **state)
{
    (void)state;
    world w;
    dp_turn_event event;
    answer a;
    dp_address none = address("0.0.0.0", 0);
    open_world(&w, false);
    authenticate(&w);
    grant_with(&w, 600, true);
    event_is(&w, DP_TURN_EVENT_ALLOCATED, 0, &event);
    assert_int_equal(event.count, 1);
    dp_turn_free(w.turn);
    open_world(&w, false);
    authenticate(&w);
    begin(&w, &a, DP_STUN_SUCCESS);
    dp_stun_write_xor_address(&a.wr, DP_STUN_XOR_RELAYED_ADDRESS, &none);
    finish(&w, &a, true);
    failed(&w, 0);
}

/* RFC 8489 §6.2.1: 0, 0.5, 1.5, ... 31.5 s, the end at 39.5 s. */
static void retransmits_and_gives_up(void **state)
{
    (void)state;
    static const unsigned waits[] = {500, 1000, 2000, 4000, 8000, 16000, 8000};
    world w;
    uint8_t first[DP_DATAGRAM_MAX];
    open_world(&w, false);
    dp_turn_start(w.turn, w.now);
    next_is(&w, DP_STUN_METHOD_ALLOCATE);
    size_t len = w.len;
    memcpy(first, w.frame, len);
    for (size_t i = 0; i < 7; i++) {
        quiet(&w);
        pass(&w, DP_MS(waits[i]) - 1);
        quiet(&w);
        no_event(&w);
        pass(&w, 1);
        if (i == 6)
            break;
        next_is(&w, DP_STUN_METHOD_ALLOCATE);
        assert_int_equal(w.len, len);
        assert_memory_equal(w.frame, first, len);
    }
    failed(&w, 0);
}

static void reliable_links_send_once(void **state)
{
    (void)state;
    world w;
    open_world(&w, true);
    dp_turn_start(w.turn, w.now);
    next_is(&w, DP_STUN_METHOD_ALLOCATE);
    pass(&w, DP_MS(39500) - 1);
    quiet(&w);
    no_event(&w);
    pass(&w, 1);
    failed(&w, 0);
}

static void wrong_password(void **state)
{
    (void)state;
    world w;
    open_world(&w, false);
    authenticate(&w);
    error(&w, 401, "nonce-1", false);
    failed(&w, 401);
    /* A server with another nonce every time */
    open_world(&w, false);
    dp_turn_start(w.turn, w.now);
    unsigned requests = 0;
    while (next(&w)) {
        char nonce[8] = "nonce-0";
        nonce[6] = (char)('0' + ++requests);
        assert_in_range(requests, 1, 6);
        error(&w, 401, nonce, false);
    }
    assert_in_range(requests, 3, 6);
    failed(&w, 401);
    /* No realm, no nonce */
    open_world(&w, false);
    dp_turn_start(w.turn, w.now);
    next_is(&w, DP_STUN_METHOD_ALLOCATE);
    error(&w, 401, NULL, false);
    failed(&w, 401);
    open_world(&w, false);
    authenticate(&w);
    error(&w, 438, NULL, false);
    failed(&w, 438);
}

static void stale_nonce(void **state)
{
    (void)state;
    world w;
    open_world(&w, false);
    authenticate(&w);
    error(&w, 438, "nonce-2", false);
    next_is(&w, DP_STUN_METHOD_ALLOCATE);
    assert_memory_equal(w.m.nonce, "nonce-2", 7);
    assert_int_equal(dp_stun_check_integrity(&w.m, w.key, sizeof w.key), DP_OK);
    unsigned requests = 0;
    do { /* for ever stale */
        assert_in_range(++requests, 1, 6);
        error(&w, 438, "nonce-3", false);
    } while (next(&w));
    failed(&w, 438);
}

static void errors_end_it(void **state)
{
    (void)state;
    static const unsigned codes[] = {400, 403, 420, 437, 441, 442, 486, 500, 508, 699};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        world w;
        open_world(&w, false);
        dp_turn_start(w.turn, w.now);
        next_is(&w, DP_STUN_METHOD_ALLOCATE);
        error(&w, codes[i], NULL, false);
        failed(&w, codes[i]);
        open_world(&w, false);
        authenticate(&w);
        error(&w, codes[i], NULL, true);
        failed(&w, codes[i]);
    }
}

static bool has_attribute(const world *w, const uint8_t attribute[8])
{
    for (size_t at = DP_STUN_HEADER_LEN; at + 8 <= w->len; at += 4) {
        if (memcmp(w->frame + at, attribute, 8) == 0)
            return true;
    }
    return false;
}

static void families(void **state)
{
    (void)state;
    static const uint8_t additional[8] = {0x80, 0x00, 0, 4, 2};
    static const uint8_t draft[8] = {0x80, 0x32, 0, 4, 2};
    static const uint8_t requested[8] = {0x00, 0x17, 0, 4, 2};
    static const uint8_t transport[8] = {0x00, 0x19, 0, 4, 17};
    world w;
    open_world(&w, false);
    authenticate(&w);
    assert_true(has_attribute(&w, additional) && has_attribute(&w, draft) && has_attribute(&w, transport));
    assert_false(has_attribute(&w, requested)); /* RFC 8656 §7.1: never both */
    error(&w, 440, NULL, true);
    no_event(&w);
    next_is(&w, DP_STUN_METHOD_ALLOCATE);
    assert_true(has_attribute(&w, requested) && has_attribute(&w, transport));
    assert_false(has_attribute(&w, additional) || has_attribute(&w, draft));
    error(&w, 440, NULL, true);
    failed(&w, 440);
}

static void redirect(world *w, const char *ip, uint16_t port, bool sign)
{
    answer a;
    uint8_t value[8] = {0, 1, (uint8_t)(port >> 8), (uint8_t)port};
    dp_address to = address(ip, port);
    memcpy(value + 4, to.ip, 4);
    begin(w, &a, DP_STUN_ERROR);
    dp_stun_write_error_code(&a.wr, 300, "elsewhere");
    dp_stun_write_attribute(&a.wr, DP_STUN_ALTERNATE_SERVER, value, sizeof value);
    finish(w, &a, sign);
}

static void redirections(void **state)
{
    (void)state;
    world w;
    dp_turn_event event;
    dp_address alternate = address("203.0.113.9", 3479);
    for (unsigned signed_ = 0; signed_ < 2; signed_++) {
        open_world(&w, false);
        if (signed_) {
            authenticate(&w);
            redirect(&w, "203.0.113.10", 3479, false); /* forged */
            no_event(&w);
        } else {
            dp_turn_start(w.turn, w.now);
            next_is(&w, DP_STUN_METHOD_ALLOCATE);
        }
        redirect(&w, "203.0.113.9", 3479, signed_);
        event_is(&w, DP_TURN_EVENT_REDIRECTED, 300, &event);
        assert_true(dp_address_equal(&event.alternate, &alternate));
        assert_int_equal(dp_turn_next_timeout(w.turn), DP_TIME_NEVER);
        assert_false(next(&w));
        dp_turn_free(w.turn);
    }
    open_world(&w, false);
    authenticate(&w);
    error(&w, 300, NULL, true);
    failed(&w, 300);
}

static void forged_answers_change_nothing(void **state)
{
    (void)state;
    world w;
    dp_turn_event event;
    open_world(&w, false);
    authenticate(&w);
    grant_with(&w, 600, false);
    error(&w, 486, NULL, false);
    w.key[0] ^= 1;
    grant_with(&w, 600, true);
    error(&w, 437, NULL, true);
    w.key[0] ^= 1;
    answer a;
    const dp_stun_message request = w.m;
    uint8_t other[DP_STUN_TRANSACTION_LEN] = "abcdefghijk";
    w.m.transaction = other;
    grant_with(&w, 600, true);
    error(&w, 401, "nonce-1", false);
    w.m = request;
    w.m.method = DP_STUN_METHOD_REFRESH; /* the answer to something else */
    grant_with(&w, 600, true);
    static const uint8_t zeros[DP_STUN_TRANSACTION_LEN] = {0};
    w.m.method = 0; /* what a free slot looks like */
    w.m.transaction = zeros;
    error(&w, 437, NULL, false);
    error(&w, 401, "nonce-0", false);
    w.m = request;
    begin(&w, &a, DP_STUN_ERROR); /* an error without a code, a success with one */
    finish(&w, &a, true);
    begin(&w, &a, DP_STUN_SUCCESS);
    dp_stun_write_error_code(&a.wr, 486, "no");
    finish(&w, &a, true);
    begin(&w, &a, DP_STUN_SUCCESS); /* RFC 8489 §6.3.3: not understood */
    dp_stun_write_attribute(&a.wr, (dp_stun_attribute)0x7000, "", 0);
    finish(&w, &a, true);
    no_event(&w);
    quiet(&w);
    grant_with(&w, 600, true);
    event_is(&w, DP_TURN_EVENT_ALLOCATED, 0, &event);
    grant_with(&w, 600, true); /* twice */
    error(&w, 437, NULL, true);
    no_event(&w);
    quiet(&w);
    dp_turn_free(w.turn);
}

/* Passes time to when the Refresh is due; the keepalives of an idle UDP link are taken away. */
static void to_refresh(world *w, dp_duration duration)
{
    dp_time end = w->now + duration;
    while (w->now < end) {
        dp_time at = dp_turn_next_timeout(w->turn);
        w->now = at < end ? at : end;
        dp_turn_handle_timeout(w->turn, w->now);
        if (w->now == end)
            return;
        while (next(w))
            assert_int_equal(w->m.class_, DP_STUN_INDICATION);
    }
}

static void refreshes_in_time(void **state)
{
    (void)state;
    static const struct {
        uint32_t lifetime;
        unsigned at;
    } rows[] = {{600, 540}, {3600, 3240}, {100, 50}, {121, 61}, {1, 5}, {7, 5}, {UINT32_MAX, 0}};
    world w;
    allocate(&w, true);
    pass(&w, DP_SECONDS(540) - 1);
    quiet(&w);
    pass(&w, 1);
    next_is(&w, DP_STUN_METHOD_REFRESH);
    assert_false(w.m.has_lifetime);
    assert_int_equal(dp_stun_check_integrity(&w.m, w.key, sizeof w.key), DP_OK);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        refreshed(&w, rows[i].lifetime);
        quiet(&w);
        if (rows[i].at == 0)
            break;
        pass(&w, DP_SECONDS(rows[i].at) - 1);
        quiet(&w);
        pass(&w, 1);
        next_is(&w, DP_STUN_METHOD_REFRESH);
    }
    assert_true(dp_turn_next_timeout(w.turn) > w.now + DP_SECONDS(3000000000u));
    no_event(&w);
    dp_turn_free(w.turn);
}

/* The owner drops frames while its stream is full: that must not cost the allocation. */
static void dropped_requests_are_made_anew(void **state)
{
    (void)state;
    world w;
    uint8_t before[DP_STUN_TRANSACTION_LEN];
    allocate(&w, true);
    pass(&w, DP_SECONDS(540));
    next_is(&w, DP_STUN_METHOD_REFRESH);
    for (unsigned i = 0; i < 2; i++) {
        memcpy(before, w.m.transaction, sizeof before);
        pass(&w, DP_MS(39500) / 3);
        next_is(&w, DP_STUN_METHOD_REFRESH);
        assert_memory_not_equal(before, w.m.transaction, sizeof before);
        assert_int_equal(dp_stun_check_integrity(&w.m, w.key, sizeof w.key), DP_OK);
        quiet(&w);
    }
    refreshed(&w, 600);
    pass(&w, DP_SECONDS(540));
    next_is(&w, DP_STUN_METHOD_REFRESH); /* each request has its own tries */
    for (unsigned i = 0; i < 2; i++) {
        pass(&w, DP_MS(39500) / 3);
        next_is(&w, DP_STUN_METHOD_REFRESH);
    }
    pass(&w, DP_MS(39500) / 3);
    failed(&w, 0);
}

static void probes_ask_at_once(void **state)
{
    (void)state;
    world w;
    open_world(&w, true);
    dp_turn_probe(w.turn, w.now); /* nothing to ask about yet */
    assert_false(next(&w));
    dp_turn_free(w.turn);
    allocate(&w, true);
    dp_turn_probe(w.turn, w.now);
    dp_turn_probe(w.turn, w.now);
    next_is(&w, DP_STUN_METHOD_REFRESH);
    quiet(&w);
    dp_turn_probe(w.turn, w.now); /* under way */
    quiet(&w);
    refreshed(&w, 600);
    quiet(&w);
    dp_turn_probe(w.turn, w.now);
    next_is(&w, DP_STUN_METHOD_REFRESH);
    error(&w, 437, NULL, true);
    failed(&w, 437);
}

static void lost_allocations_end_it(void **state)
{
    (void)state;
    world w;
    for (unsigned i = 0; i < 4; i++) {
        static const unsigned codes[] = {437, 441, 401, 437};
        allocate(&w, false);
        to_refresh(&w, DP_SECONDS(540));
        next_is(&w, DP_STUN_METHOD_REFRESH);
        if (i < 3)
            error(&w, codes[i], i == 2 ? "nonce-1" : NULL, true);
        else
            refreshed(&w, 0);
        failed(&w, codes[i]);
    }
    open_world(&w, false);
    authenticate(&w);
    grant_with(&w, 0, true);
    failed(&w, 0);
}

static void keepalives(void **state)
{
    (void)state;
    world w;
    dp_address peer = address("198.51.100.1", 9);
    allocate(&w, false);
    pass(&w, DP_SECONDS(15)); /* the requests before: not idle */
    quiet(&w);
    pass(&w, DP_SECONDS(15));
    assert_true(next(&w));
    assert_int_equal(w.m.class_, DP_STUN_INDICATION);
    assert_int_equal(w.m.method, DP_STUN_METHOD_BINDING);
    quiet(&w);
    assert_int_equal(dp_turn_permit(w.turn, w.now, &peer), DP_OK);
    next_is(&w, DP_STUN_METHOD_CREATE_PERMISSION);
    success(&w, true);
    pass(&w, DP_SECONDS(15));
    quiet(&w);
    dp_datagram out = {.data = w.frame, .capacity = sizeof w.frame, .length = 4};
    assert_true(dp_turn_wrap(w.turn, &peer, &out, dp_turn_headroom(w.turn, &peer)));
    pass(&w, DP_SECONDS(15)); /* data is as good */
    quiet(&w);
    dp_turn_free(w.turn);
}

static void releases(void **state)
{
    (void)state;
    world w;
    allocate(&w, false);
    dp_turn_release(w.turn, w.now);
    dp_turn_release(w.turn, w.now);
    next_is(&w, DP_STUN_METHOD_REFRESH);
    assert_true(w.m.has_lifetime);
    assert_int_equal(w.m.lifetime, 0);
    assert_int_equal(dp_stun_check_integrity(&w.m, w.key, sizeof w.key), DP_OK);
    assert_false(next(&w));
    refreshed(&w, 0);
    dp_turn_release(w.turn, w.now);
    assert_false(next(&w));
    no_event(&w);
    assert_int_equal(dp_turn_next_timeout(w.turn), DP_TIME_NEVER);
    dp_turn_free(w.turn);

    open_world(&w, false); /* nothing to give back: no credentials were shown yet */
    dp_turn_start(w.turn, w.now);
    next_is(&w, DP_STUN_METHOD_ALLOCATE);
    dp_turn_release(w.turn, w.now);
    assert_false(next(&w));
    dp_turn_free(w.turn);

    open_world(&w, false); /* the answer may be on its way */
    authenticate(&w);
    dp_turn_release(w.turn, w.now);
    next_is(&w, DP_STUN_METHOD_REFRESH);
    dp_turn_free(w.turn);
}

/* ---- faults ---- */

static unsigned long countdown;
static void *hook_alloc(void *ctx, size_t size)
{
    (void)ctx;
    return countdown > 0 && --countdown == 0 ? NULL : malloc(size);
}
static void *hook_realloc(void *ctx, void *old, size_t size)
{
    (void)ctx;
    return countdown > 0 && --countdown == 0 ? NULL : realloc(old, size);
}
static void hook_free(void *ctx, void *block)
{
    (void)ctx;
    free(block);
}

static void allocations_fail(void **state)
{
    (void)state;
    const dp_allocator allocator = {hook_alloc, hook_realloc, hook_free, NULL};
    world w = {.seed = 1};
    dp_turn_config config = {
        .random = {random_fn, &w}, .username = "joe", .credential = "secret", .software = "test"};
    dp_set_allocator(&allocator);
    for (unsigned long n = 1;; n++) {
        countdown = n;
        int err = dp_turn_new(&w.turn, &config);
        if (err == DP_OK) {
            assert_int_equal(n, 5);
            break;
        }
        assert_int_equal(err, DP_ERR_NO_MEMORY);
        assert_null(w.turn);
    }
    dp_turn_free(w.turn);
    dp_turn_free(NULL);
    countdown = 0;
    dp_set_allocator(NULL);
}

static void without_randomness_it_waits(void **state)
{
    (void)state;
    world w;
    dp_address peer = address("198.51.100.1", 9);
    open_world(&w, false);
    dp_turn_start(w.turn, w.now);
    w.draws_left = 1;
    quiet(&w);
    w.draws_left = 0;
    pass(&w, DP_SECONDS(1));
    next_is(&w, DP_STUN_METHOD_ALLOCATE);
    error(&w, 401, "nonce-1", false);
    next_is(&w, DP_STUN_METHOD_ALLOCATE);
    grant_with(&w, 600, true);
    assert_int_equal(dp_turn_bind(w.turn, w.now, &peer), DP_OK);
    w.draws_left = 1;
    quiet(&w);
    w.draws_left = 0;
    pass(&w, DP_SECONDS(1));
    next_is(&w, DP_STUN_METHOD_CREATE_PERMISSION);
    next_is(&w, DP_STUN_METHOD_CHANNEL_BIND);
    dp_turn_free(w.turn);
}

static void bad_configurations(void **state)
{
    (void)state;
    world w = {.seed = 1};
    char longest[DP_ICE_CREDENTIAL_MAX + 2];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    const dp_turn_config good = {.random = {random_fn, &w}, .username = "joe", .credential = "secret"};
    dp_turn_config bad[] = {good, good, good, good, good};
    bad[0].random.fn = NULL;
    bad[1].username = NULL;
    bad[2].credential = NULL;
    bad[3].username = longest;
    bad[4].credential = longest;
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(dp_turn_new(&w.turn, &bad[i]), DP_ERR_INVALID_ARGUMENT);
    bad[3].username = bad[3].credential = longest + 1;
    bad[3].software = "datapeer";
    assert_int_equal(dp_turn_new(&w.turn, &bad[3]), DP_OK);
    w.now = DP_SECONDS(1);
    dp_turn_start(w.turn, w.now);
    next_is(&w, DP_STUN_METHOD_ALLOCATE);
    error(&w, 401, "nonce-1", false);
    next_is(&w, DP_STUN_METHOD_ALLOCATE); /* fits */
    assert_int_equal(w.m.username_len, DP_ICE_CREDENTIAL_MAX);
    dp_turn_free(w.turn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocates_with_long_term_credentials),
        cmocka_unit_test(unusable_relayed_addresses_are_left_out),
        cmocka_unit_test(retransmits_and_gives_up),
        cmocka_unit_test(reliable_links_send_once),
        cmocka_unit_test(wrong_password),
        cmocka_unit_test(stale_nonce),
        cmocka_unit_test(errors_end_it),
        cmocka_unit_test(families),
        cmocka_unit_test(redirections),
        cmocka_unit_test(forged_answers_change_nothing),
        cmocka_unit_test(refreshes_in_time),
        cmocka_unit_test(dropped_requests_are_made_anew),
        cmocka_unit_test(probes_ask_at_once),
        cmocka_unit_test(lost_allocations_end_it),
        cmocka_unit_test(keepalives),
        cmocka_unit_test(releases),
        cmocka_unit_test(allocations_fail),
        cmocka_unit_test(without_randomness_it_waits),
        cmocka_unit_test(bad_configurations),
    };
    return cmocka_run_group_tests_name("ice/turn", tests, NULL, NULL);
}
