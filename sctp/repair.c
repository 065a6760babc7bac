#include "repair.h"

#include "base/mem.h"
#include "base/wr.h"
#include "chunk.h"

#include <string.h>

#define REORDER_LEAST 3u /* packets: RFC 9260 §7.2.4 */
#define REORDER_MOST  96u
#define PACKET_MAX    UINT16_MAX
#define FIRST_TRIP    DP_MS(500)
#define LONE_DELAY                                                                                           \
    DP_MS(200) /* RFC 9260 §6.2: a SACK may be so late if there is no second packet, nor a gap */
#define TIMER_LEAST   DP_MS(10)
#define TIMER_MOST    DP_SECONDS(5)
#define TRIES         10u            /* as usrsctp's Association.Max.Retrans */
#define PATIENCE      DP_SECONDS(35) /* about what that comes to there: our first timers are shorter */
#define CLOSED_WINDOW 1500u          /* bytes: room for no chunk */
#define CREDIT_FIRST  64u            /* chunks: of the first window, of which nothing has arrived yet */
#define CREDIT_CHUNK  2u             /* for each that arrives: enough for a path that loses 66 % */
#define CREDIT_MOST   4096u          /* about what can be under way */

void dp_repair_init(dp_repair *r, size_t bytes_max)
{
    memset(r, 0, sizeof *r);
    dp_copies_init(&r->copies, bytes_max);
    dp_abandon_init(&r->abandon);
    r->reorder = REORDER_LEAST;
    r->least = UINT64_MAX;
    r->smoothed = FIRST_TRIP;
    r->verdict = DP_TIME_NEVER;
    r->credit = CREDIT_FIRST;
}

void dp_repair_clear(dp_repair *r)
{
    dp_copies_clear(&r->copies);
    dp_abandon_clear(&r->abandon);
    dp_free(r->limited);
    dp_free(r->shown);
    dp_free(r->packet);
    dp_repair_init(r, r->copies.bytes_max);
}

void dp_repair_shrink(dp_repair *r)
{
    if (r->sent_tsn != r->copies.acked)
        return;
    dp_copies_clear(&r->copies);
    dp_free(r->shown);
    dp_free(r->packet);
    r->shown = r->packet = NULL;
    r->shown_capacity = r->packet_capacity = 0;
}

int dp_repair_limit(dp_repair *r, uint16_t stream)
{
    size_t had = r->limited_capacity;
    if (stream / 8u >= had) {
        int error = dp_grow((void **)&r->limited, &r->limited_capacity, stream / 8u + 1, UINT16_MAX, 1);
        if (error != DP_OK)
            return error;
        memset(r->limited + had, 0, r->limited_capacity - had);
    }
    r->limited[stream / 8] |= (uint8_t)(1u << stream % 8);
    return DP_OK;
}

static bool is_limited(const dp_repair *r, uint16_t stream)
{
    return stream / 8u < r->limited_capacity && (r->limited[stream / 8] >> stream % 8 & 1) != 0;
}

static bool reserve(uint8_t **packet, size_t *capacity, size_t len)
{
    return dp_grow((void **)packet, capacity, len, PACKET_MAX, 1) == DP_OK;
}

/* ---- lists --------------------------------------------------------------------------------------- */

static dp_copy *find(const dp_repair *r, uint32_t tsn) { return dp_copies_find(&r->copies, tsn); }

static void append(dp_repair *r, dp_repair_list *list, uint32_t tsn)
{
    find(r, tsn)->prev = list->tail;
    if (list->count > 0)
        find(r, list->tail)->next = tsn;
    else
        list->head = tsn;
    list->tail = tsn;
    list->count++;
}

static void prepend(dp_repair *r, dp_repair_list *list, uint32_t tsn)
{
    find(r, tsn)->next = list->head;
    if (list->count > 0)
        find(r, list->head)->prev = tsn;
    else
        list->tail = tsn;
    list->head = tsn;
    list->count++;
}

