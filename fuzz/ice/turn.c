/* The TURN client: the bytes choose the server's frames (raw, or an answer to the last request, signed or not, with
 * attributes of the fuzzer's choice), data, steps of the clock and calls of the owner. After each the client must be
 * quiet until a time that is yet to come, and what it sends must be a message that a server could read. */
#include "base/crypto.h"
#include "base/rd.h"
#include "ice/stun.h"
#include "ice/turn_state.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 300

typedef struct world {
    dp_turn *turn;
    dp_time now;
    uint64_t seed;
    bool flaky; /* the random source fails now and then */
    struct {    /* the last requests, a ring */
        unsigned method;
        uint8_t transaction[DP_STUN_TRANSACTION_LEN];
    } asked[DP_TURN_MAX_REQUESTS];
    size_t asked_count;
    unsigned over; /* FAILED and REDIRECTED events: one at most */
} world;

static int seeded(void *ctx, uint8_t *out, size_t len)
{
    world *w = (world *)ctx;
    for (size_t i = 0; i < len; i++) {
        w->seed = w->seed * 6364136223846793005u + 1442695040888963407u;
        out[i] = (uint8_t)(w->seed >> 56);
    }
    return w->flaky && w->seed >> 60 == 0 ? DP_ERR_CRYPTO : DP_OK;
}

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void note_frame(world *w, const uint8_t *data, size_t len)
{
    dp_stun_message m;
    require(dp_stun_decode(&m, data, len) == DP_OK && m.unknown_count == 0);
    if (m.class_ != DP_STUN_REQUEST)
        return;
    require((m.integrity_at != 0) == (m.username != NULL));
    size_t slot = w->asked_count++ % DP_TURN_MAX_REQUESTS;
    w->asked[slot].method = m.method;
    memcpy(w->asked[slot].transaction, m.transaction, DP_STUN_TRANSACTION_LEN);
}

static void drain(world *w)
{
    uint8_t frame[DP_DATAGRAM_MAX];
    dp_datagram out = {.data = frame, .capacity = sizeof frame};
    dp_turn_event event;
    unsigned frames = 0;
    for (; dp_turn_poll_transmit(w->turn, w->now, &out); frames++)
        note_frame(w, frame, out.length);
    require(frames <= DP_TURN_MAX_REQUESTS + 1);
    while (dp_turn_poll_event(w->turn, &event)) {
        require(event.type != DP_TURN_EVENT_ALLOCATED || (event.count > 0 && event.count <= 2));
        w->over += event.type == DP_TURN_EVENT_FAILED || event.type == DP_TURN_EVENT_REDIRECTED;
    }
    require(w->over <= 1);
    require(dp_turn_next_timeout(w->turn) > w->now);
    require(w->over == 0 || dp_turn_next_timeout(w->turn) == DP_TIME_NEVER);
}

static void input(world *w, const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);
    dp_turn_data out;
    if (copy == NULL)
        return;
    if (len > 0)
        memcpy(copy, data, len);
    if (dp_turn_input(w->turn, w->now, copy, len, &out))
        require(out.len > 0 && out.data > copy && out.data + out.len <= copy + len);
    free(copy);
}

static dp_address peer_of(uint8_t n)
{
    dp_address peer = {
        n & 1 ? DP_FAMILY_IPV6 : DP_FAMILY_IPV4, (uint16_t)(1 + (n >> 6)), 0, {10, 0, 0, n & 63}};
    return peer;
}

/* One attribute: its kind, and what it is made of. */
static void write_attribute(dp_wr *wr, dp_rd *rd)
{
    static const uint16_t codes[] = {300, 400, 401, 401, 403, 420, 437, 438, 438, 440, 441, 486, 500, 508};
    uint8_t kind = dp_rd_u8(rd);
    uint8_t n = dp_rd_u8(rd);
    dp_address peer = peer_of(n);
    switch (kind % 9) {
    case 0:
        dp_stun_write_error_code(wr, codes[n % (sizeof codes / sizeof codes[0])], "no");
        break;
    case 1:
        dp_stun_write_attribute(wr, DP_STUN_REALM, "realm", 5);
        dp_stun_write_attribute(wr, DP_STUN_NONCE, &n, 1);
        break;
    case 2:
        dp_stun_write_xor_address(wr, DP_STUN_XOR_RELAYED_ADDRESS, &peer);
        break;
    case 3:
        dp_stun_write_xor_mapped_address(wr, &peer);
        break;
    case 4:
        dp_stun_write_u32(wr, DP_STUN_LIFETIME, n < 128 ? n : (uint32_t)n << (n % 25));
        break;
    case 5:
        dp_stun_write_attribute(wr, DP_STUN_ALTERNATE_SERVER, "\0\1\x0d\x96\xc0\0\2\1", 8);
        break;
    case 6:
        dp_stun_write_xor_address(wr, DP_STUN_XOR_PEER_ADDRESS, &peer);
        break;
    case 7:
        dp_stun_write_attribute(wr, DP_STUN_DATA, "data of the peer", n % 17);
        break;
    default: {
        const uint8_t *value = dp_rd_bytes(rd, n % 32);
        if (value != NULL)
            dp_stun_write_attribute(wr, (dp_stun_attribute)dp_rd_u16(rd), value, n % 32);
    }
    }
}

