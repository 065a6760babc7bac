#include "interleaving.h"

#include "base/mem.h"

#include <string.h>

#define COST         128u /* of what is kept beside its bytes */
#define LIVE_MAX     64u /* messages at a time: the owner has a buffer for each. Others go when they are whole. */
#define FAR          8192u /* MIDs: twice as many as usrsctp takes TSNs above the cumulative one */
#define CHUNK_MAX    UINT16_MAX
#define UNORDERED_AT 1u /* RFC 8260 §2.3.1: the U bit of an entry */

enum { LAST = 1, FIRST = 2, UNORDERED = 4 }; /* RFC 8260 §2.1 */

typedef struct key {
    uint32_t fsn; /* 0 for messages */
    uint16_t stream, mid;
    uint32_t unordered;
} key;

typedef struct dp_fragment {
    uint8_t *data;
    size_t len, capacity;
    size_t given;
    uint32_t fsn;
    uint16_t stream, mid;
    bool unordered;
} dp_fragment;

static bool before(uint16_t a, uint16_t b) { return (int16_t)(a - b) < 0; }

void dp_interleaving_init(dp_interleaving *il, uint16_t stream_limit, size_t message_max, size_t limit)
{
    memset(il, 0, sizeof *il);
    il->stream_limit = stream_limit;
    il->message_max = message_max;
    il->limit = limit;
    dp_table_init(&il->messages, dp_hash_secret());
    dp_table_init(&il->fragments, dp_hash_secret());
}

static void free_fragment(dp_interleaving *il, dp_fragment *fragment)
{
    il->held -= fragment->len + COST;
    dp_free(fragment->data);
    dp_free(fragment);
}

void dp_interleaving_clear(dp_interleaving *il)
{
    dp_interleaved *message;
    dp_fragment *fragment;
    for (size_t at = 0; (message = (dp_interleaved *)dp_table_next(&il->messages, &at)) != NULL;)
        dp_free(message);
    for (size_t at = 0; (fragment = (dp_fragment *)dp_table_next(&il->fragments, &at)) != NULL;)
        free_fragment(il, fragment);
    dp_table_clear(&il->messages);
    dp_table_clear(&il->fragments);
    dp_free(il->streams);
    dp_free(il->skips);
    dp_interleaving_init(il, il->stream_limit, il->message_max, il->limit);
}

void dp_interleaving_shrink(dp_interleaving *il)
{
    if (il->messages.count + il->fragments.count + il->skip_count > 0)
        return;
    dp_table_clear(&il->messages);
    dp_table_clear(&il->fragments);
    dp_free(il->skips);
    il->skips = NULL;
    il->skip_capacity = 0;
}

/* ---- look-up ------------------------------------------------------------------------------------- */

static dp_interleaved_stream *stream_of(dp_interleaving *il, uint16_t stream)
{
    size_t had = il->stream_capacity;
    if (stream >= had) {
        if (dp_grow((void **)&il->streams, &il->stream_capacity, stream + 1u, UINT16_MAX + 1u,
                    sizeof *il->streams) != DP_OK)
            return NULL;
        memset(il->streams + had, 0, (il->stream_capacity - had) * sizeof *il->streams);
    }
    return &il->streams[stream];
}

static dp_interleaved *find(const dp_interleaving *il, uint16_t stream, bool unordered, uint16_t mid)
{
    key k = {0, stream, mid, unordered};
    return (dp_interleaved *)dp_table_get(&il->messages, &k, sizeof k);
}

static dp_interleaved *add(dp_interleaving *il, uint16_t stream, bool unordered, uint16_t mid)
{
    key k = {0, stream, mid, unordered};
    dp_interleaved *message = (dp_interleaved *)dp_calloc(1, sizeof *message);
    if (message == NULL)
        return NULL;
    message->stream = stream;
    message->mid = mid;
    message->unordered = unordered;
    if (dp_table_set(&il->messages, &k, sizeof k, message, NULL) == DP_OK)
        return message;
    dp_free(message);
    return NULL;
}

static dp_fragment *find_fragment(const dp_interleaving *il, const dp_interleaved *message, uint32_t fsn)
{
    key k = {fsn, message->stream, message->mid, message->unordered};
    return (dp_fragment *)dp_table_get(&il->fragments, &k, sizeof k);
}

