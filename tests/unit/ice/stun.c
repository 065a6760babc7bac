/* The STUN codec: RFC 5769 vectors, round trips, bad-input rows 1-6 and 14. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/crc.h"
#include "base/crypto.h"
#include "ice/stun.h"
#include <datapeer/ice.h>

#include <stdlib.h>
#include <string.h>

static const char password[] = "VOkJxbRl1RmTxUk/WvJxBt";

/* RFC 5769 §2.1 */
static const uint8_t request[] = {
    0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86,
    0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74, 0x65, 0x73,
    0x74, 0x20, 0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff,
    0x80, 0x29, 0x00, 0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36, 0x00, 0x06, 0x00, 0x09,
    0x65, 0x76, 0x74, 0x6a, 0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20, 0x20, 0x00, 0x08, 0x00, 0x14,
    0x9a, 0xea, 0xa7, 0x0c, 0xbf, 0xd8, 0xcb, 0x56, 0x78, 0x1e, 0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49,
    0xc1, 0xb5, 0x71, 0xa2, 0x80, 0x28, 0x00, 0x04, 0xe5, 0x7a, 0x3b, 0xcf};

/* RFC 5769 §2.2 */
static const uint8_t response4[] = {
    0x01, 0x01, 0x00, 0x3c, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86,
    0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76, 0x65, 0x63,
    0x74, 0x6f, 0x72, 0x20, 0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43,
    0x00, 0x08, 0x00, 0x14, 0x2b, 0x91, 0xf5, 0x99, 0xfd, 0x9e, 0x90, 0xc3, 0x8c, 0x74, 0x89, 0xf9,
    0x2a, 0xf9, 0xba, 0x53, 0xf0, 0x6b, 0xe7, 0xd7, 0x80, 0x28, 0x00, 0x04, 0xc0, 0x7d, 0x4c, 0x96};

/* RFC 5769 §2.3 */
static const uint8_t response6[] = {
    0x01, 0x01, 0x00, 0x48, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86,
    0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76, 0x65, 0x63,
    0x74, 0x6f, 0x72, 0x20, 0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa,
    0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9, 0x00, 0x08, 0x00, 0x14,
    0xa3, 0x82, 0x95, 0x4e, 0x4b, 0xe6, 0x7b, 0xf1, 0x17, 0x84, 0xc9, 0x7c, 0x82, 0x92, 0xc2, 0x75,
    0xbf, 0xe3, 0xed, 0x41, 0x80, 0x28, 0x00, 0x04, 0xc8, 0xfb, 0x0b, 0x4c};

/* RFC 5769 §2.4 */
static const uint8_t long_term[] = {
    0x00, 0x01, 0x00, 0x60, 0x21, 0x12, 0xa4, 0x42, 0x78, 0xad, 0x34, 0x33, 0xc6, 0xad, 0x72, 0xc0, 0x29,
    0xda, 0x41, 0x2e, 0x00, 0x06, 0x00, 0x12, 0xe3, 0x83, 0x9e, 0xe3, 0x83, 0x88, 0xe3, 0x83, 0xaa, 0xe3,
    0x83, 0x83, 0xe3, 0x82, 0xaf, 0xe3, 0x82, 0xb9, 0x00, 0x00, 0x00, 0x15, 0x00, 0x1c, 0x66, 0x2f, 0x2f,
    0x34, 0x39, 0x39, 0x6b, 0x39, 0x35, 0x34, 0x64, 0x36, 0x4f, 0x4c, 0x33, 0x34, 0x6f, 0x4c, 0x39, 0x46,
    0x53, 0x54, 0x76, 0x79, 0x36, 0x34, 0x73, 0x41, 0x00, 0x14, 0x00, 0x0b, 0x65, 0x78, 0x61, 0x6d, 0x70,
    0x6c, 0x65, 0x2e, 0x6f, 0x72, 0x67, 0x00, 0x00, 0x08, 0x00, 0x14, 0xf6, 0x70, 0x24, 0x65, 0x6d, 0xd6,
    0x4a, 0x3e, 0x02, 0xb8, 0xe0, 0x71, 0x2e, 0x85, 0xc9, 0xa2, 0x8c, 0xa8, 0x96, 0x66};
