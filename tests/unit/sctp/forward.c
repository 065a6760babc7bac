/* FORWARD-TSN: a peer that gives messages up, in front of usrsctp and in front of a model of what usrsctp must be shown,
 * a sender that loses nothing. */
#include "sctp/forward.h"
#include "forward_peer.h"
#include "sctp/association.h"
#include "virtual_time.h"

#include <setjmp.h>
#include <stdio.h>
/* cmocka wants the headers above */
#include <cmocka.h>

static peer evil;

/* ---- the model ---------------------------------------------------------------------------------- */

#define MODEL_CHUNKS 16384
#define MODEL_BLOCKS 120

typedef struct model_chunk {
    uint8_t flags;
    uint16_t stream, ssn;
    uint32_t ppid, tsn;
    uint8_t data[8];
    size_t len;
    bool present;
} model_chunk;

typedef struct model_message {
    bool present, unordered;
    uint16_t stream, ssn;
    uint32_t tsn, ppid;
    uint8_t data[256];
    size_t len;
} model_message;

static struct {
    dp_forward forward;
    uint32_t cumulative, highest;
    model_chunk chunks[MODEL_CHUNKS];
    model_message waiting[PEER_STREAMS][1024]; /* by SSN modulo */
    model_message open;
    uint16_t next[PEER_STREAMS];
    uint32_t reset_done;
    unsigned refuse, sack_loss; /* percent */
    unsigned unacknowledged;
    uint64_t delivered, dropped;
} model;

static void model_deliver(const model_message *message)
{
    if (dp_forward_drops(&model.forward, message->tsn, message->ppid, true)) {
        model.dropped++;
        return;
    }
    const char *wrong = peer_check(&evil, message->stream, message->unordered, message->data, message->len);
    if (wrong != NULL)
        fail_msg("message with TSN %u: %s", message->tsn, wrong);
    model.delivered++;
}

static void model_complete(const model_message *message)
{
    if (message->unordered) {
        model_deliver(message);
        return;
    }
    uint16_t *next = &model.next[message->stream];
    assert_true((int16_t)(message->ssn - *next) >= 0);
    model_message *place = &model.waiting[message->stream][message->ssn % 1024];
    assert_false(place->present);
    *place = *message;
    for (; (place = &model.waiting[message->stream][*next % 1024])->present; ++*next) {
        place->present = false;
        model_deliver(place);
    }
}

/* RFC 9260 §6.9: in the order of TSNs, the fragments of a message follow one another. */
static void model_next(const model_chunk *chunk)
{
    model_message *open = &model.open;
    assert_int_equal(open->present, (chunk->flags & 2) == 0);
    if (!open->present)
        *open = (model_message){.present = true,
                                .unordered = (chunk->flags & 4) != 0,
                                .stream = chunk->stream,
                                .ssn = chunk->ssn,
                                .tsn = chunk->tsn,
                                .ppid = chunk->ppid};
    assert_int_equal(open->stream, chunk->stream);
    assert_int_equal(open->unordered, (chunk->flags & 4) != 0);
    assert_true(open->unordered || open->ssn == chunk->ssn);
    if (open->len + chunk->len <= sizeof open->data) { /* given up anyway */
        memcpy(open->data + open->len, chunk->data, chunk->len);
        open->len += chunk->len;
    }
    if ((chunk->flags & 1) == 0)
        return;
    open->present = false;
    model_message complete = *open;
    complete.present = true;
    model_complete(&complete);
}

static void model_sack(void)
{
    uint8_t buffer[1024];
    dp_wr wr = dp_wr_init(buffer, sizeof buffer);
    dp_wr_zeros(&wr, DP_SCTP_COMMON_HEADER);
    dp_wr_u8(&wr, 3);
    dp_wr_u8(&wr, 0);
    size_t length = dp_wr_mark_u16(&wr);
    dp_wr_u32(&wr, model.cumulative);
    dp_wr_u32(&wr, 100000);
    size_t count = dp_wr_mark_u16(&wr);
    dp_wr_u16(&wr, 0);
    size_t blocks = 0;
    uint32_t span = model.highest - model.cumulative;
    for (uint32_t i = 1; i <= span && blocks < MODEL_BLOCKS; i++) {
        if (!model.chunks[(model.cumulative + i) % MODEL_CHUNKS].present)
            continue;
        dp_wr_u16(&wr, (uint16_t)i);
        while (i < span && model.chunks[(model.cumulative + i + 1) % MODEL_CHUNKS].present)
            i++;
        dp_wr_u16(&wr, (uint16_t)i);
        blocks++;
    }
    dp_wr_patch_u16(&wr, count, blocks);
    dp_wr_patch_u16(&wr, length, wr.len - DP_SCTP_COMMON_HEADER);
    assert_false(wr.error);
    model.unacknowledged = 0;
    if (dp_forward_output(&model.forward, buffer, wr.len) && !peer_chance(&evil, model.sack_loss))
        peer_input(&evil, buffer, wr.len);
}

