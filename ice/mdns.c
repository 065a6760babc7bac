#include <datapeer/mdns.h>

#include "base/crypto.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/queue.h"
#include "candidate.h"
#include "dns.h"

#include <string.h>

enum {
    SOCKETS_MAX = 32, /* bits of a uint32_t */
    ASKED_MAX = 32,   /* queries in flight */
    CACHED_MAX = 64,
    OWN_MAX = 64,
    REPLIES_MAX = 16,  /* unicast answers: a second, and waiting */
    REPLY_SIZE = 512,  /* RFC 1035 §4.2.1: what each legacy resolver takes */
    ANSWERS_SIZE = 900 /* a multicast message takes no further record from here on */
};

static const uint32_t TTL = 120;         /* seconds; RFC 6762 §10: of records with a host name */
static const uint32_t TTL_LEGACY = 10;   /* RFC 6762 §6.7 */
#define AGAIN_AFTER  DP_SECONDS(1)       /* RFC 6762 §6: between two multicasts of one record */
#define FLUSH_AFTER  DP_SECONDS(1)       /* RFC 6762 §10.1, §10.2: what is void lives on for a second */
#define RECENT       DP_SECONDS(120 / 4) /* RFC 6762 §5.4: a quarter of the TTL */
#define OTHER_FAMILY DP_MS(50)           /* after the first answer, for the other one */
/* RFC 6762 §5.2: the first interval is at least a second, each is twice the one before. The last one ends the
 * query. Some jitter: many hear of a new name at the same time, and multicast over Wi-Fi is not repeated if
 * questions collide. */
static const dp_duration ROUNDS[] = {DP_SECONDS(1), DP_SECONDS(2), DP_SECONDS(2)};
enum { ROUND_COUNT = sizeof ROUNDS / sizeof ROUNDS[0], JITTER_MS = 64 };

enum { FAMILY_A, FAMILY_AAAA, FAMILIES };
static const uint16_t family_type[FAMILIES] = {DP_DNS_A, DP_DNS_AAAA};

/* A name that is asked for, or whose addresses are remembered. */
typedef struct remote_name {
    char name[DP_DNS_NAME_MAX + 1];
    enum { ASKING, READY, CACHED } state; /* READY: poll_result has to tell */
    unsigned rounds;                      /* that were begun */
    uint32_t unsent[FAMILIES];            /* the sockets that this round's question still has to leave on */
    bool settled[FAMILIES];               /* answered, or denied */
    dp_time next_at;                      /* ASKING: of the next round, or the end */
    size_t count;
    struct {
        dp_address address;
        dp_time received_at;
        dp_time expires_at;
    } addresses[DP_MDNS_MAX_ADDRESSES];
} remote_name;

/* What this question says about a record of ours. */
enum { WANTED = 1, NEGATIVE = 2, KNOWN = 4, UNICAST = 8 };

/* A record that we publish. Once withdrawn it says goodbye where it was heard, then it goes. */
typedef struct own_record {
    char name[DP_DNS_NAME_MAX + 1];
    dp_address address;
    bool withdrawn;
    unsigned asked;               /* during dp_mdns_input */
    uint32_t sent;                /* the sockets it was multicast on... */
    dp_time sent_at[SOCKETS_MAX]; /* ...and when */
    dp_time due[SOCKETS_MAX];     /* of its next multicast, or NEVER */
} own_record;

typedef struct reply {
    dp_address local;
    dp_address remote;
    size_t len;
    uint8_t data[REPLY_SIZE];
} reply;

struct dp_mdns {
    dp_random random;
    dp_log log;
    uint32_t sockets; /* which of the addresses are in use */
    dp_address locals[SOCKETS_MAX];
    remote_name *remote;
    size_t remote_count;
    size_t remote_capacity;
    own_record *own;
    size_t own_count;
    size_t own_capacity;
    dp_queue replies; /* of reply */
    dp_time replies_from;
    size_t replies_since;
};