/* MD5 of "<Matrix in katakana>:example.org:TheMatrIX", the long-term key of RFC 8489 §9.2.2 */
static const uint8_t long_term_key[16] = {0xe8, 0xca, 0x7a, 0xd5, 0x9d, 0x5e, 0xb0, 0x51,
                                          0x8e, 0x31, 0x29, 0x11, 0xd2, 0xda, 0xb2, 0xa9};

static const uint8_t id[DP_STUN_TRANSACTION_LEN] = "abcdefghijkl";

/* Decodes an exact copy on the heap, so that ASan sees each byte too many. */
static int decode(dp_stun_message *m, const uint8_t *data, size_t len)
{
    static uint8_t *copy;
    free(copy);
    copy = NULL;
    if (data == NULL)
        return DP_OK;
    copy = malloc(len > 0 ? len : 1);
    memcpy(copy, data, len);
    return dp_stun_decode(m, copy, len);
}

static int free_copy(void **state)
{
    (void)state;
    return decode(NULL, NULL, 0);
}

static void vector_request(void **state)
{
    (void)state;
    dp_stun_message m;
    assert_int_equal(decode(&m, request, sizeof request), DP_OK);
    assert_int_equal(m.class_, DP_STUN_REQUEST);
    assert_int_equal(m.method, DP_STUN_METHOD_BINDING);
    assert_memory_equal(m.transaction, request + 8, DP_STUN_TRANSACTION_LEN);
    assert_int_equal(m.username_len, 9);
    assert_memory_equal(m.username, "evtj:h6vY", 9);
    assert_true(m.has_priority);
    assert_int_equal(m.priority, 0x6e0001ff);
    assert_true(m.has_controlled && !m.has_controlling);
    assert_true(m.tie_breaker == 0x932ff9b151263b36u);
    assert_true(m.has_fingerprint);
    assert_int_equal(m.unknown_count, 0);
    assert_int_equal(dp_stun_check_integrity(&m, password, strlen(password)), DP_OK);
    assert_int_equal(dp_stun_check_integrity(&m, password, strlen(password) - 1), DP_ERR_AUTH);
}

static void vector_responses(void **state)
{
    (void)state;
    dp_stun_message m;
    char text[DP_ADDRESS_TEXT_MAX];
    assert_int_equal(decode(&m, response4, sizeof response4), DP_OK);
    assert_int_equal(m.class_, DP_STUN_SUCCESS);
    assert_string_equal(dp_address_format(&m.mapped, text), "192.0.2.1:32853");
    assert_int_equal(dp_stun_check_integrity(&m, password, strlen(password)), DP_OK);
    assert_int_equal(decode(&m, response6, sizeof response6), DP_OK);
    assert_string_equal(dp_address_format(&m.mapped, text), "[2001:db8:1234:5678:11:2233:4455:6677]:32853");
    assert_int_equal(dp_stun_check_integrity(&m, password, strlen(password)), DP_OK);
}

static void vector_long_term(void **state)
{
    (void)state;
    dp_stun_message m;
    assert_int_equal(decode(&m, long_term, sizeof long_term), DP_OK);
    assert_int_equal(m.username_len, 18);
    assert_int_equal(m.realm_len, 11);
    assert_memory_equal(m.realm, "example.org", 11);
    assert_int_equal(m.nonce_len, 28);
    assert_memory_equal(m.nonce, "f//499k954d6OL34oL9FSTvy64sA", 28);
    assert_false(m.has_fingerprint);
    assert_int_equal(dp_stun_check_integrity(&m, long_term_key, sizeof long_term_key), DP_OK);
}

