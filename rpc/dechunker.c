/* PeerJS's chunk framing, the receiving side. Pieces may come in any order, those of several values mixed.
 * What is kept is what was delivered: a claimed total costs nothing. */
#include "binarypack.h"

#include "base/config.h"
#include "base/mem.h"
#include "base/table.h"
#include "base/text.h"
#include "value.h"

enum {
    PIECE_COST = 160, /* what a piece costs beside its bytes: block, table entry, key */
    UNFINISHED_COST = 1024,
    ID_MAX = 64,
};

typedef struct piece {
    size_t len;
    uint8_t data[];
} piece;

/* A value of which not all pieces are there yet. */
typedef struct unfinished {
    struct unfinished *next; /* the least recently fed one first */
    struct unfinished *prev;
    uint8_t key[1 + ID_MAX]; /* 'n' and the number's 8 bytes, or 's' and the text */
    size_t key_len;
    size_t total;
    size_t bytes; /* of the pieces */
    size_t cost;
    dp_table pieces; /* by n */
    dp_time last;
    int error; /* it was too large: its further pieces are refused until it times out */
} unfinished;

struct dp_dechunker {
    dp_dechunker_config config;
    dp_table by_id;
    unfinished *first;
    unfinished *last;
    size_t cost;
};

/* One chunk message, its members borrowed from the message. */
typedef struct chunk {
    bool has_id, has_n, has_data, has_total;
    uint8_t key[1 + ID_MAX];
    size_t key_len;
    uint64_t n;
    uint64_t total;
    const uint8_t *data;
    size_t len;
} chunk;

int dp_dechunker_new(dp_dechunker **out, const dp_dechunker_config *config)
{
    dp_dechunker_config read = {0};
    if (config != NULL && !DP_CONFIG_READ(&read, config, dp_dechunker_config, max_value_size))
        return DP_ERR_INVALID_ARGUMENT;
    dp_dechunker *dechunker = dp_calloc(1, sizeof(*dechunker));
    if (dechunker == NULL)
        return DP_ERR_NO_MEMORY;
    dechunker->config = read;
    if (dechunker->config.max_value_size == 0)
        dechunker->config.max_value_size = (size_t)64 << 20;
    if (dechunker->config.max_total == 0)
        dechunker->config.max_total = (size_t)128 << 20;
    if (dechunker->config.timeout == 0)
        dechunker->config.timeout = DP_SECONDS(60);
    dp_table_init(&dechunker->by_id, (uintptr_t)dechunker);
    *out = dechunker;
    return DP_OK;
}

/* ---- the list of unfinished values ---- */

static void unlink_unfinished(dp_dechunker *dechunker, unfinished *u)
{
    *(u->prev != NULL ? &u->prev->next : &dechunker->first) = u->next;
    *(u->next != NULL ? &u->next->prev : &dechunker->last) = u->prev;
}

static void append_unfinished(dp_dechunker *dechunker, unfinished *u)
{
    u->next = NULL;
    u->prev = dechunker->last;
    *(u->prev != NULL ? &u->prev->next : &dechunker->first) = u;
    dechunker->last = u;
}

static void add_cost(dp_dechunker *dechunker, unfinished *u, size_t cost)
{
    u->cost += cost;
    dechunker->cost += cost;
}

static void free_pieces(dp_dechunker *dechunker, unfinished *u)
{
    size_t at = 0;
    for (void *p; (p = dp_table_next(&u->pieces, &at)) != NULL;)
        dp_free(p);
    dp_table_clear(&u->pieces);
    dechunker->cost -= u->cost;
    u->cost = 0;
    u->bytes = 0;
}

static void drop_unfinished(dp_dechunker *dechunker, unfinished *u)
{
    unlink_unfinished(dechunker, u);
    dp_table_remove(&dechunker->by_id, u->key, u->key_len);
    free_pieces(dechunker, u);
    dp_free(u);
}

void dp_dechunker_free(dp_dechunker *dechunker)
{
    if (dechunker == NULL)
        return;
    while (dechunker->first != NULL)
        drop_unfinished(dechunker, dechunker->first);
    dp_table_clear(&dechunker->by_id);
    dp_free(dechunker);
}

static unfinished *find_or_add(dp_dechunker *dechunker, const chunk *c, int *error)
{
    unfinished *u = dp_table_get(&dechunker->by_id, c->key, c->key_len);
    if (u != NULL)
        return u;
    *error = DP_ERR_LIMIT;
    if (dechunker->config.max_total - dechunker->cost < UNFINISHED_COST)
        return NULL;
    *error = DP_ERR_NO_MEMORY;
    u = dp_calloc(1, sizeof(*u));
    if (u == NULL || dp_table_set(&dechunker->by_id, c->key, c->key_len, u, NULL) != DP_OK) {
        dp_free(u);
        return NULL;
    }
    memcpy(u->key, c->key, c->key_len);
    u->key_len = c->key_len;
    u->total = (size_t)c->total;
    dp_table_init(&u->pieces, (uintptr_t)u);
    append_unfinished(dechunker, u);
    add_cost(dechunker, u, UNFINISHED_COST);
    return u;
}

