/* Stateful: two of our ends, connected, and an attacker who can speak for either of them. The bytes choose what happens
 * next: packets of the ends are delivered, dropped, doubled, held back, changed; chunks of all types with the right
 * verification tag are made up, alone or bundled; channels are opened, closed, sent on, the association aborted; time
 * passes. Nothing may crash or hang, and what tests/sim/ledger.h says holds, as far as the attacker has not touched it.
 * If he has done nothing, all that was sent on reliable channels arrives in the end. */
#include "session_attack.h"
#include "session_world.h"

#define SIZE_LIMIT 4096u
#define SETTLE     DP_SECONDS(200)
/* A session ends after so many: what matters happens early, and a thousand sessions a second find more than long ones. */
#ifndef SCALE
#define SCALE 1u /* bulk.c has more */
#endif
#define PACKETS_MAX (56u * SCALE)
#define SENT_MAX    (SCALE * 48u << 10) /* bytes of messages, for the same reason */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t sent;

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
        init.id = (value & 1) != 0 ? 40 + (value & 7) : 56 + (value & 7);
        break;
    default:
        break;
    }
    w.allowed += 10 * ANSWERS;
    size_t padding = (kind >> 6) * 300u;
    queued += padding;
    (void)ledger_open(&w.ledger, &e->slots[slot], which, e->sctp, sim_clock, init, padding);
}

static void send_message(ledger_channel *c, uint8_t how, uint8_t value)
{
    static const size_t units[] = {1, 8 * SCALE, 32 * SCALE, 128 * SCALE};
    size_t len = value * units[how & 3];
    if (c == NULL || sent + len > SENT_MAX)
        return;
    sent += len;
    w.allowed += 12 * (len / 400 + 2);
    if (ledger_send(&w.ledger, c, sim_clock, len, (how & 4) != 0, (how & 8) != 0) == DP_OK)
        queued += 2 * len + 100;
}

static void send_part(ledger_channel *c, uint8_t how, uint8_t value)
{
    size_t len = value * ((how & 1) != 0 ? 64u : 1u);
    if (c == NULL || sent + len > SENT_MAX)
        return;
    sent += len;
    w.allowed += 12 * (len / 400 + 2);
    if (ledger_send_part(&w.ledger, c, sim_clock, len, (how & 2) != 0) == DP_OK)
        queued += 2 * len + 100;
}

/* Path MTU discovery: probes are packets like the others, but nothing here lets only small ones pass. */
static void change_path(unsigned which, uint8_t value)
{
    static const size_t sizes[] = {0, 600, 1160, 1300, 1432, 1472, 4000, 16384};
    size_t size = sizes[value & 7];
    w.largest = w.largest < size ? size : w.largest;
    w.allowed += ANSWERS;
    dp_sctp_set_path(w.ends[which].sctp, sim_clock, size, value * DP_MS(1) / 8);
}

static void look_at_stats(unsigned which)
{
    dp_sctp_stats stats;
    dp_channel_stats of_channel;
    dp_sctp_get_stats(w.ends[which].sctp, &stats);
    if (stats.mtu > w.largest || stats.data_channels_closed > stats.data_channels_opened)
        abort();
    for (size_t i = 0; i < SLOTS; i++)
        if (w.ends[which].slots[i] != NULL)
            dp_channel_get_stats(w.ends[which].slots[i]->channel, &of_channel);
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
    drain(which);
}

/* ---- a session --------------------------------------------------------------------------------------------- */

static dp_sctp_config configure(uint8_t options, uint64_t *seed)
{
    dp_sctp_config config = {.size = sizeof config, .random = {sim_random_bytes, seed}};
    config.mtu = (options & 32) != 0 ? 1160 : 524; /* small packets make messages of many fragments cheap */
    config.initial_channels = 8;
    config.no_interleaving = (options & 128) == 0;
    config.max_channels = (options & 1) != 0 ? 8 : 64;
    if ((options & 2) != 0)
        config.send_buffer_size = config.receive_buffer_size = 16384;
    config.max_message_size = SCALE * ((options & 4) != 0 ? 8192 : 32768);
    if ((options & 16) != 0) {
        config.max_message_size = 4096; /* an OPEN has up to 920 bytes */
        config.max_size_in_parts = DP_UNLIMITED;
    }
    return config;
}

static void begin(uint8_t options)
{
    static uint64_t seed;
    memset(&w, 0, sizeof w);
    queued = sent = 0;
    begin_attack();
    seed = options;
    sim_clock_seed(options);
    sim_clock += DP_SECONDS(120); /* usrsctp remembers the tags of an ended association for a minute */
    dp_sctp_config config = configure(options, &seed);
    w.largest = config.mtu;
    size_t limit = config.max_size_in_parts > 0 ? SCALE * 32768 : config.max_message_size;
    w.interleaves = !config.no_interleaving;
    for (unsigned i = 0; i < 2; i++) {
        w.allowed += ANSWERS;
        if (dp_sctp_new(&w.ends[i].sctp, &config) != DP_OK ||
            dp_sctp_start(w.ends[i].sctp, sim_clock, i == 0, 5000, limit) != DP_OK)
            abort();
        drain(i);
    }
    if ((options & 8) != 0)
        return;
    if ((options & 64) == 0) /* where the INITs do not cross, a connection takes half of the packets */
        transfer(1, LOSE, 0);
    deliver_all(8);
}

/* Nothing is lost any more: whatever is under way comes to its end. */
static void settle(void)
{
    dp_time until = sim_clock + SETTLE;
    for (unsigned i = 0; i < 2; i++) {
        w.ends[i].deaf = false;
        drain(i);
    }
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
        give(1 - which, *p);
    } else if (what == 28) {
        uint8_t slot = u8(in);
        uint8_t value = u8(in);
        send_part(w.ends[which].slots[slot % SLOTS], slot >> 4, value);
        drain(which);
    } else if (what == 29) {
        change_path(which, u8(in));
        drain(which);
    } else if (what == 30) {
        look_at_stats(which);
    }
}

static void end_session(void)
{
    for (unsigned i = 0; i < 2; i++) {
        dp_sctp_free(w.ends[i].sctp);
        forget_packets(&w.ends[i]);
    }
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
    while (in.left > 0 && w.packets < PACKETS_MAX)
        step(&in);
    settle();
    end_session();
    return 0;
}
