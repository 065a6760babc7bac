/* Stateful: a live association of usrsctp, and a peer whose bytes choose fragments, FORWARD-TSNs, stream resets, what is
 * bundled with what, and when time passes. Nothing may crash, and a FORWARD-TSN never costs more chunks than usrsctp has
 * room for. */
#include "sctp/forward.h"
#include "base/rd.h"
#include "base/wr.h"
#include "sctp/association.h"
#include "sctp/filter.h"

#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#define FIRST_TSN 0xfffffff0u /* wraps soon */
#define STREAMS   4

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

static dp_association *association;
static uint32_t tag;
static bool interleaves; /* RFC 8260 */

static void drain(void)
{
    static uint8_t buffer[16384];
    const uint8_t *packet;
    size_t len;
    while (dp_association_readable(association)) {
        dp_association_event event;
        dp_association_receive(association, &event, buffer, sizeof buffer);
        if (event.type == DP_ASSOCIATION_DATA && event.ppid == DP_FORWARD_PPID)
            abort();
    }
    while (dp_association_poll_transmit(association, &packet, &len)) {
        if (!dp_sctp_checksum_ok(packet, len))
            abort();
        dp_rd rd = dp_rd_init(packet + 12, len - 12);
        if (dp_rd_u8(&rd) == 1) { /* INIT */
            dp_rd_skip(&rd, 3);
            tag = dp_rd_u32(&rd);
        }
    }
}

static dp_wr begin(uint8_t *out, size_t capacity)
{
    dp_wr wr = dp_wr_init(out, capacity);
    dp_wr_u32(&wr, 5000u << 16 | 5000u);
    dp_wr_u32(&wr, tag);
    dp_wr_u32(&wr, 0);
    return wr;
}

static void send(dp_wr *wr)
{
    if (wr->error)
        abort();
    dp_sctp_checksum_write(wr->start, wr->len);
    (void)dp_association_input(association, clock_us, wr->start, wr->len);
    drain();
}

/* INIT ACK: tag, a_rwnd, streams, TSN, cookie, forward-TSN, extensions */
static void handshake(void)
{
    uint8_t packet[128];
    drain();
    dp_wr wr = begin(packet, sizeof packet);
    dp_wr_u32(&wr, 0x0200002c);
    dp_wr_u32(&wr, 0x01020304);
    dp_wr_u32(&wr, 1 << 20);
    dp_wr_u32(&wr, STREAMS << 16 | STREAMS);
    dp_wr_u32(&wr, FIRST_TSN);
    dp_wr_u32(&wr, 0x0007000c);
    dp_wr_zeros(&wr, 8);
    dp_wr_u32(&wr, 0xc0000004);
    dp_wr_u32(&wr, interleaves ? 0x80080008 : 0x80080006);
    dp_wr_u32(&wr, interleaves ? 0x82c040c2 : 0x82c00000);
    send(&wr);
    wr = begin(packet, sizeof packet);
    dp_wr_u32(&wr, 0x0b000004); /* COOKIE ACK */
    send(&wr);
}

static void put_chunk(dp_wr *wr, dp_rd *in)
{
    uint8_t what = dp_rd_u8(in);
    uint32_t tsn = FIRST_TSN + dp_rd_u8(in);
    switch (what >> 6) {
    case 0:
    case 1: { /* DATA: flags, stream and SSN in three bytes */
        dp_wr_u8(wr, interleaves ? 0x40 : 0);
        dp_wr_u8(wr, what & 15);
        dp_wr_u16(wr, interleaves ? 24 : 20);
        dp_wr_u32(wr, tsn);
        dp_wr_u16(wr, (uint16_t)((what >> 4 & 3) + (tsn % 64 == 63 ? STREAMS : 0)));
        uint8_t number = dp_rd_u8(in);
        dp_wr_u16(wr, interleaves ? 0 : number);
        if (interleaves) /* a few messages of few fragments */
            dp_wr_u32(wr, number >> 2 & 15);
        dp_wr_u32(wr, interleaves && (what & 2) == 0 ? number & 3 : 53);
        dp_wr_u32(wr, tsn);
        break;
    }
    case 2: { /* FORWARD-TSN, sometimes far */
        unsigned listed = what & 3;
        dp_wr_u8(wr, interleaves ? 0xc2 : 0xc0);
        dp_wr_u8(wr, 0);
        dp_wr_u16(wr, (uint16_t)(8 + (interleaves ? 8 : 4) * listed));
        dp_wr_u32(wr, (what & 4) != 0 ? tsn * 17 : tsn);
        for (unsigned i = 0; i < listed; i++) {
            dp_wr_u16(wr, dp_rd_u8(in) % (STREAMS + 1));
            uint16_t number = (uint16_t)(dp_rd_u8(in) * ((what & 8) != 0 ? 257 : 1));
            if (interleaves) {
                dp_wr_u16(wr, number & 1);
                dp_wr_u16(wr, 0);
            }
            dp_wr_u16(wr, interleaves ? number / 2 : number);
        }
        break;
    }
    default: /* RE-CONFIG: one stream */
        dp_wr_u32(wr, 0x82000018);
        dp_wr_u32(wr, 0x000d0012);
        dp_wr_u32(wr, FIRST_TSN + (what & 7));
        dp_wr_u32(wr, 0);
        dp_wr_u32(wr, tsn);
        dp_wr_u16(wr, what >> 3 & 3);
        dp_wr_u16(wr, 0);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 1024)
        return 0;
    /* The last byte, so that what was found before means the same. */
    interleaves = size > 0 && data[size - 1] == 0x40;
    dp_association_config config = {1160, 65536, 65536, 16384, STREAMS, STREAMS, 5000, 5000, interleaves};
    tag = 0;
    if (dp_association_new(&association, clock_us, &config) != DP_OK)
        abort();
    handshake();
    dp_rd in = dp_rd_init(data, size);
    while (dp_rd_left(&in) > 0) {
        uint8_t packet[1160];
        uint8_t how = dp_rd_u8(&in);
        dp_wr wr = begin(packet, sizeof packet);
        for (unsigned i = 0; i <= (how & 7u); i++)
            put_chunk(&wr, &in);
        send(&wr);
        clock_us += (dp_time)(how >> 3) * 1000;
        dp_association_tick(association, clock_us);
        drain();
    }
    dp_association_free(association);
    clock_us += DP_SECONDS(10);
    return 0;
}
