/* STUN requests in flight (RFC 8489 §6.2.1, §6.3) and the queue of messages to send. */
#include "agent.h"

#include "base/crypto.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

/* ---- transactions ---- */

/* A place for one more. With the list full, the oldest cancelled one goes; there are none or many. */
static dp_ice_transaction *place(dp_ice *ice)
{
    if (ice->transaction_count == DP_ICE_MAX_TRANSACTIONS) {
        dp_ice_transaction *oldest = NULL;
        for (size_t i = 0; i < ice->transaction_count; i++) {
            dp_ice_transaction *t = &ice->transactions[i];
            if (t->cancelled && (oldest == NULL || t->next_at < oldest->next_at))
                oldest = t;
        }
        return oldest;
    }
    void *items = ice->transactions;
    int err = dp_grow(&items, &ice->transaction_capacity, ice->transaction_count + 1, DP_ICE_MAX_TRANSACTIONS,
                      sizeof *ice->transactions);
    ice->transactions = (dp_ice_transaction *)items;
    return err == DP_OK ? &ice->transactions[ice->transaction_count++] : NULL;
}

/* A candidate may point at somebody who never asked for this: see DP_ICE_MAX_UNANSWERED. False: not sent. */
static bool send_request(dp_ice *ice, const dp_ice_transaction *t)
{
    if (t->purpose == DP_ICE_FOR_CHECK) {
        size_t remote = ice->pairs[t->pair].remote;
        if (!dp_ice_remote_may_ask(ice, remote))
            return false;
        dp_ice_remote_asked(ice, remote);
    }
    dp_ice_send(ice, &t->message);
    return true;
}

bool dp_ice_transaction_start(dp_ice *ice, dp_time now, const dp_ice_transaction *what)
{
    uint8_t id[DP_STUN_TRANSACTION_LEN];
    /* RFC 8489 §5: drawn from a CSPRNG; what makes an off-path answer impossible. */
    if (dp_random_bytes(&ice->random, id, sizeof id) != DP_OK)
        return false;
    dp_ice_transaction *t = place(ice);
    if (t == NULL)
        return false;
    *t = *what;
    memcpy(t->message.transaction, id, sizeof id);
    t->tries_left--;
    t->sent_at = now;
    t->next_at = now + t->rto;
    (void)send_request(ice, t); /* the caller has asked dp_ice_remote_may_ask */
    return true;
}

dp_ice_transaction *dp_ice_transaction_find(const dp_ice *ice, const uint8_t *id)
{
    for (size_t i = 0; i < ice->transaction_count; i++) {
        if (memcmp(ice->transactions[i].message.transaction, id, DP_STUN_TRANSACTION_LEN) == 0)
            return &ice->transactions[i];
    }
    return NULL;
}

void dp_ice_transaction_end(dp_ice *ice, dp_ice_transaction *transaction)
{
    *transaction = ice->transactions[--ice->transaction_count];
}

void dp_ice_transactions_cancel(dp_ice *ice, dp_time now, size_t pair)
{
    for (size_t i = 0; i < ice->transaction_count; i++) {
        dp_ice_transaction *t = &ice->transactions[i];
        if (t->purpose == DP_ICE_FOR_CHECK && t->pair == pair && !t->cancelled) {
            t->cancelled = true;
            t->next_at = now + DP_ICE_CANCEL_GRACE;
        }
    }
}

void dp_ice_transactions_drop(dp_ice *ice, size_t pair)
{
    for (size_t i = ice->transaction_count; i-- > 0;) {
        if (ice->transactions[i].pair == pair)
            dp_ice_transaction_end(ice, &ice->transactions[i]);
    }
}

bool dp_ice_transactions_any(const dp_ice *ice, dp_ice_purpose purpose)
{
    for (size_t i = 0; i < ice->transaction_count; i++) {
        if (ice->transactions[i].purpose == purpose)
            return true;
    }
    return false;
}

static void retransmit(dp_ice *ice, dp_time now, dp_ice_transaction *t)
{
    t->tries_left--;
    if (t->rto < DP_ICE_RTO_MAX)
        t->rto = t->rto * 2 < DP_ICE_RTO_MAX ? t->rto * 2 : DP_ICE_RTO_MAX;
    t->sent_at = 0;
    t->next_at = now + t->rto;
    if (!send_request(ice, t))
        t->tries_left = 0;
}

