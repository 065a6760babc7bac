/* A peer that gives messages up (RFC 3758): it writes its packets itself, loses, repeats and reorders them, and knows
 * what must arrive. What receives them is the test's. */
#ifndef TESTS_SCTP_FORWARD_PEER_H
#define TESTS_SCTP_FORWARD_PEER_H

#include "base/rd.h"
#include "base/wr.h"
#include "sctp/filter.h"

#include <stdlib.h>
#include <string.h>

#define PEER_STREAMS  4
#define PEER_CHUNKS   8192 /* unacknowledged at a time, at most */
#define PEER_MESSAGES 131072

typedef struct peer_message {
    uint16_t stream, ssn;
    bool unordered, reliable, given_up, arrived;
    uint32_t fragments;
} peer_message;

typedef struct peer_chunk {
    uint32_t message;
    uint32_t fragment;
    uint8_t flags;
    bool acked, given_up, on_way;
} peer_chunk;

typedef struct peer {
    uint64_t seed;
    uint32_t tag;
    uint32_t tsn;   /* the next one */
    uint32_t acked; /* cumulatively */
    peer_chunk chunks[PEER_CHUNKS];
    peer_message messages[PEER_MESSAGES];
    uint32_t message_count, message_limit;
    uint32_t fragment; /* of the last message: the next one to send */
    uint16_t ssn[PEER_STREAMS];
    uint32_t last_arrived[PEER_STREAMS]; /* ordered message, plus 1 */
    unsigned loss, give_up;              /* percent */
    uint32_t streams, window, fragments_max;
    bool short_steps; /* its FORWARD-TSN may stop within a message */
    bool over_acked;  /* it skips what has arrived, too, like usrsctp and dcSCTP */
    bool list_all;    /* every SSN that is skipped, not only the largest of each stream */
    bool resets;
    uint32_t reset_request;
    bool reset_waits;
    void (*receive)(void *ctx, const uint8_t *packet, size_t len);
    void *ctx;
    uint64_t forwards;
} peer;

static uint32_t peer_random(peer *p)
{
    p->seed = p->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(p->seed >> 33);
}

static bool peer_chance(peer *p, unsigned percent) { return peer_random(p) % 100 < percent; }

static peer_chunk *peer_at(peer *p, uint32_t tsn) { return &p->chunks[tsn % PEER_CHUNKS]; }

static dp_wr peer_packet(peer *p, uint8_t *out, size_t capacity)
{
    dp_wr wr = dp_wr_init(out, capacity);
    dp_wr_u16(&wr, 5000);
    dp_wr_u16(&wr, 5000);
    dp_wr_u32(&wr, p->tag);
    dp_wr_u32(&wr, 0);
    return wr;
}

static void peer_deliver(peer *p, dp_wr *wr)
{
    if (wr->error)
        abort();
    dp_sctp_checksum_write(wr->start, wr->len);
    p->receive(p->ctx, wr->start, wr->len);
}

/* The content tells message and fragment. */
static void peer_put_data(peer *p, dp_wr *wr, uint32_t tsn)
{
    const peer_chunk *chunk = peer_at(p, tsn);
    const peer_message *message = &p->messages[chunk->message];
    dp_wr_u8(wr, 0);
    dp_wr_u8(wr, chunk->flags);
    dp_wr_u16(wr, 16 + 8);
    dp_wr_u32(wr, tsn);
    dp_wr_u16(wr, message->stream);
    /* pion writes here what its next ordered message will have. */
    dp_wr_u16(wr, message->ssn);
    dp_wr_u32(wr, 53);
    dp_wr_u32(wr, chunk->message);
    dp_wr_u32(wr, chunk->fragment);
}

static void peer_begin_message(peer *p)
{
    peer_message *message = &p->messages[p->message_count++];
    memset(message, 0, sizeof *message);
    message->stream = (uint16_t)(peer_random(p) % p->streams);
    message->unordered = peer_chance(p, 40);
    message->reliable = peer_chance(p, 20);
    message->fragments = peer_chance(p, 50) ? 1 : 1 + peer_random(p) % p->fragments_max;
    message->ssn = message->unordered ? 0 : p->ssn[message->stream]++;
    p->fragment = 0;
}

static peer_message *peer_current(peer *p)
{
    return p->message_count == 0 ? NULL : &p->messages[p->message_count - 1];
}

static bool peer_between_messages(peer *p)
{
    const peer_message *message = peer_current(p);
    return message == NULL || message->given_up || p->fragment == message->fragments;
}

