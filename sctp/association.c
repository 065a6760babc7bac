/* usrsctp (stack.c) between what mends and guards it on both sides. */
#include "association.h"

#include "base/mem.h"
#include "base/wr.h"
#include "chunk.h"
#include "delivery.h"
#include "early.h"
#include "filter.h"
#include "forward.h"
#include "interleaving.h"
#include "output.h"
#include "path.h"
#include "repair.h"
#include "sender.h"
#include "stack.h"

#include <string.h>

#define TICK             DP_MS(10) /* a timer re-armed inside a tick waits for the next one, so ticks are short */
#define IDLE_TICK        DP_MS(200) /* nothing in flight: only heartbeats (30 s) are due */
#define IDLE_AFTER       DP_MS(500) /* longer than the delayed SACK, here and at the peer */
#define RTO_MIN_BULK_MS  2000u      /* at most */
#define BULK_ROUND_TRIPS 20u
#define BULK_CHUNKS      32u
#define SACK_HEADER      16u
#define NOTICES_MAX      1024u
#define WIDEN_STEP       32768u
#define WIDEN_EVERY      DP_MS(400)
#define WIDE_BUFFER      (1u << 30)
#define UNREAD_MAX       16384u /* chunks: usrsctp spends up to 420 bytes on one, and its window counts payload */
#define OUTPUT_EXTRA     65536u
#define SPAN_MAX         4000u /* TSNs: what usrsctp at the other end can tell apart, less what waits in ours */
#define TRIES_STALLED    3u
#define APART_LEAST      8192u /* bytes of a message */
#define A_RWND_AT        (DP_SCTP_COMMON_HEADER + 8)

struct dp_association {
    dp_stack stack;
    bool up;
    bool down;
    bool in_flight; /* sent data may be unacknowledged */
    bool bulk;      /* much is under way, or the rest of it */
    uint32_t rto_min;
    bool partial;   /* messages may be given up */
    dp_time ticked; /* last tick of this association: another's must not put off its own */
    dp_time active_until;
    dp_time now;     /* of the last call that told it */
    size_t fragment; /* the largest that fits into a packet */
    dp_forward forward;
    dp_sender sender;
    dp_repair repair;
    dp_early_reset early;
    dp_early_reset
        held; /* our own request: the peer does not have all its data yet, though usrsctp thinks so */
    dp_delivery delivery;
    dp_interleaving interleaving;
    bool narrowed;       /* the peer was told of a smaller window than usrsctp's */
    size_t message_max;  /* usrsctp keeps smaller messages until they are whole, */
    size_t delivery_max; /* and larger ones at most up to this */
    bool delivers;       /* beyond message_max, that is */
    size_t send_buffer;
    dp_time refused_at;
    size_t receive_buffer;
    unsigned notices; /* put into it though it may have been full, since there was nothing to read */
    size_t unread;    /* chunks since usrsctp had nothing to read, at most */
    bool refused;     /* the peer was told that the window is closed, and usrsctp does not know */
    uint8_t sack[DP_SCTP_COMMON_HEADER + SACK_HEADER]; /* usrsctp's last one, gap blocks left out */
    bool has_sack;
    dp_output output;
    dp_path path;
};

/* ---- the output -------------------------------------------------------------------------------- */

static size_t fragment_in(size_t mtu)
{
    return ((mtu - DP_SCTP_COMMON_HEADER) & ~(size_t)3) - DP_SCTP_DATA_HEADER;
}

static size_t mtu_of(const dp_association *a)
{
    return DP_SCTP_COMMON_HEADER + DP_SCTP_DATA_HEADER + a->fragment;
}