static bool model_data(dp_rd *body, uint8_t flags)
{
    model_chunk chunk = {.flags = flags, .present = true, .tsn = dp_rd_u32(body)};
    chunk.stream = dp_rd_u16(body);
    chunk.ssn = dp_rd_u16(body);
    chunk.ppid = dp_rd_u32(body);
    chunk.len = dp_rd_left(body);
    assert_in_range(chunk.len, 1, 8);
    memcpy(chunk.data, dp_rd_bytes(body, chunk.len), chunk.len);
    model_chunk *place = &model.chunks[chunk.tsn % MODEL_CHUNKS];
    if ((int32_t)(chunk.tsn - model.cumulative) <= 0 || place->present)
        return true;
    if (chunk.tsn - model.cumulative > 4096)
        return false;
    bool higher = (int32_t)(chunk.tsn - model.highest) > 0;
    if (higher && peer_chance(&evil, model.refuse))
        return false;
    assert_true(chunk.stream < PEER_STREAMS);
    *place = chunk;
    if (higher)
        model.highest = chunk.tsn;
    while ((place = &model.chunks[(model.cumulative + 1) % MODEL_CHUNKS])->present) {
        model.cumulative++;
        model_next(place);
        place->present = false;
    }
    return (flags & 8) != 0;
}

static void model_reset(dp_rd *body)
{
    dp_rd_skip(body, 4);
    uint32_t request = dp_rd_u32(body);
    dp_rd_skip(body, 4);
    if ((int32_t)(dp_rd_u32(body) - model.cumulative) > 0)
        return;
    if (request != model.reset_done)
        memset(model.next, 0, sizeof model.next);
    model.reset_done = request;
    uint8_t buffer[64];
    dp_wr wr = dp_wr_init(buffer, sizeof buffer);
    dp_wr_zeros(&wr, DP_SCTP_COMMON_HEADER);
    dp_wr_u32(&wr, 0x82000010);
    dp_wr_u32(&wr, 0x0010000c);
    dp_wr_u32(&wr, request);
    dp_wr_u32(&wr, 1);
    peer_input(&evil, buffer, wr.len);
}

static void model_input(void *ctx, const uint8_t *packet, size_t len)
{
    (void)ctx;
    dp_rd rd = dp_rd_init(packet, len);
    assert_int_equal(dp_rd_u32(&rd), 5000u << 16 | 5000u);
    dp_rd_skip(&rd, 8);
    bool sack = false, data = false;
    while (dp_rd_left(&rd) > 0) {
        uint8_t type = dp_rd_u8(&rd);
        uint8_t flags = dp_rd_u8(&rd);
        size_t length = dp_rd_u16(&rd);
        dp_rd body = dp_rd_sub(&rd, length - 4);
        dp_rd_skip(&rd, (4 - length % 4) % 4);
        assert_false(rd.error);
        assert_int_not_equal(type, 0xc0);
        if (type == 0)
            sack |= model_data(&body, flags);
        else if (type == 0x82)
            model_reset(&body);
        data |= type == 0;
    }
    if (data && (sack || ++model.unacknowledged >= 2 || model.highest != model.cumulative))
        model_sack();
}

static void to_forward(void *ctx, const uint8_t *packet, size_t len)
{
    (void)ctx;
    assert_int_equal(dp_sctp_filter(packet, len, 5000, 5000, false), DP_OK);
    assert_int_equal(dp_forward_input(&model.forward, packet, len, model_input, NULL), DP_OK);
}

