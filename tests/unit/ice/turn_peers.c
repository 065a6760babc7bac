/* TURN permissions, channels and data (RFC 8656 §9 to §12). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "turn_world.h"

static size_t count_peers(const world *w)
{
    size_t n = 0;
    for (size_t at = DP_STUN_HEADER_LEN; at + 4 <= w->len;) {
        n += w->frame[at] == 0x00 && w->frame[at + 1] == 0x12;
        at += 4u + ((w->frame[at + 2] * 256u + w->frame[at + 3] + 3u) & ~3u);
    }
    return n;
}

static dp_address numbered(unsigned i) { return (dp_address){DP_FAMILY_IPV4, 7, 0, {10, 0, 0, (uint8_t)i}}; }

static void permissions(void **state)
{
    (void)state;
    world w;
    open_world(&w, true);
    dp_address peer = numbered(0);
    assert_int_equal(dp_turn_permit(w.turn, w.now, &peer), DP_OK); /* waits for the allocation */
    authenticate(&w);
    grant_with(&w, 36000, true);
    next_is(&w, DP_STUN_METHOD_CREATE_PERMISSION);
    assert_int_equal(count_peers(&w), 1);
    assert_int_equal(w.m.peer.ip[0], 10);
    assert_int_equal(dp_stun_check_integrity(&w.m, w.key, sizeof w.key), DP_OK);
    success(&w, true);
    quiet(&w);
    peer.port = 8; /* the same IP */
    assert_int_equal(dp_turn_permit(w.turn, w.now, &peer), DP_OK);
    quiet(&w);
    for (unsigned i = 1; i < DP_TURN_MAX_PEERS; i++) {
        peer = numbered(i);
        assert_int_equal(dp_turn_permit(w.turn, w.now, &peer), DP_OK);
    }
    size_t peers = 0;
    unsigned requests = 0;
    for (; next(&w); requests++) {
        peers += count_peers(&w);
        success(&w, true);
    }
    assert_int_equal(requests, 4);
    assert_int_equal(peers, DP_TURN_MAX_PEERS - 1);
    pass(&w, DP_SECONDS(240) - 1);
    quiet(&w);
    pass(&w, 1); /* all again */
    for (peers = 0; next(&w);) {
        peers += count_peers(&w);
        success(&w, true);
    }
    assert_int_equal(peers, DP_TURN_MAX_PEERS);
    dp_address none = {0};
    assert_int_equal(dp_turn_permit(w.turn, w.now, &none), DP_ERR_INVALID_ARGUMENT);
    dp_turn_free(w.turn);
}

static void one_refused_peer_is_found(void **state)
{
    (void)state;
    world w;
    dp_turn_event event;
    allocate(&w, true);
    for (unsigned i = 0; i < 20; i++) {
        dp_address peer = numbered(i);
        assert_int_equal(dp_turn_permit(w.turn, w.now, &peer), DP_OK);
    }
    unsigned requests = 0;
    while (next(&w)) {
        size_t n = count_peers(&w);
        assert_in_range(++requests, 1, 40);
        bool bad = n > 1 ? n == 16 : w.m.peer.ip[3] == 5; /* the first 16, with 10.0.0.5 */
        if (bad)
            error(&w, 403, NULL, true);
        else
            success(&w, true);
    }
    assert_int_equal(requests, 18);
    dp_address bad = numbered(5);
    bad.port = 0;
    event_is(&w, DP_TURN_EVENT_PEER_REFUSED, 403, &event);
    assert_true(dp_address_equal(&event.peer, &bad));
    no_event(&w);
    assert_int_equal(dp_turn_permit(w.turn, w.now, &bad), DP_OK);
    quiet(&w); /* not asked for again */
    dp_datagram out = {.data = w.frame, .capacity = sizeof w.frame, .length = 4};
    bad.port = 7;
    assert_false(dp_turn_wrap(w.turn, &bad, &out, dp_turn_headroom(w.turn, &bad)));
    assert_int_equal(out.length, 0);
    dp_turn_free(w.turn);
}

static void requests_about_peers_can_end_it(void **state)
{
    (void)state;
    static const unsigned codes[] = {437, 441};
    for (size_t i = 0; i < 2; i++) {
        world w;
        dp_address peer = numbered(1);
        allocate(&w, false);
        assert_int_equal(dp_turn_permit(w.turn, w.now, &peer), DP_OK);
        next_is(&w, DP_STUN_METHOD_CREATE_PERMISSION);
        error(&w, codes[i], NULL, true);
        failed(&w, codes[i]);
    }
}