/* RFC 9260 §3.3.4: length 16, cumulative TSN, a_rwnd, no gap blocks, no duplicates. */
static void keep_sack(dp_association *a, const uint8_t *packet, size_t len)
{
    if (len < sizeof a->sack || packet[DP_SCTP_COMMON_HEADER] != DP_CHUNK_SACK)
        return;
    memcpy(a->sack, packet, sizeof a->sack);
    memset(a->sack + DP_SCTP_COMMON_HEADER + 1, 0, 2);
    a->sack[DP_SCTP_COMMON_HEADER + 3] = SACK_HEADER;
    memset(a->sack + DP_SCTP_COMMON_HEADER + 12, 0, 4);
    a->has_sack = true;
}

/* What waits to be put together is not usrsctp's any more, and the peer is told so once it is much. */
static bool narrow_window(dp_association *a, uint8_t *packet, size_t len)
{
    size_t held = a->interleaving.held;
    if (held < a->receive_buffer / 4 || len < sizeof a->sack ||
        packet[DP_SCTP_COMMON_HEADER] != DP_CHUNK_SACK)
        return false;
    dp_rd rd = dp_rd_init(packet + A_RWND_AT, 4);
    uint32_t window = dp_rd_u32(&rd);
    dp_wr wr = dp_wr_init(packet + A_RWND_AT, 4);
    dp_wr_u32(&wr, window > held ? window - (uint32_t)held : 0);
    return true;
}

static bool has_chunk(const uint8_t *packet, size_t len, uint8_t type)
{
    dp_rd chunks = dp_chunks(packet, len);
    dp_chunk chunk;
    while (dp_chunk_next(&chunks, &chunk))
        if (chunk.type == type)
            return true;
    return false;
}

/* usrsctp believes that the peer has what repair.c is still sending: what builds on that waits. FORWARD-TSN would make the
 * peer skip it, a stream reset comes when all is acknowledged (RFC 6525 §5.1.2), SHUTDOWN ACK ends the association; that one
 * usrsctp repeats. A packet that is lost for want of memory is like any other: its DATA is sent again. */
static void leave(dp_association *a, const uint8_t *packet, size_t len, size_t mtu)
{
    uint8_t *cut, *rest;
    if (has_chunk(packet, len, DP_CHUNK_SHUTDOWN_ACK) ||
        dp_repair_hold_forward(&a->repair, &cut, packet, &len) != DP_OK)
        return;
    packet = cut != NULL ? cut : packet;
    size_t rest_len;
    if (dp_early_reset_take(&a->held, &rest, &rest_len, packet, len, a->repair.copies.acked) != DP_OK)
        len = 0; /* lost: usrsctp asks again */
    if (rest != NULL) {
        packet = rest;
        len = rest_len;
    }
    if (len > DP_SCTP_COMMON_HEADER)
        dp_output_add(&a->output, packet, len, mtu);
    dp_free(cut);
    dp_free(rest);
}

/* usrsctp's output callback: queues a copy and takes notes, nothing else. */
static void on_output(void *ctx, uint8_t *packet, size_t len)
{
    dp_association *a = (dp_association *)ctx;
    bool leaves = dp_forward_output(&a->forward, packet, len);
    uint64_t repeated = a->sender.chunks_retransmitted;
    dp_sender_output(&a->sender, a->now, packet, len);
    keep_sack(a, packet, len);
    a->narrowed |= narrow_window(a, packet, len);
    dp_path_output(&a->path, packet, len);
    dp_repair_output(&a->repair, a->now, packet, &len);
    leaves &= len > DP_SCTP_COMMON_HEADER;
    /* The TSNs of a packet ascend (RFC 9260 §6.10), which those of a repeated chunk behind new ones would not. */
    bool is_new = repeated == a->sender.chunks_retransmitted;
    if (leaves && dp_repair_is_ahead(&a->repair))
        leave(a, packet, len, is_new ? mtu_of(a) : 0);
    else if (leaves)
        dp_output_add(&a->output, packet, len, is_new ? mtu_of(a) : 0);
}

bool dp_association_poll_transmit(dp_association *a, const uint8_t **packet, size_t *len)
{
    return dp_output_poll(&a->output, packet, len);
}

