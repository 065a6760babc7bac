/* Interleaved messages (RFC 8260): how they are put together. Whole sessions: interleaved.c. */
#include "sctp/interleaving.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the headers above */
#include <cmocka.h>

#define STREAMS 8
#define WHOLE   10000u
#define LIMIT   200000u

enum { LAST = 1, FIRST = 2, UNORDERED = 4 };

static dp_interleaving il;
static dp_association_event event;
static uint8_t buffer[65536];

static char out[256]; /* see note */

static int setup(void **state)
{
    (void)state;
    memset(out, 0, sizeof out);
    dp_interleaving_init(&il, STREAMS, WHOLE, LIMIT);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    dp_interleaving_clear(&il);
    return 0;
}

/* A piece of a chunk, as it comes out of usrsctp. */
static int input_piece(uint16_t stream, uint16_t mid, unsigned flags, uint32_t value, const void *data,
                       size_t len, bool complete)
{
    event =
        (dp_association_event){.type = DP_ASSOCIATION_DATA,
                               .len = len,
                               .stream = stream,
                               .unordered = true,
                               .mid = mid,
                               .complete = complete,
                               .ppid = (DP_INTERLEAVING_REAL | flags) << DP_INTERLEAVING_FLAGS_AT | value};
    return dp_interleaving_input(&il, &event, (const uint8_t *)data);
}

/* A fragment with one letter as its content. value: the FSN, or the PPID of a first one. */
static void input(uint16_t stream, uint16_t mid, unsigned flags, uint32_t value, char letter)
{
    buffer[0] = (uint8_t)letter;
    assert_int_equal(input_piece(stream, mid, flags, value, &letter, 1, true), DP_OK);
}

/* What has come out, as text: letters, in capitals where a message ends; '!' for one that is given up. */
static void note(void)
{
    char letter =
        event.type == DP_ASSOCIATION_ABANDONED ? '!' : (char)(buffer[0] - (event.complete ? 32 : 0));
    if (event.type != DP_ASSOCIATION_IGNORED)
        out[strlen(out)] = letter;
}

static void give_all(void)
{
    while (dp_interleaving_give(&il, &event, buffer, sizeof buffer))
        note();
    assert_false(dp_interleaving_ready(&il));
}

static void put(uint16_t stream, uint16_t mid, unsigned flags, uint32_t value, char letter)
{
    input(stream, mid, flags, value, letter);
    note();
    give_all();
}

static void expect(const char *wanted)
{
    assert_string_equal(out, wanted);
    memset(out, 0, sizeof out);
}

/* I-FORWARD-TSN with one entry: whether it was news. */
static bool forward(uint32_t to, uint16_t stream, bool unordered, uint16_t mid)
{
    const uint8_t body[] = {(uint8_t)(to >> 24),
                            (uint8_t)(to >> 16),
                            (uint8_t)(to >> 8),
                            (uint8_t)to,
                            (uint8_t)(stream >> 8),
                            (uint8_t)stream,
                            0,
                            unordered,
                            0,
                            0,
                            (uint8_t)(mid >> 8),
                            (uint8_t)mid};
    bool noted;
    assert_int_equal(dp_interleaving_forward(&il, &noted, dp_rd_init(body, sizeof body)), DP_OK);
    return noted;
}

static void give_up(uint32_t to, uint16_t stream, bool unordered, uint16_t mid)
{
    assert_true(forward(to, stream, unordered, mid));
    dp_interleaving_made_up(&il, to);
    give_all();
}

static void test_in_turn(void **state)
{
    (void)state;
    put(0, 0, FIRST, 51, 'a');
    put(1, 0, FIRST, 53, 'k');
    put(0, 0, 0, 1, 'b');
    put(1, 0, LAST, 1, 'l');
    put(2, 0, FIRST | LAST, 53, 'x');
    put(0, 0, LAST, 2, 'c');
    put(0, 1, FIRST | LAST, 53, 'd');
    expect("akbLXCD");
    assert_int_equal(il.held, 0);
    assert_int_equal(il.messages.count, 0);
}

