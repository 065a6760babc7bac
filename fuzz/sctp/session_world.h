/* Of fuzz/sctp/session.c: the two ends, the packets between them, the bytes that choose, and the memory that is counted. */
#ifndef FUZZ_SCTP_SESSION_WORLD_H
#define FUZZ_SCTP_SESSION_WORLD_H

#include "base/wr.h"
#include "sctp/chunk.h"
#include "sctp/filter.h"
#include "tests/sim/clock.h"
#include "tests/sim/ledger.h"

#include <malloc.h>

#define SLOTS        16u
#define FLIGHT       64u
#define OLD          8u
#define PACKET_MAX   1500u      /* of the attacker's */
#define MEMORY_LIMIT (8u << 20) /* and what the application itself has queued */
/* Packets that an end may send for each packet, each timeout, each call: a burst. */
#define ANSWERS 20u

typedef struct packet {
    uint8_t *data; /* of exactly this length: ASan sees a read of one byte too many */
    size_t len;
} packet;

typedef struct end {
    dp_sctp *sctp;
    bool deaf;
    ledger_channel *slots[SLOTS];
    packet flight[FLIGHT]; /* sent, not delivered */
    size_t count;
    packet old[OLD]; /* the first ones, for replay */
    size_t old_count;
    uint32_t tag;     /* what the other end expects in packets */
    uint32_t tsn;     /* the highest that was sent */
    uint32_t request; /* the first number of a RE-CONFIG */
} end;

static struct world {
    end ends[2];
    ledger ledger;
    uint64_t packets, allowed;
    size_t largest; /* packet that an end may send */
    dp_wr attack;   /* the packet that the attacker writes */
    uint8_t attack_bytes[PACKET_MAX];
    size_t last_chunk;
    bool interleaves; /* I-DATA and I-FORWARD-TSN (RFC 8260) are in the place of DATA and FORWARD-TSN */
} w;

/* ---- our memory -------------------------------------------------------------------------------------------- */

static size_t live;
static size_t queued; /* by the application */

static void *count_realloc(void *ctx, void *old, size_t size)
{
    (void)ctx;
    size_t before = malloc_usable_size(old);
    void *block = realloc(old, size);
    if (block != NULL)
        live += malloc_usable_size(block) - before;
    if (live > MEMORY_LIMIT + queued)
        abort();
    return block;
}

static void *count_alloc(void *ctx, size_t size) { return count_realloc(ctx, NULL, size); }

static void count_free(void *ctx, void *block)
{
    (void)ctx;
    live -= malloc_usable_size(block);
    free(block);
}

/* ---- the bytes --------------------------------------------------------------------------------------------- */

typedef struct input {
    const uint8_t *at;
    size_t left;
} input;

static uint8_t u8(input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->at++;
}

static uint16_t u16(input *in)
{
    uint16_t high = u8(in);
    return (uint16_t)(high << 8 | u8(in));
}

/* 127 before base to 128 behind it. */
static uint32_t near(input *in, uint32_t base) { return base + u8(in) - 127u; }

/* Small ids mostly, on which there are channels. */
static uint16_t stream_id(input *in)
{
    uint8_t v = u8(in);
    return v < 0xc0 ? v & 0x1f : (uint16_t)(v * 257u);
}

static void put_raw(input *in, dp_wr *wr)
{
    for (size_t n = u8(in) & 0x3f; n > 0; n--)
        dp_wr_u8(wr, u8(in));
}

/* ---- the network ------------------------------------------------------------------------------------------- */

static uint32_t get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static packet copy(const uint8_t *data, size_t len)
{
    packet p = {(uint8_t *)malloc(len > 0 ? len : 1), len};
    if (p.data == NULL)
        abort();
    memcpy(p.data, data, len);
    return p;
}

/* What an attacker on the path would learn. */
static void note(end *from, const uint8_t *data, size_t len)
{
    from->tag = get_u32(data + 4);
    for (size_t at = DP_SCTP_COMMON_HEADER; at + 4 <= len;) {
        size_t chunk = (size_t)data[at + 2] << 8 | data[at + 3];
        if (data[at] == DP_CHUNK_INIT || data[at] == DP_CHUNK_INIT_ACK)
            from->request = from->tsn = get_u32(data + at + 16);
        else if (dp_chunk_is_data(data[at]) && (int32_t)(get_u32(data + at + 4) - from->tsn) > 0)
            from->tsn = get_u32(data + at + 4);
        at += (chunk + 3) & ~(size_t)3;
    }
}

