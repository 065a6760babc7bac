/* Stateful: two of our ends, connected, and an attacker who can speak for either of them. The bytes choose what happens
 * next: packets of the ends are delivered, dropped, doubled, held back, changed; chunks of all types with the right
 * verification tag are made up, alone or bundled; channels are opened, closed, sent on, the association aborted; time
 * passes. Nothing may crash or hang, and what tests/sim/ledger.h says holds, as far as the attacker has not touched it.
 * If he has done nothing, all that was sent on reliable channels arrives in the end. */
#include "base/wr.h"
#include "sctp/dcep.h"
#include "sctp/filter.h"
#include "tests/sim/clock.h"
#include "tests/sim/ledger.h"

#include <malloc.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SIZE_LIMIT   4096u
#define SLOTS        16u
#define FLIGHT       64u
#define OLD          8u
#define PACKET_MAX   1500u
#define SETTLE       DP_SECONDS(200)
#define MEMORY_LIMIT (8u << 20) /* and what the application itself has queued */
/* Packets that an end may send for each packet, each timeout, each call: a burst. */
#define ANSWERS 20u

typedef struct packet {
    size_t len;
    uint8_t data[PACKET_MAX];
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
    dp_wr attack;
    uint8_t attack_bytes[PACKET_MAX];
    size_t last_chunk;
} w;

/* ---- our memory -------------------------------------------------------------------------------------------- */

static size_t live;
static size_t queued;

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

/* What an attacker on the path would learn. */
static void note(end *from, const uint8_t *data, size_t len)
{
    from->tag = get_u32(data + 4);
    for (size_t at = DP_SCTP_COMMON_HEADER; at + 4 <= len;) {
        size_t chunk = (size_t)data[at + 2] << 8 | data[at + 3];
        if (data[at] <= 2 && data[at] > 0)
            from->request = from->tsn = get_u32(data + at + 16);
        else if (data[at] == 0 && (int32_t)(get_u32(data + at + 4) - from->tsn) > 0)
            from->tsn = get_u32(data + at + 4);
        at += (chunk + 3) & ~(size_t)3;
    }
}

static void collect(unsigned which)
{
    end *e = &w.ends[which];
    const uint8_t *data;
    size_t len;
    while (dp_sctp_poll_transmit(e->sctp, &data, &len)) {
        if (len > PACKET_MAX || !dp_sctp_checksum_ok(data, len) || ++w.packets > w.allowed)
            abort();
        note(e, data, len);
        packet *keep = e->count < FLIGHT ? &e->flight[e->count++] : NULL;
        if (keep != NULL) {
            keep->len = len;
            memcpy(keep->data, data, len);
        }
        if (keep != NULL && e->old_count < OLD)
            e->old[e->old_count++] = *keep;
    }
}

