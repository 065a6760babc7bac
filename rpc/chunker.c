/* PeerJS's chunk framing, the sending side:
 *
 *   {"__peerData": id, "n": 0.., "data": up to 16300 bytes of the packed value, "total": how many}
 *
 * each a BinaryPack map in a message of its own, keys in this order. */
#include "binarypack.h"

void dp_chunker_init(dp_chunker *chunker, const uint8_t *packed, size_t len, uint64_t id)
{
    *chunker = (dp_chunker){.data = packed, .len = len, .id = id};
    chunker->total = len <= DP_CHUNK_SIZE ? 1 : (len + DP_CHUNK_SIZE - 1) / DP_CHUNK_SIZE;
}

size_t dp_chunker_count(const dp_chunker *chunker) { return chunker->total - chunker->n; }

int dp_chunker_next(dp_chunker *chunker, uint8_t *out, size_t capacity, size_t *len)
{
    *len = 0;
    if (chunker->n == chunker->total)
        return DP_ERR_NOT_FOUND;
    size_t start = chunker->n * DP_CHUNK_SIZE;
    size_t piece = chunker->len - start < DP_CHUNK_SIZE ? chunker->len - start : DP_CHUNK_SIZE;
    dp_wr wr = dp_wr_init(out, capacity);
    if (chunker->total > 1) {
        dp_bp_write_count(&wr, DP_VALUE_MAP, 4);
        dp_bp_write_text(&wr, "__peerData");
        dp_bp_write_uint(&wr, chunker->id);
        dp_bp_write_text(&wr, "n");
        dp_bp_write_uint(&wr, chunker->n);
        dp_bp_write_text(&wr, "data");
        dp_bp_write_count(&wr, DP_VALUE_BYTES, (uint32_t)piece);
    }
    dp_wr_bytes(&wr, chunker->data + start, piece);
    if (chunker->total > 1) {
        dp_bp_write_text(&wr, "total");
        dp_bp_write_uint(&wr, chunker->total);
    }
    int error = dp_wr_finish(&wr, len);
    if (error == DP_OK)
        chunker->n++;
    return error;
}
