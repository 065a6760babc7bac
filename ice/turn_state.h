/* Inside of the TURN client: turn.c (the allocation's life), turn_request.c (requests in flight, credentials),
 * turn_peers.c (permissions, channels, data). */
#ifndef ICE_TURN_STATE_H
#define ICE_TURN_STATE_H

#include "base/crypto.h"
#include "stun.h"
#include "turn.h"

#define DP_TURN_MAX_REQUESTS   8  /* in flight at a time */
#define DP_TURN_MAX_BATCH      16 /* permissions in one CreatePermission: 384 bytes of IPv6 */
#define DP_TURN_MAX_CHALLENGES 4  /* 401 and 438 that one request may meet */

#define DP_TURN_RETRY DP_SECONDS(1) /* after the random source failed */
/* RFC 8656 §9: a permission lasts 5 minutes; §12: a channel 10. */
#define DP_TURN_PERMISSION_REFRESH DP_SECONDS(240)
#define DP_TURN_CHANNEL_LIFETIME   DP_SECONDS(600)
#define DP_TURN_CHANNEL_REFRESH    DP_SECONDS(540)
#define DP_TURN_CHANNEL_FIRST      0x4000u

typedef enum dp_turn_state {
    DP_TURN_NEW,
    DP_TURN_ALLOCATING,
    DP_TURN_ALLOCATED,
    DP_TURN_RELEASING, /* the last Refresh has to leave */
    DP_TURN_OVER,
} dp_turn_state;

typedef struct dp_turn_request {
    unsigned method; /* 0: the slot is free */
    uint8_t transaction[DP_STUN_TRANSACTION_LEN];
    bool to_send;
    bool authenticated; /* it left with credentials: only an answer with integrity counts */
    unsigned sends_left;
    unsigned challenges;
    unsigned repeats; /* on a stream */
    dp_duration rto;
    dp_time next_at; /* retransmit or give up */
} dp_turn_request;

typedef struct dp_turn_permission {
    dp_address ip; /* port 0 */
    dp_time due_at;
    const dp_turn_request *request; /* in flight; NULL: none */
    bool alone; /* a request with others failed: asked for alone, to tell which one it was */
    bool refused;
    unsigned code; /* why */
    bool tell;     /* PEER_REFUSED has to be told */
} dp_turn_permission;

/* The i-th channel has number 0x4000 + i and belongs to its peer as long as the allocation lives. So no number
 * ever changes hands, and neither the 10 minutes of a binding nor the 5 after it (RFC 8656 §12) can be violated. */
typedef struct dp_turn_channel {
    dp_address peer;
    dp_time due_at;
    dp_time expires_at; /* NEVER unless bound */
    const dp_turn_request *request;
    bool bound;
    bool refused;
} dp_turn_channel;

struct dp_turn {
    dp_random random;
    dp_log log;
    bool reliable;
    bool ask_ipv6; /* after a 440: IPv6 alone */
    bool allocated_due;
    bool over_due;
    bool keepalive_due;
    bool busy; /* something has been sent since the keepalive timer was set */
    dp_turn_state state;

    char *username;
    char *credential;
    char *software;
    bool has_key;
    uint8_t key[DP_MD5_LEN];
    uint8_t realm[DP_STUN_REALM_MAX];
    size_t realm_len;
    uint8_t nonce[DP_STUN_REALM_MAX];
    size_t nonce_len;

    dp_time session_at; /* when the next Allocate or Refresh is due */
    dp_time keepalive_at;
    dp_turn_event allocated;
    dp_turn_event over;

    dp_turn_request requests[DP_TURN_MAX_REQUESTS];
    dp_turn_permission permissions[DP_TURN_MAX_PEERS];
    size_t permission_count;
    dp_turn_channel channels[DP_TURN_MAX_PEERS];
    size_t channel_count;
};

#define DP_TURN_LOG(turn, level, ...) DP_LOG(&(turn)->log, level, "ice", __VA_ARGS__)

/* ---- turn.c ---- */

/* The end, told by FAILED with the text for code (0: no answer), or by message if it is not NULL. */
void dp_turn_fail(dp_turn *turn, unsigned code, const char *message);
void dp_turn_session_answered(dp_turn *turn, dp_time now, unsigned method, const dp_stun_message *answer);

/* ---- turn_request.c ---- */

/* NULL: no slot free, no randomness. It leaves at the next dp_turn_request_poll. */
dp_turn_request *dp_turn_request_start(dp_turn *turn, dp_time now, unsigned method);
bool dp_turn_request_room(const dp_turn *turn);
void dp_turn_requests_clear(dp_turn *turn);
/* An answer that belongs to a request and is authentic ends it and is handed on. */
void dp_turn_request_input(dp_turn *turn, dp_time now, const dp_stun_message *answer);
void dp_turn_requests_timeout(dp_turn *turn, dp_time now);
dp_time dp_turn_requests_next(const dp_turn *turn);
bool dp_turn_request_poll(dp_turn *turn, dp_datagram *out);
/* Refresh with lifetime 0 (RFC 8656 §7.4). False: no room, no randomness. */
bool dp_turn_write_release(dp_turn *turn, dp_datagram *out);

/* ---- turn_peers.c ---- */

/* Starts what is due; the body of its request; its answer. */
void dp_turn_peers_schedule(dp_turn *turn, dp_time now);
void dp_turn_write_peers(const dp_turn *turn, const dp_turn_request *request, dp_wr *wr);
void dp_turn_peers_answered(dp_turn *turn, dp_time now, const dp_turn_request *request,
                            const dp_stun_message *answer);
void dp_turn_peers_timeout(dp_turn *turn, dp_time now);
dp_time dp_turn_peers_next(const dp_turn *turn);
bool dp_turn_take_channel_data(dp_turn *turn, uint8_t *frame, size_t len, dp_turn_data *out);
bool dp_turn_take_indication(const dp_turn *turn, uint8_t *frame, const dp_stun_message *m,
                             dp_turn_data *out);

#endif
