/* The agent's links: TURN servers by UDP and TCP, ICE-TCP streams that it opens and accepts. The bytes choose when each
 * opens and ends, what it brings (raw bytes, a server's answer, the peer's check or data), and what the owner does
 * meanwhile. Each link that the owner has must be one of the agent's, and the other way round; after close there is
 * none. */
#include "base/crypto.h"
#include "base/rd.h"
#include "ice/agent.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 300
#define LIVE_MAX  64

typedef struct live {
    uint32_t id;
    bool stream; /* to the peer: two bytes of length precede each frame */
    bool pieces; /* a stream to a TURN server: frames come in pieces */
    unsigned method;
    uint8_t asked[DP_STUN_TRANSACTION_LEN];   /* of the last request to the server... */
    uint8_t checked[DP_STUN_TRANSACTION_LEN]; /* ...and to the peer */
} live;

typedef struct world {
    dp_ice *ice;
    dp_time now;
    uint64_t seed;
    uint16_t next_port;
    dp_address host;
    live live[LIVE_MAX];
    size_t count;
} world;

static int seeded(void *ctx, uint8_t *out, size_t len)
{
    uint64_t *s = (uint64_t *)ctx;
    for (size_t i = 0; i < len; i++) {
        *s = *s * 6364136223846793005u + 1442695040888963407u;
        out[i] = (uint8_t)(*s >> 56);
    }
    return DP_OK;
}

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* ---- what the agent says ---- */

static live *find(world *w, uint32_t id)
{
    for (size_t i = 0; i < w->count; i++) {
        if (w->live[i].id == id)
            return &w->live[i];
    }
    return NULL;
}

static live *add(world *w, uint32_t id)
{
    require(id != 0 && find(w, id) == NULL && w->count < LIVE_MAX);
    live *l = &w->live[w->count++];
    *l = (live){.id = id};
    return l;
}

static void take_events(world *w)
{
    dp_ice_event event;
    while (dp_ice_poll_event(w->ice, &event)) {
        if (event.type == DP_ICE_EVENT_LINK_OPEN) {
            live *l = add(w, event.link.id);
            l->stream = dp_ice_stream_by_link(w->ice, event.link.id) != NULL;
            l->pieces = !l->stream && event.link.transport != DP_ICE_UDP;
        } else if (event.type == DP_ICE_EVENT_LINK_CLOSE) {
            live *l = find(w, event.link.id);
            require(l != NULL);
            *l = w->live[--w->count];
        }
    }
}

static void note_request(live *l, const uint8_t *data, size_t len)
{
    dp_stun_message m;
    if (dp_stun_decode(&m, data, len) != DP_OK)
        return;
    if (m.class_ == DP_STUN_INDICATION && m.payload_len > 0)
        note_request(l, m.payload, m.payload_len); /* inside a Send indication */
    if (m.class_ != DP_STUN_REQUEST)
        return;
    if (m.method == DP_STUN_METHOD_BINDING) {
        memcpy(l->checked, m.transaction, sizeof l->checked);
    } else {
        l->method = m.method;
        memcpy(l->asked, m.transaction, sizeof l->asked);
    }
}

static void take_datagrams(world *w)
{
    uint8_t data[DP_DATAGRAM_MAX];
    dp_datagram d = {.data = data, .capacity = sizeof data};
    while (dp_ice_poll_transmit(w->ice, w->now, &d)) {
        live *l = find(w, d.link);
        require(d.link == 0 || l != NULL);
        size_t prefix = l != NULL && l->stream ? DP_FRAME_PREFIX : 0;
        require(d.length > prefix);
        if (l != NULL)
            note_request(l, data + prefix, d.length - prefix);
    }
}

