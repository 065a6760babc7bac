/* The inside of the ICE agent: what its files share. Start at agent.c.
 *   agent.c     the public interface, input and timer dispatch, states, events
 *   gather.c    local candidates (RFC 8445 §5.1)
 *   remote.c    remote candidates and the remote credentials (RFC 8838, RFC 8445 §7.3.1.3)
 *   checklist.c candidate pairs: forming, ordering, states (RFC 8445 §6.1.2)
 *   transaction.c  STUN requests in flight: retransmission, matching of answers; the outgoing queue
 *   checks.c    connectivity checks: pacing, answers to ours (RFC 8445 §6.1.4, §7.2.5)
 *   respond.c   the peer's checks: answers, role conflicts, triggered checks (RFC 8445 §7.3)
 *   nominate.c  nomination, the selected pair, consent (RFC 8445 §8.1, RFC 7675) */
#ifndef ICE_AGENT_H
#define ICE_AGENT_H

#include "base/log.h"
#include "base/queue.h"
#include "stun.h"
#include <datapeer/ice.h>

/* ---- limits ---- */

#define DP_ICE_MAX_LOCAL        32
#define DP_ICE_MAX_REMOTE       64 /* signalled by the peer */
#define DP_ICE_MAX_PRFLX        32 /* learnt from the peer's checks, beside the 64 */
#define DP_ICE_MAX_PAIRS        100
#define DP_ICE_MAX_SERVERS      4
#define DP_ICE_MAX_EARLY        16 /* checks that came before the remote credentials */
#define DP_ICE_MAX_TRANSACTIONS 160
#define DP_ICE_MAX_OUTGOING     64
#define DP_ICE_MAX_STATES       8 /* state changes that the owner has not fetched yet */

#define DP_ICE_UFRAG_LEN        8
#define DP_ICE_PWD_LEN          24
#define DP_ICE_REMOTE_UFRAG_MAX 256
#define DP_ICE_REMOTE_PWD_MAX   256

/* ---- times ---- */

#define DP_ICE_PACING DP_MS(50)  /* Ta, RFC 8445 §14.2 */
#define DP_ICE_RTO    DP_MS(500) /* RFC 8489 §6.2.1 */
/* The wait stops doubling here: 7 tries then take 19.5 s, not 39.5 s, and a lost path is retried often
 * enough. */
#define DP_ICE_RTO_MAX      DP_SECONDS(4)
#define DP_ICE_TRIES        7
#define DP_ICE_GATHER_TRIES 5 /* gives up on a silent STUN server after 11.5 s */
/* How long a controlling agent waits for a better pair once one works. Data flows meanwhile. */
#define DP_ICE_NOMINATION_WAIT DP_MS(150)
/* No path was found: fails this long after checking began or, if later candidates came, after DP_ICE_LATE
 * since the last of them (RFC 8863: an empty or exhausted check list alone is no failure). */
#define DP_ICE_CHECKING_MAX DP_SECONDS(30)
#define DP_ICE_LATE         DP_SECONDS(15)
#define DP_ICE_PATIENCE     DP_SECONDS(15) /* ... but this is enough if all failed and no more will come */
/* RFC 7675 §5.1: a consent check every 5 s, times 0.8 to 1.2. */
#define DP_ICE_CONSENT_MIN    DP_SECONDS(4)
#define DP_ICE_CONSENT_SPREAD DP_SECONDS(2)
#define DP_ICE_CONSENT_EXPIRY DP_SECONDS(30)
#define DP_ICE_CONSENT_ANSWER DP_SECONDS(10) /* how long an answer to one consent check counts */
/* A cancelled check's answer still counts for this long (RFC 8445 §7.3.1.4: the transaction's own time; a
 * browser that checks every 62 ms would then fill the list). */
#define DP_ICE_CANCEL_GRACE DP_SECONDS(6)
/* Longer than the longest time between two consent answers of a path that loses nothing. */
#define DP_ICE_SILENCE DP_SECONDS(7)

