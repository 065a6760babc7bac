/* Requests to a TURN server: one slot each, retransmission (RFC 8489 §6.2), long-term credentials (§9.2). */
#include "turn_state.h"

#include "base/mem.h"

#include <string.h>

#define RTO          DP_MS(500)   /* RFC 8489 §6.2.1 */
#define SENDS        7            /* Rc */
#define LAST_WAIT    (16 * RTO)   /* Rm */
#define STREAM_WAIT  DP_MS(39500) /* Ti, §6.2.2: as long as the seven take over UDP */
#define STREAM_TRIES 3u           /* share it, see ask_anew */
#define PROTOCOL_UDP 17u

/* ---- slots ---- */

bool dp_turn_request_room(const dp_turn *turn)
{
    for (size_t i = 0; i < DP_TURN_MAX_REQUESTS; i++) {
        if (turn->requests[i].method == 0)
            return true;
    }
    return false;
}

void dp_turn_requests_clear(dp_turn *turn) { memset(turn->requests, 0, sizeof turn->requests); }

/* A second Allocate would be answered with 437 (RFC 8656 §7.2); all else says the same thing twice. */
static bool may_repeat(const dp_turn_request *r) { return r->method != DP_STUN_METHOD_ALLOCATE; }

/* A new transaction in the slot. False: no randomness; the slot is as it was. */
static bool begin(dp_turn *turn, dp_time now, dp_turn_request *r)
{
    uint8_t id[DP_STUN_TRANSACTION_LEN];
    /* RFC 8489 §5: from a CSPRNG, which is what keeps others than the server from answering. */
    if (dp_random_bytes(&turn->random, id, sizeof id) != DP_OK)
        return false;
    memcpy(r->transaction, id, sizeof id);
    r->to_send = true;
    r->authenticated = false;
    r->sends_left = turn->reliable ? 0 : SENDS - 1;
    r->rto = RTO;
    r->next_at = now + (turn->reliable ? STREAM_WAIT / (may_repeat(r) ? STREAM_TRIES : 1) : RTO);
    return true;
}

dp_turn_request *dp_turn_request_start(dp_turn *turn, dp_time now, unsigned method)
{
    for (size_t i = 0; i < DP_TURN_MAX_REQUESTS; i++) {
        dp_turn_request *r = &turn->requests[i];
        if (r->method != 0)
            continue;
        *r = (dp_turn_request){.method = method};
        if (begin(turn, now, r))
            return r;
        r->method = 0;
        return NULL;
    }
    return NULL;
}

/* A stream loses nothing and STUN repeats nothing on it (RFC 8489 §6.2.2), but the owner drops whole frames while the
 * stream is full (ice.h). So an answer that does not come is asked for by another request. */
static bool ask_anew(dp_turn *turn, dp_time now, dp_turn_request *r)
{
    return turn->reliable && may_repeat(r) && ++r->repeats < STREAM_TRIES && begin(turn, now, r);
}

void dp_turn_requests_timeout(dp_turn *turn, dp_time now)
{
    for (size_t i = 0; i < DP_TURN_MAX_REQUESTS; i++) {
        dp_turn_request *r = &turn->requests[i];
        if (r->method == 0 || now < r->next_at)
            continue;
        if (r->sends_left == 0 && ask_anew(turn, now, r))
            continue;
        if (r->sends_left == 0) { /* a server that lets one request go unanswered is gone for all */
            dp_turn_fail(turn, 0, NULL);
            return;
        }
        r->sends_left--;
        r->rto *= 2;
        r->next_at = now + (r->sends_left == 0 ? LAST_WAIT : r->rto);
        r->to_send = true;
    }
}

dp_time dp_turn_requests_next(const dp_turn *turn)
{
    dp_time next = DP_TIME_NEVER;
    for (size_t i = 0; i < DP_TURN_MAX_REQUESTS; i++) {
        if (turn->requests[i].method != 0 && turn->requests[i].next_at < next)
            next = turn->requests[i].next_at;
    }
    return next;
}

