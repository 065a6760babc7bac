/* Two ends and the network between them: whatever the network does, data that arrives was sent, once, and an end is
 * connected only with the other. Input: a byte of flags, then steps, a byte each (its top bit: which way or whose) and
 * what the step takes. Time, randomness and certificates are fixed. */
#include <datapeer/dtls.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

/* mbedTLS 2.28 puts the clock into its hello randoms. */
__attribute__((visibility("default"))) time_t time(time_t *out)
{
    if (out != NULL)
        *out = 1790000000;
    return 1790000000;
}

#define STEPS_MAX    48
#define MESSAGES_MAX 64
#define AIR_MAX      24 /* datagrams each way; more are lost */
#define PAST_MAX     32 /* datagrams to be replayed, of both */
#define BURST_MAX    40 /* datagrams that one call may bring: the queue's 32, and an alert */
#define MTU_MAX      1500
#define TOLD_A_LIE   1 /* flags: this end expects a stranger's certificate; 2: the server */
#define SMALL_MTU    4

enum { CLIENT, SERVER, STRANGER };

typedef struct datagram {
    size_t len;
    uint8_t data[MTU_MAX];
} datagram;

typedef struct end {
    dp_dtls *dtls;
    bool lied_to;
    bool connected;
    bool failed;
    bool over; /* closed or failed */
    unsigned sent;
    bool received[MESSAGES_MAX];
    datagram air[AIR_MAX]; /* what it has sent and the network has */
    size_t air_count;
} end;

static end ends[2];
static datagram past[PAST_MAX];
static size_t past_count;
static dp_time now;
static size_t mtu;
static uint64_t seed;

static int fill(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    for (size_t i = 0; i < len; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        out[i] = (uint8_t)(seed >> 56);
    }
    return DP_OK;
}

static void put(unsigned from, const uint8_t *data, size_t len)
{
    end *e = &ends[from];
    datagram *d = &past[past_count++ % PAST_MAX];
    CHECK(len > 0 && len <= MTU_MAX);
    d->len = len;
    memcpy(d->data, data, len);
    if (e->air_count < AIR_MAX)
        e->air[e->air_count++] = *d;
}

static void check_data(unsigned to, const uint8_t *data, size_t len)
{
    end *e = &ends[to];
    CHECK(e->connected && !e->over);
    CHECK(len == 3 && data[0] == !to && data[1] < ends[!to].sent && data[2] == 'm');
    CHECK(!e->received[data[1]]);
    e->received[data[1]] = true;
}

static void check_connected(unsigned which)
{
    end *e = &ends[which];
    dp_srtp_keys ours;
    dp_srtp_keys theirs;
    CHECK(!e->connected && !e->over && !e->lied_to);
    e->connected = true;
    /* The server's Finished is the last: a client without it is never connected. */
    CHECK(which == SERVER || ends[SERVER].connected);
    if (dp_dtls_srtp_keys(e->dtls, &ours) != DP_OK || dp_dtls_srtp_keys(ends[!which].dtls, &theirs) != DP_OK)
        return; /* the other one is not connected yet or any more */
    CHECK(memcmp(ours.local_key, theirs.remote_key, sizeof ours.local_key) == 0);
    CHECK(memcmp(ours.remote_key, theirs.local_key, sizeof ours.local_key) == 0);
}

static void drain(unsigned which)
{
    end *e = &ends[which];
    uint8_t out[MTU_MAX];
    size_t len = 0;
    dp_dtls_event event;
    bool was_over = e->over;
    while (dp_dtls_poll_event(e->dtls, &event)) {
        CHECK(!e->failed);
        switch (event.type) {
        case DP_DTLS_EVENT_CONNECTED:
            check_connected(which);
            break;
        case DP_DTLS_EVENT_DATA:
            check_data(which, event.data, event.len);
            break;
        case DP_DTLS_EVENT_CLOSED:
            CHECK(e->connected && !e->over && ends[!which].over);
            e->over = true;
            break;
        case DP_DTLS_EVENT_FAILED:
            CHECK(!e->over && !e->connected && event.error < 0 && event.message[0] != '\0');
            e->over = e->failed = true;
            break;
        }
    }
    for (int i = 0; dp_dtls_poll_transmit(e->dtls, out, sizeof out, &len); i++) {
        CHECK(!was_over && i < BURST_MAX && len <= mtu);
        put(which, out, len);
    }
    CHECK(!e->over || dp_dtls_next_timeout(e->dtls) == DP_TIME_NEVER);
}

static void input(unsigned to, const uint8_t *data, size_t len)
{
    uint8_t *exact = malloc(len + 1); /* its own block, so that the sanitizer sees each byte too far */
    CHECK(exact != NULL);
    if (len > 0)
        memcpy(exact + 1, data, len);
    dp_dtls_input(ends[to].dtls, now, exact + 1, len);
    drain(to);
    free(exact);
}

static datagram take(unsigned from)
{
    end *e = &ends[from];
    datagram first = e->air[0];
    memmove(&e->air[0], &e->air[1], --e->air_count * sizeof e->air[0]);
    return first;
}

static void deliver(unsigned from)
{
    datagram d = take(from);
    input(!from, d.data, d.len);
}

static void pass_time(dp_duration span)
{
    now += span;
    for (unsigned i = 0; i < 2; i++) {
        if (dp_dtls_next_timeout(ends[i].dtls) > now)
            continue;
        dp_dtls_handle_timeout(ends[i].dtls, now);
        drain(i);
        CHECK(dp_dtls_next_timeout(ends[i].dtls) > now); /* no busy loop */
    }
}

