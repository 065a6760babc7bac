/* What mbedTLS gets to see, and the bounds of the reassembler. */
#include "dtls/prefilter.h"

#include "base/wr.h"
#include "dtls/reassembly.h"
#include "pair.h"

static size_t write_record(uint8_t *out, uint8_t type, uint16_t version, uint16_t epoch, const uint8_t *body,
                           size_t len)
{
    dp_wr wr = dp_wr_init(out, 20000);
    dp_wr_u8(&wr, type);
    dp_wr_u16(&wr, version);
    dp_wr_u16(&wr, epoch);
    dp_wr_u48(&wr, 7);
    dp_wr_u16(&wr, (uint16_t)len);
    dp_wr_bytes(&wr, body, len);
    size_t total = 0;
    assert_int_equal(dp_wr_finish(&wr, &total), DP_OK);
    return total;
}

static size_t write_fragment(uint8_t *out, uint8_t type, uint32_t length, uint16_t seq, uint32_t offset,
                             uint32_t len)
{
    dp_wr wr = dp_wr_init(out, 10000);
    dp_wr_u8(&wr, type);
    dp_wr_u24(&wr, length);
    dp_wr_u16(&wr, seq);
    dp_wr_u24(&wr, offset);
    dp_wr_u24(&wr, len);
    dp_wr_zeros(&wr, len);
    size_t total = 0;
    assert_int_equal(dp_wr_finish(&wr, &total), DP_OK);
    return total;
}

static dp_verdict judge(uint8_t type, uint16_t epoch, const uint8_t *body, size_t len, dp_dtls_role role)
{
    static uint8_t bytes[20000];
    dp_record record;
    dp_rd rd = dp_rd_init(bytes, write_record(bytes, type, 0xfefd, epoch, body, len));
    assert_true(dp_record_read(&record, &rd));
    return dp_prefilter(&record, role);
}

