#include "dns.h"

#include "base/text.h"

#include <string.h>

/* The header, RFC 1035 §4.1.1 as RFC 6762 §18 uses it:
 *
 *    0                   1
 *    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5
 *   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *   |              ID               |  0, except in legacy queries and the answers to them
 *   |Q|Opcode |A|T|R|R|Z|A|C| Rcode |  QR (response), AA (set in each response), TC, ...
 *   |    questions, QDCOUNT         |  NAME, TYPE, CLASS with the top bit "QU"
 *   |    answers, ANCOUNT           |  NAME, TYPE, CLASS with the top bit "cache-flush", TTL (32), RDLENGTH, RDATA
 *   |    authority, NSCOUNT         |
 *   |    additional, ARCOUNT        |
 *   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 */
enum {
    FLAG_RESPONSE = 0x8000,
    FLAG_AUTHORITATIVE = 0x0400,
    MASK_OPCODE = 0x7800,
    MASK_RCODE = 0x000F,
    CLASS_TOP_BIT = 0x8000,
    POINTER = 0xC0, /* RFC 1035 §4.1.4; 0x40 and 0x80 are no labels at all */
    POINTER_MAX = 0x3FFF,
    JUMPS_MAX = 127,   /* more than a name can have labels: only a hostile message has such chains */
    NSEC_BITS_MAX = 32 /* RFC 4034 §4.1.2: bytes of a window block */
};

/* ---- reading ---- */

int dp_dns_read_header(dp_dns_message *out, const uint8_t *data, size_t len)
{
    if (len > DP_DNS_MESSAGE_MAX)
        return DP_ERR_MALFORMED;
    dp_dns_message message = {.data = data, .len = len, .rd = dp_rd_init(data, len)};
    message.id = dp_rd_u16(&message.rd);
    unsigned flags = dp_rd_u16(&message.rd);
    message.response = (flags & FLAG_RESPONSE) != 0;
    message.questions = dp_rd_u16(&message.rd);
    message.answers = dp_rd_u16(&message.rd);
    message.records = message.answers;
    message.records += dp_rd_u16(&message.rd);
    message.records += dp_rd_u16(&message.rd);
    if (message.rd.error)
        return DP_ERR_MALFORMED;
    if ((flags & (MASK_OPCODE | MASK_RCODE)) != 0)
        return DP_ERR_UNSUPPORTED;
    *out = message;
    return DP_OK;
}

static bool plain_label(const uint8_t *label, size_t len)
{
    return memchr(label, '.', len) == NULL && memchr(label, '\0', len) == NULL;
}

/* Reads a name at message->rd, which moves past it and not to where pointers lead. */
static void read_name(dp_dns_message *message, char out[DP_DNS_NAME_MAX + 1])
{
    dp_rd elsewhere;
    dp_rd *rd = &message->rd;
    size_t start = message->len - dp_rd_left(rd); /* of the labels that are being read */
    size_t text_len = 0;
    bool plain = true;
    for (unsigned jumps = 0;;) {
        unsigned len = dp_rd_u8(rd);
        if ((len & POINTER) == POINTER) {
            size_t to = (len & ~(unsigned)POINTER) << 8 | dp_rd_u8(rd);
            /* RFC 1035 §4.1.4: to a prior occurrence. Always further back: it can't go round in circles. */
            if (rd->error || to >= start || to < DP_DNS_HEADER_LEN || ++jumps > JUMPS_MAX)
                break;
            start = to;
            elsewhere = dp_rd_init(message->data, message->len);
            rd = &elsewhere;
            dp_rd_skip(rd, to);
            continue;
        }
        if (len == 0 && !rd->error) {
            out[plain ? text_len : 0] = '\0';
            return;
        }
        const uint8_t *label = dp_rd_bytes(rd, len);
        size_t dot = text_len > 0;
        if (label == NULL || len > DP_DNS_LABEL_MAX || text_len + dot + len > DP_DNS_NAME_MAX)
            break;
        if (dot != 0)
            out[text_len++] = '.';
        memcpy(out + text_len, label, len);
        text_len += len;
        plain = plain && plain_label(label, len);
    }
    out[0] = '\0';
    message->rd.error = true;
}