int dp_mdns_new(dp_mdns **out, const dp_mdns_config *config)
{
    if (config->size != sizeof *config || config->random.fn == NULL)
        return DP_ERR_INVALID_ARGUMENT;
    dp_mdns *mdns = dp_calloc(1, sizeof *mdns);
    if (mdns == NULL)
        return DP_ERR_NO_MEMORY;
    mdns->random = config->random;
    mdns->log = config->log;
    dp_queue_init(&mdns->replies, sizeof(reply), REPLIES_MAX);
    *out = mdns;
    return DP_OK;
}

void dp_mdns_free(dp_mdns *mdns)
{
    if (mdns == NULL)
        return;
    dp_free(mdns->remote);
    dp_free(mdns->own);
    dp_queue_clear(&mdns->replies);
    dp_free(mdns);
}

/* ---- sockets ---- */

static bool same_ip(const dp_address *a, const dp_address *b)
{
    dp_address c = *a;
    c.port = b->port;
    return dp_address_equal(&c, b);
}

static bool in_use(const dp_mdns *mdns, size_t socket) { return (mdns->sockets >> socket & 1) != 0; }

/* SOCKETS_MAX: there is none. */
static size_t find_socket(const dp_mdns *mdns, const dp_address *local)
{
    size_t i = 0;
    while (i < SOCKETS_MAX && !(in_use(mdns, i) && same_ip(&mdns->locals[i], local)))
        i++;
    return i;
}

static void group_address(dp_address *out, const dp_address *local)
{
    static const dp_address group4 = {.family = DP_FAMILY_IPV4, .port = DP_MDNS_PORT, .ip = {224, 0, 0, 251}};
    static const dp_address group6 = {
        .family = DP_FAMILY_IPV6, .port = DP_MDNS_PORT, .ip = {0xFF, 0x02, [15] = 0xFB}};
    *out = local->family == DP_FAMILY_IPV4 ? group4 : group6;
    out->scope = local->scope;
}

/* An address of an interface is told on that interface only; where it belongs to none that we know, on all. */
static bool told_on(const dp_mdns *mdns, const own_record *record, size_t socket)
{
    size_t own = find_socket(mdns, &record->address);
    return own == SOCKETS_MAX || own == socket;
}

/* RFC 6762 §6: not twice within a second. */
static void schedule(own_record *record, dp_time now, size_t socket)
{
    dp_time at = now;
    if ((record->sent >> socket & 1) != 0 && record->sent_at[socket] + AGAIN_AFTER > now)
        at = record->sent_at[socket] + AGAIN_AFTER;
    if (at < record->due[socket])
        record->due[socket] = at;
}

int dp_mdns_add_socket(dp_mdns *mdns, dp_time now, const dp_address *local)
{
    if (local->family != DP_FAMILY_IPV4 && local->family != DP_FAMILY_IPV6)
        return DP_ERR_INVALID_ARGUMENT;
    if (find_socket(mdns, local) < SOCKETS_MAX)
        return DP_OK;
    size_t socket = 0;
    while (socket < SOCKETS_MAX && in_use(mdns, socket))
        socket++;
    if (socket == SOCKETS_MAX)
        return DP_ERR_LIMIT;
    mdns->locals[socket] = *local;
    mdns->sockets |= 1u << socket;
    for (size_t i = 0; i < mdns->remote_count; i++) {
        remote_name *name = &mdns->remote[i];
        for (size_t f = 0; f < FAMILIES && name->state == ASKING; f++)
            name->unsent[f] |= 1u << socket;
    }
    for (size_t i = 0; i < mdns->own_count; i++) {
        if (!mdns->own[i].withdrawn && told_on(mdns, &mdns->own[i], socket))
            schedule(&mdns->own[i], now, socket);
    }
    return DP_OK;
}

/* Frees withdrawn records that have nothing left to say. */
static void reap(dp_mdns *mdns)
{
    for (size_t i = mdns->own_count; i-- > 0;) {
        bool waits = !mdns->own[i].withdrawn;
        for (size_t s = 0; s < SOCKETS_MAX && !waits; s++)
            waits = mdns->own[i].due[s] != DP_TIME_NEVER;
        if (!waits)
            mdns->own[i] = mdns->own[--mdns->own_count];
    }
}

