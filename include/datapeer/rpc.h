/* What PeerJS pages speak on a data channel: BinaryPack values, PeerJS's chunk framing, and requests and
 * answers over them (the "context" of the reference page). Transport-free: values and messages go in and come
 * out. */
#ifndef DATAPEER_RPC_H
#define DATAPEER_RPC_H

#include <datapeer/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- values ---------------------------------------------------------------------------------- */

typedef enum dp_value_type {
    DP_VALUE_NULL,
    DP_VALUE_BOOL,
    DP_VALUE_INT,  /* fits int64_t */
    DP_VALUE_UINT, /* over INT64_MAX */
    DP_VALUE_DOUBLE,
    DP_VALUE_STRING, /* UTF-8, may contain U+0000 */
    DP_VALUE_BYTES,
    DP_VALUE_ARRAY,
    DP_VALUE_MAP, /* string keys in insertion order; setting a key again replaces its value in place */
} dp_value_type;

typedef struct dp_value dp_value;

/* Constructors return NULL when out of memory (string: also if it is not UTF-8). The tree is owned by its
 * root. */
DP_API dp_value *dp_value_null(void);
DP_API dp_value *dp_value_bool(bool b);
DP_API dp_value *dp_value_int(int64_t i);
DP_API dp_value *dp_value_uint(uint64_t u);
DP_API dp_value *dp_value_double(double d);
DP_API dp_value *dp_value_string(const char *text);
DP_API dp_value *dp_value_string_n(const char *text, size_t len);
DP_API dp_value *dp_value_bytes(const uint8_t *data, size_t len);
DP_API dp_value *dp_value_array(void);
DP_API dp_value *dp_value_map(void);
DP_API void
dp_value_free(dp_value *value); /* the whole tree; NULL does nothing; any depth without recursion */
DP_API dp_value *dp_value_copy(const dp_value *value);
DP_API bool dp_value_equal(const dp_value *a, const dp_value *b);

/* Take ownership of item in every case: on failure it is freed (item NULL: NO_MEMORY), so calls can be
 * nested. */
DP_API int dp_value_push(dp_value *array, dp_value *item);
DP_API int dp_value_set(dp_value *map, const char *key, dp_value *item);
DP_API int dp_value_set_n(dp_value *map, const char *key, size_t key_len, dp_value *item);

/* All getters accept NULL and a value of another type: they return the fallback, NULL or 0. */
DP_API dp_value_type dp_value_get_type(const dp_value *value);
DP_API bool dp_value_get_bool(const dp_value *value, bool fallback);
DP_API int64_t dp_value_get_int(const dp_value *value,
                                int64_t fallback); /* also an integral double in range */
DP_API double dp_value_get_double(const dp_value *value, double fallback); /* any number */
DP_API uint64_t dp_value_get_uint(const dp_value *value, uint64_t fallback);
DP_API const char *dp_value_get_string(const dp_value *value,
                                       size_t *len); /* NUL-terminated; len may be NULL */
DP_API const uint8_t *dp_value_get_bytes(const dp_value *value, size_t *len);
DP_API size_t dp_value_count(const dp_value *value); /* items of an array, entries of a map */
DP_API dp_value *dp_value_at(const dp_value *value,
                             size_t index); /* array item, or the value of a map's entry */
DP_API const char *dp_value_key_at(const dp_value *map, size_t index, size_t *len);
DP_API dp_value *dp_value_get(const dp_value *map, const char *key);

/* ---- BinaryPack ------------------------------------------------------------------------------ */

#define DP_BINARYPACK_MAX_DEPTH 128

/* Packs value; *out is released with dp_free. NO_MEMORY, TOO_LARGE (over 4 GiB - 1), LIMIT (depth). */
DP_API int dp_binarypack_encode(const dp_value *value, uint8_t **out, size_t *len);
/* Exactly one value, nothing after it. MALFORMED, TRUNCATED, LIMIT (depth), NO_MEMORY. Memory stays
 * proportional to len. */