/* ---- candidates and pairs ---- */

#define DP_ICE_FOUNDATION_MAX 33

typedef struct dp_ice_local {
    dp_candidate_type type;
    uint32_t priority;
    uint32_t preference; /* local preference, RFC 8445 §5.1.2.1 */
    uint32_t foundation;
    uint8_t server; /* server-reflexive: which server's answer */
    bool announced; /* the LOCAL_CANDIDATE event was fetched, or there is none for it */
    dp_address address;
    dp_address base;
} dp_ice_local;

typedef struct dp_ice_remote {
    dp_candidate_type type;
    uint32_t priority;
    char foundation[DP_ICE_FOUNDATION_MAX];
    dp_address address;
} dp_ice_remote;

typedef enum dp_ice_pair_state {
    DP_ICE_PAIR_FROZEN,
    DP_ICE_PAIR_WAITING,
    DP_ICE_PAIR_IN_PROGRESS,
    DP_ICE_PAIR_SUCCEEDED,
    DP_ICE_PAIR_FAILED,
} dp_ice_pair_state;

/* A host candidate and a remote candidate. Server-reflexive locals have no pairs of their own: checks leave
 * from the base anyway, and the pair of the base is always there (RFC 8445 §6.1.2.4 prunes them to it). For
 * the same reason a pair of the check list doubles as its entry in the valid list. */
typedef struct dp_ice_pair {
    uint64_t priority;
    uint64_t triggered;  /* place in the triggered-check queue, 0: not in it */
    dp_time answered_at; /* the last time that the peer answered a check of ours on it: consent */
    dp_time heard_at;    /* the last authenticated message of any kind */
    uint8_t local;       /* index into locals, type host */
    uint8_t remote;      /* index into remotes */
    uint8_t state;       /* dp_ice_pair_state */
    bool valid;
    bool nominated;
    bool nominate;        /* the peer sent USE-CANDIDATE; counts as soon as the pair is valid */
    bool nominating;      /* our check with USE-CANDIDATE is under way */
    bool checked_by_peer; /* an authenticated check came on it */
} dp_ice_pair;

#define DP_ICE_NO_PAIR 255 /* DP_ICE_MAX_PAIRS is less */

/* ---- messages ---- */

/* What a message says; its bytes are written when the owner fetches it. Small, and equal for each
 * retransmission. */
typedef struct dp_ice_outgoing {
    dp_stun_class class_;
    uint8_t transaction[DP_STUN_TRANSACTION_LEN];
    dp_address local;
    dp_address remote;
    /* requests to the peer (to a STUN server: plain) */
    bool plain;
    bool use_candidate;
    dp_ice_role role;
    uint32_t priority;
    uint64_t tie_breaker;
    /* errors */
    uint16_t error_code;
    uint8_t unknown_count;
    uint16_t unknown[DP_STUN_UNKNOWN_MAX];
} dp_ice_outgoing;

typedef enum dp_ice_purpose { DP_ICE_FOR_GATHERING, DP_ICE_FOR_CHECK, DP_ICE_FOR_CONSENT } dp_ice_purpose;

typedef struct dp_ice_transaction {
    dp_ice_purpose purpose;
    uint8_t pair;   /* checks and consent */
    uint8_t local;  /* gathering */
    uint8_t server; /* gathering */
    uint8_t tries_left;
    bool cancelled; /* RFC 8445 §7.3.1.4: sent no more, and its end is no failure, but an answer still counts
                     */
    dp_duration rto;
    dp_time next_at; /* retransmission or end */
    dp_ice_outgoing message;
} dp_ice_transaction;

/* A check that came before the remote credentials (bad-input row 22). */
typedef struct dp_ice_early {
    dp_address local;
    dp_address remote;
    size_t len;
    uint8_t *data;
} dp_ice_early;

/* ---- the agent ---- */