void dp_mdns_remove_socket(dp_mdns *mdns, const dp_address *local)
{
    size_t socket = find_socket(mdns, local);
    if (socket == SOCKETS_MAX)
        return;
    mdns->sockets &= ~(1u << socket);
    for (size_t i = 0; i < mdns->own_count; i++) {
        mdns->own[i].sent &= ~(1u << socket);
        mdns->own[i].due[socket] = DP_TIME_NEVER;
    }
    reap(mdns);
}

/* ---- names ---- */

/* Host names (RFC 1123 §2.1, and the underscore that some devices use) under .local. */
static bool name_is_local(const char *name)
{
    static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    static const char suffix[] = ".local";
    size_t len = strlen(name);
    return len >= sizeof suffix && strspn(name, chars) == len && dp_dns_name_valid(name) &&
           dp_dns_name_equal(name + len - (sizeof suffix - 1), suffix);
}

/* Something that can be connected to: nobody else's multicast, nobody's own loopback. */
static bool address_is_useful(const dp_address *address)
{
    dp_address a = *address;
    a.port = DP_MDNS_PORT; /* records have none */
    return dp_address_is_unicast(&a) && !dp_address_is_loopback(&a);
}

/* ---- asking ---- */

static remote_name *find_remote(const dp_mdns *mdns, const char *name)
{
    for (size_t i = 0; i < mdns->remote_count; i++) {
        if (dp_dns_name_equal(mdns->remote[i].name, name))
            return &mdns->remote[i];
    }
    return NULL;
}

static void remove_remote(dp_mdns *mdns, remote_name *name) { *name = mdns->remote[--mdns->remote_count]; }

static void forget_expired(remote_name *name, dp_time now)
{
    for (size_t i = name->count; i-- > 0;) {
        if (name->addresses[i].expires_at <= now)
            name->addresses[i] = name->addresses[--name->count];
    }
}

static void begin_round(dp_mdns *mdns, remote_name *name, dp_time now)
{
    uint8_t jitter = 0;
    (void)dp_random_bytes(&mdns->random, &jitter, sizeof jitter); /* without it: no jitter */
    for (size_t f = 0; f < FAMILIES; f++)
        name->unsent[f] = name->settled[f] ? 0 : mdns->sockets;
    name->next_at = now + ROUNDS[name->rounds++] + DP_MS(jitter % JITTER_MS);
}

static void end_query(dp_mdns *mdns, remote_name *name)
{
    name->state = READY;
    memset(name->unsent, 0, sizeof name->unsent);
    DP_LOG(&mdns->log, DP_LOG_DEBUG, "mdns", "%s has %zu addresses", name->name, name->count);
}

/* A place for a new name: the cache gives up what expires first, queries that run it doesn't. */
static int add_remote(dp_mdns *mdns, remote_name **out)
{
    size_t asked = 0;
    remote_name *oldest = NULL;
    for (size_t i = 0; i < mdns->remote_count; i++) {
        remote_name *name = &mdns->remote[i];
        if (name->state != CACHED)
            asked++;
        else if (oldest == NULL || name->addresses[0].expires_at < oldest->addresses[0].expires_at)
            oldest = name;
    }
    if (asked >= ASKED_MAX)
        return DP_ERR_LIMIT;
    if (mdns->remote_count - asked >= CACHED_MAX) {
        *out = oldest;
        return DP_OK;
    }
    void *items = mdns->remote;
    int err = dp_grow(&items, &mdns->remote_capacity, mdns->remote_count + 1, ASKED_MAX + CACHED_MAX,
                      sizeof *mdns->remote);
    mdns->remote = (remote_name *)items;
    if (err == DP_OK)
        *out = &mdns->remote[mdns->remote_count++];
    return err;
}