int dp_association_new(dp_association **out, dp_time now, const dp_association_config *config)
{
    dp_association *a = (dp_association *)dp_calloc(1, sizeof *a);
    if (a == NULL)
        return DP_ERR_NO_MEMORY;
    dp_forward_init(&a->forward, config->max_streams, config->interleaving);
    dp_sender_init(&a->sender);
    dp_path_init(&a->path, config->mtu);
    dp_repair_init(&a->repair, config->send_buffer_size);
    a->rto_min = DP_STACK_RTO_MIN_MS;
    a->message_max = config->max_message_size;
    a->send_buffer = config->send_buffer_size;
    a->receive_buffer = dp_stack_receive_buffer(config);
    dp_interleaving_init(&a->interleaving, config->max_streams, config->max_message_size,
                         DP_ASSOCIATION_BEGUN_MAX * config->max_message_size + a->receive_buffer);
    a->delivery_max = a->receive_buffer / 2;
    a->delivers = true;
    a->fragment = fragment_in(config->mtu);
    a->now = now;
    a->ticked = now;
    /* All that can be in flight fits twice (first transmission and retransmission), each packet with its
     * length. */
    dp_output_init(&a->output, 2 * config->send_buffer_size + OUTPUT_EXTRA);
    int error = dp_stack_open(&a->stack, now, config, on_output, a);
    if (error != DP_OK) {
        dp_association_free(a);
        return error;
    }
    *out = a;
    return DP_OK;
}

void dp_association_abort(dp_association *a)
{
    dp_stack_close(&a->stack);
    a->down = true;
}

void dp_association_free(dp_association *a)
{
    if (a == NULL)
        return;
    dp_stack_clear(&a->stack);
    dp_forward_clear(&a->forward);
    dp_interleaving_clear(&a->interleaving);
    dp_sender_clear(&a->sender);
    dp_repair_clear(&a->repair);
    dp_early_reset_clear(&a->held);
    dp_early_reset_clear(&a->early);
    dp_output_clear(&a->output);
    dp_path_clear(&a->path);
    dp_free(a);
}

/* ---- the path ---------------------------------------------------------------------------------- */

/* A larger path MTU makes usrsctp put more chunks into a packet at once, but smaller ones stay what they were: it never
 * raises smallest_mtu, by which it cuts messages that it has whole. Those that it gets in pieces it cuts by the path
 * MTU. */
static void apply_path(dp_association *a)
{
    if (dp_stack_set_path(&a->stack, a->path.size))
        a->fragment = fragment_in(a->path.size);
}

void dp_association_set_path(dp_association *a, dp_time now, size_t ceiling, dp_duration round_trip,
                             const dp_random *random)
{
    dp_sender_path_changed(&a->sender, round_trip);
    if (dp_path_change(&a->path, now, ceiling, random))
        apply_path(a);
}

bool dp_association_poll_probe(dp_association *a, dp_time now, const uint8_t **packet, size_t *len)
{
    return a->up && !a->down && dp_path_poll_probe(&a->path, now, packet, len);
}

/* ---- in and out -------------------------------------------------------------------------------- */

/* usrsctp does a reset, or learns that ours is done, and drops the notification without notice if its receive buffer is full.
 * So the buffer is made wide for that moment, as often as is bearable while the owner reads nothing. */
static void to_usrsctp(void *ctx, const uint8_t *packet, size_t len)
{
    dp_association *a = (dp_association *)ctx;
    bool wide = a->stack.readable && a->notices < NOTICES_MAX && has_chunk(packet, len, DP_CHUNK_RE_CONFIG);
    if (wide) {
        a->notices++;
        (void)dp_stack_set_receive_buffer(&a->stack, WIDE_BUFFER);
    }
    dp_stack_input(&a->stack, packet, len);
    if (wide)
        (void)dp_stack_set_receive_buffer(&a->stack, a->receive_buffer);
}

