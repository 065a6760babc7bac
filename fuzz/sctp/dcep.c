/* DCEP: decode, encode, decode; encode into every shorter buffer. */
#include "sctp/dcep.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dp_dcep_type type;
    dp_dcep_open open;
    if (size > 4096 || dp_dcep_parse(&type, &open, data, size) != DP_OK || type != DP_DCEP_OPEN)
        return 0;
    uint8_t *out = (uint8_t *)malloc(size);
    size_t len;
    if (out == NULL)
        return 0;
    if (dp_dcep_write_open(out, size, &len, &open) != DP_OK || len != size)
        abort();
    /* The two lengths may have been in characters. */
    dp_dcep_open again;
    if (memcmp(out, data, 8) != 0 || memcmp(out + 12, data + 12, size - 12) != 0 ||
        dp_dcep_parse(&type, &again, out, len) != DP_OK || again.label.len != open.label.len ||
        again.protocol.len != open.protocol.len)
        abort();
    for (size_t i = 0; i < size; i++)
        if (dp_dcep_write_open(out, i, &len, &open) != DP_ERR_NO_SPACE)
            abort();
    free(out);
    return 0;
}
