/* Host names in candidates: names that hide our addresses, and the peer's, which the owner resolves (mDNS ICE
 * candidates: draft-ietf-mmusic-mdns-ice-candidates; names under .local: RFC 6762). */
#include "agent.h"

#include "base/crypto.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---- ours ---- */

/* A version 4 UUID (RFC 9562 §5.4) made from a secret and the address: the same for the same address, as the
 * draft's §3.1.1 wants it, and without a table. */
int dp_ice_hidden_name(const dp_ice *ice, const dp_address *address, char name[DP_ICE_HIDDEN_NAME_LEN + 1])
{
    uint8_t u[DP_SHA1_LEN];
    int err = dp_hmac_sha1(u, ice->hide_key, sizeof ice->hide_key, address->ip, sizeof address->ip);
    if (err != DP_OK)
        return err;
    u[6] = (uint8_t)((u[6] & 0x0F) | 0x40);
    u[8] = (uint8_t)((u[8] & 0x3F) | 0x80);
    (void)snprintf(name, DP_ICE_HIDDEN_NAME_LEN + 1,
                   "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x.local", u[0], u[1],
                   u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
    return DP_OK;
}

/* ---- the peer's ---- */

int dp_ice_name_wait(dp_ice *ice, const char *text)
{
    if (ice->unresolved.count == DP_ICE_MAX_UNRESOLVED)
        return DP_ERR_LIMIT;
    char *copy = dp_strdup(text);
    char **slot = copy == NULL ? NULL : dp_queue_push(&ice->unresolved);
    if (slot == NULL) {
        dp_free(copy);
        return DP_ERR_NO_MEMORY;
    }
    *slot = copy;
    return DP_OK;
}

void dp_ice_names_clear(dp_ice *ice)
{
    dp_ice_texts_clear(&ice->unresolved);
    ice->resolve_next = 0;
}

static void parse_waiting(const char *text, dp_candidate *out)
{
    (void)dp_candidate_parse(out, text, strlen(text)); /* it was well-formed when it was put here */
}

bool dp_ice_names_event(dp_ice *ice, dp_ice_event *event)
{
    if (ice->resolve_next >= ice->unresolved.count)
        return false;
    char **text = dp_queue_at(&ice->unresolved, ice->resolve_next++);
    dp_candidate candidate;
    parse_waiting(*text, &candidate);
    memcpy(ice->hostname, candidate.hostname, sizeof ice->hostname);
    event->type = DP_ICE_EVENT_RESOLVE;
    event->hostname = ice->hostname;
    return true;
}

static void resolve_one(dp_ice *ice, dp_time now, dp_candidate *candidate, const dp_address *addresses,
                        size_t count)
{
    uint16_t port = candidate->address.port;
    candidate->hostname[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        candidate->address = addresses[i];
        candidate->address.port = port;
        if (dp_ice_remote_take(ice, now, candidate) != DP_OK)
            DP_ICE_LOG(ice, DP_LOG_WARN, "out of memory: a remote candidate is lost");
    }
    if (count == 0) {
        ice->stats.candidates_skipped++;
        DP_ICE_LOG(ice, DP_LOG_DEBUG, "remote candidate skipped: its name has no address here");
    }
}

void dp_ice_resolved(dp_ice *ice, dp_time now, const char *hostname, const dp_address *addresses,
                     size_t count)
{
    size_t waiting = ice->unresolved.count;
    size_t asked = 0;
    for (size_t i = 0; i < waiting; i++) { /* each is taken off the front; the others go to the back again */
        char *text = NULL;
        dp_candidate candidate;
        (void)dp_queue_pop(&ice->unresolved, &text);
        parse_waiting(text, &candidate);
        bool was_asked = i < ice->resolve_next;
        if (strcasecmp(candidate.hostname, hostname) != 0) {
            char **slot = dp_queue_push(&ice->unresolved); /* the place that has just become free */
            *slot = text;
            asked += was_asked;
            continue;
        }
        dp_free(text);
        resolve_one(ice, now, &candidate, addresses, count);
    }
    ice->resolve_next = asked;
    dp_ice_pace(ice, now);
}
