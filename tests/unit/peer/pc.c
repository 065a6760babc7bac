/* Whole peer connections against each other: ICE, DTLS, SCTP and descriptions together, in virtual time. */
#include "pair.h"

#include "../rpc/failing.h"
#include "ice/stun.h"
#include "peer/demux.h"
#include <stdio.h>

static void connects_and_carries_messages(void **state)
{
    (void)state;
    pair p;
    pair_new(&p, 1);
    dp_time began = p.now;
    pair_connect(&p);
    assert_int_equal(p.ends[0].state, DP_PC_CONNECTED);
    assert_int_equal(p.ends[1].state, DP_PC_CONNECTED);
    assert_true(p.now - began < DP_SECONDS(1));
    assert_string_equal(dp_channel_label(p.ends[1].channel), "test");
    assert_int_equal(dp_channel_send(p.ends[0].channel, p.now, (const uint8_t *)"hello", 5, false, false),
                     DP_OK);
    assert_int_equal(dp_channel_send(p.ends[1].channel, p.now, (const uint8_t *)"", 0, true, false), DP_OK);
    PAIR_RUN_UNTIL(&p, p.ends[1].messages == 1 && p.ends[0].messages == 1, DP_SECONDS(10));
    assert_memory_equal(p.ends[1].last, "hello", 5);
    assert_false(p.ends[1].last_binary);
    assert_int_equal(p.ends[0].last_len, 0);
    assert_true(p.ends[0].last_binary);
    pair_free(&p);
}

static void big_messages_both_ways(void **state)
{
    (void)state;
    enum { SIZE = DP_PC_MAX_MESSAGE_SIZE };
    pair p;
    pair_new(&p, 2);
    pair_connect(&p);
    uint8_t *data = malloc(SIZE);
    assert_non_null(data);
    for (size_t i = 0; i < SIZE; i++)
        data[i] = (uint8_t)(i * 7 + (i >> 8));
    for (int i = 0; i < 2; i++)
        assert_int_equal(dp_channel_send(p.ends[i].channel, p.now, data, SIZE, true, false), DP_OK);
    PAIR_RUN_UNTIL(&p, p.ends[0].messages == 1 && p.ends[1].messages == 1, DP_SECONDS(60));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(p.ends[i].last_len, SIZE);
        assert_memory_equal(p.ends[i].last, data, SIZE);
    }
    assert_int_equal(dp_channel_send(p.ends[0].channel, p.now, data, SIZE + 1, true, false),
                     DP_ERR_TOO_LARGE);
    free(data);
    pair_free(&p);
}

/* 30 runs on a network that loses, doubles and reorders: each connects and delivers in order. */
static unsigned expected;
static void check_order(pair_end *end, const dp_pc_event *event)
{
    (void)end;
    unsigned number;
    assert_int_equal(event->len, sizeof(number));
    memcpy(&number, event->data, sizeof(number));
    assert_int_equal(number, expected++);
}

static void survives_a_bad_network(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        pair p;
        pair_new(&p, seed);
        p.loss_percent = seed % 3 == 0 ? 20 : 5;
        p.duplicate_percent = 5;
        p.jitter = DP_MS(20);
        printf("seed %llu\n", (unsigned long long)seed);
        pair_connect(&p);
        expected = 0;
        p.ends[1].on_message = check_order;
        for (unsigned i = 0; i < 200; i++)
            assert_int_equal(
                dp_channel_send(p.ends[0].channel, p.now, (const uint8_t *)&i, sizeof(i), true, false),
                DP_OK);
        PAIR_RUN_UNTIL(&p, expected == 200, DP_SECONDS(120));
        pair_free(&p);
    }
}

static void close_tells_the_other_side(void **state)
{
    (void)state;
    for (int who = 0; who < 2; who++) {
        pair p;
        pair_new(&p, 3);
        pair_connect(&p);
        dp_pc_close(p.ends[who].pc, p.now);
        PAIR_RUN_UNTIL(&p, p.ends[0].state == DP_PC_CLOSED && p.ends[1].state == DP_PC_CLOSED, DP_SECONDS(1));
        assert_int_equal(p.ends[0].closed, 1);
        assert_int_equal(p.ends[1].closed, 1);
        dp_channel *channel;
        dp_channel_init init = DP_CHANNEL_INIT("late");
        assert_int_equal(dp_pc_create_channel(p.ends[1 - who].pc, &channel, p.now, &init), DP_ERR_CLOSED);
        pair_free(&p);
    }
}