static void settle(world *w)
{
    for (unsigned rounds = 0; rounds == 0 || dp_ice_next_timeout(w->ice) <= w->now; rounds++) {
        require(rounds < 4); /* else an owner would go round without end */
        if (dp_ice_next_timeout(w->ice) <= w->now)
            dp_ice_handle_timeout(w->ice, w->now);
        take_events(w);
        take_datagrams(w);
        take_events(w); /* a link that ends with its last datagram */
    }
    size_t links = 0;
    for (size_t i = 0; i < w->ice->relay_count; i++)
        links += w->ice->relays[i].link != 0;
    for (size_t i = 0; w->ice->streams != NULL && i < DP_ICE_MAX_STREAMS; i++)
        links += w->ice->streams[i].link != 0;
    require(w->ice->dead_link_count == 0 && links == w->count);
    for (size_t i = 0; i < w->count; i++)
        require(dp_ice_relay_by_link(w->ice, w->live[i].id) != NULL ||
                dp_ice_stream_by_link(w->ice, w->live[i].id) != NULL);
    require(dp_ice_alive(w->ice) || w->count == 0);
}

/* ---- what comes ---- */

/* An exact copy, in two pieces if it is a stream, so that ASan sees each byte too many. */
static void input(world *w, const live *l, const uint8_t *data, size_t len, size_t cut)
{
    uint32_t id = l->id;
    cut = cut < len && (l->stream || l->pieces) ? cut : len;
    for (size_t at = 0; at < len;) {
        size_t n = at < cut ? cut - at : len - at;
        uint8_t *exact = malloc(n);
        if (exact == NULL)
            return;
        memcpy(exact, data + at, n);
        for (size_t used = 0; used < n;) {
            dp_ice_payload payload;
            size_t taken = dp_ice_link_input(w->ice, w->now, id, exact + used, n - used, &payload);
            require(taken > 0 && taken <= n - used);
            if (payload.len > 0) /* it must be there, and may be changed */
                memset(payload.data, 0xFF, payload.len);
            used += taken;
        }
        free(exact);
        at += n;
    }
}

static dp_address peer_of(uint8_t n)
{
    return (dp_address){
        n & 1 ? DP_FAMILY_IPV6 : DP_FAMILY_IPV4, (uint16_t)(5000 + (n >> 6)), 0, {10, 0, 0, n & 63}};
}

static size_t answer_of_server(const live *l, uint8_t out[DP_STUN_MESSAGE_MAX], dp_rd *rd)
{
    static const uint16_t codes[] = {300, 401, 403, 437, 438, 440, 441, 486};
    uint8_t how = dp_rd_u8(rd);
    uint8_t n = dp_rd_u8(rd);
    uint8_t key[DP_MD5_LEN];
    size_t len = 0;
    dp_address relayed = peer_of(n);
    dp_wr wr = dp_wr_init(out, DP_STUN_MESSAGE_MAX);
    dp_stun_write_header(&wr, how & 1 ? DP_STUN_ERROR : DP_STUN_SUCCESS, l->method, l->asked);
    if (how & 1)
        dp_stun_write_error_code(&wr, codes[n % 8], "no");
    if (how & 2) {
        dp_stun_write_attribute(&wr, DP_STUN_REALM, "realm", 5);
        dp_stun_write_attribute(&wr, DP_STUN_NONCE, &n, 1);
    }
    if (how & 4)
        dp_stun_write_attribute(&wr, DP_STUN_ALTERNATE_SERVER, "\0\1\x0d\x96\xc0\0\2\1", 8);
    if ((how & 8) == 0)
        dp_stun_write_xor_address(&wr, DP_STUN_XOR_RELAYED_ADDRESS, &relayed);
    dp_stun_write_u32(&wr, DP_STUN_LIFETIME, how & 16 ? n : 600);
    if (how & 32 && dp_md5(key, "user:realm:password", 19) == DP_OK)
        dp_stun_write_integrity(&wr, key, sizeof key);
    return dp_stun_finish(&wr, &len) == DP_OK ? len : 0;
}

