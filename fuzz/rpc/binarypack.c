/* Any bytes: what decodes must encode, and mean the same then. */
#include "rpc/binarypack.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void short_buffers(const dp_value *value, const uint8_t *packed, size_t len)
{
    for (size_t capacity = 0; capacity < len && capacity < 64; capacity++) {
        uint8_t *out = malloc(capacity + 1);
        dp_bp_sink sink = {.format = &dp_binarypack_format, .wr = dp_wr_init(out, capacity)};
        check(dp_bp_put_value(&sink, value, 0) == DP_OK);
        size_t none;
        check(dp_wr_finish(&sink.wr, &none) == DP_ERR_NO_SPACE && memcmp(out, packed, sink.wr.len) == 0);
        free(out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dp_value *value = NULL;
    size_t used = 0;
    int error = dp_bp_decode_prefix(&value, &used, data, size);
    check(used <= size);
    check((error == DP_OK) == (value != NULL));
    if (error != DP_OK)
        return 0;
    uint8_t *packed = NULL;
    size_t len = 0;
    check(dp_binarypack_encode(value, &packed, &len) == DP_OK);
    check(len <= used * 2 + 32); /* a number as a key becomes text, a float a double */
    dp_value *again = NULL;
    check(dp_binarypack_decode(&again, packed, len) == DP_OK);
    check(dp_value_equal(value, again) && dp_value_equal(again, value));
    uint8_t *packed_again = NULL;
    size_t len_again = 0;
    check(dp_binarypack_encode(again, &packed_again, &len_again) == DP_OK);
    check(len == len_again && memcmp(packed, packed_again, len) == 0);
    dp_value *copy = dp_value_copy(value);
    check(copy != NULL && dp_value_equal(value, copy));
    short_buffers(value, packed, len);
    dp_value_free(copy);
    dp_free(packed_again);
    dp_value_free(again);
    dp_free(packed);
    dp_value_free(value);
    return 0;
}
