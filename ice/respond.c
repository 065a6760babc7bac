/* The peer's checks: who may ask, what it is answered, which checks of ours follow (RFC 8445 §7.3). */
#include "agent.h"

#include "base/mem.h"

#include <string.h>

/* ---- checks that come before the remote credentials ---- */

/* One place for each path: the peer repeats its check, and the last one is the one that it still waits for.
 */
static void early_keep(dp_ice *ice, const dp_stun_message *message, size_t base, const dp_address *remote)
{
    dp_ice_early *slot = NULL;
    for (size_t i = 0; i < ice->early_count && slot == NULL; i++) {
        if (ice->early[i].base == base && dp_address_equal(&ice->early[i].remote, remote))
            slot = &ice->early[i];
    }
    if (slot == NULL && ice->early_count == DP_ICE_MAX_EARLY) {
        ice->stats.dropped_limit++;
        return;
    }
    uint8_t *copy = dp_alloc(message->len);
    if (copy == NULL) {
        ice->stats.dropped_limit++;
        return;
    }
    memcpy(copy, message->data, message->len);
    if (slot == NULL)
        slot = &ice->early[ice->early_count++];
    dp_free(slot->data);
    *slot = (dp_ice_early){.base = (uint8_t)base, .remote = *remote, .len = message->len, .data = copy};
}

void dp_ice_early_clear(dp_ice *ice)
{
    for (size_t i = 0; i < ice->early_count; i++) {
        dp_free(ice->early[i].data);
        ice->early[i].data = NULL;
    }
    ice->early_count = 0;
}

void dp_ice_early_replay(dp_ice *ice, dp_time now)
{
    for (size_t i = 0; i < ice->early_count; i++) {
        const dp_ice_early *early = &ice->early[i];
        dp_ice_payload none;
        if (dp_ice_is_base(&ice->locals[early->base]))
            (void)dp_ice_arrived(ice, now, early->data, early->len, early->base, &early->remote, &none);
    }
    dp_ice_early_clear(ice);
}

/* ---- who may ask ---- */

bool dp_ice_username_is(const dp_stun_message *message, const char *local_ufrag, const char *remote_ufrag)
{
    size_t prefix = DP_ICE_UFRAG_LEN + 1;
    if (message->username == NULL || message->username_len <= prefix ||
        memcmp(message->username, local_ufrag, DP_ICE_UFRAG_LEN) != 0 || message->username[prefix - 1] != ':')
        return false;
    size_t rest = message->username_len - prefix;
    return remote_ufrag[0] == '\0' ||
           (rest == strlen(remote_ufrag) && memcmp(message->username + prefix, remote_ufrag, rest) == 0);
}

/* RFC 8489 §9.1.3 would answer 400 and 401. Silence gives a scanner nothing and amplifies nothing. */
static bool authorized(dp_ice *ice, const dp_stun_message *message)
{
    if (dp_ice_username_is(message, ice->local_ufrag, ice->remote_ufrag) &&
        dp_stun_check_integrity(message, ice->local_pwd, DP_ICE_PWD_LEN) == DP_OK)
        return true;
    ice->stats.dropped_unauthorized++;
    DP_ICE_LOG(ice, DP_LOG_DEBUG, "unauthorized check dropped");
    return false;
}

/* ---- answers ---- */

dp_ice_outgoing dp_ice_answer_to(const dp_stun_message *message, dp_stun_class class_, size_t base,
                                 const dp_address *remote)
{
    dp_ice_outgoing answer = {.class_ = class_, .base = (uint8_t)base, .remote = *remote};
    memcpy(answer.transaction, message->transaction, sizeof answer.transaction);
    return answer;
}

/* The error code to answer with, 0 for none. RFC 8489 §6.3.1, RFC 8445 §7.3.1.1. */
static unsigned refusal(dp_ice *ice, const dp_stun_message *message)
{
    if (message->unknown_count > 0)
        return DP_STUN_CODE_UNKNOWN_ATTRIBUTE;
    if (!message->has_priority)
        return DP_STUN_CODE_BAD_REQUEST;
    bool conflict = ice->role == DP_ICE_CONTROLLING ? message->has_controlling : message->has_controlled;
    if (!conflict)
        return 0;
    /* The larger tie-breaker controls; equal ones count as larger on the side that looks. */
    ice->stats.role_conflicts++;
    if (ice->lite) /* it can't control: the peer has to */
        return DP_STUN_CODE_ROLE_CONFLICT;
    bool ours = ice->tie_breaker >= message->tie_breaker;
    if (ours == (ice->role == DP_ICE_CONTROLLING))
        return DP_STUN_CODE_ROLE_CONFLICT;
    dp_ice_switch_role(ice, ours ? DP_ICE_CONTROLLING : DP_ICE_CONTROLLED);
    return 0;
}