static void take_out(dp_repair *r, dp_repair_list *list, uint32_t tsn)
{
    const dp_copy *copy = find(r, tsn);
    if (tsn == list->head)
        list->head = copy->next;
    else
        find(r, copy->prev)->next = copy->next;
    if (tsn == list->tail)
        list->tail = copy->prev;
    else
        find(r, copy->next)->prev = copy->prev;
    list->count--;
}

static bool is_ownable(const dp_copy *copy) { return copy->len > 0 && (copy->flags & DP_COPY_LIMITED) == 0; }

/* In a list are those that the peer lacks and that are for us to send again. */
static bool is_listed(const dp_copy *copy)
{
    return (copy->flags & (DP_COPY_ACKED | DP_COPY_ABANDONED)) == 0 &&
           (is_ownable(copy) || (copy->flags & DP_COPY_OWNED) != 0);
}

static dp_repair_list *list_of(dp_repair *r, const dp_copy *copy)
{
    return (copy->flags & DP_COPY_LOST) != 0 ? &r->lost : &r->flight;
}

static void put_lost(dp_repair *r, uint32_t tsn)
{
    dp_copy *copy = find(r, tsn);
    r->owned += (copy->flags & DP_COPY_OWNED) == 0;
    copy->flags |= DP_COPY_OWNED | DP_COPY_LOST;
    append(r, &r->lost, tsn);
}

static void head_is_lost(dp_repair *r)
{
    uint32_t tsn = r->flight.head;
    take_out(r, &r->flight, tsn);
    put_lost(r, tsn);
}

/* It leaves once more, by our hand or usrsctp's. */
static void leaves_again(dp_repair *r, dp_time now, uint32_t tsn)
{
    dp_copy *copy = find(r, tsn);
    if (is_listed(copy))
        take_out(r, list_of(r, copy), tsn);
    copy->flags = (uint8_t)((copy->flags & ~DP_COPY_LOST) | DP_COPY_REPEATED);
    copy->order = r->order;
    copy->sent = now;
    if (copy->repeats < UINT16_MAX)
        copy->repeats++;
    if (is_listed(copy))
        append(r, &r->flight, tsn);
}

/* It is given up, and the peer lacks it. */
static bool is_skipped(const dp_copy *copy)
{
    return copy != NULL && (copy->flags & (DP_COPY_ABANDONED | DP_COPY_ACKED)) == DP_COPY_ABANDONED;
}

/* ---- giving up ----------------------------------------------------------------------------------- */

static void skip_chunk(dp_repair *r, uint32_t tsn)
{
    dp_copy *copy = find(r, tsn);
    if (is_listed(copy))
        take_out(r, list_of(r, copy), tsn);
    r->owned -= (copy->flags & DP_COPY_OWNED) != 0;
    copy->flags = (uint8_t)((copy->flags & ~(DP_COPY_OWNED | DP_COPY_LOST)) | DP_COPY_ABANDONED);
    r->abandon.skipped++;
}

/* RFC 3758 §3.5: all of its message goes, A5 also what was not sent yet. */
static void abandon(dp_repair *r, dp_limited_message *message, uint32_t number)
{
    message->abandoned = true;
    for (uint32_t tsn = message->first; !dp_tsn_before(message->last, tsn); tsn++) {
        const dp_copy *copy = find(r, tsn);
        if (copy != NULL && copy->message == number && (copy->flags & DP_COPY_SENT) != 0 &&
            (copy->flags & (DP_COPY_ACKED | DP_COPY_ABANDONED)) == 0)
            skip_chunk(r, tsn);
    }
}

/* The chunk would be sent again: true if it is given up instead. */
static bool gives_up(dp_repair *r, dp_time now, const dp_copy *copy)
{
    uint32_t number = copy->message;
    dp_limited_message *message = dp_abandon_find(&r->abandon, number);
    if (message == NULL ||
        (copy->repeats < message->retransmits && now < message->expires && !message->abandoned))
        return false;
    abandon(r, message, number);
    return true;
}