/* The next chunk gets its TSN. */
static bool peer_next_chunk(peer *p)
{
    if (p->tsn - p->acked >= p->window)
        return false;
    if (peer_between_messages(p)) {
        if (p->message_count == p->message_limit || p->reset_waits)
            return false;
        peer_begin_message(p);
    }
    const peer_message *message = peer_current(p);
    peer_chunk *chunk = peer_at(p, p->tsn++);
    *chunk = (peer_chunk){p->message_count - 1, p->fragment, 0, false, false, true};
    chunk->flags = (uint8_t)((message->unordered ? 4 : 0) | (p->fragment == 0 ? 2 : 0) |
                             (p->fragment + 1 == message->fragments ? 1 : 0));
    p->fragment++;
    return true;
}

/* RFC 3758 §3.5: all chunks of the message. What has no TSN yet gets one for all of it. */
static void peer_give_up(peer *p, uint32_t message)
{
    p->messages[message].given_up = true;
    if (message == p->message_count - 1 && p->fragment < p->messages[message].fragments) {
        if (p->tsn - p->acked >= p->window) {
            p->messages[message].given_up = false;
            return;
        }
        *peer_at(p, p->tsn++) = (peer_chunk){message, p->fragment, 1, false, true, false};
    }
    for (uint32_t tsn = p->acked + 1; tsn != p->tsn; tsn++)
        if (peer_at(p, tsn)->message == message)
            peer_at(p, tsn)->given_up = true;
}

static void peer_put_forward(peer *p, dp_wr *wr)
{
    uint32_t to = p->acked;
    bool any = false;
    while (to + 1 != p->tsn && (peer_at(p, to + 1)->given_up || (p->over_acked && peer_at(p, to + 1)->acked)))
        any |= peer_at(p, ++to)->given_up;
    if (!any)
        return;
    if (p->short_steps && peer_chance(p, 30))
        to = p->acked + 1 + peer_random(p) % (to - p->acked);
    p->forwards++;
    dp_wr_u8(wr, 0xc0);
    dp_wr_u8(wr, 0);
    size_t length = dp_wr_mark_u16(wr);
    size_t start = wr->len - 4;
    dp_wr_u32(wr, to);
    int32_t largest[PEER_STREAMS] = {-1, -1, -1, -1};
    size_t listed = 0;
    for (uint32_t tsn = p->acked + 1; tsn != to + 1; tsn++) {
        const peer_message *message = &p->messages[peer_at(p, tsn)->message];
        if (message->unordered)
            continue;
        largest[message->stream] = message->ssn;
        if (p->list_all && listed++ < 200) {
            dp_wr_u16(wr, message->stream);
            dp_wr_u16(wr, message->ssn);
        }
    }
    for (int i = 0; i < PEER_STREAMS; i++)
        if (largest[i] >= 0) {
            dp_wr_u16(wr, (uint16_t)i);
            dp_wr_u16(wr, (uint16_t)largest[i]);
        }
    dp_wr_patch_u16(wr, length, wr->len - start);
}

/* RFC 6525 §4.1: all streams, once nothing is on its way. */
static void peer_put_reset(peer *p, dp_wr *wr)
{
    dp_wr_u8(wr, 0x82);
    dp_wr_u8(wr, 0);
    dp_wr_u16(wr, 4 + 16 + 2 * PEER_STREAMS);
    dp_wr_u16(wr, 13);
    dp_wr_u16(wr, 16 + 2 * PEER_STREAMS);
    dp_wr_u32(wr, p->reset_request);
    dp_wr_u32(wr, 0);
    dp_wr_u32(wr, p->tsn - 1);
    for (uint16_t i = 0; i < PEER_STREAMS; i++)
        dp_wr_u16(wr, i);
}

/* One packet: some chunks that are on their way, maybe a FORWARD-TSN before, between or behind them. */
static void peer_send(peer *p)
{
    static uint8_t buffer[4096];
    dp_wr wr = peer_packet(p, buffer, sizeof buffer);
    unsigned place = peer_random(p) % 6;
    if (place == 0)
        peer_put_forward(p, &wr);
    uint32_t span = p->tsn - 1 - p->acked;
    for (unsigned i = peer_random(p) % 4; span > 0 && i > 0; i--) {
        uint32_t tsn = p->acked + 1 + peer_random(p) % span;
        for (uint32_t n = 0; n < span && !peer_at(p, tsn)->on_way; n++)
            tsn = tsn + 1 == p->tsn ? p->acked + 1 : tsn + 1;
        if (!peer_at(p, tsn)->on_way)
            break;
        peer_at(p, tsn)->on_way = peer_chance(p, 5); /* doubled */
        if (!peer_chance(p, p->loss))
            peer_put_data(p, &wr, tsn);
        if (place == 1 && i == 2)
            peer_put_forward(p, &wr);
    }
    if (place == 2)
        peer_put_forward(p, &wr);
    if (wr.len > DP_SCTP_COMMON_HEADER)
        peer_deliver(p, &wr);
    if (p->reset_waits && peer_chance(p, 20)) {
        wr = peer_packet(p, buffer, sizeof buffer);
        peer_put_reset(p, &wr);
        peer_deliver(p, &wr);
    }
}

