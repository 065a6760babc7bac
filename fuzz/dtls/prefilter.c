/* Records of a handshake through the prefilter and the ClientHello reassembler: what it joins is, byte for byte, what
 * all fragments since it began say.
 * Input: a byte (bit 0: role; bit 1: which of these), then datagrams: u8 time step in 100 ms, u16 length, bytes; or a
 * ClientHello, u16 length, and how it is cut: u8 time step in 100 ms, u8 (bit 0: another message of that length;
 * bit 1: one byte is wrong), u16 offset, u16 length. */
#include "dtls/prefilter.h"

#include <stdlib.h>
#include <string.h>

#include "base/wr.h"
#include "dtls/reassembly.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

/* Every fragment since the reassembler began its message. */
#define FRAGMENTS_MAX 512
typedef struct model {
    dp_time first;
    uint32_t length;
    uint16_t message_seq;
    size_t count;
    struct {
        uint32_t offset;
        size_t len;
        uint8_t *bytes;
    } fragments[FRAGMENTS_MAX];
} model;

static void forget(model *m)
{
    while (m->count > 0)
        free(m->fragments[--m->count].bytes);
}

static void note(model *m, dp_time now, const dp_fragment *fragment)
{
    if (m->count > 0 && (m->length != fragment->length || m->message_seq != fragment->message_seq ||
                         now - m->first > DP_REASSEMBLY_TIMEOUT || m->count == FRAGMENTS_MAX))
        forget(m);
    if (m->count == 0) {
        m->first = now;
        m->length = fragment->length;
        m->message_seq = fragment->message_seq;
    }
    uint8_t *copy = malloc(fragment->body_len + 1);
    CHECK(copy != NULL);
    memcpy(copy, fragment->body, fragment->body_len);
    m->fragments[m->count].offset = fragment->offset;
    m->fragments[m->count].len = fragment->body_len;
    m->fragments[m->count++].bytes = copy;
}

/* Writes the fragments one over the other. False if two of them contradict each other. */
static bool join(const model *m, uint8_t *body, bool *whole)
{
    static bool have[DP_CLIENT_HELLO_MAX];
    size_t covered = 0;
    memset(have, 0, sizeof have);
    for (size_t i = 0; i < m->count; i++) {
        for (size_t k = 0; k < m->fragments[i].len; k++) {
            size_t at = m->fragments[i].offset + k;
            if (have[at] && body[at] != m->fragments[i].bytes[k])
                return false;
            covered += !have[at];
            have[at] = true;
            body[at] = m->fragments[i].bytes[k];
        }
    }
    *whole = covered == m->length;
    return true;
}

/* What the reassembler hands on has to pass the prefilter again, as one complete message. */
static void check_joined(const uint8_t *joined, size_t len, const uint8_t *expected, size_t expected_len)
{
    dp_rd rd = dp_rd_init(joined, len);
    dp_record record;
    dp_fragment fragment;
    CHECK(dp_record_read(&record, &rd));
    CHECK(dp_rd_left(&rd) == 0);
    CHECK(dp_prefilter(&record, DP_DTLS_SERVER) == DP_VERDICT_CLIENT_HELLO);
    rd = dp_rd_init(record.body, record.length);
    CHECK(dp_fragment_read(&fragment, &rd));
    CHECK(dp_rd_left(&rd) == 0);
    CHECK(fragment.offset == 0 && fragment.body_len == fragment.length);
    CHECK(fragment.length == expected_len && memcmp(fragment.body, expected, expected_len) == 0);
}

static void add(dp_reassembly *reassembly, model *m, dp_time now, const dp_record *record,
                const dp_fragment *fragment)
{
    static uint8_t body[DP_CLIENT_HELLO_MAX];
    const uint8_t *joined = NULL;
    size_t joined_len = 0;
    bool whole = false;
    dp_reassembly_result result = dp_reassembly_add(reassembly, &joined, &joined_len, now, record, fragment);
    if (fragment->length == 0 || fragment->length > DP_CLIENT_HELLO_MAX) {
        CHECK(result == DP_REASSEMBLY_DROPPED);
        return;
    }
    note(m, now, fragment);
    bool consistent = join(m, body, &whole);
    CHECK((result == DP_REASSEMBLY_DROPPED) == !consistent);
    CHECK((result == DP_REASSEMBLY_COMPLETE) == (consistent && whole));
    if (result == DP_REASSEMBLY_COMPLETE)
        check_joined(joined, joined_len, body, m->length);
    if (result != DP_REASSEMBLY_MORE)
        forget(m);
}

