/* The agent and its TURN servers: links, allocations, data through them, and their ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay_world.h"

static void connects_through_a_relay(void **state)
{
    (void)state;
    static const size_t pieces[] = {0, 1, 2, 3, 5, 7, 19, 20, 21, 64, DP_DATAGRAM_MAX};
    for (size_t v = 0; v < sizeof pieces / sizeof pieces[0]; v++) {
        testnet net;
        server s;
        dp_ice_transport transport = v == 0 ? DP_ICE_UDP : v % 2 == 1 ? DP_ICE_TCP : DP_ICE_TLS;
        connected(&net, &s, transport, pieces[v]);
        assert_int_equal(net.nodes[0].link.transport, transport);
        assert_string_equal(net.nodes[0].link.name, "turn.example");
        assert_int_equal(s.forbidden, 0); /* the permission is there before the check */
        assert_int_equal(s.channel_count, 1);
        assert_int_equal(net.nodes[0].candidate_count, 1);
        dp_candidate c;
        const char *text = net.nodes[0].candidates[0];
        assert_int_equal(dp_candidate_parse(&c, text, strlen(text)), DP_OK);
        assert_int_equal(c.type, DP_CANDIDATE_RELAY);
        assert_true(dp_address_equal(&c.address, &s.relayed[0]));
        assert_null(strstr(text, "10.0.0.1")); /* our side of the server, nobody's business */
        dp_address l;
        dp_address r;
        assert_true(dp_ice_selected_pair(net.nodes[0].ice, &l, &r));
        assert_true(dp_address_equal(&l, &s.relayed[0]));
        for (size_t len = 1; len <= 200; len++) {
            assert_int_equal(send_data(&net, 0, len), 4);
            (void)send_data(&net, 1, len);
        }
        run(&net, &s, DP_SECONDS(60));
        assert_int_equal(net.nodes[0].payloads, 200);
        assert_int_equal(net.nodes[1].payloads, 200);
        assert_true(net_completed(&net));
        assert_links(&net, &s, 1);
        net_clear(&net);
    }
}

static void data_before_the_channel(void **state)
{
    (void)state;
    testnet net;
    server s;
    connected(&net, &s, DP_ICE_UDP, 0);
    s.channel_count = 0;
    (void)send_data(&net, 1, 10); /* a Data indication */
    assert_int_equal(net.nodes[0].payloads, 1);
    uint8_t lie[] = "data of a stranger";
    dp_address stranger = addr("10.0.0.2", 2001); /* permitted by its IP, and no peer of ours */
    from_peer(&s, &stranger, lie, sizeof lie);
    assert_int_equal(net.nodes[0].payloads, 1);
    net_clear(&net);
}

static void the_link_breaks(void **state)
{
    (void)state;
    for (unsigned garbage = 0; garbage < 2; garbage++) {
        testnet net;
        server s;
        connected(&net, &s, DP_ICE_TCP, 64);
        if (garbage == 1) {
            uint8_t junk[] = {0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4};
            s.allocated = false;
            to_client(&s, junk, sizeof junk);
        } else {
            hang_up(&net, &s);
        }
        assert_state(&net, 0, DP_ICE_DISCONNECTED);
        uint8_t data[8];
        dp_datagram d = {.data = data, .capacity = sizeof data};
        size_t headroom;
        assert_false(dp_ice_send_begin(net.nodes[0].ice, &d, &headroom));
        assert_links(&net, &s, 0);
        s.relayed[0].port = 50001; /* the next one is another one */
        run(&net, &s, DP_MS(900));
        assert_int_equal(net.nodes[0].links, 1);
        run(&net, &s, DP_SECONDS(2));
        assert_int_equal(net.nodes[0].links, 2);
        assert_int_equal(s.allocations, 2);
        run(&net, &s, DP_SECONDS(8));
        assert_true(net_completed(&net));
        assert_int_equal(send_data(&net, 0, 10), 4);
        run(&net, &s, DP_SECONDS(1));
        assert_int_equal(net.nodes[1].payloads, 1);
        assert_links(&net, &s, 1);
        net_clear(&net);
    }
}

