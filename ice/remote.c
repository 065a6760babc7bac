/* The remote side: credentials, signalled candidates (trickled, RFC 8838) and peer-reflexive ones. */
#include "agent.h"

#include "base/mem.h"
#include "candidate.h"

#include <stdio.h>
#include <string.h>

bool dp_ice_has_remote(const dp_ice *ice) { return ice->remote_ufrag[0] != '\0'; }

int dp_ice_remote_find(const dp_ice *ice, const dp_address *address, dp_tcptype tcp)
{
    for (size_t i = 0; i < ice->remote_count; i++) {
        if (ice->remotes[i].tcp == tcp && dp_address_equal(&ice->remotes[i].address, address))
            return (int)i;
    }
    return -1;
}

dp_address dp_ice_remote_address(const dp_ice *ice, const dp_ice_pair *pair)
{
    dp_address address = ice->remotes[pair->remote].address;
    if (dp_address_is_link_local(&address) && address.scope == 0)
        address.scope = ice->locals[pair->local].address.scope;
    return address;
}

void dp_ice_expect_until(dp_ice *ice, dp_time until)
{
    if (ice->fail_at < until)
        ice->fail_at = until;
}

/* Index of a new entry, -1 if there is no memory. Its caller has checked the caps. */
static int remote_add(dp_ice *ice, const dp_ice_remote *remote)
{
    void *items = ice->remotes;
    int err = dp_grow(&items, &ice->remote_capacity, ice->remote_count + 1,
                      DP_ICE_MAX_REMOTE + DP_ICE_MAX_PRFLX, sizeof *remote);
    ice->remotes = (dp_ice_remote *)items;
    if (err != DP_OK)
        return -1;
    ice->remotes[ice->remote_count] = *remote;
    return (int)ice->remote_count++;
}

/* ---- peer-reflexive ---- */

/* With all places taken: that of the one that has been of no use for longest (a NAT that gives new ports now and
 * then would use them up in a long call). -1: all are of use. */
static int forgettable(const dp_ice *ice, dp_time now)
{
    int oldest = -1;
    dp_time oldest_at = DP_TIME_NEVER;
    for (size_t i = 0; i < ice->remote_count; i++) {
        dp_time at = 0;
        bool in_use = !ice->remotes[i].learnt;
        for (size_t k = 0; k < ice->pair_count && !in_use; k++) {
            const dp_ice_pair *pair = &ice->pairs[k];
            if (pair->remote != i)
                continue;
            in_use = pair->valid || pair->triggered != 0;
            at = pair->heard_at > at ? pair->heard_at : at;
        }
        if (!in_use && now >= at + DP_ICE_CONSENT_EXPIRY && at < oldest_at) {
            oldest = (int)i;
            oldest_at = at;
        }
    }
    return oldest;
}

/* What was sent in vain is not forgotten: it passes to another entry of the old one's IP address or, if there is none,
 * with the place to the new one. So the sum has a bound, however many addresses a peer makes up. */
static void replace(dp_ice *ice, size_t index, const dp_ice_remote *remote)
{
    dp_ice_remote old = ice->remotes[index];
    ice->remotes[index] = *remote;
    dp_ice_remote *heir = &ice->remotes[index];
    for (size_t i = 0; i < ice->remote_count; i++) {
        if (dp_address_same_ip(&ice->remotes[i].address, &old.address)) {
            heir = &ice->remotes[i];
            heir->answered = heir->answered || old.answered;
            break;
        }
    }
    heir->unanswered += old.unanswered;
}

/* RFC 8445 §7.3.1.3. The foundation must differ from every other: '*' is no ice-char, so no peer can name it.
 */
int dp_ice_remote_learn(dp_ice *ice, dp_time now, const dp_address *address, dp_tcptype tcp,
                        uint32_t priority)
{
    if (!dp_address_is_unicast(address))
        return -1;
    dp_ice_remote remote = {.type = DP_CANDIDATE_PRFLX,
                            .priority = priority,
                            .learnt = true,
                            .tcp = (uint8_t)tcp,
                            .address = *address};
    (void)snprintf(remote.foundation, sizeof remote.foundation, "*%zu", ice->prflx_serial++);
    if (ice->prflx_count < DP_ICE_MAX_PRFLX) {
        int index = remote_add(ice, &remote);
        ice->prflx_count += index >= 0;
        return index;
    }
    int index = forgettable(ice, now);
    if (index >= 0) {
        for (size_t i = 0; i < ice->pair_count; i++) {
            if (ice->pairs[i].remote == index)
                dp_ice_pair_end(ice, i); /* while the old address is there */
        }
        replace(ice, (size_t)index, &remote);
        dp_ice_pairs_renew(ice, now, DP_ICE_ANY, (size_t)index);
    }
    return index;
}

