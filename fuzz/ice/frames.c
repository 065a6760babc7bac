/* The stream cutter: two ways to cut the same bytes (the first byte chooses the pieces) give the same frames, and the
 * same end. */
#include "ice/frames.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* Feeds pieces of at most piece bytes; a sum over all frames. */
static uint64_t cut(const uint8_t *data, size_t size, size_t piece, bool *broken)
{
    dp_frames frames = {.len = 0};
    uint64_t sum = 0;
    for (size_t at = 0; at < size && !*broken;) {
        size_t len = size - at < piece ? size - at : piece;
        size_t frame_len = 0;
        size_t taken = dp_frames_take(&frames, data + at, len, &frame_len, broken);
        require(taken <= len && (taken > 0 || *broken) && frame_len <= DP_FRAME_MAX);
        require(!*broken || frame_len == 0);
        at += taken;
        for (size_t i = 0; i < frame_len; i++)
            sum = sum * 31 + frames.data[i];
        if (frame_len > 0)
            sum = sum * 31 + 256 + frame_len;
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    bool broken[2] = {false, false};
    uint64_t whole = cut(data + 1, size - 1, SIZE_MAX, &broken[0]);
    require(cut(data + 1, size - 1, 1u + data[0], &broken[1]) == whole);
    require(broken[0] == broken[1]);
    return 0;
}