static void closing_a_channel_leaves_the_connection(void **state)
{
    (void)state;
    pair p;
    pair_new(&p, 4);
    pair_connect(&p);
    dp_channel_close(p.ends[1].channel, p.now);
    PAIR_RUN_UNTIL(&p, p.ends[0].closed == 1 && p.ends[1].closed == 1, DP_SECONDS(10));
    assert_int_equal(p.ends[0].state, DP_PC_CONNECTED);
    dp_channel_init init = DP_CHANNEL_INIT("again");
    assert_int_equal(dp_pc_create_channel(p.ends[1].pc, &p.ends[1].channel, p.now, &init), DP_OK);
    PAIR_RUN_UNTIL(&p, p.ends[0].opened == 2 && p.ends[1].opened == 2, DP_SECONDS(10));
    assert_string_equal(dp_channel_label(p.ends[0].channel), "again");
    pair_free(&p);
}

/* A browser that is killed says nothing: consent (RFC 7675) ends it within 30 s, "disconnected" comes before.
 */
static void a_vanished_peer_is_noticed(void **state)
{
    (void)state;
    pair p;
    pair_new(&p, 5);
    pair_connect(&p);
    pair_run(&p, DP_SECONDS(20));
    assert_int_equal(p.ends[0].state, DP_PC_CONNECTED);
    p.cut = true;
    PAIR_RUN_UNTIL(&p, p.ends[0].state == DP_PC_DISCONNECTED, DP_SECONDS(15));
    PAIR_RUN_UNTIL(&p, p.ends[0].state == DP_PC_FAILED && p.ends[1].state == DP_PC_FAILED, DP_SECONDS(40));
    assert_int_equal(p.ends[0].closed, 1);
    uint64_t sent = p.sent[0];
    pair_run(&p, DP_SECONDS(60));
    assert_int_equal(p.sent[0], sent); /* silent afterwards (row 20) */
    pair_free(&p);
}

/* Row 30: the certificate is not the one that the description names. */
static void a_wrong_fingerprint_opens_no_channel(void **state)
{
    (void)state;
    for (int liar = 0; liar < 2; liar++) {
        pair p;
        char text[2][16384];
        size_t len[2];
        pair_new(&p, 6);
        dp_channel_init init = DP_CHANNEL_INIT("test");
        assert_int_equal(dp_pc_create_channel(p.ends[0].pc, &p.ends[0].channel, p.now, &init), DP_OK);
        for (int i = 0; i < 2; i++) {
            if (i == 0)
                assert_int_equal(dp_pc_create_offer(p.ends[0].pc, p.now, text[0], sizeof(text[0]), &len[0]),
                                 DP_OK);
            else
                assert_int_equal(dp_pc_create_answer(p.ends[1].pc, p.now, text[1], sizeof(text[1]), &len[1]),
                                 DP_OK);
            if (i == liar) {
                char *digit = strstr(text[i], "a=fingerprint:sha-256 ") + strlen("a=fingerprint:sha-256 ");
                *digit = *digit == '0' ? '1' : '0';
            }
            assert_int_equal(dp_pc_set_remote_description(p.ends[1 - i].pc, p.now,
                                                          i == 0 ? DP_SDP_OFFER : DP_SDP_ANSWER, text[i],
                                                          len[i], NULL),
                             DP_OK);
        }
        PAIR_RUN_UNTIL(&p, p.ends[1 - liar].state == DP_PC_FAILED, DP_SECONDS(40));
        assert_int_equal(p.ends[0].opened + p.ends[1].opened, 0);
        assert_non_null(strstr(p.ends[1 - liar].error, "sha-256"));
        pair_free(&p);
    }
}

