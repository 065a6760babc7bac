/* For owners that serve many agents on one socket: whose check, or whose answer, is this? */
#include "agent.h"
#include "stun.h"

#include <string.h>

bool dp_ice_peek_ufrag(const uint8_t *data, size_t len, char ufrag[DP_ICE_UFRAG_MAX + 1])
{
    dp_stun_message message;
    if (dp_stun_decode(&message, data, len) != DP_OK || message.class_ != DP_STUN_REQUEST ||
        message.username == NULL)
        return false;
    /* RFC 8445 §7.2.2: the receiver's ufrag comes first, then a colon. */
    const uint8_t *colon = memchr(message.username, ':', message.username_len);
    if (colon == NULL)
        return false;
    size_t n = (size_t)(colon - message.username);
    if (n == 0 || n > DP_ICE_UFRAG_MAX || memchr(message.username, '\0', n) != NULL)
        return false;
    memcpy(ufrag, message.username, n);
    ufrag[n] = '\0';
    return true;
}

bool dp_ice_awaits(const dp_ice *ice, const uint8_t *data, size_t len)
{
    enum { TRANSACTION_AT = DP_STUN_HEADER_LEN - DP_STUN_TRANSACTION_LEN };
    return len >= DP_STUN_HEADER_LEN && dp_ice_transaction_find(ice, data + TRANSACTION_AT) != NULL;
}
