/* The ring against a plain count: what goes in comes out in the same order, whatever wraps around when it
 * grows. */
#include "tests/unit/base/helper.h"

#include "base/queue.h"

typedef struct item {
    uint32_t number;
    uint8_t rest[20];
} item;

static uint32_t pushed, popped;

static void push(dp_queue *queue)
{
    item *i = dp_queue_push(queue);
    assert_non_null(i);
    assert_int_equal(i->number, 0); /* zeroed */
    assert_int_equal(i->rest[19], 0);
    i->number = pushed++;
    memset(i->rest, (int)(i->number & 0xFF), sizeof(i->rest));
}

static void check(const item *i, uint32_t number)
{
    assert_int_equal(i->number, number);
    assert_int_equal(i->rest[0], number & 0xFF);
    assert_int_equal(i->rest[19], number & 0xFF);
}

static void compare(const dp_queue *queue)
{
    assert_int_equal(queue->count, pushed - popped);
    for (uint32_t k = 0; k < queue->count; k++)
        check(dp_queue_at(queue, k), popped + k);
    assert_null(dp_queue_at(queue, queue->count));
}

static void random_walk(size_t max)
{
    dp_queue queue;
    pushed = popped = 0;
    fail_allocation(0);
    dp_queue_init(&queue, sizeof(item), max);
    for (int i = 0; i < 3000; i++) {
        bool adding = next_random() % 10 < (i / 200 % 2 == 0 ? 6u : 4u);
        if (adding && queue.count == max) {
            assert_null(dp_queue_push(&queue));
        } else if (adding) {
            push(&queue);
        } else if (queue.count == 0) {
            assert_null(dp_queue_peek(&queue));
            assert_false(dp_queue_pop(&queue, NULL));
        } else {
            item out;
            check(dp_queue_peek(&queue), popped);
            bool copy = next_random() % 2 == 0;
            assert_true(dp_queue_pop(&queue, copy ? &out : NULL));
            if (copy)
                check(&out, popped);
            popped++;
        }
        compare(&queue);
    }
    assert_true(queue.capacity <= max);
    dp_queue_clear(&queue);
    assert_int_equal(blocks, 0);
}

static void test_random_walks(void **state)
{
    (void)state;
    static const size_t limits[] = {1, 2, 7, 8, 9, 11, 13, 16, 23, 31, 100, 1000};
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
        random_walk(limits[i]);
}

/* Growing with the oldest item at every place of the ring, to twice the size and to a limit that leaves
 * little room. */
static void test_growth_at_every_head(void **state)
{
    (void)state;
    for (size_t max = 9; max <= 17; max++) {
        for (uint32_t head = 0; head < 8; head++) {
            dp_queue queue;
            pushed = popped = 0;
            dp_queue_init(&queue, sizeof(item), max);
            for (uint32_t i = 0; i < 8; i++)
                push(&queue);
            assert_int_equal(queue.capacity, 8);
            for (uint32_t i = 0; i < head; i++) {
                assert_true(dp_queue_pop(&queue, NULL));
                popped++;
                push(&queue);
            }
            while (queue.count < max) {
                push(&queue);
                compare(&queue);
            }
            assert_null(dp_queue_push(&queue));
            dp_queue_clear(&queue);
        }
    }
}

static void test_without_memory(void **state)
{
    (void)state;
    dp_queue queue;
    pushed = popped = 0;
    dp_queue_init(&queue, sizeof(item), 100);
    fail_allocation(1);
    assert_null(dp_queue_push(&queue));
    fail_allocation(0);
    for (int i = 0; i < 8; i++)
        push(&queue);
    fail_allocation(1);
    assert_null(dp_queue_push(&queue));
    compare(&queue);
    fail_allocation(0);
    push(&queue);
    compare(&queue);
    dp_queue_clear(&queue);
    dp_queue_clear(&queue);
    assert_null(dp_queue_peek(&queue));
    popped = pushed;
    push(&queue); /* usable again */
    compare(&queue);
    dp_queue_clear(&queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_walks),
        cmocka_unit_test(test_growth_at_every_head),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests_name("base/queue", tests, NULL, NULL);
}
