#include "chunk.h"

/* length counts the 4 bytes that have been read. */
static bool take(dp_rd *rd, size_t length, dp_rd *value)
{
    rd->error |= length < 4;
    *value = dp_rd_sub(rd, length - 4);
    size_t padding = (4 - length % 4) % 4;
    dp_rd_skip(rd, padding < dp_rd_left(rd) ? padding : dp_rd_left(rd));
    return !rd->error;
}

bool dp_chunk_next(dp_rd *chunks, dp_chunk *chunk)
{
    if (dp_rd_left(chunks) == 0)
        return false;
    chunk->type = dp_rd_u8(chunks);
    chunk->flags = dp_rd_u8(chunks);
    return take(chunks, dp_rd_u16(chunks), &chunk->value);
}

bool dp_chunk_item_next(dp_rd *items, uint16_t *type, dp_rd *value)
{
    if (dp_rd_left(items) == 0)
        return false;
    *type = dp_rd_u16(items);
    return take(items, dp_rd_u16(items), value);
}
