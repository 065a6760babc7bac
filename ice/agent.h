/* The inside of the ICE agent: what its files share. Start at agent.c.
 *   agent.c     the public interface, input and timer dispatch, states, events
 *   gather.c    local candidates (RFC 8445 §5.1), sockets that come and go
 *   link.c      links: the agent's own sockets, and what goes through them
 *   relay.c     TURN servers: an allocation on a link (turn.h)
 *   tcp.c       ICE-TCP: a stream to the peer on a link (RFC 6544)
 *   remote.c    remote candidates and the remote credentials (RFC 8838, RFC 8445 §7.3.1.3)
 *   names.c     host names in candidates: ours (hidden addresses) and the peer's
 *   checklist.c candidate pairs: forming, ordering, states (RFC 8445 §6.1.2)
 *   transaction.c  STUN requests in flight: retransmission, matching of answers; the outgoing queue
 *   checks.c    connectivity checks: pacing, answers to ours (RFC 8445 §6.1.4, §7.2.5)
 *   respond.c   the peer's checks: answers, role conflicts, triggered checks (RFC 8445 §7.3)
 *   nominate.c  nomination, the selected pair (RFC 8445 §8.1)
 *   consent.c   whether the path still works (RFC 7675)
 *   restart.c   ICE restart and the path that carries data meanwhile (RFC 8445 §9) */
#ifndef ICE_AGENT_H
#define ICE_AGENT_H

#include "base/log.h"
#include "base/queue.h"
#include "frames.h"
#include "stun.h"
#include "turn.h"
#include <datapeer/ice.h>

/* ---- limits ---- */

#define DP_ICE_MAX_LOCAL        32
#define DP_ICE_MAX_REMOTE       64 /* signalled by the peer */
#define DP_ICE_MAX_PRFLX        32 /* learnt from the peer's checks, beside the 64 */
#define DP_ICE_MAX_PAIRS        100
#define DP_ICE_MAX_SERVERS      8
#define DP_ICE_MAX_UNRESOLVED   16 /* remote candidates whose name is not resolved yet */
#define DP_ICE_MAX_EARLY        16 /* checks that came before the remote credentials */
#define DP_ICE_MAX_TRANSACTIONS 160
#define DP_ICE_MAX_OUTGOING     64
#define DP_ICE_MAX_STATES       8 /* state changes that the owner has not fetched yet */
/* Requests to an IP address that has never answered one (RFC 8445 §19.5.1: candidates may point at a victim). One
 * is 344 bytes at most, 100 to 130 with common ufrags. */
#define DP_ICE_MAX_UNANSWERED 100
/* Datagrams that follow the peer's data back before there is a pair, in an agent's life: its handshake need not wait for
 * our check, but nobody has consented to them (RFC 7675 §5.1). */
#define DP_ICE_MAX_REPLIES   16
#define DP_ICE_MAX_REDIRECTS 3 /* of one TURN server (300) */
#define DP_ICE_MAX_REOPENS   5 /* new links to one TURN server after failures, without one success between */

#define DP_ICE_UFRAG_LEN        8
#define DP_ICE_PWD_LEN          24
#define DP_ICE_REMOTE_UFRAG_MAX 256
#define DP_ICE_REMOTE_PWD_MAX   256

/* ---- times ---- */

#define DP_ICE_PACING DP_MS(50)  /* Ta, RFC 8445 §14.2 */
#define DP_ICE_RTO    DP_MS(500) /* RFC 8489 §6.2.1 */
/* The wait stops doubling here: 7 tries then take 19.5 s, not 39.5 s, and a lost path is retried often
 * enough. */
#define DP_ICE_RTO_MAX         DP_SECONDS(4)
#define DP_ICE_TRIES           7
#define DP_ICE_GATHER_TRIES    5 /* gives up on a silent STUN server after 11.5 s */
#define DP_ICE_GATHER_TIMEOUT  DP_SECONDS(10)
#define DP_ICE_MAPPING_REFRESH DP_SECONDS(15) /* RFC 8445 §5.1.1.4 and §11: NAT bindings live 30 s or more */
/* How long a controlling agent waits for a better pair once one works. Data flows meanwhile. */
#define DP_ICE_NOMINATION_WAIT DP_MS(150)
#define DP_ICE_RELAYED_WAIT    DP_SECONDS(2) /* ... more if that one is relayed: most NATs have opened by then */
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
/* A consent check without an answer is followed by others this soon: a lost datagram must not look like a lost
 * path, and a lost path is to be noticed early. */
