/* The few character classes of RFC 8866 and RFC 8839 that parser and writer share. */
#ifndef SDP_GRAMMAR_H
#define SDP_GRAMMAR_H

#include "base/text.h"

enum {
    SDP_UFRAG_MIN = 4, /* RFC 8839 §5.4 */
    SDP_PWD_MIN = 22,
    SDP_ICE_TEXT_MAX = 256,
};

/* RFC 8866 §9 token: what may stand in an m-line, a mid or a format without ending the line or the word. */
bool dp_sdp_token(dp_slice text);
/* Tokens joined by slashes, such as UDP/DTLS/SCTP. */
bool dp_sdp_protocol(dp_slice text);
/* ice-char of RFC 8839 §5.4, of min to SDP_ICE_TEXT_MAX characters; and the four that libwebrtc takes beside
 * them, because older stacks send them. */
bool dp_sdp_ice_text(dp_slice text, size_t min);
/* "DTLS/SCTP 5000", the form before RFC 8841, which aiortc still offers. */
bool dp_sdp_protocol_is_legacy(const char *protocol);

#endif