static void a_stale_nonce_is_replaced_for_each(void **state)
{
    (void)state;
    world w;
    dp_address peer = numbered(1);
    allocate(&w, false);
    for (unsigned i = 2; i < 12; i++) { /* many more than credentials may be refused for one */
        char nonce[8] = "nonce-a";
        nonce[6] = (char)('a' + i);
        peer = numbered(i);
        assert_int_equal(dp_turn_permit(w.turn, w.now, &peer), DP_OK);
        next_is(&w, DP_STUN_METHOD_CREATE_PERMISSION);
        error(&w, 438, nonce, false);
        next_is(&w, DP_STUN_METHOD_CREATE_PERMISSION);
        assert_memory_equal(w.m.nonce, nonce, 7);
        assert_int_equal(w.m.peer.ip[3], i);
        success(&w, true);
        quiet(&w);
        no_event(&w);
    }
    dp_turn_free(w.turn);
}

static void requests_in_flight_are_bounded(void **state)
{
    (void)state;
    world w;
    allocate(&w, false);
    for (unsigned i = 0; i < DP_TURN_MAX_PEERS; i++) {
        dp_address peer = numbered(i);
        assert_int_equal(dp_turn_bind(w.turn, w.now, &peer), DP_OK);
    }
    unsigned requests = 0;
    while (next(&w))
        requests++;
    assert_int_equal(requests, 8);
    quiet(&w); /* what waits for a place does not keep the owner busy */
    dp_turn_free(w.turn);
}

static size_t wrap(world *w, const dp_address *peer, const char *text)
{
    size_t headroom = dp_turn_headroom(w->turn, peer);
    dp_datagram out = {.data = w->frame, .capacity = sizeof w->frame, .length = strlen(text)};
    memset(w->frame, 0xAA, sizeof w->frame);
    memcpy(w->frame + headroom, text, out.length);
    assert_true(dp_turn_wrap(w->turn, peer, &out, headroom));
    w->len = out.length;
    return out.length;
}

static void bind_channel(world *w, const dp_address *peer)
{
    assert_int_equal(dp_turn_bind(w->turn, w->now, peer), DP_OK);
    next_is(w, DP_STUN_METHOD_CREATE_PERMISSION);
    success(w, true);
    next_is(w, DP_STUN_METHOD_CHANNEL_BIND);
    assert_true(dp_address_equal(&w->m.peer, peer));
    assert_int_equal(w->m.channel, 0x4000);
    assert_int_equal(dp_stun_check_integrity(&w->m, w->key, sizeof w->key), DP_OK);
    success(w, true);
    quiet(w);
}

static void data_out(void **state)
{
    (void)state;
    for (unsigned reliable = 0; reliable < 2; reliable++) {
        world w;
        dp_address peers[] = {address("198.51.100.1", 9), address("2001:db8::9", 9)};
        allocate(&w, reliable);
        assert_int_equal(dp_turn_headroom(w.turn, &peers[0]), 36);
        assert_int_equal(dp_turn_headroom(w.turn, &peers[1]), 48);
        bind_channel(&w, &peers[0]);
        assert_int_equal(dp_turn_headroom(w.turn, &peers[0]), 4);
        assert_int_equal(wrap(&w, &peers[0], "hello"), reliable ? 12 : 9);
        assert_memory_equal(w.frame, "\x40\x00\x00\x05hello\0\0\0", w.len);
        assert_int_equal(dp_turn_permit(w.turn, w.now, &peers[1]), DP_OK);
        next_is(&w, DP_STUN_METHOD_CREATE_PERMISSION);
        success(&w, true);
        assert_int_equal(wrap(&w, &peers[1], "hello"), 56);
        assert_int_equal(dp_stun_decode(&w.m, w.frame, w.len), DP_OK);
        assert_int_equal(w.m.class_, DP_STUN_INDICATION);
        assert_int_equal(w.m.method, DP_STUN_METHOD_SEND);
        assert_true(dp_address_equal(&w.m.peer, &peers[1]));
        assert_int_equal(w.m.payload_len, 5);
        assert_memory_equal(w.m.payload, "hello\0\0\0", 8);

        dp_datagram out = {.data = w.frame, .capacity = 40, .length = 40}; /* no room */
        assert_false(dp_turn_wrap(w.turn, &peers[0], &out, 4));
        assert_int_equal(out.length, 0);
        out.length = 4; /* the wrong headroom */
        assert_false(dp_turn_wrap(w.turn, &peers[0], &out, 36));
        dp_address stranger = address("198.51.100.2", 9);
        out.length = 4;
        assert_false(dp_turn_wrap(w.turn, &stranger, &out, 36));
        w.draws_left = 1;
        out.length = 4;
        out.capacity = sizeof w.frame;
        assert_false(dp_turn_wrap(w.turn, &peers[1], &out, 48));
        assert_int_equal(out.length, 0);
        dp_turn_free(w.turn);
    }
}

