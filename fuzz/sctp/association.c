/* Stateful: two of our ends in memory, the bytes choose what happens next: deliver, drop, double, flip a bit
 * (with the checksum mended), let time pass, open, send, close, abort. Nothing may crash, and no message may
 * arrive changed that no flipped packet touched. */
#include "sctp/filter.h"

#include <datapeer/sctp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static dp_time clock_us = 1000000;

__attribute__((visibility("default"))) int gettimeofday(struct timeval *restrict tv, void *restrict zone);
int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    (void)zone;
    tv->tv_sec = (time_t)(1700000000 + clock_us / 1000000);
    tv->tv_usec = (suseconds_t)(clock_us % 1000000);
    return 0;
}

static int fuzz_random(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    memset(out, 7, len);
    return DP_OK;
}

typedef struct world {
    dp_sctp *end[2];
    dp_channel *channels[2][8];
    bool flipped;
} world;

static void events(world *w, int end)
{
    dp_sctp_event event;
    while (dp_sctp_poll_event(w->end[end], &event)) {
        if (event.type == DP_SCTP_EVENT_MESSAGE && !w->flipped)
            for (size_t i = 0; i < event.len; i++)
                if (event.data[i] != (uint8_t)(event.len + i))
                    abort();
        for (size_t i = 0; event.channel != NULL && i < 8; i++) {
            dp_channel **slot = &w->channels[end][i];
            if (event.type == DP_SCTP_EVENT_CHANNEL_CLOSED && *slot == event.channel)
                *slot = NULL;
            else if (event.type == DP_SCTP_EVENT_CHANNEL_OPEN && event.incoming && *slot == NULL) {
                *slot = event.channel;
                break;
            }
        }
    }
}

/* One packet from one end to the other, or not quite. */
static void transfer(world *w, int from, uint8_t how, uint8_t where)
{
    const uint8_t *packet;
    size_t len;
    uint8_t copy[2048];
    if (!dp_sctp_poll_transmit(w->end[from], &packet, &len) || len > sizeof copy || how == 1)
        return;
    memcpy(copy, packet, len);
    if (how == 2) {
        copy[(where * 5u) % len] ^= (uint8_t)(1u << (where & 7));
        dp_sctp_checksum_write(copy, len);
        w->flipped = true;
    }
    dp_sctp_input(w->end[1 - from], clock_us, copy, len);
    if (how == 3)
        dp_sctp_input(w->end[1 - from], clock_us, copy, len);
    events(w, 1 - from);
}

static void open_channel(world *w, dp_channel **slot, int end, uint8_t action, uint8_t value)
{
    dp_channel_init init = DP_CHANNEL_INIT("fuzz");
    init.ordered = (action & 8) != 0;
    init.priority = (dp_channel_priority)(DP_CHANNEL_PRIORITY_VERY_LOW << (value >> 3 & 3));
    switch (action >> 4 & 7) {
    case 1:
        init.max_retransmits = value >> 6;
        break;
    case 2:
        init.max_packet_lifetime = value;
        break;
    case 3:
        init.negotiated = true;
        init.id = value * 4;
        break;
    default:
        break;
    }
    if (*slot == NULL && dp_sctp_open_channel(w->end[end], slot, clock_us, &init) != DP_OK)
        *slot = NULL;
}

static void act(world *w, uint8_t action, uint8_t value)
{
    static uint8_t message[65536];
    int end = action >> 7;
    dp_channel **slot = &w->channels[end][value & 7];
    switch (action & 7) {
    case 0:
    case 1:
        transfer(w, end, (action >> 3) & 3, value);
        break;
    case 2: /* all that waits, unharmed */
        for (int i = 0; i < 64; i++)
            transfer(w, i & 1, 0, 0);
        break;
    case 3:
        clock_us += (dp_time)value * value * 100;
        for (int i = 0; i < 2; i++)
            dp_sctp_handle_timeout(w->end[i], clock_us);
        break;
    case 4:
        open_channel(w, slot, end, action, value);
        break;
    case 5: {
        size_t len = (size_t)(action & 0x78) * value * 2;
        for (size_t i = 0; i < len; i++)
            message[i] = (uint8_t)(len + i);
        if (*slot != NULL)
            (void)dp_channel_send(*slot, clock_us, message, len, true, (value & 8) != 0);
        break;
    }
    case 6:
        if (*slot != NULL)
            dp_channel_close(*slot, clock_us);
        break;
    default:
        if (value == 0xaa)
            dp_sctp_abort(w->end[end], clock_us);
        break;
    }
    for (int i = 0; i < 2; i++)
        events(w, i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 2048)
        return 0;
    world w;
    memset(&w, 0, sizeof w);
    dp_sctp_config config = {.size = sizeof config, .random = {fuzz_random, NULL}};
    for (int i = 0; i < 2; i++) {
        if (dp_sctp_new(&w.end[i], &config) != DP_OK)
            abort();
        if (dp_sctp_start(w.end[i], clock_us, i == 0, 5000, 0) != DP_OK)
            abort();
    }
    for (size_t i = 0; i + 1 < size; i += 2)
        act(&w, data[i], data[i + 1]);
    dp_sctp_free(w.end[0]);
    dp_sctp_free(w.end[1]);
    clock_us += DP_SECONDS(10);
    return 0;
}
