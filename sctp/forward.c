#include "forward.h"

#include "base/mem.h"
#include "base/wr.h"
#include "chunk.h"
#include "interleaving.h"

#include <string.h>

/* RFC 3758 §3.2, FORWARD-TSN:
 *
 *     0                   1                   2                   3
 *     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *    |   Type = 192  |  Flags = 0x00 |        Length = Variable      |
 *    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *    |                      New Cumulative TSN                       |
 *    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *    |         Stream-1              |       Stream Sequence-1       |  the largest SSN that is skipped;
 *    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+  ordered messages only
 *    /                                                               /
 *
 * RFC 8260 §2.3.1, I-FORWARD-TSN (type 194) has 8 bytes for each stream, 16 bits each: stream, U flag; and the MID.
 *
 * RFC 9260 §3.3.1, the beginning of DATA: type 0, flags (I, U, B, E from 8 to 1), length, then TSN, stream, SSN, PPID.
 * RFC 8260 §2.1, I-DATA (type 64): the same flags, then TSN, stream, 16 bits, MID, PPID in the first fragment, else FSN.
 */

#define INIT_HEADER 20u
#define WINDOW      4096u /* TSNs above the cumulative one: usrsctp's SCTP_MAPPING_ARRAY has as many bits */
#define RING_MAX    8192u /* usrsctp delays SACKs, so our cumulative TSN is up to two packets behind its own */
#define RING_MIN    64u
#define PACKET_MAX  8192u /* of made chunks: each packet is answered by a SACK */
#define MAX_PASSES  16
#define MANY_BLOCKS 100u /* a SACK with so many gap blocks may lack some: an MTU of 512 has room for 120 */

enum {
    PARAMETER_EXTENSIONS = 0x8008,
    PARAMETER_FORWARD_TSN = 0xc000,
};

enum {
    LAST = 1, /* these four as on the wire */
    FIRST = 2,
    UNORDERED = 4,
    IMMEDIATE = 8,
    PRESENT = 16,
    ACCEPTED = 32, /* usrsctp says so */
    MADE = 64,
    FREE = 128, /* made, belongs to no message yet */
};

static bool ssn_before(uint16_t a, uint16_t b) { return (int16_t)(a - b) < 0; }

void dp_forward_init(dp_forward *f, uint16_t streams, bool offers)
{
    memset(f, 0, sizeof *f);
    f->streams = streams;
    f->offers = offers;
}

void dp_forward_clear(dp_forward *f)
{
    dp_free(f->chunks);
    dp_free(f->next_ssn);
    dp_free(f->abandoned);
    dp_free(f->reset_streams);
    dp_free(f->copy);
    dp_forward_init(f, f->streams, f->offers);
}

void dp_forward_shrink(dp_forward *f)
{
    if (f->count > 0)
        return;
    dp_free(f->chunks);
    dp_free(f->copy);
    f->chunks = NULL;
    f->copy = NULL;
    f->capacity = f->copy_capacity = 0;
}

/* ---- what has come ------------------------------------------------------------------------------ */

static dp_forward_chunk *slot(const dp_forward *f, uint32_t tsn)
{
    return &f->chunks[tsn & (f->capacity - 1)];
}

/* NULL: nothing is known of it. */
static dp_forward_chunk *find(const dp_forward *f, uint32_t tsn)
{
    uint32_t distance = tsn - f->cumulative;
    if (distance == 0 || distance > f->capacity || (slot(f, tsn)->flags & PRESENT) == 0)
        return NULL;
    return slot(f, tsn);
}

static bool reserve(dp_forward *f, uint32_t distance)
{
    if (distance <= f->capacity)
        return true;
    size_t capacity = f->capacity == 0 ? RING_MIN : f->capacity;
    while (capacity < distance)
        capacity *= 2;
    dp_forward_chunk *chunks = (dp_forward_chunk *)dp_calloc(capacity, sizeof *chunks);
    if (chunks == NULL)
        return false;
    for (uint32_t i = 1; i <= f->capacity; i++)
        chunks[(f->cumulative + i) & (capacity - 1)] = *slot(f, f->cumulative + i);
    dp_free(f->chunks);
    f->chunks = chunks;
    f->capacity = capacity;
    return true;
}

static void forget(dp_forward *f, uint32_t tsn)
{
    slot(f, tsn)->flags = 0;
    f->count--;
}

