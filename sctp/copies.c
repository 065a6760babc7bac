#include "copies.h"

#include "base/mem.h"

#include <string.h>

#define SLOTS_MIN 64u
#define BYTES_MIN 65536u
#define NO_ROOM   UINT32_MAX

void dp_copies_init(dp_copies *c, size_t bytes_max)
{
    memset(c, 0, sizeof *c);
    c->bytes_max = bytes_max > UINT32_MAX / 4 ? UINT32_MAX / 4 : (uint32_t)bytes_max;
}

void dp_copies_clear(dp_copies *c)
{
    uint32_t acked = c->acked;
    dp_free(c->slots);
    dp_free(c->bytes);
    dp_copies_init(c, c->bytes_max);
    c->acked = acked;
}

/* ---- slots --------------------------------------------------------------------------------------- */

static dp_copy *slot(const dp_copies *c, uint32_t tsn) { return &c->slots[tsn & (c->capacity - 1)]; }

dp_copy *dp_copies_find(const dp_copies *c, uint32_t tsn)
{
    uint32_t distance = tsn - c->acked;
    return distance == 0 || distance > c->capacity ? NULL : slot(c, tsn);
}

bool dp_copies_reserve(dp_copies *c, uint32_t tsn)
{
    uint32_t distance = tsn - c->acked;
    if (distance <= c->capacity)
        return true;
    if (distance > DP_COPIES_SLOTS_MAX)
        return false;
    uint32_t capacity = c->capacity == 0 ? SLOTS_MIN : c->capacity;
    while (capacity < distance)
        capacity *= 2;
    dp_copy *slots = (dp_copy *)dp_calloc(capacity, sizeof *slots);
    if (slots == NULL)
        return false;
    for (uint32_t i = 1; i <= c->capacity; i++)
        slots[(c->acked + i) & (capacity - 1)] = *slot(c, c->acked + i);
    dp_free(c->slots);
    c->slots = slots;
    c->capacity = capacity;
    return true;
}

static bool is_acked(const dp_copies *c, uint32_t tsn)
{
    const dp_copy *copy = dp_copies_find(c, tsn);
    return copy != NULL && (copy->flags & DP_COPY_ACKED) != 0;
}

uint32_t dp_copies_missing(const dp_copies *c, uint32_t tsn)
{
    uint32_t missing = tsn;
    while (is_acked(c, missing))
        missing = slot(c, missing)->skip;
    while (tsn != missing) { /* the next search is short */
        uint32_t next = slot(c, tsn)->skip;
        slot(c, tsn)->skip = missing;
        tsn = next;
    }
    return missing;
}

/* ---- bytes --------------------------------------------------------------------------------------- */

/* Where len bytes fit in one piece behind the newest copy. The end of the ring may be left out. */
static uint32_t room(const dp_copies *c, uint32_t len)
{
    uint32_t free = c->bytes_capacity - c->held;
    uint32_t to_end = c->bytes_capacity - c->end;
    if (len <= to_end)
        return len <= free ? c->end : NO_ROOM;
    return to_end + len <= free ? 0 : NO_ROOM;
}

/* All copies, those before the TSN, move to the beginning of a larger ring, in order. */
static bool grow(dp_copies *c, uint32_t tsn, uint32_t len)
{
    uint32_t capacity = c->bytes_capacity == 0 ? BYTES_MIN : 2 * c->bytes_capacity;
    while (capacity < c->held + len)
        capacity *= 2;
    uint8_t *bytes = capacity > c->bytes_max ? NULL : (uint8_t *)dp_alloc(capacity);
    if (bytes == NULL)
        return false;
    uint32_t end = 0;
    for (uint32_t t = c->acked + 1; t != tsn; t++) {
        dp_copy *copy = slot(c, t);
        if (copy->len == 0)
            continue;
        memcpy(bytes + end, c->bytes + copy->at, copy->len);
        copy->at = end;
        end += copy->len;
    }
    dp_free(c->bytes);
    c->bytes = bytes;
    c->bytes_capacity = capacity;
    c->first = 0;
    c->end = c->held = end;
    return true;
}

void dp_copies_put(dp_copies *c, uint32_t tsn, const uint8_t *chunk, size_t len)
{
    uint32_t padded = ((uint32_t)len + 3) & ~3u;
    if (padded > UINT16_MAX || (room(c, padded) == NO_ROOM && !grow(c, tsn, padded)))
        return;
    uint32_t at = room(c, padded);
    if (at != c->end)
        c->held += c->bytes_capacity - c->end;
    memcpy(c->bytes + at, chunk, len);
    memset(c->bytes + at + len, 0, padded - len);
    c->held += padded;
    c->end = at + padded;
    slot(c, tsn)->at = at;
    slot(c, tsn)->len = (uint16_t)padded;
}

const uint8_t *dp_copies_chunk(const dp_copies *c, const dp_copy *copy) { return c->bytes + copy->at; }

static void drop_oldest(dp_copies *c, const dp_copy *oldest)
{
    if (oldest->at != c->first) /* the end of the ring was left out */
        c->held -= c->bytes_capacity - c->first;
    c->held -= oldest->len;
    c->first = oldest->at + oldest->len;
    if (c->held == 0)
        c->first = c->end = 0;
}

void dp_copies_advance(dp_copies *c)
{
    dp_copy *oldest = dp_copies_find(c, c->acked + 1);
    if (oldest != NULL) {
        if (oldest->len > 0)
            drop_oldest(c, oldest);
        memset(oldest, 0, sizeof *oldest);
    }
    c->acked++;
}
