/* BinaryPack against the vectors of vectors.txt, which vectors.py describes and makes. */
#include "rpc/binarypack.h"

#include "base/crypto.h"
#include "base/mem.h"
#include "base/text.h"
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static bool numbers_as_ints; /* the same number as INT or UINT instead of DOUBLE */

static uint8_t *parse_hex(const char **at, size_t *len)
{
    size_t digits = strspn(*at, "0123456789abcdef");
    uint8_t *bytes = malloc(digits / 2 + 1);
    for (size_t i = 0; i < digits / 2; i++)
        bytes[i] = (uint8_t)(dp_hex_digit((*at)[2 * i]) * 16 + dp_hex_digit((*at)[2 * i + 1]));
    *at += digits;
    *len = digits / 2;
    return bytes;
}

static size_t parse_length(const char **at)
{
    char *end;
    size_t len = strtoul(*at + 1, &end, 10);
    *at = end + 1;
    return len;
}

static dp_value *number_of(const char **at)
{
    char *end;
    uint64_t bits = strtoull(*at, &end, 16);
    *at = end;
    double d;
    memcpy(&d, &bits, sizeof(d));
    if (numbers_as_ints && d >= -0x1p63 && d < 0x1p63 && d == (double)(int64_t)d)
        return dp_value_int((int64_t)d);
    if (numbers_as_ints && d >= 0x1p63 && d < 0x1p64)
        return dp_value_uint((uint64_t)d);
    return dp_value_double(d);
}

static dp_value *text_of(const char **at, size_t times)
{
    size_t len;
    uint8_t *unit = parse_hex(at, &len);
    char *text = malloc(len * times + 1);
    for (size_t i = 0; i < times; i++)
        memcpy(text + i * len, unit, len);
    dp_value *value = dp_value_string_n(text, len * times);
    free(text);
    free(unit);
    return value;
}

static dp_value *pattern_of(size_t len, uint32_t seed)
{
    uint8_t *bytes = malloc(len + 1);
    for (uint32_t i = 0; i < len; i++) {
        uint32_t h = (i + seed * 7919u) * 0x9E3779B1u;
        bytes[i] = (uint8_t)((h >> 24) ^ (h >> 11));
    }
    dp_value *value = dp_value_bytes(bytes, len);
    free(bytes);
    return value;
}

static dp_value *keys_of(size_t count)
{
    dp_value *map = dp_value_map();
    for (size_t i = 0; i < count; i++) {
        char key[32];
        snprintf(key, sizeof(key), "k%zu", i);
        assert_int_equal(dp_value_set(map, key, dp_value_int((int64_t)(i % 16))), DP_OK);
    }
    return map;
}

static dp_value *parse_value(const char **at);

static dp_value *container_of(const char **at, bool map)
{
    dp_value *container = map ? dp_value_map() : dp_value_array();
    while (**at != ']' && **at != '}') {
        if (!map) {
            assert_int_equal(dp_value_push(container, parse_value(at)), DP_OK);
            continue;
        }
        dp_value *key = parse_value(at);
        size_t len;
        const char *text = dp_value_get_string(key, &len);
        assert_int_equal(dp_value_set_n(container, text, len, parse_value(at)), DP_OK);
        dp_value_free(key);
    }
    ++*at;
    return container;
}

static dp_value *parse_value(const char **at)
{
    dp_value *value = NULL;
    size_t len = 0;
    uint8_t *bytes;
    switch (*(*at)++) {
    case 'N':
        value = dp_value_null();
        break;
    case 'T':
        value = dp_value_bool(true);
        break;
    case 'F':
        value = dp_value_bool(false);
        break;
    case '#':
        value = number_of(at);
        break;
    case 's':
        value = text_of(at, 1);
        break;
    case 'S':
        len = parse_length(at);
        value = text_of(at, len);
        break;
    case 'b':
        bytes = parse_hex(at, &len);
        value = dp_value_bytes(bytes, len);
        free(bytes);
        break;
    case 'P': {
        char *end;
        len = parse_length(at);
        value = pattern_of(len, (uint32_t)strtoul(*at, &end, 10));
        *at = end;
        break;
    }
    case 'A': {
        len = parse_length(at);
        const char *item = *at;
        value = dp_value_array();
        for (size_t i = 0; i < len; i++) {
            *at = item;
            assert_int_equal(dp_value_push(value, parse_value(at)), DP_OK);
        }
        break;
    }
    case 'K':
        len = parse_length(at);
        value = keys_of(len);
        break;
    case '[':
        value = container_of(at, false);
        break;
    case '{':
        value = container_of(at, true);
        break;
    default:
        fail_msg("bad value in vectors.txt: %s", *at - 1);
    }
    if (**at == ' ')
        ++*at;
    assert_non_null(value);
    return value;
}