/* RFC 9260 §3.3.2: what says at which TSN the peer begins, and that it knows FORWARD-TSN. */
static void put_init(dp_wr *wr, uint8_t type, uint32_t tsn, size_t cookie)
{
    dp_wr_u8(wr, type);
    dp_wr_u8(wr, 0);
    dp_wr_u16(wr, (uint16_t)(20 + 12 + (cookie > 0 ? 4 + cookie : 0)));
    dp_wr_u32(wr, 0x01020304);
    dp_wr_u32(wr, 1 << 20);
    dp_wr_u16(wr, PEER_STREAMS);
    dp_wr_u16(wr, PEER_STREAMS);
    dp_wr_u32(wr, tsn);
    if (cookie > 0) {
        dp_wr_u16(wr, 7);
        dp_wr_u16(wr, (uint16_t)(4 + cookie));
        dp_wr_zeros(wr, cookie);
    }
    dp_wr_u32(wr, 0xc0000004);
    dp_wr_u32(wr, 0x80080006);
    dp_wr_u32(wr, 0x82c00000);
}

static void ignore_packet(void *ctx, const uint8_t *data, size_t len)
{
    (void)ctx;
    (void)data;
    (void)len;
}

/* What the list of extensions in INIT says (RFC 5061 §4.2.7): I-DATA counts if we offer it, too, and then FORWARD-TSN does
 * not, but its counterpart (RFC 8260). */