#define DP_ICE_PROBE        DP_MS(250)
#define DP_ICE_PROBE_SLOW   DP_SECONDS(1) /* ... once the path counts as disconnected */
#define DP_ICE_SILENCE      DP_SECONDS(5) /* nothing heard for so long, and ... */
#define DP_ICE_UNANSWERED   DP_SECONDS(1) /* ... a check waits for so long or two round trips: disconnected */
#define DP_ICE_RECHECK      DP_SECONDS(5) /* all pairs are tried anew this often while disconnected */
#define DP_ICE_NAMED        DP_SECONDS(7) /* a pair is nominated again with each consent check, 4 to 6 s apart */
#define DP_ICE_LITE_SILENCE DP_SECONDS(7) /* a lite agent only listens; checks come every 4 to 6 s */

/* ---- candidates and pairs ---- */

#define DP_ICE_FOUNDATION_MAX 33

/* Host and relayed candidates are bases: pairs are formed with them. The others are only signalled. */
typedef struct dp_ice_local {
    dp_candidate_type type;
    uint32_t priority;
    uint32_t preference; /* local preference, RFC 8445 §5.1.2.1 */
    uint32_t foundation;
    uint8_t server; /* server-reflexive, relayed: which server's answer */
    uint8_t base;   /* index of the base that it was found through; its own for a base */
    uint8_t asked;  /* host: a bit for each server that was asked for a reflexive address */
    uint8_t tcp;    /* dp_tcptype of a TCP host candidate */
    bool gone;      /* its socket or relay has ended: the place can be taken */
    bool announced; /* the LOCAL_CANDIDATE event was fetched, or there is none for it */
    dp_address address;
    dp_address related; /* server-reflexive and relayed */
} dp_ice_local;

typedef struct dp_ice_remote {
    dp_candidate_type type;
    uint32_t priority;
    char foundation[DP_ICE_FOUNDATION_MAX];
    uint8_t tcp;         /* dp_tcptype */
    bool learnt;         /* from a check, and not signalled since */
    bool answered;       /* a right answer came from this IP address */
    uint32_t unanswered; /* requests sent to it, and to those that had this place before */
    dp_address address;
} dp_ice_remote;

typedef enum dp_ice_pair_state {
    DP_ICE_PAIR_FROZEN,
    DP_ICE_PAIR_WAITING,
    DP_ICE_PAIR_IN_PROGRESS,
    DP_ICE_PAIR_SUCCEEDED,
    DP_ICE_PAIR_FAILED,
} dp_ice_pair_state;

/* A base and a remote candidate. Server-reflexive locals have no pairs of their own: checks leave
 * from the base anyway, and the pair of the base is always there (RFC 8445 §6.1.2.4 prunes them to it). For
 * the same reason a pair of the check list doubles as its entry in the valid list. */
