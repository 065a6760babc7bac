#include <datapeer/sdp.h>

#include "samples.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char text[16384];
static size_t len;

static dp_sdp offer(void)
{
    dp_sdp sdp = {
        .session_id = 6203632466175681270,
        .session_version = 2,
        .ufrag = "pDFg",
        .pwd = "DQUpIZ/BoPbosowgeeF8Owma",
        .trickle = true,
        .setup = DP_SETUP_ACTPASS,
        .fingerprint_count = 1,
        .sctp_port = 5000,
        .max_message_size = 262144,
        .media = {{.kind = "application",
                   .protocol = "UDP/DTLS/SCTP",
                   .format = "webrtc-datachannel",
                   .mid = "0"}},
        .media_count = 1,
    };
    static const char fingerprint[] = "sha-256 " FP256;
    assert_int_equal(dp_fingerprint_parse(&sdp.fingerprints[0], fingerprint, strlen(fingerprint)), DP_OK);
    return sdp;
}

static void test_offer_is_chromiums(void **state)
{
    (void)state;
    dp_sdp sdp = offer();
    assert_int_equal(dp_sdp_write(&sdp, text, sizeof(text), &len), DP_OK);
    assert_string_equal(text, "v=0\r\n"
                              "o=- 6203632466175681270 2 IN IP4 127.0.0.1\r\n"
                              "s=-\r\n"
                              "t=0 0\r\n"
                              "a=group:BUNDLE 0\r\n"
                              "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"
                              "c=IN IP4 0.0.0.0\r\n"
                              "a=ice-ufrag:pDFg\r\n"
                              "a=ice-pwd:DQUpIZ/BoPbosowgeeF8Owma\r\n"
                              "a=ice-options:trickle\r\n"
                              "a=fingerprint:sha-256 " FP256 "\r\n"
                              "a=setup:actpass\r\n"
                              "a=mid:0\r\n"
                              "a=sctp-port:5000\r\n"
                              "a=max-message-size:262144\r\n");
    assert_int_equal(len, strlen(text));
}

/* Rows 56 and 57: the peer's other sections are rejected in their place; its attributes are gone. */
static void test_answer_to_media(void **state)
{
    (void)state;
    dp_sdp theirs, ours = offer();
    assert_int_equal(dp_sdp_parse(&theirs, NULL, media_offer, strlen(media_offer)), DP_OK);
    memcpy(ours.media, theirs.media, sizeof(ours.media));
    ours.media_count = theirs.media_count;
    ours.data_index = theirs.data_index;
    ours.unbundled = theirs.unbundled;
    ours.setup = DP_SETUP_ACTIVE;
    assert_int_equal(dp_sdp_write(&ours, text, sizeof(text), &len), DP_OK);
    assert_non_null(strstr(text,
                           "a=group:BUNDLE data\r\n"
                           "m=audio 0 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\na=mid:au\r\n"
                           "m=video 0 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\na=mid:vi\r\n"
                           "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"));
    assert_non_null(strstr(text, "a=max-message-size:262144\r\n"
                                 "m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n"
                                 "a=inactive\r\na=mid:second\r\n"));
    assert_null(strstr(text, "x-secret"));
    assert_null(strstr(text, "opus"));
    ours.unbundled = true;
    assert_int_equal(dp_sdp_write(&ours, text, sizeof(text), &len), DP_OK);
    assert_null(strstr(text, "BUNDLE"));
}

static void test_answer_to_legacy(void **state)
{
    (void)state;
    dp_sdp theirs, ours = offer();
    assert_int_equal(dp_sdp_parse(&theirs, NULL, aiortc_offer, strlen(aiortc_offer)), DP_OK);
    memcpy(ours.media, theirs.media, sizeof(ours.media));
    assert_int_equal(dp_sdp_write(&ours, text, sizeof(text), &len), DP_OK);
    assert_non_null(strstr(text, "m=application 9 DTLS/SCTP 5000\r\n"));
    assert_non_null(strstr(text, "a=sctpmap:5000 webrtc-datachannel 65535\r\n"));
    assert_null(strstr(text, "sctp-port"));
}

