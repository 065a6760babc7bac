/* RFC 8866 §5: lines "<letter>=<value>", a session part, then one part for each m-line.
 *
 *   v=0                                             always the first three lines
 *   o=- 6203632466175681270 2 IN IP4 127.0.0.1
 *   s=-
 *   t=0 0
 *   a=...                                           holds for all sections unless they say otherwise
 *   m=application 9 UDP/DTLS/SCTP webrtc-datachannel
 *   a=...                                           this section only
 *
 * Only attributes that are known are looked at. Structure is strict, content as lenient as the field needs.
 */
#include <datapeer/sdp.h>

#include "grammar.h"
#include <stdio.h>
#include <string.h>

typedef enum section { IN_SESSION, IN_DATA, IN_OTHER } section;

typedef struct parser {
    dp_sdp *out;
    dp_sdp_error *error;
    section section;
    unsigned line;          /* of the line being read, 1-based */
    unsigned data_line;     /* of our m-line, 0 before it */
    unsigned ignored_line;  /* of the last fingerprint with an algorithm that is not trusted */
    bool media_fingerprint; /* the section has its own: those of the session no longer count */
    bool sctp_port_given;
    bool has_timing;
    bool data_rejected; /* a data-channel section with port 0 was seen */
    dp_slice bundle;    /* mids of the BUNDLE group */
    dp_slice rest;      /* what follows the line being read */
} parser;

static int fail(parser *p, unsigned line, int code, const char *message)
{
    p->error->line = line;
    snprintf(p->error->message, sizeof(p->error->message), "%s", message);
    return code;
}

static int malformed(parser *p, const char *message) { return fail(p, p->line, DP_ERR_MALFORMED, message); }

/* ---- lines of the session part ----------------------------------------------------------------- */

/* o=<username> <sess-id> <sess-version> <nettype> <addrtype> <unicast-address> */
static int parse_origin(parser *p, dp_slice value)
{
    dp_slice_cut(&value, ' ');
    dp_slice id = dp_slice_cut(&value, ' ');
    dp_slice version = dp_slice_cut(&value, ' ');
    if (dp_slice_to_u64(&p->out->session_id, id, UINT64_MAX) != DP_OK ||
        dp_slice_to_u64(&p->out->session_version, version, UINT64_MAX) != DP_OK)
        return malformed(p, "o= needs a numeric session id and version");
    return DP_OK;
}

/* RFC 8866 §9: v, o and s come first, once, in this order. */
static int parse_head(parser *p, char letter, dp_slice value)
{
    static const char order[] = "vos";
    if (letter != order[p->line - 1])
        return malformed(p, "a description starts with the lines v=, o= and s=");
    if (letter == 'v' && !dp_slice_is(value, "0"))
        return malformed(p, "the version must be v=0");
    return letter == 'o' ? parse_origin(p, value) : DP_OK;
}

/* ---- m-lines ----------------------------------------------------------------------------------- */

/* RFC 8841 §4; the legacy form carries the SCTP port, or the number of a sctpmap, as its format. */
static bool is_data(const dp_sdp_media *media)
{
    dp_slice format = {media->format, strlen(media->format)};
    uint64_t port;
    return strcmp(media->kind, "application") == 0 &&
           (strcmp(media->protocol, "UDP/DTLS/SCTP") == 0 || strcmp(media->protocol, "TCP/DTLS/SCTP") == 0 ||
            dp_sdp_protocol_is_legacy(media->protocol)) &&
           (dp_slice_is(format, "webrtc-datachannel") || dp_slice_to_u64(&port, format, UINT16_MAX) == DP_OK);
}

/* RFC 9143 §7.2.1: a bundle-only section has port 0 too, and is alive. The attribute comes after the m-line,
 * hence the look ahead: what a section means must be known before its attributes are taken over. */
static bool is_bundle_only(dp_slice rest)
{
    while (rest.len > 0) {
        dp_slice line = dp_slice_cut(&rest, '\n');
        if (line.len > 0 && line.at[line.len - 1] == '\r')
            line.len--;
        if (line.len > 0 && line.at[0] == 'm')
            return false;
        if (dp_slice_is(line, "a=bundle-only"))
            return true;
    }
    return false;
}

