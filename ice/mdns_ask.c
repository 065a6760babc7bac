/* One-shot queries (RFC 6762 §5.1) with the repetitions of §5.2, and the addresses that were learnt. */
#include "mdns.h"

#include "base/crypto.h"
#include "base/log.h"
#include "base/mem.h"
#include "candidate.h"

#include <string.h>

#define FLUSH_AFTER  DP_SECONDS(1) /* RFC 6762 §10.1, §10.2: what is void lives on for a second */
#define OTHER_FAMILY DP_MS(50)     /* after the first answer, for the other one */
/* RFC 6762 §5.2: the first interval is at least a second, each is twice the one before. The last one ends the
 * query. Some jitter: many hear of a new name at the same time, and multicast over Wi-Fi is not repeated if
 * questions collide. */
static const dp_duration ROUNDS[] = {DP_SECONDS(1), DP_SECONDS(2), DP_SECONDS(2)};
enum { ROUND_COUNT = sizeof ROUNDS / sizeof ROUNDS[0], JITTER_MS = 64 };

static const uint16_t family_type[DP_MDNS_FAMILIES] = {DP_DNS_A, DP_DNS_AAAA};

static dp_mdns_remote *find_remote(const dp_mdns *mdns, const char *name)
{
    for (size_t i = 0; i < mdns->remote_count; i++) {
        if (dp_dns_name_equal(mdns->remote[i].name, name))
            return &mdns->remote[i];
    }
    return NULL;
}

static void remove_remote(dp_mdns *mdns, dp_mdns_remote *name) { *name = mdns->remote[--mdns->remote_count]; }

static void forget_expired(dp_mdns_remote *name, dp_time now)
{
    for (size_t i = name->count; i-- > 0;) {
        if (name->addresses[i].expires_at <= now)
            name->addresses[i] = name->addresses[--name->count];
    }
}

static void begin_round(dp_mdns *mdns, dp_mdns_remote *name, dp_time now)
{
    uint8_t jitter = 0;
    (void)dp_random_bytes(&mdns->random, &jitter, sizeof jitter); /* without it: no jitter */
    for (size_t f = 0; f < DP_MDNS_FAMILIES; f++)
        name->unsent[f] = name->settled[f] ? 0 : mdns->sockets;
    name->next_at = now + ROUNDS[name->rounds++] + DP_MS(jitter % JITTER_MS);
}

static void end_query(dp_mdns *mdns, dp_mdns_remote *name)
{
    name->state = DP_MDNS_READY;
    memset(name->unsent, 0, sizeof name->unsent);
    DP_LOG(&mdns->log, DP_LOG_DEBUG, "mdns", "%s has %zu addresses", name->name, name->count);
}

/* A place for a new name: the cache gives up what expires first, queries that run it doesn't. */
static int add_remote(dp_mdns *mdns, dp_mdns_remote **out)
{
    size_t asked = 0;
    dp_mdns_remote *oldest = NULL;
    for (size_t i = 0; i < mdns->remote_count; i++) {
        dp_mdns_remote *name = &mdns->remote[i];
        if (name->state != DP_MDNS_CACHED)
            asked++;
        else if (oldest == NULL || name->addresses[0].expires_at < oldest->addresses[0].expires_at)
            oldest = name;
    }
    if (asked >= DP_MDNS_ASKED_MAX)
        return DP_ERR_LIMIT;
    if (mdns->remote_count - asked >= DP_MDNS_CACHED_MAX) {
        *out = oldest;
        return DP_OK;
    }
    void *items = mdns->remote;
    int err = dp_grow(&items, &mdns->remote_capacity, mdns->remote_count + 1,
                      DP_MDNS_ASKED_MAX + DP_MDNS_CACHED_MAX, sizeof *mdns->remote);
    mdns->remote = (dp_mdns_remote *)items;
    if (err == DP_OK)
        *out = &mdns->remote[mdns->remote_count++];
    return err;
}

int dp_mdns_query(dp_mdns *mdns, dp_time now, const char *text)
{
    if (!dp_mdns_name_valid(text))
        return DP_ERR_INVALID_ARGUMENT;
    dp_mdns_remote *name = find_remote(mdns, text);
    if (name != NULL && name->state != DP_MDNS_CACHED)
        return DP_OK;
    if (name != NULL) {
        forget_expired(name, now);
        if (name->count > 0) {
            name->state = DP_MDNS_READY;
            return DP_OK;
        }
        remove_remote(mdns, name);
    }
    int err = add_remote(mdns, &name);
    if (err != DP_OK)
        return err;
    memset(name, 0, sizeof *name);
    memcpy(name->name, text, strlen(text));
    name->state = DP_MDNS_ASKING;
    begin_round(mdns, name, now);
    return DP_OK;
}

/* A record's end of life: DP_MDNS_TTL 0 is a goodbye (RFC 6762 §10.1). A forged one must not stay for days. */
static dp_time expiry(uint32_t ttl, dp_time now)
{
    if (ttl == 0)
        return now + FLUSH_AFTER;
    return now + DP_SECONDS(ttl < DP_MDNS_TTL ? ttl : DP_MDNS_TTL);
}

