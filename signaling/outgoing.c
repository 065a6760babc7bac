/* What leaves: the request of the handshake, then queued messages, one frame each. */
#include "client.h"

#include "base/mem.h"
#include "url.h"
#include <string.h>

void dp_outgoing_drop(dp_signaling *s)
{
    outgoing item;
    while (dp_queue_pop(&s->outgoing, &item))
        dp_free(item.text);
    s->outgoing_bytes = 0;
}

/* Gives the oldest message to the WebSocket when that has nothing else to send; after the last one, when
 * leaving, the close frame (wslay sends control frames first, so it must not be queued earlier). */
static void hand_over(dp_signaling *s)
{
    if ((s->state != OPEN && s->state != CLOSING) || dp_ws_pending(s->ws) > 0)
        return;
    outgoing *item = dp_queue_peek(&s->outgoing);
    if (item == NULL) {
        if (s->state == CLOSING && !s->close_queued)
            s->close_queued = dp_ws_close(s->ws, 1000) == DP_OK;
        return;
    }
    if (dp_ws_send_text(s->ws, item->text, item->len) == DP_ERR_NO_MEMORY)
        return; /* it stays in the queue */
    s->outgoing_bytes -= item->len;
    dp_free(item->text);
    dp_queue_pop(&s->outgoing, NULL);
}

bool dp_signaling_poll_transmit(dp_signaling *s, uint8_t *out, size_t capacity, size_t *len)
{
    size_t n = s->request_len - s->request_sent;
    if (n > capacity)
        n = capacity;
    if (n > 0)
        memcpy(out, s->request + s->request_sent, n);
    s->request_sent += n;
    while (s->ws != NULL && n < capacity) {
        hand_over(s);
        size_t more = dp_ws_output(s->ws, out + n, capacity - n);
        if (more == 0)
            break;
        n += more;
    }
    *len = n;
    return n > 0;
}

int dp_outgoing_push(dp_signaling *s, const char *text, size_t len)
{
    if (s->outgoing.count == MAX_OUTGOING || s->outgoing_bytes + len > MAX_OUTGOING_BYTES)
        return DP_ERR_WOULD_BLOCK;
    char *copy = dp_strndup(text, len);
    outgoing *item = copy != NULL ? dp_queue_push(&s->outgoing) : NULL;
    if (item == NULL) {
        dp_free(copy);
        return DP_ERR_NO_MEMORY;
    }
    item->text = copy;
    item->len = len;
    s->outgoing_bytes += len;
    return DP_OK;
}

static bool text_valid(const char *text)
{
    return text != NULL && dp_utf8_valid((const uint8_t *)text, strlen(text));
}

static int check_send(const dp_signaling *s, const char *dst, const char *connection_id)
{
    if (s->state == IDLE || s->state == CLOSING)
        return DP_ERR_CLOSED;
    if (dst == NULL || !dp_peer_id_harmless((dp_slice){dst, strlen(dst)}) || !text_valid(connection_id) ||
        connection_id[0] == '\0')
        return DP_ERR_INVALID_ARGUMENT;
    return DP_OK;
}

/* The writer's buffer is as large as a message may be; what is queued is as large as the message is. */
static int begin_message(dp_wr *wr)
{
    uint8_t *buffer = dp_alloc(DP_SIGNALING_TEXT_MAX);
    *wr = dp_wr_init(buffer, DP_SIGNALING_TEXT_MAX);
    return buffer != NULL ? DP_OK : DP_ERR_NO_MEMORY;
}

static int end_message(dp_signaling *s, dp_wr *wr)
{
    int error = wr->error ? DP_ERR_TOO_LARGE : dp_outgoing_push(s, (const char *)wr->start, wr->len);
    dp_free(wr->start);
    return error;
}

int dp_signaling_send_offer(dp_signaling *s, dp_time now, const char *dst, const dp_signaling_offer *offer)
{
    dp_wr wr;
    (void)now;
    int error = check_send(s, dst, offer->connection_id);
    if (error == DP_OK &&
        (!text_valid(offer->sdp) || !text_valid(offer->label) || !text_valid(offer->serialization) ||
         (offer->metadata != NULL && !dp_metadata_valid(offer->metadata, strlen(offer->metadata)))))
        error = DP_ERR_INVALID_ARGUMENT;
    if (error == DP_OK)
        error = begin_message(&wr);
    if (error != DP_OK)
        return error;
    dp_message_write_offer(&wr, dst, offer);
    return end_message(s, &wr);
}

int dp_signaling_send_answer(dp_signaling *s, dp_time now, const char *dst, const char *connection_id,
                             const char *sdp, unsigned restart)
{
    dp_wr wr;
    (void)now;
    int error = check_send(s, dst, connection_id);
    if (error == DP_OK && !text_valid(sdp) && (sdp != NULL || restart == 0))
        error = DP_ERR_INVALID_ARGUMENT;
    if (error == DP_OK)
        error = begin_message(&wr);
    if (error != DP_OK)
        return error;
    dp_message_write_answer(&wr, dst, connection_id, sdp, restart);
    return end_message(s, &wr);
}

int dp_signaling_send_candidate(dp_signaling *s, dp_time now, const char *dst, const char *connection_id,
                                const char *candidate, const char *mid, unsigned mline_index,
                                const char *ufrag)
{
    dp_wr wr;
    (void)now;
    int error = check_send(s, dst, connection_id);
    if (error == DP_OK &&
        (!text_valid(candidate) || !text_valid(mid) || (ufrag != NULL && !text_valid(ufrag))))
        error = DP_ERR_INVALID_ARGUMENT;
    if (error == DP_OK)
        error = begin_message(&wr);
    if (error != DP_OK)
        return error;
    dp_message_write_candidate(&wr, dst, connection_id, candidate, mid, mline_index, ufrag);
    return end_message(s, &wr);
}