/* ---- the way out --------------------------------------------------------------------------------- */

static void hears(dp_repair *r, dp_time now)
{
    r->heard = now;
    r->tries = 0;
}

static void restart_timer(dp_repair *r, dp_time now)
{
    hears(r, now);
    r->base = now;
    r->probing = false;
}

static void leaves(dp_repair *r, dp_time now, uint32_t tsn, uint16_t stream, uint32_t message,
                   const uint8_t *chunk, size_t len)
{
    r->sent_tsn = tsn;
    if (!dp_copies_reserve(&r->copies, tsn))
        return;
    dp_copy *copy = find(r, tsn);
    *copy = (dp_copy){.sent = now, .order = r->order, .message = message, .flags = DP_COPY_SENT};
    if (is_limited(r, stream))
        copy->flags |= DP_COPY_LIMITED;
    dp_copies_put(&r->copies, tsn, chunk, len);
    if (!is_ownable(copy))
        return;
    if (r->flight.count + r->lost.count == 0)
        restart_timer(r, now);
    append(r, &r->flight, tsn);
}

static void begin(dp_repair *r, uint32_t first)
{
    r->begun = true;
    r->copies.acked = r->told = r->highest = r->sent_tsn = first - 1;
    r->abandon.forwarded = r->abandon.reached = first - 1;
    r->newest = r->order - 1;
}

/* True: it need not leave. */
static bool output_data(dp_repair *r, dp_time now, const uint8_t *packet, uint8_t *chunk, dp_rd body)
{
    size_t len = DP_SCTP_CHUNK_HEADER + dp_rd_left(&body);
    uint32_t tsn = dp_rd_u32(&body);
    uint16_t stream = dp_rd_u16(&body);
    if (!r->begun)
        begin(r, tsn);
    bool fresh = dp_tsn_before(r->sent_tsn, tsn);
    uint32_t number = chunk[0] == DP_CHUNK_I_DATA ? dp_abandon_output(&r->abandon, chunk, len, fresh) : 0;
    if (fresh) {
        memcpy(r->header, packet, sizeof r->header);
        leaves(r, now, tsn, stream, number, chunk, len);
    }
    const dp_copy *copy = find(r, tsn);
    if (copy == NULL || (copy->flags & DP_COPY_SENT) == 0)
        return false;
    const dp_limited_message *message = dp_abandon_find(&r->abandon, number);
    if (fresh && message != NULL && message->abandoned)
        skip_chunk(r, tsn);
    else if (!fresh && (copy->flags & DP_COPY_ABANDONED) == 0 && !gives_up(r, now, copy))
        leaves_again(r, now, tsn);
    return (copy->flags & DP_COPY_ABANDONED) != 0;
}

void dp_repair_output(dp_repair *r, dp_time now, uint8_t *packet, size_t *len)
{
    dp_rd chunks = dp_chunks(packet, *len);
    dp_chunk chunk;
    bool counted = false;
    size_t kept = DP_SCTP_COMMON_HEADER;
    for (size_t from = kept, to; dp_chunk_next(&chunks, &chunk); from = to) {
        bool goes = false;
        to = *len - dp_rd_left(&chunks);
        if (dp_chunk_is_data(chunk.type)) {
            r->order += !counted;
            counted = true;
            goes = output_data(r, now, packet, packet + from, chunk.value);
        }
        if (goes)
            continue;
        memmove(packet + kept, packet + from, to - from);
        kept += to - from;
    }
    if (kept < *len)
        *len = kept;
}

/* ---- what the peer has --------------------------------------------------------------------------- */

/* RFC 9260 §6.3.1. Only this ends a backoff (Karn): where the way has become so long that all is sent twice, nothing else tells
 * so. */