/* Row 26: a handshake record from elsewhere has no effect, however good it looks. */
static void dtls_from_an_unvalidated_address_is_dropped(void **state)
{
    (void)state;
    pair p;
    pair_new(&p, 7);
    dp_address stranger;
    assert_int_equal(dp_address_parse(&stranger, "10.0.0.66", 6666), DP_OK);
    pair_negotiate(&p, true);
    /* A fatal handshake_failure alert: from the peer itself it would end the handshake. */
    const uint8_t alert[] = {21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 2, 40};
    for (int i = 0; i < 200 && (p.ends[0].opened == 0 || p.ends[1].opened == 0); i++) {
        for (int e = 0; e < 2; e++) {
            uint8_t copy[sizeof(alert)];
            memcpy(copy, alert, sizeof(alert));
            dp_pc_input(p.ends[e].pc, p.now, copy, sizeof(copy), &p.ends[e].address, &stranger);
        }
        pair_step(&p, p.now + DP_SECONDS(1));
    }
    PAIR_RUN_UNTIL(&p, p.ends[0].opened == 1 && p.ends[1].opened == 1, DP_SECONDS(5));
    assert_int_equal(p.strays, 0); /* not even the first of them made an end answer the stranger */
    pair_free(&p);
}

static void value_of(char out[64], const char *sdp, const char *key)
{
    const char *at = strstr(sdp, key);
    assert_non_null(at);
    at += strlen(key);
    size_t len = strcspn(at, "\r\n");
    assert_true(len < 64);
    memcpy(out, at, len);
    out[len] = '\0';
}

/* The peer knows our password. Where it guesses our address, no answer, not even an error, may tell that it is right. */
static void behind_a_relay_nobody_finds_us(void **state)
{
    (void)state;
    static char offer[16384], answer[16384];
    char ours[64], theirs[64], pwd[64], username[160];
    size_t offer_len, answer_len;
    dp_pc_config flags[2] = {{.relay_only = false}, {.relay_only = true}};
    pair p;
    pair_new_as(&p, 8, flags);
    assert_int_equal(dp_pc_create_offer(p.ends[0].pc, p.now, offer, sizeof(offer), &offer_len), DP_OK);
    assert_int_equal(dp_pc_set_remote_description(p.ends[1].pc, p.now, DP_SDP_OFFER, offer, offer_len, NULL),
                     DP_OK);
    assert_int_equal(dp_pc_create_answer(p.ends[1].pc, p.now, answer, sizeof(answer), &answer_len), DP_OK);
    answer[answer_len] = '\0';
    offer[offer_len] = '\0';
    assert_null(strstr(answer, "10.0.0."));
    value_of(theirs, offer, "a=ice-ufrag:");
    value_of(ours, answer, "a=ice-ufrag:");
    value_of(pwd, answer, "a=ice-pwd:");
    snprintf(username, sizeof(username), "%s:%s", ours, theirs);
    for (uint8_t variant = 0; variant < 4; variant++) {
        uint8_t bytes[200], transaction[DP_STUN_TRANSACTION_LEN] = {variant};
        size_t len;
        dp_wr wr = dp_wr_init(bytes, sizeof(bytes));
        dp_stun_write_header(&wr, DP_STUN_REQUEST, DP_STUN_METHOD_BINDING, transaction);
        dp_stun_write_attribute(&wr, DP_STUN_USERNAME, username, strlen(username));
        if (variant != 1) /* 400 */
            dp_stun_write_u32(&wr, DP_STUN_PRIORITY, 1);
        if (variant == 2) /* 420 */
            dp_stun_write_u32(&wr, (dp_stun_attribute)0x7777, 1);
        dp_stun_write_u64(&wr, variant == 3 ? DP_STUN_ICE_CONTROLLED : DP_STUN_ICE_CONTROLLING, 1); /* 487 */
        dp_stun_write_integrity(&wr, pwd, strlen(pwd));
        dp_stun_write_fingerprint(&wr);
        assert_int_equal(dp_stun_finish(&wr, &len), DP_OK);
        dp_pc_input(p.ends[1].pc, p.now, bytes, len, &p.ends[1].address, &p.ends[0].address);
        pair_drain(&p);
        assert_int_equal(p.sent[1], 0);
    }
    pair_free(&p);
}

