#include "turn_state.h"

#include "base/mem.h"

#include <string.h>

#define SOFTWARE_MAX     127           /* bytes; RFC 8489 §14.14 says characters */
#define LIFETIME_DEFAULT 600           /* seconds, RFC 8656 §3.2 */
#define REFRESH_MIN      DP_SECONDS(5) /* whatever the server says */
/* RFC 8445 §11: Tr, so that no NAT on the way to the server forgets us. */
#define KEEPALIVE DP_SECONDS(15)

static void set_state(dp_turn *turn, dp_turn_state state)
{
    static const char *const names[] = {"new", "allocating", "allocated", "releasing", "over"};
    DP_TURN_LOG(turn, DP_LOG_DEBUG, "TURN: %s -> %s", names[turn->state], names[state]);
    turn->state = state;
}

/* ---- begin and end ---- */

static bool copy(char **out, const char *text)
{
    *out = text == NULL ? NULL : dp_strdup(text);
    return text == NULL || *out != NULL;
}

int dp_turn_new(dp_turn **out, const dp_turn_config *config)
{
    *out = NULL;
    if (config->random.fn == NULL || config->username == NULL || config->credential == NULL ||
        strlen(config->username) > DP_ICE_CREDENTIAL_MAX ||
        strlen(config->credential) > DP_ICE_CREDENTIAL_MAX ||
        (config->software != NULL && strlen(config->software) > SOFTWARE_MAX))
        return DP_ERR_INVALID_ARGUMENT;
    dp_turn *turn = dp_calloc(1, sizeof *turn);
    if (turn == NULL)
        return DP_ERR_NO_MEMORY;
    turn->random = config->random;
    turn->log = config->log;
    turn->reliable = config->reliable;
    turn->session_at = DP_TIME_NEVER;
    turn->keepalive_at = DP_TIME_NEVER;
    if (!copy(&turn->username, config->username) || !copy(&turn->credential, config->credential) ||
        !copy(&turn->software, config->software)) {
        dp_turn_free(turn);
        return DP_ERR_NO_MEMORY;
    }
    *out = turn;
    return DP_OK;
}

void dp_turn_free(dp_turn *turn)
{
    if (turn == NULL)
        return;
    if (turn->credential != NULL)
        dp_wipe(turn->credential, strlen(turn->credential));
    dp_free(turn->username);
    dp_free(turn->credential);
    dp_free(turn->software);
    dp_wipe(turn, sizeof *turn);
    dp_free(turn);
}

void dp_turn_start(dp_turn *turn, dp_time now)
{
    if (turn->state != DP_TURN_NEW)
        return;
    set_state(turn, DP_TURN_ALLOCATING);
    turn->session_at = now;
}

void dp_turn_probe(dp_turn *turn, dp_time now)
{
    if (turn->state == DP_TURN_ALLOCATED && turn->session_at != DP_TIME_NEVER) /* else one is under way */
        turn->session_at = now;
}

void dp_turn_release(dp_turn *turn, dp_time now)
{
    (void)now; /* it leaves once, whatever the time */
    dp_turn_requests_clear(turn);
    turn->allocated_due = turn->over_due = false;
    /* While allocating, the server may have granted what we have not heard of. */
    bool granted = turn->state == DP_TURN_ALLOCATED || (turn->state == DP_TURN_ALLOCATING && turn->has_key);
    if (turn->state != DP_TURN_RELEASING && turn->state != DP_TURN_OVER)
        set_state(turn, granted ? DP_TURN_RELEASING : DP_TURN_OVER);
}

static void end(dp_turn *turn, const dp_turn_event *event)
{
    dp_turn_requests_clear(turn);
    set_state(turn, DP_TURN_OVER);
    turn->over = *event;
    turn->over_due = true;
}