/* The PPID stands in the first fragment alone, and every piece has it. */
static void test_ppid(void **state)
{
    (void)state;
    input(0, 0, LAST, 1, 'b');
    input(0, 0, FIRST, 51, 'a');
    assert_int_equal(event.ppid, 51);
    assert_true(dp_interleaving_give(&il, &event, buffer, sizeof buffer));
    assert_int_equal(event.ppid, 51);
    assert_true(event.complete);
    input(0, 1, FIRST | LAST, 50, 'c');
    assert_int_equal(event.ppid, 50);
}

static void test_out_of_order(void **state)
{
    (void)state;
    put(0, 1, FIRST | LAST, 53, 'e');
    put(0, 0, LAST, 3, 'd');
    put(0, 0, 0, 1, 'b');
    put(0, 2, FIRST, 53, 'f');
    expect("");
    put(0, 0, FIRST, 53, 'a');
    expect("ab");
    put(0, 0, 0, 2, 'c');
    expect("cDEf");
    put(0, 2, LAST, 1, 'g');
    expect("G");
    assert_int_equal(il.held, 0);
}

static void test_unordered(void **state)
{
    (void)state;
    put(0, 0, UNORDERED | FIRST, 53, 'a');
    put(0, 2, UNORDERED | FIRST | LAST, 53, 'x');
    put(0, 1, UNORDERED | LAST, 1, 'n');
    put(0, 0, FIRST | LAST, 53, 'o'); /* the ordered ones have MIDs of their own */
    put(0, 1, UNORDERED | FIRST, 53, 'm');
    put(0, 0, UNORDERED | LAST, 1, 'b');
    expect("aXOmNB");
    assert_int_equal(il.messages.count, 0);
}

/* Doubled fragments, fragments behind the end, a first one that is not number 0's place. */
static void test_nonsense(void **state)
{
    (void)state;
    put(0, 0, 0, 0, 'q'); /* number 0 and no first one */
    put(0, 0, 0, 2, 'c');
    put(0, 0, 0, 2, 'q');
    put(0, 0, LAST, 3, 'd');
    put(0, 0, LAST, 9, 'q');
    put(0, 0, 0, 4, 'q');
    put(0, 0, FIRST, 53, 'a');
    put(0, 0, FIRST, 53, 'q');
    put(0, 0, 0, 1, 'b');
    put(0, 0, 0, 1, 'q');
    expect("abcD");
    put(0, 0, FIRST | LAST, 53, 'q'); /* it has come */
    expect("");
    assert_int_equal(il.held, 0);
}

/* An end before fragments that have come: the message would count as whole with one missing (and be read where nothing is,
 * when it is given up), and what lies behind its end would stay for ever. */
static void test_end_before_fragments(void **state)
{
    (void)state;
    put(0, 0, FIRST, 53, 'a');
    put(0, 0, 0, 5, 'f');
    put(0, 0, LAST, 2, 'q');
    give_up(100, 0, false, 0);
    expect("a!");
    put(0, 1, UNORDERED, 5, 'f');
    put(0, 1, UNORDERED | FIRST | LAST, 53, 'q');
    expect("");
    put(0, 1, UNORDERED | FIRST, 53, 'a');
    for (uint32_t fsn = 1; fsn < 5; fsn++)
        put(0, 1, UNORDERED, fsn, 'b');
    put(0, 1, UNORDERED | LAST, 6, 'g');
    expect("abbbbfG");
    assert_int_equal(il.held, 0);
    assert_int_equal(il.messages.count, 0);
}

static void test_given_up(void **state)
{
    (void)state;
    put(0, 0, FIRST, 53, 'a');
    put(0, 1, FIRST, 53, 'q'); /* waits, incomplete */
    put(0, 2, LAST, 1, 'c');
    put(0, 2, FIRST, 53, 'b'); /* waits, whole: it is given out (RFC 3758 §3.6) */
    put(0, 4, FIRST | LAST, 53, 'd');
    expect("a");
    give_up(100, 0, false, 3);
    expect("!bCD");
    put(0, 0, LAST, 1, 'q'); /* too late */
    put(0, 3, FIRST | LAST, 53, 'q');
    put(0, 5, FIRST | LAST, 53, 'e');
    expect("E");
    assert_int_equal(il.held, 0);
    assert_int_equal(il.messages.count, 0);
}