/* A message of the server: flags say which request it answers and how, then come attributes. */
static void answer(world *w, dp_rd *rd, bool is_answer)
{
    uint8_t frame[DP_STUN_MESSAGE_MAX];
    uint8_t key[DP_MD5_LEN];
    size_t len = 0;
    uint8_t flags = dp_rd_u8(rd);
    size_t slot = (w->asked_count + DP_TURN_MAX_REQUESTS - 1 - (flags >> 5)) % DP_TURN_MAX_REQUESTS;
    dp_wr wr = dp_wr_init(frame, sizeof frame);
    unsigned method = is_answer ? w->asked[slot].method : DP_STUN_METHOD_DATA;
    dp_stun_class class_ = !is_answer ? DP_STUN_INDICATION : flags & 1 ? DP_STUN_ERROR : DP_STUN_SUCCESS;
    dp_stun_write_header(&wr, class_, method, w->asked[slot].transaction);
    for (unsigned i = 0; i < (flags >> 2 & 7u); i++)
        write_attribute(&wr, rd);
    if (flags & 2 && dp_md5(key, "user:realm:password", 19) == DP_OK)
        dp_stun_write_integrity(&wr, key, sizeof key);
    if (dp_stun_finish(&wr, &len) == DP_OK)
        input(w, frame, len);
}

static void send_data(world *w, uint8_t n)
{
    uint8_t frame[256];
    dp_address peer = peer_of(n);
    size_t headroom = dp_turn_headroom(w->turn, &peer);
    dp_datagram out = {.data = frame, .capacity = n < 200 ? sizeof frame : n, .length = n % 190};
    memset(frame, n, sizeof frame);
    require(headroom <= DP_ICE_HEADROOM_MAX);
    if (!dp_turn_wrap(w->turn, &peer, &out, headroom))
        require(out.length == 0);
    else
        require(out.length >= headroom + n % 190 && out.length <= headroom + n % 190 + 3 &&
                out.length <= out.capacity);
}

static void step(world *w, dp_rd *rd)
{
    uint8_t op = dp_rd_u8(rd);
    uint8_t n = 0;
    dp_address peer;
    switch (op % 9) {
    case 0:
    case 1:
        answer(w, rd, true);
        break;
    case 2:
        answer(w, rd, false);
        break;
    case 3: {
        size_t len = dp_rd_u8(rd) % 64;
        const uint8_t *bytes = dp_rd_bytes(rd, len);
        if (bytes != NULL)
            input(w, bytes, len);
        break;
    }
    case 4: /* to the next timer, or some way, or a night's sleep */
        n = dp_rd_u8(rd);
        if (n < 128 && dp_turn_next_timeout(w->turn) != DP_TIME_NEVER)
            w->now = dp_turn_next_timeout(w->turn);
        else
            w->now += n == 255 ? DP_SECONDS(30000) : DP_MS(n * 100);
        dp_turn_handle_timeout(w->turn, w->now);
        break;
    case 5:
        peer = peer_of(dp_rd_u8(rd));
        (void)dp_turn_permit(w->turn, w->now, &peer);
        break;
    case 6:
        peer = peer_of(dp_rd_u8(rd));
        (void)dp_turn_bind(w->turn, w->now, &peer);
        break;
    case 7:
        send_data(w, dp_rd_u8(rd));
        break;
    default:
        n = dp_rd_u8(rd);
        if (n == 0xFF)
            dp_turn_release(w->turn, w->now);
        else if (n & 1)
            dp_turn_probe(w->turn, w->now);
        else
            dp_turn_start(w->turn, w->now);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    world w = {.now = DP_SECONDS(1), .seed = size};
    dp_rd rd = dp_rd_init(data, size);
    uint8_t flags = dp_rd_u8(&rd);
    w.flaky = (flags & 2) != 0;
    dp_turn_config config = {.random = {seeded, &w},
                             .reliable = flags & 1,
                             .username = "user",
                             .credential = "password",
                             .software = "fuzz"};
    if (dp_turn_new(&w.turn, &config) != DP_OK)
        return 0;
    dp_turn_start(w.turn, w.now);
    drain(&w);
    for (unsigned i = 0; i < STEPS_MAX && dp_rd_left(&rd) > 0; i++) {
        step(&w, &rd);
        drain(&w);
    }
    dp_turn_free(w.turn);
    return 0;
}