static void test_extensions(void **state)
{
    (void)state;
    static const struct {
        bool offers;
        uint32_t types;
        bool supported, interleaves;
    } cases[] = {
        {true, 0x82c040c2, true, true},   {true, 0x82c04000, false, true},   {true, 0x8240c200, true, true},
        {true, 0x82c00000, true, false},  {true, 0x82000000, false, false},  {true, 0x82c2c000, true, false},
        {false, 0x82c040c2, true, false}, {false, 0x8240c200, false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t bytes[64];
        dp_forward forward;
        dp_wr wr = dp_wr_init(bytes, sizeof bytes);
        dp_wr_zeros(&wr, DP_SCTP_COMMON_HEADER);
        dp_wr_u32(&wr, 0x0100001c);
        dp_wr_zeros(&wr, 16);
        dp_wr_u32(&wr, 0x80080008);
        dp_wr_u32(&wr, cases[i].types);
        dp_forward_init(&forward, PEER_STREAMS, cases[i].offers);
        assert_int_equal(dp_forward_input(&forward, bytes, wr.len, ignore_packet, NULL), DP_OK);
        assert_int_equal(forward.supported, cases[i].supported);
        assert_int_equal(forward.interleaves, cases[i].interleaves);
        dp_forward_clear(&forward);
    }
}

static void model_start(uint64_t seed, uint32_t tsn)
{
    peer_init(&evil, seed, tsn);
    evil.receive = to_forward;
    memset(&model, 0, sizeof model);
    dp_forward_init(&model.forward, PEER_STREAMS, false);
    model.cumulative = model.highest = tsn - 1;
    model.reset_done = evil.reset_request;
    uint8_t buffer[128];
    dp_wr wr = peer_packet(&evil, buffer, sizeof buffer);
    put_init(&wr, 1, tsn, 0);
    peer_deliver(&evil, &wr);
}

/* All that a peer may do, by the seed. */
static void vary(peer *p)
{
    p->loss = peer_random(p) % 50;
    p->give_up = peer_random(p) % 60;
    p->window = 2 + (peer_chance(p, 20) ? peer_random(p) % 4000 : peer_random(p) % 100);
    p->fragments_max = 1 + peer_random(p) % 20;
    p->short_steps = peer_chance(p, 30);
    p->over_acked = peer_chance(p, 50);
    p->list_all = peer_chance(p, 30);
    p->resets = peer_chance(p, 30);
}

static void end(uint64_t seed)
{
    if (!peer_done(&evil))
        fail_msg("seed %llu: stuck at TSN %u of %u", (unsigned long long)seed, evil.acked, evil.tsn);
    if (peer_missing(&evil) != evil.message_count)
        fail_msg("seed %llu: message %u never came", (unsigned long long)seed, peer_missing(&evil));
}

static void test_model(void **state)
{
    (void)state;
    uint64_t forwards = 0, dropped = 0;
    unsigned runs = 1500;
    for (uint64_t seed = 1; seed <= runs; seed++) {
        model_start(seed, seed % 3 == 0 ? UINT32_MAX - 200 : (uint32_t)seed * 7919u);
        vary(&evil);
        model.refuse = peer_chance(&evil, 30) ? peer_random(&evil) % 30 : 0;
        model.sack_loss = peer_random(&evil) % 40;
        for (unsigned i = 0; i < 200000 && !peer_done(&evil); i++)
            peer_step(&evil);
        end(seed);
        for (size_t i = 0; i < PEER_STREAMS; i++)
            for (size_t k = 0; k < 1024; k++)
                assert_false(model.waiting[i][k].present);
        assert_int_equal(model.forward.abandoned_count, 0);
        assert_int_equal(model.forward.count, 0);
        forwards += evil.forwards;
        dropped += model.dropped;
        dp_forward_clear(&model.forward);
    }
    print_message("%u peers, %llu FORWARD-TSNs, %llu messages made up or cut off\n", runs,
                  (unsigned long long)forwards, (unsigned long long)dropped);
    assert_true(forwards > 10 * runs && dropped > 10 * runs);
}

/* More messages on one stream than there are SSNs. */
static void test_ssn_wraps(void **state)
{
    (void)state;
    model_start(7, 1000);
    evil.streams = 1;
    evil.fragments_max = 2;
    evil.message_limit = PEER_MESSAGES;
    for (unsigned i = 0; i < 2000000 && !peer_done(&evil); i++)
        peer_step(&evil);
    end(7);
    assert_true(evil.forwards > 1000);
    dp_forward_clear(&model.forward);
}

/* ---- usrsctp ------------------------------------------------------------------------------------ */

static dp_association *good;
static int went_down;
static uint32_t messages; /* that came out */
static bool deaf, raw;    /* raw: the test writes chunks of its own */

static void read_events(void)
{
    static uint8_t message[65536];
    static size_t len;
    while (!deaf && dp_association_readable(good)) {
        dp_association_event event;
        dp_association_receive(good, &event, message + len, sizeof message - len);
        went_down += event.type == DP_ASSOCIATION_DOWN;
        if (event.type != DP_ASSOCIATION_DATA)
            continue;
        len += event.len;
        if (!event.complete)
            continue;
        const char *wrong = raw ? NULL : peer_check(&evil, event.stream, event.unordered, message, len);
        if (wrong != NULL)
            fail_msg("message with TSN %u: %s", event.tsn, wrong);
        len = 0;
        messages++;
    }
}

static void drain_good(void)
{
    const uint8_t *packet;
    size_t len;
    while (dp_association_poll_transmit(good, &packet, &len))
        if (!peer_chance(&evil, model.sack_loss))
            peer_input(&evil, packet, len);
    read_events();
}

static void to_good(void *ctx, const uint8_t *packet, size_t len)
{
    (void)ctx;
    (void)dp_association_input(good, virtual_now, packet, len);
    drain_good();
}

static void pass_time(dp_duration how_long)
{
    virtual_now += how_long;
    dp_association_tick(good, virtual_now);
    drain_good();
}

/* The peer answers good's INIT. */
static void connect_good(uint64_t seed, uint32_t tsn)
{
    static const dp_association_config config = {1160,         1 << 20, 1 << 20, 65536, PEER_STREAMS,
                                                 PEER_STREAMS, 5000,    5000,    false};
    peer_init(&evil, seed, tsn);
    evil.receive = to_good;
    memset(&model, 0, sizeof model);
    went_down = 0;
    messages = 0;
    deaf = raw = false;
    assert_int_equal(dp_association_new(&good, virtual_now, &config), DP_OK);
    const uint8_t *packet;
    size_t len;
    assert_true(dp_association_poll_transmit(good, &packet, &len));
    assert_int_equal(packet[12], 1);
    dp_rd rd = dp_rd_init(packet + 16, 4);
    evil.tag = dp_rd_u32(&rd);
    uint8_t buffer[128];
    dp_wr wr = peer_packet(&evil, buffer, sizeof buffer);
    put_init(&wr, 2, tsn, 8);
    peer_deliver(&evil, &wr); /* INIT ACK; COOKIE ECHO comes */
    wr = peer_packet(&evil, buffer, sizeof buffer);
    dp_wr_u32(&wr, 0x0b000004); /* COOKIE ACK */
    peer_deliver(&evil, &wr);
}

static void test_usrsctp(void **state)
{
    (void)state;
    uint64_t forwards = 0;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        /* Not across 0: an unordered message with that TSN, if it is alone in its chunk, makes usrsctp abort when it
         * has fragments of the stream without their beginning (it takes 0 for the next after "none"). */
        connect_good(seed, seed % 3 == 0 ? INT32_MAX - 200 : (uint32_t)seed * 7919u);
        vary(&evil);
        model.sack_loss = peer_random(&evil) % 40;
        for (unsigned i = 0; i < 200000 && !peer_done(&evil) && went_down == 0; i++) {
            peer_step(&evil);
            if (i % 4 == 0)
                pass_time(DP_MS(1));
        }
        if (went_down != 0)
            fail_msg("seed %llu: aborted", (unsigned long long)seed);
        end(seed);
        forwards += evil.forwards;
        dp_association_free(good);
    }
    print_message("%llu FORWARD-TSNs\n", (unsigned long long)forwards);
    assert_true(forwards > 4000);
}