typedef struct dp_ice_pair {
    uint64_t priority;
    uint64_t triggered;     /* place in the triggered-check queue, 0: not in it */
    dp_time answered_at;    /* the last time that the peer answered a check of ours on it: consent */
    dp_time named_at;       /* controlled: the peer's last USE-CANDIDATE on it */
    dp_time heard_at;       /* the last authenticated message of any kind */
    dp_duration round_trip; /* of the last check that was answered, and sent once; 0: none yet */
    uint8_t local;          /* index into locals, a base */
    uint8_t remote;         /* index into remotes */
    uint8_t state;          /* dp_ice_pair_state */
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
    uint8_t base;  /* index into locals: where it leaves from */
    bool previous; /* of the session before the restart: its credentials */
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

typedef enum dp_ice_purpose {
    DP_ICE_FOR_GATHERING,
    DP_ICE_FOR_CHECK,
    DP_ICE_FOR_CONSENT,
    DP_ICE_FOR_PREVIOUS, /* consent on the path of the session before the restart */
} dp_ice_purpose;

typedef struct dp_ice_transaction {
    dp_ice_purpose purpose;
    uint8_t pair;   /* checks and consent */
    uint8_t server; /* gathering */
    uint8_t tries_left;
    bool cancelled; /* RFC 8445 §7.3.1.4: sent no more, and its end is no failure, but an answer still counts
                     */
    dp_duration rto;
    dp_time sent_at; /* 0: more than once, and nobody knows which of them an answer is for */
    dp_time next_at; /* retransmission or end */
    dp_ice_outgoing message;
} dp_ice_transaction;

/* A check that came before the remote credentials (bad-input row 22). */
typedef struct dp_ice_early {
    uint8_t base;
    dp_address remote;
    size_t len;
    uint8_t *data;
} dp_ice_early;

/* ---- servers and relays ---- */

typedef struct dp_ice_server_entry {
    bool turn;
    dp_ice_transport transport;
    dp_address address;
    char *name;
    char *username;
    char *credential;
} dp_ice_server_entry;

typedef enum dp_ice_relay_state {
    DP_ICE_RELAY_IDLE,    /* no link: not begun, or given up */
    DP_ICE_RELAY_OPENING, /* LINK_OPEN is due or was fetched */
    DP_ICE_RELAY_ASKING,  /* the link is there: allocating */
    DP_ICE_RELAY_READY,   /* relays */
    DP_ICE_RELAY_CLOSING, /* the release has to leave, then LINK_CLOSE */
} dp_ice_relay_state;

typedef struct dp_ice_relay {
    dp_ice_relay_state state;
    uint8_t server;
    uint8_t redirects;
    uint8_t reopens;
    bool open_due;      /* LINK_OPEN has not been fetched */
    uint32_t link;      /* 0: none */
    dp_time reopen_at;  /* DP_TIME_NEVER: not */
    dp_address address; /* the server's, or its alternate's */
    dp_turn *turn;
    dp_frames *frames; /* streams only */
} dp_ice_relay;

/* A TCP connection to the peer, for one pair. */
typedef struct dp_ice_stream {
    uint32_t link; /* 0: the place is free */
    uint8_t base;
    bool open_due; /* LINK_OPEN has not been fetched */
    bool open;
    dp_address remote;
    dp_frames frames;
} dp_ice_stream;

#define DP_ICE_MAX_STREAMS 16
/* Links whose end the owner has not heard of yet. A stream is only accepted while there are few of them, and a link
 * is only asked for while there are none: so there is room for the end of each that lives. */
#define DP_ICE_MAX_DEAD (DP_ICE_MAX_SERVERS + 2 * DP_ICE_MAX_STREAMS)

/* A path that carried data when ICE was restarted, and goes on until the new session has one. */
typedef struct dp_ice_previous {
    bool alive;
    uint8_t base;
    dp_address remote;
    dp_time answered_at;
    dp_time heard_at;
    dp_time consent_at;
    char local_ufrag[DP_ICE_UFRAG_LEN + 1];
    char local_pwd[DP_ICE_PWD_LEN + 1];
    char remote_ufrag[DP_ICE_REMOTE_UFRAG_MAX + 1];
    char remote_pwd[DP_ICE_REMOTE_PWD_MAX + 1];
} dp_ice_previous;

/* ---- the agent ---- */

struct dp_ice {
    dp_random random;
    dp_log log;
    dp_duration pacing;
    dp_duration gather_timeout;
    bool lite;
    bool remote_lite;
    bool relay_only;
    bool tcp;
    bool hide_addresses;
    uint8_t hide_key[16]; /* what hidden names are made from */
    dp_ice_role role;
    dp_ice_state state;
    bool running; /* this session's checks have begun: both sides' credentials are known */
    uint64_t tie_breaker;
    char local_ufrag[DP_ICE_UFRAG_LEN + 1];
    char local_pwd[DP_ICE_PWD_LEN + 1];
    char remote_ufrag[DP_ICE_REMOTE_UFRAG_MAX + 1]; /* empty: not known yet */
    char remote_pwd[DP_ICE_REMOTE_PWD_MAX + 1];
    dp_ice_previous *previous; /* NULL: never restarted */

    dp_ice_local locals[DP_ICE_MAX_LOCAL];
    size_t local_count;
    uint32_t foundation_count;
    dp_ice_server_entry servers[DP_ICE_MAX_SERVERS];
    size_t server_count;
    dp_ice_relay *relays; /* one for each TURN server */
    size_t relay_count;
    dp_ice_stream *streams; /* DP_ICE_MAX_STREAMS of them, or NULL */
    uint32_t link_serial;
    uint32_t dead_links[DP_ICE_MAX_DEAD]; /* LINK_CLOSE has not been fetched */
    size_t dead_link_count;
    bool gathering; /* gather was called */
    bool gathered;
    bool gathered_reported;
    dp_time gather_until;
    dp_time refresh_at; /* the STUN servers are asked again */

    dp_ice_remote *remotes;
    size_t remote_capacity;
    size_t remote_count; /* all */
    size_t prflx_count;  /* those that were learnt */
    size_t prflx_serial;
    bool end_of_candidates;
    dp_queue held;       /* char *: the texts of candidates that came before the credentials */
    dp_queue unresolved; /* char *: the texts of candidates whose host name is being resolved */
    size_t resolve_next; /* the next of them that the owner has to hear of */

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

    dp_time pace_at;          /* the next new transaction may start */
    dp_time fail_at;          /* no path by then: failed */
    dp_time patience_at;      /* not before, whatever fails */
    dp_time nominate_at;      /* controlling: no longer wait for a better pair */
    dp_time consent_at;       /* the next consent check */
    dp_time unanswered_since; /* the first consent check on the active pair without an answer; 0: none */
    bool doubted;             /* the peer was heard elsewhere: an answer decides, not the silence before */
    dp_time recheck_at;       /* disconnected: all pairs are tried anew */
    uint8_t active;           /* the pair for data: nominated or best valid; DP_ICE_NO_PAIR */
    bool active_reported;
    uint8_t replies_left; /* until the first one */
    uint8_t reply_base;   /* where the peer's data last came from */
    dp_address reply_remote;
    dp_ice_state states[DP_ICE_MAX_STATES]; /* to be reported, oldest first */
    size_t state_count;
    dp_ice_stats stats;
    char text[DP_CANDIDATE_TEXT_MAX]; /* the texts of the last event */
    char hostname[DP_ICE_HOST_MAX + 1];
};

#define DP_ICE_LOG(ice, level, ...) DP_LOG(&(ice)->log, level, "ice", __VA_ARGS__)

/* agent.c */
bool dp_ice_alive(const dp_ice *ice); /* neither FAILED nor CLOSED */
bool dp_ice_has_remote(const dp_ice *ice);
void dp_ice_set_state(dp_ice *ice, dp_ice_state state);
/* Draws new local credentials; DP_OK, or CRYPTO and the old ones stay. */
int dp_ice_draw_credentials(dp_ice *ice);
/* What came to a base from remote: STUN is handled; true: payload of the peer's. */
bool dp_ice_arrived(dp_ice *ice, dp_time now, uint8_t *data, size_t len, size_t base,
                    const dp_address *remote, dp_ice_payload *payload);

/* gather.c */
bool dp_ice_is_base(const dp_ice_local *local); /* and its socket or relay is there */
bool dp_ice_gather_pending(const dp_ice *ice);
void dp_ice_gather_step(dp_ice *ice, dp_time now); /* the next request to a STUN server */
void dp_ice_gather_answered(dp_ice *ice, const dp_ice_transaction *transaction,
                            const dp_stun_message *message);
void dp_ice_gather_update(dp_ice *ice, dp_time now); /* finished? time to ask again? */
void dp_ice_gather_anew(dp_ice *ice, dp_time now);   /* signals and asks all again, after a restart */
dp_time dp_ice_gather_next(const dp_ice *ice);
int dp_ice_local_find(const dp_ice *ice, const dp_address *base,
                      dp_tcptype tcp); /* index of the host candidate, -1 */
/* Records a local candidate; its index, -1 if it is known or there is no room. */
int dp_ice_local_add(dp_ice *ice, const dp_ice_local *local);
/* An address of base's that a server or the peer sees. */
void dp_ice_local_reflexive(dp_ice *ice, dp_candidate_type type, const dp_address *address, size_t base,
                            uint8_t server);
/* The base has ended, and with it all that goes through it. */
void dp_ice_local_end(dp_ice *ice, dp_time now, size_t base);

/* link.c */
/* How a datagram from base gets to remote: *link 0: a UDP socket; else framed, with headroom bytes in front. False:
 * the base has ended, or its stream is not open. */
bool dp_ice_carrier(const dp_ice *ice, size_t base, const dp_address *remote, uint32_t *link,
                    size_t *headroom);
/* Frames out->data[headroom..headroom + out->length), out->link and out->remote being what dp_ice_carrier was for. */
bool dp_ice_carrier_wrap(dp_ice *ice, size_t base, const dp_address *remote, dp_datagram *out,
                         size_t headroom);
void dp_ice_link_dead(dp_ice *ice, uint32_t link); /* LINK_CLOSE is due */
bool dp_ice_links_event(dp_ice *ice, dp_ice_event *event);

/* tcp.c */
void dp_ice_stream_want(dp_ice *ice, const dp_ice_pair *pair); /* before a check: connects if it must */
dp_ice_stream *dp_ice_stream_of(const dp_ice *ice, size_t base, const dp_address *remote);
dp_ice_stream *dp_ice_stream_by_link(const dp_ice *ice, uint32_t link);
void dp_ice_stream_opened(dp_ice *ice, dp_time now, dp_ice_stream *stream);
void dp_ice_stream_closed(dp_ice *ice, dp_time now, dp_ice_stream *stream);
size_t dp_ice_stream_input(dp_ice *ice, dp_time now, dp_ice_stream *stream, uint8_t *data, size_t len,
                           dp_ice_payload *payload);
void dp_ice_stream_drop(dp_ice *ice, size_t base, const dp_address *remote); /* nothing if there is none */
void dp_ice_streams_end(dp_ice *ice, size_t base);                           /* all of a base */
void dp_ice_streams_close(dp_ice *ice);
void dp_ice_streams_forget(dp_ice *ice); /* after a restart: all but the one of the previous path */
bool dp_ice_streams_event(dp_ice *ice, dp_ice_event *event);

/* relay.c */
dp_ice_relay *dp_ice_relay_by_link(const dp_ice *ice, uint32_t link);
void dp_ice_relay_opened(dp_ice *ice, dp_time now, dp_ice_relay *relay);
void dp_ice_relay_closed(dp_ice *ice, dp_time now, dp_ice_relay *relay);
size_t dp_ice_relay_input(dp_ice *ice, dp_time now, dp_ice_relay *relay, uint8_t *data, size_t len,
                          dp_ice_payload *payload);
void dp_ice_relays_open(dp_ice *ice); /* those that are not under way or ready */
void dp_ice_relays_close(dp_ice *ice);
void dp_ice_relays_free(dp_ice *ice);
bool dp_ice_relays_pending(const dp_ice *ice); /* gathering waits for one */
void dp_ice_relays_timeout(dp_ice *ice, dp_time now);
dp_time dp_ice_relays_next(const dp_ice *ice);
void dp_ice_relays_probe(dp_ice *ice, dp_time now); /* a path is lost: are the allocations still there? */
bool dp_ice_relays_transmit(dp_ice *ice, dp_time now, dp_datagram *out);
bool dp_ice_relays_event(dp_ice *ice, dp_ice_event *event);
dp_ice_relay *dp_ice_relay_of(const dp_ice *ice, size_t base); /* NULL: a host candidate, or it has ended */
void dp_ice_permit(dp_ice *ice, dp_time now, const dp_ice_pair *pair); /* nothing for a host candidate */
void dp_ice_bind(dp_ice *ice, dp_time now, const dp_ice_pair *pair);

/* names.c */
#define DP_ICE_HIDDEN_NAME_LEN 42 /* a UUID and ".local" */
/* The name that stands for a local IP address: the same one as long as the agent lives. */
int dp_ice_hidden_name(const dp_ice *ice, const dp_address *address, char name[DP_ICE_HIDDEN_NAME_LEN + 1]);
int dp_ice_name_wait(dp_ice *ice, const char *text); /* the candidate waits for its name's addresses; LIMIT */
bool dp_ice_names_event(dp_ice *ice, dp_ice_event *event);
void dp_ice_names_clear(dp_ice *ice);

/* remote.c */
void dp_ice_begin(dp_ice *ice, dp_time now); /* starts checking once local and remote sides are known */
int dp_ice_remote_take(dp_ice *ice, dp_time now, const dp_candidate *candidate);
void dp_ice_texts_clear(dp_queue *texts);             /* frees them */
void dp_ice_expect_until(dp_ice *ice, dp_time until); /* puts the failure off */
int dp_ice_remote_find(const dp_ice *ice, const dp_address *address, dp_tcptype tcp); /* -1 */
int dp_ice_remote_learn(dp_ice *ice, dp_time now, const dp_address *address, dp_tcptype tcp,
                        uint32_t priority); /* peer-reflexive; -1: no room */
dp_address dp_ice_remote_address(const dp_ice *ice,
                                 const dp_ice_pair *pair); /* with the zone of the socket */
void dp_ice_remote_answered(dp_ice *ice, size_t remote);
bool dp_ice_remote_may_ask(const dp_ice *ice, size_t remote); /* false: too many requests went unanswered */
void dp_ice_remote_asked(dp_ice *ice, size_t remote);
void dp_ice_remote_asks(dp_ice *ice, size_t remote); /* its check came: one more of ours may go there */

/* checklist.c */
void dp_ice_pairs_form(dp_ice *ice, dp_time now, size_t remote);                /* with all bases */
void dp_ice_pairs_form_base(dp_ice *ice, dp_time now, size_t base);             /* with all remotes */
int dp_ice_pair_find(const dp_ice *ice, size_t base, const dp_address *remote); /* index, -1 */
void dp_ice_pair_end(dp_ice *ice, size_t pair); /* it works no more: not valid, failed, no check under way */
/* A candidate's place was taken by another one: its pairs begin anew. */
void dp_ice_pairs_renew(dp_ice *ice, dp_time now, size_t base, size_t remote);
#define DP_ICE_ANY SIZE_MAX
void dp_ice_pairs_recheck(dp_ice *ice); /* all but the active one wait for a check again */
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
bool dp_ice_write(dp_ice *ice, const dp_ice_outgoing *message, dp_datagram *out);

/* checks.c */
void dp_ice_pace(dp_ice *ice, dp_time now); /* starts what may start now */
bool dp_ice_pace_pending(const dp_ice *ice);
void dp_ice_trigger(dp_ice *ice, size_t pair);
void dp_ice_check_answered(dp_ice *ice, dp_time now, dp_ice_transaction *transaction,
                           const dp_stun_message *message, size_t base, const dp_address *remote);
void dp_ice_check_failed(dp_ice *ice, size_t pair);
bool dp_ice_check_start(dp_ice *ice, dp_time now, dp_ice_purpose purpose, size_t pair, bool use_candidate);
void dp_ice_switch_role(dp_ice *ice, dp_ice_role role);

/* respond.c */
void dp_ice_request(dp_ice *ice, dp_time now, const dp_stun_message *message, size_t base,
                    const dp_address *remote);
void dp_ice_early_replay(dp_ice *ice, dp_time now);
void dp_ice_early_clear(dp_ice *ice);
dp_ice_outgoing dp_ice_answer_to(const dp_stun_message *message, dp_stun_class class_, size_t base,
                                 const dp_address *remote);
/* USERNAME is "LOCAL:REMOTE" with these; remote "": any. */
bool dp_ice_username_is(const dp_stun_message *message, const char *local_ufrag, const char *remote_ufrag);

/* nominate.c */
void dp_ice_nominate(dp_ice *ice, size_t pair); /* the pair is valid and nominated by whoever may */
void dp_ice_select(dp_ice *ice, dp_time now);   /* after any change of validity or nomination */
void dp_ice_nominate_step(dp_ice *ice, dp_time now);
dp_time dp_ice_nominate_next(const dp_ice *ice);

/* consent.c */
bool dp_ice_is_fresh(const dp_ice *ice, size_t pair, dp_time now);
dp_duration dp_ice_consent_interval(const dp_ice *ice);
void dp_ice_consent_step(dp_ice *ice, dp_time now);
void dp_ice_consent_answered(dp_ice *ice, dp_time now, const dp_ice_transaction *transaction);
/* A check of the peer came on another pair, which was quiet until now. */
void dp_ice_doubt(dp_ice *ice, dp_time now);
void dp_ice_disconnected(dp_ice *ice,
                         dp_time now); /* the path in use is silent or gone: look for another one */
dp_time dp_ice_consent_next(const dp_ice *ice);

/* restart.c */
bool dp_ice_previous_is(const dp_ice *ice, size_t base, const dp_address *remote);
bool dp_ice_previous_alive(const dp_ice *ice);
/* True: the request was of the session before. */
bool dp_ice_previous_request(dp_ice *ice, dp_time now, const dp_stun_message *message, size_t base,
                             const dp_address *remote);
void dp_ice_previous_answered(dp_ice *ice, dp_time now, dp_ice_transaction *transaction,
                              const dp_stun_message *message, size_t base, const dp_address *remote);
void dp_ice_previous_step(dp_ice *ice, dp_time now);
dp_time dp_ice_previous_next(const dp_ice *ice);
void dp_ice_previous_end(dp_ice *ice, dp_time now);

#endif