static void check_packed(const char *name, const char *expected, const uint8_t *packed, size_t len)
{
    const char *colon = strchr(expected, ':');
    size_t hex_len;
    if (colon == NULL) {
        uint8_t *bytes = parse_hex(&expected, &hex_len);
        if (hex_len != len || memcmp(bytes, packed, len) != 0)
            fail_msg("%s: packed wrongly", name);
        free(bytes);
        return;
    }
    uint8_t hash[DP_SHA256_LEN];
    assert_int_equal(dp_sha256(hash, packed, len), DP_OK);
    assert_int_equal(len, strtoul(expected, NULL, 10));
    expected = colon + 1;
    uint8_t *wanted = parse_hex(&expected, &hex_len);
    if (memcmp(wanted, hash, sizeof(hash)) != 0)
        fail_msg("%s: packed wrongly", name);
    free(wanted);
}

/* Packs right, and what was packed unpacks to the same value. */
static void check_pack(const char *name, const char *text, const char *expected)
{
    for (int as_ints = 0; as_ints < 2; as_ints++) {
        numbers_as_ints = as_ints != 0;
        const char *at = text;
        dp_value *value = parse_value(&at);
        uint8_t *packed = NULL;
        size_t len = 0;
        assert_int_equal(dp_binarypack_encode(value, &packed, &len), DP_OK);
        check_packed(name, expected, packed, len);
        dp_value *again = NULL;
        assert_int_equal(dp_binarypack_decode(&again, packed, len), DP_OK);
        if (!dp_value_equal(value, again))
            fail_msg("%s: not the same after a round trip", name);
        dp_value_free(again);
        dp_free(packed);
        dp_value_free(value);
    }
    numbers_as_ints = false;
}

static void check_unpack(const char *name, const char *hex, const char *text)
{
    size_t len;
    size_t used;
    uint8_t *packed = parse_hex(&hex, &len);
    dp_value *expected = text == NULL ? NULL : parse_value(&text);
    dp_value *value = NULL;
    int error = dp_bp_decode_prefix(&value, &used, packed, len);
    if (expected == NULL && error == DP_OK)
        fail_msg("%s: accepted", name);
    if (expected != NULL && (error != DP_OK || !dp_value_equal(value, expected)))
        fail_msg("%s: unpacked wrongly, error %d", name, error);
    dp_value_free(value);
    value = NULL;
    bool whole = error == DP_OK && used == len; /* the public decoder refuses bytes that follow */
    error = dp_binarypack_decode(&value, packed, len);
    assert_true((error == DP_OK) == whole);
    dp_value_free(value);
    dp_value_free(expected);
    free(packed);
}

static void each_vector(void **state)
{
    (void)state;
    FILE *f = fopen("tests/unit/rpc/vectors.txt", "r"); /* from the root of the repository, like every test */
    assert_non_null(f);
    char *line = NULL;
    size_t capacity = 0;
    size_t counts[3] = {0};
    for (ssize_t len; (len = getline(&line, &capacity, f)) > 0;) {
        line[len - 1] = '\0';
        char *fields[5] = {0};
        char *rest = line;
        for (int i = 0; i < 5 && rest != NULL; i++)
            fields[i] = strsep(&rest, "\t");
        const char *kind = fields[0];
        if (strcmp(kind, "pack") == 0 || strcmp(kind, "differ") == 0) {
            check_pack(fields[1], fields[2], fields[3]);
            counts[0]++;
        } else if (strcmp(kind, "unpack") == 0 || strcmp(kind, "other") == 0) {
            check_unpack(fields[1], fields[2], fields[3]);
            counts[1]++;
        } else {
            check_unpack(fields[1], fields[2], NULL);
            counts[2]++;
        }
    }
    free(line);
    fclose(f);
    assert_in_range(counts[0], 280, 1000);
    assert_in_range(counts[1], 270, 1000);
    assert_in_range(counts[2], 90, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_vector)};
    return cmocka_run_group_tests_name("rpc/vectors", tests, NULL, NULL);
}