static void test_candidates_and_options(void **state)
{
    (void)state;
    static const char candidate[] = "candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host";
    dp_sdp sdp = offer();
    sdp.candidates[0].at = candidate;
    sdp.candidates[0].len = strlen(candidate);
    sdp.candidate_count = 1;
    sdp.end_of_candidates = true;
    sdp.ice_lite = true;
    sdp.trickle = false;
    sdp.setup = DP_SETUP_NONE;
    sdp.media[0].mid[0] = '\0';
    assert_int_equal(dp_sdp_write(&sdp, text, sizeof(text), &len), DP_OK);
    assert_non_null(strstr(text,
                           "c=IN IP4 0.0.0.0\r\na=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host\r\n"
                           "a=end-of-candidates\r\na=ice-ufrag:"));
    assert_non_null(strstr(text, "t=0 0\r\na=ice-lite\r\nm="));
    assert_null(strstr(text, "setup"));
    assert_null(strstr(text, "mid"));
    assert_null(strstr(text, "trickle"));
    assert_null(strstr(text, "BUNDLE"));
}

static void test_every_capacity(void **state)
{
    (void)state;
    dp_sdp sdp = offer();
    size_t needed;
    assert_int_equal(dp_sdp_write(&sdp, text, sizeof(text), &needed), DP_OK);
    for (size_t capacity = 0; capacity <= needed + 1; capacity++) {
        char *exact = malloc(capacity > 0 ? capacity : 1);
        assert_non_null(exact);
        int expected = capacity > needed ? DP_OK : DP_ERR_NO_SPACE; /* the NUL needs a byte too */
        assert_int_equal(dp_sdp_write(&sdp, exact, capacity, &len), expected);
        free(exact);
    }
}

static void refuse(const dp_sdp *sdp)
{
    assert_int_equal(dp_sdp_write(sdp, text, sizeof(text), &len), DP_ERR_INVALID_ARGUMENT);
}

static void test_refuses_what_would_break_the_lines(void **state)
{
    (void)state;
    static const char evil[] = "candidate:1\r\na=ice-pwd:x", wrong[] = "a=candidate:1";
    const dp_sdp good = offer();
    dp_sdp sdp = good;
    strcpy(sdp.media[0].kind, "a\r\nb");
    refuse(&sdp);
    sdp = good;
    strcpy(sdp.media[0].protocol, "UDP DTLS");
    refuse(&sdp);
    sdp = good;
    sdp.media[0].format[0] = '\0';
    refuse(&sdp);
    sdp = good;
    strcpy(sdp.media[0].mid, "0\n");
    refuse(&sdp);
    sdp = good;
    strcpy(sdp.ufrag, "abc");
    refuse(&sdp);
    sdp = good;
    strcpy(sdp.pwd, "short");
    refuse(&sdp);
    sdp = good;
    sdp.fingerprint_count = 0;
    refuse(&sdp);
    sdp = good;
    sdp.sctp_port = 0;
    refuse(&sdp);
    sdp = good;
    sdp.data_index = 1;
    refuse(&sdp);
    sdp = good;
    sdp.candidate_count = 1;
    sdp.candidates[0].at = evil;
    sdp.candidates[0].len = strlen(evil);
    refuse(&sdp);
    sdp.candidates[0].at = wrong;
    sdp.candidates[0].len = strlen(wrong);
    refuse(&sdp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offer_is_chromiums), cmocka_unit_test(test_answer_to_media),
        cmocka_unit_test(test_answer_to_legacy),   cmocka_unit_test(test_candidates_and_options),
        cmocka_unit_test(test_every_capacity),     cmocka_unit_test(test_refuses_what_would_break_the_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