bool dp_dns_next_question(dp_dns_message *message, dp_dns_question *out)
{
    if (message->questions == 0)
        return false;
    message->questions--;
    read_name(message, out->name);
    out->type = dp_rd_u16(&message->rd);
    uint16_t class_ = dp_rd_u16(&message->rd);
    out->class_ = class_ & (uint16_t)~CLASS_TOP_BIT;
    out->unicast = (class_ & CLASS_TOP_BIT) != 0;
    return !message->rd.error;
}

/* RFC 4034 §4.1: the next name (here the name itself, RFC 6762 §6.1), then blocks of window, length, bitmap.
 * Types up to 255 are in window 0, which comes first. */
static bool read_nsec(dp_dns_message *message, size_t len, dp_dns_record *out)
{
    char next[DP_DNS_NAME_MAX + 1];
    size_t left = dp_rd_left(&message->rd);
    dp_dns_message rdata = *message; /* for pointers in next lead into the whole message */
    read_name(&rdata, next);
    size_t used = left - dp_rd_left(&rdata.rd);
    if (rdata.rd.error || used > len)
        return false;
    dp_rd block = dp_rd_sub(&rdata.rd, len - used);
    uint8_t bits[NSEC_BITS_MAX] = {0};
    if (dp_rd_left(&block) > 0 && dp_rd_u8(&block) == 0) {
        size_t n = dp_rd_u8(&block);
        const uint8_t *bitmap = dp_rd_bytes(&block, n);
        if (bitmap == NULL || n > sizeof bits)
            return false;
        memcpy(bits, bitmap, n);
    }
    out->has_a = (bits[DP_DNS_A / 8] & 0x80u >> DP_DNS_A % 8) != 0;
    out->has_aaaa = (bits[DP_DNS_AAAA / 8] & 0x80u >> DP_DNS_AAAA % 8) != 0;
    return true;
}

static void read_address(dp_dns_message *message, size_t len, dp_dns_record *out)
{
    dp_rd rd = message->rd;
    size_t want = out->type == DP_DNS_A ? 4 : 16;
    const uint8_t *ip = dp_rd_bytes(&rd, len);
    if (ip == NULL || len != want) {
        message->rd.error = true;
        return;
    }
    out->address.family = out->type == DP_DNS_A ? DP_FAMILY_IPV4 : DP_FAMILY_IPV6;
    memcpy(out->address.ip, ip, len);
}

bool dp_dns_next_record(dp_dns_message *message, dp_dns_record *out)
{
    dp_dns_question skipped;
    while (dp_dns_next_question(message, &skipped))
        continue;
    if (message->rd.error || message->records == 0)
        return false;
    memset(out, 0, sizeof *out);
    message->records--;
    out->answer = message->answers > 0;
    if (out->answer)
        message->answers--;
    read_name(message, out->name);
    out->type = dp_rd_u16(&message->rd);
    uint16_t class_ = dp_rd_u16(&message->rd);
    out->class_ = class_ & (uint16_t)~CLASS_TOP_BIT;
    out->flush = (class_ & CLASS_TOP_BIT) != 0;
    out->ttl = dp_rd_u32(&message->rd);
    size_t len = dp_rd_u16(&message->rd);
    if (message->rd.error)
        return false;
    if (out->type == DP_DNS_A || out->type == DP_DNS_AAAA)
        read_address(message, len, out);
    else if (out->type == DP_DNS_NSEC && !read_nsec(message, len, out))
        out->type = 0; /* perhaps with a next name of another kind: not ours to judge */
    dp_rd_skip(&message->rd, len);
    return !message->rd.error;
}

/* ---- names ---- */

bool dp_dns_name_valid(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len > DP_DNS_NAME_MAX)
        return false;
    for (const char *label = name;; label++) {
        size_t n = strcspn(label, ".");
        if (n == 0 || n > DP_DNS_LABEL_MAX)
            return false;
        label += n;
        if (*label == '\0')
            return true;
    }
}

bool dp_dns_name_equal(const char *a, const char *b)
{
    return dp_slice_is_nocase((dp_slice){a, strlen(a)}, b);
}

/* ---- writing ---- */