/* usrsctp starts T3-rtx once and does not restart it when a SACK acknowledges something (RFC 9260 §6.3.2, R3), so it
 * expires again and again while data flows; what is then older than the smoothed round trip counts as lost, and the window
 * falls to one packet. So it is made long while much is under way, when fast retransmission does the work; but not where
 * it is needed to repeat a FORWARD-TSN. */
static void adapt_timer(dp_association *a)
{
    uint32_t in_flight = dp_sender_in_flight(&a->sender);
    a->bulk = !a->partial && (a->bulk ? in_flight > 0 : in_flight >= BULK_CHUNKS);
    uint64_t least = a->bulk ? BULK_ROUND_TRIPS * a->sender.least / 1000 : DP_STACK_RTO_MIN_MS;
    least = least < DP_STACK_RTO_MIN_MS ? DP_STACK_RTO_MIN_MS
            : least > RTO_MIN_BULK_MS   ? RTO_MIN_BULK_MS
                                        : least;
    if (least == a->rto_min)
        return;
    a->rto_min = (uint32_t)least;
    (void)dp_stack_set_rto_min(&a->stack, a->rto_min);
}

/* The owner reads nothing, and the peer sends small messages. It learns that the window is closed. */
static void refuse(dp_association *a)
{
    uint8_t packet[sizeof a->sack];
    memcpy(packet, a->sack, sizeof packet);
    memset(packet + DP_SCTP_COMMON_HEADER + 8, 0, 4);
    a->refused = true;
    if (a->has_sack)
        dp_output_add(&a->output, packet, sizeof packet, 0);
}

/* What the beginning of a message keeps back is neither read nor, as payload, much: usrsctp does not bound it. */
static size_t kept_back(const dp_association *a) { return a->delivery.in_message ? a->delivery.others : 0; }

static void all_read(dp_association *a)
{
    a->stack.readable = false;
    dp_interleaving_all_read(&a->interleaving);
    a->unread = kept_back(a);
    a->notices = 0;
    bool wider = a->narrowed && a->interleaving.held < a->receive_buffer / 8;
    if ((a->refused || wider) && a->has_sack)
        dp_output_add(&a->output, a->sack, sizeof a->sack, 0);
    a->refused = false;
    a->narrowed &= !wider;
}

/* False: the packet is to be lost. */
static bool guard_delivery(dp_association *a, const uint8_t *packet, size_t len)
{
    size_t limit = a->delivery_max - DP_ASSOCIATION_READ_MIN;
    if (!dp_delivery_input(&a->delivery, packet, len, a->forward.cumulative, limit))
        return false;
    bool safe = dp_delivery_safe(&a->delivery, a->forward.cumulative);
    if (safe != a->delivers &&
        dp_stack_set_delivery_point(&a->stack, safe ? a->message_max + 1 : a->delivery_max))
        a->delivers = safe;
    return true;
}

/* Its data may be acknowledged now. */
static void give_early_reset(dp_association *a)
{
    size_t len;
    uint8_t *packet = dp_early_reset_give(&a->early, &len, a->forward.cumulative);
    if (packet != NULL)
        (void)dp_forward_input(&a->forward, packet, len, to_usrsctp, a);
    dp_free(packet);
}

/* Before usrsctp sees that the TSNs have come. What lies behind us says nothing of now: streams may have been reset.
 * *noted: there was some. */
static int note_given_up(dp_association *a, bool *noted, const uint8_t *packet, size_t len)
{
    dp_rd chunks = dp_chunks(packet, len);
    dp_chunk chunk;
    while (a->forward.interleaves && !*noted && dp_chunk_next(&chunks, &chunk)) {
        dp_rd body = chunk.value;
        if (chunk.type != DP_CHUNK_I_FORWARD_TSN || !dp_tsn_before(a->forward.cumulative, dp_rd_u32(&body)))
            continue;
        int error = dp_interleaving_forward(&a->interleaving, noted, chunk.value);
        if (error != DP_OK)
            return error;
    }
    return DP_OK;
}