static void every_flipped_bit_is_noticed(void **state)
{
    (void)state;
    uint8_t copy[sizeof request];
    for (size_t bit = 0; bit < 8 * sizeof request; bit++) {
        dp_stun_message m;
        memcpy(copy, request, sizeof copy);
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (decode(&m, copy, sizeof copy) !=
            DP_ERR_MALFORMED) { /* FINGERPRINT has another type now, or lies in another value */
            assert_false(m.has_fingerprint);
            if (bit / 8 < sizeof request - 8)
                assert_int_equal(dp_stun_check_integrity(&m, password, strlen(password)), DP_ERR_AUTH);
        }
    }
    /* Without FINGERPRINT: every bit up to the end of MESSAGE-INTEGRITY. */
    memcpy(copy, request, sizeof copy);
    copy[3] -= 8;
    for (size_t bit = 0; bit < 8 * (sizeof request - 8); bit++) {
        dp_stun_message m;
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (decode(&m, copy, sizeof copy - 8) == DP_OK)
            assert_int_equal(dp_stun_check_integrity(&m, password, strlen(password)), DP_ERR_AUTH);
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void every_truncation_is_malformed(void **state)
{
    (void)state;
    for (size_t len = 0; len < sizeof request; len++) {
        dp_stun_message m;
        assert_int_equal(decode(&m, request, len), DP_ERR_MALFORMED); /* rows 1 and 2 */
    }
}

/* ---- hand-made messages ---- */

static uint8_t out[DP_STUN_MESSAGE_MAX];
static dp_wr wr;

static void begin(dp_stun_class class_, unsigned method)
{
    wr = dp_wr_init(out, sizeof out);
    dp_stun_write_header(&wr, class_, method, id);
}

static int end(dp_stun_message *m)
{
    size_t len = 0;
    assert_int_equal(dp_stun_finish(&wr, &len), DP_OK);
    return decode(m, out, len);
}

static void round_trip_of_types(void **state)
{
    (void)state;
    for (unsigned method = 0; method <= 0xFFF; method++) {
        for (unsigned class_ = 0; class_ < 4; class_++) {
            dp_stun_message m;
            begin((dp_stun_class)class_, method);
            assert_int_equal(end(&m), DP_OK);
            assert_int_equal(m.class_, class_);
            assert_int_equal(m.method, method);
        }
    }
}

static void round_trip_of_a_check(void **state)
{
    (void)state;
    dp_stun_message m;
    begin(DP_STUN_REQUEST, DP_STUN_METHOD_BINDING);
    dp_stun_write_attribute(&wr, DP_STUN_USERNAME, "ab:cde", 6);
    dp_stun_write_u64(&wr, DP_STUN_ICE_CONTROLLING, 0x0123456789abcdefu);
    dp_stun_write_attribute(&wr, DP_STUN_USE_CANDIDATE, "", 0);
    dp_stun_write_u32(&wr, DP_STUN_PRIORITY, 0x12345678);
    dp_stun_write_attribute(&wr, (dp_stun_attribute)0xC057, "\0\0\3\347", 4); /* Chromium's: optional */
    dp_stun_write_integrity(&wr, "key", 3);
    dp_stun_write_fingerprint(&wr);
    assert_int_equal(end(&m), DP_OK);
    assert_true(m.use_candidate && m.has_controlling && m.has_fingerprint && m.has_priority);
    assert_int_equal(m.unknown_count, 0);
    assert_int_equal(m.priority, 0x12345678);
    assert_true(m.tie_breaker == 0x0123456789abcdefu);
    assert_memory_equal(m.username, "ab:cde", 6);
    assert_int_equal(dp_stun_check_integrity(&m, "key", 3), DP_OK);
    assert_int_equal(dp_stun_check_integrity(&m, "kez", 3), DP_ERR_AUTH);
}

static void round_trip_of_an_error(void **state)
{
    (void)state;
    static const uint16_t types[] = {0x0026, 0x7fff, 0x0003};
    dp_stun_message m;
    begin(DP_STUN_ERROR, DP_STUN_METHOD_BINDING);
    dp_stun_write_error_code(&wr, 420, "Unknown Attribute");
    dp_stun_write_unknown_attributes(&wr, types, 3);
    assert_int_equal(end(&m), DP_OK);
    assert_int_equal(m.error_code, 420);
    assert_int_equal(m.reported_count, 3);
    assert_memory_equal(m.reported, types, sizeof types);
    assert_int_equal(dp_stun_check_integrity(&m, "key", 3), DP_ERR_AUTH); /* none there */
}

/* RFC 8489 §9.2.2; the user name of RFC 5769 §2.4 in UTF-8. */
static void long_term_key_of_the_vector(void **state)
{
    (void)state;
    static const char text[] =
        "\xe3\x83\x9e\xe3\x83\x88\xe3\x83\xaa\xe3\x83\x83\xe3\x82\xaf\xe3\x82\xb9:example.org:TheMatrIX";
    uint8_t key[DP_MD5_LEN];
    assert_int_equal(dp_md5(key, text, sizeof text - 1), DP_OK);
    assert_memory_equal(key, long_term_key, sizeof key);
}

static void turn_attributes_come_back(void **state)
{
    (void)state;
    dp_stun_message m;
    const dp_address four = {.family = DP_FAMILY_IPV4, .port = 50000, .ip = {192, 0, 2, 1}};
    const dp_address six = {.family = DP_FAMILY_IPV6, .port = 50001, .ip = {0x20, 1, 0x0d, 0xb8, [15] = 1}};
    begin(DP_STUN_SUCCESS, DP_STUN_METHOD_ALLOCATE);
    for (unsigned i = 0; i < 3; i++) /* the third one is too many */
        dp_stun_write_xor_address(&wr, DP_STUN_XOR_RELAYED_ADDRESS, i == 1 ? &six : &four);
    dp_stun_write_xor_address(&wr, DP_STUN_XOR_PEER_ADDRESS, &six);
    dp_stun_write_u32(&wr, DP_STUN_LIFETIME, 600);
    dp_stun_write_u32(&wr, DP_STUN_LIFETIME, 0);
    dp_stun_write_channel_number(&wr, 0x4fff);
    dp_stun_write_attribute(&wr, DP_STUN_DATA, "payload", 7);
    dp_stun_write_attribute(&wr, DP_STUN_ADDRESS_ERROR_CODE, "\2\0\4\x28", 4);
    dp_stun_write_attribute(&wr, DP_STUN_ALTERNATE_SERVER, "\0\1\xc3\x50\xc0\0\2\1", 8);
    assert_int_equal(end(&m), DP_OK);
    assert_int_equal(m.method, DP_STUN_METHOD_ALLOCATE);
    assert_int_equal(m.unknown_count, 0);
    assert_int_equal(m.relayed_count, 2);
    assert_true(dp_address_equal(&m.relayed[0], &four) && dp_address_equal(&m.relayed[1], &six));
    assert_true(dp_address_equal(&m.peer, &six) && dp_address_equal(&m.alternate, &four));
    assert_true(m.has_lifetime && m.lifetime == 600);
    assert_int_equal(m.channel, 0x4fff);
    assert_int_equal(m.payload_len, 7);
    assert_memory_equal(m.payload, "payload", 7);
    assert_int_equal(m.address_error, 440);
    assert_int_equal(m.address_error_family, DP_STUN_FAMILY_IPV6);
}

static void malformed_turn_attributes(void **state)
{
    (void)state;
    static const struct {
        dp_stun_attribute type;
        size_t len;
    } rows[] = {
        {DP_STUN_CHANNEL_NUMBER, 0},
        {DP_STUN_CHANNEL_NUMBER, 1},
        {DP_STUN_LIFETIME, 0},
        {DP_STUN_LIFETIME, 3},
        {DP_STUN_LIFETIME, 8},
        {DP_STUN_XOR_PEER_ADDRESS, 0},
        {DP_STUN_XOR_PEER_ADDRESS, 7},
        {DP_STUN_XOR_PEER_ADDRESS, 9},
        {DP_STUN_XOR_PEER_ADDRESS, 20},
        {DP_STUN_XOR_RELAYED_ADDRESS, 7},
        {DP_STUN_XOR_RELAYED_ADDRESS, 9},
        {DP_STUN_ALTERNATE_SERVER, 7},
        {DP_STUN_ADDRESS_ERROR_CODE, 3},
    };
    const uint8_t value[20] = {0, 1};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        dp_stun_message m;
        begin(DP_STUN_SUCCESS, DP_STUN_METHOD_ALLOCATE);
        dp_stun_write_attribute(&wr, rows[i].type, value, rows[i].len);
        assert_int_equal(end(&m), DP_ERR_PROTOCOL);
    }
}

static void short_buffers_are_refused(void **state)
{
    (void)state;
    for (size_t capacity = 0; capacity < 128; capacity++) {
        uint8_t *buffer = malloc(capacity > 0 ? capacity : 1);
        size_t len = 0;
        wr = dp_wr_init(buffer, capacity);
        dp_stun_write_header(&wr, DP_STUN_SUCCESS, DP_STUN_METHOD_BINDING, id);
        dp_address a = {.family = DP_FAMILY_IPV6, .port = 9, .ip = {0x20, 1}};
        dp_stun_write_xor_mapped_address(&wr, &a);
        dp_stun_write_error_code(&wr, 487, "Role Conflict");
        dp_stun_write_integrity(&wr, "key", 3);
        dp_stun_write_fingerprint(&wr);
        bool fits = capacity >= 20 + 24 + 24 + 24 + 8;
        assert_int_equal(dp_stun_finish(&wr, &len), fits ? DP_OK : DP_ERR_NO_SPACE);
        free(buffer);
    }
}

/* Rows 2 to 6: what the header says, attributes past the end, a huge USERNAME, an empty and a wrong
 * FINGERPRINT. */
static void bad_lengths(void **state)
{
    (void)state;
    static const uint8_t zeros[DP_STUN_USERNAME_MAX + 1] = {0};
    dp_stun_message m;
    uint8_t copy[sizeof request + 4];
    memcpy(copy, request, sizeof request);
    memset(copy + sizeof request, 0, 4);
    assert_int_equal(decode(&m, copy, sizeof copy), DP_ERR_MALFORMED); /* more than the header says */

    begin(DP_STUN_REQUEST, DP_STUN_METHOD_BINDING);
    dp_wr_u32(&wr, 0x00060005);
    dp_wr_u32(&wr, 0x61626364);
    assert_int_equal(end(&m), DP_ERR_MALFORMED); /* row 3: 5 bytes announced, 4 there */
    begin(DP_STUN_REQUEST, DP_STUN_METHOD_BINDING);
    dp_wr_u32(&wr, 0x00060003);
    dp_wr_u24(&wr, 0x616263);
    assert_int_equal(end(&m), DP_ERR_MALFORMED); /* padding missing */
    begin(DP_STUN_REQUEST, DP_STUN_METHOD_BINDING);
    dp_wr_u32(&wr, 0x0006ffff);
    dp_wr_zeros(&wr, 1000);
    assert_int_equal(end(&m), DP_ERR_MALFORMED); /* row 4 */
    begin(DP_STUN_REQUEST, DP_STUN_METHOD_BINDING);
    dp_stun_write_attribute(&wr, DP_STUN_USERNAME, zeros, DP_STUN_USERNAME_MAX);
    assert_int_equal(end(&m), DP_OK);
    begin(DP_STUN_REQUEST, DP_STUN_METHOD_BINDING);
    dp_stun_write_attribute(&wr, DP_STUN_USERNAME, zeros, DP_STUN_USERNAME_MAX + 1);
    assert_int_equal(end(&m), DP_ERR_PROTOCOL);
    begin(DP_STUN_REQUEST, DP_STUN_METHOD_BINDING);
    dp_wr_u32(&wr, 0x80280000);
    assert_int_equal(end(&m), DP_ERR_MALFORMED); /* row 5 */
    memcpy(copy, request, sizeof request);
    copy[sizeof request - 1] ^= 1;
    assert_int_equal(decode(&m, copy, sizeof request), DP_ERR_MALFORMED); /* row 6 */
    begin(DP_STUN_REQUEST, DP_STUN_METHOD_BINDING);
    dp_wr_zeros(&wr, DP_STUN_MESSAGE_MAX - 20);
    assert_int_equal(end(&m), DP_OK); /* the largest: empty attributes of type 0 */
    uint8_t huge[DP_STUN_MESSAGE_MAX + 4] = {0};
    memcpy(huge, out, sizeof out);
    huge[2] = (uint8_t)((sizeof huge - 20) >> 8);
    huge[3] = (uint8_t)(sizeof huge - 20);
    assert_int_equal(decode(&m, huge, sizeof huge), DP_ERR_MALFORMED);
}

static void bad_values(void **state)
{
    (void)state;
    static const struct {
        uint16_t type;
        size_t len;
    } wrong[] = {
        {DP_STUN_PRIORITY, 3},
        {DP_STUN_PRIORITY, 8},
        {DP_STUN_USE_CANDIDATE, 1},
        {DP_STUN_ICE_CONTROLLED, 4},
        {DP_STUN_ICE_CONTROLLING, 9},
        {DP_STUN_MESSAGE_INTEGRITY, 0},
        {DP_STUN_MESSAGE_INTEGRITY, 32},
        {DP_STUN_ERROR_CODE, 0},
        {DP_STUN_ERROR_CODE, 3},
        {DP_STUN_ERROR_CODE, 8}, /* class 0 */
        {DP_STUN_XOR_MAPPED_ADDRESS, 0},
        {DP_STUN_XOR_MAPPED_ADDRESS, 8}, /* family 0 */
        {DP_STUN_UNKNOWN_ATTRIBUTES, 3},
        {DP_STUN_REALM, 764},
        {DP_STUN_NONCE, 764},
    };
    static const uint8_t zeros[800] = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        dp_stun_message m;
        begin(DP_STUN_REQUEST, DP_STUN_METHOD_BINDING);
        dp_stun_write_attribute(&wr, (dp_stun_attribute)wrong[i].type, zeros, wrong[i].len);
        dp_stun_write_fingerprint(&wr);
        assert_int_equal(end(&m), DP_ERR_PROTOCOL);
        assert_true(m.has_fingerprint);
        out[wr.len - 1] ^= 1;
        assert_int_equal(decode(&m, out, wr.len), DP_ERR_MALFORMED); /* nor is it STUN */
    }
    for (size_t len = 0; len <= 8; len += 4) {
        dp_stun_message m;
        begin(DP_STUN_REQUEST, DP_STUN_METHOD_BINDING);
        dp_stun_write_attribute(&wr, DP_STUN_FINGERPRINT, zeros, len);
        assert_int_equal(end(&m), DP_ERR_MALFORMED);
    }
    /* IPv4 family with 16 bytes, IPv6 with 4 */
    static const uint8_t long4[20] = {0, 1};
    static const uint8_t short6[8] = {0, 2};
    dp_stun_message m;
    begin(DP_STUN_SUCCESS, DP_STUN_METHOD_BINDING);
    dp_stun_write_attribute(&wr, DP_STUN_XOR_MAPPED_ADDRESS, long4, sizeof long4);
    assert_int_equal(end(&m), DP_ERR_PROTOCOL);
    begin(DP_STUN_SUCCESS, DP_STUN_METHOD_BINDING);
    dp_stun_write_attribute(&wr, DP_STUN_XOR_MAPPED_ADDRESS, short6, sizeof short6);
    assert_int_equal(end(&m), DP_ERR_PROTOCOL);
}

