#include "reassembly.h"

#include "base/mem.h"
#include "base/wr.h"

#define HEADERS (DP_RECORD_HEADER + DP_HANDSHAKE_HEADER)

struct dp_reassembly_message {
    dp_time first; /* when the first fragment came */
    uint32_t length;
    uint16_t message_seq;
    bool complete; /* handed out: the next call starts afresh */
    size_t received;
    uint8_t have[DP_CLIENT_HELLO_MAX / 8]; /* a bit a byte: fragments may overlap in any way */
    uint8_t record[HEADERS + DP_CLIENT_HELLO_MAX];
};

void dp_reassembly_clear(dp_reassembly *reassembly)
{
    dp_free(reassembly->message);
    reassembly->message = NULL;
}

static bool has(const struct dp_reassembly_message *m, size_t i)
{
    return (m->have[i / 8] >> (i % 8) & 1) != 0;
}

/* Is this fragment of the message that we are collecting? */
static bool belongs(const struct dp_reassembly_message *m, dp_time now, const dp_fragment *fragment)
{
    return !m->complete && now - m->first <= DP_REASSEMBLY_TIMEOUT && m->length == fragment->length &&
           m->message_seq == fragment->message_seq;
}

/* False if a byte that we have differs from the one that came. */
static bool merge(struct dp_reassembly_message *m, const dp_fragment *fragment)
{
    uint8_t *body = m->record + HEADERS;
    for (size_t i = 0; i < fragment->body_len; i++) {
        size_t at = fragment->offset + i;
        if (has(m, at)) {
            if (body[at] != fragment->body[i])
                return false;
            continue;
        }
        body[at] = fragment->body[i];
        m->have[at / 8] = (uint8_t)(m->have[at / 8] | 1u << (at % 8));
        m->received++;
    }
    return true;
}

static void write_headers(struct dp_reassembly_message *m, const dp_record *record)
{
    dp_wr wr = dp_wr_init(m->record, HEADERS);
    dp_wr_u8(&wr, DP_RECORD_HANDSHAKE);
    dp_wr_u16(&wr, record->version);
    dp_wr_u16(&wr, 0);
    dp_wr_u48(&wr, record->sequence);
    dp_wr_u16(&wr, (uint16_t)(DP_HANDSHAKE_HEADER + m->length));
    dp_wr_u8(&wr, DP_HANDSHAKE_CLIENT_HELLO);
    dp_wr_u24(&wr, m->length);
    dp_wr_u16(&wr, m->message_seq);
    dp_wr_u24(&wr, 0);
    dp_wr_u24(&wr, m->length);
}

dp_reassembly_result dp_reassembly_add(dp_reassembly *reassembly, const uint8_t **out, size_t *out_len,
                                       dp_time now, const dp_record *record, const dp_fragment *fragment)
{
    struct dp_reassembly_message *m = reassembly->message;
    if (fragment->length == 0 || fragment->length > DP_CLIENT_HELLO_MAX)
        return DP_REASSEMBLY_DROPPED;
    if (m == NULL) {
        m = reassembly->message = dp_calloc(1, sizeof *m);
        if (m == NULL)
            return DP_REASSEMBLY_DROPPED;
        m->complete = true;
    }
    if (!belongs(m, now, fragment)) {
        memset(m->have, 0, sizeof m->have);
        m->first = now;
        m->length = fragment->length;
        m->message_seq = fragment->message_seq;
        m->complete = false;
        m->received = 0;
    }
    if (!merge(m, fragment)) {
        /* One of the two is forged and nobody can tell which: forget both, the client will repeat its
         * ClientHello. */
        dp_reassembly_clear(reassembly);
        return DP_REASSEMBLY_DROPPED;
    }
    if (m->received < m->length)
        return DP_REASSEMBLY_MORE;
    write_headers(m, record);
    m->complete = true;
    *out = m->record;
    *out_len = HEADERS + m->length;
    return DP_REASSEMBLY_COMPLETE;
}