DP_API int dp_binarypack_decode(dp_value **out, const uint8_t *data, size_t len);

/* ---- MessagePack ------------------------------------------------------------------------------ */

/* What PeerJS's MsgPackPeer speaks: the format of msgpack.org, all integers exact. Depth and memory are bounded as in
 * BinaryPack, errors are the same. Of extensions a timestamp becomes its number of milliseconds since 1970, as
 * JavaScript counts them; others become their bytes. The key "__proto__" is read but not written (INVALID_ARGUMENT): a
 * PeerJS page that reads it reads nothing more. */
DP_API int dp_msgpack_encode(const dp_value *value, uint8_t **out, size_t *len);
DP_API int dp_msgpack_decode(dp_value **out, const uint8_t *data, size_t len);

/* A stream of such values, cut anywhere: pieces in, whole values out. */
typedef struct dp_unpacker dp_unpacker;

/* max_value_size: of one packed value; 0: 64 MiB. timeout: an unfinished value without a new piece; 0: 60 s. */
DP_API int dp_unpacker_new(dp_unpacker **out, size_t max_value_size, dp_duration timeout);
DP_API void dp_unpacker_free(dp_unpacker *unpacker);
/* Copies a piece; then next until it gives WOULD_BLOCK. NO_MEMORY, TOO_LARGE (values lie here that nobody took). */
DP_API int dp_unpacker_input(dp_unpacker *unpacker, dp_time now, const uint8_t *data, size_t len);
/* *out is the caller's. WOULD_BLOCK: more is needed. PROTOCOL or TOO_LARGE: where the next value begins cannot be known any more,
 * and every later call says the same. Any other error concerns one value, which is left out. */
DP_API int dp_unpacker_next(dp_unpacker *unpacker, dp_value **out);
/* When an unfinished value is to be given up, as the stream with it; DP_TIME_NEVER: there is none. */
DP_API dp_time dp_unpacker_next_timeout(const dp_unpacker *unpacker);

/* ---- PeerJS chunk framing ---------------------------------------------------------------------- */

#define DP_CHUNK_SIZE 16300 /* a packed value longer than this is sent in pieces of this size */

/* The sending side: one packed value cut into messages. Initialise, then next until false. */
typedef struct dp_chunker {
    const uint8_t *data; /* borrowed */
    size_t len;
    uint64_t id;
    size_t n;
    size_t total;
} dp_chunker;

/* id: per connection, from 1, one per value that needs chunks. */
DP_API void dp_chunker_init(dp_chunker *chunker, const uint8_t *packed, size_t len, uint64_t id);
DP_API size_t dp_chunker_count(const dp_chunker *chunker); /* messages still to come */
/* Writes the next message to out; capacity >= DP_CHUNK_MESSAGE_MAX is always enough. A value that needs no
 * chunks comes out as it is, as one message. *len = 0 and DP_ERR_NOT_FOUND when all are written; NO_SPACE. */
#define DP_CHUNK_MESSAGE_MAX (DP_CHUNK_SIZE + 64)
DP_API int dp_chunker_next(dp_chunker *chunker, uint8_t *out, size_t capacity, size_t *len);

/* The receiving side: messages of one connection in, whole values out. */
typedef struct dp_dechunker dp_dechunker;

typedef struct dp_dechunker_config {
    size_t size;
    size_t max_value_size; /* one packed value; 0: 64 MiB */
    size_t max_total;      /* all unfinished values together; 0: 128 MiB */
    dp_duration timeout;   /* an unfinished value without a new piece; 0: 60 s */
} dp_dechunker_config;

DP_API int dp_dechunker_new(dp_dechunker **out,
                            const dp_dechunker_config *config); /* config NULL: defaults */