/* The peer's check, its answer to ours, or data. */
static size_t message_of_peer(const world *w, const live *l, uint8_t out[DP_STUN_MESSAGE_MAX], dp_rd *rd)
{
    static const uint8_t zeros[DP_STUN_TRANSACTION_LEN] = {0};
    uint8_t how = dp_rd_u8(rd);
    bool request = (how & 1) != 0;
    size_t len = 0;
    if (how & 2) {
        memcpy(out, "\x16 data", 6);
        return 6;
    }
    dp_wr wr = dp_wr_init(out, DP_STUN_MESSAGE_MAX);
    dp_stun_write_header(&wr, request ? DP_STUN_REQUEST : DP_STUN_SUCCESS, DP_STUN_METHOD_BINDING,
                         request ? zeros : l->checked);
    if (request) {
        char name[DP_ICE_UFRAG_LEN + 6];
        memcpy(name, w->ice->local_ufrag, DP_ICE_UFRAG_LEN);
        memcpy(name + DP_ICE_UFRAG_LEN, ":peer", 6);
        dp_stun_write_attribute(&wr, DP_STUN_USERNAME, name, sizeof name - 1);
        dp_stun_write_u32(&wr, DP_STUN_PRIORITY, 1000);
        dp_stun_write_u64(&wr, DP_STUN_ICE_CONTROLLING, 1);
        if (how & 4)
            dp_stun_write_attribute(&wr, DP_STUN_USE_CANDIDATE, "", 0);
    } else {
        dp_stun_write_xor_mapped_address(&wr, &w->host);
    }
    if (request)
        dp_stun_write_integrity(&wr, w->ice->local_pwd, DP_ICE_PWD_LEN);
    else
        dp_stun_write_integrity(&wr, "passwordpasswordpassword", 24);
    return dp_stun_finish(&wr, &len) == DP_OK ? len : 0;
}

/* On a stream behind its length, through a relay inside a Data indication. */
static void from_peer(world *w, const live *l, dp_rd *rd)
{
    uint8_t inner[DP_STUN_MESSAGE_MAX];
    uint8_t out[DP_STUN_MESSAGE_MAX + 64];
    uint8_t n = dp_rd_u8(rd);
    size_t len = message_of_peer(w, l, inner, rd);
    size_t out_len = 0;
    dp_wr wr = dp_wr_init(out, sizeof out);
    if (l->stream) {
        dp_wr_u16(&wr, (uint16_t)len);
        dp_wr_bytes(&wr, inner, len);
    } else {
        static const uint8_t zeros[DP_STUN_TRANSACTION_LEN] = {0};
        dp_address peer = peer_of(n);
        dp_stun_write_header(&wr, DP_STUN_INDICATION, DP_STUN_METHOD_DATA, zeros);
        dp_stun_write_xor_address(&wr, DP_STUN_XOR_PEER_ADDRESS, &peer);
        dp_stun_write_attribute(&wr, DP_STUN_DATA, inner, len);
    }
    if ((l->stream ? dp_wr_finish(&wr, &out_len) : dp_stun_finish(&wr, &out_len)) == DP_OK)
        input(w, l, out, out_len, n);
}

static void on_link(world *w, dp_rd *rd)
{
    uint8_t what = dp_rd_u8(rd);
    uint8_t out[DP_STUN_MESSAGE_MAX];
    if (w->count == 0)
        return;
    live *l = &w->live[(what >> 3) % w->count];
    uint32_t id = l->id;
    size_t len;
    switch (what & 7) {
    case 0:
    case 1:
        dp_ice_link_opened(w->ice, w->now, id);
        break;
    case 2:
        *l = w->live[--w->count];
        dp_ice_link_closed(w->ice, w->now, id);
        break;
    case 3: {
        len = dp_rd_u8(rd);
        const uint8_t *bytes = dp_rd_bytes(rd, len);
        if (bytes != NULL)
            input(w, l, bytes, len, len / 2);
        break;
    }
    case 4:
    case 5:
        len = answer_of_server(l, out, rd);
        input(w, l, out, len, what);
        break;
    default:
        from_peer(w, l, rd);
    }
}

/* ---- what the owner does ---- */

static void say(world *w)
{
    uint8_t data[DP_DATAGRAM_MAX];
    dp_datagram d = {.data = data, .capacity = sizeof data};
    size_t headroom;
    if (!dp_ice_send_begin(w->ice, &d, &headroom))
        return;
    require(headroom <= DP_ICE_HEADROOM_MAX && (d.link == 0 || find(w, d.link) != NULL));
    memset(data + headroom, 0x16, 100);
    d.length = 100;
    dp_ice_send_end(w->ice, &d, headroom);
    require(d.length == 0 || d.length >= 100 + headroom);
}