static bool channel_data(world *w, unsigned channel, size_t claimed, size_t len)
{
    uint8_t frame[64] = {(uint8_t)(channel >> 8), (uint8_t)channel, (uint8_t)(claimed >> 8),
                         (uint8_t)claimed};
    return feed(w, frame, 4 + len);
}

static bool indication(world *w, const dp_address *peer, size_t len, unsigned method)
{
    uint8_t frame[128];
    uint8_t data[16] = {0};
    size_t frame_len = 0;
    dp_wr wr = dp_wr_init(frame, sizeof frame);
    dp_stun_write_header(&wr, DP_STUN_INDICATION, method, w->m.transaction);
    if (peer != NULL)
        dp_stun_write_xor_address(&wr, DP_STUN_XOR_PEER_ADDRESS, peer);
    if (len > 0)
        dp_stun_write_attribute(&wr, DP_STUN_DATA, data, len);
    else
        dp_stun_write_attribute(&wr, (dp_stun_attribute)0x8004, data, 8); /* ICMP */
    assert_int_equal(dp_stun_finish(&wr, &frame_len), DP_OK);
    return feed(w, frame, frame_len);
}

static void data_in(void **state)
{
    (void)state;
    world w;
    dp_address peer = address("198.51.100.1", 9);
    dp_address other_port = address("198.51.100.1", 10);
    dp_address stranger = address("198.51.100.2", 9);
    allocate(&w, false);
    assert_false(channel_data(&w, 0x4000, 5, 5)); /* not bound */
    assert_false(indication(&w, &peer, 5, DP_STUN_METHOD_DATA));
    bind_channel(&w, &peer);
    assert_true(channel_data(&w, 0x4000, 5, 5));
    assert_true(channel_data(&w, 0x4000, 5, 8)); /* padded */
    assert_false(channel_data(&w, 0x4000, 0, 0));
    assert_false(channel_data(&w, 0x4000, 6, 5)); /* longer than the datagram */
    assert_false(channel_data(&w, 0x4000, 0xFFFF, 5));
    assert_false(channel_data(&w, 0x4001, 5, 5));
    assert_false(channel_data(&w, 0x4FFF, 5, 5));
    assert_false(channel_data(&w, 0x7FFF, 5, 5));
    assert_false(feed(&w, (const uint8_t *)"\x40\x00\x00", 3));
    dp_turn_data out;
    assert_false(dp_turn_input(w.turn, w.now, NULL, 0, &out));
    assert_true(indication(&w, &peer, 5, DP_STUN_METHOD_DATA));
    assert_true(indication(&w, &other_port, 5, DP_STUN_METHOD_DATA)); /* a permission is for the IP */
    assert_false(indication(&w, &stranger, 5, DP_STUN_METHOD_DATA));
    assert_false(indication(&w, NULL, 5, DP_STUN_METHOD_DATA));
    assert_false(indication(&w, &peer, 0, DP_STUN_METHOD_DATA));
    assert_false(indication(&w, &peer, 5, DP_STUN_METHOD_SEND));
    uint8_t frame[64]; /* an address of a family that there is not */
    size_t len = 0;
    dp_wr wr = dp_wr_init(frame, sizeof frame);
    dp_stun_write_header(&wr, DP_STUN_INDICATION, DP_STUN_METHOD_DATA, w.m.transaction);
    dp_stun_write_attribute(&wr, DP_STUN_XOR_PEER_ADDRESS, "\0\3\0\0\0\0\0\0", 8);
    dp_stun_write_attribute(&wr, DP_STUN_DATA, "data", 4);
    assert_int_equal(dp_stun_finish(&wr, &len), DP_OK);
    assert_false(feed(&w, frame, len));
    dp_turn_release(w.turn, w.now);
    assert_false(channel_data(&w, 0x4000, 5, 5));
    dp_turn_free(w.turn);
}