/* ---- writing ---- */

static void write_credentials(const dp_turn *turn, dp_wr *wr)
{
    if (!turn->has_key)
        return;
    dp_stun_write_attribute(wr, DP_STUN_USERNAME, turn->username, strlen(turn->username));
    dp_stun_write_attribute(wr, DP_STUN_REALM, turn->realm, turn->realm_len);
    dp_stun_write_attribute(wr, DP_STUN_NONCE, turn->nonce, turn->nonce_len);
    dp_stun_write_integrity(wr, turn->key, sizeof turn->key);
}

/* RFC 8656 §7.1. IPv6 comes as an extra, if the server knows how: it may skip the attribute. Coturn (4.6) has the
 * number that a draft gave it. */
static void write_allocate(const dp_turn *turn, dp_wr *wr)
{
    dp_stun_write_u32(wr, DP_STUN_REQUESTED_TRANSPORT, PROTOCOL_UDP << 24);
    if (turn->ask_ipv6) {
        dp_stun_write_family(wr, DP_STUN_REQUESTED_ADDRESS_FAMILY, DP_STUN_FAMILY_IPV6);
    } else {
        dp_stun_write_family(wr, DP_STUN_ADDITIONAL_ADDRESS_FAMILY, DP_STUN_FAMILY_IPV6);
        dp_stun_write_family(wr, DP_STUN_ADDITIONAL_ADDRESS_FAMILY_DRAFT, DP_STUN_FAMILY_IPV6);
    }
    if (turn->software != NULL)
        dp_stun_write_attribute(wr, DP_STUN_SOFTWARE, turn->software, strlen(turn->software));
}

static bool write_request(dp_turn *turn, dp_turn_request *r, dp_datagram *out)
{
    dp_wr wr = dp_wr_init(out->data, out->capacity);
    dp_stun_write_header(&wr, DP_STUN_REQUEST, r->method, r->transaction);
    if (r->method == DP_STUN_METHOD_ALLOCATE)
        write_allocate(turn, &wr);
    else if (r->method != DP_STUN_METHOD_REFRESH)
        dp_turn_write_peers(turn, r, &wr);
    write_credentials(turn, &wr);
    r->authenticated = turn->has_key;
    return dp_stun_finish(&wr, &out->length) == DP_OK;
}

/* What can't be written is lost, as if on the way: its timer goes on. */
bool dp_turn_request_poll(dp_turn *turn, dp_datagram *out)
{
    for (size_t i = 0; i < DP_TURN_MAX_REQUESTS; i++) {
        dp_turn_request *r = &turn->requests[i];
        if (r->method == 0 || !r->to_send)
            continue;
        r->to_send = false;
        if (write_request(turn, r, out))
            return true;
    }
    return false;
}

bool dp_turn_write_release(dp_turn *turn, dp_datagram *out)
{
    uint8_t id[DP_STUN_TRANSACTION_LEN];
    if (dp_random_bytes(&turn->random, id, sizeof id) != DP_OK)
        return false;
    dp_wr wr = dp_wr_init(out->data, out->capacity);
    dp_stun_write_header(&wr, DP_STUN_REQUEST, DP_STUN_METHOD_REFRESH, id);
    dp_stun_write_u32(&wr, DP_STUN_LIFETIME, 0);
    write_credentials(turn, &wr);
    return dp_stun_finish(&wr, &out->length) == DP_OK;
}

/* ---- credentials ---- */

/* RFC 8489 §9.2.2: key = MD5(username ":" realm ":" password). A server that could do SHA-256, too, takes this from
 * a client that does not name an algorithm (§9.2.4). */
static int make_key(dp_turn *turn)
{
    uint8_t text[2 * DP_ICE_CREDENTIAL_MAX + DP_STUN_REALM_MAX + 2];
    size_t len = 0;
    dp_wr wr = dp_wr_init(text, sizeof text);
    dp_wr_text(&wr, turn->username);
    dp_wr_u8(&wr, ':');
    dp_wr_bytes(&wr, turn->realm, turn->realm_len);
    dp_wr_u8(&wr, ':');
    dp_wr_text(&wr, turn->credential);
    int err = dp_wr_finish(&wr, &len);
    if (err == DP_OK)
        err = dp_md5(turn->key, text, len);
    dp_wipe(text, sizeof text);
    turn->has_key = err == DP_OK;
    return err;
}