static int input_sound(dp_association *a, const uint8_t *packet, size_t len)
{
    uint8_t *rest = NULL;
    size_t rest_len;
    int error = DP_OK;
    if (a->forward.synced) /* else it does not know what is acknowledged */
        error = dp_early_reset_take(&a->early, &rest, &rest_len, packet, len, a->forward.cumulative);
    if (error != DP_OK)
        return error;
    if (rest == NULL)
        error = dp_forward_input(&a->forward, packet, len, to_usrsctp, a);
    else if (rest_len > 0)
        error = dp_forward_input(&a->forward, rest, rest_len, to_usrsctp, a);
    dp_free(rest);
    return error;
}

/* What is lost leaves again, and then what has waited for it. */
static void repair(dp_association *a, dp_time now)
{
    const uint8_t *packet;
    size_t len;
    dp_sender_report(&a->sender, a->repair.found_lost, a->repair.delivered,
                     dp_repair_outstanding(&a->repair));
    /* Before what is sent again: the peer may have room only then. */
    while (dp_repair_poll_forward(&a->repair, now, mtu_of(a), &packet, &len))
        dp_output_add(&a->output, packet, len, 0);
    while (dp_repair_poll(&a->repair, now, dp_sender_spare(&a->sender, dp_repair_in_flight(&a->repair)),
                          mtu_of(a), &packet, &len))
        dp_output_add(&a->output, packet, len, 0);
    uint8_t *reset = dp_early_reset_give(&a->held, &len, a->repair.copies.acked);
    if (reset != NULL)
        dp_output_add(&a->output, reset, len, 0);
    dp_free(reset);
    if (dp_sender_repeats(&a->sender, now, dp_repair_holds(&a->repair, a->sender.forward_tsn), &packet, &len))
        dp_output_add(&a->output, packet, len, 0);
}

int dp_association_input(dp_association *a, dp_time now, const uint8_t *packet, size_t len)
{
    int error =
        dp_sctp_filter(packet, len, a->stack.local_port, a->stack.remote_port, a->forward.interleaves);
    if (error != DP_OK)
        return error;
    if (!dp_sctp_checksum_ok(packet, len))
        return DP_ERR_MALFORMED;
    if (!a->up && has_chunk(packet, len, DP_CHUNK_RE_CONFIG))
        return DP_OK; /* as if lost: see docs/pitfalls.md, the peer repeats it */
    a->active_until = now + IDLE_AFTER;
    a->now = now;
    if (!dp_repair_input(&a->repair, now, &packet, &len))
        return DP_ERR_NO_MEMORY;
    size_t chunks = dp_sender_input(&a->sender, now, packet, len);
    repair(a, now);
    if (!a->stack.readable)
        a->unread = kept_back(a); /* what else usrsctp has is parts of messages */
    if (chunks > 0 && a->unread >= UNREAD_MAX) {
        refuse(a);
        return DP_ERR_LIMIT;
    }
    if (!guard_delivery(a, packet, len))
        return DP_ERR_LIMIT;
    if (dp_path_input(&a->path, now, packet, len))
        apply_path(a);
    size_t made = a->forward.made;
    bool noted = false;
    error = note_given_up(a, &noted, packet, len);
    if (error == DP_OK)
        error = input_sound(a, packet, len);
    if (noted && a->forward.made == made)
        dp_interleaving_take_back(&a->interleaving);
    a->unread += chunks + a->forward.made - made;
    adapt_timer(a);
    return error;
}

/* usrsctp tells that it has sent all only when it has handled a SACK; but what is left of a message that it has given up
 * leaves its queue after that, and then nothing more may come. Who asks for the event anew gets it at once if it is true. */
