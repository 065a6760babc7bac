/* The insides of dp_rpc: what its files share.
 *
 * - rpc.c: the object; what comes in goes to an outgoing request or becomes a call; what goes out; time;
 * closing
 * - request.c: requests that we sent, until they are answered
 * - call.c: requests that we serve, until they are answered
 * - stream_out.c: an answer in pieces
 * - stream_in.c: the pieces of an answer, put in order
 * - context.c: the members of a context */
#ifndef RPC_INTERNAL_H
#define RPC_INTERNAL_H

#include "base/log.h"
#include "base/queue.h"
#include "base/table.h"
#include <datapeer/rpc.h>

enum {
    DP_RPC_OUTBOX_SOFT =
        64 << 20, /* bytes waiting to be sent: from here on new work is refused (503, WOULD_BLOCK) */
    DP_RPC_OUTBOX_HARD = 128 << 20, /* and from here on dropped */
    DP_RPC_OUTBOX_ITEMS = 65536,
    DP_RPC_COLLECT_MAX = 64 << 20,  /* an octet stream without on_data */
    DP_RPC_ANSWERS_MAX = 128 << 20, /* all octet streams that are collected or wait for a missing piece */
    DP_RPC_CALLS_SOFT = 64 << 20,   /* memory of calls without an answer: from here on 503 */
};

/* ---- stream_in.c ---- */

typedef struct dp_stream_in_piece dp_stream_in_piece;

typedef struct dp_stream_in {
    bool started;
    uint64_t next; /* bytes handed over so far */
    uint64_t total;
    dp_stream_in_piece *held; /* arrived before their turn, by offset */
    size_t held_bytes;
    size_t held_count;
} dp_stream_in;

typedef int (*dp_stream_in_fn)(void *ctx, const uint8_t *data, size_t len, uint64_t total);

void dp_stream_in_init(dp_stream_in *in);
void dp_stream_in_clear(dp_stream_in *in);
/* data: response.body.data of one context. Hands over what is in order. *ended: that was all. PROTOCOL,
 * LIMIT, NO_MEMORY, fn's error. */
int dp_stream_in_input(dp_stream_in *in, const dp_value *data, dp_stream_in_fn fn, void *ctx, bool *ended);

/* ---- objects ---- */

typedef struct dp_pending {
    struct dp_pending *next;
    struct dp_pending *prev;
    char id[DP_REQUEST_ID_LEN + 1];
    dp_request owner; /* callbacks and time-out; body and action are gone */
    dp_time deadline;
    dp_stream_in in;
    uint8_t *collected;
    size_t collected_len;
    size_t collected_capacity;
    size_t memory; /* of what was collected or held back, as counted in answers_memory */
    bool busy;     /* in its on_data */
    bool ended;    /* on_done was called meanwhile */
} dp_pending;

struct dp_call {
    dp_call *next;
    dp_call *prev;
    dp_rpc *rpc;
    dp_value *context;
    size_t memory; /* of the context */
    void (*on_gone)(void *user);
    void *on_gone_user;

    bool streaming;
    dp_stream stream;
    uint8_t *prefix; /* the packed context up to response.body.data, which comes last */
    size_t prefix_len;
    size_t piece;
    uint64_t offset;
    bool started; /* 'start' was sent */
    bool at_end;  /* read has told the end */
    bool queued;  /* in rpc->ready */
    bool busy;    /* in its read */
    bool resumed; /* dp_call_resume was called during read */
    bool ended;   /* the connection was closed during read */
    dp_call *next_ready;
};

struct dp_rpc {
    dp_rpc_config config;
    bool closed;
    bool free_later;
    unsigned depth; /* callbacks that are running */

    dp_queue outbox; /* dp_rpc_packed */
    size_t outbox_bytes;
    bool stream_turn;

    dp_table pending; /* id -> dp_pending */
    dp_pending *requests;
    dp_time earliest; /* no deadline is earlier */
    size_t answers_memory;
    uint8_t own[6]; /* our ids begin with it: a late answer isn't taken for a request, however late */

    dp_call *calls;
    size_t call_count;
    size_t calls_memory;
    dp_call *ready_first; /* streams that can be read, in turn */
    dp_call *ready_last;
};

typedef struct dp_rpc_packed {
    uint8_t *data;
    size_t len;
} dp_rpc_packed;

typedef struct dp_rpc_handler {
    dp_action_fn fn;
    void *user;
} dp_rpc_handler;

/* ---- rpc.c ---- */

/* Around every callback: dp_rpc_free inside one waits for the outermost to return. */
void dp_rpc_enter(dp_rpc *rpc);
void dp_rpc_leave(dp_rpc *rpc);
void dp_rpc_ready(dp_rpc *rpc); /* tells the owner that there is something to send */
int dp_rpc_fits(const dp_rpc *rpc, const dp_value *context);
/* Packs it and puts it into the outbox. */
int dp_rpc_queue_context(dp_rpc *rpc, const dp_value *context);
const dp_rpc_handler *dp_router_find(const dp_router *router, const char *action, size_t len);

/* ---- request.c ---- */

dp_pending *dp_rpc_find_request(const dp_rpc *rpc, const dp_value *id);
bool dp_rpc_is_own_id(const dp_rpc *rpc, const dp_value *id); /* pending or ended */
void dp_rpc_answer_input(dp_rpc *rpc, dp_time now, dp_pending *request, dp_value *context);
void dp_rpc_end_expired(dp_rpc *rpc, dp_time now);
void dp_rpc_end_all_requests(dp_rpc *rpc, int error);

/* ---- call.c ---- */

void dp_rpc_serve(dp_rpc *rpc, dp_value *context); /* takes context */
void dp_rpc_end_all_calls(dp_rpc *rpc, int error);
void dp_call_unlink(dp_call *call); /* from the list of calls without an answer */
void dp_call_free(dp_call *call);
/* Sends the context with this answer. The context is used up, data too. */
int dp_rpc_answer(dp_rpc *rpc, dp_value *context, int code, const char *message, dp_value *data);

/* ---- stream_out.c ---- */

/* The next piece of the first ready stream that has one. */
bool dp_rpc_poll_streams(dp_rpc *rpc, uint8_t **out, size_t *len);
void dp_call_end_stream(dp_call *call, int error); /* on_end, then frees */

/* ---- context.c ---- */

bool dp_context_is(const dp_value *value);
const dp_value *dp_context_id(const dp_value *context);
const dp_value *dp_context_body_member(const dp_value *context, const char *name); /* of response.body */
/* An answer that nobody waits for: answering it again could go on for ever between two routers. */
bool dp_context_is_answer(const dp_value *context);
bool dp_context_is_stream(const dp_value *context);
/* response.body.code and message as for a success: what the request carries, if that is one. */
int dp_context_success_code(const dp_value *context);
/* Fills response.body, making what is missing. code 0: as carried. data is taken. */
int dp_context_set_answer(dp_value *context, int code, const char *message, dp_value *data);
dp_value *dp_context_new(const char *action, const char *id, dp_value *body); /* body is taken */

extern const char dp_context_octet_stream[];

#endif