int dp_mdns_query(dp_mdns *mdns, dp_time now, const char *text)
{
    if (!name_is_local(text))
        return DP_ERR_INVALID_ARGUMENT;
    remote_name *name = find_remote(mdns, text);
    if (name != NULL && name->state != CACHED)
        return DP_OK;
    if (name != NULL) {
        forget_expired(name, now);
        if (name->count > 0) {
            name->state = READY;
            return DP_OK;
        }
        remove_remote(mdns, name);
    }
    int err = add_remote(mdns, &name);
    if (err != DP_OK)
        return err;
    memset(name, 0, sizeof *name);
    memcpy(name->name, text, strlen(text));
    name->state = ASKING;
    begin_round(mdns, name, now);
    return DP_OK;
}

/* A record's end of life: TTL 0 is a goodbye (RFC 6762 §10.1). A forged one must not stay for days. */
static dp_time expiry(uint32_t ttl, dp_time now)
{
    if (ttl == 0)
        return now + FLUSH_AFTER;
    return now + DP_SECONDS(ttl < TTL ? ttl : TTL);
}

static void take_address(remote_name *name, const dp_dns_record *record, const dp_address *address,
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
        name->settled[record->type == DP_DNS_A ? FAMILY_A : FAMILY_AAAA] = true;
}

static void take_record(dp_mdns *mdns, dp_time now, const dp_dns_record *record, const dp_address *local)
{
    remote_name *name = find_remote(mdns, record->name);
    if (name == NULL || record->class_ != DP_DNS_IN)
        return;
    if (record->type == DP_DNS_A || record->type == DP_DNS_AAAA) {
        dp_address address = record->address;
        if (!address_is_useful(&address))
            return;
        address.scope = dp_address_is_link_local(&address) ? local->scope : 0;
        take_address(name, record, &address, now);
    } else if (record->type == DP_DNS_NSEC && record->ttl > 0) {
        name->settled[FAMILY_A] |= !record->has_a;
        name->settled[FAMILY_AAAA] |= !record->has_aaaa;
    }
    if (name->state != ASKING)
        return;
    if (name->settled[FAMILY_A] && name->settled[FAMILY_AAAA]) {
        end_query(mdns, name);
    } else if (name->count > 0 && now + OTHER_FAMILY < name->next_at) {
        name->rounds = ROUND_COUNT;
        name->next_at = now + OTHER_FAMILY;
    }
}

static bool write_query(dp_mdns *mdns, dp_datagram *out, size_t *len)
{
    for (size_t i = 0; i < mdns->remote_count; i++) {
        remote_name *name = &mdns->remote[i];
        for (size_t f = 0; f < FAMILIES; f++) {
            for (size_t s = 0; s < SOCKETS_MAX && name->unsent[f] != 0; s++) {
                if ((name->unsent[f] >> s & 1) == 0)
                    continue;
                name->unsent[f] &= ~(1u << s);
                if (!in_use(mdns, s))
                    continue;
                /* One question a message, by multicast, the name as it was given: Chromium's responder ignores
                 * messages of two, questions that want a unicast answer, and a name in another case. Several
                 * programs share port 5353, so a unicast answer might not reach us (RFC 6762 §15.1). */
                dp_dns_writer writer;
                dp_dns_start(&writer, out->data, out->capacity, 0, false);
                dp_dns_write_question(&writer, name->name, family_type[f], false);
                out->local = mdns->locals[s];
                group_address(&out->remote, &out->local);
                return dp_dns_finish(&writer, len) == DP_OK;
            }
        }
    }
    return false;
}

bool dp_mdns_poll_result(dp_mdns *mdns, dp_mdns_result *out)
{
    for (size_t i = 0; i < mdns->remote_count; i++) {
        remote_name *name = &mdns->remote[i];
        if (name->state != READY)
            continue;
        memset(out, 0, sizeof *out);
        memcpy(out->name, name->name, sizeof name->name);
        for (size_t k = 0; k < name->count; k++)
            out->addresses[k] = name->addresses[k].address;
        out->count = name->count;
        name->state = CACHED;
        if (name->count == 0)
            remove_remote(mdns, name); /* whoever asks again asks the network again */
        return true;
    }
    return false;
}

