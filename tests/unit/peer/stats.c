/* dp_pc_get_stats and dp_channel_get_stats of two connections in virtual time. */
#include "pair.h"

static dp_pc_stats stats_of(const pair *p, int i)
{
    dp_pc_stats stats = {.size = sizeof stats};
    assert_int_equal(dp_pc_get_stats(p->ends[i].pc, &stats), DP_OK);
    return stats;
}

static void nothing_is_known_before(void **state)
{
    (void)state;
    pair p;
    pair_new(&p, 900);
    dp_pc_stats stats = stats_of(&p, 0);
    assert_int_equal(stats.packets_sent, 0);
    assert_int_equal(stats.ice_state, DP_ICE_NEW);
    assert_false(stats.has_selected_pair);
    assert_null(stats.dtls_cipher);
    assert_null(stats.tls_version);
    stats.size--;
    assert_int_equal(dp_pc_get_stats(p.ends[0].pc, &stats), DP_ERR_INVALID_ARGUMENT);
    pair_free(&p);
}

static void both_ends_tell_the_same_story(void **state)
{
    (void)state;
    uint8_t data[30000] = {0};
    pair p;
    pair_new(&p, 901);
    pair_connect(&p);
    for (int i = 0; i < 3; i++)
        assert_int_equal(dp_channel_send(p.ends[0].channel, p.now, data, sizeof data, true, false), DP_OK);
    assert_int_equal(dp_channel_send(p.ends[1].channel, p.now, data, 0, true, false), DP_OK);
    PAIR_RUN_UNTIL(&p, p.ends[1].messages == 3 && p.ends[0].messages == 1, DP_SECONDS(10));
    pair_run(&p, DP_SECONDS(10)); /* SACKs and consent checks */

    dp_pc_stats a = stats_of(&p, 0);
    dp_pc_stats b = stats_of(&p, 1);
    assert_int_equal(a.packets_sent, b.packets_received);
    assert_int_equal(a.bytes_sent, b.bytes_received);
    assert_int_equal(b.bytes_sent, a.bytes_received);
    assert_true(a.bytes_sent > 3 * sizeof data && a.bytes_sent < 4 * sizeof data);
    assert_int_equal(a.dtls_state, DP_DTLS_CONNECTED);
    assert_true(a.dtls_role != b.dtls_role);
    assert_string_equal(a.dtls_cipher, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
    assert_string_equal(a.tls_version, "FEFD");
    assert_int_equal(a.srtp_profile, DP_SRTP_AES128_CM_HMAC_SHA1_80);
    assert_true(a.has_selected_pair && a.selected_candidate_pair_changes > 0);
    assert_true(dp_address_equal(&a.local, &b.remote));
    assert_true(a.ice.current_round_trip_time > 0);
    assert_true(a.sctp.smoothed_round_trip_time > 0 && a.sctp.congestion_window > 0);
    assert_true(a.sctp.receiver_window >= 256 << 10);
    assert_int_equal(a.sctp.unack_data, 0);
    assert_true(a.sctp.chunks_sent >= 3 * sizeof data / a.sctp.mtu);
    assert_int_equal(a.sctp.data_channels_opened, 1);
    assert_int_equal(a.sctp.data_channels_closed, 0);

    dp_channel_stats sent;
    dp_channel_stats received;
    dp_channel_get_stats(p.ends[0].channel, &sent);
    dp_channel_get_stats(p.ends[1].channel, &received);
    assert_int_equal(sent.messages_sent, 3);
    assert_int_equal(sent.bytes_sent, 3 * sizeof data);
    assert_int_equal(received.messages_received, 3);
    assert_int_equal(received.bytes_received, 3 * sizeof data);
    assert_int_equal(sent.messages_received, 1);
    assert_int_equal(sent.bytes_received, 0);

    dp_channel_close(p.ends[0].channel, p.now);
    pair_run(&p, DP_SECONDS(2));
    assert_int_equal(stats_of(&p, 0).sctp.data_channels_closed, 1);
    assert_int_equal(stats_of(&p, 1).sctp.data_channels_closed, 1);
    pair_free(&p);
}

static void losses_show_as_retransmissions(void **state)
{
    (void)state;
    uint8_t data[60000] = {0};
    pair p;
    pair_new(&p, 902);
    pair_connect(&p);
    p.loss_percent = 10;
    for (int i = 0; i < 5; i++)
        assert_int_equal(dp_channel_send(p.ends[0].channel, p.now, data, sizeof data, true, false), DP_OK);
    PAIR_RUN_UNTIL(&p, p.ends[1].messages == 5, DP_SECONDS(120));
    dp_sctp_stats sctp = stats_of(&p, 0).sctp;
    assert_true(sctp.chunks_retransmitted > 5 && sctp.chunks_retransmitted < sctp.chunks_sent / 2);
    pair_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_known_before),
        cmocka_unit_test(both_ends_tell_the_same_story),
        cmocka_unit_test(losses_show_as_retransmissions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