static void test_given_up_unordered(void **state)
{
    (void)state;
    put(0, 0, UNORDERED | FIRST, 53, 'a');
    put(0, 1, UNORDERED | 0, 1, 'q');
    put(0, 2, UNORDERED | FIRST, 53, 'b');
    give_up(100, 0, true, 1);
    expect("ab!");
    put(0, 1, UNORDERED | LAST, 2, 'q');
    put(0, 2, UNORDERED | LAST, 1, 'c');
    put(0, 0, FIRST | LAST, 53, 'd'); /* ordered */
    expect("CD");
    assert_int_equal(il.messages.count, 0);
}

/* One takes effect behind all that had come before it, and the next behind what had come in between. */
static void test_given_up_in_time(void **state)
{
    (void)state;
    assert_true(forward(100, 0, false, 0));
    assert_true(forward(200, 0, false, 2));
    assert_false(forward(200, 0, false, 2)); /* repeated */
    assert_false(forward(150, 0, false, 2)); /* overtaken */
    put(0, 0, FIRST, 53, 'a');
    expect("a");
    dp_interleaving_made_up(&il, 100);
    dp_interleaving_made_up(&il, 90); /* for the same */
    give_all();
    put(0, 1, FIRST | LAST, 53, 'b');
    put(0, 2, FIRST, 53, 'c');
    expect("!Bc");
    dp_interleaving_made_up(&il, 200);
    give_all();
    expect("!");
    assert_true(forward(300, 0, false, 3));
    dp_interleaving_take_back(&il);
    assert_true(forward(300, 0, false, 4));
    put(0, 3, FIRST | LAST, 53, 'd');
    expect("D");
    dp_interleaving_all_read(&il);
    put(0, 5, FIRST | LAST, 53, 'e');
    expect("E");
    assert_int_equal(il.skip_count, 0);
}

static void test_mids_wrap(void **state)
{
    (void)state;
    put(1, 3, UNORDERED | FIRST, 53, 'q');
    give_up(100, 1, true, 3);
    memset(out, 0, sizeof out);
    for (uint32_t i = 0; i < 70000; i++) {
        put(0, (uint16_t)i, LAST, 1, 'b');
        put(0, (uint16_t)i, FIRST, 53, 'a');
        expect("aB");
        put(1, (uint16_t)(i + 4), UNORDERED | FIRST | LAST, 53, 'x');
        expect("X");
    }
    give_up(200, 0, false, (uint16_t)(70000 + 4)); /* over 65536 */
    put(0, (uint16_t)(70000 + 5), FIRST | LAST, 53, 'y');
    expect("Y");
}

/* MIDs begin again at 0; what had begun is the owner's to forget. */
static void test_reset(void **state)
{
    (void)state;
    for (int all = 0; all < 2; all++) {
        put(0, 0, FIRST | LAST, 53, 'a');
        put(0, 1, FIRST, 53, 'b');
        put(0, 5, FIRST | LAST, 53, 'q');
        put(0, 7, UNORDERED | LAST, 1, 'q');
        put(1, 0, FIRST, 53, 'm');
        if (all)
            dp_interleaving_reset_all(&il);
        else
            dp_interleaving_reset(&il, 0);
        give_all();
        expect("Abm");
        put(0, 0, FIRST | LAST, 53, 'c');
        put(0, 7, UNORDERED | FIRST, 53, 'd');
        put(1, 0, LAST, 1, 'n');
        expect(all ? "Cd" : "CdN");
        dp_interleaving_clear(&il);
    }
}