static void put(dp_forward *f, uint32_t tsn, unsigned flags, uint16_t stream, uint16_t ssn)
{
    dp_forward_chunk *chunk = slot(f, tsn);
    if ((chunk->flags & PRESENT) == 0)
        f->count++;
    *chunk = (dp_forward_chunk){stream, ssn, (uint8_t)(flags | PRESENT)};
}

/* The message after its next chunk. */
static void follow(dp_forward_message *message, const dp_forward_chunk *chunk, uint32_t tsn)
{
    if ((chunk->flags & FIRST) != 0 || !message->open) {
        message->made = (chunk->flags & MADE) != 0;
        message->unordered = (chunk->flags & UNORDERED) != 0;
        message->stream = chunk->stream;
        message->ssn = chunk->ssn;
        message->tsn = tsn;
    }
    message->open = (chunk->flags & LAST) == 0;
}

static bool same_message(const dp_forward_message *message, uint16_t stream, bool unordered, uint16_t ssn)
{
    return message->open && message->stream == stream && message->unordered == unordered &&
           (unordered || message->ssn == ssn);
}

static bool resets(const dp_forward *f, uint16_t stream)
{
    if (!f->reset_pending)
        return false;
    for (size_t i = 0; i < f->reset_count; i++)
        if (f->reset_streams[i] == stream)
            return true;
    return f->reset_count == 0;
}

static void reset_done(dp_forward *f)
{
    if (f->reset_count == 0 && f->next_capacity > 0)
        memset(f->next_ssn, 0, f->next_capacity * sizeof *f->next_ssn);
    for (size_t i = 0; i < f->reset_count; i++)
        if (f->reset_streams[i] < f->next_capacity)
            f->next_ssn[f->reset_streams[i]] = 0;
    dp_free(f->reset_streams);
    f->reset_streams = NULL;
    f->reset_count = 0;
    f->reset_pending = false;
}

static bool reserve_stream(dp_forward *f, uint16_t stream)
{
    size_t had = f->next_capacity;
    if (stream < had || stream >= f->streams)
        return true;
    if (dp_grow((void **)&f->next_ssn, &f->next_capacity, stream + 1u, UINT16_MAX, sizeof *f->next_ssn) !=
        DP_OK)
        return false;
    memset(f->next_ssn + had, 0, (f->next_capacity - had) * sizeof *f->next_ssn);
    return true;
}

/* Made chunks take SSNs early: there may be lower ones behind them. */
static void pass_ssn(uint16_t *next, uint16_t ssn)
{
    if (!ssn_before(ssn, *next))
        *next = (uint16_t)(ssn + 1);
}

/* usrsctp has acknowledged the next TSN. */
static void advance(dp_forward *f)
{
    uint32_t tsn = f->cumulative + 1;
    dp_forward_chunk *chunk = find(f, tsn);
    if (chunk != NULL) {
        if ((chunk->flags & (FIRST | UNORDERED)) == FIRST && chunk->stream < f->next_capacity)
            pass_ssn(&f->next_ssn[chunk->stream], chunk->ssn);
        follow(&f->edge, chunk, tsn);
        f->edge_made = (chunk->flags & MADE) != 0;
        forget(f, tsn);
    } else {
        f->edge.open = f->edge_made = false;
    }
    f->cumulative = tsn;
    if (f->reset_pending && tsn == f->reset_tsn)
        reset_done(f);
}

/* RFC 9260 §3.3.4. */
static void read_sack(dp_forward *f, dp_rd *body)
{
    uint32_t cumulative = dp_rd_u32(body);
    dp_rd_skip(body, 4);
    size_t blocks = dp_rd_u16(body);
    dp_rd_skip(body, 2);
    if (body->error || dp_tsn_before(cumulative, f->cumulative))
        return;
    f->synced = true;
    if (cumulative - f->cumulative > RING_MAX)
        return;
    while (f->supported && f->cumulative != cumulative)
        advance(f);
    f->cumulative = cumulative;
    if (f->reset_pending && !dp_tsn_before(cumulative, f->reset_tsn))
        reset_done(f);
    if (!f->probing)
        return;
    f->probing = false;
    f->known = cumulative;
    f->truncated = blocks >= MANY_BLOCKS;
    for (; blocks > 0; blocks--) {
        uint16_t start = dp_rd_u16(body);
        uint16_t end = dp_rd_u16(body);
        if (body->error)
            return;
        for (uint32_t i = start; i <= end; i++) {
            dp_forward_chunk *chunk = find(f, cumulative + i);
            if (chunk != NULL)
                chunk->flags |= ACCEPTED;
        }
        f->known = cumulative + end;
    }
}