/* ---- reading a chunk message ---- */

static void set_number_id(chunk *c, uint64_t number)
{
    dp_wr wr = dp_wr_init(c->key, sizeof(c->key));
    dp_wr_u8(&wr, 'n');
    dp_wr_u64(&wr, number);
    c->key_len = wr.len;
    c->has_id = true;
}

static void set_text_id(chunk *c, const void *text, size_t len)
{
    if (len == 0 || len > ID_MAX)
        return;
    c->key[0] = 's';
    memcpy(c->key + 1, text, len);
    c->key_len = 1 + len;
    c->has_id = true;
}

/* One member of the envelope straight from the bytes; false: not of the usual kind, leave it to the general
 * decoder. */
static bool read_member(dp_rd *rd, chunk *c)
{
    dp_bp_head key;
    dp_bp_head head;
    if (dp_bp_read_head(rd, &key) != DP_OK || key.type != DP_VALUE_STRING)
        return false;
    dp_slice name = {(const char *)dp_rd_bytes(rd, key.count), key.count};
    if (name.at == NULL || dp_bp_read_head(rd, &head) != DP_OK)
        return false;
    if (dp_slice_is(name, "data") && !c->has_data && head.type == DP_VALUE_BYTES) {
        c->len = head.count;
        c->data = dp_rd_bytes(rd, head.count);
        return c->has_data = c->data != NULL;
    }
    if (head.type != DP_VALUE_INT || head.as.i < 0)
        return false;
    if (dp_slice_is(name, "__peerData") && !c->has_id && head.as.u > 0) {
        set_number_id(c, head.as.u);
    } else if (dp_slice_is(name, "n") && !c->has_n) {
        c->n = head.as.u;
        c->has_n = true;
    } else if (dp_slice_is(name, "total") && !c->has_total) {
        c->total = head.as.u;
        c->has_total = true;
    } else {
        return false;
    }
    return true;
}

/* The usual envelope: exactly the four members, whatever their order. Its data is used where it lies. */
static bool read_envelope(chunk *c, const uint8_t *data, size_t len)
{
    dp_rd rd = dp_rd_init(data, len);
    dp_bp_head head;
    if (dp_bp_read_head(&rd, &head) != DP_OK || head.type != DP_VALUE_MAP || head.count != 4)
        return false;
    for (int i = 0; i < 4; i++)
        if (!read_member(&rd, c))
            return false;
    return dp_rd_left(&rd) == 0;
}

/* JavaScript's notion: a member that is absent, null, false, 0, NaN or "" makes an ordinary value. */
static bool truthy(const dp_value *value)
{
    switch (dp_value_get_type(value)) {
    case DP_VALUE_NULL:
        return false;
    case DP_VALUE_BOOL:
        return dp_value_get_bool(value, false);
    case DP_VALUE_INT:
    case DP_VALUE_UINT:
    case DP_VALUE_DOUBLE: {
        double number = dp_value_get_double(value, 0);
        return number < 0 || number > 0;
    }
    case DP_VALUE_STRING: {
        size_t len;
        dp_value_get_string(value, &len);
        return len > 0;
    }
    default:
        return true;
    }
}

static bool is_close(const dp_value *mark)
{
    size_t len;
    const char *type = dp_value_get_string(dp_value_get(mark, "type"), &len);
    return type != NULL && dp_slice_is((dp_slice){type, len}, "close");
}

/* A chunk with extra members or a text id, decoded the general way. */
static void chunk_of_value(chunk *c, const dp_value *value)
{
    const dp_value *id = dp_value_get(value, "__peerData");
    size_t len;
    const char *text = dp_value_get_string(id, &len);
    uint64_t number = dp_value_get_uint(id, 0);
    if (text != NULL)
        set_text_id(c, text, len);
    else if (number > 0)
        set_number_id(c, number);
    c->n = dp_value_get_uint(dp_value_get(value, "n"), UINT64_MAX);
    c->has_n = c->n != UINT64_MAX;
    c->total = dp_value_get_uint(dp_value_get(value, "total"), UINT64_MAX);
    c->has_total = c->total != UINT64_MAX;
    c->data = dp_value_get_bytes(dp_value_get(value, "data"), &c->len);
    c->has_data = c->data != NULL;
}

/* ---- putting together ---- */

static int deliver(dp_value *value, dp_dechunked *what, dp_value **out)
{
    const dp_value *mark = dp_value_get(value, "__peerData");
    if (!truthy(mark)) {
        *what = DP_DECHUNKED_VALUE;
        *out = value;
        return DP_OK;
    }
    int error = is_close(mark) ? DP_OK : DP_ERR_PROTOCOL; /* a chunk inside a chunk */
    if (error == DP_OK)
        *what = DP_DECHUNKED_CLOSE;
    dp_value_free(value);
    return error;
}