static void raw_data(dp_wr *wr, uint32_t tsn, uint8_t flags, uint16_t stream, uint16_t ssn)
{
    dp_wr_u8(wr, 0);
    dp_wr_u8(wr, flags);
    dp_wr_u16(wr, 17);
    dp_wr_u32(wr, tsn);
    dp_wr_u16(wr, stream);
    dp_wr_u16(wr, ssn);
    dp_wr_u32(wr, 53);
    dp_wr_zeros(wr, 4);
}

static void raw_forward(dp_wr *wr, uint32_t tsn, const uint16_t *list, size_t count)
{
    dp_wr_u16(wr, 0xc000);
    dp_wr_u16(wr, (uint16_t)(8 + 4 * count));
    dp_wr_u32(wr, tsn);
    for (size_t i = 0; i < 2 * count; i++)
        dp_wr_u16(wr, list[i]);
}

/* Streams that do not exist, SSNs that no TSN is left for, a TSN out of the window: nothing of it harms others. */
static void test_hostile(void **state)
{
    (void)state;
    static const uint16_t list[] = {9, 5, 1, 30000, 2, 65535, 65535, 65535};
    uint8_t buffer[256];
    connect_good(1, 1000);
    raw = true;
    dp_wr wr = peer_packet(&evil, buffer, sizeof buffer);
    raw_forward(&wr, 1000 + 4096, NULL, 0);
    peer_deliver(&evil, &wr);
    pass_time(DP_MS(200));
    assert_int_equal(evil.acked, 999);
    wr = peer_packet(&evil, buffer, sizeof buffer);
    raw_forward(&wr, 1001, list, 4);
    raw_data(&wr, 1002, 3, 3, 0);
    peer_deliver(&evil, &wr);
    pass_time(DP_MS(200));
    assert_int_equal(evil.acked, 1002);
    wr = peer_packet(&evil, buffer, sizeof buffer);
    raw_forward(&wr, 1002 + 4088, list, 4); /* as far as usrsctp goes */
    peer_deliver(&evil, &wr);
    pass_time(DP_MS(200));
    assert_int_equal(evil.acked, 1002 + 4088);
    assert_int_equal(messages, 1);
    wr = peer_packet(&evil, buffer, sizeof buffer);
    raw_data(&wr, 1003 + 4088, 3, 3, 1);
    peer_deliver(&evil, &wr);
    assert_int_equal(messages, 2);
    assert_int_equal(went_down, 0);
    dp_association_free(good);
}

static int raw_many(uint32_t tsn, uint32_t step)
{
    uint8_t buffer[1160];
    dp_wr wr = peer_packet(&evil, buffer, sizeof buffer);
    for (uint32_t i = 0; i < 50; i++)
        raw_data(&wr, tsn + i * step, 7, 0, 0);
    dp_sctp_checksum_write(buffer, wr.len);
    return dp_association_input(good, virtual_now, buffer, wr.len);
}

/* Small messages that the owner does not read: their number closes the window, and reading opens it. step 0: the same one
 * again and again, of which usrsctp's window sees nothing. */