/* ---- who has answered ---- */

void dp_ice_remote_answered(dp_ice *ice, size_t remote) { ice->remotes[remote].answered = true; }

bool dp_ice_remote_may_ask(const dp_ice *ice, size_t remote)
{
    unsigned unanswered = 0;
    for (size_t i = 0; i < ice->remote_count; i++) {
        if (!dp_address_same_ip(&ice->remotes[i].address, &ice->remotes[remote].address))
            continue;
        if (ice->remotes[i].answered)
            return true;
        unanswered += ice->remotes[i].unanswered;
    }
    return unanswered < DP_ICE_MAX_UNANSWERED;
}

void dp_ice_remote_asked(dp_ice *ice, size_t remote)
{
    if (!ice->remotes[remote].answered)
        ice->remotes[remote].unanswered++;
}

/* Else the checks of a search that began long before the peer's side did would be the last to a NAT with many ports. */
void dp_ice_remote_asks(dp_ice *ice, size_t remote)
{
    for (size_t i = 0; i < ice->remote_count; i++) {
        dp_ice_remote *other = &ice->remotes[i];
        if (other->unanswered > 0 && dp_address_same_ip(&other->address, &ice->remotes[remote].address)) {
            other->unanswered--;
            return;
        }
    }
}

/* ---- signalled ---- */

/* Why a well-formed candidate is of no use; NULL if it is. */
static const char *useless(const dp_ice *ice, const dp_candidate *candidate)
{
    if (candidate->tcp && candidate->tcptype != DP_TCPTYPE_PASSIVE)
        return "TCP that can't be connected to";
    if (candidate->tcp && (!ice->tcp || ice->lite))
        return "TCP";
    if (candidate->component != 1)
        return "not component 1";
    if (candidate->ufrag[0] != '\0' && strcmp(candidate->ufrag, ice->remote_ufrag) != 0)
        return "of another ufrag";
    if (!dp_address_is_unicast(&candidate->address))
        return "no address that a peer can have";
    if (ice->remote_count - ice->prflx_count >= DP_ICE_MAX_REMOTE)
        return "over the limit";
    return NULL;
}

static void skip(dp_ice *ice, const char *why)
{
    ice->stats.candidates_skipped++;
    DP_ICE_LOG(ice, DP_LOG_DEBUG, "remote candidate skipped: %s", why);
}

/* RFC 8838 §11.2 ends the doubt about a peer-reflexive candidate: its real type and priority are known now.
 */
static void identify(dp_ice *ice, dp_ice_remote *known, const dp_ice_remote *signalled)
{
    if (!known->learnt)
        return;
    known->learnt = false;
    known->type = signalled->type;
    known->priority = signalled->priority;
    memcpy(known->foundation, signalled->foundation, sizeof known->foundation);
    ice->prflx_count--;
    dp_ice_pairs_prioritise(ice);
}

int dp_ice_remote_take(dp_ice *ice, dp_time now, const dp_candidate *candidate)
{
    const char *why = useless(ice, candidate);
    if (why != NULL) {
        skip(ice, why);
        return DP_OK;
    }
    dp_tcptype tcp = candidate->tcp ? candidate->tcptype : DP_TCPTYPE_NONE;
    dp_ice_remote remote = {.type = candidate->type,
                            .priority = candidate->priority,
                            .tcp = (uint8_t)tcp,
                            .address = candidate->address};
    memcpy(remote.foundation, candidate->foundation, sizeof remote.foundation);
    int known = dp_ice_remote_find(ice, &remote.address, tcp);
    if (known >= 0) {
        identify(ice, &ice->remotes[known], &remote);
        dp_ice_pairs_form(ice, now, (size_t)known);
        return DP_OK;
    }
    int index = remote_add(ice, &remote);
    if (index < 0)
        return DP_ERR_NO_MEMORY;
    dp_ice_pairs_form(ice, now, (size_t)index);
    return DP_OK;
}

