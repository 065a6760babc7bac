/* The order of lines is Chromium's. Nothing of a peer's description gets in but the words that an answer must
 * repeat (kind, protocol, format, mid), and those only as tokens: unknown attributes cannot be echoed. */
#include <datapeer/sdp.h>

#include "base/wr.h"
#include "grammar.h"
#include <inttypes.h>
#include <stdio.h>

static dp_slice slice_of(const char *text) { return (dp_slice){text, strlen(text)}; }

static bool media_valid(const dp_sdp_media *media)
{
    return dp_sdp_token(slice_of(media->kind)) && dp_sdp_protocol(slice_of(media->protocol)) &&
           dp_sdp_token(slice_of(media->format)) &&
           (media->mid[0] == '\0' || dp_sdp_token(slice_of(media->mid)));
}

static bool candidate_valid(const char *at, size_t len)
{
    static const char prefix[] = "candidate:";
    if (len < sizeof(prefix) - 1 || memcmp(at, prefix, sizeof(prefix) - 1) != 0)
        return false;
    return memchr(at, '\n', len) == NULL && memchr(at, '\r', len) == NULL && memchr(at, '\0', len) == NULL;
}

static bool valid(const dp_sdp *sdp)
{
    if (sdp->media_count > DP_SDP_MAX_MEDIA || sdp->data_index >= sdp->media_count || sdp->sctp_port == 0 ||
        sdp->fingerprint_count == 0 || sdp->fingerprint_count > DP_SDP_MAX_FINGERPRINTS ||
        sdp->candidate_count > DP_SDP_MAX_CANDIDATES ||
        !dp_sdp_ice_text(slice_of(sdp->ufrag), SDP_UFRAG_MIN) ||
        !dp_sdp_ice_text(slice_of(sdp->pwd), SDP_PWD_MIN))
        return false;
    for (size_t i = 0; i < sdp->media_count; i++)
        if (!media_valid(&sdp->media[i]))
            return false;
    for (size_t i = 0; i < sdp->candidate_count; i++)
        if (!candidate_valid(sdp->candidates[i].at, sdp->candidates[i].len))
            return false;
    return true;
}

static void line(dp_wr *wr, const char *format, ...) DP_PRINTF(2, 3);
static void line(dp_wr *wr, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (len < 0 || (size_t)len >= sizeof(text)) {
        wr->error = true;
        return;
    }
    dp_wr_bytes(wr, text, (size_t)len);
    dp_wr_text(wr, "\r\n");
}

static void write_session(dp_wr *wr, const dp_sdp *sdp)
{
    const char *mid = sdp->media[sdp->data_index].mid;
    line(wr, "v=0");
    line(wr, "o=- %" PRIu64 " %" PRIu64 " IN IP4 127.0.0.1", sdp->session_id, sdp->session_version);
    line(wr, "s=-");
    line(wr, "t=0 0");
    if (mid[0] != '\0' && !sdp->unbundled)
        line(wr, "a=group:BUNDLE %s", mid);
    if (sdp->ice_lite)
        line(wr, "a=ice-lite");
}

static void write_rejected(dp_wr *wr, const dp_sdp_media *media)
{
    line(wr, "m=%s 0 %s %s", media->kind, media->protocol, media->format);
    line(wr, "c=IN IP4 0.0.0.0");
    line(wr, "a=inactive");
    if (media->mid[0] != '\0')
        line(wr, "a=mid:%s", media->mid);
}

static void write_candidates(dp_wr *wr, const dp_sdp *sdp)
{
    for (size_t i = 0; i < sdp->candidate_count; i++) {
        dp_wr_text(wr, "a=");
        dp_wr_bytes(wr, sdp->candidates[i].at, sdp->candidates[i].len);
        dp_wr_text(wr, "\r\n");
    }
    if (sdp->end_of_candidates)
        line(wr, "a=end-of-candidates");
}

static void write_data(dp_wr *wr, const dp_sdp *sdp)
{
    static const char *const setups[] = {[DP_SETUP_ACTPASS] = "actpass", "active", "passive"};
    const dp_sdp_media *media = &sdp->media[sdp->data_index];
    bool legacy = dp_sdp_protocol_is_legacy(media->protocol);
    /* RFC 8829 §5.2.1: port 9 and address 0.0.0.0 mean "ask ICE". */
    if (legacy)
        line(wr, "m=application 9 %s %u", media->protocol, sdp->sctp_port);
    else
        line(wr, "m=application 9 %s webrtc-datachannel", media->protocol);
    line(wr, "c=IN IP4 0.0.0.0");
    write_candidates(wr, sdp);
    line(wr, "a=ice-ufrag:%s", sdp->ufrag);
    line(wr, "a=ice-pwd:%s", sdp->pwd);
    if (sdp->trickle)
        line(wr, "a=ice-options:trickle");
    for (size_t i = 0; i < sdp->fingerprint_count; i++) {
        char text[DP_FINGERPRINT_TEXT_MAX];
        line(wr, "a=fingerprint:%s", dp_fingerprint_format(&sdp->fingerprints[i], text));
    }
    if (sdp->setup >= DP_SETUP_ACTPASS && sdp->setup <= DP_SETUP_PASSIVE)
        line(wr, "a=setup:%s", setups[sdp->setup]);
    if (media->mid[0] != '\0')
        line(wr, "a=mid:%s", media->mid);
    if (legacy)
        line(wr, "a=sctpmap:%u webrtc-datachannel 65535", sdp->sctp_port);
    else
        line(wr, "a=sctp-port:%u", sdp->sctp_port);
    line(wr, "a=max-message-size:%" PRIu64, sdp->max_message_size);
}

int dp_sdp_write(const dp_sdp *sdp, char *out, size_t capacity, size_t *len)
{
    if (!valid(sdp))
        return DP_ERR_INVALID_ARGUMENT;
    dp_wr wr = dp_wr_init((uint8_t *)out, capacity);
    write_session(&wr, sdp);
    for (size_t i = 0; i < sdp->media_count; i++) {
        if (i == sdp->data_index)
            write_data(&wr, sdp);
        else
            write_rejected(&wr, &sdp->media[i]);
    }
    dp_wr_u8(&wr, 0);
    int error = dp_wr_finish(&wr, len);
    if (error == DP_OK)
        *len -= 1;
    return error;
}
