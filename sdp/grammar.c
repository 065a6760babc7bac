#include "grammar.h"

#include <string.h>

static bool is_alphanumeric(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool all_of(dp_slice text, const char *others)
{
    for (size_t i = 0; i < text.len; i++)
        if (!is_alphanumeric(text.at[i]) && (text.at[i] == '\0' || strchr(others, text.at[i]) == NULL))
            return false;
    return text.len > 0;
}

bool dp_sdp_token(dp_slice text) { return all_of(text, "!#$%&'*+-.^_`{|}~"); }

bool dp_sdp_protocol(dp_slice text)
{
    if (text.len == 0 || text.at[text.len - 1] == '/')
        return false;
    while (text.len > 0)
        if (!dp_sdp_token(dp_slice_cut(&text, '/')))
            return false;
    return true;
}

bool dp_sdp_ice_text(dp_slice text, size_t min)
{
    return text.len >= min && text.len <= SDP_ICE_TEXT_MAX && all_of(text, "+/-_=#");
}

bool dp_sdp_protocol_is_legacy(const char *protocol) { return strcmp(protocol, "DTLS/SCTP") == 0; }