static void feed(dp_reassembly *reassembly, model *m, dp_dtls_role role, dp_time now, const uint8_t *datagram,
                 size_t len)
{
    uint8_t *exact = malloc(len + 1); /* its own block, so that the sanitizer sees each byte too far */
    CHECK(exact != NULL);
    memcpy(exact + 1, datagram, len);
    dp_rd rd = dp_rd_init(exact + 1, len);
    dp_record record;
    while (dp_rd_left(&rd) > 0 && dp_record_read(&record, &rd)) {
        if (dp_prefilter(&record, role) != DP_VERDICT_CLIENT_HELLO)
            continue;
        CHECK(role == DP_DTLS_SERVER && record.epoch == 0);
        dp_rd body = dp_rd_init(record.body, record.length);
        dp_fragment fragment;
        while (dp_rd_left(&body) > 0 && dp_fragment_read(&fragment, &body))
            add(reassembly, m, now, &record, &fragment);
    }
    free(exact);
}

static size_t write_fragment(uint8_t *out, size_t capacity, const uint8_t *message, uint32_t length,
                             uint32_t offset, uint32_t len)
{
    dp_wr wr = dp_wr_init(out, capacity);
    size_t total = 0;
    dp_wr_u8(&wr, DP_RECORD_HANDSHAKE);
    dp_wr_u16(&wr, DP_RECORD_VERSION);
    dp_wr_u16(&wr, 0);
    dp_wr_u48(&wr, 7);
    dp_wr_u16(&wr, (uint16_t)(DP_HANDSHAKE_HEADER + len));
    dp_wr_u8(&wr, DP_HANDSHAKE_CLIENT_HELLO);
    dp_wr_u24(&wr, length);
    dp_wr_u16(&wr, 0);
    dp_wr_u24(&wr, offset);
    dp_wr_u24(&wr, len);
    dp_wr_bytes(&wr, message + offset, len);
    CHECK(dp_wr_finish(&wr, &total) == DP_OK);
    return total;
}

static void cut(dp_reassembly *reassembly, model *m, dp_dtls_role role, dp_rd *rd)
{
    static uint8_t messages[2][DP_CLIENT_HELLO_MAX];
    uint8_t datagram[DP_RECORD_HEADER + DP_HANDSHAKE_HEADER + DP_CLIENT_HELLO_MAX];
    uint32_t length = 1 + dp_rd_u16(rd) % DP_CLIENT_HELLO_MAX;
    dp_time now = 0;
    for (uint32_t i = 0; i < length; i++) {
        messages[0][i] = (uint8_t)(i * 31 + 7);
        messages[1][i] = (uint8_t)(i % 100 == 99 ? i : i * 31 + 7); /* nearly the same */
    }
    for (int i = 0; i < 256 && dp_rd_left(rd) > 0; i++) {
        now += DP_MS(100) * dp_rd_u8(rd);
        unsigned flags = dp_rd_u8(rd);
        uint32_t offset = dp_rd_u16(rd) % length;
        uint32_t len = 1 + dp_rd_u16(rd) % (length - offset);
        size_t total = write_fragment(datagram, sizeof datagram, messages[flags & 1], length, offset, len);
        if ((flags & 2) != 0)
            datagram[total - 1] ^= 1;
        feed(reassembly, m, role, now, datagram, total);
    }
}

static void datagrams(dp_reassembly *reassembly, model *m, dp_dtls_role role, dp_rd *rd)
{
    dp_time now = 0;
    while (dp_rd_left(rd) > 0) {
        now += DP_MS(100) * dp_rd_u8(rd);
        size_t len = dp_rd_u16(rd);
        if (len > dp_rd_left(rd))
            len = dp_rd_left(rd);
        const uint8_t *bytes = dp_rd_bytes(rd, len);
        if (bytes == NULL)
            break;
        feed(reassembly, m, role, now, bytes, len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static model m;
    dp_rd rd = dp_rd_init(data, size);
    unsigned flags = dp_rd_u8(&rd);
    dp_dtls_role role = flags & 1 ? DP_DTLS_SERVER : DP_DTLS_CLIENT;
    dp_reassembly reassembly = {NULL};
    if ((flags & 2) != 0)
        cut(&reassembly, &m, role, &rd);
    else
        datagrams(&reassembly, &m, role, &rd);
    forget(&m);
    dp_reassembly_clear(&reassembly);
    return 0;
}