static void remove_fragment(dp_interleaving *il, dp_fragment *fragment)
{
    key k = {fragment->fsn, fragment->stream, fragment->mid, fragment->unordered};
    dp_table_remove(&il->fragments, &k, sizeof k);
    free_fragment(il, fragment);
}

/* ---- whose turn it is ---------------------------------------------------------------------------- */

static void list(dp_interleaving *il, dp_interleaved *message)
{
    if (message->listed)
        return;
    message->listed = true;
    message->next = NULL;
    if (il->tail != NULL)
        il->tail->next = message;
    else
        il->head = message;
    il->tail = message;
}

/* The same, before those of its stream that come later. */
static void list_in_order(dp_interleaving *il, dp_interleaved *message)
{
    dp_interleaved **place = &il->head;
    if (message->listed)
        return;
    while (*place != NULL &&
           ((*place)->stream != message->stream || (*place)->unordered != message->unordered ||
            before((*place)->mid, message->mid)))
        place = &(*place)->next;
    message->listed = true;
    message->next = *place;
    *place = message;
    if (message->next == NULL)
        il->tail = message;
}

static void unlist(dp_interleaving *il, dp_interleaved *message)
{
    dp_interleaved *previous = NULL;
    if (!message->listed)
        return;
    for (dp_interleaved *at = il->head; at != message; at = at->next)
        previous = at;
    if (previous != NULL)
        previous->next = message->next;
    else
        il->head = message->next;
    if (il->tail == message)
        il->tail = previous;
    message->listed = false;
}

static bool is_whole(const dp_interleaved *message)
{
    return message->ends && message->kept == message->end + 1 - message->fsn;
}

static bool may_go(dp_interleaving *il, const dp_interleaved *message)
{
    bool its_turn = message->unordered || message->mid == il->streams[message->stream].next;
    return message->begun && its_turn &&
           (il->live < LIVE_MAX || is_whole(message) || message->bytes > il->message_max);
}

static void go(dp_interleaving *il, dp_interleaved *message)
{
    if (message == NULL || message->live || !may_go(il, message))
        return;
    message->live = true;
    il->live++;
    if (find_fragment(il, message, message->fsn) != NULL)
        list(il, message);
}

/* The owner has a message in parts whole before it sees anything else of its channel. */
static bool may_give(dp_interleaving *il, dp_interleaved *message, size_t len)
{
    dp_interleaved_stream *stream = &il->streams[message->stream];
    if (stream->parting == NULL && message->given + len > il->message_max)
        stream->parting = message;
    return stream->parting == NULL || stream->parting == message;
}

static void resume(dp_interleaving *il, uint16_t stream)
{
    dp_interleaved *message;
    il->streams[stream].parting = NULL;
    for (size_t at = 0; (message = (dp_interleaved *)dp_table_next(&il->messages, &at)) != NULL;) {
        if (message->stream != stream)
            continue;
        go(il, message);
        if (message->live && find_fragment(il, message, message->fsn) != NULL)
            list_in_order(il, message);
    }
}

static void forget(dp_interleaving *il, dp_interleaved *message)
{
    key k = {0, message->stream, message->mid, message->unordered};
    uint16_t stream = message->stream;
    bool parting = il->streams[stream].parting == message;
    unlist(il, message);
    il->live -= message->live;
    dp_table_remove(&il->messages, &k, sizeof k);
    dp_free(message);
    if (parting)
        resume(il, stream);
}

static void next_in_order(dp_interleaving *il, uint16_t stream)
{
    uint16_t next = ++il->streams[stream].next;
    go(il, find(il, stream, false, next));
}

/* All of it was given out. */
static void finish(dp_interleaving *il, dp_interleaved *message)
{
    uint16_t stream = message->stream;
    bool unordered = message->unordered;
    bool is_next = !unordered && message->mid == il->streams[stream].next;
    forget(il, message);
    if (is_next) /* else it was passed */
        next_in_order(il, stream);
}

/* ---- fragments ----------------------------------------------------------------------------------- */

static bool is_past(dp_interleaved_stream *stream, bool unordered, uint16_t mid)
{
    if (!unordered)
        return before(mid, stream->next);
    if ((uint16_t)(mid - stream->past) >= 2 * FAR && !before(mid, stream->past))
        stream->past = (uint16_t)(mid - FAR); /* MIDs wrap around */
    return before(mid, stream->past);
}

/* Where the message ends, as far as it is known by now. False: the fragment lies behind that, or is an end before what has
 * come. */