/* The server is away for a while: 1, 2, 4, 8, 16 s; then for good. */
static void the_server_is_restarted(void **state)
{
    (void)state;
    for (unsigned back = 0; back < 2; back++) {
        testnet net;
        server s;
        connected(&net, &s, DP_ICE_TCP, 64);
        hang_up(&net, &s);
        s.refuses = true;
        run(&net, &s, DP_SECONDS(14));
        assert_int_equal(net.nodes[0].links, 4); /* after 1, 3, 7 s */
        s.refuses = back == 0;
        run(&net, &s, DP_SECONDS(12)); /* after 15 s */
        assert_int_equal(net.nodes[0].links, 5);
        if (back == 1) {
            assert_true(net_completed(&net));
            assert_links(&net, &s, 1);
        } else {
            run(&net, &s, DP_SECONDS(100));
            assert_int_equal(net.nodes[0].links, 5); /* failed meanwhile */
            assert_state(&net, 0, DP_ICE_FAILED);
            assert_links(&net, &s, 0);
        }
        net_clear(&net);
    }
}

static void no_server_there(void **state)
{
    (void)state;
    testnet net;
    server s;
    init(&net, &s, DP_ICE_TCP, true);
    s.refuses = true;
    begin(&net);
    run(&net, &s, DP_SECONDS(20));
    assert_true(net.nodes[0].gathering_complete);
    assert_int_equal(net.nodes[0].links, 1); /* what never worked is not tried again */
    assert_links(&net, &s, 0);
    net_clear(&net);
}

static void redirects(void **state)
{
    (void)state;
    for (unsigned ring = 0; ring < 2; ring++) {
        testnet net;
        server s;
        init(&net, &s, DP_ICE_UDP, true);
        s.always = DP_STUN_CODE_TRY_ALTERNATE;
        s.alternate = addr("203.0.113.2", 3479);
        begin(&net);
        net_run(&net, 0);
        assert_int_equal(net.nodes[0].links, 1);
        dp_ice_link_opened(net.nodes[0].ice, net.now, net.nodes[0].link.id);
        s.seen = 1;
        net_run(&net, 0); /* 401, then 300 */
        assert_int_equal(net.nodes[0].links, 2);
        assert_true(dp_address_equal(&net.nodes[0].link.remote, &s.alternate));
        if (ring == 0)
            s.always = 0;
        run(&net, &s, DP_SECONDS(3));
        assert_int_equal(net_completed(&net), ring == 0);
        assert_int_equal(net.nodes[0].links, ring == 0 ? 2 : 1 + DP_ICE_MAX_REDIRECTS);
        assert_true(net.nodes[0].gathering_complete);
        assert_links(&net, &s, ring == 0 ? 1 : 0);
        net_clear(&net);
    }
}

static void a_peer_that_is_refused(void **state)
{
    (void)state;
    testnet net;
    server s;
    init(&net, &s, DP_ICE_UDP, true);
    s.forbids = true;
    begin(&net);
    run(&net, &s, DP_SECONDS(1));
    const dp_ice *ice = net.nodes[0].ice;
    assert_int_equal(ice->pair_count, 1);
    assert_int_equal(ice->pairs[0].state, DP_ICE_PAIR_FAILED);
    assert_int_equal(ice->transaction_count, 0);
    net_clear(&net);
}

/* One allocation, an address of each family: both end with it, and neither is looked at meanwhile. */
static void two_families(void **state)
{
    (void)state;
    testnet net;
    server s;
    init(&net, &s, DP_ICE_UDP, true);
    s.relayed_count = 2;
    net_address(&net, 1, "2001:db8::2", 2000);
    begin(&net);
    run(&net, &s, DP_SECONDS(3));
    assert_true(net_completed(&net));
    dp_ice *ice = net.nodes[0].ice;
    assert_int_equal(ice->pair_count, 2);
    for (size_t i = 0; i < 2; i++) /* each has worked */
        ice->pairs[i].valid = true;
    hang_up(&net, &s);
    assert_int_equal(ice->active, DP_ICE_NO_PAIR);
    run(&net, &s, DP_SECONDS(10));
    assert_true(net_completed(&net));
    assert_int_equal(s.allocations, 2);
    net_clear(&net);
}

static void restart_both(testnet *net)
{
    for (unsigned i = 0; i < 2; i++) {
        net->nodes[i].candidate_count = 0;
        assert_int_equal(dp_ice_restart(net->nodes[i].ice, net->now), DP_OK);
    }
}