static void channels_are_kept(void **state)
{
    (void)state;
    world w;
    dp_address peer = address("198.51.100.1", 9);
    allocate(&w, true);
    dp_time start = w.now;
    bind_channel(&w, &peer);
    unsigned binds = 0;
    while (w.now < start + DP_SECONDS(1200)) { /* a good server: the channel never ceases */
        w.now = dp_turn_next_timeout(w.turn);
        dp_turn_handle_timeout(w.turn, w.now);
        while (next(&w)) {
            if (w.m.method == DP_STUN_METHOD_CHANNEL_BIND) {
                assert_int_equal(w.m.channel, 0x4000);
                assert_int_equal(w.now, start + ++binds * DP_SECONDS(540));
            }
            if (w.m.method == DP_STUN_METHOD_REFRESH)
                refreshed(&w, 600);
            else
                success(&w, true);
        }
        assert_int_equal(dp_turn_headroom(w.turn, &peer), 4);
    }
    assert_int_equal(binds, 2);
    w.now += DP_SECONDS(7200); /* the machine slept: the server has forgotten the channel */
    dp_turn_handle_timeout(w.turn, w.now);
    assert_int_equal(dp_turn_headroom(w.turn, &peer), 36);
    dp_turn_free(w.turn);
}

static void a_refused_channel_leaves_indications(void **state)
{
    (void)state;
    world w;
    dp_address peer = address("198.51.100.1", 9);
    allocate(&w, true);
    assert_int_equal(dp_turn_bind(w.turn, w.now, &peer), DP_OK);
    next_is(&w, DP_STUN_METHOD_CREATE_PERMISSION);
    success(&w, true);
    next_is(&w, DP_STUN_METHOD_CHANNEL_BIND);
    error(&w, 508, NULL, true);
    no_event(&w);
    quiet(&w);
    assert_int_equal(dp_turn_bind(w.turn, w.now, &peer), DP_OK);
    quiet(&w);
    assert_int_equal(dp_turn_headroom(w.turn, &peer), 36);
    assert_int_equal(wrap(&w, &peer, "hello"), 44);
    assert_false(channel_data(&w, 0x4000, 5, 5));
    dp_turn_free(w.turn);
}

static bool is_permitted(world *w, unsigned i)
{
    dp_address peer = numbered(i);
    peer.port = 8; /* no channel's: that would do without */
    uint8_t frame[100];
    dp_datagram d = {.data = frame, .capacity = sizeof frame, .length = 1};
    return dp_turn_wrap(w->turn, &peer, &d, dp_turn_headroom(w->turn, &peer));
}

/* A peer that roams has more addresses in a month than there are places: old ones give way, but not those in use. */
static void old_permissions_give_way(void **state)
{
    (void)state;
    world w;
    allocate(&w, true);
    for (unsigned i = 0; i < DP_TURN_MAX_PEERS; i++) {
        dp_address peer = numbered(i);
        assert_int_equal(dp_turn_permit(w.turn, w.now, &peer), DP_OK);
    }
    dp_address one_more = numbered(200);
    assert_int_equal(dp_turn_permit(w.turn, w.now, &one_more), DP_ERR_LIMIT); /* nobody has answered yet */
    for (unsigned answered = 0; next(&w); answered++) {
        assert_int_equal(dp_turn_permit(w.turn, w.now, &one_more), answered == 0 ? DP_ERR_LIMIT : DP_OK);
        success(&w, true);
    }
    dp_address used = numbered(20);
    assert_int_equal(dp_turn_bind(w.turn, w.now, &used), DP_OK);
    while (next(&w))
        success(&w, true);
    for (unsigned i = 100; i < 200; i++) {
        dp_address peer = numbered(i);
        assert_int_equal(dp_turn_permit(w.turn, w.now, &peer), DP_OK);
        while (next(&w))
            success(&w, true);
        assert_true(is_permitted(&w, i) && is_permitted(&w, 20));
    }
    assert_false(is_permitted(&w, 0));
    assert_false(is_permitted(&w, 21));
    assert_false(is_permitted(&w, 100));
    assert_true(is_permitted(&w, 199 - (DP_TURN_MAX_PEERS - 2)));
    dp_turn_free(w.turn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(permissions),
        cmocka_unit_test(old_permissions_give_way),
        cmocka_unit_test(one_refused_peer_is_found),
        cmocka_unit_test(requests_about_peers_can_end_it),
        cmocka_unit_test(a_stale_nonce_is_replaced_for_each),
        cmocka_unit_test(requests_in_flight_are_bounded),
        cmocka_unit_test(data_out),
        cmocka_unit_test(data_in),
        cmocka_unit_test(channels_are_kept),
        cmocka_unit_test(a_refused_channel_leaves_indications),
    };
    return cmocka_run_group_tests_name("ice/turn_peers", tests, NULL, NULL);
}