void dp_ice_transactions_timeout(dp_ice *ice, dp_time now)
{
    size_t i = 0;
    while (i < ice->transaction_count) {
        dp_ice_transaction *t = &ice->transactions[i];
        if (now < t->next_at) {
            i++;
        } else if (!t->cancelled && t->tries_left > 0) {
            retransmit(ice, now, t);
            i++;
        } else {
            bool check_failed = t->purpose == DP_ICE_FOR_CHECK && !t->cancelled;
            size_t pair = t->pair;
            dp_ice_transaction_end(ice, t); /* another one takes its place: i stays */
            if (check_failed)
                dp_ice_check_failed(ice, pair);
        }
    }
}

dp_time dp_ice_transactions_next(const dp_ice *ice)
{
    dp_time next = DP_TIME_NEVER;
    for (size_t i = 0; i < ice->transaction_count; i++) {
        if (ice->transactions[i].next_at < next)
            next = ice->transactions[i].next_at;
    }
    return next;
}

/* ---- sending ---- */

void dp_ice_send(dp_ice *ice, const dp_ice_outgoing *message)
{
    dp_ice_outgoing *slot = dp_queue_push(&ice->outgoing);
    if (slot == NULL) {
        ice->stats.dropped_limit++; /* as if the network had lost it */
        return;
    }
    *slot = *message;
}

static void write_request(const dp_ice *ice, const dp_ice_outgoing *message, dp_wr *wr)
{
    char username[DP_ICE_REMOTE_UFRAG_MAX + 1 + DP_ICE_UFRAG_LEN + 1];
    const dp_ice_previous *old = message->previous ? ice->previous : NULL;
    const char *pwd = old != NULL ? old->remote_pwd : ice->remote_pwd;
    /* RFC 8445 §7.2.2: the peer's ufrag first, its password is the key. */
    int n = snprintf(username, sizeof username, "%s:%s", old != NULL ? old->remote_ufrag : ice->remote_ufrag,
                     old != NULL ? old->local_ufrag : ice->local_ufrag);
    dp_stun_write_attribute(wr, DP_STUN_USERNAME, username, (size_t)n);
    dp_stun_write_u64(wr,
                      message->role == DP_ICE_CONTROLLING ? DP_STUN_ICE_CONTROLLING : DP_STUN_ICE_CONTROLLED,
                      message->tie_breaker);
    if (message->use_candidate)
        dp_stun_write_attribute(wr, DP_STUN_USE_CANDIDATE, "", 0);
    dp_stun_write_u32(wr, DP_STUN_PRIORITY, message->priority);
    dp_stun_write_integrity(wr, pwd, strlen(pwd));
    dp_stun_write_fingerprint(wr);
}

static void write_response(const dp_ice *ice, const dp_ice_outgoing *message, dp_wr *wr)
{
    if (message->class_ == DP_STUN_SUCCESS) {
        dp_stun_write_xor_mapped_address(wr, &message->remote);
    } else {
        const char *reason = message->error_code == DP_STUN_CODE_ROLE_CONFLICT       ? "Role Conflict"
                             : message->error_code == DP_STUN_CODE_UNKNOWN_ATTRIBUTE ? "Unknown Attribute"
                                                                                     : "Bad Request";
        dp_stun_write_error_code(wr, message->error_code, reason);
        if (message->unknown_count > 0)
            dp_stun_write_unknown_attributes(wr, message->unknown, message->unknown_count);
    }
    const char *pwd = message->previous ? ice->previous->local_pwd : ice->local_pwd;
    dp_stun_write_integrity(wr, pwd, DP_ICE_PWD_LEN);
    dp_stun_write_fingerprint(wr);
}

bool dp_ice_write(dp_ice *ice, const dp_ice_outgoing *message, dp_datagram *out)
{
    size_t headroom;
    if (!dp_ice_carrier(ice, message->base, &message->remote, &out->link, &headroom) ||
        headroom > out->capacity)
        return false;
    dp_wr wr = dp_wr_init(out->data + headroom, out->capacity - headroom);
    dp_stun_write_header(&wr, message->class_, DP_STUN_METHOD_BINDING, message->transaction);
    if (message->class_ == DP_STUN_REQUEST && !message->plain)
        write_request(ice, message, &wr);
    else if (message->class_ != DP_STUN_REQUEST)
        write_response(ice, message, &wr);
    out->local = ice->locals[message->base].address;
    out->remote = message->remote;
    return dp_stun_finish(&wr, &out->length) == DP_OK &&
           dp_ice_carrier_wrap(ice, message->base, &message->remote, out, headroom);
}