/* The allocation outlives the session; data flows. */
static void a_restart_keeps_the_allocation(void **state)
{
    (void)state;
    testnet net;
    server s;
    connected(&net, &s, DP_ICE_TCP, 64);
    restart_both(&net);
    for (unsigned n = 0; n < 20; n++) {
        (void)send_data(&net, 0, 10);
        (void)send_data(&net, 1, 10);
        run(&net, &s, DP_MS(50));
        if (n == 10) {
            net_credentials(&net, 0);
            net_credentials(&net, 1);
        }
    }
    run(&net, &s, DP_SECONDS(1));
    assert_true(net_completed(&net));
    assert_int_equal(net.nodes[0].payloads, 20);
    assert_int_equal(net.nodes[1].payloads, 20);
    assert_int_equal(s.allocations, 1);
    assert_int_equal(net.nodes[0].candidate_count, 1);
    assert_non_null(strstr(net.nodes[0].candidates[0], dp_ice_local_ufrag(net.nodes[0].ice)));
    assert_links(&net, &s, 1);
    net_clear(&net);
}

/* A failure gives the allocation back; a restart asks for a new one. */
static void a_restart_after_failure(void **state)
{
    (void)state;
    testnet net;
    server s;
    connected(&net, &s, DP_ICE_UDP, 0);
    net.loss = 100; /* the peer's path; the server is there */
    run(&net, &s, DP_SECONDS(40));
    for (unsigned i = 0; i < 2; i++)
        assert_state(&net, i, DP_ICE_FAILED);
    assert_int_equal(s.releases, 1);
    assert_links(&net, &s, 0);
    net.loss = 0;
    s.relayed[0].port = 50001;
    restart_both(&net);
    net_credentials(&net, 0);
    net_credentials(&net, 1);
    net_run(&net, 0); /* the peer's candidate is there before the new link */
    assert_int_equal(net.nodes[0].candidate_count, 0);
    run(&net, &s, DP_SECONDS(3));
    assert_true(net_completed(&net));
    assert_int_equal(s.allocations, 2);
    assert_int_equal(net.nodes[0].candidate_count, 1);
    assert_links(&net, &s, 1);
    net_clear(&net);
}

/* The same with nothing polled between the failure and the restart. */
static void a_restart_before_the_release(void **state)
{
    (void)state;
    testnet net;
    server s;
    connected(&net, &s, DP_ICE_TCP, 64);
    net.loss = 100;
    dp_ice *ice = net.nodes[0].ice;
    net.now += DP_SECONDS(40);
    dp_ice_handle_timeout(ice, net.now);
    assert_state(&net, 0, DP_ICE_FAILED);
    net.nodes[0].candidate_count = 0;
    assert_int_equal(dp_ice_restart(ice, net.now), DP_OK);
    s.seen = net.nodes[0].links;
    net.loss = 0;
    run(&net, &s, DP_SECONDS(1));
    assert_int_equal(s.allocations, 2);
    assert_int_equal(net.nodes[0].candidate_count, 1);
    assert_links(&net, &s, 1);
    net_clear(&net);
}

static void closing_gives_it_back(void **state)
{
    (void)state;
    for (unsigned v = 0; v < 3; v++) {
        testnet net;
        server s;
        if (v == 0) {
            connected(&net, &s, DP_ICE_TCP, 64);
        } else {
            init(&net, &s, DP_ICE_TCP, true);
            s.mute = true;
            begin(&net);
            if (v == 1)
                run(&net, &s, DP_MS(10)); /* asking */
            else
                net_run(&net, 0); /* opening */
        }
        dp_ice_close(net.nodes[0].ice);
        uint32_t link = net.nodes[0].link.id;
        net_run(&net, DP_SECONDS(1));
        assert_int_equal(s.releases, v == 0);
        assert_int_equal(net.nodes[0].links, 1);
        assert_int_equal(net.nodes[0].links_closed, 1);
        assert_int_equal(dp_ice_next_timeout(net.nodes[0].ice), DP_TIME_NEVER);
        dp_ice_payload payload;
        uint8_t late[4] = {0};
        dp_ice_link_opened(net.nodes[0].ice, net.now, link); /* too late, and harmless */
        assert_int_equal(dp_ice_link_input(net.nodes[0].ice, net.now, link, late, 4, &payload), 4);
        dp_ice_link_closed(net.nodes[0].ice, net.now, link);
        assert_links(&net, &s, 0);
        net_clear(&net);
    }
}