static void ask_whether_dry(dp_association *a)
{
    if (a->in_flight && !a->stack.readable && !dp_association_in_message(a) &&
        dp_sender_in_flight(&a->sender) == 0)
        (void)dp_stack_ask_whether_dry(&a->stack);
}

void dp_association_tick(dp_association *a, dp_time now)
{
    a->ticked = a->now = now;
    dp_stack_tick(now);
    ask_whether_dry(a);
    bool idle = dp_repair_outstanding(&a->repair) == 0;
    if (dp_path_watch(&a->path, now, a->repair.copies.acked, idle))
        apply_path(a);
    give_early_reset(a);
    dp_repair_handle_timeout(&a->repair, now);
    if (a->repair.tries >= TRIES_STALLED && a->repair.probing)
        dp_sender_stalled(&a->sender);
    a->stack.readable |= a->repair.failed;
    repair(a, now);
    if (now >= a->active_until) {
        dp_repair_shrink(&a->repair);
        dp_output_shrink(&a->output);
        dp_forward_shrink(&a->forward);
        dp_interleaving_shrink(&a->interleaving);
    }
}

dp_time dp_association_next_tick(const dp_association *a, bool busy)
{
    if (a->down)
        return DP_TIME_NEVER;
    bool active = busy || !a->up || a->in_flight || a->ticked < a->active_until;
    dp_time tick = a->ticked + (active ? TICK : IDLE_TICK);
    dp_time timeout = dp_repair_next_timeout(&a->repair);
    return timeout < tick ? timeout : tick;
}

/* usrsctp counts what it holds of messages that it gives up, and counts wrong: a buffer of 16 KiB was full for ever with
 * nothing in it. Who has nothing under way and takes nothing gets a larger one. */
static void widen_send_buffer(dp_association *a, dp_time now)
{
    if (!a->partial || dp_sender_in_flight(&a->sender) > 0 || now - a->refused_at < WIDEN_EVERY)
        return;
    a->refused_at = now;
    a->send_buffer += WIDEN_STEP;
    (void)dp_stack_set_send_buffer(&a->stack, a->send_buffer);
}

/* Of *len bytes, as much as may go now. */
static void limit_to_room(dp_association *a, size_t *len, bool *last)
{
    size_t room = dp_sender_room(&a->sender, a->now, dp_repair_outstanding(&a->repair));
    if (room >= *len)
        return;
    *len = room - room % dp_association_fragment(a); /* no small chunks in the middle of a message */
    *last = false;
}

static int hand_over(dp_association *a, size_t *sent, const dp_association_outgoing *how, const uint8_t *data,
                     size_t len, bool last)
{
    dp_sender_hand_over(&a->sender, len); /* before: it may leave at once */
    int error = dp_stack_send(&a->stack, sent, how, data, len, last);
    dp_sender_take_back(&a->sender, len - *sent);
    a->in_flight |= error == DP_OK;
    if (error == DP_ERR_WOULD_BLOCK)
        widen_send_buffer(a, a->now);
    return error;
}

/* usrsctp cuts a message that it has whole for the smallest path MTU that it has ever known, and one that goes on for that of
 * now. So on a larger path it gets the end when all fragments before it have left; the last one would wait if there was not
 * a byte behind it. */
static int hand_over_end_apart(dp_association *a, size_t *sent, const dp_association_outgoing *how,
                               const uint8_t *data, size_t len)
{
    size_t fragment = dp_association_fragment(a), end = 0;
    size_t begin = len > fragment + 1 ? (len - 2) / fragment * fragment + 1 : 0;
    int error = begin > 0 ? hand_over(a, sent, how, data, begin, false) : DP_OK;
    if (error != DP_OK || *sent < begin)
        return error;
    if ((how->begun || begin > 0) && a->sender.unsent > fragment && dp_sender_in_flight(&a->sender) > 0)
        return begin > 0 ? DP_OK : DP_ERR_WOULD_BLOCK;
    error = hand_over(a, &end, how, data + begin, len - begin, true);
    *sent += end;
    return begin > 0 ? DP_OK : error;
}