static void measure(dp_repair *r, dp_duration trip)
{
    dp_duration error = trip > r->smoothed ? trip - r->smoothed : r->smoothed - trip;
    if (trip < r->least)
        r->least = trip;
    r->variation = r->measured ? (3 * r->variation + error) / 4 : trip / 2;
    r->smoothed = r->measured ? (7 * r->smoothed + trip) / 8 : trip;
    r->measured = true;
    r->backoff = 0;
}

/* A peer whose SACKs are made up, their round trips, too, could have everything sent again with each of them. So no more is
 * than a multiple of what has arrived, each chunk once: after that, one packet at each timeout. */
static void gain_credit(dp_repair *r, dp_copy *copy)
{
    if (copy != NULL && (copy->flags & DP_COPY_ARRIVED) != 0)
        return;
    if (copy != NULL)
        copy->flags |= DP_COPY_ARRIVED;
    r->credit = r->credit + CREDIT_CHUNK < CREDIT_MOST ? r->credit + CREDIT_CHUNK : CREDIT_MOST;
}

/* The peer has it: that tells something of what left before. */
static void arrived(dp_repair *r, dp_time now, uint32_t tsn)
{
    dp_copy *copy = find(r, tsn);
    if (copy != NULL && (copy->flags & DP_COPY_ABANDONED) != 0)
        return; /* or not */
    r->delivered++;
    gain_credit(r, copy);
    if (copy == NULL || (copy->flags & DP_COPY_SENT) == 0)
        return;
    if (is_listed(copy))
        take_out(r, list_of(r, copy), tsn);
    r->owned -= (copy->flags & DP_COPY_OWNED) != 0;
    bool newer = (int32_t)(copy->order - r->newest) > 0;
    dp_duration trip = now - copy->sent;
    if ((copy->flags & DP_COPY_REPEATED) == 0) {
        if (newer)
            measure(r, trip);
    } else if (trip < r->least) { /* the first one has come (RFC 8985 §6.2, step 2): late, not lost */
        if (trip < r->least / 2)
            r->reorder = r->reorder > REORDER_MOST / 2 ? REORDER_MOST : r->reorder * 2;
        return;
    }
    if (newer)
        r->newest = copy->order;
}

static void advance(dp_repair *r, dp_time now, uint32_t cumulative)
{
    while (r->copies.acked != cumulative) {
        uint32_t tsn = r->copies.acked + 1;
        const dp_copy *copy = find(r, tsn);
        if (copy == NULL || (copy->flags & DP_COPY_ACKED) == 0)
            arrived(r, now, tsn);
        else
            r->gap_acked--;
        r->abandon.skipped -= is_skipped(copy);
        dp_copies_advance(&r->copies);
    }
    dp_abandon_settle(&r->abandon, cumulative);
    if (dp_tsn_before(r->told, cumulative))
        r->told = cumulative;
    if (dp_tsn_before(r->highest, cumulative))
        r->highest = cumulative;
}

/* RFC 9260 §3.3.4: the blocks ascend and count from the cumulative TSN. One that does not, or of what was never sent, ends
 * them. */
static bool next_block(dp_rd *blocks, uint32_t *from, uint32_t *to, uint32_t limit)
{
    uint32_t least = *to + 2;
    if (dp_rd_left(blocks) < 4)
        return false;
    *from = dp_rd_u16(blocks);
    *to = dp_rd_u16(blocks);
    return *from >= least && *to >= *from && *to <= limit;
}

