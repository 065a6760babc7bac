#include "handshake.h"

#include "base/crypto.h"
#include "url.h"
#include <stdio.h>

int dp_ws_make_key(char key[WS_KEY_LEN + 1], const dp_random *random)
{
    uint8_t nonce[16];
    int error = dp_random_bytes(random, nonce, sizeof(nonce));
    if (error == DP_OK)
        dp_base64_encode(key, nonce, sizeof(nonce));
    return error;
}

/* No subprotocol and no extension is offered, so none may be chosen. */
void dp_ws_write_fields(dp_wr *wr, const dp_server_url *url, const char *key)
{
    dp_wr_text(wr, "Host: ");
    dp_url_write_host(wr, url);
    dp_wr_text(wr, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ");
    dp_wr_text(wr, key);
    dp_wr_text(wr, "\r\nSec-WebSocket-Version: 13\r\n\r\n");
}

int dp_ws_accept(char accept[WS_ACCEPT_LEN + 1], const char *key)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455 §1.3 */
    char text[WS_KEY_LEN + sizeof(guid)];
    uint8_t hash[DP_SHA1_LEN];
    int len = snprintf(text, sizeof(text), "%s%s", key, guid);
    if (len < 0 || (size_t)len >= sizeof(text))
        return DP_ERR_INVALID_ARGUMENT;
    int error = dp_sha1(hash, text, (size_t)len);
    if (error == DP_OK)
        dp_base64_encode(accept, hash, sizeof(hash));
    return error;
}

int dp_ws_check_response(const dp_http *http, const char *key, const char **reason)
{
    char expected[WS_ACCEPT_LEN + 1];
    dp_slice value;
    if (dp_ws_accept(expected, key) != DP_OK) {
        *reason = "SHA-1 failed";
        return DP_ERR_CRYPTO;
    }
    *reason = NULL;
    if (http->status != 101)
        *reason = "the server refused the WebSocket upgrade";
    else if (!dp_http_field_has(http, "Upgrade", "websocket"))
        *reason = "the answer lacks Upgrade: websocket";
    else if (!dp_http_field_has(http, "Connection", "upgrade"))
        *reason = "the answer lacks Connection: Upgrade";
    else if (dp_http_field(http, "Sec-WebSocket-Accept", &value) != 1 || !dp_slice_is(value, expected))
        *reason = "wrong Sec-WebSocket-Accept: not a WebSocket server, or an old answer from a cache";
    else if (dp_http_field(http, "Sec-WebSocket-Extensions", &value) > 0)
        *reason = "the server chose an extension that was not offered";
    else if (dp_http_field(http, "Sec-WebSocket-Protocol", &value) > 0)
        *reason = "the server chose a subprotocol that was not offered";
    return *reason == NULL ? DP_OK : DP_ERR_PROTOCOL;
}
