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
    if (dp_dcep_write_open(out, size, &len, &open) != DP_OK || len != size || memcmp(out, data, size) != 0)
        abort();
    for (size_t i = 0; i < size; i++)
        if (dp_dcep_write_open(out, i, &len, &open) != DP_ERR_NO_SPACE)
            abort();
    free(out);
    return 0;
}