static void read_blocks(dp_repair *r, dp_time now, dp_rd blocks, bool again)
{
    uint32_t base = r->copies.acked;
    uint32_t from, to = 0;
    while (next_block(&blocks, &from, &to, r->sent_tsn - base)) {
        for (uint32_t tsn = dp_copies_missing(&r->copies, base + from); !dp_tsn_before(base + to, tsn);
             tsn = dp_copies_missing(&r->copies, tsn + 1)) {
            dp_copy *copy = find(r, tsn);
            if (copy == NULL)
                return;
            if (!again)
                arrived(r, now, tsn);
            r->abandon.skipped -= is_skipped(copy);
            copy->flags = (uint8_t)((copy->flags & ~(DP_COPY_OWNED | DP_COPY_LOST)) | DP_COPY_ACKED);
            copy->skip = tsn + 1;
            r->gap_acked++;
            if (dp_tsn_before(r->highest, tsn))
                r->highest = tsn;
        }
    }
}

static bool has_reneged(const dp_repair *r)
{
    const dp_copy *next = find(r, r->copies.acked + 1);
    return next != NULL && (next->flags & DP_COPY_ACKED) != 0;
}

/* RFC 9260 §6.2.1: what follows the cumulative TSN is missing, though a gap block had it. So the peer may have thrown away all
 * that this SACK does not have. What usrsctp takes for acknowledged is ours to send again, limited or not. */
static void reneged(dp_repair *r, dp_time now, dp_rd blocks)
{
    uint32_t top = r->highest;
    for (uint32_t tsn = r->copies.acked + 1; !dp_tsn_before(top, tsn); tsn++) {
        dp_copy *copy = find(r, tsn);
        if ((copy->flags & DP_COPY_ACKED) == 0)
            continue;
        copy->flags = (uint8_t)((copy->flags & ~DP_COPY_ACKED) | DP_COPY_LOST); /* perhaps */
        r->gap_acked--;
        r->abandon.skipped += is_skipped(copy);
    }
    r->highest = r->copies.acked;
    read_blocks(r, now, blocks, true);
    for (uint32_t tsn = r->copies.acked + 1; !dp_tsn_before(top, tsn); tsn++) {
        dp_copy *copy = find(r, tsn);
        if ((copy->flags & (DP_COPY_LOST | DP_COPY_OWNED)) != DP_COPY_LOST)
            continue;
        copy->flags &= (uint8_t)~DP_COPY_LOST;
        if (!is_skipped(copy) && (is_ownable(copy) || !dp_tsn_before(r->told, tsn)))
            put_lost(r, tsn);
    }
}

/* What has arrived left later, so this does not come any more. That is not known before a round trip is over, so a hostile
 * peer, whose short ones may be made up, does not draw a chunk much more often. */
static void find_lost(dp_repair *r, dp_time now)
{
    dp_duration trip = r->least > r->smoothed / 2 ? r->least : r->smoothed / 2;
    r->verdict = DP_TIME_NEVER;
    while (r->flight.count > 0) {
        const dp_copy *copy = find(r, r->flight.head);
        if ((int32_t)(r->newest - copy->order) < (int32_t)r->reorder)
            return;
        if (now - copy->sent < trip) {
            r->verdict = copy->sent + trip;
            return;
        }
        r->found_lost++;
        head_is_lost(r);
    }
}

/* What usrsctp is told never passes what could not be sent again. */
static void tell(dp_repair *r)
{
    const dp_copy *next;
    while ((next = find(r, r->told + 1)) != NULL &&
           ((next->flags & DP_COPY_ABANDONED) != 0 ||
            (next->len > 0 && (next->flags & (DP_COPY_ACKED | DP_COPY_OWNED)) != 0)))
        r->told++;
}

/* ---- SACKs --------------------------------------------------------------------------------------- */