static void test_record_header(void **state)
{
    (void)state;
    static uint8_t bytes[20000];
    static const uint8_t body[18433];
    dp_record record;
    dp_rd rd = dp_rd_init(bytes, write_record(bytes, 22, 0xfeff, 0, body, 40));
    assert_true(dp_record_read(&record, &rd));
    assert_int_equal(record.length, 40);
    assert_int_equal(record.sequence, 7);
    for (size_t len = 0; len < 53; len++) { /* cut short */
        rd = dp_rd_init(bytes, len);
        assert_false(dp_record_read(&record, &rd));
    }
    static const struct {
        uint8_t type;
        uint16_t version;
        size_t len;
        bool ok;
    } cases[] = {
        {22, 0xfefd, 40, true},    {19, 0xfefd, 40, false},    {24, 0xfefd, 40, false},
        {22, 0x0303, 40, false},   {22, 0x0100, 40, false},    {22, 0xfefc, 40, false},
        {23, 0xfefd, 18432, true}, {23, 0xfefd, 18433, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rd = dp_rd_init(bytes, write_record(bytes, cases[i].type, cases[i].version, 0, body, cases[i].len));
        assert_int_equal(dp_record_read(&record, &rd), cases[i].ok);
    }
}

static void test_verdicts(void **state)
{
    (void)state;
    static const uint8_t one[] = {1};
    static const uint8_t two[] = {2, 40};
    static const uint8_t body[100];
    assert_int_equal(judge(20, 0, one, 1, DP_DTLS_CLIENT), DP_VERDICT_PASS);
    assert_int_equal(judge(20, 0, two, 1, DP_DTLS_CLIENT), DP_VERDICT_DROP);
    assert_int_equal(judge(20, 0, one, 0, DP_DTLS_CLIENT), DP_VERDICT_DROP);
    assert_int_equal(judge(20, 0, two, 2, DP_DTLS_CLIENT), DP_VERDICT_DROP);
    assert_int_equal(judge(21, 0, two, 2, DP_DTLS_CLIENT), DP_VERDICT_ALERT);
    assert_int_equal(judge(21, 0, two, 1, DP_DTLS_CLIENT), DP_VERDICT_DROP);
    assert_int_equal(judge(23, 0, body, 20, DP_DTLS_CLIENT), DP_VERDICT_DROP);
    assert_int_equal(judge(22, 1, body, 40, DP_DTLS_CLIENT), DP_VERDICT_PASS);
    assert_int_equal(judge(22, 1, body, 39, DP_DTLS_CLIENT), DP_VERDICT_DROP);
    assert_int_equal(judge(20, 1, one, 1, DP_DTLS_CLIENT), DP_VERDICT_DROP);
    assert_int_equal(judge(21, 1, body, 40, DP_DTLS_CLIENT), DP_VERDICT_DROP);
    assert_int_equal(judge(23, 1, body, 40, DP_DTLS_CLIENT), DP_VERDICT_DROP);
    assert_int_equal(judge(22, 2, body, 40, DP_DTLS_CLIENT), DP_VERDICT_DROP);
}

/* Each side may send its own messages only; HelloRequest is nobody's. */
static void test_handshake_types(void **state)
{
    (void)state;
    static const uint8_t client[] = {1, 11, 15, 16};
    static const uint8_t server[] = {2, 3, 11, 12, 13, 14};
    uint8_t body[10000];
    for (unsigned type = 0; type < 256; type++) {
        size_t len = write_fragment(body, (uint8_t)type, 10, 0, 0, 10);
        bool from_client = memchr(client, (int)type, sizeof client) != NULL;
        bool from_server = memchr(server, (int)type, sizeof server) != NULL;
        dp_verdict hello = type == 1 ? DP_VERDICT_CLIENT_HELLO : DP_VERDICT_PASS;
        assert_int_equal(judge(22, 0, body, len, DP_DTLS_SERVER), from_client ? hello : DP_VERDICT_DROP);
        assert_int_equal(judge(22, 0, body, len, DP_DTLS_CLIENT),
                         from_server ? DP_VERDICT_PASS : DP_VERDICT_DROP);
    }
}

static void test_handshake_fragments(void **state)
{
    (void)state;
    uint8_t body[10000];
    size_t len = write_fragment(body, 11, 100, 1, 50, 50);
    assert_int_equal(judge(22, 0, body, len, DP_DTLS_SERVER), DP_VERDICT_PASS);
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(judge(22, 0, body, cut, DP_DTLS_SERVER), DP_VERDICT_DROP);
    len = write_fragment(body, 11, 100, 1, 51, 50); /* past the end of its message */
    assert_int_equal(judge(22, 0, body, len, DP_DTLS_SERVER), DP_VERDICT_DROP);
    len = write_fragment(body, 11, 0xffffff, 1, 0, 50);
    assert_int_equal(judge(22, 0, body, len, DP_DTLS_SERVER), DP_VERDICT_DROP);
    len = write_fragment(body, 11, 100, 33, 0, 50);
    assert_int_equal(judge(22, 0, body, len, DP_DTLS_SERVER), DP_VERDICT_DROP);
    len = write_fragment(body, 11, 100, 1, 10, 0); /* empty piece */
    assert_int_equal(judge(22, 0, body, len, DP_DTLS_SERVER), DP_VERDICT_DROP);
    len = write_fragment(body, 14, 0, 1, 0, 0); /* ServerHelloDone is empty */
    assert_int_equal(judge(22, 0, body, len, DP_DTLS_CLIENT), DP_VERDICT_PASS);
    /* Several in one record: all must be right, and ClientHello does not mix. */
    len = write_fragment(body, 11, 10, 1, 0, 10);
    size_t more = write_fragment(body + len, 16, 10, 2, 0, 10);
    assert_int_equal(judge(22, 0, body, len + more, DP_DTLS_SERVER), DP_VERDICT_PASS);
    assert_int_equal(judge(22, 0, body, len + more - 1, DP_DTLS_SERVER), DP_VERDICT_DROP);
    more = write_fragment(body + len, 1, 10, 2, 0, 10);
    assert_int_equal(judge(22, 0, body, len + more, DP_DTLS_SERVER), DP_VERDICT_DROP);
}

/* ---- reassembly ------------------------------------------------------------------------------------- */

static dp_reassembly_result add(dp_reassembly *r, size_t *out_len, dp_time now, uint32_t length, uint16_t seq,
                                uint32_t offset, size_t len)
{
    static uint8_t bytes[16];
    static uint8_t body[16000];
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (uint8_t)i;
    dp_record record = {.type = 22, .version = 0xfefd, .sequence = 9, .body = bytes};
    dp_fragment fragment = {1, length, seq, offset, body + offset, len};
    const uint8_t *out = NULL;
    dp_reassembly_result result = dp_reassembly_add(r, &out, out_len, now, &record, &fragment);
    if (result == DP_REASSEMBLY_COMPLETE)
        assert_memory_equal(out + DP_RECORD_HEADER + DP_HANDSHAKE_HEADER, body, length);
    return result;
}

static void test_reassembly_bounds(void **state)
{
    (void)state;
    dp_reassembly r = {NULL};
    size_t len = 0;
    assert_int_equal(add(&r, &len, 0, DP_CLIENT_HELLO_MAX + 1, 0, 0, 100), DP_REASSEMBLY_DROPPED);
    assert_int_equal(add(&r, &len, 0, 0, 0, 0, 0), DP_REASSEMBLY_DROPPED);
    assert_null(r.message);
    assert_int_equal(add(&r, &len, 0, DP_CLIENT_HELLO_MAX, 0, 0, 100), DP_REASSEMBLY_MORE);
    assert_int_equal(add(&r, &len, 0, DP_CLIENT_HELLO_MAX, 0, 100, DP_CLIENT_HELLO_MAX - 100),
                     DP_REASSEMBLY_COMPLETE);
    assert_int_equal(len, DP_CLIENT_HELLO_MAX + DP_RECORD_HEADER + DP_HANDSHAKE_HEADER);
    dp_reassembly_clear(&r);
}

/* One message: another length, another number, or too late, and it begins afresh. */
static void test_reassembly_of_one_message(void **state)
{
    (void)state;
    dp_reassembly r = {NULL};
    size_t len = 0;
    assert_int_equal(add(&r, &len, 0, 200, 0, 0, 100), DP_REASSEMBLY_MORE);
    assert_int_equal(add(&r, &len, 0, 201, 0, 100, 101), DP_REASSEMBLY_MORE);
    assert_int_equal(add(&r, &len, 0, 200, 0, 100, 100), DP_REASSEMBLY_MORE); /* the first half is gone */
    assert_int_equal(add(&r, &len, 0, 200, 1, 0, 100), DP_REASSEMBLY_MORE);
    assert_int_equal(add(&r, &len, 0, 200, 1, 100, 100), DP_REASSEMBLY_COMPLETE);
    assert_int_equal(add(&r, &len, 0, 200, 1, 0, 100), DP_REASSEMBLY_MORE);
    dp_time late = DP_REASSEMBLY_TIMEOUT + 1;
    assert_int_equal(add(&r, &len, late, 200, 1, 100, 100), DP_REASSEMBLY_MORE);
    assert_int_equal(add(&r, &len, late + DP_REASSEMBLY_TIMEOUT, 200, 1, 0, 100), DP_REASSEMBLY_COMPLETE);
    dp_reassembly_clear(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record_header),     cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_handshake_types),   cmocka_unit_test(test_handshake_fragments),
        cmocka_unit_test(test_reassembly_bounds), cmocka_unit_test(test_reassembly_of_one_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
