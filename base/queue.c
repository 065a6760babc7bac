#include "base/queue.h"

#include "base/mem.h"
#include <string.h>

void dp_queue_init(dp_queue *queue, size_t item_size, size_t max_items)
{
    memset(queue, 0, sizeof(*queue));
    queue->item_size = item_size;
    queue->max = max_items;
}

void dp_queue_clear(dp_queue *queue)
{
    dp_free(queue->items);
    dp_queue_init(queue, queue->item_size, queue->max);
}

static uint8_t *slot(const dp_queue *queue, size_t i)
{
    return queue->items + (queue->head + i) % queue->capacity * queue->item_size;
}

static int grow(dp_queue *queue)
{
    size_t old = queue->capacity;
    void *items = queue->items;
    int error = dp_grow(&items, &queue->capacity, queue->count + 1, queue->max, queue->item_size);
    if (error != DP_OK)
        return error;
    queue->items = items;
    /* The part that had wrapped around moves behind the old end, as far as it fits; the rest moves to the
     * front. */
    size_t wrapped = old == 0 ? 0 : queue->head + queue->count - old;
    size_t room = queue->capacity - old;
    size_t moved = wrapped < room ? wrapped : room;
    size_t s = queue->item_size;
    if (moved > 0)
        memcpy(queue->items + old * s, queue->items, moved * s);
    if (wrapped > moved)
        memmove(queue->items, queue->items + moved * s, (wrapped - moved) * s);
    return DP_OK;
}

void *dp_queue_push(dp_queue *queue)
{
    if (queue->count == queue->capacity && grow(queue) != DP_OK)
        return NULL;
    void *item = slot(queue, queue->count);
    memset(item, 0, queue->item_size);
    queue->count++;
    return item;
}

void *dp_queue_peek(const dp_queue *queue) { return queue->count == 0 ? NULL : slot(queue, 0); }

void *dp_queue_at(const dp_queue *queue, size_t i) { return i < queue->count ? slot(queue, i) : NULL; }

bool dp_queue_pop(dp_queue *queue, void *out)
{
    if (queue->count == 0)
        return false;
    if (out != NULL)
        memcpy(out, slot(queue, 0), queue->item_size);
    queue->head = (queue->head + 1) % queue->capacity;
    queue->count--;
    return true;
}
