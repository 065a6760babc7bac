/* Frames of a client, read by the server's two readers: a whole message that dp_ws_read_message takes is one for wslay, too,
 * with the same text; and dp_ws_missing never asks for a byte of the next frame.
 *   byte 0: into how many pieces what is not taken whole is cut; then the frames */
#include "signaling/websocket.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

static char text[DP_SIGNALING_TEXT_MAX], heard[DP_SIGNALING_TEXT_MAX];
static size_t text_len, heard_len;
static unsigned messages;

static void on_text(void *ctx, const char *at, size_t len)
{
    (void)ctx;
    CHECK(len <= sizeof(heard));
    memcpy(heard, at, len);
    heard_len = len;
    messages++;
}

static dp_ws *fresh(void)
{
    dp_ws *ws;
    CHECK(dp_ws_new_server(&ws) == DP_OK);
    dp_ws_assign(ws, on_text, NULL);
    messages = 0;
    return ws;
}

/* wslay is given the frame and a byte more, to see where it ends. */
static void compare(const uint8_t *data, size_t len)
{
    dp_ws *ws = fresh();
    CHECK(dp_ws_input(ws, data, len - 1) == DP_OK && messages == 0 && dp_ws_missing(ws) == 1);
    CHECK(dp_ws_input(ws, data + len - 1, 1) == DP_OK && messages == 1);
    CHECK(dp_ws_idle(ws));
    CHECK(heard_len == text_len && memcmp(heard, text, text_len) == 0);
    dp_ws_free(ws);
}

/* One frame, in pieces of at most step bytes; false: nothing more is read. */
static bool read_frame(dp_ws *ws, const uint8_t **data, size_t *size, size_t step)
{
    bool begun = false;
    while (*size > 0 && (!begun || !dp_ws_idle(ws))) {
        uint8_t bytes[256];
        size_t n = dp_ws_missing(ws);
        n = n > step ? step : n;
        n = n > *size ? *size : n;
        CHECK(n > 0);
        int result = dp_ws_input(ws, *data, n);
        while (dp_ws_output(ws, bytes, sizeof(bytes)) > 0)
            ;
        if (result != DP_OK)
            return false;
        *data += n;
        *size -= n;
        begun = true;
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    size_t step = (size_t)data[0] + 1;
    dp_ws *ws = fresh();
    bool reads = true;
    for (data++, size--; size > 0 && reads;) {
        size_t used = dp_ws_idle(ws) ? dp_ws_read_message(text, &text_len, data, size) : 0;
        if (used > 0) {
            CHECK(used <= size && text_len < used);
            compare(data, used);
            data += used;
            size -= used;
        } else {
            reads = read_frame(ws, &data, &size, step);
        }
    }
    dp_ws_free(ws);
    return 0;
}
