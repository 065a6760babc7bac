/* Answers for names of our own (RFC 6762 §6), announcements (§8.3), goodbyes (§10.1). */
#include "mdns.h"

#include "base/mem.h"
#include "candidate.h"

#include <string.h>

/* A multicast message takes no further record from here on. */
#define ANSWERS_SIZE 900
#define TTL_LEGACY   10u                         /* RFC 6762 §6.7 */
#define AGAIN_AFTER  DP_SECONDS(1)               /* RFC 6762 §6: between two multicasts of one record */
#define RECENT       DP_SECONDS(DP_MDNS_TTL / 4) /* RFC 6762 §5.4 */

/* What a question says about a record. */
enum { WANTED = 1, NEGATIVE = 2, KNOWN = 4, UNICAST = 8 };

/* An address of an interface is told on that interface only; where it belongs to none that we know, on all. */
static bool told_on(const dp_mdns *mdns, const dp_mdns_own *record, size_t socket)
{
    size_t own = dp_mdns_find_socket(mdns, &record->address);
    return own == DP_MDNS_SOCKETS_MAX || own == socket;
}

/* RFC 6762 §6: not twice within a second. */
static void schedule(dp_mdns_own *record, dp_time now, size_t socket)
{
    dp_time at = now;
    if ((record->sent >> socket & 1) != 0 && record->sent_at[socket] + AGAIN_AFTER > now)
        at = record->sent_at[socket] + AGAIN_AFTER;
    if (at < record->due[socket])
        record->due[socket] = at;
}

/* Frees withdrawn records that have nothing left to say. */
static void reap(dp_mdns *mdns)
{
    for (size_t i = mdns->own_count; i-- > 0;) {
        bool waits = !mdns->own[i].withdrawn;
        for (size_t s = 0; s < DP_MDNS_SOCKETS_MAX && !waits; s++)
            waits = mdns->own[i].due[s] != DP_TIME_NEVER;
        if (!waits)
            mdns->own[i] = mdns->own[--mdns->own_count];
    }
}

void dp_mdns_answer_on(dp_mdns *mdns, dp_time now, size_t socket)
{
    for (size_t i = 0; i < mdns->own_count; i++) {
        if (!mdns->own[i].withdrawn && told_on(mdns, &mdns->own[i], socket))
            schedule(&mdns->own[i], now, socket);
    }
}

void dp_mdns_answer_off(dp_mdns *mdns, size_t socket)
{
    for (size_t i = 0; i < mdns->own_count; i++) {
        mdns->own[i].sent &= ~(1u << socket);
        mdns->own[i].due[socket] = DP_TIME_NEVER;
    }
    reap(mdns);
}

int dp_mdns_publish(dp_mdns *mdns, dp_time now, const char *name, const dp_address *address)
{
    if (!dp_mdns_name_valid(name) || !dp_mdns_address_useful(address))
        return DP_ERR_INVALID_ARGUMENT;
    dp_mdns_own *record = NULL;
    dp_mdns_own *leaving = NULL;
    for (size_t i = 0; i < mdns->own_count; i++) {
        dp_mdns_own *r = &mdns->own[i];
        if (dp_dns_name_equal(r->name, name) && dp_address_same_ip(&r->address, address))
            record = r;
        else if (r->withdrawn)
            leaving = r;
    }
    if (record != NULL && !record->withdrawn)
        return DP_OK;
    if (record == NULL && mdns->own_count == DP_MDNS_OWN_MAX)
        record = leaving;
    if (record == NULL) {
        void *items = mdns->own;
        int err =
            dp_grow(&items, &mdns->own_capacity, mdns->own_count + 1, DP_MDNS_OWN_MAX, sizeof *mdns->own);
        mdns->own = (dp_mdns_own *)items;
        if (err != DP_OK)
            return err;
        record = &mdns->own[mdns->own_count++];
    }
    memset(record, 0, sizeof *record);
    memcpy(record->name, name, strlen(name));
    record->address = *address;
    /* RFC 6762 §8 wants probes first, to find out whether the name is taken. These names are random; their
     * owners announce them at once. */
    for (size_t s = 0; s < DP_MDNS_SOCKETS_MAX; s++) {
        record->due[s] = DP_TIME_NEVER;
        if (dp_mdns_in_use(mdns, s) && told_on(mdns, record, s))
            record->due[s] = now;
    }
    return DP_OK;
}

int dp_mdns_withdraw(dp_mdns *mdns, dp_time now, const char *name)
{
    bool found = false;
    for (size_t i = 0; i < mdns->own_count; i++) {
        dp_mdns_own *record = &mdns->own[i];
        if (record->withdrawn || !dp_dns_name_equal(record->name, name))
            continue;
        found = true;
        record->withdrawn = true;
        for (size_t s = 0; s < DP_MDNS_SOCKETS_MAX; s++)
            record->due[s] = (record->sent >> s & 1) != 0 ? now : DP_TIME_NEVER;
    }
    reap(mdns);
    return found ? DP_OK : DP_ERR_NOT_FOUND;
}

static bool has_type(const dp_mdns_own *record, uint16_t type)
{
    return type == DP_DNS_ANY || type == (record->address.family == DP_FAMILY_IPV4 ? DP_DNS_A : DP_DNS_AAAA);
}

/* Whether a name of ours has an address of this type, on whatever socket: a querier that hears us on two
 * sockets must not be told that there is none. */