void dp_dns_start(dp_dns_writer *out, uint8_t *data, size_t capacity, uint16_t id, bool response)
{
    memset(out, 0, sizeof *out);
    out->wr = dp_wr_init(data, capacity);
    dp_wr_u16(&out->wr, id);
    /* RFC 6762 §18.4: what a responder says of its own names is authoritative. */
    dp_wr_u16(&out->wr, response ? FLAG_RESPONSE | FLAG_AUTHORITATIVE : 0);
    dp_wr_zeros(&out->wr, DP_DNS_HEADER_LEN - out->wr.len); /* the counts */
}

static void write_name(dp_dns_writer *writer, const char *name)
{
    if (writer->name != NULL && strcmp(writer->name, name) == 0 && writer->name_at <= POINTER_MAX) {
        dp_wr_u16(&writer->wr, (uint16_t)(POINTER << 8 | writer->name_at));
        return;
    }
    if (!dp_dns_name_valid(name))
        writer->wr.error = true;
    writer->name = name;
    writer->name_at = writer->wr.len;
    while (!writer->wr.error && *name != '\0') {
        size_t n = strcspn(name, ".");
        dp_wr_u8(&writer->wr, (uint8_t)n);
        dp_wr_bytes(&writer->wr, name, n);
        name += n + (name[n] == '.');
    }
    dp_wr_u8(&writer->wr, 0);
}

static void write_type(dp_dns_writer *writer, uint16_t type, bool top_bit)
{
    dp_wr_u16(&writer->wr, type);
    dp_wr_u16(&writer->wr, (uint16_t)(top_bit ? CLASS_TOP_BIT | DP_DNS_IN : DP_DNS_IN));
}

void dp_dns_write_question(dp_dns_writer *writer, const char *name, uint16_t type, bool unicast)
{
    write_name(writer, name);
    write_type(writer, type, unicast);
    writer->questions++;
}

void dp_dns_write_address(dp_dns_writer *writer, const char *name, const dp_address *address, uint32_t ttl,
                          bool flush)
{
    bool v4 = address->family == DP_FAMILY_IPV4;
    uint16_t len = v4 ? 4 : 16;
    write_name(writer, name);
    write_type(writer, v4 ? DP_DNS_A : DP_DNS_AAAA, flush);
    dp_wr_u32(&writer->wr, ttl);
    dp_wr_u16(&writer->wr, len);
    dp_wr_bytes(&writer->wr, address->ip, len);
    writer->answers++;
}

void dp_dns_write_nsec(dp_dns_writer *writer, const char *name, bool has_a, bool has_aaaa, uint32_t ttl)
{
    uint8_t bits[DP_DNS_AAAA / 8 + 1] = {0};
    size_t n = 0; /* RFC 4034 §4.1.2: without trailing zeros; no type, no block */
    if (has_a) {
        bits[DP_DNS_A / 8] |= 0x80u >> DP_DNS_A % 8;
        n = DP_DNS_A / 8 + 1;
    }
    if (has_aaaa) {
        bits[DP_DNS_AAAA / 8] |= 0x80u >> DP_DNS_AAAA % 8;
        n = DP_DNS_AAAA / 8 + 1;
    }
    write_name(writer, name);
    write_type(writer, DP_DNS_NSEC, true);
    dp_wr_u32(&writer->wr, ttl);
    size_t mark = dp_wr_mark_u16(&writer->wr);
    size_t start = writer->wr.len;
    write_name(writer, name); /* RFC 6762 §6.1: next is the name itself; §18.14: it may be compressed */
    if (n > 0) {
        dp_wr_u8(&writer->wr, 0);
        dp_wr_u8(&writer->wr, (uint8_t)n);
        dp_wr_bytes(&writer->wr, bits, n);
    }
    dp_wr_patch_u16(&writer->wr, mark, writer->wr.len - start);
    writer->additional++;
}

int dp_dns_finish(dp_dns_writer *writer, size_t *len)
{
    enum { COUNTS_AT = 4 };
    dp_wr_patch_u16(&writer->wr, COUNTS_AT, writer->questions);
    dp_wr_patch_u16(&writer->wr, COUNTS_AT + 2, writer->answers);
    dp_wr_patch_u16(&writer->wr, COUNTS_AT + 6, writer->additional);
    return dp_wr_finish(&writer->wr, len);
}