static void send_message(unsigned from)
{
    end *e = &ends[from];
    uint8_t message[] = {(uint8_t)from, (uint8_t)e->sent, 'm'};
    uint8_t out[sizeof message + DP_DTLS_OVERHEAD];
    size_t len = 0;
    int err = dp_dtls_seal(e->dtls, out, sizeof out, &len, message, sizeof message);
    CHECK((err == DP_OK) == (e->connected && !e->over));
    if (err != DP_OK)
        return;
    e->sent++;
    put(from, out, len);
}

/* Each step on a datagram is on the oldest one that `from` has sent. */
static void change(unsigned step, unsigned from, dp_rd *rd)
{
    end *e = &ends[from];
    datagram *d = &e->air[0];
    if (e->air_count == 0)
        return;
    switch (step) {
    case 1: /* lost */
        take(from);
        break;
    case 2: /* doubled */
        input(!from, d->data, d->len);
        break;
    case 3: { /* overtaken */
        datagram late = take(from);
        e->air[e->air_count++] = late;
        break;
    }
    case 4: { /* cut */
        size_t len = dp_rd_u16(rd);
        d->len = len < d->len ? len : d->len;
        break;
    }
    case 5: { /* a bit flipped */
        size_t at = dp_rd_u16(rd);
        if (d->len > 0)
            d->data[at / 8 % d->len] ^= (uint8_t)(1u << at % 8);
        break;
    }
    default: /* arrives */
        deliver(from);
        break;
    }
}

static void do_step(dp_rd *rd)
{
    unsigned byte = dp_rd_u8(rd);
    unsigned which = byte >> 7;
    unsigned step = byte & 15;
    switch (step) {
    case 6: { /* bytes of an attacker */
        size_t len = dp_rd_u8(rd);
        len = len < dp_rd_left(rd) ? len : dp_rd_left(rd);
        const uint8_t *bytes = dp_rd_bytes(rd, len);
        if (bytes != NULL)
            input(which, bytes, len);
        break;
    }
    case 7:
        pass_time(DP_MS(50) * dp_rd_u8(rd));
        break;
    case 8:
        send_message(which);
        break;
    case 9:
        ends[which].over = true;
        dp_dtls_close(ends[which].dtls, now);
        for (size_t len = 0, i = 0; i < BURST_MAX; i++) { /* close_notify, behind what was queued */
            uint8_t out[MTU_MAX];
            if (!dp_dtls_poll_transmit(ends[which].dtls, out, sizeof out, &len))
                break;
            put(which, out, len);
        }
        drain(which);
        break;
    case 10: { /* an old datagram again */
        size_t at = dp_rd_u8(rd);
        if (past_count > 0) {
            datagram d = past[at % (past_count < PAST_MAX ? past_count : PAST_MAX)];
            input(which, d.data, d.len);
        }
        break;
    }
    case 11: /* all goes well for a while */
        for (int i = 0; i < 8; i++)
            for (unsigned from = 0; from < 2; from++)
                if (ends[from].air_count > 0)
                    deliver(from);
        break;
    default:
        change(step, which, rd);
        break;
    }
}

static void start(unsigned which, unsigned flags)
{
    static dp_certificate *certificates[3];
    dp_random random = {fill, NULL};
    end *e = &ends[which];
    dp_fingerprint fp;
    for (unsigned i = 0; i < 3; i++)
        if (certificates[i] == NULL)
            CHECK(dp_certificate_generate(&certificates[i], &random, 1790000000) == DP_OK);
    memset(e, 0, sizeof *e);
    mtu = (flags & SMALL_MTU) != 0 ? 508 : 1200;
    dp_dtls_config config = {.size = sizeof config,
                             .random = random,
                             .role = which == CLIENT ? DP_DTLS_CLIENT : DP_DTLS_SERVER,
                             .certificate = certificates[which],
                             .mtu = mtu};
    e->lied_to = (flags & TOLD_A_LIE << which) != 0;
    dp_certificate_fingerprint(certificates[e->lied_to ? STRANGER : !which], &fp);
    CHECK(dp_dtls_new(&e->dtls, &config) == DP_OK);
    CHECK(dp_dtls_set_remote_fingerprints(e->dtls, &fp, 1) == DP_OK);
    seed = which + 1;
    CHECK(dp_dtls_start(e->dtls, now) == DP_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dp_rd rd = dp_rd_init(data, size);
    unsigned flags = dp_rd_u8(&rd);
    now = DP_SECONDS(1000);
    past_count = 0;
    start(SERVER, flags);
    start(CLIENT, flags);
    drain(SERVER);
    drain(CLIENT);
    for (int i = 0; i < STEPS_MAX && dp_rd_left(&rd) > 0; i++)
        do_step(&rd);
    /* Never a hang: the time limit ends what is not connected. */
    for (int i = 0; i < 2; i++)
        pass_time(DP_SECONDS(31));
    for (unsigned i = 0; i < 2; i++) {
        dp_dtls_state state = dp_dtls_get_state(ends[i].dtls);
        CHECK(state == (ends[i].failed ? DP_DTLS_FAILED : ends[i].over ? DP_DTLS_CLOSED : DP_DTLS_CONNECTED));
        dp_dtls_free(ends[i].dtls);
    }
    return 0;
}
