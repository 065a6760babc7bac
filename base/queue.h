/* A growing ring of equal-sized items, first in, first out, with a limit. */
#ifndef BASE_QUEUE_H
#define BASE_QUEUE_H

#include <datapeer/base.h>

typedef struct dp_queue {
    uint8_t *items;
    size_t item_size;
    size_t capacity;
    size_t head;
    size_t count;
    size_t max;
} dp_queue;

void dp_queue_init(dp_queue *queue, size_t item_size, size_t max_items);
void dp_queue_clear(dp_queue *queue); /* frees the ring; the items' own memory is the caller's */
/* Room for one more item at the tail, zeroed; NULL if full or out of memory. */
void *dp_queue_push(dp_queue *queue);
/* The oldest item, NULL if empty; valid until the next push or pop. */
void *dp_queue_peek(const dp_queue *queue);
/* The i-th oldest item (i < count). */
void *dp_queue_at(const dp_queue *queue, size_t i);
/* Copies the oldest item to out (may be NULL) and removes it; false if empty. */
bool dp_queue_pop(dp_queue *queue, void *out);

#endif
