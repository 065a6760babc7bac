/* The codec of DNS messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ice/dns.h"
#include <string.h>

#define NAME "968425d5-f3c7-43ad-9710-95aa3904a9a7.local"

/* A query with one question of this name. */
static bool name_reads(const uint8_t *name, size_t len, char *out)
{
    uint8_t data[600] = {0, 0, 0, 0, 0, 1};
    dp_dns_message m;
    dp_dns_question q;
    memcpy(data + DP_DNS_HEADER_LEN, name, len);
    uint8_t *exact = malloc(DP_DNS_HEADER_LEN + len + 4);
    assert_non_null(exact);
    memcpy(exact, data, DP_DNS_HEADER_LEN + len + 4);
    assert_int_equal(dp_dns_read_header(&m, exact, DP_DNS_HEADER_LEN + len + 4), DP_OK);
    bool ok = dp_dns_next_question(&m, &q);
    assert_true(ok != m.rd.error);
    if (ok && out != NULL)
        strcpy(out, q.name);
    free(exact);
    return ok;
}

static void hostile_names(void **state)
{
    (void)state;
    char text[DP_DNS_NAME_MAX + 1];
    uint8_t name[300];
#define READS(bytes) name_reads((const uint8_t *)(bytes), sizeof(bytes) - 1, text)
    assert_true(READS("\1a\5local\0") && strcmp(text, "a.local") == 0);
    assert_true(READS("\0") && text[0] == '\0');
    assert_true(READS("\3a.b\0") && text[0] == '\0'); /* never taken for the name a.b */
    assert_true(READS("\3a\0b\0") && text[0] == '\0');
    assert_false(READS("\xC0\x0C"));         /* to itself */
    assert_false(READS("\1a\xC0\x0C"));      /* round and round */
    assert_false(READS("\xC0\x0E\xC0\x0C")); /* forwards */
    assert_false(READS("\xC0\x05"));         /* into the header */
    assert_false(READS("\xFF\xFF"));         /* past the end */
    assert_false(READS("\x80\0"));           /* no such label types */
    assert_false(READS("\x40\0"));
    assert_false(READS("\xC0\x0E\1a\0")); /* forwards to something good */
    memset(name, 'a', sizeof name);
    name[0] = 65;
    name[66] = 0;
    assert_false(name_reads(name, 67, text));
    name[66] = 'a';
    for (size_t i = 0; i < 4; i++)
        name[i * 64] = 63;
    name[3 * 64] = 61;
    name[3 * 64 + 62] = 0; /* 255 octets */
    assert_true(name_reads(name, 255, text) && strlen(text) == 253);
    name[3 * 64] = 62;
    name[3 * 64 + 63] = 0;
    assert_false(name_reads(name, 256, text));
#undef READS
}

/* A long chain of pointers costs no more than a name can have labels. */
static void pointer_chain(void **state)
{
    (void)state;
    uint8_t data[1000] = {0, 0, 0, 0, 0, 1};
    size_t at = DP_DNS_HEADER_LEN + 5; /* after a question for the root */
    data[7] = 1;
    data[at] = 0;
    for (size_t i = 0; i < 200; i++, at += 2) {
        size_t to = i == 0 ? DP_DNS_HEADER_LEN : at - 2;
        data[at] = (uint8_t)(0xC0 | to >> 8);
        data[at + 1] = (uint8_t)to;
    }
    dp_dns_message m;
    dp_dns_record r;
    assert_int_equal(dp_dns_read_header(&m, data, sizeof data), DP_OK);
    m.rd.at = data + at - 2; /* the record's name is the chain's end */
    m.questions = 0;
    assert_false(dp_dns_next_record(&m, &r));
    assert_true(m.rd.error);
}

/* An address of 4 bytes and an NSEC of 5. */
static size_t answer(uint8_t *data, size_t capacity)
{
    size_t len;
    dp_dns_writer w;
    const dp_address a = {.family = DP_FAMILY_IPV4, .ip = {10, 0, 0, 7}};
    dp_dns_start(&w, data, capacity, 0, true);
    dp_dns_write_address(&w, NAME, &a, 120, true);
    dp_dns_write_nsec(&w, NAME, true, false, 120);
    assert_int_equal(dp_dns_finish(&w, &len), DP_OK);
    return len;
}

