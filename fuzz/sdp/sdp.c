/* Any text -> no crash, and an error has a line within the text. What parses can be written, into short
 * buffers only with an error, and reads back as the same. */
#include <datapeer/sdp.h>

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

static void check_equal(const dp_sdp *a, const dp_sdp *b)
{
    CHECK(a->session_id == b->session_id && a->session_version == b->session_version);
    CHECK(strcmp(a->ufrag, b->ufrag) == 0 && strcmp(a->pwd, b->pwd) == 0);
    CHECK(a->ice_lite == b->ice_lite && a->trickle == b->trickle && a->unbundled == b->unbundled);
    CHECK(a->end_of_candidates == b->end_of_candidates && a->setup == b->setup);
    CHECK(a->fingerprint_count == b->fingerprint_count);
    for (size_t i = 0; i < a->fingerprint_count; i++)
        CHECK(memcmp(&a->fingerprints[i], &b->fingerprints[i], sizeof(a->fingerprints[i])) == 0);
    CHECK(a->sctp_port == b->sctp_port && a->max_message_size == b->max_message_size);
    CHECK(a->media_count == b->media_count && a->data_index == b->data_index);
    for (size_t i = 0; i < a->media_count; i++) {
        const dp_sdp_media *x = &a->media[i], *y = &b->media[i];
        CHECK(strcmp(x->kind, y->kind) == 0 && strcmp(x->protocol, y->protocol) == 0 &&
              strcmp(x->mid, y->mid) == 0);
        CHECK(y->rejected == (i != a->data_index));
        CHECK(i == a->data_index || strcmp(x->format, y->format) == 0);
    }
    CHECK(a->candidate_count == b->candidate_count);
    for (size_t i = 0; i < a->candidate_count; i++)
        CHECK(a->candidates[i].len == b->candidates[i].len &&
              memcmp(a->candidates[i].at, b->candidates[i].at, a->candidates[i].len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static dp_sdp sdp, again;
    static char text[2 * DP_SDP_TEXT_MAX];
    dp_sdp_error error;
    size_t len, unused;
    if (dp_sdp_parse(&sdp, &error, (const char *)data, size) != DP_OK) {
        CHECK(error.line <= size + 1 && error.message[0] != '\0' &&
              memchr(error.message, '\0', sizeof(error.message)));
        return 0;
    }
    CHECK(dp_sdp_write(&sdp, text, sizeof(text), &len) == DP_OK);
    CHECK(len < sizeof(text) && text[len] == '\0');
    char *small = malloc(len);
    if (small != NULL)
        CHECK(dp_sdp_write(&sdp, small, len, &unused) == DP_ERR_NO_SPACE);
    free(small);
    if (len > DP_SDP_TEXT_MAX)
        return 0;
    CHECK(dp_sdp_parse(&again, &error, text, len) == DP_OK);
    check_equal(&sdp, &again);
    return 0;
}