bool dp_forward_output(dp_forward *f, const uint8_t *packet, size_t len)
{
    dp_rd chunks = dp_chunks(packet, len);
    dp_chunk chunk = {.type = DP_CHUNK_DATA};
    bool asked_for = f->probing && f->quiet;
    /* Control chunks go before DATA: RFC 9260 §6.10. */
    while (dp_chunk_next(&chunks, &chunk) && !dp_chunk_is_data(chunk.type)) {
        asked_for &= chunk.type == DP_CHUNK_SACK;
        if (chunk.type == DP_CHUNK_SACK)
            read_sack(f, &chunk.value);
        else if (chunk.type == DP_CHUNK_INIT)
            f->synced = false;
        else if (chunk.type == DP_CHUNK_COOKIE_ECHO || chunk.type == DP_CHUNK_COOKIE_ACK)
            f->synced = true;
    }
    return !asked_for || dp_chunk_is_data(chunk.type);
}

/* ---- what a packet says ------------------------------------------------------------------------- */

static bool lists(dp_rd types, uint8_t type) { return memchr(types.at, type, dp_rd_left(&types)) != NULL; }

/* RFC 3758 §3.3.1: a parameter of INIT, or, as pion has it, only FORWARD-TSN in the list of RFC 5061 §4.2.7. */
static void note_init(dp_forward *f, dp_rd *body)
{
    if (f->synced)
        return;
    dp_rd_skip(body, INIT_HEADER - 8);
    f->cumulative = dp_rd_u32(body) - 1;
    f->supported = f->interleaves = false;
    uint16_t type;
    dp_rd value;
    bool interleaved = false;
    while (dp_chunk_item_next(body, &type, &value)) {
        bool extensions = type == PARAMETER_EXTENSIONS;
        f->supported |= type == PARAMETER_FORWARD_TSN || (extensions && lists(value, DP_CHUNK_FORWARD_TSN));
        interleaved |= extensions && lists(value, DP_CHUNK_I_FORWARD_TSN);
        f->interleaves |= f->offers && extensions && lists(value, DP_CHUNK_I_DATA);
    }
    if (f->interleaves)
        f->supported = interleaved;
}

/* RFC 6525 §4.1. SSNs begin again at 0 once all up to the TSN has come. */
static int note_reset(dp_forward *f, dp_rd body)
{
    uint16_t type;
    dp_rd value;
    while (dp_chunk_item_next(&body, &type, &value)) {
        uint32_t request = dp_rd_u32(&value);
        dp_rd_skip(&value, 4);
        uint32_t tsn = dp_rd_u32(&value);
        if (type != DP_PARAMETER_OUTGOING_RESET || value.error ||
            (f->reset_seen && !dp_tsn_before(f->reset_request, request)))
            continue;
        size_t count = dp_rd_left(&value) / 2;
        if (count > f->streams)
            continue; /* it names one twice, or one that there is not */
        uint16_t *streams = count == 0 ? NULL : (uint16_t *)dp_alloc(count * sizeof *streams);
        if (count > 0 && streams == NULL)
            return DP_ERR_NO_MEMORY;
        for (size_t i = 0; i < count; i++)
            streams[i] = dp_rd_u16(&value);
        dp_free(f->reset_streams);
        f->reset_streams = streams;
        f->reset_count = count;
        f->reset_request = request;
        f->reset_tsn = tsn;
        f->reset_seen = f->reset_pending = true;
        if (!dp_tsn_before(f->cumulative, tsn))
            reset_done(f);
    }
    return DP_OK;
}

/* The message is behind us: what continues it comes too late. */
static bool is_past(const dp_forward *f, uint32_t tsn, uint16_t stream, uint16_t ssn)
{
    return stream < f->next_capacity && ssn_before(ssn, f->next_ssn[stream]) &&
           !same_message(&f->edge, stream, false, ssn) &&
           !(resets(f, stream) && dp_tsn_before(f->reset_tsn, tsn));
}

/* Remembers a chunk. A peer may stop its FORWARD-TSN within a message and still send the rest: usrsctp has seen that
 * message end, so the rest must look like a message of its own, one that will be dropped. flags says how, and *begins
 * that its PPID must be ours. */