/* Gap blocks for usrsctp, up to the first gap of which it is not known yet whether it is ours. */
static size_t write_blocks(const dp_repair *r, dp_wr *wr, size_t most)
{
    size_t count = 0;
    const dp_copy *copy = find(r, r->told + 1);
    for (uint32_t tsn = r->told + 2; count < most && copy != NULL && !is_ownable(copy) &&
                                     !dp_tsn_before(r->highest, tsn) && tsn - r->told <= UINT16_MAX;
         tsn++) {
        uint32_t from = tsn;
        while ((copy = find(r, tsn)) != NULL &&
               (copy->flags & (DP_COPY_ACKED | DP_COPY_OWNED | DP_COPY_ABANDONED)) != 0)
            tsn = (copy->flags & DP_COPY_ACKED) != 0 ? dp_copies_missing(&r->copies, tsn) : tsn + 1;
        if (tsn == from)
            continue;
        dp_wr_u16(wr, (uint16_t)(from - r->told));
        dp_wr_u16(wr, (uint16_t)(tsn - 1 - r->told));
        count++;
    }
    return count;
}

/* RFC 9260 §3.3.4. No longer than the peer's: it has no more blocks, and no duplicates. */
static void write_sack(const dp_repair *r, dp_wr *wr, uint32_t window, size_t blocks)
{
    size_t at = wr->len;
    dp_wr_u16(wr, (uint16_t)(DP_CHUNK_SACK << 8));
    size_t length = dp_wr_mark_u16(wr);
    dp_wr_u32(wr, r->told);
    dp_wr_u32(wr, window);
    size_t count = dp_wr_mark_u16(wr);
    dp_wr_u16(wr, 0);
    dp_wr_patch_u16(wr, count, write_blocks(r, wr, blocks));
    dp_wr_patch_u16(wr, length, wr->len - at);
}

static void read_gaps(dp_repair *r, dp_time now, dp_rd blocks)
{
    read_blocks(r, now, blocks, false);
    if (has_reneged(r))
        reneged(r, now, blocks);
    find_lost(r, now);
    tell(r);
}

/* True: usrsctp is to see another one. */
static bool read_sack(dp_repair *r, dp_time now, dp_rd body, uint32_t *window, size_t *blocks)
{
    uint32_t cumulative = dp_rd_u32(&body);
    *window = dp_rd_u32(&body);
    *blocks = dp_rd_u16(&body);
    dp_rd_skip(&body, 2);
    if (body.error || !r->begun || cumulative - r->copies.acked > DP_COPIES_SLOTS_MAX)
        return false; /* old, or of what was never sent: usrsctp knows what to do */
    uint64_t had = r->delivered;
    r->answered = true;
    if (dp_tsn_before(r->sent_tsn, cumulative))
        r->sent_tsn = cumulative; /* what is given up before it is sent has a TSN, too */
    advance(r, now, cumulative);
    bool tracked =
        *blocks > 0 && dp_copies_reserve(&r->copies, r->sent_tsn); /* else usrsctp sees the blocks */
    if (*blocks > dp_rd_left(&body) / 4)
        *blocks = dp_rd_left(&body) / 4;
    read_gaps(r, now, dp_rd_sub(&body, *blocks * 4));
    if (r->delivered != had)
        restart_timer(r, now);
    else if (*window < CLOSED_WINDOW)
        hears(r, now); /* RFC 9260 §6.1: it answers, though it has no room */
    return (*blocks > 0 && tracked) || r->told != cumulative;
}

/* RFC 9260 §9.2: SHUTDOWN acknowledges, too. */
static void read_shutdown(dp_repair *r, dp_time now, dp_rd body)
{
    uint32_t cumulative = dp_rd_u32(&body);
    if (r->begun && cumulative - r->copies.acked <= r->sent_tsn - r->copies.acked)
        advance(r, now, cumulative);
}

bool dp_repair_input(dp_repair *r, dp_time now, const uint8_t **packet, size_t *len)
{
    dp_rd chunks = dp_chunks(*packet, *len);
    dp_chunk chunk;
    size_t from = DP_SCTP_COMMON_HEADER;
    for (size_t to; dp_chunk_next(&chunks, &chunk); from = to) {
        uint32_t window;
        size_t blocks;
        to = *len - dp_rd_left(&chunks);
        if (chunk.type == DP_CHUNK_SHUTDOWN)
            read_shutdown(r, now, chunk.value);
        if (chunk.type != DP_CHUNK_SACK || !read_sack(r, now, chunk.value, &window, &blocks))
            continue;
        if (!reserve(&r->shown, &r->shown_capacity, *len))
            return false;
        dp_wr wr = dp_wr_init(r->shown, *len);
        dp_wr_bytes(&wr, *packet, from);
        write_sack(r, &wr, window, blocks);
        dp_wr_bytes(&wr, *packet + to, *len - to);
        *packet = r->shown;
        return dp_wr_finish(&wr, len) == DP_OK;
    }
    return true;
}

