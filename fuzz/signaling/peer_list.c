/* Any bytes as the answer with the list of peers, cut as the first byte says: what comes out is the same however it is cut. */
#include <datapeer/signaling.h>

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static int zeros(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    memset(out, 0, len);
    return DP_OK;
}

static dp_peer_list *answer(int *error, const uint8_t *data, size_t size, size_t piece)
{
    static const dp_random random = {zeros, NULL};
    dp_server_url server;
    dp_peer_list *list;
    check(dp_server_url_parse(&server, "ws://example.org/") == DP_OK);
    check(dp_peer_list_new(&list, &server, "peerjs", &random) == DP_OK);
    *error = DP_ERR_WOULD_BLOCK;
    for (size_t at = 0; at < size && *error == DP_ERR_WOULD_BLOCK; at += piece)
        *error = dp_peer_list_input(list, data + at, size - at < piece ? size - at : piece);
    if (*error == DP_ERR_WOULD_BLOCK)
        *error = dp_peer_list_end(list);
    check(*error != DP_ERR_WOULD_BLOCK);
    return list;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int error, error_cut;
    size_t count, count_cut;
    if (size < 1)
        return 0;
    dp_peer_list *whole = answer(&error, data + 1, size - 1, size);
    dp_peer_list *cut = answer(&error_cut, data + 1, size - 1, (size_t)data[0] % 64 + 1);
    check(error == error_cut);
    const char *const *ids = dp_peer_list_ids(whole, &count);
    const char *const *ids_cut = dp_peer_list_ids(cut, &count_cut);
    check(count == count_cut && (error == DP_OK || count == 0));
    for (size_t i = 0; i < count; i++)
        check(strcmp(ids[i], ids_cut[i]) == 0 && ids[i][0] != '\0');
    dp_peer_list_free(whole);
    dp_peer_list_free(cut);
    return 0;
}