static int note_data(dp_forward *f, uint8_t *flags, bool *begins, uint32_t tsn, uint16_t stream, uint16_t ssn)
{
    uint32_t distance = tsn - f->cumulative;
    if (distance == 0 || distance > RING_MAX)
        return DP_OK;
    if (!reserve(f, distance) || ((*flags & UNORDERED) == 0 && !reserve_stream(f, stream)))
        return DP_ERR_NO_MEMORY;
    const dp_forward_chunk *known = find(f, tsn);
    if (known != NULL && (known->flags & MADE) != 0)
        return DP_OK;
    if ((*flags & FIRST) == 0) {
        if ((*flags & UNORDERED) == 0 && is_past(f, tsn, stream, ssn))
            *flags |= UNORDERED;
        *begins = distance == 1 && f->edge_made && !f->edge.open;
        if (*begins)
            *flags |= FIRST;
    }
    put(f, tsn, *flags & (LAST | FIRST | UNORDERED), stream, ssn);
    return DP_OK;
}

/* ---- making up for what is given up ------------------------------------------------------------- */

typedef struct stream_plan {
    uint16_t next;  /* the SSN that usrsctp waits for, as far as we have got */
    uint16_t limit; /* it has this one already */
    bool limited;
} stream_plan;

typedef struct plan {
    dp_forward *f;
    uint32_t to; /* the new cumulative TSN */
    dp_forward_message at;
    stream_plan *streams;
    uint32_t free_from, free_to; /* where there may be FREE chunks */
} plan;

/* What usrsctp has. */
static const dp_forward_chunk *taken(const dp_forward *f, uint32_t tsn)
{
    const dp_forward_chunk *chunk = find(f, tsn);
    if (chunk == NULL || (chunk->flags & ACCEPTED) != 0)
        return chunk;
    return f->truncated && dp_tsn_before(f->known, tsn) && (chunk->flags & MADE) == 0 ? chunk : NULL;
}

static int abandon(dp_forward *f, const dp_forward_message *message)
{
    if (message->made)
        return DP_OK;
    for (size_t i = 0; i < f->abandoned_count; i++)
        if (f->abandoned[i] == message->tsn)
            return DP_OK;
    int error = dp_grow((void **)&f->abandoned, &f->abandoned_capacity, f->abandoned_count + 1, WINDOW,
                        sizeof *f->abandoned);
    if (error == DP_OK)
        f->abandoned[f->abandoned_count++] = message->tsn;
    return error;
}

/* usrsctp delivers an ordered message only after all before it on its stream. Each that is wholly missing had at least
 * one TSN, and it does not matter to usrsctp which one it gets: SSNs up to this one each take the next free chunk. */
static void skip_messages(plan *p, uint16_t stream, uint16_t ssn)
{
    if (stream >= p->f->next_capacity)
        return;
    stream_plan *s = &p->streams[stream];
    while (ssn_before(s->next, ssn) && p->free_from != p->free_to) {
        uint32_t tsn = p->free_from++;
        if ((slot(p->f, tsn)->flags & (FREE | ACCEPTED)) == FREE)
            put(p->f, tsn, MADE | FIRST | LAST, stream, s->next++);
    }
}

static void begins_message(plan *p, uint16_t stream, uint16_t ssn)
{
    skip_messages(p, stream, ssn);
    if (stream < p->f->next_capacity)
        pass_ssn(&p->streams[stream].next, ssn);
}

/* The missing chunks from first to before end. rest: what follows there continues a message. PROTOCOL: a single chunk
 * can not end one message and begin another. */
static int fill(plan *p, uint32_t first, uint32_t end, const dp_forward_chunk *rest)
{
    dp_forward *f = p->f;
    uint8_t unordered = p->at.unordered ? UNORDERED : 0;
    uint8_t rest_unordered = rest == NULL ? 0 : rest->flags & UNORDERED;
    uint32_t last = end;
    int error = p->at.open ? abandon(f, &p->at) : DP_OK;
    if (error != DP_OK)
        return error;
    if (rest != NULL && same_message(&p->at, rest->stream, rest_unordered != 0, rest->ssn) &&
        (rest_unordered == 0 || end - first == 1)) {
        for (; first != end; first++)
            put(f, first, MADE | unordered, p->at.stream, p->at.ssn);
        return DP_OK;
    }
    if (end - first < (p->at.open ? 1u : 0u) + (rest != NULL ? 1u : 0u))
        return DP_ERR_PROTOCOL;
    if (p->at.open)
        put(f, first++, MADE | LAST | unordered, p->at.stream, p->at.ssn);
    p->at.open = false;
    if (rest != NULL)
        put(f, --last, MADE | FIRST | rest_unordered, rest->stream, rest->ssn);
    for (; first != last; first++)
        put(f, first, MADE | FREE | FIRST | LAST | UNORDERED, 0, 0);
    p->free_to = last;
    if (rest == NULL)
        return DP_OK;
    if (rest_unordered == 0)
        begins_message(p, rest->stream, rest->ssn);
    follow(&p->at, slot(f, last), last);
    return DP_OK;
}