static const char *message_of(unsigned code)
{
    static const struct {
        unsigned code;
        const char *message;
    } rows[] = {
        {0, "the TURN server does not answer"},
        {DP_STUN_CODE_BAD_REQUEST, "the TURN server can't read the request: is it a TURN server?"},
        {DP_STUN_CODE_UNAUTHENTICATED, "the TURN server refuses the user name or password"},
        {403, "the TURN server forbids it to this user or from this network"},
        {DP_STUN_CODE_UNKNOWN_ATTRIBUTE, "the TURN server is too old: it does not know an attribute"},
        {DP_STUN_CODE_ALLOCATION_MISMATCH,
         "the TURN server's allocation for this connection is another or gone"},
        {DP_STUN_CODE_STALE_NONCE, "the TURN server calls each nonce of its own stale"},
        {DP_STUN_CODE_FAMILY_UNSUPPORTED, "the TURN server relays neither IPv4 nor IPv6"},
        {DP_STUN_CODE_WRONG_CREDENTIALS, "the allocation belongs to another user name"},
        {442, "the TURN server does not relay UDP"},
        {486, "this user has too many allocations on the TURN server: end some or raise its quota"},
        {500, "the TURN server has an error of its own: try again later"},
        {508, "the TURN server has no ports left: try again later or another server"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].code == code)
            return rows[i].message;
    }
    return "the TURN server refuses";
}

void dp_turn_fail(dp_turn *turn, unsigned code, const char *message)
{
    dp_turn_event event = {
        .type = DP_TURN_EVENT_FAILED, .code = code, .message = message != NULL ? message : message_of(code)};
    end(turn, &event);
}

/* ---- the allocation ---- */

/* Early enough for a few retransmissions, and never a storm: a lifetime of some seconds runs out. */
static void set_refresh(dp_turn *turn, dp_time now, const dp_stun_message *answer)
{
    dp_duration lifetime = DP_SECONDS(answer->has_lifetime ? answer->lifetime : LIFETIME_DEFAULT);
    dp_duration margin = lifetime / 10 > DP_SECONDS(60) ? lifetime / 10 : DP_SECONDS(60);
    dp_duration wait = lifetime > 2 * margin ? lifetime - margin : lifetime / 2;
    turn->session_at = now + (wait > REFRESH_MIN ? wait : REFRESH_MIN);
}

static void granted(dp_turn *turn, dp_time now, const dp_stun_message *answer)
{
    dp_turn_event event = {.type = DP_TURN_EVENT_ALLOCATED, .mapped = answer->mapped};
    size_t count = 0;
    for (size_t i = 0; i < answer->relayed_count; i++) {
        const dp_address *relayed = &answer->relayed[i];
        bool second = count > 0 && event.relayed[0].family == relayed->family;
        if (relayed->port != 0 && !second)
            event.relayed[count++] = *relayed;
    }
    event.count = count;
    if (event.count == 0 || (answer->has_lifetime && answer->lifetime == 0)) {
        dp_turn_fail(turn, 0, "the TURN server grants an allocation without address or lifetime");
        return;
    }
    if (answer->address_error != 0)
        DP_TURN_LOG(turn, DP_LOG_DEBUG, "TURN: no relayed address of IPv%s (%u)",
                    answer->address_error_family == DP_STUN_FAMILY_IPV6 ? "6" : "4", answer->address_error);
    set_state(turn, DP_TURN_ALLOCATED);
    turn->allocated = event;
    turn->allocated_due = true;
    set_refresh(turn, now, answer);
    if (!turn->reliable)
        turn->keepalive_at = now + KEEPALIVE;
}

static void allocate_refused(dp_turn *turn, dp_time now, const dp_stun_message *answer)
{
    if (answer->error_code == DP_STUN_CODE_TRY_ALTERNATE && answer->alternate.port != 0) {
        dp_turn_event event = {.type = DP_TURN_EVENT_REDIRECTED,
                               .code = answer->error_code,
                               .alternate = answer->alternate,
                               .message = "the TURN server sends us to another"};
        end(turn, &event);
    } else if (answer->error_code == DP_STUN_CODE_FAMILY_UNSUPPORTED && !turn->ask_ipv6) {
        turn->ask_ipv6 = true;
        turn->session_at = now;
    } else {
        dp_turn_fail(turn, answer->error_code, NULL);
    }
}

void dp_turn_session_answered(dp_turn *turn, dp_time now, unsigned method, const dp_stun_message *answer)
{
    bool success = answer->class_ == DP_STUN_SUCCESS;
    if (method == DP_STUN_METHOD_ALLOCATE && success)
        granted(turn, now, answer);
    else if (method == DP_STUN_METHOD_ALLOCATE)
        allocate_refused(turn, now, answer);
    else if (success && (!answer->has_lifetime || answer->lifetime > 0))
        set_refresh(turn, now, answer);
    else
        dp_turn_fail(turn, success ? DP_STUN_CODE_ALLOCATION_MISMATCH : answer->error_code, NULL);
}

/* ---- the five verbs ---- */