bool dp_repair_holds(const dp_repair *r, uint32_t tsn)
{
    if (r->owned == 0)
        return false;
    for (uint32_t t = r->copies.acked + 1; !dp_tsn_before(tsn, t) && !dp_tsn_before(r->sent_tsn, t);
         t = dp_copies_missing(&r->copies, t + 1)) {
        const dp_copy *copy = find(r, t);
        if (copy != NULL && (copy->flags & DP_COPY_OWNED) != 0)
            return true;
    }
    return false;
}

/* Where a FORWARD-TSN is that must wait, with its padding. */
static bool find_forward(const dp_repair *r, size_t *from, size_t *to, const uint8_t *packet, size_t len)
{
    dp_rd chunks = dp_chunks(packet, len);
    dp_chunk chunk;
    for (*from = DP_SCTP_COMMON_HEADER; dp_chunk_next(&chunks, &chunk); *from = *to) {
        *to = len - dp_rd_left(&chunks);
        if (chunk.type == DP_CHUNK_FORWARD_TSN && dp_repair_holds(r, dp_rd_u32(&chunk.value)))
            return true;
    }
    return false;
}

int dp_repair_hold_forward(const dp_repair *r, uint8_t **rest, const uint8_t *packet, size_t *len)
{
    size_t from, to;
    *rest = NULL;
    if (!find_forward(r, &from, &to, packet, *len))
        return DP_OK;
    *rest = (uint8_t *)dp_alloc(*len);
    if (*rest == NULL)
        return DP_ERR_NO_MEMORY;
    memcpy(*rest, packet, from);
    memcpy(*rest + from, packet + to, *len - to);
    *len -= to - from;
    return DP_OK;
}

/* ---- retransmission ------------------------------------------------------------------------------ */

/* RFC 8985 §7.2, then RFC 9260 §6.3.3. */
static dp_duration timer(const dp_repair *r)
{
    dp_duration spread = 4 * r->variation > r->smoothed ? 4 * r->variation : r->smoothed;
    bool alone = r->flight.count == 1 && r->gap_acked == 0;
    dp_duration length = r->smoothed + spread + (alone ? LONE_DELAY : TIMER_LEAST);
    for (unsigned i = 0; i < r->backoff && length < TIMER_MOST; i++)
        length *= 2;
    return length < TIMER_MOST ? length : TIMER_MOST;
}

static dp_duration forward_wait(const dp_repair *r) { return r->smoothed + 4 * r->variation; }

/* When it is known of what is under way whether it is lost. */
static dp_time next_verdict(const dp_repair *r)
{
    dp_time expires = r->base + timer(r);
    if (r->flight.count + r->lost.count == 0)
        return DP_TIME_NEVER;
    return expires < r->verdict ? expires : r->verdict;
}

dp_time dp_repair_next_timeout(const dp_repair *r)
{
    if (!r->answered || r->failed)
        return DP_TIME_NEVER;
    dp_time again = dp_abandon_next(&r->abandon, forward_wait(r), r->copies.acked);
    dp_time verdict = next_verdict(r);
    return again < verdict ? again : verdict;
}