static void bad_records(void **state)
{
    (void)state;
    uint8_t good[512];
    uint8_t data[512];
    size_t len = answer(good, sizeof good);
    dp_dns_message m;
    dp_dns_record r;
    memcpy(data, good, len);
    data[65] = 3; /* RDLENGTH of the A record */
    assert_int_equal(dp_dns_read_header(&m, data, len), DP_OK);
    assert_false(dp_dns_next_record(&m, &r));
    data[65] = 4;
    for (size_t i = 1; i <= 5; i++) { /* the NSEC's data, byte by byte: it is skipped, not fatal */
        memcpy(data, good, len);
        data[len - i] ^= i == 2 ? 0xFF : 0x80;
        assert_int_equal(dp_dns_read_header(&m, data, len), DP_OK);
        assert_true(dp_dns_next_record(&m, &r));
        assert_true(dp_dns_next_record(&m, &r));
        assert_false(m.rd.error);
    }
    memcpy(data, good, len);
    data[len - 6] = 1; /* RDLENGTH: less than the name in it */
    assert_int_equal(dp_dns_read_header(&m, data, len), DP_OK);
    assert_true(dp_dns_next_record(&m, &r));
    assert_true(dp_dns_next_record(&m, &r));
    assert_int_equal(r.type, 0);
    uint8_t large[DP_DNS_HEADER_LEN + 11 + 3 + 200] = {0, 0, 0x84, 0, 0, 0, 0, 1};
    large[DP_DNS_HEADER_LEN + 2] = DP_DNS_NSEC;
    large[DP_DNS_HEADER_LEN + 4] = DP_DNS_IN;
    large[DP_DNS_HEADER_LEN + 10] = 3 + 200;
    large[DP_DNS_HEADER_LEN + 13] = 200; /* the bitmap: more than one can have */
    assert_int_equal(dp_dns_read_header(&m, large, sizeof large), DP_OK);
    assert_true(dp_dns_next_record(&m, &r));
    assert_int_equal(r.type, 0);
}

static void short_buffers(void **state)
{
    (void)state;
    dp_dns_writer w;
    const dp_address a = {.family = DP_FAMILY_IPV6, .ip = {0x20, 0x01, 0x0D, 0xB8, [15] = 1}};
    size_t full = 0;
    uint8_t data[512];
    for (size_t capacity = sizeof data;; capacity = full > 0 && capacity > full ? full - 1 : capacity - 1) {
        size_t len;
        dp_dns_start(&w, data, capacity, 0, true);
        dp_dns_write_question(&w, NAME, DP_DNS_A, false);
        dp_dns_write_address(&w, NAME, &a, 1, true);
        dp_dns_write_nsec(&w, NAME, true, true, 1);
        int err = dp_dns_finish(&w, &len);
        assert_int_equal(err, full == 0 ? DP_OK : DP_ERR_NO_SPACE);
        full = full == 0 ? len : full;
        if (capacity == 0)
            break;
    }
    dp_dns_start(&w, data, sizeof data, 0, true);
    dp_dns_write_question(&w, "a..b", DP_DNS_A, false);
    assert_int_equal(dp_dns_finish(&w, &full), DP_ERR_NO_SPACE);
}

static void names_are_equal(void **state)
{
    (void)state;
    assert_true(dp_dns_name_equal("a.LOCAL", "A.local"));
    assert_false(dp_dns_name_equal("a.local", "a.locals"));
    assert_false(dp_dns_name_equal("a.local", "a.loca"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_names), cmocka_unit_test(pointer_chain),   cmocka_unit_test(bad_records),
        cmocka_unit_test(short_buffers), cmocka_unit_test(names_are_equal),
    };
    return cmocka_run_group_tests_name("ice/dns", tests, NULL, NULL);
}