/* Bytes of no protocol, in front of, during and after the set-up, from the peer's own address. */
static void garbage_is_dropped(void **state)
{
    (void)state;
    pair p;
    pair_new(&p, 8);
    pair_negotiate(&p, false);
    for (int i = 0; i < 3000; i++) {
        uint8_t junk[64];
        size_t len = pair_random(&p) % sizeof(junk);
        pair_random_bytes(&p, junk, len);
        if (len > 0 && i % 3 == 0)
            junk[0] = (uint8_t)(20 + pair_random(&p) % 44);
        int e = i % 2;
        dp_pc_input(p.ends[e].pc, p.now, junk, len, &p.ends[e].address, &p.ends[1 - e].address);
        pair_step(&p, p.now + DP_MS(50));
    }
    PAIR_RUN_UNTIL(&p, p.ends[0].opened == 1 && p.ends[1].opened == 1, DP_SECONDS(60));
    assert_int_equal(dp_channel_send(p.ends[0].channel, p.now, (const uint8_t *)"x", 1, true, false), DP_OK);
    PAIR_RUN_UNTIL(&p, p.ends[1].messages == 1, DP_SECONDS(10));
    pair_free(&p);
}

static void descriptions_out_of_order_are_refused(void **state)
{
    (void)state;
    pair p;
    char text[16384];
    size_t len;
    dp_sdp_error error;
    pair_new(&p, 9);
    assert_int_equal(dp_pc_create_answer(p.ends[0].pc, p.now, text, sizeof(text), &len),
                     DP_ERR_INVALID_STATE);
    assert_int_equal(
        dp_pc_add_remote_candidate(p.ends[0].pc, p.now, "candidate:1 1 udp 1 10.0.0.2 1 typ host"),
        DP_ERR_INVALID_STATE);
    assert_int_equal(dp_pc_create_offer(p.ends[0].pc, p.now, text, 64, &len), DP_ERR_NO_SPACE);
    pair_free(&p);

    pair_new(&p, 10);
    assert_int_equal(dp_pc_create_offer(p.ends[0].pc, p.now, text, sizeof(text), &len), DP_OK);
    assert_int_equal(dp_pc_create_offer(p.ends[0].pc, p.now, text, sizeof(text), &len), DP_ERR_INVALID_STATE);
    /* Our own offer as an answer: actpass is no choice. */
    assert_int_equal(dp_pc_set_remote_description(p.ends[0].pc, p.now, DP_SDP_ANSWER, text, len, &error),
                     DP_ERR_PROTOCOL);
    assert_non_null(strstr(error.message, "setup"));
    /* A bad line is named, and the connection can still take a good offer. */
    char bad[] = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=application 9 UDP/DTLS/SCTP "
                 "webrtc-datachannel\r\na=ice-ufrag:ab\r\n";
    assert_int_not_equal(
        dp_pc_set_remote_description(p.ends[1].pc, p.now, DP_SDP_OFFER, bad, sizeof(bad) - 1, &error), DP_OK);
    assert_int_equal(error.line, 6);
    assert_int_equal(dp_pc_set_remote_description(p.ends[1].pc, p.now, DP_SDP_OFFER, text, len, &error),
                     DP_OK);
    pair_free(&p);
}

static void other_media_are_answered_as_rejected(void **state)
{
    (void)state;
    pair p;
    char offer[16384], answer[16384], with_audio[16384];
    size_t len;
    pair_new(&p, 11);
    assert_int_equal(dp_pc_create_offer(p.ends[0].pc, p.now, offer, sizeof(offer), &len), DP_OK);
    char *media = strstr(offer, "m=application");
    assert_non_null(media);
    int n =
        snprintf(with_audio, sizeof(with_audio),
                 "%.*sm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:a\r\na=evil:echo-me\r\n%s",
                 (int)(media - offer), offer, media);
    assert_int_equal(
        dp_pc_set_remote_description(p.ends[1].pc, p.now, DP_SDP_OFFER, with_audio, (size_t)n, NULL), DP_OK);
    assert_int_equal(dp_pc_mline_index(p.ends[1].pc), 1);
    assert_int_equal(dp_pc_create_answer(p.ends[1].pc, p.now, answer, sizeof(answer), &len), DP_OK);
    assert_non_null(strstr(answer, "m=audio 0 "));
    assert_null(strstr(answer, "evil"));
    pair_free(&p);
}