static void unread(uint32_t step)
{
    connect_good(1, 1000);
    deaf = raw = true;
    uint32_t tsn = 1000;
    int packets = 0;
    for (; raw_many(tsn, step) == DP_OK && packets < 1000; packets++) {
        tsn += 50 * step;
        drain_good();
    }
    assert_in_range(packets, 16384 / 50, 16384 / 50 + 1);
    const uint8_t *packet;
    size_t len;
    assert_true(dp_association_poll_transmit(good, &packet, &len));
    assert_int_equal(len, 28);
    assert_memory_equal(packet + 20, "\0\0\0\0", 4); /* a_rwnd */
    assert_true(dp_sctp_checksum_ok(packet, len));
    deaf = false;
    read_events();
    assert_int_equal(messages, step == 0 ? 1 : tsn - 1000);
    uint32_t open = 0;
    while (dp_association_poll_transmit(good, &packet, &len)) {
        dp_rd rd = dp_rd_init(packet + 20, 4);
        if (packet[12] == 3)
            open = dp_rd_u32(&rd);
    }
    assert_true(open > 100000);
    assert_int_equal(raw_many(1000 + messages, 1), DP_OK);
    uint32_t before = messages;
    drain_good();
    assert_int_equal(messages, before + 50);
    dp_association_free(good);
}

static void test_unread(void **state)
{
    (void)state;
    unread(1);
    unread(0);
}

static bool keeps_reset(size_t streams)
{
    model_start(1, 1000);
    uint8_t buffer[64];
    dp_wr wr = peer_packet(&evil, buffer, sizeof buffer);
    dp_wr_u16(&wr, 0x8200);
    dp_wr_u16(&wr, (uint16_t)(20 + 2 * streams));
    dp_wr_u16(&wr, 13);
    dp_wr_u16(&wr, (uint16_t)(16 + 2 * streams));
    dp_wr_u32(&wr, 7);
    dp_wr_u32(&wr, 0);
    dp_wr_u32(&wr, 1500);
    dp_wr_zeros(&wr, 2 * streams + streams % 2 * 2);
    peer_deliver(&evil, &wr);
    bool kept = model.forward.reset_pending;
    dp_forward_clear(&model.forward);
    return kept;
}

/* Thousands of ids in a packet would be looked through for each chunk of the next. */
static void test_reset_of_too_many(void **state)
{
    (void)state;
    assert_true(keeps_reset(PEER_STREAMS));
    assert_false(keeps_reset(PEER_STREAMS + 1));
}

#define SKIP 4000u

/* FORWARD-TSNs over the next SKIP TSNs, and the next. */
static int raw_skip(uint32_t tsn, size_t count)
{
    uint8_t buffer[1160];
    dp_wr wr = peer_packet(&evil, buffer, sizeof buffer);
    for (size_t i = 0; i < count; i++)
        raw_forward(&wr, tsn += SKIP, NULL, 0);
    dp_sctp_checksum_write(buffer, wr.len);
    return dp_association_input(good, virtual_now, buffer, wr.len);
}

/* Each makes thousands of chunks of 8 bytes: a packet has no more than one that counts. */
static void test_many_in_a_packet(void **state)
{
    (void)state;
    connect_good(1, 1000);
    raw = true;
    assert_int_equal(raw_skip(999, 100), DP_ERR_PROTOCOL);
    pass_time(DP_MS(200));
    assert_int_equal(evil.acked, 999 + SKIP);
    assert_int_equal(raw_skip(999 + SKIP, 1), DP_OK);
    pass_time(DP_MS(200));
    assert_int_equal(evil.acked, 999 + 2 * SKIP);
    dp_association_free(good);
}

/* What is made up waits for the owner, too. */
static void test_unread_made(void **state)
{
    (void)state;
    connect_good(1, 1000);
    deaf = raw = true;
    uint32_t tsn = 999;
    for (; raw_skip(tsn, 1) == DP_OK; tsn += SKIP)
        assert_true(tsn < 999 + 16384 + SKIP);
    drain_good();
    assert_int_equal(evil.acked, tsn);
    deaf = false;
    read_events();
    assert_int_equal(raw_skip(tsn, 1), DP_OK);
    pass_time(DP_MS(200));
    assert_int_equal(evil.acked, tsn + SKIP);
    dp_association_free(good);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_extensions),        cmocka_unit_test(test_model),
        cmocka_unit_test(test_ssn_wraps),         cmocka_unit_test(test_usrsctp),
        cmocka_unit_test(test_hostile),           cmocka_unit_test(test_unread),
        cmocka_unit_test(test_many_in_a_packet),  cmocka_unit_test(test_unread_made),
        cmocka_unit_test(test_reset_of_too_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