static bool note_end(dp_interleaved *message, uint32_t fsn, bool last)
{
    if (message->ends)
        return last ? fsn == message->end : fsn < message->end;
    if (last && fsn < message->end)
        return false;
    message->ends = last;
    message->end = fsn > message->end ? fsn : message->end;
    return true;
}

static int append(dp_interleaving *il, dp_interleaved *message, dp_fragment *fragment, const uint8_t *data,
                  size_t len)
{
    if (il->held + len + COST > il->limit)
        return DP_ERR_LIMIT;
    if (dp_grow((void **)&fragment->data, &fragment->capacity, fragment->len + len, SIZE_MAX, 1) != DP_OK)
        return DP_ERR_NO_MEMORY;
    memcpy(fragment->data + fragment->len, data, len);
    fragment->len += len;
    il->held += len;
    message->bytes += len;
    return DP_OK;
}

static int keep(dp_interleaving *il, dp_fragment **out, dp_interleaved *message, uint32_t fsn,
                const uint8_t *data, size_t len)
{
    key k = {fsn, message->stream, message->mid, message->unordered};
    if (il->fragments.count >= DP_INTERLEAVING_PENDING || il->held + COST > il->limit)
        return DP_ERR_LIMIT;
    dp_fragment *fragment = (dp_fragment *)dp_calloc(1, sizeof *fragment);
    if (fragment == NULL)
        return DP_ERR_NO_MEMORY;
    *fragment = (dp_fragment){
        .fsn = fsn, .stream = message->stream, .mid = message->mid, .unordered = message->unordered};
    il->held += COST;
    int error = append(il, message, fragment, data, len);
    if (error == DP_OK)
        error = dp_table_set(&il->fragments, &k, sizeof k, fragment, NULL);
    if (error != DP_OK) {
        free_fragment(il, fragment);
        return error;
    }
    message->kept++;
    *out = fragment;
    return DP_OK;
}

/* The rest of the chunk is given out, or kept, or dropped as its beginning was. */
static void split_chunk(dp_interleaving *il, const dp_association_event *event, dp_fragment *kept)
{
    il->split = !event->complete;
    il->split_kept = kept;
    il->split_dropped = event->type != DP_ASSOCIATION_DATA && kept == NULL;
    il->split_event = *event;
}

/* What was given out of the chunk ends it. last: the message, too. */
static void given(dp_interleaving *il, dp_association_event *event, dp_interleaved *message, bool last)
{
    event->complete = last;
    if (message == NULL) {
        if (!event->unordered)
            next_in_order(il, event->stream);
    } else if (last) {
        finish(il, message);
    } else {
        message->fsn++;
        if (find_fragment(il, message, message->fsn) != NULL)
            list(il, message);
        else
            unlist(il, message);
    }
}

static int drop(dp_interleaving *il, dp_association_event *event)
{
    event->type = DP_ASSOCIATION_IGNORED;
    split_chunk(il, event, NULL);
    return DP_OK;
}

/* The fragment is the next one of its message, or NULL: the whole of one. */
static int pass(dp_interleaving *il, dp_association_event *event, dp_interleaved *message, bool last)
{
    if (message != NULL) {
        event->ppid = message->ppid;
        message->given += event->len;
    }
    split_chunk(il, event, NULL);
    if (event->complete)
        given(il, event, message, last);
    return DP_OK;
}

static int take(dp_interleaving *il, dp_association_event *event, dp_interleaved *message, uint32_t fsn,
                const uint8_t *data)
{
    bool last = (event->chunk_flags & LAST) != 0;
    if (fsn < message->fsn || find_fragment(il, message, fsn) != NULL || !note_end(message, fsn, last))
        return drop(il, event);
    if (fsn == 0) {
        message->begun = true;
        message->ppid = event->ppid;
        go(il, message);
    }
    if (message->live && fsn == message->fsn &&
        may_give(il, message, event->complete ? event->len : CHUNK_MAX))
        return pass(il, event, message, last);
    dp_fragment *fragment;
    int error = keep(il, &fragment, message, fsn, data, event->len);
    event->type = DP_ASSOCIATION_IGNORED;
    if (error != DP_OK)
        return error;
    split_chunk(il, event, fragment);
    if (event->complete)
        go(il, message);
    return DP_OK;
}

