#include <datapeer/sdp.h>

#include "samples.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static dp_sdp sdp;
static dp_sdp_error error;

static int parse(const char *text) { return dp_sdp_parse(&sdp, &error, text, strlen(text)); }

/* The text with the first occurrence of from replaced; from must occur. */
static const char *with(const char *text, const char *from, const char *to)
{
    static char buffers[2][8192]; /* two, so that calls can be nested */
    static unsigned calls;
    char *out = buffers[calls++ % 2];
    const char *at = strstr(text, from);
    assert_non_null(at);
    snprintf(out, sizeof(buffers[0]), "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

static void expect(const char *text, int code, unsigned line)
{
    int result = parse(text);
    if (result != code || error.line != line)
        fail_msg("%s, line %u (%s) instead of %s, line %u", dp_strerror(result), error.line, error.message,
                 dp_strerror(code), line);
    if (code != DP_OK)
        assert_true(strlen(error.message) > 5);
}

static void assert_candidate(size_t i, const char *text)
{
    assert_true(i < sdp.candidate_count);
    assert_int_equal(sdp.candidates[i].len, strlen(text));
    assert_memory_equal(sdp.candidates[i].at, text, strlen(text));
}

/* ---- the field --------------------------------------------------------------------------------- */

static void test_chromium(void **state)
{
    (void)state;
    assert_int_equal(parse(chromium_offer), DP_OK);
    assert_true(sdp.session_id == 6203632466175681270u);
    assert_int_equal(sdp.session_version, 2);
    assert_string_equal(sdp.ufrag, "pDFg");
    assert_string_equal(sdp.pwd, "DQUpIZ/BoPbosowgeeF8Owma");
    assert_true(sdp.trickle);
    assert_false(sdp.ice_lite);
    assert_false(sdp.end_of_candidates);
    assert_false(sdp.unbundled);
    assert_int_equal(sdp.setup, DP_SETUP_ACTPASS);
    assert_int_equal(sdp.fingerprint_count, 1);
    assert_int_equal(sdp.fingerprints[0].algorithm, DP_FINGERPRINT_SHA256);
    assert_int_equal(sdp.fingerprints[0].bytes[0], 0x05);
    assert_int_equal(sdp.fingerprints[0].bytes[31], 0x0C);
    assert_int_equal(sdp.sctp_port, 5000);
    assert_int_equal(sdp.max_message_size, 262144);
    assert_int_equal(sdp.media_count, 1);
    assert_int_equal(sdp.data_index, 0);
    assert_string_equal(sdp.media[0].kind, "application");
    assert_string_equal(sdp.media[0].protocol, "UDP/DTLS/SCTP");
    assert_string_equal(sdp.media[0].format, "webrtc-datachannel");
    assert_string_equal(sdp.media[0].mid, "0");
    assert_false(sdp.media[0].rejected);
    assert_int_equal(sdp.candidate_count, 0);
}

static void test_firefox(void **state)
{
    (void)state;
    assert_int_equal(parse(firefox_offer), DP_OK);
    assert_int_equal(sdp.fingerprint_count, 1);
    assert_true(sdp.trickle);
    assert_true(sdp.end_of_candidates);
    assert_string_equal(sdp.ufrag, "1f2e3d4c");
    assert_int_equal(sdp.max_message_size, 1073741823);
    assert_int_equal(sdp.candidate_count, 2);
    assert_candidate(
        0, "candidate:0 1 UDP 2122252543 1e6f4f29-7a3c-4f0e-9f5c-0f6a2d9f7a11.local 48121 typ host");
}

static void test_pion(void **state)
{
    (void)state;
    assert_int_equal(parse(pion_answer), DP_OK);
    assert_int_equal(sdp.setup, DP_SETUP_ACTIVE);
    assert_int_equal(sdp.max_message_size, 65536); /* RFC 8841 §6.1 */
    assert_int_equal(sdp.candidate_count, 2);
    assert_false(sdp.trickle);
}

static void test_aiortc(void **state)
{
    (void)state;
    assert_int_equal(parse(aiortc_offer), DP_OK);
    assert_string_equal(sdp.media[0].protocol, "DTLS/SCTP");
    assert_int_equal(sdp.sctp_port, 5000);
    assert_int_equal(sdp.fingerprint_count, 1); /* the SHA-1 one is skipped */
    /* sctpmap wins over the format, sctp-port over both. */
    assert_int_equal(parse(with(aiortc_offer, "sctpmap:5000", "sctpmap:4999")), DP_OK);
    assert_int_equal(sdp.sctp_port, 4999);
    assert_int_equal(parse(with(aiortc_offer, "a=mid:0", "a=sctp-port:4998")), DP_OK);
    assert_int_equal(sdp.sctp_port, 4998);
    assert_int_equal(parse(with(aiortc_offer, "a=sctpmap:5000 webrtc-datachannel 65535\r\n", "")), DP_OK);
    assert_int_equal(sdp.sctp_port, 5000);
    assert_int_equal(
        parse(with(aiortc_offer, "DTLS/SCTP 5000\r\nc=IN IP4 192.0.2.11\r\na=mid:0\r\na=sctpmap:5000 ",
                   "DTLS/SCTP 4997\r\na=unknown:")),
        DP_OK);
    assert_int_equal(sdp.sctp_port, 4997);
}

static void test_media_sections(void **state)
{
    (void)state;
    assert_int_equal(parse(media_offer), DP_OK);
    assert_int_equal(sdp.media_count, 4);
    assert_int_equal(sdp.data_index, 2);
    assert_string_equal(sdp.media[0].kind, "audio");
    assert_string_equal(sdp.media[0].format, "111");
    assert_string_equal(sdp.media[0].mid, "au");
    assert_string_equal(sdp.media[1].mid, "vi");
    assert_string_equal(sdp.media[2].mid, "data");
    assert_false(sdp.unbundled);
    /* Nothing of the other sections leaks in. */
    assert_string_equal(sdp.ufrag, "pDFg");
    assert_int_equal(sdp.fingerprints[0].bytes[0], 0x05);
    assert_int_equal(sdp.setup, DP_SETUP_ACTPASS);
    assert_int_equal(sdp.sctp_port, 5001);
    assert_int_equal(parse(with(media_offer, "BUNDLE au vi data", "BUNDLE au vi")), DP_OK);
    assert_true(sdp.unbundled);
}

static void test_session_level_is_inherited_and_overridden(void **state)
{
    (void)state;
    static const char inherited[] = "v=0\no=- 1 1 IN IP4 0.0.0.0\ns=-\nt=0 0\na=ice-ufrag:sess\n"
                                    "a=ice-pwd:SSSSSSSSSSSSSSSSSSSSSS\na=setup:passive\na=ice-lite\n"
                                    "a=fingerprint:sha-256 " FP256_LOWER "\n"
                                    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\n";
    char text[2048];
    expect(inherited, DP_OK, 0);
    assert_string_equal(sdp.ufrag, "sess");
    assert_string_equal(sdp.pwd, "SSSSSSSSSSSSSSSSSSSSSS");
    assert_int_equal(sdp.setup, DP_SETUP_PASSIVE);
    assert_true(sdp.ice_lite);
    assert_int_equal(sdp.fingerprints[0].bytes[0], 0x05);
    /* What may be missing is missing here: c=, mid, group, sctp-port, max-message-size. */
    assert_int_equal(sdp.sctp_port, 5000);
    assert_string_equal(sdp.media[0].mid, "");
    assert_true(sdp.unbundled);

    snprintf(text, sizeof(text),
             "%sa=ice-ufrag:media\na=ice-pwd:MMMMMMMMMMMMMMMMMMMMMM\na=setup:active\n"
             "a=fingerprint:sha-256 " FP256_OTHER "\n",
             inherited);
    expect(text, DP_OK, 0);
    assert_string_equal(sdp.ufrag, "media");
    assert_string_equal(sdp.pwd, "MMMMMMMMMMMMMMMMMMMMMM");
    assert_int_equal(sdp.setup, DP_SETUP_ACTIVE);
    assert_int_equal(sdp.fingerprint_count, 1);
    assert_int_equal(sdp.fingerprints[0].bytes[0], 0xFF);

    /* The section's own fingerprint replaces the session's even if it is not trusted. */
    snprintf(text, sizeof(text), "%sa=fingerprint:sha-1 " FP1 "\n", inherited);
    expect(text, DP_ERR_UNSUPPORTED, 11);
}

static void test_line_ends(void **state)
{
    (void)state;
    char text[2048];
    size_t n = 0;
    for (const char *c = chromium_offer; *c != '\0'; c++)
        if (*c != '\r')
            text[n++] = *c;
    assert_int_equal(dp_sdp_parse(&sdp, &error, text, n), DP_OK);
    assert_int_equal(dp_sdp_parse(&sdp, &error, text, n - 1), DP_OK); /* no end on the last line */
    assert_int_equal(sdp.max_message_size, 262144);
    assert_int_equal(dp_sdp_parse(&sdp, &error, chromium_offer, strlen(chromium_offer) - 1),
                     DP_ERR_MALFORMED);
    assert_int_equal(error.line, 17); /* ends in a lone CR */
}

static void test_bundle_only_is_alive_and_port_0_is_not(void **state)
{
    (void)state;
    expect(with(chromium_offer, "application 9", "application 0"), DP_ERR_UNSUPPORTED, 0);
    expect(
        with(with(chromium_offer, "application 9", "application 0"), "a=mid:0", "a=mid:0\r\na=bundle-only"),
        DP_OK, 0);
    assert_false(sdp.media[0].rejected);
    /* A rejected section is passed over, together with all that it says. */
    expect(with(media_offer, "application 9 UDP/DTLS/SCTP", "application 0 UDP/DTLS/SCTP"), DP_ERR_MALFORMED,
           27);
    char text[4096];
    snprintf(text, sizeof(text),
             "%sa=ice-ufrag:last\r\na=ice-pwd:LLLLLLLLLLLLLLLLLLLLLL\r\na=fingerprint:sha-256 " FP256_OTHER
             "\r\n",
             with(media_offer, "application 9 UDP/DTLS/SCTP", "application 0 UDP/DTLS/SCTP"));
    expect(text, DP_OK, 0);
    assert_int_equal(sdp.data_index, 3);
    assert_int_equal(sdp.sctp_port, 5002);
    assert_string_equal(sdp.ufrag, "last");
    assert_true(sdp.media[2].rejected);
    assert_int_equal(sdp.setup, DP_SETUP_NONE);
}

/* ---- bad input --------------------------------------------------------------------------------- */

/* Row 54. */
static void test_structure(void **state)
{
    (void)state;
    enum { MEGABYTE = 1 << 20 };
    char *big = malloc(MEGABYTE + sizeof(chromium_offer));
    assert_non_null(big);
    size_t n = strlen(chromium_offer);
    memcpy(big, chromium_offer, n);
    memset(big + n, 'a', MEGABYTE);
    assert_int_equal(dp_sdp_parse(&sdp, &error, big, n + MEGABYTE), DP_ERR_TOO_LARGE);
    assert_int_equal(error.line, 18);
    free(big);

    char text[sizeof(chromium_offer)];
    memcpy(text, chromium_offer, sizeof(text));
    *strstr(text, "WMS") = '\0'; /* in an attribute that is otherwise ignored */
    assert_int_equal(dp_sdp_parse(&sdp, &error, text, sizeof(text) - 1), DP_ERR_MALFORMED);
    assert_int_equal(error.line, 7);

    expect(with(chromium_offer, "WMS", "W\rMS"), DP_ERR_MALFORMED, 7);
    expect(with(chromium_offer, "WMS", "W\r\rMS"), DP_ERR_MALFORMED, 7);
    expect(with(chromium_offer, "WMS", "W\xc0\xaf"), DP_ERR_MALFORMED, 7);
    expect(with(chromium_offer, "WMS", "W\xff"), DP_ERR_MALFORMED, 7);
    expect(with(chromium_offer, "WMS", "\xe2\x82\xac"), DP_OK, 0);
    expect(with(chromium_offer, "c=IN IP4 0.0.0.0\r\n", "\r\n"), DP_ERR_MALFORMED, 9);
    expect(with(chromium_offer, "c=IN", "c IN"), DP_ERR_MALFORMED, 9);
    expect(with(chromium_offer, "c=IN", "C=IN"), DP_ERR_MALFORMED, 9);
    expect(with(chromium_offer, "a=mid", " a=mid"), DP_ERR_MALFORMED, 15);
}

static void test_head(void **state)
{
    (void)state;
    expect("", DP_ERR_MALFORMED, 0);
    expect("v=0\r\n", DP_ERR_MALFORMED, 1);
    expect(with(chromium_offer, "v=0\r\n", ""), DP_ERR_MALFORMED, 1);
    expect(with(chromium_offer, "v=0", "v=1"), DP_ERR_MALFORMED, 1);
    expect(with(chromium_offer, "s=-\r\n", ""), DP_ERR_MALFORMED, 3);
    expect(with(chromium_offer, "t=0 0\r\n", ""), DP_ERR_MALFORMED, 7);
    expect(with(chromium_offer, "6203632466175681270", "x"), DP_ERR_MALFORMED, 2);
    expect(with(chromium_offer, "6203632466175681270", "99999999999999999999"), DP_ERR_MALFORMED, 2);
    expect(with(chromium_offer, "a=mid:0", "v=0"), DP_ERR_MALFORMED, 15);
    expect("v=0\no=- 1 1 IN IP4 0.0.0.0\ns=-\nt=0 0\n", DP_ERR_UNSUPPORTED, 0);
}

/* Rows 31 and 55. */
static void test_security(void **state)
{
    (void)state;
    expect(with(chromium_offer, "a=ice-ufrag:pDFg\r\n", ""), DP_ERR_MALFORMED, 8);
    expect(with(chromium_offer, "a=ice-pwd:DQUpIZ/BoPbosowgeeF8Owma\r\n", ""), DP_ERR_MALFORMED, 8);
    expect(with(chromium_offer, "DQUpIZ/BoPbosowgeeF8Owma", "DQUpIZ/BoPbosowgeeF8O"), DP_ERR_MALFORMED, 11);
    expect(with(chromium_offer, "DQUpIZ/BoPbosowgeeF8Owma", "DQUpIZ/BoPbosowgeeF8Ow"), DP_OK,
           0); /* 22: just enough */
    expect(with(chromium_offer, "DQUpIZ/BoPbosowgeeF8Owma", "DQUpIZ/BoPbosow eeF8Owma"), DP_ERR_MALFORMED,
           11);
    expect(with(chromium_offer, "pDFg", "pDF"), DP_ERR_MALFORMED, 10);
    expect(with(chromium_offer, "pDFg", "pD:Fg"), DP_ERR_MALFORMED, 10);
    char long_ufrag[300];
    memset(long_ufrag, 'u', 256);
    long_ufrag[256] = '\0';
    expect(with(chromium_offer, "pDFg", long_ufrag), DP_OK, 0);
    assert_int_equal(strlen(sdp.ufrag), 256);
    long_ufrag[256] = 'u';
    long_ufrag[257] = '\0';
    expect(with(chromium_offer, "pDFg", long_ufrag), DP_ERR_MALFORMED, 10);

    expect(with(chromium_offer, "a=fingerprint:sha-256 " FP256 "\r\n", ""), DP_ERR_MALFORMED, 8);
    expect(with(chromium_offer, "sha-256 " FP256, "sha-1 " FP1), DP_ERR_UNSUPPORTED, 13);
    expect(with(chromium_offer, "sha-256 " FP256, "md5 00:11"), DP_ERR_UNSUPPORTED, 13);
    expect(with(chromium_offer, FP256, FP1), DP_ERR_MALFORMED, 13);
    expect(with(chromium_offer, "05:26", "05:2G"), DP_ERR_MALFORMED, 13);
    expect(with(chromium_offer, "a=setup:actpass", "a=fingerprint:sha-1 " FP1), DP_OK, 0);
    expect(with(chromium_offer, "a=setup:actpass", "a=fingerprint:sha-256 " FP1), DP_ERR_MALFORMED, 14);
}

static void test_values(void **state)
{
    (void)state;
    expect(with(chromium_offer, "actpass", "holdconn"), DP_ERR_MALFORMED, 14);
    expect(with(chromium_offer, "a=setup:actpass\r\n", ""), DP_OK, 0);
    assert_int_equal(sdp.setup, DP_SETUP_NONE);
    expect(with(chromium_offer, "sctp-port:5000", "sctp-port:0"), DP_ERR_MALFORMED, 16);
    expect(with(chromium_offer, "sctp-port:5000", "sctp-port:65536"), DP_ERR_MALFORMED, 16);
    expect(with(chromium_offer, "sctp-port:5000", "sctp-port:-1"), DP_ERR_MALFORMED, 16);
    expect(with(chromium_offer, "262144", "0"), DP_OK, 0);
    assert_int_equal(sdp.max_message_size, 0);
    expect(with(chromium_offer, "262144", "1e5"), DP_ERR_MALFORMED, 17);
    expect(with(chromium_offer, "262144", "18446744073709551616"), DP_ERR_MALFORMED, 17);
    expect(with(chromium_offer, "262144", "18446744073709551615"), DP_OK, 0);
    expect(with(aiortc_offer, "sctpmap:5000", "sctpmap:x"), DP_ERR_MALFORMED, 10);
    expect(with(chromium_offer, "a=mid:0", "a=candidate"), DP_OK, 0);
    assert_int_equal(sdp.candidate_count, 0);
}

static void test_m_lines(void **state)
{
    (void)state;
    expect(with(chromium_offer, " webrtc-datachannel", ""), DP_ERR_MALFORMED, 8);
    expect(with(chromium_offer, "application 9", "application  9"), DP_ERR_MALFORMED, 8);
    expect(with(chromium_offer, "application 9", "application 65536"), DP_ERR_MALFORMED, 8);
    expect(with(chromium_offer, "application 9", "application 9/2"), DP_OK, 0);
    expect(with(chromium_offer, "application 9", "message 9"), DP_ERR_UNSUPPORTED, 0);
    expect(with(chromium_offer, "UDP/DTLS/SCTP", "TCP/DTLS/SCTP"), DP_OK, 0);
    expect(with(chromium_offer, "UDP/DTLS/SCTP", "TCP/BFCP"), DP_ERR_UNSUPPORTED, 0);
    expect(with(chromium_offer, "UDP/DTLS/SCTP", "UDP//SCTP"), DP_ERR_MALFORMED, 8);
    expect(with(chromium_offer, "UDP/DTLS/SCTP", "UDP/DTLS/"), DP_ERR_MALFORMED, 8);
    /* What an answer repeats is made of token characters and short. */
    expect(with(media_offer, "m=audio", "m=au<dio"), DP_ERR_MALFORMED, 6);
    expect(with(media_offer, "m=audio", "m=audioaudioaudioaudio"), DP_ERR_MALFORMED, 6);
    expect(with(media_offer, "SAVPF 111", "SAVPF \xc3\xa9"), DP_ERR_MALFORMED, 6);
    expect(with(media_offer, "a=mid:au", "a=mid:a u"), DP_ERR_MALFORMED, 13);
    expect(with(media_offer, "a=mid:au", "a=mid:"), DP_ERR_MALFORMED, 13);
    expect(with(media_offer, "a=mid:vi", "a=mid:au"), DP_ERR_MALFORMED, 18);
    expect(with(chromium_offer, "a=mid:0",
                "a=mid:12345678901234567890123456789012345678901234567890123456789012345"),
           DP_ERR_MALFORMED, 15);

    char text[4096];
    int n = snprintf(text, sizeof(text), "%s", chromium_offer);
    for (int i = 0; i < DP_SDP_MAX_MEDIA - 1; i++)
        n += snprintf(text + n, sizeof(text) - (size_t)n, "m=audio 9 RTP/AVP 0\r\n");
    expect(text, DP_OK, 0);
    snprintf(text + n, sizeof(text) - (size_t)n, "m=audio 9 RTP/AVP 0\r\n");
    expect(text, DP_ERR_TOO_LARGE, 33);
}

static void test_caps(void **state)
{
    (void)state;
    char text[16384];
    int n = snprintf(text, sizeof(text), "%s", chromium_offer);
    for (int i = 0; i < DP_SDP_MAX_CANDIDATES + 5; i++)
        n += snprintf(text + n, sizeof(text) - (size_t)n, "a=candidate:%d 1 udp 1 192.0.2.1 %d typ host\r\n",
                      i, i + 1);
    for (int i = 0; i < DP_SDP_MAX_FINGERPRINTS + 5; i++)
        n += snprintf(text + n, sizeof(text) - (size_t)n, "a=fingerprint:sha-256 " FP256 "\r\n");
    expect(text, DP_OK, 0);
    assert_int_equal(sdp.candidate_count, DP_SDP_MAX_CANDIDATES);
    assert_int_equal(sdp.fingerprint_count, DP_SDP_MAX_FINGERPRINTS);
    assert_candidate(63, "candidate:63 1 udp 1 192.0.2.1 64 typ host");
}

/* No prefix of a description may read past its end or succeed before the last thing that it needs is there.
 */
static void test_every_prefix(void **state)
{
    (void)state;
    size_t fingerprint_end = (size_t)(strstr(chromium_offer, FP256) - chromium_offer) + strlen(FP256);
    for (size_t n = 0; n < strlen(chromium_offer); n++) {
        char *exact = malloc(n > 0 ? n : 1);
        assert_non_null(exact);
        memcpy(exact, chromium_offer, n);
        int result = dp_sdp_parse(&sdp, NULL, exact, n);
        if (n < fingerprint_end)
            assert_int_not_equal(result, DP_OK);
        free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chromium),
        cmocka_unit_test(test_firefox),
        cmocka_unit_test(test_pion),
        cmocka_unit_test(test_aiortc),
        cmocka_unit_test(test_media_sections),
        cmocka_unit_test(test_session_level_is_inherited_and_overridden),
        cmocka_unit_test(test_line_ends),
        cmocka_unit_test(test_bundle_only_is_alive_and_port_0_is_not),
        cmocka_unit_test(test_structure),
        cmocka_unit_test(test_head),
        cmocka_unit_test(test_security),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_m_lines),
        cmocka_unit_test(test_caps),
        cmocka_unit_test(test_every_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
