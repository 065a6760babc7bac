/* Any bytes as a stream of MessagePack, cut as the first byte says: what comes out is the same however it is cut, and each
 * value packs and unpacks to itself, but for those that must not be packed. */
#include <datapeer/rpc.h>

#include <stdlib.h>
#include <string.h>

enum { MAX_VALUES = 64, MAX_VALUE_SIZE = 65536 };

typedef struct result {
    dp_value *values[MAX_VALUES];
    size_t count;
    int errors[MAX_VALUES];
    size_t error_count;
} result;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

/* False when the stream is lost, or enough has come. */
static bool take(result *r, dp_unpacker *u)
{
    dp_value *value;
    int error;
    while (r->count < MAX_VALUES && r->error_count < MAX_VALUES &&
           (error = dp_unpacker_next(u, &value)) != DP_ERR_WOULD_BLOCK) {
        check((error == DP_OK) == (value != NULL));
        if (error == DP_OK)
            r->values[r->count++] = value;
        else
            r->errors[r->error_count++] = error;
        if (error == DP_ERR_PROTOCOL || error == DP_ERR_TOO_LARGE) {
            check(dp_unpacker_next(u, &value) == error && dp_unpacker_next_timeout(u) == DP_TIME_NEVER);
            return false;
        }
    }
    return r->count < MAX_VALUES && r->error_count < MAX_VALUES;
}

static void unpack(result *r, const uint8_t *data, size_t size, size_t piece)
{
    dp_unpacker *u;
    memset(r, 0, sizeof(*r));
    check(dp_unpacker_new(&u, MAX_VALUE_SIZE, 0) == DP_OK);
    for (size_t at = 0; at < size; at += piece) {
        size_t n = size - at < piece ? size - at : piece;
        check(dp_unpacker_input(u, at, data + at, n) == DP_OK);
        if (!take(r, u))
            break;
    }
    dp_unpacker_free(u);
}

static void check_value(const dp_value *value)
{
    uint8_t *packed = NULL, *packed_again = NULL;
    size_t len = 0, len_again = 0;
    dp_value *again = NULL;
    int error = dp_msgpack_encode(value, &packed, &len);
    if (error == DP_ERR_INVALID_ARGUMENT) /* the key "__proto__" */
        return;
    check(error == DP_OK);
    check(dp_msgpack_decode(&again, packed, len) == DP_OK);
    check(dp_msgpack_encode(again, &packed_again, &len_again) == DP_OK);
    check(len == len_again && memcmp(packed, packed_again, len) == 0);
    dp_value_free(again);
    check(dp_msgpack_decode(&again, packed, len - 1) != DP_OK);
    dp_free(packed);
    dp_free(packed_again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    result whole, cut;
    if (size < 2)
        return 0;
    unpack(&whole, data + 1, size - 1, size);
    unpack(&cut, data + 1, size - 1, (size_t)data[0] % 64 + 1);
    check(whole.count == cut.count && whole.error_count == cut.error_count);
    check(memcmp(whole.errors, cut.errors, sizeof(cut.errors)) == 0);
    for (size_t i = 0; i < whole.count; i++) {
        check(dp_value_equal(whole.values[i], cut.values[i]));
        check_value(whole.values[i]);
        dp_value_free(whole.values[i]);
        dp_value_free(cut.values[i]);
    }
    return 0;
}