/* m=<media> <port>[/<number>] <proto> <fmt> ... */
static int parse_media(parser *p, dp_slice value)
{
    dp_sdp *out = p->out;
    if (out->media_count == DP_SDP_MAX_MEDIA)
        return fail(p, p->line, DP_ERR_TOO_LARGE, "more m-lines than datapeer reads (16)");
    dp_sdp_media *media = &out->media[out->media_count];
    dp_slice kind = dp_slice_cut(&value, ' ');
    dp_slice ports = dp_slice_cut(&value, ' ');
    dp_slice port = dp_slice_cut(&ports, '/');
    dp_slice protocol = dp_slice_cut(&value, ' ');
    dp_slice format = dp_slice_cut(&value, ' ');
    uint64_t number;
    /* These words go back to the peer in our answer: nothing but token characters may get in. */
    if (!dp_sdp_token(kind) || !dp_sdp_protocol(protocol) || !dp_sdp_token(format))
        return malformed(p, "an m-line is made of kind, port, protocol and format");
    if (dp_slice_to_u64(&number, port, UINT16_MAX) != DP_OK)
        return malformed(p, "the port of an m-line is a number up to 65535");
    if (dp_slice_copy(media->kind, sizeof(media->kind), kind) != DP_OK ||
        dp_slice_copy(media->protocol, sizeof(media->protocol), protocol) != DP_OK ||
        dp_slice_copy(media->format, sizeof(media->format), format) != DP_OK)
        return malformed(p, "a word of the m-line is too long");
    media->rejected = number == 0 && !is_bundle_only(p->rest);
    p->section = IN_OTHER;
    if (media->rejected && is_data(media)) {
        p->data_rejected = true;
    } else if (p->data_line == 0 && is_data(media)) {
        p->section = IN_DATA;
        p->data_line = p->line;
        out->data_index = out->media_count;
        if (dp_slice_to_u64(&number, format, UINT16_MAX) == DP_OK && number != 0 && !p->sctp_port_given)
            out->sctp_port = (uint16_t)number;
    }
    out->media_count++;
    return DP_OK;
}

static int parse_mid(parser *p, dp_slice value)
{
    dp_sdp *out = p->out;
    if (p->section == IN_SESSION)
        return DP_OK;
    if (!dp_sdp_token(value))
        return malformed(p, "a mid consists of token characters");
    for (size_t i = 0; i + 1 < out->media_count; i++)
        if (dp_slice_is(value, out->media[i].mid))
            return malformed(p, "two sections have the same mid");
    dp_sdp_media *media = &out->media[out->media_count - 1];
    if (dp_slice_copy(media->mid, sizeof(media->mid), value) != DP_OK)
        return malformed(p, "a mid is at most 64 characters long");
    return DP_OK;
}

/* ---- attributes of the transport: session level holds until the section says otherwise --------- */

static int parse_ufrag(parser *p, dp_slice value)
{
    if (!dp_sdp_ice_text(value, SDP_UFRAG_MIN))
        return malformed(p, "an ice-ufrag is 4 to 256 ICE characters long");
    return dp_slice_copy(p->out->ufrag, sizeof(p->out->ufrag), value);
}

static int parse_pwd(parser *p, dp_slice value)
{
    if (!dp_sdp_ice_text(value, SDP_PWD_MIN))
        return malformed(p, "an ice-pwd is 22 to 256 ICE characters long");
    return dp_slice_copy(p->out->pwd, sizeof(p->out->pwd), value);
}

static int parse_ice_options(parser *p, dp_slice value)
{
    while (value.len > 0)
        if (dp_slice_is(dp_slice_cut(&value, ' '), "trickle"))
            p->out->trickle = true;
    return DP_OK;
}

static int parse_ice_lite(parser *p, dp_slice value)
{
    (void)value;
    p->out->ice_lite = true;
    return DP_OK;
}

static int parse_fingerprint(parser *p, dp_slice value)
{
    dp_sdp *out = p->out;
    dp_fingerprint fingerprint;
    if (p->section == IN_DATA && !p->media_fingerprint) {
        p->media_fingerprint = true;
        out->fingerprint_count = 0;
    }
    int error = dp_fingerprint_parse(&fingerprint, value.at, value.len);
    if (error ==
        DP_ERR_UNSUPPORTED) { /* RFC 8122 §5: several may be given; those that are not trusted are skipped */
        p->ignored_line = p->line;
        return DP_OK;
    }
    if (error != DP_OK)
        return malformed(p, "a fingerprint is a hash name and as many XX: pairs as the hash has bytes");
    if (out->fingerprint_count < DP_SDP_MAX_FINGERPRINTS)
        out->fingerprints[out->fingerprint_count++] = fingerprint;
    return DP_OK;
}