/* ---- answering ---- */

int dp_mdns_publish(dp_mdns *mdns, dp_time now, const char *name, const dp_address *address)
{
    if (!name_is_local(name) || !address_is_useful(address))
        return DP_ERR_INVALID_ARGUMENT;
    own_record *record = NULL;
    own_record *leaving = NULL;
    for (size_t i = 0; i < mdns->own_count; i++) {
        own_record *r = &mdns->own[i];
        if (dp_dns_name_equal(r->name, name) && same_ip(&r->address, address))
            record = r;
        else if (r->withdrawn)
            leaving = r;
    }
    if (record != NULL && !record->withdrawn)
        return DP_OK;
    if (record == NULL && mdns->own_count == OWN_MAX)
        record = leaving;
    if (record == NULL) {
        void *items = mdns->own;
        int err = dp_grow(&items, &mdns->own_capacity, mdns->own_count + 1, OWN_MAX, sizeof *mdns->own);
        mdns->own = (own_record *)items;
        if (err != DP_OK)
            return err;
        record = &mdns->own[mdns->own_count++];
    }
    memset(record, 0, sizeof *record);
    memcpy(record->name, name, strlen(name));
    record->address = *address;
    /* RFC 6762 §8 wants probes first, to find out whether the name is taken. These names are random; their
     * owners announce them at once. */
    for (size_t s = 0; s < SOCKETS_MAX; s++) {
        record->due[s] = DP_TIME_NEVER;
        if (in_use(mdns, s) && told_on(mdns, record, s))
            record->due[s] = now;
    }
    return DP_OK;
}

int dp_mdns_withdraw(dp_mdns *mdns, dp_time now, const char *name)
{
    bool found = false;
    for (size_t i = 0; i < mdns->own_count; i++) {
        own_record *record = &mdns->own[i];
        if (record->withdrawn || !dp_dns_name_equal(record->name, name))
            continue;
        found = true;
        record->withdrawn = true;
        for (size_t s = 0; s < SOCKETS_MAX; s++)
            record->due[s] = (record->sent >> s & 1) != 0 ? now : DP_TIME_NEVER;
    }
    reap(mdns);
    return found ? DP_OK : DP_ERR_NOT_FOUND;
}

static bool has_type(const own_record *record, uint16_t type)
{
    return type == DP_DNS_ANY || type == (record->address.family == DP_FAMILY_IPV4 ? DP_DNS_A : DP_DNS_AAAA);
}

/* Whether a name of ours has an address of this type, on whatever socket: a querier that hears us on two
 * sockets must not be told that there is none. */
static bool name_has_type(const dp_mdns *mdns, const char *name, uint16_t type)
{
    for (size_t i = 0; i < mdns->own_count; i++) {
        const own_record *record = &mdns->own[i];
        if (!record->withdrawn && has_type(record, type) && dp_dns_name_equal(record->name, name))
            return true;
    }
    return false;
}

/* Writes the records of the set, of which bit i is own[i]. */
static void write_records(const dp_mdns *mdns, dp_dns_writer *writer, uint64_t set, bool legacy)
{
    for (size_t i = 0; i < mdns->own_count; i++) {
        const own_record *record = &mdns->own[i];
        if ((set >> i & 1) != 0)
            dp_dns_write_address(writer, record->name, &record->address,
                                 record->withdrawn ? 0
                                 : legacy          ? TTL_LEGACY
                                                   : TTL,
                                 !legacy);
    }
    /* RFC 6762 §6.1: who asked for both families must not wait for the one that isn't there (Chromium: 3 s).
     * Old resolvers don't know such records in this place. */
    for (size_t i = 0; i < mdns->own_count && !legacy; i++) {
        const own_record *record = &mdns->own[i];
        bool a = name_has_type(mdns, record->name, DP_DNS_A);
        bool aaaa = name_has_type(mdns, record->name, DP_DNS_AAAA);
        if ((set >> i & 1) != 0 && a != aaaa)
            dp_dns_write_nsec(writer, record->name, a, aaaa, TTL);
    }
}