/* A peer may stop within a message. If later chunks of it have come, usrsctp has them under its SSN, so this message must
 * go on. */
static const dp_forward_chunk *after_stop(const plan *p)
{
    const dp_forward *f = p->f;
    const dp_forward_chunk *next = NULL;
    if (!p->at.open || p->at.unordered)
        return NULL;
    for (uint32_t tsn = p->to + 1; next == NULL && tsn - f->cumulative <= f->capacity; tsn++)
        next = taken(f, tsn);
    return next != NULL && same_message(&p->at, next->stream, (next->flags & UNORDERED) != 0, next->ssn)
               ? next
               : NULL;
}

static void reset_in_plan(plan *p)
{
    const dp_forward *f = p->f;
    for (size_t i = 0; f->reset_count == 0 && i < f->next_capacity; i++)
        p->streams[i].next = 0;
    for (size_t i = 0; i < f->reset_count; i++)
        if (f->reset_streams[i] < f->next_capacity)
            p->streams[f->reset_streams[i]].next = 0;
}

static int fill_all(plan *p)
{
    dp_forward *f = p->f;
    for (uint32_t tsn = f->cumulative + 1, end; !dp_tsn_before(p->to, tsn); tsn = end) {
        const dp_forward_chunk *chunk = taken(f, tsn);
        end = tsn + 1;
        if (chunk != NULL) {
            if ((chunk->flags & (FIRST | UNORDERED)) == FIRST)
                begins_message(p, chunk->stream, chunk->ssn);
            follow(&p->at, chunk, tsn);
        } else {
            while (!dp_tsn_before(p->to, end) && taken(f, end) == NULL)
                end++;
            const dp_forward_chunk *next = taken(f, end) != NULL ? taken(f, end) : after_stop(p);
            int error = fill(p, tsn, end, next != NULL && (next->flags & FIRST) == 0 ? next : NULL);
            if (error != DP_OK)
                return error;
        }
        if (f->reset_pending && !dp_tsn_before(f->reset_tsn, tsn) && dp_tsn_before(f->reset_tsn, end))
            reset_in_plan(p);
    }
    return DP_OK;
}

/* Messages at the end of the stream are told by the list alone. A list may reach beyond the TSN (usrsctp cuts one that
 * is too long by TSN only), but never to messages that have begun to arrive beyond it. */
static void skip_listed(plan *p, dp_rd list)
{
    dp_forward *f = p->f;
    for (uint32_t tsn = p->to + 1; tsn - f->cumulative <= f->capacity; tsn++) {
        const dp_forward_chunk *chunk = taken(f, tsn);
        if (chunk == NULL || (chunk->flags & UNORDERED) != 0 || chunk->stream >= f->next_capacity)
            continue;
        stream_plan *s = &p->streams[chunk->stream];
        if (!s->limited || ssn_before(chunk->ssn, s->limit))
            s->limit = chunk->ssn;
        s->limited = true;
    }
    while (dp_rd_left(&list) >= 4) {
        uint16_t stream = dp_rd_u16(&list);
        uint16_t until = (uint16_t)(dp_rd_u16(&list) + 1);
        if (stream >= f->next_capacity)
            continue;
        const stream_plan *s = &p->streams[stream];
        skip_messages(p, stream, s->limited && ssn_before(s->limit, until) ? s->limit : until);
    }
}