static void accept_stream(world *w, uint8_t n)
{
    dp_address from = peer_of(n & 0xFE);
    if (n & 1) /* else one that may be there already */
        from.port = w->next_port++;
    uint32_t id = dp_ice_link_accepted(w->ice, w->now, &w->host, &from);
    take_events(w); /* perhaps that another one has to go */
    if (id != 0)
        add(w, id)->stream = true;
}

static void owner(world *w, dp_rd *rd)
{
    uint8_t what = dp_rd_u8(rd);
    uint8_t n = what >> 3;
    switch (what & 7) {
    case 0:
        (void)dp_ice_restart(w->ice, w->now);
        break;
    case 1:
        (void)dp_ice_set_remote_credentials(w->ice, w->now, "peer", "passwordpasswordpassword");
        break;
    case 2:
        (void)dp_ice_add_remote_candidate(w->ice, w->now,
                                          n & 1 ? "candidate:1 1 tcp 9 10.0.0.2 5000 typ host tcptype passive"
                                                : "candidate:2 1 udp 9 10.0.0.2 5000 typ host");
        break;
    case 3:
        accept_stream(w, n);
        break;
    case 4:
        say(w);
        break;
    case 5:
        if (n & 1)
            (void)dp_ice_remove_local_address(w->ice, w->now, &w->host);
        else
            (void)dp_ice_add_local_listener(w->ice, w->now, &w->host);
        break;
    case 6:
        dp_ice_set_role(w->ice, n & 1 ? DP_ICE_CONTROLLED : DP_ICE_CONTROLLING);
        break;
    default:
        if (n == 31)
            dp_ice_close(w->ice);
    }
}

static void step(world *w, dp_rd *rd)
{
    uint8_t op = dp_rd_u8(rd);
    if (op < 128)
        on_link(w, rd);
    else if (op < 192)
        owner(w, rd);
    else if (op < 240 && dp_ice_next_timeout(w->ice) != DP_TIME_NEVER)
        w->now = dp_ice_next_timeout(w->ice);
    else
        w->now += DP_SECONDS(1) << (op & 15u);
    settle(w);
}

static bool start(world *w, uint8_t options)
{
    dp_ice_config config = {.size = sizeof config,
                            .random = {seeded, &w->seed},
                            .role = options & 1 ? DP_ICE_CONTROLLED : DP_ICE_CONTROLLING,
                            .tcp = true,
                            .relay_only = (options & 2) != 0};
    if (dp_ice_new(&w->ice, &config) != DP_OK)
        return false;
    dp_ice_server server = {.size = sizeof server,
                            .turn = true,
                            .username = "user",
                            .credential = "password",
                            .address = {DP_FAMILY_IPV4, 3478, 0, {192, 0, 2, 1}}};
    for (unsigned i = 0; i < 3; i++) {
        server.transport = (dp_ice_transport)i;
        (void)dp_ice_add_server(w->ice, &server);
    }
    (void)dp_ice_add_local_address(w->ice, w->now, &w->host);
    (void)dp_ice_add_local_listener(w->ice, w->now, &w->host);
    (void)dp_ice_gather(w->ice, w->now);
    if (options & 4)
        (void)dp_ice_set_remote_credentials(w->ice, w->now, "peer", "passwordpasswordpassword");
    settle(w);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    world *w = calloc(1, sizeof *w);
    dp_rd rd = dp_rd_init(data, size);
    if (w == NULL)
        return 0;
    w->now = DP_SECONDS(1);
    w->seed = 1;
    w->next_port = 6000;
    w->host = (dp_address){DP_FAMILY_IPV4, 1000, 0, {10, 0, 0, 1}};
    if (start(w, dp_rd_u8(&rd))) {
        for (unsigned i = 0; i < STEPS_MAX && dp_rd_left(&rd) > 0; i++)
            step(w, &rd);
        dp_ice_close(w->ice);
        settle(w);
    }
    dp_ice_free(w->ice);
    free(w);
    return 0;
}