/* 401: who are you; 438: the nonce is too old (RFC 8489 §9.2.5). Again with what the answer says, unless it says
 * nothing new: then the credentials are wrong. */
static void challenged(dp_turn *turn, dp_time now, dp_turn_request *r, const dp_stun_message *answer)
{
    bool same_nonce = answer->nonce != NULL && answer->nonce_len == turn->nonce_len &&
                      memcmp(answer->nonce, turn->nonce, turn->nonce_len) == 0;
    if (answer->nonce == NULL || (answer->realm == NULL && !turn->has_key)) {
        dp_turn_fail(turn, answer->error_code,
                     "the TURN server asks for credentials without realm and nonce");
        return;
    }
    if ((r->authenticated && same_nonce && answer->error_code == DP_STUN_CODE_UNAUTHENTICATED) ||
        r->challenges == DP_TURN_MAX_CHALLENGES) {
        dp_turn_fail(turn, answer->error_code, NULL);
        return;
    }
    r->challenges++;
    turn->nonce_len = answer->nonce_len; /* the decoder has checked both lengths */
    memcpy(turn->nonce, answer->nonce, answer->nonce_len);
    if (answer->realm != NULL) {
        turn->realm_len = answer->realm_len;
        memcpy(turn->realm, answer->realm, answer->realm_len);
    }
    if (make_key(turn) != DP_OK)
        dp_turn_fail(turn, answer->error_code, "the key of the TURN credentials can't be computed");
    else
        (void)begin(turn, now, r); /* without randomness the old transaction goes on */
}

/* ---- answers ---- */

static dp_turn_request *find(dp_turn *turn, const dp_stun_message *answer)
{
    for (size_t i = 0; i < DP_TURN_MAX_REQUESTS; i++) {
        dp_turn_request *r = &turn->requests[i];
        if (r->method != 0 && r->method == answer->method &&
            memcmp(r->transaction, answer->transaction, DP_STUN_TRANSACTION_LEN) == 0)
            return r;
    }
    return NULL;
}

/* RFC 8489 §9.2.5: an answer to a request with credentials has integrity, except the two that say which to use.
 * One to a request without can't have it. */
static bool is_authentic(const dp_turn *turn, const dp_turn_request *r, const dp_stun_message *answer)
{
    return !r->authenticated || answer->error_code == DP_STUN_CODE_UNAUTHENTICATED ||
           answer->error_code == DP_STUN_CODE_STALE_NONCE ||
           dp_stun_check_integrity(answer, turn->key, sizeof turn->key) == DP_OK;
}

void dp_turn_request_input(dp_turn *turn, dp_time now, const dp_stun_message *answer)
{
    dp_turn_request *r = find(turn, answer);
    bool is_error = answer->class_ == DP_STUN_ERROR;
    /* §6.3.3, §6.3.4: an answer that can't be understood is dropped; the request ends by its timer. */
    if (r == NULL || is_error != (answer->error_code != 0) || answer->unknown_count > 0)
        return;
    if (!is_authentic(turn, r, answer)) {
        DP_TURN_LOG(turn, DP_LOG_WARN, "an answer of the TURN server without integrity is dropped");
        return;
    }
    if (answer->error_code == DP_STUN_CODE_UNAUTHENTICATED ||
        answer->error_code == DP_STUN_CODE_STALE_NONCE) {
        challenged(turn, now, r, answer);
        return;
    }
    if (r->method == DP_STUN_METHOD_ALLOCATE || r->method == DP_STUN_METHOD_REFRESH)
        dp_turn_session_answered(turn, now, r->method, answer);
    else
        dp_turn_peers_answered(turn, now, r, answer);
    r->method = 0;
}