static void forget_closed(void)
{
    for (unsigned i = 0; i < 2; i++)
        for (size_t k = 0; k < SLOTS; k++) {
            const ledger_channel *c = w.ledger.channels;
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

static void settle_calls(void)
{
    bool any = false;
    for (unsigned i = 0; i < 2; i++) {
        collect(i);
        if (!w.ends[i].deaf)
            any |= ledger_poll(&w.ledger, i, w.ends[i].sctp);
        collect(i);
    }
    if (any)
        adopt();
    if (w.ledger.why != NULL) {
        fprintf(stderr, "%s\n", w.ledger.why);
        abort();
    }
}

/* An exact copy: ASan then sees a read of one byte too many. */
static void give(unsigned to, const uint8_t *data, size_t len)
{
    uint8_t *copy = (uint8_t *)malloc(len > 0 ? len : 1);
    if (copy == NULL)
        abort();
    memcpy(copy, data, len);
    w.allowed += ANSWERS;
    dp_sctp_input(w.ends[to].sctp, sim_clock, copy, len);
    free(copy);
    settle_calls();
}

static void take_out(end *e, size_t index)
{
    e->count--;
    memmove(&e->flight[index], &e->flight[index + 1], (e->count - index) * sizeof e->flight[0]);
}

/* One packet from one end to the other, or not quite. */
static void transfer(unsigned from, unsigned how, uint8_t value)
{
    end *e = &w.ends[from];
    if (e->count == 0)
        return;
    size_t index = how == 3 ? value % e->count : 0;
    packet p = e->flight[index];
    if (how != 2 || e->count == FLIGHT) /* doubled: it stays */
        take_out(e, index);
    if (how == 4 && e->count < FLIGHT) /* later */
        e->flight[e->count++] = p;
    if (how == 5) {
        p.data[(value * 5u) % p.len] ^= (uint8_t)(1u << (value & 7));
        dp_sctp_checksum_write(p.data, p.len);
        w.ledger.forged = w.ledger.wild = true;
    }
    if (how != 1 && how != 4)
        give(1 - from, p.data, p.len);
}

static void deliver_all(unsigned rounds)
{
    for (; rounds > 0 && w.ends[0].count + w.ends[1].count > 0; rounds--)
        for (unsigned i = 0; i < 2; i++)
            transfer(i, 0, 0);
}

static void pass(dp_duration span)
{
    sim_clock += span;
    for (unsigned i = 0; i < 2; i++) {
        w.allowed += ANSWERS;
        dp_sctp_handle_timeout(w.ends[i].sctp, sim_clock);
        settle_calls();
    }
}

static void to_next_timeout(void)
{
    dp_time next = dp_sctp_next_timeout(w.ends[0].sctp);
    if (dp_sctp_next_timeout(w.ends[1].sctp) < next)
        next = dp_sctp_next_timeout(w.ends[1].sctp);
    pass(next == DP_TIME_NEVER || next <= sim_clock ? DP_MS(10) : next - sim_clock);
}

/* ---- the application --------------------------------------------------------------------------------------- */

static void open_channel(unsigned which, input *in)
{
    uint8_t kind = u8(in);
    uint8_t value = u8(in);
    end *e = &w.ends[which];
    size_t slot = 0;
    while (slot < SLOTS && e->slots[slot] != NULL)
        slot++;
    if (slot == SLOTS)
        return;
    dp_channel_init init = DP_CHANNEL_INIT("");
    init.ordered = (kind & 1) == 0;
    init.priority = (dp_channel_priority)(DP_CHANNEL_PRIORITY_VERY_LOW << (kind >> 1 & 3));
    switch (kind >> 3 & 7) {
    case 1:
        init.max_retransmits = value & 3;
        break;
    case 2:
        init.max_packet_lifetime = value;
        break;
    case 3: /* ids that the others never get to, as few as there are */
        init.negotiated = true;
        init.id = (value & 1) != 0 ? 200 + (value & 7) : 600 + (value & 7);
        break;
    default:
        break;
    }
    w.allowed += 10 * ANSWERS;
    size_t padding = (kind >> 6) * 1000u;
    queued += padding;
    (void)ledger_open(&w.ledger, &e->slots[slot], which, e->sctp, sim_clock, init, padding);
}

static void send_message(ledger_channel *c, uint8_t how, uint8_t value)
{
    static const size_t units[] = {1, 16, 256, 1024};
    size_t len = value * units[how & 3];
    if (c == NULL)
        return;
    w.allowed += 12 * (len / 400 + 2);
    if (ledger_send(&w.ledger, c, sim_clock, len, (how & 4) != 0, (how & 8) != 0) == DP_OK)
        queued += 2 * len + 100;
}

static void send_part(ledger_channel *c, uint8_t how, uint8_t value)
{
    size_t len = value * ((how & 1) != 0 ? 64u : 1u);
    if (c == NULL)
        return;
    w.allowed += 12 * (len / 400 + 2);
    if (ledger_send_part(&w.ledger, c, sim_clock, len, (how & 2) != 0) == DP_OK)
        queued += 2 * len + 100;
}

static void act(unsigned which, unsigned what, input *in)
{
    end *e = &w.ends[which];
    if (what == 0) {
        open_channel(which, in);
    } else if (what == 1) {
        uint8_t slot = u8(in);
        uint8_t value = u8(in);
        send_message(e->slots[slot % SLOTS], slot >> 4, value);
    } else if (what == 2) {
        ledger_channel *c = e->slots[u8(in) % SLOTS];
        w.allowed += ANSWERS;
        if (c != NULL)
            ledger_close(c, sim_clock);
    } else if (what == 3) {
        e->deaf = !e->deaf;
    } else if (what == 4) {
        uint8_t slot = u8(in);
        if (e->slots[slot % SLOTS] != NULL)
            dp_channel_set_buffered_amount_low_threshold(e->slots[slot % SLOTS]->channel, slot * 1024u);
    } else if (u8(in) == 0xaa) {
        w.allowed += ANSWERS;
        ledger_abort(&w.ledger, which, e->sctp, sim_clock);
    }
    settle_calls();
}

/* ---- the attacker ------------------------------------------------------------------------------------------ */

static void begin_chunk(uint8_t type, uint8_t flags)
{
    w.last_chunk = w.attack.len;
    dp_wr_u8(&w.attack, type);
    dp_wr_u8(&w.attack, flags);
    dp_wr_u16(&w.attack, 0);
}

static void end_chunk(void)
{
    dp_wr *wr = &w.attack;
    size_t len = wr->len - w.last_chunk;
    if (wr->error)
        return;
    w.attack_bytes[w.last_chunk + 2] = (uint8_t)(len >> 8);
    w.attack_bytes[w.last_chunk + 3] = (uint8_t)len;
    dp_wr_zeros(wr, (4 - len % 4) % 4);
}

static void put_open(dp_wr *wr, input *in)
{
    dp_wr_u8(wr, DP_DCEP_OPEN);
    dp_wr_u8(wr, u8(in));
    dp_wr_u16(wr, u16(in));
    dp_wr_u32(wr, u8(in));
    uint8_t label = u8(in);
    uint8_t protocol = u8(in);
    dp_wr_u16(wr, label);
    dp_wr_u16(wr, protocol);
    for (int n = (label & 0x3f) + (protocol & 0x3f); n > 0; n--)
        dp_wr_u8(wr, 'y');
}

static void put_data(input *in, const end *as)
{
    static const uint32_t ppids[] = {
        DP_PPID_BINARY,       DP_PPID_TEXT,       DP_PPID_DCEP,          0x64700001, 0,
        DP_PPID_BINARY_EMPTY, DP_PPID_TEXT_EMPTY, DP_PPID_BINARY_PARTIAL};
    uint8_t flags = u8(in);
    begin_chunk(0, flags & 15);
    dp_wr_u32(&w.attack, near(in, as->tsn + 1));
    uint16_t stream = stream_id(in);
    w.ledger.written[stream] = true;
    dp_wr_u16(&w.attack, stream);
    dp_wr_u16(&w.attack, u8(in));
    uint8_t what = u8(in);
    dp_wr_u32(&w.attack, ppids[what & 7]);
    if ((what & 7) == 2 && (what & 8) != 0)
        put_open(&w.attack, in);
    else if ((what & 16) != 0)
        put_raw(in, &w.attack);
    else
        dp_wr_zeros(&w.attack, (what & 32) != 0 ? 1000 : 1);
    end_chunk();
}

static void put_sack(input *in, const end *to)
{
    begin_chunk(3, 0);
    dp_wr_u32(&w.attack, near(in, to->tsn));
    dp_wr_u32(&w.attack, (uint32_t)u8(in) << 12);
    uint8_t counts = u8(in);
    dp_wr_u16(&w.attack, counts & 7);
    dp_wr_u16(&w.attack, counts >> 6);
    for (int i = 0; i < 2 * (counts & 7); i++)
        dp_wr_u16(&w.attack, u8(in));
    for (int i = 0; i < counts >> 6; i++)
        dp_wr_u32(&w.attack, near(in, to->tsn));
    end_chunk();
}

static void put_forward_tsn(input *in, const end *as)
{
    begin_chunk(0xc0, 0);
    dp_wr_u32(&w.attack, near(in, as->tsn + 1));
    for (int n = u8(in) & 7; n > 0; n--) {
        dp_wr_u16(&w.attack, stream_id(in));
        dp_wr_u16(&w.attack, u8(in));
    }
    end_chunk();
}

/* RFC 6525 §4. */
static void put_re_config(input *in, const end *as, const end *to)
{
    begin_chunk(0x82, 0);
    for (int n = 1 + (u8(in) & 1); n > 0; n--) {
        uint8_t type = u8(in);
        size_t at = w.attack.len;
        dp_wr_u16(&w.attack, 13 + type % 6);
        dp_wr_u16(&w.attack, 0);
        bool answer = type % 6 == 3;
        dp_wr_u32(&w.attack, near(in, answer ? to->request : as->request));
        if (type % 6 == 0)
            dp_wr_u32(&w.attack, near(in, to->request));
        if (answer)
            dp_wr_u32(&w.attack, u8(in) & 7);
        else if (type % 6 == 0)
            dp_wr_u32(&w.attack, near(in, as->tsn));
        else if (type % 6 > 3)
            dp_wr_u32(&w.attack, (uint32_t)u16(in) << 16);
        if (type % 6 < 2)
            for (int k = type >> 5; k > 0; k--)
                dp_wr_u16(&w.attack, stream_id(in));
        size_t len = w.attack.len - at;
        if (!w.attack.error)
            w.attack_bytes[at + 3] = (uint8_t)len;
        dp_wr_zeros(&w.attack, (4 - len % 4) % 4);
    }
    end_chunk();
}

static void put_init(input *in, const end *as)
{
    begin_chunk(1 + (u8(in) & 1), 0);
    dp_wr_u32(&w.attack, near(in, 1));
    dp_wr_u32(&w.attack, (uint32_t)u8(in) << 12);
    dp_wr_u16(&w.attack, u16(in));
    dp_wr_u16(&w.attack, u16(in));
    dp_wr_u32(&w.attack, near(in, as->tsn));
    put_raw(in, &w.attack);
    end_chunk();
}

/* ABORT, SHUTDOWN and what else has little or free content. */
static void put_other(input *in, const end *to)
{
    static const uint8_t types[] = {4,  5,  6,    7,    8,    9,    10,   11,   12,  13,
                                    14, 15, 0x40, 0x80, 0x81, 0xc1, 0xc2, 0x83, 0xff};
    uint8_t what = u8(in);
    uint8_t type = types[what % sizeof types];
    begin_chunk(type, what >> 7);
    if (type == 7)
        dp_wr_u32(&w.attack, near(in, to->tsn));
    else if (type != 8 && type != 11 && type != 14)
        put_raw(in, &w.attack);
    end_chunk();
}

static void send_attack(unsigned to, input *in)
{
    uint8_t how = u8(in);
    dp_wr header = dp_wr_init(w.attack_bytes, PACKET_MAX);
    dp_wr_u16(&header, 5000);
    dp_wr_u16(&header, how == 1 ? 5001 : 5000);
    dp_wr_u32(&header, how == 2 ? 0 : w.ends[1 - to].tag);
    dp_wr_u32(&header, 0);
    if (!w.attack.error && w.attack.len > DP_SCTP_COMMON_HEADER) {
        dp_sctp_checksum_write(w.attack_bytes, w.attack.len);
        give(to, w.attack_bytes, w.attack.len);
    }
    w.attack = dp_wr_init(w.attack_bytes, PACKET_MAX);
    dp_wr_zeros(&w.attack, DP_SCTP_COMMON_HEADER);
}

static void attack(unsigned to, unsigned what, input *in)
{
    const end *as = &w.ends[1 - to];
    w.ledger.forged = true;
    switch (what) {
    case 0:
        put_data(in, as);
        break;
    case 1:
        put_sack(in, &w.ends[to]);
        break;
    case 2:
        put_forward_tsn(in, as);
        break;
    case 3:
        put_re_config(in, as, &w.ends[to]);
        break;
    case 4:
        put_init(in, as);
        break;
    case 5:
        put_other(in, &w.ends[to]);
        break;
    case 6: /* anything, also broken */
        w.last_chunk = w.attack.len;
        put_raw(in, &w.attack);
        w.ledger.wild = true;
        break;
    default: /* a wrong length */
        if (!w.attack.error && w.last_chunk + 4 <= w.attack.len)
            w.attack_bytes[w.last_chunk + 3] += u8(in);
        w.ledger.wild = true;
        break;
    }
}

/* ---- a session --------------------------------------------------------------------------------------------- */

static void begin(uint8_t options)
{
    static uint64_t seed;
    w.ledger = (ledger){0};
    w.packets = w.allowed = 0;
    queued = 0;
    w.attack = dp_wr_init(w.attack_bytes, PACKET_MAX);
    dp_wr_zeros(&w.attack, DP_SCTP_COMMON_HEADER);
    seed = options;
    sim_clock_seed(options);
    sim_clock += DP_SECONDS(120); /* usrsctp remembers the tags of an ended association for a minute */
    for (unsigned i = 0; i < 2; i++) {
        end *e = &w.ends[i];
        dp_sctp_config config = {.size = sizeof config, .random = {sim_random_bytes, &seed}};
        if ((options & 1) != 0)
            config.max_channels = 8;
        if ((options & 2) != 0)
            config.send_buffer_size = config.receive_buffer_size = 16384;
        if ((options & 4) != 0)
            config.max_message_size = 65536;
        if ((options & 16) != 0) {
            config.max_message_size = 4096; /* an OPEN has up to 3,020 bytes */
            config.max_size_in_parts = DP_UNLIMITED;
        }
        memset(e->slots, 0, sizeof e->slots);
        e->count = e->old_count = 0;
        e->deaf = false;
        e->tag = e->tsn = e->request = 0;
        if (dp_sctp_new(&e->sctp, &config) != DP_OK)
            abort();
    }
    size_t limit = (options & 4) != 0 ? 65536 : 262144;
    for (unsigned i = 0; i < 2; i++) {
        w.allowed += ANSWERS;
        if (dp_sctp_start(w.ends[i].sctp, sim_clock, i == 0, 5000, limit) != DP_OK)
            abort();
    }
    settle_calls();
    if ((options & 8) == 0)
        deliver_all(8);
}

/* Nothing is lost any more: whatever is under way comes to its end. */
static void settle(void)
{
    dp_time until = sim_clock + SETTLE;
    w.ends[0].deaf = w.ends[1].deaf = false;
    settle_calls();
    while (!w.ledger.forged && !w.ledger.ended[0] && !w.ledger.ended[1] && ledger_busy(&w.ledger) != NULL) {
        if (sim_clock > until) {
            fprintf(stderr, "%s\n", ledger_busy(&w.ledger));
            abort();
        }
        deliver_all(FLIGHT);
        to_next_timeout();
    }
}

static void step(input *in)
{
    uint8_t op = u8(in);
    unsigned which = op >> 7;
    unsigned what = op & 31;
    if (what < 6)
        transfer(which, what, what == 3 || what == 5 ? u8(in) : 0);
    else if (what < 8)
        deliver_all(32);
    else if (what == 8)
        to_next_timeout();
    else if (what == 9)
        pass((dp_duration)(1 + u8(in)) * DP_MS(10));
    else if (what < 16)
        act(which, what - 10, in);
    else if (what < 24) {
        attack(which, what - 16, in);
        if ((op & 0x40) == 0)
            send_attack(which, in);
    } else if (what < 26)
        send_attack(which, in);
    else if (what < 28 && w.ends[which].old_count > 0) {
        const packet *p = &w.ends[which].old[u8(in) % w.ends[which].old_count];
        give(1 - which, p->data, p->len);
    } else if (what == 28) {
        uint8_t slot = u8(in);
        uint8_t value = u8(in);
        send_part(w.ends[which].slots[slot % SLOTS], slot >> 4, value);
        settle_calls();
    }
}

static void end_session(void)
{
    dp_sctp_free(w.ends[0].sctp);
    dp_sctp_free(w.ends[1].sctp);
    ledger_clear(&w.ledger);
    if (live != 0) /* the table of associations, too */
        abort();
}

static void prepare(void)
{
    static const dp_allocator counting = {count_alloc, count_realloc, count_free, NULL};
    static bool done;
    if (done)
        return;
    done = true;
    dp_set_allocator(&counting);
    begin(0); /* usrsctp takes random bytes when it starts: the first input must not differ from the others */
    end_session();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > SIZE_LIMIT)
        return 0;
    prepare();
    input in = {data, size};
    begin(u8(&in));
    while (in.left > 0)
        step(&in);
    settle();
    end_session();
    return 0;
}