static bool name_has_type(const dp_mdns *mdns, const char *name, uint16_t type)
{
    for (size_t i = 0; i < mdns->own_count; i++) {
        const dp_mdns_own *record = &mdns->own[i];
        if (!record->withdrawn && has_type(record, type) && dp_dns_name_equal(record->name, name))
            return true;
    }
    return false;
}

/* Writes the records of the set, of which bit i is own[i]. */
static void write_records(const dp_mdns *mdns, dp_dns_writer *writer, uint64_t set, bool legacy)
{
    for (size_t i = 0; i < mdns->own_count; i++) {
        const dp_mdns_own *record = &mdns->own[i];
        if ((set >> i & 1) != 0)
            dp_dns_write_address(writer, record->name, &record->address,
                                 record->withdrawn ? 0
                                 : legacy          ? TTL_LEGACY
                                                   : DP_MDNS_TTL,
                                 !legacy);
    }
    /* RFC 6762 §6.1: who asked for both families must not wait for the one that isn't there (Chromium: 3 s).
     * Old resolvers don't know such records in this place. */
    for (size_t i = 0; i < mdns->own_count && !legacy; i++) {
        const dp_mdns_own *record = &mdns->own[i];
        bool a = name_has_type(mdns, record->name, DP_DNS_A);
        bool aaaa = name_has_type(mdns, record->name, DP_DNS_AAAA);
        if ((set >> i & 1) != 0 && a != aaaa)
            dp_dns_write_nsec(writer, record->name, a, aaaa, DP_MDNS_TTL);
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
        dp_mdns_own *record = &mdns->own[i];
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
    if (!known->answer || known->class_ != DP_DNS_IN || known->ttl < DP_MDNS_TTL / 2)
        return;
    for (size_t i = 0; i < mdns->own_count; i++) {
        dp_mdns_own *record = &mdns->own[i];
        if (dp_address_same_ip(&record->address, &known->address) &&
            dp_dns_name_equal(record->name, known->name))
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
    if (mdns->replies_since == DP_MDNS_REPLIES_MAX)
        return;
    dp_mdns_reply *r = dp_queue_push(&mdns->replies);
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

void dp_mdns_answer_take(dp_mdns *mdns, dp_time now, size_t socket, dp_dns_message *message,
                         const dp_address *remote)
{
    dp_dns_question question;
    dp_dns_question first; /* that is ours */
    dp_dns_record known;
    bool legacy = remote->port != DP_MDNS_PORT;
    bool ours = false;
    uint64_t set = 0;
    for (size_t i = 0; i < mdns->own_count; i++)
        mdns->own[i].asked = 0;
    while (dp_dns_next_question(message, &question)) {
        if (note_question(mdns, &question, socket) && !ours) {
            first = question;
            ours = true;
        }
    }
    while (ours && dp_dns_next_record(message, &known))
        note_known_answer(mdns, &known);
    if (!ours || message->rd.error)
        return;
    for (size_t i = 0; i < mdns->own_count; i++) {
        dp_mdns_own *record = &mdns->own[i];
        if (legacy)
            set |= (uint64_t)((record->asked & WANTED) != 0) << i;
        if (legacy || ((record->asked & NEGATIVE) == 0 && (record->asked & (WANTED | KNOWN)) != WANTED))
            continue;
        /* RFC 6762 §5.4: even who wants unicast is answered by multicast if all others' caches are old. */
        bool recent = (record->sent >> socket & 1) != 0 && now - record->sent_at[socket] < RECENT;
        if ((record->asked & UNICAST) != 0 && recent)
            set |= (uint64_t)1 << i;
        else
            schedule(record, now, socket);
    }
    if (set != 0 || legacy) /* empty: there is no such record */
        send_reply(mdns, now, socket, message->id, &first, set, remote);
}

bool dp_mdns_answer_write_reply(dp_mdns *mdns, dp_datagram *out)
{
    for (const dp_mdns_reply *r; (r = dp_queue_peek(&mdns->replies)) != NULL;
         dp_queue_pop(&mdns->replies, NULL)) {
        if (r->len == 0 || r->len > out->capacity ||
            dp_mdns_find_socket(mdns, &r->local) == DP_MDNS_SOCKETS_MAX)
            continue;
        memcpy(out->data, r->data, r->len);
        out->length = r->len;
        out->local = r->local;
        out->remote = r->remote;
        dp_queue_pop(&mdns->replies, NULL);
        return true;
    }
    return false;
}

/* As many records as are due on one socket and fit. */
bool dp_mdns_answer_write(dp_mdns *mdns, dp_time now, dp_datagram *out)
{
    for (size_t s = 0; s < DP_MDNS_SOCKETS_MAX; s++) {
        uint64_t set = 0;
        size_t size = 0;
        for (size_t i = 0; i < mdns->own_count; i++) {
            dp_mdns_own *record = &mdns->own[i];
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
        bool written = dp_dns_finish(&writer, &out->length) == DP_OK;
        reap(mdns);
        out->local = mdns->locals[s];
        dp_mdns_group(&out->remote, &out->local);
        return written;
    }
    return false;
}

dp_time dp_mdns_answer_next(const dp_mdns *mdns)
{
    dp_time next = DP_TIME_NEVER;
    for (size_t i = 0; i < mdns->own_count; i++) {
        for (size_t s = 0; s < DP_MDNS_SOCKETS_MAX; s++) {
            if (mdns->own[i].due[s] < next)
                next = mdns->own[i].due[s];
        }
    }
    return next;
}