/* A long message comes in parts, one of a stream at a time, and nothing else of the stream between its parts. */
static void test_in_parts(void **state)
{
    (void)state;
    static uint8_t large[WHOLE / 2];
    memset(large, 'p', sizeof large);
    put(0, 1, UNORDERED | FIRST, 53, 'a');
    for (uint32_t i = 0; i < 4; i++) {
        unsigned flags = UNORDERED | (i == 0 ? FIRST : 0u);
        assert_int_equal(input_piece(0, 0, flags, i == 0 ? 53 : i, large, sizeof large, true), DP_OK);
        assert_int_equal(event.type, DP_ASSOCIATION_DATA);
    }
    put(0, 1, UNORDERED | LAST, 1, 'b');
    put(0, 2, UNORDERED | FIRST | LAST, 53, 'c');
    put(0, 0, FIRST | LAST, 53, 'd');
    put(1, 0, FIRST | LAST, 53, 'e');
    expect("aE");
    put(0, 0, UNORDERED | LAST, 4, 'p');
    assert_int_equal(out[0], 'P');
    assert_int_equal(strlen(out), 4);
    assert_non_null(strchr(out, 'B'));
    assert_non_null(strchr(out, 'C'));
    assert_non_null(strchr(out, 'D'));
    assert_int_equal(il.messages.count, 0);
}

/* The same for one that is given up in the middle. */
static void test_in_parts_given_up(void **state)
{
    (void)state;
    static uint8_t large[WHOLE];
    assert_int_equal(input_piece(0, 0, FIRST, 53, large, sizeof large, true), DP_OK);
    assert_int_equal(input_piece(0, 0, 0, 1, large, 10, true), DP_OK);
    put(0, 0, UNORDERED | FIRST | LAST, 53, 'c');
    expect("");
    give_up(100, 0, false, 0);
    expect("!C");
}

/* A chunk may be larger than what the owner reads at once, or what it has room for. */
static void test_split(void **state)
{
    (void)state;
    static const char *const pieces[] = {"abc", "def", "g"};
    for (int kind = 0; kind < 3; kind++) { /* given out, kept, dropped */
        if (kind == 2)
            put(0, 0, FIRST | LAST, 53, 'z');
        memset(out, 0, sizeof out);
        for (int i = 0; i < 3; i++) {
            unsigned flags = kind == 1 ? LAST : FIRST | LAST;
            assert_int_equal(
                input_piece(0, 0, flags, kind == 1 ? 1 : 53, pieces[i], strlen(pieces[i]), i == 2), DP_OK);
            assert_int_equal(event.type, kind == 0 ? DP_ASSOCIATION_DATA : DP_ASSOCIATION_IGNORED);
            assert_int_equal(event.complete && kind == 0, i == 2 && kind == 0);
        }
        if (kind == 1) {
            input(0, 0, FIRST, 53, 'a');
            assert_true(dp_interleaving_give(&il, &event, buffer, 4));
            assert_memory_equal(buffer, "abcd", 4);
            assert_false(event.complete);
            assert_true(dp_interleaving_give(&il, &event, buffer, 4));
            assert_memory_equal(buffer, "efg", 3);
            assert_true(event.complete);
        }
        put(0, 1, FIRST | LAST, 53, 'y');
        expect("Y");
        dp_interleaving_clear(&il);
    }
}

static size_t fill(uint16_t stream, unsigned flags, size_t len, bool same)
{
    static uint8_t data[1200];
    size_t n = 0;
    while (input_piece(stream, (uint16_t)(same ? 7 : 7 + n), flags, (uint32_t)n + 1, data, len, true) ==
               DP_OK &&
           n < 100000)
        n++;
    dp_interleaving_clear(&il);
    return n;
}