static void fingerprint_must_be_last(void **state)
{
    (void)state;
    dp_stun_message m;
    begin(DP_STUN_REQUEST, DP_STUN_METHOD_BINDING);
    dp_wr_patch_u16(&wr, 2, 16); /* so that the CRC is right, and only its place is wrong */
    dp_stun_write_u32(&wr, DP_STUN_FINGERPRINT, dp_crc32(out, DP_STUN_HEADER_LEN) ^ 0x5354554eu);
    dp_stun_write_u32(&wr, DP_STUN_PRIORITY, 1);
    assert_int_equal(end(&m), DP_ERR_MALFORMED);
}

/* Row 14. */
static void nothing_counts_after_integrity(void **state)
{
    (void)state;
    dp_stun_message m;
    begin(DP_STUN_REQUEST, DP_STUN_METHOD_BINDING);
    dp_stun_write_attribute(&wr, DP_STUN_USERNAME, "a:b", 3);
    dp_stun_write_integrity(&wr, "key", 3);
    dp_stun_write_u32(&wr, DP_STUN_PRIORITY, 1);
    dp_stun_write_attribute(&wr, DP_STUN_USE_CANDIDATE, "", 0);
    dp_stun_write_attribute(&wr, (dp_stun_attribute)0x0026, "", 0); /* unknown and required */
    dp_stun_write_u32(&wr, DP_STUN_ICE_CONTROLLED, 1);              /* not even its length is looked at */
    dp_stun_write_fingerprint(&wr);
    assert_int_equal(end(&m), DP_OK);
    assert_false(m.has_priority || m.use_candidate || m.has_controlled);
    assert_int_equal(m.unknown_count, 0);
    assert_true(m.has_fingerprint);
    assert_int_equal(dp_stun_check_integrity(&m, "key", 3), DP_OK);
}