/* Notes what a question asks of our records; true if it is about a name of ours. */
static bool note_question(dp_mdns *mdns, const dp_dns_question *question, size_t socket)
{
    bool ours = false;
    if (question->class_ != DP_DNS_IN && question->class_ != DP_DNS_ANY)
        return false;
    if (question->type != DP_DNS_A && question->type != DP_DNS_AAAA && question->type != DP_DNS_ANY)
        return false;
    for (size_t i = 0; i < mdns->own_count; i++) {
        own_record *record = &mdns->own[i];
        if (record->withdrawn || !dp_dns_name_equal(record->name, question->name) ||
            !told_on(mdns, record, socket))
            continue;
        ours = true;
        if (has_type(record, question->type))
            record->asked |= WANTED;
        else if (!name_has_type(mdns, record->name, question->type))
            record->asked |= NEGATIVE;
        if (question->unicast)
            record->asked |= UNICAST;
    }
    return ours;
}

/* RFC 6762 §7.1: what the querier knows, for at least half of its life, it isn't told. */
static void note_known_answer(dp_mdns *mdns, const dp_dns_record *known)
{
    if (!known->answer || known->class_ != DP_DNS_IN || known->ttl < TTL / 2)
        return;
    for (size_t i = 0; i < mdns->own_count; i++) {
        own_record *record = &mdns->own[i];
        if (same_ip(&record->address, &known->address) && dp_dns_name_equal(record->name, known->name))
            record->asked |= KNOWN;
    }
}

/* Unicast answers are limited: the source may be forged, and then each is a packet that somebody didn't want. */
static void send_reply(dp_mdns *mdns, dp_time now, size_t socket, uint16_t id,
                       const dp_dns_question *question, uint64_t set, const dp_address *remote)
{
    bool legacy = remote->port != DP_MDNS_PORT;
    if (now - mdns->replies_from >= DP_SECONDS(1)) {
        mdns->replies_from = now;
        mdns->replies_since = 0;
    }
    if (mdns->replies_since == REPLIES_MAX)
        return;
    reply *r = dp_queue_push(&mdns->replies);
    if (r == NULL)
        return;
    mdns->replies_since++;
    r->local = mdns->locals[socket];
    r->remote = *remote;
    dp_dns_writer writer;
    dp_dns_start(&writer, r->data, sizeof r->data, legacy ? id : 0, true);
    if (legacy) /* RFC 6762 §6.7: a plain resolver's answer repeats id and question */
        dp_dns_write_question(&writer, question->name, question->type, false);
    write_records(mdns, &writer, set, legacy);
    if (dp_dns_finish(&writer, &r->len) != DP_OK)
        r->len = 0; /* poll_transmit drops it */
}

static void take_query(dp_mdns *mdns, dp_time now, size_t socket, dp_dns_message message,
                       const dp_address *remote)
{
    dp_dns_question question;
    dp_dns_question first; /* that is ours */
    dp_dns_record known;
    bool ours = false;
    uint64_t set = 0;
    for (size_t i = 0; i < mdns->own_count; i++)
        mdns->own[i].asked = 0;
    while (dp_dns_next_question(&message, &question)) {
        if (note_question(mdns, &question, socket) && !ours) {
            first = question;
            ours = true;
        }
    }
    while (ours && dp_dns_next_record(&message, &known))
        note_known_answer(mdns, &known);
    if (!ours || message.rd.error)
        return;
    for (size_t i = 0; i < mdns->own_count; i++) {
        own_record *record = &mdns->own[i];
        if ((record->asked & NEGATIVE) == 0 && (record->asked & (WANTED | KNOWN)) != WANTED)
            continue;
        /* RFC 6762 §5.4: even who wants unicast is answered by multicast if all others' caches are old. */
        bool recent = (record->sent >> socket & 1) != 0 && now - record->sent_at[socket] < RECENT;
        if (remote->port != DP_MDNS_PORT || ((record->asked & UNICAST) != 0 && recent))
            set |= (uint64_t)1 << i;
        else
            schedule(record, now, socket);
    }
    if (set != 0)
        send_reply(mdns, now, socket, message.id, &first, set, remote);
}