/* RFC 8445 §7.3.1.4 */
static void trigger(dp_ice *ice, dp_time now, size_t index)
{
    if (ice->pairs[index].state == DP_ICE_PAIR_SUCCEEDED)
        return;
    dp_ice_transactions_cancel(ice, now, index);
    dp_ice_pair_set_state(ice, index, DP_ICE_PAIR_WAITING);
    dp_ice_trigger(ice, index);
}

/* The pair on which the check came; made, with its remote candidate, if it is new. -1: no room. */
static int pair_of(dp_ice *ice, dp_time now, const dp_stun_message *message, size_t base,
                   const dp_address *remote)
{
    /* what comes to a passive candidate was sent from an active one, and so on */
    static const dp_tcptype other[] = {[DP_TCPTYPE_NONE] = DP_TCPTYPE_NONE,
                                       [DP_TCPTYPE_ACTIVE] = DP_TCPTYPE_PASSIVE,
                                       [DP_TCPTYPE_PASSIVE] = DP_TCPTYPE_ACTIVE};
    dp_tcptype tcp = other[ice->locals[base].tcp];
    int remote_index = dp_ice_remote_find(ice, remote, tcp);
    size_t before = ice->pair_count;
    if (remote_index < 0)
        remote_index = dp_ice_remote_learn(ice, now, remote, tcp, message->priority);
    int pair = remote_index < 0 ? -1 : dp_ice_pair_get(ice, base, (size_t)remote_index);
    if (pair < 0) {
        ice->stats.dropped_limit++;
    } else if (ice->pair_count > before) {
        dp_ice_expect_until(ice, now + DP_ICE_LATE);
        dp_ice_permit(ice, now, &ice->pairs[pair]);
    }
    return pair;
}

/* A lite agent sends no checks: the peer's prove the path, and are its consent (RFC 7675 §5.1 leaves that to full
 * agents). */
static void lite_heard(dp_ice *ice, dp_time now, size_t index)
{
    dp_ice_pair *pair = &ice->pairs[index];
    pair->valid = true;
    pair->answered_at = now;
    dp_ice_pair_set_state(ice, index, DP_ICE_PAIR_SUCCEEDED);
}

static void refuse(dp_ice *ice, const dp_stun_message *message, size_t base, const dp_address *remote,
                   unsigned code)
{
    dp_ice_outgoing answer = dp_ice_answer_to(message, DP_STUN_ERROR, base, remote);
    answer.error_code = (uint16_t)code;
    answer.unknown_count = (uint8_t)message->unknown_count;
    memcpy(answer.unknown, message->unknown, sizeof answer.unknown);
    dp_ice_send(ice, &answer);
}

static void accept_check(dp_ice *ice, dp_time now, const dp_stun_message *message, size_t base,
                         const dp_address *remote)
{
    int index = pair_of(ice, now, message, base, remote);
    if (index < 0)
        return; /* no answer either: a pair that the peer finds valid would carry data that we drop */
    dp_ice_outgoing answer = dp_ice_answer_to(message, DP_STUN_SUCCESS, base, remote);
    dp_ice_send(ice, &answer);
    dp_ice_pair *pair = &ice->pairs[index];
    if (index != ice->active && now >= pair->heard_at + DP_ICE_SILENCE)
        dp_ice_doubt(ice, now);
    pair->checked_by_peer = true;
    pair->heard_at = now;
    dp_ice_remote_asks(ice, pair->remote);
    if (ice->lite)
        lite_heard(ice, now, (size_t)index);
    else
        trigger(ice, now, (size_t)index);
    if (message->use_candidate && ice->role == DP_ICE_CONTROLLED) {
        pair->named_at = now;
        if (pair->valid)
            dp_ice_nominate(ice, (size_t)index);
        else
            pair->nominate = true; /* RFC 8445 §7.3.1.5 */
    }
    dp_ice_select(ice, now);
}

void dp_ice_request(dp_ice *ice, dp_time now, const dp_stun_message *message, size_t base,
                    const dp_address *remote)
{
    /* Behind a relay the peer must not find us by asking where it guesses us: not even an error is answered. */
    if (ice->relay_only && ice->locals[base].type != DP_CANDIDATE_RELAY) {
        ice->stats.dropped_unexpected++;
        return;
    }
    if (dp_ice_previous_request(ice, now, message, base, remote) || !authorized(ice, message))
        return;
    if (!ice->running) {
        early_keep(ice, message, base, remote);
        return;
    }
    unsigned code = refusal(ice, message);
    if (code != 0)
        refuse(ice, message, base, remote, code);
    else
        accept_check(ice, now, message, base, remote);
}