static void collect(unsigned which)
{
    end *e = &w.ends[which];
    const uint8_t *data;
    size_t len;
    while (dp_sctp_poll_transmit(e->sctp, &data, &len) ||
           dp_sctp_poll_probe(e->sctp, sim_clock, &data, &len)) {
        if (len > w.largest || !dp_sctp_checksum_ok(data, len) || ++w.packets > w.allowed)
            abort();
        note(e, data, len);
        if (e->count == FLIGHT)
            continue;
        e->flight[e->count++] = copy(data, len);
        if (e->old_count < OLD)
            e->old[e->old_count++] = copy(data, len);
    }
}

static void forget_packets(end *e)
{
    while (e->count > 0)
        free(e->flight[--e->count].data);
    while (e->old_count > 0)
        free(e->old[--e->old_count].data);
}

/* ---- what the ends have to say ----------------------------------------------------------------------------- */

static void forget_closed(void)
{
    for (unsigned i = 0; i < 2; i++)
        for (size_t k = 0; k < SLOTS; k++) {
            const ledger_channel *c = w.ends[i].slots[k] == NULL ? NULL : w.ledger.channels;
            while (c != NULL && (c != w.ends[i].slots[k] || c->channel == NULL))
                c = c->next;
            if (c == NULL)
                w.ends[i].slots[k] = NULL;
        }
}

/* Channels that the other end has opened get the free places. */
static void adopt(void)
{
    forget_closed();
    for (ledger_channel *c = w.ledger.channels; c != NULL; c = c->next) {
        ledger_channel **slots = w.ends[c->end].slots;
        size_t place = SLOTS;
        for (size_t k = SLOTS; k-- > 0;) {
            if (slots[k] == c)
                break;
            if (slots[k] == NULL)
                place = k;
            if (k == 0 && place < SLOTS && c->channel != NULL)
                slots[place] = c;
        }
    }
}

/* Drains one end, after whatever was done with it. */
static void drain(unsigned which)
{
    collect(which);
    bool any = !w.ends[which].deaf && ledger_poll(&w.ledger, which, w.ends[which].sctp);
    if (any) {
        collect(which);
        adopt();
    }
    if (w.ledger.why != NULL) {
        fprintf(stderr, "%s\n", w.ledger.why);
        abort();
    }
}

static void give(unsigned to, packet p)
{
    w.allowed += ANSWERS;
    dp_sctp_input(w.ends[to].sctp, sim_clock, p.data, p.len);
    drain(to);
}

static packet take_out(end *e, size_t index)
{
    packet p = e->flight[index];
    e->count--;
    memmove(&e->flight[index], &e->flight[index + 1], (e->count - index) * sizeof p);
    return p;
}

enum { DELIVER, LOSE, DOUBLE, OVERTAKE, HOLD_BACK, CHANGE };

/* One packet from one end to the other, or not quite. */
static void transfer(unsigned from, unsigned how, uint8_t value)
{
    end *e = &w.ends[from];
    if (e->count == 0)
        return;
    packet p = how == DOUBLE ? copy(e->flight[0].data, e->flight[0].len)
                             : take_out(e, how == OVERTAKE ? value % e->count : 0);
    if (how == HOLD_BACK) {
        e->flight[e->count++] = p;
        return;
    }
    if (how == CHANGE) {
        p.data[(value * 5u) % p.len] ^= (uint8_t)(1u << (value & 7));
        dp_sctp_checksum_write(p.data, p.len);
        w.ledger.forged = w.ledger.wild = true;
    }
    if (how != LOSE)
        give(1 - from, p);
    free(p.data);
}

static void deliver_all(unsigned rounds)
{
    for (; rounds > 0 && w.ends[0].count + w.ends[1].count > 0; rounds--)
        for (unsigned i = 0; i < 2; i++)
            transfer(i, DELIVER, 0);
}

static void pass(dp_duration span)
{
    sim_clock += span;
    for (unsigned i = 0; i < 2; i++) {
        w.allowed += ANSWERS;
        dp_sctp_handle_timeout(w.ends[i].sctp, sim_clock);
    }
    for (unsigned i = 0; i < 2; i++) /* usrsctp's timers of both run in the first call */
        drain(i);
}

static void to_next_timeout(void)
{
    dp_time next = dp_sctp_next_timeout(w.ends[0].sctp);
    if (dp_sctp_next_timeout(w.ends[1].sctp) < next)
        next = dp_sctp_next_timeout(w.ends[1].sctp);
    pass(next == DP_TIME_NEVER || next <= sim_clock ? DP_MS(10) : next - sim_clock);
}

#endif