static int hold(dp_ice *ice, const char *text)
{
    if (ice->held.count == DP_ICE_MAX_REMOTE) {
        skip(ice, "over the limit");
        return DP_OK;
    }
    char *copy = dp_strdup(text);
    char **slot = copy == NULL ? NULL : dp_queue_push(&ice->held);
    if (slot == NULL) {
        dp_free(copy);
        return DP_ERR_NO_MEMORY;
    }
    *slot = copy;
    return DP_OK;
}

void dp_ice_texts_clear(dp_queue *texts)
{
    char *text = NULL;
    while (dp_queue_pop(texts, &text))
        dp_free(text);
    dp_queue_clear(texts);
}

/* A name leads to an address of the peer's own network, so a relay has no use for it. */
static int add_candidate(dp_ice *ice, dp_time now, const dp_candidate *candidate, const char *text)
{
    bool other = candidate->ufrag[0] != '\0' && strcmp(candidate->ufrag, ice->remote_ufrag) != 0;
    if (candidate->hostname[0] == '\0' || (candidate->tcp && !ice->tcp) || other)
        return dp_ice_remote_take(ice, now, candidate);
    int err = ice->relay_only || ice->lite ? DP_ERR_LIMIT : dp_ice_name_wait(ice, text);
    if (err != DP_ERR_LIMIT)
        return err;
    skip(ice, "a host name, and nobody to ask or too many of them");
    return DP_OK;
}

int dp_ice_add_remote_candidate(dp_ice *ice, dp_time now, const char *text)
{
    dp_candidate candidate;
    if (!dp_ice_alive(ice))
        return DP_OK;
    if (text == NULL || text[0] == '\0') {
        ice->end_of_candidates = true;
        return DP_OK;
    }
    size_t len = strlen(text);
    int err = len >= DP_CANDIDATE_TEXT_MAX ? DP_ERR_MALFORMED : dp_candidate_parse(&candidate, text, len);
    if (err == DP_ERR_UNSUPPORTED) {
        skip(ice, "unknown transport or type");
        return DP_OK;
    }
    if (err != DP_OK)
        return err;
    if (!dp_ice_has_remote(ice))
        return hold(ice, text);
    err = add_candidate(ice, now, &candidate, text);
    dp_ice_pace(ice, now);
    return err;
}

void dp_ice_begin(dp_ice *ice, dp_time now)
{
    if (ice->running || !ice->gathering || !dp_ice_has_remote(ice))
        return;
    ice->running = true;
    if (!dp_ice_previous_alive(ice))
        dp_ice_set_state(ice, DP_ICE_CHECKING);
    ice->patience_at = now + DP_ICE_PATIENCE;
    ice->fail_at = now + DP_ICE_CHECKING_MAX;
    for (size_t i = 0; i < ice->remote_count; i++)
        dp_ice_pairs_form(ice, now, i);
    char *text = NULL;
    while (dp_queue_pop(&ice->held, &text)) {
        if (dp_ice_add_remote_candidate(ice, now, text) != DP_OK)
            DP_ICE_LOG(ice, DP_LOG_WARN, "out of memory: a remote candidate is lost");
        dp_free(text);
    }
    dp_ice_early_replay(ice, now);
    dp_ice_pace(ice, now);
}

void dp_ice_set_remote_lite(dp_ice *ice)
{
    if (ice->running)
        return;
    ice->remote_lite = true;
    if (!ice->lite)
        ice->role = DP_ICE_CONTROLLING;
}

int dp_ice_set_remote_credentials(dp_ice *ice, dp_time now, const char *ufrag, const char *pwd)
{
    if (ufrag == NULL || pwd == NULL ||
        !dp_ice_chars_valid(ufrag, strlen(ufrag), 4, DP_ICE_REMOTE_UFRAG_MAX) ||
        !dp_ice_chars_valid(pwd, strlen(pwd), 22, DP_ICE_REMOTE_PWD_MAX))
        return DP_ERR_INVALID_ARGUMENT;
    if (!dp_ice_alive(ice))
        return DP_ERR_INVALID_STATE;
    if (dp_ice_has_remote(ice)) /* other ones need dp_ice_restart first */
        return strcmp(ufrag, ice->remote_ufrag) == 0 && strcmp(pwd, ice->remote_pwd) == 0
                   ? DP_OK
                   : DP_ERR_INVALID_STATE;
    memcpy(ice->remote_ufrag, ufrag, strlen(ufrag) + 1);
    memcpy(ice->remote_pwd, pwd, strlen(pwd) + 1);
    dp_ice_begin(ice, now);
    return DP_OK;
}