struct dp_ice {
    dp_random random;
    dp_log log;
    dp_duration pacing;
    dp_ice_role role;
    dp_ice_state state;
    uint64_t tie_breaker;
    char local_ufrag[DP_ICE_UFRAG_LEN + 1];
    char local_pwd[DP_ICE_PWD_LEN + 1];
    char remote_ufrag[DP_ICE_REMOTE_UFRAG_MAX + 1]; /* empty: not known yet */
    char remote_pwd[DP_ICE_REMOTE_PWD_MAX + 1];

    dp_ice_local locals[DP_ICE_MAX_LOCAL];
    size_t local_count;
    size_t host_count; /* the first of them */
    uint32_t foundation_count;
    dp_address servers[DP_ICE_MAX_SERVERS];
    size_t server_count;
    bool gathering; /* gather was called */
    bool gathered;
    bool gathered_reported;
    size_t gather_next; /* the next of local * server to be asked */

    dp_ice_remote *remotes;
    size_t remote_capacity;
    size_t remote_count; /* all */
    size_t prflx_count;  /* those learnt from checks */
    size_t prflx_serial;
    bool end_of_candidates;
    dp_queue held; /* char *: the texts of candidates that came before the credentials */

    dp_ice_pair *pairs;
    size_t pair_capacity;
    size_t pair_count;
    uint64_t triggered_serial;
    bool triggered_last; /* the last check that started was a triggered one */

    dp_ice_transaction *transactions;
    size_t transaction_capacity;
    size_t transaction_count;
    dp_queue outgoing; /* of dp_ice_outgoing */
    dp_ice_early early[DP_ICE_MAX_EARLY];
    size_t early_count;

    dp_time pace_at;     /* the next new transaction may start */
    dp_time fail_at;     /* no path by then: failed */
    dp_time patience_at; /* not before, whatever fails */
    dp_time nominate_at; /* controlling: no longer wait for a better pair */
    dp_time consent_at;  /* the next consent check */
    uint8_t active;      /* the pair for data: nominated or best valid; DP_ICE_NO_PAIR */
    bool active_reported;
    dp_ice_state states[DP_ICE_MAX_STATES]; /* to be reported, oldest first */
    size_t state_count;
    dp_ice_stats stats;
    char candidate_text[DP_CANDIDATE_TEXT_MAX]; /* of the last LOCAL_CANDIDATE event */
};

#define DP_ICE_LOG(ice, level, ...) DP_LOG(&(ice)->log, level, "ice", __VA_ARGS__)

/* agent.c */
bool dp_ice_alive(const dp_ice *ice); /* neither FAILED nor CLOSED */
bool dp_ice_has_remote(const dp_ice *ice);
void dp_ice_set_state(dp_ice *ice, dp_ice_state state);

/* gather.c */
bool dp_ice_gather_pending(const dp_ice *ice);
void dp_ice_gather_step(dp_ice *ice, dp_time now); /* the next request to a STUN server */
void dp_ice_gather_answered(dp_ice *ice, const dp_ice_transaction *transaction,
                            const dp_stun_message *message);
void dp_ice_gather_update(dp_ice *ice);                           /* finished? */
int dp_ice_local_find(const dp_ice *ice, const dp_address *base); /* index of the host candidate, -1 */
/* Records a local candidate found later; false if it is known or there is no room. */
bool dp_ice_local_add(dp_ice *ice, dp_candidate_type type, const dp_address *address, size_t base,
                      uint8_t server);

/* remote.c */
void dp_ice_begin(dp_ice *ice, dp_time now); /* starts checking once local and remote sides are known */
void dp_ice_held_clear(dp_ice *ice);
void dp_ice_expect_until(dp_ice *ice, dp_time until);                 /* puts the failure off */
int dp_ice_remote_find(const dp_ice *ice, const dp_address *address); /* -1 */
int dp_ice_remote_learn(dp_ice *ice, const dp_address *address,
                        uint32_t priority); /* peer-reflexive; -1: no room */