static bool is_alive(const dp_turn *turn)
{
    return turn->state == DP_TURN_ALLOCATING || turn->state == DP_TURN_ALLOCATED;
}

bool dp_turn_input(dp_turn *turn, dp_time now, uint8_t *frame, size_t len, dp_turn_data *out)
{
    dp_stun_message message;
    if (len == 0)
        return false;
    bool allocated = turn->state == DP_TURN_ALLOCATED;
    if (frame[0] >> 6 == 1) /* RFC 8656 §12: the first two bits tell channels from STUN */
        return allocated && dp_turn_take_channel_data(turn, frame, len, out);
    if (dp_stun_decode(&message, frame, len) != DP_OK)
        return false;
    if (message.class_ == DP_STUN_INDICATION)
        return allocated && dp_turn_take_indication(turn, frame, &message, out);
    if (message.class_ != DP_STUN_REQUEST)
        dp_turn_request_input(turn, now, &message);
    return false;
}

void dp_turn_handle_timeout(dp_turn *turn, dp_time now)
{
    if (!is_alive(turn))
        return;
    if (now >= turn->keepalive_at) {
        turn->keepalive_due = !turn->busy;
        turn->busy = false;
        turn->keepalive_at = now + KEEPALIVE;
    }
    dp_turn_peers_timeout(turn, now);
    dp_turn_requests_timeout(turn, now);
}

dp_time dp_turn_next_timeout(const dp_turn *turn)
{
    if (!is_alive(turn))
        return DP_TIME_NEVER;
    dp_time next = dp_turn_requests_next(turn);
    if (turn->session_at < next && dp_turn_request_room(turn))
        next = turn->session_at;
    if (turn->state != DP_TURN_ALLOCATED)
        return next;
    dp_time peers = dp_turn_peers_next(turn);
    next = peers < next ? peers : next;
    return turn->keepalive_at < next ? turn->keepalive_at : next;
}

/* Starts what is due, the allocation itself before all. */
static void schedule(dp_turn *turn, dp_time now)
{
    if (now >= turn->session_at) {
        bool allocated = turn->state == DP_TURN_ALLOCATED;
        bool started = dp_turn_request_start(
                           turn, now, allocated ? DP_STUN_METHOD_REFRESH : DP_STUN_METHOD_ALLOCATE) != NULL;
        turn->session_at = started ? DP_TIME_NEVER : now + DP_TURN_RETRY;
    }
    if (turn->state == DP_TURN_ALLOCATED)
        dp_turn_peers_schedule(turn, now);
}

/* RFC 8489 §2: an indication has no answer, and says nothing but that we are here. */
static bool write_keepalive(dp_turn *turn, dp_datagram *out)
{
    uint8_t id[DP_STUN_TRANSACTION_LEN];
    turn->keepalive_due = false;
    if (dp_random_bytes(&turn->random, id, sizeof id) != DP_OK)
        return false;
    dp_wr wr = dp_wr_init(out->data, out->capacity);
    dp_stun_write_header(&wr, DP_STUN_INDICATION, DP_STUN_METHOD_BINDING, id);
    return dp_stun_finish(&wr, &out->length) == DP_OK;
}

bool dp_turn_poll_transmit(dp_turn *turn, dp_time now, dp_datagram *out)
{
    out->length = 0;
    if (turn->state == DP_TURN_RELEASING) {
        set_state(turn, DP_TURN_OVER);
        return dp_turn_write_release(turn, out);
    }
    if (!is_alive(turn))
        return false;
    schedule(turn, now);
    if (dp_turn_request_poll(turn, out)) {
        turn->busy = true;
        return true;
    }
    return turn->keepalive_due && write_keepalive(turn, out);
}

bool dp_turn_poll_event(dp_turn *turn, dp_turn_event *event)
{
    if (turn->allocated_due) {
        turn->allocated_due = false;
        *event = turn->allocated;
        return true;
    }
    for (size_t i = 0; i < turn->permission_count; i++) {
        dp_turn_permission *p = &turn->permissions[i];
        if (!p->tell)
            continue;
        p->tell = false;
        *event = (dp_turn_event){.type = DP_TURN_EVENT_PEER_REFUSED,
                                 .peer = p->ip,
                                 .code = p->code,
                                 .message = "the TURN server does not relay to this address"};
        return true;
    }
    if (!turn->over_due)
        return false;
    turn->over_due = false;
    *event = turn->over;
    return true;
}