/* What a peer may begin and not end. */
static void test_bounds(void **state)
{
    (void)state;
    assert_in_range(fill(0, 0, 1200, true), LIMIT / 1328, LIMIT / 1200);
    assert_in_range(fill(0, UNORDERED, 1, false), LIMIT / 200, LIMIT / 128);
    assert_in_range(fill(0, 0, 1, true), LIMIT / 200, LIMIT / 128);
    /* Their number, whatever the bytes. */
    dp_interleaving_init(&il, STREAMS, WHOLE, 1u << 30);
    assert_int_equal(fill(0, 0, 1, true), DP_INTERLEAVING_PENDING);
    dp_interleaving_init(&il, STREAMS, WHOLE, 1u << 30);
    assert_int_equal(fill(0, UNORDERED, 1, false), DP_INTERLEAVING_PENDING);
    dp_interleaving_init(&il, STREAMS, WHOLE, LIMIT);
    /* Beginnings are given out, but not too many at a time: each takes a buffer of its owner. */
    size_t given = 0, n = 0;
    while (input_piece(0, (uint16_t)n, UNORDERED | FIRST, 53, "a", 1, true) == DP_OK && ++n < 100000)
        given += event.type == DP_ASSOCIATION_DATA;
    assert_int_equal(given, 64);
    assert_in_range(n, 1000, 8192);
    /* Whole ones pass. */
    dp_interleaving_clear(&il);
    for (uint16_t i = 0; i < 200; i++)
        put(0, i, UNORDERED | FIRST, 53, 'a');
    memset(out, 0, sizeof out);
    put(0, 150, UNORDERED | LAST, 1, 'b');
    expect("aB");
    /* Entries of I-FORWARD-TSN, while the owner reads nothing; those of streams that there are not do not count. */
    dp_interleaving_clear(&il);
    bool noted;
    int error = DP_OK;
    for (n = 0; n < 100000 && error == DP_OK; n++) {
        const uint8_t body[] = {0,
                                (uint8_t)(n >> 16),
                                (uint8_t)(n >> 8),
                                (uint8_t)n,
                                0,
                                0,
                                0,
                                0,
                                0,
                                0,
                                0,
                                1,
                                0,
                                STREAMS,
                                0,
                                0,
                                0,
                                0,
                                0,
                                0};
        error = dp_interleaving_forward(&il, &noted, dp_rd_init(body, sizeof body));
    }
    assert_in_range(n, 8000, 8193);
    assert_int_equal(error, DP_ERR_LIMIT);
    assert_true(il.stream_capacity <= STREAMS * 4);
}

static int allocations_left;

static void *few_realloc(void *ctx, void *old, size_t size)
{
    (void)ctx;
    return allocations_left-- > 0 ? realloc(old, size) : NULL;
}
static void *few_alloc(void *ctx, size_t size) { return few_realloc(ctx, NULL, size); }
static void plain_free(void *ctx, void *block)
{
    (void)ctx;
    free(block);
}

/* Each allocation for an I-FORWARD-TSN fails once: it is as if it had not come, so it is news when it comes again. Sessions:
 * memory.c. */
static void test_no_memory_for_skips(void **state)
{
    (void)state;
    static const dp_allocator few = {few_alloc, few_realloc, plain_free, NULL};
    static const uint8_t body[] = {0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0};
    int error = DP_ERR_NO_MEMORY, failures = 0;
    dp_interleaving_init(&il, 4 * STREAMS, WHOLE, LIMIT);
    put(0, 0, FIRST, 53, 'a'); /* the first streams have their place, the last that is given up has not */
    for (bool noted = false; error != DP_OK; failures += error != DP_OK) {
        assert_int_equal(il.skip_count, 0);
        allocations_left = failures;
        dp_set_allocator(&few);
        error = dp_interleaving_forward(&il, &noted, dp_rd_init(body, sizeof body));
        dp_set_allocator(NULL);
        assert_true(error == DP_OK || error == DP_ERR_NO_MEMORY);
        assert_int_equal(noted, error == DP_OK);
    }
    assert_int_equal(failures, 2);
    assert_int_equal(il.skip_count, 2);
    dp_interleaving_made_up(&il, 100);
    give_all();
    put(20, 1, FIRST | LAST, 53, 'b');
    expect("a!B");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_in_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ppid, setup, teardown),
        cmocka_unit_test_setup_teardown(test_out_of_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unordered, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nonsense, setup, teardown),
        cmocka_unit_test_setup_teardown(test_end_before_fragments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_given_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_given_up_unordered, setup, teardown),
        cmocka_unit_test_setup_teardown(test_given_up_in_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mids_wrap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(test_in_parts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_in_parts_given_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_split, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_memory_for_skips, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
