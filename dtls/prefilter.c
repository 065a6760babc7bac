#include "prefilter.h"

/* A record (RFC 6347 §4.1) and, in the body of a handshake record of epoch 0, its fragments (§4.2.2):
 *
 *  0      1             3         5                      11           13
 * +------+-------------+---------+----------------------+------------+-----------------+
 * | type | version     | epoch   | sequence_number      | length     | body ...        |
 * +------+-------------+---------+----------------------+------------+-----------------+
 *
 *  0      1               4             6                 9                  12
 * +------+---------------+-------------+-----------------+------------------+----------+
 * | type | length        | message_seq | fragment_offset | fragment_length  | body ... |
 * +------+---------------+-------------+-----------------+------------------+----------+
 */

#define VERSION_DTLS_1_0 0xfeff /* in the record header of a first ClientHello */

/* A certificate chain is the longest message; mbedTLS reassembles up to its 16 KB buffer. */
#define MESSAGE_MAX     16000
#define MESSAGE_SEQ_MAX 32 /* a full handshake with HelloVerifyRequest uses 0..6 */

/* HandshakeType (RFC 5246 §7.4, RFC 6347 §4.2.2) as bits: what the other side may send before it is done.
 * HelloRequest is not among them, which refuses renegotiation. */
#define BIT(type)          (1u << (type))
#define FROM_CLIENT        (BIT(1) | BIT(11) | BIT(15) | BIT(16))
#define FROM_SERVER        (BIT(2) | BIT(3) | BIT(11) | BIT(12) | BIT(13) | BIT(14))
#define HANDSHAKE_TYPE_MAX 16

bool dp_record_read(dp_record *out, dp_rd *rd)
{
    out->type = dp_rd_u8(rd);
    out->version = dp_rd_u16(rd);
    out->epoch = dp_rd_u16(rd);
    out->sequence = dp_rd_u48(rd);
    out->length = dp_rd_u16(rd);
    if (out->type < DP_RECORD_CHANGE_CIPHER_SPEC || out->type > DP_RECORD_APPLICATION_DATA)
        return false;
    if (out->version != VERSION_DTLS_1_0 && out->version != DP_RECORD_VERSION)
        return false;
    if (out->length > DP_RECORD_BODY_MAX)
        return false;
    out->body = dp_rd_bytes(rd, out->length);
    return !rd->error;
}

bool dp_fragment_read(dp_fragment *out, dp_rd *rd)
{
    out->type = dp_rd_u8(rd);
    out->length = dp_rd_u24(rd);
    out->message_seq = dp_rd_u16(rd);
    out->offset = dp_rd_u24(rd);
    out->body_len = dp_rd_u24(rd);
    out->body = dp_rd_bytes(rd, out->body_len);
    if (rd->error || out->length > MESSAGE_MAX || out->message_seq > MESSAGE_SEQ_MAX)
        return false;
    /* All three fit 24 bits: the sum cannot wrap. */
    if (out->offset + out->body_len > out->length)
        return false;
    /* An empty fragment of a message that is not empty says nothing and would be a free repeat. */
    return out->body_len > 0 || out->length == 0;
}

static dp_verdict judge_handshake(const dp_record *record, dp_dtls_role role)
{
    uint32_t allowed = role == DP_DTLS_SERVER ? FROM_CLIENT : FROM_SERVER;
    size_t hello = 0;
    size_t other = 0;
    dp_rd rd = dp_rd_init(record->body, record->length);
    do {
        dp_fragment fragment;
        if (!dp_fragment_read(&fragment, &rd))
            return DP_VERDICT_DROP;
        if (fragment.type > HANDSHAKE_TYPE_MAX || (allowed & BIT(fragment.type)) == 0)
            return DP_VERDICT_DROP;
        if (fragment.type == DP_HANDSHAKE_CLIENT_HELLO)
            hello++;
        else
            other++;
    } while (dp_rd_left(&rd) > 0);
    if (hello > 0)
        return other > 0 ? DP_VERDICT_DROP : DP_VERDICT_CLIENT_HELLO;
    return DP_VERDICT_PASS;
}

dp_verdict dp_prefilter(const dp_record *record, dp_dtls_role role)
{
    if (record->epoch == 1) {
        /* Finished; mbedTLS decrypts it. Application data that overtook it is dropped (RFC 6347 §4.1 allows
         * it). */
        bool finished = record->type == DP_RECORD_HANDSHAKE && record->length >= DP_SEALED_FINISHED_MIN;
        return finished ? DP_VERDICT_PASS : DP_VERDICT_DROP;
    }
    if (record->epoch != 0)
        return DP_VERDICT_DROP;
    switch (record->type) {
    case DP_RECORD_ALERT:
        return record->length == 2 ? DP_VERDICT_ALERT : DP_VERDICT_DROP;
    case DP_RECORD_CHANGE_CIPHER_SPEC:
        return record->length == 1 && record->body[0] == 1 ? DP_VERDICT_PASS : DP_VERDICT_DROP;
    case DP_RECORD_HANDSHAKE:
        return judge_handshake(record, role);
    default:
        return DP_VERDICT_DROP; /* plaintext application data */
    }
}