/* A second call costs more than one or two chunks less save. Where messages are given up, unsent is not exact, and usrsctp drops
 * the rest of one whose end it does not have: there it stays simple. */
static bool ends_apart(const dp_association *a, const dp_association_outgoing *how, size_t len)
{
    return how->may_wait && a->path.size > a->path.mtu.base && !a->partial &&
           (how->begun || len >= APART_LEAST);
}

static int hand_over_rest(dp_association *a, size_t *sent, const dp_association_outgoing *how,
                          const uint8_t *data, size_t len, bool last)
{
    return last && ends_apart(a, how, len) ? hand_over_end_apart(a, sent, how, data, len)
                                           : hand_over(a, sent, how, data, len, last);
}

/* Where messages are interleaved usrsctp gives none up. What is left of one that repair.c has given up ends with a byte,
 * which does not leave. */
static int send_interleaved(dp_association *a, size_t *sent, const dp_association_outgoing *how,
                            const uint8_t *data, size_t len, bool last)
{
    dp_association_outgoing reliable = *how;
    reliable.limit = DP_ASSOCIATION_RELIABLE;
    uint32_t number = 0;
    size_t had = a->repair.abandon.count;
    if (how->limit != DP_ASSOCIATION_RELIABLE && a->forward.supported) {
        bool counts = how->limit == DP_ASSOCIATION_MAX_RETRANSMITS;
        dp_time expires = counts ? DP_TIME_NEVER : a->now + DP_MS(how->limit_value);
        if (dp_abandon_begin(&a->repair.abandon, &number, how->stream, counts ? how->limit_value : UINT32_MAX,
                             expires) != DP_OK)
            return DP_ERR_WOULD_BLOCK;
        reliable.ppid = dp_abandon_ppid(how->ppid, number);
    }
    const dp_limited_message *message = dp_abandon_find(&a->repair.abandon, number);
    bool is_over = message != NULL && message->abandoned;
    int error = is_over ? hand_over(a, sent, &reliable, data, 1, true)
                        : hand_over_rest(a, sent, &reliable, data, len, last);
    if (error != DP_OK && a->repair.abandon.count > had)
        dp_abandon_take_back(&a->repair.abandon, how->stream);
    if (error == DP_OK && (is_over || (last && *sent == len)))
        dp_abandon_end(&a->repair.abandon, how->stream);
    return error == DP_OK && is_over ? DP_ERR_CANCELLED : error;
}

int dp_association_send(dp_association *a, size_t *sent, dp_time now, const dp_association_outgoing *how,
                        const uint8_t *data, size_t len, bool last)
{
    a->now = now;
    *sent = 0;
    if (a->repair.sent_tsn - a->repair.copies.acked >= SPAN_MAX)
        return DP_ERR_WOULD_BLOCK;
    limit_to_room(a, &len, &last);
    if (len == 0)
        return DP_ERR_WOULD_BLOCK;
    if (a->forward.interleaves)
        return send_interleaved(a, sent, how, data, len, last);
    if (how->limit != DP_ASSOCIATION_RELIABLE && dp_repair_limit(&a->repair, how->stream) != DP_OK)
        return DP_ERR_WOULD_BLOCK;
    a->partial |= how->limit != DP_ASSOCIATION_RELIABLE;
    return hand_over_rest(a, sent, how, data, len, last);
}

bool dp_association_interleaves(const dp_association *a) { return a->forward.interleaves; }

size_t dp_association_fragment(const dp_association *a)
{
    return a->fragment - (a->forward.interleaves ? DP_SCTP_I_DATA_HEADER - DP_SCTP_DATA_HEADER : 0);
}

int dp_association_reset_stream(dp_association *a, uint16_t stream)
{
    return dp_stack_reset_stream(&a->stack, stream);
}

