/* WebSocket frames of either end (RFC 6455 §5): bytes in, whole text messages out, and the reverse. On wslay.
 *
 *   0               1               2               3
 *  +-+-+-+-+-------+-+-------------+-------------------------------+
 *  |F|R|R|R| opcode|M| length (7)  |  length (16 or 64 more bits)  |
 *  |I|S|S|S|  (4)  |A|             |   if length is 126 or 127     |
 *  |N|V|V|V|       |S|             |                               |
 *  | |1|2|3|       |K|             |                               |
 *  +-+-+-+-+-------+-+-------------+-------------------------------+
 *  |  masking key (32 bits), from a client only; then the payload  |
 *  +---------------------------------------------------------------+
 */
#ifndef SIGNALING_WEBSOCKET_H
#define SIGNALING_WEBSOCKET_H

#include <datapeer/signaling.h>

enum {
    /* A message over DP_SIGNALING_TEXT_MAX is skipped without being kept, so that a peer cannot end our
     * session with the server by sending us one; a message over this is answered with 1009. */
    WS_MESSAGE_MAX = 1 << 20,
    WS_HEAD_MAX = 10,
    WS_TEXT = 1, /* opcodes, §5.2 */
    WS_CLOSE = 8,
    WS_MAX_PENDING = 4096, /* frames (pongs) that wait to be taken by dp_ws_output */
};

typedef struct dp_ws dp_ws;

/* Called for each whole text message; text is valid UTF-8, not NUL-terminated, gone after the call. It must
 * not call dp_ws_input or dp_ws_free. */
typedef void (*dp_ws_on_text)(void *ctx, const char *text, size_t len);

/* NO_MEMORY. */
int dp_ws_new(dp_ws **out, const dp_random *random, dp_ws_on_text on_text, void *ctx);
/* The server's end. Over DP_SIGNALING_TEXT_MAX a message is answered with 1009; a binary one that is UTF-8 counts as text.
 * wslay's context takes 9 KB, but between messages it holds nothing: one object serves many streams in turn. */
int dp_ws_new_server(dp_ws **out);
/* Gives a server's object that is fresh or idle to another stream. */
void dp_ws_assign(dp_ws *ws, dp_ws_on_text on_text, void *ctx);
/* Whether a server's object is between messages, with nothing to send: the next frame can be read by another one. */
bool dp_ws_idle(const dp_ws *ws);
/* Bytes of the current frame that have not come yet; 1 if its head has not come whole. So much may be given to dp_ws_input
 * without giving it the beginning of the next frame. */
size_t dp_ws_missing(const dp_ws *ws);
/* What nearly all of a client's frames are, without an object: a whole text message. If data begins with one, its text goes to
 * out, which has room for DP_SIGNALING_TEXT_MAX bytes, and the frame's length is returned. 0: it does not, or the frame
 * breaks a rule: it is for dp_ws_input. */
size_t dp_ws_read_message(char *out, size_t *text_len, const uint8_t *data, size_t len);
/* Bytes of the message that is being received. */
size_t dp_ws_held(const dp_ws *ws);
/* The head of a server's unfragmented frame, WS_HEAD_MAX bytes at most; returns its length. */
size_t dp_ws_write_head(uint8_t out[WS_HEAD_MAX], unsigned opcode, size_t len);
void dp_ws_free(dp_ws *ws);

/* CLOSED: the peer's close frame came (our answer is queued); PROTOCOL: the peer broke the protocol (our
 * close frame with 1002, 1007 or 1009 is queued); NO_MEMORY. After any of them nothing more is read. */
int dp_ws_input(dp_ws *ws, const uint8_t *data, size_t len);

/* Queued, as one frame. CLOSED after a close frame, NO_MEMORY. */
int dp_ws_send_text(dp_ws *ws, const char *text, size_t len);
int dp_ws_close(dp_ws *ws, uint16_t code);

/* Frames that wait to be sent. */
size_t dp_ws_pending(const dp_ws *ws);
/* Writes up to capacity bytes and returns how many: 0 if there is nothing more. */
size_t dp_ws_output(dp_ws *ws, uint8_t *out, size_t capacity);

#endif