dp_address dp_ice_remote_address(const dp_ice *ice,
                                 const dp_ice_pair *pair); /* with the zone of the socket */

/* checklist.c */
void dp_ice_pairs_form(dp_ice *ice, dp_time now, size_t remote);
int dp_ice_pair_find(const dp_ice *ice, const dp_address *local, const dp_address *remote); /* index, -1 */
/* The pair, made if it is new (then triggered checks may displace others); -1: no room, families differ. */
int dp_ice_pair_get(dp_ice *ice, size_t local, size_t remote);
void dp_ice_pairs_prioritise(dp_ice *ice); /* after a role switch or a changed candidate */
void dp_ice_pair_set_state(dp_ice *ice, size_t pair, dp_ice_pair_state state);
void dp_ice_pairs_unfreeze_like(dp_ice *ice, size_t pair);
int dp_ice_pairs_next(dp_ice *ice);           /* the next ordinary check, -1 */
bool dp_ice_pairs_pending(const dp_ice *ice); /* is there one? */
bool dp_ice_pairs_better_open(const dp_ice *ice,
                              uint64_t priority); /* unfinished ones of a higher priority */
bool dp_ice_pairs_all_failed(const dp_ice *ice);  /* and there is at least one */
size_t dp_ice_pairs_count(const dp_ice *ice, dp_ice_pair_state state);

/* transaction.c */
/* Copies what, gives it an id, sends it and waits for the answer. False: no room, no randomness. */
bool dp_ice_transaction_start(dp_ice *ice, dp_time now, const dp_ice_transaction *what);
dp_ice_transaction *dp_ice_transaction_find(const dp_ice *ice, const uint8_t *id);
void dp_ice_transaction_end(dp_ice *ice, dp_ice_transaction *transaction);
void dp_ice_transactions_cancel(dp_ice *ice, dp_time now, size_t pair); /* the checks of a pair */
void dp_ice_transactions_drop(dp_ice *ice, size_t pair);
bool dp_ice_transactions_any(const dp_ice *ice, dp_ice_purpose purpose);
void dp_ice_transactions_timeout(dp_ice *ice, dp_time now);
dp_time dp_ice_transactions_next(const dp_ice *ice);
void dp_ice_send(dp_ice *ice, const dp_ice_outgoing *message);
bool dp_ice_write(const dp_ice *ice, const dp_ice_outgoing *message, dp_datagram *out);

/* checks.c */
void dp_ice_pace(dp_ice *ice, dp_time now); /* starts what may start now */
bool dp_ice_pace_pending(const dp_ice *ice);
void dp_ice_trigger(dp_ice *ice, size_t pair);
void dp_ice_check_answered(dp_ice *ice, dp_time now, dp_ice_transaction *transaction,
                           const dp_stun_message *message, const dp_address *local, const dp_address *remote);
void dp_ice_check_failed(dp_ice *ice, size_t pair);
bool dp_ice_check_start(dp_ice *ice, dp_time now, dp_ice_purpose purpose, size_t pair, bool use_candidate);
void dp_ice_switch_role(dp_ice *ice, dp_ice_role role);

/* respond.c */
void dp_ice_request(dp_ice *ice, dp_time now, const dp_stun_message *message, const dp_address *local,
                    const dp_address *remote);
void dp_ice_early_replay(dp_ice *ice, dp_time now);
void dp_ice_early_clear(dp_ice *ice);

/* nominate.c */
void dp_ice_nominate(dp_ice *ice, size_t pair); /* the pair is valid and nominated by whoever may */
void dp_ice_select(dp_ice *ice, dp_time now);   /* after any change of validity or nomination */
void dp_ice_nominate_step(dp_ice *ice, dp_time now);
void dp_ice_consent_step(dp_ice *ice, dp_time now);
dp_time dp_ice_nominate_next(const dp_ice *ice); /* when the two steps have something to do */

#endif