static void first_of_two_counts(void **state)
{
    (void)state;
    dp_stun_message m;
    begin(DP_STUN_REQUEST, DP_STUN_METHOD_BINDING);
    dp_stun_write_u32(&wr, DP_STUN_PRIORITY, 1);
    dp_stun_write_u32(&wr, DP_STUN_PRIORITY, 2);
    dp_stun_write_attribute(&wr, DP_STUN_USERNAME, "a:b", 3);
    dp_stun_write_attribute(&wr, DP_STUN_USERNAME, "c:d", 3);
    dp_stun_write_u64(&wr, DP_STUN_ICE_CONTROLLING, 3);
    dp_stun_write_u64(&wr, DP_STUN_ICE_CONTROLLED, 4);
    assert_int_equal(end(&m), DP_OK);
    assert_int_equal(m.priority, 1);
    assert_memory_equal(m.username, "a:b", 3);
    assert_true(m.has_controlling && !m.has_controlled && m.tie_breaker == 3);
}

static void unknown_attributes_are_listed(void **state)
{
    (void)state;
    dp_stun_message m;
    begin(DP_STUN_REQUEST, DP_STUN_METHOD_BINDING);
    for (unsigned i = 0; i < 100; i++)
        dp_stun_write_u32(&wr, (dp_stun_attribute)(0x7000 + i), i);
    dp_stun_write_u32(&wr, (dp_stun_attribute)0x8000, 1); /* optional */
    assert_int_equal(end(&m), DP_OK);
    assert_int_equal(m.unknown_count, DP_STUN_UNKNOWN_MAX);
    assert_int_equal(m.unknown[0], 0x7000);
    assert_int_equal(m.unknown[DP_STUN_UNKNOWN_MAX - 1], 0x7000 + DP_STUN_UNKNOWN_MAX - 1);
}

