/* The json serialization: any text in; what is accepted is written and read back equal. */
#include <datapeer/peer.h>

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dp_value *value, *again;
    char *text;
    size_t len;
    if (dp_value_from_json(&value, (const char *)data, size) != DP_OK)
        return 0;
    if (dp_value_to_json(value, &text, &len) != DP_OK || dp_value_from_json(&again, text, len) != DP_OK ||
        !dp_value_equal(value, again))
        abort();
    dp_free(text);
    dp_value_free(again);
    dp_value_free(value);
    return 0;
}