static int make_chunks(dp_forward *f, uint32_t to, dp_rd list)
{
    for (dp_rd rd = list; dp_rd_left(&rd) >= 4; dp_rd_skip(&rd, 2))
        if (!reserve_stream(f, dp_rd_u16(&rd)))
            return DP_ERR_NO_MEMORY;
    if (!reserve(f, to + 1 - f->cumulative))
        return DP_ERR_NO_MEMORY;
    plan p = {f, to, f->edge, NULL, f->cumulative + 1, f->cumulative + 1};
    p.streams = (stream_plan *)dp_calloc(f->next_capacity + 1, sizeof *p.streams);
    if (p.streams == NULL)
        return DP_ERR_NO_MEMORY;
    for (size_t i = 0; i < f->next_capacity; i++)
        p.streams[i].next = f->next_ssn[i];
    int error = fill_all(&p);
    if (error == DP_OK)
        skip_listed(&p, list);
    dp_free(p.streams);
    return error;
}

/* As I-DATA a chunk has made its message alone, so all of them may have the MID 0. */
static void write_data(const dp_forward *f, dp_wr *wr, uint32_t tsn, const dp_forward_chunk *chunk)
{
    dp_wr_u8(wr, f->interleaves ? DP_CHUNK_I_DATA : DP_CHUNK_DATA);
    dp_wr_u8(wr, (chunk->flags & (LAST | FIRST | UNORDERED)) | IMMEDIATE);
    dp_wr_u16(wr, (uint16_t)(dp_chunk_data_header(f->interleaves ? DP_CHUNK_I_DATA : DP_CHUNK_DATA) + 1));
    dp_wr_u32(wr, tsn);
    dp_wr_u16(wr, chunk->stream);
    dp_wr_u16(wr, chunk->ssn);
    if (f->interleaves)
        dp_wr_u32(wr, 0);
    dp_wr_u32(wr, DP_FORWARD_PPID);
    dp_wr_zeros(wr, 4);
}

/* usrsctp refuses for lack of room only what is above all that it has: so the highest goes first, and when that is taken
 * the rest is. Half of it would be no good: SSNs do not follow the order of the peer's TSNs. */
static bool deliver_last(dp_forward *f, uint32_t to, const uint8_t *header, dp_forward_deliver *deliver,
                         void *ctx)
{
    dp_forward_chunk *chunk = find(f, to);
    if (chunk == NULL || (chunk->flags & (MADE | ACCEPTED)) != MADE)
        return true;
    uint8_t packet[DP_SCTP_COMMON_HEADER + DP_SCTP_I_DATA_HEADER + 4];
    dp_wr wr = dp_wr_init(packet, sizeof packet);
    dp_wr_bytes(&wr, header, DP_SCTP_COMMON_HEADER);
    write_data(f, &wr, to, chunk);
    f->made++;
    f->probing = true;
    f->quiet = dp_tsn_before(f->cumulative + 1, to);
    deliver(ctx, packet, wr.len);
    f->probing = false;
    chunk = find(f, to);
    return !dp_tsn_before(f->cumulative, to) || (chunk != NULL && (chunk->flags & ACCEPTED) != 0);
}

static void deliver_made(dp_forward *f, uint32_t to, const uint8_t *header, dp_forward_deliver *deliver,
                         void *ctx)
{
    uint8_t packet[PACKET_MAX];
    dp_wr wr = dp_wr_init(packet, sizeof packet);
    dp_wr_bytes(&wr, header, DP_SCTP_COMMON_HEADER);
    for (uint32_t tsn = f->cumulative + 1; !dp_tsn_before(to, tsn); tsn++) {
        const dp_forward_chunk *chunk = find(f, tsn);
        if (chunk != NULL && (chunk->flags & (MADE | ACCEPTED)) == MADE) {
            write_data(f, &wr, tsn, chunk);
            f->made++;
        }
        if (wr.len > DP_SCTP_COMMON_HEADER &&
            (tsn == to || wr.capacity - wr.len < DP_SCTP_I_DATA_HEADER + 4)) {
            deliver(ctx, packet, wr.len);
            wr.len = DP_SCTP_COMMON_HEADER;
        }
    }
}

/* A chunk that usrsctp knows already makes it send a SACK, which says what it has: it may have refused some of what it
 * was given, for lack of room. False: there was none, the association is not up. */