static void take_address(dp_mdns_remote *name, const dp_dns_record *record, const dp_address *address,
                         dp_time now)
{
    forget_expired(name, now);
    size_t at = name->count;
    for (size_t i = 0; i < name->count; i++) {
        if (dp_address_equal(&name->addresses[i].address, address))
            at = i;
        else if (record->flush && name->addresses[i].address.family == address->family &&
                 name->addresses[i].received_at + FLUSH_AFTER < now &&
                 name->addresses[i].expires_at > now + FLUSH_AFTER)
            name->addresses[i].expires_at = now + FLUSH_AFTER; /* RFC 6762 §10.2 */
    }
    if (at == DP_MDNS_MAX_ADDRESSES || (at == name->count && record->ttl == 0))
        return;
    name->count += at == name->count;
    name->addresses[at].address = *address;
    name->addresses[at].received_at = now;
    name->addresses[at].expires_at = expiry(record->ttl, now);
    if (record->ttl > 0)
        name->settled[record->type == DP_DNS_A ? DP_MDNS_FAMILY_A : DP_MDNS_FAMILY_AAAA] = true;
}

void dp_mdns_ask_take(dp_mdns *mdns, dp_time now, const dp_dns_record *record, const dp_address *local)
{
    dp_mdns_remote *name = find_remote(mdns, record->name);
    if (name == NULL || record->class_ != DP_DNS_IN)
        return;
    if (record->type == DP_DNS_A || record->type == DP_DNS_AAAA) {
        dp_address address = record->address;
        if (!dp_mdns_address_useful(&address))
            return;
        address.scope = dp_address_is_link_local(&address) ? local->scope : 0;
        take_address(name, record, &address, now);
    } else if (record->type == DP_DNS_NSEC && record->ttl > 0) {
        name->settled[DP_MDNS_FAMILY_A] |= !record->has_a;
        name->settled[DP_MDNS_FAMILY_AAAA] |= !record->has_aaaa;
    }
    if (name->state != DP_MDNS_ASKING)
        return;
    if (name->settled[DP_MDNS_FAMILY_A] && name->settled[DP_MDNS_FAMILY_AAAA]) {
        end_query(mdns, name);
    } else if (name->count > 0 && now + OTHER_FAMILY < name->next_at) {
        name->rounds = ROUND_COUNT;
        name->next_at = now + OTHER_FAMILY;
    }
}

bool dp_mdns_ask_write(dp_mdns *mdns, dp_datagram *out)
{
    for (size_t i = 0; i < mdns->remote_count; i++) {
        dp_mdns_remote *name = &mdns->remote[i];
        for (size_t f = 0; f < DP_MDNS_FAMILIES; f++) {
            for (size_t s = 0; s < DP_MDNS_SOCKETS_MAX && name->unsent[f] != 0; s++) {
                if ((name->unsent[f] >> s & 1) == 0)
                    continue;
                name->unsent[f] &= ~(1u << s);
                if (!dp_mdns_in_use(mdns, s))
                    continue;
                /* One question a message, by multicast, the name as it was given: Chromium's responder ignores
                 * messages of two, questions that want a unicast answer, and a name in another case. Several
                 * programs share port 5353, so a unicast answer might not reach us (RFC 6762 §15.1). */
                dp_dns_writer writer;
                dp_dns_start(&writer, out->data, out->capacity, 0, false);
                dp_dns_write_question(&writer, name->name, family_type[f], false);
                out->local = mdns->locals[s];
                dp_mdns_group(&out->remote, &out->local);
                return dp_dns_finish(&writer, &out->length) == DP_OK;
            }
        }
    }
    return false;
}

bool dp_mdns_poll_result(dp_mdns *mdns, dp_mdns_result *out)
{
    for (size_t i = 0; i < mdns->remote_count; i++) {
        dp_mdns_remote *name = &mdns->remote[i];
        if (name->state != DP_MDNS_READY)
            continue;
        memset(out, 0, sizeof *out);
        memcpy(out->name, name->name, sizeof name->name);
        for (size_t k = 0; k < name->count; k++)
            out->addresses[k] = name->addresses[k].address;
        out->count = name->count;
        name->state = DP_MDNS_CACHED; /* without an address: whoever asks again asks the network again */
        return true;
    }
    return false;
}

void dp_mdns_ask_on(dp_mdns *mdns, size_t socket)
{
    for (size_t i = 0; i < mdns->remote_count; i++) {
        dp_mdns_remote *name = &mdns->remote[i];
        for (size_t f = 0; f < DP_MDNS_FAMILIES && name->state == DP_MDNS_ASKING; f++)
            name->unsent[f] |= 1u << socket;
    }
}

void dp_mdns_ask_timeout(dp_mdns *mdns, dp_time now)
{
    for (size_t i = 0; i < mdns->remote_count; i++) {
        dp_mdns_remote *name = &mdns->remote[i];
        if (name->state != DP_MDNS_ASKING || now < name->next_at)
            continue;
        if (name->rounds < ROUND_COUNT)
            begin_round(mdns, name, now);
        else
            end_query(mdns, name);
    }
}

dp_time dp_mdns_ask_next(const dp_mdns *mdns)
{
    dp_time next = DP_TIME_NEVER;
    for (size_t i = 0; i < mdns->remote_count; i++) {
        if (mdns->remote[i].state == DP_MDNS_ASKING && mdns->remote[i].next_at < next)
            next = mdns->remote[i].next_at;
    }
    return next;
}