/* More of a chunk that did not fit into the owner's buffer. */
static int take_rest(dp_interleaving *il, dp_association_event *event, const uint8_t *data)
{
    bool ends = event->complete;
    bool last = (event->chunk_flags & LAST) != 0;
    event->unordered = il->split_event.unordered;
    event->ppid = il->split_event.ppid;
    il->split = !ends;
    dp_interleaved *message = find(il, event->stream, event->unordered, event->mid);
    if (!il->split_dropped && il->split_kept == NULL) {
        if (message != NULL)
            message->given += event->len;
        if (ends)
            given(il, event, message, last);
        return DP_OK;
    }
    event->type = DP_ASSOCIATION_IGNORED;
    if (il->split_dropped)
        return DP_OK;
    int error = append(il, message, il->split_kept, data, event->len);
    if (error == DP_OK && ends)
        go(il, message);
    return error;
}

int dp_interleaving_input(dp_interleaving *il, dp_association_event *event, const uint8_t *data)
{
    unsigned flags = event->chunk_flags = (uint8_t)(event->ppid >> DP_INTERLEAVING_FLAGS_AT);
    event->ppid &= DP_INTERLEAVING_VALUE;
    if (il->split)
        return take_rest(il, event, data);
    bool first = (flags & FIRST) != 0, last = (flags & LAST) != 0;
    event->unordered = (flags & UNORDERED) != 0;
    dp_interleaved_stream *stream = stream_of(il, event->stream);
    if (stream == NULL)
        return DP_ERR_NO_MEMORY;
    uint32_t fsn = first ? 0 : event->ppid;
    if ((!first && fsn == 0) || is_past(stream, event->unordered, event->mid))
        return drop(il, event);
    dp_interleaved *message = find(il, event->stream, event->unordered, event->mid);
    if (message == NULL && first && last && stream->parting == NULL &&
        (event->unordered || event->mid == stream->next))
        return pass(il, event, NULL, true);
    if (message == NULL && il->messages.count >= DP_INTERLEAVING_PENDING)
        return DP_ERR_LIMIT;
    if (message == NULL)
        message = add(il, event->stream, event->unordered, event->mid);
    return message == NULL ? DP_ERR_NO_MEMORY : take(il, event, message, fsn, data);
}

bool dp_interleaving_ready(const dp_interleaving *il) { return il->head != NULL && !il->split; }

bool dp_interleaving_give(dp_interleaving *il, dp_association_event *event, uint8_t *buffer, size_t capacity)
{
    if (!dp_interleaving_ready(il))
        return false;
    dp_interleaved *message = il->head;
    while (!message->abandoned && !may_give(il, message, find_fragment(il, message, message->fsn)->len)) {
        unlist(il, message);
        if (il->head == NULL)
            return false;
        message = il->head;
    }
    memset(event, 0, sizeof *event);
    event->stream = message->stream;
    event->unordered = message->unordered;
    event->mid = message->mid;
    event->ppid = message->ppid;
    if (message->abandoned) {
        event->type = DP_ASSOCIATION_ABANDONED;
        forget(il, message);
        return true;
    }
    dp_fragment *fragment = find_fragment(il, message, message->fsn);
    event->type = DP_ASSOCIATION_DATA;
    event->len = fragment->len - fragment->given < capacity ? fragment->len - fragment->given : capacity;
    memcpy(buffer, fragment->data + fragment->given, event->len);
    fragment->given += event->len;
    message->given += event->len;
    if (fragment->given < fragment->len)
        return true;
    message->kept--;
    message->bytes -= fragment->len;
    bool last = message->ends && message->fsn == message->end;
    remove_fragment(il, fragment);
    given(il, event, message, last);
    return true;
}

/* ---- what is given up ---------------------------------------------------------------------------- */

static bool is_gone(const dp_interleaving *il, uint16_t stream, bool unordered, uint16_t mid)
{
    const dp_interleaved_stream *s = &il->streams[stream];
    return before(mid, unordered ? s->past : s->next);
}

/* RFC 3758 §3.6: what is whole is given out, though what came before it is not. */
static void pass_by(dp_interleaving *il, dp_interleaved *message)
{
    if (message->begun && is_whole(message)) {
        il->live += !message->live;
        message->live = true;
        list_in_order(il, message);
    } else if (message->live) {
        message->abandoned = true;
        list(il, message);
    } else {
        forget(il, message);
    }
}