static bool write_reply(dp_mdns *mdns, dp_datagram *out, size_t *len)
{
    for (const reply *r; (r = dp_queue_peek(&mdns->replies)) != NULL; dp_queue_pop(&mdns->replies, NULL)) {
        if (r->len == 0 || r->len > out->capacity || find_socket(mdns, &r->local) == SOCKETS_MAX)
            continue;
        memcpy(out->data, r->data, r->len);
        *len = r->len;
        out->local = r->local;
        out->remote = r->remote;
        dp_queue_pop(&mdns->replies, NULL);
        return true;
    }
    return false;
}

/* As many records as are due on one socket and fit. */
static bool write_answers(dp_mdns *mdns, dp_time now, dp_datagram *out, size_t *len)
{
    for (size_t s = 0; s < SOCKETS_MAX; s++) {
        uint64_t set = 0;
        size_t size = 0;
        for (size_t i = 0; i < mdns->own_count; i++) {
            own_record *record = &mdns->own[i];
            if (record->due[s] > now || size > ANSWERS_SIZE)
                continue;
            set |= (uint64_t)1 << i;
            record->due[s] = DP_TIME_NEVER;
            record->sent |= 1u << s;
            record->sent_at[s] = now;
            size += 2 * strlen(record->name) + 64; /* the address and its NSEC */
        }
        if (set == 0)
            continue;
        dp_dns_writer writer;
        dp_dns_start(&writer, out->data, out->capacity, 0, true);
        write_records(mdns, &writer, set, false);
        reap(mdns);
        out->local = mdns->locals[s];
        group_address(&out->remote, &out->local);
        return dp_dns_finish(&writer, len) == DP_OK;
    }
    return false;
}

/* ---- the five verbs ---- */

void dp_mdns_input(dp_mdns *mdns, dp_time now, const uint8_t *data, size_t len, const dp_address *local,
                   const dp_address *remote)
{
    size_t socket = find_socket(mdns, local);
    dp_dns_message message;
    if (socket == SOCKETS_MAX || remote->family != local->family || !dp_address_is_unicast(remote) ||
        dp_dns_read_header(&message, data, len) != DP_OK)
        return;
    if (!message.response) {
        take_query(mdns, now, socket, message, remote);
        return;
    }
    /* RFC 6762 §6: from no other port. §11: and from this link, which the group's scope ensures. */
    if (remote->port != DP_MDNS_PORT)
        return;
    dp_dns_record record;
    while (dp_dns_next_record(&message, &record))
        take_record(mdns, now, &record, &mdns->locals[socket]);
}

void dp_mdns_handle_timeout(dp_mdns *mdns, dp_time now)
{
    for (size_t i = 0; i < mdns->remote_count; i++) {
        remote_name *name = &mdns->remote[i];
        if (name->state != ASKING || now < name->next_at)
            continue;
        if (name->rounds < ROUND_COUNT)
            begin_round(mdns, name, now);
        else
            end_query(mdns, name);
    }
}

dp_time dp_mdns_next_timeout(const dp_mdns *mdns)
{
    dp_time next = DP_TIME_NEVER;
    for (size_t i = 0; i < mdns->remote_count; i++) {
        if (mdns->remote[i].state == ASKING && mdns->remote[i].next_at < next)
            next = mdns->remote[i].next_at;
    }
    for (size_t i = 0; i < mdns->own_count; i++) {
        for (size_t s = 0; s < SOCKETS_MAX; s++) {
            if (mdns->own[i].due[s] < next)
                next = mdns->own[i].due[s];
        }
    }
    return next;
}

bool dp_mdns_poll_transmit(dp_mdns *mdns, dp_time now, dp_datagram *out)
{
    out->link = 0;
    return write_reply(mdns, out, &out->length) || write_query(mdns, out, &out->length) ||
           write_answers(mdns, now, out, &out->length);
}
