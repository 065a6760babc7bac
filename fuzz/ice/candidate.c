/* Candidate lines: what parses must be written and parse equal again; short buffers are refused. */
#include "ice/candidate.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dp_candidate c;
    dp_candidate again;
    char text[DP_CANDIDATE_TEXT_MAX];
    if (dp_candidate_parse(&c, (const char *)data, size) != DP_OK)
        return 0;
    require(dp_candidate_format(&c, text, sizeof text) == DP_OK);
    size_t len = strlen(text);
    require(dp_candidate_parse(&again, text, len) == DP_OK);
    require(memcmp(&c, &again, sizeof c) == 0);
    size_t capacity = data[size - 1] % (len + 1);
    char *small = malloc(capacity > 0 ? capacity : 1);
    if (small != NULL)
        require(dp_candidate_format(&c, small, capacity) == DP_ERR_NO_SPACE);
    free(small);
    return 0;
}