static int parse_setup(parser *p, dp_slice value)
{
    if (dp_slice_is(value, "actpass"))
        p->out->setup = DP_SETUP_ACTPASS;
    else if (dp_slice_is(value, "active"))
        p->out->setup = DP_SETUP_ACTIVE;
    else if (dp_slice_is(value, "passive"))
        p->out->setup = DP_SETUP_PASSIVE;
    else
        return malformed(p, "setup must be actpass, active or passive");
    return DP_OK;
}

/* ---- attributes of the data section ------------------------------------------------------------ */

static int parse_sctp_port(parser *p, dp_slice value)
{
    uint64_t port;
    if (dp_slice_to_u64(&port, value, UINT16_MAX) != DP_OK || port == 0)
        return malformed(p, "sctp-port is a number from 1 to 65535");
    p->out->sctp_port = (uint16_t)port;
    p->sctp_port_given = true;
    return DP_OK;
}

/* a=sctpmap:5000 webrtc-datachannel 65535, before RFC 8841 */
static int parse_sctpmap(parser *p, dp_slice value)
{
    uint64_t port;
    if (dp_slice_to_u64(&port, dp_slice_cut(&value, ' '), UINT16_MAX) != DP_OK || port == 0)
        return malformed(p, "sctpmap starts with a number from 1 to 65535");
    if (!p->sctp_port_given)
        p->out->sctp_port = (uint16_t)port;
    return DP_OK;
}

static int parse_max_message_size(parser *p, dp_slice value)
{
    if (dp_slice_to_u64(&p->out->max_message_size, value, UINT64_MAX) != DP_OK)
        return malformed(p, "max-message-size is a decimal number");
    return DP_OK;
}

static int parse_end_of_candidates(parser *p, dp_slice value)
{
    (void)value;
    p->out->end_of_candidates = true;
    return DP_OK;
}

static int parse_candidate(parser *p, dp_slice value)
{
    static const char prefix[] = "candidate:";
    dp_sdp *out = p->out;
    if (value.len > 0 && out->candidate_count < DP_SDP_MAX_CANDIDATES) {
        out->candidates[out->candidate_count].at = value.at - (sizeof(prefix) - 1);
        out->candidates[out->candidate_count].len = value.len + sizeof(prefix) - 1;
        out->candidate_count++;
    }
    return DP_OK;
}

static int parse_group(parser *p, dp_slice value)
{
    if (dp_slice_is(dp_slice_cut(&value, ' '), "BUNDLE"))
        p->bundle = value;
    return DP_OK;
}

enum { SESSION = 1, DATA = 2, OTHER = 4 };

static const struct {
    const char *name;
    int where;
    int (*parse)(parser *p, dp_slice value);
} attributes[] = {
    {"group", SESSION, parse_group},
    {"ice-lite", SESSION | DATA, parse_ice_lite},
    {"ice-options", SESSION | DATA, parse_ice_options},
    {"ice-ufrag", SESSION | DATA, parse_ufrag},
    {"ice-pwd", SESSION | DATA, parse_pwd},
    {"fingerprint", SESSION | DATA, parse_fingerprint},
    {"setup", SESSION | DATA, parse_setup},
    {"mid", DATA | OTHER, parse_mid},
    {"candidate", DATA, parse_candidate},
    {"end-of-candidates", SESSION | DATA, parse_end_of_candidates},
    {"sctp-port", DATA, parse_sctp_port},
    {"sctpmap", DATA, parse_sctpmap},
    {"max-message-size", DATA, parse_max_message_size},
};

static int parse_attribute(parser *p, dp_slice value)
{
    int here = p->section == IN_SESSION ? SESSION : p->section == IN_DATA ? DATA : OTHER;
    dp_slice name = dp_slice_cut(&value, ':');
    for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++)
        if ((attributes[i].where & here) != 0 && dp_slice_is(name, attributes[i].name))
            return attributes[i].parse(p, value);
    return DP_OK;
}