/* A link that the owner has not heard of needs no end. */
static void closing_before_the_link_was_asked_for(void **state)
{
    (void)state;
    testnet net;
    server s;
    init(&net, &s, DP_ICE_TCP, true);
    net_gather(&net, 0);
    dp_ice_close(net.nodes[0].ice);
    net_run(&net, DP_SECONDS(1));
    assert_int_equal(net.nodes[0].links, 0);
    assert_int_equal(net.nodes[0].links_closed, 0);
    net_clear(&net);
}

/* Without a NAT the server sees the host's own address: it must not be told with the relayed one. */
static void hidden_addresses_stay_hidden(void **state)
{
    (void)state;
    testnet net;
    server s;
    init(&net, &s, DP_ICE_UDP, false);
    begin(&net);
    run(&net, &s, DP_SECONDS(2));
    assert_int_equal(net.nodes[0].candidate_count, 2);
    for (unsigned n = 0; n < 2; n++)
        assert_null(strstr(net.nodes[0].candidates[n], "10.0.0.1"));
    net_clear(&net);
}

/* Calls for links that never were. */
static void links_of_nobody(void **state)
{
    (void)state;
    testnet net;
    server s;
    dp_ice_payload payload;
    uint8_t data[20] = {0};
    connected(&net, &s, DP_ICE_TCP, 64);
    static const uint32_t ids[] = {0, 7, UINT32_MAX};
    for (size_t i = 0; i < 3; i++) {
        dp_ice_link_opened(net.nodes[0].ice, net.now, ids[i]);
        assert_int_equal(dp_ice_link_input(net.nodes[0].ice, net.now, ids[i], data, sizeof data, &payload),
                         20);
        assert_int_equal(payload.len, 0);
        dp_ice_link_closed(net.nodes[0].ice, net.now, ids[i]);
    }
    dp_ice_link_opened(net.nodes[0].ice, net.now, net.nodes[0].link.id); /* again */
    run(&net, &s, DP_SECONDS(1));
    assert_true(net_completed(&net));
    assert_int_equal(s.allocations, 1);
    assert_links(&net, &s, 1);
    net_clear(&net);
}

/* ---- failures ---- */

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
static void hook_free(void *ctx, void *block)
{
    (void)ctx;
    free(block);
}

/* A lost allocation costs the relay at most; nothing leaks, gathering ends. */
static void every_allocation_fails_once(void **state)
{
    (void)state;
    const dp_allocator allocator = {hook_alloc, hook_realloc, hook_free, NULL};
    unsigned long total = 1;
    size_t made = 0;
    for (unsigned long n = 0; n <= total; n++) {
        testnet net;
        server s;
        init(&net, &s, DP_ICE_TCP, true);
        net.nodes[0].mute_candidates = true;
        dp_set_allocator(&allocator);
        allocations = 0;
        countdown = n;
        net_gather(&net, 0);
        run(&net, &s, DP_SECONDS(12));
        assert_true(net.nodes[0].gathering_complete);
        made += net.nodes[0].candidate_count;
        if (n == 0)
            total = allocations;
        dp_ice_close(net.nodes[0].ice);
        net_run(&net, 0);
        assert_links(&net, &s, 0);
        dp_set_allocator(NULL);
        net_clear(&net);
    }
    assert_in_range(total, 4, 100);
    assert_in_range(made, 1, total);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connects_through_a_relay),
        cmocka_unit_test(data_before_the_channel),
        cmocka_unit_test(the_link_breaks),
        cmocka_unit_test(the_server_is_restarted),
        cmocka_unit_test(no_server_there),
        cmocka_unit_test(redirects),
        cmocka_unit_test(a_peer_that_is_refused),
        cmocka_unit_test(two_families),
        cmocka_unit_test(a_restart_keeps_the_allocation),
        cmocka_unit_test(a_restart_after_failure),
        cmocka_unit_test(a_restart_before_the_release),
        cmocka_unit_test(closing_gives_it_back),
        cmocka_unit_test(closing_before_the_link_was_asked_for),
        cmocka_unit_test(hidden_addresses_stay_hidden),
        cmocka_unit_test(links_of_nobody),
        cmocka_unit_test(every_allocation_fails_once),
    };
    return cmocka_run_group_tests_name("ice/relay", tests, NULL, NULL);
}