DP_API void dp_dechunker_free(dp_dechunker *dechunker);
typedef enum dp_dechunked { DP_DECHUNKED_NOTHING, DP_DECHUNKED_VALUE, DP_DECHUNKED_CLOSE } dp_dechunked;
/* One message. *what: NOTHING (a piece was kept), VALUE (*value is the caller's), CLOSE (the peer's
 * {__peerData: {type: "close"}}). An error (MALFORMED, TOO_LARGE, LIMIT, PROTOCOL) concerns this message
 * alone: it is dropped. */
DP_API int dp_dechunker_input(dp_dechunker *dechunker, dp_time now, const uint8_t *data, size_t len,
                              dp_dechunked *what, dp_value **value);
DP_API void dp_dechunker_handle_timeout(dp_dechunker *dechunker, dp_time now);
DP_API dp_time dp_dechunker_next_timeout(const dp_dechunker *dechunker);

/* ---- action router ------------------------------------------------------------------------------- */

typedef struct dp_router dp_router; /* which function serves which action; shared by many connections */
typedef struct dp_rpc dp_rpc;       /* the requests of one connection, both ways */
typedef struct dp_call dp_call;     /* one incoming request that has not been answered */

/* Serves one request: answers with one of dp_call_reply, dp_call_fail, dp_call_stream, now or later. */
typedef void (*dp_action_fn)(void *user, dp_call *call);

DP_API int dp_router_new(dp_router **out);
DP_API void dp_router_free(dp_router *router); /* after all its dp_rpc */
/* One handler an action; registering again replaces. */
DP_API int dp_router_register(dp_router *router, const char *action, dp_action_fn fn, void *user);
DP_API int dp_router_unregister(dp_router *router, const char *action); /* NOT_FOUND */

/* The request's body; valid until the call is answered. NULL if absent. */
DP_API const dp_value *dp_call_body(const dp_call *call);
DP_API const char *dp_call_action(const dp_call *call);
DP_API dp_rpc *dp_call_rpc(const dp_call *call);
/* Called once if the connection ends (or the rpc is freed) before the answer: the call is invalid afterwards.
 */
DP_API void dp_call_on_gone(dp_call *call, void (*fn)(void *user), void *user);
/* The answers. Each ends the call: don't use it afterwards (stream: on_end is the end). data is taken in
 * every case (NULL: null). code as in HTTP: 200 for reply. A failing answer (NO_MEMORY) becomes a 500 where
 * possible. */
DP_API int dp_call_reply(dp_call *call, dp_value *data);
DP_API int dp_call_fail(dp_call *call, int code, const char *message);

/* Fills out with up to capacity bytes. DP_OK with *len = 0: the end. WOULD_BLOCK: dp_call_resume will be
 * called. Any other error: the request fails with code 500 and dp_strerror's text, no false end. */
typedef int (*dp_stream_read_fn)(void *user, uint8_t *out, size_t capacity, size_t *len);
typedef struct dp_stream {
    size_t size; /* sizeof(dp_stream) */
    dp_stream_read_fn read;
    void (*on_end)(void *user, int error); /* once: DP_OK, the read error, or CLOSED/CANCELLED */
    void *user;
    size_t piece;   /* bytes a piece; 0: as many as fit one unchunked message */
    uint64_t total; /* told to the peer as data.total of the start piece, for progress; UINT64_MAX: unknown */
} dp_stream;
/* Answers with an octet stream: read is called as the channel has room. Never from within dp_call_stream
 * itself. On failure on_end gets the error too (so whatever user holds is released in one place), and the
 * request is answered 500. INVALID_STATE: the call streams already and goes on. read and on_end must not
 * answer the call; they may do anything else. */
DP_API int dp_call_stream(dp_call *call, const dp_stream *stream);
DP_API void dp_call_resume(dp_call *call);

/* ---- requests ------------------------------------------------------------------------------------ */