static void back_pressure_blocks_and_resumes(void **state)
{
    (void)state;
    pair p;
    pair_new(&p, 12);
    pair_connect(&p);
    enum { SIZE = 65536 };
    static uint8_t data[SIZE];
    unsigned accepted = 0;
    int error = DP_OK;
    dp_channel_set_buffered_amount_low_threshold(p.ends[0].channel, 65536);
    while (accepted < 100000 &&
           (error = dp_channel_send(p.ends[0].channel, p.now, data, SIZE, true, false)) == DP_OK)
        accepted++;
    assert_int_equal(error, DP_ERR_WOULD_BLOCK);
    assert_true(dp_channel_buffered_amount(p.ends[0].channel) > 65536);
    PAIR_RUN_UNTIL(&p, p.ends[0].low > 0, DP_SECONDS(60));
    PAIR_RUN_UNTIL(&p, p.ends[1].messages == accepted, DP_SECONDS(60));
    assert_int_equal(dp_channel_buffered_amount(p.ends[0].channel), 0);
    pair_free(&p);
}

static void demultiplexes_by_the_first_byte(void **state)
{
    (void)state;
    for (int b = 0; b < 256; b++) {
        uint8_t byte = (uint8_t)b;
        dp_demux_class expected_class = b <= 3               ? DP_DEMUX_STUN
                                        : b >= 20 && b <= 63 ? DP_DEMUX_DTLS
                                                             : DP_DEMUX_OTHER;
        assert_int_equal(dp_demux_classify(&byte, 1), expected_class);
    }
    assert_int_equal(dp_demux_classify(NULL, 0), DP_DEMUX_OTHER);
}

/* Every allocation of ours fails in turn while a connection is made: a clean error or a connection, nothing
 * leaked. */
static bool try_to_connect(long fail_at)
{
    pair p;
    char offer[16384], answer[16384];
    size_t offer_len, answer_len;
    pair_new(&p, 13);
    memory_start(fail_at);
    dp_channel_init init = DP_CHANNEL_INIT("test");
    if (dp_pc_create_channel(p.ends[0].pc, &p.ends[0].channel, p.now, &init) == DP_OK &&
        dp_pc_create_offer(p.ends[0].pc, p.now, offer, sizeof(offer), &offer_len) == DP_OK &&
        dp_pc_set_remote_description(p.ends[1].pc, p.now, DP_SDP_OFFER, offer, offer_len, NULL) == DP_OK &&
        dp_pc_create_answer(p.ends[1].pc, p.now, answer, sizeof(answer), &answer_len) == DP_OK &&
        dp_pc_set_remote_description(p.ends[0].pc, p.now, DP_SDP_ANSWER, answer, answer_len, NULL) == DP_OK) {
        dp_time deadline = p.now + DP_SECONDS(8);
        while ((p.ends[0].opened == 0 || p.ends[1].opened == 0) && pair_step(&p, deadline)) {
        }
    }
    bool all_done = memory.count < fail_at;
    pair_free(&p);
    memory_stop();
    return all_done;
}

static void failed_allocations_are_survived(void **state)
{
    (void)state;
    long n = 1;
    while (!try_to_connect(n)) {
        n++;
        assert_true(n < 5000);
    }
    printf("%ld allocations\n", n - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connects_and_carries_messages),
        cmocka_unit_test(big_messages_both_ways),
        cmocka_unit_test(survives_a_bad_network),
        cmocka_unit_test(close_tells_the_other_side),
        cmocka_unit_test(closing_a_channel_leaves_the_connection),
        cmocka_unit_test(a_vanished_peer_is_noticed),
        cmocka_unit_test(a_wrong_fingerprint_opens_no_channel),
        cmocka_unit_test(dtls_from_an_unvalidated_address_is_dropped),
        cmocka_unit_test(behind_a_relay_nobody_finds_us),
        cmocka_unit_test(garbage_is_dropped),
        cmocka_unit_test(descriptions_out_of_order_are_refused),
        cmocka_unit_test(other_media_are_answered_as_rejected),
        cmocka_unit_test(back_pressure_blocks_and_resumes),
        cmocka_unit_test(demultiplexes_by_the_first_byte),
        cmocka_unit_test(failed_allocations_are_survived),
    };
    return cmocka_run_group_tests_name("peer connection", tests, NULL, NULL);
}
