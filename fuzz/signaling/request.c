/* Heads of requests: the result must not depend on how the bytes are cut, and what is taken must be sound. */
#include "signaling/server_request.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

static int parse(dp_request *request, const uint8_t *data, size_t size, size_t step, size_t *left)
{
    int result = DP_ERR_WOULD_BLOCK;
    while (size > 0 && result == DP_ERR_WOULD_BLOCK) {
        size_t n = size < step ? size : step;
        size_t before = n;
        const uint8_t *at = data;
        result = dp_request_input(request, &at, &n);
        CHECK(at == data + (before - n));
        CHECK(result != DP_ERR_WOULD_BLOCK || n == 0);
        data = at;
        size -= before - n;
    }
    *left = size;
    return result;
}

static void check(const dp_request *request)
{
    char out[64];
    dp_slice value;
    CHECK(request->len >= 4 && memcmp(request->head + request->len - 4, "\r\n\r\n", 4) == 0);
    CHECK(memchr(request->head, '\0', request->len) == NULL);
    CHECK(request->method.len > 0 && request->path.len > 0);
    CHECK(request->path.at[0] == '/' || request->path.at[0] == '*');
    /* Never two ways to tell the body's end. */
    CHECK(dp_request_field(request, "Content-Length", &value) +
              dp_request_field(request, "Transfer-Encoding", &value) <=
          1);
    CHECK(!request->has_body || !request->keep_alive);
    if (dp_query_get(request->query, "id", out, sizeof(out)))
        CHECK(strlen(out) < sizeof(out));
    if (dp_path_decode(request->path, out, sizeof(out)))
        CHECK(dp_utf8_valid((const uint8_t *)out, strlen(out)));
    (void)dp_request_field_has(request, "Connection", "upgrade");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dp_request whole = {0};
    dp_request pieces = {0};
    size_t left_whole, left_pieces;
    int a = parse(&whole, data, size, size + 1, &left_whole);
    int b = parse(&pieces, data, size, 1, &left_pieces);
    CHECK(a == b && left_whole == left_pieces && whole.len == pieces.len);
    if (a == DP_OK)
        check(&whole);
    dp_request_clear(&whole);
    dp_request_clear(&pieces);
    return 0;
}