typedef struct dp_rpc_config {
    size_t size;
    dp_random random; /* required, for the ids */
    dp_log log;
    dp_router *router;   /* NULL: every incoming request is answered 404 */
    void *user;          /* for dp_rpc_user */
    size_t max_pending;  /* outgoing requests without an answer; 0: 1024 */
    size_t max_incoming; /* incoming calls without an answer; 0: 1024 (over it: 503) */
    /* May be NULL. dp_rpc_poll_transmit has something again: after a late answer, a request, dp_call_resume.
     * It comes from within those calls: only wake the loop in it. */
    void (*on_ready)(void *user);
    /* May be NULL. Whether this context can be sent: DP_OK, or the error that its request fails with; an answer
     * becomes a 500. It is not asked about the pieces of an octet stream, but about the call's context before. */
    int (*fits)(void *user, const dp_value *context);
    bool no_streams; /* octet streams fail (UNSUPPORTED), with a 500: for serializations without bytes */
} dp_rpc_config;

DP_API int dp_rpc_new(dp_rpc **out, const dp_rpc_config *config);
/* The connection is lost: pending requests end with error (DP_OK: CLOSED), calls are gone; then free. Both
 * may be called in any callback of this rpc; dp_rpc_free then waits for the callback's return. */
DP_API void dp_rpc_close(dp_rpc *rpc, int error);
DP_API void dp_rpc_free(dp_rpc *rpc);
DP_API void *dp_rpc_user(const dp_rpc *rpc);

typedef struct dp_request {
    size_t size; /* sizeof(dp_request) */
    const char *action;
    dp_value *body;      /* taken in every case; NULL: null */
    dp_duration timeout; /* without an answer or a new piece; 0: 60 s; DP_TIME_NEVER: none */
    /* Pieces of an octet stream, in order. NULL: they are collected and handed over as response.body.data
     * (bytes, at most 64 MiB). Returning an error cancels the request with it. total: UINT64_MAX if unknown.
     */
    int (*on_data)(void *user, const uint8_t *data, size_t len, uint64_t total);
    /* Once, unless dp_rpc_request itself failed. error: DP_OK for code 200-299, DP_ERR_REMOTE for any other
     * (the context is there), TIMEOUT, CANCELLED, CLOSED, ... (context NULL). context is borrowed. */
    void (*on_done)(void *user, int error, const dp_value *context);
    void *user;
} dp_request;

#define DP_REQUEST_ID_LEN 36
/* id (may be NULL) receives the UUID v4. WOULD_BLOCK over max_pending, CLOSED, NO_MEMORY, INVALID_ARGUMENT.
 */
DP_API int dp_rpc_request(dp_rpc *rpc, dp_time now, const dp_request *request,
                          char id[DP_REQUEST_ID_LEN + 1]);
DP_API int dp_rpc_cancel(dp_rpc *rpc, const char *id); /* on_done with CANCELLED; NOT_FOUND */

/* A decoded value that came. DP_OK: it was a context and has been taken. NOT_FOUND: it is no context (or the
 * rpc is closed); the caller keeps it. Nothing else. */
DP_API int dp_rpc_input(dp_rpc *rpc, dp_time now, dp_value *value);
/* The next packed value to send; *out is the caller's (dp_free). Call it while the channel has room: that is
 * the back-pressure. */
DP_API bool dp_rpc_poll_transmit(dp_rpc *rpc, dp_time now, uint8_t **out, size_t *len);
DP_API void dp_rpc_handle_timeout(dp_rpc *rpc, dp_time now);
DP_API dp_time dp_rpc_next_timeout(const dp_rpc *rpc);

/* Members of a context, NULL if absent: response.body.data; response.body.code (or fallback);
 * response.body.message. */
DP_API const dp_value *dp_context_data(const dp_value *context);
DP_API int dp_context_code(const dp_value *context, int fallback);
DP_API const char *dp_context_message(const dp_value *context);

#ifdef __cplusplus
}
#endif
#endif
