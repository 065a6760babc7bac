/* Of fuzz/sctp/session.c: chunks of all types that an attacker makes up, who has seen all that was sent. */
#ifndef FUZZ_SCTP_SESSION_ATTACK_H
#define FUZZ_SCTP_SESSION_ATTACK_H

#include "sctp/dcep.h"
#include "session_world.h"

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
    begin_chunk(w.interleaves ? DP_CHUNK_I_DATA : DP_CHUNK_DATA, flags & 15);
    dp_wr_u32(&w.attack, near(in, as->tsn + 1));
    uint16_t stream = stream_id(in);
    w.ledger.written[stream] = true;
    dp_wr_u16(&w.attack, stream);
    if (w.interleaves)
        dp_wr_u16(&w.attack, 0);
    uint8_t number = u8(in);
    if (w.interleaves)
        dp_wr_u32(&w.attack, number);
    else
        dp_wr_u16(&w.attack, number);
    uint8_t what = u8(in);
    dp_wr_u32(&w.attack, w.interleaves && (flags & 2) == 0 ? what >> 6 : ppids[what & 7]);
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
    begin_chunk(w.interleaves ? DP_CHUNK_I_FORWARD_TSN : DP_CHUNK_FORWARD_TSN, 0);
    dp_wr_u32(&w.attack, near(in, as->tsn + 1));
    for (int n = u8(in) & 7; n > 0; n--) {
        uint16_t stream = stream_id(in);
        dp_wr_u16(&w.attack, stream);
        uint8_t number = u8(in);
        if (w.interleaves)
            dp_wr_u32(&w.attack, number >> 7);
        dp_wr_u16(&w.attack, w.interleaves ? number & 0x7f : number);
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

static void begin_attack(void)
{
    w.attack = dp_wr_init(w.attack_bytes, PACKET_MAX);
    dp_wr_zeros(&w.attack, DP_SCTP_COMMON_HEADER);
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
        packet p = copy(w.attack_bytes, w.attack.len);
        give(to, p);
        free(p.data);
    }
    begin_attack();
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

#endif