/* Whose check is this? Asked before the integrity can be checked. */
static void peek_at_ufrag(void **state)
{
    (void)state;
    char ufrag[DP_ICE_UFRAG_MAX + 1];
    static const struct {
        const char *username;
        bool ok;
    } cases[] = {{"abcd:efgh", true}, {"abcd:", true}, {":efgh", false}, {"abcd", false}, {"", false}};
    assert_true(dp_ice_peek_ufrag(request, sizeof request, ufrag));
    assert_string_equal(ufrag, "evtj");
    assert_false(dp_ice_peek_ufrag(request, sizeof request - 1, ufrag));
    assert_false(dp_ice_peek_ufrag(response4, sizeof response4, ufrag));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t len = 0;
        begin(DP_STUN_REQUEST, DP_STUN_METHOD_BINDING);
        dp_stun_write_attribute(&wr, DP_STUN_USERNAME, cases[i].username, strlen(cases[i].username));
        assert_int_equal(dp_stun_finish(&wr, &len), DP_OK);
        assert_int_equal(dp_ice_peek_ufrag(out, len, ufrag), cases[i].ok);
    }
    char name[DP_ICE_UFRAG_MAX + 3];
    memset(name, 'a', sizeof name);
    for (size_t n = DP_ICE_UFRAG_MAX; n <= DP_ICE_UFRAG_MAX + 1; n++) {
        size_t len = 0;
        name[n] = ':';
        begin(DP_STUN_REQUEST, DP_STUN_METHOD_BINDING);
        dp_stun_write_attribute(&wr, DP_STUN_USERNAME, name, n + 1);
        assert_int_equal(dp_stun_finish(&wr, &len), DP_OK);
        assert_int_equal(dp_ice_peek_ufrag(out, len, ufrag), n == DP_ICE_UFRAG_MAX);
        name[n] = 'a';
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vector_request),
        cmocka_unit_test(vector_responses),
        cmocka_unit_test(vector_long_term),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(every_truncation_is_malformed),
        cmocka_unit_test(round_trip_of_types),
        cmocka_unit_test(round_trip_of_a_check),
        cmocka_unit_test(round_trip_of_an_error),
        cmocka_unit_test(long_term_key_of_the_vector),
        cmocka_unit_test(turn_attributes_come_back),
        cmocka_unit_test(malformed_turn_attributes),
        cmocka_unit_test(short_buffers_are_refused),
        cmocka_unit_test(bad_lengths),
        cmocka_unit_test(bad_values),
        cmocka_unit_test(fingerprint_must_be_last),
        cmocka_unit_test(nothing_counts_after_integrity),
        cmocka_unit_test(first_of_two_counts),
        cmocka_unit_test(unknown_attributes_are_listed),
        cmocka_unit_test(peek_at_ufrag),
    };
    return cmocka_run_group_tests_name("ice/stun", tests, NULL, free_copy);
}