static bool probe(dp_forward *f, bool quiet, const uint8_t *header, dp_forward_deliver *deliver, void *ctx)
{
    static const dp_forward_chunk known = {0, 0, FIRST | LAST};
    uint8_t packet[DP_SCTP_COMMON_HEADER + DP_SCTP_I_DATA_HEADER + 4];
    dp_wr wr = dp_wr_init(packet, sizeof packet);
    dp_wr_bytes(&wr, header, DP_SCTP_COMMON_HEADER);
    write_data(f, &wr, f->cumulative, &known);
    for (size_t i = 0; i < f->capacity; i++)
        f->chunks[i].flags &= (uint8_t)~ACCEPTED;
    f->probing = true;
    f->quiet = quiet;
    deliver(ctx, packet, wr.len);
    bool answered = !f->probing;
    f->probing = false;
    return answered;
}

static uint32_t count_missing(const dp_forward *f, uint32_t to)
{
    uint32_t missing = 0;
    for (uint32_t tsn = f->cumulative + 1; !dp_tsn_before(to, tsn); tsn++)
        missing += taken(f, tsn) == NULL;
    return missing;
}

/* Chunks that were made and not taken: the peer will ask again, or send the real ones after all. */
static void forget_made(dp_forward *f)
{
    for (uint32_t i = 1; i <= f->capacity; i++) {
        const dp_forward_chunk *chunk = find(f, f->cumulative + i);
        if (chunk != NULL && (chunk->flags & (MADE | ACCEPTED)) == MADE)
            forget(f, f->cumulative + i);
    }
}

/* Also an old FORWARD-TSN is answered by a SACK (RFC 3758 §3.6). */
static int forward(dp_forward *f, dp_rd list, const uint8_t *header, dp_forward_deliver *deliver, void *ctx)
{
    uint32_t to = dp_rd_u32(&list);
    if (list.error || (dp_tsn_before(f->cumulative, to) && to - f->cumulative > WINDOW))
        return DP_ERR_PROTOCOL;
    if (f->interleaves)
        dp_rd_skip(&list, dp_rd_left(&list)); /* it is not usrsctp that knows of messages */
    int error = DP_OK;
    uint32_t missing = WINDOW + 1;
    for (int pass = 0; pass < MAX_PASSES && error == DP_OK; pass++) {
        if ((pass > 0 || f->count > 0 || !dp_tsn_before(f->cumulative, to)) &&
            !probe(f, dp_tsn_before(f->cumulative, to), header, deliver, ctx))
            break;
        uint32_t left = count_missing(f, to);
        if (!dp_tsn_before(f->cumulative, to) || left >= missing)
            break;
        missing = left;
        error = make_chunks(f, to, list);
        if (error != DP_OK || !deliver_last(f, to, header, deliver, ctx))
            break;
        deliver_made(f, to, header, deliver, ctx);
        if (!dp_tsn_before(f->cumulative, to))
            break;
    }
    forget_made(f);
    return error;
}

/* ---- in and out --------------------------------------------------------------------------------- */

/* A packet on its way to usrsctp: in one piece, or, around a FORWARD-TSN, in several; changed only as a copy. */
typedef struct transit {
    const uint8_t *packet;
    uint8_t *copy;
    size_t len;
    size_t start; /* of what is not delivered yet */
} transit;

static bool need_copy(dp_forward *f, transit *t)
{
    if (t->copy != NULL)
        return true;
    if (dp_grow((void **)&f->copy, &f->copy_capacity, t->len, SIZE_MAX, 1) != DP_OK)
        return false;
    t->copy = f->copy;
    memcpy(t->copy, t->packet, t->len);
    return true;
}

/* What lies before the piece was delivered: its place serves for the header. */
static void deliver_piece(transit *t, size_t end, dp_forward_deliver *deliver, void *ctx)
{
    if (end == t->start)
        return;
    if (t->copy == NULL) {
        deliver(ctx, t->packet, t->len);
        return;
    }
    uint8_t *piece = t->copy + t->start - DP_SCTP_COMMON_HEADER;
    memcpy(piece, t->packet, DP_SCTP_COMMON_HEADER);
    deliver(ctx, piece, DP_SCTP_COMMON_HEADER + end - t->start);
}