/* What is lost comes again, unless it was given up. */
static void peer_retransmit(peer *p)
{
    for (uint32_t tsn = p->acked + 1; tsn != p->tsn; tsn++) {
        peer_chunk *chunk = peer_at(p, tsn);
        if (!chunk->acked && !chunk->given_up)
            chunk->on_way = true;
    }
}

static void peer_step(peer *p)
{
    for (unsigned i = peer_random(p) % 8; i > 0 && peer_next_chunk(p); i--) {
    }
    if (p->tsn - 1 != p->acked && peer_chance(p, p->give_up)) {
        uint32_t message = peer_at(p, p->acked + 1 + peer_random(p) % (p->tsn - 1 - p->acked))->message;
        if (!p->messages[message].reliable && !p->messages[message].given_up)
            peer_give_up(p, message);
    }
    if (p->resets && !p->reset_waits && p->acked + 1 == p->tsn && peer_between_messages(p) &&
        peer_chance(p, 20)) {
        p->reset_request++;
        p->reset_waits = true;
    }
    if (peer_chance(p, 10))
        peer_retransmit(p);
    peer_send(p);
}

static bool peer_done(peer *p)
{
    return p->message_count == p->message_limit && p->acked + 1 == p->tsn && peer_between_messages(p);
}

/* A packet from the receiver: SACKs, and answers to resets. */
static void peer_input(peer *p, const uint8_t *packet, size_t len)
{
    dp_rd rd = dp_rd_init(packet, len);
    dp_rd_skip(&rd, 12);
    while (dp_rd_left(&rd) >= 4) {
        uint8_t type = dp_rd_u8(&rd);
        dp_rd_skip(&rd, 1);
        size_t length = dp_rd_u16(&rd);
        dp_rd body = dp_rd_sub(&rd, length - 4);
        dp_rd_skip(&rd, (4 - length % 4) % 4);
        if (type == 3) {
            uint32_t acked = dp_rd_u32(&body);
            dp_rd_skip(&body, 4);
            size_t blocks = dp_rd_u16(&body);
            dp_rd_skip(&body, 2);
            if ((int32_t)(acked - p->acked) > 0)
                p->acked = acked;
            for (; blocks > 0 && acked == p->acked; blocks--) {
                uint32_t start = dp_rd_u16(&body);
                uint32_t end = dp_rd_u16(&body);
                for (uint32_t tsn = acked + start; tsn != acked + end + 1; tsn++)
                    peer_at(p, tsn)->acked = true;
            }
        } else if (type == 0x82) {
            uint16_t parameter = dp_rd_u16(&body);
            dp_rd_skip(&body, 2);
            uint32_t request = dp_rd_u32(&body);
            uint32_t result = dp_rd_u32(&body);
            if (parameter == 16 && request == p->reset_request && result <= 1 && p->reset_waits) {
                p->reset_waits = false;
                memset(p->ssn, 0, sizeof p->ssn);
            }
        }
    }
}

/* A message has come out: NULL if that is right. */
static const char *peer_check(peer *p, uint16_t stream, bool unordered, const uint8_t *data, size_t len)
{
    dp_rd rd = dp_rd_init(data, len);
    uint32_t number = dp_rd_u32(&rd);
    if (rd.error || number >= p->message_count)
        return "never sent";
    peer_message *message = &p->messages[number];
    if (message->stream != stream || message->unordered != unordered)
        return "wrong stream or kind";
    if (message->arrived)
        return "twice";
    if (len != 8 * (size_t)message->fragments)
        return "wrong length";
    rd = dp_rd_init(data, len);
    for (uint32_t i = 0; i < message->fragments; i++)
        if (dp_rd_u32(&rd) != number || dp_rd_u32(&rd) != i)
            return "wrong content";
    if (!unordered && number < p->last_arrived[stream])
        return "out of order";
    if (!unordered)
        p->last_arrived[stream] = number + 1;
    message->arrived = true;
    return NULL;
}

/* The first message that should have come and has not; message_count if there is none. */
static uint32_t peer_missing(const peer *p)
{
    uint32_t i = 0;
    while (i < p->message_count && (p->messages[i].arrived || p->messages[i].given_up))
        i++;
    return i;
}

static void peer_init(peer *p, uint64_t seed, uint32_t first_tsn)
{
    memset(p, 0, sizeof *p);
    p->seed = seed;
    p->tsn = first_tsn;
    p->acked = first_tsn - 1;
    p->reset_request = first_tsn - 1;
    p->loss = 20;
    p->give_up = 30;
    p->streams = PEER_STREAMS;
    p->window = 200;
    p->fragments_max = 6;
    p->message_limit = 300;
}

#endif
