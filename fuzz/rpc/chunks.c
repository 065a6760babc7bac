/* The bytes are steps, each one byte and what it takes:
 *   0: a message as it is (u16 length, bytes)     1: a chunk (id, n, total, length, bytes)    2: time passes
 * (seconds) 3: a value cut by our own sender (u16 length, bytes), its messages out of order: it must come out
 * as it went in */
#include "rpc/binarypack.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void input(dp_dechunker *dechunker, dp_time now, const uint8_t *data, size_t len)
{
    dp_dechunked what;
    dp_value *value;
    int error = dp_dechunker_input(dechunker, now, data, len, &what, &value);
    check((what == DP_DECHUNKED_VALUE) == (value != NULL));
    check(error == DP_OK || what == DP_DECHUNKED_NOTHING);
    dp_value_free(value);
}

static void input_chunk(dp_dechunker *dechunker, dp_time now, dp_rd *rd)
{
    uint8_t message[512];
    uint8_t id = dp_rd_u8(rd);
    uint8_t n = dp_rd_u8(rd);
    uint8_t total = dp_rd_u8(rd);
    uint8_t len = dp_rd_u8(rd);
    const uint8_t *bytes = dp_rd_bytes(rd, len);
    if (bytes == NULL)
        return;
    dp_wr wr = dp_wr_init(message, sizeof(message));
    dp_bp_write_count(&wr, DP_VALUE_MAP, 4);
    dp_bp_write_text(&wr, "__peerData");
    dp_bp_write_uint(&wr, id);
    dp_bp_write_text(&wr, "n");
    dp_bp_write_uint(&wr, n);
    dp_bp_write_text(&wr, "data");
    dp_bp_write_count(&wr, DP_VALUE_BYTES, len);
    dp_wr_bytes(&wr, bytes, len);
    dp_bp_write_text(&wr, "total");
    dp_bp_write_uint(&wr, total);
    input(dechunker, now, message, wr.len);
}

static void round_trip(dp_dechunker *dechunker, dp_time now, const uint8_t *bytes, size_t len, uint64_t id)
{
    dp_value *sent = dp_value_bytes(bytes, len);
    uint8_t *packed = NULL;
    size_t packed_len = 0;
    check(sent != NULL && dp_binarypack_encode(sent, &packed, &packed_len) == DP_OK);
    dp_chunker chunker;
    dp_chunker_init(&chunker, packed, packed_len, id);
    size_t count = dp_chunker_count(&chunker);
    bool whole = false;
    for (size_t i = 0; i < count; i++) {
        dp_chunker one = chunker; /* the last piece first */
        one.n = count - 1 - i;
        uint8_t message[DP_CHUNK_MESSAGE_MAX];
        size_t message_len;
        check(dp_chunker_next(&one, message, sizeof(message), &message_len) == DP_OK);
        dp_dechunked what;
        dp_value *value;
        int error = dp_dechunker_input(dechunker, now, message, message_len, &what, &value);
        check(error == DP_OK || error == DP_ERR_LIMIT || error == DP_ERR_TOO_LARGE);
        whole = whole || what == DP_DECHUNKED_VALUE;
        check(what != DP_DECHUNKED_VALUE || dp_value_equal(value, sent));
        check(error != DP_OK || whole == (i + 1 == count));
        dp_value_free(value);
    }
    dp_free(packed);
    dp_value_free(sent);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dp_dechunker_config config = {
        .size = sizeof(config), .max_value_size = 40000, .max_total = 60000, .timeout = DP_SECONDS(10)};
    dp_dechunker *dechunker = NULL;
    check(dp_dechunker_new(&dechunker, &config) == DP_OK);
    dp_rd rd = dp_rd_init(data, size);
    dp_time now = 0;
    for (uint64_t step = 1; dp_rd_left(&rd) > 0; step++) {
        uint8_t kind = dp_rd_u8(&rd) % 4;
        if (kind == 1) {
            input_chunk(dechunker, now, &rd);
        } else if (kind == 2) {
            now += DP_SECONDS(dp_rd_u8(&rd));
            dp_dechunker_handle_timeout(dechunker, now);
            check(dp_dechunker_next_timeout(dechunker) > now);
        } else {
            size_t len = dp_rd_u16(&rd);
            if (len > dp_rd_left(&rd))
                len = dp_rd_left(&rd);
            const uint8_t *bytes = dp_rd_bytes(&rd, len);
            if (bytes != NULL && kind == 0)
                input(dechunker, now, bytes, len);
            else if (bytes != NULL)
                round_trip(dechunker, now, bytes, len, 1000000 + step);
        }
    }
    dp_dechunker_handle_timeout(dechunker, now + DP_SECONDS(10));
    check(dp_dechunker_next_timeout(dechunker) == DP_TIME_NEVER);
    dp_dechunker_free(dechunker);
    return 0;
}