/* usrsctp gives it out at once; its own flags come along. */
static int input_interleaved(dp_forward *f, transit *t, size_t at, uint8_t flags, dp_rd *body)
{
    uint32_t tsn = dp_rd_u32(body);
    uint16_t stream = dp_rd_u16(body);
    dp_rd_skip(body, 6);
    uint32_t value = dp_rd_u32(body);
    uint32_t distance = tsn - f->cumulative;
    if ((flags & FIRST) == 0 && value >= DP_INTERLEAVING_VALUE)
        return DP_ERR_LIMIT; /* the end of 16 GB of single bytes */
    if (!need_copy(f, t))
        return DP_ERR_NO_MEMORY;
    t->copy[at + 1] = (flags & IMMEDIATE) | FIRST | LAST | UNORDERED;
    dp_wr wr = dp_wr_init(t->copy + at + DP_SCTP_I_DATA_HEADER - 4, 4);
    uint32_t real = DP_INTERLEAVING_REAL | (flags & (FIRST | LAST | UNORDERED));
    dp_wr_u32(&wr, real << DP_INTERLEAVING_FLAGS_AT |
                       (value < DP_INTERLEAVING_VALUE ? value : DP_INTERLEAVING_VALUE));
    if (!f->supported || distance == 0 || distance > RING_MAX)
        return DP_OK;
    if (!reserve(f, distance))
        return DP_ERR_NO_MEMORY;
    const dp_forward_chunk *known = find(f, tsn);
    if (known == NULL || (known->flags & MADE) == 0)
        put(f, tsn, FIRST | LAST | UNORDERED, stream, 0);
    return DP_OK;
}

static int input_data(dp_forward *f, transit *t, size_t at, uint8_t flags, dp_rd *body)
{
    uint32_t tsn = dp_rd_u32(body);
    uint16_t stream = dp_rd_u16(body);
    uint16_t ssn = dp_rd_u16(body);
    uint8_t wanted = flags;
    bool begins = false;
    int error = note_data(f, &wanted, &begins, tsn, stream, ssn);
    if (error != DP_OK || wanted == flags)
        return error;
    if (!need_copy(f, t))
        return DP_ERR_NO_MEMORY;
    t->copy[at + 1] = wanted;
    dp_wr ppid = dp_wr_init(t->copy + at + 12, 4);
    if (begins)
        dp_wr_u32(&ppid, DP_FORWARD_PPID);
    return DP_OK;
}

static int input_chunks(dp_forward *f, transit *t, dp_forward_deliver *deliver, void *ctx)
{
    dp_rd chunks = dp_chunks(t->packet, t->len);
    dp_chunk chunk;
    int result = DP_OK;
    for (size_t at = DP_SCTP_COMMON_HEADER; dp_chunk_next(&chunks, &chunk);
         at = t->len - dp_rd_left(&chunks)) {
        int error = DP_OK;
        if (chunk.type == DP_CHUNK_INIT || chunk.type == DP_CHUNK_INIT_ACK)
            note_init(f, &chunk.value);
        else if (chunk.type == DP_CHUNK_DATA && f->supported)
            error = input_data(f, t, at, chunk.flags, &chunk.value);
        else if (chunk.type == DP_CHUNK_I_DATA)
            error = input_interleaved(f, t, at, chunk.flags, &chunk.value);
        else if (chunk.type == DP_CHUNK_RE_CONFIG)
            error = note_reset(f, chunk.value);
        if (error != DP_OK)
            return error;
        if (!dp_chunk_is_forward(chunk.type))
            continue;
        if (t->start > DP_SCTP_COMMON_HEADER)
            return DP_ERR_PROTOCOL; /* a second one: 8 bytes each, and work for 4,096 chunks */
        if (!need_copy(f, t))
            return DP_ERR_NO_MEMORY;
        deliver_piece(t, at, deliver, ctx);
        t->start = t->len - dp_rd_left(&chunks);
        result = f->supported ? forward(f, chunk.value, t->packet, deliver, ctx) : DP_ERR_UNSUPPORTED;
    }
    if (chunks.error)
        return DP_ERR_MALFORMED;
    deliver_piece(t, t->len, deliver, ctx);
    return result;
}

int dp_forward_input(dp_forward *f, const uint8_t *packet, size_t len, dp_forward_deliver *deliver, void *ctx)
{
    transit t = {packet, NULL, len, DP_SCTP_COMMON_HEADER};
    return input_chunks(f, &t, deliver, ctx);
}

bool dp_forward_drops(dp_forward *f, uint32_t tsn, uint32_t ppid, bool complete)
{
    for (size_t i = 0; i < f->abandoned_count; i++) {
        if (f->abandoned[i] != tsn)
            continue;
        if (complete)
            f->abandoned[i] = f->abandoned[--f->abandoned_count];
        return true;
    }
    return ppid == DP_FORWARD_PPID;
}