/* usrsctp forgets, when it moves its streams to a larger array, which of them it is in the middle of a message of
 * (sctp_ss_default_init), and would put another's between its fragments. The queue of chunks that are sent and not
 * acknowledged can be empty while a message that has begun waits in front of it: SENDER_DRY alone tells that all is
 * gone. */
int dp_association_add_streams(dp_association *a, uint16_t count)
{
    return a->in_flight ? DP_ERR_WOULD_BLOCK : dp_stack_add_streams(&a->stack, count);
}

uint16_t dp_association_streams(const dp_association *a) { return dp_stack_streams(&a->stack); }

bool dp_association_readable(const dp_association *a)
{
    return (a->stack.readable || dp_interleaving_ready(&a->interleaving)) && !a->down;
}

bool dp_association_in_message(const dp_association *a) { return a->delivery.in_message; }

static void fails(dp_association *a, dp_association_event *event, int error)
{
    dp_association_abort(a);
    event->type = DP_ASSOCIATION_DOWN;
    event->error = error;
}

/* A chunk of an association that interleaves. */
static void read_fragment(dp_association *a, dp_association_event *event, const uint8_t *data)
{
    if ((event->ppid >> DP_INTERLEAVING_FLAGS_AT & DP_INTERLEAVING_REAL) == 0) {
        dp_interleaving_made_up(&a->interleaving, event->tsn);
        event->type = DP_ASSOCIATION_IGNORED;
        return;
    }
    int error = dp_interleaving_input(&a->interleaving, event, data);
    if (error != DP_OK)
        fails(a, event, error);
}

static void forget_reset_streams(dp_association *a, const dp_association_event *event, const uint8_t *buffer)
{
    if (!event->reset_incoming || event->reset_failed)
        return;
    if (event->reset_count == 0)
        dp_interleaving_reset_all(&a->interleaving);
    for (size_t i = 0; i < event->reset_count; i++)
        dp_interleaving_reset(&a->interleaving, dp_association_reset_at(buffer, i));
}

void dp_association_receive(dp_association *a, dp_association_event *event, uint8_t *buffer, size_t capacity)
{
    memset(event, 0, sizeof *event);
    if (a->down)
        return;
    if (a->repair.failed) {
        fails(a, event, DP_ERR_TIMEOUT);
        return;
    }
    if (dp_interleaving_give(&a->interleaving, event, buffer, capacity))
        return;
    dp_stack_receive(&a->stack, event, buffer, capacity);
    a->up |= event->type == DP_ASSOCIATION_UP;
    a->down |= event->type == DP_ASSOCIATION_DOWN;
    a->in_flight &= event->type != DP_ASSOCIATION_DRY;
    if (event->type == DP_ASSOCIATION_NOTHING)
        all_read(a);
    if (event->type == DP_ASSOCIATION_RESET)
        forget_reset_streams(a, event, buffer);
    if (event->type == DP_ASSOCIATION_DATA && a->forward.interleaves) {
        read_fragment(a, event, buffer);
        return;
    }
    event->mid = 0;
    if (event->type != DP_ASSOCIATION_DATA)
        return;
    dp_delivery_read(&a->delivery, event->stream, event->unordered, event->complete);
    if (dp_forward_drops(&a->forward, event->tsn, event->ppid, event->complete))
        event->type = DP_ASSOCIATION_ABANDONED;
}

bool dp_association_cut_short(dp_association *a) { return dp_stack_cut_short(&a->stack); }

void dp_association_get_stats(const dp_association *a, dp_sctp_stats *out)
{
    if (!a->up || a->down || !dp_stack_get_stats(&a->stack, out))
        return;
    out->unack_data = dp_repair_outstanding(&a->repair);
    out->chunks_sent = a->sender.chunks_sent + a->repair.repeated;
    out->chunks_retransmitted = a->sender.chunks_retransmitted + a->repair.repeated;
}