static void sweep(dp_interleaving *il)
{
    dp_interleaved *message;
    dp_fragment *fragment;
    for (size_t at = 0; (message = (dp_interleaved *)dp_table_next(&il->messages, &at)) != NULL;)
        if (il->streams[message->stream].wiped)
            forget(il, message);
        else if (is_gone(il, message->stream, message->unordered, message->mid))
            pass_by(il, message);
    for (size_t at = 0; (fragment = (dp_fragment *)dp_table_next(&il->fragments, &at)) != NULL;) {
        message = find(il, fragment->stream, fragment->unordered, fragment->mid);
        if (message == NULL || message->abandoned)
            remove_fragment(il, fragment);
    }
}

static void skip(dp_interleaving *il, const dp_interleaving_skip *s)
{
    dp_interleaved_stream *stream = &il->streams[s->stream];
    uint16_t *past = s->unordered ? &stream->past : &stream->next;
    if (!before(s->mid, *past))
        *past = (uint16_t)(s->mid + 1);
}

/* The first so many of the list. */
static void apply(dp_interleaving *il, size_t count)
{
    if (count == 0)
        return;
    il->skipped = true;
    il->skipped_to = il->skips[count - 1].to;
    for (size_t i = 0; i < count; i++)
        skip(il, &il->skips[i]);
    sweep(il);
    for (size_t i = 0; i < count; i++)
        if (!il->skips[i].unordered)
            go(il, find(il, il->skips[i].stream, false, il->streams[il->skips[i].stream].next));
    il->skip_count -= count;
    memmove(il->skips, il->skips + count, il->skip_count * sizeof *il->skips);
}

int dp_interleaving_forward(dp_interleaving *il, bool *noted, dp_rd body)
{
    *noted = false;
    uint32_t to = dp_rd_u32(&body);
    size_t more = dp_rd_left(&body) / 8;
    if (il->noted && (int32_t)(to - il->noted_to) <= 0)
        return DP_OK;
    if (il->skip_count + more > DP_INTERLEAVING_PENDING)
        return DP_ERR_LIMIT;
    if (dp_grow((void **)&il->skips, &il->skip_capacity, il->skip_count + more, DP_INTERLEAVING_PENDING,
                sizeof *il->skips) != DP_OK)
        return DP_ERR_NO_MEMORY;
    for (size_t had = il->skip_count; more > 0; more--) {
        dp_interleaving_skip *s = &il->skips[il->skip_count];
        s->to = to;
        s->stream = dp_rd_u16(&body);
        s->unordered = (dp_rd_u16(&body) & UNORDERED_AT) != 0;
        s->mid = (uint16_t)dp_rd_u32(&body);
        if (s->stream >= il->stream_limit)
            continue;
        if (stream_of(il, s->stream) == NULL) {
            il->skip_count = had;
            return DP_ERR_NO_MEMORY;
        }
        il->skip_count++;
    }
    il->noted_before = il->noted;
    il->noted_to_before = il->noted_to;
    il->noted = *noted = true;
    il->noted_to = to;
    return DP_OK;
}

void dp_interleaving_take_back(dp_interleaving *il)
{
    while (il->skip_count > 0 && il->skips[il->skip_count - 1].to == il->noted_to)
        il->skip_count--;
    il->noted = il->noted_before;
    il->noted_to = il->noted_to_before;
}

/* The chunk was made for the first of them that reaches it; later ones may lie behind more that is to be read. The highest
 * one of several is read first (forward.c). */
void dp_interleaving_made_up(dp_interleaving *il, uint32_t tsn)
{
    size_t count = 0;
    if (il->skipped && (int32_t)(il->skipped_to - tsn) >= 0)
        return;
    while (count < il->skip_count && (int32_t)(il->skips[count].to - tsn) < 0)
        count++;
    for (size_t first = count; count < il->skip_count && il->skips[count].to == il->skips[first].to;)
        count++;
    apply(il, count);
}

void dp_interleaving_all_read(dp_interleaving *il) { apply(il, il->skip_count); }

void dp_interleaving_reset(dp_interleaving *il, uint16_t stream)
{
    if (stream >= il->stream_capacity)
        return;
    il->streams[stream].wiped = true;
    sweep(il);
    il->streams[stream] = (dp_interleaved_stream){0};
}

void dp_interleaving_reset_all(dp_interleaving *il)
{
    for (size_t i = 0; i < il->stream_capacity; i++)
        il->streams[i].wiped = true;
    sweep(il);
    if (il->stream_capacity > 0)
        memset(il->streams, 0, il->stream_capacity * sizeof *il->streams);
}