/* What the peer waits for goes first: it may have no room for anything else. */
static void choose_probe(dp_repair *r)
{
    uint32_t next = r->copies.acked + 1;
    dp_copy *copy = find(r, next);
    if (copy == NULL || !is_listed(copy)) {
        if (r->lost.count == 0)
            head_is_lost(r);
        return;
    }
    take_out(r, list_of(r, copy), next);
    r->owned += (copy->flags & DP_COPY_OWNED) == 0;
    copy->flags |= DP_COPY_OWNED | DP_COPY_LOST;
    prepend(r, &r->lost, next);
}

/* The probe counts as if it left far behind all that has left before: its arrival tells what of that is lost. */
void dp_repair_handle_timeout(dp_repair *r, dp_time now)
{
    if (!r->answered || r->failed || now < next_verdict(r))
        return;
    find_lost(r, now);
    tell(r);
    if (now < r->base + timer(r))
        return;
    if (r->tries++ >= TRIES && now - r->heard >= PATIENCE) {
        r->failed = true;
        return;
    }
    r->base = now;
    r->backoff++;
    r->order += r->reorder;
    r->probing = true;
    choose_probe(r);
}

uint32_t dp_repair_outstanding(const dp_repair *r)
{
    return r->sent_tsn - r->copies.acked - r->gap_acked - r->abandon.skipped;
}

uint32_t dp_repair_in_flight(const dp_repair *r) { return dp_repair_outstanding(r) - r->lost.count; }

static void drop_given_up(dp_repair *r, dp_time now)
{
    while (r->lost.count > 0 && gives_up(r, now, find(r, r->lost.head)))
        continue;
}

bool dp_repair_poll(dp_repair *r, dp_time now, uint32_t room, size_t mtu, const uint8_t **packet, size_t *len)
{
    drop_given_up(r, now);
    room = room < r->credit ? room : r->credit;
    if (r->lost.count == 0 || (room == 0 && !r->probing) || r->failed)
        return false;
    size_t first = DP_SCTP_COMMON_HEADER + find(r, r->lost.head)->len;
    size_t most = first > mtu ? first : mtu;
    if (!reserve(&r->packet, &r->packet_capacity, most))
        return false;
    dp_wr wr = dp_wr_init(r->packet, most);
    dp_wr_bytes(&wr, r->header, sizeof r->header);
    dp_wr_zeros(&wr, DP_SCTP_COMMON_HEADER - sizeof r->header);
    r->order++;
    r->probing = false;
    uint32_t last;
    do {
        last = r->lost.head;
        const dp_copy *copy = find(r, last);
        dp_wr_bytes(&wr, dp_copies_chunk(&r->copies, copy), copy->len);
        leaves_again(r, now, last);
        r->repeated++;
        r->credit -= r->credit > 0;
        room -= room > 0;
        drop_given_up(r, now);
        /* The TSNs of a packet ascend: RFC 9260 §6.10. */
    } while (r->lost.count > 0 && room > 0 && dp_tsn_before(last, r->lost.head) &&
             wr.len + find(r, r->lost.head)->len <= most);
    *packet = r->packet;
    return dp_wr_finish(&wr, len) == DP_OK;
}

/* ---- I-FORWARD-TSN ------------------------------------------------------------------------------- */

bool dp_repair_poll_forward(dp_repair *r, dp_time now, size_t mtu, const uint8_t **packet, size_t *len)
{
    if (r->failed || !dp_abandon_is_due(&r->abandon, now, forward_wait(r), &r->copies) ||
        !reserve(&r->packet, &r->packet_capacity, mtu))
        return false;
    dp_wr wr = dp_wr_init(r->packet, mtu);
    dp_wr_bytes(&wr, r->header, sizeof r->header);
    dp_wr_zeros(&wr, DP_SCTP_COMMON_HEADER - sizeof r->header);
    dp_abandon_write(&r->abandon, &wr, now, &r->copies);
    *packet = r->packet;
    return dp_wr_finish(&wr, len) == DP_OK;
}

bool dp_repair_is_ahead(const dp_repair *r) { return r->owned + r->abandon.skipped > 0; }