static int join(dp_dechunker *dechunker, unfinished *u, dp_dechunked *what, dp_value **value)
{
    uint8_t *joined = dp_alloc(u->bytes);
    if (joined == NULL)
        return DP_ERR_NO_MEMORY;
    size_t len = u->bytes;
    dp_wr wr = dp_wr_init(joined, len);
    for (uint64_t n = 0; n < u->total; n++) {
        const piece *p = dp_table_get(&u->pieces, &n, sizeof(n));
        dp_wr_bytes(&wr, p->data, p->len);
    }
    drop_unfinished(dechunker, u);
    dp_value *whole = NULL;
    int error = dp_binarypack_decode(&whole, joined, len);
    dp_free(joined);
    return error == DP_OK ? deliver(whole, what, value) : error;
}

static int keep_piece(dp_dechunker *dechunker, unfinished *u, const chunk *c)
{
    int error = DP_OK;
    if (c->len > dechunker->config.max_value_size - u->bytes)
        error = DP_ERR_TOO_LARGE;
    else if (c->len + PIECE_COST > dechunker->config.max_total - dechunker->cost)
        error = DP_ERR_LIMIT;
    if (error != DP_OK) {
        free_pieces(dechunker, u);
        u->error = error;
        return error;
    }
    piece *p = dp_alloc(sizeof(*p) + c->len);
    if (p == NULL)
        return DP_ERR_NO_MEMORY;
    p->len = c->len;
    if (c->len > 0)
        memcpy(p->data, c->data, c->len);
    if (dp_table_set(&u->pieces, &c->n, sizeof(c->n), p, NULL) != DP_OK) {
        dp_free(p);
        return DP_ERR_NO_MEMORY;
    }
    u->bytes += c->len;
    add_cost(dechunker, u, c->len + PIECE_COST);
    return DP_OK;
}

static int take_chunk(dp_dechunker *dechunker, dp_time now, const chunk *c, dp_dechunked *what,
                      dp_value **value)
{
    if (!c->has_id || !c->has_n || !c->has_total || !c->has_data)
        return DP_ERR_MALFORMED;
    if (c->n >= c->total)
        return DP_ERR_PROTOCOL;
    if (c->total > dechunker->config.max_value_size) /* a piece has a byte at least */
        return DP_ERR_TOO_LARGE;
    int error = DP_OK;
    unfinished *u = find_or_add(dechunker, c, &error);
    if (u == NULL)
        return error;
    unlink_unfinished(dechunker, u);
    append_unfinished(dechunker, u);
    u->last = now;
    if (u->error != DP_OK)
        return u->error;
    if (c->total != u->total)
        return DP_ERR_PROTOCOL;
    if (dp_table_get(&u->pieces, &c->n, sizeof(c->n)) != NULL)
        return DP_OK; /* twice: PeerJS's own receiver counts it and completes too early */
    error = keep_piece(dechunker, u, c);
    if (error != DP_OK || u->pieces.count < u->total)
        return error;
    return join(dechunker, u, what, value);
}

int dp_dechunker_input(dp_dechunker *dechunker, dp_time now, const uint8_t *data, size_t len,
                       dp_dechunked *what, dp_value **value)
{
    *what = DP_DECHUNKED_NOTHING;
    *value = NULL;
    if (len > dechunker->config.max_value_size)
        return DP_ERR_TOO_LARGE;
    chunk c = {0};
    if (read_envelope(&c, data, len))
        return take_chunk(dechunker, now, &c, what, value);
    dp_value *whole = NULL;
    int error = dp_binarypack_decode(&whole, data, len);
    if (error != DP_OK)
        return error;
    const dp_value *mark = dp_value_get(whole, "__peerData");
    if (!truthy(mark) || is_close(mark))
        return deliver(whole, what, value);
    c = (chunk){0};
    chunk_of_value(&c, whole);
    error = take_chunk(dechunker, now, &c, what, value);
    dp_value_free(whole);
    return error;
}

/* ---- time ---- */

static dp_time deadline_of(const dp_dechunker *dechunker, const unfinished *u)
{
    dp_duration timeout = dechunker->config.timeout;
    return u->last > DP_TIME_NEVER - timeout ? DP_TIME_NEVER : u->last + timeout;
}

void dp_dechunker_handle_timeout(dp_dechunker *dechunker, dp_time now)
{
    while (dechunker->first != NULL && deadline_of(dechunker, dechunker->first) <= now)
        drop_unfinished(dechunker, dechunker->first);
}

dp_time dp_dechunker_next_timeout(const dp_dechunker *dechunker)
{
    return dechunker->first == NULL ? DP_TIME_NEVER : deadline_of(dechunker, dechunker->first);
}
