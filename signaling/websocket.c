#include "websocket.h"

#include "base/crypto.h"
#include "base/mem.h"
#include "base/rd.h"
#include "base/text.h"
#include "base/wr.h"
#include <string.h>
#include <wslay/wslay.h>

struct dp_ws {
    bool server;
    wslay_event_context_ptr wslay;
    dp_random random;
    dp_ws_on_text on_text;
    void *ctx;

    uint64_t read;     /* bytes that wslay has read... */
    uint64_t framed;   /* ...and those of the frames whose heads it knows */
    const uint8_t *in; /* what dp_ws_input was given and wslay has not read yet */
    size_t in_len;
    uint8_t *out; /* where dp_ws_output writes */
    size_t out_capacity, out_len;

    /* The message being received. wslay would set aside what a frame header claims; here memory follows what
     * came. */
    char *text;
    size_t text_len, text_capacity;
    uint64_t message_len; /* claimed by its frames so far */
    bool unfinished;      /* more frames of it will come */
    bool control;         /* the current frame is a ping, pong or close: not part of the message */
    bool skip;            /* over DP_SIGNALING_TEXT_MAX */
    bool no_memory;
};

/* ---- wslay's callbacks ------------------------------------------------------------------------- */

static ssize_t on_recv(wslay_event_context_ptr wslay, uint8_t *buf, size_t len, int flags, void *user)
{
    dp_ws *ws = user;
    (void)flags;
    if (ws->in_len == 0) {
        wslay_event_set_error(wslay, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    if (len > ws->in_len)
        len = ws->in_len;
    memcpy(buf, ws->in, len);
    ws->in += len;
    ws->in_len -= len;
    ws->read += len;
    return (ssize_t)len;
}

static ssize_t on_send(wslay_event_context_ptr wslay, const uint8_t *data, size_t len, int flags, void *user)
{
    dp_ws *ws = user;
    (void)flags;
    size_t room = ws->out_capacity - ws->out_len;
    if (room == 0) {
        wslay_event_set_error(wslay, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    if (len > room)
        len = room;
    memcpy(ws->out + ws->out_len, data, len);
    ws->out_len += len;
    return (ssize_t)len;
}

/* RFC 6455 §5.3: unpredictable, fresh for each frame. */
static int on_mask(wslay_event_context_ptr wslay, uint8_t *buf, size_t len, void *user)
{
    dp_ws *ws = user;
    if (dp_random_bytes(&ws->random, buf, len) == DP_OK)
        return 0;
    wslay_event_set_error(wslay, WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static void fail_too_big(wslay_event_context_ptr wslay)
{
    wslay_event_queue_close(wslay, WSLAY_CODE_MESSAGE_TOO_BIG, NULL, 0);
    wslay_event_shutdown_read(wslay);
}

/* Of a frame of a client. wslay refuses lengths that are not in their shortest form (§5.2). */
static uint64_t frame_length(uint64_t payload)
{
    return 2 + (payload < 126 ? 0u : payload <= UINT16_MAX ? 2u : 8u) + 4 + payload;
}

static void on_frame(wslay_event_context_ptr wslay, const struct wslay_event_on_frame_recv_start_arg *frame,
                     void *user)
{
    dp_ws *ws = user;
    ws->framed += frame_length(frame->payload_length);
    ws->control = wslay_is_ctrl_frame(frame->opcode);
    if (ws->control)
        return;
    if (frame->opcode != WSLAY_CONTINUATION_FRAME) {
        ws->text_len = 0;
        ws->message_len = 0;
        /* PeerServer speaks text; to its client a binary message is nothing: read to its end and dropped. */
        ws->skip = frame->opcode != WSLAY_TEXT_FRAME && !ws->server;
    }
    ws->unfinished = !frame->fin;
    /* Each frame counts as a byte more, so that empty continuations without end are noticed too. */
    uint64_t max = ws->server ? DP_SIGNALING_TEXT_MAX : WS_MESSAGE_MAX;
    if (frame->payload_length >= max || ws->message_len + frame->payload_length + 1 > max) {
        ws->skip = true;
        fail_too_big(wslay);
        return;
    }
    ws->message_len += frame->payload_length + 1;
}

static void on_chunk(wslay_event_context_ptr wslay, const struct wslay_event_on_frame_recv_chunk_arg *chunk,
                     void *user)
{
    dp_ws *ws = user;
    (void)wslay;
    if (ws->control || ws->skip)
        return;
    void *text = ws->text;
    int error =
        dp_grow(&text, &ws->text_capacity, ws->text_len + chunk->data_length, DP_SIGNALING_TEXT_MAX, 1);
    ws->text = text;
    if (error != DP_OK) {
        ws->skip = true;
        ws->no_memory = ws->no_memory || error == DP_ERR_NO_MEMORY;
        return;
    }
    if (chunk->data_length > 0)
        memcpy(ws->text + ws->text_len, chunk->data, chunk->data_length);
    ws->text_len += chunk->data_length;
}

static void on_message(wslay_event_context_ptr wslay, const struct wslay_event_on_msg_recv_arg *message,
                       void *user)
{
    dp_ws *ws = user;
    (void)wslay;
    if (wslay_is_ctrl_frame(message->opcode) || ws->skip)
        return;
    const char *text = ws->text_len > 0 ? ws->text : "";
    if (message->opcode == WSLAY_TEXT_FRAME || dp_utf8_valid((const uint8_t *)text, ws->text_len))
        ws->on_text(ws->ctx, text, ws->text_len);
}

/* ---- the object -------------------------------------------------------------------------------- */

/* wslay would set aside what a frame header claims ("buffering"); on_chunk keeps only what came. */
static int new_context(wslay_event_context_ptr *out, dp_ws *ws)
{
    static const struct wslay_event_callbacks callbacks = {
        .recv_callback = on_recv,
        .send_callback = on_send,
        .genmask_callback = on_mask,
        .on_frame_recv_start_callback = on_frame,
        .on_frame_recv_chunk_callback = on_chunk,
        .on_msg_recv_callback = on_message,
    };
    int error = ws->server ? wslay_event_context_server_init(out, &callbacks, ws)
                           : wslay_event_context_client_init(out, &callbacks, ws);
    if (error != 0)
        return DP_ERR_NO_MEMORY;
    wslay_event_config_set_no_buffering(*out, 1);
    return DP_OK;
}

int dp_ws_new(dp_ws **out, const dp_random *random, dp_ws_on_text on_text, void *ctx)
{
    dp_ws *ws = dp_calloc(1, sizeof(*ws));
    if (ws == NULL)
        return DP_ERR_NO_MEMORY;
    ws->random = *random;
    ws->on_text = on_text;
    ws->ctx = ctx;
    if (new_context(&ws->wslay, ws) != DP_OK) {
        dp_free(ws);
        return DP_ERR_NO_MEMORY;
    }
    *out = ws;
    return DP_OK;
}

int dp_ws_new_server(dp_ws **out)
{
    dp_ws *ws = dp_calloc(1, sizeof(*ws));
    if (ws == NULL)
        return DP_ERR_NO_MEMORY;
    ws->server = true;
    if (new_context(&ws->wslay, ws) != DP_OK) {
        dp_free(ws);
        return DP_ERR_NO_MEMORY;
    }
    *out = ws;
    return DP_OK;
}

void dp_ws_assign(dp_ws *ws, dp_ws_on_text on_text, void *ctx)
{
    ws->on_text = on_text;
    ws->ctx = ctx;
    ws->read = ws->framed = 0;
    ws->text_len = 0;
}

bool dp_ws_idle(const dp_ws *ws)
{
    return ws->read == ws->framed && !ws->unfinished && dp_ws_pending(ws) == 0 &&
           wslay_event_get_read_enabled(ws->wslay) && !wslay_event_get_close_received(ws->wslay) &&
           !wslay_event_get_close_sent(ws->wslay);
}

size_t dp_ws_missing(const dp_ws *ws) { return ws->framed > ws->read ? (size_t)(ws->framed - ws->read) : 1; }

/* RFC 6455 §5.3, eight bytes at a time. */
static void unmask(char *out, const uint8_t *data, size_t len, const uint8_t mask[4])
{
    uint64_t masks;
    uint64_t eight;
    size_t i = 0;
    memcpy(&masks, mask, 4);
    memcpy((uint8_t *)&masks + 4, mask, 4);
    for (; len - i >= sizeof(eight); i += sizeof(eight)) {
        memcpy(&eight, data + i, sizeof(eight));
        eight ^= masks;
        memcpy(out + i, &eight, sizeof(eight));
    }
    for (; i < len; i++)
        out[i] = (char)(data[i] ^ mask[i % 4]);
}

_Static_assert(UINT16_MAX < DP_SIGNALING_TEXT_MAX, "a length of 16 bits fits");

size_t dp_ws_read_message(char *out, size_t *text_len, const uint8_t *data, size_t len)
{
    dp_rd rd = dp_rd_init(data, len);
    bool final_text = dp_rd_u8(&rd) == (0x80 | WS_TEXT); /* no reserved bit */
    uint8_t second = dp_rd_u8(&rd);
    size_t n = second & 0x7f;
    if (n == 126) {
        n = dp_rd_u16(&rd);
        final_text = final_text && n >= 126; /* else not the shortest form: §5.2 */
    }
    const uint8_t *mask = dp_rd_bytes(&rd, 4);
    const uint8_t *payload = dp_rd_bytes(&rd, n);
    if (rd.error || !final_text || (second & 0x80) == 0 || (second & 0x7f) == 127)
        return 0;
    unmask(out, payload, n, mask);
    *text_len = n;
    return dp_utf8_valid((const uint8_t *)out, n) ? len - dp_rd_left(&rd) : 0;
}

size_t dp_ws_held(const dp_ws *ws) { return ws->text_capacity; }

size_t dp_ws_write_head(uint8_t out[WS_HEAD_MAX], unsigned opcode, size_t len)
{
    dp_wr wr = dp_wr_init(out, WS_HEAD_MAX);
    dp_wr_u8(&wr, (uint8_t)(0x80u | opcode));
    dp_wr_u8(&wr, (uint8_t)(len < 126 ? len : len <= UINT16_MAX ? 126 : 127));
    if (len > UINT16_MAX)
        dp_wr_u64(&wr, len);
    else if (len >= 126)
        dp_wr_u16(&wr, (uint16_t)len);
    return wr.len;
}

void dp_ws_free(dp_ws *ws)
{
    if (ws == NULL)
        return;
    wslay_event_context_free(ws->wslay);
    dp_free(ws->text);
    dp_free(ws);
}

/* For what its frame layer refuses (a control frame that is fragmented or over 125 bytes) wslay queues a
 * close frame without a code; RFC 6455 §7.4.1 has 1002 for it. If nothing else waits to be sent, a fresh
 * context says it better. */
static void give_code(dp_ws *ws)
{
    wslay_event_context_ptr fresh;
    if (dp_ws_pending(ws) != 1 || new_context(&fresh, ws) != DP_OK)
        return;
    wslay_event_context_free(ws->wslay);
    ws->wslay = fresh;
    wslay_event_shutdown_read(fresh);
    (void)wslay_event_queue_close(fresh, WSLAY_CODE_PROTOCOL_ERROR, NULL, 0);
}

int dp_ws_input(dp_ws *ws, const uint8_t *data, size_t len)
{
    /* wslay answers every ping: slices, so that a flood of them is noticed before it takes memory. */
    enum { SLICE = 4096 };
    int result = DP_OK;
    while (len > 0 && result == DP_OK) {
        ws->in = data;
        ws->in_len = len < SLICE ? len : SLICE;
        data += ws->in_len;
        len -= ws->in_len;
        int error = wslay_event_recv(ws->wslay);
        if (error == WSLAY_ERR_NOMEM || ws->no_memory)
            result = DP_ERR_NO_MEMORY;
        else if (wslay_event_get_close_received(ws->wslay))
            result = DP_ERR_CLOSED;
        else if (error != 0 || !wslay_event_get_read_enabled(ws->wslay) || dp_ws_pending(ws) > WS_MAX_PENDING)
            result = DP_ERR_PROTOCOL;
        if (error == WSLAY_ERR_CALLBACK_FAILURE)
            give_code(ws);
    }
    ws->in = NULL;
    ws->in_len = 0;
    return result;
}

int dp_ws_send_text(dp_ws *ws, const char *text, size_t len)
{
    const struct wslay_event_msg message = {WSLAY_TEXT_FRAME, (const uint8_t *)text, len};
    int error = wslay_event_queue_msg(ws->wslay, &message);
    return error == 0 ? DP_OK : error == WSLAY_ERR_NOMEM ? DP_ERR_NO_MEMORY : DP_ERR_CLOSED;
}

int dp_ws_close(dp_ws *ws, uint16_t code)
{
    int error = wslay_event_queue_close(ws->wslay, code, NULL, 0);
    return error == 0 ? DP_OK : error == WSLAY_ERR_NOMEM ? DP_ERR_NO_MEMORY : DP_ERR_CLOSED;
}

size_t dp_ws_pending(const dp_ws *ws) { return wslay_event_get_queued_msg_count(ws->wslay); }

size_t dp_ws_output(dp_ws *ws, uint8_t *out, size_t capacity)
{
    ws->out = out;
    ws->out_capacity = capacity;
    ws->out_len = 0;
    if (wslay_event_want_write(ws->wslay) && wslay_event_send(ws->wslay) != 0)
        ws->out_len = 0; /* no masks: wslay has ended its side, the server will time us out */
    ws->out = NULL;
    return ws->out_len;
}