/* ---- the whole --------------------------------------------------------------------------------- */

static int parse_line(parser *p, dp_slice line)
{
    if (memchr(line.at, '\0', line.len) != NULL)
        return malformed(p, "a NUL byte");
    if (memchr(line.at, '\r', line.len) != NULL)
        return malformed(p, "a carriage return without a line feed");
    if (!dp_utf8_valid((const uint8_t *)line.at, line.len))
        return malformed(p, "text that is not UTF-8");
    if (line.len < 2 || line.at[0] < 'a' || line.at[0] > 'z' || line.at[1] != '=')
        return malformed(p, "a line starts with a small letter and an equals sign");
    dp_slice value = {line.at + 2, line.len - 2};
    char letter = line.at[0];
    if (p->line <= 3)
        return parse_head(p, letter, value);
    switch (letter) {
    case 'v':
    case 'o':
    case 's':
        return malformed(p, "a second v=, o= or s= line");
    case 't':
        p->has_timing = true;
        return DP_OK;
    case 'm':
        if (!p->has_timing)
            return malformed(p, "a t= line must come before the first m-line");
        return parse_media(p, value);
    case 'a':
        return parse_attribute(p, value);
    default: /* c=, b=, i=, ...: nothing in them matters to a connection that ICE makes */
        return DP_OK;
    }
}

static int check_whole(parser *p)
{
    dp_sdp *out = p->out;
    if (p->line < 3)
        return fail(p, p->line, DP_ERR_MALFORMED, "a description starts with the lines v=, o= and s=");
    if (p->data_line == 0 && p->data_rejected)
        return fail(p, 0, DP_ERR_UNSUPPORTED, "the data-channel section is rejected (port 0)");
    if (p->data_line == 0)
        return fail(p, 0, DP_ERR_UNSUPPORTED, "no data-channel section (m=application ... UDP/DTLS/SCTP)");
    if (out->ufrag[0] == '\0')
        return fail(p, p->data_line, DP_ERR_MALFORMED, "the data-channel section has no ice-ufrag");
    if (out->pwd[0] == '\0')
        return fail(p, p->data_line, DP_ERR_MALFORMED, "the data-channel section has no ice-pwd");
    if (out->fingerprint_count == 0 && p->ignored_line != 0)
        return fail(p, p->ignored_line, DP_ERR_UNSUPPORTED, "no fingerprint of SHA-256, SHA-384 or SHA-512");
    if (out->fingerprint_count == 0)
        return fail(p, p->data_line, DP_ERR_MALFORMED, "the data-channel section has no fingerprint");
    out->unbundled = true;
    for (dp_slice mids = p->bundle; mids.len > 0;)
        if (dp_slice_is(dp_slice_cut(&mids, ' '), out->media[out->data_index].mid))
            out->unbundled = false;
    if (out->media[out->data_index].mid[0] == '\0')
        out->unbundled = true;
    return DP_OK;
}

static unsigned count_lines(const char *text, size_t len)
{
    unsigned lines = 1;
    for (size_t i = 0; i < len; i++)
        lines += text[i] == '\n';
    return lines;
}

int dp_sdp_parse(dp_sdp *out, dp_sdp_error *error, const char *text, size_t len)
{
    dp_sdp_error unused = {0};
    parser p = {.out = out, .error = error != NULL ? error : &unused};
    memset(out, 0, sizeof(*out));
    memset(p.error, 0, sizeof(*p.error));
    out->sctp_port = 5000;
    out->max_message_size = 65536;
    if (len > DP_SDP_TEXT_MAX)
        return fail(&p, count_lines(text, DP_SDP_TEXT_MAX), DP_ERR_TOO_LARGE,
                    "the description is over 65536 bytes long");

    p.rest = (dp_slice){text, len};
    while (p.rest.len > 0) {
        bool ends_in_lf = memchr(p.rest.at, '\n', p.rest.len) != NULL;
        dp_slice line = dp_slice_cut(&p.rest, '\n');
        if (ends_in_lf && line.len > 0 && line.at[line.len - 1] == '\r')
            line.len--;
        p.line++;
        int code = parse_line(&p, line);
        if (code != DP_OK)
            return code;
    }
    return check_whole(&p);
}
