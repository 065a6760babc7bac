/* Any bytes as a message of the server -> no crash. What parses is written as PeerJS would, and parses again
 * to the same. */
#include "signaling/messages.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

static bool same(const char *a, const char *b) { return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0; }

/* The server turns dst into src: here the written message gets one by hand. */
static void write_again(dp_wr *wr, const dp_message *m)
{
    dp_signaling_offer offer = {m->connection_id, m->sdp,      m->label,  m->serialization,
                                m->metadata,      m->reliable, m->restart};
    if (m->type == MESSAGE_OFFER)
        dp_message_write_offer(wr, m->src, &offer);
    else if (m->type == MESSAGE_ANSWER)
        dp_message_write_answer(wr, m->src, m->connection_id, m->sdp, m->restart);
    else
        dp_message_write_candidate(wr, m->src, m->connection_id, m->candidate, m->mid, m->mline_index,
                                   m->src);
    if (!wr->error)
        wr->len--; /* the closing brace */
    dp_wr_text(wr, ",\"src\":\"x\"}");
}

static void round_trip(const dp_message *m)
{
    static uint8_t text[DP_SIGNALING_TEXT_MAX];
    dp_message again;
    const char *reason;
    dp_wr wr = dp_wr_init(text, sizeof(text));
    write_again(&wr, m);
    uint8_t small[64];
    dp_wr short_wr = dp_wr_init(small, sizeof(small));
    write_again(&short_wr, m);
    CHECK(short_wr.error); /* no message is as short as that */
    if (wr.error)
        return;
    CHECK(dp_message_parse(&again, &reason, (const char *)text, wr.len) == DP_OK);
    CHECK(again.type == m->type && same(again.connection_id, m->connection_id) && same(again.sdp, m->sdp));
    CHECK(same(again.label, m->label) && same(again.serialization, m->serialization) &&
          again.reliable == m->reliable);
    CHECK(same(again.candidate, m->candidate) && same(again.mid, m->mid) &&
          again.mline_index == m->mline_index);
    CHECK(m->type == MESSAGE_CANDIDATE || (again.restart == m->restart && again.knows_restart));
    CHECK(same(again.metadata, m->metadata));
    dp_message_clear(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dp_message message;
    const char *reason = NULL;
    int error = dp_message_parse(&message, &reason, (const char *)data, size);
    if (error != DP_OK) {
        CHECK(error == DP_ERR_NO_MEMORY || reason != NULL);
        return 0;
    }
    if (message.type >= MESSAGE_LEAVE)
        CHECK(message.src != NULL && message.src[0] != '\0');
    if (message.type >= MESSAGE_OFFER)
        round_trip(&message);
    dp_message_clear(&message);
    return 0;
}
